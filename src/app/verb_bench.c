/* verb_bench.c - `cxnet bench infer|train|step|image`: how fast this machine trains, applies and decodes, and what each step costs. Depends on verb.h. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/data.h"
#include "cxnet/image.h"
#include "cxnet/model.h"
#include "verb.h"

enum { INFER, TRAIN, STEP, IMAGE, WARM_UP = 2, MAX_STEPS = 10000 };

typedef struct {
    int what, side, batch, channels, threads, steps;
    const char *model, *device;
    bool json;
} options;

typedef struct {
    cx_model model;
    cx_backend *backend;
    cx_store *store;
    cx_plan *plan;
    int target;
    float *m, *v;
    int64_t updates;
    double *seconds;                                     /* [steps] */
} bench;

/* ---- statistics ---------------------------------------------------------------------------------------------------- */

typedef struct { double median, min, max; } spread;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of work / seconds[i]; sorts seconds. */
static spread rate(double work, double *seconds, int n)
{
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    double middle = n % 2 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
    return (spread){ work / middle, work / seconds[n - 1], work / seconds[0] };
}

static json_t *spread_json(spread s)
{
    return json_pack("{s:f,s:f,s:f}", "median", s.median, "min", s.min, "max", s.max);
}

static cx_status put_json(json_t *j, cx_error *err)
{
    if (!j || json_dumpf(j, stdout, JSON_INDENT(2)) != 0) {
        json_decref(j);
        return cx_fail(err, CX_E_MEMORY, "bench: no memory for the JSON document");
    }
    json_decref(j);
    putchar('\n');
    return CX_OK;
}

/* ---- a network on random films ------------------------------------------------------------------------------------- */

static cx_status fill(bench *b, int value, bool labels, cx_error *err)
{
    cx_tensor t = cx_plan_value(b->plan, value);
    size_t n = (size_t)cx_elems(t.s);
    float *host = cx_alloc(n, sizeof *host);
    if (!host)
        return cx_fail(err, CX_E_MEMORY, "bench: no memory for %zu inputs", n);
    cx_rng r = cx_rng_new(1, (uint64_t)value);
    for (size_t i = 0; i < n; i++)
        host[i] = labels ? (float)cx_rng_below(&r, 2) : (float)cx_rng_uniform(&r);
    cx_status s = cx_plan_set(b->plan, value, host, err);
    free(host);
    return s;
}

static cx_status open_bench(const options *o, bench *b, cx_error *err)
{
    cx_model_spec spec = { .side = o->side, .channels = o->channels, .outputs = 1 };
    snprintf(spec.arch, sizeof spec.arch, "%s", o->model);
    TRY(cx_model_new(&spec, &b->model, err));
    const bool maps = b->model.probability >= 0;
    int weights, loss = cx_model_loss(&b->model, maps ? CX_LOSS_DICE : CX_LOSS_BCE, 0, &b->target, &weights);
    TRY(cx_graph_check(b->model.graph, err));
    TRY(cx_backend_open(o->device, o->threads, &b->backend, err));
    TRY(cx_store_new(b->model.graph, b->backend, 1, &b->store, err));
    bool train = o->what != INFER;
    cx_plan_opts opts = { .batch = o->batch, .training = train, .backward = train, .param_grads = train,
        .output = train ? loss : maps ? b->model.probability : b->model.logits };
    if (train)
        TRY(cx_store_moments(b->store, &b->m, &b->v, err));
    TRY(cx_plan_new(b->store, &opts, &b->plan, err));
    TRY(fill(b, b->model.input, false, err));
    if (train)
        TRY(fill(b, b->target, true, err));
    b->seconds = cx_alloc((size_t)o->steps, sizeof *b->seconds);
    return b->seconds ? CX_OK : cx_fail(err, CX_E_MEMORY, "bench: no memory for %d times", o->steps);
}

static void close_bench(bench *b)
{
    cx_plan_free(b->plan);
    cx_store_free(b->store);
    cx_backend_close(b->backend);
    cx_model_free(&b->model);
    free(b->seconds);
}

/* What one batch costs a training run: forward, backward, update. */
static cx_status one_step(const options *o, bench *b, cx_error *err)
{
    TRY(cx_plan_forward(b->plan, 1, (uint64_t)b->updates, err));
    if (o->what == INFER)
        return CX_OK;
    TRY(cx_plan_backward(b->plan, err));
    const cx_update u = { .kind = CX_ADAM, .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1, .t = ++b->updates };
    return b->backend->update(b->backend, &u, cx_store_trainable(b->store), cx_store_params(b->store), cx_store_grads(b->store), b->m, b->v, err);
}

static cx_status run_steps(const options *o, bench *b, cx_error *err)
{
    cx_progress progress = { 0 };
    for (int i = -WARM_UP; i < o->steps; i++) {
        if (i == 0)
            cx_plan_profile(b->plan, o->what == STEP);
        cx_progress_show(&progress, "step %d of %d", i + WARM_UP + 1, o->steps + WARM_UP);
        double t0 = cx_now_s();
        TRY(one_step(o, b, err));
        if (i >= 0)
            b->seconds[i] = cx_now_s() - t0;
    }
    cx_progress_end(&progress);
    return CX_OK;
}

/* ---- what it prints ------------------------------------------------------------------------------------------------ */

static const char *const names[] = { "infer", "train", "step", "image" };

static json_t *arenas_json(cx_plan_stats t)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "param", (json_int_t)t.param_bytes, "grad", (json_int_t)t.grad_bytes, "opt", (json_int_t)t.opt_bytes,
                     "act", (json_int_t)t.act_bytes, "work", (json_int_t)t.work_bytes);
}

static json_t *facts(const options *o, const bench *b)
{
    return json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:s,s:s,s:s,s:o}", "what", names[o->what], "model", o->model, "side", o->side, "batch", o->batch,
                     "channels", o->channels, "threads", b->backend->threads, "steps", o->steps, "device", b->backend->description,
                     "version", CX_VERSION, "commit", cx_build_commit(), "arena_bytes", arenas_json(cx_plan_get_stats(b->plan)));
}

/* The facts and, under the next keys, what was found. Takes over the values. NULL when out of memory. */
static json_t *facts_and(const options *o, const bench *b, const char *const *key, json_t *const *value, int n)
{
    json_t *j = facts(o, b);
    bool ok = j != NULL;
    for (int i = 0; i < n; i++)
        ok = json_object_set_new(j, key[i], value[i]) == 0 && ok;
    if (ok)
        return j;
    json_decref(j);
    return NULL;
}

static cx_status report(const options *o, const bench *b, cx_error *err)
{
    cx_plan_stats t = cx_plan_get_stats(b->plan);
    double gflop = (double)(t.flops_forward + t.flops_backward) / o->batch / 1e9;
    spread films = rate(o->batch, b->seconds, o->steps);
    size_t peak = cx_peak_rss_bytes();
    if (o->json) {
        const char *const key[] = { "films_per_s", "gflop_per_film", "gflop_per_s", "peak_rss_bytes" };
        json_t *const value[] = { spread_json(films), json_real(gflop), json_real(gflop * films.median), json_integer((json_int_t)peak) };
        return put_json(facts_and(o, b, key, value, CX_COUNT(key)), err);
    }
    printf("%s %s, %d px, %d channels, batch %d, float32\n%s\n", names[o->what], o->model, o->side, o->channels, o->batch, b->backend->description);
    printf("%.2f films/s (median of %d steps; %.2f to %.2f), %.1f GFLOP/s at %.2f GFLOP a film\n", films.median, o->steps, films.min, films.max,
           gflop * films.median, gflop);
    const struct { const char *name; size_t bytes; } arena[] = {
        { "peak memory", peak }, { "PARAM", t.param_bytes }, { "GRAD", t.grad_bytes }, { "OPT", t.opt_bytes }, { "ACT", t.act_bytes }, { "WORK", t.work_bytes },
    };
    for (int i = 0; i < CX_COUNT(arena); i++) {
        char text[16];
        cx_format_bytes(arena[i].bytes, text);
        printf("%s %s%s", arena[i].name, text, i + 1 < CX_COUNT(arena) ? ", " : "\n");
    }
    return CX_OK;
}

static int by_time(const void *a, const void *b)
{
    const cx_step_info *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds > y->seconds ? -1 : 1;
    return strcmp(x->node, y->node);
}

/* Times summed over steps that have the same phase, operator and implementation. Returns how many such kinds there are. */
static int sum_kinds(const cx_step_info *rows, int n, cx_step_info *kinds)
{
    int k = 0;
    for (int i = 0; i < n; i++) {
        int at = 0;
        while (at < k && (strcmp(kinds[at].phase, rows[i].phase) || strcmp(kinds[at].op, rows[i].op) || strcmp(kinds[at].impl, rows[i].impl)))
            at++;
        if (at == k) {
            kinds[k] = rows[i];
            kinds[k++].node = "";
            continue;
        }
        kinds[at].seconds += rows[i].seconds;
        kinds[at].flops += rows[i].flops;
        kinds[at].bytes_read += rows[i].bytes_read;
        kinds[at].bytes_written += rows[i].bytes_written;
    }
    return k;
}

static void print_rows(const cx_step_info *rows, int n, int steps, double all)
{
    printf("%10s %6s %10s %9s  %-9s %-18s %-26s %s\n", "ms", "%", "GFLOP/s", "GB/s", "phase", "op", "implementation", "node");
    for (int i = 0; i < n; i++) {
        double s = rows[i].seconds / steps;
        if (s <= 0)
            continue;
        printf("%10.3f %6.2f %10.1f %9.2f  %-9s %-18s %-26s %s\n", s * 1e3, 100 * rows[i].seconds / all, (double)rows[i].flops / s / 1e9,
               (double)(rows[i].bytes_read + rows[i].bytes_written) / s / 1e9, rows[i].phase, rows[i].op, rows[i].impl, rows[i].node);
    }
}

static json_t *rows_json(const cx_step_info *rows, int n, int steps)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++) {
        const cx_step_info *r = &rows[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:f,s:I,s:I,s:I}", "phase", r->phase, "node", r->node, "op", r->op, "impl", r->impl,
                                              "ms", r->seconds / steps * 1e3, "flops", (json_int_t)r->flops,
                                              "bytes_read", (json_int_t)r->bytes_read, "bytes_written", (json_int_t)r->bytes_written));
    }
    return list;
}

static cx_status profile(const options *o, const bench *b, cx_error *err)
{
    int n = cx_plan_get_stats(b->plan).n_steps;
    cx_step_info *rows = cx_alloc((size_t)n, sizeof *rows), *kinds = cx_alloc((size_t)n, sizeof *kinds);
    if (!rows || !kinds) {
        free(rows);
        free(kinds);
        return cx_fail(err, CX_E_MEMORY, "bench: no memory for %d rows", n);
    }
    double all = 0;
    for (int i = 0; i < n; i++) {
        rows[i] = cx_plan_step(b->plan, i);
        all += rows[i].seconds;
    }
    qsort(rows, (size_t)n, sizeof *rows, by_time);
    int k = sum_kinds(rows, n, kinds);
    qsort(kinds, (size_t)k, sizeof *kinds, by_time);
    cx_status s = CX_OK;
    if (o->json) {
        const char *const key[] = { "profile" };
        json_t *const value[] = { rows_json(rows, n, o->steps) };
        s = put_json(facts_and(o, b, key, value, 1), err);
    } else {
        print_rows(rows, n, o->steps, all);
        printf("\n");
        print_rows(kinds, k, o->steps, all);
        printf("\n%.2f ms a step in operators\n", all / o->steps * 1e3);
        s = report(o, b, err);
    }
    free(rows);
    free(kinds);
    return s;
}

static cx_status bench_network(const options *o, cx_error *err)
{
    bench b = { 0 };
    cx_status s = open_bench(o, &b, err);
    if (s == CX_OK)
        s = run_steps(o, &b, err);
    if (s == CX_OK)
        s = o->what == STEP ? profile(o, &b, err) : report(o, &b, err);
    close_bench(&b);
    return s;
}

/* ---- films --------------------------------------------------------------------------------------------------------- */

/* One procedural film as a PNG of 1024 x 1024. */
static cx_status encode_film(cx_buf *png, cx_error *err)
{
    enum { SIDE = 1024 };
    cx_synth synth;
    TRY(cx_synth_make(&(cx_synth_opts){ .patients = 2, .side = SIDE, .seed = 1 }, &synth, err));
    uint16_t *px = cx_alloc((size_t)SIDE * SIDE, sizeof *px);
    cx_status s = px ? CX_OK : cx_fail(err, CX_E_MEMORY, "bench: no memory for a film");
    for (int i = 0; px && i < SIDE * SIDE; i++)
        px[i] = synth.film[i];
    if (s == CX_OK)
        s = cx_png_grey(px, SIDE, SIDE, 255, png, err);
    free(px);
    cx_synth_free(&synth);
    return s;
}

/* Decodes once and resizes to side x side, each on its own clock. */
static cx_status one_film(const cx_buf *png, int side, double *decode, double *resize, cx_error *err)
{
    cx_film f;
    double t0 = cx_now_s();
    TRY(cx_film_decode("bench.png", png->data, png->len, &f, err));
    *decode = cx_now_s() - t0;
    size_t n = (size_t)f.width * (size_t)f.height;
    float *in = cx_alloc_aligned(n, sizeof *in), *out = cx_alloc_aligned((size_t)side * (size_t)side, sizeof *out);
    t0 = cx_now_s();
    for (size_t i = 0; in && i < n; i++)
        in[i] = (float)f.px[i] / (float)f.max;
    cx_status s = in && out ? cx_resize(in, f.width, f.height, out, side, side, CX_RESIZE_AREA, err) : cx_fail(err, CX_E_MEMORY, "bench: no memory for a film");
    *resize = cx_now_s() - t0;
    free(in);
    free(out);
    cx_film_free(&f);
    return s;
}

static cx_status time_films(const options *o, const cx_buf *png, double *decode, double *resize, cx_error *err)
{
    for (int i = -WARM_UP; i < o->steps; i++)
        TRY(one_film(png, o->side, &decode[i < 0 ? 0 : i], &resize[i < 0 ? 0 : i], err));
    spread d = rate(1, decode, o->steps), r = rate(1, resize, o->steps);
    if (o->json)
        return put_json(json_pack("{s:s,s:i,s:I,s:i,s:s,s:s,s:o,s:o}", "what", "image", "side", o->side, "png_bytes", (json_int_t)png->len,
                                  "steps", o->steps, "version", CX_VERSION, "commit", cx_build_commit(),
                                  "decode_films_per_s", spread_json(d), "resize_films_per_s", spread_json(r)), err);
    printf("PNG 1024x1024 grey, %.2f MB, one thread, %d films\n", (double)png->len / 1e6, o->steps);
    printf("decode            %8.1f films/s (%.1f to %.1f)\n", d.median, d.min, d.max);
    printf("resize to %4d px %8.1f films/s (%.1f to %.1f)\n", o->side, r.median, r.min, r.max);
    return CX_OK;
}

static cx_status bench_image(const options *o, cx_error *err)
{
    cx_buf png = { 0 };
    double *decode = cx_alloc((size_t)o->steps, sizeof *decode), *resize = cx_alloc((size_t)o->steps, sizeof *resize);
    cx_status s = decode && resize ? encode_film(&png, err) : cx_fail(err, CX_E_MEMORY, "bench: no memory for %d times", o->steps);
    if (s == CX_OK)
        s = time_films(o, &png, decode, resize, err);
    cx_buf_free(&png);
    free(decode);
    free(resize);
    return s;
}

/* ---- the verb ------------------------------------------------------------------------------------------------------ */

static cx_status run_bench(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    options o = { .what = -1, .model = cx_arg(a, "--model"), .device = cx_arg(a, "--device"), .json = cx_arg(a, "--json") };
    for (int i = 0; i < CX_COUNT(names); i++)
        if (!strcmp(a->positional[0], names[i]))
            o.what = i;
    if (o.what < 0)
        return cx_fail(err, CX_E_USAGE, "bench: want infer, train, step or image, got \"%s\"", a->positional[0]);
    o.model = o.model ? o.model : "densenet121";
    o.device = o.device ? o.device : "cpu";
    TRY(cx_arg_int(a, "--side", 224, 1, 8192, &o.side, err));
    TRY(cx_arg_int(a, "--batch", 16, 1, 65536, &o.batch, err));
    TRY(cx_arg_int(a, "--channels", 3, 1, 64, &o.channels, err));
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &o.threads, err));
    TRY(cx_arg_int(a, "--steps", o.what == IMAGE ? 40 : 8, 1, MAX_STEPS, &o.steps, err));
    return o.what == IMAGE ? bench_image(&o, err) : bench_network(&o, err);
}

static const cx_flag flags[] = {
    { "--model", "NAME", "densenet121 (default), densenet169, densenet201, base_cnn, unet (lung segmentation)" },
    { "--side", "PX", "films are PX x PX (default 224)" },
    { "--batch", "N", "films a step (default 16)" },
    { "--channels", "N", "channels of a film (default 3)" },
    { "--steps", "N", "measured steps, after 2 that are not (default 8; films for image: 40)" },
    { "--device", "NAME", "cpu (default), or an instruction set: cpu:avx512, cpu:avx2, cpu:portable" },
    CX_FLAG_THREADS, CX_FLAG_JSON,
};

const cx_verb cx_verb_bench = {
    .name = "bench", .args = "infer|train|step|image", .doc = "measure speed and memory on random films",
    .more = "train: forward, backward and an Adam update of a whole network. infer: the evaluation plan.\n"
            "step: the same as train, with the time of every step of the plan, sorted, then summed by operator and implementation.\n"
            "image: decoding and resizing a synthetic film, one thread.\n",
    .flags = flags, .n_flags = CX_COUNT(flags), .min_args = 1, .max_args = 1, .run = run_bench
};
