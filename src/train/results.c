/* results.c - what a finished run leaves for people and programs: predictions.csv, metrics.json, manifest.json. Depends on run.h. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "run.h"

static const char *class_name(const cx_cohort *h, int k) { return h->classes[k].name; }

cx_status cx_run_write_json(cx_run *r, const char *name, json_t *j, cx_error *err)
{
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL, *path = cx_run_path(r, name);
    json_decref(j);
    cx_status s = text && path ? cx_file_write(path, text, strlen(text), err) : cx_fail(err, CX_E_MEMORY, "out of memory for %s", name);
    free(text);
    free(path);
    return s;
}

/* ---- predictions.csv ------------------------------------------------------------------------------------------ */

static void put_header(const cx_cohort *h, cx_buf *b)
{
    char text[256];
    cx_buf_puts(b, "path,split,group,patient_id,source,labels,");
    for (int j = 0; h->task == TASK_MULTILABEL && j < h->n_targets; j++) {
        snprintf(text, sizeof text, "target_%s", class_name(h, j));
        cx_csv_put(b, text, false);
    }
    if (h->task != TASK_MULTILABEL)
        cx_buf_puts(b, "target,");
    for (int k = 0; k < h->n_classes; k++) {
        snprintf(text, sizeof text, "p_%s", class_name(h, k));
        cx_csv_put(b, text, false);
    }
    cx_buf_puts(b, "predicted\n");
}

/* The class a film is given: argmax, or the positive class from the threshold on; every class over its threshold for multilabel. */
static void put_predicted(const cx_cohort *h, const double *p, const double *threshold, cx_buf *b)
{
    cx_buf names = { 0 };
    int best = 0;
    for (int k = 1; k < h->n_classes; k++)
        best = p[k] > p[best] ? k : best;
    if (h->task == TASK_BINARY)
        best = p[1] >= threshold[0];
    for (int k = 0; k < h->n_classes; k++)
        if (h->task == TASK_MULTILABEL ? p[k] >= threshold[k] : k == best)
            cx_buf_printf(&names, "%s%s", names.len ? "|" : "", class_name(h, k));
    cx_csv_put(b, names.data ? names.data : "", true);
    b->failed |= names.failed;
    cx_buf_free(&names);
}

static void put_rows(const cx_cohort *h, const cx_eval *e, const double *threshold, cx_buf *b)
{
    for (int i = 0; i < e->n; i++) {
        int film = e->film[i];
        const cx_sample *s = &h->manifest.samples[h->sample[film]];
        const float *t = h->target + (size_t)film * (size_t)h->n_targets;
        const double *p = e->p + (size_t)i * (size_t)h->n_classes;
        cx_csv_put(b, s->path, false);
        cx_buf_printf(b, "%s,%d,", cx_split_name(h->split[film]), h->group[film]);
        cx_csv_put(b, s->patient_id, false);
        cx_csv_put(b, s->source, false);
        cx_csv_put(b, s->labels, false);
        for (int j = 0; h->task == TASK_MULTILABEL && j < h->n_targets; j++)
            cx_buf_printf(b, t[j] < 0 ? "," : "%d,", (int)t[j]);
        if (h->task != TASK_MULTILABEL)
            cx_csv_put(b, class_name(h, (int)t[0]), false);
        for (int k = 0; k < h->n_classes; k++)
            cx_buf_printf(b, "%.9g,", p[k]);
        put_predicted(h, p, threshold, b);
    }
}

/* ---- metrics.json ---------------------------------------------------------------------------------------------- */

json_t *cx_json_number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

void cx_json_estimate(json_t *to, const char *name, cx_estimate e)
{
    json_object_set_new(to, name, json_pack("{s:o, s:o, s:o}", "value", cx_json_number(e.value), "lo", cx_json_number(e.lo), "hi", cx_json_number(e.hi)));
}

static json_t *binary_json(const cx_binary_metrics *m)
{
    json_t *j = json_object();
    cx_json_estimate(j, "auroc", m->auroc);
    cx_json_estimate(j, "auprc", m->auprc);
    cx_json_estimate(j, "accuracy", m->accuracy);
    cx_json_estimate(j, "f1", m->f1);
    cx_json_estimate(j, "sensitivity", m->sensitivity);
    cx_json_estimate(j, "specificity", m->specificity);
    cx_json_estimate(j, "brier", m->brier);
    cx_json_estimate(j, "ece", m->ece);
    json_object_set_new(j, "threshold", cx_json_number(m->threshold));
    json_object_set_new(j, "confusion", json_pack("[[I, I], [I, I]]", (json_int_t)m->tn, (json_int_t)m->fp, (json_int_t)m->fn, (json_int_t)m->tp));
    return j;
}

/* What the metrics take: targets and probabilities of one class, group of each film, class index of each film. */
typedef struct { float *y; double *p; int *group, *index; } cx_columns;

static cx_status columns_new(const cx_cohort *h, const cx_eval *e, cx_columns *c, cx_error *err)
{
    int n = e->n;
    c->y = cx_alloc((size_t)n, sizeof *c->y);
    c->p = cx_alloc((size_t)n, sizeof *c->p);
    c->group = cx_alloc((size_t)n, sizeof *c->group);
    c->index = cx_alloc((size_t)n, sizeof *c->index);
    if (!c->y || !c->p || !c->group || !c->index)
        return cx_fail(err, CX_E_MEMORY, "out of memory for the metrics of %d films", n);
    for (int i = 0; i < n; i++) {
        c->group[i] = h->group[e->film[i]];
        c->index[i] = (int)h->target[(size_t)e->film[i] * (size_t)h->n_targets];
    }
    return CX_OK;
}

static void columns_free(cx_columns *c)
{
    free(c->y);
    free(c->p);
    free(c->group);
    free(c->index);
}

static cx_status multi_json(cx_run *r, const cx_eval *e, const cx_columns *col, json_t *j, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    cx_multi_metrics m;
    TRY(cx_metrics_multi(col->index, e->p, col->group, e->n, h->n_classes, r->config->run.bootstrap, (uint64_t)r->config->run.seed, &m, err));
    cx_json_estimate(j, "accuracy", m.accuracy);
    cx_json_estimate(j, "macro_f1", m.macro_f1);
    cx_json_estimate(j, "macro_auroc", m.macro_auroc);
    json_t *rows = json_array(), *each = json_object();
    for (int a = 0; a < m.classes; a++) {
        json_t *row = json_array();
        for (int b = 0; b < m.classes; b++)
            json_array_append_new(row, json_integer((json_int_t)m.confusion[a * m.classes + b]));
        json_array_append_new(rows, row);
        json_object_set_new(each, class_name(h, a), binary_json(&m.per_class[a]));
    }
    json_object_set_new(j, "confusion", rows);
    json_object_set_new(j, "per_class", each);
    cx_multi_metrics_free(&m);
    return CX_OK;
}

/* The figures of one side of the split, at thresholds [n_classes] that validation chose. */
static cx_status side_json(cx_run *r, const cx_eval *e, const double *threshold, json_t *j, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    cx_columns col;
    cx_binary_metrics m;
    json_t *each = NULL;
    cx_status s = columns_new(h, e, &col, err);
    json_object_set_new(j, "films", json_integer(e->n));
    json_object_set_new(j, "loss", cx_json_number(e->loss));
    json_object_set_new(j, "mean_auroc", cx_json_number(e->score));
    if (s == CX_OK && h->task == TASK_MULTICLASS)
        s = multi_json(r, e, &col, j, err);
    if (s == CX_OK && h->task == TASK_MULTILABEL)
        json_object_set_new(j, "per_class", each = json_object());
    for (int k = h->task == TASK_BINARY ? 1 : 0; s == CX_OK && h->task != TASK_MULTICLASS && k < h->n_classes; k++) {
        cx_eval_column(h, e, k, col.y, col.p);
        s = cx_metrics_binary(col.y, col.p, col.group, e->n, threshold[each ? k : 0], r->config->run.bootstrap, (uint64_t)r->config->run.seed, &m, err);
        if (s != CX_OK)
            break;
        json_t *one = binary_json(&m);
        if (each)
            json_object_set_new(each, class_name(h, k), one);
        else
            json_object_update_new(j, one);
    }
    columns_free(&col);
    return s;
}

/* Thresholds by Youden's J on validation: [0] for binary, one a class for multilabel. */
static cx_status thresholds(const cx_cohort *h, const cx_eval *val, double *out, cx_error *err)
{
    cx_columns col;
    cx_status s = columns_new(h, val, &col, err);
    for (int k = 0; s == CX_OK && k < h->n_classes; k++) {
        cx_eval_column(h, val, h->task == TASK_BINARY ? 1 : k, col.y, col.p);
        out[k] = h->task == TASK_MULTICLASS ? NAN : cx_threshold_youden(col.y, col.p, val->n);
        if (isnan(out[k]))
            out[k] = 0.5;
    }
    columns_free(&col);
    return s;
}

json_t *cx_metrics_head(const cx_run *r)
{
    json_t *j = json_object();
    json_object_set_new(j, "task", json_string(r->config->data.task));
    json_object_set_new(j, "best_epoch", json_integer(r->state.best_epoch + 1));
    json_object_set_new(j, "epochs", json_integer(r->state.epoch));
    json_object_set_new(j, "interval", json_string("95 %, percentile bootstrap over patients and duplicate clusters"));
    return j;
}

static cx_status metrics(cx_run *r, const cx_eval *const side[3], const double *threshold, const json_t *more, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    json_t *j = cx_metrics_head(r), *names = json_array(), *limits = json_array();
    cx_status s = CX_OK;
    for (int k = 0; k < h->n_classes; k++) {
        json_array_append_new(names, json_string(class_name(h, k)));
        json_array_append_new(limits, cx_json_number(threshold[k]));
    }
    json_object_set_new(j, "classes", names);
    json_object_set_new(j, "thresholds", limits);
    json_object_set_new(j, "threshold_from", json_string("validation, Youden's J"));
    json_object_set_new(j, "sources", cx_sources_json(h));
    if (more)
        json_object_update(j, (json_t *)more);
    for (int i = 0; s == CX_OK && i < 3; i++)
        if (side[i]->n) {
            json_t *one = json_object();
            json_object_set_new(j, cx_split_name((cx_split)(CX_VAL + i)), one);
            s = side_json(r, side[i], threshold, one, err);
        }
    if (s == CX_OK)
        return cx_run_write_json(r, "metrics.json", j, err);
    json_decref(j);
    return s;
}

static cx_status write_classes(cx_run *r, const cx_eval *const side[3], const json_t *more, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    cx_buf b = { 0 };
    double *threshold = cx_alloc((size_t)h->n_classes, sizeof *threshold);
    char *path = cx_run_path(r, "predictions.csv");
    cx_status s = threshold && path ? thresholds(h, side[0], threshold, err) : cx_fail(err, CX_E_MEMORY, "out of memory for predictions");
    if (s == CX_OK) {
        put_header(h, &b);
        for (int i = 0; i < 3; i++)
            put_rows(h, side[i], threshold, &b);
        s = b.failed ? cx_fail(err, CX_E_MEMORY, "out of memory for predictions") : cx_file_write(path, b.data, b.len, err);
    }
    if (s == CX_OK)
        s = metrics(r, side, threshold, more, err);
    cx_buf_free(&b);
    free(path);
    free(threshold);
    return s;
}

cx_status cx_results_write(cx_run *r, const cx_eval *val, const cx_eval *test, const cx_eval *external, json_t *more, cx_error *err)
{
    cx_status s = CX_OK;
    if (cx_comm_rank(r->comm) == 0)
        s = r->masks ? cx_results_write_masks(r, val, test, external, err)
                     : write_classes(r, (const cx_eval *const[]){ val, test, external }, more, err);
    json_decref(more);
    return s;
}

/* ---- manifest.json --------------------------------------------------------------------------------------------- */

/* Films of a side; of a class k, where it is not negative. */
static int count(const cx_cohort *h, int side, int k)
{
    int films = 0;
    for (int i = 0; i < h->n; i++) {
        const float *t = h->target + (size_t)i * (size_t)h->n_targets;
        films += (int)h->split[i] == side && (k < 0 || (h->task == TASK_MULTILABEL ? t[k] == 1 : (int)t[0] == k));
    }
    return films;
}

static json_t *counts(const cx_cohort *h)
{
    json_t *j = json_object();
    for (int side = CX_TRAIN; side <= CX_EXTERNAL; side++) {
        if (side == CX_EXTERNAL && !count(h, side, -1))
            continue;
        json_t *one = json_object();
        for (int k = 0; k < h->n_classes; k++)
            json_object_set_new(one, class_name(h, k), json_integer(count(h, side, k)));
        if (!h->n_classes)
            json_object_set_new(one, "all", json_integer(count(h, side, -1)));
        json_object_set_new(j, cx_split_name((cx_split)side), one);
    }
    return j;
}

/* Releases j on failure. */
static cx_status network_json(cx_run *r, json_t *j, cx_error *err)
{
    char sha[65];
    const cx_status s = cx_weights_sha256(r->store, sha, err);
    if (s == CX_OK) {
        json_object_set_new(j, "device", json_string(r->backend->description));
        json_object_set_new(j, "threads", json_integer(r->backend->threads));
        json_object_set_new(j, "updates", json_integer((json_int_t)r->state.updates));
        json_object_set_new(j, "best_epoch", json_integer(r->state.best_epoch + 1));
        json_object_set_new(j, "trainable_floats", json_integer((json_int_t)cx_store_trainable(r->store)));
        json_object_set_new(j, "weights_sha256", json_string(sha));
        json_object_set_new(j, "preprocessing", json_string(cx_pipeline_identity(r->pipeline)));
    } else {
        json_decref(j);
    }
    return s;
}

cx_status cx_run_manifest_write(cx_run *r, const char *status, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    if (cx_comm_rank(r->comm) > 0)
        return CX_OK;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s}",
                          "status", status, "written", when, "version", CX_VERSION, "commit", cx_build_commit(), "ranks", cx_comm_ranks(r->comm),
                          "seed", r->config->run.seed, "split_seed", r->config->data.split_seed, "data_manifest", h->manifest.path,
                          "data_manifest_sha256", h->manifest.sha256);
    if (!j)
        return cx_fail(err, CX_E_MEMORY, "out of memory for manifest.json");
    if (r->store)
        TRY(network_json(r, j, err));
    json_object_set_new(j, "films", counts(h));
    json_object_set_new(j, "left_out", json_pack("{s:i, s:i, s:i}", "other_labels", h->left_out_label, "filtered", h->left_out_filter, "no_split",
        h->left_out_split));
    return cx_run_write_json(r, "manifest.json", j, err);
}
