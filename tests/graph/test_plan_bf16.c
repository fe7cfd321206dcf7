/* test_plan_bf16.c - plans whose activations lie in memory as bfloat16: the conversion itself, who is stored so, and losses and gradients beside float32. */
#include "runs.h"

/* ---- conversion --------------------------------------------------------------------------------------------------- */

static float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static void test_rounds_to_nearest_even(void **state)
{
    (void)state;
    const struct { uint32_t in; uint16_t out; } row[] = {
        { 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 }, { 0x3f818000, 0x3f82 }, { 0x3f808001, 0x3f81 }, { 0x3f807fff, 0x3f80 }, { 0xbf818000, 0xbf82 },
        { 0x00000000, 0x0000 }, { 0x80000000, 0x8000 }, { 0x00000001, 0x0000 }, { 0x00018000, 0x0002 },     /* zeros, numbers below the normal ones */
        { 0x7f7fffff, 0x7f80 }, { 0x7f800000, 0x7f80 }, { 0xff800000, 0xff80 },                               /* the largest rounds to infinity */
        { 0x7fffffff, 0x7fff }, { 0x7f800001, 0x7fc0 }, { 0xffc00000, 0xffc0 },                               /* NaN stays NaN */
    };
    for (int i = 0; i < CX_COUNT(row); i++) {
        if (cx_to_bf16(from_bits(row[i].in)) != row[i].out)
            fail_msg("%08x: want %04x, got %04x", row[i].in, row[i].out, cx_to_bf16(from_bits(row[i].in)));
        if (row[i].in != 0x7fffffff && row[i].in << 16 == 0)
            assert_int_equal(cx_to_bf16(cx_from_bf16(row[i].out)), row[i].out);
    }
}

/* Every bit pattern's upper part with a few lower ones; slices of wider buffers; neither neighbour is touched. */
static void test_kernels_convert_as_the_reference(void **state)
{
    (void)state;
    enum { PX = 5, WIDE_LD = 83, ROUNDS = 400 };
    const char *const names[] = { "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable" };
    static float x[PX * WIDE_LD], back[2][PX * WIDE_LD];
    static uint16_t h[2][PX * WIDE_LD];
    cx_rng r = cx_rng_new(3, 0);
    for (int i = 0; i < CX_COUNT(names); i++) {
        cx_backend *b;
        assert_cx_ok(cx_backend_open(names[i], 2, &b, err));
        for (int round = 0; round < ROUNDS; round++) {
            const int64_t c = 1 + round % (WIDE_LD - 1);
            for (int k = 0; k < PX * WIDE_LD; k++)
                x[k] = from_bits(round % 2 ? cx_rng_u32(&r) : cx_rng_u32(&r) & 0xffff8000);
            memset(h, 0x55, sizeof h);
            memset(back, 0x55, sizeof back);
            for (int side = 0; side < 2; side++) {
                const cx_run_fn convert = side ? b->convert.fwd : cx_ref_fwd_convert;
                const cx_shape s = { 1, 1, PX, c };
                cx_call to = { .x = { { .s = s, .ld = WIDE_LD, .p = x } }, .y = { { .s = s, .ld = WIDE_LD, .p = (float *)(void *)h[side], .type = CX_BF16 } } };
                cx_call from = { .x = { to.y[0] }, .y = { { .s = s, .ld = WIDE_LD, .p = back[side] } } };
                assert_cx_ok(convert(&to));
                assert_cx_ok(convert(&from));
            }
            assert_memory_equal(h[0], h[1], sizeof h[0]);
            assert_memory_equal(back[0], back[1], sizeof back[0]);
        }
        cx_backend_close(b);
    }
}

/* ---- plans -------------------------------------------------------------------------------------------------------- */

/* Length of a - b over that of b. */
static double apart(const float *a, const float *b, int64_t n)
{
    double d2 = 0, b2 = 0;
    for (int64_t i = 0; i < n; i++) {
        d2 += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        b2 += (double)b[i] * (double)b[i];
    }
    return sqrt(d2 / b2);
}

/* Widths and maps of a real network. */
static net wide_dense_net(void)
{
    return dense_net(58, 3, 64, 32, (const int[]){ 2, 2 }, 2, 1);
}

static net wide_unet(void)
{
    return unet_net(16);
}

/* Small and wide ones. */
enum { NETS = CX_COUNT(every_net) + 2 };
static net_fn net_of(int k)
{
    return k < CX_COUNT(every_net) ? every_net[k] : k == CX_COUNT(every_net) ? wide_dense_net : wide_unet;
}

/* 8 bits of mantissa: a stored number is off by up to 2^-9 of itself, and a loss about that. Gradients by more: some 0.3 % of all ReLUs lie so near to
 * zero that they fall to the other side, and when a share f of a mask is wrong, so is sqrt(f) of the length of what passes through it, layer after layer. In
 * the small dense net it is one ReLU on a map of 2x2 pixels. The references compute in double around the same rounding: this is what the storage costs, not
 * what kernels do. */
static void test_near_float32(void **state)
{
    (void)state;
    for (int k = 0; k < NETS; k++) {
        const net_fn make = net_of(k);
        ref_backend ref;
        ref_open(&ref);
        float loss[2];
        int64_t n;
        float *want = train_step(&ref.base, make, 0, &loss[0], &n), *got = train_step(&ref.base, make, RUN_BF16, &loss[1], &n);
        const double off = fabs((double)loss[1] / (double)loss[0] - 1), far = apart(got, want, n);
        printf("net %d: loss off by %.1e, gradients by %.1e of their length\n", k, off, far);
        assert_true(off < 4e-3 && far < (make == small_dense_net ? 0.6 : make == wide_dense_net ? 0.25 : 0.06));
        assert_true(far > 1e-5);                                   /* it did round something */
        free(want);
        free(got);
    }
}

/* Whatever passes are off, every instruction set that multiplies in float32 computes what the references do around the same rounding: 1.1e-6 apart at most.
 * A float32 difference may turn a rounding to the other side, which would move a stored number by 2^-8 and the gradients by far more than this bound; in
 * these networks none does. */
static void test_kernels_equal_references(void **state)
{
    (void)state;
    const char *const names[] = { "cpu:avx512", "cpu:avx2", "cpu:portable" };
    const int bits[] = { RUN_BF16, RUN_BF16 | RUN_LEAN, RUN_BF16 | CX_PASS_ALL, RUN_BF16 | CX_PASS_PROLOGUE, RUN_BF16 | CX_PASS_VIEWS };
    for (int k = 0; k < CX_COUNT(every_net); k++)
        for (int j = 0; j < CX_COUNT(bits); j++) {
            ref_backend ref;
            ref_open(&ref);
            float loss[2];
            int64_t n;
            float *want = train_step(&ref.base, every_net[k], bits[j], &loss[0], &n);
            for (int i = 0; i < CX_COUNT(names); i++) {
                cx_backend *b = open_named(names[i], 2);
                if (!b)
                    continue;
                float *got = train_step(b, every_net[k], bits[j], &loss[1], &n);
                const double far = apart(got, want, n), off = fabs((double)loss[1] / (double)loss[0] - 1);
                if (!(far < 1e-5 && off < 1e-6))
                    fail_msg("net %d, %s, switches %x: loss off by %.1e, gradients by %.1e", k, names[i], (unsigned)bits[j], off, far);
                free(got);
                cx_backend_close(b);
            }
            free(want);
        }
}

/* Products of rounded operands: each loses 2^-9 of itself, signs mixed, beside what storage costs already; bounds are those of test_near_float32. */
static void test_dot_products_near_float32(void **state)
{
    (void)state;
    const char *const names[] = { "cpu:avx512_bf16", "emu" };
    for (int run = 0; run < 4 * NETS; run++) {
        const int k = run / 4, passes = run % 2 ? CX_PASS_ALL : 0;         /* folded, and with every pass off */
        const net_fn make = net_of(k);
        cx_backend *b = open_named(names[run / 2 % 2], 2);
        if (!b)
            continue;
        ref_backend ref;
        ref_open(&ref);
        float loss[2];
        int64_t n;
        float *want = train_step(&ref.base, make, 0, &loss[0], &n), *got = train_step(b, make, RUN_BF16 | passes, &loss[1], &n);
        const double off = fabs((double)loss[1] / (double)loss[0] - 1), far = apart(got, want, n);
        printf("net %d, %s, %s: loss off by %.1e, gradients by %.1e of their length\n", k, passes ? "plain" : "folded", b->description, off, far);
        assert_true(off < 4e-3 && far < (make == small_dense_net ? 0.6 : make == wide_dense_net ? 0.25 : 0.06));
        free(want);
        free(got);
        cx_backend_close(b);
    }
}

/* The up-convolution of a U-Net goes to tensor cores, both ways, and into the slice of a concat. */
static void test_up_convolutions_on_tensor_cores(void **state)
{
    (void)state;
    cx_backend *b = open_named("emu", 1);
    if (!b)
        return;
    net n = wide_unet();
    cx_store *s;
    cx_plan *p;
    cx_plan_opts o = training_opts(&n);
    int found = 0;
    o.bf16 = true;
    assert_cx_ok(cx_graph_check(n.g, err));
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    for (int i = 0; i < cx_plan_get_stats(p).n_steps; i++) {
        const cx_step_info at = cx_plan_step(p, i);
        if (strcmp(at.node, "up_a") == 0) {
            assert_string_equal(at.impl, "conv_transpose2d cuda bf16");
            found++;
        }
    }
    assert_int_equal(found, 2);
    cx_plan_free(p);
    cx_store_free(s);
    cx_backend_close(b);
    cx_graph_free(n.g);
}

/* Threads, and recomputing bottlenecks from what is stored, change no bit. */
static void test_same_bits(void **state)
{
    (void)state;
    const run_how how[] = { { 1, RUN_BF16 }, { 2, RUN_BF16 }, { 3, RUN_BF16 }, { 7, RUN_BF16 }, { 64, RUN_BF16 }, { 2, RUN_BF16 | RUN_LEAN } };
    for (int k = 0; k < CX_COUNT(every_net); k++)
        assert_same_steps(every_net[k], how, CX_COUNT(how));
}

/* Kept values, inputs, logits and gradients stay float32: what a caller reads is never rounded storage. The rest takes half the room. */
static void test_who_is_bf16(void **state)
{
    (void)state;
    net n = dense_net(64, 3, 64, 32, (const int[]){ 4, 4 }, 2, 1);
    assert_cx_ok(cx_graph_check(n.g, err));
    cx_backend *b;
    cx_store *s;
    cx_plan *p;
    cx_plan_stats stats[2];
    assert_cx_ok(cx_backend_open("cpu", 2, &b, err));
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    cx_plan_opts o = training_opts(&n);
    for (int i = 0; i < 2; i++) {
        o.bf16 = i;
        assert_cx_ok(cx_plan_describe(s, &o, &stats[i], err));
    }
    assert_true(stats[1].moved_bytes < stats[0].moved_bytes * 4 / 5);
    assert_true(stats[1].act_bytes < stats[0].act_bytes * 4 / 5);
    const int keep[] = { n.feature, n.logits };
    o = (cx_plan_opts){ .batch = BATCH, .output = n.logits, .keep = keep, .n_keep = 2, .bf16 = true };
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    assert_int_equal(cx_plan_value(p, n.x).type, CX_F32);
    assert_int_equal(cx_plan_value(p, n.feature).type, CX_F32);
    assert_int_equal(cx_plan_value(p, n.logits).type, CX_F32);
    cx_plan_free(p);
    cx_store_free(s);
    cx_backend_close(b);
    cx_graph_free(n.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds_to_nearest_even), cmocka_unit_test(test_kernels_convert_as_the_reference), cmocka_unit_test(test_near_float32),
        cmocka_unit_test(test_kernels_equal_references), cmocka_unit_test(test_dot_products_near_float32),
        cmocka_unit_test(test_up_convolutions_on_tensor_cores), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_who_is_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
