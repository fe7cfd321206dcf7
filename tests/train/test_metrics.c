/* test_metrics.c - metrics and bootstrap intervals equal scikit-learn's (tests/golden/metrics.json, made by tools/oracle/metrics.py),
 * do not depend on threads, and behave as statistics should. */
#include "support.h"
#include "cxnet/train.h"
#include <jansson.h>
#include <omp.h>

#define TOLERANCE 1e-12      /* sums in another order than numpy's; the counts themselves are exact */

/* ---- goldens ----------------------------------------------------------------------------------------------------------------- */

typedef struct { const char *name; int n, columns, draws; uint64_t seed; int *y, *group; float *yf; double *p; } sample;

static double number(const json_t *j)
{
    return json_is_null(j) ? NAN : json_number_value(j);
}

static sample read_sample(const json_t *c)
{
    const json_t *y = json_object_get(c, "y"), *p = json_object_get(c, "p"), *group = json_object_get(c, "group");
    sample s = { .name = json_string_value(json_object_get(c, "name")), .n = (int)json_array_size(y),
        .draws = (int)json_integer_value(json_object_get(c, "draws")),
        .seed = (uint64_t)json_integer_value(json_object_get(c, "seed")) };
    s.columns = json_is_array(json_array_get(p, 0)) ? (int)json_array_size(json_array_get(p, 0)) : 1;
    s.y = calloc((size_t)s.n, sizeof(int));
    s.yf = calloc((size_t)s.n, sizeof(float));
    s.group = calloc((size_t)s.n, sizeof(int));
    s.p = calloc((size_t)(s.n * s.columns), sizeof(double));
    for (int i = 0; i < s.n; i++) {
        s.y[i] = (int)json_integer_value(json_array_get(y, (size_t)i));
        s.yf[i] = (float)s.y[i];
        s.group[i] = (int)json_integer_value(json_array_get(group, (size_t)i));
        const json_t *row = json_array_get(p, (size_t)i);
        for (int k = 0; k < s.columns; k++)
            s.p[i * s.columns + k] = number(s.columns == 1 ? row : json_array_get(row, (size_t)k));
    }
    return s;
}

static void free_sample(sample *s)
{
    free(s->y);
    free(s->yf);
    free(s->group);
    free(s->p);
}

static bool near(double got, double want)
{
    return isnan(want) ? isnan(got) : fabs(got - want) <= TOLERANCE;
}

static void check(const char *where, const char *what, cx_estimate got, const json_t *want)
{
    const double w[3] = { number(json_array_get(want, 0)), number(json_array_get(want, 1)), number(json_array_get(want, 2)) };
    if (json_array_size(want) != 3 || !near(got.value, w[0]) || !near(got.lo, w[1]) || !near(got.hi, w[2]))
        fail_msg("%s: %s is %.17g [%.17g, %.17g], want %.17g [%.17g, %.17g]", where, what, got.value, got.lo, got.hi, w[0], w[1], w[2]);
}

static void check_all(const char *where, const cx_binary_metrics *m, const json_t *want)
{
    check(where, "accuracy", m->accuracy, json_object_get(want, "accuracy"));
    check(where, "f1", m->f1, json_object_get(want, "f1"));
    check(where, "sensitivity", m->sensitivity, json_object_get(want, "sensitivity"));
    check(where, "specificity", m->specificity, json_object_get(want, "specificity"));
    check(where, "auroc", m->auroc, json_object_get(want, "auroc"));
    check(where, "auprc", m->auprc, json_object_get(want, "auprc"));
    check(where, "brier", m->brier, json_object_get(want, "brier"));
    check(where, "ece", m->ece, json_object_get(want, "ece"));
}

static json_t *goldens(void)
{
    json_error_t e;
    json_t *root = json_load_file("tests/golden/metrics.json", 0, &e);
    if (!root)
        fail_msg("tests/golden/metrics.json:%d: %s", e.line, e.text);
    return root;
}

static void binary_equals_scikit_learn(void **state)
{
    (void)state;
    json_t *root = goldens(), *cases = json_object_get(root, "binary"), *c;
    size_t i;
    json_array_foreach(cases, i, c) {
        sample s = read_sample(c);
        const json_t *want = json_object_get(c, "expect"), *counts = json_object_get(c, "counts");
        double threshold = number(json_object_get(c, "threshold"));
        cx_binary_metrics m;
        assert_cx_ok(cx_metrics_binary(s.yf, s.p, s.group, s.n, threshold, s.draws, s.seed, &m, err));
        check_all(s.name, &m, want);
        assert_true(m.threshold == threshold);
        const int64_t got[4] = { m.tn, m.fp, m.fn, m.tp };
        for (size_t k = 0; k < 4; k++)
            assert_int_equal(got[k], json_integer_value(json_array_get(counts, k)));
        /* The single functions are the same figures. */
        const double one[4] = { cx_auroc(s.yf, s.p, s.n), cx_auprc(s.yf, s.p, s.n), cx_brier(s.yf, s.p, s.n), cx_ece(s.yf, s.p, s.n, 15) };
        const double set[4] = { m.auroc.value, m.auprc.value, m.brier.value, m.ece.value };
        for (int k = 0; k < 4; k++)
            assert_true(isnan(one[k]) ? isnan(set[k]) : one[k] == set[k]);
        double youden = cx_threshold_youden(s.yf, s.p, s.n), best = number(json_object_get(c, "youden"));
        if (youden != best && fabs(youden - best) > 1e-15)
            fail_msg("%s: Youden's threshold is %.17g, want %.17g", s.name, youden, best);
        free_sample(&s);
    }
    assert_true(i >= 15);
    json_decref(root);
}

static void several_classes_equal_scikit_learn(void **state)
{
    (void)state;
    json_t *root = goldens(), *cases = json_object_get(root, "multi"), *c;
    size_t i;
    json_array_foreach(cases, i, c) {
        sample s = read_sample(c);
        cx_multi_metrics m;
        assert_cx_ok(cx_metrics_multi(s.y, s.p, s.group, s.n, s.columns, s.draws, s.seed, &m, err));
        assert_int_equal(m.classes, s.columns);
        check(s.name, "accuracy", m.accuracy, json_object_get(c, "accuracy"));
        check(s.name, "macro F1", m.macro_f1, json_object_get(c, "macro_f1"));
        check(s.name, "macro AUROC", m.macro_auroc, json_object_get(c, "macro_auroc"));
        for (int k = 0; k < s.columns; k++) {
            check_all(s.name, &m.per_class[k], json_array_get(json_object_get(c, "per_class"), (size_t)k));
            assert_true(isnan(m.per_class[k].threshold));
            for (int l = 0; l < s.columns; l++)
                assert_int_equal(m.confusion[k * s.columns + l],
                                 json_integer_value(json_array_get(json_array_get(json_object_get(c, "confusion"), (size_t)k), (size_t)l)));
        }
        cx_multi_metrics_free(&m);
        free_sample(&s);
    }
    assert_true(i >= 5);
    json_decref(root);
}

/* ---- properties ---------------------------------------------------------------------------------------------------------------- */

enum { N = 1500 };
static void synthetic(int n, int films_per_group, uint64_t seed, float *y, double *p, int *group)
{
    cx_rng r = cx_rng_new(seed, cx_hash("films"));
    for (int i = 0; i < n; i++) {
        y[i] = (float)(cx_rng_uniform(&r) < 0.4);
        p[i] = 1 / (1 + exp(-(double)y[i] + 0.5 - cx_rng_normal(&r)));
        group[i] = i / films_per_group;
    }
}

static double width(cx_estimate e)
{
    return e.hi - e.lo;
}

static void intervals_hold_the_value_and_shrink(void **state)
{
    (void)state;
    static float y[N];
    static double p[N];
    static int group[N];
    cx_binary_metrics few, many, clustered;
    synthetic(N, 1, 3, y, p, group);
    assert_cx_ok(cx_metrics_binary(y, p, group, N / 16, 0.5, 1000, 1, &few, err));
    assert_cx_ok(cx_metrics_binary(y, p, group, N, 0.5, 1000, 1, &many, err));
    /* Not the ECE: noise adds to it, so that resamples lie above the value. */
    const cx_estimate all[] = { many.accuracy, many.f1, many.sensitivity, many.specificity, many.auroc, many.auprc, many.brier,
        few.accuracy, few.f1, few.sensitivity, few.specificity, few.auroc, few.auprc, few.brier };
    for (int k = 0; k < CX_COUNT(all); k++)
        if (!(all[k].lo < all[k].value && all[k].value < all[k].hi))
            fail_msg("estimate %d: %g lies outside %g .. %g", k, all[k].value, all[k].lo, all[k].hi);
    /* 16 times the films: a quarter of the width, within what 1,000 draws and another sample allow. */
    double ratio = width(few.auroc) / width(many.auroc);
    assert_true(ratio > 2.8 && ratio < 5.6);
    /* Hanley and McNeil 1982 give the standard error of an AUROC in closed form. */
    double a = many.auroc.value, q1 = a / (2 - a), q2 = 2 * a * a / (1 + a), pos = (double)(many.tp + many.fn), neg = (double)(many.tn + many.fp);
    double se = sqrt((a * (1 - a) + (pos - 1) * (q1 - a * a) + (neg - 1) * (q2 - a * a)) / (pos * neg));
    assert_true(fabs(width(many.auroc) / (2 * 1.96 * se) - 1) < 0.15);
    /* Every film listed three times under one patient tells nothing new: the interval stays as wide as with one film each. */
    static float y3[3 * N];
    static double p3[3 * N];
    static int group3[3 * N];
    for (int i = 0; i < 3 * N; i++) {
        y3[i] = y[i / 3];
        p3[i] = p[i / 3];
        group3[i] = group[i / 3];
    }
    assert_cx_ok(cx_metrics_binary(y3, p3, group3, 3 * N, 0.5, 1000, 1, &clustered, err));
    assert_true(fabs(width(clustered.auroc) - width(many.auroc)) < TOLERANCE && fabs(clustered.auroc.value - a) < TOLERANCE);
}

/* In 200 samples of a population whose AUROC is known, the interval holds it about 95 % of the time. */
static void intervals_cover_the_truth(void **state)
{
    (void)state;
    static float y[200];
    static double p[200];
    static int group[200];
    double truth = 0.5 * erfc(-0.5);               /* scores N(0, 1) and N(1, 1): P(x > y) = Phi(1 / sqrt 2) */
    int held = 0;
    for (int i = 0; i < 200; i++) {
        cx_binary_metrics m;
        synthetic(200, 1, 1000 + (uint64_t)i, y, p, group);
        assert_cx_ok(cx_metrics_binary(y, p, group, 200, 0.5, 200, (uint64_t)i, &m, err));
        held += m.auroc.lo <= truth && truth <= m.auroc.hi;
    }
    assert_in_range(held, 178, 199);               /* 190 +- 4 standard deviations, skewed down: percentile intervals are a little narrow */
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    static float y[N];
    static double p[N];
    static int group[N];
    synthetic(N, 2, 8, y, p, group);
    cx_binary_metrics one, more;
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    assert_cx_ok(cx_metrics_binary(y, p, group, N, 0.5, 300, 7, &one, err));
    for (int threads = 2; threads <= 5; threads += 3) {
        omp_set_num_threads(threads);
        assert_cx_ok(cx_metrics_binary(y, p, group, N, 0.5, 300, 7, &more, err));
        assert_memory_equal(&one, &more, sizeof one);
    }
    omp_set_num_threads(before);
    assert_cx_ok(cx_metrics_binary(y, p, group, N, 0.5, 300, 8, &more, err));
    assert_true(one.auroc.value == more.auroc.value && one.auroc.lo != more.auroc.lo);      /* the seed does */
}

static void auroc_depends_on_ranks_alone(void **state)
{
    (void)state;
    static float y[N], flipped[N];
    static double p[N], q[N];
    static int group[N];
    synthetic(N, 1, 4, y, p, group);
    for (int i = 0; i < N; i++) {
        q[i] = 7 * floor(p[i] * 64) - 1e6;         /* ties; logits and other scores are welcome */
        p[i] = floor(p[i] * 64) / 64;
        flipped[i] = 1 - y[i];
    }
    assert_true(cx_auroc(y, p, N) == cx_auroc(y, q, N) && cx_auprc(y, p, N) == cx_auprc(y, q, N));
    assert_true(fabs(cx_auroc(y, p, N) + cx_auroc(flipped, p, N) - 1) < TOLERANCE);
    double wins = 0, pairs = 0;                    /* the definition: pairs won, ties half */
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            if (y[i] > y[j]) {
                wins += p[i] > p[j] ? 1 : p[i] == p[j] ? 0.5 : 0;
                pairs++;
            }
    assert_true(cx_auroc(y, p, N) == wins / pairs);
}

static void undefined_is_nan(void **state)
{
    (void)state;
    const float y[3] = { 1, -1, 1 };
    const double p[3] = { 0.5, NAN, 0.5 }, nan_score[3] = { 0.5, 0.5, NAN };
    assert_true(isnan(cx_auroc(y, p, 3)) && isnan(cx_auprc(y, p, 3)) && cx_brier(y, p, 3) == 0.25 && cx_ece(y, p, 3, 10) == 0.5);
    assert_true(isnan(cx_auroc(y, p, 0)) && isnan(cx_brier(y, p, 0)) && isnan(cx_ece(y, p, 0, 10)));
    assert_true(isnan(cx_brier(y, nan_score, 3)) && isnan(cx_ece(y, p, 3, 0)) && isnan(cx_ece(y, p, 3, 1025)));
    assert_true(cx_threshold_youden(y, p, 3) == 0.5 && cx_threshold_youden(y, p, 0) == 0.5 && cx_threshold_youden(y, nan_score, 3) == 0.5);
    cx_binary_metrics m;
    assert_cx_ok(cx_metrics_binary(y, p, NULL, 0, 0.5, 10, 1, &m, err));
    assert_true(isnan(m.accuracy.value) && isnan(m.accuracy.lo) && isnan(m.auroc.value) && m.tp == 0);
    assert_cx_ok(cx_metrics_binary(y, p, NULL, 3, 0.5, 0, 1, &m, err));
    assert_true(m.accuracy.value == 1 && isnan(m.accuracy.lo) && isnan(m.accuracy.hi));
    cx_multi_metrics none;
    assert_cx_ok(cx_metrics_multi(NULL, NULL, NULL, 0, 3, 10, 1, &none, err));
    assert_true(isnan(none.accuracy.value) && isnan(none.macro_f1.value) && none.confusion[8] == 0);
    cx_multi_metrics_free(&none);
}

static void bad_input_is_named(void **state)
{
    (void)state;
    const float y[2] = { 1, 0 }, half[2] = { 0.5f, 0 }, nan_label[2] = { 0, NAN };
    const double p[2] = { 0.5, 0.4 }, nan_p[2] = { 0.5, NAN }, large[2] = { 1.5, 0 }, p3[6] = { 0.2, 0.3, 0.5, 0.1, NAN, 0 };
    const int index[2] = { 0, 3 }, good[2] = { 0, 1 };
    cx_binary_metrics m;
    cx_multi_metrics k;
    assert_cx_fails(CX_E_DATA, "film 0: want label 0, 1 or negative", cx_metrics_binary(half, p, NULL, 2, 0.5, 0, 1, &m, err));
    assert_cx_fails(CX_E_DATA, "film 1: want label", cx_metrics_binary(nan_label, p, NULL, 2, 0.5, 0, 1, &m, err));
    assert_cx_fails(CX_E_DATA, "film 1: want a probability", cx_metrics_binary(y, nan_p, NULL, 2, 0.5, 0, 1, &m, err));
    assert_cx_fails(CX_E_DATA, "film 0: want a probability from 0 to 1, got 1.5", cx_metrics_binary(y, large, NULL, 2, 0.5, 0, 1, &m, err));
    assert_cx_fails(CX_E_USAGE, "threshold", cx_metrics_binary(y, p, NULL, 2, NAN, 0, 1, &m, err));
    assert_cx_fails(CX_E_USAGE, "draws", cx_metrics_binary(y, p, NULL, 2, 0.5, -1, 1, &m, err));
    assert_cx_fails(CX_E_USAGE, "films", cx_metrics_binary(y, p, NULL, -1, 0.5, 1, 1, &m, err));
    assert_cx_fails(CX_E_DATA, "film 1: want a class from 0 to 2", cx_metrics_multi(index, p3, NULL, 2, 3, 0, 1, &k, err));
    assert_cx_fails(CX_E_DATA, "film 1: want a probability", cx_metrics_multi(good, p3, NULL, 2, 3, 0, 1, &k, err));
    assert_cx_fails(CX_E_USAGE, "2 or more classes", cx_metrics_multi(good, p3, NULL, 2, 1, 0, 1, &k, err));
    assert_cx_fails(CX_E_USAGE, "2 or more classes", cx_metrics_multi(good, p3, NULL, 2, -3, 0, 1, &k, err));
    assert_null(k.per_class);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_equals_scikit_learn), cmocka_unit_test(several_classes_equal_scikit_learn),
        cmocka_unit_test(intervals_hold_the_value_and_shrink), cmocka_unit_test(intervals_cover_the_truth), cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(auroc_depends_on_ranks_alone),
        cmocka_unit_test(undefined_is_nan), cmocka_unit_test(bad_input_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
