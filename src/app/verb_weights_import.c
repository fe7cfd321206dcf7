/* verb_weights_import.c - `cxnet weights import`: anybody's weight file becomes a file of ours that says what it is. Depends on app.h. */
#include <stdlib.h>
#include <string.h>
#include "app.h"

/* data.normalise, and what else networks are known to be fed. */
static const char NORMALISE[] = "imagenet|unit|none|signed|xrv";
enum { HEAD_KEEP, HEAD_DROP, HEAD_REPLACE };
typedef struct {
    cx_st_file f; bool open;
    cx_model_spec asked;         /* what flags say; 0: the file decides */
    int head, relu;              /* relu: -1 the file decides, 0 on, 1 off */
    bool bgr;
    cx_weights_net net;
    cx_backend *backend;
    cx_mapping map;
} job;

static cx_status read_head(job *j, const char *text, cx_error *err)
{
    int n = 0, end = 0;
    if (!text || strcmp(text, "keep") == 0)
        j->head = HEAD_KEEP;
    else if (strcmp(text, "drop") == 0)
        j->head = HEAD_DROP;
    else if (sscanf(text, "replace:%d%n", &n, &end) == 1 && !text[end] && n >= 1 && n <= 65536) {
        j->head = HEAD_REPLACE;
        j->asked.outputs = n;
    } else
        return cx_fail(err, CX_E_USAGE, "--head: want keep, drop or replace:N with N outputs, got \"%s\"", text);
    return CX_OK;
}

static cx_status read_flags(job *j, const cx_args *a, cx_error *err)
{
    cx_model_spec *s = &j->asked;
    const char *arch = cx_arg(a, "--arch");
    int order;
    snprintf(s->arch, sizeof s->arch, "%s", arch ? arch : "");
    TRY(cx_arg_int(a, "--side", 0, 1, 8192, &s->side, err));
    TRY(cx_arg_int(a, "--channels", 0, 1, 64, &s->channels, err));
    TRY(cx_arg_int(a, "--hidden", 0, 0, 65536, &s->hidden, err));
    TRY(cx_arg_int(a, "--outputs", 0, 1, 65536, &s->outputs, err));
    TRY(cx_arg_int(a, "--base", 0, 1, 1024, &s->base, err));
    TRY(cx_arg_int(a, "--depth", 0, 1, 8, &s->depth, err));
    TRY(cx_arg_real(a, "--epsilon", 0, 1e-9, 0.1, &s->norm_eps, err));
    TRY(read_head(j, cx_arg(a, "--head"), err));
    TRY(cx_arg_choice(a, "--final-relu", "on|off", -1, &j->relu, err));
    TRY(cx_arg_choice(a, "--order", "rgb|bgr", 0, &order, err));
    j->bgr = order == 1;
    return CX_OK;
}

/* One name for each output, or none; one output tells two classes apart. */
static bool classes_fit(const cx_weights_card *c)
{
    return c->n_classes == 0 || c->n_classes == c->spec.outputs || (c->spec.outputs == 1 && c->n_classes == 2);
}

static void drop_classes(cx_weights_card *c)
{
    while (c->n_classes > 0)
        free(c->classes[--c->n_classes]);
    free(c->classes);
    c->classes = NULL;
}

/* "a,b,c" or the classes that the file names itself. */
static cx_status read_classes(const char *text, cx_weights_card *c, cx_error *err)
{
    for (const char *at = text; at;) {
        const size_t n = strcspn(at, ",");
        char **more = realloc(c->classes, (size_t)(c->n_classes + 1) * sizeof *more), *name = more ? cx_sprintf("%.*s", (int)n, at) : NULL;
        c->classes = more ? more : c->classes;
        if (!name)
            return cx_fail(err, CX_E_MEMORY, "no memory for class names");
        c->classes[c->n_classes++] = name;
        if (n == 0)
            return cx_fail(err, CX_E_USAGE, "--classes: item %d is empty", c->n_classes);
        at = at[n] ? at + n + 1 : NULL;
    }
    const int outputs = c->spec.outputs;
    if (!classes_fit(c))
        return cx_fail(err, CX_E_USAGE, "--classes: want %s%d names, got %d", outputs == 1 ? "negative,positive: " : "", outputs == 1 ? 2 : outputs,
                       c->n_classes);
    return CX_OK;
}

static bool is_xrv(const cx_st_file *f)
{
    return cx_st_find(f, "op_threshs") != NULL;
}

/* What the outputs mean: what the flag says, else what the network leaves no doubt about. */
static cx_status read_task(const cx_args *a, cx_weights_card *c, cx_error *err)
{
    static const char TASKS[] = "binary|multiclass|multilabel";
    const char *task = cx_arg(a, "--task"), *is = c->spec.outputs > 1 ? "" : strcmp(c->spec.arch, "unet") == 0 ? "segmentation" : "binary";
    int known;
    TRY(cx_arg_choice(a, "--task", TASKS, 0, &known, err));
    if (task && *is && strcmp(task, is) != 0)
        return cx_fail(err, CX_E_USAGE, "--task %s: a %s with %d output%s is for task %s", task, c->spec.arch, c->spec.outputs,
                       c->spec.outputs == 1 ? "" : "s", is);
    if (task && strcmp(task, "binary") == 0 && !*is)
        return cx_fail(err, CX_E_USAGE, "--task binary: want a network with 1 output, this one has %d", c->spec.outputs);
    if (task || *is || !*c->task)
        snprintf(c->task, sizeof c->task, "%s", task ? task : is);
    return CX_OK;
}

/* Normalisation, task and classes: what flags say, else what the file says of itself. */
static cx_status read_card(job *j, const cx_args *a, cx_error *err)
{
    cx_weights_card *c = &j->net.card, old;
    const char *normalise = cx_arg(a, "--normalise"), *classes = cx_arg(a, "--classes"), *format = cx_st_meta_get(&j->f, "format");
    const char *sha = cx_st_meta_get(&j->f, "source.sha256");
    int known;
    TRY(cx_arg_choice(a, "--normalise", NORMALISE, 0, &known, err));
    if (cx_weights_has_card(&j->f)) {
        TRY(cx_weights_card_read(&j->f, &old, err));
        const cx_model_spec spec = c->spec;
        *c = old;
        c->spec = spec;
    }
    if (normalise || (!*c->normalise && is_xrv(&j->f)))
        snprintf(c->normalise, sizeof c->normalise, "%s", normalise ? normalise : "xrv");
    if (!*c->normalise)
        return cx_fail(err, CX_E_USAGE, "%s does not say how its films became numbers, and a network fed otherwise answers nonsense; want --normalise imagenet "
                       "((grey/255 - mean)/std), unit (grey/255), none (grey), signed ((grey - 127)/127) or xrv (grey/255*2048 - 1024)", a->positional[0]);
    if (c->spec.channels != 3 && strcmp(c->normalise, "imagenet") == 0)
        return cx_fail(err, CX_E_USAGE, "--normalise imagenet has a mean for each of 3 channels, the network reads %d", c->spec.channels);
    TRY(read_task(a, c, err));
    if (classes || !classes_fit(c))
        drop_classes(c);
    TRY(read_classes(classes, c, err));
    if (*c->task && c->n_classes) {
        cx_config sound;
        TRY(cx_config_of_card(c, &sound, err));
        cx_config_free(&sound);
    }
    snprintf(c->source, sizeof c->source, "%.100s, sha256 %.64s, %.200s", format ? format : "safetensors", sha ? sha : "not known",
             cx_path_base(a->positional[0]));
    return CX_OK;
}

static cx_status build(job *j, const cx_args *a, cx_error *err)
{
    cx_model_spec *s = &j->net.card.spec;
    bool relu_known;
    *s = j->asked;
    TRY(cx_prefix(err, cx_weights_guess(&j->f, s, &relu_known, err), "%s", a->positional[0]));
    if (j->head != HEAD_KEEP)
        s->hidden = j->asked.hidden;
    if (j->relu >= 0)
        s->no_final_relu = j->relu == 1;
    else if (!relu_known && strncmp(s->arch, "densenet", 8) == 0)
        fprintf(stderr, "cxnet: the file does not say whether a ReLU follows the last normalisation: taken as on (later Keras); CheXNet's published "
                "weights want --final-relu off\n");
    TRY(read_card(j, a, err));
    TRY(cx_model_new(s, &j->net.model, err));
    TRY(cx_backend_open("cpu", 1, &j->backend, err));
    return cx_store_new(j->net.model.graph, j->backend, 1, &j->net.store, err);
}

static void say(const job *j, const char *out)
{
    const cx_weights_card *c = &j->net.card;
    printf("%s: %s, side %d, %d channel%s, %d output%s", out ? out : "nothing written (no --out)", c->spec.arch, c->spec.side, c->spec.channels,
           c->spec.channels == 1 ? "" : "s", c->spec.outputs, c->spec.outputs == 1 ? "" : "s");
    if (c->spec.hidden)
        printf(", hidden %d", c->spec.hidden);
    if (strncmp(c->spec.arch, "densenet", 8) == 0)
        printf(", epsilon %g, final ReLU %s", c->spec.norm_eps, c->spec.no_final_relu ? "off" : "on");
    printf(", normalise %s%s; from %s\n", c->normalise, j->bgr ? ", turned from bgr to rgb" : "", c->source);
}

/* ---- for programs ------------------------------------------------------------------------------------------------------ */

static json_t *source_shape(const cx_st_tensor *t)
{
    json_t *shape = json_array();
    for (int k = 0; k < t->nd; k++)
        json_array_append_new(shape, json_integer(t->d[k]));
    return shape;
}

static json_t *row_json(const job *j, const cx_pairing *p)
{
    const cx_st_tensor *t = p->source < 0 ? NULL : &j->f.tensors[p->source];
    const cx_value *v = p->value < 0 ? NULL : &j->net.model.graph->values[p->value];
    const char *how = !t || !v ? NULL : j->map.by_order ? "order" : "name";
    return json_pack("{s:s, s:s?, s:o, s:s?, s:o, s:s?}", "state", cx_pair_state_name(p->state), "ours", v ? v->name : NULL, "shape",
                     v ? json_pack("[I, I, I, I]", (json_int_t)v->shape.n, (json_int_t)v->shape.h, (json_int_t)v->shape.w, (json_int_t)v->shape.c)
                       : json_null(), "source", t ? t->name : NULL, "source_shape", t ? source_shape(t) : json_null(), "how", how);
}

/* Names of the rows of one state: ours, or else the file's. */
static json_t *names_json(const job *j, cx_pair_state state)
{
    json_t *names = json_array();
    for (int i = 0; i < j->map.n; i++) {
        const cx_pairing *p = &j->map.row[i];
        if (p->state == state)
            json_array_append_new(names, json_string(p->value < 0 ? j->f.tensors[p->source].name : j->net.model.graph->values[p->value].name));
    }
    return names;
}

/* What the file written says of itself: the metadata "cxnet.*", each under its own name, those of "cxnet.model" and "cxnet.input" beside them. */
static cx_status card_json(const cx_weights_card *c, json_t **out, cx_error *err)
{
    cx_st_meta meta[CX_CARD_META];
    TRY(cx_weights_card_write(c, meta, err));
    *out = json_object();
    for (int i = 0; i < CX_CARD_META; i++) {
        json_t *part = json_loads(meta[i].value, 0, NULL);
        if (json_is_object(part))
            json_object_update(*out, part);
        else
            json_object_set_new(*out, meta[i].key + strlen("cxnet."), part ? json_incref(part) : json_string(meta[i].value));
        json_decref(part);
    }
    cx_weights_card_unwrite(meta);
    return CX_OK;
}

/* problem: why the mapping does not fit, or NULL; taken: numbers were read with it, and written where out is. */
static cx_status print_json(const job *j, const cx_args *a, const char *problem, bool taken, cx_error *err)
{
    const char *head = cx_arg(a, "--head"), *out = cx_arg(a, "--out"), *format = cx_st_meta_get(&j->f, "format");
    json_t *card, *mapping = json_array();
    TRY(card_json(&j->net.card, &card, err));
    for (int i = 0; i < j->map.n; i++)
        json_array_append_new(mapping, row_json(j, &j->map.row[i]));
    return cx_app_print_json(json_pack("{s:s, s:s?, s:s?, s:s?, s:b, s:s?, s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "file", a->positional[0],
        "format", format, "sha256", cx_st_meta_get(&j->f, "source.sha256"), "out", taken ? out : NULL, "fits", problem == NULL, "problem", problem,
        "head", head ? head : "keep", "source_order", j->bgr ? "bgr" : "rgb", "partners_by", j->map.how, "told_apart_by_order_only", j->map.twins,
        "card", card, "mapping", mapping, "missing", names_json(j, CX_PAIR_MISSING), "unused", names_json(j, CX_PAIR_UNUSED),
        "misfits", names_json(j, CX_PAIR_MISFIT), "as_initialised", names_json(j, CX_PAIR_HEAD), "left_out", names_json(j, CX_PAIR_LEFT_OUT)), err);
}

/* ---- the verb ------------------------------------------------------------------------------------------------------------ */

static cx_status import(job *j, const cx_args *a, cx_error *err)
{
    const char *path = a->positional[0], *out = cx_arg(a, "--out");
    const bool json = cx_arg(a, "--json");
    cx_error why = { 0 };
    TRY(read_flags(j, a, err));
    if (json) {
        TRY(cx_app_json_path(path, err));
        TRY(cx_app_json_path(out ? out : "", err));
    }
    TRY(cx_weights_read(path, &j->f, err));
    j->open = true;
    TRY(build(j, a, err));
    if (j->bgr && j->net.card.spec.channels != 3)
        return cx_fail(err, CX_E_USAGE, "--order bgr is for 3 channels, the network reads %d", j->net.card.spec.channels);
    TRY(cx_weights_map(&j->f, j->net.model.graph, j->head == HEAD_KEEP ? CX_HEAD_KEEP : CX_HEAD_DROP, &j->map, err));
    if (!json)
        cx_weights_map_print(&j->f, j->net.model.graph, &j->map, stdout);
    const cx_status fits = cx_weights_map_check(&j->f, j->net.model.graph, &j->map, &why);
    if (fits != CX_OK && (!cx_arg(a, "--loose") || j->map.count[CX_PAIR_MISFIT])) {
        if (json)
            TRY(print_json(j, a, why.text, false, err));
        return cx_fail(err, fits, "%s: %s", path, why.text);
    }
    TRY(cx_weights_take(j->net.store, &j->f, &j->map, j->bgr, err));
    if (out)
        TRY(cx_weights_net_save(&j->net, out, err));
    if (json)
        return print_json(j, a, fits == CX_OK ? NULL : why.text, true, err);
    say(j, out);
    return CX_OK;
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    job j = { 0 };
    const cx_status s = import(&j, a, err);
    cx_weights_map_free(&j.map);
    cx_weights_net_close(&j.net);
    if (j.backend)
        cx_backend_close(j.backend);
    if (j.open)
        cx_st_free(&j.f);
    return s;
}

static const cx_flag flags[] = {
    { "--out", "FILE", "safetensors file to write; without it, only the table is printed" },
    { "--arch", "NAME", "architecture to hold the file against: base_cnn, densenet121, densenet169, densenet201, unet; absent: what the file is" },
    { "--side", "N", "side of the films, px; absent: what the file says, else 224 (DenseNet), 512 (unet)" },
    { "--channels", "N", "channels of the films; absent: what the file says" },
    { "--hidden", "N", "DenseNet: units of the ReLU layer before the output; absent: what the file says" },
    { "--outputs", "N", "logits; absent: what the file says" },
    { "--base", "N", "unet: channels of its first level; absent: what the file says" },
    { "--depth", "N", "unet: halvings of the map; absent: what the file says" },
    { "--final-relu", "on|off", "DenseNet: ReLU after the last normalisation; absent: what the file says, else on" },
    { "--head", "keep|drop|replace:N", "the last layers: kept, or begun anew, with as many outputs as in the file or with N; absent: keep" },
    { "--epsilon", "E", "epsilon of batch normalisation; absent: what the file says, else 1.001e-5 (Keras) or 1e-5 (PyTorch)" },
    { "--normalise", NORMALISE, "how grey became value where the network was trained; wanted unless the file says" },
    { "--order", "rgb|bgr", "channel order where it was trained; a bgr network is turned to rgb. absent: rgb" },
    { "--task", "binary|multiclass|multilabel", "what the outputs mean: one class of two, one of several, or findings each for itself; absent: what the "
      "file says, binary where there is one output" },
    { "--classes", "A,B,..", "names of the outputs, in order; of one output: negative,positive" },
    { "--loose", NULL, "go on where tensors are missing or unused; missing ones stay as initialised" },
    CX_FLAG_JSON,
};
const cx_verb cx_verb_weights_import = {
    .name = "weights import", .args = "FILE", .doc = "make a weight file of ours from a Keras, PyTorch or safetensors file", .min_args = 1, .max_args = 1,
    .run = run, .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "Prints one line for each tensor: used, as what; missing; unused. Fails unless every tensor has its partner, but for the last layers, which "
            "--head leaves out. Partners are found by name (ours; torchvision, timm, torchxrayvision; Keras applications), else by order and shape. "
            "--json says the same, also where they do not fit; shapes of ours are OHWI, of vectors (1,1,1,C). "
            "The file written holds architecture, normalisation, classes and the SHA-256 of its source; train, explain and verify hold to them.\n"
};
