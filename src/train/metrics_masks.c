/* metrics_masks.c - how well one mask answers another: overlap, and the distance between their outlines; and means over films with their intervals.
 *
 * The distance to the nearest pixel of a set, for every pixel at once, is Felzenszwalb & Huttenlocher 2012 ("Distance transforms of sampled functions"):
 * squared distances along columns, then the lower envelope of parabolas along each row. Exact in integers, time linear in the pixels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "metrics.h"

/* Larger than any squared distance between pixels of a picture of 16384 px a side; the set is empty along this column. */
static const double FAR = 1e12;

/* A pixel of the mask with one of its four neighbours outside the mask, or the picture. */
static bool on_outline(const uint8_t *mask, int w, int h, int x, int y)
{
    const uint8_t *p = mask + (size_t)y * (size_t)w + x;
    return *p && (x == 0 || y == 0 || x == w - 1 || y == h - 1 || !p[-1] || !p[1] || !p[-w] || !p[w]);
}

/* d <- for each pixel the squared distance to the nearest outline pixel in its own column. */
static void along_columns(const uint8_t *mask, int w, int h, double *d)
{
    for (int x = 0; x < w; x++) {
        double steps = FAR;
        for (int y = 0; y < h; y++) {
            steps = on_outline(mask, w, h, x, y) ? 0 : steps + 1;
            d[(size_t)y * (size_t)w + (size_t)x] = steps;
        }
        steps = FAR;
        for (int y = h - 1; y >= 0; y--) {
            double *at = d + (size_t)y * (size_t)w + x;
            steps = *at == 0 ? 0 : steps + 1;
            *at = fmin(*at, steps);
            *at = *at >= FAR ? FAR : *at * *at;
        }
    }
}

/* One row: f <- min over q of f[q] + (x - q)^2. at [w], from [w + 1], copy [w]: room. */
static void along_row(double *f, int w, int *at, double *from, double *copy)
{
    int k = 0;
    memcpy(copy, f, (size_t)w * sizeof *f);
    at[0] = 0;
    from[0] = -INFINITY;
    from[1] = INFINITY;
    for (int q = 1; q < w; q++) {
        double cross;
        while ((cross = (copy[q] + (double)q * q - copy[at[k]] - (double)at[k] * at[k]) / (2.0 * (q - at[k]))) <= from[k])
            k--;
        at[++k] = q;
        from[k] = cross;
        from[k + 1] = INFINITY;
    }
    k = 0;
    for (int x = 0; x < w; x++) {
        while (from[k + 1] < x)
            k++;
        f[x] = copy[at[k]] + (double)(x - at[k]) * (x - at[k]);
    }
}

/* Sum over the outline pixels of `a` of their distance to the nearest outline pixel of `b`, and their number. d [w, h] and the rest: room. */
typedef struct { double *d, *from, *copy; int *at; } cx_room;
static double outline_distance(const uint8_t *a, const uint8_t *b, int w, int h, const cx_room *m, int64_t *count)
{
    double sum = 0;
    along_columns(b, w, h, m->d);
    for (int y = 0; y < h; y++) {
        double *row = m->d + (size_t)y * (size_t)w;
        along_row(row, w, m->at, m->from, m->copy);
        for (int x = 0; x < w; x++)
            if (on_outline(a, w, h, x, y)) {
                sum += sqrt(row[x]);
                ++*count;
            }
    }
    return sum;
}

cx_status cx_mask_compare(const uint8_t *truth, const uint8_t *found, int width, int height, cx_mask_score *out, cx_error *err)
{
    const size_t w = width > 0 ? (size_t)width : 0, h = height > 0 ? (size_t)height : 0;
    int64_t both = 0, count = 0;
    *out = (cx_mask_score){ .boundary = NAN };
    if (!w || !h || width > CX_MASK_SIDE || height > CX_MASK_SIDE)
        return cx_fail(err, CX_E_SHAPE, "masks of %d x %d px; want 1 to %d px a side", width, height, CX_MASK_SIDE);
    for (size_t i = 0; i < w * h; i++) {
        out->truth += truth[i] != 0;
        out->found += found[i] != 0;
        both += truth[i] && found[i];
    }
    const int64_t sum = out->truth + out->found;
    out->dice = sum ? 2.0 * (double)both / (double)sum : 1;
    out->iou = sum ? (double)both / (double)(sum - both) : 1;
    if (!out->truth || !out->found)
        return CX_OK;
    cx_room m = { cx_alloc(w * h, sizeof(double)), cx_alloc(w + 1, sizeof(double)), cx_alloc(w, sizeof(double)), cx_alloc(w, sizeof(int)) };
    const bool ok = m.d && m.from && m.copy && m.at;
    if (ok) {
        const double there = outline_distance(truth, found, width, height, &m, &count), back = outline_distance(found, truth, width, height, &m, &count);
        out->boundary = (there + back) / (double)count;
    }
    free(m.d);
    free(m.from);
    free(m.copy);
    free(m.at);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory to compare masks of %d x %d px", width, height);
}

/* ---- means over films ------------------------------------------------------------------------------------------- */

typedef struct { const double *x; const int *group; int n; } cx_sample_mean;

static void resampled_mean(const void *self, const uint32_t *weight, double *out)
{
    const cx_sample_mean *m = self;
    double sum = 0, count = 0;
    for (int i = 0; i < m->n; i++)
        if (m->group[i] >= 0) {
            const double times = weight ? weight[m->group[i]] : 1;
            sum += times * m->x[i];
            count += times;
        }
    *out = count > 0 ? sum / count : NAN;
}

cx_status cx_metrics_mean(const double *x, const int *group, int n, int draws, uint64_t seed, cx_estimate *out, cx_error *err)
{
    bool *keep = cx_alloc((size_t)n, sizeof *keep);
    int *dense = cx_alloc((size_t)n, sizeof *dense), groups = 0;
    cx_status s = keep && dense ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for the mean of %d films", n);
    for (int i = 0; s == CX_OK && i < n; i++)
        keep[i] = !isnan(x[i]);
    if (s == CX_OK)
        s = cx_groups_number(group, keep, n, dense, &groups, err);
    if (s == CX_OK) {
        const cx_sample_mean m = { x, dense, n };
        resampled_mean(&m, NULL, &out->value);
        s = cx_bootstrap_run(groups, draws, seed, resampled_mean, &m, 1, &out->lo, &out->hi, err);
    }
    free(keep);
    free(dense);
    return s;
}
