/* ranks.c - gradients of several GPUs, added on the devices: libnccl.so.2, opened when ranks are joined, and of it nothing but send and receive.
 * ncclAllReduce promises no order of addition; here each rank adds a piece in the order of the ranks, as src/mpi does, and so gives the same bits. Depends on
 * ranks.h, kernels.h. */
#include "ranks.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "cxnet/base.h"
#include "kernels.h"

#ifdef CX_NCCL
#include <nccl.h>

#define CALLS(X) X(ncclGetUniqueId) X(ncclCommInitRank) X(ncclCommAbort) X(ncclGroupStart) X(ncclGroupEnd) X(ncclSend) X(ncclRecv) X(ncclGetErrorString)
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
};

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
    ncclUniqueId id = { 0 };
    open_library(&c->nccl, why);
    TRY(all_well(c->comm, why, err));
    ncclResult_t e = c->comm->rank == 0 ? c->nccl.ncclGetUniqueId(&id) : ncclSuccess;
    TRY(c->comm->broadcast(c->comm, &id, sizeof id, err));
    if (e == ncclSuccess)
        e = c->nccl.ncclCommInitRank(&c->group, c->comm->ranks, id, c->comm->rank);
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
    const cx_status s = meet(c, err);
    if (s != CX_OK) {
        cx_nccl_close(c);
        return s;
    }
    comm->name = "nccl";
    *out = c;
    return CX_OK;
}

void cx_nccl_close(cx_nccl *c)
{
    if (!c)
        return;
    if (c->group)                       /* abort: where a rank is gone, a sum that waits for it would hold up the stream, and all that waits for that */
        c->nccl.ncclCommAbort(c->group);
    (void)cudaStreamSynchronize(c->stream);
    (void)cudaFree(c->parts);
    c->comm->sum = c->host_sum;
    c->comm->name = c->host_name;
    free(c);
}

/* Outside of a capture only: another number of floats than before. */
static cx_status reserve(cx_nccl *c, int64_t want, cx_error *err)
{
    if (want <= c->n_parts)
        return CX_OK;
    CUDA(cudaStreamSynchronize(c->stream));
    (void)cudaFree(c->parts);
    c->parts = NULL;
    c->n_parts = 0;
    CUDA(cudaMalloc((void **)&c->parts, (size_t)want * sizeof(float)));
    c->n_parts = want;
    return CX_OK;
}

#define NCCL(call) do { const ncclResult_t e_ = c->nccl.call; \
    if (e_ != ncclSuccess) return cx_fail(err, CX_E_PEER, "nccl: %s: %s", #call, c->nccl.ncclGetErrorString(e_)); } while (0)

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
    const int64_t pitch = n / ranks + 1, lo = cx_comm_piece(c->comm, n, rank), own = cx_comm_piece(c->comm, n, rank + 1) - lo;
    TRY(reserve(c, pitch * ranks, err));
    TRY(exchange(c, x, n, pitch, true, err));
    TRY(cx_cuda_launched(err, cx_cuda_add_ranks(c->stream, x + lo, c->parts, pitch, rank, ranks, own), "adding the gradients of all ranks"));
    return exchange(c, x, n, pitch, false, err);
}

#else

cx_status cx_nccl_open(cudaStream_t stream, cx_comm *comm, cx_nccl **out, cx_error *err)
{
    (void)stream;
    (void)comm;
    *out = NULL;
    return cx_fail(err, CX_E_UNSUPPORTED, "cuda: this build has no NCCL (no nccl.h was there)");
}

cx_status cx_nccl_sum(cx_nccl *c, float *x, int64_t n, cx_error *err)
{
    (void)c;
    (void)x;
    (void)n;
    return cx_fail(err, CX_E_INTERNAL, "cuda: this build has no NCCL");
}

void cx_nccl_close(cx_nccl *c) { (void)c; }
#endif
