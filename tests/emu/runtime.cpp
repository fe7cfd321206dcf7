// runtime.cpp - the CUDA runtime of the emulated GPU (cuda_runtime_api.h): one device, memory that the host cannot touch.
#include "runtime.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <map>
#include "cuda_runtime_api.h"

// Every allocation is pages of its own, ended by one that nobody may touch, so that a kernel that runs past its end is seen without a sanitizer too.
static const size_t PAGE = 4096;
static std::map<char *, size_t> allocations;      // start -> bytes that may be used, a multiple of PAGE
static int open_depth;

static void protect(int how)
{
    for (auto &a : allocations)
        mprotect(a.first, a.second, how);
}

namespace emu {
Open::Open()
{
    if (open_depth++ == 0)
        protect(PROT_READ | PROT_WRITE);
}
Open::~Open()
{
    if (--open_depth == 0)
        protect(PROT_NONE);
}
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    *prop = { "emulated GPU", (size_t)8 << 30, 9, 0, 1 };
    return cudaSetDevice(device);
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > (size_t)8 << 30)
        return cudaErrorMemoryAllocation;
    // The end of the allocation is the end of a page, but for alignment.
    const size_t room = (bytes + PAGE - 1) / PAGE * PAGE;
    char *at = (char *)mmap(nullptr, room + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    mprotect(at, room, PROT_READ | PROT_WRITE);
    memset(at, 0xff, room);                         // fresh memory is NaN
    if (open_depth == 0)
        mprotect(at, room, PROT_NONE);
    allocations[at] = room;
    *p = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    auto found = allocations.find((char *)p);
    if (found == allocations.end())
        return cudaErrorInvalidValue;
    munmap(found->first, found->second + PAGE);
    allocations.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    emu::Open open;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    emu::Open open;
    memset(p, value, bytes);
    return cudaSuccess;
}

struct CUstream_st { int unused; };
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new CUstream_st();
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess ? "no error" : e == cudaErrorMemoryAllocation ? "out of memory" : e == cudaErrorNoDevice ? "no device" : "invalid value";
}
}
