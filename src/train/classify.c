/* classify.c - films through a trained network that names classes. Depends on run.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

enum { PARTS = 2 };
struct cx_classifier {
    cx_net *net;
    int batch, width;                /* logits of a film, of all parts */
    cx_plan *plan[PARTS];
    float *logits;                   /* [batch, those of a part] */
    float *film;                     /* [batch, width] */
};

static int outputs_of(cx_net *n, int part) { return cx_config_outputs(&cx_net_part(n, part)->config); }

static cx_status make(cx_classifier *c, cx_error *err)
{
    if (!c->net->n_classes)
        return cx_fail(err, CX_E_USAGE, "this network names no class, it marks pixels; look at films by cxnet segment");
    for (int i = 0; i < cx_net_parts(c->net); i++) {
        const cx_net *part = cx_net_part(c->net, i);
        cx_plan_opts o = cx_config_plan(&part->config);
        o.batch = c->batch;
        o.output = part->model.logits;
        TRY(cx_plan_new(part->store, &o, &c->plan[i], err));
        c->width += outputs_of(c->net, i);
    }
    c->logits = cx_alloc((size_t)c->batch * (size_t)c->width, sizeof *c->logits);
    c->film = cx_alloc((size_t)c->batch * (size_t)c->width, sizeof *c->film);
    return c->logits && c->film ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory for the answers of %d films", c->batch);
}

cx_status cx_classifier_new(cx_net *net, int batch, cx_classifier **out, cx_error *err)
{
    cx_classifier *c = *out = cx_alloc(1, sizeof *c);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    c->net = net;
    c->batch = batch;
    const cx_status s = make(c, err);
    if (s != CX_OK) {
        cx_classifier_free(c);
        *out = NULL;
    }
    return s;
}

void cx_classifier_free(cx_classifier *c)
{
    if (!c)
        return;
    for (int i = 0; i < PARTS; i++)
        cx_plan_free(c->plan[i]);
    free(c->logits);
    free(c->film);
    free(c);
}

cx_status cx_classifier_run(cx_classifier *c, const float *x, int n, double *p, cx_error *err)
{
    for (int i = 0, at = 0; i < cx_net_parts(c->net); i++) {
        const cx_net *part = cx_net_part(c->net, i);
        const int outputs = outputs_of(c->net, i);
        TRY(cx_plan_set(c->plan[i], part->model.input, x, err));
        TRY(cx_plan_forward(c->plan[i], 0, 0, err));
        TRY(cx_plan_get(c->plan[i], part->model.logits, c->logits, err));
        for (int f = 0; f < n; f++)
            memcpy(c->film + (size_t)f * (size_t)c->width + at, c->logits + (size_t)f * (size_t)outputs, (size_t)outputs * sizeof *c->film);
        at += outputs;
    }
    for (int f = 0; f < n; f++) {
        const float *z = c->film + (size_t)f * (size_t)c->width;
        for (int k = 0; k < c->width; k++)
            if (!isfinite(z[k]))
                return cx_fail(err, CX_E_NAN, "film %d of the batch: the network answers %g; its weights are out of range", f + 1, (double)z[k]);
        cx_net_probabilities(c->net, z, p + (size_t)f * (size_t)c->net->n_classes);
    }
    return CX_OK;
}
