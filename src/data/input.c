/* input.c - greys to the numbers of a network's input: what the names of data.normalise mean. Depends on pixels.h. */
#include <string.h>
#include "pixels.h"

const cx_normalise CX_NORM_IMAGENET = { 3, { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f }, 1 };
const cx_normalise CX_NORM_UNIT = { 3, { 0, 0, 0 }, { 1, 1, 1 }, 1 };

/* value = (grey / 255 - mean) / std */
static const struct { const char *name; float mean, std; } even[] = {
    { "unit", 0, 1 },
    { "none", 0, 1.0f / 255 },
    { "signed", 127.0f / 255, 127.0f / 255 },
    { "xrv", 0.5f, 1.0f / 2048 },
};

cx_status cx_normalise_named(const char *name, int channels, int planes, cx_normalise *out, cx_error *err)
{
    *out = CX_NORM_IMAGENET;
    out->channels = channels;
    out->planes = planes;
    if ((channels != 1 && channels != 3) || (planes != 1 && planes != channels))
        return cx_fail(err, CX_E_CONFIG, "normalise: %d channels from %d planes; want 1 or 3, from 1 plane or as many", channels, planes);
    if (!strcmp(name, "imagenet"))
        return channels == 3 ? CX_OK : cx_fail(err, CX_E_CONFIG, "normalise imagenet has a mean for each of 3 channels, data.channels is 1; "
                                                         "want normalise unit, or channels 3");
    for (int k = 0; k < CX_COUNT(even); k++) {
        if (strcmp(name, even[k].name))
            continue;
        for (int c = 0; c < 3; c++) {
            out->mean[c] = even[k].mean;
            out->std[c] = even[k].std;
        }
        return CX_OK;
    }
    return cx_fail(err, CX_E_CONFIG, "normalise: nothing is called \"%.60s\"; want imagenet, unit, none, signed or xrv", name);
}

void cx_pixels_round(const float *grey, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = cx_pixel_byte(grey[i]);
}

void cx_pixels_normalise(const float *grey, int n, const cx_normalise *norm, int plane, float *out)
{
    cx_lines l = cx_lines_of(norm);
    if (cx_planes_of(norm) > 1)
        for (int i = 0; i < n; i++)
            out[i * norm->channels + plane] = grey[i] * l.slope[plane] + l.shift[plane];
    else if (norm->channels == 1)
        for (int i = 0; i < n; i++)
            out[i] = grey[i] * l.slope[0] + l.shift[0];
    else
        for (int i = 0; i < n; i++) {
            out[3 * i] = grey[i] * l.slope[0] + l.shift[0];
            out[3 * i + 1] = grey[i] * l.slope[1] + l.shift[1];
            out[3 * i + 2] = grey[i] * l.slope[2] + l.shift[2];
        }
}
