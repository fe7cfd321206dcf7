/* safetensors_write.c - writes safetensors files: the header as JSON padded to 64 bytes, then the tensors in the order given. Depends on weights.h, jansson. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/weights.h"
#include "dtype.h"

enum { ALIGN = 64, LENGTH_BYTES = 8 };

/* One tensor's entry of the header; `at` is where its data begin, and is moved behind them. */
static cx_status add_tensor(const char *path, json_t *root, const cx_st_tensor *t, size_t *at, cx_error *err)
{
    size_t bytes = 0;
    if (t->nd < 0 || t->nd > CX_ST_DIMS || !cx_st_product(t, &bytes) || bytes != t->bytes || (bytes && !t->data))
        return cx_fail(err, CX_E_USAGE, "%s: tensor '%s': %zu bytes do not fit its shape and dtype", path, t->name, t->bytes);
    if (strcmp(t->name, "__metadata__") == 0 || json_object_get(root, t->name))
        return cx_fail(err, CX_E_USAGE, "%s: tensor '%s': this name is taken", path, t->name);
    json_t *shape = json_array();
    for (int i = 0; i < t->nd; i++)
        json_array_append_new(shape, json_integer(t->d[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", cx_dtype_name(t->dtype), "shape", shape, "data_offsets", (json_int_t)*at,
        (json_int_t)(*at + bytes));
    if (json_object_set_new(root, t->name, entry) != 0)
        return cx_fail(err, CX_E_USAGE, "%s: tensor '%s': its name is not UTF-8, or memory is short", path, t->name);
    *at += bytes;
    return CX_OK;
}

static cx_status add_metadata(const char *path, json_t *root, const cx_st_meta *meta, int n_meta, cx_error *err)
{
    json_t *object = json_object();
    if (n_meta == 0) {
        json_decref(object);
        return CX_OK;
    }
    if (json_object_set_new(root, "__metadata__", object) != 0)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for its metadata", path);
    for (int i = 0; i < n_meta; i++) {
        if (json_object_get(object, meta[i].key))
            return cx_fail(err, CX_E_USAGE, "%s: metadata '%s' is given twice", path, meta[i].key);
        if (json_object_set_new(object, meta[i].key, json_string(meta[i].value)) != 0)
            return cx_fail(err, CX_E_USAGE, "%s: metadata '%s' is not UTF-8, or memory is short", path, meta[i].key);
    }
    return CX_OK;
}

/* The length in eight bytes, the JSON, spaces up to a multiple of 64. */
static void put_header(cx_buf *b, const char *json)
{
    const size_t n = strlen(json), all = (LENGTH_BYTES + n + ALIGN - 1) / ALIGN * ALIGN, length = all - LENGTH_BYTES;
    unsigned char bytes[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    cx_buf_put(b, bytes, sizeof bytes);
    cx_buf_put(b, json, n);
    for (size_t i = LENGTH_BYTES + n; i < all; i++)
        cx_buf_puts(b, " ");
}

static cx_status build(const char *path, json_t *root, const cx_st_tensor *tensors, int n, const cx_st_meta *meta, int n_meta, cx_buf *b, cx_error *err)
{
    size_t at = 0;
    TRY(add_metadata(path, root, meta, n_meta, err));
    for (int i = 0; i < n; i++)
        TRY(add_tensor(path, root, &tensors[i], &at, err));
    char *json = json_dumps(root, JSON_COMPACT);
    if (!json || !cx_grow(&b->data, &b->cap, strlen(json) + 2 * ALIGN + at + 1, 1)) {
        free(json);
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu bytes", path, at);
    }
    put_header(b, json);
    free(json);
    for (int i = 0; i < n; i++)
        cx_buf_put(b, tensors[i].data, tensors[i].bytes);
    return b->failed ? cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu bytes", path, at) : CX_OK;
}

cx_status cx_st_write(const char *path, const cx_st_tensor *tensors, int n, const cx_st_meta *meta, int n_meta, cx_error *err)
{
    cx_buf b = { 0 };
    json_t *root = json_object();
    cx_status s = build(path, root, tensors, n, meta, n_meta, &b, err);
    json_decref(root);
    if (s == CX_OK)
        s = cx_file_write(path, b.data, b.len, err);
    cx_buf_free(&b);
    return s;
}
