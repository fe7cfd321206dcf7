/* cudnn_conv.h - convolutions by cuDNN as implementations of conv2d and conv_transpose2d, and the plans that they have made, by shape. Depends on graph.h. */
#ifndef CX_CUDNN_CONV_H
#define CX_CUDNN_CONV_H
#include "cudnn_graph.h"
#include "cxnet/graph.h"

/* Plans by shape, made when first asked for. One thread at a time. */
typedef struct cx_cudnn cx_cudnn;
/* device_json: as cx_cudnn_device_new. folder, device: plans are kept in folder/cudnn-VERSION-DEVICE.json, from which they are read and to which cx_cudnn_close
 * writes them when there are new ones; folder NULL: nowhere. note: what there is to tell about that file, one line, "" if nothing. */
cx_status cx_cudnn_open(const char *device_json, const char *folder, const char *device, cx_cudnn **out, char note[200], cx_error *err);
/* CX_E_IO, CX_E_CREATE: the plans could not be kept. Frees in any case; NULL is fine. */
cx_status cx_cudnn_close(cx_cudnn *c, cx_error *err);
const char *cx_cudnn_path(const cx_cudnn *c);       /* "" when plans are kept nowhere */
/* How many plans there are, and how many of them were made since cx_cudnn_open. */
int cx_cudnn_count(const cx_cudnn *c, int *made);
/* The plan of a shape; NULL when cuDNN has none. Belongs to c. */
const cx_cudnn_plan *cx_cudnn_find(cx_cudnn *c, const cx_cudnn_conv *g);

/* Implementations for op, best first: with operands rounded to bf16 for x[0] in bf16, and in float32. They accept calls whose c->self is a cx_cuda_handle with
 * cuDNN in it. *n is 0 for other operators. */
const cx_impl *cx_cudnn_impls(cx_op_id op, int *n);

#endif
