/* parts.h - what convolutions by a library have in common, whichever it is: which gradients a call wants, c->work cut into parts, and operands that are read
 * where they lie or gathered there. Depends on around.h. */
#ifndef CX_CUDA_PARTS_H
#define CX_CUDA_PARTS_H
#include "around.h"

/* Plans ask before addresses are known, so that shapes say what there is. */
static inline bool cx_wants_dx(const cx_call *c) { return c->dx[0].s.c || c->fold.sums.s.c; }
static inline bool cx_wants_dw(const cx_call *c) { return c->dx[1].s.c != 0; }

static inline size_t cx_dense_bytes(cx_shape s, cx_dtype type) { return (size_t)cx_elems(s) * cx_dtype_bytes(type); }

/* Where the next part of c->work begins, a multiple of CX_PART bytes; *at moves behind it. One that is not wanted takes no room. */
enum { CX_PART = 256 };
static inline size_t cx_part_add(size_t *at, bool wanted, size_t bytes)
{
    const size_t here = *at;
    *at += wanted ? (bytes + CX_PART - 1) / CX_PART * CX_PART : 0;
    return here;
}

/* The part at `at` as a dense tensor. */
static inline cx_tensor cx_part_of(const cx_call *c, size_t at, cx_shape s, cx_dtype type)
{
    return (cx_tensor){ .s = s, .ld = s.c, .p = (float *)(void *)((char *)c->work + at), .type = type };
}

/* *x <- x[0] as it lies, or `to` with x[0] behind its prologue in it. */
static inline cx_status cx_read_x(const cx_call *c, bool in_place, cx_tensor to, cx_tensor *x)
{
    *x = in_place ? c->x[0] : to;
    return in_place ? CX_OK : cx_cuda_gather_u(c, to);
}

#endif
