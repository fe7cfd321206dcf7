/* cam.c - class activation maps from a value and its gradient: by the backend where it can, else on the host from copies. Depends on plan.h, store.h. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "plan.h"
#include "store.h"

/* Each channel weighted by its gradient at the place. */
static void by_place(const float *act, const float *grad, cx_shape s, float *map)
{
    for (int64_t p = 0; p < s.h * s.w; p++) {
        double sum = 0;
        for (int64_t c = 0; c < s.c; c++)
            sum += (double)grad[p * s.c + c] * (double)act[p * s.c + c];
        map[p] = sum > 0 ? (float)sum : 0;
    }
}

/* Each channel weighted by the spatial mean of its gradient. */
static void by_mean(const float *act, const float *grad, cx_shape s, double *weight, float *map)
{
    const int64_t pixels = s.h * s.w;
    for (int64_t c = 0; c < s.c; c++)
        weight[c] = 0;
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < s.c; c++)
            weight[c] += (double)grad[p * s.c + c];
    for (int64_t p = 0; p < pixels; p++) {
        double sum = 0;
        for (int64_t c = 0; c < s.c; c++)
            sum += weight[c] * (double)act[p * s.c + c];
        sum /= (double)pixels;
        map[p] = sum > 0 ? (float)sum : 0;
    }
}

static cx_status on_host(cx_plan *p, int value, bool place, cx_tensor t, int films, float *map, cx_error *err)
{
    const int64_t film = cx_elems(t.s) / t.s.n;
    float *act = cx_alloc((size_t)cx_elems(t.s), sizeof *act), *grad = cx_alloc((size_t)cx_elems(t.s), sizeof *grad);
    double *weight = cx_alloc((size_t)t.s.c, sizeof *weight);
    cx_status s = act && grad && weight ? cx_plan_get(p, value, act, err) : cx_fail(err, CX_E_MEMORY, "no memory for the maps of %d films; use fewer", films);
    if (s == CX_OK)
        s = cx_plan_get_grad(p, value, grad, err);
    for (int i = 0; s == CX_OK && i < films; i++, map += t.s.h * t.s.w) {
        if (place)
            by_place(act + i * film, grad + i * film, t.s, map);
        else
            by_mean(act + i * film, grad + i * film, t.s, weight, map);
    }
    free(act);
    free(grad);
    free(weight);
    return s;
}

cx_status cx_plan_cam(cx_plan *p, int value, bool place, int films, float *map, cx_error *err)
{
    cx_backend *b = p->store->b;
    if (value < 0 || value >= p->n_values)
        return cx_fail(err, CX_E_USAGE, "value %d: the plan has values 0 to %d", value, p->n_values - 1);
    cx_tensor act = cx_plan_value(p, value), grad = cx_plan_grad(p, value);
    if (!act.p || !grad.p)
        return cx_fail(err, CX_E_USAGE, "'%s' and its gradient are not both kept by this plan", p->g->values[value].name);
    if (films < 1 || films > act.s.n)
        return cx_fail(err, CX_E_USAGE, "maps of %d films; the plan has 1 to %d", films, (int)act.s.n);
    if (!b->cam)
        return on_host(p, value, place, act, films, map, err);
    act.s.n = grad.s.n = films;
    return b->cam(b, place, act, grad, map, err);
}
