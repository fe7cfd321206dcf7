/* mask.c - from the pixels that a segmentation network calls lung to lungs: components, holes, growth, the box around them. Depends on decode.h. */
#include <stdlib.h>
#include <string.h>
#include "decode.h"

/* Floods from `seed` over pixels of mask[] == value and label[] == 0, which get `name`. Returns how many. */
typedef struct { const uint8_t *mask; int width, height; int32_t *label, *queue; } flooding;

static int64_t flood(flooding *f, int32_t seed, int value, int32_t name, bool eight)
{
    int64_t n = 0, done = 0;
    f->label[seed] = name;
    f->queue[n++] = seed;
    while (done < n) {
        int32_t at = f->queue[done++], x = at % f->width, y = at / f->width;
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                int u = x + dx, v = y + dy;
                if ((!eight && dx && dy) || u < 0 || v < 0 || u >= f->width || v >= f->height)
                    continue;
                int32_t to = v * f->width + u;
                if ((f->mask[to] != 0) != value || f->label[to])
                    continue;
                f->label[to] = name;
                f->queue[n++] = to;
            }
    }
    return n;
}

typedef struct { int64_t px; int32_t name; } component;

static int larger(const void *a, const void *b)
{
    const component *p = a, *q = b;
    return p->px != q->px ? (p->px < q->px) - (p->px > q->px) : (p->name > q->name) - (p->name < q->name);
}

/* All components, the largest first; names count up from the top left. False when out of memory. */
static bool find_components(flooding *f, component **list, int *n)
{
    size_t cap = 0;
    *n = 0;
    for (int32_t i = 0; i < f->width * f->height; i++) {
        if (!f->mask[i] || f->label[i])
            continue;
        if (!cx_grow(list, &cap, (size_t)*n + 1, sizeof **list))
            return false;
        (*list)[*n] = (component){ flood(f, i, 1, *n + 1, true), *n + 1 };
        ++*n;
    }
    if (*n)
        qsort(*list, (size_t)*n, sizeof **list, larger);
    return true;
}

/* Everything that the outside, flooded from the border, does not reach. */
static void fill_holes(flooding *f, uint8_t *mask)
{
    const int w = f->width, h = f->height, n = w * h;
    memset(f->label, 0, (size_t)n * sizeof *f->label);
    for (int32_t i = 0; i < n; i++)
        if ((i < w || i >= n - w || i % w == 0 || i % w == w - 1) && !mask[i] && !f->label[i])
            flood(f, i, 0, 1, false);
    for (int32_t i = 0; i < n; i++)
        mask[i] = !f->label[i];
}

static cx_status check(int width, int height, cx_error *err)
{
    if (width < 1 || height < 1 || width > CX_FILM_SIDE_MAX || height > CX_FILM_SIDE_MAX)
        return cx_fail(err, CX_E_SHAPE, "a mask of %d x %d px; want sides of 1 to %d px", width, height, CX_FILM_SIDE_MAX);
    return CX_OK;
}

cx_status cx_mask_clean(uint8_t *mask, int width, int height, int keep, double least, cx_error *err)
{
    TRY(check(width, height, err));
    const size_t n = (size_t)width * (size_t)height;
    flooding f = { mask, width, height, cx_alloc(n, sizeof(int32_t)), cx_alloc(n, sizeof(int32_t)) };
    component *list = NULL;
    int found = 0;
    bool ok = f.label && f.queue && find_components(&f, &list, &found);
    if (ok) {
        int kept = found < keep ? found : keep;
        while (kept > 1 && (double)list[kept - 1].px < least * (double)list[0].px)
            kept--;
        for (size_t i = 0; i < n; i++) {
            bool in = false;
            for (int k = 0; k < kept; k++)
                in |= f.label[i] == list[k].name;
            mask[i] = in;
        }
        fill_holes(&f, mask);
    }
    free(f.label);
    free(f.queue);
    free(list);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for the components of a mask of %d x %d px", width, height);
}

/* Along one axis: out[i] is set where something within `radius` of i is. */
static void grow_line(const uint8_t *in, int n, size_t step, int radius, uint8_t *out)
{
    int last = -1;      /* of the pixels up to i + radius, the last one inside */
    for (int i = 0; i < radius && i < n; i++)
        last = in[(size_t)i * step] ? i : last;
    for (int i = 0; i < n; i++) {
        if (i + radius < n && in[(size_t)(i + radius) * step])
            last = i + radius;
        out[(size_t)i * step] = last >= 0 && last >= i - radius;
    }
}

cx_status cx_mask_dilate(uint8_t *mask, int width, int height, int radius, cx_error *err)
{
    TRY(check(width, height, err));
    uint8_t *wide = cx_alloc((size_t)width, (size_t)height);
    if (!wide)
        return cx_fail(err, CX_E_MEMORY, "no memory to grow a mask of %d x %d px", width, height);
    for (int y = 0; y < height; y++)
        grow_line(mask + (size_t)y * (size_t)width, width, 1, radius, wide + (size_t)y * (size_t)width);
    for (int x = 0; x < width; x++)
        grow_line(wide + x, height, (size_t)width, radius, mask + x);
    free(wide);
    return CX_OK;
}

int64_t cx_mask_box(const uint8_t *mask, int width, int height, cx_box *out)
{
    int64_t px = 0;
    int x0 = width, x1 = 0, y0 = height, y1 = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            if (!mask[(size_t)y * (size_t)width + (size_t)x])
                continue;
            px++;
            x0 = x < x0 ? x : x0;
            x1 = x + 1 > x1 ? x + 1 : x1;
            y0 = y < y0 ? y : y0;
            y1 = y + 1;
        }
    *out = px ? (cx_box){ x0, y0, x1 - x0, y1 - y0 } : (cx_box){ 0 };
    return px;
}

int cx_mask_parts(const uint8_t *mask, int width, int height, int64_t *px, int max)
{
    const size_t n = (size_t)width * (size_t)height;
    flooding f = { mask, width, height, cx_alloc(n, sizeof(int32_t)), cx_alloc(n, sizeof(int32_t)) };
    component *list = NULL;
    int found = -1;
    if (!f.label || !f.queue || !find_components(&f, &list, &found))
        found = -1;
    for (int i = 0; i < found && i < max; i++)
        px[i] = list[i].px;
    free(f.label);
    free(f.queue);
    free(list);
    return found;
}
