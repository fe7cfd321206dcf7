/* model.h - the networks of the study, each a function of loops over cx_graph. Depends on graph.h. */
#ifndef CXNET_MODEL_H
#define CXNET_MODEL_H
#include "cxnet/graph.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char arch[32];        /* "base_cnn" "densenet121" "densenet169" "densenet201" "unet" */
    int side, channels;   /* input (N, side, side, channels). unet: side is a multiple of 2^depth */
    int hidden;           /* DenseNet: units of the ReLU layer 'fc' between pooling and the output; 0 = none. base_cnn has its own two of 10 */
    double dropout;       /* before the output, 0 = none; not for unet */
    int outputs;          /* logits; of unet, maps of them */
    double norm_eps;      /* batch norm: 1e-5 (PyTorch) or 1.001e-5 (Keras). 0 = 1e-5 */
    bool no_final_relu;   /* DenseNet: leave out the ReLU after norm5 (the published CheXNet weights) */
    int base, depth;      /* unet: channels of the first level, doubled at each of `depth` halvings of the map. 0 = 32 and 4, the lung network */
    bool norm;            /* unet: convolution without bias - batch norm - ReLU, for training from scratch; false = the published network */
} cx_model_spec;

typedef struct {
    cx_graph *graph;      /* owned */
    int input;            /* value indices */
    int features;         /* last convolution's map: what Grad-CAM looks at by default */
    int logits;           /* (N,1,1,outputs); unet: (N,side,side,outputs) */
    int probability;      /* unet: sigmoid of the logits, of their shape; others: -1 */
} cx_model;

/* CX_E_CONFIG: unknown arch (names the known ones), a side too small for it or not divisible, a value out of range or of another network. */
cx_status cx_model_new(const cx_model_spec *spec, cx_model *out, cx_error *err);
void cx_model_free(cx_model *m);
extern const char *const cx_model_archs[];               /* NULL-terminated */

/* Adds input "target" and a loss to a model's graph, and state "loss.weight" where the loss is weighted: (1,1,2,outputs) for BCE, (1,1,1,outputs) for CE.
 * The target has the shape of the logits, a class index instead of channels for CE; entries below 0 are not labelled. Dice is taken on m->probability with 1
 * added above and below (the Kaggle lung U-Net), knows neither weights (*weights = -1) nor smoothing, and only unet has it. CX_LOSS_BCE_DICE is the sum of the
 * two, unweighted and without smoothing: BCE judges each pixel, Dice the whole. Returns the loss value, -1 on failure (see cx_graph_check). */
typedef enum { CX_LOSS_BCE, CX_LOSS_CE, CX_LOSS_DICE, CX_LOSS_BCE_DICE } cx_loss_kind;
int cx_model_loss(cx_model *m, cx_loss_kind kind, double smoothing, int *target, int *weights);

#ifdef __cplusplus
}
#endif
#endif
