/* sandbox.c - the child process in which other people's files are parsed: no descriptors, a seccomp filter, limits of memory and time. Depends on sandbox.h. */
#include "sandbox.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

void *cx_sandbox_share(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void cx_sandbox_unshare(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

#if defined(__linux__) && defined(__x86_64__)
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what the child may call ------------------------------------------------------------------------------------------- */

#ifdef CX_SANITIZED
#define DENY (SECCOMP_RET_ERRNO | EPERM)
#else
#define DENY SECCOMP_RET_KILL_PROCESS
#endif
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define ALLOW(call) EQUAL(SYS_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)

static const struct sock_filter filter[] = {
    LOAD(arch), EQUAL(AUDIT_ARCH_X86_64, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), RETURN(SECCOMP_RET_KILL_PROCESS),     /* the x32 calls have numbers of their own */
    /* memory; what maps it is looked at below */
    ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise),
    /* locks of malloc, its random key; clocks where the vDSO does not serve; what abort() and longjmp() need */
    ALLOW(futex), ALLOW(getrandom), ALLOW(clock_gettime), ALLOW(gettimeofday), ALLOW(time), ALLOW(rt_sigprocmask), ALLOW(getpid), ALLOW(gettid), ALLOW(sysinfo),
    /* libhdf5 reads a block whose checksum fails once more, a little later */
    ALLOW(clock_nanosleep), ALLOW(nanosleep), ALLOW(exit), ALLOW(exit_group),
    /* libhdf5's driver for files in memory makes sure that no file of that name exists: none does here, whatever it is called */
    EQUAL(SYS_openat, 0, 1), RETURN(SECCOMP_RET_ERRNO | ENOENT),
#ifdef CX_SANITIZED
    /* its report: text, stack traces */
    ALLOW(write), ALLOW(sigaltstack), ALLOW(rt_sigaction), ALLOW(rt_sigreturn), ALLOW(sched_yield), ALLOW(getrlimit), ALLOW(prlimit64), ALLOW(tgkill),
    ALLOW(getuid), ALLOW(getppid),
#endif
    /* mapped memory never holds code; a mapped file would want a descriptor, and there is none */
    EQUAL(SYS_mmap, 2, 0), EQUAL(SYS_mprotect, 1, 0), RETURN(DENY),
    LOAD(args[2]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), RETURN(DENY), RETURN(SECCOMP_RET_ALLOW),
};

static cx_status shut_in(cx_error *err)
{
    const struct sock_fprog program = { CX_COUNT(filter), (struct sock_filter *)(uintptr_t)filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        return cx_fail(err, CX_E_UNSUPPORTED, "this system does not let a process give up its rights (seccomp: %s), and such a file is not read without; "
            "allow seccomp here, or read it elsewhere", strerror(errno));
    return CX_OK;
}

/* ---- limits ------------------------------------------------------------------------------------------------------------ */

/* Bytes of address space that this process has mapped; 0 when unknown. */
static size_t mapped_bytes(void)
{
    char text[64] = { 0 };
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    return n > 0 ? (size_t)strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

static bool limit(int what, rlim_t value)
{
    struct rlimit r;
    if (getrlimit((__rlimit_resource_t)what, &r) != 0)
        return false;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || value < r.rlim_max ? value : r.rlim_max;
    r.rlim_max = r.rlim_cur;
    return setrlimit((__rlimit_resource_t)what, &r) == 0;
}

static cx_status set_limits(const cx_sandbox_limits *l, size_t mapped, cx_error *err)
{
    bool ok = limit(RLIMIT_CORE, 0) && limit(RLIMIT_NOFILE, 0) && limit(RLIMIT_CPU, l->cpu_seconds);
#ifndef CX_SANITIZED
    ok = ok && limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_AS, (rlim_t)mapped + l->memory_bytes);
#else                                              /* stderr may be a file */
    (void)mapped;
#endif
    return ok ? CX_OK : cx_fail(err, CX_E_UNSUPPORTED, "this system does not let a process limit itself (setrlimit: %s)", strerror(errno));
}

static void close_descriptors(void)
{
#ifdef CX_SANITIZED
    const unsigned first = 3;                      /* a sanitizer's report goes to stderr */
#else
    const unsigned first = 0;
#endif
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0U) == 0)
        return;
#endif
    const long last = sysconf(_SC_OPEN_MAX);
    for (long fd = first; fd < last; fd++)
        close((int)fd);
}

/* Signals end the child as they end a program that knows nothing of them, and the clock ends it too: nobody needs to watch it. */
static void default_signals(unsigned seconds)
{
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(seconds);
}

/* ---- parent and child -------------------------------------------------------------------------------------------------- */

typedef struct { int finished, status; char text[sizeof((cx_error *)0)->text]; } answer;

static cx_status in_child(cx_sandbox_work *work, void *self, const cx_sandbox_limits *limits, size_t mapped, cx_error *err)
{
    default_signals(limits->seconds);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);
    close_descriptors();
    TRY(set_limits(limits, mapped, err));
    TRY(shut_in(err));
    return work(self, err);
}

/* Never returns: no handler, buffer or sanitizer's check of the parent's may run at the end of the child. */
static void child(cx_sandbox_work *work, void *self, const cx_sandbox_limits *limits, size_t mapped, answer *a)
{
    cx_error e = { 0 };
    a->status = (int)in_child(work, self, limits, mapped, &e);
    memcpy(a->text, e.text, sizeof a->text);
    a->finished = 1;
    for (;;)
        syscall(SYS_exit_group, 0);
}

static cx_status killed(int status, const cx_sandbox_limits *l, cx_error *err)
{
    const int s = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
#ifdef CX_SANITIZED
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)          /* so end what a sanitizer found: our fault, not the file's */
        return cx_fail(err, CX_E_INTERNAL, "its parser was ended by the sanitizer");
#endif
    if (s == SIGSYS)
        return cx_fail(err, CX_E_DATA, "its parser was killed when it asked the system for what no parser needs; the file is not to be trusted");
    if (s == SIGALRM || s == SIGXCPU || s == SIGKILL)
        return cx_fail(err, CX_E_DATA, "its parser was killed: it took more than the %u s of processor time or %u s that such a file is given, or the "
            "memory ran out", l->cpu_seconds, l->seconds);
    return cx_fail(err, CX_E_DATA, "its parser was killed (signal %d); the file is damaged, or made to do harm", s);
}

/* What the child says about its end, believed no further than a text can be. */
static cx_status judge(const answer *a, int status, const cx_sandbox_limits *l, cx_error *err)
{
    char text[sizeof a->text];
    if (!a->finished || (WIFSIGNALED(status) && WTERMSIG(status)))
        return killed(status, l, err);
    const int s = a->status;
    if (s == CX_OK)
        return CX_OK;
    memcpy(text, a->text, sizeof text);
    text[sizeof text - 1] = 0;
    for (char *p = text; *p; ) {
        const size_t valid = cx_utf8_valid(p, strlen(p));
        for (size_t i = 0; i < valid; i++)
            if ((unsigned char)p[i] < ' ' || p[i] == 127)
                p[i] = '?';
        p += valid;
        if (*p)
            *p++ = '?';
    }
    return cx_fail(err, s == CX_E_MEMORY || s == CX_E_UNSUPPORTED ? (cx_status)s : CX_E_DATA, "%s", text[0] ? text : "its parser gave no reason");
}

static cx_status run(cx_sandbox_work *work, void *self, const cx_sandbox_limits *limits, answer *a, cx_error *err)
{
    int status = 0;
    const size_t mapped = mapped_bytes();
    if (!mapped)
        return cx_fail(err, CX_E_UNSUPPORTED, "how much memory this process has cannot be told (/proc/self/statm), so a parser's cannot be limited");
    const pid_t pid = fork();
    if (pid < 0)
        return cx_fail(err, CX_E_MEMORY, "no process can be made for its parser: %s", strerror(errno));
    if (pid == 0)
        child(work, self, limits, mapped, a);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) {                      /* a program that ignores SIGCHLD gets no status: the answer has to do */
            status = 0;
            break;
        }
    return judge(a, status, limits, err);
}

cx_status cx_sandbox_run(cx_sandbox_work *work, void *self, const cx_sandbox_limits *limits, cx_error *err)
{
    answer *a = cx_sandbox_share(sizeof *a);
    if (!a)
        return cx_fail(err, CX_E_MEMORY, "no memory for a parser's answer");
    const cx_status s = run(work, self, limits, a, err);
    cx_sandbox_unshare(a, sizeof *a);
    return s;
}

#else
cx_status cx_sandbox_run(cx_sandbox_work *work, void *self, const cx_sandbox_limits *limits, cx_error *err)
{
    (void)work, (void)self, (void)limits;
    return cx_fail(err, CX_E_UNSUPPORTED, "other people's files are read on Linux on x86-64 only, where a parser can be shut in; read it there");
}
#endif
