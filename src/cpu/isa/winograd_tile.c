/* winograd_tile.c - tiles of pixels, read through a fold, to the 36 points of F(4x4,3x3). */
#include "winograd.h"

INLINE void transform_x(const vf d[6], vf o[6])         /* B' */
{
    const vf product = v_set1(P2 * Q2), sum = v_set1(-P2 - Q2), p = v_set1(P), q = v_set1(Q);
    vf e = v_fma(v_set1(-Q2), d[2], d[4]), f = v_fma(v_set1(-Q2), d[1], d[3]), g = v_fma(v_set1(-P2), d[2], d[4]), h = v_fma(v_set1(-P2), d[1], d[3]);
    o[0] = v_fma(product, d[0], v_fma(sum, d[2], d[4]));
    o[1] = v_fma(p, f, e);
    o[2] = v_fma(-p, f, e);
    o[3] = v_fma(q, h, g);
    o[4] = v_fma(-q, h, g);
    o[5] = v_fma(product, d[1], v_fma(sum, d[3], d[5]));
}

INLINE void transform_dy(const vf d[4], vf o[6])        /* A */
{
    const vf p = v_set1(P), q = v_set1(Q);
    vf e = v_fma(v_set1(P2), d[2], d[0]), f = v_fma(v_set1(P2), d[3], d[1]), g = v_fma(v_set1(Q2), d[2], d[0]), h = v_fma(v_set1(Q2), d[3], d[1]);
    o[0] = d[0];
    o[1] = v_fma(p, f, e);
    o[2] = v_fma(-p, f, e);
    o[3] = v_fma(q, h, g);
    o[4] = v_fma(-q, h, g);
    o[5] = d[3];
}

/* Where a tile's pixels lie. Those outside the image are read at the nearest one inside, and their value is masked: a load that is masked instead, at an
 * address out of reach, costs a fault. */
typedef struct {
    int64_t p, with;                                /* the first pixel in t and in with; it may lie outside */
    int64_t ld, line, with_ld, with_line;
    int64_t top, bottom, left, right;               /* the image is rows top .. bottom-1 and columns left .. right-1, counted from the tile's first pixel */
} place;

INLINE place place_of(const cx_source *s, int64_t n, int64_t y0, int64_t x0)
{
    const cx_shape g = s->t.s;
    const int64_t first = (n * g.h + y0) * g.w + x0;
    return (place){ .p = first * s->t.ld, .with = first * s->with.ld, .ld = s->t.ld, .line = g.w * s->t.ld, .with_ld = s->with.ld,
        .with_line = g.w * s->with.ld, .top = -y0, .bottom = g.h - y0, .left = -x0, .right = g.w - x0 };
}

INLINE int64_t clamp(int64_t i, int64_t lo, int64_t hi) { return max64(lo, min64(hi - 1, i)); }

enum { PLAIN, PRE, CARRY, CUT, CARRY_CUT };

typedef struct { int64_t c0, c; float *v; int64_t plane, panel; } goal;

INLINE void load(const int size, const int how, const cx_dtype t_type, const cx_dtype with_type, const bool inside, const cx_source *s, const place *a,
    const goal *g)
{
    const bool carry = how == CARRY || how == CARRY_CUT, cut = how == CUT || how == CARRY_CUT;
    const float *mul = carry ? s->slope : s->scale, *plus = carry ? s->level : s->shift;
    const vf floor = v_set1(s->relu ? 0 : -__builtin_inff());
    const int64_t ld = a->ld, with_ld = a->with_ld, plane = g->plane;
    int64_t row[6], with_row[6];
#pragma GCC unroll 6
    for (int y = 0; y < size; y++) {
        const int64_t at = inside ? y : clamp(y, a->top, a->bottom);
        row[y] = at * a->line;
        with_row[y] = at * a->with_line;
    }
    for (int64_t i = 0; i < g->c; i += VL) {
        const int64_t k = g->c0 + i;
        const vf m = carry || how == PRE ? v_load(mul + k) : v_zero(), b = carry || how == PRE ? v_load(plus + k) : v_zero();
        vf t[6][6];
        float *to = g->v + i / NR * g->panel + i % NR;
#pragma GCC unroll 1
        for (int x = 0; x < size; x++) {
            const int64_t col = inside ? x : clamp(x, a->left, a->right);
            const int32_t col_in = x == col ? -1 : 0;
            const int64_t p = a->p + k + col * ld, with = a->with + k + col * with_ld;
            vf d[6], o[6];
#pragma GCC unroll 6
            for (int y = 0; y < size; y++) {
                vf u = vt_load(t_type, s->t.p, p + row[y], VL);
                if (how == PRE)
                    u = v_max(floor, v_fma(u, m, b));       /* in this order a NaN stays one */
                if (carry)
                    u = u + v_fma(vt_load(with_type, s->with.p, with + with_row[y], VL), m, b);
                if (cut)
                    u = vf_where(vt_load(with_type, s->with.p, with + with_row[y], VL) > v_zero(), u);
                d[y] = inside ? u : vf_where((vf_mask){ 0 } + (y >= a->top && y < a->bottom ? col_in : 0), u);
            }
            if (size == 6)
                transform_x(d, o);
            else
                transform_dy(d, o);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++)
                t[y][x] = o[y];
        }
#pragma GCC unroll 1
        for (int y = 0; y < 6; y++) {
            vf o[6];
            if (size == 6)
                transform_x(t[y], o);
            else
                transform_dy(t[y], o);
#pragma GCC unroll 6
            for (int x = 0; x < 6; x++) {
                v_store(to, o[x]);
                to += plane;
                V_OPAQUE(to);
            }
        }
    }
}

INLINE void load_as(const int size, const cx_dtype t, const cx_dtype with, const cx_source *s, const place *a, const goal *g)
{
    const bool inside = a->top <= 0 && a->left <= 0 && a->bottom >= size && a->right >= size;
#define LOAD(how) (inside ? load(size, how, t, with, true, s, a, g) : load(size, how, t, with, false, s, a, g))
    if (s->scale)
        LOAD(PRE);
    else if (s->slope && s->cut)
        LOAD(CARRY_CUT);
    else if (s->cut)
        LOAD(CUT);
    else if (s->slope)
        LOAD(CARRY);
    else
        LOAD(PLAIN);
#undef LOAD
}

/* bfloat16: x, or the y beside a gradient; gradients are float32. */
INLINE void load_any(const int size, const cx_source *s, const place *a, const goal *g)
{
    if (s->t.type == CX_BF16)
        load_as(size, CX_BF16, CX_F32, s, a, g);
    else if (s->with.type == CX_BF16)
        load_as(size, CX_F32, CX_BF16, s, a, g);
    else
        load_as(size, CX_F32, CX_F32, s, a, g);
}

void CX_FN(tile_x)(const cx_source *s, int64_t n, int64_t y, int64_t x, int64_t c0, int64_t c, float *v, int64_t plane, int64_t panel)
{
    const place a = place_of(s, n, y, x);
    const goal g = { c0, c, v, plane, panel };
    load_any(6, s, &a, &g);
}

void CX_FN(tile_dy)(const cx_source *s, int64_t n, int64_t y, int64_t x, int64_t c0, int64_t c, float *v, int64_t plane)
{
    const place a = place_of(s, n, y, x);
    const goal g = { c0, c, v, plane, NR };
    load_any(4, s, &a, &g);
}

int CX_FN(fresh_pixels)(const cx_tensor *t, cx_shape grid, int64_t y_off, int64_t x_off, int64_t t0, int64_t tiles, int64_t c0, const float **run)
{
    int count = 0;
    tile_at at = cx_tile_at(grid, t0);
    for (int64_t i = 0; i < tiles; i++, at = cx_tile_next(grid, at))
        for (int64_t y = max64(0, at.y + y_off); y < min64(t->s.h, at.y + y_off + 4); y++)
            for (int64_t x = max64(0, at.x + x_off); x < min64(t->s.w, at.x + x_off + 4); x++)
                run[count++] = vt_at(t, ((at.n * t->s.h + y) * t->s.w + x) * t->ld + c0);
    return count;
}
