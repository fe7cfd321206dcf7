/* png_write.c - PNG encoding into a buffer. Depends on libpng, image.h. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/image.h"

typedef struct {
    cx_buf *out;
    png_structp png;
    png_infop info;
    int width, height, bits, type;
    const uint8_t *rgb;           /* either this */
    const uint16_t *grey;         /* or this */
    uint8_t *row;                 /* big-endian or 8-bit samples of one row of grey */
    char message[160];
    jmp_buf jump;
} png_job;

static _Noreturn void on_error(png_structp png, png_const_charp message)
{
    png_job *j = png_get_error_ptr(png);
    snprintf(j->message, sizeof j->message, "%s", message);
    longjmp(j->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void put_bytes(png_structp png, png_bytep data, size_t n)
{
    png_job *j = png_get_io_ptr(png);
    cx_buf_put(j->out, data, n);
    if (j->out->failed)
        png_error(png, "no memory");
}

static void flush(png_structp png)
{
    (void)png;
}

static const uint8_t *row_of(png_job *j, int y)
{
    if (j->rgb)
        return j->rgb + (size_t)y * (size_t)j->width * 3;
    const uint16_t *px = j->grey + (size_t)y * (size_t)j->width;
    for (int x = 0; x < j->width; x++)
        if (j->bits == 8) {
            j->row[x] = (uint8_t)px[x];
        } else {
            j->row[2 * x] = (uint8_t)(px[x] >> 8);
            j->row[2 * x + 1] = (uint8_t)px[x];
        }
    return j->row;
}

/* The only function that libpng's errors return to. */
static bool write_guarded(png_job *j)
{
    if (setjmp(j->jump))
        return false;
    j->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    if (!j->info)
        return false;
    png_set_write_fn(j->png, j, put_bytes, flush);
    png_set_IHDR(j->png, j->info, (png_uint_32)j->width, (png_uint_32)j->height, j->bits, j->type, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(j->png, j->info);
    for (int y = 0; y < j->height; y++)
        png_write_row(j->png, row_of(j, y));
    png_write_end(j->png, j->info);
    return true;
}

static cx_status encode(png_job *j, cx_error *err)
{
    size_t before = j->out->len;
    if (j->width < 1 || j->height < 1)
        return cx_fail(err, CX_E_SHAPE, "cannot write a PNG of %d x %d px", j->width, j->height);
    j->row = cx_alloc((size_t)j->width, 2);
    snprintf(j->message, sizeof j->message, "no memory");
    bool ok = j->row && write_guarded(j);
    png_destroy_write_struct(&j->png, &j->info);
    free(j->row);
    if (ok)
        return CX_OK;
    j->out->len = before;
    return cx_fail(err, CX_E_MEMORY, "writing a PNG of %d x %d px: %s", j->width, j->height, j->message);
}

cx_status cx_png_rgb(const cx_canvas *c, cx_buf *out, cx_error *err)
{
    png_job j = { .out = out, .width = c->width, .height = c->height, .bits = 8, .type = PNG_COLOR_TYPE_RGB, .rgb = c->px };
    return encode(&j, err);
}

cx_status cx_png_grey(const uint16_t *px, int width, int height, int max, cx_buf *out, cx_error *err)
{
    if (max != 255 && max != 65535)
        return cx_fail(err, CX_E_USAGE, "a grey PNG has a white of 255 or 65535, not %d", max);
    png_job j = { .out = out, .width = width, .height = height, .bits = max == 255 ? 8 : 16, .type = PNG_COLOR_TYPE_GRAY, .grey = px };
    return encode(&j, err);
}
