/* pointwise.c - 1x1 convolutions of stride 1 forward: pixels are one list, so it is a product of two matrices. Their gradients are pointwise_back.c's.
 * K is counted in words: of one channel in float32, of two where products are taken in bfloat16 (`pairs`). */
#include "conv.h"
#include "pairs.h"
#include <omp.h>

enum { ROWS = 112, FEW_ROWS = 49, WANT_BLOCKS = 16, POINT_TASKS = 64, POINT_K = 192, WEIGHT_PANELS = 4 };

/* Blocks of pixels of one size, `run` of them a task: of shapes only, since statistics are merged task by task. */
typedef struct { int64_t pixels, rows, blocks, run, tasks; } pixel_blocks;
static pixel_blocks cut_pixels(int64_t pixels)
{
    pixel_blocks b = { .pixels = pixels };
    int64_t n = max64(up_div(pixels, ROWS), min64(WANT_BLOCKS, max64(1, pixels / FEW_ROWS)));
    b.rows = max64(1, up_div(pixels, n));
    b.blocks = up_div(pixels, b.rows);
    b.run = max64(1, up_div(b.blocks, POINT_TASKS));
    b.tasks = up_div(b.blocks, b.run);
    return b;
}
static int rows_of(const pixel_blocks *b, int64_t block) { return (int)max64(0, min64(b->rows, b->pixels - block * b->rows)); }

/* Lines a look-ahead asks for at each of its steps when `lines` are wanted during `steps`. */
static int pace_of(int64_t lines, int64_t steps) { return (int)max64(1, up_div(lines, max64(1, steps))); }

static int add_runs(const float **run, int n, const cx_tensor *t, int64_t first, int64_t rows, int64_t k0)
{
    for (int64_t r = 0; r < rows; r++)
        run[n++] = vt_at(t, (first + r) * t->ld + k0);
    return n;
}

/* ---- products of pixels with packed weights ----------------------------------------------------------------------- */

typedef struct {
    pixel_blocks at;
    bool pairs;
    int64_t k, k_block, pitch, near;    /* near: floats of a row of results that goes by scratch, to be rounded; 0 = straight to memory */
    size_t parts, per_thread;       /* bytes of scratch */
} point_layout;

static point_layout lay_out_points(int64_t pixels, int64_t channels, bool pairs, const cx_tensor *dst)
{
    point_layout l = { .at = cut_pixels(pixels), .pairs = pairs, .k = cx_words(channels, pairs) };
    l.k_block = max64(1, up_div(up_div(l.k, up_div(max64(l.k, 1), POINT_K)), CX_LINE) * CX_LINE);
    l.pitch = cx_odd_lines(min64(l.k_block, l.k));
    l.near = dst->type == CX_F32 ? 0 : cx_odd_lines(dst->s.c);
    l.parts = cx_align64(cx_parts_bytes(l.at.tasks, dst->s.c));
    l.per_thread = (size_t)(l.at.rows * (l.pitch + l.near)) * sizeof(float);
    return l;
}
static size_t point_bytes(const point_layout *l) { return l->parts + l->per_thread * (size_t)omp_get_max_threads(); }

/* Rows k0 .. k0+k-1 of the packed weights of columns col .. col+n-1, as runs of k words. */
static int add_weights(const float **run, int n_run, const float *w, int64_t k_all, int64_t col, int64_t n, int64_t k0, int64_t k)
{
    for (int64_t j = 0; j < cx_panels(n) && j < WEIGHT_PANELS; j++)
        for (int64_t i = 0; i < NR; i++)
            run[n_run++] = w + (col + j * NR) * k_all + k0 * NR + i * k;
    return n_run;
}

/* Words k0 .. k0+k-1 of `rows` pixels, behind the source's folds. */
static void read_words(const point_layout *l, const cx_source *x, int64_t first, int64_t rows, int64_t k0, int64_t k, float *to)
{
    if (HAS_PAIRS && l->pairs)
        CX_FN(read_channel_pairs)(x, first, rows, 2 * k0, min64(2 * k, x->t.s.c - 2 * k0), to, l->pitch);
    else
        CX_FN(read_rows)(x, first, rows, k0, k, to, l->pitch);
}

/* Columns col .. col+n-1 of one block of pixels, to c[]; `next` is the block that will be wanted after it. */
static void point_block(const point_layout *l, const cx_pass *p, int64_t block, int64_t next, int64_t col, int64_t n, float *packed, float **c)
{
    const cx_source *x = &p->src;
    const int64_t k_all = l->k, first = block * l->at.rows;
    const int m = rows_of(&l->at, block);
    const float *a[ROWS], *later[WEIGHT_PANELS * NR + ROWS];
    for (int r = 0; r < m; r++) {
        a[r] = packed + r * l->pitch;
        c[r] = l->near ? packed + l->at.rows * l->pitch + r * l->near : p->dst.p + (first + r) * p->dst.ld + col;
    }
    for (int64_t k0 = 0; k0 < max64(k_all, 1); k0 += l->k_block) {
        const int64_t k = min64(l->k_block, k_all - k0);
        const bool last = k0 + k >= k_all;
        const int64_t ask = min64(l->k_block, last ? k_all : k_all - k0 - k);
        int n_later = !last && l->at.blocks < WANT_BLOCKS ? add_weights(later, 0, p->w, k_all, col, n, k0 + k, ask) : 0;
        cx_ahead ahead = { .run = later, .floats = n_later ? ask : vt_floats(&x->t, ask * cx_per_word(l->pairs)) };
        if (last)
            n_later = add_runs(later, n_later, &x->t, next * l->at.rows, rows_of(&l->at, next), 0);
        else
            n_later = add_runs(later, n_later, &x->t, first, m, (k0 + k) * cx_per_word(l->pairs));
        ahead.n_run = n_later;
        ahead.pace = pace_of(n_later * up_div(ahead.floats, CX_LINE), up_div(m, MR) * cx_panels(n) * k / CX_AHEAD_STEP);
        read_words(l, x, first, m, k0, k, packed);
        cx_product q = { .m = m, .a = a, .n_run = 1, .run_len = k, .b = p->w + col * k_all + k0 * NR, .b_rows = k_all, .n = n, .c = c,
            .bias = last && p->finish.bias ? p->finish.bias + col : NULL, .relu = last && p->finish.relu, .add = p->finish.add || k0 > 0,
            .pairs = l->pairs, .ahead = &ahead };
        CX_FN(product)(&q);
    }
}

static void round_block(const point_layout *l, const cx_tensor *dst, int64_t block, int64_t col, int64_t n, const float *near)
{
    int64_t px[ROWS];
    for (int r = 0; r < l->at.rows; r++)
        px[r] = block * l->at.rows + r;
    CX_FN(write_rows)(dst, px, rows_of(&l->at, block), near, l->near, col, n);
}

/* dst (pixels x n) = src (pixels x k) w. Columns are dealt out too where blocks are few, no finer than threads need, since each group packs its
 * block again; that changes no sum, so it may depend on the threads. */
static void run_points(const cx_pass *p, bool pairs)
{
    const point_layout l = lay_out_points(cx_pixels(p->src.t.s), p->src.t.s.c, pairs, &p->dst);
    const int threads = CX_FN(threads_that_fit)(p->bytes, l.parts, l.per_thread);
    const int64_t panels = cx_panels(p->dst.s.c);
    int64_t groups = 1;
    while (groups < panels && l.at.tasks * groups < 2 * threads && l.at.tasks * groups % threads)
        groups++;
    const int64_t cols = up_div(panels, groups) * NR, n_groups = up_div(p->dst.s.c, cols);
    const cx_parts parts = cx_parts_at(p->work, p->dst.s.c);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t t = 0; t < l.at.tasks * n_groups; t++) {
        float *packed = (float *)((char *)p->work + l.parts + (size_t)omp_get_thread_num() * l.per_thread);
        const int64_t task = t / n_groups, col = t % n_groups * cols, n = min64(cols, p->dst.s.c - col), end = min64(l.at.blocks, (task + 1) * l.at.run);
        for (int64_t i = task * l.at.run; i < end; i++) {
            float *c[ROWS];
            point_block(&l, p, i, i + 1 < end ? i + 1 : (t + threads) / n_groups * l.at.run, col, n, packed, c);
            if (p->finish.stats)
                CX_FN(stats_rows)((const float *const *)c, rows_of(&l.at, i), col, n, (i - task * l.at.run) * l.at.rows, parts, task);
            if (l.near)
                round_block(&l, &p->dst, i, col, n, c[0]);
        }
    }
    if (p->finish.stats)
        CX_FN(merge_stats)(parts, l.at.tasks, p->finish.stats);
}

static size_t down_bytes(const cx_geometry *g)
{
    const point_layout l = lay_out_points(cx_pixels(g->small.s), g->big.s.c, g->pairs, &g->small);
    return point_bytes(&l);
}

static void down(const cx_geometry *g, const cx_pass *p) { run_points(p, g->pairs); }

const cx_method CX_FN(pointwise_method) = {
    CX_FN(pack_down_bytes), CX_FN(pack_down), down_bytes, down, NULL, NULL, NULL, NULL, CX_FN(point_back_bytes), CX_FN(point_back)
};
