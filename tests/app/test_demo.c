/* test_demo.c - `cxnet demo --quick` from end to end: the page, the runs, and that the lesson shows: AUROCs in the right order, heat on the marker or in
 * the lungs. */
#include "app/program.h"
#include <jansson.h>
#include <unistd.h>

static char dir[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/cxnet-demo-XXXXXX");
    /* Spinning threads are slow beside other tests on the same cores. Results do not depend on it. */
    setenv("OMP_WAIT_POLICY", "passive", 1);
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void read_text(const char *name, cx_buf *b)
{
    char *path = cx_path_join(dir, name);
    assert_cx_ok(cx_file_read(path, 1 << 26, b, err));
    free(path);
}

typedef struct { double own, own_lo, own_hi, broken, broken_lo, broken_hi, lungs, marker, elsewhere; } row;

/* A line of the summary table. */
static row summary(const char *out, const char *name)
{
    row r = { 0 };
    const char *line = strstr(out, name);
    if (!line || sscanf(line + strlen(name), " %lf (%lf to %lf) %lf (%lf to %lf) %lf %% %lf %% %lf %%", &r.own, &r.own_lo, &r.own_hi, &r.broken, &r.broken_lo,
                        &r.broken_hi, &r.lungs, &r.marker, &r.elsewhere) != 9)
        fail_msg("no figures of the network %s: %s", name, out);
    assert_true(r.own_lo <= r.own && r.own <= r.own_hi && r.broken_lo <= r.broken && r.broken <= r.broken_hi && r.own_lo < r.own_hi + 1e-9);
    assert_true(fabs(r.lungs + r.marker + r.elsewhere - 100) <= 1.5);
    return r;
}

/* What the run itself measured on its own test side, by another path through loader and plan. */
static double auroc_of_run(const char *name)
{
    char file[64];
    cx_buf b = { 0 };
    snprintf(file, sizeof file, "runs/%s/metrics.json", name);
    read_text(file, &b);
    json_t *j = json_loads(b.data, 0, NULL);
    double v = json_number_value(json_object_get(json_object_get(json_object_get(j, "test"), "auroc"), "value"));
    json_decref(j);
    cx_buf_free(&b);
    return v;
}

static void check_page(void)
{
    cx_buf b = { 0 };
    read_text("report.html", &b);
    static const char *const wanted[] = { "<svg", "data:image/png;base64,", "Right for the wrong reason", "Where they look", "Validation AUROC",
                                          "does not say what a network has learned, and the heat map does", "</html>" };
    static const char *const unwanted[] = { "http://", "https://", "<script", "<link", "nan" };
    for (int k = 0; k < CX_COUNT(wanted); k++)
        if (!strstr(b.data, wanted[k]))
            fail_msg("report.html lacks \"%s\"", wanted[k]);
    for (char *p = b.data; (p = strstr(p, "base64,"));)       /* pictures may spell anything */
        for (p += 7; *p && *p != '"' && *p != ')'; p++)
            *p = '.';
    for (int k = 0; k < CX_COUNT(unwanted); k++)
        if (strstr(b.data, unwanted[k]))
            fail_msg("report.html holds \"%s\"", unwanted[k]);
    cx_buf_free(&b);
    b = (cx_buf){ 0 };
    read_text("runs/shortcut/report.html", &b);
    cx_buf_free(&b);
}

static void test_the_lesson_shows(void **state)
{
    (void)state;
#ifdef CX_SANITIZED
    print_message("skipped: two trainings take minutes under sanitizers\n");
    skip();
#endif
    const ran *r = run_program("demo --quick --out '%s'", dir);
    if (r->code != 0)
        fail_msg("exit %d: %s", r->code, r->err);
    row shortcut = summary(r->out, "trained where ill films carry a marker"), honest = summary(r->out, "trained where markers mean nothing");
    assert_true(shortcut.own > 0.93 && shortcut.own - shortcut.broken > 0.15);
    assert_true(honest.broken > shortcut.broken + 0.05 && fabs(honest.own - honest.broken) < 0.1);
    assert_true(shortcut.marker > 3 * honest.marker + 2 && honest.lungs > shortcut.lungs && honest.lungs > 55);
    assert_true(fabs(auroc_of_run("shortcut") - shortcut.own) < 0.0011);       /* the table has three digits */
    assert_true(fabs(auroc_of_run("broken") - honest.broken) < 0.0011);
    check_page();
}

static void test_refuses_nonsense(void **state)
{
    (void)state;
    assert_runs(64, "", "--sed", "demo --sed 4");
    assert_runs(64, "", "demo", "demo somewhere");
    assert_runs(73, "", "/proc/nowhere", "demo --quick --out /proc/nowhere");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_lesson_shows), cmocka_unit_test(test_refuses_nonsense) };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
