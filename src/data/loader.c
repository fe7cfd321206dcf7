/* loader.c - batches of augmented films, prepared ahead by worker threads and delivered in order. Depends on data.h, pthreads.
 *
 * A batch is a pure function of (options, epoch, its number), so who prepares it, and when, does not matter. Slots form a ring: batch k of an epoch lives in
 * slot k % slots. Everything shared is guarded by one mutex; a slot's contents belong to the worker between claiming and finishing it, then to the consumer. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/data.h"

typedef struct { cx_batch b; int number; bool ready; } slot;

struct cx_loader {
    cx_loader_opts o;
    cx_augment augment;
    int *index, *order;           /* films that take part; the same in this epoch's order */
    slot *slots; int n_slots;
    int epoch, batches;
    pthread_mutex_t lock;
    pthread_cond_t work, done;    /* something to claim, or the end; a batch is ready, or a worker came to rest */
    pthread_t *threads; int n_threads;
    bool lock_made;
    /* under the lock */
    int claimed;                  /* next batch number that nobody has claimed */
    int taken;                    /* batches handed out; the last of them is still in the caller's hands */
    int busy;                     /* workers filling a slot */
    bool pause, quit;
};

/* Where a part of a batch of n films begins. */
static int part_at(const cx_loader_opts *o, int n, int part) { return o->parts ? (int)((int64_t)n * part / o->parts) : part ? n : 0; }

/* The mask of a film, turned and shifted as the film is, as a map of 0 and 1. */
static void fill_mask(const cx_loader_opts *o, int film, cx_film_draw draw, float *t)
{
    static const cx_normalise unit = { .channels = 1, .std = { 1 } };
    const int side = cx_cache_side(o->masks);
    draw.gain = 1;
    draw.lift = 0;
    draw.film = 0;
    cx_apply_draws(cx_cache_film(o->masks, film), side, &draw, 1, &unit, t);
    for (int i = 0; i < side * side; i++)
        t[i] = t[i] >= 0.5f;
}

static void fill(const cx_loader *l, slot *s, int number)
{
    const cx_loader_opts *o = &l->o;
    int side = cx_cache_side(o->cache), first = number * o->batch, left = o->n - first, all = left < o->batch ? left : o->batch;
    const int planes = cx_cache_planes(o->cache);
    const size_t film_px = (size_t)side * (size_t)side, film_bytes = film_px * (size_t)planes;
    cx_batch *b = &s->b;
    first += part_at(o, all, o->part);
    b->n = part_at(o, all, o->part + 1) - part_at(o, all, o->part);
    for (int i = 0; i < b->n; i++) {
        int film = l->order[first + i];
        const uint8_t *px = cx_cache_film(o->cache, film);
        cx_film_draw draw = cx_draw_film(px, side, planes, o->augment, o->seed, l->epoch, (uint64_t)film);
        b->film[i] = film;
        if (o->give == CX_GIVE_INPUT) {
            cx_apply_draws(px, side, &draw, 1, &o->norm, b->x + (size_t)i * film_px * (size_t)o->norm.channels);
        } else {
            draw.film = o->give == CX_GIVE_DRAWS ? film : i;
            b->draw[i] = draw;
        }
        if (o->give == CX_GIVE_FILMS)
            memcpy(b->px + (size_t)i * film_bytes, px, film_bytes);
        if (o->masks)
            fill_mask(o, film, draw, b->t + (size_t)i * film_px);
        else if (o->n_targets)
            memcpy(b->t + (size_t)i * (size_t)o->n_targets, o->targets + (size_t)film * (size_t)o->n_targets, (size_t)o->n_targets * sizeof(float));
    }
}

/* Batches before taken - 1 are out of the caller's hands, so their slots are free again. */
static bool can_claim(const cx_loader *l)
{
    return !l->pause && l->claimed < l->batches && l->claimed - l->n_slots < l->taken - 1;
}

static void *worker(void *self)
{
    cx_loader *l = self;
    pthread_mutex_lock(&l->lock);
    while (!l->quit) {
        if (!can_claim(l)) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        int number = l->claimed++;
        slot *s = &l->slots[number % l->n_slots];
        s->number = number;
        s->ready = false;
        l->busy++;
        pthread_mutex_unlock(&l->lock);
        fill(l, s, number);
        pthread_mutex_lock(&l->lock);
        s->ready = true;
        l->busy--;
        pthread_cond_broadcast(&l->done);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static cx_status check(const cx_loader_opts *o, cx_error *err)
{
    bool channels = o->give != CX_GIVE_INPUT || o->norm.channels == 1 || o->norm.channels == 3;
    if (o->batch < 1 || o->n < 0 || o->workers < 0 || o->n_targets < 0 || (!o->masks && o->n_targets && !o->targets) || !channels)
        return cx_fail(err, CX_E_USAGE, "loader: batch %d, %d films, %d workers, %d targets, %d channels; wanted batch >= 1, 1 or 3 channels, none negative",
                       o->batch, o->n, o->workers, o->n_targets, o->norm.channels);
    if (o->give == CX_GIVE_INPUT && cx_planes_of(&o->norm) != cx_cache_planes(o->cache))
        return cx_fail(err, CX_E_USAGE, "loader: films of %d planes to be normalised as films of %d", cx_cache_planes(o->cache), cx_planes_of(&o->norm));
    if (o->parts < 0 || o->part < 0 || o->part >= (o->parts ? o->parts : 1))
        return cx_fail(err, CX_E_USAGE, "loader: part %d of %d; wanted 0 to parts - 1", o->part, o->parts);
    const int side = cx_cache_side(o->cache);
    if (o->masks && (cx_cache_side(o->masks) != side || cx_cache_count(o->masks) != cx_cache_count(o->cache)))
        return cx_fail(err, CX_E_USAGE, "loader: %d masks of %d px for %d films of %d px; wanted a mask a film, of its side", cx_cache_count(o->masks),
                       cx_cache_side(o->masks), cx_cache_count(o->cache), side);
    for (int i = 0; i < o->n; i++)
        if (o->index[i] < 0 || o->index[i] >= cx_cache_count(o->cache) || !cx_cache_ok(o->cache, o->index[i]) ||
            (o->masks && !cx_cache_ok(o->masks, o->index[i])))
            return cx_fail(err, CX_E_USAGE, "loader: film %d of the cache, or its mask, is not there or not decoded; leave it out (cx_cache_ok)", o->index[i]);
    return CX_OK;
}

static cx_status prepare(cx_loader *l, cx_error *err)
{
    const cx_loader_opts *o = &l->o;
    size_t n = (size_t)o->n, batch = (size_t)(o->parts ? (o->batch + o->parts - 1) / o->parts : o->batch), side = (size_t)cx_cache_side(o->cache);
    l->batches = (o->n + o->batch - 1) / o->batch;
    l->n_slots = o->workers ? o->workers + 2 : 1;
    l->index = cx_alloc(n, sizeof(int));
    l->order = cx_alloc(n, sizeof(int));
    l->slots = cx_alloc((size_t)l->n_slots, sizeof *l->slots);
    l->threads = cx_alloc((size_t)o->workers, sizeof *l->threads);
    bool ok = l->index && l->order && l->slots && l->threads;
    for (int i = 0; ok && i < l->n_slots; i++) {
        cx_batch *b = &l->slots[i].b;
        b->t = cx_alloc_aligned(batch, (size_t)o->n_targets * sizeof(float) + 1);
        b->film = cx_alloc(batch, sizeof(int));
        b->x = o->give == CX_GIVE_INPUT ? cx_alloc_aligned(batch, side * side * (size_t)o->norm.channels * sizeof(float)) : NULL;
        b->px = o->give == CX_GIVE_FILMS ? cx_alloc_aligned(batch, side * side * (size_t)cx_cache_planes(o->cache)) : NULL;
        b->draw = o->give != CX_GIVE_INPUT ? cx_alloc_aligned(batch, sizeof *b->draw) : NULL;
        ok = b->t && b->film && (b->x || o->give != CX_GIVE_INPUT) && (b->px || o->give != CX_GIVE_FILMS) && (b->draw || o->give == CX_GIVE_INPUT);
    }
    if (!ok)
        return cx_fail(err, CX_E_MEMORY, "loader: no memory for %d batches of %d films of %zu px a side; use a smaller batch or fewer workers", l->n_slots,
                       (int)batch, side);
    if (n)
        memcpy(l->index, o->index, n * sizeof(int));
    return CX_OK;
}

static cx_status begin_threads(cx_loader *l, cx_error *err)
{
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->done, NULL);
    l->lock_made = true;
    l->pause = true;              /* until the first start */
    for (int i = 0; i < l->o.workers; i++) {
        if (pthread_create(&l->threads[i], NULL, worker, l) != 0)
            return cx_fail(err, CX_E_MEMORY, "loader: cannot start thread %d of %d; use fewer workers (run.workers)", i + 1, l->o.workers);
        l->n_threads++;
    }
    return CX_OK;
}

cx_status cx_loader_new(const cx_loader_opts *o, cx_loader **out, cx_error *err)
{
    *out = NULL;
    TRY(check(o, err));
    cx_loader *l = cx_alloc(1, sizeof *l);
    if (!l)
        return cx_fail(err, CX_E_MEMORY, "loader: no memory");
    l->o = *o;
    if (o->masks)
        l->o.n_targets = cx_cache_side(o->masks) * cx_cache_side(o->masks);
    if (o->augment) {
        l->augment = *o->augment;
        l->o.augment = &l->augment;
    }
    cx_status s = prepare(l, err);
    l->o.index = l->index;
    if (s == CX_OK)
        s = begin_threads(l, err);
    if (s != CX_OK) {
        cx_loader_free(l);
        return s;
    }
    *out = l;
    return CX_OK;
}

void cx_loader_free(cx_loader *l)
{
    if (!l)
        return;
    if (l->lock_made) {
        pthread_mutex_lock(&l->lock);
        l->quit = true;
        pthread_cond_broadcast(&l->work);
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < l->n_threads; i++)
            pthread_join(l->threads[i], NULL);
        pthread_cond_destroy(&l->work);
        pthread_cond_destroy(&l->done);
        pthread_mutex_destroy(&l->lock);
    }
    for (int i = 0; l->slots && i < l->n_slots; i++) {
        free(l->slots[i].b.x);
        free(l->slots[i].b.t);
        free(l->slots[i].b.film);
        free(l->slots[i].b.px);
        free(l->slots[i].b.draw);
    }
    free(l->slots);
    free(l->threads);
    free(l->index);
    free(l->order);
    free(l);
}

int cx_loader_batches(const cx_loader *l)
{
    return l->batches;
}

cx_status cx_loader_start(cx_loader *l, int epoch, int first, cx_error *err)
{
    if (epoch < 0 || first < 0 || first > l->batches)
        return cx_fail(err, CX_E_USAGE, "loader: epoch %d from batch %d; there are %d batches in an epoch", epoch, first, l->batches);
    pthread_mutex_lock(&l->lock);
    l->pause = true;
    while (l->busy)
        pthread_cond_wait(&l->done, &l->lock);
    l->epoch = epoch;
    if (l->o.n)
        memcpy(l->order, l->index, (size_t)l->o.n * sizeof(int));
    if (l->o.shuffle) {
        cx_rng r = cx_rng_new(l->o.seed, cx_hash("order") + (uint64_t)epoch);
        cx_rng_shuffle(&r, l->order, l->o.n);
    }
    for (int i = 0; i < l->n_slots; i++) {
        l->slots[i].ready = false;
        l->slots[i].number = -1;
    }
    l->claimed = first;
    l->taken = first;
    l->pause = false;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return CX_OK;
}

cx_status cx_loader_next(cx_loader *l, cx_batch *b, cx_error *err)
{
    *b = (cx_batch) { 0 };
    if (l->pause)                 /* only this thread changes it, and leaves it set only before the first start */
        TRY(cx_loader_start(l, 0, 0, err));
    pthread_mutex_lock(&l->lock);
    int number = l->taken;
    if (number >= l->batches) {
        pthread_mutex_unlock(&l->lock);
        return CX_OK;
    }
    slot *s = &l->slots[number % l->n_slots];
    l->taken++;
    if (l->n_threads == 0) {
        fill(l, s, number);
    } else {
        pthread_cond_broadcast(&l->work);
        while (!s->ready || s->number != number)
            pthread_cond_wait(&l->done, &l->lock);
    }
    *b = s->b;
    pthread_mutex_unlock(&l->lock);
    return CX_OK;
}
