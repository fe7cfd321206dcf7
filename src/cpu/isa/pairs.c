/* pairs.c - numbers rounded to bfloat16 and laid out in pairs (pairs.h). */
#include "pairs.h"

#if defined(CX_ISA_avx512_bf16)

/* 2 VL numbers side by side, in VL words. */
INLINE vf v_halves(vf a, vf b) { return (vf)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a); }

/* Word i holds a[i] and b[i]. */
INLINE vf v_zip(vf a, vf b)
{
    const __m512i halves = (__m512i)v_halves(a, b);
    const __m512i low = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008, 0x170007, 0x160006, 0x150005,
                                         0x140004, 0x130003, 0x120002, 0x110001, 0x100000);     /* halves i and VL + i */
    return (vf)_mm512_permutexvar_epi16(low, halves);
}

INLINE void channels_part(int V, int lanes, const cx_source *s, int64_t first, int64_t rows, int64_t k, float *to, int64_t pitch)
{
    for (int64_t r = first; r < first + rows; r++, to += pitch)
        for (int v = 0; v < V; v += 2) {
            const vf a = cx_read(s, r * s->t.ld, r * s->with.ld, k + v * VL, lanes);
            const vf b = V > 1 ? cx_read(s, r * s->t.ld, r * s->with.ld, k + (v + 1) * VL, lanes) : v_zero();
            vf_store(to + v * VL / 2, v_halves(a, b), V > 1 ? VL : (lanes + 1) / 2);
        }
}

void CX_FN(read_channel_pairs)(const cx_source *s, int64_t first, int64_t rows, int64_t k0, int64_t channels, float *dst, int64_t pitch)
{
#define CALL(V, lanes) channels_part(V, lanes, s, first, rows, k0 + k, dst + k / 2, pitch)
    OVER_CHANNELS(channels, CALL);
#undef CALL
}

INLINE void pixels_part(int V, int lanes, const cx_source *s, int64_t first, int64_t rows, int64_t k, float *to, int64_t pitch)
{
    for (int64_t r = first; r < first + rows; r += 2, to += pitch)
        for (int v = 0; v < V; v++) {
            const int64_t at = k + v * VL;
            const vf a = cx_read(s, r * s->t.ld, r * s->with.ld, at, lanes);
            const vf b = r + 1 < first + rows ? cx_read(s, (r + 1) * s->t.ld, (r + 1) * s->with.ld, at, lanes) : v_zero();
            vf_store(to + v * VL, v_zip(a, b), lanes);
        }
}

void CX_FN(read_pixel_pairs)(const cx_source *s, int64_t first, int64_t rows, int64_t k0, int64_t channels, float *dst, int64_t pitch)
{
#define CALL(V, lanes) pixels_part(V, lanes, s, first, rows, k0 + k, dst + k, pitch)
    OVER_CHANNELS(channels, CALL);
#undef CALL
}

void CX_FN(pack_pairs)(const float *src, int64_t row, int64_t k, int64_t n, float *dst)
{
    for (int64_t i = 0; i < k; i += 2, dst += NR)
        for (int v = 0; v < NR; v += VL) {
            const int lanes = (int)max64(0, min64(VL, n - v));
            const vf a = lanes ? vf_load(src + i * row + v, lanes) : v_zero();
            v_store(dst + v, v_zip(a, lanes && i + 1 < k ? vf_load(src + (i + 1) * row + v, lanes) : v_zero()));
        }
}

void CX_FN(pack_pairs_transposed)(const float *src, int64_t row, int64_t k, int64_t n, const float *scale, float *dst)
{
    if (n < NR)
        memset(dst, 0, (size_t)(up_div(k, 2) * NR) * sizeof(float));
    for (int64_t j = 0; j < n; j++, src += row) {
        const vf by = v_set1(scale ? scale[j] : 1);
        for (int64_t i = 0; i < k; i += 2 * VL) {
            float words[VL];
            const vf a = vf_load(src + i, (int)min64(VL, k - i)), b = k - i > VL ? vf_load(src + i + VL, (int)min64(VL, k - i - VL)) : v_zero();
            v_store(words, v_halves(a * by, b * by));
            for (int64_t w = 0; w < min64(VL, up_div(k - i, 2)); w++)
                dst[(i / 2 + w) * NR + j] = words[w];
        }
    }
}

#endif
