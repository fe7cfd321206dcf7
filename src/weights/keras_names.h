/* keras_names.h - what Keras calls layers and variables. Private to src/weights. Depends on read.h, jansson. */
#ifndef CXNET_WEIGHTS_KERAS_NAMES_H
#define CXNET_WEIGHTS_KERAS_NAMES_H
#include <jansson.h>
#include "read.h"

/* Texts as a JSON list: metadata "keras.layers". CX_E_DATA: a text that is not UTF-8. */
cx_status cx_keras_layers(const char *const *names, size_t n, cx_sink *s, cx_error *err);

/* Keras 3 numbers the layers of a container by class: the third Conv2D lies in group "conv2d_2". Finds that layer in the container's JSON ({"class_name",
 * "config": {"layers": [..]}}); NULL when the container lists none such. */
const json_t *cx_keras_layer_of_group(const json_t *container, const char *group);
const char *cx_keras_layer_name(const json_t *layer);          /* NULL when it has none */

/* What variable i of n in the group of a layer ("conv2d_2") is called: "kernel"; NULL where the class alone does not tell. layer: its JSON, or NULL. */
const char *cx_keras_variable(const char *group, const json_t *layer, int i, int n);

#endif
