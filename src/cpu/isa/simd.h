/* simd.h - one vector type for the instruction sets that src/cpu/isa is compiled for: a few inline operations on it, the register tile that fits the set's
 * register file, and CX_FN(name), which gives a symbol shared by the files of src/cpu/isa its suffix. Depends on nothing. */
#ifndef CX_CPU_SIMD_H
#define CX_CPU_SIMD_H
#include <stdint.h>
#include <string.h>
#if defined(CX_ISA_avx512_bf16)
#define CX_ISA_avx512 1             /* and a dot product of bfloat16 pairs besides */
#endif
#if defined(CX_ISA_avx512) || defined(CX_ISA_avx2)
#include <immintrin.h>
#endif

#define CX_JOIN3_(a, b, c) a##b##_##c
#define CX_JOIN3(a, b, c) CX_JOIN3_(a, b, c)
#define CX_FN(name) CX_JOIN3(cx_, name, CX_ISA)
#define CX_TEXT_(x) #x
#define CX_TEXT(x) CX_TEXT_(x)
#if defined(CX_ISA_avx512_bf16)
#define CX_ISA_NAME "avx512"        /* what its kernels are, all but a few */
#else
#define CX_ISA_NAME CX_TEXT(CX_ISA)
#endif
#define INLINE static inline __attribute__((always_inline))

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* VL floats a vector; the matrix tile is MR rows by NR = 2 VL columns: 8x2 of 32 registers, or 6x2 of 16. */
#if defined(CX_ISA_avx512)
enum { VL = 16, MR = 8 };
#elif defined(CX_ISA_avx2)
enum { VL = 8, MR = 6 };
#else
enum { VL = 4, MR = 6 };
#endif
enum { NR = 2 * VL };

typedef float vf __attribute__((vector_size(VL * 4)));
typedef float vf_any __attribute__((vector_size(VL * 4), aligned(4), may_alias));   /* in memory, at any address */

INLINE vf v_load(const float *p) { return *(const vf_any *)p; }
INLINE void v_store(float *p, vf v) { *(vf_any *)p = v; }

#if defined(CX_ISA_avx512)
INLINE vf v_set1(float x) { return (vf)_mm512_set1_ps(x); }
INLINE vf v_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(CX_ISA_avx2)
INLINE vf v_set1(float x) { return (vf)_mm256_set1_ps(x); }
INLINE vf v_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vf v_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
#else
INLINE vf v_set1(float x) { return (vf){ x, x, x, x }; }
INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
typedef int32_t vi __attribute__((vector_size(VL * 4)));
INLINE vf v_max(vf a, vf b) { vi m = a > b; return (vf)(((vi)a & m) | ((vi)b & ~m)); }   /* b when either is NaN, as the x86 instruction */
#endif
INLINE vf v_zero(void) { return v_set1(0.0f); }

/* c + a b for floats that hold two bfloat16 numbers each, the first in the lower half: the sum of the products of the halves, in float32. Code for pairs stands
 * behind HAS_PAIRS, which leaves it out of the other sets. */
#if defined(CX_ISA_avx512_bf16)
enum { HAS_PAIRS = 1 };
INLINE vf v_dot(vf a, vf b, vf c) { return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b); }
#else
enum { HAS_PAIRS = 0 };
INLINE vf v_dot(vf a, vf b, vf c) { (void)a; (void)b; return c; }
#endif

/* Makes a pointer opaque: a loop that steps through many planes keeps one address instead of precomputing, and spilling, all of them. */
#define V_OPAQUE(p) __asm__("" : "+r"(p))

/* Sum of the lanes: pairs at distance VL/2, VL/4, ... */
INLINE float v_sum(vf v)
{
    float t[VL];
    v_store(t, v);
    for (int h = VL / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++)
            t[i] += t[i + h];
    return t[0];
}

#endif
