/* lungs.c - a pair of lungs, or not. Depends on lungs.h. */
#include <stdio.h>
#include <string.h>
#include "lungs.h"

cx_status cx_lung_measure(uint8_t *mask, int width, int height, bool clean, cx_lung_shape *out, cx_error *err)
{
    int64_t part[LUNGS] = { 0 };
    out->parts = cx_mask_parts(mask, width, height, part, LUNGS);
    if (clean)
        TRY(cx_mask_clean(mask, width, height, LUNGS, CX_LUNG_LEAST, err));
    const int kept = clean ? cx_mask_parts(mask, width, height, part, LUNGS) : out->parts;
    if (out->parts < 0 || kept < 0)
        return cx_fail(err, CX_E_MEMORY, "no memory for the parts of a mask of %d x %d px", width, height);
    out->area = (double)cx_mask_box(mask, width, height, &out->box) / ((double)width * height);
    out->symmetry = kept >= LUNGS ? (double)part[1] / (double)part[0] : 0;
    return CX_OK;
}

void cx_lung_flags(const cx_lung_shape *s, char out[64])
{
    const bool wrong = s->symmetry == 0;
    snprintf(out, 64, "%s%s%s", s->area < LUNG_AREA_LO ? "small|" : s->area > LUNG_AREA_HI ? "large|" : "", wrong ? "not_two|" : "",
             !wrong && s->symmetry < LUNG_SYMMETRY_LO ? "uneven|" : "");
    if (*out)
        out[strlen(out) - 1] = 0;
}
