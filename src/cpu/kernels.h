/* kernels.h - what one compilation of src/cpu/isa gives to src/cpu/cpu.c: a table per instruction set. Depends on graph.h, impls.h. */
#ifndef CXNET_CPU_KERNELS_H
#define CXNET_CPU_KERNELS_H
#include "cxnet/graph.h"
#include "impls.h"
#ifdef CX_ISA
#include "isa/simd.h"
#endif

/* Loops of one thread that reach a limit of the machine (isa/roof.c). What they return depends on all their work, so that none of it is left out. */
typedef struct {
    int fma_flops, dot_flops;                              /* of one turn */
    float (*fma)(int64_t turns, float x);
    float (*dot)(int64_t turns, float x);                  /* NULL: the set has none; asks for AVX512_BF16 */
    float (*read)(const float *p, int64_t n);              /* n is a multiple of 64; addresses are of 64 bytes */
    void (*copy)(float *restrict to, const float *restrict from, int64_t n);
} cx_cpu_limits;

typedef struct {
    struct { const cx_impl *impl; const int *n; } ops[CX_OP_COUNT];   /* best first, without the reference; n NULL: none */
    const cx_impl *statistics, *convert;
    void (*update)(const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
    double (*sum_squares)(int64_t n, const float *x);
    const cx_cpu_limits *limits;
} cx_cpu_kernels;

extern const cx_cpu_kernels cx_cpu_kernels_avx512_bf16, cx_cpu_kernels_avx512, cx_cpu_kernels_avx2, cx_cpu_kernels_portable;

#ifdef CX_ISA
/* Nothing is folded into the call. */
static inline bool cx_is_plain(const cx_call *c)
{
    const cx_fold *f = &c->fold;
    return !f->pre.s.c && !f->post.s.c && !f->stats.s.c && !f->sums.s.c && !f->carry.s.c;
}

/* Defines the table of an operator that has one kernel, which accepts every plain call and wants no scratch. */
#define CX_IMPL(op, forward, backward) \
    const cx_impl CX_FN(op##_impls)[] = { { .name = #op " " CX_ISA_NAME, .accepts = cx_is_plain, .fwd = forward, .bwd = backward } }; \
    const int CX_FN(op##_n) = 1;

void CX_FN(update)(const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
double CX_FN(sum_squares)(int64_t n, const float *x);
extern const cx_cpu_limits CX_FN(limits);
#endif

#endif
