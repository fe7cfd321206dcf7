/* config_value.c - the type, range and choice of every value that was said, judged from its text so that the message can name file, line and key. */
#include "config.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

cx_status cx_said_fail(const cx_sayings *a, int section, int key, cx_error *err, const char *fmt, ...)
{
    const cx_section *s = cx_config_section(section);
    const cx_said *v = &a->said[section][key];
    char text[400], shown[80];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (v->set) {
        cx_shown(v->set, shown);
        shown[strlen(shown) - 1] = 0;
        return cx_fail(err, CX_E_CONFIG, "--set %s: %s", shown + 1, text);
    }
    if (v->line)
        return cx_fail(err, CX_E_CONFIG, "%s:%d: %s.%s: %s", a->path, v->line, s->name, s->keys[key].name, text);
    return cx_fail(err, CX_E_CONFIG, "%s%s%s.%s: %s", a->path ? a->path : "", a->path ? ": " : "", s->name, s->keys[key].name, text);
}

/* [-+]digits, no leading zero (YAML 1.1 readers take 010 for 8). */
static bool int_shape(const char *t)
{
    t += *t == '-' || *t == '+';
    if (*t == '0' && t[1])
        return false;
    return *t && strspn(t, "0123456789") == strlen(t);
}

/* [-+](digits[.digits] | .digits)[e[-+]digits]: neither hexadecimal nor inf nor nan, which strtod would take. */
static bool real_shape(const char *t)
{
    t += *t == '-' || *t == '+';
    size_t whole = strspn(t, "0123456789");
    t += whole;
    if (*t == '.') {
        size_t part = strspn(++t, "0123456789");
        if (whole + part == 0)
            return false;
        t += part;
    } else if (whole == 0) {
        return false;
    }
    if (*t == 'e' || *t == 'E') {
        t++;
        t += *t == '-' || *t == '+';
        size_t digits = strspn(t, "0123456789");
        return digits && !t[digits];
    }
    return !*t;
}

bool cx_int_parse(const char *text, int *out)
{
    if (!int_shape(text))
        return false;
    errno = 0;
    long x = strtol(text, NULL, 10);
    if (errno || x < INT_MIN || x > INT_MAX)
        return false;
    *out = (int)x;
    return true;
}

bool cx_real_parse(const char *text, double *out)
{
    if (!real_shape(text))
        return false;
    errno = 0;
    *out = strtod(text, NULL);
    return !errno || (*out != 0 && isfinite(*out));   /* a denormal number sets errno too, and is exact enough */
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *c = choices; *c; c += strcspn(c, "|"), c += *c == '|')
        if (strcspn(c, "|") == n && !memcmp(c, text, n))
            return true;
    return false;
}

static bool is_bool(const char *t)
{
    static const char *const words[] = { "true", "True", "TRUE", "false", "False", "FALSE" };
    for (int i = 0; i < CX_COUNT(words); i++)
        if (!strcmp(t, words[i]))
            return true;
    return false;
}

static cx_status list(const cx_sayings *a, int s, int k, cx_error *err)
{
    const cx_said *v = &a->said[s][k];
    char shown[80];
    for (int i = 0; i < v->n; i++) {
        if (!*v->item[i])
            return cx_said_fail(a, s, k, err, "item %d: want text, got an empty one", i + 1);
        for (int j = 0; j < i; j++)
            if (!strcmp(v->item[i], v->item[j])) {
                cx_shown(v->item[i], shown);
                return cx_said_fail(a, s, k, err, "item %d: %s stands there already, as item %d", i + 1, shown, j + 1);
            }
    }
    return CX_OK;
}

static bool accepts(const cx_key *key, const cx_said *v)
{
    const char *t = v->item[0];
    int whole;
    double real;
    switch (key->kind) {
    case CX_KEY_TEXT: return true;
    case CX_KEY_INT: return v->plain && cx_int_parse(t, &whole) && whole >= key->lo && whole <= key->hi;
    case CX_KEY_REAL: return v->plain && cx_real_parse(t, &real) && real >= key->lo && real <= key->hi;
    case CX_KEY_BOOL: return v->plain && is_bool(t);
    case CX_KEY_CHOICE: return is_choice(key->choices, t);
    case CX_KEY_LIST: return false;
    }
    return false;
}

static cx_status one(const cx_sayings *a, int s, int k, cx_error *err)
{
    const cx_key *key = &cx_config_section(s)->keys[k];
    const cx_said *v = &a->said[s][k];
    char want[200], shown[80];
    cx_key_want(key, want, sizeof want);
    if (v->odd)
        return cx_said_fail(a, s, k, err, "want printable characters, got a control character (a line break, a NUL or the like)");
    if (v->list && key->kind == CX_KEY_LIST)
        return list(a, s, k, err);
    if (v->list)
        return cx_said_fail(a, s, k, err, "want %s, got a list", want);
    if (accepts(key, v))
        return CX_OK;
    cx_shown(v->item[0], shown);
    bool quoted = !v->plain && key->kind != CX_KEY_CHOICE && key->kind != CX_KEY_LIST;
    if (v->plain) {                                /* a number or word is shown as it was written */
        shown[strlen(shown) - 1] = 0;
        memmove(shown, shown + 1, strlen(shown));
    }
    return cx_said_fail(a, s, k, err, "want %s, got %s%s", want, shown, quoted ? "; remove the quotes" : "");
}

cx_status cx_sayings_check(const cx_sayings *a, cx_error *err)
{
    for (int s = 0; s < cx_config_sections(); s++)
        for (int k = 0; k < cx_config_section(s)->n; k++)
            if (a->said[s][k].item)
                TRY(one(a, s, k, err));
    return CX_OK;
}
