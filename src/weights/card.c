/* card.c - what a weight file of ours says about itself, as metadata and back. Depends on weights.h, jansson. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/weights.h"

static const char *const KEYS[CX_CARD_META] = { "cxnet.model", "cxnet.input", "cxnet.classes", "cxnet.source", "cxnet.task" };

static char *dumped(json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(j);
    return text;
}

static json_t *model_json(const cx_model_spec *s)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:f, s:i, s:f, s:b, s:i, s:i, s:b}", "arch", s->arch, "side", s->side, "channels", s->channels, "hidden", s->hidden,
                     "dropout", s->dropout, "outputs", s->outputs, "norm_eps", s->norm_eps, "final_relu", !s->no_final_relu, "base", s->base, "depth", s->depth,
                     "norm", s->norm);
}

static json_t *texts(char *const *item, int n)
{
    json_t *j = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(j, json_string(item[i]));
    return j;
}

cx_status cx_weights_card_write(const cx_weights_card *c, cx_st_meta meta[CX_CARD_META], cx_error *err)
{
    json_t *input = json_pack("{s:s, s:s, s:o}", "normalise", c->normalise, "order", "rgb", "stages", texts(c->stages, c->n_stages));
    char *text[CX_CARD_META] = { dumped(model_json(&c->spec)), dumped(input), dumped(texts(c->classes, c->n_classes)), cx_strdup(c->source),
                                 cx_strdup(c->task) };
    bool whole = true;
    for (int i = 0; i < CX_CARD_META; i++) {
        meta[i] = (cx_st_meta){ KEYS[i], text[i] };
        whole &= text[i] != NULL;
    }
    if (whole)
        return CX_OK;
    cx_weights_card_unwrite(meta);
    return cx_fail(err, CX_E_DATA, "the description of the weights cannot be written: a name is not UTF-8, or memory is short");
}

void cx_weights_card_unwrite(cx_st_meta meta[CX_CARD_META])
{
    for (int i = 0; i < CX_CARD_META; i++) {
        free((char *)meta[i].value);
        meta[i].value = NULL;
    }
}

bool cx_weights_has_card(const cx_st_file *f)
{
    return cx_st_meta_get(f, KEYS[0]) != NULL;
}

static cx_status read_model(const char *text, cx_model_spec *s, cx_error *err)
{
    json_error_t why;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    const char *arch;
    int relu, norm;
    *s = (cx_model_spec){ 0 };
    if (!j || json_unpack_ex(j, &why, 0, "{s:s, s:i, s:i, s:i, s:F, s:i, s:F, s:b, s:i, s:i, s:b}", "arch", &arch, "side", &s->side, "channels", &s->channels,
                             "hidden", &s->hidden, "dropout", &s->dropout, "outputs", &s->outputs, "norm_eps", &s->norm_eps, "final_relu", &relu, "base",
                             &s->base, "depth", &s->depth, "norm", &norm) != 0) {
        json_decref(j);
        return cx_fail(err, CX_E_DATA, "metadata %s: %s", KEYS[0], why.text);
    }
    snprintf(s->arch, sizeof s->arch, "%s", arch);
    s->no_final_relu = !relu;
    s->norm = norm;
    json_decref(j);
    return CX_OK;
}

/* A list of texts; what has been read so far is *n also after a failure. */
static cx_status read_texts(const json_t *j, const char *what, char ***item, int *n, cx_error *err)
{
    if (j && !json_is_array(j))
        return cx_fail(err, CX_E_DATA, "metadata %s: want a list of texts", what);
    if (!(*item = cx_alloc(json_array_size(j), sizeof **item)))
        return cx_fail(err, CX_E_MEMORY, "no memory for metadata %s", what);
    for (size_t i = 0; i < json_array_size(j); i++) {
        const char *text = json_string_value(json_array_get(j, i));
        if (!text)
            return cx_fail(err, CX_E_DATA, "metadata %s: item %zu is no text", what, i);
        if (!((*item)[*n] = cx_strdup(text)))
            return cx_fail(err, CX_E_MEMORY, "no memory for metadata %s", what);
        ++*n;
    }
    return CX_OK;
}

static cx_status read_input(const json_t *j, cx_weights_card *c, cx_error *err)
{
    const char *normalise = json_string_value(json_object_get(j, "normalise")), *order = json_string_value(json_object_get(j, "order"));
    if (!normalise || !order || strcmp(order, "rgb") != 0)
        return cx_fail(err, CX_E_DATA, "metadata %s: want normalise, and order \"rgb\"", KEYS[1]);
    snprintf(c->normalise, sizeof c->normalise, "%s", normalise);
    return read_texts(json_object_get(j, "stages"), KEYS[1], &c->stages, &c->n_stages, err);
}

static cx_status read_all(const cx_st_file *f, cx_weights_card *c, cx_error *err)
{
    const char *input = cx_st_meta_get(f, KEYS[1]), *classes = cx_st_meta_get(f, KEYS[2]), *source = cx_st_meta_get(f, KEYS[3]);
    const char *task = cx_st_meta_get(f, KEYS[4]);
    TRY(read_model(cx_st_meta_get(f, KEYS[0]), &c->spec, err));
    snprintf(c->source, sizeof c->source, "%s", source ? source : "");
    snprintf(c->task, sizeof c->task, "%s", task ? task : "");
    json_t *i = input ? json_loads(input, 0, NULL) : NULL, *k = classes ? json_loads(classes, 0, NULL) : NULL;
    const int outputs = c->spec.outputs;
    cx_status s = read_input(i, c, err);
    if (s == CX_OK && classes && !k)
        s = cx_fail(err, CX_E_DATA, "metadata %s: is no JSON", KEYS[2]);
    if (s == CX_OK)
        s = read_texts(k, KEYS[2], &c->classes, &c->n_classes, err);
    if (s == CX_OK && c->n_classes && c->n_classes != outputs && !(outputs == 1 && c->n_classes == 2))
        s = cx_fail(err, CX_E_DATA, "metadata %s: %d names for %d output%s", KEYS[2], c->n_classes, outputs, outputs == 1 ? "" : "s");
    json_decref(i);
    json_decref(k);
    return s;
}

cx_status cx_weights_card_read(const cx_st_file *f, cx_weights_card *c, cx_error *err)
{
    *c = (cx_weights_card){ 0 };
    if (!cx_weights_has_card(f))
        return cx_fail(err, CX_E_DATA, "the file does not say which network its weights are for; `cxnet weights import` makes one that does");
    const cx_status s = read_all(f, c, err);
    if (s != CX_OK)
        cx_weights_card_free(c);
    return s;
}

void cx_weights_card_free(cx_weights_card *c)
{
    for (int i = 0; i < c->n_classes; i++)
        free(c->classes[i]);
    for (int i = 0; i < c->n_stages; i++)
        free(c->stages[i]);
    free(c->classes);
    free(c->stages);
    *c = (cx_weights_card){ 0 };
}

static cx_status open_net(const cx_st_file *f, cx_backend *b, cx_weights_net *n, cx_error *err)
{
    TRY(cx_weights_card_read(f, &n->card, err));
    TRY(cx_model_new(&n->card.spec, &n->model, err));
    TRY(cx_store_new(n->model.graph, b, 0, &n->store, err));
    return cx_weights_load(n->store, f, err);
}

cx_status cx_weights_open(const char *path, cx_backend *b, cx_weights_net *out, cx_error *err)
{
    cx_st_file f;
    *out = (cx_weights_net){ 0 };
    TRY(cx_st_read(path, &f, err));
    const cx_status s = open_net(&f, b, out, err);
    cx_st_free(&f);
    if (s != CX_OK)
        cx_weights_net_close(out);
    return cx_prefix(err, s, "%s", path);
}

cx_status cx_weights_net_save(const cx_weights_net *n, const char *path, cx_error *err)
{
    cx_st_meta meta[CX_CARD_META];
    TRY(cx_weights_card_write(&n->card, meta, err));
    const cx_status s = cx_weights_save(n->store, path, NULL, 0, meta, CX_CARD_META, err);
    cx_weights_card_unwrite(meta);
    return s;
}

void cx_weights_net_close(cx_weights_net *n)
{
    cx_store_free(n->store);
    if (n->model.graph)
        cx_model_free(&n->model);
    cx_weights_card_free(&n->card);
    *n = (cx_weights_net){ 0 };
}
