/* test_dot.c - convolutions whose operands are rounded to bfloat16 (AVX512_BF16; tensor cores, on the emulated GPU in its three schedules): x behind its
 * prologue, the weights, and dy behind carry and mask. What is left is a plain product with float32 sums, so the reference on operands that were rounded first
 * must agree within its own tolerance, and everything that is not a product (masks, statistics, sums, the bias) as everywhere. */
#include "cpu/isa.h"
#include "ops/folded.h"

static const char *const dot_isas[] = { "avx512_bf16", "emu" };
static const int most_threads[] = { 4, 3 };
#ifdef CX_SANITIZED
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

typedef struct {
    cases_run run;                  /* the case; x and y hold bfloat16 numbers as float32 */
    cx_tensor u, want, db;          /* x behind the prologue, not rounded; y, or the gradient of u; the gradient of the bias */
    cx_call plain;                  /* the call that it amounts to */
} oracle;

static cx_tensor dense(oracle *o, cx_shape s) { return cases_tensor(&o->run, s, false); }

static void read_u(oracle *o)
{
    const cx_fold *f = &o->run.c.fold;
    const cx_tensor *x = &o->run.c.x[0];
    o->u = dense(o, x->s);
    for (int64_t e = 0; e < cx_elems(x->s); e++) {
        float v = *cases_at(x, e);
        if (f->pre.s.c)
            v = fmaf(v, cx_row(&f->pre, CX_FOLD_SCALE)[e % x->s.c], cx_row(&f->pre, CX_FOLD_SHIFT)[e % x->s.c]);
        o->u.p[e] = f->pre_relu && v < 0 ? 0 : v;
        o->plain.x[0].p[e] = folded_rounded(o->u.p[e]);
    }
}

/* Weights and bias as post leaves them. */
static void read_weights(oracle *o)
{
    const cx_call *c = &o->run.c;
    const int64_t n = c->y[0].s.c, k = cx_elems(c->x[1].s) / n;
    const float *scale = cx_row(&c->fold.post, CX_FOLD_SCALE), *shift = cx_row(&c->fold.post, CX_FOLD_SHIFT);
    for (int64_t e = 0; e < cx_elems(c->x[1].s); e++)
        o->plain.x[1].p[e] = folded_rounded(c->x[1].p[e] * (scale ? scale[e / k] : 1));
    for (int64_t i = 0; i < n; i++)
        o->plain.x[2].p[i] = (c->x[2].p ? c->x[2].p[i] * (scale ? scale[i] : 1) : 0) + (shift ? shift[i] : 0);
}

/* dy with its carry and mask, summed for the bias, then rounded. */
static void read_dy(oracle *o)
{
    const cx_call *c = &o->run.c;
    const int64_t n = c->y[0].s.c;
    o->db = dense(o, (cx_shape){ 1, 1, 1, n });
    double *sum = cx_alloc((size_t)n, sizeof *sum);
    assert_non_null(sum);
    for (int64_t e = 0; e < cx_elems(c->y[0].s); e++) {
        float v = *cases_at(&c->dy[0], e);
        const float y = *cases_at(&c->y[0], e);
        if (c->fold.carry.s.c)
            v += fmaf(y, cx_row(&c->fold.carry, 0)[e % n], cx_row(&c->fold.carry, 1)[e % n]);
        if (c->relu && y <= 0)
            v = 0;
        sum[e % n] += (double)v;
        o->plain.dy[0].p[e] = folded_rounded(v);
    }
    for (int64_t i = 0; i < n; i++)
        o->db.p[i] = (float)sum[i] + (c->dx_add[2] && c->dx[2].p ? c->dx[2].p[i] : 0);
    free(sum);
}

/* Opens the case and computes what is wanted of it in one direction. */
static void oracle_open(oracle *o, const cases_row *k, int folds, bool backward)
{
    *o = (oracle){ .db = { .ld = 0 } };
    folded_open(&o->run, k, folds);
    const cx_call *c = &o->run.c;
    for (int64_t e = 0; e < cx_elems(c->x[0].s); e++)
        *cases_at(&c->x[0], e) = folded_rounded(*cases_at(&c->x[0], e));
    const cx_shape vector = { 1, 1, 1, c->y[0].s.c };
    o->plain = (cx_call){ .attr = c->attr, .n_in = 3, .n_out = 1, .relu = c->relu && !backward,
        .x = { dense(o, c->x[0].s), dense(o, c->x[1].s), dense(o, vector) }, .y = { dense(o, c->y[0].s) },
        .fold.pool = c->fold.pool };
    read_u(o);
    read_weights(o);
    assert_int_equal(cx_ops[k->op].ref_fwd(&o->plain), CX_OK);
    o->want = o->plain.y[0];
    if (!backward)
        return;
    for (int64_t e = 0; e < cx_elems(c->y[0].s); e++)
        *cases_at(&c->y[0], e) = folded_rounded(o->plain.y[0].p[e]);
    o->plain.dy[0] = dense(o, c->y[0].s);
    read_dy(o);
    o->plain.dx[0] = o->want = dense(o, c->x[0].s);
    o->plain.dx[1] = dense(o, c->x[1].s);
    for (int64_t e = 0; c->dx_add[1] && e < cx_elems(c->x[1].s); e++)
        o->plain.dx[1].p[e] = c->dx[1].p[e];
    o->plain.dx_add[1] = c->dx_add[1];
    assert_int_equal(cx_ops[k->op].ref_bwd(&o->plain), CX_OK);
}

/* The gradient of u as the gate passes it on: into dx, and into sums as exact as the gradients in them. */
static void check_gate(oracle *o, const cx_call *got, const char *impl)
{
    const cx_call *c = &o->run.c;
    const cx_fold *f = &c->fold;
    const int64_t n = c->x[0].s.c;
    const float *scale = cx_row(&f->pre, CX_FOLD_SCALE), *mean = cx_row(&f->pre, CX_FOLD_MEAN);
    cx_tensor dx = dense(o, c->x[0].s);
    double largest = 0;
    for (int64_t e = 0; e < cx_elems(dx.s); e++) {
        largest = fmax(largest, fabs((double)o->want.p[e]));
        if (f->pre_relu && o->u.p[e] <= 0)
            o->want.p[e] = 0;
        dx.p[e] = o->want.p[e] * (scale ? scale[e % n] : 1) + (c->dx_add[0] && c->dx[0].p ? *cases_at(&c->dx[0], e) : 0);
    }
    folded_close(&o->run, impl, "dx", &got->dx[0], &dx);
    for (int64_t k = 0; k < f->sums.s.c; k++) {
        double sum = 0, dot = 0, size[2] = { largest, 0 };
        for (int64_t e = k; e < cx_elems(dx.s); e += n) {
            const double g = (double)o->want.p[e], off = (double)*cases_at(&c->x[0], e) - (double)mean[k];
            sum += g;
            dot += g * off;
            size[0] += fabs(g);
            size[1] += (fabs(g) + largest) * fabs(off);
        }
        folded_near(o->run.k->name, impl, "sum of g", (double)cx_row(&got->fold.sums, 0)[k], sum, 0, 3e-6, size[0]);
        folded_near(o->run.k->name, impl, "sum of g (x - mean)", (double)cx_row(&got->fold.sums, 1)[k], dot, 0, 3e-6, size[1]);
    }
}

/* A slice of a wider bf16 buffer whose pixels all lie at multiples of 16 bytes, between numbers that nobody may read. */
static cx_tensor in_octets(cases_run *r, const cx_tensor *t)
{
    cx_tensor to = { .s = t->s, .ld = (t->s.c + 15) / 8 * 8, .type = CX_BF16 };
    to.p = cx_alloc_aligned((size_t)(cx_pixels(t->s) * to.ld), sizeof(uint16_t));
    assert_non_null(to.p);
    r->memory[r->n_memory++] = to.p;
    memset(to.p, 0xff, (size_t)(cx_pixels(t->s) * to.ld) * sizeof(uint16_t));
    for (int64_t e = 0; e < cx_elems(t->s); e++)
        cx_half(&to)[e / t->s.c * to.ld + e % t->s.c] = cx_to_bf16(*cases_at(t, e));
    return to;
}

/* A run of the case as a bf16 plan hands it over. octets: x lies in them. y: in bf16 too. */
static cx_call open_run(cases_run *r, const oracle *o, int folds, bool backward, bool octets, bool y)
{
    folded_open(r, o->run.k, folds);
    for (int64_t e = 0; backward && e < cx_elems(r->c.y[0].s); e++)
        *cases_at(&r->c.y[0], e) = *cases_at(&o->run.c.y[0], e);
    r->c.x[0] = octets ? in_octets(r, &o->run.c.x[0]) : folded_narrowed(r, &o->run.c.x[0]);
    if (y)
        r->c.y[0] = folded_narrowed(r, &r->c.y[0]);
    return folded_call(r, backward);
}

/* The first of this house: what a library rounds on its way, test_library_conv knows. */
static const cx_impl *impl_of(cx_backend *b, cx_op_id op, const cx_call *c, bool backward)
{
    int n = 0;
    const cx_impl *list = b->impls(b, op, &n);
    for (int i = 0; i < n; i++)
        if (list[i].dot && !strstr(list[i].name, "cudnn") && !strstr(list[i].name, "cublaslt") && cx_impl_takes(&list[i], c, backward))
            return &list[i];
    return NULL;
}

/* y in bfloat16 is y in float32, rounded. */
static void check_narrow_y(const oracle *o, const cx_impl *impl, int folds, const cx_tensor *wide)
{
    cases_run r;
    cx_call c = open_run(&r, o, folds, false, false, true);
    with_work(NULL, &c, impl, false, impl->fwd);
    for (int64_t e = 0; e < cx_elems(wide->s); e++)
        if (cx_half(&r.c.y[0])[e / wide->s.c * wide->ld + e % wide->s.c] != cx_to_bf16(*cases_at(wide, e)))
            fail_msg("%s (%s): y[%lld] in bf16 is not y in float32, rounded", r.k->name, impl->name, (long long)e);
    case_close(&r);
}

/* Weights laid out before change nothing. */
static void check_packed(const oracle *o, const cx_impl *impl, int folds, const cx_tensor *y)
{
    cases_run r;
    cx_call c = open_run(&r, o, folds, false, false, false);
    c.packed = cx_alloc_aligned(impl->packed(&c), 1);
    assert_non_null(c.packed);
    memset(c.packed, 0xff, impl->packed(&c));
    assert_int_equal(impl->pack(&c), CX_OK);
    with_work(NULL, &c, impl, false, impl->fwd);
    case_assert_equal(r.k->name, "y from packed weights", &r.c.y[0], y);
    free(c.packed);
    case_close(&r);
}

static void check_first(oracle *o, const cx_impl *impl, const cases_run *r, int folds, bool backward)
{
    if (backward) {
        check_gate(o, &r->c, impl->name);
        folded_close(r, impl->name, "dw", &r->c.dx[1], &o->plain.dx[1]);
        folded_close(r, impl->name, "db", &r->c.dx[2], &o->db);
        return;
    }
    cases_run want = { .k = r->k, .c.y = { o->want } };
    folded_assert_forward(r, &want, impl->name);
    check_narrow_y(o, impl, folds, &r->c.y[0]);
    check_packed(o, impl, folds, &r->c.y[0]);
}

static void check_same(const cases_run *r, const cases_run *first, bool backward)
{
    if (!backward)
        case_assert_equal(r->k->name, "y", &r->c.y[0], &first->c.y[0]);
    for (int i = 0; i < r->c.n_in; i++)
        case_assert_equal(r->k->name, "dx", &r->c.dx[i], &first->c.dx[i]);
    case_assert_equal(r->k->name, "stats", &r->c.fold.stats, &first->c.fold.stats);
    case_assert_equal(r->k->name, "sums", &r->c.fold.sums, &first->c.fold.sums);
}

/* Runs with an even number of threads find x in octets, and give the same bits. narrow_y: backward reads its mask and carry from a y in bf16. False when no
 * such implementation takes the case. */
static bool check(int isa, const cases_row *k, int folds, bool backward, bool narrow_y)
{
    oracle o;
    oracle_open(&o, k, folds, backward);
    cases_run first = { 0 };
    bool taken = true;
    for (int threads = 1; taken && threads <= most_threads[isa]; threads++) {
        cx_backend *b = open_isa(dot_isas[isa], threads);
        cases_run r;
        cx_call c = open_run(&r, &o, folds, backward, threads % 2 == 0, narrow_y);
        const cx_impl *impl = is_slow(dot_isas[isa], k->op, &c, 7000000) ? NULL : impl_of(b, k->op, &c, backward);
        taken = impl != NULL;
        if (taken)
            with_work(b, &c, impl, backward, backward ? impl->bwd : impl->fwd);
        if (taken && threads == 1)
            check_first(&o, impl, &r, folds, backward);
        else if (taken)
            check_same(&r, &first, backward);
        if (threads == 1)
            first = r;
        else
            case_close(&r);
        cx_backend_close(b);
    }
    case_close(&first);
    case_close(&o.run);
    return taken;
}

static int check_row(int isa, const cases_row *k)
{
    int checked = 0;
    for (int j = -1; j < CX_COUNT(folded_sets); j++) {
        const int folds = j < 0 ? 0 : folded_sets[j];
        if (!folded_fits(k, folds) || (SANITIZED && is_emulated(dot_isas[isa]) && j > 0 && !(folds & FOLD_SLICED && folds & FOLD_POST)))
            continue;
        checked += check(isa, k, folds, false, false);
        for (int narrow = 0; !(folds & FOLD_EVAL) && narrow < 2; narrow++)
            checked += check(isa, k, folds, true, narrow);
    }
    return checked;
}

#define IN(n, h, w, c) { FILL_SIGNED, { n, h, w, c } }
#define UP(stride, pad) &(const cx_convt_attr){ stride, pad }
#define CONV(stride, pad) &(const cx_conv_attr){ stride, pad, pad, pad, pad }
/* Pixels enough for dy packed block by block on the CPU; blocks of odd rows, the last of fewer. */
static const cases_row large[] = {
    { "dot_blocks", CX_OP_CONV2D, CASES_SLICED | CASES_DX_ADD, CONV(1, 0), { IN(1, 67, 107, 7), IN(5, 1, 1, 7) } },
};
/* Pixels enough for several chunks, tiles and octets that are not whole, more than one tile of each kind, one pixel, windows that leave the map on all sides
 * or skip pixels of it. */
static const cases_row tiles[] = {
    { "tile_pixel", CX_OP_CONV2D, CASES_RELU, CONV(1, 0), { IN(1, 1, 1, 8), IN(8, 1, 1, 8), IN(1, 1, 1, 8) } },
    { "tile_chunks", CX_OP_CONV2D, CASES_RELU, CONV(1, 0), { IN(1, 17, 53, 40), IN(24, 1, 1, 40), IN(1, 1, 1, 24) } },
    { "tile_1x1", CX_OP_CONV2D, CASES_DX_ADD, CONV(1, 0), { IN(1, 13, 11, 136), IN(72, 1, 1, 136) } },
    { "tile_1x1_odd", CX_OP_CONV2D, CASES_SLICED | CASES_DX_ADD, CONV(1, 0), { IN(2, 9, 7, 67), IN(45, 1, 1, 67), IN(1, 1, 1, 45) } },
    { "tile_1x1_stride", CX_OP_CONV2D, CASES_SLICED, CONV(2, 0), { IN(2, 9, 8, 33), IN(20, 1, 1, 33) } },
    { "tile_3x3_growth", CX_OP_CONV2D, CASES_SLICED, CONV(1, 1), { IN(1, 7, 5, 128), IN(32, 3, 3, 128) } },
    { "tile_3x3_wide", CX_OP_CONV2D, CASES_RELU | CASES_DX_ADD, CONV(1, 1), { IN(1, 5, 3, 24), IN(72, 3, 3, 24), IN(1, 1, 1, 72) } },
    { "tile_3x3_broad", CX_OP_CONV2D, CASES_SLICED, CONV(1, 1), { IN(1, 2, 99, 24), IN(40, 3, 3, 24) } },
    { "tile_3x3_images", CX_OP_CONV2D, CASES_DX_ADD, CONV(1, 1), { IN(3, 7, 8, 40), IN(33, 3, 3, 40) } },
    { "tile_3x3_stride", CX_OP_CONV2D, CASES_RELU, CONV(2, 1), { IN(2, 8, 7, 12), IN(40, 3, 3, 12), IN(1, 1, 1, 40) } },
    { "tile_5x5_far", CX_OP_CONV2D, 0, CONV(3, 4), { IN(1, 6, 7, 9), IN(11, 5, 5, 9) } },
};
/* Up-convolutions, of which CPUs have none that rounds its operands: the window of a U-Net with more than one tile each way and several chunks; windows that
 * overlap, leave gaps, or lose their rim; phases of different sizes. */
static const cases_row up[] = {
    { "up_pixel", CX_OP_CONV_TRANSPOSE2D, CASES_RELU, UP(2, 0), { IN(1, 1, 1, 8), IN(8, 2, 2, 8), IN(1, 1, 1, 8) } },
    { "up_chunks", CX_OP_CONV_TRANSPOSE2D, CASES_RELU | CASES_DX_ADD, UP(2, 0), { IN(1, 13, 23, 40), IN(40, 2, 2, 24), IN(1, 1, 1, 24) } },
    { "up_wide", CX_OP_CONV_TRANSPOSE2D, CASES_DX_ADD, UP(2, 0), { IN(1, 3, 5, 136), IN(136, 2, 2, 72), IN(1, 1, 1, 72) } },
    { "up_odd", CX_OP_CONV_TRANSPOSE2D, CASES_SLICED | CASES_DX_ADD, UP(2, 0), { IN(2, 9, 8, 67), IN(67, 2, 2, 45), IN(1, 1, 1, 45) } },
    { "up_overlap", CX_OP_CONV_TRANSPOSE2D, CASES_RELU | CASES_SLICED, UP(2, 1), { IN(2, 4, 5, 20), IN(20, 3, 3, 33) } },
    { "up_gaps", CX_OP_CONV_TRANSPOSE2D, CASES_SLICED, UP(3, 0), { IN(1, 5, 3, 9), IN(9, 2, 2, 11), IN(1, 1, 1, 11) } },
};
#undef UP
#undef CONV
#undef IN

/* All cases; on the emulated GPU under a sanitizer, where they would take ten minutes: those made for it, plain, and with the folds of training and
 * evaluation. */
static void check_isa(int isa)
{
    cx_backend *b = open_isa(dot_isas[isa], 1);
    if (!b) {
        print_message("skipped: there is no %s here\n", dot_isas[isa]);
        return;
    }
    cx_backend_close(b);
    int checked = 0;
    const int cases_here = SANITIZED && is_emulated(dot_isas[isa]) ? 0 : FOLDED_TOTAL;
    for (int i = 0; i < cases_here; i++)
        if (folded_row(i)->op == CX_OP_CONV2D)
            checked += check_row(isa, folded_row(i));
    assert_true(checked > 0 || cases_here == 0);
    for (int i = 0; !is_emulated(dot_isas[isa]) && i < CX_COUNT(large); i++)
        assert_true(check_row(isa, &large[i]) > 0);
    for (int i = 0; i < CX_COUNT(tiles); i++)
        assert_true(check_row(isa, &tiles[i]) > 0);
    for (int i = 0; is_emulated(dot_isas[isa]) && i < CX_COUNT(up); i++)
        assert_true(check_row(isa, &up[i]) > 0);
}

static void test_products_of_rounded_operands(void **state)
{
    (void)state;
    check_isa(0);
}

static void test_products_on_tensor_cores(void **state)
{
    (void)state;
    check_isa(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_products_of_rounded_operands), cmocka_unit_test(test_products_on_tensor_cores) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
