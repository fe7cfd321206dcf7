/* layers.c - the named building calls: an operator together with the parameters that it owns. Depends on graph.c through cx_param and cx_apply. */
#include <stdio.h>
#include "cxnet/graph.h"

/* "name.suffix" as a parameter or state. A name that is too long fails in cx_param, which sees the untruncated length. */
static int owned(cx_graph *g, const char *name, const char *suffix, cx_value_kind kind, cx_shape shape, cx_init init)
{
    char full[2 * CX_NAME_MAX];
    snprintf(full, sizeof full, "%s.%s", name ? name : "", suffix);
    return cx_param(g, full, kind, shape, init);
}

static cx_shape vector(int64_t c)
{
    return (cx_shape){ 1, 1, 1, c };
}

static bool known(const cx_graph *g, int x)
{
    return g && g->err.status == CX_OK && x >= 0 && x < g->n_values;
}

/* The sticky error for a value index that no building call returned. Yields -1. */
static int unknown(cx_graph *g, const char *name, int x)
{
    if (g && g->err.status == CX_OK)
        (void)cx_fail(&g->err, CX_E_USAGE, "%s: input is value %d, but the graph has values 0 to %d", name ? name : "", x, g->n_values - 1);
    return -1;
}

int cx_conv2d(cx_graph *g, const char *name, int x, cx_conv_spec spec)
{
    if (!known(g, x))
        return unknown(g, name, x);
    cx_conv_attr attr = { spec.stride, spec.pad, spec.pad, spec.pad, spec.pad };
    int in[3] = { x, -1, -1 };
    in[1] = owned(g, name, "weight", CX_PARAM, (cx_shape){ spec.out, spec.kernel, spec.kernel, g->values[x].shape.c }, spec.init);
    if (spec.bias)
        in[2] = owned(g, name, "bias", CX_PARAM, vector(spec.out), CX_INIT_ZERO);
    return cx_apply(g, name, CX_OP_CONV2D, &attr, in, spec.bias ? 3 : 2);
}

int cx_conv_transpose2d(cx_graph *g, const char *name, int x, cx_conv_spec spec)
{
    if (!known(g, x))
        return unknown(g, name, x);
    cx_convt_attr attr = { spec.stride, spec.pad };
    int in[3] = { x, -1, -1 };
    in[1] = owned(g, name, "weight", CX_PARAM, (cx_shape){ g->values[x].shape.c, spec.kernel, spec.kernel, spec.out }, spec.init);
    if (spec.bias)
        in[2] = owned(g, name, "bias", CX_PARAM, vector(spec.out), CX_INIT_ZERO);
    return cx_apply(g, name, CX_OP_CONV_TRANSPOSE2D, &attr, in, spec.bias ? 3 : 2);
}

int cx_linear(cx_graph *g, const char *name, int x, int out, cx_init init)
{
    if (!known(g, x))
        return unknown(g, name, x);
    int in[3] = { x, -1, -1 };
    in[1] = owned(g, name, "weight", CX_PARAM, (cx_shape){ out, 1, 1, g->values[x].shape.c }, init);
    in[2] = owned(g, name, "bias", CX_PARAM, vector(out), CX_INIT_ZERO);
    return cx_apply(g, name, CX_OP_LINEAR, NULL, in, 3);
}

int cx_batch_norm(cx_graph *g, const char *name, int x, cx_norm_attr attr)
{
    if (!known(g, x))
        return unknown(g, name, x);
    cx_shape s = vector(g->values[x].shape.c);
    int in[5] = { x, -1, -1, -1, -1 };
    in[1] = owned(g, name, "weight", CX_PARAM, s, CX_INIT_ONE);
    in[2] = owned(g, name, "bias", CX_PARAM, s, CX_INIT_ZERO);
    in[3] = owned(g, name, "running_mean", CX_STATE, s, CX_INIT_ZERO);
    in[4] = owned(g, name, "running_var", CX_STATE, s, CX_INIT_ONE);
    return cx_apply(g, name, CX_OP_BATCH_NORM, &attr, in, 5);
}

static int unary(cx_graph *g, const char *name, cx_op_id op, const void *attr, int x)
{
    return cx_apply(g, name, op, attr, &x, 1);
}

int cx_relu(cx_graph *g, const char *name, int x)
{
    return unary(g, name, CX_OP_RELU, NULL, x);
}

int cx_leaky_relu(cx_graph *g, const char *name, int x, float slope)
{
    cx_leaky_attr attr = { slope };
    return unary(g, name, CX_OP_LEAKY_RELU, &attr, x);
}

int cx_sigmoid(cx_graph *g, const char *name, int x)
{
    return unary(g, name, CX_OP_SIGMOID, NULL, x);
}

int cx_softmax(cx_graph *g, const char *name, int x)
{
    return unary(g, name, CX_OP_SOFTMAX, NULL, x);
}

int cx_max_pool(cx_graph *g, const char *name, int x, int kernel, int stride, int pad)
{
    cx_pool_attr attr = { kernel, stride, pad, false };
    return unary(g, name, CX_OP_MAX_POOL, &attr, x);
}

int cx_avg_pool(cx_graph *g, const char *name, int x, int kernel, int stride, int pad)
{
    cx_pool_attr attr = { kernel, stride, pad, true };
    return unary(g, name, CX_OP_AVG_POOL, &attr, x);
}

int cx_global_avg_pool(cx_graph *g, const char *name, int x)
{
    return unary(g, name, CX_OP_GLOBAL_AVG_POOL, NULL, x);
}

int cx_concat(cx_graph *g, const char *name, int a, int b)
{
    return cx_apply(g, name, CX_OP_CONCAT, NULL, (int[]){ a, b }, 2);
}

int cx_add(cx_graph *g, const char *name, int a, int b)
{
    return cx_apply(g, name, CX_OP_ADD, NULL, (int[]){ a, b }, 2);
}

int cx_flatten(cx_graph *g, const char *name, int x)
{
    return unary(g, name, CX_OP_FLATTEN, NULL, x);
}

int cx_dropout(cx_graph *g, const char *name, int x, float rate)
{
    cx_dropout_attr attr = { rate };
    return unary(g, name, CX_OP_DROPOUT, &attr, x);
}

int cx_upsample(cx_graph *g, const char *name, int x, int out_h, int out_w, bool align_corners)
{
    cx_upsample_attr attr = { out_h, out_w, align_corners };
    return unary(g, name, CX_OP_UPSAMPLE, &attr, x);
}

int cx_bce_loss(cx_graph *g, const char *name, int logits, int target, int weights, float smoothing)
{
    cx_bce_attr attr = { smoothing };
    return cx_apply(g, name, CX_OP_BCE_LOSS, &attr, (int[]){ logits, target, weights }, weights < 0 ? 2 : 3);
}

int cx_ce_loss(cx_graph *g, const char *name, int logits, int target, int weights, float smoothing)
{
    cx_ce_attr attr = { smoothing };
    return cx_apply(g, name, CX_OP_CE_LOSS, &attr, (int[]){ logits, target, weights }, weights < 0 ? 2 : 3);
}

int cx_dice_loss(cx_graph *g, const char *name, int probability, int target, float smooth)
{
    cx_dice_attr attr = { smooth };
    return cx_apply(g, name, CX_OP_DICE_LOSS, &attr, (int[]){ probability, target }, 2);
}
