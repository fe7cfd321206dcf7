/* keras.c - what Keras puts into HDF5 files, with the old layout read here and the new one in keras3.c; and the .keras archive. Depends on h5.h, zip.h.
 *
 * Names of tensors:
 *   legacy      layer "/" weight, the weight's name without the layer's own in front and without ":0": layer "conv1/conv", weight "conv1/conv/kernel:0" ->
 *               "conv1/conv/kernel"; of a nested model, which is one layer here, "densenet121/conv1/conv/kernel"
 *   Keras 3     the same, from the groups: "conv1/kernel", "densenet121/conv1/kernel"; see keras3.c
 * The order is the file's: layer_names, then weight_names (of a nested model: trainable weights first). What belongs to an optimiser is counted, not read. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "h5.h"
#include "keras_names.h"
#include "zip.h"

/* ---- the legacy layout -------------------------------------------------------------------------------------------------- */

/* Owned by the caller; NULL when out of memory. */
static char *tensor_name(const char *layer, const char *weight)
{
    const size_t n = strlen(layer);
    const char *rest = strncmp(weight, layer, n) == 0 && weight[n] == '/' ? weight + n + 1 : weight, *colon = strrchr(rest, ':');
    const bool numbered = colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1);
    return cx_sprintf("%s/%.*s", layer, (int)(numbered ? (size_t)(colon - rest) : strlen(rest)), rest);
}

static cx_status read_weight(const cx_h5 *f, hid_t group, const char *where, const char *layer, const char *weight, cx_sink *s, cx_error *err)
{
    hid_t dataset;
    TRY(cx_h5_step(group, where, weight, &dataset, err));
    char *name = tensor_name(layer, weight), *path = cx_sprintf("%s/%s", where, weight);
    const cx_status status = name && path ? cx_h5_tensor(f, dataset, path, name, s, err) : cx_fail(err, CX_E_MEMORY, "no memory for a name");
    free(name);
    free(path);
    H5Oclose(dataset);
    return status;
}

static cx_status read_layer(const cx_h5 *f, hid_t root, const char *layer, cx_sink *s, cx_error *err)
{
    hid_t group;
    cx_texts weights;
    TRY(cx_h5_step(root, "", layer, &group, err));
    TRY(cx_h5_text_list(f, group, layer, "weight_names", &weights, err));
    cx_status status = CX_OK;
    for (size_t i = 0; status == CX_OK && i < weights.n; i++)
        status = read_weight(f, group, layer, layer, weights.text[i], s, err);
    cx_texts_free(&weights);
    H5Oclose(group);
    return status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static cx_status check_once(const cx_texts *names, cx_error *err)
{
    char **sorted = cx_alloc(names->n, sizeof *sorted);
    if (!sorted)
        return cx_fail(err, CX_E_MEMORY, "no memory for the names of %zu layers", names->n);
    if (names->n) {
        memcpy(sorted, names->text, names->n * sizeof *sorted);
        qsort(sorted, names->n, sizeof *sorted, by_text);
    }
    cx_status s = CX_OK;
    for (size_t i = 1; s == CX_OK && i < names->n; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            s = cx_fail(err, CX_E_DATA, "HDF5: layer_names has '%.200s' twice", sorted[i]);
    free(sorted);
    return s;
}

/* Weights that belong to the model and to no layer of it: "layer_names" does not list their group. */
static const char TOP_LEVEL[] = "top_level_model_weights";

static cx_status read_layers(const cx_h5 *f, hid_t root, cx_sink *s, cx_error *err)
{
    cx_texts layers;
    bool top_listed = false;
    TRY(cx_h5_text_list(f, root, "", "layer_names", &layers, err));
    TRY(check_once(&layers, err));
    TRY(cx_keras_layers((const char *const *)layers.text, layers.n, s, err));
    for (size_t i = 0; i < layers.n; i++) {
        TRY(read_layer(f, root, layers.text[i], s, err));
        top_listed = top_listed || strcmp(layers.text[i], TOP_LEVEL) == 0;
    }
    cx_texts_free(&layers);
    return !top_listed && H5Lexists(root, TOP_LEVEL, H5P_DEFAULT) > 0 ? read_layer(f, root, TOP_LEVEL, s, err) : CX_OK;
}

/* ---- what a file says of itself ------------------------------------------------------------------------------------------ */

static cx_status tell(const cx_h5 *f, hid_t object, const char *attribute, const char *key, cx_sink *s, cx_error *err)
{
    cx_texts t;
    if (H5Aexists(object, attribute) <= 0)
        return CX_OK;
    TRY(cx_h5_texts(f, object, "", attribute, &t, err));
    const cx_status status = t.n == 1 ? cx_sink_meta_text(s, key, t.text[0], err) : cx_fail(err, CX_E_DATA, "HDF5: attribute '%s': want one text", attribute);
    cx_texts_free(&t);
    return status;
}

static cx_status count_optimizer(const cx_h5 *f, cx_sink *s, cx_error *err)
{
    hid_t group;
    cx_texts weights = { 0 };
    char text[32];
    if (H5Lexists(f->root, "optimizer_weights", H5P_DEFAULT) <= 0)
        return CX_OK;
    TRY(cx_h5_step(f->root, "", "optimizer_weights", &group, err));
    if (cx_h5_has(group, "weight_names"))
        TRY(cx_h5_text_list(f, group, "optimizer_weights", "weight_names", &weights, err));
    snprintf(text, sizeof text, "%zu", weights.n);
    cx_texts_free(&weights);
    H5Oclose(group);
    return cx_sink_meta_text(s, "keras.other_tensors", text, err);
}

static cx_status read_legacy(const cx_h5 *f, hid_t root, bool whole, cx_sink *s, cx_error *err)
{
    TRY(cx_sink_meta_text(s, "format", whole ? "keras legacy model" : "keras legacy weights", err));
    TRY(tell(f, root, "backend", "keras.backend", s, err));
    TRY(tell(f, root, "keras_version", "keras.version", s, err));
    if (whole) {
        TRY(tell(f, f->root, "model_config", "keras.model_config", s, err));
        TRY(count_optimizer(f, s, err));
    }
    return read_layers(f, root, s, err);
}

/* ---- HDF5 ---------------------------------------------------------------------------------------------------------------- */

cx_status cx_parse_hdf5(const unsigned char *p, size_t n, cx_sink *s, cx_error *err)
{
    cx_h5 f;
    TRY(cx_h5_open(p, n, &f, err));
    if (cx_h5_has(f.root, "layer_names"))
        return read_legacy(&f, f.root, false, s, err);
    if (H5Lexists(f.root, "model_weights", H5P_DEFAULT) > 0) {
        hid_t root;
        TRY(cx_h5_step(f.root, "", "model_weights", &root, err));
        return read_legacy(&f, root, true, s, err);
    }
    static const char *const keras3[] = { "layers", "vars", "_layer_checkpoint_dependencies" };
    for (int i = 0; i < CX_COUNT(keras3); i++)
        if (H5Lexists(f.root, keras3[i], H5P_DEFAULT) > 0) {
            TRY(cx_sink_meta_text(s, "format", "keras weights.h5", err));
            return cx_keras3_walk(&f, NULL, s, err);
        }
    return cx_fail(err, CX_E_DATA, "HDF5: no weights that Keras wrote: want the attribute layer_names, or a group model_weights, layers or vars");
}

/* ---- .keras -------------------------------------------------------------------------------------------------------------- */

enum { MOST_CONFIG = CX_SINK_META, MOST_METADATA = 1 << 16 };
static const char WEIGHTS[] = "model.weights.h5", CONFIG[] = "config.json", METADATA[] = "metadata.json";

bool cx_is_keras_zip(const unsigned char *p, size_t n)
{
    cx_zip z;
    if (!cx_zip_is(p, n) || cx_zip_open(p, n, &z, NULL) != CX_OK)
        return false;
    const bool is = cx_zip_find(&z, CONFIG) && (cx_zip_find(&z, METADATA) || cx_zip_find(&z, WEIGHTS));
    cx_zip_close(&z);
    return is;
}

/* A member of the archive; absent is CX_E_DATA. Stays until the child ends. */
static cx_status get(const cx_zip *z, const char *name, size_t most, const unsigned char **p, size_t *n, cx_error *err)
{
    void *owned;
    const cx_zip_member *m = cx_zip_find(z, name);
    if (!m && strcmp(name, WEIGHTS) == 0)
        return cx_fail(err, CX_E_DATA, "zip: a .keras archive without '%s'; is it sharded? load it in Keras and save the weights as one file", name);
    if (!m)
        return cx_fail(err, CX_E_DATA, "zip: a .keras archive without '%s'", name);
    *n = (size_t)m->bytes;
    return cx_zip_get(z, m, most, p, &owned, err);
}

static cx_status get_json(const cx_zip *z, const char *name, size_t most, const unsigned char **p, size_t *n, json_t **out, cx_error *err)
{
    json_error_t e;
    TRY(get(z, name, most, p, n, err));
    *out = json_loadb((const char *)*p, *n, JSON_REJECT_DUPLICATES, &e);
    return *out ? CX_OK : cx_fail(err, CX_E_DATA, "zip: member '%s': line %d: %.200s", name, e.line, e.text);
}

static cx_status tell_layers(const json_t *config, cx_sink *s, cx_error *err)
{
    const json_t *layers = json_object_get(json_object_get(config, "config"), "layers");
    const size_t n = json_array_size(layers);
    const char **names = cx_alloc(n, sizeof *names);
    if (!names)
        return cx_fail(err, CX_E_MEMORY, "no memory for the names of %zu layers", n);
    for (size_t i = 0; i < n; i++) {
        names[i] = cx_keras_layer_name(json_array_get(layers, i));
        if (!names[i])
            return cx_fail(err, CX_E_DATA, "zip: member '%s': layer %zu has no name", CONFIG, i);
    }
    return n ? cx_keras_layers(names, n, s, err) : CX_OK;
}

cx_status cx_parse_keras_zip(const unsigned char *p, size_t n, cx_sink *s, cx_error *err)
{
    cx_zip z;
    cx_h5 f;
    const unsigned char *member;
    size_t bytes;
    json_t *config, *metadata;
    TRY(cx_zip_open(p, n, &z, err));
    TRY(cx_sink_meta_text(s, "format", "keras archive", err));
    TRY(get_json(&z, CONFIG, MOST_CONFIG, &member, &bytes, &config, err));
    TRY(cx_sink_meta(s, "keras.model_config", (const char *)member, bytes, err));
    TRY(get_json(&z, METADATA, MOST_METADATA, &member, &bytes, &metadata, err));
    const char *version = json_string_value(json_object_get(metadata, "keras_version"));
    if (version)
        TRY(cx_sink_meta_text(s, "keras.version", version, err));
    TRY(tell_layers(config, s, err));
    TRY(get(&z, WEIGHTS, cx_sink_room(s), &member, &bytes, err));
    TRY(cx_h5_open(member, bytes, &f, err));
    return cx_keras3_walk(&f, config, s, err);
}
