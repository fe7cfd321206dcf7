/* test_kernels.c - every implementation of every operator on every instruction set of this machine against the double-accumulating reference, over the shared
 * case table and over larger cases of its own: the same bits for 1, 2, 3 and 7 threads, rebuilt outputs equal, unwanted gradients left out. */
#include "support.h"
#include "cxnet/graph.h"
#include "cpu/isa.h"
#include "ops/cases.h"

static const int thread_counts[] = { 1, 2, 3, 7 };

/* Large enough for several chunks, for all widths of the channel loops, and (the last of norms) for stores past the caches. */
#define ATTR(kind, ...) &(const cx_##kind##_attr){ __VA_ARGS__ }
#define IN(fill, n, h, w, c) { FILL_##fill, { n, h, w, c } }
#define CASE(name, op, flags, attr, ...) { #name, CX_OP_##op, flags, attr, { __VA_ARGS__ } },
#define NORM(c) IN(WEIGHT, 1,1,1,c), IN(SIGNED, 1,1,1,c), IN(SIGNED, 1,1,1,c), IN(POSITIVE, 1,1,1,c)
static const cases_row large[] = {
    CASE(large_norm_chunks, BATCH_NORM, TRAINING | RELU, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f, .unbiased = true), IN(SIGNED, 3,31,29,80), NORM(80))
    CASE(large_norm_slice, BATCH_NORM, TRAINING | RELU | SLICED | DX_ADD, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f), IN(SIGNED, 2,23,19,149), NORM(149))
    CASE(large_norm_far, BATCH_NORM, TRAINING, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f), IN(FAR, 2,40,40,21), NORM(21))
    CASE(large_norm_frozen, BATCH_NORM, TRAINING | RELU, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f, .frozen = true), IN(SIGNED, 2,17,33,70), NORM(70))
    CASE(large_norm_eval, BATCH_NORM, 0, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f), IN(SIGNED, 1,61,7,37), NORM(37))
    CASE(large_norm_stream, BATCH_NORM, TRAINING | RELU, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f), IN(SIGNED, 4,92,90,64), NORM(64))
    CASE(large_norm_stream_linear, BATCH_NORM, 0, ATTR(norm, .eps = 1e-5f, .momentum = 0.1f), IN(SIGNED, 2,184,90,64), NORM(64))
    CASE(large_relu, RELU, 0, NULL, IN(SIGNED, 3,33,17,64))
    CASE(large_add, ADD, RELU | DX_ADD, NULL, IN(SIGNED, 2,41,17,48), IN(SIGNED, 2,41,17,48))
    CASE(large_sigmoid, SIGMOID, 0, NULL, IN(SIGNED, 2,64,65,3))
    CASE(large_convt_taps, CONV_TRANSPOSE2D, SLICED | DX_ADD, ATTR(convt, .stride = 2), IN(SIGNED, 3,12,10,64), IN(SIGNED, 64,2,2,19), IN(SIGNED, 1,1,1,19))
    CASE(large_convt_s4, CONV_TRANSPOSE2D, RELU, ATTR(convt, .stride = 4, .pad = 1), IN(SIGNED, 2,3,5,6), IN(SIGNED, 6,3,6,5), IN(SIGNED, 1,1,1,5))
    CASE(large_convt_s40, CONV_TRANSPOSE2D, 0, ATTR(convt, .stride = 40), IN(SIGNED, 1,1,3,3), IN(SIGNED, 3,5,41,2))
    CASE(large_conv_s3, CONV2D, SLICED | DX_ADD, ATTR(conv, .stride = 3, .pad_top = 2, .pad_right = 1),
         IN(SIGNED, 2,17,13,5), IN(SIGNED, 7,4,2,5), IN(SIGNED, 1,1,1,7))
    CASE(large_conv_s4, CONV2D, RELU, ATTR(conv, .stride = 4, .pad_bottom = 3, .pad_left = 1), IN(SIGNED, 1,19,22,3), IN(SIGNED, 70,5,3,3))
    CASE(large_conv_s5, CONV2D, SLICED, ATTR(conv, .stride = 5, .pad_left = 3, .pad_right = 3),
         IN(SIGNED, 1,12,31,4), IN(SIGNED, 3,2,7,4), IN(SIGNED, 1,1,1,3))
    CASE(large_conv_s40, CONV2D, DX_ADD, ATTR(conv, .stride = 40, .pad_top = 3), IN(SIGNED, 1,5,90,3), IN(SIGNED, 4,7,7,3), IN(SIGNED, 1,1,1,4))
    CASE(large_conv_pixels, CONV2D, DX_ADD, ATTR(conv, .stride = 1), IN(SIGNED, 1,256,257,2), IN(SIGNED, 1,1,1,2), IN(SIGNED, 1,1,1,1))
    CASE(large_linear_long, LINEAR, RELU | DX_ADD, NULL, IN(SIGNED, 3,1,1,5000), IN(SIGNED, 5,1,1,5000), IN(SIGNED, 1,1,1,5))
    CASE(large_dice, DICE_LOSS, 0, ATTR(dice, .smooth = 1), IN(UNIT, 2,129,150,1), IN(BINARY_MASKED, 2,129,150,1))
    CASE(large_dice_slice, DICE_LOSS, SLICED | DX_ADD, ATTR(dice, .smooth = 1), IN(UNIT, 3,61,67,3), IN(BINARY, 3,61,67,3))
    CASE(large_dice_far, DICE_LOSS, 0, ATTR(dice, .smooth = 1), IN(UNIT, 3,431,421,1), IN(BINARY, 3,431,421,1))
    CASE(large_bce, BCE_LOSS, SLICED, ATTR(bce, .smoothing = 0.1f), IN(SIGNED, 301,1,1,14), IN(BINARY_MASKED, 301,1,1,14), IN(WEIGHT, 1,1,2,14))
    CASE(large_ce_pixels, CE_LOSS, SLICED | DX_ADD, ATTR(ce, .smoothing = 0.1f), IN(SIGNED, 3,43,41,5), IN(CLASS_MASKED, 3,43,41,1), IN(WEIGHT, 1,1,1,5))
    CASE(large_softmax, SOFTMAX, 0, NULL, IN(SIGNED, 700,1,1,15))
    CASE(large_dropout, DROPOUT, TRAINING | SLICED, ATTR(dropout, .rate = 0.3f), IN(SIGNED, 5,11,13,19))
    CASE(large_dropout_part, DROPOUT, TRAINING | SLICED | LATER, ATTR(dropout, .rate = 0.3f), IN(SIGNED, 5,11,13,19))
    CASE(large_concat, CONCAT, DX_ADD, NULL, IN(SIGNED, 3,20,11,32), IN(SIGNED, 3,20,11,33))
    CASE(large_flatten, FLATTEN, SLICED, NULL, IN(SIGNED, 3,20,11,10))
    CASE(large_upsample, UPSAMPLE, 0, ATTR(upsample, .out_h = 56, .out_w = 44), IN(SIGNED, 3,27,22,24))
    CASE(large_upsample_wide, UPSAMPLE, SLICED | DX_ADD, ATTR(upsample, .out_h = 3, .out_w = 600), IN(SIGNED, 1,2,2,3))
    CASE(large_upsample_tall, UPSAMPLE, 0, ATTR(upsample, .out_h = 600, .out_w = 3), IN(SIGNED, 1,2,2,3))
    CASE(large_max_pool_3_2, MAX_POOL, 0, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1), IN(SIGNED, 3,57,56,64))
    CASE(large_max_pool_5_1, MAX_POOL, SLICED | DX_ADD, ATTR(pool, .kernel = 5, .stride = 1, .pad = 2), IN(SIGNED, 2,29,21,83))
    CASE(large_max_pool_9_2, MAX_POOL, 0, ATTR(pool, .kernel = 9, .stride = 1, .pad = 4), IN(SIGNED, 1,27,11,20))
    CASE(large_max_pool_1_3, MAX_POOL, 0, ATTR(pool, .kernel = 1, .stride = 3), IN(SIGNED, 2,29,30,17))
    CASE(large_avg_pool_2_2, AVG_POOL, 0, ATTR(pool, .kernel = 2, .stride = 2), IN(SIGNED, 3,57,28,128))
    CASE(large_avg_pool_3_2, AVG_POOL, SLICED | DX_ADD, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1, .count_pad = true), IN(SIGNED, 2,41,40,40))
    CASE(large_avg_pool_many, AVG_POOL, SLICED, ATTR(pool, .kernel = 2, .stride = 2), IN(SIGNED, 41,4,6,9))
    CASE(large_global_pool_many, GLOBAL_AVG_POOL, DX_ADD, NULL, IN(SIGNED, 41,2,3,20))
    CASE(large_global_pool, GLOBAL_AVG_POOL, SLICED, NULL, IN(SIGNED, 3,29,31,200))
};

_Static_assert(4 * 92 * 90 * 64 * 4 >= 8 << 20, "kernels store past the caches from 8 MiB on");
enum { SHARED = CX_COUNT(cases), TOTAL = CX_COUNT(cases) + CX_COUNT(large) };

static const cases_row *row(int i)
{
    return i < SHARED ? &cases[i] : &large[i - SHARED];
}

/* Forward, for cheap operators a second time from what forward saved, backward. */
static void run_case(cx_backend *b, cases_run *r, const cx_impl *impl)
{
    with_work(b, &r->c, impl, false, impl->fwd);
    if (cx_ops[r->k->op].flags & CX_CHEAP) {
        for (int64_t e = 0; e < cx_elems(r->c.y[0].s); e++)
            *cases_at(&r->c.y[0], e) = NAN;
        r->c.redo = true;
        with_work(b, &r->c, impl, false, impl->fwd);
        r->c.redo = false;
    }
    with_work(b, &r->c, impl, true, impl->bwd);
    case_assert_gaps(r);
}

/* An operator whose tolerance is 0 still rounds where it adds to dx or sums gradients: once per term, not at all for a copy. */
static void near(const cases_run *got, const char *impl, const char *what, const cx_tensor *a, const cx_tensor *b)
{
    const cx_op *op = &cx_ops[got->k->op];
    if (!a->p)
        return;
    char *name = cx_sprintf("%s (%s) %s", got->k->name, impl, what);
    float *x = cases_dense(a), *y = cases_dense(b);
    assert_close(name, x, y, cx_elems(a->s), op->rtol + 1e-7, op->atol);
    free(x);
    free(y);
    free(name);
}

static void against_reference(const cases_run *got, const cases_run *want, const char *impl)
{
    static const char *const x[] = { "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7" }, *const dx[] = { "dx0", "dx1", "dx2", "dx3", "dx4", "dx5", "dx6", "dx7" };
    static const char *const y[] = { "y0", "y1", "y2" };
    for (int i = 0; i < got->c.n_in; i++) {
        near(got, impl, x[i], &got->c.x[i], &want->c.x[i]);
        near(got, impl, dx[i], &got->c.dx[i], &want->c.dx[i]);
    }
    for (int j = 0; j < got->c.n_out; j++)
        near(got, impl, y[j], &got->c.y[j], &want->c.y[j]);
}

/* Each gradient alone is the gradient that comes with the others. */
static void each_gradient_alone(cx_backend *b, const cases_run *all, const cx_impl *impl)
{
    for (int i = 0; i < all->c.n_in; i++) {
        cases_run r;
        if (!all->c.dx[i].p)
            continue;
        case_open(&r, all->k);
        with_work(b, &r.c, impl, false, impl->fwd);
        for (int j = 0; j < r.c.n_in; j++)
            if (j != i)
                r.c.dx[j].p = NULL;
        with_work(b, &r.c, impl, true, impl->bwd);
        case_assert_equal(r.k->name, "dx alone", &r.c.dx[i], &all->c.dx[i]);
        case_close(&r);
    }
}

/* Filling the largest tensors takes longest, on the emulated GPU its many blocks: these go with two thread counts only, and without each gradient alone. Seven
 * threads are the schedule of one there. */
static bool is_huge(const char *isa, const cx_call *c) { return cx_elems(c->y[0].s) > 1000000 || (is_emulated(isa) && cx_pixels(c->y[0].s) > 50000); }

static void check_impl(const char *isa, const cases_run *want, int at)
{
    cases_run first = { 0 };
    const bool huge = is_huge(isa, &want->c);
    const int counts = CX_COUNT(thread_counts) - is_emulated(isa);
    for (int t = 0; t < counts; t += huge ? counts - 1 : 1) {
        cx_backend *b = open_isa(isa, thread_counts[t]);
        int n = 0;
        const cx_impl *impl = &b->impls(b, want->k->op, &n)[at];
        cases_run r;
        case_open(&r, want->k);
        run_case(b, &r, impl);
        if (t == 0) {
            against_reference(&r, want, impl->name);
            if (!huge)
                each_gradient_alone(b, &r, impl);
            first = r;
        } else {
            case_assert_same(&first, &r);
            case_close(&r);
        }
        cx_backend_close(b);
    }
    case_close(&first);
}

/* Sizes that fill a GPU take the emulated one minutes under a sanitizer. */
static bool takes_too_long(const char *isa, const cx_call *c)
{
#ifdef CX_SANITIZED
    return is_emulated(isa) && cx_elems(c->x[0].s) > 30000;
#else
    (void)isa, (void)c;
    return false;
#endif
}

static void check_isa(const char *isa, const cases_run *want)
{
    cx_backend *b = takes_too_long(isa, &want->c) ? NULL : open_isa(isa, 1);
    if (!b)
        return;
    int n = 0;
    cx_call c = want->c;
    c.self = b->self;
    const cx_impl *list = b->impls(b, want->k->op, &n);
    for (int at = 0; at < n; at++)
        if (!is_reference(&list[at]) && (!list[at].accepts || list[at].accepts(&c)))
            check_impl(isa, want, at);
    cx_backend_close(b);
}

static void kernels_equal_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < TOTAL; i++) {
        cases_run want;
        if (!wanted(row(i)->op))
            continue;
        case_open(&want, row(i));
        run_case(NULL, &want, &(cx_impl){ .name = "reference", .fwd = cx_ops[row(i)->op].ref_fwd, .bwd = cx_ops[row(i)->op].ref_bwd });
        for (int s = 0; s < CX_COUNT(isas); s++)
            check_isa(isas[s], &want);
        case_close(&want);
    }
}

/* Every operator but some losses has a kernel, and every list ends with the reference. */
static void lists_end_with_the_reference(void **state)
{
    (void)state;
    for (int s = 0; s < CX_COUNT(isas); s++) {
        const bool gpu = is_gpu(isas[s]);                        /* has kernels for all, and device memory that no reference could read */
        cx_backend *b = open_isa(isas[s], 1);
        if (!b)
            print_message("this machine has no %s: not tested\n", isas[s]);
        for (int op = 0; b && !gpu && op < CX_OP_COUNT; op++) {
            int n = 0;
            const cx_impl *list = b->impls(b, (cx_op_id)op, &n);
            assert_in_range(n, cx_ops[op].flags & CX_LOSS ? 1 : 2, 8);
            assert_string_equal(list[n - 1].name, "reference");
            assert_ptr_equal(list[n - 1].fwd, cx_ops[op].ref_fwd);
            assert_null(list[n - 1].accepts);
        }
        if (b)
            cx_backend_close(b);
    }
}

static void names_and_threads_are_checked(void **state)
{
    (void)state;
    cx_backend *b = NULL;
    assert_cx_fails(CX_E_UNSUPPORTED, "avx2", cx_backend_open("cpu:sse9", 1, &b, err));
    assert_cx_fails(CX_E_USAGE, "threads", cx_backend_open("cpu", -1, &b, err));
    assert_cx_ok(cx_backend_open("cpu", 3, &b, err));
    assert_int_equal(b->threads, 3);
    assert_non_null(strstr(b->description, "3 threads"));
    void *p = NULL;
    assert_cx_fails(CX_E_MEMORY, "smaller batch", b->alloc(b, SIZE_MAX, &p, err));
    assert_null(p);
    assert_cx_ok(b->alloc(b, 100, &p, err));
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(((char *)p)[i], 0);
    b->release(b, p);
    cx_backend_close(b);
}

/* A NaN must come out of every kernel that it goes into, or a broken run would look sound. */
static void nan_goes_through(void **state)
{
    (void)state;
    static const char *const names[] = { "large_norm_chunks", "large_norm_eval", "large_relu", "large_add", "large_sigmoid", "large_max_pool_3_2",
        "large_avg_pool_2_2" };
    for (int s = 0; s < CX_COUNT(isas); s++)
        for (int i = 0; i < TOTAL; i++)
            for (int j = 0; j < CX_COUNT(names); j++) {
                cx_backend *b = strcmp(row(i)->name, names[j]) == 0 && wanted(row(i)->op) ? open_isa(isas[s], 2) : NULL;
                cases_run r;
                int n = 0;
                if (!b)
                    continue;
                case_open(&r, row(i));
                *cases_at(&r.c.x[0], 5) = NAN;
                const cx_impl *impl = b->impls(b, r.k->op, &n);
                with_work(b, &r.c, impl, false, impl->fwd);
                bool found = false;
                for (int64_t e = 0; e < cx_elems(r.c.y[0].s); e++)
                    found = found || isnan(*cases_at(&r.c.y[0], e));
                if (!found)
                    fail_msg("%s (%s) swallowed a NaN", r.k->name, impl->name);
                case_close(&r);
                cx_backend_close(b);
            }
}

/* The fast exponential is held to doubles over all that float32 can tell apart, and to the ends: 0 and 1 to within 2e-38, never NaN. */
static void sigmoid_near_and_far(void **state)
{
    (void)state;
    int at = 0;
    while (strcmp(row(at)->name, "large_sigmoid"))
        at++;
    for (int s = 0; s < CX_COUNT(isas); s++) {
        cx_backend *b = wanted(CX_OP_SIGMOID) ? open_isa(isas[s], 2) : NULL;
        cases_run r;
        int n = 0;
        if (!b)
            continue;
        case_open(&r, row(at));
        const int64_t all = cx_elems(r.c.x[0].s);
        for (int64_t e = 0; e < all; e++)
            *cases_at(&r.c.x[0], e) = (float)(-86.5 + 173.0 * (double)e / (double)all);
        *cases_at(&r.c.x[0], 0) = -INFINITY;
        *cases_at(&r.c.x[0], all - 1) = INFINITY;
        const cx_impl *impl = b->impls(b, CX_OP_SIGMOID, &n);
        with_work(b, &r.c, impl, false, impl->fwd);
        for (int64_t e = 1; e < all - 1; e++) {
            const double want = 1 / (1 + exp(-(double)*cases_at(&r.c.x[0], e))), got = *cases_at(&r.c.y[0], e);
            if (!(fabs(got - want) <= 4 * 0x1p-24 * want))     /* a unit of the exponential, half of one each for the sum and the quotient: 2, or 4 halves */
                fail_msg("sigmoid (%s) of %g is %.9g, want %.9g", impl->name, *cases_at(&r.c.x[0], e), got, want);
        }
        assert_true(*cases_at(&r.c.y[0], 0) >= 0 && *cases_at(&r.c.y[0], 0) < 2e-38f && *cases_at(&r.c.y[0], all - 1) == 1);
        case_close(&r);
        cx_backend_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmoid_near_and_far),
        cmocka_unit_test(lists_end_with_the_reference),
        cmocka_unit_test(names_and_threads_are_checked),
        cmocka_unit_test(nan_goes_through),
        cmocka_unit_test(kernels_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
