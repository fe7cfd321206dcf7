/* fold.h - what a plan folds into a step (cx_fold in op.h), as kernels apply it: while rows of channels are read, and to rows of results that still lie in a
 * cache. Depends on op.h, lanes.h. */
#ifndef CX_CPU_FOLD_H
#define CX_CPU_FOLD_H
#include "lanes.h"

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* A tensor and how its numbers are read; vectors are per channel, NULL = not so. A pixel outside (padding) is zero after all this. */
typedef struct {
    cx_tensor t;
    const float *scale, *shift;     /* x: t * scale + shift, then max(0, .) if relu */
    bool relu;
    const float *slope, *level;     /* dy: t + slope * with + level; `with` has t's shape */
    bool cut;                       /* dy: then zero where with <= 0, behind a folded ReLU */
    cx_tensor with;
} cx_source;

static inline cx_source cx_plain(cx_tensor t) { return (cx_source){ .t = t }; }

/* x[0] behind its prologue, and dy[0] with its carry. */
static inline cx_source cx_source_x(const cx_call *c)
{
    const cx_fold *f = &c->fold;
    return (cx_source){ .t = c->x[0], .scale = cx_row(&f->pre, CX_FOLD_SCALE), .shift = cx_row(&f->pre, CX_FOLD_SHIFT), .relu = f->pre_relu };
}
static inline cx_source cx_source_dy(const cx_call *c)
{
    const cx_fold *f = &c->fold;
    return (cx_source){ .t = c->dy[0], .slope = cx_row(&f->carry, 0), .level = cx_row(&f->carry, 1), .cut = c->relu,
        .with = c->y[0] };
}

/* Channels k .. of one pixel given by its place in t (and in `with`; ignored without a carry or a cut), as a kernel wants them: `lanes` of VL, VL a
 * constant. */
INLINE vf cx_read(const cx_source *s, int64_t at, int64_t with, int64_t k, int lanes)
{
    vf v = vt_load(s->t.type, s->t.p, at + k, lanes);
    if (s->scale) {
        v = v_fma(v, vf_load(s->scale + k, lanes), vf_load(s->shift + k, lanes));
        if (s->relu)
            v = vf_relu(v);
    }
    if (s->slope)
        v = v + v_fma(vt_load(s->with.type, s->with.p, with + k, lanes), vf_load(s->slope + k, lanes), vf_load(s->level + k, lanes));
    if (s->cut)
        v = vf_where(vt_load(s->with.type, s->with.p, with + k, lanes) > v_zero(), v);
    return v;
}

/* Copies `rows` pixels from pixel `first` on, channels k0 .. k0+k-1, into dst, `pitch` floats a row, read as s says. */
void CX_FN(read_rows)(const cx_source *s, int64_t first, int64_t rows, int64_t k0, int64_t k, float *dst, int64_t pitch);

/* The way back: `rows` results, `pitch` floats apart, become channels k0 .. k0+k-1 of pixels px[] of t, rounded if it is bfloat16. */
void CX_FN(write_rows)(const cx_tensor *t, const int64_t *px, int64_t rows, const float *from, int64_t pitch, int64_t k0, int64_t k);

/* ---- partial results of chunks ------------------------------------------------------------------------------------ */

/* Two numbers per channel from each chunk of pixels, and the chunk's count: statistics (mean, sum of squared deviations) or sums of a gradient. Chunks depend
 * on shapes only; merging goes through them in order, in double, so the bits do not depend on the number of threads. */
typedef struct { float *p; int64_t c, pitch; } cx_parts;          /* chunk i: row 0 at p + i*pitch, row 1 at + c, the count at + 2c */
static inline int64_t cx_parts_pitch(int64_t c) { return (2 * c + 1 + 15) / 16 * 16; }
static inline size_t cx_parts_bytes(int64_t chunks, int64_t c) { return (size_t)(chunks * cx_parts_pitch(c)) * sizeof(float); }
static inline cx_parts cx_parts_at(void *work, int64_t c) { return (cx_parts){ work, c, cx_parts_pitch(c) }; }

/* Of `rows` results; channels k0 .. k0+k-1, those of row r at row[r], for chunk `chunk`. Two passes over the rows, which should lie in a cache. They are
 * merged with the `seen` rows that the chunk holds; its count is written with its last channels (k0 + k == c). */
void CX_FN(stats_rows)(const float *const *row, int64_t rows, int64_t k0, int64_t k, int64_t seen, cx_parts parts, int64_t chunk);
/* All chunks -> stats (mean, variance). */
void CX_FN(merge_stats)(cx_parts parts, int64_t chunks, const cx_tensor *stats);
/* All chunks -> sums (added up). */
void CX_FN(merge_sums)(cx_parts parts, int64_t chunks, const cx_tensor *sums);

/* ---- a data gradient behind a prologue ------------------------------------------------------------------------------ */

/* g = the gradient, zero where the prologue's ReLU cut; dx (+)= scale g; sums of g and g (x - mean) into a chunk's part. */
typedef struct {
    cx_tensor x, dx;                /* dx.p NULL: only the sums */
    const float *scale, *shift, *mean;
    bool relu, add, sums;
    float *u;                       /* NULL, or x behind the prologue goes here: row r of the call, channel k0 + k at u[r*u_pitch + k] */
    int64_t u_pitch;
} cx_gate;
static inline cx_gate cx_gate_of(const cx_call *c)
{
    const cx_fold *f = &c->fold;
    return (cx_gate){ .x = c->x[0], .dx = c->dx[0], .scale = cx_row(&f->pre, CX_FOLD_SCALE), .shift = cx_row(&f->pre, CX_FOLD_SHIFT),
        .mean = cx_row(&f->pre, CX_FOLD_MEAN), .relu = f->pre_relu, .add = c->dx_add[0], .sums = f->sums.s.c > 0 };
}
/* `rows` gradients of u, pixel px[r] of x at g + r*pitch, channels k0 .. k0+k-1 (g points at channel k0). fresh: the chunk's part for these channels is
 * overwritten, else added to. */
void CX_FN(gate_rows)(const cx_gate *gate, const int64_t *px, int64_t rows, const float *g, int64_t pitch, int64_t k0, int64_t k, bool fresh,
    cx_parts parts, int64_t chunk);

#endif
