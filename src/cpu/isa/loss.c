/* loss.c - dice_loss over maps: sums in double by chunks that depend on the shape alone, added in order. Depends on kernels.h, lanes.h. */
#include "cpu/kernels.h"
#include "lanes.h"

enum { CHUNK = 16384 };

/* Over the labelled entries: sum of t p, sum of t + p, their number; by lanes, then added up. */
typedef struct { double overlap[VL], sum[VL], count[VL]; } lanes_of;
typedef struct { double overlap, sum, count; } sums;

static int64_t chunk_pixels(const cx_call *c)
{
    return c->x[0].s.c < CHUNK ? CHUNK / c->x[0].s.c : 1;
}

static int64_t chunks_of(const cx_call *c)
{
    return (cx_pixels(c->x[0].s) + chunk_pixels(c) - 1) / chunk_pixels(c);
}

static size_t workspace(const cx_call *c, bool backward)
{
    (void)backward;
    return (size_t)chunks_of(c) * sizeof(sums);
}

INLINE void add_entry(lanes_of *s, int j, float p, float t)
{
    const double seen = t < 0 ? 0 : 1, pd = t < 0 ? 0 : (double)p, td = t < 0 ? 0 : (double)t;
    s->overlap[j] += td * pd;
    s->sum[j] += td + pd;
    s->count[j] += seen;
}

static void add_row(lanes_of *s, const float *p, const float *t, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        for (int j = 0; j < VL; j++)
            add_entry(s, j, p[i + j], t[i + j]);
    for (; i < n; i++)
        add_entry(s, (int)(i % VL), p[i], t[i]);
}

/* The pixels of chunk i in rows that lie together: all of them, or one by one where a tensor is a slice. */
typedef struct { int64_t first, end, step; } rows;

static rows rows_of(const cx_call *c, int64_t i, const cx_tensor *also)
{
    const int64_t px = cx_pixels(c->x[0].s), n = chunk_pixels(c), first = i * n, end = first + n < px ? first + n : px;
    const bool dense = c->x[0].ld == c->x[0].s.c && c->x[1].ld == c->x[1].s.c && also->ld == also->s.c;
    return (rows){ first, end, dense ? end - first : 1 };
}

static sums sum_chunk(const cx_call *c, int64_t i)
{
    const cx_tensor *p = &c->x[0], *t = &c->x[1];
    const rows r = rows_of(c, i, p);
    lanes_of s = { { 0 }, { 0 }, { 0 } };
    for (int64_t x = r.first; x < r.end; x += r.step)
        add_row(&s, p->p + x * p->ld, t->p + x * t->ld, r.step * p->s.c);
    sums all = { 0, 0, 0 };
    for (int j = 0; j < VL; j++)
        all = (sums){ all.overlap + s.overlap[j], all.sum + s.sum[j], all.count + s.count[j] };
    return all;
}

/* 2 sum t p + smooth over sum t + sum p + smooth; nothing over nothing when no entry is labelled. */
typedef struct { double above, below; } ratio;

static ratio dice_of(const cx_call *c)
{
    const double smooth = (double)((const cx_dice_attr *)c->attr)->smooth;
    const int64_t n = chunks_of(c);
    sums *part = c->work, all = { 0, 0, 0 };
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t i = 0; i < n; i++)
        part[i] = sum_chunk(c, i);
    for (int64_t i = 0; i < n; i++)
        all = (sums){ all.overlap + part[i].overlap, all.sum + part[i].sum, all.count + part[i].count };
    return all.count > 0 ? (ratio){ 2 * all.overlap + smooth, all.sum + smooth } : (ratio){ 0, 0 };
}

static cx_status dice_forward(const cx_call *c)
{
    const ratio d = dice_of(c);
    c->y[0].p[0] = (float)(d.below != 0 ? -d.above / d.below : 0);
    return CX_OK;
}

/* dx (+)= zero + slope t where labelled: the gradient of -A/B is (A - 2 t B) / B^2. */
static void grad_row(const float *t, float *dx, int64_t n, double zero, double slope, bool add)
{
    if (add)
        for (int64_t i = 0; i < n; i++)
            dx[i] += t[i] < 0 ? 0 : (float)(zero + slope * (double)t[i]);
    else
        for (int64_t i = 0; i < n; i++)
            dx[i] = t[i] < 0 ? 0 : (float)(zero + slope * (double)t[i]);
}

static cx_status dice_backward(const cx_call *c)
{
    if (!c->dx[0].p)
        return CX_OK;
    const ratio d = dice_of(c);
    const double dy = (double)c->dy[0].p[0], zero = d.below != 0 ? dy * d.above / (d.below * d.below) : 0, slope = d.below != 0 ? -2 * dy / d.below : 0;
    const cx_tensor *t = &c->x[1], *dx = &c->dx[0];
    const int64_t n = chunks_of(c);
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t i = 0; i < n; i++) {
        const rows r = rows_of(c, i, dx);
        for (int64_t x = r.first; x < r.end; x += r.step)
            grad_row(t->p + x * t->ld, dx->p + x * dx->ld, r.step * dx->s.c, zero, slope, c->dx_add[0]);
    }
    return CX_OK;
}

const cx_impl CX_FN(dice_loss_impls)[] = { { .name = "dice_loss " CX_ISA_NAME, .workspace = workspace, .fwd = dice_forward, .bwd = dice_backward } };
const int CX_FN(dice_loss_n) = 1;
