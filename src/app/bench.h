/* bench.h - what `cxnet bench` holds a network against: the roof of the machine around a run, and the table of a plan's steps. Depends on base.h, graph.h. */
#ifndef CX_APP_BENCH_H
#define CX_APP_BENCH_H
#include <jansson.h>
#include "cxnet/base.h"
#include "cxnet/graph.h"

/* On a shared machine a core may be gone for seconds. A run between two roofs that differ says so. All zero: the backend knows none. */
typedef struct { cx_roof before, after; } cx_bench_roof;

cx_status cx_bench_roof_take(cx_backend *b, cx_roof *out, cx_error *err);
/* The higher one of each figure: a run is held against the best that was seen. */
cx_roof cx_bench_roof_best(const cx_bench_roof *r);
/* How far the float32 peak moved, 0 to 1 of the higher one; a run is unsteady above 0.15. */
double cx_bench_roof_moved(const cx_bench_roof *r);
bool cx_bench_unsteady(const cx_bench_roof *r);
json_t *cx_bench_roof_json(const cx_bench_roof *r);
void cx_bench_roof_print(const cx_bench_roof *r);
/* `cxnet bench roof`: takes it once and prints it. */
cx_status cx_bench_roof_alone(const char *device, int threads, bool json, cx_error *err);

/* A step of the plan, or the sum of steps of one kind; times are those of one training step. flop_s and byte_s are what its FLOPs and its bytes would take
 * at the roof, roof_s the larger of them (summed step by step), all 0 where the roof is not known. */
typedef struct {
    cx_step_info info;
    double seconds, flop_s, byte_s, roof_s;
} cx_bench_row;

typedef struct {
    cx_bench_row *rows, *kinds, all;                      /* slowest first */
    int n_rows, n_kinds;
} cx_bench_table;

/* From a plan that was profiled for `steps` steps. A step's peak is that of the arithmetic it uses. Free it. */
cx_status cx_bench_table_new(const cx_plan *p, int steps, const cx_roof *roof, cx_bench_table *out, cx_error *err);
void cx_bench_table_print(const cx_bench_table *t);
json_t *cx_bench_rows_json(const cx_bench_row *rows, int n);
json_t *cx_bench_sum_json(const cx_bench_table *t);
void cx_bench_table_free(cx_bench_table *t);
#endif
