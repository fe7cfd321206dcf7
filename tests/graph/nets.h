/* nets.h - small networks that have every shape of graph a plan must handle, each with its loss. */
#ifndef CX_TESTS_NETS_H
#define CX_TESTS_NETS_H
#include "cxnet/graph.h"
#include "support.h"

typedef struct {
    const char *name;
    cx_graph *g;
    int x, target, feature, logits, loss;
    bool classes;            /* the target is a class index below logits' channels; otherwise 0 or 1 */
} net;

static const cx_norm_attr PLAIN_NORM = { 1e-5f, 0.1f, false, true };

static int conv(cx_graph *g, const char *name, int x, int out, int kernel, int stride, int pad, bool bias)
{
    return cx_conv2d(g, name, x, (cx_conv_spec){ out, kernel, stride, pad, bias, CX_INIT_HE_NORMAL });
}

static int norm_relu(cx_graph *g, const char *name, int x)
{
    char relu[CX_NAME_MAX + 8];
    snprintf(relu, sizeof relu, "%s.relu", name);
    return cx_relu(g, relu, cx_batch_norm(g, name, x, PLAIN_NORM));
}

static int with_bce(net *n, int smoothing_percent)
{
    n->target = cx_input(n->g, "target", n->g->values[n->logits < 0 ? 0 : n->logits].shape);
    int weights = cx_param(n->g, "loss.weight", CX_STATE, (cx_shape){ 1, 1, 2, n->g->values[n->logits < 0 ? 0 : n->logits].shape.c }, CX_INIT_ONE);
    return cx_bce_loss(n->g, "loss", n->logits, n->target, weights, (float)smoothing_percent / 100);
}

/* conv+relu chain, flatten, dense layers: the base CNN in small. */
static net base_net(void)
{
    net n = { .name = "base", .g = cx_graph_new() };
    n.x = cx_input(n.g, "film", (cx_shape){ 1, 13, 13, 2 });
    int x = cx_relu(n.g, "relu1", conv(n.g, "conv1", n.x, 6, 5, 2, 0, true));
    n.feature = x = cx_relu(n.g, "relu2", conv(n.g, "conv2", x, 5, 3, 2, 0, true));
    x = cx_flatten(n.g, "flat", x);
    x = cx_relu(n.g, "relu3", cx_linear(n.g, "fc1", x, 7, CX_INIT_GLOROT_UNIFORM));
    n.logits = cx_linear(n.g, "fc2", x, 2, CX_INIT_GLOROT_UNIFORM);
    n.loss = with_bce(&n, 10);
    return n;
}

/* A dense block: norm-relu-conv1x1-norm-relu-conv3x3, then a pairwise concat. */
static int dense_block(cx_graph *g, int block, int layers, int growth, int x)
{
    for (int i = 0; i < layers; i++) {
        char name[5][64];
        const char *part[5] = { "norm1", "conv1", "norm2", "conv2", "cat" };
        for (int k = 0; k < 5; k++)
            snprintf(name[k], sizeof name[k], "block%d.layer%d.%s", block, i, part[k]);
        int y = conv(g, name[1], norm_relu(g, name[0], x), 4 * growth, 1, 1, 0, false);
        y = conv(g, name[3], norm_relu(g, name[2], y), growth, 3, 1, 1, false);
        x = cx_concat(g, name[4], x, y);
    }
    return x;
}

static net dense_net(int side, int channels, int start, int growth, const int *layers, int blocks, int outputs)
{
    net n = { .name = "dense", .g = cx_graph_new(), .classes = outputs > 1 };
    n.x = cx_input(n.g, "film", (cx_shape){ 1, side, side, channels });
    int x = cx_max_pool(n.g, "pool0", norm_relu(n.g, "norm0", conv(n.g, "conv0", n.x, start, 7, 2, 3, false)), 3, 2, 1);
    for (int b = 0; b < blocks; b++) {
        char name[3][64];
        x = dense_block(n.g, b, layers[b], growth, x);
        if (b == blocks - 1)
            break;
        snprintf(name[0], sizeof name[0], "transition%d.norm", b);
        snprintf(name[1], sizeof name[1], "transition%d.conv", b);
        snprintf(name[2], sizeof name[2], "transition%d.pool", b);
        int c = x < 0 ? 0 : (int)n.g->values[x].shape.c / 2;
        x = cx_avg_pool(n.g, name[2], conv(n.g, name[1], norm_relu(n.g, name[0], x), c, 1, 1, 0, false), 2, 2, 0);
    }
    n.feature = norm_relu(n.g, "norm5", x);
    n.logits = cx_linear(n.g, "classifier", cx_global_avg_pool(n.g, "gap", n.feature), outputs, CX_INIT_TORCH_LINEAR);
    n.target = cx_input(n.g, "target", (cx_shape){ 1, 1, 1, 1 });
    int weights = cx_param(n.g, "loss.weight", CX_STATE, (cx_shape){ 1, 1, 1, outputs }, CX_INIT_ONE);
    n.loss = outputs > 1 ? cx_ce_loss(n.g, "loss", n.logits, n.target, weights, 0.1f) : cx_bce_loss(n.g, "loss", n.logits, n.target, -1, 0.1f);
    return n;
}

static net small_dense_net(void)
{
    return dense_net(18, 1, 6, 4, (const int[]){ 3, 2 }, 2, 3);
}

/* U-Net of depth 2; one level rises by bilinear upsampling, one by transposed convolution. Dice over sigmoids. base: channels, a multiple of 4. */
static net unet_net(int base)
{
    const int middle = base * 3 / 2, deep = 2 * base;
    net n = { .name = "unet", .g = cx_graph_new() };
    cx_graph *g = n.g;
    n.x = cx_input(g, "film", (cx_shape){ 1, 12, 12, 1 });
    int a = cx_relu(g, "relu_a", conv(g, "conv_a", n.x, base, 3, 1, 1, true));
    int b = cx_relu(g, "relu_b", conv(g, "conv_b", cx_max_pool(g, "pool_a", a, 2, 2, 0), middle, 3, 1, 1, true));
    int c = cx_relu(g, "relu_c", conv(g, "conv_c", cx_max_pool(g, "pool_b", b, 2, 2, 0), deep, 3, 1, 1, true));
    int up = cx_upsample(g, "up_b", c, 6, 6, false);
    n.feature = cx_relu(g, "relu_d", conv(g, "conv_d", cx_concat(g, "cat_b", up, b), middle, 3, 1, 1, true));
    up = cx_conv_transpose2d(g, "up_a", n.feature, (cx_conv_spec){ base, 2, 2, 0, true, CX_INIT_HE_NORMAL });
    int e = cx_relu(g, "relu_e", conv(g, "conv_e", cx_concat(g, "cat_a", up, a), base, 3, 1, 1, true));
    n.logits = cx_sigmoid(g, "mask", conv(g, "conv_f", e, 1, 1, 1, 0, true));
    n.target = cx_input(g, "target", (cx_shape){ 1, 12, 12, 1 });
    n.loss = cx_dice_loss(g, "loss", n.logits, n.target, 1);
    return n;
}

static net unet(void)
{
    return unet_net(4);
}

/* Residual add, with the ReLU after it, and a skip that a projection makes. */
static net residual(void)
{
    net n = { .name = "residual", .g = cx_graph_new() };
    cx_graph *g = n.g;
    n.x = cx_input(g, "film", (cx_shape){ 1, 8, 8, 3 });
    int x = norm_relu(g, "norm0", conv(g, "conv0", n.x, 5, 3, 1, 1, false));
    int y = cx_batch_norm(g, "norm2", conv(g, "conv2", norm_relu(g, "norm1", conv(g, "conv1", x, 5, 3, 1, 1, false)), 5, 3, 1, 1, false), PLAIN_NORM);
    x = cx_relu(g, "out1", cx_add(g, "add1", x, y));
    y = cx_batch_norm(g, "norm3", conv(g, "conv3", x, 6, 3, 2, 1, false), PLAIN_NORM);
    n.feature = cx_relu(g, "out2", cx_add(g, "add2", y, conv(g, "project", x, 6, 1, 2, 0, false)));
    n.logits = cx_linear(g, "fc", cx_global_avg_pool(g, "gap", n.feature), 2, CX_INIT_GLOROT_UNIFORM);
    n.loss = with_bce(&n, 0);
    return n;
}

/* What views cannot express: an input in a concat, a value twice in one concat, in two concats, in an add with itself, a slice under flatten, a concat of
 * flattened vectors, a concat whose member is read late. Also a value read before and after its ReLU, cheap operators in a row, and a weight that two
 * convolutions share. */
static net tangle(void)
{
    net n = { .name = "tangle", .g = cx_graph_new() };
    cx_graph *g = n.g;
    n.x = cx_input(g, "film", (cx_shape){ 1, 6, 6, 3 });
    int a = cx_leaky_relu(g, "leaky", conv(g, "conv_a", n.x, 3, 3, 1, 1, true), 0.2f);
    int c1 = cx_concat(g, "with_film", n.x, a);
    int c2 = cx_concat(g, "twice", a, a);
    int b = conv(g, "conv_b", c1, 4, 3, 1, 1, false);
    int c3 = cx_concat(g, "third", b, a);
    int d = cx_add(g, "double", b, cx_add(g, "raw_and_relu", b, cx_relu(g, "relu_b", b)));
    d = cx_add(g, "itself", d, d);
    int e = cx_relu(g, "relu_e", conv(g, "conv_e", cx_concat(g, "wide", cx_concat(g, "narrow", c2, d), c3), 3, 1, 1, 0, true));
    e = cx_leaky_relu(g, "leaky_e", cx_batch_norm(g, "norm_e", e, PLAIN_NORM), 0.1f);
    int w = cx_param(g, "shared.weight", CX_PARAM, (cx_shape){ 3, 3, 3, 3 }, CX_INIT_HE_NORMAL);
    cx_conv_attr same = { 1, 1, 1, 1, 1 };
    int f = cx_relu(g, "relu_f", cx_apply(g, "shared_1", CX_OP_CONV2D, &same, (int[]){ e, w }, 2));
    n.feature = f = cx_apply(g, "shared_2", CX_OP_CONV2D, &same, (int[]){ f, w }, 2);
    int slice = cx_avg_pool(g, "slice", f, 3, 3, 0);
    int c4 = cx_concat(g, "pooled", slice, cx_avg_pool(g, "other", a, 3, 3, 0));
    int flat = cx_concat(g, "flats", cx_flatten(g, "flat_slice", slice), cx_flatten(g, "flat_cat", c4));
    int gap = cx_global_avg_pool(g, "gap", c3);
    int tail = cx_concat(g, "tail", flat, cx_flatten(g, "flat_gap", gap));
    int fc = cx_linear(g, "fc", cx_flatten(g, "again", cx_flatten(g, "flat_tail", tail)), 3, CX_INIT_GLOROT_UNIFORM);
    int fc2 = cx_linear(g, "fc2", cx_flatten(g, "flat_lone", slice), 3, CX_INIT_GLOROT_UNIFORM);
    n.logits = cx_softmax(g, "soft", cx_add(g, "sum", fc, fc2));
    n.loss = with_bce(&n, 0);
    return n;
}

static net dropped(void)
{
    net n = { .name = "dropout", .g = cx_graph_new() };
    n.x = cx_input(n.g, "film", (cx_shape){ 1, 6, 6, 2 });
    int x = cx_relu(n.g, "relu", conv(n.g, "conv", n.x, 6, 3, 1, 1, true));
    n.feature = x = cx_dropout(n.g, "drop1", x, 0.3f);
    x = cx_relu(n.g, "fc1.relu", cx_linear(n.g, "fc1", cx_flatten(n.g, "flat", x), 9, CX_INIT_GLOROT_UNIFORM));
    n.logits = cx_linear(n.g, "fc2", cx_dropout(n.g, "drop2", x, 0.5f), 1, CX_INIT_GLOROT_UNIFORM);
    n.loss = with_bce(&n, 0);
    return n;
}

/* The dense net with its first block frozen: its norms keep their statistics, and nothing below trains. */
static net frozen(void)
{
    net n = small_dense_net();
    n.name = "frozen";
    if (cx_graph_freeze(n.g, "*norm0*") != 2 || cx_graph_freeze(n.g, "conv0.*") != 1 || cx_graph_freeze(n.g, "block0.*") != 18)
        fail_msg("freezing matched another number of parameters");
    return n;
}

typedef net (*net_fn)(void);
static const net_fn every_net[] = { base_net, small_dense_net, unet, residual, tangle, dropped, frozen };
#endif
