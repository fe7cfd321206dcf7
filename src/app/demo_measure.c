/* demo_measure.c - the demo's cohorts, trainings and figures: who scores what on which films, and on what the heat falls. Depends on demo.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"
#include "demo.h"

enum { BATCH = 16, DRAWS = 1000 };
static const double MARKER_BIAS = 1.0, EXPOSURE_BIAS = 0.25;
/* The last layer of the base CNN sees 2 x 2 places at the demo's size, too coarse to tell a marker from a lung; the second has 26 x 26. Between it and
 * the logit stand a flattening and dense layers, so that each place has weights of its own: Grad-CAM, which averages them, hardly sees a marker there,
 * HiResCAM does. */
static const char LAYER[] = "relu2";

static const char *const NAME[DEMO_VERSIONS] = { "shortcut", "broken" };

/* ---- cohorts and trainings --------------------------------------------------------------------------------------------- */

cx_status demo_make_cohorts(demo *d, cx_error *err)
{
    for (int v = 0; v < DEMO_VERSIONS; v++) {
        cx_synth_opts o = { d->size.patients, d->size.side, d->seed, v == DEMO_SHORTCUT ? MARKER_BIAS : 0, v == DEMO_SHORTCUT ? EXPOSURE_BIAS : 0 };
        d->dir[v] = cx_sprintf("%s/cohort-%s", d->out, NAME[v]);
        if (!d->dir[v])
            return cx_fail(err, CX_E_MEMORY, "no memory for a path");
        TRY(cx_synth_make(&o, &d->cohort[v], err));
        TRY(cx_synth_write(&d->cohort[v], d->dir[v], err));
    }
    return CX_OK;
}

/* The experiment as settings of `cxnet train`, so that the run's config.resolved.yaml repeats it. */
static cx_status configure(const demo *d, demo_version v, cx_config *c, cx_error *err)
{
    cx_status s = CX_OK;
    /* Without a warm-up and clipping, the ten units of a dense layer can all die in the first steps, and nothing is learned. */
    char *set[] = {
        cx_sprintf("run.name=%s", NAME[v]), cx_sprintf("run.dir=%s/runs", d->out), cx_sprintf("run.seed=%d", (int)d->seed),
        cx_sprintf("run.threads=%d", d->threads), cx_sprintf("run.device=%s", d->device), cx_sprintf("data.manifest=%s/manifest.csv", d->dir[v]),
        cx_sprintf("data.cache=%s/cache", d->out),
        cx_sprintf("data.side=%d", d->size.side), cx_sprintf("optim.epochs=%d", d->size.epochs), cx_strdup("data.classes=[No Finding, Opacity]"),
         cx_strdup("data.val=0.15"), cx_strdup("data.test=0.30"),
        /* the films are drawn: no two are copies, and decoding all of them to learn that would cost time */
        cx_strdup("data.near_duplicates=false"), cx_strdup("optim.batch=16"), cx_strdup("optim.lr=0.0006"), cx_strdup("early_stop.patience=0"),
        cx_strdup("augment.rotate_deg=4"), cx_strdup("augment.shift=0.03"), cx_strdup("augment.zoom=0.05"), cx_strdup("augment.brightness=0.05"),
        cx_strdup("augment.contrast=0.1"), cx_strdup("schedule.kind=cosine"), cx_strdup("schedule.warmup_epochs=2"), cx_strdup("optim.clip_norm=1") };
    for (int k = 0; k < CX_COUNT(set); k++)
        if (!set[k])
            s = cx_fail(err, CX_E_MEMORY, "no memory for the demo's configuration");
    if (s == CX_OK)
        s = cx_config_load(NULL, set, CX_COUNT(set), c, err);
    for (int k = 0; k < CX_COUNT(set); k++)
        free(set[k]);
    return s;
}

cx_status demo_train(demo *d, demo_version v, cx_error *err)
{
    cx_config c;
    demo_net *n = &d->net[v];
    TRY(configure(d, v, &c, err));
    const cx_run_opts o = { .resume = CX_RESUME_NEVER, .on_device = v == DEMO_SHORTCUT ? cx_app_on_device : NULL };
    cx_status s = cx_run_train(&c, &o, n->dir, sizeof n->dir, err);
    cx_config_free(&c);
    TRY(s);
    char *path = cx_path_join(n->dir, "metrics.csv");
    s = path ? cx_csv_load(path, &n->history, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
    free(path);
    return s;
}

/* ---- the test side ---------------------------------------------------------------------------------------------------------- */

/* Film number of "films/0123.png" when the row is of the test side, else -1. */
static int test_film(const cx_csv *csv, int row, int path, int split, int films)
{
    int film = -1;
    if (strcmp(cx_csv_at(csv, row, split), "test") != 0 || sscanf(cx_csv_at(csv, row, path), "films/%d.png", &film) != 1)
        return -1;
    return film >= 0 && film < films ? film : -1;
}

static cx_status read_test_side(demo *d, cx_error *err)
{
    char *path = cx_path_join(d->net[DEMO_SHORTCUT].dir, "predictions.csv");
    cx_csv csv = { 0 };
    const cx_synth *s = &d->cohort[DEMO_SHORTCUT];
    cx_status status = path ? cx_csv_load(path, &csv, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
    size_t n = (size_t)s->n;
    if (status == CX_OK && (!(d->test = cx_alloc(n, sizeof(int))) || !(d->truth = cx_alloc(n, sizeof(float))) || !(d->group = cx_alloc(n, sizeof(int)))))
        status = cx_fail(err, CX_E_MEMORY, "no memory for the test films");
    if (status == CX_OK) {
        int file = cx_csv_column(&csv, "path"), split = cx_csv_column(&csv, "split");
        for (int row = 1; row < csv.rows && file >= 0 && split >= 0; row++) {
            int film = test_film(&csv, row, file, split, s->n);
            if (film < 0)
                continue;
            d->test[d->n_test] = film;
            d->truth[d->n_test] = (float)s->label[film];
            d->group[d->n_test++] = s->patient[film];
        }
        if (d->n_test == 0)
            status = cx_fail(err, CX_E_INTERNAL, "%s: no film of the test side", path);
    }
    cx_csv_free(&csv);
    free(path);
    return status;
}

/* ---- scores and maps ----------------------------------------------------------------------------------------------------------- */

/* Probabilities of one version of the test films; with `map` also their maps, of the explainer's kind. */
static cx_status look(const demo *d, const cx_net *net, cx_explainer *e, demo_version v, double *p, float *map, cx_error *err)
{
    int side = d->size.side;
    size_t px = (size_t)side * (size_t)side, values = px * (size_t)net->norm.channels, cells = (size_t)(cx_explainer_width(e) * cx_explainer_height(e));
    int cls[BATCH] = { 0 };
    float logit[BATCH], *x = cx_alloc(BATCH * values, sizeof *x), *maps = cx_alloc(BATCH * cells, sizeof *maps);
    cx_status s = x && maps ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %d films", BATCH);
    for (int from = 0; from < d->n_test && s == CX_OK; from += BATCH) {
        int n = d->n_test - from < BATCH ? d->n_test - from : BATCH;
        for (int k = 0; k < n; k++)
            cx_augment_film(d->cohort[v].film + (size_t)d->test[from + k] * px, side, NULL, 0, 0, 0, &net->norm, x + (size_t)k * values);
        s = cx_gradcam(e, x, n, cls, NULL, maps, logit, err);
        for (int k = 0; k < n && s == CX_OK; k++)
            p[from + k] = 1 / (1 + exp(-(double)logit[k]));
        if (map && s == CX_OK)
            memcpy(map + (size_t)from * cells, maps, (size_t)n * cells * sizeof *map);
    }
    free(x);
    free(maps);
    return s;
}

static cx_status score(demo *d, demo_net *n, const cx_net *net, cx_explainer *e, cx_error *err)
{
    n->width = cx_explainer_width(e);
    n->height = cx_explainer_height(e);
    for (int v = 0; v < DEMO_VERSIONS; v++) {
        demo_score *s = &n->score[v];
        s->p = cx_alloc((size_t)d->n_test, sizeof *s->p);
        if (!s->p)
            return cx_fail(err, CX_E_MEMORY, "no memory for %d probabilities", d->n_test);
        TRY(look(d, net, e, (demo_version)v, s->p, NULL, err));
        TRY(cx_metrics_binary(d->truth, s->p, d->group, d->n_test, net->threshold, DRAWS, d->seed, &s->m, err));
    }
    for (int kind = 0; kind < DEMO_KINDS; kind++) {
        n->map[kind] = cx_alloc((size_t)d->n_test * (size_t)(n->width * n->height), sizeof(float));
        if (!n->map[kind])
            return cx_fail(err, CX_E_MEMORY, "no memory for the maps of %d films", d->n_test);
        cx_explainer_kind(e, (cx_cam_kind)kind);
        TRY(look(d, net, e, DEMO_SHORTCUT, n->score[DEMO_SHORTCUT].p, n->map[kind], err));
    }
    return CX_OK;
}

static cx_status score_net(demo *d, demo_net *n, cx_error *err)
{
    cx_net net;
    cx_explainer *e = NULL;
    TRY(cx_net_open(n->dir, NULL, d->threads, &net, err));
    int layer = cx_graph_find(net.model.graph, LAYER);
    cx_status s = layer >= 0 ? cx_explainer_new(&net.model, net.store, layer, BATCH, &e, err)
                             : cx_fail(err, CX_E_INTERNAL, "the base CNN has no layer %s", LAYER);
    if (s == CX_OK)
        s = score(d, n, &net, e, err);
    cx_explainer_free(e);
    cx_net_close(&net);
    return s;
}

/* ---- heat ---------------------------------------------------------------------------------------------------------------------- */

static const uint8_t *film_mask(const demo *d, const uint8_t *masks, int i)
{
    return masks + (size_t)d->test[i] * (size_t)d->size.side * (size_t)d->size.side;
}

bool demo_has_heat(const demo *d, int i)
{
    const uint8_t *marker = film_mask(d, d->cohort[DEMO_SHORTCUT].marker, i);
    return d->truth[i] > 0 && memchr(marker, 255, (size_t)d->size.side * (size_t)d->size.side) != NULL;
}

/* Lungs, marker and the rest as three masks that do not overlap: where a marker lies over a lung it counts as marker. mask [DEMO_PLACES, side, side]. */
static void places(const demo *d, int i, uint8_t *mask, double *area)
{
    size_t px = (size_t)d->size.side * (size_t)d->size.side;
    const uint8_t *lung = film_mask(d, d->cohort[DEMO_SHORTCUT].lung, i), *marker = film_mask(d, d->cohort[DEMO_SHORTCUT].marker, i);
    memset(mask, 0, DEMO_PLACES * px);
    for (size_t k = 0; k < px; k++) {
        int place = marker[k] ? DEMO_MARKER : lung[k] ? DEMO_LUNGS : DEMO_ELSEWHERE;
        mask[(size_t)place * px + k] = 1;
        area[place] += 1.0 / (double)px;
    }
}

/* Adds one map's shares; false for a map without heat, which has none. */
static bool add_heat(const demo_net *n, int kind, int i, const uint8_t *mask, int side, double *heat)
{
    const float *map = n->map[kind] + (size_t)i * (size_t)(n->width * n->height);
    if (isnan(cx_heat_share(map, n->width, n->height, mask, side)))
        return false;
    for (int place = 0; place < DEMO_PLACES; place++)
        heat[place] += cx_heat_share(map, n->width, n->height, mask + (size_t)place * (size_t)side * (size_t)side, side);
    return true;
}

static cx_status measure_heat(demo *d, cx_error *err)
{
    int side = d->size.side, counted[DEMO_VERSIONS][DEMO_KINDS] = { 0 };
    size_t px = (size_t)side * (size_t)side;
    uint8_t *mask = cx_alloc(DEMO_PLACES, px);
    if (!mask)
        return cx_fail(err, CX_E_MEMORY, "no memory for masks of %d px", side);
    for (int i = 0; i < d->n_test; i++) {
        if (!demo_has_heat(d, i))
            continue;
        places(d, i, mask, d->area);
        d->n_heat++;
        for (int v = 0; v < DEMO_VERSIONS; v++)
            for (int kind = 0; kind < DEMO_KINDS; kind++)
                counted[v][kind] += add_heat(&d->net[v], kind, i, mask, side, d->net[v].heat[kind]);
    }
    free(mask);
    for (int place = 0; place < DEMO_PLACES; place++) {
        d->area[place] /= d->n_heat;
        for (int v = 0; v < DEMO_VERSIONS; v++)
            for (int kind = 0; kind < DEMO_KINDS; kind++)
                d->net[v].heat[kind][place] /= counted[v][kind];
    }
    return CX_OK;
}

cx_status demo_measure(demo *d, cx_error *err)
{
    TRY(read_test_side(d, err));
    for (int v = 0; v < DEMO_VERSIONS; v++)
        TRY(score_net(d, &d->net[v], err));
    return measure_heat(d, err);
}
