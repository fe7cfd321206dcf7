/* test_loader.c - batches: the same for any number of workers, from any start, in an order that only seed and epoch decide. */
#include "support.h"
#include <unistd.h>
#include "cxnet/data.h"

enum { N = 23, SIDE = 12, T = 2, BATCH = 4 };

typedef struct { cx_cache *cache; float targets[N * T]; int index[N - 2]; cx_augment augment; cx_loader_opts o; } fixture;

static void make(fixture *f)
{
    uint8_t px[N * SIDE * SIDE];
    for (int i = 0; i < N * SIDE * SIDE; i++)
        px[i] = (uint8_t)(i * 2654435761u >> 24);
    for (int i = 0; i < N * T; i++)
        f->targets[i] = (float)i;
    for (int i = 0; i < N - 2; i++)
        f->index[i] = i + 1;
    f->augment = (cx_augment) { .rotate_deg = 20, .shift = 0.1, .zoom = 0.1, .brightness = 0.1, .contrast = 0.2 };
    assert_cx_ok(cx_cache_from_memory(px, N, SIDE, 1, &f->cache, err));
    f->o = (cx_loader_opts) { .cache = f->cache, .index = f->index, .n = N - 2, .targets = f->targets, .n_targets = T, .batch = BATCH, .shuffle = true,
        .augment = &f->augment, .norm = CX_NORM_IMAGENET, .seed = 5 };
}

/* SHA-256 over the batches first.. of an epoch, and how many films there were. */
static int digest(cx_loader *l, int epoch, int first, bool slow, char hex[65])
{
    cx_sha256 sha;
    cx_batch b;
    int films = 0;
    cx_sha256_init(&sha);
    assert_cx_ok(cx_loader_start(l, epoch, first, err));
    for (;;) {
        assert_cx_ok(cx_loader_next(l, &b, err));
        if (b.n == 0)
            break;
        if (slow)
            usleep(500);                                          /* workers run ahead as far as the ring lets them */
        cx_sha256_update(&sha, b.x, (size_t)b.n * SIDE * SIDE * 3 * sizeof(float));
        cx_sha256_update(&sha, b.t, (size_t)b.n * T * sizeof(float));
        cx_sha256_update(&sha, b.film, (size_t)b.n * sizeof(int));
        films += b.n;
    }
    assert_cx_ok(cx_loader_next(l, &b, err));                     /* the end stays the end */
    assert_int_equal(b.n, 0);
    cx_sha256_hex(&sha, hex);
    return films;
}

/* A film that is its own mask: whatever turns, shifts and zooms it, its target is where the film is bright. */
static void masks_move_with_their_films(void **state)
{
    (void)state;
    fixture f;
    cx_loader *l;
    cx_batch b;
    int films = 0;
    make(&f);
    f.augment.brightness = f.augment.contrast = 0;
    f.o.norm = CX_NORM_UNIT;
    f.o.norm.channels = 1;
    f.o.targets = NULL;
    f.o.n_targets = 0;
    f.o.masks = f.cache;
    assert_cx_ok(cx_loader_new(&f.o, &l, err));
    for (;;) {
        assert_cx_ok(cx_loader_next(l, &b, err));
        if (b.n == 0)
            break;
        for (int i = 0; i < b.n * SIDE * SIDE; i++)
            assert_true(b.t[i] == (b.x[i] >= 0.5f));
        films += b.n;
    }
    assert_int_equal(films, N - 2);
    cx_loader_free(l);
    uint8_t few[SIDE * SIDE] = { 0 };
    cx_cache *other;
    assert_cx_ok(cx_cache_from_memory(few, 1, SIDE, 1, &other, err));
    f.o.masks = other;
    assert_cx_fails(CX_E_USAGE, "a mask a film", cx_loader_new(&f.o, &l, err));
    cx_cache_close(other);
    cx_cache_close(f.cache);
}

/* Three loaders, each with a part, hand out the batches of one, the incomplete last one too. */
static void parts_make_the_whole(void **state)
{
    (void)state;
    enum { PARTS = 3 };
    fixture f;
    cx_loader *whole, *part[PARTS];
    make(&f);
    assert_cx_ok(cx_loader_new(&f.o, &whole, err));
    f.o.workers = 2;
    f.o.parts = PARTS;
    for (f.o.part = 0; f.o.part < PARTS; f.o.part++)
        assert_cx_ok(cx_loader_new(&f.o, &part[f.o.part], err));
    assert_cx_ok(cx_loader_start(whole, 2, 0, err));
    for (int p = 0; p < PARTS; p++)
        assert_cx_ok(cx_loader_start(part[p], 2, 0, err));
    for (int k = 0; k < cx_loader_batches(whole); k++) {
        cx_batch all, b;
        int at = 0;
        assert_cx_ok(cx_loader_next(whole, &all, err));
        for (int p = 0; p < PARTS; p++) {
            const size_t film = SIDE * SIDE * 3;
            assert_cx_ok(cx_loader_next(part[p], &b, err));
            assert_in_range(at + b.n, 0, all.n);
            assert_memory_equal(b.x, all.x + (size_t)at * film, (size_t)b.n * film * sizeof(float));
            assert_memory_equal(b.t, all.t + at * T, (size_t)b.n * T * sizeof(float));
            assert_memory_equal(b.film, all.film + at, (size_t)b.n * sizeof(int));
            at += b.n;
        }
        assert_int_equal(at, all.n);
    }
    cx_loader_free(whole);
    for (int p = 0; p < PARTS; p++)
        cx_loader_free(part[p]);
    f.o.part = PARTS;
    assert_cx_fails(CX_E_USAGE, "part 3 of 3", cx_loader_new(&f.o, &whole, err));
    cx_cache_close(f.cache);
}

static void same_batches_for_any_workers(void **state)
{
    (void)state;
    static const int workers[] = { 0, 1, 3, 8 };
    fixture f;
    char want[3][65], got[65];
    make(&f);
    for (int w = 0; w < CX_COUNT(workers); w++) {
        cx_loader *l;
        f.o.workers = workers[w];
        assert_cx_ok(cx_loader_new(&f.o, &l, err));
        assert_int_equal(cx_loader_batches(l), 6);
        for (int epoch = 0; epoch < 3; epoch++) {
            assert_int_equal(digest(l, epoch, 0, epoch == 1, w ? got : want[epoch]), N - 2);
            if (w)
                assert_string_equal(got, want[epoch]);
        }
        digest(l, 0, 0, false, got);
        assert_string_equal(got, want[0]);                         /* an epoch does not depend on those before it */
        cx_loader_free(l);
    }
    assert_string_not_equal(want[0], want[1]);
    cx_cache_close(f.cache);
}

static void starts_in_the_middle(void **state)
{
    (void)state;
    fixture f;
    make(&f);
    for (int workers = 0; workers < 3; workers++) {
        cx_loader *l;
        cx_batch b;
        int tail[3 * BATCH], n = 0, k = 0;
        f.o.workers = workers;
        assert_cx_ok(cx_loader_new(&f.o, &l, err));
        assert_cx_ok(cx_loader_start(l, 2, 0, err));
        for (int i = 0; i < 6; i++) {
            assert_cx_ok(cx_loader_next(l, &b, err));
            for (int j = 0; i >= 3 && j < b.n; j++)
                tail[n++] = b.film[j];
        }
        assert_cx_ok(cx_loader_start(l, 2, 3, err));
        for (int i = 3; i < 6; i++) {
            assert_cx_ok(cx_loader_next(l, &b, err));
            assert_int_equal(b.n, i < 5 ? BATCH : 1);
            for (int j = 0; j < b.n; j++)
                assert_int_equal(b.film[j], tail[k++]);
        }
        assert_int_equal(k, n);
        assert_cx_ok(cx_loader_start(l, 0, 6, err));
        assert_cx_ok(cx_loader_next(l, &b, err));
        assert_int_equal(b.n, 0);
        assert_cx_fails(CX_E_USAGE, "batch 7", cx_loader_start(l, 0, 7, err));
        for (int i = 0; i < 50; i++) {                            /* restarted while workers are busy */
            assert_cx_ok(cx_loader_start(l, i, i % 6, err));
            if (i % 3 == 0)
                assert_cx_ok(cx_loader_next(l, &b, err));
        }
        cx_loader_free(l);
    }
    cx_cache_close(f.cache);
}

static void every_film_once_with_its_target(void **state)
{
    (void)state;
    fixture f;
    make(&f);
    f.o.workers = 2;
    f.o.augment = NULL;
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        cx_loader *l;
        cx_batch b;
        int seen[N] = { 0 }, at = 0;
        float want[SIDE * SIDE * 3];
        f.o.shuffle = shuffle;
        assert_cx_ok(cx_loader_new(&f.o, &l, err));
        for (int batch = 0; batch < 6; batch++) {                 /* without a start: epoch 0 */
            assert_cx_ok(cx_loader_next(l, &b, err));
            for (int i = 0; i < b.n; i++) {
                int film = b.film[i];
                seen[film]++;
                assert_true(shuffle || film == f.index[at]);
                at++;
                assert_true(b.t[i * T] == f.targets[film * T] && b.t[i * T + 1] == f.targets[film * T + 1]);
                cx_augment_film(cx_cache_film(f.cache, film), SIDE, NULL, 0, 0, 0, &f.o.norm, want);
                assert_memory_equal(b.x + (size_t)i * SIDE * SIDE * 3, want, sizeof want);
            }
        }
        for (int i = 0; i < N; i++)
            assert_int_equal(seen[i], i >= 1 && i < N - 1);
        cx_loader_free(l);
    }
    cx_cache_close(f.cache);
}

/* What crosses to a device gives, applied there, the batches that the host would have made. */
static void bytes_and_draws_are_the_same_batches(void **state)
{
    (void)state;
    fixture f;
    make(&f);
    for (int give = CX_GIVE_FILMS; give <= CX_GIVE_DRAWS; give++)
        for (int workers = 0; workers < 3; workers++) {
            cx_loader *inputs, *bytes;
            cx_batch a, b;
            int films = 0;
            float got[BATCH * SIDE * SIDE * 3];
            f.o.workers = workers;
            f.o.give = CX_GIVE_INPUT;
            assert_cx_ok(cx_loader_new(&f.o, &inputs, err));
            f.o.give = (cx_give)give;
            assert_cx_ok(cx_loader_new(&f.o, &bytes, err));
            assert_cx_ok(cx_loader_start(inputs, 3, 1, err));
            assert_cx_ok(cx_loader_start(bytes, 3, 1, err));
            for (;; films += a.n) {
                assert_cx_ok(cx_loader_next(inputs, &a, err));
                assert_cx_ok(cx_loader_next(bytes, &b, err));
                assert_int_equal(a.n, b.n);
                if (a.n == 0)
                    break;
                assert_true(!a.px && !a.draw && !b.x && b.draw && (b.px != NULL) == (give == CX_GIVE_FILMS));
                for (int i = 0; i < b.n; i++)
                    assert_int_equal(b.draw[i].film, give == CX_GIVE_FILMS ? i : b.film[i]);
                cx_apply_draws(b.px ? b.px : cx_cache_film(f.cache, 0), SIDE, b.draw, b.n, &f.o.norm, got);
                assert_memory_equal(got, a.x, (size_t)a.n * SIDE * SIDE * 3 * sizeof(float));
                assert_memory_equal(b.t, a.t, (size_t)a.n * T * sizeof(float));
                assert_memory_equal(b.film, a.film, (size_t)a.n * sizeof(int));
            }
            assert_int_equal(films, N - 2 - BATCH);
            cx_loader_free(inputs);
            cx_loader_free(bytes);
        }
    cx_cache_close(f.cache);
}

static void refusals_and_nothing_at_all(void **state)
{
    (void)state;
    fixture f;
    cx_loader *l;
    cx_batch b;
    make(&f);
    cx_loader_opts o = f.o;
    o.batch = 0;
    assert_cx_fails(CX_E_USAGE, "batch 0", cx_loader_new(&o, &l, err));
    o = f.o;
    o.norm.channels = 2;
    assert_cx_fails(CX_E_USAGE, "2 channels", cx_loader_new(&o, &l, err));
    o = f.o;
    o.norm.planes = 3;
    assert_cx_fails(CX_E_USAGE, "films of 1 planes to be normalised as films of 3", cx_loader_new(&o, &l, err));
    o = f.o;
    int outside = N;
    o.index = &outside;
    o.n = 1;
    assert_cx_fails(CX_E_USAGE, "film 23", cx_loader_new(&o, &l, err));
    for (int workers = 0; workers < 3; workers++) {
        o.n = 0;
        o.workers = workers;
        assert_cx_ok(cx_loader_new(&o, &l, err));
        assert_int_equal(cx_loader_batches(l), 0);
        assert_cx_ok(cx_loader_next(l, &b, err));
        assert_int_equal(b.n, 0);
        cx_loader_free(l);
    }
    cx_loader_free(NULL);
    cx_cache_close(f.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_move_with_their_films), cmocka_unit_test(parts_make_the_whole),
        cmocka_unit_test(same_batches_for_any_workers), cmocka_unit_test(starts_in_the_middle), cmocka_unit_test(every_film_once_with_its_target),
        cmocka_unit_test(bytes_and_draws_are_the_same_batches), cmocka_unit_test(refusals_and_nothing_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
