/* test_optim.c - optimisers against five updates of torch.optim in float64, sum_squares against a double loop; on every instruction set, the same bits for any
 * number of threads. */
#include "golden.h"
#include "backend.h"

static const char *const isas[] = { "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable", "emu", "cuda" };
static const int thread_counts[] = { 1, 2, 3, 7 };

static const struct { const char *name; cx_update u; } cases[] = {
    { "sgd", { .kind = CX_SGD, .lr = 0.1, .grad_scale = 1 } },
    { "sgd_momentum", { .kind = CX_SGD, .lr = 0.05, .momentum = 0.9, .grad_scale = 1 } },
    { "sgd_decay", { .kind = CX_SGD, .lr = 0.05, .momentum = 0.8, .weight_decay = 0.01, .grad_scale = 0.25 } },
    { "adam", { .kind = CX_ADAM, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1 } },
    { "adam_decay", { .kind = CX_ADAM, .lr = 0.003, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1, .grad_scale = 0.5 } },
    { "adamw", { .kind = CX_ADAMW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.2, .grad_scale = 2 } },
};

/* n floats in the backend's memory. */
static float *upload(cx_backend *b, const float *host, int64_t n)
{
    void *p = NULL;
    assert_cx_ok(b->alloc(b, (size_t)n * sizeof(float), &p, err));
    if (host)
        assert_cx_ok(b->upload(b, p, host, (size_t)n * sizeof(float), err));
    return p;
}

/* Brings them back and gives their memory up. */
static float *download(cx_backend *b, float *device, int64_t n)
{
    float *host = cx_alloc((size_t)n, sizeof *host);
    assert_cx_ok(b->download(b, host, device, (size_t)n * sizeof *host, err));
    b->release(b, device);
    return host;
}

/* Moments are compared where the optimiser has them. */
static void compare(const golden *g, const char *name, const char *what, const float *got, int64_t n)
{
    int64_t count = 0;
    char *key = cx_sprintf("%s/%s", name, what);
    float *want = golden_get(g, key, &count);
    if (!want && strcmp(what, "p") == 0)
        fail_msg("%s is not in the golden file; run tools/oracle/optim.py", key);
    if (want) {
        assert_int_equal(count, n);
        assert_close(key, got, want, n, 2e-6, 2e-7);
    }
    free(want);
    free(key);
}

static void equal_to_pytorch(void **state)
{
    (void)state;
    golden g;
    int64_t n = 0, all = 0;
    golden_open(&g, "tests/golden/optim.safetensors");
    float *start = golden_get(&g, "start", &n), *grads = golden_get(&g, "grads", &all);
    assert_non_null(start);
    assert_int_equal(all, 5 * n);
    for (int s = 0; s < CX_COUNT(isas); s++)
        for (int i = 0; i < CX_COUNT(cases); i++) {
            cx_backend *b = open_named(isas[s], 2);
            if (!b)
                continue;
            float *p = upload(b, start, n), *m = upload(b, NULL, n), *v = upload(b, NULL, n), *g5 = upload(b, grads, all);
            for (int64_t t = 1; t <= 5; t++) {
                cx_update u = cases[i].u;
                u.t = t;
                assert_cx_ok(b->update(b, &u, n, p, g5 + (t - 1) * n, m, v, err));
            }
            b->release(b, g5);
            p = download(b, p, n), m = download(b, m, n), v = download(b, v, n);
            compare(&g, cases[i].name, "p", p, n);
            compare(&g, cases[i].name, "m", m, n);
            compare(&g, cases[i].name, "v", v, n);
            free(p), free(m), free(v);
            cx_backend_close(b);
        }
    free(start);
    free(grads);
    golden_close(&g);
}

static float *noise(int64_t n, uint64_t stream)
{
    cx_rng rng = cx_rng_new(5, stream);
    float *x = cx_alloc((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)cx_rng_normal(&rng);
    return x;
}

/* Sizes around the chunks of both loops. */
static void threads_change_no_bit(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 15, 16, 1000, 16384, 16385, 70001 };
    for (int s = 0; s < CX_COUNT(isas); s++)
        for (int k = 0; k < CX_COUNT(sizes); k++) {
            const int64_t n = sizes[k];
            float *first = NULL, *grad = noise(n, 1);
            double first_sum = 0;
            for (int t = 0; t < CX_COUNT(thread_counts); t++) {
                cx_backend *b = open_named(isas[s], thread_counts[t]);
                if (!b)
                    continue;
                float *start = noise(n, 0), *start_m = noise(n, 2);
                float *p = upload(b, start, n), *m = upload(b, start_m, n), *v = upload(b, NULL, n), *g = upload(b, grad, n);
                cx_update u = cases[5].u;
                double sum = 0;
                u.t = 3;
                assert_cx_ok(b->update(b, &u, n, p, g, m, v, err));
                assert_cx_ok(b->sum_squares(b, n, p, &sum, err));
                p = download(b, p, n);
                b->release(b, m), b->release(b, v), b->release(b, g);
                free(start), free(start_m);
                if (t == 0) {
                    double want = 0;
                    for (int64_t i = 0; i < n; i++)
                        want += (double)p[i] * (double)p[i];
                    assert_true(fabs(sum - want) <= 1e-13 * want);
                    first = p;
                    first_sum = sum;
                } else {
                    assert_memory_equal(p, first, (size_t)n * sizeof *p);
                    assert_memory_equal(&sum, &first_sum, sizeof sum);
                    free(p);
                }
                cx_backend_close(b);
            }
            free(first);
            free(grad);
        }
}

static void sum_squares_shows_what_is_not_finite(void **state)
{
    (void)state;
    cx_backend *b = open_named("cpu", 2);
    float *x = noise(5000, 0);
    double sum = 0;
    x[4999] = INFINITY;
    assert_cx_ok(b->sum_squares(b, 5000, x, &sum, err));
    assert_false(isfinite(sum));
    x[4999] = 0;
    x[7] = NAN;
    assert_cx_ok(b->sum_squares(b, 5000, x, &sum, err));
    assert_false(isfinite(sum));
    assert_cx_ok(b->sum_squares(b, 0, x, &sum, err));
    assert_true(sum == 0);
    free(x);
    cx_backend_close(b);
}

static void moments_are_asked_for(void **state)
{
    (void)state;
    cx_backend *b = open_named("cpu", 1);
    float p[4] = { 1, 2, 3, 4 }, g[4] = { 1, 1, 1, 1 }, m[4] = { 0 };
    cx_update u = { .kind = CX_ADAM, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.9, .eps = 1e-8, .grad_scale = 1, .t = 1 };
    assert_cx_fails(CX_E_INTERNAL, "moments", b->update(b, &u, 4, p, g, m, NULL, err));
    u = (cx_update){ .kind = CX_SGD, .lr = 0.1, .momentum = 0.5, .grad_scale = 1 };
    assert_cx_fails(CX_E_INTERNAL, "moments", b->update(b, &u, 4, p, g, NULL, NULL, err));
    u.momentum = 0;
    assert_cx_ok(b->update(b, &u, 4, p, g, NULL, NULL, err));
    assert_true(p[0] == 0.9f);
    cx_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_to_pytorch),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(sum_squares_shows_what_is_not_finite),
        cmocka_unit_test(moments_are_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
