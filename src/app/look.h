/* look.h - a network that names classes, looking at films: what it answers, and where each answer comes from. Depends on train.h, explain.h. */
#ifndef CX_APP_LOOK_H
#define CX_APP_LOOK_H
#include "cxnet/explain.h"
#include "cxnet/train.h"

enum { LOOK_PARTS = 2 };
typedef struct {
    cx_net *net;                     /* borrowed */
    int batch, n;                    /* films at a time, at most; of the last cx_look_films */
    int w, h;                        /* of a map */
    cx_explainer *part[LOOK_PARTS];  /* one for each network that a film goes through */
    bool fresh[LOOK_PARTS];          /* the forward pass of these films is the part's last, and no map has used it up */
    float *logits, *one, *map;
    float *x;                        /* [batch, side, side, channels]: the films, to be filled before cx_look_films */
} cx_look;

/* layer: that of each part whose map is weighed; NULL: the last convolution. CX_E_USAGE as cx_explainer_new, or no such layer. Free with cx_look_free, also
 * after a failure. */
cx_status cx_look_new(cx_net *net, const char *layer, cx_cam_kind kind, int batch, cx_look *out, cx_error *err);
void cx_look_free(cx_look *l);
/* n of the films in l->x to probabilities p [n, classes of the net]. */
cx_status cx_look_films(cx_look *l, int n, double *p, cx_error *err);
/* Of the films of the last cx_look_films the maps [n, h, w] for class cls[i], from the part that decides on it. May be called again for other classes. */
cx_status cx_look_maps(cx_look *l, const int *cls, float *map, cx_error *err);
#endif
