/* webp_read.c - WebP, lossy and lossless, one picture. Depends on libwebp, decode.h. */
#include <webp/decode.h>
#include "decode.h"

static const char *reason(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA: return "the file ends too early";
    case VP8_STATUS_BITSTREAM_ERROR: return "the picture's data are corrupt";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "it uses a feature that libwebp does not know";
    case VP8_STATUS_OUT_OF_MEMORY: return "no memory";
    default: return "it cannot be decoded";
    }
}

static cx_status damaged(cx_decoding *d, VP8StatusCode code, cx_error *err)
{
    cx_status s = code == VP8_STATUS_OUT_OF_MEMORY ? CX_E_MEMORY : CX_E_DATA;
    return cx_fail(err, s, "%s: damaged WebP: %s; fetch the file again", d->name, reason(code));
}

cx_status cx_decode_webp(cx_decoding *d, cx_error *err)
{
    WebPDecoderConfig c;
    if (!WebPInitDecoderConfig(&c))
        return cx_fail(err, CX_E_INTERNAL, "%s: libwebp is another version than cxnet was built with; rebuild cxnet", d->name);
    VP8StatusCode code = WebPGetFeatures(d->data, d->n, &c.input);
    if (code != VP8_STATUS_OK)
        return damaged(d, code, err);
    if (c.input.has_animation)
        return cx_fail(err, CX_E_DATA, "%s: an animated WebP is no film; save the one frame that is meant", d->name);
    d->film.alpha = c.input.has_alpha;
    d->film.channels = c.input.has_alpha ? 4 : 3;
    d->film.bits = 8;
    TRY(cx_decoding_start(d, (uint32_t)c.input.width, (uint32_t)c.input.height, 255, err));
    c.output.colorspace = c.input.has_alpha ? MODE_RGBA : MODE_RGB;
    code = WebPDecode(d->data, d->n, &c);
    if (code == VP8_STATUS_OK)
        for (int y = 0; y < d->film.height; y++)
            cx_decoding_row8(d, y, c.output.u.RGBA.rgba + (size_t)y * (size_t)c.output.u.RGBA.stride, d->film.channels);
    WebPFreeDecBuffer(&c.output);
    return code == VP8_STATUS_OK ? CX_OK : damaged(d, code, err);
}
