/* config.h - private to src/train: the table of keys behind cx_config, and what an experiment file or a --set has said about each of them. */
#ifndef CX_TRAIN_CONFIG_H
#define CX_TRAIN_CONFIG_H
#include "cxnet/train.h"

typedef enum { CX_KEY_TEXT, CX_KEY_INT, CX_KEY_REAL, CX_KEY_BOOL, CX_KEY_CHOICE, CX_KEY_LIST } cx_key_kind;

/* One row of config.def. */
typedef struct {
    const char *name;
    cx_key_kind kind;
    const char *def;          /* as written in the table; lists: "a,b" */
    const char *choices;      /* CHOICE: "a|b|c" */
    const char *doc;
    double lo, hi;            /* INT, REAL */
    size_t offset;            /* in its section's struct */
} cx_key;
typedef struct {
    const char *name, *doc;
    const cx_key *keys; int n;
    size_t offset, bytes;     /* in cx_config */
} cx_section;

int cx_config_sections(void);
const cx_section *cx_config_section(int s);
int cx_config_find_section(const char *name);                    /* -1 when unknown */
int cx_config_find_key(int section, const char *name);           /* -1 when unknown */
/* The known name nearest to a misspelt one (edit distance at most a third of its length, at least 2), or NULL. section -1: section names. */
const char *cx_config_nearest(int section, const char *name);
/* "optim.lr", where a key of that name exists in another section; false when in none. */
bool cx_config_elsewhere(const char *name, char *out, size_t n);
/* What a key accepts: "a whole number from 1 to 4096". */
void cx_key_want(const cx_key *k, char *out, size_t n);
/* The shortest decimal that reads back to the same double; "1.0e-05", never "1e-05", which YAML 1.1 readers take for text. */
void cx_real_text(double x, char out[32]);

/* What was said about one key, before it has a type. */
typedef struct {
    char **item; int n;       /* a list's items, else one text */
    bool list, plain;         /* plain: a scalar without quotes */
    bool odd;                 /* a text holds a NUL or another unprintable character */
    int line;                 /* of the experiment file; 0: not from there */
    const char *set;          /* the whole text of a --set, or NULL */
} cx_said;
/* Everything said: said[section][key]; item == NULL where nothing was. */
typedef struct { const char *path; cx_said **said; } cx_sayings;

cx_status cx_sayings_new(cx_sayings *out, cx_error *err);
void cx_sayings_free(cx_sayings *a);
void cx_said_clear(cx_said *v);
bool cx_said_add(cx_said *v, const char *text, size_t n);        /* false when out of memory */
/* The experiment's text into *a, and one --set into *a: syntax and structure only. A later --set of a key replaces what was said before. */
cx_status cx_sayings_file(cx_sayings *a, const char *text, size_t n, cx_error *err);
cx_status cx_sayings_set(cx_sayings *a, const char *set, cx_error *err);
/* CX_E_CONFIG: "file:line: section.key: ..." or "--set section.key=...: ...", whichever said it. */
cx_status cx_said_fail(const cx_sayings *a, int section, int key, cx_error *err, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Text for a message: in double quotes, at most 60 bytes, unprintable bytes as '?'. */
void cx_shown(const char *text, char out[80]);

/* Type, range and choice of every key that was said. */
cx_status cx_sayings_check(const cx_sayings *a, cx_error *err);
/* The value of a number that cx_sayings_check accepts. */
bool cx_real_parse(const char *text, double *out);
bool cx_int_parse(const char *text, int *out);
/* Checks that concern several keys, and the syntax of classes and label sets; the message points at the key to mend. */
cx_status cx_config_check(const cx_config *c, const cx_sayings *a, cx_error *err);

/* `name=A+B` (separator '=') or `source:A+B` (':'), taken apart. Without a separator the text is name and label at once. */
typedef struct { char *name, **label; int n; char *text; } cx_spec;
/* NULL, or what is wrong with it (a static sentence); *out needs cx_spec_free only after NULL. */
const char *cx_spec_parse(const char *text, char separator, cx_spec *out);
void cx_spec_free(cx_spec *s);

/* A text as YAML: plain where that is safe, else in double quotes. */
void cx_yaml_text(cx_buf *b, const char *text);
void cx_yaml_list(cx_buf *b, char *const *item, int n);
#endif
