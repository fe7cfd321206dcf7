/* config_table.c - config.def as a table: look-up, the nearest known name, and what a key accepts in words. */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Each section's rows live in a function, so that `sec` can name the struct they are offsets into. */
#define SECTION(name_, doc_) static const cx_section *section_##name_(void) { \
    typedef __typeof__(((cx_config *)0)->name_) sec; static const char doc[] = doc_; static const cx_key keys[] = {
#define TEXT(key, def_, doc_) { .name = #key, .kind = CX_KEY_TEXT, .def = def_, .doc = doc_, .offset = offsetof(sec, key) },
#define INT(key, def_, lo_, hi_, doc_) \
    { .name = #key, .kind = CX_KEY_INT, .def = #def_, .lo = lo_, .hi = hi_, .doc = doc_, .offset = offsetof(sec, key) },
#define REAL(key, def_, lo_, hi_, doc_) \
    { .name = #key, .kind = CX_KEY_REAL, .def = #def_, .lo = lo_, .hi = hi_, .doc = doc_, .offset = offsetof(sec, key) },
#define BOOL(key, def_, doc_) { .name = #key, .kind = CX_KEY_BOOL, .def = #def_, .doc = doc_, .offset = offsetof(sec, key) },
#define CHOICE(key, def_, choices_, doc_) \
    { .name = #key, .kind = CX_KEY_CHOICE, .def = def_, .choices = choices_, .doc = doc_, .offset = offsetof(sec, key) },
#define LIST(key, def_, doc_) { .name = #key, .kind = CX_KEY_LIST, .def = def_, .doc = doc_, .offset = offsetof(sec, key) },
#define END(name_) }; static const cx_section s = { #name_, doc, keys, CX_COUNT(keys), offsetof(cx_config, name_), sizeof(sec) }; return &s; }
#include "cxnet/config.def"
#undef SECTION
#undef TEXT
#undef INT
#undef REAL
#undef BOOL
#undef CHOICE
#undef LIST
#undef END

static const cx_section *(*const sections[])(void) = {
#define SECTION(name, doc) section_##name,
#define TEXT(key, def, doc)
#define INT(key, def, lo, hi, doc)
#define REAL(key, def, lo, hi, doc)
#define BOOL(key, def, doc)
#define CHOICE(key, def, choices, doc)
#define LIST(key, def, doc)
#define END(name)
#include "cxnet/config.def"
#undef SECTION
#undef TEXT
#undef INT
#undef REAL
#undef BOOL
#undef CHOICE
#undef LIST
#undef END
};

int cx_config_sections(void)
{
    return CX_COUNT(sections);
}

const cx_section *cx_config_section(int s)
{
    return sections[s]();
}

int cx_config_find_section(const char *name)
{
    for (int s = 0; s < CX_COUNT(sections); s++)
        if (!strcmp(sections[s]()->name, name))
            return s;
    return -1;
}

int cx_config_find_key(int section, const char *name)
{
    const cx_section *s = sections[section]();
    for (int k = 0; k < s->n; k++)
        if (!strcmp(s->keys[k].name, name))
            return k;
    return -1;
}

enum { LONGEST = 64 };   /* names longer than this are not compared */

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Edits (insert, delete, replace, swap of neighbours) between two names: optimal string alignment. */
static int edits(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), row[3][LONGEST + 1];
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            now[j] = least(before[j - 1] + (a[i - 1] != b[j - 1]), least(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], earlier[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

const char *cx_config_nearest(int section, const char *name)
{
    int n = section < 0 ? CX_COUNT(sections) : sections[section]()->n, limit = (int)strlen(name) / 3;
    int best = limit < 2 ? 3 : limit + 1;
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        const char *known = section < 0 ? sections[i]()->name : sections[section]()->keys[i].name;
        int d = edits(name, known);
        if (d < best && d < (int)strlen(known)) {
            best = d;
            found = known;
        }
    }
    return found;
}

bool cx_config_elsewhere(const char *name, char *out, size_t n)
{
    for (int s = 0; s < CX_COUNT(sections); s++)
        if (cx_config_find_key(s, name) >= 0) {
            snprintf(out, n, "%s.%s", sections[s]()->name, name);
            return true;
        }
    return false;
}

void cx_real_text(double x, char out[32])
{
    if (fabs(x) < 1e15 && x == floor(x)) {
        snprintf(out, 32, "%.0f", x);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, x);
        if (strtod(out, NULL) == x)
            break;
    }
    char *e = strchr(out, 'e');
    if (e && !strchr(out, '.')) {
        memmove(e + 2, e, strlen(e) + 1);
        memcpy(e, ".0", 2);
    }
}

static void want_choice(const cx_key *k, char *out, size_t n)
{
    size_t at = (size_t)snprintf(out, n, "one of ");
    for (const char *c = k->choices; *c && at + 3 < n; c++) {
        if (*c == '|') {
            out[at++] = ',';
            out[at++] = ' ';
        } else {
            out[at++] = *c;
        }
    }
    out[at] = 0;
}

void cx_key_want(const cx_key *k, char *out, size_t n)
{
    char lo[32], hi[32];
    switch (k->kind) {
    case CX_KEY_TEXT: snprintf(out, n, "text"); return;
    case CX_KEY_BOOL: snprintf(out, n, "true or false"); return;
    case CX_KEY_LIST: snprintf(out, n, "a list such as [a, b]"); return;
    case CX_KEY_CHOICE: want_choice(k, out, n); return;
    case CX_KEY_INT: snprintf(out, n, "a whole number from %.0f to %.0f", k->lo, k->hi); return;
    case CX_KEY_REAL:
        cx_real_text(k->lo, lo);
        cx_real_text(k->hi, hi);
        snprintf(out, n, "a number from %s to %s", lo, hi);
        return;
    }
}
