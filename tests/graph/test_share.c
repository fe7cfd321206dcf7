/* test_share.c - ranks that share a batch train as one process with the whole batch does: losses with unlabelled films and class weights, dropout, norms over
 * all films.
 *
 * Float32 adds up in another order, so the two differ by rounding: by less than 1e-5 of the largest number here, 1e-4 where norms divide by what they have
 * measured. A statistic of a part instead of the whole moves them by more than 1e-2, as test_without_sync_norms_differ makes sure. */
#include "threads_comm.h"
#include "cxnet/stepper.h"
#include "runs.h"

enum { STEPS = 3, FLOATS = 40000 };

/* One process, or one rank of several: what it trains and what came of it. Threads do not assert, they note their error. */
typedef struct {
    net_fn make;
    int films;                           /* of this rank */
    bool sync, unlabelled;
    unsigned skip;
    cx_error error;
    float loss[STEPS];
    int64_t n; float value[FLOATS];      /* all parameters and all state, and the moments of momentum */
} trainee;

/* Films first .. first + n - 1 of a step of the whole batch. A film has its numbers by itself. */
static void make_films(const net *n, const trainee *t, int first, int step, float *x, float *target)
{
    const int64_t px = cx_elems(n->g->values[n->x].shape), entries = cx_elems(n->g->values[n->target].shape);
    const uint32_t classes = n->classes ? (uint32_t)n->g->values[n->logits].shape.c : 2;
    for (int i = 0; i < t->films; i++) {
        cx_rng r = cx_rng_new(31, (uint64_t)(step * 100 + first + i));
        for (int64_t k = 0; k < px; k++)
            x[i * px + k] = (float)cx_rng_normal(&r);
        for (int64_t k = 0; k < entries; k++) {
            target[i * entries + k] = (float)cx_rng_below(&r, classes);
            if (t->unlabelled && (first + i + k) % 3 == 0)
                target[i * entries + k] = -1;
        }
    }
}

static cx_status collect(cx_store *s, const net *n, trainee *t, cx_error *err)
{
    float *m;
    TRY(cx_store_moments(s, &m, NULL, err));
    for (int v = 0; v < n->g->n_values; v++) {
        if (n->g->values[v].kind != CX_PARAM && n->g->values[v].kind != CX_STATE)
            continue;
        TRY(cx_store_get(s, v, t->value + t->n, err));
        t->n += cx_elems(n->g->values[v].shape);
    }
    TRY(s->b->download(s->b, t->value + t->n, m, (size_t)s->trainable * sizeof *m, err));
    t->n += s->trainable;
    return CX_OK;
}

static cx_status steps(cx_comm *comm, const net *n, cx_store *s, cx_plan *p, trainee *t, cx_error *err)
{
    cx_stepper *stepper;
    static const int LARGEST = 4096;
    float *x = malloc(sizeof *x * (size_t)(LARGEST * t->films)), *target = malloc(sizeof *target * (size_t)(LARGEST * t->films));
    cx_status status = cx_stepper_new(s, &(cx_stepper_opts){ .plan = p, .input = n->x, .target = n->target, .loss = n->loss, .clip = 1, .comm = comm,
                                      .ahead = 1 }, &stepper, err);
    for (int i = 0; status == CX_OK && i < STEPS; i++) {
        cx_step_result got;
        bool there;
        make_films(n, t, cx_comm_rank(comm) * t->films, i, x, target);
        status = cx_stepper_step(stepper, &(cx_step_batch){ .input = x, .target = target }, 9,
                                 &(cx_update){ .kind = CX_SGD, .lr = 0.05, .momentum = 0.9, .t = i + 1 }, err);
        if (status == CX_OK && (status = cx_stepper_next(stepper, true, &got, &there, err)) == CX_OK)
            t->loss[i] = got.loss;
    }
    cx_stepper_free(stepper);
    free(x);
    free(target);
    return status == CX_OK ? collect(s, n, t, err) : status;
}

/* Weights of positives and of classes that differ, so that shares are not those of films. */
static cx_status set_weights(cx_store *s, const net *n, cx_error *err)
{
    const int v = cx_graph_find(n->g, "loss.weight");
    const float weight[4] = { 0.5f, 2, 3, 1 };
    return v < 0 ? CX_OK : cx_store_set(s, v, weight, err);
}

static cx_status train(cx_comm *comm, net *n, cx_backend *b, trainee *t, cx_error *err)
{
    cx_store *s = NULL;
    cx_plan *p = NULL;
    cx_status status = cx_store_new(n->g, b, 3, &s, err);
    if (status == CX_OK)
        status = set_weights(s, n, err);
    if (status == CX_OK)
        status = cx_plan_new(s, &(cx_plan_opts){ .batch = t->films, .training = true, .backward = true, .param_grads = true, .moments = 1,
                             .output = n->loss, .comm = comm, .sync_norm = t->sync, .skip = t->skip }, &p, err);
    if (status == CX_OK)
        status = steps(comm, n, s, p, t, err);
    cx_plan_free(p);
    cx_store_free(s);
    return status;
}

static void work(cx_comm *comm, void *arg)
{
    trainee *t = arg;
    cx_backend *b;
    net n = t->make();
    if (cx_backend_open("cpu", 1, &b, &t->error) == CX_OK) {
        train(comm, &n, b, t, &t->error);
        cx_backend_close(b);
    }
    cx_graph_free(n.g);
}

/* t[0]: alone with all films; t[1..ranks]: with their parts. */
static void train_all(trainee *t, int ranks, net_fn make, int films, bool sync, bool unlabelled)
{
    void *arg[MAX_RANKS];
    for (int i = 0; i <= ranks; i++) {
        t[i] = (trainee){ .make = make, .films = i ? films / ranks : films, .sync = sync, .unlabelled = unlabelled };
        if (i)
            arg[i - 1] = &t[i];
    }
    work(NULL, &t[0]);
    run_ranks(ranks, work, arg);
    for (int i = 0; i <= ranks; i++)
        if (t[i].error.status != CX_OK)
            fail_msg("%s", t[i].error.text);
}

static double distance(const float *a, const float *b, int64_t n)
{
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static void assert_alike(net_fn make, int ranks, int films, bool sync, bool unlabelled, double tolerance)
{
    trainee *t = calloc((size_t)ranks + 1, sizeof *t);
    train_all(t, ranks, make, films, sync, unlabelled);
    for (int r = 1; r <= ranks; r++) {
        const double d = distance(t[r].value, t[0].value, t[0].n);
        assert_int_equal(t[r].n, t[0].n);
        assert_memory_equal(t[r].value, t[1].value, sizeof(float) * (size_t)t[1].n);        /* every rank has the same bits */
        assert_memory_equal(t[r].loss, t[1].loss, sizeof t[1].loss);
        if (!(d < tolerance))
            fail_msg("%d ranks, %d films: numbers differ by %g, want below %g", ranks, films, d, tolerance);
        assert_close("loss", t[r].loss, t[0].loss, STEPS, tolerance, tolerance);
    }
    free(t);
}

static void test_means_and_masks(void **state)
{
    (void)state;
    assert_alike(base_net, 2, 6, false, false, 1e-5);
    assert_alike(base_net, 3, 6, false, true, 1e-5);
}

/* 3 films of 9 units a rank: its draws begin in the middle of four. */
static void test_dropout_draws_as_for_the_whole(void **state)
{
    (void)state;
    assert_alike(dropped, 2, 6, false, false, 1e-5);
    assert_alike(dropped, 4, 4, false, false, 1e-5);
}

static void test_norms_over_all_films(void **state)
{
    (void)state;
    assert_alike(small_dense_net, 2, 6, true, false, 1e-4);
    assert_alike(small_dense_net, 4, 8, true, true, 1e-4);
}

static net all_norms_frozen(void)
{
    net n = small_dense_net();
    assert_true(cx_graph_freeze(n.g, "*norm*") > 0);
    return n;
}

static void test_frozen_norms_need_no_sync(void **state)
{
    (void)state;
    assert_alike(all_norms_frozen, 2, 6, false, false, 1e-5);
}

/* What the tolerances above must catch. */
static void test_without_sync_norms_differ(void **state)
{
    (void)state;
    trainee *t = calloc(3, sizeof *t);
    train_all(t, 2, small_dense_net, 6, false, false);
    assert_true(distance(t[1].value, t[0].value, t[0].n) > 1e-2);      /* without sync, each part has statistics of its own */
    free(t);
}

static void test_norms_that_sync_cannot_reach(void **state)
{
    (void)state;
    trainee t[2] = { { .make = residual, .films = 2, .sync = true }, { .make = residual, .films = 2, .sync = true } };
    void *arg[] = { &t[0], &t[1] };
    run_ranks(2, work, arg);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(t[r].error.status, CX_E_UNSUPPORTED);
        assert_non_null(strstr(t[r].error.text, "sync_norm reaches only norms"));
    }
}

static void test_losses_that_are_no_mean(void **state)
{
    (void)state;
    trainee t[2] = { { .make = unet, .films = 2 }, { .make = unet, .films = 2 } };
    void *arg[] = { &t[0], &t[1] };
    run_ranks(2, work, arg);
    assert_non_null(strstr(t[0].error.text, "is no mean over the films"));
}

/* The unbiased variance counts the pixels of all parts: 8 here, 24 in all. */
static void test_norm_counts_all_parts(void **state)
{
    (void)state;
    static const char *const names[] = { "cpu", "emu" };
    for (int i = 0; i < CX_COUNT(names); i++) {
        cx_backend *b = open_named(names[i], 1);
        float stats[] = { 2, 3 }, pre[CX_FOLD_ROWS], gamma = 1, beta = 0, mean = 1, var = 1;
        const cx_norm_attr attr = { .eps = 1e-5f, .momentum = 0.25f, .unbiased = true };
        const cx_shape one = { 1, 1, 1, 1 };
        int n;
        if (!b)
            continue;
        cx_call c = { .attr = &attr, .n_in = 5, .n_out = 3, .training = true, .self = b->self, .x = { { { 2, 2, 2, 1 }, 1, NULL, CX_F32 },
            { one, 1, &gamma, CX_F32 }, { one, 1, &beta, CX_F32 }, { one, 1, &mean, CX_F32 }, { one, 1, &var, CX_F32 } },
            .fold = { .pre = { { 1, 1, CX_FOLD_ROWS, 1 }, 1, pre, CX_F32 }, .stats = { { 1, 1, 2, 1 }, 1, stats, CX_F32 }, .parts = 3 } };
        const cx_impl *impl = b->impls(b, CX_OP_BATCH_NORM, &n);
        while (!impl->fwd || (impl->accepts && !impl->accepts(&c)))
            impl++;
        assert_int_equal(impl->fwd(&c), CX_OK);
        if (b->finish)
            assert_cx_ok(b->finish(b, err));
        cx_backend_close(b);
        assert_true(fabs((double)mean - (0.75 + 0.25 * 2)) < 1e-6);
        assert_true(fabs((double)var - (0.75 + 0.25 * 3 * 24 / 23)) < 1e-6);
    }
}

/* ---- agreeing ------------------------------------------------------------------------------------------------------ */

typedef struct { const char *text; bool flag; cx_error error; } voter;

static void vote(cx_comm *c, void *arg)
{
    voter *v = arg;
    if (cx_comm_any(c, &v->flag, &v->error) == CX_OK)
        cx_comm_same(c, "the words", v->text, &v->error);
}

static void test_agreeing(void **state)
{
    (void)state;
    const char *text = "a: 1\n  b: 2\nc: 3\n";
    voter v[3] = { { .text = text }, { .text = text, .flag = true }, { .text = text } };
    void *arg[] = { &v[0], &v[1], &v[2] };
    run_ranks(3, vote, arg);
    for (int r = 0; r < 3; r++)
        assert_true(v[r].flag && v[r].error.status == CX_OK);
    v[2].text = "a: 1\n  b: 4\nc: 3\n";
    run_ranks(3, vote, arg);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(v[r].error.status, CX_E_CONFIG);
        assert_string_equal(v[r].error.text, "the words of rank 2: \"b: 4\", but of rank 0: \"b: 2\"; start all ranks with the same");
    }
    v[2].text = "a: 1\n";
    run_ranks(3, vote, arg);
    assert_non_null(strstr(v[1].error.text, "rank 2: \"\", but of rank 0: \"b: 2\""));
}

/* What a launcher, a batch script and a shell in an allocation say. None of these may wait for ranks that nobody has started. */
static void test_who_has_been_launched(void **state)
{
    (void)state;
    static const char *const names[] = { "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS",
        "SLURM_PTY_PORT" };
    static const char *const alone[][4] = { { NULL }, { "SLURM_NTASKS=8", "SLURM_PROCID=0" }, { "SLURM_NTASKS=8", "SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=1" },
        { "SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=8", "SLURM_PTY_PORT=4711" }, { "OMPI_COMM_WORLD_SIZE=1", "SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=8" },
        { "PMI_RANK=0", "PMI_SIZE=1" } };
    static const char *const several[][2] = { { "OMPI_COMM_WORLD_SIZE=3" }, { "PMI_RANK=1", "PMI_SIZE=3" }, { "SLURM_PROCID=2", "SLURM_STEP_NUM_TASKS=3" } };
    cx_comm *c = NULL;
    for (int i = 0; i < CX_COUNT(alone); i++) {
        for (int k = 0; k < CX_COUNT(names); k++)
            unsetenv(names[k]);
        for (int k = 0; k < 4 && alone[i][k]; k++)
            putenv((char *)(uintptr_t)alone[i][k]);
        assert_cx_ok(cx_comm_open("auto", 1, &c, err));
        assert_null(c);
    }
    char *plugins = getenv("CXNET_PLUGINS") ? strdup(getenv("CXNET_PLUGINS")) : NULL;
    setenv("CXNET_PLUGINS", "/proc/self", 1);
    for (int i = 0; i < CX_COUNT(several); i++) {
        for (int k = 0; k < CX_COUNT(names); k++)
            unsetenv(names[k]);
        for (int k = 0; k < 2 && several[i][k]; k++)
            putenv((char *)(uintptr_t)several[i][k]);
        assert_cx_fails(CX_E_UNSUPPORTED, "3 ranks were started, but cannot be joined", cx_comm_open("auto", 1, &c, err));
        assert_cx_ok(cx_comm_open("none", 1, &c, err));
        assert_null(c);
    }
    for (int k = 0; k < CX_COUNT(names); k++)
        unsetenv(names[k]);
    assert_cx_fails(CX_E_UNSUPPORTED, "want auto, none, mpi or nccl", cx_comm_open("pigeon", 1, &c, err));
    if (plugins)
        setenv("CXNET_PLUGINS", plugins, 1);
    free(plugins);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_means_and_masks),
        cmocka_unit_test(test_dropout_draws_as_for_the_whole),
        cmocka_unit_test(test_norms_over_all_films),
        cmocka_unit_test(test_frozen_norms_need_no_sync),
        cmocka_unit_test(test_without_sync_norms_differ),
        cmocka_unit_test(test_norms_that_sync_cannot_reach),
        cmocka_unit_test(test_norm_counts_all_parts),
        cmocka_unit_test(test_losses_that_are_no_mean),
        cmocka_unit_test(test_agreeing),
        cmocka_unit_test(test_who_has_been_launched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
