/* pixels.h - the one way from grey values to bytes, and from bytes to network inputs. Private to src/data. */
#ifndef CX_DATA_PIXELS_H
#define CX_DATA_PIXELS_H
#include "cxnet/data.h"

enum { CX_CACHE_SIDE_MAX = 8192 };        /* px; keeps side * side in an int */

/* To the nearest of 0 .. 255. */
static inline uint8_t cx_pixel_byte(float grey) { return (uint8_t)(grey > 0 ? (grey < 255 ? grey + 0.5f : 255) : 0); }
void cx_pixels_round(const float *grey, size_t n, uint8_t *out);
/* grey [n] of one plane on a scale of 0..255 -> out [n, channels]: (grey / 255 - mean) / std, as one multiplication and one addition per value. All channels
 * where norm has one plane, else channel `plane`. */
void cx_pixels_normalise(const float *grey, int n, const cx_normalise *norm, int plane, float *out);
#endif
