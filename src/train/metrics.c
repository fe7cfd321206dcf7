/* metrics.c - AUROC, average precision, Brier score, calibration error and thresholds of scored films, as scikit-learn defines them. */
#include "metrics.h"
#include <math.h>
#include <stdlib.h>

typedef struct { double p; int film; } scored;

static int descending(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->film < y->film ? -1 : x->film > y->film;
}

void cx_ranking_free(cx_ranking *r)
{
    free(r->film);
    free(r->group);
    free(r->p);
    free(r->y);
    free(r->predicted);
    free(r->last);
    free(r->bin);
    *r = (cx_ranking){ 0 };
}

static int bin_of(double p, int bins)
{
    if (!(p > 0))
        return 0;
    return p * bins >= bins ? bins - 1 : (int)(p * bins);
}

static void fill(const scored *s, const float *y, cx_ranking *r)
{
    for (int i = 0; i < r->n; i++) {
        r->film[i] = s[i].film;
        r->p[i] = s[i].p;
        r->y[i] = y[s[i].film] >= 0.5f;
        r->last[i] = i + 1 == r->n || s[i + 1].p != s[i].p;
        r->bin[i] = bin_of(s[i].p, r->bins);
    }
}

cx_status cx_ranking_new(const float *y, const double *p, int n, int bins, cx_ranking *out, cx_error *err)
{
    size_t m = n > 0 ? (size_t)n : 0;
    *out = (cx_ranking){ .bins = bins, .film = cx_alloc(m, sizeof(int)), .group = cx_alloc(m, sizeof(int)), .p = cx_alloc(m, sizeof(double)),
        .y = cx_alloc(m, sizeof(double)), .predicted = cx_alloc(m, sizeof(double)), .last = cx_alloc(m, sizeof(bool)), .bin = cx_alloc(m, sizeof(int)) };
    scored *s = cx_alloc(m, sizeof *s);
    cx_status status = CX_OK;
    if (!s || !out->film || !out->group || !out->p || !out->y || !out->predicted || !out->last || !out->bin)
        status = cx_fail(err, CX_E_MEMORY, "no memory to rank %d films", n);
    for (int i = 0; i < n && status == CX_OK; i++) {
        if (!(y[i] >= 0))
            continue;
        if (isnan(p[i]))
            status = cx_fail(err, CX_E_DATA, "film %d: its score is not a number", i);
        s[out->n++] = (scored){ p[i], i };
    }
    if (status == CX_OK) {
        qsort(s, (size_t)out->n, sizeof *s, descending);
        fill(s, y, out);
    } else {
        cx_ranking_free(out);
    }
    free(s);
    return status;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

void cx_ranking_score(const cx_ranking *r, const uint32_t *weight, cx_scores *out)
{
    double tp = 0, fp = 0, tp_above = 0, fp_above = 0, wins = 0, precision = 0, brier = 0, hits = 0, alarms = 0, gap[CX_ECE_MAX_BINS];
    for (int b = 0; b < r->bins; b++)
        gap[b] = 0;
    for (int i = 0; i < r->n; i++) {
        double w = weight ? (double)weight[r->group[i]] : 1, positive = w * r->y[i], negative = w - positive, d = r->p[i] - r->y[i];
        tp += positive;
        fp += negative;
        hits += positive * r->predicted[i];
        alarms += negative * r->predicted[i];
        brier += w * (d * d);
        gap[r->bin[i]] += w * d;
        if (r->last[i]) {
            /* Mann-Whitney: a negative loses to the positives above it and halves with those of its own score; doubled to stay a whole number. */
            double positives = tp - tp_above;
            wins += (fp - fp_above) * (2 * tp_above + positives);
            if (positives > 0)
                precision += positives * (tp / (tp + fp));
            tp_above = tp;
            fp_above = fp;
        }
    }
    double ece = 0, all = tp + fp;
    for (int b = 0; b < r->bins; b++)
        ece += fabs(gap[b]);
    *out = (cx_scores){ .tn = fp - alarms, .fp = alarms, .fn = tp - hits, .tp = hits, .accuracy = ratio(hits + fp - alarms, all),
        .f1 = ratio(2 * hits, hits + alarms + tp), .sensitivity = ratio(hits, tp), .specificity = ratio(fp - alarms, fp),
        .auroc = ratio(wins, 2 * tp * fp), .auprc = fp > 0 ? ratio(precision, tp) : NAN, .brier = ratio(brier, all), .ece = ratio(ece, all) };
}

static cx_scores score_once(const float *y, const double *p, int n, int bins)
{
    cx_ranking r;
    cx_scores s = { .auroc = NAN, .auprc = NAN, .brier = NAN, .ece = NAN };
    if (bins < 1 || bins > CX_ECE_MAX_BINS || cx_ranking_new(y, p, n, bins, &r, NULL) != CX_OK)
        return s;
    cx_ranking_score(&r, NULL, &s);
    cx_ranking_free(&r);
    return s;
}

double cx_auroc(const float *y, const double *p, int n)
{
    return score_once(y, p, n, 1).auroc;
}

double cx_auprc(const float *y, const double *p, int n)
{
    return score_once(y, p, n, 1).auprc;
}

double cx_brier(const float *y, const double *p, int n)
{
    return score_once(y, p, n, 1).brier;
}

double cx_ece(const float *y, const double *p, int n, int bins)
{
    return score_once(y, p, n, bins).ece;
}

double cx_threshold_youden(const float *y, const double *p, int n)
{
    cx_ranking r;
    double threshold = 0.5, best = -INFINITY, positives = 0, tp = 0, fp = 0;
    if (cx_ranking_new(y, p, n, 1, &r, NULL) != CX_OK)
        return threshold;
    for (int i = 0; i < r.n; i++)
        positives += r.y[i];
    double negatives = r.n - positives;
    for (int i = 0; positives > 0 && negatives > 0 && i + 1 < r.n; i++) {
        tp += r.y[i];
        fp += 1 - r.y[i];
        double j = tp * negatives - fp * positives;          /* J times both counts: whole numbers, so that ties are exact */
        if (!r.last[i] || j <= best)
            continue;
        best = j;
        threshold = r.p[i + 1] + (r.p[i] - r.p[i + 1]) / 2;
        if (threshold <= r.p[i + 1])                         /* neighbours of the last bit have no midpoint */
            threshold = r.p[i];
    }
    cx_ranking_free(&r);
    return threshold;
}
