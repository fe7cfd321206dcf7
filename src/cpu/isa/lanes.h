/* lanes.h - what kernels that walk rows of channels share: vectors of which the last may be part of one, stores past the caches, shares of a loop. Depends on
 * op.h, simd.h. */
#ifndef CXNET_CPU_LANES_H
#define CXNET_CPU_LANES_H
#include <omp.h>
#include <string.h>
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

/* The same for numbers that lie in memory as t says: element i of p, which is uint16_t for CX_BF16. */
INLINE vf vt_load(cx_dtype t, const void *p, int64_t i, int n)
{
    if (t == CX_F32)
        return vf_load((const float *)p + i, n);
    const uint16_t *h = (const uint16_t *)p + i;
#if defined(CX_ISA_avx512)
    const __m256i v = n == VL ? _mm256_loadu_si256((const __m256i *)h) : _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), h);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16);
#else
    uint16_t part[VL] = { 0 };
    if (n < VL) {
        memcpy(part, h, (size_t)n * 2);
        h = part;
    }
#if defined(CX_ISA_avx2)
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)h)), 16);
#else
    vf v;
    for (int k = 0; k < VL; k++)
        v[k] = cx_from_bf16(h[k]);
    return v;
#endif
#endif
}

INLINE void vt_store(cx_dtype t, void *p, int64_t i, vf v, int n)
{
    if (t == CX_F32) {
        vf_store((float *)p + i, v, n);
        return;
    }
    uint16_t *h = (uint16_t *)p + i;
#if defined(CX_ISA_avx512)
    const __m512i u = (__m512i)v, even = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i near = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    const __m256i out = _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(near, nan, quiet));
    if (n == VL)
        _mm256_storeu_si256((__m256i *)h, out);
    else
        _mm256_mask_storeu_epi16(h, (__mmask16)((1u << n) - 1), out);
#elif defined(CX_ISA_avx2)
    const __m256i u = (__m256i)v, high = _mm256_srli_epi32(u, 16), even = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i near = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i nan = (__m256i)_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q);
    const __m256i out = _mm256_blendv_epi8(near, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    const __m128i low = _mm_packus_epi32(_mm256_castsi256_si128(out), _mm256_extracti128_si256(out, 1));
    if (n == VL)
        _mm_storeu_si128((__m128i *)h, low);
    else {
        uint16_t part[VL];
        _mm_storeu_si128((__m128i *)part, low);
        memcpy(h, part, (size_t)n * 2);
    }
#else
    for (int k = 0; k < n; k++)
        h[k] = cx_to_bf16(v[k]);
#endif
}

/* Where element i of t lies. */
INLINE void *vt_at(const cx_tensor *t, int64_t i) { return (char *)t->p + i * (int64_t)cx_dtype_bytes(t->type); }
/* How many floats lie where k numbers of t do. */
INLINE int64_t vt_floats(const cx_tensor *t, int64_t k) { return (k * (int64_t)cx_dtype_bytes(t->type) + 3) / (int64_t)sizeof(float); }

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
