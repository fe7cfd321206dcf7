/* export_onnx.c - a network as ONNX (onnx.proto, IR version 8, opset 17): one node for each operator, weights in PyTorch's axes, NCHW. Depends on layers.h. */
#include <stdlib.h>
#include <string.h>
#include "layers.h"
#include "protobuf.h"

enum { IR_VERSION = 8, OPSET = 17, TYPE_FLOAT = 1, ATTR_FLOAT = 1, ATTR_INT = 2, ATTR_INTS = 7 };
/* Field numbers of onnx.proto. */
enum { MODEL_IR = 1, MODEL_PRODUCER = 2, MODEL_PRODUCER_VERSION = 3, MODEL_GRAPH = 7, MODEL_OPSET = 8, MODEL_META = 14, OPSET_DOMAIN = 1, OPSET_VERSION = 2,
       GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12, NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4,
       NODE_ATTR = 5, ATTR_NAME = 1, ATTR_F = 2, ATTR_I = 3, ATTR_LIST = 8, ATTR_TYPE = 20, TENSOR_DIM = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9,
       INFO_NAME = 1, INFO_TYPE = 2, TYPE_TENSOR = 1, TENSOR_ELEM = 1, TENSOR_SHAPE = 2, SHAPE_DIM = 1, DIM_VALUE = 1, DIM_PARAM = 2, META_KEY = 1,
       META_VALUE = 2 };

typedef struct {
    const cx_graph *g;
    cx_buf graph;
    char (*name)[CX_NAME_MAX];      /* [values] what a value is called there: a dropout's output is its input */
    bool *flat;                     /* [values] (N, F) instead of (N, C, H, W) */
} writer;

/* ---- attributes -------------------------------------------------------------------------------------------------------- */

static void put_int(cx_buf *node, const char *name, int64_t v)
{
    cx_buf a = { 0 };
    pb_text(&a, ATTR_NAME, name);
    pb_int(&a, ATTR_I, v);
    pb_int(&a, ATTR_TYPE, ATTR_INT);
    pb_message(node, NODE_ATTR, &a);
}

static void put_float(cx_buf *node, const char *name, float v)
{
    cx_buf a = { 0 };
    pb_text(&a, ATTR_NAME, name);
    pb_float(&a, ATTR_F, v);
    pb_int(&a, ATTR_TYPE, ATTR_FLOAT);
    pb_message(node, NODE_ATTR, &a);
}

static void put_ints(cx_buf *node, const char *name, const int64_t *v, int n)
{
    cx_buf a = { 0 };
    pb_text(&a, ATTR_NAME, name);
    for (int i = 0; i < n; i++)
        pb_int(&a, ATTR_LIST, v[i]);
    pb_int(&a, ATTR_TYPE, ATTR_INTS);
    pb_message(node, NODE_ATTR, &a);
}

/* kernel_shape, strides and pads (top, left, bottom, right) of a window. */
static void put_window(cx_buf *node, int64_t kh, int64_t kw, int stride, const int64_t pads[4])
{
    put_ints(node, "kernel_shape", (const int64_t[]){ kh, kw }, 2);
    put_ints(node, "strides", (const int64_t[]){ stride, stride }, 2);
    put_ints(node, "pads", pads, 4);
}

/* ---- operators ---------------------------------------------------------------------------------------------------------- */

static void window_of(const writer *w, const cx_node *k, cx_buf *b)
{
    const cx_shape s = k->n_in > 1 ? w->g->values[k->in[1]].shape : (cx_shape){ 0 };
    if (k->op == CX_OP_CONV2D) {
        const cx_conv_attr *a = (const void *)k->attr.bytes;
        put_window(b, s.h, s.w, a->stride, (const int64_t[]){ a->pad_top, a->pad_left, a->pad_bottom, a->pad_right });
    } else if (k->op == CX_OP_CONV_TRANSPOSE2D) {
        const cx_convt_attr *a = (const void *)k->attr.bytes;
        put_window(b, s.h, s.w, a->stride, (const int64_t[]){ a->pad, a->pad, a->pad, a->pad });
    } else {
        const cx_pool_attr *a = (const void *)k->attr.bytes;
        put_window(b, a->kernel, a->kernel, a->stride, (const int64_t[]){ a->pad, a->pad, a->pad, a->pad });
        if (k->op == CX_OP_AVG_POOL)
            put_int(b, "count_include_pad", a->count_pad);
    }
}

static void attributes(const writer *w, const cx_node *k, cx_buf *b)
{
    switch (k->op) {
    case CX_OP_CONV2D: case CX_OP_CONV_TRANSPOSE2D: case CX_OP_MAX_POOL: case CX_OP_AVG_POOL: window_of(w, k, b); break;
    case CX_OP_LINEAR: put_int(b, "transB", 1); break;
    case CX_OP_BATCH_NORM: put_float(b, "epsilon", ((const cx_norm_attr *)(const void *)k->attr.bytes)->eps); break;
    case CX_OP_LEAKY_RELU: put_float(b, "alpha", ((const cx_leaky_attr *)(const void *)k->attr.bytes)->slope); break;
    case CX_OP_SOFTMAX: case CX_OP_CONCAT: case CX_OP_FLATTEN: put_int(b, "axis", 1); break;
    default: break;
    }
}

static const char *operator_of(cx_op_id op)
{
    static const struct { cx_op_id op; const char *name; } names[] = {
        { CX_OP_CONV2D, "Conv" }, { CX_OP_CONV_TRANSPOSE2D, "ConvTranspose" }, { CX_OP_LINEAR, "Gemm" }, { CX_OP_BATCH_NORM, "BatchNormalization" },
        { CX_OP_RELU, "Relu" }, { CX_OP_LEAKY_RELU, "LeakyRelu" }, { CX_OP_SIGMOID, "Sigmoid" }, { CX_OP_SOFTMAX, "Softmax" }, { CX_OP_MAX_POOL, "MaxPool" },
        { CX_OP_AVG_POOL, "AveragePool" }, { CX_OP_GLOBAL_AVG_POOL, "GlobalAveragePool" }, { CX_OP_CONCAT, "Concat" }, { CX_OP_ADD, "Add" },
        { CX_OP_FLATTEN, "Flatten" },
    };
    for (int i = 0; i < CX_COUNT(names); i++)
        if (names[i].op == op)
            return names[i].name;
    return NULL;
}

/* x as (N, F), through a Flatten of its own where nothing has made it so. Our linear weights behind a flattened map are written in CHW order, so that
 * Flatten of an NCHW map feeds them as it is. */
static void put_flatten(writer *w, int value)
{
    char flat[CX_NAME_MAX];
    cx_buf b = { 0 };
    if (w->flat[value])
        return;
    snprintf(flat, sizeof flat, "%.80s.flat", w->name[value]);
    pb_text(&b, NODE_INPUT, w->name[value]);
    pb_text(&b, NODE_OUTPUT, flat);
    pb_text(&b, NODE_NAME, flat);
    pb_text(&b, NODE_OP, "Flatten");
    put_int(&b, "axis", 1);
    pb_message(&w->graph, GRAPH_NODE, &b);
    snprintf(w->name[value], CX_NAME_MAX, "%s", flat);
    w->flat[value] = true;
}

static cx_status put_node(writer *w, const cx_node *k, cx_error *err)
{
    const char *op = operator_of(k->op);
    cx_buf b = { 0 };
    if (k->op == CX_OP_DROPOUT) {       /* nothing at inference */
        memcpy(w->name[k->out[0]], w->name[k->in[0]], CX_NAME_MAX);
        w->flat[k->out[0]] = w->flat[k->in[0]];
        return CX_OK;
    }
    if (!op)
        return cx_fail(err, CX_E_UNSUPPORTED, "onnx: %s: operator %s has no form there", k->name, cx_ops[k->op].name);
    if (k->op == CX_OP_LINEAR)
        put_flatten(w, k->in[0]);
    for (int i = 0; i < k->n_in; i++)
        pb_text(&b, NODE_INPUT, k->in[i] < 0 ? "" : w->name[k->in[i]]);
    pb_text(&b, NODE_OUTPUT, w->name[k->out[0]]);
    pb_text(&b, NODE_NAME, k->name);
    pb_text(&b, NODE_OP, op);
    attributes(w, k, &b);
    pb_message(&w->graph, GRAPH_NODE, &b);
    w->flat[k->out[0]] = k->op == CX_OP_LINEAR || k->op == CX_OP_FLATTEN || w->flat[k->in[0]];
    return CX_OK;
}

/* ---- the graph ------------------------------------------------------------------------------------------------------------ */

static cx_status put_weight(writer *w, cx_store *s, int value, cx_error *err)
{
    cx_layout l;
    cx_buf t = { 0 };
    float *file;
    TRY(cx_layout_out(s, value, CX_AXES_TORCH, &l, &file, err));
    for (int i = 0; i < l.nd; i++)
        pb_int(&t, TENSOR_DIM, l.d[i]);
    pb_int(&t, TENSOR_TYPE, TYPE_FLOAT);
    pb_text(&t, TENSOR_NAME, w->name[value]);
    pb_bytes(&t, TENSOR_RAW, file, (size_t)cx_elems(w->g->values[value].shape) * sizeof *file);       /* little-endian, as this machine */
    pb_message(&w->graph, GRAPH_INITIALIZER, &t);
    free(file);
    return CX_OK;
}

/* d[0] is N whatever it says. */
static void put_info(writer *w, int field, const char *name, const int64_t *d, int nd)
{
    cx_buf shape = { 0 }, tensor = { 0 }, type = { 0 }, info = { 0 };
    for (int i = 0; i < nd; i++) {
        cx_buf dim = { 0 };
        if (i == 0)
            pb_text(&dim, DIM_PARAM, "N");
        else
            pb_int(&dim, DIM_VALUE, d[i]);
        pb_message(&shape, SHAPE_DIM, &dim);
    }
    pb_int(&tensor, TENSOR_ELEM, TYPE_FLOAT);
    pb_message(&tensor, TENSOR_SHAPE, &shape);
    pb_message(&type, TYPE_TENSOR, &tensor);
    pb_text(&info, INFO_NAME, name);
    pb_message(&info, INFO_TYPE, &type);
    pb_message(&w->graph, field, &info);
}

static void put_output(writer *w, int value)
{
    const cx_shape s = w->g->values[value].shape;
    put_info(w, GRAPH_OUTPUT, w->name[value], (const int64_t[]){ 0, s.c, s.h, s.w }, w->flat[value] ? 2 : 4);
}

static cx_status put_graph(writer *w, const cx_weights_net *n, cx_error *err)
{
    const cx_shape in = w->g->values[n->model.input].shape;
    for (int v = 0; v < w->g->n_values; v++)
        snprintf(w->name[v], CX_NAME_MAX, "%s", w->g->values[v].name);
    snprintf(w->name[n->model.input], CX_NAME_MAX, "films");
    snprintf(w->name[n->model.logits], CX_NAME_MAX, "logits");
    pb_text(&w->graph, GRAPH_NAME, n->card.spec.arch);
    put_info(w, GRAPH_INPUT, "films", (const int64_t[]){ 0, in.c, in.h, in.w }, 4);
    for (int v = 0; v < w->g->n_values; v++)
        if (cx_weights_kept(w->g, v))
            TRY(put_weight(w, n->store, v, err));
    for (int k = 0; k < w->g->n_nodes; k++)
        TRY(put_node(w, &w->g->nodes[k], err));
    put_output(w, n->model.logits);
    if (n->model.probability >= 0)
        put_output(w, n->model.probability);
    return CX_OK;
}

/* ---- the model ------------------------------------------------------------------------------------------------------------ */

static void put_meta(cx_buf *model, const char *key, const char *value)
{
    cx_buf b = { 0 };
    pb_text(&b, META_KEY, key);
    pb_text(&b, META_VALUE, value);
    pb_message(model, MODEL_META, &b);
}

static const char *words_of(const char *normalise)
{
    static const struct { const char *name, *words; } known[] = {
        { "imagenet", "value = (grey / 255 - mean) / std with mean .485 .456 .406 and std .229 .224 .225 for R, G, B" },
        { "unit", "value = grey / 255" },
        { "none", "value = grey" },
        { "signed", "value = (grey - 127) / 127" },
        { "xrv", "value = grey / 255 * 2048 - 1024" },
    };
    for (int i = 0; i < CX_COUNT(known); i++)
        if (strcmp(known[i].name, normalise) == 0)
            return known[i].words;
    return "not known how grey becomes value";
}

/* What is done to a film before its greys become values. Owned by the caller; NULL when out of memory. */
static char *film_words(const cx_weights_card *c)
{
    cx_buf b = { 0 };
    for (int i = 0; i < c->n_stages; i++)
        cx_buf_printf(&b, "%s%s", i ? ", " : "", c->stages[i]);
    char *text = c->n_stages == 0 ? cx_strdup("not known how a film is brought to size") : b.failed ? NULL : strcmp(b.data, "resize") ?
        cx_sprintf("film as 8-bit grey through cxnet's preprocess.stages [%s]", b.data) : cx_strdup("film as 8-bit grey, resized as PIL's BILINEAR does");
    cx_buf_free(&b);
    return text;
}

static cx_status put_model(cx_buf *model, const cx_weights_net *n, cx_buf *graph, cx_error *err)
{
    cx_st_meta meta[CX_CARD_META];
    const cx_model_spec *s = &n->card.spec;
    cx_buf opset = { 0 };
    TRY(cx_weights_card_write(&n->card, meta, err));
    char *film = film_words(&n->card), *how = film ? cx_sprintf("%s, to %d x %d px; %s; %d channel%s, one grey repeated where stages make no more; NCHW", film,
                                                                s->side, s->side, words_of(n->card.normalise), s->channels, s->channels == 1 ? "" : "s") : NULL;
    free(film);
    pb_int(model, MODEL_IR, IR_VERSION);
    pb_text(model, MODEL_PRODUCER, "cxnet");
    pb_text(model, MODEL_PRODUCER_VERSION, CX_VERSION);
    pb_message(model, MODEL_GRAPH, graph);
    pb_text(&opset, OPSET_DOMAIN, "");
    pb_int(&opset, OPSET_VERSION, OPSET);
    pb_message(model, MODEL_OPSET, &opset);
    for (int i = 0; i < CX_CARD_META; i++)
        put_meta(model, meta[i].key, meta[i].value);
    put_meta(model, "preprocessing", how ? how : "");
    cx_weights_card_unwrite(meta);
    const bool whole = how && !model->failed;
    free(how);
    return whole ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for an ONNX model");
}

cx_status cx_weights_export_onnx(const cx_weights_net *n, const char *path, cx_error *err)
{
    writer w = { .g = n->model.graph };
    cx_buf model = { 0 };
    w.name = cx_alloc((size_t)w.g->n_values, sizeof *w.name);
    w.flat = cx_alloc((size_t)w.g->n_values, sizeof *w.flat);
    cx_status s = w.name && w.flat ? put_graph(&w, n, err) : cx_fail(err, CX_E_MEMORY, "%s: no memory for its names", path);
    if (s == CX_OK)
        s = put_model(&model, n, &w.graph, err);
    if (s == CX_OK)
        s = cx_file_write(path, model.data, model.len, err);
    free(w.name);
    free(w.flat);
    cx_buf_free(&w.graph);
    cx_buf_free(&model);
    return s;
}
