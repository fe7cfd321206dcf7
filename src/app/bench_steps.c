/* bench_steps.c - the table of `cxnet bench step`: what each step of a plan took, and how near it came to the roof. Depends on bench.h. */
#include <stdlib.h>
#include <string.h>
#include "bench.h"

static int by_time(const void *a, const void *b)
{
    const cx_bench_row *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds > y->seconds ? -1 : 1;
    return strcmp(x->info.node, y->info.node);
}

static double gflops(const cx_bench_row *r)
{
    return r->seconds > 0 ? (double)r->info.flops / r->seconds / 1e9 : 0;
}

static double gbs(const cx_bench_row *r)
{
    return r->seconds > 0 ? (double)(r->info.bytes_read + r->info.bytes_written) / r->seconds / 1e9 : 0;
}

static double percent(const cx_bench_row *r)
{
    return r->seconds > 0 ? 100 * r->roof_s / r->seconds : 0;
}

static const char *bound(const cx_bench_row *r)
{
    return r->roof_s <= 0 ? "-" : r->flop_s > r->byte_s ? "flop" : "byte";
}

static void add(cx_bench_row *sum, const cx_bench_row *r)
{
    sum->seconds += r->seconds;
    sum->flop_s += r->flop_s;
    sum->byte_s += r->byte_s;
    sum->roof_s += r->roof_s;
    sum->info.flops += r->info.flops;
    sum->info.bytes_read += r->info.bytes_read;
    sum->info.bytes_written += r->info.bytes_written;
}

/* Steps that have the same phase, operator and implementation become one. Returns how many such kinds there are. */
static int sum_kinds(const cx_bench_row *rows, int n, cx_bench_row *kinds)
{
    int k = 0;
    for (int i = 0; i < n; i++) {
        const cx_step_info *r = &rows[i].info;
        int at = 0;
        while (at < k && (strcmp(kinds[at].info.phase, r->phase) || strcmp(kinds[at].info.op, r->op) || strcmp(kinds[at].info.impl, r->impl)))
            at++;
        if (at < k) {
            add(&kinds[at], &rows[i]);
            continue;
        }
        kinds[k] = rows[i];
        kinds[k++].info.node = "";
    }
    return k;
}

/* The bandwidth is the higher of reading and copying: no mixture of the two was seen to be faster. */
static cx_bench_row make_row(cx_step_info info, int steps, const cx_roof *roof)
{
    const double peak_gflops = info.dot ? roof->bf16_gflops : roof->fp32_gflops;
    const double bandwidth = roof->read_gbs > roof->copy_gbs ? roof->read_gbs : roof->copy_gbs;
    cx_bench_row r = { .info = info, .seconds = info.seconds / steps };
    if (peak_gflops > 0)
        r.flop_s = (double)info.flops / peak_gflops / 1e9;
    if (bandwidth > 0)
        r.byte_s = (double)(info.bytes_read + info.bytes_written) / bandwidth / 1e9;
    r.roof_s = r.flop_s > r.byte_s ? r.flop_s : r.byte_s;
    return r;
}

cx_status cx_bench_table_new(const cx_plan *p, int steps, const cx_roof *roof, cx_bench_table *t, cx_error *err)
{
    const int n = cx_plan_get_stats(p).n_steps;
    *t = (cx_bench_table){ .n_rows = n, .rows = cx_alloc((size_t)n, sizeof *t->rows), .kinds = cx_alloc((size_t)n, sizeof *t->kinds) };
    if (!t->rows || !t->kinds) {
        cx_bench_table_free(t);
        return cx_fail(err, CX_E_MEMORY, "bench: no memory for %d rows", n);
    }
    for (int i = 0; i < n; i++) {
        t->rows[i] = make_row(cx_plan_step(p, i), steps, roof);
        add(&t->all, &t->rows[i]);
    }
    qsort(t->rows, (size_t)n, sizeof *t->rows, by_time);
    t->n_kinds = sum_kinds(t->rows, n, t->kinds);
    qsort(t->kinds, (size_t)t->n_kinds, sizeof *t->kinds, by_time);
    return CX_OK;
}

void cx_bench_table_free(cx_bench_table *t)
{
    free(t->rows);
    free(t->kinds);
    *t = (cx_bench_table){ 0 };
}

static void print_rows(const cx_bench_row *rows, int n, double all)
{
    printf("%9s %6s %8s %7s %7s %-5s %-8s %-17s %-25s %s\n", "ms", "%", "GFLOP/s", "GB/s", "roof %", "of", "phase", "op", "implementation", "node");
    for (int i = 0; i < n && rows[i].seconds > 0; i++) {
        const cx_bench_row *r = &rows[i];
        printf("%9.3f %6.2f %8.1f %7.2f %7.1f %-5s %-8s %-17s %-25s %s\n", r->seconds * 1e3, 100 * r->seconds / all, gflops(r), gbs(r), percent(r), bound(r),
               r->info.phase, r->info.op, r->info.impl, r->info.node);
    }
}

void cx_bench_table_print(const cx_bench_table *t)
{
    print_rows(t->rows, t->n_rows, t->all.seconds);
    printf("\n");
    print_rows(t->kinds, t->n_kinds, t->all.seconds);
    printf("\n%.2f ms a step in operators\n", t->all.seconds * 1e3);
    if (t->all.roof_s > 0)
        printf("roof %.2f ms, %.1f %% of it reached (arithmetic alone %.2f ms, memory alone %.2f ms)\n", t->all.roof_s * 1e3, percent(&t->all),
               t->all.flop_s * 1e3, t->all.byte_s * 1e3);
}

json_t *cx_bench_rows_json(const cx_bench_row *rows, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++) {
        const cx_step_info *r = &rows[i].info;
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:b,s:f,s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:s}", "phase", r->phase, "node", r->node, "op", r->op,
                                              "impl", r->impl, "dot", r->dot, "ms", rows[i].seconds * 1e3, "flops", (json_int_t)r->flops,
                                              "bytes_read", (json_int_t)r->bytes_read, "bytes_written", (json_int_t)r->bytes_written,
                                              "gflop_per_s", gflops(&rows[i]), "gb_per_s", gbs(&rows[i]), "roof_ms", rows[i].roof_s * 1e3,
                                              "percent_of_roof", percent(&rows[i]), "bound", bound(&rows[i])));
    }
    return list;
}

json_t *cx_bench_sum_json(const cx_bench_table *t)
{
    const cx_bench_row *a = &t->all;
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "ms", a->seconds * 1e3, "roof_ms", a->roof_s * 1e3, "arithmetic_ms", a->flop_s * 1e3,
                     "memory_ms", a->byte_s * 1e3, "percent_of_roof", percent(a));
}
