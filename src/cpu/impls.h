/* impls.h - the matrix-product and convolution implementations that each instruction set offers, best first; src/cpu's dispatch table lists them before
 * the reference. Made in src/cpu/isa, compiled once per instruction set. Depends on graph.h. */
#ifndef CX_CPU_IMPLS_H
#define CX_CPU_IMPLS_H
#include "cxnet/graph.h"

/* cx_conv2d_impls_avx512[0 .. cx_conv2d_n_avx512 - 1], and so on. The tables do not include the reference. */
#define CX_DECLARE_IMPLS(op, isa) \
    extern const cx_impl cx_##op##_impls_##isa[]; \
    extern const int cx_##op##_n_##isa;

CX_DECLARE_IMPLS(conv2d, avx512)
CX_DECLARE_IMPLS(conv2d, avx2)
CX_DECLARE_IMPLS(conv2d, portable)
CX_DECLARE_IMPLS(linear, avx512)
CX_DECLARE_IMPLS(linear, avx2)
CX_DECLARE_IMPLS(linear, portable)
CX_DECLARE_IMPLS(conv_transpose2d, avx512)
CX_DECLARE_IMPLS(conv_transpose2d, avx2)
CX_DECLARE_IMPLS(conv_transpose2d, portable)

#endif
