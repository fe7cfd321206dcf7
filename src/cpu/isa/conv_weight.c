/* conv_weight.c - gradients of convolution weights: sums of outer products over pixels. Pixels are cut into chunks whose number depends on the shapes
 * only; each chunk adds up its own copy of the gradient, and the copies are added in order, so that the bits do not depend on the number of threads. */
#include "conv.h"
#include <omp.h>

enum { STRIP_PIXELS = 224, CHUNKS = 8 };

/* Copies of the gradient lie one after the other as [panel of NR outputs][K][NR]; then each thread's scratch. */
typedef struct {
    int64_t k, chunks, copy;                        /* copy: floats of one copy */
    int64_t units, unit_rows;                       /* what is cut into chunks: strips of unit_rows grid rows */
    size_t shared, per_thread;                      /* bytes */
} layout;

/* Multiplied in float32, whatever the geometry says. */
static cx_window window_of(const cx_geometry *g)
{
    cx_window w = CX_FN(window_down)(g);
    w.pairs = false;
    return w;
}

static layout lay_out(const cx_geometry *g)
{
    layout l = { .k = (int64_t)g->kh * g->kw * g->big.s.c };
    cx_window w = window_of(g);
    int64_t panels = cx_panels(g->small.s.c);
    l.copy = panels * NR * l.k;
    l.unit_rows = CX_FN(strip_rows)(&w);
    l.units = g->small.s.n * up_div(g->small.s.h, l.unit_rows);
    l.chunks = min64(l.units, CHUNKS);
    l.shared = cx_align64((size_t)(l.chunks * l.copy) * sizeof(float));
    l.per_thread = cx_align64((size_t)(up_div(cx_strip_floats(&w, l.unit_rows), 16) * 16 + l.unit_rows * g->small.s.w * panels * NR) * sizeof(float));
    return l;
}

size_t CX_FN(window_weight_bytes)(const cx_geometry *g)
{
    layout l = lay_out(g);
    return l.shared + l.per_thread * (size_t)omp_get_max_threads();
}

/* Pixels from `first` on as panels of NR columns, each `pixels` long; columns beyond the channels are zero. */
static void pack_pixels(const cx_source *s, int64_t first, int64_t pixels, float *d)
{
    for (int64_t j = 0; j < s->t.s.c; j += NR, d += pixels * NR) {
        const int64_t n = min64(NR, s->t.s.c - j);
        if (n < NR)
            memset(d, 0, (size_t)(pixels * NR) * sizeof(float));
        CX_FN(read_rows)(s, first, pixels, j, n, d, NR);
    }
}

static void strips_task(const layout *l, const cx_window *w, const cx_source *small, int64_t chunk, float *copy, float *scratch)
{
    int64_t line = cx_strip_line(w), per_image = up_div(w->grid_h, l->unit_rows), block = max64(1, STRIP_PIXELS / w->grid_w);
    float *strip = scratch, *dys = scratch + up_div(cx_strip_floats(w, l->unit_rows), 16) * 16;
    memset(copy, 0, (size_t)l->copy * sizeof(float));
    for (int64_t u = l->units * chunk / l->chunks; u < l->units * (chunk + 1) / l->chunks; u++) {
        int64_t n = u / per_image, y0 = u % per_image * l->unit_rows, rows = min64(l->unit_rows, w->grid_h - y0), pixels = rows * w->grid_w;
        CX_FN(pad_strip)(w, n, y0, rows, strip);
        pack_pixels(small, (n * w->dst.s.h + y0) * w->dst.s.w, pixels, dys);
        for (int64_t y = 0; y < rows; y += block)
            for (int64_t ky = 0; ky < w->kh; ky++) {
                cx_outer o = { .rows = min64(block, rows - y), .cols = w->grid_w, .a = strip + (w->step * y + ky) * line, .a_line = w->step * line,
                    .a_pixel = w->step * w->src.t.s.c, .b = dys + y * w->grid_w * NR, .b_panel = pixels * NR, .b_pixel = NR,
                    .t = copy + ky * w->kw * w->src.t.s.c * NR, .t_panel = l->k * NR, .m = w->kw * w->src.t.s.c, .n = w->dst.s.c };
                CX_FN(outer)(&o);
            }
    }
}

/* dw[o][k] (+)= the copies [chunk][panel of NR outputs][k][NR], added in order. */
static void add_copies(const float *copies, int64_t chunks, int64_t copy, int64_t k, int64_t out, float *dw, bool add)
{
    enum { BLOCK = 16 };
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < up_div(k, BLOCK); b++) {
        int64_t k0 = b * BLOCK, n = min64(BLOCK, k - k0);
        for (int64_t j = 0; j < cx_panels(out); j++) {
            float sum[BLOCK * NR] = { 0 };
            for (int64_t c = 0; c < chunks; c++) {
                const float *t = copies + c * copy + (j * k + k0) * NR;
                for (int64_t i = 0; i < n * NR; i++)
                    sum[i] += t[i];
            }
            for (int64_t o = j * NR; o < min64(out, (j + 1) * NR); o++)
                for (int64_t i = 0; i < n; i++) {
                    float *d = dw + o * k + k0 + i, v = sum[i * NR + o - j * NR];
                    *d = add ? *d + v : v;
                }
        }
    }
}

void CX_FN(window_weight)(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes)
{
    layout l = lay_out(g);
    cx_window w = window_of(g);
    w.src = big;
    w.dst = small.t;
    float *copies = work, *scratch = (float *)((char *)work + l.shared);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, l.shared, l.per_thread))
    for (int64_t t = 0; t < l.chunks; t++)
        strips_task(&l, &w, &small, t, copies + t * l.copy, scratch + (size_t)omp_get_thread_num() * (l.per_thread / sizeof(float)));
    add_copies(copies, l.chunks, l.copy, l.k, g->small.s.c, dw, add);
}
