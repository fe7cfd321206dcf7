/* test_sandbox.c - the child of the sandbox computes, and can do nothing else: each wish ends it or fails, and the parent hears why. */
#include "support.h"
#include "weights/sandboxed.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "weights/sandbox.h"

static const cx_sandbox_limits limits = { (size_t)64 << 20, 20, 20 };
#define RUN(work, self) cx_sandbox_run(work, self, &limits, err)

static cx_status add(void *self, cx_error *err)
{
    (void)err;
    int *n = self;
    void *p = malloc(1 << 20);
    n[2] = p ? n[0] + n[1] : 0;
    free(p);
    return CX_OK;
}

static void it_computes(void **state)
{
    (void)state;
    int *shared = cx_sandbox_share(3 * sizeof *shared), own[3] = { 3, 4, 0 };
    shared[0] = 3;
    shared[1] = 4;
    assert_cx_ok(RUN(add, shared));
    assert_int_equal(shared[2], 7);
    assert_cx_ok(RUN(add, own));
    assert_int_equal(own[2], 0);                                  /* what is not shared stays as it was */
    cx_sandbox_unshare(shared, 3 * sizeof *shared);
}

static cx_status complain(void *self, cx_error *err)
{
    return cx_fail(err, CX_E_DATA, "%s", (const char *)self);
}

static cx_status complain_of_memory(void *self, cx_error *err)
{
    return cx_fail(err, CX_E_MEMORY, "%s", (const char *)self);
}

static cx_status lie(void *self, cx_error *err)
{
    memset(err->text, 'x', sizeof err->text);                     /* no end */
    return *(cx_status *)self;
}

static void its_words_come_back(void **state)
{
    (void)state;
    cx_status odd = (cx_status)12345;
    assert_cx_fails(CX_E_DATA, "dataset 'a' is bad", RUN(complain, "dataset 'a' is bad"));
    assert_cx_fails(CX_E_DATA, "gr\xc3\xb6\xc3\x9f" "e?[31m? b?", RUN(complain, "gr\xc3\xb6\xc3\x9f" "e\x1b[31m\n b\xff"));
    assert_cx_fails(CX_E_DATA, "gave no reason", RUN(complain, ""));
    assert_cx_fails(CX_E_MEMORY, "none left", RUN(complain_of_memory, "none left"));
    assert_cx_fails(CX_E_DATA, "xxxx", RUN(lie, &odd));
}

/* ---- wishes; `*self` is what may be seen of success ----------------------------------------------------------------------- */

static cx_status open_file(void *self, cx_error *err)
{
    const int fd = open("/etc/passwd", O_RDONLY);
    return fd < 0 && errno == ENOENT ? CX_OK : cx_fail(err, CX_E_DATA, "opened %d %d %p", fd, errno, self);
}

static cx_status make_file(void *self, cx_error *err)
{
    const int fd = open(self, O_CREAT | O_WRONLY, 0600);
    return fd < 0 ? CX_OK : cx_fail(err, CX_E_DATA, "opened %d", fd);
}

static cx_status write_out(void *self, cx_error *err)
{
    (void)err;
    *(ssize_t *)self = write(*(int *)self, "!", 1);
    return CX_OK;
}

#define WISH(name, call) static cx_status name(void *self, cx_error *err) \
    { (void)err; long got = (long)(call); if (got >= 0) *(volatile int *)self = 1; return CX_OK; }
WISH(wish_socket, socket(AF_INET, SOCK_STREAM, 0))
WISH(wish_unix_socket, socket(AF_UNIX, SOCK_STREAM, 0))
WISH(wish_fork, syscall(SYS_fork))
WISH(wish_clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
WISH(wish_exec, execl("/bin/true", "true", (char *)NULL))
WISH(wish_kill, kill(getppid(), 0))
WISH(wish_open, syscall(SYS_open, "/etc/passwd", O_RDONLY))
WISH(wish_stat, syscall(SYS_stat, "/etc/passwd", (char[256]){ 0 }))
WISH(wish_unlink, unlink("/no/such/file"))
WISH(wish_ptrace, syscall(SYS_ptrace, 0, 0, 0, 0))
WISH(wish_memfd, syscall(SYS_memfd_create, "x", 0))
WISH(wish_pipe, pipe((int[2]){ 0, 0 }))
WISH(wish_read, read(0, (char[1]){ 0 }, 1))
WISH(wish_prctl, syscall(SYS_prctl, 4, 1, 0, 0, 0))
WISH(wish_limit, syscall(SYS_setrlimit, 0, (long[2]){ -1, -1 }))
WISH(wish_alarm, syscall(SYS_alarm, 0))
WISH(wish_itimer, syscall(SYS_setitimer, 0, (long[4]){ 0 }, 0))
WISH(wish_ioring, syscall(SYS_io_uring_setup, 1, (char[256]){ 0 }))
WISH(wish_process_vm, syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0))
WISH(wish_code, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0)
WISH(wish_code_later, mprotect(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
WISH(wish_x32, syscall(0x40000000 + SYS_getpid))

static void wishes_are_not_granted(void **state)
{
    (void)state;
    static cx_sandbox_work *const wishes[] = {
        wish_socket, wish_unix_socket, wish_fork, wish_clone, wish_exec, wish_kill, wish_open, wish_stat, wish_unlink, wish_ptrace, wish_memfd, wish_pipe,
        wish_read, wish_prctl, wish_limit, wish_alarm, wish_itimer, wish_ioring, wish_process_vm, wish_code, wish_code_later, wish_x32,
    };
    int *granted = cx_sandbox_share(sizeof *granted);
    for (int i = 0; i < CX_COUNT(wishes); i++) {
        cx_error e = { 0 };
        const cx_status s = cx_sandbox_run(wishes[i], granted, &limits, &e);
        if (*granted)
            fail_msg("wish %d was granted", i);
#ifdef CX_SANITIZED
        (void)s;                                                  /* EPERM there, so the child lives */
#else
        if (s != CX_E_DATA || !strstr(e.text, "asked the system"))
            fail_msg("wish %d: status %d, %s", i, (int)s, e.text);
#endif
    }
    cx_sandbox_unshare(granted, sizeof *granted);
}

static void no_file_is_there(void **state)
{
    (void)state;
    assert_cx_ok(RUN(open_file, NULL));
    assert_cx_ok(RUN(make_file, "sandbox_was_here"));
    assert_false(cx_file_exists("sandbox_was_here"));
    int ends[2];
    char got;
    assert_int_equal(pipe(ends), 0);
    ssize_t *said = cx_sandbox_share(sizeof *said);
    *(int *)said = ends[1];
    cx_error e = { 0 };
    cx_sandbox_run(write_out, said, &limits, &e);
    close(ends[1]);
    assert_int_equal(read(ends[0], &got, 1), 0);                  /* nothing came through a descriptor of the parent's */
    close(ends[0]);
    cx_sandbox_unshare(said, sizeof *said);
}

/* ---- limits and ends ------------------------------------------------------------------------------------------------------ */

static cx_status forever(void *self, cx_error *err)
{
    for (volatile unsigned *n = self; !err || *n + 1; )
        *n = *n % 1000 + 1;
    return CX_OK;
}

static cx_status crash(void *self, cx_error *err)
{
    int *volatile nowhere = self;
    (void)err;
    *nowhere = 1;
    return CX_OK;
}

#ifndef CX_SANITIZED
static cx_status gorge(void *self, cx_error *err)
{
    size_t *got = self;
    for (char *p; (p = malloc((size_t)1 << 20)); *got += (size_t)1 << 20)
        memset(p, 1, (size_t)1 << 20);
    return cx_fail(err, CX_E_MEMORY, "no memory");
}
#endif

static void it_has_an_end(void **state)
{
    (void)state;
    unsigned *count = cx_sandbox_share(64);
    const cx_sandbox_limits by_clock = { (size_t)64 << 20, 1, 20 }, by_work = { (size_t)64 << 20, 60, 1 };
    assert_cx_fails(CX_E_DATA, "20 s of processor time or 1 s", cx_sandbox_run(forever, count, &by_clock, err));
    assert_cx_fails(CX_E_DATA, "1 s of processor time or 60 s", cx_sandbox_run(forever, count, &by_work, err));
    assert_true(*count > 0);
#ifndef CX_SANITIZED
    size_t *got = (size_t *)(void *)(count + 4);
    assert_cx_fails(CX_E_DATA, "killed (signal 11)", RUN(crash, NULL));
    assert_cx_fails(CX_E_MEMORY, "no memory", RUN(gorge, got));
    assert_true(*got > (size_t)32 << 20 && *got <= (size_t)64 << 20);
#else
    cx_error e = { 0 };
    const cx_status s = cx_sandbox_run(crash, NULL, &limits, &e);
    assert_true(s == CX_E_INTERNAL || (s == CX_E_DATA && strstr(e.text, "signal 11")));      /* the first where the sanitizer looks at pointers */
#endif
    cx_sandbox_unshare(count, 64);
}

static void a_parent_may_ignore_its_children(void **state)
{
    (void)state;
    void (*before)(int) = signal(SIGCHLD, SIG_IGN);
    int *shared = cx_sandbox_share(3 * sizeof *shared);
    shared[0] = 30;
    shared[1] = 12;
    assert_cx_ok(RUN(add, shared));
    assert_int_equal(shared[2], 42);
    assert_cx_fails(CX_E_DATA, "dataset", RUN(complain, "dataset"));
    signal(SIGCHLD, before);
    cx_sandbox_unshare(shared, 3 * sizeof *shared);
}

static void no_child_is_left(void **state)
{
    (void)state;
    int status;
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_computes), cmocka_unit_test(its_words_come_back), cmocka_unit_test(wishes_are_not_granted), cmocka_unit_test(no_file_is_there),
        cmocka_unit_test(it_has_an_end), cmocka_unit_test(a_parent_may_ignore_its_children), cmocka_unit_test(no_child_is_left),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
