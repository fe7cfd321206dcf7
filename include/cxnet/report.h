/* report.h - one self-contained HTML page: no script from elsewhere, no fonts, figures as inline SVG, pictures as data URIs. Depends on base.h. */
#ifndef CXNET_REPORT_H
#define CXNET_REPORT_H
#include "cxnet/base.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct { cx_buf html; } cx_report;
void cx_report_begin(cx_report *r, const char *title, const char *subtitle);
void cx_report_heading(cx_report *r, const char *text);
void cx_report_text(cx_report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));       /* a paragraph, escaped */
/* cells [rows * columns], row 0 is the header (not shown when all its cells are empty). */
void cx_report_table(cx_report *r, const char *caption, const char *const *cells, int rows, int columns);
typedef struct { const char *name; const double *x, *y; int n; } cx_series;
/* Line chart; ranges NaN = from the data. */
void cx_report_lines(cx_report *r, const char *title, const char *x_label, const char *y_label, const cx_series *s, int n, double y_min, double y_max);
typedef struct { const char *name; double value, lo, hi; } cx_bar;       /* lo, hi NaN: no whisker */
void cx_report_bars(cx_report *r, const char *title, const cx_bar *b, int n, double max);
void cx_report_confusion(cx_report *r, const char *title, const int64_t *m, const char *const *names, int k);   /* row = truth */
void cx_report_gallery_begin(cx_report *r);
void cx_report_picture(cx_report *r, const void *png, size_t n, const char *caption);
void cx_report_gallery_end(cx_report *r);
/* Ends the page and writes it atomically. Frees r. */
cx_status cx_report_write(cx_report *r, const char *path, cx_error *err);

#ifdef __cplusplus
}
#endif
#endif
