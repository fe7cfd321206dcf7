/* stepper.c - steps of training on a backend that has finished each call when it returns; and the door to those that bring a stepper of their own. */
#include <math.h>
#include <stdlib.h>
#include "cxnet/base.h"
#include "cxnet/stepper.h"
#include "plan.h"
#include "store.h"

typedef struct {
    cx_stepper base;
    cx_stepper_opts o;
    cx_store *store;
    cx_feed *feed;
    float *m, *v;
    cx_step_result *ring;      /* [o.ahead]: those that wait, from `first` on */
    int films;                 /* of a batch */
    int first, waiting;
    bool bad;                  /* the last one was not finite */
    cx_share share;            /* with comm */
    float *state; int64_t state_at, n_state;       /* with comm: running statistics as they were before the step; where they lie in PARAM */
} plain;

/* Forward, and backward where the loss is finite. */
static cx_status gradients(plain *s, const cx_step_batch *batch, uint64_t seed, cx_step_result *r, cx_error *err)
{
    cx_backend *b = s->store->b;
    cx_comm *comm = s->o.comm;
    float share = 1;
    double squares;
    if (comm) {
        TRY(cx_share_of(&s->share, batch->target, &share, err));
        TRY(cx_plan_set_grad(s->o.plan, s->o.loss, &share, err));
    }
    TRY(cx_feed_put(s->feed, batch, s->films, err));
    TRY(cx_plan_set(s->o.plan, s->o.target, batch->target, err));
    TRY(cx_plan_forward(s->o.plan, seed, (uint64_t)(r->t - 1), err));
    TRY(cx_plan_get(s->o.plan, s->o.loss, &r->loss, err));
    if (comm)
        TRY(cx_share_loss(&s->share, share, &r->loss, err));
    if (!isfinite(r->loss))
        return CX_OK;
    TRY(cx_plan_backward(s->o.plan, err));
    if (comm)
        TRY(comm->sum(comm, b, cx_store_grads(s->store), cx_store_trainable(s->store), err));
    TRY(b->sum_squares(b, cx_store_trainable(s->store), cx_store_grads(s->store), &squares, err));
    r->norm = sqrt(squares);
    return CX_OK;
}

/* The same, or nothing: a step that ends in its middle, because another rank is gone, has moved running statistics. */
static cx_status whole_gradients(plain *s, const cx_step_batch *batch, uint64_t seed, cx_step_result *r, cx_error *err)
{
    cx_backend *b = s->store->b;
    const size_t bytes = (size_t)s->n_state * sizeof *s->state;
    if (!s->o.comm)
        return gradients(s, batch, seed, r, err);
    TRY(b->download(b, s->state, s->store->param + s->state_at, bytes, err));
    cx_status status = gradients(s, batch, seed, r, err);
    if (status != CX_OK && b->upload(b, cx_store_params(s->store) + s->state_at, s->state, bytes, NULL) != CX_OK)
        return cx_prefix(err, status, "running statistics were lost when a step ended in its middle");
    return status;
}

static cx_status plain_step(cx_stepper *self, const cx_step_batch *batch, uint64_t seed, const cx_update *u, cx_error *err)
{
    plain *s = (plain *)(void *)self;
    cx_backend *b = s->store->b;
    if (s->bad || s->waiting == s->o.ahead)
        return cx_fail(err, CX_E_USAGE, "stepper: %s", s->bad ? "a step before this one was not finite" : "pick up results before the next step");
    cx_step_result *r = &s->ring[(s->first + s->waiting) % s->o.ahead];
    *r = (cx_step_result){ .t = u->t, .norm = (double)NAN };
    TRY(whole_gradients(s, batch, seed, r, err));
    s->waiting++;
    s->bad = !isfinite(r->norm);
    if (s->bad)
        return CX_OK;
    cx_update clipped = *u;
    clipped.grad_scale = s->o.clip > 0 && r->norm > s->o.clip ? s->o.clip / r->norm : 1;
    return b->update(b, &clipped, cx_store_trainable(s->store), cx_store_params(s->store), cx_store_grads(s->store), s->m, s->v, err);
}

static cx_status plain_next(cx_stepper *self, bool wait, cx_step_result *out, bool *got, cx_error *err)
{
    plain *s = (plain *)(void *)self;
    (void)wait;
    (void)err;
    *got = s->waiting > 0;
    if (*got) {
        *out = s->ring[s->first];
        s->first = (s->first + 1) % s->o.ahead;
        s->waiting--;
    }
    return CX_OK;
}

static void plain_free(cx_stepper *self)
{
    plain *s = (plain *)(void *)self;
    cx_share_close(&s->share);
    cx_feed_free(s->feed);
    free(s->state);
    free(s->ring);
    free(s);
}

static cx_status open_plain(plain *s, cx_error *err)
{
    cx_store *store = s->store;
    s->ring = cx_alloc((size_t)s->o.ahead, sizeof *s->ring);
    s->state_at = cx_store_state_at(store);
    s->n_state = store->total - s->state_at;
    s->state = cx_alloc((size_t)s->n_state, sizeof *s->state);
    if (!s->ring || !s->state)
        return cx_fail(err, CX_E_MEMORY, "no memory for a stepper");
    s->films = (int)cx_plan_value(s->o.plan, s->o.input).s.n;
    TRY(cx_feed_new(s->o.plan, s->o.input, s->o.films, &s->feed, err));
    TRY(cx_plan_moments(s->o.plan, &s->m, &s->v, err));
    return s->o.comm ? cx_share_open(store, &s->o, &s->share, err) : CX_OK;
}

cx_status cx_stepper_new(cx_store *store, const cx_stepper_opts *o, cx_stepper **out, cx_error *err)
{
    cx_backend *b = store->b;
    *out = NULL;
    if (o->ahead < 1 || o->clip < 0)
        return cx_fail(err, CX_E_USAGE, "stepper: want ahead >= 1 and clip >= 0, got %d and %g", o->ahead, o->clip);
    /* Where sums of ranks pass through the host, a device is waited for in every step. */
    if (b->stepper && (!o->comm || (o->comm->joined == b && !o->plan->opts.sync_norm)))
        return b->stepper(b, store, o, out, err);
    plain *s = cx_alloc(1, sizeof *s);
    if (!s)
        return cx_fail(err, CX_E_MEMORY, "no memory for a stepper");
    *s = (plain){ .base = { plain_step, plain_next, plain_free }, .o = *o, .store = store };
    cx_status status = open_plain(s, err);
    if (status != CX_OK) {
        plain_free(&s->base);
        return status;
    }
    *out = &s->base;
    return CX_OK;
}

void cx_stepper_free(cx_stepper *s)
{
    if (s)
        s->free(s);
}

cx_status cx_stepper_step(cx_stepper *s, const cx_step_batch *batch, uint64_t seed, const cx_update *u, cx_error *err)
{
    return s->step(s, batch, seed, u, err);
}

cx_status cx_stepper_next(cx_stepper *s, bool wait, cx_step_result *out, bool *got, cx_error *err) { return s->next(s, wait, out, got, err); }
