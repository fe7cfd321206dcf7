/* config_print.c - a configuration as YAML, and the table of keys as text and as JSON Schema. */
#include "config.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Words that some YAML reader takes for something else than text. */
static bool is_word(const char *t)
{
    static const char *const words[] = { "true", "false", "yes", "no", "on", "off", "y", "n", "null" };
    for (int i = 0; i < CX_COUNT(words); i++)
        if (!strcasecmp(t, words[i]))
            return true;
    return false;
}

static bool plain_is_safe(const char *t)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", rest[] = "0123456789_./+= -";
    size_t n = strlen(t);
    if (!n || is_word(t) || t[n - 1] == ' ' || (!strchr(letters, *t) && *t != '/' && *t != '_' && strncmp(t, "./", 2) && strncmp(t, "../", 3)))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr(letters, t[i]) && !strchr(rest, t[i]))
            return false;
    return true;
}

void cx_yaml_text(cx_buf *b, const char *text)
{
    const char *t = text ? text : "";
    if (plain_is_safe(t)) {
        cx_buf_puts(b, t);
        return;
    }
    cx_buf_puts(b, "\"");
    for (; *t; t++) {
        if (*t == '"' || *t == '\\')
            cx_buf_printf(b, "\\%c", *t);
        else if ((unsigned char)*t < 0x20 || *t == 0x7f)
            cx_buf_printf(b, "\\x%02x", (unsigned char)*t);
        else
            cx_buf_put(b, t, 1);
    }
    cx_buf_puts(b, "\"");
}

void cx_yaml_list(cx_buf *b, char *const *item, int n)
{
    cx_buf_puts(b, "[");
    for (int i = 0; i < n; i++) {
        cx_buf_puts(b, i ? ", " : "");
        cx_yaml_text(b, item[i]);
    }
    cx_buf_puts(b, "]");
}

static void key_value(const cx_key *k, const void *at, cx_buf *b)
{
    char text[32];
    switch (k->kind) {
    case CX_KEY_TEXT:
    case CX_KEY_CHOICE: cx_yaml_text(b, *(char *const *)at); break;
    case CX_KEY_INT: cx_buf_printf(b, "%d", *(const int *)at); break;
    case CX_KEY_BOOL: cx_buf_puts(b, *(const bool *)at ? "true" : "false"); break;
    case CX_KEY_LIST: cx_yaml_list(b, ((const cx_list *)at)->item, (int)((const cx_list *)at)->n); break;
    case CX_KEY_REAL:
        cx_real_text(*(const double *)at, text);
        cx_buf_puts(b, text);
        break;
    }
}

static void yaml(const cx_config *c, cx_buf *out)
{
    for (int s = 0; s < cx_config_sections(); s++) {
        const cx_section *table = cx_config_section(s);
        cx_buf_printf(out, "%s:\n", table->name);
        for (int k = 0; k < table->n; k++) {
            cx_buf_printf(out, "  %s: ", table->keys[k].name);
            key_value(&table->keys[k], (const char *)c + table->offset + table->keys[k].offset, out);
            cx_buf_puts(out, "\n");
        }
    }
}

static const char *kind_name(cx_key_kind k)
{
    static const char *const names[] = { "text", "integer", "number", "boolean", "choice", "list" };
    return names[k];
}

static void range(const cx_key *k, char *out, size_t n)
{
    char lo[32], hi[32];
    *out = 0;
    if (k->kind == CX_KEY_CHOICE)
        snprintf(out, n, "%s", k->choices);
    if (k->kind != CX_KEY_INT && k->kind != CX_KEY_REAL)
        return;
    cx_real_text(k->lo, lo);
    cx_real_text(k->hi, hi);
    if (k->kind == CX_KEY_INT)
        snprintf(out, n, "%.0f .. %.0f", k->lo, k->hi);
    else
        snprintf(out, n, "%s .. %s", lo, hi);
}

static bool is_stages(const cx_key *k) { return k == &cx_config_section(cx_config_find_section("preprocess"))->keys[0]; }

static void text_table(cx_buf *out)
{
    for (int s = 0; s < cx_config_sections(); s++) {
        const cx_section *table = cx_config_section(s);
        cx_buf_printf(out, "%s%s: %s\n", s ? "\n" : "", table->name, table->doc);
        for (int k = 0; k < table->n; k++) {
            const cx_key *key = &table->keys[k];
            char limits[160], def[120];
            range(key, limits, sizeof limits);
            bool text = key->kind == CX_KEY_TEXT;
            if (key->kind == CX_KEY_LIST)
                snprintf(def, sizeof def, "[%s]", key->def);
            else
                snprintf(def, sizeof def, "%s%s%s", text ? "\"" : "", key->def, text ? "\"" : "");
            cx_buf_printf(out, "  %-16s  %-7s  %-12s  %s%s%s\n", key->name, kind_name(key->kind), def, limits, *limits ? "  " : "", key->doc);
            if (is_stages(key))
                cx_stages_doc(out);
        }
    }
}

static json_t *text_list(const char *text, char separator)
{
    json_t *list = json_array();
    const char stop[2] = { separator, 0 };
    for (const char *p = text; *p; p += strcspn(p, stop), p += *p == separator)
        json_array_append_new(list, json_stringn(p, strcspn(p, stop)));
    return list;
}

/* With the table of stages, where k is their list. */
static json_t *description(const cx_key *k)
{
    cx_buf b = { 0 };
    cx_buf_puts(&b, k->doc);
    if (is_stages(k)) {
        cx_buf_puts(&b, "\n");
        cx_stages_doc(&b);
    }
    json_t *text = json_string(b.data);
    cx_buf_free(&b);
    return text;
}

static json_t *key_schema(const cx_key *k)
{
    json_t *o = json_pack("{s:o}", "description", description(k));
    int whole = 0;
    double real = 0;
    switch (k->kind) {
    case CX_KEY_TEXT: json_object_update_new(o, json_pack("{s:s, s:s}", "type", "string", "default", k->def)); break;
    case CX_KEY_BOOL: json_object_update_new(o, json_pack("{s:s, s:b}", "type", "boolean", "default", !strcmp(k->def, "true"))); break;
    case CX_KEY_CHOICE: json_object_update_new(o, json_pack("{s:o, s:s}", "enum", text_list(k->choices, '|'), "default", k->def)); break;
    case CX_KEY_INT:
        cx_int_parse(k->def, &whole);
        json_object_update_new(o, json_pack("{s:s, s:i, s:I, s:I}", "type", "integer", "default", whole, "minimum", (json_int_t)k->lo,
                                            "maximum", (json_int_t)k->hi));
        break;
    case CX_KEY_REAL:
        cx_real_parse(k->def, &real);
        json_object_update_new(o, json_pack("{s:s, s:f, s:f, s:f}", "type", "number", "default", real, "minimum", k->lo, "maximum", k->hi));
        break;
    case CX_KEY_LIST:
        json_object_update_new(o, json_pack("{s:s, s:{s:s, s:i}, s:b, s:o}", "type", "array", "items", "type", "string", "minLength", 1, "uniqueItems", 1,
                                            "default", text_list(k->def, ',')));
        break;
    }
    return o;
}

static void json_schema(cx_buf *out)
{
    json_t *sections = json_object();
    for (int s = 0; s < cx_config_sections(); s++) {
        const cx_section *table = cx_config_section(s);
        json_t *keys = json_object();
        for (int k = 0; k < table->n; k++)
            json_object_set_new(keys, table->keys[k].name, key_schema(&table->keys[k]));
        json_object_set_new(sections, table->name, json_pack("{s:s, s:[s, s], s:b, s:o}", "description", table->doc, "type", "object", "null",
                                                             "additionalProperties", 0, "properties", keys));
    }
    json_t *root = json_pack("{s:s, s:s, s:[s, s], s:b, s:o}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title", "An experiment of cxnet",
                             "type", "object", "null", "additionalProperties", 0, "properties", sections);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    if (text)
        cx_buf_printf(out, "%s\n", text);
    else
        out->failed = true;
    free(text);
    json_decref(root);
}

/* Runs with a decimal point, whatever the program's locale. */
static void in_c_locale(const cx_config *c, bool json, cx_buf *out)
{
    cx_point point = cx_point_begin();
    if (c)
        yaml(c, out);
    else if (json)
        json_schema(out);
    else
        text_table(out);
    cx_point_end(point);
}

void cx_config_yaml(const cx_config *c, cx_buf *out)
{
    in_c_locale(c, false, out);
}

void cx_config_schema(cx_buf *out, bool json)
{
    in_c_locale(NULL, json, out);
}
