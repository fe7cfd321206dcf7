/* stepper.h - training steps one after another: batch in, forward, backward, clip, update, and the loss when it is known.
 *
 * A CPU has finished a step when cx_stepper_step returns. A GPU has only been told: it runs up to `ahead` steps behind the host, and its results are picked up
 * later, in order. Whoever trains writes for the second case and gets the first one with it. So with films: a CPU is handed a network's input, made on the host
 * (CX_GIVE_INPUT in data.h); a GPU makes it from bytes, inside the step, and is sent 64 bytes a film (CX_GIVE_DRAWS), or those and the film (CX_GIVE_FILMS).
 * The bits are the same. Depends on comm.h. */
#ifndef CXNET_STEPPER_H
#define CXNET_STEPPER_H
#include "cxnet/comm.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- films ---------------------------------------------------------------------------------------------------------------- */

/* Where films lie that a device makes into an input of (batch, side, side, norm.channels), by cx_backend.films. */
typedef struct {
    const uint8_t *px;         /* on the device, [count, side, side], for as long as anybody reads this source; NULL: each batch brings its films along */
    int count;                 /* films at px */
    cx_normalise norm;
} cx_film_source;

/* Host memory, copied before a call returns. Which members count is decided by the source of who takes the batch. */
typedef struct {
    const float *input;        /* without a source: as large as the plan's value */
    const cx_film_draw *draw;  /* with one: [films]. draw[i].film: of the films at source.px, or of those that the batch brings */
    const uint8_t *px;         /* with one that has no px: [films, side, side] */
    const float *target;       /* as large as the plan's value; for steps only */
} cx_step_batch;

typedef struct cx_feed cx_feed;
/* Writes an input of p, batch after batch, with the same bits from floats and from films. films: NULL without a source; copied. The plan, whose input it stays,
 * must outlive the feed. On the device it holds the draws of a batch, and its films where batches bring them. CX_E_UNSUPPORTED: the backend is the host, which
 * has no `films`. CX_E_SHAPE: the input is not square or has other channels than norm. CX_E_USAGE: not an input, or count < 1 films at px. CX_E_MEMORY. */
cx_status cx_feed_new(cx_plan *p, int input, const cx_film_source *films, cx_feed **out, cx_error *err);
void cx_feed_free(cx_feed *f);                     /* waits for work that reads it; NULL is allowed */
/* The first n films of the plan's input, 1 to its batch; zeros behind them. Allocates nothing. CX_E_USAGE: the batch lacks what it must bring, or a draw asks
 * for a film that is not there. */
cx_status cx_feed_put(cx_feed *f, const cx_step_batch *batch, int n, cx_error *err);

/* ---- steps ---------------------------------------------------------------------------------------------------------------- */

typedef struct cx_stepper_opts {
    cx_plan *plan;             /* with training, backward, param_grads and the moments that the updates want; its output is a loss */
    int input, target, loss;   /* values of its graph: films, targets, and that output */
    const cx_film_source *films;       /* NULL: batches bring the input. Otherwise as cx_feed_new wants it; copied */
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
 * GPU it holds `ahead` batches in pinned memory of the host and two on the device, as large as what they bring. */
cx_status cx_stepper_new(cx_store *s, const cx_stepper_opts *o, cx_stepper **out, cx_error *err);
void cx_stepper_free(cx_stepper *s);               /* waits for what is on its way; NULL is allowed */

/* One step, with a whole batch of the plan. u: everything but grad_scale, which is the stepper's. u->t counts up by one from step to step, and dropout of step
 * t draws as cx_plan_forward(plan, seed, t - 1) does.
 * A step whose loss or norm is not finite changes no parameter and no moment, nor does any step queued after it (running statistics have moved); it is the last
 * one that gives a result; with comm, all ranks find so at the same step. A step that fails (CX_E_PEER: another rank is gone) leaves parameters, moments and,
 * with comm, running statistics as they were before it, or before an earlier one on its way (cx_stepper_next). CX_E_USAGE: a result that is not finite has been
 * picked up, `ahead` results wait, or the batch is not as cx_feed_put wants it. Other errors are those of the plan and the backend. */
cx_status cx_stepper_step(cx_stepper *s, const cx_step_batch *batch, uint64_t seed, const cx_update *u, cx_error *err);

/* The next result, in the order of the steps: *got says whether there was one. wait: waits until there is; unless no step is on its way, or none that gives
 * one. Where a GPU and comm run beside the host, there is none for those who do not wait: whether it has come yet is not the same on all ranks.
 * CX_E_PEER: another rank is gone, and neither this step nor those behind it were made: parameters, moments and running statistics are as before it. */
cx_status cx_stepper_next(cx_stepper *s, bool wait, cx_step_result *out, bool *got, cx_error *err);

/* ---- inside: what a backend that runs beside the host fills in (cx_backend.stepper); all others get the one of src/graph/stepper.c -------------------- */

struct cx_stepper {
    cx_status (*step)(cx_stepper *s, const cx_step_batch *batch, uint64_t seed, const cx_update *u, cx_error *err);
    cx_status (*next)(cx_stepper *s, bool wait, cx_step_result *out, bool *got, cx_error *err);
    void (*free)(cx_stepper *s);
};

/* The refusals of cx_feed_new, for an input x of backend b, and of cx_feed_put. films may be NULL. */
cx_status cx_films_check(cx_backend *b, const cx_film_source *films, cx_tensor x, cx_error *err);
cx_status cx_batch_check(const cx_film_source *films, const cx_step_batch *batch, int n, cx_error *err);
/* Bytes that n films at side px, or their draws, take in a batch from this source. */
static inline size_t cx_batch_px_bytes(const cx_film_source *films, int64_t n, int64_t side)
{
    return films && !films->px ? (size_t)(n * cx_planes_of(&films->norm) * side * side) : 0;
}
static inline size_t cx_batch_draw_bytes(const cx_film_source *films, int64_t n) { return films ? (size_t)n * sizeof(cx_film_draw) : 0; }

/* What a rank's part of a batch weighs. A loss is a mean over labelled entries (ce_loss: weighted by class), so that of the batch is the sum over ranks of
 * share * loss of the part. A stepper with comm makes, in every step and on every rank alike: cx_share_of; its share the seed of the backward pass
 * (cx_plan_set_grad, sticky); between backward and the norm of the gradient, comm->sum over the trainable floats of GRAD; and cx_share_loss. A backend that
 * has joined comm does all of it on the device, from cx_share_weight; every other, and a plan with sync_norm, whose statistics pass through the host, gets the
 * stepper of src/graph/stepper.c. */
typedef struct {
    cx_comm *comm;
    int64_t n;                 /* targets of a part */
    int classes;               /* 0: bce_loss */
    float *weight;             /* [classes] */
    double *all;               /* [ranks] */
} cx_share;
cx_status cx_share_open(cx_store *store, const cx_stepper_opts *o, cx_share *s, cx_error *err);      /* after a failure too, cx_share_close */
void cx_share_close(cx_share *s);
double cx_share_weight(const cx_share *s, const float *target);                                       /* what the loss of the part divides by */
cx_status cx_share_of(cx_share *s, const float *target, float *share, cx_error *err);                 /* target: floats in host memory; share: 0 to 1 */
cx_status cx_share_loss(cx_share *s, float share, float *loss, cx_error *err);                        /* *loss: of the part, then of the batch */

#ifdef __cplusplus
}
#endif
#endif
