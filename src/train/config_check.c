/* config_check.c - what several keys of an experiment must agree on, and the small languages of data.classes and data.label_sets. */
#include "config.h"
#include <stdlib.h>
#include <string.h>

void cx_spec_free(cx_spec *s)
{
    free(s->label);
    free(s->text);
    *s = (cx_spec){ 0 };
}

static const char *spec_labels(char *labels, cx_spec *out)
{
    size_t n = 1;
    for (const char *p = labels; *p; p++)
        n += *p == '+';
    if (!(out->label = cx_alloc(n, sizeof *out->label)))
        return "no memory";
    for (char *p = labels; p;) {
        char *plus = strchr(p, '+');
        if (plus)
            *plus++ = 0;
        if (!*p)
            return "an empty label";
        if (*p == ' ' || p[strlen(p) - 1] == ' ')
            return "spaces around a label";
        for (int i = 0; i < out->n; i++)
            if (!strcmp(out->label[i], p))
                return "a label stands there twice";
        out->label[out->n++] = p;
        p = plus;
    }
    return NULL;
}

const char *cx_spec_parse(const char *text, char separator, cx_spec *out)
{
    *out = (cx_spec){ 0 };
    const char *wrong = NULL;
    if (strchr(text, '|'))
        return "'|' separates the labels of a manifest and cannot be part of one; gather labels with '+'";
    if (!(out->text = cx_strdup(text)))
        return "no memory";
    out->name = out->text;
    char *labels = strchr(out->text, separator);
    if (!labels) {                                 /* name and label at once; a '+' without a name would be ambiguous */
        if (strchr(text, '+'))
            wrong = "labels gathered with '+' want a name";
        else if ((out->label = cx_alloc(1, sizeof *out->label)))
            out->label[out->n++] = out->name;
        else
            wrong = "no memory";
    } else {
        *labels++ = 0;
        wrong = *out->name ? spec_labels(labels, out) : "an empty name";
    }
    if (!wrong && (*out->name == ' ' || !*out->name || out->name[strlen(out->name) - 1] == ' '))
        wrong = "spaces around the name";
    if (wrong)
        cx_spec_free(out);
    return wrong;
}

typedef struct { int section, key; } place;

static place at(const char *section, const char *key)
{
    int s = cx_config_find_section(section);
    return (place){ s, cx_config_find_key(s, key) };
}

/* Whichever of two keys was set last: a --set before a line of the file, a later line before an earlier one. */
static place later(const cx_sayings *a, place p, place q)
{
    const cx_said *v = &a->said[p.section][p.key], *w = &a->said[q.section][q.key];
    if (!!v->set != !!w->set)
        return v->set ? p : q;
    return w->line > v->line ? q : p;
}

#define FAIL(place_, ...) do { place fail_at_ = (place_); return cx_said_fail(a, fail_at_.section, fail_at_.key, err, __VA_ARGS__); } while (0)

/* A label of p that is also one of q, or NULL. */
static const char *shared_label(const cx_spec *p, const cx_spec *q)
{
    for (int i = 0; i < p->n; i++)
        for (int j = 0; j < q->n; j++)
            if (!strcmp(p->label[i], q->label[j]))
                return p->label[i];
    return NULL;
}

/* Item i of a list against its grammar and the items before it; names differ, and labels too where each film has one class only (exclusive). */
static cx_status one_spec(const cx_sayings *a, const cx_list *list, unsigned i, place where, char separator, bool exclusive, cx_spec *spec, cx_error *err)
{
    char shown[80];
    cx_shown(list->item[i], shown);
    const char *wrong = cx_spec_parse(list->item[i], separator, &spec[i]);
    if (!wrong && separator == ':' && !strchr(list->item[i], ':'))
        wrong = "no ':' after the source";
    if (wrong)
        FAIL(where, "item %u: want %s, got %s: %s", i + 1, separator == ':' ? "source:LabelA+LabelB" : "Label or name=LabelA+LabelB", shown, wrong);
    for (unsigned j = 0; j < i; j++) {
        if (!strcmp(spec[i].name, spec[j].name))
            FAIL(where, "item %u: the name of %s is that of item %u", i + 1, shown, j + 1);
        const char *shared = exclusive ? shared_label(&spec[i], &spec[j]) : NULL;
        if (shared)
            FAIL(where, "item %u: label %.60s belongs to item %u too; want each label in one class (or task multilabel)", i + 1, shared, j + 1);
    }
    return CX_OK;
}

static cx_status specs(const cx_sayings *a, const cx_list *list, place where, char separator, bool exclusive, cx_error *err)
{
    cx_status status = CX_OK;
    cx_spec *spec = cx_alloc(list->n, sizeof *spec);
    if (!spec)
        return cx_fail(err, CX_E_MEMORY, "no memory for the configuration");
    for (unsigned i = 0; i < list->n && status == CX_OK; i++)
        status = one_spec(a, list, i, where, separator, exclusive, spec, err);
    for (unsigned i = 0; i < list->n; i++)
        cx_spec_free(&spec[i]);
    free(spec);
    return status;
}

static cx_status classes(const cx_config *c, const cx_sayings *a, cx_error *err)
{
    place where = at("data", "classes"), task = at("data", "task"), blame = later(a, where, task);
    bool multilabel = !strcmp(c->data.task, "multilabel");
    if (!strcmp(c->data.task, "segmentation"))
        return CX_OK;
    unsigned n = c->data.classes.n;
    if (!strcmp(c->data.task, "binary") && n != 2)
        FAIL(blame, "task binary: want exactly 2 data.classes, [negative, positive], got %u", n);
    if (!strcmp(c->data.task, "multiclass") && n < 3)
        FAIL(blame, "task multiclass: want 3 or more data.classes, got %u; two classes are task binary", n);
    if (!strcmp(c->data.task, "hierarchical") && n < 3)
        FAIL(blame, "task hierarchical: want 3 or more data.classes, [negative, one kind, another kind], got %u", n);
    if (n < 1)
        FAIL(blame, "task multilabel: want 1 or more data.classes, got none");
    if (n > 1024)
        FAIL(where, "want at most 1024 classes, got %u", n);
    TRY(specs(a, &c->data.classes, where, '=', !multilabel, err));
    where = at("data", "label_sets");
    if (c->data.label_sets.n && !multilabel)
        FAIL(later(a, where, task), "data.label_sets mask unknown labels of task multilabel; task %s has none, remove them", c->data.task);
    return specs(a, &c->data.label_sets, where, ':', false, err);
}

/* What a segmentation has, and what others have not. */
static cx_status segmentation(const cx_config *c, const cx_sayings *a, cx_error *err)
{
    const bool is = !strcmp(c->data.task, "segmentation"), unet = !strcmp(c->model.arch, "unet");
    const place task = at("data", "task");
    if (is != unet)
        FAIL(later(a, task, at("model", "arch")), "task %s and model.arch %s do not go together; want unet for task segmentation, and only for it",
             c->data.task, c->model.arch);
    if (!is && strcmp(c->loss.kind, "auto"))
        FAIL(later(a, task, at("loss", "kind")), "loss.kind %s is for task segmentation; want auto, which is cross-entropy", c->loss.kind);
    if (is && c->loss.label_smoothing > 0)
        FAIL(later(a, task, at("loss", "label_smoothing")), "task segmentation takes no label smoothing; want 0, got %g", c->loss.label_smoothing);
    if (!strcmp(c->early_stop.metric, is ? "auroc" : "dice"))
        FAIL(later(a, task, at("early_stop", "metric")), "task %s has no %s on validation; want loss or %s", c->data.task, is ? "AUROC" : "Dice",
             is ? "dice" : "auroc");
    if (is && c->data.label_sets.n)
        FAIL(later(a, task, at("data", "label_sets")), "data.label_sets are for task multilabel; remove them");
    return CX_OK;
}

static cx_status run_name(const cx_config *c, const cx_sayings *a, cx_error *err)
{
    const char *name = c->run.name;
    if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..") || strlen(name) > 200) {
        char shown[80];
        cx_shown(name, shown);
        FAIL(at("run", "name"), "want the name of a folder, at most 200 bytes and without '/', got %s; run.dir says where it is made", shown);
    }
    if (!*c->run.dir)
        FAIL(at("run", "dir"), "want a folder, got \"\"; write . for this one");
    return CX_OK;
}

/* The list as the data room reads it, and the planes that come out of it beside the other keys of the input. */
static cx_status stages(const cx_config *c, const cx_sayings *a, cx_error *err)
{
    cx_pipeline *p;
    cx_normalise norm;
    cx_error wrong = { 0 };
    if (cx_pipeline_new(c->preprocess.stages.item, (int)c->preprocess.stages.n, c->data.side, c->data.channels, &p, &wrong) != CX_OK)
        FAIL(at("preprocess", "stages"), "%s", wrong.text);
    const cx_status s = cx_normalise_named(c->data.normalise, c->data.channels, cx_pipeline_planes(p), &norm, &wrong);
    const bool lungs = cx_pipeline_wants_lungs(p);
    cx_pipeline_free(p);
    if (lungs && !strcmp(c->data.task, "segmentation"))
        FAIL(later(a, at("preprocess", "stages"), at("data", "task")),
             "roi and mask_out want a network that finds lungs; task segmentation trains one, without them");
    if (lungs && !*c->preprocess.lungs)
        FAIL(at("preprocess", "stages"), "roi and mask_out want a network that finds lungs; name the folder of its run in preprocess.lungs");
    if (s != CX_OK)
        FAIL(later(a, at("data", "normalise"), at("data", "channels")), "%s", wrong.text);
    return CX_OK;
}

cx_status cx_config_check(const cx_config *c, const cx_sayings *a, cx_error *err)
{
    TRY(run_name(c, a, err));
    TRY(classes(c, a, err));
    TRY(segmentation(c, a, err));
    if (!(c->data.val + c->data.test < 1))
        FAIL(later(a, at("data", "val"), at("data", "test")), "want data.val + data.test < 1, so that films remain to train on, got %g + %g", c->data.val,
             c->data.test);
    if (c->data.channels == 2)
        FAIL(at("data", "channels"), "want 1 or 3, got 2");
    TRY(stages(c, a, err));
    if (c->schedule.min_lr > c->optim.lr)
        FAIL(later(a, at("schedule", "min_lr"), at("optim", "lr")), "want schedule.min_lr <= optim.lr, got %g > %g", c->schedule.min_lr,
             c->optim.lr);
    if (c->schedule.warmup_epochs > 0 && c->schedule.warmup_epochs >= c->optim.epochs)
        FAIL(later(a, at("schedule", "warmup_epochs"), at("optim", "epochs")), "want schedule.warmup_epochs < optim.epochs, got %g >= %d",
             c->schedule.warmup_epochs, c->optim.epochs);
    unsigned skip;
    cx_error wrong = { 0 };
    if (cx_passes_parse(c->plan.fuse, &skip, &wrong) != CX_OK)
        FAIL(at("plan", "fuse"), "%s", wrong.text);
    for (unsigned i = 0; i < c->model.freeze.n; i++)
        if (strchr(c->model.freeze.item[i], ' '))
            FAIL(at("model", "freeze"), "item %u: want a pattern of parameter names such as features.*, got one with a space", i + 1);
    return CX_OK;
}
