/* place.c - pass 14: how long each buffer lives, and where in ACT it lies.
 *
 * In: operands of all steps, one combined schedule. Out: buffers[].start, end, offset; act_bytes. Inputs live from the start to the end, as the seed of the
 * backward pass does: they are written before the run and may serve another. Kept values (and their gradients) live to the end. Placement: largest first,
 * each into the smallest gap between the buffers that live at the same time, or above them. What is prepared lies one after the other in the plan's own
 * arena. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "plan.h"

enum { ALIGN = 64 };

static size_t size_of(const cx_buffer *b)
{
    return ((size_t)b->floats * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
}

static void live(cx_plan *p, int buffer, int step)
{
    if (buffer < 0)
        return;
    cx_buffer *b = &p->buffers[buffer];
    b->start = b->start < 0 || step < b->start ? step : b->start;
    b->end = step > b->end ? step : b->end;
}

static cx_status lifetimes(cx_plan *p, cx_error *err)
{
    for (int i = 0; i < p->n_steps; i++)
        for (int k = 0; k < p->steps[i].n_operands; k++)
            live(p, p->steps[i].operand[k].buffer, i);
    for (int v = 0; v < p->n_values; v++) {
        const cx_plan_value_info *x = &p->values[v];
        bool input = p->g->values[v].kind == CX_INPUT;
        if (!x->needed || (!input && !x->kept))
            continue;
        int buffer = cx_plan_buffer(p, v, false, false);
        int seed = p->opts.backward && x->grad && x->kept ? cx_plan_buffer(p, v, true, true) : -1;
        if (buffer < 0 || (seed < 0 && p->opts.backward && x->grad && x->kept))
            return cx_fail(err, CX_E_MEMORY, "plan: no memory for another buffer");
        live(p, buffer, p->n_steps);
        live(p, seed, p->n_steps);
        if (input)
            live(p, buffer, 0);
        if (v == p->output)
            live(p, seed, 0);
    }
    return CX_OK;
}

static int by_size(const void *a, const void *b)
{
    const cx_buffer *x = *(const cx_buffer *const *)a, *y = *(const cx_buffer *const *)b;
    if (x->floats != y->floats)
        return x->floats > y->floats ? -1 : 1;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x > y) - (x < y);
}

static bool overlap(const cx_plan *p, const cx_buffer *a, const cx_buffer *b)
{
    return (p->opts.skip & CX_PASS_LIVENESS) || (a->start <= b->end && b->start <= a->end);
}

/* placed[0..n) is ordered by offset. The start of the smallest gap that holds b. */
static size_t best_gap(const cx_plan *p, cx_buffer *const *placed, int n, const cx_buffer *b)
{
    size_t top = 0, best = 0, best_gap = SIZE_MAX, want = size_of(b);
    for (int i = 0; i < n; i++) {
        if (!overlap(p, placed[i], b))
            continue;
        size_t gap = placed[i]->offset > top ? placed[i]->offset - top : 0;
        if (gap >= want && gap < best_gap) {
            best_gap = gap;
            best = top;
        }
        size_t over = placed[i]->offset + size_of(placed[i]);
        top = over > top ? over : top;
    }
    return best_gap == SIZE_MAX ? top : best;
}

static void place_prepared(cx_plan *p, cx_buffer *b)
{
    b->offset = p->prepared_bytes;
    p->prepared_bytes += size_of(b);
}

cx_status cx_pass_place(cx_plan *p, cx_error *err)
{
    TRY(lifetimes(p, err));
    cx_buffer **order = cx_alloc((size_t)p->n_buffers, sizeof *order), **placed = cx_alloc((size_t)p->n_buffers, sizeof *placed);
    if (!order || !placed) {
        free(order);
        free(placed);
        return cx_fail(err, CX_E_MEMORY, "plan: no memory to place %d buffers", p->n_buffers);
    }
    int count = 0;
    for (int i = 0; i < p->n_buffers; i++)
        if (!p->buffers[i].prepared)
            order[count++] = &p->buffers[i];
        else
            place_prepared(p, &p->buffers[i]);
    qsort(order, (size_t)count, sizeof *order, by_size);
    p->act_bytes = ALIGN;
    for (int n = 0; n < count; n++) {
        cx_buffer *b = order[n];
        b->offset = best_gap(p, placed, n, b);
        int at = n;
        for (; at > 0 && placed[at - 1]->offset > b->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = b;
        if (b->offset + size_of(b) > p->act_bytes)
            p->act_bytes = b->offset + size_of(b);
    }
    free(order);
    free(placed);
    return CX_OK;
}
