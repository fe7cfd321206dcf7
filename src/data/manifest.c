/* manifest.c - the list of a cohort's films: reads the CSV, checks every row, finds the films' files. Depends on base (CSV, SHA-256). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/data.h"

enum { MAX_MANIFEST_BYTES = 1 << 30, MAX_AGE_YEARS = 130 };

const char *cx_split_name(cx_split s)
{
    static const char *const name[] = { "train", "val", "test", "external", "none" };
    return (unsigned)s < CX_COUNT(name) ? name[s] : "?";
}

/* "42", "42.5", and DICOM's age strings (PS3.5 section 6.2, VR AS: nnnD, nnnW, nnnM, nnnY). Empty is unknown. */
static bool parse_age(const char *text, double *years)
{
    *years = NAN;
    if (!*text)
        return true;
    size_t digits = strspn(text, "0123456789");
    size_t length = digits;
    if (text[length] == '.')
        length += 1 + strspn(text + length + 1, "0123456789");
    if (digits == 0 || length > 16)
        return false;
    char number[17];
    memcpy(number, text, length);
    number[length] = 0;
    double per_year = 1, value = strtod(number, NULL);
    switch (text[length]) {
    case 0: break;
    case 'Y': case 'y': break;
    case 'M': case 'm': per_year = 12; break;
    case 'W': case 'w': per_year = 365.25 / 7; break;
    case 'D': case 'd': per_year = 365.25; break;
    default: return false;
    }
    if (text[length] && text[length + 1])
        return false;
    if (!(value / per_year <= MAX_AGE_YEARS))
        return false;
    *years = value / per_year;
    return true;
}

static bool parse_split(const char *text, cx_split *split)
{
    *split = CX_NO_SPLIT;
    if (!*text)
        return true;
    for (int s = CX_TRAIN; s <= CX_NO_SPLIT; s++)
        if (strcmp(text, cx_split_name((cx_split)s)) == 0) {
            *split = (cx_split)s;
            return true;
        }
    return false;
}

/* Why a label list is malformed, or NULL. A blank at an end of a label or an empty one between bars would silently never match. */
static const char *labels_problem(const char *labels)
{
    if (!*labels)
        return NULL;
    for (const char *from = labels;;) {
        size_t n = strcspn(from, "|");
        if (n == 0)
            return "has an empty label";
        if (from[0] == ' ' || from[n - 1] == ' ')
            return "has a blank at the end of a label";
        for (const char *other = labels; other < from; other += strcspn(other, "|") + 1)
            if (strcspn(other, "|") == n && memcmp(other, from, n) == 0)
                return "names a label twice";
        if (!from[n])
            return NULL;
        from += n + 1;
    }
}

static bool has_control(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    return false;
}

/* The next step of a path without "." and doubled slashes, so that a/b, ./a/b and a//b compare equal. Length in *n, 0 at the end. */
static const char *path_step(const char *p, size_t *n)
{
    for (;;) {
        p += strspn(p, "/");
        *n = strcspn(p, "/");
        if (*n != 1 || p[0] != '.')
            return p;
        p += 1;
    }
}

static bool same_path(const char *a, const char *b)
{
    if ((a[0] == '/') != (b[0] == '/'))
        return false;
    for (;;) {
        size_t na, nb;
        a = path_step(a, &na);
        b = path_step(b, &nb);
        if (na != nb || memcmp(a, b, na) != 0)
            return false;
        if (na == 0)
            return true;
        a += na;
        b += nb;
    }
}

static uint64_t path_hash(const char *p)
{
    uint64_t h = 0xcbf29ce484222325u;                     /* FNV-1a over the steps */
    for (size_t n; p = path_step(p, &n), n > 0; p += n)
        for (size_t i = 0; i <= n; i++)
            h = (h ^ (i < n ? (unsigned char)p[i] : (unsigned char)'/')) * 0x100000001b3u;
    return h;
}

/* A film listed twice would count twice and could land on two sides of a split. Open addressing, half empty. */
static cx_status check_doubled(const cx_manifest *m, cx_error *err)
{
    size_t slots = 16;
    while (slots < (size_t)m->n * 2)
        slots *= 2;
    int *slot = cx_alloc(slots, sizeof *slot);            /* sample index + 1, 0 = free */
    if (!slot)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for an index of %d paths", m->path, m->n);
    for (int i = 0; i < m->n; i++) {
        size_t k = path_hash(m->samples[i].path) & (slots - 1);
        while (slot[k] && !same_path(m->samples[slot[k] - 1].path, m->samples[i].path))
            k = (k + 1) & (slots - 1);
        if (slot[k]) {
            int first = m->samples[slot[k] - 1].line;
            free(slot);
            return cx_fail(err, CX_E_DATA, "%s:%d: path '%.200s' is listed in line %d already; keep one row per film",
                           m->path, m->samples[i].line, m->samples[i].path, first);
        }
        slot[k] = i + 1;
    }
    free(slot);
    return CX_OK;
}

typedef struct { int path, mask, labels, patient_id, sex, age, view, source, split, group; } columns;

static const char *field(const cx_csv *csv, int row, int column)
{
    return column < 0 ? "" : cx_csv_at(csv, row, column);
}

static cx_status read_row(cx_manifest *m, const columns *c, int i, cx_error *err)
{
    const cx_csv *csv = &m->csv;
    int row = i + 1, line = csv->line[row];
    cx_sample *s = &m->samples[i];
    *s = (cx_sample){
        .path = field(csv, row, c->path), .mask = field(csv, row, c->mask), .labels = field(csv, row, c->labels), .patient_id = field(csv, row, c->patient_id),
        .sex = field(csv, row, c->sex), .view = field(csv, row, c->view), .source = field(csv, row, c->source),
        .group = field(csv, row, c->group), .line = line };
    const char *age = field(csv, row, c->age), *split = field(csv, row, c->split), *problem = labels_problem(s->labels);
    if (!*s->path)
        return cx_fail(err, CX_E_DATA, "%s:%d: path is empty; every row names one film", m->path, line);
    if (has_control(s->path))
        return cx_fail(err, CX_E_DATA, "%s:%d: path holds a control character (a line break?); check the quotes around it", m->path, line);
    if (s->path[strlen(s->path) - 1] == '/')
        return cx_fail(err, CX_E_DATA, "%s:%d: path '%.200s' is a folder; every row names one film", m->path, line, s->path);
    if (problem)
        return cx_fail(err, CX_E_DATA, "%s:%d: labels '%.200s' %s; write them as 'A|B'", m->path, line, s->labels, problem);
    if (!parse_age(age, &s->age))
        return cx_fail(err, CX_E_DATA, "%s:%d: age '%.40s' is no age; want years 0 to %d (42, 42.5, 042Y), months 6M, weeks 3W, days 10D, "
                       "or nothing when unknown", m->path, line, age, MAX_AGE_YEARS);
    if (!parse_split(split, &s->split))
        return cx_fail(err, CX_E_DATA, "%s:%d: split '%.40s' is unknown; want train, val, test, external, none or nothing", m->path, line, split);
    return CX_OK;
}

static cx_status read_rows(cx_manifest *m, cx_error *err)
{
    const cx_csv *csv = &m->csv;
    const int path = cx_csv_column(csv, "path");
    columns c = { path < 0 ? cx_csv_column(csv, "image") : path, cx_csv_column(csv, "mask"), cx_csv_column(csv, "labels"),
                  cx_csv_column(csv, "patient_id"), cx_csv_column(csv, "sex"),
                  cx_csv_column(csv, "age"), cx_csv_column(csv, "view"), cx_csv_column(csv, "source"), cx_csv_column(csv, "split"),
                  cx_csv_column(csv, "group") };
    if (c.path < 0)
        return cx_fail(err, CX_E_DATA, "%s:1: no column `path`; the first line names the columns: "
                       "path,labels,patient_id,sex,age,view,source (path is required, and may be called image)", m->path);
    if (csv->rows < 2)
        return cx_fail(err, CX_E_DATA, "%s:1: a header but no film; add one row per film", m->path);
    m->n = csv->rows - 1;
    m->samples = cx_alloc((size_t)m->n, sizeof *m->samples);
    if (!m->samples)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %d samples", m->path, m->n);
    for (int i = 0; i < m->n; i++)
        TRY(read_row(m, &c, i, err));
    return check_doubled(m, err);
}

static cx_status load(const char *path, cx_manifest *m, cx_buf *text, cx_error *err)
{
    m->path = cx_strdup(path);
    m->dir = cx_path_dir(path);
    if (!m->path || !m->dir)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for its name", path);
    TRY(cx_file_read(path, MAX_MANIFEST_BYTES, text, err));
    cx_sha256 sha;
    cx_sha256_init(&sha);
    cx_sha256_update(&sha, text->data, text->len);
    cx_sha256_hex(&sha, m->sha256);
    TRY(cx_csv_parse(path, text->data, text->len, &m->csv, err));
    return read_rows(m, err);
}

cx_status cx_manifest_load(const char *path, cx_manifest *out, cx_error *err)
{
    cx_manifest m = { 0 };
    cx_buf text = { 0 };
    cx_point point = cx_point_begin();
    cx_status s = load(path, &m, &text, err);
    cx_point_end(point);
    cx_buf_free(&text);
    if (s != CX_OK)
        cx_manifest_free(&m);
    *out = m;
    return s;
}

void cx_manifest_free(cx_manifest *m)
{
    free(m->samples);
    free(m->path);
    free(m->dir);
    cx_csv_free(&m->csv);
    *m = (cx_manifest){ 0 };
}

char *cx_sample_path(const cx_manifest *m, int i)
{
    return cx_path_join(m->dir, m->samples[i].path);
}

bool cx_has_label(const char *labels, const char *label)
{
    size_t want = strlen(label);
    if (want == 0)
        return false;
    for (const char *from = labels; *from;) {
        size_t n = strcspn(from, "|");
        if (n == want && memcmp(from, label, n) == 0)
            return true;
        from += n + (from[n] == '|');
    }
    return false;
}
