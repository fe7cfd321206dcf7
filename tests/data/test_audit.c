/* test_audit.c - the audit of a cohort: flaws named, copies found and strangers left alone, tables and confounding right, JSON readable, never a crash. */
#include <dirent.h>
#include <jansson.h>
#include <omp.h>
#include <unistd.h>
#include "support.h"
#include "cxnet/data.h"

enum { SIDE = 128 };
static char folder[64];

static void put_bytes(const char *name, const void *data, size_t n)
{
    char *path = cx_path_join(folder, name);
    assert_cx_ok(cx_file_write(path, data, n, err));
    free(path);
}

static void put_grey(const char *name, const uint16_t *px, int w, int h, int max)
{
    cx_buf png = { 0 };
    assert_cx_ok(cx_png_grey(px, w, h, max, &png, err));
    put_bytes(name, png.data, png.len);
    cx_buf_free(&png);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/cxnet_audit_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *path = cx_path_join(folder, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
        free(path);
    }
    if (d)
        closedir(d);
    return rmdir(folder);
}

static void load(const char *csv, cx_manifest *m)
{
    put_bytes("manifest.csv", csv, strlen(csv));
    char *path = cx_path_join(folder, "manifest.csv");
    assert_cx_ok(cx_manifest_load(path, m, err));
    free(path);
}

static cx_synth cohort(int patients)
{
    cx_synth s;
    assert_cx_ok(cx_synth_make(&(cx_synth_opts){ patients, SIDE, 11, 0, 0 }, &s, err));
    return s;
}

/* A film's window x, y, w, h with a border around, grey' = gain * grey + offset. */
static void put_version(const char *name, const uint8_t *film, int x, int y, int w, int h, int border, double gain, double offset)
{
    int ow = w + 2 * border, oh = h + 2 * border;
    uint16_t *px = calloc((size_t)(ow * oh), sizeof *px);
    for (int j = 0; j < h; j++)
        for (int i = 0; i < w; i++) {
            double v = gain * film[(y + j) * SIDE + x + i] + offset;
            px[(j + border) * ow + i + border] = (uint16_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    put_grey(name, px, ow, oh, 255);
    free(px);
}

/* Copies in other containers, frames and exposures are found; other films of the same person and of other people are not called copies. */
static void test_copies_and_strangers(void **state)
{
    (void)state;
    cx_synth s = cohort(20);
    cx_buf csv = { 0 };
    cx_buf_puts(&csv, "path,patient_id\n");
    for (int i = 0; i < s.n; i++) {
        char name[32];
        snprintf(name, sizeof name, "film%03d.png", i);
        put_version(name, s.film + (size_t)i * SIDE * SIDE, 0, 0, SIDE, SIDE, 0, 1, 0);
        cx_buf_printf(&csv, "%s,p%d\n", name, s.patient[i]);
    }
    const uint8_t *first = s.film, *second = s.film + 5 * SIDE * SIDE;
    put_version("z0.png", first, 0, 0, SIDE, SIDE, 0, 1, 0);              /* the same pixels */
    put_version("z1.png", first, 0, 0, SIDE, SIDE, 20, 1, 0);             /* a wide black frame */
    put_version("z2.png", first, 0, 0, SIDE, SIDE, 0, 0.7, 40);           /* another exposure */
    put_version("z3.png", second, 2, 2, SIDE - 4, SIDE - 4, 0, 1, 0);     /* cropped by a little */
    cx_buf_puts(&csv, "z0.png,\nz1.png,\nz2.png,\nz3.png,\n");
    cx_manifest m;
    load(csv.data, &m);
    cx_audit a;
    assert_cx_ok(cx_audit_run(&m, &a, err));
    int exact = 0, n = s.n;
    for (int k = 0; k < a.n_pairs; k++) {
        const cx_pair *p = &a.pairs[k];
        assert_true(p->a < p->b);
        exact += p->exact;
        if (p->exact)
            assert_true(p->a == 0 && p->b == n);
        if (p->b < n)
            assert_string_equal(m.samples[p->a].patient_id, m.samples[p->b].patient_id);
    }
    assert_int_equal(exact, 1);
    for (int k = 0; k < 3; k++)
        assert_int_equal(a.cluster[n + k], 0);
    assert_int_equal(a.cluster[n + 3], a.cluster[5]);
    assert_true(a.cluster[5] != 0);
    cx_audit_free(&a);
    cx_manifest_free(&m);
    cx_buf_free(&csv);
    cx_synth_free(&s);
}

static void test_same_for_any_threads(void **state)
{
    (void)state;
    cx_synth s = cohort(12);
    cx_buf csv = { 0 };
    cx_buf_puts(&csv, "path\n");
    for (int i = 0; i < 2 * s.n; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%03d.png", i);
        put_version(name, s.film + (size_t)(i % s.n) * SIDE * SIDE, 0, 0, SIDE, SIDE, 0, 1, i < s.n ? 0 : 3);
        cx_buf_printf(&csv, "%s\n", name);
    }
    cx_manifest m;
    load(csv.data, &m);
    cx_audit a, b;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    assert_cx_ok(cx_audit_run(&m, &a, err));
    omp_set_num_threads(4);
    assert_cx_ok(cx_audit_run(&m, &b, err));
    omp_set_num_threads(threads);
    assert_true(a.n_pairs >= s.n);
    assert_int_equal(a.n_pairs, b.n_pairs);
    assert_memory_equal(a.cluster, b.cluster, sizeof(int) * (size_t)m.n);
    for (int k = 0; k < a.n_pairs; k++)
        assert_true(a.pairs[k].a == b.pairs[k].a && a.pairs[k].b == b.pairs[k].b && a.pairs[k].likeness == b.pairs[k].likeness);
    cx_audit_free(&a);
    cx_audit_free(&b);
    cx_manifest_free(&m);
    cx_buf_free(&csv);
    cx_synth_free(&s);
}

static json_t *json_of(const cx_manifest *m, const cx_audit *a)
{
    cx_buf text = { 0 };
    assert_cx_ok(cx_audit_json(m, a, &text, err));
    json_error_t why;
    json_t *root = json_loads(text.data, 0, &why);
    if (!root)
        fail_msg("JSON: %s", why.text);
    cx_buf_free(&text);
    return root;
}

static int count_of(const json_t *root, const char *key)
{
    const json_t *v = json_object_get(json_object_get(root, "counts"), key);
    assert_true(json_is_integer(v));
    return (int)json_integer_value(v);
}

static char *page_of(const cx_manifest *m, const cx_audit *a)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    cx_audit_print(m, a, f);
    fclose(f);
    return text;
}

static void test_flaws_are_named(void **state)
{
    (void)state;
    cx_synth s = cohort(2);
    put_version("good.png", s.film, 0, 0, SIDE, SIDE, 0, 1, 0);
    put_version("jpeg.jpg", s.film, 0, 0, SIDE, SIDE, 0, 0.9, 0);                 /* a PNG in truth */
    put_version("small.png", s.film, 10, 10, 90, 100, 0, 1, 0);
    put_version("strip.png", s.film, 0, 10, SIDE, 62, 0, 1, 0);                   /* also tiny */
    uint16_t wide[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++)
        wide[i] = (uint16_t)(s.film[i] * 257);
    put_grey("deep.png", wide, SIDE, SIDE, 65535);
    for (int i = 0; i < SIDE * SIDE; i++)
        wide[i] = 90;
    put_grey("blank.png", wide, SIDE, SIDE, 255);
    cx_canvas c;
    assert_cx_ok(cx_canvas_new(SIDE, SIDE, (cx_rgb){ 80, 80, 80 }, &c, err));
    cx_canvas_rect(&c, 20, 20, 40, 40, (cx_rgb){ 255, 255, 0 });
    cx_canvas_rect(&c, 70, 80, 30, 20, (cx_rgb){ 255, 0, 0 });
    cx_canvas_rect(&c, 10, 90, 30, 30, (cx_rgb){ 255, 255, 255 });
    cx_buf png = { 0 };
    assert_cx_ok(cx_png_rgb(&c, &png, err));
    put_bytes("arrow.png", png.data, png.len);
    put_bytes("broken.png", png.data, png.len / 2);
    put_bytes("text.png", "this is no picture", 18);
    put_bytes("empty.png", "", 0);
    cx_manifest m;
    load("path,labels\ngood.png,A\njpeg.jpg,A\nsmall.png,A\nstrip.png,A\n"
         "deep.png,A\nblank.png,A\narrow.png,A\nbroken.png,A\ntext.png,A\nempty.png,A\nmissing.png,A\n", &m);
    cx_audit a;
    assert_cx_ok(cx_audit_run(&m, &a, err));
    json_t *root = json_of(&m, &a);
    static const struct { const char *key; int want; } count[] = { { "films", 11 }, { "decoded", 7 }, { "bad", 4 }, { "wrong_extension", 1 }, { "tiny", 2 },
        { "odd_shape", 1 }, { "more_than_8_bits", 1 }, { "without_contrast", 1 }, { "coloured", 1 }, { "png", 8 }, { "unknown_type", 3 } };
    for (int k = 0; k < CX_COUNT(count); k++)
        if (count_of(root, count[k].key) != count[k].want)
            fail_msg("%s: got %d, want %d", count[k].key, count_of(root, count[k].key), count[k].want);
    char *page = page_of(&m, &a);
    static const char *const said[] = { "broken.png", "text.png", "empty.png", "missing.png", "jpeg.jpg is a PNG file",
        "line 4: small.png (90 x 100 px)", "one source only" };
    for (int k = 0; k < CX_COUNT(said); k++)
        if (!strstr(page, said[k]))
            fail_msg("the page does not say \"%s\":\n%s", said[k], page);
    free(page);
    json_decref(root);
    cx_buf_free(&png);
    cx_canvas_free(&c);
    cx_audit_free(&a);
    cx_manifest_free(&m);
    cx_synth_free(&s);
}

/* A hand-counted cohort of 40 films: label and source tied as in a 2 x 2 table of [15 5; 5 15], so V = 0.5 and the source's AUROC 0.75. */
static void test_tables_and_confounding(void **state)
{
    (void)state;
    cx_buf csv = { 0 };
    cx_buf_puts(&csv, "path,labels,patient_id,age,view,source\n");
    for (int i = 0; i < 40; i++) {
        int in_one = i < 20, ill = in_one ? i < 15 : i < 25;
        cx_buf_printf(&csv, "absent%d.png,%s,p%d,%s,%s,%s\n", i, ill ? "Ill|Cough" : "Well", i / 2, i % 4 ? "50" : i == 8 ? "15" : "",
            i % 2 ? "PA" : "AP", in_one ? "one" : "two");
    }
    cx_manifest m;
    load(csv.data, &m);
    cx_audit a;
    assert_cx_ok(cx_audit_run(&m, &a, err));
    json_t *root = json_of(&m, &a);
    assert_int_equal(count_of(root, "bad"), 40);
    assert_int_equal(count_of(root, "patients"), 20);
    assert_int_equal(count_of(root, "children"), 1);
    assert_int_equal(count_of(root, "unknown_age"), 9);
    static const struct { const char *by, *row, *column; int films, patients; } cell[] = {
        { "source", "Ill", "one", 15, 8 }, { "source", "Ill", "two", 5, 3 }, { "source", "Cough", "one", 15, 8 }, { "source", "Well", "one", 5, 3 },
        { "source", "Well", "two", 15, 8 }, { "source", "all", "one", 20, 10 }, { "view", "all", "PA", 20, 20 }, { "view", "Ill", "AP", 11, 11 },
        { "age", "all", "< 16", 1, 1 }, { "age", "all", "40-59", 30, 20 }, { "age", "all", "(unknown)", 9, 9 }, { "age", "Well", "< 16", 0, 0 } };
    for (int k = 0; k < CX_COUNT(cell); k++) {
        json_t *at = json_object_get(json_object_get(json_object_get(json_object_get(root, "labels_by"), cell[k].by), cell[k].row), cell[k].column);
        int films = (int)json_integer_value(json_object_get(at, "films")), patients = (int)json_integer_value(json_object_get(at, "patients"));
        if (films != cell[k].films || patients != cell[k].patients)
            fail_msg("%s, %s, %s: got %d (%d), want %d (%d)", cell[k].by, cell[k].row, cell[k].column, films, patients, cell[k].films, cell[k].patients);
    }
    json_t *list = json_object_get(root, "confounding");
    assert_int_equal(json_array_size(list), 3);
    json_t *first = json_array_get(list, 0);
    assert_true(fabs(json_real_value(json_object_get(first, "cramers_v")) - 0.5) < 1e-6);
    assert_true(fabs(json_real_value(json_object_get(first, "auroc_of_source")) - 0.75) < 1e-6);
    assert_non_null(strstr(json_string_value(json_object_get(first, "sentence")), "75 % of the films of one have this label, 25 % of those of two"));
    json_decref(root);
    char *page = page_of(&m, &a);
    assert_non_null(strstr(page, "15 (8)"));
    assert_non_null(strstr(page, "and 30 more"));
    free(page);
    cx_audit_free(&a);
    cx_manifest_free(&m);
    cx_buf_free(&csv);
}

static void test_sheet(void **state)
{
    (void)state;
    cx_synth s = cohort(2);
    put_version("s0.png", s.film, 0, 0, SIDE, SIDE, 0, 1, 0);
    put_version("s1.png", s.film, 0, 0, SIDE, SIDE, 0, 1, 0);
    put_version("s2.png", s.film, 0, 0, SIDE, SIDE, 8, 1, 0);
    cx_manifest m;
    load("path\ns0.png\ns1.png\ns2.png\n", &m);
    cx_audit a;
    assert_cx_ok(cx_audit_run(&m, &a, err));
    assert_int_equal(a.n_pairs, 2);
    char *path = cx_path_join(folder, "sheet.png");
    cx_film f;
    assert_cx_ok(cx_audit_sheet(&m, &a, 10, path, err));
    assert_cx_ok(cx_film_load(path, &f, err));
    assert_true(f.width > 800 && f.height > 200);
    int bright = 0;
    for (int i = 0; i < f.width * f.height; i++)
        bright += f.px[i] > 100;
    assert_true(bright > 40000);                         /* four films are on it */
    cx_film_free(&f);
    a.n_pairs = 0;
    assert_cx_ok(cx_audit_sheet(&m, &a, 10, path, err));
    assert_cx_fails(CX_E_CREATE, "nowhere", cx_audit_sheet(&m, &a, 10, "/tmp/cxnet_nowhere/x/sheet.png", err));
    free(path);
    cx_audit_free(&a);
    cx_manifest_free(&m);
    cx_synth_free(&s);
}

/* Films as found in the wild: every one is classified. */
static void test_films_of_the_wild(void **state)
{
    (void)state;
    SHARED_OR_SKIP("data/native");
    cx_buf csv = { 0 };
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    cx_buf_puts(&csv, "path\n");
    DIR *d = opendir("../shared/data/native");
    int files = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            cx_buf_printf(&csv, "%s/../shared/data/native/%s\n", here, e->d_name);
            files++;
        }
    closedir(d);
    cx_manifest m;
    load(csv.data, &m);
    assert_int_equal(m.n, files);
    cx_audit a;
    assert_cx_ok(cx_audit_run(&m, &a, err));
    json_t *root = json_of(&m, &a);
    assert_int_equal(count_of(root, "decoded") + count_of(root, "bad"), files);
    assert_int_equal(count_of(root, "png") + count_of(root, "jpeg") + count_of(root, "webp") + count_of(root, "unknown_type"), files);
    static const struct { const char *name; cx_file_type type; } wrong[] = { { "766p.jpg", CX_WEBP }, { "770.png", CX_JPEG }, { "771.png", CX_JPEG },
        { "871.jpg", CX_PNG },
        { "872.jpg", CX_PNG }, { "884.png", CX_WEBP }, { "888.png", CX_JPEG } };
    assert_int_equal(count_of(root, "wrong_extension"), CX_COUNT(wrong));
    for (int i = 0; i < m.n; i++)
        for (int k = 0; k < CX_COUNT(wrong); k++)
            if (strcmp(cx_path_base(m.samples[i].path), wrong[k].name) == 0)
                assert_true(a.films[i].wrong_extension && a.films[i].type == wrong[k].type);
    char *page = page_of(&m, &a);
    assert_non_null(strstr(page, "766p.jpg is a WebP file"));
    free(page);
    json_decref(root);
    cx_audit_free(&a);
    cx_manifest_free(&m);
    cx_buf_free(&csv);
}

/* chi2 / n by hand: 1 where the property is the label, 0 where it says nothing of it, and 0.6 for 8 and 2 of 10. */
static void cramers_v_in_closed_form(void **state)
{
    (void)state;
    assert_true(fabs(cx_cramers_v((const int[]){ 10, 0 }, (const int[]){ 10, 10 }, 2) - 1) < 1e-12);
    assert_true(fabs(cx_cramers_v((const int[]){ 5, 10, 0 }, (const int[]){ 10, 20, 0 }, 3)) < 1e-12);
    assert_true(fabs(cx_cramers_v((const int[]){ 8, 2 }, (const int[]){ 10, 10 }, 2) - 0.6) < 1e-12);
    assert_true(cx_cramers_v((const int[]){ 7, 7 }, (const int[]){ 7, 7 }, 2) == 0);
    assert_true(cx_cramers_v((const int[]){ 0, 0 }, (const int[]){ 0, 0 }, 2) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cramers_v_in_closed_form),
        cmocka_unit_test(test_copies_and_strangers), cmocka_unit_test(test_same_for_any_threads), cmocka_unit_test(test_flaws_are_named),
        cmocka_unit_test(test_tables_and_confounding), cmocka_unit_test(test_sheet), cmocka_unit_test(test_films_of_the_wild),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
