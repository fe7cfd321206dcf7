/* test_devices_agree.c - whole trainings on the CPU and on the emulated GPU: the same losses, weights and running statistics after some steps, in float32 and
 * in bfloat16, and the same bits in every schedule. Where it is affordable the references, which sum in double, train beside them and say who is wrong. By
 * SGD: what Adam makes of a gradient near zero depends on its sign alone. */
#include "backend.h"
#include "cxnet/model.h"
#include "cxnet/stepper.h"
#include "graph/nets.h"
#include "graph/ref_backend.h"
#include "graph/store.h"

enum { MAX_STEPS = 5, SCHEDULES = 3 };

static net of_model(cx_model_spec spec, cx_loss_kind loss)
{
    cx_model m;
    int weights;
    assert_cx_ok(cx_model_new(&spec, &m, err));
    net n = { .g = m.graph, .x = m.input, .feature = m.features, .logits = m.logits };
    n.loss = cx_model_loss(&m, loss, 0, &n.target, &weights);
    return n;
}

static net base_cnn(void) { return of_model((cx_model_spec){ .arch = "base_cnn", .side = 65, .channels = 1, .outputs = 1 }, CX_LOSS_BCE); }
static net two_blocks(void) { return dense_net(40, 1, 16, 8, (const int[]){ 3, 3 }, 2, 3); }
static net narrow_unet(void)
{
    return of_model((cx_model_spec){ .arch = "unet", .side = 32, .channels = 1, .outputs = 1, .base = 4, .depth = 3 }, CX_LOSS_DICE);
}
static net unet_with_norms(void)
{
    return of_model((cx_model_spec){ .arch = "unet", .side = 32, .channels = 1, .outputs = 1, .base = 4, .depth = 3, .norm = true }, CX_LOSS_DICE);
}
static net densenet121(void) { return of_model((cx_model_spec){ .arch = "densenet121", .side = 64, .channels = 1, .outputs = 1 }, CX_LOSS_BCE); }

/* What bfloat16 may cost: in a loss, relative, and as the share of the way that a training goes; twice what was seen. */
typedef struct { const char *name; net_fn make; int batch, steps; double lr, loss, way; } training;
static const training small[] = {
    { "base CNN", base_cnn, 6, 5, 0.05, 4e-3, 0.2 },
    { "DenseNet of 2 blocks", two_blocks, 6, 5, 0.05, 4e-3, 0.015 },
    { "U-Net", narrow_unet, 3, 5, 0.2, 4e-3, 0.006 },
    { "U-Net with norms", unet_with_norms, 3, 5, 0.05, 4e-3, 0.01 },
};
/* A DenseNet-121 hands each ReLU that float32 rounding takes to the other side on to all layers behind it, and training hands it on to the next step: at batch
 * 4 and a rate of 0.002 no two ways of adding are within 1e-4 after five steps, not even two instruction sets of one processor (losses 1.5e-4, values 9e-4).
 * At the rate of a fine-tuning, with 32 numbers a channel in the last norm instead of 16, they are: 1.4e-5 and 4.2e-5 from emu to avx512. */
static const training large = { "DenseNet-121", densenet121, 8, 5, 0.0005, 0.013, 0.011 };

/* ---- one training --------------------------------------------------------------------------------------------------- */

/* PARAM before and after: parameters and running statistics; offset [values]: where each begins, -1 where it is neither. */
typedef struct { float loss[MAX_STEPS]; float *start, *end; int64_t n, *offset; } outcome;

static float *values_of(cx_store *s)
{
    float *all = cx_alloc((size_t)s->total, sizeof *all);
    assert_non_null(all);
    assert_cx_ok(s->b->download(s->b, all, s->param, (size_t)s->total * sizeof *all, err));
    return all;
}

/* Films of noise, brighter where the target says so; another batch each step. */
static float *draw(const net *n, int value, int batch, int step)
{
    cx_shape s = n->g->values[value].shape;
    const int64_t film = cx_elems(s), all = film * batch;
    float *x = cx_alloc((size_t)all, sizeof *x);
    cx_rng r = cx_rng_new(41, (uint64_t)(2 * step + (value == n->x)));
    for (int64_t i = 0; i < all; i++)
        x[i] = value == n->x ? (float)cx_rng_normal(&r) + (float)(i / film % 2) : n->classes ? (float)cx_rng_below(&r, 3) : (float)cx_rng_below(&r, 2);
    return x;
}

static outcome train(cx_backend *b, const training *t, bool bf16)
{
    outcome o;
    net n = t->make();
    cx_store *s;
    cx_plan *p;
    cx_stepper *stepper;
    assert_cx_ok(cx_graph_check(n.g, err));
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    o.start = values_of(s);
    o.n = s->total;
    o.offset = cx_alloc((size_t)s->n_values, sizeof *o.offset);
    memcpy(o.offset, s->offset, (size_t)s->n_values * sizeof *o.offset);
    const cx_plan_opts opts = { .batch = t->batch, .training = true, .backward = true, .output = n.loss, .param_grads = true, .moments = 1, .bf16 = bf16 };
    assert_cx_ok(cx_plan_new(s, &opts, &p, err));
    assert_cx_ok(cx_stepper_new(s, &(cx_stepper_opts){ .plan = p, .input = n.x, .target = n.target, .loss = n.loss, .clip = 5, .ahead = t->steps },
        &stepper, err));
    for (int i = 0; i < t->steps; i++) {
        const cx_update u = { .kind = CX_SGD, .lr = t->lr, .momentum = 0.9, .weight_decay = 1e-4, .t = i + 1 };
        float *x = draw(&n, n.x, t->batch, i), *y = draw(&n, n.target, t->batch, i);
        assert_cx_ok(cx_stepper_step(stepper, &(cx_step_batch){ .input = x, .target = y }, 1, &u, err));
        free(x);
        free(y);
    }
    for (int i = 0; i < t->steps; i++) {
        cx_step_result r;
        bool got;
        assert_cx_ok(cx_stepper_next(stepper, true, &r, &got, err));
        assert_true(got && r.t == i + 1 && isfinite(r.norm));
        o.loss[i] = r.loss;
    }
    o.end = values_of(s);
    cx_stepper_free(stepper);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
    return o;
}

static void forget(outcome *o)
{
    free(o->start);
    free(o->end);
    free(o->offset);
}

static outcome train_on(const char *device, int threads, const training *t, bool bf16)
{
    cx_backend *b = open_named(device, threads);
    assert_non_null(b);
    outcome o = train(b, t, bf16);
    cx_backend_close(b);
    return o;
}

/* ---- the references ------------------------------------------------------------------------------------------------- */

static cx_status ref_sum_squares(cx_backend *b, int64_t n, const float *x, double *out, cx_error *err)
{
    (void)b, (void)err;
    *out = 0;
    for (int64_t i = 0; i < n; i++)
        *out += (double)x[i] * (double)x[i];
    return CX_OK;
}

static cx_status ref_sgd(cx_backend *b, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v, cx_error *err)
{
    (void)b, (void)v, (void)err;
    assert_int_equal(u->kind, CX_SGD);
    for (int64_t i = 0; i < n; i++) {
        m[i] = (float)(u->momentum * (double)m[i] + u->grad_scale * (double)grad[i] + u->weight_decay * (double)param[i]);
        param[i] = (float)((double)param[i] - u->lr * (double)m[i]);
    }
    return CX_OK;
}

static outcome train_references(const training *t)
{
    ref_backend ref;
    ref_open(&ref);
    ref.base.sum_squares = ref_sum_squares;
    ref.base.update = ref_sgd;
    return train(&ref.base, t, false);
}

/* ---- how far apart two of them are ------------------------------------------------------------------------------------ */

/* loss: largest difference, relative. value: largest difference of a number over the largest number of its tensor; fresh: the same of the tensors that began
 * at zero, and so hold nothing but what these few steps made. way: length of the difference of all that the training changed, over the length of the change. */
typedef struct { double loss, value, fresh, way; } distance;

static distance between(const training *t, const outcome *a, const outcome *b)
{
    distance d = { 0 };
    net n = t->make();
    double apart = 0, moved = 0;
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->start, b->start, (size_t)a->n * sizeof *a->start);
    for (int i = 0; i < t->steps; i++)
        d.loss = fmax(d.loss, fabs((double)a->loss[i] / (double)b->loss[i] - 1));
    for (int v = 0; v < n.g->n_values; v++) {
        if (n.g->values[v].kind != CX_PARAM && n.g->values[v].kind != CX_STATE)
            continue;
        double largest = 0, worst = 0, began = 0;
        for (int64_t at = a->offset[v], end = at + cx_elems(n.g->values[v].shape); at < end; at++) {
            const double x = (double)a->end[at], y = (double)b->end[at], was = (double)b->start[at];
            assert_true(isfinite(x) && isfinite(y));
            began = fmax(began, fabs(was));
            largest = fmax(largest, fabs(y));
            worst = fmax(worst, fabs(x - y));
            apart += (x - y) * (x - y);
            moved += (y - was) * (y - was);
        }
        double *d_of = began > 0 ? &d.value : &d.fresh;
        *d_of = fmax(*d_of, largest > 0 ? worst / largest : worst > 0 ? INFINITY : 0);
    }
    cx_graph_free(n.g);
    d.way = sqrt(apart / moved);
    return d;
}

static void show(const training *t, const char *what, distance d)
{
    print_message("%-20s %-28s loss %.1e, values %.1e, fresh ones %.1e, way %.1e\n", t->name, what, d.loss, d.value, d.fresh, d.way);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

/* Float32 sums in another order: each kernel is within 2e-5 of the reference. Where a ReLU falls to the other side, what began at zero shows it, since it holds
 * nothing but these few steps: see check_references. */
static void check_float32(const training *t, const outcome *emu, const outcome *cpu)
{
    const distance d = between(t, emu, cpu);
    show(t, "float32, emu to cpu", d);
    assert_true(d.loss <= 1e-4 && d.value <= 1e-4 && d.way <= 1e-4);
}

/* A stored number is off by 2^-9 of itself, and a difference of the last bit of a float32 may turn a rounding to the other side: two devices are about as far
 * from each other as each is from float32. */
static void check_bf16(const training *t, const outcome *emu, const outcome *cpu, const outcome *float32)
{
    const distance a = between(t, emu, float32), b = between(t, cpu, float32), d = between(t, emu, cpu);
    show(t, "bf16, emu to cpu", d);
    show(t, "bf16 to float32, emu", a);
    show(t, "bf16 to float32, cpu", b);
    assert_true(a.loss <= t->loss && b.loss <= t->loss && d.loss <= t->loss);
    assert_true(a.way <= t->way && b.way <= t->way && a.way > 1e-5);                  /* it did round something */
    assert_true(d.way <= 1.5 * fmax(a.way, b.way));
}

/* One ReLU that the references decide otherwise moves single numbers; the way as a whole does not know it. In the 2-block DenseNet one does, on the CPU and
 * by the plain kernels of emu, not by its stand-in of cuDNN: there emu is with the references to 3e-6, otherwise with the CPU to 9e-6, where the two are
 * 5e-3 apart. */
static void check_references(const training *t, const outcome *emu, const outcome *cpu)
{
    outcome ref = train_references(t);
    const distance a = between(t, emu, &ref), b = between(t, cpu, &ref);
    show(t, "float32, emu to references", a);
    show(t, "float32, cpu to references", b);
    assert_true(a.loss <= 1e-4 && b.loss <= 1e-4 && a.way <= 1e-4 && b.way <= 1e-4);
    assert_true(fmin(a.fresh, between(t, emu, cpu).fresh) <= 1e-4);
    forget(&ref);
}

static void check_small(const training *t, const outcome *emu, const outcome *cpu)
{
    check_float32(t, emu, cpu);
    check_references(t, emu, cpu);
}

static void check(const training *t, void (*check_in_float32)(const training *t, const outcome *emu, const outcome *cpu))
{
    outcome emu = train_on("emu", 0, t, false), cpu = train_on("cpu", 2, t, false);
    outcome emu_half = train_on("emu", 0, t, true), cpu_half = train_on("cpu", 2, t, true);
    check_in_float32(t, &emu, &cpu);
    check_bf16(t, &emu_half, &cpu_half, &cpu);
    forget(&emu), forget(&cpu), forget(&emu_half), forget(&cpu_half);
}

/* Under a sanitizer these trainings take minutes; kernels, plans and steppers run on the emulated GPU there all the same. */
static bool may_train(void)
{
#ifdef CX_SANITIZED
    print_message("skipped: whole trainings on the emulated GPU take too long under a sanitizer\n");
    return false;
#else
    return has_device("emu");
#endif
}

static void test_small_networks(void **state)
{
    (void)state;
    if (!may_train())
        skip();
    for (int i = 0; i < CX_COUNT(small); i++)
        check(&small[i], check_small);
}

/* The order of warps, lanes and blocks changes no bit. */
static void test_schedules(void **state)
{
    (void)state;
    if (!may_train())
        skip();
    const training *t = &small[1];
    for (int half = 0; half < 2; half++) {
        outcome first = train_on("emu", 0, t, half);
        for (int i = 1; i < SCHEDULES; i++) {
            outcome o = train_on("emu", i, t, half);
            assert_memory_equal(o.end, first.end, (size_t)o.n * sizeof *o.end);
            assert_memory_equal(o.loss, first.loss, (size_t)t->steps * sizeof *o.loss);
            forget(&o);
        }
        forget(&first);
    }
}

/* A whole DenseNet-121, in one schedule. */
static void test_densenet121(void **state)
{
    (void)state;
    if (!may_train())
        skip();
    check(&large, check_float32);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_small_networks), cmocka_unit_test(test_schedules), cmocka_unit_test(test_densenet121) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
