/* audit.c - decodes every film of a manifest once, on all cores, and says what is wrong with it and what it is a copy of. Depends on image, base. */
#include <stdlib.h>
#include <string.h>
#include "signature.h"

enum { TINY_PX = 96, MAX_FILE_BYTES = 1 << 30 };
static const double ODD_ASPECT = 2.0;            /* chest films are 0.7 to 1.4 wide */
static const double COLOURED_SHARE = 0.0005;     /* a small arrow; JPEG noise of grey films stays below */

/* Reads and decodes one film; a failure becomes the report's `problem`. Fails only when memory is out. */
static cx_status look_at(const char *path, cx_film_report *r, cx_detail *detail, cx_error *err)
{
    cx_buf file = { 0 };
    cx_film f = { 0 };
    cx_error why = { 0 };
    cx_status s = cx_file_read(path, MAX_FILE_BYTES, &file, &why), signature = CX_OK;
    r->type = CX_UNKNOWN_TYPE;
    if (s == CX_OK) {
        r->type = cx_file_type_of(file.data, file.len);
        r->wrong_extension = r->type != CX_UNKNOWN_TYPE && !cx_extension_fits(path, r->type);
        s = cx_film_decode(path, file.data, file.len, &f, &why);
    }
    cx_buf_free(&file);
    if (s == CX_E_MEMORY)
        return cx_fail(err, s, "%s", why.text);
    if (s != CX_OK) {
        snprintf(r->problem, sizeof r->problem, "%.255s", why.text);
        return CX_OK;
    }
    r->ok = true;
    r->width = f.width;
    r->height = f.height;
    r->bits = f.bits;
    r->channels = f.channels;
    r->coloured = f.colour > COLOURED_SHARE;
    r->tiny = f.width < TINY_PX || f.height < TINY_PX;
    r->odd_shape = f.width > ODD_ASPECT * f.height || f.height > ODD_ASPECT * f.width;
    signature = cx_signature_make(&f, &r->sig, detail, err);
    cx_film_free(&f);
    return signature;
}

static cx_status look_at_all(const cx_manifest *m, cx_audit *a, cx_detail *detail, cx_error *err)
{
    cx_progress progress = { 0 };
    cx_status worst = CX_OK;
    int done = 0;
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < m->n; i++) {
        cx_error mine = { 0 };
        if (m->stop && *m->stop)
            continue;
        char *path = cx_sample_path(m, i);
        cx_status s = path ? look_at(path, &a->films[i], &detail[i], &mine) : cx_fail(&mine, CX_E_MEMORY, "no memory for a path");
        free(path);
#pragma omp critical
        {
            cx_progress_show(&progress, "audit: %d of %d films", ++done, m->n);
            if (s != CX_OK && worst == CX_OK) {
                worst = s;
                if (err)
                    *err = mine;
            }
        }
    }
    cx_progress_end(&progress);
    if (worst == CX_OK && m->stop && *m->stop)
        return cx_fail(err, CX_E_INTERRUPTED, "%s: interrupted while its films were compared", m->path);
    return worst;
}

static int root_of(const int *cluster, int i)
{
    while (cluster[i] != i)
        i = cluster[i];
    return i;
}

/* The smaller root wins, so that a cluster's name is its first film. */
static void make_clusters(cx_audit *a)
{
    for (int i = 0; i < a->n; i++)
        a->cluster[i] = i;
    for (int k = 0; k < a->n_pairs; k++) {
        int x = root_of(a->cluster, a->pairs[k].a), y = root_of(a->cluster, a->pairs[k].b);
        a->cluster[x > y ? x : y] = x > y ? y : x;
    }
    for (int i = 0; i < a->n; i++)
        a->cluster[i] = root_of(a->cluster, i);
}

cx_status cx_audit_run(const cx_manifest *m, cx_audit *out, cx_error *err)
{
    cx_audit a = { .n = m->n };
    a.films = cx_alloc((size_t)m->n, sizeof *a.films);
    a.cluster = cx_alloc((size_t)m->n, sizeof *a.cluster);
    cx_detail *detail = cx_alloc((size_t)m->n, sizeof *detail);
    cx_status s = a.films && a.cluster && detail ? CX_OK : cx_fail(err, CX_E_MEMORY, "%s: no memory to audit %d films", m->path, m->n);
    if (s == CX_OK)
        s = look_at_all(m, &a, detail, err);
    if (s == CX_OK)
        s = cx_pairs_find(&a, detail, err);
    if (s == CX_OK)
        make_clusters(&a);
    else
        cx_audit_free(&a);
    free(detail);
    *out = a;
    return s;
}

void cx_audit_free(cx_audit *a)
{
    free(a->films);
    free(a->pairs);
    free(a->cluster);
    *a = (cx_audit){ 0 };
}
