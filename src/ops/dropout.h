/* dropout.h - which elements dropout keeps: one definition for the reference and for every CPU kernel. Depends on base.h. */
#ifndef CX_OPS_DROPOUT_H
#define CX_OPS_DROPOUT_H
#include "cxnet/base.h"
#include "cxnet/op.h"

/* The four uniforms in [0,1) of elements 4*quad .. 4*quad+3 of a call, counted in dense (n,y,x,c) order whatever ld is. Kept when >= rate. Where the call's
 * first element is no multiple of 4, they are of two draws. */
static inline void dropout_draw(const cx_call *c, int64_t quad, float uniform[4])
{
    uint32_t word[8];
    const int skip = (int)(c->first % 4);
    const uint64_t counter = (c->step << 32) + (uint64_t)(c->first / 4 + quad);
    cx_philox(c->seed, c->stream, counter, word);
    if (skip)
        cx_philox(c->seed, c->stream, counter + 1, word + 4);
    for (int j = 0; j < 4; j++)
        uniform[j] = (float)(word[j + skip] >> 8) * 0x1p-24f;
}
#endif
