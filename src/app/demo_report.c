/* demo_report.c - the demo's page: the lesson, the scores, where the heat falls, the same films seen by both networks. Depends on demo.h, report.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/report.h"
#include "demo.h"

enum { PANEL_PX = 224, GAP_PX = 6, BAR_PX = 18 };
static const char *const NET[DEMO_VERSIONS] = { "shortcut net", "honest net" };
static const char *const FILMS[DEMO_VERSIONS] = { "with marker", "marker broken" };
static const char *const CLASS[2] = { "No Finding", "Opacity" };

static double auroc(const demo *d, int net, int films) { return d->net[net].score[films].m.auroc.value; }

void demo_lesson(const demo *d, cx_buf *out)
{
    const demo_net *s = &d->net[DEMO_SHORTCUT], *h = &d->net[DEMO_BROKEN];
    double own = auroc(d, DEMO_SHORTCUT, DEMO_SHORTCUT), fair = auroc(d, DEMO_SHORTCUT, DEMO_BROKEN), honest = auroc(d, DEMO_BROKEN, DEMO_BROKEN);
    bool fell = own - fair > 0.05, outdone = honest > fair, marked = s->heat[CX_HIRESCAM][DEMO_MARKER] > 1.5 * h->heat[CX_HIRESCAM][DEMO_MARKER];
    cx_buf_printf(out, "The network that was trained where ill films carry a marker has an AUROC of %.2f on films like its own and of %.2f on the same films "
                  "when the marker means nothing; %.0f %% of its heat lies on the marker, which is %.1f %% of the film. ",
                  own, fair, 100 * s->heat[CX_HIRESCAM][DEMO_MARKER], 100 * d->area[DEMO_MARKER]);
    cx_buf_printf(out, "The network trained on the same patients with the marker broken reaches %.2f there with %.0f %% of its heat in the lungs "
                  "and %.0f %% on the marker: ",
                  honest, 100 * h->heat[CX_HIRESCAM][DEMO_LUNGS], 100 * h->heat[CX_HIRESCAM][DEMO_MARKER]);
    if (fell && outdone && marked)
        cx_buf_puts(out, "a good score on films like those it was trained on does not say what a network has learned, and the heat map does.");
    else if (fell && outdone)
        cx_buf_puts(out, "a good score on films like those it was trained on does not say what a network has learned; these heat maps do not show it either.");
    else
        cx_buf_puts(out, "with this seed and size the shortcut did no measurable harm, so this run teaches nothing; try another seed or the full demo.");
}

/* ---- figures ----------------------------------------------------------------------------------------------------------------- */

static void scores(const demo *d, cx_report *r)
{
    enum { ROWS = 5, COLUMNS = 5 };
    char name[4][64], text[4][4][48];
    const char *cell[ROWS * COLUMNS] = { "network, test films", "AUROC (95 % interval)", "accuracy", "sensitivity", "specificity" };
    cx_bar bar[4];
    for (int k = 0; k < 4; k++) {
        const cx_binary_metrics *m = &d->net[k / 2].score[k % 2].m;
        snprintf(name[k], sizeof name[k], "%s, %s", NET[k / 2], FILMS[k % 2]);
        bar[k] = (cx_bar){ name[k], m->auroc.value, m->auroc.lo, m->auroc.hi };
        snprintf(text[k][0], sizeof text[k][0], "%.3f (%.3f to %.3f)", m->auroc.value, m->auroc.lo, m->auroc.hi);
        snprintf(text[k][1], sizeof text[k][1], "%.2f", m->accuracy.value);
        snprintf(text[k][2], sizeof text[k][2], "%.2f", m->sensitivity.value);
        snprintf(text[k][3], sizeof text[k][3], "%.2f", m->specificity.value);
        cell[(k + 1) * COLUMNS] = name[k];
        for (int c = 0; c < 4; c++)
            cell[(k + 1) * COLUMNS + c + 1] = text[k][c];
    }
    cx_report_heading(r, "What the networks score");
    cx_report_bars(r, "Test AUROC (95 % interval)", bar, 4, 1);
    cx_report_table(r, "thresholds chosen on each network's own validation films", cell, ROWS, COLUMNS);
    cx_report_text(r, "The shortcut net was trained where every ill film carries a marker, the honest net on the same patients with markers and exposures "
                   "drawn by a coin. All figures are of the same %d test films of other patients, in these two versions: \"with marker\" as the shortcut net "
                   "knows it, \"marker broken\" by the coin. Intervals come from a bootstrap over patients.", d->n_test);
}

static void confusions(const demo *d, cx_report *r)
{
    for (int k = 0; k < 4; k++) {
        const cx_binary_metrics *m = &d->net[k / 2].score[k % 2].m;
        char title[96];
        snprintf(title, sizeof title, "%s, %s", NET[k / 2], FILMS[k % 2]);
        cx_report_confusion(r, title, (const int64_t[]){ m->tn, m->fp, m->fn, m->tp }, CLASS, 2);
    }
}

static void heat(const demo *d, cx_report *r)
{
    enum { COLUMNS = DEMO_PLACES + 1, ROWS = 6 };
    static const char *const name[ROWS] = { "", "shortcut net, Grad-CAM", "shortcut net, HiResCAM", "honest net, Grad-CAM",
                                            "honest net, HiResCAM", "area of the film" };
    char text[ROWS][DEMO_PLACES][16];
    const char *cell[ROWS * COLUMNS] = { "", "lungs", "marker", "elsewhere" };
    for (int row = 1; row < ROWS; row++) {
        cell[row * COLUMNS] = name[row];
        for (int p = 0; p < DEMO_PLACES; p++) {
            double share = row == ROWS - 1 ? d->area[p] : d->net[(row - 1) / DEMO_KINDS].heat[(row - 1) % DEMO_KINDS][p];
            snprintf(text[row][p], sizeof text[row][p], "%.1f %%", 100 * share);
            cell[row * COLUMNS + p + 1] = text[row][p];
        }
    }
    cx_report_heading(r, "Where they look");
    cx_report_table(r, "mean share of heat", cell, ROWS, COLUMNS);
    cx_report_text(r, "Over the %d ill test films that carry a marker, both networks looking at the same picture. Lung and marker masks are exact, "
                   "since the films are drawn. Heat is that of the logit at the second convolution, %d x %d places. Behind it this network flattens and "
                   "has dense layers, so each place has weights of its own: Grad-CAM, which averages the gradient over the film, can hide what HiResCAM "
                   "(Draelos and Carin 2020), which multiplies place by place, shows. The pictures below are HiResCAM.",
                   d->n_heat, d->net[0].width, d->net[0].height);
}

static double number(const cx_csv *csv, int row, const char *column)
{
    int c = cx_csv_column(csv, column);
    const char *text = c < 0 ? "" : cx_csv_at(csv, row, c);
    return *text ? strtod(text, NULL) : NAN;
}

static void curves(const demo *d, cx_report *r)
{
    static const char *const column[2] = { "val_auroc", "train_loss" }, *const title[2] = { "Validation AUROC", "Training loss" };
    int rows[DEMO_VERSIONS] = { d->net[0].history.rows - 1, d->net[1].history.rows - 1 };
    cx_report_heading(r, "How they learned");
    for (int k = 0; k < 2; k++) {
        double *x[DEMO_VERSIONS], *y[DEMO_VERSIONS];
        cx_series series[DEMO_VERSIONS];
        bool ok = true;
        for (int v = 0; v < DEMO_VERSIONS; v++) {
            x[v] = cx_alloc((size_t)rows[v], sizeof(double));
            y[v] = cx_alloc((size_t)rows[v], sizeof(double));
            ok = ok && x[v] && y[v];
            for (int i = 0; i < rows[v] && x[v] && y[v]; i++) {
                x[v][i] = number(&d->net[v].history, i + 1, "epoch");
                y[v][i] = number(&d->net[v].history, i + 1, column[k]);
            }
            series[v] = (cx_series){ NET[v], x[v], y[v], rows[v] };
        }
        if (ok)
            cx_report_lines(r, title[k], "epoch", title[k], series, DEMO_VERSIONS, k ? 0 : NAN, k ? NAN : 1);
        for (int v = 0; v < DEMO_VERSIONS; v++) {
            free(x[v]);
            free(y[v]);
        }
    }
    cx_report_text(r, "Each curve is of the network's own validation films: by them, the shortcut net looks like the better one.");
}

/* ---- gallery ------------------------------------------------------------------------------------------------------------------- */

static float peak_of(const float *map, int n)
{
    float peak = 0;
    for (int i = 0; i < n; i++)
        peak = map[i] > peak ? map[i] : peak;
    return peak;
}

static cx_status draw_heat(const demo *d, int net, int i, cx_canvas *c, int x, cx_error *err)
{
    const demo_net *n = &d->net[net];
    int cells = n->width * n->height;
    const float *map = n->map[CX_HIRESCAM] + (size_t)i * (size_t)cells;
    float peak = peak_of(map, cells), *scaled = cx_alloc((size_t)cells, sizeof *scaled);
    if (!scaled)
        return cx_fail(err, CX_E_MEMORY, "no memory for a map");
    for (int k = 0; k < cells && peak > 0; k++)
        scaled[k] = map[k] > 0 ? map[k] / peak : 0;
    cx_status s = cx_canvas_heat(c, scaled, n->width, n->height, x, BAR_PX, PANEL_PX, PANEL_PX, 0.75, err);
    free(scaled);
    return s;
}

/* Three panels: the film, and the film as each network sees it. */
static cx_status draw_film(const demo *d, int i, cx_buf *png, cx_error *err)
{
    const char *const title[3] = { "film", NET[DEMO_SHORTCUT], NET[DEMO_BROKEN] };
    size_t px = (size_t)d->size.side * (size_t)d->size.side;
    const uint8_t *grey = d->cohort[DEMO_SHORTCUT].film + (size_t)d->test[i] * px;
    cx_film film = { .width = d->size.side, .height = d->size.side, .max = 255, .px = cx_alloc(px, sizeof(uint16_t)) };
    cx_canvas c = { 0 };
    cx_status s = film.px ? cx_canvas_new(3 * PANEL_PX + 2 * GAP_PX, BAR_PX + PANEL_PX, (cx_rgb){ 20, 20, 22 }, &c, err)
                          : cx_fail(err, CX_E_MEMORY, "no memory for a film");
    for (size_t k = 0; k < px && film.px; k++)
        film.px[k] = grey[k];
    for (int panel = 0; panel < 3 && s == CX_OK; panel++) {
        int x = panel * (PANEL_PX + GAP_PX);
        cx_canvas_text(&c, x + 2, 5, 1, (cx_rgb){ 220, 220, 220 }, title[panel]);
        s = cx_canvas_film(&c, &film, x, BAR_PX, PANEL_PX, PANEL_PX, err);
        if (s == CX_OK && panel)
            s = draw_heat(d, panel - 1, i, &c, x, err);
    }
    if (s == CX_OK)
        s = cx_png_rgb(&c, png, err);
    cx_canvas_free(&c);
    cx_film_free(&film);
    return s;
}

static cx_status gallery(const demo *d, cx_report *r, cx_error *err)
{
    int shown = 0, patient = -1;
    cx_status s = CX_OK;
    cx_report_heading(r, "The same films, seen by both");
    cx_report_gallery_begin(r);
    for (int i = 0; i < d->n_test && shown < d->size.shown && s == CX_OK; i++) {
        cx_buf png = { 0 };
        char caption[160];
        if (!demo_has_heat(d, i) || d->group[i] == patient)      /* one film a patient */
            continue;
        patient = d->group[i];
        s = draw_film(d, i, &png, err);
        snprintf(caption, sizeof caption, "film %04d, opacities and a marker. Probability of opacities: shortcut net %.2f, honest net %.2f. "
                 "Marker broken: %.2f, %.2f",
                 d->test[i], d->net[0].score[0].p[i], d->net[1].score[0].p[i], d->net[0].score[1].p[i], d->net[1].score[1].p[i]);
        if (s == CX_OK)
            cx_report_picture(r, png.data, png.len, caption);
        cx_buf_free(&png);
        shown++;
    }
    cx_report_gallery_end(r);
    cx_report_text(r, "Bright is where the evidence for opacities comes from; every map is scaled to its own maximum. The films are the first of the test "
                   "side, one a patient, not chosen.");
    return s;
}

cx_status demo_report(const demo *d, cx_error *err)
{
    cx_report r = { 0 };
    cx_buf lesson = { 0 };
    char *path = cx_path_join(d->out, "report.html");
    demo_lesson(d, &lesson);
    cx_report_begin(&r, "Right for the wrong reason", "cxnet demo: two networks, one cohort of invented chest films, one planted shortcut");
    cx_report_text(&r, "%s", lesson.data ? lesson.data : "");
    scores(d, &r);
    heat(d, &r);
    cx_status s = path ? gallery(d, &r, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
    confusions(d, &r);
    curves(d, &r);
    cx_report_heading(&r, "How it was made");
    cx_report_text(&r, "%d invented patients, %d films of %d x %d px, half of the patients with faint peripheral opacities; seed %llu. In the shortcut "
                   "cohort every ill film and no healthy one carries a burned-in marker, and ill films tend to be darker; in the broken cohort a coin decides "
                   "both. Both networks are the base CNN with the same configuration, kept with weights, predictions and a report each in %s/runs; "
                   "the films lie in %s and %s. Made in %.0f s. "
                   "Nothing here is of a real person, and none of it is for clinical use.",
                   d->size.patients, d->cohort[0].n, d->size.side, d->size.side, (unsigned long long)d->seed, d->out, d->dir[0], d->dir[1], d->seconds);
    if (s == CX_OK)
        s = cx_report_write(&r, path, err);
    else
        cx_buf_free(&r.html);
    cx_buf_free(&lesson);
    free(path);
    return s;
}
