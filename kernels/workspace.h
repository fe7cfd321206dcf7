/* workspace.h - the scratch that launchers want (cx_impl.workspace): bytes of c->work, from shapes, attributes and folds only. Plain C. Depends on op.h. */
#ifndef CX_CUDA_WORKSPACE_H
#define CX_CUDA_WORKSPACE_H
#include "cxnet/op.h"
#ifdef __cplusplus
extern "C" {
#endif

size_t cx_cuda_workspace_conv2d(const cx_call *c, bool backward);
size_t cx_cuda_workspace_conv2d_dot(const cx_call *c, bool backward);
size_t cx_cuda_workspace_conv2d_stem(const cx_call *c, bool backward);
size_t cx_cuda_workspace_conv_transpose2d(const cx_call *c, bool backward);
size_t cx_cuda_workspace_conv_transpose2d_dot(const cx_call *c, bool backward);
size_t cx_cuda_workspace_linear(const cx_call *c, bool backward);
size_t cx_cuda_workspace_batch_norm(const cx_call *c, bool backward);
size_t cx_cuda_workspace_statistics(const cx_call *c, bool backward);       /* cx_backend.statistics */
size_t cx_cuda_workspace_pool(const cx_call *c, bool backward);             /* max_pool, avg_pool */
size_t cx_cuda_workspace_global_avg_pool(const cx_call *c, bool backward);
size_t cx_cuda_workspace_loss(const cx_call *c, bool backward);             /* any of the three */

#ifdef __cplusplus
}
#endif
#endif
