/* run_report_stages.c - the part of a hierarchy's page that is about its stages: where errors arose, and how each was trained. Depends on run_page.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run_page.h"

static const char *const KIND[] = { "stage1", "divided", "stage2" };
static const char *const HEAD[] = { "truth", "stage 1", "stage 1 right, stage 2 divided", "stage 2", "errors" };
enum { COLUMNS = CX_COUNT(HEAD), KINDS = CX_COUNT(KIND) };

static cx_status error_table(page *p, cx_error *err)
{
    const json_t *errors = json_object_get(json_object_get(p->metrics, "errors"), "test");
    const int n = p->net.n_classes, rows = n + 2;
    char (*text)[24] = cx_alloc((size_t)(rows * COLUMNS), sizeof *text);
    const char **cells = cx_alloc((size_t)(rows * COLUMNS), sizeof *cells);
    json_int_t sum[KINDS + 1] = { 0 };
    const bool room = text && cells;
    for (int k = 0; room && k <= n; k++) {
        const json_t *row = k < n ? json_object_get(errors, p->net.classes[k]) : NULL;
        json_int_t all = 0;
        for (int i = 0; i <= KINDS; i++) {
            const json_int_t count = k == n ? sum[i] : i == KINDS ? all : json_integer_value(json_object_get(row, KIND[i]));
            all += count;
            sum[i] += count;
            snprintf(text[(k + 1) * COLUMNS + i + 1], sizeof *text, "%lld", (long long)count);
        }
    }
    for (int i = 0; room && i < rows * COLUMNS; i++)
        cells[i] = i < COLUMNS ? HEAD[i] : i % COLUMNS ? text[i] : i / COLUMNS <= n ? p->net.classes[i / COLUMNS - 1] : "all";
    if (room) {
        cx_report_table(&p->page, "Test films given another class, by the stage where the error arose", cells, rows, COLUMNS);
        cx_report_text(&p->page, "A class has the probability that both stages give it together: that of the rest, times its part of the rest; the largest is "
                       "the answer. Stage 1 took %s for one of the rest, or the reverse; stage 2 took one kind for another. Divided: stage 1 gave the rest at "
                       "least one half, but stage 2 divided that so evenly that no part was as large as the probability of %s.", p->net.classes[0],
                       p->net.classes[0]);
    }
    free(text);
    free(cells);
    return room ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory");
}

static cx_status stage_curves(page *p, const json_t *stage, int number, cx_error *err)
{
    char title[96], *file = cx_sprintf("%s/stage%d/metrics.csv", p->run, number);
    cx_csv whole = p->history;
    cx_status s = file ? cx_csv_load(file, &p->history, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK) {
        cx_report_text(&p->page, "Stage %d: %s; weights of epoch %d. Its own page is stage%d/report.html.", number,
                       json_string_value(json_object_get(stage, "question")), (int)json_integer_value(json_object_get(stage, "best_epoch")), number);
        snprintf(title, sizeof title, "Loss of stage %d", number);
        page_curve(p, title, "loss", (const char *[]){ "train_loss", "val_loss" }, (const char *[]){ "training", "validation" }, 2, 0, NAN);
        snprintf(title, sizeof title, "AUROC of stage %d on validation", number);
        page_curve(p, title, "AUROC", (const char *[]){ "val_auroc" }, (const char *[]){ "validation" }, 1, NAN, 1);
        cx_csv_free(&p->history);
    }
    p->history = whole;
    free(file);
    return s;
}

cx_status page_stages(page *p, cx_error *err)
{
    const json_t *stage;
    size_t i;
    cx_report_heading(&p->page, "Stages");
    TRY(error_table(p, err));
    json_array_foreach(json_object_get(p->metrics, "stages"), i, stage)
        TRY(stage_curves(p, stage, (int)i + 1, err));
    return CX_OK;
}
