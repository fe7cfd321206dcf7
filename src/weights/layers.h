/* layers.h - layers of a file and of a graph, and how their axes stand: what mapping, guessing and exporting share. Private to src/weights. Depends on
 * weights.h. */
#ifndef CXNET_WEIGHTS_LAYERS_H
#define CXNET_WEIGHTS_LAYERS_H
#include "cxnet/weights.h"

enum { CX_PARTS = 4 };         /* kernel, bias; or gamma, beta, mean, variance */
typedef enum { CX_LAYER_CONV, CX_LAYER_CONVT, CX_LAYER_DENSE, CX_LAYER_NORM, CX_LAYER_KINDS, CX_LAYER_OTHER = CX_LAYER_KINDS } cx_layer_kind;

/* Tensors of one prefix: "conv2d_1/kernel" and "conv2d_1/bias", wherever they lie; layers in the order of their first tensors. */
typedef struct { const char *name; int length; cx_layer_kind kind; int part[CX_PARTS]; } cx_file_layer;    /* name points into the file; part -1: absent */
cx_status cx_file_layers(const cx_st_file *f, cx_file_layer **out, int *n, cx_error *err);   /* free(). CX_E_DATA: absurdly many */

/* Written by Keras: the file says so, or has layers with its slashes. */
bool cx_is_keras_file(const cx_st_file *f, const cx_file_layer *layers, int n);

/* A parameter or state that only losses read is not kept: the weights of a loss belong to an experiment's films. */
bool cx_weights_kept(const cx_graph *g, int value);
/* The first node that reads a value, and as which part (in[1 + part]); -1: none. */
int cx_weights_reader(const cx_graph *g, int value, int *part);
cx_layer_kind cx_node_kind(const cx_graph *g, int node);
/* Last layers, which differ from task to task: "classifier", "fc", "head". */
bool cx_is_head(const char *value_name);

/* A value's axes (n, h, w, c) in a file: element (n, h, w, c) lies at n * stride[0] + h * stride[1] + w * stride[2] + c * stride[3]. A linear layer behind a
 * flattened map has that map's h, w, c. */
typedef struct { cx_shape s; int64_t stride[4]; int nd; int64_t d[4]; } cx_layout;    /* nd, d: the file's own shape */
cx_layout cx_layout_of(const cx_graph *g, int value, cx_axes axes);
void cx_layout_in(const cx_layout *l, const float *file, float *ours);
/* The numbers of a store's value in such axes; free() them. */
cx_status cx_layout_out(cx_store *s, int value, cx_axes axes, cx_layout *l, float **file, cx_error *err);

/* A PyTorch name without what wrappers and older versions put into it: "module.densenet121.features.denseblock1.denselayer2.norm.1.weight" ->
 * "features.denseblock1.denselayer2.norm1.weight". */
void cx_torch_name(const char *name, char out[CX_NAME_MAX]);
/* Keras applications' name of a DenseNet layer: "features.denseblock3.denselayer24.conv2" -> "conv4_block24_2_conv". False: it has no such layer. */
bool cx_keras_densenet_layer(const char *node, char out[CX_NAME_MAX]);
/* "kernel", "bias"; of norms "gamma", "beta", "moving_mean", "moving_variance". */
const char *cx_keras_part(cx_layer_kind kind, int part);

#endif
