/* convert.c - a tensor copied from one type of numbers to another. Depends on kernels.h, lanes.h. */
#include "cpu/kernels.h"
#include "lanes.h"

enum { SHARE = 1 << 12 };         /* numbers below which a second thread is not woken */

INLINE void part(int V, int lanes, cx_dtype from, const void *x, int64_t i, cx_dtype to, void *y, int64_t j)
{
    for (int v = 0; v < V; v++)
        vt_store(to, y, j + v * VL, vt_load(from, x, i + v * VL, lanes), lanes);
}

INLINE void rows(const cx_tensor *x, const cx_tensor *y, cx_dtype from, cx_dtype to)
{
    const int64_t px = cx_pixels(x->s);
#pragma omp parallel for schedule(static) if (cx_elems(x->s) > SHARE)
    for (int64_t p = 0; p < px; p++) {
#define CALL(V, lanes) part(V, lanes, from, x->p, p * x->ld + k, to, y->p, p * y->ld + k)
        OVER_CHANNELS(x->s.c, CALL);
#undef CALL
    }
}

static cx_status forward(const cx_call *c)
{
    const cx_tensor *x = &c->x[0], *y = &c->y[0];
    if (x->type == CX_BF16)
        y->type == CX_BF16 ? rows(x, y, CX_BF16, CX_BF16) : rows(x, y, CX_BF16, CX_F32);
    else
        y->type == CX_BF16 ? rows(x, y, CX_F32, CX_BF16) : rows(x, y, CX_F32, CX_F32);
    return CX_OK;
}

const cx_impl CX_FN(convert_impl) = { .name = "convert " CX_ISA_NAME, .fwd = forward, .bf16 = true };
