/* test_devices.c - `cxnet devices` and --device: what is here is listed, what is not says why, "auto" always ends with a device, and a
 * run may go from one to another. */
#include "backend.h"
#include "app/cohort.h"

static void test_lists_what_is_here(void **state)
{
    (void)state;
    assert_runs(0, "cpu:portable", "", "devices");
    assert_runs(0, "\ncuda", "", "devices");
    if (!has_device("cuda"))
        assert_runs(0, "cuda               cuda: ", "", "devices");
}

/* One line that says why. */
static void test_auto_without_a_gpu(void **state)
{
    (void)state;
    if (has_device("cuda")) {
        print_message("skipped: a GPU is here, so auto takes it\n");
        skip();
    }
    assert_runs(0, "films/s", "device auto: the CPU, since cuda: ", "bench train --model base_cnn --side 65 --batch 1 --steps 1 --threads 1 --device auto");
    const char *after = strchr(run_program("bench infer --model base_cnn --side 65 --batch 1 --steps 1 --threads 1 --device auto")->err, '\n');
    assert_true(after && after[1] == '\0');
}

/* Training says it once, as the first of what it says. */
static void test_training_says_why(void **state)
{
    (void)state;
    if (has_device("cuda")) {
        print_message("skipped: a GPU is here, so auto takes it\n");
        skip();
    }
    write_experiment(1);
    const ran *r = run_program("train %s/e.yaml --name auto --device auto", dir);
    const char *line = "device auto: the CPU, since cuda: ";
    assert_int_equal(r->code, 0);
    if (strncmp(r->err, line, strlen(line)) != 0 || strstr(r->err, "\ndevice"))
        fail_msg("stderr: %s", r->err);
    assert_runs(69, "", "cuda: ", "train %s/e.yaml --name cuda --device cuda", dir);
}

/* One flag in every verb that runs a network, with one text. */
static void test_every_verb_takes_a_device(void **state)
{
    (void)state;
    write_experiment(1);
    static const char *const verbs[] = { "train", "plan", "bench", "explain", "demo" };
    for (int i = 0; i < CX_COUNT(verbs); i++) {
        assert_runs(0, "--device NAME", "", "help %s", verbs[i]);
        assert_runs(0, "`cxnet devices` lists them", "", "help %s", verbs[i]);
    }
    assert_runs(69, "", "no backend is called 'gpu': want auto, cpu,", "train %s/e.yaml --device gpu", dir);
    assert_runs(69, "", "no backend is called 'gpu': want auto, cpu,", "plan %s/e.yaml --device gpu", dir);
    assert_runs(69, "", "no backend is called 'gpu': want auto, cpu,", "bench roof --device gpu");
    const ran *demo = run_program("demo --out %s/demo --quick --device gpu", dir);
    char *folder = cx_path_join(dir, "demo");
    assert_int_equal(demo->code, 69);
    assert_string_equal(demo->out, "");                                     /* said before anything is drawn */
    assert_non_null(strstr(demo->err, "no backend is called 'gpu': want auto, cpu,"));
    assert_false(cx_is_dir(folder));
    free(folder);
    assert_runs(64, "", "--device wants a value", "plan %s/e.yaml --device", dir);
    if (has_device("emu"))
        assert_runs(69, "", "is not known", "bench roof --device emu");
    assert_runs(0, "portable", "", "plan %s/e.yaml --device cpu:portable", dir);
}

/* The probabilities of predictions.csv, film by film; free() them. */
static float *predictions(const char *run, int64_t *n)
{
    char path[200];
    cx_csv csv;
    snprintf(path, sizeof path, "%s/runs/%s/predictions.csv", dir, run);
    assert_cx_ok(cx_csv_load(path, &csv, err));
    int at = 0;
    while (at < csv.columns && strncmp(cx_csv_at(&csv, 0, at), "p_", 2))
        at++;
    *n = csv.rows - 1;
    float *p = cx_alloc((size_t)*n, sizeof *p);
    for (int i = 0; i < *n; i++)
        p[i] = strtof(cx_csv_at(&csv, i + 1, at), NULL);
    cx_csv_free(&csv);
    return p;
}

/* A run that the CPU has trained: with --device it is measured again on another one, and from then on that is its own. */
static void test_a_run_changes_its_device(void **state)
{
    (void)state;
    if (!has_device("emu"))
        skip();
    int64_t n[2];
    float *p[2];
    write_experiment(2);
    assert_runs(0, "AUROC", "", "train %s/e.yaml --name moved", dir);
    p[0] = predictions("moved", &n[0]);
    assert_runs(0, "AUROC", "device: emulated GPU", "train %s/e.yaml --name moved --resume must --device emu", dir);
    p[1] = predictions("moved", &n[1]);
    assert_int_equal(n[0], n[1]);
    assert_close("probability", p[1], p[0], n[0], 0, 1e-5);
    free(p[0]), free(p[1]);
    char config[200];
    cx_buf b = { 0 };
    snprintf(config, sizeof config, "%s/runs/moved/config.resolved.yaml", dir);
    assert_cx_ok(cx_file_read(config, 1 << 20, &b, err));
    assert_non_null(strstr(b.data, "device: emu"));
    cx_buf_free(&b);
    char *plugins = cx_strdup(getenv("CXNET_PLUGINS"));
    setenv("CXNET_PLUGINS", dir, 1);                    /* elsewhere there is no such device */
    assert_runs(69, "", "--device takes another", "explain %s/runs/moved --in %s/films --out %s/seen", dir, dir, dir);
    setenv("CXNET_PLUGINS", plugins, 1);
    free(plugins);
}

static void test_wrong_names(void **state)
{
    (void)state;
    cx_backend *b;
    assert_cx_fails(CX_E_UNSUPPORTED, "want auto, cpu,", cx_backend_open("gpu", 0, &b, err));
    assert_cx_fails(CX_E_UNSUPPORTED, "no backend is called", cx_backend_open("cuda:", 0, &b, err));
    assert_cx_fails(CX_E_UNSUPPORTED, "no backend is called", cx_backend_open("cuda:x", 0, &b, err));
    assert_cx_fails(CX_E_UNSUPPORTED, "no backend is called", cx_backend_open("cudas", 0, &b, err));
    assert_null(b);
    assert_cx_fails(CX_E_UNSUPPORTED, "cuda", cx_backend_open("cuda:77", 0, &b, err));
}

/* A plug-in that is not there, and a file that is none. */
static void test_plugins_that_fail(void **state)
{
    (void)state;
    char folder[] = "/tmp/cxnet-plugins-XXXXXX", *file;
    const char *before = getenv("CXNET_PLUGINS");
    char *keep = before ? cx_strdup(before) : NULL;
    cx_backend *b;
    assert_non_null(mkdtemp(folder));
    setenv("CXNET_PLUGINS", folder, 1);
    assert_cx_fails(CX_E_UNSUPPORTED, "libcxnet_emu.so", cx_backend_open("emu", 0, &b, err));
    file = cx_path_join(folder, "libcxnet_emu.so");
    FILE *f = fopen(file, "w");
    fputs("no shared object", f);
    fclose(f);
    assert_cx_fails(CX_E_UNSUPPORTED, "libcxnet_emu.so", cx_backend_open("emu", 0, &b, err));
    assert_null(b);
    remove(file);
    remove(folder);
    free(file);
    keep ? setenv("CXNET_PLUGINS", keep, 1) : unsetenv("CXNET_PLUGINS");
    free(keep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_what_is_here), cmocka_unit_test(test_auto_without_a_gpu), cmocka_unit_test(test_wrong_names),
        cmocka_unit_test(test_plugins_that_fail), cmocka_unit_test(test_training_says_why), cmocka_unit_test(test_every_verb_takes_a_device),
        cmocka_unit_test(test_a_run_changes_its_device),
    };
    return cmocka_run_group_tests(tests, make_cohort, remove_cohort);
}
