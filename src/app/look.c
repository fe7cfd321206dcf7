/* look.c - the explainers of all networks that a film goes through, as one. Depends on look.h. */
#include <stdlib.h>
#include <string.h>
#include "look.h"

static cx_status open_part(cx_look *l, int i, const char *layer, cx_cam_kind kind, cx_error *err)
{
    cx_net *part = cx_net_part(l->net, i);
    const int at = layer ? cx_graph_find(part->model.graph, layer) : -1;
    if (layer && at < 0)
        return cx_fail(err, CX_E_USAGE, "the network has no layer \"%.60s\"", layer);
    TRY(cx_explainer_new(&part->model, part->store, at, l->batch, &l->part[i], err));
    cx_explainer_kind(l->part[i], kind);
    return CX_OK;
}

cx_status cx_look_new(cx_net *net, const char *layer, cx_cam_kind kind, int batch, cx_look *out, cx_error *err)
{
    const size_t films = (size_t)batch, side = (size_t)net->config.data.side;
    *out = (cx_look){ .net = net, .batch = batch };
    for (int i = 0; i < cx_net_parts(net); i++)
        TRY(open_part(out, i, layer, kind, err));
    out->w = cx_explainer_width(out->part[0]);
    out->h = cx_explainer_height(out->part[0]);
    out->x = cx_alloc(films * side * side, (size_t)net->norm.channels * sizeof *out->x);
    out->logits = cx_alloc(films, (size_t)net->n_classes * sizeof *out->logits);       /* of all parts no more than there are classes */
    out->one = cx_alloc(films, (size_t)net->n_classes * sizeof *out->one);
    out->map = cx_alloc(films, (size_t)(out->w * out->h) * sizeof *out->map);
    return out->x && out->logits && out->one && out->map ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory to look at %d films at a time", batch);
}

void cx_look_free(cx_look *l)
{
    for (int i = 0; i < LOOK_PARTS; i++)
        cx_explainer_free(l->part[i]);
    free(l->x);
    free(l->logits);
    free(l->one);
    free(l->map);
    *l = (cx_look){ 0 };
}

cx_status cx_look_films(cx_look *l, int n, double *p, cx_error *err)
{
    const int parts = cx_net_parts(l->net);
    int width = 0, at = 0;
    l->n = 0;
    for (int i = 0; i < parts; i++)
        width += cx_config_outputs(&cx_net_part(l->net, i)->config);
    for (int i = 0; i < parts; i++) {
        const int outputs = cx_config_outputs(&cx_net_part(l->net, i)->config);
        TRY(cx_explainer_logits(l->part[i], l->x, n, l->one, err));
        l->fresh[i] = true;
        for (int f = 0; f < n; f++)
            memcpy(l->logits + f * width + at, l->one + f * outputs, (size_t)outputs * sizeof *l->one);
        at += outputs;
    }
    l->n = n;
    for (int f = 0; f < n; f++)
        cx_net_probabilities(l->net, l->logits + f * width, p + f * l->net->n_classes);
    return CX_OK;
}

cx_status cx_look_maps(cx_look *l, const int *cls, float *map, cx_error *err)
{
    const size_t px = (size_t)(l->w * l->h);
    int *logit = cx_alloc((size_t)l->batch, sizeof *logit);
    float *sign = cx_alloc((size_t)l->batch, sizeof *sign);
    cx_status s = logit && sign ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %d maps", l->n);
    for (int i = 0; s == CX_OK && i < cx_net_parts(l->net); i++) {
        bool asked = false;
        for (int f = 0; f < l->n; f++) {
            const cx_voice v = cx_net_voice(l->net, cls[f]);
            asked |= v.part == i;
            logit[f] = v.part == i ? v.logit : 0;
            sign[f] = v.sign;
        }
        if (!asked)
            continue;
        s = l->fresh[i] ? cx_explainer_maps(l->part[i], logit, sign, l->map, err)
                        : cx_gradcam(l->part[i], l->x, l->n, logit, sign, l->map, NULL, err);
        l->fresh[i] = false;
        for (int f = 0; s == CX_OK && f < l->n; f++)
            if (cx_net_voice(l->net, cls[f]).part == i)
                memcpy(map + (size_t)f * px, l->map + (size_t)f * px, px * sizeof *map);
    }
    free(logit);
    free(sign);
    return s;
}
