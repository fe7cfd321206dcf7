/* keras3.c - the layout that Keras 3 (and 2.12 to 2.15) gives to .weights.h5, alone or in a .keras archive: groups for objects, datasets vars/0, vars/1.
 * Depends on h5.h.
 *
 * The file says neither what a variable is nor, for some writers, what its layer is called:
 *   layer      attribute "name" of its vars (Keras 3.15); else from the configuration of a .keras archive; else the group's name ("conv2d_2": the third Conv2D)
 *   variable   from the layer's class, which the group's name says: conv2d/vars/1 is "bias"; of a class that is not known, and of a norm with three variables
 *              and no configuration, "vars/1"
 * Objects inside of layers keep their groups' names: "attention/query_dense/kernel". Order: groups by name with numbers as numbers (conv2d_2 before
 * conv2d_10), so layers of one class stand in the order in which the model lists them; across classes the file has no order. Optimiser, metrics, losses and
 * the state of random generators are counted, not read. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "h5.h"
#include "keras_names.h"

enum { DEEPEST = 32, MOST_OBJECTS = 50000 };
static const char *const left_out[] = {
    "optimizer", "metrics", "compile_metrics", "_compile_metrics", "compile_loss", "_compile_loss", "loss_tracker", "loss"
};

typedef struct {
    const cx_h5 *f;
    cx_sink *s;
    haddr_t *seen; size_t n_seen;      /* objects: none is met twice, so nothing can run in circles */
    size_t others;                     /* datasets that are no weights */
} walk;

typedef struct {
    const char *where, *prefix;        /* the group's path; "" or "densenet121/" */
    const char *segment;               /* its own name */
    const json_t *config;              /* of the container or layer that it is; NULL: unknown */
    bool count;                        /* nothing below is a weight */
    int depth;
} place;

/* ---- the names in a group ------------------------------------------------------------------------------------------------ */

typedef struct { cx_texts names; size_t cap; char soft[256]; } links;

static herr_t on_link(hid_t group, const char *name, const H5L_info_t *info, void *out)
{
    links *l = out;
    (void)group;
    if (info->type != H5L_TYPE_HARD)
        snprintf(l->soft, sizeof l->soft, "%.250s", name);
    if (info->type != H5L_TYPE_HARD || l->names.n >= MOST_OBJECTS || !cx_grow(&l->names.text, &l->cap, l->names.n + 1, sizeof(char *)))
        return -1;
    l->names.text[l->names.n] = cx_strdup(name);
    return l->names.text[l->names.n++] ? 0 : -1;
}

static int by_nature(const void *pa, const void *pb)
{
    const char *a = *(char *const *)pa, *b = *(char *const *)pb;
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            const size_t za = strspn(a, "0"), zb = strspn(b, "0"), na = strspn(a + za, "0123456789"), nb = strspn(b + zb, "0123456789");
            const int order = na != nb ? (na < nb ? -1 : 1) : strncmp(a + za, b + zb, na);
            if (order || za != zb)
                return order ? order : za < zb ? -1 : 1;
            a += za + na;
            b += zb + nb;
        } else if (*a != *b)
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        else
            a++, b++;
    }
    return *a ? 1 : *b ? -1 : 0;
}

static cx_status list(hid_t group, const char *where, cx_texts *out, cx_error *err)
{
    links l = { 0 };
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, on_link, &l) < 0) {
        const bool soft = l.soft[0] != 0, many = l.names.n >= MOST_OBJECTS;
        cx_texts_free(&l.names);
        if (soft)
            return cx_fail(err, CX_E_DATA, "HDF5: '%s/%s' is a soft link or one into another file; Keras writes none, and it is not followed", where, l.soft);
        return many ? cx_fail(err, CX_E_DATA, "HDF5: '%s' holds more than %d objects", where, MOST_OBJECTS)
                    : cx_h5_fail(err, "HDF5: what lies in '%s' cannot be listed", where);
    }
    if (l.names.n > 1)
        qsort(l.names.text, l.names.n, sizeof(char *), by_nature);
    *out = l.names;
    return CX_OK;
}

/* ---- the walk ------------------------------------------------------------------------------------------------------------ */

static cx_status meet(walk *w, hid_t object, const char *where, cx_error *err)
{
    H5O_info_t info;
    if (H5Oget_info(object, &info) < 0)
        return cx_h5_fail(err, "HDF5: '%s' cannot be examined", where);
    if (w->n_seen >= MOST_OBJECTS)
        return cx_fail(err, CX_E_DATA, "HDF5: more than %d objects", MOST_OBJECTS);
    for (size_t i = 0; i < w->n_seen; i++)
        if (w->seen[i] == info.addr)
            return cx_fail(err, CX_E_DATA, "HDF5: '%s' is an object that was met before: its groups run in a circle, or share what they hold", where);
    w->seen[w->n_seen++] = info.addr;
    return CX_OK;
}

static bool is_left_out(const place *p, const char *name)
{
    if (strcmp(name, "seed_generator") == 0 || strncmp(name, "seed_generator_", 15) == 0)
        return true;
    for (int i = 0; p->depth == 0 && i < CX_COUNT(left_out); i++)
        if (strcmp(name, left_out[i]) == 0)
            return true;
    return false;
}

static cx_status read_variable(walk *w, const place *p, hid_t dataset, const char *where, const char *variable, cx_error *err)
{
    if (p->count) {
        w->others++;
        return CX_OK;
    }
    char *name = cx_sprintf("%s%s", p->prefix, variable);
    const cx_status s = name ? cx_h5_tensor(w->f, dataset, where, name, w->s, err) : cx_fail(err, CX_E_MEMORY, "no memory for a name");
    free(name);
    return s;
}

/* p: the layer that these are the variables of. */
static cx_status read_vars(walk *w, const place *p, hid_t vars, const char *where, cx_error *err)
{
    cx_texts names;
    TRY(list(vars, where, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        hid_t dataset;
        char numbered[32], *path = cx_sprintf("%s/%s", where, names.text[i]), *plain = cx_sprintf("vars/%s", names.text[i]);
        if (!path || !plain)
            return cx_fail(err, CX_E_MEMORY, "no memory for a name");
        snprintf(numbered, sizeof numbered, "%zu", i);
        const char *known = strcmp(names.text[i], numbered) == 0 ? cx_keras_variable(p->segment, p->config, (int)i, (int)names.n) : NULL;
        TRY(cx_h5_step(vars, where, names.text[i], &dataset, err));
        TRY(meet(w, dataset, path, err));
        TRY(read_variable(w, p, dataset, path, known ? known : plain, err));
        H5Oclose(dataset);
        free(path);
        free(plain);
    }
    cx_texts_free(&names);
    return CX_OK;
}

/* What the layer in a group calls itself; NULL when the file does not say. Owned by the caller. */
static cx_status own_name(const walk *w, hid_t group, const char *where, char **out, cx_error *err)
{
    cx_texts t;
    hid_t vars;
    *out = NULL;
    if (H5Iget_type(group) != H5I_GROUP || H5Lexists(group, "vars", H5P_DEFAULT) <= 0)
        return CX_OK;
    TRY(cx_h5_step(group, where, "vars", &vars, err));
    if (H5Aexists(vars, "name") > 0) {
        TRY(cx_h5_texts(w->f, vars, where, "name", &t, err));
        if (t.n != 1 || !t.text[0][0])
            return cx_fail(err, CX_E_DATA, "HDF5: '%s/vars': attribute 'name': want one text", where);
        *out = cx_strdup(t.text[0]);
        cx_texts_free(&t);
    }
    H5Oclose(vars);
    return CX_OK;
}

static cx_status walk_group(walk *w, const place *p, hid_t group, cx_error *err);

/* The second is Keras 2.12's and 2.13's. */
static bool is_list_of_layers(const char *name)
{
    return strcmp(name, "layers") == 0 || strcmp(name, "_layer_checkpoint_dependencies") == 0;
}

/* Goes from p into its child `name`, which is no "vars". */
static cx_status walk_child(walk *w, const place *p, hid_t child, const char *where, const char *name, cx_error *err)
{
    const bool list_of_layers = is_list_of_layers(name);
    const json_t *layer = p->config && is_list_of_layers(p->segment) ? cx_keras_layer_of_group(p->config, name) : NULL;
    const char *named = cx_keras_layer_name(layer);
    char *own = NULL;
    if (!list_of_layers)
        TRY(own_name(w, child, where, &own, err));
    char *prefix = list_of_layers ? cx_strdup(p->prefix) : cx_sprintf("%s%s/", p->prefix, own ? own : named ? named : name);
    if (!prefix)
        return cx_fail(err, CX_E_MEMORY, "no memory for a name");
    const place below = { where, prefix, name, list_of_layers ? p->config : layer, p->count || is_left_out(p, name), p->depth + 1 };
    const cx_status s = walk_group(w, &below, child, err);
    free(own);
    free(prefix);
    return s;
}

static cx_status walk_group(walk *w, const place *p, hid_t group, cx_error *err)
{
    cx_texts names;
    if (p->depth > DEEPEST)
        return cx_fail(err, CX_E_DATA, "HDF5: '%.200s': groups lie more than %d deep in one another", p->where, DEEPEST);
    if (H5Iget_type(group) != H5I_GROUP)
        return cx_fail(err, CX_E_DATA, "HDF5: '%.200s' is no group", p->where);
    TRY(list(group, p->where, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        hid_t child;
        char *where = cx_sprintf("%s/%s", p->where, names.text[i]);
        if (!where)
            return cx_fail(err, CX_E_MEMORY, "no memory for a name");
        TRY(cx_h5_step(group, p->where, names.text[i], &child, err));
        TRY(meet(w, child, where, err));
        TRY(strcmp(names.text[i], "vars") == 0 ? read_vars(w, p, child, where, err) : walk_child(w, p, child, where, names.text[i], err));
        H5Oclose(child);
        free(where);
    }
    cx_texts_free(&names);
    return CX_OK;
}

cx_status cx_keras3_walk(const cx_h5 *f, const json_t *config, cx_sink *s, cx_error *err)
{
    char others[32];
    walk w = { .f = f, .s = s, .seen = cx_alloc(MOST_OBJECTS, sizeof *w.seen) };
    const place top = { "", "", "", config, false, 0 };
    if (!w.seen)
        return cx_fail(err, CX_E_MEMORY, "no memory for %d objects", MOST_OBJECTS);
    TRY(meet(&w, f->root, "/", err));
    TRY(walk_group(&w, &top, f->root, err));
    free(w.seen);
    snprintf(others, sizeof others, "%zu", w.others);
    return cx_sink_meta_text(s, "keras.other_tensors", others, err);
}
