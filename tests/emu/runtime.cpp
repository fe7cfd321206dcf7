// runtime.cpp - memory of the emulated GPU (cuda_runtime_api.h): one device, memory that the host cannot touch, copies.
#include "runtime.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <map>
#include <memory>
#include <vector>

// Every allocation is pages of its own, ended by one that nobody may touch, so that a kernel that runs past its end is seen without a sanitizer too.
static const size_t PAGE = 4096;
typedef std::map<char *, size_t> Blocks;          // start -> bytes that may be used, a multiple of PAGE
static Blocks device, pinned;
static size_t used;                               // by `device`
static int open_depth;
static cudaError_t last_error;

static void protect(int how)
{
    for (auto &a : device)
        mprotect(a.first, a.second, how);
}

static size_t total_bytes()
{
    const char *text = getenv("CXNET_EMU_MEMORY");
    return text ? strtoull(text, nullptr, 10) : (size_t)8 << 30;
}

static bool holds(const Blocks &blocks, const void *p, size_t bytes)
{
    auto after = blocks.upper_bound((char *)p);
    if (after == blocks.begin())
        return false;
    auto at = std::prev(after);
    return (char *)p + bytes <= at->first + at->second;
}

// New pages, all bits set: NaN.
static char *take(Blocks &blocks, size_t bytes)
{
    const size_t room = (bytes + PAGE - 1) / PAGE * PAGE;
    char *at = (char *)mmap(nullptr, room + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return nullptr;
    mprotect(at, room, PROT_READ | PROT_WRITE);
    memset(at, 0xff, room);
    blocks[at] = room;
    return at;
}

// The pages go, their addresses stay taken, so that nothing else comes to lie there. Bytes given back, 0 if p is none of these.
static size_t give_back(Blocks &blocks, void *p)
{
    auto found = blocks.find((char *)p);
    if (found == blocks.end())
        return 0;
    const size_t room = found->second;
    mmap(p, room + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);    // neighbours become one: maps are limited
    blocks.erase(found);
    return room;
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

cudaError_t failed(cudaError_t e)
{
    if (e != cudaSuccess)
        last_error = e;
    return e;
}

void die(const char *why)
{
    fprintf(stderr, "emu: %s\n", why);
    _exit(3);
}
}
using namespace emu;

// Done late, so that memory which was freed meanwhile is seen.
static void copy(void *to, const void *from, size_t bytes, bool to_device, bool from_device)
{
    if ((to_device && !holds(device, to, bytes)) || (from_device && !holds(device, from, bytes)))
        die("a copy touches device memory that was freed before its turn came");
    memcpy(to, from, bytes);
}

static void copy_pinned(void *to, const void *from, size_t bytes, bool up)
{
    if (!holds(pinned, up ? from : to, bytes))
        die("a copy touches pinned memory that was freed before its turn came");
    copy(to, from, bytes, up, !up);
}

static cudaError_t upload(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
    if (holds(pinned, from, bytes))
        return queue(stream, [=] { copy_pinned(to, from, bytes, true); });
    if (stream && is_capturing(stream))
        return forbid();
    auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    return queue(stream, [=] { copy(to, staged->data(), bytes, true, false); });
}

static cudaError_t download(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
    if (holds(pinned, to, bytes))
        return queue(stream, [=] { copy_pinned(to, from, bytes, false); });
    if (stream && is_capturing(stream))
        return forbid();
    const cudaError_t e = queue(stream, [=] { copy(to, from, bytes, false, true); });
    if (e == cudaSuccess && stream)
        finish(stream);
    return e;
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int number) { return failed(number == 0 ? cudaSuccess : cudaErrorInvalidValue); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int number)
{
    *prop = { "emulated GPU", total_bytes(), 9, 0, 1 };
    return cudaSetDevice(number);
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorIllegalState: return "the operation cannot be performed in the present state";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnmatched: return "capture was not initiated in this stream";
    case cudaErrorStreamCaptureUnjoined: return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation: return "dependency created on uncaptured work in another stream";
    case cudaErrorStreamCaptureImplicit: return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorCapturedEvent: return "operation not permitted on an event last recorded in a capturing stream";
    }
    return "unrecognized error code";
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = nullptr;
    if (is_capturing(nullptr))
        return forbid();
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > total_bytes() || used + bytes > total_bytes())
        return failed(cudaErrorMemoryAllocation);
    char *at = take(device, bytes);
    if (!at)
        return failed(cudaErrorMemoryAllocation);
    used += device[at];
    if (open_depth == 0)
        mprotect(at, device[at], PROT_NONE);
    *p = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (is_capturing(nullptr))
        return forbid();
    if (!p)
        return cudaSuccess;
    const size_t gone = give_back(device, p);
    used -= gone;
    return failed(gone ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    *p = nullptr;
    if (is_capturing(nullptr))
        return forbid();
    *p = take(pinned, bytes);
    return failed(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    if (is_capturing(nullptr))
        return forbid();
    return failed(!p || give_back(pinned, p) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = total_bytes();
    *free_bytes = used < *total ? *total - used : 0;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
    if ((to_device && !holds(device, to, bytes)) || (from_device && !holds(device, from, bytes)))
        return failed(cudaErrorInvalidValue);
    switch (kind) {
    case cudaMemcpyHostToDevice: return upload(to, from, bytes, stream);
    case cudaMemcpyDeviceToHost: return download(to, from, bytes, stream);
    case cudaMemcpyDeviceToDevice: return queue(stream, [=] { copy(to, from, bytes, true, true); });
    }
    return failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    if (!holds(device, p, bytes))
        return failed(cudaErrorInvalidValue);
    return queue(stream, [=] {
        if (!holds(device, p, bytes))
            die("a fill touches device memory that was freed before its turn came");
        memset(p, value, bytes);
    });
}
}
