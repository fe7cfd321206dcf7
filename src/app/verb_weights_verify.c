/* verb_weights_verify.c - `cxnet weights verify`: is a weight file sound, equal to another, and does its network answer what it should? Depends on app.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"

enum { BATCH = 4 };
enum { OF_LOGITS, OF_SIGMOID, OF_SOFTMAX };
typedef struct { cx_backend *backend; cx_weights_net net; cx_store *other; double tolerance; int of; } job;

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

static cx_status check_finite(const job *j, cx_error *err)
{
    const cx_graph *g = j->net.model.graph;
    int tensors = 0;
    int64_t numbers = 0;
    char sha[65];
    for (int v = 0; v < g->n_values; v++)
        if (is_weight(g, v)) {
            TRY(check_value(j, v, err));
            tensors++;
            numbers += cx_elems(g->values[v].shape);
        }
    TRY(cx_weights_sha256(j->net.store, sha, err));
    printf("%s, normalise %s: %d tensors, %lld finite numbers, sha256 of the weights %s\n", j->net.card.spec.arch, j->net.card.normalise, tensors,
           (long long)numbers, sha);
    return CX_OK;
}

/* ---- against another file -------------------------------------------------------------------------------------------------- */

static cx_status compare_value(const job *j, int value, double *worst, cx_error *err)
{
    float *a = NULL, *b = NULL;
    const int64_t n = cx_elems(j->net.model.graph->values[value].shape);
    double top = 0, apart = 0;
    cx_status s = values_of(j->net.store, value, &a, err);
    if (s == CX_OK)
        s = values_of(j->other, value, &b, err);
    for (int64_t i = 0; s == CX_OK && i < n; i++) {
        top = fmax(top, fabs((double)a[i]));
        apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
    }
    free(a);
    free(b);
    *worst = apart == 0 ? 0 : top > 0 ? apart / top : INFINITY;
    return s;
}

static cx_status compare_all(const job *j, const char *path, cx_error *err)
{
    const cx_graph *g = j->net.model.graph;
    double worst = 0;
    int at = -1;
    for (int v = 0; v < g->n_values; v++) {
        double d = 0;
        if (is_weight(g, v))
            TRY(compare_value(j, v, &d, err));
        if (d > worst) {
            worst = d;
            at = v;
        }
    }
    if (worst > j->tolerance)
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s' differs by %.3g of its largest value; at most %g is wanted", path, g->values[at].name, worst,
                       j->tolerance);
    printf("against %s: every tensor agrees within %.3g of its largest value\n", path, worst);
    return CX_OK;
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
    return s == CX_OK ? compare_all(j, path, err) : cx_prefix(err, s, "%s", path);
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

static cx_status compare_outputs(const job *j, const float *y, const cx_npy *want, const char *path, cx_error *err)
{
    double top = 0, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < want->n; i++)
        top = fmax(top, fabs((double)want->data[i]));
    for (int64_t i = 0; i < want->n; i++) {
        const double d = fabs((double)y[i] - (double)want->data[i]);
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
    }
    if (!(worst <= j->tolerance * top))
        return cx_fail(err, CX_E_DATA, "%s: output %lld is %g, want %g: apart by %.3g of the largest (%g); at most %g is wanted. Are final ReLU, epsilon, "
                       "normalisation and --of right?", path, (long long)at, (double)y[at], (double)want->data[at], worst / top, top, j->tolerance);
    printf("outputs agree with %s within %.3g of the largest, %g\n", path, top > 0 ? worst / top : 0, top);
    return CX_OK;
}

static cx_status check_outputs(const job *j, const char *inputs, const char *outputs, cx_error *err)
{
    const cx_graph *g = j->net.model.graph;
    const cx_shape in = g->values[j->net.model.input].shape, out = g->values[j->net.model.logits].shape;
    cx_npy x, want;
    TRY(cx_npy_read(inputs, &x, err));
    cx_status s = cx_npy_read(outputs, &want, err);
    const int64_t films = x.n / cx_elems(in);
    if (s == CX_OK && (x.nd != 4 || x.d[1] != in.h || x.d[2] != in.w || x.d[3] != in.c || films == 0))
        s = cx_fail(err, CX_E_DATA, "%s: want (N, %lld, %lld, %lld), NHWC", inputs, (long long)in.h, (long long)in.w, (long long)in.c);
    else if (s == CX_OK && want.n != films * cx_elems(out))
        s = cx_fail(err, CX_E_DATA, "%s: want %lld x %lld numbers, got %lld", outputs, (long long)films, (long long)cx_elems(out), (long long)want.n);
    float *y = s == CX_OK ? cx_alloc((size_t)want.n, sizeof *y) : NULL;
    if (s == CX_OK && !y)
        s = cx_fail(err, CX_E_MEMORY, "no memory for %lld outputs", (long long)want.n);
    if (s == CX_OK)
        s = run_all(j, x.data, films, y, err);
    if (s == CX_OK) {
        activate(j->of, y, want.n, out.c);
        s = compare_outputs(j, y, &want, outputs, err);
    }
    free(y);
    free(want.data);
    free(x.data);
    return s;
}

/* ---- the verb -------------------------------------------------------------------------------------------------------------------- */

static cx_status verify(job *j, const cx_args *a, cx_error *err)
{
    const char *other = cx_arg(a, "--against"), *inputs = cx_arg(a, "--inputs"), *outputs = cx_arg(a, "--outputs");
    int threads;
    if (!inputs != !outputs)
        return cx_fail(err, CX_E_USAGE, "--inputs and --outputs go together: what the network is fed, and what it shall answer");
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &threads, err));
    TRY(cx_arg_choice(a, "--of", "logits|sigmoid|softmax", OF_LOGITS, &j->of, err));
    TRY(cx_arg_real(a, "--tolerance", inputs ? 1e-4 : 0, 0, 1, &j->tolerance, err));
    TRY(cx_backend_open("cpu", threads, &j->backend, err));
    TRY(cx_weights_open(a->positional[0], j->backend, &j->net, err));
    TRY(cx_prefix(err, check_finite(j, err), "%s", a->positional[0]));
    if (other)
        TRY(against(j, other, err));
    return inputs ? check_outputs(j, inputs, outputs, err) : CX_OK;
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    job j = { 0 };
    const cx_status s = verify(&j, a, err);
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
};
const cx_verb cx_verb_weights_verify = {
    .name = "weights verify", .args = "FILE", .doc = "check a weight file of ours: finite, equal to another, right in its answers", .min_args = 1,
    .max_args = 1, .run = run, .flags = flags, .n_flags = CX_COUNT(flags),
};
