/* pickle.h - a Python pickle as a tree of values, made without running anything. Private to src/weights. Depends on base.h.
 *
 * Protocols 1 to 5. Every global (a class or function that the pickle names) must stand in the caller's table, and what a call would return stays a node that
 * says who is called with what; only the caller gives it a meaning. Sources: Python's pickletools (what each instruction does), and torch's
 * _weights_only_unpickler.py (what a state dictionary needs). */
#ifndef CXNET_WEIGHTS_PICKLE_H
#define CXNET_WEIGHTS_PICKLE_H
#include "cxnet/base.h"

typedef enum {
    CX_PK_NONE, CX_PK_BOOL, CX_PK_INT,
    CX_PK_BIG,         /* a whole number of more than 64 bits: its bytes, little-endian */
    CX_PK_FLOAT,
    CX_PK_TEXT,        /* valid UTF-8; not NUL-terminated */
    CX_PK_BYTES,
    CX_PK_TUPLE, CX_PK_LIST,
    CX_PK_DICT,        /* keys and values in turn, as set: a key may come twice */
    CX_PK_GLOBAL,      /* i: its row in the table */
    CX_PK_CALL,        /* items: the global, its arguments (a tuple) */
    CX_PK_PERSISTENT   /* item: what names something outside of the pickle */
} cx_pk_kind;

typedef uint32_t cx_pk_ref;            /* a node of the pickle it came from */
typedef struct {
    union { int64_t i; double f; const char *text; };   /* text points into the pickle. A dictionary that a call made: i = its global's row, else -1 */
    uint32_t n, first, cap;            /* bytes of text, or items; where these begin, and how many fit there */
    uint8_t kind;                      /* cx_pk_kind */
    uint8_t depth;                     /* 1 + that of the deepest item, at most CX_PK_DEPTH */
} cx_pk_node;

enum { CX_PK_DEPTH = 100, CX_PK_NODES = 1 << 21, CX_PK_ITEMS = 1 << 23, CX_PK_MARKS = 256, CX_PK_LONG = 64 };

/* What may be done with a global. */
typedef enum {
    CX_PK_NAMED,       /* stand there, nothing else */
    CX_PK_CALLED,      /* be called */
    CX_PK_STATED,      /* be called, and be given a state, which is dropped */
    CX_PK_MAPPING,     /* be called without arguments or with a list of pairs: a dictionary; a state is dropped */
    CX_PK_REFUSED      /* nothing: why says what it is */
} cx_pk_may;
typedef struct { const char *module, *name; cx_pk_may may; int what; const char *why; } cx_pk_global;      /* what: the caller's own */

typedef struct {
    cx_pk_node *nodes; size_t n, nodes_cap;
    cx_pk_ref *items; size_t n_items, items_cap;
    const cx_pk_global *known;
    cx_pk_ref root;
    size_t bytes;                      /* what the pickle took of those given: up to and with its STOP */
} cx_pickle;

/* Reads the pickle that begins at bytes; its texts point into these. known ends with an empty row and outlives out. CX_E_DATA: names the byte and the
 * reason; CX_E_MEMORY. out needs no free after a failure. */
cx_status cx_pickle_read(const void *bytes, size_t n, const cx_pk_global *known, cx_pickle *out, cx_error *err);
void cx_pickle_free(cx_pickle *p);

static inline const cx_pk_node *cx_pk_at(const cx_pickle *p, cx_pk_ref r) { return &p->nodes[r]; }
static inline const cx_pk_node *cx_pk_item(const cx_pickle *p, const cx_pk_node *of, uint32_t i) { return &p->nodes[p->items[of->first + i]]; }
/* The row of the global that is called; NULL for what is no call. */
const cx_pk_global *cx_pk_callee(const cx_pickle *p, const cx_pk_node *call);
bool cx_pk_is_text(const cx_pk_node *node, const char *text);
const char *cx_pk_kind_name(const cx_pk_node *node);         /* "a list" */

#endif
