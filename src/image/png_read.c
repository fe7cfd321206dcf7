/* png_read.c - PNG through libpng, strictly: every checksum counts and every warning about the picture is an error. Depends on libpng, decode.h. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "decode.h"

/* Everything that must survive a longjmp lives here, in the caller's frame. */
typedef struct {
    cx_decoding *d;
    png_structp png;
    png_infop info;
    size_t at;                /* read so far */
    uint8_t *rows;            /* one row, or the whole picture when interlaced */
    int channels;
    cx_error *err;
    cx_status status;         /* of our own failures; CX_OK while only libpng has complained */
    char message[160];
    jmp_buf jump;
} png_job;

static _Noreturn void on_error(png_structp png, png_const_charp message)
{
    png_job *j = png_get_error_ptr(png);
    snprintf(j->message, sizeof j->message, "%s", message);
    longjmp(j->jump, 1);
}

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    png_job *j = png_get_io_ptr(png);
    if (n > j->d->n - j->at)
        png_error(png, "the file ends too early");
    memcpy(out, j->d->data + j->at, n);
    j->at += n;
}

/* Reads the header; afterwards rows will be 8 or 16 bits of G, GA, RGB or RGBA. */
static void read_header(png_job *j)
{
    png_structp png = j->png;
    cx_film *f = &j->d->film;
    png_set_read_fn(png, j, read_bytes);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);       /* cx_decoding_start has our limits, and says so better */
    png_set_chunk_malloc_max(png, 8 << 20);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);      /* texts, profiles, gamma: skipped, only their checksums are read */
    png_read_info(png, j->info);
    int type = png_get_color_type(png, j->info), bits = png_get_bit_depth(png, j->info);
    f->channels = png_get_channels(png, j->info);
    f->bits = bits;
    f->palette = type == PNG_COLOR_TYPE_PALETTE;
    f->alpha = (type & PNG_COLOR_MASK_ALPHA) || png_get_valid(png, j->info, PNG_INFO_tRNS);
    f->interlaced = png_get_interlace_type(png, j->info) != PNG_INTERLACE_NONE;
    j->status = cx_decoding_start(j->d, png_get_image_width(png, j->info), png_get_image_height(png, j->info), bits == 16 ? 65535 : 255, j->err);
    if (j->status != CX_OK)
        longjmp(j->jump, 1);
    png_set_expand(png);                                    /* palette to RGB, 1, 2, 4 bits to 8, tRNS to alpha */
    if (bits == 16 && (union { uint16_t word; uint8_t byte; }) { .word = 1 }.byte)
        png_set_swap(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, j->info);
    j->channels = png_get_channels(png, j->info);
}

static void hand_row(png_job *j, int y, const uint8_t *row)
{
    if (j->d->film.max == 65535)
        cx_decoding_row16(j->d, y, (const uint16_t *)(const void *)row, j->channels);
    else
        cx_decoding_row8(j->d, y, row, j->channels);
}

static void read_picture(png_job *j)
{
    size_t row_bytes = png_get_rowbytes(j->png, j->info);
    int height = j->d->film.height, kept = j->d->film.interlaced ? height : 1;
    j->rows = cx_alloc((size_t)kept, row_bytes);
    if (!j->rows) {
        j->status = cx_fail(j->err, CX_E_MEMORY, "%s: no memory for %d rows of %zu bytes; decode fewer films at a time", j->d->name, kept, row_bytes);
        longjmp(j->jump, 1);
    }
    if (j->d->film.interlaced)
        for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; pass++)
            for (int y = 0; y < height; y++)
                png_read_row(j->png, j->rows + (size_t)y * row_bytes, NULL);
    for (int y = 0; y < height; y++) {
        if (!j->d->film.interlaced)
            png_read_row(j->png, j->rows, NULL);
        hand_row(j, y, j->rows + (j->d->film.interlaced ? (size_t)y * row_bytes : 0));
    }
    png_read_end(j->png, NULL);
}

/* The only function that libpng's errors return to. */
static bool read_guarded(png_job *j)
{
    if (setjmp(j->jump))
        return false;
    j->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_error);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    if (!j->info) {
        j->status = cx_fail(j->err, CX_E_MEMORY, "%s: no memory for a PNG decoder", j->d->name);
        return false;
    }
    read_header(j);
    read_picture(j);
    return true;
}

cx_status cx_decode_png(cx_decoding *d, cx_error *err)
{
    png_job j = { .d = d, .err = err };
    bool ok = read_guarded(&j);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    free(j.rows);
    if (ok)
        return CX_OK;
    if (j.status != CX_OK)
        return j.status;
    return cx_fail(err, CX_E_DATA, "%s: damaged PNG: %s; fetch the file again", d->name, j.message);
}
