/* verb_help.c - `cxnet help [VERB]`, `cxnet version`. Depends on args.h. */
#include "args.h"

static cx_status run_help(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    const cx_verb *about;
    int words;
    if (a->n_positional == 0) {
        cx_help_all(stdout);
        return CX_OK;
    }
    if (a->n_positional == 1 && cx_is_group(a->positional[0])) {
        cx_help_group(a->positional[0], stdout);
        return CX_OK;
    }
    TRY(cx_verb_find(a->n_positional, (char *const *)a->positional, &about, &words, err));
    if (words != a->n_positional)
        return cx_fail(err, CX_E_USAGE, "help: one word too many: \"%s\"", a->positional[words]);
    cx_help_verb(about, stdout);
    return CX_OK;
}

const cx_verb cx_verb_help = {
    .name = "help", .args = "[VERB]", .doc = "all verbs, or what one takes", .max_args = 2, .run = run_help
};

static cx_status run_version(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    (void)a;
    (void)err;
    puts("cxnet " CX_VERSION);
    return CX_OK;
}

const cx_verb cx_verb_version = { .name = "version", .args = "", .doc = "print the version", .run = run_version };
