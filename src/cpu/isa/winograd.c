/* winograd.c - F(4x4,3x3): a block of tiles is transformed, multiplied at each of the 36 points, and transformed back while it lies in the second-level
 * cache (Lavin & Gray 2016, arXiv:1509.09308, interpolated at 0, 1, -1, 2, -2 and infinity; errors are about 5e-6 of the largest value, against 1e-6 of the
 * plain product). Y = A'[(G w G') . (B' x B)]A; the weight gradient is the adjoint, dw = G'[sum (B' x B) . (A dy A')]G. */
#include "conv.h"
#include <omp.h>

enum { POINTS = 36, TILES = 16, WEIGHT_TILES = 56, CHANNELS = 64, CHUNKS = 8 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- one-dimensional transforms ----------------------------------------------------------------------------------- */

INLINE void transform_x(const vf d[6], vf o[6])         /* B' */
{
    const vf four = v_set1(4), five = v_set1(-5), two = v_set1(2);
    vf a = v_fma(v_set1(-4), d[2], d[4]), b = v_fma(v_set1(-4), d[1], d[3]), e = d[4] - d[2], f = two * (d[3] - d[1]);
    o[0] = v_fma(four, d[0], v_fma(five, d[2], d[4]));
    o[1] = a + b;
    o[2] = a - b;
    o[3] = e + f;
    o[4] = e - f;
    o[5] = v_fma(four, d[1], v_fma(five, d[3], d[5]));
}

INLINE void transform_y(const vf m[6], vf o[4])         /* A' */
{
    vf s = m[1] + m[2], d = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    o[0] = m[0] + s + s2;
    o[1] = v_fma(v_set1(2), d2, d);
    o[2] = v_fma(v_set1(4), s2, s);
    o[3] = v_fma(v_set1(8), d2, d) + m[5];
}

INLINE void transform_dy(const vf d[4], vf o[6])        /* A */
{
    vf e = d[0] + d[2], f = d[1] + d[3], g = v_fma(v_set1(4), d[2], d[0]), h = v_fma(v_set1(8), d[3], v_set1(2) * d[1]);
    o[0] = d[0];
    o[1] = e + f;
    o[2] = e - f;
    o[3] = g + h;
    o[4] = g - h;
    o[5] = d[3];
}

INLINE void transform_w(const vf g[3], vf o[6])         /* G */
{
    const vf sixth = v_set1(-1.0f / 6);
    vf e = sixth * (g[0] + g[2]), f = sixth * g[1], h = v_fma(v_set1(1.0f / 24), g[0], v_set1(1.0f / 6) * g[2]), i = v_set1(1.0f / 12) * g[1];
    o[0] = v_set1(0.25f) * g[0];
    o[1] = e + f;
    o[2] = e - f;
    o[3] = h + i;
    o[4] = h - i;
    o[5] = g[2];
}

INLINE void transform_dw(const vf s[6], vf o[3])        /* G' */
{
    vf a = v_set1(1.0f / 6) * (s[1] + s[2]), b = s[3] + s[4], c = v_set1(1.0f / 6) * (s[2] - s[1]);
    o[0] = v_fma(v_set1(0.25f), s[0], v_fma(v_set1(1.0f / 24), b, -a));
    o[1] = v_fma(v_set1(1.0f / 12), s[3] - s[4], c);
    o[2] = v_fma(v_set1(1.0f / 6), b, s[5] - a);
}

/* ---- tiles -------------------------------------------------------------------------------------------------------- */

/* A plane of transformed tiles: point p, tile t, channel c at p * plane + t * pitch + c. The odd number of lines between points keeps the 36 stores of one
 * tile in different cache sets. */
typedef struct { int64_t pitch, plane; } tile_layout;
static tile_layout tiles_of(int64_t channels, int64_t tiles)
{
    int64_t pitch = channels + 16;
    return (tile_layout){ pitch, up_div(tiles * pitch, 32) * 32 + 16 };
}

typedef struct { int64_t n, y, x; } tile_at;           /* image and top left grid pixel */
static tile_at tile_of(const cx_window *w, int64_t t)
{
    int64_t across = up_div(w->grid_w, 4), down = up_div(w->grid_h, 4);
    return (tile_at){ t / (across * down), t / across % down * 4, t % across * 4 };
}
static int64_t tile_count(const cx_window *w) { return w->src.t.s.n * up_div(w->grid_h, 4) * up_div(w->grid_w, 4); }

/* The second half of a transform: columns are done, rows follow, and each point goes to its plane. */
INLINE void store_points(vf t[6][6], float *to, int64_t plane)
{
#pragma GCC unroll 1
    for (int y = 0; y < 6; y++) {
        vf o[6];
        transform_x(t[y], o);
#pragma GCC unroll 6
        for (int x = 0; x < 6; x++) {
            v_store(to, o[x]);
            to += plane;
            V_OPAQUE(to);
        }
    }
}

/* One tile of the source, channels c0 .. c0+c-1. Pixels outside are read from `zeros`. */
INLINE void load_x(const float *const *pixel, const float *base, int64_t line, int64_t ld, int64_t c, float *v, int64_t plane)
{
    for (int64_t i = 0; i < c; i += VL) {
        vf t[6][6];
        const float *column = pixel ? NULL : base + i;
#pragma GCC unroll 1
        for (int x = 0; x < 6; x++) {
            vf d[6], o[6];
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++)
                d[y] = v_load(pixel ? pixel[y * 6 + x] + i : column + y * line);
            if (!pixel)
                column += ld;
            transform_x(d, o);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++)
                t[y][x] = o[y];
        }
        store_points(t, v + i, plane);
    }
}

/* Pixels read through a fold; NULL = outside, which is zero behind it. */
typedef struct { const float *at[36], *with[36]; bool inside; } tile_pixels;

INLINE vf read_pixel(const bool carry, const tile_pixels *px, int j, int64_t i, vf mul, vf plus, bool relu)
{
    vf v = v_load(px->at[j] + i);
    if (carry)
        return v + v_fma(v_load(px->with[j] + i), mul, plus);
    v = v_fma(v, mul, plus);
    return relu ? vf_relu(v) : v;
}

INLINE void load_folded(const bool inside, const bool carry, const cx_source *s, const tile_pixels *px, int64_t c0, int64_t c, float *v, int64_t plane)
{
    const float *mul = (carry ? s->slope : s->scale) + c0, *plus = (carry ? s->level : s->shift) + c0;
    for (int64_t i = 0; i < c; i += VL) {
        const vf m = v_load(mul + i), a = v_load(plus + i);
        vf t[6][6];
#pragma GCC unroll 1
        for (int x = 0; x < 6; x++) {
            vf d[6], o[6];
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++)
                d[y] = inside || px->at[y * 6 + x] ? read_pixel(carry, px, y * 6 + x, i, m, a, s->relu) : v_zero();
            transform_x(d, o);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++)
                t[y][x] = o[y];
        }
        store_points(t, v + i, plane);
    }
}

static void tile_folded(const cx_window *w, int64_t t, int64_t c0, int64_t c, float *v, int64_t plane)
{
    const cx_source *s = &w->src;
    tile_at at = tile_of(w, t);
    tile_pixels px = { .inside = true };
    for (int i = 0; i < 36; i++) {
        int64_t y = w->src_y + at.y + i / 6, x = w->src_x + at.x + i % 6, p = (at.n * s->t.s.h + y) * s->t.s.w + x;
        bool here = y >= 0 && x >= 0 && y < s->t.s.h && x < s->t.s.w;
        px.inside &= here;
        px.at[i] = here ? s->t.p + p * s->t.ld + c0 : NULL;
        px.with[i] = here && s->slope ? s->with.p + p * s->with.ld + c0 : NULL;
    }
    if (s->slope && px.inside)
        load_folded(true, true, s, &px, c0, c, v, plane);
    else if (s->slope)
        load_folded(false, true, s, &px, c0, c, v, plane);
    else if (px.inside)
        load_folded(true, false, s, &px, c0, c, v, plane);
    else
        load_folded(false, false, s, &px, c0, c, v, plane);
}

static void tile_x(const cx_window *w, int64_t t, int64_t c0, int64_t c, const float *zeros, float *v, int64_t plane)
{
    if (w->src.scale || w->src.slope) {
        tile_folded(w, t, c0, c, v, plane);
        return;
    }
    tile_at at = tile_of(w, t);
    int64_t y0 = w->src_y + at.y, x0 = w->src_x + at.x, ld = w->src.t.ld, line = w->src.t.s.w * ld;
    const float *image = w->src.t.p + at.n * w->src.t.s.h * line + c0;
    if (y0 >= 0 && x0 >= 0 && y0 + 6 <= w->src.t.s.h && x0 + 6 <= w->src.t.s.w) {
        load_x(NULL, image + y0 * line + x0 * ld, line, ld, c, v, plane);
        return;
    }
    const float *pixel[36];
    for (int i = 0; i < 36; i++) {
        int64_t y = y0 + i / 6, x = x0 + i % 6;
        pixel[i] = y >= 0 && x >= 0 && y < w->src.t.s.h && x < w->src.t.s.w ? image + y * line + x * ld : zeros;
    }
    load_x(pixel, NULL, 0, 0, c, v, plane);
}

/* Back to rows x cols of 4x4 pixels at d, `line` floats from row to row. */
static void tile_y(const cx_window *w, const float *m, int64_t plane, float *d, int64_t rows, int64_t cols, int64_t line, int64_t ld)
{
    for (int64_t i = 0; i < w->dst.s.c; i += VL) {
        vf t1[4][6], bias = w->finish.bias ? v_load(w->finish.bias + i) : v_zero();
        const float *column = m + i;
#pragma GCC unroll 1
        for (int x = 0; x < 6; x++) {
            vf c[6], o[4];
            const float *from = column;
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++) {
                c[y] = v_load(from);
                from += 6 * plane;
                V_OPAQUE(from);
            }
            column += plane;
            transform_y(c, o);
#pragma GCC unroll 4
            for (int y = 0; y < 4; y++)
                t1[y][x] = o[y];
        }
#pragma GCC unroll 1
        for (int y = 0; y < rows; y++) {
            vf o[4];
            float *to = d + y * line + i;
            transform_y(t1[y], o);
#pragma GCC unroll 4
            for (int x = 0; x < 4; x++) {
                if (x >= cols)
                    break;
                vf r = o[x] + bias;
                if (w->finish.add)
                    r += v_load(to + x * ld);
                v_store(to + x * ld, w->finish.relu ? v_max(r, v_zero()) : r);
            }
        }
    }
}

/* The output gradient's 4x4 pixels to 6x6 points, as panels of NR channels for the outer product: point p, panel j at p * plane + j * panel. */
static void tile_dy(const cx_window *w, const cx_source *dy, int64_t t, const float *zeros, float *z, int64_t plane, int64_t panel)
{
    tile_at at = tile_of(w, t);
    const float *pixel[16], *with[16];
    for (int i = 0; i < 16; i++) {
        int64_t y = at.y + i / 4, x = at.x + i % 4, p = (at.n * w->dst.s.h + y) * w->dst.s.w + x;
        bool here = y < w->grid_h && x < w->grid_w;
        pixel[i] = here ? dy->t.p + p * dy->t.ld : zeros;
        with[i] = here && dy->slope ? dy->with.p + p * dy->with.ld : NULL;
    }
    for (int64_t i = 0; i < w->dst.s.c; i += VL) {
        vf t1[6][4];
        float *to = z + i / NR * panel + i % NR;
#pragma GCC unroll 1
        for (int x = 0; x < 4; x++) {
            vf d[4], o[6];
#pragma GCC unroll 4
            for (int y = 0; y < 4; y++) {
                d[y] = v_load(pixel[y * 4 + x] + i);
                if (with[y * 4 + x])
                    d[y] += v_fma(v_load(with[y * 4 + x] + i), v_load(dy->slope + i), v_load(dy->level + i));
            }
            transform_dy(d, o);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++)
                t1[y][x] = o[y];
        }
#pragma GCC unroll 1
        for (int y = 0; y < 6; y++) {
            vf o[6];
            transform_dy(t1[y], o);
#pragma GCC unroll 6
            for (int x = 0; x < 6; x++) {
                v_store(to, o[x]);
                to += plane;
                V_OPAQUE(to);
            }
        }
    }
}

/* ---- both directions of the data ---------------------------------------------------------------------------------- */

/* The pixels of n tiles from t0 that no earlier tile of its line has brought: rows and columns `skip` .. skip+3 of each tile. Returns how many. */
static int fresh_pixels(const cx_window *w, const cx_tensor *t, int64_t y_off, int64_t x_off, int64_t t0, int64_t n, int64_t c0, const float **run)
{
    int count = 0;
    for (int64_t i = 0; i < n; i++) {
        tile_at at = tile_of(w, t0 + i);
        for (int64_t y = max64(0, at.y + y_off); y < min64(t->s.h, at.y + y_off + 4); y++)
            for (int64_t x = max64(0, at.x + x_off); x < min64(t->s.w, at.x + x_off + 4); x++)
                run[count++] = t->p + ((at.n * t->s.h + y) * t->s.w + x) * t->ld + c0;
    }
    return count;
}

/* Partial sums belong to a block of tiles. */
typedef struct { tile_layout in, out; size_t shared, per_thread, parts; int64_t zeros, size, blocks; } data_layout;

/* tiles: of the whole batch. */
static data_layout lay_out_data(int64_t in, int64_t out, int64_t tiles)
{
    data_layout l = { .in = tiles_of(in, TILES), .out = tiles_of(out, TILES), .zeros = up_div(in, 16) * 16 };
    l.shared = cx_align64((size_t)(POINTS * cx_packed(in, out)) * sizeof(float));
    l.size = tiles >= 8 * TILES ? TILES : TILES / 2;
    l.blocks = up_div(tiles, l.size);
    l.parts = cx_align64(cx_parts_bytes(l.blocks, out));
    l.per_thread = cx_align64((size_t)(POINTS * (l.in.plane + l.out.plane) + l.zeros + TILES * 16 * out) * sizeof(float));
    return l;
}

static int64_t tiles_in(cx_shape s) { return s.n * up_div(s.h, 4) * up_div(s.w, 4); }

/* The results of n tiles go to memory, or through the gate; then what is asked of them, while they are near. */
static void finish_block(const cx_window *w, const data_layout *l, int64_t t0, int64_t n, const float *m, float *tile, cx_parts parts)
{
    const cx_gate *gate = w->finish.gate;
    const float *row[TILES * 16];
    int64_t px[TILES * 16], out = w->dst.s.c;
    int count = 0;
    for (int64_t t = 0; t < n; t++) {
        tile_at at = tile_of(w, t0 + t);
        int64_t rows = min64(4, w->grid_h - at.y), cols = min64(4, w->grid_w - at.x), first = (at.n * w->dst.s.h + at.y) * w->dst.s.w + at.x;
        if (gate)
            tile_y(w, m + t * l->out.pitch, l->out.plane, tile + count * out, rows, cols, cols * out, out);
        else
            tile_y(w, m + t * l->out.pitch, l->out.plane, w->dst.p + first * w->dst.ld, rows, cols, w->dst.s.w * w->dst.ld, w->dst.ld);
        for (int64_t i = 0; i < rows * cols; i++, count++) {
            px[count] = first + i / cols * w->dst.s.w + i % cols;
            row[count] = w->dst.p ? w->dst.p + px[count] * w->dst.ld : NULL;
        }
    }
    if (gate)
        CX_FN(gate_rows)(gate, px, count, tile, out, 0, out, true, parts, t0 / l->size);
    else if (w->finish.stats)
        CX_FN(stats_rows)(row, count, 0, out, false, parts, t0 / l->size);
}

static void run_block(const cx_window *w, const data_layout *l, int64_t t0, int64_t n, int64_t ahead, float *scratch, cx_parts parts)
{
    float *zeros = scratch, *v = zeros + l->zeros, *m = v + POINTS * l->in.plane;
    int64_t in = w->src.t.s.c, out = w->dst.s.c;
    const float *later[TILES * 16];
    cx_ahead next = { .run = later, .n_run = fresh_pixels(w, &w->src.t, w->src_y + 2, w->src_x + 2, t0 + n, ahead, 0, later), .floats = in,
        .pace = (int)up_div(16 * MR * CX_AHEAD_STEP, POINTS * CX_LINE * cx_panels(out)) };
    memset(zeros, 0, (size_t)in * sizeof(float));
    for (int64_t t = 0; t < n; t++)
        tile_x(w, t0 + t, 0, in, zeros, v + t * l->in.pitch, l->in.plane);
    for (int64_t p = 0; p < POINTS; p++) {
        const float *a[TILES];
        float *c[TILES];
        for (int64_t t = 0; t < n; t++) {
            a[t] = v + p * l->in.plane + t * l->in.pitch;
            c[t] = m + p * l->out.plane + t * l->out.pitch;
        }
        cx_product g = { .m = (int)n, .a = a, .n_run = 1, .run_len = in, .b = w->b + p * cx_packed(in, out), .n = out, .c = c, .ahead = &next };
        CX_FN(product)(&g);
    }
    finish_block(w, l, t0, n, m, m + POINTS * l->out.plane, parts);
}

/* work: partial sums, then each thread's scratch. */
static void run_tiles(const cx_window *w, const data_layout *l, void *work, size_t bytes)
{
    int64_t tiles = tile_count(w), size = l->size, group = max64(1, min64(4, l->blocks / 64));
    cx_parts parts = cx_parts_at(work, w->dst.s.c);
    float *scratch = (float *)((char *)work + l->parts);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, l->parts, l->per_thread))
    for (int64_t b = 0; b < up_div(l->blocks, group); b++) {
        float *mine = scratch + (size_t)omp_get_thread_num() * (l->per_thread / sizeof(float));
        int64_t end = min64(tiles, (b + 1) * group * size);
        for (int64_t t = b * group * size; t < end; t += size)
            run_block(w, l, t, min64(size, end - t), max64(0, min64(size, end - t - size)), mine, parts);
    }
    if (w->finish.stats)
        CX_FN(merge_stats)(parts, l->blocks, w->finish.stats);
    if (w->finish.sums)
        CX_FN(merge_sums)(parts, l->blocks, w->finish.sums);
}

/* U[point][panel of out][in][NR] = G w G'. Element (o, tap, i) of the weights at o * step_out + tap * step_tap + i * step_in; the gradient of the data
 * reverses the taps. */
static void transform_weights(const float *w, const float *scale, int64_t in, int64_t out, int64_t step_in, int64_t step_out, int64_t step_tap, bool reverse,
    float *u)
{
    int64_t plane = cx_packed(in, out);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < cx_panels(out) * NR; o += VL) {
            float *to = u + o / NR * NR * in + i * NR + o % NR;
            vf t[6][3], r[6];
            for (int x = 0; x < 3; x++) {
                vf g[3];
                for (int y = 0; y < 3; y++) {
                    const float *s = w + (reverse ? 8 - y * 3 - x : y * 3 + x) * step_tap + i * step_in + o * step_out;
                    float lanes[VL];
                    for (int j = 0; j < VL; j++)
                        lanes[j] = o < out ? s[j * step_out] * (scale ? scale[o + j] : 1) : 0;
                    g[y] = v_load(lanes);
                }
                transform_w(g, r);
                for (int y = 0; y < 6; y++)
                    t[y][x] = r[y];
            }
            for (int y = 0; y < 6; y++) {
                transform_w(t[y], r);
                for (int x = 0; x < 6; x++)
                    v_store(to + (y * 6 + x) * plane, r[x]);
            }
        }
}

/* Channels in whole vectors and few enough for the transformed weights to stay near; too few would leave the transforms as the larger part. */
bool CX_FN(winograd_accepts)(const cx_geometry *g)
{
    int64_t in = g->big.s.c, out = g->small.s.c;
    return g->kh == 3 && g->kw == 3 && g->stride == 1 && in % VL == 0 && out % VL == 0 && in >= 32 && out >= 32 && in * out <= 128 * 128
        && g->small.s.h >= 4 && g->small.s.w >= 4;
}

static size_t down_packed(const cx_geometry *g) { return cx_align64((size_t)(POINTS * cx_packed(g->big.s.c, g->small.s.c)) * sizeof(float)); }

static void down_pack(const cx_geometry *g, const float *w, const float *scale, float *packed)
{
    int64_t in = g->big.s.c;
    transform_weights(w, scale, in, g->small.s.c, 1, 9 * in, in, false, packed);
}

static size_t data_bytes(const data_layout *l) { return l->parts + l->per_thread * (size_t)omp_get_max_threads(); }

static size_t down_bytes(const cx_geometry *g)
{
    data_layout l = lay_out_data(g->big.s.c, g->small.s.c, tiles_in(g->small.s));
    return data_bytes(&l);
}

static size_t up_bytes(const cx_geometry *g)
{
    data_layout l = lay_out_data(g->small.s.c, g->big.s.c, tiles_in(g->big.s));
    return l.shared + data_bytes(&l);
}

static void down(const cx_geometry *g, const cx_pass *p)
{
    data_layout l = lay_out_data(g->big.s.c, g->small.s.c, tiles_in(g->small.s));
    cx_window win = CX_FN(window_down)(g);
    win.src = p->src;
    win.dst = p->dst;
    win.b = p->w;
    win.finish = p->finish;
    run_tiles(&win, &l, p->work, p->bytes);
}

static void up(const cx_geometry *g, const cx_pass *p)
{
    int64_t in = g->small.s.c, out = g->big.s.c;
    data_layout l = lay_out_data(in, out, tiles_in(g->big.s));
    cx_window win = { .src = p->src, .dst = p->dst, .kh = 3, .kw = 3, .step = 1, .src_y = g->pad_top - 2, .src_x = g->pad_left - 2,
        .grid_h = g->big.s.h, .grid_w = g->big.s.w, .dst_step = 1, .b = p->work, .finish = p->finish };
    win.dst.s = g->big.s;                   /* the gate's destination may be absent */
    transform_weights(p->w, NULL, in, out, 9 * out, 1, out, true, p->work);
    run_tiles(&win, &l, (char *)p->work + l.shared, p->bytes - l.shared);
}

/* ---- weight gradient ---------------------------------------------------------------------------------------------- */

/* Copies [chunk][9 taps][in][out]; scratch of a thread: zeros, V of one block of channels, Z, S. */
typedef struct {
    tile_layout x;
    int64_t tiles, chunks, blocks, copy, zeros, panel, z_plane, s_plane;
    size_t shared, per_thread;
} weight_layout;

static weight_layout lay_out_weight(const cx_geometry *g)
{
    int64_t in = g->big.s.c, out = g->small.s.c, channels = min64(in, CHANNELS);
    cx_window w = CX_FN(window_down)(g);
    weight_layout l = { .x = tiles_of(channels, WEIGHT_TILES), .tiles = tile_count(&w), .blocks = up_div(in, CHANNELS), .copy = 9 * in * out };
    l.chunks = max64(1, min64(CHUNKS, l.tiles / (2 * WEIGHT_TILES)));
    l.zeros = up_div(max64(in, out), 16) * 16;
    l.panel = WEIGHT_TILES * NR;
    l.z_plane = cx_panels(out) * l.panel + 16;
    l.s_plane = cx_panels(out) * channels * NR;
    l.shared = cx_align64((size_t)(l.chunks * l.copy) * sizeof(float));
    l.per_thread = cx_align64((size_t)(l.zeros + POINTS * (l.x.plane + l.z_plane + l.s_plane)) * sizeof(float));
    return l;
}

static size_t weight_bytes(const cx_geometry *g)
{
    weight_layout l = lay_out_weight(g);
    return l.shared + l.per_thread * (size_t)omp_get_max_threads();
}

/* copy[tap][c0 + i][o] = G' S G. */
static void finish_weight(const weight_layout *l, const float *s, int64_t c, int64_t out, float *copy, int64_t tap)
{
    for (int64_t i = 0; i < c; i++)
        for (int64_t o = 0; o < out; o += VL) {
            const float *from = s + (o / NR * c + i) * NR + o % NR;
            vf t[3][6], r[3];
            for (int x = 0; x < 6; x++) {
                vf d[6];
                for (int y = 0; y < 6; y++)
                    d[y] = v_load(from + (y * 6 + x) * l->s_plane);
                transform_dw(d, r);
                for (int y = 0; y < 3; y++)
                    t[y][x] = r[y];
            }
            for (int y = 0; y < 3; y++) {
                transform_dw(t[y], r);
                for (int x = 0; x < 3; x++)
                    v_store(copy + (y * 3 + x) * tap + i * out + o, r[x]);
            }
        }
}

static void weight_task(const cx_window *w, const cx_source *dy, const weight_layout *l, int64_t chunk, int64_t c0, float *copy, float *scratch)
{
    int64_t in = w->src.t.s.c, out = w->dst.s.c, c = min64(CHANNELS, in - c0), end = l->tiles * (chunk + 1) / l->chunks;
    float *zeros = scratch, *v = zeros + l->zeros, *z = v + POINTS * l->x.plane, *s = z + POINTS * l->z_plane;
    memset(zeros, 0, (size_t)l->zeros * sizeof(float));
    memset(z, 0, (size_t)(POINTS * l->z_plane) * sizeof(float));
    memset(s, 0, (size_t)(POINTS * l->s_plane) * sizeof(float));
    for (int64_t t0 = l->tiles * chunk / l->chunks; t0 < end; t0 += WEIGHT_TILES) {
        const float *later[WEIGHT_TILES * 32];
        int64_t n = min64(WEIGHT_TILES, end - t0), more = min64(WEIGHT_TILES, end - t0 - n);
        int fresh = fresh_pixels(w, &w->src.t, w->src_y + 2, w->src_x + 2, t0 + n, more, c0, later);
        fresh += fresh_pixels(w, &w->dst, 0, 0, t0 + n, more, 0, later + fresh);
        cx_ahead next = { .run = later, .n_run = fresh, .floats = max64(c, out) };
        next.pace = (int)up_div(32 * next.floats * CX_AHEAD_STEP, CX_LINE * POINTS * cx_panels(out) * up_div(c, MR));
        for (int64_t t = 0; t < n; t++) {
            tile_x(w, t0 + t, c0, c, zeros, v + t * l->x.pitch, l->x.plane);
            tile_dy(w, dy, t0 + t, zeros, z + t * NR, l->z_plane, l->panel);
        }
        for (int64_t p = 0; p < POINTS; p++) {
            cx_outer o = { .rows = 1, .cols = n, .a = v + p * l->x.plane, .a_pixel = l->x.pitch, .b = z + p * l->z_plane, .b_panel = l->panel, .b_pixel = NR,
                .t = s + p * l->s_plane, .t_panel = c * NR, .m = c, .n = out, .ahead = &next };
            CX_FN(outer)(&o);
        }
    }
    finish_weight(l, s, c, out, copy + c0 * out, in * out);
}

static void weight(const cx_geometry *g, cx_source big, cx_source small, float *dw, bool add, void *work, size_t bytes)
{
    weight_layout l = lay_out_weight(g);
    cx_window w = CX_FN(window_down)(g);
    int64_t in = g->big.s.c, out = g->small.s.c;
    w.src = big;
    w.dst = small.t;
    float *copies = work, *scratch = (float *)((char *)work + l.shared);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(bytes, l.shared, l.per_thread))
    for (int64_t t = 0; t < l.chunks * l.blocks; t++)
        weight_task(&w, &small, &l, t / l.blocks, t % l.blocks * CHANNELS, copies + t / l.blocks * l.copy,
            scratch + (size_t)omp_get_thread_num() * (l.per_thread / sizeof(float)));
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < 9 * in; k++)
        for (int64_t o = 0; o < out; o++) {
            float sum = 0, *d = dw + o * 9 * in + k;
            for (int64_t c = 0; c < l.chunks; c++)
                sum += copies[c * l.copy + k * out + o];
            *d = add ? *d + sum : sum;
        }
}

const cx_method CX_FN(winograd_method) = { down_packed, down_pack, down_bytes, down, up_bytes, up, weight_bytes, weight };
