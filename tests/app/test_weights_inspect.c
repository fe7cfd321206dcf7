/* test_weights_inspect.c - `cxnet weights inspect`: the table, the totals and the file's own words, as text and JSON; refusals with their exit codes. */
#include "app/program.h"
#include "weights/sandboxed.h"
#include <jansson.h>
#include <unistd.h>
#include "cxnet/weights.h"

static char path[64];

static int write_file(void **state)
{
    (void)state;
    static const float kernel[] = { -1.5f, 2, 3, 0.5f }, bias = 4;
    static const int64_t count = 7;
    static const cx_st_tensor tensors[] = {
        { "conv/kernel", CX_F32, 2, { 2, 2 }, kernel, sizeof kernel }, { "conv/bias", CX_F32, 1, { 1 }, &bias, sizeof bias },
        { "steps", CX_I64, 0, { 0 }, &count, sizeof count },
    };
    static char words[300];
    memset(words, 'w', sizeof words - 1);
    const cx_st_meta meta[] = { { "format", "pt" }, { "note", "made by hand" }, { "long", words } };
    snprintf(path, sizeof path, "/tmp/cxnet_inspect_%d.bin", (int)getpid());
    return cx_st_write(path, tensors, CX_COUNT(tensors), meta, CX_COUNT(meta), NULL) != CX_OK;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void a_table_is_printed(void **state)
{
    (void)state;
    char sha256[65], line[100];
    assert_cx_ok(cx_sha256_file(path, sha256, err));
    snprintf(line, sizeof line, "%-20s %s\n", "source.sha256", sha256);
    assert_runs(0, line, "", "weights inspect %s", path);
    const char *out = run_program("weights inspect %s", path)->out;
    static const char *const lines[] = {
        "format               safetensors\n", "source.format        pt\n", "note                 made by hand\n",
        "long                 (299 bytes; --json prints them)\n",
        "conv/kernel                                      F32   2x2                        -1.5            3            1\n",
        "conv/bias                                        F32   1                             4            4            4\n",
        "steps                                            I64   one number                    7            7            7\n", "\n3 tensors, 6 numbers, 28 B\n",
    };
    for (int i = 0; i < CX_COUNT(lines); i++)
        if (!strstr(out, lines[i]))
            fail_msg("lacks \"%s\": %s", lines[i], out);
}

static void json_says_the_same(void **state)
{
    (void)state;
    json_error_t e;
    json_t *j = json_loads(run_program("weights inspect %s --json", path)->out, 0, &e);
    const json_t *tensors = json_object_get(j, "tensors"), *kernel = json_array_get(tensors, 0);
    assert_non_null(j);
    assert_int_equal(json_array_size(tensors), 3);
    assert_int_equal(json_integer_value(json_object_get(j, "numbers")), 6);
    assert_int_equal(json_integer_value(json_object_get(j, "bytes")), 28);
    assert_string_equal(json_string_value(json_object_get(kernel, "name")), "conv/kernel");
    assert_string_equal(json_string_value(json_object_get(kernel, "dtype")), "F32");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(kernel, "shape"), 1)), 2);
    assert_true(json_real_value(json_object_get(kernel, "min")) == -1.5 && json_real_value(json_object_get(kernel, "max")) == 3);
    assert_true(json_real_value(json_object_get(kernel, "mean")) == 1);
    assert_int_equal(json_string_length(json_object_get(json_object_get(j, "meta"), "long")), 299);
    json_decref(j);
}

static void refusals_have_their_codes(void **state)
{
    (void)state;
    assert_runs(65, "", "CMakeLists.txt: is no weight file that is read here", "weights inspect CMakeLists.txt");
    assert_runs(66, "", "no/such.h5", "weights inspect no/such.h5");
    assert_runs(64, "", "weights inspect wants FILE", "weights inspect");
    assert_runs(64, "", "knows inspect", "weights everything");
    assert_runs(0, "usage: cxnet weights inspect FILE", "", "help weights inspect");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_printed), cmocka_unit_test(json_says_the_same), cmocka_unit_test(refusals_have_their_codes),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, write_file, remove_file) : 0;
}
