/* stages.c - the table of preprocessing stages, and a stage's text against it. Depends on pipeline.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline.h"

/* min_area of roi and mask_out: of 954 hand-drawn lung masks the smallest covers 8 % of its film. */
#define MIN_AREA { "min_area", CX_STAGE_REAL, "0.05", NULL, "lungs that cover a smaller share of the film are taken for a failure", 0, 0.9 }
#define GAMMA { "gamma", CX_STAGE_REAL, "1.5", NULL, "how steep the two sigmoids are", 0.01, 30 }
#define CLIP { "clip", CX_STAGE_REAL, "2", NULL, "limit of a grey's count, in counts of a flat histogram", 0.01, 1000 }
#define TILES { "tiles", CX_STAGE_INT, "8", NULL, "tiles along each side", 1, 64 }

static const cx_stage_param roi[] = {
    { "margin", CX_STAGE_REAL, "0", NULL, "added to each side of the box, as a share of that side", 0, 0.5 },
    { "dilate", CX_STAGE_REAL, "0.02", NULL, "how far lungs grow first, as a share of the film's shorter side (the study: 6 px of 320)", 0, 0.25 },
    MIN_AREA,
};
static const cx_stage_param mask_out[] = {
    { "dilate", CX_STAGE_REAL, "0.02", NULL, "how far lungs grow first, as a share of the film's shorter side", 0, 0.25 },
    MIN_AREA,
};
static const cx_stage_param equalize_local[] = { { "radius", CX_STAGE_INT, "30", NULL, "of the disk around each pixel, px at that stage", 1, 512 } };
static const cx_stage_param clahe[] = { CLIP, TILES };
static const cx_stage_param beasf[] = { GAMMA };
static const cx_stage_param match_histogram[] = {
    { "reference", CX_STAGE_FILE, NULL, NULL, "a film file, without spaces in its name, relative to the working folder; "
      "it passes the stages before this one too", 0, 0 },
};
static const cx_stage_param resize[] = {
    { "side", CX_STAGE_INT, "0", NULL, "px; 0: data.side", 0, CX_CACHE_SIDE_MAX },
    { "filter", CX_STAGE_CHOICE, "pil_bilinear", "pil_bilinear|cv_area|cv_linear|cv_cubic", "whose numbers: PIL's BILINEAR, which averages when it shrinks; "
      "OpenCV's INTER_AREA, INTER_LINEAR, INTER_CUBIC (the study's), of which the last two skip pixels when they shrink", 0, 0 },
    { "keep_aspect", CX_STAGE_BOOL, "false", NULL, "true: the longer side fits, black beside the shorter one; false: both sides are stretched", 0, 0 },
};
static const cx_stage_param channels[] = {
    { "planes", CX_STAGE_PLANES, "beasf+clahe+plain", "plain|clahe|beasf", "what each channel of the network sees, 1 or data.channels of them", 0, 0 },
    GAMMA, CLIP, TILES,
};

#define STAGE(name, lungs_, apply_, doc_) { #name, doc_, name, CX_COUNT(name), apply_, lungs_ }
static const cx_stage_kind kinds[] = {
    STAGE(roi, true, cx_stage_roi, "crop to the box around the lungs; where the mask is no pair of lungs, the whole film stays, and the run's log names it"),
    STAGE(mask_out, true, cx_stage_mask_out, "black outside the lungs; where the mask is no pair of lungs, nothing is, and the run's log names it"),
    STAGE(equalize_local, false, cx_stage_equalize_local, "local equalisation (scikit-image, rank.equalize with a disk); "
          "the study did it to what its lung network saw"),
    STAGE(clahe, false, cx_stage_clahe, "contrast-limited adaptive histogram equalisation (OpenCV, createCLAHE)"),
    STAGE(beasf, false, cx_stage_beasf, "bi-histogram equalisation with adaptive sigmoids"),
    STAGE(match_histogram, false, cx_stage_match, "the greys of a reference film (scikit-image, match_histograms)"),
    STAGE(resize, false, cx_stage_resize, "to a square of side px; the last one gives data.side"),
    STAGE(channels, false, cx_stage_channels, "several versions of the film as channels; the last stage"),
};

const cx_stage_kind *cx_stage_kinds(int *n)
{
    *n = CX_COUNT(kinds);
    return kinds;
}

static void want_one_of(cx_buf *b, const char *choices, const char *separator)
{
    for (const char *c = choices; *c; c++)
        if (*c == '|')
            cx_buf_puts(b, separator);
        else
            cx_buf_put(b, c, 1);
}

/* Which of "a|b|c" the n bytes are; -1: none. */
static int choice_of(const char *choices, const char *text, size_t n)
{
    int k = 0;
    for (const char *c = choices; *c; c += strcspn(c, "|"), c += *c == '|', k++)
        if (strcspn(c, "|") == n && !memcmp(c, text, n))
            return k;
    return -1;
}

static bool number(const char *text, size_t n, bool whole, double *out)
{
    char copy[40], *end;
    if (n == 0 || n >= sizeof copy || strspn(text, whole ? "+-0123456789" : "+-.0123456789eE") < n)
        return false;
    memcpy(copy, text, n);
    copy[n] = 0;
    *out = strtod(copy, &end);
    return !*end && isfinite(*out);
}

/* "beasf+clahe+plain" */
static bool planes_of(const char *choices, const char *text, size_t n, cx_stage *s, double *count)
{
    int k = 0;
    for (const char *p = text, *end = text + n; p <= end; k++) {
        const char *plus = memchr(p, '+', (size_t)(end - p));
        int which = choice_of(choices, p, (size_t)((plus ? plus : end) - p));
        if (which < 0 || k == CX_PLANES)
            return false;
        s->plane[k] = which;
        p = (plus ? plus : end) + 1;
    }
    *count = k;
    return true;
}

static void want(const cx_stage_param *p, cx_buf *b)
{
    switch (p->kind) {
    case CX_STAGE_INT: cx_buf_printf(b, "a whole number from %.0f to %.0f", p->lo, p->hi); break;
    case CX_STAGE_REAL: cx_buf_printf(b, "a number from %g to %g", p->lo, p->hi); break;
    case CX_STAGE_BOOL: cx_buf_puts(b, "true or false"); break;
    case CX_STAGE_CHOICE: cx_buf_puts(b, "one of "), want_one_of(b, p->choices, ", "); break;
    case CX_STAGE_FILE: cx_buf_puts(b, "the name of a film file"); break;
    case CX_STAGE_PLANES: cx_buf_printf(b, "1 to %d of ", CX_PLANES), want_one_of(b, p->choices, ", "), cx_buf_puts(b, ", joined by '+'"); break;
    }
}

static cx_status set_value(cx_stage *s, int k, const char *text, size_t n, cx_error *err)
{
    const cx_stage_param *p = &s->kind->params[k];
    double *v = &s->value[k];
    bool ok = false;
    switch (p->kind) {
    case CX_STAGE_INT:
    case CX_STAGE_REAL: ok = number(text, n, p->kind == CX_STAGE_INT, v) && *v >= p->lo && *v <= p->hi; break;
    case CX_STAGE_BOOL: *v = choice_of("false|true", text, n), ok = *v >= 0; break;
    case CX_STAGE_CHOICE: *v = choice_of(p->choices, text, n), ok = *v >= 0; break;
    case CX_STAGE_PLANES: ok = planes_of(p->choices, text, n, s, v); break;
    case CX_STAGE_FILE:
        free(s->file);
        if (!(s->file = cx_sprintf("%.*s", (int)n, text)))
            return cx_fail(err, CX_E_MEMORY, "no memory for a stage");
        ok = n > 0;
    }
    if (ok)
        return CX_OK;
    cx_buf b = { 0 };
    want(p, &b);
    cx_fail(err, CX_E_CONFIG, "%s: want %s, got %.*s", p->name, b.data ? b.data : "", (int)(n < 60 ? n : 60), text);
    cx_buf_free(&b);
    return CX_E_CONFIG;
}

static cx_status unknown(const cx_stage_kind *kind, const char *text, size_t n, cx_error *err)
{
    cx_buf b = { 0 };
    const int count = kind ? kind->n_params : CX_COUNT(kinds);
    for (int k = 0; k < count; k++)
        cx_buf_printf(&b, "%s%s", k ? ", " : "", kind ? kind->params[k].name : kinds[k].name);
    if (kind)
        cx_fail(err, CX_E_CONFIG, "%.*s: no value of %s; want key=value with one of %s", (int)(n < 60 ? n : 60), text, kind->name, b.data ? b.data : "");
    else
        cx_fail(err, CX_E_CONFIG, "no stage is called \"%.*s\"; want one of %s", (int)(n < 60 ? n : 60), text, b.data ? b.data : "");
    cx_buf_free(&b);
    return CX_E_CONFIG;
}

/* One `key=value` of n bytes; said: bit k for value k. */
static cx_status pair(cx_stage *s, const char *text, size_t n, unsigned *said, cx_error *err)
{
    const char *equals = memchr(text, '=', n);
    const size_t name = equals ? (size_t)(equals - text) : n;
    for (int k = 0; equals && k < s->kind->n_params; k++) {
        if (strlen(s->kind->params[k].name) != name || memcmp(s->kind->params[k].name, text, name))
            continue;
        if (*said >> k & 1)
            return cx_fail(err, CX_E_CONFIG, "%s is said twice", s->kind->params[k].name);
        *said |= 1u << k;
        return set_value(s, k, equals + 1, n - name - 1, err);
    }
    return unknown(s->kind, text, name, err);
}

/* Name and every value, as cx_stage_parse reads them. */
static void show(const cx_stage *s, cx_buf *b)
{
    cx_buf_puts(b, s->kind->name);
    for (int k = 0; k < s->kind->n_params; k++) {
        const cx_stage_param *p = &s->kind->params[k];
        cx_buf_printf(b, " %s=", p->name);
        const char *c = p->choices;
        switch (p->kind) {
        case CX_STAGE_INT:
        case CX_STAGE_REAL: cx_buf_printf(b, "%.15g", s->value[k]); break;
        case CX_STAGE_BOOL: cx_buf_puts(b, s->value[k] != 0 ? "true" : "false"); break;
        case CX_STAGE_FILE: cx_buf_puts(b, s->file); break;
        case CX_STAGE_CHOICE:
        case CX_STAGE_PLANES:
            for (int i = 0; i < (p->kind == CX_STAGE_PLANES ? (int)s->value[k] : 1); i++) {
                c = p->choices;
                for (int skip = p->kind == CX_STAGE_PLANES ? s->plane[i] : (int)s->value[k]; skip > 0; skip--)
                    c += strcspn(c, "|") + 1;
                cx_buf_puts(b, i ? "+" : "");
                cx_buf_put(b, c, strcspn(c, "|"));
            }
        }
    }
}

static cx_status defaults(cx_stage *s, unsigned said, cx_error *err)
{
    for (int k = 0; k < s->kind->n_params; k++) {
        const cx_stage_param *p = &s->kind->params[k];
        if (said >> k & 1)
            continue;
        if (!p->def)
            return cx_fail(err, CX_E_CONFIG, "%s is missing: %s", p->name, p->doc);
        TRY(set_value(s, k, p->def, strlen(p->def), err));
    }
    return CX_OK;
}

cx_status cx_stage_parse(const char *text, cx_stage *s, cx_error *err)
{
    unsigned said = 0;
    *s = (cx_stage){ 0 };
    const char *at = text + strspn(text, " ");
    size_t n = strcspn(at, " ");
    for (int k = 0; k < CX_COUNT(kinds); k++)
        if (strlen(kinds[k].name) == n && !memcmp(kinds[k].name, at, n))
            s->kind = &kinds[k];
    if (!s->kind)
        return unknown(NULL, at, n, err);
    for (at += n, at += strspn(at, " "); *at; at += n, at += strspn(at, " ")) {
        n = strcspn(at, " ");
        TRY(pair(s, at, n, &said, err));
    }
    TRY(defaults(s, said, err));
    for (int k = 0; k < s->kind->n_params; k++)
        if (!strcmp(s->kind->params[k].name, "gamma"))
            TRY(cx_beasf_make(s->value[k], &s->beasf, err));
    cx_buf b = { 0 };
    show(s, &b);
    if (b.failed) {
        cx_buf_free(&b);
        return cx_fail(err, CX_E_MEMORY, "no memory for a stage");
    }
    s->shown = b.data;
    return CX_OK;
}

void cx_stage_free(cx_stage *s)
{
    free(s->file);
    free(s->shown);
    s->file = s->shown = NULL;
}

void cx_stages_doc(cx_buf *out)
{
    for (int k = 0; k < CX_COUNT(kinds); k++) {
        cx_buf_printf(out, "    %-15s  %s\n", kinds[k].name, kinds[k].doc);
        for (int i = 0; i < kinds[k].n_params; i++) {
            const cx_stage_param *p = &kinds[k].params[i];
            cx_buf b = { 0 };
            want(p, &b);
            cx_buf_printf(out, "      %-13s  %s; %s: %s\n", p->name, p->def ? p->def : "(must be said)", b.data ? b.data : "", p->doc);
            out->failed |= b.failed;
            cx_buf_free(&b);
        }
    }
}
