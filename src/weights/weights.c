/* weights.c - a network's parameters and state to a file and back, and their identity. Depends on layers.h. */
#include <stdlib.h>
#include <string.h>
#include "layers.h"

static int count_kept(const cx_graph *g)
{
    int n = 0;
    for (int i = 0; i < g->n_values; i++)
        n += cx_weights_kept(g, i);
    return n;
}

static cx_st_tensor describe(const cx_value *v, const float *data)
{
    const cx_shape s = v->shape;
    return (cx_st_tensor){ .name = v->name, .dtype = CX_F32, .nd = 4, .d = { s.n, s.h, s.w, s.c }, .data = data, .bytes = (size_t)cx_elems(s) * sizeof(float) };
}

/* Host copies of all kept values, one behind the other; free() it. */
static cx_status download(cx_store *s, float **out, cx_error *err)
{
    const cx_graph *g = cx_store_graph(s);
    int64_t total = 0, at = 0;
    for (int i = 0; i < g->n_values; i++)
        total += cx_weights_kept(g, i) ? cx_elems(g->values[i].shape) : 0;
    float *host = cx_alloc_aligned((size_t)total, sizeof *host);
    if (!host)
        return cx_fail(err, CX_E_MEMORY, "no memory for %lld weights", (long long)total);
    for (int i = 0; i < g->n_values; i++) {
        if (!cx_weights_kept(g, i))
            continue;
        const cx_status status = cx_store_get(s, i, host + at, err);
        if (status != CX_OK) {
            free(host);
            return status;
        }
        at += cx_elems(g->values[i].shape);
    }
    *out = host;
    return CX_OK;
}

cx_status cx_weights_save(cx_store *s, const char *path, const cx_st_tensor *extra, int n_extra, const cx_st_meta *meta, int n_meta, cx_error *err)
{
    const cx_graph *g = cx_store_graph(s);
    const int kept = count_kept(g);
    float *host = NULL, *at;
    TRY(download(s, &host, err));
    cx_st_tensor *rows = cx_alloc((size_t)(kept + n_extra), sizeof *rows);
    if (!rows) {
        free(host);
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %d tensors", path, kept + n_extra);
    }
    int n = 0;
    at = host;
    for (int i = 0; i < g->n_values; i++)
        if (cx_weights_kept(g, i)) {
            rows[n++] = describe(&g->values[i], at);
            at += cx_elems(g->values[i].shape);
        }
    for (int i = 0; i < n_extra; i++)
        rows[n++] = extra[i];
    const cx_status status = cx_st_write(path, rows, n, meta, n_meta, err);
    free(rows);
    free(host);
    return status;
}

static void print_shape(const cx_st_tensor *t, char out[128])
{
    size_t n = (size_t)snprintf(out, 128, "%s [", t->dtype == CX_F32 ? "F32" : "another type");
    for (int i = 0; i < t->nd && n < 100; i++)
        n += (size_t)snprintf(out + n, 128 - n, "%s%lld", i ? ", " : "", (long long)t->d[i]);
    snprintf(out + n, 128 - n, "]");
}

/* The tensor of a value, or why the file does not fit it. */
static cx_status match(const cx_st_file *f, const cx_value *v, const cx_st_tensor **out, cx_error *err)
{
    const cx_st_tensor want = describe(v, NULL), *t = cx_st_find(f, v->name);
    char wanted[128], found[128];
    if (!t)
        return cx_fail(err, CX_E_DATA, "weights: tensor '%s' is missing; is the file of another architecture?", v->name);
    if (t->dtype != want.dtype || t->nd != want.nd || memcmp(t->d, want.d, sizeof want.d) != 0) {
        print_shape(&want, wanted);
        print_shape(t, found);
        return cx_fail(err, CX_E_DATA, "weights: tensor '%s': want %s, got %s", v->name, wanted, found);
    }
    *out = t;
    return CX_OK;
}

cx_status cx_weights_load(cx_store *s, const cx_st_file *f, cx_error *err)
{
    const cx_graph *g = cx_store_graph(s);
    const cx_st_tensor *t = NULL;
    for (int i = 0; i < g->n_values; i++)
        if (cx_weights_kept(g, i))
            TRY(match(f, &g->values[i], &t, err));
    for (int i = 0; i < g->n_values; i++) {
        if (!cx_weights_kept(g, i))
            continue;
        TRY(match(f, &g->values[i], &t, err));
        /* A file of ours is aligned; one written elsewhere may hold tensors at any byte. */
        float *copy = cx_alloc_aligned(t->bytes, 1);
        if (!copy)
            return cx_fail(err, CX_E_MEMORY, "weights: no memory for tensor '%s'", t->name);
        memcpy(copy, t->data, t->bytes);
        const cx_status status = cx_store_set(s, i, copy, err);
        free(copy);
        TRY(status);
    }
    return CX_OK;
}

cx_status cx_weights_sha256(cx_store *s, char out[65], cx_error *err)
{
    const cx_graph *g = cx_store_graph(s);
    float *host = NULL, *at;
    cx_sha256 sha;
    TRY(download(s, &host, err));
    at = host;
    cx_sha256_init(&sha);
    for (int i = 0; i < g->n_values; i++) {
        const cx_value *v = &g->values[i];
        if (!cx_weights_kept(g, i))
            continue;
        const int64_t shape[4] = { v->shape.n, v->shape.h, v->shape.w, v->shape.c };
        cx_sha256_update(&sha, v->name, strlen(v->name) + 1);
        cx_sha256_update(&sha, shape, sizeof shape);
        cx_sha256_update(&sha, at, (size_t)cx_elems(v->shape) * sizeof *at);
        at += cx_elems(v->shape);
    }
    cx_sha256_hex(&sha, out);
    free(host);
    return CX_OK;
}
