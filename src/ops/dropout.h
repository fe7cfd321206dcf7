/* dropout.h - which elements dropout keeps: one definition for the reference and for every CPU kernel. Depends on base.h. */
#ifndef CX_OPS_DROPOUT_H
#define CX_OPS_DROPOUT_H
#include "cxnet/base.h"
#include "cxnet/op.h"

/* The four uniforms in [0,1) of elements 4*quad .. 4*quad+3, counted in dense (n,y,x,c) order whatever ld is. Kept when >= rate. */
static inline void dropout_draw(const cx_call *c, int64_t quad, float uniform[4])
{
    uint32_t word[4];
    cx_philox(c->seed, c->stream, (c->step << 32) + (uint64_t)quad, word);
    for (int j = 0; j < 4; j++)
        uniform[j] = (float)(word[j] >> 8) * 0x1p-24f;
}
#endif
