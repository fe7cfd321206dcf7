/* cases.h - the table of operator cases and how one becomes a cx_call with filled tensors: shared by the tests of the references and of every backend.
 *
 *     cases_run r;  case_open(&r, &cases[i]);  cx_ops[r.k->op].ref_fwd(&r.c);  ...  case_close(&r);
 * Two runs of one case hold equal numbers, so that one can go through the reference and the other through a kernel. */
#ifndef CX_TESTS_OPS_CASES_H
#define CX_TESTS_OPS_CASES_H
#include "cxnet/base.h"
#include "cxnet/op.h"
#include "support.h"

typedef enum {
    FILL_END, FILL_ABSENT,
    FILL_SIGNED,        /* [-2, 2) */
    FILL_POSITIVE,      /* [0.5, 1.5) */
    FILL_NEGATIVE,      /* [-2, -1) */
    FILL_WEIGHT,        /* [0.25, 1.75) */
    FILL_UNIT,          /* [0.05, 0.95) */
    FILL_FAR,           /* [100, 108) */
    FILL_EXTREME,       /* [-200, 200) */
    FILL_HIGH,          /* [900, 904): e^x is not a float */
    FILL_TIED,          /* -2, -1, 0, 1 */
    FILL_BINARY,        /* 0 or 1 */
    FILL_BINARY_MASKED, /* -1, 0 or 1 */
    FILL_CLASS,         /* 0 .. channels of x[0] - 1 */
    FILL_CLASS_MASKED,  /* the same, or -1 */
    FILL_UNLABELLED     /* -1 */
} cases_fill;

enum { CASES_TRAINING = 1, CASES_RELU = 2, CASES_SLICED = 4, CASES_DX_ADD = 8, CASES_NO_FD = 16, CASES_ZERO = 32, CASES_LATER = 64 };
enum { CASES_DY_STREAM = 100, CASES_PRIOR_STREAM = 200, CASES_DROP_STREAM = 7, CASES_DROP_STEP = 3, CASES_GAP = 3 };
#define CASES_POISON 12345.5f   /* stands between the slices; nothing may touch it */

typedef struct { cases_fill fill; cx_shape s; } cases_input;
typedef struct { const char *name; cx_op_id op; int flags; const void *attr; cases_input in[CX_MAX_IN]; } cases_row;

#define ATTR(kind, ...) &(const cx_##kind##_attr){ __VA_ARGS__ }
#define NONE NULL
#define IN(fill, n, h, w, c) { FILL_##fill, { n, h, w, c } }
#define ABSENT { FILL_ABSENT, { 0, 0, 0, 0 } }
#define CASE(name, op, flags, attr, ...) { #name, CX_OP_##op, flags, attr, { __VA_ARGS__ } },
enum { TRAINING = CASES_TRAINING, RELU = CASES_RELU, SLICED = CASES_SLICED, DX_ADD = CASES_DX_ADD, NO_FD = CASES_NO_FD, ZERO = CASES_ZERO,
    LATER = CASES_LATER };
static const cases_row cases[] = {
#include "ops/cases.def"
};
#undef CASE
#undef ABSENT
#undef IN
#undef NONE
#undef ATTR

typedef struct { const cases_row *k; cx_call c; float *memory[CX_MAX_IN * 4 + CX_MAX_OUT * 4]; int n_memory; } cases_run;

/* Weights, vectors and running statistics lie dense; what a plan may hand over as a channel slice is an activation. */
static inline bool cases_is_activation(cx_op_id op, int i)
{
    return i == 0 || op == CX_OP_CONCAT || op == CX_OP_ADD || (i == 1 && (cx_ops[op].flags & CX_LOSS));
}

/* Which inputs have a gradient. */
static inline bool cases_has_grad(cx_op_id op, int i)
{
    return i == 0 || (!(cx_ops[op].flags & CX_LOSS) && !(op == CX_OP_BATCH_NORM && i > 2));
}

static inline float cases_value(cases_fill fill, double u, int64_t classes)
{
    double shifted = u * 1.3 - 0.3;
    switch (fill) {
    case FILL_SIGNED: return (float)(u * 4 - 2);
    case FILL_POSITIVE: return (float)(u + 0.5);
    case FILL_NEGATIVE: return (float)(u - 2);
    case FILL_WEIGHT: return (float)(u * 1.5 + 0.25);
    case FILL_UNIT: return (float)(u * 0.9 + 0.05);
    case FILL_FAR: return (float)(u * 8 + 100);
    case FILL_EXTREME: return (float)(u * 400 - 200);
    case FILL_HIGH: return (float)(u * 4 + 900);
    case FILL_TIED: return (float)(floor(u * 4) - 2);
    case FILL_BINARY: return u < 0.5 ? 0 : 1;
    case FILL_BINARY_MASKED: return u < 0.3 ? -1 : u < 0.65 ? 0 : 1;
    case FILL_CLASS: return (float)floor(u * (double)classes);
    case FILL_CLASS_MASKED: return shifted < 0 ? -1 : (float)floor(shifted * (double)classes);
    default: return -1;
    }
}

/* A tensor of the run: sliced ones start one channel into a buffer that is CASES_GAP wider, poisoned in between. */
static inline cx_tensor cases_tensor(cases_run *r, cx_shape s, bool sliced)
{
    int64_t ld = s.c + (sliced ? CASES_GAP : 0), n = cx_pixels(s) * ld;
    float *p = cx_alloc_aligned((size_t)n, sizeof(float));
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = CASES_POISON;
    r->memory[r->n_memory++] = p;
    return (cx_tensor){ .s = s, .ld = ld, .p = p + (sliced ? 1 : 0) };
}

static inline float *cases_at(const cx_tensor *t, int64_t e) { return t->p + e / t->s.c * t->ld + e % t->s.c; }

/* Poison between the channels of a slice is whole. */
static inline bool cases_gaps_whole(const cx_tensor *t)
{
    for (int64_t i = 0; t->ld > t->s.c && i < cx_pixels(t->s); i++)
        if (t->p[i * t->ld - 1] != CASES_POISON || t->p[i * t->ld + t->s.c] != CASES_POISON || t->p[i * t->ld + t->s.c + 1] != CASES_POISON)
            return false;
    return true;
}

static inline void cases_draw(const cases_run *r, const cx_tensor *t, uint64_t stream, cases_fill fill)
{
    cx_rng rng = cx_rng_new(cx_hash(r->k->name), stream);
    for (int64_t e = 0; e < cx_elems(t->s); e++)
        *cases_at(t, e) = cases_value(fill, cx_rng_uniform(&rng), r->c.x[0].s.c);
}

/* What dx holds before backward: something to add to, or poison that must be overwritten. */
static inline void cases_prior(const cases_run *r)
{
    for (int i = 0; i < r->c.n_in; i++)
        if (r->c.dx[i].p) {
            cases_draw(r, &r->c.dx[i], (uint64_t)(CASES_PRIOR_STREAM + i), FILL_SIGNED);
            for (int64_t e = 0; !(r->k->flags & CASES_DX_ADD) && e < cx_elems(r->c.dx[i].s); e++)
                *cases_at(&r->c.dx[i], e) = NAN;
        }
}

/* Infers, allocates and fills everything: x, y (NaN), dy, dx. */
static inline void case_open(cases_run *r, const cases_row *k)
{
    bool sliced = k->flags & CASES_SLICED;
    *r = (cases_run){ .k = k };
    cx_call *c = &r->c;
    c->attr = k->attr ? k->attr : "";
    c->n_out = cx_ops[k->op].n_out;
    c->training = k->flags & CASES_TRAINING;
    c->relu = k->flags & CASES_RELU;
    c->seed = cx_hash(k->name);
    c->stream = CASES_DROP_STREAM;
    c->step = CASES_DROP_STEP;
    c->first = k->flags & CASES_LATER ? 27 : 0;
    for (; c->n_in < CX_MAX_IN && k->in[c->n_in].fill != FILL_END; c->n_in++)
        c->x[c->n_in] = (cx_tensor){ .s = k->in[c->n_in].s, .ld = k->in[c->n_in].s.c };
    assert_cx_ok(cx_ops[k->op].infer(c, err));
    for (int i = 0; i < c->n_in; i++) {
        if (k->in[i].fill == FILL_ABSENT)
            continue;
        c->x[i] = cases_tensor(r, c->x[i].s, sliced && cases_is_activation(k->op, i));
        cases_draw(r, &c->x[i], (uint64_t)i, k->in[i].fill);
        if (cases_has_grad(k->op, i))
            c->dx[i] = cases_tensor(r, c->x[i].s, sliced && cases_is_activation(k->op, i));
        c->dx_add[i] = k->flags & CASES_DX_ADD;
    }
    for (int j = 0; j < c->n_out; j++) {
        c->y[j] = cases_tensor(r, c->y[j].s, sliced && j == 0 && !(cx_ops[k->op].flags & CX_LOSS));
        for (int64_t e = 0; e < cx_elems(c->y[j].s); e++)
            *cases_at(&c->y[j], e) = NAN;
    }
    c->dy[0] = cases_tensor(r, c->y[0].s, c->y[0].ld > c->y[0].s.c);
    cases_draw(r, &c->dy[0], CASES_DY_STREAM, FILL_SIGNED);
    cases_prior(r);
}

static inline void case_close(cases_run *r)
{
    for (int i = 0; i < r->n_memory; i++)
        free(r->memory[i]);
    *r = (cases_run){ 0 };
}

/* The elements of a tensor side by side; free() it. */
static inline float *cases_dense(const cx_tensor *t)
{
    float *out = cx_alloc((size_t)cx_elems(t->s), sizeof(float));
    assert_non_null(out);
    for (int64_t e = 0; e < cx_elems(t->s); e++)
        out[e] = *cases_at(t, e);
    return out;
}

/* Bit for bit, whatever the distance of pixels. */
static inline void case_assert_equal(const char *name, const char *what, const cx_tensor *a, const cx_tensor *b)
{
    for (int64_t e = 0; a->p && e < cx_elems(a->s); e++)
        if (memcmp(cases_at(a, e), cases_at(b, e), sizeof(float)) != 0)
            fail_msg("%s: %s[%lld] is %.9g in one run and %.9g in the other", name, what, (long long)e, (double)*cases_at(a, e), (double)*cases_at(b, e));
}

/* Everything that a run wrote or could have written: inputs (running statistics among them), outputs, gradients. */
static inline void case_assert_same(const cases_run *a, const cases_run *b)
{
    for (int i = 0; i < a->c.n_in; i++) {
        case_assert_equal(a->k->name, "x", &a->c.x[i], &b->c.x[i]);
        case_assert_equal(a->k->name, "dx", &a->c.dx[i], &b->c.dx[i]);
    }
    for (int j = 0; j < a->c.n_out; j++)
        case_assert_equal(a->k->name, "y", &a->c.y[j], &b->c.y[j]);
}

static inline void case_assert_gaps(const cases_run *r)
{
    bool whole = cases_gaps_whole(&r->c.y[0]) && cases_gaps_whole(&r->c.dy[0]);
    for (int i = 0; i < r->c.n_in; i++)
        whole = whole && (!r->c.x[i].p || cases_gaps_whole(&r->c.x[i])) && (!r->c.dx[i].p || cases_gaps_whole(&r->c.dx[i]));
    if (!whole)
        fail_msg("%s: something was written between the channels of a slice", r->k->name);
}
#endif
