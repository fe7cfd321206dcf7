/* runtime.h - what the parts of the emulated GPU share: its scheduler of kernels (emu.cpp), its memory (runtime.cpp), its streams (streams.cpp), and stand-ins
 * of libraries that queue work of their own. */
#ifndef CX_EMU_RUNTIME_H
#define CX_EMU_RUNTIME_H
#include <stddef.h>
#include <functional>
#include "cuda_runtime_api.h"
namespace emu {
/* Device memory is open while an object of this kind lives. */
struct Open {
    Open();
    ~Open();
};

/* Queues work of the host on a stream, as a kernel is queued: done in its order, with device memory open; a node while the stream captures; at once on NULL.
 * Whatever it reads must be copied into it, for it is done late, and in a graph more than once. */
cudaError_t queue(cudaStream_t stream, std::function<void()> work);
/* The same for work that may have to wait for another process: tried until it returns true, while other streams go on. */
cudaError_t queue_until(cudaStream_t stream, std::function<bool()> work);

/* Works until all that was queued on the stream before is done. */
void finish(cudaStream_t stream);
/* Whether the stream captures; stream NULL: whether any does. */
bool is_capturing(cudaStream_t stream);
/* Fails a call that a capture forbids, and spoils what is being captured. */
cudaError_t forbid();
/* Makes e, unless it is cudaSuccess, what cudaGetLastError says; returns e. */
cudaError_t failed(cudaError_t e);
/* Ends the program, code 3. */
[[noreturn]] void die(const char *why);
}
#endif
