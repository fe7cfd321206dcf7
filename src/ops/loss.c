/* loss.c - reference losses: binary cross-entropy and softmax cross-entropy on logits, Dice on probabilities.
 *
 * A target below 0 is an unlabelled entry: it adds nothing, and a batch of nothing but such entries has loss 0 and gradient 0. */
#include <math.h>
#include "cxnet/op.h"
#include "ref.h"

static bool labelled(float target) { return !(target < 0); }
static double loss_dy(const cx_call *c) { return (double)c->dy[0].p[0]; }

static cx_status check_smoothing(const char *name, float smoothing, cx_error *err)
{
    if (smoothing >= 0 && smoothing < 1)
        return CX_OK;
    return cx_fail(err, CX_E_CONFIG, "%s: smoothing must be 0 or more and below 1, is %g", name, (double)smoothing);
}

static cx_status check_same(const cx_call *c, const char *name, cx_error *err)
{
    if (cx_shape_eq(c->x[0].s, c->x[1].s))
        return CX_OK;
    return cx_fail(err, CX_E_SHAPE, "%s: target must have the shape of the prediction " SHAPE_FMT ", is " SHAPE_FMT, name,
                   SHAPE_ARGS(c->x[0].s), SHAPE_ARGS(c->x[1].s));
}

static void clear_dx(const cx_call *c)
{
    if (!c->dx_add[0])
        for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
            for (int64_t k = 0; k < c->x[0].s.c; k++)
                row_at(&c->dx[0], i)[k] = 0;
}

/* ---- bce_loss: mean over labelled entries of w1 t log(1 + e^-z) + w0 (1 - t) log(1 + e^z), t smoothed ---- */

cx_status cx_infer_bce_loss(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_BCE_LOSS, err));
    TRY(check_smoothing("bce_loss", ((const cx_bce_attr *)c->attr)->smoothing, err));
    TRY(check_same(c, "bce_loss", err));
    cx_shape w = c->x[2].s;
    if (has_input(c, 2) && !cx_shape_eq(w, (cx_shape){ 1, 1, 2, c->x[0].s.c }))
        return cx_fail(err, CX_E_SHAPE, "bce_loss: weights must be (1,1,2,%lld), negatives then positives, are " SHAPE_FMT,
                       (long long)c->x[0].s.c, SHAPE_ARGS(w));
    c->y[0].s = (cx_shape){ 1, 1, 1, 1 };
    return CX_OK;
}

int64_t cx_flops_bce_loss(const cx_call *c) { return 8 * cx_elems(c->x[0].s); }

/* log(1 + e^z) without overflow. */
static double softplus(double z) { return (z > 0 ? z : 0) + log1p(exp(-fabs(z))); }

/* The weights of the negative and the positive term of entry (i,k): the smoothed target times the class weight. */
typedef struct { double neg, pos; } bce_terms;

static bce_terms bce_at(const cx_call *c, int64_t i, int64_t k)
{
    double s = (double)((const cx_bce_attr *)c->attr)->smoothing, t = (double)row_at(&c->x[1], i)[k] * (1 - s) + s / 2;
    bool weighted = has_input(c, 2);
    return (bce_terms){ (1 - t) * (weighted ? (double)row_at(&c->x[2], 0)[k] : 1), t * (weighted ? (double)row_at(&c->x[2], 1)[k] : 1) };
}

static int64_t count_labelled(const cx_call *c)
{
    int64_t count = 0;
    for (int64_t i = 0; i < cx_pixels(c->x[1].s); i++)
        for (int64_t k = 0; k < c->x[1].s.c; k++)
            count += labelled(row_at(&c->x[1], i)[k]);
    return count;
}

cx_status cx_ref_fwd_bce_loss(const cx_call *c)
{
    int64_t count = count_labelled(c);
    double sum = 0;
    for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
        for (int64_t k = 0; k < c->x[0].s.c; k++) {
            if (!labelled(row_at(&c->x[1], i)[k]))
                continue;
            double z = (double)row_at(&c->x[0], i)[k];
            bce_terms w = bce_at(c, i, k);
            sum += w.pos * softplus(-z) + w.neg * softplus(z);
        }
    c->y[0].p[0] = (float)(count ? sum / (double)count : 0);
    return CX_OK;
}

cx_status cx_ref_bwd_bce_loss(const cx_call *c)
{
    int64_t count = count_labelled(c);
    if (!wants_grad(c, 0))
        return CX_OK;
    clear_dx(c);
    for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
        for (int64_t k = 0; k < c->x[0].s.c; k++) {
            if (!labelled(row_at(&c->x[1], i)[k]))
                continue;
            double z = (double)row_at(&c->x[0], i)[k];
            bce_terms w = bce_at(c, i, k);
            put(&row_at(&c->dx[0], i)[k], true, loss_dy(c) / (double)count * (w.neg / (1 + exp(-z)) - w.pos / (1 + exp(z))));
        }
    return CX_OK;
}

/* ---- ce_loss: PyTorch's weighted mean, sum over rows and classes of t_k w_k (-log p_k) / sum over rows of w_target ---- */

cx_status cx_infer_ce_loss(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_CE_LOSS, err));
    TRY(check_smoothing("ce_loss", ((const cx_ce_attr *)c->attr)->smoothing, err));
    cx_shape z = c->x[0].s, t = c->x[1].s;
    if (!cx_shape_eq(t, (cx_shape){ z.n, z.h, z.w, 1 }))
        return cx_fail(err, CX_E_SHAPE, "ce_loss: target must hold one class index per row, (%lld,%lld,%lld,1), is " SHAPE_FMT,
                       (long long)z.n, (long long)z.h, (long long)z.w, SHAPE_ARGS(t));
    if (z.c < 2)
        return cx_fail(err, CX_E_SHAPE, "ce_loss: needs at least 2 classes, logits are " SHAPE_FMT "; use bce_loss for one output", SHAPE_ARGS(z));
    if (has_input(c, 2))
        TRY(cx_op_check_vector(c, CX_OP_CE_LOSS, 2, "weights", z.c, err));
    c->y[0].s = (cx_shape){ 1, 1, 1, 1 };
    return CX_OK;
}

int64_t cx_flops_ce_loss(const cx_call *c) { return 8 * cx_elems(c->x[0].s); }

static double class_weight(const cx_call *c, int64_t k) { return has_input(c, 2) ? (double)c->x[2].p[k] : 1; }

/* Sum of the weights of the labelled rows; CX_E_DATA when a class index is not one of 0 .. classes-1. */
static cx_status total_weight(const cx_call *c, double *total)
{
    *total = 0;
    for (int64_t i = 0; i < cx_pixels(c->x[1].s); i++) {
        float t = row_at(&c->x[1], i)[0];
        if (!labelled(t))
            continue;
        if (!(t < (float)c->x[0].s.c) || t != floorf(t))
            return CX_E_DATA;
        *total += class_weight(c, (int64_t)t);
    }
    return CX_OK;
}

/* The weight t_k w_k of -log p_k in a row of class `target`. */
static double ce_term(const cx_call *c, int64_t target, int64_t k)
{
    double s = (double)((const cx_ce_attr *)c->attr)->smoothing;
    return class_weight(c, k) * ((k == target ? 1 - s : 0) + s / (double)c->x[0].s.c);
}

/* log of the sum of exponentials of a row. */
static double log_sum_exp(const float *z, int64_t n)
{
    double largest = (double)z[0], sum = 0;
    for (int64_t k = 1; k < n; k++)
        largest = (double)z[k] > largest ? (double)z[k] : largest;
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)z[k] - largest);
    return largest + log(sum);
}

cx_status cx_ref_fwd_ce_loss(const cx_call *c)
{
    double total, sum = 0;
    TRY(total_weight(c, &total));
    for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++) {
        float t = row_at(&c->x[1], i)[0];
        const float *z = row_at(&c->x[0], i);
        if (!labelled(t))
            continue;
        double lse = log_sum_exp(z, c->x[0].s.c);
        for (int64_t k = 0; k < c->x[0].s.c; k++)
            sum += ce_term(c, (int64_t)t, k) * (lse - (double)z[k]);
    }
    c->y[0].p[0] = (float)(total > 0 ? sum / total : 0);
    return CX_OK;
}

cx_status cx_ref_bwd_ce_loss(const cx_call *c)
{
    double total;
    TRY(total_weight(c, &total));
    if (!wants_grad(c, 0))
        return CX_OK;
    clear_dx(c);
    for (int64_t i = 0; i < cx_pixels(c->x[0].s) && total > 0; i++) {
        float t = row_at(&c->x[1], i)[0];
        const float *z = row_at(&c->x[0], i);
        if (!labelled(t))
            continue;
        double lse = log_sum_exp(z, c->x[0].s.c), row = 0;
        for (int64_t k = 0; k < c->x[0].s.c; k++)
            row += ce_term(c, (int64_t)t, k);
        for (int64_t k = 0; k < c->x[0].s.c; k++)
            put(&row_at(&c->dx[0], i)[k], true, loss_dy(c) / total * (row * exp((double)z[k] - lse) - ce_term(c, (int64_t)t, k)));
    }
    return CX_OK;
}

/* ---- dice_loss: -(2 sum t p + smooth) / (sum t + sum p + smooth) over the labelled entries of the whole batch ---- */

cx_status cx_infer_dice_loss(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_DICE_LOSS, err));
    const cx_dice_attr *a = c->attr;
    if (!(a->smooth >= 0) || !isfinite(a->smooth))
        return cx_fail(err, CX_E_CONFIG, "dice_loss: smooth must be 0 or more, is %g", (double)a->smooth);
    TRY(check_same(c, "dice_loss", err));
    c->y[0].s = (cx_shape){ 1, 1, 1, 1 };
    return CX_OK;
}

int64_t cx_flops_dice_loss(const cx_call *c) { return 4 * cx_elems(c->x[0].s); }

typedef struct { double above, below; } dice_sums;

static dice_sums dice_of(const cx_call *c)
{
    double overlap = 0, sum = 0, smooth = (double)((const cx_dice_attr *)c->attr)->smooth;
    int64_t count = 0;
    for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
        for (int64_t k = 0; k < c->x[0].s.c; k++) {
            float p = row_at(&c->x[0], i)[k], t = row_at(&c->x[1], i)[k];
            if (!labelled(t))
                continue;
            overlap += (double)t * (double)p;
            sum += (double)t + (double)p;
            count++;
        }
    return count ? (dice_sums){ 2 * overlap + smooth, sum + smooth } : (dice_sums){ 0, 0 };
}

cx_status cx_ref_fwd_dice_loss(const cx_call *c)
{
    dice_sums d = dice_of(c);
    c->y[0].p[0] = (float)(d.below != 0 ? -d.above / d.below : 0);
    return CX_OK;
}

/* d/dp of -A/B with dA = 2 t, dB = 1: -(2 t B - A) / B^2. */
cx_status cx_ref_bwd_dice_loss(const cx_call *c)
{
    dice_sums d = dice_of(c);
    if (!wants_grad(c, 0))
        return CX_OK;
    clear_dx(c);
    for (int64_t i = 0; i < cx_pixels(c->x[0].s) && d.below != 0; i++)
        for (int64_t k = 0; k < c->x[0].s.c; k++) {
            float t = row_at(&c->x[1], i)[k];
            if (labelled(t))
                put(&row_at(&c->dx[0], i)[k], true, loss_dy(c) * (d.above - 2 * (double)t * d.below) / (d.below * d.below));
        }
    return CX_OK;
}
