/* clahe.c - contrast-limited adaptive histogram equalisation (Zuiderveld 1994, in Graphics Gems IV), with every rounding of OpenCV's cv2.createCLAHE, so that a
 * film comes out as it does there. Depends on decode.h.
 *
 * Each tile has a table of 256 greys: the share of its pixels at or below a grey, times 255. A grey that more than `limit` pixels have counts as `limit`; what
 * is over is spread over all greys, so that no table is steeper than the limit allows and noise in flat regions stays faint. A pixel is looked up in the
 * tables of the four tiles whose centres surround it, and lies between the four answers. kernels/equalize.cu does the same on a GPU. */
#include <math.h>
#include <stdlib.h>
#include "decode.h"

/* Tiles that do not divide both sides are made to: each side then grows to the next multiple, and one that was a multiple already by `tiles` (as in OpenCV). */
static int tile_side(int side, int tiles, bool divides)
{
    return divides ? side / tiles : (side + tiles - side % tiles) / tiles;
}

cx_status cx_clahe_make(double clip, int tiles_x, int tiles_y, int width, int height, cx_clahe *out, cx_error *err)
{
    *out = (cx_clahe) { 0 };
    if (!isfinite(clip) || clip <= 0)
        return cx_fail(err, CX_E_CONFIG, "CLAHE: clip limit %g; want a number above 0, such as 2", clip);
    if (width < 1 || height < 1 || width > CX_FILM_SIDE_MAX || height > CX_FILM_SIDE_MAX)
        return cx_fail(err, CX_E_SHAPE, "CLAHE: a film of %d x %d px; want sides of 1 to %d px", width, height, CX_FILM_SIDE_MAX);
    if (tiles_x < 1 || tiles_y < 1 || tiles_x > width || tiles_y > height)
        return cx_fail(err, CX_E_CONFIG, "CLAHE: %d x %d tiles on a film of %d x %d px; want at least one, and at most one a pixel", tiles_x, tiles_y, width,
                       height);
    bool divides = width % tiles_x == 0 && height % tiles_y == 0;
    cx_clahe c = { .width = width, .height = height, .tiles_x = tiles_x, .tiles_y = tiles_y };
    c.tile_w = tile_side(width, tiles_x, divides);
    c.tile_h = tile_side(height, tiles_y, divides);
    int area = c.tile_w * c.tile_h;
    double limit = clip * area / CX_GREYS;
    c.limit = limit >= area ? area : limit >= 1 ? (int)limit : 1;
    c.scale = 255.0f / (float)area;
    c.per_x = 1.0f / (float)c.tile_w;
    c.per_y = 1.0f / (float)c.tile_h;
    *out = c;
    return CX_OK;
}

/* The pixel that stands at p >= 0 on a line of n. */
static int mirrored(int p, int n)
{
    while (n > 1 && (p < 0 || p >= n))
        p = p < 0 ? -p : 2 * n - 2 - p;
    return n > 1 ? p : 0;
}

static void tile_table(const cx_clahe *c, const uint8_t *px, int tx, int ty, uint8_t *table)
{
    int count[CX_GREYS] = { 0 }, over = 0, sum = 0;
    for (int y = ty * c->tile_h; y < (ty + 1) * c->tile_h; y++) {
        const uint8_t *row = px + (size_t)mirrored(y, c->height) * (size_t)c->width;
        for (int x = tx * c->tile_w; x < (tx + 1) * c->tile_w; x++)
            count[row[mirrored(x, c->width)]]++;
    }
    for (int g = 0; g < CX_GREYS; g++)
        if (count[g] > c->limit) {
            over += count[g] - c->limit;
            count[g] = c->limit;
        }
    /* each grey gets as many; the `rest` first of every `step` one more */
    int each = over / CX_GREYS, rest = over % CX_GREYS, step = rest ? CX_GREYS / rest : 1;
    for (int g = 0; g < CX_GREYS; g++) {
        sum += count[g] + each + (g % step == 0 && g / step < rest);
        table[g] = (uint8_t)lrintf((float)sum * c->scale);
    }
}

/* Along one axis: the tiles whose centres lie around pixel p, and how near to the second one it is. Outside of the outermost centres both are the same. */
typedef struct { int lo, hi; float share; } between;

static between tiles_around(int p, float per, int tiles)
{
    float t = (float)p * per - 0.5f;
    int lo = (int)floorf(t);
    return (between) { lo < 0 ? 0 : lo, lo + 1 < tiles ? lo + 1 : tiles - 1, t - (float)lo };
}

static void look_up(const cx_clahe *c, const uint8_t *tables, const uint8_t *px, uint8_t *out)
{
    for (int y = 0; y < c->height; y++) {
        between v = tiles_around(y, c->per_y, c->tiles_y);
        for (int x = 0; x < c->width; x++) {
            between u = tiles_around(x, c->per_x, c->tiles_x);
            size_t at = (size_t)y * (size_t)c->width + (size_t)x;
            const uint8_t *above = tables + (size_t)(v.lo * c->tiles_x) * CX_GREYS + px[at], *below = tables + (size_t)(v.hi * c->tiles_x) * CX_GREYS + px[at];
            float a = (float)above[u.lo * CX_GREYS] * (1 - u.share) + (float)above[u.hi * CX_GREYS] * u.share;
            float b = (float)below[u.lo * CX_GREYS] * (1 - u.share) + (float)below[u.hi * CX_GREYS] * u.share;
            out[at] = (uint8_t)lrintf(a * (1 - v.share) + b * v.share);
        }
    }
}

cx_status cx_clahe_apply(const cx_clahe *c, const uint8_t *px, uint8_t *out, cx_error *err)
{
    uint8_t *tables = cx_alloc((size_t)c->tiles_x * (size_t)c->tiles_y, CX_GREYS);
    if (!tables)
        return cx_fail(err, CX_E_MEMORY, "CLAHE: no memory for %d x %d tiles; use fewer", c->tiles_x, c->tiles_y);
    for (int ty = 0; ty < c->tiles_y; ty++)
        for (int tx = 0; tx < c->tiles_x; tx++)
            tile_table(c, px, tx, ty, tables + (size_t)(ty * c->tiles_x + tx) * CX_GREYS);
    look_up(c, tables, px, out);
    free(tables);
    return CX_OK;
}
