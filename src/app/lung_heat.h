/* lung_heat.h - how much of a network's heat lies in the lungs that another network finds: of one map, and of many by class. Depends on train.h, lungs.h. */
#ifndef CX_APP_LUNG_HEAT_H
#define CX_APP_LUNG_HEAT_H
#include "cxnet/explain.h"
#include "cxnet/train.h"
#include "lungs.h"

typedef struct { cx_net net; cx_segmenter *g; } cx_lung_source;
/* lungs: a run or weight file of a network that marks pixels; on the CPU. CX_E_USAGE: it names classes. Free with cx_lung_source_close,
 * also after a failure. */
cx_status cx_lung_source_open(const char *lungs, int threads, cx_lung_source *out, cx_error *err);
void cx_lung_source_close(cx_lung_source *s);

enum { LUNG_MASK_SIDE = 256 };
typedef struct {
    uint8_t *mask;            /* [LUNG_MASK_SIDE, LUNG_MASK_SIDE], stretched over the film, cleaned; owned */
    char doubt[64];           /* cx_lung_flags: no share of it means anything unless it is "" */
    uint8_t *seen;            /* the same of the part of the film that the network saw; owned */
    double share;             /* of lungs in that part, 0 .. 1: what heat without any preference would have inside */
} cx_film_lungs;
/* place: the part of the film that maps are of. Free with cx_film_lungs_free, also after a failure. */
cx_status cx_film_lungs_find(cx_lung_source *s, const cx_film *film, const cx_place *place, cx_film_lungs *out, cx_error *err);
void cx_film_lungs_free(cx_film_lungs *l);

/* One map: label: what the film is ("" unknown); heat: share inside the lungs, NaN where the map has no heat; share: of cx_film_lungs. */
typedef struct { const char *label, *explained; int group; bool doubtful; double heat, share; } cx_heat_row;
/* Of all maps of one label and class: means over films with their 95 % intervals (cx_metrics_mean), of those with heat and a mask that is not doubted. */
typedef struct { const char *label, *explained; int films, doubtful, cold; cx_estimate heat, share; } cx_heat_mean;
/* In the order in which they first occur. *out: *n of them, to be freed; texts are those of the rows. CX_E_MEMORY. */
cx_status cx_heat_means(const cx_heat_row *rows, int n_rows, int draws, uint64_t seed, cx_heat_mean **out, int *n, cx_error *err);
#endif
