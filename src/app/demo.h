/* demo.h - the demonstration of shortcut learning, shared by its files: two cohorts of the same films, two networks, what they score and where they look. */
#ifndef CX_APP_DEMO_H
#define CX_APP_DEMO_H
#include "cxnet/explain.h"
#include "cxnet/train.h"

/* Version of a film or of a training cohort. The anatomy and the disease are the same; only markers and exposures differ. */
typedef enum { DEMO_SHORTCUT, DEMO_BROKEN, DEMO_VERSIONS } demo_version;
/* Places where heat can fall. They share the film without overlap. */
typedef enum { DEMO_LUNGS, DEMO_MARKER, DEMO_ELSEWHERE, DEMO_PLACES } demo_place;

enum { DEMO_KINDS = CX_HIRESCAM + 1 };

typedef struct { int patients, side, epochs, shown; } demo_size;

typedef struct { double *p; cx_binary_metrics m; } demo_score;              /* p [n_test]: probability of opacities */
typedef struct {
    char dir[512];                        /* of the run */
    demo_score score[DEMO_VERSIONS];      /* on the test films as they are in that cohort */
    float *map[DEMO_KINDS]; int width, height;        /* of the test films of the shortcut cohort, [n_test, height, width], by cx_cam_kind */
    double heat[DEMO_KINDS][DEMO_PLACES]; /* mean share over the ill test films that carry a marker */
    cx_csv history;                       /* metrics.csv of the run */
} demo_net;

typedef struct {
    const char *out;
    const char *device;                   /* as cx_backend_open has it */
    uint64_t seed;
    int threads;
    demo_size size;
    char *dir[DEMO_VERSIONS];             /* of the cohorts */
    cx_synth cohort[DEMO_VERSIONS];
    demo_net net[DEMO_VERSIONS];          /* by the cohort it was trained on */
    int *test, n_test;                    /* films of the test side, the same in both cohorts */
    float *truth; int *group;             /* [n_test] */
    double area[DEMO_PLACES];             /* mean share of the film's area, over the same films as heat */
    int n_heat;                           /* those films */
    double seconds;
} demo;

/* Draws both cohorts and writes them to <out>/cohort-shortcut and <out>/cohort-broken. */
cx_status demo_make_cohorts(demo *d, cx_error *err);
/* Trains one network as `cxnet train` would, in <out>/runs. */
cx_status demo_train(demo *d, demo_version v, cx_error *err);
/* Finds the test side in the runs' predictions.csv, scores both networks on both versions of it, and measures their heat. */
cx_status demo_measure(demo *d, cx_error *err);
/* What the figures teach, in two plain sentences; derived from them, so it also says when they teach something else. */
void demo_lesson(const demo *d, cx_buf *out);
/* Writes <out>/report.html. */
cx_status demo_report(const demo *d, cx_error *err);
/* True for a film whose heat is measured: ill, and with a marker in the shortcut cohort. i counts test films. */
bool demo_has_heat(const demo *d, int i);
#endif
