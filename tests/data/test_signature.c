/* test_signature.c - signatures and the pair search: properties of the hashes, and multi-index hashing against all pairs. */
#include "support.h"
#include "data/signature.h"

static int bits(uint64_t v) { return __builtin_popcountll(v); }

/* A smooth random picture: a sum of waves. */
static void paint(cx_film *f, int w, int h, int max, uint64_t seed)
{
    *f = (cx_film){ .width = w, .height = h, .max = max };
    f->px = calloc((size_t)w * (size_t)h, sizeof *f->px);
    cx_rng r = cx_rng_new(seed, 0);
    double a[12], u[12], v[12], p[12];
    for (int k = 0; k < 12; k++) {
        a[k] = cx_rng_uniform(&r);
        u[k] = 40 * cx_rng_uniform(&r) - 20;
        v[k] = 40 * cx_rng_uniform(&r) - 20;
        p[k] = 6.28 * cx_rng_uniform(&r);
    }
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double g = 0;
            for (int k = 0; k < 12; k++)
                g += a[k] * sin(u[k] * (x + 0.5) / w + v[k] * (y + 0.5) / h + p[k]);
            g = 0.5 + 0.12 * g;
            f->px[y * w + x] = (uint16_t)(max * (g < 0.05 ? 0.05 : g > 0.95 ? 0.95 : g) + 0.5);
        }
}

static void sign(const cx_film *f, cx_signature *s, cx_detail *d) { assert_cx_ok(cx_signature_make(f, s, d, err)); }

static void test_blind_to_size_depth_and_frame(void **state)
{
    (void)state;
    cx_film f, other[3];
    cx_signature s, t;
    cx_detail d, e;
    paint(&f, 300, 260, 255, 1);
    sign(&f, &s, &d);
    assert_false(s.flat);
    paint(&other[0], 600, 520, 255, 1);
    paint(&other[1], 300, 260, 65535, 1);
    other[2] = (cx_film){ .width = 380, .height = 300, .max = 255, .px = calloc(380 * 300, sizeof(uint16_t)) };
    for (int y = 0; y < 300; y++)                        /* an uneven frame with the noise of a JPEG */
        for (int x = 0; x < 380; x++) {
            bool in = x >= 60 && x < 360 && y >= 10 && y < 270;
            other[2].px[y * 380 + x] = in ? f.px[(y - 10) * 300 + x - 60] : (uint16_t)((x * 7 + y * 13) % 5);
        }
    for (int k = 0; k < 3; k++) {
        sign(&other[k], &t, &e);
        assert_true(bits(s.dhash ^ t.dhash) <= 2 && bits(s.phash ^ t.phash) <= 2);
        assert_true(cx_detail_likeness(&d, &e) > 0.97);
        assert_true(cx_pair_is_near(bits(s.dhash ^ t.dhash), bits(s.phash ^ t.phash), cx_detail_likeness(&d, &e)));
        assert_string_not_equal(s.sha256, t.sha256);
        cx_film_free(&other[k]);
    }
    cx_film_free(&f);
}

static void test_tells_pictures_apart(void **state)
{
    (void)state;
    cx_signature s[40];
    cx_detail d[40];
    for (int i = 0; i < 40; i++) {
        cx_film f;
        paint(&f, 200, 200, 255, 100 + (uint64_t)i);
        sign(&f, &s[i], &d[i]);
        cx_film_free(&f);
        assert_int_equal(bits(s[i].phash), 32);          /* half of the coefficients lie above their median */
        assert_true(fabs(cx_detail_likeness(&d[i], &d[i]) - 1) < 1e-12);
        for (int j = 0; j < i; j++) {
            double likeness = cx_detail_likeness(&d[i], &d[j]);
            assert_true(likeness == cx_detail_likeness(&d[j], &d[i]));
            assert_false(cx_pair_is_near(bits(s[i].dhash ^ s[j].dhash), bits(s[i].phash ^ s[j].phash), likeness));
        }
    }
}

static void test_flat(void **state)
{
    (void)state;
    cx_film f = { .width = 120, .height = 100, .max = 255, .px = calloc(12000, sizeof(uint16_t)) };
    cx_signature s;
    cx_detail d;
    for (int i = 0; i < 12000; i++)
        f.px[i] = (uint16_t)(100 + i % 3);
    sign(&f, &s, &d);
    assert_true(s.flat);
    cx_film_free(&f);
    f = (cx_film){ .width = 1, .height = 1, .max = 255, .px = calloc(1, sizeof(uint16_t)) };
    sign(&f, &s, &d);
    assert_true(s.flat);
    cx_film_free(&f);
}

/* The search finds exactly the pairs that a comparison of all with all finds. Hashes are random walks, so that distances spread about the radius. */
static void test_search_is_exact(void **state)
{
    (void)state;
    enum { N = 700 };
    cx_audit a = { .n = N, .films = calloc(N, sizeof(cx_film_report)) };
    cx_detail *detail = calloc(N, sizeof *detail);
    cx_rng r = cx_rng_new(3, 0);
    uint64_t phash = 0, dhash = 0;
    for (int i = 0; i < N; i++) {
        if (i % 25 == 0) {
            phash = (uint64_t)cx_rng_u32(&r) << 32 | cx_rng_u32(&r);
            dhash = (uint64_t)cx_rng_u32(&r) << 32 | cx_rng_u32(&r);
        }
        cx_film_report *f = &a.films[i];
        f->ok = i % 97 != 5;
        f->sig.flat = i % 89 == 7;
        f->sig.phash = phash;
        f->sig.dhash = dhash;
        snprintf(f->sig.sha256, 65, "%064d", i % 50 == 11 ? 10 : i % 50 == 10 ? 10 : i + 100000);
        for (int k = cx_rng_u32(&r) % 10; k > 0; k--)
            f->sig.phash ^= 1ull << cx_rng_below(&r, 64);
        for (int k = cx_rng_u32(&r) % 6; k > 0; k--)
            f->sig.dhash ^= 1ull << cx_rng_below(&r, 64);
        for (int k = 0; k < CX_DETAIL_SIDE * CX_DETAIL_SIDE; k++)
            detail[i].px[k] = (int8_t)(k * 37 % 81 - 40);      /* all alike: the hashes decide */
    }
    assert_cx_ok(cx_pairs_find(&a, detail, err));
    int near = 0, exact = 0, at = 0;
    bool copy[N] = { false }, seen = false;
    for (int i = 0; i < N; i++)
        if (a.films[i].ok && atoi(a.films[i].sig.sha256 + 50) == 10) {
            copy[i] = seen;
            seen = true;
        }
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++) {
            const cx_film_report *x = &a.films[i], *y = &a.films[j];
            if (!x->ok || !y->ok)
                continue;
            bool is_exact = copy[j] && !copy[i] && strcmp(x->sig.sha256, y->sig.sha256) == 0;
            bool is_near = !copy[i] && !copy[j] && !x->sig.flat && !y->sig.flat && bits(x->sig.phash ^ y->sig.phash) <= 12
                && bits(x->sig.dhash ^ y->sig.dhash) <= 8;
            near += is_near;
            exact += is_exact;
            if (is_exact || is_near) {
                assert_true(at < a.n_pairs && a.pairs[at].a == i && a.pairs[at].b == j && a.pairs[at].exact == is_exact);
                at++;
            }
        }
    assert_int_equal(at, a.n_pairs);
    assert_true(near > 1000 && exact > 20);
    free(a.films);
    free(a.pairs);
    free(detail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blind_to_size_depth_and_frame), cmocka_unit_test(test_tells_pictures_apart), cmocka_unit_test(test_flat),
        cmocka_unit_test(test_search_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
