/* op.h - what an operator is, and the one contract that a reference, a CPU kernel and a CUDA kernel all fill.
 *
 * The list of operators is include/cxnet/ops.def, and only there: one row gives the id, the table entry and the test obligation.
 * Everything is a 4-d tensor, NHWC: a vector of C channels is (1,1,1,C), a batch of F features is (N,1,1,F). */
#ifndef CXNET_OP_H
#define CXNET_OP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "cxnet/status.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { CX_MAX_IN = 8, CX_MAX_OUT = 3, CX_ATTR_BYTES = 64 };

typedef struct { int64_t n, h, w, c; } cx_shape;
static inline int64_t cx_pixels(cx_shape s) { return s.n * s.h * s.w; }
static inline int64_t cx_elems(cx_shape s) { return s.n * s.h * s.w * s.c; }
static inline bool cx_shape_eq(cx_shape a, cx_shape b) { return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c; }

/* Numbers as they lie in memory or in a file. In a call, and in a plan, only CX_F32 and CX_BF16 occur. Whatever is computed is computed in float32 at least;
 * but where x[0] is CX_BF16, an implementation may round the operands of its products too (cx_impl.dot).
 * bfloat16 is the upper half of a float32, rounded to nearest, ties to even; NaN stays NaN. */
typedef enum { CX_F32, CX_F64, CX_F16, CX_BF16, CX_I64, CX_I32, CX_U8, CX_BOOL } cx_dtype;
static inline size_t cx_dtype_bytes(cx_dtype t)
{
    return t == CX_F64 || t == CX_I64 ? 8 : t == CX_F32 || t == CX_I32 ? 4 : t == CX_F16 || t == CX_BF16 ? 2 : 1;
}
/* On the device of the plan. Element (n,y,x,c) is p[((n*s.h + y)*s.w + x)*ld + c]. ld >= s.c is the distance of two pixels:
 * a channel slice of a wider buffer (what a concat gives) is a tensor whose ld is the width of that buffer. Weights and vectors have ld = s.c.
 * Where type is CX_BF16, p is only a place: the numbers are cx_half(t). A plan in bf16 stores some activations so (src/graph/precision.c); they then appear as
 * x[i], y[0] of a call. Everything else, gradients too, is float32. */
typedef struct { cx_shape s; int64_t ld; float *p; cx_dtype type; } cx_tensor;
static inline uint16_t *cx_half(const cx_tensor *t) { return (uint16_t *)(void *)t->p; }
static inline float cx_from_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline uint16_t cx_to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)(x != x ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- attributes: plain data, no pointers, at most CX_ATTR_BYTES ----------------------------------------------------- */

typedef struct { char none; } cx_no_attr;
/* conv2d: x (N,H,W,I), weight (O,KH,KW,I), bias (1,1,1,O) optional. Padding in pixels of zeros, explicit on each side. Out = floor((H + top + bottom
 * - KH) / stride) + 1. */
typedef struct { int stride, pad_top, pad_bottom, pad_left, pad_right; } cx_conv_attr;
/* conv_transpose2d: x (N,H,W,I), weight (I,KH,KW,O) [the layout of the convolution it transposes], bias optional. Out = (H-1)*stride + KH - 2*pad. */
typedef struct { int stride, pad; } cx_convt_attr;
/* max_pool pads with -inf, avg_pool with zeros; count_pad: the divisor counts the padded zeros (PyTorch's default) or only real pixels. */
typedef struct { int kernel, stride, pad; bool count_pad; } cx_pool_attr;
/* batch_norm: x, gamma, beta, mean, var (running, both updated in a training forward). outputs y, batch mean, batch 1/sqrt(var+eps).
 * running = (1 - momentum) * running + momentum * batch (PyTorch's meaning), variance unbiased there when `unbiased`.
 * frozen: running statistics are used, and stay, also in training. Where they are used, y[1] and y[2] are the running mean and 1/sqrt(running var + eps). */
typedef struct { float eps, momentum; bool frozen, unbiased; } cx_norm_attr;
typedef struct { float slope; } cx_leaky_attr;
typedef struct { float rate; } cx_dropout_attr;              /* kept values are scaled by 1/(1-rate); identity in eval */
typedef struct { int out_h, out_w; bool align_corners; } cx_upsample_attr;
typedef struct { float smoothing; } cx_bce_attr;             /* target t becomes t (1 - smoothing) + smoothing / 2 (Keras) */
typedef struct { float smoothing; } cx_ce_attr;              /* target becomes onehot (1 - smoothing) + smoothing / classes (PyTorch) */
typedef struct { float smooth; } cx_dice_attr;               /* added above and below; 1 in the Kaggle U-Net */

/* ---- calls --------------------------------------------------------------------------------------------------------- */

/* What a plan folds into a step: the normal form of convolutional networks, y = conv(relu(norm(x))), without a norm, a ReLU or a statistic that walks over
 * memory by itself. Every member is a few vectors per channel, (1,1,rows,C): row r of channel k is p[r*ld + k]; absent when s.c == 0. With all of them present
 * a step computes
 *
 *   forward    u   = x[0] * scale + shift, then max(0, u) if pre_relu                          (pre: rows scale, shift, mean, r)
 *              y   = op(u), + bias, then y * post.scale + post.shift, then max(0, y) if relu   (post: rows as pre, of which two are read; never in a plan
 *                                                                                               with a backward pass)
 *              y   = the largest of each window of y, as max_pool has it, if pool              (the same; never with stats)
 *              stats <- mean and variance (divided by the count) of each channel of the finished y[0], before it is rounded to bf16, if it is; a redo call
 *                       leaves them alone
 *   backward   dy' = dy + carry[0] * y[0] + carry[1], then the mask of `relu`
 *              g   = the gradient of u (before its ReLU): op's data gradient of dy', zero where pre_relu and u <= 0
 *              dx[0] (+)= scale * g                                                            (+ by dx_add[0])
 *              sums <- sum of g, sum of g * (x[0] - mean), for each channel of x[0]
 *
 * u is fmaf(x, scale, shift) in float32, rounded once: where there is a fused multiply-add, all agree on every mask and every largest value. A padded pixel of
 * conv2d and avg_pool is zero after pre, not before it; in max_pool it never wins, and values compete behind pre and its ReLU. pre_relu and sums come with pre
 * only; a backward step that has pre reads x[0].
 *
 * The parts of a batch normalisation that remain are vectors, and its own step, in folded form, does them (op batch_norm with pre present; x[0], y, dy, dx[0]
 * carry shapes only):
 *
 *   forward    r = 1/sqrt(var + eps), scale = gamma r, shift = beta - mean scale, from stats (of x[0]; batch statistics, running ones updated) or, with stats
 *              absent, from the running ones -> pre, all four rows. A redo call has nothing to do: pre is still there. `parts` counts in the unbiased variance
 *   backward   reads pre and sums: dbeta = sums[0], dgamma = sums[1] r, and, with M pixels, b = -scale r^2 sums[1] / M, c = -scale sums[0] / M - b mean:
 *              carry[0] += b, carry[1] += c   (of x[0]; absent where running statistics were used; overwritten unless carry_add)
 *
 * So dx of a norm is scale*g + b*x + c: the convolution adds scale*g at once, b and c of all readers of a channel add up in carry, and who reads that gradient
 * last applies them in passing. What folds where: flags CX_CAN_PRE, _POST, _STATS, _CARRY, _POOL of the operator. */
typedef struct {
    cx_tensor pre, post;         /* (1,1,4,C of x[0]), (1,1,4,C of y[0]) */
    cx_tensor stats;             /* (1,1,2,C of y[0]); batch_norm: of x[0] */
    cx_tensor sums;              /* (1,1,2,C of x[0]): always overwritten; wanted if present, also where dx[0] is not */
    cx_tensor carry;             /* (1,1,2,C of y[0]); batch_norm: of x[0]. A backward step that has it reads y[0] */
    cx_pool_attr pool;           /* of the finished map: y[0] is then the pooled one, of which infer knows nothing. kernel == 0: none. Only for implementations
                                    with cx_impl.pool */
    bool pre_relu, carry_add;
    int parts;                   /* batch_norm: stats are those of `parts` times as many pixels as x[0] has (cx_plan_opts.sync_norm); 0 stands for 1 */
} cx_fold;
enum { CX_FOLD_SCALE, CX_FOLD_SHIFT, CX_FOLD_MEAN, CX_FOLD_R, CX_FOLD_ROWS };       /* rows of pre and post */
static inline int cx_fold_parts(const cx_fold *f) { return f->parts > 1 ? f->parts : 1; }
static inline float *cx_row(const cx_tensor *t, int row) { return t->s.c ? t->p + row * t->ld : NULL; }

/* One call of one step: an operator, the anchor, and what the plan folded into it. Plain values, valid during the call; the plan prepares them once
 * and runs them every step. */
typedef struct {
    const void *attr;            /* the struct named in ops.def */
    int n_in, n_out;
    bool training;               /* batch statistics, dropout active */
    bool relu;                   /* a ReLU that followed is folded in: y[0] = max(0, op(x)). Only for operators with CX_CAN_RELU */
    bool redo;                   /* forward again during the backward pass: rebuild y[0] from x and the saved y[1..]; change no state */
    uint64_t seed, stream, step; /* randomness: Philox(seed, stream, step * 2^32 + element / 4), word element % 4; stream is the node's own */
    int64_t first;               /* element number of the call's element 0: not 0 where other ranks have the films before (cx_plan_opts.comm) */
    cx_tensor x[CX_MAX_IN];      /* inputs, parameters among them; an optional input that is absent has p == NULL and s.c == 0 */
    cx_tensor y[CX_MAX_OUT];     /* outputs; y[1..] are what forward saves for backward */
    cx_tensor dy[CX_MAX_OUT];    /* backward: gradient of y[0] (others have none) */
    cx_tensor dx[CX_MAX_IN];     /* backward: p == NULL = not wanted */
    bool dx_add[CX_MAX_IN];      /* add to dx; otherwise overwrite it. dx[j] may be the same memory as dx[i], i < j (add(x, x)); then it adds: finish
                                    dx[i] first */
    cx_fold fold;                /* all absent (s.c == 0) in a plain call */
    void *packed;                /* weights as the implementation's pack() laid them out, still true; NULL = pack for yourself, in work */
    void *work;                  /* scratch, 64-byte aligned, as large as the implementation's workspace() asked; contents undefined */
    size_t work_bytes;
    void *self;                  /* the backend's own handle (cx_backend.self): streams, library handles. NULL in a test without a backend */
} cx_call;

typedef cx_status (*cx_run_fn)(const cx_call *c);

/* The map that a conv2d makes: y[0].s, or, with fold.pool, what is pooled into it. */
static inline cx_shape cx_conv_map(const cx_call *c)
{
    const cx_conv_attr *a = (const cx_conv_attr *)c->attr;
    const cx_shape x = c->x[0].s, w = c->x[1].s;
    const cx_shape y = { x.n, (x.h + a->pad_top + a->pad_bottom - w.h) / a->stride + 1, (x.w + a->pad_left + a->pad_right - w.w) / a->stride + 1, w.n };
    return y;
}
/* Max-pooled. */
static inline cx_shape cx_pooled(cx_shape x, const cx_pool_attr *a)
{
    const cx_shape y = { x.n, (x.h + 2 * a->pad - a->kernel) / a->stride + 1, (x.w + 2 * a->pad - a->kernel) / a->stride + 1, x.c };
    return y;
}

enum {                           /* flags of a row */
    CX_CAN_RELU    = 1,           /* a following ReLU may be folded in (cx_call.relu); then backward also reads y[0] for the mask, except
                                     batch_norm, which computes the mask again from x[0] and y[1..] */
    CX_BWD_X   = 2,           /* backward reads x[0] (for other inputs: parameters are always there; activations x[i>0] count as x[0]) */
    CX_BWD_Y   = 4,           /* backward reads y[0] (y[1..] are always kept) */
    CX_CHEAP   = 8,           /* y[0] may be dropped after the forward pass and rebuilt by a redo call */
    CX_VIEW    = 16,          /* moves no numbers when the plan can alias its operands (concat, flatten) */
    CX_RANDOM  = 32,          /* draws from Philox */
    CX_LOSS    = 64,          /* y[0] is a scalar (1,1,1,1) that a backward pass can start from with gradient 1 */
    CX_CAN_PRE   = 128,       /* a norm (and its ReLU) in front of x[0] may be folded in: cx_fold.pre, sums */
    CX_CAN_POST  = 256,       /* a norm behind y[0], whose vectors are known before the step, may be folded in: cx_fold.post */
    CX_CAN_STATS = 512,       /* the step can deliver the statistics of y[0] */
    CX_CAN_CARRY = 1024,      /* the backward step can apply a carry to dy */
    CX_FLOAT32   = 2048,      /* reads float32 only: a loss, and what leads to one */
    CX_CAN_POOL  = 4096       /* a max_pool behind y[0] may be folded in: cx_fold.pool */
};

typedef struct {
    const char *name;
    int in_min, in_max, n_out;
    size_t attr_size;
    unsigned flags;
    /* Checks attr and the shapes x[i].s, writes y[j].s. On failure err says what was wanted and what was found ("conv2d: weight has 64
     * input channels, x has 32"). Reads no data. */
    cx_status (*infer)(cx_call *c, cx_error *err);
    cx_run_fn ref_fwd, ref_bwd;  /* the definition: plain loops, double sums, any ld, no workspace. Obey relu, redo, training, dx, dx_add, fold */
    int64_t (*flops)(const cx_call *c);   /* of the forward pass, a multiply-add counted as 2; NULL = one per element of y[0] */
    double rtol, atol;           /* what an implementation may differ by from the reference: |a-b| <= atol*max|ref| + rtol*|b| */
} cx_op;

typedef enum {
#define OP(ID, name, lo, hi, out, attr, flags, rtol, atol) CX_OP_##ID,
#include "cxnet/ops.def"
#undef OP
    CX_OP_COUNT
} cx_op_id;

extern const cx_op cx_ops[CX_OP_COUNT];

/* The two steps that a plan adds where nobody can take a fold along, references. Forward: fold.stats <- mean and variance of x[0]. Backward:
 * dx[0] += carry[0] * x[0] + carry[1]. They read no other member of fold. Of a bf16 value, these statistics are those of the
 * rounded numbers, which lie in memory; a step that folds them takes them before. */
cx_status cx_ref_fwd_statistics(const cx_call *c);
cx_status cx_ref_bwd_statistics(const cx_call *c);
/* y[0] = x[0], of equal shapes and any types: what a plan puts around a step whose implementation does not take bf16. The only reference that reads bf16. */
cx_status cx_ref_fwd_convert(const cx_call *c);

#ifdef __cplusplus
}
#endif
#endif
