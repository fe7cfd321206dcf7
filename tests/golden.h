/* golden.h - float32 tensors out of tests/golden/<name>.safetensors, the answers that the oracles of tools/oracle wrote. */
#ifndef CX_TESTS_GOLDEN_H
#define CX_TESTS_GOLDEN_H
#include "cxnet/weights.h"
#include "support.h"

typedef cx_st_file golden;

static inline void golden_open(golden *g, const char *path) { assert_cx_ok(cx_st_read(path, g, err)); }
static inline void golden_close(golden *g) { cx_st_free(g); }

/* A copy of tensor `name`, and its number of elements; free() it. NULL when absent. */
static inline float *golden_get(const golden *g, const char *name, int64_t *n)
{
    const cx_st_tensor *t = cx_st_find(g, name);
    if (!t || t->dtype != CX_F32)
        return NULL;
    float *copy = cx_alloc(t->bytes, 1);
    assert_non_null(copy);
    memcpy(copy, t->data, t->bytes);
    *n = (int64_t)(t->bytes / sizeof *copy);
    return copy;
}
#endif
