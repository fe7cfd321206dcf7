/* update.h - what every backend does with a cx_update before its loop over the parameters: in src/cpu, src/cuda and kernels. Plain C. Depends on graph.h. */
#ifndef CXNET_UPDATE_H
#define CXNET_UPDATE_H
#include "cxnet/graph.h"
#ifdef __cplusplus
extern "C" {
#endif

/* The numbers of one update in float, prepared in double as PyTorch prepares them. Plain data: it may be copied to another memory and read there. */
typedef struct {
    float scale;                        /* of the gradient, first of all: cx_update.grad_scale */
    float decay;                        /* of the parameter, added to the gradient: SGD, Adam */
    float keep;                         /* what is left of the parameter: 1, AdamW 1 - lr * weight_decay */
    float lr, momentum;                 /* SGD */
    float beta1_rest, beta2, beta2_rest;    /* Adam, AdamW: 1 - beta1, beta2, 1 - beta2 */
    float step, root, eps;              /* the same: lr / (1 - beta1^t), sqrt(1 - beta2^t), eps */
} cx_scalars;

cx_scalars cx_update_prepare(const cx_update *u);
/* CX_E_INTERNAL, with the backend's name in front, when moments that this kind of update needs are NULL, or t < 1 where it corrects a bias by it. */
cx_status cx_update_check(const char *backend, const cx_update *u, const float *m, const float *v, cx_error *err);

#ifdef __cplusplus
}
#endif
#endif
