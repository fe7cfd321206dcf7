/* conv_transpose.c - conv_transpose2d whose kernel equals its stride s, as a U-Net has it: outputs do not overlap, so each of the s x s taps is a plain product
 * of the pixels with an I x O slice of the weights, read and written in place. Depends on conv_transpose.h, gemm.h. */
#include "conv_transpose.h"
#include "conv.h"
#include "lanes.h"

enum { BLOCK = 112, BLOCK_ROOM = BLOCK + MR, BLOCK_RUN = 8, WANT_TASKS = 16, MAX_TAPS = 4 };
enum { PART_FLOATS = 64 << 10, PIECE = 128, CHUNKS = 8, FINISH_ROWS = 16 };

/* `small` has pixel (l, x), `big` has pixels (s l + a, s x + b) of tap a s + b. Lines run on from image to image on both sides alike, so blocks of `rows`
 * pixels of small need not know where an image ends. A run of blocks is a task of one thread, which looks ahead from each block to the next. */
typedef struct {
    cx_tensor small, big;
    int64_t s, taps, in, out;
    int64_t pixels, rows, blocks, run, runs;
} geometry;

static geometry geometry_of(const cx_call *c, cx_tensor small, cx_tensor big)
{
    geometry g = { .small = small, .big = big, .s = c->x[1].s.h, .in = small.s.c, .out = big.s.c, .pixels = cx_pixels(small.s) };
    g.taps = g.s * g.s;
    g.rows = up_div(up_div(g.pixels, up_div(g.pixels, BLOCK)), MR) * MR;
    g.blocks = up_div(g.pixels, g.rows);
    g.run = max64(1, min64(BLOCK_RUN, g.blocks / WANT_TASKS));
    g.runs = up_div(g.blocks, g.run);
    return g;
}

/* The pixels of a block in small; in big, for a tap. Return their number: none beyond the last block. */
static int small_rows(const geometry *g, int64_t block, float **row)
{
    int m = (int)max64(0, min64(g->rows, g->pixels - block * g->rows));
    for (int i = 0; i < m; i++)
        row[i] = g->small.p + (block * g->rows + i) * g->small.ld;
    return m;
}

static int big_rows(const geometry *g, int64_t block, int64_t tap, float **row)
{
    int m = (int)max64(0, min64(g->rows, g->pixels - block * g->rows));
    int64_t w = g->small.s.w, l = block * g->rows / w, x = block * g->rows % w;
    float *at = g->big.p + ((l * g->s + tap / g->s) * g->big.s.w + x * g->s + tap % g->s) * g->big.ld;
    for (int i = 0; i < m; i++, at += g->s * g->big.ld) {
        row[i] = at;
        if (++x == w) {
            x = 0;
            at += (g->s - 1) * g->big.s.w * g->big.ld;
        }
    }
    return m;
}

static int all_big_rows(const geometry *g, int64_t block, float **row)
{
    int n = 0;
    for (int64_t t = 0; t < g->taps; t++)
        n += big_rows(g, block, t, row + n);
    return n;
}

bool CX_FN(tap_accepts)(const cx_call *c)
{
    const cx_convt_attr *a = c->attr;
    cx_shape w = c->x[1].s;
    return w.h == a->stride && w.w == a->stride && w.h * w.w <= MAX_TAPS && a->pad == 0 && !c->relu && w.n % NR == 0;
}

/* ---- small -> big: one product for each tap ------------------------------------------------------------------------- */

static void spread_block(const geometry *g, int64_t block, int64_t later, int64_t tap0, int64_t tap1, const float *packed, const float *bias)
{
    float *a[BLOCK_ROOM], *next[BLOCK_ROOM], *c[BLOCK_ROOM];
    int m = small_rows(g, block, a);
    cx_ahead ahead = { .run = (const float *const *)next, .n_run = small_rows(g, later, next), .floats = g->in };
    ahead.pace = (int)up_div(CX_AHEAD_STEP * MR, CX_LINE * cx_panels(g->out) * (tap1 - tap0));
    for (int64_t t = tap0; t < tap1; t++) {
        big_rows(g, block, t, c);
        cx_product p = { .m = m, .a = (const float *const *)a, .n_run = 1, .run_len = g->in, .b = packed + t * cx_packed(g->in, g->out), .n = g->out, .c = c,
            .bias = bias, .ahead = &ahead };
        CX_FN(product)(&p);
    }
}

cx_status CX_FN(tap_forward)(const cx_call *c)
{
    const geometry g = geometry_of(c, c->x[0], c->y[0]);
    const float *w = c->x[1].p, *bias = c->n_in > 2 ? c->x[2].p : NULL;
    float *packed = c->work;
    const int64_t panels = cx_panels(g.out), groups = g.runs < WANT_TASKS ? g.taps : 1, taps = g.taps / groups;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g.taps * panels; i++) {
        const int64_t t = i / panels, o = i % panels * NR;
        CX_FN(pack)(w + t * g.out + o, g.taps * g.out, 1, g.in, min64(NR, g.out - o), packed + t * cx_packed(g.in, g.out) + o * g.in, 0, g.in);
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < g.runs * groups; i++) {
        const int64_t tap = i % groups * taps, end = min64(g.blocks, (i / groups + 1) * g.run);
        for (int64_t b = i / groups * g.run; b < end; b++)
            spread_block(&g, b, b + 1 < end ? b + 1 : g.blocks, tap, tap + taps, packed, bias);
    }
    return CX_OK;
}

/* ---- big -> small: one product for each line of taps, whose s pixels are runs of one row ----------------------------- */

static void gather_block(const geometry *g, int64_t block, int64_t later, const float *packed, bool add)
{
    float *a[BLOCK_ROOM], *c[BLOCK_ROOM], *next[MAX_TAPS * BLOCK_ROOM];
    const int64_t k = g->s * g->out;
    int m = small_rows(g, block, c);
    cx_ahead ahead = { .run = (const float *const *)next, .n_run = all_big_rows(g, later, next), .floats = g->out };
    ahead.pace = (int)up_div(CX_AHEAD_STEP * MR, CX_LINE * cx_panels(g->in));
    for (int64_t line = 0; line < g->s; line++) {
        big_rows(g, block, line * g->s, a);
        cx_product p = { .m = m, .a = (const float *const *)a, .n_run = g->s, .run_len = g->out, .run_stride = g->big.ld,
            .b = packed + line * cx_packed(k, g->in), .n = g->in, .c = c, .add = add || line > 0, .ahead = &ahead };
        CX_FN(product)(&p);
    }
}

static void gradient_of_x(const geometry *g, const float *w, bool add, float *packed)
{
    const int64_t k = g->s * g->out, panels = cx_panels(g->in);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g->s * panels; i++) {
        const int64_t line = i / panels, j = i % panels * NR;
        CX_FN(pack)(w + j * g->taps * g->out + line * k, 1, g->taps * g->out, k, NR, packed + line * cx_packed(k, g->in) + j * k, 0, k);
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < g->runs; i++) {
        const int64_t end = min64(g->blocks, (i + 1) * g->run);
        for (int64_t b = i * g->run; b < end; b++)
            gather_block(g, b, b + 1 < end ? b + 1 : g->blocks, packed, add);
    }
}

/* ---- weights and bias: sums over pixels --------------------------------------------------------------------------------
 * Row m = tap O + o of the gradient's transpose is a sum of outputs (tap, o) times input pixels. Blocks are cut into chunks and rows into parts by the shapes
 * alone; each chunk adds up a copy [panel of NR inputs][row][NR] of its own, and copies are added in order. */

typedef struct {
    int64_t m, part, parts;             /* rows of all taps; of one part */
    int64_t chunks, copy;               /* copy: floats of one copy */
} layout;

static layout lay_out(const geometry *g)
{
    layout l = { .m = g->taps * g->out, .copy = g->taps * g->out * g->in };
    l.parts = up_div(l.m, max64(MR, PART_FLOATS / g->in));
    l.part = up_div(l.m, l.parts);
    l.chunks = max64(1, min64(up_div(CHUNKS, l.parts), g->blocks / 4));
    return l;
}

/* sum[i] += column i of m rows that lie `n` apart: a block in float, blocks in double. */
INLINE void add_columns(const float *row, int m, int64_t n, int lanes, double *sum)
{
    vf v = v_zero();
    for (int i = 0; i < m; i++)
        v += vf_load(row + i * n, lanes);
    for (int i = 0; i < lanes; i++)
        sum[i] += (double)v[i];
}

/* Rows m0 .. m1-1, at most PIECE of one tap, over the pixels of one block. Where ld is a power of two, its pixels fall on few sets of the first-level cache:
 * the product reads them from a dense copy. */
static void add_piece(const geometry *g, const layout *l, int64_t block, int64_t m0, int64_t m1, float *copy, double *sums, cx_ahead *ahead)
{
    float near[BLOCK_ROOM * PIECE], *row[BLOCK_ROOM];
    const int64_t n = m1 - m0;
    const int m = big_rows(g, block, m0 / g->out, row);
    for (int i = 0; i < m; i++)
        memcpy(near + i * n, row[i] + m0 % g->out, (size_t)n * sizeof *near);
    if (copy) {
        cx_outer o = { .rows = 1, .cols = m, .a = near, .a_pixel = n, .b = g->small.p + block * g->rows * g->small.ld, .b_panel = NR,
            .b_pixel = g->small.ld, .t = copy + m0 * NR, .t_panel = l->m * NR, .m = n, .n = g->in, .ahead = ahead };
        CX_FN(outer)(&o);
    }
    int64_t k = 0;
    for (; sums && k + VL <= n; k += VL)
        add_columns(near + k, m, n, VL, sums + m0 + k);
    if (sums && k < n)
        add_columns(near + k, m, n, (int)(n - k), sums + m0 + k);
}

static void add_chunk(const geometry *g, const layout *l, int64_t chunk, int64_t part, float *copy, double *sums)
{
    const int64_t m0 = part * l->part, m1 = min64(l->m, m0 + l->part), end = g->blocks * (chunk + 1) / l->chunks;
    for (int64_t j = 0; copy && j < g->in; j += NR)
        memset(copy + j * l->m + m0 * NR, 0, (size_t)((m1 - m0) * NR) * sizeof *copy);
    for (int64_t m = m0; sums && m < m1; m++)
        sums[m] = 0;
    for (int64_t b = g->blocks * chunk / l->chunks; b < end; b++) {
        float *next[MAX_TAPS * BLOCK_ROOM];
        cx_ahead ahead = { .run = (const float *const *)next, .n_run = b + 1 < end && l->parts == 1 ? all_big_rows(g, b + 1, next) : 0, .floats = g->out };
        ahead.pace = (int)up_div(CX_AHEAD_STEP * MR * NR, CX_LINE * g->in);
        for (int64_t m = m0, stop; m < m1; m = stop) {
            stop = min64(min64(m1, m + PIECE), (m / g->out + 1) * g->out);
            add_piece(g, l, b, m, stop, copy, sums, &ahead);
        }
    }
}

/* dw[i][m] from the copies. */
static void finish_weights(const geometry *g, const layout *l, const float *copies, float *dw, bool add)
{
    const int64_t rows = up_div(l->m, FINISH_ROWS), panels = g->in / NR;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows * panels; t++) {
        const int64_t m0 = t % rows * FINISH_ROWS, n = min64(FINISH_ROWS, l->m - m0), j = t / rows * NR;
        float sum[FINISH_ROWS * NR] = { 0 };
        for (int64_t c = 0; c < l->chunks; c++) {
            const float *from = copies + c * l->copy + j * l->m + m0 * NR;
            for (int64_t i = 0; i < n * NR; i++)
                sum[i] += from[i];
        }
        for (int64_t i = 0; i < NR; i++)
            for (int64_t m = 0; m < n; m++) {
                float *d = dw + (j + i) * l->m + m0 + m;
                *d = add ? *d + sum[m * NR + i] : sum[m * NR + i];
            }
    }
}

static void finish_bias(const geometry *g, const layout *l, const double *sums, float *db, bool add)
{
    for (int64_t o = 0; o < g->out; o++) {
        double sum = 0;
        for (int64_t i = 0; i < l->chunks * g->taps; i++)
            sum += sums[i * g->out + o];
        db[o] = add ? db[o] + (float)sum : (float)sum;
    }
}

static size_t copies_bytes(const layout *l) { return cx_align64((size_t)(l->chunks * l->copy) * sizeof(float)); }

static void gradient_of_weights(const geometry *g, const cx_call *c)
{
    const layout l = lay_out(g);
    float *dw = c->dx[1].p, *db = c->n_in > 2 ? c->dx[2].p : NULL, *copies = dw ? c->work : NULL;
    double *sums = db ? (double *)((char *)c->work + copies_bytes(&l)) : NULL;
    if (!dw && !db)
        return;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < l.chunks * l.parts; t++)
        add_chunk(g, &l, t / l.parts, t % l.parts, copies ? copies + t / l.parts * l.copy : NULL, sums ? sums + t / l.parts * l.m : NULL);
    if (dw)
        finish_weights(g, &l, copies, dw, c->dx_add[1]);
    if (db)
        finish_bias(g, &l, sums, db, c->dx_add[2]);
}

cx_status CX_FN(tap_backward)(const cx_call *c)
{
    geometry g = geometry_of(c, c->x[0], c->dy[0]);
    gradient_of_weights(&g, c);
    g.small = c->dx[0];
    if (c->dx[0].p)
        gradient_of_x(&g, c->x[1].p, c->dx_add[0], c->work);
    return CX_OK;
}

size_t CX_FN(tap_workspace)(const cx_call *c, bool backward)
{
    const geometry g = geometry_of(c, c->x[0], c->y[0]);
    if (!backward)
        return (size_t)(g.taps * cx_packed(g.in, g.out)) * sizeof(float);
    const layout l = lay_out(&g);
    const size_t packed = (size_t)(g.s * cx_packed(g.s * g.out, g.in)) * sizeof(float);
    const size_t weights = copies_bytes(&l) + (size_t)(l.chunks * l.m) * sizeof(double);
    return packed > weights ? packed : weights;
}
