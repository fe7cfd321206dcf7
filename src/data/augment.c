/* augment.c - what happens to a film between cache and network: one affine warp, brightness and contrast, normalisation. Depends on pixels.h. */
#include <math.h>
#include "pixels.h"

/* Films are worked on in runs of CX_RUN_PX, so that the scratch is on the stack whatever the side. */
_Static_assert(sizeof(cx_film_draw) == 64, "draws are uploaded as they lie in memory");

/* ---- what is drawn ---------------------------------------------------------------------------------------------------- */

/* The draws of (seed, epoch, sample) are fixed words of Philox: switching one range off leaves the others as they were. */
static void draws(uint64_t seed, int epoch, uint64_t sample_id, double u[8])
{
    uint32_t w[8];
    uint64_t stream = cx_hash("augment") + (uint64_t)epoch;
    cx_philox(seed, stream, 2 * sample_id, w);
    cx_philox(seed, stream, 2 * sample_id + 1, w + 4);
    for (int i = 0; i < 8; i++)
        u[i] = 2 * (w[i] >> 8) * 0x1p-24 - 1;
}

/* The mean grey of n pixels, about which contrast turns. */
static double mean_of(const uint8_t *film, int n)
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += film[i];
    return (double)sum / n;
}

/* Output = centre + shift + zoom * R(angle) * (input - centre), counter-clockwise on the screen; the map here is its inverse. A flip comes first. */
static void set_map(cx_film_draw *d, double angle, double zoom, double shift_x, double shift_y, bool flip, int side)
{
    double c = 0.5 * (side - 1), cos_z = cos(angle) / zoom, sin_z = sin(angle) / zoom;
    d->ax = d->by = cos_z;
    d->bx = -sin_z;
    d->ay = sin_z;
    d->cx = c - d->ax * (c + shift_x) - d->bx * (c + shift_y);
    d->cy = c - d->ay * (c + shift_x) - d->by * (c + shift_y);
    if (flip) {
        d->ax = -d->ax;
        d->bx = -d->bx;
        d->cx = side - 1 - d->cx;
    }
}

cx_film_draw cx_draw_film(const uint8_t *film, int side, int planes, const cx_augment *a, uint64_t seed, int epoch, uint64_t sample_id)
{
    cx_film_draw d = { .gain = 1 };
    double u[8];
    if (!a)
        return d;
    draws(seed, epoch, sample_id, u);
    double angle = a->rotate_deg * u[0] * (3.14159265358979323846 / 180), zoom = 1 + a->zoom * u[3];
    bool flip = a->flip && u[6] < 0;
    d.warp = flip || a->rotate_deg != 0 || a->shift != 0 || a->zoom != 0;
    set_map(&d, angle, zoom, a->shift * side * u[1], a->shift * side * u[2], flip, side);
    if (a->brightness != 0 || a->contrast != 0) {
        double gain = 1 + a->contrast * u[5], mean = mean_of(film, planes * side * side);
        d.gain = (float)gain;
        d.lift = (float)(mean - gain * mean + 255 * a->brightness * u[4]);
    }
    return d;
}

/* ---- how it is applied ------------------------------------------------------------------------------------------------ */

/* One pixel that may lie at or beyond the border, where all is black. */
static float border_px(const uint8_t *film, int side, float x, float y)
{
    float fx = floorf(x), fy = floorf(y), wx = x - fx, wy = y - fy;
    if (!(fx >= -1 && fx < (float)side && fy >= -1 && fy < (float)side))
        return 0;
    int ix = (int)fx, iy = (int)fy;
    float v[2][2];
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 2; i++) {
            bool inside = ix + i >= 0 && ix + i < side && iy + j >= 0 && iy + j < side;
            v[j][i] = inside ? film[(iy + j) * side + ix + i] : 0;
        }
    float top = v[0][0] + wx * (v[0][1] - v[0][0]), low = v[1][0] + wx * (v[1][1] - v[1][0]);
    return top + wy * (low - top);
}

/* Narrows [*from, *to) to the x for which a x + c lies inside 0 .. top, by a margin that is wider than any rounding of positions to float. */
static void narrow(double a, double c, double top, int *from, int *to)
{
    const double margin = 0.01;
    double p = (margin - c) / a, q = (top - margin - c) / a, lo = p < q ? p : q, hi = p < q ? q : p;
    if (fabs(a) < 1e-9) {         /* moves less than the margin over any run */
        lo = *from;
        hi = c > 2 * margin && c < top - 2 * margin ? *to : *from - 1;
    }
    if (lo > *from)
        *from = lo < *to ? (int)ceil(lo) : *to;
    if (hi < *to - 1)
        *to = hi > *from - 1 ? (int)floor(hi) + 1 : *from;
}

/* Pixels from .. to of a run that lie inside. Three loops, so that all but the gathering of four neighbours is vectorised. */
static void inside_run(const uint8_t *film, int side, float px, float py, float ax, float ay, int from, int to, float *grey)
{
    int at[CX_RUN_PX];
    uint32_t four[CX_RUN_PX];        /* neighbours: left, right, left below, right below, from the lowest byte */
    float wx[CX_RUN_PX], wy[CX_RUN_PX];
    for (int x = from; x < to; x++) {
        float sx = px + ax * (float)x, sy = py + ay * (float)x;
        int ix = (int)sx, iy = (int)sy;
        wx[x] = sx - (float)ix;
        wy[x] = sy - (float)iy;
        at[x] = iy * side + ix;
    }
    for (int x = from; x < to; x++) {
        const uint8_t *p = film + at[x], *q = p + side;
        four[x] = p[0] | (uint32_t)p[1] << 8 | (uint32_t)q[0] << 16 | (uint32_t)q[1] << 24;
    }
    for (int x = from; x < to; x++) {
        float a = (float)(int)(four[x] & 255), b = (float)(int)(four[x] >> 8 & 255), c = (float)(int)(four[x] >> 16 & 255), d = (float)(int)(four[x] >> 24);
        float top = a + wx[x] * (b - a), low = c + wx[x] * (d - c);
        grey[x] = top + wy[x] * (low - top);
    }
}

/* Output pixels x0 .. x0+n of row y: the border pixel by pixel, the inside without a branch. */
static void warp_run(const uint8_t *film, int side, const cx_film_draw *m, int x0, int n, int y, float *grey)
{
    double ox = m->ax * x0 + m->bx * y + m->cx, oy = m->ay * x0 + m->by * y + m->cy;
    float ax = (float)m->ax, ay = (float)m->ay, px = (float)ox, py = (float)oy;
    int from = 0, to = n;
    narrow(m->ax, ox, side - 1, &from, &to);
    narrow(m->ay, oy, side - 1, &from, &to);
    for (int x = 0; x < from; x++)
        grey[x] = border_px(film, side, px + ax * (float)x, py + ay * (float)x);
    inside_run(film, side, px, py, ax, ay, from, to, grey);
    for (int x = to > from ? to : from; x < n; x++)
        grey[x] = border_px(film, side, px + ax * (float)x, py + ay * (float)x);
}

static void apply(const uint8_t *film, int side, const cx_film_draw *d, const cx_normalise *norm, int plane, float *out)
{
    float grey[CX_RUN_PX];
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x += CX_RUN_PX) {
            int n = side - x < CX_RUN_PX ? side - x : CX_RUN_PX;
            size_t at = (size_t)y * (size_t)side + (size_t)x;
            if (d->warp)
                warp_run(film, side, d, x, n, y, grey);
            else
                for (int i = 0; i < n; i++)
                    grey[i] = film[at + (size_t)i];
            if (d->gain != 1 || d->lift != 0)
                for (int i = 0; i < n; i++) {
                    float v = d->gain * grey[i] + d->lift;
                    v = v > 0 ? v : 0;
                    grey[i] = v < 255 ? v : 255;
                }
            cx_pixels_normalise(grey, n, norm, plane, out + at * (size_t)norm->channels);
        }
}

void cx_apply_draws(const uint8_t *films, int side, const cx_film_draw *draw, int n, const cx_normalise *norm, float *out)
{
    const size_t px = (size_t)side * (size_t)side;
    const int planes = cx_planes_of(norm);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < planes; k++)
            apply(films + ((size_t)draw[i].film * (size_t)planes + (size_t)k) * px, side, &draw[i], norm, k, out + (size_t)i * px * (size_t)norm->channels);
}

void cx_augment_film(const uint8_t *film, int side, const cx_augment *a, uint64_t seed, int epoch, uint64_t sample_id, const cx_normalise *norm, float *out)
{
    cx_film_draw d = cx_draw_film(film, side, cx_planes_of(norm), a, seed, epoch, sample_id);
    cx_apply_draws(film, side, &d, 1, norm, out);
}
