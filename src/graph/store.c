/* store.c - the arenas PARAM, GRAD, OPT of a graph, their start values, and ACT and WORK, which the plans of the graph share. */
#include <math.h>
#include <stdlib.h>
#include "cxnet/base.h"
#include "store.h"

enum { ALIGN_FLOATS = 16 };

/* Lays out every value that `part` selects: 0 trainable, 1 frozen, 2 state. Returns the floats used so far. */
static int64_t lay_out(cx_store *s, int part, int64_t at)
{
    for (int i = 0; i < s->n_values; i++) {
        const cx_value *v = &s->g->values[i];
        int mine = v->kind == CX_PARAM ? (v->frozen ? 1 : 0) : v->kind == CX_STATE ? 2 : -1;
        if (mine != part)
            continue;
        s->offset[i] = at;
        at += (cx_elems(v->shape) + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    }
    return at;
}

/* Elements lo .. hi-1; lo is a multiple of 4. Element i is made of draw i, or of draws 2i and 2i + 1, so each piece can be made by itself. */
static void init_piece(const cx_value *v, uint64_t seed, int64_t lo, int64_t hi, float *host)
{
    cx_rng rng = cx_rng_new(seed, cx_hash(v->name));
    rng.counter = (uint64_t)lo * (v->init == CX_INIT_HE_NORMAL ? 2 : 1) / 4;
    double fan_in = (double)(v->shape.h * v->shape.w * v->shape.c), fan_out = (double)(v->shape.n * v->shape.h * v->shape.w);
    double deviation = sqrt(2 / fan_in);
    double bound = v->init == CX_INIT_GLOROT_UNIFORM ? sqrt(6 / (fan_in + fan_out)) : 1 / sqrt(fan_in);
    for (int64_t i = lo; i < hi; i++) {
        switch (v->init) {
        case CX_INIT_ZERO: host[i] = 0; break;
        case CX_INIT_ONE: host[i] = 1; break;
        case CX_INIT_HE_NORMAL: host[i] = (float)(deviation * cx_rng_normal(&rng)); break;
        case CX_INIT_GLOROT_UNIFORM:
        case CX_INIT_TORCH_LINEAR: host[i] = (float)(bound * (2 * cx_rng_uniform(&rng) - 1)); break;
        }
    }
}

static void init_value(const cx_value *v, uint64_t seed, float *host)
{
    enum { PIECE = 1 << 12 };
    const int64_t n = cx_elems(v->shape);
#pragma omp parallel for schedule(static) if (n > PIECE)
    for (int64_t lo = 0; lo < n; lo += PIECE)
        init_piece(v, seed, lo, n - lo < PIECE ? n : lo + PIECE, host);
}

static cx_status init_all(cx_store *s, uint64_t seed, cx_error *err)
{
    int64_t largest = 1;
    for (int i = 0; i < s->n_values; i++)
        if (s->offset[i] >= 0 && cx_elems(s->g->values[i].shape) > largest)
            largest = cx_elems(s->g->values[i].shape);
    float *host = cx_alloc_aligned((size_t)largest, sizeof *host);
    if (!host)
        return cx_fail(err, CX_E_MEMORY, "no memory to initialise parameters (%lld floats)", (long long)largest);
    cx_status status = CX_OK;
    for (int i = 0; i < s->n_values && status == CX_OK; i++) {
        if (s->offset[i] < 0)
            continue;
        init_value(&s->g->values[i], seed, host);
        status = cx_store_set(s, i, host, err);
    }
    free(host);
    return status;
}

static cx_status fill_store(cx_store *s, uint64_t seed, cx_error *err)
{
    s->offset = cx_alloc((size_t)s->n_values, sizeof *s->offset);
    if (!s->offset)
        return cx_fail(err, CX_E_MEMORY, "no memory for a store of %d values", s->n_values);
    for (int i = 0; i < s->n_values; i++)
        s->offset[i] = -1;
    s->trainable = lay_out(s, 0, 0);
    s->total = lay_out(s, 2, lay_out(s, 1, s->trainable));
    void *p = NULL;
    TRY(s->b->alloc(s->b, (size_t)(s->total > 0 ? s->total : 1) * sizeof(float), &p, err));
    s->param = p;
    TRY(s->b->alloc(s->b, (size_t)(s->trainable > 0 ? s->trainable : 1) * sizeof(float), &p, err));
    s->grad = p;
    return init_all(s, seed, err);
}

cx_status cx_store_new(const cx_graph *g, cx_backend *b, uint64_t seed, cx_store **out, cx_error *err)
{
    *out = NULL;
    TRY(cx_graph_check(g, err));
    cx_store *s = cx_alloc(1, sizeof *s);
    if (!s)
        return cx_fail(err, CX_E_MEMORY, "no memory for a store");
    s->g = g;
    s->b = b;
    s->n_values = g->n_values;
    s->version = 1;
    cx_status status = fill_store(s, seed, err);
    if (status != CX_OK) {
        cx_store_free(s);
        return status;
    }
    *out = s;
    return CX_OK;
}

void cx_store_free(cx_store *s)
{
    if (!s)
        return;
    void *const arena[] = { s->param, s->grad, s->m, s->v, s->act, s->work };
    for (int i = 0; i < CX_COUNT(arena); i++)
        if (arena[i])
            s->b->release(s->b, arena[i]);
    free(s->offset);
    free(s);
}

const cx_graph *cx_store_graph(const cx_store *s) { return s->g; }
int64_t cx_store_trainable(const cx_store *s) { return s->trainable; }

float *cx_store_params(cx_store *s)
{
    s->version++;
    return s->param;
}

float *cx_store_grads(cx_store *s) { return s->grad; }

cx_status cx_store_moments(cx_store *s, float **m, float **v, cx_error *err)
{
    size_t bytes = (size_t)(s->trainable > 0 ? s->trainable : 1) * sizeof(float);
    float **const wanted[] = { m, v };
    float **const mine[] = { &s->m, &s->v };
    for (int i = 0; i < 2; i++) {
        if (!wanted[i])
            continue;
        if (!*mine[i]) {
            void *p = NULL;
            TRY(s->b->alloc(s->b, bytes, &p, err));
            *mine[i] = p;
        }
        *wanted[i] = *mine[i];
    }
    return CX_OK;
}

static cx_tensor tensor_at(const cx_store *s, int value, float *base)
{
    cx_tensor t = { 0 };
    if (value < 0 || value >= s->n_values)
        return t;
    t.s = s->g->values[value].shape;
    t.ld = t.s.c;
    t.p = base && s->offset[value] >= 0 ? base + s->offset[value] : NULL;
    return t;
}

cx_tensor cx_store_value(cx_store *s, int value)
{
    return tensor_at(s, value, s->param);
}

cx_tensor cx_store_grad(cx_store *s, int value)
{
    bool trainable = value >= 0 && value < s->n_values && s->g->values[value].kind == CX_PARAM && !s->g->values[value].frozen;
    return tensor_at(s, value, trainable ? s->grad : NULL);
}

static cx_status stored(cx_store *s, int value, cx_tensor *t, cx_error *err)
{
    *t = cx_store_value(s, value);
    if (value < 0 || value >= s->n_values)
        return cx_fail(err, CX_E_USAGE, "value %d: the store has values 0 to %d", value, s->n_values - 1);
    if (!t->p)
        return cx_fail(err, CX_E_USAGE, "%s is neither a parameter nor state: the store does not hold it; ask a plan", s->g->values[value].name);
    return CX_OK;
}

cx_status cx_store_get(cx_store *s, int value, float *host, cx_error *err)
{
    cx_tensor t = { 0 };
    TRY(stored(s, value, &t, err));
    return s->b->download(s->b, host, t.p, (size_t)cx_elems(t.s) * sizeof *host, err);
}

cx_status cx_store_set(cx_store *s, int value, const float *host, cx_error *err)
{
    cx_tensor t = { 0 };
    TRY(stored(s, value, &t, err));
    s->version++;
    return s->b->upload(s->b, t.p, host, (size_t)cx_elems(t.s) * sizeof *host, err);
}

/* The old arena is released before the new one is asked for: the two together might not fit. */
static cx_status grow(cx_backend *b, void **arena, size_t *have, size_t want, cx_error *err)
{
    if (*have >= want)
        return CX_OK;
    if (*arena)
        b->release(b, *arena);
    *arena = NULL;
    cx_status status = b->alloc(b, want, arena, err);
    if (status == CX_OK) {
        *have = want;
    } else if (*have && b->alloc(b, *have, arena, NULL) != CX_OK) {
        *arena = NULL;
        *have = 0;
    }
    return status;
}

cx_status cx_store_reserve(cx_store *s, size_t act_bytes, size_t work_bytes, cx_error *err)
{
    if (act_bytes > s->act_bytes)
        s->forward = 0;
    TRY(grow(s->b, &s->act, &s->act_bytes, act_bytes, err));
    return grow(s->b, &s->work, &s->work_bytes, work_bytes, err);
}

int64_t cx_store_state_at(const cx_store *s)
{
    int64_t at = s->total;
    for (int v = 0; v < s->n_values; v++)
        if (s->g->values[v].kind == CX_STATE && s->offset[v] < at)
            at = s->offset[v];
    return at;
}
