/* isa.h - the instruction sets of this machine, and one implementation run with exactly the scratch that it asks for: shared by the tests of kernels. */
#ifndef CX_TESTS_CPU_ISA_H
#define CX_TESTS_CPU_ISA_H
#include "cxnet/graph.h"
#include "support.h"

static const char *const isas[] = { "avx512_bf16", "avx512", "avx2", "portable" };

/* Scratch as large as asked and not a byte more, full of NaN. */
static inline void with_work(cx_call *c, const cx_impl *impl, bool backward, cx_run_fn run)
{
    c->work_bytes = impl->workspace ? impl->workspace(c, backward) : 0;
    c->work = c->work_bytes ? cx_alloc_aligned(c->work_bytes, 1) : NULL;
    if (c->work)
        memset(c->work, 0xff, c->work_bytes);
    if (run(c) != CX_OK)
        fail_msg("%s failed", impl->name);
    free(c->work);
    c->work = NULL;
}

/* The implementations of an instruction set, opened for a number of threads; NULL when this machine does not have it. */
static inline cx_backend *open_isa(const char *isa, int threads)
{
    cx_backend *b = NULL;
    char *name = cx_sprintf("cpu:%s", isa);
    assert_cx_ok(cx_backend_open(name, threads, &b, err));
    free(name);
    if (strstr(b->description, isa))
        return b;
    cx_backend_close(b);
    return NULL;
}
#endif
