/* verb.h - what a verb of the command line is. The table is in verbs.c: a verb is one file and one row. */
#ifndef CX_APP_VERB_H
#define CX_APP_VERB_H
#include "cxnet/status.h"
#include "cxnet/base.h"

typedef struct {
    const char *flag;        /* "--out" */
    const char *value;       /* "DIR", or NULL for a switch */
    const char *doc;
} cx_flag;

struct cx_args;
typedef struct cx_verb {
    const char *name;        /* "data check" has two words */
    const char *args;        /* "MANIFEST" */
    const char *doc;         /* one line */
    const cx_flag *flags; int n_flags;
    int min_args, max_args;  /* positional */
    cx_status (*run)(const struct cx_verb *v, const struct cx_args *a, cx_error *err);
} cx_verb;

/* A parsed command line: positionals, and the value of each flag ("" for a switch that is given, NULL when absent). A flag given more than once keeps all values in order. */
typedef struct cx_args {
    const char **positional; int n_positional;
    const char **flag_name, **flag_value; int n_flags;
} cx_args;
const char *cx_arg(const cx_args *a, const char *flag);                                   /* last value, or NULL */
int cx_arg_all(const cx_args *a, const char *flag, char **out, int max);                  /* all values, in order */
cx_status cx_arg_int(const cx_args *a, const char *flag, int def, int lo, int hi, int *out, cx_error *err);
cx_status cx_arg_real(const cx_args *a, const char *flag, double def, double lo, double hi, double *out, cx_error *err);

extern const cx_verb *const cx_verbs[];      /* NULL-terminated */
#endif
