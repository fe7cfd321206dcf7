// test_emulator.cpp - the emulated GPU finds what it is for: each kernel here is wrong in one way, and must end in its message; right ones must not.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <string>
#include "cuda_emu.h"
extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
}

enum { N = 96 };

// Whether kernel `run` ends with this text on standard error and code 3 in schedule `order`, or (where a sanitizer sees it first) with that one and another
// code; with text empty: whether it ends well.
static bool ends_with(void (*run)(), int order, const char *text, const char *sanitizer)
{
    int fd[2], status;
    assert_int_equal(pipe(fd), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 2);
        close(fd[0]);
        emu_schedule(order);
        run();
        _exit(0);
    }
    close(fd[1]);
    std::string said;
    char part[512];
    for (ssize_t n; (n = read(fd[0], part, sizeof part)) > 0;)
        said.append(part, (size_t)n);
    close(fd[0]);
    waitpid(child, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (!*text)
        return code == 0;
    return (code == 3 && said.find(text) != std::string::npos) || (sanitizer && code != 0 && said.find(sanitizer) != std::string::npos);
}

static void caught(const char *what, void (*run)(), const char *text, const char *sanitizer = nullptr)
{
    for (int order = 0; order < 3; order++)
        if (ends_with(run, order, text, sanitizer))
            return;
    fail_msg("%s: no schedule said \"%s\"", what, text);
}

// ---- a right kernel: reverses an array by way of shared memory, and sums each warp ----------------------------------------

static float in[N], out[N], sums[N / 32];

__global__ void reverse(const float *x, float *y, float *s)
{
    SHARED(float, t, N);
    t[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = t[N - 1 - threadIdx.x];
    float v = x[threadIdx.x];
    for (int d = 16; d > 0; d /= 2)
        v += __shfl_down_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0)
        s[threadIdx.x / 32] = v;
}

static void check_reverse(float *y)
{
    LAUNCH(reverse, 1, N, nullptr, in, y, sums);
    for (int i = 0; i < N; i++)
        if (y[i] != in[N - 1 - i])
            _exit(4);
    for (int w = 0; w < N / 32; w++) {
        float s = 0;
        for (int i = 0; i < 32; i++)
            s += in[w * 32 + i];
        if (s != sums[w])
            _exit(5);
    }
}
static void run_reverse() { check_reverse(out); }

static void right_kernels_run(void **)
{
    for (int i = 0; i < N; i++)
        in[i] = (float)(i * 7 % 31);
    for (int order = 0; order < 3; order++)
        assert_true(ends_with(run_reverse, order, "", nullptr));
}

// ---- wrong ones -----------------------------------------------------------------------------------------------------

__global__ void no_barrier(const float *x, float *y)
{
    SHARED(float, t, N);
    t[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = t[N - 1 - threadIdx.x];
}
// Shared memory that nobody wrote is NaN, which no comparison takes for the right value.
static void run_no_barrier()
{
    LAUNCH(no_barrier, 1, N, nullptr, in, out);
    for (int i = 0; i < N; i++)
        if (out[i] != in[N - 1 - i]) {
            fputs("wrong value", stderr);
            _exit(3);
        }
}

__global__ void some_wait(float *y)
{
    if (threadIdx.x < 40)
        __syncthreads();
    y[threadIdx.x] = 1;
}
static void run_some_wait() { LAUNCH(some_wait, 1, N, nullptr, out); }

__global__ void two_barriers(float *y)
{
    if (threadIdx.x < 64)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}
static void run_two_barriers() { LAUNCH(two_barriers, 1, N, nullptr, out); }

__global__ void lanes_missing(float *y)
{
    float v = 1;
    if (threadIdx.x % 32 < 20)
        v += __shfl_xor_sync(0xffffffffu, v, 1);
    y[threadIdx.x] = v;
}
static void run_lanes_missing() { LAUNCH(lanes_missing, 1, N, nullptr, out); }

__global__ void not_in_mask(float *y) { y[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1); }
static void run_not_in_mask() { LAUNCH(not_in_mask, 1, N, nullptr, out); }

__global__ void reads_outside_mask(float *y)
{
    if (threadIdx.x % 32 < 16)
        y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}
static void run_reads_outside_mask() { LAUNCH(reads_outside_mask, 1, N, nullptr, out); }

__global__ void much_shared(float *y)
{
    SHARED(float, a, 40 << 10);
    SHARED(float, b, 20 << 10);
    a[0] = b[0] = 1;
    y[0] = a[0] + b[0];
}
static void run_much_shared() { LAUNCH(much_shared, 1, N, nullptr, out); }

// 96 floats from a shared array at this distance.
__global__ void beside_shared(float *y, int distance)
{
    SHARED(float, t, N);
    t[threadIdx.x] = 1;
    __syncthreads();
    float *at = t + threadIdx.x + distance;
    if (distance < 0)
        *at = 2;
    y[threadIdx.x] = *at;
}
static void run_past_shared() { LAUNCH(beside_shared, 1, N, nullptr, out, 3); }
static void run_before_shared() { LAUNCH(beside_shared, 1, N, nullptr, out, -3); }

struct alignas(16) four { float v[4]; };
__global__ void fours(const float *x, float *y)
{
    const four f = *(const four *)(const void *)(x + 4 * threadIdx.x);
    y[threadIdx.x] = f.v[0] + f.v[1] + f.v[2] + f.v[3];
}
alignas(16) static float aligned[N + 4];
static void run_unaligned() { LAUNCH(fours, 1, N / 4, nullptr, aligned + 2, out); }
static void run_aligned() { LAUNCH(fours, 1, N / 4, nullptr, aligned + 4, out); }

// CUDA aligns an array of float as a float.
__global__ void fours_of_floats(float *y)
{
    SHARED(float, t, N);
    t[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = ((const four *)(const void *)t)[threadIdx.x / 4].v[0];
}
static void run_fours_of_floats() { LAUNCH(fours_of_floats, 1, N, nullptr, out); }

__global__ void index_past_array(float *y)
{
    float t[4] = { 1, 2, 3, 4 };
    for (int i = 0; i <= (int)blockDim.x; i++)
        t[i] += y[i];
    y[0] = t[0] + t[3];
}
static void run_index_past_array() { LAUNCH(index_past_array, 1, 4, nullptr, out); }

__device__ static float deep(int n, const float *y)     // 1 KiB a call
{
    volatile float t[256];
    for (int i = 0; i < 256; i++)
        t[i] = y[i % N];
    return n > 0 ? t[n % 256] + deep(n - 1, y) * t[0] : t[1];
}
__global__ void much_stack(float *y) { y[threadIdx.x] = deep(200, y); }
static void run_much_stack() { LAUNCH(much_stack, 1, N, nullptr, out); }

__global__ void nothing(float *y) { y[0] = 1; }
static void run_large_block() { LAUNCH(nothing, 1, 1025, nullptr, out); }
static void run_empty_grid() { LAUNCH(nothing, 0, 32, nullptr, out); }
static void run_tall_grid() { LAUNCH(nothing, dim3(1, 65536), 32, nullptr, out); }

static void wrong_kernels_are_caught(void **)
{
    for (int i = 0; i < N; i++)
        in[i] = (float)(i + 1);
    caught("no barrier", run_no_barrier, "wrong value");
    caught("a barrier that some reach", run_some_wait, "returned before this __syncthreads()");
    caught("two barriers", run_two_barriers, "at two source lines");
    caught("lanes that never come", run_lanes_missing, "has returned");
    caught("not in its own mask", run_not_in_mask, "not named in its own mask");
    caught("reads outside its mask", run_reads_outside_mask, "its mask does not name");
    caught("240 KiB of shared memory", run_much_shared, "more than 227 KiB");
    caught("past a shared array", run_past_shared, "not its own", "AddressSanitizer: use-after-poison");
    caught("before a shared array", run_before_shared, "beside a shared array", "AddressSanitizer: use-after-poison");
    assert_true(ends_with(run_aligned, 0, "", nullptr));
    caught("16 bytes at a multiple of 8", run_unaligned, "not aligned", "misaligned address");
    caught("16 bytes of an array of floats", run_fours_of_floats, "not aligned", "misaligned address");
    caught("an index past its array", run_index_past_array, "index past its array", "runtime error");
    caught("200 KiB of stack", run_much_stack, "not its own", "AddressSanitizer");
    caught("1,025 threads", run_large_block, "1 to 1,024 threads");
    caught("an empty grid", run_empty_grid, "empty or too large");
    caught("a grid too tall", run_tall_grid, "empty or too large");
}

// ---- device memory ----------------------------------------------------------------------------------------------------

static float *device;
static void run_host_read() { _exit(device[0] == 1 ? 6 : 7); }
static void run_past_end() { LAUNCH(nothing, 1, 1, nullptr, device + 1024); }

static bool dies(void (*run)())
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);       // cmocka's handler would go on with the next test
        signal(SIGBUS, SIG_DFL);
        run();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) < 6) || (WIFEXITED(status) && WEXITSTATUS(status) > 7);
}

static void device_memory_is_the_devices(void **)
{
    float back[N];
    assert_int_equal(cudaMalloc((void **)&device, 4096), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(device, in, sizeof in, cudaMemcpyHostToDevice, nullptr), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(back, device, sizeof back, cudaMemcpyDeviceToHost, nullptr), cudaSuccess);
    assert_memory_equal(in, back, sizeof back);
    assert_true(dies(run_host_read));
    assert_true(dies(run_past_end));
    assert_int_equal(cudaFree(device), cudaSuccess);
    assert_int_equal(cudaFree(device), cudaErrorInvalidValue);
    assert_int_equal(cudaMalloc((void **)&device, (size_t)1 << 40), cudaErrorMemoryAllocation);
    assert_null(device);
}

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(right_kernels_run), cmocka_unit_test(wrong_kernels_are_caught), cmocka_unit_test(device_memory_is_the_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
