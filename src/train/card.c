/* card.c - what a run's weight files say about themselves, and whether a file's words agree with a configuration. Depends on run.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

static cx_status copy_texts(char *const *from, int n, char ***to, int *copied, cx_error *err)
{
    *to = cx_alloc((size_t)n, sizeof **to);
    for (; *to && *copied < n; ++*copied)
        if (!((*to)[*copied] = cx_strdup(from[*copied])))
            break;
    return *to && *copied == n ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory for %d names", n);
}

/* Of a segmentation, one map, which has no names. */
static cx_status class_names(const cx_config *c, cx_weights_card *out, cx_error *err)
{
    cx_spec *classes;
    int n;
    if (cx_task_of(c) == TASK_SEGMENTATION)
        return CX_OK;
    TRY(cx_specs_parse(&c->data.classes, '=', &classes, &n, err));
    char **name = cx_alloc((size_t)n, sizeof *name);
    for (int k = 0; name && k < n; k++)
        name[k] = classes[k].name;
    const cx_status s = name ? copy_texts(name, n, &out->classes, &out->n_classes, err) : cx_fail(err, CX_E_MEMORY, "out of memory for %d names", n);
    free(name);
    cx_specs_free(classes, n);
    return s;
}

cx_status cx_card_of(const cx_config *c, cx_weights_card *out, cx_error *err)
{
    *out = (cx_weights_card){ 0 };
    cx_config_model(c, cx_config_outputs(c), &out->spec);
    snprintf(out->normalise, sizeof out->normalise, "%s", c->data.normalise);
    snprintf(out->task, sizeof out->task, "%s", c->data.task);
    cx_status s = copy_texts(c->preprocess.stages.item, (int)c->preprocess.stages.n, &out->stages, &out->n_stages, err);
    if (s == CX_OK)
        s = class_names(c, out, err);
    if (s != CX_OK)
        cx_weights_card_free(out);
    return s;
}

/* A configuration for a file that is all there is of a network: defaults, and what its card says. Texts of *c are the caller's, also after a failure. */
static cx_status set_text(char **to, const char *text, cx_error *err)
{
    char *copy = cx_strdup(text);
    if (!copy)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    free(*to);
    *to = copy;
    return CX_OK;
}

static cx_status set_list(cx_list *to, char *const *item, int n, cx_error *err)
{
    for (unsigned i = 0; i < to->n; i++)
        free(to->item[i]);
    free(to->item);
    *to = (cx_list){ 0 };
    int copied = 0;
    const cx_status s = copy_texts(item, n, &to->item, &copied, err);
    to->n = (unsigned)copied;
    return s;
}

cx_status cx_card_config(const cx_weights_card *card, cx_config *c, cx_error *err)
{
    const cx_model_spec *s = &card->spec;
    if (!*card->task)
        return cx_fail(err, CX_E_DATA, "the file does not say what its %d outputs mean; import it again with --task multiclass (one class of "
                       "several) or multilabel (findings, each for itself)", s->outputs);
    if (!*card->normalise)
        return cx_fail(err, CX_E_DATA, "the file does not say how its films became numbers; import it again with --normalise");
    if (!card->n_classes && strcmp(card->task, "segmentation"))
        return cx_fail(err, CX_E_DATA, "the file does not name its %d outputs; import it again with --classes A,B,..", s->outputs);
    c->data.side = s->side;
    c->data.channels = s->channels;
    c->model.hidden = s->hidden;
    c->model.dropout = s->dropout;
    c->model.norm_eps = s->norm_eps > 0 ? s->norm_eps : 1e-5;
    c->model.final_relu = !s->no_final_relu;
    c->model.base = s->base ? s->base : c->model.base;
    c->model.depth = s->depth ? s->depth : c->model.depth;
    c->model.norm = s->norm;
    TRY(set_text(&c->data.task, card->task, err));
    TRY(set_text(&c->data.normalise, card->normalise, err));
    TRY(set_text(&c->model.arch, s->arch, err));
    if (card->n_stages)
        TRY(set_list(&c->preprocess.stages, card->stages, card->n_stages, err));
    return card->n_classes ? set_list(&c->data.classes, card->classes, card->n_classes, err) : CX_OK;
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
