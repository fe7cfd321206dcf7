/* pipeline.c - the list of preprocessing stages: read, bound to its lungs and references, applied. Depends on pipeline.h. */
#include <stdlib.h>
#include <string.h>
#include "pipeline.h"

/* ---- the list ------------------------------------------------------------------------------------------------------------ */

static bool is(const cx_stage *s, const char *name) { return !strcmp(s->kind->name, name); }

static cx_status item_fail(cx_error *err, const cx_pipeline *p, int k, const char *why)
{
    return cx_fail(err, CX_E_CONFIG, "item %d, \"%.80s\": %s", k + 1, p->stage[k].shown, why);
}

/* What may come where. */
static cx_status check_order(const cx_pipeline *p, int channels, cx_error *err)
{
    int last = -1, roi = -1;
    for (int k = 0; k < p->n; k++) {
        if (is(&p->stage[k], "resize"))
            last = k;
        if (is(&p->stage[k], "channels") && k < p->n - 1)
            return item_fail(err, p, k, "want it as the last stage: what follows would not know which channel is meant");
        if (is(&p->stage[k], "roi") && roi >= 0)
            return item_fail(err, p, k, "want one roi: there is one box around the lungs");
        roi = is(&p->stage[k], "roi") ? k : roi;
    }
    if (last < 0)
        return cx_fail(err, CX_E_CONFIG, "want a resize, which makes the network's input of %d px a side (data.side)", p->side);
    if (roi > last)
        return item_fail(err, p, roi, "want it before the last resize: a crop has another size for each film");
    const int side = (int)p->stage[last].value[RESIZE_SIDE];
    if (side && side != p->side)
        return cx_fail(err, CX_E_CONFIG, "item %d, \"%.80s\": the last resize gives the network's input; want data.side, %d, or no side, got %d", last + 1,
                       p->stage[last].shown, p->side, side);
    if (p->planes != 1 && p->planes != channels)
        return cx_fail(err, CX_E_CONFIG, "item %d, \"%.80s\": want 1 or data.channels, %d, planes, got %d", p->n, p->stage[p->n - 1].shown, channels,
                       p->planes);
    return CX_OK;
}

static cx_status read_list(cx_pipeline *p, char *const *stages, int n, cx_error *err)
{
    cx_error why = { 0 };
    if (!(p->stage = cx_alloc((size_t)n, sizeof *p->stage)))
        return cx_fail(err, CX_E_MEMORY, "no memory for %d preprocessing stages", n);
    for (; p->n < n; p->n++) {
        cx_stage *s = &p->stage[p->n];
        const cx_status status = cx_stage_parse(stages[p->n], s, &why);
        if (status != CX_OK) {
            cx_stage_free(s);
            return cx_fail(err, status, "item %d, \"%.80s\": %s", p->n + 1, stages[p->n], why.text);
        }
        p->wants_lungs |= s->kind->lungs;
        if (is(s, "channels"))
            p->planes = (int)s->value[CHANNELS_PLANES];
    }
    return CX_OK;
}

cx_status cx_pipeline_new(char *const *stages, int n, int side, int channels, cx_pipeline **out, cx_error *err)
{
    *out = NULL;
    if (side < 1 || side > CX_CACHE_SIDE_MAX)
        return cx_fail(err, CX_E_USAGE, "preprocessing: an input of %d px a side; wanted 1 to %d px", side, CX_CACHE_SIDE_MAX);
    cx_pipeline *p = cx_alloc(1, sizeof *p);
    if (!p)
        return cx_fail(err, CX_E_MEMORY, "no memory for %d preprocessing stages", n);
    p->side = side;
    p->planes = 1;
    cx_point point = cx_point_begin();
    cx_status s = read_list(p, stages, n, err);
    cx_point_end(point);
    if (s == CX_OK)
        s = check_order(p, channels, err);
    if (s != CX_OK)
        cx_pipeline_free(p);
    else
        *out = p;
    return s;
}

void cx_pipeline_free(cx_pipeline *p)
{
    if (!p)
        return;
    for (int k = 0; k < p->n; k++)
        cx_stage_free(&p->stage[k]);
    free(p->stage);
    cx_buf_free(&p->identity);
    free(p);
}

bool cx_pipeline_wants_lungs(const cx_pipeline *p) { return p->wants_lungs; }

const char *cx_pipeline_outside(const cx_pipeline *p)
{
    for (int k = 0; k < p->n; k++)
        if (p->stage[k].file)
            return "a reference film";
    return p->wants_lungs ? "a network that finds lungs" : NULL;
}

int cx_pipeline_side(const cx_pipeline *p) { return p->side; }
int cx_pipeline_planes(const cx_pipeline *p) { return p->planes; }
int cx_pipeline_stages(const cx_pipeline *p) { return p->n; }
const char *cx_pipeline_identity(const cx_pipeline *p) { return p->identity.data; }
const char *cx_pipeline_stage(const cx_pipeline *p, int k) { return p->stage[k].shown; }

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */

/* The reference of stage k passes the stages before it, as the films do that are matched to it. */
static cx_status read_reference(cx_pipeline *p, int k, cx_error *err)
{
    cx_stage *s = &p->stage[k];
    cx_film film = { 0 };
    cx_picture at = { 0 };
    uint8_t *mask = NULL;
    char sha[65];
    TRY(cx_prefix(err, cx_sha256_file(s->file, sha, err), "reference of match_histogram"));
    cx_status status = cx_prefix(err, cx_film_load(s->file, &film, err), "reference of match_histogram");
    if (status == CX_OK)
        status = cx_pipeline_masks(p, (const cx_film *const[]){ &film }, 1, &mask, err);
    if (status == CX_OK)
        status = cx_pipeline_apply(p, &film, mask, k, &at, err);
    if (status == CX_OK)
        cx_histogram(at.px, (size_t)at.width * (size_t)at.height, s->reference);
    cx_buf_printf(&p->identity, "reference of stage %d: %s\n", k + 1, sha);
    cx_picture_free(&at);
    cx_film_free(&film);
    free(mask);
    return status;
}

cx_status cx_pipeline_open(cx_pipeline *p, const cx_lungs *lungs, cx_error *err)
{
    if (p->wants_lungs && !lungs)
        return cx_fail(err, CX_E_USAGE, "preprocessing: its stages look at the lungs, and nobody finds them");
    p->lungs = p->wants_lungs ? lungs : NULL;
    for (int k = 0; k < p->n; k++)
        cx_buf_printf(&p->identity, "%s\n", p->stage[k].shown);
    cx_buf_printf(&p->identity, "side %d\n", p->side);
    if (p->lungs)
        cx_buf_printf(&p->identity, "lungs: %s\n", lungs->identity);
    p->opened = true;
    for (int k = 0; k < p->n; k++)
        if (is(&p->stage[k], "match_histogram"))
            TRY(read_reference(p, k, err));
    return p->identity.failed ? cx_fail(err, CX_E_MEMORY, "no memory for a pipeline") : CX_OK;
}

cx_status cx_pipeline_geometry(const cx_pipeline *p, cx_pipeline **out, cx_error *err)
{
    char **list = cx_alloc((size_t)p->n, sizeof *list);
    int n = 0;
    *out = NULL;
    cx_status s = list ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %d preprocessing stages", p->n);
    for (int k = 0; k < p->n && s == CX_OK; k++) {
        if (is(&p->stage[k], "roi"))
            s = item_fail(err, p, k, "a mask of the film cannot follow it into a crop");
        if (is(&p->stage[k], "resize"))
            list[n++] = p->stage[k].shown;
    }
    if (s == CX_OK)
        s = cx_pipeline_new(list, n, p->side, 1, out, err);
    if (s == CX_OK && (s = cx_pipeline_open(*out, NULL, err)) != CX_OK) {
        cx_pipeline_free(*out);
        *out = NULL;
    }
    free(list);
    return s;
}

/* ---- films ------------------------------------------------------------------------------------------------------------------ */

cx_status cx_pipeline_masks(const cx_pipeline *p, const cx_film *const *films, int n, uint8_t **masks, cx_error *err)
{
    cx_status s = CX_OK;
    for (int i = 0; i < n; i++)
        masks[i] = NULL;
    if (!p->lungs)
        return CX_OK;
    for (int i = 0; i < n && s == CX_OK; i++)
        if (!(masks[i] = cx_alloc((size_t)films[i]->width, (size_t)films[i]->height)))
            s = cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px", films[i]->width, films[i]->height);
    if (s == CX_OK)
        s = p->lungs->masks(p->lungs->self, films, n, masks, err);
    for (int i = 0; i < n && s != CX_OK; i++) {
        free(masks[i]);
        masks[i] = NULL;
    }
    return s;
}

static cx_status begin(const cx_film *f, const uint8_t *mask, cx_work *w, cx_error *err)
{
    const size_t n = (size_t)f->width * (size_t)f->height;
    const float scale = 255.0f / (float)f->max;
    *w = (cx_work){ .width = f->width, .height = f->height, .step_x = 1, .step_y = 1 };
    w->grey = cx_alloc_aligned(n, sizeof *w->grey);
    w->mask = mask ? cx_alloc_aligned(n, 1) : NULL;
    if (!w->grey || (mask && !w->mask))
        return cx_fail(err, CX_E_MEMORY, "no memory for a film of %d x %d px; use fewer threads", f->width, f->height);
    for (size_t i = 0; i < n; i++)
        w->grey[i] = (float)f->px[i] * scale;
    if (mask) {
        cx_box box;
        memcpy(w->mask, mask, n);
        TRY(cx_mask_clean(w->mask, f->width, f->height, 2, CX_LUNG_LEAST, err));
        w->found.share = (double)cx_mask_box(w->mask, f->width, f->height, &box) / (double)n;
        w->found.across = (double)box.width / f->width;
        w->found.down = (double)box.height / f->height;
        if ((w->found.parts = cx_mask_parts(w->mask, f->width, f->height, NULL, 0)) < 0)
            return cx_fail(err, CX_E_MEMORY, "no memory for a mask of %d x %d px; use fewer threads", f->width, f->height);
    }
    return CX_OK;
}

static cx_status finish(const cx_work *w, cx_picture *out, cx_error *err)
{
    const size_t n = (size_t)w->width * (size_t)w->height;
    *out = (cx_picture){ .width = w->width, .height = w->height, .planes = w->planes ? w->planes : 1,
                         .place = { w->x, w->y, w->step_x * w->width, w->step_y * w->height } };
    memcpy(out->note, w->note, sizeof out->note);
    if (!(out->px = cx_alloc_aligned((size_t)out->planes, n)))
        return cx_fail(err, CX_E_MEMORY, "no memory for a film of %d x %d px", w->width, w->height);
    if (w->planes)
        memcpy(out->px, w->plane, (size_t)w->planes * n);
    else
        cx_pixels_round(w->grey, n, out->px);
    return CX_OK;
}

cx_status cx_pipeline_apply(const cx_pipeline *p, const cx_film *f, const uint8_t *mask, int stages, cx_picture *out, cx_error *err)
{
    cx_work w;
    *out = (cx_picture){ 0 };
    if (!p->opened || (p->wants_lungs && !mask))
        return cx_fail(err, CX_E_USAGE, "preprocessing: the pipeline is not open, or a mask is missing");
    cx_status s = begin(f, mask, &w, err);
    for (int k = 0; k < stages && k < p->n && s == CX_OK; k++)
        s = cx_prefix(err, p->stage[k].kind->apply(p, &p->stage[k], &w, err), "preprocessing stage %d", k + 1);
    if (s == CX_OK)
        s = finish(&w, out, err);
    free(w.grey);
    free(w.mask);
    free(w.plane);
    return s;
}

void cx_picture_free(cx_picture *p)
{
    free(p->px);
    *p = (cx_picture){ 0 };
}

cx_status cx_film_to_input(const cx_pipeline *p, const cx_film *f, const cx_normalise *norm, float *out, cx_picture *seen, cx_error *err)
{
    uint8_t *mask = NULL;
    cx_picture at = { 0 };
    TRY(cx_pipeline_masks(p, &f, 1, &mask, err));
    cx_status s = cx_pipeline_apply(p, f, mask, p->n, &at, err);
    if (s == CX_OK)
        cx_augment_film(at.px, p->side, NULL, 0, 0, 0, norm, out);
    free(mask);
    if (seen)
        *seen = at;
    else
        cx_picture_free(&at);
    return s;
}
