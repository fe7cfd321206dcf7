/* test_run.c - training runs from films to results: the same weights for any number of threads, across interruptions and kills; clear errors. */
#include <signal.h>
#include <sys/wait.h>
#include "backend.h"
#include "squares.h"

enum { FILMS = 60, SIDE = 80, STEPS = 4 };        /* 60 films: 36 or so train; batch 8 */

/* Patients have two films each. */
static int row(int film, char text[100])
{
    const int patient = film / 2, label = patient % 3 == 0 ? 0 : patient % 3 == 1;
    snprintf(text, 100, "%s,p%02d,%s,%s", label ? (patient % 2 ? "Opacity" : "Edema") : "Clear", patient, film % 2 ? "a" : "b",
             patient % 5 == 3 ? "val" : patient % 5 == 4 ? "test" : "train");
    return label;
}

static int setup(void **state)
{
    (void)state;
    make_squares("run", FILMS, SIDE, "labels,patient_id,source,split", row);
    return 0;
}

static void load(cx_config *c, const char *name, const char *const *more)
{
    static const char *const base[] = { "data.classes=[Clear, Disease=Opacity+Edema]", "data.side=80", "optim.epochs=3", "run.bootstrap=50",
        "early_stop.patience=0", NULL };
    assert_cx_ok(load_squares(base, name, more, c, err));
}

/* SHA-256 over the weights and moments of a run's last checkpoint: all tensors, no metadata. */
static void weights_of(const char *name, const char *which, char out[65])
{
    cx_st_file f = open_weights(name, which);
    cx_sha256 sha;
    cx_sha256_init(&sha);
    for (int i = 0; i < f.n; i++) {
        cx_sha256_update(&sha, f.tensors[i].name, strlen(f.tensors[i].name));
        cx_sha256_update(&sha, f.tensors[i].data, f.tensors[i].bytes);
    }
    cx_sha256_hex(&sha, out);
    cx_st_free(&f);
}

static void train(const char *name, const char *const *more)
{
    cx_config c;
    char dir[400];
    load(&c, name, more);
    assert_cx_ok(cx_run_train(&c, &(cx_run_opts){ .quiet = true }, dir, sizeof dir, err));
    cx_config_free(&c);
}

typedef struct { volatile sig_atomic_t stop; int countdown; bool kill; } trip;
static void on_step(void *self, int epoch, int step)
{
    trip *t = self;
    (void)epoch;
    (void)step;
    if (--t->countdown == 0) {
        if (t->kill)
            raise(SIGKILL);
        t->stop = 1;
    }
}

static void assert_same_weights(const char *a, const char *b)
{
    const char *which[] = { "last", "best" };
    for (int i = 0; i < 2; i++) {
        char x[65], y[65];
        weights_of(a, which[i], x);
        weights_of(b, which[i], y);
        assert_string_equal(x, y);
    }
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    char a[65], b[65];
    train("whole", (const char *[]){ "run.threads=1", "run.workers=0", NULL });
    train("three", (const char *[]){ "run.threads=3", "run.workers=2", NULL });
    assert_same_weights("whole", "three");
    train("seed2", (const char *[]){ "run.seed=2", NULL });
    weights_of("whole", "last", a);
    weights_of("seed2", "last", b);
    assert_string_not_equal(a, b);
}

/* Stops after `after` steps of this attempt, again and again, until the run is through. */
static void interrupted(const char *name, int after)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        cx_config c;
        cx_error e = { 0 };
        trip t = { .countdown = after };
        load(&c, name, NULL);
        cx_status s = cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &t.stop, .on_step = on_step, .self = &t, .resume = attempt
            ? CX_RESUME_MUST : CX_RESUME_AUTO }, NULL, 0, &e);
        cx_config_free(&c);
        if (s == CX_OK) {
            assert_true(attempt > 0);
            return;
        }
        assert_int_equal(s, CX_E_INTERRUPTED);
    }
    fail_msg("%s never ended", name);
}

static void test_resume_is_bit_identical(void **state)
{
    (void)state;
    const int after[] = { 1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS };       /* inside an epoch, at its last step, across epochs */
    for (int i = 0; i < CX_COUNT(after); i++) {
        char name[32];
        snprintf(name, sizeof name, "stop%d", after[i]);
        interrupted(name, after[i]);
        assert_same_weights("whole", name);
    }
}

/* ---- across devices -------------------------------------------------------------------------------------------------- */

/* Stops after `after` steps on one device, and goes on to the end on another. */
static void hand_over(const char *name, const char *from, int after, const char *to)
{
    const char *const devices[] = { from, to };
    for (int i = 0; i < 2; i++) {
        cx_config c;
        cx_error e = { 0 };
        trip t = { .countdown = i ? -1 : after };
        char set[64];
        snprintf(set, sizeof set, "run.device=%s", devices[i]);
        load(&c, name, (const char *[]){ "optim.kind=sgd", "optim.lr=0.02", set, NULL });
        const cx_status s = cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &t.stop, .on_step = on_step, .self = &t,
            .resume = i ? CX_RESUME_MUST : CX_RESUME_NEVER }, NULL, 0, &e);
        cx_config_free(&c);
        if (s != (i ? CX_OK : CX_E_INTERRUPTED))
            fail_msg("%s: %s", name, e.text);
    }
}

/* Length of the difference of two checkpoints' weights, over the length of the weights. */
static double weights_apart(const char *a, const char *b, const char *which)
{
    cx_st_file f[2] = { open_weights(a, which), open_weights(b, which) };
    double apart = 0, all = 0;
    assert_int_equal(f[0].n, f[1].n);
    for (int i = 0; i < f[0].n; i++) {
        const cx_st_tensor *x = &f[0].tensors[i], *y = cx_st_find(&f[1], x->name);
        assert_true(y && y->bytes == x->bytes && x->dtype == CX_F32);
        const float *p = x->data, *q = y->data;
        for (size_t k = 0; strncmp(x->name, "optim.", 6) && k < x->bytes / sizeof *p; k++) {
            apart += ((double)p[k] - (double)q[k]) * ((double)p[k] - (double)q[k]);
            all += (double)q[k] * (double)q[k];
        }
    }
    cx_st_free(&f[0]);
    cx_st_free(&f[1]);
    return sqrt(apart / all);
}

/* A run that one device began and another ended is the run of one device, but for the order of float32 sums, which now and then takes a ReLU to the other side:
 * nearer to it than half of what a hundredth less of momentum makes. By SGD: Adam would make a whole step of the sign of a gradient near zero. */
static void test_devices_take_over(void **state)
{
    (void)state;
    if (!has_device("emu"))
        skip();
    train("one_device", (const char *[]){ "optim.kind=sgd", "optim.lr=0.02", NULL });
    train("control", (const char *[]){ "optim.kind=sgd", "optim.lr=0.02", "optim.momentum=0.89", NULL });
    hand_over("to_emu", "cpu", STEPS + 1, "emu");
    hand_over("to_cpu", "emu", STEPS + 1, "cpu");
    const double control = weights_apart("control", "one_device", "last");
    const char *const runs[] = { "to_emu", "to_cpu" }, *const which[] = { "last", "best" };
    for (int i = 0; i < 4; i++) {
        const double apart = weights_apart(runs[i / 2], "one_device", which[i % 2]);
        print_message("%s, %s: %.1e apart; control %.1e\n", runs[i / 2], which[i % 2], apart, control);
        assert_true(apart <= control / 2);
    }
}

/* ---- where films lie -------------------------------------------------------------------------------------------------- */

static cx_status with_films(const char *name, const char *films, int after, cx_resume resume, cx_error *err)
{
    cx_config c;
    trip t = { .countdown = after };
    char set[64];
    snprintf(set, sizeof set, "run.films=%s", films);
    load(&c, name, (const char *[]){ "run.device=emu", "augment.contrast=0.2", "optim.epochs=2", "data.channels=3", set, NULL });
    const cx_status s = cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &t.stop, .on_step = on_step, .self = &t, .resume = resume }, NULL, 0, err);
    cx_config_free(&c);
    return s;
}

/* A file of a run, owned by the caller; without what stands behind the last comma of each line if cut. */
static char *text_of(const char *run, const char *file, bool cut)
{
    char path[400];
    cx_buf b = { 0 }, out = { 0 };
    snprintf(path, sizeof path, "%s/%s/%s", root, run, file);
    assert_cx_ok(cx_file_read(path, 1 << 20, &b, err));
    for (char *line = strtok(b.data, "\n"); line; line = strtok(NULL, "\n")) {
        if (cut && strrchr(line, ','))
            *strrchr(line, ',') = 0;
        cx_buf_printf(&out, "%s\n", line);
    }
    cx_buf_free(&b);
    assert_non_null(out.data);
    return out.data;
}

static void assert_says(const char *run, const char *what)
{
    char *log = text_of(run, "log.txt", false);
    if (!strstr(log, what))
        fail_msg("\"%s\" is not in the log of %s: %s", what, run, log);
    free(log);
}

/* Weights, moments, losses of all epochs, logits of validation and test. */
static void assert_same_run(const char *a, const char *b)
{
    static const char *const file[] = { "predictions.csv", "metrics.csv" };
    assert_same_weights(a, b);
    for (int i = 0; i < 2; i++) {
        char *x = text_of(a, file[i], i == 1), *y = text_of(b, file[i], i == 1);       /* its last column is time */
        assert_string_equal(x, y);
        free(x);
        free(y);
    }
}

/* On a GPU, whoever makes the network's input, from films that lie wherever: the same run, also when that changes in its middle. */
static void test_films_lie_anywhere(void **state)
{
    (void)state;
    static const char *const runs[][2] = { { "host", "films: the host makes the network's input\n" }, { "batch", "films: sent with each batch\n" },
        { "device", "films: all 60 lie on the device, 375.00 KiB\n" }, { "auto", "films: all 60 lie on the device, 375.00 KiB\n" } };
    if (!has_device("emu")) {
        print_message("skipped: the emulated GPU is not built here\n");
        skip();
    }
    for (int i = 0; i < CX_COUNT(runs); i++) {
        assert_cx_ok(with_films(runs[i][0], runs[i][0], 0, CX_RESUME_NEVER, err));
        assert_says(runs[i][0], runs[i][1]);
        assert_same_run("host", runs[i][0]);
    }
    assert_cx_fails(CX_E_INTERRUPTED, "checkpoint", with_films("moved", "device", STEPS - 1, CX_RESUME_NEVER, err));
    assert_cx_fails(CX_E_INTERRUPTED, "checkpoint", with_films("moved", "host", 2, CX_RESUME_MUST, err));
    assert_cx_ok(with_films("moved", "batch", 0, CX_RESUME_MUST, err));
    assert_same_run("host", "moved");
}

/* The network has room on such a device, and so have the films, but for what must stay free. */
static void test_a_device_too_small_for_the_films(void **state)
{
    (void)state;
    if (!has_device("emu"))
        skip();
    setenv("CXNET_EMU_MEMORY", "200000000", 1);
    assert_cx_ok(with_films("small", "auto", 0, CX_RESUME_NEVER, err));
    assert_says("small", "films: sent with each batch; 375.00 KiB of films do not fit beside the network: ");
    assert_cx_fails(CX_E_MEMORY, "run.films: 375.00 KiB of films do not fit beside the network", with_films("none", "device", 0, CX_RESUME_NEVER, err));
    assert_cx_fails(CX_E_MEMORY, "want auto or batch", with_films("none", "device", 0, CX_RESUME_NEVER, err));
    unsetenv("CXNET_EMU_MEMORY");
    assert_same_run("host", "small");
}

static int count_lines(const char *run, const char *file)
{
    char path[400];
    cx_buf b = { 0 };
    int lines = 0;
    snprintf(path, sizeof path, "%s/%s/%s", root, run, file);
    assert_cx_ok(cx_file_read(path, 1 << 20, &b, err));
    for (size_t i = 0; i < b.len; i++)
        lines += b.data[i] == '\n';
    cx_buf_free(&b);
    return lines;
}

static void test_results_are_complete(void **state)
{
    (void)state;
    assert_int_equal(count_lines("whole", "metrics.csv"), 1 + 3);
    assert_int_equal(count_lines("stop1", "metrics.csv"), 1 + 3);
    assert_int_equal(count_lines("whole", "predictions.csv"), 1 + 2 * FILMS / 5);
    const char *files[] = { "metrics.json", "manifest.json", "config.resolved.yaml", "log.txt" };
    for (int i = 0; i < CX_COUNT(files); i++)
        assert_true(count_lines("whole", files[i]) > 3);
    cx_net net;
    char run[320];
    double p[2];
    snprintf(run, sizeof run, "%s/whole", root);
    assert_cx_ok(cx_net_open(run, NULL, 1, &net, err));
    assert_int_equal(net.n_classes, 2);
    assert_string_equal(net.classes[1], "Disease");
    cx_net_probabilities(&net, &(float){ 0 }, p);
    assert_true(p[0] == 0.5 && p[1] == 0.5);
    cx_net_close(&net);
    assert_cx_fails(CX_E_NOINPUT, "no such run", cx_net_open("no/such/run", NULL, 1, &net, err));
}

/* kill -9 in mid-epoch, three times, then to the end: a child process of this program trains. */
static void test_kill_is_survived(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        char after[16];
        snprintf(after, sizeof after, "%d", STEPS - 1 + i);
        pid_t pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "test_run", "--child", root, after, (char *)NULL);
            _exit(127);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    train("killed", NULL);
    assert_same_weights("whole", "killed");
}

static int child(const char *folder, int after)
{
    cx_config c;
    cx_error e = { 0 };
    trip t = { .countdown = after, .kill = true };
    snprintf(root, sizeof root, "%s", folder);
    snprintf(manifest, sizeof manifest, "%s/manifest.csv", root);
    load(&c, "killed", (const char *[]){ "run.checkpoint_steps=1", NULL });
    cx_run_train(&c, &(cx_run_opts){ .quiet = true, .on_step = on_step, .self = &t }, NULL, 0, &e);
    cx_config_free(&c);
    return 1;
}

static cx_status attempt(const char *name, const char *const *more, cx_resume resume, cx_error *err)
{
    cx_config c;
    load(&c, name, more);
    cx_status s = cx_run_train(&c, &(cx_run_opts){ .quiet = true, .resume = resume }, NULL, 0, err);
    cx_config_free(&c);
    return s;
}

/* Other labels, another split or other pixels under the same configuration are another experiment. */
static void test_changed_data_do_not_resume(void **state)
{
    (void)state;
    char film[320];
    cx_buf csv = { 0 };
    train("data", NULL);
    assert_cx_ok(attempt("data", NULL, CX_RESUME_MUST, err));
    assert_cx_ok(cx_file_read(manifest, 1 << 20, &csv, err));
    char *label = strstr(csv.data, "Clear");
    memcpy(label, "Edema", 5);
    assert_cx_ok(cx_file_write(manifest, csv.data, csv.len, err));
    assert_cx_fails(CX_E_CONFIG, "other films, labels or another split", attempt("data", NULL, CX_RESUME_AUTO, err));
    memcpy(label, "Clear", 5);
    char *side = strstr(csv.data, "train\n");
    memcpy(side, "none\r\n", 6);
    assert_cx_ok(cx_file_write(manifest, csv.data, csv.len, err));
    assert_cx_fails(CX_E_CONFIG, "other films, labels or another split", attempt("data", NULL, CX_RESUME_AUTO, err));
    memcpy(side, "train\n", 6);
    assert_cx_ok(cx_file_write(manifest, csv.data, csv.len, err));
    snprintf(film, sizeof film, "%s/f05.png", root);
    write_film(film, SIDE, 1000, 0);
    assert_cx_fails(CX_E_CONFIG, "other films, labels or another split", attempt("data", NULL, CX_RESUME_AUTO, err));
    write_film(film, SIDE, 5, 0);
    assert_cx_ok(attempt("data", NULL, CX_RESUME_MUST, err));
    cx_buf_free(&csv);
}

/* A signal that comes while the films are still being decoded is heeded there, not only at the first step. */
static void test_stop_before_the_first_step(void **state)
{
    (void)state;
    cx_config c;
    trip t = { .stop = 1, .countdown = -1 };
    char set[400];
    snprintf(set, sizeof set, "data.cache=%s/other-cache", root);
    load(&c, "early", (const char *[]){ set, NULL });
    assert_cx_fails(CX_E_INTERRUPTED, "were decoded", cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &t.stop, .on_step = on_step, .self = &t },
        NULL, 0, err));
    assert_int_equal(t.countdown, -1);
    t.stop = 0;
    assert_cx_ok(cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &t.stop }, NULL, 0, err));
    cx_config_free(&c);
    assert_same_weights("whole", "early");
}

static void intrude(void *self, int epoch, int step)
{
    cx_status *s = self;
    if (epoch == 1 && step == 2) {
        cx_error e = { 0 };
        s[0] = attempt("shared", NULL, CX_RESUME_AUTO, &e);
        s[1] = attempt("shared", NULL, CX_RESUME_NEVER, &e);
    }
}

static void test_two_runs_do_not_share_a_folder(void **state)
{
    (void)state;
    cx_config c;
    cx_status s[2] = { CX_OK, CX_OK };
    load(&c, "shared", NULL);
    assert_cx_ok(cx_run_train(&c, &(cx_run_opts){ .quiet = true, .on_step = intrude, .self = s }, NULL, 0, err));
    cx_config_free(&c);
    assert_int_equal(s[0], CX_E_CREATE);
    assert_int_equal(s[1], CX_E_CREATE);
    assert_same_weights("whole", "shared");
    assert_cx_ok(attempt("shared", NULL, CX_RESUME_NEVER, err));          /* the lock ends with the run */
}

static void test_errors_are_clear(void **state)
{
    (void)state;
    char path[400];
    assert_cx_fails(CX_E_NOINPUT, "no checkpoint to resume from", attempt("fresh", NULL, CX_RESUME_MUST, err));
    assert_cx_fails(CX_E_CONFIG, "lr: 0.5", attempt("whole", (const char *[]){ "optim.lr=0.5", NULL }, CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_CONFIG, "class \"Tumour\"", attempt("bad", (const char *[]){ "data.classes=[Clear, Tumour]", NULL }, CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_CONFIG, "no film takes part", attempt("bad", (const char *[]){ "data.views=[PA]", NULL }, CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_CONFIG, "data.sources: no film", attempt("bad", (const char *[]){ "data.sources=[a, c]", NULL }, CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_CONFIG, "data.label_sets: no film", attempt("bad", (const char *[]){ "data.task=multilabel",
        "data.classes=[Opacity, Edema]", "data.label_sets=[\"c:Opacity\"]", NULL }, CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_CONFIG, "no parameter of base_cnn matches", attempt("bad", (const char *[]){ "model.freeze=[nothing.*]", NULL },
        CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_CONFIG, "nothing to train", attempt("bad", (const char *[]){ "model.freeze=[\"*\"]", NULL }, CX_RESUME_AUTO, err));
    assert_cx_fails(CX_E_NOINPUT, "absent.csv", attempt("bad", (const char *[]){ "data.manifest=absent.csv", NULL }, CX_RESUME_AUTO, err));
    const char *early[][2] = { { "model.freeze=[nothing.*]", "matches" }, { "run.device=abacus", "abacus" }, { "model.weights=absent.safetensors", "absent" },
        { "data.side=32", "side" }, { "run.films=device", "backend cpu is the host" } };
    for (int i = 0; i < CX_COUNT(early); i++) {                            /* known without a film: said before any is sought */
        cx_error e = { 0 };
        assert_int_not_equal(attempt("never", (const char *[]){ "data.manifest=absent.csv", early[i][0], NULL }, CX_RESUME_AUTO, &e), CX_OK);
        assert_non_null(strstr(e.text, early[i][1]));
    }
    snprintf(path, sizeof path, "%s/never", root);
    assert_false(cx_file_exists(path));
    snprintf(path, sizeof path, "%s/whole/checkpoints/last.safetensors", root);
    assert_cx_ok(cx_file_write(path, "garbage", 7, err));
    assert_cx_fails(CX_E_DATA, "last.safetensors", attempt("whole", NULL, CX_RESUME_AUTO, err));
    assert_cx_ok(attempt("whole", (const char *[]){ "optim.epochs=1", NULL }, CX_RESUME_NEVER, err));
    snprintf(path, sizeof path, "%s/whole.old-1/metrics.csv", root);       /* starting over loses nothing */
    assert_true(cx_file_exists(path));
}

static void weights_all(const char *path, const char *const *more, cx_value_kind kind, float x)
{
    cx_config c;
    load(&c, "nan", more);
    write_equal_weights(path, &c, kind, x);
    cx_config_free(&c);
}

/* Weights far out of range overflow in the first forward pass: the run stops and names its films. */
static void test_nan_names_the_films(void **state)
{
    (void)state;
    char path[320], set[400];
    snprintf(path, sizeof path, "%s/huge.safetensors", root);
    snprintf(set, sizeof set, "model.weights=%s", path);
    weights_all(path, NULL, CX_PARAM, 1e15f);
    assert_cx_fails(CX_E_NAN, ".png", attempt("nan", (const char *[]){ set, NULL }, CX_RESUME_AUTO, err));
    assert_int_equal(cx_exit_code(CX_E_NAN), 70);
}

/* Running statistics that are not finite leave training as it is and show in evaluation only. */
static void test_nan_in_evaluation_stops(void **state)
{
    (void)state;
    char path[320], set[400];
    snprintf(path, sizeof path, "%s/state.safetensors", root);
    snprintf(set, sizeof set, "model.weights=%s", path);
    weights_all(path, (const char *[]){ "model.arch=densenet121", "data.side=32", NULL }, CX_STATE, NAN);
    assert_cx_fails(CX_E_NAN, ".png: the network answers", attempt("nan2", (const char *[]){ "model.arch=densenet121", "data.side=32", set, NULL },
        CX_RESUME_AUTO, err));
}

static void test_other_tasks(void **state)
{
    (void)state;
    train("multilabel", (const char *[]){ "data.task=multilabel", "data.classes=[Opacity, Edema]", "data.label_sets=[\"a:Opacity\"]",
        "optim.epochs=1", NULL });
    train("multiclass", (const char *[]){ "data.task=multiclass", "data.classes=[Clear, Opacity, Edema]", "optim.epochs=1",
                                          "schedule.kind=cosine", "schedule.warmup_epochs=0.5", NULL });
    assert_int_equal(count_lines("multilabel", "predictions.csv"), 1 + 2 * FILMS / 5);
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--child"))
        return child(argv[2], atoi(argv[3]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_resume_is_bit_identical),
        cmocka_unit_test(test_devices_take_over),
        cmocka_unit_test(test_films_lie_anywhere),
        cmocka_unit_test(test_a_device_too_small_for_the_films),
        cmocka_unit_test(test_results_are_complete),
        cmocka_unit_test(test_kill_is_survived),
        cmocka_unit_test(test_other_tasks),
        cmocka_unit_test(test_changed_data_do_not_resume),
        cmocka_unit_test(test_stop_before_the_first_step),
        cmocka_unit_test(test_two_runs_do_not_share_a_folder),
        cmocka_unit_test(test_nan_names_the_films),
        cmocka_unit_test(test_nan_in_evaluation_stops),
        cmocka_unit_test(test_errors_are_clear),
    };
    return cmocka_run_group_tests(tests, setup, remove_squares);
}
