/* films.c - what the CUDA backend does to 8-bit films: checks, scratch, launches. Depends on films.h, check.h, kernels.h. */
#include "films.h"
#include "check.h"
#include "kernels.h"

enum { SIDE_MAX = 16384, PX_MAX = 1 << 28 };      /* of a film: cx_film in image.h */
/* Grids have one dimension, a block for at most 1,024 px, a tile or a film: the device's memory ends before their 2^31 blocks do. */

static void *stream_of(const cx_backend *b) { return ((const cx_cuda_queue *)b->self)->stream; }

static cx_status done(cx_backend *b, void *work, cx_status s, const char *what, cx_error *err)
{
    s = cx_cuda_launched(err, s, what);
    b->release(b, work);              /* waits for the work that reads it */
    return s;
}

cx_status cx_cuda_run_films(cx_backend *b, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, const cx_tensor *out, cx_error *err)
{
    const cx_shape s = out->s;
    if (s.n < 0 || s.n > INT32_MAX || s.h < 1 || s.h > SIDE_MAX / 2 || s.w != s.h || s.c != norm->channels || (s.c != 1 && s.c != 3) || out->ld != s.c)
        return cx_fail(err, CX_E_SHAPE, "cuda: films of %d channels into (%lld,%lld,%lld,%lld) at distance %lld; want square films of 1 to %d px, 1 or 3 "
                       "channels, dense", norm->channels, (long long)s.n, (long long)s.h, (long long)s.w, (long long)s.c, (long long)out->ld, SIDE_MAX / 2);
    if (cx_planes_of(norm) != 1 && cx_planes_of(norm) != norm->channels)
        return cx_fail(err, CX_E_SHAPE, "cuda: films of %d planes into %d channels; want 1 plane, or one a channel", cx_planes_of(norm), norm->channels);
    if (out->type != CX_F32 && out->type != CX_BF16)
        return cx_fail(err, CX_E_SHAPE, "cuda: films become float32 or bfloat16, no other type");
    return cx_cuda_launched(err, cx_cuda_films(stream_of(b), films, draw, norm, out), "films");
}

cx_status cx_cuda_run_resize(cx_backend *b, const uint8_t *px, int width, int height, int side, uint8_t *out, cx_error *err)
{
    void *work = NULL;
    if (width < 1 || height < 1 || side < 1 || width > SIDE_MAX || height > SIDE_MAX || side > SIDE_MAX)
        return cx_fail(err, CX_E_SHAPE, "cuda: cannot make %d x %d px from %d x %d px; sides are 1 to %d", side, side, width, height, SIDE_MAX);
    TRY(b->alloc(b, cx_cuda_resize_bytes(width, height, side), &work, err));
    return done(b, work, cx_cuda_resize(stream_of(b), px, width, height, side, out, work), "resize", err);
}

cx_status cx_cuda_run_clahe(cx_backend *b, const cx_clahe *c, const uint8_t *px, int n, uint8_t *out, cx_error *err)
{
    void *work = NULL;
    if (n < 0 || c->width < 1 || c->height < 1 || c->tiles_x < 1 || c->tiles_y < 1)
        return cx_fail(err, CX_E_SHAPE, "cuda: CLAHE of %d films of %d x %d px, %d x %d tiles; want what cx_clahe_make gives", n, c->width, c->height,
                       c->tiles_x, c->tiles_y);
    TRY(b->alloc(b, cx_cuda_clahe_bytes(c, n), &work, err));
    return done(b, work, cx_cuda_clahe(stream_of(b), c, px, n, out, work), "CLAHE", err);
}

cx_status cx_cuda_run_beasf(cx_backend *b, const cx_beasf *f, const uint8_t *px, int n, int n_px, uint8_t *out, cx_error *err)
{
    void *work = NULL;
    if (n < 0 || n_px < 1 || n_px > PX_MAX)
        return cx_fail(err, CX_E_SHAPE, "cuda: BEASF of %d films of %d px; want films of 1 to %d px", n, n_px, PX_MAX);
    TRY(b->alloc(b, cx_cuda_beasf_bytes(n), &work, err));
    return done(b, work, cx_cuda_beasf(stream_of(b), f, px, n, n_px, out, work), "BEASF", err);
}
