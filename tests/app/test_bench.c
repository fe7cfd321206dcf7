/* test_bench.c - `cxnet bench` reports what it promises; no time is judged. */
#include <jansson.h>
#include "program.h"

static json_t *bench(const char *args)
{
    const ran *r = run_program("bench %s --json", args);
    if (r->code != 0)
        fail_msg("bench %s: exit %d: %s", args, r->code, r->err);
    json_t *j = json_loads(r->out, 0, NULL);
    assert_non_null(j);
    return j;
}

static double number(json_t *j, const char *a, const char *b)
{
    json_t *x = json_object_get(j, a);
    return json_number_value(b ? json_object_get(x, b) : x);
}

/* The higher of the two measurements; all figures but that of bf16 are above zero. */
static double roof(json_t *j, const char *figure)
{
    json_t *r = json_object_get(j, "roof");
    double a = number(r, "before", figure), b = number(r, "after", figure);
    assert_true(isfinite(a) && isfinite(b) && a > 0 && b > 0);
    return a > b ? a : b;
}

static void assert_near(const char *what, double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fabs(want)))
        fail_msg("%s is %.17g, want %.17g", what, got, want);
}

/* A core that vanished between the two measurements is said, and nothing else is. */
static void check_unsteady(json_t *j)
{
    json_t *r = json_object_get(j, "roof");
    double a = number(r, "before", "fp32_gflops"), b = number(r, "after", "fp32_gflops"), moved = fabs(a - b) / (a > b ? a : b);
    assert_near("moved", 1 + number(r, "moved", NULL), 1 + moved);
    assert_true(json_is_boolean(json_object_get(j, "unsteady")));
    assert_int_equal(json_is_true(json_object_get(j, "unsteady")), moved > 0.15);
    assert_true(number(r, "memory_bytes", NULL) > 0);
}

static void test_networks(void **state)
{
    (void)state;
    json_t *infer = bench("infer --model base_cnn --side 65 --batch 2 --steps 3 --threads 1");
    json_t *train = bench("train --model base_cnn --side 65 --batch 2 --steps 3 --threads 1");
    assert_true(number(infer, "films_per_s", "median") > 0);
    assert_true(number(infer, "films_per_s", "min") <= number(infer, "films_per_s", "median"));
    assert_true(number(infer, "films_per_s", "max") >= number(infer, "films_per_s", "median"));
    assert_true(number(train, "gflop_per_film", NULL) > 2 * number(infer, "gflop_per_film", NULL));
    assert_true(number(train, "arena_bytes", "opt") == 2 * number(train, "arena_bytes", "grad"));
    assert_true(number(infer, "arena_bytes", "opt") == 0);
    assert_true(number(train, "arena_bytes", "act") > number(infer, "arena_bytes", "act"));
    assert_true(number(train, "peak_rss_bytes", NULL) > number(train, "arena_bytes", "act"));
    assert_true(number(train, "threads", NULL) == 1);
    assert_true(number(train, "start_s", NULL) > 0);
    assert_near("gflop_per_s", number(train, "gflop_per_s", NULL), number(train, "gflop_per_film", NULL) * number(train, "films_per_s", "median"));
    assert_near("percent_of_fp32_peak", number(train, "percent_of_fp32_peak", NULL), 100 * number(train, "gflop_per_s", NULL) / roof(train, "fp32_gflops"));
    check_unsteady(infer);
    check_unsteady(train);
    assert_string_equal(json_string_value(json_object_get(train, "precision")), "float32");
    json_decref(infer);
    json_decref(train);
    json_t *bf16 = bench("train --model unet --channels 1 --side 16 --batch 1 --steps 1 --threads 1 --precision bf16 --lean");
    assert_string_equal(json_string_value(json_object_get(bf16, "precision")), "bf16");
    assert_true(json_is_true(json_object_get(bf16, "lean")));
    json_decref(bf16);
    assert_runs(64, "", "--precision: want float32 or bf16, got \"fp16\"", "bench train --precision fp16");
    assert_runs(0, "dice_loss", "", "bench step --model unet --channels 1 --side 16 --batch 1 --steps 1 --threads 1");
    assert_runs(0, "films/s", "", "bench infer --model unet --channels 1 --side 16 --batch 1 --steps 1 --threads 1");
}

static double sum(json_t *rows, const char *key)
{
    double all = 0;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
        all += number(row, key, NULL);
    return all;
}

/* Each row is held against the slower of its FLOPs, at the peak of its arithmetic, and its bytes; rows, kinds and the whole step add up. */
static void check_roofline(const char *precision)
{
    char *how = cx_sprintf("step --model densenet121 --side 64 --batch 2 --steps 2 --threads 1 --precision %s", precision);
    json_t *j = bench(how), *rows = json_object_get(j, "profile"), *row;
    free(how);
    const double read = roof(j, "read_gbs"), copy = roof(j, "copy_gbs"), bandwidth = read > copy ? read : copy;
    size_t i;
    int judged = 0;
    double arithmetic = 0;
    json_array_foreach(rows, i, row) {
        const double ms = number(row, "ms", NULL), flops = number(row, "flops", NULL);
        const double bytes = number(row, "bytes_read", NULL) + number(row, "bytes_written", NULL), percent = number(row, "percent_of_roof", NULL);
        const bool dot = json_is_true(json_object_get(row, "dot"));
        const double peak = roof(j, dot ? "bf16_gflops" : "fp32_gflops");
        assert_true(isfinite(percent));
        arithmetic += flops / peak / 1e6;
        assert_near("roof_ms", number(row, "roof_ms", NULL), fmax(flops / peak, bytes / bandwidth) / 1e6);
        if (ms <= 0 || flops + bytes <= 0)
            continue;
        assert_true(percent > 0);
        assert_near("percent_of_roof", percent, 100 * number(row, "roof_ms", NULL) / ms);
        assert_near("gflop_per_s", number(row, "gflop_per_s", NULL), flops / ms / 1e6);
        assert_near("gb_per_s", number(row, "gb_per_s", NULL), bytes / ms / 1e6);
        assert_string_equal(json_string_value(json_object_get(row, "bound")), flops / peak > bytes / bandwidth ? "flop" : "byte");
        judged++;
    }
    assert_true(judged > 10);
    static const char *const summed[] = { "ms", "roof_ms", "flops", "bytes_read", "bytes_written" };
    for (int k = 0; k < CX_COUNT(summed); k++)
        assert_near(summed[k], sum(json_object_get(j, "kinds"), summed[k]), sum(rows, summed[k]));
    assert_near("step ms", number(j, "step", "ms"), sum(rows, "ms"));
    assert_near("step roof_ms", number(j, "step", "roof_ms"), sum(rows, "roof_ms"));
    assert_near("step percent", number(j, "step", "percent_of_roof"), 100 * number(j, "step", "roof_ms") / number(j, "step", "ms"));
    assert_near("arithmetic_ms", number(j, "step", "arithmetic_ms"), arithmetic);
    assert_near("FLOPs of a step", sum(rows, "flops"), number(j, "gflop_per_film", NULL) * 2e9);
    json_decref(j);
}

static void test_roofline(void **state)
{
    (void)state;
    check_roofline("float32");
    check_roofline("bf16");
}

static void test_steps_and_films(void **state)
{
    (void)state;
    json_t *step = bench("step --model base_cnn --side 65 --batch 1 --steps 1"), *rows = json_object_get(step, "profile");
    double last = INFINITY;
    size_t i;
    json_t *row;
    assert_true(json_array_size(rows) > 10);
    json_array_foreach(rows, i, row) {
        assert_true(number(row, "ms", NULL) <= last);
        last = number(row, "ms", NULL);
    }
    json_decref(step);
    json_t *image = bench("image --side 32 --steps 1");
    assert_true(number(image, "png_bytes", NULL) > 10000);
    assert_true(number(image, "decode_films_per_s", "median") > 0);
    json_decref(image);
    json_t *alone = bench("roof --device cpu:portable --threads 1");
    assert_true(number(alone, "roof", "fp32_gflops") > 0 && number(alone, "roof", "bf16_gflops") == 0);
    assert_true(number(alone, "roof", "read_gbs") > 0 && number(alone, "roof", "copy_gbs") > 0 && number(alone, "threads", NULL) == 1);
    json_decref(alone);
    assert_runs(0, "% of it reached", "", "bench step --model densenet121 --side 32 --batch 2 --steps 1 --device cpu:portable --threads 1");
}

static void test_wrong_calls(void **state)
{
    (void)state;
    assert_runs(64, "", "want infer, train, step, image or roof", "bench everything");
    assert_runs(64, "", "--batch", "bench train --batch 0");
    assert_runs(78, "", "unknown architecture", "bench train --model resnet50");
    assert_runs(78, "", "side", "bench train --model base_cnn --side 8");
    assert_runs(78, "", "multiple of 16", "bench train --model unet --side 50");
    assert_runs(69, "", "want auto, cpu", "bench train --model base_cnn --side 65 --device gpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_networks), cmocka_unit_test(test_roofline),
                                        cmocka_unit_test(test_steps_and_films), cmocka_unit_test(test_wrong_calls) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
