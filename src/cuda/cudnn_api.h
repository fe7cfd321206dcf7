/* cudnn_api.h - the calls of cuDNN that this backend makes, found at run time (library.h): cuDNN is never linked, and where it is absent all else works. */
#ifndef CX_CUDNN_API_H
#define CX_CUDNN_API_H
#include <cudnn.h>

#define CX_CUDNN_CALLS(CALL) \
    CALL(cudnnGetVersion) CALL(cudnnGetErrorString) CALL(cudnnCreate) CALL(cudnnDestroy) CALL(cudnnSetStream) CALL(cudnnBackendCreateDescriptor) \
    CALL(cudnnBackendDestroyDescriptor) CALL(cudnnBackendSetAttribute) CALL(cudnnBackendGetAttribute) CALL(cudnnBackendFinalize) CALL(cudnnBackendExecute)

#ifndef __cplusplus      /* where a member must not be named like what it is made of */
typedef struct {
#define CALL(name) __typeof__(&name) name;
    CX_CUDNN_CALLS(CALL)
#undef CALL
} cx_cudnn_api;
#endif

#endif
