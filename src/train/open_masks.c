/* open_masks.c - the masks that a segmentation learns from. Depends on run.h. */
#include <stdlib.h>
#include "run.h"

/* A mask of other proportions than its film is one of another film, and would be learned from without a word. */
static cx_status check_masks(const cx_run *r, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    int seen = 0, wrong = 0, first = 0, w[2], height[2];       /* of film and mask */
    for (int i = 0; i < h->n; i++) {
        if (!cx_cache_ok(r->cache, i) || !cx_cache_ok(r->masks, i))
            continue;
        seen++;
        cx_cache_film_size(r->cache, i, &w[0], &height[0]);
        cx_cache_film_size(r->masks, i, &w[1], &height[1]);
        if (!cx_mask_fits(w[1], height[1], w[0], height[0]) && wrong++ == 0)
            first = i;
    }
    if (!wrong)
        return CX_OK;
    const cx_sample *s = &h->manifest.samples[h->sample[first]];
    cx_cache_film_size(r->cache, first, &w[0], &height[0]);
    cx_cache_film_size(r->masks, first, &w[1], &height[1]);
    return cx_fail(err, CX_E_DATA, "%s:%d: %s, %d x %d px, is no mask of %s, %d x %d px: their proportions differ; %d of %d masks are such: name the right "
                   "ones", h->manifest.path, s->line, s->mask, w[1], height[1], s->path, w[0], height[0], wrong, seen);
}

/* As the films of a manifest of their own. */
cx_status cx_run_open_masks(cx_run *r, const char *dir, cx_buf *bad, cx_error *err)
{
    const cx_cohort *h = &r->cohort;
    cx_manifest m = h->manifest;
    if (h->task != TASK_SEGMENTATION)
        return CX_OK;
    if (!(m.samples = cx_alloc((size_t)m.n, sizeof *m.samples)))
        return cx_fail(err, CX_E_MEMORY, "out of memory for %d masks", m.n);
    for (int i = 0; i < m.n; i++) {
        m.samples[i] = h->manifest.samples[i];
        m.samples[i].path = m.samples[i].mask;
    }
    cx_pipeline *geometry;
    cx_status s = cx_pipeline_geometry(r->pipeline, &geometry, err);
    if (s == CX_OK) {
        s = cx_cache_open(&m, h->sample, h->n, geometry, dir, r->config->data.max_bad, bad, NULL, &r->masks, err);
        cx_pipeline_free(geometry);
    }
    free(m.samples);
    TRY(cx_prefix(err, s, "masks"));
    return check_masks(r, err);
}
