/* film_list.c - which films a verb is to look at. Depends on film_list.h, app.h, data.h. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"
#include "cxnet/data.h"
#include "film_list.h"

/* Takes path. */
static cx_status add(cx_film_list *l, char *path, cx_error *err)
{
    if (!path || !cx_grow(&l->path, &l->cap, (size_t)l->n + 1, sizeof *l->path)) {
        free(path);
        return cx_fail(err, CX_E_MEMORY, "no memory for a list of films");
    }
    l->path[l->n++] = path;
    return CX_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static cx_status add_folder(cx_film_list *l, const char *dir, cx_error *err)
{
    DIR *d = opendir(dir);
    cx_status s = d ? CX_OK : cx_fail(err, CX_E_NOINPUT, "%s: the folder cannot be read", dir);
    for (struct dirent *entry; s == CX_OK && (entry = readdir(d));) {
        char *path = entry->d_name[0] == '.' ? NULL : cx_path_join(dir, entry->d_name);
        if (path && !cx_is_dir(path))
            s = add(l, path, err);
        else
            free(path);
    }
    if (d)
        closedir(d);
    if (s == CX_OK && l->n)
        qsort(l->path, (size_t)l->n, sizeof *l->path, by_name);
    return s;
}

static cx_status add_manifest(cx_film_list *l, const char *path, cx_error *err)
{
    cx_manifest m;
    TRY(cx_manifest_load(path, &m, err));
    cx_status s = CX_OK;
    for (int i = 0; s == CX_OK && i < m.n; i++)
        s = add(l, cx_sample_path(&m, i), err);
    cx_manifest_free(&m);
    return s;
}

static bool is_manifest(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".csv") == 0;
}

static cx_status find(const char *in, int max, cx_film_list *l, cx_error *err)
{
    if (!cx_file_exists(in))
        return cx_fail(err, CX_E_NOINPUT, "%s: not found; --in wants a film, a folder of films or a manifest.csv", in);
    if (cx_is_dir(in))
        TRY(add_folder(l, in, err));
    else if ((l->manifest = is_manifest(in)))
        TRY(add_manifest(l, in, err));
    else
        TRY(add(l, cx_strdup(in), err));
    while (max && l->n > max)
        free(l->path[--l->n]);
    return l->n ? CX_OK : cx_fail(err, CX_E_NOINPUT, "%s: no films there", in);
}

cx_status cx_film_list_of(const char *in, int max, cx_film_list *out, cx_error *err)
{
    *out = (cx_film_list){ 0 };
    const cx_status s = find(in, max, out, err);
    if (s != CX_OK)
        cx_film_list_free(out);
    return s;
}

/* Row of predictions.csv. */
typedef struct { const char *table; const cx_csv *csv; int path, split, group, target; } predicted;

static cx_status add_side(const predicted *p, const char *dir, const char *side, int max, cx_film_list *l, cx_error *err)
{
    l->label = cx_alloc((size_t)p->csv->rows, sizeof *l->label);
    l->group = cx_alloc((size_t)p->csv->rows, sizeof *l->group);
    if (!l->label || !l->group)
        return cx_fail(err, CX_E_MEMORY, "no memory for a list of films");
    for (int i = 1; i < p->csv->rows && (!max || l->n < max); i++) {
        if (strcmp(cx_csv_at(p->csv, i, p->split), side) != 0)
            continue;
        char *end;
        const char *group = cx_csv_at(p->csv, i, p->group);
        l->group[l->n] = (int)strtol(group, &end, 10);
        if (end == group || *end)
            return cx_fail(err, CX_E_DATA, "%s:%d: the group '%.40s' is no number", p->table, i + 1, group);
        if (!(l->label[l->n] = cx_strdup(cx_csv_at(p->csv, i, p->target))))
            return cx_fail(err, CX_E_MEMORY, "no memory for a list of films");
        TRY(add(l, cx_path_join(dir, cx_csv_at(p->csv, i, p->path)), err));
    }
    return CX_OK;
}

static cx_status find_side(const char *table, const char *dir, const char *side, int max, cx_film_list *l, cx_error *err)
{
    cx_csv csv;
    if (!cx_file_exists(table))
        return cx_fail(err, CX_E_NOINPUT, "%s: not found; --side wants a run that has ended, with --in any films can be looked at", table);
    TRY(cx_csv_load(table, &csv, err));
    const predicted p = { table, &csv, cx_csv_column(&csv, "path"), cx_csv_column(&csv, "split"), cx_csv_column(&csv, "group"), cx_csv_column(&csv, "target") };
    cx_status s = p.path >= 0 && p.split >= 0 && p.group >= 0 && p.target >= 0 ? add_side(&p, dir, side, max, l, err)
        : cx_fail(err, CX_E_DATA, "%s: wants columns path, split, group and target", table);
    cx_csv_free(&csv);
    if (s == CX_OK && !l->n)
        s = cx_fail(err, CX_E_NOINPUT, "%s: has no film on the side %s", table, side);
    return s;
}

cx_status cx_film_list_of_side(const char *run, const char *manifest, const char *side, int max, cx_film_list *out, cx_error *err)
{
    *out = (cx_film_list){ 0 };
    char *table = cx_path_join(run, "predictions.csv"), *dir = cx_path_dir(manifest);
    const cx_status s = table && dir ? find_side(table, dir, side, max, out, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
    free(table);
    free(dir);
    if (s != CX_OK)
        cx_film_list_free(out);
    return s;
}

cx_status cx_film_list_for_json(const cx_film_list *l, cx_error *err)
{
    for (int i = 0; i < l->n; i++)
        TRY(cx_app_json_path(l->path[i], err));
    return CX_OK;
}

void cx_film_list_free(cx_film_list *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->path[i]);
    for (int i = 0; l->label && l->label[i]; i++)
        free(l->label[i]);
    free(l->path);
    free(l->label);
    free(l->group);
    *l = (cx_film_list){ 0 };
}

char *cx_film_stem(int number, const char *path)
{
    const char *base = cx_path_base(path), *dot = strrchr(base, '.');
    return cx_sprintf("%04d-%.*s", number, (int)(dot && dot != base ? dot - base : (ptrdiff_t)strlen(base)), base);
}
