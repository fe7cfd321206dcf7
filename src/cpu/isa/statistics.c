/* statistics.c - the two steps that a plan adds where nobody can take a fold along, at the speed of memory: the statistics of a value, and a carry applied to
 * a gradient. Depends on kernels.h, fold.h. */
#include "cpu/kernels.h"
#include "fold.h"

/* Pixels are cut into chunks by the shape alone; SUB pixels of four vectors stay in the first-level cache for the second look at them. */
enum { SUB = 32, WIDTH = 4 * VL, MIN_CHUNKS = 48, MAX_CHUNK_PX = 256, CARRY_PX = 64 };

static int64_t chunk_px(cx_shape s)
{
    return min64(up_div(cx_pixels(s), MIN_CHUNKS * SUB) * SUB, MAX_CHUNK_PX);
}

static size_t workspace(const cx_call *c, bool backward)
{
    const cx_shape s = c->x[0].s;
    return backward ? 0 : cx_parts_bytes(up_div(cx_pixels(s), chunk_px(s)), s.c);
}

/* A few pixels and channels; bfloat16 by way of a copy. */
static void sub_stats(const cx_tensor *x, int64_t first, int64_t rows, int64_t k0, int64_t k, int64_t seen, cx_parts parts, int64_t chunk)
{
    const float *row[SUB];
    float copy[SUB * WIDTH];
    const cx_source s = cx_plain(*x);
    if (x->type != CX_F32)
        CX_FN(read_rows)(&s, first, rows, k0, k, copy, WIDTH);
    for (int64_t r = 0; r < rows; r++)
        row[r] = x->type == CX_F32 ? x->p + (first + r) * x->ld + k0 : copy + r * WIDTH;
    CX_FN(stats_rows)(row, rows, k0, k, seen, parts, chunk);
}

static cx_status forward(const cx_call *c)
{
    const cx_tensor *x = &c->x[0];
    const int64_t px = cx_pixels(x->s), step = chunk_px(x->s), chunks = up_div(px, step);
    const cx_parts parts = cx_parts_at(c->work, x->s.c);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < chunks; i++)
        for (int64_t p = i * step, end = min64(px, p + step); p < end; p += SUB) {
            const int64_t rows = min64(SUB, end - p);
            for (int64_t k = 0; k < x->s.c; k += WIDTH)
                sub_stats(x, p, rows, k, min64(WIDTH, x->s.c - k), p - i * step, parts, i);
        }
    CX_FN(merge_stats)(parts, chunks, &c->fold.stats);
    return CX_OK;
}

INLINE void carry_part(int V, int lanes, const cx_tensor *x, int64_t at, const float *slope, const float *level, float *dx)
{
    for (int v = 0; v < V; v++) {
        const vf t = v_fma(vt_load(x->type, x->p, at + v * VL, lanes), vf_load(slope + v * VL, lanes), vf_load(level + v * VL, lanes));
        vf_store(dx + v * VL, vf_load(dx + v * VL, lanes) + t, lanes);
    }
}

static cx_status backward(const cx_call *c)
{
    const cx_tensor *x = &c->x[0], *dx = &c->dx[0];
    const int64_t px = cx_pixels(x->s);
    const float *slope = cx_row(&c->fold.carry, 0), *level = cx_row(&c->fold.carry, 1);
#pragma omp parallel for schedule(static) if (px > CARRY_PX)
    for (int64_t p0 = 0; p0 < px; p0 += CARRY_PX)
        for (int64_t p = p0; p < min64(px, p0 + CARRY_PX); p++) {
            float *to = dx->p + p * dx->ld;
#define CALL(V, lanes) carry_part(V, lanes, x, p * x->ld + k, slope + k, level + k, to + k)
            OVER_CHANNELS(x->s.c, CALL);
#undef CALL
        }
    return CX_OK;
}

const cx_impl CX_FN(statistics_impl) = { .name = "statistics " CX_ISA_NAME, .workspace = workspace, .fwd = forward, .bwd = backward, .bf16 = true };
