/* convert.c - reference of the step between two types of numbers. */
#include "ref.h"

cx_status cx_ref_fwd_convert(const cx_call *c)
{
    const cx_tensor *x = &c->x[0], *y = &c->y[0];
    for (int64_t i = 0; i < cx_pixels(x->s); i++)
        for (int64_t k = 0; k < x->s.c; k++) {
            const float v = x->type == CX_BF16 ? cx_from_bf16(cx_half(x)[i * x->ld + k]) : row_at(x, i)[k];
            if (y->type == CX_BF16)
                cx_half(y)[i * y->ld + k] = cx_to_bf16(v);
            else
                row_at(y, i)[k] = v;
        }
    return CX_OK;
}
