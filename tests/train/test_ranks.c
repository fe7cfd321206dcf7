/* test_ranks.c - several processes, joined by MPI, train one network: the weights of one process, the same bits in every run; resumed by any number; a killed
 * rank. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "support.h"
#include "cxnet/train.h"

enum { FILMS = 40, SIDE = 66, STEPS = 3 };       /* 24 films train; batch 8 */
static char root[256], manifest[300], stderr_text[20000];

/* ---- the cohort and the experiment ---------------------------------------------------------------------------------- */

/* Films of noise; class 1 has a bright square. */
static void write_film(const char *path, int film, int label)
{
    static uint16_t px[SIDE * SIDE];
    cx_rng r = cx_rng_new(7, (uint64_t)film);
    cx_buf b = { 0 };
    for (int i = 0; i < SIDE * SIDE; i++) {
        const int y = i / SIDE, x = i % SIDE;
        px[i] = (uint16_t)(60 + (int)cx_rng_below(&r, 60) + (label && y > 20 && y < 45 && x > 30 && x < 60 ? 70 : 0));
    }
    assert_cx_ok(cx_png_grey(px, SIDE, SIDE, 255, &b, err));
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_buf_free(&b);
}

static int setup(void **state)
{
    (void)state;
    cx_buf csv = { 0 };
    snprintf(root, sizeof root, "%s/cxnet-ranks-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(root));
    snprintf(manifest, sizeof manifest, "%s/manifest.csv", root);
    cx_buf_puts(&csv, "path,labels,split\n");
    for (int i = 0; i < FILMS; i++) {
        char path[320];
        const int label = i % 2;
        snprintf(path, sizeof path, "%s/f%02d.png", root, i);
        write_film(path, i, label);
        cx_buf_printf(&csv, "f%02d.png,%s,%s\n", i, label ? "Opacity" : "Clear", i % 10 < 6 ? "train" : i % 10 < 8 ? "val" : "test");
    }
    assert_cx_ok(cx_file_write(manifest, csv.data, csv.len, err));
    cx_buf_free(&csv);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command) != 0;
}

static cx_status load(cx_config *c, const char *name, char *const *more, int n_more, cx_error *err)
{
    static const char *const base[] = { "data.classes=[Clear, Opacity]", "data.near_duplicates=false", "data.side=66", "data.channels=1", "data.normalise=unit",
        "optim.batch=8", "optim.epochs=2", "optim.clip_norm=5", "augment.rotate_deg=5", "augment.shift=0.05", "run.bootstrap=0", "model.dropout=0.2",
        "run.threads=1", "run.comm_timeout_s=60" };
    char text[4][400], *set[40];
    int n = 0;
    for (; n < CX_COUNT(base); n++)
        set[n] = (char *)(uintptr_t)base[n];
    snprintf(text[0], sizeof text[0], "data.manifest=%s", manifest);
    snprintf(text[1], sizeof text[1], "data.cache=%s/cache", root);
    snprintf(text[2], sizeof text[2], "run.dir=%s", root);
    snprintf(text[3], sizeof text[3], "run.name=%s", name);
    for (int i = 0; i < 4; i++)
        set[n++] = text[i];
    for (int i = 0; i < n_more; i++)
        set[n++] = more[i];
    return cx_config_load(NULL, set, n, c, err);
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
    char *more[10];
    int n = 0;
    snprintf(root, sizeof root, "%s", argv[2]);
    snprintf(manifest, sizeof manifest, "%s/manifest.csv", root);
    signal(SIGTERM, on_signal);
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    for (int i = 6; i < argc && n < CX_COUNT(more); i++)
        if (argv[i][0] != '1')
            more[n++] = argv[i];
        else if (rank && *rank != '0')
            more[n++] = argv[i] + 2;
    cx_status s = load(&c, argv[3], more, n, &e);
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
static int run(int ranks, const char *name, char what, int steps, const char *settings)
{
    char command[4000], log[320], launcher[300] = "";
    snprintf(log, sizeof log, "%s/stderr", root);
    if (ranks > 1)
        snprintf(launcher, sizeof launcher, "mpirun --allow-run-as-root --oversubscribe --mca odls_base_sigkill_timeout %d -n %d ",
                 what == 'k' ? 2 : 1, ranks);
    char self[300] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(command, sizeof command, "OMP_NUM_THREADS=1 timeout -k 5 240 %s'%s' --child '%s' '%s' %c %d %s >'%s' 2>&1 </dev/null", launcher, self, root, name,
             what, steps, settings, log);
    const int s = system(command);
    take_stderr(log);
    return WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
}

#define assert_run(want, ...) do { const int code_ = run(__VA_ARGS__); \
    if (code_ != (want)) fail_msg("exit %d, want %d; %s", code_, (want), stderr_text); } while (0)
#define assert_said(text) do { if (!strstr(stderr_text, text)) fail_msg("\"%s\" is not in: %s", text, stderr_text); } while (0)

static cx_st_file open_weights(const char *name, const char *which)
{
    char path[400];
    cx_st_file f;
    snprintf(path, sizeof path, "%s/%s/checkpoints/%s.safetensors", root, name, which);
    assert_cx_ok(cx_st_read(path, &f, err));
    return f;
}

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

/* Start weights that overflow in the first forward pass. */
static void write_huge_weights(const char *path)
{
    cx_config c;
    cx_model_spec spec;
    cx_model model;
    cx_backend *b;
    cx_store *s;
    assert_cx_ok(load(&c, "huge", NULL, 0, err));
    cx_config_model(&c, 1, &spec);
    cx_config_free(&c);
    assert_cx_ok(cx_model_new(&spec, &model, err));
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_store_new(model.graph, b, 1, &s, err));
    for (int v = 0; v < model.graph->n_values; v++) {
        const int64_t n = model.graph->values[v].kind == CX_PARAM ? cx_elems(model.graph->values[v].shape) : 0;
        float *host = cx_alloc((size_t)n, sizeof *host);
        for (int64_t i = 0; i < n; i++)
            host[i] = 1e15f;
        if (n)
            assert_cx_ok(cx_store_set(s, v, host, err));
        free(host);
    }
    assert_cx_ok(cx_weights_save(s, path, NULL, 0, NULL, 0, err));
    cx_store_free(s);
    cx_backend_close(b);
    cx_model_free(&model);
}

/* All ranks stop at the same step, and the log has the films of all. */
static void test_nan_names_the_films_of_all(void **state)
{
    (void)state;
    char path[320], set[400];
    cx_buf log = { 0 };
    int films = 0;
    NEEDS_MPI();
    snprintf(path, sizeof path, "%s/huge.safetensors", root);
    write_huge_weights(path);
    snprintf(set, sizeof set, "model.weights=%s", path);
    assert_run(70, 2, "nan", '-', 0, set);
    assert_said("rank 0: the loss is ");
    snprintf(path, sizeof path, "%s/nan/log.txt", root);
    assert_cx_ok(cx_file_read(path, 1 << 20, &log, err));
    const char *at = strstr(log.data, "; films: ");
    assert_non_null(at);
    for (const char *end = strchr(at, '\n'); (at = strstr(at, ".png")) && at < end; at++)
        films++;
    assert_int_equal(films, 8);
    cx_buf_free(&log);
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

/* Sums of gradients by way of the host, and by NCCL, of which the emulated GPU has a stand-in: in the same order, so to the same bits. Also wherever the films
 * lie, and if one rank's lie elsewhere. */
static void test_four_emulated_gpus(void **state)
{
    (void)state;
    cx_backend *b = NULL;
    NEEDS_MPI();
    if (cx_backend_open("emu", 0, &b, NULL) != CX_OK) {
        print_message("skipped: no emulated GPU in this build\n");
        skip();
    }
    cx_backend_close(b);
    assert_run(85, 1, "emu1", 's', 2, "run.device=emu");
    assert_run(85, 4, "emu2", 's', 2, "run.device=emu run.comm=mpi run.films=host");
    assert_run(85, 4, "emu3", 's', 2, "run.device=emu run.comm=nccl run.films=device 1:run.films=batch");
    cx_st_file x = open_weights("emu1", "last"), y = open_weights("emu2", "last"), z = open_weights("emu3", "last");
    for (int i = 0; i < x.n; i++) {
        assert_close(x.tensors[i].name, y.tensors[i].data, x.tensors[i].data, (int64_t)(x.tensors[i].bytes / sizeof(float)), 0, ROUNDING);
        assert_memory_equal(z.tensors[i].data, y.tensors[i].data, y.tensors[i].bytes);
    }
    cx_st_free(&x);
    cx_st_free(&y);
    cx_st_free(&z);
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
        cmocka_unit_test(test_four_emulated_gpus),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
