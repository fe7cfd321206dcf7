/* choose.c - pass 9: for each step the first implementation of the backend's list that accepts it, and the size of WORK.
 *
 * In: calls without data pointers. Out: steps[].impl, call.work_bytes, work_bytes. Forward and backward of a node are chosen each for itself: an entry
 * without the wanted direction is passed over, and a backward call is known by dy[0].s.c > 0. */
#include "plan.h"
#include "store.h"

static const cx_impl *first_that_accepts(cx_backend *b, cx_op_id op, const cx_call *c, bool backward)
{
    int n = 0;
    const cx_impl *list = b->impls(b, op, &n);
    for (int i = 0; i < n; i++)
        if ((backward ? list[i].bwd : list[i].fwd) && (!list[i].accepts || list[i].accepts(c)))
            return &list[i];
    return NULL;
}

cx_status cx_pass_choose(cx_plan *p, cx_error *err)
{
    for (int i = 0; i < p->n_steps; i++) {
        cx_step *st = &p->steps[i];
        if (st->kind == CX_STEP_ZERO)
            continue;
        bool backward = st->kind == CX_STEP_BACKWARD;
        st->impl = first_that_accepts(p->store->b, p->g->nodes[st->node].op, &st->call, backward);
        if (!st->impl)
            return cx_fail(err, CX_E_UNSUPPORTED, "plan: backend %s implements no %s of %s (node %s)", p->store->b->name, backward ? "backward" : "forward",
                           cx_op_of(p, st->node)->name, p->g->nodes[st->node].name);
        st->call.work_bytes = st->impl->workspace ? st->impl->workspace(&st->call, backward) : 0;
        if (st->call.work_bytes > p->work_bytes)
            p->work_bytes = st->call.work_bytes;
    }
    return CX_OK;
}
