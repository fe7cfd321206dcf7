/* print.c - what a plan says about itself: totals, one row a step, and the table that `cxnet plan` shows. */
#include <stdlib.h>
#include <string.h>
#include "cxnet/base.h"
#include "plan.h"
#include "store.h"

cx_plan_stats cx_plan_get_stats(const cx_plan *p)
{
    const cx_store *s = p->store;
    cx_plan_stats t = { .n_steps = p->n_steps, .act_bytes = p->act_bytes, .work_bytes = p->work_bytes, .prepared_bytes = p->prepared_bytes };
    t.param_bytes = (size_t)s->total * sizeof(float);
    t.grad_bytes = (size_t)s->trainable * sizeof(float);
    t.opt_bytes = ((s->m != NULL) + (s->v != NULL)) * (size_t)s->trainable * sizeof(float);
    for (int i = 0; i < p->n_steps; i++) {
        *(i < p->n_forward ? &t.flops_forward : &t.flops_backward) += p->steps[i].flops;
        t.moved_bytes += p->steps[i].bytes_read + p->steps[i].bytes_written;
    }
    return t;
}

/* The words of op.h (cx_fold), in its order. */
static void name_folds(const cx_plan *p, const cx_step *st, char *to, size_t size)
{
    const cx_fold *f = &st->call.fold;
    if (cx_in_vectors(p, st->node)) {
        snprintf(to, size, "vectors");
        return;
    }
    const struct { bool here; const char *name; } part[] = {
        { f->pre.s.c > 0, f->pre_relu ? "pre+relu" : "pre" }, { f->post.s.c > 0, "post" }, { f->pool.kernel > 0, "pool" }, { f->stats.s.c > 0, "stats" },
        { f->carry.s.c > 0, "carry" }, { f->sums.s.c > 0, "sums" }, { st->n_widened > 0, "widened" },
    };
    size_t at = 0;
    for (int i = 0; i < CX_COUNT(part); i++)
        if (part[i].here && at < size)
            at += (size_t)snprintf(to + at, size - at, "%s%s", at > 0 ? " " : "", part[i].name);
}

cx_step_info cx_plan_step(const cx_plan *p, int i)
{
    static const char *const phase[] = { "forward", "redo", "stats", "zero", "carry", "backward" };
    const cx_step *st = &p->steps[i];
    cx_step_info info = { .phase = phase[st->kind], .bytes_read = st->bytes_read, .bytes_written = st->bytes_written,
                          .flops = st->flops, .seconds = st->seconds };
    if (st->kind == CX_STEP_ZERO) {
        info.node = p->g->values[st->value].name;
        info.op = info.impl = "zero";
        info.out = st->call.dx[0].s;
        return info;
    }
    bool own = st->kind == CX_STEP_STATS || st->kind == CX_STEP_CARRY;
    info.node = p->node[st->node].name;
    info.op = own ? "statistics" : cx_op_of(p, st->node)->name;
    info.impl = st->impl->name;
    info.dot = st->impl->dot;
    info.out = own ? st->call.x[0].s : st->call.y[0].s;
    if (!own)
        name_folds(p, st, info.folds, sizeof info.folds);
    info.folded_relu = st->call.relu;
    return info;
}

static int longer(int width, const char *s)
{
    int n = (int)strlen(s);
    return n > width ? n : width;
}

void cx_plan_print(const cx_plan *p, FILE *f)
{
    int node = 4, op = 2, impl = 14, folds = 5;
    for (int i = 0; i < p->n_steps; i++) {
        cx_step_info s = cx_plan_step(p, i);
        node = longer(node, s.node);
        op = longer(op, s.op);
        impl = longer(impl, s.impl);
        folds = longer(folds, s.folds);
    }
    op += 5;                                            /* "+relu" */
    fprintf(f, "%-8s  %-*s  %-*s  %-*s  %-*s  %-18s %12s %12s %10s%s\n", "phase", node, "node", op, "op", folds, "folds", impl, "implementation", "output",
            "KiB read", "KiB written", "MFLOP",
            p->profile ? "         ms" : "");
    for (int i = 0; i < p->n_steps; i++) {
        cx_step_info s = cx_plan_step(p, i);
        char shape[96], name[64];
        snprintf(shape, sizeof shape, "%lld,%lld,%lld,%lld", (long long)s.out.n, (long long)s.out.h, (long long)s.out.w, (long long)s.out.c);
        snprintf(name, sizeof name, "%s%s", s.op, s.folded_relu ? "+relu" : "");
        fprintf(f, "%-8s  %-*s  %-*s  %-*s  %-*s  %-18s %12.1f %12.1f %10.2f", s.phase, node, s.node, op, name, folds, s.folds, impl, s.impl, shape,
                (double)s.bytes_read / 1024,
                (double)s.bytes_written / 1024, (double)s.flops / 1e6);
        if (p->profile)
            fprintf(f, " %10.3f", s.seconds * 1e3);
        fputc('\n', f);
    }
    cx_plan_stats t = cx_plan_get_stats(p);
    const struct { const char *name; size_t bytes; } arena[] = {
        { "PARAM", t.param_bytes }, { "GRAD", t.grad_bytes }, { "OPT", t.opt_bytes }, { "ACT", t.act_bytes }, { "WORK", t.work_bytes },
    };
    fprintf(f, "%d steps, %.3f GFLOP forward, %.3f backward;", t.n_steps, (double)t.flops_forward / 1e9, (double)t.flops_backward / 1e9);
    for (int i = 0; i < CX_COUNT(arena); i++) {
        char text[16];
        cx_format_bytes(arena[i].bytes, text);
        fprintf(f, " %s %s%s", arena[i].name, text, i + 1 < CX_COUNT(arena) ? "," : "\n");
    }
}
