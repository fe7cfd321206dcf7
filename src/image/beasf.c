/* beasf.c - bi-histogram equalisation with adaptive sigmoid functions (Arriaga-Garcia et al. 2014, "Image enhancement using bi-histogram equalization with
 * adaptive sigmoid functions"). Depends on image.h.
 *
 * m, the mean grey rounded down, parts the greys: 0 .. m and m .. 255, m in both. A part from .. to, w = to - from wide, whose median is h (the first grey at
 * or below which lie more than half of its pixels), follows s(t) = 1 / (1 + exp(-gamma x)) with x = 5 (t - h) / w, stretched to its own range and rounded:
 *
 *   t -> from + w (s(t) - s(from)) / (s(to) - s(from))
 *
 * Both parts send m to m. Where a sigmoid does not rise (w = 0, gamma all but 0), the part stays as it is. exp is taken once, by cx_beasf_make; the powers that
 * follow are products in a fixed order, so that a GPU (kernels/equalize.cu) has the same bits. */
#include <math.h>
#include <stdlib.h>
#include "cxnet/image.h"

cx_status cx_beasf_make(double gamma, cx_beasf *out, cx_error *err)
{
    if (!isfinite(gamma) || gamma <= 0)
        return cx_fail(err, CX_E_CONFIG, "BEASF: gamma %g; want a number above 0, such as 1.5", gamma);
    out->fall[0] = 1;
    for (int w = 1; w < CX_GREYS; w++)
        out->fall[w] = exp(-5 * gamma / w);
    return CX_OK;
}

/* q^k, k >= 0. */
static double power(double q, int k)
{
    double p = 1;
    for (; k > 0; k >>= 1) {
        if (k & 1)
            p *= q;
        q *= q;
    }
    return p;
}

/* s(h + k), of fall = exp(-5 gamma / w). */
static double sigmoid(double fall, int k)
{
    double p = power(fall, abs(k));
    return k < 0 ? p / (1 + p) : 1 / (1 + p);
}

static int median(const int *count, int from, int to)
{
    int64_t all = 0, below = 0;
    for (int t = from; t <= to; t++)
        all += count[t];
    for (int t = from; t < to; t++) {
        below += count[t];
        if (2 * below > all)
            return t;
    }
    return to;
}

static void map_part(const cx_beasf *b, const int *count, int from, int to, uint8_t *map)
{
    int h = median(count, from, to), w = to - from;
    double low = sigmoid(b->fall[w], from - h), rise = sigmoid(b->fall[w], to - h) - low;
    for (int t = from; t <= to; t++)
        map[t] = (uint8_t)(rise > CX_BEASF_FLAT ? from + w * ((sigmoid(b->fall[w], t - h) - low) / rise) + 0.5 : t);
}

void cx_beasf_apply(const cx_beasf *b, const uint8_t *px, int n_px, uint8_t *out)
{
    int count[CX_GREYS] = { 0 };
    int64_t sum = 0;
    uint8_t map[CX_GREYS];
    for (int i = 0; i < n_px; i++)
        count[px[i]]++;
    for (int t = 0; t < CX_GREYS; t++)
        sum += (int64_t)t * count[t];
    int mean = (int)(sum / n_px);
    map_part(b, count, 0, mean, map);
    map_part(b, count, mean, CX_GREYS - 1, map);
    for (int i = 0; i < n_px; i++)
        out[i] = map[px[i]];
}
