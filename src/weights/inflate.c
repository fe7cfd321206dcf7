/* inflate.c - zlib, with nothing left to chance about lengths. Depends on inflate.h, zlib. */
#include "inflate.h"
#include <limits.h>
#include <zlib.h>

bool cx_inflate_possible(size_t n, size_t out_n)
{
    return out_n / 1032 <= n && out_n <= UINT_MAX && n <= UINT_MAX;
}

const char *cx_inflate(cx_deflate kind, const void *p, size_t n, void *out, size_t out_n)
{
    unsigned char nothing[1];
    if (!cx_inflate_possible(n, out_n))
        return "promises more than its bytes can hold";
    z_stream z = { .next_in = (Bytef *)(uintptr_t)p, .avail_in = (uInt)n, .next_out = out_n ? out : nothing, .avail_out = (uInt)out_n };
    if (inflateInit2(&z, kind == CX_DEFLATE_RAW ? -MAX_WBITS : MAX_WBITS) != Z_OK)
        return "finds no memory to be unpacked";
    const int end = inflate(&z, Z_FINISH);
    const uInt in_left = z.avail_in, out_left = z.avail_out;
    inflateEnd(&z);
    if (end == Z_BUF_ERROR || end == Z_OK)
        return in_left ? "unpacks to more than promised" : "ends before its deflated data do";
    if (end != Z_STREAM_END)
        return "is damaged: its deflated data are not sound";
    if (out_left)
        return "unpacks to less than promised";
    return in_left ? "has bytes behind its deflated data" : NULL;
}
