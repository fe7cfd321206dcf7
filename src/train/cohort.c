/* cohort.c - chooses the films of an experiment, their targets, their split and the weights of their classes. Depends on cohort.h. */
#include <stdlib.h>
#include <string.h>
#include "cohort.h"

cx_task cx_task_of(const cx_config *c)
{
    if (!strcmp(c->data.task, "multiclass") || !strcmp(c->data.task, "hierarchical"))
        return TASK_MULTICLASS;
    if (!strcmp(c->data.task, "segmentation"))
        return TASK_SEGMENTATION;
    return !strcmp(c->data.task, "multilabel") ? TASK_MULTILABEL : TASK_BINARY;
}

cx_status cx_specs_parse(const cx_list *list, char separator, cx_spec **out, int *n, cx_error *err)
{
    *n = 0;
    *out = cx_alloc(list->n, sizeof **out);
    if (!*out)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %u classes", list->n);
    for (unsigned i = 0; i < list->n; i++, (*n)++) {
        const char *wrong = cx_spec_parse(list->item[i], separator, &(*out)[i]);
        if (wrong)
            return cx_fail(err, CX_E_CONFIG, "\"%s\": %s", list->item[i], wrong);
    }
    return CX_OK;
}

void cx_specs_free(cx_spec *specs, int n)
{
    for (int i = 0; specs && i < n; i++)
        cx_spec_free(&specs[i]);
    free(specs);
}

static bool belongs(const cx_spec *k, const char *labels)
{
    for (int i = 0; i < k->n; i++)
        if (cx_has_label(labels, k->label[i]))
            return true;
    return false;
}

static bool listed(const cx_list *list, const char *text)
{
    for (unsigned i = 0; i < list->n; i++)
        if (!strcmp(list->item[i], text))
            return true;
    return false;
}

static bool passes(const cx_list *filter, const char *text) { return filter->n == 0 || listed(filter, text); }

/* Has this source looked for any label of class k? Sources without an entry in label_sets have looked for everything. */
static bool looked_for(const cx_cohort *h, const char *source, const cx_spec *k)
{
    for (int i = 0; i < h->n_sets; i++) {
        if (strcmp(h->sets[i].name, source))
            continue;
        for (int j = 0; j < h->sets[i].n; j++)
            for (int l = 0; l < k->n; l++)
                if (!strcmp(h->sets[i].label[j], k->label[l]))
                    return true;
        return false;
    }
    return true;
}

/* Writes the targets of one film; false when nothing is asked of it. */
static bool target_of(const cx_cohort *h, const cx_sample *s, float *t)
{
    int hits = 0, labelled = 0;
    if (h->task == TASK_SEGMENTATION)
        return *s->mask;
    if (!*s->labels)
        return false;
    for (int k = 0; k < h->n_classes; k++) {
        bool is = belongs(&h->classes[k], s->labels);
        hits += is;
        if (h->task == TASK_MULTILABEL) {
            bool known = is || looked_for(h, s->source, &h->classes[k]);
            t[k] = is ? 1 : known ? 0 : -1;
            labelled += known;
        } else if (is) {
            t[0] = (float)k;
        }
    }
    return h->task == TASK_MULTILABEL ? labelled > 0 : hits == 1;
}

/* Fills sample and target; keeps manifest rows in order. */
static cx_status choose(const cx_config *c, cx_cohort *h, cx_error *err)
{
    const cx_manifest *m = &h->manifest;
    size_t rows = (size_t)m->n;
    h->sample = cx_alloc(rows, sizeof *h->sample);
    h->target = cx_alloc(rows * (size_t)h->n_targets, sizeof *h->target);
    h->split = cx_alloc(rows, sizeof *h->split);
    h->group = cx_alloc(rows, sizeof *h->group);
    if (!h->sample || !h->target || !h->split || !h->group)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d films", m->n);
    for (int i = 0; i < m->n; i++) {
        const cx_sample *s = &m->samples[i];
        if (!passes(&c->data.sources, s->source) || !passes(&c->data.views, s->view) || s->age < c->data.min_age)
            h->left_out_filter++;
        else if (!target_of(h, s, h->target + (size_t)h->n * (size_t)h->n_targets))
            h->left_out_label++;
        else
            h->sample[h->n++] = i;
    }
    return CX_OK;
}

/* Only the films that take part, as a manifest of its own: the audit and the split see nothing else. Strings belong to the whole. */
static cx_status subset(const cx_cohort *h, cx_manifest *out, cx_error *err)
{
    *out = h->manifest;
    out->n = h->n;
    out->samples = cx_alloc((size_t)h->n, sizeof *out->samples);
    if (!out->samples)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d films", h->n);
    for (int i = 0; i < h->n; i++)
        out->samples[i] = h->manifest.samples[h->sample[i]];
    return CX_OK;
}

/* The manifest's own split, unless it leaks. */
static cx_status own_split(const cx_config *c, cx_cohort *h, const cx_manifest *m, const cx_audit *audit, cx_error *err)
{
    cx_buf text = { 0 };
    for (int i = 0; i < m->n; i++)
        h->split[i] = m->samples[i].split;
    int leaks = c->data.allow_leak ? 0 : cx_split_leaks(m, audit, h->split, &text);
    cx_status s = CX_OK;
    if (leaks < 0)
        s = cx_fail(err, CX_E_MEMORY, "out of memory to check the split of %d films", m->n);
    else if (leaks)
        s = cx_fail(err, CX_E_CONFIG, "%s: the split column leaks: %d group(s) lie on two sides (%.200s); "
                    "make a new one with `cxnet data split`, or set data.allow_leak: true",
                    h->manifest.path, leaks, text.data ? text.data : "");
    cx_buf_free(&text);
    return s;
}

/* The films of external sources; one of them that a group shares with other films is left out. */
static cx_status set_external(const cx_config *c, cx_cohort *h, cx_error *err)
{
    bool *inside = cx_alloc((size_t)h->n, sizeof *inside);           /* of a group, by its first film: some film of it is not external */
    if (!inside)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d films", h->n);
    for (int i = 0; i < h->n; i++)
        inside[h->group[i]] |= !listed(&c->data.external, h->manifest.samples[h->sample[i]].source);
    for (int i = 0; i < h->n; i++)
        if (listed(&c->data.external, h->manifest.samples[h->sample[i]].source))
            h->split[i] = inside[h->group[i]] ? CX_NO_SPLIT : CX_EXTERNAL;
    free(inside);
    return CX_OK;
}

/* Films that the manifest's split leaves out take no part. */
static void drop_unsplit(cx_cohort *h)
{
    size_t width = (size_t)h->n_targets;
    int kept = 0;
    for (int i = 0; i < h->n; i++) {
        if (h->split[i] == CX_NO_SPLIT) {
            h->left_out_split++;
            continue;
        }
        h->sample[kept] = h->sample[i];
        h->split[kept] = h->split[i];
        h->group[kept] = h->group[i];
        memmove(h->target + (size_t)kept * width, h->target + (size_t)i * width, sizeof(float) * width);
        kept++;
    }
    h->n = kept;
}

/* A manifest that brings both split and group columns was made by `cxnet data split`: its duplicates are joined already,
and no film is decoded for them. */
static cx_status split(const cx_config *c, cx_cohort *h, cx_error *err)
{
    cx_manifest m;
    cx_audit audit = { 0 };
    cx_split_opts opts = { .seed = (uint64_t)c->data.split_seed, .val = c->data.val, .test = c->data.test };
    bool own = false, grouped = true;
    TRY(subset(h, &m, err));
    for (int i = 0; i < m.n; i++) {
        own |= m.samples[i].split != CX_NO_SPLIT;
        grouped &= *m.samples[i].group != '\0';
    }
    const cx_audit *a = c->data.near_duplicates && !(own && grouped) ? &audit : NULL;
    cx_status s = a ? cx_audit_run(&m, &audit, err) : CX_OK;
    if (s == CX_OK)
        s = cx_split_make(&m, a, &opts, h->split, h->group, err);     /* also names the groups of a manifest with its own split */
    if (s == CX_OK && own)
        s = own_split(c, h, &m, a, err);
    cx_audit_free(&audit);
    free(m.samples);
    if (s == CX_OK && c->data.external.n)
        s = set_external(c, h, err);
    if (s == CX_OK)
        drop_unsplit(h);
    return s;
}

/* n / (classes * n_class) over the training films (scikit-learn's "balanced"); 1 for a class without films. */
static cx_status weigh(const cx_config *c, cx_cohort *h, cx_error *err)
{
    bool softmax = h->task == TASK_MULTICLASS;
    if (h->task == TASK_SEGMENTATION)
        return CX_OK;
    int classes = softmax ? h->n_classes : 2, columns = softmax ? 1 : h->n_targets, cells = classes * columns;
    double *count = cx_alloc((size_t)cells, sizeof *count);         /* [classes, columns] */
    h->loss_weight = cx_alloc((size_t)cells, sizeof *h->loss_weight);
    if (!count || !h->loss_weight) {
        free(count);
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d class weights", cells);
    }
    for (int i = 0; i < h->n; i++)
        for (int j = 0; j < columns && h->split[i] == CX_TRAIN; j++) {
            float t = h->target[(size_t)i * (size_t)h->n_targets + (size_t)j];
            if (t >= 0)
                count[(int)t * columns + j]++;
        }
    for (int cell = 0; cell < cells; cell++) {
        double total = 0;
        for (int k = 0; k < classes; k++)
            total += count[k * columns + cell % columns];
        bool plain = strcmp(c->loss.class_weights, "balanced") || count[cell] == 0;
        h->loss_weight[cell] = plain ? 1 : (float)(total / (classes * count[cell]));
    }
    free(count);
    return CX_OK;
}

static int count_films(const cx_cohort *h, cx_split side, int k)
{
    int count = 0;
    for (int i = 0; i < h->n; i++) {
        const float *t = h->target + (size_t)i * (size_t)h->n_targets;
        count += h->split[i] == side && (k < 0 || (h->task == TASK_MULTILABEL ? t[k] == 1 : (int)t[0] == k));
    }
    return count;
}

/* Every side has films; for binary and multiclass every class is on every side, for multilabel in training at least. */
static cx_status check(const cx_cohort *h, cx_error *err)
{
    for (int side = CX_TRAIN; side <= CX_TEST; side++) {
        if (!count_films(h, (cx_split)side, -1))
            return cx_fail(err, CX_E_CONFIG, "%s: the %s side of the split is empty (%d films take part, %d have none of the %s, %d were filtered out); "
                           "mend data.%s, data.val, data.test or the split column",
                           h->manifest.path, cx_split_name((cx_split)side), h->n, h->left_out_label, h->n_targets ? "classes" : "masks", h->left_out_filter,
                           h->n_targets ? "classes" : "manifest");
        for (int k = 0; k < h->n_classes; k++)
            if ((side == CX_TRAIN || h->task != TASK_MULTILABEL) && !count_films(h, (cx_split)side, k))
                return cx_fail(err, CX_E_CONFIG, "%s: class \"%s\" has no film on the %s side; mend data.classes or the split",
                               h->manifest.path, h->classes[k].name, cx_split_name((cx_split)side));
    }
    return CX_OK;
}

/* A source that no film has is a slip of the pen, and a silent one: its films would be left out, or their unknown labels taken for absent ones. */
static cx_status check_source(const cx_cohort *h, const char *key, const char *name, cx_error *err)
{
    for (int i = 0; i < h->manifest.n; i++)
        if (!strcmp(h->manifest.samples[i].source, name))
            return CX_OK;
    return cx_fail(err, CX_E_CONFIG, "%s: no film of %s has the source \"%s\"; mend the name or take it out", key, h->manifest.path, name);
}

static cx_status load(const cx_config *c, const volatile sig_atomic_t *stop, cx_cohort *h, cx_error *err)
{
    if (!*c->data.manifest)
        return cx_fail(err, CX_E_CONFIG, "data.manifest is not set: name the manifest CSV of the films, e.g. --set data.manifest=cohort/manifest.csv");
    h->task = cx_task_of(c);
    if (h->task != TASK_SEGMENTATION)
        TRY(cx_specs_parse(&c->data.classes, '=', &h->classes, &h->n_classes, err));
    TRY(cx_specs_parse(&c->data.label_sets, ':', &h->sets, &h->n_sets, err));
    h->outputs = h->task == TASK_BINARY || h->task == TASK_SEGMENTATION ? 1 : h->n_classes;
    h->n_targets = h->task == TASK_MULTILABEL ? h->n_classes : h->task != TASK_SEGMENTATION;
    TRY(cx_manifest_load(c->data.manifest, &h->manifest, err));
    h->manifest.stop = stop;
    for (unsigned i = 0; i < c->data.sources.n; i++)
        TRY(check_source(h, "data.sources", c->data.sources.item[i], err));
    for (unsigned i = 0; i < c->data.external.n; i++)
        TRY(check_source(h, "data.external", c->data.external.item[i], err));
    for (int i = 0; i < h->n_sets; i++)
        TRY(check_source(h, "data.label_sets", h->sets[i].name, err));
    TRY(choose(c, h, err));
    if (h->n == 0)
        return cx_fail(err, CX_E_CONFIG, "%s: no film takes part (%d have none of the %s, %d were filtered out); "
                       "mend data.%s, sources, views or min_age",
                       h->manifest.path, h->left_out_label, h->n_targets ? "classes" : "masks", h->left_out_filter, h->n_targets ? "classes" : "manifest");
    TRY(split(c, h, err));
    TRY(check(h, err));
    if (c->data.external.n && !count_films(h, CX_EXTERNAL, -1))
        return cx_fail(err, CX_E_CONFIG, "data.external: no film is left of these sources: each is filtered out, or shares a patient or a duplicate with the "
                       "others; leave them out");
    return weigh(c, h, err);
}

cx_status cx_cohort_load(const cx_config *c, const volatile sig_atomic_t *stop, cx_cohort *out, cx_error *err)
{
    memset(out, 0, sizeof *out);
    cx_status s = load(c, stop, out, err);
    if (s != CX_OK)
        cx_cohort_free(out);
    return s;
}

static cx_status make_stage(const cx_cohort *all, const cx_config *c, int stage, cx_cohort *h, cx_error *err)
{
    const size_t n = (size_t)all->n;
    h->task = cx_task_of(c);
    TRY(cx_specs_parse(&c->data.classes, '=', &h->classes, &h->n_classes, err));
    h->outputs = cx_config_outputs(c);
    h->n_targets = 1;
    h->sample = cx_alloc(n, sizeof *h->sample);
    h->target = cx_alloc(n, sizeof *h->target);
    h->split = cx_alloc(n, sizeof *h->split);
    h->group = cx_alloc(n, sizeof *h->group);
    if (!h->sample || !h->target || !h->split || !h->group)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d films", all->n);
    memcpy(h->sample, all->sample, n * sizeof *h->sample);
    memcpy(h->group, all->group, n * sizeof *h->group);
    for (h->n = 0; h->n < all->n; h->n++) {
        const float k = all->target[h->n];
        h->target[h->n] = stage == 0 ? (float)(k > 0) : k - 1;
        h->split[h->n] = stage == 1 && k == 0 ? CX_NO_SPLIT : all->split[h->n];
    }
    TRY(check(h, err));
    return weigh(c, h, err);
}

cx_status cx_cohort_stage(const cx_cohort *all, const cx_config *c, int stage, cx_cohort *out, cx_error *err)
{
    *out = (cx_cohort){ .manifest = all->manifest, .lent = true, .left_out_label = all->left_out_label, .left_out_filter = all->left_out_filter,
                        .left_out_split = all->left_out_split };
    const cx_status s = make_stage(all, c, stage, out, err);
    if (s != CX_OK)
        cx_cohort_free(out);
    return s;
}

void cx_cohort_free(cx_cohort *h)
{
    cx_specs_free(h->classes, h->n_classes);
    cx_specs_free(h->sets, h->n_sets);
    if (!h->lent)
        cx_manifest_free(&h->manifest);
    free(h->sample);
    free(h->target);
    free(h->split);
    free(h->group);
    free(h->loss_weight);
    memset(h, 0, sizeof *h);
}

cx_status cx_cohort_side(const cx_cohort *h, cx_split side, int **index, int *n, cx_error *err)
{
    *n = 0;
    *index = cx_alloc((size_t)h->n, sizeof **index);
    if (!*index)
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d films", h->n);
    for (int i = 0; i < h->n; i++)
        if (h->split[i] == side)
            (*index)[(*n)++] = i;
    return CX_OK;
}
