/* pool.h - a row of a max pool, for who has the rows of a map at hand that it reads. Depends on op.h, simd.h. */
#ifndef CX_CPU_POOL_H
#define CX_CPU_POOL_H
#include "cxnet/op.h"
#include "simd.h"

/* Row `row` of y, counted over all images, of either type: of rows y0 .. y1-1 of x (1,rows,W,C), float32, the largest of each window, with the bits of a
 * max_pool. */
void CX_FN(max_row)(const cx_tensor *x, int64_t y0, int64_t y1, const cx_pool_attr *a, const cx_tensor *y, int64_t row);

#endif
