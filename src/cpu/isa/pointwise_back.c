/* pointwise_back.c - the gradients of a 1x1 convolution of stride 1 in one pass: for a block of pixels and a stripe of input channels, the data gradient, its
 * gate and the weights' share follow each other while the stripe of x lies in the first-level cache and dy, read through its fold, in the second.
 * In bfloat16 (`pairs`) each product sums over something else, so dy is packed twice: pairs of outputs for the data, pairs of pixels for the weights. */
#include "conv.h"
#include "pairs.h"
#include <omp.h>

enum { ROWS = 112, STRIPE = 32, MANY_BLOCKS = 64, MIN_RUN = 7, MIN_WIDTH = 2, MAX_WIDTH = 8, MANY_TASKS = 32, SOME_TASKS = 8, SUM_OUT = 8 };

/* Chunks of `run` blocks of pixels, each with a copy of dw: [panel of NR inputs][output][NR]. Where pixels are many, a task is a chunk and packs dy for itself,
 * block by block. Where they are few, all of dy is packed first, and a task is a group of `width` stripes of a chunk: then copies are few.
 * Scratch: [packed weights][parts][copies][packed dy, if shared][threads]. */
typedef struct {
    int64_t pixels, rows, blocks, run, chunks, in, out, stripes, width, groups, copy;
    int64_t k, pitch, pixel_pitch, block;               /* words: of a row of dy, between rows; between pairs of pixels; of a packed block */
    bool shared, pairs;
    size_t packed, parts, copies, dy, per_thread;       /* bytes */
} layout;

static layout lay_out(const cx_geometry *g)
{
    layout l = { .pairs = g->pairs, .pixels = cx_pixels(g->small.s), .in = g->big.s.c, .out = g->small.s.c };
    l.stripes = up_div(l.in, STRIPE);
    l.blocks = up_div(l.pixels, ROWS);
    l.rows = up_div(l.pixels, l.blocks);
    l.shared = l.blocks < MANY_BLOCKS;
    l.run = l.shared ? MIN_RUN : max64(MIN_RUN, up_div(l.blocks, MANY_TASKS));
    l.chunks = up_div(l.blocks, l.run);
    l.width = l.shared ? max64(MIN_WIDTH, min64(MAX_WIDTH, l.stripes * l.chunks / SOME_TASKS)) : l.stripes;
    l.groups = up_div(l.stripes, l.width);
    l.k = cx_words(l.out, l.pairs);
    l.pitch = cx_odd_lines(l.k);
    l.pixel_pitch = cx_odd_lines(l.out);
    l.block = l.rows * l.pitch + (l.pairs ? cx_words(l.rows, true) * l.pixel_pitch : 0);
    l.copy = cx_panels(l.in) * NR * l.out;
    l.packed = cx_align64((size_t)cx_packed(l.k, l.in) * sizeof(float));
    l.parts = cx_align64(cx_parts_bytes(l.chunks, l.in));
    l.copies = cx_align64((size_t)(l.chunks * l.copy) * sizeof(float));
    l.dy = l.shared ? (size_t)(l.blocks * l.block) * sizeof(float) : 0;
    l.per_thread = (size_t)((l.shared ? 0 : l.block) + 2 * l.rows * STRIPE) * sizeof(float);
    return l;
}

static size_t common_bytes(const layout *l) { return l->packed + l->parts + l->copies + l->dy; }

size_t CX_FN(point_back_bytes)(const cx_geometry *g)
{
    const layout l = lay_out(g);
    return common_bytes(&l) + l.per_thread * (size_t)omp_get_max_threads();
}

typedef struct {
    const layout *l;
    const cx_pass *p;
    const cx_source *big;
    bool data, add;                     /* whether the data's gradient is wanted; dw: added to what is there */
    cx_parts parts;
    float *copies, *dy, *dw;            /* dy: packed, if shared; dw: NULL = not wanted */
} job;

/* Rows of some channels that the coming product shall ask for, in runs of one length: those of a tensor in bfloat16 are half as long as a float32 one's beside
 * it, which then come in two. */
typedef struct { const float *run[3 * ROWS]; cx_ahead ahead; } wish;

/* Channels k .. k+n-1 of rows, in runs of `floats`. */
static void want(wish *w, const cx_tensor *t, int64_t first, int64_t rows, int64_t k, int64_t n, int64_t floats)
{
    for (int64_t r = first; r < first + rows; r++)
        for (int64_t i = 0; i < vt_floats(t, n); i += floats)
            w->run[w->ahead.n_run++] = (const float *)vt_at(t, r * t->ld + k) + i;
}

static cx_ahead *spread(wish *w, int64_t floats, int64_t steps)
{
    w->ahead.run = w->run;
    w->ahead.floats = floats;
    w->ahead.pace = (int)max64(1, up_div(w->ahead.n_run * up_div(floats, CX_LINE), max64(1, steps)));
    return &w->ahead;
}

/* One stripe of one block: `m` pixels from `first` on, whose dy is packed. */
typedef struct {
    int64_t chunk, first, col, n, steps;        /* steps: of a look-ahead, about, in either product */
    int m;
    bool fresh;                                 /* the first block of its chunk */
    const float *dy;
} place;

/* dx and the sums. What the gate reads is asked for meanwhile; what it says of x goes to `u`, for the weights. */
static void data_stripe(const job *b, const place *s, float *tile, float *u)
{
    const layout *l = b->l;
    const cx_pass *p = b->p;
    const float *a[ROWS];
    float *c[ROWS];
    int64_t px[ROWS];
    wish soon = { .ahead = { 0 } };
    for (int r = 0; r < s->m; r++) {
        px[r] = s->first + r;
        a[r] = s->dy + r * l->pitch;
        c[r] = p->finish.gate ? tile + r * STRIPE : p->dst.p + px[r] * p->dst.ld + s->col;
    }
    const int64_t floats = vt_floats(&b->big->t, s->n);
    want(&soon, &b->big->t, s->first, s->m, s->col, s->n, floats);
    if (p->dst.p)
        want(&soon, &p->dst, s->first, s->m, s->col, s->n, floats);
    cx_product q = { .m = s->m, .a = a, .n_run = 1, .run_len = l->k, .b = (float *)p->work + s->col * l->k, .n = s->n, .c = c,
        .add = p->finish.add && !p->finish.gate, .pairs = l->pairs, .ahead = spread(&soon, floats, s->steps) };
    CX_FN(product)(&q);
    if (p->finish.gate) {
        cx_gate gate = *p->finish.gate;
        gate.u = u;
        gate.u_pitch = STRIPE;
        CX_FN(gate_rows)(&gate, px, s->m, tile, STRIPE, s->col, s->n, s->fresh, b->parts, s->chunk);
    }
}

/* dw (out x in), outputs o0 .. o0+n-1 of panel j, (+)= the chunks' copies, added in order. */
static void sum_panel(const job *b, int64_t j, int64_t o0, int64_t n)
{
    const layout *l = b->l;
    const int64_t cols = min64(NR, l->in - j * NR);
    for (int64_t o = o0; o < o0 + n; o++) {
        const float *from = b->copies + (j * l->out + o) * NR;
        float sum[NR], *to = b->dw + o * l->in + j * NR;
        memcpy(sum, from, sizeof sum);
        for (int64_t t = 1; t < l->chunks; t++)
            for (int i = 0; i < NR; i++)
                sum[i] += from[t * l->copy + i];
        for (int64_t i = 0; i < cols; i++)
            to[i] = b->add ? to[i] + sum[i] : sum[i];
    }
}

/* dy of a block, as both products want it. */
static void pack_dy(const job *b, int64_t first, int64_t rows, float *to)
{
    const layout *l = b->l;
    const cx_source *dy = &b->p->src;
    if (HAS_PAIRS && l->pairs) {
        CX_FN(read_channel_pairs)(dy, first, rows, 0, l->out, to, l->pitch);
        CX_FN(read_pixel_pairs)(dy, first, rows, 0, l->out, to + l->rows * l->pitch, l->pixel_pitch);
    } else {
        CX_FN(read_rows)(dy, first, rows, 0, l->out, to, l->pitch);
    }
}

/* x behind its prologue for the weights' product: what the gate left in `u`, or read anew; pairs go to `tile`, which is free again. Columns up to the next
 * panel are zero. */
static float *weight_rows(const job *b, const place *s, float *u, float *tile)
{
    const bool gated = b->data && b->p->finish.gate, pairs = HAS_PAIRS && b->l->pairs;
    const cx_source left = cx_plain((cx_tensor){ .p = u, .ld = STRIPE }), *from = gated ? &left : b->big;
    const int64_t first = gated ? 0 : s->first, col = gated ? 0 : s->col;
    float *to = pairs ? tile : u;
    if (pairs)
        CX_FN(read_pixel_pairs)(from, first, s->m, col, s->n, to, STRIPE);
    else if (!gated)
        CX_FN(read_rows)(from, first, s->m, col, s->n, to, STRIPE);
    for (int64_t r = 0; s->n % NR && r < cx_words(s->m, pairs); r++)
        memset(to + r * STRIPE + s->n, 0, (size_t)(up_div(s->n, NR) * NR - s->n) * sizeof(float));
    return to;
}

/* The chunk's copy of dw (+)= dy' u. Meanwhile rows of the next block's dy are asked for. */
static void weight_stripe(const job *b, const place *s, const float *u, wish *later, int64_t floats)
{
    const layout *l = b->l;
    const float *dy = l->pairs ? s->dy + l->rows * l->pitch : s->dy;
    cx_outer o = { .rows = 1, .cols = cx_words(s->m, l->pairs), .a = dy, .a_pixel = l->pixel_pitch, .b = u, .b_panel = NR, .b_pixel = STRIPE,
        .t = b->copies + s->chunk * l->copy + s->col * l->out, .t_panel = NR * l->out, .m = l->out, .n = s->n, .fresh = s->fresh,
        .pairs = l->pairs, .ahead = spread(later, floats, s->steps) };
    CX_FN(outer)(&o);
}

/* The i-th of n shares of the next block's dy, `rows` pixels from `first` on: packed already, or as it lies. Returns the floats of each run. */
static int64_t want_dy(const job *b, int64_t first, int64_t rows, int64_t i, int64_t n, wish *w)
{
    const layout *l = b->l;
    const cx_source *dy = &b->p->src;
    if (l->shared) {
        w->run[w->ahead.n_run++] = b->dy + first / l->rows * l->block + l->block * i / n;
        return l->block * (i + 1) / n - l->block * i / n;
    }
    const int64_t from = rows * i / n, to = rows * (i + 1) / n, floats = vt_floats(dy->slope ? &dy->with : &dy->t, l->out);
    want(w, &dy->t, first + from, to - from, 0, l->out, floats);
    if (dy->slope)
        want(w, &dy->with, first + from, to - from, 0, l->out, floats);
    return floats;
}

/* Stripes lo .. hi-1 of a chunk. A stripe of dw that has only one copy is finished at once. */
static void run_task(const job *b, int64_t chunk, int64_t lo, int64_t hi, float *scratch)
{
    const layout *l = b->l;
    const int64_t begin = chunk * l->run * l->rows, end = min64(l->pixels, begin + l->run * l->rows);
    float *tile = scratch, *u = tile + l->rows * STRIPE, *mine = u + l->rows * STRIPE;
    for (int64_t first = begin; first < end; first += l->rows) {
        place s = { .chunk = chunk, .first = first, .m = (int)min64(l->rows, end - first), .fresh = first == begin,
            .dy = l->shared ? b->dy + first / l->rows * l->block : mine };
        const int64_t more = min64(l->rows, end - first - s.m);
        if (!l->shared)
            pack_dy(b, first, s.m, mine);
        for (int64_t i = lo; i < hi; i++) {
            wish later = { .ahead = { 0 } };
            s.col = i * STRIPE;
            s.n = min64(STRIPE, l->in - s.col);
            s.steps = up_div(s.m, MR) * cx_panels(s.n) * l->k / CX_AHEAD_STEP;
            if (b->data)
                data_stripe(b, &s, tile, u);
            if (!b->dw)
                continue;
            const int64_t floats = more ? want_dy(b, first + s.m, more, i - lo, hi - lo, &later) : 0;
            weight_stripe(b, &s, weight_rows(b, &s, u, tile), &later, floats);
            if (more == 0 && l->chunks == 1)
                for (int64_t j = s.col / NR; j < up_div(s.col + s.n, NR); j++)
                    sum_panel(b, j, 0, l->out);
        }
    }
}

static void sum_copies(const job *b)
{
    const layout *l = b->l;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < l->out; o += SUM_OUT)
        for (int64_t j = 0; j < cx_panels(l->in); j++)
            sum_panel(b, j, o, min64(SUM_OUT, l->out - o));
}

static void pack(const job *b, const float *w)
{
    const layout *l = b->l;
    const int64_t panels = b->data ? cx_panels(l->in) : 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < panels + (b->dy ? l->blocks : 0); i++)
        if (i < panels) {
            float *to = (float *)b->p->work + i * NR * l->k;
            if (HAS_PAIRS && l->pairs)
                CX_FN(pack_pairs)(w + i * NR, l->in, l->out, min64(NR, l->in - i * NR), to);
            else
                CX_FN(pack)(w + i * NR, l->in, 1, l->out, min64(NR, l->in - i * NR), to, 0, l->out);
        } else {
            const int64_t at = i - panels, first = at * l->rows;
            pack_dy(b, first, min64(l->rows, l->pixels - first), b->dy + at * l->block);
        }
}

void CX_FN(point_back)(const cx_geometry *g, const cx_pass *p, cx_source big, float *dw, bool add)
{
    const layout l = lay_out(g);
    char *parts = (char *)p->work + l.packed, *copies = parts + l.parts, *dy = copies + l.copies, *scratch = dy + l.dy;
    const job b = { .l = &l, .p = p, .big = &big, .data = p->finish.gate || p->dst.p, .add = add, .dw = dw, .parts = cx_parts_at(parts, l.in),
        .copies = (float *)copies, .dy = l.shared ? (float *)dy : NULL };
    pack(&b, p->w);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(p->bytes, common_bytes(&l), l.per_thread))
    for (int64_t t = 0; t < l.chunks * l.groups; t++) {
        const int64_t lo = t / l.chunks * l.width;
        run_task(&b, t % l.chunks, lo, min64(l.stripes, lo + l.width), (float *)(scratch + (size_t)omp_get_thread_num() * l.per_thread));
    }
    if (dw && l.chunks > 1)
        sum_copies(&b);
    if (p->finish.sums)
        CX_FN(merge_sums)(b.parts, l.chunks, p->finish.sums);
}
