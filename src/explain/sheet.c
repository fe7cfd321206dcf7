/* sheet.c - one film and its maps for several classes, side by side. Depends on hot.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "hot.h"

enum { PANEL_PX = 224, SMALLEST_PX = 64, GAP_PX = 12, LINE_PX = CX_FONT_HEIGHT_PX + 4, ACROSS = 5 };
static const cx_rgb PAPER = { 18, 18, 22 }, INK = { 235, 235, 235 }, FAINT = { 150, 150, 158 };

/* How large the film is in each panel, and the part of it that maps are of. */
typedef struct { int w, h; cx_place place; const cx_outline *organ; } panel;
static int left_of(const panel *p, int i) { return GAP_PX + i % ACROSS * (p->w + GAP_PX); }
static int top_of(const panel *p, int i) { return GAP_PX + i / ACROSS * (p->h + 2 * LINE_PX + GAP_PX); }

static cx_status draw_map(cx_canvas *c, const panel *p, const cx_film *film, const float *map, int mw, int mh, double scale, int at, const char *caption,
                          cx_error *err)
{
    const int x = left_of(p, at), y = top_of(p, at);
    char text[96], head[96];
    const int line = (int)strcspn(caption, "\n");
    double largest = 0;
    float *heat = cx_alloc((size_t)mw * (size_t)mh, sizeof *heat);
    if (!heat)
        return cx_fail(err, CX_E_MEMORY, "no memory for a map of %d x %d", mw, mh);
    for (int i = 0; i < mw * mh; i++)
        largest = fmax(largest, (double)map[i]);
    const double full = scale > 0 ? scale : largest;
    for (int i = 0; i < mw * mh; i++)
        heat[i] = full > 0 && map[i] > 0 ? (float)fmin((double)map[i] / full, 1) : 0;
    const cx_status s = cx_hot_film(c, film, &p->place, heat, mw, mh, x, y, p->w, p->h, err);
    free(heat);
    cx_hot_outline(c, p->organ, x, y, p->w, p->h);
    snprintf(head, sizeof head, "%.*s", line, caption);
    cx_canvas_text(c, x, y + p->h + 4, 1, INK, head);
    snprintf(text, sizeof text, largest > 0 ? "largest %.3g%s%s" : "no heat", largest, caption[line] ? ", " : "", caption[line] ? caption + line + 1 : "");
    cx_canvas_text(c, x, y + p->h + 4 + LINE_PX, 1, FAINT, text);
    return s;
}

cx_status cx_sheet_png(const cx_film *film, const cx_place *place, const cx_outline *organ, const float *maps, int n, int mw, int mh, double scale,
                       const char *const *captions, cx_buf *png, cx_error *err)
{
    const double k = (double)PANEL_PX / (film->width > film->height ? film->width : film->height);
    const panel p = { (int)fmax(film->width * k + 0.5, SMALLEST_PX), (int)fmax(film->height * k + 0.5, SMALLEST_PX),
                      place ? *place : (cx_place){ 0, 0, film->width, film->height }, organ };
    const int across = n + 1 < ACROSS ? n + 1 : ACROSS;
    cx_canvas c;
    TRY(cx_canvas_new(left_of(&p, across - 1) + p.w + GAP_PX, top_of(&p, n) + p.h + 2 * LINE_PX + GAP_PX, PAPER, &c, err));
    cx_status s = cx_canvas_film(&c, film, left_of(&p, 0), top_of(&p, 0), p.w, p.h, err);
    cx_hot_outline(&c, organ, left_of(&p, 0), top_of(&p, 0), p.w, p.h);
    for (int i = 0; s == CX_OK && i < n; i++)
        s = draw_map(&c, &p, film, maps + (size_t)i * (size_t)(mw * mh), mw, mh, scale, i + 1, captions[i], err);
    if (s == CX_OK)
        s = cx_png_rgb(&c, png, err);
    cx_canvas_free(&c);
    return s;
}
