/* chart.c - line charts and bars as inline SVG that takes its colours from the page's style. Depends on base.h. */
#include "cxnet/report.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 300, LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 44, MARKERS_UP_TO = 40, COLOURS = 8 };

typedef struct { double lo, hi, step; int decimals; } axis;

/* Five or so round ticks: steps 1, 2, 5 times a power of ten. whole: never finer than 1 (epochs). */
static axis ticks(double lo, double hi, bool whole)
{
    double raw = (hi - lo) / 5, power = pow(10, floor(log10(raw))), m = raw / power;
    double step = (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10) * power;
    if (whole && step < 1)
        step = 1;
    int decimals = (int)ceil(-log10(step) - 1e-9);
    return (axis){ lo, hi, step, decimals < 0 ? 0 : decimals };
}

static void tick_text(cx_buf *b, const axis *a, double v)
{
    if (fabs(v) < a->step * 1e-6)
        v = 0;                                   /* not "-0.0" */
    if (a->decimals > 6 || fabs(v) >= 1e7)
        cx_buf_printf(b, "%.3g", v);
    else
        cx_buf_printf(b, "%.*f", a->decimals, v);
}

static bool drawn(const cx_series *s, int i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

typedef struct { double x_lo, x_hi, y_lo, y_hi; bool any, whole; } extent;

static extent measure(const cx_series *s, int n)
{
    extent e = { DBL_MAX, -DBL_MAX, DBL_MAX, -DBL_MAX, false, true };
    for (int k = 0; k < n; k++)
        for (int i = 0; i < s[k].n; i++) {
            if (!drawn(&s[k], i))
                continue;
            e.x_lo = fmin(e.x_lo, s[k].x[i]);
            e.x_hi = fmax(e.x_hi, s[k].x[i]);
            e.y_lo = fmin(e.y_lo, s[k].y[i]);
            e.y_hi = fmax(e.y_hi, s[k].y[i]);
            e.whole = e.whole && s[k].x[i] == floor(s[k].x[i]);
            e.any = true;
        }
    return e;
}

/* A range of no width cannot carry a scale. */
static void widen(double *lo, double *hi)
{
    double least = fmax(fabs(*lo), fabs(*hi)) * 1e-9;
    if (*hi - *lo > least && *hi - *lo > DBL_MIN * 1e10)
        return;
    double by = *lo != 0 ? fabs(*lo) * 0.1 : 0.5;
    *lo -= by;
    *hi += by;
}

static double place(double v, const axis *a, double from, double to)
{
    return from + (v - a->lo) / (a->hi - a->lo) * (to - from);
}

static void grid(cx_buf *b, const axis *x, const axis *y, const char *x_label, const char *y_label)
{
    int x0 = LEFT, x1 = WIDTH - RIGHT, y0 = HEIGHT - BOTTOM, y1 = TOP;
    for (int i = 0; i < 20; i++) {
        double v = (ceil(y->lo / y->step - 1e-9) + i) * y->step;
        if (v > y->hi + y->step * 1e-9)
            break;
        double at = place(v, y, y0, y1);
        cx_buf_printf(b, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.2f\" y2=\"%.2f\"/>", x0, x1, at, at);
        cx_buf_printf(b, "<text x=\"%d\" y=\"%.2f\" text-anchor=\"end\">", x0 - 8, at + 4);
        tick_text(b, y, v);
        cx_buf_puts(b, "</text>\n");
    }
    for (int i = 0; i < 20; i++) {
        double v = (ceil(x->lo / x->step - 1e-9) + i) * x->step;
        if (v > x->hi + x->step * 1e-9)
            break;
        double at = place(v, x, x0, x1);
        cx_buf_printf(b, "<line class=\"axis\" x1=\"%.2f\" x2=\"%.2f\" y1=\"%d\" y2=\"%d\"/>", at, at, y0, y0 + 4);
        cx_buf_printf(b, "<text x=\"%.2f\" y=\"%d\" text-anchor=\"middle\">", at, y0 + 18);
        tick_text(b, x, v);
        cx_buf_puts(b, "</text>\n");
    }
    cx_buf_printf(b, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", x0, x1, y0, y0);
    cx_buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (x0 + x1) / 2, HEIGHT - 6);
    cx_buf_html(b, x_label);
    cx_buf_printf(b, "</text>\n<text transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">", (y0 + y1) / 2);
    cx_buf_html(b, y_label);
    cx_buf_puts(b, "</text>\n");
}

/* One path that is lifted at points that are not finite; a point between two of them would be invisible, so it gets a dot.
 * Coordinates are those of the inner svg, which clips. */
static void curve(cx_buf *b, const cx_series *s, int colour, const axis *x, const axis *y)
{
    double w = WIDTH - LEFT - RIGHT, h = HEIGHT - TOP - BOTTOM;
    bool pen = false;
    cx_buf_printf(b, "<path class=\"line\" style=\"stroke:var(--c%d)\" d=\"", colour);
    for (int i = 0; i < s->n; i++) {
        if (drawn(s, i))
            cx_buf_printf(b, "%c%.2f %.2f", pen ? 'L' : 'M', place(s->x[i], x, 0, w), place(s->y[i], y, h, 0));
        pen = drawn(s, i);
    }
    cx_buf_puts(b, "\"/>\n");
    for (int i = 0; i < s->n; i++) {
        bool alone = (i == 0 || !drawn(s, i - 1)) && (i + 1 == s->n || !drawn(s, i + 1));
        if (drawn(s, i) && (alone || s->n <= MARKERS_UP_TO))
            cx_buf_printf(b, "<circle r=\"2.6\" style=\"fill:var(--c%d)\" cx=\"%.2f\" cy=\"%.2f\"/>\n",
                          colour, place(s->x[i], x, 0, w), place(s->y[i], y, h, 0));
    }
}

static void caption(cx_buf *b, const char *title)
{
    cx_buf_puts(b, "<figure><figcaption>");
    cx_buf_html(b, title);
    cx_buf_puts(b, "</figcaption>\n");
}

static void legend(cx_buf *b, const cx_series *s, int n)
{
    cx_buf_puts(b, "<ul class=\"legend\">");
    for (int k = 0; k < n; k++) {
        cx_buf_printf(b, "<li><i style=\"background:var(--c%d)\"></i>", k % COLOURS);
        cx_buf_html(b, s[k].name);
        cx_buf_puts(b, "</li>");
    }
    cx_buf_puts(b, "</ul>\n");
}

static void open_svg(cx_buf *b, int width, int height, const char *label)
{
    cx_buf_printf(b, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width, height);
    cx_buf_html(b, label);
    cx_buf_puts(b, "\">\n");
}

void cx_report_lines(cx_report *r, const char *title, const char *x_label, const char *y_label, const cx_series *s, int n, double y_min, double y_max)
{
    cx_buf *b = &r->html;
    extent e = measure(s, n);
    if (!e.any)
        e = (extent){ 0, 1, 0, 1, false, false };
    widen(&e.x_lo, &e.x_hi);
    widen(&e.y_lo, &e.y_hi);
    double margin = 0.05 * (e.y_hi - e.y_lo);
    e.y_lo = isfinite(y_min) ? y_min : e.y_lo - margin;
    e.y_hi = isfinite(y_max) ? y_max : e.y_hi + margin;
    if (e.y_hi < e.y_lo)
        e.y_hi = e.y_lo;
    widen(&e.y_lo, &e.y_hi);
    axis x = ticks(e.x_lo, e.x_hi, e.any && e.whole), y = ticks(e.y_lo, e.y_hi, false);
    caption(b, title);
    open_svg(b, WIDTH, HEIGHT, title);
    grid(b, &x, &y, x_label, y_label);
    int w = WIDTH - LEFT - RIGHT, h = HEIGHT - TOP - BOTTOM;
    /* Clips what lies outside of given limits, 4 px beyond the plot so that a dot on its edge stays whole. */
    cx_buf_printf(b, "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"-4 -4 %d %d\">\n", LEFT - 4, TOP - 4, w + 8, h + 8, w + 8, h + 8);
    for (int k = 0; k < n; k++)
        curve(b, &s[k], k % COLOURS, &x, &y);
    cx_buf_puts(b, "</svg>\n");
    if (!e.any)
        cx_buf_printf(b, "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">no data</text>\n", LEFT + w / 2, TOP + h / 2);
    cx_buf_puts(b, "</svg>\n");
    if (n > 0)
        legend(b, s, n);
    cx_buf_puts(b, "</figure>\n");
}

/* Where bars begin: right of the longest name at 7 px a character (12 px text), and never so far that no bar is left. */
static int bars_from(const cx_bar *bars, int n)
{
    int from = 190;
    for (int i = 0; i < n; i++) {
        int want = 7 * (int)strlen(bars[i].name) + 20;
        from = want > from ? want : from;
    }
    return from < 400 ? from : 400;
}

static void bar(cx_buf *b, const cx_bar *bar, int row, int from, double max)
{
    enum { TO = WIDTH - 170, ROW = 30 };
    double y = ROW * row + ROW / 2.0, scale = (TO - from) / max;
    double to = isfinite(bar->value) ? fmin(fmax(bar->value, 0), max) * scale : 0;
    cx_buf_printf(b, "<text class=\"name\" x=\"%d\" y=\"%.2f\" text-anchor=\"end\">", from - 12, y + 4);
    cx_buf_html(b, bar->name);
    cx_buf_printf(b, "</text><rect class=\"track\" x=\"%d\" y=\"%.2f\" width=\"%d\" height=\"16\" rx=\"2\"/>", from, y - 8, TO - from);
    cx_buf_printf(b, "<rect style=\"fill:var(--c0)\" x=\"%d\" y=\"%.2f\" width=\"%.2f\" height=\"16\" rx=\"2\"/>", from, y - 8, to);
    bool whisker = isfinite(bar->lo) && isfinite(bar->hi) && isfinite(bar->value);
    if (whisker) {
        double x0 = from + fmin(fmax(bar->lo, 0), max) * scale, x1 = from + fmin(fmax(bar->hi, 0), max) * scale;
        cx_buf_printf(b, "<path class=\"whisker\" d=\"M%.2f %.2fH%.2fM%.2f %.2fv10M%.2f %.2fv10\" fill=\"none\"/>", x0, y, x1, x0, y - 5, x1, y - 5);
    }
    cx_buf_printf(b, "<text class=\"name\" x=\"%d\" y=\"%.2f\">", TO + 12, y + 4);
    if (!isfinite(bar->value))
        cx_buf_puts(b, "n/a");
    else if (whisker)
        cx_buf_printf(b, "%.3g (%.3g to %.3g)", bar->value, bar->lo, bar->hi);
    else
        cx_buf_printf(b, "%.3g", bar->value);
    cx_buf_puts(b, "</text>\n");
}

void cx_report_bars(cx_report *r, const char *title, const cx_bar *bars, int n, double max)
{
    cx_buf *b = &r->html;
    if (!isfinite(max) || max <= 0) {
        max = 0;
        for (int i = 0; i < n; i++) {
            max = isfinite(bars[i].value) ? fmax(max, bars[i].value) : max;
            max = isfinite(bars[i].hi) ? fmax(max, bars[i].hi) : max;
        }
        max = max > 0 ? max : 1;
    }
    caption(b, title);
    open_svg(b, WIDTH, n > 0 ? 30 * n : 30, title);
    if (n == 0)
        cx_buf_puts(b, "<text class=\"name\" x=\"8\" y=\"19\">no data</text>\n");
    int from = bars_from(bars, n);
    for (int i = 0; i < n; i++)
        bar(b, &bars[i], i, from, max);
    cx_buf_puts(b, "</svg>\n</figure>\n");
}
