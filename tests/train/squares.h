/* squares.h - what tests of whole runs share: a cohort of noise, in which a bright square is the disease, in a folder of its own; experiments on it, and their
 * checkpoints. */
#ifndef CX_TESTS_SQUARES_H
#define CX_TESTS_SQUARES_H
#include <unistd.h>
#include "cxnet/train.h"
#include "support.h"

static char root[256], manifest[300];

/* Films of noise; label 1 has a bright square. */
static void write_film(const char *path, int side, int film, int label)
{
    uint16_t *px = cx_alloc((size_t)(side * side), sizeof *px);
    cx_rng r = cx_rng_new(7, (uint64_t)film);
    cx_buf b = { 0 };
    assert_non_null(px);
    for (int i = 0; i < side * side; i++) {
        const int y = i / side, x = i % side;
        px[i] = (uint16_t)(60 + (int)cx_rng_below(&r, 60) + (label && y > 20 && y < 45 && x > 30 && x < 60 ? 70 : 0));
    }
    assert_cx_ok(cx_png_grey(px, side, side, 255, &b, err));
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_buf_free(&b);
    free(px);
}

/* Makes `root`, which names `what`, with its films and its manifest: path and `columns`. row: the film's label, and its columns as text. */
static void make_squares(const char *what, int films, int side, const char *columns, int (*row)(int film, char text[100]))
{
    cx_buf csv = { 0 };
    snprintf(root, sizeof root, "%s/cxnet-%s-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", what);
    assert_non_null(mkdtemp(root));
    snprintf(manifest, sizeof manifest, "%s/manifest.csv", root);
    cx_buf_printf(&csv, "path,%s\n", columns);
    for (int i = 0; i < films; i++) {
        char path[320], text[100];
        const int label = row(i, text);
        snprintf(path, sizeof path, "%s/f%02d.png", root, i);
        write_film(path, side, i, label);
        cx_buf_printf(&csv, "f%02d.png,%s\n", i, text);
    }
    assert_cx_ok(cx_file_write(manifest, csv.data, csv.len, err));
    cx_buf_free(&csv);
}

static int remove_squares(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command) != 0;
}

/* The experiment `name` on them: what all have in common, then `base`, then `more`, both ended by NULL; more may be NULL. */
static cx_status load_squares(const char *const *base, const char *name, const char *const *more, cx_config *c, cx_error *err)
{
    static const char *const common[] = { "data.near_duplicates=false", "data.channels=1", "data.normalise=unit", "optim.batch=8", "augment.rotate_deg=5",
        "augment.shift=0.05", "model.dropout=0.2", NULL };
    const char *const *const lists[] = { common, base, more };
    char own[4][400], *set[48];
    int n = 0;
    snprintf(own[0], sizeof own[0], "data.manifest=%s", manifest);
    snprintf(own[1], sizeof own[1], "data.cache=%s/cache", root);
    snprintf(own[2], sizeof own[2], "run.dir=%s", root);
    snprintf(own[3], sizeof own[3], "run.name=%s", name);
    for (int i = 0; i < 4; i++)
        set[n++] = own[i];
    for (int l = 0; l < CX_COUNT(lists); l++)
        for (const char *const *at = lists[l]; at && *at; at++) {
            assert_true(n < CX_COUNT(set));
            set[n++] = (char *)(uintptr_t)*at;
        }
    return cx_config_load(NULL, set, n, c, err);
}

/* which: "last", "best". */
static cx_st_file open_weights(const char *name, const char *which)
{
    char path[400];
    cx_st_file f;
    snprintf(path, sizeof path, "%s/%s/checkpoints/%s.safetensors", root, name, which);
    assert_cx_ok(cx_st_read(path, &f, err));
    return f;
}

/* Start weights for the network of an experiment with one output, whose values of one kind are all x. */
static void write_equal_weights(const char *path, const cx_config *c, cx_value_kind kind, float x)
{
    cx_model_spec spec;
    cx_model model;
    cx_backend *b;
    cx_store *s;
    cx_config_model(c, 1, &spec);
    assert_cx_ok(cx_model_new(&spec, &model, err));
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_store_new(model.graph, b, 1, &s, err));
    for (int v = 0; v < model.graph->n_values; v++) {
        if (model.graph->values[v].kind != kind)
            continue;
        const int64_t n = cx_elems(model.graph->values[v].shape);
        float *host = cx_alloc((size_t)n, sizeof *host);
        for (int64_t i = 0; i < n; i++)
            host[i] = x;
        assert_cx_ok(cx_store_set(s, v, host, err));
        free(host);
    }
    assert_cx_ok(cx_weights_save(s, path, NULL, 0, NULL, 0, err));
    cx_store_free(s);
    cx_backend_close(b);
    cx_model_free(&model);
}
#endif
