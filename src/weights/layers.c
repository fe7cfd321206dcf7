/* layers.c - layers of a file and of a graph, and how their axes stand. Depends on layers.h. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "layers.h"

enum { MOST_TENSORS = 20000 };       /* layers are looked for one after the other */

/* ---- layers of a graph ------------------------------------------------------------------------------------------------- */

bool cx_weights_kept(const cx_graph *g, int value)
{
    bool by_loss = false;
    if (g->values[value].kind != CX_STATE)
        return g->values[value].kind == CX_PARAM;
    for (int k = 0; k < g->n_nodes; k++)
        for (int i = 0; i < g->nodes[k].n_in; i++) {
            if (g->nodes[k].in[i] != value)
                continue;
            if (!(cx_ops[g->nodes[k].op].flags & CX_LOSS))
                return true;
            by_loss = true;
        }
    return !by_loss;
}

int cx_weights_reader(const cx_graph *g, int value, int *part)
{
    for (int k = 0; k < g->n_nodes; k++)
        for (int i = 1; i < g->nodes[k].n_in; i++)
            if (g->nodes[k].in[i] == value) {
                *part = i - 1;
                return k;
            }
    *part = 0;
    return -1;
}

cx_layer_kind cx_node_kind(const cx_graph *g, int node)
{
    switch (node < 0 ? CX_OP_RELU : g->nodes[node].op) {
    case CX_OP_CONV2D: return CX_LAYER_CONV;
    case CX_OP_CONV_TRANSPOSE2D: return CX_LAYER_CONVT;
    case CX_OP_LINEAR: return CX_LAYER_DENSE;
    case CX_OP_BATCH_NORM: return CX_LAYER_NORM;
    default: return CX_LAYER_OTHER;
    }
}

bool cx_is_head(const char *value_name)
{
    static const char *const heads[] = { "classifier.", "fc.", "head." };
    for (int i = 0; i < CX_COUNT(heads); i++)
        if (strncmp(value_name, heads[i], strlen(heads[i])) == 0)
            return true;
    return false;
}

/* ---- layers of a file ---------------------------------------------------------------------------------------------------- */

/* Which part of its layer a tensor is, by its last word; digits (Keras 3) are places. -1: none. */
static int part_of(const char *word, const cx_st_tensor *t)
{
    static const struct { const char *word; int part; } words[] = {
        { "kernel", 0 }, { "gamma", 0 }, { "weight", 0 }, { "bias", 1 }, { "beta", 1 }, { "moving_mean", 2 }, { "running_mean", 2 }, { "moving_variance", 3 },
        { "running_var", 3 }, { "0", 0 }, { "1", 1 }, { "2", 2 }, { "3", 3 },
    };
    if (t->dtype != CX_F32 || t->nd < 1)
        return -1;
    for (int i = 0; i < CX_COUNT(words); i++)
        if (strcmp(word, words[i].word) == 0)
            return words[i].part;
    return -1;
}

static bool says_transposed(const cx_file_layer *l)
{
    static const char word[] = "transpose";
    for (int i = 0; i + (int)sizeof word - 1 <= l->length; i++)
        if (strncasecmp(l->name + i, word, sizeof word - 1) == 0)
            return true;
    return false;
}

static cx_layer_kind kind_of(const cx_st_file *f, const cx_file_layer *l)
{
    const cx_st_tensor *first = l->part[0] < 0 ? NULL : &f->tensors[l->part[0]];
    if (!first)
        return CX_LAYER_OTHER;
    if (first->nd == 4 && first->d[0] * first->d[1] * first->d[2] > 0 && l->part[2] < 0)
        return says_transposed(l) ? CX_LAYER_CONVT : CX_LAYER_CONV;
    if (first->nd == 2 && l->part[2] < 0)
        return CX_LAYER_DENSE;
    return l->part[2] >= 0 && l->part[3] >= 0 ? CX_LAYER_NORM : CX_LAYER_OTHER;
}

static cx_file_layer *layer_named(cx_file_layer *layers, int n, const char *name, int length)
{
    for (int i = n - 1; i >= 0; i--)
        if (layers[i].length == length && strncmp(layers[i].name, name, (size_t)length) == 0)
            return &layers[i];
    return NULL;
}

cx_status cx_file_layers(const cx_st_file *f, cx_file_layer **out, int *n, cx_error *err)
{
    if (f->n > MOST_TENSORS)
        return cx_fail(err, CX_E_DATA, "%d tensors; networks of at most %d are mapped", f->n, MOST_TENSORS);
    cx_file_layer *layers = cx_alloc((size_t)f->n, sizeof *layers);
    if (!layers)
        return cx_fail(err, CX_E_MEMORY, "no memory for %d layers", f->n);
    *n = 0;
    for (int i = 0; i < f->n; i++) {
        const char *name = f->tensors[i].name, *slash = strrchr(name, '/'), *dot = strrchr(name, '.'), *end = slash ? slash : dot;
        const int part = end ? part_of(end + 1, &f->tensors[i]) : -1;
        if (part < 0 || strncmp(name, "optim", 5) == 0)
            continue;
        cx_file_layer *l = layer_named(layers, *n, name, (int)(end - name));
        if (!l) {
            l = &layers[(*n)++];
            *l = (cx_file_layer){ .name = name, .length = (int)(end - name), .part = { -1, -1, -1, -1 } };
        }
        l->part[part] = i;
    }
    for (int i = 0; i < *n; i++)
        layers[i].kind = kind_of(f, &layers[i]);
    *out = layers;
    return CX_OK;
}

/* ---- axes ------------------------------------------------------------------------------------------------------------------ */

/* The map whose flattening a linear layer reads; (1,1,1,inputs) where there is none. */
static cx_shape flattened(const cx_graph *g, int node, cx_shape weight)
{
    const int x = g->nodes[node].in[0], from = g->values[x].node;
    if (from >= 0 && g->nodes[from].op == CX_OP_FLATTEN) {
        const cx_shape map = g->values[g->nodes[from].in[0]].shape;
        return (cx_shape){ weight.n, map.h, map.w, map.c };
    }
    return weight;
}

cx_layout cx_layout_of(const cx_graph *g, int value, cx_axes axes)
{
    int part;
    const int node = cx_weights_reader(g, value, &part);
    const cx_layer_kind kind = cx_node_kind(g, node);
    const bool dense = kind == CX_LAYER_DENSE && part == 0, conv = (kind == CX_LAYER_CONV || kind == CX_LAYER_CONVT) && part == 0;
    const cx_shape own = g->values[value].shape, s = dense ? flattened(g, node, own) : own;
    const int64_t area = s.h * s.w;
    if (axes == CX_AXES_OURS)
        return (cx_layout){ s, { area * s.c, s.w * s.c, s.c, 1 }, 4, { own.n, own.h, own.w, own.c } };
    if (!dense && !conv)
        return (cx_layout){ s, { 0, 0, 0, 1 }, 1, { s.c } };
    if (axes == CX_AXES_TORCH) {
        cx_layout l = { s, { s.c * area, s.w, 1, area }, 4, { s.n, s.c, s.h, s.w } };
        return dense ? (cx_layout){ s, { l.stride[0], s.w, 1, area }, 2, { s.n, area * s.c } } : l;
    }
    cx_layout l = { s, { 1, s.w * s.c * s.n, s.c * s.n, s.n }, 4, { s.h, s.w, s.c, s.n } };
    return dense ? (cx_layout){ s, { 1, l.stride[1], l.stride[2], s.n }, 2, { area * s.c, s.n } } : l;
}

/* Walks over our order; `to` and `from` move by their own steps. */
static void copy(const cx_layout *l, const float *from, float *to, bool inwards)
{
    const cx_shape s = l->s;
    const int64_t *d = l->stride;
    int64_t ours = 0;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t h = 0; h < s.h; h++)
            for (int64_t w = 0; w < s.w; w++)
                for (int64_t c = 0; c < s.c; c++, ours++) {
                    const int64_t file = n * d[0] + h * d[1] + w * d[2] + c * d[3];
                    to[inwards ? ours : file] = from[inwards ? file : ours];
                }
}

void cx_layout_in(const cx_layout *l, const float *file, float *ours) { copy(l, file, ours, true); }

cx_status cx_layout_out(cx_store *s, int value, cx_axes axes, cx_layout *l, float **file, cx_error *err)
{
    const cx_value *v = &cx_store_graph(s)->values[value];
    const size_t n = (size_t)cx_elems(v->shape);
    float *ours = cx_alloc_aligned(n, sizeof *ours);
    *l = cx_layout_of(cx_store_graph(s), value, axes);
    *file = cx_alloc_aligned(n, sizeof **file);
    cx_status status = ours && *file ? cx_store_get(s, value, ours, err) : cx_fail(err, CX_E_MEMORY, "no memory for %s", v->name);
    if (status == CX_OK)
        copy(l, ours, *file, false);
    else {
        free(*file);
        *file = NULL;
    }
    free(ours);
    return status;
}

/* ---- names ----------------------------------------------------------------------------------------------------------------- */

/* What wrappers put in front (DataParallel, modules that hold the network, whole checkpoints). */
static const char *unwrapped(const char *name)
{
    static const char *const wrappers[] = { "module.", "model.", "net.", "network.", "backbone.", "encoder.", "state_dict.", "densenet.", "densenet121.",
                                            "densenet169.", "densenet201." };
    for (int i = 0; i < CX_COUNT(wrappers);) {
        const size_t n = strlen(wrappers[i]);
        const bool there = strncmp(name, wrappers[i], n) == 0;
        name += there ? n : 0;
        i = there ? 0 : i + 1;
    }
    return name;
}

void cx_torch_name(const char *name, char out[CX_NAME_MAX])
{
    size_t n = 0;
    name = unwrapped(name);
    const bool layer = strstr(name, ".denselayer") != NULL, head = strncmp(name, "classifier.", 11) == 0;
    for (const char *c = name; *c && n + 1 < CX_NAME_MAX; c++) {
        /* torchvision before 0.3 wrote "norm.1" for "norm1"; Sequential(Linear, Sigmoid) is "classifier.0" */
        const bool split = layer && *c == '.' && isdigit((unsigned char)c[1]) && n >= 4;
        if (split && (strncmp(out + n - 4, "norm", 4) == 0 || strncmp(out + n - 4, "conv", 4) == 0))
            continue;
        if (head && c == name + 10 && isdigit((unsigned char)c[1]) && c[2] == '.')
            c += 2;
        out[n++] = *c;
    }
    out[n] = 0;
}

bool cx_keras_densenet_layer(const char *node, char out[CX_NAME_MAX])
{
    typedef struct { const char *ours, *keras; } name;
    static const name fixed[] = { { "features.conv0", "conv1/conv" }, { "features.norm0", "conv1/bn" }, { "features.norm5", "bn" } };
    static const name in_layer[] = { { "norm1", "0_bn" }, { "conv1", "1_conv" }, { "norm2", "1_bn" }, { "conv2", "2_conv" } };
    int block, layer, end = 0;
    for (int i = 0; i < CX_COUNT(fixed); i++)
        if (strcmp(node, fixed[i].ours) == 0)
            return snprintf(out, CX_NAME_MAX, "%s", fixed[i].keras) > 0;
    if (sscanf(node, "features.denseblock%d.denselayer%d.%n", &block, &layer, &end) == 2 && end > 0)
        for (int i = 0; i < CX_COUNT(in_layer); i++)
            if (strcmp(node + end, in_layer[i].ours) == 0)
                return snprintf(out, CX_NAME_MAX, "conv%d_block%d_%s", block + 1, layer, in_layer[i].keras) > 0;
    end = 0;
    if (sscanf(node, "features.transition%d.%n", &block, &end) == 1 && end > 0 && (strcmp(node + end, "norm") == 0 || strcmp(node + end, "conv") == 0))
        return snprintf(out, CX_NAME_MAX, "pool%d_%s", block + 1, node[end] == 'n' ? "bn" : "conv") > 0;
    return false;
}

const char *cx_keras_part(cx_layer_kind kind, int part)
{
    static const char *const norm[CX_PARTS] = { "gamma", "beta", "moving_mean", "moving_variance" }, *const other[CX_PARTS] = { "kernel", "bias", "", "" };
    return kind == CX_LAYER_NORM ? norm[part] : other[part];
}

bool cx_is_keras_file(const cx_st_file *f, const cx_file_layer *layers, int n)
{
    const char *format = cx_st_meta_get(f, "format");
    if (format && strncmp(format, "keras", 5) == 0)
        return true;
    for (int i = 0; i < n; i++)
        if (strchr(layers[i].name, '/'))
            return true;
    return false;
}
