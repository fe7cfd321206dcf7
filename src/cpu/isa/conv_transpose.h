/* conv_transpose.h - conv_transpose2d whose kernel equals its stride, as a cx_impl's four functions. Depends on op.h, simd.h. */
#ifndef CX_CPU_CONV_TRANSPOSE_H
#define CX_CPU_CONV_TRANSPOSE_H
#include "cxnet/op.h"
#include "simd.h"

/* No padding, no folded ReLU, and input channels in whole panels of NR. */
bool CX_FN(tap_accepts)(const cx_call *c);
size_t CX_FN(tap_workspace)(const cx_call *c, bool backward);
cx_status CX_FN(tap_forward)(const cx_call *c);
cx_status CX_FN(tap_backward)(const cx_call *c);

#endif
