/* cuda_emu.h - CUDA kernels as host C++, so that they are tested without a GPU. Included by kernels/compat.cuh in place of CUDA's headers.
 *
 * One block runs at a time; each of its threads runs on a fiber until it waits for others: at a block barrier, or at an exchange of its warp. A warp runs as
 * far as it can before the next one starts, so that one which forgot to wait gets far ahead of the others. What is caught, with a line that names kernel,
 * block, thread and source line, and exit code 3:
 *   - a barrier that some threads never reach, or reach at another line; an exchange among lanes that its mask does not name; a deadlock;
 *   - a missing barrier, in at least one of three schedules (emu_schedule: blocks, warps and lanes ascending, descending, scattered);
 *   - by tests that compare the bits of schedules, what depends on the order of blocks;
 *   - shared memory read before it was written: it starts as NaN (all bits set); shared memory beyond 227 KiB a block;
 *   - an access past the end of a shared array, a fiber's stack or an allocation of the device, and a write in front of a shared array;
 *   - an access that is not aligned as its type asks (compiled with -fsanitize=alignment,bounds, see tests/CMakeLists.txt). A shared array is aligned as its
 *     type asks and no better;
 *   - launches that no sm_90 takes: more than 1,024 threads a block, an empty or too large grid. Registers are tools/check_sass.py's.
 * AddressSanitizer also finds accesses outside of what the host allocated, and reads in front of a shared array.
 * Not modelled: time, coalescing, weak memory order, blocks that run side by side (a kernel whose blocks wait for each other does not belong here). */
#ifndef CX_CUDA_EMU_H
#define CX_CUDA_EMU_H
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <type_traits>
#include <vector>
#include "cuda_runtime_api.h"
#include "runtime.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) ushort4 { unsigned short x, y, z, w; };
static inline float4 make_float4(float x, float y, float z, float w) { return float4{ x, y, z, w }; }
static inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) { return ushort4{ x, y, z, w }; }
template <class T> static inline void __stwb(T *to, T v) { *to = v; }

namespace emu {
enum State { FRESH, READY, AT_BLOCK, AT_WARP, DONE };
enum { WARP_SIZE = 32, MAX_THREADS = 1024, MAX_SHARED = 227 << 10, MAX_GRID_YZ = 65535, STACK = 64 << 10 };

struct Fiber;
struct Array;
struct Copies;
struct Thread {
    dim3 idx;
    unsigned id;
    State state;
    int line;                   /* where it waits */
    unsigned mask;              /* of an exchange */
    Fiber *fiber;               /* while it has begun and is not done */
};
struct Block {
    const char *kernel;
    dim3 grid, dim, idx;
    std::vector<Thread> thread;
    std::vector<uint64_t> slot; /* what each thread puts up for exchange */
    std::vector<Array *> shared; /* those that the block has asked for */
    size_t shared_bytes;
    Thread *now;                /* NULL before the first */
    const std::function<void()> *body;
    std::vector<Copies> copies; /* of each thread: tensor_emu.h */
};
extern Block *B;

void launch(const char *kernel, dim3 grid, dim3 dim, const std::function<void()> &body);
void wait(State s, int line, unsigned mask);
void *shared(const void *key, size_t bytes, size_t align);
bool is_shared(const void *p, size_t bytes);
[[noreturn]] void fail(const char *why, const Thread &t);

/* Queues a launch. The kernel's parameters are what they are now, as CUDA copies them. */
template <class... P, class... A> void launch_on(void *stream, const char *name, dim3 grid, dim3 dim, void (*kernel)(P...), A &&...args)
{
    const std::tuple<P...> params(std::forward<A>(args)...);
    (void)queue((cudaStream_t)stream, [=] { launch(name, grid, dim, [&] { std::apply(kernel, params); }); });
}

template <class T> T exchange(int line, unsigned mask, T v, unsigned from)
{
    static_assert(sizeof(T) <= 8, "shuffle of a wide type");
    const unsigned me = B->now->id, warp = me / WARP_SIZE * WARP_SIZE;
    B->now->line = line;
    if (!(mask >> me % WARP_SIZE & 1))
        fail("a lane is not named in its own mask", *B->now);
    memcpy(&B->slot[me], &v, sizeof v);
    wait(AT_WARP, line, mask);
    T r = v;
    if (from < WARP_SIZE && warp + from < B->slot.size()) {
        if (!(mask >> from & 1))
            fail("a shuffle reads a lane that its mask does not name", *B->now);
        memcpy(&r, &B->slot[warp + from], sizeof r);
    }
    wait(AT_WARP, line, mask);
    return r;
}
}

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (emu::B->now->idx)
#define blockIdx (emu::B->idx)
#define blockDim (emu::B->dim)
#define gridDim (emu::B->grid)
#define __syncthreads() emu::wait(emu::AT_BLOCK, __LINE__, 0)
#define __syncwarp() emu::wait(emu::AT_WARP, __LINE__, 0xffffffffu)
#define __shfl_down_sync(mask, v, d) emu::exchange(__LINE__, mask, v, emu::B->now->id % 32 + (d))
#define __shfl_xor_sync(mask, v, d) emu::exchange(__LINE__, mask, v, (emu::B->now->id % 32) ^ (d))
#define __shfl_sync(mask, v, lane) emu::exchange(__LINE__, mask, v, (unsigned)(lane))
using std::max;
using std::min;

/* Fibers take turns at barriers and exchanges only, so whatever lies between is atomic. Compiled with -ffp-contract=off, every operation rounds. */
template <class T> T atomicAdd(T *p, T v)
{
    static_assert(std::is_integral<T>::value, "sums of floats would depend on the order of the threads");
    const T before = *p;
    *p += v;
    return before;
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline int __float2int_rn(float x) { return (int)lrintf(x); }

#define SHARED(type, name, n) static char name##_key; type *name = (type *)emu::shared(&name##_key, sizeof(type) * (n), alignof(type))
#define LAUNCH(kernel, grid, block, stream, ...) emu::launch_on(stream, #kernel, grid, block, kernel, __VA_ARGS__)
#include "tensor_emu.h"
#endif
