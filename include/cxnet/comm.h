/* comm.h - several processes, ranks, that train one network: who they are, and how numbers travel between them. Depends on graph.h.
 *
 * A cx_comm is a table of functions, filled by a plug-in that is opened when it is wanted (libcxnet_mpi.so); a backend may put a faster sum in its place
 * (cx_backend.join). NULL stands for a single process wherever a comm is taken. All ranks make the same calls in the same order, from one thread each.
 * A rank that has failed says so to the others (cx_comm_close), a rank that has vanished is missed: a call that waits for it ends as CX_E_PEER with a
 * sentence that names it, at once where it ran on the same machine or its end was announced, after `patience` otherwise. From then on every call fails
 * so. A sum that a backend has taken over (NCCL) is queued; whoever waits for the device then watches it, and ends the same way. */
#ifndef CXNET_COMM_H
#define CXNET_COMM_H
#include "cxnet/graph.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cx_comm cx_comm;
struct cx_comm {
    const char *name;          /* "mpi", "nccl" */
    int rank, ranks;           /* rank: 0 .. ranks - 1 */
    int local_rank;            /* among the ranks on this machine: which of its GPUs to take */
    double patience_s;         /* how long a call may wait for another rank */
    void *self;
    /* x[0..n) += that of all other ranks, in memory of b, whose queued work on x comes first and whose later work sees the sum. Added in float32 in the order
     * of the ranks, ((x0 + x1) + x2) ..., on one rank each piece: the same bits on every rank and in every run. */
    cx_status (*sum)(cx_comm *c, cx_backend *b, float *x, int64_t n, cx_error *err);
    /* all [ranks, bytes] <- the `bytes` bytes at mine of every rank. Host memory; bytes is the same on all ranks. */
    cx_status (*gather)(cx_comm *c, const void *mine, void *all, size_t bytes, cx_error *err);
    /* p[0..bytes) <- that of rank 0. Host memory. */
    cx_status (*broadcast)(cx_comm *c, void *p, size_t bytes, cx_error *err);
    /* CX_E_PEER where it is known by now that another rank is gone. Waits for nobody. NULL: it would not be known. */
    cx_status (*look)(cx_comm *c, cx_error *err);
    /* The backend that has taken over sum (cx_backend.join): it only queues it, and a graph of the device may capture it. NULL: none has. */
    const cx_backend *joined;
    /* why: NULL when this rank has come to the same end as the others, whom it then waits for; otherwise what befell it, which is told to them. */
    void (*close)(cx_comm *c, const char *why);
};

/* how: "none": *out = NULL. "mpi", "nccl" (MPI for all but the sum over gradients, see cx_backend.join), "auto": MPI where a launcher has started several
 * ranks of this program (mpirun, mpiexec, srun: OMPI_COMM_WORLD_SIZE, PMI_SIZE or SLURM_STEP_NUM_TASKS above 1), NULL otherwise; a batch script or a shell
 * inside an allocation is a single process, whatever its number of tasks. patience_s > 0. CX_E_UNSUPPORTED: no such plug-in, or MPI sees another number of
 * ranks than the launcher started. */
cx_status cx_comm_open(const char *how, double patience_s, cx_comm **out, cx_error *err);
/* why: NULL or the error that ends this rank alone. A rank that closes with an error, or because of one (CX_E_PEER), does not wait for anybody. NULL comm is
 * allowed. */
void cx_comm_close(cx_comm *c, const cx_error *why);

/* Of n numbers to be added, rank r adds those from here up to the next rank's; r may be c->ranks. */
static inline int64_t cx_comm_piece(const cx_comm *c, int64_t n, int r) { return n / c->ranks * r + n % c->ranks * r / c->ranks; }

static inline int cx_comm_rank(const cx_comm *c) { return c ? c->rank : 0; }
static inline int cx_comm_ranks(const cx_comm *c) { return c ? c->ranks : 1; }
/* *flag <- whether it was set on any rank. What all ranks learn at the same call, such as that a signal asks them to stop. */
cx_status cx_comm_any(cx_comm *c, bool *flag, cx_error *err);
/* Returns when all ranks have come here. */
cx_status cx_comm_barrier(cx_comm *c, cx_error *err);
/* CX_E_CONFIG on every rank, when the text of one differs from that of rank 0: "<what> of rank 1: "<line>", but of rank 0: "<line>"", with the first line
 * that does. */
cx_status cx_comm_same(cx_comm *c, const char *what, const char *text, cx_error *err);

/* ---- inside: what a plug-in exports as cx_comm_plugin_open ------------------------------------------------------------------ */
typedef cx_status (*cx_comm_plugin_fn)(double patience_s, cx_comm **out, cx_error *err);

#ifdef __cplusplus
}
#endif
#endif
