/* verb_train.c - `cxnet train FILE`: runs an experiment, resumes it, and shows what it measured. */
#include "app.h"
#include "run_report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* self: the experiment. */
static void on_epoch(void *self, int epoch, double train_loss, double val_loss, double val_score, double lr, double seconds)
{
    const cx_config *c = self;
    printf("epoch %3d   train loss %.4f   val loss %.4f   val %s ", epoch, train_loss, val_loss, strcmp(c->data.task, "segmentation") ? "AUROC" : "Dice");
    if (isnan(val_score))
        fputs("   n/a", stdout);
    else
        printf("%.4f", val_score);
    printf("   lr %.2e   %.1f s\n", lr, seconds);
    fflush(stdout);
}

static void on_stage(void *self, int stage, const char *question)
{
    (void)self;
    printf("stage %d: %s\n", stage, question);
    fflush(stdout);
}

static const char *const shown[][2] = {
    { "dice", "Dice" }, { "iou", "IoU" }, { "boundary_px", "outlines, px" },
    { "auroc", "AUROC" }, { "macro_auroc", "macro AUROC" }, { "auprc", "AUPRC" }, { "accuracy", "accuracy" }, { "f1", "F1" },
    { "macro_f1", "macro F1" }, { "sensitivity", "sensitivity" }, { "specificity", "specificity" }, { "brier", "Brier score" }, { "ece", "ECE" },
};

static void print_estimate(const json_t *test, const char *key, const char *name)
{
    const json_t *e = json_object_get(test, key), *v = json_object_get(e, "value"), *lo = json_object_get(e, "lo"), *hi = json_object_get(e, "hi");
    if (!e)
        return;
    printf("  %-19s", name);
    if (!json_is_number(v))
        fputs("n/a", stdout);
    else
        printf("%.3f", json_number_value(v));
    if (json_is_number(lo) && json_is_number(hi))
        printf("   95 %% interval %.3f to %.3f", json_number_value(lo), json_number_value(hi));
    putchar('\n');
}

static void print_confusion(const json_t *metrics, const json_t *test)
{
    const json_t *rows = json_object_get(test, "confusion"), *classes = json_object_get(metrics, "classes"), *row, *cell;
    size_t i, k;
    if (!rows)
        return;
    fputs("\n  truth \\ predicted  ", stdout);
    json_array_foreach(classes, i, cell)
        printf(" %16.16s", json_string_value(cell));
    putchar('\n');
    json_array_foreach(rows, i, row) {
        printf("  %-19.19s", json_string_value(json_array_get(classes, i)));
        json_array_foreach(row, k, cell)
            printf(" %16lld", (long long)json_integer_value(cell));
        putchar('\n');
    }
}

static void print_epochs(const json_t *metrics)
{
    const json_t *stages = json_object_get(metrics, "stages"), *stage;
    size_t i;
    if (!stages)
        printf("epoch %lld\n", (long long)json_integer_value(json_object_get(metrics, "best_epoch")));
    json_array_foreach(stages, i, stage)
        printf("epoch %lld in stage %zu%s", (long long)json_integer_value(json_object_get(stage, "best_epoch")), i + 1, i ? "\n" : ", ");
}

/* Of a hierarchy: by the stage where they arose. */
static void print_errors(const json_t *errors)
{
    const json_t *row;
    const char *name;
    if (!errors)
        return;
    puts("\n  errors of              stage 1   stage 2 divided           stage 2");
    json_object_foreach((json_t *)errors, name, row)
        printf("  %-19.19s %10lld %17lld %17lld\n", name, (long long)json_integer_value(json_object_get(row, "stage1")),
               (long long)json_integer_value(json_object_get(row, "divided")), (long long)json_integer_value(json_object_get(row, "stage2")));
}

static void print_side(const json_t *metrics, const char *side)
{
    const json_t *test = json_object_get(metrics, side), *each = json_object_get(test, "per_class"), *sources = json_object_get(test, "per_source"), *one;
    const char *name;
    if (!test)
        return;
    printf("\n%s: %lld films, weights of ", side, (long long)json_integer_value(json_object_get(test, "films")));
    print_epochs(metrics);
    for (int i = 0; i < CX_COUNT(shown); i++)
        print_estimate(test, shown[i][0], shown[i][1]);
    const json_t *threshold = json_object_get(test, "threshold");
    if (json_is_number(threshold))
        printf("  %-19s%.3f   chosen on validation\n", "threshold", json_number_value(threshold));
    json_object_foreach((json_t *)each, name, one)
        print_estimate(one, "auroc", name);
    if (json_object_size(sources) > 1)
        json_object_foreach((json_t *)sources, name, one)
            print_estimate(one, "dice", name);
    print_confusion(metrics, test);
    print_errors(json_object_get(json_object_get(metrics, "errors"), side));
}

/* Says which class goes with the source, where that is so. */
static void print_sources(const json_t *sources)
{
    const json_t *class;
    const char *name;
    if (!json_is_true(json_object_get(sources, "confounded")))
        return;
    fputs("\nclass and source coincide here (Cramer's V", stdout);
    json_object_foreach((json_t *)json_object_get(sources, "classes"), name, class)
        printf(" %s %.2f", name, json_number_value(json_object_get(class, "cramers_v")));
    puts("): a network can learn the source of a film\ninstead of the disease, and these figures cannot tell; the report has the table");
}

static void print_results(const json_t *metrics, const char *dir)
{
    print_side(metrics, "test");
    print_side(metrics, "external");
    print_sources(json_object_get(metrics, "sources"));
    printf("\nreport: %s/report.html\n", dir);
}

/* The measurements of a finished run; the caller releases them. */
static cx_status load_metrics(const char *dir, json_t **metrics, cx_error *err)
{
    cx_buf b = { 0 };
    json_error_t bad;
    char *path = cx_path_join(dir, "metrics.json");
    cx_status s = path ? cx_file_read(path, (size_t)64 << 20, &b, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
    if (s == CX_OK && !(*metrics = json_loadb(b.data, b.len, 0, &bad)))
        s = cx_fail(err, CX_E_DATA, "%s:%d: %s", path, bad.line, bad.text);
    cx_buf_free(&b);
    free(path);
    return s;
}

static cx_status finish(const cx_args *a, const cx_config *c, const char *dir, cx_error *err)
{
    json_t *metrics;
    for (int i = 1; !strcmp(c->data.task, "hierarchical") && i <= 2; i++) {
        char *stage = cx_sprintf("%s/stage%d", dir, i);
        const cx_status done = stage ? cx_run_report(stage, c->run.threads, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
        free(stage);
        TRY(done);
    }
    TRY(cx_run_report(dir, c->run.threads, err));
    TRY(load_metrics(dir, &metrics, err));
    cx_status s = CX_OK;
    if (cx_arg(a, "--json"))
        s = cx_app_print_json(json_pack("{s:s, s:O}", "run", dir, "metrics", metrics), err);
    else
        print_results(metrics, dir);
    json_decref(metrics);
    return s;
}

static cx_status train(const cx_args *a, cx_config *c, cx_error *err)
{
    char dir[4096];
    int resume;
    TRY(cx_arg_choice(a, "--resume", "auto|must|never", CX_RESUME_AUTO, &resume, err));
    bool json = cx_arg(a, "--json") != NULL;
    cx_run_opts o = { .resume = (cx_resume)resume, .stop = cx_app_stop_on_signals(), .on_epoch = json ? NULL : on_epoch, .on_device = cx_app_on_device,
                      .on_stage = json ? NULL : on_stage, .self = c };
    TRY(cx_comm_open(c->run.comm, c->run.comm_timeout_s, &o.comm, err));
    const bool speaks = cx_comm_rank(o.comm) == 0;
    if (!speaks) {
        o.quiet = true;
        o.on_epoch = NULL;
        o.on_stage = NULL;
        o.on_device = NULL;
    }
    cx_status s = cx_run_train(c, &o, dir, sizeof dir, err);
    cx_comm_close(o.comm, s == CX_OK ? NULL : err);
    if (s == CX_E_INTERRUPTED)
        return cx_fail(err, s, "%s; to go on, run the same command with --resume auto", err->text);
    return s == CX_OK && speaks ? finish(a, c, dir, err) : s;
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_config c;
    TRY(cx_app_config(a, a->positional[0], &c, err));
    cx_status s = train(a, &c, err);
    cx_config_free(&c);
    return s;
}

static const cx_flag flags[] = {
    CX_FLAG_SET,
    { "--name", "NAME", "name of the run and its folder; absent: run.name, or the file's name" },
    { "--resume", "auto|must|never", "auto: go on from the run's checkpoint where there is one; must: only that; never: start over, the old run "
      "is moved aside" },
    CX_FLAG_DEVICE("run.device"),
    CX_FLAG_THREADS,
    CX_FLAG_JSON,
};
const cx_verb cx_verb_train = {
    .name = "train", .args = "FILE.yaml", .doc = "run an experiment: train, measure once on the test films, explain, report", .min_args = 1, .max_args = 1,
    .run = run, .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "Leaves a folder with the resolved experiment, checkpoints, predictions.csv, metrics.json, metrics.csv and report.html. "
            "SIGINT, SIGTERM and SIGUSR1 write a checkpoint and end with code 85; the same command goes on from there, to the same bits; "
            "with another --device it goes on there, to nearly the same numbers. "
            "data.task hierarchical trains two networks, in stage1/ and stage2/ of the folder, and judges them together. "
            "Started by mpirun or srun, the ranks train one network together, each on its part of every batch, and rank 0 writes (run.comm). "
            "Stop mpirun by SIGUSR1: a second after SIGTERM it kills its ranks, and a step may take longer."
};
