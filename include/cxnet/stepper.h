/* stepper.h - training steps one after another: batch in, forward, backward, clip, update, and the loss when it is known.
 *
 * A CPU has finished a step when cx_stepper_step returns. A GPU has only been told: it runs up to `ahead` steps behind the host, and its results are picked up
 * later, in order. Whoever trains writes for the second case and gets the first one with it. Depends on comm.h. */
#ifndef CXNET_STEPPER_H
#define CXNET_STEPPER_H
#include "cxnet/comm.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cx_stepper_opts {
    cx_plan *plan;             /* with training, backward and param_grads; its output is a loss */
    int input, target, loss;   /* values of its graph: films, targets, and that output */
    double clip;               /* a gradient whose norm (Euclidean, over all trainable parameters) is larger is scaled down to it; 0: never */
    cx_comm *comm;             /* NULL: alone. Otherwise every rank steps with its part of a batch (cx_plan_opts.comm, the same as here), and all end with the
                                  same parameters and moments: those of one process with the whole batch, but for the order of its sums. The loss is bce_loss
                                  or ce_loss */
    int ahead;                 /* steps whose results may wait to be picked up, at most; >= 1. The CPU is never behind */
} cx_stepper_opts;

typedef struct {
    int64_t t;                 /* of the step's cx_update */
    float loss;                /* of the whole batch */
    double norm;               /* of the gradient, before clipping; NaN where the loss is not finite */
} cx_step_result;

typedef struct cx_stepper cx_stepper;
/* The plan and its store must outlive the stepper, and the plan stays the caller's: other plans of the store may run, and be made, between two steps. For a
 * GPU it holds `ahead` batches in pinned memory of the host and two on the device. */
cx_status cx_stepper_new(cx_store *s, const cx_stepper_opts *o, cx_stepper **out, cx_error *err);
void cx_stepper_free(cx_stepper *s);               /* waits for what is on its way; NULL is allowed */

/* One step. input and target, floats in host memory, as large as the plan's values: copied before the call returns. u: everything but grad_scale, which is the
 * stepper's. u->t counts up by one from step to step, and dropout of step t draws as cx_plan_forward(plan, seed, t - 1) does.
 * A step whose loss or norm is not finite changes no parameter and no moment, nor does any step queued after it (running statistics have moved); it is the last
 * one that gives a result. A step that fails (CX_E_PEER: another rank is gone) leaves parameters, moments and, with comm, running statistics as they were
 * before it. CX_E_USAGE: such a result has been picked up, or `ahead` results wait. Other errors are those of the plan and the backend. */
cx_status cx_stepper_step(cx_stepper *s, const float *input, const float *target, uint64_t seed, const cx_update *u, cx_error *err);

/* The next result, in the order of the steps: *got says whether there was one. wait: waits until there is; unless no step is on its way, or none that gives
 * one. */
cx_status cx_stepper_next(cx_stepper *s, bool wait, cx_step_result *out, bool *got, cx_error *err);

/* ---- inside: what a backend that runs beside the host fills in (cx_backend.stepper); all others get the one of src/graph/stepper.c -------------------- */

struct cx_stepper {
    cx_status (*step)(cx_stepper *s, const float *input, const float *target, uint64_t seed, const cx_update *u, cx_error *err);
    cx_status (*next)(cx_stepper *s, bool wait, cx_step_result *out, bool *got, cx_error *err);
    void (*free)(cx_stepper *s);
};

/* What a rank's part of a batch weighs. A loss is a mean over labelled entries (ce_loss: weighted by class), so that of the batch is the sum over ranks of
 * share * loss of the part. A stepper with comm makes, in every step and on every rank alike: cx_share_of; its share the seed of the backward pass
 * (cx_plan_set_grad, sticky); between backward and the norm of the gradient, comm->sum over the trainable floats of GRAD; and cx_share_loss. With comm every
 * backend gets the stepper of src/graph/stepper.c. */
typedef struct {
    cx_comm *comm;
    int64_t n;                 /* targets of a part */
    int classes;               /* 0: bce_loss */
    float *weight;             /* [classes] */
    double *all;               /* [ranks] */
} cx_share;
cx_status cx_share_open(cx_store *store, const cx_stepper_opts *o, cx_share *s, cx_error *err);      /* after a failure too, cx_share_close */
void cx_share_close(cx_share *s);
cx_status cx_share_of(cx_share *s, const float *target, float *share, cx_error *err);                 /* target: floats in host memory; share: 0 to 1 */
cx_status cx_share_loss(cx_share *s, float share, float *loss, cx_error *err);                        /* *loss: of the part, then of the batch */

#ifdef __cplusplus
}
#endif
#endif
