/* winograd.h - 3x3 convolutions of stride 1 with a quarter of the multiplications: F(4x4,3x3) of Lavin & Gray 2016 (arXiv:1509.09308), interpolated at
 * 0, 1, -1, 2, -2 and infinity. Errors are about 5e-6 of the largest value, against 1e-6 of the plain product. Same contract as conv.h. */
#ifndef CX_CPU_WINOGRAD_H
#define CX_CPU_WINOGRAD_H
#include "conv.h"

bool CX_FN(winograd_accepts)(const cx_geometry *g);
size_t CX_FN(winograd_down_bytes)(const cx_geometry *g);
size_t CX_FN(winograd_up_bytes)(const cx_geometry *g);
size_t CX_FN(winograd_weight_bytes)(const cx_geometry *g);
void CX_FN(winograd_down)(const cx_geometry *g, const float *big, const float *w, float *small, cx_finish f, void *work, size_t bytes);
void CX_FN(winograd_up)(const cx_geometry *g, const float *small, const float *w, float *big, cx_finish f, void *work, size_t bytes);
void CX_FN(winograd_weight)(const cx_geometry *g, const float *big, const float *small, float *dw, bool add, void *work, size_t bytes);

#endif
