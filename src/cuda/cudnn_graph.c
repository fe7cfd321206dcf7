/* cudnn_graph.c - see cudnn_graph.h. cuDNN's backend API: descriptors are made, given attributes, finalized, and refer to each other. Three places differ
 * between a handle and the properties of a device: the graph, the heuristics, and a plan that is loaded. */
#include "cudnn_graph.h"
#include <stdlib.h>
#include <string.h>
#include "cudnn_api.h"
#include "cxnet/base.h"
#include "library.h"

enum { ALIGNMENT = 16, UID_X = 1, UID_W = 2, UID_Y = 3, MOST_CONFIGS = 64, MOST_MADE = 16, OLDEST = 90000 };

struct cx_cudnn_device {
    cx_cudnn_api api;
    cudnnHandle_t handle;                       /* NULL until needed, or for ever */
    cudnnBackendDescriptor_t properties;        /* NULL where there is a GPU */
};

/* What a plan refers to lives as long as the plan. */
struct cx_cudnn_plan {
    cx_cudnn_device *device;
    cudnnBackendDescriptor_t made[MOST_MADE], plan;
    int n_made;
    size_t workspace;
    char *json;
};

/* ---- the library ---------------------------------------------------------------------------------------------------- */

static cx_status cudnn_fail(const cx_cudnn_device *d, cx_error *err, cx_status s, cudnnStatus_t e, const char *what)
{
    return cx_fail(err, s, "cudnn: %s: %s", what, d->api.cudnnGetErrorString(e));
}

static cx_status load_library(cx_cudnn_api *api, cx_error *err)
{
    static const char *const names[] = { "libcudnn.so.9", NULL };
    cx_symbol symbols[] = {
#define CALL(name) { #name, NULL },
        CX_CUDNN_CALLS(CALL)
#undef CALL
    };
    int i = 0;
    TRY(cx_library_open("CXNET_CUDNN", names, symbols, CX_COUNT(symbols), err));
#define CALL(name) memcpy(&api->name, &symbols[i++].address, sizeof api->name);
    CX_CUDNN_CALLS(CALL)
#undef CALL
    return CX_OK;
}

static cx_status make_properties(cx_cudnn_device *d, const char *json, cx_error *err)
{
    const cx_cudnn_api *a = &d->api;
    cudnnStatus_t e = a->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d->properties);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendSetAttribute(d->properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendFinalize(d->properties);
    return e == CUDNN_STATUS_SUCCESS ? CX_OK : cudnn_fail(d, err, CX_E_DATA, e, "the properties of the device");
}

cx_status cx_cudnn_device_new(const char *device_json, cx_cudnn_device **out, cx_error *err)
{
    *out = NULL;
    cx_cudnn_device *d = cx_alloc(1, sizeof *d);
    if (!d)
        return cx_fail(err, CX_E_MEMORY, "cudnn: out of memory");
    cx_status s = load_library(&d->api, err);
    if (s == CX_OK && cx_cudnn_version(d) < OLDEST)
        s = cx_fail(err, CX_E_UNSUPPORTED, "cuDNN %d is older than 9", cx_cudnn_version(d));
    if (s == CX_OK && device_json)
        s = make_properties(d, device_json, err);
    if (s != CX_OK) {
        cx_cudnn_device_free(d);
        return s;
    }
    *out = d;
    return CX_OK;
}

void cx_cudnn_device_free(cx_cudnn_device *d)
{
    if (d && d->properties)
        (void)d->api.cudnnBackendDestroyDescriptor(d->properties);
    if (d && d->handle)
        (void)d->api.cudnnDestroy(d->handle);
    free(d);
}

int cx_cudnn_version(const cx_cudnn_device *d) { return (int)d->api.cudnnGetVersion(); }

static cx_status need_handle(cx_cudnn_device *d, cx_error *err)
{
    if (d->handle || d->properties)
        return CX_OK;
    const cudnnStatus_t e = d->api.cudnnCreate(&d->handle);
    return e == CUDNN_STATUS_SUCCESS ? CX_OK : cudnn_fail(d, err, CX_E_UNSUPPORTED, e, "opening it");
}

/* ---- descriptions --------------------------------------------------------------------------------------------------- */

bool cx_cudnn_conv_eq(const cx_cudnn_conv *a, const cx_cudnn_conv *b)
{
    return a->kind == b->kind && a->type == b->type && cx_shape_eq(a->x, b->x) && cx_shape_eq(a->w, b->w) && cx_shape_eq(a->y, b->y) && a->x_ld == b->x_ld &&
           a->y_ld == b->y_ld && a->stride == b->stride && a->pad_top == b->pad_top && a->pad_bottom == b->pad_bottom && a->pad_left == b->pad_left &&
           a->pad_right == b->pad_right;
}

static const char *const kinds[] = { "fprop", "dgrad", "wgrad" };
#define L(v) (long long)(v)

void cx_cudnn_conv_print(const cx_cudnn_conv *g, char out[CX_CUDNN_TEXT])
{
    snprintf(out, CX_CUDNN_TEXT, "%s %s x %lldx%lldx%lldx%lld w %lldx%lldx%lldx%lld y %lldx%lldx%lldx%lld stride %d pad %d %d %d %d ld %lld %lld",
             kinds[g->kind], g->type == CX_BF16 ? "bf16" : "f32", L(g->x.n), L(g->x.h), L(g->x.w), L(g->x.c), L(g->w.n), L(g->w.h), L(g->w.w), L(g->w.c),
             L(g->y.n), L(g->y.h), L(g->y.w), L(g->y.c), g->stride, g->pad_top, g->pad_bottom, g->pad_left, g->pad_right, L(g->x_ld), L(g->y_ld));
}

bool cx_cudnn_conv_parse(const char *text, cx_cudnn_conv *out)
{
    char kind[8], type[8], again[CX_CUDNN_TEXT];
    long long v[14];
    *out = (cx_cudnn_conv){ .kind = CX_CUDNN_FPROP };
    if (sscanf(text, "%7s %7s x %lldx%lldx%lldx%lld w %lldx%lldx%lldx%lld y %lldx%lldx%lldx%lld stride %d pad %d %d %d %d ld %lld %lld", kind, type, &v[0],
               &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11], &out->stride, &out->pad_top, &out->pad_bottom,
               &out->pad_left, &out->pad_right, &v[12], &v[13]) != 21)
        return false;
    while (out->kind < CX_CUDNN_WGRAD && strcmp(kind, kinds[out->kind]) != 0)
        out->kind++;
    out->type = strcmp(type, "bf16") == 0 ? CX_BF16 : CX_F32;
    out->x = (cx_shape){ v[0], v[1], v[2], v[3] };
    out->w = (cx_shape){ v[4], v[5], v[6], v[7] };
    out->y = (cx_shape){ v[8], v[9], v[10], v[11] };
    out->x_ld = v[12];
    out->y_ld = v[13];
    cx_cudnn_conv_print(out, again);
    return strcmp(text, again) == 0;
}

static int64_t places(int64_t size, int64_t window, int stride, int before, int after) { return (size + before + after - window) / stride + 1; }

static cx_status check(const cx_cudnn_conv *g, cx_error *err)
{
    char text[CX_CUDNN_TEXT];
    const cx_shape *all[] = { &g->x, &g->w, &g->y };
    const char *wrong = NULL;
    for (int i = 0; i < CX_COUNT(all); i++)
        if (all[i]->n < 1 || all[i]->h < 1 || all[i]->w < 1 || all[i]->c < 1 || cx_elems(*all[i]) > INT32_MAX)
            wrong = "a side that is no number of cuDNN's";
    if (!wrong && (g->w.c != g->x.c || g->w.n != g->y.c))
        wrong = "channels that do not fit";
    else if (!wrong && (g->x_ld < g->x.c || g->y_ld < g->y.c))
        wrong = "pixels that overlap";
    else if (!wrong && (g->stride < 1 || g->pad_top < 0 || g->pad_bottom < 0 || g->pad_left < 0 || g->pad_right < 0))
        wrong = "a stride below 1, or a negative padding";
    else if (!wrong && (g->x.h + g->pad_top + g->pad_bottom < g->w.h || g->x.w + g->pad_left + g->pad_right < g->w.w || g->x.n != g->y.n ||
                        places(g->x.h, g->w.h, g->stride, g->pad_top, g->pad_bottom) != g->y.h ||
                        places(g->x.w, g->w.w, g->stride, g->pad_left, g->pad_right) != g->y.w))
        wrong = "a y that is not of this window";
    if (!wrong)
        return CX_OK;
    cx_cudnn_conv_print(g, text);
    return cx_fail(err, CX_E_SHAPE, "cudnn: %s has %s", text, wrong);
}

/* ---- building: the first failure stays, and what follows it does nothing ---------------------------------------------- */

typedef struct { cx_cudnn_plan *p; const cx_cudnn_api *api; cudnnStatus_t e; const char *what; } builder;
#define DESCRIPTOR CUDNN_TYPE_BACKEND_DESCRIPTOR

static void note(builder *b, cudnnStatus_t e, const char *what)
{
    if (b->e == CUDNN_STATUS_SUCCESS && e != CUDNN_STATUS_SUCCESS) {
        b->e = e;
        b->what = what;
    }
}

static cudnnBackendDescriptor_t make(builder *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (b->e != CUDNN_STATUS_SUCCESS)
        return NULL;
    note(b, b->p->n_made < MOST_MADE ? b->api->cudnnBackendCreateDescriptor(type, &d) : CUDNN_STATUS_INTERNAL_ERROR, "making a descriptor");
    if (d)
        b->p->made[b->p->n_made++] = d;
    return d;
}

static void set(builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    if (b->e == CUDNN_STATUS_SUCCESS)
        note(b, b->api->cudnnBackendSetAttribute(d, name, type, n, value), "setting an attribute");
}

static cudnnBackendDescriptor_t finalized(builder *b, cudnnBackendDescriptor_t d, const char *what)
{
    if (b->e == CUDNN_STATUS_SUCCESS)
        note(b, b->api->cudnnBackendFinalize(d), what);
    return d;
}

/* dims: n, c, h, w, whatever lies beside what. */
static cudnnBackendDescriptor_t tensor(builder *b, cx_dtype type, int64_t uid, cx_shape s, int64_t ld)
{
    const int64_t dims[] = { s.n, s.c, s.h, s.w }, strides[] = { s.h * s.w * ld, 1, s.w * ld, ld }, alignment = ALIGNMENT;
    const cudnnDataType_t t = type == CX_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    return finalized(b, d, "a tensor");
}

static cudnnBackendDescriptor_t window(builder *b, const cx_cudnn_conv *g)
{
    const int64_t two = 2, strides[] = { g->stride, g->stride }, dilations[] = { 1, 1 };
    const int64_t before[] = { g->pad_top, g->pad_left }, after[] = { g->pad_bottom, g->pad_right };
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    return finalized(b, d, "a window");
}

/* The attributes of the three operations, in the order of cx_cudnn_kind. */
static const struct { cudnnBackendDescriptorType_t op; cudnnBackendAttributeName_t window, x, w, y, alpha, beta; } names[] = {
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
};

static cudnnBackendDescriptor_t graph(builder *b, const cx_cudnn_conv *g)
{
    const float alpha = 1, beta = 0;
    cudnnBackendDescriptor_t x = tensor(b, g->type, UID_X, g->x, g->x_ld), w = tensor(b, g->type, UID_W, g->w, g->w.c);
    cudnnBackendDescriptor_t y = tensor(b, g->type, UID_Y, g->y, g->y_ld), conv = window(b, g), op = make(b, names[g->kind].op);
    set(b, op, names[g->kind].window, DESCRIPTOR, 1, &conv);
    set(b, op, names[g->kind].x, DESCRIPTOR, 1, &x);
    set(b, op, names[g->kind].w, DESCRIPTOR, 1, &w);
    set(b, op, names[g->kind].y, DESCRIPTOR, 1, &y);
    set(b, op, names[g->kind].alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    set(b, op, names[g->kind].beta, CUDNN_TYPE_FLOAT, 1, &beta);
    finalized(b, op, "the operation");
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (b->p->device->handle)
        set(b, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->p->device->handle);
    set(b, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, DESCRIPTOR, 1, &op);
    return finalized(b, d, "the graph");
}

/* ---- engines -------------------------------------------------------------------------------------------------------- */

/* Scratch known, JSON at hand. */
static cudnnStatus_t read_plan(cx_cudnn_plan *p)
{
    const cx_cudnn_api *a = &p->device->api;
    int64_t n = 0, bytes = 0;
    cudnnStatus_t e = a->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes);
    p->workspace = (size_t)bytes;
    if (e != CUDNN_STATUS_SUCCESS || bytes < 0 || bytes > CX_CUDNN_MOST_WORKSPACE)
        return e != CUDNN_STATUS_SUCCESS ? e : CUDNN_STATUS_NOT_SUPPORTED;
    e = a->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, NULL);
    if (e != CUDNN_STATUS_SUCCESS)
        return e;
    free(p->json);
    p->json = cx_alloc((size_t)n + 1, 1);
    return p->json ? a->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n, &n, p->json)
                   : CUDNN_STATUS_INTERNAL_ERROR;
}

static void drop_plan(cx_cudnn_plan *p)
{
    if (p->plan)
        (void)p->device->api.cudnnBackendDestroyDescriptor(p->plan);
    p->plan = NULL;
}

/* Engines that other bits come out of each time, or that compute in less than what was asked for. */
static bool is_wanted(const cx_cudnn_api *a, cudnnBackendDescriptor_t config, cx_dtype type)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = NULL;
    int64_t n = 0;
    bool wanted = a->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) == CUDNN_STATUS_SUCCESS &&
                  a->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, DESCRIPTOR, 1, &n, &engine) == CUDNN_STATUS_SUCCESS &&
                  a->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CX_COUNT(notes), &n, notes) ==
                      CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; wanted && i < n; i++)
        wanted = notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC && notes[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
                 notes[i] != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS && notes[i] != CUDNN_NUMERICAL_NOTE_FFT &&
                 notes[i] != CUDNN_NUMERICAL_NOTE_WINOGRAD && !(type == CX_F32 && notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    if (engine)
        (void)a->cudnnBackendDestroyDescriptor(engine);
    return wanted;
}

/* The plan of one engine, if it can be had. */
static bool try_config(cx_cudnn_plan *p, cudnnBackendDescriptor_t config)
{
    const cx_cudnn_api *a = &p->device->api;
    cudnnStatus_t e = a->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->plan);
    if (e == CUDNN_STATUS_SUCCESS && p->device->handle)
        e = a->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->device->handle);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, DESCRIPTOR, 1, &config);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendFinalize(p->plan);
    if (e == CUDNN_STATUS_SUCCESS)
        e = read_plan(p);
    if (e == CUDNN_STATUS_SUCCESS)
        return true;
    drop_plan(p);
    return false;
}

/* One after the other what the heuristics suggest; the config that is taken stays with the plan. */
static void try_mode(builder *b, cudnnBackendDescriptor_t ops, cudnnBackendHeurMode_t mode, cx_dtype type)
{
    cudnnBackendDescriptor_t config[MOST_CONFIGS] = { NULL }, heuristics = make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t n = 0;
    set(b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, DESCRIPTOR, 1, &ops);
    set(b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (b->p->device->properties)
        set(b, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, DESCRIPTOR, 1, &b->p->device->properties);
    finalized(b, heuristics, "the heuristics");
    for (int i = 0; b->e == CUDNN_STATUS_SUCCESS && i < MOST_CONFIGS; i++)
        note(b, b->api->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[i]), "making a descriptor");
    if (b->e == CUDNN_STATUS_SUCCESS)
        note(b, b->api->cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, DESCRIPTOR, MOST_CONFIGS, &n, config), "the heuristics' results");
    for (int i = 0; b->e == CUDNN_STATUS_SUCCESS && !b->p->plan && i < n && i < MOST_CONFIGS; i++)
        if (is_wanted(b->api, config[i], type) && try_config(b->p, config[i])) {
            b->p->made[b->p->n_made++] = config[i];
            config[i] = NULL;
        }
    for (int i = 0; i < MOST_CONFIGS; i++)
        if (config[i])
            (void)b->api->cudnnBackendDestroyDescriptor(config[i]);
}

cx_status cx_cudnn_plan_new(cx_cudnn_device *d, const cx_cudnn_conv *g, cx_cudnn_plan **out, cx_error *err)
{
    char text[CX_CUDNN_TEXT];
    *out = NULL;
    TRY(check(g, err));
    TRY(need_handle(d, err));
    cx_cudnn_plan *p = cx_alloc(1, sizeof *p);
    if (!p)
        return cx_fail(err, CX_E_MEMORY, "cudnn: out of memory");
    p->device = d;
    builder b = { p, &d->api, CUDNN_STATUS_SUCCESS, "" };
    cudnnBackendDescriptor_t ops = graph(&b, g);
    try_mode(&b, ops, CUDNN_HEUR_MODE_A, g->type);
    if (!p->plan) {
        b.e = CUDNN_STATUS_SUCCESS;                     /* what the first mode could not say, the second may */
        try_mode(&b, ops, CUDNN_HEUR_MODE_FALLBACK, g->type);
    }
    if (p->plan) {
        *out = p;
        return CX_OK;
    }
    cx_cudnn_plan_free(p);
    cx_cudnn_conv_print(g, text);
    return b.e != CUDNN_STATUS_SUCCESS ? cudnn_fail(d, err, CX_E_UNSUPPORTED, b.e, b.what) : cx_fail(err, CX_E_UNSUPPORTED, "cudnn: no engine for %s", text);
}

cx_status cx_cudnn_plan_load(cx_cudnn_device *d, const char *json, cx_cudnn_plan **out, cx_error *err)
{
    *out = NULL;
    TRY(need_handle(d, err));
    cx_cudnn_plan *p = cx_alloc(1, sizeof *p);
    if (!p)
        return cx_fail(err, CX_E_MEMORY, "cudnn: out of memory");
    p->device = d;
    const cx_cudnn_api *a = &d->api;
    cudnnStatus_t e = a->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->plan);
    if (e == CUDNN_STATUS_SUCCESS)
        e = d->handle ? a->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &d->handle)
                      : a->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, DESCRIPTOR, 1, &d->properties);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendFinalize(p->plan);
    if (e == CUDNN_STATUS_SUCCESS)
        e = read_plan(p);
    if (e != CUDNN_STATUS_SUCCESS) {
        cx_cudnn_plan_free(p);
        return cudnn_fail(d, err, CX_E_DATA, e, "a stored plan");
    }
    *out = p;
    return CX_OK;
}

void cx_cudnn_plan_free(cx_cudnn_plan *p)
{
    if (!p)
        return;
    drop_plan(p);
    while (p->n_made > 0)
        (void)p->device->api.cudnnBackendDestroyDescriptor(p->made[--p->n_made]);
    free(p->json);
    free(p);
}

size_t cx_cudnn_plan_workspace(const cx_cudnn_plan *p) { return p->workspace; }
const char *cx_cudnn_plan_json(const cx_cudnn_plan *p) { return p->json; }

cx_status cx_cudnn_plan_run(const cx_cudnn_plan *p, void *stream, void *x, void *w, void *y, void *workspace)
{
    const cx_cudnn_api *a = &p->device->api;
    const int64_t uids[] = { UID_X, UID_W, UID_Y };
    void *data[] = { x, w, y };
    cudnnBackendDescriptor_t pack = NULL;
    if (!p->device->handle)
        return CX_E_INTERNAL;
    cudnnStatus_t e = a->cudnnSetStream(p->device->handle, (cudaStream_t)stream);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, CX_COUNT(uids), uids);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, CX_COUNT(data), data);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendFinalize(pack);
    if (e == CUDNN_STATUS_SUCCESS)
        e = a->cudnnBackendExecute(p->device->handle, p->plan, pack);
    if (pack)
        (void)a->cudnnBackendDestroyDescriptor(pack);
    return e == CUDNN_STATUS_SUCCESS ? CX_OK : CX_E_INTERNAL;
}
