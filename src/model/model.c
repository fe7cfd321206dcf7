/* model.c - from a spec to a network: the table of architectures, the checks of a spec, the common head and the losses. Depends on graph.h. */
#include <math.h>
#include <string.h>
#include "cxnet/base.h"
#include "arch.h"

enum { MAX_SIDE = 8192, MAX_CHANNELS = 64, MAX_UNITS = 65536 };

/* min_side: below it a map would shrink to nothing. base_cnn: 65 -> 31 -> 15 -> 7 -> 3 -> 1; DenseNet: 29 -> 15 -> 8 -> 4 -> 2 -> 1; unet: see check_unet. */
typedef enum { PLAIN, DENSE, MAPS } family;
static const struct { const char *name; arch_build build; int min_side; family family; } archs[] = {
    { "base_cnn", build_base_cnn, 65, PLAIN },
    { "densenet121", build_densenet121, 29, DENSE },
    { "densenet169", build_densenet169, 29, DENSE },
    { "densenet201", build_densenet201, 29, DENSE },
    { "unet", build_unet, 1, MAPS },
};

const char *const cx_model_archs[] = { "base_cnn", "densenet121", "densenet169", "densenet201", "unet", NULL };

static int find_arch(const char *name)
{
    for (int i = 0; i < CX_COUNT(archs); i++)
        if (strncmp(archs[i].name, name, sizeof ((cx_model_spec *)0)->arch) == 0)
            return i;
    return -1;
}

static cx_status unknown_arch(const char *name, cx_error *err)
{
    cx_buf known = { 0 };
    for (int i = 0; i < CX_COUNT(archs); i++)
        cx_buf_printf(&known, "%s%s", i ? ", " : "", archs[i].name);
    cx_status s = cx_fail(err, CX_E_CONFIG, "unknown architecture \"%.31s\"; known are %s", name, known.data ? known.data : "");
    cx_buf_free(&known);
    return s;
}

static cx_status check_range(const char *arch, const char *what, int value, int lo, int hi, cx_error *err)
{
    if (value >= lo && value <= hi)
        return CX_OK;
    return cx_fail(err, CX_E_CONFIG, "%s: %s must be %d to %d, is %d", arch, what, lo, hi, value);
}

/* What only another network has must be left at its default. */
static cx_status check_foreign(const cx_model_spec *spec, const char *name, family f, cx_error *err)
{
    if (f == PLAIN && spec->hidden > 0)
        return cx_fail(err, CX_E_CONFIG, "%s: has two hidden layers of 10 of its own; set hidden to 0, is %d", name, spec->hidden);
    if (f == MAPS && spec->hidden > 0)
        return cx_fail(err, CX_E_CONFIG, "%s: gives maps and has no hidden layer; set hidden to 0, is %d", name, spec->hidden);
    if (f == MAPS && spec->dropout > 0)
        return cx_fail(err, CX_E_CONFIG, "%s: has no dropout; set it to 0, is %g", name, spec->dropout);
    if (f != DENSE && spec->no_final_relu)
        return cx_fail(err, CX_E_CONFIG, "%s: has no normalisation whose ReLU could be left out; only a DenseNet can do without its final ReLU", name);
    if (f != MAPS && (spec->base || spec->depth || spec->norm))
        return cx_fail(err, CX_E_CONFIG, "%s: base, depth and norm belong to unet; leave them at 0, are %d, %d and %d", name, spec->base, spec->depth,
                       spec->norm);
    return CX_OK;
}

static cx_status check_spec(const cx_model_spec *spec, int i, cx_error *err)
{
    const char *name = archs[i].name;
    TRY(check_range(name, "side", spec->side, archs[i].min_side, MAX_SIDE, err));
    TRY(check_range(name, "channels", spec->channels, 1, MAX_CHANNELS, err));
    TRY(check_range(name, "outputs", spec->outputs, 1, MAX_UNITS, err));
    TRY(check_range(name, "hidden", spec->hidden, 0, MAX_UNITS, err));
    if (!(spec->dropout >= 0 && spec->dropout < 1))
        return cx_fail(err, CX_E_CONFIG, "%s: dropout must be 0 or more and below 1, is %g", name, spec->dropout);
    if (!(spec->norm_eps >= 0 && spec->norm_eps <= 0.1))
        return cx_fail(err, CX_E_CONFIG, "%s: norm_eps must be 0 (meaning 1e-5) to 0.1, is %g", name, spec->norm_eps);
    TRY(check_foreign(spec, name, archs[i].family, err));
    return archs[i].family == MAPS ? check_unet(spec, err) : CX_OK;
}

static const cx_model NOTHING = { .input = -1, .features = -1, .logits = -1, .probability = -1 };

cx_status cx_model_new(const cx_model_spec *spec, cx_model *out, cx_error *err)
{
    *out = NOTHING;
    int i = find_arch(spec->arch);
    if (i < 0)
        return unknown_arch(spec->arch, err);
    TRY(check_spec(spec, i, err));
    cx_model m = NOTHING;
    m.graph = cx_graph_new();
    if (!m.graph)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for a graph", archs[i].name);
    m.input = cx_input(m.graph, "input", (cx_shape){ 1, spec->side, spec->side, spec->channels });
    archs[i].build(spec, &m);
    cx_status s = cx_graph_check(m.graph, err);
    if (s != CX_OK) {
        cx_model_free(&m);
        return cx_prefix(err, s, "%s", archs[i].name);
    }
    *out = m;
    return CX_OK;
}

void cx_model_free(cx_model *m)
{
    if (!m)
        return;
    cx_graph_free(m->graph);
    *m = NOTHING;
}

int head_output(const cx_model_spec *spec, cx_graph *g, int x, cx_init init)
{
    if (spec->dropout > 0)
        x = cx_dropout(g, "dropout", x, (float)spec->dropout);
    return cx_linear(g, "classifier", x, spec->outputs, init);
}

/* The sticky error of a network that does not end in probabilities, or of smoothing that Dice does not know. */
static int dice_loss(cx_model *m, bool bce, double smoothing, int *target)
{
    cx_graph *g = m->graph;
    if (g->err.status == CX_OK && m->probability < 0)
        (void)cx_fail(&g->err, CX_E_CONFIG, "loss: Dice needs a network that ends in a map of probabilities (unet); take BCE or CE for one that names classes");
    else if (g->err.status == CX_OK && smoothing != 0)
        (void)cx_fail(&g->err, CX_E_CONFIG, "loss: Dice takes no label smoothing; set it to 0, is %g", smoothing);
    if (g->err.status != CX_OK)
        return -1;
    *target = cx_input(g, "target", g->values[m->probability].shape);
    const int dice = cx_dice_loss(g, bce ? "loss.dice" : "loss", m->probability, *target, 1);
    return bce ? cx_add(g, "loss", cx_bce_loss(g, "loss.bce", m->logits, *target, -1, 0), dice) : dice;
}

int cx_model_loss(cx_model *m, cx_loss_kind kind, double smoothing, int *target, int *weights)
{
    cx_graph *g = m->graph;
    *target = *weights = -1;
    if (m->logits < 0)
        return -1;
    if (kind == CX_LOSS_DICE || kind == CX_LOSS_BCE_DICE)
        return dice_loss(m, kind == CX_LOSS_BCE_DICE, smoothing, target);
    cx_shape map = g->values[m->logits].shape, classes = { map.n, map.h, map.w, 1 };
    *target = cx_input(g, "target", kind == CX_LOSS_BCE ? map : classes);
    *weights = cx_param(g, "loss.weight", CX_STATE, (cx_shape){ 1, 1, kind == CX_LOSS_BCE ? 2 : 1, map.c }, CX_INIT_ONE);
    return kind == CX_LOSS_BCE ? cx_bce_loss(g, "loss", m->logits, *target, *weights, (float)smoothing)
                               : cx_ce_loss(g, "loss", m->logits, *target, *weights, (float)smoothing);
}
