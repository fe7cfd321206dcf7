/* test_verb_segment.c - `cxnet segment` as a user runs it: masks whose truth follows from the network's weights, tables, and files that mark no pixels. */
#include <unistd.h>
#include "program.h"
#include "cxnet/train.h"

static char dir[64];

enum { SIDE = 64, FILM = 50 };

/* A U-Net that calls every pixel lung (bias > 0), or none, whatever it sees; or a DenseNet. */
static void save_net(const char *name, const char *arch, const char *task, int n_classes, float bias, char *stage)
{
    char path[128];
    cx_backend *b;
    const bool unet = !strcmp(arch, "unet");
    char *stages[] = { stage, (char[]){ "resize" } };
    static char *classes[] = { "Clear", "Opacity", "Edema" };
    cx_weights_net n = { .card = { .spec = { .side = SIDE, .channels = 1, .outputs = 1, .base = unet ? 2 : 0, .depth = unet ? 2 : 0 }, .normalise = "unit",
                                   .classes = n_classes ? classes : NULL, .n_classes = n_classes,
                                   .stages = stage ? stages : NULL, .n_stages = stage ? CX_COUNT(stages) : 0 } };
    snprintf(n.card.spec.arch, sizeof n.card.spec.arch, "%s", arch);
    snprintf(n.card.task, sizeof n.card.task, "%s", task);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_model_new(&n.card.spec, &n.model, err));
    assert_cx_ok(cx_store_new(n.model.graph, b, 1, &n.store, err));
    if (unet) {
        const float none[2] = { 0 };
        assert_cx_ok(cx_store_set(n.store, cx_graph_find(n.model.graph, "head.weight"), none, err));
        assert_cx_ok(cx_store_set(n.store, cx_graph_find(n.model.graph, "head.bias"), &bias, err));
    }
    assert_cx_ok(cx_weights_net_save(&n, path, err));
    n.card.classes = n.card.stages = NULL;
    n.card.n_classes = n.card.n_stages = 0;
    cx_weights_net_close(&n);
    cx_backend_close(b);
}

/* FILM x FILM px; white in the columns below `white`. */
static void save_picture(const char *name, int white)
{
    uint16_t px[FILM * FILM];
    char path[128];
    cx_buf b = { 0 };
    for (int i = 0; i < FILM * FILM; i++)
        px[i] = i % FILM < white ? 255 : 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_cx_ok(cx_png_grey(px, FILM, FILM, 255, &b, err));
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_buf_free(&b);
}

/* A film of 2000 x 4 px. */
static void save_line(const char *name)
{
    static uint16_t px[2000 * 4];
    char path[128];
    cx_buf b = { 0 };
    for (int i = 0; i < CX_COUNT(px); i++)
        px[i] = (uint16_t)(i % 256);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_cx_ok(cx_png_grey(px, 2000, 4, 255, &b, err));
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_buf_free(&b);
}

static int setup(void **state)
{
    (void)state;
    char path[128];
    const char manifest[] = "image,mask\nfilm.png,half.png\nnone.png,half.png\nhalf.png,nowhere.png\nwide.png,half.png\n";
    snprintf(dir, sizeof dir, "/tmp/cxnet-segment-XXXXXX");
    assert_non_null(mkdtemp(dir));
    save_net("all.safetensors", "unet", "segmentation", 0, 3, NULL);
    save_net("nothing.safetensors", "unet", "segmentation", 0, -3, NULL);
    save_net("densenet.safetensors", "densenet121", "binary", 2, 0, NULL);
    save_net("silent.safetensors", "densenet121", "", 2, 0, NULL);
    save_net("one.safetensors", "densenet121", "binary", 1, 0, NULL);
    save_net("three.safetensors", "densenet121", "binary", 3, 0, NULL);
    save_net("foo.safetensors", "densenet121", "foo", 2, 0, NULL);
    save_net("map.safetensors", "densenet121", "segmentation", 0, 0, NULL);
    save_net("roi.safetensors", "densenet121", "binary", 2, 0, (char[]){ "roi" });
    save_net("like.safetensors", "densenet121", "binary", 2, 0, (char[]){ "match_histogram reference=/etc/passwd" });
    save_picture("film.png", 20);
    save_picture("half.png", FILM / 2);
    save_line("wide.png");
    snprintf(path, sizeof path, "%s/manifest.csv", dir);
    assert_cx_ok(cx_file_write(path, manifest, strlen(manifest), err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command) != 0;
}

static void cell_is(const cx_csv *csv, int row, const char *column, const char *want)
{
    const int at = cx_csv_column(csv, column);
    assert_true(at >= 0);
    assert_string_equal(cx_csv_at(csv, row, at), want);
}

/* All of the film is lung: half of it is right, both parts are one; a film that is not there costs its row only, a drawn mask that is not there, or of another
 * picture, its comparison only. */
static void a_table_and_its_pictures(void **state)
{
    (void)state;
    char path[160];
    cx_csv csv;
    cx_film mask, overlay;
    assert_runs(0, "3 of 4 films segmented", "not compared: ", "segment %s/all.safetensors --in %s/manifest.csv --out %s/out", dir, dir, dir);
    snprintf(path, sizeof path, "%s/out/segments.csv", dir);
    assert_cx_ok(cx_csv_load(path, &csv, err));
    assert_int_equal(csv.rows, 5);
    cell_is(&csv, 1, "area", "1.0000");
    cell_is(&csv, 1, "parts", "1");
    cell_is(&csv, 1, "box_width", "50");
    cell_is(&csv, 1, "flags", "large|not_two");
    cell_is(&csv, 1, "dice", "0.666667");              /* 2 * 1/2 / (1 + 1/2) */
    cell_is(&csv, 1, "iou", "0.500000");
    cell_is(&csv, 2, "area", "");
    assert_true(*cx_csv_at(&csv, 2, cx_csv_column(&csv, "problem")) != 0);
    cell_is(&csv, 3, "dice", "");
    assert_non_null(strstr(cx_csv_at(&csv, 3, cx_csv_column(&csv, "problem")), "nowhere.png"));
    cell_is(&csv, 4, "area", "1.0000");
    assert_non_null(strstr(cx_csv_at(&csv, 4, cx_csv_column(&csv, "problem")), "is no mask of a film of 2000 x 4 px"));
    snprintf(path, sizeof path, "%s/out/%s", dir, cx_csv_at(&csv, 1, cx_csv_column(&csv, "mask")));
    assert_cx_ok(cx_film_load(path, &mask, err));
    snprintf(path, sizeof path, "%s/out/%s", dir, cx_csv_at(&csv, 1, cx_csv_column(&csv, "overlay")));
    assert_cx_ok(cx_film_load(path, &overlay, err));
    assert_int_equal(mask.width, FILM);
    for (int i = 0; i < FILM * FILM; i++)
        assert_int_equal(mask.px[i], 255);
    assert_true(overlay.colour > 0);                  /* an outline is drawn around it */
    cx_film_free(&mask);
    cx_film_free(&overlay);
    cx_csv_free(&csv);
}

static void nothing_is_found(void **state)
{
    (void)state;
    const ran *r = run_program("segment %s/nothing.safetensors --in %s/film.png --out %s/none --json", dir, dir, dir);
    assert_int_equal(r->code, 0);
    assert_non_null(strstr(r->out, "\"flags\": \"small|not_two\""));
    assert_non_null(strstr(r->out, "\"parts\": 0"));
    assert_null(strstr(r->out, "\"dice\""));
}

/* JSON holds UTF-8 alone: said before a mask is written, and only where JSON was asked for. */
static void names_without_a_place_in_json(void **state)
{
    (void)state;
    char command[300];
    const char *file = "$(printf '/na\\303\\257ve\\377.png')";             /* UTF-8, then a byte that is none */
    snprintf(command, sizeof command, "mkdir %s/odd && cp %s/half.png \"%s/odd%s\"", dir, dir, dir, file);
    assert_int_equal(system(command), 0);
    assert_runs(65, "", "na\xc3\xafve\\xFF.png: this name is no valid UTF-8", "segment %s/all.safetensors --in %s/odd --out %s/odd-out --json", dir, dir, dir);
    assert_runs(65, "", "rename it, or leave out --json", "predict %s/densenet.safetensors --in %s/odd --json", dir, dir);
    assert_runs(65, "", "rename it, or leave out --json", "explain %s/densenet.safetensors --in %s/odd --out %s/odd-out --json", dir, dir, dir);
    assert_runs(65, "", "odd-\\xFE: this name", "segment %s/all.safetensors --in %s/half.png --out \"%s/odd-$(printf '\\376')\" --json", dir, dir, dir);
    snprintf(command, sizeof command, "%s/odd-out", dir);
    assert_false(cx_file_exists(command));
    assert_runs(0, "1 of 1 film segmented", "", "segment %s/all.safetensors --in %s/odd --out %s/odd-out", dir, dir, dir);
}

static void what_cannot_be_segmented(void **state)
{
    (void)state;
    assert_runs(64, "", "wants --in", "segment %s/all.safetensors --in %s/film.png", dir, dir);
    assert_runs(64, "", "marks no pixels", "segment %s/densenet.safetensors --in %s/film.png --out %s/x", dir, dir, dir);
    assert_runs(65, "", "does not say what its 1 outputs mean", "segment %s/silent.safetensors --in %s/film.png --out %s/x", dir, dir, dir);
    static const char *const unsound[][2] = {
        { "one", "want exactly 2 data.classes" }, { "three", "3 names for 1 output" }, { "foo", "data.task" }, { "map", "not sound" },
        { "roi", "by a network that finds lungs" }, { "like", "by a reference film" },
    };
    for (int i = 0; i < CX_COUNT(unsound); i++)          /* a file may say anything of itself; nothing is run that does not fit together */
        assert_runs(65, "", unsound[i][1], "predict %s/%s.safetensors --in %s/film.png", dir, unsound[i][0], dir);
    assert_runs(66, "", "no such run", "segment %s/nowhere --in %s/film.png --out %s/x", dir, dir, dir);
    assert_runs(64, "", "segment", "explain %s/all.safetensors --in %s/film.png --out %s/x", dir, dir, dir);
    assert_runs(0, "Opacity", "", "explain %s/densenet.safetensors --in %s/film.png --out %s/x", dir, dir, dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_and_its_pictures), cmocka_unit_test(nothing_is_found),
        cmocka_unit_test(names_without_a_place_in_json), cmocka_unit_test(what_cannot_be_segmented),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
