/* kernels.h - what one compilation of src/cpu/isa gives to src/cpu/cpu.c: a table per instruction set. Depends on graph.h. */
#ifndef CXNET_CPU_KERNELS_H
#define CXNET_CPU_KERNELS_H
#include "cxnet/graph.h"

typedef struct {
    void (*update)(const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
    double (*sum_squares)(int64_t n, const float *x);
} cx_cpu_kernels;

extern const cx_cpu_kernels cx_cpu_kernels_avx512, cx_cpu_kernels_avx2, cx_cpu_kernels_portable;

/* CX_SYM(name) is name_avx512 and so on: the linkage name of a symbol that every instruction set has. */
#ifdef CX_ISA
#define CX_SYM_PASTE(name, isa) name##_##isa
#define CX_SYM_EXPAND(name, isa) CX_SYM_PASTE(name, isa)
#define CX_SYM(name) CX_SYM_EXPAND(name, CX_ISA)
#endif

#endif
