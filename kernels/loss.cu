/* loss.cu - bce_loss, ce_loss, dice_loss: float32 only, a few logits or the pixels of a mask.
 *
 * Bytes an entry: 8 forward (prediction, target), backward the same again for the sums and 12 for the gradient (ce: 4 C + 4 a row of C classes instead of 8).
 * FLOPs: dice 4, the others two exponentials or so, in double as the reference. One block walks everything, in an order that depends on shapes only: there is
 * no scratch through which blocks could add up, so the floor is what one multiprocessor loads, some tens of GB/s. */
#include "common.cuh"

/* LOSS threads, each of which asks for AHEAD entries before it uses the first. */
enum { LOSS = 512, AHEAD = 8 };

static __device__ __forceinline__ bool labelled(float target) { return !(target < 0); }
static inline cx_tensor weights_of(const cx_call *c) { return c->n_in > 2 && c->x[2].s.c > 0 ? c->x[2] : cx_tensor{}; }

/* The sum of v over the block, for every thread of it: within warps, then over warps in order. All threads call. */
static __device__ __forceinline__ double sum_block(double v)
{
    SHARED(double, part, LOSS / WARP);
    for (int d = 1; d < WARP; d *= 2)
        v += __shfl_xor_sync(FULL, v, d);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    double s = 0;
    for (int i = 0; i < LOSS / WARP; i++)
        s += part[i];
    __syncthreads();
    return s;
}

/* An entry, and the one LOSS further on. */
typedef struct { int64_t pixel, k; } k_entry;
static __device__ __forceinline__ k_entry first_entry(int64_t c) { return k_entry{ threadIdx.x / c, threadIdx.x % c }; }
static __device__ __forceinline__ k_entry step(k_entry e, k_entry by, int64_t c)
{
    const bool over = e.k + by.k >= c;
    return k_entry{ e.pixel + by.pixel + over, e.k + by.k - (over ? c : 0) };
}

/* f(entry, prediction, target) for each entry of this thread. */
template <class F> static __device__ __forceinline__ void each_entry(const cx_tensor &x, const cx_tensor &target, F f)
{
    const int64_t c = x.s.c, all = pixels(x.s);
    const k_entry by = { LOSS / c, LOSS % c };
    for (k_entry e = first_entry(c), asked = e; e.pixel < all;) {
        float v[AHEAD], t[AHEAD];
        for (int j = 0; j < AHEAD; j++, asked = step(asked, by, c)) {
            v[j] = asked.pixel < all ? x.p[asked.pixel * x.ld + asked.k] : 0;
            t[j] = asked.pixel < all ? target.p[asked.pixel * target.ld + asked.k] : 0;
        }
        for (int j = 0; j < AHEAD; j++, e = step(e, by, c))
            if (e.pixel < all)
                f(e, v[j], t[j]);
    }
}

/* The gradient of an entry; one that is not labelled has none, but is overwritten all the same. */
static __device__ __forceinline__ void give(const cx_tensor &dx, k_entry e, bool add, bool on, double v)
{
    if (on)
        put(dx, e.pixel, e.k, add, v);
    else if (!add)
        put(dx, e.pixel, e.k, false, 0);
}

/* ---- bce_loss --------------------------------------------------------------------------------------------------------- */

typedef struct { cx_tensor z, target, weights; float smoothing; } k_bce;
static inline k_bce bce_of(const cx_call *c) { return k_bce{ c->x[0], c->x[1], weights_of(c), ((const cx_bce_attr *)c->attr)->smoothing }; }

/* log(1 + e^z) without overflow. */
static __device__ __forceinline__ double softplus(double z) { return (z > 0 ? z : 0) + log1p(exp(-fabs(z))); }

/* The weights of the negative and the positive term: the smoothed target times the class weight. */
typedef struct { double neg, pos; } k_terms;
static __device__ __forceinline__ k_terms bce_terms(const k_bce &b, int64_t k, float target)
{
    const double s = (double)b.smoothing, t = (double)target * (1 - s) + s / 2;
    const bool weighted = b.weights.s.c > 0;
    return k_terms{ (1 - t) * (weighted ? (double)row(b.weights, 0, k) : 1), t * (weighted ? (double)row(b.weights, 1, k) : 1) };
}

__global__ void __launch_bounds__(LOSS) bce_fwd(k_bce b, cx_tensor y)
{
    double sum = 0, count = 0;
    each_entry(b.z, b.target, [&](k_entry e, float z, float t) {
        if (!labelled(t))
            return;
        const k_terms w = bce_terms(b, e.k, t);
        sum += w.pos * softplus(-(double)z) + w.neg * softplus((double)z);
        count++;
    });
    sum = sum_block(sum);
    count = sum_block(count);
    if (threadIdx.x == 0)
        y.p[0] = (float)(count > 0 ? sum / count : 0);
}

__global__ void __launch_bounds__(LOSS) bce_bwd(k_bce b, cx_tensor dy, cx_tensor dx, bool add)
{
    double count = 0;
    each_entry(b.target, b.target, [&](k_entry, float, float t) { count += labelled(t); });
    count = sum_block(count);
    const double scale = (double)dy.p[0] / count;          /* read only where there is a label */
    each_entry(b.z, b.target, [&](k_entry e, float z, float t) {
        const k_terms w = bce_terms(b, e.k, t);
        give(dx, e, add, labelled(t), scale * (w.neg / (1 + exp(-(double)z)) - w.pos / (1 + exp((double)z))));
    });
}

extern "C" cx_status cx_cuda_fwd_bce_loss(const cx_call *c)
{
    LAUNCH(bce_fwd, 1, LOSS, stream_of(c), bce_of(c), c->y[0]);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_bce_loss(const cx_call *c)
{
    if (c->dx[0].p)
        LAUNCH(bce_bwd, 1, LOSS, stream_of(c), bce_of(c), c->dy[0], c->dx[0], c->dx_add[0]);
    return launched();
}

/* ---- ce_loss: a thread has whole rows, which are short ------------------------------------------------------------------ */

typedef struct { cx_tensor z, target, weights; float smoothing; } k_ce;
static inline k_ce ce_of(const cx_call *c) { return k_ce{ c->x[0], c->x[1], weights_of(c), ((const cx_ce_attr *)c->attr)->smoothing }; }
#define EACH_ROW(i, n) for (int64_t i = threadIdx.x; i < (n); i += LOSS)

static __device__ __forceinline__ double class_weight(const k_ce &e, int64_t k) { return e.weights.s.c > 0 ? (double)e.weights.p[k] : 1; }

/* The weight of a labelled row. A launcher cannot refuse a class that is none, as the reference does: the loss and its gradient become NaN. */
static __device__ __forceinline__ double row_weight(const k_ce &e, float target)
{
    return target < (float)e.z.s.c && target == floorf(target) ? class_weight(e, (int64_t)target) : (double)NAN;
}

/* The sum over the labelled rows: nothing to divide by unless it is above 0 or NaN. All threads call. */
static __device__ __forceinline__ double total_weight(const k_ce &e)
{
    double sum = 0;
    EACH_ROW(i, pixels(e.z.s)) {
        const float t = e.target.p[i * e.target.ld];
        sum += labelled(t) ? row_weight(e, t) : 0;
    }
    return sum_block(sum);
}

/* The weight t_k w_k of -log p_k. */
static __device__ __forceinline__ double ce_term(const k_ce &e, float target, int64_t k)
{
    const double s = (double)e.smoothing;
    return class_weight(e, k) * (((float)k == target ? 1 - s : 0) + s / (double)e.z.s.c);
}

/* log of the sum of exponentials of a row. */
static __device__ __forceinline__ double log_sum_exp(const float *z, int64_t n)
{
    double largest = (double)z[0], sum = 0;
    for (int64_t k = 1; k < n; k++)
        largest = (double)z[k] > largest ? (double)z[k] : largest;
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)z[k] - largest);
    return largest + log(sum);
}

__global__ void __launch_bounds__(LOSS) ce_fwd(k_ce e, cx_tensor y)
{
    const double total = total_weight(e);
    double sum = 0;
    EACH_ROW(i, pixels(e.z.s)) {
        const float t = e.target.p[i * e.target.ld], *z = e.z.p + i * e.z.ld;
        if (!labelled(t))
            continue;
        const double lse = log_sum_exp(z, e.z.s.c);
        for (int64_t k = 0; k < e.z.s.c; k++)
            sum += ce_term(e, t, k) * (lse - (double)z[k]);
    }
    sum = sum_block(sum);
    if (threadIdx.x == 0)
        y.p[0] = (float)(total <= 0 ? 0 : sum / total);
}

__global__ void __launch_bounds__(LOSS) ce_bwd(k_ce e, cx_tensor dy, cx_tensor dx, bool add)
{
    const double total = total_weight(e), scale = (double)dy.p[0] / total;
    EACH_ROW(i, pixels(e.z.s)) {
        const float t = e.target.p[i * e.target.ld], *z = e.z.p + i * e.z.ld;
        const bool on = labelled(t) && !(total <= 0);
        const double lse = log_sum_exp(z, e.z.s.c);
        double terms = 0;
        for (int64_t k = 0; k < e.z.s.c; k++)
            terms += ce_term(e, t, k);
        for (int64_t k = 0; k < e.z.s.c; k++)
            give(dx, k_entry{ i, k }, add, on, scale * (terms * exp((double)z[k] - lse) - ce_term(e, t, k)));
    }
}

extern "C" cx_status cx_cuda_fwd_ce_loss(const cx_call *c)
{
    LAUNCH(ce_fwd, 1, LOSS, stream_of(c), ce_of(c), c->y[0]);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_ce_loss(const cx_call *c)
{
    if (c->dx[0].p)
        LAUNCH(ce_bwd, 1, LOSS, stream_of(c), ce_of(c), c->dy[0], c->dx[0], c->dx_add[0]);
    return launched();
}

/* ---- dice_loss: -(2 sum t p + smooth) / (sum t + sum p + smooth) -------------------------------------------------------- */

typedef struct { cx_tensor p, target; float smooth; } k_dice;
typedef struct { double above, below; } k_overlap;
static inline k_dice dice_of(const cx_call *c) { return k_dice{ c->x[0], c->x[1], ((const cx_dice_attr *)c->attr)->smooth }; }

/* Over the labelled entries of the batch; zeros where there is none. All threads call. */
static __device__ __forceinline__ k_overlap overlap_of(const k_dice &d)
{
    double overlap = 0, sum = 0, count = 0;
    each_entry(d.p, d.target, [&](k_entry, float p, float t) {
        if (!labelled(t))
            return;
        overlap = fma((double)t, (double)p, overlap);
        sum += (double)t + (double)p;
        count++;
    });
    overlap = sum_block(overlap);
    sum = sum_block(sum);
    count = sum_block(count);
    return count > 0 ? k_overlap{ 2 * overlap + (double)d.smooth, sum + (double)d.smooth } : k_overlap{ 0, 0 };
}

__global__ void __launch_bounds__(LOSS) dice_fwd(k_dice d, cx_tensor y)
{
    const k_overlap o = overlap_of(d);
    if (threadIdx.x == 0)
        y.p[0] = (float)(o.below != 0 ? -o.above / o.below : 0);
}

/* d/dp of -A/B with dA = 2 t, dB = 1: -(2 t B - A) / B^2. */
__global__ void __launch_bounds__(LOSS) dice_bwd(k_dice d, cx_tensor dy, cx_tensor dx, bool add)
{
    const k_overlap o = overlap_of(d);
    const double scale = (double)dy.p[0] / (o.below * o.below);
    each_entry(d.p, d.target, [&](k_entry e, float, float t) {
        give(dx, e, add, labelled(t) && o.below != 0, scale * (o.above - 2 * (double)t * o.below));
    });
}

extern "C" cx_status cx_cuda_fwd_dice_loss(const cx_call *c)
{
    LAUNCH(dice_fwd, 1, LOSS, stream_of(c), dice_of(c), c->y[0]);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_dice_loss(const cx_call *c)
{
    if (c->dx[0].p)
        LAUNCH(dice_bwd, 1, LOSS, stream_of(c), dice_of(c), c->dy[0], c->dx[0], c->dx_add[0]);
    return launched();
}
