/* decode.h - what the decoders of one file type share: the picture on its way to a film. Private to src/image. */
#ifndef CX_IMAGE_DECODE_H
#define CX_IMAGE_DECODE_H
#include "cxnet/image.h"

/* A file being decoded. The decoder fills the facts of `film`, calls cx_decoding_start once the size is known, then hands over every row. */
typedef struct {
    const char *name;         /* for messages */
    const uint8_t *data; size_t n;
    cx_film film;             /* px is allocated by cx_decoding_start */
    int64_t coloured;         /* pixels so far whose channels differ visibly */
} cx_decoding;

/* Refuses sizes of nothing, sizes beyond cx_film's limits, and pictures that could not be real films: more than CX_BOMB_PX pixels with more than
 * CX_BOMB_PX_PER_BYTE of them in each byte of the file. Then allocates the film's pixels. CX_E_DATA, CX_E_MEMORY. */
cx_status cx_decoding_start(cx_decoding *d, uint32_t width, uint32_t height, int max, cx_error *err);
enum { CX_FILM_SIDE_MAX = 16384, CX_BOMB_PX = 1 << 24, CX_BOMB_PX_PER_BYTE = 1024 };

/* Row y, pixels interleaved: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. */
void cx_decoding_row8(cx_decoding *d, int y, const uint8_t *row, int channels);
void cx_decoding_row16(cx_decoding *d, int y, const uint16_t *row, int channels);
/* Row y of 4 channels C, M, Y, K; inverted: 255 is no ink, as Adobe writes them. */
void cx_decoding_row_cmyk(cx_decoding *d, int y, const uint8_t *row, bool inverted);

cx_status cx_decode_png(cx_decoding *d, cx_error *err);
cx_status cx_decode_jpeg(cx_decoding *d, cx_error *err);
cx_status cx_decode_webp(cx_decoding *d, cx_error *err);

/* What a file of no supported type seems to be, for a message: "a DICOM file", "text"; NULL when nothing fits. */
const char *cx_looks_like(const uint8_t *data, size_t n);
#endif
