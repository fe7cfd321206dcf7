/* hierarchy.c - a network in two stages, the first class against the rest and then the rest among themselves: two runs over the films and the split of one
 * cohort, and what they say together. Depends on run.h.
 *
 * The study trained its second stage with normal films counted as pneumonia and never tested the two together. Here both learn from one split, the second from
 * films of the rest alone, and both answer for every film of validation and test. */
#include <stdlib.h>
#include <string.h>
#include "run.h"

enum { STAGES = 2, SIDES = 3 };            /* sides: validation, test, external */

typedef struct hierarchy hierarchy;
struct cx_stage {
    hierarchy *whole;
    int number;                  /* from 0 */
    cx_config config;            /* that of the whole, with other texts in run.dir, run.name, data.task and data.classes, which belong to it */
    cx_run_opts opts;
    cx_eval side[SIDES];
    int best_epoch;
};
struct hierarchy {
    cx_run run;                  /* folder, log and cohort; no network of its own */
    bool begun;
    cx_stage stage[STAGES];
};

void cx_joint(const double *first, const double *second, int n, double *p)
{
    p[0] = first[0];
    for (int k = 1; k < n; k++)
        p[k] = first[1] * second[k - 1];
}

/* ---- the two configurations ------------------------------------------------------------------------------------ */

/* "A or B=LabelA+LabelB": classes 1 to n - 1 under one name. Owned by the caller; NULL when out of memory. */
static char *the_rest(const cx_spec *class, int n)
{
    cx_buf b = { 0 };
    for (int k = 1; k < n; k++)
        cx_buf_printf(&b, "%s%s", k > 1 ? " or " : "", class[k].name);
    for (int k = 1; k < n; k++)
        for (int i = 0; i < class[k].n; i++)
            cx_buf_printf(&b, "%c%s", k == 1 && i == 0 ? '=' : '+', class[k].label[i]);
    if (b.failed)
        cx_buf_free(&b);
    return b.data;
}

static bool stage_classes(const cx_config *c, const cx_spec *class, int n, cx_stage *s)
{
    cx_list *l = &s->config.data.classes;
    *l = (cx_list){ .n = s->number ? (unsigned)n - 1 : 2 };
    if (!(l->item = cx_alloc(l->n, sizeof *l->item)))
        return false;
    bool whole = true;
    for (unsigned k = 0; k < l->n; k++)
        whole &= (l->item[k] = s->number == 0 && k == 1 ? the_rest(class, n) : cx_strdup(c->data.classes.item[k + (unsigned)s->number])) != NULL;
    return whole;
}

static cx_status stage_config(const cx_config *c, const char *dir, cx_stage *s, cx_error *err)
{
    cx_spec *class;
    int n;
    s->config = *c;
    s->config.data.classes = (cx_list){ 0 };
    s->config.run.dir = cx_strdup(dir);
    s->config.run.name = cx_sprintf("stage%d", s->number + 1);
    cx_status status = cx_specs_parse(&c->data.classes, '=', &class, &n, err);
    s->config.data.task = cx_strdup(s->number && n > 3 ? "multiclass" : "binary");
    if (status == CX_OK && (!stage_classes(c, class, n, s) || !s->config.run.dir || !s->config.run.name || !s->config.data.task))
        status = cx_fail(err, CX_E_MEMORY, "out of memory for the configuration of stage %d", s->number + 1);
    cx_specs_free(class, n);
    return status;
}

static void stage_free(cx_stage *s)
{
    if (!s->whole)
        return;
    for (int i = 0; i < SIDES; i++)
        cx_eval_free(&s->side[i]);
    for (unsigned k = 0; s->config.data.classes.item && k < s->config.data.classes.n; k++)
        free(s->config.data.classes.item[k]);
    free(s->config.data.classes.item);
    free(s->config.run.dir);
    free(s->config.run.name);
    free(s->config.data.task);
}

/* "Clear against Opacity or Edema", "Opacity against Edema". */
static char *question(const cx_stage *s)
{
    cx_buf b = { 0 };
    for (unsigned k = 0; k < s->config.data.classes.n; k++) {
        const char *item = s->config.data.classes.item[k];
        cx_buf_printf(&b, "%s%.*s", k ? " against " : "", (int)strcspn(item, "="), item);
    }
    if (b.failed)
        cx_buf_free(&b);
    return b.data;
}

/* ---- what the runs of the stages call ---------------------------------------------------------------------------- */

cx_status cx_stage_begin(cx_stage *s, cx_error *err)
{
    cx_run *r = &s->whole->run;
    bool resume;
    if (s->whole->begun)
        return CX_OK;
    TRY(cx_run_open_dir(r, &resume, err));
    TRY(cx_run_write_config(r, err));
    TRY(cx_cohort_load(r->config, r->opts->stop, &r->cohort, err));
    s->whole->begun = true;
    return resume ? CX_OK : cx_run_manifest_write(r, "started", err);
}

cx_status cx_stage_cohort(const cx_stage *s, cx_cohort *out, cx_error *err)
{
    return cx_cohort_stage(&s->whole->run.cohort, &s->config, s->number, out, err);
}

cx_status cx_stage_answer(cx_stage *s, cx_run *r, cx_error *err)
{
    s->best_epoch = r->state.best_epoch + 1;
    for (int i = 0; i < SIDES; i++) {
        int *film, n;
        TRY(cx_run_decoded(r, &s->whole->run.cohort, (cx_split)(CX_VAL + i), &film, &n, err));
        TRY(cx_evaluate_films(r, film, n, &s->side[i], err));
    }
    return CX_OK;
}

/* ---- together ------------------------------------------------------------------------------------------------------ */

static cx_status join(hierarchy *h, int side, cx_eval *out, cx_error *err)
{
    const cx_cohort *c = &h->run.cohort;
    cx_eval *first = &h->stage[0].side[side], *second = &h->stage[1].side[side];
    const size_t n = (size_t)c->n_classes;
    *out = (cx_eval){ .n = first->n, .film = first->film, .p = cx_alloc((size_t)first->n * n, sizeof *out->p) };
    first->film = NULL;
    if (!out->p)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d predictions", out->n);
    for (size_t i = 0; i < (size_t)out->n; i++)
        cx_joint(first->p + i * 2, second->p + i * (n - 1), c->n_classes, out->p + i * n);
    return cx_eval_judge(c, out, err);
}

/* Of the films of each class that were given another, how many by whom: stage1 took a film of the first class for one of the rest, or the reverse; stage2 took
 * one kind for another; divided: stage 1 was right, and stage 2 so undecided that no part of P(rest) is as large as P(first class). */
static json_t *errors_json(const cx_cohort *c, const cx_eval *e)
{
    static const char *const name[] = { "stage1", "divided", "stage2" };
    json_t *j = json_object();
    for (int k = 0; k < c->n_classes; k++) {
        json_int_t count[CX_COUNT(name)] = { 0 };
        for (int i = 0; i < e->n; i++) {
            const double *p = e->p + (size_t)i * (size_t)c->n_classes;
            int said = 0;
            for (int other = 1; other < c->n_classes; other++)
                said = p[other] > p[said] ? other : said;
            if ((int)c->target[e->film[i]] == k && said != k)
                count[k && said ? 2 : k && p[0] < 0.5 ? 1 : 0]++;
        }
        json_t *row = json_object();
        for (int i = 0; i < CX_COUNT(name); i++)
            json_object_set_new(row, name[i], json_integer(count[i]));
        json_object_set_new(j, c->classes[k].name, row);
    }
    return j;
}

static json_t *stages_json(const hierarchy *h)
{
    json_t *j = json_array();
    for (int i = 0; i < STAGES; i++) {
        char *text = question(&h->stage[i]);
        json_array_append_new(j, json_pack("{s:s, s:s, s:i}", "run", h->stage[i].config.run.name, "question", text ? text : "", "best_epoch",
                                           h->stage[i].best_epoch));
        free(text);
    }
    return j;
}

static cx_status write_joint(hierarchy *h, cx_error *err)
{
    cx_run *r = &h->run;
    cx_eval side[SIDES] = { { 0 } };
    json_t *errors = json_object();
    cx_status s = CX_OK;
    for (int i = 0; s == CX_OK && i < SIDES; i++)
        if ((s = join(h, i, &side[i], err)) == CX_OK && side[i].n)
            json_object_set_new(errors, cx_split_name((cx_split)(CX_VAL + i)), errors_json(&r->cohort, &side[i]));
    if (s == CX_OK)
        s = cx_results_write(r, &side[0], &side[1], &side[2], json_pack("{s:o, s:O}", "stages", stages_json(h), "errors", errors), err);
    json_decref(errors);
    for (int i = 0; i < SIDES; i++)
        cx_eval_free(&side[i]);
    return s == CX_OK ? cx_run_manifest_write(r, "finished", err) : s;
}

/* ---- the run --------------------------------------------------------------------------------------------------------- */

/* The second stage begins when the first has ended: a run that was interrupted before has nothing of it to go on from. */
static cx_status train_stage(hierarchy *h, int number, cx_error *err)
{
    cx_stage *s = &h->stage[number];
    cx_run *r = &h->run;
    *s = (cx_stage){ .whole = h, .number = number, .opts = *r->opts };
    if (number > 0 || s->opts.resume == CX_RESUME_NEVER)      /* never: the folder of the whole is aside */
        s->opts.resume = CX_RESUME_AUTO;
    char *dir = cx_path_join(r->config->run.dir, *r->config->run.name ? r->config->run.name : "run");
    cx_status status = dir ? stage_config(r->config, dir, s, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    free(dir);
    if (status != CX_OK)
        return status;
    char *text = question(s);
    if (r->opts->on_stage)
        r->opts->on_stage(r->opts->self, number + 1, text ? text : "");
    free(text);
    status = cx_run_network(&s->config, &s->opts, s, NULL, 0, err);
    if (status == CX_OK)
        cx_run_log(r, "stage %d: epoch %d is the best", number + 1, s->best_epoch);
    return cx_prefix(err, status, "stage %d", number + 1);
}

cx_status cx_hierarchy_train(const cx_config *c, const cx_run_opts *o, char *dir, size_t dir_len, cx_error *err)
{
    hierarchy *h = cx_alloc(1, sizeof *h);
    if (!h)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    h->run = (cx_run){ .config = c, .opts = o, .comm = o->comm, .state.best_epoch = -1 };
    cx_status s = CX_OK;
    for (int i = 0; s == CX_OK && i < STAGES; i++)
        s = train_stage(h, i, err);
    if (s == CX_OK)
        s = write_joint(h, err);
    if (dir && dir_len)
        snprintf(dir, dir_len, "%s", h->run.dir ? h->run.dir : "");
    cx_run_log(&h->run, s == CX_OK ? "finished" : "stopped: %s", err->text);
    for (int i = 0; i < STAGES; i++)
        stage_free(&h->stage[i]);
    cx_run_close(&h->run);
    free(h);
    return s;
}
