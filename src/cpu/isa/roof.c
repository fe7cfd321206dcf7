/* roof.c - loops that reach a limit of the machine and do nothing else, for one thread: multiply-adds and bf16 dot products in registers, reading and
 * copying memory. Depends on kernels.h, lanes.h. */
#include "cpu/kernels.h"
#include "lanes.h"

/* Independent sums: more than latency times units (4 x 2, and 6 x 2 for the dot product), and few enough for the registers beside two operands. */
#if defined(CX_ISA_avx512)
enum { CHAINS = 24 };
#else
enum { CHAINS = 12 };
#endif

/* Every sum goes to 1 and stays there. Neither denormals nor overflow slow the loop. */
static float fma_turns(int64_t turns, float x)
{
    const vf half = v_set1(0.5f);
    vf sum[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        sum[i] = v_set1(x + (float)i);
    for (int64_t t = 0; t < turns; t++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            sum[i] = v_fma(sum[i], half, half);
    }
    vf all = v_zero();
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        all += sum[i];
    return v_sum(all);
}

#if defined(CX_ISA_avx512)
/* In the set avx512 the only function that may not run wherever the set does: src/cpu/roof.c asks first. */
__attribute__((target("avx512bf16"))) static float dot_turns(int64_t turns, float x)
{
    const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(x), _mm512_set1_ps(x)), b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(-0.5f));
    __m512 sum[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (int64_t t = 0; t < turns; t++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
    }
    __m512 all = _mm512_setzero_ps();
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        all = _mm512_add_ps(all, sum[i]);
    return _mm512_reduce_add_ps(all);
}
#endif

enum { STEP = 64 };     /* floats a turn; four cache lines */

static float read_all(const float *p, int64_t n)
{
    vf sum[STEP / VL];
#pragma GCC unroll 16
    for (int i = 0; i < STEP / VL; i++)
        sum[i] = v_zero();
    for (int64_t k = 0; k < n; k += STEP) {
#pragma GCC unroll 16
        for (int i = 0; i < STEP / VL; i++)
            sum[i] += v_load(p + k + i * VL);
    }
    for (int i = 1; i < STEP / VL; i++)
        sum[0] += sum[i];
    return v_sum(sum[0]);
}

static void copy_all(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t k = 0; k < n; k += STEP) {
#pragma GCC unroll 16
        for (int i = 0; i < STEP / VL; i++)
            vf_stream(to + k + i * VL, v_load(from + k + i * VL));
    }
    vf_fence();
}

const cx_cpu_limits CX_FN(limits) = {
    .fma_flops = CHAINS * VL * 2, .fma = fma_turns,
#if defined(CX_ISA_avx512)
    .dot_flops = CHAINS * VL * 4, .dot = dot_turns,
#endif
    .read = read_all, .copy = copy_all,
};
