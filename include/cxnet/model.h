/* model.h - the networks of the study, each a function of loops over cx_graph. Depends on graph.h. */
#ifndef CXNET_MODEL_H
#define CXNET_MODEL_H
#include "cxnet/graph.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char arch[32];        /* "base_cnn" "densenet121" "densenet169" "densenet201" */
    int side, channels;   /* input (N, side, side, channels) */
    int hidden;           /* units of the ReLU layer 'fc' between pooling and the output; 0 = none. base_cnn has its own two of 10 */
    double dropout;       /* before the output, 0 = none */
    int outputs;          /* logits */
    double norm_eps;      /* batch norm: 1e-5 (PyTorch) or 1.001e-5 (Keras). 0 = 1e-5 */
    bool no_final_relu;   /* DenseNet: leave out the ReLU after norm5 (the published CheXNet weights) */
} cx_model_spec;

typedef struct {
    cx_graph *graph;      /* owned */
    int input;            /* value indices */
    int features;         /* last convolution's map: what Grad-CAM looks at by default */
    int logits;           /* (N,1,1,outputs) */
} cx_model;

/* CX_E_CONFIG: unknown arch (names the known ones), a side too small for it, a value out of range. */
cx_status cx_model_new(const cx_model_spec *spec, cx_model *out, cx_error *err);
void cx_model_free(cx_model *m);
extern const char *const cx_model_archs[];               /* NULL-terminated */

/* Adds inputs "target" (and state "loss.weight") and a loss to a model's graph. Returns the loss value, -1 on failure (see cx_graph_check). */
typedef enum { CX_LOSS_BCE, CX_LOSS_CE } cx_loss_kind;
int cx_model_loss(cx_model *m, cx_loss_kind kind, double smoothing, int *target, int *weights);

#ifdef __cplusplus
}
#endif
#endif
