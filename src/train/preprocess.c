/* preprocess.c - what an experiment does to a film before and behind the cache, and the network that finds lungs for it. Depends on run.h. */
#include <stdlib.h>
#include <string.h>
#include "run.h"

struct cx_lung_finder {
    cx_net net;
    cx_segmenter *segmenter;
    char sha[65];               /* of all that its masks depend on */
    cx_lungs lungs;
};

static cx_status find(void *self, const cx_film *const *films, int n, uint8_t *const *masks, cx_error *err)
{
    const cx_lung_finder *f = self;
    for (int i = 0; i < n; i++)
        TRY(cx_segmenter_mask(f->segmenter, films[i], masks[i], err));
    return CX_OK;
}

/* Looked at before its network is opened: that of another task could want lungs in its turn, even its own. */
static cx_status check_task(const char *run, cx_error *err)
{
    cx_config c = { 0 };
    if (!cx_is_dir(run))                /* a weight file, which wants no lungs; the segmenter will say whether it marks pixels */
        return CX_OK;
    char *path = cx_path_join(run, "config.resolved.yaml");
    cx_status s = path ? cx_config_load(path, NULL, 0, &c, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && cx_task_of(&c) != TASK_SEGMENTATION)
        s = cx_fail(err, CX_E_CONFIG, "a run of task %s finds no lungs; want one of task segmentation", c.data.task);
    cx_config_free(&c);
    free(path);
    return s;
}

static cx_status open_finder(const cx_config *c, cx_lung_finder *f, cx_error *err)
{
    char weights[65];
    cx_sha256 sha;
    TRY(check_task(c->preprocess.lungs, err));
    TRY(cx_net_open(c->preprocess.lungs, "cpu", c->run.threads, &f->net, err));
    cx_error why = { 0 };
    const cx_status s = cx_segmenter_new(&f->net, &f->segmenter, &why);
    if (s != CX_OK)
        return cx_fail(err, s == CX_E_USAGE ? CX_E_CONFIG : s, "%s", why.text);
    TRY(cx_weights_sha256(f->net.store, weights, err));
    cx_sha256_init(&sha);
    cx_sha256_update(&sha, weights, sizeof weights);
    cx_sha256_update(&sha, f->net.config.data.normalise, strlen(f->net.config.data.normalise) + 1);
    cx_sha256_update(&sha, cx_pipeline_identity(f->net.pipeline), strlen(cx_pipeline_identity(f->net.pipeline)));
    cx_sha256_hex(&sha, f->sha);
    f->lungs = (cx_lungs){ find, f, f->sha };
    return CX_OK;
}

void cx_lung_finder_close(cx_lung_finder *f)
{
    if (!f)
        return;
    cx_segmenter_free(f->segmenter);
    cx_net_close(&f->net);
    free(f);
}

static cx_status open_pipeline(const cx_config *c, cx_pipeline *p, cx_lung_finder **finder, cx_error *err)
{
    if (!cx_pipeline_wants_lungs(p))
        return cx_pipeline_open(p, NULL, err);
    if (!(*finder = cx_alloc(1, sizeof **finder)))
        return cx_fail(err, CX_E_MEMORY, "out of memory for the network of preprocess.lungs");
    TRY(cx_prefix(err, open_finder(c, *finder, err), "preprocess.lungs"));
    return cx_pipeline_open(p, &(*finder)->lungs, err);
}

cx_status cx_config_input(const cx_config *c, cx_pipeline **pipeline, cx_normalise *norm, cx_lung_finder **finder, cx_error *err)
{
    *finder = NULL;
    TRY(cx_pipeline_new(c->preprocess.stages.item, (int)c->preprocess.stages.n, c->data.side, c->data.channels, pipeline, err));
    cx_status s = cx_normalise_named(c->data.normalise, c->data.channels, cx_pipeline_planes(*pipeline), norm, err);
    if (s == CX_OK)
        s = open_pipeline(c, *pipeline, finder, err);
    if (s != CX_OK) {
        cx_pipeline_free(*pipeline);
        cx_lung_finder_close(*finder);
        *pipeline = NULL;
        *finder = NULL;
    }
    return s;
}
