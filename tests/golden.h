/* golden.h - reads float32 tensors out of tests/golden/<name>.safetensors: enough for files that our own oracles wrote. */
#ifndef CX_TESTS_GOLDEN_H
#define CX_TESTS_GOLDEN_H
#include <jansson.h>
#include "cxnet/base.h"
#include "support.h"

typedef struct { cx_buf file; json_t *header; const char *data; } golden;

static inline void golden_open(golden *g, const char *path)
{
    *g = (golden){ 0 };
    assert_cx_ok(cx_file_read(path, 16 << 20, &g->file, err));
    uint64_t n = 0;
    assert_true(g->file.len > sizeof n);
    memcpy(&n, g->file.data, sizeof n);
    assert_true(n < g->file.len);
    g->header = json_loadb(g->file.data + sizeof n, (size_t)n, 0, NULL);
    assert_non_null(g->header);
    g->data = g->file.data + sizeof n + n;
}

static inline void golden_close(golden *g)
{
    json_decref(g->header);
    cx_buf_free(&g->file);
}

/* A copy of tensor `name`, and its number of elements; free() it. NULL when absent. */
static inline float *golden_get(const golden *g, const char *name, int64_t *n)
{
    const json_t *t = json_object_get(g->header, name), *range = json_object_get(t, "data_offsets");
    if (!t || strcmp(json_string_value(json_object_get(t, "dtype")), "F32") != 0)
        return NULL;
    int64_t from = json_integer_value(json_array_get(range, 0)), to = json_integer_value(json_array_get(range, 1));
    float *copy = cx_alloc((size_t)(to - from), 1);
    assert_non_null(copy);
    memcpy(copy, g->data + from, (size_t)(to - from));
    *n = (to - from) / (int64_t)sizeof(float);
    return copy;
}
#endif
