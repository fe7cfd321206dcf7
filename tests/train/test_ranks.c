/* test_ranks.c - several processes, joined by MPI, train one network: the weights of one process, the same bits in every run; resumed by any number; a killed
 * rank. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include "backend.h"
#include "squares.h"

enum { FILMS = 40, SIDE = 66, STEPS = 3 };       /* 24 films train; batch 8 */
static char stderr_text[20000];

/* ---- the cohort and the experiment ---------------------------------------------------------------------------------- */

static int row(int film, char text[100])
{
    snprintf(text, 100, "%s,%s", film % 2 ? "Opacity" : "Clear", film % 10 < 6 ? "train" : film % 10 < 8 ? "val" : "test");
    return film % 2;
}

static int setup(void **state)
{
    (void)state;
    make_squares("ranks", FILMS, SIDE, "labels,split", row);
    return 0;
}

static cx_status load(cx_config *c, const char *name, const char *const *more, cx_error *err)
{
    static const char *const base[] = { "data.classes=[Clear, Opacity]", "data.side=66", "optim.epochs=2", "optim.clip_norm=5", "run.bootstrap=0",
        "run.threads=1", "run.comm_timeout_s=60", NULL };
    return load_squares(base, name, more, c, err);
}

/* ---- one rank ------------------------------------------------------------------------------------------------------- */

/* mutable: a signal handler can reach nothing else */
static volatile sig_atomic_t stop;
static void on_signal(int number) { stop = number; }

typedef struct { const cx_comm *comm; char what; int countdown; } trip;

/* After so many steps the last rank gets a signal, or its own stop: the others learn of it. */
static void on_step(void *self, int epoch, int step)
{
    trip *t = self;
    (void)epoch;
    (void)step;
    if (--t->countdown == 0 && cx_comm_rank(t->comm) == cx_comm_ranks(t->comm) - 1) {
        if (t->what != 's')
            raise(t->what == 'k' ? SIGKILL : SIGSTOP);
        stop = SIGTERM;
    }
}

/* argv: --child ROOT NAME WHAT STEPS SETTING... A setting that begins with "1:" is not for rank 0. Then as `cxnet train` does. */
static int child(int argc, char **argv)
{
    cx_config c = { 0 };
    cx_error e = { 0 };
    trip t = { .what = argv[4][0], .countdown = (int)strtol(argv[5], NULL, 10) };
    cx_comm *comm = NULL;
    const char *more[11] = { NULL };
    int n = 0;
    snprintf(root, sizeof root, "%s", argv[2]);
    snprintf(manifest, sizeof manifest, "%s/manifest.csv", root);
    signal(SIGTERM, on_signal);
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    for (int i = 6; i < argc && n < CX_COUNT(more) - 1; i++)
        if (argv[i][0] != '1')
            more[n++] = argv[i];
        else if (rank && *rank != '0')
            more[n++] = argv[i] + 2;
    cx_status s = load(&c, argv[3], more, &e);
    if (s == CX_OK)
        s = cx_comm_open(c.run.comm, c.run.comm_timeout_s, &comm, &e);
    t.comm = comm;
    if (s == CX_OK)
        s = cx_run_train(&c, &(cx_run_opts){ .comm = comm, .quiet = true, .stop = &stop, .on_step = on_step, .self = &t }, NULL, 0, &e);
    fprintf(stderr, "rank %d: %s\n", cx_comm_rank(comm), s == CX_OK ? "done" : e.text);
    cx_comm_close(comm, s == CX_OK ? NULL : &e);
    cx_config_free(&c);
    return cx_exit_code(s);
}

/* ---- many ------------------------------------------------------------------------------------------------------------ */

static void take_stderr(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    stderr_text[fread(stderr_text, 1, sizeof stderr_text - 1, f)] = 0;
    fclose(f);
}

/* Trains as that many processes (1: this program by itself); the exit code. what: '-' to the end, 's' stop, 'k' kill, 'h' hang, after `steps` steps. When a
 * rank is killed, mpirun gives the others not 1 but 2 s until it kills them too: a machine that is busy with other work may need them. */
static int run_in(const char *environment, int ranks, const char *name, char what, int steps, const char *settings)
{
    char command[4000], log[320], launcher[300] = "";
    snprintf(log, sizeof log, "%s/stderr", root);
    if (ranks > 1)
        snprintf(launcher, sizeof launcher, "mpirun --allow-run-as-root --oversubscribe --mca odls_base_sigkill_timeout %d -n %d ",
                 what == 'k' ? 2 : 1, ranks);
    char self[300] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(command, sizeof command, "%s OMP_NUM_THREADS=1 timeout -k 5 240 %s'%s' --child '%s' '%s' %c %d %s >'%s' 2>&1 </dev/null", environment, launcher,
             self, root, name, what, steps, settings, log);
    const int s = system(command);
    take_stderr(log);
    return WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
}

static int run(int ranks, const char *name, char what, int steps, const char *settings) { return run_in("", ranks, name, what, steps, settings); }

#define assert_run(want, ...) do { const int code_ = run(__VA_ARGS__); \
    if (code_ != (want)) fail_msg("exit %d, want %d; %s", code_, (want), stderr_text); } while (0)
#define assert_said(text) do { if (!strstr(stderr_text, text)) fail_msg("\"%s\" is not in: %s", text, stderr_text); } while (0)

/* How far two checkpoints are apart, all of them or one tensor: 0 where it has the same bits, otherwise the largest difference over the largest number. */
static double apart(const char *a, const char *b, const char *only)
{
    static const char *const which[] = { "last", "best" };
    double worst = 0;
    for (int w = 0; w < 2; w++) {
        cx_st_file x = open_weights(a, which[w]), y = open_weights(b, which[w]);
        assert_int_equal(x.n, y.n);
        for (int i = 0; i < x.n; i++) {
            const cx_st_tensor *t = &x.tensors[i], *u = cx_st_find(&y, t->name);
            assert_true(u && u->bytes == t->bytes && t->dtype == CX_F32);
            const float *p = t->data, *q = u->data;
            if (only && strcmp(only, t->name))
                continue;
            double largest = 1e-3, most = 0;
            for (size_t k = 0; k < t->bytes / sizeof *p; k++) {
                largest = fmax(largest, fabs((double)q[k]));
                most = fmax(most, fabs((double)p[k] - (double)q[k]));
            }
            worst = fmax(worst, most / largest);
        }
        cx_st_free(&x);
        cx_st_free(&y);
    }
    return worst;
}

static bool exists(const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return cx_file_exists(path);
}

#define NEEDS_MPI() do { if (!can_launch()) { print_message("skipped: no mpirun, or a build without the MPI plug-in\n"); skip(); } } while (0)

static bool can_launch(void)
{
    const char *folder = getenv("CXNET_PLUGINS");
    char path[400];
    snprintf(path, sizeof path, "%s/libcxnet_mpi.so", folder ? folder : ".");
    return cx_file_exists(path) && system("command -v mpirun >/dev/null 2>&1") == 0;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

/* Float32 rounding of sums in another order, after 6 updates of Adam, which divides small gradients by small numbers. */
static const double ROUNDING = 2e-3;

static void test_two_ranks_train_as_one(void **state)
{
    (void)state;
    NEEDS_MPI();
    assert_run(0, 1, "one", '-', 0, "");
    assert_run(0, 2, "two", '-', 0, "");
    assert_said("rank 1: done");
    const double d = apart("two", "one", NULL);
    print_message("one rank and two: %g apart\n", d);
    assert_true(d < ROUNDING);
    assert_true(exists("two/metrics.json") && exists("two/predictions.csv") && exists("two/manifest.json"));
    assert_run(0, 2, "again", '-', 0, "run.workers=2");
    assert_true(apart("again", "two", NULL) == 0);
    assert_run(0, 2, "seed", '-', 0, "run.seed=2");
    assert_true(apart("seed", "two", NULL) > 10 * ROUNDING);
}

static void test_stopped_and_resumed_by_any_number(void **state)
{
    (void)state;
    NEEDS_MPI();
    assert_run(85, 2, "stop2", 's', STEPS - 1, "");
    assert_said("rank 0: interrupted at epoch 1, step 2 of 3; a checkpoint is written");
    assert_said("rank 1: interrupted at epoch 1, step 2 of 3; a checkpoint is written");
    assert_run(0, 2, "stop2", '-', 0, "");
    assert_true(apart("stop2", "two", NULL) == 0);
    assert_run(85, 2, "stop1", 's', STEPS + 1, "");
    assert_run(0, 1, "stop1", '-', 0, "");
    assert_true(apart("stop1", "one", NULL) < ROUNDING);
}

/* The other rank says who is gone and saves the steps that both have finished, though no checkpoint was due. */
static void test_a_killed_rank(void **state)
{
    (void)state;
    NEEDS_MPI();
    assert_int_not_equal(run(2, "killed", 'k', STEPS + 2, ""), 0);
    assert_said("rank 0: rank 1 (process ");
    assert_said("has vanished while rank 0 waited for it");
    assert_said("a checkpoint of epoch 2, step 2 of 3 is written");
    assert_run(0, 2, "killed", '-', 0, "");
    assert_true(apart("killed", "two", NULL) == 0);
}

/* One that lives and does not answer is waited for, but not for ever. */
static void test_a_rank_that_hangs(void **state)
{
    (void)state;
    NEEDS_MPI();
    assert_run(75, 2, "hung", 'h', 2, "run.comm_timeout_s=6");
    assert_said("rank 0: rank 0 has waited 6 s for the others (");
    assert_said("a checkpoint of epoch 1, step 2 of 3 is written");
    assert_run(0, 1, "hung", '-', 0, "");
    assert_true(apart("hung", "one", NULL) < ROUNDING);
}

static void test_differences_are_named(void **state)
{
    (void)state;
    NEEDS_MPI();
    assert_int_equal(run(2, "unequal", '-', 0, "1:optim.lr=0.5"), 78);
    assert_said("the configuration of rank 1: \"lr: 0.5\", but of rank 0: \"lr: 0.001\"");
    assert_false(exists("unequal/log.txt"));
    assert_int_equal(run(2, "unequal", '-', 0, "optim.batch=7"), 78);
    assert_said("optim.batch: 2 ranks cannot share 7 films equally; want a multiple of 2");
    assert_int_not_equal(run(2, "unequal", '-', 0, "1:data.cache=/proc/nowhere"), 0);       /* a rank that fails by itself tells the other */
    assert_said("rank 0: rank 1 has ended: ");
}

/* Start weights that overflow in the first forward pass: all ranks stop at the same step, and the log has the films of all. */
static void nan_names_the_films_of_all(const char *name, const char *settings)
{
    char path[320], set[500];
    cx_buf log = { 0 };
    cx_config c;
    int films = 0;
    snprintf(path, sizeof path, "%s/huge.safetensors", root);
    assert_cx_ok(load(&c, "huge", NULL, err));
    write_equal_weights(path, &c, CX_PARAM, 1e15f);
    cx_config_free(&c);
    snprintf(set, sizeof set, "model.weights=%s %s", path, settings);
    assert_run(70, 2, name, '-', 0, set);
    assert_said("rank 0: the loss is ");
    assert_said("rank 1: the loss is ");
    snprintf(path, sizeof path, "%s/%s/log.txt", root, name);
    assert_cx_ok(cx_file_read(path, 1 << 20, &log, err));
    const char *at = strstr(log.data, "; films: ");
    assert_non_null(at);
    for (const char *end = strchr(at, '\n'); (at = strstr(at, ".png")) && at < end; at++)
        films++;
    assert_int_equal(films, 8);
    cx_buf_free(&log);
}

static void test_nan_names_the_films_of_all(void **state)
{
    (void)state;
    NEEDS_MPI();
    nan_names_the_films_of_all("nan", "");
}

static void test_dense_net_with_norms_over_all_films(void **state)
{
    (void)state;
    NEEDS_MPI();
    const char *norm = "features.norm0.running_var", *set = "model.arch=densenet121 data.side=32 optim.epochs=1 optim.kind=sgd optim.lr=0.001 "
        "augment.rotate_deg=0 augment.shift=0 model.sync_norm=";
    char sync[300], parts[300];
    snprintf(sync, sizeof sync, "%strue", set);
    snprintf(parts, sizeof parts, "%sfalse", set);
    assert_run(0, 1, "dense1", '-', 0, sync);
    assert_run(0, 2, "dense2", '-', 0, sync);
    assert_run(0, 2, "dense3", '-', 0, parts);
    const double together = apart("dense2", "dense1", norm), alone = apart("dense3", "dense1", norm);
    print_message("DenseNet-121, running variances of one rank and two: %g apart with sync_norm, %g without\n", together, alone);
    assert_true(together < 1e-4 && alone > 10 * together);
}

/* What srun and mpirun say of themselves, said here by hand: there is no Slurm. With a node list, and without PMIx, Open MPI would abort. */
static void test_launchers_are_believed(void **state)
{
    (void)state;
    NEEDS_MPI();
    assert_int_equal(run_in("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2", 1, "srun", '-', 0, ""), 69);
    assert_said("the launcher started 2 ranks, but MPI sees 1: start them with the mpirun of the MPI that cxnet was built with, or with srun --mpi=pmix");
    assert_int_equal(run_in("SLURM_STEP_ID=0 SLURM_NODELIST=here SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2", 1, "srun", '-', 0, ""), 69);
    assert_said("srun --mpi=pmix");
    assert_int_equal(run_in("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=4", 2, "srun", 's', 1, ""), 85);      /* srun mpirun -n 2 */
    assert_said("rank 1: interrupted at epoch 1, step 1 of 3");
}

#define NEEDS_EMU() do { NEEDS_MPI(); if (!has_device("emu")) { print_message("skipped: no emulated GPU in this build\n"); skip(); } } while (0)
static const char *const BY_NCCL = "run.device=emu run.comm=nccl";

static void assert_same_last(const char *a, const char *b)
{
    cx_st_file x = open_weights(a, "last"), y = open_weights(b, "last");
    for (int i = 0; i < x.n; i++)
        assert_memory_equal(x.tensors[i].data, y.tensors[i].data, x.tensors[i].bytes);
    cx_st_free(&x);
    cx_st_free(&y);
}

/* By way of the host step by step, and by NCCL, of which the emulated GPU has a stand-in, in captured steps: sums in the same order, so the same bits.
 * Also wherever the films lie, and if one rank's lie elsewhere. */
static void test_four_emulated_gpus(void **state)
{
    (void)state;
    NEEDS_EMU();
    assert_run(85, 1, "emu1", 's', STEPS, "run.device=emu");
    assert_run(85, 4, "emu2", 's', STEPS, "run.device=emu run.comm=mpi run.films=host");
    assert_run(85, 4, "emu3", 's', STEPS, "run.device=emu run.comm=nccl run.films=device 1:run.films=batch");
    cx_st_file x = open_weights("emu1", "last"), y = open_weights("emu2", "last");
    for (int i = 0; i < x.n; i++)
        assert_close(x.tensors[i].name, y.tensors[i].data, x.tensors[i].data, (int64_t)(x.tensors[i].bytes / sizeof(float)), 0, ROUNDING);
    assert_same_last("emu3", "emu2");
    cx_st_free(&x);
    cx_st_free(&y);
}

static void test_nan_on_emulated_gpus(void **state)
{
    (void)state;
    NEEDS_EMU();
    nan_names_the_films_of_all("emu_nan", BY_NCCL);
}

/* The device has steps on its way when a rank is killed: those that it could not finish do not count, and the run goes on behind the last whole one. */
static void test_a_killed_emulated_gpu(void **state)
{
    (void)state;
    int whole = -1;
    NEEDS_EMU();
    assert_run(85, 2, "emu_through", 's', STEPS, BY_NCCL);
    assert_int_not_equal(run(2, "emu_killed", 'k', STEPS - 1, BY_NCCL), 0);
    assert_said("rank 0: rank 1 (process ");
    assert_said("has vanished while rank 0 waited for it");
    const char *at = strstr(stderr_text, "a checkpoint of epoch 1, step ");
    if (!at || sscanf(at, "a checkpoint of epoch 1, step %d", &whole) != 1 || whole < 0 || whole >= STEPS)
        fail_msg("no checkpoint: %s", stderr_text);
    assert_run(85, 2, "emu_killed", 's', STEPS - whole, BY_NCCL);
    assert_said("rank 0: interrupted at epoch 1, step 3 of 3; a checkpoint is written");
    assert_same_last("emu_killed", "emu_through");
}

int main(int argc, char **argv)
{
    if (argc >= 6 && !strcmp(argv[1], "--child"))
        return child(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_ranks_train_as_one),
        cmocka_unit_test(test_stopped_and_resumed_by_any_number),
        cmocka_unit_test(test_a_killed_rank),
        cmocka_unit_test(test_a_rank_that_hangs),
        cmocka_unit_test(test_differences_are_named),
        cmocka_unit_test(test_nan_names_the_films_of_all),
        cmocka_unit_test(test_dense_net_with_norms_over_all_films),
        cmocka_unit_test(test_launchers_are_believed),
        cmocka_unit_test(test_four_emulated_gpus),
        cmocka_unit_test(test_nan_on_emulated_gpus),
        cmocka_unit_test(test_a_killed_emulated_gpu),
    };
    return cmocka_run_group_tests(tests, setup, remove_squares);
}
