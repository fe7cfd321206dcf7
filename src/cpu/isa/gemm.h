/* gemm.h - the two register-tiled products that every convolution and linear layer here is made of, and the packing of their operands.
 * Rows are given by pointers, so a channel slice, a shifted window or a strip of pixels is a matrix without being copied. Depends on simd.h. */
#ifndef CX_CPU_GEMM_H
#define CX_CPU_GEMM_H
#include <stdbool.h>
#include <stddef.h>
#include "simd.h"

enum { CX_ROWS_MAX = 256 };     /* rows of one product: a block of pixels whose operands stay in the second-level cache */

static inline int64_t cx_panels(int64_t n) { return (n + NR - 1) / NR; }
/* Numbers in a word of an operand, and words of n numbers. */
static inline int64_t cx_per_word(bool pairs) { return pairs ? 2 : 1; }
static inline int64_t cx_words(int64_t n, bool pairs) { return up_div(n, cx_per_word(pairs)); }
static inline int64_t cx_packed(int64_t k, int64_t n) { return cx_panels(n) * NR * k; }     /* floats, or words, of a packed K x N matrix */

/* Memory that the next product will read: n_run runs of `floats`. A product that is given one asks for its lines while it multiplies, `pace` lines each
 * CX_AHEAD_STEP steps of K, so that the next block waits in the second-level cache: the largest single gain of these kernels. The rest are the cursor's. */
enum { CX_AHEAD_STEP = 8, CX_LINE = 16 };
/* At least `floats`, and an odd number of cache lines: rows or planes that lie so far apart fall into different sets of a cache. */
static inline int64_t cx_odd_lines(int64_t floats) { return (up_div(floats, CX_LINE) | 1) * CX_LINE; }
typedef struct {
    const float *const *run;
    int n_run, pace;
    int64_t floats;
    int next;
    const float *at, *end;
} cx_ahead;

/* Either product takes its operands as floats or, with `pairs`, as words of two bfloat16 numbers (pairs.h): K, or the pixels, are then counted in pairs, and so
 * are runs and strides. C and T are float32 always.
 *
 * C (m x n) = A B, then += what C held (add), += bias, max(0, .) (relu).
 * A row i is n_run runs of run_len floats, run_stride apart, starting at a[i]; K = n_run * run_len, and may be 0.
 * B is packed: cx_panels(n) panels of K rows of NR floats, the columns beyond n zero. C row i starts at c[i]. */
typedef struct {
    int m;                      /* 1 .. CX_ROWS_MAX */
    const float *const *a;
    int64_t n_run, run_len, run_stride;
    const float *b;
    int64_t b_rows;             /* rows of each panel of B where it has more than this product takes from `b` on; 0 = K */
    int64_t n;
    float *const *c;
    const float *bias;          /* NULL = none */
    bool relu, add, pairs;
    cx_ahead *ahead;            /* NULL = none */
} cx_product;
void CX_FN(product)(const cx_product *p);

/* Packs B from rows of k: row(k)[j] = src[k * stride_k + j * stride_n] into `dst`, which holds rows k0 .. k0 + k - 1 of a matrix of k_all rows. */
void CX_FN(pack)(const float *src, int64_t stride_k, int64_t stride_n, int64_t k, int64_t n, float *dst, int64_t k0, int64_t k_all);

/* T (m x n) += A^T B over pixels (fresh: =), in the order of the pixels: `rows` lines of `cols` pixels.
 * A: m floats of pixel (y, x) at a + y * a_line + x * a_pixel. B: panel p at b + p * b_panel, NR floats every b_pixel, pixel after pixel.
 * T: panel p at t + p * t_panel, then m rows of NR floats. */
typedef struct {
    int64_t rows, cols;
    const float *a;
    int64_t a_line, a_pixel;
    const float *b;
    int64_t b_panel, b_pixel;
    float *t;
    int64_t t_panel, m, n;
    bool fresh, pairs;
    cx_ahead *ahead;            /* NULL = none */
} cx_outer;
void CX_FN(outer)(const cx_outer *o);

#endif
