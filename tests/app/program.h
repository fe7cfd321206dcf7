/* program.h - running the built program as a shell does: exit code, stdout, stderr. */
#ifndef CX_TESTS_PROGRAM_H
#define CX_TESTS_PROGRAM_H
#include "support.h"
#include <sys/wait.h>

typedef struct { int code; char out[1 << 20], err[8000]; } ran;

static void slurp(const char *path, char *text, size_t n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text[fread(text, 1, n - 1, f)] = 0;
    fclose(f);
    remove(path);
}

/* Runs the program with arguments in shell words. Static storage: one result at a time. */
static const ran *run_program(const char *fmt, ...)
{
    static ran r;
    char args[2000], command[4000], base[] = "/tmp/cxnet-cli-XXXXXX", out[64], err[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof args, fmt, ap);
    va_end(ap);
    int fd = mkstemp(base);
    assert_true(fd >= 0);
    snprintf(out, sizeof out, "%s.out", base);
    snprintf(err, sizeof err, "%s.err", base);
    snprintf(command, sizeof command, "'%s' %s >%s 2>%s </dev/null", CX_TEST_PROGRAM, args, out, err);
    int s = system(command);
    r.code = WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
    slurp(out, r.out, sizeof r.out);
    slurp(err, r.err, sizeof r.err);
    remove(base);
    return &r;
}

/* Exit code, and texts that stdout and stderr contain. */
#define assert_runs(want_code, in_out, in_err, ...) do { const ran *r_ = run_program(__VA_ARGS__); \
    if (r_->code != (want_code)) fail_msg("exit %d, want %d; stderr: %s", r_->code, (want_code), r_->err); \
    if (!strstr(r_->out, (in_out))) fail_msg("stdout lacks \"%s\": %s", (in_out), r_->out); \
    if (!strstr(r_->err, (in_err))) fail_msg("stderr lacks \"%s\": %s", (in_err), r_->err); } while (0)
#endif
