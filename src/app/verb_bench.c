/* verb_bench.c - `cxnet bench infer|train|step|image|roof`: how fast this machine trains, applies and decodes, and what each step costs.
 * Depends on app.h, bench.h. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/data.h"
#include "cxnet/image.h"
#include "cxnet/model.h"
#include "cxnet/stepper.h"
#include "app.h"
#include "bench.h"

enum { INFER, TRAIN, STEP, IMAGE, ROOF, WARM_UP = 2, AHEAD = 2, MAX_STEPS = 10000 };

typedef struct {
    int what, side, batch, channels, threads, steps;
    const char *model, *device;
    unsigned skip;
    bool lean, bf16, eval;
    bool json;
} options;

typedef struct {
    cx_model model;
    cx_backend *backend;
    cx_store *store;
    cx_plan *plan;
    int target, loss;
    float *films, *labels, *m, *v;
    cx_film_source source;                               /* on a GPU: a batch of films in its memory, as a run has them all (run.films) */
    cx_film_draw *draws;                                 /* [batch] of them; NULL: the stepper takes floats */
    cx_stepper *stepper;                                 /* of what is timed as a whole; steps that are timed one by one go by plain calls */
    int64_t updates;
    int pending;                                         /* steps of the stepper whose results have not been picked up */
    double *seconds;                                     /* [steps] */
    double start_s;                                      /* from the start of the process to the end of its first step */
    size_t peak_bytes;                                   /* resident, before the arrays of the roof */
    cx_bench_roof roof;
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

/* ---- a network on random films ------------------------------------------------------------------------------------- */

static cx_status fill(bench *b, int value, bool labels, float **host, cx_error *err)
{
    cx_tensor t = cx_plan_value(b->plan, value);
    size_t n = (size_t)cx_elems(t.s);
    *host = cx_alloc(n, sizeof **host);
    if (!*host)
        return cx_fail(err, CX_E_MEMORY, "bench: no memory for %zu inputs", n);
    cx_rng r = cx_rng_new(1, (uint64_t)value);
    for (size_t i = 0; i < n; i++)
        (*host)[i] = labels ? (float)cx_rng_below(&r, 2) : (float)cx_rng_uniform(&r);
    return cx_plan_set(b->plan, value, *host, err);
}

static cx_status lay_films(const options *o, bench *b, cx_error *err)
{
    const size_t film = (size_t)o->side * (size_t)o->side, bytes = (size_t)o->batch * film;
    uint8_t *host = cx_alloc(bytes, 1);
    void *px = NULL;
    b->draws = cx_alloc((size_t)o->batch, sizeof *b->draws);
    cx_status s = host && b->draws ? b->backend->alloc(b->backend, bytes, &px, err) : cx_fail(err, CX_E_MEMORY, "bench: no memory for %d films", o->batch);
    b->source = (cx_film_source){ .px = px, .count = o->batch, .norm = CX_NORM_UNIT };
    b->source.norm.channels = o->channels;
    for (size_t i = 0; s == CX_OK && i < bytes; i++)
        host[i] = (uint8_t)(255 * b->films[i * (size_t)o->channels]);
    for (int i = 0; s == CX_OK && i < o->batch; i++) {
        b->draws[i] = cx_draw_film(host + (size_t)i * film, o->side, 1, NULL, 1, 0, 0);
        b->draws[i].film = i;
    }
    if (s == CX_OK)
        s = b->backend->upload(b->backend, px, host, bytes, err);
    free(host);
    return s;
}

static cx_status open_stepper(const options *o, bench *b, cx_error *err)
{
    if (b->backend->films)
        TRY(lay_films(o, b, err));
    return cx_stepper_new(b->store, &(cx_stepper_opts){ .plan = b->plan, .input = b->model.input, .target = b->target, .loss = b->loss,
                          .films = b->draws ? &b->source : NULL, .ahead = AHEAD }, &b->stepper, err);
}

static bool trains(const options *o) { return o->what != INFER && !o->eval; }

static cx_status open_bench(const options *o, bench *b, cx_error *err)
{
    cx_model_spec spec = { .side = o->side, .channels = o->channels, .outputs = 1 };
    snprintf(spec.arch, sizeof spec.arch, "%s", o->model);
    TRY(cx_model_new(&spec, &b->model, err));
    const bool maps = b->model.probability >= 0;
    int weights;
    b->loss = cx_model_loss(&b->model, maps ? CX_LOSS_DICE : CX_LOSS_BCE, 0, &b->target, &weights);
    TRY(cx_graph_check(b->model.graph, err));
    TRY(cx_backend_open(o->device, o->threads, &b->backend, err));
    cx_app_note_device(b->backend);
    TRY(cx_store_new(b->model.graph, b->backend, 1, &b->store, err));
    bool train = trains(o);
    cx_plan_opts opts = { .batch = o->batch, .skip = o->skip, .lean = o->lean, .bf16 = o->bf16, .training = train, .backward = train,
        .param_grads = train, .moments = 2, .output = train ? b->loss : maps ? b->model.probability : b->model.logits };
    TRY(cx_plan_new(b->store, &opts, &b->plan, err));
    if (train)
        TRY(cx_plan_moments(b->plan, &b->m, &b->v, err));
    TRY(fill(b, b->model.input, false, &b->films, err));
    if (train)
        TRY(fill(b, b->target, true, &b->labels, err));
    if (train && o->what == TRAIN)
        TRY(open_stepper(o, b, err));
    b->seconds = cx_alloc((size_t)o->steps, sizeof *b->seconds);
    return b->seconds ? CX_OK : cx_fail(err, CX_E_MEMORY, "bench: no memory for %d times", o->steps);
}

static void close_bench(bench *b)
{
    cx_stepper_free(b->stepper);
    if (b->source.px)
        b->backend->release(b->backend, (void *)(uintptr_t)b->source.px);
    free(b->draws);
    free(b->films);
    free(b->labels);
    cx_plan_free(b->plan);
    cx_store_free(b->store);
    cx_backend_close(b->backend);
    cx_model_free(&b->model);
    free(b->seconds);
}

/* Picks up results until at most this many are on their way. */
static cx_status collect(bench *b, int most, cx_error *err)
{
    cx_step_result result;
    bool got;
    for (; b->pending > most; b->pending--) {
        TRY(cx_stepper_next(b->stepper, true, &result, &got, err));
        if (!got || !isfinite(result.norm))
            return cx_fail(err, CX_E_NAN, "bench: a loss or gradient is not finite");
    }
    return CX_OK;
}

static cx_status finish(bench *b, cx_error *err) { return b->backend->finish ? b->backend->finish(b->backend, err) : CX_OK; }

/* What one batch costs a training run: its input, forward, backward, update. On a GPU a step is begun while the one before still runs, so what is timed is
 * from the end of one to the end of the next. */
static cx_status one_step(const options *o, bench *b, cx_error *err)
{
    if (!trains(o)) {
        TRY(cx_plan_forward(b->plan, 1, 0, err));
        return finish(b, err);
    }
    const cx_update u = { .kind = CX_ADAM, .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1, .t = ++b->updates };
    if (b->stepper) {
        TRY(cx_stepper_step(b->stepper, &(cx_step_batch){ .input = b->films, .draw = b->draws, .target = b->labels }, 1, &u, err));
        b->pending++;
        return collect(b, AHEAD - 1, err);
    }
    TRY(cx_plan_forward(b->plan, 1, (uint64_t)(u.t - 1), err));
    TRY(cx_plan_backward(b->plan, err));
    TRY(b->backend->update(b->backend, &u, cx_store_trainable(b->store), cx_store_params(b->store), cx_store_grads(b->store), b->m, b->v, err));
    return finish(b, err);
}

/* After the first step everything that a step touches is resident. A step that is not measured follows the roof, which empties the caches. */
static cx_status after_first_step(bench *b, cx_error *err)
{
    TRY(collect(b, 0, err));
    b->start_s = cx_process_age_s();
    b->peak_bytes = cx_peak_rss_bytes();
    return cx_bench_roof_take(b->backend, &b->roof.before, err);
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
        if (i == -WARM_UP)
            TRY(after_first_step(b, err));
    }
    cx_progress_end(&progress);
    return cx_bench_roof_take(b->backend, &b->roof.after, err);
}

/* ---- what it prints ------------------------------------------------------------------------------------------------ */

static const char *const names[] = { "infer", "train", "step", "image", "roof" };

static json_t *arenas_json(cx_plan_stats t)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "param", (json_int_t)t.param_bytes, "grad", (json_int_t)t.grad_bytes, "opt", (json_int_t)t.opt_bytes,
                     "act", (json_int_t)t.act_bytes, "work", (json_int_t)t.work_bytes);
}

static json_t *facts(const options *o, const bench *b)
{
    return json_pack("{s:s,s:s,s:s,s:b,s:i,s:i,s:i,s:i,s:i,s:s,s:s,s:s,s:o,s:f,s:I,s:o,s:b}", "what", names[o->what], "model", o->model,
                     "precision", o->bf16 ? "bf16" : "float32", "lean", o->lean, "side", o->side,
                     "batch", o->batch, "channels", o->channels, "threads", b->backend->threads, "steps", o->steps, "device", b->backend->description,
                     "version", CX_VERSION, "commit", cx_build_commit(), "arena_bytes", arenas_json(cx_plan_get_stats(b->plan)),
                     "start_s", b->start_s, "peak_rss_bytes", (json_int_t)b->peak_bytes,
                     "roof", cx_bench_roof_json(&b->roof), "unsteady", cx_bench_unsteady(&b->roof));
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

typedef struct { spread films; double gflop, percent; } speed;

static speed measured(const options *o, const bench *b)
{
    const cx_plan_stats t = cx_plan_get_stats(b->plan);
    const double gflop = (double)(t.flops_forward + t.flops_backward) / o->batch / 1e9, peak = cx_bench_roof_best(&b->roof).fp32_gflops;
    const spread films = rate(o->batch, b->seconds, o->steps);
    return (speed){ films, gflop, peak > 0 ? 100 * gflop * films.median / peak : 0 };
}

static cx_status report_json(const options *o, const bench *b, const cx_bench_table *t, cx_error *err)
{
    const speed v = measured(o, b);
    const char *const key[] = { "films_per_s", "gflop_per_film", "gflop_per_s", "percent_of_fp32_peak", "profile", "kinds", "step" };
    json_t *const value[] = { spread_json(v.films), json_real(v.gflop), json_real(v.gflop * v.films.median), json_real(v.percent),
                              t ? cx_bench_rows_json(t->rows, t->n_rows) : NULL, t ? cx_bench_rows_json(t->kinds, t->n_kinds) : NULL,
                              t ? cx_bench_sum_json(t) : NULL };
    return cx_app_print_json(facts_and(o, b, key, value, t ? 7 : 4), err);
}

static void report(const options *o, const bench *b)
{
    const cx_plan_stats t = cx_plan_get_stats(b->plan);
    const speed v = measured(o, b);
    printf("%s %s, %d px, %d channels, batch %d, %s\n%s\n", names[o->what], o->model, o->side, o->channels, o->batch, o->bf16 ? "bf16" : "float32",
           b->backend->description);
    printf("%.2f films/s (median of %d steps; %.2f to %.2f), %.1f GFLOP/s at %.2f GFLOP a film", v.films.median, o->steps, v.films.min, v.films.max,
           v.gflop * v.films.median, v.gflop);
    if (v.percent > 0)
        printf(", %.1f %% of the float32 peak", v.percent);
    printf("\nfirst step done %.2f s after the start\n", b->start_s);
    const struct { const char *name; size_t bytes; } arena[] = {
        { "peak memory", b->peak_bytes }, { "PARAM", t.param_bytes }, { "GRAD", t.grad_bytes }, { "OPT", t.opt_bytes }, { "ACT", t.act_bytes },
        { "WORK", t.work_bytes },
    };
    for (int i = 0; i < CX_COUNT(arena); i++) {
        char text[16];
        cx_format_bytes(arena[i].bytes, text);
        printf("%s %s%s", arena[i].name, text, i + 1 < CX_COUNT(arena) ? ", " : "\n");
    }
    cx_bench_roof_print(&b->roof);
}

static cx_status profile(const options *o, const bench *b, cx_error *err)
{
    const cx_roof roof = cx_bench_roof_best(&b->roof);
    cx_bench_table t;
    cx_status s = CX_OK;
    TRY(cx_bench_table_new(b->plan, o->steps, &roof, &t, err));
    if (o->json) {
        s = report_json(o, b, &t, err);
    } else {
        cx_bench_table_print(&t);
        report(o, b);
    }
    cx_bench_table_free(&t);
    return s;
}

static cx_status show(const options *o, const bench *b, cx_error *err)
{
    if (o->what == STEP)
        return profile(o, b, err);
    if (o->json)
        return report_json(o, b, NULL, err);
    report(o, b);
    return CX_OK;
}

static cx_status bench_network(const options *o, cx_error *err)
{
    bench b = { 0 };
    cx_status s = open_bench(o, &b, err);
    if (s == CX_OK)
        s = run_steps(o, &b, err);
    if (s == CX_OK)
        s = show(o, &b, err);
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
        return cx_app_print_json(json_pack("{s:s,s:i,s:I,s:i,s:s,s:s,s:o,s:o}", "what", "image", "side", o->side, "png_bytes", (json_int_t)png->len,
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
        return cx_fail(err, CX_E_USAGE, "bench: want infer, train, step, image or roof, got \"%s\"", a->positional[0]);
    o.model = o.model ? o.model : "densenet121";
    o.device = o.device ? o.device : "cpu";
    const char *precision = cx_arg(a, "--precision"), *fuse = cx_arg(a, "--fuse");
    if (precision && strcmp(precision, "float32") && strcmp(precision, "bf16"))
        return cx_fail(err, CX_E_USAGE, "bench: --precision: want float32 or bf16, got \"%s\"", precision);
    o.bf16 = precision && !strcmp(precision, "bf16");
    o.lean = cx_arg(a, "--lean");
    o.eval = cx_arg(a, "--eval");
    if (cx_passes_parse(fuse ? fuse : "all", &o.skip, err) != CX_OK)
        return cx_prefix(err, CX_E_USAGE, "bench: --fuse");
    TRY(cx_arg_int(a, "--side", 224, 1, 8192, &o.side, err));
    TRY(cx_arg_int(a, "--batch", 16, 1, 65536, &o.batch, err));
    TRY(cx_arg_int(a, "--channels", 3, 1, 64, &o.channels, err));
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &o.threads, err));
    TRY(cx_arg_int(a, "--steps", o.what == IMAGE ? 40 : 8, 1, MAX_STEPS, &o.steps, err));
    if (o.what == ROOF)
        return cx_bench_roof_alone(o.device, o.threads, o.json, err);
    return o.what == IMAGE ? bench_image(&o, err) : bench_network(&o, err);
}

static const cx_flag flags[] = {
    { "--model", "NAME", "densenet121 (default), densenet169, densenet201, base_cnn, unet (lung segmentation)" },
    { "--side", "PX", "films are PX x PX (default 224)" },
    { "--batch", "N", "films a step (default 16)" },
    { "--channels", "N", "channels of a film (default 3)" },
    { "--steps", "N", "measured steps, after 2 that are not (default 8; films for image: 40)" },
    CX_FLAG_DEVICE("cpu"),
    { "--precision", "NAME", "train, infer, step: float32 (default) or bf16: activations lie in memory as bfloat16 (see plan.precision)" },
    { "--fuse", "LIST", "train, infer, step: passes of the plan: all (default), none, or names separated by commas (see plan.fuse)" },
    { "--lean", NULL, "train: compute bottlenecks again in the backward pass (plan.memory: lean)" },
    { "--eval", NULL, "step: the evaluation plan instead of training" },
    CX_FLAG_THREADS, CX_FLAG_JSON,
};

const cx_verb cx_verb_bench = {
    .name = "bench", .args = "infer|train|step|image|roof", .doc = "measure speed and memory on random films",
    .more = "train: forward, backward and an Adam update of a whole network. infer: the evaluation plan.\n"
            "step: the same as train, with the time of every step of the plan, sorted, then summed by operator and implementation.\n"
            "image: decoding and resizing a synthetic film, one thread.\n"
            "roof: what this machine can do at most, and nothing else.\n"
            "\n"
            "Before and after the measured steps the program measures the roof of the machine, with the same threads and instruction set: multiply-adds in "
            "registers (float32; bf16 dot products where the processor has them), reading and copying arrays larger than the last-level cache (at most 1 GiB "
            "for a second; not part of the peak memory shown). A run whose float32 peak moved by more than 15 % is called unsteady: another tenant, "
            "another clock; measure again.\n"
            "\n"
            "\"roof %\" of a step is the time it would take at the roof over the time it took: the larger of FLOPs / peak (of bf16 for an implementation "
            "called dot) and bytes / bandwidth, with "
            "the higher of the two measurements; \"of\" says which it was. FLOPs are those of the direct algorithm, so Winograd convolutions, "
            "which multiply less, may exceed 100 %. So may steps whose bytes still lie in a cache: bandwidth is that of memory.\n",
    .flags = flags, .n_flags = CX_COUNT(flags), .min_args = 1, .max_args = 1, .run = run_bench
};
