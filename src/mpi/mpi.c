/* mpi.c - ranks joined by MPI: libcxnet_mpi.so, opened on demand by src/graph/comm.c. Depends on comm.h and an MPI library.
 *
 * Only point-to-point calls: MPI promises neither an order of addition nor the same bits from run to run for MPI_Allreduce, and a collective call of MPI
 * cannot be left when a rank is gone. Every wait polls, so it sees what befell the others: a rank that fails sends a farewell, one that vanished from this
 * machine has no process any more, and of one elsewhere nothing is heard for patience_s. Messages come from, and go to, memory of this file: after a broken
 * wait MPI may still write there, so it stays. */
#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cxnet/base.h"
#include "cxnet/comm.h"

enum { DATA = 1, FAREWELL = 2 };                 /* tags */
enum { TEXT = 400, SPINS = 1000, BLOCK = 1024 };

/* Where a process lives: equal places have one table of processes. */
typedef struct { char place[128]; int64_t pid; } home;

typedef struct {
    cx_comm base;
    home *homes;                                 /* [ranks] */
    MPI_Request *request;                        /* [2 * ranks]: those under way */
    int n_requests;
    char *box; size_t box_bytes;                 /* small messages */
    float *mine, *parts; int64_t floats;         /* sum: [floats] all numbers; [ranks, piece] what the others have for this rank's piece */
    char broken[TEXT + 100];                     /* not empty: no call works any more, and this is why */
} mpi;

/* ---- waiting ------------------------------------------------------------------------------------------------------ */

static cx_status broken(const mpi *m, cx_error *err) { return cx_fail(err, CX_E_PEER, "%s", m->broken); }

/* A rank that failed has sent why. */
static bool heard_farewell(mpi *m)
{
    char text[TEXT];
    int there = 0;
    MPI_Status from;
    if (m->broken[0])
        return true;
    if (MPI_Iprobe(MPI_ANY_SOURCE, FAREWELL, MPI_COMM_WORLD, &there, &from) != MPI_SUCCESS || !there)
        return false;
    if (MPI_Recv(text, TEXT, MPI_CHAR, from.MPI_SOURCE, FAREWELL, MPI_COMM_WORLD, MPI_STATUS_IGNORE) != MPI_SUCCESS)
        return false;
    text[TEXT - 1] = 0;
    snprintf(m->broken, sizeof m->broken, "rank %d has ended: %s", from.MPI_SOURCE, text);
    return true;
}

/* The first rank of this machine that has no process any more; -1: none. */
static int vanished(const mpi *m)
{
    const home *own = &m->homes[m->base.rank];
    for (int r = 0; r < m->base.ranks; r++)
        if (r != m->base.rank && strcmp(m->homes[r].place, own->place) == 0 && kill((pid_t)m->homes[r].pid, 0) != 0 && errno == ESRCH)
            return r;
    return -1;
}

static bool all_done(mpi *m, cx_status *s, cx_error *err)
{
    int done = 0;
    *s = CX_OK;
    if (MPI_Testall(m->n_requests, m->request, &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS)
        return done;
    if (!heard_farewell(m))
        snprintf(m->broken, sizeof m->broken, "MPI reports that a connection to another rank has failed");
    *s = broken(m, err);
    return true;
}

/* gone: of vanished(). */
static cx_status what_befell(mpi *m, int gone, const char *doing, cx_error *err)
{
    if (!heard_farewell(m) && gone >= 0)
        snprintf(m->broken, sizeof m->broken, "rank %d (process %lld) has vanished while rank %d waited for it (%s)", gone, (long long)m->homes[gone].pid,
                 m->base.rank, doing);
    return m->broken[0] ? broken(m, err) : CX_OK;
}

/* What befell the others meanwhile? Messages that were sent before an end are taken in first. */
static cx_status look_around(mpi *m, double until_s, const char *doing, cx_error *err)
{
    cx_status s;
    const int gone = vanished(m);
    for (int i = 0; i < 100; i++)
        if (all_done(m, &s, err))
            return s;
    TRY(what_befell(m, gone, doing, err));
    if (cx_now_s() <= until_s)
        return CX_OK;
    snprintf(m->broken, sizeof m->broken, "rank %d has waited %g s for the others (%s), and takes them for lost; run.comm_timeout_s says how long to wait",
             m->base.rank, m->base.patience_s, doing);
    return broken(m, err);
}

static cx_status run_look(cx_comm *c, cx_error *err) { return what_befell(c->self, vanished(c->self), "sum of gradients on the GPUs", err); }

/* Until all requests are done. Spins for about as long as a short message takes, then gives the core away. */
static cx_status finish(mpi *m, const char *doing, cx_error *err)
{
    const double until = cx_now_s() + m->base.patience_s;
    double look = cx_now_s() + 0.05;
    cx_status s;
    for (int turn = 0; !all_done(m, &s, err); turn++) {
        if (turn < SPINS)
            sched_yield();
        else
            nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
        if (turn % 16 || cx_now_s() < look)
            continue;
        TRY(look_around(m, until, doing, err));
        look = cx_now_s() + 0.05;
    }
    m->n_requests = 0;
    return s;
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

static cx_status put(mpi *m, const void *p, int64_t count, MPI_Datatype type, int to, cx_error *err)
{
    if (MPI_Isend(p, (int)count, type, to, DATA, MPI_COMM_WORLD, &m->request[m->n_requests++]) == MPI_SUCCESS)
        return CX_OK;
    snprintf(m->broken, sizeof m->broken, "MPI cannot send to rank %d", to);
    return broken(m, err);
}

static cx_status take(mpi *m, void *p, int64_t count, MPI_Datatype type, int from, cx_error *err)
{
    if (MPI_Irecv(p, (int)count, type, from, DATA, MPI_COMM_WORLD, &m->request[m->n_requests++]) == MPI_SUCCESS)
        return CX_OK;
    snprintf(m->broken, sizeof m->broken, "MPI cannot receive from rank %d", from);
    return broken(m, err);
}

static cx_status reserve(mpi *m, size_t bytes, cx_error *err)
{
    if (m->broken[0])
        return broken(m, err);
    if (bytes > INT_MAX)
        return cx_fail(err, CX_E_UNSUPPORTED, "mpi: messages of more than 2 GiB, got %zu bytes", bytes);
    const size_t want = bytes * (size_t)m->base.ranks;
    return cx_grow(&m->box, &m->box_bytes, want, 1) ? CX_OK : cx_fail(err, CX_E_MEMORY, "mpi: no memory for %zu bytes", want);
}

static cx_status run_gather(cx_comm *c, const void *mine, void *all, size_t bytes, cx_error *err)
{
    mpi *m = c->self;
    TRY(reserve(m, bytes, err));
    char *own = m->box + (size_t)c->rank * bytes;
    memcpy(own, mine, bytes);
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank)
            continue;
        TRY(take(m, m->box + (size_t)r * bytes, (int64_t)bytes, MPI_BYTE, r, err));
        TRY(put(m, own, (int64_t)bytes, MPI_BYTE, r, err));
    }
    TRY(finish(m, "gather", err));
    memcpy(all, m->box, bytes * (size_t)c->ranks);
    return CX_OK;
}

static cx_status run_broadcast(cx_comm *c, void *p, size_t bytes, cx_error *err)
{
    mpi *m = c->self;
    TRY(reserve(m, bytes, err));
    if (c->rank == 0)
        memcpy(m->box, p, bytes);
    for (int r = 1; c->rank == 0 && r < c->ranks; r++)
        TRY(put(m, m->box, (int64_t)bytes, MPI_BYTE, r, err));
    if (c->rank > 0)
        TRY(take(m, m->box, (int64_t)bytes, MPI_BYTE, 0, err));
    TRY(finish(m, "broadcast", err));
    memcpy(p, m->box, bytes);
    return CX_OK;
}

/* ---- sum ----------------------------------------------------------------------------------------------------------- */

static cx_status reserve_floats(mpi *m, int64_t n, cx_error *err)
{
    const int64_t ranks = m->base.ranks, piece = n / ranks + 1;
    if (m->broken[0])
        return broken(m, err);
    if (piece > INT_MAX)
        return cx_fail(err, CX_E_UNSUPPORTED, "mpi: %lld numbers are too many for %d ranks", (long long)n, m->base.ranks);
    if (n <= m->floats)
        return CX_OK;
    free(m->mine);
    free(m->parts);
    m->mine = cx_alloc_aligned((size_t)n, sizeof(float));
    m->parts = cx_alloc_aligned((size_t)(piece * ranks), sizeof(float));
    m->floats = m->mine && m->parts ? n : 0;
    return m->floats == n ? CX_OK : cx_fail(err, CX_E_MEMORY, "mpi: no memory to add %lld numbers", (long long)n);
}

/* own[0..n) <- the sum over ranks, in their order; part r of the others at parts + r * pitch. */
static void add_in_order(const mpi *m, float *own, int64_t n, int64_t pitch)
{
    float sum[BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t here = n - at < BLOCK ? n - at : BLOCK;
        for (int r = 0; r < m->base.ranks; r++) {
            const float *x = (r == m->base.rank ? own : m->parts + r * pitch) + at;
            for (int64_t i = 0; i < here; i++)
                sum[i] = r ? sum[i] + x[i] : x[i];
        }
        memcpy(own + at, sum, (size_t)here * sizeof *sum);
    }
}

static cx_status reduce(mpi *m, int64_t n, cx_error *err)
{
    const int rank = m->base.rank, ranks = m->base.ranks;
    const int64_t lo = cx_comm_piece(&m->base, n, rank), own = cx_comm_piece(&m->base, n, rank + 1) - lo, pitch = n / ranks + 1;
    for (int r = 0; r < ranks; r++) {
        if (r == rank)
            continue;
        TRY(take(m, m->parts + r * pitch, own, MPI_FLOAT, r, err));
        TRY(put(m, m->mine + cx_comm_piece(&m->base, n, r), cx_comm_piece(&m->base, n, r + 1) - cx_comm_piece(&m->base, n, r), MPI_FLOAT, r, err));
    }
    TRY(finish(m, "sum of gradients", err));
    add_in_order(m, m->mine + lo, own, pitch);
    for (int r = 0; r < ranks; r++) {
        if (r == rank)
            continue;
        TRY(take(m, m->mine + cx_comm_piece(&m->base, n, r), cx_comm_piece(&m->base, n, r + 1) - cx_comm_piece(&m->base, n, r), MPI_FLOAT, r, err));
        TRY(put(m, m->mine + lo, own, MPI_FLOAT, r, err));
    }
    return finish(m, "sum of gradients", err);
}

static cx_status run_sum(cx_comm *c, cx_backend *b, float *x, int64_t n, cx_error *err)
{
    mpi *m = c->self;
    TRY(reserve_floats(m, n, err));
    TRY(b->download(b, m->mine, x, (size_t)n * sizeof *x, err));
    TRY(reduce(m, n, err));
    return b->upload(b, x, m->mine, (size_t)n * sizeof *x, err);
}

/* ---- opening and closing ------------------------------------------------------------------------------------------- */

/* Tells the others, as long as they listen: a second at most. */
static void say_farewell(mpi *m, const char *why)
{
    char *text = cx_alloc(TEXT, 1);              /* stays: MPI may still read it when this returns */
    const double until = cx_now_s() + 1;
    int done = 0;
    if (!text)
        return;
    snprintf(text, TEXT, "%s", why);
    m->n_requests = 0;
    for (int r = 0; r < m->base.ranks; r++)
        if (r != m->base.rank && MPI_Isend(text, TEXT, MPI_CHAR, r, FAREWELL, MPI_COMM_WORLD, &m->request[m->n_requests]) == MPI_SUCCESS)
            m->n_requests++;
    while (!done && cx_now_s() < until && MPI_Testall(m->n_requests, m->request, &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS)
        sched_yield();
}

static void free_memory(mpi *m)
{
    free(m->homes);
    free(m->request);
    free(m->box);
    free(m->mine);
    free(m->parts);
    free(m);
}

/* MPI_Finalize waits for all ranks, so only a rank that has met them calls it. Otherwise MPI, its messages and their memory stay until the process ends. */
static void run_close(cx_comm *c, const char *why)
{
    mpi *m = c->self;
    if (why && c->ranks > 1)
        say_farewell(m, why);
    else if (!m->broken[0] && cx_comm_barrier(c, NULL) == CX_OK) {
        MPI_Finalize();
        free_memory(m);
    }
}

/* The machine since it was started, and the table of processes on it. */
static void find_home(home *h)
{
    char boot[40] = "", space[64] = "";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");      /* it says that it is empty: not for cx_file_read */
    const bool known = f && fgets(boot, sizeof boot, f) && readlink("/proc/self/ns/pid", space, sizeof space - 1) > 0;
    if (f)
        fclose(f);
    memset(h, 0, sizeof *h);
    h->pid = (int64_t)getpid();
    if (known)
        snprintf(h->place, sizeof h->place, "%.36s %s", boot, space);
    else                                         /* nobody is watched who cannot be */
        snprintf(h->place, sizeof h->place, "process %lld", (long long)h->pid);
}

static cx_status meet(mpi *m, cx_error *err)
{
    home own;
    MPI_Comm node;
    find_home(&own);
    TRY(run_gather(&m->base, &own, m->homes, sizeof own, err));
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node) != MPI_SUCCESS)
        return cx_fail(err, CX_E_UNSUPPORTED, "mpi: cannot find out which ranks share a machine");
    MPI_Comm_rank(node, &m->base.local_rank);
    MPI_Comm_free(&node);
    return CX_OK;
}

static cx_status open_comm(double patience_s, cx_comm **out, cx_error *err)
{
    mpi *m = cx_alloc(1, sizeof *m);
    if (!m)
        return cx_fail(err, CX_E_MEMORY, "mpi: out of memory");
    m->base = (cx_comm){ .name = "mpi", .patience_s = patience_s, .self = m, .sum = run_sum, .gather = run_gather, .broadcast = run_broadcast,
        .look = run_look, .close = run_close };
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &m->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &m->base.ranks);
    m->homes = cx_alloc((size_t)m->base.ranks, sizeof *m->homes);
    m->request = cx_alloc(2 * (size_t)m->base.ranks, sizeof *m->request);
    cx_status s = m->homes && m->request ? meet(m, err) : cx_fail(err, CX_E_MEMORY, "mpi: out of memory");
    if (s == CX_OK)
        *out = &m->base;
    return s;
}

/* A step of srun that offers its ranks neither PMIx nor PMI-2 (srun --mpi=none, Slurm's own default). Open MPI then ends the process inside MPI_Init. */
static bool cannot_meet(void)
{
#ifdef OPEN_MPI
    return getenv("SLURM_STEP_ID") && getenv("SLURM_STEP_NUM_TASKS") && !getenv("PMIX_NAMESPACE") && !getenv("PMI_RANK");
#else
    return false;
#endif
}

__attribute__((visibility("default"))) cx_status cx_comm_plugin_open(double patience_s, cx_comm **out, cx_error *err);

cx_status cx_comm_plugin_open(double patience_s, cx_comm **out, cx_error *err)
{
    int before = 0, after = 0, level;
    MPI_Initialized(&before);
    MPI_Finalized(&after);
    if (before || after)
        return cx_fail(err, CX_E_USAGE, "mpi: a process opens it once");
    if (cannot_meet())
        return cx_fail(err, CX_E_UNSUPPORTED, "srun has started this rank without the PMIx by which Open MPI's ranks meet: want srun --mpi=pmix "
                       "(srun --mpi=list says what Slurm has), or mpirun");
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS || level < MPI_THREAD_FUNNELED)
        return cx_fail(err, CX_E_UNSUPPORTED, "mpi: MPI_Init_thread failed");
    return open_comm(patience_s, out, err);
}
