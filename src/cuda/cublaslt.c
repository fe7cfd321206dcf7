/* cublaslt.c - see cublaslt.h. With P pixels, I inputs and O outputs: y (P,O) = x (P,I) w (O,I)^T, dx = dy w, dw = dy^T x, each a product of matrices whose
 * rows lie ld apart, so channel slices are read and written in place. Products are summed in float32, never as TF32, and come out as float32, but for a y in
 * bf16 that is ready with them; what is folded in goes through kernels/around.cu. */
#include "cublaslt.h"
#include <stdlib.h>
#include <string.h>
#include "cublaslt_api.h"
#include "cuda.h"
#include "cxnet/base.h"
#include "library.h"
#include "parts.h"

enum { MOST_SCRATCH = 32 << 20 };               /* what algorithms may use, as NVIDIA advises for Hopper */

/* c (rows, columns) = a b, or += if add; depth is what is summed over. a is (rows, depth), or its transpose where a_t; b (depth, columns), or its transpose.
 * aligned: all three begin at multiples of 16 bytes, and not just of their numbers. */
typedef struct { int64_t rows, columns, depth, a_ld, b_ld, c_ld; bool a_t, b_t, aligned; cx_dtype in, out; } product;
typedef struct { product of; bool found; cublasLtMatmulAlgo_t algorithm; size_t scratch; } choice;

struct cx_cublaslt {
    cx_cublaslt_api api;
    cublasLtHandle_t handle;                /* made when first needed */
    choice *choices;
    int n;
    size_t capacity;
};

/* ---- the library ---------------------------------------------------------------------------------------------------- */

cx_status cx_cublaslt_open(cx_cublaslt **out, cx_error *err)
{
    static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12", NULL };
    cx_symbol symbols[] = {
#define CALL(name) { #name, NULL },
        CX_CUBLASLT_CALLS(CALL)
#undef CALL
    };
    int i = 0;
    *out = NULL;
    TRY(cx_library_open("CXNET_CUBLASLT", names, symbols, CX_COUNT(symbols), err));
    cx_cublaslt *l = cx_alloc(1, sizeof *l);
    if (!l)
        return cx_fail(err, CX_E_MEMORY, "cublaslt: out of memory");
#define CALL(name) memcpy(&l->api.name, &symbols[i++].address, sizeof l->api.name);
    CX_CUBLASLT_CALLS(CALL)
#undef CALL
    *out = l;
    return CX_OK;
}

void cx_cublaslt_close(cx_cublaslt *l)
{
    if (l && l->handle)
        (void)l->api.cublasLtDestroy(l->handle);
    if (l)
        free(l->choices);
    free(l);
}

/* ---- one product ---------------------------------------------------------------------------------------------------- */

/* cuBLASLt counts columns first, so that our rows are its columns: it is asked for the transpose of c, which is b^T a^T. */
typedef struct { cublasLtMatmulDesc_t how; cublasLtMatrixLayout_t a, b, c; } layouts;

static void drop(const cx_cublaslt *l, const layouts *m)
{
    if (m->how)
        (void)l->api.cublasLtMatmulDescDestroy(m->how);
    const cublasLtMatrixLayout_t all[] = { m->a, m->b, m->c };
    for (int i = 0; i < CX_COUNT(all); i++)
        if (all[i])
            (void)l->api.cublasLtMatrixLayoutDestroy(all[i]);
}

static bool lay_out_matrix(const cx_cublaslt *l, cublasLtMatrixLayout_t *to, cx_dtype type, int64_t rows, int64_t columns, int64_t ld)
{
    return l->api.cublasLtMatrixLayoutCreate(to, type == CX_BF16 ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)columns, (uint64_t)rows, ld) == CUBLAS_STATUS_SUCCESS;
}

static bool describe(const cx_cublaslt *l, const product *p, layouts *m)
{
    const cublasOperation_t first = p->b_t ? CUBLAS_OP_T : CUBLAS_OP_N, second = p->a_t ? CUBLAS_OP_T : CUBLAS_OP_N;
    *m = (layouts){ .how = NULL };
    return l->api.cublasLtMatmulDescCreate(&m->how, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           l->api.cublasLtMatmulDescSetAttribute(m->how, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) == CUBLAS_STATUS_SUCCESS &&
           l->api.cublasLtMatmulDescSetAttribute(m->how, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) == CUBLAS_STATUS_SUCCESS &&
           lay_out_matrix(l, &m->a, p->in, p->a_t ? p->depth : p->rows, p->a_t ? p->rows : p->depth, p->a_ld) &&
           lay_out_matrix(l, &m->b, p->in, p->b_t ? p->columns : p->depth, p->b_t ? p->depth : p->columns, p->b_ld) &&
           lay_out_matrix(l, &m->c, p->out, p->rows, p->columns, p->c_ld);
}

/* No sums by atomics: parts of a split sum are kept apart and added in order. */
static bool ask(const cx_cublaslt *l, const layouts *m, choice *out)
{
    const product *p = &out->of;
    const uint32_t in = p->aligned ? 16 : (uint32_t)cx_dtype_bytes(p->in), to = p->aligned ? 16 : (uint32_t)cx_dtype_bytes(p->out);
    const struct { cublasLtMatmulPreferenceAttributes_t name; uint32_t value; } limits[] = {
        { CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, in }, { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, in },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, to }, { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, to },
    };
    const uint64_t scratch = MOST_SCRATCH;
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t result;
    int n = 0;
    bool ok = l->api.cublasLtMatmulPreferenceCreate(&wish) == CUBLAS_STATUS_SUCCESS &&
              l->api.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch, sizeof scratch) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; ok && i < CX_COUNT(limits); i++)
        ok = l->api.cublasLtMatmulPreferenceSetAttribute(wish, limits[i].name, &limits[i].value, sizeof limits[i].value) == CUBLAS_STATUS_SUCCESS;
    ok = ok && l->api.cublasLtMatmulAlgoGetHeuristic(l->handle, m->how, m->b, m->a, m->c, m->c, wish, 1, &result, &n) == CUBLAS_STATUS_SUCCESS && n == 1 &&
         result.state == CUBLAS_STATUS_SUCCESS;
    if (ok) {
        out->algorithm = result.algo;
        out->scratch = result.workspaceSize;
    }
    if (wish)
        (void)l->api.cublasLtMatmulPreferenceDestroy(wish);
    return ok;
}

static bool same(const product *a, const product *b)
{
    return a->rows == b->rows && a->columns == b->columns && a->depth == b->depth && a->a_ld == b->a_ld && a->b_ld == b->b_ld && a->c_ld == b->c_ld &&
           a->a_t == b->a_t && a->b_t == b->b_t && a->in == b->in && a->out == b->out && a->aligned == b->aligned;
}

/* NULL: it has no algorithm. */
static const choice *choose(cx_cublaslt *l, const product *p)
{
    for (int i = 0; i < l->n; i++)
        if (same(&l->choices[i].of, p))
            return l->choices[i].found ? &l->choices[i] : NULL;
    if (!cx_grow(&l->choices, &l->capacity, (size_t)l->n + 1, sizeof *l->choices))
        return NULL;
    choice *at = &l->choices[l->n++];
    layouts m = { .how = NULL };
    *at = (choice){ .of = *p };
    if (!l->handle && l->api.cublasLtCreate(&l->handle) != CUBLAS_STATUS_SUCCESS)
        l->handle = NULL;
    at->found = l->handle && describe(l, p, &m) && ask(l, &m, at);
    drop(l, &m);
    return at->found ? at : NULL;
}

/* ---- products of a call ------------------------------------------------------------------------------------------------ */

static cx_cublaslt *library_of(const cx_call *c) { return ((const cx_cuda_handle *)c->self)->cublaslt; }

static bool is_aligned(const float *p) { return (uintptr_t)p % 16 == 0; }

typedef enum { FORWARD, DATA, WEIGHT } which;

/* x, w, y: as they are read and written, dense or slices. */
static product product_of(which what, const cx_tensor *x, const cx_tensor *w, const cx_tensor *y)
{
    const int64_t pixels = cx_pixels(x->s), inputs = x->s.c, outputs = y->s.c;
    const bool aligned = is_aligned(x->p) && is_aligned(w->p) && is_aligned(y->p);
    if (what == FORWARD)
        return (product){ pixels, outputs, inputs, x->ld, w->ld, y->ld, false, true, aligned, x->type, y->type };
    if (what == DATA)
        return (product){ pixels, inputs, outputs, y->ld, w->ld, x->ld, false, false, aligned, y->type, x->type };
    return (product){ outputs, inputs, pixels, y->ld, x->ld, w->ld, true, false, aligned, y->type, w->type };
}

static cx_status multiply(const cx_call *c, which what, const cx_tensor *x, const cx_tensor *w, const cx_tensor *y, bool add, size_t scratch)
{
    cx_cublaslt *l = library_of(c);
    const product p = product_of(what, x, w, y);
    const choice *chosen = choose(l, &p);
    const float alpha = 1, beta = add;
    const void *a = what == FORWARD ? x->p : y->p, *b = what == WEIGHT ? x->p : w->p;
    void *to = what == FORWARD ? y->p : what == DATA ? x->p : w->p;
    layouts m = { .how = NULL };
    const bool ok = chosen && describe(l, &p, &m) &&
                    l->api.cublasLtMatmul(l->handle, m.how, &alpha, b, m.b, a, m.a, &beta, to, m.c, to, m.c, &chosen->algorithm, (char *)c->work + scratch,
                                          chosen->scratch, ((const cx_cuda_queue *)c->self)->stream) == CUBLAS_STATUS_SUCCESS;
    drop(l, &m);
    return ok ? CX_OK : CX_E_INTERNAL;
}

/* ---- what can be used in place ------------------------------------------------------------------------------------------ */

static bool reads_x(const cx_call *c) { return c->fold.pre.s.c == 0; }
static bool reads_dy(const cx_call *c, cx_dtype type) { return type == CX_F32 && c->fold.carry.s.c == 0 && !c->relu; }
static bool is_ready(const cx_call *c) { return !c->relu && c->fold.post.s.c == 0 && (c->n_in < 3 || c->x[2].s.c == 0); }
static bool writes_y(const cx_call *c) { return c->y[0].type == CX_F32 || is_ready(c); }
static bool writes_dx(const cx_call *c) { return c->fold.pre.s.c == 0 && c->fold.sums.s.c == 0; }

/* ---- products to come: addresses are not known yet ------------------------------------------------------------------------ */

static cx_tensor dense(cx_shape s, cx_dtype type) { return (cx_tensor){ .s = s, .ld = s.c, .type = type }; }

static product planned(const cx_call *c, cx_dtype type, which what, bool aligned)
{
    const cx_tensor x = reads_x(c) ? c->x[0] : dense(c->x[0].s, type), dy = reads_dy(c, type) ? c->dy[0] : dense(c->y[0].s, type);
    const cx_tensor y = writes_y(c) ? c->y[0] : dense(c->y[0].s, CX_F32), dx = writes_dx(c) ? c->dx[0] : dense(c->x[0].s, CX_F32);
    const cx_tensor w = dense(c->x[1].s, what == WEIGHT ? CX_F32 : type);
    product p = product_of(what, what == DATA ? &dx : &x, &w, what == FORWARD ? &y : &dy);
    p.aligned = aligned;
    return p;
}

/* Whatever the addresses will be. */
static bool has_product(const cx_call *c, cx_dtype type, which what)
{
    const product even = planned(c, type, what, true), odd = planned(c, type, what, false);
    return choose(library_of(c), &even) && choose(library_of(c), &odd);
}

static size_t scratch_of(const cx_call *c, cx_dtype type, which what)
{
    size_t most = 0;
    for (int aligned = 0; aligned < 2; aligned++) {
        const product p = planned(c, type, what, aligned);
        const choice *chosen = choose(library_of(c), &p);
        most = chosen && chosen->scratch > most ? chosen->scratch : most;
    }
    return most;
}

static size_t all_scratch(const cx_call *c, cx_dtype type, bool backward)
{
    if (!backward)
        return scratch_of(c, type, FORWARD);
    const size_t data = cx_wants_dx(c) ? scratch_of(c, type, DATA) : 0, weight = cx_wants_dw(c) ? scratch_of(c, type, WEIGHT) : 0;
    return data > weight ? data : weight;
}

/* ---- c->work -------------------------------------------------------------------------------------------------------------- */

typedef struct { size_t x, w, y, dx, scratch, sums, all; } parts;

static parts lay_out(const cx_call *c, cx_dtype type, bool backward)
{
    parts p = { 0 };
    p.x = cx_part_add(&p.all, !reads_x(c), cx_dense_bytes(c->x[0].s, type));
    p.w = cx_part_add(&p.all, type == CX_BF16, cx_dense_bytes(c->x[1].s, type));
    p.y = cx_part_add(&p.all, backward ? !reads_dy(c, type) : !writes_y(c), cx_dense_bytes(c->y[0].s, backward ? type : CX_F32));
    p.dx = cx_part_add(&p.all, backward && cx_wants_dx(c) && !writes_dx(c), cx_dense_bytes(c->x[0].s, CX_F32));
    p.sums = cx_part_add(&p.all, true, backward ? cx_cuda_take_bytes(c) : cx_cuda_statistics_bytes(c));
    p.scratch = cx_part_add(&p.all, true, all_scratch(c, type, backward));
    return p;
}

/* ---- running ------------------------------------------------------------------------------------------------------------ */

static cx_status gather_x(const cx_call *c, cx_dtype type, size_t at, cx_tensor *x)
{
    return cx_read_x(c, reads_x(c), cx_part_of(c, at, c->x[0].s, type), x);
}

static cx_status gather_weights(const cx_call *c, cx_dtype type, size_t at, cx_tensor *w)
{
    *w = type == CX_F32 ? c->x[1] : cx_part_of(c, at, c->x[1].s, type);
    if (c->packed)
        w->p = c->packed;
    return type == CX_F32 || c->packed ? CX_OK : cx_cuda_gather_weights(c, *w);
}

static cx_status forward(const cx_call *c, cx_dtype type)
{
    const parts p = lay_out(c, type, false);
    cx_tensor x, w, y = writes_y(c) ? c->y[0] : cx_part_of(c, p.y, c->y[0].s, CX_F32);
    TRY(gather_x(c, type, p.x, &x));
    TRY(gather_weights(c, type, p.w, &w));
    TRY(multiply(c, FORWARD, &x, &w, &y, false, p.scratch));
    if (!is_ready(c))
        TRY(cx_cuda_take_y(c, y));
    return cx_cuda_take_statistics(c, (char *)c->work + p.sums);
}

static cx_status data_gradient(const cx_call *c, cx_dtype type, const parts *p, const cx_tensor *dy)
{
    cx_tensor w, dx = writes_dx(c) ? c->dx[0] : cx_part_of(c, p->dx, c->x[0].s, CX_F32);
    TRY(gather_weights(c, type, p->w, &w));
    TRY(multiply(c, DATA, &dx, &w, dy, writes_dx(c) && c->dx_add[0], p->scratch));
    return writes_dx(c) ? CX_OK : cx_cuda_take_dx(c, dx, (char *)c->work + p->sums);
}

static cx_status backward(const cx_call *c, cx_dtype type)
{
    const parts p = lay_out(c, type, true);
    const cx_tensor dy = reads_dy(c, type) ? c->dy[0] : cx_part_of(c, p.y, c->y[0].s, type);
    cx_tensor x;
    if (!reads_dy(c, type))
        TRY(cx_cuda_gather_dy(c, dy));
    if (c->dx[0].p || c->fold.sums.s.c)
        TRY(data_gradient(c, type, &p, &dy));
    if (c->dx[1].p) {
        TRY(gather_x(c, type, p.x, &x));
        TRY(multiply(c, WEIGHT, &x, &c->dx[1], &dy, c->dx_add[1], p.scratch));
    }
    return c->n_in > 2 && c->dx[2].p ? cx_cuda_take_db(c, (char *)c->work + p.sums) : CX_OK;
}

/* ---- rows --------------------------------------------------------------------------------------------------------------- */

/* In bf16, rows at multiples of 16 bytes, which tensor cores want. */
static bool is_even(const cx_call *c, cx_dtype type)
{
    return type == CX_F32 || (c->x[0].s.c % 8 == 0 && c->y[0].s.c % 8 == 0 && (!reads_x(c) || c->x[0].ld % 8 == 0));
}

static bool accepts(const cx_call *c, cx_dtype type)
{
    const cx_cuda_handle *handle = c->self;
    if (!handle || !handle->cublaslt || c->x[0].type != type || !is_even(c, type))
        return false;
    if (c->dy[0].s.c == 0)
        return has_product(c, type, FORWARD);
    return (!cx_wants_dx(c) || has_product(c, type, DATA)) && (!cx_wants_dw(c) || has_product(c, type, WEIGHT));
}

static bool accepts_linear(const cx_call *c) { return accepts(c, CX_F32); }

static bool is_product(const cx_call *c)
{
    const cx_conv_attr *a = c->attr;
    return c->x[1].s.h == 1 && c->x[1].s.w == 1 && a->stride == 1 && a->pad_top + a->pad_bottom + a->pad_left + a->pad_right == 0;
}
static bool accepts_f32(const cx_call *c) { return is_product(c) && accepts(c, CX_F32); }
static bool accepts_bf16(const cx_call *c) { return is_product(c) && accepts(c, CX_BF16); }

static size_t workspace_f32(const cx_call *c, bool back) { return lay_out(c, CX_F32, back).all; }
static size_t workspace_bf16(const cx_call *c, bool back) { return lay_out(c, CX_BF16, back).all; }
static cx_status fwd_f32(const cx_call *c) { return forward(c, CX_F32); }
static cx_status fwd_bf16(const cx_call *c) { return forward(c, CX_BF16); }
static cx_status bwd_f32(const cx_call *c) { return backward(c, CX_F32); }
static cx_status bwd_bf16(const cx_call *c) { return backward(c, CX_BF16); }

static size_t packed(const cx_call *c) { return cx_dense_bytes(c->x[1].s, CX_BF16); }
static cx_status pack(const cx_call *c)
{
    return cx_cuda_gather_weights(c, (cx_tensor){ .s = c->x[1].s, .ld = c->x[1].s.c, .p = c->packed, .type = CX_BF16 });
}

static const cx_impl products[] = {
    { .name = "conv2d cublaslt bf16", .accepts = accepts_bf16, .workspace = workspace_bf16, .fwd = fwd_bf16, .bwd = bwd_bf16, .packed = packed, .pack = pack,
      .bf16 = true, .dot = true },
    { .name = "conv2d cublaslt", .accepts = accepts_f32, .workspace = workspace_f32, .fwd = fwd_f32, .bwd = bwd_f32 },
};
static const cx_impl linear = { .name = "linear cublaslt", .accepts = accepts_linear, .workspace = workspace_f32, .fwd = fwd_f32, .bwd = bwd_f32 };

const cx_impl *cx_cublaslt_impls(cx_op_id op, int *n)
{
    *n = op == CX_OP_CONV2D ? CX_COUNT(products) : op == CX_OP_LINEAR;
    return op == CX_OP_CONV2D ? products : &linear;
}
