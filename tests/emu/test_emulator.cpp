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

// Whether kernel `run` ends with this text on standard error and code 3 in schedule `order`; with text empty: whether it ends well.
static bool ends_with(void (*run)(), int order, const char *text)
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
    const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return *text ? WIFEXITED(status) && WEXITSTATUS(status) == 3 && said.find(text) != std::string::npos : well;
}

static void caught(const char *what, void (*run)(), const char *text)
{
    for (int order = 0; order < 3; order++)
        if (ends_with(run, order, text))
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
        assert_true(ends_with(run_reverse, order, ""));
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
