/* local.c - greys by what lies around them and by what another film has: local equalisation and histogram matching. Depends on decode.h.
 *
 * Local equalisation keeps the histogram of a disk that slides along a row: at each step the right rim enters, the left rim leaves. Counts of 16 greys at once
 * make the sum up to a grey short. */
#include <math.h>
#include <stdlib.h>
#include "decode.h"

enum { COARSE = 16, RADIUS_MAX = 512 };

typedef struct { int fine[CX_GREYS], coarse[CX_GREYS / COARSE], n; } window;

static void count_px(window *w, uint8_t grey, int by)
{
    w->fine[grey] += by;
    w->coarse[grey / COARSE] += by;
    w->n += by;
}

/* Pixels at or below a grey. */
static int at_most(const window *w, int grey)
{
    int sum = 0, k = 0;
    for (; k < grey / COARSE; k++)
        sum += w->coarse[k];
    for (int g = k * COARSE; g <= grey; g++)
        sum += w->fine[g];
    return sum;
}

/* How far the disk reaches to either side in the rows dy = -radius .. radius from its middle: reach[dy + radius]. */
static void disk(int radius, int *reach)
{
    for (int dy = -radius; dy <= radius; dy++) {
        int dx = (int)sqrt((double)(radius * radius - dy * dy));
        while (dx * dx + dy * dy > radius * radius)
            dx--;
        while ((dx + 1) * (dx + 1) + dy * dy <= radius * radius)
            dx++;
        reach[dy + radius] = dx;
    }
}

static void one_row(const uint8_t *px, int width, int height, int y, int radius, const int *reach, uint8_t *out)
{
    window w = { { 0 }, { 0 }, 0 };
    int from = y < radius ? -y : -radius, to = y + radius >= height ? height - 1 - y : radius;
    for (int dy = from; dy <= to; dy++)
        for (int x = 0; x < width && x < reach[dy + radius]; x++)
            count_px(&w, px[(size_t)(y + dy) * (size_t)width + (size_t)x], 1);
    for (int x = 0; x < width; x++) {
        for (int dy = from; dy <= to; dy++) {
            const uint8_t *row = px + (size_t)(y + dy) * (size_t)width;
            int enters = x + reach[dy + radius], leaves = x - reach[dy + radius] - 1;
            if (enters < width)
                count_px(&w, row[enters], 1);
            if (leaves >= 0)
                count_px(&w, row[leaves], -1);
        }
        size_t at = (size_t)y * (size_t)width + (size_t)x;
        out[at] = (uint8_t)((int64_t)255 * at_most(&w, px[at]) / w.n);
    }
}

cx_status cx_equalize_local(const uint8_t *px, int width, int height, int radius, uint8_t *out, cx_error *err)
{
    int reach[2 * RADIUS_MAX + 1];
    if (width < 1 || height < 1 || width > CX_FILM_SIDE_MAX || height > CX_FILM_SIDE_MAX)
        return cx_fail(err, CX_E_SHAPE, "local equalisation: a film of %d x %d px; want sides of 1 to %d px", width, height, CX_FILM_SIDE_MAX);
    if (radius < 1 || radius > RADIUS_MAX)
        return cx_fail(err, CX_E_CONFIG, "local equalisation: radius %d; want 1 to %d px", radius, RADIUS_MAX);
    disk(radius, reach);
    for (int y = 0; y < height; y++)
        one_row(px, width, height, y, radius, reach, out);
    return CX_OK;
}

void cx_histogram(const uint8_t *px, size_t n, int64_t count[CX_GREYS])
{
    for (int g = 0; g < CX_GREYS; g++)
        count[g] = 0;
    for (size_t i = 0; i < n; i++)
        count[px[i]]++;
}

/* A grey g whose share of pixels at or below it is q becomes the grey that has the share q in the reference; between two of its greys, the straight line
 * between their shares (numpy.interp); below the first one, the first. */
void cx_match_histogram(const int64_t count[CX_GREYS], const int64_t reference[CX_GREYS], uint8_t map[CX_GREYS])
{
    double share[CX_GREYS], all = 0, n = 0, sum = 0;
    int grey[CX_GREYS], greys = 0, k = 0;
    for (int g = 0; g < CX_GREYS; g++) {
        all += (double)reference[g];
        n += (double)count[g];
    }
    for (int g = 0; g < CX_GREYS; g++) {
        sum += (double)reference[g];
        if (reference[g]) {
            grey[greys] = g;
            share[greys++] = sum / all;
        }
    }
    sum = 0;
    for (int g = 0; g < CX_GREYS; g++) {
        sum += (double)count[g];
        double q = sum / n;
        while (k < greys - 1 && share[k] < q)
            k++;
        double v = k == 0 || q >= share[k] ? grey[k] : grey[k - 1] + (grey[k] - grey[k - 1]) * (q - share[k - 1]) / (share[k] - share[k - 1]);
        map[g] = (uint8_t)(v + 0.5);
    }
}
