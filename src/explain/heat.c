/* heat.c - what one does with a map: an overlay picture, its share inside a mask. Depends on hot.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "hot.h"

enum {
    PANEL_PX = 384, SMALLEST_PX = 128,    /* longer side of a panel; shorter side of a very long film */
    GAP_PX = 12, BAR_PX = 14, LABEL_PX = 62, LINE_PX = 22, CAPTION_SCALE = 2
};
static const cx_rgb PAPER = { 18, 18, 22 }, INK = { 235, 235, 235 }, FAINT = { 150, 150, 158 }, ORGAN = { 90, 220, 230 };

/* The caption's lines, broken at '\n' and, where too long, at spaces. Returns their number; draws when c is given. */
static int caption_lines(cx_canvas *c, int x, int y, int width, const char *text)
{
    int per_line = width / cx_text_width_px("m", CAPTION_SCALE), lines = 0;
    char line[256];
    if (per_line > (int)sizeof line - 1)
        per_line = sizeof line - 1;
    while (*text) {
        int n = (int)strcspn(text, "\n"), take = n;
        if (n > per_line) {
            for (take = per_line; take > per_line / 2 && text[take] != ' ';)
                take--;
            if (text[take] != ' ')
                take = per_line;
        }
        memcpy(line, text, (size_t)take);
        line[take] = 0;
        if (c)
            cx_canvas_text(c, x, y + lines * LINE_PX, CAPTION_SCALE, INK, line);
        lines++;
        text += take;
        while (take < n && *text == ' ')
            text++;
        text += *text == '\n';
    }
    return lines;
}

/* What heat looks like at full opacity, with the map's own numbers beside it: a weak map shows as small numbers, not as a red picture of nothing. */
static void scale_bar(cx_canvas *c, int x, int y, int height, double full, double largest)
{
    char text[32];
    for (int i = 0; i < height; i++)
        cx_canvas_rect(c, x, y + i, BAR_PX, 1, cx_inferno(1 - (i + 0.5) / height));
    snprintf(text, sizeof text, "%s%.3g", largest > full * 1.0000001 ? ">=" : "", full);
    cx_canvas_text(c, x + BAR_PX + 4, y, 1, INK, text);
    cx_canvas_text(c, x + BAR_PX + 4, y + height - CX_FONT_HEIGHT_PX, 1, INK, "0");
    int at = full > 0 && largest < full ? y + (int)((1 - largest / full) * height) : y;
    if (at > y + CX_FONT_HEIGHT_PX + 2 && at < y + height - 2 * CX_FONT_HEIGHT_PX - 2) {
        cx_canvas_rect(c, x - 3, at, BAR_PX + 6, 1, INK);
        snprintf(text, sizeof text, "max %.2g", largest);
        cx_canvas_text(c, x + BAR_PX + 4, at - CX_FONT_HEIGHT_PX / 2, 1, FAINT, text);
    }
}

/* In a canvas of its own, which clips what lies beyond the film. */
cx_status cx_hot_film(cx_canvas *c, const cx_film *film, const cx_place *place, const float *heat, int mw, int mh, int x, int y, int w, int h, cx_error *err)
{
    const double across = (double)w / film->width, down = (double)h / film->height;
    const int left = (int)lround(place->x * across), right = (int)lround((place->x + place->width) * across);
    const int top = (int)lround(place->y * down), bottom = (int)lround((place->y + place->height) * down);
    cx_canvas own;
    TRY(cx_canvas_new(w, h, PAPER, &own, err));
    cx_status s = cx_canvas_film(&own, film, 0, 0, w, h, err);
    if (s == CX_OK)
        s = cx_canvas_heat(&own, heat, mw, mh, left, top, right - left, bottom - top, 0.75, err);
    for (int row = 0; s == CX_OK && row < h; row++)
        for (int i = 0; i < w; i++)
            for (int k = 0; k < 3 && (row < top || row >= bottom || i < left || i >= right); k++) {
                uint8_t *px = own.px + 3 * ((size_t)row * (size_t)w + (size_t)i) + k;
                *px = (uint8_t)(*px / 4);       /* the network did not see it: that is not the same as cold */
            }
    for (int row = 0; s == CX_OK && row < h; row++)
        memcpy(c->px + 3 * ((size_t)(y + row) * (size_t)c->width + (size_t)x), own.px + 3 * (size_t)row * (size_t)w, 3 * (size_t)w);
    cx_canvas_free(&own);
    return s;
}

void cx_hot_outline(cx_canvas *c, const cx_outline *organ, int x, int y, int w, int h)
{
    if (organ)
        cx_canvas_outline(c, organ->px, organ->width, organ->height, x, y, w, h, 1, ORGAN);
}

static cx_status draw(cx_canvas *c, const cx_film *film, const cx_place *place, const cx_outline *organ, const float *map, int mw, int mh, double full,
                      double largest, int w, int h, cx_error *err)
{
    float *heat = cx_alloc((size_t)mw * (size_t)mh, sizeof *heat);
    if (!heat)
        return cx_fail(err, CX_E_MEMORY, "no memory for a map of %d x %d", mw, mh);
    for (int i = 0; i < mw * mh; i++)
        heat[i] = full > 0 && map[i] > 0 ? (float)fmin((double)map[i] / full, 1) : 0;
    cx_status s = cx_canvas_film(c, film, GAP_PX, GAP_PX, w, h, err);
    if (s == CX_OK)
        s = cx_hot_film(c, film, place, heat, mw, mh, 2 * GAP_PX + w, GAP_PX, w, h, err);
    free(heat);
    cx_hot_outline(c, organ, GAP_PX, GAP_PX, w, h);
    cx_hot_outline(c, organ, 2 * GAP_PX + w, GAP_PX, w, h);
    if (full > 0 && largest > 0)
        scale_bar(c, 3 * GAP_PX + 2 * w, GAP_PX, h, full, largest);
    else
        cx_canvas_text(c, 3 * GAP_PX + 2 * w, GAP_PX, 1, FAINT, "no heat");
    return s;
}

cx_status cx_overlay_png(const cx_film *film, const cx_place *place, const cx_outline *organ, const float *map, int mw, int mh, double scale,
                         const char *caption, cx_buf *png, cx_error *err)
{
    double k = (double)PANEL_PX / (film->width > film->height ? film->width : film->height), largest = 0;
    int w = (int)fmax(film->width * k + 0.5, SMALLEST_PX), h = (int)fmax(film->height * k + 0.5, SMALLEST_PX), width = 4 * GAP_PX + 2 * w + BAR_PX + LABEL_PX;
    int lines = caption_lines(NULL, 0, 0, width - 2 * GAP_PX, caption);
    cx_canvas c;
    for (int i = 0; i < mw * mh; i++)
        largest = fmax(largest, (double)map[i]);
    const cx_place whole = { 0, 0, film->width, film->height };
    TRY(cx_canvas_new(width, h + 2 * GAP_PX + lines * LINE_PX, PAPER, &c, err));
    cx_status s = draw(&c, film, place ? place : &whole, organ, map, mw, mh, scale > 0 ? scale : largest, largest, w, h, err);
    caption_lines(&c, GAP_PX, h + 2 * GAP_PX - 2, width - 2 * GAP_PX, caption);
    if (s == CX_OK)
        s = cx_png_rgb(&c, png, err);
    cx_canvas_free(&c);
    return s;
}

double cx_heat_share(const float *map, int mw, int mh, const uint8_t *mask, int side)
{
    float *fine = cx_alloc((size_t)side * (size_t)side, sizeof *fine);
    double inside = 0, all = 0;
    if (fine && cx_resize(map, mw, mh, fine, side, side, CX_RESIZE_BILINEAR, NULL) == CX_OK)
        for (int i = 0; i < side * side; i++) {
            double v = fmax((double)fine[i], 0);
            all += v;
            inside += mask[i] ? v : 0;
        }
    free(fine);
    return all > 0 ? inside / all : NAN;
}
