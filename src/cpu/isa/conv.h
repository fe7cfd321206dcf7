/* conv.h - a convolution as its three products, whichever operator asks: conv2d, conv_transpose2d (the same with the roles of input and output exchanged)
 * and linear (1x1 over pixels without neighbours). Depends on fold.h and gemm.h. */
#ifndef CX_CPU_CONV_H
#define CX_CPU_CONV_H
#include "cxnet/op.h"
#include "fold.h"
#include "gemm.h"

/* The convolution reads `big` (N,H,W,I) and makes `small` (N,OH,OW,O) with weights (O,KH,KW,I). Shapes and ld only; the passes are given the data. */
typedef struct {
    cx_tensor big, small;
    int kh, kw, stride, pad_top, pad_left;
    bool pairs;                     /* operands of its products are rounded to bfloat16; sums stay float32. Only where HAS_PAIRS */
    cx_pool_attr pool;              /* kernel > 0: `small`, float32, is max-pooled as it is made, and a pass' dst is the pooled map. Only window_method.down */
} cx_geometry;

/* What happens to a product on its way to memory, in this order; at most one of stats and gate. */
typedef struct {
    const float *bias;              /* += bias[channel]; NULL = none */
    bool relu, add;                 /* max(0, .); add: += what the destination held, before the bias */
    const cx_tensor *stats;         /* mean and variance of each finished channel are written here; NULL = none */
    const cx_gate *gate;            /* the product is a data gradient that goes through this (and not to `dst`); NULL = none */
    const cx_tensor *sums;          /* the gate's sums are written here; NULL = none */
} cx_finish;

/* One product: src -> dst. The passes take the shapes from the geometry, ld and numbers from here. Scratch: the bytes that the pass asked for; passes use as
 * many threads as fit, at most omp_get_max_threads(), and give the same bits with any number. */
typedef struct {
    cx_source src;
    const float *w;                 /* down: packed by down_pack; up: the weights as they are */
    cx_tensor dst;
    cx_finish finish;
    void *work;
    size_t bytes;
} cx_pass;

/* A method computes the three products of a geometry. */
typedef struct {
    /* down, big -> small: conv2d forward, conv_transpose2d's gradient. Weights are packed first; scale (per output of `small`, NULL = 1) multiplies them. */
    size_t (*down_packed)(const cx_geometry *g);
    void (*down_pack)(const cx_geometry *g, const float *w, const float *scale, float *packed);
    size_t (*down_bytes)(const cx_geometry *g);
    void (*down)(const cx_geometry *g, const cx_pass *p);
    /* up, small -> big with the weights transposed: conv2d's gradient, conv_transpose2d forward. */
    size_t (*up_bytes)(const cx_geometry *g);
    void (*up)(const cx_geometry *g, const cx_pass *p);
    /* dw (O,KH,KW,I) = big^T small, summed over pixels: the gradient of the weights in both. */
    size_t (*weight_bytes)(const cx_geometry *g);
    void (*weight)(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes);
    /* Or, in place of up and weight, both in one pass over the pixels: p as for up, without gate and dst.p only dw; dw NULL = only what p says. */
    size_t (*back_bytes)(const cx_geometry *g);
    void (*back)(const cx_geometry *g, const cx_pass *p, cx_source big, float *dw, bool add);
} cx_method;
extern const cx_method CX_FN(window_method);       /* conv.c, conv_weight.c: all but pointwise ones, through zero-padded strips; in pairs `down` alone */
extern const cx_method CX_FN(pointwise_method);    /* pointwise.c, pointwise_back.c: where cx_is_pointwise */
extern const cx_method CX_FN(winograd_method);     /* winograd.c, winograd_weight.c: where winograd_accepts */
bool CX_FN(winograd_accepts)(const cx_geometry *g);
/* Whether it can pool at once: the rows that a window reads stay in the second-level cache, and at most two windows share one. */
bool CX_FN(pool_accepts)(const cx_geometry *g);

/* ---- pieces ------------------------------------------------------------------------------------------------------- */

/* A stride-1-or-more correlation of a zero-padded source: grid pixel (y,x) of dst pixel (dst_y + dst_step*y, dst_x + dst_step*x)
 * sees the kh x kw window of source pixels from (src_y + step*y, src_x + step*x); positions may lie outside the source. */
typedef struct {
    cx_source src;
    cx_tensor dst;
    int64_t kh, kw, step, src_y, src_x;
    int64_t grid_h, grid_w, dst_step, dst_y, dst_x;
    const float *b;             /* packed, K = kh*kw*src.c, or kh*kw*cx_words(src.c) */
    cx_finish finish;
    bool pairs;                 /* operands in bfloat16: a pixel of the strip has cx_words(src.c) words */
} cx_window;

/* Rows y0 .. y0+rows-1 of the grid of image n, as a padded copy of the source: (step*(rows-1)+kh) lines of (step*(grid_w-1)+kw) pixels of src.c floats, or
 * words. */
void CX_FN(pad_strip)(const cx_window *w, int64_t n, int64_t y0, int64_t rows, float *strip);
/* Even strips of the grid whose padded copy stays within the second-level cache. */
int64_t CX_FN(strip_rows)(const cx_window *w);
static inline int64_t cx_strip_line(const cx_window *w) { return (w->step * (w->grid_w - 1) + w->kw) * cx_words(w->src.t.s.c, w->pairs); }
static inline int64_t cx_strip_floats(const cx_window *w, int64_t rows) { return (w->step * (rows - 1) + w->kh) * cx_strip_line(w); }
cx_window CX_FN(window_down)(const cx_geometry *g);
/* Panels of NR outputs, K = kh*kw*I rows, or in pairs kh*kw*cx_words(I): weights for a product with windows or pixels. */
size_t CX_FN(pack_down_bytes)(const cx_geometry *g);
void CX_FN(pack_down)(const cx_geometry *g, const float *w, const float *scale, float *packed);
size_t CX_FN(window_weight_bytes)(const cx_geometry *g);
void CX_FN(window_weight)(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes);

/* A 1x1 convolution of stride 1 without padding has no neighbours: all its pixels are one list. */
static inline bool cx_is_pointwise(const cx_geometry *g)
{
    return g->kh == 1 && g->kw == 1 && g->stride == 1 && g->pad_top == 0 && g->pad_left == 0 && g->big.s.h == g->small.s.h && g->big.s.w == g->small.s.w;
}
size_t CX_FN(point_back_bytes)(const cx_geometry *g);
void CX_FN(point_back)(const cx_geometry *g, const cx_pass *p, cx_source big, float *dw, bool add);
static inline size_t cx_align64(size_t bytes) { return (bytes + 63) / 64 * 64; }
/* How many threads a scratch of `bytes` is large enough for, at most omp_get_max_threads(). It holds one at least: workspace() was asked. */
int CX_FN(threads_that_fit)(size_t bytes, size_t shared, size_t per_thread);

#endif
