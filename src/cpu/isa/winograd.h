/* winograd.h - what the parts of F(4x4,3x3) share: its six points, tiles and their places in a tensor, and the transforms of pixels to 36 points.
 * Depends on conv.h. */
#ifndef CX_CPU_WINOGRAD_H
#define CX_CPU_WINOGRAD_H
#include "conv.h"

/* F(4,3) (Winograd 1980; for convolutions Lavin & Gray 2015, arXiv:1509.09308, section 4.3): four outputs y[j] = sum_k g[k] d[j + k] of six inputs d by six
 * multiplications. Polynomials a of degree 3 and g of degree 2 have a product of degree 5; it is known from its values a(p) g(p) at five points p and from its
 * leading coefficient, the "value at infinity". With V_n the 6 x n matrix of rows 1, p, .., p^(n-1) (last row 0, .., 0, 1), the product's coefficients are
 * V_6^-1 [(V_3 g) . (V_4 a)]. That is a linear map of a; y is its transpose, applied to d:
 *
 *     y = A'[(G g) . (B' d)]    with A = V_4,  G = V_3,  B' = (V_6^-1)'.
 *
 * Row p of B' holds the coefficients of the Lagrange polynomial prod (x - q) / prod (p - q) over the other points q; the denominator moves into row p of G.
 * The last row is prod (x - q) over all five. For the points 0, P, -P, Q, -Q:
 *
 *          P^2 Q^2     0   -P^2 - Q^2      0       1  0          1 / (P^2 Q^2)                      1   1    1   1    1   0
 *             0     -P Q^2    -Q^2         P       1  0          (1,  P, P^2) / (2 P^2 (P^2 - Q^2))  0   P   -P   Q   -Q   0
 *     B' =    0      P Q^2    -Q^2        -P       1  0     G =  (1, -P, P^2) / the same      A' =   0  P^2  P^2 Q^2  Q^2  0
 *             0     -Q P^2    -P^2         Q       1  0          (1,  Q, Q^2) / (2 Q^2 (Q^2 - P^2))  0  P^3 -P^3 Q^3 -Q^3  1
 *             0      Q P^2    -P^2        -Q       1  0          (1, -Q, Q^2) / the same
 *             0     P^2 Q^2     0     -P^2 - Q^2   0  1          (0,  0,  1)
 *
 * In two dimensions both sides are transformed: Y = A'[(G w G') . (B' x B)]A. The gradient of the data is such a convolution with the taps reversed; that of
 * the weights, the adjoint in w, is dw = G'[sum over tiles of (B' x B) . (A dy A')]G. Lavin & Gray take P = 1 and Q = 2; with 3/4 and 3/2, whose squares and
 * products are exact in binary, numbers of a row differ less in size and the error is a quarter of theirs at the same cost. HACKING.md has the table. */
enum { POINTS = 36 };
static const float P = 0.75f, Q = 1.5f, P2 = 0.5625f, Q2 = 2.25f, P3 = 0.421875f, Q3 = 3.375f;
static const float PER_0 = 64.0f / 81, PER_P = -128.0f / 243, PER_Q = 32.0f / 243;       /* 1 / the denominators in G */

/* Transformed tiles: point p, tile t, channel c at p * plane + t * pitch + c. The odd number of lines between points keeps the 36 stores of one tile in
 * different cache sets. */
typedef struct { int64_t pitch, plane; } tile_layout;
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
