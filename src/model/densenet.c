/* densenet.c - DenseNet-121, -169 and -201 (Huang et al. 2017, table 1) with torchvision's structure, names and initialisation.
 *
 * A layer's output is appended to what it read: x_{k+1} = concat(x_k, new), so that a plan can lay a whole block into one buffer. */
#include "arch.h"

enum { BLOCKS = 4, GROWTH = 32, BOTTLENECK = 4, STEM = 64 };

typedef struct { cx_graph *g; cx_norm_attr norm; } builder;

static int norm_relu(const builder *b, const char *prefix, const char *suffix, int x)
{
    x = cx_batch_norm(b->g, name("%s.norm%s", prefix, suffix).text, x, b->norm);
    return cx_relu(b->g, name("%s.relu%s", prefix, suffix).text, x);
}

static int conv(const builder *b, const char *node, int x, int out, int kernel, int stride)
{
    return cx_conv2d(b->g, node, x, (cx_conv_spec){ .out = out, .kernel = kernel, .stride = stride, .pad = kernel / 2, .init = CX_INIT_HE_NORMAL });
}

/* norm - ReLU - 1x1 to 128 - norm - ReLU - 3x3 to 32 new channels. */
static int dense_layer(const builder *b, const char *layer, int x)
{
    int y = norm_relu(b, layer, "1", x);
    y = conv(b, name("%s.conv1", layer).text, y, BOTTLENECK * GROWTH, 1, 1);
    y = norm_relu(b, layer, "2", y);
    return conv(b, name("%s.conv2", layer).text, y, GROWTH, 3, 1);
}

/* norm - ReLU - 1x1 to half the channels - 2x2 average. */
static int transition(const builder *b, const char *prefix, int x, int channels)
{
    x = norm_relu(b, prefix, "", x);
    x = conv(b, name("%s.conv", prefix).text, x, channels / 2, 1, 1);
    return cx_avg_pool(b->g, name("%s.pool", prefix).text, x, 2, 2, 0);
}

static void build(const cx_model_spec *spec, cx_model *m, const int layers[BLOCKS])
{
    cx_graph *g = m->graph;
    builder b = { g, { .eps = spec->norm_eps > 0 ? (float)spec->norm_eps : 1e-5f, .momentum = 0.1f, .unbiased = true } };
    int channels = STEM, x = conv(&b, "features.conv0", m->input, STEM, 7, 2);
    x = cx_max_pool(g, "features.pool0", norm_relu(&b, "features", "0", x), 3, 2, 1);
    for (int i = 1; i <= BLOCKS; i++) {
        for (int j = 1; j <= layers[i - 1]; j++, channels += GROWTH) {
            int fresh = dense_layer(&b, name("features.denseblock%d.denselayer%d", i, j).text, x);
            x = cx_concat(g, name("features.denseblock%d.concat%d", i, j).text, x, fresh);
        }
        if (i < BLOCKS) {
            x = transition(&b, name("features.transition%d", i).text, x, channels);
            channels /= 2;
        }
    }
    x = cx_batch_norm(g, "features.norm5", x, b.norm);
    m->features = spec->no_final_relu ? x : cx_relu(g, "features.relu5", x);
    x = cx_global_avg_pool(g, "pool", m->features);
    if (spec->hidden > 0)
        x = cx_relu(g, "fc.relu", cx_linear(g, "fc", x, spec->hidden, CX_INIT_TORCH_LINEAR));
    m->logits = head_output(spec, g, x, CX_INIT_TORCH_LINEAR);
}

void build_densenet121(const cx_model_spec *spec, cx_model *m) { build(spec, m, (const int[]){ 6, 12, 24, 16 }); }
void build_densenet169(const cx_model_spec *spec, cx_model *m) { build(spec, m, (const int[]){ 6, 12, 32, 32 }); }
void build_densenet201(const cx_model_spec *spec, cx_model *m) { build(spec, m, (const int[]){ 6, 12, 48, 32 }); }
