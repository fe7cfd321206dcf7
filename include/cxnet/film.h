/* film.h - what is done to 8-bit films on their way into a network, as plain values. image.h and data.h make them, from what a user wrote or from random draws;
 * whoever holds the pixels, the host or a device (cx_backend in graph.h), applies them and gets the same bits. Depends on nothing. */
#ifndef CXNET_FILM_H
#define CXNET_FILM_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { CX_GREYS = 256, CX_RUN_PX = 256 };

/* ---- normalisation -------------------------------------------------------------------------------------------------- */

typedef struct {              /* value = (grey / 255 - mean[c]) / std[c] */
    int channels;             /* 1 or 3 */
    float mean[3], std[3];
    int planes;               /* of a film, [planes, side, side]: 0 or 1, its grey repeated; as many as channels, plane c for channel c */
} cx_normalise;
static inline int cx_planes_of(const cx_normalise *n) { return n->planes > 1 ? n->planes : 1; }
/* The same as one multiplication and one addition, each rounded to float32: value = grey * slope[c] + shift[c]. */
typedef struct { float slope[3], shift[3]; } cx_lines;
static inline cx_lines cx_lines_of(const cx_normalise *n)
{
    cx_lines l = { { 0, 0, 0 }, { 0, 0, 0 } };
    for (int c = 0; c < n->channels; c++) {
        l.slope[c] = (float)(1.0 / (255.0 * (double)n->std[c]));
        l.shift[c] = (float)(-(double)n->mean[c] / (double)n->std[c]);
    }
    return l;
}

/* ---- augmentation ------------------------------------------------------------------------------------------------------ */

/* What was drawn for one film of a batch (cx_draw_film in data.h). Output pixel (x, y) shows the film at (ax x + bx y + cx, ay x + by y + cy), bilinear between
 * pixel centres, black outside; then grey = gain * grey + lift, held to 0 .. 255, unless gain is 1 and lift 0.
 *
 * Who applies it takes that position in double, rounded to float32, for the first pixel of each run of CX_RUN_PX in a row (x = 0, 256, ...), and goes on from
 * there by + ax * (float)steps, + ay * (float)steps. With fx = floor(sx), wx = sx - fx the four neighbours a b / c d give top = a + wx * (b - a),
 * low = c + wx * (d - c), grey = top + wy * (low - top). All of it in float32, every operation rounded. */
typedef struct {
    double ax, bx, cx, ay, by, cy;
    float gain, lift;
    int32_t warp;             /* 0: every pixel shows itself, and the map is not looked at */
    int32_t film;             /* which of the films at hand, from 0 */
} cx_film_draw;

/* ---- equalisation ------------------------------------------------------------------------------------------------------ */

/* Contrast-limited adaptive histogram equalisation of films of one size (cx_clahe_make in image.h; formulas in src/image/clahe.c). */
typedef struct {
    int width, height;        /* of the films, px */
    int tiles_x, tiles_y;
    int tile_w, tile_h;       /* px. Tiles may reach beyond the film, which goes on there as a mirror image: about its last pixel, that pixel not repeated */
    int limit;                /* a tile counts at most so many pixels of one grey, and spreads the rest over all greys */
    float scale;              /* 255 / (tile_w tile_h): from pixels at or below a grey to the grey that it becomes */
    float per_x, per_y;       /* 1 / tile_w, 1 / tile_h */
} cx_clahe;

/* Bi-histogram equalisation with adaptive sigmoids (cx_beasf_make in image.h; formulas in src/image/beasf.c). */
typedef struct {
    double fall[CX_GREYS];    /* exp(-5 gamma / w) for a part of the greys that is w wide; fall[0] = 1 */
} cx_beasf;
#define CX_BEASF_FLAT 1e-9    /* a sigmoid that rises by no more leaves its part of the greys as it is: in the limit it is a straight line */

#ifdef __cplusplus
}
#endif
#endif
