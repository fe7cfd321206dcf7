/* loss.cu - bce_loss, ce_loss, dice_loss: float32 only, a few logits or the pixels of a mask.
 *
 * Floor: bytes. Of an entry: 8 forward (prediction, target), backward the same again for the sums and 12 for the gradient (ce: 4 C + 4 a row of C classes
 * instead of 8). FLOPs: dice 4, the others two exponentials or so, in double as the reference. Each pass is two launches: blocks leave sums in scratch, then
 * one block makes the loss of them, or all blocks of the gradient add them up, each for itself. A batch of logits (256 x 14) is four blocks, a mask 64. */
#include "sums.cuh"
#include "workspace.h"

/* AHEAD: entries that a thread asks for before it uses the first. ENOUGH: blocks that fill 132 multiprocessors. */
enum { AHEAD = 4, ENOUGH = 528 };

/* Of n entries or rows, each thread takes some, all threads of all blocks apart. From n only. */
static inline unsigned loss_blocks(int64_t n)
{
    const int64_t b = parts_of(n, AHEAD * THREADS);
    return (unsigned)(b < ENOUGH ? b : (int64_t)ENOUGH);
}
static __device__ __forceinline__ int64_t first_of_all(void) { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }
static __device__ __forceinline__ int64_t threads_of_all(void) { return (int64_t)gridDim.x * THREADS; }

static __device__ __forceinline__ bool labelled(float target) { return !(target < 0); }
static inline cx_tensor weights_of(const cx_call *c) { return c->n_in > 2 && c->x[2].s.c > 0 ? c->x[2] : cx_tensor{}; }

/* ---- sums of a loss: R numbers --------------------------------------------------------------------------------------------- */

enum { MOST = 3 };                              /* sums of any loss */

template <int R> static __device__ __forceinline__ void leave(double *sum, double *part)
{
    sum_every<THREADS, R>(sum);
    for (int r = 0; r < R && threadIdx.x == 0; r++)
        part[(int64_t)blockIdx.x * R + r] = sum[r];
}
/* sum <- what `blocks` blocks left, for each thread; all threads of the block call. */
template <int R> static __device__ __forceinline__ void gather(const double *part, unsigned blocks, double *sum)
{
    for (int r = 0; r < R; r++)
        sum[r] = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += THREADS)
        for (int r = 0; r < R; r++)
            sum[r] += part[(int64_t)i * R + r];
    sum_every<THREADS, R>(sum);
}

/* L says what a loss is: N sums; add(sum, terms), what this thread has of them, if need be without those that only the value needs; value(sum);
 * put_all(sum, dy, dx, plus), the gradient of what this thread has. */
template <class L> __global__ void __launch_bounds__(THREADS) loss_sums(L l, bool terms, double *part)
{
    double sum[L::N];
    for (int r = 0; r < L::N; r++)
        sum[r] = 0;
    l.add(sum, terms);
    leave<L::N>(sum, part);
}
template <class L> __global__ void __launch_bounds__(THREADS) loss_value(L l, const double *part, unsigned blocks, cx_tensor y)
{
    double sum[L::N];
    gather<L::N>(part, blocks, sum);
    if (threadIdx.x == 0)
        y.p[0] = (float)l.value(sum);
}
template <class L> __global__ void __launch_bounds__(THREADS) loss_gradient(L l, const double *part, unsigned blocks, cx_tensor dy, cx_tensor dx, bool add)
{
    double sum[L::N];
    gather<L::N>(part, blocks, sum);
    l.put_all(sum, (double)dy.p[0], dx, add);
}

template <class L> static cx_status loss_fwd(const cx_call *c, L l, int64_t n)
{
    const unsigned blocks = loss_blocks(n);
    LAUNCH(loss_sums<L>, blocks, THREADS, stream_of(c), l, true, (double *)c->work);
    LAUNCH(loss_value<L>, 1, THREADS, stream_of(c), l, (const double *)c->work, blocks, c->y[0]);
    return launched();
}
template <class L> static cx_status loss_bwd(const cx_call *c, L l, int64_t n)
{
    const unsigned blocks = loss_blocks(n);
    if (!c->dx[0].p)
        return CX_OK;
    LAUNCH(loss_sums<L>, blocks, THREADS, stream_of(c), l, false, (double *)c->work);
    LAUNCH(loss_gradient<L>, blocks, THREADS, stream_of(c), l, (const double *)c->work, blocks, c->dy[0], c->dx[0], c->dx_add[0]);
    return launched();
}

extern "C" size_t cx_cuda_workspace_loss(const cx_call *c, bool) { return loss_blocks(cx_elems(c->x[0].s)) * MOST * sizeof(double); }

/* ---- entries ------------------------------------------------------------------------------------------------------------- */

typedef struct { int64_t pixel, k; } k_entry;
static __device__ __forceinline__ k_entry entry_at(int64_t i, int64_t c) { return k_entry{ i / c, i % c }; }
/* The entry `by` further on. */
static __device__ __forceinline__ k_entry step(k_entry e, k_entry by, int64_t c)
{
    const bool over = e.k + by.k >= c;
    return k_entry{ e.pixel + by.pixel + over, e.k + by.k - (over ? c : 0) };
}

/* f(entry, prediction, target) for each entry of this thread. */
template <class F> static __device__ __forceinline__ void each_entry(const cx_tensor &x, const cx_tensor &target, F f)
{
    const int64_t c = x.s.c, all = pixels(x.s);
    const k_entry by = entry_at(threads_of_all(), c);
    for (k_entry e = entry_at(first_of_all(), c), asked = e; e.pixel < all;) {
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

/* ---- bce_loss: sums of the weighted terms and of the labels ----------------------------------------------------------------- */

/* log(1 + e^z) without overflow. */
static __device__ __forceinline__ double softplus(double z) { return (z > 0 ? z : 0) + log1p(exp(-fabs(z))); }

struct k_bce {
    enum { N = 2 };
    cx_tensor z, target, weights;
    float smoothing;
    /* The weights of the negative and the positive term: the smoothed target times the class weight. */
    __device__ __forceinline__ double neg(int64_t k, float t) const { return (1 - smoothed(t)) * (weights.s.c > 0 ? (double)row(weights, 0, k) : 1); }
    __device__ __forceinline__ double pos(int64_t k, float t) const { return smoothed(t) * (weights.s.c > 0 ? (double)row(weights, 1, k) : 1); }
    __device__ __forceinline__ double smoothed(float t) const { return (double)t * (1 - (double)smoothing) + (double)smoothing / 2; }

    __device__ __forceinline__ void add(double *sum, bool terms) const
    {
        each_entry(z, target, [&](k_entry e, float x, float t) {
            if (!labelled(t))
                return;
            if (terms)
                sum[0] += pos(e.k, t) * softplus(-(double)x) + neg(e.k, t) * softplus((double)x);
            sum[1]++;
        });
    }
    __device__ __forceinline__ double value(const double *sum) const { return sum[1] > 0 ? sum[0] / sum[1] : 0; }
    __device__ __forceinline__ void put_all(const double *sum, double dy, const cx_tensor &dx, bool plus) const
    {
        const double scale = dy / sum[1];       /* read only where there is a label */
        each_entry(z, target, [&](k_entry e, float x, float t) {
            give(dx, e, plus, labelled(t), scale * (neg(e.k, t) / (1 + exp(-(double)x)) - pos(e.k, t) / (1 + exp((double)x))));
        });
    }
};
static inline k_bce bce_of(const cx_call *c) { return k_bce{ c->x[0], c->x[1], weights_of(c), ((const cx_bce_attr *)c->attr)->smoothing }; }

extern "C" cx_status cx_cuda_fwd_bce_loss(const cx_call *c) { return loss_fwd(c, bce_of(c), cx_elems(c->x[0].s)); }
extern "C" cx_status cx_cuda_bwd_bce_loss(const cx_call *c) { return loss_bwd(c, bce_of(c), cx_elems(c->x[0].s)); }

/* ---- ce_loss: sums of the weighted terms and of the weights; a thread has whole rows, which are short ------------------------ */

#define EACH_ROW(i, n) for (int64_t i = first_of_all(); i < (n); i += threads_of_all())

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

struct k_ce {
    enum { N = 2 };
    cx_tensor z, target, weights;
    float smoothing;
    __device__ __forceinline__ double class_weight(int64_t k) const { return weights.s.c > 0 ? (double)weights.p[k] : 1; }
    /* The weight of a labelled row. A launcher cannot refuse a class that is none, as the reference does: the loss and its gradient become NaN. */
    __device__ __forceinline__ double row_weight(float t) const { return t < (float)z.s.c && t == floorf(t) ? class_weight((int64_t)t) : (double)NAN; }
    /* The weight t_k w_k of -log p_k. */
    __device__ __forceinline__ double term(float t, int64_t k) const
    {
        const double s = (double)smoothing;
        return class_weight(k) * (((float)k == t ? 1 - s : 0) + s / (double)z.s.c);
    }

    __device__ __forceinline__ void add(double *sum, bool terms) const
    {
        EACH_ROW(i, pixels(z.s)) {
            const float t = target.p[i * target.ld], *x = z.p + i * z.ld;
            if (!labelled(t))
                continue;
            const double lse = terms ? log_sum_exp(x, z.s.c) : 0;
            for (int64_t k = 0; terms && k < z.s.c; k++)
                sum[0] += term(t, k) * (lse - (double)x[k]);
            sum[1] += row_weight(t);
        }
    }
    /* Nothing to divide by unless the sum of weights is above 0 or NaN. */
    __device__ __forceinline__ double value(const double *sum) const { return sum[1] <= 0 ? 0 : sum[0] / sum[1]; }
    __device__ __forceinline__ void put_all(const double *sum, double dy, const cx_tensor &dx, bool plus) const
    {
        const double scale = dy / sum[1];
        EACH_ROW(i, pixels(z.s)) {
            const float t = target.p[i * target.ld], *x = z.p + i * z.ld;
            const bool on = labelled(t) && !(sum[1] <= 0);
            const double lse = log_sum_exp(x, z.s.c);
            double terms = 0;
            for (int64_t k = 0; k < z.s.c; k++)
                terms += term(t, k);
            for (int64_t k = 0; k < z.s.c; k++)
                give(dx, k_entry{ i, k }, plus, on, scale * (terms * exp((double)x[k] - lse) - term(t, k)));
        }
    }
};
static inline k_ce ce_of(const cx_call *c) { return k_ce{ c->x[0], c->x[1], weights_of(c), ((const cx_ce_attr *)c->attr)->smoothing }; }

extern "C" cx_status cx_cuda_fwd_ce_loss(const cx_call *c) { return loss_fwd(c, ce_of(c), cx_pixels(c->x[0].s)); }
extern "C" cx_status cx_cuda_bwd_ce_loss(const cx_call *c) { return loss_bwd(c, ce_of(c), cx_pixels(c->x[0].s)); }

/* ---- dice_loss: -(2 sum t p + smooth) / (sum t + sum p + smooth) over the labelled entries of the batch ---------------------- */

struct k_dice {
    enum { N = 3 };
    cx_tensor p, target;
    float smooth;

    __device__ __forceinline__ void add(double *sum, bool) const
    {
        each_entry(p, target, [&](k_entry, float v, float t) {
            if (!labelled(t))
                return;
            sum[0] = fma((double)t, (double)v, sum[0]);
            sum[1] += (double)t + (double)v;
            sum[2]++;
        });
    }
    /* A and B of -A / B; zeros where nothing is labelled. */
    __device__ __forceinline__ double above(const double *sum) const { return sum[2] > 0 ? 2 * sum[0] + (double)smooth : 0; }
    __device__ __forceinline__ double below(const double *sum) const { return sum[2] > 0 ? sum[1] + (double)smooth : 0; }
    __device__ __forceinline__ double value(const double *sum) const { return below(sum) != 0 ? -above(sum) / below(sum) : 0; }
    /* d/dp of -A/B with dA = 2 t, dB = 1: -(2 t B - A) / B^2. */
    __device__ __forceinline__ void put_all(const double *sum, double dy, const cx_tensor &dx, bool plus) const
    {
        const double a = above(sum), b = below(sum), scale = dy / (b * b);
        each_entry(target, target, [&](k_entry e, float, float t) {
            give(dx, e, plus, labelled(t) && b != 0, scale * (a - 2 * (double)t * b));
        });
    }
};
static inline k_dice dice_of(const cx_call *c) { return k_dice{ c->x[0], c->x[1], ((const cx_dice_attr *)c->attr)->smooth }; }

extern "C" cx_status cx_cuda_fwd_dice_loss(const cx_call *c) { return loss_fwd(c, dice_of(c), cx_elems(c->x[0].s)); }
extern "C" cx_status cx_cuda_bwd_dice_loss(const cx_call *c) { return loss_bwd(c, dice_of(c), cx_elems(c->x[0].s)); }
