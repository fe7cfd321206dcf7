/* verb_weights_verify.c - `cxnet weights verify`: is a weight file sound, equal to another, and does its network answer what it should? Depends on app.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"

enum { BATCH = 4 };
enum { OF_LOGITS, OF_SIGMOID, OF_SOFTMAX };
/* How far two sets of numbers lie apart: the largest difference, and its share of the largest number; infinite where there is none but 0, or no number. */
typedef struct { double absolute, relative; } apart;
typedef struct {
    cx_backend *backend;
    cx_weights_net net;
    cx_store *other;             /* --against, with its network's graph */
    apart *tensor;               /* [values] */
    cx_npy want;                 /* --outputs */
    float *y;                    /* [want.n] what the network answers instead */
    int64_t films;
    double tolerance;
    int of;
    int tensors; int64_t numbers;
    char sha256[65];
} job;

/* ---- numbers ----------------------------------------------------------------------------------------------------------- */

/* Host copies of one value of one or two stores; free() them. */
static cx_status values_of(cx_store *s, int value, float **out, cx_error *err)
{
    *out = cx_alloc_aligned((size_t)cx_elems(cx_store_graph(s)->values[value].shape), sizeof **out);
    return *out ? cx_store_get(s, value, *out, err) : cx_fail(err, CX_E_MEMORY, "no memory for a tensor");
}

static cx_status check_value(const job *j, int value, cx_error *err)
{
    const cx_value *v = &j->net.model.graph->values[value];
    const size_t n = strlen(v->name), var = strlen(".running_var");
    const bool variance = n > var && strcmp(v->name + n - var, ".running_var") == 0;
    float *x = NULL;
    cx_status s = values_of(j->net.store, value, &x, err);
    for (int64_t i = 0; s == CX_OK && i < cx_elems(v->shape); i++)
        if (!isfinite(x[i]) || (variance && x[i] < 0))
            s = cx_fail(err, CX_E_DATA, "tensor '%s': element %lld is %g", v->name, (long long)i, (double)x[i]);
    free(x);
    return s;
}

static bool is_weight(const cx_graph *g, int v) { return g->values[v].kind == CX_PARAM || g->values[v].kind == CX_STATE; }

static cx_status check_finite(job *j, cx_error *err)
{
    const cx_graph *g = j->net.model.graph;
    for (int v = 0; v < g->n_values; v++)
        if (is_weight(g, v)) {
            TRY(check_value(j, v, err));
            j->tensors++;
            j->numbers += cx_elems(g->values[v].shape);
        }
    return cx_weights_sha256(j->net.store, j->sha256, err);
}

/* ---- against another file -------------------------------------------------------------------------------------------------- */

static bool holds(const job *j, apart d) { return d.relative <= j->tolerance; }

static apart apart_of(double difference, double top)
{
    return (apart){ difference, difference == 0 ? 0 : top > 0 ? difference / top : INFINITY };
}

static cx_status compare_value(const job *j, int value, apart *d, cx_error *err)
{
    float *a = NULL, *b = NULL;
    const int64_t n = cx_elems(j->net.model.graph->values[value].shape);
    double top = 0, most = 0;
    cx_status s = values_of(j->net.store, value, &a, err);
    if (s == CX_OK)
        s = values_of(j->other, value, &b, err);
    for (int64_t i = 0; s == CX_OK && i < n; i++) {
        top = fmax(top, fabs((double)a[i]));
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    }
    free(a);
    free(b);
    *d = apart_of(most, top);
    return s;
}

static cx_status compare_all(job *j, cx_error *err)
{
    const cx_graph *g = j->net.model.graph;
    if (!(j->tensor = cx_alloc((size_t)g->n_values, sizeof *j->tensor)))
        return cx_fail(err, CX_E_MEMORY, "no memory for %d differences", g->n_values);
    for (int v = 0; v < g->n_values; v++)
        if (is_weight(g, v))
            TRY(compare_value(j, v, &j->tensor[v], err));
    return CX_OK;
}

/* The value whose tensor lies farthest apart; others are 0 apart. */
static int worst_tensor(const job *j)
{
    int at = 0;
    for (int v = 1; v < j->net.model.graph->n_values; v++)
        at = j->tensor[v].relative > j->tensor[at].relative ? v : at;
    return at;
}

static cx_status judge_tensors(const job *j, const char *path, cx_error *err)
{
    const int at = worst_tensor(j);
    if (holds(j, j->tensor[at]))
        return CX_OK;
    return cx_fail(err, CX_E_DATA, "%s: tensor '%s' differs by %.3g of its largest value; at most %g is wanted", path, j->net.model.graph->values[at].name,
                   j->tensor[at].relative, j->tolerance);
}

static cx_status against(job *j, const char *path, cx_error *err)
{
    cx_st_file f;
    cx_mapping m;
    const cx_graph *g = j->net.model.graph;
    TRY(cx_weights_read(path, &f, err));
    cx_status s = cx_weights_map(&f, g, CX_HEAD_KEEP, &m, err);
    if (s == CX_OK) {
        s = cx_weights_map_check(&f, g, &m, err);
        if (s == CX_OK)
            s = cx_store_new(g, j->backend, 0, &j->other, err);
        if (s == CX_OK)
            s = cx_weights_take(j->other, &f, &m, false, err);
        cx_weights_map_free(&m);
    }
    cx_st_free(&f);
    return s == CX_OK ? compare_all(j, err) : cx_prefix(err, s, "%s", path);
}

/* ---- against known outputs -------------------------------------------------------------------------------------------------- */

/* Logits of a film, or what follows from them. */
static void activate(int of, float *y, int64_t n, int64_t classes)
{
    for (int64_t i = 0; of == OF_SIGMOID && i < n; i++)
        y[i] = (float)(1 / (1 + exp(-(double)y[i])));
    for (int64_t r = 0; of == OF_SOFTMAX && r < n / classes; r++) {
        float *row = y + r * classes;
        double top = (double)row[0], sum = 0;
        for (int64_t k = 0; k < classes; k++)
            top = fmax(top, (double)row[k]);
        for (int64_t k = 0; k < classes; k++)
            sum += exp((double)row[k] - top);
        for (int64_t k = 0; k < classes; k++)
            row[k] = (float)(exp((double)row[k] - top) / sum);
    }
}

static cx_status run_all(const job *j, const float *x, int64_t films, float *y, cx_error *err)
{
    const cx_model *m = &j->net.model;
    const int64_t in = cx_elems(m->graph->values[m->input].shape), out = cx_elems(m->graph->values[m->logits].shape);
    cx_plan *plan = NULL;
    cx_status s = CX_OK;
    int batch = 0;
    for (int64_t i = 0; s == CX_OK && i < films; i += batch) {
        const int want = films - i < BATCH ? (int)(films - i) : BATCH;
        if (want != batch) {
            cx_plan_free(plan);
            plan = NULL;
            s = cx_plan_new(j->net.store, &(cx_plan_opts){ .batch = want, .output = m->logits }, &plan, err);
            batch = want;
        }
        if (s == CX_OK)
            s = cx_plan_set(plan, m->input, x + i * in, err);
        if (s == CX_OK)
            s = cx_plan_forward(plan, 0, 0, err);
        if (s == CX_OK)
            s = cx_plan_get(plan, m->logits, y + i * out, err);
    }
    cx_plan_free(plan);
    return s;
}

static double largest_output(const job *j)
{
    double top = 0;
    for (int64_t i = 0; i < j->want.n; i++)
        top = fmax(top, fabs((double)j->want.data[i]));
    return top;
}

/* Of the outputs first, first + step, ...: how far apart, as a share of the largest of all; *at: where most. What is no number is infinitely far. */
static apart compare_outputs(const job *j, int64_t first, int64_t step, int64_t *at)
{
    double worst = 0;
    *at = first;
    for (int64_t i = first; i < j->want.n; i += step) {
        const double d = fabs((double)j->y[i] - (double)j->want.data[i]), far = isnan(d) ? INFINITY : d;
        if (far > worst) {
            worst = far;
            *at = i;
        }
    }
    return apart_of(worst, largest_output(j));
}

static cx_status judge_outputs(const job *j, const char *path, cx_error *err)
{
    int64_t at;
    const apart d = compare_outputs(j, 0, 1, &at);
    if (holds(j, d))
        return CX_OK;
    return cx_fail(err, CX_E_DATA, "%s: output %lld is %g, want %g: apart by %.3g of the largest (%g); at most %g is wanted. Are final ReLU, epsilon, "
                   "normalisation and --of right?", path, (long long)at, (double)j->y[at], (double)j->want.data[at], d.relative, largest_output(j),
                   j->tolerance);
}

static cx_status answer(job *j, const char *inputs, const char *outputs, cx_error *err)
{
    const cx_graph *g = j->net.model.graph;
    const cx_shape in = g->values[j->net.model.input].shape, out = g->values[j->net.model.logits].shape;
    cx_npy x;
    TRY(cx_npy_read(inputs, &x, err));
    cx_status s = cx_npy_read(outputs, &j->want, err);
    j->films = x.n / cx_elems(in);
    if (s == CX_OK && (x.nd != 4 || x.d[1] != in.h || x.d[2] != in.w || x.d[3] != in.c || j->films == 0))
        s = cx_fail(err, CX_E_DATA, "%s: want (N, %lld, %lld, %lld), NHWC", inputs, (long long)in.h, (long long)in.w, (long long)in.c);
    else if (s == CX_OK && j->want.n != j->films * cx_elems(out))
        s = cx_fail(err, CX_E_DATA, "%s: want %lld x %lld numbers, got %lld", outputs, (long long)j->films, (long long)cx_elems(out), (long long)j->want.n);
    if (s == CX_OK && !(j->y = cx_alloc((size_t)j->want.n, sizeof *j->y)))
        s = cx_fail(err, CX_E_MEMORY, "no memory for %lld outputs", (long long)j->want.n);
    if (s == CX_OK)
        s = run_all(j, x.data, j->films, j->y, err);
    if (s == CX_OK)
        activate(j->of, j->y, j->want.n, out.c);
    free(x.data);
    return s;
}

/* ---- for programs ---------------------------------------------------------------------------------------------------------------- */

static json_t *apart_json(const job *j, const char *key, json_t *what, apart d)
{
    return json_pack("{s:o, s:o, s:o, s:b}", key, what, "absolute", cx_app_json_number(d.absolute), "relative", cx_app_json_number(d.relative), "holds",
                     holds(j, d));
}

static json_t *tensors_json(const job *j, const char *path)
{
    const cx_graph *g = j->net.model.graph;
    json_t *all = apart_json(j, "file", json_string(path), j->tensor[worst_tensor(j)]), *list = json_array();
    for (int v = 0; v < g->n_values; v++)
        if (is_weight(g, v))
            json_array_append_new(list, apart_json(j, "tensor", json_string(g->values[v].name), j->tensor[v]));
    json_object_set_new(all, "tensors", list);
    return all;
}

static json_t *outputs_json(const job *j, const cx_args *a)
{
    const cx_model *m = &j->net.model;
    const int64_t n = m->graph->values[m->logits].shape.c;
    int64_t at;
    json_t *all = apart_json(j, "file", json_string(cx_arg(a, "--outputs")), compare_outputs(j, 0, 1, &at)), *list = json_array();
    for (int64_t k = 0; k < n; k++)
        json_array_append_new(list, apart_json(j, "output", json_integer(k), compare_outputs(j, k, n, &at)));
    json_object_set_new(all, "inputs", json_string(cx_arg(a, "--inputs")));
    json_object_set_new(all, "of", json_string(cx_arg(a, "--of") ? cx_arg(a, "--of") : "logits"));
    json_object_set_new(all, "films", json_integer(j->films));
    json_object_set_new(all, "largest", cx_app_json_number(largest_output(j)));
    json_object_set_new(all, "outputs", list);
    return all;
}

static cx_status print_json(const job *j, const cx_args *a, cx_error *err)
{
    const char *other = cx_arg(a, "--against"), *inputs = cx_arg(a, "--inputs"), *outputs = cx_arg(a, "--outputs");
    const bool sound = (!other || judge_tensors(j, other, NULL) == CX_OK) && (!inputs || judge_outputs(j, outputs, NULL) == CX_OK);
    return cx_app_print_json(json_pack("{s:s, s:s, s:s, s:i, s:I, s:s, s:f, s:o, s:o, s:b}", "file", a->positional[0], "arch", j->net.card.spec.arch,
        "normalise", j->net.card.normalise, "tensors", j->tensors, "numbers", (json_int_t)j->numbers, "sha256_of_weights", j->sha256, "tolerance",
        j->tolerance, "against", other ? tensors_json(j, other) : json_null(), "answers", inputs ? outputs_json(j, a) : json_null(), "holds",
        sound), err);
}

/* ---- the verb -------------------------------------------------------------------------------------------------------------------- */

/* A line for each comparison that holds, up to the first that does not. */
static cx_status judge(const job *j, const cx_args *a, bool say, cx_error *err)
{
    const char *other = cx_arg(a, "--against"), *outputs = cx_arg(a, "--outputs");
    int64_t at;
    if (other) {
        TRY(judge_tensors(j, other, err));
        if (say)
            printf("against %s: every tensor agrees within %.3g of its largest value\n", other, j->tensor[worst_tensor(j)].relative);
    }
    if (outputs) {
        TRY(judge_outputs(j, outputs, err));
        if (say)
            printf("outputs agree with %s within %.3g of the largest, %g\n", outputs, compare_outputs(j, 0, 1, &at).relative, largest_output(j));
    }
    return CX_OK;
}

static cx_status names_for_json(const cx_args *a, cx_error *err)
{
    const char *const names[] = { a->positional[0], cx_arg(a, "--against"), cx_arg(a, "--inputs"), cx_arg(a, "--outputs") };
    for (int i = 0; i < CX_COUNT(names); i++)
        TRY(cx_app_json_path(names[i] ? names[i] : "", err));
    return CX_OK;
}

static cx_status verify(job *j, const cx_args *a, cx_error *err)
{
    const char *other = cx_arg(a, "--against"), *inputs = cx_arg(a, "--inputs"), *outputs = cx_arg(a, "--outputs");
    const bool json = cx_arg(a, "--json");
    int threads;
    if (!inputs != !outputs)
        return cx_fail(err, CX_E_USAGE, "--inputs and --outputs go together: what the network is fed, and what it shall answer");
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &threads, err));
    TRY(cx_arg_choice(a, "--of", "logits|sigmoid|softmax", OF_LOGITS, &j->of, err));
    TRY(cx_arg_real(a, "--tolerance", inputs ? 1e-4 : 0, 0, 1, &j->tolerance, err));
    if (json)
        TRY(names_for_json(a, err));
    TRY(cx_backend_open("cpu", threads, &j->backend, err));
    TRY(cx_weights_open(a->positional[0], j->backend, &j->net, err));
    TRY(cx_prefix(err, check_finite(j, err), "%s", a->positional[0]));
    if (!json)
        printf("%s, normalise %s: %d tensors, %lld finite numbers, sha256 of the weights %s\n", j->net.card.spec.arch, j->net.card.normalise, j->tensors,
               (long long)j->numbers, j->sha256);
    if (other)
        TRY(against(j, other, err));
    if (inputs)
        TRY(answer(j, inputs, outputs, err));
    if (json)
        TRY(print_json(j, a, err));
    return judge(j, a, !json, err);
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    job j = { 0 };
    const cx_status s = verify(&j, a, err);
    free(j.y);
    free(j.want.data);
    free(j.tensor);
    cx_store_free(j.other);
    cx_weights_net_close(&j.net);
    if (j.backend)
        cx_backend_close(j.backend);
    return s;
}

static const cx_flag flags[] = {
    { "--against", "FILE", "anybody's weight file of the same network: every tensor must agree" },
    { "--inputs", "X.npy", "what the network is fed: (N, side, side, channels), normalised" },
    { "--outputs", "Y.npy", "what it shall answer: (N, outputs)" },
    { "--of", "logits|sigmoid|softmax", "what --outputs holds; absent: logits" },
    { "--tolerance", "R", "largest difference, as a share of the largest value; absent: 1e-4 for outputs, 0 for tensors alone" },
    CX_FLAG_THREADS,
    CX_FLAG_JSON,
};
const cx_verb cx_verb_weights_verify = {
    .name = "weights verify", .args = "FILE", .doc = "check a weight file of ours: finite, equal to another, right in its answers", .min_args = 1,
    .max_args = 1, .run = run, .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "With --json, one document says of each tensor and each output how far apart they are, also where that is too far; the exit code says so too."
};
