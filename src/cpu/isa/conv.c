/* conv.c - convolutions of any geometry forward and towards their input, as products of packed weights with windows of a zero-padded strip (a strip's kw*C
 * floats of one kernel row are contiguous in NHWC). 1x1 convolutions are pointwise.c's. */
#include "conv.h"
#include "pairs.h"
#include "pool.h"
#include <omp.h>

/* NEAR_COLS: columns of results that go by scratch together; a block of rows of them stays in the second-level cache. */
enum { STRIP_BYTES = 384 << 10, MIN_TASKS = 8, NEAR_COLS = 4 * NR, STATS_ROWS = 32 };

int CX_FN(threads_that_fit)(size_t bytes, size_t shared, size_t per_thread)
{
    int threads = omp_get_max_threads();
    if (per_thread && bytes > shared && (bytes - shared) / per_thread < (size_t)threads)
        threads = (int)((bytes - shared) / per_thread);
    return threads > 1 ? threads : 1;
}

/* ---- padded strips ------------------------------------------------------------------------------------------------ */

int64_t CX_FN(strip_rows)(const cx_window *w)
{
    int64_t line = max64(cx_strip_line(w) * (int64_t)sizeof(float), 1), fit = (STRIP_BYTES / line - w->kh) / w->step + 1;
    int64_t strips = up_div(w->grid_h, max64(fit, 1));
    if (w->src.t.s.n * strips < MIN_TASKS)
        strips = min64(w->grid_h, up_div(MIN_TASKS, w->src.t.s.n));
    return up_div(w->grid_h, strips);
}

void CX_FN(pad_strip)(const cx_window *w, int64_t n, int64_t y0, int64_t rows, float *strip)
{
    int64_t c = cx_words(w->src.t.s.c, w->pairs), line = cx_strip_line(w), pixels = line / c, lines = w->step * (rows - 1) + w->kh;
    int64_t left = min64(max64(-w->src_x, 0), pixels);                       /* pixels before the source's first column */
    int64_t right = max64(left, min64(pixels, w->src.t.s.w - w->src_x));       /* first pixel after its last */
    for (int64_t i = 0; i < lines; i++, strip += line) {
        int64_t y = w->src_y + w->step * y0 + i;
        if (y < 0 || y >= w->src.t.s.h) {
            memset(strip, 0, (size_t)line * sizeof(float));
            continue;
        }
        memset(strip, 0, (size_t)(left * c) * sizeof(float));
        memset(strip + right * c, 0, (size_t)(line - right * c) * sizeof(float));
        if (left >= right)
            continue;
        const int64_t first = (n * w->src.t.s.h + y) * w->src.t.s.w + w->src_x + left;
        if (HAS_PAIRS && w->pairs) {
            CX_FN(read_channel_pairs)(&w->src, first, right - left, 0, w->src.t.s.c, strip + left * c, c);
            continue;
        }
        if (w->src.t.type != CX_F32 || w->src.scale || w->src.slope || w->src.cut) {
            CX_FN(read_rows)(&w->src, first, right - left, 0, c, strip + left * c, c);
            continue;
        }
        const float *s = w->src.t.p + first * w->src.t.ld;
        if (w->src.t.ld == c) {
            memcpy(strip + left * c, s, (size_t)((right - left) * c) * sizeof(float));
            continue;
        }
        for (int64_t x = left; x < right; x++, s += w->src.t.ld)
            memcpy(strip + x * c, s, (size_t)c * sizeof(float));
    }
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

/* What the strips of one correlation share: where a thread finds its strip and its rows of results, and the partial results of chunks, a strip each. */
typedef struct {
    cx_parts parts;
    int64_t first_chunk;
    float *strip, *rows;        /* of this thread; rows where results go by scratch */
} strip_room;

/* Pixels px[] of the block, as rows of numbers that lie in scratch until they have gone through the gate or been rounded. */
static bool goes_by_scratch(const cx_window *w) { return w->finish.gate || w->dst.type != CX_F32; }

static void scratch_block(const cx_window *w, cx_product p, const int64_t *px, int64_t seen, const strip_room *room, int64_t chunk)
{
    float *to[CX_ROWS_MAX];
    const int64_t channels = p.n, k = p.n_run * p.run_len;
    for (int i = 0; i < p.m; i++)
        to[i] = room->rows + i * NEAR_COLS;
    p.c = to;
    for (int64_t k0 = 0; k0 < channels; k0 += NEAR_COLS) {
        p.b = w->b + k0 * k;
        p.n = min64(NEAR_COLS, channels - k0);
        p.bias = w->finish.bias ? w->finish.bias + k0 : NULL;
        CX_FN(product)(&p);
        if (w->finish.gate) {
            CX_FN(gate_rows)(w->finish.gate, px, p.m, room->rows, NEAR_COLS, k0, p.n, seen == 0, room->parts, chunk);
            continue;
        }
        for (int64_t i = 0; w->finish.stats && i < p.m; i += STATS_ROWS)
            CX_FN(stats_rows)((const float *const *)to + i, min64(STATS_ROWS, p.m - i), k0, p.n, seen + i, room->parts, chunk);
        CX_FN(write_rows)(&w->dst, px, p.m, room->rows, NEAR_COLS, k0, p.n);
    }
}

static void window_strip(const cx_window *w, int64_t n, int64_t y0, int64_t rows, const strip_room *room, int64_t chunk)
{
    const float *a[CX_ROWS_MAX];
    float *c[CX_ROWS_MAX];
    const int64_t words = cx_words(w->src.t.s.c, w->pairs), line = cx_strip_line(w), pixels = rows * w->grid_w;
    int64_t px[CX_ROWS_MAX];
    int64_t block = up_div(up_div(pixels, up_div(pixels, CX_ROWS_MAX - MR)), MR) * MR;
    if (w->kh > 0)
        CX_FN(pad_strip)(w, n, y0, rows, room->strip);
    for (int64_t p0 = 0; p0 < pixels; p0 += block) {
        int m = (int)min64(block, pixels - p0);
        int64_t y = p0 / w->grid_w, x = p0 % w->grid_w;
        for (int i = 0; i < m; i++) {
            a[i] = room->strip + w->step * (y * line + x * words);
            px[i] = (n * w->dst.s.h + w->dst_y + w->dst_step * (y0 + y)) * w->dst.s.w + w->dst_x + w->dst_step * x;
            c[i] = goes_by_scratch(w) ? NULL : w->dst.p + px[i] * w->dst.ld;
            if (++x == w->grid_w) {
                x = 0;
                y++;
            }
        }
        cx_product p = { .m = m, .a = a, .n_run = w->kw ? w->kh : 0, .run_len = w->kw * words, .run_stride = line, .b = w->b, .n = w->dst.s.c,
            .c = c, .pairs = w->pairs, .bias = w->finish.bias, .relu = w->finish.relu, .add = w->finish.add };
        if (goes_by_scratch(w)) {
            scratch_block(w, p, px, p0, room, chunk);
            continue;
        }
        CX_FN(product)(&p);
        for (int64_t i = 0; w->finish.stats && i < m; i += STATS_ROWS)
            CX_FN(stats_rows)((const float *const *)c + i, min64(STATS_ROWS, m - i), 0, w->dst.s.c, p0 + i, room->parts, chunk);
    }
}

static int64_t strips_of(const cx_window *w) { return w->src.t.s.n * up_div(w->grid_h, CX_FN(strip_rows)(w)); }

/* strip_floats: of one thread's strip; its rows of results follow. */
static void run_window(const cx_window *w, strip_room room, size_t strip_floats, size_t thread_floats, int threads)
{
    int64_t rows = CX_FN(strip_rows)(w), per_image = up_div(w->grid_h, rows), tasks = strips_of(w);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t t = 0; t < tasks; t++) {
        strip_room mine = room;
        int64_t y0 = t % per_image * rows;
        mine.strip += (size_t)omp_get_thread_num() * thread_floats;
        mine.rows = mine.strip + strip_floats;
        window_strip(w, t / per_image, y0, min64(rows, w->grid_h - y0), &mine, room.first_chunk + t);
    }
}

/* ---- big -> small ------------------------------------------------------------------------------------------------- */

cx_window CX_FN(window_down)(const cx_geometry *g)
{
    return (cx_window){ .src = cx_plain(g->big), .dst = g->small, .kh = g->kh, .kw = g->kw, .step = g->stride, .src_y = -g->pad_top, .src_x = -g->pad_left,
        .grid_h = g->small.s.h, .grid_w = g->small.s.w, .dst_step = 1, .pairs = g->pairs };
}

static size_t strip_bytes(const cx_window *w) { return cx_align64((size_t)cx_strip_floats(w, CX_FN(strip_rows)(w)) * sizeof(float)); }

size_t CX_FN(pack_down_bytes)(const cx_geometry *g)
{
    return cx_align64((size_t)cx_packed((int64_t)g->kh * g->kw * cx_words(g->big.s.c, g->pairs), g->small.s.c) * sizeof(float));
}

static size_t down_parts(const cx_window *w) { return cx_align64(cx_parts_bytes(strips_of(w), w->dst.s.c)); }

static const size_t ROWS_BYTES = (size_t)(CX_ROWS_MAX * NEAR_COLS) * sizeof(float);

static size_t down_thread(const cx_window *w) { return strip_bytes(w) + (goes_by_scratch(w) ? ROWS_BYTES : 0); }

/* ---- big -> small, pooled at once ---------------------------------------------------------------------------------------
 * A task has some rows of the pooled map of an image. It makes the rows of the map that they read a band at a time, in a buffer that stays in the second-level
 * cache, and keeps there what the next band reads too. Where its first row also reads what the task before has made, both leave their rows at an edge, which is
 * pooled when all tasks are done. So nothing is made twice, and sums are those of the map as a whole, bit for bit. */

enum { BAND_BYTES = 256 << 10, POOL_TASKS = 8 };

/* Of an image: tasks, rows of the pooled map in a task and in a band. Rows of the map that a band reads at most; that two neighbouring windows share; floats of
 * one. */
typedef struct { int64_t tasks, per_task, per_band, rows, shared, line; } pool_cut;

static pool_cut cut_pooled(const cx_geometry *g)
{
    const cx_pool_attr *a = &g->pool;
    const int64_t h = cx_pooled(g->small.s, a).h;
    pool_cut cut = { .per_task = up_div(h, min64(up_div(POOL_TASKS, g->small.s.n), h)), .shared = max64(a->kernel - a->stride, 0),
        .line = g->small.s.w * g->small.s.c };
    const int64_t fit = max64((BAND_BYTES / (cut.line * (int64_t)sizeof(float)) - a->kernel) / a->stride + 1, 1);
    cut.tasks = up_div(h, cut.per_task);
    cut.per_band = up_div(cut.per_task, up_div(cut.per_task, fit));
    cut.rows = (cut.per_band - 1) * a->stride + a->kernel;
    return cut;
}

bool CX_FN(pool_accepts)(const cx_geometry *g)
{
    const pool_cut cut = cut_pooled(g);
    return g->pool.kernel * cut.line * (int64_t)sizeof(float) <= BAND_BYTES && cut.shared <= g->pool.stride;
}

/* Rows of the map that rows p0 .. p1-1 of the pooled one read. */
static range rows_read(const cx_geometry *g, int64_t p0, int64_t p1)
{
    const int64_t lo = p0 * g->pool.stride - g->pool.pad, hi = (p1 - 1) * g->pool.stride - g->pool.pad + g->pool.kernel;
    return (range){ max64(lo, 0), min64(hi, g->small.s.h) };
}

/* Scratch: the edges, `kernel` rows of the map each, that of task t of image n at n * tasks + t, then of each thread its strip and its buffer. */
static int64_t edge_floats(const cx_geometry *g, const pool_cut *cut) { return cut->shared > 0 && cut->tasks > 1 ? g->pool.kernel * cut->line : 0; }

static size_t edge_bytes(const cx_geometry *g, const pool_cut *cut)
{
    return cx_align64((size_t)(g->small.s.n * cut->tasks * edge_floats(g, cut)) * sizeof(float));
}

static size_t pooled_strip(const cx_geometry *g, const pool_cut *cut)
{
    const cx_window w = CX_FN(window_down)(g);
    return cx_align64((size_t)cx_strip_floats(&w, cut->rows) * sizeof(float));
}

static size_t pooled_thread(const cx_geometry *g, const pool_cut *cut)
{
    return pooled_strip(g, cut) + cx_align64((size_t)(cut->rows * cut->line) * sizeof(float));
}

static void copy_rows(const pool_cut *cut, float *to, const float *from, int64_t rows) { memcpy(to, from, (size_t)(rows * cut->line) * sizeof(float)); }

/* Task t of image n of dst; edge: its own, the next one's follows. w: the window of that image by itself, whose dst is the buffer. */
static void pooled_task(const cx_geometry *g, const pool_cut *cut, cx_window w, float *strip, int64_t n, int64_t t, float *edge, const cx_tensor *dst)
{
    const strip_room room = { .strip = strip };
    const int64_t first = t * cut->per_task, end = min64(first + cut->per_task, dst->s.h), shared = t > 0 ? cut->shared : 0;
    range have = { rows_read(g, first, end).lo, rows_read(g, first, end).lo + shared };          /* the shared rows are made by the task before */
    for (int64_t p0 = first; p0 < end; p0 += cut->per_band) {
        const int64_t p1 = min64(p0 + cut->per_band, end);
        const range want = rows_read(g, p0, p1);
        const int64_t kept = max64(have.hi - want.lo, 0);
        memmove(w.dst.p, w.dst.p + (have.hi - have.lo - kept) * cut->line, (size_t)(kept * cut->line) * sizeof(float));
        w.dst_y = -want.lo;
        window_strip(&w, 0, want.lo + kept, want.hi - want.lo - kept, &room, 0);
        for (int64_t p = p0; p < p1; p++) {
            const range r = rows_read(g, p, p + 1);
            if (p == first && shared > 0)
                copy_rows(cut, edge + shared * cut->line, w.dst.p + shared * cut->line, r.hi - r.lo - shared);
            else
                CX_FN(max_row)(&w.dst, r.lo - want.lo, r.hi - want.lo, &g->pool, dst, n * dst->s.h + p);
        }
        have = want;
    }
    if (end < dst->s.h && cut->shared > 0)
        copy_rows(cut, edge + g->pool.kernel * cut->line, w.dst.p + (have.hi - have.lo - cut->shared) * cut->line, cut->shared);
}

static void pool_edges(const cx_geometry *g, const pool_cut *cut, float *edges, const cx_tensor *dst)
{
    const int64_t per_edge = edge_floats(g, cut);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < dst->s.n * cut->tasks; i++) {
        const int64_t p = i % cut->tasks * cut->per_task;
        const range r = rows_read(g, p, p + 1);
        const cx_tensor map = { .s = { 1, g->pool.kernel, g->small.s.w, g->small.s.c }, .ld = g->small.s.c, .p = edges + i * per_edge };
        if (p > 0)
            CX_FN(max_row)(&map, 0, r.hi - r.lo, &g->pool, dst, i / cut->tasks * dst->s.h + p);
    }
}

static void down_pooled(const cx_geometry *g, const cx_pass *p)
{
    const pool_cut cut = cut_pooled(g);
    const size_t edges = edge_bytes(g, &cut), per_thread = pooled_thread(g, &cut), strip = pooled_strip(g, &cut);
    const int64_t tasks = p->dst.s.n * cut.tasks, image = p->src.t.s.h * p->src.t.s.w * p->src.t.ld;
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(p->bytes, edges, per_thread))
    for (int64_t t = 0; t < tasks; t++) {
        char *mine = (char *)p->work + edges + (size_t)omp_get_thread_num() * per_thread;
        cx_window w = CX_FN(window_down)(g);
        w.src = p->src;
        w.src.t.s.n = 1;
        w.src.t.p = vt_at(&p->src.t, t / cut.tasks * image);
        w.b = p->w;
        w.finish = p->finish;
        w.dst = (cx_tensor){ .s = { 1, cut.rows, g->small.s.w, g->small.s.c }, .ld = g->small.s.c, .p = (float *)(mine + strip) };
        pooled_task(g, &cut, w, (float *)mine, t / cut.tasks, t % cut.tasks, (float *)p->work + t * edge_floats(g, &cut), &p->dst);
    }
    if (edges > 0)
        pool_edges(g, &cut, p->work, &p->dst);
}

static size_t down_bytes(const cx_geometry *g)
{
    if (g->pool.kernel) {
        const pool_cut cut = cut_pooled(g);
        return edge_bytes(g, &cut) + pooled_thread(g, &cut) * (size_t)omp_get_max_threads();
    }
    cx_window w = CX_FN(window_down)(g);
    return down_parts(&w) + down_thread(&w) * (size_t)omp_get_max_threads();
}

/* Outputs o .. o+n-1, one panel. */
static void pack_panel(const cx_geometry *g, const float *w, const float *scale, int64_t o, int64_t n, float *to)
{
    const int64_t in = g->big.s.c, taps = (int64_t)g->kh * g->kw, k = taps * in;
    w += o * k;
    scale = scale ? scale + o : NULL;
    for (int64_t t = 0; HAS_PAIRS && g->pairs && t < taps; t++)
        CX_FN(pack_pairs_transposed)(w + t * in, k, in, n, scale, to + t * cx_words(in, true) * NR);
    if (HAS_PAIRS && g->pairs)
        return;
    CX_FN(pack)(w, 1, k, k, n, to, 0, k);
    for (int64_t i = 0; scale && i < k; i++)
        for (int64_t j = 0; j < n; j++)
            to[i * NR + j] *= scale[j];
}

void CX_FN(pack_down)(const cx_geometry *g, const float *w, const float *scale, float *packed)
{
    const int64_t out = g->small.s.c, k = (int64_t)g->kh * g->kw * cx_words(g->big.s.c, g->pairs);
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < out; o += NR)
        pack_panel(g, w, scale, o, min64(NR, out - o), packed + o * k);
}

static void down(const cx_geometry *g, const cx_pass *p)
{
    if (g->pool.kernel) {
        down_pooled(g, p);
        return;
    }
    cx_window win = CX_FN(window_down)(g);
    win.src = p->src;
    win.dst = p->dst;
    win.b = p->w;
    win.finish = p->finish;
    size_t shared = down_parts(&win), per_thread = down_thread(&win);
    strip_room room = { .parts = cx_parts_at(p->work, win.dst.s.c), .strip = (float *)((char *)p->work + shared) };
    run_window(&win, room, strip_bytes(&win) / sizeof(float), per_thread / sizeof(float), CX_FN(threads_that_fit)(p->bytes, shared, per_thread));
    if (p->finish.stats)
        CX_FN(merge_stats)(room.parts, strips_of(&win), p->finish.stats);
}

/* ---- small -> big ------------------------------------------------------------------------------------------------- */

/* Pixels of big in steps of the stride, from (py,px), see the same taps: ky = ky0 + stride*j, j < n, at row q - j + (grid row) of small.
 * Reversed, these are a window of a correlation of step 1. */
static void phase_axis(int64_t phase, int64_t pad, int64_t k, int64_t stride, int64_t size, int64_t *k0, int64_t *n, int64_t *src, int64_t *grid)
{
    *k0 = (phase + pad) % stride;
    *n = *k0 < k ? (k - *k0 - 1) / stride + 1 : 0;
    *src = (phase + pad - *k0) / stride - (*n - 1);
    *grid = size > phase ? (size - phase - 1) / stride + 1 : 0;
}

static cx_window window_up(const cx_geometry *g, int64_t py, int64_t px, int64_t *ky0, int64_t *kx0)
{
    cx_window w = { .src = cx_plain(g->small), .dst = g->big, .step = 1, .dst_step = g->stride, .dst_y = py, .dst_x = px };
    phase_axis(py, g->pad_top, g->kh, g->stride, g->big.s.h, ky0, &w.kh, &w.src_y, &w.grid_h);
    phase_axis(px, g->pad_left, g->kw, g->stride, g->big.s.w, kx0, &w.kw, &w.src_x, &w.grid_w);
    if (!w.kh || !w.kw)
        w.kh = w.kw = 0;
    return w;
}

static size_t up_packed(const cx_geometry *g)
{
    return cx_align64((size_t)cx_packed((int64_t)g->kh * g->kw * g->small.s.c, g->big.s.c) * sizeof(float));
}

/* Scratch: packed weights, partial sums of the strips of all phases, then a strip and rows of results for each thread. */
typedef struct { size_t packed, shared, strip, per_thread; int64_t chunks; } up_layout;

static up_layout lay_out_up(const cx_geometry *g)
{
    up_layout l = { .packed = up_packed(g) };
    for (int64_t i = 0; i < (int64_t)g->stride * g->stride; i++) {
        int64_t ky0, kx0;
        cx_window w = window_up(g, i / g->stride, i % g->stride, &ky0, &kx0);
        if (!w.grid_h || !w.grid_w)
            continue;
        l.chunks += strips_of(&w);
        if (w.kh && strip_bytes(&w) > l.strip)
            l.strip = strip_bytes(&w);
    }
    l.shared = l.packed + cx_align64(cx_parts_bytes(l.chunks, g->big.s.c));
    l.per_thread = l.strip + ROWS_BYTES;
    return l;
}

static size_t up_bytes(const cx_geometry *g)
{
    up_layout l = lay_out_up(g);
    return l.shared + l.per_thread * (size_t)omp_get_max_threads();
}

/* Row (ty, tx, o) of B holds W[o][ky][kx][.] of the reversed taps. */
static void pack_up(const cx_geometry *g, const cx_window *win, int64_t ky0, int64_t kx0, const float *w, float *b)
{
    int64_t in = g->big.s.c, out = g->small.s.c, k = win->kh * win->kw * out;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < in; j += NR)
        for (int64_t t = 0; t < win->kh * win->kw; t++) {
            int64_t ky = ky0 + g->stride * (win->kh - 1 - t / win->kw), kx = kx0 + g->stride * (win->kw - 1 - t % win->kw);
            CX_FN(pack)(w + (ky * g->kw + kx) * in + j, g->kh * g->kw * in, 1, out, min64(NR, in - j), b + j * k, t * out, k);
        }
}

static void up(const cx_geometry *g, const cx_pass *p)
{
    up_layout l = lay_out_up(g);
    int threads = CX_FN(threads_that_fit)(p->bytes, l.shared, l.per_thread);
    strip_room room = { .parts = cx_parts_at((char *)p->work + l.packed, g->big.s.c), .strip = (float *)((char *)p->work + l.shared) };
    for (int64_t i = 0; i < (int64_t)g->stride * g->stride; i++) {
        int64_t ky0, kx0;
        cx_window win = window_up(g, i / g->stride, i % g->stride, &ky0, &kx0);
        if (!win.grid_h || !win.grid_w)
            continue;
        win.src = p->src;
        win.dst = p->dst;
        win.b = p->work;
        win.finish = p->finish;
        if (p->finish.gate)
            win.dst.s = p->finish.gate->x.s;
        pack_up(g, &win, ky0, kx0, p->w, p->work);
        run_window(&win, room, l.strip / sizeof(float), l.per_thread / sizeof(float), threads);
        room.first_chunk += strips_of(&win);
    }
    if (p->finish.sums)
        CX_FN(merge_sums)(room.parts, l.chunks, p->finish.sums);
}

const cx_method CX_FN(window_method) = {
    CX_FN(pack_down_bytes), CX_FN(pack_down), down_bytes, down, up_bytes, up, CX_FN(window_weight_bytes), CX_FN(window_weight), NULL, NULL
};
