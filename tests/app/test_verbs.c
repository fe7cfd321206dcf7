/* test_verbs.c - the verbs that do the work, as a user runs them: config, plan, data, train, on a synthetic cohort. */
#include "app/cohort.h"
#include <jansson.h>

static json_t *json_of(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j)
        fail_msg("no JSON: %s at line %d of:\n%.300s", e.text, e.line, text);
    return j;
}

static void config_verbs(void **state)
{
    (void)state;
    write_experiment(2);
    write_text("bad.yaml", "optim:\n  lr: 300\n");
    assert_runs(0, "sound; run \"e\" trains base_cnn", "", "config check %s/e.yaml", dir);
    assert_runs(78, "", "bad.yaml:2: optim.lr", "config check %s/bad.yaml", dir);
    assert_runs(78, "", "optim.lr", "config check %s/e.yaml --set optim.lr=nan", dir);
    assert_runs(78, "", "side must be", "config check %s/e.yaml --set data.side=16", dir);
    assert_runs(78, "", "no parameter of base_cnn matches \"nothing.*\"", "config check %s/e.yaml --set 'model.freeze=[nothing.*]'", dir);
    assert_runs(66, "", "no/such.yaml", "config check no/such.yaml");
    assert_runs(64, "", "config check wants FILE.yaml", "config check");
    assert_runs(64, "", "\"config\" knows show, check, schema, not \"everything\"", "config everything");
    assert_runs(64, "", "did you mean \"config check\"?", "config chekc");
    assert_runs(64, "", "\"config\" wants one more word: show, check, schema", "config");
    assert_runs(0, "config schema", "", "config --help");
    assert_runs(0, "config schema", "", "help config");
    /* What show prints is an experiment that shows as itself. */
    static char first[1 << 20], path[200];
    strcpy(first, run_program("config show %s/e.yaml --set optim.lr=0.1234567890123", dir)->out);
    write_text("shown.yaml", first);
    snprintf(path, sizeof path, "%s/shown.yaml", dir);
    assert_string_equal(run_program("config show %s", path)->out, first);
    json_t *schema = json_of(run_program("config schema --json")->out);
    assert_true(json_is_object(json_object_get(json_object_get(schema, "properties"), "optim")));
    json_decref(schema);
    assert_runs(0, "early_stop", "", "config schema");
}

/* torchvision's densenet121 has 6,953,856 parameters before its classifier; ours has one logit of 1,024 weights and a bias. */
static void plan_counts_what_torchvision_counts(void **state)
{
    (void)state;
    write_experiment(2);
    json_t *j = json_of(run_program("plan %s/e.yaml --json --batch 2 --set model.arch=densenet121 --set data.channels=3 --set data.side=32 "
                                    "--set data.normalise=imagenet", dir)->out);
    assert_int_equal(json_integer_value(json_object_get(j, "parameters")), 6953856 + 1025);
    assert_int_equal(json_integer_value(json_object_get(j, "trainable")), 6953856 + 1025);
    json_decref(j);
    json_t *train = json_of(run_program("plan %s/e.yaml --json --batch 2", dir)->out);
    json_t *eval = json_of(run_program("plan %s/e.yaml --json --batch 2 --eval", dir)->out);
    assert_true(json_integer_value(json_object_get(train, "flops_backward")) > json_integer_value(json_object_get(train, "flops_forward")));
    assert_int_equal(json_integer_value(json_object_get(eval, "flops_backward")), 0);
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(eval, "steps"), i, step)
        assert_string_equal(json_string_value(json_object_get(step, "phase")), "forward");
    assert_true(i >= 5);
    json_decref(train);
    json_decref(eval);
    assert_runs(0, "training plan in float32 for a batch of 8 on ", "", "plan %s/e.yaml", dir);
    assert_runs(0, "training plan in bf16 for a batch of 8 on ", "", "plan %s/e.yaml --set plan.precision=bf16", dir);
    assert_runs(78, "", "plan.precision=fp16: want one of float32, bf16, got fp16", "plan %s/e.yaml --set plan.precision=fp16", dir);
    assert_runs(64, "", "--batch: want a whole number in 1..4096, got \"0\"", "plan %s/e.yaml --batch 0", dir);
    assert_runs(64, "", "--batch wants a value: --batch N", "plan %s/e.yaml --batch", dir);
    assert_runs(64, "", "--eval is a switch and takes no value", "plan %s/e.yaml --eval=1", dir);
    assert_runs(69, "", "", "plan %s/e.yaml --set run.device=toaster", dir);
}

static void data_check_reports(void **state)
{
    (void)state;
    char sheet[200];
    snprintf(sheet, sizeof sheet, "%s/sheet.png", dir);
    json_t *j = json_of(run_program("data check %s/manifest.csv --json", dir)->out);
    json_decref(j);
    assert_runs(0, "", "", "data check %s/manifest.csv --sheet %s", dir, sheet);
    assert_runs(66, "", "nowhere.csv", "data check nowhere.csv");
    write_text("bad.csv", "path,age\nfilms/a.png,old\n");
    assert_runs(65, "", "bad.csv:2", "data check %s/bad.csv", dir);
}

/* Rows of the split: as many as of the manifest, other columns untouched, every film still found, no group on two sides. */
static void assert_split(const char *in, const char *out)
{
    cx_manifest a, b;
    assert_cx_ok(cx_manifest_load(in, &a, err));
    assert_cx_ok(cx_manifest_load(out, &b, err));
    assert_int_equal(a.n, b.n);
    int sides[3] = { 0 };
    for (int i = 0; i < a.n; i++) {
        char *path = cx_sample_path(&b, i);
        assert_true(cx_file_exists(path));
        free(path);
        assert_string_equal(a.samples[i].labels, b.samples[i].labels);
        assert_string_equal(a.samples[i].patient_id, b.samples[i].patient_id);
        assert_true(b.samples[i].split != CX_NO_SPLIT && b.samples[i].group[0]);
        sides[b.samples[i].split]++;
        for (int k = 0; k < i; k++) {
            if (!strcmp(b.samples[i].group, b.samples[k].group) || !strcmp(a.samples[i].patient_id, a.samples[k].patient_id))
                assert_int_equal(b.samples[i].split, b.samples[k].split);
        }
    }
    assert_true(sides[0] > sides[1] && sides[0] > sides[2] && sides[1] > 0 && sides[2] > 0);
    cx_manifest_free(&a);
    cx_manifest_free(&b);
}

static void data_split_writes_a_sound_table(void **state)
{
    (void)state;
    char in[200], out[200], sub[200], before[65], after[65];
    snprintf(in, sizeof in, "%s/manifest.csv", dir);
    snprintf(out, sizeof out, "%s/split.csv", dir);
    snprintf(sub, sizeof sub, "%s/elsewhere", dir);
    assert_cx_ok(cx_sha256_file(in, before, err));
    assert_runs(0, "written: ", "", "data split %s --out %s --no-duplicates", in, out);
    assert_split(in, out);
    /* Another folder: films are found from there too. */
    assert_cx_ok(cx_mkdirs(sub, err));
    assert_runs(0, "all ", "", "data split %s --out %s/s.csv --seed 1", in, sub);
    char moved[300];
    snprintf(moved, sizeof moved, "%s/s.csv", sub);
    assert_split(in, moved);
    /* Splitting a split replaces its columns. */
    assert_runs(0, "", "", "data split %s --out %s/again.csv --no-duplicates --seed 9", out, dir);
    json_t *j = json_of(run_program("data split %s --out %s --no-duplicates --json", in, out)->out);
    int films = 0;
    const char *side;
    json_t *v;
    json_object_foreach(json_object_get(j, "splits"), side, v)
        films += (int)json_integer_value(json_object_get(v, "films"));
    cx_manifest m;
    assert_cx_ok(cx_manifest_load(in, &m, err));
    assert_int_equal(films, m.n);
    cx_manifest_free(&m);
    json_decref(j);
    assert_runs(64, "", "is the manifest itself", "data split %s --out %s/./manifest.csv", in, dir);
    assert_runs(64, "", "leave nothing to train on", "data split %s --out %s --val 0.5 --test 0.5 --no-duplicates", in, out);
    assert_runs(64, "", "--val: want a number in 0..0.9", "data split %s --out %s --val lots", in, out);
    assert_runs(64, "", "data split wants --out", "data split %s", in);
    assert_runs(73, "", "cannot be created", "data split %s --out %s/no/such/x.csv --no-duplicates", in, dir);
    assert_cx_ok(cx_sha256_file(in, after, err));
    assert_string_equal(before, after);
}

static void train_ends_with_measurements(void **state)
{
    (void)state;
    write_experiment(2);
    assert_runs(0, "epoch   2", "", "train %s/e.yaml --threads 2", dir);
    assert_runs(0, "AUROC", "", "train %s/e.yaml --name again", dir);
    json_t *j = json_of(run_program("train %s/e.yaml --json --name third --resume never --set optim.lr=1e-4", dir)->out);
    assert_true(json_is_object(json_object_get(json_object_get(j, "metrics"), "test")));
    char file[300];
    snprintf(file, sizeof file, "%s/predictions.csv", json_string_value(json_object_get(j, "run")));
    assert_true(cx_file_exists(file));
    json_decref(j);
    assert_runs(66, "", "no checkpoint", "train %s/e.yaml --name fourth --resume must", dir);
    assert_runs(64, "", "--resume: want auto|must|never, got \"yes\"", "train %s/e.yaml --resume yes", dir);
    assert_runs(66, "", "nowhere.csv", "train %s/e.yaml --name fifth --set data.manifest=nowhere.csv", dir);
    assert_runs(78, "", "--set", "train %s/e.yaml --set optim.epoch=3", dir);
}

/* Starts a training that would take hours, and signals it once its first epoch is reported. */
static int train_and_signal(const char *sig, const char *resume, const char *err_text)
{
    char command[2000], err[8000], err_path[200];
    snprintf(err_path, sizeof err_path, "%s/stderr", dir);
    snprintf(command, sizeof command,
             "rm -f %s/pipe; mkfifo %s/pipe; '%s' train %s/e.yaml --name stopped --resume %s >%s/pipe 2>%s & pid=$!; "
             "exec 3<%s/pipe; while read -r word rest <&3; do [ \"$word\" = epoch ] && break; done; kill -%s $pid; cat <&3 >/dev/null; wait $pid",
             dir, dir, CX_TEST_PROGRAM, dir, resume, dir, err_path, dir, sig);
    int s = system(command);
    slurp(err_path, err, sizeof err);
    if (!strstr(err, err_text))
        fail_msg("stderr lacks \"%s\": %s", err_text, err);
    return WIFEXITED(s) ? WEXITSTATUS(s) : 128;
}

static void signals_stop_resumably(void **state)
{
    (void)state;
    write_experiment(100000);
    assert_int_equal(train_and_signal("TERM", "auto", "run the same command with --resume auto"), 85);
    assert_int_equal(train_and_signal("INT", "must", "a checkpoint is written"), 85);
    assert_int_equal(train_and_signal("USR1", "auto", "interrupted"), 85);
    char log[200];
    cx_buf b = { 0 };
    snprintf(log, sizeof log, "%s/runs/stopped/log.txt", dir);
    assert_cx_ok(cx_file_read(log, 1 << 20, &b, err));
    assert_non_null(strstr(b.data, "started at epoch 1"));
    assert_non_null(strstr(b.data, "resumed at epoch"));
    cx_buf_free(&b);
}

/* The cache still has the films, so the run ends; its page says what it could not show. Last: no film is left. */
static void films_lost_after_decoding_cost_only_their_pictures(void **state)
{
    (void)state;
    char command[600], page[200];
    cx_buf b = { 0 };
    write_experiment(1);
    assert_runs(0, "report.html", "", "train %s/e.yaml --name lost --set data.side=128 --set run.explain_films=3", dir);
    snprintf(command, sizeof command, "cd '%s' && touch -r . time && find . -name '*.png' ! -path './runs/*' | while read -r f; do touch -r \"$f\" time && "
             "dd if=/dev/zero of=\"$f\" bs=100 count=1 conv=notrunc 2>/dev/null && touch -r time \"$f\" || exit 1; done", dir);
    assert_int_equal(system(command), 0);
    assert_runs(0, "report.html", "", "train %s/e.yaml --name lost --set data.side=128 --set run.explain_films=3", dir);
    snprintf(page, sizeof page, "%s/runs/lost/report.html", dir);
    assert_cx_ok(cx_file_read(page, 1 << 24, &b, err));
    assert_non_null(strstr(b.data, "3 of 3 films have no picture"));
    assert_non_null(strstr(b.data, "Provenance"));
    cx_buf_free(&b);
}

/* Stages of the experiment on paper; a run whose reference film has changed is not opened. */
static void preprocessing_on_paper_and_in_a_run(void **state)
{
    (void)state;
    char path[200];
    cx_film sheet;
    write_experiment(1);
    snprintf(path, sizeof path, "%s/sheet.png", dir);
    assert_runs(0, "3 films after each of 3 stages", "", "data preview %s/e.yaml --films 3 --out %s --set 'data.channels=3' "
                "--set 'preprocess.stages=[clahe, resize keep_aspect=true, channels]'", dir, path);
    assert_cx_ok(cx_film_load(path, &sheet, err));
    assert_true(sheet.width > 6 * 224 && sheet.width < 7 * 234 && sheet.height > 3 * 224 && sheet.height < 1000);       /* film, 2 stages, 3 planes */
    cx_film_free(&sheet);
    assert_runs(78, "", "item 1, \"blur\": no stage", "data preview %s/e.yaml --set 'preprocess.stages=[blur]'", dir);
    assert_runs(78, "", "name the folder of its run in preprocess.lungs", "data preview %s/e.yaml --set 'preprocess.stages=[roi, resize]'", dir);
    assert_runs(66, "", "preprocess.lungs: no/such: no such run", "data preview %s/e.yaml --set 'preprocess.stages=[roi, resize]' "
                "--set preprocess.lungs=no/such", dir);
    assert_runs(64, "", "--films", "data preview %s/e.yaml --films 0", dir);
    assert_runs(0, "roi", "", "config schema");
    snprintf(path, sizeof path, "cp %s/films/0000.png %s/reference.png", dir, dir);
    assert_int_equal(system(path), 0);
    assert_runs(0, "report.html", "", "train %s/e.yaml --name matched --set data.side=128 "
                "--set 'preprocess.stages=[match_histogram reference=%s/reference.png, resize]'", dir, dir);
    assert_runs(0, "", "", "explain %s/runs/matched --in %s/films/0001.png --out %s/maps", dir, dir, dir);
    assert_runs(78, "", "preprocess.lungs: a run of task binary finds no lungs", "data preview %s/e.yaml --set 'preprocess.stages=[roi, resize]' "
                "--set preprocess.lungs=%s/runs/matched", dir, dir);
    snprintf(path, sizeof path, "cp %s/films/0002.png %s/reference.png", dir, dir);
    assert_int_equal(system(path), 0);
    assert_runs(78, "", "preprocessed otherwise in training", "explain %s/runs/matched --in %s/films/0001.png --out %s/maps", dir, dir, dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_verbs), cmocka_unit_test(plan_counts_what_torchvision_counts), cmocka_unit_test(data_check_reports),
        cmocka_unit_test(data_split_writes_a_sound_table), cmocka_unit_test(train_ends_with_measurements), cmocka_unit_test(signals_stop_resumably),
        cmocka_unit_test(preprocessing_on_paper_and_in_a_run), cmocka_unit_test(films_lost_after_decoding_cost_only_their_pictures)
    };
    return cmocka_run_group_tests(tests, make_cohort, remove_cohort);
}
