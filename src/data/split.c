/* split.c - divides a cohort into train, val and test by groups, so that no person and no copy of a film stands on two sides. Depends on base.
 *
 * Stable and stratified pull apart. That adding films moves no old group, whatever is added, means that a group's side is a function of its own name (and the
 * seed) alone; then the sides of different groups are independent coins, and a share strays like a binomial. Any rule that balances a stratum better has to
 * look at the other groups, and then some addition moves an old one. Training sets grow, and a film that has been trained on must never turn up in a later
 * test, so stability is taken: a group's hash, uniform in 0..1, falls into [0, test) test, [test, test + val) val, or above train. What stratification is
 * left:
 * - a stratum (labels, source) of n groups has share p within 4 sqrt(p (1 - p) / n) + 1/n (a tolerance that 1 stratum in 15,000 exceeds);
 * - a stratum of at least MIN_STRATUM groups is never without a side: where the coins leave one empty, the group with the smallest second hash is moved
 *   there. Only such a filler can move when films are added later (back to where its coin says, once the side has a group of its own).
 * A group's name is that of its members (the patient's id where known, else the film's path) whose hash is smallest: a new film changes it only when it
 * brings a patient or a copy in, which makes it another group. */
#include <stdlib.h>
#include <string.h>
#include "manifest_words.h"

enum { MIN_STRATUM = 10, MIN_COHORT = 3, SIDES = 3, LEAKS_TOLD = 5 };

/* ---- groups ---------------------------------------------------------------------------------------------------------- */

static int root_of(int *parent, int i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

static void join(int *parent, int a, int b)
{
    a = root_of(parent, a);
    b = root_of(parent, b);
    parent[a > b ? a : b] = a > b ? b : a;
}

/* Joins all samples that have the same non-empty word. */
static bool join_by_word(const cx_word *word, int n, int *id, int *first, int *parent)
{
    int distinct = cx_words_number(word, n, id, NULL);
    if (distinct < 0)
        return false;
    for (int k = 0; k < distinct; k++)
        first[k] = -1;
    for (int i = 0; i < n; i++) {
        if (word[i].length == 0)
            continue;
        if (first[id[i]] >= 0)
            join(parent, first[id[i]], i);
        else
            first[id[i]] = i;
    }
    return true;
}

/* group [n]: smallest index of the samples that are tied by patient, by the manifest's group column, or by duplicates. */
static cx_status make_groups(const cx_manifest *m, const cx_audit *audit, int *group, cx_error *err)
{
    cx_word *word = cx_alloc((size_t)m->n, sizeof *word);
    int *id = cx_alloc((size_t)m->n, sizeof *id), *first = cx_alloc((size_t)m->n, sizeof *first);
    bool ok = word && id && first;
    for (int i = 0; i < m->n; i++)
        group[i] = i;
    for (int pass = 0; pass < 2 && ok; pass++) {
        for (int i = 0; i < m->n; i++)
            word[i] = cx_word_of(pass ? m->samples[i].group : m->samples[i].patient_id);
        ok = join_by_word(word, m->n, id, first, group);
    }
    if (audit)
        for (int i = 0; i < m->n; i++)
            join(group, i, audit->cluster[i]);
    for (int i = 0; i < m->n; i++)
        group[i] = root_of(group, i);
    free(word);
    free(id);
    free(first);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "%s: no memory to group %d films", m->path, m->n);
}

/* ---- sides ------------------------------------------------------------------------------------------------------------- */

/* 64 uniform bits of a name. Philox mixes what FNV-1a leaves regular. */
static uint64_t hash_name(uint64_t seed, const char *use, const char *name)
{
    uint32_t w[4];
    cx_philox(seed, cx_hash(use), cx_hash(name), w);
    return (uint64_t)w[0] << 32 | w[1];
}

typedef struct {
    uint64_t coin, filler;    /* of the member with the smallest coin */
    int stratum, side, films;
} group_fact;

static cx_split side_of(uint64_t coin, const cx_split_opts *o)
{
    double u = (double)(coin >> 11) / 9007199254740992.0;
    return u < o->test ? CX_TEST : u < o->test + o->val ? CX_VAL : CX_TRAIN;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* "source\nlabel|label" with the labels sorted, since their order means nothing. Owned by the caller, NULL when out of memory. */
static char *stratum_name(const cx_sample *s)
{
    cx_buf name = { 0 };
    char *copy = cx_strdup(s->labels), **label = cx_alloc(strlen(s->labels) + 1, sizeof *label), *save = NULL;
    cx_buf_printf(&name, "%s\n", s->source);
    name.failed = name.failed || !copy || !label;
    if (!name.failed) {
        int n = 0;
        for (char *t = strtok_r(copy, "|", &save); t; t = strtok_r(NULL, "|", &save))
            label[n++] = t;
        qsort(label, (size_t)n, sizeof *label, by_text);
        for (int i = 0; i < n; i++)
            cx_buf_printf(&name, i ? "|%s" : "%s", label[i]);
    }
    free(copy);
    free(label);
    if (name.failed)
        cx_buf_free(&name);
    return name.data;
}

/* stratum [n]: number of each group's stratum, that of the group's film with the smallest path. */
static bool number_strata(const cx_manifest *m, const int *group, int *stratum)
{
    cx_word *word = cx_alloc((size_t)m->n, sizeof *word);
    int *head = cx_alloc((size_t)m->n, sizeof *head);
    bool ok = word && head;
    for (int i = 0; i < m->n && ok; i++)
        if (group[i] == i || strcmp(m->samples[i].path, m->samples[head[group[i]]].path) < 0)
            head[group[i]] = i;
    for (int i = 0; i < m->n && ok; i++) {
        char *name = group[i] == i ? stratum_name(&m->samples[head[i]]) : cx_strdup("");
        ok = name != NULL;
        word[i] = ok ? cx_word_of(name) : (cx_word){ NULL, 0 };
    }
    ok = ok && cx_words_number(word, m->n, stratum, NULL) >= 0;
    for (int i = 0; i < m->n && word; i++)
        free((void *)word[i].text);
    free(word);
    free(head);
    return ok;
}

/* Gives each wanted but empty side of the groups in `member` (their samples' indices) one group: that with the smallest second hash among the sides that
 * have two. */
static void fill_empty(group_fact *fact, const int *member, int n, const cx_split_opts *o)
{
    for (int side = 0; side < SIDES; side++) {
        int count[SIDES] = { 0 }, best = -1;
        for (int i = 0; i < n; i++)
            count[fact[member[i]].side]++;
        if (count[side] || (side == CX_VAL && o->val <= 0) || (side == CX_TEST && o->test <= 0))
            continue;
        for (int i = 0; i < n; i++) {
            const group_fact *g = &fact[member[i]];
            if (count[g->side] > 1 && (best < 0 || g->filler < fact[best].filler))
                best = member[i];
        }
        if (best >= 0)
            fact[best].side = side;
    }
}

typedef struct { int stratum, head; } member_of;

static int by_stratum(const void *a, const void *b)
{
    const member_of *x = a, *y = b;
    return x->stratum != y->stratum ? (x->stratum > y->stratum) - (x->stratum < y->stratum) : x->head - y->head;
}

static bool fill_strata(const cx_manifest *m, const int *group, group_fact *fact, const cx_split_opts *o)
{
    member_of *order = cx_alloc((size_t)m->n, sizeof *order);
    int *member = cx_alloc((size_t)m->n, sizeof *member), n = 0;
    if (order && member) {
        for (int i = 0; i < m->n; i++)
            if (group[i] == i)
                order[n++] = (member_of){ fact[i].stratum, i };
        qsort(order, (size_t)n, sizeof *order, by_stratum);
        for (int i = 0; i < n; i++)
            member[i] = order[i].head;
        for (int from = 0, to; from < n; from = to) {
            for (to = from; to < n && order[to].stratum == order[from].stratum;)
                to++;
            if (to - from >= MIN_STRATUM)
                fill_empty(fact, member + from, to - from, o);
        }
        if (n >= MIN_COHORT)
            fill_empty(fact, member, n, o);
    }
    bool ok = order && member;
    free(order);
    free(member);
    return ok;
}

static bool assign(const cx_manifest *m, const int *group, const cx_split_opts *o, cx_split *split)
{
    group_fact *fact = cx_alloc((size_t)m->n, sizeof *fact);
    int *stratum = cx_alloc((size_t)m->n, sizeof *stratum);
    bool ok = fact && stratum && number_strata(m, group, stratum);
    for (int i = 0; i < m->n && ok; i++) {
        const cx_sample *s = &m->samples[i];
        group_fact *g = &fact[group[i]];
        const char *name = *s->patient_id ? s->patient_id : s->path, *use = *s->patient_id ? "split patient" : "split film";
        uint64_t coin = hash_name(o->seed, use, name);
        if (g->films++ == 0 || coin < g->coin)
            *g = (group_fact){ coin, hash_name(o->seed, "split filler", name), stratum[group[i]], (int)side_of(coin, o), g->films };
    }
    ok = ok && fill_strata(m, group, fact, o);
    for (int i = 0; i < m->n && ok; i++)
        split[i] = (cx_split)fact[group[i]].side;
    free(fact);
    free(stratum);
    return ok;
}

cx_status cx_split_make(const cx_manifest *m, const cx_audit *audit, const cx_split_opts *o, cx_split *split, int *group, cx_error *err)
{
    if (!(o->val >= 0 && o->test >= 0 && o->val + o->test < 1))
        return cx_fail(err, CX_E_CONFIG, "split: want val >= 0, test >= 0 and val + test < 1, got val %g, test %g", o->val, o->test);
    if (audit && audit->n != m->n)
        return cx_fail(err, CX_E_INTERNAL, "%s: audit of %d films for a manifest of %d", m->path, audit->n, m->n);
    TRY(make_groups(m, audit, group, err));
    return assign(m, group, o, split) ? CX_OK : cx_fail(err, CX_E_MEMORY, "%s: no memory to split %d films", m->path, m->n);
}

/* ---- leaks --------------------------------------------------------------------------------------------------------------- */

static void tell_leak(const cx_manifest *m, const cx_split *split, int a, int b, cx_buf *text)
{
    const cx_sample *x = &m->samples[a], *y = &m->samples[b];
    bool patient = *x->patient_id && strcmp(x->patient_id, y->patient_id) == 0;
    cx_buf_printf(text, "%s%s: %s (%s, line %d) and %s (%s, line %d)\n", patient ? "patient " : "tied films", patient ? x->patient_id : "",
                  x->path, cx_split_name(split[a]), x->line, y->path, cx_split_name(split[b]), y->line);
}

int cx_split_leaks(const cx_manifest *m, const cx_audit *audit, const cx_split *split, cx_buf *text)
{
    int *group = cx_alloc((size_t)m->n, sizeof *group), *seen = cx_alloc((size_t)m->n, sizeof *seen), leaks = 0;
    bool *told = cx_alloc((size_t)m->n, sizeof *told);
    if (!group || !seen || !told || make_groups(m, audit, group, NULL) != CX_OK) {
        text->failed = true;
        leaks = -1;
    }
    for (int i = 0; i < m->n && leaks >= 0; i++) {            /* seen [head]: first sample of the group that is on a side, + 1 */
        int head = group[i];
        if (split[i] == CX_NO_SPLIT || told[head])
            continue;
        if (!seen[head])
            seen[head] = i + 1;
        if (split[seen[head] - 1] == split[i])
            continue;
        told[head] = true;
        if (++leaks <= LEAKS_TOLD)
            tell_leak(m, split, seen[head] - 1, i, text);
    }
    if (leaks > LEAKS_TOLD)
        cx_buf_printf(text, "and %d more\n", leaks - LEAKS_TOLD);
    free(group);
    free(seen);
    free(told);
    return leaks;
}
