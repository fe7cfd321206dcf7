/* hot.h - private to src/explain: a film with heat on it, as overlays and contact sheets draw it. Depends on explain.h. */
#ifndef CX_EXPLAIN_HOT_H
#define CX_EXPLAIN_HOT_H
#include "cxnet/explain.h"

/* Draws the film into the rectangle x, y, w, h of c, with heat (0 .. 1) [mh, mw] on the part of it that place says, which may reach beyond the film. */
cx_status cx_hot_film(cx_canvas *c, const cx_film *film, const cx_place *place, const float *heat, int mw, int mh, int x, int y, int w, int h, cx_error *err);
/* Draws the outline of an organ (NULL: none) over a film that lies in the rectangle. */
void cx_hot_outline(cx_canvas *c, const cx_outline *organ, int x, int y, int w, int h);
#endif
