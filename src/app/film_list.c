/* film_list.c - which films a verb is to look at. Depends on film_list.h, data.h. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
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

void cx_film_list_free(cx_film_list *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->path[i]);
    free(l->path);
    *l = (cx_film_list){ 0 };
}

char *cx_film_stem(int number, const char *path)
{
    const char *base = cx_path_base(path), *dot = strrchr(base, '.');
    return cx_sprintf("%04d-%.*s", number, (int)(dot && dot != base ? dot - base : (ptrdiff_t)strlen(base)), base);
}
