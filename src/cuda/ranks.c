/* ranks.c - gradients of several GPUs, added on the devices: libnccl.so.2, opened when ranks are joined, and of it nothing but send and receive.
 * ncclAllReduce promises no order of addition; here each rank adds a piece in the order of the ranks, as src/mpi does, and so gives the same bits. Depends on
 * ranks.h, kernels.h.
 *
 * No call of NCCL blocks (ncclConfig_t.blocking): each is asked about until it is done, and what it queued is waited for by asking the stream. So a rank that
 * is gone is missed wherever it was to come. Then ncclCommAbort makes the device leave the sums that wait for it. That call comes back only when no graph that
 * has captured one is left, which may be long after: it has a thread of its own. */
#include "ranks.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "check.h"
#include "cxnet/base.h"
#include "kernels.h"

#ifdef CX_NCCL
#include <nccl.h>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 14, 0)
#error "want the nccl.h of NCCL 2.14 or newer: older ones cannot but block"
#endif

#define CALLS(X) X(ncclGetUniqueId) X(ncclCommInitRankConfig) X(ncclCommGetAsyncError) X(ncclCommAbort) X(ncclGroupStart) X(ncclGroupEnd) X(ncclSend) \
    X(ncclRecv) X(ncclGetErrorString)
typedef struct {
#define X(name) __typeof__(&name) name;
    CALLS(X)
#undef X
} library;

struct cx_nccl {
    library nccl;
    cx_comm *comm;
    cx_status (*host_sum)(cx_comm *c, cx_backend *b, float *x, int64_t n, cx_error *err);
    const char *host_name;
    ncclComm_t group;
    cudaStream_t stream;
    float *parts; int64_t n_parts;      /* device: [ranks, piece], what the others have for this rank's piece */
    int32_t *lost;                      /* pinned */
    char gone[400];                     /* not empty: no call works any more, and this is why */
    double until_s;                     /* gone: how long the device may take to leave the sums that wait */
    pthread_t leaving; bool leaves;     /* ncclCommAbort at work */
};

enum { SPINS = 1000 };
/* Seconds that a device may take to leave sums and to finish the steps that were queued, and ncclCommAbort to come back when the run ends. */
static const double LEAVE_S = 60, END_S = 5;

/* False: why says what is missing. */
static bool open_library(library *l, char why[200])
{
#ifdef CX_EMULATED
#define X(name) l->name = name;
    CALLS(X)
#undef X
    (void)why;
    return true;
#else
    void *object = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL), *symbol;
    bool ok = object != NULL;
#define X(name) if (ok) { symbol = dlsym(object, #name); memcpy(&l->name, &symbol, sizeof symbol); ok = symbol != NULL; }
    CALLS(X)
#undef X
    if (!ok)
        snprintf(why, 200, "%s", dlerror());
    return ok;
#endif
}

/* ---- watching -------------------------------------------------------------------------------------------------------- */

static void *leave(void *self)
{
    cx_nccl *c = self;
    (void)c->nccl.ncclCommAbort(c->group);
    return NULL;
}

/* The others are not waited for any more. What this rank makes of sums without them is void, and *lost says so before it is made. */
static void give_up(cx_nccl *c, const char *why)
{
    if (c->gone[0])
        return;
    snprintf(c->gone, sizeof c->gone, "%s", why);
    __atomic_store_n(c->lost, 1, __ATOMIC_SEQ_CST);
    c->until_s = cx_now_s() + LEAVE_S;
    c->leaves = c->group && pthread_create(&c->leaving, NULL, leave, c) == 0;
}

cx_status cx_nccl_gone(const cx_nccl *c, cx_error *err) { return c && c->gone[0] ? cx_fail(err, CX_E_PEER, "%s", c->gone) : CX_OK; }
const int32_t *cx_nccl_lost(const cx_nccl *c) { return c->lost; }
const void *cx_nccl_memory(const cx_nccl *c) { return c ? c->parts : NULL; }

/* How long something has been waited for: turns of a loop. */
typedef struct { double until_s, look_s; int turn; } patience;

static patience begin(const cx_nccl *c)
{
    const double now = cx_now_s();
    return (patience){ now + c->comm->patience_s, now + 0.05, 0 };
}

/* A turn: rests, and looks after the others now and then. CX_E_PEER: one is gone. */
static cx_status watch(cx_nccl *c, patience *p, cx_error *err)
{
    char why[400];
    cx_error news = { 0 };
    ncclResult_t e = ncclSuccess;
    if (p->turn++ < SPINS)
        sched_yield();
    else
        nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    if (cx_now_s() < p->look_s)
        return CX_OK;
    p->look_s = cx_now_s() + 0.05;
    if (c->comm->look && c->comm->look(c->comm, &news) != CX_OK)
        snprintf(why, sizeof why, "%.399s", news.text);
    else if (c->nccl.ncclCommGetAsyncError(c->group, &e) != ncclSuccess || (e != ncclSuccess && e != ncclInProgress))
        snprintf(why, sizeof why, "rank %d has lost the others: NCCL reports: %s", c->comm->rank, c->nccl.ncclGetErrorString(e));
    else if (cx_now_s() > p->until_s)
        snprintf(why, sizeof why, "rank %d has waited %g s for the others (NCCL), and takes them for lost; run.comm_timeout_s says how long to wait",
                 c->comm->rank, c->comm->patience_s);
    else
        return CX_OK;
    give_up(c, why);
    return cx_nccl_gone(c, err);
}

/* Until NCCL is done with a call that gave *e; *e is then what came of it. */
static cx_status settle(cx_nccl *c, ncclResult_t *e, cx_error *err)
{
    patience p = begin(c);
    while (*e == ncclInProgress) {
        if (c->nccl.ncclCommGetAsyncError(c->group, e) != ncclSuccess)
            *e = ncclSystemError;
        if (*e == ncclInProgress)
            TRY(watch(c, &p, err));
    }
    return CX_OK;
}

static cudaError_t ask(cudaStream_t stream, cudaEvent_t event)
{
    const cudaError_t e = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
    if (e != cudaSuccess)
        (void)cudaGetLastError();
    return e;
}

cx_status cx_nccl_wait(cx_nccl *c, cudaStream_t stream, cudaEvent_t event, cx_error *err)
{
    if (!c) {
        CUDA(event ? cudaEventSynchronize(event) : cudaStreamSynchronize(stream));
        return CX_OK;
    }
    patience p = begin(c);
    const bool sound = !c->gone[0];
    cudaError_t e;
    while ((e = ask(stream, event)) == cudaErrorNotReady) {
        if (!c->gone[0])
            (void)watch(c, &p, err);
        else if (cx_now_s() > c->until_s)
            return cx_fail(err, CX_E_PEER, "%s; and the GPU does not leave the sum that waits for it", c->gone);
        else
            nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    }
    if (e != cudaSuccess)
        return cx_cuda_fail(err, e, "work of several ranks");
    return sound ? cx_nccl_gone(c, err) : CX_OK;
}

/* ---- opening and closing ------------------------------------------------------------------------------------------------ */

/* What a rank tells the others: empty where all is well. */
static cx_status all_well(cx_comm *comm, const char mine[200], cx_error *err)
{
    char *all = cx_alloc((size_t)comm->ranks, 200);
    cx_status s = all ? comm->gather(comm, mine, all, 200, err) : cx_fail(err, CX_E_MEMORY, "cuda: out of memory");
    for (int r = 0; s == CX_OK && r < comm->ranks; r++)
        if (all[r * 200])
            s = cx_fail(err, CX_E_UNSUPPORTED, "cuda: rank %d cannot use NCCL: %.199s", r, all + r * 200);
    free(all);
    return s;
}

static cx_status meet(cx_nccl *c, cx_error *err)
{
    char why[200] = "";
    struct { ncclUniqueId id; ncclResult_t e; } first = { .e = ncclSuccess };
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    open_library(&c->nccl, why);
    TRY(all_well(c->comm, why, err));
    if (c->comm->rank == 0)
        first.e = c->nccl.ncclGetUniqueId(&first.id);
    TRY(c->comm->broadcast(c->comm, &first, sizeof first, err));
    ncclResult_t e = first.e;
    if (e == ncclSuccess) {
        e = c->nccl.ncclCommInitRankConfig(&c->group, c->comm->ranks, first.id, c->comm->rank, &config);
        TRY(settle(c, &e, err));
    }
    if (e != ncclSuccess)
        snprintf(why, sizeof why, "%s", c->nccl.ncclGetErrorString(e));
    return all_well(c->comm, why, err);
}

cx_status cx_nccl_open(cudaStream_t stream, cx_comm *comm, cx_nccl **out, cx_error *err)
{
    *out = NULL;
    cx_nccl *c = cx_alloc(1, sizeof *c);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "cuda: out of memory");
    *c = (cx_nccl){ .comm = comm, .host_sum = comm->sum, .host_name = comm->name, .stream = stream };
    const cudaError_t e = cudaHostAlloc((void **)&c->lost, sizeof *c->lost, cudaHostAllocDefault);
    if (e != cudaSuccess) {
        free(c);
        return cx_cuda_fail(err, e, "pinned memory for a flag");
    }
    *c->lost = 0;
    const cx_status s = meet(c, err);
    if (s != CX_OK) {
        cx_nccl_close(c);
        return s;
    }
    comm->name = "nccl";
    *out = c;
    return CX_OK;
}

/* Whether the thread that leaves has come to its end. */
static bool has_left(cx_nccl *c)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)END_S;
    return !c->leaves || pthread_timedjoin_np(c->leaving, NULL, &until) == 0;
}

/* Where a rank is gone, or this one ends alone, a sum that waits would hold up the stream, and all that waits for that: so NCCL is never destroyed but aborted.
 * If it or the device does not come to an end, its memory stays until the process ends. */
void cx_nccl_close(cx_nccl *c)
{
    if (!c)
        return;
    give_up(c, "this rank has closed NCCL");
    const bool idle = cx_nccl_wait(c, c->stream, NULL, NULL) == CX_OK;
    c->comm->sum = c->host_sum;
    c->comm->name = c->host_name;
    c->comm->joined = NULL;
    if (!has_left(c) || !idle)
        return;
    (void)cudaFree(c->parts);
    (void)cudaFreeHost(c->lost);
    free(c);
}

/* ---- sums --------------------------------------------------------------------------------------------------------------- */

/* The length of what each rank has of this rank's piece. */
static int64_t pitch_of(const cx_nccl *c, int64_t n) { return n / c->comm->ranks + 1; }

cx_status cx_nccl_reserve(cx_nccl *c, int64_t n, cx_error *err)
{
    const int64_t want = pitch_of(c, n) * c->comm->ranks;
    if (want <= c->n_parts)
        return CX_OK;
    TRY(cx_nccl_wait(c, c->stream, NULL, err));
    (void)cudaFree(c->parts);
    c->parts = NULL;
    c->n_parts = 0;
    CUDA(cudaMalloc((void **)&c->parts, (size_t)want * sizeof(float)));
    c->n_parts = want;
    return CX_OK;
}

/* What comes of a call of NCCL. CX_E_PEER: nothing, and then the others are lost: they would wait for what this rank has not sent. */
static cx_status taken(cx_nccl *c, ncclResult_t e, const char *call, cx_error *err)
{
    char why[400];
    TRY(settle(c, &e, err));
    if (e == ncclSuccess)
        return CX_OK;
    snprintf(why, sizeof why, "nccl: %s: %s", call, c->nccl.ncclGetErrorString(e));
    give_up(c, why);
    return cx_nccl_gone(c, err);
}

#define NCCL(call) TRY(taken(c, c->nccl.call, #call, err))

/* Scattered: what each rank will add goes to it. Otherwise what it has added goes to all. */
static cx_status exchange(cx_nccl *c, float *x, int64_t n, int64_t pitch, bool scattered, cx_error *err)
{
    const int rank = c->comm->rank;
    const int64_t lo = cx_comm_piece(c->comm, n, rank), own = cx_comm_piece(c->comm, n, rank + 1) - lo;
    NCCL(ncclGroupStart());
    for (int r = 0; r < c->comm->ranks; r++) {
        const int64_t at = cx_comm_piece(c->comm, n, r), there = cx_comm_piece(c->comm, n, r + 1) - at;
        if (r == rank)
            continue;
        NCCL(ncclSend(x + (scattered ? at : lo), (size_t)(scattered ? there : own), ncclFloat, r, c->group, c->stream));
        NCCL(ncclRecv(scattered ? c->parts + r * pitch : x + at, (size_t)(scattered ? own : there), ncclFloat, r, c->group, c->stream));
    }
    NCCL(ncclGroupEnd());
    return CX_OK;
}

cx_status cx_nccl_sum(cx_nccl *c, float *x, int64_t n, cx_error *err)
{
    const int rank = c->comm->rank, ranks = c->comm->ranks;
    const int64_t pitch = pitch_of(c, n), lo = cx_comm_piece(c->comm, n, rank), own = cx_comm_piece(c->comm, n, rank + 1) - lo;
    TRY(cx_nccl_gone(c, err));
    TRY(cx_nccl_reserve(c, n, err));
    TRY(exchange(c, x, n, pitch, true, err));
    TRY(cx_cuda_launched(err, cx_cuda_add_ranks(c->stream, x + lo, c->parts, pitch, rank, ranks, own), "adding the gradients of all ranks"));
    return exchange(c, x, n, pitch, false, err);
}

cx_status cx_nccl_gather(cx_nccl *c, void *all, size_t bytes, cx_error *err)
{
    char *at = all;
    TRY(cx_nccl_gone(c, err));
    NCCL(ncclGroupStart());
    for (int r = 0; r < c->comm->ranks; r++) {
        if (r == c->comm->rank)
            continue;
        NCCL(ncclSend(at + (size_t)c->comm->rank * bytes, bytes, ncclChar, r, c->group, c->stream));
        NCCL(ncclRecv(at + (size_t)r * bytes, bytes, ncclChar, r, c->group, c->stream));
    }
    NCCL(ncclGroupEnd());
    return CX_OK;
}

#else

static cx_status none(cx_error *err) { return cx_fail(err, CX_E_UNSUPPORTED, "cuda: this build has no NCCL (no nccl.h was there)"); }

cx_status cx_nccl_open(cudaStream_t stream, cx_comm *comm, cx_nccl **out, cx_error *err)
{
    (void)stream, (void)comm;
    *out = NULL;
    return none(err);
}

cx_status cx_nccl_reserve(cx_nccl *c, int64_t n, cx_error *err)
{
    (void)c, (void)n;
    return none(err);
}

cx_status cx_nccl_sum(cx_nccl *c, float *x, int64_t n, cx_error *err)
{
    (void)c, (void)x, (void)n;
    return none(err);
}

cx_status cx_nccl_gather(cx_nccl *c, void *all, size_t bytes, cx_error *err)
{
    (void)c, (void)all, (void)bytes;
    return none(err);
}

cx_status cx_nccl_wait(cx_nccl *c, cudaStream_t stream, cudaEvent_t event, cx_error *err)
{
    (void)c;
    CUDA(event ? cudaEventSynchronize(event) : cudaStreamSynchronize(stream));
    return CX_OK;
}

cx_status cx_nccl_gone(const cx_nccl *c, cx_error *err)
{
    (void)c, (void)err;
    return CX_OK;
}

const int32_t *cx_nccl_lost(const cx_nccl *c)
{
    (void)c;
    return NULL;
}

const void *cx_nccl_memory(const cx_nccl *c)
{
    (void)c;
    return NULL;
}

void cx_nccl_close(cx_nccl *c) { (void)c; }
#endif
