/* args.c - finds the verb, parses its flags, and suggests what was meant. Depends on args.h. */
#include "args.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Levenshtein distance; words longer than the table count as far. */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    int na = (int)strlen(a), nb = (int)strlen(b), row[LONGEST + 1];
    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    for (int k = 0; k <= nb; k++)
        row[k] = k;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int k = 1; k <= nb; k++) {
            int best = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            row[k] = best;
        }
    }
    return row[nb];
}

const char *cx_nearest(const char *word, const char *(*next)(const void *ctx, int i), const void *ctx)
{
    const char *best = NULL, *candidate;
    int least = (int)strlen(word) / 3 + 2;       /* a typo or two in a short word */
    for (int i = 0; (candidate = next(ctx, i)); i++) {
        int d = distance(word, candidate);
        if (d < least) {
            least = d;
            best = candidate;
        }
    }
    return best;
}

static const char *next_verb(const void *ctx, int i)
{
    (void)ctx;
    return cx_verbs[i] ? cx_verbs[i]->name : NULL;
}

static const char *next_flag(const void *ctx, int i)
{
    const cx_verb *v = ctx;
    return i < v->n_flags ? v->flags[i].flag : i == v->n_flags ? "--help" : NULL;
}

bool cx_is_group(const char *word)
{
    size_t n = strlen(word);
    for (int i = 0; cx_verbs[i]; i++)
        if (!strncmp(cx_verbs[i]->name, word, n) && cx_verbs[i]->name[n] == ' ')
            return true;
    return false;
}

/* The i-th second word of the verbs that begin with the word ctx. */
static const char *next_in_group(const void *ctx, int i)
{
    const char *word = ctx;
    size_t n = strlen(word);
    for (int k = 0; cx_verbs[k]; k++)
        if (!strncmp(cx_verbs[k]->name, word, n) && cx_verbs[k]->name[n] == ' ' && i-- == 0)
            return cx_verbs[k]->name + n + 1;
    return NULL;
}

static cx_status unknown_in_group(const char *word, const char *second, cx_error *err)
{
    char list[200] = "";
    const char *each, *near = second ? cx_nearest(second, next_in_group, word) : NULL;
    for (int i = 0; (each = next_in_group(word, i)); i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", each);
    }
    if (!second)
        return cx_fail(err, CX_E_USAGE, "\"%s\" wants one more word: %s", word, list);
    if (near)
        return cx_fail(err, CX_E_USAGE, "unknown verb \"%s %s\"; did you mean \"%s %s\"?", word, second, word, near);
    return cx_fail(err, CX_E_USAGE, "\"%s\" knows %s, not \"%s\"", word, list, second);
}

static cx_status unknown_verb(int argc, char *const *argv, cx_error *err)
{
    if (cx_is_group(argv[0]))
        return unknown_in_group(argv[0], argc > 1 ? argv[1] : NULL, err);
    char two[64];
    snprintf(two, sizeof two, "%s %s", argv[0], argc > 1 ? argv[1] : "");
    const char *near = cx_nearest(argv[0], next_verb, NULL);
    if (!near && argc > 1)
        near = cx_nearest(two, next_verb, NULL);
    if (near)
        return cx_fail(err, CX_E_USAGE, "unknown verb \"%s\"; did you mean \"%s\"?", argv[0], near);
    return cx_fail(err, CX_E_USAGE, "unknown verb \"%s\"; \"cxnet --help\" lists them", argv[0]);
}

cx_status cx_verb_find(int argc, char *const *argv, const cx_verb **v, int *words, cx_error *err)
{
    for (int i = 0; cx_verbs[i]; i++) {
        const char *name = cx_verbs[i]->name, *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);
        if (strlen(argv[0]) != first || strncmp(argv[0], name, first) || (space && (argc < 2 || strcmp(argv[1], space + 1))))
            continue;
        *v = cx_verbs[i];
        *words = space ? 2 : 1;
        return CX_OK;
    }
    return unknown_verb(argc, argv, err);
}

static cx_status take_flag(const cx_verb *v, int argc, char *const *argv, int *i, cx_args *a, cx_error *err)
{
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const cx_flag *f = NULL;
    for (int k = 0; k < v->n_flags; k++)
        if (strlen(v->flags[k].flag) == n && !strncmp(v->flags[k].flag, word, n))
            f = &v->flags[k];
    if (!f) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, word);
        const char *near = cx_nearest(name, next_flag, v);
        return near ? cx_fail(err, CX_E_USAGE, "%s: unknown flag \"%s\"; did you mean \"%s\"?", v->name, name, near)
                    : cx_fail(err, CX_E_USAGE, "%s: unknown flag \"%s\"; \"cxnet help %s\" lists its flags", v->name, name, v->name);
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!f->value && value)
        return cx_fail(err, CX_E_USAGE, "%s: %s is a switch and takes no value", v->name, f->flag);
    if (f->value && !value) {
        if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
            return cx_fail(err, CX_E_USAGE, "%s: %s wants a value: %s %s", v->name, f->flag, f->flag, f->value);
        value = argv[++*i];
    }
    a->flag_name[a->n_flags] = f->flag;
    a->flag_value[a->n_flags++] = value ? value : "";
    return CX_OK;
}

cx_status cx_args_parse(const cx_verb *v, int argc, char *const *argv, cx_args *a, bool *help, cx_error *err)
{
    size_t n = (size_t)argc + 1;
    *a = (cx_args){ .positional = cx_alloc(n, sizeof(char *)), .flag_name = cx_alloc(n, sizeof(char *)), .flag_value = cx_alloc(n, sizeof(char *)) };
    *help = false;
    if (!a->positional || !a->flag_name || !a->flag_value)
        return cx_fail(err, CX_E_MEMORY, "no memory for the command line");
    bool flags = true;
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--"))
            break;
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            *help = true;
    for (int i = 0; i < argc && !*help; i++) {
        if (flags && !strcmp(argv[i], "--"))
            flags = false;
        else if (flags && argv[i][0] == '-' && argv[i][1])
            TRY(take_flag(v, argc, argv, &i, a, err));
        else
            a->positional[a->n_positional++] = argv[i];
    }
    if (*help)
        return CX_OK;
    if (a->n_positional < v->min_args)
        return cx_fail(err, CX_E_USAGE, "%s wants %s: cxnet %s %s", v->name, v->args, v->name, v->args);
    if (a->n_positional > v->max_args)
        return cx_fail(err, CX_E_USAGE, "%s: one word too many: \"%s\"; usage: cxnet %s %s", v->name, a->positional[v->max_args], v->name, v->args);
    return CX_OK;
}

void cx_args_free(cx_args *a)
{
    free(a->positional);
    free(a->flag_name);
    free(a->flag_value);
    *a = (cx_args){ 0 };
}

const char *cx_arg(const cx_args *a, const char *flag)
{
    for (int i = a->n_flags - 1; i >= 0; i--)
        if (!strcmp(a->flag_name[i], flag))
            return a->flag_value[i];
    return NULL;
}

int cx_arg_all(const cx_args *a, const char *flag, char **out, int max)
{
    int n = 0;
    for (int i = 0; i < a->n_flags && n < max; i++)
        if (!strcmp(a->flag_name[i], flag))
            out[n++] = (char *)a->flag_value[i];
    return n;
}

cx_status cx_arg_int(const cx_args *a, const char *flag, int def, int lo, int hi, int *out, cx_error *err)
{
    const char *text = cx_arg(a, flag);
    *out = def;
    if (!text)
        return CX_OK;
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < lo || v > hi)
        return cx_fail(err, CX_E_USAGE, "%s: want a whole number in %d..%d, got \"%s\"", flag, lo, hi, text);
    *out = (int)v;
    return CX_OK;
}

cx_status cx_arg_real(const cx_args *a, const char *flag, double def, double lo, double hi, double *out, cx_error *err)
{
    const char *text = cx_arg(a, flag);
    *out = def;
    if (!text)
        return CX_OK;
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= lo && v <= hi))
        return cx_fail(err, CX_E_USAGE, "%s: want a number in %g..%g, got \"%s\"", flag, lo, hi, text);
    *out = v;
    return CX_OK;
}

cx_status cx_arg_choice(const cx_args *a, const char *flag, const char *choices, int def, int *out, cx_error *err)
{
    const char *text = cx_arg(a, flag);
    *out = def;
    if (!text)
        return CX_OK;
    int i = 0;
    for (const char *c = choices; c; i++) {
        size_t n = strcspn(c, "|");
        if (strlen(text) == n && !strncmp(text, c, n)) {
            *out = i;
            return CX_OK;
        }
        c = c[n] ? c + n + 1 : NULL;
    }
    return cx_fail(err, CX_E_USAGE, "%s: want %s, got \"%s\"", flag, choices, text);
}
