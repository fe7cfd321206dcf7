/* export_keras.c - a network's weights as Keras wrote them until version 2: HDF5, one group for each layer, "weights only". Depends on layers.h, libhdf5. */
#include <stdlib.h>
#include <string.h>
#define H5_USE_110_API          /* the same calls with 1.10, 1.12 and 1.14 */
#include <hdf5.h>
#include "layers.h"

enum { GROW_BYTES = 1 << 20, ATTRIBUTE_BYTES = 64512 };    /* what h5py, and so Keras, takes as the largest list of names */

typedef struct { char layer[CX_NAME_MAX]; int node; } keras_layer;

/* ---- names ------------------------------------------------------------------------------------------------------------- */

/* Keras applications' names; automatic ones elsewhere, counted by kind. */
static void name_layer(const cx_graph *g, int node, int seen[CX_LAYER_KINDS], char out[CX_NAME_MAX])
{
    static const char *const automatic[CX_LAYER_KINDS] = { "conv2d", "conv2d_transpose", "dense", "batch_normalization" };
    const cx_layer_kind kind = cx_node_kind(g, node);
    const bool densenet = cx_graph_find(g, "features.conv0.weight") >= 0;
    if (cx_keras_densenet_layer(g->nodes[node].name, out))
        return;
    if (densenet && kind == CX_LAYER_DENSE)
        snprintf(out, CX_NAME_MAX, "%s", strcmp(g->nodes[node].name, "fc") == 0 ? "fc" : "predictions");
    else if (seen[kind]++ == 0)
        snprintf(out, CX_NAME_MAX, "%s", automatic[kind]);
    else
        snprintf(out, CX_NAME_MAX, "%s_%d", automatic[kind], seen[kind] - 1);
}

/* ---- HDF5: every call may fail, and `ok` remembers ---------------------------------------------------------------------- */

typedef struct { hid_t file; hid_t making, plain; bool ok; } h5;      /* making: links that make the groups on their way; plain: datasets without times */

static bool keep(h5 *h, bool good)
{
    h->ok &= good;
    return good;
}

/* A list of texts of one fixed length, or one text (n = 0). */
static void put_texts(h5 *h, hid_t at, const char *name, const char *const *text, int n)
{
    size_t width = 1;
    const hsize_t count = (hsize_t)(n ? n : 1);
    for (hsize_t i = 0; i < count; i++)
        width = strlen(text[i]) > width ? strlen(text[i]) : width;
    char *flat = cx_alloc((size_t)count, width);
    const hid_t type = H5Tcopy(H5T_C_S1), space = n ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR);
    if (keep(h, flat && type >= 0 && space >= 0 && count * width <= ATTRIBUTE_BYTES)) {
        for (hsize_t i = 0; i < count; i++)
            memcpy(flat + i * width, text[i], strlen(text[i]));
        keep(h, H5Tset_size(type, width) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0);
        const hid_t attribute = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        keep(h, attribute >= 0 && H5Awrite(attribute, type, flat) >= 0);
        if (attribute >= 0)
            H5Aclose(attribute);
    }
    free(flat);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
}

static void put_dataset(h5 *h, hid_t group, const char *name, const cx_layout *l, const float *data)
{
    hsize_t d[4];
    for (int i = 0; i < l->nd; i++)
        d[i] = (hsize_t)l->d[i];
    const hid_t space = H5Screate_simple(l->nd, d, NULL);
    const hid_t set = space < 0 ? -1 : H5Dcreate2(group, name, H5T_IEEE_F32LE, space, h->making, h->plain, H5P_DEFAULT);
    keep(h, set >= 0 && H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    if (set >= 0)
        H5Dclose(set);
    if (space >= 0)
        H5Sclose(space);
}

/* ---- layers --------------------------------------------------------------------------------------------------------------- */

static cx_status put_weight(h5 *h, hid_t group, cx_store *s, int value, const char *name, cx_error *err)
{
    cx_layout l;
    float *file;
    TRY(cx_layout_out(s, value, CX_AXES_KERAS, &l, &file, err));
    put_dataset(h, group, name, &l, file);
    free(file);
    return CX_OK;
}

/* Group "conv1/conv" with datasets "conv1/conv/kernel:0" below it, which attribute weight_names lists. */
static cx_status put_layer(h5 *h, cx_store *s, const keras_layer *k, cx_error *err)
{
    const cx_graph *g = cx_store_graph(s);
    const cx_node *node = &g->nodes[k->node];
    const cx_layer_kind kind = cx_node_kind(g, k->node);
    char name[CX_PARTS][2 * CX_NAME_MAX];
    const char *names[CX_PARTS] = { name[0], name[1], name[2], name[3] };
    const hid_t group = H5Gcreate2(h->file, k->layer, h->making, H5P_DEFAULT, H5P_DEFAULT);
    cx_status status = CX_OK;
    int n = 0;
    if (!keep(h, group >= 0))
        return CX_OK;
    for (int part = 0; part < CX_PARTS && part + 1 < node->n_in && status == CX_OK; part++) {
        if (node->in[part + 1] < 0)
            continue;
        snprintf(name[n], sizeof name[n], "%s/%s:0", k->layer, cx_keras_part(kind, part));
        status = put_weight(h, group, s, node->in[part + 1], name[n++], err);
    }
    put_texts(h, group, "weight_names", names, n);
    H5Gclose(group);
    return status;
}

static cx_status put_all(h5 *h, const cx_weights_net *net, cx_error *err)
{
    const cx_graph *g = net->model.graph;
    int seen[CX_LAYER_KINDS] = { 0 }, n = 0;
    keras_layer *layers = cx_alloc((size_t)g->n_nodes, sizeof *layers);
    const char **names = cx_alloc((size_t)g->n_nodes, sizeof *names);
    cx_status status = layers && names ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for layer names");
    for (int k = 0; status == CX_OK && k < g->n_nodes; k++) {
        if (cx_node_kind(g, k) == CX_LAYER_OTHER)
            continue;
        layers[n].node = k;
        name_layer(g, k, seen, layers[n].layer);
        names[n] = layers[n].layer;
        status = put_layer(h, net->store, &layers[n++], err);
    }
    if (status == CX_OK) {
        put_texts(h, h->file, "layer_names", names, n);
        put_texts(h, h->file, "backend", (const char *const[]){ "tensorflow" }, 0);
        put_texts(h, h->file, "keras_version", (const char *const[]){ "2.15.0" }, 0);
    }
    free(layers);
    free(names);
    return status;
}

/* ---- the file --------------------------------------------------------------------------------------------------------------- */

/* The file is made in memory, and written as every other file is. */
static cx_status image_out(h5 *h, const char *path, cx_error *err)
{
    const ssize_t n = H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(h->file, NULL, 0);
    char *image = n > 0 ? cx_alloc((size_t)n, 1) : NULL;
    cx_status s = CX_OK;
    if (!image || H5Fget_file_image(h->file, image, (size_t)n) != n)
        s = cx_fail(err, CX_E_INTERNAL, "%s: libhdf5 does not give the file it has made", path);
    else
        s = cx_file_write(path, image, (size_t)n, err);
    free(image);
    return s;
}

static cx_status make_file(h5 *h, const cx_weights_net *n, const char *path, cx_error *err)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    h->making = H5Pcreate(H5P_LINK_CREATE);
    h->plain = H5Pcreate(H5P_DATASET_CREATE);
    keep(h, access >= 0 && H5Pset_fapl_core(access, GROW_BYTES, 0) >= 0);
    keep(h, h->making >= 0 && H5Pset_create_intermediate_group(h->making, 1) >= 0);
    keep(h, h->plain >= 0 && H5Pset_obj_track_times(h->plain, 0) >= 0);
    h->file = h->ok ? H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access) : -1;
    cx_status s = CX_OK;
    if (keep(h, h->file >= 0))
        s = put_all(h, n, err);
    if (s == CX_OK && !h->ok)
        s = cx_fail(err, CX_E_INTERNAL, "%s: libhdf5 cannot make the file in memory", path);
    if (s == CX_OK)
        s = image_out(h, path, err);
    if (h->file >= 0)
        H5Fclose(h->file);
    if (h->plain >= 0)
        H5Pclose(h->plain);
    if (h->making >= 0)
        H5Pclose(h->making);
    if (access >= 0)
        H5Pclose(access);
    return s;
}

cx_status cx_weights_export_keras(const cx_weights_net *n, const char *path, cx_error *err)
{
    H5E_auto2_t print;
    void *context;
    h5 h = { .file = -1, .ok = true };
    H5Eget_auto2(H5E_DEFAULT, &print, &context);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);          /* libhdf5 would speak for itself */
    const cx_status s = make_file(&h, n, path, err);
    H5Eset_auto2(H5E_DEFAULT, print, context);
    return s;
}
