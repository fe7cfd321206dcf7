/* run_report.c - the page of a finished run, made from its folder alone. Depends on run_report.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "look.h"
#include "run_page.h"
#include "run_report.h"

/* ---- figures --------------------------------------------------------------------------------------------------- */

static const page_figure shown[] = {
    { "auroc", "AUROC" }, { "auprc", "AUPRC" }, { "accuracy", "accuracy" }, { "f1", "F1" }, { "sensitivity", "sensitivity" }, { "specificity",
        "specificity" },
    { "macro_auroc", "AUROC, mean of classes" }, { "macro_f1", "F1, mean of classes" }, { "brier", "Brier score" }, { "ece", "calibration error (ECE)" },
};

void page_estimate(const json_t *e, char *out, size_t n)
{
    const json_t *v = json_object_get(e, "value"), *lo = json_object_get(e, "lo"), *hi = json_object_get(e, "hi");
    if (!json_is_number(v))
        snprintf(out, n, "n/a");
    else if (!json_is_number(lo) || !json_is_number(hi))
        snprintf(out, n, "%.3f", json_number_value(v));
    else
        snprintf(out, n, "%.3f (%.3f to %.3f)", json_number_value(v), json_number_value(lo), json_number_value(hi));
}

void page_figures(page *p, const char *title, const page_figure *shown, int n, const json_t *const side[PAGE_SIDES])
{
    char text[PAGE_FIGURES][PAGE_SIDES][64];
    const int columns = side[PAGE_SIDES - 1] ? PAGE_SIDES + 1 : PAGE_SIDES;
    const char *cells[(PAGE_SIDES + 1) * (PAGE_FIGURES + 1)] = { "", "validation", "test", "external" };
    int rows = 1;
    for (int i = 0; i < n && rows <= PAGE_FIGURES; i++) {
        if (!json_object_get(side[1], shown[i].key))
            continue;
        cells[columns * rows] = shown[i].name;
        for (int k = 0; k + 1 < columns; k++) {
            page_estimate(json_object_get(side[k], shown[i].key), text[rows - 1][k], sizeof text[0][0]);
            cells[columns * rows + k + 1] = text[rows - 1][k];
        }
        rows++;
    }
    if (rows > 1)
        cx_report_table(&p->page, title, cells, rows, columns);
}

void page_sides(const page *p, const json_t *side[PAGE_SIDES])
{
    static const char *const name[PAGE_SIDES] = { "val", "test", "external" };
    for (int i = 0; i < PAGE_SIDES; i++)
        side[i] = json_object_get(p->metrics, name[i]);
}

static void all_figures(page *p)
{
    const json_t *side[PAGE_SIDES], *one[PAGE_SIDES];
    page_sides(p, side);
    cx_report_heading(&p->page, "Figures");
    page_figures(p, "value (95 % interval)", shown, CX_COUNT(shown), side);
    const json_t *each = json_object_get(side[1], "per_class");
    for (int k = 0; each && k < p->net.n_classes; k++) {
        for (int i = 0; i < PAGE_SIDES; i++)
            one[i] = json_object_get(json_object_get(side[i], "per_class"), p->net.classes[k]);
        page_figures(p, p->net.classes[k], shown, CX_COUNT(shown), one);
    }
    char weights[48] = "the best weights of each stage";
    if (!p->net.stage[0])
        snprintf(weights, sizeof weights, "the weights of epoch %d", (int)json_integer_value(json_object_get(p->metrics, "best_epoch")));
    cx_report_text(&p->page, "Intervals come from a bootstrap over patients and duplicate clusters. %sThe test films were looked at once, with %s.%s",
                   each ? "" : "The threshold was chosen on validation. ", weights,
                   side[2] ? " External films are of sources that took no part in training." : "");
}

static void confusion(page *p)
{
    const json_t *m = json_object_get(json_object_get(p->metrics, "test"), "confusion");
    int k = (int)json_array_size(m);
    int64_t *cells = k == p->net.n_classes ? cx_alloc((size_t)k * (size_t)k, sizeof *cells) : NULL;
    if (!cells)
        return;
    for (int i = 0; i < k * k; i++)
        cells[i] = json_integer_value(json_array_get(json_array_get(m, (size_t)(i / k)), (size_t)(i % k)));
    cx_report_confusion(&p->page, "Test films: truth (rows) against prediction", cells, (const char *const *)p->net.classes, k);
    free(cells);
}

/* ---- curves ---------------------------------------------------------------------------------------------------- */

void page_curve(page *p, const char *title, const char *y, const char *const *columns, const char *const *names, int n, double lo, double hi)
{
    int rows = p->history.rows - 1;
    double *x = cx_alloc((size_t)(rows * (n + 1)), sizeof *x);
    cx_series s[4];
    for (int j = 0; x && j < n; j++) {
        int column = cx_csv_column(&p->history, columns[j]);
        for (int i = 0; i < rows; i++) {
            x[i] = strtod(cx_csv_at(&p->history, i + 1, 0), NULL);
            x[(j + 1) * rows + i] = column < 0 ? NAN : strtod(cx_csv_at(&p->history, i + 1, column), NULL);
        }
        s[j] = (cx_series){ names[j], x, x + (j + 1) * rows, rows };
    }
    if (x)
        cx_report_lines(&p->page, title, "epoch", y, s, n, lo, hi);
    free(x);
}

typedef struct { double p; int y; } scored;
static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->p < y->p ? 1 : x->p > y->p ? -1 : 0;
}

/* ROC of one class against the rest on the test films: one point a distinct score. */
static void roc(page *p, int k)
{
    const cx_csv *csv = &p->predictions;
    char column[300];
    snprintf(column, sizeof column, "p_%s", p->net.classes[k]);
    int at = cx_csv_column(csv, column), truth = cx_csv_column(csv, "target"), split = cx_csv_column(csv, "split"), n = 0, positives = 0, points = 1;
    scored *s = cx_alloc((size_t)csv->rows, sizeof *s);
    double *x = cx_alloc((size_t)csv->rows + 1, sizeof *x), *y = cx_alloc((size_t)csv->rows + 1, sizeof *y);
    for (int i = 1; s && at >= 0 && truth >= 0 && i < csv->rows; i++)
        if (!strcmp(cx_csv_at(csv, i, split), "test")) {
            s[n] = (scored){ strtod(cx_csv_at(csv, i, at), NULL), !strcmp(cx_csv_at(csv, i, truth), p->net.classes[k]) };
            positives += s[n++].y;
        }
    if (s && x && y && positives > 0 && positives < n) {
        qsort(s, (size_t)n, sizeof *s, by_score);
        int tp = 0, fp = 0;
        for (int i = 0; i < n; i++) {
            tp += s[i].y;
            fp += !s[i].y;
            if (i + 1 < n && s[i + 1].p == s[i].p)
                continue;
            x[points] = (double)fp / (n - positives);
            y[points++] = (double)tp / positives;
        }
        const double chance[] = { 0, 1 };
        cx_series lines[] = { { p->net.classes[k], x, y, points }, { "chance", chance, chance, 2 } };
        cx_report_lines(&p->page, "ROC, test films", "1 - specificity", "sensitivity", lines, 2, 0, 1);
    }
    free(s);
    free(x);
    free(y);
}

static void curves(page *p)
{
    cx_report_heading(&p->page, "Training");
    page_curve(p, "Loss", "loss", (const char *[]){ "train_loss", "val_loss" }, (const char *[]){ "training", "validation" }, 2, 0, NAN);
    page_curve(p, "AUROC on validation", "AUROC", (const char *[]){ "val_auroc" }, (const char *[]){ "validation" }, 1, NAN, 1);
}

static void rocs(page *p)
{
    for (int k = p->net.n_classes == 2 ? 1 : 0; k < p->net.n_classes; k++)
        roc(p, k);
}

/* ---- gallery --------------------------------------------------------------------------------------------------- */

/* Rows of predictions.csv to show: test films, taken in turn from each (truth, prediction) pair in file order. Returns how many. */
static int choose(const page *p, int want, int *row)
{
    const cx_csv *csv = &p->predictions;
    int truth = cx_csv_column(csv, "target"), said = cx_csv_column(csv, "predicted"), split = cx_csv_column(csv, "split"), n = 0, k = p->net.n_classes;
    bool *used = cx_alloc((size_t)csv->rows, sizeof *used);
    for (bool found = true; used && found && n < want;) {
        found = false;
        for (int pair = 0; pair < (truth < 0 ? 1 : k * k) && n < want; pair++)
            for (int i = 1; i < csv->rows; i++) {
                if (used[i] || strcmp(cx_csv_at(csv, i, split), "test") || (truth >= 0 && (strcmp(cx_csv_at(csv, i, truth), p->net.classes[pair / k]) ||
                    strcmp(cx_csv_at(csv, i, said), p->net.classes[pair % k]))))
                    continue;
                used[i] = found = true;
                row[n++] = i;
                break;
            }
    }
    free(used);
    return n;
}

/* One film through the network and Grad-CAM, onto the page and into figures/. */
static cx_status picture(page *p, cx_look *l, const cx_film *film, const char *truth, int number, cx_error *err)
{
    cx_net *net = &p->net;
    cx_buf png = { 0 };
    cx_picture seen = { 0 };
    char caption[256], *file = cx_sprintf("%s/figures/cam_%02d.png", p->run, number);
    float *map = cx_alloc((size_t)(l->w * l->h), sizeof *map);
    double *prob = cx_alloc((size_t)net->n_classes, sizeof *prob);
    cx_status s = file && map && prob ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && (s = cx_film_to_input(net->pipeline, film, &net->norm, l->x, &seen, err)) == CX_OK)
        s = cx_look_films(l, 1, prob, err);
    if (s == CX_OK) {
        const int k = cx_net_answer(net, prob);
        s = cx_look_maps(l, &k, map, err);
        snprintf(caption, sizeof caption, "%s %.2f   truth: %s", net->classes[k], prob[k], truth);
    }
    if (s == CX_OK)
        s = cx_overlay_png(film, &seen.place, NULL, map, l->w, l->h, 0, caption, &png, err);
    if (s == CX_OK && (s = cx_file_write(file, png.data, png.len, err)) == CX_OK)
        cx_report_picture(&p->page, png.data, png.len, caption);
    cx_buf_free(&png);
    cx_picture_free(&seen);
    free(file);
    free(map);
    free(prob);
    return s;
}

cx_status page_film(const page *p, int i, cx_film *out, cx_error *err)
{
    const int path = cx_csv_column(&p->predictions, "path");
    char *dir = cx_path_dir(p->net.config.data.manifest), *file = dir ? cx_path_join(dir, cx_csv_at(&p->predictions, i, path)) : NULL;
    const cx_status s = file ? cx_film_load(file, out, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    free(dir);
    free(file);
    return s;
}

/* The pictures of n films, rows of predictions.csv. A film that is no longer there, hours after it was decoded for training, costs its picture only. */
static cx_status pictures(page *p, cx_look *l, const int *row, int n, cx_error *err)
{
    const cx_csv *csv = &p->predictions;
    int truth = cx_csv_column(csv, "target"), labels = cx_csv_column(csv, "labels"), lost = 0;
    cx_error first = { 0 };
    cx_status s = CX_OK;
    cx_report_text(&p->page, "Grad-CAM of the last convolution for the class that was answered, each map scaled to its own maximum. Heat outside the "
                             "lungs, on text, markers or borders means that the network answers from something that is not the disease, however good the "
                             "figures above are.%s",
                   p->net.stage[0] ? " A map comes from the stage that decides on the class: of the first class from stage 1." : "");
    cx_report_gallery_begin(&p->page);
    for (int i = 0; s == CX_OK && i < n; i++) {
        cx_film film = { 0 };
        if (page_film(p, row[i], &film, lost ? NULL : &first) != CX_OK)
            lost++;
        else
            s = picture(p, l, &film, cx_csv_at(csv, row[i], truth < 0 ? labels : truth), i + 1, err);
        cx_film_free(&film);
    }
    cx_report_gallery_end(&p->page);
    if (lost)
        cx_report_text(&p->page, "%d of %d films have no picture, because they cannot be read any more; the first: %s", lost, n, first.text);
    return s;
}

static cx_status gallery(page *p, cx_error *err)
{
    int want = p->net.config.run.explain_films, *row = cx_alloc((size_t)want, sizeof *row);
    char *figures_dir = cx_path_join(p->run, "figures");
    cx_look l = { 0 };
    cx_status s = row && figures_dir ? cx_mkdirs(figures_dir, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    int n = s == CX_OK ? choose(p, want, row) : 0;
    if (s == CX_OK && n) {
        cx_report_heading(&p->page, "Where it looked");
        s = cx_look_new(&p->net, NULL, CX_GRADCAM, 1, &l, err);
        if (s == CX_OK)
            s = pictures(p, &l, row, n, err);
        else if (s == CX_E_USAGE) {         /* a network whose last map is a single pixel: the rest of the page stands without pictures */
            cx_report_text(&p->page, "No heat maps: %s.", err->text);
            s = CX_OK;
        }
    }
    cx_look_free(&l);
    free(row);
    free(figures_dir);
    return s;
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

static cx_status provenance(page *p, cx_error *err)
{
    char *file = cx_path_join(p->run, "manifest.json");
    json_t *j = file ? json_load_file(file, 0, NULL) : NULL;
    free(file);
    if (!j)
        return cx_fail(err, CX_E_NOINPUT, "%s/manifest.json: missing or damaged; train the run again", p->run);
    const char *keys[] = { "version", "commit", "device", "data_manifest", "data_manifest_sha256", "weights_sha256", "written" };
    const char *cells[2 * (CX_COUNT(keys) + 1)] = { "", "" };
    int rows = 1;
    for (int i = 0; i < CX_COUNT(keys); i++) {
        const char *value = json_string_value(json_object_get(j, keys[i]));
        if (!value)                      /* a hierarchy has no network of its own */
            continue;
        cells[2 * rows] = keys[i];
        cells[2 * rows++ + 1] = value;
    }
    cx_report_heading(&p->page, "Provenance");
    cx_report_table(&p->page, "what this run was made from", cells, rows, 2);
    cx_report_text(&p->page, "The exact configuration is config.resolved.yaml beside this page; "
                   "every film's probability is in predictions.csv. Not for clinical use.");
    json_decref(j);
    return CX_OK;
}

static cx_status load(page *p, int threads, cx_error *err)
{
    char *metrics = cx_path_join(p->run, "metrics.json"), *predictions = cx_path_join(p->run, "predictions.csv");
    char *history = cx_path_join(p->run, "metrics.csv");
    cx_status s = metrics && history && predictions ? cx_net_open(p->run, NULL, threads, &p->net, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && !(p->metrics = json_load_file(metrics, 0, NULL)))
        s = cx_fail(err, CX_E_NOINPUT, "%s: missing or damaged; has the run finished? Continue it with cxnet train", metrics);
    if (s == CX_OK && !p->net.stage[0])
        s = cx_csv_load(history, &p->history, err);
    if (s == CX_OK)
        s = cx_csv_load(predictions, &p->predictions, err);
    free(metrics);
    free(history);
    free(predictions);
    return s;
}

cx_status cx_run_report(const char *run, int threads, cx_error *err)
{
    page p = { .run = run };
    char subtitle[256], *path = cx_path_join(run, "report.html");
    cx_status s = path ? load(&p, threads, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK) {
        snprintf(subtitle, sizeof subtitle, "%s%s, %d x %d px, %s", p.net.stage[0] ? "two stages of " : "", p.net.config.model.arch,
                 p.net.config.data.side, p.net.config.data.side, p.net.config.data.manifest);
        cx_report_begin(&p.page, *p.net.config.run.name ? p.net.config.run.name : cx_path_base(run), subtitle);
        if (p.net.n_classes) {
            all_figures(&p);
            confusion(&p);
            s = page_sources(&p, err);
            if (s == CX_OK && p.net.stage[0])
                s = page_stages(&p, err);
            else
                curves(&p);
            rocs(&p);
            if (s == CX_OK)
                s = gallery(&p, err);
        } else {
            s = page_masks(&p, err);
        }
        if (s == CX_OK)
            s = provenance(&p, err);
        if (s == CX_OK)
            s = cx_report_write(&p.page, path, err);
        else
            cx_buf_free(&p.page.html);
    }
    cx_csv_free(&p.history);
    cx_csv_free(&p.predictions);
    json_decref(p.metrics);
    cx_net_close(&p.net);
    free(path);
    return s;
}
