/* main.c - the program: one verb per call, errors as one line on stderr, exit codes of sysexits.h. Depends on args.h. */
#include "args.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cx_status run_verb(int argc, char *const *argv, cx_error *err)
{
    const cx_verb *v;
    int words;
    bool help;
    if (argc == 2 && cx_is_group(argv[0]) && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        cx_help_group(argv[0], stdout);
        return CX_OK;
    }
    TRY(cx_verb_find(argc, argv, &v, &words, err));
    cx_args a = { 0 };
    cx_status s = cx_args_parse(v, argc - words, argv + words, &a, &help, err);
    if (s == CX_OK && help)
        cx_help_verb(v, stdout);
    else if (s == CX_OK)
        s = v->run(v, &a, err);
    cx_args_free(&a);
    return s;
}

static cx_status run(int argc, char *const *argv, cx_error *err)
{
    if (argc == 0) {
        cx_help_all(stderr);
        return cx_fail(err, CX_E_USAGE, "no verb was given");
    }
    if (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))
        cx_help_all(stdout);
    else if (!strcmp(argv[0], "--version"))
        puts("cxnet " CX_VERSION);
    else
        return run_verb(argc, argv, err);
    return CX_OK;
}

/* libgomp's threads spin between parallel regions and so take the cores from whoever could finish the region. 1000 turns, some 50 us, bridge the gaps between
 * the steps of a small network or batch and give a core up soon after (numbers in HACKING.md). libgomp reads its environment before main, so the program
 * starts itself again with it, unless the user has said something about waiting. */
static void wait_politely(char *const *argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "1000", 1) != 0)
        return;
    execv("/proc/self/exe", argv);          /* returns only where there is no /proc: then we go on as we are */
}

int main(int argc, char **argv)
{
    cx_error err = { 0 };
    wait_politely(argv);
    cx_status s = run(argc > 0 ? argc - 1 : 0, argv + 1, &err);
    /* Text that never reached its file or pipe is a failure too. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && s == CX_OK)
        s = cx_fail(&err, CX_E_IO, "the output cannot be written: %s", strerror(errno));
    if (s != CX_OK) {
        bool red = cx_use_colour(stderr);
        fprintf(stderr, "%scxnet: %s%s\n", red ? "\033[31m" : "", err.text, red ? "\033[0m" : "");
    }
    return cx_exit_code(s);
}
