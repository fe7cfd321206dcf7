// test_runtime.cpp - streams, memory and graphs of the emulated GPU: what orders its work gives the right numbers in every shuffle, and each program here that
// leaves one thing out gives wrong ones in some shuffle, or ends, or is told CUDA's code.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>
#include "cuda_emu.h"
extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
}

enum { N = 64, BYTES = N * sizeof(float), SEEDS = 64 };
#define OK(call) assert_int_equal(call, cudaSuccess)

__global__ void add(float *x, float v) { x[threadIdx.x] += v; }
__global__ void twice(const float *x, float *y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }

// Two streams, two device buffers, two pinned ones, made anew for each program, and freed behind it.
struct Bench {
    cudaStream_t a, b;
    cudaEvent_t event, other;
    float *x, *y, *in, *out;
    Bench()
    {
        OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
        OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
        OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        OK(cudaEventCreateWithFlags(&other, cudaEventDisableTiming));
        OK(cudaMalloc((void **)&x, BYTES));
        OK(cudaMalloc((void **)&y, BYTES));
        OK(cudaHostAlloc((void **)&in, BYTES, cudaHostAllocDefault));
        OK(cudaHostAlloc((void **)&out, BYTES, cudaHostAllocDefault));
    }
    ~Bench()
    {
        (void)cudaDeviceSynchronize();
        (void)cudaStreamDestroy(a);
        (void)cudaStreamDestroy(b);
        (void)cudaEventDestroy(event);
        (void)cudaEventDestroy(other);
        (void)cudaFree(x);
        (void)cudaFree(y);
        (void)cudaFreeHost(in);
        (void)cudaFreeHost(out);
    }
    void fill(float v) { std::fill(in, in + N, v); }
    void up(cudaStream_t s) { OK(cudaMemcpyAsync(x, in, BYTES, cudaMemcpyHostToDevice, s)); }
    void down(const float *from, cudaStream_t s) { OK(cudaMemcpyAsync(out, from, BYTES, cudaMemcpyDeviceToHost, s)); }
    void order(cudaStream_t first, cudaStream_t then)
    {
        OK(cudaEventRecord(event, first));
        OK(cudaStreamWaitEvent(then, event, 0));
    }
    bool is(float v) const { return std::all_of(out, out + N, [=](float o) { return o == v; }); }
};

// In how many shuffles a program gives what it should.
static int right(bool (*program)(bool sound), bool sound)
{
    int n = 0;
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        emu_shuffle(seed);
        n += program(sound);
    }
    return n;
}

static void needs(const char *what, bool (*program)(bool sound))
{
    if (right(program, true) < SEEDS)
        fail_msg("with %s the result is wrong in some shuffle", what);
    if (right(program, false) == SEEDS)
        fail_msg("without %s the result is right in every shuffle", what);
}

// ---- order ------------------------------------------------------------------------------------------------------------

// What comes from another stream is there once an event says so.
static bool read_behind_upload(bool sound)
{
    Bench t;
    t.fill(3);
    t.up(t.a);
    if (sound)
        t.order(t.a, t.b);
    LAUNCH(twice, 1, N, t.b, t.x, t.y);
    t.down(t.y, t.b);
    OK(cudaStreamSynchronize(t.b));
    return t.is(6);
}

// A buffer is overwritten once an event says that it has been read.
static bool overwrite_behind_read(bool sound)
{
    Bench t;
    t.fill(3);
    t.up(t.b);
    LAUNCH(twice, 1, N, t.b, t.x, t.y);
    OK(cudaEventRecord(t.other, t.b));
    t.down(t.y, t.b);
    if (sound)
        OK(cudaStreamWaitEvent(t.a, t.other, 0));
    OK(cudaMemsetAsync(t.x, 0, BYTES, t.a));
    OK(cudaDeviceSynchronize());
    return t.is(6);
}

static bool reuse_behind_copy(bool sound)
{
    Bench t;
    t.fill(3);
    t.up(t.a);
    OK(cudaEventRecord(t.event, t.a));
    if (sound)
        OK(cudaEventSynchronize(t.event));
    t.fill(4);
    t.down(t.x, t.a);
    OK(cudaStreamSynchronize(t.a));
    return t.is(3);
}

static bool read_behind_download(bool sound)
{
    Bench t;
    t.fill(3);
    t.up(t.a);
    t.down(t.x, t.a);
    OK(cudaEventRecord(t.event, t.a));
    if (sound)
        OK(cudaEventSynchronize(t.event));
    return t.is(3);
}

// An event stands for where it was recorded last when it is waited for.
static bool wait_behind_record(bool sound)
{
    Bench t;
    t.fill(3);
    if (!sound)
        t.order(t.a, t.b);
    t.up(t.a);
    if (sound)
        t.order(t.a, t.b);
    t.down(t.x, t.b);
    OK(cudaStreamSynchronize(t.b));
    return t.is(3);
}

static void order_comes_from_events(void **)
{
    needs("an event behind the upload", read_behind_upload);
    needs("an event behind the read", overwrite_behind_read);
    needs("an event before the buffer is used again", reuse_behind_copy);
    needs("an event before the host reads", read_behind_download);
    needs("a wait behind the record", wait_behind_record);
}

static bool pageable(bool)
{
    Bench t;
    std::vector<float> in(N, 5), back(N);
    OK(cudaMemcpyAsync(t.x, in.data(), BYTES, cudaMemcpyHostToDevice, t.a));
    in.assign(N, 6);
    LAUNCH(add, 1, N, t.a, t.x, 1.0f);
    OK(cudaMemcpyAsync(back.data(), t.x, BYTES, cudaMemcpyDeviceToHost, t.a));
    return back[0] == 6 && back[N - 1] == 6;
}

// The kernel's parameters are those of the launch, though the variables have changed since.
static bool parameters(bool)
{
    Bench t;
    t.fill(0);
    t.up(t.a);
    for (float v = 1; v < 4; v++)
        LAUNCH(add, 1, N, t.a, t.x, v);
    t.down(t.x, t.a);
    OK(cudaStreamSynchronize(t.a));
    return t.is(6);
}

static void what_is_copied_at_the_call(void **)
{
    assert_int_equal(right(pageable, true), SEEDS);
    assert_int_equal(right(parameters, true), SEEDS);
}

// A host that asks again and again gets there, and not always at once.
static int tries;
static bool polling(bool)
{
    Bench t;
    t.fill(1);
    OK(cudaEventQuery(t.event));
    t.up(t.a);
    for (int i = 0; i < 20; i++)
        LAUNCH(add, 1, N, t.a, t.x, 1.0f);
    t.down(t.x, t.a);
    OK(cudaEventRecord(t.event, t.a));
    while (cudaEventQuery(t.event) == cudaErrorNotReady)
        tries++;
    return t.is(21);
}

static void queries_get_on(void **)
{
    tries = 0;
    assert_int_equal(right(polling, true), SEEDS);
    assert_true(tries > SEEDS);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

static std::vector<int> told(unsigned seed)
{
    Bench t;
    std::vector<int> order;
    emu_shuffle(seed);
    for (int i = 0; i < 20; i++)
        OK(emu::queue(i % 2 ? t.a : t.b, [&order, i] { order.push_back(i); }));
    OK(cudaDeviceSynchronize());
    return order;
}

static void a_seed_is_an_order(void **)
{
    int others = 0;
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        assert_true(told(seed) == told(seed));
        others += told(seed) != told(0);
    }
    assert_true(others > SEEDS / 2);
}

// ---- memory -------------------------------------------------------------------------------------------------------------

static bool dies(void (*program)())
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);       // cmocka's handler would go on with the next test
        signal(SIGBUS, SIG_DFL);
        fclose(stderr);
        program();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

static bool waits;
static void free_under_kernel()
{
    Bench t;
    LAUNCH(twice, 1, N, t.a, t.x, t.y);
    if (waits)
        (void)cudaStreamSynchronize(t.a);
    (void)cudaFree(t.x);
    t.x = nullptr;
}
static void free_under_copy()
{
    Bench t;
    (void)cudaMemcpyAsync(t.x, t.in, BYTES, cudaMemcpyHostToDevice, t.a);
    if (waits)
        (void)cudaStreamSynchronize(t.a);
    (void)cudaFree(t.x);
    t.x = nullptr;
}
static void free_pinned_under_copy()
{
    Bench t;
    (void)cudaMemcpyAsync(t.x, t.in, BYTES, cudaMemcpyHostToDevice, t.a);
    if (waits)
        (void)cudaStreamSynchronize(t.a);
    (void)cudaFreeHost(t.in);
    t.in = nullptr;
}
static void destroy_under_launch()
{
    Bench t;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    (void)cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal);
    LAUNCH(twice, 1, N, t.a, t.x, t.y);
    (void)cudaStreamEndCapture(t.a, &graph);
    (void)cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    (void)cudaGraphLaunch(exec, t.a);
    if (waits)
        (void)cudaStreamSynchronize(t.a);
    (void)cudaGraphExecDestroy(exec);
}

static void freed_memory_is_gone(void **)
{
    static void (*const programs[])() = { free_under_kernel, free_under_copy, free_pinned_under_copy, destroy_under_launch };
    for (auto program : programs) {
        waits = true;
        assert_false(dies(program));
        waits = false;
        assert_true(dies(program));
    }
    Bench t;
    float *gone;
    OK(cudaMalloc((void **)&gone, BYTES));
    OK(cudaFree(gone));
    assert_int_equal(cudaMemcpyAsync(gone, t.in, BYTES, cudaMemcpyHostToDevice, t.a), cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(gone, 0, BYTES, t.a), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(t.x, t.in, 8192, cudaMemcpyHostToDevice, t.a), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(gone), cudaErrorInvalidValue);
    (void)cudaGetLastError();
}

static void memory_is_counted(void **)
{
    size_t before, now, total;
    float *p, *q;
    setenv("CXNET_EMU_MEMORY", "1048576", 1);
    OK(cudaMemGetInfo(&before, &total));
    assert_int_equal(total, 1 << 20);
    OK(cudaMalloc((void **)&p, before / 2 + 4096));
    assert_int_equal(cudaMalloc((void **)&q, before / 2), cudaErrorMemoryAllocation);
    assert_null(q);
    OK(cudaMemGetInfo(&now, &total));
    assert_int_equal(now, before - (before / 2 + 4096));
    OK(cudaFree(p));
    OK(cudaMemGetInfo(&now, &total));
    assert_int_equal(now, before);
    unsetenv("CXNET_EMU_MEMORY");
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
}

// ---- graphs -------------------------------------------------------------------------------------------------------------

// x = in + 1 on one stream, y = 2 x on another, out = y on the first; and whether the graph says so.
static bool forked(bool sound)
{
    Bench t;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float one = 1;
    OK(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal));
    if (!sound)
        t.order(t.a, t.b);              // too early
    t.up(t.a);
    LAUNCH(add, 1, N, t.a, t.x, one);
    if (sound)
        t.order(t.a, t.b);
    LAUNCH(twice, 1, N, t.b, t.x, t.y);
    OK(cudaEventRecord(t.other, t.b));
    OK(cudaStreamWaitEvent(t.a, t.other, 0));
    t.down(t.y, t.a);
    OK(cudaStreamEndCapture(t.a, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    one = 7;
    bool all = true;
    for (int i = 0; i < 3; i++) {
        t.fill((float)i);
        OK(cudaGraphLaunch(exec, t.a));
        OK(cudaStreamSynchronize(t.a));
        all &= t.is(2 * ((float)i + 1));
    }
    OK(cudaGraphExecDestroy(exec));
    return all;
}

static void graphs_replay(void **) { needs("an edge between the two kernels", forked); }

static void what_is_captured_is_not_done(void **)
{
    Bench t;
    cudaGraph_t graph;
    std::fill(t.out, t.out + N, 9.0f);
    t.fill(1);
    t.up(t.a);
    OK(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal));
    LAUNCH(add, 1, N, t.a, t.x, 1.0f);
    t.down(t.x, t.a);
    OK(cudaStreamEndCapture(t.a, &graph));
    OK(cudaDeviceSynchronize());
    assert_true(t.is(9));
    t.down(t.x, t.a);
    OK(cudaStreamSynchronize(t.a));
    assert_true(t.is(1));
    OK(cudaGraphDestroy(graph));
}

typedef cudaError_t (*wrong_call)(Bench &t);
static cudaError_t call_malloc(Bench &)
{
    void *p;
    return cudaMalloc(&p, 4);
}
static cudaError_t call_free(Bench &t) { return cudaFree(t.y); }
static cudaError_t call_pin(Bench &)
{
    void *p;
    return cudaHostAlloc(&p, 4, 0);
}
static cudaError_t call_unpin(Bench &t) { return cudaFreeHost(t.in); }
static cudaError_t call_wait(Bench &t) { return cudaStreamSynchronize(t.a); }
static cudaError_t call_wait_all(Bench &) { return cudaDeviceSynchronize(); }
static cudaError_t call_upload(Bench &t)
{
    float pageable[N] = { 0 };
    return cudaMemcpyAsync(t.x, pageable, BYTES, cudaMemcpyHostToDevice, t.a);
}
static cudaError_t call_download(Bench &t)
{
    float pageable[N];
    return cudaMemcpyAsync(pageable, t.x, BYTES, cudaMemcpyDeviceToHost, t.a);
}
static cudaError_t call_null_stream(Bench &t)
{
    LAUNCH(add, 1, N, nullptr, t.x, 1.0f);
    return cudaPeekAtLastError();
}
static cudaError_t call_outside(Bench &t) { return cudaStreamWaitEvent(t.a, t.other, 0); }
static cudaError_t call_query(Bench &t)
{
    OK(cudaEventRecord(t.event, t.a));
    return cudaEventQuery(t.event);
}
static cudaError_t call_wait_event(Bench &t)
{
    OK(cudaEventRecord(t.event, t.a));
    return cudaEventSynchronize(t.event);
}
static cudaError_t call_end_elsewhere(Bench &t)
{
    cudaGraph_t graph;
    t.order(t.a, t.b);
    return cudaStreamEndCapture(t.b, &graph);
}

static const struct { const char *what; wrong_call call; cudaError_t code; } wrong[] = {
    { "cudaMalloc", call_malloc, cudaErrorStreamCaptureUnsupported }, { "cudaFree", call_free, cudaErrorStreamCaptureUnsupported },
    { "cudaHostAlloc", call_pin, cudaErrorStreamCaptureUnsupported }, { "cudaFreeHost", call_unpin, cudaErrorStreamCaptureUnsupported },
    { "cudaStreamSynchronize", call_wait, cudaErrorStreamCaptureUnsupported },
    { "cudaDeviceSynchronize", call_wait_all, cudaErrorStreamCaptureUnsupported },
    { "a pageable upload", call_upload, cudaErrorStreamCaptureUnsupported }, { "a pageable download", call_download, cudaErrorStreamCaptureUnsupported },
    { "a launch on the stream NULL", call_null_stream, cudaErrorStreamCaptureImplicit },
    { "an event of outside", call_outside, cudaErrorStreamCaptureIsolation },
    { "a query of a captured event", call_query, cudaErrorCapturedEvent }, { "a wait for one", call_wait_event, cudaErrorCapturedEvent },
    { "an end on another stream", call_end_elsewhere, cudaErrorStreamCaptureUnmatched },
};

// Each fails with its code, and so does the end of the capture. The stream is usable again.
static void what_a_capture_forbids(void **)
{
    for (const auto &w : wrong) {
        Bench t;
        cudaGraph_t graph;
        OK(cudaEventRecord(t.other, t.b));
        OK(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal));
        LAUNCH(twice, 1, N, t.a, t.x, t.y);
        if (w.call(t) != w.code)
            fail_msg("%s during a capture: \"%s\" was wanted", w.what, cudaGetErrorString(w.code));
        assert_int_equal(cudaGetLastError(), w.code);
        LAUNCH(twice, 1, N, t.a, t.x, t.y);
        assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
        assert_int_equal(cudaStreamEndCapture(t.a, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        (void)cudaGetLastError();
        t.fill(2);
        t.up(t.a);
        t.down(t.x, t.a);
        OK(cudaStreamSynchronize(t.a));
        assert_true(t.is(2));
    }
}

static void captures_end_where_they_began(void **)
{
    Bench t;
    cudaGraph_t graph;
    assert_int_equal(cudaStreamEndCapture(t.a, &graph), cudaErrorIllegalState);
    OK(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal), cudaErrorIllegalState);
    t.order(t.a, t.b);
    LAUNCH(twice, 1, N, t.b, t.x, t.y);
    assert_int_equal(cudaStreamEndCapture(t.a, &graph), cudaErrorStreamCaptureUnjoined);
    assert_null(graph);
    assert_int_equal(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal), cudaErrorStreamCaptureUnsupported);
    (void)cudaGetLastError();
}

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(order_comes_from_events), cmocka_unit_test(what_is_copied_at_the_call), cmocka_unit_test(queries_get_on),
        cmocka_unit_test(a_seed_is_an_order), cmocka_unit_test(freed_memory_is_gone), cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(graphs_replay), cmocka_unit_test(what_is_captured_is_not_done), cmocka_unit_test(what_a_capture_forbids),
        cmocka_unit_test(captures_end_where_they_began),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
