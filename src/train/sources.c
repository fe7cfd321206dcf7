/* sources.c - how far the classes of an experiment can be told from where its films come from. Depends on run.h. */
#include <stdlib.h>
#include <string.h>
#include "run.h"

typedef struct { const char **name; int *of; int n; } sources;      /* of: [films] */

static bool number_sources(const cx_cohort *h, sources *s)
{
    *s = (sources){ cx_alloc((size_t)h->n, sizeof *s->name), cx_alloc((size_t)h->n, sizeof *s->of), 0 };
    for (int i = 0; s->name && s->of && i < h->n; i++) {
        const char *source = h->manifest.samples[h->sample[i]].source;
        int k = 0;
        while (k < s->n && strcmp(s->name[k], source))
            k++;
        if (k == s->n)
            s->name[s->n++] = source;
        s->of[i] = k;
    }
    return s->name && s->of;
}

/* Has film i the class? Negative: nobody knows, or it trains no network. */
static int has(const cx_cohort *h, int i, int class)
{
    const float *t = h->target + (size_t)i * (size_t)h->n_targets;
    const float known = t[h->task == TASK_MULTILABEL ? class : 0];
    if (known < 0 || h->split[i] == CX_NO_SPLIT || h->split[i] == CX_EXTERNAL)
        return -1;
    return h->task == TASK_MULTILABEL ? known > 0 : (int)known == class;
}

static json_t *class_json(const cx_cohort *h, const sources *s, int class, int *with, int *all, double *most)
{
    json_t *films = json_object();
    memset(with, 0, (size_t)s->n * sizeof *with);
    memset(all, 0, (size_t)s->n * sizeof *all);
    for (int i = 0; i < h->n; i++) {
        const int is = has(h, i, class);
        with[s->of[i]] += is > 0;
        all[s->of[i]] += is >= 0;
    }
    for (int k = 0; k < s->n; k++)
        if (all[k])
            json_object_set_new(films, *s->name[k] ? s->name[k] : "(unknown)", json_pack("[i, i]", with[k], all[k]));
    const double v = cx_cramers_v(with, all, s->n);
    *most = v > *most ? v : *most;
    return json_pack("{s:o, s:o}", "cramers_v", cx_json_number(v), "films", films);
}

json_t *cx_sources_json(const cx_cohort *h)
{
    sources s;
    double most = 0;
    json_t *each = json_object(), *j = NULL;
    const bool known = number_sources(h, &s);
    int *with = known ? cx_alloc((size_t)s.n, sizeof *with) : NULL, *all = known ? cx_alloc((size_t)s.n, sizeof *all) : NULL;
    for (int k = 0; with && all && k < h->n_classes; k++)
        json_object_set_new(each, h->classes[k].name, class_json(h, &s, k, with, all, &most));
    if (with && all)
        j = json_pack("{s:f, s:f, s:b, s:O}", "largest_cramers_v", most, "bound", CX_CONFOUNDED_V, "confounded", most >= CX_CONFOUNDED_V, "classes", each);
    json_decref(each);
    free(with);
    free(all);
    free(s.name);
    free(s.of);
    return j;
}
