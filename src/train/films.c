/* films.c - where a run's films lie while it trains: all on the device, sent to it with each batch, or on the host, which then makes the network's input. The
 * bits are the same, so what fits decides. Depends on run.h. */
#include <stdint.h>
#include <string.h>
#include "run.h"

/* What stays free on the device beside films that need not lie there: captured steps, kernels that are loaded when they are first launched, a library's handle,
 * the little that steppers and feeds ask for. */
static const size_t MARGIN_BYTES = (size_t)256 << 20;

static bool asked(const cx_run *r, const char *what) { return !strcmp(r->config->run.films, what); }

cx_status cx_run_films_possible(const cx_run *r, cx_error *err)
{
    if (r->backend->films || asked(r, "auto") || asked(r, "host"))
        return CX_OK;
    return cx_fail(err, CX_E_CONFIG, "run.films: backend %s is the host, which makes the network's input itself; want auto or host, got %s", r->backend->name,
                   r->config->run.films);
}

static cx_status upload(cx_run *r, size_t bytes, cx_error *err)
{
    cx_backend *b = r->backend;
    void *px;
    TRY(b->alloc(b, bytes, &px, err));
    const cx_status s = b->upload(b, px, cx_cache_film(r->cache, 0), bytes, err);
    if (s != CX_OK) {
        b->release(b, px);
        return s;
    }
    r->source.px = px;
    r->source.count = cx_cache_count(r->cache);
    return CX_OK;
}

static cx_status lay_on_device(cx_run *r, size_t bytes, cx_error *err)
{
    cx_backend *b = r->backend;
    const size_t room = b->free_bytes ? b->free_bytes(b) : SIZE_MAX;
    char films[16], there[16], margin[16];
    if (room >= MARGIN_BYTES && room - MARGIN_BYTES >= bytes)
        return upload(r, bytes, err);
    cx_format_bytes(bytes, films);
    cx_format_bytes(room, there);
    cx_format_bytes(MARGIN_BYTES, margin);
    return cx_fail(err, CX_E_MEMORY, "%s of films do not fit beside the network: %s are free, and %s must stay so", films, there, margin);
}

cx_status cx_run_films_open(cx_run *r, cx_error *err)
{
    const int side = cx_cache_side(r->cache), count = cx_cache_count(r->cache);
    const size_t bytes = (size_t)count * (size_t)cx_cache_planes(r->cache) * (size_t)side * (size_t)side;
    cx_error why = { 0 };
    char text[16];
    r->source = (cx_film_source){ .norm = r->norm };
    r->give = CX_GIVE_INPUT;
    if (asked(r, "host") || !r->backend->films) {
        cx_run_log(r, "films: the host makes the network's input");
        return CX_OK;
    }
    const cx_status s = asked(r, "batch") ? CX_OK : lay_on_device(r, bytes, &why);
    if (s == CX_E_MEMORY && asked(r, "device"))
        return cx_fail(err, s, "run.films: %s; want auto or batch", why.text);
    if (s != CX_OK && s != CX_E_MEMORY)
        return cx_fail(err, s, "run.films: %s", why.text);
    r->give = r->source.px ? CX_GIVE_DRAWS : CX_GIVE_FILMS;
    cx_format_bytes(bytes, text);
    if (r->source.px)
        cx_run_log(r, "films: all %d lie on the device, %s", count, text);
    else
        cx_run_log(r, "films: sent with each batch%s%s", s == CX_OK ? "" : "; ", why.text);
    return CX_OK;
}

void cx_run_films_close(cx_run *r)
{
    if (r->source.px)
        r->backend->release(r->backend, (void *)(uintptr_t)r->source.px);
    r->source.px = NULL;
}

const cx_film_source *cx_run_source(const cx_run *r) { return r->give == CX_GIVE_INPUT ? NULL : &r->source; }

cx_step_batch cx_run_batch(const cx_batch *b) { return (cx_step_batch){ .input = b->x, .draw = b->draw, .px = b->px, .target = b->t }; }
