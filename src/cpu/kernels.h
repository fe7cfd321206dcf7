/* kernels.h - what one compilation of src/cpu/isa gives to src/cpu/cpu.c: a table per instruction set. Depends on graph.h, impls.h. */
#ifndef CXNET_CPU_KERNELS_H
#define CXNET_CPU_KERNELS_H
#include "cxnet/graph.h"

typedef struct {
    struct { const cx_impl *impl; const int *n; } ops[CX_OP_COUNT];   /* best first, without the reference; n NULL: none */
    void (*update)(const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
    double (*sum_squares)(int64_t n, const float *x);
} cx_cpu_kernels;

extern const cx_cpu_kernels cx_cpu_kernels_avx512, cx_cpu_kernels_avx2, cx_cpu_kernels_portable;

#ifdef CX_ISA
/* CX_SYM(name) is name_avx512 and so on: the linkage name of a symbol that every instruction set has. CX_ISA_TEXT is "avx512". */
#define CX_PASTE(name, isa) name##_##isa
#define CX_EXPAND(name, isa) CX_PASTE(name, isa)
#define CX_SYM(name) CX_EXPAND(name, CX_ISA)
#define CX_QUOTE(isa) #isa
#define CX_QUOTE_EXPAND(isa) CX_QUOTE(isa)
#define CX_ISA_TEXT CX_QUOTE_EXPAND(CX_ISA)

/* An operator's implementations: cx_relu_impls_avx512[0 .. cx_relu_n_avx512 - 1]. */
#define CX_IMPLS(op) extern const cx_impl CX_SYM(cx_##op##_impls)[]; extern const int CX_SYM(cx_##op##_n);
CX_IMPLS(batch_norm)
CX_IMPLS(relu)
CX_IMPLS(leaky_relu)
CX_IMPLS(sigmoid)
CX_IMPLS(softmax)
CX_IMPLS(max_pool)
CX_IMPLS(avg_pool)
CX_IMPLS(global_avg_pool)
CX_IMPLS(concat)
CX_IMPLS(add)
CX_IMPLS(flatten)
CX_IMPLS(dropout)
CX_IMPLS(upsample_bilinear)

/* Defines them where there is one that accepts every call and wants no scratch. */
#define CX_IMPL(op, fwd, bwd) \
    const cx_impl CX_SYM(cx_##op##_impls)[] = { { #op " " CX_ISA_TEXT, NULL, NULL, fwd, bwd } }; \
    const int CX_SYM(cx_##op##_n) = 1;

void CX_SYM(cx_update)(const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
double CX_SYM(cx_sum_squares)(int64_t n, const float *x);
#endif

#endif
