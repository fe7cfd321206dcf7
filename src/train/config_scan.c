/* config_scan.c - YAML to sayings: who says what about which key, and on which line. Syntax and structure are judged here, values in config_value.c.
 * libcyaml keeps no lines, so the events come from libyaml, which libcyaml itself stands on. */
#include "config.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct {
    yaml_parser_t parser;
    yaml_event_t event;       /* the current one; deleted when the next is read */
    const char *text; size_t n;
    const char *where;        /* path, or the --set, for messages */
    bool set;                 /* a --set: no lines */
} scan;

cx_status cx_sayings_new(cx_sayings *out, cx_error *err)
{
    int n = cx_config_sections();
    out->said = cx_alloc((size_t)n, sizeof *out->said);
    for (int s = 0; out->said && s < n; s++)
        if (!(out->said[s] = cx_alloc((size_t)cx_config_section(s)->n, sizeof **out->said))) {
            cx_sayings_free(out);
            break;
        }
    return out->said ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for the configuration");
}

void cx_sayings_free(cx_sayings *a)
{
    for (int s = 0; a->said && s < cx_config_sections(); s++) {
        for (int k = 0; a->said[s] && k < cx_config_section(s)->n; k++)
            cx_said_clear(&a->said[s][k]);
        free(a->said[s]);
    }
    free(a->said);
    a->said = NULL;
}

void cx_said_clear(cx_said *v)
{
    for (int i = 0; i < v->n; i++)
        free(v->item[i]);
    free(v->item);
    *v = (cx_said){ 0 };
}

/* Control characters, and the code points that YAML folds or forbids (U+0080..9F, U+2028, U+2029, U+FEFF); text is valid UTF-8 already. */
static bool unprintable(const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] < 0x20 || s[i] == 0x7f)
            return true;
        if (s[i] == 0xc2 && i + 1 < n && s[i + 1] < 0xa0)
            return true;
        if (i + 2 < n && (!memcmp(s + i, "\xe2\x80\xa8", 3) || !memcmp(s + i, "\xe2\x80\xa9", 3) || !memcmp(s + i, "\xef\xbb\xbf", 3)
                          || !memcmp(s + i, "\xef\xbf\xbe", 3) || !memcmp(s + i, "\xef\xbf\xbf", 3)))
            return true;
    }
    return false;
}

bool cx_said_add(cx_said *v, const char *text, size_t n)
{
    char **item = realloc(v->item, ((size_t)v->n + 2) * sizeof *item);
    if (!item)
        return false;
    v->item = item;
    if (!text)                                     /* only makes an empty list distinct from nothing said */
        return true;
    if (!(item[v->n] = cx_alloc(n + 1, 1)))
        return false;
    memcpy(item[v->n++], text, n);
    v->odd |= unprintable((const unsigned char *)text, n);
    return true;
}

void cx_shown(const char *text, char out[80])
{
    size_t n = strlen(text), at = 0, keep = n > 60 ? 56 : n;
    while (keep < n && ((unsigned char)text[keep] & 0xc0) == 0x80)
        keep--;                                    /* not inside a UTF-8 sequence */
    out[at++] = '"';
    for (size_t i = 0; i < keep; i++)
        out[at++] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    snprintf(out + at, 80 - at, "%s\"", keep < n ? "..." : "");
}

static cx_status fail(const scan *z, size_t line, cx_error *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static cx_status fail(const scan *z, size_t line, cx_error *err, const char *fmt, ...)
{
    char text[400], shown[80];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!z->set)
        return cx_fail(err, CX_E_CONFIG, "%s:%zu: %s", z->where, line, text);
    cx_shown(z->where, shown);
    shown[strlen(shown) - 1] = 0;
    return cx_fail(err, CX_E_CONFIG, "--set %s: %s", shown + 1, text);
}

static size_t line_of(const scan *z)
{
    return z->event.start_mark.line + 1;
}

static size_t line_at(const scan *z, size_t offset)
{
    size_t line = 1;
    for (size_t i = 0; i < offset && i < z->n; i++)
        line += z->text[i] == '\n';
    return line;
}

static bool tab_indented(const scan *z, size_t line)
{
    const char *p = z->text, *end = z->text + z->n;
    for (size_t i = 1; i < line && p && p < end; i++)
        if ((p = memchr(p, '\n', (size_t)(end - p))))
            p++;
    for (; p && p < end && (*p == ' ' || *p == '\t'); p++)
        if (*p == '\t')
            return true;
    return false;
}

static cx_status syntax(const scan *z, cx_error *err)
{
    const yaml_parser_t *p = &z->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory to read it", z->where);
    if (p->error == YAML_READER_ERROR)
        return fail(z, line_at(z, p->problem_offset), err, "not UTF-8 text: %s", p->problem);
    size_t line = p->problem_mark.line + 1;
    if (!z->set && tab_indented(z, line))
        return fail(z, line, err, "a tab in the indentation; YAML wants spaces");
    return fail(z, line, err, "not valid YAML: %s%s%s", p->context ? p->context : "", p->context ? ": " : "", p->problem ? p->problem : "syntax error");
}

static const char *node_tag(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT: return (const char *)e->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return (const char *)e->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return (const char *)e->data.mapping_start.tag;
    default: return NULL;
    }
}

static const char *node_anchor(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT: return (const char *)e->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return (const char *)e->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return (const char *)e->data.mapping_start.anchor;
    default: return NULL;
    }
}

static cx_status next(scan *z, cx_error *err)
{
    yaml_event_delete(&z->event);
    if (!yaml_parser_parse(&z->parser, &z->event))
        return syntax(z, err);
    if (z->event.type == YAML_ALIAS_EVENT)
        return fail(z, line_of(z), err, "an alias (*%.40s); write the value out", (const char *)z->event.data.alias.anchor);
    if (node_anchor(&z->event))
        return fail(z, line_of(z), err, "an anchor (&%.40s); experiments have no aliases, remove it", node_anchor(&z->event));
    if (node_tag(&z->event))
        return fail(z, line_of(z), err, "a tag (%.40s); the type follows from the key, remove it", node_tag(&z->event));
    return CX_OK;
}

static bool is_plain(const yaml_event_t *e)
{
    return e->type == YAML_SCALAR_EVENT && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static const char *scalar(const yaml_event_t *e)
{
    return (const char *)e->data.scalar.value;
}

/* Nothing, ~ or null, without quotes. */
static bool is_null(const yaml_event_t *e)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL" };
    for (int i = 0; is_plain(e) && i < CX_COUNT(words); i++)
        if (!strcmp(scalar(e), words[i]))
            return true;
    return false;
}

static const char *event_name(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_MAPPING_START_EVENT: return "a mapping";
    case YAML_SEQUENCE_START_EVENT: return "a list";
    case YAML_SCALAR_EVENT: return is_null(e) ? "nothing" : "text";
    default: return "nothing";
    }
}

static bool add(cx_said *v, const yaml_event_t *e)
{
    return cx_said_add(v, scalar(e), e->data.scalar.length);
}

/* The value of section.key, whose first event is the current one. `name` stands before messages ("optim.lr: "). */
static cx_status value(scan *z, const cx_key *key, const char *name, cx_said *v, cx_error *err)
{
    char want[200], where[120];
    cx_key_want(key, want, sizeof want);
    snprintf(where, sizeof where, "%s%s", z->set ? "" : name, z->set ? "" : ": ");
    v->list = z->event.type == YAML_SEQUENCE_START_EVENT;
    v->plain = is_plain(&z->event);
    if (z->event.type == YAML_SCALAR_EVENT) {
        bool empty_list = key->kind == CX_KEY_LIST && z->set && is_null(&z->event);
        v->list |= empty_list;
        bool empty_text = key->kind == CX_KEY_TEXT && z->set && !*scalar(&z->event);
        if (is_null(&z->event) && !empty_list && !empty_text)
            return fail(z, line_of(z), err, "%swant %s, got nothing%s", where, want,
                        key->kind == CX_KEY_TEXT ? "; write \"\" for no text" : key->kind == CX_KEY_LIST ? "; write [] for an empty list" : "");
        if (empty_list ? cx_said_add(v, NULL, 0) : add(v, &z->event))
            return CX_OK;
        return cx_fail(err, CX_E_MEMORY, "%s: no memory to read it", z->where);
    }
    if (!v->list)
        return fail(z, line_of(z), err, "%swant %s, got %s", where, want, event_name(&z->event));
    if (!cx_said_add(v, NULL, 0))
        return cx_fail(err, CX_E_MEMORY, "%s: no memory to read it", z->where);
    for (;;) {
        TRY(next(z, err));
        if (z->event.type == YAML_SEQUENCE_END_EVENT)
            return CX_OK;
        if (z->event.type != YAML_SCALAR_EVENT || is_null(&z->event))
            return fail(z, line_of(z), err, "%sitem %d: want text, got %s", where, v->n + 1, event_name(&z->event));
        if (!add(v, &z->event))
            return cx_fail(err, CX_E_MEMORY, "%s: no memory to read it", z->where);
    }
}

static cx_status unknown_section(const scan *z, size_t line, const char *name, cx_error *err)
{
    char shown[80], other[80];
    cx_shown(name, shown);
    const char *near = cx_config_nearest(-1, name);
    if (near)
        return fail(z, line, err, "%s: unknown section; did you mean %s?", shown, near);
    if (cx_config_elsewhere(name, other, sizeof other))
        return fail(z, line, err, "%s: unknown section; the key %s exists", shown, other);
    cx_buf known = { 0 };
    for (int s = 0; s < cx_config_sections(); s++)
        cx_buf_printf(&known, "%s%s", s ? ", " : "", cx_config_section(s)->name);
    cx_status status = fail(z, line, err, "%s: unknown section; want one of %s", shown, known.data ? known.data : "");
    cx_buf_free(&known);
    return status;
}

static cx_status unknown_key(const scan *z, size_t line, int section, const char *name, cx_error *err)
{
    char shown[80], other[80], where[64];
    cx_shown(name, shown);
    shown[strlen(shown) - 1] = 0;
    const cx_section *s = cx_config_section(section);
    const char *near = cx_config_nearest(section, name);
    snprintf(where, sizeof where, "%s.", s->name);
    if (near)
        return fail(z, line, err, "%s%s: unknown key; did you mean %s?", where, shown + 1, near);
    if (cx_config_elsewhere(name, other, sizeof other))
        return fail(z, line, err, "%s%s: unknown key; %s exists", where, shown + 1, other);
    return fail(z, line, err, "%s%s: unknown key; `cxnet config schema` lists them all", where, shown + 1);
}

static cx_status doubled(const scan *z, const char *name, int first, cx_error *err)
{
    return fail(z, line_of(z), err, "%s: said twice, first on line %d", name, first);
}

/* The keys of one section, after its MAPPING_START. */
static cx_status section(scan *z, cx_sayings *a, int s, cx_error *err)
{
    const cx_section *table = cx_config_section(s);
    for (;;) {
        TRY(next(z, err));
        if (z->event.type == YAML_MAPPING_END_EVENT)
            return CX_OK;
        size_t line = line_of(z);
        if (z->event.type != YAML_SCALAR_EVENT)
            return fail(z, line, err, "%s: want the name of a key, got %s", table->name, event_name(&z->event));
        int k = cx_config_find_key(s, scalar(&z->event));
        if (k < 0)
            return unknown_key(z, line, s, scalar(&z->event), err);
        char name[80];
        snprintf(name, sizeof name, "%s.%s", table->name, table->keys[k].name);
        cx_said *v = &a->said[s][k];
        if (v->item)
            return doubled(z, name, v->line, err);
        TRY(next(z, err));
        TRY(value(z, &table->keys[k], name, v, err));
        v->line = (int)line;
    }
}

/* The sections, after the root's MAPPING_START. A section without keys (all commented out) is fine. */
static cx_status root(scan *z, cx_sayings *a, int *first_line, cx_error *err)
{
    for (;;) {
        TRY(next(z, err));
        if (z->event.type == YAML_MAPPING_END_EVENT)
            return CX_OK;
        size_t line = line_of(z);
        if (z->event.type != YAML_SCALAR_EVENT)
            return fail(z, line, err, "want the name of a section, got %s", event_name(&z->event));
        int s = cx_config_find_section(scalar(&z->event));
        if (s < 0)
            return unknown_section(z, line, scalar(&z->event), err);
        const char *name = cx_config_section(s)->name;
        if (first_line[s])
            return doubled(z, name, first_line[s], err);
        first_line[s] = (int)line;
        TRY(next(z, err));
        if (z->event.type == YAML_MAPPING_START_EVENT)
            TRY(section(z, a, s, err));
        else if (!is_null(&z->event))
            return fail(z, line_of(z), err, "%s: want keys and values, indented below it, got %s", name, event_name(&z->event));
    }
}

static cx_status document(scan *z, cx_sayings *a, int *first_line, cx_error *err)
{
    TRY(next(z, err));                             /* STREAM_START */
    TRY(next(z, err));
    if (z->event.type == YAML_STREAM_END_EVENT)
        return CX_OK;
    TRY(next(z, err));                             /* after DOCUMENT_START */
    if (z->event.type == YAML_MAPPING_START_EVENT)
        TRY(root(z, a, first_line, err));
    else if (!is_null(&z->event))
        return fail(z, line_of(z), err, "want sections with keys (optim:, then lr: 0.001 indented below it), got %s", event_name(&z->event));
    TRY(next(z, err));                             /* DOCUMENT_END */
    TRY(next(z, err));
    return z->event.type == YAML_STREAM_END_EVENT ? CX_OK : fail(z, line_of(z), err, "a second document; want one experiment in a file");
}

static cx_status begin(scan *z, cx_error *err)
{
    if (!yaml_parser_initialize(&z->parser))
        return cx_fail(err, CX_E_MEMORY, "%s: no memory to read it", z->where);
    yaml_parser_set_encoding(&z->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&z->parser, (const unsigned char *)z->text, z->n);
    return CX_OK;
}

static void end(scan *z)
{
    yaml_event_delete(&z->event);
    yaml_parser_delete(&z->parser);
}

cx_status cx_sayings_file(cx_sayings *a, const char *text, size_t n, cx_error *err)
{
    scan z = { .text = text, .n = n, .where = a->path };
    if (n >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2)))
        return fail(&z, 1, err, "UTF-16 text; save the file as UTF-8");
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
        z.text += 3;
        z.n -= 3;
    }
    const char *nul = n ? memchr(text, 0, n) : NULL;
    if (nul)
        return fail(&z, line_at(&z, (size_t)(nul - z.text)), err, "a NUL byte; this is not a text file");
    int *first_line = cx_alloc((size_t)cx_config_sections(), sizeof *first_line);
    if (!first_line)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory to read it", a->path);
    cx_status status = begin(&z, err);
    if (status == CX_OK) {
        status = document(&z, a, first_line, err);
        end(&z);
    }
    free(first_line);
    return status;
}

/* The value of a --set as a document of its own. */
static cx_status set_value(scan *z, const cx_key *key, cx_said *v, cx_error *err)
{
    TRY(next(z, err));                             /* STREAM_START */
    TRY(next(z, err));
    if (z->event.type == YAML_STREAM_END_EVENT) {  /* nothing after '=': an empty text or list */
        char want[200];
        cx_key_want(key, want, sizeof want);
        if (key->kind != CX_KEY_TEXT && key->kind != CX_KEY_LIST)
            return fail(z, 1, err, "want %s, got nothing", want);
        v->list = key->kind == CX_KEY_LIST;
        return cx_said_add(v, v->list ? NULL : "", 0) ? CX_OK : cx_fail(err, CX_E_MEMORY, "--set %s: no memory", z->where);
    }
    TRY(next(z, err));
    TRY(value(z, key, "", v, err));
    TRY(next(z, err));                             /* DOCUMENT_END */
    TRY(next(z, err));
    return z->event.type == YAML_STREAM_END_EVENT ? CX_OK : fail(z, 1, err, "want one value; put text that looks like YAML into quotes");
}

cx_status cx_sayings_set(cx_sayings *a, const char *set, cx_error *err)
{
    const char *dot = strchr(set, '.'), *equals = strchr(set, '=');
    scan z = { .where = set, .set = true };
    if (!equals || !dot || dot > equals)
        return fail(&z, 1, err, "want section.key=value, for example optim.lr=0.001");
    char section_name[64], key_name[64];
    snprintf(section_name, sizeof section_name, "%.*s", (int)(dot - set < 63 ? dot - set : 63), set);
    snprintf(key_name, sizeof key_name, "%.*s", (int)(equals - dot - 1 < 63 ? equals - dot - 1 : 63), dot + 1);
    int s = cx_config_find_section(section_name);
    if (s < 0)
        return unknown_section(&z, 1, section_name, err);
    int k = cx_config_find_key(s, key_name);
    if (k < 0)
        return unknown_key(&z, 1, s, key_name, err);
    cx_said v = { 0 };
    z.text = equals + 1;
    z.n = strlen(z.text);
    cx_status status = begin(&z, err);
    if (status == CX_OK) {
        status = set_value(&z, &cx_config_section(s)->keys[k], &v, err);
        end(&z);
    }
    if (status != CX_OK) {
        cx_said_clear(&v);
        return status;
    }
    v.set = set;
    cx_said_clear(&a->said[s][k]);
    a->said[s][k] = v;
    return CX_OK;
}
