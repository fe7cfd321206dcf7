/* isa.h - the instruction sets of this machine, the emulated GPU and a real one, and one implementation run with exactly the scratch that it asks for: shared
 * by the tests of kernels. CX_TEST_OPS=conv2d,relu in the environment holds them to some operators, CX_TEST_ISA=emu to one instruction set. */
#ifndef CX_TESTS_CPU_ISA_H
#define CX_TESTS_CPU_ISA_H
#include "backend.h"
#include "mirror.h"
#include "support.h"

static const char *const isas[] = { "avx512_bf16", "avx512", "avx2", "portable", "emu", "cuda" };
enum { CPU_ISAS = CX_COUNT(isas) - 2 };      /* without the GPUs */
/* For tests with many folds: under the sanitizers the emulated GPU would take minutes; plain kernels and whole plans run on it there all the same. */
#ifdef CX_SANITIZED
enum { FOLDED_ISAS = CPU_ISAS };
#else
enum { FOLDED_ISAS = CX_COUNT(isas) };
#endif

/* Scratch as large as asked and not a byte more, full of NaN. A GPU works on copies; b NULL: on the host, as all references do. */
static inline void with_work(cx_backend *b, cx_call *c, const cx_impl *impl, bool backward, cx_run_fn run)
{
    c->self = b ? b->self : NULL;
    c->work_bytes = impl->workspace ? impl->workspace(c, backward) : 0;
    c->work = c->work_bytes ? cx_alloc_aligned(c->work_bytes, 1) : NULL;
    if (c->work)
        memset(c->work, 0xff, c->work_bytes);
    if ((is_host(b) ? run(c) : mirror_run(b, c, c->packed ? impl->packed(c) : 0, run)) != CX_OK)
        fail_msg("%s failed", impl->name);
    if (b && b->finish)
        assert_cx_ok(b->finish(b, err));
    free(c->work);
    c->work = NULL;
}

static inline bool is_emulated(const char *isa) { return strcmp(isa, "emu") == 0; }
static inline bool is_gpu(const char *isa) { return is_emulated(isa) || strcmp(isa, "cuda") == 0; }

/* The implementations of an instruction set, opened for a number of threads; NULL when it is not wanted, or this machine, or (emu) this build, does not have
 * it. On the emulated GPU the number chooses among its three schedules. */
static inline cx_backend *open_isa(const char *isa, int threads)
{
    const char *only = getenv("CX_TEST_ISA");
    if (only && strcmp(only, isa) != 0)
        return NULL;
    if (is_gpu(isa))
        return open_named(isa, threads);
    char *name = cx_sprintf("cpu:%s", isa);
    cx_backend *b = open_named(name, threads);
    free(name);
    if (b && strstr(b->description, isa))
        return b;
    cx_backend_close(b);
    return NULL;
}

/* The emulated GPU does some 1e7 FLOPs a second: of each kind of case it gets the smaller ones. */
static inline bool is_slow(const char *isa, cx_op_id op, const cx_call *c, int64_t most)
{
    return is_emulated(isa) && cx_ops[op].flops && cx_ops[op].flops(c) > most;
}

static inline bool is_reference(const cx_impl *impl) { return strcmp(impl->name, "reference") == 0; }

static inline bool wanted(cx_op_id op)
{
    const char *list = getenv("CX_TEST_OPS"), *name = cx_ops[op].name, *at = list ? strstr(list, name) : NULL;
    const size_t n = strlen(name);
    while (at && ((at > list && at[-1] != ',') || (at[n] != ',' && at[n] != '\0')))
        at = strstr(at + 1, name);
    return !list || at;
}
#endif
