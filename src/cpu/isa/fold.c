/* fold.c - rows of channels read through a fold, and the partial sums that folds ask for. */
#include "fold.h"
#include <math.h>

INLINE void read_part(int V, int lanes, const cx_source *s, int64_t first, int64_t rows, int64_t k, float *to, int64_t pitch)
{
    for (int64_t r = first; r < first + rows; r++, to += pitch)
        for (int v = 0; v < V; v++)
            vf_store(to + v * VL, cx_read(s, r * s->t.ld, r * s->with.ld, k + v * VL, lanes), lanes);
}

void CX_FN(read_rows)(const cx_source *s, int64_t first, int64_t rows, int64_t k0, int64_t channels, float *dst, int64_t pitch)
{
#define CALL(V, lanes) read_part(V, lanes, s, first, rows, k0 + k, dst + k, pitch)
    OVER_CHANNELS(channels, CALL);
#undef CALL
}

INLINE void write_part(int V, int lanes, const cx_tensor *t, const int64_t *px, int64_t rows, const float *from, int64_t pitch, int64_t k)
{
    for (int64_t r = 0; r < rows; r++, from += pitch)
        for (int v = 0; v < V; v++)
            vt_store(t->type, t->p, px[r] * t->ld + k + v * VL, vf_load(from + v * VL, lanes), lanes);
}

void CX_FN(write_rows)(const cx_tensor *t, const int64_t *px, int64_t rows, const float *from, int64_t pitch, int64_t k0, int64_t channels)
{
#define CALL(V, lanes) write_part(V, lanes, t, px, rows, from + k, pitch, k0 + k)
    OVER_CHANNELS(channels, CALL);
#undef CALL
}

/* ---- statistics --------------------------------------------------------------------------------------------------- */

/* Mean and sum of squared deviations of n rows (twice over a near cache), merged with `seen` rows before them (Chan, Golub & LeVeque 1979). */
INLINE void stats_part(int V, int lanes, const float *const *row, int64_t n, int64_t k, float seen, float *mean, float *m2)
{
    vf sum[WIDE] = { 0 }, mu[WIDE], q[WIDE] = { 0 };
    for (int64_t i = 0; i < n; i++)
        for (int v = 0; v < V; v++)
            sum[v] += vf_load(row[i] + k + v * VL, lanes);
    for (int v = 0; v < V; v++)
        mu[v] = sum[v] * (1.0f / (float)n);
    for (int64_t i = 0; i < n; i++)
        for (int v = 0; v < V; v++) {
            const vf d = vf_load(row[i] + k + v * VL, lanes) - mu[v];
            q[v] = v_fma(d, d, q[v]);
        }
    const float share = (float)n / (seen + (float)n);
    for (int v = 0; v < V; v++) {
        if (seen > 0) {
            const vf old = vf_load(mean + v * VL, lanes), d = mu[v] - old;
            mu[v] = old + d * share;
            q[v] += vf_load(m2 + v * VL, lanes) + d * d * (seen * share);
        }
        vf_store(mean + v * VL, mu[v], lanes);
        vf_store(m2 + v * VL, q[v], lanes);
    }
}

void CX_FN(stats_rows)(const float *const *row, int64_t rows, int64_t k0, int64_t channels, int64_t seen, cx_parts parts, int64_t chunk)
{
    float *mean = parts.p + chunk * parts.pitch + k0, *m2 = mean + parts.c, *count = parts.p + chunk * parts.pitch + 2 * parts.c;
#define CALL(V, lanes) stats_part(V, lanes, row, rows, k, (float)seen, mean + k, m2 + k)
    OVER_CHANNELS(channels, CALL);
#undef CALL
    if (k0 + channels == parts.c)
        *count = (float)(seen + rows);
}

enum { MERGE = 32 };

void CX_FN(merge_stats)(cx_parts parts, int64_t chunks, const cx_tensor *stats)
{
#pragma omp parallel for schedule(static) if (chunks * parts.c >= 1 << 14)
    for (int64_t k0 = 0; k0 < parts.c; k0 += MERGE) {
        const int n = parts.c - k0 < MERGE ? (int)(parts.c - k0) : MERGE;
        double mean[MERGE] = { 0 }, m2[MERGE] = { 0 }, seen = 0;
        for (int64_t i = 0; i < chunks; i++) {
            const float *pm = parts.p + i * parts.pitch + k0, *pq = pm + parts.c;
            const double here = (double)parts.p[i * parts.pitch + 2 * parts.c], share = here / (seen + here), cross = seen * share;
            for (int k = 0; k < n; k++) {
                const double d = (double)pm[k] - mean[k];
                mean[k] += d * share;
                m2[k] += (double)pq[k] + d * d * cross;
            }
            seen += here;
        }
        for (int k = 0; k < n; k++) {
            cx_row(stats, 0)[k0 + k] = (float)mean[k];
            cx_row(stats, 1)[k0 + k] = (float)(m2[k] / seen);
        }
    }
}

void CX_FN(merge_sums)(cx_parts parts, int64_t chunks, const cx_tensor *sums)
{
#pragma omp parallel for schedule(static) if (chunks * parts.c >= 1 << 14)
    for (int64_t k0 = 0; k0 < parts.c; k0 += MERGE) {
        const int n = parts.c - k0 < MERGE ? (int)(parts.c - k0) : MERGE;
        for (int row = 0; row < 2; row++) {
            double s[MERGE] = { 0 };
            for (int64_t i = 0; i < chunks; i++)
                for (int k = 0; k < n; k++)
                    s[k] += (double)parts.p[i * parts.pitch + row * parts.c + k0 + k];
            for (int k = 0; k < n; k++)
                cx_row(sums, row)[k0 + k] = (float)s[k];
        }
    }
}

/* ---- gradients behind a prologue ---------------------------------------------------------------------------------- */

INLINE void gate_part(int V, int lanes, const cx_gate *gate, const int64_t *px, int64_t rows, const float *g, int64_t pitch, int64_t k, float *u,
    bool fresh, float *sum, float *dot)
{
    vf s[WIDE] = { 0 }, t[WIDE] = { 0 }, scale[WIDE], shift[WIDE], mean[WIDE];
    for (int v = 0; v < V; v++) {
        scale[v] = vf_load(gate->scale + k + v * VL, lanes);
        shift[v] = vf_load(gate->shift + k + v * VL, lanes);
        mean[v] = vf_load(gate->mean + k + v * VL, lanes);
    }
    for (int64_t r = 0; r < rows; r++, g += pitch) {
        const int64_t x = px[r] * gate->x.ld + k;
        float *dx = gate->dx.p ? gate->dx.p + px[r] * gate->dx.ld + k : NULL;
        for (int v = 0; v < V; v++) {
            const vf at = vt_load(gate->x.type, gate->x.p, x + v * VL, lanes);
            vf h = vf_load(g + v * VL, lanes);
            vf y = v_fma(at, scale[v], shift[v]);
            if (gate->relu) {
                const vf_mask on = ~(y <= (vf){ 0 });
                h = vf_where(on, h);
                y = vf_where(on, y);
            }
            if (u)
                vf_store(u + r * gate->u_pitch + v * VL, y, lanes);
            s[v] += h;
            t[v] = v_fma(h, at - mean[v], t[v]);
            if (dx)
                vf_store(dx + v * VL, gate->add ? v_fma(scale[v], h, vf_load(dx + v * VL, lanes)) : scale[v] * h, lanes);
        }
    }
    if (!gate->sums)
        return;
    for (int v = 0; v < V; v++) {
        vf_store(sum + v * VL, fresh ? s[v] : s[v] + vf_load(sum + v * VL, lanes), lanes);
        vf_store(dot + v * VL, fresh ? t[v] : t[v] + vf_load(dot + v * VL, lanes), lanes);
    }
}

void CX_FN(gate_rows)(const cx_gate *gate, const int64_t *px, int64_t rows, const float *g, int64_t pitch, int64_t k0, int64_t channels, bool fresh,
    cx_parts parts, int64_t chunk)
{
    float *sum = gate->sums ? parts.p + chunk * parts.pitch + k0 : NULL, *dot = sum ? sum + parts.c : NULL;
#define CALL(V, lanes) gate_part(V, lanes, gate, px, rows, g + k, pitch, k0 + k, gate->u ? gate->u + k : NULL, fresh, sum ? sum + k : NULL, \
    dot ? dot + k : NULL)
    OVER_CHANNELS(channels, CALL);
#undef CALL
}
