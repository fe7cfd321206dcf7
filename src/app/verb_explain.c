/* verb_explain.c - `cxnet explain`: where a trained network looked on films, as overlays, raw maps and a table. Depends on look.h, lung_heat.h. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"
#include "args.h"
#include "film_list.h"
#include "look.h"
#include "lung_heat.h"

#define METHOD_NAMES "gradcam|hirescam"     /* in the order of cx_cam_kind */
static const char *const METHODS[] = { [CX_GRADCAM] = "gradcam", [CX_HIRESCAM] = "hirescam" };
#define SIDES "train|val|test|external"
enum { BATCH = 8, TABLE_CLASSES = 4 };     /* films at a time; classes that the table has columns for */

typedef struct {
    const char *path;         /* of the list */
    bool bad; char *problem;  /* skipped, and why (NULL when memory is out) */
    double *p;                /* [classes] */
    int cls;                  /* the class explained; with --class all, the answer */
    float *map; double top;   /* raw maps and their largest value */
    cx_place place;           /* what the maps are of */
    cx_film_lungs lungs;      /* with --lungs, and */
    double *heat;             /* [maps] share inside them, NaN without heat */
    char *overlay, *npy;      /* files written */
} film_row;

typedef struct {
    cx_net net;
    cx_look look;
    cx_film_list list;
    film_row *films; int n;
    const char *lungs;        /* --lungs, or NULL */
    cx_lung_source source;
    cx_heat_row *rows; cx_heat_mean *means; int n_means;
    int cls;                  /* --class, or -1: the predicted one */
    bool all;                 /* --class all: a map for each class */
    const char *layer;
    cx_cam_kind kind;
    bool fixed, json;
    const char *out;
} job;

/* ---- which films ------------------------------------------------------------------------------------------------------ */

static void forget(film_row *f)
{
    free(f->problem);
    free(f->p);
    free(f->map);
    free(f->heat);
    free(f->overlay);
    free(f->npy);
    cx_film_lungs_free(&f->lungs);
}

static cx_status find_films(job *j, const cx_args *a, int max, cx_error *err)
{
    const char *in = cx_arg(a, "--in"), *side = cx_arg(a, "--side");
    int known;
    TRY(cx_arg_choice(a, "--side", SIDES, 0, &known, err));
    if (in && side)
        return cx_fail(err, CX_E_USAGE, "--in names films, --side those of the run: they exclude each other");
    if (side && !cx_is_dir(a->positional[0]))
        return cx_fail(err, CX_E_USAGE, "--side wants a run, whose films are known; %s is a weight file: name films by --in", a->positional[0]);
    TRY(side ? cx_film_list_of_side(a->positional[0], j->net.config.data.manifest, side, max, &j->list, err) : cx_film_list_of(in, max, &j->list, err));
    if (!(j->films = cx_alloc((size_t)j->list.n, sizeof *j->films)))
        return cx_fail(err, CX_E_MEMORY, "no memory for %d films", j->list.n);
    for (; j->n < j->list.n; j->n++)
        j->films[j->n].path = j->list.path[j->n];
    return CX_OK;
}

/* ---- which class and layer ---------------------------------------------------------------------------------------------- */

static cx_status find_class(job *j, const char *name, cx_error *err)
{
    cx_buf known = { 0 };
    j->cls = -1;
    for (int k = 0; name && k < j->net.n_classes; k++)
        if (strcmp(name, j->net.classes[k]) == 0)
            j->cls = k;
    j->all = name && j->cls < 0 && strcmp(name, "all") == 0;
    for (int k = 0; k < j->net.n_classes; k++)
        cx_buf_printf(&known, "%s\"%s\"", k ? ", " : "", j->net.classes[k]);
    cx_status s = !name || j->all || j->cls >= 0 ? CX_OK : cx_fail(err, CX_E_USAGE, "--class: the network does not know \"%s\"; its classes are %s",
        name, known.data);
    cx_buf_free(&known);
    return s;
}

static bool has_place(const cx_value *v)
{
    return v->kind == CX_ACT && v->shape.h * v->shape.w > 1;
}

static const char *next_layer(const void *graph, int i)
{
    const cx_graph *g = graph;
    for (int v = 0; v < g->n_values; v++)
        if (has_place(&g->values[v]) && i-- == 0)
            return g->values[v].name;
    return NULL;
}

/* Names as many layers as the message holds, the last first: those are the ones that are looked at. */
static cx_status unknown_layer(const cx_graph *g, const char *name, cx_error *err)
{
    cx_buf known = { 0 };
    const char *near = cx_nearest(name, next_layer, g);
    int left = 0;
    for (int v = g->n_values - 1; v >= 0; v--) {
        if (!has_place(&g->values[v]))
            continue;
        if (known.len < 260)
            cx_buf_printf(&known, "%s%s", known.len ? ", " : "", g->values[v].name);
        else
            left++;
    }
    cx_status s = cx_fail(err, CX_E_USAGE, "--layer: the network has no \"%.60s\"%s%s%s; from the last: %s", name, near ? ", did you mean \"" : "",
                          near ? near : "", near ? "\"?" : "", known.data ? known.data : "");
    if (err && left)
        snprintf(err->text + strlen(err->text), sizeof err->text - strlen(err->text), " and %d more", left);
    cx_buf_free(&known);
    return s;
}

static cx_status find_layer(job *j, const char *name, cx_error *err)
{
    const cx_model *m = &cx_net_part(&j->net, 0)->model;
    const int layer = name ? cx_graph_find(m->graph, name) : m->features;
    if (layer < 0)
        return unknown_layer(m->graph, name, err);
    j->layer = m->graph->values[layer].name;
    return CX_OK;
}

/* ---- explaining ----------------------------------------------------------------------------------------------------------- */

static bool is_binary(const job *j)
{
    return strcmp(j->net.config.data.task, "binary") == 0;
}

static int maps_of(const job *j) { return j->all ? j->net.n_classes : 1; }
static size_t map_px(const job *j) { return (size_t)(j->look.w * j->look.h); }

static void skip(film_row *f, const cx_error *why)
{
    f->bad = true;
    f->problem = cx_strdup(why->text);
}

static const char *problem_of(const film_row *f)
{
    return f->problem && f->problem[0] ? f->problem : "no memory";
}

static cx_status find_lungs(job *j, film_row *f, const cx_film *film, const cx_place *place, cx_error *err)
{
    if (!j->lungs)
        return CX_OK;
    if (!(f->heat = cx_alloc((size_t)maps_of(j), sizeof *f->heat)))
        return cx_fail(err, CX_E_MEMORY, "no memory for %d shares of heat", maps_of(j));
    return cx_film_lungs_find(&j->source, film, place, &f->lungs, err);
}

/* Decodes films from *next on until the batch is full. picked [BATCH] says which they are; returns how many. */
static int gather(job *j, int *next, int *picked)
{
    const int side = j->net.config.data.side;
    int n = 0;
    size_t floats = (size_t)side * (size_t)side * (size_t)j->net.norm.channels;
    for (; *next < j->n && n < BATCH; (*next)++) {
        film_row *f = &j->films[*next];
        cx_error why = { 0 };
        cx_film film = { 0 };
        cx_picture seen = { 0 };
        f->p = cx_alloc((size_t)j->net.n_classes, sizeof *f->p);
        f->map = cx_alloc((size_t)maps_of(j) * map_px(j), sizeof *f->map);
        if (f->p && f->map && cx_film_load(f->path, &film, &why) == CX_OK && cx_film_to_input(j->net.pipeline, &film, &j->net.norm,
            j->look.x + (size_t)n * floats, &seen, &why) == CX_OK && find_lungs(j, f, &film, &seen.place, &why) == CX_OK)
            picked[n++] = *next;
        else
            skip(f, &why);
        f->place = seen.place;
        cx_picture_free(&seen);
        cx_film_free(&film);
    }
    return n;
}

/* Map number k of each film of the batch; maps [BATCH]: room. */
static cx_status map_batch(job *j, const int *picked, int n, int k, float *maps, cx_error *err)
{
    const size_t px = map_px(j);
    int cls[BATCH];
    for (int i = 0; i < n; i++)
        cls[i] = j->all ? k : j->films[picked[i]].cls;
    TRY(cx_look_maps(&j->look, cls, maps, err));
    for (int i = 0; i < n; i++) {
        film_row *f = &j->films[picked[i]];
        memcpy(f->map + (size_t)k * px, maps + (size_t)i * px, px * sizeof *maps);
        for (size_t at = 0; at < px; at++)
            f->top = fmax(f->top, (double)maps[(size_t)i * px + at]);
        if (j->lungs)
            f->heat[k] = cx_heat_share(f->map + (size_t)k * px, j->look.w, j->look.h, f->lungs.seen, LUNG_MASK_SIDE);
    }
    return CX_OK;
}

static cx_status explain_batch(job *j, const int *picked, int n, double *p, float *maps, cx_error *err)
{
    const size_t classes = (size_t)j->net.n_classes;
    TRY(cx_look_films(&j->look, n, p, err));
    for (int i = 0; i < n; i++) {
        film_row *f = &j->films[picked[i]];
        memcpy(f->p, p + (size_t)i * classes, classes * sizeof *p);
        f->cls = j->cls >= 0 ? j->cls : cx_net_answer(&j->net, f->p);
    }
    for (int k = 0; k < maps_of(j); k++)
        TRY(map_batch(j, picked, n, k, maps, err));
    return CX_OK;
}

static cx_status explain_all(job *j, cx_error *err)
{
    int next = 0, picked[BATCH];
    TRY(cx_mkdirs(j->out, err));             /* before the work, not behind it */
    TRY(cx_look_new(&j->net, j->layer, j->kind, j->n < BATCH ? j->n : BATCH, &j->look, err));
    float *maps = cx_alloc(BATCH, map_px(j) * sizeof *maps);
    double *p = cx_alloc(BATCH, (size_t)j->net.n_classes * sizeof *p);
    cx_status s = maps && p ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory to explain %d films at a time", BATCH);
    cx_progress progress = { 0 };
    while (s == CX_OK && next < j->n) {
        const int n = gather(j, &next, picked);
        if (n)
            s = explain_batch(j, picked, n, p, maps, err);
        cx_progress_show(&progress, "explaining films: %d of %d", next, j->n);
    }
    cx_progress_end(&progress);
    free(maps);
    free(p);
    return s;
}

/* ---- heat in the lungs ---------------------------------------------------------------------------------------------------------- */

static const char *explained(const job *j, const film_row *f, int k)
{
    return j->net.classes[j->all ? k : f->cls];
}

/* What a film is, where the run knows and it is one thing. */
static const char *label_of(const job *j, int i)
{
    return j->list.label && strcmp(j->net.config.data.task, "multilabel") != 0 ? j->list.label[i] : "";
}

static cx_status weigh_heat(job *j, cx_error *err)
{
    int n = 0;
    if (!(j->rows = cx_alloc((size_t)j->n * (size_t)maps_of(j), sizeof *j->rows)))
        return cx_fail(err, CX_E_MEMORY, "no memory for the heat of %d films", j->n);
    for (int i = 0; i < j->n; i++)
        for (int k = 0; k < maps_of(j) && !j->films[i].bad; k++) {
            const film_row *f = &j->films[i];
            j->rows[n++] = (cx_heat_row){ label_of(j, i), explained(j, f, k), j->list.group ? j->list.group[i] : i, *f->lungs.doubt != 0, f->heat[k],
                                          f->lungs.share };
        }
    return cx_heat_means(j->rows, n, j->net.config.run.bootstrap, (uint64_t)j->net.config.run.seed, &j->means, &j->n_means, err);
}

static cx_status write_heat(const job *j, cx_error *err)
{
    cx_buf b = { 0 };
    char *path = cx_path_join(j->out, "heat.csv");
    cx_buf_puts(&b, "path,label,explained,p,heat_in_lungs,lungs_share,doubt\n");
    for (int i = 0; i < j->n; i++)
        for (int k = 0; k < maps_of(j) && !j->films[i].bad; k++) {
            const film_row *f = &j->films[i];
            cx_csv_put(&b, f->path, false);
            cx_csv_put(&b, label_of(j, i), false);
            cx_csv_put(&b, explained(j, f, k), false);
            cx_buf_printf(&b, "%.9g,", f->p[j->all ? k : f->cls]);
            if (!isnan(f->heat[k]))
                cx_buf_printf(&b, "%.6f", f->heat[k]);
            cx_buf_printf(&b, ",%.6f,%s\n", f->lungs.share, f->lungs.doubt);
        }
    const cx_status s = path && !b.failed ? cx_file_write(path, b.data, b.len, err) : cx_fail(err, CX_E_MEMORY, "no memory for heat.csv");
    cx_buf_free(&b);
    free(path);
    return s;
}

/* Without an interval where there is none: a single patient. */
static void print_estimate(const cx_estimate *e, int wide)
{
    char text[64] = "-";
    if (!isnan(e->lo))
        snprintf(text, sizeof text, "%.3f (%.3f to %.3f)", e->value, e->lo, e->hi);
    else if (!isnan(e->value))
        snprintf(text, sizeof text, "%.3f", e->value);
    printf("%-*s  ", wide, text);
}

static void print_means(const job *j)
{
    int wide[2] = { 9, 5 };
    for (int i = 0; i < j->n_means; i++) {
        wide[0] = (int)strlen(j->means[i].explained) > wide[0] ? (int)strlen(j->means[i].explained) : wide[0];
        wide[1] = (int)strlen(j->means[i].label) > wide[1] ? (int)strlen(j->means[i].label) : wide[1];
    }
    printf("\n%-*s  %-*s  films  heat in the lungs (95 %%)  lungs, of what it saw  left out of both means\n", wide[0], "explained", wide[1], "label");
    for (int i = 0; i < j->n_means; i++) {
        const cx_heat_mean *m = &j->means[i];
        printf("%-*s  %-*s  %5d  ", wide[0], m->explained, wide[1], m->label, m->films);
        print_estimate(&m->heat, 24);
        print_estimate(&m->share, 22);
        printf("%d whose lungs are doubted, %d without heat\n", m->doubtful, m->cold);
    }
    puts("Heat without any preference would lie in the lungs as far as they fill what the network saw.");
}

static json_t *estimate_json(const cx_estimate *e)
{
    return json_pack("{s:o, s:o, s:o}", "value", cx_app_json_number(e->value), "lo", cx_app_json_number(e->lo), "hi", cx_app_json_number(e->hi));
}

static json_t *means_json(const job *j)
{
    json_t *all = json_array();
    for (int i = 0; i < j->n_means; i++) {
        const cx_heat_mean *m = &j->means[i];
        json_array_append_new(all, json_pack("{s:s, s:s, s:i, s:i, s:i, s:o, s:o}", "explained", m->explained, "label", m->label, "films", m->films,
            "doubted", m->doubtful, "no_heat", m->cold, "heat_in_lungs", estimate_json(&m->heat), "lungs_share", estimate_json(&m->share)));
    }
    return all;
}

static void add_heat_json(const job *j, const film_row *f, json_t *film)
{
    json_t *heat = j->all ? json_object() : cx_app_json_number(f->heat[0]);
    for (int k = 0; j->all && k < j->net.n_classes; k++)
        json_object_set_new(heat, j->net.classes[k], cx_app_json_number(f->heat[k]));
    json_object_set_new(film, "heat_in_lungs", heat);
    json_object_set_new(film, "lungs_share", json_real(f->lungs.share));
    json_object_set_new(film, "doubt", json_string(f->lungs.doubt));
}

/* ---- results ------------------------------------------------------------------------------------------------------------------ */

static void caption_of(const job *j, const film_row *f, cx_buf *text)
{
    const cx_net *n = &j->net;
    cx_buf_printf(text, "%s: p = %.3f", n->classes[f->cls], f->p[f->cls]);
    if (is_binary(j))
        cx_buf_printf(text, " (%s from %.3f on)", n->classes[1], n->threshold);
    cx_buf_printf(text, "\n%s of %s, %d x %d; %s", j->kind == CX_HIRESCAM ? "HiResCAM" : "Grad-CAM", j->layer, j->look.w, j->look.h,
                  j->fixed ? "one scale for all films" : "own scale");
    if (j->lungs && *f->lungs.doubt)
        cx_buf_printf(text, "\nthe lungs outlined are to be doubted (%s)", f->lungs.doubt);
    else if (j->lungs && !isnan(f->heat[0]))
        cx_buf_printf(text, "\nin the lungs: %.0f %% of the heat; they fill %.0f %%", 100 * f->heat[0], 100 * f->lungs.share);
}

/* The picture of a film: an overlay, or a contact sheet of all classes. */
static cx_status draw(const job *j, const film_row *f, const cx_film *film, double full, cx_buf *png, cx_error *err)
{
    cx_buf caption = { 0 };
    const cx_outline lungs = { f->lungs.mask, LUNG_MASK_SIDE, LUNG_MASK_SIDE }, *organ = j->lungs ? &lungs : NULL;
    char (*line)[80] = cx_alloc((size_t)j->net.n_classes, sizeof *line);
    const char **lines = cx_alloc((size_t)j->net.n_classes, sizeof *lines);
    for (int k = 0; j->all && line && lines && k < j->net.n_classes; k++) {
        const int n = snprintf(line[k], sizeof *line, "%.30s %.3f", j->net.classes[k], f->p[k]);
        if (j->lungs && *f->lungs.doubt)
            snprintf(line[k] + n, sizeof *line - (size_t)n, "\nlungs doubted");
        else if (j->lungs && !isnan(f->heat[k]))
            snprintf(line[k] + n, sizeof *line - (size_t)n, "\nlungs %.0f of %.0f %%", 100 * f->heat[k], 100 * f->lungs.share);
        lines[k] = line[k];
    }
    caption_of(j, f, &caption);
    cx_status s;
    if (!line || !lines || caption.failed)
        s = cx_fail(err, CX_E_MEMORY, "no memory for a caption");
    else if (j->all)
        s = cx_sheet_png(film, &f->place, organ, f->map, j->net.n_classes, j->look.w, j->look.h, full, lines, png, err);
    else
        s = cx_overlay_png(film, &f->place, organ, f->map, j->look.w, j->look.h, full, caption.data, png, err);
    cx_buf_free(&caption);
    free(line);
    free(lines);
    return s;
}

static cx_status write_film(job *j, film_row *f, int number, double full, cx_error *err)
{
    cx_film film;
    cx_buf png = { 0 };
    char *stem = cx_film_stem(number, f->path), *name = stem ? cx_sprintf("%s.png", stem) : NULL, *raw = stem ? cx_sprintf("%s.npy", stem) : NULL;
    f->overlay = name ? cx_path_join(j->out, name) : NULL;
    f->npy = raw ? cx_path_join(j->out, raw) : NULL;
    free(stem);
    free(name);
    free(raw);
    if (!f->overlay || !f->npy)
        return cx_fail(err, CX_E_MEMORY, "no memory for a file name");
    cx_error why = { 0 };
    if (cx_film_load(f->path, &film, &why) != CX_OK) {       /* it was there a moment ago */
        skip(f, &why);
        return CX_OK;
    }
    cx_status s = draw(j, f, &film, full, &png, err);
    if (s == CX_OK)
        s = cx_file_write(f->overlay, png.data, png.len, err);
    if (s == CX_OK)
        s = cx_npy_write(f->npy, f->map, (const int[]) { j->net.n_classes, j->look.h, j->look.w } + !j->all, 2 + j->all, err);
    cx_film_free(&film);
    cx_buf_free(&png);
    return s;
}

static cx_status write_all(job *j, cx_error *err)
{
    double full = 0;
    for (int i = 0; j->fixed && i < j->n; i++)
        full = fmax(full, j->films[i].top);
    for (int i = 0; i < j->n; i++)
        if (!j->films[i].bad)
            TRY(write_film(j, &j->films[i], i + 1, full, err));
    if (!j->lungs)
        return CX_OK;
    TRY(weigh_heat(j, err));
    return write_heat(j, err);
}

static void print_table(const job *j)
{
    const cx_net *net = &j->net;
    int wide = 4, columns = net->n_classes <= TABLE_CLASSES ? net->n_classes : 0;
    for (int i = 0; i < j->n; i++)
        wide = (int)strlen(j->films[i].path) > wide ? (int)strlen(j->films[i].path) : wide;
    printf("%-*s", wide, "film");
    for (int k = 0; k < columns; k++)
        printf("  %12s", net->classes[k]);
    printf("  %s\n", !columns ? "class and its probability" : j->all ? "answer" : "explained");
    for (int i = 0; i < j->n; i++) {
        const film_row *f = &j->films[i];
        if (f->bad)
            continue;
        printf("%-*s", wide, f->path);
        for (int k = 0; k < columns; k++)
            printf("  %*.3f", (int)strlen(net->classes[k]) > 12 ? (int)strlen(net->classes[k]) : 12, f->p[k]);
        if (columns)
            printf("  %s\n", net->classes[f->cls]);
        else
            printf("  %s %.3f\n", net->classes[f->cls], f->p[f->cls]);
    }
}

static json_t *film_json(const job *j, const film_row *f)
{
    if (f->bad)
        return json_pack("{s:s, s:s}", "path", f->path, "error", problem_of(f));
    json_t *p = json_object();
    for (int k = 0; k < j->net.n_classes; k++)
        json_object_set_new(p, j->net.classes[k], json_real(f->p[k]));
    json_t *film = json_pack("{s:s, s:o, s:s, s:s, s:s, s:f}", "path", f->path, "probability", p, "explained", j->all ? "all" : j->net.classes[f->cls],
                     "overlay", f->overlay, "map", f->npy, "map_max", f->top);
    if (film && j->lungs)
        add_heat_json(j, f, film);
    return film;
}

static cx_status print_json(const job *j, const char *run, cx_error *err)
{
    json_t *films = json_array();
    for (int i = 0; i < j->n; i++)
        json_array_append_new(films, film_json(j, &j->films[i]));
    json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:o}", "run", run, "method", METHODS[j->kind], "layer", j->layer, "scale",
                            j->fixed ? "fixed" : "film", "films", films);
    if (all && j->lungs)
        json_object_set_new(all, "lungs", means_json(j));
    return cx_app_print_json(all, err);
}

static cx_status report(const job *j, const char *run, cx_error *err)
{
    int bad = 0;
    const char *first = NULL;
    for (int i = 0; i < j->n; i++)
        if (j->films[i].bad) {
            bad++;
            first = first ? first : problem_of(&j->films[i]);
            fprintf(stderr, "skipped: %s\n", problem_of(&j->films[i]));
        }
    if (j->json)
        TRY(print_json(j, run, err));
    else if (bad < j->n)
        print_table(j);
    if (!j->json && j->lungs && bad < j->n)
        print_means(j);
    if (bad == j->n)
        return cx_fail(err, CX_E_DATA, "none of %d films could be explained; the first: %s", j->n, first);
    if (!j->json)
        printf("%d of %d film%s explained; pictures and maps are in %s\n", j->n - bad, j->n, j->n == 1 ? "" : "s", j->out);
    return CX_OK;
}

/* ---- the verb -------------------------------------------------------------------------------------------------------------------- */

static cx_status explain(job *j, const cx_args *a, cx_error *err)
{
    const char *run = a->positional[0];
    int max, threads, method, fixed;
    j->out = cx_arg(a, "--out");
    j->json = cx_arg(a, "--json") != NULL;
    j->lungs = cx_arg(a, "--lungs");
    if ((!cx_arg(a, "--in") && !cx_arg(a, "--side")) || !j->out)
        return cx_fail(err, CX_E_USAGE, "explain wants --in FILE|DIR|MANIFEST (or --side, films of the run) and --out DIR: "
                       "cxnet explain %s --in film.png --out explained", run);
    TRY(cx_arg_choice(a, "--method", METHOD_NAMES, CX_GRADCAM, &method, err));
    TRY(cx_arg_choice(a, "--scale", "film|fixed", 0, &fixed, err));
    TRY(cx_arg_int(a, "--max", 0, 1, 1000000, &max, err));
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &threads, err));
    j->fixed = fixed;
    j->kind = (cx_cam_kind)method;
    TRY(cx_net_open(run, cx_arg(a, "--device"), threads, &j->net, err));
    cx_app_note_device(cx_net_part(&j->net, 0)->backend);
    if (!j->net.n_classes)
        return cx_fail(err, CX_E_USAGE, "%s: its network names no class, it marks pixels; look at films by cxnet segment", run);
    TRY(find_class(j, cx_arg(a, "--class"), err));
    TRY(find_layer(j, cx_arg(a, "--layer"), err));
    TRY(find_films(j, a, max, err));
    if (j->json) {
        TRY(cx_app_json_path(run, err));
        TRY(cx_app_json_path(j->out, err));
        TRY(cx_film_list_for_json(&j->list, err));
    }
    if (j->lungs)
        TRY(cx_prefix(err, cx_lung_source_open(j->lungs, threads, &j->source, err), "--lungs"));
    TRY(explain_all(j, err));
    TRY(write_all(j, err));
    return report(j, run, err);
}

static cx_status run_explain(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    job j = { 0 };
    cx_status s = explain(&j, a, err);
    cx_look_free(&j.look);
    for (int i = 0; i < j.n; i++)
        forget(&j.films[i]);
    free(j.films);
    free(j.rows);
    free(j.means);
    cx_film_list_free(&j.list);
    cx_lung_source_close(&j.source);
    cx_net_close(&j.net);
    return s;
}

static const cx_flag flags[] = {
    { "--in", "FILE|DIR|MANIFEST", "a film, a folder of films, or a manifest.csv" },
    { "--side", SIDES, "instead of --in: the films that the run had on this side, with what they are labelled" },
    { "--out", "DIR", "folder for NNNN-film.png (overlay) and NNNN-film.npy (raw map, or a map for each class)" },
    { "--method", METHOD_NAMES, "how to explain: gradcam (Selvaraju et al. 2017), or hirescam (Draelos and Carin 2020), right also at early layers" },
    { "--class", "NAME|all", "class to explain; all: every class, one contact sheet a film; without it, the one that the network answers" },
    { "--layer", "NAME", "layer whose map is weighed; without it, the last convolution" },
    { "--scale", "film|fixed", "full heat is each map's own maximum (film), or the largest of all films (fixed)" },
    { "--lungs", "RUN|WEIGHTS", "a network that marks lungs: outlines them, says what share of the heat lies inside and what they fill (heat.csv, a table)" },
    { "--max", "N", "only the first N films" },
    CX_FLAG_DEVICE("the run's own"),
    { "--threads", "N", "threads of the backend; 0: all cores" },
    { "--json", NULL, "print the table as JSON" },
};

const cx_verb cx_verb_explain = {
    .name = "explain", .args = "RUN|WEIGHTS", .doc = "show where a trained network looked on films", .flags = flags, .n_flags = CX_COUNT(flags),
    .min_args = 1, .max_args = 1, .run = run_explain
};
