/* unet.c - the Kaggle lung U-Net (Ronneberger et al. 2015 with padded convolutions): a film in, for each pixel the probability of lung out.
 *
 * Level i of `depth` has base * 2^(i-1) channels on a map of side / 2^(i-1). The way down keeps each level's map before it is halved; the way up doubles
 * the map and reads the kept one beside it, as concat(up, skip). Without norm it is the network whose weights were published. */
#include "arch.h"

enum { BASE = 32, DEPTH = 4, MAX_BASE = 1024, MAX_DEPTH = 8 };

/* Glorot & Bengio 2010 is what Keras' layers start from, and the published network is Keras'. */
static const cx_init INIT = CX_INIT_GLOROT_UNIFORM;

static int base_of(const cx_model_spec *spec) { return spec->base ? spec->base : BASE; }
static int depth_of(const cx_model_spec *spec) { return spec->depth ? spec->depth : DEPTH; }

cx_status check_unet(const cx_model_spec *spec, cx_error *err)
{
    if (spec->base < 0 || spec->base > MAX_BASE)
        return cx_fail(err, CX_E_CONFIG, "unet: base must be 0 (meaning %d) to %d, is %d", BASE, MAX_BASE, spec->base);
    if (spec->depth < 0 || spec->depth > MAX_DEPTH)
        return cx_fail(err, CX_E_CONFIG, "unet: depth must be 0 (meaning %d) to %d, is %d", DEPTH, MAX_DEPTH, spec->depth);
    int depth = depth_of(spec), step = 1 << depth, fits = spec->side < step ? step : spec->side / step * step;
    if (spec->side % step == 0)
        return CX_OK;
    return cx_fail(err, CX_E_CONFIG, "unet: side must be a multiple of %d, since the map is halved %d times, is %d; take %d or %d", step, depth, spec->side,
                   fits, fits + step);
}

/* Two times 3x3 convolution - ReLU, or convolution - norm - ReLU. */
static int double_conv(const cx_model_spec *spec, cx_graph *g, const char *level, int x, int out)
{
    cx_norm_attr norm = { .eps = spec->norm_eps > 0 ? (float)spec->norm_eps : 1e-5f, .momentum = 0.1f, .unbiased = true };
    for (int i = 1; i <= 2; i++) {
        x = cx_conv2d(g, name("%s.conv%d", level, i).text, x,
                      (cx_conv_spec){ .out = out, .kernel = 3, .stride = 1, .pad = 1, .bias = !spec->norm, .init = INIT });
        if (spec->norm)
            x = cx_batch_norm(g, name("%s.norm%d", level, i).text, x, norm);
        x = cx_relu(g, name("%s.relu%d", level, i).text, x);
    }
    return x;
}

void build_unet(const cx_model_spec *spec, cx_model *m)
{
    cx_graph *g = m->graph;
    int base = base_of(spec), depth = depth_of(spec), skip[MAX_DEPTH + 1], x = m->input;
    for (int i = 1; i <= depth; i++) {
        skip[i] = double_conv(spec, g, name("enc%d", i).text, x, base << (i - 1));
        x = cx_max_pool(g, name("pool%d", i).text, skip[i], 2, 2, 0);
    }
    x = double_conv(spec, g, "bottom", x, base << depth);
    for (int i = depth; i >= 1; i--) {
        int out = base << (i - 1);
        x = cx_conv_transpose2d(g, name("up%d", i).text, x, (cx_conv_spec){ .out = out, .kernel = 2, .stride = 2, .bias = true, .init = INIT });
        x = cx_concat(g, name("concat%d", i).text, x, skip[i]);
        x = double_conv(spec, g, name("dec%d", i).text, x, out);
    }
    m->features = x;
    m->logits = cx_conv2d(g, "head", x, (cx_conv_spec){ .out = spec->outputs, .kernel = 1, .stride = 1, .bias = true, .init = INIT });
    m->probability = cx_sigmoid(g, "probability", m->logits);
}
