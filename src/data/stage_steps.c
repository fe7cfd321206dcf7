/* stage_steps.c - what each preprocessing stage does to one film. Depends on pipeline.h.
 *
 * What the study's code did beside its meaning, and these do not: it wrapped greys where cubic interpolation runs over 0 and 255, cut fractions instead of
 * rounding, took the box of pixels that are exactly 1 (a probability hardly ever is) and met no film without any. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline.h"

/* Beyond these a mask is no pair of lungs: of 954 hand-drawn ones the largest covers 61 % of its film, and no box has a side below 31 % of the film's. */
#define LUNGS_MOST 0.8
#define LUNGS_LEAST_SIDE 0.25

static size_t px_of(const cx_work *w) { return (size_t)w->width * (size_t)w->height; }

/* ---- stages on bytes -------------------------------------------------------------------------------------------------- */

/* The film as bytes and room for as many; the first is freed by from_bytes or by hand. */
static cx_status to_bytes(const cx_work *w, uint8_t **px, cx_error *err)
{
    if (!(*px = cx_alloc_aligned(2 * px_of(w), 1)))
        return cx_fail(err, CX_E_MEMORY, "no memory for a film of %d x %d px; use fewer threads", w->width, w->height);
    cx_pixels_round(w->grey, px_of(w), *px);
    return CX_OK;
}

/* What stands behind the first film, if s is CX_OK. */
static cx_status from_bytes(cx_work *w, uint8_t *px, cx_status s)
{
    for (size_t i = 0; s == CX_OK && i < px_of(w); i++)
        w->grey[i] = px[px_of(w) + i];
    free(px);
    return s;
}

cx_status cx_stage_equalize_local(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    uint8_t *px;
    TRY(to_bytes(w, &px, err));
    return from_bytes(w, px, cx_equalize_local(px, w->width, w->height, (int)s->value[LOCAL_RADIUS], px + px_of(w), err));
}

static cx_status equalize(const cx_work *w, double clip, double tiles, const uint8_t *px, uint8_t *out, cx_error *err)
{
    cx_clahe c;
    TRY(cx_clahe_make(clip, (int)tiles, (int)tiles, w->width, w->height, &c, err));
    return cx_clahe_apply(&c, px, out, err);
}

cx_status cx_stage_clahe(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    uint8_t *px;
    TRY(to_bytes(w, &px, err));
    return from_bytes(w, px, equalize(w, s->value[CLAHE_CLIP], s->value[CLAHE_TILES], px, px + px_of(w), err));
}

cx_status cx_stage_beasf(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    uint8_t *px;
    TRY(to_bytes(w, &px, err));
    cx_beasf_apply(&s->beasf, px, (int)px_of(w), px + px_of(w));
    return from_bytes(w, px, CX_OK);
}

cx_status cx_stage_match(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    uint8_t *px, map[CX_GREYS];
    int64_t count[CX_GREYS];
    TRY(to_bytes(w, &px, err));
    cx_histogram(px, px_of(w), count);
    cx_match_histogram(count, s->reference, map);
    for (size_t i = 0; i < px_of(w); i++)
        px[px_of(w) + i] = map[px[i]];
    return from_bytes(w, px, CX_OK);
}

cx_status cx_stage_channels(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    const size_t n = px_of(w);
    uint8_t *px;
    TRY(to_bytes(w, &px, err));
    w->planes = (int)s->value[CHANNELS_PLANES];
    w->plane = cx_alloc_aligned((size_t)w->planes, n);
    cx_status status = w->plane ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %d planes of %d x %d px", w->planes, w->width, w->height);
    for (int k = 0; status == CX_OK && k < w->planes; k++) {
        uint8_t *out = w->plane + (size_t)k * n;
        if (s->plane[k] == PLANE_CLAHE)
            status = equalize(w, s->value[CHANNELS_CLIP], s->value[CHANNELS_TILES], px, out, err);
        else if (s->plane[k] == PLANE_BEASF)
            cx_beasf_apply(&s->beasf, px, (int)n, out);
        else
            memcpy(out, px, n);
    }
    free(px);
    return status;
}

/* ---- size ----------------------------------------------------------------------------------------------------------------- */

/* w's pixels, resized to width x height and laid into the middle of a black square of side. */
static cx_status scaled(const float *px, const cx_work *w, int width, int height, int side, cx_resize_kind kind, float **out, cx_error *err)
{
    const bool whole = width == side && height == side;
    *out = cx_alloc((size_t)side, (size_t)side * sizeof **out);
    float *small = whole ? *out : cx_alloc((size_t)width, (size_t)height * sizeof *small);
    cx_status s = *out && small ? cx_resize(px, w->width, w->height, small, width, height, kind, err)
                                : cx_fail(err, CX_E_MEMORY, "no memory to resize a film of %d x %d px; use fewer threads", w->width, w->height);
    for (int y = 0; s == CX_OK && !whole && y < height; y++)
        memcpy(*out + (size_t)(y + (side - height) / 2) * (size_t)side + (side - width) / 2, small + (size_t)y * (size_t)width, (size_t)width * sizeof *small);
    if (!whole)
        free(small);
    if (s != CX_OK) {
        free(*out);
        *out = NULL;
    }
    return s;
}

/* A pixel of the new mask is inside where half of what it covers was. */
static cx_status scale_mask(cx_work *w, int width, int height, int side, cx_error *err)
{
    float *old = cx_alloc(px_of(w), sizeof *old), *new = NULL;
    uint8_t *mask = cx_alloc((size_t)side, (size_t)side);
    cx_status s = old && mask ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d px a side", side);
    for (size_t i = 0; s == CX_OK && i < px_of(w); i++)
        old[i] = w->mask[i];
    if (s == CX_OK)
        s = scaled(old, w, width, height, side, CX_RESIZE_AREA, &new, err);
    for (int i = 0; s == CX_OK && i < side * side; i++)
        mask[i] = new[i] >= 0.5f;
    free(old);
    free(new);
    if (s == CX_OK) {
        free(w->mask);
        w->mask = mask;
    } else {
        free(mask);
    }
    return s;
}

cx_status cx_stage_resize(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    static const cx_resize_kind kinds[] = { CX_RESIZE_AREA, CX_RESIZE_CV_AREA, CX_RESIZE_BILINEAR, CX_RESIZE_CV_CUBIC };     /* as the table names them */
    const int side = s->value[RESIZE_SIDE] > 0 ? (int)s->value[RESIZE_SIDE] : p->side, longer = w->width > w->height ? w->width : w->height;
    int width = side, height = side;
    float *grey;
    if (s->value[RESIZE_KEEP_ASPECT] != 0) {
        width = (int)lrint((double)side * w->width / longer);
        height = (int)lrint((double)side * w->height / longer);
        width = width > 0 ? width : 1;
        height = height > 0 ? height : 1;
    }
    TRY(scaled(w->grey, w, width, height, side, kinds[(int)s->value[RESIZE_FILTER]], &grey, err));
    cx_status status = w->mask ? scale_mask(w, width, height, side, err) : CX_OK;
    if (status != CX_OK) {
        free(grey);
        return status;
    }
    free(w->grey);
    w->grey = grey;
    for (int i = 0; i < side * side; i++)
        grey[i] = cx_pixel_byte(grey[i]);
    w->step_x *= (double)w->width / width;
    w->step_y *= (double)w->height / height;
    w->x -= w->step_x * ((side - width) / 2);
    w->y -= w->step_y * ((side - height) / 2);
    w->width = w->height = side;
    return CX_OK;
}

/* ---- lungs ---------------------------------------------------------------------------------------------------------------- */

static int growth_px(const cx_work *w, double share) { return (int)lrint(share * (w->width < w->height ? w->width : w->height)); }

/* Is the mask, as it lay on the whole film, a pair of lungs? If not, the note says why not and `instead`. */
static bool has_lungs(cx_work *w, double min_area, const char *instead)
{
    const cx_found *f = &w->found;
    char why[96];
    if (f->share == 0)
        snprintf(why, sizeof why, "no lungs found");
    else if (f->share < min_area || f->share > LUNGS_MOST)
        snprintf(why, sizeof why, "what was found covers %.1f %% of the film, lungs %.1f to %.0f %%", 100 * f->share, 100 * min_area, 100 * LUNGS_MOST);
    else if (f->across < LUNGS_LEAST_SIDE || f->down < LUNGS_LEAST_SIDE)
        snprintf(why, sizeof why, "what was found is %.0f x %.0f %% of the film's sides, lungs at least %.0f %%", 100 * f->across, 100 * f->down,
                 100 * LUNGS_LEAST_SIDE);
    else if (f->parts < 2)                  /* one lung, perhaps beside a white one: to crop to it would cut the sick side away */
        snprintf(why, sizeof why, "only one lung found");
    else
        return true;
    const size_t n = strlen(w->note);
    snprintf(w->note + n, sizeof w->note - n, "%s%s; %s", n ? "; " : "", n ? "and again" : why, instead);
    return false;
}

/* Grows box by px on every side, and by a share of its own, as far as the film reaches. */
static cx_box grown(cx_box b, int px, double margin, int width, int height)
{
    const int dx = px + (int)lrint(margin * b.width), dy = px + (int)lrint(margin * b.height);
    const int x0 = b.x - dx > 0 ? b.x - dx : 0, y0 = b.y - dy > 0 ? b.y - dy : 0;
    const int x1 = b.x + b.width + dx < width ? b.x + b.width + dx : width, y1 = b.y + b.height + dy < height ? b.y + b.height + dy : height;
    return (cx_box){ x0, y0, x1 - x0, y1 - y0 };
}

/* In place: rows move up and together. */
static void crop(cx_work *w, cx_box b)
{
    for (int y = 0; y < b.height; y++) {
        const size_t from = (size_t)(y + b.y) * (size_t)w->width + (size_t)b.x, to = (size_t)y * (size_t)b.width;
        memmove(w->grey + to, w->grey + from, (size_t)b.width * sizeof *w->grey);
        memmove(w->mask + to, w->mask + from, (size_t)b.width);
    }
    w->x += w->step_x * b.x;
    w->y += w->step_y * b.y;
    w->width = b.width;
    w->height = b.height;
}

/* The box of grown lungs is the box of the lungs, grown. */
cx_status cx_stage_roi(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    (void)err;
    cx_box box;
    if (has_lungs(w, s->value[ROI_MIN_AREA], "the whole film is shown") && cx_mask_box(w->mask, w->width, w->height, &box) > 0)
        crop(w, grown(box, growth_px(w, s->value[ROI_DILATE]), s->value[ROI_MARGIN], w->width, w->height));
    return CX_OK;
}

cx_status cx_stage_mask_out(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err)
{
    (void)p;
    if (!has_lungs(w, s->value[MASK_OUT_MIN_AREA], "nothing is blacked out"))
        return CX_OK;
    uint8_t *mask = cx_alloc(px_of(w), 1);
    if (!mask)
        return cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", w->width, w->height);
    memcpy(mask, w->mask, px_of(w));
    cx_status status = cx_mask_dilate(mask, w->width, w->height, growth_px(w, s->value[MASK_OUT_DILATE]), err);
    for (size_t i = 0; status == CX_OK && i < px_of(w); i++)
        w->grey[i] = mask[i] ? w->grey[i] : 0;
    free(mask);
    return status;
}
