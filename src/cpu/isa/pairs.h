/* pairs.h - operands of products in bfloat16: numbers rounded and laid two to a word, as v_dot takes them (simd.h). Depends on fold.h.
 * A word is the place of a float; the first number of a pair is its lower half. Denormals become zero, as in the product itself. Only where HAS_PAIRS. */
#ifndef CX_CPU_PAIRS_H
#define CX_CPU_PAIRS_H
#include "fold.h"

/* As read_rows, but word i of a row of dst holds channels k0 + 2i and k0 + 2i + 1; a channel that is not there is zero. pitch in words. */
void CX_FN(read_channel_pairs)(const cx_source *s, int64_t first, int64_t rows, int64_t k0, int64_t k, float *dst, int64_t pitch);
/* As read_rows, but word j of row i of dst holds channel k0 + j of pixels first + 2i and first + 2i + 1; a pixel that is not there is zero. */
void CX_FN(read_pixel_pairs)(const cx_source *s, int64_t first, int64_t rows, int64_t k0, int64_t k, float *dst, int64_t pitch);

/* One panel of B for a product: up_div(k, 2) rows of NR words from a matrix of k rows and n <= NR columns; columns beyond n are zero. Element (i, j) is
 * src[i*row + j]; or, transposed, src[j*row + i] times scale[j] (NULL = 1). */
void CX_FN(pack_pairs)(const float *src, int64_t row, int64_t k, int64_t n, float *dst);
void CX_FN(pack_pairs_transposed)(const float *src, int64_t row, int64_t k, int64_t n, const float *scale, float *dst);

#endif
