/* card.c - what a weight file of ours says about itself, as metadata and back. Depends on weights.h, jansson. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/weights.h"

static const char *const KEYS[CX_CARD_META] = { "cxnet.model", "cxnet.input", "cxnet.classes", "cxnet.source" };

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

cx_status cx_weights_card_write(const cx_weights_card *c, cx_st_meta meta[CX_CARD_META], cx_error *err)
{
    json_t *classes = json_array();
    for (int i = 0; i < c->n_classes; i++)
        json_array_append_new(classes, json_string(c->classes[i]));
    char *text[CX_CARD_META] = { dumped(model_json(&c->spec)), dumped(json_pack("{s:s, s:s}", "normalise", c->normalise, "order", "rgb")), dumped(classes),
                                 cx_strdup(c->source) };
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

static cx_status read_classes(const char *text, cx_weights_card *c, cx_error *err)
{
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    c->classes = cx_alloc(json_array_size(j), sizeof *c->classes);
    cx_status s = c->classes ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for class names");
    for (size_t i = 0; s == CX_OK && i < json_array_size(j); i++) {
        const char *name = json_string_value(json_array_get(j, i));
        if (!name)
            s = cx_fail(err, CX_E_DATA, "metadata %s: item %zu is no text", KEYS[2], i);
        else if (!(c->classes[c->n_classes++] = cx_strdup(name)))
            s = cx_fail(err, CX_E_MEMORY, "no memory for class names");
    }
    json_decref(j);
    return s;
}

static cx_status read_all(const cx_st_file *f, cx_weights_card *c, cx_error *err)
{
    const char *input = cx_st_meta_get(f, KEYS[1]), *source = cx_st_meta_get(f, KEYS[3]);
    TRY(read_model(cx_st_meta_get(f, KEYS[0]), &c->spec, err));
    json_t *j = input ? json_loads(input, 0, NULL) : NULL;
    const char *normalise = json_string_value(json_object_get(j, "normalise")), *order = json_string_value(json_object_get(j, "order"));
    cx_status s = CX_OK;
    if (!normalise || !order || strcmp(order, "rgb") != 0)
        s = cx_fail(err, CX_E_DATA, "metadata %s: want normalise, and order \"rgb\"", KEYS[1]);
    else
        snprintf(c->normalise, sizeof c->normalise, "%s", normalise);
    json_decref(j);
    snprintf(c->source, sizeof c->source, "%s", source ? source : "");
    return s == CX_OK ? read_classes(cx_st_meta_get(f, KEYS[2]), c, err) : s;
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
    free(c->classes);
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
