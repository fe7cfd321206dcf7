/* winograd.h - what the two halves of F(4x4,3x3) share (Lavin & Gray 2016, arXiv:1509.09308, interpolated at 0, 1, -1, 2, -2 and infinity): tiles, their places
 * in a tensor, and the transforms of pixels to 36 points. Depends on conv.h. */
#ifndef CX_CPU_WINOGRAD_H
#define CX_CPU_WINOGRAD_H
#include "conv.h"

enum { POINTS = 36 };

/* Transformed tiles: point p, tile t, channel c at p * plane + t * pitch + c. The odd number of lines between points keeps the 36 stores of one tile in
 * different cache sets. */
typedef struct { int64_t pitch, plane; } tile_layout;
static inline int64_t cx_odd_lines(int64_t floats) { return (floats + 31) / 32 * 32 + 16; }
static inline tile_layout cx_tiles_of(int64_t channels, int64_t tiles) { return (tile_layout){ channels + 16, cx_odd_lines(tiles * (channels + 16)) }; }

/* A grid in tiles, images one after the other, each row by row. */
typedef struct { int64_t n, y, x; } tile_at;           /* image and top left grid pixel */
static inline int64_t cx_tile_count(cx_shape grid) { return grid.n * ((grid.h + 3) / 4) * ((grid.w + 3) / 4); }
static inline tile_at cx_tile_at(cx_shape grid, int64_t t)
{
    int64_t across = (grid.w + 3) / 4, down = (grid.h + 3) / 4;
    return (tile_at){ t / (across * down), t / across % down * 4, t % across * 4 };
}
static inline tile_at cx_tile_next(cx_shape grid, tile_at at)
{
    at.x += 4;
    if (at.x >= grid.w) {
        at.x = 0;
        at.y += 4;
    }
    if (at.y >= grid.h) {
        at.y = 0;
        at.n++;
    }
    return at;
}

/* Channels c0 .. c0+c-1 of the 6x6 pixels of `s` from (y, x) of image n, to points (B' x B): channel i at v + i / NR * panel + i % NR (panel NR: in a row), and
 * points `plane` apart. Pixels outside are zero. tile_dy: the 4x4 pixels of a gradient (A dy A'), in a row. */
void CX_FN(tile_x)(const cx_source *s, int64_t n, int64_t y, int64_t x, int64_t c0, int64_t c, float *v, int64_t plane, int64_t panel);
void CX_FN(tile_dy)(const cx_source *s, int64_t n, int64_t y, int64_t x, int64_t c0, int64_t c, float *v, int64_t plane);

/* The addresses of the pixels of `tiles` tiles from t0 that no earlier tile of its line has brought: rows and columns off .. off+3 of each. How many. */
int CX_FN(fresh_pixels)(const cx_tensor *t, cx_shape grid, int64_t y_off, int64_t x_off, int64_t t0, int64_t tiles, int64_t c0, const float **run);

size_t CX_FN(winograd_weight_bytes)(const cx_geometry *g);
void CX_FN(winograd_weight)(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes);

#endif
