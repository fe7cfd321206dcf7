/* guess.c - which network a file holds: by its card, its layers, and what Keras wrote about the model. Depends on layers.h, jansson. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "layers.h"

enum { UNET_SIDE = 512, DENSENET_SIDE = 224, MIN_SIDE = 65, MAX_SIDE = 8192, BASE_CONVS = 5, BASE_DENSES = 3, BASE_FILTERS = 32, CONFIG_DEPTH = 64 };
/* Keras applications write 1.001e-5; PyTorch's default is 1e-5. */
static const double KERAS_EPS = 1.001e-5, TORCH_EPS = 1e-5;

/* ---- what keras.model_config says -------------------------------------------------------------------------------------- */

typedef struct { double eps; int side; bool any, final_relu; } keras_facts;

static int side_of(const json_t *config)
{
    const json_t *shape = json_object_get(config, "batch_input_shape");
    shape = shape ? shape : json_object_get(config, "batch_shape");
    const json_int_t h = json_integer_value(json_array_get(shape, 1)), w = json_integer_value(json_array_get(shape, 2));
    return h == w && h > 0 && h <= MAX_SIDE ? (int)h : 0;
}

/* Walks over nested models. The final ReLU of Keras applications is an Activation named "relu". */
static void read_layers(const json_t *j, keras_facts *k, int depth)
{
    const json_t *item;
    size_t i;
    const char *class = json_string_value(json_object_get(j, "class_name"));
    const json_t *config = json_object_get(j, "config");
    if (depth > CONFIG_DEPTH)
        return;
    if (class && json_is_object(config)) {
        const char *name = json_string_value(json_object_get(config, "name"));
        k->any = true;
        if (strcmp(class, "BatchNormalization") == 0 && json_is_number(json_object_get(config, "epsilon")))
            k->eps = json_number_value(json_object_get(config, "epsilon"));
        if ((strcmp(class, "Activation") == 0 || strcmp(class, "ReLU") == 0) && name && strcmp(name, "relu") == 0)
            k->final_relu = true;
        if (!k->side)
            k->side = side_of(config);
    }
    json_array_foreach(json_is_array(config) ? config : json_object_get(config, "layers"), i, item)
        read_layers(item, k, depth + 1);
}

static keras_facts keras_facts_of(const cx_st_file *f)
{
    const char *text = cx_st_meta_get(f, "keras.model_config");
    keras_facts k = { 0 };
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    read_layers(j, &k, 0);
    json_decref(j);
    return k;
}

/* ---- what the layers say -------------------------------------------------------------------------------------------------- */

enum { BLOCKS = 4 };
typedef struct {
    const cx_st_file *f;
    cx_file_layer *layers; int n;
    int kinds[CX_LAYER_KINDS];
    bool keras;
    int in_block[BLOCKS];          /* dense layers of a DenseNet that has its names */
} facts;

static const cx_file_layer *nth(const facts *x, cx_layer_kind kind, int i)
{
    for (int l = 0; l < x->n; l++)
        if (x->layers[l].kind == kind && i-- == 0)
            return &x->layers[l];
    return NULL;
}

/* Inputs and outputs of a layer, by where its file keeps them. */
static int64_t ends_of(const facts *x, const cx_file_layer *l, bool out)
{
    if (!l || l->part[0] < 0)
        return 0;
    const cx_st_tensor *t = &x->f->tensors[l->part[0]];
    if (l->kind == CX_LAYER_CONVT)
        out = !out;
    return x->keras ? t->d[t->nd - (out ? 1 : 2)] : t->d[out ? 0 : 1];
}

/* The convolution that reads the film: by its name in a DenseNet, whose tensors may lie in any order; else the first. */
static const cx_file_layer *stem_of(const facts *x)
{
    static const char *const ends[] = { "features.conv0", "conv1/conv", "conv1_conv" };
    for (int i = 0; i < x->n; i++)
        for (int e = 0; e < CX_COUNT(ends); e++) {
            const int n = (int)strlen(ends[e]), at = x->layers[i].length - n;
            if (at >= 0 && strncmp(x->layers[i].name + at, ends[e], (size_t)n) == 0 && (at == 0 || strchr("./", x->layers[i].name[at - 1])))
                return &x->layers[i];
        }
    return nth(x, CX_LAYER_CONV, 0);
}

static void count_blocks(facts *x)
{
    char name[CX_NAME_MAX];
    for (int i = 0; i < x->n; i++) {
        const cx_file_layer *l = &x->layers[i];
        const char *text = name, *slash;
        int block = 0, layer, end = 0;
        cx_torch_name(l->name, name);
        if (sscanf(name, "features.denseblock%d.denselayer%d.conv1.weight%n", &block, &layer, &end) != 2 || end == 0) {
            snprintf(name, sizeof name, "%.*s", l->length, l->name);
            slash = strrchr(name, '/');
            text = slash ? slash + 1 : name;
            if (sscanf(text, "conv%d_block%d_1_conv%n", &block, &layer, &end) != 2 || end == 0)
                continue;
            block--;
        }
        if (block >= 1 && block <= BLOCKS)
            x->in_block[block - 1]++;
    }
}

static const struct { const char *name; int blocks[BLOCKS], convs; } densenets[] = {
    { "densenet121", { 6, 12, 24, 16 }, 120 }, { "densenet169", { 6, 12, 32, 32 }, 168 }, { "densenet201", { 6, 12, 48, 32 }, 200 },
};

static const char *arch_of(const facts *x)
{
    const int convs = x->kinds[CX_LAYER_CONV], up = x->kinds[CX_LAYER_CONVT], dense = x->kinds[CX_LAYER_DENSE], norms = x->kinds[CX_LAYER_NORM];
    for (int i = 0; i < CX_COUNT(densenets); i++)
        if (memcmp(x->in_block, densenets[i].blocks, sizeof x->in_block) == 0 || (convs == densenets[i].convs && norms == convs + 1 && up == 0))
            return densenets[i].name;
    if (convs == BASE_CONVS && dense == BASE_DENSES && up + norms == 0 && ends_of(x, nth(x, CX_LAYER_CONV, 0), true) == BASE_FILTERS)
        return "base_cnn";
    if (up > 0 && dense == 0 && convs == 4 * up + 3 && (norms == 0 || norms == convs - 1))
        return "unet";
    return NULL;
}

static cx_status find_arch(const facts *x, cx_model_spec *spec, cx_error *err)
{
    const char *arch = arch_of(x);
    if (!arch && x->in_block[0])
        return cx_fail(err, CX_E_DATA, "a DenseNet with blocks of %d, %d, %d and %d layers; known are 6, 12, 24, 16 (densenet121), 6, 12, 32, 32 "
                       "(densenet169) and 6, 12, 48, 32 (densenet201)", x->in_block[0], x->in_block[1], x->in_block[2], x->in_block[3]);
    if (!arch && *spec->arch)
        return CX_OK;              /* the mapping will tell what does not fit */
    if (!arch)
        return cx_fail(err, CX_E_DATA, "the file's layers (%d convolutions, %d transposed, %d dense, %d normalisations) are those of no network here; `cxnet "
                       "weights inspect` lists its tensors", x->kinds[CX_LAYER_CONV], x->kinds[CX_LAYER_CONVT], x->kinds[CX_LAYER_DENSE],
                       x->kinds[CX_LAYER_NORM]);
    if (*spec->arch && strcmp(spec->arch, arch) != 0)
        return cx_fail(err, CX_E_DATA, "the file's layers are those of %s, not of %s", arch, spec->arch);
    snprintf(spec->arch, sizeof spec->arch, "%s", arch);
    return CX_OK;
}

/* Side of the last map of the base CNN: 5x5 and four times 3x3, stride 2, no padding. */
static int last_side(int side)
{
    side = (side - 5) / 2 + 1;
    for (int i = 1; i < BASE_CONVS; i++)
        side = (side - 3) / 2 + 1;
    return side;
}

static cx_status side_of_base_cnn(const facts *x, int *side, cx_error *err)
{
    const int64_t flat = ends_of(x, nth(x, CX_LAYER_DENSE, 0), false);
    int lo = 0, hi = 0;
    for (int s = MIN_SIDE; s <= MAX_SIDE; s++)
        if ((int64_t)last_side(s) * last_side(s) * BASE_FILTERS == flat) {
            lo = lo ? lo : s;
            hi = s;
        }
    if (!lo)
        return cx_fail(err, CX_E_DATA, "base_cnn: its first dense layer reads %lld numbers, which no square film leaves behind", (long long)flat);
    if (lo != hi && !*side)
        return cx_fail(err, CX_E_DATA, "base_cnn: films of %d to %d px fit its weights alike; say which by --side", lo, hi);
    *side = *side ? *side : lo;
    return CX_OK;
}

/* What is 0 is filled in. */
static void fill(int *field, int64_t value)
{
    if (*field == 0 && value > 0 && value <= 65536)
        *field = (int)value;
}

static cx_status fill_spec(const facts *x, cx_model_spec *spec, bool *relu_known, cx_error *err)
{
    const keras_facts k = keras_facts_of(x->f);
    TRY(find_arch(x, spec, err));
    const bool densenet = strncmp(spec->arch, "densenet", 8) == 0, unet = strcmp(spec->arch, "unet") == 0;
    const int dense = x->kinds[CX_LAYER_DENSE];
    fill(&spec->channels, ends_of(x, stem_of(x), false));
    fill(&spec->side, k.side);
    if (unet) {
        fill(&spec->outputs, ends_of(x, nth(x, CX_LAYER_CONV, x->kinds[CX_LAYER_CONV] - 1), true));
        fill(&spec->base, ends_of(x, nth(x, CX_LAYER_CONV, 0), true));
        fill(&spec->depth, x->kinds[CX_LAYER_CONVT]);
        fill(&spec->side, UNET_SIDE);
        spec->norm |= x->kinds[CX_LAYER_NORM] > 0;
    } else
        fill(&spec->outputs, ends_of(x, nth(x, CX_LAYER_DENSE, dense - 1), true));
    if (densenet) {
        if (dense > 1)
            fill(&spec->hidden, ends_of(x, nth(x, CX_LAYER_DENSE, dense - 2), true));
        fill(&spec->side, DENSENET_SIDE);
        *relu_known = k.any || !x->keras;        /* PyTorch's networks have it */
        if (k.any)
            spec->no_final_relu = !k.final_relu;
    }
    if (spec->norm_eps == 0 && x->kinds[CX_LAYER_NORM] > 0)
        spec->norm_eps = k.eps > 0 ? k.eps : x->keras ? KERAS_EPS : TORCH_EPS;
    return densenet || unet ? CX_OK : side_of_base_cnn(x, &spec->side, err);
}

static cx_status from_card(const cx_st_file *f, cx_model_spec *spec, bool *relu_known, cx_error *err)
{
    cx_weights_card c;
    TRY(cx_weights_card_read(f, &c, err));
    const cx_model_spec have = c.spec, asked = *spec;
    cx_weights_card_free(&c);
    if (*asked.arch && strcmp(asked.arch, have.arch) != 0)
        return cx_fail(err, CX_E_DATA, "the file says that its weights are for %s, not for %s", have.arch, asked.arch);
    *spec = have;
    spec->side = asked.side ? asked.side : have.side;
    spec->channels = asked.channels ? asked.channels : have.channels;
    spec->hidden = asked.hidden ? asked.hidden : have.hidden;
    spec->outputs = asked.outputs ? asked.outputs : have.outputs;
    spec->norm_eps = asked.norm_eps > 0 ? asked.norm_eps : have.norm_eps;
    spec->base = asked.base ? asked.base : have.base;
    spec->depth = asked.depth ? asked.depth : have.depth;
    *relu_known = true;
    return CX_OK;
}

cx_status cx_weights_guess(const cx_st_file *f, cx_model_spec *spec, bool *final_relu_known, cx_error *err)
{
    facts x = { .f = f };
    bool known = false;
    if (!final_relu_known)
        final_relu_known = &known;
    *final_relu_known = false;
    if (cx_weights_has_card(f))
        return from_card(f, spec, final_relu_known, err);
    TRY(cx_file_layers(f, &x.layers, &x.n, err));
    for (int i = 0; i < x.n; i++)
        if (x.layers[i].kind < CX_LAYER_KINDS)
            x.kinds[x.layers[i].kind]++;
    x.keras = cx_is_keras_file(x.f, x.layers, x.n);
    count_blocks(&x);
    const cx_status s = fill_spec(&x, spec, final_relu_known, err);
    free(x.layers);
    return s;
}
