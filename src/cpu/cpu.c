/* cpu.c - the CPU backend: picks an instruction set at run time and lists, per operator, its kernels with the reference last. Depends on roof.h, op.h. */
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include "cxnet/base.h"
#include "graph/backends.h"
#include "graph/update.h"
#include "roof.h"

enum { MAX_IMPLS = 12 };
static const size_t HUGE_PAGE = (size_t)2 << 20;

typedef struct {
    cx_backend base;
    const char *isa;
    const cx_cpu_kernels *kernels;
    cx_impl impls[CX_OP_COUNT][MAX_IMPLS];
    int n_impls[CX_OP_COUNT];
} cpu;

/* ---- the instruction sets, best first --------------------------------------------------------------------------- */

/* __builtin_cpu_supports also asks the operating system (XGETBV) whether it saves the wide registers. */
static bool has_avx512(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

static bool has_avx512_bf16(void)
{
#if defined(__x86_64__)
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static bool has_avx2(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

static bool has_portable(void)
{
    return true;
}

static const struct { const char *name; bool (*here)(void); const cx_cpu_kernels *kernels; } sets[] = {
    { "avx512_bf16", has_avx512_bf16, &cx_cpu_kernels_avx512_bf16 },
    { "avx512", has_avx512, &cx_cpu_kernels_avx512 },
    { "avx2", has_avx2, &cx_cpu_kernels_avx2 },
    { "portable", has_portable, &cx_cpu_kernels_portable },
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Large arenas lie on huge pages where the system has them: a step walks hundreds of megabytes, and 4 KiB pages cost TLB misses. */
static cx_status mem_alloc(cx_backend *b, size_t bytes, void **p, cx_error *err)
{
    (void)b;
    const size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
    char text[16];
    *p = NULL;
    if (bytes <= SIZE_MAX - align)
        *p = aligned_alloc(align, (bytes + align) / align * align);
    if (!*p) {
        cx_format_bytes(bytes, text);
        return cx_fail(err, CX_E_MEMORY, "cpu: cannot allocate %s; take a smaller batch or side", text);
    }
    if (align == HUGE_PAGE)
        madvise(*p, bytes / align * align, MADV_HUGEPAGE);   /* a hint: its refusal costs only speed */
    char *at = *p;
#pragma omp parallel for schedule(static) if (bytes > HUGE_PAGE)
    for (size_t k = 0; k < bytes; k += HUGE_PAGE)
        memset(at + k, 0, bytes - k < HUGE_PAGE ? bytes - k : HUGE_PAGE);
    return CX_OK;
}

/* ---- operators and optimisers ------------------------------------------------------------------------------------- */

static const cx_impl *list_impls(cx_backend *b, cx_op_id op, int *n)
{
    cpu *c = b->self;
    *n = c->n_impls[op];
    return c->impls[op];
}

static cx_status run_update(cx_backend *b, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v, cx_error *err)
{
    TRY(cx_update_check(b->name, u, m, v, err));
    ((cpu *)b->self)->kernels->update(u, n, param, grad, m, v);
    return CX_OK;
}

static cx_status run_sum_squares(cx_backend *b, int64_t n, const float *x, double *out, cx_error *err)
{
    (void)err;
    *out = ((cpu *)b->self)->kernels->sum_squares(n, x);
    return CX_OK;
}

static cx_status measure_roof(cx_backend *b, cx_roof *out, cx_error *err)
{
    return cx_cpu_roof(b, ((cpu *)b->self)->kernels->limits, out, err);
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static int cores_allowed(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}

/* The processor's own name, without the blanks it is padded with. */
static void cpu_name(char out[64])
{
    snprintf(out, 16, "CPU");
#if defined(__x86_64__)
    unsigned r[12] = { 0 };
    char raw[49] = { 0 };
    if ((unsigned)__get_cpuid_max(0x80000000, NULL) < 0x80000004)
        return;
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    memcpy(raw, r, 48);
    int n = 0;
    for (const char *s = raw; *s; s++)
        if (*s != ' ' || (n > 0 && out[n - 1] != ' '))
            out[n++] = *s;
    while (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    if (n == 0)
        snprintf(out, 16, "CPU");
#endif
}

static void cpu_close(cx_backend *b)
{
    free(b->self);
}

/* Whether AVX512_BF16 is worth taking unasked. Its dot product runs at the rate of an FMA on AMD's processors, all of which came with it since Zen 4; on an
 * Intel Xeon without AMX at half of it (HACKING.md), where nothing is left of its advantage: there it must be named. */
static bool is_dot_fast(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_is("amd");
#else
    return false;
#endif
}

/* Index into sets[] of the best set that is here and at most as good as `isa`; -1 when nothing has that name. */
static int choose_set(const char *isa)
{
    const bool named = isa && *isa;
    int at = named || is_dot_fast() ? 0 : 1;
    if (named)
        while (at < CX_COUNT(sets) && strcmp(sets[at].name, isa) != 0)
            at++;
    if (at == CX_COUNT(sets))
        return -1;
    while (!sets[at].here())
        at++;
    return at;
}

static bool fill_impls(cpu *c)
{
    for (int op = 0; op < CX_OP_COUNT; op++) {
        const int n = c->kernels->ops[op].n ? *c->kernels->ops[op].n : 0;
        if (n >= MAX_IMPLS)
            return false;
        for (int i = 0; i < n; i++)
            c->impls[op][c->n_impls[op]++] = c->kernels->ops[op].impl[i];
        c->impls[op][c->n_impls[op]++] = (cx_impl){ .name = "reference", .fwd = cx_ops[op].ref_fwd, .bwd = cx_ops[op].ref_bwd, .pool = true };
    }
    return true;
}

cx_status cx_cpu_open(const char *isa, int threads, cx_backend **out, cx_error *err)
{
    *out = NULL;
    const int at = choose_set(isa);
    if (at < 0)
        return cx_fail(err, CX_E_UNSUPPORTED, "cpu:%s: no such instruction set; want cpu, cpu:avx512_bf16, cpu:avx512, cpu:avx2 or cpu:portable", isa);
    if (threads < 0 || threads > 1024)
        return cx_fail(err, CX_E_USAGE, "cpu: threads: want 0 (all cores) to 1024, got %d", threads);
    cpu *c = cx_alloc(1, sizeof *c);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "cpu: out of memory");
    if (threads == 0)
        threads = cores_allowed();
    c->isa = sets[at].name;
    c->kernels = sets[at].kernels;
    c->base = (cx_backend){ .name = "cpu", .threads = threads, .self = c, .alloc = mem_alloc, .release = cx_host_release, .upload = cx_host_copy,
        .download = cx_host_copy, .zero = cx_host_zero, .impls = list_impls,
        .statistics = *c->kernels->statistics, .convert = *c->kernels->convert, .update = run_update,
        .sum_squares = run_sum_squares, .roof = measure_roof, .close = cpu_close };
    char name[64];
    cpu_name(name);
    snprintf(c->base.description, sizeof c->base.description, "%s, %s, %d thread%s", name, c->isa, threads, threads == 1 ? "" : "s");
    if (!fill_impls(c)) {
        free(c);
        return cx_fail(err, CX_E_INTERNAL, "cpu: an operator has more than %d implementations; raise MAX_IMPLS", MAX_IMPLS - 1);
    }
    /* Kernels take the OpenMP default of the thread that runs them: it is set here, for the thread that opens. Bits depend on no such number. */
    omp_set_num_threads(threads);
    *out = &c->base;
    return CX_OK;
}
