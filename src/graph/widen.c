/* widen.c - float32 copies around a step whose implementation does not take bf16 (cx_impl.bf16).
 *
 * The call is given dense copies in WORK, behind what the implementation itself asked for: filled before the step, rounded back behind it; the step counts
 * their bytes. Right for any implementation, and slower: it is how a backend's kernels may learn bf16 one by one, and the rare ones never. */
#include "plan.h"
#include "store.h"

enum { ALIGN = 64 };

static void widen(cx_tensor *t)
{
    *t = (cx_tensor){ .s = t->s, .ld = t->type == CX_BF16 ? t->s.c : t->ld, .p = t->p };
}

cx_call cx_widen_call(const cx_step *st)
{
    cx_call c = st->call;
    for (int i = 0; i < CX_MAX_IN; i++)
        widen(&c.x[i]);
    widen(&c.y[0]);
    return c;
}

size_t cx_widen(cx_step *st, size_t at)
{
    const cx_call narrow = st->call;
    st->call = cx_widen_call(st);
    for (int k = 0; k < st->n_operands; k++) {
        if (st->operand[k].type != CX_BF16)
            continue;
        cx_widened *w = &st->widened[st->n_widened++];
        *w = (cx_widened){ .operand = k, .narrow = *(const cx_tensor *)(const void *)((const char *)&narrow + st->operand[k].at) };
        w->at = (at + ALIGN - 1) / ALIGN * ALIGN;
        at = w->at + (size_t)cx_elems(w->narrow.s) * sizeof(float);
        st->bytes_read += (size_t)cx_elems(w->narrow.s) * sizeof(float);
        st->bytes_written += (size_t)cx_elems(w->narrow.s) * sizeof(float);
    }
    return at;
}

void cx_widen_bind(cx_step *st, void *work)
{
    for (int i = 0; i < st->n_widened; i++) {
        cx_widened *w = &st->widened[i];
        cx_tensor *wide = cx_operand_tensor(&st->call, &st->operand[w->operand]);
        w->narrow.p = wide->p;
        wide->p = (float *)(void *)((char *)work + w->at);
    }
}

static cx_status convert(const cx_plan *p, cx_tensor from, cx_tensor to)
{
    cx_call c = { .n_in = 1, .n_out = 1, .x = { from }, .y = { to }, .self = p->store->b->self };
    return p->store->b->convert.fwd(&c);
}

cx_status cx_widen_before(const cx_plan *p, const cx_step *st)
{
    cx_call c = st->call;
    for (int i = 0; i < st->n_widened; i++)
        if (!st->operand[st->widened[i].operand].write)
            TRY(convert(p, st->widened[i].narrow, *cx_operand_tensor(&c, &st->operand[st->widened[i].operand])));
    return CX_OK;
}

cx_status cx_widen_after(const cx_plan *p, const cx_step *st)
{
    cx_call c = st->call;
    for (int i = 0; i < st->n_widened; i++)
        if (st->operand[st->widened[i].operand].write)
            TRY(convert(p, *cx_operand_tensor(&c, &st->operand[st->widened[i].operand]), st->widened[i].narrow));
    return CX_OK;
}
