/* verb_cuda_warm.c - `cxnet cuda warm [FILE]`: makes what a GPU's libraries compile for an experiment, without that GPU. Depends on app.h. */
#include "app.h"

enum { MOST_JSON = 1 << 16 };

typedef struct { cx_config c; cx_model m; int loss, batch; } job;

/* The plans that a run makes: training and evaluation. */
static cx_status plan(cx_backend *b, void *context, cx_error *err)
{
    const job *j = context;
    cx_store *store;
    cx_plan_stats stats;
    cx_plan_opts train = cx_config_plan(&j->c), eval = train;
    train.batch = eval.batch = j->batch;
    train.training = train.backward = train.param_grads = true;
    train.output = j->loss;
    eval.output = j->m.logits;
    TRY(cx_store_new(j->m.graph, b, 0, &store, err));
    cx_status s = cx_plan_describe(store, &train, &stats, err);
    if (s == CX_OK)
        s = cx_plan_describe(store, &eval, &stats, err);
    cx_store_free(store);
    return s;
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    static const char *const plugins[] = { "cuda", "emu" };
    job j = { .batch = 0 };
    cx_buf properties = { 0 };
    cx_warmed w = { .plans = 0 };
    const char *path = cx_arg(a, "--device-json");
    int plugin = 0, target, weights;
    if (!path)
        return cx_fail(err, CX_E_USAGE, "want --device-json FILE, the properties of the GPU");
    TRY(cx_arg_choice(a, "--device", "cuda|emu", 0, &plugin, err));
    TRY(cx_app_config(a, a->n_positional > 0 ? a->positional[0] : NULL, &j.c, err));
    cx_status s = cx_arg_int(a, "--batch", j.c.optim.batch, 1, 4096, &j.batch, err);
    if (s == CX_OK)
        s = cx_file_read(path, MOST_JSON, &properties, err);
    if (s == CX_OK)
        s = cx_config_network(&j.c, &j.m, &j.loss, &target, &weights, err);
    if (s == CX_OK && (s = cx_backend_warm(plugins[plugin], properties.data, plan, &j, &w, err)) == CX_E_DATA)
        cx_prefix(err, s, "%s", path);
    if (w.note[0])
        fprintf(stderr, "%s\n", w.note);
    if (s == CX_OK)
        printf("%s: %d plans, %d of them new\n", w.path, w.plans, w.made);
    cx_buf_free(&properties);
    cx_model_free(&j.m);
    cx_config_free(&j.c);
    return s;
}

static const cx_flag flags[] = {
    { "--device-json", "FILE", "properties of the GPU, as cuDNN prints them" },
    { "--batch", "N", "films per step; absent: optim.batch" },
    { "--device", "cuda|emu", "whose plans: of a GPU, or of the emulated one of the tests" },
    CX_FLAG_SET,
};
const cx_verb cx_verb_cuda_warm = {
    .name = "cuda warm", .args = "[FILE.yaml]", .doc = "make cuDNN's plans of an experiment ahead of time, on a machine without its GPU", .max_args = 1,
    .run = run, .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "The plans go where runs look for them, and put away what they make themselves: the folder CXNET_CACHE or, without it,\n"
            "XDG_CACHE_HOME/cxnet or ~/.cache/cxnet, in one file for each version of cuDNN and kind of GPU. A run that finds its plans there\n"
            "compiles nothing; a cohort smaller than a batch, or several ranks, want plans of their own (--batch).\n"
            "tests/cuda/h100.json shows the properties that are wanted.\n"
};
