/* test_winograd.c - 3x3 convolutions by Winograd on every instruction set of this machine, with all that a plan folds into them, against the
 * double-accumulating reference: tiles that hang over an edge, several blocks of channels, groups and blocks of tiles, the same bits for any number of
 * threads, nothing outside a slice touched; and how much accuracy it costs beside the direct product, the table of HACKING.md. */
#include "support.h"
#include "cpu/isa.h"
#include "cpu/slices.h"
#include "cxnet/op.h"

/* The implementation of 3x3 convolutions whose name starts so. */
static const cx_impl *impl_of(cx_backend *b, const char *name)
{
    int n = 0;
    const cx_impl *list = b->impls(b, CX_OP_CONV2D, &n);
    for (int i = 0; i < n; i++)
        if (strncmp(list[i].name, name, strlen(name)) == 0)
            return &list[i];
    fail_msg("no implementation %s in %s", name, b->description);
    return NULL;
}

static cx_tensor rows_of(int64_t rows, int64_t c) { return tensor((cx_shape){ 1, 1, rows, c }, 0, true); }

enum { BIAS = 1, RELU = 2, PLUS = 4, FOLD = 8, NO_DX = 16, LINEAR = 32 };      /* PLUS: dx_add; LINEAR: no ReLU in the prologue */
typedef struct { cx_shape x; int64_t out; cx_conv_attr attr; int64_t extra; int how; } a_case;

/* What one call writes, in the order of what it is compared with. */
enum { Y, STATS, DX, DW, DB, SUMS, RESULTS };
static const char *const names[RESULTS] = { "y", "stats", "dx", "dw", "db", "sums" };

static void run(const cx_impl *impl, cx_call *c, bool backward, bool pack)
{
    if (pack) {
        c->packed = cx_alloc_aligned(impl->packed(c), 1);
        assert_non_null(c->packed);
        assert_int_equal(impl->pack(c), CX_OK);
    }
    with_work(NULL, c, impl, backward, backward ? impl->bwd : impl->fwd);
    free(c->packed);
    c->packed = NULL;
}

/* A call with fresh results, as `base` has them. impl NULL: the reference. y: what the backward pass reads, NULL = its own. */
static void run_both(const cx_impl *impl, const cx_call *base, const cx_tensor *y, bool pack, cx_tensor got[RESULTS])
{
    cx_call f = *base, b = *base;
    got[Y] = f.y[0] = copy_of(&base->y[0]);
    got[STATS] = f.fold.stats = copy_of(&base->fold.stats);
    f.fold.carry = f.fold.sums = (cx_tensor){ .p = NULL };
    f.dy[0] = (cx_tensor){ .p = NULL };
    b.fold.stats = (cx_tensor){ .p = NULL };
    for (int i = 0; i < 3; i++)
        got[DX + i] = b.dx[i] = copy_of(&base->dx[i]);
    got[SUMS] = b.fold.sums = copy_of(&base->fold.sums);
    if (impl)
        run(impl, &f, false, pack);
    else
        assert_int_equal(cx_ops[CX_OP_CONV2D].ref_fwd(&f), CX_OK);
    b.y[0] = y ? *y : got[Y];
    if (impl)
        run(impl, &b, true, false);
    else
        assert_int_equal(cx_ops[CX_OP_CONV2D].ref_bwd(&b), CX_OK);
}

/* Sums over many pixels of either sign are small beside their terms: their error is measured against what the terms could add up to. */
static double slack(int i, const cx_call *c)
{
    return i == SUMS ? 2e-5 * sqrt((double)cx_pixels(c->x[0].s)) : cx_ops[CX_OP_CONV2D].atol;
}

static void compare(const char *what, int i, const cx_call *c, const cx_tensor *got, const cx_tensor *want)
{
    char part[200];
    snprintf(part, sizeof part, "%s: %s", what, names[i]);
    for (size_t k = 0; k < floats_of(got); k++)
        if ((int64_t)(k % (size_t)got->ld) >= got->s.c && got->p[k] != MARK)
            fail_msg("%s: wrote outside its channel slice at float %zu", part, k);
    for (int64_t p = 0; p < cx_pixels(got->s); p++) {      /* marks out of the way of the largest value */
        const int64_t gap = p + 1 < cx_pixels(got->s) ? got->ld - got->s.c : 0;
        memset(got->p + p * got->ld + got->s.c, 0, (size_t)gap * sizeof(float));
        memset(want->p + p * want->ld + want->s.c, 0, (size_t)gap * sizeof(float));
    }
    assert_close(part, got->p, want->p, (int64_t)floats_of(got), cx_ops[CX_OP_CONV2D].rtol, slack(i, c));
}

static void check_isa(const char *what, const char *isa, const cx_call *base, const cx_tensor want[RESULTS])
{
    static const int threads[] = { 1, 2, 3, 7 };
    cx_tensor first[RESULTS], got[RESULTS];
    for (int t = 0; t < CX_COUNT(threads); t++) {
        cx_backend *b = open_isa(isa, threads[t]);
        const cx_impl *impl = impl_of(b, "winograd");
        if (!impl->accepts(base))
            fail_msg("%s: not accepted", what);
        run_both(impl, base, &want[Y], t % 2, t ? got : first);
        cx_backend_close(b);
        for (int i = 0; i < RESULTS; i++) {
            if (!want[i].p)
                continue;
            if (t && memcmp(got[i].p, first[i].p, floats_of(&got[i]) * sizeof(float)))
                fail_msg("%s: %s: other bits with %d threads", what, names[i], threads[t]);
            if (t)
                free(got[i].p);
        }
    }
    for (int i = 0; i < RESULTS; i++)
        if (want[i].p) {
            compare(what, i, base, &first[i], &want[i]);
            free(first[i].p);
        }
}

static void make(const a_case *k, cx_call *c)
{
    *c = (cx_call){ .attr = &k->attr, .n_in = k->how & BIAS ? 3 : 2, .n_out = 1, .training = true, .relu = k->how & RELU };
    c->x[0] = tensor(k->x, k->extra, true);
    c->x[1] = tensor((cx_shape){ k->out, 3, 3, k->x.c }, 0, true);
    if (k->how & BIAS)
        c->x[2] = rows_of(1, k->out);
    assert_cx_ok(cx_ops[CX_OP_CONV2D].infer(c, err));
    c->y[0] = tensor(c->y[0].s, k->extra, true);
    c->dy[0] = tensor(c->y[0].s, k->extra, true);
    for (int i = k->how & NO_DX ? 1 : 0; i < c->n_in; i++) {
        c->dx[i] = tensor(c->x[i].s, i ? 0 : k->extra, true);
        c->dx_add[i] = k->how & PLUS;
    }
    if (!(k->how & FOLD))
        return;
    c->fold = (cx_fold){ .pre = rows_of(4, k->x.c), .stats = rows_of(2, k->out), .sums = rows_of(2, k->x.c), .carry = rows_of(2, k->out),
        .pre_relu = !(k->how & LINEAR) };
}

static void drop(cx_call *c)
{
    cx_tensor *all[] = { &c->x[0], &c->x[1], &c->x[2], &c->y[0], &c->dy[0], &c->dx[0], &c->dx[1], &c->dx[2], &c->fold.pre, &c->fold.stats, &c->fold.sums,
        &c->fold.carry };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]->p);
}

static bool is_here(const char *isa)
{
    cx_backend *b = open_isa(isa, 1);
    if (b)
        cx_backend_close(b);
    return b != NULL;
}

static void drop_results(cx_tensor r[RESULTS])
{
    for (int i = 0; i < RESULTS; i++)
        free(r[i].p);
}

static void check(const a_case *k)
{
    cx_call c;
    cx_tensor want[RESULTS];
    make(k, &c);
    run_both(NULL, &c, NULL, false, want);
    for (int i = 0; i < CPU_ISAS; i++) {
        char what[120];
        snprintf(what, sizeof what, "%s x %lldx%lldx%lldx%lld out %lld how %d", isas[i], (long long)k->x.n, (long long)k->x.h, (long long)k->x.w,
            (long long)k->x.c, (long long)k->out, k->how);
        if (is_here(isas[i]))
            check_isa(what, isas[i], &c, want);
    }
    drop_results(want);
    drop(&c);
}

static cx_conv_attr pads(int top, int bottom, int left, int right) { return (cx_conv_attr){ 1, top, bottom, left, right }; }

static void plain(void **state)
{
    (void)state;
    const a_case k[] = {
        { { 3, 10, 13, 32 }, 48, pads(1, 2, 0, 0), 7, BIAS | RELU | PLUS }, { { 2, 15, 16, 80 }, 32, pads(1, 0, 2, 1), 0, BIAS },
        { { 1, 5, 4, 64 }, 64, pads(1, 1, 1, 1), 16, RELU | NO_DX }, { { 2, 6, 6, 32 }, 32, pads(0, 0, 0, 0), 0, 0 },
        { { 1, 16, 16, 192 }, 160, pads(1, 1, 1, 1), 16, BIAS | PLUS }, { { 1, 4, 4, 32 }, 32, pads(3, 3, 2, 3), 0, BIAS },
        /* tiles that lie wholly outside the film, on either side */
        { { 1, 17, 21, 32 }, 32, pads(3, 3, 3, 3), 0, BIAS }, { { 2, 17, 5, 32 }, 32, pads(0, 6, 7, 0), 0, FOLD },
        { { 1, 4, 17, 32 }, 32, pads(9, 0, 0, 5), 7, RELU },
    };
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++)
        check(&k[i]);
}

/* Growth convolutions, few tiles and many, and channels of a U-Net; gradients that overwrite, add, or are sums only. */
static void folded(void **state)
{
    (void)state;
    const a_case k[] = {
        { { 2, 14, 14, 128 }, 32, pads(1, 1, 1, 1), 96, FOLD }, { { 3, 7, 7, 128 }, 32, pads(1, 1, 1, 1), 0, FOLD | PLUS },
        { { 1, 7, 7, 64 }, 32, pads(1, 1, 1, 1), 32, FOLD | LINEAR }, { { 2, 30, 33, 32 }, 48, pads(1, 1, 1, 1), 16, FOLD | NO_DX },
        { { 1, 5, 6, 32 }, 64, pads(0, 1, 2, 1), 5, FOLD | BIAS | RELU | PLUS }, { { 2, 9, 10, 176 }, 144, pads(1, 1, 1, 1), 16, FOLD | BIAS },
        { { 3, 7, 9, 128 }, 144, pads(1, 1, 1, 1), 0, FOLD | PLUS | RELU }, { { 2, 10, 8, 144 }, 128, pads(1, 1, 1, 1), 0, FOLD | NO_DX | LINEAR },
    };
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++)
        check(&k[i]);
}

/* ---- accuracy ------------------------------------------------------------------------------------------------------- */

/* The worst error of `impl` in y, dx and dw, relative to the largest value of each. */
static void errors_of(const char *isa, const char *impl, const cx_call *base, const cx_tensor want[RESULTS], double worst[3])
{
    static const int parts[] = { Y, DX, DW };
    cx_tensor got[RESULTS];
    cx_backend *b = open_isa(isa, 2);
    run_both(impl_of(b, impl), base, &want[Y], false, got);
    for (int i = 0; i < 3; i++) {
        const cx_tensor *g = &got[parts[i]], *w = &want[parts[i]];
        double largest = 0, off = 0;
        for (size_t k = 0; k < floats_of(g); k++) {
            largest = fmax(largest, fabs((double)w->p[k]));
            off = fmax(off, fabs((double)g->p[k] - (double)w->p[k]));
            assert_false(isnan(g->p[k]));
        }
        worst[i] = off / largest;
    }
    drop_results(got);
    cx_backend_close(b);
}

/* What one layer may lose: a quarter of what the operator is allowed (cx_ops), on films as a network sees them, x >= 0 behind a ReLU. */
static void accuracy(void **state)
{
    (void)state;
    static const a_case k[] = { { { 2, 32, 32, 32 }, 32, { 1, 1, 1, 1, 1 }, 0, 0 }, { { 2, 32, 32, 128 }, 128, { 1, 1, 1, 1, 1 }, 0, 0 },
        { { 1, 16, 16, 512 }, 512, { 1, 1, 1, 1, 1 }, 0, 0 } };
    const double bound = cx_ops[CX_OP_CONV2D].atol / 4;
    print_message("worst error / largest value      Winograd: y       dx       dw   direct: y       dx       dw\n");
    for (int i = 0; i < CX_COUNT(k); i++) {
        cx_call c;
        cx_tensor want[RESULTS];
        make(&k[i], &c);
        for (size_t j = 0; j < floats_of(&c.x[0]); j++)
            c.x[0].p[j] = fmaxf(0, c.x[0].p[j]);
        run_both(NULL, &c, NULL, false, want);
        for (int s = 0; s < CPU_ISAS; s++) {
            double w[3], d[3];
            if (!is_here(isas[s]))
                continue;
            errors_of(isas[s], "winograd", &c, want, w);
            errors_of(isas[s], "window", &c, want, d);
            print_message("%3lld channels, %lld px, %-8s          %.1e  %.1e  %.1e    %.1e  %.1e  %.1e\n", (long long)k[i].out, (long long)k[i].x.h, isas[s],
                w[0], w[1], w[2], d[0], d[1], d[2]);
            for (int j = 0; j < 3; j++)
                if (!(w[j] <= bound))
                    fail_msg("%lld channels, %s, %s: %g is more than %g", (long long)k[i].out, isas[s], names[(int[]){ Y, DX, DW }[j]], w[j], bound);
        }
        drop_results(want);
        drop(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(plain), cmocka_unit_test(folded), cmocka_unit_test(accuracy) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
