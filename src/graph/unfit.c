/* unfit.c - a plan that a device has no room for: what it wants, arena by arena, and the batch that would fit. Depends on plan.h, store.h. */
#include "cxnet/base.h"
#include "plan.h"
#include "store.h"

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Moments that training will ask for, and those that are there. */
static size_t opt_bytes(const cx_store *s, const cx_plan_opts *o)
{
    return (o->param_grads ? 2 : (s->m != NULL) + (s->v != NULL)) * (size_t)s->trainable * sizeof(float);
}

/* Whether a plan of this batch fits into `room` bytes beside PARAM and GRAD. ACT and WORK are also other plans', and do not shrink. A fiftieth stays free:
 * allocations are rounded up, and a stepper holds films too. */
static bool fits(cx_store *s, cx_plan_opts o, int batch, size_t room)
{
    cx_plan_stats t;
    o.batch = batch;
    return cx_plan_describe(s, &o, &t, NULL) == CX_OK &&
           larger(t.act_bytes, s->act_bytes) + larger(t.work_bytes, s->work_bytes) + t.prepared_bytes + opt_bytes(s, &o) <= room - room / 50;
}

cx_status cx_plan_unfit(const cx_plan *p, const cx_plan_opts *opts, cx_error *err)
{
    cx_store *s = p->store;
    const cx_plan_stats t = cx_plan_get_stats(p);
    const size_t room = s->b->free_bytes(s->b) + s->act_bytes + s->work_bytes + t.opt_bytes + (p->prepared ? t.prepared_bytes : 0);
    char text[6][16], answer[64] = "not even batch 1 would fit: take a smaller side";
    int low = 0, high = opts->batch;                            /* fits; does not */
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        *(fits(s, *opts, middle, room) ? &low : &high) = middle;
    }
    const size_t bytes[6] = { t.param_bytes, t.grad_bytes, opt_bytes(s, opts), t.act_bytes + t.prepared_bytes, t.work_bytes, room };
    for (int i = 0; i < 6; i++)
        cx_format_bytes(bytes[i], text[i]);
    if (low > 0)
        snprintf(answer, sizeof answer, "batch %d would fit", low);
    return cx_fail(err, CX_E_MEMORY, "%s: no room for batch %d: PARAM %s, GRAD %s, OPT %s, ACT %s, WORK %s; %s are free for the last three: %s", s->b->name,
                   opts->batch, text[0], text[1], text[2], text[3], text[4], text[5], answer);
}
