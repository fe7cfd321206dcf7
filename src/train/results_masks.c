/* results_masks.c - what a finished segmentation leaves: predictions.csv with every film's overlap, metrics.json with their means, by side and source.
 * Depends on run.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

static const cx_sample *sample_of(const cx_run *r, const cx_eval *e, int i) { return &r->cohort.manifest.samples[r->cohort.sample[e->film[i]]]; }
static double fact(const cx_eval *e, int i, int k) { return (double)e->answer[(size_t)i * (size_t)e->width + (size_t)k]; }

static void put_rows(const cx_run *r, const cx_eval *e, cx_buf *b)
{
    for (int i = 0; i < e->n; i++) {
        const cx_sample *s = sample_of(r, e, i);
        cx_csv_put(b, s->path, false);
        cx_buf_printf(b, "%s,%d,", cx_split_name(r->cohort.split[e->film[i]]), r->cohort.group[e->film[i]]);
        cx_csv_put(b, s->patient_id, false);
        cx_csv_put(b, s->source, false);
        cx_buf_printf(b, "%.6f,%.6f,", fact(e, i, MASK_DICE), fact(e, i, MASK_IOU));
        if (isfinite(fact(e, i, MASK_BOUNDARY)))
            cx_buf_printf(b, "%.3f", fact(e, i, MASK_BOUNDARY));
        cx_buf_printf(b, ",%.0f,%.0f\n", fact(e, i, MASK_TRUTH), fact(e, i, MASK_FOUND));
    }
}

/* Means over the films of one source, or of all where source is NULL. x [e->n]: room. */
static cx_status figures(const cx_run *r, const cx_eval *e, const char *source, double *x, const int *group, json_t *j, cx_error *err)
{
    static const struct { const char *name; int fact; } shown[] = { { "dice", MASK_DICE }, { "iou", MASK_IOU }, { "boundary_px", MASK_BOUNDARY } };
    int films = 0;
    for (int k = 0; k < CX_COUNT(shown); k++) {
        cx_estimate mean;
        films = 0;
        for (int i = 0; i < e->n; i++) {
            const bool in = !source || !strcmp(sample_of(r, e, i)->source, source);
            x[i] = in ? fact(e, i, shown[k].fact) : (double)NAN;
            films += in;
        }
        TRY(cx_metrics_mean(x, group, e->n, r->config->run.bootstrap, (uint64_t)r->config->run.seed, &mean, err));
        cx_json_estimate(j, shown[k].name, mean);
    }
    json_object_set_new(j, "films", json_integer(films));
    return CX_OK;
}

static cx_status side_json(const cx_run *r, const cx_eval *e, json_t *j, cx_error *err)
{
    double *x = cx_alloc((size_t)e->n, sizeof *x);
    int *group = cx_alloc((size_t)e->n, sizeof *group);
    json_t *each = json_object();
    cx_status s = x && group ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory for the metrics of %d films", e->n);
    for (int i = 0; s == CX_OK && i < e->n; i++)
        group[i] = r->cohort.group[e->film[i]];
    json_object_set_new(j, "loss", cx_json_number(e->loss));
    if (s == CX_OK)
        s = figures(r, e, NULL, x, group, j, err);
    for (int i = 0; s == CX_OK && i < e->n; i++) {
        const char *source = sample_of(r, e, i)->source;
        if (json_object_get(each, source))
            continue;
        json_t *one = json_object();
        json_object_set_new(each, source, one);
        s = figures(r, e, source, x, group, one, err);
    }
    json_object_set_new(j, "per_source", each);
    free(x);
    free(group);
    return s;
}

cx_status cx_results_write_masks(cx_run *r, const cx_eval *val, const cx_eval *test, const cx_eval *external, cx_error *err)
{
    const cx_eval *const side[3] = { val, test, external };
    cx_buf b = { 0 };
    json_t *j = cx_metrics_head(r);
    char *path = cx_run_path(r, "predictions.csv");
    cx_buf_puts(&b, "path,split,group,patient_id,source,dice,iou,boundary_px,truth_px,found_px\n");
    for (int i = 0; i < 3; i++)
        put_rows(r, side[i], &b);
    cx_status s = path && !b.failed ? cx_file_write(path, b.data, b.len, err) : cx_fail(err, CX_E_MEMORY, "out of memory for predictions");
    json_object_set_new(j, "pixels", json_pack("{s:i, s:s}", "side", r->config->data.side, "found", "probability of at least 1/2, no clean-up"));
    for (int i = 0; s == CX_OK && i < 3; i++)
        if (side[i]->n) {
            json_t *one = json_object();
            json_object_set_new(j, cx_split_name((cx_split)(CX_VAL + i)), one);
            s = side_json(r, side[i], one, err);
        }
    cx_buf_free(&b);
    free(path);
    if (s == CX_OK)
        return cx_run_write_json(r, "metrics.json", j, err);
    json_decref(j);
    return s;
}
