/* test_mask.c - components, holes and growth of masks against SciPy and OpenCV, and what they must keep. */
#include "golden.h"

static void against_oracles(void **state)
{
    (void)state;
    cx_csv csv;
    cx_buf file = { 0 };
    assert_cx_ok(cx_csv_load(GOLDEN "mask.csv", &csv, err));
    const uint8_t *v = npy_load(GOLDEN "mask.npy", &file);
    for (int r = 1; r < csv.rows; r++) {
        const int w = csv_int(&csv, r, "width"), h = csv_int(&csv, r, "height"), n = w * h;
        const uint8_t *in = v + csv_int(&csv, r, "at");
        uint8_t *mask = cx_alloc((size_t)n, 1);
        memcpy(mask, in, (size_t)n);
        assert_cx_ok(cx_mask_clean(mask, w, h, 2, CX_LUNG_LEAST, err));
        if (memcmp(mask, in + n, (size_t)n) != 0)
            fail_msg("row %d: not SciPy's two largest components without holes", r);
        assert_cx_ok(cx_mask_clean(mask, w, h, 2, CX_LUNG_LEAST, err));
        assert_memory_equal(mask, in + n, n);                      /* clean is clean */
        assert_cx_ok(cx_mask_dilate(mask, w, h, csv_int(&csv, r, "radius"), err));
        if (memcmp(mask, in + 2 * n, (size_t)n) != 0)
            fail_msg("row %d: not OpenCV's dilation", r);
        free(mask);
    }
    assert_int_equal(csv.rows, 1 + 12);
    cx_buf_free(&file);
    cx_csv_free(&csv);
}

/* "ab" with a of 4 px, b of 2, and a speck; a hole in a. */
static void keeps_what_it_says(void **state)
{
    (void)state;
    static const uint8_t in[5 * 9] = {
        1, 1, 1, 0, 0, 0, 0, 0, 0,
        1, 0, 1, 0, 7, 7, 0, 0, 0,
        1, 1, 1, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 255,
    };
    int64_t px[2] = { -1, -1 };
    assert_int_equal(cx_mask_parts(in, 9, 5, px, 2), 3);          /* before anything is cleaned */
    assert_int_equal(px[0], 8);
    assert_int_equal(px[1], 2);
    static const struct { int keep; double least; int64_t px; cx_box box; } cases[] = {
        { 1, 0, 9, { 0, 0, 3, 3 } }, { 2, 0, 11, { 0, 0, 6, 3 } }, { 3, 0, 12, { 0, 0, 9, 5 } }, { 9, 0, 12, { 0, 0, 9, 5 } },
        { 3, 0.2, 11, { 0, 0, 6, 3 } },              /* shares are taken before holes are filled: 1 of 8 px */
        { 3, 0.3, 9, { 0, 0, 3, 3 } }, { 0, 0, 0, { 0, 0, 0, 0 } },
    };
    uint8_t mask[5 * 9];
    cx_box box;
    for (int k = 0; k < CX_COUNT(cases); k++) {
        memcpy(mask, in, sizeof mask);
        assert_cx_ok(cx_mask_clean(mask, 9, 5, cases[k].keep, cases[k].least, err));
        assert_int_equal(cx_mask_box(mask, 9, 5, &box), cases[k].px);
        assert_memory_equal(&box, &cases[k].box, sizeof box);
    }
    assert_cx_fails(CX_E_SHAPE, "0 x 5 px", cx_mask_clean(mask, 0, 5, 2, 0, err));
    assert_cx_fails(CX_E_SHAPE, "9 x 16385 px", cx_mask_dilate(mask, 9, 16385, 2, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(against_oracles), cmocka_unit_test(keeps_what_it_says) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
