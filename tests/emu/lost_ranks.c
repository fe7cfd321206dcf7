/* lost_ranks.c - a training by two ranks that NCCL joins, on the emulated GPU, of which a thread plays the other, message by message: it adds nothing, so the
 * training is that of a single process; and where it stops to answer, at any message, the steps before that one are whole and nothing else has changed. */
#include <pthread.h>
#include <unistd.h>
#include "cxnet/comm.h"
#include "cxnet/stepper.h"
#include "graph/backends.h"
#include "graph/runs.h"
#include "kernels.h"
#include "nccl.h"

cx_status cx_plugin_open(const char *name, int device, int threads, cx_backend **out, cx_error *err);

/* A step has 3 messages each way: weight and loss of the part, what the other adds up, what it has added. */
enum { STEPS = 5, AHEAD = 4, PER_STEP = 3, ALL = PER_STEP * STEPS };
#ifdef CX_SANITIZED
enum { STRIDE = 4 };            /* the emulated GPU is slow there */
#else
enum { STRIDE = 1 };
#endif

/* ---- the other rank ---------------------------------------------------------------------------------------------------- */

typedef struct {
    cx_comm comm;               /* of rank 0 */
    char folder[200];           /* where messages lie (nccl.cpp) */
    bool comes, may_look;       /* to where NCCL meets; rank 0 is told of its end */
    int64_t n;                  /* floats in the gradient */
    int answers;                /* messages until it stops */
    pthread_t thread;
    volatile int allowed, left; /* it answers so many for now; it has stopped */
} other;

static void write_message(const other *o, int from, long number, const void *p, size_t bytes)
{
    char path[300], part[310];
    snprintf(path, sizeof path, "%s/%d.%d.%ld", o->folder, from, 1 - from, number);
    snprintf(part, sizeof part, "%s.part", path);
    FILE *f = fopen(part, "wb");
    if (!f || fwrite(p, 1, bytes, f) != bytes || fclose(f) != 0 || rename(part, path) != 0)
        abort();
}

static void read_message(const other *o, long number, void *p, size_t bytes)
{
    char path[300];
    FILE *f;
    snprintf(path, sizeof path, "%s/0.1.%ld", o->folder, number);
    while (!(f = fopen(path, "rb")))
        usleep(200);
    if (fread(p, 1, bytes, f) != bytes || fgetc(f) != EOF)
        abort();
    fclose(f);
    unlink(path);
}

/* Its own part weighs nothing, its gradient is zero; so what it has added up is what came. */
static void *play(void *self)
{
    other *o = self;
    const int64_t first = cx_comm_piece(&o->comm, o->n, 1), second = o->n - first;
    float *zeros = calloc((size_t)o->n, sizeof *zeros), *came = calloc((size_t)o->n + 4, sizeof *came);
    for (int i = 0; i < o->answers; i++) {
        const bool part = i % PER_STEP == 0, scattered = i % PER_STEP == 1;
        while (i >= o->allowed)
            usleep(200);
        if (part) {
            read_message(o, i, came, 16);
            write_message(o, 1, i, zeros, 16);
        } else if (scattered) {
            read_message(o, i, came, (size_t)second * sizeof *came);
            write_message(o, 1, i, zeros, (size_t)first * sizeof *zeros);
        } else {
            write_message(o, 1, i, came, (size_t)second * sizeof *came);
            read_message(o, i, came, (size_t)first * sizeof *came);
        }
    }
    char place[300];
    snprintf(place, sizeof place, "%s/1", o->folder);
    unlink(place);
    o->left = true;
    free(zeros);
    free(came);
    return NULL;
}

static cx_status gather(cx_comm *c, const void *mine, void *all, size_t bytes, cx_error *err)
{
    (void)err;
    for (int r = 0; r < c->ranks; r++)
        memcpy((char *)all + (size_t)r * bytes, mine, bytes);
    return CX_OK;
}

/* NCCL's id: its folder, where a rank that is there has a file. */
static cx_status broadcast(cx_comm *c, void *p, size_t bytes, cx_error *err)
{
    other *o = c->self;
    char path[300];
    (void)bytes, (void)err;
    snprintf(o->folder, sizeof o->folder, "%s", (const char *)p);
    snprintf(path, sizeof path, "%s/1", o->folder);
    FILE *f = o->comes ? fopen(path, "wb") : NULL;
    if (f)
        fclose(f);
    return CX_OK;
}

static cx_status look(cx_comm *c, cx_error *err)
{
    return ((other *)c->self)->left ? cx_fail(err, CX_E_PEER, "rank 1 has ended: so the test wants it") : CX_OK;
}

static other other_rank(bool comes, bool may_look, int answers, double patience_s)
{
    return (other){ .comm = { .name = "test", .ranks = 2, .patience_s = patience_s, .gather = gather, .broadcast = broadcast, .look = may_look ? look : NULL },
        .comes = comes, .may_look = may_look, .answers = answers, .allowed = answers };
}

/* ---- rank 0 ---------------------------------------------------------------------------------------------------------------- */

typedef struct { net n; cx_backend *b; cx_store *store; cx_plan *plan; cx_stepper *stepper; float *input, *target; } training;

/* o NULL: alone. */
static training begin(other *o)
{
    training t = { .n = checked(small_dense_net) };
    assert_cx_ok(cx_plugin_open("emu", 0, 1, &t.b, err));
    if (o) {
        o->comm.self = o;
        assert_cx_ok(t.b->join(t.b, &o->comm, err));
        assert_ptr_equal(o->comm.joined, t.b);
    }
    assert_cx_ok(cx_store_new(t.n.g, t.b, 3, &t.store, err));
    spread_params(t.store, &t.n);
    cx_plan_opts opts = training_opts(&t.n);
    opts.comm = o ? &o->comm : NULL;
    assert_cx_ok(cx_plan_new(t.store, &opts, &t.plan, err));
    assert_cx_ok(cx_stepper_new(t.store, &(cx_stepper_opts){ .plan = t.plan, .input = t.n.x, .target = t.n.target, .loss = t.n.loss, .clip = 0.5,
                                .comm = opts.comm, .ahead = AHEAD }, &t.stepper, err));
    t.input = calloc((size_t)cx_elems(cx_plan_value(t.plan, t.n.x).s), sizeof(float));
    t.target = calloc((size_t)cx_elems(cx_plan_value(t.plan, t.n.target).s), sizeof(float));
    if (o) {
        o->n = cx_store_trainable(t.store);
        assert_int_equal(pthread_create(&o->thread, NULL, play, o), 0);
    }
    return t;
}

static void end(training *t, other *o)
{
    if (o)
        assert_int_equal(pthread_join(o->thread, NULL), 0);
    cx_stepper_free(t->stepper);
    cx_plan_free(t->plan);
    cx_store_free(t->store);
    cx_backend_close(t->b);
    cx_graph_free(t->n.g);
    free(t->input);
    free(t->target);
    if (o) {
        assert_null(o->comm.joined);
        assert_int_not_equal(access(o->folder, F_OK), 0);      /* NCCL has come to its end */
    }
}

static cx_status step(training *t, int number, cx_error *err)
{
    const cx_update u = { .kind = CX_SGD, .lr = 0.05, .momentum = 0.9, .t = number };
    cx_rng r = cx_rng_new(9, (uint64_t)number);
    for (int64_t i = 0; i < cx_elems(cx_plan_value(t->plan, t->n.x).s); i++)
        t->input[i] = (float)cx_rng_normal(&r);
    for (int64_t i = 0; i < cx_elems(cx_plan_value(t->plan, t->n.target).s); i++)
        t->target[i] = (float)cx_rng_below(&r, t->n.classes ? 3 : 2);
    return cx_stepper_step(t->stepper, &(cx_step_batch){ .input = t->input, .target = t->target }, 11, &u, err);
}

/* As run.c walks: up to AHEAD steps on their way, then one result for each step, then the rest. How many results came; s: what ended it. */
static int walk(training *t, int steps, cx_step_result *r, cx_status *s, cx_error *err)
{
    int queued = 0, n = 0;
    bool got = true;
    for (*s = CX_OK; *s == CX_OK && queued < steps; n += *s == CX_OK && got) {
        if ((*s = step(t, queued + 1, err)) != CX_OK)
            break;
        *s = cx_stepper_next(t->stepper, ++queued - n == AHEAD, &r[n], &got, err);
    }
    for (bool more = true; more; n += more) {                   /* after a loss: what is whole */
        cx_status last = cx_stepper_next(t->stepper, true, &r[n], &more, *s == CX_OK ? err : NULL);
        more &= last == CX_OK;
        *s = *s == CX_OK ? last : *s;
    }
    return n;
}

/* Parameters, statistics, momentum. */
static float *numbers(training *t, int64_t *n)
{
    const int64_t total = t->store->total, learned = cx_store_trainable(t->store);
    float *all = calloc((size_t)(total + learned), sizeof *all), *m;
    assert_cx_ok(cx_store_moments(t->store, &m, NULL, err));
    assert_cx_ok(t->b->download(t->b, all, t->store->param, (size_t)total * sizeof *all, err));
    assert_cx_ok(t->b->download(t->b, all + total, m, (size_t)learned * sizeof *all, err));
    *n = total + learned;
    return all;
}

typedef struct { cx_step_result r[STEPS + 1]; float *numbers; int64_t n; } outcome;

static outcome alone(int steps)
{
    outcome o = { 0 };
    training t = begin(NULL);
    cx_status s;
    assert_int_equal(walk(&t, steps, o.r, &s, NULL), steps);
    assert_int_equal(s, CX_OK);
    o.numbers = numbers(&t, &o.n);
    end(&t, NULL);
    return o;
}

/* By value: a zero plus nothing may lose its sign. */
static void assert_equal(const outcome *a, const outcome *b, int steps)
{
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++)
        if (a->numbers[i] != b->numbers[i])
            fail_msg("after %d steps number %lld of %lld is %g, want %g", steps, (long long)i, (long long)a->n, (double)a->numbers[i], (double)b->numbers[i]);
    for (int i = 0; i < steps; i++)
        assert_true(a->r[i].t == b->r[i].t && a->r[i].loss == b->r[i].loss && a->r[i].norm == b->r[i].norm);
}

/* ---- tests -------------------------------------------------------------------------------------------------------------------- */

/* The host queues steps 2 to 4 while the other rank has not answered for any of them: it is not in the loop. */
static void test_two_ranks_beside_the_host(void **state)
{
    (void)state;
    other o = other_rank(true, false, ALL, 60);
    outcome want = alone(STEPS), got = { 0 };
    bool there = false;
    o.allowed = 1;                                              /* outside of a capture the host waits for the parts of the loss, and no longer */
    training t = begin(&o);
    for (int i = 1; i <= AHEAD; i++)
        assert_cx_ok(step(&t, i, err));
    assert_cx_ok(cx_stepper_next(t.stepper, false, &got.r[0], &there, err));
    assert_false(there);
    o.allowed = ALL;
    for (int n = 0; n < STEPS; n++) {
        assert_cx_ok(cx_stepper_next(t.stepper, true, &got.r[n], &there, err));
        assert_true(there);
        if (n == 0)
            assert_cx_ok(step(&t, STEPS, err));
    }
    got.numbers = numbers(&t, &got.n);
    assert_equal(&got, &want, STEPS);
    end(&t, &o);
    free(want.numbers);
    free(got.numbers);
}

/* Stops after so many messages; the error; how many steps were whole. */
static int lose(int answers, bool may_look, double patience_s, cx_error *err)
{
    other o = other_rank(true, may_look, answers, patience_s);
    outcome got = { 0 };
    cx_status s;
    training t = begin(&o);
    const int n = walk(&t, STEPS, got.r, &s, err);
    if (s != CX_E_PEER)
        fail_msg("%d answers, %d steps: %s", answers, n, err->text);
    assert_true(n <= answers / PER_STEP);
    cx_error again = { 0 };
    assert_int_equal(step(&t, STEPS + 1, &again), CX_E_PEER);
    assert_string_equal(again.text, err->text);
    got.numbers = numbers(&t, &got.n);
    outcome want = alone(n);
    assert_equal(&got, &want, n);
    end(&t, &o);
    free(want.numbers);
    free(got.numbers);
    return n;
}

static void test_lost_at_any_message(void **state)
{
    (void)state;
    int most = 0;
    for (int answers = 0; answers < ALL; answers += STRIDE) {
        cx_error e = { 0 };
        const int n = lose(answers, true, 60, &e);
        assert_non_null(strstr(e.text, "rank 1 has ended: so the test wants it"));
        most = n > most ? n : most;
    }
    assert_true(most > 0);
}

/* Nobody knows of its end: the clock decides. */
static void test_waited_for_long_enough(void **state)
{
    (void)state;
    cx_error e = { 0 };
    assert_int_equal(lose(2 * PER_STEP + 2, false, 2, &e), 2);
    assert_non_null(strstr(e.text, "rank 0 has waited 2 s for the others (NCCL), and takes them for lost; run.comm_timeout_s"));
}

static void test_one_that_never_comes(void **state)
{
    (void)state;
    other o = other_rank(false, false, 0, 0.2);
    cx_backend *b;
    o.comm.self = &o;
    assert_cx_ok(cx_plugin_open("emu", 0, 1, &b, err));
    assert_cx_fails(CX_E_PEER, "rank 0 has waited 0.2 s for the others", b->join(b, &o.comm, err));
    assert_null(o.comm.joined);
    assert_string_equal(o.comm.name, "test");
    cx_backend_close(b);
}

/* The shares of ranks with more, none and fewer labels; and of a batch without any. */
static void test_parts_are_weighed_like_on_the_host(void **state)
{
    (void)state;
    static const cx_cuda_part part[2][3] = { { { 3, 0.7f }, { 0, 0 }, { 7.5, 1.3f } }, { { 0, 0 }, { 0, 0 }, { 0, 0 } } };
    for (int i = 0; i < 2; i++) {
        double all = 0, sum = 0;
        for (int r = 0; r < 3; r++)
            all += part[i][r].weight;
        for (int r = 0; r < 3; r++)
            sum += (double)(float)(all > 0 ? part[i][r].weight / all : 0) * (double)part[i][r].loss;
        for (int r = 0; r < 3; r++) {
            float seed = NAN, loss = NAN;
            assert_int_equal(cx_cuda_weigh_parts(NULL, part[i], r, 3, &seed, &loss), CX_OK);
            assert_true(loss == (float)sum);
            assert_true(seed == (float)(all > 0 ? part[i][r].weight / all : 0));
        }
    }
}

/* Last: wires stay broken. */
static void test_wires_break(void **state)
{
    (void)state;
    other o = other_rank(true, false, 0, 60);
    cx_error e = { 0 };
    cx_step_result r[STEPS + 1];
    cx_status s;
    training t = begin(&o);
    emu_nccl_break();
    assert_int_equal(walk(&t, STEPS, r, &s, &e), 0);
    assert_int_equal(s, CX_E_PEER);
    assert_non_null(strstr(e.text, "remote process exited or there was a network error"));
    end(&t, &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_weighed_like_on_the_host),
        cmocka_unit_test(test_two_ranks_beside_the_host),
        cmocka_unit_test(test_lost_at_any_message),
        cmocka_unit_test(test_waited_for_long_enough),
        cmocka_unit_test(test_one_that_never_comes),
        cmocka_unit_test(test_wires_break),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
