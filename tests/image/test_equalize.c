/* test_equalize.c - CLAHE against OpenCV, BEASF against its formula in double. */
#include <unistd.h>
#include "golden.h"

/* ---- CLAHE ----------------------------------------------------------------------------------------------------------- */

static double csv_number(const cx_csv *csv, int row, const char *column)
{
    return strtod(csv_text(csv, row, column), NULL);
}

/* The largest difference of greys; where it lies in the message when it is above `most`. */
static void assert_greys(const char *what, const uint8_t *got, const uint8_t *want, int n, int most)
{
    for (int i = 0; i < n; i++)
        if (abs(got[i] - want[i]) > most)
            fail_msg("%s: pixel %d is %d, want %d", what, i, got[i], want[i]);
}

static void clahe_is_opencvs(void **state)
{
    (void)state;
    cx_csv csv;
    cx_buf file = { 0 };
    assert_cx_ok(cx_csv_load(GOLDEN "clahe.csv", &csv, err));
    const uint8_t *v = npy_load(GOLDEN "clahe.npy", &file);
    for (int r = 1; r < csv.rows; r++) {
        int w = csv_int(&csv, r, "width"), h = csv_int(&csv, r, "height"), n = w * h;
        const uint8_t *px = v + csv_int(&csv, r, "at"), *want = px + n;
        uint8_t *out = cx_alloc((size_t)n, 1);
        char name[80];
        cx_clahe c;
        snprintf(name, sizeof name, "row %d, %d x %d px", r, w, h);
        assert_cx_ok(cx_clahe_make(csv_number(&csv, r, "clip"), csv_int(&csv, r, "tiles_x"), csv_int(&csv, r, "tiles_y"), w, h, &c, err));
        assert_cx_ok(cx_clahe_apply(&c, px, out, err));
        assert_greys(name, out, want, n, 0);
        memcpy(out, px, (size_t)n);
        assert_cx_ok(cx_clahe_apply(&c, out, out, err));
        assert_greys("in place", out, want, n, 0);
        free(out);
    }
    assert_int_equal(csv.rows, 1 + 19);
    cx_buf_free(&file);
    cx_csv_free(&csv);
}

/* A real film at an awkward size, equalised here and by OpenCV in another process. */
static void compare_real(const char *python, const char *path, int w, int h)
{
    static const double clips[] = { 2, 0.5, 10 };
    char in[] = "/tmp/cxnet-clahe-XXXXXX", out[sizeof in + 4];
    cx_film film;
    cx_error why = { 0 };
    if (cx_film_load(path, &film, &why) != CX_OK)
        return;
    float *from = cx_alloc((size_t)film.width * (size_t)film.height, sizeof *from), *to = cx_alloc((size_t)(w * h), sizeof *to);
    uint8_t *px = cx_alloc((size_t)(w * h), 1), *got = cx_alloc((size_t)(w * h), 1);
    for (int i = 0; i < film.width * film.height; i++)
        from[i] = (float)film.px[i] * 255 / (float)film.max;
    assert_cx_ok(cx_resize(from, film.width, film.height, to, w, h, CX_RESIZE_AREA, err));
    for (int i = 0; i < w * h; i++)
        px[i] = (uint8_t)(to[i] + 0.5f);
    close(mkstemp(in));
    snprintf(out, sizeof out, "%s.out", in);
    put_file(in, px, (size_t)(w * h));
    for (int k = 0; k < CX_COUNT(clips); k++) {
        cx_clahe c;
        cx_buf want = { 0 };
        char *command = cx_sprintf("%s tools/oracle/equalize.py %s %d %d %g %d %d %s", python, in, w, h, clips[k], 8, 7 + k, out);
        assert_int_equal(system(command), 0);
        assert_cx_ok(cx_file_read(out, (size_t)(w * h), &want, err));
        assert_cx_ok(cx_clahe_make(clips[k], 8, 7 + k, w, h, &c, err));
        assert_cx_ok(cx_clahe_apply(&c, px, got, err));
        assert_greys(path, got, (const uint8_t *)want.data, w * h, 0);
        cx_buf_free(&want);
        free(command);
    }
    remove(in);
    remove(out);
    free(from), free(to), free(px), free(got);
    cx_film_free(&film);
}

/* Only where someone says which Python has OpenCV: nothing of a real film is kept. */
static void clahe_is_opencvs_on_real_films(void **state)
{
    (void)state;
    static const int sides[][2] = { { 224, 224 }, { 301, 257 }, { 333, 200 }, { 96, 97 } };
    const char *python = getenv("CXNET_ORACLE_PYTHON");
    SHARED_OR_SKIP("data/cxr/manifest.csv");
    if (!python) {
        print_message("skipped: CXNET_ORACLE_PYTHON names no Python with OpenCV\n");
        skip();
    }
    cx_csv csv;
    assert_cx_ok(cx_csv_load("../shared/data/cxr/manifest.csv", &csv, err));
    const int path = cx_csv_column(&csv, "path");
    assert_true(path >= 0 && csv.rows > 100);
    for (int i = 0; i < 12; i++) {
        char *name = cx_path_join("../shared/data/cxr", cx_csv_at(&csv, 1 + i * (csv.rows - 2) / 11, path));
        compare_real(python, name, sides[i % 4][0], sides[i % 4][1]);
        free(name);
    }
    cx_csv_free(&csv);
}

static void clahe_refuses(void **state)
{
    (void)state;
    cx_clahe c;
    assert_cx_fails(CX_E_CONFIG, "clip limit 0", cx_clahe_make(0, 8, 8, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "clip limit -1", cx_clahe_make(-1, 8, 8, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "clip limit", cx_clahe_make(NAN, 8, 8, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "clip limit inf", cx_clahe_make(INFINITY, 8, 8, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "0 x 8 tiles", cx_clahe_make(2, 0, 8, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "8 x -3 tiles", cx_clahe_make(2, 8, -3, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "65 x 8 tiles", cx_clahe_make(2, 65, 8, 64, 64, &c, err));
    assert_cx_fails(CX_E_CONFIG, "8 x 33 tiles", cx_clahe_make(2, 8, 33, 64, 32, &c, err));
    assert_cx_fails(CX_E_SHAPE, "0 x 64 px", cx_clahe_make(2, 1, 1, 0, 64, &c, err));
    assert_cx_fails(CX_E_SHAPE, "64 x 16385 px", cx_clahe_make(2, 8, 8, 64, 16385, &c, err));
    assert_cx_ok(cx_clahe_make(1e300, 1, 1, 16384, 16384, &c, err));
    assert_int_equal(c.limit, 1 << 28);
}

/* ---- BEASF ----------------------------------------------------------------------------------------------------------- */

/* The formula at the head of src/image/beasf.c, written down once more; exp for every grey. NaN where a part is a point. */
static double beasf_grey(const uint8_t *px, int n, double gamma, int t)
{
    double sum = 0, s[3];
    for (int i = 0; i < n; i++)
        sum += px[i];
    int m = (int)floor(sum / n), from = t <= m ? 0 : m, to = t <= m ? m : 255, all = 0, h = from;
    for (int i = 0; i < n; i++)
        all += px[i] >= from && px[i] <= to;
    for (int below = 0; h <= to; h++) {
        for (int i = 0; i < n; i++)
            below += px[i] == h;
        if (below > 0.5 * all)
            break;
    }
    for (int k = 0; k < 3; k++)
        s[k] = 1 / (1 + exp(-gamma * 5 * ((k == 0 ? from : k == 1 ? to : t) - h) / (to - from)));
    return from + (to - from) * (s[2] - s[0]) / (s[1] - s[0]);
}

static void some_film(int kind, uint8_t *px, int n)
{
    cx_rng r = cx_rng_new(11, (uint64_t)kind);
    for (int i = 0; i < n; i++) {
        int noise = (int)cx_rng_below(&r, 256), two = noise > 250 ? 255 : 0;
        px[i] = (uint8_t)(kind == 0 ? noise : kind == 1 ? 20 + noise / 4 + i % 3 * 45 : kind == 2 ? noise * noise / 255 : kind == 3 ? two : 254 + noise % 2);
    }
}

/* Rounded to the nearest grey, where the formula does not lie within 1e-6 of the middle of two. */
static void beasf_is_its_formula(void **state)
{
    (void)state;
    static const double gammas[] = { 1e-4, 0.1, 0.5, 1, 1.5, 4, 30 };
    enum { N = 23 * 17 };
    uint8_t px[N], out[N];
    int compared = 0;
    for (int kind = 0; kind < 5; kind++)
        for (int g = 0; g < CX_COUNT(gammas); g++) {
            cx_beasf b;
            bool seen[256] = { false };
            some_film(kind, px, N);
            assert_cx_ok(cx_beasf_make(gammas[g], &b, err));
            cx_beasf_apply(&b, px, N, out);
            for (int i = 0; i < N; i++) {
                if (seen[px[i]])
                    continue;
                double want = beasf_grey(px, N, gammas[g], px[i]), off = fabs(want - floor(want) - 0.5);
                seen[px[i]] = true;
                if (off > 1e-6 && out[i] != (int)floor(want + 0.5))
                    fail_msg("film %d, gamma %g: %d becomes %d, want %.9g", kind, gammas[g], px[i], out[i], want);
                compared += off > 1e-6;
            }
        }
    assert_true(compared > 2000);
}

/* What divides by zero in the formula: a part that is one grey, a sigmoid that does not rise. */
static void beasf_keeps_what_has_no_contrast(void **state)
{
    (void)state;
    static const uint8_t constants[] = { 0, 1, 90, 254, 255 };
    static const double gammas[] = { 5e-324, 1e-12, 1.5, 1e300 };
    uint8_t px[256], out[256];
    for (int g = 0; g < CX_COUNT(gammas); g++) {
        cx_beasf b;
        assert_cx_ok(cx_beasf_make(gammas[g], &b, err));
        for (int k = 0; k < CX_COUNT(constants); k++) {
            memset(px, constants[k], sizeof px);
            cx_beasf_apply(&b, px, 1, out);
            assert_int_equal(out[0], constants[k]);              /* its own mean, which both parts leave where it is */
            cx_beasf_apply(&b, px, 256, out);
            assert_memory_equal(out, px, 256);
        }
        for (int i = 0; i < 256; i++)
            px[i] = (uint8_t)i;
        cx_beasf_apply(&b, px, 256, out);
        for (int i = 1; i < 256; i++)
            assert_true(out[i] >= out[i - 1] && (gammas[g] > 1 || out[i] == px[i]));
        assert_true(out[0] == 0 && out[127] == 127 && out[255] == 255);
        cx_beasf_apply(&b, px, 256, px);
        assert_memory_equal(px, out, 256);
    }
}

static void beasf_refuses(void **state)
{
    (void)state;
    cx_beasf b;
    assert_cx_fails(CX_E_CONFIG, "gamma 0", cx_beasf_make(0, &b, err));
    assert_cx_fails(CX_E_CONFIG, "gamma -1.5", cx_beasf_make(-1.5, &b, err));
    assert_cx_fails(CX_E_CONFIG, "gamma", cx_beasf_make(NAN, &b, err));
    assert_cx_fails(CX_E_CONFIG, "gamma inf", cx_beasf_make(INFINITY, &b, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clahe_is_opencvs), cmocka_unit_test(clahe_is_opencvs_on_real_films), cmocka_unit_test(clahe_refuses),
        cmocka_unit_test(beasf_is_its_formula), cmocka_unit_test(beasf_keeps_what_has_no_contrast), cmocka_unit_test(beasf_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
