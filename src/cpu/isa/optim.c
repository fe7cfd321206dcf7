/* optim.c - the optimisers over a flat range and the sum of squares for clipping; element by element, so threads change no bit. Depends on update.h. */
#include <math.h>
#include "cpu/kernels.h"
#include "graph/update.h"

enum { CHUNK = 16384, PARTS = 64, LANES = 16 };

static void sgd(cx_scalars s, int64_t n, float *restrict p, const float *restrict g, float *restrict m)
{
    if (!m) {
        for (int64_t i = 0; i < n; i++)
            p[i] -= s.lr * (s.scale * g[i] + s.decay * p[i]);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        m[i] = s.momentum * m[i] + (s.scale * g[i] + s.decay * p[i]);
        p[i] -= s.lr * m[i];
    }
}

/* Kingma & Ba 2015, algorithm 1, with eps outside the corrected root; `keep` carries the decoupled decay of Loshchilov & Hutter 2019. */
static void adam(cx_scalars s, int64_t n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v)
{
    for (int64_t i = 0; i < n; i++) {
        float w = p[i] * s.keep, d = s.scale * g[i] + s.decay * w;
        m[i] += s.beta1_rest * (d - m[i]);
        v[i] = s.beta2 * v[i] + s.beta2_rest * d * d;
        p[i] = w - s.step * (m[i] / (sqrtf(v[i]) / s.root + s.eps));
    }
}

void CX_FN(update)(const cx_update *u, int64_t n, float *p, const float *g, float *m, float *v)
{
    const cx_scalars s = cx_update_prepare(u);
    const int64_t chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
        const int64_t at = k * CHUNK, len = n - at < CHUNK ? n - at : CHUNK;
        if (u->kind == CX_SGD)
            sgd(s, len, p + at, g + at, u->momentum == 0 ? NULL : m + at);
        else
            adam(s, len, p + at, g + at, m + at, v + at);
    }
}

static double part_sum(int64_t n, const float *x)
{
    double lane[LANES] = { 0 }, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++)
        lane[0] += (double)x[i] * (double)x[i];
    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

/* A fixed number of parts, so that nothing is allocated and the order of the sum depends on n alone. */
double CX_FN(sum_squares)(int64_t n, const float *x)
{
    double part[PARTS] = { 0 }, sum = 0;
    const int64_t step = ((n + PARTS - 1) / PARTS + LANES - 1) / LANES * LANES;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < PARTS; k++)
        if (k * step < n)
            part[k] = part_sum(n - k * step < step ? n - k * step : step, x + k * step);
    for (int k = 0; k < PARTS; k++)
        sum += part[k];
    return sum;
}
