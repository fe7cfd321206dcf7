/* canvas.c - an 8-bit RGB picture to draw films, heat and bars on. Depends on image.h. */
#include <math.h>
#include <stdlib.h>
#include "cxnet/image.h"

cx_status cx_canvas_new(int width, int height, cx_rgb fill, cx_canvas *out, cx_error *err)
{
    *out = (cx_canvas) { 0 };
    if (width < 1 || height < 1 || (int64_t)width * height > (int64_t)1 << 28)
        return cx_fail(err, CX_E_SHAPE, "a canvas of %d x %d px; wanted at least 1 px a side and at most 2^28 px", width, height);
    uint8_t *px = cx_alloc((size_t)width * (size_t)height, 3);
    if (!px)
        return cx_fail(err, CX_E_MEMORY, "no memory for a canvas of %d x %d px", width, height);
    *out = (cx_canvas) { width, height, px };
    cx_canvas_rect(out, 0, 0, width, height, fill);
    return CX_OK;
}

void cx_canvas_free(cx_canvas *c)
{
    free(c->px);
    *c = (cx_canvas) { 0 };
}

/* The part of x .. x+n that lies inside 0 .. limit. */
static void clip(int64_t x, int64_t n, int limit, int *from, int *to)
{
    int64_t lo = x < 0 ? 0 : x, hi = x + n > limit ? limit : x + n;
    *from = (int)(lo < limit ? lo : limit);
    *to = (int)(hi > *from ? hi : *from);
}

void cx_canvas_rect(cx_canvas *c, int x, int y, int w, int h, cx_rgb colour)
{
    int x0, x1, y0, y1;
    clip(x, w, c->width, &x0, &x1);
    clip(y, h, c->height, &y0, &y1);
    for (int j = y0; j < y1; j++)
        for (int i = x0; i < x1; i++) {
            uint8_t *p = c->px + ((size_t)j * (size_t)c->width + (size_t)i) * 3;
            p[0] = colour.r;
            p[1] = colour.g;
            p[2] = colour.b;
        }
}

static uint8_t byte_of(double v)
{
    return (uint8_t)(v > 0 ? (v < 255 ? v + 0.5 : 255) : 0);
}

cx_status cx_canvas_film(cx_canvas *c, const cx_film *f, int x, int y, int w, int h, cx_error *err)
{
    if (w < 1 || h < 1)
        return CX_OK;
    size_t n = (size_t)f->width * (size_t)f->height;
    float *src = cx_alloc(n, sizeof(float)), *dst = cx_alloc((size_t)w, (size_t)h * sizeof(float));
    cx_status s = src && dst ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory to draw a film of %d x %d px", f->width, f->height);
    for (size_t i = 0; s == CX_OK && i < n; i++)
        src[i] = (float)f->px[i] * (255.0f / (float)f->max);
    bool shrinks = w < f->width || h < f->height;
    if (s == CX_OK)
        s = cx_resize(src, f->width, f->height, dst, w, h, shrinks ? CX_RESIZE_AREA : CX_RESIZE_BILINEAR, err);
    int x0, x1, y0, y1;
    clip(x, w, c->width, &x0, &x1);
    clip(y, h, c->height, &y0, &y1);
    for (int j = y0; s == CX_OK && j < y1; j++)
        for (int i = x0; i < x1; i++) {
            uint8_t *p = c->px + ((size_t)j * (size_t)c->width + (size_t)i) * 3;
            p[0] = p[1] = p[2] = byte_of((double)dst[(size_t)(j - y) * (size_t)w + (size_t)(i - x)]);
        }
    free(src);
    free(dst);
    return s;
}

cx_status cx_canvas_heat(cx_canvas *c, const float *heat, int hw, int hh, int x, int y, int w, int h, double opacity, cx_error *err)
{
    if (w < 1 || h < 1)
        return CX_OK;
    float *fine = cx_alloc((size_t)w, (size_t)h * sizeof(float));
    cx_status s = fine ? cx_resize(heat, hw, hh, fine, w, h, CX_RESIZE_BILINEAR, err) : cx_fail(err, CX_E_MEMORY, "no memory for heat of %d x %d px", w, h);
    int x0, x1, y0, y1;
    clip(x, w, c->width, &x0, &x1);
    clip(y, h, c->height, &y0, &y1);
    for (int j = y0; s == CX_OK && j < y1; j++)
        for (int i = x0; i < x1; i++) {
            uint8_t *p = c->px + ((size_t)j * (size_t)c->width + (size_t)i) * 3;
            double v = (double)fine[(size_t)(j - y) * (size_t)w + (size_t)(i - x)];
            v = v > 0 ? (v < 1 ? v : 1) : 0;
            double a = opacity * v * (2 - v);
            cx_rgb m = cx_inferno(v);
            p[0] = byte_of((1 - a) * p[0] + a * m.r);
            p[1] = byte_of((1 - a) * p[1] + a * m.g);
            p[2] = byte_of((1 - a) * p[2] + a * m.b);
        }
    free(fine);
    return s;
}

/* A mask stretched over w x h px. */
typedef struct { const uint8_t *px; int mw, mh, w, h; } stretched;

static bool inside(const stretched *m, int i, int j)
{
    if (i < 0 || j < 0 || i >= m->w || j >= m->h)
        return false;
    return m->px[((int64_t)j * m->mh / m->h) * m->mw + (int64_t)i * m->mw / m->w] != 0;
}

void cx_canvas_outline(cx_canvas *c, const uint8_t *mask, int mw, int mh, int x, int y, int w, int h, int thick, cx_rgb colour)
{
    const stretched m = { mask, mw, mh, w, h };
    int x0, x1, y0, y1;
    clip(x, w, c->width, &x0, &x1);
    clip(y, h, c->height, &y0, &y1);
    for (int j = y0; j < y1; j++)
        for (int i = x0; i < x1; i++) {
            bool edge = false;
            for (int d = 1; d <= thick && !edge && inside(&m, i - x, j - y); d++)
                edge = !inside(&m, i - x - d, j - y) || !inside(&m, i - x + d, j - y) || !inside(&m, i - x, j - y - d) || !inside(&m, i - x, j - y + d);
            if (edge)
                cx_canvas_rect(c, i, j, 1, 1, colour);
        }
}
