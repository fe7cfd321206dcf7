/* test_resize.c - resampling against PIL (BILINEAR on mode F) and PyTorch (interpolate); OpenCV's filters are in test_pipeline.c. */
#include "golden.h"

static void against_oracles(void **state)
{
    (void)state;
    cx_csv csv;
    cx_buf file = { 0 };
    assert_cx_ok(cx_csv_load(GOLDEN "resize.csv", &csv, err));
    const float *v = npy_load(GOLDEN "resize.npy", &file);
    for (int r = 1; r < csv.rows; r++) {
        int sw = csv_int(&csv, r, "sw"), sh = csv_int(&csv, r, "sh"), dw = csv_int(&csv, r, "dw"), dh = csv_int(&csv, r, "dh");
        float *out = cx_alloc((size_t)dw, (size_t)dh * sizeof(float));
        /* values are 0..255; PIL rounds to float32 between its passes, PyTorch has float32 source positions (up to 101 px: 4e-6) */
        assert_cx_ok(cx_resize(v + csv_int(&csv, r, "src"), sw, sh, out, dw, dh, CX_RESIZE_AREA, err));
        assert_close("area", out, v + csv_int(&csv, r, "area"), (int64_t)dw * dh, 0, 1e-6);
        assert_cx_ok(cx_resize(v + csv_int(&csv, r, "src"), sw, sh, out, dw, dh, CX_RESIZE_BILINEAR, err));
        assert_close("bilinear", out, v + csv_int(&csv, r, "bilinear"), (int64_t)dw * dh, 0, 1e-5);
        free(out);
    }
    assert_int_equal(csv.rows, 1 + 8);
    cx_buf_free(&file);
    cx_csv_free(&csv);
}

static void keeps_constants_and_identity(void **state)
{
    (void)state;
    float src[15 * 9], out[40 * 40];
    for (int i = 0; i < 15 * 9; i++)
        src[i] = 7.25f;
    for (int kind = 0; kind <= CX_RESIZE_CV_CUBIC; kind++) {
        assert_cx_ok(cx_resize(src, 15, 9, out, 4, 40, (cx_resize_kind)kind, err));
        for (int i = 0; i < 160; i++)
            assert_true(fabsf(out[i] - 7.25f) < 1e-6f);
    }
    for (int i = 0; i < 15 * 9; i++)
        src[i] = (float)(i * i % 97) / 7;
    for (int kind = 0; kind <= CX_RESIZE_CV_CUBIC; kind++) {
        assert_cx_ok(cx_resize(src, 15, 9, out, 15, 9, (cx_resize_kind)kind, err));
        assert_memory_equal(out, src, sizeof src);
    }
    assert_cx_fails(CX_E_SHAPE, "0 x 9", cx_resize(src, 15, 9, out, 0, 9, CX_RESIZE_AREA, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(against_oracles), cmocka_unit_test(keeps_constants_and_identity) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
