/* data.h - manifests, audits and splits of cohorts, the decoded cache, and the loader that makes batches. Depends on image.h, film.h. */
#ifndef CXNET_DATA_H
#define CXNET_DATA_H
#include <signal.h>
#include "cxnet/image.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- manifest ------------------------------------------------------------------------------------------------------ */

/* CX_EXTERNAL: films of sources that never train, looked at once at the end and reported apart. */
typedef enum { CX_TRAIN, CX_VAL, CX_TEST, CX_EXTERNAL, CX_NO_SPLIT } cx_split;
const char *cx_split_name(cx_split s);      /* "train" "val" "test" "external" "none" */

/* Strings point into the manifest; empty when unknown. */
typedef struct {
    const char *path;         /* as written in the file */
    const char *mask;         /* picture of what belongs to the organ, white on black, of the film's proportions */
    const char *labels;       /* "COVID-19|Pneumonia": labels joined by '|', order without meaning */
    const char *patient_id, *sex, *view, *source;
    double age;               /* years, NaN when unknown. "058Y" and "6M" are understood as DICOM writes them */
    cx_split split;           /* from a `split` column, else CX_NO_SPLIT */
    const char *group;        /* from a `group` column, else "" */
    int line;                 /* of the file */
} cx_sample;

typedef struct {
    cx_sample *samples; int n;
    char *path, *dir;         /* films lie relative to dir, the folder of the manifest */
    cx_csv csv;               /* all columns, row i + 1 is sample i */
    char sha256[65];          /* of the file */
    const volatile sig_atomic_t *stop;      /* NULL, or set by its owner: once it is not 0, a pass over the films ends as CX_E_INTERRUPTED */
} cx_manifest;

/* Needs a column `path` (or `image`, where there is none of that name); mask, labels, patient_id, sex, age, view, source, split, group are known, others are
 * kept in csv. CX_E_DATA with file:line for a malformed row, an empty path, a path listed twice, an age that is no number, an unknown split name. */
cx_status cx_manifest_load(const char *path, cx_manifest *out, cx_error *err);
void cx_manifest_free(cx_manifest *m);
char *cx_sample_path(const cx_manifest *m, int i);        /* full path, owned by the caller */
bool cx_has_label(const char *labels, const char *label); /* exact token of a '|' list */

/* ---- audit: decode everything once ----------------------------------------------------------------------------------- */

/* Two independent perceptual signatures of a film, both after trimming borders that are flat (so that padding does not hide a copy):
 * dhash: 64 signs of horizontal differences of a 9x8 reduction (Krawetz 2013); phash: 64 signs of low DCT coefficients of a 32x32 reduction
 * (Zauner 2010). All chest films look alike to 64 bits, so the two only nominate: a pair is a near-duplicate when both Hamming distances are small and the
 * fine structure of the films correlates too (constants and their measured basis in src/data/audit_pairs.c). */
typedef struct {
    uint64_t dhash, phash;
    char sha256[65];          /* of size and grey values: the same picture in another container is an exact copy */
    bool flat;                /* too little contrast to compare */
} cx_signature;

typedef struct {
    bool ok;                  /* decoded */
    char problem[256];        /* why not, when !ok */
    int width, height, bits, channels; cx_file_type type; bool wrong_extension, coloured, tiny, odd_shape;
    cx_signature sig;
} cx_film_report;
/* Sample indices a < b; Hamming distances; likeness: correlation of fine structure, 1 for exact copies. n copies of one picture are n - 1 pairs with
 * the first. */
typedef struct { int a, b; bool exact; int dhash_bits, phash_bits; float likeness; } cx_pair;
typedef struct {
    cx_film_report *films; int n;
    cx_pair *pairs; int n_pairs; size_t pairs_cap;
    int *cluster;             /* [n] smallest sample index of the duplicate cluster (itself when alone) */
} cx_audit;
/* Decodes all films on all cores; a progress line on a terminal. Bad films are reported, never fatal. Results do not depend on threads. */
cx_status cx_audit_run(const cx_manifest *m, cx_audit *out, cx_error *err);
void cx_audit_free(cx_audit *a);
void cx_audit_print(const cx_manifest *m, const cx_audit *a, FILE *f);                 /* the page of `cxnet data check` */
cx_status cx_audit_json(const cx_manifest *m, const cx_audit *a, cx_buf *out, cx_error *err);
/* Writes pairs side by side (at most max_pairs, the nearest first) as one PNG contact sheet. */
cx_status cx_audit_sheet(const cx_manifest *m, const cx_audit *a, int max_pairs, const char *png_path, cx_error *err);

/* Cramer's V of a label, present or absent, against n properties of a film such as its source (Cramer 1946): sqrt(chi2 / films), since the smaller side of the
 * table has two cells. with [n]: films with the label; all [n]: films. 0 where label or property is the same everywhere. From CX_CONFOUNDED_V on, the page of
 * `cxnet data check` and that of a run warn: Cohen (1988, sec. 7.2) calls .3 a medium effect, .5 a large one. */
#define CX_CONFOUNDED_V 0.3
double cx_cramers_v(const int *with, const int *all, int n);

/* ---- split ------------------------------------------------------------------------------------------------------------ */

typedef struct { uint64_t seed; double val, test; } cx_split_opts;                     /* shares of groups, val + test < 1 */
/* Assigns every sample a split and a group = patient (where known) joined with the manifest's `group` and its duplicate cluster (audit may be NULL:
 * without duplicates; a sample without patient is its own group). A `split` column is not looked at. Group-disjoint. Stable: a group's side is a hash
 * of its name and the seed, so adding films moves no film whose group did not change. Stratified by (labels, source): of n groups a share p is met
 * within 4 sqrt(p (1 - p) / n) + 1/n, and of 10 groups or more none of the sides stays empty (the one group that fills an empty side is the only one
 * that additions can move). Why not closer: src/data/split.c. split [n], group [n] (index of a representative sample) are the caller's. */
cx_status cx_split_make(const cx_manifest *m, const cx_audit *audit, const cx_split_opts *opts, cx_split *split, int *group, cx_error *err);
/* A split leaks when a patient, group or duplicate cluster lies on two sides. Returns the number of leaking groups (-1 when out of memory;
 * text->failed is set then) and describes up to a few in `text`, one a line. */
int cx_split_leaks(const cx_manifest *m, const cx_audit *audit, const cx_split *split, cx_buf *text);

/* ---- preprocessing: a decoded film to the bytes that a network learns from ----------------------------------------------------- */

/* An ordered list of stages, each a text `name key=value ...`; what there is, with ranges and defaults, is one table (src/data/stages.c), which cx_stages_doc
 * prints. Every film takes the same way everywhere: cache, evaluation, predict, explain. */
typedef struct cx_pipeline cx_pipeline;

/* Who finds the lungs for roi and mask_out: a segmentation network, which rooms above this one open. */
typedef struct {
    /* films[n] -> masks[i] [films[i]->height, films[i]->width], 0 outside, else inside, as the network gives them: clean-up is done here. Called by one thread
     * at a time, so it may use all cores. An error ends the pass over the films; a film without lungs is no error, its mask is 0. */
    cx_status (*masks)(void *self, const cx_film *const *films, int n, uint8_t *const *masks, cx_error *err);
    void *self;
    const char *identity;      /* all that the masks depend on: SHA-256 of the weights, size and preprocessing of the network's input */
} cx_lungs;

/* Reads the list; side and channels are those of the network's input (data.side, data.channels). Looks at no file. CX_E_CONFIG, "item 2, \"clahe tiles=0\":
 * tiles: want ...", for an unknown stage or key, a value out of range, an order that has no meaning. */
cx_status cx_pipeline_new(char *const *stages, int n, int side, int channels, cx_pipeline **out, cx_error *err);
void cx_pipeline_free(cx_pipeline *p);
bool cx_pipeline_wants_lungs(const cx_pipeline *p);
/* What it looks at beside the film, static text for a message: "a network that finds lungs", "a reference film"; NULL: nothing. */
const char *cx_pipeline_outside(const cx_pipeline *p);
/* Before the first film: binds the lungs (borrowed; NULL where none are wanted) and reads reference films. CX_E_USAGE: lungs are wanted; errors of files. */
cx_status cx_pipeline_open(cx_pipeline *p, const cx_lungs *lungs, cx_error *err);
/* A pipeline that does to a mask what p does to the film's geometry: its resizes alone, open. CX_E_CONFIG where p crops by roi. */
cx_status cx_pipeline_geometry(const cx_pipeline *p, cx_pipeline **out, cx_error *err);
int cx_pipeline_side(const cx_pipeline *p);
int cx_pipeline_planes(const cx_pipeline *p);              /* 1, or as many as channels */
int cx_pipeline_stages(const cx_pipeline *p);
/* All that the bytes depend on, of an open pipeline: every stage with every value, SHA-256 of references, identity of the lungs. Owned by p. */
const char *cx_pipeline_identity(const cx_pipeline *p);

/* A film after some of the stages. */
typedef struct {
    int width, height, planes;
    uint8_t *px;               /* [planes, height, width]; owned */
    cx_place place;            /* what it shows of the film; beyond the film it is black (keep_aspect) */
    char note[160];            /* what had to be left undone, "" where nothing was: roi found no lungs and the whole film is shown */
} cx_picture;
/* One mask for each film, allocated, by the lungs of p; NULL where p wants none. After a failure nothing is allocated. One thread at a time. */
cx_status cx_pipeline_masks(const cx_pipeline *p, const cx_film *const *films, int n, uint8_t **masks, cx_error *err);
/* The first `stages` of the list on a film and its mask (NULL where none is wanted). Threads may share p. CX_E_MEMORY; CX_E_CONFIG, CX_E_SHAPE: a stage cannot
 * be applied to this film (more CLAHE tiles than pixels). Free *out with cx_picture_free; it is empty after a failure. */
cx_status cx_pipeline_apply(const cx_pipeline *p, const cx_film *f, const uint8_t *mask, int stages, cx_picture *out, cx_error *err);
void cx_picture_free(cx_picture *p);
/* Stage k of the list as it was understood, with every value: "clahe clip=2 tiles=8". Points into p. */
const char *cx_pipeline_stage(const cx_pipeline *p, int k);
/* Appends the table of stages as text. */
void cx_stages_doc(cx_buf *out);

/* ---- cache: every film decoded once, at the working size ------------------------------------------------------------------ */

typedef struct cx_cache cx_cache;
/* Films of the manifest listed in index [n] as the open pipeline p makes them, in one file in `dir` that is named by the SHA-256 of what it depends on (paths,
 * sizes, times, p's identity, version of the decoder) and mapped. A film that fails is listed in *bad (owned text lines, may be empty), has no picture and
 * cx_cache_ok() == false; more than max_bad of them is CX_E_DATA. *notes: a line for each film with a note (cx_picture). bad and notes may be NULL. dir NULL:
 * in memory only. */
cx_status cx_cache_open(const cx_manifest *m, const int *index, int n, const cx_pipeline *p, const char *dir, int max_bad, cx_buf *bad, cx_buf *notes,
                        cx_cache **out, cx_error *err);
/* The same from pictures that are already here: px [n, planes, side, side]. Copies. */
cx_status cx_cache_from_memory(const uint8_t *px, int n, int side, int planes, cx_cache **out, cx_error *err);
void cx_cache_close(cx_cache *c);
int cx_cache_count(const cx_cache *c);
int cx_cache_side(const cx_cache *c);
int cx_cache_planes(const cx_cache *c);
const uint8_t *cx_cache_film(const cx_cache *c, int i);   /* [planes, side, side]. Films lie one behind the other: film 0 begins [count, planes, side, side] */
bool cx_cache_ok(const cx_cache *c, int i);
void cx_cache_film_size(const cx_cache *c, int i, int *width, int *height);      /* px of the film as it was decoded; 0 where it was not */
uint64_t cx_cache_sum(const cx_cache *c, int i);          /* checksum of its pixels: another film has another one, but for chance */

/* ---- augmentation and normalisation: a pure function of (film, seed, epoch, sample id) --------------------------------------- */

typedef struct {              /* each drawn uniformly from +- its range; 0 = off */
    double rotate_deg, shift, zoom;      /* shift: share of the side; zoom: factor 1 +- zoom */
    double brightness, contrast;         /* added share of white; factor about the film's mean */
    bool flip;                           /* horizontal, probability 1/2. Off by default: the heart is on the left */
} cx_augment;
extern const cx_normalise CX_NORM_IMAGENET;               /* mean .485 .456 .406, std .229 .224 .225 (torchvision) */
extern const cx_normalise CX_NORM_UNIT;                   /* grey / 255 in 3 channels (Keras rescale) */
/* By name: imagenet; unit; none: grey; signed: (grey - 127) / 127, the lung U-Net's; xrv: -1024 .. 1024, TorchXRayVision's. channels 1 or 3, planes as in
 * film.h; imagenet has 3. CX_E_CONFIG. */
cx_status cx_normalise_named(const char *name, int channels, int planes, cx_normalise *out, cx_error *err);
/* The draws of one film, ready to be applied here or on a device; its `film` is 0. a NULL: none, the film as it is. film [planes, side, side] is read only
 * where brightness or contrast is on: contrast turns about its mean grey. All planes get the same draw. */
cx_film_draw cx_draw_film(const uint8_t *film, int side, int planes, const cx_augment *a, uint64_t seed, int epoch, uint64_t sample_id);
/* n films to a network's input, as cx_backend.films does it on a device: out[i] is draw[i] applied to films[draw[i].film]. films [.., planes, side, side],
 * planes of norm, side 1 .. 8192; out [n, side, side, channels]. Never fails, allocates nothing; threads may share everything but out. */
void cx_apply_draws(const uint8_t *films, int side, const cx_film_draw *draw, int n, const cx_normalise *norm, float *out);
/* Both for one film: film [norm->planes, side, side] -> out [side, side, channels]. */
void cx_augment_film(const uint8_t *film, int side, const cx_augment *a, uint64_t seed, int epoch, uint64_t sample_id, const cx_normalise *norm, float *out);
/* One film to a network's input, as training saw it: all stages of p, then norm, whose planes are those of p. out [side, side, channels]; *seen (may be NULL):
 * what the network is shown, for cx_picture_free. The only path for explain and predict. One thread at a time where p wants lungs. */
cx_status cx_film_to_input(const cx_pipeline *p, const cx_film *f, const cx_normalise *norm, float *out, cx_picture *seen, cx_error *err);

/* ---- loader ------------------------------------------------------------------------------------------------------------- */

/* What a batch holds. CX_GIVE_INPUT is for a backend that runs on the host. Where the backend has `films` (cx_backend), the device makes the same numbers from
 * bytes: with CX_GIVE_DRAWS the cache lies there already (count * planes * side * side bytes from cx_cache_film(cache, 0), uploaded once), and a batch is 64
 * bytes a film; where it does not fit (free_bytes, alloc), CX_GIVE_FILMS sends the films of each batch along, a quarter of a float32 input of one channel.
 * Who takes such batches: cx_feed, cx_stepper. norm is then not looked at: it is theirs (cx_film_source in stepper.h). */
typedef enum {
    CX_GIVE_INPUT,                       /* x: films augmented and normalised, ready for the network */
    CX_GIVE_FILMS,                       /* px and draw: the batch's films as bytes; draw[i].film == i */
    CX_GIVE_DRAWS                        /* draw only: draw[i].film is the film's index in the cache */
} cx_give;

typedef struct {
    const cx_cache *cache;
    const int *index; int n;             /* films of the cache that take part; copied */
    const float *targets; int n_targets; /* [cache count, n_targets]; borrowed. With masks they are not looked at */
    const cx_cache *masks;               /* NULL, or mask i of film i, of the same side: the targets are then maps, 1 where a mask, turned, shifted and zoomed
                                            as its film, has at least half of white, 0 elsewhere and outside. Borrowed */
    int batch;
    int part, parts;                     /* of every batch of n films, those from n * part / parts up to the next part's are delivered; parts 0: all */
    bool shuffle;                        /* order of epoch e: Philox(seed, stream "order", e) */
    const cx_augment *augment;           /* NULL: none; copied */
    cx_normalise norm;                   /* its planes are those of the cache */
    cx_give give;
    uint64_t seed;
    int workers;                         /* threads that prepare batches ahead; 0: the caller does it. Batches are the same for any number */
} cx_loader_opts;
/* Owned by the loader until the next call. */
typedef struct {
    int n;
    float *x;                            /* [n, side, side, channels]; NULL unless CX_GIVE_INPUT */
    float *t;                            /* [n, n_targets] */
    int *film;                           /* [n] cache indices */
    uint8_t *px;                         /* [n, planes, side, side]; NULL unless CX_GIVE_FILMS */
    cx_film_draw *draw;                  /* [n]; NULL with CX_GIVE_INPUT */
} cx_batch;
typedef struct cx_loader cx_loader;
cx_status cx_loader_new(const cx_loader_opts *o, cx_loader **out, cx_error *err);
void cx_loader_free(cx_loader *l);
int cx_loader_batches(const cx_loader *l);                /* per epoch; the last one may be smaller than batch */
/* Begins epoch `epoch` at batch `first` (0 = start): what a resumed run needs. */
cx_status cx_loader_start(cx_loader *l, int epoch, int first, cx_error *err);
/* The next batch of the epoch; b->n == 0 at its end (or where a last, smaller batch has nothing for this part). Allocates nothing. */
cx_status cx_loader_next(cx_loader *l, cx_batch *b, cx_error *err);

/* ---- a synthetic cohort: procedural chest films whose truth is known ------------------------------------------------------------ */

typedef struct {
    int patients, side;                  /* one to three films each */
    uint64_t seed;
    double marker_bias, exposure_bias;   /* 0: independent of the class; 1: every diseased film has the marker / the darker exposure, no healthy one has */
} cx_synth_opts;
typedef struct {
    int n, side;
    uint8_t *film, *lung, *marker;       /* [n, side, side]; masks 0 or 255 */
    int *label;                          /* [n] 1 = opacities present */
    int *patient, *source;               /* [n] */
} cx_synth;
/* Films with lungs, ribs, spine, heart, diaphragm, noise, varying pose and exposure; label 1 has ground-glass opacities inside the lungs (subtle
 * enough that a network prefers an easier cue if there is one). A pure function of the options. */
cx_status cx_synth_make(const cx_synth_opts *o, cx_synth *out, cx_error *err);
void cx_synth_free(cx_synth *s);
/* Writes films/NNNN.png, masks, and manifest.csv (columns of cx_manifest) into dir. */
cx_status cx_synth_write(const cx_synth *s, const char *dir, cx_error *err);

#ifdef __cplusplus
}
#endif
#endif
