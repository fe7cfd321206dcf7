/* lanes.h - what kernels that walk rows of channels share: vectors of which the last may be part of one, stores past the caches, shares of a loop. Depends on
 * op.h, simd.h. */
#ifndef CXNET_CPU_LANES_H
#define CXNET_CPU_LANES_H
#include <omp.h>
#include "cxnet/op.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include "simd.h"

typedef int32_t vf_mask __attribute__((vector_size(VL * 4)));

#if defined(CX_ISA_avx2)
/* The first n lanes. */
INLINE __m256i vf_first(int n)
{
    static const int32_t first[VL + VL] = { -1, -1, -1, -1, -1, -1, -1, -1 };
    return _mm256_loadu_si256((const __m256i *)(first + VL - n));
}
#endif

/* n of VL values; the lanes beyond are zero and untouched in memory. n == VL, a constant, is a plain load or store. */
INLINE vf vf_load(const float *p, int n)
{
    if (n == VL)
        return v_load(p);
#if defined(CX_ISA_avx512)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(CX_ISA_avx2)
    return (vf)_mm256_maskload_ps(p, vf_first(n));
#else
    vf t = { 0 };
    memcpy(&t, p, (size_t)n * 4);
    return t;
#endif
}

INLINE void vf_store(float *p, vf v, int n)
{
    if (n == VL)
        v_store(p, v);
    else
#if defined(CX_ISA_avx512)
        _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(CX_ISA_avx2)
        _mm256_maskstore_ps(p, vf_first(n), (__m256)v);
#else
        memcpy(p, &v, (size_t)n * 4);
#endif
}

/* Past the caches, for outputs that are larger than they are; p must be aligned to the vector. Follow with vf_fence(). */
INLINE void vf_stream(float *p, vf v)
{
#if defined(CX_ISA_avx512)
    _mm512_stream_ps(p, v);
#elif defined(CX_ISA_avx2)
    _mm256_stream_ps(p, v);
#elif defined(__SSE2__)
    _mm_stream_ps(p, v);
#else
    vf_store(p, v, VL);
#endif
}

INLINE void vf_fence(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

INLINE vf vf_where(vf_mask m, vf v)
{
    return (vf)((vf_mask)v & m);
}

/* max(v, 0), and NaN stays NaN. */
INLINE vf vf_relu(vf v)
{
    return vf_where(~(v <= (vf){ 0 }), v);
}

enum { WIDE = 4 };

/* Calls CALL(vectors, lanes) with channel `k` from 0 to n: four vectors at a time, then two, one, the rest of one. */
#define OVER_CHANNELS(n, CALL) do { int64_t k = 0; \
    for (; k + WIDE * VL <= (n); k += WIDE * VL) CALL(WIDE, VL); \
    for (; k + 2 * VL <= (n); k += 2 * VL) CALL(2, VL); \
    for (; k + VL <= (n); k += VL) CALL(1, VL); \
    if (k < (n)) CALL(1, (int)((n) - k)); } while (0)

typedef struct { int64_t lo, hi; } range;

/* The part of 0 .. n-1 that the calling thread of a team takes, the same in every loop over n of one parallel region. */
INLINE range my_share(int64_t n)
{
    const int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
    return (range){ n * me / team, n * (me + 1) / team };
}

/* Whether rows of t are worth streaming past the caches: large, and every vector aligned. */
INLINE bool can_stream(const cx_tensor *t)
{
    return cx_elems(t->s) * 4 >= (int64_t)8 << 20 && t->s.c % VL == 0 && t->ld % VL == 0 && (uintptr_t)t->p % (VL * 4) == 0;
}

#endif
