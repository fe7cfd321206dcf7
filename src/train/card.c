/* card.c - what a run's weight files say about themselves, and whether a file's words agree with a configuration. Depends on run.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

cx_status cx_card_of(const cx_config *c, cx_weights_card *out, cx_error *err)
{
    cx_spec *classes;
    int n;
    *out = (cx_weights_card){ 0 };
    cx_config_model(c, cx_config_outputs(c), &out->spec);
    snprintf(out->normalise, sizeof out->normalise, "%s", c->data.normalise);
    if (cx_task_of(c) == TASK_SEGMENTATION)         /* one map, which has no names */
        return CX_OK;
    TRY(cx_specs_parse(&c->data.classes, '=', &classes, &n, err));
    out->classes = cx_alloc((size_t)n, sizeof *out->classes);
    bool whole = out->classes != NULL;
    for (int k = 0; whole && k < n; k++, out->n_classes += whole)
        whole = (out->classes[k] = cx_strdup(classes[k].name)) != NULL;
    cx_specs_free(classes, n);
    if (whole)
        return CX_OK;
    cx_weights_card_free(out);
    return cx_fail(err, CX_E_MEMORY, "out of memory for %d class names", n);
}

static cx_status differ(const char *key, const char *file, const char *here, cx_error *err)
{
    return cx_fail(err, CX_E_CONFIG, "these weights were made with %s %s, the configuration says %s; set %s=%s, or take other weights", key, file, here, key,
                   file);
}

static cx_status differ_number(const char *key, double file, double here, cx_error *err)
{
    char a[32], b[32];
    snprintf(a, sizeof a, "%.9g", file);
    snprintf(b, sizeof b, "%.9g", here);
    return differ(key, a, b, err);
}

static cx_status compare(const cx_config *c, const cx_weights_card *card, cx_error *err)
{
    const cx_model_spec *s = &card->spec;
    const double eps = s->norm_eps > 0 ? s->norm_eps : 1e-5;
    const bool densenet = strncmp(s->arch, "densenet", 8) == 0, unet = strcmp(s->arch, "unet") == 0;
    if (strcmp(s->arch, c->model.arch) != 0)
        return differ("model.arch", s->arch, c->model.arch, err);
    if (s->channels != c->data.channels)
        return differ_number("data.channels", s->channels, c->data.channels, err);
    if (*card->normalise && strcmp(card->normalise, c->data.normalise) != 0)
        return differ("data.normalise", card->normalise, c->data.normalise, err);
    if (densenet && s->hidden != c->model.hidden)
        return differ_number("model.hidden", s->hidden, c->model.hidden, err);
    if (densenet && s->no_final_relu != !c->model.final_relu)
        return differ("model.final_relu", s->no_final_relu ? "false" : "true", c->model.final_relu ? "true" : "false", err);
    if (unet && s->norm != c->model.norm)
        return differ("model.norm", s->norm ? "true" : "false", c->model.norm ? "true" : "false", err);
    if (unet && s->base && s->base != c->model.base)
        return differ_number("model.base", s->base, c->model.base, err);
    if (unet && s->depth && s->depth != c->model.depth)
        return differ_number("model.depth", s->depth, c->model.depth, err);
    if ((densenet || (unet && s->norm)) && fabs(eps - c->model.norm_eps) > 1e-9)
        return differ_number("model.norm_eps", eps, c->model.norm_eps, err);
    return CX_OK;
}

cx_status cx_card_agrees(const cx_config *c, const cx_st_file *f, cx_error *err)
{
    cx_weights_card card;
    if (!cx_weights_has_card(f))
        return CX_OK;
    TRY(cx_weights_card_read(f, &card, err));
    const cx_status s = compare(c, &card, err);
    cx_weights_card_free(&card);
    return s;
}
