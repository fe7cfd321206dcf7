/* pointwise.c - 1x1 convolutions of stride 1 in all three directions: pixels are one list, so each is a product of two matrices. */
#include "conv.h"
#include <omp.h>

enum { POINT_ROWS = 112, POINT_BLOCKS = 8, WANT_TASKS = 16, GATE_COLS = 2 * NR, PIXELS = 112, K_BLOCK = 128, TASKS = 32 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static bool is_folded(const cx_source *s) { return s->scale || s->slope; }

/* ---- products of pixels with packed weights ----------------------------------------------------------------------- */

/* How a product is dealt out. A task is a few blocks of pixels; when there are few, columns are dealt out too. Partial sums belong to a block. */
typedef struct {
    int64_t blocks, run, row_tasks, cols, groups;
    int64_t pitch;                          /* of a block's packed rows: 16 floats apart from a power of two, so that rows keep out of each other's sets */
    size_t parts, per_thread;               /* bytes */
} deal;

static deal deal_out(int64_t pixels, int64_t in, int64_t out)
{
    deal d = { .blocks = up_div(pixels, POINT_ROWS), .pitch = up_div(in, 16) * 16 + 16 };
    int64_t panels = cx_panels(out);
    d.run = max64(1, min64(POINT_BLOCKS, d.blocks / WANT_TASKS));
    d.row_tasks = up_div(d.blocks, d.run);
    d.cols = up_div(panels, min64(panels, up_div(WANT_TASKS, d.row_tasks))) * NR;
    d.groups = up_div(out, d.cols);
    d.parts = cx_align64(cx_parts_bytes(d.blocks, out));
    d.per_thread = (size_t)(POINT_ROWS * (d.pitch + GATE_COLS)) * sizeof(float);
    return d;
}

static int point_rows(const cx_tensor *t, int64_t p0, const float **row)
{
    int m = (int)max64(0, min64(POINT_ROWS, cx_pixels(t->s) - p0));
    for (int i = 0; i < m; i++)
        row[i] = t->p + (p0 + i) * t->ld;
    return m;
}

/* The rows of a block as the product reads them: in place, or read through the fold into `packed`. */
static int block_rows(const cx_source *s, int64_t p0, const deal *d, float *packed, const float **row)
{
    int m = point_rows(&s->t, p0, row);
    if (!is_folded(s))
        return m;
    CX_FN(read_rows)(s, p0, m, 0, s->t.s.c, packed, d->pitch);
    for (int i = 0; i < m; i++)
        row[i] = packed + i * d->pitch;
    return m;
}

/* Columns col .. col+n-1 of a block go to memory; later: whether the next block of pixels follows in this task. */
static void store_block(const cx_pass *p, const deal *d, int64_t block, int64_t col, int64_t n, bool later, float *packed, cx_parts parts)
{
    const float *a[POINT_ROWS], *next[POINT_ROWS], *row[POINT_ROWS];
    float *c[POINT_ROWS];
    const int64_t k = p->src.t.s.c, p0 = block * POINT_ROWS;
    const cx_finish *f = &p->finish;
    int m = block_rows(&p->src, p0, d, packed, a);
    for (int r = 0; r < m; r++) {
        row[r] = p->dst.p + (p0 + r) * p->dst.ld;
        c[r] = (float *)row[r] + col;
    }
    cx_ahead ahead = { .run = next, .n_run = later ? point_rows(&p->src.t, p0 + POINT_ROWS, next) : 0, .floats = k,
        .pace = (int)up_div(CX_AHEAD_STEP * MR, CX_LINE * cx_panels(n)) };
    cx_product g = { .m = m, .a = a, .n_run = 1, .run_len = k, .b = p->w + col * k, .n = n, .c = c, .bias = f->bias ? f->bias + col : NULL, .relu = f->relu,
        .add = f->add, .ahead = &ahead };
    CX_FN(product)(&g);
    if (f->stats)
        CX_FN(stats_rows)(row, m, col, n, false, parts, block);
}

/* The same, a few columns at a time through a scratch tile and the gate. What the gate reads is asked for during the product. */
static void gate_block(const cx_pass *p, const deal *d, int64_t block, int64_t col0, int64_t n, float *packed, cx_parts parts)
{
    const float *a[POINT_ROWS], *next[2 * POINT_ROWS];
    float *c[POINT_ROWS], *tile = packed + POINT_ROWS * d->pitch;
    int64_t px[POINT_ROWS];
    const int64_t k = p->src.t.s.c, p0 = block * POINT_ROWS;
    const cx_gate *gate = p->finish.gate;
    int m = block_rows(&p->src, p0, d, packed, a);
    for (int r = 0; r < m; r++) {
        px[r] = p0 + r;
        c[r] = tile + r * GATE_COLS;
    }
    for (int64_t col = col0; col < col0 + n; col += GATE_COLS) {
        const int64_t now = min64(GATE_COLS, col0 + n - col);
        int n_next = 0;
        for (int r = 0; r < m; r++) {
            next[n_next++] = gate->x.p + px[r] * gate->x.ld + col;
            if (gate->dx.p)
                next[n_next++] = gate->dx.p + px[r] * gate->dx.ld + col;
        }
        cx_ahead ahead = { .run = next, .n_run = n_next, .floats = now };
        ahead.pace = (int)up_div(n_next * up_div(now, CX_LINE) * CX_AHEAD_STEP, up_div(m, MR) * cx_panels(now) * k);
        cx_product g = { .m = m, .a = a, .n_run = 1, .run_len = k, .b = p->w + col * k, .n = now, .c = c, .ahead = &ahead };
        CX_FN(product)(&g);
        CX_FN(gate_rows)(gate, px, m, tile, GATE_COLS, col, now, true, parts, block);
    }
}

/* dst (pixels x n) = src (pixels x k) times the packed weights of p. work: partial sums, then each thread's scratch. */
static void run_points(const cx_pass *p, const deal *d, void *work, size_t bytes)
{
    cx_parts parts = cx_parts_at(work, p->dst.s.c);
    char *scratch = (char *)work + d->parts;
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, d->parts, d->per_thread))
    for (int64_t t = 0; t < d->row_tasks * d->groups; t++) {
        float *mine = (float *)(scratch + (size_t)omp_get_thread_num() * d->per_thread);
        const int64_t col = t % d->groups * d->cols, n = min64(d->cols, p->dst.s.c - col), end = min64(d->blocks, (t / d->groups + 1) * d->run);
        for (int64_t i = t / d->groups * d->run; i < end; i++)
            if (p->finish.gate)
                gate_block(p, d, i, col, n, mine, parts);
            else
                store_block(p, d, i, col, n, i + 1 < end, mine, parts);
    }
    if (p->finish.stats)
        CX_FN(merge_stats)(parts, d->blocks, p->finish.stats);
    if (p->finish.sums)
        CX_FN(merge_sums)(parts, d->blocks, p->finish.sums);
}

static size_t points_bytes(const deal *d) { return d->parts + d->per_thread * (size_t)omp_get_max_threads(); }

static size_t down_bytes(const cx_geometry *g)
{
    deal d = deal_out(cx_pixels(g->small.s), g->big.s.c, g->small.s.c);
    return points_bytes(&d);
}

static void down(const cx_geometry *g, const cx_pass *p)
{
    deal d = deal_out(cx_pixels(g->small.s), g->big.s.c, g->small.s.c);
    run_points(p, &d, p->work, p->bytes);
}

static size_t up_packed(const cx_geometry *g) { return cx_align64((size_t)cx_packed(g->small.s.c, g->big.s.c) * sizeof(float)); }

static size_t up_bytes(const cx_geometry *g)
{
    deal d = deal_out(cx_pixels(g->small.s), g->small.s.c, g->big.s.c);
    return up_packed(g) + points_bytes(&d);
}

static void up(const cx_geometry *g, const cx_pass *p)
{
    int64_t in = g->big.s.c, out = g->small.s.c;
    deal d = deal_out(cx_pixels(g->small.s), out, in);
    cx_pass q = *p;
    q.w = p->work;
    q.dst.s = g->big.s;                     /* the gate's destination may be absent */
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < in; j += NR)
        CX_FN(pack)(p->w + j, in, 1, out, min64(NR, in - j), (float *)p->work + j * out, 0, out);
    run_points(&q, &d, (char *)p->work + up_packed(g), p->bytes - up_packed(g));
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

/* Copies of the gradient lie one after the other as [panel of NR outputs][K][NR]; then each thread's scratch. */
typedef struct {
    int64_t k, k_blocks, k_block, chunks, copy, units;      /* copy: floats of one copy; units: pixels, which are cut into chunks */
    int64_t small_pitch, big_pitch;                         /* of packed pixels */
    size_t shared, per_thread;                              /* bytes */
} weight_layout;

static weight_layout lay_out_weight(const cx_geometry *g)
{
    weight_layout l = { .k = g->big.s.c, .units = cx_pixels(g->small.s) };
    int64_t panels = cx_panels(g->small.s.c);
    l.copy = panels * NR * l.k;
    l.k_blocks = up_div(l.k, K_BLOCK);
    l.k_block = up_div(up_div(l.k, l.k_blocks), MR) * MR;
    l.chunks = max64(1, min64(up_div(TASKS, l.k_blocks), l.units / (4 * PIXELS)));
    l.shared = cx_align64((size_t)(l.chunks * l.copy) * sizeof(float));
    l.small_pitch = panels * NR + 16;
    l.big_pitch = l.k_block + 16;
    l.per_thread = cx_align64((size_t)(PIXELS * (l.small_pitch + l.big_pitch)) * sizeof(float));
    return l;
}

static size_t weight_bytes(const cx_geometry *g)
{
    weight_layout l = lay_out_weight(g);
    return l.shared + l.per_thread * (size_t)omp_get_max_threads();
}

/* The operands of one block of pixels lie in place, but where they are read through a fold, or where the last panel would reach beyond a pixel. */
static void set_operands(const weight_layout *l, const cx_source *big, const cx_source *small, int64_t p, int64_t k0, float *packed, cx_outer *o)
{
    o->a = big->t.p + p * big->t.ld + k0;
    o->a_pixel = big->t.ld;
    o->b = small->t.p + p * small->t.ld;
    o->b_pixel = small->t.ld;
    o->b_panel = NR;
    if (is_folded(small) || o->n % NR) {
        for (int64_t i = 0; i < o->cols; i++)                      /* columns beyond n are zero */
            for (int64_t j = o->n; j < l->small_pitch - 16; j++)
                packed[i * l->small_pitch + j] = 0;
        CX_FN(read_rows)(small, p, o->cols, 0, o->n, packed, l->small_pitch);
        o->b = packed;
        o->b_pixel = l->small_pitch;
    }
    if (is_folded(big)) {
        packed += PIXELS * l->small_pitch;
        CX_FN(read_rows)(big, p, o->cols, k0, o->m, packed, l->big_pitch);
        o->a = packed;
        o->a_pixel = l->big_pitch;
    }
}

static void points_task(const weight_layout *l, const cx_source *big, const cx_source *small, int64_t chunk, int64_t k0, float *copy, float *packed)
{
    int64_t k = min64(l->k_block, l->k - k0), n_out = small->t.s.c, panels = cx_panels(n_out), end = l->units * (chunk + 1) / l->chunks;
    for (int64_t j = 0; j < panels; j++)
        memset(copy + (j * l->k + k0) * NR, 0, (size_t)(k * NR) * sizeof(float));
    for (int64_t p = l->units * chunk / l->chunks; p < end; p += PIXELS) {
        const float *later[3 * PIXELS];
        int64_t n = min64(PIXELS, end - p), more = min64(PIXELS, end - p - n);
        int runs = 0;
        for (int64_t i = p + n; i < p + n + more; i++) {
            later[runs++] = big->t.p + i * big->t.ld + k0;
            later[runs++] = small->t.p + i * small->t.ld;
            if (small->slope)
                later[runs++] = small->with.p + i * small->with.ld;
        }
        cx_ahead ahead = { .run = later, .n_run = runs, .floats = max64(k, n_out) };
        ahead.pace = (int)up_div((2 + (small->slope != NULL)) * ahead.floats * CX_AHEAD_STEP, CX_LINE * panels * up_div(k, MR));
        cx_outer o = { .rows = 1, .cols = n, .t = copy + k0 * NR, .t_panel = l->k * NR, .m = k, .n = n_out, .ahead = &ahead };
        set_operands(l, big, small, p, k0, packed, &o);
        CX_FN(outer)(&o);
    }
}

static void weight(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes)
{
    weight_layout l = lay_out_weight(g);
    float *copies = work, *scratch = (float *)((char *)work + l.shared);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, l.shared, l.per_thread))
    for (int64_t t = 0; t < l.chunks * l.k_blocks; t++)
        points_task(&l, &big, &small, t / l.k_blocks, t % l.k_blocks * l.k_block, copies + t / l.k_blocks * l.copy,
            scratch + (size_t)omp_get_thread_num() * (l.per_thread / sizeof(float)));
    CX_FN(add_copies)(copies, l.chunks, l.copy, l.k, g->small.s.c, dw, add);
}

const cx_method CX_FN(pointwise_method) = { CX_FN(pack_down_bytes), CX_FN(pack_down), down_bytes, down, up_bytes, up, weight_bytes, weight };
