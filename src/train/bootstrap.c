/* bootstrap.c - percentile intervals over resampled groups: patients, not films, are what would be drawn again. */
#include "metrics.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int group, film; } member;

static int by_group(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->film < y->film ? -1 : x->film > y->film;
}

cx_status cx_groups_number(const int *group, const bool *keep, int n, int *dense, int *groups, cx_error *err)
{
    member *m = cx_alloc(n > 0 ? (size_t)n : 0, sizeof *m);
    if (!m)
        return cx_fail(err, CX_E_MEMORY, "no memory to number the groups of %d films", n);
    int kept = 0;
    for (int i = 0; i < n; i++) {
        dense[i] = -1;
        if (keep[i])
            m[kept++] = (member){ group ? group[i] : i, i };
    }
    qsort(m, (size_t)kept, sizeof *m, by_group);
    *groups = 0;
    for (int i = 0; i < kept; i++) {
        *groups += i == 0 || m[i].group != m[i - 1].group;
        dense[m[i].film] = *groups - 1;
    }
    free(m);
    return CX_OK;
}

static void draw(int groups, int b, uint64_t seed, uint32_t *weight)
{
    cx_rng r = cx_rng_new(seed, cx_hash("bootstrap"));
    r.counter = (uint64_t)b << 32;
    memset(weight, 0, (size_t)groups * sizeof *weight);
    for (int g = 0; g < groups; g++)
        weight[cx_rng_below(&r, (uint32_t)groups)]++;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const double *sorted, int n, double share)
{
    if (n < 1)
        return NAN;
    double at = share * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (sorted[i + 1] - sorted[i]) * (at - i) : sorted[n - 1];
}

static void intervals(const double *table, int draws, int n_out, double *column, double *lo, double *hi)
{
    for (int k = 0; k < n_out; k++) {
        int n = 0;
        for (int b = 0; b < draws; b++)
            if (!isnan(table[(size_t)b * (size_t)n_out + (size_t)k]))
                column[n++] = table[(size_t)b * (size_t)n_out + (size_t)k];
        qsort(column, (size_t)n, sizeof *column, ascending);
        lo[k] = percentile(column, n, 0.025);
        hi[k] = percentile(column, n, 0.975);
    }
}

cx_status cx_bootstrap_run(int groups, int draws, uint64_t seed, cx_resample_fn *score, const void *self, int n_out, double *lo, double *hi, cx_error *err)
{
    for (int k = 0; k < n_out; k++)
        lo[k] = hi[k] = NAN;
    if (draws < 1 || groups < 2)
        return CX_OK;
    int threads = omp_get_max_threads();
    if (threads > draws)
        threads = draws;
    double *table = cx_alloc((size_t)draws * (size_t)n_out, sizeof *table), *column = cx_alloc((size_t)draws, sizeof *column);
    uint32_t *weights = cx_alloc((size_t)threads * (size_t)groups, sizeof *weights);
    bool ok = table && column && weights;
    if (ok) {
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
        for (int b = 0; b < draws; b++) {
            uint32_t *weight = weights + (size_t)omp_get_thread_num() * (size_t)groups;
            draw(groups, b, seed, weight);
            score(self, weight, table + (size_t)b * (size_t)n_out);
        }
        intervals(table, draws, n_out, column, lo, hi);
    }
    free(table);
    free(column);
    free(weights);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %d bootstrap draws over %d groups", draws, groups);
}
