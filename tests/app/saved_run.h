/* saved_run.h - runs as cx_net_open wants them, of untrained networks, and films for them, in a folder of their own. */
#ifndef CX_TESTS_SAVED_RUN_H
#define CX_TESTS_SAVED_RUN_H
#include "support.h"
#include <sys/wait.h>
#include <unistd.h>
#include "cxnet/train.h"

enum { SIDE = 160 };          /* the smallest sides leave one pixel of map; this leaves 3 x 3 */
static char folder[] = "/tmp/cxnet_saved_XXXXXX";

static inline void write_at(const char *name, const void *data, size_t n)
{
    char *path = cx_path_join(folder, name), *dir = cx_path_dir(path);
    assert_cx_ok(cx_mkdirs(dir, err));
    assert_cx_ok(cx_file_write(path, data, n, err));
    free(path);
    free(dir);
}

static inline void write_film(const char *name, int seed, double keep)
{
    static uint16_t px[90 * 70];
    cx_buf png = { 0 };
    for (int i = 0; i < 90 * 70; i++)
        px[i] = (uint16_t)(127 + 100 * sin(i % 90 / (5.0 + seed)) * cos(i / 90 / (7.0 + seed)));
    assert_cx_ok(cx_png_grey(px, 90, 70, 255, &png, err));
    write_at(name, png.data, (size_t)((double)png.len * keep));
    cx_buf_free(&png);
}

/* A run's folder: task with `outputs` logits and random weights, others for each seed; outputs 0: of a hierarchy, without its stages. */
static inline void write_run(const char *name, const char *task, const char *classes, int outputs, uint64_t seed)
{
    char *set[] = { cx_sprintf("data.side=%d", SIDE), cx_sprintf("data.task=%s", task), cx_sprintf("data.classes=%s", classes) };
    cx_config c;
    cx_buf yaml = { 0 };
    cx_model m;
    cx_backend *b;
    cx_store *store;
    assert_cx_ok(cx_config_load(NULL, set, 3, &c, err));
    cx_config_yaml(&c, &yaml);
    char *config = cx_sprintf("%s/config.resolved.yaml", name), *weights = cx_sprintf("%s/%s/checkpoints/best.safetensors", folder, name);
    write_at(config, yaml.data, yaml.len);
    cx_model_spec spec = { .arch = "base_cnn", .side = SIDE, .channels = 3, .outputs = outputs ? outputs : 1 };
    assert_cx_ok(cx_model_new(&spec, &m, err));
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_store_new(m.graph, b, seed, &store, err));
    char *dir = cx_path_dir(weights);
    assert_cx_ok(cx_mkdirs(dir, err));
    if (outputs)
        assert_cx_ok(cx_weights_save(store, weights, NULL, 0, NULL, 0, err));
    cx_store_free(store);
    cx_backend_close(b);
    cx_model_free(&m);
    cx_config_free(&c);
    cx_buf_free(&yaml);
    for (int i = 0; i < 3; i++)
        free(set[i]);
    free(config);
    free(weights);
    free(dir);
}

static inline int clean(void **state)
{
    (void)state;
    char *command = cx_sprintf("rm -r '%s'", folder);
    int rc = system(command);
    free(command);
    return rc;
}

/* Runs `cxnet VERB ARGS` in the folder; stdout to out, stderr to errors. Returns the exit code. */
static inline int run_verb(const char *verb, const char *args, cx_buf *out, cx_buf *errors)
{
    char *command = cx_sprintf("cd '%s' && '%s' %s %s >out.txt 2>err.txt", folder, CX_TEST_PROGRAM, verb, args), *o = cx_path_join(folder, "out.txt"),
         *e = cx_path_join(folder, "err.txt");
    int rc = system(command);
    assert_true(WIFEXITED(rc));
    assert_cx_ok(cx_file_read(o, 1 << 20, out, err));
    assert_cx_ok(cx_file_read(e, 1 << 20, errors, err));
    free(command);
    free(o);
    free(e);
    return WEXITSTATUS(rc);
}

/* The verb ends with this code, and says this on stderr. */
typedef struct { const char *args; int code; const char *says; } ending;
static inline void assert_endings(const char *verb, const ending *e, int n)
{
    for (int i = 0; i < n; i++) {
        cx_buf out = { 0 }, errors = { 0 };
        const int code = run_verb(verb, e[i].args, &out, &errors);
        if (code != e[i].code || !strstr(errors.data, e[i].says))
            fail_msg("%s %s: exit %d, want %d; it says \"%s\", wanted \"%s\"", verb, e[i].args, code, e[i].code, errors.data, e[i].says);
        cx_buf_free(&out);
        cx_buf_free(&errors);
    }
}
#endif
