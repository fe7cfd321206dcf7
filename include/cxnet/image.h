/* image.h - pictures in and out: decoding films by content, resizing, equalising, colour maps, drawing on and writing PNG. Depends on base.h, film.h. */
#ifndef CXNET_IMAGE_H
#define CXNET_IMAGE_H
#include "cxnet/base.h"
#include "cxnet/film.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CX_PNG, CX_JPEG, CX_WEBP, CX_UNKNOWN_TYPE } cx_file_type;
const char *cx_file_type_name(cx_file_type t);            /* "PNG" */
cx_file_type cx_file_type_of(const void *data, size_t n); /* by the first bytes only */
/* Does the path's extension promise this type (.png; .jpg .jpeg .jpe .jfif; .webp, any case)? */
bool cx_extension_fits(const char *path, cx_file_type t);

/* A decoded radiograph: one grey channel, rows top to bottom without padding. Owned; free with cx_film_free. */
typedef struct {
    int width, height;      /* px, 1..16384, at most 2^28 px */
    int max;                /* value of white: 255, or 65535 for 16-bit files */
    uint16_t *px;           /* [height, width], 0 = black */
    /* facts about the file, for audits */
    cx_file_type type;
    int channels, bits;     /* as stored: 1..4 channels, bits per channel */
    bool alpha, interlaced, palette, cmyk, progressive;
    double colour;          /* share of pixels whose R, G, B differ by more than 8/255: > 0 means something is drawn in colour */
} cx_film;

/* Decodes PNG (grey, RGB, palette, alpha over black, 1 to 16 bit, interlaced), JPEG (baseline, progressive, grey, RGB, CMYK/YCCK), WebP; the type comes from
 * the content. Colour becomes grey as PIL's convert("L") does: (19595 R + 38470 G + 7471 B + 32768) >> 16. Dimensions are checked before anything is allocated.
 * `name` stands in messages. CX_E_DATA: unknown type, too large, truncated, corrupt (also where the library would only warn); out is then zero.
 * Thread-safe. Never prints. */
cx_status cx_film_decode(const char *name, const void *data, size_t n, cx_film *out, cx_error *err);
cx_status cx_film_load(const char *path, cx_film *out, cx_error *err);        /* files up to 1 GiB */
void cx_film_free(cx_film *f);

/* ---- resizing one float channel ------------------------------------------------------------------------------------ */

typedef enum {
    CX_RESIZE_AREA,       /* PIL's BILINEAR with antialiasing: triangle filter widened by the scale when shrinking. For films */
    CX_RESIZE_BILINEAR,   /* half-pixel centres, no antialiasing (PyTorch align_corners=False, OpenCV's INTER_LINEAR). For heat maps */
    CX_RESIZE_CV_AREA,    /* OpenCV's INTER_AREA: the mean of what an output pixel covers; where a side grows, between the two nearest, as it does there */
    CX_RESIZE_CV_CUBIC    /* OpenCV's INTER_CUBIC: Keys 1981 with a = -0.75, half-pixel centres, no antialiasing. Runs over 0 and 255 beside edges */
} cx_resize_kind;
/* src [sh, sw] -> dst [dh, dw]. Separable, double weights. CX_E_MEMORY, CX_E_SHAPE. */
cx_status cx_resize(const float *src, int sw, int sh, float *dst, int dw, int dh, cx_resize_kind kind, cx_error *err);

/* ---- equalising the contrast of 8-bit films ---------------------------------------------------------------------------- */

/* CLAHE, as cv2.createCLAHE(clip, (tiles_x, tiles_y)) of OpenCV does it, grey for grey: Zuiderveld 1994, each tile equalised by its own histogram, which is cut
 * at clip times the count that a flat one would have; a pixel lies between the curves of its four nearest tiles. clip finite and > 0 (study: 2), tiles_x 1 ..
 * width, tiles_y 1 .. height (study: 8), sides 1 .. 16384 px. CX_E_CONFIG, CX_E_SHAPE. */
cx_status cx_clahe_make(double clip, int tiles_x, int tiles_y, int width, int height, cx_clahe *out, cx_error *err);
/* px, out [height, width] of the film sizes that c was made for; out may be px. CX_E_MEMORY: 256 bytes a tile. */
cx_status cx_clahe_apply(const cx_clahe *c, const uint8_t *px, uint8_t *out, cx_error *err);

/* BEASF (Arriaga-Garcia et al. 2014, "Image enhancement using bi-histogram equalization with adaptive sigmoid functions"): the greys below and above the film's
 * mean each follow a sigmoid about their median, the steeper the larger gamma, stretched to their own range. gamma finite and > 0 (study: 1.5). CX_E_CONFIG. */
cx_status cx_beasf_make(double gamma, cx_beasf *out, cx_error *err);
/* px, out [n_px], n_px 1 .. 2^28, of one film, in any shape; out may be px. Nothing can fail. */
void cx_beasf_apply(const cx_beasf *b, const uint8_t *px, int n_px, uint8_t *out);

/* Local equalisation, as skimage.filters.rank.equalize(px, disk(radius)) does it, grey for grey: a pixel becomes 255 times the share of the pixels around it
 * that are not brighter, rounded down; those within `radius` px of it (1 .. 512), as far as the film reaches. px, out [height, width], not the same.
 * CX_E_CONFIG, CX_E_SHAPE. */
cx_status cx_equalize_local(const uint8_t *px, int width, int height, int radius, uint8_t *out, cx_error *err);

/* The greys of a film moved so that their distribution becomes that of a reference, as skimage.exposure.match_histograms does it, rounded to the nearest grey:
 * count: pixels of each grey, in the film and in the reference (neither all 0) -> map[grey]. */
void cx_match_histogram(const int64_t count[CX_GREYS], const int64_t reference[CX_GREYS], uint8_t map[CX_GREYS]);
void cx_histogram(const uint8_t *px, size_t n, int64_t count[CX_GREYS]);

/* ---- masks: what a segmentation network says, made usable --------------------------------------------------------------------
 * mask [height, width], 0 outside, anything else inside; sides 1 .. 16384 px. What these functions leave is 0 and 1. */

typedef struct { int x, y, width, height; } cx_box;                              /* px; width 0: nothing */
/* Keeps the `keep` largest components (8-neighbours; of equal ones the first from the top left), none of fewer pixels than `least` times the largest, which
 * drops specks that lie far from the only lung there is. Then fills holes: what is outside but cut off from the border (4-neighbours). CX_E_MEMORY: 8 bytes a
 * pixel; CX_E_SHAPE. Lungs: keep 2, least CX_LUNG_LEAST: of 954 hand-drawn pairs, the smaller lung has 0.10 of the larger at least. */
cx_status cx_mask_clean(uint8_t *mask, int width, int height, int keep, double least, cx_error *err);
#define CX_LUNG_LEAST 0.05
/* Grows the mask by `radius` px (0: not at all) to all eight sides: as many times OpenCV's dilate with a 3 x 3 kernel. CX_E_MEMORY: 1 byte a pixel. */
cx_status cx_mask_dilate(uint8_t *mask, int width, int height, int radius, cx_error *err);
/* The smallest box around what is inside, and how many pixels that is. */
int64_t cx_mask_box(const uint8_t *mask, int width, int height, cx_box *out);
/* Are these the proportions of one picture? They may differ by rounding, up to 2 %; beyond that a mask is one of another film. */
static inline bool cx_mask_fits(int mask_width, int mask_height, int width, int height)
{
    const double stretch = (double)mask_width * height / ((double)mask_height * width);
    return stretch >= 0.98 && stretch <= 1.02;
}
/* How many components (8-neighbours) there are, and the pixels of the `max` largest in px (NULL: max 0), the largest first; -1: out of memory (8 bytes a
 * pixel). */
int cx_mask_parts(const uint8_t *mask, int width, int height, int64_t *px, int max);

/* A rectangle on a film, px of the film from its left upper corner; it may reach beyond the film. */
typedef struct { double x, y, width, height; } cx_place;

/* ---- an 8-bit RGB canvas ------------------------------------------------------------------------------------------- */

typedef struct { int width, height; uint8_t *px; } cx_canvas;                   /* [height, width, 3]; owned */
typedef struct { uint8_t r, g, b; } cx_rgb;
cx_status cx_canvas_new(int width, int height, cx_rgb fill, cx_canvas *out, cx_error *err);
void cx_canvas_free(cx_canvas *c);
/* Draws a film scaled (CX_RESIZE_AREA when shrinking, bilinear otherwise) into the rectangle x,y,w,h. Clipped. */
cx_status cx_canvas_film(cx_canvas *c, const cx_film *f, int x, int y, int w, int h, cx_error *err);
/* Lays heat (values 0..1, [hh, hw]) over the rectangle: pixel = (1 - a) pixel + a * map(value), a = opacity * value (2 - value). Cold regions stay the film,
 * and faint heat begins without an edge: a step of grey in a film would be read as anatomy. */
cx_status cx_canvas_heat(cx_canvas *c, const float *heat, int hw, int hh, int x, int y, int w, int h, double opacity, cx_error *err);
/* Draws the outline of a mask [mh, mw], 0 or not, stretched over the rectangle: pixels inside with one of four neighbours outside, `thick` px wide inwards. */
void cx_canvas_outline(cx_canvas *c, const uint8_t *mask, int mw, int mh, int x, int y, int w, int h, int thick, cx_rgb colour);
void cx_canvas_rect(cx_canvas *c, int x, int y, int w, int h, cx_rgb colour);   /* filled, clipped */
/* Text in a built-in bitmap font (ASCII 32..126), top left at x,y; scale >= 1. Returns the width in px. Other bytes draw as '?'. */
int cx_canvas_text(cx_canvas *c, int x, int y, int scale, cx_rgb colour, const char *text);
int cx_text_width_px(const char *text, int scale);
enum { CX_FONT_HEIGHT_PX = 8 };
/* Appends a PNG (8-bit RGB) to out; cx_png_grey16 writes 8- or 16-bit grey by `max` (255 or 65535). */
cx_status cx_png_rgb(const cx_canvas *c, cx_buf *out, cx_error *err);
cx_status cx_png_grey(const uint16_t *px, int width, int height, int max, cx_buf *out, cx_error *err);

/* Perceptually uniform colour map "inferno" (van der Walt & Smith 2015, CC0), v clamped to 0..1. */
cx_rgb cx_inferno(double v);

#ifdef __cplusplus
}
#endif
#endif
