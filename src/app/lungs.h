/* lungs.h - a mask that a network made, as lungs: what it measures, and when to doubt it. Depends on image.h. */
#ifndef CX_APP_LUNGS_H
#define CX_APP_LUNGS_H
#include "cxnet/image.h"

/* What the masks that people drew look like (954 films of Shenzhen, JSRT and v7-covid): always two parts; of the film 0.128 to 0.584 in all but 1 of 100 of
 * them, 0.084 to 0.615 at the extremes; the smaller lung at least 0.626 times the larger in 99 of 100, and 0.58 in all but a few with a lung gone. Beyond
 * that a mask is to be looked at. */
#define LUNG_AREA_LO 0.12
#define LUNG_AREA_HI 0.62
#define LUNG_SYMMETRY_LO 0.58
enum { LUNGS = 2 };

typedef struct {
    int parts;                /* before clean-up */
    cx_box box;               /* px */
    double area, symmetry;    /* share of the film; the smaller lung through the larger, 0 where there are not two */
} cx_lung_shape;

/* Cleans mask [height, width] where wanted (the two largest parts, without holes) and measures what is left. CX_E_MEMORY, CX_E_SHAPE. */
cx_status cx_lung_measure(uint8_t *mask, int width, int height, bool clean, cx_lung_shape *out, cx_error *err);
/* Why a mask is to be looked at, of small, large, not_two, uneven, separated by '|'; "" where nothing is odd. */
void cx_lung_flags(const cx_lung_shape *s, char out[64]);
#endif
