/* test_roof.c - the roof of the CPU backend: every figure is there for every instruction set, and a failure goes up. No figure is judged. */
#include "support.h"
#include "cxnet/graph.h"

static const char *const isas[] = { "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable" };

static bool finite_above_zero(double x)
{
    return isfinite(x) && x > 0;
}

static bool has_bf16(const cx_backend *b)
{
#if defined(__x86_64__)
    return strstr(b->description, "avx512") && __builtin_cpu_supports("avx512bf16");
#else
    (void)b;
    return false;
#endif
}

static void every_figure(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(isas); i++) {
        cx_backend *b = NULL;
        cx_roof r = { .bf16_gflops = -1 };
        assert_cx_ok(cx_backend_open(isas[i], 2, &b, err));
        assert_cx_ok(b->roof(b, &r, err));
        assert_true(finite_above_zero(r.fp32_gflops));
        assert_true(finite_above_zero(r.read_gbs));
        assert_true(finite_above_zero(r.copy_gbs));
        assert_true(has_bf16(b) ? finite_above_zero(r.bf16_gflops) : r.bf16_gflops == 0);
        assert_in_range(r.memory_bytes, 1, (size_t)1 << 30);
        cx_backend_close(b);
    }
}

static cx_status no_memory(cx_backend *b, size_t bytes, void **p, cx_error *err)
{
    (void)b, (void)p;
    return cx_fail(err, CX_E_MEMORY, "told to fail at %zu bytes", bytes);
}

static void failures_go_up(void **state)
{
    (void)state;
    cx_backend *b = NULL;
    cx_roof r;
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    b->alloc = no_memory;
    assert_cx_fails(CX_E_MEMORY, "told to fail", b->roof(b, &r, err));
    cx_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_figure), cmocka_unit_test(failures_go_up) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
