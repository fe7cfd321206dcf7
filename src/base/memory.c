/* memory.c - allocation that checks its arithmetic. Depends on nothing. */
#include "cxnet/base.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void *cx_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    return calloc(bytes ? bytes : 1, 1);
}

void *cx_alloc_aligned(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    void *p = NULL;
    return posix_memalign(&p, 64, bytes ? bytes : 1) == 0 ? p : NULL;
}

bool cx_grow(void *array, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    size_t want = *cap < 8 ? 8 : *cap, bytes;
    while (want < need)
        if (__builtin_mul_overflow(want, (size_t)2, &want))
            return false;
    if (__builtin_mul_overflow(want, size, &bytes))
        return false;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    if (!(grown = realloc(old, bytes)))
        return false;
    memcpy(array, &grown, sizeof grown);
    *cap = want;
    return true;
}

char *cx_strdup(const char *s)
{
    return s ? strdup(s) : NULL;
}

char *cx_sprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}
