/* buf.c - the growing buffer that text, HTML, PNG and JSON are written into. Depends on memory.c. */
#include "cxnet/base.h"
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and the final NUL. */
static bool room(cx_buf *b, size_t n)
{
    if (b->failed)
        return false;
    size_t need;
    if (__builtin_add_overflow(b->len, n, &need) || __builtin_add_overflow(need, (size_t)1, &need) || !cx_grow(&b->data, &b->cap, need, 1)) {
        b->failed = true;
        return false;
    }
    return true;
}

void cx_buf_put(cx_buf *b, const void *bytes, size_t n)
{
    if (!room(b, n))
        return;
    if (n)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void cx_buf_puts(cx_buf *b, const char *s)
{
    cx_buf_put(b, s, strlen(s));
}

cx_point cx_point_begin(void)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return (cx_point){ c, c ? uselocale(c) : (locale_t)0 };
}

void cx_point_end(cx_point p)
{
    if (p.locale) {
        uselocale(p.before);
        freelocale(p.locale);
    }
}

void cx_buf_printf(cx_buf *b, const char *fmt, ...)
{
    cx_point point = cx_point_begin();         /* what buffers hold is read by programs: SVG, CSV, YAML */
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        b->failed = true;
    else if (room(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    va_end(ap);
    cx_point_end(point);
}

void cx_buf_base64(cx_buf *b, const void *bytes, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes;
    if (n > SIZE_MAX / 2 || !room(b, (n + 2) / 3 * 4)) {
        b->failed = true;
        return;
    }
    char *out = b->data + b->len;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0u);
        *out++ = digit[v >> 18];
        *out++ = digit[v >> 12 & 63];
        *out++ = left > 1 ? digit[v >> 6 & 63] : '=';
        *out++ = left > 2 ? digit[v & 63] : '=';
    }
    *out = 0;
    b->len = (size_t)(out - b->data);
}

void cx_buf_html(cx_buf *b, const char *s)
{
    while (*s) {
        size_t plain = strcspn(s, "&<>\"'");
        cx_buf_put(b, s, plain);
        s += plain;
        switch (*s) {
        case '&': cx_buf_puts(b, "&amp;"); break;
        case '<': cx_buf_puts(b, "&lt;"); break;
        case '>': cx_buf_puts(b, "&gt;"); break;
        case '"': cx_buf_puts(b, "&quot;"); break;
        case '\'': cx_buf_puts(b, "&#39;"); break;
        default: return;
        }
        s++;
    }
}

void cx_buf_free(cx_buf *b)
{
    free(b->data);
    *b = (cx_buf){ 0 };
}
