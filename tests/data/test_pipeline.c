/* test_pipeline.c - preprocessing: stages against OpenCV, PIL and scikit-image, the list's grammar and order, lungs, several planes, notes in the cache. */
#include "image/golden.h"
#include <unistd.h>
#include "cxnet/data.h"

/* A film of bytes; px is not copied but widened. */
static cx_film film_of(const uint8_t *px, int w, int h)
{
    cx_film f = { .width = w, .height = h, .max = 255, .px = cx_alloc((size_t)(w * h), sizeof *f.px) };
    for (int i = 0; i < w * h; i++)
        f.px[i] = px[i];
    return f;
}

/* "a; b" to a list; release with free_list. */
static int list_of(const char *text, char *item[8])
{
    int n = 0;
    for (const char *p = text; *p && n < 8; p += strcspn(p, ";"), p += *p == ';')
        item[n++] = cx_sprintf("%.*s", (int)strcspn(p, ";"), p);
    return n;
}

static void free_list(char **item, int n)
{
    for (int i = 0; i < n; i++)
        free(item[i]);
}

static cx_status make(const char *text, int side, int channels, const cx_lungs *lungs, cx_pipeline **p, cx_error *error)
{
    char *item[8] = { NULL };
    const int n = list_of(text, item);
    cx_status s = cx_pipeline_new(item, n, side, channels, p, error);
    free_list(item, n);
    return s == CX_OK ? cx_pipeline_open(*p, lungs, error) : s;
}

/* Greys that differ by more than 1 fail the test; counts those that differ at all. */
static int assert_near(const char *what, const uint8_t *got, const uint8_t *want, int n)
{
    int differ = 0;
    for (int i = 0; i < n; i++) {
        if (abs(got[i] - want[i]) > 1)
            fail_msg("%s: pixel %d is %d, want %d", what, i, got[i], want[i]);
        differ += got[i] != want[i];
    }
    return differ;
}

/* PIL and OpenCV work in fixed point and round between their two passes: a grey more or less. */
static void stages_are_their_libraries(void **state)
{
    (void)state;
    cx_csv csv;
    cx_buf file = { 0 };
    int differ = 0, all = 0;
    assert_cx_ok(cx_csv_load("tests/golden/preprocess.csv", &csv, err));
    const uint8_t *v = npy_load("tests/golden/preprocess.npy", &file);
    for (int r = 1; r < csv.rows; r++) {
        const int w = csv_int(&csv, r, "width"), h = csv_int(&csv, r, "height"), side = csv_int(&csv, r, "side"), planes = csv_int(&csv, r, "planes");
        const uint8_t *px = v + csv_int(&csv, r, "at");
        const char *stages = csv_text(&csv, r, "stages");
        cx_film f = film_of(px, w, h);
        cx_pipeline *p;
        cx_picture at;
        assert_cx_ok(make(stages, side, planes, NULL, &p, err));
        assert_int_equal(cx_pipeline_planes(p), planes);
        assert_cx_ok(cx_pipeline_apply(p, &f, NULL, cx_pipeline_stages(p), &at, err));
        assert_true(at.width == side && at.height == side && at.planes == planes && !*at.note);
        const int off = assert_near(stages, at.px, px + w * h, planes * side * side);
        if (!strstr(stages, "resize ") && off)
            fail_msg("%s: %d greys differ, want none: no library rounds otherwise", stages, off);
        differ += off;
        all += planes * side * side;
        cx_picture_free(&at);
        cx_pipeline_free(p);
        cx_film_free(&f);
    }
    assert_int_equal(csv.rows, 1 + 51);
    print_message("%d of %d greys are one off\n", differ, all);
    cx_buf_free(&file);
    cx_csv_free(&csv);
}

/* ---- real films ----------------------------------------------------------------------------------------------------------------- */

/* The film's greys through the stages here, and by the libraries in another process. */
static int compare_real(const char *python, const char *path, const char *stages, int side, int *all)
{
    char in[] = "/tmp/cxnet-stages-XXXXXX", out[sizeof in + 4];
    cx_film film;
    cx_pipeline *p;
    cx_picture at;
    cx_buf want = { 0 };
    assert_cx_ok(cx_film_load(path, &film, err));
    assert_int_equal(film.max, 255);
    const size_t n = (size_t)film.width * (size_t)film.height;
    uint8_t *px = cx_alloc(n, 1);
    for (size_t i = 0; i < n; i++)
        px[i] = (uint8_t)film.px[i];
    close(mkstemp(in));
    snprintf(out, sizeof out, "%s.out", in);
    put_file(in, px, n);
    char *command = cx_sprintf("%s tools/oracle/preprocess.py '%s' %d %s %d %d %s", python, stages, side, in, film.width, film.height, out);
    assert_int_equal(system(command), 0);
    assert_cx_ok(make(stages, side, 3, NULL, &p, err));
    assert_cx_ok(cx_pipeline_apply(p, &film, NULL, cx_pipeline_stages(p), &at, err));
    const int bytes = at.planes * side * side;
    assert_cx_ok(cx_file_read(out, (size_t)bytes, &want, err));
    const int differ = assert_near(command, at.px, (const uint8_t *)want.data, bytes);
    *all += bytes;
    cx_pipeline_free(p);
    cx_picture_free(&at);
    cx_film_free(&film);
    cx_buf_free(&want);
    free(px);
    free(command);
    remove(in);
    remove(out);
    return differ;
}

/* Only where someone says which Python has the libraries: nothing of a real film is kept. One stage at a time beside an exact one, since equalisation makes
 * more of a grey that PIL rounds otherwise. */
static void stages_are_their_libraries_on_real_films(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "resize", "resize filter=cv_area", "resize filter=cv_linear", "resize filter=cv_cubic", "resize keep_aspect=true",
        "resize filter=cv_area keep_aspect=true",
        "clahe; resize filter=cv_area", "beasf gamma=1.5; resize filter=cv_linear", "equalize_local radius=30; resize", "equalize_local radius=7; resize",
        "match_histogram reference=tests/golden/image/reference.png; resize",
    };
    const char *python = getenv("CXNET_ORACLE_PYTHON");
    SHARED_OR_SKIP("data/cxr/manifest.csv");
    if (!python) {
        print_message("skipped: CXNET_ORACLE_PYTHON names no Python with OpenCV, PIL and scikit-image\n");
        skip();
    }
    cx_csv csv;
    assert_cx_ok(cx_csv_load("../shared/data/cxr/manifest.csv", &csv, err));
    const int path = cx_csv_column(&csv, "path");
    assert_true(path >= 0 && csv.rows > 100);
    for (int k = 0; k < CX_COUNT(lists); k++) {
        int differ = 0, all = 0;
        for (int i = 0; i < 6; i++) {
            char *name = cx_path_join("../shared/data/cxr", cx_csv_at(&csv, 1 + i * (csv.rows - 2) / 5, path));
            differ += compare_real(python, name, lists[k], i % 2 ? 320 : 224, &all);
            free(name);
        }
        print_message("%s: %d of %d greys are one off\n", lists[k], differ, all);
    }
    cx_csv_free(&csv);
}

/* ---- the list ---------------------------------------------------------------------------------------------------------------- */

static void refuses(void **state)
{
    (void)state;
    static const struct { const char *stages, *why; } cases[] = {
        { "", "want a resize" },
        { "clahe", "want a resize" },
        { "resize; clahee", "item 2, \" clahee\": no stage is called \"clahee\"; want one of roi, mask_out," },
        { "clahe tiles=0; resize", "item 1, \"clahe tiles=0\": tiles: want a whole number from 1 to 64, got 0" },
        { "clahe tiles=8.5; resize", "tiles: want a whole number" },
        { "clahe tiles=; resize", "tiles: want a whole number" },
        { "clahe tiles; resize", "tiles: no value of clahe; want key=value with one of clip, tiles" },
        { "clahe clip=inf; resize", "clip: want a number from 0.01 to 1000, got inf" },
        { "clahe clip=0x2; resize", "got 0x2" },
        { "clahe clip=2 clip=3; resize", "clip is said twice" },
        { "clahe gamma=2; resize", "gamma: no value of clahe" },
        { "beasf gamma=0; resize", "gamma: want a number from 0.01 to 30" },
        { "match_histogram; resize", "reference is missing" },
        { "match_histogram reference=; resize", "reference: want the name of a film file" },
        { "match_histogram reference=/nowhere.png; resize", "reference of match_histogram: /nowhere.png" },
        { "resize filter=area", "filter: want one of pil_bilinear, cv_area, cv_linear, cv_cubic, got area" },
        { "resize keep_aspect=1", "keep_aspect: want true or false, got 1" },
        { "resize side=100", "the last resize gives the network's input; want data.side, 32, or no side, got 100" },
        { "resize; roi", "want it before the last resize" },
        { "roi; roi margin=0.1; resize", "want one roi" },
        { "channels; resize", "want it as the last stage" },
        { "resize; channels planes=plain+clahe", "want 1 or data.channels, 3, planes, got 2" },
        { "resize; channels planes=plain+clahe+beasf+plain", "planes: want 1 to 3 of plain, clahe, beasf, joined by '+'" },
        { "resize; channels planes=plain+", "planes: want 1 to 3" },
        { "roi; resize", "nobody finds them" },
    };
    for (int k = 0; k < CX_COUNT(cases); k++) {
        cx_pipeline *p = NULL;
        cx_error why = { 0 };
        if (make(cases[k].stages, 32, 3, NULL, &p, &why) == CX_OK || !strstr(why.text, cases[k].why))
            fail_msg("\"%s\": \"%s\", want \"%s\"", cases[k].stages, why.text, cases[k].why);
        cx_pipeline_free(p);
    }
}

static void says_all_that_bytes_depend_on(void **state)
{
    (void)state;
    cx_pipeline *p, *q;
    assert_cx_ok(make("  clahe   tiles=4;match_histogram reference=tests/golden/image/reference.png;resize side=0", 32, 3, NULL, &p, err));
    assert_string_equal(cx_pipeline_stage(p, 0), "clahe clip=2 tiles=4");
    assert_string_equal(cx_pipeline_stage(p, 2), "resize side=0 filter=pil_bilinear keep_aspect=false");
    assert_non_null(strstr(cx_pipeline_identity(p), "side 32\n"));
    char sha[65];
    assert_cx_ok(cx_sha256_file("tests/golden/image/reference.png", sha, err));
    assert_non_null(strstr(cx_pipeline_identity(p), sha));
    assert_cx_ok(make("clahe clip=2 tiles=4; resize", 32, 3, NULL, &q, err));
    assert_string_not_equal(cx_pipeline_identity(p), cx_pipeline_identity(q));
    cx_pipeline_free(p);
    assert_cx_ok(make("clahe tiles=4 clip=2.0; resize filter=pil_bilinear", 32, 3, NULL, &p, err));
    assert_string_equal(cx_pipeline_identity(p), cx_pipeline_identity(q));
    cx_pipeline_free(p);
    cx_pipeline_free(q);
    cx_buf doc = { 0 };
    cx_stages_doc(&doc);
    assert_non_null(strstr(doc.data, "\n    clahe "));
    cx_buf_free(&doc);
}

/* 16 bits reach the resize unrounded, as the cache has always made its films. */
static void sixteen_bits_are_rounded_once(void **state)
{
    (void)state;
    enum { W = 21, H = 13, SIDE = 8 };
    uint16_t px[W * H];
    float grey[W * H], small[SIDE * SIDE];
    cx_pipeline *p;
    cx_picture at;
    for (int i = 0; i < W * H; i++) {
        px[i] = (uint16_t)(i * 2731 % 65536);
        grey[i] = (float)px[i] * (255.0f / 65535);
    }
    assert_cx_ok(cx_resize(grey, W, H, small, SIDE, SIDE, CX_RESIZE_AREA, err));
    assert_cx_ok(make("resize", SIDE, 1, NULL, &p, err));
    const cx_film film = { .width = W, .height = H, .max = 65535, .px = px };
    assert_cx_ok(cx_pipeline_apply(p, &film, NULL, 1, &at, err));
    for (int i = 0; i < SIDE * SIDE; i++)
        assert_int_equal(at.px[i], (uint8_t)(small[i] + 0.5f));
    cx_picture_free(&at);
    /* a stage that cannot work on a film says which, and why */
    cx_pipeline_free(p);
    assert_cx_ok(make("clahe tiles=14; resize", SIDE, 1, NULL, &p, err));
    assert_cx_fails(CX_E_CONFIG, "preprocessing stage 1: CLAHE: 14 x 14 tiles", cx_pipeline_apply(p, &film, NULL, 2, &at, err));
    assert_null(at.px);
    cx_pipeline_free(p);
}

/* ---- lungs ------------------------------------------------------------------------------------------------------------------- */

enum { W = 100, H = 80 };
static const uint8_t lung_px = 200;

/* The film is bright where its lungs are said to be: whatever is lung_px. Its first pixel says what the network does: 1 fails, 2 finds nothing. */
static cx_status bright_is_lung(void *self, const cx_film *const *films, int n, uint8_t *const *masks, cx_error *error)
{
    int *calls = self;
    ++*calls;
    for (int i = 0; i < n; i++) {
        if (films[i]->px[0] == 1)
            return cx_fail(error, CX_E_INTERNAL, "the network failed");
        for (int k = 0; k < films[i]->width * films[i]->height; k++)
            masks[i][k] = films[i]->px[0] != 2 && films[i]->px[k] == lung_px ? 255 : 0;
    }
    return CX_OK;
}

static void rectangle(uint8_t *px, cx_box b, uint8_t grey)
{
    for (int y = b.y; y < b.y + b.height; y++)
        memset(px + y * W + b.x, grey, (size_t)b.width);
}

/* A film of a dark ramp with the given lungs. */
static void film_with(uint8_t *px, const cx_box *lung, int n)
{
    for (int i = 0; i < W * H; i++)
        px[i] = (uint8_t)(10 + i % W);
    for (int k = 0; k < n; k++)
        rectangle(px, lung[k], lung_px);
}

static cx_picture shown(const cx_pipeline *p, const uint8_t *px, int stages)
{
    cx_picture at;
    cx_film f = film_of(px, W, H);
    uint8_t *mask;
    assert_cx_ok(cx_pipeline_masks(p, (const cx_film *const[]){ &f }, 1, &mask, err));
    assert_non_null(mask);
    assert_cx_ok(cx_pipeline_apply(p, &f, mask, stages, &at, err));
    cx_film_free(&f);
    free(mask);
    return at;
}

static void crops_to_the_lungs(void **state)
{
    (void)state;
    /* two lungs; a speck far off, which is the third component; a hole in the left lung, which is no component */
    static const cx_box both[] = { { 20, 20, 20, 40 }, { 50, 24, 20, 30 }, { 95, 75, 2, 2 } };
    static const struct { const char *roi; cx_box box; } cases[] = {
        { "roi dilate=0", { 20, 20, 50, 40 } },
        { "roi", { 18, 18, 54, 44 } },                         /* 0.02 of 80 px */
        { "roi dilate=0 margin=0.1", { 15, 16, 60, 48 } },
        { "roi dilate=0.25 margin=0.5", { 0, 0, 100, 80 } },   /* no further than the film */
    };
    uint8_t px[W * H];
    int calls = 0;
    const cx_lungs lungs = { bright_is_lung, &calls, "bright" };
    film_with(px, both, 3);
    rectangle(px, (cx_box){ 25, 30, 4, 4 }, 7);
    for (int k = 0; k < CX_COUNT(cases); k++) {
        const cx_box b = cases[k].box;
        char *text = cx_sprintf("%s; resize", cases[k].roi);
        cx_pipeline *p;
        assert_cx_ok(make(text, 32, 1, &lungs, &p, err));
        assert_true(cx_pipeline_wants_lungs(p));
        assert_non_null(strstr(cx_pipeline_identity(p), "lungs: bright\n"));
        cx_picture at = shown(p, px, 1);
        assert_true(at.width == b.width && at.height == b.height && !*at.note);
        assert_true(at.place.x == b.x && at.place.y == b.y && at.place.width == b.width && at.place.height == b.height);
        for (int y = 0; y < b.height; y++)
            assert_memory_equal(at.px + y * b.width, px + (y + b.y) * W + b.x, b.width);
        cx_picture_free(&at);
        at = shown(p, px, 2);
        assert_true(at.width == 32 && at.place.x == b.x && at.place.y == b.y);
        assert_true(fabs(at.place.width - b.width) < 1e-9 && fabs(at.place.height - b.height) < 1e-9);
        cx_picture_free(&at);
        cx_pipeline_free(p);
        free(text);
    }
    assert_int_equal(calls, 2 * CX_COUNT(cases));
}

static void no_pair_of_lungs_shows_the_whole_film(void **state)
{
    (void)state;
    static const struct { cx_box lung[2]; int n, min_area_percent; const char *note; } cases[] = {
        { { { 0, 0, 0, 0 } }, 0, 5, "no lungs found; the whole film is shown" },
        { { { 30, 30, 10, 20 } }, 1, 5, "what was found covers 2.5 % of the film, lungs 5.0 to 80 %; the whole film is shown" },
        { { { 2, 2, 96, 76 } }, 1, 5, "covers 91.2 %" },
        { { { 30, 5, 12, 70 } }, 1, 5, "is 12 x 88 % of the film's sides, lungs at least 25 %" },
        { { { 20, 20, 20, 40 }, { 50, 20, 20, 40 } }, 2, 30, "covers 20.0 % of the film, lungs 30.0 to 80 %" },
        { { { 20, 20, 20, 40 }, { 50, 20, 20, 40 } }, 2, 19, "" },
    };
    uint8_t px[W * H];
    int calls = 0;
    const cx_lungs lungs = { bright_is_lung, &calls, "bright" };
    for (int k = 0; k < CX_COUNT(cases); k++) {
        cx_pipeline *p;
        char *text = cx_sprintf("roi min_area=0.%02d; mask_out; resize", cases[k].min_area_percent);
        assert_cx_ok(make(text, 32, 1, &lungs, &p, err));
        film_with(px, cases[k].lung, cases[k].n);
        cx_picture at = shown(p, px, 1);
        if (*cases[k].note ? !strstr(at.note, cases[k].note) : *at.note)
            fail_msg("case %d: \"%s\", want \"%s\"", k, at.note, cases[k].note);
        assert_int_equal(at.width == W && at.height == H, *cases[k].note != 0);
        if (*at.note)
            assert_memory_equal(at.px, px, sizeof px);
        cx_picture_free(&at);
        cx_pipeline_free(p);
        free(text);
    }
}

/* Black outside of the grown lungs; also behind a roi and a resize, where the mask has gone along. */
static void blacks_out_what_is_no_lung(void **state)
{
    (void)state;
    static const cx_box both[] = { { 20, 20, 20, 40 }, { 50, 20, 20, 40 } };
    uint8_t px[W * H];
    int calls = 0;
    const cx_lungs lungs = { bright_is_lung, &calls, "bright" };
    cx_pipeline *p;
    film_with(px, both, 2);
    assert_cx_ok(make("mask_out dilate=0.05; resize", 32, 1, &lungs, &p, err));
    cx_picture at = shown(p, px, 1);
    for (int i = 0; i < W * H; i++) {
        const int x = i % W, y = i / W;
        const bool in = y >= 16 && y < 64 && ((x >= 16 && x < 44) || (x >= 46 && x < 74));
        assert_int_equal(at.px[i], in ? px[i] : 0);
    }
    cx_picture_free(&at);
    cx_pipeline_free(p);
    assert_cx_ok(make("roi dilate=0; resize side=50; mask_out dilate=0; resize", 50, 1, &lungs, &p, err));
    at = shown(p, px, 4);                                     /* the box is 50 x 40 px: lung, 10 px of gap, lung */
    for (int y = 0; y < 50; y++)
        for (int x = 0; x < 50; x++)
            assert_int_equal(at.px[y * 50 + x] != 0, x < 20 || x >= 30);
    cx_picture_free(&at);
    cx_pipeline_free(p);
    film_with(px, both, 0);
    assert_cx_ok(make("roi; mask_out; resize", 32, 1, &lungs, &p, err));
    at = shown(p, px, 2);
    assert_string_equal(at.note, "no lungs found; the whole film is shown; and again; nothing is blacked out");
    assert_memory_equal(at.px, px, sizeof px);
    cx_picture_free(&at);
    cx_pipeline_free(p);
}

/* A mask that is drawn beside the film passes the resizes alone. */
static void geometry_is_the_resizes(void **state)
{
    (void)state;
    int calls = 0;
    const cx_lungs lungs = { bright_is_lung, &calls, "bright" };
    cx_pipeline *p, *g;
    assert_cx_ok(make("clahe; resize side=50 filter=cv_area; beasf; resize keep_aspect=true; channels", 32, 3, NULL, &p, err));
    assert_cx_ok(cx_pipeline_geometry(p, &g, err));
    assert_string_equal(cx_pipeline_identity(g), "resize side=50 filter=cv_area keep_aspect=false\n"
                        "resize side=0 filter=pil_bilinear keep_aspect=true\nside 32\n");
    assert_int_equal(cx_pipeline_planes(g), 1);
    cx_pipeline_free(g);
    cx_pipeline_free(p);
    assert_cx_ok(make("roi; resize", 32, 1, &lungs, &p, err));
    assert_cx_fails(CX_E_CONFIG, "cannot follow it into a crop", cx_pipeline_geometry(p, &g, err));
    assert_null(g);
    cx_pipeline_free(p);
}

static void keeps_the_place_on_the_film(void **state)
{
    (void)state;
    uint8_t px[W * H] = { 0 };
    cx_film f = film_of(px, W, H);
    cx_pipeline *p;
    cx_picture at;
    assert_cx_ok(make("resize keep_aspect=true", 50, 1, NULL, &p, err));
    assert_cx_ok(cx_pipeline_apply(p, &f, NULL, 1, &at, err));
    /* 10 px of black above and below, in px of the film */
    assert_true(at.place.x == 0 && at.place.y == -10 && at.place.width == 100 && at.place.height == 100);
    cx_picture_free(&at);
    cx_pipeline_free(p);
    cx_film_free(&f);
}

/* ---- the cache of several planes, with lungs ---------------------------------------------------------------------------------- */

static void write_cohort(const char *folder, int films, int failing)
{
    static const cx_box both[] = { { 20, 20, 20, 40 }, { 50, 20, 20, 40 } };
    cx_buf csv = { 0 };
    cx_buf_puts(&csv, "path\n");
    for (int i = 0; i < films; i++) {
        uint8_t px[W * H];
        uint16_t wide[W * H];
        cx_buf png = { 0 };
        char *path = cx_sprintf("%s/%02d.png", folder, i);
        film_with(px, both, i % 5 == 3 ? 0 : 2);
        px[0] = i == failing ? 1 : 0;
        for (int k = 0; k < W * H; k++)
            wide[k] = px[k];
        assert_cx_ok(cx_png_grey(wide, W, H, 255, &png, err));
        if (i == 1)
            png.len /= 2;
        assert_cx_ok(cx_file_write(path, png.data, png.len, err));
        cx_buf_printf(&csv, "%02d.png\n", i);
        cx_buf_free(&png);
        free(path);
    }
    char *path = cx_path_join(folder, "manifest.csv");
    assert_cx_ok(cx_file_write(path, csv.data, csv.len, err));
    cx_buf_free(&csv);
    free(path);
}

static void cache_keeps_planes_and_notes(void **state)
{
    (void)state;
    enum { FILMS = 20, SIDE = 16 };
    char folder[] = "/tmp/cxnet_pipeline_XXXXXX";
    int index[FILMS], calls = 0;
    const cx_lungs lungs = { bright_is_lung, &calls, "bright" };
    cx_buf bad = { 0 }, notes = { 0 }, again = { 0 };
    cx_manifest m;
    cx_cache *c, *d;
    cx_pipeline *p;
    assert_non_null(mkdtemp(folder));
    write_cohort(folder, FILMS, -1);
    char *path = cx_path_join(folder, "manifest.csv"), *dir = cx_path_join(folder, "cache");
    assert_cx_ok(cx_manifest_load(path, &m, err));
    for (int i = 0; i < FILMS; i++)
        index[i] = i;
    assert_cx_ok(make("roi; resize; channels tiles=2", SIDE, 3, &lungs, &p, err));
    assert_cx_ok(cx_cache_open(&m, index, FILMS, p, dir, 1, &bad, &notes, &c, err));
    assert_int_equal(calls, 2);                               /* 20 films, 16 at a time */
    assert_string_equal(notes.data, "03.png: no lungs found; the whole film is shown\n08.png: no lungs found; the whole film is shown\n"
                        "13.png: no lungs found; the whole film is shown\n18.png: no lungs found; the whole film is shown\n");
    assert_non_null(strstr(bad.data, "01.png"));
    assert_int_equal(cx_cache_planes(c), 3);
    assert_cx_ok(cx_cache_open(&m, index, FILMS, p, dir, 1, NULL, &again, &d, err));
    assert_int_equal(calls, 2);                               /* found, with what was said of its films */
    assert_string_equal(again.data, notes.data);
    cx_normalise norm;
    assert_cx_ok(cx_normalise_named("imagenet", 3, 3, &norm, err));
    for (int i = 0; i < FILMS; i++) {
        float a[SIDE * SIDE * 3], b[SIDE * SIDE * 3];
        cx_film f;
        cx_picture seen;
        assert_memory_equal(cx_cache_film(c, i), cx_cache_film(d, i), 3 * SIDE * SIDE);
        assert_int_equal(cx_cache_ok(d, i), i != 1);
        if (i == 1)
            continue;
        char *film = cx_sample_path(&m, i);
        assert_cx_ok(cx_film_load(film, &f, err));
        assert_cx_ok(cx_film_to_input(p, &f, &norm, a, &seen, err));
        assert_int_equal(*seen.note != 0, i % 5 == 3);
        assert_memory_equal(seen.px, cx_cache_film(c, i), 3 * SIDE * SIDE);
        cx_augment_film(cx_cache_film(c, i), SIDE, NULL, 0, 0, 0, &norm, b);
        assert_memory_equal(a, b, sizeof a);
        cx_picture_free(&seen);
        cx_film_free(&f);
        free(film);
    }
    cx_cache_close(c);
    cx_cache_close(d);
    write_cohort(folder, FILMS, 17);
    assert_cx_fails(CX_E_INTERNAL, "the network failed", cx_cache_open(&m, index, FILMS, p, NULL, 1, NULL, NULL, &c, err));
    assert_null(c);
    cx_pipeline_free(p);
    cx_manifest_free(&m);
    char *command = cx_sprintf("rm -r %s", folder);
    assert_int_equal(system(command), 0);
    free(command), free(path), free(dir);
    cx_buf_free(&bad), cx_buf_free(&notes), cx_buf_free(&again);
}

/* ---- names of normalisations --------------------------------------------------------------------------------------------------- */

static void normalises_by_name(void **state)
{
    (void)state;
    static const struct { const char *name; double at0, at255, at127; } cases[] = {
        { "unit", 0, 1, 127.0 / 255 }, { "none", 0, 255, 127 }, { "signed", -1, 128.0 / 127, 0 }, { "xrv", -1024, 1024, 127.0 / 255 * 2048 - 1024 },
    };
    static const uint8_t grey[3] = { 0, 255, 127 };
    cx_normalise norm;
    for (int k = 0; k < CX_COUNT(cases); k++)
        for (int i = 0; i < 3; i++) {
            float out[3], want = (float)(i == 0 ? cases[k].at0 : i == 1 ? cases[k].at255 : cases[k].at127);
            assert_cx_ok(cx_normalise_named(cases[k].name, 3, 1, &norm, err));
            cx_augment_film(&grey[i], 1, NULL, 0, 0, 0, &norm, out);
            for (int c = 0; c < 3; c++)
                assert_true(fabsf(out[c] - want) <= 2e-6f * fmaxf(1, fabsf((float)cases[k].at255)));
        }
    assert_cx_fails(CX_E_CONFIG, "imagenet has a mean for each", cx_normalise_named("imagenet", 1, 1, &norm, err));
    assert_cx_fails(CX_E_CONFIG, "nothing is called \"imagnet\"", cx_normalise_named("imagnet", 3, 1, &norm, err));
    assert_cx_fails(CX_E_CONFIG, "3 channels from 2 planes", cx_normalise_named("unit", 3, 2, &norm, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_are_their_libraries), cmocka_unit_test(stages_are_their_libraries_on_real_films), cmocka_unit_test(refuses),
        cmocka_unit_test(says_all_that_bytes_depend_on), cmocka_unit_test(sixteen_bits_are_rounded_once), cmocka_unit_test(crops_to_the_lungs),
        cmocka_unit_test(no_pair_of_lungs_shows_the_whole_film), cmocka_unit_test(blacks_out_what_is_no_lung), cmocka_unit_test(keeps_the_place_on_the_film),
        cmocka_unit_test(geometry_is_the_resizes),
        cmocka_unit_test(cache_keeps_planes_and_notes), cmocka_unit_test(normalises_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
