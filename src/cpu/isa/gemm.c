/* gemm.c - the packed matrix products of gemm.h: MR x NR register tiles, K in blocks whose panel stays in the first-level cache. */
#include "gemm.h"

enum { KC = 192 };

typedef struct {
    int64_t a_off, n_run, run_len, run_stride;
    bool add, last;             /* add to C; the last block of K: bias and ReLU */
} block;

/* CASE(rows) for each height that a tile may have, each compiled by itself. */
#if defined(CX_ISA_avx512)
#define EVERY_HEIGHT CASE(8); CASE(7); CASE(6); CASE(5); CASE(4); CASE(3); CASE(2); default: CASE(1);
#else
#define EVERY_HEIGHT CASE(6); CASE(5); CASE(4); CASE(3); CASE(2); default: CASE(1);
#endif

/* The next few lines of what comes after. */
INLINE void look_ahead(cx_ahead *a)
{
    for (int i = 0; i < a->pace; i++) {
        if (a->at >= a->end) {
            if (a->next >= a->n_run)
                return;
            a->at = a->run[a->next++];
            a->end = a->at + a->floats;
        }
        __builtin_prefetch(a->at, 0, 2);
        a->at += CX_LINE;
    }
}

/* A tile narrower than NR goes through a copy, so that nothing outside C is touched. */
static void store_narrow(int mr, const float *t, float *const *c, int64_t col, int64_t n, const block *k, const cx_product *p)
{
    for (int r = 0; r < mr; r++)
        for (int64_t j = 0; j < n; j++) {
            float v = t[r * NR + j];
            if (k->add)
                v += c[r][col + j];
            if (k->last && p->bias)
                v += p->bias[col + j];
            if (k->last && p->relu)
                v = v > 0 ? v : 0;
            c[r][col + j] = v;
        }
}

INLINE void store_full(const int mr, vf acc[MR][2], float *const *c, int64_t col, const block *k, const cx_product *p)
{
    if (k->add)
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            acc[r][0] += v_load(c[r] + col);
            acc[r][1] += v_load(c[r] + col + VL);
        }
    if (k->last && p->bias) {
        vf b0 = v_load(p->bias + col), b1 = v_load(p->bias + col + VL);
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            acc[r][0] += b0;
            acc[r][1] += b1;
        }
    }
    if (k->last && p->relu)
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            acc[r][0] = v_max(acc[r][0], v_zero());
            acc[r][1] = v_max(acc[r][1], v_zero());
        }
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++) {
        v_store(c[r] + col, acc[r][0]);
        v_store(c[r] + col + VL, acc[r][1]);
    }
}

/* c + a b, of floats or of pairs. */
INLINE vf multiply(const bool pairs, vf a, vf b, vf c) { return pairs ? v_dot(a, b, c) : v_fma(a, b, c); }

/* One tile of mr rows (mr and pairs are constants after inlining) over one block of K. */
INLINE void tile(const int mr, const bool pairs, const float *const *a, const float *b, float *const *c, int64_t col, const block *k, const cx_product *p)
{
    vf acc[MR][2];
    const float *row[MR];
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++) {
        acc[r][0] = acc[r][1] = v_zero();
        row[r] = a[r] + k->a_off;
        __builtin_prefetch(c[r] + col, 1, 3);           /* a store that misses would wait for its line at the end */
        if (p->n - col > CX_LINE)
            __builtin_prefetch(c[r] + col + CX_LINE, 1, 3);
    }
    for (int64_t s = 0; s < k->n_run; s++) {
        for (int64_t i = 0; i < k->run_len;) {
            int64_t stop = i + CX_AHEAD_STEP < k->run_len ? i + CX_AHEAD_STEP : k->run_len;
            if (p->ahead)
                look_ahead(p->ahead);
            for (; i < stop; i++, b += NR) {
                vf b0 = v_load(b), b1 = v_load(b + VL);
#pragma GCC unroll 8
                for (int r = 0; r < mr; r++) {
                    vf v = v_set1(row[r][i]);
                    acc[r][0] = multiply(pairs, v, b0, acc[r][0]);
                    acc[r][1] = multiply(pairs, v, b1, acc[r][1]);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++)
            row[r] += k->run_stride;
    }
    if (p->n - col >= NR) {
        store_full(mr, acc, c, col, k, p);
    } else {
        float t[MR * NR];
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            v_store(t + r * NR, acc[r][0]);
            v_store(t + r * NR + VL, acc[r][1]);
        }
        store_narrow(mr, t, c, col, p->n - col, k, p);
    }
}

static void tile_any(int mr, const float *const *a, const float *b, float *const *c, int64_t col, const block *k, const cx_product *p)
{
    const bool pairs = HAS_PAIRS && p->pairs;
#define CASE(rows) case rows: pairs ? tile(rows, true, a, b, c, col, k, p) : tile(rows, false, a, b, c, col, k, p); break
    switch (mr) { EVERY_HEIGHT }
#undef CASE
}

/* All rows and columns for one block of K. Rows are dealt evenly to the tiles: 49 rows are seven tiles of 7 rather than six of 8 and one of 1. */
static void run_block(const cx_product *p, const block *k, int64_t k0, int64_t k_all)
{
    int tiles = (p->m + MR - 1) / MR, base = p->m / tiles, larger = p->m % tiles;
    for (int64_t col = 0; col < p->n; col += NR) {
        const float *b = p->b + col * k_all + k0 * NR;
        for (int t = 0, r = 0; t < tiles; t++) {
            int mr = base + (t < larger);
            tile_any(mr, p->a + r, b, p->c + r, col, k, p);
            r += mr;
        }
    }
}

void CX_FN(product)(const cx_product *p)
{
    int64_t k = p->n_run * p->run_len, k_all = p->b_rows ? p->b_rows : k;
    if (p->run_len > KC) {                              /* pieces of a run */
        int64_t n = (p->run_len + KC - 1) / KC, len = ((p->run_len + n - 1) / n + 7) / 8 * 8;
        for (int64_t s = 0; s < p->n_run; s++)
            for (int64_t i = 0; i < p->run_len; i += len) {
                int64_t l = p->run_len - i < len ? p->run_len - i : len;
                bool first = s == 0 && i == 0, last = s == p->n_run - 1 && i + l == p->run_len;
                block part = { s * p->run_stride + i, 1, l, 0, p->add || !first, last };
                run_block(p, &part, s * p->run_len + i, k_all);
            }
        return;
    }
    int64_t group = k ? KC / p->run_len : 1, s = 0; /* whole runs, several a block */
    do {
        int64_t n = p->n_run - s < group ? p->n_run - s : group;
        block part = { s * p->run_stride, n, p->run_len, p->run_stride, p->add || s > 0, s + n >= p->n_run };
        run_block(p, &part, s * p->run_len, k_all);
        s += n;
    } while (s < p->n_run);
}

void CX_FN(pack)(const float *src, int64_t stride_k, int64_t stride_n, int64_t k, int64_t n, float *dst, int64_t k0, int64_t k_all)
{
    for (int64_t j0 = 0; j0 < n; j0 += NR) {
        float *d = dst + j0 * k_all + k0 * NR;
        const float *s = src + j0 * stride_n;
        int64_t nj = n - j0 < NR ? n - j0 : NR;
        if (nj == NR && stride_n == 1) {
            for (int64_t i = 0; i < k; i++)
                memcpy(d + i * NR, s + i * stride_k, NR * sizeof(float));
            continue;
        }
        for (int64_t i = 0; i < k; i++, d += NR)
            for (int64_t j = 0; j < NR; j++)
                d[j] = j < nj ? s[i * stride_k + j * stride_n] : 0;
    }
}

INLINE void outer_tile(const int mr, const bool pairs, const cx_outer *o, const float *a, const float *b, float *t)
{
    vf acc[MR][2];
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++) {
        acc[r][0] = o->fresh ? v_zero() : v_load(t + r * NR);
        acc[r][1] = o->fresh ? v_zero() : v_load(t + r * NR + VL);
        for (int i = 0; i < NR; i += CX_LINE)
            __builtin_prefetch(t + (mr + r) * NR + i, 1, 3);    /* for the next tile */
    }
    const int64_t a_pixel = o->a_pixel, b_pixel = o->b_pixel;
    for (int64_t y = 0; y < o->rows; y++, a += o->a_line) {
        const float *p = a;
        for (int64_t x = 0; x < o->cols;) {
            int64_t stop = x + CX_AHEAD_STEP < o->cols ? x + CX_AHEAD_STEP : o->cols;
            if (o->ahead)
                look_ahead(o->ahead);
            for (; x < stop; x++, p += a_pixel, b += b_pixel) {
                vf b0 = v_load(b), b1 = v_load(b + VL);
#pragma GCC unroll 8
                for (int r = 0; r < mr; r++) {
                    vf v = v_set1(p[r]);
                    acc[r][0] = multiply(pairs, v, b0, acc[r][0]);
                    acc[r][1] = multiply(pairs, v, b1, acc[r][1]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++) {
        v_store(t + r * NR, acc[r][0]);
        v_store(t + r * NR + VL, acc[r][1]);
    }
}

static void outer_any(int mr, const cx_outer *o, const float *a, const float *b, float *t)
{
    const bool pairs = HAS_PAIRS && o->pairs;
#define CASE(rows) case rows: pairs ? outer_tile(rows, true, o, a, b, t) : outer_tile(rows, false, o, a, b, t); break
    switch (mr) { EVERY_HEIGHT }
#undef CASE
}

void CX_FN(outer)(const cx_outer *o)
{
    int64_t tiles = (o->m + MR - 1) / MR, base = o->m / tiles, larger = o->m % tiles;
    for (int64_t j = 0; j < cx_panels(o->n); j++) {
        const float *b = o->b + j * o->b_panel;
        for (int64_t i = 0, r = 0; i < tiles; i++) {
            int mr = (int)(base + (i < larger));
            const float *a = o->a + r;
            float *t = o->t + j * o->t_panel + r * NR;
            outer_any(mr, o, a, b, t);
            r += mr;
        }
    }
}
