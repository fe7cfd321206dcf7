/* bench_roof.c - the roof of the machine before and after a benchmark, and whether it moved. Depends on bench.h. */
#include "bench.h"

static const double UNSTEADY = 0.15;

cx_status cx_bench_roof_take(cx_backend *b, cx_roof *out, cx_error *err)
{
    *out = (cx_roof){ 0 };
    return b->roof ? b->roof(b, out, err) : CX_OK;
}

static double higher(double a, double b)
{
    return a > b ? a : b;
}

cx_roof cx_bench_roof_best(const cx_bench_roof *r)
{
    cx_roof best = r->before;
    best.fp32_gflops = higher(r->before.fp32_gflops, r->after.fp32_gflops);
    best.bf16_gflops = higher(r->before.bf16_gflops, r->after.bf16_gflops);
    best.read_gbs = higher(r->before.read_gbs, r->after.read_gbs);
    best.copy_gbs = higher(r->before.copy_gbs, r->after.copy_gbs);
    return best;
}

double cx_bench_roof_moved(const cx_bench_roof *r)
{
    const double a = r->before.fp32_gflops, b = r->after.fp32_gflops, most = higher(a, b);
    return most > 0 ? (a > b ? a - b : b - a) / most : 0;
}

bool cx_bench_unsteady(const cx_bench_roof *r)
{
    return cx_bench_roof_moved(r) > UNSTEADY;
}

static json_t *one_json(const cx_roof *r)
{
    return json_pack("{s:f,s:f,s:f,s:f}", "fp32_gflops", r->fp32_gflops, "bf16_gflops", r->bf16_gflops, "read_gbs", r->read_gbs, "copy_gbs", r->copy_gbs);
}

json_t *cx_bench_roof_json(const cx_bench_roof *r)
{
    return json_pack("{s:o,s:o,s:f,s:I,s:I}", "before", one_json(&r->before), "after", one_json(&r->after), "moved", cx_bench_roof_moved(r),
                     "memory_bytes", (json_int_t)r->before.memory_bytes, "cache_bytes", (json_int_t)r->before.cache_bytes);
}

static void print_one(const char *when, const cx_roof *r)
{
    char bf16[32] = "none";
    if (r->bf16_gflops > 0)
        snprintf(bf16, sizeof bf16, "%.1f GFLOP/s", r->bf16_gflops);
    printf("roof %-7s float32 %.1f GFLOP/s, bf16 %s, read %.1f GB/s, copy %.1f GB/s", when, r->fp32_gflops, bf16, r->read_gbs, r->copy_gbs);
}

void cx_bench_roof_print(const cx_bench_roof *r)
{
    char walked[16], cache[16];
    if (!(r->before.fp32_gflops > 0))
        return;
    cx_format_bytes(r->before.memory_bytes, walked);
    cx_format_bytes(r->before.cache_bytes, cache);
    print_one("before", &r->before);
    printf(" (over %s; last-level cache %s)\n", walked, r->before.cache_bytes ? cache : "unknown");
    print_one("after", &r->after);
    printf("\n");
    if (cx_bench_unsteady(r))
        printf("UNSTEADY: the float32 peak moved by %.0f %% around this run; measure again\n", 100 * cx_bench_roof_moved(r));
}
