/* misuse.h - wrong uses of cuDNN's backend API, which the real library and the stand-in of the emulated GPU must both refuse, so that code which runs on the
 * one is not refused by the other. */
#ifndef CX_TESTS_CUDA_MISUSE_H
#define CX_TESTS_CUDA_MISUSE_H
#include "cuda/cudnn_api.h"
#include "cuda/library.h"
#include "support.h"

static inline bool misuse_open(cx_cudnn_api *a)
{
    static const char *const names[] = { "libcudnn.so.9", NULL };
    cx_symbol symbols[] = {
#define CALL(name) { #name, NULL },
        CX_CUDNN_CALLS(CALL)
#undef CALL
    };
    int i = 0;
    if (cx_library_open("CXNET_CUDNN", names, symbols, CX_COUNT(symbols), NULL) != CX_OK)
        return false;
#define CALL(name) memcpy(&a->name, &symbols[i++].address, sizeof a->name);
    CX_CUDNN_CALLS(CALL)
#undef CALL
    return true;
}

#define MISUSE_TAKEN(call) assert_int_equal((call), CUDNN_STATUS_SUCCESS)
#define MISUSE_REFUSED(call) do { if ((call) == CUDNN_STATUS_SUCCESS) fail_msg("taken: %s", #call); } while (0)

static inline cudnnBackendDescriptor_t misuse_make(const cx_cudnn_api *a, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    MISUSE_TAKEN(a->cudnnBackendCreateDescriptor(type, &d));
    return d;
}

static inline cudnnBackendDescriptor_t misuse_tensor(const cx_cudnn_api *a, int64_t uid)
{
    const int64_t dims[] = { 2, 8, 4, 4 }, strides[] = { 128, 1, 32, 8 }, alignment = 16;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t d = misuse_make(a, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    return d;
}

static inline void misuse_of_tensors(const cx_cudnn_api *a)
{
    const int64_t four[] = { 2, 8, 4, 4 };
    const cudnnDataType_t types[] = { CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT };
    cudnnBackendDescriptor_t d = misuse_make(a, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    MISUSE_REFUSED(a->cudnnBackendFinalize(d));                         /* nothing set */
    MISUSE_REFUSED(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_DATA_TYPE, 4, four));
    MISUSE_REFUSED(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 2, types));
    MISUSE_REFUSED(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, NULL));
    MISUSE_REFUSED(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, four));
    (void)a->cudnnBackendDestroyDescriptor(d);
    d = misuse_tensor(a, 1);
    MISUSE_TAKEN(a->cudnnBackendFinalize(d));
    MISUSE_REFUSED(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, four));
    (void)a->cudnnBackendDestroyDescriptor(d);
}

/* A convolution of these, finalized; NULL leaves one out. A library may refuse at once, or when it finalizes. */
static inline cudnnStatus_t misuse_convolve(const cx_cudnn_api *a, cudnnBackendDescriptor_t window, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y)
{
    const struct { cudnnBackendAttributeName_t name; cudnnBackendDescriptor_t d; } parts[] = {
        { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, window }, { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w }, { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y },
    };
    const float alpha = 1, beta = 0;
    cudnnBackendDescriptor_t op = misuse_make(a, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    cudnnStatus_t s = CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < CX_COUNT(parts) && s == CUDNN_STATUS_SUCCESS; i++)
        if (parts[i].d)
            s = a->cudnnBackendSetAttribute(op, parts[i].name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &parts[i].d);
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &alpha));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &beta));
    if (s == CUDNN_STATUS_SUCCESS)
        s = a->cudnnBackendFinalize(op);
    (void)a->cudnnBackendDestroyDescriptor(op);
    return s;
}

/* 8 channels to 8, 1x1. */
static inline cudnnBackendDescriptor_t misuse_window(const cx_cudnn_api *a)
{
    const int64_t two = 2, ones[] = { 1, 1 }, none[] = { 0, 0 };
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t d = misuse_make(a, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, none));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, none));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, ones));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones));
    return d;
}

static inline cudnnBackendDescriptor_t misuse_weights(const cx_cudnn_api *a)
{
    const int64_t dims[] = { 8, 8, 1, 1 }, strides[] = { 8, 1, 8, 8 };
    cudnnBackendDescriptor_t d = misuse_tensor(a, 2);
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
    MISUSE_TAKEN(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides));
    MISUSE_TAKEN(a->cudnnBackendFinalize(d));
    return d;
}

static inline void misuse_of_operations(const cx_cudnn_api *a)
{
    cudnnBackendDescriptor_t window = misuse_window(a), x = misuse_tensor(a, 1), w = misuse_weights(a), y = misuse_tensor(a, 3), open = misuse_tensor(a, 1);
    cudnnBackendDescriptor_t graph = misuse_make(a, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), plan = misuse_make(a, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    const cudnnBackendDescriptor_t all[] = { window, x, w, y, open, graph, plan };
    int64_t n = 0, bytes = 0;
    MISUSE_TAKEN(a->cudnnBackendFinalize(x));
    MISUSE_TAKEN(a->cudnnBackendFinalize(y));
    MISUSE_REFUSED(misuse_convolve(a, window, x, w, y));                /* not finalized */
    MISUSE_TAKEN(a->cudnnBackendFinalize(window));
    MISUSE_TAKEN(misuse_convolve(a, window, x, w, y));
    MISUSE_REFUSED(misuse_convolve(a, NULL, x, w, y));
    MISUSE_REFUSED(misuse_convolve(a, window, x, w, NULL));
    MISUSE_REFUSED(misuse_convolve(a, window, open, w, y));
    MISUSE_REFUSED(a->cudnnBackendFinalize(graph));
    MISUSE_REFUSED(a->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes));
    MISUSE_REFUSED(a->cudnnBackendFinalize(plan));
    for (int i = 0; i < CX_COUNT(all); i++)
        (void)a->cudnnBackendDestroyDescriptor(all[i]);
}

static inline void misuse_of_properties(const cx_cudnn_api *a)
{
    static const char *const wrong[] = { "no JSON", "{}", "{\"deviceVer\": 900}" };
    for (int i = 0; i < CX_COUNT(wrong); i++) {
        cudnnBackendDescriptor_t d = misuse_make(a, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
        MISUSE_REFUSED(a->cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(wrong[i]), wrong[i]) ==
                               CUDNN_STATUS_SUCCESS ? a->cudnnBackendFinalize(d) : CUDNN_STATUS_BAD_PARAM);
        (void)a->cudnnBackendDestroyDescriptor(d);
    }
}

/* Skips where there is no cuDNN. */
static inline void test_misuse_is_refused(void **state)
{
    (void)state;
    cx_cudnn_api a = { .cudnnGetVersion = NULL };
    if (!misuse_open(&a))
        skip();
    misuse_of_tensors(&a);
    misuse_of_operations(&a);
    misuse_of_properties(&a);
}
#endif
