/* cuda_runtime_api.h - the calls of the CUDA runtime that src/cuda makes, with CUDA's names and meanings, for the emulated GPU.
 *
 * Memory (runtime.cpp). Device memory is pages that only kernels and copies may touch: a host that reads through a device pointer dies at once. It starts as
 * NaN, and is gone once it is freed: whatever touches it later ends the program. CXNET_EMU_MEMORY in the environment: how many bytes the device has, 8 GiB
 * without it.
 *
 * Streams (streams.cpp). Work is done in the order in which it was queued on its stream, and no sooner than it must be: when the host waits for something.
 * Which stream comes next is drawn (emu_shuffle), so that what no event orders happens in any order. A copy from or to pinned memory
 * reads and writes it when it is done; one from pageable memory has read it when the call returns, one to it has been done by then, as CUDA has it. What is
 * captured is not done; a graph's nodes are done in any order that its edges allow. Calls that a capture forbids fail with CUDA's codes and spoil it.
 * The stream NULL is done at once and orders nothing. Not modelled: several devices, several host threads, streams that wait for NULL (all are made with
 * cudaStreamNonBlocking), memory that is allocated in stream order. */
#ifndef CX_EMU_RUNTIME_API_H
#define CX_EMU_RUNTIME_API_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef enum {
    cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorNoDevice = 100, cudaErrorInvalidResourceHandle = 400,
    cudaErrorIllegalState = 401, cudaErrorNotReady = 600, cudaErrorStreamCaptureUnsupported = 900, cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureUnmatched = 903, cudaErrorStreamCaptureUnjoined = 904, cudaErrorStreamCaptureIsolation = 905,
    cudaErrorStreamCaptureImplicit = 906, cudaErrorCapturedEvent = 907
} cudaError_t;
typedef enum { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 } cudaMemcpyKind;
typedef enum { cudaStreamCaptureModeGlobal = 0, cudaStreamCaptureModeThreadLocal = 1, cudaStreamCaptureModeRelaxed = 2 } cudaStreamCaptureMode;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
struct cudaDeviceProp { char name[256]; size_t totalGlobalMem; int major, minor, multiProcessorCount; };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
const char *cudaGetErrorString(cudaError_t e);

cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);                              /* waits for nothing: CUDA promises no more */
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);           /* as cudaEventQuery */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);              /* some work may get done meanwhile */
cudaError_t cudaEventSynchronize(cudaEvent_t event);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);     /* while it is on its way: the program ends */

/* Not CUDA's. 0, 1 or 2: the order in which the launches that are done next run blocks, warps and lanes. */
void emu_schedule(int order);
/* Begins the draws of streams and graph nodes anew. */
void emu_shuffle(unsigned seed);
#ifdef __cplusplus
}
#endif
#endif
