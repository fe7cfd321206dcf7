/* keras_names.c - from Keras 3's numbered groups and variables to names. Depends on keras_names.h. */
#include "keras_names.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

cx_status cx_keras_layers(const char *const *names, size_t n, cx_sink *s, cx_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(list, json_string(names[i])) != 0) {
            json_decref(list);
            return cx_fail(err, CX_E_DATA, "the name of layer %zu is not UTF-8", i);
        }
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    const cx_status status = text ? cx_sink_meta_text(s, "keras.layers", text, err) : cx_fail(err, CX_E_MEMORY, "no memory for the names of %zu layers", n);
    free(text);
    return status;
}

/* "conv2d_12" -> 6 letters and 12; "conv2d" -> 6 letters and 0. */
static size_t split(const char *group, long *number)
{
    const char *tail = strrchr(group, '_');
    *number = 0;
    if (!tail || !isdigit((unsigned char)tail[1]) || strspn(tail + 1, "0123456789") != strlen(tail + 1) || strlen(tail) > 8)
        return strlen(group);
    *number = strtol(tail + 1, NULL, 10);
    return (size_t)(tail - group);
}

/* Keras's to_snake_case: whether class "Conv2DTranspose" is snake "conv2d_transpose", of n letters. */
static bool is_snake_of(const char *class, const char *snake, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; class[i]; i++) {
        const unsigned char c = (unsigned char)class[i];
        if (!isalnum(c) && c != '_')
            continue;
        if (isupper(c) && i && (islower((unsigned char)class[i - 1]) || islower((unsigned char)class[i + 1])))
            if (at >= n || snake[at++] != '_')
                return false;
        if (at >= n || snake[at++] != tolower(c))
            return false;
    }
    return at == n;
}

const json_t *cx_keras_layer_of_group(const json_t *container, const char *group)
{
    const json_t *layers = json_object_get(json_object_get(container, "config"), "layers");
    long number;
    const size_t n = split(group, &number);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const char *class = json_string_value(json_object_get(layer, "class_name"));
        if (class && is_snake_of(class, group, n) && number-- == 0)
            return layer;
    }
    return NULL;
}

const char *cx_keras_layer_name(const json_t *layer)
{
    const char *name = json_string_value(json_object_get(json_object_get(layer, "config"), "name"));
    return name ? name : json_string_value(json_object_get(layer, "name"));
}

/* In the order in which the layers make them, as their build() in keras/src/layers does. */
static const struct { const char *kind; int n; const char *name[4]; } kinds[] = {
    { "conv1d", 2, { "kernel", "bias" } }, { "conv2d", 2, { "kernel", "bias" } }, { "conv3d", 2, { "kernel", "bias" } },
    { "conv2d_transpose", 2, { "kernel", "bias" } }, { "dense", 2, { "kernel", "bias" } }, { "depthwise_conv2d", 2, { "kernel", "bias" } },
    { "separable_conv2d", 3, { "depthwise_kernel", "pointwise_kernel", "bias" } }, { "embedding", 1, { "embeddings" } }, { "p_re_lu", 1, { "alpha" } },
    { "batch_normalization", 4, { "gamma", "beta", "moving_mean", "moving_variance" } }, { "layer_normalization", 2, { "gamma", "beta" } },
    { "group_normalization", 2, { "gamma", "beta" } },
};

/* Norms may lack gamma or beta: the statistics are the last two, and of a single other one only the configuration knows which it is. */
static const char *norm_variable(const char *const *names, const json_t *layer, int i, int n, int all)
{
    const json_t *config = json_object_get(layer, "config");
    if (i >= n - (all - 2))
        return names[all - (n - i)];
    if (n == all)
        return names[i];
    return json_is_false(json_object_get(config, "scale")) ? names[1] : json_is_false(json_object_get(config, "center")) ? names[0] : NULL;
}

const char *cx_keras_variable(const char *group, const json_t *layer, int i, int n)
{
    long number;
    const size_t letters = split(group, &number);
    for (int k = 0; k < CX_COUNT(kinds); k++)
        if (strlen(kinds[k].kind) == letters && strncmp(kinds[k].kind, group, letters) == 0 && n <= kinds[k].n)
            return strstr(kinds[k].kind, "normalization") ? norm_variable(kinds[k].name, layer, i, n, kinds[k].n) : kinds[k].name[i];
    return NULL;
}
