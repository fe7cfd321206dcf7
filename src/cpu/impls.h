/* impls.h - the implementations that each instruction set offers, an array per operator, best first; src/cpu's dispatch table lists them before the reference.
 * Made in src/cpu/isa, compiled once per instruction set. Depends on graph.h. */
#ifndef CX_CPU_IMPLS_H
#define CX_CPU_IMPLS_H
#include "cxnet/graph.h"

/* cx_conv2d_impls_avx512[0 .. cx_conv2d_n_avx512 - 1], and so on. The tables do not include the reference. */
#define CX_DECLARE_ISA(op, isa) \
    extern const cx_impl cx_##op##_impls_##isa[]; \
    extern const int cx_##op##_n_##isa;
#define CX_DECLARE_IMPLS(op) CX_DECLARE_ISA(op, avx512_bf16) CX_DECLARE_ISA(op, avx512) CX_DECLARE_ISA(op, avx2) CX_DECLARE_ISA(op, portable)

CX_DECLARE_IMPLS(conv2d)
CX_DECLARE_IMPLS(linear)
CX_DECLARE_IMPLS(conv_transpose2d)
CX_DECLARE_IMPLS(batch_norm)
CX_DECLARE_IMPLS(relu)
CX_DECLARE_IMPLS(leaky_relu)
CX_DECLARE_IMPLS(sigmoid)
CX_DECLARE_IMPLS(softmax)
CX_DECLARE_IMPLS(max_pool)
CX_DECLARE_IMPLS(avg_pool)
CX_DECLARE_IMPLS(global_avg_pool)
CX_DECLARE_IMPLS(concat)
CX_DECLARE_IMPLS(add)
CX_DECLARE_IMPLS(flatten)
CX_DECLARE_IMPLS(dropout)
CX_DECLARE_IMPLS(upsample_bilinear)
CX_DECLARE_IMPLS(dice_loss)

/* One implementation each. */
#define CX_DECLARE_ONE(name) extern const cx_impl cx_##name##_avx512_bf16, cx_##name##_avx512, cx_##name##_avx2, cx_##name##_portable;
CX_DECLARE_ONE(statistics_impl)
CX_DECLARE_ONE(convert_impl)

#endif
