/* stepper.c - training on a GPU that runs behind the host (stepper.h): batches come by a stream of their own while the step before is computed, a step is one
 * CUDA graph, and the host waits for nothing but a result that it asks for. Depends on kernels.h, the store and the plan.
 *
 *     host      pack a slot (pinned)            ...                          pick up the slot's result
 *     copies    slot -> lane
 *     stream                    lane -> plan, front    films, forward, backward, norm, clip, update    state -> slot
 *
 * With ranks that NCCL joins, the stream also has their parts of the loss, gathered behind the forward pass, and the sum of their gradients behind the backward
 * pass; what a step would change without a rank that is gone is undone there (kernels.h).
 *
 * A slot is used again once its result has been picked up, a lane once its batch has been taken from it. What differs from step to step is read from device
 * memory (front: rules, draws and films), so the graph stays as it is until other memory is to be used: then a step is queued call by call, and captured if the
 * next one is like it. */
#include "stepper.h"
#include <math.h>
#include <stdlib.h>
#include "check.h"
#include "cxnet/base.h"
#include "graph/plan.h"
#include "graph/store.h"
#include "cuda.h"
#include "ranks.h"

enum { LANES = 2, ALIGN = 256 };

/* On the device while a step runs. clock: cx_cuda_queue.clock; weight: of this rank's part of the batch */
typedef struct { uint64_t clock[2]; cx_scalars scalars; double weight; } rules;

typedef struct {
    char *packet;                   /* pinned: rules, draws, films, then target, input, each if there is such */
    cx_cuda_step *result;           /* pinned */
    cudaEvent_t done;
    int64_t t;
} slot;

typedef struct {
    char *packet;                   /* on the device */
    cudaEvent_t arrived, taken;
} lane;

/* What a captured step is tied to. */
typedef struct { const void *act, *work, *m, *ranks; cx_optim_kind kind; } binding;

/* With ranks: their parts of the batch and its loss, and running statistics as they were before the step; on the device. */
typedef struct {
    cx_nccl *nccl;                  /* NULL: alone */
    cx_share share;
    cx_cuda_part *parts;            /* [ranks] */
    float *loss, *kept;             /* kept [n_state] */
    int64_t n_state;
} others;

typedef struct {
    cx_stepper base;
    cx_stepper_opts o;
    cx_store *store;
    cx_cuda_queue *queue;
    cudaStream_t stream, copies;
    cx_film_source films;           /* what o.films points at, if not NULL */
    size_t at_draw, at_px, at_target, at_input, packet_bytes;
    void *device, *pinned;          /* all of its memory */
    slot *slot;                     /* [o.ahead]: `waiting` of them from `first` on are on their way */
    int first, waiting;
    lane lane[LANES];
    int64_t steps;
    cx_cuda_step *state;            /* on the device, as all that follow */
    rules *rules;                   /* the front, as it lies in a packet up to at_target */
    double *squares, *scratch;
    float *m, *v;
    others with;
    binding bound;                  /* of the last step */
    cudaGraphExec_t graph;          /* such a step; NULL: not captured yet */
    bool bad;                       /* a result that is not finite has been picked up */
} stepper;

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }
static size_t bytes_of(const stepper *s, int value) { return (size_t)cx_elems(cx_plan_value(s->o.plan, value).s) * sizeof(float); }
static cx_shape films_of(const stepper *s) { return cx_plan_value(s->o.plan, s->o.input).s; }
static size_t draw_bytes(const stepper *s) { return cx_batch_draw_bytes(s->o.films, films_of(s).n); }
static size_t px_bytes(const stepper *s) { return cx_batch_px_bytes(s->o.films, films_of(s).n, films_of(s).h); }
static size_t input_bytes(const stepper *s) { return s->o.films ? 0 : bytes_of(s, s->o.input); }

/* ---- the batch ---------------------------------------------------------------------------------------------------- */

static void pack_part(const slot *w, size_t at, const void *from, size_t bytes)
{
    if (bytes)
        memcpy(w->packet + at, from, bytes);
}

static void pack(const stepper *s, slot *w, const cx_step_batch *batch, uint64_t seed, const cx_update *u)
{
    const rules r = { { seed, (uint64_t)(u->t - 1) }, cx_update_prepare(u), s->with.nccl ? cx_share_weight(&s->with.share, batch->target) : 0 };
    w->t = u->t;
    pack_part(w, 0, &r, sizeof r);
    pack_part(w, s->at_draw, batch->draw, draw_bytes(s));
    pack_part(w, s->at_px, batch->px, px_bytes(s));
    pack_part(w, s->at_target, batch->target, bytes_of(s, s->o.target));
    pack_part(w, s->at_input, batch->input, input_bytes(s));
}

static cx_status send(stepper *s, const slot *w, lane *l, cx_error *err)
{
    CUDA(cudaStreamWaitEvent(s->copies, l->taken, 0));
    CUDA(cudaMemcpyAsync(l->packet, w->packet, s->packet_bytes, cudaMemcpyHostToDevice, s->copies));
    CUDA(cudaEventRecord(l->arrived, s->copies));
    return CX_OK;
}

static cx_status put(stepper *s, int value, const char *from, cx_error *err)
{
    CUDA(cudaMemcpyAsync(cx_plan_value(s->o.plan, value).p, from, bytes_of(s, value), cudaMemcpyDeviceToDevice, s->stream));
    return CX_OK;
}

/* Writes the front and the plan's target, and its input where batches bring it: behind the step before, which still reads them. */
static cx_status take(stepper *s, lane *l, cx_error *err)
{
    CUDA(cudaStreamWaitEvent(s->stream, l->arrived, 0));
    CUDA(cudaMemcpyAsync(s->rules, l->packet, s->at_target, cudaMemcpyDeviceToDevice, s->stream));
    TRY(put(s, s->o.target, l->packet + s->at_target, err));
    if (!s->o.films)
        TRY(put(s, s->o.input, l->packet + s->at_input, err));
    CUDA(cudaEventRecord(l->taken, s->stream));
    return CX_OK;
}

/* ---- the step ----------------------------------------------------------------------------------------------------- */

/* The input, out of films that lie on the device or in the front. */
static cx_status queue_films(stepper *s, cx_error *err)
{
    cx_backend *b = s->store->b;
    const char *front = (const char *)s->rules;
    const cx_tensor x = cx_plan_value(s->o.plan, s->o.input);
    const uint8_t *px = s->films.px ? s->films.px : (const uint8_t *)(front + s->at_px);
    return b->films(b, px, (const cx_film_draw *)(const void *)(front + s->at_draw), &s->films.norm, &x, err);
}

/* Running statistics: put aside while steps are sound, put back when a rank is gone. */
static cx_status keep(stepper *s, cx_cuda_fault when, cx_error *err)
{
    float *at = cx_store_params(s->store) + s->store->total - s->with.n_state;
    const bool back = when == CX_CUDA_LOST;
    return cx_cuda_launched(err, cx_cuda_copy_when(s->stream, s->state, when, back ? s->with.kept : at, back ? at : s->with.kept, s->with.n_state),
                            "keeping running statistics");
}

/* This rank's share, where the backward pass begins, and the loss of the whole batch. */
static cx_status weigh(stepper *s, const float *loss, cx_error *err)
{
    const cx_comm *c = s->o.comm;
    cx_cuda_part *own = s->with.parts + c->rank;
    CUDA(cudaMemcpyAsync(&own->weight, &s->rules->weight, sizeof own->weight, cudaMemcpyDeviceToDevice, s->stream));
    CUDA(cudaMemcpyAsync(&own->loss, loss, sizeof own->loss, cudaMemcpyDeviceToDevice, s->stream));
    TRY(cx_nccl_gather(s->with.nccl, s->with.parts, sizeof *own, err));
    return cx_cuda_launched(err, cx_cuda_weigh_parts(s->stream, s->with.parts, c->rank, c->ranks, cx_plan_grad(s->o.plan, s->o.loss).p, s->with.loss),
                            "the share of a rank");
}

/* Forward and backward, of all ranks. Outside of a capture the host waits in the middle: a device that waits for a rank that is gone would let it queue about
 * 1,000 launches and then hold it where nobody watches. */
static cx_status queue_shared(stepper *s, const float *loss, bool captured, cx_error *err)
{
    TRY(keep(s, CX_CUDA_SOUND, err));
    TRY(cx_plan_forward(s->o.plan, 0, 0, err));
    TRY(weigh(s, loss, err));
    if (!captured)
        TRY(cx_nccl_wait(s->with.nccl, s->stream, NULL, err));
    TRY(cx_plan_backward(s->o.plan, err));
    return cx_nccl_sum(s->with.nccl, cx_store_grads(s->store), cx_store_trainable(s->store), err);
}

static cx_status queue_calls(stepper *s, const cx_update *u, bool captured, cx_error *err)
{
    const int64_t n = cx_store_trainable(s->store);
    const bool shared = s->with.nccl != NULL;
    const float *grad = cx_store_grads(s->store), *loss = cx_plan_value(s->o.plan, s->o.loss).p;
    if (s->o.films)
        TRY(queue_films(s, err));
    if (shared) {
        const cx_status status = queue_shared(s, loss, captured, err);
        if (status == CX_E_PEER && !captured) {                 /* it ends here, with nothing changed */
            (void)cx_cuda_note_lost(s->stream, cx_nccl_lost(s->with.nccl), s->state);
            (void)keep(s, CX_CUDA_LOST, NULL);
        }
        if (status != CX_OK)
            return status;
        loss = s->with.loss;
    } else {
        TRY(cx_plan_forward(s->o.plan, 0, 0, err));             /* the clock knows seed and step */
        TRY(cx_plan_backward(s->o.plan, err));
    }
    TRY(cx_cuda_launched(err, cx_cuda_sum_squares(s->stream, n, grad, s->scratch, s->squares), "the norm of the gradient"));
    if (shared)
        TRY(cx_cuda_launched(err, cx_cuda_note_lost(s->stream, cx_nccl_lost(s->with.nccl), s->state), "looking for lost ranks"));
    TRY(cx_cuda_launched(err, cx_cuda_clip(s->stream, s->squares, s->o.clip, loss, s->state), "clipping"));
    TRY(cx_cuda_launched(err, cx_cuda_update_from(s->stream, u->kind, &s->rules->scalars, s->state, n, cx_store_params(s->store), grad,
                         u->kind == CX_SGD && u->momentum == 0 ? NULL : s->m, s->v), "the update"));
    return shared ? keep(s, CX_CUDA_LOST, err) : CX_OK;
}

static cx_status queue_step(stepper *s, const cx_update *u, bool captured, cx_error *err)
{
    s->queue->clock = s->rules->clock;
    const cx_status status = queue_calls(s, u, captured, err);
    s->queue->clock = NULL;
    return status;
}

static cx_status capture(stepper *s, const cx_update *u, cx_error *err)
{
    cudaGraph_t graph = NULL;
    CUDA(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
    const cx_status status = queue_step(s, u, true, err);
    cudaError_t e = cudaStreamEndCapture(s->stream, &graph);    /* whatever came of it: the stream must be free again */
    if (status == CX_OK && e == cudaSuccess)
        e = cudaGraphInstantiate(&s->graph, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    if (status == CX_OK)
        return e == cudaSuccess ? CX_OK : cx_cuda_fail(err, e, "capturing a training step as a graph");
    (void)cudaGetLastError();
    return cx_prefix(err, status, "cuda: capturing a training step as a graph");
}

static void drop_graph(stepper *s)
{
    if (s->graph) {
        (void)cx_nccl_wait(s->with.nccl, s->stream, NULL, NULL);        /* it may be on its way */
        (void)cudaGraphExecDestroy(s->graph);
    }
    s->graph = NULL;
}

static cx_status run(stepper *s, const cx_update *u, cx_error *err)
{
    const binding now = { s->store->act, s->store->work, u->kind == CX_SGD && u->momentum == 0 ? NULL : s->m, cx_nccl_memory(s->with.nccl), u->kind };
    const binding *was = &s->bound;
    const bool like_before = now.act == was->act && now.work == was->work && now.m == was->m && now.ranks == was->ranks && now.kind == was->kind;
    s->bound = now;
    if (!like_before)
        drop_graph(s);
    if (!like_before || s->o.plan->profile)
        return queue_step(s, u, false, err);
    if (s->graph) {                                             /* what the calls would note */
        s->store->forward = 0;
        s->store->version += 2;
    } else {
        TRY(capture(s, u, err));
    }
    CUDA(cudaGraphLaunch(s->graph, s->stream));
    return CX_OK;
}

static cx_status cuda_step(cx_stepper *self, const cx_step_batch *batch, uint64_t seed, const cx_update *u, cx_error *err)
{
    stepper *s = (stepper *)(void *)self;
    lane *l = &s->lane[s->steps % LANES];
    TRY(cx_nccl_gone(s->with.nccl, err));
    if (s->bad || s->waiting == s->o.ahead)
        return cx_fail(err, CX_E_USAGE, "stepper: %s", s->bad ? "a step before this one was not finite" : "pick up results before the next step");
    slot *w = &s->slot[(s->first + s->waiting) % s->o.ahead];
    TRY(cx_update_check("cuda", u, s->m, s->v, err));
    TRY(cx_batch_check(s->o.films, batch, (int)films_of(s).n, err));
    pack(s, w, batch, seed, u);
    TRY(send(s, w, l, err));
    TRY(take(s, l, err));
    TRY(run(s, u, err));
    CUDA(cudaMemcpyAsync(w->result, s->state, sizeof *s->state, cudaMemcpyDeviceToHost, s->stream));
    CUDA(cudaEventRecord(w->done, s->stream));
    s->waiting++;
    s->steps++;
    return CX_OK;
}

/* ---- its result --------------------------------------------------------------------------------------------------- */

static cx_status cuda_next(cx_stepper *self, bool wait, cx_step_result *out, bool *got, cx_error *err)
{
    stepper *s = (stepper *)(void *)self;
    *got = false;
    if (s->bad || s->waiting == 0 || (s->with.nccl && !wait))
        return CX_OK;
    const slot *w = &s->slot[s->first];
    const cx_status waited = wait ? cx_nccl_wait(s->with.nccl, s->stream, w->done, err) : CX_OK;
    const cudaError_t e = cudaEventQuery(w->done);
    if (e == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return waited;
    }
    if (e != cudaSuccess)
        return cx_cuda_fail(err, e, "a training step");
    if (w->result->fault == CX_CUDA_LOST)                       /* a step that was sound gives its result even when a rank is gone meanwhile */
        return cx_nccl_gone(s->with.nccl, err);
    *out = (cx_step_result){ w->t, w->result->loss, w->result->fault == CX_CUDA_LOSS ? (double)NAN : w->result->norm };
    *got = true;
    s->bad = w->result->fault != CX_CUDA_SOUND;
    s->first = (s->first + 1) % s->o.ahead;
    s->waiting--;
    return CX_OK;
}

/* ---- making one ---------------------------------------------------------------------------------------------------- */

static void cuda_free(cx_stepper *self)
{
    stepper *s = (stepper *)(void *)self;
    (void)cx_nccl_wait(s->with.nccl, s->stream, NULL, NULL);   /* first, for `copies` waits for it */
    if (s->copies) {
        (void)cudaStreamSynchronize(s->copies);
        (void)cudaStreamDestroy(s->copies);
    }
    drop_graph(s);
    for (int i = 0; s->slot && i < s->o.ahead; i++)
        if (s->slot[i].done)
            (void)cudaEventDestroy(s->slot[i].done);
    for (int i = 0; i < LANES; i++) {
        if (s->lane[i].arrived)
            (void)cudaEventDestroy(s->lane[i].arrived);
        if (s->lane[i].taken)
            (void)cudaEventDestroy(s->lane[i].taken);
    }
    if (s->device)
        s->store->b->release(s->store->b, s->device);
    (void)cudaFreeHost(s->pinned);
    cx_share_close(&s->with.share);
    free(s->slot);
    free(s);
}

static cx_status take_memory(stepper *s, cx_error *err)
{
    const int64_t doubles = cx_cuda_sum_doubles(cx_store_trainable(s->store));
    const size_t at_rules = aligned(sizeof *s->state), at_squares = at_rules + s->at_target;
    const size_t at_parts = at_squares + aligned((size_t)(doubles + 1) * sizeof(double));
    const size_t at_loss = at_parts + aligned((size_t)cx_comm_ranks(s->o.comm) * sizeof *s->with.parts);
    const size_t at_lanes = at_loss + aligned((size_t)(1 + s->with.n_state) * sizeof(float)), result_bytes = aligned(sizeof *s->state);
    TRY(s->store->b->alloc(s->store->b, at_lanes + LANES * s->packet_bytes, &s->device, err));
    CUDA(cudaStreamSynchronize(s->stream));                     /* it is being zeroed there, and `copies` writes it too */
    char *at = s->device;
    s->state = (cx_cuda_step *)(void *)at;
    s->rules = (rules *)(void *)(at + at_rules);
    s->squares = (double *)(void *)(at + at_squares);
    s->scratch = s->squares + 1;
    s->with.parts = (cx_cuda_part *)(void *)(at + at_parts);
    s->with.loss = (float *)(void *)(at + at_loss);
    s->with.kept = s->with.loss + 1;
    for (int i = 0; i < LANES; i++)
        s->lane[i].packet = at + at_lanes + (size_t)i * s->packet_bytes;
    CUDA(cudaHostAlloc(&s->pinned, (size_t)s->o.ahead * (s->packet_bytes + result_bytes), cudaHostAllocDefault));
    at = s->pinned;
    for (int i = 0; i < s->o.ahead; i++, at += s->packet_bytes + result_bytes) {
        s->slot[i].packet = at;
        s->slot[i].result = (cx_cuda_step *)(void *)(at + s->packet_bytes);
    }
    return CX_OK;
}

static cx_status open_stepper(stepper *s, cx_error *err)
{
    if (!(s->slot = cx_alloc((size_t)s->o.ahead, sizeof *s->slot)))
        return cx_fail(err, CX_E_MEMORY, "no memory for a stepper");
    TRY(cx_films_check(s->store->b, s->o.films, cx_plan_value(s->o.plan, s->o.input), err));
    s->at_draw = aligned(sizeof *s->rules);
    s->at_px = s->at_draw + aligned(draw_bytes(s));
    s->at_target = s->at_px + aligned(px_bytes(s));
    s->at_input = s->at_target + aligned(bytes_of(s, s->o.target));
    s->packet_bytes = s->at_input + aligned(input_bytes(s));
    TRY(cx_plan_moments(s->o.plan, &s->m, &s->v, err));
    if (s->with.nccl) {
        TRY(cx_share_open(s->store, &s->o, &s->with.share, err));
        TRY(cx_nccl_reserve(s->with.nccl, cx_store_trainable(s->store), err));
        s->with.n_state = s->store->total - cx_store_state_at(s->store);
    }
    TRY(take_memory(s, err));
    CUDA(cudaStreamCreateWithFlags(&s->copies, cudaStreamNonBlocking));
    for (int i = 0; i < s->o.ahead; i++)
        CUDA(cudaEventCreateWithFlags(&s->slot[i].done, cudaEventDisableTiming));
    for (int i = 0; i < LANES; i++) {
        CUDA(cudaEventCreateWithFlags(&s->lane[i].arrived, cudaEventDisableTiming));
        CUDA(cudaEventCreateWithFlags(&s->lane[i].taken, cudaEventDisableTiming));
    }
    return CX_OK;
}

cx_status cx_cuda_stepper_new(cx_backend *b, cx_store *store, const cx_stepper_opts *o, cx_stepper **out, cx_error *err)
{
    *out = NULL;
    stepper *s = cx_alloc(1, sizeof *s);
    if (!s)
        return cx_fail(err, CX_E_MEMORY, "no memory for a stepper");
    *s = (stepper){ .base = { cuda_step, cuda_next, cuda_free }, .o = *o, .store = store, .queue = b->self };
    if (o->films) {
        s->films = *o->films;
        s->o.films = &s->films;
    }
    s->with.nccl = o->comm ? ((cx_cuda_handle *)b->self)->nccl : NULL;
    s->stream = s->queue->stream;
    const cx_status status = open_stepper(s, err);
    if (status != CX_OK) {
        cuda_free(&s->base);
        return status;
    }
    *out = &s->base;
    return CX_OK;
}
