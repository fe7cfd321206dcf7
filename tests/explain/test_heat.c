/* test_heat.c - overlays and heat shares. */
#include "support.h"
#include "cxnet/explain.h"

static void share_of_a_mask(void **state)
{
    (void)state;
    static const float even[4] = { 2, 2, 2, 2 }, corner[4] = { 1, 0, 0, 0 }, none[4] = { 0, 0, 0, -3 };
    uint8_t left[64], all[64];
    for (int i = 0; i < 64; i++) {
        left[i] = i % 8 < 4 ? 255 : 0;
        all[i] = 1;
    }
    assert_true(fabs(cx_heat_share(even, 2, 2, left, 8) - 0.5) < 1e-9);
    assert_true(fabs(cx_heat_share(corner, 2, 2, all, 8) - 1) < 1e-9);
    /* bilinear from 2 to 8 pixels, one axis: columns 0 and 1 have weight 1, then 7/8, 5/8, 3/8, 1/8, 0, 0; 3.5 of 4 lie left */
    assert_true(fabs(cx_heat_share(corner, 2, 2, left, 8) - 3.5 / 4) < 1e-6);
    assert_true(isnan(cx_heat_share(none, 2, 2, all, 8)));
}

/* Grey of the overlay's pixel at the middle of map cell (i, j) of the right panel, both decoded with their colours lost. */
static cx_film overlay(const cx_film *f, const cx_place *place, const float *map, double scale, const char *caption)
{
    cx_buf png = { 0 };
    cx_film out;
    assert_cx_ok(cx_overlay_png(f, place, NULL, map, 2, 2, scale, caption, &png, err));
    assert_cx_ok(cx_film_decode("overlay.png", png.data, png.len, &out, err));
    cx_buf_free(&png);
    return out;
}

static void overlays(void **state)
{
    (void)state;
    uint16_t px[40 * 20];
    for (int i = 0; i < 800; i++)
        px[i] = 100;
    cx_film f = { .width = 40, .height = 20, .max = 255, .px = px };
    static const float map[4] = { 0, 2, 0, 0 }, none[4] = { 0 };
    cx_film own = overlay(&f, NULL, map, 0, "COVID-19 0.91"), fixed = overlay(&f, NULL, map, 8, "COVID-19 0.91"), cold = overlay(&f, NULL, none, 0, "x");
    assert_int_equal(own.width, fixed.width);
    assert_true(own.width > 2 * 384 && own.height > 192 && own.height < 300);
    size_t hot = (size_t)30 * (size_t)own.width + (size_t)(12 + 384 + 12 + 380), film = (size_t)30 * (size_t)own.width + 12 + 380;
    assert_int_equal(own.px[film], 100);                          /* the left panel is the film */
    assert_true(own.px[hot] > fixed.px[hot] + 20);                /* the same heat is weaker on a scale that goes further */
    assert_int_equal(cold.px[hot], 100);                          /* no heat, no colour */
    assert_true(own.colour > 0 && cold.colour == 0);
    static const uint8_t left[8] = { 1, 1, 0, 0, 1, 1, 0, 0 };
    cx_buf png = { 0 };
    cx_film marked;
    assert_cx_ok(cx_overlay_png(&f, NULL, &(cx_outline){ left, 4, 2 }, none, 2, 2, 0, "x", &png, err));
    assert_cx_ok(cx_film_decode("marked.png", png.data, png.len, &marked, err));
    const size_t edge = (size_t)(12 + 96) * (size_t)marked.width + 12 + 191, inside = edge - 100, right = 384 + 12;
    assert_true(marked.colour > 0 && marked.px[edge] != 100 && marked.px[edge + right] != 100);       /* its outline, in both panels */
    assert_true(marked.px[inside] == 100 && marked.px[inside + right] == 100 && marked.px[edge + 2] == 100);
    cx_film_free(&marked);
    cx_buf_free(&png);
    cx_film tall = overlay(&f, NULL, map, 0, "one line\nanother line that is so long that it cannot stand in one row of a picture of this width");
    assert_int_equal(tall.height, own.height + 2 * 22);           /* three lines instead of one */
    cx_film_free(&own);
    cx_film_free(&fixed);
    cx_film_free(&cold);
    cx_film_free(&tall);
    cx_film thin = { .width = 800, .height = 1, .max = 255, .px = px };
    cx_film long_one = overlay(&thin, NULL, map, 0, "");
    assert_true(long_one.height >= 128);
    cx_film_free(&long_one);
}

/* A network that saw the right half of the film, or the film between black bars: its heat lies there, and nothing is drawn beside the film. */
static void heat_lies_where_the_network_looked(void **state)
{
    (void)state;
    enum { LEFT = 12 + 384 + 12 };
    static const float map[4] = { 1, 1, 1, 1 };
    static const cx_place right = { 20, 0, 20, 20 }, square = { 0, -10, 40, 40 };
    uint16_t px[40 * 20];
    for (int i = 0; i < 800; i++)
        px[i] = 100;
    cx_film f = { .width = 40, .height = 20, .max = 255, .px = px };
    cx_film half = overlay(&f, &right, map, 0, "x"), bars = overlay(&f, &square, map, 0, "x"), whole = overlay(&f, NULL, map, 0, "x");
    const size_t row = (size_t)100 * (size_t)half.width, above = (size_t)6 * (size_t)half.width + LEFT + 100;
    assert_int_equal(half.px[row + LEFT + 185], 100 / 4);          /* dimmed: it was not seen */
    assert_true(half.px[row + LEFT + 195] > 130);
    assert_int_equal(half.px[row + LEFT + 383], half.px[row + LEFT + 195]);
    assert_int_equal(bars.px[above], whole.px[above]);            /* the paper */
    assert_memory_equal(bars.px, whole.px, (size_t)bars.width * 200 * sizeof *bars.px);       /* even heat: the film's part of it is all of the film */
    cx_film_free(&half);
    cx_film_free(&bars);
    cx_film_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(share_of_a_mask), cmocka_unit_test(overlays),
        cmocka_unit_test(heat_lies_where_the_network_looked) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
