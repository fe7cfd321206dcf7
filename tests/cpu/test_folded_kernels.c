/* test_folded_kernels.c - every implementation that accepts a folded call, on every instruction set of this machine, against the reference: forward, redo, with
 * weights packed before, backward; the same bits for 1 to 4 threads. */
#include "support.h"
#include "cpu/isa.h"
#include "cxnet/graph.h"
#include "ops/folded.h"

enum { MAX_THREADS = 4 };

typedef struct {
    int folds;
    cases_run want;              /* the reference's results */
    cx_tensor terms;             /* folded_terms, where sums are wanted */
} task;

/* Again from what forward left: the same output, and statistics are left alone. */
static void check_redo(cx_backend *b, cases_run *first, const cx_impl *impl, int folds)
{
    cases_run r;
    folded_open(&r, first->k, folds);
    cx_call c = folded_call(&r, false);
    c.redo = true;
    with_work(b, &c, impl, false, impl->fwd);
    case_assert_equal(r.k->name, "y of a redo", &r.c.y[0], &first->c.y[0]);
    for (int64_t e = 0; e < cx_elems(r.c.fold.stats.s); e++)
        if (!isnan(*cases_at(&r.c.fold.stats, e)))
            fail_msg("%s (%s): a redo wrote statistics", r.k->name, impl->name);
    case_close(&r);
}

/* Weights laid out before, as a plan without a backward pass does, change nothing. */
static void check_packed(cx_backend *b, cases_run *first, const cx_impl *impl, int folds)
{
    cases_run r;
    folded_open(&r, first->k, folds);
    cx_call c = folded_call(&r, false);
    size_t bytes = impl->packed(&c);
    c.packed = bytes ? cx_alloc_aligned(bytes, 1) : NULL;
    assert_true(c.packed || bytes == 0);
    if (c.packed) {
        memset(c.packed, 0xff, bytes);
        with_work(b, &c, impl, false, impl->pack);
        with_work(b, &c, impl, false, impl->fwd);
        case_assert_equal(r.k->name, "y from packed weights", &r.c.y[0], &first->c.y[0]);
    }
    free(c.packed);
    case_close(&r);
}

static void check_first(cx_backend *b, cases_run *first, const task *t, const cx_impl *impl, bool backward)
{
    if (backward) {
        folded_assert_backward(first, &t->want, &t->terms, impl->name);
        return;
    }
    folded_assert_forward(first, &t->want, impl->name);
    check_redo(b, first, impl, t->folds);
    if (impl->packed)
        check_packed(b, first, impl, t->folds);
}

static void check_impl(const char *isa, const task *t, int at, bool backward)
{
    cases_run first = { 0 };
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        cx_backend *b = open_isa(isa, threads);
        int n = 0;
        const cx_impl *impl = &b->impls(b, t->want.k->op, &n)[at];
        cases_run r;
        folded_open(&r, t->want.k, t->folds);
        if (backward)
            folded_take_y(&r, &t->want);
        cx_call c = folded_call(&r, backward);
        with_work(b, &c, impl, backward, backward ? impl->bwd : impl->fwd);
        folded_assert_gaps(&r);
        if (threads == 1) {
            check_first(b, &r, t, impl, backward);
            first = r;
        } else {
            folded_assert_same(&first, &r);
            case_close(&r);
        }
        cx_backend_close(b);
    }
    case_close(&first);
}

/* All that accept, the reference not among them. Returns how many. */
static int check_isa(const char *isa, const task *t, bool backward)
{
    cx_backend *b = open_isa(isa, 1);
    int n = 0, checked = 0;
    cx_call c = folded_call(&t->want, backward);
    c.self = b->self;
    const cx_impl *list = b->impls(b, t->want.k->op, &n);
    for (int at = 0; at < n; at++)
        if (!is_reference(&list[at]) && cx_impl_takes(&list[at], &c, backward)) {
            check_impl(isa, t, at, backward);
            checked++;
        }
    cx_backend_close(b);
    return checked;
}

static bool is_here(const char *isa)
{
    cx_backend *b = open_isa(isa, 1);
    if (b)
        cx_backend_close(b);
    return b != NULL;
}

static void check_row(const cases_row *k, int folds, int checked[CX_OP_COUNT][2])
{
    task t = { .folds = folds };
    folded_open(&t.want, k, folds);
    folded_reference(&t.want);
    folded_assert_gaps(&t.want);
    if (folds & FOLD_SUMS) {
        t.terms = folded_terms(&t.want);
        folded_assert_sums(&t.want, &t.terms, "reference");
    }
    for (int s = 0; s < FOLDED_ISAS; s++)
        for (int backward = 0; is_here(isas[s]) && !is_slow(isas[s], k->op, &t.want.c, 7000000) && backward < 2; backward++)
            if (!(backward && folds & FOLD_EVAL))
                checked[k->op][backward] += check_isa(isas[s], &t, backward);
    free(t.terms.p);
    case_close(&t.want);
}

static void kernels_equal_the_reference(void **state)
{
    (void)state;
    int checked[CX_OP_COUNT][2] = { 0 };
    for (int i = 0; i < FOLDED_TOTAL; i++)
        for (int j = 0; j < CX_COUNT(folded_sets); j++)
            if (cx_ops[folded_row(i)->op].flags & CX_CAN_PRE && wanted(folded_row(i)->op) && folded_fits(folded_row(i), folded_sets[j]))
                check_row(folded_row(i), folded_sets[j], checked);
    for (int op = 0; op < CX_OP_COUNT; op++)
        for (int backward = 0; cx_ops[op].flags & CX_CAN_PRE && wanted((cx_op_id)op) && backward < 2; backward++)
            if (checked[op][backward] == 0)
                fail_msg("no kernel of %s takes a fold %s", cx_ops[op].name, backward ? "backward" : "forward");
}

/* ---- the two steps that a plan adds by itself ----------------------------------------------------------------------- */

#define IN(fill, n, h, w, c) { FILL_##fill, { n, h, w, c } }
static const cases_row walks[] = {
    { "walk_small", CX_OP_RELU, 0, NULL, { IN(SIGNED, 1,2,3,5) } },
    { "walk_slice", CX_OP_RELU, SLICED, NULL, { IN(SIGNED, 3,19,17,67) } },
    { "walk_chunks", CX_OP_RELU, 0, NULL, { IN(SIGNED, 4,61,59,128) } },
    { "walk_far", CX_OP_RELU, SLICED, NULL, { IN(FAR, 2,33,31,33) } },
    { "walk_pixel", CX_OP_RELU, 0, NULL, { IN(SIGNED, 1,1,1,3) } },
};
#undef IN

/* statistics of x[0] and a carry into dx[0] */
static void open_walk(cases_run *r, const cases_row *k)
{
    case_open(r, k);
    r->c.dx_add[0] = true;
    cases_draw(r, &r->c.dx[0], CASES_PRIOR_STREAM, FILL_SIGNED);
    r->c.fold.stats = folded_vectors(r, 2, k->in[0].s.c, k->flags & SLICED);
    r->c.fold.carry = folded_vectors(r, 2, k->in[0].s.c, k->flags & SLICED);
    folded_draw(r, &r->c.fold.carry, 0, 0, 0x1p-20, 1);
    folded_draw(r, &r->c.fold.carry, 1, 1, 0x1p-20, 1);
}

static void walk(cx_backend *b, cases_run *r, const cx_impl *impl)
{
    cx_call forward = { .n_in = 1, .x = { r->c.x[0] }, .fold = { .stats = r->c.fold.stats } };
    cx_call backward = { .n_in = 1, .x = { r->c.x[0] }, .dx = { r->c.dx[0] }, .dx_add = { true }, .fold = { .carry = r->c.fold.carry } };
    with_work(b, &forward, impl, false, impl->fwd);
    with_work(b, &backward, impl, true, impl->bwd);
    folded_assert_gaps(r);
}

/* A float mean may be off by a rounding of the largest value, and the variance by what two passes in float cost. */
static void near_walk(const cases_run *got, const cases_run *want, const char *impl)
{
    for (int64_t k = 0; k < want->c.fold.stats.s.c; k++) {
        double mean = (double)cx_row(&want->c.fold.stats, 0)[k], var = (double)cx_row(&want->c.fold.stats, 1)[k];
        folded_near(got->k->name, impl, "mean", (double)cx_row(&got->c.fold.stats, 0)[k], mean, 1e-6, 1e-6, sqrt(var));
        folded_near(got->k->name, impl, "variance", (double)cx_row(&got->c.fold.stats, 1)[k], var, 1e-5, 1e-12, mean * mean);
    }
    float *a = cases_dense(&got->c.dx[0]), *b = cases_dense(&want->c.dx[0]);
    assert_close(impl, a, b, cx_elems(got->c.dx[0].s), 2e-7, 2e-7);
    free(a);
    free(b);
}

static void statistics_equal_the_reference(void **state)
{
    (void)state;
    const cx_impl reference = { .name = "reference", .fwd = cx_ref_fwd_statistics, .bwd = cx_ref_bwd_statistics };
    for (int i = 0; i < CX_COUNT(walks); i++)
        for (int s = 0; s < FOLDED_ISAS; s++) {
            cases_run want, first = { 0 };
            open_walk(&want, &walks[i]);
            walk(NULL, &want, &reference);
            for (int threads = 1; is_here(isas[s]) && threads <= MAX_THREADS; threads++) {
                cx_backend *b = open_isa(isas[s], threads);
                cases_run r;
                open_walk(&r, &walks[i]);
                walk(b, &r, &b->statistics);
                if (threads == 1) {
                    near_walk(&r, &want, b->statistics.name);
                    first = r;
                } else {
                    folded_assert_same(&first, &r);
                    case_close(&r);
                }
                cx_backend_close(b);
            }
            case_close(&first);
            case_close(&want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_equal_the_reference),
        cmocka_unit_test(kernels_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
