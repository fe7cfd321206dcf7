/* audit_print.c - the page of `cxnet data check`: what was found, in the order in which it matters. Depends on base. */
#include <stdlib.h>
#include <string.h>
#include "audit.h"

enum { NAMED = 10, LINE_CHARS = 110 };

static void put_count(FILE *f, const char *what, int count, const char *why)
{
    fprintf(f, "  %-18s %7d%s%s\n", what, count, *why && count ? "   " : "", count ? why : "");
}

static void heading(FILE *f, const char *text)
{
    bool colour = cx_use_colour(f);
    fprintf(f, "\n%s%s%s\n", colour ? "\033[1m" : "", text, colour ? "\033[0m" : "");
}

typedef bool (*flaw)(const cx_film_report *r);
static bool is_tiny(const cx_film_report *r) { return r->tiny; }
static bool is_coloured(const cx_film_report *r) { return r->coloured; }
static bool is_odd(const cx_film_report *r) { return r->odd_shape; }
static bool is_misnamed(const cx_film_report *r) { return r->wrong_extension; }

/* The first few films with a flaw, with what it is. */
static void name_films(const cx_manifest *m, const cx_audit *a, flaw has, FILE *f)
{
    int told = 0, all = 0;
    for (int i = 0; i < m->n; i++) {
        const cx_film_report *r = &a->films[i];
        if (!has(r) || ++all > NAMED)
            continue;
        told++;
        fprintf(f, "      line %d: %s", m->samples[i].line, m->samples[i].path);
        if (has == is_misnamed)
            fprintf(f, " is a %s file", cx_file_type_name(r->type));
        else
            fprintf(f, " (%d x %d px)", r->width, r->height);
        fputc('\n', f);
    }
    if (all > told)
        fprintf(f, "      and %d more (--json lists all)\n", all - told);
}

static void print_files(const cx_manifest *m, const cx_audit *a, const cx_audit_facts *c, FILE *f)
{
    static const struct { const char *what, *why; flaw has; } row[] = {
        { "wrong extension", "cxnet reads by content; other programs may not", is_misnamed },
        { "tiny", "a side below 96 px: thumbnails", is_tiny },
        { "odd shape", "aspect outside 1:2 to 2:1: screenshots, strips, lateral pairs", is_odd },
        { "coloured", "something is drawn in colour: arrows, text, heat maps", is_coloured } };
    const int count[] = { c->wrong_extension, c->tiny, c->odd_shape, c->coloured };
    heading(f, "Files");
    put_count(f, "decoded", c->decoded, "");
    put_count(f, "bad", c->bad, "left out of everything below that needs the picture");
    for (int i = 0, told = 0; i < m->n && told < NAMED; i++)
        if (!a->films[i].ok) {
            fprintf(f, "      line %d: %s\n", m->samples[i].line, a->films[i].problem);
            told++;
        }
    if (c->bad > NAMED)
        fprintf(f, "      and %d more (--json lists all)\n", c->bad - NAMED);
    for (int t = CX_PNG; t < CX_UNKNOWN_TYPE; t++)
        put_count(f, cx_file_type_name((cx_file_type)t), c->type[t], "");
    put_count(f, "more than 8 bits", c->deep, "");
    for (int k = 0; k < CX_COUNT(row); k++) {
        put_count(f, row[k].what, count[k], row[k].why);
        if (count[k])
            name_films(m, a, row[k].has, f);
    }
    put_count(f, "without contrast", c->flat, "blank or nearly so; not compared with others");
}

static void print_duplicates(const cx_manifest *m, const cx_audit *a, const cx_audit_facts *c, FILE *f)
{
    heading(f, "Duplicates");
    put_count(f, "exact copies", c->exact, "pairs with the same pixels");
    put_count(f, "near-duplicates", c->near, "pairs that show the same film, cropped, bordered, brightened or compressed anew");
    put_count(f, "clusters", c->clusters, "");
    if (c->clusters)
        fprintf(f, "      %d films in them, %d in the largest\n", c->in_clusters, c->largest);
    put_count(f, "across patients", c->across_patients, "pairs whose patient ids differ: a split by patient alone would leak");
    put_count(f, "across sources", c->across_sources, "pairs from two sources: these sources are not independent");
    put_count(f, "across labels", c->across_labels, "pairs that are labelled differently: one of the two is wrong or incomplete");
    put_count(f, "across splits", c->across_splits, "pairs on two sides of the manifest's split: it leaks");
    for (int k = 0; k < a->n_pairs && k < NAMED; k++) {
        const cx_pair *p = &a->pairs[k];
        const cx_sample *x = &m->samples[p->a], *y = &m->samples[p->b];
        fprintf(f, "      %s %s = %s", p->exact ? "exact" : "near ", x->path, y->path);
        if (*x->patient_id && *y->patient_id && strcmp(x->patient_id, y->patient_id) != 0)
            fprintf(f, "  (patients %s, %s)", x->patient_id, y->patient_id);
        fputc('\n', f);
    }
    if (a->n_pairs > NAMED)
        fprintf(f, "      and %d more (--json lists all, --sheet shows them)\n", a->n_pairs - NAMED);
}

static int cell_text(const cx_cross *x, int row, int column, char text[32])
{
    int at = row * x->columns + column;
    return x->patients[at] ? snprintf(text, 32, "%d (%d)", x->films[at], x->patients[at]) : snprintf(text, 32, "%d", x->films[at]);
}

/* As many columns side by side as fit the line; further ones below. */
static void print_cross(const cx_cross *x, FILE *f)
{
    char title[64], text[32];
    int label = 6;
    snprintf(title, sizeof title, "Labels by %s: films (known patients)", x->property);
    heading(f, title);
    for (int r = 0; r < x->rows; r++)
        label = (int)strlen(x->row[r]) > label ? (int)strlen(x->row[r]) : label;
    label = label > 40 ? 40 : label;
    for (int from = 0, to; from < x->columns; from = to) {
        int used = label + 2, width[64];
        for (to = from; to < x->columns && to - from < 64; to++) {
            int w = (int)strlen(x->column[to]);
            for (int r = 0; r < x->rows; r++) {
                int n = cell_text(x, r, to, text);
                w = n > w ? n : w;
            }
            if (to > from && used + w + 2 > LINE_CHARS)
                break;
            width[to - from] = w + 2;
            used += w + 2;
        }
        fprintf(f, "  %-*s", label, "");
        for (int c = from; c < to; c++)
            fprintf(f, "%*s", width[c - from], x->column[c]);
        for (int r = 0; r < x->rows; r++) {
            fprintf(f, "\n  %-*.*s", label, label, x->row[r]);
            for (int c = from; c < to; c++) {
                cell_text(x, r, c, text);
                fprintf(f, "%*s", width[c - from], text);
            }
        }
        fputc('\n', f);
    }
}

static void print_confounding(const cx_audit_facts *c, FILE *f)
{
    heading(f, "Can the label be told from the source?");
    if (c->sources < 2)
        fputs("  There is one source only, so it cannot give the label away. Results say nothing about other sources.\n", f);
    else if (c->n_confounding == 0)
        fputs("  No label is both present and absent in at least 10 films, so there is nothing to tell.\n", f);
    for (int k = 0; k < c->n_confounding; k++) {
        const cx_confounding *x = &c->confounding[k];
        cx_buf text = { 0 };
        if (k < 3) {
            cx_confounding_say(x, &text);
            fprintf(f, "  %s\n", text.data ? text.data : x->label);
        } else {
            fprintf(f, "%s%s %.2f", k == 3 ? "  Others: " : ", ", x->label, x->cramers_v);
        }
        cx_buf_free(&text);
    }
    if (c->n_confounding > 3)
        fputc('\n', f);
}

void cx_audit_print(const cx_manifest *m, const cx_audit *a, FILE *f)
{
    cx_audit_facts c;
    cx_error err;
    if (cx_audit_facts_make(m, a, &c, &err) != CX_OK) {
        fprintf(f, "%s\n", err.text);
        return;
    }
    fprintf(f, "%s: %d films of %d known patients, %d without a patient id, %d source%s\n", m->path, m->n, c.patients, c.without_patient,
            c.sources, c.sources == 1 ? "" : "s");
    print_files(m, a, &c, f);
    print_duplicates(m, a, &c, f);
    for (int k = 0; k < CX_COUNT(c.cross); k++)
        print_cross(&c.cross[k], f);
    heading(f, "Children");
    fprintf(f, "  %d films of patients younger than %d years; the age of %d films (%.0f %%) is unknown\n", c.children, CX_CHILD_YEARS, c.unknown_age,
            100.0 * c.unknown_age / m->n);
    if (c.children)
        fputs("  A child's chest differs from an adult's: where only one class has children, a network learns age. data.min_age leaves them out.\n", f);
    print_confounding(&c, f);
    cx_audit_facts_free(&c);
}
