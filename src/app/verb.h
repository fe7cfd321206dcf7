/* verb.h - what a verb of the command line is. A verb is one file with a `const cx_verb cx_verb_NAME` and one row in verbs.c. */
#ifndef CX_APP_VERB_H
#define CX_APP_VERB_H
#include "cxnet/base.h"

typedef struct {
    const char *flag;        /* "--out" */
    const char *value;       /* "DIR", or "auto|must|never", or NULL for a switch */
    const char *doc;
} cx_flag;

struct cx_args;
typedef struct cx_verb {
    const char *name;        /* "data check" has two words */
    const char *args;        /* "MANIFEST", "[FILE]"; "" when there are none */
    const char *doc;         /* one line */
    const char *more;        /* paragraphs for `cxnet help VERB`, each ended by '\n'; NULL when the line says all */
    const cx_flag *flags; int n_flags;
    int min_args, max_args;  /* positional */
    cx_status (*run)(const struct cx_verb *v, const struct cx_args *a, cx_error *err);
} cx_verb;

/* Flags that mean the same in every verb. */
#define CX_FLAG_SET { "--set", "KEY=VALUE", "set a key of the experiment, e.g. --set optim.lr=3e-4; may be given more than once" }
#define CX_FLAG_JSON { "--json", NULL, "print one JSON document instead of text" }
/* `absent`: what is taken without the flag, a literal. */
#define CX_FLAG_DEVICE(absent) { "--device", "NAME", "cpu, an instruction set as cpu:avx2, cuda, cuda:1, or auto (a GPU where there is one); absent: " absent \
    ". `cxnet devices` lists them" }
#define CX_FLAG_THREADS { "--threads", "N", "threads; 0 or absent: all cores. Results do not depend on it" }

/* A parsed command line: positionals, and the value of each flag ("" for a switch) in the order given. Strings belong to argv or to the args. */
typedef struct cx_args {
    const char **positional; int n_positional;
    const char **flag_name, **flag_value; int n_flags;
} cx_args;
const char *cx_arg(const cx_args *a, const char *flag);                                   /* last value, "" for a switch, NULL when absent */
int cx_arg_all(const cx_args *a, const char *flag, char **out, int max);                  /* all values, in order; at most a->n_flags */
/* Numbers in lo..hi, `def` when absent. CX_E_USAGE otherwise. */
cx_status cx_arg_int(const cx_args *a, const char *flag, int def, int lo, int hi, int *out, cx_error *err);
cx_status cx_arg_real(const cx_args *a, const char *flag, double def, double lo, double hi, double *out, cx_error *err);
/* Index into "a|b|c", `def` when absent. */
cx_status cx_arg_choice(const cx_args *a, const char *flag, const char *choices, int def, int *out, cx_error *err);

extern const cx_verb *const cx_verbs[];      /* NULL-terminated, in the order of the help */
#endif
