/* foreign.h - weight files of other makers, made in memory for tests, and networks small enough to run at once. */
#ifndef CX_TESTS_FOREIGN_H
#define CX_TESTS_FOREIGN_H
#include "cxnet/weights.h"
#include "support.h"

enum { FOREIGN_MAX = 1200 };

/* A file of tensors that are all zero. Give it back with foreign_free. */
typedef struct { cx_st_file f; cx_st_tensor t[FOREIGN_MAX]; cx_st_meta meta[4]; } foreign;

static inline void foreign_add(foreign *x, const char *name, const int64_t *d, int nd)
{
    cx_st_tensor *t = &x->t[x->f.n++];
    int64_t n = 1;
    assert_true(x->f.n <= FOREIGN_MAX);
    *t = (cx_st_tensor){ .name = cx_strdup(name), .dtype = CX_F32, .nd = nd };
    for (int i = 0; i < nd; i++)
        n *= t->d[i] = d[i];
    t->bytes = (size_t)n * sizeof(float);
    x->f.tensors = x->t;
    x->f.meta = x->meta;
}

/* As foreign_add, with numbers, which stay the caller's. */
static inline void foreign_put(foreign *x, const char *name, const cx_st_tensor *as)
{
    foreign_add(x, name, as->d, as->nd);
    x->t[x->f.n - 1].data = as->data;
}

static inline void foreign_meta(foreign *x, const char *key, const char *value)
{
    x->f.meta = x->meta;
    x->meta[x->f.n_meta++] = (cx_st_meta){ key, value };
}

static inline void foreign_free(foreign *x)
{
    while (x->f.n > 0)
        free((char *)x->t[--x->f.n].name);
    free(x);
}

static inline foreign *foreign_new(void)
{
    foreign *x = cx_alloc(1, sizeof *x);
    assert_non_null(x);
    return x;
}

/* A network whose weights can be set and that can be run. */
typedef struct { cx_model m; cx_backend *b; cx_store *s; } running;

static inline running running_graph(cx_model m, uint64_t seed)
{
    running r = { .m = m };
    assert_cx_ok(cx_graph_check(m.graph, err));
    assert_cx_ok(cx_backend_open("cpu", 1, &r.b, err));
    assert_cx_ok(cx_store_new(m.graph, r.b, seed, &r.s, err));
    return r;
}

static inline running running_spec(cx_model_spec spec, uint64_t seed)
{
    cx_model m;
    assert_cx_ok(cx_model_new(&spec, &m, err));
    return running_graph(m, seed);
}

static inline void running_close(running *r)
{
    cx_store_free(r->s);
    cx_backend_close(r->b);
    cx_model_free(&r->m);
}

/* Every tensor of the file has its place, and goes there. */
static inline void running_take(running *r, const cx_st_file *f, cx_mapping *m)
{
    assert_cx_ok(cx_weights_map(f, r->m.graph, CX_HEAD_KEEP, m, err));
    assert_cx_ok(cx_weights_map_check(f, r->m.graph, m, err));
    assert_cx_ok(cx_weights_take(r->s, f, m, false, err));
}

/* What `value` is for x; free() it. */
static inline float *running_answer(running *r, const float *x, int films, int value)
{
    const int64_t n = cx_elems(r->m.graph->values[value].shape) * films;
    float *y = cx_alloc((size_t)n, sizeof *y);
    cx_plan *p;
    assert_non_null(y);
    assert_cx_ok(cx_plan_new(r->s, &(cx_plan_opts){ .batch = films, .output = value }, &p, err));
    assert_cx_ok(cx_plan_set(p, r->m.input, x, err));
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    assert_cx_ok(cx_plan_get(p, value, y, err));
    cx_plan_free(p);
    return y;
}

/* x[i] = (i mod 251) / 251, or the same from -1 to 1; free() it. */
static inline float *pattern(int64_t n, bool has_sign)
{
    float *x = cx_alloc((size_t)n, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = has_sign ? (float)(i % 251) / 125.5f - 1 : (float)(i % 251) / 251.0f;
    return x;
}
#endif
