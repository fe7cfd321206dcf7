/* lung_heat.c - lungs of films in small, and means of what lies in them. Depends on lung_heat.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lung_heat.h"

cx_status cx_lung_source_open(const char *lungs, int threads, cx_lung_source *out, cx_error *err)
{
    *out = (cx_lung_source){ 0 };
    TRY(cx_net_open(lungs, "cpu", threads, &out->net, err));
    return cx_segmenter_new(&out->net, &out->g, err);
}

void cx_lung_source_close(cx_lung_source *s)
{
    cx_segmenter_free(s->g);
    cx_net_close(&s->net);
    *s = (cx_lung_source){ 0 };
}

/* out [LUNG_MASK_SIDE, LUNG_MASK_SIDE]: mask [height, width] inside place, nearest; beyond the film there are no lungs. Returns the share that is inside. */
static double sample(const uint8_t *mask, int width, int height, const cx_place *place, uint8_t *out)
{
    int64_t inside = 0;
    for (int i = 0; i < LUNG_MASK_SIDE; i++)
        for (int k = 0; k < LUNG_MASK_SIDE; k++) {
            const double x = floor(place->x + (k + 0.5) / LUNG_MASK_SIDE * place->width), y = floor(place->y + (i + 0.5) / LUNG_MASK_SIDE * place->height);
            const bool film = x >= 0 && x < width && y >= 0 && y < height;
            inside += out[i * LUNG_MASK_SIDE + k] = film && mask[(size_t)y * (size_t)width + (size_t)x];
        }
    return (double)inside / (LUNG_MASK_SIDE * LUNG_MASK_SIDE);
}

cx_status cx_film_lungs_find(cx_lung_source *s, const cx_film *film, const cx_place *place, cx_film_lungs *out, cx_error *err)
{
    const int w = film->width, h = film->height;
    const cx_place whole = { 0, 0, w, h };
    cx_lung_shape shape;
    *out = (cx_film_lungs){ .mask = cx_alloc(LUNG_MASK_SIDE, LUNG_MASK_SIDE), .seen = cx_alloc(LUNG_MASK_SIDE, LUNG_MASK_SIDE) };
    uint8_t *mask = cx_alloc((size_t)w, (size_t)h);
    cx_status st = mask && out->mask && out->seen ? cx_segmenter_mask(s->g, film, mask, err)
                                                  : cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", w, h);
    if (st == CX_OK)
        st = cx_lung_measure(mask, w, h, true, &shape, err);
    if (st == CX_OK) {
        cx_lung_flags(&shape, out->doubt);
        sample(mask, w, h, &whole, out->mask);
        out->share = sample(mask, w, h, place, out->seen);
    }
    free(mask);
    return st;
}

void cx_film_lungs_free(cx_film_lungs *l)
{
    free(l->mask);
    free(l->seen);
    *l = (cx_film_lungs){ 0 };
}

/* ---- means --------------------------------------------------------------------------------------------------------------- */

static bool same(const cx_heat_row *r, const cx_heat_mean *m)
{
    return strcmp(r->label, m->label) == 0 && strcmp(r->explained, m->explained) == 0;
}

/* heat, share, group: room for all rows. */
static cx_status mean(const cx_heat_row *rows, int n, cx_heat_mean *m, double *heat, double *share, int *group, int draws, uint64_t seed, cx_error *err)
{
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (!same(&rows[i], m))
            continue;
        m->films++;
        m->doubtful += rows[i].doubtful;
        m->cold += !rows[i].doubtful && isnan(rows[i].heat);
        if (rows[i].doubtful || isnan(rows[i].heat))
            continue;
        heat[used] = rows[i].heat;
        share[used] = rows[i].share;
        group[used++] = rows[i].group;
    }
    m->heat = m->share = (cx_estimate){ NAN, NAN, NAN };
    if (!used)
        return CX_OK;
    TRY(cx_metrics_mean(heat, group, used, draws, seed, &m->heat, err));
    return cx_metrics_mean(share, group, used, draws, seed, &m->share, err);
}

cx_status cx_heat_means(const cx_heat_row *rows, int n_rows, int draws, uint64_t seed, cx_heat_mean **out, int *n, cx_error *err)
{
    const size_t room = (size_t)n_rows + 1;
    cx_heat_mean *m = cx_alloc(room, sizeof *m);
    double *x = cx_alloc(2 * room, sizeof *x);
    int *group = cx_alloc(room, sizeof *group), count = 0;
    cx_status s = m && x && group ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for the heat of %d maps", n_rows);
    for (int i = 0; s == CX_OK && i < n_rows; i++) {
        int at = 0;
        while (at < count && !same(&rows[i], &m[at]))
            at++;
        if (at < count)
            continue;
        m[count] = (cx_heat_mean){ .label = rows[i].label, .explained = rows[i].explained };
        s = mean(rows, n_rows, &m[count++], x, x + room, group, draws, seed, err);
    }
    free(x);
    free(group);
    *out = s == CX_OK ? m : NULL;
    *n = s == CX_OK ? count : 0;
    if (s != CX_OK)
        free(m);
    return s;
}
