/* bench_roof.c - the roof of the machine before and after a benchmark, and whether it moved. Depends on app.h, bench.h. */
#include "app.h"
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

static void print_one(const char *when, const cx_roof *r, bool sizes)
{
    char bf16[32] = "none", walked[16], cache[16] = "unknown";
    if (r->bf16_gflops > 0)
        snprintf(bf16, sizeof bf16, "%.1f GFLOP/s", r->bf16_gflops);
    printf("roof %-7s float32 %.1f GFLOP/s, bf16 %s, read %.1f GB/s, copy %.1f GB/s", when, r->fp32_gflops, bf16, r->read_gbs, r->copy_gbs);
    cx_format_bytes(r->memory_bytes, walked);
    if (r->cache_bytes)
        cx_format_bytes(r->cache_bytes, cache);
    if (sizes)
        printf(" (over %s; last-level cache %s)", walked, cache);
    printf("\n");
}

void cx_bench_roof_print(const cx_bench_roof *r)
{
    if (!(r->before.fp32_gflops > 0))
        return;
    print_one("before", &r->before, true);
    print_one("after", &r->after, false);
    if (cx_bench_unsteady(r))
        printf("UNSTEADY: the float32 peak moved by %.0f %% around this run; measure again\n", 100 * cx_bench_roof_moved(r));
}

cx_status cx_bench_roof_alone(const char *device, int threads, bool json, cx_error *err)
{
    cx_backend *b = NULL;
    cx_roof r;
    TRY(cx_backend_open(device, threads, &b, err));
    cx_app_note_device(b);
    cx_status s = b->roof ? b->roof(b, &r, err) : cx_fail(err, CX_E_UNSUPPORTED, "bench roof: what %s can do at most is not known", b->description);
    if (s == CX_OK && json) {
        s = cx_app_print_json(json_pack("{s:s,s:i,s:s,s:s,s:s,s:o,s:I,s:I}", "what", "roof", "threads", b->threads, "device", b->description,
                                        "version", CX_VERSION, "commit", cx_build_commit(), "roof", one_json(&r),
                                        "memory_bytes", (json_int_t)r.memory_bytes, "cache_bytes", (json_int_t)r.cache_bytes), err);
    } else if (s == CX_OK) {
        printf("%s\n", b->description);
        print_one("now", &r, true);
    }
    cx_backend_close(b);
    return s;
}
