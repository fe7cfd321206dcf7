/* choose.c - pass 13: for each step the first implementation of the backend's list that accepts it, room for its packed weights, and the size of WORK.
 *
 * In: calls without data pointers. Out: steps[].impl, call.self, call.work_bytes, work_bytes. Forward and backward of a node are chosen each for itself: an
 * entry without the wanted direction is passed over, and a backward call is known by dy[0].s.c > 0. One that does not take bf16 sees the call as it will be
 * given, with float32 copies (widen.c). Weights are kept packed in plans without a backward pass only: in the others they change with every step, and each
 * direction packs its own. */
#include "plan.h"
#include "store.h"

static const cx_impl *first_that_takes(cx_backend *b, cx_op_id op, const cx_step *st, bool backward)
{
    int n = 0;
    const cx_impl *list = b->impls(b, op, &n);
    for (int i = 0; i < n; i++)
        if (cx_takes_step(&list[i], st, backward))
            return &list[i];
    return NULL;
}

cx_status cx_pass_choose(cx_plan *p, cx_error *err)
{
    for (int i = 0; i < p->n_steps; i++) {
        cx_step *st = &p->steps[i];
        if (st->kind == CX_STEP_ZERO)
            continue;
        st->call.self = p->store->b->self;
        bool own = st->kind == CX_STEP_STATS || st->kind == CX_STEP_CARRY, backward = st->kind == CX_STEP_BACKWARD || st->kind == CX_STEP_CARRY;
        st->impl = own ? &p->store->b->statistics : first_that_takes(p->store->b, p->node[st->node].op, st, backward);
        if (!st->impl || !(backward ? st->impl->bwd : st->impl->fwd))
            return cx_fail(err, CX_E_UNSUPPORTED, "plan: backend %s implements no %s of %s (node %s)", p->store->b->name, backward ? "backward" : "forward",
                           own ? "statistics" : cx_op_of(p, st->node)->name, p->node[st->node].name);
        const cx_call wide = cx_widen_call(st);
        st->call.work_bytes = st->impl->workspace ? st->impl->workspace(st->impl->bf16 ? &st->call : &wide, backward) : 0;
        const size_t work = st->impl->bf16 ? st->call.work_bytes : cx_widen(st, st->call.work_bytes);
        if (work > p->work_bytes)
            p->work_bytes = work;
        size_t packed = st->impl->packed && !p->opts.backward ? st->impl->packed(&st->call) : 0;
        if (packed > 0 && (st->packed_buffer = cx_plan_new_buffer(p, (int64_t)(packed / sizeof(float) + 1), true)) < 0)
            return cx_fail(err, CX_E_MEMORY, "plan: no memory for another buffer");
    }
    return CX_OK;
}
