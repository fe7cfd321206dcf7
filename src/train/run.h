/* run.h - the inside of a training run: its state, and the files that hold it. Depends on cohort.h. */
#ifndef CX_TRAIN_RUN_H
#define CX_TRAIN_RUN_H
#include <jansson.h>
#include "cohort.h"
#include "cxnet/stepper.h"

enum { AHEAD = 4 };              /* steps that a GPU may be behind: the host then looks at the loss that much later */

/* What a checkpoint must hold beside weights and moments to go on bit for bit. */
typedef struct {
    int epoch, step;             /* the next step to take: epoch from 0, step inside it */
    int64_t updates;             /* optimiser steps done */
    double loss_sum;             /* of the steps of this epoch so far */
    double best; int best_epoch, since_best;         /* of early_stop.metric on validation; best_epoch -1: none yet */
    double plateau_best; int plateau_since;      /* epochs without improvement; below 0: so many more of the cooldown */
    double lr_scale;
    bool trained;                /* no more epochs: only evaluation is left */
    char *history;               /* metrics.csv so far; owned */
} cx_state;

typedef struct cx_stage cx_stage;

typedef struct {
    const cx_config *config;
    const cx_run_opts *opts;
    cx_stage *stage;             /* of which hierarchy it is a part; NULL: a run by itself */
    char *dir;
    FILE *log;
    cx_cohort cohort;
    cx_cache *cache;             /* film i is cohort film i */
    cx_cache *masks;             /* segmentation: the mask of each; else NULL */
    char data_sha[65];           /* of all that a training sees: films, targets, split */
    cx_model model;
    int target, weight, loss;    /* value indices */
    cx_comm *comm;               /* NULL: one process */
    cx_backend *backend;
    cx_store *store;
    cx_plan *train_plan, *eval_plan;
    cx_loader *train_loader;
    cx_give give;                /* what batches hold, in training and evaluation */
    cx_film_source source;       /* unless CX_GIVE_INPUT; its films are the run's */
    cx_feed *eval_feed;          /* the input of eval_plan */
    cx_stepper *stepper;
    int *films, pending;         /* of the steps on their way: films [AHEAD, part], that of update t in row t % AHEAD; how many steps */
    cx_pipeline *pipeline;
    cx_normalise norm;
    int part;                    /* films of each batch that this rank has */
    int batch, steps;            /* films per step, of all ranks, steps per epoch; an incomplete last batch waits for the next epoch's order */
    cx_state state;
} cx_run;

/* <dir>/<name>, owned by the caller, NULL when out of memory. */
char *cx_run_path(const cx_run *r, const char *name);
void cx_run_log(cx_run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- run.c: what a hierarchy shares with a run of one network. The second is that run */
cx_status cx_run_open_dir(cx_run *r, bool *resume, cx_error *err);       /* dir and log */
cx_status cx_run_network(const cx_config *c, const cx_run_opts *o, cx_stage *stage, char *dir, size_t dir_len, cx_error *err);
cx_status cx_run_write_config(cx_run *r, cx_error *err);
void cx_run_close(cx_run *r);

/* ---- hierarchy.c: two runs over one split, and what they say together. The last three are called by the run of a stage */
cx_status cx_hierarchy_train(const cx_config *c, const cx_run_opts *o, char *dir, size_t dir_len, cx_error *err);
/* Probabilities of n classes from those of the two stages [2] and [n - 1]: p[0] = first[0], p[k] = first[1] second[k - 1]. */
void cx_joint(const double *first, const double *second, int n, double *p);
/* Before the stage's folder is made; the first makes that of the whole and its cohort. */
cx_status cx_stage_begin(cx_stage *s, cx_error *err);
cx_status cx_stage_cohort(const cx_stage *s, cx_cohort *out, cx_error *err);
cx_status cx_stage_answer(cx_stage *s, cx_run *r, cx_error *err);         /* what its best weights say of all films of validation, test and external */

/* ---- schedule.c */
/* Learning rate of update `step` of epoch `epoch` (both from 0). */
double cx_schedule_lr(const cx_config *c, const cx_state *s, int epoch, int step, int steps);
/* After validation: lowers lr_scale where a plateau schedule says so. */
void cx_schedule_epoch(const cx_config *c, cx_state *s, double val_loss);
/* After validation: is this the best epoch so far? Sets best, best_epoch, since_best, and trained when patience has run out or no epoch is left. */
bool cx_early_stop_epoch(const cx_config *c, cx_state *s, double val_loss, double val_score);

/* ---- checkpoint.c */
/* The configuration without what does not change results (names, folders, threads), for comparing runs. */
void cx_run_identity(const cx_config *c, cx_buf *out);
cx_status cx_checkpoint_save(cx_run *r, const char *name, bool moments, cx_error *err);       /* "last" with moments, "best" without */
/* SHA-256 of what the cohort and its cache give a training: names and pixels of the films, their targets, their split. */
void cx_run_data_sha256(const cx_run *r, char out[65]);
/* Loads checkpoints/last; CX_E_CONFIG when it was made with another configuration (it names the first key that differs) or with other data. */
cx_status cx_checkpoint_load(cx_run *r, cx_error *err);

/* ---- net.c, net_file.c */
/* Fills classes and n_classes from n->config. */
cx_status cx_net_names(cx_net *n, cx_error *err);
/* The thresholds that validation chose; 0.5 while the run has not been evaluated, or where there is none (run NULL). */
cx_status cx_net_thresholds(const char *run, cx_net *n, cx_error *err);
/* cx_net_open of a weight file with a card; after a failure, cx_net_close. */
cx_status cx_net_open_file(const char *path, const char *device, int threads, cx_net *n, cx_error *err);

/* ---- card.c */
/* What weights trained by c say about themselves. Free with cx_weights_card_free. */
cx_status cx_card_of(const cx_config *c, cx_weights_card *out, cx_error *err);
/* CX_E_CONFIG: the file's card names another architecture, epsilon, final ReLU, or other pixels than c; says which key to set. A file without a card agrees.
 * How films are preprocessed may differ: a network may be trained on with enhanced films. */
cx_status cx_card_agrees(const cx_config *c, const cx_st_file *f, cx_error *err);

/* ---- ranks.c: what the ranks agree on; each returns at once in a run of one process */
/* CX_E_CONFIG names the first line of the configuration that a rank does not share with rank 0. */
cx_status cx_ranks_configured(cx_run *r, cx_error *err);
/* run.device, with the GPU that is this rank's where it names none. Owned by the caller; NULL when out of memory. */
char *cx_ranks_device(const cx_run *r);
/* All have the same backend; where it adds gradients on the device and run.comm allows it, it does. */
cx_status cx_ranks_join(cx_run *r, cx_error *err);
/* The values of rank 0 for all: state, and parameters too. */
cx_status cx_ranks_share_values(cx_run *r, bool parameters, cx_error *err);
/* Where a run begins: parameters and state, and if rank 0 has loaded a checkpoint, moments and cx_state. */
cx_status cx_ranks_share_start(cx_run *r, bool resumed, cx_error *err);
/* After an epoch: running statistics become those of rank 0, and parameters must be the same bits everywhere (CX_E_CONFIG: they are not). */
cx_status cx_ranks_still_equal(cx_run *r, cx_error *err);

/* ---- films.c: where the films lie while the run trains; no result depends on it */
/* CX_E_CONFIG: run.films asks of the backend what it cannot do. */
cx_status cx_run_films_possible(const cx_run *r, cx_error *err);
/* Sets give and source, uploads the cache where it goes to the device, and says in the log what was taken. Call it when plans and moments have their memory.
 * CX_E_MEMORY: run.films is device, and they do not fit. */
cx_status cx_run_films_open(cx_run *r, cx_error *err);
void cx_run_films_close(cx_run *r);       /* after the stepper and the feed */
/* As cx_stepper_opts.films; points into r. */
const cx_film_source *cx_run_source(const cx_run *r);
/* Points into b. */
cx_step_batch cx_run_batch(const cx_batch *b);

/* ---- open_masks.c */
/* Of a segmentation, r->masks: mask i of film i of r->cache, which is open. dir, bad as of cx_cache_open. CX_E_DATA: a mask of other proportions than its
 * film. */
cx_status cx_run_open_masks(cx_run *r, const char *dir, cx_buf *bad, cx_error *err);

/* ---- evaluate.c */
/* What is kept of each film of a segmentation, instead of its logits: the training loss of this film alone, and what cx_mask_compare says of probability >= 1/2
 * at the working size. */
enum { MASK_LOSS, MASK_DICE, MASK_IOU, MASK_BOUNDARY, MASK_TRUTH, MASK_FOUND, MASK_FACTS };
typedef struct {
    int n, width;                /* numbers a film in answer: the cohort's outputs, or MASK_FACTS */
    int *film;                   /* [n] cohort index */
    float *answer;               /* [n, width]: logits, or facts about masks */
    double *p;                   /* [n, n_classes] */
    double loss, score;          /* score: AUROC, mean over classes; segmentation: Dice, mean over films */
} cx_eval;
/* One pass over a side of the split with the present weights, each rank over its part, the result the same on all; the loss carries the training weights of
 * the classes, without smoothing; of a segmentation it is the mean of the films' own. CX_E_INTERRUPTED when stopped; CX_E_NAN names the film whose logits are
 * not finite. */
cx_status cx_evaluate(cx_run *r, cx_split side, cx_eval *out, cx_error *err);
void cx_eval_free(cx_eval *e);
/* Class k against the rest: y, p [e->n] get its targets (negative: unlabelled) and probabilities. */
void cx_eval_column(const cx_cohort *h, const cx_eval *e, int k, float *y, double *p);
void cx_probabilities(cx_task task, int outputs, const float *logits, double *p);
/* The same for these films [n], which become out's, but without loss and score. */
cx_status cx_evaluate_films(cx_run *r, int *film, int n, cx_eval *out, cx_error *err);
/* Sets loss and score from the answers and probabilities. */
cx_status cx_eval_judge(const cx_cohort *h, cx_eval *e, cx_error *err);
/* Those of a side of h, a cohort of the films in r's cache, that could be decoded; the array is the caller's. */
cx_status cx_run_decoded(const cx_run *r, const cx_cohort *h, cx_split side, int **index, int *n, cx_error *err);
/* Of r's own cohort; CX_E_DATA: none. */
cx_status cx_run_side(const cx_run *r, cx_split side, int **index, int *n, cx_error *err);

/* ---- results.c, results_masks.c: predictions.csv, metrics.json. external: its n is 0 where no film is. A segmentation is written by the second. more: an
 * object whose members go into metrics.json too, or NULL; its reference is taken */
cx_status cx_results_write(cx_run *r, const cx_eval *val, const cx_eval *test, const cx_eval *external, json_t *more, cx_error *err);
cx_status cx_results_write_masks(cx_run *r, const cx_eval *val, const cx_eval *test, const cx_eval *external, cx_error *err);
/* For both. Writes a JSON object to a file of the run, durably; takes the reference of j, which may be NULL: out of memory. */
cx_status cx_run_write_json(cx_run *r, const char *name, json_t *j, cx_error *err);
/* sources.c: for each class its films in each source, [with it, all], and Cramer's V; NULL: out of memory. */
json_t *cx_sources_json(const cx_cohort *h);
json_t *cx_metrics_head(const cx_run *r);                  /* what metrics.json says of any run */
json_t *cx_json_number(double v);                          /* null where it is not finite */
void cx_json_estimate(json_t *to, const char *name, cx_estimate e);
cx_status cx_run_manifest_write(cx_run *r, const char *status, cx_error *err);                    /* manifest.json; of a hierarchy without a network */
#endif
