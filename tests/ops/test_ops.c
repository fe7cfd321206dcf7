/* test_ops.c - every operator's reference against PyTorch's float64 answers, against finite differences, and against its own contract. */
#include "golden.h"
#include "ops/cases.h"

static golden torch;

static int open_golden(void **state)
{
    (void)state;
    golden_open(&torch, "tests/golden/ops.safetensors");
    return 0;
}

static int close_golden(void **state)
{
    (void)state;
    golden_close(&torch);
    return 0;
}

static void run_fwd(cases_run *r) { assert_int_equal(cx_ops[r->k->op].ref_fwd(&r->c), CX_OK); }
static void run_bwd(cases_run *r) { assert_int_equal(cx_ops[r->k->op].ref_bwd(&r->c), CX_OK); }

static const cases_row *find(const char *name)
{
    for (int i = 0; i < CX_COUNT(cases); i++)
        if (strcmp(cases[i].name, name) == 0)
            return &cases[i];
    fail_msg("no case %s", name);
    return NULL;
}

static void every_row_has_three_cases(void **state)
{
    (void)state;
    int count[CX_OP_COUNT] = { 0 };
    for (int i = 0; i < CX_COUNT(cases); i++)
        count[cases[i].op]++;
    for (int op = 0; op < CX_OP_COUNT; op++)
        if (count[op] < 3)
            fail_msg("operator %s has %d cases in tests/ops/cases.def, want at least 3", cx_ops[op].name, count[op]);
}

static void table_holds_together(void **state)
{
    (void)state;
    for (int op = 0; op < CX_OP_COUNT; op++) {
        for (int other = 0; other < op; other++)
            assert_string_not_equal(cx_ops[op].name, cx_ops[other].name);
        assert_in_range(cx_ops[op].in_min, 1, cx_ops[op].in_max);
        assert_true(cx_ops[op].rtol >= 0 && cx_ops[op].rtol < 1e-3 && cx_ops[op].atol >= 0 && cx_ops[op].atol < 1e-3);
    }
}

/* One rounding to float32 of a double sum or of its addition to a prior. batch_norm also rounds the mean that it saves (relative to the spread of x),
 * sigmoid and softmax the y that backward reads (1 - y where y is near 1). */
static double tolerance_of(const cases_run *r)
{
    if (r->k->op == CX_OP_BATCH_NORM)
        return 2e-7 * fmax(4, fabs((double)r->c.y[1].p[0]));
    return cx_ops[r->k->op].flags & CX_BWD_Y ? 1e-6 : 2e-7;
}

static void against_golden(const cases_run *r, const char *what, const cx_tensor *t)
{
    int64_t n = 0;
    char *name = cx_sprintf("%s/%s", r->k->name, what);
    float *want = golden_get(&torch, name, &n), *got = cases_dense(t);
    if (!want)
        fail_msg("%s is not in the golden file; run tools/oracle/ops.py", name);
    assert_int_equal(n, cx_elems(t->s));
    assert_close(name, got, want, n, 2e-7, tolerance_of(r));
    free(want);
    free(got);
    free(name);
}

static void equal_to_pytorch(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_run r;
        case_open(&r, &cases[i]);
        run_fwd(&r);
        run_bwd(&r);
        against_golden(&r, "y0", &r.c.y[0]);
        if (r.k->op == CX_OP_BATCH_NORM) {
            against_golden(&r, "y1", &r.c.y[1]);
            against_golden(&r, "y2", &r.c.y[2]);
            against_golden(&r, "x3", &r.c.x[3]);
            against_golden(&r, "x4", &r.c.x[4]);
        }
        for (int j = 0; j < r.c.n_in; j++) {
            char what[] = { 'd', 'x', (char)('0' + j), 0 };
            if (r.c.dx[j].p)
                against_golden(&r, what, &r.c.dx[j]);
        }
        case_close(&r);
    }
}

/* sum of dy * y: what finite differences differentiate. `pattern` tells which outputs a folded ReLU let through. */
static double objective(cases_run *r, uint64_t *pattern)
{
    double sum = 0;
    run_fwd(r);
    *pattern = 0;
    for (int64_t e = 0; e < cx_elems(r->c.y[0].s); e++) {
        sum += (double)*cases_at(&r->c.y[0], e) * (double)*cases_at(&r->c.dy[0], e);
        *pattern = *pattern * 0x100000001B3 + (r->c.relu && *cases_at(&r->c.y[0], e) > 0);
    }
    return sum;
}

/* The central difference over +-h; NAN when a ReLU switched in between. */
static double central(cases_run *r, float *at, float h)
{
    float middle = *at;
    uint64_t pattern_up, pattern_down;
    *at = middle + h;
    double up = objective(r, &pattern_up), width = (double)*at;
    *at = middle - h;
    width -= (double)*at;
    double down = objective(r, &pattern_down);
    *at = middle;
    return pattern_up == pattern_down ? (up - down) / width : NAN;
}

/* What dx[j] held before backward, element by element: zeros unless the case adds to it. free() it. */
static float *prior_of(const cases_run *r, int j)
{
    cx_shape s = r->c.dx[j].s;
    cx_tensor dense = { .s = s, .ld = s.c, .p = cx_alloc((size_t)cx_elems(s), sizeof(float)) };
    assert_non_null(dense.p);
    if (r->k->flags & CASES_DX_ADD)
        cases_draw(r, &dense, (uint64_t)(CASES_PRIOR_STREAM + j), FILL_SIGNED);
    return dense.p;
}

enum { FD_ENTRIES = 60 };   /* of one input, evenly spread */

/* Slopes over h and h/2 that disagree by far more than a smooth function's curvature mean a kink in between: no derivative to compare with. */
static void check_slopes(cases_run *r, int j)
{
    cx_tensor *x = &r->c.x[j], *dx = &r->c.dx[j];
    int64_t n = cx_elems(x->s), stride = 1 + n / FD_ENTRIES, checked = 0, kinks = 0;
    float *prior = prior_of(r, j);
    double largest = 0, scale = 0;
    for (int64_t e = 0; e < n; e++)
        scale = fmax(scale, fabs((double)*cases_at(dx, e) - (double)prior[e]));
    for (int64_t e = 0; e < n; e += stride) {
        double wide = central(r, cases_at(x, e), 0x1p-6f), narrow = central(r, cases_at(x, e), 0x1p-7f);
        double numeric = (4 * narrow - wide) / 3, analytic = (double)*cases_at(dx, e) - (double)prior[e];
        checked++;
        if (!(fabs(wide - narrow) <= 0.02 * (fabs(narrow) + 0.1 * scale))) {
            kinks++;
            continue;
        }
        largest = fmax(largest, fabs(numeric));
        if (!(fabs(numeric - analytic) <= 2e-3 * scale + 1e-4))
            fail_msg("%s: dx%d[%lld] = %.7g, finite differences say %.7g", r->k->name, j, (long long)e, analytic, numeric);
    }
    if (kinks * 3 > checked)
        fail_msg("%s: %lld of %lld entries of input %d are at kinks, too few are left", r->k->name, (long long)kinks, (long long)checked, j);
    if (!(r->k->flags & CASES_ZERO) && !(largest > 1e-3))
        fail_msg("%s: finite differences of input %d are all zero, the check shows nothing", r->k->name, j);
    free(prior);
}

static void equal_to_finite_differences(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_run r;
        if (cases[i].flags & CASES_NO_FD)
            continue;
        case_open(&r, &cases[i]);
        run_fwd(&r);
        run_bwd(&r);
        for (int j = 0; j < r.c.n_in; j++)
            if (r.c.dx[j].p)
                check_slopes(&r, j);
        case_close(&r);
    }
}

/* The same numbers, dense or in slices of wider buffers, give the same bits; nothing outside a slice is touched. */
static void slices_change_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_row other = cases[i];
        other.flags ^= CASES_SLICED;
        cases_run a, b;
        case_open(&a, &cases[i]);
        case_open(&b, &other);
        run_fwd(&a);
        run_fwd(&b);
        run_bwd(&a);
        run_bwd(&b);
        case_assert_same(&a, &b);
        case_assert_gaps(&a);
        case_assert_gaps(&b);
        case_close(&a);
        case_close(&b);
    }
}

/* A gradient does not depend on which others are wanted. */
static void one_gradient_at_a_time(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_run all, one;
        case_open(&all, &cases[i]);
        run_fwd(&all);
        run_bwd(&all);
        case_open(&one, &cases[i]);
        run_fwd(&one);
        for (int j = 0; j < CX_MAX_IN; j++) {
            cx_call saved = one.c;
            for (int k = 0; k < CX_MAX_IN; k++)
                if (k != j)
                    one.c.dx[k].p = NULL;
            run_bwd(&one);
            one.c = saved;
        }
        case_assert_same(&all, &one);
        case_close(&all);
        case_close(&one);
    }
}

static void poison(const cx_tensor *t)
{
    for (int64_t e = 0; t->p && e < cx_elems(t->s); e++)
        *cases_at(t, e) = NAN;
}

/* What the flags say backward does not read may be gone: the plan reuses its memory. */
static void backward_reads_only_what_its_flags_say(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_run whole, bare;
        unsigned flags = cx_ops[cases[i].op].flags;
        case_open(&whole, &cases[i]);
        case_open(&bare, &cases[i]);
        run_fwd(&whole);
        run_fwd(&bare);
        run_bwd(&whole);
        bool reads_y = (flags & CX_BWD_Y) || (bare.c.relu && cases[i].op != CX_OP_BATCH_NORM);
        for (int j = 0; j < bare.c.n_in && !(flags & CX_BWD_X); j++)
            if (cases_is_activation(cases[i].op, j))
                poison(&bare.c.x[j]);
        if (!reads_y)
            poison(&bare.c.y[0]);
        run_bwd(&bare);
        for (int j = 0; j < bare.c.n_in; j++)
            case_assert_equal(whole.k->name, "dx", &whole.c.dx[j], &bare.c.dx[j]);
        case_close(&whole);
        case_close(&bare);
    }
}

/* A cheap output that was dropped comes back bit by bit, and running statistics stay as they are. */
static void redo_rebuilds_what_was_dropped(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_run once, again;
        if (!(cx_ops[cases[i].op].flags & CX_CHEAP))
            continue;
        case_open(&once, &cases[i]);
        case_open(&again, &cases[i]);
        run_fwd(&once);
        run_fwd(&again);
        poison(&again.c.y[0]);
        again.c.redo = true;
        run_fwd(&again);
        again.c.redo = false;
        run_bwd(&once);
        run_bwd(&again);
        case_assert_same(&once, &again);
        case_close(&once);
        case_close(&again);
        seen++;
    }
    assert_true(seen >= 3 * 3);
}

static void nan_is_not_hidden(void **state)
{
    (void)state;
    const char *const names[] = { "relu_plain", "conv_5x5_s2_valid", "max_pool_3_2_1", "norm_eval_one", "add_relu" };
    for (int i = 0; i < CX_COUNT(names); i++) {
        cases_run r;
        const cases_row *k = find(names[i]);
        case_open(&r, k);
        *cases_at(&r.c.x[0], 0) = NAN;
        run_fwd(&r);
        assert_true(isnan(*cases_at(&r.c.y[0], 0)));
        case_close(&r);
    }
}

static void class_out_of_range_is_data_error(void **state)
{
    (void)state;
    const float wrong[] = { 3, 1e9f, 0.5f, NAN, INFINITY };
    for (int i = 0; i < CX_COUNT(wrong); i++) {
        cases_run r;
        const cases_row *k = find("ce_plain");
        case_open(&r, k);
        *cases_at(&r.c.x[1], 2) = wrong[i];
        assert_int_equal(cx_ops[CX_OP_CE_LOSS].ref_fwd(&r.c), CX_E_DATA);
        assert_int_equal(cx_ops[CX_OP_CE_LOSS].ref_bwd(&r.c), CX_E_DATA);
        case_close(&r);
    }
}

/* 40,000 ones at rate 0.3: the share kept within 5 standard deviations, the mean kept, another mask at another step, stream or seed. */
static void dropout_keeps_the_mean(void **state)
{
    (void)state;
    enum { N = 40000 };
    const cx_dropout_attr attr = { .rate = 0.3f };
    float *x = cx_alloc(N, sizeof *x), *y = cx_alloc(N, sizeof *y), *first = cx_alloc(N, sizeof *first);
    cx_shape s = { 4, 10, 10, 100 };
    cx_call c = { .attr = &attr, .n_in = 1, .n_out = 1, .training = true, .seed = 5, .stream = 6, .step = 7, .x = { { s, 100, x } }, .y = { { s, 100, y } } };
    assert_true(x && y && first);
    for (int i = 0; i < N; i++)
        x[i] = 1;
    assert_int_equal(cx_ops[CX_OP_DROPOUT].ref_fwd(&c), CX_OK);
    int kept = 0;
    for (int i = 0; i < N; i++) {
        assert_true(y[i] == 0 || fabs((double)y[i] - 1 / 0.7) < 1e-6);
        kept += y[i] != 0;
        first[i] = y[i];
    }
    assert_true(fabs(kept / (double)N - 0.7) < 5 * sqrt(0.21 / N));
    for (int change = 0; change < 3; change++) {
        cx_call other = c;
        other.seed += change == 0;
        other.stream += change == 1;
        other.step += change == 2;
        assert_int_equal(cx_ops[CX_OP_DROPOUT].ref_fwd(&other), CX_OK);
        assert_true(memcmp(first, y, N * sizeof *y) != 0);
    }
    free(x);
    free(y);
    free(first);
}

static void flops_of_known_layers(void **state)
{
    (void)state;
    const struct { const char *name; int64_t flops; } known[] = {
        { "conv_1x1", 2LL * 2 * 5 * 3 * 4 * 9 }, { "conv_5x5_s2_valid", 2LL * 4 * 3 * 4 * 25 * 3 }, { "linear_plain", 2LL * 3 * 10 * 7 },
        { "convt_2x2_s2", 2LL * 2 * 3 * 2 * 4 * 4 * 3 }, { "max_pool_2_2", 2LL * 3 * 5 * 4 }, { "concat_two", 0 }, { "flatten_map", 0 },
    };
    for (int i = 0; i < CX_COUNT(known); i++) {
        cases_run r;
        const cases_row *k = find(known[i].name);
        case_open(&r, k);
        assert_int_equal(cx_ops[k->op].flops(&r.c), known[i].flops);
        case_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_three_cases), cmocka_unit_test(table_holds_together), cmocka_unit_test(equal_to_pytorch),
        cmocka_unit_test(equal_to_finite_differences), cmocka_unit_test(slices_change_nothing), cmocka_unit_test(one_gradient_at_a_time),
        cmocka_unit_test(backward_reads_only_what_its_flags_say), cmocka_unit_test(redo_rebuilds_what_was_dropped),
        cmocka_unit_test(nan_is_not_hidden), cmocka_unit_test(class_out_of_range_is_data_error), cmocka_unit_test(dropout_keeps_the_mean),
        cmocka_unit_test(flops_of_known_layers),
    };
    return cmocka_run_group_tests_name("ops", tests, open_golden, close_golden);
}
