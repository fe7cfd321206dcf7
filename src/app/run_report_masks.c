/* run_report_masks.c - the body of the page of a segmentation: overlap and outlines by side and source, curves, films with both outlines. Depends on
 * run_page.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run_page.h"

enum { PICTURE_PX = 320, GAP_PX = 6, LINE_PX = 12, THICK_PX = 2 };
static const page_figure FIGURES[] = { { "dice", "Dice" }, { "iou", "IoU" }, { "boundary_px", "distance of the outlines, px" } };
static const cx_rgb PAPER = { 250, 250, 250 }, INK = { 40, 40, 40 }, TRUTH = { 64, 200, 96 }, FOUND = { 240, 80, 200 };

static void figures(page *p)
{
    const json_t *side[PAGE_SIDES], *one;
    const char *source;
    page_sides(p, side);
    cx_report_heading(&p->page, "Figures");
    page_figures(p, "mean over films (95 % interval)", FIGURES, CX_COUNT(FIGURES), side);
    for (int i = 1; i < PAGE_SIDES; i++)
        json_object_foreach(json_object_get(side[i], "per_source"), source, one) {
            char title[200], text[CX_COUNT(FIGURES)][64];
            const char *cells[2 * (CX_COUNT(FIGURES) + 1)] = { "", "" };
            snprintf(title, sizeof title, "%s films of %s: %lld", i == 1 ? "test" : "external", source,
                     (long long)json_integer_value(json_object_get(one, "films")));
            for (int k = 0; k < CX_COUNT(FIGURES); k++) {
                page_estimate(json_object_get(one, FIGURES[k].key), text[k], sizeof text[k]);
                cells[2 * k + 2] = FIGURES[k].name;
                cells[2 * k + 3] = text[k];
            }
            cx_report_table(&p->page, title, cells, CX_COUNT(FIGURES) + 1, 2);
        }
    cx_report_text(&p->page, "At the working size of %d x %d px, a pixel belonging to the organ from a probability of 1/2 on, without clean-up. The distance "
                   "is the mean from each pixel of either outline to the nearest of the other. Intervals come from a bootstrap over patients and duplicate "
                   "clusters. The test films were looked at once, with the weights of epoch %d.%s", p->net.config.data.side, p->net.config.data.side,
                   (int)json_integer_value(json_object_get(p->metrics, "best_epoch")),
                   side[2] ? " External films are of sources that took no part in training; their masks may follow another definition." : "");
}

typedef struct { double dice; int row; } ranked;

static int by_dice(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->dice != y->dice)
        return x->dice < y->dice ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Rows of predictions.csv to show: of the films of one side the worst, the best, and those between at equal ranks. Returns how many. */
static int choose(const page *p, const char *side, int want, int *row)
{
    const cx_csv *csv = &p->predictions;
    const int split = cx_csv_column(csv, "split"), dice = cx_csv_column(csv, "dice");
    ranked *r = cx_alloc((size_t)csv->rows, sizeof *r);
    int n = 0;
    for (int i = 1; r && split >= 0 && dice >= 0 && i < csv->rows; i++)
        if (!strcmp(cx_csv_at(csv, i, split), side))
            r[n++] = (ranked){ strtod(cx_csv_at(csv, i, dice), NULL), i };
    if (n)
        qsort(r, (size_t)n, sizeof *r, by_dice);
    want = want < n ? want : n;
    for (int i = 0; i < want; i++)
        row[i] = r[want > 1 ? (int)((int64_t)i * (n - 1) / (want - 1)) : 0].row;
    free(r);
    return want;
}

/* The mask that a person drew, by the manifest's own row of this film. */
static cx_status truth_of(const page *p, const cx_manifest *m, int row, cx_film *out, cx_error *err)
{
    const char *path = cx_csv_at(&p->predictions, row, cx_csv_column(&p->predictions, "path"));
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->samples[i].path, path)) {
            char *file = cx_path_join(m->dir, m->samples[i].mask);
            const cx_status s = file ? cx_film_load(file, out, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
            free(file);
            return s;
        }
    return cx_fail(err, CX_E_NOINPUT, "%s: not in %s any more", path, m->path);
}

/* A film with both outlines and a caption. */
static cx_status draw(const cx_film *film, const cx_film *truth, const uint8_t *found, const char *caption, cx_buf *png, cx_error *err)
{
    const double k = (double)PICTURE_PX / (film->width > film->height ? film->width : film->height);
    const int w = (int)fmax(film->width * k + 0.5, 1), h = (int)fmax(film->height * k + 0.5, 1);
    const size_t n = (size_t)truth->width * (size_t)truth->height;
    uint8_t *drawn = cx_alloc(n, 1);
    cx_canvas c = { 0 };
    cx_status s = drawn ? cx_canvas_new(w, h + GAP_PX + LINE_PX, PAPER, &c, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK)
        s = cx_canvas_film(&c, film, 0, 0, w, h, err);
    if (s == CX_OK) {
        for (size_t i = 0; i < n; i++)
            drawn[i] = truth->px[i] > truth->max / 2;
        cx_canvas_outline(&c, drawn, truth->width, truth->height, 0, 0, w, h, THICK_PX, TRUTH);
        cx_canvas_outline(&c, found, film->width, film->height, 0, 0, w, h, 1, FOUND);
        cx_canvas_text(&c, 0, h + GAP_PX, 1, INK, caption);
        s = cx_png_rgb(&c, png, err);
    }
    cx_canvas_free(&c);
    free(drawn);
    return s;
}

static cx_status picture(page *p, cx_segmenter *g, const cx_manifest *m, int row, const char *file, cx_error *err)
{
    const cx_csv *csv = &p->predictions;
    cx_film film = { 0 }, truth = { 0 };
    cx_buf png = { 0 };
    char caption[128];
    snprintf(caption, sizeof caption, "Dice %.3f  %.60s", strtod(cx_csv_at(csv, row, cx_csv_column(csv, "dice")), NULL),
             cx_path_base(cx_csv_at(csv, row, cx_csv_column(csv, "path"))));
    cx_status s = page_film(p, row, &film, err);
    if (s == CX_OK)
        s = truth_of(p, m, row, &truth, err);
    uint8_t *found = s == CX_OK ? cx_alloc((size_t)film.width * (size_t)film.height, 1) : NULL;
    if (s == CX_OK)
        s = found ? cx_segmenter_mask(g, &film, found, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && (s = draw(&film, &truth, found, caption, &png, err)) == CX_OK && (s = cx_file_write(file, png.data, png.len, err)) == CX_OK)
        cx_report_picture(&p->page, png.data, png.len, caption);
    cx_buf_free(&png);
    cx_film_free(&film);
    cx_film_free(&truth);
    free(found);
    return s;
}

static cx_status gallery(page *p, cx_segmenter *g, const cx_manifest *m, const char *side, cx_error *err)
{
    const int want = p->net.config.run.explain_films;
    int *row = cx_alloc((size_t)want, sizeof *row);
    if (!row)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    const int n = choose(p, side, want, row);
    cx_status s = CX_OK;
    if (n) {
        cx_report_heading(&p->page, !strcmp(side, "test") ? "Test films, from the worst to the best" : "External films, from the worst to the best");
        cx_report_text(&p->page, "Green: as a person drew it. Magenta: as the network found it.");
        cx_report_gallery_begin(&p->page);
    }
    for (int i = 0; s == CX_OK && i < n; i++) {
        char *file = cx_sprintf("%s/figures/%s_%02d.png", p->run, side, i + 1);
        s = file ? picture(p, g, m, row[i], file, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
        if (s == CX_E_NOINPUT || s == CX_E_DATA) {         /* gone since it was decoded for training: it costs its picture only */
            cx_report_text(&p->page, "No picture: %s.", err->text);
            s = CX_OK;
        }
        free(file);
    }
    if (n)
        cx_report_gallery_end(&p->page);
    free(row);
    return s;
}

cx_status page_masks(page *p, cx_error *err)
{
    cx_segmenter *g = NULL;
    cx_manifest m;
    char *dir = cx_path_join(p->run, "figures");
    figures(p);
    cx_report_heading(&p->page, "Training");
    page_curve(p, "Loss", "loss", (const char *[]){ "train_loss", "val_loss" }, (const char *[]){ "training", "validation" }, 2, NAN, NAN);
    page_curve(p, "Dice on validation", "Dice", (const char *[]){ "val_dice" }, (const char *[]){ "validation" }, 1, NAN, 1);
    cx_status s = dir ? cx_mkdirs(dir, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && (s = cx_manifest_load(p->net.config.data.manifest, &m, err)) == CX_OK) {
        s = cx_segmenter_new(&p->net, &g, err);
        if (s == CX_OK && (s = gallery(p, g, &m, "test", err)) == CX_OK)
            s = gallery(p, g, &m, "external", err);
        cx_segmenter_free(g);
        cx_manifest_free(&m);
    }
    free(dir);
    return s;
}
