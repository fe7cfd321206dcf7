/* status.c - filling cx_error and mapping it to exit codes. Depends on nothing. */
#include "cxnet/status.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message is one line, so control characters in a quoted name or value become '?'. */
static void clean(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
}

/* Where a message was cut inside a UTF-8 character, what is left of that goes too: JSON would not take it. room: bytes, with the 0. */
static void trim(char *text, size_t room)
{
    size_t n = strlen(text), tail = 0;
    if (n + 1 < room)
        return;
    while (tail < 3 && tail < n && ((unsigned char)text[n - 1 - tail] & 0xC0) == 0x80)
        tail++;
    const unsigned char lead = tail < n ? (unsigned char)text[n - 1 - tail] : 0;
    const size_t follow = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (follow > tail)
        text[n - 1 - tail] = 0;
}

cx_status cx_fail_at(cx_error *err, cx_status s, const char *file, int line, const char *fmt, ...)
{
    if (!err)
        return s;
    /* Formatted aside first: arguments may point into err->text. */
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    trim(text, sizeof text);
    clean(text);
    memcpy(err->text, text, sizeof text);
    err->status = s;
    err->file = file;
    err->line = line;
    return s;
}

cx_status cx_prefix(cx_error *err, cx_status s, const char *fmt, ...)
{
    if (!err || s == CX_OK)
        return s;
    char text[2 * sizeof err->text];      /* cut to one when copied back: the end of a message is what may go */
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return s;
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, ": %s", err->text);
    text[sizeof err->text - 1] = 0;
    trim(text, sizeof err->text);
    clean(text);
    memcpy(err->text, text, sizeof err->text);
    return s;
}

int cx_exit_code(cx_status s)
{
    switch (s) {
    case CX_OK: return 0;
    case CX_E_USAGE: return 64;
    case CX_E_DATA: return 65;
    case CX_E_NOINPUT: return 66;
    case CX_E_UNSUPPORTED: return 69;
    case CX_E_INTERNAL: return 70;
    case CX_E_NAN: return 70;
    case CX_E_SHAPE: return 70;
    case CX_E_MEMORY: return 71;
    case CX_E_CREATE: return 73;
    case CX_E_IO: return 74;
    case CX_E_PEER: return 75;
    case CX_E_CONFIG: return 78;
    case CX_E_INTERRUPTED: return 85;
    }
    return 70;
}
