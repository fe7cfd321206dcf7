/* test_stem.c - a convolution with a max pool folded in (cx_fold.pool) against the two steps that it stands for: the same bits on every instruction set of this
 * machine, y in bfloat16 the same bits rounded, for 1 to 4 threads; on a GPU within the convolution's tolerance. Which shapes are taken, and which are not. */
#include "cpu/isa.h"
#include "ops/folded.h"

enum { MAX_THREADS = 4 };
typedef enum { NOBODY, CPU = 1, GPU = 2, BOTH = 3 } who;
typedef struct { cases_row k; cx_pool_attr pool; who takes; } stem_row;

#define IN(n, h, w, c) { FILL_SIGNED, { n, h, w, c } }
#define CONV(s, p) &(const cx_conv_attr){ .stride = s, .pad_top = p, .pad_bottom = p, .pad_left = p, .pad_right = p }
#define ROW(name, flags, attr, ...) { name, CX_OP_CONV2D, flags, attr, { __VA_ARGS__ } }
/* Several tiles of a GPU's block and several bands and tasks of a CPU's; maps smaller than either; windows that share nothing, half, or leave pixels out; what
 * is left to two steps: windows that share more, rows that no cache holds, a convolution that has no window. */
static const stem_row rows[] = {
    { ROW("stem_film", CASES_RELU, CONV(2, 3), IN(1, 150, 131, 3), IN(64, 7, 7, 3)), { 3, 2, 1, false }, BOTH },
    { ROW("stem_films", CASES_RELU | CASES_SLICED, CONV(2, 3), IN(9, 21, 17, 3), IN(6, 7, 7, 3), IN(1, 1, 1, 6)), { 3, 2, 1, false }, BOTH },
    { ROW("stem_grey", CASES_RELU, CONV(2, 3), IN(1, 41, 37, 1), IN(36, 7, 7, 1)), { 3, 2, 1, false }, BOTH },
    { ROW("stem_colours", CASES_RELU, CONV(2, 3), IN(1, 19, 33, 3), IN(33, 7, 7, 3)), { 3, 2, 1, false }, BOTH },
    { ROW("stem_two", CASES_SLICED, CONV(2, 0), IN(1, 37, 40, 2), IN(5, 7, 7, 2), IN(1, 1, 1, 5)), { 2, 2, 0, false }, BOTH },
    { ROW("stem_apart", CASES_RELU, CONV(2, 3), IN(2, 35, 29, 1), IN(8, 7, 7, 1)), { 2, 3, 0, false }, BOTH },
    { ROW("stem_thirds", 0, CONV(2, 3), IN(1, 36, 36, 1), IN(8, 7, 7, 1)), { 3, 3, 1, false }, BOTH },
    { ROW("stem_pixel", CASES_RELU, CONV(2, 3), IN(1, 1, 2, 3), IN(4, 7, 7, 3)), { 3, 2, 1, false }, BOTH },
    { ROW("stem_3x3", CASES_RELU, CONV(1, 1), IN(1, 41, 33, 3), IN(24, 3, 3, 3), IN(1, 1, 1, 24)), { 2, 2, 0, false }, CPU },
    { ROW("stem_5x5", CASES_RELU, CONV(3, 1), IN(8, 34, 33, 5), IN(19, 5, 5, 5)), { 4, 3, 2, false }, CPU },
    { ROW("stem_half", 0, CONV(1, 2), IN(3, 26, 19, 2), IN(20, 4, 4, 2)), { 4, 2, 2, false }, CPU },
    { ROW("stem_shared", CASES_RELU, CONV(2, 3), IN(1, 41, 37, 1), IN(8, 7, 7, 1)), { 9, 1, 4, false }, NOBODY },
    { ROW("stem_wide", 0, CONV(2, 3), IN(1, 9, 700, 4), IN(70, 7, 7, 4)), { 3, 2, 1, false }, NOBODY },
    { ROW("stem_1x1", CASES_RELU, CONV(1, 0), IN(2, 14, 13, 3), IN(8, 1, 1, 3)), { 3, 2, 1, false }, NOBODY },
};
#undef ROW
#undef CONV
#undef IN

static const int folds[] = { 0, FOLD_POST, FOLD_PRE | FOLD_RELU | FOLD_POST };

static const cx_impl *first_that_takes(cx_backend *b, cx_op_id op, const cx_call *c)
{
    int n = 0;
    const cx_impl *list = b->impls(b, op, &n);
    for (int i = 0; i < n; i++)
        if (!is_reference(&list[i]) && cx_impl_takes(&list[i], c, false))
            return &list[i];
    return NULL;
}

/* y: (N,PH,PW,O), dense; free() its p. */
static cx_tensor two_steps(const char *isa, const stem_row *row, int fold)
{
    cases_run r;
    cx_backend *b = open_isa(isa, 1);
    folded_open(&r, &row->k, fold);
    cx_call conv = folded_call(&r, false);
    conv.self = b->self;
    const cx_impl *impl = first_that_takes(b, CX_OP_CONV2D, &conv);
    with_work(b, &conv, impl, false, impl->fwd);
    cx_tensor y = { .s = cx_pooled(conv.y[0].s, &row->pool), .ld = conv.y[0].s.c };
    y.p = cx_alloc_aligned((size_t)cx_elems(y.s), sizeof *y.p);
    assert_non_null(y.p);
    cx_call pool = { .attr = &row->pool, .n_in = 1, .n_out = 1, .x = { conv.y[0] }, .y = { y }, .self = b->self };
    impl = first_that_takes(b, CX_OP_MAX_POOL, &pool);
    with_work(b, &pool, impl, false, impl->fwd);
    case_close(&r);
    cx_backend_close(b);
    return y;
}

static void compare(const stem_row *row, const char *isa, const cx_impl *impl, const cx_tensor *got, const cx_tensor *want)
{
    if (is_gpu(isa)) {
        float *x = cx_alloc((size_t)cx_elems(want->s), sizeof *x);
        for (int64_t e = 0; e < cx_elems(want->s); e++)
            x[e] = got->type == CX_BF16 ? cx_from_bf16(cx_half(got)[e / got->s.c * got->ld + e % got->s.c]) : *cases_at(got, e);
        assert_close(row->k.name, x, want->p, cx_elems(want->s), got->type == CX_BF16 ? 4e-3 : cx_ops[CX_OP_CONV2D].rtol, cx_ops[CX_OP_CONV2D].atol);
        free(x);
        return;
    }
    for (int64_t e = 0; e < cx_elems(want->s); e++)
        if (got->type == CX_BF16 ? cx_half(got)[e / got->s.c * got->ld + e % got->s.c] != cx_to_bf16(want->p[e])
                                 : memcmp(cases_at(got, e), &want->p[e], sizeof(float)) != 0)
            fail_msg("%s (%s %s): y[%lld] is not what two steps give", row->k.name, isa, impl->name, (long long)e);
}

/* Whether an implementation takes the call; then also that it is right. */
static bool check(const char *isa, const stem_row *row, int fold, bool narrow)
{
    bool taken = true;
    cx_tensor want = two_steps(isa, row, fold);
    for (int threads = 1; taken && threads <= MAX_THREADS; threads++) {
        cases_run r;
        cx_backend *b = open_isa(isa, threads);
        folded_open(&r, &row->k, fold);
        folded_pool(&r, row->pool);
        r.c.self = b->self;
        if (narrow)
            r.c.y[0] = folded_narrowed(&r, &r.c.y[0]);
        cx_call c = folded_call(&r, false);
        const cx_impl *impl = first_that_takes(b, CX_OP_CONV2D, &c);
        taken = impl != NULL;
        if (taken) {
            with_work(b, &c, impl, false, impl->fwd);
            compare(row, isa, impl, &r.c.y[0], &want);
            if (!narrow)
                case_assert_gaps(&r);
        }
        case_close(&r);
        cx_backend_close(b);
    }
    free(want.p);
    return taken;
}

static void test_equals_two_steps(void **state)
{
    (void)state;
    for (int s = 0; s < CX_COUNT(isas); s++) {
        cx_backend *b = open_isa(isas[s], 1);
        for (int i = 0; b && i < CX_COUNT(rows); i++) {
            cases_run r;
            folded_open(&r, &rows[i].k, 0);
            const bool slow = is_slow(isas[s], CX_OP_CONV2D, &r.c, 7000000), want = rows[i].takes & (is_gpu(isas[s]) ? GPU : CPU);
            case_close(&r);
            for (int f = 0; !slow && f < CX_COUNT(folds); f++)
                for (int narrow = 0; narrow < 2; narrow++)
                    if (check(isas[s], &rows[i], folds[f], narrow) != want)
                        fail_msg("%s: %s is %staken", isas[s], rows[i].k.name, want ? "not " : "");
        }
        if (b)
            cx_backend_close(b);
    }
}

/* NaN is the largest, as in a pool by itself, and zeros outside of the map never are. */
static void test_nan_and_negative(void **state)
{
    (void)state;
    for (int s = 0; s < CX_COUNT(isas); s++) {
        cx_backend *b = open_isa(isas[s], 2);
        if (!b)
            continue;
        const stem_row *row = &rows[4];
        cases_run r;
        folded_open(&r, &row->k, 0);
        folded_pool(&r, row->pool);
        cx_call c = folded_call(&r, false);
        c.self = b->self;
        const cx_impl *impl = first_that_takes(b, CX_OP_CONV2D, &c);
        assert_non_null(impl);
        for (int64_t e = 0; e < cx_elems(c.x[0].s); e++)
            *cases_at(&c.x[0], e) = 0;
        for (int64_t k = 0; k < c.x[2].s.c; k++)
            c.x[2].p[k] = (float)(-1 - k);
        *cases_at(&c.x[0], 0) = NAN;
        with_work(b, &c, impl, false, impl->fwd);
        for (int64_t e = 0; e < cx_elems(c.y[0].s); e++)
            if (e < c.y[0].s.c ? !isnan(*cases_at(&c.y[0], e)) : *cases_at(&c.y[0], e) != c.x[2].p[e % c.y[0].s.c])
                fail_msg("%s: y[%lld] is %g", isas[s], (long long)e, (double)*cases_at(&c.y[0], e));
        case_close(&r);
        cx_backend_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_equals_two_steps), cmocka_unit_test(test_nan_and_negative) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
