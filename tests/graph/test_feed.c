/* test_feed.c - what a feed leaves in a plan's input is what the host would have put there: floats on the CPU, films on the emulated GPU, where a batch may be
 * smaller than the plan's; and what it refuses. Steps that are fed are in test_stepper.c. */
#include "cxnet/data.h"
#include "cxnet/stepper.h"
#include "runs.h"

enum { FILMS = 5, SIDE = 8, PX = SIDE * SIDE, CHANNELS = 3 };

typedef struct { net n; cx_store *store; cx_plan *plan; uint8_t films[FILMS * CHANNELS * PX]; void *px; } room;

static void open_room(cx_backend *b, room *r)
{
    cx_rng rng = cx_rng_new(4, 4);
    *r = (room){ .n = checked(residual) };
    assert_cx_ok(cx_store_new(r->n.g, b, 3, &r->store, err));
    const cx_plan_opts o = training_opts(&r->n);
    assert_cx_ok(cx_plan_new(r->store, &o, &r->plan, err));
    for (int i = 0; i < FILMS * CHANNELS * PX; i++)
        r->films[i] = (uint8_t)cx_rng_below(&rng, 256);
    assert_cx_ok(b->alloc(b, sizeof r->films, &r->px, err));
    assert_cx_ok(b->upload(b, r->px, r->films, sizeof r->films, err));
}

static void close_room(room *r)
{
    r->store->b->release(r->store->b, r->px);
    cx_plan_free(r->plan);
    cx_store_free(r->store);
    cx_graph_free(r->n.g);
}

/* The batch of n films of a turn, in every form, and the whole input that it must become. */
typedef struct { cx_film_draw of_cache[BATCH], of_batch[BATCH]; uint8_t px[BATCH * CHANNELS * PX]; float want[BATCH * PX * CHANNELS]; } forms;

static void draw(const room *r, int planes, int turn, int n, forms *f)
{
    const int bytes = planes * PX;
    cx_normalise norm = CX_NORM_IMAGENET;
    const cx_augment a = { .rotate_deg = 30, .shift = 0.1, .brightness = 0.2, .contrast = 0.3 };
    memset(f, 0, sizeof *f);
    for (int i = 0; i < n; i++) {
        const int film = (2 * turn + 3 * i) % FILMS;
        f->of_cache[i] = f->of_batch[i] = cx_draw_film(r->films + film * bytes, SIDE, planes, &a, 8, turn, (uint64_t)i);
        f->of_cache[i].film = film;
        f->of_batch[i].film = i;
        memcpy(f->px + i * bytes, r->films + film * bytes, (size_t)bytes);
    }
    norm.planes = planes;
    cx_apply_draws(r->films, SIDE, f->of_cache, n, &norm, f->want);
}

static void feed(room *r, const cx_film_source *films)
{
    static const int sizes[] = { BATCH, 1, BATCH - 1, BATCH };
    cx_feed *feed;
    forms f;
    float got[BATCH * PX * CHANNELS];
    assert_cx_ok(cx_feed_new(r->plan, r->n.x, films, &feed, err));
    for (int turn = 0; turn < CX_COUNT(sizes); turn++) {
        poison(r->store);
        draw(r, films ? cx_planes_of(&films->norm) : 1, turn, sizes[turn], &f);
        const cx_step_batch batch = { .input = films ? NULL : f.want, .draw = films ? films->px ? f.of_cache : f.of_batch : NULL,
                                      .px = films && !films->px ? f.px : NULL };
        const size_t before = r->store->b->free_bytes ? r->store->b->free_bytes(r->store->b) : 0;
        assert_cx_ok(cx_feed_put(feed, &batch, sizes[turn], err));
        assert_int_equal(r->store->b->free_bytes ? r->store->b->free_bytes(r->store->b) : 0, before);
        assert_cx_ok(cx_plan_get(r->plan, r->n.x, got, err));
        assert_memory_equal(got, f.want, sizeof got);
    }
    cx_feed_free(feed);
}

static void inputs_are_the_hosts(void **state)
{
    (void)state;
    static const char *const names[] = { "cpu", "emu", "cuda" };
    for (int i = 0; i < 3; i++) {
        cx_backend *b = open_named(names[i], 1);
        room r;
        if (!b)
            continue;
        open_room(b, &r);
        feed(&r, NULL);
        if (b->films) {
            feed(&r, &(cx_film_source){ .px = r.px, .count = FILMS, .norm = CX_NORM_IMAGENET });
            feed(&r, &(cx_film_source){ .norm = CX_NORM_IMAGENET });
            cx_normalise planes = CX_NORM_IMAGENET;
            planes.planes = CHANNELS;
            feed(&r, &(cx_film_source){ .px = r.px, .count = FILMS, .norm = planes });
            feed(&r, &(cx_film_source){ .norm = planes });
        }
        close_room(&r);
        cx_backend_close(b);
    }
}

static void refuses_on_the_host(void **state)
{
    (void)state;
    cx_backend *b = open_named("cpu", 1);
    room r;
    cx_feed *f = NULL;
    cx_stepper *s = NULL;
    const cx_film_source films = { .norm = CX_NORM_IMAGENET };
    open_room(b, &r);
    assert_cx_fails(CX_E_UNSUPPORTED, "backend cpu makes no input out of films", cx_feed_new(r.plan, r.n.x, &films, &f, err));
    assert_cx_fails(CX_E_UNSUPPORTED, "hand it floats", cx_stepper_new(r.store, &(cx_stepper_opts){ .plan = r.plan, .input = r.n.x, .target = r.n.target,
                    .loss = r.n.loss, .films = &films, .ahead = 1 }, &s, err));
    assert_cx_fails(CX_E_USAGE, "no input of this plan", cx_feed_new(r.plan, r.n.loss, NULL, &f, err));
    assert_null(f);
    assert_cx_ok(cx_feed_new(r.plan, r.n.x, NULL, &f, err));
    assert_cx_fails(CX_E_USAGE, "brings no input", cx_feed_put(f, &(cx_step_batch){ 0 }, 1, err));
    assert_cx_fails(CX_E_USAGE, "0 films for an input of 3", cx_feed_put(f, &(cx_step_batch){ 0 }, 0, err));
    assert_cx_fails(CX_E_USAGE, "4 films for an input of 3", cx_feed_put(f, &(cx_step_batch){ 0 }, BATCH + 1, err));
    cx_feed_free(f);
    close_room(&r);
    cx_backend_close(b);
}

/* By a feed, and by a stepper, which looks at its batches the same way. */
static void refuse_batch(room *r, const cx_film_source *films, const char *why, const cx_step_batch *batch)
{
    cx_feed *f;
    cx_stepper *s;
    assert_cx_ok(cx_feed_new(r->plan, r->n.x, films, &f, err));
    assert_cx_ok(cx_stepper_new(r->store, &(cx_stepper_opts){ .plan = r->plan, .input = r->n.x, .target = r->n.target, .loss = r->n.loss, .films = films,
                                .ahead = 1 }, &s, err));
    assert_cx_fails(CX_E_USAGE, why, cx_feed_put(f, batch, BATCH, err));
    assert_cx_fails(CX_E_USAGE, why, cx_stepper_step(s, batch, 1, &(cx_update){ .lr = 0.1, .t = 1 }, err));
    cx_stepper_free(s);
    cx_feed_free(f);
}

static void refuses_on_a_device(void **state)
{
    (void)state;
    cx_backend *b = open_named("emu", 1);
    room r;
    cx_feed *f;
    cx_stepper *s;
    const float target[BATCH * 2] = { 0 };
    if (!b) {
        print_message("skipped: the emulated GPU is not built here\n");
        return;
    }
    open_room(b, &r);
    const cx_film_source none = { .px = r.px, .norm = CX_NORM_IMAGENET }, sent = { .norm = CX_NORM_IMAGENET },
        all = { .px = r.px, .count = FILMS, .norm = CX_NORM_IMAGENET };
    cx_film_source grey = { .norm = CX_NORM_IMAGENET };
    grey.norm.channels = 1;
    assert_cx_fails(CX_E_USAGE, "0 films on the device", cx_feed_new(r.plan, r.n.x, &none, &f, err));
    assert_cx_fails(CX_E_SHAPE, "films of 1 channels cannot become an input of (3,8,8,3)", cx_feed_new(r.plan, r.n.x, &grey, &f, err));
    assert_cx_fails(CX_E_SHAPE, "films of 1 channels", cx_stepper_new(r.store, &(cx_stepper_opts){ .plan = r.plan, .input = r.n.x, .target = r.n.target,
                    .loss = r.n.loss, .films = &grey, .ahead = 1 }, &s, err));
    grey = sent;
    grey.norm.planes = 2;
    assert_cx_fails(CX_E_SHAPE, "films of 2 planes cannot become 3 channels", cx_feed_new(r.plan, r.n.x, &grey, &f, err));
    cx_film_draw draws[BATCH] = { 0 };
    refuse_batch(&r, &all, "brings no draws", &(cx_step_batch){ .target = target });
    refuse_batch(&r, &sent, "brings no films", &(cx_step_batch){ .draw = draws, .target = target });
    refuse_batch(&r, NULL, "brings no input", &(cx_step_batch){ .draw = draws, .px = r.films, .target = target });
    draws[2].film = FILMS;
    refuse_batch(&r, &all, "draw 2 of a batch is of film 5; there are films 0 to 4", &(cx_step_batch){ .draw = draws, .target = target });
    draws[2].film = BATCH;
    refuse_batch(&r, &sent, "draw 2 of a batch is of film 3; there are films 0 to 2", &(cx_step_batch){ .draw = draws, .px = r.films, .target = target });
    draws[2].film = -1;
    refuse_batch(&r, &all, "of film -1", &(cx_step_batch){ .draw = draws, .target = target });
    close_room(&r);
    cx_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_are_the_hosts),
        cmocka_unit_test(refuses_on_the_host),
        cmocka_unit_test(refuses_on_a_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
