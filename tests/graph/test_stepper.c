/* test_stepper.c - steps by a stepper are steps by the calls it stands for, bit for bit: losses, norms, parameters, statistics and moments, on the CPU and on
 * the emulated GPU, whose streams take turns by a lot that the number of threads draws; from floats and from films, whose floats the host makes for the calls.
 * And a plan that does not fit says which batch would. */
#include "cxnet/data.h"
#include "cxnet/stepper.h"
#include "graph/plan.h"
#include "runs.h"

enum { STEPS = 5, FILMS = 5, PX_MAX = 18 * 18 };
#ifdef CX_SANITIZED
enum { LOTS = 1, DENSE_TOO = 0 };   /* the emulated GPU is slow there */
#else
enum { LOTS = 4, DENSE_TOO = 1 };
#endif

/* Steps count from 1; 0: never. */
typedef struct {
    const char *what;
    net_fn make;
    cx_update u;
    double clip;
    bool bf16;
    int other;                      /* before this step another plan of the store is made, and the arenas move; it runs before each step from then on */
    int bad_film, bad_seed;         /* the step whose first pixel is NaN; whose backward pass starts from infinity */
    int profiled;                   /* this step is timed */
    int momentum;                   /* from this step on SGD has one */
    enum { FLOATS, ON_DEVICE, SENT } films;            /* what a batch brings: floats, or draws of films that lie on the device or are sent along */
    bool ranks;                     /* with a comm, of one rank */
} trial;

#define SGD_ { .kind = CX_SGD, .lr = 0.05, .weight_decay = 0.01 }
#define MOMENTUM_ { .kind = CX_SGD, .lr = 0.05, .momentum = 0.9 }
#define ADAM_ { .kind = CX_ADAM, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 }
#define ADAMW_ { .kind = CX_ADAMW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1 }

static const trial trials[] = {
    { .what = "SGD", .make = base_net, .u = SGD_ },
    { .what = "momentum, clipped", .make = base_net, .u = MOMENTUM_, .clip = 0.05, .profiled = 4 },
    { .what = "SGD, later with momentum", .make = base_net, .u = SGD_, .momentum = 4 },
    { .what = "dropout, Adam, clipped", .make = dropped, .u = ADAM_, .clip = 0.2 },
    { .what = "bfloat16 maps", .make = unet, .u = ADAM_, .bf16 = true },
    { .what = "another plan", .make = dropped, .u = ADAM_, .other = 4 },
    { .what = "dense, AdamW, another plan at once", .make = small_dense_net, .u = ADAMW_, .clip = 1, .other = 2 },
    { .what = "a film that is NaN", .make = dropped, .u = ADAM_, .clip = 1, .bad_film = 2 },
    { .what = "a gradient that is infinite", .make = small_dense_net, .u = MOMENTUM_, .bad_seed = 3 },
    { .what = "films on the device", .make = residual, .u = SGD_, .films = ON_DEVICE, .momentum = 4 },
    { .what = "films sent along", .make = residual, .u = ADAM_, .clip = 0.2, .films = SENT, .profiled = 4 },
    { .what = "films on the device, bfloat16 maps", .make = unet, .u = ADAM_, .bf16 = true, .films = ON_DEVICE },
    { .what = "films on the device, another plan", .make = small_dense_net, .u = ADAM_, .other = 4, .films = ON_DEVICE },
    { .what = "films sent along, another plan at once", .make = unet, .u = ADAMW_, .other = 2, .films = SENT },
    { .what = "ranks, films on the device", .make = residual, .u = ADAM_, .clip = 0.2, .films = ON_DEVICE, .ranks = true },
    { .what = "ranks, films sent along", .make = small_dense_net, .u = MOMENTUM_, .films = SENT, .ranks = true },
};

/* ---- a training, and what is left of it ----------------------------------------------------------------------------- */

typedef struct {
    net n;
    cx_store *store;
    cx_plan *plan, *other;
    float *input, *target, *m, *v;
    uint8_t *films, *px;            /* FILMS of them, and those of a batch */
    cx_film_draw draw[BATCH];
    cx_film_source source;
} training;

typedef struct {
    cx_step_result result[STEPS];
    int n;
    float *numbers;                 /* trainable parameters, moments, then frozen ones and statistics, the other plan's logits */
    int64_t learned, all;
} outcome;

static int64_t elems(const training *t, int value) { return cx_elems(cx_plan_value(t->plan, value).s); }

static cx_status gather_alone(cx_comm *c, const void *mine, void *all, size_t bytes, cx_error *err)
{
    (void)c, (void)err;
    memcpy(all, mine, bytes);
    return CX_OK;
}

static cx_status sum_alone(cx_comm *c, cx_backend *b, float *x, int64_t n, cx_error *err)
{
    (void)c, (void)b, (void)x, (void)n, (void)err;
    return CX_OK;
}

static cx_comm alone = { .name = "alone", .ranks = 1, .sum = sum_alone, .gather = gather_alone };

static void make_films(training *t)
{
    const cx_shape s = cx_plan_value(t->plan, t->n.x).s;
    cx_rng r = cx_rng_new(4, 4);
    t->source = (cx_film_source){ .norm = CX_NORM_IMAGENET };
    t->source.norm.channels = (int)s.c;
    t->films = calloc(FILMS, PX_MAX);
    t->px = calloc(BATCH, PX_MAX);
    assert_true(s.h * s.w <= PX_MAX);
    for (int i = 0; i < FILMS * PX_MAX; i++)
        t->films[i] = (uint8_t)cx_rng_below(&r, 256);
}

static training begin(cx_backend *b, const trial *how)
{
    training t = { .n = checked(how->make) };
    assert_cx_ok(cx_store_new(t.n.g, b, 3, &t.store, err));
    spread_params(t.store, &t.n);
    cx_plan_opts o = training_opts(&t.n);
    o.bf16 = how->bf16;
    o.comm = how->ranks ? &alone : NULL;
    assert_cx_ok(cx_plan_new(t.store, &o, &t.plan, err));
    t.input = calloc((size_t)elems(&t, t.n.x), sizeof(float));
    t.target = calloc((size_t)elems(&t, t.n.target), sizeof(float));
    make_films(&t);
    return t;
}

static void end(training *t)
{
    if (t->source.px)
        t->store->b->release(t->store->b, (void *)(uintptr_t)t->source.px);
    cx_plan_free(t->other);
    cx_plan_free(t->plan);
    cx_store_free(t->store);
    cx_graph_free(t->n.g);
    free(t->input);
    free(t->target);
    free(t->films);
    free(t->px);
}

/* Twice the batch, so that ACT and WORK move. */
static void make_other(training *t)
{
    cx_plan_opts o = training_opts(&t->n);
    o.batch *= 2;
    o.training = o.backward = false;
    o.output = t->n.logits;
    o.skip = CX_PASS_LIVENESS;
    assert_cx_ok(cx_plan_new(t->store, &o, &t->other, err));
}

/* The films of a step, and the floats that the host makes of them. */
static void draw_films(training *t, const trial *how, int step)
{
    const cx_augment a = { .rotate_deg = 20, .shift = 0.1, .zoom = 0.2, .brightness = 0.2, .contrast = 0.3 };
    const int side = (int)cx_plan_value(t->plan, t->n.x).s.h;
    for (int i = 0; i < BATCH; i++) {
        const int film = (step * BATCH + i) % FILMS;
        t->draw[i] = cx_draw_film(t->films + film * side * side, side, 1, &a, 9, step, (uint64_t)i);
        t->draw[i].film = film;
        memcpy(t->px + i * side * side, t->films + film * side * side, (size_t)(side * side));
    }
    cx_apply_draws(t->films, side, t->draw, BATCH, &t->source.norm, t->input);
    for (int i = 0; how->films == SENT && i < BATCH; i++)
        t->draw[i].film = i;
}

/* What a stepper gets of it. */
static cx_step_batch batch_of(const training *t, const trial *how)
{
    return (cx_step_batch){ .input = how->films ? NULL : t->input, .draw = how->films ? t->draw : NULL, .px = how->films == SENT ? t->px : NULL,
                            .target = t->target };
}

/* The batch of step t, and what is special about it. */
static void prepare(training *t, const trial *how, int step)
{
    const float seed = step == how->bad_seed ? INFINITY : 1;
    cx_rng r = cx_rng_new(9, (uint64_t)step);
    for (int64_t i = 0; i < elems(t, t->n.x); i++)
        t->input[i] = (float)cx_rng_normal(&r);
    for (int64_t i = 0; i < elems(t, t->n.target); i++)
        t->target[i] = (float)cx_rng_below(&r, t->n.classes ? 3 : 2);
    if (how->films)
        draw_films(t, how, step);
    if (step == how->bad_film)
        t->input[0] = NAN;
    if (step == how->other)
        make_other(t);
    if (t->other)
        assert_cx_ok(cx_plan_forward(t->other, 0, 0, err));
    if (how->bad_seed)
        assert_cx_ok(cx_plan_set_grad(t->plan, t->n.loss, &seed, err));
    cx_plan_profile(t->plan, step == how->profiled);
}

static cx_update update_at(const trial *how, int step)
{
    cx_update u = how->u;
    u.lr /= step;
    u.t = step;
    if (how->momentum && step >= how->momentum)
        u.momentum = 0.5;
    return u;
}

static outcome look(training *t, const cx_step_result *result, int n)
{
    cx_backend *b = t->store->b;
    const int64_t learned = t->store->trainable, total = t->store->total;
    const cx_tensor logits = t->other ? cx_plan_value(t->other, t->n.logits) : (cx_tensor){ 0 };
    const int64_t all = 2 * learned + total + cx_elems(logits.s);
    outcome o = { .n = n, .learned = 3 * learned, .all = all, .numbers = calloc((size_t)all, sizeof(float)) };
    const struct { const float *from; int64_t n; } part[] = { { t->store->param, learned }, { t->store->m, learned }, { t->store->v, learned },
        { t->store->param + learned, total - learned } };
    float *at = o.numbers;
    memcpy(o.result, result, sizeof o.result);
    for (int i = 0; i < CX_COUNT(part); at += part[i++].n)
        assert_cx_ok(b->download(b, at, part[i].from, (size_t)part[i].n * sizeof *at, err));
    if (t->other) {
        assert_cx_ok(cx_plan_forward(t->other, 0, 0, err));
        assert_cx_ok(cx_plan_get(t->other, t->n.logits, at, err));
    }
    return o;
}

/* ---- the two ways ------------------------------------------------------------------------------------------------------ */

/* True when the step was finite. */
static bool plain_step(training *t, const trial *how, int step, cx_step_result *r)
{
    cx_backend *b = t->store->b;
    cx_update u = update_at(how, step);
    double squares;
    *r = (cx_step_result){ .t = step, .norm = (double)NAN };
    assert_cx_ok(cx_plan_set(t->plan, t->n.x, t->input, err));
    assert_cx_ok(cx_plan_set(t->plan, t->n.target, t->target, err));
    assert_cx_ok(cx_plan_forward(t->plan, 11, (uint64_t)step - 1, err));
    assert_cx_ok(cx_plan_get(t->plan, t->n.loss, &r->loss, err));
    if (!isfinite(r->loss))
        return false;
    assert_cx_ok(cx_plan_backward(t->plan, err));
    assert_cx_ok(b->sum_squares(b, t->store->trainable, t->store->grad, &squares, err));
    r->norm = sqrt(squares);
    u.grad_scale = how->clip > 0 && r->norm > how->clip ? how->clip / r->norm : 1;
    if (isfinite(r->norm))
        assert_cx_ok(b->update(b, &u, t->store->trainable, cx_store_params(t->store), t->store->grad, t->m, t->v, err));
    return isfinite(r->norm);
}

static outcome by_calls(cx_backend *b, const trial *how)
{
    training t = begin(b, how);
    cx_step_result r[STEPS] = { 0 };
    int n = 0;
    assert_cx_ok(cx_store_moments(t.store, &t.m, &t.v, err));
    for (bool sound = true; sound && n < STEPS; n++) {
        prepare(&t, how, n + 1);
        sound = plain_step(&t, how, n + 1, &r[n]);
    }
    outcome o = look(&t, r, n);
    end(&t);
    return o;
}

static cx_stepper *stepper_of(training *t, const trial *how, int ahead)
{
    cx_backend *b = t->store->b;
    cx_stepper *s;
    void *px;
    if (how->films == ON_DEVICE) {
        assert_cx_ok(b->alloc(b, FILMS * PX_MAX, &px, err));
        assert_cx_ok(b->upload(b, px, t->films, FILMS * PX_MAX, err));
        t->source.px = px;
        t->source.count = FILMS;
    }
    assert_cx_ok(cx_stepper_new(t->store, &(cx_stepper_opts){ .plan = t->plan, .input = t->n.x, .target = t->n.target, .loss = t->n.loss, .clip = how->clip,
                                .films = how->films ? &t->source : NULL, .comm = how->ranks ? &alone : NULL, .ahead = ahead }, &s, err));
    return s;
}

/* The next results: of all steps on their way, or those that are there, or as many as must be. */
static int pick_up(cx_stepper *s, int pending, int most, cx_step_result *r)
{
    int n = 0;
    for (bool got = true; got; n += got)
        assert_cx_ok(cx_stepper_next(s, pending - n > most, &r[n], &got, err));
    return n;
}

static outcome by_stepper(cx_backend *b, const trial *how, int ahead)
{
    training t = begin(b, how);
    cx_step_result r[STEPS] = { 0 };
    cx_stepper *s = stepper_of(&t, how, ahead);
    const cx_step_batch batch = batch_of(&t, how);
    int n = 0, bad = how->bad_film + how->bad_seed;
    for (int step = 1; step <= STEPS && !(bad && n == bad); step++) {
        const cx_update u = update_at(how, step);
        prepare(&t, how, step);
        assert_cx_ok(cx_stepper_step(s, &batch, 11, &u, err));
        memset(t.input, 0xff, (size_t)elems(&t, t.n.x) * sizeof(float));       /* they have been copied */
        memset(t.target, 0xff, (size_t)elems(&t, t.n.target) * sizeof(float));
        memset(t.draw, 0xff, sizeof t.draw);
        memset(t.px, 0xff, BATCH * PX_MAX);
        n += pick_up(s, step - n, ahead - 1, r + n);
    }
    n += pick_up(s, STEPS, 0, r + n);
    if (bad)
        assert_cx_fails(CX_E_USAGE, "not finite", cx_stepper_step(s, &batch, 11, &(cx_update){ .t = STEPS + 1 }, err));
    cx_stepper_free(s);
    assert_int_equal(cx_plan_step(t.plan, 0).seconds > 0, how->profiled > 0);
    outcome o = look(&t, r, n);
    end(&t);
    return o;
}

static void assert_same(const trial *how, const char *device, int ahead, const outcome *want, const outcome *got)
{
    const bool bad = how->bad_film || how->bad_seed;
    if (got->n != want->n)
        fail_msg("%s on %s, %d ahead: %d results, want %d", how->what, device, ahead, got->n, want->n);
    for (int i = 0; i < got->n; i++) {
        const cx_step_result *a = &got->result[i], *b = &want->result[i];
        if (a->t != b->t || memcmp(&a->loss, &b->loss, sizeof a->loss) || (memcmp(&a->norm, &b->norm, sizeof a->norm) && !(isnan(a->norm) && isnan(b->norm))))
            fail_msg("%s on %s, %d ahead: step %d gives %lld, %g, %g, want %lld, %g, %g", how->what, device, ahead, i + 1, (long long)a->t, (double)a->loss,
                     a->norm, (long long)b->t, (double)b->loss, b->norm);
    }
    /* behind a step that is not finite, running statistics may move on */
    if (memcmp(got->numbers, want->numbers, (size_t)(bad ? want->learned : want->all) * sizeof(float)) != 0)
        fail_msg("%s on %s, %d ahead: other parameters, moments or statistics", how->what, device, ahead);
}

static void compare(const trial *how, const char *device, int threads, bool *ran)
{
    cx_backend *b = open_named(device, threads);
    if (!b)
        return;
    outcome want = by_calls(b, how);
    for (int ahead = 1; ahead <= 4; ahead += 3) {
        outcome got = by_stepper(b, how, ahead);
        assert_same(how, device, ahead, &want, &got);
        free(got.numbers);
    }
    free(want.numbers);
    cx_backend_close(b);
    *ran = true;
}

static void steps_are_the_calls(void **state)
{
    (void)state;
    bool cpu = false, emu = false, cuda = false;
    for (int i = 0; i < CX_COUNT(trials); i++) {
        if (!trials[i].films)
            compare(&trials[i], "cpu", 2, &cpu);
        compare(&trials[i], "cuda", 1, &cuda);
        for (int lot = 1; lot <= LOTS && (DENSE_TOO || trials[i].make != small_dense_net); lot++)
            compare(&trials[i], "emu", lot, &emu);
    }
    if (!emu)
        print_message("skipped: the emulated GPU is not built here\n");
}

/* ---- what it refuses ---------------------------------------------------------------------------------------------------- */

static void results_must_be_picked_up(void **state)
{
    (void)state;
    static const char *const names[] = { "cpu", "emu" };
    for (int i = 0; i < 2; i++) {
        cx_backend *b = open_named(names[i], 1);
        if (!b)
            continue;
        const trial *how = &trials[0];
        training t = begin(b, how);
        cx_stepper *s;
        cx_step_result r;
        bool got;
        assert_cx_fails(CX_E_USAGE, "ahead", cx_stepper_new(t.store, &(cx_stepper_opts){ .plan = t.plan, .ahead = 0 }, &s, err));
        s = stepper_of(&t, how, 2);
        const cx_step_batch batch = batch_of(&t, how);
        assert_cx_ok(cx_stepper_next(s, true, &r, &got, err));
        assert_false(got);
        for (int step = 1; step <= 2; step++) {
            prepare(&t, how, step);
            assert_cx_ok(cx_stepper_step(s, &batch, 11, &(cx_update){ .lr = 0.1, .t = step }, err));
        }
        assert_cx_fails(CX_E_USAGE, "pick up", cx_stepper_step(s, &batch, 11, &(cx_update){ .lr = 0.1, .t = 3 }, err));
        assert_cx_ok(cx_stepper_next(s, true, &r, &got, err));
        assert_true(got && r.t == 1);
        assert_cx_ok(cx_stepper_step(s, &batch, 11, &(cx_update){ .lr = 0.1, .t = 3 }, err));
        cx_stepper_free(s);             /* with two steps on their way */
        end(&t);
        cx_backend_close(b);
    }
}

/* An implementation that leaves its stream, which CUDA refuses while a stream captures. */
static const cx_impl *behind;
static bool astray;
static cx_status astray_forward(const cx_call *c)
{
    cx_call d = *c;
    d.self = astray ? NULL : c->self;
    return behind->fwd(&d);
}

static void what_cannot_be_captured(void **state)
{
    (void)state;
    setenv("CXNET_CUDNN", "none", 1);                   /* the kernels of this house can do without a handle */
    setenv("CXNET_CUBLASLT", "none", 1);
    cx_backend *b = open_named("emu", 1);
    unsetenv("CXNET_CUDNN");
    unsetenv("CXNET_CUBLASLT");
    if (!b)
        return;
    const trial *how = &trials[0];
    training t = begin(b, how);
    cx_stepper *s = stepper_of(&t, how, 4);
    const cx_step_batch batch = batch_of(&t, how);
    cx_step_result r;
    bool got;
    behind = t.plan->steps[1].impl;
    cx_impl other = *behind;
    other.fwd = astray_forward;
    t.plan->steps[1].impl = &other;
    prepare(&t, how, 1);
    assert_cx_ok(cx_stepper_step(s, &batch, 11, &(cx_update){ .lr = 0.1, .t = 1 }, err));
    astray = true;
    assert_cx_fails(CX_E_INTERNAL, "capturing a training step as a graph: conv2: conv2d by 'conv2d cuda' failed: operation would make the legacy stream",
                    cx_stepper_step(s, &batch, 11, &(cx_update){ .lr = 0.1, .t = 2 }, err));
    astray = false;
    assert_cx_ok(cx_stepper_next(s, true, &r, &got, err));
    assert_true(got && r.t == 1 && isfinite(r.norm));
    cx_stepper_free(s);
    assert_cx_ok(cx_store_moments(t.store, &t.m, &t.v, err));
    assert_true(plain_step(&t, how, 2, &r));            /* the plan and its device are as good as before */
    end(&t);
    cx_backend_close(b);
}

static void allocate_nothing(const trial *how)
{
    cx_backend *b = open_named("emu", 1);
    if (!b)
        return;
    training t = begin(b, how);
    cx_stepper *s = stepper_of(&t, how, 1);
    const cx_step_batch batch = batch_of(&t, how);
    size_t before = b->free_bytes(b);
    for (int step = 1; step <= STEPS; step++) {
        cx_step_result r;
        prepare(&t, how, step);
        assert_cx_ok(cx_stepper_step(s, &batch, 11, &(cx_update){ .lr = 0.1, .t = step }, err));
        assert_int_equal(pick_up(s, 1, 0, &r), 1);
        if (step == 1 && how->ranks)            /* the first norm of the plain stepper asks for scratch */
            before = b->free_bytes(b);
        assert_int_equal(b->free_bytes(b), before);
    }
    cx_stepper_free(s);
    end(&t);
    cx_backend_close(b);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(trials); i++)
        if (!trials[i].bad_film && !trials[i].bad_seed && !trials[i].other && (DENSE_TOO || trials[i].make != small_dense_net))
            allocate_nothing(&trials[i]);
}

/* ---- a device that is too small ----------------------------------------------------------------------------------------- */

static cx_status plan_and_moments(net_fn make, cx_backend *b, int batch, int moments, cx_error *err)
{
    net n = checked(make);
    cx_store *s = NULL;
    cx_plan *p = NULL;
    float *m, *v;
    cx_plan_opts o = training_opts(&n);
    o.batch = batch;
    o.moments = moments;
    cx_status status = cx_store_new(n.g, b, 3, &s, err);
    if (status == CX_OK)
        status = cx_plan_new(s, &o, &p, err);
    if (status == CX_OK)
        status = cx_plan_moments(p, &m, &v, err);
    if (status == CX_OK)
        assert_int_equal((m != NULL) + (v != NULL), moments);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
    return status;
}

/* Of a network whose parameters are most of what it wants, so that each array of moments costs films. */
static net heavy_net(void)
{
    return dense_net(18, 1, 6, 4, (const int[]){ 3, 2 }, 2, 2000);
}

static int batch_that_fits(net_fn make, cx_backend *b, int moments)
{
    cx_error e = { 0 };
    int batch = 0;
    assert_int_equal(plan_and_moments(make, b, 500, moments, &e), CX_E_MEMORY);
    for (const char *const *word = (const char *const[]){ "emu: no room for batch 500", "PARAM", "GRAD", "OPT", "ACT", "WORK", NULL }; *word; word++)
        if (!strstr(e.text, *word))
            fail_msg("\"%s\" lacks \"%s\"", e.text, *word);
    assert_true((moments == 0) == (strstr(e.text, "OPT 0 B") != NULL));
    const char *at = strstr(e.text, ": batch ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, ": batch %d would fit", &batch), 1);
    assert_in_range(batch, 2, 499);
    return batch;
}

/* What it says is what fits with the moments of the optimiser, and not much more would. */
static void says_which_batch_would_fit(void **state)
{
    (void)state;
    cx_backend *b = open_named("emu", 1);
    cx_error e = { 0 };
    int before = 500;
    if (!b)
        return;
    setenv("CXNET_EMU_MEMORY", "1000000", 1);
    for (int moments = 0; moments <= 2; moments++) {
        const int batch = batch_that_fits(heavy_net, b, moments);
        assert_true(batch < before);
        before = batch;
        assert_cx_ok(plan_and_moments(heavy_net, b, batch, moments, err));
        assert_int_equal(plan_and_moments(heavy_net, b, batch + batch / 8 + 4, moments, &e), CX_E_MEMORY);
    }
    setenv("CXNET_EMU_MEMORY", "60000", 1);
    assert_cx_fails(CX_E_MEMORY, "not even batch 1 would fit", plan_and_moments(small_dense_net, b, 8, 2, err));
    unsetenv("CXNET_EMU_MEMORY");
    cx_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_the_calls),
        cmocka_unit_test(results_must_be_picked_up),
        cmocka_unit_test(what_cannot_be_captured),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(says_which_batch_would_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
