/* roof.c - the limits of this machine: runs the loops of isa/roof.c on every thread against the clock. Depends on roof.h, graph.h. */
#include "roof.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "cxnet/base.h"

enum { TRIES = 6, SWEEPS = 3, FIRST_TURNS = 20000, LINE_FLOATS = 64 };
static const double TRY_S = 0.02;
static const size_t MIB = (size_t)1 << 20;

/* ---- registers ----------------------------------------------------------------------------------------------------- */

typedef float (*turns_fn)(int64_t turns, float x);

/* Seconds from before the team starts until its last thread is done. keep[thread] takes what came out. */
static double time_turns(turns_fn f, int64_t turns, float *keep)
{
    const double t0 = cx_now_s();
#pragma omp parallel
    keep[omp_get_thread_num()] = f(turns, 0.25f);
    return cx_now_s() - t0;
}

/* 1e9 operations a second. The turns are raised until a try lasts long enough for the clock and for waking the team. */
static double peak(turns_fn f, int flops, float *keep)
{
    int64_t turns = FIRST_TURNS;
    double best = 0;
    for (double s = time_turns(f, turns, keep); s < TRY_S && turns < INT64_MAX / 8; s = time_turns(f, turns, keep))
        turns *= 2;
    for (int i = 0; i < TRIES; i++) {
        const double rate = (double)turns * flops * omp_get_max_threads() / time_turns(f, turns, keep) / 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

static bool has_bf16(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

/* Bytes of the largest cache that the kernel lists for the first processor; 0 when it lists none. */
static size_t last_cache(void)
{
    size_t largest = 0;
    for (int i = 0; i < 8; i++) {
        char path[80];
        unsigned long kib = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        FILE *f = fopen(path, "r");
        if (!f)
            break;
        if (fscanf(f, "%luK", &kib) == 1 && kib * 1024 > largest)
            largest = kib * 1024;
        fclose(f);
    }
    return largest;
}

/* Four times the cache in all, at least 128 MiB, at most 1 GiB and an eighth of the machine's memory. A whole number of huge pages in each half. */
static size_t memory_to_walk(size_t cache)
{
    const size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = 4 * cache;
    bytes = bytes < 128 * MIB ? 128 * MIB : bytes;
    bytes = bytes > 1024 * MIB ? 1024 * MIB : bytes;
    bytes = bytes > machine / 8 ? machine / 8 : bytes;
    return bytes / (4 * MIB) * (4 * MIB);
}

typedef struct { int64_t at, n; } part;

/* The floats of the calling thread, in whole strides of the loops. */
static part my_part(int64_t floats)
{
    const int64_t lines = floats / LINE_FLOATS, team = omp_get_num_threads(), me = omp_get_thread_num();
    const int64_t lo = lines * me / team, hi = lines * (me + 1) / team;
    return (part){ lo * LINE_FLOATS, (hi - lo) * LINE_FLOATS };
}

static double time_read(const cx_cpu_limits *l, const float *p, int64_t floats, float *keep)
{
    const double t0 = cx_now_s();
#pragma omp parallel
    {
        const part mine = my_part(floats);
        keep[omp_get_thread_num()] = l->read(p + mine.at, mine.n);
    }
    return cx_now_s() - t0;
}

static double time_copy(const cx_cpu_limits *l, float *to, const float *from, int64_t floats)
{
    const double t0 = cx_now_s();
#pragma omp parallel
    {
        const part mine = my_part(floats);
        l->copy(to + mine.at, from + mine.at, mine.n);
    }
    return cx_now_s() - t0;
}

/* The arrays come from the backend, so they lie on the same kind of pages as the arenas. */
static cx_status bandwidth(cx_backend *b, const cx_cpu_limits *l, cx_roof *out, float *keep, cx_error *err)
{
    void *memory;
    TRY(b->alloc(b, out->memory_bytes, &memory, err));
    float *p = memory;
    const int64_t floats = (int64_t)(out->memory_bytes / sizeof *p), half = floats / 2;
    for (int i = 0; i < SWEEPS; i++) {
        const double read = (double)out->memory_bytes / time_read(l, p, floats, keep) / 1e9;
        const double copy = (double)out->memory_bytes / time_copy(l, p + half, p, half) / 1e9;
        out->read_gbs = read > out->read_gbs ? read : out->read_gbs;
        out->copy_gbs = copy > out->copy_gbs ? copy : out->copy_gbs;
    }
    b->release(b, memory);
    return CX_OK;
}

cx_status cx_cpu_roof(cx_backend *b, const cx_cpu_limits *l, cx_roof *out, cx_error *err)
{
    float *keep = cx_alloc((size_t)omp_get_max_threads(), sizeof *keep);
    if (!keep)
        return cx_fail(err, CX_E_MEMORY, "cpu: no memory to measure the roof");
    *out = (cx_roof){ .cache_bytes = last_cache() };
    out->memory_bytes = memory_to_walk(out->cache_bytes);
    const cx_status s = bandwidth(b, l, out, keep, err);
    if (s == CX_OK)
        out->fp32_gflops = peak(l->fma, l->fma_flops, keep);
    if (s == CX_OK && l->dot && has_bf16())
        out->bf16_gflops = peak(l->dot, l->dot_flops, keep);
    free(keep);
    return s;
}
