/* test_films.c - films on a device give the bits of the host: on the emulated GPU in its three schedules, and on a GPU where there is one. */
#include "backend.h"
#include "cxnet/data.h"

/* ---- devices ------------------------------------------------------------------------------------------------------------ */

/* Runs `test` on every device that is here. */
static void on_devices(void (*test)(cx_backend *b))
{
    cx_error why = { 0 };
    cx_backend *b;
    for (int schedule = 0; schedule < 3; schedule++) {
        if (!(b = open_named("emu", schedule))) {
            print_message("skipped: this build has no emulated GPU\n");
            break;
        }
        test(b);
        cx_backend_close(b);
    }
    if (cx_backend_open("cuda", 0, &b, &why) == CX_OK) {
        test(b);
        cx_backend_close(b);
    }
}

/* `bytes` of a device, between 16 zeros on either side and `off` bytes from where an allocation would be aligned. */
enum { GUARD = 16 };
typedef struct { cx_backend *b; char *base; size_t bytes; int off; void *p; } region;

static region region_of(cx_backend *b, const void *data, size_t bytes, int off)
{
    region r = { .b = b, .bytes = bytes, .off = off };
    void *base;
    assert_cx_ok(b->alloc(b, bytes + 3 * GUARD, &base, err));
    r.base = base;
    r.p = r.base + GUARD + off;
    if (data)
        assert_cx_ok(b->upload(b, r.p, data, bytes, err));
    return r;
}

/* What a region holds; free() it. Its guards must still be zero. */
static void *take(region *r)
{
    char *all = cx_alloc(r->bytes + 3 * GUARD, 1), *mine = cx_alloc(r->bytes, 1);
    assert_cx_ok(r->b->download(r->b, all, r->base, r->bytes + 3 * GUARD, err));
    for (size_t i = 0; i < r->bytes + 3 * GUARD; i++)
        if ((i < GUARD + (size_t)r->off || i >= GUARD + (size_t)r->off + r->bytes) && all[i])
            fail_msg("byte %lld of %lld was written", (long long)i - GUARD - r->off, (long long)r->bytes);
    memcpy(mine, all + GUARD + r->off, r->bytes);
    r->b->release(r->b, r->base);
    free(all);
    return mine;
}

static void drop(region *r) { free(take(r)); }

/* Films of different kinds, one behind the other: noise, one grey, a ramp with a bright field. */
static uint8_t *some_films(int n, int width, int height)
{
    const int px = width * height;
    cx_rng r = cx_rng_new(3, (uint64_t)px);
    uint8_t *films = cx_alloc((size_t)n, (size_t)px);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < px; i++) {
            const int x = i % width, y = i / width, noise = (int)cx_rng_below(&r, 256);
            films[k * px + i] = (uint8_t)(k % 3 == 0 ? noise : k % 3 == 1 ? 90 + k : 10 + 60 * x / width + 80 * y / height + (2 * x > width ? noise % 90 : 0));
        }
    return films;
}

static void assert_greys(const char *what, int w, int h, const uint8_t *got, const uint8_t *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s, %d x %d px: grey %lld is %d, want %d", what, w, h, (long long)i, got[i], want[i]);
}

/* ---- to a network's input ------------------------------------------------------------------------------------------------- */

enum { CACHE = 4, BATCH = 3 };
#ifdef CX_SANITIZED
enum { KINDS = 2, FEW = 2 };  /* kinds of augmentation; films to equalise, and cases to do so in place: fibers are slow there */
#else
enum { KINDS = 5, FEW = 3 };
#endif
typedef struct { int side, channels, planes; cx_dtype type; int off; const cx_augment *augment; } film_case;

static void compare_inputs(cx_backend *b, film_case c)
{
    const size_t px = (size_t)c.side * (size_t)c.side, values = BATCH * px * (size_t)c.channels, each = cx_dtype_bytes(c.type);
    static const int order[BATCH] = { 2, 0, 3 };
    const cx_normalise norm = { c.channels, { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f }, c.planes };
    uint8_t *films = some_films(CACHE * c.planes, c.side, c.side);
    float *want = cx_alloc(values, sizeof *want);
    cx_film_draw draw[BATCH];
    for (int i = 0; i < BATCH; i++) {
        draw[i] = cx_draw_film(films + order[i] * c.planes * px, c.side, c.planes, c.augment, 8, 1, (uint64_t)i);
        draw[i].film = order[i];
    }
    cx_apply_draws(films, c.side, draw, BATCH, &norm, want);
    region arena = region_of(b, films, (size_t)(CACHE * c.planes) * px, 0), draws = region_of(b, draw, sizeof draw, 0);
    region out = region_of(b, NULL, values * each, c.off);
    const cx_tensor y = { .s = { BATCH, c.side, c.side, c.channels }, .ld = c.channels, .p = out.p, .type = c.type };
    assert_cx_ok(b->films(b, arena.p, draws.p, &norm, &y, err));
    void *got = take(&out);
    for (size_t i = 0; i < values; i++) {
        const uint16_t half = cx_to_bf16(want[i]);
        if (memcmp((char *)got + i * each, each == 2 ? (const void *)&half : (const void *)&want[i], each) != 0)
            fail_msg("side %d, %d channels of %d planes, type %d, %d bytes off: value %lld of film %lld differs (want %.9g)", c.side, c.channels, c.planes,
                     (int)c.type, c.off, (long long)(i % (values / BATCH)), (long long)(i / (values / BATCH)), (double)want[i]);
    }
    drop(&arena);
    drop(&draws);
    free(got), free(films), free(want);
}

static void inputs_on(cx_backend *b)
{
    static const cx_augment kinds[5] = {
        { 0 }, { .rotate_deg = 30, .shift = 0.2, .zoom = 0.3, .brightness = 0.2, .contrast = 0.5 }, { .flip = true },
        { .rotate_deg = 180, .shift = 0.5, .zoom = 0.9 }, { .brightness = 0.4, .contrast = 0.9 },
    };
    static const int sides[] = { 1, 7, 16, 33, 260 };         /* 260: two runs, many tiles */
    for (int s = 0; s < CX_COUNT(sides); s++)
        for (int k = 0; k < KINDS; k++)
            for (int variant = 0; variant < 12; variant++) {
                const int channels = variant & 1 && variant < 8 ? 1 : 3, planes = variant < 8 ? 1 : 3, half = variant & 2;
                const int off = (variant < 8 ? variant & 4 : variant & 1) ? (half ? 2 : 4) : 0;
                if (sides[s] < 64 || (k == 1 && variant == 0) || (k == 3 && (variant == 7 || variant == 8)))
                    compare_inputs(b, (film_case){ sides[s], channels, planes, half ? CX_BF16 : CX_F32, off, k ? &kinds[k] : NULL });
            }
}

static void inputs_are_the_hosts(void **state)
{
    (void)state;
    on_devices(inputs_on);
}

/* A training loop on a device: the cache uploaded once, or each batch's films; the batches are those of the host. */
static void batches_of(cx_backend *b, int planes)
{
    enum { FILMS = 7, SIDE = 24 };
    const size_t px = SIDE * SIDE, bytes = px * (size_t)planes, values = BATCH * px * 3;
    static const int index[FILMS] = { 6, 1, 2, 3, 4, 5, 0 };
    const cx_augment a = { .rotate_deg = 10, .shift = 0.1, .brightness = 0.1, .contrast = 0.2 };
    uint8_t *films = some_films(FILMS * planes, SIDE, SIDE);
    cx_loader_opts o = { .index = index, .n = FILMS, .batch = BATCH, .shuffle = true, .augment = &a, .norm = CX_NORM_IMAGENET, .seed = 2 };
    cx_cache *cache;
    cx_loader *host, *device;
    cx_batch want, batch;
    assert_cx_ok(cx_cache_from_memory(films, FILMS, SIDE, planes, &cache, err));
    o.cache = cache;
    o.norm.planes = planes;
    for (int give = CX_GIVE_FILMS; give <= CX_GIVE_DRAWS; give++) {
        region arena = region_of(b, cx_cache_film(cache, 0), FILMS * bytes, 0), draws = region_of(b, NULL, BATCH * sizeof(cx_film_draw), 0);
        o.give = CX_GIVE_INPUT;
        assert_cx_ok(cx_loader_new(&o, &host, err));
        o.give = (cx_give)give;
        assert_cx_ok(cx_loader_new(&o, &device, err));
        for (int k = 0; k < 3; k++) {
            assert_cx_ok(cx_loader_next(host, &want, err));
            assert_cx_ok(cx_loader_next(device, &batch, err));
            assert_int_equal(batch.n, k < 2 ? BATCH : 1);
            region out = region_of(b, NULL, values * sizeof(float), 0);
            const cx_tensor y = { .s = { batch.n, SIDE, SIDE, 3 }, .ld = 3, .p = out.p };
            if (give == CX_GIVE_FILMS)
                assert_cx_ok(b->upload(b, arena.p, batch.px, (size_t)batch.n * bytes, err));
            assert_cx_ok(b->upload(b, draws.p, batch.draw, (size_t)batch.n * sizeof *batch.draw, err));
            assert_cx_ok(b->films(b, arena.p, draws.p, &o.norm, &y, err));
            float *got = take(&out);
            assert_memory_equal(got, want.x, (size_t)batch.n * px * 3 * sizeof(float));
            free(got);
        }
        cx_loader_free(host);
        cx_loader_free(device);
        drop(&arena);
        drop(&draws);
    }
    cx_cache_close(cache);
    free(films);
}

static void batches_on(cx_backend *b)
{
    batches_of(b, 1);
    batches_of(b, 3);
}

static void batches_are_the_hosts(void **state)
{
    (void)state;
    on_devices(batches_on);
}

static void refusals_on(cx_backend *b)
{
    float p[12];
    const cx_normalise one = { .channels = 1, .std = { 1 } }, two = { .channels = 3, .std = { 1, 1, 1 }, .planes = 2 };
    cx_tensor y = { .s = { 2, 3, 3, 1 }, .ld = 1, .p = p };
    y.s.w = 4;
    assert_cx_fails(CX_E_SHAPE, "(2,3,4,1)", b->films(b, NULL, NULL, &one, &y, err));
    y.s.w = 3;
    y.ld = 8;
    assert_cx_fails(CX_E_SHAPE, "distance 8", b->films(b, NULL, NULL, &one, &y, err));
    assert_cx_fails(CX_E_SHAPE, "3 channels into", b->films(b, NULL, NULL, &CX_NORM_UNIT, &y, err));
    y.s.c = y.ld = 3;
    assert_cx_fails(CX_E_SHAPE, "films of 2 planes", b->films(b, NULL, NULL, &two, &y, err));
    y.s.c = y.ld = 1;
    y.type = CX_F16;
    assert_cx_fails(CX_E_SHAPE, "no other type", b->films(b, NULL, NULL, &one, &y, err));
    y.type = CX_F32;
    y.s.n = 0;
    assert_cx_ok(b->films(b, NULL, NULL, &one, &y, err));     /* nothing to do */
    assert_cx_fails(CX_E_SHAPE, "0 x 5 px", b->resize(b, NULL, 0, 5, 8, NULL, err));
    assert_cx_fails(CX_E_SHAPE, "1 to 16384", b->resize(b, NULL, 5, 5, 20000, NULL, err));
    assert_cx_fails(CX_E_SHAPE, "cx_clahe_make", b->clahe(b, &(cx_clahe){ .width = 4 }, NULL, 1, NULL, err));
    assert_cx_fails(CX_E_SHAPE, "0 px", b->beasf(b, &(cx_beasf){ { 1 } }, NULL, 1, 0, NULL, err));
    assert_cx_ok(b->beasf(b, &(cx_beasf){ { 1 } }, NULL, 0, 9, NULL, err));
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    on_devices(refusals_on);
    cx_backend *host = open_named("cpu", 1);
    assert_true(!host->films && !host->resize && !host->clahe && !host->beasf);
    cx_backend_close(host);
}

/* ---- to the working size ---------------------------------------------------------------------------------------------------- */

static void resize_on(cx_backend *b)
{
    static const int sizes[][3] = { { 1, 1, 1 }, { 1, 1, 6 }, { 7, 5, 16 }, { 61, 47, 16 }, { 300, 20, 33 }, { 40, 40, 40 }, { 3, 200, 5 }, { 17, 23, 64 } };
    for (int k = 0; k < CX_COUNT(sizes); k++) {
        const int w = sizes[k][0], h = sizes[k][1], side = sizes[k][2];
        const size_t n = (size_t)(w * h), m = (size_t)(side * side);
        uint8_t *px = some_films(1, w, h), *want = cx_alloc(m, 1);
        float *from = cx_alloc(n, sizeof *from), *to = cx_alloc(m, sizeof *to);
        for (size_t i = 0; i < n; i++)
            from[i] = px[i];
        assert_cx_ok(cx_resize(from, w, h, to, side, side, CX_RESIZE_AREA, err));
        for (size_t i = 0; i < m; i++)
            want[i] = (uint8_t)(to[i] < 255 ? to[i] + 0.5f : 255);
        region in = region_of(b, px, n, 0), out = region_of(b, NULL, m, 0);
        assert_cx_ok(b->resize(b, in.p, w, h, side, out.p, err));
        uint8_t *got = take(&out);
        assert_greys("resize", w, h, got, want, m);
        drop(&in);
        free(px), free(want), free(from), free(to), free(got);
    }
}

static void sizes_are_the_hosts(void **state)
{
    (void)state;
    on_devices(resize_on);
}

/* ---- equalisation ------------------------------------------------------------------------------------------------------------ */

static void clahe_on(cx_backend *b)
{
    static const struct { int w, h, tx, ty, off; double clip; } cases[] = {
        { 1, 1, 1, 1, 0, 2 }, { 7, 5, 1, 1, 0, 2 }, { 7, 5, 7, 5, 1, 2 }, { 7, 5, 3, 2, 0, 40 }, { 64, 48, 8, 8, 0, 2 }, { 64, 50, 8, 8, 0, 0.01 },
        { 61, 47, 8, 8, 0, 3 }, { 8, 9, 8, 8, 0, 2 }, { 96, 80, 2, 3, 3, 4 }, { 64, 64, 4, 4, 0, 1e9 }, { 64, 64, 4, 4, 8, 2 },
    };
    enum { N = FEW };
    for (int k = 0; k < CX_COUNT(cases); k++) {
        const int w = cases[k].w, h = cases[k].h;
        const size_t px = (size_t)(w * h);
        uint8_t *films = some_films(N, w, h), *want = cx_alloc(N, px);
        cx_clahe c;
        assert_cx_ok(cx_clahe_make(cases[k].clip, cases[k].tx, cases[k].ty, w, h, &c, err));
        for (size_t i = 0; i < N; i++)
            assert_cx_ok(cx_clahe_apply(&c, films + i * px, want + i * px, err));
        region in = region_of(b, films, N * px, cases[k].off), out = region_of(b, NULL, N * px, 0);
        assert_cx_ok(b->clahe(b, &c, in.p, N, out.p, err));
        if (k < FEW)
            assert_cx_ok(b->clahe(b, &c, in.p, N, in.p, err));
        uint8_t *got = take(&out), *in_place = take(&in);
        assert_greys("CLAHE", w, h, got, want, N * px);
        assert_greys("CLAHE in place", w, h, in_place, k < FEW ? want : films, N * px);
        free(films), free(want), free(got), free(in_place);
    }
}

static void clahe_is_the_hosts(void **state)
{
    (void)state;
    on_devices(clahe_on);
}

static void beasf_on(cx_backend *b)
{
    static const struct { int w, h, off; double gamma; } cases[] = {
        { 1, 1, 0, 1.5 }, { 7, 5, 0, 0.3 }, { 64, 48, 0, 1.5 }, { 61, 47, 0, 20 }, { 200, 170, 5, 1.5 }, { 16, 16, 0, 1e-12 }, { 16, 16, 0, 1e300 },
    };
    enum { N = FEW };
    for (int k = 0; k < CX_COUNT(cases); k++) {
        const int w = cases[k].w, h = cases[k].h;
        const size_t px = (size_t)(w * h);
        uint8_t *films = some_films(N, w, h), *want = cx_alloc(N, px);
        cx_beasf f;
        assert_cx_ok(cx_beasf_make(cases[k].gamma, &f, err));
        for (size_t i = 0; i < N; i++)
            cx_beasf_apply(&f, films + i * px, w * h, want + i * px);
        region in = region_of(b, films, N * px, cases[k].off), out = region_of(b, NULL, N * px, 0);
        assert_cx_ok(b->beasf(b, &f, in.p, N, w * h, out.p, err));
        if (k < FEW)
            assert_cx_ok(b->beasf(b, &f, in.p, N, w * h, in.p, err));
        uint8_t *got = take(&out), *in_place = take(&in);
        assert_greys("BEASF", w, h, got, want, N * px);
        assert_greys("BEASF in place", w, h, in_place, k < FEW ? want : films, N * px);
        free(films), free(want), free(got), free(in_place);
    }
}

static void beasf_is_the_hosts(void **state)
{
    (void)state;
    on_devices(beasf_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_are_the_hosts), cmocka_unit_test(batches_are_the_hosts), cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(sizes_are_the_hosts), cmocka_unit_test(clahe_is_the_hosts), cmocka_unit_test(beasf_is_the_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
