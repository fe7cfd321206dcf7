/* linear.c - a linear layer for few rows, where packing the weights would cost more than the product: each of the three products reads the weights,
 * or writes their gradient, exactly once and in order. Depends on op.h and simd.h. */
#include "linear.h"
#include "simd.h"

enum { TILE = 4, FEATURES = 1024 };

/* Up to TILE rows of x with up to TILE rows of w; k in lanes, then the tail, always in the same order. */
INLINE void dots(const int nx, const int nw, const float *x, int64_t ld, const float *w, int64_t k, float *out)
{
    vf acc[TILE][TILE];
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            acc[i][j] = v_zero();
    int64_t p = 0;
    for (; p + VL <= k; p += VL) {
        vf wv[TILE];
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            wv[j] = v_load(w + j * k + p);
#pragma GCC unroll 4
        for (int i = 0; i < nx; i++) {
            vf xv = v_load(x + i * ld + p);
#pragma GCC unroll 4
            for (int j = 0; j < nw; j++)
                acc[i][j] = v_fma(xv, wv[j], acc[i][j]);
        }
    }
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < nw; j++) {
            float s = v_sum(acc[i][j]);
            for (int64_t q = p; q < k; q++)
                s += x[i * ld + q] * w[j * k + q];
            out[i * TILE + j] = s;
        }
}

void CX_FN(linear_forward)(cx_tensor x, const float *w, const float *bias, bool relu, cx_tensor y)
{
    int64_t n = cx_pixels(x.s), k = x.s.c, out = y.s.c, row_tiles = (n + TILE - 1) / TILE, tiles = row_tiles * ((out + TILE - 1) / TILE);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < tiles; t++) {
        int64_t i0 = t % row_tiles * TILE, j0 = t / row_tiles * TILE;
        int64_t ni = min64(TILE, n - i0), nj = min64(TILE, out - j0);
        float sums[TILE * TILE];
        if (ni == TILE && nj == TILE)
            dots(TILE, TILE, x.p + i0 * x.ld, x.ld, w + j0 * k, k, sums);
        else
            for (int64_t i = 0; i < ni; i++)
                for (int64_t j = 0; j < nj; j++)
                    dots(1, 1, x.p + (i0 + i) * x.ld, x.ld, w + (j0 + j) * k, k, sums + i * TILE + j);
        for (int64_t i = 0; i < ni; i++)
            for (int64_t j = 0; j < nj; j++) {
                float v = sums[i * TILE + j] + (bias ? bias[j0 + j] : 0);
                y.p[(i0 + i) * y.ld + j0 + j] = relu && !(v > 0) ? 0 : v;
            }
    }
}

/* d[f0 .. f1) (+)= sum over r of coef[r * step] * row r of s: the shape of both gradients. Two vectors at a time stay in registers. */
INLINE void combine(const float *coef, int64_t step, const float *s, int64_t ld, int64_t rows, float *d, int64_t f0, int64_t f1, bool add)
{
    int64_t f = f0;
    for (; f + 2 * VL <= f1; f += 2 * VL) {
        vf a = add ? v_load(d + f) : v_zero(), b = add ? v_load(d + f + VL) : v_zero();
        for (int64_t r = 0; r < rows; r++) {
            vf c = v_set1(coef[r * step]);
            a = v_fma(c, v_load(s + r * ld + f), a);
            b = v_fma(c, v_load(s + r * ld + f + VL), b);
        }
        v_store(d + f, a);
        v_store(d + f + VL, b);
    }
    for (; f < f1; f++) {
        float a = add ? d[f] : 0;
        for (int64_t r = 0; r < rows; r++)
            a += coef[r * step] * s[r * ld + f];
        d[f] = a;
    }
}

void CX_FN(linear_input)(cx_tensor dy, const float *w, cx_tensor dx, bool add)
{
    int64_t n = cx_pixels(dy.s), k = dx.s.c, blocks = (k + FEATURES - 1) / FEATURES;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < n; i++)
            combine(dy.p + i * dy.ld, 1, w, k, dy.s.c, dx.p + i * dx.ld, b * FEATURES, min64(k, (b + 1) * FEATURES), add);
}

void CX_FN(linear_weight)(cx_tensor dy, cx_tensor x, float *dw, bool add)
{
    int64_t k = x.s.c, blocks = (k + FEATURES - 1) / FEATURES;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t o = 0; o < dy.s.c; o++)
            combine(dy.p + o, dy.ld, x.p, x.ld, cx_pixels(x.s), dw + o * k, b * FEATURES, min64(k, (b + 1) * FEATURES), add);
}
