/* run_page.h - private to the pages of a run: of one that names classes (run_report.c), also in two stages (run_report_stages.c), and of one that marks pixels
 * (run_report_masks.c). */
#ifndef CX_APP_RUN_PAGE_H
#define CX_APP_RUN_PAGE_H
#include <jansson.h>
#include "cxnet/report.h"
#include "cxnet/train.h"

typedef struct {
    const char *run;
    cx_net net;
    json_t *metrics;
    cx_csv history, predictions;
    cx_report page;
} page;

enum { PAGE_SIDES = 3, PAGE_FIGURES = 16 };                /* validation, test, external; rows of a table of figures, at most */
/* "0.972 (0.962 to 0.981)", or "n/a". */
void page_estimate(const json_t *e, char *out, size_t n);
/* The three sides of metrics.json; NULL where there is none. */
void page_sides(const page *p, const json_t *side[PAGE_SIDES]);
/* A table: one row a figure that the run has (at most PAGE_FIGURES), a column a side. */
typedef struct { const char *key, *name; } page_figure;
void page_figures(page *p, const char *title, const page_figure *shown, int n, const json_t *const side[PAGE_SIDES]);
/* n (at most 4) columns of metrics.csv as curves over epochs. */
void page_curve(page *p, const char *title, const char *y, const char *const *columns, const char *const *names, int n, double lo, double hi);
/* Film of row i of predictions.csv. CX_E_NOINPUT and what cx_film_load says: it is no longer there. */
cx_status page_film(const page *p, int i, cx_film *out, cx_error *err);

/* run_report_masks.c: the body of the page of a segmentation. */
cx_status page_masks(page *p, cx_error *err);
/* run_report_sources.c: says so where a class can be told from the source of a film; else nothing. */
cx_status page_sources(page *p, cx_error *err);
/* run_report_stages.c: what the page of a hierarchy says of its two stages. */
cx_status page_stages(page *p, cx_error *err);
#endif
