/* test_folded.c - what a plan may fold into a step, references only: a chain norm, ReLU, operator, norm, ReLU, convolution carried out in vectors gives what
 * the plain operators give one after the other, and what finite differences say; sums against a plain gradient; what a redo may not touch. */
#include "ops/folded.h"

/* ---- a chain, carried out in two ways -------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    cx_op_id op;
    const void *attr;
    cx_shape x, w;               /* w: of a convolution */
    bool no_relu, frozen, add;   /* running statistics; gradients are added to what is there */
} link_row;

#define ATTR(kind, ...) &(const cx_##kind##_attr){ __VA_ARGS__ }
#define SAME(p) ATTR(conv, .stride = 1, .pad_top = p, .pad_bottom = p, .pad_left = p, .pad_right = p)
#define STEM ATTR(conv, .stride = 2, .pad_top = 3, .pad_bottom = 3, .pad_left = 3, .pad_right = 3)
static const link_row rows[] = {
    { "1x1", CX_OP_CONV2D, SAME(0), { 2, 5, 6, 9 }, { 7, 1, 1, 9 }, false, false, false },
    { "1x1 add", CX_OP_CONV2D, SAME(0), { 3, 4, 6, 70 }, { 67, 1, 1, 70 }, false, false, true },
    { "3x3", CX_OP_CONV2D, SAME(1), { 2, 6, 5, 8 }, { 5, 3, 3, 8 }, false, false, false },
    { "3x3 without ReLU", CX_OP_CONV2D, SAME(1), { 2, 6, 5, 8 }, { 5, 3, 3, 8 }, true, false, false },
    { "3x3 frozen", CX_OP_CONV2D, SAME(1), { 2, 6, 5, 8 }, { 5, 3, 3, 8 }, false, true, false },
    { "7x7 stride 2", CX_OP_CONV2D, STEM, { 2, 13, 12, 3 }, { 6, 7, 7, 3 }, false, false, false },
    { "max_pool", CX_OP_MAX_POOL, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1), { 2, 9, 8, 6 }, { 0 }, false, false, false },
    { "max_pool without ReLU", CX_OP_MAX_POOL, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1), { 2, 9, 8, 6 }, { 0 }, true, false, true },
    { "avg_pool", CX_OP_AVG_POOL, ATTR(pool, .kernel = 2, .stride = 2), { 2, 8, 6, 6 }, { 0 }, false, false, true },
    { "avg_pool padded", CX_OP_AVG_POOL, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1, .count_pad = true), { 2, 8, 6, 5 }, { 0 }, false, false, false },
    { "avg_pool frozen", CX_OP_AVG_POOL, ATTR(pool, .kernel = 3, .stride = 2, .pad = 1), { 2, 8, 6, 5 }, { 0 }, false, true, true },
    { "global_avg_pool", CX_OP_GLOBAL_AVG_POOL, "", { 6, 3, 3, 6 }, { 0 }, false, false, false },
};
#undef STEM
#undef SAME
#undef ATTR

enum { READER = 4, TENSORS = 64 };               /* channels of the last convolution */
typedef enum { GAMMA, BETA, MEAN, VAR, NORM } norm_part;

/* A norm: its parameters, gradients of gamma and beta; plain: output with its gradient and what it saves; folded: vectors. */
typedef struct { cx_tensor p[NORM], d[2], u, du, saved[2], pre, stats, sums, carry; } norm;

typedef struct {
    const link_row *k;
    norm a, b;
    cx_tensor x, w, y, v, out, dx, dw, dy, dv, dout;             /* v: weights of the last convolution */
    float *memory[TENSORS];
    int n;
} chain;

static const cx_norm_attr live = { .eps = 1e-3f, .momentum = 0.3f, .unbiased = true }, frozen = { .eps = 1e-3f, .momentum = 0.3f, .frozen = true };
static const cx_conv_attr pointwise = { .stride = 1 };

static cx_tensor make(chain *h, cx_shape s, uint64_t stream, cases_fill fill)
{
    cx_rng rng = cx_rng_new(cx_hash(h->k->name), stream);
    cx_tensor t = { .s = s, .ld = s.c, .p = cx_alloc((size_t)cx_elems(s), sizeof(float)) };
    assert_non_null(t.p);
    assert_in_range(h->n, 0, TENSORS - 1);
    h->memory[h->n++] = t.p;
    for (int64_t e = 0; e < cx_elems(s); e++)
        t.p[e] = fill == FILL_ABSENT ? NAN : cases_value(fill, cx_rng_uniform(&rng), 1);
    return t;
}

static cx_shape vectors(int rows_, int64_t c) { return (cx_shape){ 1, 1, rows_, c }; }

static norm make_norm(chain *h, cx_shape s, uint64_t stream)
{
    static const cases_fill fills[NORM] = { FILL_WEIGHT, FILL_SIGNED, FILL_SIGNED, FILL_POSITIVE };
    const cases_fill prior = h->k->add ? FILL_SIGNED : FILL_ABSENT;
    norm n = { .u = make(h, s, 0, FILL_ABSENT), .du = make(h, s, 0, FILL_ABSENT) };
    for (int i = 0; i < NORM; i++)
        n.p[i] = make(h, vectors(1, s.c), stream + (uint64_t)i, fills[i]);
    for (int64_t k = 1; k < s.c; k += 3)
        n.p[GAMMA].p[k] *= -1;
    for (int i = 0; i < 2; i++) {
        n.d[i] = make(h, vectors(1, s.c), stream + NORM + (uint64_t)i, prior);
        n.saved[i] = make(h, vectors(1, s.c), 0, FILL_ABSENT);
    }
    n.pre = make(h, vectors(CX_FOLD_ROWS, s.c), 0, FILL_ABSENT);
    n.sums = make(h, vectors(2, s.c), 0, FILL_ABSENT);
    if (!h->k->frozen) {
        n.stats = make(h, vectors(2, s.c), 0, FILL_ABSENT);
        n.carry = make(h, vectors(2, s.c), 0, FILL_ABSENT);
    }
    return n;
}

static cx_call op_call(const chain *h)
{
    return (cx_call){ .attr = h->k->attr, .n_in = h->k->w.c ? 2 : 1, .n_out = 1, .training = true, .x = { h->x, h->w } };
}

/* x is coarse, so that max_pool meets ties but no values that are equal up to a rounding. */
static void chain_open(chain *h, const link_row *k)
{
    *h = (chain){ .k = k };
    const cases_fill prior = k->add ? FILL_SIGNED : FILL_ABSENT;
    h->x = make(h, k->x, 1, FILL_SIGNED);
    h->dx = make(h, k->x, 2, prior);
    for (int64_t e = 0; e < cx_elems(k->x); e++)
        h->x.p[e] = floorf(h->x.p[e] * 256) / 256;
    if (k->w.c) {
        h->w = make(h, k->w, 3, FILL_SIGNED);
        h->dw = make(h, k->w, 4, prior);
    }
    cx_call c = op_call(h);
    assert_cx_ok(cx_ops[k->op].infer(&c, err));
    cx_shape y = c.y[0].s, out = { y.n, y.h, y.w, READER };
    h->y = make(h, y, 0, FILL_ABSENT);
    h->dy = make(h, y, 0, FILL_ABSENT);
    h->v = make(h, (cx_shape){ READER, 1, 1, y.c }, 5, FILL_SIGNED);
    h->dv = make(h, h->v.s, 6, prior);
    h->out = make(h, out, 0, FILL_ABSENT);
    h->dout = make(h, out, 7, FILL_SIGNED);
    h->a = make_norm(h, k->x, 20);
    h->b = make_norm(h, y, 40);
}

static void chain_close(chain *h)
{
    for (int i = 0; i < h->n; i++)
        free(h->memory[i]);
}

static cx_call norm_call(const chain *h, const norm *n, const cx_tensor *x)
{
    cx_call c = { .attr = h->k->frozen ? &frozen : &live, .n_in = 5, .n_out = 3, .training = true, .relu = !h->k->no_relu, .x = { *x } };
    for (int i = 0; i < NORM; i++)
        c.x[1 + i] = n->p[i];
    return c;
}

static cx_call reader_call(const chain *h)
{
    return (cx_call){ .attr = &pointwise, .n_in = 2, .n_out = 1, .training = true, .x = { h->y, h->v }, .y = { h->out }, .dy = { h->dout } };
}

static void forward(cx_op_id op, const cx_call *c) { assert_int_equal(cx_ops[op].ref_fwd(c), CX_OK); }
static void backward(cx_op_id op, const cx_call *c) { assert_int_equal(cx_ops[op].ref_bwd(c), CX_OK); }

/* ---- plain: every operator walks over memory --------------------------------------------------------------------- */

static cx_call plain_norm(const chain *h, const norm *n, const cx_tensor *x)
{
    cx_call c = norm_call(h, n, x);
    c.y[0] = n->u;
    c.y[1] = n->saved[0];
    c.y[2] = n->saved[1];
    return c;
}

static void plain_norm_backward(const chain *h, const norm *n, const cx_tensor *x, const cx_tensor *dx, bool dx_add)
{
    cx_call c = plain_norm(h, n, x);
    c.dy[0] = n->du;
    c.dx[0] = *dx;
    c.dx[1] = n->d[0];
    c.dx[2] = n->d[1];
    c.dx_add[0] = dx_add;
    c.dx_add[1] = c.dx_add[2] = h->k->add;
    backward(CX_OP_BATCH_NORM, &c);
}

static void run_plain(chain *h)
{
    cx_call a = plain_norm(h, &h->a, &h->x), b = plain_norm(h, &h->b, &h->y), op = op_call(h), reader = reader_call(h);
    op.x[0] = h->a.u;
    op.y[0] = h->y;
    reader.x[0] = h->b.u;
    forward(CX_OP_BATCH_NORM, &a);
    forward(h->k->op, &op);
    forward(CX_OP_BATCH_NORM, &b);
    forward(CX_OP_CONV2D, &reader);
    reader.dx[0] = h->b.du;
    reader.dx[1] = h->dv;
    op.dy[0] = h->dy;
    op.dx[0] = h->a.du;
    op.dx[1] = h->dw;
    op.dx_add[1] = reader.dx_add[1] = h->k->add;
    backward(CX_OP_CONV2D, &reader);
    plain_norm_backward(h, &h->b, &h->y, &h->dy, false);
    backward(h->k->op, &op);
    plain_norm_backward(h, &h->a, &h->x, &h->dx, h->k->add);
}

/* ---- folded: norms and ReLUs are vectors --------------------------------------------------------------------------- */

static cx_call folded_norm(const chain *h, const norm *n, const cx_tensor *x)
{
    const cx_tensor shape = { .s = x->s, .ld = x->ld };
    cx_call c = norm_call(h, n, &shape);
    c.y[0] = c.dy[0] = c.dx[0] = shape;
    c.fold.pre = n->pre;
    c.fold.stats = n->stats;
    return c;
}

static void folded_norm_backward(const chain *h, const norm *n, const cx_tensor *x)
{
    cx_call c = folded_norm(h, n, x);
    c.fold.stats = (cx_tensor){ .ld = 0 };
    c.fold.sums = n->sums;
    c.fold.carry = n->carry;
    c.dx[1] = n->d[0];
    c.dx[2] = n->d[1];
    c.dx_add[1] = c.dx_add[2] = h->k->add;
    backward(CX_OP_BATCH_NORM, &c);
}

static void take_statistics(const cx_tensor *x, const norm *n)
{
    cx_call c = { .n_in = 1, .x = { *x }, .fold = { .stats = n->stats } };
    if (n->stats.s.c)
        assert_int_equal(cx_ref_fwd_statistics(&c), CX_OK);
}

static void apply_carry(const cx_tensor *x, const cx_tensor *dx, const norm *n)
{
    cx_call c = { .n_in = 1, .x = { *x }, .dx = { *dx }, .dx_add = { true }, .fold = { .carry = n->carry } };
    if (n->carry.s.c)
        assert_int_equal(cx_ref_bwd_statistics(&c), CX_OK);
}

static bool can(const chain *h, unsigned flag) { return cx_ops[h->k->op].flags & flag; }

static void run_folded_forward(chain *h)
{
    cx_call a = folded_norm(h, &h->a, &h->x), b = folded_norm(h, &h->b, &h->y), op = op_call(h), reader = reader_call(h);
    take_statistics(&h->x, &h->a);
    forward(CX_OP_BATCH_NORM, &a);
    op.y[0] = h->y;
    op.fold = (cx_fold){ .pre = h->a.pre, .pre_relu = !h->k->no_relu };
    if (can(h, CX_CAN_STATS))
        op.fold.stats = h->b.stats;
    forward(h->k->op, &op);
    if (!can(h, CX_CAN_STATS))
        take_statistics(&h->y, &h->b);
    forward(CX_OP_BATCH_NORM, &b);
    reader.fold = (cx_fold){ .pre = h->b.pre, .pre_relu = !h->k->no_relu };
    forward(CX_OP_CONV2D, &reader);
}

/* apart: the carry of y's gradient is a step of its own, also where the operator could take it along. */
static void run_folded_backward(chain *h, bool apart)
{
    cx_call op = op_call(h), reader = reader_call(h);
    reader.fold = (cx_fold){ .pre = h->b.pre, .pre_relu = !h->k->no_relu, .sums = h->b.sums };
    reader.dx[0] = h->dy;
    reader.dx[1] = h->dv;
    op.y[0] = h->y;
    op.dy[0] = h->dy;
    op.dx[0] = h->dx;
    op.dx[1] = h->dw;
    op.dx_add[0] = op.dx_add[1] = reader.dx_add[1] = h->k->add;
    op.fold = (cx_fold){ .pre = h->a.pre, .pre_relu = !h->k->no_relu, .sums = h->a.sums };
    backward(CX_OP_CONV2D, &reader);
    folded_norm_backward(h, &h->b, &h->y);
    if (apart || !can(h, CX_CAN_CARRY))
        apply_carry(&h->y, &h->dy, &h->b);
    else
        op.fold.carry = h->b.carry;
    backward(h->k->op, &op);
    folded_norm_backward(h, &h->a, &h->x);
    apply_carry(&h->x, &h->dx, &h->a);
}

/* A few roundings to float32 on the way. */
static void assert_same_numbers(const chain *got, const char *what, const cx_tensor *a, const cx_tensor *b)
{
    char *name = cx_sprintf("%s: %s", got->k->name, what);
    if (a->p)
        assert_close(name, a->p, b->p, cx_elems(a->s), 1e-6, 2e-6);
    free(name);
}

/* dgamma and dbeta are sums of rounded gradients, which cancel: norms stand behind norms. x is what b normalises. */
static void assert_same_sums(const chain *got, const norm *a, const norm *b, const cx_tensor *x)
{
    for (int64_t k = 0; k < x->s.c; k++) {
        double gamma = 0, beta = 0;
        for (int64_t e = k; e < cx_elems(x->s); e += x->s.c) {
            beta += fabs((double)b->du.p[e]);
            gamma += fabs((double)b->du.p[e] * ((double)x->p[e] - (double)b->saved[0].p[k]) * (double)b->saved[1].p[k]);
        }
        folded_near(got->k->name, "folded", "dgamma", (double)a->d[0].p[k], (double)b->d[0].p[k], 2e-7, 1e-6, gamma);
        folded_near(got->k->name, "folded", "dbeta", (double)a->d[1].p[k], (double)b->d[1].p[k], 2e-7, 1e-6, beta);
    }
}

static void assert_same_norm(const chain *got, const norm *a, const norm *b, const cx_tensor *x)
{
    static const char *const parts[NORM] = { "gamma", "beta", "running mean", "running variance" };
    for (int i = 0; i < NORM; i++)
        assert_same_numbers(got, parts[i], &a->p[i], &b->p[i]);
    assert_same_sums(got, a, b, x);
}

static void folds_equal_the_plain_chain(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(rows); i++)
        for (int apart = 0; apart < 2; apart++) {
            chain plain, folded;
            chain_open(&plain, &rows[i]);
            chain_open(&folded, &rows[i]);
            run_plain(&plain);
            run_folded_forward(&folded);
            run_folded_backward(&folded, apart);
            assert_same_numbers(&folded, "y", &folded.y, &plain.y);
            assert_same_numbers(&folded, "out", &folded.out, &plain.out);
            assert_same_numbers(&folded, "dx", &folded.dx, &plain.dx);
            assert_same_numbers(&folded, "dw", &folded.dw, &plain.dw);
            assert_same_numbers(&folded, "dw of the reader", &folded.dv, &plain.dv);
            assert_same_norm(&folded, &folded.a, &plain.a, &plain.x);
            assert_same_norm(&folded, &folded.b, &plain.b, &plain.y);
            chain_close(&plain);
            chain_close(&folded);
        }
}

/* ---- finite differences ------------------------------------------------------------------------------------------- */

static double objective(chain *h)
{
    double sum = 0;
    run_folded_forward(h);
    for (int64_t e = 0; e < cx_elems(h->out.s); e++)
        sum += (double)h->out.p[e] * (double)h->dout.p[e];
    return sum;
}

static double slope(chain *h, float *at, float step)
{
    const float middle = *at;
    *at = middle + step;
    double up = objective(h), width = (double)*at;
    *at = middle - step;
    width -= (double)*at;
    double down = objective(h);
    *at = middle;
    return (up - down) / width;
}

/* Entries where two steps disagree lie at a ReLU's kink and are left out; few may. */
static void check_slopes(chain *h, const char *what, const cx_tensor *x, const cx_tensor *dx)
{
    double largest = 0;
    int kinks = 0, checked = 0;
    for (int64_t e = 0; e < cx_elems(x->s); e++)
        largest = fmax(largest, fabs((double)dx->p[e]));
    assert_true(largest > 1e-3);
    for (int64_t e = 0; e < cx_elems(x->s); e += 1 + cx_elems(x->s) / 40) {
        double wide = slope(h, &x->p[e], 0x1p-9f), narrow = slope(h, &x->p[e], 0x1p-10f);
        checked++;
        if (fabs(wide - narrow) > 5e-3 * largest)
            kinks++;
        else if (!(fabs(narrow - (double)dx->p[e]) <= 1e-2 * largest))
            fail_msg("%s: gradient of %s[%lld] is %.7g, finite differences say %.7g", h->k->name, what, (long long)e, (double)dx->p[e], narrow);
    }
    if (kinks * 3 > checked)
        fail_msg("%s: %d of %d entries of %s are at kinks, too few are left", h->k->name, kinks, checked, what);
}

static void folds_equal_finite_differences(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(rows); i++) {
        chain h;
        if (rows[i].add || rows[i].frozen || rows[i].op == CX_OP_MAX_POOL)
            continue;
        chain_open(&h, &rows[i]);
        run_folded_forward(&h);
        run_folded_backward(&h, false);
        check_slopes(&h, "x", &h.x, &h.dx);
        if (h.w.p)
            check_slopes(&h, "w", &h.w, &h.dw);
        check_slopes(&h, "gamma", &h.a.p[GAMMA], &h.a.d[0]);
        check_slopes(&h, "beta", &h.a.p[BETA], &h.a.d[1]);
        check_slopes(&h, "gamma of the second norm", &h.b.p[GAMMA], &h.b.d[0]);
        check_slopes(&h, "beta of the second norm", &h.b.p[BETA], &h.b.d[1]);
        chain_close(&h);
    }
}

/* ---- a norm behind ------------------------------------------------------------------------------------------------ */

/* conv, norm with running statistics, ReLU: by itself and as post of the convolution. */
static void post_equals_a_norm_behind(void **state)
{
    (void)state;
    chain h;
    chain_open(&h, &rows[2]);
    cx_call op = op_call(&h), plain = plain_norm(&h, &h.b, &h.y), vectors_only = folded_norm(&h, &h.b, &h.y);
    cx_tensor bias = make(&h, vectors(1, h.y.s.c), 90, FILL_SIGNED), want = make(&h, h.y.s, 0, FILL_ABSENT);
    plain.training = vectors_only.training = false;
    vectors_only.fold.stats = (cx_tensor){ .ld = 0 };
    op.n_in = 3;
    op.x[2] = bias;
    op.y[0] = h.y;
    plain.y[0] = want;
    forward(CX_OP_CONV2D, &op);
    forward(CX_OP_BATCH_NORM, &plain);
    forward(CX_OP_BATCH_NORM, &vectors_only);
    op.relu = true;
    op.fold.post = h.b.pre;
    op.fold.stats = h.b.stats;
    forward(CX_OP_CONV2D, &op);
    assert_same_numbers(&h, "y behind post", &h.y, &want);
    cx_call again = { .n_in = 1, .x = { h.y }, .fold = { .stats = make(&h, vectors(2, h.y.s.c), 0, FILL_ABSENT) } };
    assert_int_equal(cx_ref_fwd_statistics(&again), CX_OK);
    assert_memory_equal(h.b.stats.p, again.fold.stats.p, (size_t)h.y.s.c * 2 * sizeof(float));        /* of the finished y */
    chain_close(&h);
}

/* ---- the contract ------------------------------------------------------------------------------------------------- */

/* Sums equal those of a plain gradient; they do not depend on dx[0], nor it on them; slices change no bit. */
static void sums_stand_alone(void **state)
{
    (void)state;
    const int folds = FOLD_PRE | FOLD_RELU | FOLD_SUMS;
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cases_run all, alone, without, sliced;
        if (!folded_fits(&cases[i], folds))
            continue;
        folded_open(&all, &cases[i], folds);
        folded_open(&alone, &cases[i], folds | FOLD_NO_DX);
        folded_open(&without, &cases[i], folds & ~FOLD_SUMS);
        folded_open(&sliced, &cases[i], folds | FOLD_SLICED);
        folded_reference(&all);
        folded_reference(&alone);
        folded_reference(&without);
        folded_reference(&sliced);
        cx_tensor terms = folded_terms(&all);
        folded_assert_sums(&all, &terms, "reference");
        case_assert_equal(cases[i].name, "sums without dx", &all.c.fold.sums, &alone.c.fold.sums);
        case_assert_equal(cases[i].name, "dx without sums", &all.c.dx[0], &without.c.dx[0]);
        folded_assert_same(&all, &sliced);
        folded_assert_gaps(&sliced);
        free(terms.p);
        case_close(&all);
        case_close(&alone);
        case_close(&without);
        case_close(&sliced);
    }
}

/* A redo rebuilds y[0] and nothing else; vectors of a norm and its running statistics stay. */
static void redo_changes_no_state(void **state)
{
    (void)state;
    chain h;
    chain_open(&h, &rows[2]);
    run_folded_forward(&h);
    cx_call a = folded_norm(&h, &h.a, &h.x), op = op_call(&h);
    float *y = cases_dense(&h.y), *pre = cases_dense(&h.a.pre), *mean = cases_dense(&h.a.p[MEAN]), *var = cases_dense(&h.a.p[VAR]);
    cx_tensor stats = make(&h, vectors(2, h.y.s.c), 0, FILL_ABSENT);
    a.redo = op.redo = true;
    op.y[0] = h.y;
    op.fold = (cx_fold){ .pre = h.a.pre, .pre_relu = true, .stats = stats };
    memset(h.y.p, 0xff, (size_t)cx_elems(h.y.s) * sizeof(float));
    forward(CX_OP_BATCH_NORM, &a);
    forward(CX_OP_CONV2D, &op);
    assert_memory_equal(h.y.p, y, (size_t)cx_elems(h.y.s) * sizeof(float));
    assert_memory_equal(h.a.pre.p, pre, (size_t)cx_elems(h.a.pre.s) * sizeof(float));
    assert_memory_equal(h.a.p[MEAN].p, mean, (size_t)h.x.s.c * sizeof(float));
    assert_memory_equal(h.a.p[VAR].p, var, (size_t)h.x.s.c * sizeof(float));
    for (int64_t e = 0; e < cx_elems(stats.s); e++)
        assert_true(isnan(stats.p[e]));
    free(y);
    free(pre);
    free(mean);
    free(var);
    chain_close(&h);
}

/* Several norms of one value: each adds to the carry that the first wrote. */
static void carries_add_up(void **state)
{
    (void)state;
    chain h;
    chain_open(&h, &rows[0]);
    run_folded_forward(&h);
    run_folded_backward(&h, true);
    cx_tensor twice = make(&h, h.a.carry.s, 0, FILL_ABSENT);
    for (int64_t e = 0; e < cx_elems(h.a.carry.s); e++)
        twice.p[e] = 2 * h.a.carry.p[e];
    cx_call c = folded_norm(&h, &h.a, &h.x);
    c.fold.sums = h.a.sums;
    c.fold.carry = h.a.carry;
    c.fold.carry_add = true;
    backward(CX_OP_BATCH_NORM, &c);
    assert_same_numbers(&h, "carry", &h.a.carry, &twice);
    chain_close(&h);
}

/* ---- a pool --------------------------------------------------------------------------------------------------------- */

/* Folded in, it gives the bits of a max_pool behind the step that has everything else. */
static void a_pool_equals_a_step_of_its_own(void **state)
{
    (void)state;
    int checked = 0;
    for (int i = 0; i < FOLDED_TOTAL; i++)
        for (int j = 0; j < CX_COUNT(folded_sets); j++) {
            if (!(folded_sets[j] & FOLD_POOL) || !folded_fits(folded_row(i), folded_sets[j]))
                continue;
            cases_run with, without;
            folded_open(&with, folded_row(i), folded_sets[j]);
            folded_open(&without, folded_row(i), folded_sets[j] & ~FOLD_POOL);
            folded_reference(&with);
            folded_reference(&without);
            cx_tensor y = cases_tensor(&without, with.c.y[0].s, false);
            cx_call pool = { .attr = &with.c.fold.pool, .n_in = 1, .n_out = 1, .x = { without.c.y[0] }, .y = { y } };
            assert_int_equal(cx_ops[CX_OP_MAX_POOL].ref_fwd(&pool), CX_OK);
            case_assert_equal(with.k->name, "y", &with.c.y[0], &y);
            folded_assert_gaps(&with);
            case_close(&with);
            case_close(&without);
            checked++;
        }
    assert_true(checked > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folds_equal_the_plain_chain), cmocka_unit_test(folds_equal_finite_differences), cmocka_unit_test(post_equals_a_norm_behind),
        cmocka_unit_test(sums_stand_alone), cmocka_unit_test(redo_changes_no_state), cmocka_unit_test(carries_add_up),
        cmocka_unit_test(a_pool_equals_a_step_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
