/* lanes.h - one vector register of floats in GCC's vector extensions, as wide as the instruction set that this compilation is for, and how threads share a
 * loop. Depends on op.h. */
#ifndef CXNET_CPU_LANES_H
#define CXNET_CPU_LANES_H
#include <omp.h>
#include <stdint.h>
#include <string.h>
#include "cxnet/op.h"

#if defined(CX_ISA_avx512)
#define LANES 16
#elif defined(CX_ISA_avx2)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float vec_at __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t vec_mask __attribute__((vector_size(LANES * 4)));

#define INLINE static inline __attribute__((always_inline))

/* n of LANES values; the lanes beyond are zero and untouched in memory. n == LANES, a constant, is a plain load or store. */
INLINE vec vec_load(const float *p, int n)
{
    if (n == LANES)
        return *(const vec_at *)p;
    vec t = { 0 };
    memcpy(&t, p, (size_t)n * 4);
    return t;
}

INLINE void vec_store(float *p, vec v, int n)
{
    if (n == LANES)
        *(vec_at *)p = v;
    else
        memcpy(p, &v, (size_t)n * 4);
}

/* Past the caches, for outputs that are larger than they are; p must be aligned to the vector. Follow with vec_fence(). */
INLINE void vec_stream(float *p, vec v)
{
#if defined(CX_ISA_avx512)
    _mm512_stream_ps(p, v);
#elif defined(CX_ISA_avx2)
    _mm256_stream_ps(p, v);
#elif defined(__SSE2__)
    _mm_stream_ps(p, v);
#else
    vec_store(p, v, LANES);
#endif
}

INLINE void vec_fence(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

INLINE vec vec_set(float x)
{
    return (vec){ 0 } + x;
}

INLINE vec vec_where(vec_mask m, vec v)
{
    return (vec)((vec_mask)v & m);
}

/* max(v, 0), and NaN stays NaN. */
INLINE vec vec_relu(vec v)
{
    return vec_where(~(v <= (vec){ 0 }), v);
}

enum { WIDE = 4 };
/* Calls CALL(vectors, lanes) with channel `k` from 0 to n: four vectors at a time, then one, then the rest of one. */
#define OVER_CHANNELS(n, CALL) do { int64_t k = 0; \
    for (; k + WIDE * LANES <= (n); k += WIDE * LANES) CALL(WIDE, LANES); \
    for (; k + LANES <= (n); k += LANES) CALL(1, LANES); \
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
    return cx_elems(t->s) * 4 >= (int64_t)8 << 20 && t->s.c % LANES == 0 && t->ld % LANES == 0 && (uintptr_t)t->p % (LANES * 4) == 0;
}

#endif
