/* metrics.h - private to src/train: films ranked by score once, so that every metric of a resample is one pass over them; and the bootstrap that makes
 * the resamples. */
#ifndef CX_TRAIN_METRICS_H
#define CX_TRAIN_METRICS_H
#include "cxnet/train.h"

enum { CX_ECE_BINS = 15, CX_ECE_MAX_BINS = 1024 };   /* 15: Guo et al. 2017, "On calibration of modern neural networks", sec. 5 */

/* Labelled films in descending order of score; equal scores keep the films' order. */
typedef struct {
    int n, bins;
    int *film;               /* index in the caller's arrays */
    int *group;              /* 0 .. groups - 1, set by cx_ranking_groups */
    double *p, *y, *predicted;   /* y, predicted: 0 or 1 */
    bool *last;              /* the last film of its score: here the threshold can lie */
    int *bin;                /* of p, for the ECE */
} cx_ranking;

/* Films with y < 0 are left out; predicted is 0. CX_E_DATA: a score that is NaN. */
cx_status cx_ranking_new(const float *y, const double *p, int n, int bins, cx_ranking *out, cx_error *err);
void cx_ranking_free(cx_ranking *r);

typedef struct { double accuracy, f1, sensitivity, specificity, auroc, auprc, brier, ece, tn, fp, fn, tp; } cx_scores;
enum { CX_SCORES = 8 };      /* those of them with an interval: the first eight */
/* Each film counts weight[its group] times (NULL: once). Counts are exact in a double up to 2^53. O(n), allocates nothing. */
void cx_ranking_score(const cx_ranking *r, const uint32_t *weight, cx_scores *out);

/* Numbers the groups of films that are labelled (keep[i]) by ascending value: dense [n], -1 where not kept; *groups their count. group NULL: every film is
 * its own. */
cx_status cx_groups_number(const int *group, const bool *keep, int n, int *dense, int *groups, cx_error *err);

/* Writes one resample's n_out values; weight [groups]. Called from several threads at once. */
typedef void cx_resample_fn(const void *self, const uint32_t *weight, double *out);
/* Draw b takes `groups` groups with replacement: cx_rng_below of Philox(seed, cx_hash("bootstrap")) from counter b * 2^32 on, so it depends on b alone.
 * lo, hi [n_out]: the 2.5 and 97.5 percentiles (linear interpolation, as numpy's default) of the draws in which a value is not NaN; NaN without draws or
 * with fewer than 2 groups. */
cx_status cx_bootstrap_run(int groups, int draws, uint64_t seed, cx_resample_fn *score, const void *self, int n_out, double *lo, double *hi, cx_error *err);
#endif
