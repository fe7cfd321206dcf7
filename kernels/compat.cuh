/* compat.cuh - what every kernel includes first: CUDA for nvcc, the emulated GPU of tests/emu for the host compiler. Both see the same source. */
#ifndef CX_COMPAT_CUH
#define CX_COMPAT_CUH
#ifdef __CUDACC__
#include <cuda_runtime.h>
#include <math.h>
#define SHARED(type, name, n) __shared__ type name[n]
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, (cudaStream_t)(stream)>>>(__VA_ARGS__)
#else
#define UNROLL
#define ROLLED
#include "cuda_emu.h"
#endif
#include "cxnet/op.h"
#include "kernels.h"
#define WARP 32
#define FULL 0xffffffffu
#endif
