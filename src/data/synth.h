/* synth.h - private to the synthetic cohort: what distinguishes one film, and the function that draws it. Depends on base. */
#ifndef CX_DATA_SYNTH_H
#define CX_DATA_SYNTH_H
#include "cxnet/base.h"

typedef struct {
    uint64_t seed;                 /* of the cohort */
    int patient, film;             /* film: index within the cohort */
    int source;                    /* 0, 1: two clinics, two looks */
    bool opacities, marker, dark;
} cx_synth_case;

/* Draws one film and its masks, [side, side] each. scratch: 4 * side * side floats. A pure function of c and side. */
void cx_synth_draw(const cx_synth_case *c, int side, float *scratch, uint8_t *film, uint8_t *lung, uint8_t *marker);
#endif
