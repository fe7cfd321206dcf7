/* map.c - which tensor of a file is which value of a graph: by name where names are known, else by order and shape. Depends on layers.h. */
#include <stdlib.h>
#include <string.h>
#include "layers.h"

/* What a mapping is made from; names are those of the file, as cx_torch_name has them. */
typedef struct {
    const cx_st_file *f;
    const cx_graph *g;
    cx_mapping *m;
    int *row_of;                        /* [values] row of a kept value, -1 */
    int *taken;                         /* [tensors] row that has it, -1 */
    char (*name)[CX_NAME_MAX];
    cx_file_layer *layers; int n_layers;
} matcher;

static void pair(matcher *x, int source, int value)
{
    if (source < 0 || value < 0 || x->row_of[value] < 0 || x->taken[source] >= 0 || x->m->row[x->row_of[value]].source >= 0)
        return;
    x->m->row[x->row_of[value]].source = source;
    x->taken[source] = x->row_of[value];
}

static void unpair_all(matcher *x)
{
    for (int i = 0; i < x->f->n; i++)
        x->taken[i] = -1;
    for (int i = 0; i < x->m->n; i++)
        x->m->row[i].source = -1;
}

/* ---- the rules --------------------------------------------------------------------------------------------------------- */

/* Every value has its name in the file, vectors with four axes as ours have. */
static bool by_our_names(matcher *x)
{
    for (int i = 0; i < x->m->n; i++) {
        const int value = x->m->row[i].value;
        const cx_st_tensor *t = cx_st_find(x->f, x->g->values[value].name);
        if (t && t->nd == 4 && cx_layout_of(x->g, value, CX_AXES_TORCH).nd == 1)
            pair(x, (int)(t - x->f->tensors), value);
    }
    bool any = false;
    for (int i = 0; i < x->m->n; i++)
        any |= x->m->row[i].source >= 0;
    for (int i = 0; any && i < x->m->n; i++) {
        const cx_st_tensor *t = cx_st_find(x->f, x->g->values[x->m->row[i].value].name);
        if (t)
            pair(x, (int)(t - x->f->tensors), x->m->row[i].value);
    }
    x->m->axes = CX_AXES_OURS;
    x->m->how = "our own names and axes";
    return any;
}

/* torchvision's names are ours. Half of them must be there, or the likeness is chance. */
static bool by_torch_names(matcher *x)
{
    int found = 0;
    for (int i = 0; i < x->m->n; i++) {
        const char *want = x->g->values[x->m->row[i].value].name;
        for (int t = 0; t < x->f->n; t++)
            if (strcmp(x->name[t], want) == 0) {
                pair(x, t, x->m->row[i].value);
                found++;
                break;
            }
    }
    x->m->axes = CX_AXES_TORCH;
    x->m->how = "torchvision's names, PyTorch's axes";
    if (2 * found >= x->m->n)
        return true;
    unpair_all(x);
    return false;
}

/* Layer `wanted` of the file behind `prefix`; Keras 3 writes conv1_conv for conv1/conv. */
static const cx_file_layer *keras_layer(const matcher *x, const char *prefix, int prefix_length, const char *wanted)
{
    const int n = (int)strlen(wanted);
    for (int i = 0; i < x->n_layers; i++) {
        const cx_file_layer *l = &x->layers[i];
        bool same = l->length == prefix_length + n && strncmp(l->name, prefix, (size_t)prefix_length) == 0;
        for (int c = 0; same && c < n; c++)
            same = l->name[prefix_length + c] == wanted[c] || (wanted[c] == '/' && l->name[prefix_length + c] == '_');
        if (same)
            return l;
    }
    return NULL;
}

static void pair_layer(matcher *x, const cx_file_layer *l, int node)
{
    const cx_node *k = &x->g->nodes[node];
    for (int part = 0; part < CX_PARTS && part + 1 < k->n_in; part++)
        pair(x, l->part[part], k->in[part + 1]);
}

/* Dense layers have any names: the last one is the last, and so on backwards. */
static void pair_heads_backwards(matcher *x)
{
    int l = x->n_layers;
    for (int k = x->g->n_nodes - 1; k >= 0; k--) {
        if (cx_node_kind(x->g, k) != CX_LAYER_DENSE)
            continue;
        while (--l >= 0 && x->layers[l].kind != CX_LAYER_DENSE) {}
        if (l < 0)
            return;
        pair_layer(x, &x->layers[l], k);
    }
}

static bool by_keras_densenet_names(matcher *x)
{
    char wanted[CX_NAME_MAX];
    const char *prefix = NULL;
    int length = 0;
    for (int i = 0; i < x->n_layers && !prefix; i++) {
        static const char stem[] = "conv1/conv";
        const int at = x->layers[i].length - (int)sizeof stem + 1;
        if (at >= 0 && (at == 0 || x->layers[i].name[at - 1] == '/') && keras_layer(x, x->layers[i].name, at, stem) == &x->layers[i]) {
            prefix = x->layers[i].name;
            length = at;
        }
    }
    if (!prefix || cx_graph_find(x->g, "features.conv0.weight") < 0)
        return false;
    for (int k = 0; k < x->g->n_nodes; k++)
        if (cx_keras_densenet_layer(x->g->nodes[k].name, wanted)) {
            const cx_file_layer *l = keras_layer(x, prefix, length, wanted);
            if (l)
                pair_layer(x, l, k);
        }
    pair_heads_backwards(x);
    x->m->axes = CX_AXES_KERAS;
    x->m->how = "the layer names of Keras applications' DenseNet, Keras' axes; dense layers by order";
    return true;
}

/* Two layers that one could take for each other: one shape, and names whose numbers do not ascend. */
static bool are_twins(const matcher *x, const cx_file_layer *a, const cx_file_layer *b)
{
    char one[CX_NAME_MAX], two[CX_NAME_MAX];
    if (a->part[0] < 0 || b->part[0] < 0)
        return false;
    const cx_st_tensor *s = &x->f->tensors[a->part[0]], *t = &x->f->tensors[b->part[0]];
    if (s->nd != t->nd || memcmp(s->d, t->d, (size_t)s->nd * sizeof *s->d) != 0)
        return false;
    snprintf(one, sizeof one, "%.*s", a->length, a->name);
    snprintf(two, sizeof two, "%.*s", b->length, b->name);
    return strverscmp(one, two) >= 0;
}

/* The i-th layer of a kind is the i-th node of that kind, as Keras loads by topology. Where no name tells transposed convolutions apart, they stand in the
 * line of convolutions. */
static void by_order(matcher *x)
{
    int named = 0, wanted = 0;
    for (int i = 0; i < x->n_layers; i++)
        named += x->layers[i].kind == CX_LAYER_CONVT;
    for (int k = 0; k < x->g->n_nodes; k++)
        wanted += cx_node_kind(x->g, k) == CX_LAYER_CONVT;
    const bool together = named == 0 && wanted > 0;
    for (int kind = 0; kind < CX_LAYER_KINDS; kind++) {
        const cx_file_layer *before = NULL;
        int l = -1;
        for (int k = 0; k < x->g->n_nodes; k++) {
            const cx_layer_kind own = cx_node_kind(x->g, k);
            if ((together && own == CX_LAYER_CONVT ? CX_LAYER_CONV : (int)own) != kind)
                continue;
            while (++l < x->n_layers && (together && x->layers[l].kind == CX_LAYER_CONVT ? CX_LAYER_CONV : (int)x->layers[l].kind) != kind) {}
            if (l >= x->n_layers)
                break;
            pair_layer(x, &x->layers[l], k);
            x->m->twins += before && are_twins(x, before, &x->layers[l]);
            before = &x->layers[l];
        }
    }
    x->m->by_order = true;
    x->m->axes = cx_is_keras_file(x->f, x->layers, x->n_layers) ? CX_AXES_KERAS : CX_AXES_TORCH;
    x->m->how = x->m->axes == CX_AXES_KERAS ? "the order of layers of each kind, Keras' axes" : "the order of layers of each kind, PyTorch's axes";
}

/* ---- what became of each ----------------------------------------------------------------------------------------------- */

/* What files of known makers hold beside weights. */
static bool is_by_product(const char *name)
{
    static const char *const ends[] = { "num_batches_tracked", "op_threshs" }, *const begins[] = { "optim", "top_level_model_weights" };
    const size_t n = strlen(name);
    for (int i = 0; i < CX_COUNT(ends); i++)
        if (n >= strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    for (int i = 0; i < CX_COUNT(begins); i++)
        if (strncmp(name, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

static bool fits(const matcher *x, const cx_pairing *p)
{
    const cx_layout l = cx_layout_of(x->g, p->value, x->m->axes);
    const cx_st_tensor *t = &x->f->tensors[p->source];
    return t->dtype == CX_F32 && t->nd == l.nd && memcmp(t->d, l.d, (size_t)l.nd * sizeof *l.d) == 0;
}

/* A dense layer of the file that found no node is a head too. */
static bool was_head(const matcher *x, int source)
{
    if (cx_is_head(x->name[source]))
        return true;
    for (int i = 0; i < x->n_layers; i++)
        for (int part = 0; part < CX_PARTS; part++)
            if (x->layers[i].part[part] == source)
                return x->layers[i].kind == CX_LAYER_DENSE;
    return false;
}

static void judge(matcher *x, cx_head head)
{
    cx_mapping *m = x->m;
    const int values = m->n;
    for (int i = 0; i < values; i++) {
        cx_pairing *p = &m->row[i];
        const bool dropped = head == CX_HEAD_DROP && cx_is_head(x->g->values[p->value].name);
        if (dropped && p->source >= 0) {
            m->row[m->n++] = (cx_pairing){ p->source, -1, CX_PAIR_LEFT_OUT };
            p->source = -1;
        }
        p->state = dropped ? CX_PAIR_HEAD : p->source < 0 ? CX_PAIR_MISSING : fits(x, p) ? CX_PAIR_USED : CX_PAIR_MISFIT;
    }
    for (int t = 0; t < x->f->n; t++)
        if (x->taken[t] < 0) {
            const bool known = is_by_product(x->f->tensors[t].name) || (head == CX_HEAD_DROP && was_head(x, t));
            m->row[m->n++] = (cx_pairing){ t, -1, known ? CX_PAIR_LEFT_OUT : CX_PAIR_UNUSED };
        }
    for (int i = 0; i < m->n; i++)
        m->count[m->row[i].state]++;
}

static cx_status find_all(matcher *x, cx_head head, cx_error *err)
{
    x->m->row = cx_alloc((size_t)x->g->n_values + (size_t)x->f->n, sizeof *x->m->row);
    x->row_of = cx_alloc((size_t)x->g->n_values, sizeof *x->row_of);
    x->taken = cx_alloc((size_t)x->f->n, sizeof *x->taken);
    x->name = cx_alloc((size_t)x->f->n, sizeof *x->name);
    if (!x->m->row || !x->row_of || !x->taken || !x->name)
        return cx_fail(err, CX_E_MEMORY, "no memory for a mapping of %d tensors", x->f->n);
    TRY(cx_file_layers(x->f, &x->layers, &x->n_layers, err));
    for (int v = 0; v < x->g->n_values; v++) {
        x->row_of[v] = -1;
        if (cx_weights_kept(x->g, v)) {
            x->row_of[v] = x->m->n;
            x->m->row[x->m->n++] = (cx_pairing){ -1, v, CX_PAIR_MISSING };
        }
    }
    for (int t = 0; t < x->f->n; t++)
        cx_torch_name(x->f->tensors[t].name, x->name[t]);
    unpair_all(x);
    if (!by_our_names(x) && !by_torch_names(x) && !by_keras_densenet_names(x))
        by_order(x);
    judge(x, head);
    return CX_OK;
}

cx_status cx_weights_map(const cx_st_file *f, const cx_graph *g, cx_head head, cx_mapping *out, cx_error *err)
{
    *out = (cx_mapping){ 0 };
    matcher x = { .f = f, .g = g, .m = out };
    const cx_status s = find_all(&x, head, err);
    free(x.row_of);
    free(x.taken);
    free(x.name);
    free(x.layers);
    if (s != CX_OK)
        cx_weights_map_free(out);
    return s;
}

void cx_weights_map_free(cx_mapping *m)
{
    free(m->row);
    *m = (cx_mapping){ 0 };
}

/* ---- saying it ------------------------------------------------------------------------------------------------------------ */

typedef struct { char text[96]; } shape_text;

static shape_text shape_of(const int64_t *d, int nd)
{
    shape_text s = { "scalar" };
    size_t n = 0;
    for (int i = 0; i < nd && n + 24 < sizeof s.text; i++)
        n += (size_t)snprintf(s.text + n, sizeof s.text - n, "%s%lld", i ? "x" : "", (long long)d[i]);
    return s;
}

static shape_text wanted_shape(const cx_graph *g, int value, cx_axes axes)
{
    const cx_layout l = cx_layout_of(g, value, axes);
    return shape_of(l.d, l.nd);
}

cx_status cx_weights_map_check(const cx_st_file *f, const cx_graph *g, const cx_mapping *m, cx_error *err)
{
    const int bad = m->count[CX_PAIR_MISFIT] + m->count[CX_PAIR_MISSING] + m->count[CX_PAIR_UNUSED];
    for (int i = 0; i < m->n; i++) {
        const cx_pairing *p = &m->row[i];
        const char *value = p->value < 0 ? "" : g->values[p->value].name, *source = p->source < 0 ? "" : f->tensors[p->source].name;
        const char *head = cx_is_head(value) ? "; the last layers of another task can be left out with --head drop or --head replace:N" : "";
        if (p->state == CX_PAIR_MISFIT)
            return cx_fail(err, CX_E_DATA, "weights: %s is %s in the file, %s wants %s (%d of %d do not fit; partners by %s)%s", source,
                           shape_of(f->tensors[p->source].d, f->tensors[p->source].nd).text, value, wanted_shape(g, p->value, m->axes).text, bad, m->n,
                           m->how, head);
        if (p->state == CX_PAIR_MISSING)
            return cx_fail(err, CX_E_DATA, "weights: the file has nothing for %s (%s) (%d of %d do not fit; partners by %s); is it of another "
                           "architecture?%s", value, wanted_shape(g, p->value, m->axes).text, bad, m->n, m->how, head);
        if (p->state == CX_PAIR_UNUSED)
            return cx_fail(err, CX_E_DATA, "weights: nothing in the network takes the file's %s (%s) (%d of %d do not fit; partners by %s); is it of another "
                           "architecture?", source, shape_of(f->tensors[p->source].d, f->tensors[p->source].nd).text, bad, m->n, m->how);
    }
    return CX_OK;
}

const char *cx_pair_state_name(cx_pair_state s)
{
    static const char *const names[CX_PAIR_STATES] = { "used", "misfit", "missing", "as initialised", "unused", "left out" };
    return names[s];
}

void cx_weights_map_print(const cx_st_file *f, const cx_graph *g, const cx_mapping *m, FILE *out)
{
    int wide = 6;
    for (int i = 0; i < f->n; i++)
        wide = (int)strlen(f->tensors[i].name) > wide ? (int)strlen(f->tensors[i].name) : wide;
    for (int i = 0; i < m->n; i++) {
        const cx_pairing *p = &m->row[i];
        const cx_st_tensor *t = p->source < 0 ? NULL : &f->tensors[p->source];
        fprintf(out, "%-14s  %-*s  %-14s", cx_pair_state_name(p->state), wide, t ? t->name : "-", t ? shape_of(t->d, t->nd).text : "-");
        if (p->value >= 0)
            fprintf(out, "  %s  %s", g->values[p->value].name, wanted_shape(g, p->value, CX_AXES_OURS).text);
        fputc('\n', out);
    }
    fprintf(out, "partners by %s: %d used, %d missing, %d unused, %d misfits, %d left out, %d as initialised\n", m->how, m->count[CX_PAIR_USED],
            m->count[CX_PAIR_MISSING], m->count[CX_PAIR_UNUSED], m->count[CX_PAIR_MISFIT], m->count[CX_PAIR_LEFT_OUT], m->count[CX_PAIR_HEAD]);
    if (m->twins)
        fprintf(out, "warning: %d neighbours have one shape, and only their order in the file tells them apart; hold the network against known outputs "
                "(cxnet weights verify --inputs --outputs)\n", m->twins);
}

/* ---- taking -------------------------------------------------------------------------------------------------------------- */

/* A convolution that reads the film: a BGR network's weights for blue stand where red's belong. */
static void swap_ends(const cx_graph *g, int value, float *w)
{
    int part;
    const int node = cx_weights_reader(g, value, &part);
    const cx_shape s = g->values[value].shape;
    if (part != 0 || s.c != 3 || cx_node_kind(g, node) != CX_LAYER_CONV || g->values[g->nodes[node].in[0]].kind != CX_INPUT)
        return;
    for (int64_t i = 0; i < s.n * s.h * s.w; i++) {
        const float red = w[3 * i];
        w[3 * i] = w[3 * i + 2];
        w[3 * i + 2] = red;
    }
}

static cx_status take_one(cx_store *s, const cx_st_tensor *t, int value, cx_axes axes, bool swap_rgb, cx_error *err)
{
    const cx_graph *g = cx_store_graph(s);
    const cx_layout l = cx_layout_of(g, value, axes);
    float *file = cx_alloc_aligned(t->bytes, 1), *ours = cx_alloc_aligned(t->bytes, 1);
    cx_status status = file && ours ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %s", t->name);
    if (status == CX_OK) {
        memcpy(file, t->data, t->bytes);                /* a file's tensors may lie at any byte */
        cx_layout_in(&l, file, ours);
        if (swap_rgb)
            swap_ends(g, value, ours);
        status = cx_store_set(s, value, ours, err);
    }
    free(file);
    free(ours);
    return status;
}

cx_status cx_weights_take(cx_store *s, const cx_st_file *f, const cx_mapping *m, bool swap_rgb, cx_error *err)
{
    for (int i = 0; i < m->n; i++)
        if (m->row[i].state == CX_PAIR_MISFIT)
            return cx_weights_map_check(f, cx_store_graph(s), m, err);
    for (int i = 0; i < m->n; i++)
        if (m->row[i].state == CX_PAIR_USED)
            TRY(take_one(s, &f->tensors[m->row[i].source], m->row[i].value, m->axes, swap_rgb, err));
    return CX_OK;
}
