/* cuda.c - the CUDA backend: device memory, one stream, and the kernels of every operator. Compiled twice: against CUDA into libcxnet_cuda.so, and against the
 * emulated GPU of tests/emu into libcxnet_emu.so; both are opened on demand by src/graph/backend.c. Depends on graph.h, kernels.h. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "cxnet/base.h"
#include "films.h"
#include "graph/backends.h"
#include "cuda.h"
#include "ranks.h"
#include "roof.h"
#include "stepper.h"
#include "workspace.h"
#ifdef CX_CUDNN
#include "cudnn_conv.h"
#endif
#ifdef CX_CUBLASLT
#include "cublaslt.h"
#endif

typedef struct {
    cx_cuda_handle handle;      /* first: what c->self is to the launchers */
    cx_backend base;
    cx_cuda_impls impls;
    cudaStream_t stream;
    double *scratch;            /* device: of sum_squares and cam, then their result */
    int64_t n_scratch;
} cuda;

cx_status cx_cuda_fail(cx_error *err, cudaError_t e, const char *what)
{
    (void)cudaGetLastError();
    return cx_fail(err, e == cudaErrorMemoryAllocation ? CX_E_MEMORY : CX_E_INTERNAL, "cuda: %s: %s", what, cudaGetErrorString(e));
}

cx_status cx_cuda_launched(cx_error *err, cx_status s, const char *what)
{
    return s == CX_OK ? CX_OK : cx_fail(err, s, "cuda: %s: %s", what, cudaGetErrorString(cudaGetLastError()));
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

/* Until the sums of all ranks that were queued are done: a rank that is gone is missed here, where CUDA's own ways of waiting would wait for it without end. */
static cx_status wait_for_ranks(cuda *c, cx_error *err) { return c->handle.nccl ? cx_nccl_wait(c->handle.nccl, c->stream, NULL, err) : CX_OK; }

static cx_status mem_alloc(cx_backend *b, size_t bytes, void **p, cx_error *err)
{
    cuda *c = b->self;
    char text[16];
    *p = NULL;
    const cudaError_t e = cudaMalloc(p, bytes ? bytes : 1);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();       /* the next launch is not to blame */
        cx_format_bytes(bytes, text);
        return cx_fail(err, CX_E_MEMORY, "cuda: cannot allocate %s: %s; take a smaller batch or side", text, cudaGetErrorString(e));
    }
    const cudaError_t zeroed = cudaMemsetAsync(*p, 0, bytes, c->stream);
    if (zeroed != cudaSuccess) {
        (void)cudaFree(*p);
        *p = NULL;
        return cx_cuda_fail(err, zeroed, "zeroing new memory");
    }
    return CX_OK;
}

static void mem_release(cx_backend *b, void *p)
{
    (void)cx_nccl_wait(((cuda *)b->self)->handle.nccl, ((cuda *)b->self)->stream, NULL, NULL);
    (void)cudaFree(p);
}

static cx_status mem_upload(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err)
{
    cuda *c = b->self;
    if (bytes) {
        TRY(wait_for_ranks(c, err));
        CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, c->stream));
        CUDA(cudaStreamSynchronize(c->stream));     /* src is the caller's again */
    }
    return CX_OK;
}

static cx_status mem_download(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err)
{
    cuda *c = b->self;
    if (bytes) {
        TRY(wait_for_ranks(c, err));
        CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, c->stream));
        CUDA(cudaStreamSynchronize(c->stream));
    }
    return CX_OK;
}

static cx_status mem_zero(cx_backend *b, void *p, size_t bytes, cx_error *err)
{
    cuda *c = b->self;
    if (bytes)
        CUDA(cudaMemsetAsync(p, 0, bytes, c->stream));
    return CX_OK;
}

static size_t free_bytes(cx_backend *b)
{
    size_t now = 0, total = 0;
    (void)b;
    if (cudaMemGetInfo(&now, &total) != cudaSuccess)
        (void)cudaGetLastError();
    return now;
}

static cx_status finish(cx_backend *b, cx_error *err)
{
    return cx_nccl_wait(((cuda *)b->self)->handle.nccl, ((cuda *)b->self)->stream, NULL, err);
}

static const char *why(cx_backend *b)
{
    (void)b;
    const cudaError_t e = cudaGetLastError();
    return e == cudaSuccess ? "" : cudaGetErrorString(e);
}

/* ---- operators and optimisers ------------------------------------------------------------------------------------- */

static size_t workspace_of(cx_op_id op, const cx_call *c, bool backward)
{
    switch (op) {
    case CX_OP_CONV2D: return cx_cuda_workspace_conv2d(c, backward);
    case CX_OP_CONV_TRANSPOSE2D: return cx_cuda_workspace_conv_transpose2d(c, backward);
    case CX_OP_LINEAR: return cx_cuda_workspace_linear(c, backward);
    case CX_OP_BATCH_NORM: return cx_cuda_workspace_batch_norm(c, backward);
    case CX_OP_MAX_POOL:
    case CX_OP_AVG_POOL: return cx_cuda_workspace_pool(c, backward);
    case CX_OP_GLOBAL_AVG_POOL: return cx_cuda_workspace_global_avg_pool(c, backward);
    case CX_OP_BCE_LOSS:
    case CX_OP_CE_LOSS:
    case CX_OP_DICE_LOSS: return cx_cuda_workspace_loss(c, backward);
    default: return 0;
    }
}

#define OP(ID, op, lo, hi, out, attr, flags, rtol, atol) \
    static size_t workspace_##op(const cx_call *c, bool backward) { return workspace_of(CX_OP_##ID, c, backward); }
#include "cxnet/ops.def"
#undef OP

/* bf16: x[0] and y[0] in either type. Losses and what leads to them never see it. */
static const cx_impl plain[CX_OP_COUNT] = {
#define OP(ID, op, lo, hi, out, attr, flags, rtol, atol) \
    [CX_OP_##ID] = { .name = #op " cuda", .workspace = workspace_##op, .fwd = cx_cuda_fwd_##op, .bwd = cx_cuda_bwd_##op, .bf16 = !((flags) & CX_FLOAT32) },
#include "cxnet/ops.def"
#undef OP
};

/* Those of a list that multiply in bfloat16, or those that do not. */
static void add_impls(cx_cuda_impls *out, int op, const cx_impl *list, int n, bool dot)
{
    for (int i = 0; i < n; i++)
        if (list[i].dot == dot && out->n[op] < CX_CUDA_MOST_IMPLS)
            out->impl[op][out->n[op]++] = list[i];
}

/* What the folds of a DenseNet were made for: 1x1 convolutions, and growth convolutions of few outputs. */
static bool accepts_growth(const cx_call *c)
{
    enum { WIDE = 64 };
    const cx_shape w = c->x[1].s;
    return cx_cuda_accepts_conv2d_dot(c) && ((w.h == 1 && w.w == 1) || w.n < WIDE);
}

/* The up-convolution of a U-Net: no two taps meet, so that it is a product of matrices and its bytes are the floor. */
static bool accepts_up(const cx_call *c)
{
    const cx_convt_attr *a = c->attr;
    return cx_cuda_accepts_conv_transpose2d_dot(c) && c->x[1].s.h == a->stride && c->x[1].s.w == a->stride && a->pad == 0;
}

#define DOT(op, takes) \
    { .name = #op " cuda bf16", .accepts = takes, .workspace = cx_cuda_workspace_##op##_dot, .fwd = cx_cuda_fwd_##op##_dot, .bwd = cx_cuda_bwd_##op##_dot, \
        .packed = cx_cuda_packed_##op##_dot, .pack = cx_cuda_pack_##op##_dot, .bf16 = true, .dot = true }
/* Before the libraries, and behind them. */
static const cx_impl ours_first[CX_OP_COUNT] = {
    [CX_OP_CONV2D] = DOT(conv2d, accepts_growth), [CX_OP_CONV_TRANSPOSE2D] = DOT(conv_transpose2d, accepts_up),
};
static const cx_impl ours_last[CX_OP_COUNT] = {
    [CX_OP_CONV2D] = DOT(conv2d, cx_cuda_accepts_conv2d_dot), [CX_OP_CONV_TRANSPOSE2D] = DOT(conv_transpose2d, cx_cuda_accepts_conv_transpose2d_dot),
};

static const cx_impl stem = { .name = "conv2d cuda stem", .accepts = cx_cuda_accepts_conv2d_stem, .workspace = cx_cuda_workspace_conv2d_stem,
    .fwd = cx_cuda_fwd_conv2d_stem, .packed = cx_cuda_packed_conv2d_stem, .pack = cx_cuda_pack_conv2d_stem, .bf16 = true, .pool = true };

/* Before all others the stem, which takes only what has a pool folded in. Then who multiplies in bfloat16, for the others may get what is stored in it by way
 * of float32 copies; among them growth and up-convolutions by kernels of this house, all else by a library that is there. */
void cx_cuda_list_impls(const cx_cuda_handle *h, cx_cuda_impls *out)
{
    (void)h;
    *out = (cx_cuda_impls){ .n = { 0 } };
    for (int i = 0; i < 2 * CX_OP_COUNT; i++) {
        const int op = i / 2;
        const bool dot = i % 2 == 0, ours = ours_first[op].fwd != NULL;
        if (dot)
            add_impls(out, op, &stem, op == CX_OP_CONV2D, stem.dot);
        add_impls(out, op, &ours_first[op], ours, dot);
#ifdef CX_CUBLASLT
        int products = 0;
        const cx_impl *by_cublaslt = cx_cublaslt_impls((cx_op_id)op, &products);
        if (h->cublaslt)
            add_impls(out, op, by_cublaslt, products, dot);
#endif
#ifdef CX_CUDNN
        int convolutions = 0;
        const cx_impl *by_cudnn = cx_cudnn_impls((cx_op_id)op, &convolutions);
        if (h->cudnn)
            add_impls(out, op, by_cudnn, convolutions, dot);
#endif
        add_impls(out, op, &ours_last[op], ours, dot);
        add_impls(out, op, &plain[op], 1, dot);
    }
}

static const cx_impl *list_impls(cx_backend *b, cx_op_id op, int *n)
{
    cuda *c = b->self;
    *n = c->impls.n[op];
    return c->impls.impl[op];
}

static cx_status run_update(cx_backend *b, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v, cx_error *err)
{
    TRY(cx_update_check(b->name, u, m, v, err));
    return cx_cuda_launched(err, cx_cuda_update(((cuda *)b->self)->handle.queue.stream, u, n, param, grad, m, v), "the update");
}

static cx_status want_scratch(cuda *c, int64_t doubles, cx_error *err)
{
    if (doubles <= c->n_scratch)
        return CX_OK;
    mem_release(&c->base, c->scratch);
    c->scratch = NULL;
    c->n_scratch = 0;
    CUDA(cudaMalloc((void **)&c->scratch, (size_t)doubles * sizeof(double)));
    c->n_scratch = doubles;
    return CX_OK;
}

static cx_status run_sum_squares(cx_backend *b, int64_t n, const float *x, double *out, cx_error *err)
{
    cuda *c = b->self;
    const int64_t parts = cx_cuda_sum_doubles(n);
    TRY(want_scratch(c, parts + 1, err));
    TRY(cx_cuda_launched(err, cx_cuda_sum_squares(c->handle.queue.stream, n, x, c->scratch, c->scratch + parts), "sum_squares"));
    return mem_download(b, out, c->scratch + parts, sizeof *out, err);
}

static cx_status run_cam(cx_backend *b, bool by_place, cx_tensor act, cx_tensor grad, float *map, cx_error *err)
{
    cuda *c = b->self;
    const int64_t weights = cx_cuda_cam_doubles(act.s), n = cx_pixels(act.s);
    TRY(want_scratch(c, weights + (n + 1) / 2, err));
    float *result = (float *)(void *)(c->scratch + weights);
    TRY(cx_cuda_launched(err, cx_cuda_cam(c->handle.queue.stream, by_place, act, grad, c->scratch, result), "the map"));
    return mem_download(b, map, result, (size_t)n * sizeof *map, err);
}

/* ---- several ranks ------------------------------------------------------------------------------------------------- */

static cx_status run_sum(cx_comm *comm, cx_backend *b, float *x, int64_t n, cx_error *err)
{
    (void)comm;
    return cx_nccl_sum(((cuda *)b->self)->handle.nccl, x, n, err);
}

static cx_status join(cx_backend *b, cx_comm *comm, cx_error *err)
{
    cuda *c = b->self;
    TRY(cx_nccl_open(c->stream, comm, &c->handle.nccl, err));
    comm->sum = run_sum;
    comm->joined = b;
    return CX_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static void cuda_close(cx_backend *b)
{
    cuda *c = b->self;
    cx_nccl_close(c->handle.nccl);
    (void)cudaStreamSynchronize(c->stream);
#ifdef CX_CUBLASLT
    cx_cublaslt_close(c->handle.cublaslt);
#endif
#ifdef CX_CUDNN
    (void)cx_cudnn_close(c->handle.cudnn, NULL);        /* plans that could not be kept are made again next time */
#endif
    (void)cudaFree(c->scratch);
    (void)cudaStreamDestroy(c->stream);
    free(c);
}

static void add_note(cuda *c, const char *what, const char *why)
{
    const size_t at = strlen(c->base.note);
    snprintf(c->base.note + at, sizeof c->base.note - at, "%s%s%s", at ? "; " : "", what, why);
}


/* What is not here is told, and done without. */
static void open_libraries(cuda *c, const char *device)
{
    cx_error why = { 0 };
    (void)c, (void)device, (void)why;
#ifdef CX_CUBLASLT
    if (cx_cublaslt_open(&c->handle.cublaslt, &why) != CX_OK)
        add_note(c, "matrix products without cuBLASLt: ", why.text);
#endif
#ifdef CX_CUDNN
    char note[200], *folder = cx_cuda_cache_folder();
    if (cx_cudnn_open(NULL, folder, device, &c->handle.cudnn, note, &why) != CX_OK)
        add_note(c, "convolutions without cuDNN: ", why.text);
    else if (note[0])
        add_note(c, "cuDNN's plans are made anew; ", note);
    free(folder);
#endif
}

static cx_status open_device(cuda *c, const char *name, int device, cx_error *err)
{
    struct cudaDeviceProp prop;
    char memory[16], kind[160];
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n < 1)
        return cx_fail(err, CX_E_UNSUPPORTED, "%s: no CUDA device: %s", name, e == cudaSuccess ? "none is visible" : cudaGetErrorString(e));
    if (device >= n)
        return cx_fail(err, CX_E_UNSUPPORTED, "%s:%d: this machine has %d CUDA device%s, the first is %s:0", name, device, n, n == 1 ? "" : "s", name);
    CUDA(cudaSetDevice(device));
    CUDA(cudaGetDeviceProperties(&prop, device));
    if (prop.major < 8)
        return cx_fail(err, CX_E_UNSUPPORTED, "%s:%d: %s is sm_%d%d; want sm_80 or newer", name, device, prop.name, prop.major, prop.minor);
    CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    cx_format_bytes(prop.totalGlobalMem, memory);
    snprintf(c->base.description, sizeof c->base.description, "%.100s, sm_%d%d, %s", prop.name, prop.major, prop.minor, memory);
    snprintf(kind, sizeof kind, "sm_%d%d-%.100s-%d", prop.major, prop.minor, prop.name, prop.multiProcessorCount);
    open_libraries(c, kind);
    return CX_OK;
}

/* See cx_plugin_open_fn. */
__attribute__((visibility("default"))) cx_status cx_plugin_open(const char *name, int device, int threads, cx_backend **out, cx_error *err)
{
    *out = NULL;
    cuda *c = cx_alloc(1, sizeof *c);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "cuda: out of memory");
    c->base = (cx_backend){ .name = name, .threads = 1, .self = c, .alloc = mem_alloc, .release = mem_release, .upload = mem_upload, .download = mem_download,
        .zero = mem_zero, .impls = list_impls, .statistics = { .name = "statistics cuda", .workspace = cx_cuda_workspace_statistics,
        .fwd = cx_cuda_fwd_statistics, .bwd = cx_cuda_bwd_statistics, .bf16 = true },
        .convert = { .name = "convert cuda", .fwd = cx_cuda_fwd_convert, .bf16 = true }, .update = run_update,
        .sum_squares = run_sum_squares, .cam = run_cam, .films = cx_cuda_run_films, .resize = cx_cuda_run_resize, .clahe = cx_cuda_run_clahe,
        .beasf = cx_cuda_run_beasf, .stepper = cx_cuda_stepper_new, .free_bytes = free_bytes, .finish = finish, .why = why, .join = join,
        .close = cuda_close };
    cx_status s = open_device(c, name, device, err);
    if (s != CX_OK) {
        free(c);
        return s;
    }
    c->handle.queue.stream = c->stream;
    cx_cuda_list_impls(&c->handle, &c->impls);
#ifndef CX_EMULATED
    c->base.roof = cx_cuda_roof;        /* of an emulated GPU a figure would mean nothing */
#else
    emu_schedule(threads % 3);          /* so that tests which vary the number of threads vary the schedule, */
    emu_shuffle((unsigned)threads);     /* and the order among streams */
#endif
    (void)threads;
    *out = &c->base;
    return CX_OK;
}
