/* pipeline.h - the inside of a cx_pipeline: the table of stages, and a film on its way through them. Private to src/data. */
#ifndef CX_DATA_PIPELINE_H
#define CX_DATA_PIPELINE_H
#include "pixels.h"

typedef enum { CX_STAGE_INT, CX_STAGE_REAL, CX_STAGE_BOOL, CX_STAGE_CHOICE, CX_STAGE_FILE, CX_STAGE_PLANES } cx_stage_value;
typedef struct {
    const char *name;
    cx_stage_value kind;
    const char *def;           /* NULL: must be said */
    const char *choices;       /* CHOICE: "a|b"; PLANES: what a plane may be */
    const char *doc;
    double lo, hi;             /* INT, REAL */
} cx_stage_param;

enum { CX_STAGE_PARAMS = 4, CX_PLANES = 3 };
enum { PLANE_PLAIN, PLANE_CLAHE, PLANE_BEASF };       /* in the order of the choices of channels' planes */

struct cx_stage_kind;
typedef struct {
    const struct cx_stage_kind *kind;
    double value[CX_STAGE_PARAMS];       /* INT, REAL, BOOL; CHOICE: which, from 0; PLANES: how many */
    int plane[CX_PLANES];
    char *file;                /* of the one FILE; owned */
    char *shown;               /* name and every value; owned */
    cx_beasf beasf;            /* where the stage has a gamma */
    int64_t reference[CX_GREYS];         /* match_histogram, once open */
} cx_stage;

/* What a cleaned mask is of its film: pixels, and the two sides of its box, as shares; how many parts it has, at most 2. All 0 where it is empty. */
typedef struct { double share, across, down; int parts; } cx_found;

/* A film between two stages. */
typedef struct {
    int width, height;
    float *grey;               /* [height, width], 0 .. 255; whole numbers once a stage has looked at it */
    uint8_t *mask;             /* [height, width] 0 or 1, cleaned; NULL where no lungs are wanted */
    cx_found found;
    int planes; uint8_t *plane;          /* planes > 0: [planes, height, width], and grey is no more looked at */
    double x, y, step_x, step_y;         /* where the left upper corner lies on the film, and how much of it a pixel covers */
    char note[160];
} cx_work;

typedef cx_status (*cx_stage_fn)(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
typedef struct cx_stage_kind {
    const char *name, *doc;
    const cx_stage_param *params; int n_params;
    cx_stage_fn apply;
    bool lungs;                /* looks at the mask */
} cx_stage_kind;

struct cx_pipeline {
    cx_stage *stage; int n;
    int side, planes;
    bool wants_lungs, opened;
    const cx_lungs *lungs;
    cx_buf identity;
};

const cx_stage_kind *cx_stage_kinds(int *n);
/* The text `name key=value ...` into *s. CX_E_CONFIG says what is wrong, without the stage's text; what s owns is freed by cx_stage_free in any case. */
cx_status cx_stage_parse(const char *text, cx_stage *s, cx_error *err);
void cx_stage_free(cx_stage *s);

cx_status cx_stage_roi(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_mask_out(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_equalize_local(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_clahe(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_beasf(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_match(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_resize(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);
cx_status cx_stage_channels(const cx_pipeline *p, const cx_stage *s, cx_work *w, cx_error *err);

/* Positions of values in the table of stages.c. */
enum { ROI_MARGIN, ROI_DILATE, ROI_MIN_AREA };
enum { MASK_OUT_DILATE, MASK_OUT_MIN_AREA };
enum { LOCAL_RADIUS };
enum { CLAHE_CLIP, CLAHE_TILES };
enum { BEASF_GAMMA };
enum { RESIZE_SIDE, RESIZE_FILTER, RESIZE_KEEP_ASPECT };
enum { CHANNELS_PLANES, CHANNELS_GAMMA, CHANNELS_CLIP, CHANNELS_TILES };
#endif
