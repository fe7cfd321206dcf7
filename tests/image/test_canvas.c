/* test_canvas.c - drawing: clipping, text, heat's formula, and the PNG that comes out. */
#include "support.h"
#include "cxnet/image.h"

static const uint8_t *at(const cx_canvas *c, int x, int y)
{
    return c->px + ((size_t)y * (size_t)c->width + (size_t)x) * 3;
}

static int count(const cx_canvas *c, uint8_t red)
{
    int n = 0;
    for (int i = 0; i < c->width * c->height; i++)
        n += c->px[3 * i] == red;
    return n;
}

static void rectangles_are_clipped(void **state)
{
    (void)state;
    static const struct { int x, y, w, h, inside; } cases[] = {
        { 0, 0, 20, 10, 200 }, { -5, -5, 10, 10, 25 }, { 18, 8, 100, 100, 4 }, { 20, 0, 5, 5, 0 }, { -9, 0, 9, 9, 0 }, { 3, 3, 0, 5, 0 }, { 3, 3, -4, 5, 0 },
        { -2147483647, 0, 2147483647, 10, 0 }, { 2147483647, 0, 2147483647, 10, 0 }, { -1, -1, 2147483647, 2147483647, 200 },
    };
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cx_canvas c;
        assert_cx_ok(cx_canvas_new(20, 10, (cx_rgb) { 1, 2, 3 }, &c, err));
        cx_canvas_rect(&c, cases[i].x, cases[i].y, cases[i].w, cases[i].h, (cx_rgb) { 200, 0, 0 });
        assert_int_equal(count(&c, 200), cases[i].inside);
        cx_canvas_free(&c);
    }
    cx_canvas c;
    assert_cx_fails(CX_E_SHAPE, "0 x 5", cx_canvas_new(0, 5, (cx_rgb) { 0 }, &c, err));
}

static void text_has_every_letter(void **state)
{
    (void)state;
    cx_canvas c;
    uint64_t seen[95];
    assert_cx_ok(cx_canvas_new(6, 8, (cx_rgb) { 0 }, &c, err));
    for (int k = 0; k < 95; k++) {
        char text[2] = { (char)(32 + k), 0 };
        cx_canvas_rect(&c, 0, 0, 6, 8, (cx_rgb) { 0 });
        assert_int_equal(cx_canvas_text(&c, 0, 0, 1, (cx_rgb) { 255, 255, 255 }, text), 6);
        seen[k] = 0;
        for (int i = 0; i < 48; i++)
            seen[k] |= (uint64_t)(c.px[3 * i] != 0) << i;
        for (int j = 0; j < k; j++)
            assert_true(seen[j] != seen[k]);                      /* no two letters alike */
        assert_true(k == 0 || seen[k] != 0);
        for (int y = 0; y < 8; y++)
            assert_int_equal(*at(&c, 5, y), 0);                   /* a gap to the next letter */
    }
    assert_int_equal(cx_text_width_px("abc", 2), 36);
    assert_int_equal(cx_text_width_px("\xc3\xa4", 1), 6);          /* one '?' for one character of UTF-8 */
    cx_canvas_text(&c, -3, -4, 3, (cx_rgb) { 255, 255, 255 }, "clipped \x01\xff");
    cx_canvas_free(&c);
}

static void heat_mixes_as_documented(void **state)
{
    (void)state;
    cx_canvas c;
    static const float heat[4] = { 0, 0.25f, 1, 7 };
    assert_cx_ok(cx_canvas_new(4, 1, (cx_rgb) { 100, 100, 100 }, &c, err));
    assert_cx_ok(cx_canvas_heat(&c, heat, 4, 1, 0, 0, 4, 1, 0.5, err));
    for (int i = 0; i < 4; i++) {
        double v = heat[i] > 1 ? 1 : (double)heat[i], a = 0.5 * v * (2 - v);
        cx_rgb m = cx_inferno(v);
        assert_int_equal(at(&c, i, 0)[0], (int)floor((1 - a) * 100 + a * m.r + 0.5));
        assert_int_equal(at(&c, i, 0)[2], (int)floor((1 - a) * 100 + a * m.b + 0.5));
    }
    cx_canvas_free(&c);
    static const float faint = 0.005f;                             /* the dark end of the map must not show as a shadow */
    assert_cx_ok(cx_canvas_new(1, 1, (cx_rgb) { 255, 255, 255 }, &c, err));
    assert_cx_ok(cx_canvas_heat(&c, &faint, 1, 1, 0, 0, 1, 1, 0.75, err));
    assert_true(at(&c, 0, 0)[0] >= 252);
    cx_canvas_free(&c);
    assert_int_equal(cx_inferno(-1).r, cx_inferno(0).r);
    assert_int_equal(cx_inferno(2).g, 255);
    assert_int_equal(cx_inferno(NAN).g, 0);
    for (int i = 1; i < 256; i++) {                                /* lightness only rises: what the map is for */
        cx_rgb a = cx_inferno((i - 1) / 255.0), b = cx_inferno(i / 255.0);
        assert_true(0.2126 * b.r + 0.7152 * b.g + 0.0722 * b.b > 0.2126 * a.r + 0.7152 * a.g + 0.0722 * a.b - 1);
    }
}

static void film_and_png(void **state)
{
    (void)state;
    uint16_t px[6] = { 0, 13107, 26214, 39321, 52428, 65535 };     /* steps of a fifth of white */
    cx_film f = { .width = 3, .height = 2, .max = 65535, .px = px };
    cx_canvas c;
    cx_buf png = { 0 };
    cx_film back;
    assert_cx_ok(cx_canvas_new(5, 4, (cx_rgb) { 9, 9, 9 }, &c, err));
    assert_cx_ok(cx_canvas_film(&c, &f, 1, 1, 3, 2, err));
    assert_int_equal(at(&c, 1, 1)[0], 0);
    assert_int_equal(at(&c, 2, 1)[1], 51);
    assert_int_equal(at(&c, 3, 2)[2], 255);
    assert_int_equal(at(&c, 4, 3)[0], 9);
    assert_cx_ok(cx_canvas_film(&c, &f, -2, 3, 300, 200, err));
    assert_cx_ok(cx_png_rgb(&c, &png, err));
    assert_cx_ok(cx_film_decode("canvas.png", png.data, png.len, &back, err));
    assert_int_equal(back.channels, 3);
    for (int i = 0; i < 20; i++)
        assert_int_equal(back.px[i], c.px[3 * i]);
    cx_film_free(&back);
    cx_buf_free(&png);
    cx_canvas_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rectangles_are_clipped), cmocka_unit_test(text_has_every_letter), cmocka_unit_test(heat_mixes_as_documented),
        cmocka_unit_test(film_and_png),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
