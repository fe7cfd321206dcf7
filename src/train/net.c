/* net.c - a trained network, opened from its run's folder. Depends on cohort.h. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

cx_status cx_net_thresholds(const char *run, cx_net *n, cx_error *err)
{
    n->threshold = 0.5;
    if (!n->n_classes)
        return CX_OK;
    char *path = run ? cx_path_join(run, "metrics.json") : NULL;
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL;
    n->thresholds = path || !run ? cx_alloc((size_t)n->n_classes, sizeof *n->thresholds) : NULL;
    for (int k = 0; n->thresholds && k < n->n_classes; k++) {
        const json_t *t = json_array_get(json_object_get(j, "thresholds"), (size_t)k);
        n->thresholds[k] = json_is_number(t) ? json_number_value(t) : 0.5;
    }
    json_decref(j);
    free(path);
    if (!n->thresholds)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d thresholds", n->n_classes);
    n->threshold = n->thresholds[0];
    return CX_OK;
}

/* A reference film, or a network that finds lungs, lies outside of the run's folder and may be another one by now. */
static cx_status check_preprocessing(const char *run, const cx_net *n, cx_error *err)
{
    char *path = cx_path_join(run, "manifest.json");
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL;
    const char *then = json_string_value(json_object_get(j, "preprocessing"));
    cx_status s = CX_OK;
    if (then && strcmp(then, cx_pipeline_identity(n->pipeline)))
        s = cx_fail(err, CX_E_CONFIG, "%s: its films were preprocessed otherwise in training: a file that preprocess.stages names has changed since; "
                    "restore it (manifest.json has its SHA-256)", run);
    json_decref(j);
    free(path);
    return s;
}

cx_status cx_net_names(cx_net *n, cx_error *err)
{
    cx_spec *classes;
    if (cx_task_of(&n->config) == TASK_SEGMENTATION)
        return CX_OK;
    cx_status s = cx_specs_parse(&n->config.data.classes, '=', &classes, &n->n_classes, err);
    n->classes = s == CX_OK ? cx_alloc((size_t)n->n_classes, sizeof *n->classes) : NULL;
    if (s == CX_OK && !n->classes)
        s = cx_fail(err, CX_E_MEMORY, "out of memory for %d class names", n->n_classes);
    for (int k = 0; s == CX_OK && k < n->n_classes; k++)
        if (!(n->classes[k] = cx_strdup(classes[k].name)))
            s = cx_fail(err, CX_E_MEMORY, "out of memory for %d class names", n->n_classes);
    cx_specs_free(classes, n->n_classes);
    return s;
}

static cx_status open_stages(const char *run, const char *device, int threads, cx_net *n, cx_error *err)
{
    for (int i = 0; i < CX_COUNT(n->stage); i++) {
        char *dir = cx_sprintf("%s/stage%d", run, i + 1);
        cx_net *stage = n->stage[i] = cx_alloc(1, sizeof *stage);
        const cx_status s = dir && stage ? cx_net_open(dir, device, threads, stage, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
        free(dir);
        TRY(s);
        if (stage->stage[0] || stage->n_classes != (i ? n->n_classes - 1 : 2) || stage->config.data.side != n->config.data.side)
            return cx_fail(err, CX_E_DATA, "%s: stage%d is no part of this run; train it again", run, i + 1);
    }
    n->norm = n->stage[0]->norm;
    n->pipeline = n->stage[0]->pipeline;
    return CX_OK;
}

static cx_status open_net(const char *run, const char *config, const char *weights, const char *device, int threads, cx_net *n, cx_error *err)
{
    cx_st_file f;
    cx_model_spec spec;
    if (cx_file_exists(run) && !cx_is_dir(run))
        return cx_net_open_file(run, device, threads, n, err);
    if (!cx_is_dir(run))
        return cx_fail(err, CX_E_NOINPUT, "%s: no such run; name the folder that `cxnet train` made, such as runs/NAME, or a file that `cxnet weights import` "
                       "made", run);
    TRY(cx_config_load(config, NULL, 0, &n->config, err));
    TRY(cx_net_names(n, err));
    TRY(cx_net_thresholds(run, n, err));
    if (!strcmp(n->config.data.task, "hierarchical"))
        return open_stages(run, device, threads, n, err);
    cx_config_model(&n->config, cx_config_outputs(&n->config), &spec);
    TRY(cx_model_new(&spec, &n->model, err));
    const cx_status opened = cx_backend_open(device ? device : n->config.run.device, threads, &n->backend, err);
    if (opened != CX_OK)
        return device ? opened : cx_prefix(err, opened, "%s: run.device is \"%s\", and --device takes another", run, n->config.run.device);
    TRY(cx_store_new(n->model.graph, n->backend, 0, &n->store, err));
    TRY(cx_prefix(err, cx_config_input(&n->config, &n->pipeline, &n->norm, &n->lungs, err), "%s", run));
    TRY(check_preprocessing(run, n, err));
    TRY(cx_st_read(weights, &f, err));
    cx_status s = cx_card_agrees(&n->config, &f, err);
    if (s == CX_OK)
        s = cx_weights_load(n->store, &f, err);
    cx_st_free(&f);
    return cx_prefix(err, s, "%s", weights);
}

cx_status cx_net_open(const char *run, const char *device, int threads, cx_net *out, cx_error *err)
{
    memset(out, 0, sizeof *out);
    char *config = cx_path_join(run, "config.resolved.yaml"), *weights = cx_path_join(run, "checkpoints/best.safetensors");
    cx_status s = config && weights ? open_net(run, config, weights, device, threads, out, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    free(config);
    free(weights);
    if (s != CX_OK)
        cx_net_close(out);
    return s;
}

void cx_net_close(cx_net *n)
{
    if (n->stage[0])
        n->pipeline = NULL;                                /* that of the first stage */
    for (int i = 0; i < CX_COUNT(n->stage); i++)
        if (n->stage[i]) {
            cx_net_close(n->stage[i]);
            free(n->stage[i]);
        }
    cx_store_free(n->store);
    if (n->backend)
        cx_backend_close(n->backend);
    cx_model_free(&n->model);
    cx_pipeline_free(n->pipeline);
    cx_lung_finder_close(n->lungs);
    for (int k = 0; n->classes && k < n->n_classes; k++)
        free(n->classes[k]);
    free(n->classes);
    free(n->thresholds);
    cx_config_free(&n->config);
    memset(n, 0, sizeof *n);
}

static void probabilities(const cx_net *n, const float *logits, double *p)
{
    cx_probabilities(cx_task_of(&n->config), cx_config_outputs(&n->config), logits, p);
}

void cx_net_probabilities(const cx_net *n, const float *logits, double *p)
{
    double first[2];
    if (!n->stage[0]) {
        probabilities(n, logits, p);
        return;
    }
    probabilities(n->stage[0], logits, first);
    probabilities(n->stage[1], logits + 1, p + 1);         /* one class less: there is room */
    cx_joint(first, p + 1, n->n_classes, p);
}

int cx_net_parts(const cx_net *n) { return n->stage[0] ? CX_COUNT(n->stage) : 1; }
cx_net *cx_net_part(cx_net *n, int i) { return n->stage[0] ? n->stage[i] : n; }

int cx_net_answer(const cx_net *n, const double *p)
{
    int best = 0;
    if (cx_task_of(&n->config) == TASK_BINARY)
        return p[1] >= n->threshold;
    for (int k = 1; k < n->n_classes; k++)
        best = p[k] > p[best] ? k : best;
    return best;
}

cx_voice cx_net_voice(const cx_net *n, int k)
{
    if (!n->stage[0])
        return cx_task_of(&n->config) == TASK_BINARY ? (cx_voice){ 0, 0, k ? 1 : -1 } : (cx_voice){ 0, k, 1 };
    if (k == 0)
        return (cx_voice){ 0, 0, -1 };
    return n->n_classes == 3 ? (cx_voice){ 1, 0, k == 2 ? 1 : -1 } : (cx_voice){ 1, k - 1, 1 };
}
