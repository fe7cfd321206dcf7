// emu.cpp - the scheduler of the emulated GPU (cuda_emu.h): fibers, barriers, exchanges.
#include "cuda_emu.h"

// A fiber is a stack that runs one thread after another. It is left by _longjmp to the scheduler and entered by _longjmp to where it left, which asks the
// operating system for nothing; only its first entry goes by ucontext.
namespace emu {
struct Fiber {
    ucontext_t context;
    jmp_buf left;
    bool begun;
    void *fake;                 // AddressSanitizer's own idea of the stack that is not running
    std::unique_ptr<char[]> stack;
};

Block *B;
static jmp_buf scheduler;
static Fiber *running;
static std::vector<std::unique_ptr<Fiber>> fibers;     // all that were ever wanted
static std::vector<Fiber *> idle;
static int order;

void fail(const char *why, const Thread &t)
{
    fprintf(stderr, "emu: kernel %s, block (%u,%u,%u), thread (%u,%u,%u), line %d: %s\n", B->kernel, B->idx.x, B->idx.y, B->idx.z, t.idx.x, t.idx.y,
            t.idx.z, t.line, why);
    exit(3);
}

// ---- fibers ---------------------------------------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__)
static const void *main_stack;
static size_t main_size;
static void *main_fake;
static void leaving(void **fake, const void *stack, size_t size) { __sanitizer_start_switch_fiber(fake, stack, size); }
static void arrived(void *fake, const void **stack, size_t *size) { __sanitizer_finish_switch_fiber(fake, stack, size); }
#endif

static void to_scheduler()
{
    Fiber *me = running;
#if defined(__SANITIZE_ADDRESS__)
    leaving(&me->fake, main_stack, main_size);
#endif
    if (!_setjmp(me->left))
        _longjmp(scheduler, 1);
#if defined(__SANITIZE_ADDRESS__)
    arrived(me->fake, &main_stack, &main_size);
#endif
}

static void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    arrived(nullptr, &main_stack, &main_size);
#endif
    for (;;) {
        (*B->body)();
        B->now->state = DONE;
        to_scheduler();
    }
}

static Fiber *take_fiber()
{
    if (idle.empty()) {
        fibers.emplace_back(new Fiber());
        Fiber *f = fibers.back().get();
        f->stack.reset(new char[STACK]);
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack.get();
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = nullptr;
        makecontext(&f->context, fiber_main, 0);
        idle.push_back(f);
    }
    Fiber *f = idle.back();
    idle.pop_back();
    return f;
}

static void enter(Fiber *f)
{
    running = f;
#if defined(__SANITIZE_ADDRESS__)
    leaving(&main_fake, f->stack.get(), STACK);
#endif
    if (!_setjmp(scheduler)) {
        if (f->begun)
            _longjmp(f->left, 1);
        f->begun = true;
        setcontext(&f->context);
    }
#if defined(__SANITIZE_ADDRESS__)
    arrived(main_fake, nullptr, nullptr);
#endif
}

static void run(Thread &t)
{
    if (t.state == FRESH)
        t.fiber = take_fiber();
    t.state = READY;
    B->now = &t;
    enter(t.fiber);
    if (t.state == DONE) {
        idle.push_back(t.fiber);
        t.fiber = nullptr;
    }
}

void wait(State s, int line, unsigned mask)
{
    Thread *me = B->now;
    me->state = s;
    me->line = line;
    me->mask = mask;
    to_scheduler();
}

// ---- one block ------------------------------------------------------------------------------------------------------

// The warp goes on once every lane that is named by those who wait has come to the same line.
static bool release_warp(size_t first, size_t lanes)
{
    Thread *t = &B->thread[first];
    unsigned here = 0, wanted = 0;
    for (size_t l = 0; l < lanes; l++)
        if (t[l].state == AT_WARP) {
            here |= 1u << l;
            wanted |= t[l].mask;
        }
    if (lanes < WARP_SIZE)
        wanted &= (1u << lanes) - 1;
    if (!here)
        return false;
    for (size_t l = 0; l < lanes; l++)
        if (wanted >> l & 1 && t[l].state == DONE)
            fail("a lane that others wait for has returned", t[l]);
    if (here != wanted)
        return false;
    const int line = t[__builtin_ctz(here)].line;
    for (size_t l = 0; l < lanes; l++)
        if (here >> l & 1) {
            if (t[l].line != line)
                fail("an exchange of one warp at two source lines", t[l]);
            t[l].state = READY;
        }
    return true;
}

static void release_block()
{
    const Thread *first = nullptr;
    for (const Thread &t : B->thread)
        if (t.state == AT_BLOCK && !first)
            first = &t;
    for (Thread &t : B->thread) {
        if (!first || t.state == AT_WARP)
            fail(t.state == AT_WARP ? "waits for lanes that never come" : "a deadlock", t);
        if (t.state == DONE) {
            t.line = first->line;
            fail("returned before this __syncthreads()", t);
        }
        if (t.line != first->line)
            fail("__syncthreads() at two source lines", t);
    }
    for (Thread &t : B->thread)
        t.state = READY;
}

// The k-th of n in this schedule. 7919 is a prime above all n, so scattering is a permutation.
static size_t nth(size_t k, size_t n) { return order == 0 ? k : order == 1 ? n - 1 - k : (k * 7919 + 13) % n; }

static bool run_warp(size_t first, size_t lanes)
{
    do
        for (size_t k = 0; k < lanes; k++) {
            Thread &t = B->thread[first + nth(k, lanes)];
            if (t.state == FRESH || t.state == READY)
                run(t);
        }
    while (release_warp(first, lanes));
    for (size_t l = 0; l < lanes; l++)
        if (B->thread[first + l].state != DONE)
            return false;
    return true;
}

static void run_block(dim3 idx)
{
    const size_t n = B->thread.size(), warps = (n + WARP_SIZE - 1) / WARP_SIZE;
    B->idx = idx;
    B->shared.clear();
    B->shared_bytes = 0;
    for (unsigned i = 0; i < n; i++)
        B->thread[i] = { dim3(i % B->dim.x, i / B->dim.x % B->dim.y, i / (B->dim.x * B->dim.y)), i, FRESH, 0, 0, nullptr };
    for (;;) {
        bool all = true;
        for (size_t k = 0; k < warps; k++) {
            const size_t first = nth(k, warps) * WARP_SIZE;
            all &= run_warp(first, std::min<size_t>(WARP_SIZE, n - first));
        }
        if (all)
            return;
        release_block();
    }
}

void *shared(const void *key, size_t bytes)
{
    std::unique_ptr<char[]> &p = B->shared[key];
    if (!p) {
        p.reset(new char[bytes]);
        memset(p.get(), 0xff, bytes);
        B->shared_bytes += bytes;
        if (B->shared_bytes > MAX_SHARED)
            fail("more than 227 KiB of shared memory", *B->now);
    }
    return p.get();
}

void launch(const char *kernel, dim3 grid, dim3 dim, const std::function<void()> &body)
{
    Open open;
    Block block = { kernel, grid, dim, dim3(0, 0, 0), {}, {}, {}, 0, nullptr, &body };
    B = &block;
    const Thread none = { dim3(0, 0, 0), 0, FRESH, 0, 0, nullptr };
    const size_t n = (size_t)dim.x * dim.y * dim.z;
    if (n < 1 || n > MAX_THREADS || dim.z > 64)
        fail("a block of 1 to 1,024 threads, of at most 64 in z, is wanted", none);
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ)
        fail("the grid is empty or too large", none);
    block.thread.resize(n);
    block.slot.resize(n);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++)
                run_block(dim3(x, y, z));
    B = nullptr;
}
}

extern "C" void emu_schedule(int o) { emu::order = o; }
