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

/* Nothing that a file names is opened: what its stages look at beside the film is somewhere else. */
static cx_status self_contained(const cx_weights_card *card, cx_error *err)
{
    cx_pipeline *p;
    cx_error why = { 0 };
    if (!card->n_stages)
        return CX_OK;
    if (cx_pipeline_new(card->stages, card->n_stages, card->spec.side, card->spec.channels, &p, &why) != CX_OK)
        return cx_fail(err, CX_E_DATA, "what it says of itself is not sound: stages: %s", why.text);
    const char *outside = cx_pipeline_outside(p);
    cx_pipeline_free(p);
    if (!outside)
        return CX_OK;
    return cx_fail(err, CX_E_DATA, "its films were preprocessed by %s, which a weight file does not hold; name the folder of its run instead", outside);
}

static cx_status known_enough(const cx_weights_card *card, cx_error *err)
{
    const int outputs = card->spec.outputs;
    if (!*card->task)
        return cx_fail(err, CX_E_DATA, "the file does not say what its %d outputs mean; import it again with --task multiclass (one class of "
                       "several) or multilabel (findings, each for itself)", outputs);
    if (!*card->normalise)
        return cx_fail(err, CX_E_DATA, "the file does not say how its films became numbers; import it again with --normalise");
    if (!card->n_classes && strcmp(card->task, "segmentation"))
        return cx_fail(err, CX_E_DATA, "the file does not name its outputs (%d); import it again with --classes A,B,.. (negative,positive for one)", outputs);
    for (int k = 0; k < card->n_classes; k++)
        if (strpbrk(card->classes[k], "=+|"))
            return cx_fail(err, CX_E_DATA, "class name \"%.80s\": '=', '+' and '|' belong to experiments and manifests; import it again with another name",
                           card->classes[k]);
    return self_contained(card, err);
}

/* One setting, as --set has it. */
#define SAY(...) do { cx_buf b_ = { 0 }; cx_buf_printf(&b_, __VA_ARGS__); ok = ok && !b_.failed; set[n++] = b_.data; } while (0)
#define SAY_LIST(key, item, items) do { cx_buf b_ = { 0 }; cx_buf_puts(&b_, key "="); cx_yaml_list(&b_, item, items); ok = ok && !b_.failed; \
    set[n++] = b_.data; } while (0)

cx_status cx_config_of_card(const cx_weights_card *card, cx_config *out, cx_error *err)
{
    const cx_model_spec *s = &card->spec;
    char *set[16];
    cx_error why = { 0 };
    int n = 0;
    bool ok = true;
    *out = (cx_config){ 0 };
    TRY(known_enough(card, err));
    SAY("data.task=%s", card->task);
    SAY("data.side=%d", s->side);
    SAY("data.channels=%d", s->channels);
    SAY("data.normalise=%s", card->normalise);
    SAY("model.arch=%s", s->arch);
    SAY("model.hidden=%d", s->hidden);
    SAY("model.dropout=%.17g", s->dropout);
    SAY("model.norm_eps=%.17g", s->norm_eps > 0 ? s->norm_eps : 1e-5);
    SAY("model.final_relu=%s", s->no_final_relu ? "false" : "true");
    SAY("model.norm=%s", s->norm ? "true" : "false");
    if (s->base)
        SAY("model.base=%d", s->base);
    if (s->depth)
        SAY("model.depth=%d", s->depth);
    if (card->n_stages)
        SAY_LIST("preprocess.stages", card->stages, card->n_stages);
    if (card->n_classes)
        SAY_LIST("data.classes", card->classes, card->n_classes);
    cx_status status = ok ? cx_config_load(NULL, set, n, out, &why) : cx_fail(&why, CX_E_MEMORY, "out of memory");
    if (status != CX_OK)
        status = status == CX_E_CONFIG ? cx_fail(err, CX_E_DATA, "what it says of itself is not sound: %s", why.text) : cx_fail(err, status, "%s", why.text);
    if (status == CX_OK && cx_config_outputs(out) != s->outputs) {
        status = cx_fail(err, CX_E_DATA, "what it says of itself is not sound: %d outputs, but task %s with %d classes has %d", s->outputs, card->task,
                         card->n_classes, cx_config_outputs(out));
        cx_config_free(out);
    }
    while (n > 0)
        free(set[--n]);
    return status;
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
