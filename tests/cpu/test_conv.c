/* test_conv.c - conv2d, linear and conv_transpose2d of every instruction set of this machine against the double-accumulating reference, at awkward sizes;
 * the same bits for 1, 2, 3 and 7 threads; nothing outside a slice is touched. */
#include "support.h"
#include "cpu/slices.h"
#include "cpu/impls.h"
#include "cxnet/op.h"
#include <omp.h>

typedef struct { const char *name; bool here; const cx_impl *impls[3]; int n[3]; } isa;      /* conv2d, linear, conv_transpose2d */

static int isa_list(isa out[3])
{
    out[0] = (isa){ "avx512", __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl"), { cx_conv2d_impls_avx512, cx_linear_impls_avx512, cx_conv_transpose2d_impls_avx512 },
        { cx_conv2d_n_avx512, cx_linear_n_avx512, cx_conv_transpose2d_n_avx512 } };
    out[1] = (isa){ "avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
        { cx_conv2d_impls_avx2, cx_linear_impls_avx2, cx_conv_transpose2d_impls_avx2 }, { cx_conv2d_n_avx2, cx_linear_n_avx2, cx_conv_transpose2d_n_avx2 } };
    out[2] = (isa){ "portable", true, { cx_conv2d_impls_portable, cx_linear_impls_portable, cx_conv_transpose2d_impls_portable },
        { cx_conv2d_n_portable, cx_linear_n_portable, cx_conv_transpose2d_n_portable } };
    return 3;
}

typedef struct {
    cx_op_id op;
    int table;                                  /* index into isa.impls */
    cx_shape x, w;
    union { cx_conv_attr conv; cx_convt_attr convt; } attr;
    int64_t extra;                              /* ld - c of the activations */
    bool bias, relu, add, no_dx;
} a_case;

static void describe(const a_case *k, const char *isa_name, const char *impl, char *out, size_t n)
{
    snprintf(out, n, "%s/%s %s x %lldx%lldx%lldx%lld w %lldx%lldx%lldx%lld stride %d extra %lld%s%s%s", isa_name, impl, cx_ops[k->op].name, (long long)k->x.n,
        (long long)k->x.h, (long long)k->x.w, (long long)k->x.c, (long long)k->w.n, (long long)k->w.h, (long long)k->w.w, (long long)k->w.c,
        k->op == CX_OP_LINEAR ? 1 : k->attr.conv.stride, (long long)k->extra, k->bias ? " bias" : "", k->relu ? " relu" : "", k->add ? " add" : "");
}

static void run(const cx_impl *impl, cx_call *c, bool backward)
{
    c->work_bytes = impl->workspace ? impl->workspace(c, backward) : 0;
    c->work = NULL;
    if (c->work_bytes) {
        assert_int_equal(posix_memalign(&c->work, 64, c->work_bytes), 0);
        memset(c->work, 0xff, c->work_bytes);              /* NaN: scratch has undefined contents */
    }
    assert_int_equal((backward ? impl->bwd : impl->fwd)(c), CX_OK);
    free(c->work);
    c->work = NULL;
}

/* Runs one implementation with several thread counts and compares with the reference call `want`, whose results are in y[0] and dx[0..2]. */
static void check_impl(const a_case *k, const isa *a, const cx_impl *impl, const cx_call *base, const cx_call *want, const cx_tensor seed[3], int counts)
{
    static const int threads[] = { 1, 3, 2, 7 };
    char what[256], part[300];
    cx_tensor first[4] = { { .p = NULL } };
    describe(k, a->name, impl->name, what, sizeof what);
    for (int t = 0; t < counts; t++) {
        omp_set_num_threads(threads[t]);
        cx_call c = *base;
        c.y[0] = tensor(c.y[0].s, k->extra, false);
        run(impl, &c, false);
        for (int i = 0; i < 3; i++)
            if (want->dx[i].p)
                c.dx[i] = copy_of(&seed[i]);
        cx_tensor forward = c.y[0];
        c.y[0] = want->y[0];                               /* the mask of the reference: a sum near zero may round to either side */
        run(impl, &c, true);
        c.y[0] = forward;
        cx_tensor got[4] = { c.y[0], c.dx[0], c.dx[1], c.dx[2] };
        const cx_tensor *ref[4] = { &want->y[0], &want->dx[0], &want->dx[1], &want->dx[2] };
        static const char *names[4] = { "y", "dx", "dw", "db" };
        for (int i = 0; i < 4; i++) {
            if (!ref[i]->p)
                continue;
            snprintf(part, sizeof part, "%s: %s", what, names[i]);
            if (t == 0) {
                assert_marks(part, &got[i]);
                for (int64_t p = 0; p < cx_pixels(got[i].s); p++)      /* marks out of the way of the largest value */
                    for (int64_t j = got[i].s.c; p + 1 < cx_pixels(got[i].s) && j < got[i].ld; j++)
                        got[i].p[p * got[i].ld + j] = ref[i]->p[p * ref[i]->ld + j] = 0;
                assert_close(part, got[i].p, ref[i]->p, (int64_t)floats_of(&got[i]), cx_ops[k->op].rtol, cx_ops[k->op].atol);
                first[i] = got[i];
            } else {
                for (int64_t p = 0; p < cx_pixels(got[i].s); p++)
                    if (memcmp(got[i].p + p * got[i].ld, first[i].p + p * first[i].ld, (size_t)got[i].s.c * sizeof(float)))
                        fail_msg("%s: other bits with %d threads", part, threads[t]);
                free(got[i].p);
            }
        }
    }
    for (int i = 0; i < 4; i++)
        free(first[i].p);
}

/* counts: how many of the thread counts; few cases try all. */
static void check(const a_case *k, int counts)
{
    isa list[3];
    int n_isa = isa_list(list);
    cx_call c = { .attr = &k->attr, .n_in = k->bias ? 3 : 2, .n_out = 1, .training = true, .relu = k->relu };
    int64_t out = k->op == CX_OP_CONV_TRANSPOSE2D ? k->w.c : k->w.n;
    c.x[0] = tensor(k->x, k->extra, true);
    c.x[1] = tensor(k->w, 0, true);
    if (k->bias)
        c.x[2] = tensor((cx_shape){ 1, 1, 1, out }, 0, true);
    assert_cx_ok(cx_ops[k->op].infer(&c, err));
    c.y[0] = tensor(c.y[0].s, k->extra, false);
    c.dy[0] = tensor(c.y[0].s, k->extra, true);
    cx_tensor seed[3] = { { .p = NULL } };
    cx_call want = c;
    for (int i = 0; i < c.n_in; i++) {
        want.dx_add[i] = c.dx_add[i] = k->add;
        if (i == 0 && k->no_dx)
            continue;
        seed[i] = tensor(c.x[i].s, i ? 0 : k->extra, k->add);
        want.dx[i] = copy_of(&seed[i]);
    }
    assert_int_equal(cx_ops[k->op].ref_fwd(&want), CX_OK);
    assert_int_equal(cx_ops[k->op].ref_bwd(&want), CX_OK);
    for (int a = 0; a < n_isa; a++)
        for (int i = 0; list[a].here && i < list[a].n[k->table]; i++) {
            const cx_impl *impl = &list[a].impls[k->table][i];
            if (impl->accepts == NULL || impl->accepts(&c))
                check_impl(k, &list[a], impl, &c, &want, seed, counts);
        }
    for (int i = 0; i < 3; i++) {
        free(c.x[i].p);
        free(seed[i].p);
        free(want.dx[i].p);
    }
    free(c.y[0].p);
    free(c.dy[0].p);
}

static cx_conv_attr pads(int stride, int top, int bottom, int left, int right) { return (cx_conv_attr){ stride, top, bottom, left, right }; }

static void pointwise(void **state)
{
    (void)state;
    static const int64_t channels[] = { 1, 3, 5, 17, 31, 32, 33, 64, 96, 130 };
    for (int i = 0; i < 10; i++)
        for (int j = i % 3; j < 10; j += 3) {
            int64_t h = 1 + (i * 7 + j) % 9, w = 1 + (i + j * 5) % 11;
            a_case k = { CX_OP_CONV2D, 0, { 1 + (i + j) % 3, h, w, channels[i] }, { channels[j], 1, 1, channels[i] }, { pads(1, 0, 0, 0, 0) }, (i * j) % 4 * 9,
                (i + j) % 2, (i + 2 * j) % 3 == 0, (i * 3 + j) % 2, false };
            check(&k, 2);
        }
    a_case wide = { CX_OP_CONV2D, 0, { 2, 19, 19, 300 }, { 40, 1, 1, 300 }, { pads(1, 0, 0, 0, 0) }, 20, true, true, true, false };
    check(&wide, 4);                                       /* several blocks of K and of pixels, several chunks of the weight gradient */
}

static void windows(void **state)
{
    (void)state;
    static const int64_t in[] = { 1, 3, 5, 17, 32, 33, 64 }, out[] = { 32, 1, 33, 5, 17, 64, 31 };
    static const int kernels[] = { 1, 2, 3, 5, 7 };
    for (int q = 0; q < 5; q++)
        for (int stride = 1; stride <= 3; stride++)
            for (int i = 0; i < 4; i++) {
                int kh = kernels[q], kw = i == 3 ? kernels[(q + 1) % 5] : kh, s = q * 5 + stride * 3 + i;
                int64_t c = in[(s + i) % 7], o = out[s % 7], h = kh + s % 12, w = kw + (s * 5) % 13;
                a_case k = { CX_OP_CONV2D, 0, { 1 + s % 3, h, w, c }, { o, kh, kw, c }, { pads(stride, s % kh, (s + 1) % kh, (s / 2) % kw, (s / 3) % kw) },
                    s % 3 * 7, s % 2, s % 3 == 0, s % 4 > 1, s % 5 == 0 };
                check(&k, i ? 2 : 4);
            }
}

/* The kernel is the stride: taps that do not overlap, with panels of inputs, odd outputs, one pixel, lines longer than a block, several parts. */
static void taps(void **state)
{
    (void)state;
    const struct { cx_shape x; int stride; int64_t out, extra; bool bias, add, no_dx; } k[] = {
        { { 2, 5, 3, 32 }, 2, 17, 0, true, false, false }, { { 1, 1, 1, 64 }, 2, 32, 0, true, true, false },
        { { 3, 2, 130, 32 }, 2, 16, 16, true, false, false }, { { 2, 40, 9, 32 }, 2, 33, 5, false, true, false },
        { { 2, 7, 6, 64 }, 2, 5, 3, true, true, true }, { { 2, 16, 15, 512 }, 2, 64, 64, true, false, false },
        { { 1, 30, 31, 96 }, 1, 40, 0, true, false, false }, { { 2, 64, 64, 32 }, 2, 1, 1, true, true, false },
    };
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++) {
        a_case t = { .op = CX_OP_CONV_TRANSPOSE2D, .table = 2, .x = k[i].x, .w = { k[i].x.c, k[i].stride, k[i].stride, k[i].out },
            .attr.convt = { k[i].stride, 0 }, .extra = k[i].extra, .bias = k[i].bias, .add = k[i].add, .no_dx = k[i].no_dx };
        check(&t, 4);
    }
}

/* The shapes of the networks in small: growth convolution, stem of DenseNet, layers of the base CNN, one wide enough for several blocks of K. */
static void network_shapes(void **state)
{
    (void)state;
    const a_case k[] = {
        { CX_OP_CONV2D, 0, { 2, 14, 14, 128 }, { 32, 3, 3, 128 }, { pads(1, 1, 1, 1, 1) }, 96, false, false, true, false },
        { CX_OP_CONV2D, 0, { 3, 7, 7, 128 }, { 32, 3, 3, 128 }, { pads(1, 1, 1, 1, 1) }, 0, false, false, false, false },
        { CX_OP_CONV2D, 0, { 1, 37, 35, 3 }, { 64, 7, 7, 3 }, { pads(2, 3, 3, 3, 3) }, 0, false, false, false, true },
        { CX_OP_CONV2D, 0, { 2, 41, 43, 3 }, { 32, 5, 5, 3 }, { pads(2, 0, 0, 0, 0) }, 0, true, true, false, true },
        { CX_OP_CONV2D, 0, { 2, 19, 19, 32 }, { 32, 3, 3, 32 }, { pads(2, 0, 0, 0, 0) }, 0, true, true, false, false },
        { CX_OP_CONV2D, 0, { 1, 6, 5, 250 }, { 48, 3, 3, 250 }, { pads(1, 1, 1, 1, 1) }, 3, true, true, true, false },
        { CX_OP_CONV2D, 0, { 1, 3, 300, 4 }, { 6, 3, 3, 4 }, { pads(1, 1, 1, 1, 1) }, 0, true, false, false, false },
        { CX_OP_CONV2D, 0, { 1, 1, 1, 8 }, { 6, 3, 3, 8 }, { pads(1, 1, 1, 1, 1) }, 0, true, false, false, false },
        { CX_OP_CONV2D, 0, { 3, 10, 13, 32 }, { 48, 3, 3, 32 }, { pads(1, 2, 0, 0, 1) }, 7, true, true, true, false },
        { CX_OP_CONV2D, 0, { 2, 30, 33, 80 }, { 32, 3, 3, 80 }, { pads(1, 0, 2, 1, 2) }, 0, true, false, false, false },
        { CX_OP_CONV2D, 0, { 1, 5, 4, 64 }, { 64, 3, 3, 64 }, { pads(1, 1, 1, 1, 1) }, 16, false, true, false, true },
        { CX_OP_CONV2D, 0, { 1, 9, 9, 16 }, { 24, 1, 1, 16 }, { pads(2, 0, 0, 0, 0) }, 5, false, false, true, false },
    };
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++)
        check(&k[i], 4);
}

static void linear(void **state)
{
    (void)state;
    static const int64_t rows[] = { 1, 2, 3, 5, 32, 33, 70 }, in[] = { 1, 3, 17, 33, 100, 1024, 2500 }, out[] = { 10, 1, 3, 14, 33, 70, 4 };
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 7; j++) {
            a_case k = { CX_OP_LINEAR, 1, { rows[i], 1, 1, in[j] }, { out[(i + 2 * j) % 7], 1, 1, in[j] }, { pads(1, 0, 0, 0, 0) }, (i + j) % 3 * 5,
                (i + j) % 4 > 0, (i * j) % 2, (i + j) % 2, i == 2 };
            check(&k, 2);
        }
}

static void transposed(void **state)
{
    (void)state;
    static const int64_t in[] = { 1, 3, 17, 32, 64 }, out[] = { 33, 5, 32, 1, 16 };
    for (int kernel = 1; kernel <= 4; kernel++)
        for (int stride = 1; stride <= 3; stride++)
            for (int i = 0; i < 3; i++) {
                int s = kernel * 3 + stride * 2 + i, pad = kernel > 1 ? s % 2 : 0;
                a_case k = { .op = CX_OP_CONV_TRANSPOSE2D, .table = 2, .x = { 1 + s % 3, 2 + s % 6, 3 + s % 5, in[s % 5] },
                    .w = { in[s % 5], kernel, kernel, out[(s + i) % 5] }, .attr.convt = { stride, pad }, .extra = s % 3 * 4, .bias = s % 3 > 0,
                    .relu = s % 2, .add = s % 4 > 1, .no_dx = s % 7 == 0 };
                check(&k, i ? 2 : 4);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pointwise), cmocka_unit_test(windows), cmocka_unit_test(network_shapes), cmocka_unit_test(linear), cmocka_unit_test(transposed),
        cmocka_unit_test(taps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
