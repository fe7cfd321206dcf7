/* make_zip.h - zip files in memory, sound ones and others, for the tests of reading. */
#ifndef CX_TESTS_MAKE_ZIP_H
#define CX_TESTS_MAKE_ZIP_H
#include <zlib.h>
#include "support.h"

/* One member. What is 0 is made as it should be; the rest stands in the file instead of the truth. */
typedef struct {
    const char *name; const void *data; size_t n;
    bool deflate;
    const char *local_name;             /* in the local header */
    uint16_t flags, method;             /* method: instead of 0 or 8, in both places */
    uint32_t crc, packed, bytes;        /* in both places */
    uint32_t local_crc, at;             /* in the local header; in the directory */
} zip_part;
typedef struct { uint16_t entries, disk, comment; uint32_t directory_at, directory_bytes; } zip_end;      /* instead of the truth, where not 0 */

static inline void zip_16(cx_buf *b, uint32_t x) { cx_buf_put(b, (const unsigned char[]){ (unsigned char)x, (unsigned char)(x >> 8) }, 2); }
static inline void zip_32(cx_buf *b, uint32_t x) { zip_16(b, x & 0xffff); zip_16(b, x >> 16); }

static inline size_t zip_pack(const zip_part *m, unsigned char **out)
{
    *out = malloc(m->n + m->n / 100 + 64);
    if (!m->deflate) {
        if (m->n)
            memcpy(*out, m->data, m->n);
        return m->n;
    }
    z_stream z = { .next_in = (Bytef *)(uintptr_t)m->data, .avail_in = (uInt)m->n, .next_out = *out, .avail_out = (uInt)(m->n + m->n / 100 + 64) };
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

/* version, flags, method, time, date, crc, sizes, length of the name, no extra field: what both headers share. */
static inline void zip_common(cx_buf *b, const zip_part *m, size_t packed, uint32_t crc, const char *name)
{
    zip_16(b, 20);
    zip_16(b, m->flags);
    zip_16(b, m->method ? m->method : m->deflate ? 8 : 0);
    zip_32(b, 0);
    zip_32(b, crc ? crc : m->crc ? m->crc : (uint32_t)crc32_z(0, m->data, m->n));
    zip_32(b, m->packed ? m->packed : (uint32_t)packed);
    zip_32(b, m->bytes ? m->bytes : (uint32_t)m->n);
    zip_16(b, (uint32_t)strlen(name));
    zip_16(b, 0);
}

static inline cx_buf zip_make(const zip_part *parts, int n, zip_end end)
{
    cx_buf b = { 0 }, directory = { 0 };
    for (int i = 0; i < n; i++) {
        const zip_part *m = &parts[i];
        const char *local = m->local_name ? m->local_name : m->name;
        unsigned char *bytes;
        const size_t packed = zip_pack(m, &bytes), at = b.len;
        zip_32(&b, 0x04034b50);
        zip_common(&b, m, packed, m->local_crc, local);
        cx_buf_puts(&b, local);
        cx_buf_put(&b, bytes, packed);
        free(bytes);
        zip_32(&directory, 0x02014b50);
        zip_16(&directory, 20);
        zip_common(&directory, m, packed, 0, m->name);
        zip_16(&directory, 0);                                    /* comment, volume, attributes */
        zip_16(&directory, 0);
        zip_16(&directory, 0);
        zip_32(&directory, 0);
        zip_32(&directory, m->at ? m->at : (uint32_t)at);
        cx_buf_puts(&directory, m->name);
    }
    const uint32_t at = (uint32_t)b.len;
    cx_buf_put(&b, directory.data ? directory.data : "", directory.len);
    zip_32(&b, 0x06054b50);
    zip_16(&b, end.disk);
    zip_16(&b, 0);
    zip_16(&b, end.entries ? end.entries : (uint32_t)n);
    zip_16(&b, end.entries ? end.entries : (uint32_t)n);
    zip_32(&b, end.directory_bytes ? end.directory_bytes : (uint32_t)directory.len);
    zip_32(&b, end.directory_at ? end.directory_at : at);
    zip_16(&b, end.comment);
    cx_buf_free(&directory);
    return b;
}
#endif
