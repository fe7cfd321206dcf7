/* resize.c - separable resampling of one float channel. Depends on image.h. */
#include <math.h>
#include <stdlib.h>
#include "cxnet/image.h"

/* Output i is the weighted sum of `count[i]` inputs from first[i]; weights at weight[i * taps]. */
typedef struct { int n, taps; int *first, *count; double *weight; } filter;

static void filter_free(filter *f)
{
    free(f->first);
    free(f->count);
    free(f->weight);
}

/* A triangle as wide as an output pixel when shrinking, as an input pixel when growing; cut off at the border and normalised (PIL, ImagingResample). */
static void triangle(filter *f, int i, int in, double scale)
{
    double width = scale > 1 ? scale : 1, centre = (i + 0.5) * scale, sum = 0;
    int lo = (int)(centre - width + 0.5), hi = (int)(centre + width + 0.5);
    double *w = f->weight + (size_t)i * (size_t)f->taps;
    lo = lo < 0 ? 0 : lo;
    hi = hi > in ? in : hi;
    for (int k = lo; k < hi; k++) {
        double d = fabs((k - centre + 0.5) / width);
        w[k - lo] = d < 1 ? 1 - d : 0;
        sum += w[k - lo];
    }
    for (int k = 0; k < hi - lo; k++)
        w[k] = sum != 0 ? w[k] / sum : w[k];
    f->first[i] = lo;
    f->count[i] = hi - lo;
}

/* Between the two nearest pixel centres; the border's value beyond the outermost centres (PyTorch, upsample_bilinear2d). */
static void two_nearest(filter *f, int i, int in, double scale)
{
    double x = (i + 0.5) * scale - 0.5;
    x = x < 0 ? 0 : x;
    int lo = (int)x < in - 1 ? (int)x : in - 1;
    double *w = f->weight + (size_t)i * (size_t)f->taps;
    f->first[i] = lo;
    f->count[i] = lo < in - 1 ? 2 : 1;
    w[1] = lo < in - 1 ? x - lo : 0;
    w[0] = 1 - w[1];
}

/* The share of each input in what output i covers (OpenCV, computeResizeAreaTab). Only where no side grows. */
static void covered(filter *f, int i, int in, double scale)
{
    double from = i * scale, to = from + scale < in ? from + scale : in;
    int lo = (int)from, hi = (int)ceil(to);
    hi = hi > in ? in : hi;
    for (int k = lo; k < hi; k++)
        f->weight[(size_t)i * (size_t)f->taps + (size_t)(k - lo)] = ((k + 1 < to ? k + 1 : to) - (k > from ? k : from)) / (to - from);
    f->first[i] = lo;
    f->count[i] = hi - lo;
}

/* What OpenCV's INTER_AREA is where a side grows: the input under the left edge of output i, and the next one as far as i reaches into it. */
static void edge_nearest(filter *f, int i, int in, double scale)
{
    int lo = (int)floor(i * scale);
    double share = (i + 1) - (lo + 1) / scale, *w = f->weight + (size_t)i * (size_t)f->taps;
    share = share <= 0 ? 0 : share - floor(share);
    f->first[i] = lo < in - 1 ? lo : in - 1;
    f->count[i] = lo < in - 1 ? 2 : 1;
    w[1] = lo < in - 1 ? share : 0;
    w[0] = 1 - w[1];
}

/* Four nearest pixel centres; the border's pixel stands for all beyond it (OpenCV, interpolateCubic: Keys 1981 with a = -0.75). */
static void cubic(filter *f, int i, int in, double scale)
{
    const double a = -0.75, x = (i + 0.5) * scale - 0.5, t = x - floor(x);
    const double c[4] = { ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a, ((a + 2) * t - (a + 3)) * t * t + 1,
                          ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1, 0 };
    const int at = (int)floor(x) - 1, lo = at < 0 ? 0 : at > in - 1 ? in - 1 : at;
    double *w = f->weight + (size_t)i * (size_t)f->taps;
    f->first[i] = lo;
    for (int k = 0; k < 4; k++) {
        int from = at + k < 0 ? 0 : at + k > in - 1 ? in - 1 : at + k;
        w[from - lo] += k < 3 ? c[k] : 1 - c[0] - c[1] - c[2];
        f->count[i] = from - lo + 1;
    }
}

typedef void (*weigh)(filter *f, int i, int in, double scale);

/* grows: at least one of the two sides. */
static bool filter_make(filter *f, int in, int out, cx_resize_kind kind, bool grows)
{
    double scale = (double)in / out;
    const bool wide = kind == CX_RESIZE_AREA || (kind == CX_RESIZE_CV_AREA && !grows);
    const weigh how = kind == CX_RESIZE_AREA ? triangle : kind == CX_RESIZE_BILINEAR ? two_nearest : kind == CX_RESIZE_CV_CUBIC ? cubic
                                                                                                    : grows ? edge_nearest : covered;
    *f = (filter) { .n = out, .taps = wide ? 2 * (int)ceil(scale > 1 ? scale : 1) + 1 : 4 };
    f->first = cx_alloc((size_t)out, sizeof(int));
    f->count = cx_alloc((size_t)out, sizeof(int));
    f->weight = cx_alloc((size_t)out, (size_t)f->taps * sizeof(double));
    if (!f->first || !f->count || !f->weight)
        return false;
    for (int i = 0; i < out; i++)
        how(f, i, in, scale);
    return true;
}

static void row_pass(const filter *f, const float *src, float *dst)
{
    for (int i = 0; i < f->n; i++) {
        const double *w = f->weight + (size_t)i * (size_t)f->taps;
        const float *s = src + f->first[i];
        double sum = 0;
        for (int k = 0; k < f->count[i]; k++)
            sum += w[k] * (double)s[k];
        dst[i] = (float)sum;
    }
}

/* rows [.., width] -> one output row, summed row by row so that the inner loop runs along memory. */
static void column_pass(const filter *f, int i, const float *rows, int width, double *sum, float *dst)
{
    for (int x = 0; x < width; x++)
        sum[x] = 0;
    for (int k = 0; k < f->count[i]; k++) {
        double w = f->weight[(size_t)i * (size_t)f->taps + (size_t)k];
        const float *s = rows + (size_t)(f->first[i] + k) * (size_t)width;
        for (int x = 0; x < width; x++)
            sum[x] += w * (double)s[x];
    }
    for (int x = 0; x < width; x++)
        dst[x] = (float)sum[x];
}

cx_status cx_resize(const float *src, int sw, int sh, float *dst, int dw, int dh, cx_resize_kind kind, cx_error *err)
{
    if (sw < 1 || sh < 1 || dw < 1 || dh < 1)
        return cx_fail(err, CX_E_SHAPE, "resize: cannot make %d x %d px from %d x %d px; sides are at least 1", dw, dh, sw, sh);
    const bool grows = dw > sw || dh > sh;
    filter across = { 0 }, down = { 0 };
    float *rows = cx_alloc((size_t)sh, (size_t)dw * sizeof(float));
    double *sum = cx_alloc((size_t)dw, sizeof(double));
    bool ok = filter_make(&across, sw, dw, kind, grows) && filter_make(&down, sh, dh, kind, grows) && rows && sum;
    if (ok) {
        for (int y = 0; y < sh; y++)
            row_pass(&across, src + (size_t)y * (size_t)sw, rows + (size_t)y * (size_t)dw);
        for (int y = 0; y < dh; y++)
            column_pass(&down, y, rows, dw, sum, dst + (size_t)y * (size_t)dw);
    }
    filter_free(&across);
    filter_free(&down);
    free(rows);
    free(sum);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "resize: no memory for %d x %d px to %d x %d px", sw, sh, dw, dh);
}
