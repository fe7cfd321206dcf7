/* audit_json.c - an audit as JSON, complete: every flawed film and every pair. Depends on jansson, base. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "audit.h"

/* jansson keeps references: json_*_new functions take ours over, and a NULL anywhere makes the whole NULL-safe append fail, which `ok` remembers. */
static void put(json_t *to, const char *key, json_t *value, bool *ok)
{
    if (!value || json_object_set_new(to, key, value) != 0)
        *ok = false;
}

static void push(json_t *to, json_t *value, bool *ok)
{
    if (!value || json_array_append_new(to, value) != 0)
        *ok = false;
}

static json_t *film_json(const cx_manifest *m, const cx_audit *a, int i, bool *ok)
{
    const cx_film_report *r = &a->films[i];
    json_t *o = json_object(), *flaws = json_array();
    put(o, "path", json_string(m->samples[i].path), ok);
    put(o, "line", json_integer(m->samples[i].line), ok);
    put(o, "type", json_string(cx_file_type_name(r->type)), ok);
    if (r->ok) {
        put(o, "width", json_integer(r->width), ok);
        put(o, "height", json_integer(r->height), ok);
        put(o, "bits", json_integer(r->bits), ok);
        put(o, "channels", json_integer(r->channels), ok);
    } else {
        put(o, "problem", json_string(r->problem), ok);
    }
    const struct { bool has; const char *name; } flaw[] = { { !r->ok, "bad" }, { r->wrong_extension, "wrong_extension" }, { r->tiny, "tiny" },
        { r->odd_shape, "odd_shape" }, { r->coloured, "coloured" }, { r->ok && r->bits > 8, "more_than_8_bits" },
        { r->ok && r->sig.flat, "without_contrast" } };
    for (int k = 0; k < CX_COUNT(flaw); k++)
        if (flaw[k].has)
            push(flaws, json_string(flaw[k].name), ok);
    put(o, "flaws", flaws, ok);
    return o;
}

static bool flawed(const cx_film_report *r)
{
    return !r->ok || r->wrong_extension || r->tiny || r->odd_shape || r->coloured || r->bits > 8 || r->sig.flat;
}

static json_t *pair_json(const cx_manifest *m, const cx_pair *p, bool *ok)
{
    const cx_sample *x = &m->samples[p->a], *y = &m->samples[p->b];
    json_t *o = json_object();
    put(o, "a", json_string(x->path), ok);
    put(o, "b", json_string(y->path), ok);
    put(o, "exact", json_boolean(p->exact), ok);
    put(o, "likeness", json_real(round((double)p->likeness * 1e4) / 1e4), ok);
    put(o, "dhash_bits", json_integer(p->dhash_bits), ok);
    put(o, "phash_bits", json_integer(p->phash_bits), ok);
    put(o, "across_patients", json_boolean(*x->patient_id && *y->patient_id && strcmp(x->patient_id, y->patient_id) != 0), ok);
    put(o, "across_labels", json_boolean(strcmp(x->labels, y->labels) != 0), ok);
    return o;
}

static json_t *cross_json(const cx_cross *x, bool *ok)
{
    json_t *table = json_object();
    for (int r = 0; r < x->rows; r++) {
        json_t *row = json_object();
        for (int c = 0; c < x->columns; c++) {
            json_t *cell = json_object();
            put(cell, "films", json_integer(x->films[r * x->columns + c]), ok);
            put(cell, "patients", json_integer(x->patients[r * x->columns + c]), ok);
            put(row, x->column[c], cell, ok);
        }
        put(table, x->row[r], row, ok);
    }
    return table;
}

static json_t *confounding_json(const cx_audit_facts *c, bool *ok)
{
    json_t *list = json_array();
    for (int k = 0; k < c->n_confounding; k++) {
        const cx_confounding *x = &c->confounding[k];
        json_t *o = json_object();
        cx_buf text = { 0 };
        cx_confounding_say(x, &text);
        put(o, "label", json_string(x->label), ok);
        put(o, "films", json_integer(x->films), ok);
        put(o, "cramers_v", json_real(x->cramers_v), ok);
        put(o, "auroc_of_source", json_real(x->auroc), ok);
        put(o, "sentence", json_string(text.data ? text.data : ""), ok);
        cx_buf_free(&text);
        push(list, o, ok);
    }
    return list;
}

static void put_counts(json_t *root, const cx_manifest *m, const cx_audit_facts *c, bool *ok)
{
    const struct { const char *key; int value; } count[] = { { "films", m->n }, { "decoded", c->decoded }, { "bad", c->bad }, { "png", c->type[CX_PNG] },
        { "jpeg", c->type[CX_JPEG] }, { "webp", c->type[CX_WEBP] }, { "unknown_type", c->type[CX_UNKNOWN_TYPE] }, { "wrong_extension", c->wrong_extension },
        { "tiny", c->tiny }, { "odd_shape", c->odd_shape }, { "coloured", c->coloured }, { "more_than_8_bits", c->deep }, { "without_contrast", c->flat },
        { "exact_pairs", c->exact }, { "near_pairs", c->near }, { "pairs_across_patients", c->across_patients }, { "pairs_across_sources", c->across_sources },
        { "pairs_across_labels", c->across_labels }, { "pairs_across_splits", c->across_splits }, { "clusters", c->clusters },
        { "films_in_clusters", c->in_clusters }, { "largest_cluster", c->largest }, { "patients", c->patients }, { "without_patient", c->without_patient },
        { "children", c->children }, { "unknown_age", c->unknown_age }, { "sources", c->sources } };
    json_t *o = json_object();
    for (int k = 0; k < CX_COUNT(count); k++)
        put(o, count[k].key, json_integer(count[k].value), ok);
    put(root, "counts", o, ok);
}

cx_status cx_audit_json(const cx_manifest *m, const cx_audit *a, cx_buf *out, cx_error *err)
{
    cx_audit_facts c;
    TRY(cx_audit_facts_make(m, a, &c, err));
    bool ok = true;
    json_t *root = json_object(), *films = json_array(), *pairs = json_array(), *tables = json_object();
    put(root, "manifest", json_string(m->path), &ok);
    put(root, "sha256", json_string(m->sha256), &ok);
    put_counts(root, m, &c, &ok);
    for (int i = 0; i < m->n; i++)
        if (flawed(&a->films[i]))
            push(films, film_json(m, a, i, &ok), &ok);
    for (int k = 0; k < a->n_pairs; k++)
        push(pairs, pair_json(m, &a->pairs[k], &ok), &ok);
    for (int k = 0; k < CX_COUNT(c.cross); k++)
        put(tables, c.cross[k].property, cross_json(&c.cross[k], &ok), &ok);
    put(root, "flawed_films", films, &ok);
    put(root, "pairs", pairs, &ok);
    put(root, "labels_by", tables, &ok);
    put(root, "confounding", confounding_json(&c, &ok), &ok);
    char *text = ok ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    if (text) {
        cx_buf_puts(out, text);
        cx_buf_puts(out, "\n");
    }
    ok = text && !out->failed;
    free(text);
    json_decref(root);
    cx_audit_facts_free(&c);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "%s: no memory for the audit's JSON", m->path);
}
