/* test_philox.c - Philox4x32-10 against the known answers of Random123 (kat_vectors), and the laws of the draws built on it. */
#include "support.h"

static void known_answers(void **state)
{
    (void)state;
    static const struct { uint32_t counter[4], key[2], want[4]; } row[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff }, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 }, { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (int i = 0; i < CX_COUNT(row); i++) {
        uint32_t out[4];
        const uint32_t *c = row[i].counter, *k = row[i].key;
        cx_philox(k[0] | (uint64_t)k[1] << 32, c[2] | (uint64_t)c[3] << 32, c[0] | (uint64_t)c[1] << 32, out);
        for (int w = 0; w < 4; w++)
            assert_int_equal(out[w], row[i].want[w]);
    }
}

static void sequence_is_the_function_by_index(void **state)
{
    (void)state;
    cx_rng r = cx_rng_new(5, 9);
    for (uint64_t c = 0; c < 50; c++) {
        uint32_t out[4];
        cx_philox(5, 9, c, out);
        for (int w = 0; w < 4; w++)
            assert_int_equal(cx_rng_u32(&r), out[w]);
    }
    cx_rng copy = r;
    assert_int_equal(cx_rng_u32(&copy), cx_rng_u32(&r));
    cx_rng a = cx_rng_new(5, 10), b = cx_rng_new(6, 9);
    assert_int_not_equal(cx_rng_u32(&a), cx_rng_u32(&b));
}

/* Pearson's chi-squared over k bins: mean k - 1, variance 2 (k - 1); five standard deviations. The draws are fixed, so this never flickers. */
static void assert_even(const int *count, int k, int n)
{
    double chi = 0, want = (double)n / k;
    for (int i = 0; i < k; i++)
        chi += (count[i] - want) * (count[i] - want) / want;
    if (!(chi <= k - 1 + 5 * sqrt(2.0 * (k - 1))))
        fail_msg("chi squared %g over %d bins", chi, k);
}

static void uniform_and_below_are_even(void **state)
{
    (void)state;
    enum { N = 200000 };
    cx_rng r = cx_rng_new(1, 2);
    int bin[100] = { 0 };
    for (int i = 0; i < N; i++) {
        double u = cx_rng_uniform(&r);
        assert_true(u >= 0 && u < 1 && u * 0x1p24 == floor(u * 0x1p24));
        bin[(int)(u * 100)]++;
    }
    assert_even(bin, 100, N);
    static const uint32_t size[] = { 1, 2, 3, 7, 10, 97 };
    for (int s = 0; s < CX_COUNT(size); s++) {
        int count[97] = { 0 };
        for (int i = 0; i < N; i++) {
            uint32_t v = cx_rng_below(&r, size[s]);
            assert_true(v < size[s]);
            count[v]++;
        }
        assert_even(count, (int)size[s], N);
    }
}

/* n = 3/4 of 2^32: u32 % n would fall below n/3 twice as often as above. */
static void below_has_no_modulo_bias(void **state)
{
    (void)state;
    enum { N = 60000 };
    cx_rng r = cx_rng_new(3, 3);
    int third[3] = { 0 };
    for (int i = 0; i < N; i++)
        third[cx_rng_below(&r, 0xC0000000u) / 0x40000000u]++;
    assert_even(third, 3, N);
}

static void normal_has_its_moments(void **state)
{
    (void)state;
    enum { N = 400000 };
    cx_rng r = cx_rng_new(4, 4);
    double m[5] = { 0 };
    int inside = 0;
    for (int i = 0; i < N; i++) {
        double z = cx_rng_normal(&r);
        assert_true(isfinite(z));
        for (int k = 1; k <= 4; k++)
            m[k] += pow(z, k) / N;
        inside += fabs(z) < 1;
    }
    /* Five standard errors: sqrt(1, 2, 15, 96 / N); the share within one sigma is erf(1/sqrt 2). */
    assert_true(fabs(m[1]) < 5 * sqrt(1.0 / N) && fabs(m[2] - 1) < 5 * sqrt(2.0 / N) && fabs(m[3]) < 5 * sqrt(15.0 / N) && fabs(m[4] - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs((double)inside / N - 0.682689492) < 5 * sqrt(0.22 / N));
}

/* All 24 orders of four are equally likely, and nothing is lost. */
static void shuffle_is_even(void **state)
{
    (void)state;
    enum { N = 48000 };
    cx_rng r = cx_rng_new(8, 8);
    int count[256] = { 0 }, packed[24], n = 0;
    for (int i = 0; i < N; i++) {
        int a[4] = { 0, 1, 2, 3 };
        cx_rng_shuffle(&r, a, 4);
        assert_int_equal(1 << a[0] | 1 << a[1] | 1 << a[2] | 1 << a[3], 15);
        count[a[0] | a[1] << 2 | a[2] << 4 | a[3] << 6]++;
    }
    for (int i = 0; i < 256; i++)
        if (count[i]) {
            assert_true(n < 24);
            packed[n++] = count[i];
        }
    assert_int_equal(n, 24);
    assert_even(packed, 24, N);
    int one = 5;
    cx_rng_shuffle(&r, &one, 1);
    cx_rng_shuffle(&r, NULL, 0);
    assert_int_equal(one, 5);
}

/* FNV-1a test vectors of Noll's reference code (fnv_test). */
static void hash_as_fnv1a(void **state)
{
    (void)state;
    assert_true(cx_hash("") == 0xcbf29ce484222325u);
    assert_true(cx_hash("a") == 0xaf63dc4c8601ec8cu);
    assert_true(cx_hash("foobar") == 0x85944171f73967e8u);
    assert_true(cx_hash("\xff") == 0xaf64724c8602eb6eu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers), cmocka_unit_test(sequence_is_the_function_by_index), cmocka_unit_test(uniform_and_below_are_even),
        cmocka_unit_test(below_has_no_modulo_bias), cmocka_unit_test(normal_has_its_moments), cmocka_unit_test(shuffle_is_even), cmocka_unit_test(hash_as_fnv1a)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
