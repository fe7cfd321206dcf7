/* test_cudnn_graphs.c - every convolution that the CUDA backend hands to cuDNN for our networks is one that the real libcudnn plans for sm_90, with an engine
 * of the kind that cudnn_graph.h promises. Which those are comes from real plans: of every network, at several sides and batches, for training and evaluation,
 * in both precisions, made on the emulated GPU and read back from the file that it keeps. No GPU is needed: the properties of one stand in for it. */
#include "app/program.h"
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cxnet/graph.h"
#include "cxnet/model.h"
#ifdef CX_CUDNN
#include "cuda/cudnn_graph.h"
#include "cuda/misuse.h"
#endif

static const struct { cx_model_spec spec; cx_loss_kind loss; } networks[] = {
    { { .arch = "densenet121", .side = 224, .channels = 3, .outputs = 14 }, CX_LOSS_BCE },
    { { .arch = "densenet121", .side = 320, .channels = 3, .outputs = 14 }, CX_LOSS_BCE },
    { { .arch = "densenet169", .side = 224, .channels = 3, .outputs = 2 }, CX_LOSS_BCE },
    { { .arch = "densenet169", .side = 320, .channels = 3, .outputs = 2 }, CX_LOSS_BCE },
    { { .arch = "densenet201", .side = 224, .channels = 3, .outputs = 2 }, CX_LOSS_BCE },
    { { .arch = "densenet201", .side = 320, .channels = 3, .outputs = 2 }, CX_LOSS_BCE },
    { { .arch = "base_cnn", .side = 224, .channels = 1, .outputs = 1 }, CX_LOSS_BCE },
    { { .arch = "unet", .side = 256, .channels = 1, .outputs = 1 }, CX_LOSS_DICE },
    { { .arch = "unet", .side = 256, .channels = 1, .outputs = 1, .norm = true }, CX_LOSS_DICE },
};
static const int batches[] = { 1, 16, 32 };

static cx_status describe(cx_store *s, const cx_model *m, int loss, cx_error *err)
{
    for (int i = 0; i < CX_COUNT(batches); i++)
        for (int training = 0; training < 2; training++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                cx_plan_stats stats;
                const cx_plan_opts o = { .batch = batches[i], .training = training, .backward = training, .param_grads = training, .bf16 = bf16,
                    .output = training ? loss : m->logits };
                TRY(cx_plan_describe(s, &o, &stats, err));
            }
    return CX_OK;
}

static cx_status plan_all(cx_backend *b, void *context, cx_error *err)
{
    (void)context;
    for (int i = 0; i < CX_COUNT(networks); i++) {
        cx_model m;
        cx_store *s;
        int target, weights;
        TRY(cx_model_new(&networks[i].spec, &m, err));
        const int loss = cx_model_loss(&m, networks[i].loss, 0, &target, &weights);
        TRY(cx_graph_check(m.graph, err));
        TRY(cx_store_new(m.graph, b, 0, &s, err));
        TRY(describe(s, &m, loss, err));
        cx_store_free(s);
        cx_model_free(&m);
    }
    return CX_OK;
}

/* ---- the file of plans, in a folder of its own -------------------------------------------------------------------------- */

static char folder[] = "/tmp/cxnet-plans-XXXXXX";
static cx_buf properties;

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("CXNET_CACHE", folder, 1);
    assert_cx_ok(cx_file_read("tests/cuda/h100.json", 1 << 16, &properties, err));
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char *command = cx_sprintf("rm -r %s", folder);
    const int failed = system(command);
    free(command);
    cx_buf_free(&properties);
    return failed;
}

static bool have_emulator(void)
{
    cx_backend *b = NULL;
    if (cx_backend_open("emu", 1, &b, NULL) != CX_OK)
        return false;
    cx_backend_close(b);
    return true;
}

static cx_status plan_unet(cx_backend *b, void *context, cx_error *err)
{
    (void)context;
    const cx_model_spec spec = { .arch = "unet", .side = 16, .channels = 1, .outputs = 1, .base = 8, .depth = 2 };
    cx_model m;
    cx_store *s;
    int target, weights;
    TRY(cx_model_new(&spec, &m, err));
    const int loss = cx_model_loss(&m, CX_LOSS_DICE, 0, &target, &weights);
    TRY(cx_graph_check(m.graph, err));
    TRY(cx_store_new(m.graph, b, 0, &s, err));
    TRY(describe(s, &m, loss, err));
    cx_store_free(s);
    cx_model_free(&m);
    return CX_OK;
}

static cx_status refuse(cx_backend *b, void *context, cx_error *err)
{
    (void)b, (void)context;
    return cx_fail(err, CX_E_CONFIG, "no such network");
}

static cx_warmed warm(void)
{
    cx_warmed w;
    assert_cx_ok(cx_backend_warm("emu", properties.data, plan_unet, NULL, &w, err));
    assert_true(w.plans > 10);
    return w;
}

/* A second start compiles nothing; a file that is not what was written is told and replaced. */
static void test_plans_are_kept(void **state)
{
    (void)state;
    if (!have_emulator()) {
        print_message("skipped: this build has no emulated GPU\n");
        skip();
    }
    const cx_warmed first = warm(), second = warm();
    assert_int_equal(first.made, first.plans);
    assert_int_equal(second.made, 0);
    assert_int_equal(second.plans, first.plans);
    assert_string_equal(first.note, "");
    cx_buf text = { 0 };
    assert_cx_ok(cx_file_read(first.path, 1 << 24, &text, err));
    for (int how = 0; how < 4; how++) {
        char *bad = cx_strdup(text.data);
        if (how == 0)
            bad[text.len / 2] = '\0';                                   /* cut short */
        else if (how == 1)
            strstr(bad, "standin")[0] = 'S';                            /* a changed byte */
        else
            snprintf(bad, text.len, "%s", how == 2 ? "[]" : "{\"plans\": {\"x\": 1}, \"sha256\": \"\"}");
        assert_cx_ok(cx_file_write(first.path, bad, strlen(bad), err));
        free(bad);
        const cx_warmed again = warm();
        assert_non_null(strstr(again.note, first.path));
        assert_in_range(again.made, first.plans, first.plans + 1);
        const cx_warmed then = warm();
        assert_string_equal(then.note, "");
        assert_int_equal(then.made, 0);
    }
    cx_buf_free(&text);
}

static void test_warming_fails(void **state)
{
    (void)state;
    cx_warmed w;
    assert_cx_fails(CX_E_UNSUPPORTED, "libcxnet_none.so", cx_backend_warm("none", properties.data, refuse, NULL, &w, err));
    if (!have_emulator())
        skip();
    assert_cx_fails(CX_E_DATA, "line 1", cx_backend_warm("emu", "no JSON", refuse, NULL, &w, err));
    assert_cx_fails(CX_E_DATA, "deviceName", cx_backend_warm("emu", "{}", refuse, NULL, &w, err));
    assert_cx_fails(CX_E_DATA, "cudnn", cx_backend_warm("emu", "{\"deviceName\": \"x\", \"deviceVer\": 900}", refuse, NULL, &w, err));
    assert_cx_fails(CX_E_CONFIG, "no such network", cx_backend_warm("emu", properties.data, refuse, NULL, &w, err));
    setenv("CXNET_CUDNN", "none", 1);
    assert_cx_fails(CX_E_UNSUPPORTED, "CXNET_CUDNN", cx_backend_warm("emu", properties.data, refuse, NULL, &w, err));
    unsetenv("CXNET_CUDNN");
    setenv("CXNET_CACHE", "", 1);
    assert_cx_fails(CX_E_USAGE, "CXNET_CACHE", cx_backend_warm("emu", properties.data, refuse, NULL, &w, err));
    setenv("CXNET_CACHE", "/dev/null/x", 1);
    assert_cx_fails(CX_E_CREATE, "/dev/null", cx_backend_warm("emu", properties.data, plan_unet, NULL, &w, err));
    setenv("CXNET_CACHE", folder, 1);
}

static void test_verb(void **state)
{
    (void)state;
    assert_runs(64, "", "want --device-json", "cuda warm");
    assert_runs(66, "", "none.json", "cuda warm --device-json none.json");
    if (!have_emulator())
        skip();
    assert_runs(65, "", "README.md", "cuda warm --device emu --device-json README.md");
    assert_runs(0, " new\n", "", "cuda warm --device emu --device-json tests/cuda/h100.json --batch 1 --set data.side=65");
    assert_runs(0, " 0 of them new\n", "", "cuda warm --device emu --device-json tests/cuda/h100.json --batch 1 --set data.side=65");
}

/* ---- the real library --------------------------------------------------------------------------------------------------- */

#ifdef CX_CUDNN
enum { ACCEPTED, REFUSED, BROKEN };

static char ask(cx_cudnn_device *d, const char *text)
{
    cx_cudnn_conv g;
    cx_cudnn_plan *p, *again;
    if (!cx_cudnn_conv_parse(text, &g) || cx_cudnn_plan_new(d, &g, &p, NULL) != CX_OK)
        return REFUSED;
    if (cx_cudnn_plan_load(d, cx_cudnn_plan_json(p), &again, NULL) != CX_OK || cx_cudnn_plan_workspace(p) != cx_cudnn_plan_workspace(again))
        return BROKEN;
    cx_cudnn_plan_free(again);
    cx_cudnn_plan_free(p);
    return ACCEPTED;
}

/* Asks in a process of its own, since cuDNN has graphs that it crashes on: the one that it was at is broken then, and another process goes on behind it. */
static void ask_all(cx_cudnn_device *d, const char *const *text, int n, char *answer)
{
    for (int at = 0; at < n; ) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        fflush(stdout);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (; at < n; at++) {
                const char a = ask(d, text[at]);
                if (write(ends[1], &a, 1) != 1)
                    _exit(1);
            }
            _exit(0);
        }
        close(ends[1]);
        while (at < n && read(ends[0], &answer[at], 1) == 1)
            at++;
        close(ends[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
        if (at < n)
            answer[at++] = BROKEN;
    }
}

/* What cuDNN itself would let pass. */
static void test_wrong_graphs(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "fprop bf16 x 2x8x8x32 w 16x3x3x16 y 2x8x8x16 stride 1 pad 1 1 1 1 ld 32 16",       /* two groups */
        "fprop bf16 x 2x8x8x32 w 16x3x3x32 y 2x8x8x8 stride 1 pad 1 1 1 1 ld 32 8",         /* outputs that are not there */
        "fprop bf16 x 2x8x8x32 w 16x3x3x32 y 2x8x8x16 stride 1 pad 1 1 1 1 ld 31 16",       /* pixels that overlap */
        "fprop bf16 x 2x8x8x32 w 16x3x3x32 y 2x8x8x16 stride 1 pad 1 1 1 1 ld 32 8",
        "dgrad f32 x 2x8x8x32 w 16x3x3x32 y 2x8x7x16 stride 1 pad 1 1 1 1 ld 32 16",        /* not of this window */
        "wgrad f32 x 2x8x8x32 w 16x3x3x32 y 1x8x8x16 stride 1 pad 1 1 1 1 ld 32 16",
        "wgrad f32 x 2x8x8x32 w 16x3x3x32 y 2x8x8x16 stride 0 pad 1 1 1 1 ld 32 16",
        "wgrad f32 x 0x8x8x32 w 16x3x3x32 y 0x8x8x16 stride 1 pad 1 1 1 1 ld 32 16",
    };
    cx_cudnn_device *d = NULL;
    if (cx_cudnn_device_new(properties.data, &d, NULL) != CX_OK)
        skip();
    for (int i = 0; i < CX_COUNT(wrong); i++) {
        cx_cudnn_conv g;
        cx_cudnn_plan *p;
        assert_true(cx_cudnn_conv_parse(wrong[i], &g));
        assert_cx_fails(CX_E_SHAPE, "cudnn", cx_cudnn_plan_new(d, &g, &p, err));
        assert_null(p);
    }
    cx_cudnn_plan *p;
    assert_cx_fails(CX_E_DATA, "stored plan", cx_cudnn_plan_load(d, "{}", &p, err));
    cx_cudnn_device_free(d);
}

static void test_libcudnn_plans_all(void **state)
{
    (void)state;
    cx_cudnn_device *d = NULL;
    cx_error why = { 0 };
    cx_warmed w;
    if (!have_emulator() || cx_cudnn_device_new(properties.data, &d, &why) != CX_OK) {
        print_message("skipped: no cuDNN here: %s\n", why.text);
        skip();
    }
    assert_cx_ok(cx_backend_warm("emu", properties.data, plan_all, NULL, &w, err));
    json_t *file = json_load_file(w.path, 0, NULL), *all = json_object_get(file, "plans"), *plan;
    const int n = (int)json_object_size(all);
    const char *key, **text = cx_alloc((size_t)n, sizeof *text);
    char *answer = cx_alloc((size_t)n, 1);
    int at = 0, count[BROKEN + 1] = { 0 };
    assert_true(n > 100 && text && answer);
    json_object_foreach(all, key, plan)
        text[at++] = key;
    ask_all(d, text, n, answer);
    for (int i = 0; i < n; i++) {
        count[(int)answer[i]]++;
        if (answer[i] != ACCEPTED)
            print_message("%s: %s\n", text[i], answer[i] == REFUSED ? "refused" : "broken");
    }
    print_message("cuDNN %d, sm_90: %d convolutions planned, %d refused, %d broken\n", cx_cudnn_version(d), count[ACCEPTED], count[REFUSED], count[BROKEN]);
    assert_int_equal(count[ACCEPTED], n);
    cx_cudnn_device_free(d);
    free(text);
    free(answer);
    json_decref(file);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_are_kept), cmocka_unit_test(test_warming_fails), cmocka_unit_test(test_verb),
#ifdef CX_CUDNN
        cmocka_unit_test(test_misuse_is_refused), cmocka_unit_test(test_wrong_graphs), cmocka_unit_test(test_libcudnn_plans_all),
#endif
    };
    (void)plan_all;
#ifndef CX_CUDNN
    print_message("skipped: built without cuDNN's headers, so no graph is shown to the real library\n");
#endif
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
