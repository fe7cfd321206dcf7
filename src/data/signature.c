/* signature.c - two perceptual signatures and a detail map of a film, blind to flat borders, size, exposure and compression. Depends on image (resize),
 * base. */
#include <math.h>
#include <stdlib.h>
#include "signature.h"

enum { DCT_SIDE = 32, DHASH_WIDTH = 9, DHASH_HEIGHT = 8, SLIDE = 2, MARGIN = 2 };
static const float FLAT_RANGE = 10.0f / 255;     /* a row or column that varies less than this is padding: JPEG rings by up to 8 of 255 */
static const float FLAT_SD = 5.0f / 255;         /* a film whose 32 x 32 reduction varies less than this has no picture to compare */

typedef struct { int x, y, w, h; } box;

/* True when a run of pixels is flat; at most three outliers (dust, a dead pixel) are forgiven. */
static bool flat_run(const uint16_t *px, size_t step, int n, int tolerance)
{
    int low = px[0], high = px[0], out = 0;
    for (int i = 1; i < n; i++) {
        int v = px[(size_t)i * step], lo = v < low ? v : low, hi = v > high ? v : high;
        if (hi - lo > tolerance) {
            if (++out > 3)
                return false;
        } else {
            low = lo;
            high = hi;
        }
    }
    return true;
}

/* Cuts flat rows and columns off all four sides, in turns until nothing is flat: padding may be an L. Leaves at least an eighth of each side. */
static box trim(const cx_film *f)
{
    box b = { 0, 0, f->width, f->height };
    int tolerance = (int)(FLAT_RANGE * (float)f->max), least_w = f->width / 8 + 1, least_h = f->height / 8 + 1;
    size_t stride = (size_t)f->width;
    for (bool cut = true; cut;) {
        cut = false;
        while (b.h > least_h && flat_run(f->px + (size_t)b.y * stride + (size_t)b.x, 1, b.w, tolerance))
            b.y++, b.h--, cut = true;
        while (b.h > least_h && flat_run(f->px + (size_t)(b.y + b.h - 1) * stride + (size_t)b.x, 1, b.w, tolerance))
            b.h--, cut = true;
        while (b.w > least_w && flat_run(f->px + (size_t)b.y * stride + (size_t)b.x, stride, b.h, tolerance))
            b.x++, b.w--, cut = true;
        while (b.w > least_w && flat_run(f->px + (size_t)b.y * stride + (size_t)(b.x + b.w - 1), stride, b.h, tolerance))
            b.w--, cut = true;
    }
    return b;
}

static uint64_t sign_differences(const float *g)         /* (DHASH_HEIGHT, DHASH_WIDTH) */
{
    uint64_t bits = 0;
    for (int y = 0; y < DHASH_HEIGHT; y++)
        for (int x = 0; x + 1 < DHASH_WIDTH; x++)
            bits = bits << 1 | (g[y * DHASH_WIDTH + x] < g[y * DHASH_WIDTH + x + 1]);
    return bits;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Signs of the DCT-II coefficients (1..8, 1..8) about their median; the zeroth row and column are brightness and vignetting. */
static uint64_t sign_frequencies(const float *g)         /* (DCT_SIDE, DCT_SIDE) */
{
    double wave[8][DCT_SIDE], half[8][DCT_SIDE], c[64], sorted[64];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < DCT_SIDE; i++)
            wave[k][i] = cos(3.14159265358979323846 * (k + 1) * (i + 0.5) / DCT_SIDE);
    for (int k = 0; k < 8; k++)
        for (int y = 0; y < DCT_SIDE; y++) {
            half[k][y] = 0;
            for (int x = 0; x < DCT_SIDE; x++)
                half[k][y] += wave[k][x] * (double)g[y * DCT_SIDE + x];
        }
    for (int v = 0; v < 8; v++)
        for (int u = 0; u < 8; u++) {
            double sum = 0;
            for (int y = 0; y < DCT_SIDE; y++)
                sum += wave[v][y] * half[u][y];
            c[v * 8 + u] = sorted[v * 8 + u] = sum;
        }
    qsort(sorted, 64, sizeof *sorted, by_value);
    double median = 0.5 * (sorted[31] + sorted[32]);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++)
        bits = bits << 1 | (c[i] > median);
    return bits;
}

static float standard_deviation(const float *g, int n)
{
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++)
        mean += (double)g[i] / n;
    for (int i = 0; i < n; i++)
        var += ((double)g[i] - mean) * ((double)g[i] - mean) / n;
    return (float)sqrt(var);
}

/* SHA-256 of size and grey values: equal for the same picture in another container. */
static void hash_pixels(const cx_film *f, char hex[65])
{
    cx_sha256 sha;
    uint8_t row[4096];
    size_t n = (size_t)f->width * (size_t)f->height, fill = 0;
    int32_t head[3] = { f->width, f->height, f->max };
    cx_sha256_init(&sha);
    cx_sha256_update(&sha, head, sizeof head);
    for (size_t i = 0; i < n; i++) {
        row[fill++] = (uint8_t)(f->px[i] & 255);
        if (f->max > 255)
            row[fill++] = (uint8_t)(f->px[i] >> 8);
        if (fill >= sizeof row) {
            cx_sha256_update(&sha, row, fill);
            fill = 0;
        }
    }
    cx_sha256_update(&sha, row, fill);
    cx_sha256_hex(&sha, hex);
}

/* ---- the detail map ----------------------------------------------------------------------------------------------------- */

static void blur(const float *in, float *out)            /* Gaussian, sigma 1.2 px, edges repeated */
{
    float weight[9], sum = 0, across[CX_DETAIL_SIDE * CX_DETAIL_SIDE];
    for (int k = 0; k < 9; k++)
        sum += weight[k] = expf(-0.5f * (float)((k - 4) * (k - 4)) / (1.2f * 1.2f));
    for (int pass = 0; pass < 2; pass++)
        for (int y = 0; y < CX_DETAIL_SIDE; y++)
            for (int x = 0; x < CX_DETAIL_SIDE; x++) {
                float total = 0;
                for (int k = 0; k < 9; k++) {
                    int at = (pass ? y : x) + k - 4;
                    at = at < 0 ? 0 : at >= CX_DETAIL_SIDE ? CX_DETAIL_SIDE - 1 : at;
                    total += weight[k] * (pass ? across[at * CX_DETAIL_SIDE + x] : in[y * CX_DETAIL_SIDE + at]);
                }
                (pass ? out : across)[y * CX_DETAIL_SIDE + x] = total / sum;
            }
}

/* What a blur takes away (ribs, vessels, edges), in units of its own spread and clipped there, so that burned-in text weighs no more than a rib. */
static void make_detail(float *g, cx_detail *d)
{
    enum { N = CX_DETAIL_SIDE * CX_DETAIL_SIDE };
    float low[N], sd;
    blur(g, low);
    for (int i = 0; i < N; i++)
        g[i] -= low[i];
    sd = standard_deviation(g, N);
    for (int i = 0; i < N; i++) {
        float v = sd > 0 ? g[i] / sd * 40 : 0;
        d->px[i] = (int8_t)lrintf(v < -100 ? -100 : v > 100 ? 100 : v);
    }
}

typedef struct { int32_t n, a, b, aa, bb, ab; } moments;

static double correlation(const moments *m)
{
    double n = m->n, va = n * m->aa - (double)m->a * m->a, vb = n * m->bb - (double)m->b * m->b;
    return va > 0 && vb > 0 ? (n * m->ab - (double)m->a * m->b) / sqrt(va * vb) : 0;
}

double cx_detail_likeness(const cx_detail *a, const cx_detail *b)
{
    double best = -1;
    for (int dy = -SLIDE; dy <= SLIDE; dy++)
        for (int dx = -SLIDE; dx <= SLIDE; dx++) {
            moments m = { 0 };
            int w = CX_DETAIL_SIDE - 2 * MARGIN - abs(dx), h = CX_DETAIL_SIDE - 2 * MARGIN - abs(dy);
            const int8_t *pa = a->px + (MARGIN + (dy < 0 ? -dy : 0)) * CX_DETAIL_SIDE + MARGIN + (dx < 0 ? -dx : 0);
            const int8_t *pb = b->px + (MARGIN + (dy > 0 ? dy : 0)) * CX_DETAIL_SIDE + MARGIN + (dx > 0 ? dx : 0);
            m.n = w * h;
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++) {
                    int u = pa[y * CX_DETAIL_SIDE + x], v = pb[y * CX_DETAIL_SIDE + x];
                    m.a += u;
                    m.b += v;
                    m.aa += u * u;
                    m.bb += v * v;
                    m.ab += u * v;
                }
            double r = correlation(&m);
            best = r > best ? r : best;
        }
    return best;
}

/* ---- a film's signature -------------------------------------------------------------------------------------------------- */

static cx_status reduce(const float *grey, const box *b, float *out, int width, int height, cx_error *err)
{
    return cx_resize(grey, b->w, b->h, out, width, height, CX_RESIZE_AREA, err);
}

static cx_status sign(const float *grey, const box *b, cx_signature *out, cx_detail *detail, cx_error *err)
{
    float small[DHASH_WIDTH * DHASH_HEIGHT], medium[DCT_SIDE * DCT_SIDE], large[CX_DETAIL_SIDE * CX_DETAIL_SIDE];
    TRY(reduce(grey, b, small, DHASH_WIDTH, DHASH_HEIGHT, err));
    TRY(reduce(grey, b, medium, DCT_SIDE, DCT_SIDE, err));
    TRY(reduce(grey, b, large, CX_DETAIL_SIDE, CX_DETAIL_SIDE, err));
    out->flat = standard_deviation(medium, DCT_SIDE * DCT_SIDE) < FLAT_SD;
    out->dhash = sign_differences(small);
    out->phash = sign_frequencies(medium);
    make_detail(large, detail);
    return CX_OK;
}

cx_status cx_signature_make(const cx_film *f, cx_signature *out, cx_detail *detail, cx_error *err)
{
    *out = (cx_signature){ 0 };
    hash_pixels(f, out->sha256);
    box b = trim(f);
    float *grey = cx_alloc_aligned((size_t)b.w * (size_t)b.h, sizeof *grey);
    if (!grey)
        return cx_fail(err, CX_E_MEMORY, "no memory to sign a film of %d x %d px", f->width, f->height);
    for (int y = 0; y < b.h; y++)
        for (int x = 0; x < b.w; x++)
            grey[(size_t)y * (size_t)b.w + (size_t)x] = (float)f->px[(size_t)(b.y + y) * (size_t)f->width + (size_t)(b.x + x)] / (float)f->max;
    cx_status s = sign(grey, &b, out, detail, err);
    free(grey);
    return s;
}
