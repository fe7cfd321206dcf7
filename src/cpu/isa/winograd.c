/* winograd.c - 3x3 convolutions of stride 1 forward and towards their input by F(4x4,3x3): tiles are transformed, multiplied at each of the 36 points, and
 * transformed back: Y = A'[(G w G') . (B' x B)]A. Where there are many tiles, each thread takes blocks of them that stay in its second-level cache; where the
 * tiles are few or the transformed weights many, all threads work on one group of tiles, point by point. */
#include "winograd.h"
#include <omp.h>

enum { TILES = 16, GROUP = 256, GROUP_BYTES = 10 << 20, FEW_TILES = 16, MANY_WEIGHTS = 128 * 128 };

/* ---- points to pixels --------------------------------------------------------------------------------------------- */

INLINE void transform_y(const vf m[6], vf o[4])         /* A' */
{
    vf s = m[1] + m[2], d = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    o[0] = m[0] + s + s2;
    o[1] = v_fma(v_set1(Q), d2, v_set1(P) * d);
    o[2] = v_fma(v_set1(Q2), s2, v_set1(P2) * s);
    o[3] = v_fma(v_set1(Q3), d2, v_fma(v_set1(P3), d, m[5]));
}

/* The first half: one vector of channels of 6x6 points to 4 rows of 6. */
INLINE void to_rows(const float *m, int64_t plane, vf t[4][6])
{
#pragma GCC unroll 1
    for (int x = 0; x < 6; x++) {
        vf c[6], o[4];
        const float *from = m;
#pragma GCC unroll 6
        for (int y = 0; y < 6; y++) {
            c[y] = v_load(from);
            from += 6 * plane;
            V_OPAQUE(from);
        }
        m += plane;
        transform_y(c, o);
#pragma GCC unroll 4
        for (int y = 0; y < 4; y++)
            t[y][x] = o[y];
    }
}

/* The part of a tile that is on the grid. */
typedef struct { int64_t first, rows, cols; } tile_part;

static tile_part part_of(cx_shape grid, tile_at at)
{
    return (tile_part){ (at.n * grid.h + at.y) * grid.w + at.x, min64(4, grid.h - at.y), min64(4, grid.w - at.x) };
}

/* Channels i0 .. i0+n-1, to `d` and pixels `ld`, lines `line` apart. */
static void store_tile(const cx_window *w, tile_part part, const float *m, int64_t plane, int64_t i0, int64_t n, float *d, int64_t ld, int64_t line)
{
    for (int64_t i = i0; i < i0 + n; i += VL) {
        const vf bias = w->finish.bias ? v_load(w->finish.bias + i) : v_zero();
        vf t[4][6], o[4];
        to_rows(m + i, plane, t);
#pragma GCC unroll 1
        for (int64_t y = 0; y < part.rows; y++) {
            float *to = d + y * line + i - i0;
            transform_y(t[y], o);
#pragma GCC unroll 4
            for (int x = 0; x < 4; x++) {
                if (x >= part.cols)
                    break;
                vf r = o[x] + bias;
                if (w->finish.add)
                    r += v_load(to + x * ld);
                v_store(to + x * ld, w->finish.relu ? v_max(r, v_zero()) : r);
            }
        }
    }
}

/* As gate_rows in fold.h, on the way out of the registers. */
enum { NO_DX, WRITE, ADD, STREAM };
INLINE void gate_pixels(const int how, const cx_dtype type, const cx_gate *gate, tile_part part, int64_t i, vf t[4][6], int64_t width, vf *sum, vf *dot)
{
    const vf scale = v_load(gate->scale + i), shift = v_load(gate->shift + i), mean = v_load(gate->mean + i);
    const int64_t ld = gate->x.ld, dx_ld = gate->dx.ld;
    const vf_mask always = (vf_mask){ 0 } - !gate->relu;
    int64_t x_row = part.first * ld + i;
    float *dx_row = how != NO_DX ? gate->dx.p + part.first * dx_ld + i : NULL;
    vf s = v_zero(), q = v_zero();
#pragma GCC unroll 1
    for (int64_t y = 0; y < part.rows; y++, x_row += width * ld) {
        vf o[4];
        transform_y(t[y], o);
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) {
            if (x >= part.cols)
                break;
            const vf at = vt_load(type, gate->x.p, x_row + x * ld, VL), h = vf_where(~(v_fma(at, scale, shift) <= v_zero()) | always, o[x]);
            s += h;
            q = v_fma(h, at - mean, q);
            if (how == ADD)
                v_store(dx_row + x * dx_ld, v_fma(scale, h, v_load(dx_row + x * dx_ld)));
            else if (how == STREAM)
                vf_stream(dx_row + x * dx_ld, scale * h);
            else if (how == WRITE)
                v_store(dx_row + x * dx_ld, scale * h);
        }
        if (how != NO_DX)
            dx_row += width * dx_ld;
    }
    *sum = s;
    *dot = q;
}

/* Sums go to `sum` and, `channels` floats on, to the second row; fresh: they overwrite. */
INLINE void gate_tile(const int how, const cx_dtype type, const cx_window *w, tile_part part, const float *m, int64_t plane, bool fresh, float *sum)
{
    const int64_t channels = w->dst.s.c;
    for (int64_t i = 0; i < channels; i += VL) {
        vf t[4][6], s, q;
        to_rows(m + i, plane, t);
        gate_pixels(how, type, w->finish.gate, part, i, t, w->dst.s.w, &s, &q);
        if (!sum)
            continue;
        v_store(sum + i, fresh ? s : s + v_load(sum + i));
        v_store(sum + channels + i, fresh ? q : q + v_load(sum + channels + i));
    }
}

/* Streaming pays where a vector is a whole line: the halves of a line are stored a tile apart, and the processor would write each by itself. */
static int how_dx(const cx_gate *gate) { return !gate->dx.p ? NO_DX : gate->add ? ADD : VL * sizeof(float) == 64 && can_stream(&gate->dx) ? STREAM : WRITE; }

static void gate_any(const cx_window *w, tile_part part, const float *m, int64_t plane, bool fresh, float *sum)
{
    const bool half = w->finish.gate->x.type == CX_BF16;
#define GATE(how) (half ? gate_tile(how, CX_BF16, w, part, m, plane, fresh, sum) : gate_tile(how, CX_F32, w, part, m, plane, fresh, sum))
    switch (how_dx(w->finish.gate)) {
    case NO_DX: GATE(NO_DX); break;
    case WRITE: GATE(WRITE); break;
    case ADD: GATE(ADD); break;
    default: GATE(STREAM);
    }
#undef GATE
}

/* ---- blocks of tiles ---------------------------------------------------------------------------------------------- */

/* Transformed weights: a packed matrix a point, as tiles an odd number of lines apart. */
static int64_t weight_plane(int64_t in, int64_t out) { return cx_odd_lines(cx_packed(in, out)); }
static size_t weight_bytes(int64_t in, int64_t out) { return cx_align64((size_t)(POINTS * weight_plane(in, out)) * sizeof(float)); }

/* A block of `size` tiles is what one thread transforms, and what one part of the partial sums is of; `group` tiles are multiplied at a time. */
typedef struct {
    bool together;                          /* all threads on one group, which lies in shared memory; else each on its own, group = size */
    int64_t tiles, size, blocks, group;
    tile_layout in, out;
    size_t packed, parts, shared, per_thread;
} data_layout;

static data_layout lay_out_data(int64_t in, int64_t out, cx_shape grid)
{
    data_layout l = { .tiles = cx_tile_count(grid), .size = cx_tile_count(grid) >= 8 * TILES ? TILES : TILES / 2 };
    l.group = l.size;
    l.together = l.tiles < FEW_TILES || in * out >= MANY_WEIGHTS;
    if (l.together) {
        int64_t most = max64(32, min64(GROUP, GROUP_BYTES / (POINTS * (in + out) * (int64_t)sizeof(float)))), groups = up_div(l.tiles, most);
        l.size = max64(1, min64(8, l.tiles / (16 * groups)));
        l.group = up_div(up_div(l.tiles, groups), l.size) * l.size;
    }
    l.blocks = up_div(l.tiles, l.size);
    l.in = cx_tiles_of(in, l.group);
    l.out = cx_tiles_of(out, l.group);
    const size_t planes = cx_align64((size_t)(POINTS * (l.in.plane + l.out.plane)) * sizeof(float));
    l.packed = weight_bytes(in, out);
    l.parts = cx_align64(cx_parts_bytes(l.blocks, out));
    l.shared = l.parts + (l.together ? planes : 0);
    l.per_thread = l.together ? 0 : planes;
    return l;
}

typedef struct {
    const cx_window *w;
    const data_layout *l;
    cx_parts parts;
    float *v, *m;                           /* transformed source and product of a group */
} stage;

/* Tiles t0 .. t0+n-1, which lie from place `at` of the group on. */
static void load_tiles(const stage *s, int64_t t0, int64_t n, int64_t at)
{
    const cx_window *w = s->w;
    tile_at tile = cx_tile_at(w->dst.s, t0);
    for (int64_t t = at; t < at + n; t++, tile = cx_tile_next(w->dst.s, tile))
        CX_FN(tile_x)(&w->src, tile.n, w->src_y + tile.y, w->src_x + tile.x, 0, w->src.t.s.c, s->v + t * s->l->in.pitch, s->l->in.plane, NR);
}

/* n tiles at point p, outputs col .. col+cols-1. */
static void multiply(const stage *s, int64_t p, int64_t n, int64_t col, int64_t cols, cx_ahead *ahead)
{
    const int64_t in = s->w->src.t.s.c;
    const float *a[GROUP];
    float *c[GROUP];
    for (int64_t t = 0; t < n; t++) {
        a[t] = s->v + p * s->l->in.plane + t * s->l->in.pitch;
        c[t] = s->m + p * s->l->out.plane + t * s->l->out.pitch + col;
    }
    cx_product g = { .m = (int)n, .a = a, .n_run = 1, .run_len = in, .b = s->w->b + p * weight_plane(in, s->w->dst.s.c) + col * in, .n = cols, .c = c,
        .ahead = ahead };
    CX_FN(product)(&g);
}

/* A tile that goes to memory as bfloat16, a few channels at a time: their statistics are taken before they are rounded. */
static void narrow_tile(const stage *s, tile_part part, const float *m, int64_t seen, int64_t chunk)
{
    enum { SLICE = 4 * VL };
    const cx_tensor *dst = &s->w->dst;
    for (int64_t i = 0; i < dst->s.c; i += SLICE) {
        float near[16 * SLICE];
        const float *row[16];
        int64_t px[16];
        const int64_t n = min64(SLICE, dst->s.c - i), count = part.rows * part.cols;
        store_tile(s->w, part, m, s->l->out.plane, i, n, near, SLICE, part.cols * SLICE);
        for (int64_t p = 0; p < count; p++) {
            px[p] = part.first + p / part.cols * dst->s.w + p % part.cols;
            row[p] = near + p * SLICE;
        }
        if (s->w->finish.stats)
            CX_FN(stats_rows)(row, count, i, n, seen, s->parts, chunk);
        CX_FN(write_rows)(dst, px, count, near, SLICE, i, n);
    }
}

/* The results of one block go to memory, or through the gate; then what is asked of them, while they are near. */
static void finish_tiles(const stage *s, int64_t t0, int64_t n, int64_t at)
{
    const cx_window *w = s->w;
    const int64_t chunk = t0 / s->l->size;
    float *sum = w->finish.gate && w->finish.gate->sums ? s->parts.p + chunk * s->parts.pitch : NULL;
    const float *row[TILES * 16];
    int count = 0;
    int64_t seen = 0;
    tile_at tile = cx_tile_at(w->dst.s, t0);
    for (int64_t t = 0; t < n; t++, tile = cx_tile_next(w->dst.s, tile)) {
        const float *m = s->m + (at + t) * s->l->out.pitch;
        const tile_part part = part_of(w->dst.s, tile);
        if (w->finish.gate)
            gate_any(w, part, m, s->l->out.plane, t == 0, sum);
        else if (w->dst.type == CX_BF16)
            narrow_tile(s, part, m, seen, chunk);
        else
            store_tile(w, part, m, s->l->out.plane, 0, w->dst.s.c, w->dst.p + part.first * w->dst.ld, w->dst.ld, w->dst.s.w * w->dst.ld);
        for (int64_t i = 0; w->finish.stats && w->dst.type == CX_F32 && i < part.rows * part.cols; i++)
            row[count++] = w->dst.p + (part.first + i / part.cols * w->dst.s.w + i % part.cols) * w->dst.ld;
        seen += part.rows * part.cols;
    }
    if (count)
        CX_FN(stats_rows)(row, count, 0, w->dst.s.c, 0, s->parts, chunk);
}

/* While one block is multiplied, at even points the source of the one from `after` on is asked for, at odd points what the gate will read of this one. */
static void run_block(const stage *s, int64_t t0, int64_t n, int64_t after, int64_t more)
{
    const cx_window *w = s->w;
    const cx_gate *gate = w->finish.gate;
    const int64_t in = w->src.t.s.c, out = w->dst.s.c, steps = POINTS / 2 * cx_panels(out) * up_div(n, MR) * up_div(in, CX_AHEAD_STEP);
    const float *later[2 * TILES * 16], *here[2 * TILES * 16];
    int n_later = CX_FN(fresh_pixels)(&w->src.t, w->dst.s, w->src_y + 2, w->src_x + 2, after, more, 0, later), n_here = 0;
    if (w->src.slope || w->src.cut)
        n_later += CX_FN(fresh_pixels)(&w->src.with, w->dst.s, w->src_y + 2, w->src_x + 2, after, more, 0, later + n_later);
    if (gate)
        n_here = CX_FN(fresh_pixels)(&gate->x, w->dst.s, 0, 0, t0, n, 0, here);
    if (gate && (how_dx(gate) == WRITE || how_dx(gate) == ADD))
        n_here += CX_FN(fresh_pixels)(&gate->dx, w->dst.s, 0, 0, t0, n, 0, here + n_here);
    cx_ahead next = { .run = later, .n_run = n_later, .floats = in, .pace = (int)up_div(n_later * in / CX_LINE, steps) };
    cx_ahead own = { .run = here, .n_run = n_here, .floats = out, .pace = (int)up_div(n_here * out / CX_LINE, steps) };
    load_tiles(s, t0, n, 0);
    for (int64_t p = 0; p < POINTS; p++)
        multiply(s, p, n, 0, out, p % 2 && n_here ? &own : &next);
    finish_tiles(s, t0, n, 0);
}

/* Threads take runs of blocks. At the end of one, a thread asks for the run that it will take if all go at the same speed; a wrong guess costs a prefetch. */
static void run_apart(const stage *all, float *scratch, int threads)
{
    const data_layout *l = all->l;
    const int64_t run = max64(1, min64(4, l->blocks / 32)) * l->size, runs = up_div(l->tiles, run);
#pragma omp parallel num_threads(threads)
    {
        const int64_t ahead = omp_get_num_threads() * run;
        stage s = *all;
        s.v = scratch + (size_t)omp_get_thread_num() * (l->per_thread / sizeof(float));
        s.m = s.v + POINTS * l->in.plane;
#pragma omp for schedule(dynamic, 1)
        for (int64_t r = 0; r < runs; r++) {
            const int64_t end = min64(l->tiles, (r + 1) * run);
            for (int64_t t = r * run; t < end; t += l->size) {
                const int64_t after = t + l->size < end ? t + l->size : r * run + ahead;
                run_block(&s, t, min64(l->size, end - t), after, max64(0, min64(l->size, l->tiles - after)));
            }
        }
        vf_fence();
    }
}

static void run_together(const stage *s)
{
    const data_layout *l = s->l;
    const int64_t panels = cx_panels(s->w->dst.s.c), parts = max64(1, panels / 4), cols = up_div(panels, parts) * NR;
#pragma omp parallel
    for (int64_t g = 0; g < l->tiles; g += l->group) {
        const int64_t n = min64(l->group, l->tiles - g);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < n; t += l->size)
            load_tiles(s, g + t, min64(l->size, n - t), t);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < POINTS * parts; i++)
            if (i % parts * cols < s->w->dst.s.c)
                multiply(s, i / parts, n, i % parts * cols, min64(cols, s->w->dst.s.c - i % parts * cols), NULL);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < n; t += l->size)
            finish_tiles(s, g + t, min64(l->size, n - t), t);
        vf_fence();
    }
}

/* work: partial sums, then the planes of the group or of each thread. */
static void run_tiles(const cx_window *w, const data_layout *l, void *work, size_t bytes)
{
    float *planes = (float *)((char *)work + l->parts);
    const stage s = { w, l, cx_parts_at(work, w->dst.s.c), planes, planes + POINTS * l->in.plane };
    if (l->together)
        run_together(&s);
    else
        run_apart(&s, planes, CX_FN(threads_that_fit)(bytes, l->shared, l->per_thread));
    if (w->finish.stats)
        CX_FN(merge_stats)(s.parts, l->blocks, w->finish.stats);
    if (w->finish.sums)
        CX_FN(merge_sums)(s.parts, l->blocks, w->finish.sums);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

INLINE void transform_w(const vf g[3], vf o[6])         /* G */
{
    const vf per_p = v_set1(PER_P), per_q = v_set1(PER_Q), p = v_set1(P), q = v_set1(Q);
    vf e = v_fma(v_set1(P2), g[2], g[0]), f = v_fma(v_set1(Q2), g[2], g[0]);
    o[0] = v_set1(PER_0) * g[0];
    o[1] = per_p * v_fma(p, g[1], e);
    o[2] = per_p * v_fma(-p, g[1], e);
    o[3] = per_q * v_fma(q, g[1], f);
    o[4] = per_q * v_fma(-q, g[1], f);
    o[5] = g[2];
}

/* Nine taps, `step` apart, of one vector of outputs to 36 points, `plane` apart. */
INLINE void points_of_taps(const float *w, int64_t step, float *u, int64_t plane)
{
    vf t[6][3], r[6];
#pragma GCC unroll 1
    for (int x = 0; x < 3; x++) {
        const vf g[3] = { v_load(w + x * step), v_load(w + (3 + x) * step), v_load(w + (6 + x) * step) };
        transform_w(g, r);
#pragma GCC unroll 6
        for (int y = 0; y < 6; y++)
            t[y][x] = r[y];
    }
#pragma GCC unroll 1
    for (int y = 0; y < 6; y++) {
        transform_w(t[y], r);
#pragma GCC unroll 6
        for (int x = 0; x < 6; x++) {
            v_store(u, r[x]);
            u += plane;
            V_OPAQUE(u);
        }
    }
}

/* U[point][panel of out][in][NR] = G w G' of weights (out, 3, 3, in), `scale` per output or NULL. Lanes are outputs, which lie far apart: a few inputs of one
 * vector of outputs are turned round first. */
static void down_pack(const cx_geometry *g, const float *w, const float *scale, float *packed)
{
    enum { TURN = 16 };
    const int64_t in = g->big.s.c, out = g->small.s.c, plane = weight_plane(in, out), vectors = cx_panels(out) * 2;
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < vectors * up_div(in, TURN); task++) {
        const int64_t o = task % vectors * VL, i0 = task / vectors * TURN, n = min64(TURN, in - i0);
        float turned[9 * TURN * VL] = { 0 };
        for (int64_t j = 0; o < out && j < VL; j++)
            for (int64_t tap = 0; tap < 9; tap++)
                for (int64_t i = 0; i < n; i++)
                    turned[(i * 9 + tap) * VL + j] = w[((o + j) * 9 + tap) * in + i0 + i] * (scale ? scale[o + j] : 1);
        for (int64_t i = 0; i < n; i++)
            points_of_taps(turned + i * 9 * VL, VL, packed + o / NR * NR * in + (i0 + i) * NR + o % NR, plane);
    }
}

/* The same for the gradient of the data, which goes from out to in with the taps reversed: U[point][panel of in][out][NR]. */
static void up_pack(const cx_geometry *g, const float *w, float *packed)
{
    const int64_t in = g->big.s.c, out = g->small.s.c, plane = weight_plane(out, in);
    const float none[9 * VL] = { 0 };
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < cx_panels(in) * NR; i += VL) {
            points_of_taps(i < in ? w + (o * 9 + 8) * in + i : none, i < in ? -in : VL, packed + i / NR * NR * out + o * NR + i % NR, plane);
        }
}

/* ---- the method --------------------------------------------------------------------------------------------------- */

/* Channels in whole vectors; too few would leave the transforms as the larger part. */
bool CX_FN(winograd_accepts)(const cx_geometry *g)
{
    int64_t in = g->big.s.c, out = g->small.s.c;
    return g->kh == 3 && g->kw == 3 && g->stride == 1 && in % VL == 0 && out % VL == 0 && in >= 32 && out >= 32 && g->small.s.h >= 4 && g->small.s.w >= 4;
}

static size_t down_packed(const cx_geometry *g) { return weight_bytes(g->big.s.c, g->small.s.c); }

static size_t data_bytes(const data_layout *l) { return l->shared + l->per_thread * (size_t)omp_get_max_threads(); }

static size_t down_bytes(const cx_geometry *g)
{
    data_layout l = lay_out_data(g->big.s.c, g->small.s.c, g->small.s);
    return data_bytes(&l);
}

static size_t up_bytes(const cx_geometry *g)
{
    data_layout l = lay_out_data(g->small.s.c, g->big.s.c, g->big.s);
    return l.packed + data_bytes(&l);
}

static void down(const cx_geometry *g, const cx_pass *p)
{
    data_layout l = lay_out_data(g->big.s.c, g->small.s.c, g->small.s);
    cx_window win = CX_FN(window_down)(g);
    win.src = p->src;
    win.dst = p->dst;
    win.b = p->w;
    win.finish = p->finish;
    run_tiles(&win, &l, p->work, p->bytes);
}

static void up(const cx_geometry *g, const cx_pass *p)
{
    data_layout l = lay_out_data(g->small.s.c, g->big.s.c, g->big.s);
    cx_window win = { .src = p->src, .dst = p->dst, .src_y = g->pad_top - 2, .src_x = g->pad_left - 2, .b = p->work, .finish = p->finish };
    win.dst.s = g->big.s;                   /* the gate's destination may be absent */
    up_pack(g, p->w, p->work);
    run_tiles(&win, &l, (char *)p->work + l.packed, p->bytes - l.packed);
}

const cx_method CX_FN(winograd_method) = {
    down_packed, down_pack, down_bytes, down, up_bytes, up, CX_FN(winograd_weight_bytes), CX_FN(winograd_weight), NULL, NULL
};
