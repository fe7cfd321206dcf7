/* sync.c - batch norms over the films of all ranks (cx_plan_opts.sync_norm): statistics are merged behind the step that took them, the sums of a norm's
 * backward pass before the step that reads them. Every rank has equally many films, so counts cancel. Depends on plan.h, comm.h. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "cxnet/comm.h"
#include "plan.h"
#include "store.h"

/* A step that takes the statistics of what it writes; the norms in vectors that use them come later. */
static bool takes(const cx_plan *p, const cx_step *st)
{
    return (st->kind == CX_STEP_FORWARD || st->kind == CX_STEP_STATS) && st->call.fold.stats.s.c > 0 && !cx_in_vectors(p, st->node);
}

/* A norm whose carry wants the sums over all films. */
static bool carries(const cx_plan *p, const cx_step *st)
{
    return st->kind == CX_STEP_BACKWARD && cx_in_vectors(p, st->node) && cx_batch_statistics(p, st->node) && st->call.fold.sums.s.c > 0;
}

cx_status cx_sync_open(cx_plan *p, cx_error *err)
{
    int64_t widest = 1;
    for (int k = 0; k < p->n_nodes; k++)
        if (p->nodes[k].needed && p->node[k].op == CX_OP_BATCH_NORM && cx_batch_statistics(p, k) && !cx_in_vectors(p, k))
            return cx_fail(err, CX_E_UNSUPPORTED, "%s: sync_norm reaches only norms that another step carries out: leave neither prologue nor "
                           "statistics out of plan.fuse, freeze this norm, or do without sync_norm", p->node[k].name);
    for (int i = 0; i < p->n_steps; i++) {
        const cx_fold *f = &p->steps[i].call.fold;
        widest = f->stats.s.c > widest ? f->stats.s.c : widest;
        widest = f->sums.s.c > widest ? f->sums.s.c : widest;
    }
    p->sync = cx_alloc((size_t)((1 + p->opts.comm->ranks) * 2 * widest), sizeof *p->sync);
    return p->sync ? CX_OK : cx_fail(err, CX_E_MEMORY, "plan: no memory for the statistics of other ranks");
}

/* all [ranks, 2, channels] <- both rows of t on every rank. */
static cx_status fetch(cx_plan *p, const cx_tensor *t, float *own, float *all, cx_error *err)
{
    cx_backend *b = p->store->b;
    cx_comm *c = p->opts.comm;
    const size_t bytes = (size_t)t->s.c * sizeof *own;
    for (int row = 0; row < 2; row++)
        TRY(b->download(b, own + row * t->s.c, cx_row(t, row), bytes, err));
    return c->gather(c, own, all, 2 * bytes, err);
}

/* rows: Chan et al. 1983 for parts of equal size (mean and variance), or the mean of the sums: each rank then adds its part of the parameters' gradients to
 * that of the others. */
static void merge(const float *all, int ranks, int64_t n, bool statistics, float *rows)
{
    for (int64_t k = 0; k < n; k++) {
        double first = 0, second = 0;
        for (int r = 0; r < ranks; r++)
            first += (double)all[r * 2 * n + k];
        first /= ranks;
        for (int r = 0; r < ranks; r++) {
            const double d = statistics ? (double)all[r * 2 * n + k] - first : 0;
            second += (double)all[(r * 2 + 1) * n + k] + d * d;
        }
        rows[k] = (float)first;
        rows[n + k] = (float)(second / ranks);
    }
}

static cx_status over_ranks(cx_plan *p, const cx_tensor *t, bool statistics, cx_error *err)
{
    cx_backend *b = p->store->b;
    float *own = p->sync, *all = own + 2 * t->s.c;
    TRY(fetch(p, t, own, all, err));
    merge(all, p->opts.comm->ranks, t->s.c, statistics, own);
    for (int row = 0; row < 2; row++)
        TRY(b->upload(b, cx_row(t, row), own + row * t->s.c, (size_t)t->s.c * sizeof *own, err));
    return CX_OK;
}

cx_status cx_sync_before(cx_plan *p, const cx_step *st, cx_error *err) { return carries(p, st) ? over_ranks(p, &st->call.fold.sums, false, err) : CX_OK; }
cx_status cx_sync_after(cx_plan *p, const cx_step *st, cx_error *err) { return takes(p, st) ? over_ranks(p, &st->call.fold.stats, true, err) : CX_OK; }
