/* unfit.c - a plan that a device has no room for: what it wants, arena by arena, and the batch that would fit. Depends on plan.h, store.h. */
#include "cxnet/base.h"
#include "plan.h"
#include "store.h"

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Moments that training will ask for, or those that are there. */
static size_t opt_bytes(const cx_store *s, const cx_plan_opts *o)
{
    const size_t asked = o->param_grads ? (size_t)o->moments : 0, there = (size_t)(s->m != NULL) + (size_t)(s->v != NULL);
    return larger(asked, there) * (size_t)s->trainable * sizeof(float);
}

/* Bytes that such a plan wants beside PARAM and GRAD. ACT and WORK are also other plans', and do not shrink. */
static size_t wanted(const cx_store *s, const cx_plan_opts *o, const cx_plan_stats *t)
{
    return larger(t->act_bytes, s->act_bytes) + larger(t->work_bytes, s->work_bytes) + t->prepared_bytes + opt_bytes(s, o);
}

/* The largest batch that fits into `room` bytes, by a straight line between batch 1 and the one that did not: to plan others would ask libraries for each.
 * A fiftieth stays free: allocations are rounded up, and a stepper holds films too. 0: not even one film. */
static int fitting(cx_store *s, const cx_plan_opts *opts, const cx_plan_stats *full, size_t room)
{
    cx_plan_opts one = *opts;
    cx_plan_stats t;
    one.batch = 1;
    if (cx_plan_describe(s, &one, &t, NULL) != CX_OK)
        return 0;
    const double least = (double)wanted(s, opts, &t), most = (double)wanted(s, opts, full), free = (double)(room - room / 50);
    return free < least || most <= least ? 0 : 1 + (int)((free - least) * (opts->batch - 1) / (most - least));
}

cx_status cx_plan_unfit(const cx_plan *p, const cx_plan_opts *opts, cx_error *err)
{
    cx_store *s = p->store;
    const cx_plan_stats t = cx_plan_get_stats(p);
    const size_t room = s->b->free_bytes(s->b) + s->act_bytes + s->work_bytes + t.opt_bytes + (p->prepared ? t.prepared_bytes : 0);
    char text[6][16], answer[64] = "not even batch 1 would fit: take a smaller side";
    const int best = fitting(s, opts, &t, room), fits = best < opts->batch ? best : opts->batch - 1;
    const size_t bytes[6] = { t.param_bytes, t.grad_bytes, opt_bytes(s, opts), t.act_bytes + t.prepared_bytes, t.work_bytes, room };
    for (int i = 0; i < 6; i++)
        cx_format_bytes(bytes[i], text[i]);
    if (fits > 0)
        snprintf(answer, sizeof answer, "batch %d would fit", fits);
    return cx_fail(err, CX_E_MEMORY, "%s: no room for batch %d: PARAM %s, GRAD %s, OPT %s, ACT %s, WORK %s; %s are free for the last three: %s", s->b->name,
                   opts->batch, text[0], text[1], text[2], text[3], text[4], text[5], answer);
}
