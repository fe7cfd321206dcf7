/* film.c - from a file of any supported type to one grey channel, with the limits that hold for all of them. Depends on decode.h. */
#include <stdlib.h>
#include "decode.h"

enum { COLOUR_TOLERANCE = 8 };      /* of 255: JPEG and palettes make grey pictures differ by a few */

cx_status cx_decoding_start(cx_decoding *d, uint32_t width, uint32_t height, int max, cx_error *err)
{
    if (width == 0 || height == 0)
        return cx_fail(err, CX_E_DATA, "%s: a picture of %u x %u px holds nothing; fetch the file again", d->name, width, height);
    if (width > CX_FILM_SIDE_MAX || height > CX_FILM_SIDE_MAX)
        return cx_fail(err, CX_E_DATA, "%s: %u x %u px is too large: a film has at most %d px a side; scale it down first", d->name, width, height,
                       CX_FILM_SIDE_MAX);
    int64_t px = (int64_t)width * height;
    if (px > CX_BOMB_PX && px / CX_BOMB_PX_PER_BYTE > (int64_t)d->n)
        return cx_fail(err, CX_E_DATA, "%s: %u x %u px are declared in a file of %zu bytes, which no radiograph packs into so few; fetch the file again",
                       d->name, width, height, d->n);
    d->film.width = (int)width;
    d->film.height = (int)height;
    d->film.max = max;
    d->film.px = cx_alloc((size_t)px, sizeof(uint16_t));
    return d->film.px ? CX_OK : cx_fail(err, CX_E_MEMORY, "%s: no memory for %u x %u px; decode fewer films at a time", d->name, width, height);
}

/* One pixel, composited over black. PIL: alpha_composite rounds c * a / 255 to nearest, convert("L") weighs by ITU-R 601 in 16-bit fixed point. */
static inline uint16_t grey_of(uint32_t r, uint32_t g, uint32_t b, uint32_t alpha, uint32_t max, int64_t *coloured)
{
    if (alpha != max) {
        r = (uint32_t)(((uint64_t)r * alpha + max / 2) / max);
        g = (uint32_t)(((uint64_t)g * alpha + max / 2) / max);
        b = (uint32_t)(((uint64_t)b * alpha + max / 2) / max);
    }
    uint32_t lo = r < g ? r : g, hi = r < g ? g : r;
    lo = b < lo ? b : lo;
    hi = b > hi ? b : hi;
    *coloured += hi - lo > COLOUR_TOLERANCE * (max / 255);
    return (uint16_t)(((uint64_t)19595 * r + (uint64_t)38470 * g + (uint64_t)7471 * b + 32768) >> 16);
}

#define ROW(type, max)                                                                                              \
    uint16_t *px = d->film.px + (size_t)y * (size_t)d->film.width;                                                  \
    for (int x = 0; x < d->film.width; x++) {                                                                       \
        const type *p = row + (size_t)x * (size_t)channels;                                                         \
        if (channels == 1)                                                                                          \
            px[x] = p[0];                                                                                           \
        else if (channels == 2)                                                                                     \
            px[x] = grey_of(p[0], p[0], p[0], p[1], max, &d->coloured);                                             \
        else                                                                                                        \
            px[x] = grey_of(p[0], p[1], p[2], channels == 4 ? p[3] : max, max, &d->coloured);                       \
    }

void cx_decoding_row8(cx_decoding *d, int y, const uint8_t *row, int channels)
{
    ROW(uint8_t, 255)
}

void cx_decoding_row16(cx_decoding *d, int y, const uint16_t *row, int channels)
{
    ROW(uint16_t, 65535)
}

/* PIL's cmyk2rgb: R = (255 - K) - (255 - K) * C / 255, rounded. */
void cx_decoding_row_cmyk(cx_decoding *d, int y, const uint8_t *row, bool inverted)
{
    uint16_t *px = d->film.px + (size_t)y * (size_t)d->film.width;
    uint32_t flip = inverted ? 255 : 0;
    for (int x = 0; x < d->film.width; x++) {
        const uint8_t *p = row + (size_t)x * 4;
        uint32_t light = 255 - (p[3] ^ flip), rgb[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = light - ((p[c] ^ flip) * light + 127) / 255;
        px[x] = grey_of(rgb[0], rgb[1], rgb[2], 255, 255, &d->coloured);
    }
}

cx_status cx_film_decode(const char *name, const void *data, size_t n, cx_film *out, cx_error *err)
{
    cx_decoding d = { .name = name, .data = data, .n = n };
    cx_status s;
    *out = (cx_film) { 0 };
    d.film.type = cx_file_type_of(data, n);
    switch (d.film.type) {
    case CX_PNG: s = cx_decode_png(&d, err); break;
    case CX_JPEG: s = cx_decode_jpeg(&d, err); break;
    case CX_WEBP: s = cx_decode_webp(&d, err); break;
    default: {
        const char *like = cx_looks_like(data, n);
        if (n == 0)
            return cx_fail(err, CX_E_DATA, "%s: the file is empty; fetch it again", name);
        return cx_fail(err, CX_E_DATA, "%s: no PNG, JPEG or WebP picture%s%s; convert it to PNG first", name, like ? ": it looks like " : "", like ? like : "");
    }
    }
    if (s != CX_OK) {
        cx_film_free(&d.film);
        return s;
    }
    d.film.colour = (double)d.coloured / ((double)d.film.width * d.film.height);
    *out = d.film;
    return CX_OK;
}

cx_status cx_film_load(const char *path, cx_film *out, cx_error *err)
{
    cx_buf file = { 0 };
    *out = (cx_film) { 0 };
    cx_status s = cx_file_read(path, (size_t)1 << 30, &file, err);
    if (s == CX_OK)
        s = cx_film_decode(path, file.data, file.len, out, err);
    cx_buf_free(&file);
    return s;
}

void cx_film_free(cx_film *f)
{
    free(f->px);
    *f = (cx_film) { 0 };
}
