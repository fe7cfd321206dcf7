/* optim.cu - optimisers over a flat range, one launch each: SGD 12 bytes a parameter (20 with momentum), 5 FLOPs (7); Adam and AdamW 28 bytes, 17 FLOPs. The
 * sum of squares for clipping: 4 bytes and 2 FLOPs in double a number. All are bound by their bytes; what follows from the sum is one thread's work. */
#include "quads.cuh"
#include "sums.cuh"

static inline cx_tensor range_of(const float *p, int64_t n) { return cx_tensor{ { 1, 1, 1, n }, n, (float *)p, CX_F32 }; }

/* ---- optimisers ------------------------------------------------------------------------------------------------------- */

/* Where an update has its scalars from: `given` with the launch or, if not NULL, `from` device memory; and from what cx_cuda_clip left, if not NULL. */
typedef struct { cx_scalars given; const cx_scalars *from; const cx_cuda_step *step; } k_rule;

/* False where the update must leave everything as it is. */
static __device__ __forceinline__ bool take(const k_rule &r, cx_scalars *s)
{
    if (r.step && r.step->fault != CX_CUDA_SOUND)
        return false;
    *s = r.from ? *r.from : r.given;
    if (r.step)
        s->scale = r.step->scale;
    return true;
}

/* m is absent without momentum. */
__global__ void __launch_bounds__(THREADS) sgd(k_rule rule, k_quads q, cx_tensor m, cx_tensor grad, cx_tensor param)
{
    k_place at;
    cx_scalars s;
    float p[4], g[4], mean[4];
    if (!find_quad(q, &at) || !take(rule, &s))
        return;
    load_quad(param, at, p);
    load_quad(grad, at, g);
    for (int j = 0; j < 4; j++)
        g[j] = s.scale * g[j] + s.decay * p[j];
    if (m.p) {
        load_quad(m, at, mean);
        for (int j = 0; j < 4; j++)
            g[j] = s.momentum * mean[j] + g[j];
        store_quad(m, at, g);
    }
    for (int j = 0; j < 4; j++)
        p[j] -= s.lr * g[j];
    store_quad(param, at, p);
}

/* Kingma & Ba 2015, algorithm 1, with eps outside the corrected root; `keep` carries the decoupled decay of Loshchilov & Hutter 2019. */
__global__ void __launch_bounds__(THREADS) adam(k_rule rule, k_quads q, cx_tensor m, cx_tensor v, cx_tensor grad, cx_tensor param)
{
    k_place at;
    cx_scalars s;
    float p[4], g[4], mean[4], var[4];
    if (!find_quad(q, &at) || !take(rule, &s))
        return;
    load_quad(param, at, p);
    load_quad(grad, at, g);
    load_quad(m, at, mean);
    load_quad(v, at, var);
    for (int j = 0; j < 4; j++) {
        const float w = p[j] * s.keep, d = s.scale * g[j] + s.decay * w;
        mean[j] += s.beta1_rest * (d - mean[j]);
        var[j] = s.beta2 * var[j] + s.beta2_rest * d * d;
        p[j] = w - s.step * (mean[j] / (sqrtf(var[j]) / s.root + s.eps));
    }
    store_quad(m, at, mean);
    store_quad(v, at, var);
    store_quad(param, at, p);
}

static cx_status update(void *stream, bool is_sgd, const k_rule &rule, int64_t n, float *param, const float *grad, float *m, float *v)
{
    cx_tensor tm = range_of(m, n), tv = range_of(is_sgd ? nullptr : v, n), tg = range_of(grad, n), tp = range_of(param, n);
    cx_tensor *const all[] = { &tm, &tv, &tg, &tp };
    if (n == 0)
        return CX_OK;
    const k_quads q = cut(all, 4);
    if (is_sgd)
        LAUNCH(sgd, quad_blocks(q), THREADS, stream, rule, q, tm, tg, tp);
    else
        LAUNCH(adam, quad_blocks(q), THREADS, stream, rule, q, tm, tv, tg, tp);
    return launched();
}

extern "C" cx_status cx_cuda_update(void *stream, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v)
{
    const bool is_sgd = u->kind == CX_SGD;
    return update(stream, is_sgd, k_rule{ cx_update_prepare(u), nullptr, nullptr }, n, param, grad, is_sgd && u->momentum == 0 ? nullptr : m, v);
}

extern "C" cx_status cx_cuda_update_from(void *stream, cx_optim_kind kind, const cx_scalars *s, const cx_cuda_step *step, int64_t n, float *param,
                                         const float *grad, float *m, float *v)
{
    return update(stream, kind == CX_SGD, k_rule{ cx_scalars{}, s, step }, n, param, grad, m, v);
}

/* ---- sum of squares ---------------------------------------------------------------------------------------------------- */

/* A block sums one chunk of QUADS quads a thread into a double; then one block sums the chunks. The order of both depends on n alone. In double the square of
 * no float overflows, so the sum is finite where every x is, and only there. */
enum { QUADS = 8, CHUNK = THREADS * QUADS * 4 };

__global__ void __launch_bounds__(THREADS) square_chunks(k_quads q, cx_tensor x, double *scratch)
{
    double lane[4] = { 0, 0, 0, 0 };
    for (int i = 0; i < QUADS; i++) {
        k_place at = { 0, (int64_t)blockIdx.x * CHUNK + (i * THREADS + (int)threadIdx.x) * 4, 0, false };
        float v[4];
        at.n = (int)max(min(q.c - at.k, (int64_t)4), (int64_t)0);
        at.wide = q.wide && at.n == 4;
        load_quad(x, at, v);
        for (int j = 0; j < 4; j++)
            lane[j] += (double)v[j] * (double)v[j];
    }
    const double sum = sum_every<THREADS>(lane[0] + lane[1] + (lane[2] + lane[3]));
    if (threadIdx.x == 0)
        scratch[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) add_chunks(const double *scratch, int64_t chunks, double *out)
{
    double v = 0;
    for (int64_t i = threadIdx.x; i < chunks; i += THREADS)
        v += scratch[i];
    const double sum = sum_every<THREADS>(v);
    if (threadIdx.x == 0)
        *out = sum;
}

extern "C" int64_t cx_cuda_sum_doubles(int64_t n) { return (n + CHUNK - 1) / CHUNK; }

extern "C" cx_status cx_cuda_sum_squares(void *stream, int64_t n, const float *x, double *scratch, double *out)
{
    const int64_t chunks = cx_cuda_sum_doubles(n);
    cx_tensor t = range_of(x, n);
    cx_tensor *const all[] = { &t };
    const k_quads q = cut(all, 1);
    if (chunks > 0)
        LAUNCH(square_chunks, (unsigned)chunks, THREADS, stream, q, t, scratch);
    LAUNCH(add_chunks, 1, THREADS, stream, scratch, chunks, out);
    return launched();
}

/* ---- clipping ----------------------------------------------------------------------------------------------------------- */

/* The host's rule (src/graph/stepper.c): root and quotient in double, both correctly rounded, and one rounding to float. */
__global__ void __launch_bounds__(1) clip_step(const double *squares, double clip, const float *loss, cx_cuda_step *step)
{
    if (step->fault != CX_CUDA_SOUND)
        return;
    const double norm = sqrt(*squares);
    step->norm = norm;
    step->loss = loss ? *loss : 0;
    step->scale = (float)(clip > 0 && norm > clip ? clip / norm : 1);
    step->fault = !isfinite(step->loss) ? CX_CUDA_LOSS : !isfinite(norm) ? CX_CUDA_NORM : CX_CUDA_SOUND;
}

extern "C" cx_status cx_cuda_clip(void *stream, const double *squares, double clip, const float *loss, cx_cuda_step *step)
{
    LAUNCH(clip_step, 1, 1, stream, squares, clip, loss, step);
    return launched();
}
