/* test_hierarchy.c - two stages over one split: joint probabilities in closed form, errors by stage, resuming, and who trains on what. */
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>
#include "app/program.h"
#include "cxnet/train.h"

enum { FILMS = 120, SIDE = 80, CLASSES = 3 };
static char root[256], manifest[300];
static const char *const LABEL[CLASSES] = { "Clear", "Pneumonia", "Covid" };

/* Noise; class 1 has a bright square on the left, class 2 on both sides, fainter in some films, so that there are errors. Patients have two films each. */
static void write_film(const char *path, int film, int label)
{
    static uint16_t px[SIDE * SIDE];
    cx_rng r = cx_rng_new(7, (uint64_t)film);
    cx_buf b = { 0 };
    const int bright = 10 + (int)cx_rng_below(&r, 60);
    for (int i = 0; i < SIDE * SIDE; i++) {
        const int y = i / SIDE, x = i % SIDE;
        const bool left = x > 12 && x < 34, right = x > 46 && x < 68, row = y > 20 && y < 50;
        px[i] = (uint16_t)(60 + (int)cx_rng_below(&r, 60) + (row && ((label > 0 && left) || (label == 2 && right)) ? bright : 0));
    }
    assert_cx_ok(cx_png_grey(px, SIDE, SIDE, 255, &b, err));
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_buf_free(&b);
}

static int setup(void **state)
{
    (void)state;
    cx_buf csv = { 0 };
    snprintf(root, sizeof root, "%s/cxnet-hierarchy-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(root));
    snprintf(manifest, sizeof manifest, "%s/manifest.csv", root);
    cx_buf_puts(&csv, "path,labels,patient_id,source\n");
    for (int i = 0; i < FILMS; i++) {
        char path[320];
        const int label = i / 2 % CLASSES;
        snprintf(path, sizeof path, "%s/f%03d.png", root, i);
        write_film(path, i, label);
        cx_buf_printf(&csv, "f%03d.png,%s,p%02d,%s\n", i, LABEL[label], i / 2, i % 2 ? "a" : "b");
    }
    cx_buf_puts(&csv, "f000.png.both,Pneumonia|Covid,p99,a\n");       /* of two classes: takes part in neither stage, and is never looked for */
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

static void load(cx_config *c, const char *name, const char *const *more)
{
    char text[24][400];
    char *set[24];
    int n = 0;
    const char *base[] = { "data.task=hierarchical", "data.classes=[Clear, CAP=Pneumonia, CP=Covid]", "data.near_duplicates=false", "data.side=80",
        "data.channels=1", "data.normalise=unit", "data.val=0.25", "data.test=0.35", "optim.batch=8", "optim.epochs=2", "run.bootstrap=50",
        "run.threads=2", "early_stop.patience=0" };
    for (int i = 0; i < CX_COUNT(base); i++)
        snprintf(text[n++], sizeof text[0], "%s", base[i]);
    snprintf(text[n++], sizeof text[0], "data.manifest=%s", manifest);
    snprintf(text[n++], sizeof text[0], "data.cache=%s/cache", root);
    snprintf(text[n++], sizeof text[0], "run.dir=%s", root);
    snprintf(text[n++], sizeof text[0], "run.name=%s", name);
    for (int i = 0; more && more[i]; i++)
        snprintf(text[n++], sizeof text[0], "%s", more[i]);
    for (int i = 0; i < n; i++)
        set[i] = text[i];
    assert_cx_ok(cx_config_load(NULL, set, n, c, err));
}

typedef struct { volatile sig_atomic_t stop; int countdown, stages; char question[2][64]; } trip;
static void on_step(void *self, int epoch, int step)
{
    trip *t = self;
    (void)epoch;
    (void)step;
    if (--t->countdown == 0)
        t->stop = 1;
}

static void on_stage(void *self, int stage, const char *question)
{
    trip *t = self;
    assert_int_equal(stage, ++t->stages);
    snprintf(t->question[stage - 1], sizeof t->question[0], "%s", question);
}

/* Trains until so many steps have been taken (0: to the end). */
static cx_status attempt(const char *name, const char *const *more, int after, cx_resume resume, cx_error *err)
{
    cx_config c;
    trip t = { .countdown = after };
    char dir[400], want[400];
    load(&c, name, more);
    const cx_status s = cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &t.stop, .on_step = on_step, .on_stage = on_stage, .self = &t,
        .resume = resume }, dir, sizeof dir, err);
    cx_config_free(&c);
    snprintf(want, sizeof want, "%s/%s", root, name);
    if (s == CX_OK) {
        assert_string_equal(dir, want);
        assert_string_equal(t.question[0], "Clear against CAP or CP");
        assert_string_equal(t.question[1], "CAP against CP");
    }
    return s;
}

static char *text_of(const char *run, const char *file)
{
    char path[400];
    cx_buf b = { 0 };
    snprintf(path, sizeof path, "%s/%s/%s", root, run, file);
    assert_cx_ok(cx_file_read(path, 1 << 22, &b, err));
    return b.data;
}

static json_t *json_of(const char *run, const char *file)
{
    char *text = text_of(run, file);
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    free(text);
    return j;
}

static void csv_of(const char *run, const char *file, cx_csv *out)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s/%s", root, run, file);
    assert_cx_ok(cx_csv_load(path, out, err));
}

static double number(const cx_csv *csv, int row, const char *column)
{
    const int at = cx_csv_column(csv, column);
    assert_true(at >= 0);
    return strtod(cx_csv_at(csv, row, at), NULL);
}

/* ---- probabilities ----------------------------------------------------------------------------------------------------- */

/* One film through the networks of both stages by hand: what the run's predictions.csv and cx_classifier say of it is their product. */
static void joint_probabilities(void **state)
{
    (void)state;
    char path[400];
    cx_net whole, stage[2];
    cx_classifier *c[3];
    cx_csv csv;
    float *x = cx_alloc(SIDE * SIDE, sizeof *x);
    assert_cx_ok(attempt("whole", NULL, 0, CX_RESUME_AUTO, err));
    csv_of("whole", "predictions.csv", &csv);
    snprintf(path, sizeof path, "%s/whole", root);
    assert_cx_ok(cx_net_open(path, NULL, 1, &whole, err));
    assert_int_equal(whole.n_classes, 3);
    assert_int_equal(cx_net_parts(&whole), 2);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/whole/stage%d", root, i + 1);
        assert_cx_ok(cx_net_open(path, NULL, 1, &stage[i], err));
        assert_cx_ok(cx_classifier_new(&stage[i], 1, &c[i], err));
    }
    assert_string_equal(stage[0].classes[1], "CAP or CP");
    assert_cx_ok(cx_classifier_new(&whole, 1, &c[2], err));
    const int labels = cx_csv_column(&csv, "labels"), split = cx_csv_column(&csv, "split");
    int tested = 0, other = 0;
    for (int row = 1; row < csv.rows; row++) {
        cx_film film;
        double a[2], b[2], p[3], sum = 0;
        snprintf(path, sizeof path, "%s/%s", root, cx_csv_at(&csv, row, 0));
        assert_cx_ok(cx_film_load(path, &film, err));
        assert_cx_ok(cx_film_to_input(whole.pipeline, &film, &whole.norm, x, NULL, err));
        assert_cx_ok(cx_classifier_run(c[0], x, 1, a, err));
        assert_cx_ok(cx_classifier_run(c[1], x, 1, b, err));
        assert_cx_ok(cx_classifier_run(c[2], x, 1, p, err));
        const double want[3] = { a[0], a[1] * b[0], a[1] * b[1] };
        const char *const column[3] = { "p_Clear", "p_CAP", "p_CP" };
        for (int k = 0; k < 3; k++) {
            sum += p[k];
            assert_true(fabs(p[k] - want[k]) < 1e-12);
            assert_true(fabs(number(&csv, row, column[k]) - want[k]) < 1e-5);      /* another batch: other sums in float32 */
        }
        assert_true(fabs(sum - 1) < 1e-12);
        const int said = cx_net_answer(&whole, p);
        assert_true(p[said] >= p[0] && p[said] >= p[1] && p[said] >= p[2]);
        assert_string_equal(cx_csv_at(&csv, row, cx_csv_column(&csv, "predicted")), whole.classes[said]);
        tested += !strcmp(cx_csv_at(&csv, row, split), "test");
        other += !strcmp(cx_csv_at(&csv, row, labels), "Clear");
        cx_film_free(&film);
    }
    assert_true(tested > 20 && other > 10);               /* all classes were asked of both stages */
    for (int i = 0; i < 3; i++)
        cx_classifier_free(c[i]);
    for (int i = 0; i < 2; i++)
        cx_net_close(&stage[i]);
    cx_net_close(&whole);
    cx_csv_free(&csv);
    free(x);
}

static void voices_of_classes(void **state)
{
    (void)state;
    char path[400];
    cx_net net;
    const cx_voice want[3] = { { 0, 0, -1 }, { 1, 0, -1 }, { 1, 0, 1 } };
    double p[3];
    snprintf(path, sizeof path, "%s/whole", root);
    assert_cx_ok(cx_net_open(path, NULL, 1, &net, err));
    for (int k = 0; k < 3; k++) {
        const cx_voice v = cx_net_voice(&net, k);
        assert_true(v.part == want[k].part && v.logit == want[k].logit && v.sign == want[k].sign);
    }
    cx_net_probabilities(&net, (const float[]){ logf(3), -logf(4) }, p);      /* 3/4, then 1/5 */
    assert_true(fabs(p[0] - 0.25) < 1e-7 && fabs(p[1] - 0.6) < 1e-7 && fabs(p[2] - 0.15) < 1e-7);
    assert_int_equal(cx_net_answer(&net, p), 1);
    cx_net_close(&net);
}

/* Four classes: the second stage is a softmax of three. */
static void more_than_three_classes(void **state)
{
    (void)state;
    cx_net net;
    double p[4];
    char path[400];
    cx_config c;
    cx_buf csv = { 0 }, four = { 0 };
    assert_cx_ok(cx_file_read(manifest, 1 << 20, &csv, err));
    int line = 0;
    for (char *at = strtok(csv.data, "\n"); at; at = strtok(NULL, "\n"), line++) {      /* every other patient with Covid has another kind of it */
        char *covid = strstr(at, ",Covid,p");
        if (covid && !strstr(at, "both")) {
            memcpy(covid, line / 6 % 2 ? ",Viral" : ",Covid", 6);
            at[strlen(at) - 1] = 'c';                      /* and all of them are of a source of their own */
        }
        cx_buf_printf(&four, "%s\n", at);
    }
    snprintf(path, sizeof path, "%s/four.csv", root);
    assert_cx_ok(cx_file_write(path, four.data, four.len, err));
    char set[440];
    snprintf(set, sizeof set, "data.manifest=%s", path);
    load(&c, "four", (const char *[]){ set, "data.classes=[Clear, Pneumonia, Covid, Viral]", "optim.epochs=1", NULL });
    assert_cx_ok(cx_run_train(&c, &(cx_run_opts){ .quiet = true }, NULL, 0, err));
    cx_config_free(&c);
    snprintf(path, sizeof path, "%s/four", root);
    assert_cx_ok(cx_net_open(path, NULL, 1, &net, err));
    assert_string_equal(net.stage[1]->config.data.task, "multiclass");
    cx_net_probabilities(&net, (const float[]){ 0, 0, logf(2), 0 }, p);
    assert_true(fabs(p[0] - 0.5) < 1e-7 && fabs(p[1] - 0.125) < 1e-7 && fabs(p[2] - 0.25) < 1e-7 && fabs(p[3] - 0.125) < 1e-7);
    json_t *metrics = json_of("four", "metrics.json"), *plain = json_of("whole", "metrics.json");
    const json_t *sources = json_object_get(metrics, "sources"), *viral = json_object_get(json_object_get(sources, "classes"), "Viral");
    assert_true(json_is_true(json_object_get(sources, "confounded")));
    assert_true(json_is_false(json_object_get(json_object_get(plain, "sources"), "confounded")));
    const json_t *c_films = json_object_get(json_object_get(viral, "films"), "c"), *a_films = json_object_get(json_object_get(viral, "films"), "a");
    assert_int_equal(json_integer_value(json_array_get(c_films, 1)), FILMS / CLASSES);
    assert_int_equal(json_integer_value(json_array_get(a_films, 0)), 0);
    /* share q of the films of c, none of the 80 others: V^2 = q - x over 1 - x, with x the share of all */
    const double q = (double)json_integer_value(json_array_get(c_films, 0)) / 40, x = q / 3;
    assert_true(fabs(pow(json_real_value(json_object_get(viral, "cramers_v")), 2) - (q - x) / (1 - x)) < 1e-9);
    json_decref(metrics);
    json_decref(plain);
    const cx_voice v = cx_net_voice(&net, 3);
    assert_true(v.part == 1 && v.logit == 2 && v.sign == 1);
    cx_net_close(&net);
    cx_buf_free(&csv);
    cx_buf_free(&four);
}

/* ---- figures ----------------------------------------------------------------------------------------------------------- */

static void errors_add_up(void **state)
{
    (void)state;
    static const char *const sides[] = { "val", "test" }, *const kinds[] = { "stage1", "divided", "stage2" }, *const classes[] = { "Clear", "CAP", "CP" };
    json_t *j = json_of("whole", "metrics.json");
    cx_csv csv;
    csv_of("whole", "predictions.csv", &csv);
    const int split = cx_csv_column(&csv, "split"), target = cx_csv_column(&csv, "target"), said = cx_csv_column(&csv, "predicted");
    int all = 0;
    for (int i = 0; i < 2; i++) {
        const json_t *confusion = json_object_get(json_object_get(j, sides[i]), "confusion"), *errors = json_object_get(json_object_get(j, "errors"), sides[i]);
        for (size_t k = 0; k < CLASSES; k++) {
            const json_t *row = json_object_get(errors, classes[k]);
            int counted[3] = { 0 }, wrong = 0, by_kind = 0;
            for (int f = 1; f < csv.rows; f++) {          /* the definition, from the table of predictions */
                const char *t = cx_csv_at(&csv, f, target), *s = cx_csv_at(&csv, f, said);
                if (strcmp(cx_csv_at(&csv, f, split), sides[i]) || strcmp(t, classes[k]) || !strcmp(s, t))
                    continue;
                counted[k == 0 ? 0 : strcmp(s, "Clear") ? 2 : number(&csv, f, "p_Clear") < 0.5]++;
            }
            for (size_t c = 0; c < CLASSES; c++)
                wrong += c == k ? 0 : (int)json_integer_value(json_array_get(json_array_get(confusion, k), c));
            for (int e = 0; e < 3; e++) {
                assert_int_equal(json_integer_value(json_object_get(row, kinds[e])), counted[e]);
                by_kind += counted[e];
            }
            assert_int_equal(by_kind, wrong);
            all += wrong;
        }
    }
    assert_true(all > 0);                                  /* films are faint enough that the table is not of zeros */
    assert_true(json_is_number(json_object_get(json_object_get(json_object_get(j, "test"), "macro_f1"), "lo")));
    assert_int_equal(json_array_size(json_object_get(j, "stages")), 2);
    json_decref(j);
    cx_csv_free(&csv);
}

/* ONE split: the sides of the second stage are those of the first, without its negative films, and no patient is on two of them. */
static void one_split(void **state)
{
    (void)state;
    cx_csv first, second;
    json_t *a = json_of("whole/stage1", "manifest.json"), *b = json_of("whole/stage2", "manifest.json"), *w = json_of("whole", "manifest.json");
    for (int i = 0; i < 3; i++) {
        const char *side = (const char *[]){ "train", "val", "test" }[i];
        const json_t *x = json_object_get(json_object_get(a, "films"), side), *y = json_object_get(json_object_get(b, "films"), side);
        const json_t *z = json_object_get(json_object_get(w, "films"), side);
        const json_int_t sick = json_integer_value(json_object_get(y, "CAP")) + json_integer_value(json_object_get(y, "CP"));
        assert_true(sick > 0);
        assert_int_equal(json_integer_value(json_object_get(x, "CAP or CP")), sick);
        assert_int_equal(json_integer_value(json_object_get(z, "CAP")), json_integer_value(json_object_get(y, "CAP")));
        assert_int_equal(json_integer_value(json_object_get(z, "Clear")), json_integer_value(json_object_get(x, "Clear")));
        assert_null(json_object_get(y, "Clear"));
    }
    csv_of("whole/stage1", "predictions.csv", &first);
    csv_of("whole/stage2", "predictions.csv", &second);
    const int split = cx_csv_column(&first, "split"), patient = cx_csv_column(&first, "patient_id");
    int sick = 0, f;
    for (f = 1; f < first.rows; f++)
        sick += strcmp(cx_csv_at(&first, f, cx_csv_column(&first, "labels")), "Clear") != 0;
    assert_int_equal(second.rows - 1, sick);
    for (int s = 1; s < second.rows; s++) {
        for (f = 1; f < first.rows && strcmp(cx_csv_at(&first, f, 0), cx_csv_at(&second, s, 0)); f++)
            ;
        assert_true(f < first.rows);
        assert_string_equal(cx_csv_at(&first, f, split), cx_csv_at(&second, s, split));
        for (f = 1; f < first.rows; f++)
            if (!strcmp(cx_csv_at(&first, f, patient), cx_csv_at(&second, s, patient)))
                assert_string_equal(cx_csv_at(&first, f, split), cx_csv_at(&second, s, split));
    }
    cx_csv_free(&first);
    cx_csv_free(&second);
    json_decref(a);
    json_decref(b);
    json_decref(w);
}

/* ---- resuming ---------------------------------------------------------------------------------------------------------- */

static void assert_same_text(const char *a, const char *b, const char *file)
{
    char *x = text_of(a, file), *y = text_of(b, file);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* Stopped in the first stage, then in the second, and continued by the same command: the same run. */
static void resumes_each_stage(void **state)
{
    (void)state;
    char path[400];
    assert_cx_fails(CX_E_NOINPUT, "no checkpoint to resume from", attempt("parts", NULL, 0, CX_RESUME_MUST, err));
    assert_cx_fails(CX_E_INTERRUPTED, "stage 1: interrupted at epoch 1, step 3", attempt("parts", NULL, 3, CX_RESUME_AUTO, err));
    snprintf(path, sizeof path, "%s/parts/stage2", root);
    assert_false(cx_is_dir(path));
    assert_cx_fails(CX_E_INTERRUPTED, "stage 2: interrupted", attempt("parts", NULL, 13, CX_RESUME_MUST, err));
    assert_cx_ok(attempt("parts", NULL, 0, CX_RESUME_MUST, err));
    assert_same_text("whole", "parts", "predictions.csv");
    assert_same_text("whole", "parts", "metrics.json");
    assert_same_text("whole/stage2", "parts/stage2", "predictions.csv");
    assert_cx_fails(CX_E_CONFIG, "stage 1: ", attempt("parts", (const char *[]){ "optim.lr=0.5", NULL }, 0, CX_RESUME_AUTO, err));
    assert_cx_ok(attempt("parts", (const char *[]){ "optim.epochs=1", NULL }, 0, CX_RESUME_NEVER, err));
    snprintf(path, sizeof path, "%s/parts.old-1/stage2/metrics.csv", root);
    assert_true(cx_file_exists(path));
}

/* A folder holds one kind of run. */
static void kinds_of_runs_do_not_mix(void **state)
{
    (void)state;
    cx_config c;
    const char *const binary[] = { "data.task=binary", "data.classes=[Clear, Covid]", "optim.epochs=1", NULL };
    load(&c, "parts", binary);
    assert_cx_fails(CX_E_CONFIG, "the folder has a hierarchy", cx_run_train(&c, &(cx_run_opts){ .quiet = true }, NULL, 0, err));
    cx_config_free(&c);
    load(&c, "plain", binary);
    assert_cx_ok(cx_run_train(&c, &(cx_run_opts){ .quiet = true }, NULL, 0, err));
    cx_config_free(&c);
    assert_cx_fails(CX_E_CONFIG, "a run of one network", attempt("plain", NULL, 0, CX_RESUME_AUTO, err));
}

static void assert_page(const char *run, const char *says)
{
    char *page = text_of(run, "report.html");
    if (!strstr(page, says))
        fail_msg("the page of %s lacks \"%s\"", run, says);
    free(page);
}

/* As a user runs it: what the terminal says of the stages, and three pages. */
static void the_verb(void **state)
{
    (void)state;
    cx_config c;
    cx_buf yaml = { 0 };
    char path[400];
    load(&c, "verb", (const char *[]){ "optim.epochs=1", "run.explain_films=3", "model.arch=densenet121", "data.channels=3", NULL });
    cx_config_yaml(&c, &yaml);
    cx_config_free(&c);
    snprintf(path, sizeof path, "%s/verb.yaml", root);
    assert_cx_ok(cx_file_write(path, yaml.data, yaml.len, err));
    cx_buf_free(&yaml);
    assert_runs(0, "stage 2: CAP against CP\n", "device", "train %s", path);
    const char *out = run_program("train %s", path)->out;                       /* it goes on from the end */
    assert_non_null(strstr(out, "epoch 1 in stage 1, epoch 1 in stage 2"));
    assert_non_null(strstr(out, "errors of"));
    assert_page("verb", "Test films given another class, by the stage where the error arose");
    assert_page("verb", "A map comes from the stage that decides on the class");
    assert_page("verb/stage1", "CAP or CP");
    assert_page("verb/stage2", "ROC, test films");
    snprintf(path, sizeof path, "%s/verb/figures/cam_03.png", root);
    assert_true(cx_file_exists(path));
}

static void errors_are_clear(void **state)
{
    (void)state;
    cx_config c;
    char *set[] = { "data.task=hierarchical", "data.classes=[Clear, Covid]" };
    char path[400];
    assert_cx_fails(CX_E_CONFIG, "task hierarchical: want 3 or more data.classes", cx_config_load(NULL, set, 2, &c, err));
    assert_cx_fails(CX_E_CONFIG, "no parameter of base_cnn matches", attempt("never", (const char *[]){ "model.freeze=[nothing.*]", NULL }, 0,
        CX_RESUME_AUTO, err));
    snprintf(path, sizeof path, "%s/never", root);
    assert_false(cx_is_dir(path));                         /* what is wrong with the network is said before a folder is made */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joint_probabilities),
        cmocka_unit_test(voices_of_classes),
        cmocka_unit_test(errors_add_up),
        cmocka_unit_test(one_split),
        cmocka_unit_test(resumes_each_stage),
        cmocka_unit_test(kinds_of_runs_do_not_mix),
        cmocka_unit_test(more_than_three_classes),
        cmocka_unit_test(the_verb),
        cmocka_unit_test(errors_are_clear),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
