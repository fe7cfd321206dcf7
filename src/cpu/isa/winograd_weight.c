/* winograd_weight.c - gradients of 3x3 weights by the adjoint of F(4x4,3x3): dw = G'[sum over tiles of (B' x B) . (A dy A')]G. Tiles are cut into chunks whose
 * number depends on the shapes only; each adds up its own copy of the gradient, and the copies are added in order. */
#include "winograd.h"
#include <omp.h>

enum { TILES = 28, CHUNK_TILES = 64, IN = 64, OUT = 64, WANT_TASKS = 16 };

INLINE void transform_dw(const vf s[6], vf o[3])        /* G' */
{
    vf a = v_set1(PER_P) * (s[1] + s[2]), b = v_set1(PER_Q) * (s[3] + s[4]), c = v_set1(PER_P) * (s[1] - s[2]), d = v_set1(PER_Q) * (s[3] - s[4]);
    o[0] = v_fma(v_set1(PER_0), s[0], a + b);
    o[1] = v_fma(v_set1(Q), d, v_set1(P) * c);
    o[2] = v_fma(v_set1(Q2), b, v_fma(v_set1(P2), a, s[5]));
}

/* A task is a chunk of tiles and a block of IN x OUT channels. Scratch of a thread: the source's points as panels, the gradient's, and their products S, at
 * point p and panel j of inputs from p * s_plane + j * OUT * NR on, NR floats an output. */
typedef struct {
    int64_t tiles, chunks, in_blocks, out_blocks, copy;         /* copy: floats of dw */
    int64_t v_panel, v_plane, s_plane;
    tile_layout z;
    size_t shared, per_thread;
} layout;

static layout lay_out(const cx_geometry *g)
{
    const int64_t in = g->big.s.c, out = g->small.s.c;
    layout l = { .tiles = cx_tile_count(g->small.s), .in_blocks = up_div(in, IN), .out_blocks = up_div(out, OUT), .copy = 9 * in * out };
    l.chunks = max64(1, min64(up_div(WANT_TASKS, l.in_blocks * l.out_blocks), l.tiles / CHUNK_TILES));
    l.v_panel = TILES * NR;
    l.v_plane = cx_odd_lines(cx_panels(min64(in, IN)) * l.v_panel);
    l.z = cx_tiles_of(min64(out, OUT), TILES);
    l.s_plane = cx_odd_lines(cx_panels(min64(in, IN)) * NR * min64(out, OUT));
    l.shared = l.chunks > 1 ? cx_align64((size_t)(l.chunks * l.copy) * sizeof(float)) : 0;
    l.per_thread = cx_align64((size_t)(POINTS * (l.v_plane + l.z.plane + l.s_plane)) * sizeof(float));
    return l;
}

size_t CX_FN(winograd_weight_bytes)(const cx_geometry *g)
{
    layout l = lay_out(g);
    return l.shared + l.per_thread * (size_t)omp_get_max_threads();
}

/* dw[o0 + o][tap][i0 + i] = G' S G. */
static void finish(const layout *l, const float *s, int64_t in, int64_t i0, int64_t n_in, int64_t o0, int64_t n_out, float *dw, bool add)
{
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t i = 0; i < n_in; i += VL) {
            const float *from = s + (i / NR * n_out + o) * NR + i % NR;
            float *to = dw + (o0 + o) * 9 * in + i0 + i;
            vf t[3][6], r[3];
#pragma GCC unroll 1
            for (int x = 0; x < 6; x++) {
                vf d[6];
                const float *p = from + x * l->s_plane;
#pragma GCC unroll 6
                for (int y = 0; y < 6; y++) {
                    d[y] = v_load(p);
                    p += 6 * l->s_plane;
                    V_OPAQUE(p);
                }
                transform_dw(d, r);
#pragma GCC unroll 3
                for (int y = 0; y < 3; y++)
                    t[y][x] = r[y];
            }
#pragma GCC unroll 1
            for (int y = 0; y < 3; y++) {
                transform_dw(t[y], r);
#pragma GCC unroll 3
                for (int x = 0; x < 3; x++, to += in)
                    v_store(to, add ? r[x] + v_load(to) : r[x]);
            }
        }
}

typedef struct { const cx_geometry *g; const cx_source *x, *dy; const layout *l; } job;

/* The pixels of the next tiles, asked for meanwhile: channels i0 .. and o0 .. of source and gradient. */
static int pixels_ahead(const job *k, int64_t t0, int64_t n, int64_t i0, int64_t o0, const float **run)
{
    const cx_shape grid = k->g->small.s;
    int count = CX_FN(fresh_pixels)(&k->x->t, grid, 2 - k->g->pad_top, 2 - k->g->pad_left, t0, n, i0, run);
    count += CX_FN(fresh_pixels)(&k->dy->t, grid, 0, 0, t0, n, o0, run + count);
    if (k->dy->slope || k->dy->cut)
        count += CX_FN(fresh_pixels)(&k->dy->with, grid, 0, 0, t0, n, o0, run + count);
    return count;
}

static void run_task(const job *k, int64_t chunk, int64_t i0, int64_t o0, float *dw, bool add, float *scratch)
{
    const layout *l = k->l;
    const cx_shape grid = k->g->small.s;
    const int64_t in = k->g->big.s.c, n_in = min64(IN, in - i0), n_out = min64(OUT, k->g->small.s.c - o0);
    const int64_t begin = l->tiles * chunk / l->chunks, end = l->tiles * (chunk + 1) / l->chunks, step = up_div(end - begin, up_div(end - begin, TILES));
    float *v = scratch, *z = v + POINTS * l->v_plane, *s = z + POINTS * l->z.plane;
    memset(s, 0, (size_t)(POINTS * l->s_plane) * sizeof(float));
    for (int64_t t0 = begin; t0 < end; t0 += step) {
        const float *later[3 * TILES * 16];
        const int64_t n = min64(step, end - t0), more = min64(step, end - t0 - n);
        cx_ahead next = { .run = later, .n_run = pixels_ahead(k, t0 + n, more, i0, o0, later), .floats = max64(n_in, n_out) };
        next.pace = (int)up_div(next.n_run * next.floats / CX_LINE, POINTS * cx_panels(n_in) * up_div(n_out, MR) * up_div(n, CX_AHEAD_STEP));
        tile_at at = cx_tile_at(grid, t0);
        for (int64_t t = 0; t < n; t++, at = cx_tile_next(grid, at)) {
            CX_FN(tile_x)(k->x, at.n, at.y - k->g->pad_top, at.x - k->g->pad_left, i0, n_in, v + t * NR, l->v_plane, l->v_panel);
            CX_FN(tile_dy)(k->dy, at.n, at.y, at.x, o0, n_out, z + t * l->z.pitch, l->z.plane);
        }
        for (int64_t p = 0; p < POINTS; p++) {
            cx_outer o = { .rows = 1, .cols = n, .a = z + p * l->z.plane, .a_pixel = l->z.pitch, .b = v + p * l->v_plane, .b_panel = l->v_panel, .b_pixel = NR,
                .t = s + p * l->s_plane, .t_panel = n_out * NR, .m = n_out, .n = n_in, .ahead = &next };
            CX_FN(outer)(&o);
        }
    }
    finish(l, s, in, i0, n_in, o0, n_out, dw, add);
}

void CX_FN(winograd_weight)(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes)
{
    const layout l = lay_out(g);
    const job k = { g, &big, &small, &l };
    const bool copies = l.chunks > 1;
    const int64_t blocks = l.in_blocks * l.out_blocks;
    float *copy = work, *scratch = (float *)((char *)work + l.shared);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, l.shared, l.per_thread))
    for (int64_t t = 0; t < l.chunks * blocks; t++) {
        const int64_t chunk = t / blocks, block = t % blocks;
        run_task(&k, chunk, block % l.in_blocks * IN, block / l.in_blocks * OUT, copies ? copy + chunk * l.copy : dw, add && !copies,
            scratch + (size_t)omp_get_thread_num() * (l.per_thread / sizeof(float)));
    }
    if (!copies)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < l.copy; i += VL) {
        vf sum = v_load(copy + i);
        for (int64_t c = 1; c < l.chunks; c++)
            sum += v_load(copy + c * l.copy + i);
        v_store(dw + i, add ? sum + v_load(dw + i) : sum);
    }
}
