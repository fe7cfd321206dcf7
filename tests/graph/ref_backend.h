/* ref_backend.h - a backend made of references only, so that plans are tested without any kernel. It counts bytes, and can be told to run out of memory. */
#ifndef CX_TESTS_REF_BACKEND_H
#define CX_TESTS_REF_BACKEND_H
#include "cxnet/graph.h"
#include "support.h"

typedef struct {
    cx_backend base;
    cx_impl impl[CX_OP_COUNT];
    size_t bytes, live;          /* held now; blocks held now */
    int until_failure;           /* allocations that still succeed; -1 = all */
} ref_backend;

/* 64 bytes in front of a block hold its size. calloc leaves large blocks untouched, so a plan that is never run costs no memory. */
static cx_status ref_alloc(cx_backend *b, size_t bytes, void **p, cx_error *err)
{
    ref_backend *r = b->self;
    if (r->until_failure == 0)
        return cx_fail(err, CX_E_MEMORY, "ref: told to fail");
    r->until_failure -= r->until_failure > 0;
    char *raw = calloc(1, bytes + 192);
    if (!raw)
        return cx_fail(err, CX_E_MEMORY, "ref: out of memory");
    char *aligned = (char *)(((uintptr_t)raw + 128) & ~(uintptr_t)63);
    memcpy(aligned - 16, &raw, sizeof raw);
    memcpy(aligned - 8, &bytes, sizeof bytes);
    r->bytes += bytes;
    r->live++;
    *p = aligned;
    return CX_OK;
}

static void ref_release(cx_backend *b, void *p)
{
    ref_backend *r = b->self;
    size_t bytes;
    char *raw;
    memcpy(&raw, (char *)p - 16, sizeof raw);
    memcpy(&bytes, (char *)p - 8, sizeof bytes);
    r->bytes -= bytes;
    r->live--;
    free(raw);
}

static cx_status ref_copy(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err)
{
    (void)b, (void)err;
    memcpy(dst, src, bytes);
    return CX_OK;
}

static cx_status ref_zero(cx_backend *b, void *p, size_t bytes, cx_error *err)
{
    (void)b, (void)err;
    memset(p, 0, bytes);
    return CX_OK;
}

static const cx_impl *ref_impls(cx_backend *b, cx_op_id op, int *n)
{
    *n = 1;
    return &((ref_backend *)b->self)->impl[op];
}

/* A pointer into itself: the struct must not move afterwards. */
static inline void ref_open(ref_backend *r)
{
    *r = (ref_backend){ .until_failure = -1 };
    r->base = (cx_backend){ .name = "ref", .description = "references", .threads = 1, .self = r, .alloc = ref_alloc, .release = ref_release,
                            .upload = ref_copy, .download = ref_copy, .zero = ref_zero, .impls = ref_impls,
                            .convert = { .name = "reference", .fwd = cx_ref_fwd_convert, .bf16 = true },
                            .statistics = { .name = "reference", .fwd = cx_ref_fwd_statistics, .bwd = cx_ref_bwd_statistics } };
    for (int op = 0; op < CX_OP_COUNT; op++)
        r->impl[op] = (cx_impl){ .name = "reference", .fwd = cx_ops[op].ref_fwd, .bwd = cx_ops[op].ref_bwd, .pool = true };
}
#endif
