/* metrics_sets.c - the figures of a test set with their intervals: two classes at a threshold, or several by the largest probability. */
#include "metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The eight estimates of cx_binary_metrics, in the order of cx_scores. */
static void estimates(const cx_scores *s, const double *lo, const double *hi, cx_binary_metrics *out)
{
    const double value[CX_SCORES] = { s->accuracy, s->f1, s->sensitivity, s->specificity, s->auroc, s->auprc, s->brier, s->ece };
    cx_estimate *e[CX_SCORES] = { &out->accuracy, &out->f1, &out->sensitivity, &out->specificity, &out->auroc, &out->auprc, &out->brier, &out->ece };
    for (int k = 0; k < CX_SCORES; k++)
        *e[k] = (cx_estimate){ value[k], isnan(value[k]) ? NAN : lo[k], isnan(value[k]) ? NAN : hi[k] };
    out->tn = (int64_t)s->tn;
    out->fp = (int64_t)s->fp;
    out->fn = (int64_t)s->fn;
    out->tp = (int64_t)s->tp;
}

static void store(const cx_scores *s, double *out)
{
    const double value[CX_SCORES] = { s->accuracy, s->f1, s->sensitivity, s->specificity, s->auroc, s->auprc, s->brier, s->ece };
    memcpy(out, value, sizeof value);
}

static void resample_binary(const void *self, const uint32_t *weight, double *out)
{
    cx_scores s;
    cx_ranking_score(self, weight, &s);
    store(&s, out);
}

static cx_status number_films(const int *group, const bool *keep, int n, cx_ranking *rankings, int n_rankings, int *groups, cx_error *err)
{
    int *dense = cx_alloc((size_t)n, sizeof *dense);
    cx_status status = dense ? cx_groups_number(group, keep, n, dense, groups, err) : cx_fail(err, CX_E_MEMORY, "no memory for the groups of %d films", n);
    for (int c = 0; c < n_rankings && status == CX_OK; c++)
        for (int i = 0; i < rankings[c].n; i++)
            rankings[c].group[i] = dense[rankings[c].film[i]];
    free(dense);
    return status;
}

static cx_status probability(double p, int film, cx_error *err)
{
    return p >= 0 && p <= 1 ? CX_OK : cx_fail(err, CX_E_DATA, "film %d: want a probability from 0 to 1, got %g", film, p);
}

static cx_status check_binary(const float *y, const double *p, int n, double threshold, int draws, bool *keep, cx_error *err)
{
    if (isnan(threshold) || draws < 0 || n < 0)
        return cx_fail(err, CX_E_USAGE, "metrics of %d films want a threshold and draws >= 0, got %g and %d", n, threshold, draws);
    for (int i = 0; i < n; i++) {
        keep[i] = y[i] >= 0;
        if (!(y[i] < 0) && y[i] != 0 && y[i] != 1)
            return cx_fail(err, CX_E_DATA, "film %d: want label 0, 1 or negative (unlabelled), got %g", i, (double)y[i]);
        if (keep[i])
            TRY(probability(p[i], i, err));
    }
    return CX_OK;
}

cx_status cx_metrics_binary(const float *y, const double *p, const int *group, int n, double threshold, int draws, uint64_t seed, cx_binary_metrics *out,
                            cx_error *err)
{
    cx_ranking r = { 0 };
    int groups = 0;
    double lo[CX_SCORES], hi[CX_SCORES];
    *out = (cx_binary_metrics){ .threshold = threshold };
    bool *keep = cx_alloc(n > 0 ? (size_t)n : 0, sizeof *keep);
    if (!keep)
        return cx_fail(err, CX_E_MEMORY, "no memory for the metrics of %d films", n);
    cx_status status = check_binary(y, p, n, threshold, draws, keep, err);
    if (status == CX_OK)
        status = cx_ranking_new(y, p, n, CX_ECE_BINS, &r, err);
    for (int i = 0; i < r.n; i++)
        r.predicted[i] = r.p[i] >= threshold;
    if (status == CX_OK)
        status = number_films(group, keep, n, &r, 1, &groups, err);
    if (status == CX_OK)
        status = cx_bootstrap_run(groups, draws, seed, resample_binary, &r, CX_SCORES, lo, hi, err);
    if (status == CX_OK) {
        cx_scores s;
        cx_ranking_score(&r, NULL, &s);
        estimates(&s, lo, hi, out);
    }
    cx_ranking_free(&r);
    free(keep);
    return status;
}

/* ---- several classes --------------------------------------------------------------------------------------------------------- */

typedef struct { cx_ranking *ranking; int classes; } multi;

enum { MULTI_SCORES = 3 };   /* accuracy, macro F1, macro AUROC; then CX_SCORES for each class */

/* F1 is averaged over the classes that occur in truth or prediction, as scikit-learn does; the AUROC needs every class. */
static void resample_multi(const void *self, const uint32_t *weight, double *out)
{
    const multi *m = self;
    double right = 0, all = 0, f1 = 0, auroc = 0;
    int occurring = 0;
    for (int c = 0; c < m->classes; c++) {
        cx_scores s;
        cx_ranking_score(&m->ranking[c], weight, &s);
        store(&s, out + MULTI_SCORES + c * CX_SCORES);
        right += s.tp;
        all += s.tp + s.fn;
        auroc += s.auroc;
        if (!isnan(s.f1)) {
            f1 += s.f1;
            occurring++;
        }
    }
    out[0] = all > 0 ? right / all : NAN;
    out[1] = occurring ? f1 / occurring : NAN;
    out[2] = auroc / m->classes;
}

static int largest(const double *p, int classes)
{
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (p[c] > p[best])
            best = c;
    return best;
}

static cx_status check_multi(const int *y, const double *p, int n, int classes, int draws, bool *keep, cx_error *err)
{
    if (classes < 2 || draws < 0 || n < 0)
        return cx_fail(err, CX_E_USAGE, "metrics of %d films want 2 or more classes and draws >= 0, got %d and %d", n, classes, draws);
    for (int i = 0; i < n; i++) {
        keep[i] = y[i] >= 0;
        if (y[i] >= classes)
            return cx_fail(err, CX_E_DATA, "film %d: want a class from 0 to %d or negative (unlabelled), got %d", i, classes - 1, y[i]);
        for (int c = 0; keep[i] && c < classes; c++)
            TRY(probability(p[(size_t)i * (size_t)classes + (size_t)c], i, err));
    }
    return CX_OK;
}

/* Class c against the rest: y1, p1 [n] are scratch. */
static cx_status rank_class(const int *y, const double *p, int n, int classes, int c, float *y1, double *p1, cx_ranking *out, cx_error *err)
{
    for (int i = 0; i < n; i++) {
        y1[i] = y[i] < 0 ? -1 : y[i] == c;
        p1[i] = p[(size_t)i * (size_t)classes + (size_t)c];
    }
    TRY(cx_ranking_new(y1, p1, n, CX_ECE_BINS, out, err));
    for (int i = 0; i < out->n; i++)
        out->predicted[i] = largest(p + (size_t)out->film[i] * (size_t)classes, classes) == c;
    return CX_OK;
}

static cx_status fill_multi(const multi *m, const int *y, const double *p, int n, const double *value, const double *lo, const double *hi,
                            cx_multi_metrics *out, cx_error *err)
{
    out->classes = m->classes;
    out->confusion = cx_alloc((size_t)m->classes * (size_t)m->classes, sizeof *out->confusion);
    out->per_class = cx_alloc((size_t)m->classes, sizeof *out->per_class);
    if (!out->confusion || !out->per_class)
        return cx_fail(err, CX_E_MEMORY, "no memory for the metrics of %d classes", m->classes);
    for (int i = 0; i < n; i++)
        if (y[i] >= 0)
            out->confusion[(size_t)y[i] * (size_t)m->classes + (size_t)largest(p + (size_t)i * (size_t)m->classes, m->classes)]++;
    cx_estimate *e[MULTI_SCORES] = { &out->accuracy, &out->macro_f1, &out->macro_auroc };
    for (int k = 0; k < MULTI_SCORES; k++)
        *e[k] = (cx_estimate){ value[k], isnan(value[k]) ? NAN : lo[k], isnan(value[k]) ? NAN : hi[k] };
    for (int c = 0; c < m->classes; c++) {
        cx_scores s;
        cx_ranking_score(&m->ranking[c], NULL, &s);
        estimates(&s, lo + MULTI_SCORES + c * CX_SCORES, hi + MULTI_SCORES + c * CX_SCORES, &out->per_class[c]);
        out->per_class[c].threshold = NAN;
    }
    return CX_OK;
}

/* The work of cx_metrics_multi, whose scratch the caller frees: keep [n], y1 [n], p1 [n], table [3][outputs]. */
static cx_status measure(multi *m, const int *y, const double *p, const int *group, int n, int draws, uint64_t seed, bool *keep, float *y1, double *p1,
                         double *table, cx_multi_metrics *out, cx_error *err)
{
    int outputs = MULTI_SCORES + m->classes * CX_SCORES, groups = 0;
    double *value = table, *lo = table + outputs, *hi = table + 2 * outputs;
    TRY(check_multi(y, p, n, m->classes, draws, keep, err));
    for (int c = 0; c < m->classes; c++)
        TRY(rank_class(y, p, n, m->classes, c, y1, p1, &m->ranking[c], err));
    TRY(number_films(group, keep, n, m->ranking, m->classes, &groups, err));
    TRY(cx_bootstrap_run(groups, draws, seed, resample_multi, m, outputs, lo, hi, err));
    resample_multi(m, NULL, value);
    return fill_multi(m, y, p, n, value, lo, hi, out, err);
}

cx_status cx_metrics_multi(const int *y, const double *p, const int *group, int n, int classes, int draws, uint64_t seed, cx_multi_metrics *out,
                           cx_error *err)
{
    *out = (cx_multi_metrics){ 0 };
    size_t films = n > 0 ? (size_t)n : 0, k = classes > 0 ? (size_t)classes : 0;
    multi m = { cx_alloc(k, sizeof *m.ranking), (int)k };
    bool *keep = cx_alloc(films, sizeof *keep);
    float *y1 = cx_alloc(films, sizeof *y1);
    double *p1 = cx_alloc(films, sizeof *p1), *table = cx_alloc(3 * (MULTI_SCORES + k * CX_SCORES), sizeof *table);
    cx_status status = CX_OK;
    if (!m.ranking || !keep || !y1 || !p1 || !table)
        status = cx_fail(err, CX_E_MEMORY, "no memory for the metrics of %d films", n);
    else
        status = measure(&m, y, p, group, n, draws, seed, keep, y1, p1, table, out, err);
    for (int c = 0; m.ranking && c < m.classes; c++)
        cx_ranking_free(&m.ranking[c]);
    free(m.ranking);
    free(keep);
    free(y1);
    free(p1);
    free(table);
    if (status != CX_OK)
        cx_multi_metrics_free(out);
    return status;
}

void cx_multi_metrics_free(cx_multi_metrics *m)
{
    free(m->confusion);
    free(m->per_class);
    *m = (cx_multi_metrics){ 0 };
}
