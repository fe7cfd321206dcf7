/* pickle.c - the machine that makes a tree of values of a pickle and runs nothing: no import, no call, no attribute. Depends on base.h.
 *
 * Memory is bounded by the length of the pickle and by the limits of pickle.h: an instruction makes at most one node, and lists grow by doubling. Values may be
 * shared and may hold themselves, so whoever walks them must not follow them blindly; nothing here does. */
#include "pickle.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const unsigned char *begin, *p, *end;
    cx_pk_ref *stack; size_t depth, stack_cap;
    size_t marks[CX_PK_MARKS]; int n_marks;     /* depths of the stack */
    cx_pk_ref *memo; size_t n_memo, memo_cap;   /* node + 1; 0: nothing was put there. n_memo: what MEMOIZE takes next */
    cx_pickle *out;
    cx_error *err;
} machine;

enum { NOWHERE = -1 };

#define REFUSE(...) return cx_fail(m->err, CX_E_DATA, __VA_ARGS__)

/* ---- what the instructions read ---------------------------------------------------------------------------------------- */

static cx_status take(machine *m, uint64_t n, const unsigned char **p)
{
    if (n > (uint64_t)(m->end - m->p))
        REFUSE("wants %llu bytes, but %zu are left; the file is cut short or damaged", (unsigned long long)n, (size_t)(m->end - m->p));
    *p = m->p;
    m->p += n;
    return CX_OK;
}

/* A whole number of `bytes` bytes, little-endian, without a sign. */
static cx_status take_number(machine *m, int bytes, uint64_t *out)
{
    const unsigned char *p = NULL;
    TRY(take(m, (uint64_t)bytes, &p));
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *out = *out << 8 | p[i];
    return CX_OK;
}

static cx_status take_line(machine *m, const char **text, size_t *n)
{
    const unsigned char *stop = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!stop)
        REFUSE("a line has no end; the file is cut short or damaged");
    *text = (const char *)m->p;
    *n = (size_t)(stop - m->p);
    m->p = stop + 1;
    return CX_OK;
}

/* ---- nodes --------------------------------------------------------------------------------------------------------------- */

static cx_pk_node *at(machine *m, cx_pk_ref r)
{
    return &m->out->nodes[r];
}

static cx_status push(machine *m, cx_pk_ref r)
{
    if (m->depth >= CX_PK_ITEMS)
        REFUSE("puts more than %d values on the stack", CX_PK_ITEMS);
    if (!cx_grow(&m->stack, &m->stack_cap, m->depth + 1, sizeof *m->stack))
        return cx_fail(m->err, CX_E_MEMORY, "no memory for a stack of %zu values", m->depth + 1);
    m->stack[m->depth++] = r;
    return CX_OK;
}

static cx_status push_new(machine *m, cx_pk_node node)
{
    cx_pickle *o = m->out;
    if (o->n >= CX_PK_NODES)
        REFUSE("makes more than %d values; save a state dictionary alone", CX_PK_NODES);
    if (!cx_grow(&o->nodes, &o->nodes_cap, o->n + 1, sizeof *o->nodes))
        return cx_fail(m->err, CX_E_MEMORY, "no memory for %zu values", o->n + 1);
    o->nodes[o->n] = node;
    return push(m, (cx_pk_ref)o->n++);
}

/* Makes room for n items of a node that has `node->n` of them. */
static cx_status make_room(machine *m, cx_pk_node *node, size_t n)
{
    cx_pickle *o = m->out;
    if (n <= node->cap)
        return CX_OK;
    const size_t cap = n < 2 * (size_t)node->cap ? 2 * (size_t)node->cap : n;
    if (cap > CX_PK_ITEMS - o->n_items)
        REFUSE("its lists hold more than %d values; save a state dictionary alone", CX_PK_ITEMS);
    if (!cx_grow(&o->items, &o->items_cap, o->n_items + cap, sizeof *o->items))
        return cx_fail(m->err, CX_E_MEMORY, "no memory for %zu items", o->n_items + cap);
    if (node->n)
        memcpy(o->items + o->n_items, o->items + node->first, node->n * sizeof *o->items);
    node->first = (uint32_t)o->n_items;
    node->cap = (uint32_t)cap;
    o->n_items += cap;
    return CX_OK;
}

/* Puts the n references at `from` behind the items of `to`. Indices, for arrays may move. */
static cx_status append(machine *m, cx_pk_ref to, size_t from, size_t n)
{
    TRY(make_room(m, at(m, to), at(m, to)->n + n));
    cx_pk_node *node = at(m, to);
    for (size_t i = 0; i < n; i++) {
        const cx_pk_ref item = m->stack[from + i];
        const int depth = at(m, item)->depth + 1;
        if (depth > CX_PK_DEPTH)
            REFUSE("values lie more than %d deep in one another", CX_PK_DEPTH);
        if (depth > node->depth)
            node->depth = (uint8_t)depth;
        m->out->items[node->first + node->n++] = item;
    }
    return CX_OK;
}

/* ---- the stack ------------------------------------------------------------------------------------------------------------- */

/* How many values lie above the last mark. */
static size_t reachable(const machine *m)
{
    return m->depth - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

static cx_status want(machine *m, size_t n)
{
    if (reachable(m) < n)
        REFUSE("takes %zu values from a stack that has %zu", n, reachable(m));
    return CX_OK;
}

static cx_status pop_mark(machine *m, size_t *from)
{
    if (m->n_marks == 0)
        REFUSE("looks for a mark that was never set");
    *from = m->marks[--m->n_marks];
    return CX_OK;
}

static cx_status push_mark(machine *m)
{
    if (m->n_marks == CX_PK_MARKS)
        REFUSE("sets more than %d marks in one another", CX_PK_MARKS);
    m->marks[m->n_marks++] = m->depth;
    return CX_OK;
}

/* Replaces all from `from` on by one new node that holds them. */
static cx_status gather(machine *m, cx_pk_kind kind, size_t from)
{
    const size_t n = m->depth - from;
    if (kind == CX_PK_DICT && n % 2)
        REFUSE("a dictionary has a key without a value");
    TRY(push_new(m, (cx_pk_node){ .kind = kind, .depth = 1, .i = NOWHERE }));
    const cx_pk_ref made = m->stack[m->depth - 1];
    TRY(append(m, made, from, n));
    m->stack[from] = made;
    m->depth = from + 1;
    return CX_OK;
}

static cx_status gather_last(machine *m, cx_pk_kind kind, size_t n)
{
    TRY(want(m, n));
    return gather(m, kind, m->depth - n);
}

static cx_status gather_marked(machine *m, cx_pk_kind kind)
{
    size_t from = 0;
    TRY(pop_mark(m, &from));
    return gather(m, kind, from);
}

/* Moves all from `from` on into the list or dictionary below. */
static cx_status add_items(machine *m, cx_pk_kind kind, size_t from)
{
    const size_t floor = m->n_marks ? m->marks[m->n_marks - 1] : 0, n = m->depth - from;
    if (from <= floor)
        REFUSE("adds to nothing");
    const cx_pk_ref to = m->stack[from - 1];
    if (at(m, to)->kind != kind)
        REFUSE("adds items to %s", cx_pk_kind_name(at(m, to)));
    if (kind == CX_PK_DICT && n % 2)
        REFUSE("a dictionary has a key without a value");
    TRY(append(m, to, from, n));
    m->depth = from;
    return CX_OK;
}

static cx_status add_last(machine *m, cx_pk_kind kind, size_t n)
{
    TRY(want(m, n + 1));
    return add_items(m, kind, m->depth - n);
}

static cx_status add_marked(machine *m, cx_pk_kind kind)
{
    size_t from = 0;
    TRY(pop_mark(m, &from));
    return add_items(m, kind, from);
}

/* ---- atoms ----------------------------------------------------------------------------------------------------------------- */

static cx_status push_int(machine *m, int bytes, bool sign)
{
    uint64_t v = 0;
    TRY(take_number(m, bytes, &v));
    if (sign)
        v = (uint64_t)(int64_t)(int32_t)v;
    return push_new(m, (cx_pk_node){ .kind = CX_PK_INT, .depth = 1, .i = (int64_t)v });
}

/* Two's complement of any length; n = 0 is 0. */
static cx_status push_long(machine *m, int length_bytes)
{
    const unsigned char *p = NULL;
    uint64_t n = 0, v = 0;
    TRY(take_number(m, length_bytes, &n));
    if (n > CX_PK_LONG)
        REFUSE("a whole number of %llu bytes; at most %d are read", (unsigned long long)n, CX_PK_LONG);
    TRY(take(m, n, &p));
    if (n > 8)
        return push_new(m, (cx_pk_node){ .kind = CX_PK_BIG, .depth = 1, .text = (const char *)p, .n = (uint32_t)n });
    if (n && p[n - 1] & 0x80)
        v = UINT64_MAX;
    for (int i = (int)n - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return push_new(m, (cx_pk_node){ .kind = CX_PK_INT, .depth = 1, .i = (int64_t)v });
}

/* Protocol 1 writes true and false as the numbers 01 and 00, and what does not fit into 32 bits in decimals with an L. */
static cx_status push_decimal(machine *m, bool is_long)
{
    const char *text = NULL;
    char digits[24], *stop = NULL;
    size_t n = 0;
    TRY(take_line(m, &text, &n));
    if (!is_long && n == 2 && text[0] == '0' && (text[1] == '0' || text[1] == '1'))
        return push_new(m, (cx_pk_node){ .kind = CX_PK_BOOL, .depth = 1, .i = text[1] == '1' });
    if (is_long && n && text[n - 1] == 'L')
        n--;
    if (n == 0 || n > 20 || strspn(text, "-0123456789") < n)
        REFUSE("a whole number that is none, or too large");
    memcpy(digits, text, n);
    digits[n] = 0;
    const long long v = strtoll(digits, &stop, 10);
    if (*stop || v == INT64_MIN || v == INT64_MAX)
        REFUSE("a whole number that is none, or too large");
    return push_new(m, (cx_pk_node){ .kind = CX_PK_INT, .depth = 1, .i = v });
}

static cx_status push_float(machine *m)
{
    const unsigned char *p = NULL;
    uint64_t u = 0;
    cx_pk_node node = { .kind = CX_PK_FLOAT, .depth = 1 };
    TRY(take(m, 8, &p));
    for (int i = 0; i < 8; i++)
        u = u << 8 | p[i];
    memcpy(&node.f, &u, sizeof node.f);
    return push_new(m, node);
}

/* Texts that are no UTF-8 (Python 2 wrote any bytes as text) are bytes. */
static cx_status push_text(machine *m, int length_bytes, cx_pk_kind kind)
{
    const unsigned char *p = NULL;
    uint64_t n = 0;
    TRY(take_number(m, length_bytes, &n));
    TRY(take(m, n, &p));
    if (n > UINT32_MAX)
        REFUSE("a text of %llu bytes", (unsigned long long)n);
    if (kind == CX_PK_TEXT && cx_utf8_valid(p, n) < n)
        kind = CX_PK_BYTES;
    return push_new(m, (cx_pk_node){ .kind = kind, .depth = 1, .text = (const char *)p, .n = (uint32_t)n });
}

/* ---- globals and calls ------------------------------------------------------------------------------------------------------- */

static bool same(const char *name, const char *text, size_t n)
{
    return strlen(name) == n && memcmp(name, text, n) == 0;
}

/* Why a global that is not in the table is refused: classes begin with a capital letter, mostly. */
static cx_status refuse_global(machine *m, const char *module, int module_n, const char *name, int name_n)
{
    static const char how[] = "a weight file is numbers, and nothing in it is ever run here; where you trust it, load it with the program that wrote it and"
                              " torch.save(model.state_dict(), ...)";
    const char *last = name;
    for (int i = 0; i + 1 < name_n; i++)
        if (name[i] == '.')
            last = name + i + 1;
    if (name_n && *last >= 'A' && *last <= 'Z')
        REFUSE("holds an object of class %.*s.%.*s (a model saved whole?): %s", module_n, module, name_n, name, how);
    REFUSE("calls %.*s.%.*s: %s", module_n, module, name_n, name, how);
}

static cx_status push_global(machine *m, const char *module, size_t module_n, const char *name, size_t name_n)
{
    enum { SHOWN = 80 };
    for (const cx_pk_global *g = m->out->known; g->module; g++)
        if (same(g->module, module, module_n) && same(g->name, name, name_n)) {
            if (g->may == CX_PK_REFUSED)
                REFUSE("%s.%s: %s", g->module, g->name, g->why);
            return push_new(m, (cx_pk_node){ .kind = CX_PK_GLOBAL, .depth = 1, .i = g - m->out->known });
        }
    return refuse_global(m, module, (int)(module_n < SHOWN ? module_n : SHOWN), name, (int)(name_n < SHOWN ? name_n : SHOWN));
}

static cx_status global_of_lines(machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t module_n = 0, name_n = 0;
    TRY(take_line(m, &module, &module_n));
    TRY(take_line(m, &name, &name_n));
    return push_global(m, module, module_n, name, name_n);
}

static cx_status global_of_stack(machine *m)
{
    TRY(want(m, 2));
    const cx_pk_node *module = at(m, m->stack[m->depth - 2]), *name = at(m, m->stack[m->depth - 1]);
    if (module->kind != CX_PK_TEXT || name->kind != CX_PK_TEXT)
        REFUSE("names a global by %s and %s", cx_pk_kind_name(module), cx_pk_kind_name(name));
    m->depth -= 2;
    return push_global(m, module->text, module->n, name->text, name->n);
}

/* Python 2 hands an ordered dictionary its items as a list of pairs. */
static cx_status fill_mapping(machine *m, cx_pk_ref dict, const cx_pk_node *args)
{
    if (args->n == 0)
        return CX_OK;
    const cx_pk_node pairs = *cx_pk_item(m->out, args, 0);
    if (args->n > 1 || pairs.kind != CX_PK_LIST)
        REFUSE("makes a dictionary of %u arguments, the first %s", args->n, cx_pk_kind_name(&pairs));
    for (uint32_t i = 0; i < pairs.n; i++) {
        const cx_pk_node pair = *cx_pk_item(m->out, &pairs, i);
        if ((pair.kind != CX_PK_TUPLE && pair.kind != CX_PK_LIST) || pair.n != 2)
            REFUSE("makes a dictionary of what are no pairs");
        const size_t from = m->depth;
        TRY(push(m, m->out->items[pair.first]));
        TRY(push(m, m->out->items[pair.first + 1]));
        TRY(append(m, dict, from, 2));
        m->depth = from;
    }
    return CX_OK;
}

static cx_status call(machine *m)
{
    TRY(want(m, 2));
    const cx_pk_ref callee = m->stack[m->depth - 2];
    const cx_pk_node f = *at(m, callee), args = *at(m, m->stack[m->depth - 1]);
    if (f.kind != CX_PK_GLOBAL)
        REFUSE("calls %s", cx_pk_kind_name(&f));
    const cx_pk_global *g = &m->out->known[f.i];
    if (args.kind != CX_PK_TUPLE)
        REFUSE("calls %s.%s with %s", g->module, g->name, cx_pk_kind_name(&args));
    if (g->may == CX_PK_NAMED)
        REFUSE("calls %s.%s, which may only be named", g->module, g->name);
    if (g->may != CX_PK_MAPPING)
        return gather(m, CX_PK_CALL, m->depth - 2);
    TRY(push_new(m, (cx_pk_node){ .kind = CX_PK_DICT, .depth = 1, .i = f.i }));
    const cx_pk_ref dict = m->stack[m->depth - 1];
    TRY(fill_mapping(m, dict, &args));
    m->stack[m->depth - 3] = dict;
    m->depth -= 2;
    return CX_OK;
}

/* A state is dropped where it cannot change numbers. */
static cx_status set_state(machine *m)
{
    TRY(want(m, 2));
    const cx_pk_node *node = at(m, m->stack[m->depth - 2]);
    const cx_pk_global *g = cx_pk_callee(m->out, node);
    if (node->kind == CX_PK_DICT && node->i != NOWHERE)
        g = &m->out->known[node->i];
    if (!g)
        REFUSE("gives a state to %s", cx_pk_kind_name(node));
    if (g->may != CX_PK_STATED && g->may != CX_PK_MAPPING)
        REFUSE("gives a state to what %s.%s returns", g->module, g->name);
    m->depth--;
    return CX_OK;
}

/* ---- the memo ---------------------------------------------------------------------------------------------------------------- */

static cx_status put(machine *m, uint64_t i)
{
    TRY(want(m, 1));
    if (i >= CX_PK_NODES)
        REFUSE("remembers a value as number %llu; at most %d are kept", (unsigned long long)i, CX_PK_NODES);
    const size_t before = m->memo_cap;
    if (!cx_grow(&m->memo, &m->memo_cap, i + 1, sizeof *m->memo))
        return cx_fail(m->err, CX_E_MEMORY, "no memory to remember %llu values", (unsigned long long)i);
    if (m->memo_cap > before)
        memset(m->memo + before, 0, (m->memo_cap - before) * sizeof *m->memo);
    m->n_memo += m->memo[i] == 0;
    m->memo[i] = m->stack[m->depth - 1] + 1;
    return CX_OK;
}

static cx_status put_numbered(machine *m, int bytes)
{
    uint64_t i = 0;
    TRY(take_number(m, bytes, &i));
    return put(m, i);
}

static cx_status get_numbered(machine *m, int bytes)
{
    uint64_t i = 0;
    TRY(take_number(m, bytes, &i));
    if (i >= m->memo_cap || m->memo[i] == 0)
        REFUSE("recalls value %llu, which was never remembered", (unsigned long long)i);
    return push(m, m->memo[i] - 1);
}

/* ---- instructions -------------------------------------------------------------------------------------------------------------- */

static cx_status protocol(machine *m)
{
    uint64_t version = 0;
    if (m->p != m->begin + 1)
        REFUSE("says its protocol in the midst");
    TRY(take_number(m, 1, &version));
    if (version > 5)
        REFUSE("pickle protocol %llu; 1 to 5 are read", (unsigned long long)version);
    return CX_OK;
}

static cx_status frame(machine *m)
{
    uint64_t n = 0;
    TRY(take_number(m, 8, &n));
    if (n > (uint64_t)(m->end - m->p))
        REFUSE("a frame of %llu bytes, but %zu are left; the file is cut short or damaged", (unsigned long long)n, (size_t)(m->end - m->p));
    return CX_OK;
}

static cx_status drop(machine *m, bool to_mark)
{
    size_t from = m->depth - 1;
    TRY(to_mark ? pop_mark(m, &from) : want(m, 1));
    m->depth = from;
    return CX_OK;
}

static cx_status push_again(machine *m)
{
    TRY(want(m, 1));
    return push(m, m->stack[m->depth - 1]);
}

static cx_status push_plain(machine *m, cx_pk_kind kind, int64_t i)
{
    return push_new(m, (cx_pk_node){ .kind = kind, .depth = 1, .i = i });
}

/* Instructions that torch never writes, so that a message can name them. */
static cx_status refuse_instruction(machine *m, int op)
{
    static const struct { unsigned char op; const char *name; } rare[] = {
        { 'i', "INST, which makes an object" }, { 'o', "OBJ, which makes an object" }, { 0x92, "NEWOBJ_EX, which makes an object" },
        { 0x82, "EXT1, an extension" }, { 0x83, "EXT2, an extension" }, { 0x84, "EXT4, an extension" }, { 'P', "PERSID of protocol 0" },
        { 'F', "FLOAT of protocol 0" }, { 'S', "STRING of protocol 0" }, { 'V', "UNICODE of protocol 0" }, { 'g', "GET of protocol 0" },
        { 'p', "PUT of protocol 0" }, { 0x97, "NEXT_BUFFER, data outside of the file" }, { 0x98, "READONLY_BUFFER, data outside of the file" },
    };
    for (int i = 0; i < CX_COUNT(rare); i++)
        if (rare[i].op == op)
            REFUSE("instruction %s, does not belong into a weight file", rare[i].name);
    REFUSE("0x%02x is no instruction of a pickle", (unsigned)op);
}

static cx_status run_atom(machine *m, int op)
{
    switch (op) {
    case 'N': return push_plain(m, CX_PK_NONE, 0);
    case 0x88: return push_plain(m, CX_PK_BOOL, 1);
    case 0x89: return push_plain(m, CX_PK_BOOL, 0);
    case 'K': return push_int(m, 1, false);
    case 'M': return push_int(m, 2, false);
    case 'J': return push_int(m, 4, true);
    case 'I': return push_decimal(m, false);
    case 'L': return push_decimal(m, true);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'G': return push_float(m);
    case 0x8c: case 'U': return push_text(m, 1, CX_PK_TEXT);
    case 'X': case 'T': return push_text(m, 4, CX_PK_TEXT);
    case 0x8d: return push_text(m, 8, CX_PK_TEXT);
    case 'C': return push_text(m, 1, CX_PK_BYTES);
    case 'B': return push_text(m, 4, CX_PK_BYTES);
    case 0x8e: case 0x96: return push_text(m, 8, CX_PK_BYTES);
    default: return refuse_instruction(m, op);
    }
}

static cx_status run(machine *m, int op)
{
    switch (op) {
    case 0x80: return protocol(m);
    case 0x95: return frame(m);
    case '(': return push_mark(m);
    case '0': return drop(m, false);
    case '1': return drop(m, true);
    case '2': return push_again(m);
    case ')': return gather(m, CX_PK_TUPLE, m->depth);
    case 't': case 0x91: return gather_marked(m, CX_PK_TUPLE);
    case 0x85: return gather_last(m, CX_PK_TUPLE, 1);
    case 0x86: return gather_last(m, CX_PK_TUPLE, 2);
    case 0x87: return gather_last(m, CX_PK_TUPLE, 3);
    case ']': case 0x8f: return gather(m, CX_PK_LIST, m->depth);
    case 'l': return gather_marked(m, CX_PK_LIST);
    case 'a': return add_last(m, CX_PK_LIST, 1);
    case 'e': case 0x90: return add_marked(m, CX_PK_LIST);
    case '}': return gather(m, CX_PK_DICT, m->depth);
    case 'd': return gather_marked(m, CX_PK_DICT);
    case 's': return add_last(m, CX_PK_DICT, 2);
    case 'u': return add_marked(m, CX_PK_DICT);
    case 'c': return global_of_lines(m);
    case 0x93: return global_of_stack(m);
    case 'R': case 0x81: return call(m);
    case 'b': return set_state(m);
    case 'Q': return gather_last(m, CX_PK_PERSISTENT, 1);
    case 'q': return put_numbered(m, 1);
    case 'r': return put_numbered(m, 4);
    case 0x94: return put(m, m->n_memo);
    case 'h': return get_numbered(m, 1);
    case 'j': return get_numbered(m, 4);
    default: return run_atom(m, op);
    }
}

static cx_status run_all(machine *m)
{
    while (m->p < m->end) {
        const size_t where = (size_t)(m->p - m->begin);
        const int op = *m->p++;
        if (op == '.') {
            if (m->depth != 1 || m->n_marks)
                REFUSE("byte %zu of the pickle: ends with %zu values and %d marks on the stack, want one value", where, m->depth, m->n_marks);
            m->out->root = m->stack[0];
            m->out->bytes = where + 1;
            return CX_OK;
        }
        const cx_status s = run(m, op);
        if (s != CX_OK)
            return cx_prefix(m->err, s, "byte %zu of the pickle", where);
    }
    REFUSE("the pickle ends without its end; the file is cut short or damaged");
}

cx_status cx_pickle_read(const void *bytes, size_t n, const cx_pk_global *known, cx_pickle *out, cx_error *err)
{
    *out = (cx_pickle){ .known = known };
    machine m = { .begin = bytes, .p = bytes, .end = (const unsigned char *)bytes + n, .out = out, .err = err };
    const cx_status s = run_all(&m);
    free(m.stack);
    free(m.memo);
    if (s != CX_OK)
        cx_pickle_free(out);
    return s;
}

void cx_pickle_free(cx_pickle *p)
{
    free(p->nodes);
    free(p->items);
    *p = (cx_pickle){ 0 };
}

const cx_pk_global *cx_pk_callee(const cx_pickle *p, const cx_pk_node *call)
{
    return call->kind == CX_PK_CALL ? &p->known[cx_pk_item(p, call, 0)->i] : NULL;
}

bool cx_pk_is_text(const cx_pk_node *node, const char *text)
{
    return node->kind == CX_PK_TEXT && same(text, node->text, node->n);
}

const char *cx_pk_kind_name(const cx_pk_node *node)
{
    static const char *const names[] = {
        [CX_PK_NONE] = "nothing", [CX_PK_BOOL] = "a truth value", [CX_PK_INT] = "a whole number", [CX_PK_BIG] = "a large whole number",
        [CX_PK_FLOAT] = "a number", [CX_PK_TEXT] = "a text", [CX_PK_BYTES] = "bytes", [CX_PK_TUPLE] = "a tuple", [CX_PK_LIST] = "a list",
        [CX_PK_DICT] = "a dictionary", [CX_PK_GLOBAL] = "a class or function", [CX_PK_CALL] = "an object", [CX_PK_PERSISTENT] = "a storage",
    };
    return names[node->kind];
}
