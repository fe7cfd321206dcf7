/* verb_segment.c - `cxnet segment`: the lungs of films as masks, overlays, and a table that says which masks to doubt. Depends on train.h, film_list.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"
#include "cxnet/train.h"
#include "film_list.h"
#include "lungs.h"

enum { OVERLAY_PX = 1024 };
static const cx_rgb FOUND = { 240, 80, 200 };

typedef struct {
    bool bad; char *problem;  /* skipped, and why (NULL when memory is out); not skipped: why its drawn mask is not compared with, or NULL */
    int width, height;        /* px */
    cx_lung_shape lungs;
    bool judged;              /* the manifest has a mask for it */
    cx_mask_score score;
    char *mask, *overlay;     /* files written */
} row;

typedef struct {
    cx_net net;
    cx_segmenter *g;
    cx_film_list films;
    row *rows;
    cx_manifest manifest;     /* where --in is one: samples are the films, in order */
    const char *out;
    bool clean, json;
} job;

/* ---- one film -------------------------------------------------------------------------------------------------------- */

/* Brings the mask that a person drew to the film's size; of other proportions it is a mask of another picture. */
static cx_status truth_of(const row *r, const char *path, uint8_t *truth, cx_error *err)
{
    cx_film film;
    const size_t n = (size_t)r->width * (size_t)r->height;
    TRY(cx_film_load(path, &film, err));
    float *px = cx_alloc((size_t)film.width, (size_t)film.height * sizeof *px), *fine = cx_alloc(n, sizeof *fine);
    cx_status s = px && fine ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", r->width, r->height);
    if (s == CX_OK && !cx_mask_fits(film.width, film.height, r->width, r->height))
        s = cx_fail(err, CX_E_DATA, "%s: %d x %d px is no mask of a film of %d x %d px", path, film.width, film.height, r->width, r->height);
    for (int k = 0; s == CX_OK && k < film.width * film.height; k++)
        px[k] = (float)film.px[k] / (float)film.max;
    if (s == CX_OK)
        s = cx_resize(px, film.width, film.height, fine, r->width, r->height, CX_RESIZE_BILINEAR, err);
    for (size_t k = 0; s == CX_OK && k < n; k++)
        truth[k] = fine[k] >= 0.5f;
    cx_film_free(&film);
    free(px);
    free(fine);
    return s;
}

/* Where a manifest has the mask that a person drew. One that cannot be read costs its comparison only. */
static cx_status judge(const job *j, int i, const uint8_t *mask, cx_error *err)
{
    row *r = &j->rows[i];
    cx_error why = { 0 };
    const char *drawn = j->manifest.samples ? j->manifest.samples[i].mask : "";
    if (!*drawn)
        return CX_OK;
    char *path = cx_path_join(j->manifest.dir, drawn);
    uint8_t *truth = cx_alloc((size_t)r->width, (size_t)r->height);
    cx_status s = path && truth ? truth_of(r, path, truth, &why) : cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", r->width, r->height);
    if (s == CX_OK && (s = cx_mask_compare(truth, mask, r->width, r->height, &r->score, err)) == CX_OK)
        r->judged = true;
    if (s == CX_E_DATA || s == CX_E_NOINPUT) {
        r->problem = cx_strdup(why.text);
        s = CX_OK;
    }
    free(path);
    free(truth);
    return s;
}

/* Writes DIR/STEM-KIND.png from b and frees it. */
static cx_status write_png(const job *j, const char *stem, const char *kind, cx_buf *b, char **file, cx_error *err)
{
    char *name = cx_sprintf("%s-%s.png", stem, kind);
    *file = name ? cx_path_join(j->out, name) : NULL;
    const cx_status s = *file ? cx_file_write(*file, b->data, b->len, err) : cx_fail(err, CX_E_MEMORY, "no memory for a file name");
    free(name);
    cx_buf_free(b);
    return s;
}

static cx_status write_mask(const job *j, row *r, const char *stem, const uint8_t *mask, cx_error *err)
{
    const size_t n = (size_t)r->width * (size_t)r->height;
    uint16_t *px = cx_alloc(n, sizeof *px);
    cx_buf png = { 0 };
    if (!px)
        return cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", r->width, r->height);
    for (size_t k = 0; k < n; k++)
        px[k] = mask[k] ? 255 : 0;
    cx_status s = cx_png_grey(px, r->width, r->height, 255, &png, err);
    free(px);
    if (s != CX_OK) {
        cx_buf_free(&png);
        return s;
    }
    return write_png(j, stem, "mask", &png, &r->mask, err);
}

static cx_status write_overlay(const job *j, row *r, const char *stem, const cx_film *film, const uint8_t *mask, cx_error *err)
{
    const double k = fmin(1, (double)OVERLAY_PX / (film->width > film->height ? film->width : film->height));
    const int w = (int)fmax(film->width * k + 0.5, 1), h = (int)fmax(film->height * k + 0.5, 1), thick = (w < h ? w : h) / 256 + 1;
    cx_canvas c;
    cx_buf png = { 0 };
    TRY(cx_canvas_new(w, h, (cx_rgb){ 0, 0, 0 }, &c, err));
    cx_status s = cx_canvas_film(&c, film, 0, 0, w, h, err);
    if (s == CX_OK) {
        cx_canvas_outline(&c, mask, film->width, film->height, 0, 0, w, h, thick, FOUND);
        s = cx_png_rgb(&c, &png, err);
    }
    cx_canvas_free(&c);
    if (s != CX_OK) {
        cx_buf_free(&png);
        return s;
    }
    return write_png(j, stem, "overlay", &png, &r->overlay, err);
}

static cx_status segment_film(job *j, int i, const cx_film *film, cx_error *err)
{
    row *r = &j->rows[i];
    char *stem = cx_film_stem(i + 1, j->films.path[i]);
    r->width = film->width;
    r->height = film->height;
    uint8_t *mask = cx_alloc((size_t)r->width, (size_t)r->height);
    cx_status s = stem && mask ? cx_segmenter_mask(j->g, film, mask, err)
                               : cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", r->width, r->height);
    if (s == CX_OK)
        s = cx_lung_measure(mask, r->width, r->height, j->clean, &r->lungs, err);
    if (s == CX_OK)
        s = judge(j, i, mask, err);
    if (s == CX_OK)
        s = write_mask(j, r, stem, mask, err);
    if (s == CX_OK)
        s = write_overlay(j, r, stem, film, mask, err);
    free(stem);
    free(mask);
    return s;
}

static cx_status segment_all(job *j, cx_error *err)
{
    cx_progress progress = { 0 };
    cx_status s = cx_mkdirs(j->out, err);
    for (int i = 0; s == CX_OK && i < j->films.n; i++) {
        cx_film film = { 0 };
        cx_error why = { 0 };
        if (cx_film_load(j->films.path[i], &film, &why) != CX_OK) {
            j->rows[i].bad = true;
            j->rows[i].problem = cx_strdup(why.text);
        } else {
            s = cx_prefix(err, segment_film(j, i, &film, err), "%s", j->films.path[i]);
        }
        cx_film_free(&film);
        cx_progress_show(&progress, "segmenting films: %d of %d", i + 1, j->films.n);
    }
    cx_progress_end(&progress);
    return s;
}

/* ---- results ------------------------------------------------------------------------------------------------------------ */

static const char *problem_of(const row *r) { return r->problem && *r->problem ? r->problem : "no memory"; }

static cx_status write_table(const job *j, cx_error *err)
{
    cx_buf b = { 0 };
    char flags[64], *path = cx_path_join(j->out, "segments.csv");
    cx_buf_puts(&b, "path,width,height,area,symmetry,parts,box_x,box_y,box_width,box_height,flags,dice,iou,boundary_px,mask,overlay,problem\n");
    for (int i = 0; i < j->films.n; i++) {
        const row *r = &j->rows[i];
        const cx_lung_shape *l = &r->lungs;
        cx_csv_put(&b, j->films.path[i], false);
        if (r->bad) {
            cx_buf_puts(&b, ",,,,,,,,,,,,,,,");
            cx_csv_put(&b, problem_of(r), true);
            continue;
        }
        cx_lung_flags(&r->lungs, flags);
        cx_buf_printf(&b, "%d,%d,%.4f,%.4f,%d,%d,%d,%d,%d,%s,", r->width, r->height, l->area, l->symmetry, l->parts, l->box.x, l->box.y, l->box.width,
                      l->box.height, flags);
        if (r->judged)
            cx_buf_printf(&b, "%.6f,%.6f,", r->score.dice, r->score.iou);
        else
            cx_buf_puts(&b, ",,");
        if (r->judged && isfinite(r->score.boundary))
            cx_buf_printf(&b, "%.3f", r->score.boundary);
        cx_buf_puts(&b, ",");
        cx_csv_put(&b, cx_path_base(r->mask), false);
        cx_csv_put(&b, cx_path_base(r->overlay), false);
        cx_csv_put(&b, r->problem ? r->problem : "", true);
    }
    const cx_status s = path && !b.failed ? cx_file_write(path, b.data, b.len, err) : cx_fail(err, CX_E_MEMORY, "no memory for segments.csv");
    cx_buf_free(&b);
    free(path);
    return s;
}

static json_t *film_json(const job *j, int i)
{
    const row *r = &j->rows[i];
    const cx_lung_shape *l = &r->lungs;
    char flags[64];
    if (r->bad)
        return json_pack("{s:s, s:s}", "path", j->films.path[i], "error", problem_of(r));
    cx_lung_flags(&r->lungs, flags);
    json_t *o = json_pack("{s:s, s:i, s:i, s:f, s:f, s:i, s:[i, i, i, i], s:s, s:s, s:s}", "path", j->films.path[i], "width", r->width, "height", r->height,
                          "area", l->area, "symmetry", l->symmetry, "parts", l->parts, "box", l->box.x, l->box.y, l->box.width, l->box.height,
                          "flags", flags, "mask", r->mask, "overlay", r->overlay);
    if (o && r->judged) {
        json_object_set_new(o, "dice", json_real(r->score.dice));
        json_object_set_new(o, "iou", json_real(r->score.iou));
        json_object_set_new(o, "boundary_px", cx_app_json_number(r->score.boundary));
    }
    return o;
}

static cx_status print_json(const job *j, cx_error *err)
{
    json_t *films = json_array();
    int failed = 0;
    for (int i = 0; i < j->films.n; i++)
        failed |= json_array_append_new(films, film_json(j, i));
    json_t *all = json_pack("{s:s, s:o}", "out", j->out, "films", films);
    if (!failed)
        return cx_app_print_json(all, err);
    json_decref(all);
    return cx_fail(err, CX_E_MEMORY, "no memory for the JSON document");
}

static void print_table(const job *j)
{
    char flags[64];
    int wide = 4, doubtful = 0, judged = 0;
    double dice = 0;
    for (int i = 0; i < j->films.n; i++)
        wide = (int)strlen(j->films.path[i]) > wide ? (int)strlen(j->films.path[i]) : wide;
    printf("%-*s   area  symmetry  parts  look at it\n", wide, "film");
    for (int i = 0; i < j->films.n; i++) {
        const row *r = &j->rows[i];
        if (r->bad)
            continue;
        cx_lung_flags(&r->lungs, flags);
        doubtful += *flags != 0;
        judged += r->judged;
        dice += r->judged ? r->score.dice : 0;
        printf("%-*s  %5.3f     %5.2f  %5d  %s\n", wide, j->films.path[i], r->lungs.area, r->lungs.symmetry, r->lungs.parts, flags);
    }
    if (judged)
        printf("Dice against the masks of the manifest, mean of %d films at their own size: %.4f\n", judged, dice / judged);
    if (doubtful)
        printf("%d to look at: small, large: share of the film outside %.2f to %.2f; not_two: lungs found; uneven: one below %.2f of the other\n", doubtful,
               LUNG_AREA_LO, LUNG_AREA_HI, LUNG_SYMMETRY_LO);
}

static cx_status report(const job *j, cx_error *err)
{
    int bad = 0;
    const char *first = NULL;
    for (int i = 0; i < j->films.n; i++)
        if (j->rows[i].bad) {
            bad++;
            first = first ? first : problem_of(&j->rows[i]);
            fprintf(stderr, "skipped: %s\n", problem_of(&j->rows[i]));
        } else if (j->rows[i].problem) {
            fprintf(stderr, "not compared: %s\n", j->rows[i].problem);
        }
    TRY(write_table(j, err));
    if (j->json)
        TRY(print_json(j, err));
    else if (bad < j->films.n)
        print_table(j);
    if (bad == j->films.n)
        return cx_fail(err, CX_E_DATA, "none of %d films could be segmented; the first: %s", j->films.n, first);
    if (!j->json)
        printf("%d of %d film%s segmented; masks, overlays and segments.csv are in %s\n", j->films.n - bad, j->films.n, j->films.n == 1 ? "" : "s", j->out);
    return CX_OK;
}

/* ---- the verb ------------------------------------------------------------------------------------------------------------ */

static cx_status segment(job *j, const cx_args *a, cx_error *err)
{
    int max, threads, raw;
    const char *in = cx_arg(a, "--in");
    j->out = cx_arg(a, "--out");
    j->json = cx_arg(a, "--json") != NULL;
    if (!in || !j->out)
        return cx_fail(err, CX_E_USAGE, "segment wants --in FILE|DIR|MANIFEST and --out DIR: cxnet segment %s --in film.png --out lungs", a->positional[0]);
    TRY(cx_arg_choice(a, "--clean-up", "on|off", 0, &raw, err));
    TRY(cx_arg_int(a, "--max", 0, 1, 1000000, &max, err));
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &threads, err));
    j->clean = !raw;
    TRY(cx_net_open(a->positional[0], cx_arg(a, "--device"), threads, &j->net, err));
    cx_app_note_device(j->net.backend);
    TRY(cx_segmenter_new(&j->net, &j->g, err));
    TRY(cx_film_list_of(in, max, &j->films, err));
    if (j->json) {
        TRY(cx_app_json_path(j->out, err));
        TRY(cx_film_list_for_json(&j->films, err));
    }
    if (j->films.manifest)
        TRY(cx_manifest_load(in, &j->manifest, err));
    if (!(j->rows = cx_alloc((size_t)j->films.n, sizeof *j->rows)))
        return cx_fail(err, CX_E_MEMORY, "no memory for %d films", j->films.n);
    TRY(segment_all(j, err));
    return report(j, err);
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    job j = { 0 };
    const cx_status s = segment(&j, a, err);
    for (int i = 0; j.rows && i < j.films.n; i++) {
        free(j.rows[i].problem);
        free(j.rows[i].mask);
        free(j.rows[i].overlay);
    }
    free(j.rows);
    cx_manifest_free(&j.manifest);
    cx_film_list_free(&j.films);
    cx_segmenter_free(j.g);
    cx_net_close(&j.net);
    return s;
}

static const cx_flag flags[] = {
    { "--in", "FILE|DIR|MANIFEST", "a film, a folder of films, or a manifest.csv; a manifest's column mask is compared with" },
    { "--out", "DIR", "folder for NNNN-film-mask.png (0 and 255, the film's size), NNNN-film-overlay.png and segments.csv" },
    { "--clean-up", "on|off", "on: the two largest parts, without holes; off: as the network gives it" },
    { "--max", "N", "only the first N films" },
    CX_FLAG_DEVICE("the run's own"),
    CX_FLAG_THREADS,
    CX_FLAG_JSON,
};
const cx_verb cx_verb_segment = {
    .name = "segment", .args = "RUN|WEIGHTS", .doc = "mark the lungs of films by a trained U-Net", .min_args = 1, .max_args = 1, .run = run,
    .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "The table names masks to look at: too small or too large for lungs, not two of them, or one much smaller than the other, by what 954 masks drawn "
            "by people look like. A mask without a flag can still be wrong.\n"
};
