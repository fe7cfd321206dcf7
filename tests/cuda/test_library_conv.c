/* test_library_conv.c - convolutions by cuDNN and cuBLASLt with operands in bfloat16, on the emulated GPU: every fold against the reference, in three
 * schedules. (In float32 they are among the implementations that test_kernels and test_folded_kernels hold to the reference.)
 *
 * x and the weights are bfloat16 numbers beforehand; rounded are u behind its prologue, dy, and what cuDNN hands back. Each of them is off by 2^-9 of itself at
 * most, with signs mixed, so results are off by less than 2^-7 of the largest, or of a single product. */
#include "backend.h"
#include "cpu/isa.h"
#include "ops/folded.h"

static const double NEAR = 0x1p-7;
#ifdef CX_SANITIZED
enum { SCHEDULES = 1, SETS = 2 };           /* under the sanitizers the emulated GPU would take minutes */
#else
enum { SCHEDULES = 3, SETS = CX_COUNT(folded_sets) };
#endif

static const char *const libraries[] = { "cudnn", "cublaslt" };

static const cx_impl *impl_of(cx_backend *b, cx_op_id op, const char *library)
{
    int n = 0;
    const cx_impl *list = b->impls(b, op, &n);
    for (int i = 0; i < n; i++)
        if (list[i].dot && strstr(list[i].name, library))
            return &list[i];
    return NULL;
}

static void round_all(const cx_tensor *t)
{
    for (int64_t e = 0; t->p && e < cx_elems(t->s); e++)
        *cases_at(t, e) = folded_rounded(*cases_at(t, e));
}

/* The case, its x, weights and (for backward) y as bfloat16 numbers in float32. */
static void open_case(cases_run *r, const cases_row *k, int folds)
{
    folded_open(r, k, folds);
    round_all(&r->c.x[0]);
    round_all(&r->c.x[1]);
}

/* Both ways, but for a pool; backward reads the y that is stored. */
static void reference(cases_run *r)
{
    cx_call forward = folded_call(r, false);
    assert_int_equal(cx_ops[r->k->op].ref_fwd(&forward), CX_OK);
    round_all(&r->c.y[0]);
    if (r->c.fold.pool.kernel)
        return;
    cx_call backward = folded_call(r, true);
    assert_int_equal(cx_ops[r->k->op].ref_bwd(&backward), CX_OK);
}

static float value_at(const cx_tensor *t, int64_t e)
{
    return t->type == CX_BF16 ? cx_from_bf16(cx_half(t)[e / t->s.c * t->ld + e % t->s.c]) : *cases_at(t, e);
}

static void near(const cases_run *r, const char *what, const cx_tensor *got, const cx_tensor *want)
{
    const int64_t n = got->p && want->p ? cx_elems(want->s) : 0;
    double largest = 1;                 /* the size of one product */
    for (int64_t e = 0; e < n; e++)
        largest = fmax(largest, fabs((double)*cases_at(want, e)));
    for (int64_t e = 0; e < n; e++)
        folded_near(r->k->name, "bf16", what, (double)value_at(got, e), (double)*cases_at(want, e), NEAR, NEAR, largest);
}

static void check_statistics(const cases_run *r)
{
    const cx_tensor *y = &r->c.y[0], *stats = &r->c.fold.stats;
    const int64_t m = cx_pixels(y->s);
    for (int64_t k = 0; k < stats->s.c; k++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < m; i++)
            mean += (double)value_at(y, i * y->s.c + k) / (double)m;
        for (int64_t i = 0; i < m; i++)
            var += ((double)value_at(y, i * y->s.c + k) - mean) * ((double)value_at(y, i * y->s.c + k) - mean) / (double)m;
        folded_near(r->k->name, "bf16", "mean", (double)cx_row(stats, 0)[k], mean, 1e-5, 1e-6, sqrt(var) + fabs(mean));
        folded_near(r->k->name, "bf16", "variance", (double)cx_row(stats, 1)[k], var, 1e-5, 1e-6, mean * mean);
    }
}

static void check_backward(const cases_run *got, const cases_run *want, const cx_tensor *terms)
{
    static const char *const dx[] = { "dx", "dw", "db" };
    for (int i = 0; i < want->c.n_in; i++)
        near(got, dx[i], &got->c.dx[i], &want->c.dx[i]);
    for (int64_t k = 0; k < got->c.fold.sums.s.c; k++)
        for (int row = 0; row < 2; row++)
            folded_near(got->k->name, "bf16", row ? "sum of g (x - mean)" : "sum of g", (double)cx_row(&got->c.fold.sums, row)[k],
                        (double)cx_row(terms, row)[k], NEAR, NEAR, (double)cx_row(terms, 2 + row)[k]);
}

/* A run of the case as a bf16 plan hands it over; what is kept apart of it stays in `r`. */
static void open_run(cases_run *r, const cases_run *want, int folds, bool backward)
{
    open_case(r, want->k, folds);
    if (backward)
        folded_take_y(r, want);
    r->c.x[0] = folded_narrowed(r, &r->c.x[0]);
    r->c.y[0] = folded_narrowed(r, &r->c.y[0]);
}

static bool run(cx_backend *b, const char *library, cases_run *r, const cases_run *want, int folds, bool backward, bool packed)
{
    const cx_impl *impl = impl_of(b, want->k->op, library);
    open_run(r, want, folds, backward);
    r->c.self = b->self;
    cx_call c = folded_call(r, backward);
    if (!impl || !cx_impl_takes(impl, &c, backward))
        return false;
    if (packed) {
        c.packed = cx_alloc_aligned(impl->packed(&c), 1);
        with_work(b, &c, impl, false, impl->pack);
    }
    with_work(b, &c, impl, backward, backward ? impl->bwd : impl->fwd);
    free(c.packed);
    return true;
}

static void assert_same(const cases_run *a, const cases_run *b, bool backward)
{
    for (int64_t e = 0; !backward && e < cx_elems(a->c.y[0].s); e++)
        assert_true(value_at(&a->c.y[0], e) == value_at(&b->c.y[0], e));
    for (int i = 0; i < a->c.n_in; i++)
        case_assert_equal(a->k->name, "dx", &a->c.dx[i], &b->c.dx[i]);
    case_assert_equal(a->k->name, "stats", &a->c.fold.stats, &b->c.fold.stats);
    case_assert_equal(a->k->name, "sums", &a->c.fold.sums, &b->c.fold.sums);
}

/* Every schedule, and with weights packed before. False where the library does not take the case. */
static bool check(const char *library, const cases_row *k, int folds, bool backward)
{
    cases_run want, first = { 0 };
    cx_tensor terms = { .ld = 0 };
    open_case(&want, k, folds);
    bool taken = !is_slow("emu", k->op, &want.c, 7000000);
    reference(&want);
    if (backward && folds & FOLD_SUMS)
        terms = folded_terms(&want);
    for (int i = 0; taken && i < SCHEDULES + !backward; i++) {
        cx_backend *b = open_named("emu", i % SCHEDULES);
        cases_run r;
        taken = run(b, library, &r, &want, folds, backward, i == SCHEDULES);
        if (taken && i == 0 && backward)
            check_backward(&r, &want, &terms);
        else if (taken && i == 0) {
            near(&r, "y", &r.c.y[0], &want.c.y[0]);
            check_statistics(&r);
        } else if (taken) {
            assert_same(&r, &first, backward);
        }
        if (i == 0)
            first = r;
        else
            case_close(&r);
        cx_backend_close(b);
    }
    free(terms.p);
    case_close(&first);
    case_close(&want);
    return taken;
}

static void check_all(const char *library, int checked[CX_OP_COUNT][2])
{
    for (int i = 0; i < FOLDED_TOTAL; i++)
        for (int j = -1; j < SETS; j++)
            for (int backward = 0; backward < 2; backward++) {
                const cases_row *k = folded_row(i);
                const int folds = j < 0 ? 0 : folded_sets[j];
                if ((k->op == CX_OP_CONV2D || k->op == CX_OP_CONV_TRANSPOSE2D) && folded_fits(k, folds) && !(backward && folds & FOLD_EVAL))
                    checked[k->op][backward] += check(library, k, folds, backward);
            }
}

static void test_folds_in_bf16(void **state)
{
    (void)state;
    cx_backend *b = open_named("emu", 1);
    if (!b) {
        print_message("skipped: this build has no emulated GPU\n");
        skip();
    }
    cx_backend_close(b);
    for (int l = 0; l < CX_COUNT(libraries); l++) {
        int checked[CX_OP_COUNT][2] = { 0 };
        check_all(libraries[l], checked);
        for (int backward = 0; backward < 2; backward++) {
            assert_true(checked[CX_OP_CONV2D][backward] > (l == 0 ? 20 : 3));
            assert_true(l > 0 || checked[CX_OP_CONV_TRANSPOSE2D][backward] > 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_folds_in_bf16) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
