/* folded.h - operator cases with something folded in (cx_fold in op.h), and how two runs of one are compared: shared by the tests of references and kernels.
 *
 *     cases_run r;  folded_open(&r, &cases[i], FOLD_PRE | FOLD_RELU | FOLD_SUMS);  cx_call c = folded_call(&r, false);  ...  case_close(&r);
 * x, scale and shift are short binary fractions, so that u is exact with or without a fused multiply-add: every implementation sees the same masks and the same
 * largest values, ties and zeros among them, and no comparison hangs on a rounding. */
#ifndef CX_TESTS_OPS_FOLDED_H
#define CX_TESTS_OPS_FOLDED_H
#include "ops/cases.h"

enum {
    FOLD_PRE = 1, FOLD_RELU = 2, FOLD_SUMS = 4,      /* RELU: pre_relu */
    FOLD_POST = 8, FOLD_STATS = 16, FOLD_CARRY = 32,
    FOLD_NO_DX = 64,                                 /* dx[0] is not wanted */
    FOLD_SLICED = 128,                               /* vectors are channels of longer ones, as in a plan: rows lie ld > C apart */
    FOLD_POOL = 256,
    FOLD_EVAL = FOLD_POST | FOLD_POOL                /* never with a backward pass */
};
enum { FOLD_STREAM = 300 };

/* What a plan asks for in training, in evaluation, and whatever else the contract allows. */
static const int folded_sets[] = {
    FOLD_PRE | FOLD_RELU | FOLD_SUMS | FOLD_STATS | FOLD_CARRY | FOLD_SLICED,
    FOLD_PRE | FOLD_SUMS | FOLD_STATS,
    FOLD_PRE | FOLD_RELU | FOLD_SUMS | FOLD_CARRY | FOLD_NO_DX,
    FOLD_PRE | FOLD_RELU | FOLD_POST | FOLD_SLICED,
    FOLD_PRE | FOLD_RELU | FOLD_SUMS,
    FOLD_PRE | FOLD_RELU,
    FOLD_PRE | FOLD_SLICED,
    FOLD_STATS | FOLD_CARRY,
    FOLD_POST,
    FOLD_POST | FOLD_POOL,
    FOLD_PRE | FOLD_RELU | FOLD_POST | FOLD_POOL | FOLD_SLICED,
    FOLD_POOL,
};

/* Shapes of networks, in small, beside those of cases.def: their goldens would be large. */
#define ATTR(kind, ...) &(const cx_##kind##_attr){ __VA_ARGS__ }
#define IN(fill, n, h, w, c) { FILL_##fill, { n, h, w, c } }
#define CASE(name, op, flags, attr, ...) { #name, CX_OP_##op, flags, attr, { __VA_ARGS__ } },
#define SAME(p) ATTR(conv, .stride = 1, .pad_top = p, .pad_bottom = p, .pad_left = p, .pad_right = p)
#define STEM ATTR(conv, .stride = 2, .pad_top = 3, .pad_bottom = 3, .pad_left = 3, .pad_right = 3)
static const cases_row folded_cases[] = {
    CASE(fold_1x1_64_14, CONV2D, SLICED, SAME(0), IN(SIGNED, 2,14,14,64), IN(SIGNED, 128,1,1,64))
    CASE(fold_1x1_256_7, CONV2D, SLICED | DX_ADD, SAME(0), IN(SIGNED, 2,7,7,256), IN(SIGNED, 128,1,1,256))
    CASE(fold_1x1_relu, CONV2D, RELU, SAME(0), IN(SIGNED, 2,14,14,96), IN(SIGNED, 64,1,1,96), IN(SIGNED, 1,1,1,64))
    CASE(fold_1x1_odd, CONV2D, DX_ADD, SAME(0), IN(SIGNED, 2,9,11,67), IN(SIGNED, 45,1,1,67), IN(SIGNED, 1,1,1,45))
    CASE(fold_1x1_s2, CONV2D, 0, ATTR(conv, .stride = 2), IN(SIGNED, 2,9,8,33), IN(SIGNED, 20,1,1,33))
    CASE(fold_1x1_pixel, CONV2D, 0, SAME(0), IN(SIGNED, 1,1,1,5), IN(SIGNED, 3,1,1,5))
    CASE(fold_3x3_128_32_14, CONV2D, SLICED | DX_ADD, SAME(1), IN(SIGNED, 2,14,14,128), IN(SIGNED, 32,3,3,128))
    CASE(fold_3x3_128_32_9, CONV2D, 0, SAME(1), IN(SIGNED, 1,9,9,128), IN(SIGNED, 32,3,3,128), IN(SIGNED, 1,1,1,32))
    CASE(fold_3x3_128_32_7, CONV2D, DX_ADD, SAME(1), IN(SIGNED, 2,7,7,128), IN(SIGNED, 32,3,3,128))
    CASE(fold_3x3_32_128_7, CONV2D, SLICED, SAME(1), IN(SIGNED, 2,7,7,32), IN(SIGNED, 128,3,3,32))
    CASE(fold_3x3_relu_13, CONV2D, RELU | SLICED, SAME(1), IN(SIGNED, 2,13,10,32), IN(SIGNED, 64,3,3,32), IN(SIGNED, 1,1,1,64))
    CASE(fold_3x3_odd, CONV2D, SLICED | DX_ADD, SAME(1), IN(SIGNED, 2,9,7,35), IN(SIGNED, 19,3,3,35), IN(SIGNED, 1,1,1,19))
    CASE(fold_3x3_s2, CONV2D, RELU, ATTR(conv, .stride = 2, .pad_bottom = 1, .pad_right = 1), IN(SIGNED, 2,12,11,20), IN(SIGNED, 24,3,3,20))
    CASE(fold_stem_3, CONV2D, 0, STEM, IN(SIGNED, 2,29,26,3), IN(SIGNED, 64,7,7,3))
    CASE(fold_stem_1, CONV2D, SLICED | DX_ADD, STEM, IN(SIGNED, 2,27,30,1), IN(SIGNED, 32,7,7,1), IN(SIGNED, 1,1,1,32))
    CASE(fold_stem_few, CONV2D, RELU, STEM, IN(SIGNED, 1,19,16,3), IN(SIGNED, 20,7,7,3))
    CASE(fold_stem_tiles, CONV2D, RELU | SLICED, STEM, IN(SIGNED, 1,41,37,1), IN(SIGNED, 36,7,7,1), IN(SIGNED, 1,1,1,36))
    CASE(fold_max_pool, MAX_POOL, SLICED | DX_ADD, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1), IN(SIGNED, 2,29,26,67))
    CASE(fold_max_pool_tied, MAX_POOL, 0, ATTR(pool, .kernel = 3, .stride = 1, .pad = 1), IN(TIED, 1,19,17,64))
    CASE(fold_avg_pool, AVG_POOL, DX_ADD, ATTR(pool, .kernel = 2, .stride = 2), IN(SIGNED, 2,28,14,128))
    CASE(fold_avg_pool_pad, AVG_POOL, SLICED, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1, .count_pad = true), IN(SIGNED, 2,19,20,37))
    CASE(fold_global_pool, GLOBAL_AVG_POOL, SLICED | DX_ADD, NULL, IN(SIGNED, 3,7,7,200))
};
#undef STEM
#undef SAME
#undef CASE
#undef IN
#undef ATTR

enum { FOLDED_SHARED = CX_COUNT(cases), FOLDED_TOTAL = CX_COUNT(cases) + CX_COUNT(folded_cases) };
static inline const cases_row *folded_row(int i) { return i < FOLDED_SHARED ? &cases[i] : &folded_cases[i - FOLDED_SHARED]; }

/* The operator of this row can take these folds. */
static inline bool folded_fits(const cases_row *k, int folds)
{
    const unsigned can = cx_ops[k->op].flags;
    return (can & CX_CAN_PRE || !(folds & (FOLD_PRE | FOLD_SUMS))) && (can & CX_CAN_POST || !(folds & FOLD_POST)) &&
           (can & CX_CAN_STATS || !(folds & FOLD_STATS)) && (can & CX_CAN_CARRY || !(folds & FOLD_CARRY)) &&
           ((can & CX_CAN_POOL && k->in[1].s.h > 1) || !(folds & FOLD_POOL));
}

static inline cx_tensor folded_vectors(cases_run *r, int rows, int64_t channels, bool sliced)
{
    cx_tensor t = cases_tensor(r, (cx_shape){ 1, 1, rows, channels }, sliced);
    for (int64_t e = 0; e < cx_elems(t.s); e++)
        *cases_at(&t, e) = NAN;
    return t;
}

/* Row `row` becomes multiples of `unit` between -limit and limit. */
static inline void folded_draw(const cases_run *r, const cx_tensor *t, int row, uint64_t stream, double unit, double limit)
{
    cx_rng rng = cx_rng_new(cx_hash(r->k->name), FOLD_STREAM + stream);
    for (int64_t k = 0; k < t->s.c; k++)
        cx_row(t, row)[k] = (float)(floor((cx_rng_uniform(&rng) * 2 - 1) * limit / unit) * unit);
}

/* Puts the pool behind a convolution, and a y[0] of its size in the place of the map. */
static inline void folded_pool(cases_run *r, cx_pool_attr pool)
{
    cx_call *c = &r->c;
    c->fold.pool = pool;
    c->y[0] = cases_tensor(r, cx_pooled(cx_conv_map(c), &pool), c->y[0].ld > c->y[0].s.c);
    for (int64_t e = 0; e < cx_elems(c->y[0].s); e++)
        *cases_at(&c->y[0], e) = NAN;
}

/* The case with these folds. Scales have both signs, and some are zero; rows that nobody may read, and results, are NaN. */
static inline void folded_open(cases_run *r, const cases_row *k, int folds)
{
    bool sliced = folds & FOLD_SLICED;
    case_open(r, k);
    cx_call *c = &r->c;
    cx_fold *f = &c->fold;
    for (int64_t e = 0; e < cx_elems(c->x[0].s); e++)
        *cases_at(&c->x[0], e) = floorf(*cases_at(&c->x[0], e) * 256) / 256;
    if (folds & FOLD_PRE) {
        f->pre = folded_vectors(r, CX_FOLD_ROWS, c->x[0].s.c, sliced);
        folded_draw(r, &f->pre, CX_FOLD_SCALE, 0, 0x1p-5, 2);
        folded_draw(r, &f->pre, CX_FOLD_SHIFT, 1, 0x1p-10, 1);
        folded_draw(r, &f->pre, CX_FOLD_MEAN, 2, 0x1p-20, 0.5);
        for (int64_t i = 2; i < f->pre.s.c; i += 7)
            cx_row(&f->pre, CX_FOLD_SCALE)[i] = 0;
    }
    if (folds & FOLD_POST) {
        f->post = folded_vectors(r, CX_FOLD_ROWS, c->y[0].s.c, sliced);
        folded_draw(r, &f->post, CX_FOLD_SCALE, 3, 0x1p-20, 1.5);
        folded_draw(r, &f->post, CX_FOLD_SHIFT, 4, 0x1p-20, 2);
        for (int64_t i = 1; i < f->post.s.c; i += 7)
            cx_row(&f->post, CX_FOLD_SCALE)[i] = 0;
    }
    if (folds & FOLD_POOL)
        folded_pool(r, (cx_pool_attr){ .kernel = 3, .stride = 2, .pad = 1 });
    if (folds & FOLD_STATS)
        f->stats = folded_vectors(r, 2, c->y[0].s.c, sliced);
    if (folds & FOLD_SUMS)
        f->sums = folded_vectors(r, 2, c->x[0].s.c, sliced);
    if (folds & FOLD_CARRY) {
        f->carry = folded_vectors(r, 2, c->y[0].s.c, sliced);
        folded_draw(r, &f->carry, 0, 5, 0x1p-20, 0.1);
        folded_draw(r, &f->carry, 1, 6, 0x1p-20, 0.5);
    }
    if (folds & FOLD_NO_DX)
        c->dx[0] = (cx_tensor){ .ld = 0 };
    f->pre_relu = folds & FOLD_RELU;
}

/* One direction of it, with what a plan hands over there. */
static inline cx_call folded_call(const cases_run *r, bool backward)
{
    cx_call c = r->c;
    const cx_tensor none = { .ld = 0 };
    if (backward) {
        c.fold.post = c.fold.stats = none;
        assert_int_equal(c.fold.pool.kernel, 0);
        return c;
    }
    c.fold.sums = c.fold.carry = c.dy[0] = none;
    for (int i = 0; i < c.n_in; i++)
        c.dx[i] = none;
    return c;
}

/* The reference, both ways but for what has no backward pass. Statistics come from the forward pass. */
static inline void folded_reference(cases_run *r)
{
    cx_call forward = folded_call(r, false);
    assert_int_equal(cx_ops[r->k->op].ref_fwd(&forward), CX_OK);
    if (r->c.fold.post.s.c || r->c.fold.pool.kernel)
        return;
    cx_call backward = folded_call(r, true);
    assert_int_equal(cx_ops[r->k->op].ref_bwd(&backward), CX_OK);
}

/* Backward passes are compared on the same y: a kernel's own y[0] may lie on the other side of a ReLU's zero. */
static inline void folded_take_y(cases_run *to, const cases_run *from)
{
    for (int j = 0; j < to->c.n_out; j++)
        for (int64_t e = 0; e < cx_elems(to->c.y[j].s); e++)
            *cases_at(&to->c.y[j], e) = *cases_at(&from->c.y[j], e);
}

static inline float folded_rounded(float v) { return cx_from_bf16(cx_to_bf16(v)); }

/* A bf16 copy of t, its pixels as far apart in elements; the gap holds what no rounding writes. */
static inline cx_tensor folded_narrowed(cases_run *r, const cx_tensor *t)
{
    const int64_t n = cx_pixels(t->s) * t->ld, off = t->ld > t->s.c;
    uint16_t *h = cx_alloc_aligned((size_t)n, sizeof *h);
    assert_non_null(h);
    r->memory[r->n_memory++] = (float *)(void *)h;
    for (int64_t i = 0; i < n; i++)
        h[i] = 0x5555;
    for (int64_t e = 0; e < cx_elems(t->s); e++)
        h[off + e / t->s.c * t->ld + e % t->s.c] = cx_to_bf16(*cases_at(t, e));
    return (cx_tensor){ .s = t->s, .ld = t->ld, .p = (float *)(void *)(h + off), .type = CX_BF16 };
}

/* ---- comparison --------------------------------------------------------------------------------------------------- */

/* As assert_close, but each element has a size of its own: |got - want| <= rtol * |want| + atol * size. */
static inline void folded_near(const char *name, const char *impl, const char *what, double got, double want, double rtol, double atol, double size)
{
    if (!(fabs(got - want) <= rtol * fabs(want) + atol * size))
        fail_msg("%s (%s) %s is %.9g, want %.9g (rtol %g, atol %g of %g)", name, impl, what, got, want, rtol, atol, size);
}

/* An operator whose tolerance is 0 still rounds where it adds to dx or sums gradients. */
static inline void folded_close(const cases_run *got, const char *impl, const char *what, const cx_tensor *a, const cx_tensor *b)
{
    const cx_op *op = &cx_ops[got->k->op];
    if (!a->p)
        return;
    char *name = cx_sprintf("%s (%s) %s", got->k->name, impl, what);
    float *x = cases_dense(a), *y = cases_dense(b);
    assert_close(name, x, y, cx_elems(a->s), op->rtol + 1e-7, op->atol);
    free(x);
    free(y);
    free(name);
}

/* Statistics are those of the y[0] that was written; y[0] is within the tolerance of its operator's row. */
static inline void folded_assert_forward(const cases_run *got, const cases_run *want, const char *impl)
{
    const cx_tensor *y = &got->c.y[0], *stats = &got->c.fold.stats;
    int64_t m = cx_pixels(y->s);
    folded_close(got, impl, "y", y, &want->c.y[0]);
    for (int64_t k = 0; k < stats->s.c; k++) {
        double mean = 0, var = 0, largest = 0;
        for (int64_t i = 0; i < m; i++) {
            double v = (double)*cases_at(y, i * y->s.c + k);
            mean += v / (double)m;
            largest = fmax(largest, fabs(v));
        }
        for (int64_t i = 0; i < m; i++) {
            double d = (double)*cases_at(y, i * y->s.c + k) - mean;
            var += d * d / (double)m;
        }
        folded_near(got->k->name, impl, "mean", (double)cx_row(stats, 0)[k], mean, 0, 2e-6, largest);
        folded_near(got->k->name, impl, "variance", (double)cx_row(stats, 1)[k], var, 1e-5, 1e-12, largest * largest);
    }
}

/* Gradients of u from a plain call that reads u: rows 0 and 1, sums of g and of g (x - mean); rows 2 and 3, what their errors are relative to: the sum of the
 * terms' absolute values and, since a term is as exact as the largest gradient allows, one such term. (1,1,4,C); free() its p. */
static inline cx_tensor folded_terms(const cases_run *r)
{
    cx_call c = folded_call(r, true);
    const cx_fold f = c.fold;
    cx_tensor x = c.x[0], u = { .s = x.s, .ld = x.s.c, .p = cx_alloc((size_t)cx_elems(x.s), sizeof(float)) }, g = u;
    cx_tensor out = { .s = { 1, 1, 4, x.s.c }, .ld = x.s.c, .p = cx_alloc((size_t)x.s.c * 4, sizeof(float)) };
    g.p = cx_alloc((size_t)cx_elems(x.s), sizeof(float));
    assert_true(u.p && g.p && out.p);
    for (int64_t e = 0; e < cx_elems(x.s); e++) {
        float v = *cases_at(&x, e) * cx_row(&f.pre, CX_FOLD_SCALE)[e % x.s.c] + cx_row(&f.pre, CX_FOLD_SHIFT)[e % x.s.c];
        u.p[e] = f.pre_relu && v < 0 ? 0 : v;
    }
    c.x[0] = u;
    c.dx[0] = g;
    c.dx_add[0] = false;
    c.dx[1].p = c.dx[2].p = NULL;
    c.fold = (cx_fold){ .carry = f.carry };
    assert_int_equal(cx_ops[r->k->op].ref_bwd(&c), CX_OK);
    double largest = 0;
    for (int64_t e = 0; e < cx_elems(x.s); e++)
        largest = fmax(largest, fabs((double)g.p[e]));
    for (int64_t k = 0; k < x.s.c; k++) {
        double sum[4] = { 0, 0, largest, 0 }, widest = 0;
        for (int64_t e = k; e < cx_elems(x.s); e += x.s.c) {
            double at = f.pre_relu && u.p[e] <= 0 ? 0 : (double)g.p[e];
            double off = (double)*cases_at(&x, e) - (double)cx_row(&f.pre, CX_FOLD_MEAN)[k];
            sum[0] += at;
            sum[1] += at * off;
            sum[2] += fabs(at);
            sum[3] += fabs(at * off);
            widest = fmax(widest, fabs(off));
        }
        sum[3] += largest * widest;
        for (int row = 0; row < 4; row++)
            cx_row(&out, row)[k] = (float)sum[row];
    }
    free(u.p);
    free(g.p);
    return out;
}

/* terms: folded_terms of the case. A sum is as exact as the gradients in it. */
static inline void folded_assert_sums(const cases_run *got, const cx_tensor *terms, const char *impl)
{
    const cx_op *op = &cx_ops[got->k->op];
    for (int64_t k = 0; k < got->c.fold.sums.s.c; k++)
        for (int row = 0; row < 2; row++)
            folded_near(got->k->name, impl, row ? "sum of g (x - mean)" : "sum of g", (double)cx_row(&got->c.fold.sums, row)[k], (double)cx_row(terms, row)[k],
                        0, op->rtol + op->atol + 2e-6, (double)cx_row(terms, 2 + row)[k]);
}

static inline void folded_assert_backward(const cases_run *got, const cases_run *want, const cx_tensor *terms, const char *impl)
{
    static const char *const dx[] = { "dx", "dw", "db" };
    for (int i = 0; i < got->c.n_in; i++)
        folded_close(got, impl, dx[i], &got->c.dx[i], &want->c.dx[i]);
    folded_assert_sums(got, terms, impl);
}

/* Bit for bit, with nothing written between slices. */
static inline void folded_assert_same(const cases_run *a, const cases_run *b)
{
    case_assert_same(a, b);
    case_assert_equal(a->k->name, "stats", &a->c.fold.stats, &b->c.fold.stats);
    case_assert_equal(a->k->name, "sums", &a->c.fold.sums, &b->c.fold.sums);
}

static inline void folded_assert_gaps(const cases_run *r)
{
    const cx_fold *f = &r->c.fold;
    const cx_tensor *vectors[] = { &f->pre, &f->post, &f->stats, &f->sums, &f->carry };
    case_assert_gaps(r);
    for (int i = 0; i < CX_COUNT(vectors); i++)
        if (!cases_gaps_whole(vectors[i]))
            fail_msg("%s: something was written between the rows of vectors", r->k->name);
}
#endif
