/* jpeg_read.c - JPEG through libjpeg-turbo; data that libjpeg would patch up with a warning are errors here. Depends on libjpeg, decode.h. */
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>
#include "decode.h"

enum { SCANS_MAX = 128 };     /* of a progressive file: encoders write about 10; thousands of empty ones only burn time */

/* Everything that must survive a longjmp lives here, in the caller's frame. */
typedef struct {
    struct jpeg_error_mgr manager;          /* first, so that cinfo->err is the job */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct cinfo;
    cx_decoding *d;
    uint8_t *row;
    cx_error *err;
    cx_status status;                       /* of our own failures; CX_OK while only libjpeg has complained */
    char message[JMSG_LENGTH_MAX];
    jmp_buf jump;
} jpeg_job;

static _Noreturn void on_error(j_common_ptr cinfo)
{
    jpeg_job *j = (jpeg_job *)cinfo->err;
    cinfo->err->format_message(cinfo, j->message);
    longjmp(j->jump, 1);
}

/* level -1 is a warning; the ones that say nothing about the pixels pass. */
static void on_message(j_common_ptr cinfo, int level)
{
    if (level < 0 && cinfo->err->msg_code != JWRN_JFIF_MAJOR && cinfo->err->msg_code != JWRN_ADOBE_XFORM)
        on_error(cinfo);
}

static void on_progress(j_common_ptr cinfo)
{
    jpeg_job *j = (jpeg_job *)cinfo->err;
    if (j->cinfo.input_scan_number > SCANS_MAX) {
        snprintf(j->message, sizeof j->message, "more than %d scans", SCANS_MAX);
        longjmp(j->jump, 1);
    }
}

static void fail_own(jpeg_job *j, cx_status s)
{
    j->status = s;
    longjmp(j->jump, 1);
}

static void read_header(jpeg_job *j)
{
    struct jpeg_decompress_struct *c = &j->cinfo;
    cx_film *f = &j->d->film;
    jpeg_create_decompress(c);
    j->progress.progress_monitor = on_progress;
    c->progress = &j->progress;
    jpeg_mem_src(c, j->d->data, (unsigned long)j->d->n);
    jpeg_read_header(c, TRUE);
    f->channels = c->num_components;
    f->bits = c->data_precision;
    f->progressive = c->progressive_mode;
    f->cmyk = c->num_components == 4;
    if (c->num_components != 1 && c->num_components != 3 && c->num_components != 4)
        fail_own(j, cx_fail(j->err, CX_E_DATA, "%s: a JPEG of %d channels; wanted grey, RGB or CMYK: convert it to PNG first", j->d->name, c->num_components));
    c->out_color_space = f->cmyk ? JCS_CMYK : f->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    cx_status s = cx_decoding_start(j->d, c->image_width, c->image_height, 255, j->err);
    if (s != CX_OK)
        fail_own(j, s);
}

static void read_picture(jpeg_job *j)
{
    struct jpeg_decompress_struct *c = &j->cinfo;
    jpeg_start_decompress(c);
    j->row = cx_alloc(c->output_width, (size_t)c->output_components);
    if (!j->row)
        fail_own(j, cx_fail(j->err, CX_E_MEMORY, "%s: no memory for a row of %u px", j->d->name, c->output_width));
    while (c->output_scanline < c->output_height) {
        JSAMPROW row = j->row;
        int y = (int)c->output_scanline;
        jpeg_read_scanlines(c, &row, 1);
        if (j->d->film.cmyk)
            cx_decoding_row_cmyk(j->d, y, row, c->saw_Adobe_marker);
        else
            cx_decoding_row8(j->d, y, row, c->output_components);
    }
    jpeg_finish_decompress(c);
}

/* The only function that libjpeg's errors return to. */
static bool read_guarded(jpeg_job *j)
{
    if (setjmp(j->jump))
        return false;
    read_header(j);
    read_picture(j);
    return true;
}

cx_status cx_decode_jpeg(cx_decoding *d, cx_error *err)
{
    jpeg_job *j = cx_alloc(1, sizeof *j);
    if (!j)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for a JPEG decoder", d->name);
    j->d = d;
    j->err = err;
    j->cinfo.err = jpeg_std_error(&j->manager);
    j->manager.error_exit = on_error;
    j->manager.emit_message = on_message;
    cx_status s = CX_OK;
    if (!read_guarded(j))
        s = j->status != CX_OK ? j->status : cx_fail(err, CX_E_DATA, "%s: damaged JPEG: %s; fetch the file again", d->name, j->message);
    jpeg_destroy_decompress(&j->cinfo);
    free(j->row);
    free(j);
    return s;
}
