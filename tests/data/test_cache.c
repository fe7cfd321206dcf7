/* test_cache.c - the decoded cache: the same pixels from memory, file and single films; bad films named; damaged files made anew. */
#include "support.h"
#include <dirent.h>
#include <omp.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cxnet/data.h"

enum { SIDE = 24, FILMS = 7 };
static char folder[] = "/tmp/cxnet_cache_XXXXXX";
static const int bad_film = 3, index_of[FILMS] = { 0, 1, 2, 3, 4, 5, 6 };
static cx_manifest manifest;
static cx_pipeline *plain;

static void write_text(const char *name, const void *data, size_t n)
{
    char *path = cx_path_join(folder, name);
    assert_cx_ok(cx_file_write(path, data, n, err));
    free(path);
}

static int make_films(void **state)
{
    (void)state;
    cx_buf csv = { 0 };
    assert_non_null(mkdtemp(folder));
    cx_buf_puts(&csv, "path,labels\n");
    for (int i = 0; i < FILMS; i++) {
        uint16_t px[50 * 40];
        cx_buf png = { 0 };
        char name[32];
        for (int k = 0; k < 50 * 40; k++)
            px[k] = (uint16_t)((unsigned)(k * (i + 3)) % 251u * (i == 2 ? 257u : 1u));
        assert_cx_ok(cx_png_grey(px, 50, 40, i == 2 ? 65535 : 255, &png, err));
        snprintf(name, sizeof name, "film%d.png", i);
        write_text(name, png.data, i == bad_film ? png.len / 2 : png.len);
        cx_buf_printf(&csv, "%s,%s\n", name, i % 2 ? "A" : "B");
        cx_buf_free(&png);
    }
    write_text("manifest.csv", csv.data, csv.len);
    cx_buf_free(&csv);
    char *path = cx_path_join(folder, "manifest.csv");
    assert_cx_ok(cx_manifest_load(path, &manifest, err));
    assert_cx_ok(cx_pipeline_new((char *[]){ "resize" }, 1, SIDE, 1, &plain, err));
    assert_cx_ok(cx_pipeline_open(plain, NULL, err));
    free(path);
    return 0;
}

/* Name of the one cache file in dir; NULL when there is none. Anything else beside it fails the test. */
static char *cache_file(const char *dir)
{
    DIR *d = opendir(dir);
    char *found = NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            assert_null(found);
            found = cx_path_join(dir, e->d_name);
        }
    if (d)
        closedir(d);
    return found;
}

static int remove_films(void **state)
{
    (void)state;
    cx_manifest_free(&manifest);
    cx_pipeline_free(plain);
    char *dir = cx_path_join(folder, "cache"), *file = cache_file(dir);
    if (file)
        unlink(file);
    rmdir(dir);
    free(file);
    free(dir);
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));) {
        char *path = cx_path_join(folder, e->d_name);
        if (!cx_is_dir(path))
            unlink(path);
        free(path);
    }
    closedir(d);
    return rmdir(folder);
}

static cx_cache *open_cache(const char *dir, cx_buf *bad)
{
    cx_cache *c = NULL;
    assert_cx_ok(cx_cache_open(&manifest, index_of, FILMS, plain, dir, 1, bad, NULL, &c, err));
    return c;
}

static void assert_same(const cx_cache *a, const cx_cache *b)
{
    assert_int_equal(cx_cache_count(a), FILMS);
    assert_int_equal(cx_cache_side(a), SIDE);
    for (int i = 0; i < FILMS; i++) {
        assert_int_equal(cx_cache_ok(a, i), i != bad_film);
        assert_int_equal(cx_cache_ok(b, i), i != bad_film);
        assert_memory_equal(cx_cache_film(a, i), cx_cache_film(b, i), SIDE * SIDE);
    }
}

static void same_from_memory_file_and_any_threads(void **state)
{
    (void)state;
    char *dir = cx_path_join(folder, "cache");
    cx_buf bad = { 0 }, bad_again = { 0 };
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    cx_cache *memory = open_cache(NULL, &bad);
    assert_non_null(strstr(bad.data, "film3.png"));
    assert_null(cache_file(dir));
    omp_set_num_threads(4);
    cx_cache *made = open_cache(dir, &bad_again);
    assert_string_equal(bad.data, bad_again.data);
    assert_same(memory, made);
    bad_again.len = 0;
    cx_cache *found = open_cache(dir, &bad_again);
    assert_string_equal(bad.data, bad_again.data);                /* the file keeps why a film is bad */
    assert_same(memory, found);
    omp_set_num_threads(threads);
    cx_cache_close(memory);
    cx_cache_close(made);
    cx_cache_close(found);
    cx_buf_free(&bad);
    cx_buf_free(&bad_again);
    free(dir);
}

/* Cache + normalisation is what cx_film_to_input gives, bit for bit; 16-bit films among them. */
static void one_film_gives_the_same_input(void **state)
{
    (void)state;
    cx_cache *c = open_cache(NULL, NULL);
    float a[SIDE * SIDE * 3], b[SIDE * SIDE * 3];
    for (int i = 0; i < FILMS; i++) {
        cx_film f;
        char *path = cx_sample_path(&manifest, i);
        if (i != bad_film) {
            assert_cx_ok(cx_film_load(path, &f, err));
            assert_int_equal(f.max, i == 2 ? 65535 : 255);
            assert_cx_ok(cx_film_to_input(plain, &f, &CX_NORM_IMAGENET, a, NULL, err));
            cx_augment_film(cx_cache_film(c, i), SIDE, NULL, 0, 0, 0, &CX_NORM_IMAGENET, b);
            assert_memory_equal(a, b, sizeof a);
            cx_film_free(&f);
        }
        free(path);
    }
    /* film 2 in 16 bits is 257 times an 8-bit picture: a fifth of white is a fifth of white */
    double mean = 0, want = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        mean += cx_cache_film(c, 2)[i] / (double)(SIDE * SIDE);
    for (int k = 0; k < 2000; k++)
        want += k * 5 % 251 / 2000.0;
    assert_true(fabs(mean - want) < 1);
    cx_cache_close(c);
}

/* Every byte of the file is under a checksum: whatever is changed, cut or added, the films come out right. */
static void damaged_files_are_made_anew(void **state)
{
    (void)state;
    char *dir = cx_path_join(folder, "cache");
    cx_cache *memory = open_cache(NULL, NULL), *c = open_cache(dir, NULL);
    cx_cache_close(c);
    char *path = cache_file(dir);
    cx_buf good = { 0 }, now = { 0 };
    assert_cx_ok(cx_file_read(path, 1 << 20, &good, err));
    for (size_t i = 0; i < good.len + 5; i += i < good.len - 5 ? (i < 130 ? 7 : 173) : 1) {
        cx_buf damaged = { 0 };
        cx_buf_put(&damaged, good.data, good.len);
        if (i < good.len)
            damaged.data[i] ^= 0x40;
        static const size_t keep[] = { 0, 1, 200, 256 };
        size_t n = i < good.len ? good.len : i - good.len < 4 ? keep[i - good.len] : good.len - 1;
        assert_cx_ok(cx_file_write(path, damaged.data, n, err));
        c = open_cache(dir, NULL);
        assert_same(c, memory);
        cx_cache_close(c);
        assert_cx_ok(cx_file_read(path, 1 << 20, &now, err));
        assert_int_equal(now.len, good.len);
        assert_memory_equal(now.data, good.data, good.len);       /* the mended file is the first one, bit for bit */
        cx_buf_free(&damaged);
    }
    cx_buf_puts(&good, "more");
    assert_cx_ok(cx_file_write(path, good.data, good.len, err));
    c = open_cache(dir, NULL);
    assert_same(c, memory);
    cx_cache_close(c);
    cx_cache_close(memory);
    cx_buf_free(&good);
    cx_buf_free(&now);
    free(path);
    free(dir);
}

static void changed_films_are_another_cache(void **state)
{
    (void)state;
    char *dir = cx_path_join(folder, "cache"), *film = cx_path_join(folder, "film0.png");
    cx_cache *before = open_cache(dir, NULL);
    char *path = cache_file(dir);
    cx_buf png = { 0 };
    uint16_t px[50 * 40];
    for (int i = 0; i < 2000; i++)
        px[i] = 77;
    assert_cx_ok(cx_png_grey(px, 50, 40, 255, &png, err));
    assert_cx_ok(cx_file_write(film, png.data, png.len, err));
    unlink(path);
    cx_cache *after = open_cache(dir, NULL);
    char *other = cache_file(dir);
    assert_string_not_equal(path, other);
    assert_int_equal(cx_cache_film(after, 0)[5], 77);
    assert_memory_equal(cx_cache_film(before, 1), cx_cache_film(after, 1), SIDE * SIDE);
    cx_cache_close(before);
    cx_cache_close(after);
    cx_buf_free(&png);
    free(path);
    free(other);
    free(film);
    free(dir);
}

static void refusals(void **state)
{
    (void)state;
    cx_cache *c;
    cx_buf bad = { 0 };
    int outside = FILMS;
    cx_pipeline *closed;
    assert_cx_ok(cx_pipeline_new((char *[]){ "resize" }, 1, SIDE, 1, &closed, err));
    char *film = cx_path_join(folder, "film1.png"), *below = cx_path_join(film, "cache"), *dir = cx_path_join(folder, "cache");
    assert_cx_fails(CX_E_DATA, "1 of 7 films", cx_cache_open(&manifest, index_of, FILMS, plain, NULL, 0, &bad, NULL, &c, err));
    assert_non_null(strstr(bad.data, "film3.png"));
    assert_null(c);
    assert_cx_fails(CX_E_DATA, "film3.png", cx_cache_open(&manifest, index_of, FILMS, plain, dir, 0, NULL, NULL, &c, err));
    assert_cx_fails(CX_E_USAGE, "is not open", cx_cache_open(&manifest, index_of, FILMS, closed, NULL, 0, NULL, NULL, &c, err));
    cx_pipeline_free(closed);
    assert_cx_fails(CX_E_USAGE, "sample 7", cx_cache_open(&manifest, &outside, 1, plain, dir, 0, NULL, NULL, &c, err));
    assert_cx_fails(CX_E_CREATE, "(data.cache)", cx_cache_open(&manifest, index_of, FILMS, plain, below, 1, NULL, NULL, &c, err));
    assert_cx_ok(cx_cache_open(&manifest, index_of, 0, plain, NULL, 0, NULL, NULL, &c, err));
    assert_int_equal(cx_cache_count(c), 0);
    cx_cache_close(c);
    cx_buf_free(&bad);
    free(film);
    free(below);
    free(dir);
}

static void stopped(void **state)
{
    (void)state;
    static const volatile sig_atomic_t stop = 1;
    cx_cache *c;
    cx_audit audit;
    char *dir = cx_path_join(folder, "stopped");
    manifest.stop = &stop;
    assert_cx_fails(CX_E_INTERRUPTED, "were decoded", cx_cache_open(&manifest, index_of, FILMS, plain, dir, 1, NULL, NULL, &c, err));
    assert_null(c);
    assert_int_equal(rmdir(dir), 0);          /* nothing half made stays behind */
    assert_cx_fails(CX_E_INTERRUPTED, "were decoded", cx_cache_open(&manifest, index_of, FILMS, plain, NULL, 1, NULL, NULL, &c, err));
    assert_cx_fails(CX_E_INTERRUPTED, "were compared", cx_audit_run(&manifest, &audit, err));
    manifest.stop = NULL;
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_from_memory_file_and_any_threads), cmocka_unit_test(one_film_gives_the_same_input),
        cmocka_unit_test(damaged_files_are_made_anew), cmocka_unit_test(changed_films_are_another_cache), cmocka_unit_test(refusals), cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests(tests, make_films, remove_films);
}
