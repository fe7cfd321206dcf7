/* update.c - the scalars of an optimiser step and what it asks for, the same for all backends. Depends on update.h. */
#include <math.h>
#include "update.h"

cx_scalars cx_update_prepare(const cx_update *u)
{
    cx_scalars s = { .scale = (float)u->grad_scale, .decay = (float)u->weight_decay, .keep = 1, .lr = (float)u->lr, .momentum = (float)u->momentum };
    if (u->kind == CX_SGD)
        return s;
    if (u->kind == CX_ADAMW) {
        s.decay = 0;
        s.keep = (float)(1 - u->lr * u->weight_decay);
    }
    s.beta1_rest = (float)(1 - u->beta1);
    s.beta2 = (float)u->beta2;
    s.beta2_rest = (float)(1 - u->beta2);
    s.step = (float)(u->lr / (1 - pow(u->beta1, (double)u->t)));
    s.root = (float)sqrt(1 - pow(u->beta2, (double)u->t));
    s.eps = (float)u->eps;
    return s;
}

cx_status cx_update_check(const char *backend, const cx_update *u, const float *m, const float *v, cx_error *err)
{
    const bool adam = u->kind != CX_SGD;
    if ((adam && (!m || !v || u->t < 1)) || (!adam && u->momentum != 0 && !m))
        return cx_fail(err, CX_E_INTERNAL, "%s: an update of kind %d at t = %lld needs its moments and t >= 1", backend, (int)u->kind, (long long)u->t);
    return CX_OK;
}
