/* file_type.c - what a file is, told from its first bytes, and what its name promises. Depends on image.h. */
#include <string.h>
#include <strings.h>
#include "decode.h"

const char *cx_file_type_name(cx_file_type t)
{
    static const char *const names[] = { "PNG", "JPEG", "WebP", "unknown" };
    return names[t >= CX_PNG && t <= CX_UNKNOWN_TYPE ? t : CX_UNKNOWN_TYPE];
}

static bool has(const uint8_t *data, size_t n, size_t at, const char *magic, size_t len)
{
    return n >= at + len && memcmp(data + at, magic, len) == 0;
}

cx_file_type cx_file_type_of(const void *data, size_t n)
{
    const uint8_t *b = data;
    if (has(b, n, 0, "\x89PNG\r\n\x1a\n", 8))
        return CX_PNG;
    if (has(b, n, 0, "\xff\xd8\xff", 3))
        return CX_JPEG;
    if (has(b, n, 0, "RIFF", 4) && has(b, n, 8, "WEBP", 4))
        return CX_WEBP;
    return CX_UNKNOWN_TYPE;
}

bool cx_extension_fits(const char *path, cx_file_type t)
{
    static const struct { const char *ext; cx_file_type type; } known[] = {
        { "png", CX_PNG }, { "jpg", CX_JPEG }, { "jpeg", CX_JPEG }, { "jpe", CX_JPEG }, { "jfif", CX_JPEG }, { "webp", CX_WEBP },
    };
    const char *dot = strrchr(cx_path_base(path), '.');
    for (int i = 0; dot && i < CX_COUNT(known); i++)
        if (strcasecmp(dot + 1, known[i].ext) == 0)
            return known[i].type == t;
    return false;
}

static bool is_text(const uint8_t *data, size_t n)
{
    size_t look = n < 512 ? n : 512;
    for (size_t i = 0; i < look; i++)
        if (data[i] < 32 && data[i] != '\n' && data[i] != '\r' && data[i] != '\t')
            return false;
    return n > 0;
}

const char *cx_looks_like(const uint8_t *data, size_t n)
{
    static const struct { size_t at; const char *magic; size_t len; const char *what; } known[] = {
        { 128, "DICM", 4, "a DICOM file" },
        { 0, "GIF87a", 6, "a GIF picture" },
        { 0, "GIF89a", 6, "a GIF picture" },
        { 0, "BM", 2, "a BMP picture" },
        { 0, "II*\0", 4, "a TIFF picture" },
        { 0, "MM\0*", 4, "a TIFF picture" },
        { 0, "\0\0\0\x0cjP  ", 8, "a JPEG 2000 picture" },
        { 0, "\xff\x4f\xff\x51", 4, "a JPEG 2000 picture" },
        { 0, "\xff\x0a", 2, "a JPEG XL picture" },
        { 4, "ftyp", 4, "a HEIC, AVIF or video file" },
        { 0, "%PDF-", 5, "a PDF document" },
        { 0, "PK\x03\x04", 4, "a ZIP archive" },
        { 0, "\x1f\x8b", 2, "a gzip archive" },
        { 0, "\x89PNG", 4, "a PNG damaged by a text-mode transfer" },
        { 0, "RIFF", 4, "a RIFF file without a picture" },
        { 0, "<", 1, "an HTML or XML page" },
    };
    for (int i = 0; i < CX_COUNT(known); i++)
        if (has(data, n, known[i].at, known[i].magic, known[i].len))
            return known[i].what;
    return is_text(data, n) ? "text" : NULL;
}
