/* cohort.h - the films of an experiment: which take part, what is asked of each, on which side of the split it lies. Depends on config.h. */
#ifndef CX_TRAIN_COHORT_H
#define CX_TRAIN_COHORT_H
#include "config.h"

typedef enum { TASK_BINARY, TASK_MULTICLASS, TASK_MULTILABEL, TASK_SEGMENTATION } cx_task;
/* hierarchical is TASK_MULTICLASS: exclusive classes, of the films and of the joint answers. */
cx_task cx_task_of(const cx_config *c);

typedef struct {
    cx_manifest manifest;
    bool lent;               /* the manifest is another cohort's */
    cx_task task;
    cx_spec *classes; int n_classes;    /* segmentation: none */
    cx_spec *sets; int n_sets;          /* what a source (name) has looked for */
    int outputs;             /* logits: 1 for binary, else n_classes; segmentation: 1 a pixel */
    int n_targets;           /* columns of target: n_classes for multilabel, 0 for segmentation, whose targets are masks, else 1 */
    int n;                   /* films that take part */
    int *sample;             /* [n] row of the manifest */
    float *target;           /* [n, n_targets]: 0/1, class index, or -1 = unlabelled, of which a side of the split has some in multilabel only */
    cx_split *split;         /* [n] */
    int *group;              /* [n] patient or duplicate cluster */
    int left_out_label, left_out_filter, left_out_split;      /* films that do not take part, by reason. label: segmentation, no mask */
    float *loss_weight;      /* multiclass [n_classes]; else [2, n_targets]: negatives, positives */
} cx_cohort;

/* Loads the manifest of c, keeps the films that pass its filters and belong to its classes (have a mask), splits them (or checks the manifest's own split) and
 * weighs the classes. Films of data.external are CX_EXTERNAL; one whose patient or duplicate is among the others takes no part. CX_E_CONFIG
 * where a source that c names or a class has no film, a side of the split is empty or the split leaks.
 * stop (may be NULL) goes into the manifest. */
cx_status cx_cohort_load(const cx_config *c, const volatile sig_atomic_t *stop, cx_cohort *out, cx_error *err);
void cx_cohort_free(cx_cohort *h);
/* What stage 0 or 1 of a hierarchy learns from: the films of `all`, which must outlive it, on the same sides. c: the stage's configuration. Stage 0 tells the
 * films of class 0 from the others; stage 1 tells the others apart, and films of class 0 are on no side. */
cx_status cx_cohort_stage(const cx_cohort *all, const cx_config *c, int stage, cx_cohort *out, cx_error *err);
/* Takes every text of a list apart; the array is the caller's, also after a failure. */
cx_status cx_specs_parse(const cx_list *list, char separator, cx_spec **out, int *n, cx_error *err);
void cx_specs_free(cx_spec *specs, int n);
/* Indices (into the cohort) of one side of the split; the array is the caller's. */
cx_status cx_cohort_side(const cx_cohort *h, cx_split side, int **index, int *n, cx_error *err);
#endif
