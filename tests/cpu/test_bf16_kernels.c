/* test_bf16_kernels.c - implementations that take bfloat16 in place. Reading it is exact and writing it rounds once, so beside a float32 call on the same
 * numbers an implementation must give the same bits: its y rounded, its gradients and sums as they are. With and without folds, on every
 * instruction set. */
#include "cpu/isa.h"
#include "ops/folded.h"

typedef struct { bool x, y; } narrow;
static const narrow types[] = { { true, true }, { true, false }, { false, true } };

static uint16_t half_at(const cx_tensor *t, int64_t e) { return cx_half(t)[e / t->s.c * t->ld + e % t->s.c]; }

static void check_y(const cases_run *r, const char *impl, const cx_tensor *got, const cx_tensor *want)
{
    for (int64_t e = 0; e < cx_elems(got->s); e++)
        if (got->type == CX_BF16 ? half_at(got, e) != cx_to_bf16(*cases_at(want, e)) : memcmp(cases_at(got, e), cases_at(want, e), 4) != 0)
            fail_msg("%s (%s): y[%lld] differs", r->k->name, impl, (long long)e);
    for (int64_t i = 0; got->type == CX_BF16 && got->ld > got->s.c && i < cx_pixels(got->s); i++)
        if (cx_half(got)[i * got->ld - 1] != 0x5555 || cx_half(got)[i * got->ld + got->s.c] != 0x5555)
            fail_msg("%s (%s): y was written beside its channels", r->k->name, impl);
}

/* Statistics are of the numbers before rounding, but may be put together from other pieces. */
static void check_stats(const cases_run *r, const char *impl, const cx_tensor *got, const cx_tensor *want)
{
    for (int64_t k = 0; k < want->s.c; k++) {
        const double mean = (double)cx_row(want, 0)[k], var = (double)cx_row(want, 1)[k], size = sqrt(var + mean * mean);
        folded_near(r->k->name, impl, "mean", (double)cx_row(got, 0)[k], mean, 0, 1e-6, size);
        folded_near(r->k->name, impl, "variance", (double)cx_row(got, 1)[k], var, 1e-5, 1e-6, size * size);
    }
}

/* Forward, with weights packed during the call and before it; then backward on the rounded y. False when the implementation takes no such call. */
static bool check(const char *isa, cx_backend *on, const cx_impl *impl, const cases_row *k, int folds, narrow types_of, bool backward)
{
    cases_run a, b;
    folded_open(&a, k, folds);
    a.c.self = on->self;
    cx_call wide = folded_call(&a, backward);
    if (!cx_impl_takes(impl, &wide, backward) || is_slow(isa, k->op, &wide, 2000000)) {
        case_close(&a);
        return false;
    }
    folded_open(&b, k, folds);
    b.c.self = on->self;
    for (int64_t e = 0; e < cx_elems(a.c.x[0].s) && types_of.x; e++)
        *cases_at(&a.c.x[0], e) = folded_rounded(*cases_at(&a.c.x[0], e));
    if (backward) {
        cx_call first = folded_call(&a, false);
        if (cx_impl_takes(impl, &first, false))
            with_work(on, &first, impl, false, impl->fwd);
        else
            assert_int_equal(cx_ops[k->op].ref_fwd(&first), CX_OK);
        for (int64_t e = 0; e < cx_elems(a.c.y[0].s) && types_of.y; e++)
            *cases_at(&a.c.y[0], e) = folded_rounded(*cases_at(&a.c.y[0], e));
        folded_take_y(&b, &a);
    }
    if (types_of.x)
        b.c.x[0] = folded_narrowed(&b, &a.c.x[0]);
    if (types_of.y)
        b.c.y[0] = folded_narrowed(&b, &b.c.y[0]);
    cx_call slim = folded_call(&b, backward);
    const bool takes = cx_impl_takes(impl, &slim, backward);
    if (takes) {
        with_work(on, &wide, impl, backward, backward ? impl->bwd : impl->fwd);
        with_work(on, &slim, impl, backward, backward ? impl->bwd : impl->fwd);
        if (!backward) {
            check_y(&b, impl->name, &b.c.y[0], &a.c.y[0]);
            check_stats(&b, impl->name, &b.c.fold.stats, &a.c.fold.stats);
        }
        for (int i = 0; i < a.c.n_in && backward; i++)
            case_assert_equal(k->name, "dx", &b.c.dx[i], &a.c.dx[i]);
        case_assert_equal(k->name, "sums", &b.c.fold.sums, &a.c.fold.sums);
    }
    case_close(&a);
    case_close(&b);
    return takes;
}

static void test_same_bits_as_float32(void **state)
{
    (void)state;
    for (int s = 0; s < FOLDED_ISAS; s++) {
        cx_backend *b = open_isa(isas[s], 2);
        int checked = 0;
        for (int i = 0; b && i < FOLDED_TOTAL; i++) {
            int n = 0;
            const cases_row *k = folded_row(i);
            const cx_impl *list = b->impls(b, k->op, &n);
            for (int at = 0; wanted(k->op) && at < n; at++)
                for (int j = -1; list[at].bf16 && j < CX_COUNT(folded_sets); j++)
                    for (int t = 0; (j < 0 || folded_fits(k, folded_sets[j])) && t < CX_COUNT(types); t++)
                        for (int backward = 0; backward < 2; backward++)
                            if (!(backward && j >= 0 && folded_sets[j] & FOLD_EVAL))
                                checked += check(isas[s], b, &list[at], k, j < 0 ? 0 : folded_sets[j], types[t], backward);
        }
        if (b && checked == 0 && !getenv("CX_TEST_OPS"))
            fail_msg("%s: no implementation takes bf16", isas[s]);
        if (b)
            cx_backend_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_bits_as_float32) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
