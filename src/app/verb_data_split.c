/* verb_data_split.c - `cxnet data split`: a split in which no patient and no film stands on two sides. Depends on app.h. */
#include "app.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cxnet/data.h"

typedef struct {
    const cx_manifest *m;
    cx_split *split;
    int *group;              /* [n] */
    int *seen;               /* [n] by group: the last count that saw it */
    int counts;
    char **labels, **sources;
    size_t n_labels, n_sources, labels_cap, sources_cap;
} parts;

static bool add_name(char ***list, size_t *n, size_t *cap, const char *name, size_t len)
{
    for (size_t i = 0; i < *n; i++)
        if (strlen((*list)[i]) == len && !strncmp((*list)[i], name, len))
            return true;
    if (!cx_grow(list, cap, *n + 1, sizeof **list))
        return false;
    char *copy = cx_sprintf("%.*s", (int)len, name);
    if (copy)
        (*list)[(*n)++] = copy;
    return copy != NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool collect_names(parts *p)
{
    for (int i = 0; i < p->m->n; i++) {
        const cx_sample *s = &p->m->samples[i];
        if (!add_name(&p->sources, &p->n_sources, &p->sources_cap, s->source, strlen(s->source)))
            return false;
        for (const char *label = s->labels; ; ) {
            size_t n = strcspn(label, "|");
            if (!add_name(&p->labels, &p->n_labels, &p->labels_cap, label, n))
                return false;
            if (!label[n])
                break;
            label += n + 1;
        }
    }
    qsort(p->labels, p->n_labels, sizeof *p->labels, by_name);
    qsort(p->sources, p->n_sources, sizeof *p->sources, by_name);
    return true;
}

typedef struct { int films, groups; } tally;

/* Films and groups of a side; label, source NULL: all. */
static tally count(parts *p, cx_split side, const char *label, const char *source)
{
    tally t = { 0, 0 };
    p->counts++;
    for (int i = 0; i < p->m->n; i++) {
        const cx_sample *s = &p->m->samples[i];
        if (p->split[i] != side || (source && strcmp(s->source, source)) || (label && (label[0] ? !cx_has_label(s->labels, label) : s->labels[0] != 0)))
            continue;
        t.films++;
        t.groups += p->seen[p->group[i]] != p->counts;
        p->seen[p->group[i]] = p->counts;
    }
    return t;
}

static const char *or_unknown(const char *name)
{
    return name[0] ? name : "(none)";
}

static void print_row(parts *p, const char *label, const char *source)
{
    tally t[3];
    for (int k = 0; k < 3; k++)
        t[k] = count(p, (cx_split)k, label, source);
    if (t[0].films + t[1].films + t[2].films == 0)
        return;
    printf("%-24.24s %-18.18s", label ? or_unknown(label) : "all", source ? or_unknown(source) : "all");
    for (int k = 0; k < 3; k++)
        printf(" %8d %8d", t[k].films, t[k].groups);
    putchar('\n');
}

static void print_table(parts *p)
{
    printf("%-24s %-18s %17s %17s %17s\n%-43s", "label", "source", "train", "val", "test", "");
    for (int k = 0; k < 3; k++)
        printf(" %8s %8s", "films", "groups");
    putchar('\n');
    for (size_t l = 0; l < p->n_labels; l++)
        for (size_t s = 0; s < p->n_sources; s++)
            print_row(p, p->labels[l], p->sources[s]);
    print_row(p, NULL, NULL);
}

static json_t *table_json(parts *p, const char *out, const cx_split_opts *o)
{
    json_t *rows = json_array(), *sides = json_object();
    for (int k = 0; k < 3; k++) {
        tally t = count(p, (cx_split)k, NULL, NULL);
        json_object_set_new(sides, cx_split_name((cx_split)k), json_pack("{s:i, s:i}", "films", t.films, "groups", t.groups));
        for (size_t l = 0; l < p->n_labels; l++)
            for (size_t s = 0; s < p->n_sources; s++) {
                t = count(p, (cx_split)k, p->labels[l], p->sources[s]);
                if (t.films)
                    json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:i, s:i}", "split", cx_split_name((cx_split)k), "label", p->labels[l],
                                                          "source", p->sources[s], "films", t.films, "groups", t.groups));
            }
    }
    return json_pack("{s:s, s:I, s:f, s:f, s:o, s:o}", "out", out, "seed", (json_int_t)o->seed, "val", o->val, "test", o->test, "splits", sides, "table", rows);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What must stand before the relative paths of a manifest that is written to another folder: nothing beside the manifest, the manifest's folder as the
 * caller named it when out lies in the working folder, its full path otherwise. */
static cx_status path_prefix(const cx_manifest *m, const char *out, char **prefix, cx_error *err)
{
    *prefix = NULL;
    char *dir = cx_path_dir(out);
    if (!dir)
        return cx_fail(err, CX_E_MEMORY, "no memory for a path");
    const char *from = *m->dir ? m->dir : ".";
    if (!same_file(from, dir)) {
        *prefix = strcmp(dir, ".") ? realpath(from, NULL) : cx_strdup(from);
        if (!*prefix) {
            free(dir);
            return cx_fail(err, CX_E_NOINPUT, "%s: its full path cannot be found", from);
        }
    }
    free(dir);
    return CX_OK;
}

static void put_path(cx_buf *b, const char *prefix, const char *path)
{
    char *full = cx_path_join(prefix, path);
    if (full)
        cx_csv_put(b, full, false);
    b->failed |= !full;
    free(full);
}

/* The manifest's columns as they are, then split and group; columns of these names are replaced. */
static cx_status write_manifest(const parts *p, const char *out, cx_error *err)
{
    const cx_csv *csv = &p->m->csv;
    cx_buf b = { 0 };
    char *prefix;
    int split = cx_csv_column(csv, "split"), group = cx_csv_column(csv, "group"), path = cx_csv_column(csv, "path");
    TRY(path_prefix(p->m, out, &prefix, err));
    for (int r = 0; r < csv->rows; r++) {
        for (int c = 0; c < csv->columns; c++)
            if (r && c == path)
                put_path(&b, prefix, cx_csv_at(csv, r, c));
            else if (c != split && c != group)
                cx_csv_put(&b, cx_csv_at(csv, r, c), false);
        cx_csv_put(&b, r ? cx_split_name(p->split[r - 1]) : "split", false);
        cx_csv_put(&b, r ? p->m->samples[p->group[r - 1]].path : "group", true);
    }
    free(prefix);
    cx_status s = b.failed ? cx_fail(err, CX_E_MEMORY, "%s: no memory for the table", out) : cx_file_write(out, b.data, b.len, err);
    cx_buf_free(&b);
    return s;
}

static cx_status split(parts *p, const cx_args *a, const cx_audit *audit, cx_error *err)
{
    const char *out = cx_arg(a, "--out");
    cx_split_opts o;
    int seed;
    TRY(cx_arg_int(a, "--seed", 1, 0, 2147483647, &seed, err));
    TRY(cx_arg_real(a, "--val", 0.15, 0, 0.9, &o.val, err));
    TRY(cx_arg_real(a, "--test", 0.20, 0, 0.9, &o.test, err));
    o.seed = (uint64_t)seed;
    if (o.val + o.test >= 1)
        return cx_fail(err, CX_E_USAGE, "--val %g and --test %g leave nothing to train on; their sum must be below 1", o.val, o.test);
    TRY(cx_split_make(p->m, audit, &o, p->split, p->group, err));
    if (!collect_names(p))
        return cx_fail(err, CX_E_MEMORY, "no memory for the names of labels and sources");
    TRY(write_manifest(p, out, err));
    if (cx_arg(a, "--json"))
        return cx_app_print_json(table_json(p, out, &o), err);
    print_table(p);
    printf("\nwritten: %s (seed %d)\n", out, seed);
    return CX_OK;
}

static cx_status split_manifest(const cx_args *a, const cx_manifest *m, cx_error *err)
{
    /* Before the films are decoded, which may take minutes. */
    if (same_file(m->path, cx_arg(a, "--out")))
        return cx_fail(err, CX_E_USAGE, "--out %s is the manifest itself; name another file, the input is never overwritten", cx_arg(a, "--out"));
    parts p = { .m = m };
    cx_audit audit = { 0 };
    p.split = cx_alloc((size_t)m->n, sizeof *p.split);
    p.group = cx_alloc((size_t)m->n, sizeof *p.group);
    p.seen = cx_alloc((size_t)m->n, sizeof *p.seen);
    bool duplicates = !cx_arg(a, "--no-duplicates");
    cx_status s = p.split && p.group && p.seen ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %d films", m->n);
    if (s == CX_OK && duplicates)
        s = cx_audit_run(m, &audit, err);
    if (s == CX_OK)
        s = split(&p, a, duplicates ? &audit : NULL, err);
    if (duplicates)
        cx_audit_free(&audit);
    for (size_t i = 0; i < p.n_labels; i++)
        free(p.labels[i]);
    for (size_t i = 0; i < p.n_sources; i++)
        free(p.sources[i]);
    free(p.labels);
    free(p.sources);
    free(p.split);
    free(p.group);
    free(p.seen);
    return s;
}

static cx_status run_split(const cx_verb *v, const cx_args *a, cx_error *err)
{
    cx_manifest m;
    if (!cx_arg(a, "--out"))
        return cx_fail(err, CX_E_USAGE, "%s wants --out FILE.csv: where the manifest with its split goes", v->name);
    TRY(cx_manifest_load(a->positional[0], &m, err));
    cx_status s = split_manifest(a, &m, err);
    cx_manifest_free(&m);
    return s;
}

static const cx_flag split_flags[] = {
    { "--out", "FILE.csv", "where the manifest with its split goes; never the manifest itself" },
    { "--seed", "N", "seed of the split; absent: 1" },
    { "--val", "SHARE", "share of groups for validation; absent: 0.15" },
    { "--test", "SHARE", "share of groups for the test; absent: 0.20" },
    { "--no-duplicates", NULL, "do not look for near-duplicates (does not decode the films)" },
    CX_FLAG_JSON,
};
const cx_verb cx_verb_data_split = {
    .name = "data split", .args = "MANIFEST.csv", .doc = "assign films to train, val and test by patient and duplicate cluster", .min_args = 1, .max_args = 1,
    .run = run_split, .flags = split_flags, .n_flags = CX_COUNT(split_flags),
    .more = "Groups are patients joined with clusters of near-duplicate films, and never straddle a side. Sides are balanced over labels and sources. "
            "Films added later move no film whose group did not change. "
            "Written to another folder, the table names the films so that they are found from there."
};
