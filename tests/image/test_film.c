/* test_film.c - decoded films against PIL, for every kind of file, and the real films where they are. */
#include "golden.h"
#include <dirent.h>
#include <jpeglib.h>

static void expected_values(void **state)
{
    (void)state;
    cx_csv csv;
    cx_buf file = { 0 };
    assert_cx_ok(cx_csv_load(GOLDEN "expected.csv", &csv, err));
    const uint16_t *want = npy_load(GOLDEN "expected.npy", &file);
    for (int r = 1; r < csv.rows; r++) {
        const char *name = csv_text(&csv, r, "file");
        char *path = cx_path_join(GOLDEN, name);
        cx_film f;
        assert_cx_ok(cx_film_load(path, &f, err));
        assert_int_equal(f.width, 37);
        assert_int_equal(f.height, 29);
        assert_int_equal(f.max, csv_int(&csv, r, "max"));
        const uint16_t *w = want + csv_int(&csv, r, "offset");
        for (int i = 0; i < 37 * 29; i++)
            if (f.px[i] != w[i])
                fail_msg("%s: pixel %d is %d, PIL has %d", name, i, f.px[i], w[i]);
        assert_string_equal(cx_file_type_name(f.type), csv_text(&csv, r, "type"));
        assert_int_equal(f.channels, csv_int(&csv, r, "channels"));
        assert_int_equal(f.bits, csv_int(&csv, r, "bits"));
        assert_int_equal(f.alpha, csv_int(&csv, r, "alpha"));
        assert_int_equal(f.interlaced, csv_int(&csv, r, "interlaced"));
        assert_int_equal(f.palette, csv_int(&csv, r, "palette"));
        assert_int_equal(f.cmyk, csv_int(&csv, r, "cmyk"));
        assert_int_equal(f.progressive, csv_int(&csv, r, "progressive"));
        assert_true(fabs(f.colour - atof(csv_text(&csv, r, "colour"))) < 1e-8);
        assert_true(cx_extension_fits(path, f.type));
        cx_film_free(&f);
        free(path);
    }
    assert_int_equal(csv.rows, 1 + 34);
    cx_buf_free(&file);
    cx_csv_free(&csv);
}

/* A CMYK picture of one colour, stored as CMYK or YCCK, as Adobe does (inverted, with its marker) or plain. */
static void put_cmyk(J_COLOR_SPACE stored, bool adobe, const uint8_t cmyk[4], unsigned char **data, unsigned long *n)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr manager;
    uint8_t row[16 * 4];
    JSAMPROW rows = row;
    c.err = jpeg_std_error(&manager);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, data, n);
    c.image_width = c.image_height = 16;
    c.input_components = 4;
    c.in_color_space = JCS_CMYK;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, stored);
    jpeg_set_quality(&c, 100, TRUE);
    c.write_Adobe_marker = adobe;
    for (int i = 0; i < 64; i++)
        row[i] = adobe ? 255 - cmyk[i % 4] : cmyk[i % 4];
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height)
        jpeg_write_scanlines(&c, &rows, 1);
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
}

/* Ink 0 is white whatever the file's convention; a file without Adobe's marker can only be plain CMYK (libjpeg cannot know YCCK without it). */
static void cmyk_conventions(void **state)
{
    (void)state;
    static const uint8_t inks[][4] = { { 0, 0, 0, 0 }, { 0, 0, 0, 255 }, { 40, 80, 120, 30 }, { 255, 0, 0, 0 } };
    static const struct { J_COLOR_SPACE stored; bool adobe; } kinds[] = { { JCS_CMYK, true }, { JCS_YCCK, true }, { JCS_CMYK, false } };
    for (int k = 0; k < CX_COUNT(kinds); k++)
        for (int i = 0; i < CX_COUNT(inks); i++) {
            unsigned char *data = NULL;
            unsigned long n = 0;
            cx_film f;
            put_cmyk(kinds[k].stored, kinds[k].adobe, inks[i], &data, &n);
            assert_cx_ok(cx_film_decode("cmyk.jpg", data, n, &f, err));
            double light = (255.0 - inks[i][3]) / 255;
            double want = light * (0.299 * (255 - inks[i][0]) + 0.587 * (255 - inks[i][1]) + 0.114 * (255 - inks[i][2]));
            if (fabs(f.px[100] - want) > 3)                        /* two colour conversions at quality 100 */
                fail_msg("kind %d, ink %d: grey %d, want %g", k, i, f.px[100], want);
            assert_true(f.cmyk);
            cx_film_free(&f);
            free(data);
        }
}

static void types_and_extensions(void **state)
{
    (void)state;
    assert_true(cx_extension_fits("a/b.PNG", CX_PNG));
    assert_true(cx_extension_fits("x.jfif", CX_JPEG) && cx_extension_fits("x.Jpe", CX_JPEG) && cx_extension_fits("x.jpeg", CX_JPEG));
    assert_true(cx_extension_fits("x.webp", CX_WEBP));
    assert_false(cx_extension_fits("x.png", CX_JPEG));
    assert_false(cx_extension_fits("x.jpg", CX_UNKNOWN_TYPE));
    assert_false(cx_extension_fits("a.png/film", CX_PNG));
    assert_int_equal(cx_file_type_of("\xff\xd8\xff", 3), CX_JPEG);
    assert_int_equal(cx_file_type_of("\xff\xd8", 2), CX_UNKNOWN_TYPE);
    assert_string_equal(cx_file_type_name(CX_WEBP), "WebP");
}

static void write_and_read_back(void **state)
{
    (void)state;
    enum { W = 23, H = 11 };
    uint16_t px[W * H];
    for (int max = 255; max <= 65535; max += 65280) {
        cx_buf png = { 0 };
        cx_film f;
        for (int i = 0; i < W * H; i++)
            px[i] = (uint16_t)(i * 2654435761u >> (max == 255 ? 24 : 16));
        cx_buf_puts(&png, "before");
        assert_cx_ok(cx_png_grey(px, W, H, max, &png, err));
        assert_cx_ok(cx_film_decode("x.png", png.data + 6, png.len - 6, &f, err));
        assert_int_equal(f.max, max);
        assert_memory_equal(f.px, px, sizeof px);
        cx_film_free(&f);
        cx_buf_free(&png);
    }
    cx_buf png = { 0 };
    assert_cx_fails(CX_E_USAGE, "255 or 65535", cx_png_grey(px, W, H, 4095, &png, err));
    assert_cx_fails(CX_E_SHAPE, "0 x 11", cx_png_grey(px, 0, H, 255, &png, err));
    assert_int_equal(png.len, 0);
}

static void real_films(void **state)
{
    (void)state;
    SHARED_OR_SKIP("data/native");
    DIR *dir = opendir("../shared/data/native");
    assert_non_null(dir);
    int good = 0, refused = 0, wrong = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char *path = cx_path_join("../shared/data/native", e->d_name);
        cx_film f;
        cx_error err = { 0 };
        if (!cx_is_dir(path)) {
            cx_status s = cx_film_load(path, &f, &err);
            if (s == CX_OK) {
                good++;
                if (!cx_extension_fits(path, f.type)) {
                    wrong++;
                    print_message("%s is a %s\n", e->d_name, cx_file_type_name(f.type));
                }
            } else {
                refused++;
                print_message("refused: %s\n", err.text);
                assert_int_equal(s, CX_E_DATA);
                assert_non_null(strstr(err.text, e->d_name));
            }
            cx_film_free(&f);
        }
        free(path);
    }
    closedir(dir);
    print_message("%d films decoded, %d of them with a wrong extension, %d refused\n", good, wrong, refused);
    assert_true(good > refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expected_values), cmocka_unit_test(cmyk_conventions), cmocka_unit_test(types_and_extensions),
        cmocka_unit_test(write_and_read_back), cmocka_unit_test(real_films),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
