/* conv.h - a convolution as its three products, whichever operator asks: conv2d, conv_transpose2d (the same with the roles of input and output exchanged)
 * and linear (1x1 over pixels without neighbours). Depends on op.h and gemm.h. */
#ifndef CX_CPU_CONV_H
#define CX_CPU_CONV_H
#include "cxnet/op.h"
#include "gemm.h"

/* The convolution reads `big` (N,H,W,I) and makes `small` (N,OH,OW,O) with weights (O,KH,KW,I). Shapes and ld only; the passes are given the data. */
typedef struct {
    cx_tensor big, small;
    int kh, kw, stride, pad_top, pad_left;
} cx_geometry;

/* On the way to memory: += what is there, += bias[channel] (NULL = none), max(0, .). */
typedef struct { const float *bias; bool relu, add; } cx_finish;

/* Scratch in bytes; passes use as many threads as fit, at most omp_get_max_threads(), and give the same bits with any number. */
size_t CX_FN(conv_down_bytes)(const cx_geometry *g);
size_t CX_FN(conv_up_bytes)(const cx_geometry *g);
size_t CX_FN(conv_weight_bytes)(const cx_geometry *g);
/* small = big * w: conv2d forward, conv_transpose2d's gradient. */
void CX_FN(conv_down)(const cx_geometry *g, const float *big, const float *w, float *small, cx_finish f, void *work, size_t bytes);
/* big = small * w transposed: conv2d's gradient, conv_transpose2d forward. */
void CX_FN(conv_up)(const cx_geometry *g, const float *small, const float *w, float *big, cx_finish f, void *work, size_t bytes);
/* dw (O,KH,KW,I) = big^T small, summed over pixels: the gradient of the weights in both. */
void CX_FN(conv_weight)(const cx_geometry *g, const float *big, const float *small, float *dw, bool add, void *work, size_t bytes);

/* ---- pieces ------------------------------------------------------------------------------------------------------- */

/* A stride-1-or-more correlation of a zero-padded source: grid pixel (y,x) of dst pixel (dst_y + dst_step*y, dst_x + dst_step*x)
 * sees the kh x kw window of source pixels from (src_y + step*y, src_x + step*x); positions may lie outside the source. */
typedef struct {
    cx_tensor src, dst;
    int64_t kh, kw, step, src_y, src_x;
    int64_t grid_h, grid_w, dst_step, dst_y, dst_x;
    const float *b;             /* packed, K = kh*kw*src.c */
    cx_finish finish;
} cx_window;

/* Rows y0 .. y0+rows-1 of the grid of image n, as a padded copy of the source: (step*(rows-1)+kh) lines of (step*(grid_w-1)+kw) pixels of src.c floats. */
void CX_FN(pad_strip)(const cx_window *w, int64_t n, int64_t y0, int64_t rows, float *strip);
/* Even strips of the grid whose padded copy stays within the second-level cache. */
int64_t CX_FN(strip_rows)(const cx_window *w);
static inline int64_t cx_strip_line(const cx_window *w) { return (w->step * (w->grid_w - 1) + w->kw) * w->src.s.c; }
static inline int64_t cx_strip_floats(const cx_window *w, int64_t rows) { return (w->step * (rows - 1) + w->kh) * cx_strip_line(w); }
cx_window CX_FN(window_down)(const cx_geometry *g);

/* A 1x1 convolution of stride 1 without padding has no neighbours: all its pixels are one list. */
static inline bool cx_is_pointwise(const cx_geometry *g)
{
    return g->kh == 1 && g->kw == 1 && g->stride == 1 && g->pad_top == 0 && g->pad_left == 0 && g->big.s.h == g->small.s.h && g->big.s.w == g->small.s.w;
}
static inline size_t cx_align64(size_t bytes) { return (bytes + 63) / 64 * 64; }
int CX_FN(threads_that_fit)(size_t bytes, size_t shared, size_t per_thread);

#endif
