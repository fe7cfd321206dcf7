/* test_plan_cpu.c - backends under whole plans: loss and gradients of the references, on each instruction set and on the emulated GPU; the same bits for any
 * number of threads. */
#include "runs.h"

/* Widths of the real DenseNet, so that the fastest kernels take part, on maps that no tile divides. */
static net wide_net(void)
{
    net n = dense_net(58, 3, 64, 32, (const int[]){ 2, 2 }, 2, 1);
    n.name = "wide";
    return n;
}

static const net_fn nets[] = { base_net, small_dense_net, unet, residual, tangle, dropped, frozen, wide_net };

static void test_equals_references(void **state)
{
    (void)state;
    const char *const names[] = { "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable", "emu", "cuda" };
    ref_backend ref;
    ref_open(&ref);
    for (int k = 0; k < CX_COUNT(nets); k++) {
        float loss[2];
        int64_t n;
        float *want = train_step(&ref.base, nets[k], 7, &loss[0], &n);
        for (int i = 0; i < CX_COUNT(names); i++)
            for (int copies = 0; copies < 2; copies++) {
                cx_backend *b = open_named(names[i], 2);
                char what[64];
                if (!b)
                    continue;
                float *got = train_step(b, nets[k], copies ? 7 : 0, &loss[1], &n);
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
    const run_how how[] = { { 1, 0 }, { 2, 0 }, { 3, 0 }, { 4, 0 }, { 7, 0 }, { 64, 0 } };
    for (int k = 0; k < CX_COUNT(nets); k++)
        assert_same_steps(nets[k], how, CX_COUNT(how));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_equals_references), cmocka_unit_test(test_same_bits_for_any_threads) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
