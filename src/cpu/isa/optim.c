/* optim.c - the optimisers over a flat range and the sum of squares for clipping; element by element, so threads change no bit. Depends on kernels.h. */
#include <math.h>
#include "cpu/kernels.h"

enum { CHUNK = 16384, PARTS = 64, LANES = 16 };

/* Scalars of one update in float, prepared in double as PyTorch prepares them. */
typedef struct { float scale, decay, keep, lr, momentum, beta1_rest, beta2, beta2_rest, step, root, eps; } scalars;

static scalars prepare(const cx_update *u)
{
    scalars s = { .scale = (float)u->grad_scale, .decay = (float)u->weight_decay, .keep = 1, .lr = (float)u->lr, .momentum = (float)u->momentum };
    if (u->kind == CX_SGD)
        return s;
    if (u->kind == CX_ADAMW) {
        s.decay = 0;
        s.keep = (float)(1 - u->lr * u->weight_decay);
    }
    s.beta1_rest = (float)(1 - u->beta1);
    s.beta2 = (float)u->beta2;
    s.beta2_rest = (float)(1 - u->beta2);
    s.step = (float)(u->lr / (1 - pow(u->beta1, (double)u->t)));
    s.root = (float)sqrt(1 - pow(u->beta2, (double)u->t));
    s.eps = (float)u->eps;
    return s;
}

static void sgd(scalars s, int64_t n, float *restrict p, const float *restrict g, float *restrict m)
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
static void adam(scalars s, int64_t n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v)
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
    const scalars s = prepare(u);
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
