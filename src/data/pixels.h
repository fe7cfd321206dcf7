/* pixels.h - the one way from a film to bytes at the working size, and from bytes to network inputs. Private to src/data. */
#ifndef CX_DATA_PIXELS_H
#define CX_DATA_PIXELS_H
#include "cxnet/data.h"

enum { CX_CACHE_SIDE_MAX = 8192 };        /* px; keeps side * side in an int */

/* Film -> out [side, side]: CX_RESIZE_AREA in float on a scale of 0..255, rounded to nearest. CX_E_MEMORY. */
cx_status cx_pixels_resize(const cx_film *f, int side, uint8_t *out, cx_error *err);
/* grey [n] on a scale of 0..255 -> out [n, channels]: (grey / 255 - mean) / std, as one multiplication and one addition per value. */
void cx_pixels_normalise(const float *grey, int n, const cx_normalise *norm, float *out);
#endif
