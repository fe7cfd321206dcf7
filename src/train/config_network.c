/* config_network.c - the network and the plan that an experiment describes. Depends on cohort.h. */
#include <string.h>
#include "cohort.h"

int cx_config_outputs(const cx_config *c)
{
    const cx_task task = cx_task_of(c);
    return task == TASK_BINARY || task == TASK_SEGMENTATION || !strcmp(c->data.task, "hierarchical") ? 1 : (int)c->data.classes.n;
}

void cx_config_model(const cx_config *c, int outputs, cx_model_spec *spec)
{
    *spec = (cx_model_spec){ .side = c->data.side, .channels = c->data.channels, .hidden = c->model.hidden, .dropout = c->model.dropout, .outputs = outputs,
                             .norm_eps = c->model.norm_eps, .no_final_relu = !c->model.final_relu };
    snprintf(spec->arch, sizeof spec->arch, "%s", c->model.arch);
    if (!strcmp(c->model.arch, "unet")) {
        spec->base = c->model.base;
        spec->depth = c->model.depth;
        spec->norm = c->model.norm;
    }
}

static cx_loss_kind loss_of(const cx_config *c)
{
    const cx_task task = cx_task_of(c);
    if (task != TASK_SEGMENTATION)
        return task == TASK_MULTICLASS && cx_config_outputs(c) > 1 ? CX_LOSS_CE : CX_LOSS_BCE;
    return !strcmp(c->loss.kind, "bce") ? CX_LOSS_BCE : !strcmp(c->loss.kind, "dice") ? CX_LOSS_DICE : CX_LOSS_BCE_DICE;
}

cx_status cx_config_network(const cx_config *c, cx_model *out, int *loss, int *target, int *weights, cx_error *err)
{
    cx_model_spec spec;
    cx_config_model(c, cx_config_outputs(c), &spec);
    TRY(cx_model_new(&spec, out, err));
    for (unsigned i = 0; i < c->model.freeze.n; i++)
        if (cx_graph_freeze(out->graph, c->model.freeze.item[i]) == 0)
            return cx_fail(err, CX_E_CONFIG, "model.freeze: no parameter of %s matches \"%s\"; `cxnet plan` lists the names", c->model.arch,
                c->model.freeze.item[i]);
    *loss = cx_model_loss(out, loss_of(c), c->loss.label_smoothing, target, weights);
    return cx_graph_check(out->graph, err);
}

cx_plan_opts cx_config_plan(const cx_config *c)
{
    cx_plan_opts o = { .lean = !strcmp(c->plan.memory, "lean"), .bf16 = !strcmp(c->plan.precision, "bf16"),
                       .moments = strcmp(c->optim.kind, "sgd") ? 2 : c->optim.momentum > 0 };
    cx_passes_parse(c->plan.fuse, &o.skip, NULL);      /* a loaded configuration has passed this check */
    return o;
}
