/* test_synth.c - the synthetic cohort: a pure function of its options, exact masks, shortcuts as strong as asked, disease in the lungs. */
#include <omp.h>
#include <unistd.h>
#include "support.h"
#include "cxnet/data.h"

static cx_synth make(int patients, double marker_bias, double exposure_bias)
{
    cx_synth s;
    assert_cx_ok(cx_synth_make(&(cx_synth_opts){ patients, 64, 5, marker_bias, exposure_bias }, &s, err));
    return s;
}

static size_t pixels(const cx_synth *s) { return (size_t)s->n * (size_t)s->side * (size_t)s->side; }

static bool film_has(const cx_synth *s, const uint8_t *mask, int i)
{
    size_t px = (size_t)s->side * (size_t)s->side;
    for (size_t k = 0; k < px; k++)
        if (mask[(size_t)i * px + k])
            return true;
    return false;
}

static double mean_where(const cx_synth *s, int i, const uint8_t *mask, bool inside)
{
    size_t px = (size_t)s->side * (size_t)s->side;
    double sum = 0, n = 0;
    for (size_t k = (size_t)i * px; k < (size_t)(i + 1) * px; k++)
        if ((mask[k] != 0) == inside) {
            sum += s->film[k];
            n++;
        }
    return n > 0 ? sum / n : NAN;
}

static void test_same_for_any_threads(void **state)
{
    (void)state;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    cx_synth a = make(20, 0.5, 0.5);
    omp_set_num_threads(3);
    cx_synth b = make(20, 0.5, 0.5);
    omp_set_num_threads(threads);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.film, b.film, pixels(&a));
    assert_memory_equal(a.lung, b.lung, pixels(&a));
    assert_memory_equal(a.marker, b.marker, pixels(&a));
    cx_synth other;
    assert_cx_ok(cx_synth_make(&(cx_synth_opts){ 20, 64, 6, 0.5, 0.5 }, &other, err));
    assert_memory_not_equal(a.film, other.film, pixels(&a) < pixels(&other) ? pixels(&a) : pixels(&other));
    cx_synth_free(&a);
    cx_synth_free(&b);
    cx_synth_free(&other);
}

/* With the same exposures, moving the markers changes no pixel outside the two marker masks: so the mask is exact, and nothing else leaks. */
static void test_marker_is_all_that_changes(void **state)
{
    (void)state;
    cx_synth fair = make(60, 0, 0), biased = make(60, 1, 0);
    assert_int_equal(fair.n, biased.n);
    size_t px = (size_t)fair.side * (size_t)fair.side, inside = 0;
    for (size_t k = 0; k < pixels(&fair); k++) {
        bool same = fair.film[k] == biased.film[k];
        inside += !same;
        if (!same && !fair.marker[k] && !biased.marker[k])
            fail_msg("film %zu differs at pixel %zu outside the markers", k / px, k % px);
    }
    assert_true(inside > 1000);
    assert_memory_equal(fair.lung, biased.lung, pixels(&fair));
    for (int i = 0; i < biased.n; i++)
        assert_int_equal(film_has(&biased, biased.marker, i), biased.label[i]);
    cx_synth_free(&fair);
    cx_synth_free(&biased);
}

/* Shares of marked films among ill and healthy ones: 1/2 +- bias/2, within 4 standard errors. */
static void test_bias_is_as_asked(void **state)
{
    (void)state;
    static const double bias[] = { 0, 0.6 };
    for (int b = 0; b < 2; b++) {
        cx_synth s = make(300, bias[b], 0);
        double marked[2] = { 0 }, films[2] = { 0 };
        for (int i = 0; i < s.n; i++) {
            films[s.label[i]]++;
            marked[s.label[i]] += film_has(&s, s.marker, i);
        }
        for (int k = 0; k < 2; k++) {
            double want = 0.5 + (k ? 0.5 : -0.5) * bias[b], got = marked[k] / films[k];
            assert_true(fabs(got - want) < 4 * sqrt(want * (1 - want) / films[k]));
        }
        cx_synth_free(&s);
    }
}

static void test_exposure_bias_darkens_the_ill(void **state)
{
    (void)state;
    cx_synth fair = make(60, 0, 0), biased = make(60, 0, 1);
    double shift[2] = { 0 }, n[2] = { 0 };
    for (int i = 0; i < fair.n; i++) {
        shift[fair.label[i]] += mean_where(&biased, i, biased.marker, false) - mean_where(&fair, i, fair.marker, false);
        n[fair.label[i]]++;
    }
    assert_true(shift[1] / n[1] < -3 && shift[0] / n[0] > 3);
    cx_synth_free(&fair);
    cx_synth_free(&biased);
}

/* Anatomy and disease: lungs are darker than the rest and a plausible share of the film; opacities brighten the lungs of the ill, exposure being equal. */
static void test_lungs_and_opacities(void **state)
{
    (void)state;
    cx_synth s = make(400, 0, 0);
    double relative[2] = { 0 }, n[2] = { 0 };
    for (int i = 0; i < s.n; i++) {
        double in = mean_where(&s, i, s.lung, true), out = mean_where(&s, i, s.lung, false), share = 0;
        size_t px = (size_t)s.side * (size_t)s.side;
        for (size_t k = 0; k < px; k++)
            share += s.lung[(size_t)i * px + k] ? 1.0 / (double)px : 0;
        assert_true(in < 0.8 * out && share > 0.2 && share < 0.5);
        relative[s.label[i]] += in / out;
        n[s.label[i]]++;
    }
    double healthy = relative[0] / n[0], ill = relative[1] / n[1];
    assert_true(ill > healthy * 1.02 && ill < healthy * 1.5);
    cx_synth_free(&s);
}

static void test_patients(void **state)
{
    (void)state;
    cx_synth s = make(300, 0, 0);
    int ill = 0, clinic[2] = { 0 }, patients = 0;
    for (int i = 0; i < s.n; i++) {
        bool first = i == 0 || s.patient[i] != s.patient[i - 1];
        assert_true(i == 0 || s.patient[i] == s.patient[i - 1] || s.patient[i] == s.patient[i - 1] + 1);
        if (!first)
            assert_true(s.label[i] == s.label[i - 1] && s.source[i] == s.source[i - 1]);
        patients += first;
        ill += first && s.label[i];
        clinic[s.source[i]] += first && s.label[i];
    }
    assert_int_equal(patients, 300);
    assert_int_equal(ill, 150);
    assert_true(abs(clinic[0] - clinic[1]) <= 1);
    assert_true(s.n > 500 && s.n < 700);
    cx_synth_free(&s);
}

static void test_written_cohort_reads_back(void **state)
{
    (void)state;
    char dir[] = "/tmp/cxnet_synth_XXXXXX";
    assert_non_null(mkdtemp(dir));
    cx_synth s = make(4, 0, 0);
    assert_cx_ok(cx_synth_write(&s, dir, err));
    char *path = cx_path_join(dir, "manifest.csv");
    cx_manifest m;
    assert_cx_ok(cx_manifest_load(path, &m, err));
    assert_int_equal(m.n, s.n);
    int lung = cx_csv_column(&m.csv, "mask"), marker = cx_csv_column(&m.csv, "marker");
    for (int i = 0; i < m.n; i++) {
        const uint8_t *want[3] = { s.film, s.lung, s.marker };
        const char *name[3] = { m.samples[i].path, cx_csv_at(&m.csv, i + 1, lung), cx_csv_at(&m.csv, i + 1, marker) };
        for (int k = 0; k < 3; k++) {
            char *file = cx_path_join(m.dir, name[k]);
            cx_film f;
            assert_cx_ok(cx_film_load(file, &f, err));
            assert_true(f.width == s.side && f.height == s.side && f.max == 255);
            for (int p = 0; p < s.side * s.side; p++)
                assert_int_equal(f.px[p], want[k][i * s.side * s.side + p]);
            cx_film_free(&f);
            unlink(file);
            free(file);
        }
        assert_string_equal(m.samples[i].labels, s.label[i] ? "Opacity" : "No Finding");
    }
    unlink(path);
    free(path);
    static const char *const folder[] = { "films", "lungs", "markers" };
    for (int i = 0; i < CX_COUNT(folder); i++) {
        char *sub = cx_path_join(dir, folder[i]);
        assert_int_equal(rmdir(sub), 0);
        free(sub);
    }
    assert_int_equal(rmdir(dir), 0);
    cx_manifest_free(&m);
    cx_synth_free(&s);
}

static void test_bad_options(void **state)
{
    (void)state;
    static const struct { cx_synth_opts o; const char *message; } bad[] = {
        { { 1, 64, 1, 0, 0 }, "patients" }, { { 100001, 64, 1, 0, 0 }, "patients" }, { { 10, 31, 1, 0, 0 }, "side" }, { { 10, 4096, 1, 0, 0 }, "side" },
        { { 10, 64, 1, -0.1, 0 }, "marker_bias" }, { { 10, 64, 1, NAN, 0 }, "marker_bias" }, { { 10, 64, 1, 0, 1.1 }, "exposure_bias" } };
    for (int i = 0; i < CX_COUNT(bad); i++) {
        cx_synth s;
        assert_cx_fails(CX_E_CONFIG, bad[i].message, cx_synth_make(&bad[i].o, &s, err));
        assert_null(s.film);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_for_any_threads), cmocka_unit_test(test_marker_is_all_that_changes), cmocka_unit_test(test_bias_is_as_asked),
        cmocka_unit_test(test_exposure_bias_darkens_the_ill), cmocka_unit_test(test_lungs_and_opacities), cmocka_unit_test(test_patients),
        cmocka_unit_test(test_written_cohort_reads_back), cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
