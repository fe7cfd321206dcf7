/* comm.c - which ranks there are, and what follows from the few functions of a cx_comm. Depends on comm.h, backends.h. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "backends.h"
#include "cxnet/base.h"
#include "cxnet/comm.h"

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int number_of(const char *variable)
{
    const char *text = getenv(variable);
    const long v = text ? strtol(text, NULL, 10) : 0;
    return v > 0 && v < INT_MAX ? (int)v : 0;
}

/* How many ranks a launcher has started; 1: none has. mpirun comes first, for it may itself have been started by srun. SLURM_NTASKS says what a job may
 * start, and stands in its batch script too; SLURM_STEP_NUM_TASKS says what srun has started; a shell by srun --pty is a person's, and waits for nobody. */
static int launched(void)
{
    if (getenv("OMPI_COMM_WORLD_SIZE"))
        return number_of("OMPI_COMM_WORLD_SIZE");
    if (getenv("PMI_RANK") && getenv("PMI_SIZE"))
        return number_of("PMI_SIZE");
    const bool step = getenv("SLURM_PROCID") && getenv("SLURM_STEP_NUM_TASKS") && !getenv("SLURM_PTY_PORT");
    return step ? number_of("SLURM_STEP_NUM_TASKS") : 1;
}

cx_status cx_comm_open(const char *how, double patience_s, cx_comm **out, cx_error *err)
{
    const bool chosen = strcmp(how, "mpi") == 0 || strcmp(how, "nccl") == 0;
    const int ranks = launched();
    *out = NULL;
    if (!chosen && strcmp(how, "none") != 0 && strcmp(how, "auto") != 0)
        return cx_fail(err, CX_E_UNSUPPORTED, "no way to join ranks is called '%s': want auto, none, mpi or nccl", how);
    if (!(patience_s > 0))
        return cx_fail(err, CX_E_USAGE, "comm: want a patience above 0 s, got %g", patience_s);
    if (!chosen && (strcmp(how, "none") == 0 || ranks <= 1))
        return CX_OK;
    void *symbol;
    cx_comm_plugin_fn open = NULL;
    const cx_status s = cx_plugin_symbol("mpi", "cx_comm_plugin_open", &symbol, err);
    if (s != CX_OK)
        return cx_prefix(err, s, "%d ranks were started, but cannot be joined (run.comm=none trains without the others)", ranks);
    memcpy(&open, &symbol, sizeof open);
    TRY(open(patience_s, out, err));
    if ((*out)->ranks == ranks || ranks < 1)
        return CX_OK;
    const int seen = (*out)->ranks;
    cx_comm_close(*out, NULL);
    *out = NULL;
    return cx_fail(err, CX_E_UNSUPPORTED, "the launcher started %d ranks, but MPI sees %d: start them with the mpirun of the MPI that cxnet was built with, "
                   "or with srun --mpi=pmix", ranks, seen);
}

void cx_comm_close(cx_comm *c, const cx_error *why)
{
    if (c)
        c->close(c, why ? why->text : NULL);
}

/* ---- agreeing ---------------------------------------------------------------------------------------------------- */

cx_status cx_comm_any(cx_comm *c, bool *flag, cx_error *err)
{
    if (!c)
        return CX_OK;
    const unsigned char mine = *flag;
    unsigned char *all = cx_alloc((size_t)c->ranks, 1);
    if (!all)
        return cx_fail(err, CX_E_MEMORY, "comm: no memory for %d flags", c->ranks);
    const cx_status s = c->gather(c, &mine, all, 1, err);
    for (int r = 0; s == CX_OK && r < c->ranks; r++)
        *flag |= all[r] != 0;
    free(all);
    return s;
}

cx_status cx_comm_barrier(cx_comm *c, cx_error *err)
{
    bool none = false;
    return cx_comm_any(c, &none, err);
}

/* What a rank reports: the first line of its text that rank 0's does not have there. */
typedef struct { bool differs; char mine[160], first[160]; } difference;

static void show(char out[160], const char *line, int n)
{
    const int blanks = (int)strspn(line, " ");
    snprintf(out, 160, "%.*s", n - blanks, line + blanks);
}

static void find_difference(const char *mine, const char *first, difference *d)
{
    while (*mine || *first) {
        const int m = (int)strcspn(mine, "\n"), f = (int)strcspn(first, "\n");
        if (m != f || memcmp(mine, first, (size_t)m) != 0) {
            d->differs = true;
            show(d->mine, mine, m);
            show(d->first, first, f);
            return;
        }
        mine += m + (mine[m] == '\n');
        first += f + (first[f] == '\n');
    }
}

static cx_status compare(cx_comm *c, const char *what, const char *text, char *first, size_t bytes, difference *all, cx_error *err)
{
    difference mine = { 0 };
    TRY(c->broadcast(c, first, bytes, err));
    find_difference(text, first, &mine);
    TRY(c->gather(c, &mine, all, sizeof mine, err));
    for (int r = 1; r < c->ranks; r++)
        if (all[r].differs)
            return cx_fail(err, CX_E_CONFIG, "%s of rank %d: \"%.100s\", but of rank 0: \"%.100s\"; start all ranks with the same", what, r, all[r].mine,
                           all[r].first);
    return CX_OK;
}

cx_status cx_comm_same(cx_comm *c, const char *what, const char *text, cx_error *err)
{
    uint64_t bytes = strlen(text) + 1;
    if (!c)
        return CX_OK;
    TRY(c->broadcast(c, &bytes, sizeof bytes, err));
    char *first = cx_alloc((size_t)bytes, 1);
    difference *all = cx_alloc((size_t)c->ranks, sizeof *all);
    cx_status s = first && all ? CX_OK : cx_fail(err, CX_E_MEMORY, "comm: no memory to compare %s", what);
    if (s == CX_OK && c->rank == 0)
        memcpy(first, text, (size_t)bytes);
    if (s == CX_OK)
        s = compare(c, what, text, first, (size_t)bytes, all, err);
    free(first);
    free(all);
    return s;
}
