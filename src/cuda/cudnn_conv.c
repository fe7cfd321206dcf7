/* cudnn_conv.c - conv2d and conv_transpose2d by cuDNN. It knows convolutions of dense tensors and none of our folds, so operands are gathered before it and
 * results taken behind it by kernels/around.cu, in c->work; where nothing is folded and tensors are dense, it reads and writes them in place.
 *
 * Both operators are one: a convolution has a large side and a small side (gemm.cuh); x of cuDNN's convolution is the large one, y the small one, and
 * conv_transpose2d goes from small to large. In bf16, channels are padded to multiples of 8, and what cuDNN hands back (y, the gradients of u and of the
 * weights) is rounded to bf16 once, since it has no engines for anything else; all outside of it stays float32. */
#include "cudnn_conv.h"
#include "cuda.h"
#include "parts.h"

/* ---- geometry ------------------------------------------------------------------------------------------------------- */

/* up: from the small side to the large one. Channels are padded. */
typedef struct { cx_dtype type; bool up; cx_cudnn_conv conv; } geometry;

static cx_shape padded(cx_shape s, cx_dtype type)
{
    s.c = type == CX_BF16 ? (s.c + 7) / 8 * 8 : s.c;
    return s;
}

static geometry geometry_of(const cx_call *c, bool up, cx_dtype type)
{
    const cx_conv_attr *down_attr = c->attr;
    const cx_convt_attr *up_attr = c->attr;
    const cx_shape x = padded(c->x[0].s, type), y = padded(c->y[0].s, type), w = padded(c->x[1].s, type);
    geometry g = { .type = type, .up = up, .conv = { .type = type, .x = up ? y : x, .y = up ? x : y } };
    g.conv.w = (cx_shape){ g.conv.y.c, w.h, w.w, w.c };
    g.conv.x_ld = g.conv.x.c;
    g.conv.y_ld = g.conv.y.c;
    g.conv.stride = up ? up_attr->stride : down_attr->stride;
    g.conv.pad_top = up ? up_attr->pad : down_attr->pad_top;
    g.conv.pad_bottom = up ? up_attr->pad : down_attr->pad_bottom;
    g.conv.pad_left = up ? up_attr->pad : down_attr->pad_left;
    g.conv.pad_right = up ? up_attr->pad : down_attr->pad_right;
    return g;
}

static const cx_cudnn_plan *plan_of(const cx_call *c, const geometry *g, cx_cudnn_kind kind)
{
    cx_cudnn_conv conv = g->conv;
    conv.kind = kind;
    return cx_cudnn_find(((const cx_cuda_handle *)c->self)->cudnn, &conv);
}

/* Forward makes the small side, unless it goes up. */
static cx_cudnn_kind forward_kind(const geometry *g) { return g->up ? CX_CUDNN_DGRAD : CX_CUDNN_FPROP; }
static cx_cudnn_kind backward_kind(const geometry *g) { return g->up ? CX_CUDNN_FPROP : CX_CUDNN_DGRAD; }

/* ---- what can be used in place ---------------------------------------------------------------------------------------- */

static bool is_dense(const cx_tensor *t, cx_dtype type) { return t->type == type && t->ld == t->s.c && padded(t->s, type).c == t->s.c; }
static bool reads_x(const cx_call *c, cx_dtype type) { return is_dense(&c->x[0], type) && c->fold.pre.s.c == 0; }
static bool reads_dy(const cx_call *c, cx_dtype type) { return is_dense(&c->dy[0], type) && c->fold.carry.s.c == 0 && !c->relu; }
static bool writes_y(const cx_call *c, cx_dtype type)
{
    return is_dense(&c->y[0], type) && !c->relu && c->fold.post.s.c == 0 && (c->n_in < 3 || c->x[2].s.c == 0);
}
static bool writes_dx(const cx_call *c, cx_dtype type)
{
    return is_dense(&c->dx[0], type) && !c->dx_add[0] && c->fold.pre.s.c == 0 && c->fold.sums.s.c == 0;
}
static bool writes_dw(const cx_call *c, cx_dtype type) { return type == CX_F32 && !c->dx_add[1]; }


/* ---- c->work ----------------------------------------------------------------------------------------------------------- */

/* The data and the weight gradient come one after the other and share what is behind the scratch. Offsets are valid where the part is wanted. */
typedef struct { size_t x, w, y, dy, dx, dw, scratch, cudnn, all; } parts;

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* What cuDNN itself wants. */
static size_t scratch_of(const cx_call *c, const geometry *g, bool wanted, cx_cudnn_kind kind)
{
    const cx_cudnn_plan *p = wanted ? plan_of(c, g, kind) : NULL;
    return p ? cx_cudnn_plan_workspace(p) : 0;
}

static parts lay_out(const cx_call *c, const geometry *g, bool backward)
{
    const size_t x = cx_dense_bytes(padded(c->x[0].s, g->type), g->type), y = cx_dense_bytes(padded(c->y[0].s, g->type), g->type);
    const size_t w = cx_dense_bytes(g->conv.w, g->type);
    parts p = { 0 };
    size_t at = 0;
    if (!backward) {
        p.x = cx_part_add(&at, !reads_x(c, g->type), x);
        p.w = cx_part_add(&at, g->type == CX_BF16, w);
        p.y = cx_part_add(&at, !writes_y(c, g->type), y);
        p.cudnn = cx_part_add(&at, true, scratch_of(c, g, true, forward_kind(g)));
        p.scratch = cx_part_add(&at, true, cx_cuda_statistics_bytes(c));
        p.all = at;
        return p;
    }
    p.dy = cx_part_add(&at, !reads_dy(c, g->type), y);
    p.scratch = cx_part_add(&at, true, cx_cuda_take_bytes(c));
    p.cudnn = cx_part_add(&at, true, larger(scratch_of(c, g, cx_wants_dx(c), backward_kind(g)), scratch_of(c, g, cx_wants_dw(c), CX_CUDNN_WGRAD)));
    size_t data = at, weight = at;
    p.w = cx_part_add(&data, cx_wants_dx(c) && g->type == CX_BF16, w);
    p.dx = cx_part_add(&data, cx_wants_dx(c) && !writes_dx(c, g->type), x);
    p.x = cx_part_add(&weight, cx_wants_dw(c) && !reads_x(c, g->type), x);
    p.dw = cx_part_add(&weight, cx_wants_dw(c) && !writes_dw(c, g->type), w);
    p.all = larger(data, weight);
    return p;
}

/* ---- running ---------------------------------------------------------------------------------------------------------- */

/* What cuDNN calls x, w and y. */
static cx_status run(const cx_call *c, const geometry *g, cx_cudnn_kind kind, const cx_tensor *x, const cx_tensor *w, const cx_tensor *y, size_t scratch)
{
    const cx_cudnn_plan *plan = plan_of(c, g, kind);
    return plan ? cx_cudnn_plan_run(plan, ((const cx_cuda_queue *)c->self)->stream, x->p, w->p, y->p, (char *)c->work + scratch) : CX_E_INTERNAL;
}

static cx_status gather_weights(const cx_call *c, const geometry *g, size_t at, cx_tensor *w)
{
    *w = c->packed ? (cx_tensor){ .s = g->conv.w, .ld = g->conv.w.c, .p = c->packed, .type = g->type } : cx_part_of(c, at, g->conv.w, g->type);
    if (g->type == CX_F32)
        *w = c->x[1];
    return g->type == CX_F32 || c->packed ? CX_OK : cx_cuda_gather_weights(c, *w);
}

static cx_status gather_x(const cx_call *c, const geometry *g, size_t at, cx_tensor *x)
{
    return cx_read_x(c, reads_x(c, g->type), cx_part_of(c, at, padded(c->x[0].s, g->type), g->type), x);
}

static cx_status forward(const cx_call *c, bool up, cx_dtype type)
{
    const geometry g = geometry_of(c, up, type);
    const parts p = lay_out(c, &g, false);
    const bool in_place = writes_y(c, type);
    cx_tensor x, w, y = in_place ? c->y[0] : cx_part_of(c, p.y, padded(c->y[0].s, type), type);
    TRY(gather_x(c, &g, p.x, &x));
    TRY(gather_weights(c, &g, p.w, &w));
    TRY(run(c, &g, forward_kind(&g), up ? &y : &x, &w, up ? &x : &y, p.cudnn));
    if (!in_place)
        TRY(cx_cuda_take_y(c, y));
    return cx_cuda_take_statistics(c, (char *)c->work + p.scratch);
}

static cx_status data_gradient(const cx_call *c, const geometry *g, const parts *p, const cx_tensor *dy)
{
    const bool in_place = writes_dx(c, g->type);
    cx_tensor w, dx = in_place ? c->dx[0] : cx_part_of(c, p->dx, padded(c->x[0].s, g->type), g->type);
    TRY(gather_weights(c, g, p->w, &w));
    TRY(run(c, g, backward_kind(g), g->up ? dy : &dx, &w, g->up ? &dx : dy, p->cudnn));
    return in_place ? CX_OK : cx_cuda_take_dx(c, dx, (char *)c->work + p->scratch);
}

static cx_status weight_gradient(const cx_call *c, const geometry *g, const parts *p, const cx_tensor *dy)
{
    const bool in_place = writes_dw(c, g->type);
    cx_tensor x, dw = in_place ? c->dx[1] : cx_part_of(c, p->dw, g->conv.w, g->type);
    TRY(gather_x(c, g, p->x, &x));
    TRY(run(c, g, CX_CUDNN_WGRAD, g->up ? dy : &x, &dw, g->up ? &x : dy, p->cudnn));
    return in_place ? CX_OK : cx_cuda_take_dw(c, dw);
}

static cx_status backward(const cx_call *c, bool up, cx_dtype type)
{
    const geometry g = geometry_of(c, up, type);
    const parts p = lay_out(c, &g, true);
    const bool ready = reads_dy(c, type);
    const cx_tensor dy = ready ? c->dy[0] : cx_part_of(c, p.dy, padded(c->y[0].s, type), type);
    if (!ready)
        TRY(cx_cuda_gather_dy(c, dy));
    if (c->dx[0].p || c->fold.sums.s.c)
        TRY(data_gradient(c, &g, &p, &dy));
    if (c->dx[1].p)
        TRY(weight_gradient(c, &g, &p, &dy));
    return c->n_in > 2 && c->dx[2].p ? cx_cuda_take_db(c, (char *)c->work + p.scratch) : CX_OK;
}

/* ---- rows ------------------------------------------------------------------------------------------------------------- */

/* A y that stays float32 is there for its digits (logits): no rounding to bf16 on the way. */
static bool accepts(const cx_call *c, bool up, cx_dtype type)
{
    const cx_cuda_handle *handle = c->self;
    const bool back = c->dy[0].s.c > 0;
    if (!handle || !handle->cudnn || c->x[0].type != type || (!back && c->y[0].type != type))
        return false;
    const geometry g = geometry_of(c, up, type);
    if (!back)
        return plan_of(c, &g, forward_kind(&g)) != NULL;
    return (!cx_wants_dx(c) || plan_of(c, &g, backward_kind(&g))) && (!cx_wants_dw(c) || plan_of(c, &g, CX_CUDNN_WGRAD));
}

static size_t workspace(const cx_call *c, bool back, bool up, cx_dtype type)
{
    const geometry g = geometry_of(c, up, type);
    return lay_out(c, &g, back).all;
}

static size_t packed(const cx_call *c, bool up)
{
    const geometry g = geometry_of(c, up, CX_BF16);
    return cx_dense_bytes(g.conv.w, CX_BF16);
}

static cx_status pack(const cx_call *c, bool up)
{
    const geometry g = geometry_of(c, up, CX_BF16);
    return cx_cuda_gather_weights(c, (cx_tensor){ .s = g.conv.w, .ld = g.conv.w.c, .p = c->packed, .type = CX_BF16 });
}

#define ROW(name, up, type) \
    static bool accepts_##name(const cx_call *c) { return accepts(c, up, type); } \
    static size_t workspace_##name(const cx_call *c, bool back) { return workspace(c, back, up, type); } \
    static cx_status fwd_##name(const cx_call *c) { return forward(c, up, type); } \
    static cx_status bwd_##name(const cx_call *c) { return backward(c, up, type); }
ROW(down_bf16, false, CX_BF16)
ROW(down_f32, false, CX_F32)
ROW(up_bf16, true, CX_BF16)
ROW(up_f32, true, CX_F32)
#undef ROW
static size_t packed_down(const cx_call *c) { return packed(c, false); }
static size_t packed_up(const cx_call *c) { return packed(c, true); }
static cx_status pack_down(const cx_call *c) { return pack(c, false); }
static cx_status pack_up(const cx_call *c) { return pack(c, true); }

static const cx_impl down[] = {
    { .name = "conv2d cudnn bf16", .accepts = accepts_down_bf16, .workspace = workspace_down_bf16, .fwd = fwd_down_bf16, .bwd = bwd_down_bf16,
      .packed = packed_down, .pack = pack_down, .bf16 = true, .dot = true },
    { .name = "conv2d cudnn", .accepts = accepts_down_f32, .workspace = workspace_down_f32, .fwd = fwd_down_f32, .bwd = bwd_down_f32 },
};
static const cx_impl up[] = {
    { .name = "conv_transpose2d cudnn bf16", .accepts = accepts_up_bf16, .workspace = workspace_up_bf16, .fwd = fwd_up_bf16, .bwd = bwd_up_bf16,
      .packed = packed_up, .pack = pack_up, .bf16 = true, .dot = true },
    { .name = "conv_transpose2d cudnn", .accepts = accepts_up_f32, .workspace = workspace_up_f32, .fwd = fwd_up_f32, .bwd = bwd_up_f32 },
};

const cx_impl *cx_cudnn_impls(cx_op_id op, int *n)
{
    *n = op == CX_OP_CONV2D || op == CX_OP_CONV_TRANSPOSE2D ? 2 : 0;
    return op == CX_OP_CONV2D ? down : up;
}
