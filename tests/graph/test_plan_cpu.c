/* test_plan_cpu.c - the CPU backend under whole plans: loss and gradients of the references, on each instruction set; the same bits for any threads. */
#include "runs.h"

/* Widths of the real DenseNet, so that the fastest kernels take part, on maps that no tile divides. */
static net wide_net(void)
{
    net n = dense_net(58, 3, 64, 32, (const int[]){ 2, 2 }, 2, 1);
    n.name = "wide";
    return n;
}

/* One training step; the loss and a copy of GRAD. */
static float *step(cx_backend *b, net_fn make, bool copies, float *loss, int64_t *n_grad)
{
    net n = checked(make);
    cx_store *s;
    cx_plan *p;
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    spread_params(s, &n);
    cx_plan_opts o = training_opts(&n);
    switches(&o, copies ? 7 : 0);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    *loss = run_forward(s, p, &n);
    assert_cx_ok(cx_plan_backward(p, err));
    *n_grad = 0;
    float *grad = calloc((size_t)s->trainable, sizeof *grad);
    for (int v = 0; v < n.g->n_values; v++) {                  /* the gaps between parameters are still poisoned */
        cx_tensor g = cx_store_grad(s, v);
        if (g.p)
            memcpy(grad + *n_grad, g.p, (size_t)cx_elems(g.s) * sizeof *grad);
        *n_grad += g.p ? cx_elems(g.s) : 0;
    }
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
    return grad;
}

static const net_fn nets[] = { base_net, small_dense_net, unet, residual, tangle, dropped, frozen, wide_net };

static void test_equals_references(void **state)
{
    (void)state;
    const char *const names[] = { "cpu:avx512", "cpu:avx2", "cpu:portable" };
    ref_backend ref;
    ref_open(&ref);
    for (int k = 0; k < CX_COUNT(nets); k++) {
        float loss[2];
        int64_t n;
        float *want = step(&ref.base, nets[k], true, &loss[0], &n);
        for (int i = 0; i < CX_COUNT(names); i++)
            for (int copies = 0; copies < 2; copies++) {
                cx_backend *b;
                char what[64];
                assert_cx_ok(cx_backend_open(names[i], 2, &b, err));
                float *got = step(b, nets[k], copies, &loss[1], &n);
                snprintf(what, sizeof what, "net %d on %s", k, names[i]);
                assert_close(what, got, want, n, 2e-4, 1e-4);  /* a few layers of float32 sums, each within 2e-5 of the reference */
                assert_close(what, &loss[1], &loss[0], 1, 1e-5, 0);
                free(got);
                cx_backend_close(b);
            }
        free(want);
    }
}

static void test_same_bits_for_any_threads(void **state)
{
    (void)state;
    for (int k = 0; k < CX_COUNT(nets); k++) {
        float *first = NULL, loss[2];
        for (int threads = 1; threads <= 4; threads++) {
            cx_backend *b;
            int64_t n;
            assert_cx_ok(cx_backend_open("cpu", threads, &b, err));
            float *grad = step(b, nets[k], false, &loss[threads > 1], &n);
            if (first) {
                assert_memory_equal(first, grad, (size_t)n * sizeof *grad);
                assert_memory_equal(&loss[0], &loss[1], sizeof(float));
                free(grad);
            } else {
                first = grad;
            }
            cx_backend_close(b);
        }
        free(first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_equals_references), cmocka_unit_test(test_same_bits_for_any_threads) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
