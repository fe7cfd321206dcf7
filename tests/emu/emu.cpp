// emu.cpp - the scheduler of the emulated GPU (cuda_emu.h): fibers, barriers, exchanges.
#include "cuda_emu.h"
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace emu {
enum { PAGE = 4096 };

// Memory between two pages that nobody may touch.
struct Pages {
    char *at;
    size_t bytes;
    explicit Pages(size_t n) : bytes((n + PAGE - 1) / PAGE * PAGE)
    {
        char *all = (char *)mmap(nullptr, bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all + PAGE, bytes, PROT_READ | PROT_WRITE) != 0)
            throw std::bad_alloc();
        at = all + PAGE;
    }
    ~Pages() { munmap(at - PAGE, bytes + 2 * PAGE); }
    Pages(const Pages &) = delete;
    Pages &operator=(const Pages &) = delete;
};

// A fiber is a stack that runs one thread after another. It is left by _longjmp to the scheduler and entered by _longjmp to where it left, which asks the
// operating system for nothing; only its first entry goes by ucontext.
struct Fiber {
    ucontext_t context;
    jmp_buf left;
    bool begun;
    void *fake;                 // AddressSanitizer's own idea of the stack that is not running
    Pages stack{ STACK };
};

Block *B;
static jmp_buf scheduler;
static Fiber *running;
static std::vector<std::unique_ptr<Fiber>> fibers;     // all that were ever wanted
static std::vector<Fiber *> idle;
static int order;
static const Thread nobody = { dim3(0, 0, 0), 0, FRESH, 0, 0, nullptr };

void fail(const char *why, const Thread &t)
{
    fprintf(stderr, "emu: kernel %s, block (%u,%u,%u), thread (%u,%u,%u), line %d: %s\n", B->kernel, B->idx.x, B->idx.y, B->idx.z, t.idx.x, t.idx.y,
            t.idx.z, t.line, why);
    _exit(3);                   // on a fiber's stack, which exit() would give back
}

// A fault while a kernel runs: the emulator's line, whatever the program would do about it.
static void on_fault(int signal)
{
    fail(signal == SIGILL ? "after that line, an access that is not aligned as its type asks, or an index past its array"
                          : "after that line, touches memory that is not its own", B->now ? *B->now : nobody);
}

// While an object lives, faults are the kernel's. They are handled on a stack of their own, since a fiber's may be used up.
class Faults {
    static constexpr int which[] = { SIGSEGV, SIGBUS, SIGILL };
    struct sigaction old[3];
    stack_t old_stack;

public:
    Faults()
    {
        static char stack[64 << 10];
        stack_t mine = {};
        mine.ss_sp = stack;
        mine.ss_size = sizeof stack;
        sigaltstack(&mine, &old_stack);
        struct sigaction a = {};
        a.sa_handler = on_fault;
        a.sa_flags = SA_ONSTACK;
        for (int i = 0; i < 3; i++)
            sigaction(which[i], &a, &old[i]);
    }
    ~Faults()
    {
        for (int i = 0; i < 3; i++)
            sigaction(which[i], &old[i], nullptr);
        sigaltstack(&old_stack, nullptr);
    }
};

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
        end_copies();
        B->now->state = DONE;
        to_scheduler();
    }
}

static Fiber *take_fiber()
{
    if (idle.empty()) {
        fibers.emplace_back(new Fiber());
        Fiber *f = fibers.back().get();
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack.at;
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
    leaving(&main_fake, f->stack.at, STACK);
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

// ---- shared memory ----------------------------------------------------------------------------------------------------

// An array ends where its pages end, but for its alignment. What is left of them beside it is poisoned for AddressSanitizer; without it a block must leave
// every bit of it set.
struct Array {
    Pages pages;
    char *at;
    size_t bytes;
    bool taken = false;         // by the block that runs

    Array(size_t n, size_t align) : pages(n + 2 * align), bytes(n)
    {
        at = (char *)(((size_t)pages.at + pages.bytes - n) / align * align);
        if ((size_t)at % (2 * align) == 0)
            at -= align;
        memset(pages.at, 0xff, pages.bytes);
#if defined(__SANITIZE_ADDRESS__)
        __asan_poison_memory_region(pages.at, pages.bytes);
        __asan_unpoison_memory_region(at, bytes);
#endif
    }
    ~Array()
    {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(pages.at, pages.bytes);
#endif
    }
    bool is_whole() const
    {
#if defined(__SANITIZE_ADDRESS__)
        return true;
#else
        return is_set(pages.at, at) && is_set(at + bytes, pages.at + pages.bytes);
#endif
    }
    static bool is_set(const char *from, const char *to) { return from == to || (*from == (char)0xff && !memcmp(from, from + 1, to - from - 1)); }
};
static std::map<const void *, std::unique_ptr<Array>> arrays;

void *shared(const void *key, size_t bytes, size_t align)
{
    std::unique_ptr<Array> &a = arrays[key];
    if (!a)
        a.reset(new Array(bytes, align));
    if (!a->taken) {
        a->taken = true;
        memset(a->at, 0xff, bytes);
        B->shared.push_back(a.get());
        B->shared_bytes += bytes;
        if (B->shared_bytes > MAX_SHARED)
            fail("more than 227 KiB of shared memory", *B->now);
    }
    return a->at;
}

static void give_back_shared()
{
    for (Array *a : B->shared) {
        if (!a->is_whole())
            fail("something was written beside a shared array", nobody);
        a->taken = false;
    }
    B->shared.clear();
    B->shared_bytes = 0;
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

// The k-th of n in this schedule. Scattering is a permutation, since n is no multiple of the prime.
static size_t nth(size_t k, size_t n) { return order == 0 ? k : order == 1 ? n - 1 - k : (k * (n % 7919 ? 7919 : 7907) + 13) % n; }

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
    for (unsigned i = 0; i < n; i++)
        B->thread[i] = { dim3(i % B->dim.x, i / B->dim.x % B->dim.y, i / (B->dim.x * B->dim.y)), i, FRESH, 0, 0, nullptr };
    for (;;) {
        bool all = true;
        for (size_t k = 0; k < warps; k++) {
            const size_t first = nth(k, warps) * WARP_SIZE;
            all &= run_warp(first, std::min<size_t>(WARP_SIZE, n - first));
        }
        if (all)
            break;
        release_block();
    }
    give_back_shared();
}

bool is_shared(const void *p, size_t bytes)
{
    for (const Array *a : B->shared)
        if ((const char *)p >= a->at && (const char *)p + bytes <= a->at + a->bytes)
            return true;
    return false;
}

void launch(const char *kernel, dim3 grid, dim3 dim, const std::function<void()> &body)
{
    Open open;
    Faults faults;
    Block block = { kernel, grid, dim, dim3(0, 0, 0), {}, {}, {}, 0, nullptr, &body, {} };
    B = &block;
    const size_t n = (size_t)dim.x * dim.y * dim.z;
    if (n < 1 || n > MAX_THREADS || dim.z > 64)
        fail("a block of 1 to 1,024 threads, of at most 64 in z, is wanted", nobody);
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ)
        fail("the grid is empty or too large", nobody);
    block.thread.resize(n);
    block.slot.resize(n);
    block.copies.resize(n);
    const size_t blocks = (size_t)grid.x * grid.y * grid.z;
    for (size_t k = 0; k < blocks; k++) {
        const size_t i = nth(k, blocks);
        run_block(dim3((unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y), (unsigned)(i / grid.x / grid.y)));
    }
    B = nullptr;
}
}

extern "C" void emu_schedule(int o) { emu::order = o; }
