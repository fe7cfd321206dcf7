/* input.c - one film to a network's input, by the same steps as cache and loader without augmentation. Depends on pixels.h. */
#include <stdlib.h>
#include "pixels.h"

const cx_normalise CX_NORM_IMAGENET = { 3, { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f } };
const cx_normalise CX_NORM_UNIT = { 3, { 0, 0, 0 }, { 1, 1, 1 } };

cx_status cx_pixels_resize(const cx_film *f, int side, uint8_t *out, cx_error *err)
{
    size_t n = (size_t)f->width * (size_t)f->height, m = (size_t)side * (size_t)side;
    float *src = cx_alloc_aligned(n, sizeof(float)), *dst = cx_alloc_aligned(m, sizeof(float));
    cx_status s = src && dst ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory to resize a film of %d x %d px; use fewer threads", f->width, f->height);
    if (s == CX_OK) {
        float scale = 255.0f / (float)f->max;
        for (size_t i = 0; i < n; i++)
            src[i] = (float)f->px[i] * scale;
        s = cx_resize(src, f->width, f->height, dst, side, side, CX_RESIZE_AREA, err);
    }
    for (size_t i = 0; s == CX_OK && i < m; i++)
        out[i] = (uint8_t)(dst[i] > 0 ? (dst[i] < 255 ? dst[i] + 0.5f : 255) : 0);
    free(src);
    free(dst);
    return s;
}

void cx_pixels_normalise(const float *grey, int n, const cx_normalise *norm, float *out)
{
    cx_lines l = cx_lines_of(norm);
    if (norm->channels == 1)
        for (int i = 0; i < n; i++)
            out[i] = grey[i] * l.slope[0] + l.shift[0];
    else
        for (int i = 0; i < n; i++) {
            out[3 * i] = grey[i] * l.slope[0] + l.shift[0];
            out[3 * i + 1] = grey[i] * l.slope[1] + l.shift[1];
            out[3 * i + 2] = grey[i] * l.slope[2] + l.shift[2];
        }
}

cx_status cx_film_to_input(const cx_film *f, int side, const cx_normalise *norm, float *out, cx_error *err)
{
    if (side < 1)
        return cx_fail(err, CX_E_SHAPE, "an input of %d px a side; wanted at least 1", side);
    uint8_t *px = cx_alloc((size_t)side, (size_t)side);
    cx_status s = px ? cx_pixels_resize(f, side, px, err) : cx_fail(err, CX_E_MEMORY, "no memory for an input of %d px a side", side);
    if (s == CX_OK)
        cx_augment_film(px, side, NULL, 0, 0, 0, norm, out);
    free(px);
    return s;
}
