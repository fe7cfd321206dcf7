/* segment.c - a film through a network that marks pixels, and its mask at the film's own size. Depends on train.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/train.h"

struct cx_segmenter {
    cx_net *net;
    cx_plan *plan;
    int side;
    float *x, *map;             /* input [side, side, channels]; logits, then probabilities [side, side] */
};

static cx_status open_segmenter(cx_segmenter *g, cx_error *err)
{
    const cx_model *m = &g->net->model;
    cx_plan_opts o = cx_config_plan(&g->net->config);
    o.batch = 1;
    o.output = m->logits;
    g->side = g->net->config.data.side;
    const size_t px = (size_t)g->side * (size_t)g->side;
    g->x = cx_alloc(px * (size_t)g->net->norm.channels, sizeof *g->x);
    g->map = cx_alloc(px, sizeof *g->map);
    if (!g->x || !g->map)
        return cx_fail(err, CX_E_MEMORY, "no memory for a film of %d px a side", g->side);
    return cx_plan_new(g->net->store, &o, &g->plan, err);
}

cx_status cx_segmenter_new(cx_net *net, cx_segmenter **out, cx_error *err)
{
    *out = NULL;
    if (net->n_classes || net->model.probability < 0 || net->model.graph->values[net->model.probability].shape.c != 1)
        return cx_fail(err, CX_E_USAGE, "a network of architecture %s names classes and marks no pixels; want a unet with one output", net->config.model.arch);
    cx_segmenter *g = cx_alloc(1, sizeof *g);
    if (!g)
        return cx_fail(err, CX_E_MEMORY, "no memory for a segmenter");
    g->net = net;
    const cx_status s = open_segmenter(g, err);
    if (s != CX_OK) {
        cx_segmenter_free(g);
        return s;
    }
    *out = g;
    return CX_OK;
}

void cx_segmenter_free(cx_segmenter *g)
{
    if (!g)
        return;
    cx_plan_free(g->plan);
    free(g->x);
    free(g->map);
    free(g);
}

/* Moves what the map says of the film together: beside it there is black where the input keeps the film's proportions. */
static void film_part(cx_segmenter *g, const cx_film *film, cx_place p, int *width, int *height)
{
    const double across = g->side / p.width, down = g->side / p.height;
    const int w = (int)lround(film->width * across), h = (int)lround(film->height * down);
    *width = w < 1 ? 1 : w;                 /* of a film that is a line the map has a pixel at least */
    *height = h < 1 ? 1 : h;
    const int x = (int)fmin(lround(-p.x * across), g->side - *width), y = (int)fmin(lround(-p.y * down), g->side - *height);
    for (int row = 0; row < *height; row++)
        memmove(g->map + (size_t)row * (size_t)*width, g->map + (size_t)(row + y) * (size_t)g->side + (size_t)x, (size_t)*width * sizeof *g->map);
}

cx_status cx_segmenter_mask(cx_segmenter *g, const cx_film *film, uint8_t *mask, cx_error *err)
{
    const int px = g->side * g->side;
    const size_t n = (size_t)film->width * (size_t)film->height;
    cx_picture seen;
    TRY(cx_film_to_input(g->net->pipeline, film, &g->net->norm, g->x, &seen, err));
    const cx_place on_film = seen.place;
    cx_picture_free(&seen);
    TRY(cx_plan_set(g->plan, g->net->model.input, g->x, err));
    TRY(cx_plan_forward(g->plan, 0, 0, err));
    TRY(cx_plan_get(g->plan, g->net->model.logits, g->map, err));
    for (int i = 0; i < px; i++) {
        if (!isfinite(g->map[i]))
            return cx_fail(err, CX_E_NAN, "the network answers %g; its weights are damaged or overflowed in training", (double)g->map[i]);
        g->map[i] = (float)(1 / (1 + exp(-(double)g->map[i])));
    }
    float *fine = cx_alloc(n, sizeof *fine);
    int width, height;
    film_part(g, film, on_film, &width, &height);
    cx_status s = fine ? cx_resize(g->map, width, height, fine, film->width, film->height, CX_RESIZE_BILINEAR, err)
                       : cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", film->width, film->height);
    for (size_t i = 0; s == CX_OK && i < n; i++)
        mask[i] = fine[i] >= 0.5f ? 255 : 0;
    free(fine);
    return s;
}
