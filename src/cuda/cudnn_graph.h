/* cudnn_graph.h - one convolution as a graph of cuDNN's backend API, from its description to a plan that runs. The same code makes plans on a GPU and, from
 * the properties of one, on a machine without. Depends on op.h; cuDNN itself is opened at run time (library.h). One thread at a time. */
#ifndef CX_CUDNN_GRAPH_H
#define CX_CUDNN_GRAPH_H
#include "cxnet/op.h"

/* Whose plans are made: a GPU by a handle, or only its properties. */
typedef struct cx_cudnn_device cx_cudnn_device;
/* device_json NULL: the current device of the CUDA runtime; its handle, which takes a while to make, is made when first needed.
 * Otherwise cuDNN's own JSON of a device (tests/cuda/h100.json shows all keys that it wants), and nothing can be run.
 * CX_E_UNSUPPORTED: no cuDNN here; CX_E_DATA: no such device properties. Free with cx_cudnn_device_free. */
cx_status cx_cudnn_device_new(const char *device_json, cx_cudnn_device **out, cx_error *err);
void cx_cudnn_device_free(cx_cudnn_device *d);
/* As cudnnGetVersion: 91900 is 9.19.0. */
int cx_cudnn_version(const cx_cudnn_device *d);

/* Names as for conv2d: FPROP makes y of x and w, DGRAD x of y and w, WGRAD w of x and y. */
typedef enum { CX_CUDNN_FPROP, CX_CUDNN_DGRAD, CX_CUDNN_WGRAD } cx_cudnn_kind;
/* x and y NHWC with pixels x_ld, y_ld apart; w (channels of y, KH, KW, channels of x), dense. All three of `type`, CX_BF16 or CX_F32, summed in float32;
 * CX_F32 means float32 throughout, never TF32. */
typedef struct {
    cx_cudnn_kind kind;
    cx_dtype type;
    cx_shape x, w, y;
    int64_t x_ld, y_ld;
    int stride, pad_top, pad_bottom, pad_left, pad_right;
} cx_cudnn_conv;
bool cx_cudnn_conv_eq(const cx_cudnn_conv *a, const cx_cudnn_conv *b);
/* "dgrad bf16 x 16x224x224x32 w 32x3x3x32 y 16x224x224x32 stride 1 pad 1 1 1 1 ld 32 32" */
enum { CX_CUDNN_TEXT = 240 };
void cx_cudnn_conv_print(const cx_cudnn_conv *g, char out[CX_CUDNN_TEXT]);
/* The reverse. False: no such text. */
bool cx_cudnn_conv_parse(const char *text, cx_cudnn_conv *out);

/* A finalized execution plan: the first of cuDNN's suggestions whose engine gives the same bits every time, keeps to the arithmetic above, and wants no more
 * scratch than CX_CUDNN_MOST_WORKSPACE. */
enum { CX_CUDNN_MOST_WORKSPACE = 128 << 20 };
typedef struct cx_cudnn_plan cx_cudnn_plan;
/* Checks first what cuDNN lets pass: channels that do not fit (which it would take for groups), pixels that overlap, sizes that are not those of the window:
 * CX_E_SHAPE. CX_E_UNSUPPORTED: no engine. Free with cx_cudnn_plan_free, before the device. */
cx_status cx_cudnn_plan_new(cx_cudnn_device *d, const cx_cudnn_conv *g, cx_cudnn_plan **out, cx_error *err);
/* A plan from what cx_cudnn_plan_json gave, on the same kind of device and version. CX_E_DATA: not such a text. */
cx_status cx_cudnn_plan_load(cx_cudnn_device *d, const char *json, cx_cudnn_plan **out, cx_error *err);
void cx_cudnn_plan_free(cx_cudnn_plan *p);
size_t cx_cudnn_plan_workspace(const cx_cudnn_plan *p);      /* bytes */
const char *cx_cudnn_plan_json(const cx_cudnn_plan *p);      /* the plan's own */
/* Queues it on `stream`. x, w, y, and workspace where some is wanted, are device memory at multiples of 16 bytes. CX_E_INTERNAL: cuDNN refused. */
cx_status cx_cudnn_plan_run(const cx_cudnn_plan *p, void *stream, void *x, void *w, void *y, void *workspace);

#endif
