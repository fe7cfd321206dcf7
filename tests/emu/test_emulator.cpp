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

// ---- instructions of tensor cores ---------------------------------------------------------------------------------------

enum { SIDE = 16 };
alignas(16) static uint16_t left[SIDE * SIDE], right[SIDE * SIDE];
static float product[SIDE * SIDE];
static uint32_t words[2][4][32];

static float number(uint16_t half) { return emu::bf16_to_float(half); }

// product += left right, of 16 x 16 numbers each; words: what the lanes got of left.
__global__ void multiply(const uint16_t *a, const uint16_t *b, float *d, uint32_t *seen)
{
    struct alignas(16) line { uint16_t v[8]; };
    SHARED(line, s, 4 * SIDE);
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4 * 2;
    cp_async16(&s[lane], a + lane * 8, 16);
    cp_async_commit();
    cp_async16(&s[2 * SIDE + lane], b + lane * 8, 16);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    uint32_t p[4], q[4], turned[4];
    ldmatrix_x4(p, &s[lane % 16 * 2 + lane / 16]);
    ldmatrix_x4_trans(turned, &s[lane % 16 * 2 + lane / 16]);
    ldmatrix_x4_trans(q, &s[2 * SIDE + lane % 16 * 2 + lane / 16]);
    for (int m = 0; m < 4; m++) {
        seen[m * 32 + lane] = p[m];
        seen[128 + m * 32 + lane] = turned[m];
    }
    for (int half = 0; half < 2; half++) {
        float v[4];
        for (int i = 0; i < 4; i++)
            v[i] = d[(g + i / 2 * 8) * SIDE + half * 8 + t + i % 2];
        mma_bf16(v, p, q + 2 * half);
        for (int i = 0; i < 4; i++)
            d[(g + i / 2 * 8) * SIDE + half * 8 + t + i % 2] = v[i];
    }
}

static void run_multiply()
{
    LAUNCH(multiply, 1, 32, nullptr, left, right, product, words[0][0]);
    for (int r = 0; r < SIDE; r++)
        for (int c = 0; c < SIDE; c++) {
            double want = r - c;
            for (int k = 0; k < SIDE; k++)
                want += (double)number(left[r * SIDE + k]) * (double)number(right[k * SIDE + c]);
            if (!(fabs((double)product[r * SIDE + c] - want) < 1e-5))
                _exit(4);
        }
    // The words of lane 4 g + t / 2: numbers t and t + 1 of row g of matrix m, which is the upper or lower, left or right quarter; or of its column g.
    for (int m = 0; m < 4; m++)
        for (int l = 0; l < 32; l++) {
            const uint16_t *quarter = left + m % 2 * 8 * SIDE + m / 2 * 8;
            const int g = l / 4, t = l % 4 * 2;
            if (words[0][m][l] != (quarter[g * SIDE + t] | (uint32_t)quarter[g * SIDE + t + 1] << 16) ||
                words[1][m][l] != (quarter[t * SIDE + g] | (uint32_t)quarter[(t + 1) * SIDE + g] << 16))
                _exit(5);
        }
}

static void matrices_are_as_documented(void **)
{
    for (int i = 0; i < SIDE * SIDE; i++) {
        left[i] = (uint16_t)(pack_bf16((float)(i * 37 % 101 - 50) / 64, 0));
        right[i] = (uint16_t)(pack_bf16((float)(i * 53 % 97 - 48) / 32, 0));
        product[i] = (float)(i / SIDE - i % SIDE);
    }
    for (int order = 0; order < 3; order++)
        assert_true(ends_with(run_multiply, order, "", nullptr));
    assert_int_equal(pack_bf16(1.00390625f, -1.01171875f), 0xbf823f80);     // ties go to even
    assert_true(std::isnan(number((uint16_t)pack_bf16(NAN, 0))));
}

// b <- the first n bytes of a, then zeros, by way of shared memory; read before the wait, or behind it.
__global__ void copy(const uint16_t *a, float *d, int bytes, bool early)
{
    struct alignas(16) line { uint16_t v[8]; };
    SHARED(line, s, 2);
    cp_async16(&s[0], a, 16);
    cp_async_commit();
    cp_async16(&s[1], a, bytes);
    cp_async_commit();
    cp_async_wait<1>();
    for (int i = 0; i < 8; i++) {
        d[i] = number(s[0].v[i]);
        d[8 + i] = number(s[1].v[i]);       // on its way
    }
    cp_async_wait<0>();
    for (int i = 0; i < 8 && !early; i++)
        d[8 + i] = number(s[1].v[i]);
}

static void check_copy(int bytes, bool early)
{
    float got[16];
    LAUNCH(copy, 1, 1, nullptr, left, got, bytes, early);
    for (int i = 0; i < 16; i++)
        if (early && i >= 8 ? !std::isnan(got[i]) : got[i] != (i < 8 || i % 8 < bytes / 2 ? number(left[i % 8]) : 0))
            _exit(6);
}

static void run_copies()
{
    for (int bytes = 0; bytes <= 16; bytes += 2) {
        check_copy(bytes, false);
        check_copy(bytes, true);
    }
}

static void copies_arrive_at_the_wait(void **)
{
    for (int order = 0; order < 3; order++)
        assert_true(ends_with(run_copies, order, "", nullptr));
}

enum { WHOLE, ONE_LESS, TWO_LINES, UNALIGNED, NOT_SHARED, PAST_END, COPY_UNALIGNED, COPY_FROM_UNALIGNED, NO_WAIT, NO_COMMIT, TOO_LONG };
__global__ void misuse(int how, const uint16_t *global, float *d)
{
    struct alignas(16) line { uint16_t v[8]; };
    SHARED(line, s, 32);
    const uint16_t *row = s[0].v + threadIdx.x % 32 * 8 + (how == UNALIGNED) + (how == PAST_END) * 8;
    uint32_t p[4] = { 0, 0, 0, 0 };
    float v[4] = { 0, 0, 0, 0 };
    if (how >= COPY_UNALIGNED) {
        cp_async16(s[threadIdx.x].v + (how == COPY_UNALIGNED), global + (how == COPY_FROM_UNALIGNED), how == TOO_LONG ? 18 : 16);
        if (how != NO_COMMIT)
            cp_async_commit();
        cp_async_wait<1>();
    } else if (how == ONE_LESS && threadIdx.x == 7) {
        return;
    } else if (how == TWO_LINES && threadIdx.x == 7) {
        mma_bf16(v, p, p);
    } else {
        ldmatrix_x4(p, how == NOT_SHARED ? global : row);
        mma_bf16(v, p, p);
    }
    d[threadIdx.x] = v[0];
}
template <int HOW, int THREADS> static void run_misuse() { LAUNCH(misuse, 1, THREADS, nullptr, HOW, left, out); }

static void misused_instructions_are_caught(void **)
{
    for (int order = 0; order < 3; order++)
        assert_true(ends_with(run_misuse<WHOLE, 64>, order, "", nullptr));
    caught("half a warp", run_misuse<WHOLE, 48>, "wants a warp of 32");
    caught("a lane that returned", run_misuse<ONE_LESS, 32>, "has returned");
    caught("two matrix instructions", run_misuse<TWO_LINES, 32>, "at two source lines");
    caught("rows that are not aligned", run_misuse<UNALIGNED, 32>, "in shared memory is not a multiple of 16");
    caught("rows in global memory", run_misuse<NOT_SHARED, 32>, "do not lie in a shared array");
    caught("rows past the end", run_misuse<PAST_END, 32>, "do not lie in a shared array");
    caught("a copy to no multiple of 16", run_misuse<COPY_UNALIGNED, 1>, "in shared memory is not a multiple of 16");
    caught("a copy from no multiple of 16", run_misuse<COPY_FROM_UNALIGNED, 1>, "from global memory that is not a multiple of 16");
    caught("a copy never waited for", run_misuse<NO_WAIT, 1>, "while its copies were on their way");
    caught("a copy in no group", run_misuse<NO_COMMIT, 1>, "while its copies were on their way");
    caught("a copy of 18 bytes", run_misuse<TOO_LONG, 1>, "more than 16 bytes");
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
        cmocka_unit_test(right_kernels_run), cmocka_unit_test(wrong_kernels_are_caught), cmocka_unit_test(matrices_are_as_documented),
        cmocka_unit_test(copies_arrive_at_the_wait), cmocka_unit_test(misused_instructions_are_caught), cmocka_unit_test(device_memory_is_the_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
