/* linear.h - linear layers of few rows without packing. w is (O,1,1,K); x has K channels, dy and y have O. Depends on op.h and simd.h. */
#ifndef CX_CPU_LINEAR_H
#define CX_CPU_LINEAR_H
#include "cxnet/op.h"
#include "simd.h"

void CX_FN(linear_forward)(cx_tensor x, const float *w, const float *bias, bool relu, cx_tensor y);
void CX_FN(linear_input)(cx_tensor dy, const float *w, cx_tensor dx, bool add);      /* dx (+)= dy w */
void CX_FN(linear_weight)(cx_tensor dy, cx_tensor x, float *dw, bool add);           /* dw (+)= dy^T x */

#endif
