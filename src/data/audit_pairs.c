/* audit_pairs.c - which films of a cohort are copies of each other: exact ones by hash, near ones by an exact search in Hamming space. Depends on base.
 *
 * Measured on 4,108 films of three public collections (8,435,778 pairs) that share films, patients and views:
 * - Hashes of 64 bits cannot decide. Pairs of different people reach dhash distance 0 and phash distance 2 (median pair: 16 and 28), because erect chests are
 *   alike; verified copies (another crop, border, exposure, compression, arrows drawn in) have dhash <= 6 and phash <= 12.
 * - So the hashes nominate (dhash <= 8 and phash <= 12: 8,429 pairs, 0.1 %) and the correlation of 48 x 48 detail maps, slid by up to 2 px, decides.
 *   Nominated pairs per bin of 0.05 from 0.50 on: 261, 79, 13, 4, 6, 2, 6, 0, 7, 10 (and 8 at 1.00 besides 13 exact copies): the tail of strangers
 *   falls fourfold per bin; its last pair stands at 0.746 (two patients of one hospital with the same white bars beside the body). At 0.70 to 0.80 lie
 *   films of one person on two days; all pairs above 0.79 but one of those are one film twice, seen by eye. The threshold is put there: 44 pairs
 *   (13 exact), 40 clusters, the largest of 4 films. The search itself takes 4 s for 100,000 films on two cores.
 *   Loosening the hashes to 12 and 16 finds no further pair above 0.75. */
#include <stdlib.h>
#include <string.h>
#include "signature.h"

enum { DHASH_RADIUS = 8, PHASH_RADIUS = 12, BANDS = 4, BAND_BITS = 16, BAND_VALUES = 1 << BAND_BITS, BAND_RADIUS = PHASH_RADIUS / BANDS };
static const double LEAST_LIKENESS = 0.79;

static int bits(uint64_t v)
{
    v -= v >> 1 & 0x5555555555555555u;
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)(v * 0x0101010101010101u >> 56);
}

bool cx_pair_is_near(int dhash_bits, int phash_bits, double likeness)
{
    return dhash_bits <= DHASH_RADIUS && phash_bits <= PHASH_RADIUS && likeness >= LEAST_LIKENESS;
}

static cx_status no_memory(int n, cx_error *err)
{
    return cx_fail(err, CX_E_MEMORY, "no memory to compare %d films; audit the cohort in parts", n);
}

/* ---- exact copies ----------------------------------------------------------------------------------------------------- */

typedef struct { const char *sha; int film; } signed_film;

static int by_sha(const void *a, const void *b)
{
    const signed_film *x = a, *y = b;
    int c = strcmp(x->sha, y->sha);
    return c ? c : x->film - y->film;
}

/* Pairs each copy with the first of its kind, and lists the firsts that can be compared further. */
static cx_status find_exact(cx_audit *a, int *first, int *n_first, cx_error *err)
{
    signed_film *f = cx_alloc((size_t)a->n, sizeof *f);
    int n = 0;
    if (!f)
        return no_memory(a->n, err);
    for (int i = 0; i < a->n; i++)
        if (a->films[i].ok)
            f[n++] = (signed_film){ a->films[i].sig.sha256, i };
    qsort(f, (size_t)n, sizeof *f, by_sha);
    cx_status s = CX_OK;
    *n_first = 0;
    for (int i = 0, from = 0; i < n && s == CX_OK; i++) {
        if (i == 0 || strcmp(f[i].sha, f[from].sha) != 0) {
            from = i;
            if (!a->films[f[i].film].sig.flat)
                first[(*n_first)++] = f[i].film;
        } else if (cx_grow(&a->pairs, &a->pairs_cap, (size_t)a->n_pairs + 1, sizeof *a->pairs)) {
            a->pairs[a->n_pairs++] = (cx_pair){ f[from].film, f[i].film, true, 0, 0, 1 };
        } else {
            s = no_memory(a->n, err);
        }
    }
    free(f);
    return s;
}

/* ---- near copies: multi-index hashing (Norouzi et al. 2012), exact for the radius ------------------------------------------- */

/* Films in the order of one 16-bit band of their phash: those with value v are film[start[v]] .. film[start[v + 1] - 1]. Two phashes within PHASH_RADIUS
 * agree within BAND_RADIUS in at least one band. */
typedef struct { int *start; int *film; uint64_t *phash, *dhash; } band_index;

typedef struct { int a, b; } couple;
typedef struct { couple *at; size_t n, cap; bool failed; } couples;

static unsigned band_of(uint64_t hash, int band) { return (unsigned)(hash >> (band * BAND_BITS)) & (BAND_VALUES - 1); }

static void fill_index(const cx_audit *a, const int *first, int n, int band, band_index *x)
{
    memset(x->start, 0, (BAND_VALUES + 1) * sizeof *x->start);
    for (int i = 0; i < n; i++)
        x->start[band_of(a->films[first[i]].sig.phash, band) + 1]++;
    for (int v = 0; v < BAND_VALUES; v++)
        x->start[v + 1] += x->start[v];
    for (int i = n - 1; i >= 0; i--) {                       /* downwards, then shift back: start[v + 1] is the fill mark of v */
        const cx_signature *s = &a->films[first[i]].sig;
        int at = --x->start[band_of(s->phash, band) + 1];
        x->film[at] = first[i];
        x->phash[at] = s->phash;
        x->dhash[at] = s->dhash;
    }
    for (int v = 0; v < BAND_VALUES; v++)
        x->start[v] = x->start[v + 1];
    x->start[BAND_VALUES] = n;
}

/* True when an earlier band would have found the pair, which reports it only once. */
static bool found_before(uint64_t difference, int band)
{
    for (int k = 0; k < band; k++)
        if (bits(band_of(difference, k)) <= BAND_RADIUS)
            return true;
    return false;
}

static void join_buckets(const band_index *x, unsigned u, unsigned v, int band, couples *out)
{
    for (int i = x->start[u]; i < x->start[u + 1]; i++)
        for (int j = u == v ? i + 1 : x->start[v]; j < x->start[v + 1]; j++) {
            uint64_t difference = x->phash[i] ^ x->phash[j];
            if (bits(difference) > PHASH_RADIUS || bits(x->dhash[i] ^ x->dhash[j]) > DHASH_RADIUS || found_before(difference, band))
                continue;
            if (!cx_grow(&out->at, &out->cap, out->n + 1, sizeof *out->at)) {
                out->failed = true;
                return;
            }
            int a = x->film[i], b = x->film[j];
            out->at[out->n++] = (couple){ a < b ? a : b, a < b ? b : a };
        }
}

/* All masks of at most BAND_RADIUS bits, so that a bucket's neighbours are v ^ mask. */
static int make_masks(unsigned *mask)
{
    int n = 0;
    for (unsigned m = 0; m < BAND_VALUES; m++)
        if (bits(m) <= BAND_RADIUS)
            mask[n++] = m;
    return n;
}

enum { MASKS = 1 + 16 + 120 + 560 };

static void search_band(const band_index *x, int band, const unsigned *mask, couples *all)
{
#pragma omp parallel
    {
        couples mine = { 0 };
#pragma omp for schedule(dynamic, 256) nowait
        for (unsigned u = 0; u < BAND_VALUES; u++) {
            if (x->start[u] == x->start[u + 1])
                continue;
            for (int k = 0; k < MASKS && !mine.failed; k++)
                if ((u ^ mask[k]) >= u)
                    join_buckets(x, u, u ^ mask[k], band, &mine);
        }
#pragma omp critical
        {
            if (mine.failed || !cx_grow(&all->at, &all->cap, all->n + mine.n, sizeof *all->at))
                all->failed = true;
            else if (mine.n)
                memcpy(all->at + all->n, mine.at, mine.n * sizeof *mine.at);
            all->n += all->failed ? 0 : mine.n;
        }
        free(mine.at);
    }
}

static cx_status nominate(const cx_audit *a, const int *first, int n, couples *out, cx_error *err)
{
    unsigned mask[MASKS];
    band_index x = { cx_alloc(BAND_VALUES + 1, sizeof(int)), cx_alloc((size_t)n, sizeof(int)), cx_alloc((size_t)n, sizeof(uint64_t)),
                     cx_alloc((size_t)n, sizeof(uint64_t)) };
    bool ok = x.start && x.film && x.phash && x.dhash && make_masks(mask) == MASKS;
    for (int band = 0; band < BANDS && ok; band++) {
        fill_index(a, first, n, band, &x);
        search_band(&x, band, mask, out);
        ok = !out->failed;
    }
    free(x.start);
    free(x.film);
    free(x.phash);
    free(x.dhash);
    return ok ? CX_OK : no_memory(a->n, err);
}

/* ---- decision --------------------------------------------------------------------------------------------------------------- */

static int by_films(const void *a, const void *b)
{
    const cx_pair *x = a, *y = b;
    return x->a != y->a ? (x->a > y->a) - (x->a < y->a) : (x->b > y->b) - (x->b < y->b);
}

static cx_status decide(cx_audit *a, const couples *c, const cx_detail *detail, cx_error *err)
{
    float *likeness = cx_alloc(c->n, sizeof *likeness);
    if (!likeness)
        return no_memory(a->n, err);
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t i = 0; i < c->n; i++)
        likeness[i] = (float)cx_detail_likeness(&detail[c->at[i].a], &detail[c->at[i].b]);
    cx_status s = CX_OK;
    for (size_t i = 0; i < c->n && s == CX_OK; i++) {
        const cx_signature *x = &a->films[c->at[i].a].sig, *y = &a->films[c->at[i].b].sig;
        cx_pair p = { c->at[i].a, c->at[i].b, false, bits(x->dhash ^ y->dhash), bits(x->phash ^ y->phash), likeness[i] };
        if (!cx_pair_is_near(p.dhash_bits, p.phash_bits, (double)p.likeness))
            continue;
        if (cx_grow(&a->pairs, &a->pairs_cap, (size_t)a->n_pairs + 1, sizeof *a->pairs))
            a->pairs[a->n_pairs++] = p;
        else
            s = no_memory(a->n, err);
    }
    free(likeness);
    return s;
}

cx_status cx_pairs_find(cx_audit *a, const cx_detail *detail, cx_error *err)
{
    int *first = cx_alloc((size_t)a->n, sizeof *first), n = 0;
    if (!first)
        return no_memory(a->n, err);
    couples c = { 0 };
    cx_status s = find_exact(a, first, &n, err);
    if (s == CX_OK)
        s = nominate(a, first, n, &c, err);
    if (s == CX_OK)
        s = decide(a, &c, detail, err);
    if (s == CX_OK && a->n_pairs > 1)
        qsort(a->pairs, (size_t)a->n_pairs, sizeof *a->pairs, by_films);
    free(c.at);
    free(first);
    return s;
}
