/* evaluate.c - one pass of the present weights over a side of the split. Depends on run.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

void cx_probabilities(cx_task task, int outputs, const float *logits, double *p)
{
    if (task == TASK_BINARY) {
        p[1] = 1 / (1 + exp(-(double)logits[0]));
        p[0] = 1 - p[1];
        return;
    }
    double most = -INFINITY, sum = 0;
    for (int k = 0; k < outputs; k++)
        most = fmax(most, (double)logits[k]);
    for (int k = 0; k < outputs; k++) {
        p[k] = task == TASK_MULTILABEL ? 1 / (1 + exp(-(double)logits[k])) : exp((double)logits[k] - most);
        sum += p[k];
    }
    for (int k = 0; k < outputs && task == TASK_MULTICLASS; k++)
        p[k] /= sum;
}

static double softplus(double z) { return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z)); }

static double mean_of_facts(const cx_eval *e, int fact)
{
    double sum = 0;
    for (int i = 0; i < e->n; i++)
        sum += (double)e->answer[(size_t)i * MASK_FACTS + (size_t)fact];
    return e->n ? sum / e->n : NAN;
}

/* The training loss without smoothing, in double. */
static double mean_loss(const cx_cohort *h, const cx_eval *e)
{
    double sum = 0, weight = 0;
    if (h->task == TASK_SEGMENTATION)
        return mean_of_facts(e, MASK_LOSS);
    for (int i = 0; i < e->n; i++) {
        const float *t = h->target + (size_t)e->film[i] * (size_t)h->n_targets;
        if (h->task == TASK_MULTICLASS) {
            double w = (double)h->loss_weight[(int)t[0]];
            sum -= w * log(fmax(e->p[(size_t)i * (size_t)h->n_classes + (size_t)t[0]], 1e-300));
            weight += w;
            continue;
        }
        const float *z = e->answer + (size_t)i * (size_t)h->outputs;
        for (int j = 0; j < h->n_targets; j++)
            if (t[j] >= 0) {
                double w = (double)h->loss_weight[(t[j] > 0 ? h->n_targets : 0) + j];
                sum += w * softplus(t[j] > 0 ? -(double)z[j] : (double)z[j]);
                weight++;
            }
    }
    return weight > 0 ? sum / weight : NAN;
}

void cx_eval_column(const cx_cohort *h, const cx_eval *e, int k, float *y, double *p)
{
    for (int i = 0; i < e->n; i++) {
        const float *t = h->target + (size_t)e->film[i] * (size_t)h->n_targets;
        y[i] = h->task == TASK_MULTILABEL ? t[k] : (float)((int)t[0] == k);
        p[i] = e->p[(size_t)i * (size_t)h->n_classes + (size_t)k];
    }
}

/* Mean over classes of the one-against-rest AUROC, over the classes where it is defined; of classes[1] alone for binary. */
static double mean_auroc(const cx_cohort *h, const cx_eval *e, float *y, double *p)
{
    double sum = 0;
    int defined = 0;
    for (int k = h->task == TASK_BINARY ? 1 : 0; k < h->n_classes; k++) {
        cx_eval_column(h, e, k, y, p);
        double a = cx_auroc(y, p, e->n);
        sum += isnan(a) ? 0 : a;
        defined += !isnan(a);
    }
    return defined ? sum / defined : NAN;
}

cx_status cx_run_decoded(const cx_run *r, const cx_cohort *h, cx_split side, int **index, int *n, cx_error *err)
{
    int all, kept = 0;
    TRY(cx_cohort_side(h, side, index, &all, err));
    for (int i = 0; i < all; i++)
        if (cx_cache_ok(r->cache, (*index)[i]) && (!r->masks || cx_cache_ok(r->masks, (*index)[i])))
            (*index)[kept++] = (*index)[i];
    *n = kept;
    return CX_OK;
}

cx_status cx_run_side(const cx_run *r, cx_split side, int **index, int *n, cx_error *err)
{
    TRY(cx_run_decoded(r, &r->cohort, side, index, n, err));
    if (*n)
        return CX_OK;
    free(*index);
    *index = NULL;
    return cx_fail(err, CX_E_DATA, "%s: no film of the %s side could be decoded; see log.txt", r->cohort.manifest.path, cx_split_name(side));
}

/* Weights or running statistics that overflowed: no loss, figure or decision made from these logits would mean anything. */
static cx_status check_logits(const cx_run *r, const float *z, size_t n, int film, cx_error *err)
{
    for (size_t j = 0; j < n; j++)
        if (!isfinite(z[j]))
            return cx_fail(err, CX_E_NAN, "%s: the network answers %g in evaluation; lower optim.lr or set optim.clip_norm",
                           r->cohort.manifest.samples[r->cohort.sample[film]].path, (double)z[j]);
    return CX_OK;
}

/* What the logits z [side, side] of one film say of its mask t [side, side], 0 or 1. mask [2, side, side]: room. */
static cx_status judge_mask(const cx_run *r, const float *z, const float *t, uint8_t *mask, float *facts, cx_error *err)
{
    const int side = r->config->data.side;
    const size_t n = (size_t)side * (size_t)side;
    const char *kind = r->config->loss.kind;
    double bce = 0, both = 0, sum = 0;
    cx_mask_score m;
    for (size_t i = 0; i < n; i++) {
        const double p = 1 / (1 + exp(-(double)z[i]));
        bce += softplus(t[i] > 0 ? -(double)z[i] : (double)z[i]);
        both += p * (double)t[i];
        sum += p + (double)t[i];
        mask[i] = t[i] > 0;
        mask[n + i] = z[i] >= 0;
    }
    TRY(cx_mask_compare(mask, mask + n, side, side, &m, err));
    facts[MASK_LOSS] = (float)((strcmp(kind, "dice") ? bce / (double)n : 0) - (strcmp(kind, "bce") ? (2 * both + 1) / (sum + 1) : 0));
    facts[MASK_DICE] = (float)m.dice;
    facts[MASK_IOU] = (float)m.iou;
    facts[MASK_BOUNDARY] = (float)m.boundary;
    facts[MASK_TRUTH] = (float)m.truth;
    facts[MASK_FOUND] = (float)m.found;
    return CX_OK;
}

/* The logits of a batch, and two masks. */
typedef struct { float *z; uint8_t *mask; size_t logits; } pass;

/* From the logits of a batch to what is kept of its films. */
static cx_status keep(const cx_run *r, const pass *p, const cx_batch *b, float *answer, cx_error *err)
{
    for (int i = 0; i < b->n; i++) {
        const float *z = p->z + (size_t)i * p->logits;
        TRY(check_logits(r, z, p->logits, b->film[i], err));
        if (r->masks)
            TRY(judge_mask(r, z, b->t + (size_t)i * p->logits, p->mask, answer + (size_t)i * MASK_FACTS, err));
        else
            memcpy(answer + (size_t)i * p->logits, z, p->logits * sizeof *z);
    }
    return CX_OK;
}

static cx_status run_batch(cx_run *r, const pass *p, const cx_batch *b, float *answer, cx_error *err)
{
    const cx_step_batch batch = cx_run_batch(b);
    TRY(cx_feed_put(r->eval_feed, &batch, b->n, err));
    TRY(cx_plan_forward(r->eval_plan, 0, 0, err));
    TRY(cx_plan_get(r->eval_plan, r->model.logits, p->z, err));
    return keep(r, p, b, answer, err);
}

/* What is kept of a loader's films, until asked to stop; width numbers a film. */
static cx_status predict(cx_run *r, cx_loader *loader, float *answer, size_t width, cx_error *err)
{
    const size_t px = (size_t)cx_cache_side(r->cache) * (size_t)cx_cache_side(r->cache);
    pass p = { .logits = r->masks ? px : (size_t)r->cohort.outputs };
    p.z = cx_alloc((size_t)r->part * p.logits, sizeof *p.z);
    p.mask = cx_alloc(2 * px, 1);
    cx_status s = p.z && p.mask ? cx_loader_start(loader, 0, 0, err) : cx_fail(err, CX_E_MEMORY, "out of memory for a batch of %d films", r->part);
    while (s == CX_OK && !(r->opts->stop && *r->opts->stop)) {
        cx_batch b;
        if ((s = cx_loader_next(loader, &b, err)) != CX_OK || b.n == 0)
            break;
        s = run_batch(r, &p, &b, answer, err);
        answer += (size_t)b.n * width;
    }
    free(p.z);
    free(p.mask);
    return s;
}

/* Each rank looks at the films of its share, a run of `each`; all get the answers of all. */
static cx_status predict_shares(cx_run *r, cx_eval *e, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    const int ranks = cx_comm_ranks(r->comm), each = (e->n + ranks - 1) / ranks, lo = cx_comm_rank(r->comm) * each, left = e->n - lo;
    const size_t share = (size_t)each * (size_t)e->width;
    bool stop;
    cx_loader *loader;
    TRY(cx_loader_new(&(cx_loader_opts){ .cache = r->cache, .index = e->film + (left > 0 ? lo : 0), .n = left > each ? each : left > 0 ? left : 0,
                      .targets = h->target, .n_targets = h->n_targets, .masks = r->masks, .batch = r->part, .norm = r->norm,
                      .give = r->give, .workers = r->config->run.workers }, &loader, err));
    float *mine = cx_alloc(share, sizeof *mine), *all = cx_alloc(share * (size_t)ranks, sizeof *all);
    cx_status s = mine && all ? predict(r, loader, mine, (size_t)e->width, err) : cx_fail(err, CX_E_MEMORY, "out of memory for %d predictions", e->n);
    cx_loader_free(loader);
    stop = r->opts->stop && *r->opts->stop;
    if (s == CX_OK && (s = cx_comm_any(r->comm, &stop, err)) == CX_OK && stop)
        s = cx_fail(err, CX_E_INTERRUPTED, "interrupted during evaluation");
    if (s == CX_OK && r->comm)
        s = r->comm->gather(r->comm, mine, all, share * sizeof *all, err);
    if (s == CX_OK)
        memcpy(e->answer, r->comm ? all : mine, (size_t)e->n * (size_t)e->width * sizeof *all);
    free(mine);
    free(all);
    return s;
}

static void probabilities(const cx_cohort *h, cx_eval *e)
{
    for (int i = 0; i < e->n; i++)
        cx_probabilities(h->task, h->outputs, e->answer + (size_t)i * (size_t)e->width, e->p + (size_t)i * (size_t)h->n_classes);
}

cx_status cx_eval_judge(const cx_cohort *h, cx_eval *e, cx_error *err)
{
    float *y = cx_alloc((size_t)e->n, sizeof *y);
    double *p = cx_alloc((size_t)e->n, sizeof *p);
    const bool room = y && p;
    if (room) {
        e->loss = mean_loss(h, e);
        e->score = h->task == TASK_SEGMENTATION ? mean_of_facts(e, MASK_DICE) : mean_auroc(h, e, y, p);
    }
    free(y);
    free(p);
    return room ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory for %d predictions", e->n);
}

cx_status cx_evaluate_films(cx_run *r, int *film, int n, cx_eval *out, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    *out = (cx_eval){ .n = n, .film = film, .width = r->masks ? MASK_FACTS : h->outputs, .loss = NAN, .score = NAN };
    out->answer = cx_alloc((size_t)n * (size_t)out->width, sizeof *out->answer);
    out->p = cx_alloc((size_t)n * (size_t)h->n_classes, sizeof *out->p);
    cx_status s = out->answer && out->p ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory for %d predictions", n);
    if (s == CX_OK && n)
        s = predict_shares(r, out, err);
    if (s != CX_OK)
        cx_eval_free(out);
    else if (!r->masks)
        probabilities(h, out);
    return s;
}

cx_status cx_evaluate(cx_run *r, cx_split side, cx_eval *out, cx_error *err)
{
    int *film, n;
    memset(out, 0, sizeof *out);
    TRY(cx_run_side(r, side, &film, &n, err));
    TRY(cx_evaluate_films(r, film, n, out, err));
    const cx_status s = cx_eval_judge(&r->cohort, out, err);
    if (s != CX_OK)
        cx_eval_free(out);
    return s;
}

void cx_eval_free(cx_eval *e)
{
    free(e->film);
    free(e->answer);
    free(e->p);
    memset(e, 0, sizeof *e);
}
