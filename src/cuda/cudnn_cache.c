/* cudnn_cache.c - cuDNN's plans by shape (cudnn_conv.h), and the file in which they outlive the process: JSON,
 * {"plans": {"text of a convolution": "plan"}, "sha256": "of plans"}. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cudnn_conv.h"
#include "cxnet/base.h"

enum { MOST_BYTES = 256 << 20, MOST_PLANS = 1 << 16 };

/* plan NULL: cuDNN has none. json: what the file holds, not yet loaded; then plan is NULL too. */
typedef struct { cx_cudnn_conv conv; cx_cudnn_plan *plan; char *json; } entry;

struct cx_cudnn {
    cx_cudnn_device *device;
    entry *entries;
    int n, made;
    bool stale;                             /* the file was ignored: a better one is to take its place */
    size_t capacity;
    char *path;                             /* NULL: nowhere */
};

static entry *add(cx_cudnn *c, const cx_cudnn_conv *g)
{
    if (!cx_grow(&c->entries, &c->capacity, (size_t)c->n + 1, sizeof *c->entries))
        return NULL;
    c->entries[c->n] = (entry){ .conv = *g };
    return &c->entries[c->n++];
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static char *path_of(const cx_cudnn *c, const char *folder, const char *device)
{
    char *name = cx_sprintf("cudnn-%d-%s.json", cx_cudnn_version(c->device), device), *path = NULL;
    for (char *p = name; p && *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", *p))
            *p = '_';
    if (name)
        path = cx_path_join(folder, name);
    free(name);
    return path;
}

/* Of the plans as they are written: what a disk has changed never reaches cuDNN. */
static void sum_of(const json_t *plans, char sum[65])
{
    char *text = json_dumps(plans, JSON_COMPACT | JSON_SORT_KEYS);
    cx_sha256 s;
    cx_sha256_init(&s);
    cx_sha256_update(&s, text ? text : "", text ? strlen(text) : 0);
    cx_sha256_hex(&s, sum);
    free(text);
}

static cx_status take_plans(cx_cudnn *c, const json_t *all, cx_error *err)
{
    json_t *plans = json_object_get(all, "plans"), *plan;
    const char *key, *sum = json_string_value(json_object_get(all, "sha256"));
    char want[65];
    if (!json_is_object(plans) || !sum)
        return cx_fail(err, CX_E_DATA, "%s: not a file of plans", c->path);
    sum_of(plans, want);
    if (strcmp(sum, want) != 0)
        return cx_fail(err, CX_E_DATA, "%s: its sum does not fit", c->path);
    json_object_foreach(plans, key, plan) {
        cx_cudnn_conv conv;
        entry *at = c->n < MOST_PLANS && cx_cudnn_conv_parse(key, &conv) && json_is_string(plan) ? add(c, &conv) : NULL;
        if (!at || !(at->json = cx_strdup(json_string_value(plan))))
            return cx_fail(err, CX_E_DATA, "%s: \"%.80s\" is no plan of a convolution", c->path, key);
    }
    return CX_OK;
}

static cx_status read_plans(cx_cudnn *c, cx_error *err)
{
    cx_buf text = { 0 };
    json_error_t e;
    TRY(cx_file_read(c->path, MOST_BYTES, &text, err));
    json_t *all = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &e);
    cx_buf_free(&text);
    cx_status s = all ? take_plans(c, all, err) : cx_fail(err, CX_E_DATA, "%s:%d: %s", c->path, e.line, e.text);
    json_decref(all);
    return s;
}

static void forget(cx_cudnn *c)
{
    for (int i = 0; i < c->n; i++) {
        cx_cudnn_plan_free(c->entries[i].plan);
        free(c->entries[i].json);
    }
    c->n = 0;
}

static cx_status write_plans(cx_cudnn *c, cx_error *err)
{
    char key[CX_CUDNN_TEXT], sum[65];
    json_t *plans = json_object();
    for (int i = 0; i < c->n; i++) {
        const entry *e = &c->entries[i];
        cx_cudnn_conv_print(&e->conv, key);
        if (e->plan || e->json)
            json_object_set_new(plans, key, json_string(e->plan ? cx_cudnn_plan_json(e->plan) : e->json));
    }
    sum_of(plans, sum);
    json_t *all = json_pack("{s:o, s:s}", "plans", plans, "sha256", sum);
    char *text = all ? json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL, *folder = cx_path_dir(c->path);
    json_decref(all);
    cx_status s = text && folder ? cx_mkdirs(folder, err) : cx_fail(err, CX_E_MEMORY, "%s: out of memory", c->path);
    if (s == CX_OK)
        s = cx_file_write(c->path, text, strlen(text), err);
    free(text);
    free(folder);
    return s;
}

/* ---- from the outside ------------------------------------------------------------------------------------------------- */

cx_status cx_cudnn_open(const char *device_json, const char *folder, const char *device, cx_cudnn **out, char note[200], cx_error *err)
{
    cx_error why = { 0 };
    *out = NULL;
    note[0] = '\0';
    cx_cudnn *c = cx_alloc(1, sizeof *c);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "cudnn: out of memory");
    cx_status s = cx_cudnn_device_new(device_json, &c->device, err);
    if (s != CX_OK) {
        free(c);
        return s;
    }
    if (folder)
        c->path = path_of(c, folder, device);
    if (c->path && cx_file_exists(c->path) && read_plans(c, &why) != CX_OK) {
        forget(c);
        c->stale = true;
        snprintf(note, 200, "ignored: %.180s", why.text);
    }
    *out = c;
    return CX_OK;
}

cx_status cx_cudnn_close(cx_cudnn *c, cx_error *err)
{
    if (!c)
        return CX_OK;
    cx_status s = c->path && (c->made > 0 || c->stale) && c->n > 0 ? write_plans(c, err) : CX_OK;
    forget(c);
    cx_cudnn_device_free(c->device);
    free(c->entries);
    free(c->path);
    free(c);
    return s;
}

const char *cx_cudnn_path(const cx_cudnn *c) { return c->path ? c->path : ""; }

int cx_cudnn_count(const cx_cudnn *c, int *made)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        n += c->entries[i].plan || c->entries[i].json;
    *made = c->made;
    return n;
}

/* Makes or loads what is missing. A stored plan that cuDNN does not take any more is made anew. */
static const cx_cudnn_plan *ready(cx_cudnn *c, entry *e)
{
    if (e->json && cx_cudnn_plan_load(c->device, e->json, &e->plan, NULL) != CX_OK && cx_cudnn_plan_new(c->device, &e->conv, &e->plan, NULL) == CX_OK)
        c->made++;
    free(e->json);
    e->json = NULL;
    return e->plan;
}

const cx_cudnn_plan *cx_cudnn_find(cx_cudnn *c, const cx_cudnn_conv *g)
{
    for (int i = 0; i < c->n; i++)
        if (cx_cudnn_conv_eq(&c->entries[i].conv, g))
            return ready(c, &c->entries[i]);
    entry *e = add(c, g);
    if (e && cx_cudnn_plan_new(c->device, g, &e->plan, NULL) == CX_OK)
        c->made++;
    return e ? e->plan : NULL;
}
