/* graph.h - networks as values and nodes, the arenas that hold their numbers, and the plan that runs them on a backend.
 *
 * Reading order: cx_graph (what is computed), cx_store (parameters, shared by all plans), cx_plan (how: every step chosen, every
 * byte placed), cx_backend (who: a table of functions). Depends on op.h, film.h. */
#ifndef CXNET_GRAPH_H
#define CXNET_GRAPH_H
#include <stdio.h>
#include "cxnet/film.h"
#include "cxnet/op.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- graph ------------------------------------------------------------------------------------------------------ */

enum { CX_NAME_MAX = 96 };

typedef enum {
    CX_INPUT,     /* given before each run: films, targets. shape.n is the batch */
    CX_PARAM,     /* learned, unless frozen */
    CX_STATE,     /* kept but not learned: running statistics, loss weights */
    CX_ACT        /* made by a node */
} cx_value_kind;

typedef enum {    /* how a parameter starts. fan_in = H*W*C of its shape, fan_out = N*H*W */
    CX_INIT_ZERO, CX_INIT_ONE,
    CX_INIT_HE_NORMAL,        /* N(0, sqrt(2/fan_in)): He et al. 2015; torchvision's DenseNet */
    CX_INIT_GLOROT_UNIFORM,   /* U(+-sqrt(6/(fan_in+fan_out))): Glorot & Bengio 2010; Keras' default */
    CX_INIT_TORCH_LINEAR      /* U(+-1/sqrt(fan_in)): PyTorch's linear */
} cx_init;

typedef struct {
    char name[CX_NAME_MAX];   /* unique. Parameters carry torchvision's names: "features.conv0.weight" */
    cx_value_kind kind;
    cx_shape shape;           /* at batch 1; a plan infers its own */
    cx_init init;
    bool frozen;              /* CX_PARAM only */
    int node, out;            /* CX_ACT: producer, and which of its outputs; else -1 */
} cx_value;

typedef struct {
    char name[CX_NAME_MAX];
    cx_op_id op;
    int n_in, n_out;
    int in[CX_MAX_IN], out[CX_MAX_OUT];     /* value indices; an absent optional input is -1 */
    union { unsigned char bytes[CX_ATTR_BYTES]; long long align; } attr;
} cx_node;

typedef struct cx_graph {
    cx_value *values; int n_values; size_t values_cap;
    cx_node *nodes; int n_nodes; size_t nodes_cap;      /* in topological order: a node comes after what it reads */
    cx_error err;                                       /* the first failure while building; later calls do nothing */
} cx_graph;

cx_graph *cx_graph_new(void);                           /* NULL when out of memory */
void cx_graph_free(cx_graph *g);
/* CX_OK, or the first failure of any building call, with the node's name in front. */
cx_status cx_graph_check(const cx_graph *g, cx_error *err);
int cx_graph_find(const cx_graph *g, const char *name); /* value index by name, -1 when absent */

/* Building. Each returns a value index, or -1 after a failure (which cx_graph_check reports); -1 may be passed on. `name` is the node's name:
 * its output value has the same name, its parameters name.weight, name.bias, name.running_mean, name.running_var. */
int cx_input(cx_graph *g, const char *name, cx_shape shape_at_batch_1);
int cx_param(cx_graph *g, const char *name, cx_value_kind kind, cx_shape shape, cx_init init);
/* Any operator: attr is the struct of its ops.def row (NULL for cx_no_attr). Returns output 0. */
int cx_apply(cx_graph *g, const char *name, cx_op_id op, const void *attr, const int *in, int n_in);

typedef struct { int out, kernel, stride, pad; bool bias; cx_init init; } cx_conv_spec;
int cx_conv2d(cx_graph *g, const char *name, int x, cx_conv_spec spec);
int cx_conv_transpose2d(cx_graph *g, const char *name, int x, cx_conv_spec spec);
int cx_linear(cx_graph *g, const char *name, int x, int out, cx_init init);      /* always with a bias, zero at start */
int cx_batch_norm(cx_graph *g, const char *name, int x, cx_norm_attr attr);
int cx_relu(cx_graph *g, const char *name, int x);
int cx_leaky_relu(cx_graph *g, const char *name, int x, float slope);
int cx_sigmoid(cx_graph *g, const char *name, int x);
int cx_softmax(cx_graph *g, const char *name, int x);
int cx_max_pool(cx_graph *g, const char *name, int x, int kernel, int stride, int pad);
int cx_avg_pool(cx_graph *g, const char *name, int x, int kernel, int stride, int pad);
int cx_global_avg_pool(cx_graph *g, const char *name, int x);
int cx_concat(cx_graph *g, const char *name, int a, int b);
int cx_add(cx_graph *g, const char *name, int a, int b);
int cx_flatten(cx_graph *g, const char *name, int x);                            /* (N,1,1,H*W*C), in NHWC order as Keras does */
int cx_dropout(cx_graph *g, const char *name, int x, float rate);
int cx_upsample(cx_graph *g, const char *name, int x, int out_h, int out_w, bool align_corners);
int cx_bce_loss(cx_graph *g, const char *name, int logits, int target, int weights, float smoothing);   /* weights may be -1 */
int cx_ce_loss(cx_graph *g, const char *name, int logits, int target, int weights, float smoothing);
int cx_dice_loss(cx_graph *g, const char *name, int probability, int target, float smooth);

/* Freezes every parameter whose name matches the glob pattern ("features.*"; * and ? only); a batch_norm whose gamma and beta are both frozen
 * becomes frozen itself (running statistics are used and stay). Call before cx_store_new. Returns how many parameters matched. */
int cx_graph_freeze(cx_graph *g, const char *pattern);

/* ---- backend ----------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;                                     /* "gemm 1x1 avx512": what `cxnet plan` prints */
    bool (*accepts)(const cx_call *c);                    /* shapes, ld, attr, flags are final, data pointers may be NULL; NULL = accepts all */
    size_t (*workspace)(const cx_call *c, bool backward); /* bytes of scratch; NULL = none */
    cx_run_fn fwd, bwd;                                   /* NULL: this entry serves the other direction only. In accepts(), a backward call has
                                                             dy[0].s.c > 0 */
    size_t (*packed)(const cx_call *c);                   /* bytes of weights (with post folded in) that fwd likes to find ready in c->packed; NULL = none */
    cx_run_fn pack;                                       /* writes them. A plan without a backward pass calls it when parameters have changed */
    bool bf16;                                            /* takes CX_BF16 as x[0], y[0]; else the plan hands it float32 copies (src/graph/widen.c) */
    bool dot;                                             /* rounds its operands to bfloat16 and sums their products in float32; else all is float32. Only
                                                             for calls whose x[0] is CX_BF16. (cuDNN's also round these sums, once) */
    bool pool;                                            /* takes cx_fold.pool, where it accepts such a call; others are never asked */
} cx_impl;
static inline bool cx_impl_takes(const cx_impl *impl, const cx_call *c, bool backward)
{
    return (backward ? impl->bwd : impl->fwd) && (impl->pool || c->fold.pool.kernel == 0) && (!impl->accepts || impl->accepts(c));
}

/* One optimiser step over a flat range. g is scaled by grad_scale first (clipping). */
typedef enum { CX_SGD, CX_ADAM, CX_ADAMW } cx_optim_kind;
typedef struct {
    cx_optim_kind kind;
    double lr, momentum, beta1, beta2, eps, weight_decay; /* SGD, Adam: decay is added to the gradient; AdamW: decoupled (Loshchilov & Hutter 2019) */
    double grad_scale;
    int64_t t;                                            /* update number, from 1 (bias correction) */
} cx_update;

/* What a backend can do at most on this machine now, by loops that do nothing else. 0 where there is no such thing. */
typedef struct {
    double fp32_gflops;                                   /* multiply-adds in registers, two operations each, 1e9 a second, all threads */
    double bf16_gflops;                                   /* the same for the instruction that sums products of bfloat16 pairs in float32 */
    double read_gbs, copy_gbs;                            /* 1e9 bytes a second; copy stores past the caches, and counts bytes read and written */
    size_t memory_bytes, cache_bytes;                     /* what the two walked over; the last-level cache, 0 when unknown */
} cx_roof;

typedef struct cx_backend cx_backend;
struct cx_store;
struct cx_comm;
struct cx_stepper;
struct cx_stepper_opts;
struct cx_backend {
    const char *name;                                     /* "cpu" */
    char description[160];                                /* "AMD EPYC, avx512, 2 threads" */
    char note[600];                                       /* what who asked for "auto" should be told in one line; "" = nothing */
    int threads;
    void *self;
    cx_status (*alloc)(cx_backend *b, size_t bytes, void **p, cx_error *err);     /* 64-byte aligned, zeroed */
    void (*release)(cx_backend *b, void *p);
    cx_status (*upload)(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err);
    cx_status (*download)(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err);
    cx_status (*zero)(cx_backend *b, void *p, size_t bytes, cx_error *err);
    const cx_impl *(*impls)(cx_backend *b, cx_op_id op, int *n);                  /* ordered, best first; the reference is last and accepts all */
    cx_impl statistics;                                   /* as cx_ref_fwd_statistics, cx_ref_bwd_statistics */
    cx_impl convert;                                      /* as cx_ref_fwd_convert */
    /* n floats each. m, v: optimiser memory (SGD uses m; Adam both), zero at start. Bits do not depend on the number of threads. */
    cx_status (*update)(cx_backend *b, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v, cx_error *err);
    cx_status (*sum_squares)(cx_backend *b, int64_t n, const float *x, double *out, cx_error *err);   /* not finite when any x is not finite */
    /* Class activation maps as cx_plan_cam has them, of tensors on the device into a map on the host. NULL: the plan makes them on the host. */
    cx_status (*cam)(cx_backend *b, bool by_place, cx_tensor act, cx_tensor grad, float *map, cx_error *err);
    /* 8-bit films on their way into a network (film.h), with the bits of the host's functions that are named with each. All four are NULL where the backend is
     * the host. Pixels and draws are the device's, all other structs are read before the call returns. films queues its work and allocates nothing, so it may
     * stand in a captured step; the other three allocate and release scratch, and are for the time before training.
     *
     * cx_apply_draws (data.h): film i of the batch is draw[i] applied to films[draw[i].film] of [.., planes, side, side], planes of norm: a whole cache,
     * uploaded once, or the films of one batch. out (n, side, side, norm->channels), dense; float32, or bfloat16: the float32 rounded. n may be 0.
     * CX_E_SHAPE. */
    cx_status (*films)(cx_backend *b, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, const cx_tensor *out, cx_error *err);
    /* cx_resize with CX_RESIZE_AREA (image.h), rounded to the nearest grey: one film px [height, width] -> out [side, side]. CX_E_SHAPE, CX_E_MEMORY. */
    cx_status (*resize)(cx_backend *b, const uint8_t *px, int width, int height, int side, uint8_t *out, cx_error *err);
    /* cx_clahe_apply, cx_beasf_apply (image.h): n films px -> out, which may be px; [n, height, width], [n, n_px]. n may be 0. CX_E_SHAPE, CX_E_MEMORY. */
    cx_status (*clahe)(cx_backend *b, const cx_clahe *c, const uint8_t *px, int n, uint8_t *out, cx_error *err);
    cx_status (*beasf)(cx_backend *b, const cx_beasf *f, const uint8_t *px, int n, int n_px, uint8_t *out, cx_error *err);
    /* Takes about a second and holds memory_bytes meanwhile; the best of several tries, so a short disturbance does not show. NULL: not known. */
    cx_status (*roof)(cx_backend *b, cx_roof *out, cx_error *err);
    /* Makes the stepper of a device that runs beside the host (stepper.h). NULL: each of the calls above has done its work when it returns. */
    cx_status (*stepper)(cx_backend *b, struct cx_store *s, const struct cx_stepper_opts *o, struct cx_stepper **out, cx_error *err);
    cx_status (*finish)(cx_backend *b, cx_error *err);    /* waits for all that such a device was told to do; NULL as above */
    size_t (*free_bytes)(cx_backend *b);                  /* what alloc could still give, about. NULL: not known */
    const char *(*why)(cx_backend *b);                    /* what the device says about an operator that failed, to be asked once; "": nothing. NULL: as that */
    /* Puts a sum of its own, on the device, in the place of c's, which goes by way of the host (comm.h). NULL: there is none. CX_E_UNSUPPORTED: not here, and
     * err says why; c is as it was. All ranks or none. Closing b gives c its own back. */
    cx_status (*join)(cx_backend *b, struct cx_comm *c, cx_error *err);
    void (*close)(cx_backend *b);
};
/* "cpu", "cpu:avx2", "cpu:portable" (an instruction set at most as good as named); "cuda", "cuda:1" (a GPU); "auto" (cuda:0, or the CPU, and then `note` says
 * why); "emu" (the emulated GPU that the tests build). threads 0 = all cores this process may use; GPUs ignore it. "auto:1": as auto, with the GPU cuda:1.
 * The one place where a name becomes a table of functions. CX_E_UNSUPPORTED for any other name, with the list of names. */
cx_status cx_backend_open(const char *name, int threads, cx_backend **out, cx_error *err);
void cx_backend_close(cx_backend *b);

/* What a backend's libraries compile for a GPU (cuDNN's plans), made without that GPU and kept where the backend looks for it, so that a run there compiles
 * nothing. plan() is called with a backend that can make stores and describe plans (cx_plan_describe), and cannot run them. */
typedef cx_status (*cx_warm_fn)(cx_backend *b, void *context, cx_error *err);
typedef struct { int plans, made; char path[512], note[200]; } cx_warmed;    /* in the file, of these new; the file; what was wrong with it before, or "" */
/* name: "cuda", or "emu". device_json: the GPU's properties as cuDNN prints them. CX_E_UNSUPPORTED: no plug-in, or no cuDNN, here; CX_E_DATA: no such
 * properties; CX_E_CREATE, CX_E_IO: the file; or what plan() returned. */
cx_status cx_backend_warm(const char *name, const char *device_json, cx_warm_fn plan, void *context, cx_warmed *out, cx_error *err);

/* ---- store: arenas PARAM, GRAD, OPT, shared by every plan of a graph; ACT and WORK, as large as the largest plan wants ----------- */

typedef struct cx_store cx_store;
/* Lays out PARAM: [trainable parameters | frozen parameters | state], in graph order inside each part, each value at a multiple of 16 floats
 * (gaps are zero and stay zero). GRAD and OPT cover the trainable part only, with the same offsets. Everything starts as its init says, from
 * Philox(seed, cx_hash(value name)). The graph and the backend must outlive the store. */
cx_status cx_store_new(const cx_graph *g, cx_backend *b, uint64_t seed, cx_store **out, cx_error *err);
void cx_store_free(cx_store *s);
const cx_graph *cx_store_graph(const cx_store *s);
int64_t cx_store_trainable(const cx_store *s);            /* floats in the trainable part, gaps included */
/* Device pointers of the flat ranges; m and v are NULL until first asked for. Asking for the parameters counts as changing them: plans then prepare what they
 * keep ready (packed weights, vectors of norms) anew. Ask again before each change. */
float *cx_store_params(cx_store *s);
float *cx_store_grads(cx_store *s);
cx_status cx_store_moments(cx_store *s, float **m, float **v, cx_error *err);
cx_tensor cx_store_value(cx_store *s, int value);         /* a CX_PARAM or CX_STATE, on the device; read it, but change it by cx_store_set */
cx_tensor cx_store_grad(cx_store *s, int value);          /* p == NULL when the value is frozen */
/* Host copies of one value, cx_elems(shape) floats without gaps. */
cx_status cx_store_get(cx_store *s, int value, float *host, cx_error *err);
cx_status cx_store_set(cx_store *s, int value, const float *host, cx_error *err);

/* ---- plan -------------------------------------------------------------------------------------------------------- */

/* The passes that may be left out, by their names in `plan.fuse`. What they do to a step is stated in op.h (cx_fold) and at the top of each pass' file. */
typedef enum {
    CX_PASS_VIEWS = 1,         /* "views": a concat is one buffer whose channel slices its parts write */
    CX_PASS_RELU = 2,          /* "relu": a ReLU is a flag of the operator before it */
    CX_PASS_POOL_FIRST = 4,    /* "pool_first": average pooling before a 1x1 convolution instead of behind it */
    CX_PASS_EVAL_FOLD = 8,     /* "eval_fold": without a backward pass, a norm behind a convolution becomes part of its weights */
    CX_PASS_PROLOGUE = 16,     /* "prologue": norm and ReLU are applied by the convolution or pool that reads */
    CX_PASS_STATISTICS = 32,   /* "statistics": who writes a value delivers its mean and variance; otherwise a step of its own does */
    CX_PASS_AFFINE = 64,       /* "affine": the carries of all readers of a channel add up, and are applied by who reads the gradient last */
    CX_PASS_RECOMPUTE = 128,   /* "recompute": cheap values are dropped after the forward pass and rebuilt in the backward pass */
    CX_PASS_LIVENESS = 256,    /* "liveness": buffers that are never alive together share memory */
    CX_PASS_POOL_LAST = 512,   /* "pool_last": without a backward pass, a max pool behind a convolution is done by it, where the backend can */
    CX_PASS_ALL = 1023
} cx_pass_bits;
/* "all", "none" or names of passes separated by commas -> which to leave out. CX_E_CONFIG names a word that is no pass. */
cx_status cx_passes_parse(const char *list, unsigned *skip, cx_error *err);

typedef struct {
    int batch;                 /* >= 1 */
    bool training;             /* batch statistics and dropout */
    bool backward;             /* place gradients and build the backward schedule */
    int output;                /* value the backward pass starts from: a loss, or any value whose gradient the caller seeds. -1: the last node's.
                                  Without `backward`: the value wanted; nodes it does not need are left out */
    bool param_grads;          /* false: gradients of activations only (Grad-CAM) */
    int moments;               /* arrays that the optimiser keeps beside the gradients (cx_plan_moments): 0, SGD; 1, with momentum; 2, Adam, AdamW */
    const int *keep; int n_keep;      /* values (and, with backward, their gradients) that stay readable after the run */
    unsigned skip;             /* cx_pass_bits left out */
    bool lean;                 /* also rebuild in the backward pass what narrow 1x1 convolutions behind a norm wrote (redo.c): less memory, more work */
    bool bf16;                 /* activations between the operators lie in memory as bfloat16: half the bytes; gradients and parameters stay float32.
                                  Where the processor is fast at it, products are taken in bfloat16 too, with float32 sums (cx_impl.dot) */
    struct cx_comm *comm;      /* the films of this plan are rank's part of a batch of comm->ranks * batch films (comm.h): dropout draws as for the whole.
                                  NULL: they are all. Borrowed, for the life of the plan */
    bool sync_norm;            /* with comm, in training: norms see the statistics of the whole batch. All ranks then run the passes of this plan together.
                                  Only for norms that other steps carry out, as all of a DenseNet are (skip neither prologue nor statistics); CX_E_UNSUPPORTED
                                  names another */
} cx_plan_opts;

typedef struct cx_plan cx_plan;
/* Compiles g for `batch` on the store's backend: shapes, views, folding, steps, liveness, offsets. No allocation happens after this in a run.
 * ACT and WORK belong to the store and are shared by its plans, so what one plan computed is gone once another plan runs. CX_E_MEMORY: there is no room; of a
 * GPU err says what each arena wants, moments included, and which batch would fit. */
cx_status cx_plan_new(cx_store *s, const cx_plan_opts *opts, cx_plan **out, cx_error *err);
void cx_plan_free(cx_plan *p);
/* Inputs may be written before cx_plan_forward; `output` and kept values may be read after it, kept gradients after cx_plan_backward. Device pointers,
 * stable until another plan of the same store is created. p == NULL for a value that is not placed. */
cx_tensor cx_plan_value(cx_plan *p, int value);
cx_tensor cx_plan_grad(cx_plan *p, int value);
/* Host copies of a value or gradient, gathered from its slice: cx_elems floats. */
cx_status cx_plan_get(cx_plan *p, int value, float *host, cx_error *err);
cx_status cx_plan_get_grad(cx_plan *p, int value, float *host, cx_error *err);
cx_status cx_plan_set(cx_plan *p, int value, const float *host, cx_error *err);       /* an input */
/* The seed of the backward pass: the gradient of `output`. Of a loss it is 1 at first and stays as it was set last; of another value, set before each run. */
cx_status cx_plan_set_grad(cx_plan *p, int value, const float *host, cx_error *err);
/* Where a kept value speaks for the output: map [films, H, W], on the host, <- max(0, sum over channels of value * weight), for the first `films` of the batch.
 * The weight is the value's gradient at the place (by_place) or its mean over the film, as cx_plan_backward left it. Call it between that and the next forward
 * pass. CX_E_USAGE: the value, or its gradient, is not kept. */
cx_status cx_plan_cam(cx_plan *p, int value, bool by_place, int films, float *map, cx_error *err);
/* seed and step feed dropout. Forward writes running statistics when training. Backward writes (not adds) all parameter gradients. It uses up
 * what forward stored: one backward pass for each forward pass, with no other plan of the store run in between (CX_E_USAGE otherwise). Inputs and seed stay. */
cx_status cx_plan_forward(cx_plan *p, uint64_t seed, uint64_t step, cx_error *err);
cx_status cx_plan_backward(cx_plan *p, cx_error *err);

typedef struct {
    int n_steps;
    size_t param_bytes, grad_bytes, opt_bytes, act_bytes, work_bytes;
    size_t prepared_bytes;     /* the plan's own: packed weights and vectors that stay true from run to run */
    size_t moved_bytes;        /* read and written by all steps, each tensor once a step */
    int64_t flops_forward, flops_backward;
} cx_plan_stats;
/* The store's moments that opts.moments asks for, NULL for the others. */
cx_status cx_plan_moments(cx_plan *p, float **m, float **v, cx_error *err);
/* Compiles and describes a plan without any memory for numbers. */
cx_status cx_plan_describe(cx_store *s, const cx_plan_opts *opts, cx_plan_stats *out, cx_error *err);
cx_plan_stats cx_plan_get_stats(const cx_plan *p);
/* One row a step. `i` runs over n_steps: forward, then backward. seconds: measured, summed while profiling is on; 0 otherwise. */
typedef struct {
    const char *phase, *node, *op, *impl;
    cx_shape out;
    size_t bytes_read, bytes_written;
    int64_t flops;
    double seconds;
    bool folded_relu, dot;     /* dot: cx_impl.dot */
    char folds[64];            /* what else is folded in: "pre+relu stats carry"; "" = nothing */
} cx_step_info;
cx_step_info cx_plan_step(const cx_plan *p, int i);
void cx_plan_profile(cx_plan *p, bool on);                /* on: a device is waited for behind each step */
void cx_plan_print(const cx_plan *p, FILE *f);            /* the table that `cxnet plan` shows */

#ifdef __cplusplus
}
#endif
#endif
