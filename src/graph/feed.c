/* feed.c - batches into an input of a plan: floats as they are, films by what a device makes of their bytes. Depends on stepper.h. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "cxnet/stepper.h"
#include "plan.h"
#include "store.h"

struct cx_feed {
    cx_plan *plan;
    cx_backend *b;
    int input;
    bool from_films;
    cx_film_source films;
    void *draw, *px;               /* on the device: of a batch; NULL where batches bring none */
};

cx_status cx_films_check(cx_backend *b, const cx_film_source *films, cx_tensor x, cx_error *err)
{
    if (!films)
        return CX_OK;
    if (!b->films)
        return cx_fail(err, CX_E_UNSUPPORTED, "backend %s makes no input out of films; hand it floats (CX_GIVE_INPUT)", b->name);
    if (x.s.h != x.s.w || x.s.c != films->norm.channels || x.ld != x.s.c)
        return cx_fail(err, CX_E_SHAPE, "films of %d channels cannot become an input of (%lld,%lld,%lld,%lld); want (batch, side, side, channels)",
                       films->norm.channels, (long long)x.s.n, (long long)x.s.h, (long long)x.s.w, (long long)x.s.c);
    if (cx_planes_of(&films->norm) != 1 && cx_planes_of(&films->norm) != films->norm.channels)
        return cx_fail(err, CX_E_SHAPE, "films of %d planes cannot become %d channels; want 1 plane, or one a channel", cx_planes_of(&films->norm),
                       films->norm.channels);
    return films->px && films->count < 1 ? cx_fail(err, CX_E_USAGE, "%d films on the device; want 1 at least", films->count) : CX_OK;
}

cx_status cx_batch_check(const cx_film_source *films, const cx_step_batch *batch, int n, cx_error *err)
{
    const int count = films && films->px ? films->count : n;
    if (films ? !batch->draw || (!films->px && !batch->px) : !batch->input)
        return cx_fail(err, CX_E_USAGE, "a batch brings no %s", !films ? "input" : !batch->draw ? "draws" : "films");
    for (int i = 0; films && i < n; i++)
        if (batch->draw[i].film < 0 || batch->draw[i].film >= count)
            return cx_fail(err, CX_E_USAGE, "draw %d of a batch is of film %d; there are films 0 to %d", i, batch->draw[i].film, count - 1);
    return CX_OK;
}

static cx_status open_feed(cx_feed *f, cx_error *err)
{
    const cx_film_source *films = f->from_films ? &f->films : NULL;
    const cx_tensor x = cx_plan_value(f->plan, f->input);
    if (!x.p || f->plan->g->values[f->input].kind != CX_INPUT)
        return cx_fail(err, CX_E_USAGE, "value %d is no input of this plan", f->input);
    TRY(cx_films_check(f->b, films, x, err));
    const size_t draw_bytes = cx_batch_draw_bytes(films, x.s.n), px_bytes = cx_batch_px_bytes(films, x.s.n, x.s.h);
    if (draw_bytes)
        TRY(f->b->alloc(f->b, draw_bytes, &f->draw, err));
    return px_bytes ? f->b->alloc(f->b, px_bytes, &f->px, err) : CX_OK;
}

cx_status cx_feed_new(cx_plan *p, int input, const cx_film_source *films, cx_feed **out, cx_error *err)
{
    *out = NULL;
    cx_feed *f = cx_alloc(1, sizeof *f);
    if (!f)
        return cx_fail(err, CX_E_MEMORY, "no memory for a feed");
    *f = (cx_feed){ .plan = p, .b = p->store->b, .input = input, .from_films = films != NULL };
    if (films)
        f->films = *films;
    const cx_status s = open_feed(f, err);
    if (s != CX_OK) {
        cx_feed_free(f);
        return s;
    }
    *out = f;
    return CX_OK;
}

void cx_feed_free(cx_feed *f)
{
    if (!f)
        return;
    if (f->draw)
        f->b->release(f->b, f->draw);
    if (f->px)
        f->b->release(f->b, f->px);
    free(f);
}

/* x: of n films. */
static cx_status put_films(cx_feed *f, const cx_step_batch *batch, const cx_tensor *x, cx_error *err)
{
    cx_backend *b = f->b;
    TRY(b->upload(b, f->draw, batch->draw, cx_batch_draw_bytes(&f->films, x->s.n), err));
    if (f->px)
        TRY(b->upload(b, f->px, batch->px, cx_batch_px_bytes(&f->films, x->s.n, x->s.h), err));
    return b->films(b, f->px ? f->px : f->films.px, f->draw, &f->films.norm, x, err);
}

cx_status cx_feed_put(cx_feed *f, const cx_step_batch *batch, int n, cx_error *err)
{
    cx_tensor x = cx_plan_value(f->plan, f->input);
    const int64_t films = x.s.n;
    if (!x.p)
        return cx_fail(err, CX_E_MEMORY, "the plan's memory was lost when a larger plan did not fit; free both plans and ask for a smaller batch");
    if (n < 1 || n > films)
        return cx_fail(err, CX_E_USAGE, "%d films for an input of %lld", n, (long long)films);
    TRY(cx_batch_check(f->from_films ? &f->films : NULL, batch, n, err));
    const size_t film_bytes = (size_t)(x.s.h * x.s.w * x.s.c) * cx_dtype_bytes(x.type);
    x.s.n = n;
    TRY(f->from_films ? put_films(f, batch, &x, err) : f->b->upload(f->b, x.p, batch->input, (size_t)n * film_bytes, err));
    return n < films ? f->b->zero(f->b, (char *)x.p + (size_t)n * film_bytes, (size_t)(films - n) * film_bytes, err) : CX_OK;
}
