/* pointwise.c - 1x1 convolutions of stride 1 in all three directions: pixels are one list, so each is a product of two matrices. */
#include "conv.h"
#include <omp.h>

enum { POINT_ROWS = 112, POINT_BLOCKS = 8, WANT_TASKS = 16, PIXELS = 112, K_BLOCK = 128, TASKS = 32 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- products of pixels with packed weights ----------------------------------------------------------------------- */

static int point_rows(cx_tensor t, int64_t p0, const float **row)
{
    int m = (int)max64(0, min64(POINT_ROWS, cx_pixels(t.s) - p0));
    for (int i = 0; i < m; i++)
        row[i] = t.p + (p0 + i) * t.ld;
    return m;
}

/* y (pixels x n) = x (pixels x k) b. A task is a few blocks of pixels; when there are few, columns are dealt out too. */
static void run_points(cx_tensor x, const float *b, cx_tensor y, cx_finish f)
{
    int64_t blocks = up_div(cx_pixels(x.s), POINT_ROWS), run = max64(1, min64(POINT_BLOCKS, blocks / WANT_TASKS)), row_tasks = up_div(blocks, run);
    int64_t panels = cx_panels(y.s.c), groups = min64(panels, up_div(WANT_TASKS, row_tasks)), cols = up_div(panels, groups) * NR;
    groups = up_div(y.s.c, cols);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < row_tasks * groups; t++) {
        int64_t col = t % groups * cols, n = min64(cols, y.s.c - col);
        for (int64_t i = t / groups * run; i < min64(blocks, (t / groups + 1) * run); i++) {
            const float *a[POINT_ROWS], *later[POINT_ROWS];
            float *c[POINT_ROWS];
            int m = point_rows(x, i * POINT_ROWS, a), n_later = i + 1 < (t / groups + 1) * run ? point_rows(x, (i + 1) * POINT_ROWS, later) : 0;
            for (int r = 0; r < m; r++)
                c[r] = y.p + (i * POINT_ROWS + r) * y.ld + col;
            cx_ahead ahead = { .run = later, .n_run = n_later, .floats = x.s.c, .pace = (int)up_div(CX_AHEAD_STEP * MR, CX_LINE * cx_panels(n)) };
            cx_product p = { .m = m, .a = a, .n_run = 1, .run_len = x.s.c, .b = b + col * x.s.c, .n = n, .c = c, .bias = f.bias ? f.bias + col : NULL,
                .relu = f.relu, .add = f.add, .ahead = &ahead };
            CX_FN(product)(&p);
        }
    }
}

static size_t down_bytes(const cx_geometry *g)
{
    (void)g;
    return 0;
}

static void down(const cx_geometry *g, const cx_pass *p)
{
    (void)g;
    run_points(p->src.t, p->w, p->dst, p->finish);
}

static size_t up_bytes(const cx_geometry *g) { return cx_align64((size_t)cx_packed(g->small.s.c, g->big.s.c) * sizeof(float)); }

static void up(const cx_geometry *g, const cx_pass *p)
{
    int64_t in = g->big.s.c, out = g->small.s.c;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < in; j += NR)
        CX_FN(pack)(p->w + j, in, 1, out, min64(NR, in - j), (float *)p->work + j * out, 0, out);
    run_points(p->src.t, p->work, p->dst, p->finish);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

/* Copies of the gradient lie one after the other as [panel of NR outputs][K][NR]; then each thread's scratch. */
typedef struct {
    int64_t k, k_blocks, k_block, chunks, copy, units;      /* copy: floats of one copy; units: pixels, which are cut into chunks */
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
    l.per_thread = cx_align64((size_t)(PIXELS * panels * NR) * sizeof(float));
    return l;
}

static size_t weight_bytes(const cx_geometry *g)
{
    weight_layout l = lay_out_weight(g);
    return l.shared + l.per_thread * (size_t)omp_get_max_threads();
}

/* Panels of NR columns, each `room` pixels long. */
static void pack_pixels(const float *s, int64_t ld, int64_t c, int64_t pixels, int64_t room, float *d)
{
    for (int64_t j = 0; j < c; j += NR, d += room * NR) {
        const float *from = s + j;
        float *to = d;
        if (c - j >= NR) {
            for (int64_t p = 0; p < pixels; p++, from += ld, to += NR)
                memcpy(to, from, NR * sizeof(float));
            continue;
        }
        for (int64_t p = 0; p < pixels; p++, from += ld, to += NR)
            for (int64_t i = 0; i < NR; i++)
                to[i] = i < c - j ? from[i] : 0;
    }
}

static void points_task(const weight_layout *l, cx_tensor big, cx_tensor small, int64_t chunk, int64_t k0, float *copy, float *packed)
{
    int64_t k = min64(l->k_block, l->k - k0), panels = cx_panels(small.s.c), end = l->units * (chunk + 1) / l->chunks;
    for (int64_t j = 0; j < panels; j++)
        memset(copy + (j * l->k + k0) * NR, 0, (size_t)(k * NR) * sizeof(float));
    for (int64_t p = l->units * chunk / l->chunks; p < end; p += PIXELS) {
        const float *later[2 * PIXELS];
        int64_t n = min64(PIXELS, end - p), more = min64(PIXELS, end - p - n);
        for (int64_t i = 0; i < more; i++) {
            later[2 * i] = big.p + (p + n + i) * big.ld + k0;
            later[2 * i + 1] = small.p + (p + n + i) * small.ld;
        }
        cx_ahead ahead = { .run = later, .n_run = (int)(2 * more), .floats = max64(k, small.s.c) };
        ahead.pace = (int)up_div(2 * ahead.floats * CX_AHEAD_STEP, CX_LINE * panels * up_div(k, MR));
        cx_outer o = { .rows = 1, .cols = n, .a = big.p + p * big.ld + k0, .a_pixel = big.ld, .b = small.p + p * small.ld, .b_panel = NR,
            .b_pixel = small.ld, .t = copy + k0 * NR, .t_panel = l->k * NR, .m = k, .n = small.s.c, .ahead = &ahead };
        if (small.s.c % NR) {                               /* the last panel would reach beyond a pixel */
            pack_pixels(o.b, small.ld, small.s.c, n, n, packed);
            o.b = packed;
            o.b_panel = n * NR;
            o.b_pixel = NR;
        }
        CX_FN(outer)(&o);
    }
}

static void weight(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes)
{
    weight_layout l = lay_out_weight(g);
    float *copies = work, *scratch = (float *)((char *)work + l.shared);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, l.shared, l.per_thread))
    for (int64_t t = 0; t < l.chunks * l.k_blocks; t++)
        points_task(&l, big.t, small.t, t / l.k_blocks, t % l.k_blocks * l.k_block, copies + t / l.k_blocks * l.copy,
            scratch + (size_t)omp_get_thread_num() * (l.per_thread / sizeof(float)));
    CX_FN(add_copies)(copies, l.chunks, l.copy, l.k, g->small.s.c, dw, add);
}

const cx_method CX_FN(pointwise_method) = { CX_FN(pack_down_bytes), CX_FN(pack_down), down_bytes, down, up_bytes, up, weight_bytes, weight };
