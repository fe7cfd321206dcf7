/* preprocess.c - what an experiment does to a film before and behind the cache. Depends on train.h. */
#include "cxnet/train.h"

cx_status cx_config_input(const cx_config *c, const cx_lungs *lungs, cx_pipeline **pipeline, cx_normalise *norm, cx_error *err)
{
    TRY(cx_pipeline_new(c->preprocess.stages.item, (int)c->preprocess.stages.n, c->data.side, c->data.channels, pipeline, err));
    cx_status s = cx_normalise_named(c->data.normalise, c->data.channels, cx_pipeline_planes(*pipeline), norm, err);
    if (s == CX_OK && cx_pipeline_wants_lungs(*pipeline) && !lungs)
        s = cx_fail(err, CX_E_UNSUPPORTED, "preprocess.stages: roi and mask_out want the lungs of each film, and there is no network here that finds them");
    if (s == CX_OK)
        s = cx_pipeline_open(*pipeline, lungs, err);
    if (s != CX_OK) {
        cx_pipeline_free(*pipeline);
        *pipeline = NULL;
    }
    return s;
}
