/* norm.c - reference batch normalisation (Ioffe & Szegedy 2015): y = gamma * (x - mean) * r + beta with r = 1/sqrt(var + eps).
 *
 * y[1] and y[2] hold the mean and r that were used, batch statistics or running ones; backward and redo read only them. */
#include <math.h>
#include "cxnet/op.h"
#include "ref.h"

static bool uses_batch(const cx_call *c) { return c->training && !((const cx_norm_attr *)c->attr)->frozen; }

cx_status cx_infer_batch_norm(cx_call *c, cx_error *err)
{
    static const char *const what[] = { "x", "gamma", "beta", "running mean", "running variance" };
    TRY(cx_op_check(c, CX_OP_BATCH_NORM, err));
    const cx_norm_attr *a = c->attr;
    cx_shape x = c->x[0].s;
    if (!(a->eps > 0) || !isfinite(a->eps))
        return cx_fail(err, CX_E_CONFIG, "batch_norm: eps must be above 0, is %g", (double)a->eps);
    if (!(a->momentum >= 0 && a->momentum <= 1))
        return cx_fail(err, CX_E_CONFIG, "batch_norm: momentum must be 0 to 1 (the share of the new batch), is %g", (double)a->momentum);
    for (int i = 1; i < 5; i++)
        TRY(cx_op_check_vector(c, CX_OP_BATCH_NORM, i, what[i], x.c, err));
    if (uses_batch(c) && cx_pixels(x) < 2)
        return cx_fail(err, CX_E_SHAPE, "batch_norm: training needs more than one value per channel, x is " SHAPE_FMT "; use a larger batch or freeze it",
                       SHAPE_ARGS(x));
    c->y[0].s = x;
    c->y[1].s = c->y[2].s = (cx_shape){ 1, 1, 1, x.c };
    return CX_OK;
}

int64_t cx_flops_batch_norm(const cx_call *c) { return (uses_batch(c) ? 6 : 2) * cx_elems(c->x[0].s); }

/* Mean and r of one channel; two passes, so that a large mean does not swallow the variance. */
static void batch_statistics(const cx_call *c, int64_t k)
{
    const cx_norm_attr *a = c->attr;
    int64_t m = cx_pixels(c->x[0].s);
    double mean = 0, var = 0;
    for (int64_t i = 0; i < m; i++)
        mean += (double)row_at(&c->x[0], i)[k];
    mean /= (double)m;
    for (int64_t i = 0; i < m; i++) {
        double d = (double)row_at(&c->x[0], i)[k] - mean;
        var += d * d;
    }
    var /= (double)m;
    c->y[1].p[k] = (float)mean;
    c->y[2].p[k] = (float)(1 / sqrt(var + (double)a->eps));
    double kept = 1 - (double)a->momentum, running_var = a->unbiased && m > 1 ? var * (double)m / (double)(m - 1) : var;
    c->x[3].p[k] = (float)(kept * (double)c->x[3].p[k] + (double)a->momentum * mean);
    c->x[4].p[k] = (float)(kept * (double)c->x[4].p[k] + (double)a->momentum * running_var);
}

static double norm_at(const cx_call *c, int64_t pixel, int64_t k)
{
    return ((double)row_at(&c->x[0], pixel)[k] - (double)c->y[1].p[k]) * (double)c->y[2].p[k];
}

/* ---- folded form (cx_fold in op.h): vectors only ---- */

static void fold_forward(const cx_call *c)
{
    const cx_norm_attr *a = c->attr;
    const double m = (double)cx_pixels(c->x[0].s) * cx_fold_parts(&c->fold), kept = 1 - (double)a->momentum;
    for (int64_t k = 0; k < c->x[0].s.c; k++) {
        double mean = (double)c->x[3].p[k], var = (double)c->x[4].p[k];
        if (c->fold.stats.s.c) {
            mean = (double)cx_row(&c->fold.stats, 0)[k];
            var = (double)cx_row(&c->fold.stats, 1)[k];
            c->x[3].p[k] = (float)(kept * (double)c->x[3].p[k] + (double)a->momentum * mean);
            c->x[4].p[k] = (float)(kept * (double)c->x[4].p[k] + (double)a->momentum * (a->unbiased && m > 1 ? var * m / (m - 1) : var));
        }
        const double r = 1 / sqrt(var + (double)a->eps), scale = (double)c->x[1].p[k] * r;
        cx_row(&c->fold.pre, CX_FOLD_SCALE)[k] = (float)scale;
        cx_row(&c->fold.pre, CX_FOLD_SHIFT)[k] = (float)((double)c->x[2].p[k] - mean * scale);
        cx_row(&c->fold.pre, CX_FOLD_MEAN)[k] = (float)mean;
        cx_row(&c->fold.pre, CX_FOLD_R)[k] = (float)r;
    }
}

static void fold_backward(const cx_call *c)
{
    const double m = (double)cx_pixels(c->x[0].s);
    for (int64_t k = 0; k < c->x[0].s.c; k++) {
        const double sum = (double)cx_row(&c->fold.sums, 0)[k], dot = (double)cx_row(&c->fold.sums, 1)[k];
        const double scale = (double)cx_row(&c->fold.pre, CX_FOLD_SCALE)[k], mean = (double)cx_row(&c->fold.pre, CX_FOLD_MEAN)[k];
        const double r = (double)cx_row(&c->fold.pre, CX_FOLD_R)[k], b = -scale * r * r * dot / m;
        if (wants_grad(c, 1))
            put(&c->dx[1].p[k], c->dx_add[1], dot * r);
        if (wants_grad(c, 2))
            put(&c->dx[2].p[k], c->dx_add[2], sum);
        if (c->fold.carry.s.c) {
            put(&cx_row(&c->fold.carry, 0)[k], c->fold.carry_add, b);
            put(&cx_row(&c->fold.carry, 1)[k], c->fold.carry_add, -scale * sum / m - b * mean);
        }
    }
}

/* ---- the whole operator ---- */

cx_status cx_ref_fwd_batch_norm(const cx_call *c)
{
    if (c->fold.pre.s.c) {
        if (!c->redo)
            fold_forward(c);
        return CX_OK;
    }
    const cx_norm_attr *a = c->attr;
    for (int64_t k = 0; k < c->x[0].s.c; k++) {
        if (!c->redo && uses_batch(c))
            batch_statistics(c, k);
        else if (!c->redo) {
            c->y[1].p[k] = c->x[3].p[k];
            c->y[2].p[k] = (float)(1 / sqrt((double)c->x[4].p[k] + (double)a->eps));
        }
        for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
            row_at(&c->y[0], i)[k] = (float)relu_if(c, norm_at(c, i, k) * (double)c->x[1].p[k] + (double)c->x[2].p[k]);
    }
    return CX_OK;
}

/* dy behind the folded ReLU. The mask is computed again: y[0] may have been dropped. */
static double grad_at(const cx_call *c, int64_t pixel, int64_t k)
{
    if (c->relu && norm_at(c, pixel, k) * (double)c->x[1].p[k] + (double)c->x[2].p[k] <= 0)
        return 0;
    return (double)row_at(&c->dy[0], pixel)[k];
}

/* With g the masked gradient and xh the normalised x: dbeta = sum g, dgamma = sum g xh,
 * dx = gamma r (g - dbeta/M - xh dgamma/M); with running statistics dx = gamma r g. */
cx_status cx_ref_bwd_batch_norm(const cx_call *c)
{
    if (c->fold.pre.s.c) {
        fold_backward(c);
        return CX_OK;
    }
    int64_t m = cx_pixels(c->x[0].s);
    for (int64_t k = 0; k < c->x[0].s.c; k++) {
        double dbeta = 0, dgamma = 0;
        for (int64_t i = 0; i < m; i++) {
            double g = grad_at(c, i, k);
            dbeta += g;
            dgamma += g * norm_at(c, i, k);
        }
        double scale = (double)c->x[1].p[k] * (double)c->y[2].p[k];
        double shift = uses_batch(c) ? dbeta / (double)m : 0, slope = uses_batch(c) ? dgamma / (double)m : 0;
        if (wants_grad(c, 0))
            for (int64_t i = 0; i < m; i++)
                put(&row_at(&c->dx[0], i)[k], c->dx_add[0], scale * (grad_at(c, i, k) - shift - norm_at(c, i, k) * slope));
        if (wants_grad(c, 1))
            put(&c->dx[1].p[k], c->dx_add[1], dgamma);
        if (wants_grad(c, 2))
            put(&c->dx[2].p[k], c->dx_add[2], dbeta);
    }
    return CX_OK;
}
