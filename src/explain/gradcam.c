/* gradcam.c - Grad-CAM and HiResCAM through a plan whose backward pass starts from one logit. Depends on explain.h. */
#include <stdlib.h>
#include <string.h>
#include "cxnet/explain.h"

struct cx_explainer {
    cx_plan *plan;
    int input, layer, logits;
    int batch, outputs;
    int n;                        /* films of the last forward pass */
    cx_cam_kind kind;
    cx_shape in, map;             /* of one film */
    float *x;                     /* [batch, input], a partial batch filled up with zeros */
    float *z, *seed;              /* [batch, outputs] */
};

static cx_status check_layer(const cx_graph *g, int layer, cx_error *err)
{
    if (layer < 0 || layer >= g->n_values)
        return cx_fail(err, CX_E_USAGE, "layer %d: the network has values 0 to %d", layer, g->n_values - 1);
    const cx_value *v = &g->values[layer];
    if (v->kind != CX_ACT)
        return cx_fail(err, CX_E_USAGE, "\"%s\" is %s, not a layer's output; Grad-CAM wants a convolution's map", v->name,
                       v->kind == CX_INPUT ? "an input" : "a weight");
    if (v->shape.h * v->shape.w < 2)
        return cx_fail(err, CX_E_USAGE, "\"%s\" is a single pixel, so it cannot show a place; choose an earlier layer", v->name);
    return CX_OK;
}

static cx_status prepare(cx_explainer *e, const cx_model *model, cx_store *store, cx_error *err)
{
    const cx_graph *g = model->graph;
    e->in = g->values[e->input].shape;
    e->map = g->values[e->layer].shape;
    e->outputs = (int)g->values[e->logits].shape.c;
    size_t batch = (size_t)e->batch;
    e->x = cx_alloc(batch, (size_t)cx_elems(e->in) * sizeof(float));
    e->z = cx_alloc(batch, (size_t)e->outputs * sizeof(float));
    e->seed = cx_alloc(batch, (size_t)e->outputs * sizeof(float));
    if (!e->x || !e->z || !e->seed)
        return cx_fail(err, CX_E_MEMORY, "no memory to explain %d films at a time; use fewer", e->batch);
    int keep[] = { e->layer, e->logits };
    cx_plan_opts opts = { .batch = e->batch, .backward = true, .output = e->logits, .keep = keep, .n_keep = 2 };
    TRY(cx_plan_new(store, &opts, &e->plan, err));
    if (!cx_plan_grad(e->plan, e->layer).p)
        return cx_fail(err, CX_E_USAGE, "the logits do not depend on \"%s\"; choose a layer before them", g->values[e->layer].name);
    return CX_OK;
}

cx_status cx_explainer_new(const cx_model *model, cx_store *store, int layer, int batch, cx_explainer **out, cx_error *err)
{
    *out = NULL;
    if (batch < 1)
        return cx_fail(err, CX_E_USAGE, "explaining %d films at a time; wanted at least 1", batch);
    layer = layer == -1 ? model->features : layer;
    TRY(check_layer(model->graph, layer, err));
    cx_explainer *e = cx_alloc(1, sizeof *e);
    if (!e)
        return cx_fail(err, CX_E_MEMORY, "no memory to explain a network");
    e->input = model->input;
    e->logits = model->logits;
    e->layer = layer;
    e->batch = batch;
    cx_status s = prepare(e, model, store, err);
    if (s != CX_OK)
        cx_explainer_free(e);
    else
        *out = e;
    return s;
}

void cx_explainer_free(cx_explainer *e)
{
    if (!e)
        return;
    cx_plan_free(e->plan);
    free(e->x);
    free(e->z);
    free(e->seed);
    free(e);
}

void cx_explainer_kind(cx_explainer *e, cx_cam_kind kind)
{
    e->kind = kind;
}

int cx_explainer_width(const cx_explainer *e)
{
    return (int)e->map.w;
}

int cx_explainer_height(const cx_explainer *e)
{
    return (int)e->map.h;
}

cx_status cx_explainer_logits(cx_explainer *e, const float *x, int n, float *logits, cx_error *err)
{
    if (n < 1 || n > e->batch)
        return cx_fail(err, CX_E_USAGE, "%d films to explain at once; wanted 1 to %d", n, e->batch);
    size_t film = (size_t)cx_elems(e->in);
    memcpy(e->x, x, (size_t)n * film * sizeof(float));
    memset(e->x + (size_t)n * film, 0, (size_t)(e->batch - n) * film * sizeof(float));
    e->n = 0;
    TRY(cx_plan_set(e->plan, e->input, e->x, err));
    TRY(cx_plan_forward(e->plan, 0, 0, err));
    TRY(cx_plan_get(e->plan, e->logits, e->z, err));
    if (logits)
        memcpy(logits, e->z, (size_t)n * (size_t)e->outputs * sizeof(float));
    e->n = n;
    return CX_OK;
}

cx_status cx_explainer_maps(cx_explainer *e, const int *cls, const float *sign, float *map, cx_error *err)
{
    if (e->n < 1)
        return cx_fail(err, CX_E_USAGE, "no films have been shown yet: cx_explainer_logits comes first");
    memset(e->seed, 0, (size_t)e->batch * (size_t)e->outputs * sizeof(float));
    for (int i = 0; i < e->n; i++) {
        if (cls[i] < 0 || cls[i] >= e->outputs)
            return cx_fail(err, CX_E_USAGE, "logit %d is to be explained; the network has 0 to %d", cls[i], e->outputs - 1);
        e->seed[i * e->outputs + cls[i]] = sign ? sign[i] : 1;
    }
    TRY(cx_plan_set_grad(e->plan, e->logits, e->seed, err));
    TRY(cx_plan_backward(e->plan, err));
    return cx_plan_cam(e->plan, e->layer, e->kind == CX_HIRESCAM, e->n, map, err);
}

cx_status cx_gradcam(cx_explainer *e, const float *x, int n, const int *cls, const float *sign, float *map, float *logits, cx_error *err)
{
    TRY(cx_explainer_logits(e, x, n, logits, err));
    return cx_explainer_maps(e, cls, sign, map, err);
}
