/* explain.h - where a network looked. Depends on model.h, image.h. */
#ifndef CXNET_EXPLAIN_H
#define CXNET_EXPLAIN_H
#include "cxnet/image.h"
#include "cxnet/model.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cx_explainer cx_explainer;
/* Prepares Grad-CAM on value `layer` (-1: model->features) in eval mode, for `batch` films at a time. The store must be of model->graph and outlive
 * the explainer. */
cx_status cx_explainer_new(const cx_model *model, cx_store *store, int layer, int batch, cx_explainer **out, cx_error *err);
void cx_explainer_free(cx_explainer *e);
typedef enum {
    CX_GRADCAM,           /* Selvaraju et al. 2017: one weight a channel, the spatial mean of its gradient. Right where the gradient is the same
                           * everywhere (global pooling) */
    CX_HIRESCAM           /* Draelos & Carin 2020 (arXiv:2011.08891), eq. 4: gradient * activation place by place. Also right where places have weights
                           * of their own (flatten and dense layers, as in the base CNN) and at early layers; equal before global average pooling */
} cx_cam_kind;
/* The kind of the maps from now on; CX_GRADCAM at first. */
void cx_explainer_kind(cx_explainer *e, cx_cam_kind kind);
int cx_explainer_width(const cx_explainer *e);            /* of the raw map */
int cx_explainer_height(const cx_explainer *e);
/* Maps of the explainer's kind. Grad-CAM (Selvaraju et al. 2017, eq. 1-2): weights = spatial mean of d logit / d map, map = ReLU(sum weights *
 * activation). The gradient is that of the LOGIT, never of the sigmoid.
 *   x       [n, side, side, channels] network inputs, n <= batch
 *   cls     [n] logit index; sign [n] +1, or -1 to explain the negative class of a single logit (may be NULL: all +1)
 *   map     [n, height, width] raw maps, not scaled: magnitudes are comparable between films
 *   logits  [n, outputs], may be NULL */
cx_status cx_gradcam(cx_explainer *e, const float *x, int n, const int *cls, const float *sign, float *map, float *logits, cx_error *err);
/* The same in two halves, for a caller who chooses the class by the logits: maps are of the films of the last cx_explainer_logits, with no other plan of the
 * store run in between. */
cx_status cx_explainer_logits(cx_explainer *e, const float *x, int n, float *logits, cx_error *err);
cx_status cx_explainer_maps(cx_explainer *e, const int *cls, const float *sign, float *map, cx_error *err);

/* A mask [height, width] of 0/non-0, stretched over a film; pictures draw its outline. Borrowed. */
typedef struct { const uint8_t *px; int width, height; } cx_outline;
/* One overlay picture: film left, film with heat right, a bar with the map's numbers, the caption below (broken at '\n' and where too long; ASCII).
 * place: the part of the film that the map is of (cx_picture in data.h); NULL: all. scale: map value that becomes full heat; 0 = the map's own maximum.
 * organ: NULL, or what is outlined in both panels. */
cx_status cx_overlay_png(const cx_film *film, const cx_place *place, const cx_outline *organ, const float *map, int mw, int mh, double scale,
                         const char *caption, cx_buf *png, cx_error *err);
/* One contact sheet: the film, then the film with heat for each of n maps [n, mh, mw], with a line (ASCII) and the largest value below, and behind that what
 * follows a '\n' in the line. place, organ and scale as above. */
cx_status cx_sheet_png(const cx_film *film, const cx_place *place, const cx_outline *organ, const float *maps, int n, int mw, int mh, double scale,
                       const char *const *captions, cx_buf *png, cx_error *err);

/* Share of a map's heat (resized bilinearly to side x side, negative values none) inside a mask of 0/non-0; NaN when the map has no heat (or memory is out). */
double cx_heat_share(const float *map, int mw, int mh, const uint8_t *mask, int side);

#ifdef __cplusplus
}
#endif
#endif
