/* audit.h - private to the audit: the figures that its page and its JSON both show. Depends on data.h. */
#ifndef CX_DATA_AUDIT_H
#define CX_DATA_AUDIT_H
#include "manifest_words.h"

enum { CX_CHILD_YEARS = 16, CX_AGE_BANDS = 6 };

/* Labels against a property of the film. A film with two labels counts in both rows; the last row is all films. */
typedef struct {
    const char *property;             /* "source" "view" "age" */
    int rows, columns;
    char **row, **column;             /* names; owned */
    int *films, *patients;            /* [rows, columns]: films; different known patients among them */
} cx_cross;

/* How well a label can be told from the source alone. label and the sources' names point into cross[0]. */
typedef struct {
    const char *label, *most, *least;             /* the sources where the label's share is highest and lowest */
    int films;
    double cramers_v, auroc, most_share, least_share;   /* auroc: of the share of the label in a film's source, taken as that film's score */
} cx_confounding;

typedef struct {
    int decoded, bad, tiny, coloured, odd_shape, wrong_extension, deep, flat, type[CX_UNKNOWN_TYPE + 1];
    int exact, near, across_patients, across_sources, across_labels, across_splits;     /* pairs; across_patients: both known and different */
    int clusters, in_clusters, largest;                                                /* duplicate clusters of two or more films */
    int patients, without_patient, children, unknown_age, sources;
    int *cluster_films;               /* [n] films of the cluster that is named by its first film, else 0 */
    cx_cross cross[3];                /* by source, view, age */
    cx_confounding *confounding;      /* [n_confounding], strongest first; labels of at least 10 films, when there are two sources */
    int n_confounding;
} cx_audit_facts;

cx_status cx_audit_facts_make(const cx_manifest *m, const cx_audit *a, cx_audit_facts *out, cx_error *err);
void cx_audit_facts_free(cx_audit_facts *f);
/* One plain sentence on a label's confounding with the source. */
void cx_confounding_say(const cx_confounding *c, cx_buf *out);
#endif
