/* verb_demo.c - `cxnet demo`: a network that is right for the wrong reason, and one that is not, from nothing but a seed. Depends on demo.h. */
#include <stdlib.h>
#include <string.h>
#include "demo.h"
#include "run_report.h"
#include "verb.h"

static const cx_flag flags[] = {
    { "--out", "DIR", "folder for cohorts, runs and report.html (default: demo)" },
    { "--seed", "N", "another cohort and other weights (default: 1)" },
    CX_FLAG_DEVICE("cpu"), CX_FLAG_THREADS,
    { "--quick", NULL, "fewer films and epochs: a look in seconds, wider intervals" },
};

static const demo_size FULL = { .patients = 800, .side = 112, .epochs = 24, .shown = 10 }, QUICK = { .patients = 330, .side = 112, .epochs = 22,
    .shown = 4 };

static void free_demo(demo *d)
{
    for (int v = 0; v < DEMO_VERSIONS; v++) {
        cx_synth_free(&d->cohort[v]);
        free(d->dir[v]);
        for (int kind = 0; kind < DEMO_KINDS; kind++)
            free(d->net[v].map[kind]);
        cx_csv_free(&d->net[v].history);
        for (int k = 0; k < DEMO_VERSIONS; k++)
            free(d->net[v].score[k].p);
    }
    free(d->test);
    free(d->truth);
    free(d->group);
}

static void print_summary(const demo *d)
{
    static const char *const name[DEMO_VERSIONS] = { "trained where ill films carry a marker", "trained where markers mean nothing" };
    cx_buf lesson = { 0 };
    printf("\n%-42s %-26s %-26s %s\n", "network", "AUROC, films with shortcut", "AUROC, shortcut broken", "heat: lungs, marker, elsewhere");
    for (int v = 0; v < DEMO_VERSIONS; v++) {
        const demo_net *n = &d->net[v];
        printf("%-42s", name[v]);
        for (int k = 0; k < DEMO_VERSIONS; k++) {
            const cx_estimate *e = &n->score[k].m.auroc;
            printf(" %.3f (%.3f to %.3f)    ", e->value, e->lo, e->hi);
        }
        printf(" %3.0f %%  %3.0f %%  %3.0f %%\n", 100 * n->heat[CX_HIRESCAM][DEMO_LUNGS], 100 * n->heat[CX_HIRESCAM][DEMO_MARKER],
            100 * n->heat[CX_HIRESCAM][DEMO_ELSEWHERE]);
    }
    demo_lesson(d, &lesson);
    printf("\n%s\n\nThe films are synthetic. Report: %s/report.html (made in %.0f s)\n", lesson.data ? lesson.data : "", d->out, d->seconds);
    cx_buf_free(&lesson);
}

/* The trainings open it; that it is here is known before films are drawn. */
static cx_status try_device(const demo *d, cx_error *err)
{
    cx_backend *b = NULL;
    TRY(cx_backend_open(d->device, d->threads, &b, err));
    cx_backend_close(b);
    return CX_OK;
}

static cx_status run_demo(demo *d, cx_error *err)
{
    double start = cx_now_s();
    TRY(try_device(d, err));
    TRY(cx_mkdirs(d->out, err));
    printf("1/4  drawing chest films of %d invented patients, twice: with a shortcut, and with the shortcut broken\n", d->size.patients);
    fflush(stdout);
    TRY(demo_make_cohorts(d, err));
    for (int v = 0; v < DEMO_VERSIONS; v++) {
        printf("%d/4  training on the %s cohort\n", v + 2, v == DEMO_SHORTCUT ? "shortcut" : "broken");
        fflush(stdout);
        TRY(demo_train(d, (demo_version)v, err));
    }
    printf("4/4  testing both networks on both versions of the same films, and looking where they look\n");
    fflush(stdout);
    TRY(demo_measure(d, err));
    for (int v = 0; v < DEMO_VERSIONS; v++)
        TRY(cx_run_report(d->net[v].dir, d->threads, err));
    d->seconds = cx_now_s() - start;
    TRY(demo_report(d, err));
    print_summary(d);
    return CX_OK;
}

static cx_status run(const cx_verb *verb, const cx_args *a, cx_error *err)
{
    (void)verb;
    int seed;
    bool quick = cx_arg(a, "--quick") != NULL;
    demo d = { .out = cx_arg(a, "--out") ? cx_arg(a, "--out") : "demo", .device = cx_arg(a, "--device") ? cx_arg(a, "--device") : "cpu",
        .size = quick ? QUICK : FULL };
    TRY(cx_arg_int(a, "--seed", 1, 0, 2147483647, &seed, err));
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &d.threads, err));
    d.seed = (uint64_t)seed;
    cx_status s = run_demo(&d, err);
    free_demo(&d);
    return s;
}

const cx_verb cx_verb_demo = { .name = "demo", .args = "", .doc = "train two networks on invented films and show why accuracy is not enough",
    .flags = flags,
                               .n_flags = CX_COUNT(flags), .min_args = 0, .max_args = 0, .run = run };
