/* audit_facts.c - counts what an audit found: flaws, duplicates, labels by source, view and age, and how well the source gives the label away. Depends on
 * base. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "audit.h"

enum { LEAST_FILMS = 10 };
static const char *const AGE_BAND[CX_AGE_BANDS] = { "< 16", "16-39", "40-59", "60-79", ">= 80", "(unknown)" };

static int age_band(double age)
{
    static const double from[] = { CX_CHILD_YEARS, 40, 60, 80 };
    int band = 0;
    if (isnan(age))
        return CX_AGE_BANDS - 1;
    while (band < CX_COUNT(from) && age >= from[band])
        band++;
    return band;
}

static char *name_of(const cx_word *w)
{
    char *s = cx_alloc((size_t)w->length + 1, 1);
    if (s)
        memcpy(s, w->text, (size_t)w->length);
    return s;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* ---- labels against a property ------------------------------------------------------------------------------------------------ */

/* What a table is made of: every (film, label) once, and every film once more for the last row. */
typedef struct { int *film, *label, n, labels; cx_word *name; int *patient; } entries;

static void free_entries(entries *e)
{
    free(e->film);
    free(e->label);
    free(e->name);
    free(e->patient);
}

static bool list_entries(const cx_manifest *m, entries *e)
{
    size_t most = 0;
    for (int i = 0; i < m->n; i++) {
        most += 2;
        for (const char *p = m->samples[i].labels; *p; p++)
            most += *p == '|';
    }
    *e = (entries){ cx_alloc(most, sizeof(int)), cx_alloc(most, sizeof(int)), 0, 0, cx_alloc(most, sizeof(cx_word)), cx_alloc((size_t)m->n, sizeof(int)) };
    cx_word *word = cx_alloc(most, sizeof *word);
    bool ok = e->film && e->label && e->name && e->patient && word;
    for (int i = 0; i < m->n && ok; i++) {
        const char *cursor = m->samples[i].labels;
        cx_word w = { "(none)", 6 };
        bool any = cx_label_next(&cursor, &w);
        do {
            e->film[e->n] = i;
            word[e->n++] = w;
        } while (any && cx_label_next(&cursor, &w));
    }
    e->labels = ok ? cx_words_number(word, e->n, e->label, e->name) : -1;
    for (int i = 0; i < m->n && ok; i++)
        word[i] = cx_word_of(m->samples[i].patient_id);
    ok = ok && e->labels >= 0 && cx_words_number(word, m->n, e->patient, NULL) >= 0;
    free(word);
    return ok;
}

static bool count_cells(const cx_manifest *m, const entries *e, const int *column, cx_cross *x)
{
    uint64_t *key = cx_alloc((size_t)e->n + (size_t)m->n, sizeof *key);
    size_t n = 0;
    if (!key)
        return false;
    for (int k = 0; k < e->n + m->n; k++) {
        int film = k < e->n ? e->film[k] : k - e->n, row = k < e->n ? e->label[k] : x->rows - 1, cell = row * x->columns + column[film];
        x->films[cell]++;
        if (*m->samples[film].patient_id)
            key[n++] = (uint64_t)cell << 32 | (uint32_t)e->patient[film];
    }
    qsort(key, n, sizeof *key, by_number);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || key[i] != key[i - 1])
            x->patients[key[i] >> 32]++;
    free(key);
    return true;
}

static bool make_cross(const cx_manifest *m, const entries *e, const char *property, const int *column, const cx_word *names, int columns, cx_cross *x)
{
    *x = (cx_cross){ property, e->labels + 1, columns, NULL, NULL, NULL, NULL };
    size_t cells = (size_t)x->rows * (size_t)columns;
    x->row = cx_alloc((size_t)x->rows, sizeof *x->row);
    x->column = cx_alloc((size_t)columns, sizeof *x->column);
    x->films = cx_alloc(cells, sizeof(int));
    x->patients = cx_alloc(cells, sizeof(int));
    bool ok = x->row && x->column && x->films && x->patients;
    for (int r = 0; r < x->rows && ok; r++)
        ok = (x->row[r] = r < e->labels ? name_of(&e->name[r]) : cx_strdup("all")) != NULL;
    for (int c = 0; c < columns && ok; c++)
        ok = (x->column[c] = names[c].length ? name_of(&names[c]) : cx_strdup("(unknown)")) != NULL;
    return ok && count_cells(m, e, column, x);
}

static void free_cross(cx_cross *x)
{
    for (int r = 0; r < x->rows && x->row; r++)
        free(x->row[r]);
    for (int c = 0; c < x->columns && x->column; c++)
        free(x->column[c]);
    free(x->row);
    free(x->column);
    free(x->films);
    free(x->patients);
}

static bool make_tables(const cx_manifest *m, cx_audit_facts *f)
{
    entries e;
    cx_word *word = cx_alloc((size_t)m->n, sizeof *word), *names = cx_alloc((size_t)m->n, sizeof *names), band[CX_AGE_BANDS];
    int *column = cx_alloc((size_t)m->n, sizeof *column);
    bool ok = list_entries(m, &e) && word && names && column;
    for (int k = 0; k < 2 && ok; k++) {
        for (int i = 0; i < m->n; i++)
            word[i] = cx_word_of(k ? m->samples[i].view : m->samples[i].source);
        int columns = cx_words_number(word, m->n, column, names);
        ok = columns >= 0 && make_cross(m, &e, k ? "view" : "source", column, names, columns, &f->cross[k]);
    }
    for (int i = 0; i < m->n && ok; i++)
        column[i] = age_band(m->samples[i].age);
    for (int b = 0; b < CX_AGE_BANDS; b++)
        band[b] = cx_word_of(AGE_BAND[b]);
    ok = ok && make_cross(m, &e, "age", column, band, CX_AGE_BANDS, &f->cross[2]);
    if (ok) {
        for (int i = 0; i < m->n; i++)
            word[i] = cx_word_of(m->samples[i].patient_id);
        f->patients = cx_words_number(word, m->n, column, NULL) - (f->without_patient > 0);
    }
    free_entries(&e);
    free(word);
    free(names);
    free(column);
    return ok && f->patients >= 0;
}

/* ---- confounding ----------------------------------------------------------------------------------------------------------------- */

/* Area under the ROC curve when a film's score is its source's share: over all (with, without) pairs, ties count half. */
static double auroc_of_source(const int *with, const int *both, int sources, double positives, double negatives)
{
    double wins = 0;
    for (int a = 0; a < sources; a++)
        for (int b = 0; b < sources; b++) {
            double pairs = (double)with[a] * (both[b] - with[b]), d = (double)with[a] * both[b] - (double)with[b] * both[a];
            wins += d > 0 ? pairs : d < 0 ? 0 : pairs / 2;
        }
    return wins / (positives * negatives);
}

double cx_cramers_v(const int *with, const int *all, int n)
{
    double chi2 = 0, labelled = 0, films = 0;
    for (int k = 0; k < n; k++) {
        labelled += with[k];
        films += all[k];
    }
    for (int k = 0; k < n; k++) {
        const double expected = all[k] * labelled / films, absent = all[k] - expected, d = with[k] - expected;
        chi2 += expected > 0 && absent > 0 ? d * d / expected + d * d / absent : 0;
    }
    return films > 0 ? sqrt(chi2 / films) : 0;
}

static cx_confounding confound(const cx_cross *x, int row, int all)
{
    cx_confounding c = { .label = x->row[row], .most_share = -1, .least_share = 2 };
    const int *with = x->films + row * x->columns, *both = x->films + (x->rows - 1) * x->columns;
    for (int k = 0; k < x->columns; k++)
        c.films += with[k];
    for (int k = 0; k < x->columns; k++) {
        const double here = (double)with[k] / both[k];
        if (here > c.most_share)
            c.most = x->column[k], c.most_share = here;
        if (here < c.least_share)
            c.least = x->column[k], c.least_share = here;
    }
    c.cramers_v = cx_cramers_v(with, both, x->columns);
    c.auroc = auroc_of_source(with, both, x->columns, c.films, all - c.films);
    return c;
}

static int by_strength(const void *a, const void *b)
{
    const cx_confounding *x = a, *y = b;
    return x->cramers_v != y->cramers_v ? (x->cramers_v < y->cramers_v) - (x->cramers_v > y->cramers_v) : strcmp(x->label, y->label);
}

static bool find_confounding(const cx_manifest *m, cx_audit_facts *f)
{
    const cx_cross *x = &f->cross[0];
    f->sources = x->columns;
    f->confounding = cx_alloc((size_t)x->rows, sizeof *f->confounding);
    if (!f->confounding || x->columns < 2)
        return f->confounding != NULL;
    for (int r = 0; r + 1 < x->rows; r++) {
        cx_confounding c = confound(x, r, m->n);
        if (c.films >= LEAST_FILMS && c.films <= m->n - LEAST_FILMS)
            f->confounding[f->n_confounding++] = c;
    }
    qsort(f->confounding, (size_t)f->n_confounding, sizeof *f->confounding, by_strength);
    return true;
}

void cx_confounding_say(const cx_confounding *c, cx_buf *out)
{
    const char *verdict = c->cramers_v < 0.1 ? "hardly depends on" : c->cramers_v < 0.3 ? "depends a little on"
        : c->cramers_v < 0.5 ? "depends on" : "depends strongly on";
    cx_buf_printf(out, "%s %s the source (Cramer's V %.2f): %.0f %% of the films of %s have this label, %.0f %% of those of %s. "
                       "The source alone, without a look at the film, gives it an AUROC of %.2f.",
                  c->label, verdict, c->cramers_v, 100 * c->most_share, c->most, 100 * c->least_share, c->least, c->auroc);
    if (c->cramers_v >= CX_CONFOUNDED_V)
        cx_buf_puts(out, " A network can learn the source instead of the disease; test within one source.");
}

/* ---- flaws and duplicates -------------------------------------------------------------------------------------------------------- */

static void count_films(const cx_manifest *m, const cx_audit *a, cx_audit_facts *f)
{
    for (int i = 0; i < m->n; i++) {
        const cx_film_report *r = &a->films[i];
        f->decoded += r->ok;
        f->bad += !r->ok;
        f->tiny += r->tiny;
        f->coloured += r->coloured;
        f->odd_shape += r->odd_shape;
        f->wrong_extension += r->wrong_extension;
        f->deep += r->ok && r->bits > 8;
        f->flat += r->ok && r->sig.flat;
        f->type[r->type]++;
        f->without_patient += !*m->samples[i].patient_id;
        f->children += m->samples[i].age < CX_CHILD_YEARS;
        f->unknown_age += isnan(m->samples[i].age);
        f->cluster_films[a->cluster[i]]++;
    }
    for (int i = 0; i < m->n; i++) {
        int films = f->cluster_films[i];
        f->clusters += films > 1;
        f->in_clusters += films > 1 ? films : 0;
        f->largest = films > f->largest ? films : f->largest;
    }
}

static void count_pairs(const cx_manifest *m, const cx_audit *a, cx_audit_facts *f)
{
    for (int k = 0; k < a->n_pairs; k++) {
        const cx_pair *p = &a->pairs[k];
        const cx_sample *x = &m->samples[p->a], *y = &m->samples[p->b];
        f->exact += p->exact;
        f->near += !p->exact;
        f->across_patients += *x->patient_id && *y->patient_id && strcmp(x->patient_id, y->patient_id) != 0;
        f->across_sources += strcmp(x->source, y->source) != 0;
        f->across_labels += strcmp(x->labels, y->labels) != 0;
        f->across_splits += x->split != CX_NO_SPLIT && y->split != CX_NO_SPLIT && x->split != y->split;
    }
}

cx_status cx_audit_facts_make(const cx_manifest *m, const cx_audit *a, cx_audit_facts *out, cx_error *err)
{
    *out = (cx_audit_facts){ 0 };
    if (a->n != m->n)
        return cx_fail(err, CX_E_INTERNAL, "%s: audit of %d films for a manifest of %d", m->path, a->n, m->n);
    out->cluster_films = cx_alloc((size_t)m->n, sizeof *out->cluster_films);
    if (out->cluster_films) {
        count_films(m, a, out);
        count_pairs(m, a, out);
        if (make_tables(m, out) && find_confounding(m, out))
            return CX_OK;
    }
    cx_audit_facts_free(out);
    return cx_fail(err, CX_E_MEMORY, "%s: no memory for the tables of %d films", m->path, m->n);
}

void cx_audit_facts_free(cx_audit_facts *f)
{
    for (int k = 0; k < CX_COUNT(f->cross); k++)
        free_cross(&f->cross[k]);
    free(f->cluster_films);
    free(f->confounding);
    *f = (cx_audit_facts){ 0 };
}
