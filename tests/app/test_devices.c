/* test_devices.c - `cxnet devices` and --device: what is here is listed, what is not says why, and "auto" always ends with a device. */
#include "backend.h"
#include "program.h"

static bool has_gpu(void)
{
    cx_backend *b = NULL;
    cx_error e = { 0 };
    if (cx_backend_open("cuda", 0, &b, &e) != CX_OK)
        return false;
    cx_backend_close(b);
    return true;
}

static void test_lists_what_is_here(void **state)
{
    (void)state;
    assert_runs(0, "cpu:portable", "", "devices");
    assert_runs(0, "\ncuda", "", "devices");
    if (!has_gpu())
        assert_runs(0, "cuda               cuda: ", "", "devices");
}

/* One line that says why. */
static void test_auto_without_a_gpu(void **state)
{
    (void)state;
    if (has_gpu()) {
        print_message("skipped: a GPU is here, so auto takes it\n");
        skip();
    }
    assert_runs(0, "films/s", "device auto: the CPU, since cuda: ", "bench train --model base_cnn --side 65 --batch 1 --steps 1 --threads 1 --device auto");
    const char *after = strchr(run_program("bench infer --model base_cnn --side 65 --batch 1 --steps 1 --threads 1 --device auto")->err, '\n');
    assert_true(after && after[1] == '\0');
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
        cmocka_unit_test(test_plugins_that_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
