/* config.c - an experiment: file and --set to a checked cx_config. libyaml locates (config_scan.c), config_value.c judges, libcyaml binds the judged text to
 * the struct. libcyaml comes last because it keeps no lines, takes "maybe" for true and 010 for 8, and has no ranges for doubles. */
#include "config.h"
#include <cyaml/cyaml.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20 };

static const cyaml_schema_value_t list_item = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED) };

static cyaml_schema_field_t field(const cx_key *k)
{
    cyaml_schema_field_t f = { .key = k->name, .data_offset = (uint32_t)k->offset };
    switch (k->kind) {
    case CX_KEY_INT: f.value = (cyaml_schema_value_t){ CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int) }; break;
    case CX_KEY_REAL: f.value = (cyaml_schema_value_t){ CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double) }; break;
    case CX_KEY_BOOL: f.value = (cyaml_schema_value_t){ CYAML_VALUE_BOOL(CYAML_FLAG_DEFAULT, bool) }; break;
    case CX_KEY_TEXT:
    case CX_KEY_CHOICE: f.value = list_item; break;
    case CX_KEY_LIST:
        f.data_offset += (uint32_t)offsetof(cx_list, item);
        f.count_offset = (uint32_t)(k->offset + offsetof(cx_list, n));
        f.count_size = sizeof(unsigned);
        f.value = (cyaml_schema_value_t){ CYAML_VALUE_SEQUENCE(CYAML_FLAG_POINTER, char *, &list_item, 0, CYAML_UNLIMITED) };
        break;
    }
    return f;
}

/* The libcyaml schema of cx_config, made from the table: the fields of the root, then those of each section, each row ended by a field without a key. */
static cyaml_schema_field_t *fields_new(void)
{
    size_t n = (size_t)cx_config_sections() + 1;
    for (int s = 0; s < cx_config_sections(); s++)
        n += (size_t)cx_config_section(s)->n + 1;
    cyaml_schema_field_t *fields = cx_alloc(n, sizeof *fields), *at = fields ? fields + cx_config_sections() + 1 : NULL;
    for (int s = 0; fields && s < cx_config_sections(); s++) {
        const cx_section *table = cx_config_section(s);
        fields[s] = (cyaml_schema_field_t){ .key = table->name, .data_offset = (uint32_t)table->offset,
            .value = { .type = CYAML_MAPPING, .data_size = (uint32_t)table->bytes, .mapping = { .fields = at } } };
        for (int k = 0; k < table->n; k++)
            *at++ = field(&table->keys[k]);
        at++;
    }
    return fields;
}

/* libcyaml's first complaint; the others repeat where it was. */
static void keep_first(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    char *text = ctx;
    if (level < CYAML_LOG_ERROR || *text)
        return;
    vsnprintf(text, 256, fmt, args);
    text[strcspn(text, "\n")] = 0;
}

/* Every key's text, said or default, as one YAML document without anything that could be read two ways. */
static void resolved(const cx_sayings *a, cx_buf *b)
{
    for (int s = 0; s < cx_config_sections(); s++) {
        const cx_section *table = cx_config_section(s);
        cx_buf_printf(b, "%s:\n", table->name);
        for (int k = 0; k < table->n; k++) {
            const cx_key *key = &table->keys[k];
            const cx_said *v = &a->said[s][k];
            const char *text = v->n ? v->item[0] : key->def;
            double real = 0;
            char shortest[32];
            cx_buf_printf(b, "  %s: ", key->name);
            switch (key->kind) {
            case CX_KEY_LIST: cx_yaml_list(b, v->item, v->n); break;
            case CX_KEY_REAL:
                cx_real_parse(text, &real);
                cx_real_text(real, shortest);
                cx_buf_puts(b, shortest);
                break;
            case CX_KEY_BOOL: cx_buf_puts(b, *text == 't' || *text == 'T' ? "true" : "false"); break;
            case CX_KEY_INT: cx_buf_puts(b, text + (*text == '+')); break;
            case CX_KEY_TEXT:
            case CX_KEY_CHOICE: cx_yaml_text(b, text); break;
            }
            cx_buf_puts(b, "\n");
        }
    }
}

static cx_status bind(const cx_sayings *a, cx_config *out, cx_error *err)
{
    char complaint[256] = "";
    cyaml_config_t how = { .log_fn = keep_first, .log_ctx = complaint, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR };
    cyaml_schema_field_t *fields = fields_new();
    cyaml_schema_value_t root = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, cx_config, fields) };
    cyaml_data_t *data = NULL;
    cyaml_err_t e = CYAML_ERR_OOM;
    cx_buf text = { 0 };
    resolved(a, &text);
    if (fields && !text.failed)
        e = cyaml_load_data((const uint8_t *)text.data, text.len, &how, &root, &data, NULL);
    cx_buf_free(&text);
    free(fields);
    if (e == CYAML_ERR_OOM)
        return cx_fail(err, CX_E_MEMORY, "no memory for the configuration");
    if (e != CYAML_OK || !data)
        return cx_fail(err, CX_E_INTERNAL, "%s: libcyaml refuses a checked configuration: %s (%s)", a->path ? a->path : "defaults", cyaml_strerror(e),
                       complaint);
    *out = *(cx_config *)data;
    free(data);
    return CX_OK;
}

/* Lists take their defaults here, so that resolved() finds all items in one place. */
static cx_status default_lists(cx_sayings *a, cx_error *err)
{
    for (int s = 0; s < cx_config_sections(); s++)
        for (int k = 0; k < cx_config_section(s)->n; k++) {
            const cx_key *key = &cx_config_section(s)->keys[k];
            cx_said *v = &a->said[s][k];
            if (key->kind != CX_KEY_LIST || v->item)
                continue;
            v->list = true;
            for (const char *p = key->def; *p; p += strcspn(p, ","), p += *p == ',')
                if (!cx_said_add(v, p, strcspn(p, ",")))
                    return cx_fail(err, CX_E_MEMORY, "no memory for the configuration");
        }
    return CX_OK;
}

/* An unnamed run is called as its file, without ".yaml". */
static cx_status name_run(const char *path, cx_config *c, cx_error *err)
{
    if (!path || *c->run.name)
        return CX_OK;
    const char *base = cx_path_base(path), *dot = strrchr(base, '.');
    char *name = cx_sprintf("%.*s", (int)(dot && dot != base ? dot - base : (ptrdiff_t)strlen(base)), base);
    if (!name)
        return cx_fail(err, CX_E_MEMORY, "no memory for the configuration");
    free(c->run.name);
    c->run.name = name;
    return CX_OK;
}

static cx_status read_file(const char *path, cx_sayings *a, cx_error *err)
{
    cx_buf text = { 0 };
    cx_status status = cx_file_read(path, MAX_FILE_BYTES, &text, err);
    if (status == CX_OK)
        status = cx_sayings_file(a, text.data, text.len, err);
    cx_buf_free(&text);
    if (status != CX_E_DATA)
        return status;
    if (err)                                       /* too large */
        err->status = CX_E_CONFIG;
    return CX_E_CONFIG;
}

static cx_status load(const char *path, char *const *set, int n_set, cx_sayings *a, cx_config *out, cx_error *err)
{
    if (path)
        TRY(read_file(path, a, err));
    for (int i = 0; i < n_set; i++)
        TRY(cx_sayings_set(a, set[i], err));
    TRY(cx_sayings_check(a, err));
    TRY(default_lists(a, err));
    TRY(bind(a, out, err));
    TRY(name_run(path, out, err));
    return cx_config_check(out, a, err);
}

cx_status cx_config_load(const char *path, char *const *set, int n_set, cx_config *out, cx_error *err)
{
    *out = (cx_config){ 0 };
    cx_sayings a = { .path = path };
    TRY(cx_sayings_new(&a, err));
    cx_point point = cx_point_begin();
    cx_status status = load(path, set, n_set, &a, out, err);
    cx_point_end(point);
    cx_sayings_free(&a);
    if (status != CX_OK)
        cx_config_free(out);
    return status;
}

void cx_config_free(cx_config *c)
{
    for (int s = 0; s < cx_config_sections(); s++) {
        const cx_section *table = cx_config_section(s);
        for (int k = 0; k < table->n; k++) {
            void *at = (char *)c + table->offset + table->keys[k].offset;
            if (table->keys[k].kind == CX_KEY_LIST) {
                cx_list *l = at;
                for (unsigned i = 0; i < l->n; i++)
                    free(l->item[i]);
                free(l->item);
            } else if (table->keys[k].kind == CX_KEY_TEXT || table->keys[k].kind == CX_KEY_CHOICE) {
                free(*(char **)at);
            }
        }
    }
    *c = (cx_config){ 0 };
}
