/* train.h - experiments: configuration, metrics, training runs and the networks they leave. Depends on data.h, model.h, weights.h. */
#ifndef CXNET_TRAIN_H
#define CXNET_TRAIN_H
#include <signal.h>
#include "cxnet/comm.h"
#include "cxnet/data.h"
#include "cxnet/model.h"
#include "cxnet/weights.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- configuration ------------------------------------------------------------------------------------------------------- */

typedef struct { char **item; unsigned n; } cx_list;
typedef struct {
#define SECTION(name, doc) struct {
#define TEXT(key, def, doc) char *key;
#define INT(key, def, lo, hi, doc) int key;
#define REAL(key, def, lo, hi, doc) double key;
#define BOOL(key, def, doc) bool key;
#define CHOICE(key, def, choices, doc) char *key;
#define LIST(key, def, doc) cx_list key;
#define END(name) } name;
#include "cxnet/config.def"
#undef SECTION
#undef TEXT
#undef INT
#undef REAL
#undef BOOL
#undef CHOICE
#undef LIST
#undef END
} cx_config;

/* Reads a YAML experiment (path NULL, or an empty file: all defaults; UTF-8, at most 1 MiB), then applies n `section.key=value` settings (value is YAML:
 * numbers, [a, b], text; nothing after '=' is an empty text or list; the last setting of a key counts). An empty run.name becomes the file's name without
 * ".yaml". Unknown key, wrong type, out of range, doubled key, keys that contradict each other: CX_E_CONFIG "file:line: section.key: what was wanted, got
 * what" ("--set section.key=value: ..." for settings). CX_E_NOINPUT: no such file. The texts are malloc'ed: a caller may replace one (free the old). On
 * failure *out is empty. Free with cx_config_free. Does not depend on the locale. */
cx_status cx_config_load(const char *path, char *const *set, int n_set, cx_config *out, cx_error *err);
void cx_config_free(cx_config *c);
/* The resolved configuration as YAML that cx_config_load reads back to the same bits. */
void cx_config_yaml(const cx_config *c, cx_buf *out);
/* The documentation of every key: text table, or JSON Schema. */
void cx_config_schema(cx_buf *out, bool json);

/* The configuration that a weight file describes by its card, checked as an experiment is. CX_E_DATA: it says too little (and how to import it), or what does
 * not fit together. */
cx_status cx_config_of_card(const cx_weights_card *card, cx_config *out, cx_error *err);
/* The network that c describes, with this many logits; how many its task wants (of a segmentation: in each
 * pixel; of a hierarchy: of its first stage). */
int cx_config_outputs(const cx_config *c);
void cx_config_model(const cx_config *c, int outputs, cx_model_spec *spec);
/* The network that c trains: model.freeze applied, its loss behind it, the graph checked. loss, target, weights: values, as cx_model_loss. CX_E_CONFIG: a
 * pattern that freezes nothing, or what cx_model_new refuses. Free with cx_model_free, after an error too. */
cx_status cx_config_network(const cx_config *c, cx_model *out, int *loss, int *target, int *weights, cx_error *err);
/* The options of a plan that c decides: skip, lean, bf16, and the moments of its optimiser; the others are zero. */
cx_plan_opts cx_config_plan(const cx_config *c);

/* The network of preprocess.lungs: on the CPU, so that masks, and what is cropped by them, do not depend on run.device. */
typedef struct cx_lung_finder cx_lung_finder;
void cx_lung_finder_close(cx_lung_finder *f);             /* NULL is allowed */
/* The preprocessing that c describes, open, and the normalisation behind it. *finder: NULL where no stage wants lungs; the pipeline borrows it as long as films
 * pass, its identity stays. */
cx_status cx_config_input(const cx_config *c, cx_pipeline **pipeline, cx_normalise *norm, cx_lung_finder **finder, cx_error *err);

/* ---- metrics ---------------------------------------------------------------------------------------------------------------- */

/* One value with its 95 % interval (2.5 and 97.5 percentile of a bootstrap over groups, of the draws in which it is defined); NaN where undefined. AUROC
 * and AUPRC want both classes, sensitivity a positive, specificity a negative, F1 a positive in truth or prediction; the interval wants two groups. */
typedef struct { double value, lo, hi; } cx_estimate;

/* All on n films: y 0/1 (negative = unlabelled, left out), p score. As scikit-learn defines them: roc_auc_score (ties count half),
 * average_precision_score, brier_score_loss. A score that is NaN makes the result NaN. */
double cx_auroc(const float *y, const double *p, int n);
double cx_auprc(const float *y, const double *p, int n);
double cx_brier(const float *y, const double *p, int n);
double cx_ece(const float *y, const double *p, int n, int bins);       /* |mean p - mean y| over 1 to 1024 equal-width bins [k/bins, (k+1)/bins), weighted */
/* The threshold between two scores that maximises Youden's J = sensitivity + specificity - 1 (midpoint of the neighbouring scores; of equal ones the
 * highest); 0.5 where there is none (one class, one score). p >= threshold is positive. For validation data only. */
double cx_threshold_youden(const float *y, const double *p, int n);

typedef struct {
    cx_estimate accuracy, f1, sensitivity, specificity, auroc, auprc, brier, ece;
    double threshold;
    int64_t tn, fp, fn, tp;
} cx_binary_metrics;
/* p >= threshold is positive; ece has 15 bins. group [n]: patient or duplicate cluster, any numbers (NULL: every film its own); the bootstrap draws groups
 * of labelled films with replacement, Philox(seed). draws 0: no interval (lo = hi = NaN). Results do not depend on threads. CX_E_DATA names the film: a label
 * that is not 0, 1 or negative, a probability outside 0 .. 1. */
cx_status cx_metrics_binary(const float *y, const double *p, const int *group, int n, double threshold, int draws, uint64_t seed, cx_binary_metrics *out,
                            cx_error *err);

typedef struct {
    int classes;
    int64_t *confusion;            /* [classes, classes], row = truth */
    cx_estimate accuracy, macro_f1, macro_auroc;     /* one-vs-rest */
    cx_binary_metrics *per_class;  /* one against the rest at argmax (threshold NaN) */
} cx_multi_metrics;
/* y [n] class index (negative: unlabelled, left out), p [n, classes]; the prediction is the largest p, the first of equals. macro_f1: mean over the
 * classes that occur in truth or prediction (scikit-learn's default); macro_auroc: mean over all, NaN where a class is absent. group, draws, seed and errors
 * as above. Free with cx_multi_metrics_free. */
cx_status cx_metrics_multi(const int *y, const double *p, const int *group, int n, int classes, int draws, uint64_t seed, cx_multi_metrics *out, cx_error *err);
void cx_multi_metrics_free(cx_multi_metrics *m);

/* How well the mask `found` answers `truth`: dice = 2 |both| / (|truth| + |found|), iou = |both| / |either|, 1 where both are empty; boundary: the mean
 * distance, in px, from each pixel of either outline to the nearest of the other (average symmetric surface distance; an outline is the pixels of a mask with
 * one of four neighbours outside it), NaN where a mask is empty. truth, found [height, width]: 0, or anything else inside. CX_E_SHAPE, CX_E_MEMORY. */
enum { CX_MASK_SIDE = 16384 };
typedef struct { double dice, iou, boundary; int64_t truth, found; } cx_mask_score;      /* truth, found: px inside */
cx_status cx_mask_compare(const uint8_t *truth, const uint8_t *found, int width, int height, cx_mask_score *out, cx_error *err);
/* Mean of x [n] over films, those that are NaN left out, with its interval; group, draws, seed as above. CX_E_MEMORY. */
cx_status cx_metrics_mean(const double *x, const int *group, int n, int draws, uint64_t seed, cx_estimate *out, cx_error *err);

/* ---- runs -------------------------------------------------------------------------------------------------------------------- */

typedef enum { CX_RESUME_AUTO, CX_RESUME_MUST, CX_RESUME_NEVER } cx_resume;
typedef struct {
    cx_resume resume;                     /* auto: continue when the run's folder holds a checkpoint of the same configuration */
    const volatile sig_atomic_t *stop;    /* set by a signal handler: checkpoint at the next step, CX_E_INTERRUPTED; before the first step
                                           * there is nothing to save, and the next attempt starts anew. NULL: never */
    cx_comm *comm;                        /* the ranks that train together, each with these options and the same configuration; NULL: alone. Borrowed; the
                                           * caller closes it, with the error where the run fails */
    bool quiet;                           /* no progress */
    /* Called after every step and after every epoch (a line on the terminal); may be NULL. epoch from 1, step from 1. val_score: AUROC, mean over classes;
     * segmentation: Dice, mean over films. */
    void (*on_step)(void *self, int epoch, int step);
    void (*on_stage)(void *self, int stage, const char *question);                 /* a hierarchy begins stage 1 or 2: "normal against CAP or CP" */
    void (*on_device)(void *self, const char *description, const char *note);      /* once; see cx_backend */
    void (*on_epoch)(void *self, int epoch, double train_loss, double val_loss, double val_score, double lr, double seconds);
    void *self;
} cx_run_opts;

/* Trains as configured in <run.dir>/<run.name>/: see ARCHITECTURE "A run". When it ends: best weights evaluated once on the test split, metrics.json,
 * predictions.csv (path, split, group, labels, target and probability per class, predicted; segmentation: overlap and areas of each film's masks),
 * metrics.csv, manifest.json, checkpoints/{last,best}.safetensors.
 * data.task hierarchical: two such runs, in stage1/ and stage2/ of that folder, over one split. The first tells classes[0] from the rest; the second, trained
 * on films of the rest only, tells them apart; both answer for all films. The folder itself holds the joint predictions.csv and metrics.json: P(k) = P(rest)
 * P(k | rest), the largest is the answer, and errors by the stage where they arose. Resuming goes on with whichever stage was interrupted.
 * The folder's path is copied to dir (may be NULL). With several ranks, rank 0 alone writes, and all end with the same weights. CX_E_PEER: another rank has
 * failed or vanished; the last checkpoint, made anew where that still went, holds whole steps only, and any number of ranks goes on from it. CX_E_NAN: a loss
 * is not finite; the error names the sample paths of the batch. CX_E_INTERRUPTED: stopped, resumable. */
cx_status cx_run_train(const cx_config *c, const cx_run_opts *o, char *dir, size_t dir_len, cx_error *err);

/* A trained network, ready to look at films: what predict, explain and audits start from. */
typedef struct cx_net cx_net;
struct cx_net {
    cx_config config;
    cx_model model;
    cx_backend *backend;
    cx_store *store;
    cx_lung_finder *lungs;                /* NULL where its preprocessing wants none */
    cx_pipeline *pipeline;                /* films become its input by cx_film_to_input(pipeline, film, &norm, ...) */
    cx_normalise norm;
    double threshold;                     /* binary: chosen on validation; 0.5 while the run has not ended */
    double *thresholds;                   /* [n_classes], multilabel: the same for each class; binary: all are threshold; NULL without classes */
    char **classes; int n_classes;        /* names, in the order of config.data.classes; binary: the logit is classes[1]; segmentation: none */
    cx_net *stage[2];                     /* hierarchical: the two networks, and model, backend and store here are empty; else NULL. They take the same input */
};
/* Opens <run>/checkpoints/best.safetensors with <run>/config.resolved.yaml; of a hierarchy both stages. device NULL: the run's own. run may also be a weight
 * file that says what it is (`cxnet weights import`, checkpoints/best.safetensors): its threshold is 1/2, its device the CPU. */
cx_status cx_net_open(const char *run, const char *device, int threads, cx_net *out, cx_error *err);
void cx_net_close(cx_net *n);
/* The networks that a film goes through: n itself, or its two stages. */
int cx_net_parts(const cx_net *n);
cx_net *cx_net_part(cx_net *n, int i);
/* logits of all parts, one behind the other, to probabilities [n_classes] by the task: binary gives {1-p, p}; a hierarchy gives the joint ones. */
void cx_net_probabilities(const cx_net *n, const float *logits, double *p);
/* The answer: the largest, the first of equals; binary: by the threshold. Of multilabel, whose classes may all be there, the likeliest. */
int cx_net_answer(const cx_net *n, const double *p);
/* What decides on class k, and what an explanation of it is made of: a logit of a part, or its negative (sign -1). Of a hierarchy, the first class is what
 * speaks against the logit of stage 1; the others are those of stage 2. */
typedef struct { int part, logit; float sign; } cx_voice;
cx_voice cx_net_voice(const cx_net *n, int k);

/* Films through a network that names classes. net must outlive it. CX_E_USAGE: a network that marks pixels. */
typedef struct cx_classifier cx_classifier;
cx_status cx_classifier_new(cx_net *net, int batch, cx_classifier **out, cx_error *err);
void cx_classifier_free(cx_classifier *c);
/* x [batch, side, side, channels], network inputs, of which the first n count; p [n, n_classes]. CX_E_NAN: an answer that is not finite. */
cx_status cx_classifier_run(cx_classifier *c, const float *x, int n, double *p, cx_error *err);

/* Films through a network that marks pixels (unet), one at a time. net must outlive it. CX_E_USAGE: a network that names classes. */
typedef struct cx_segmenter cx_segmenter;
cx_status cx_segmenter_new(cx_net *net, cx_segmenter **out, cx_error *err);
void cx_segmenter_free(cx_segmenter *g);
/* mask [height, width] of the film: 255 where the probability, brought to the film's size (bilinear), is at least 1/2, else 0. */
cx_status cx_segmenter_mask(cx_segmenter *g, const cx_film *film, uint8_t *mask, cx_error *err);

#ifdef __cplusplus
}
#endif
#endif
