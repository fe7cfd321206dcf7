/* ranks.c - what the ranks of a run agree on, and what rank 0 hands to the others. Nothing here does anything in a run of one process. Depends on run.h. */
#include <stdlib.h>
#include <string.h>
#include "run.h"

enum { PIECE = 1 << 24 };        /* floats in one message at most */

cx_status cx_ranks_configured(cx_run *r, cx_error *err)
{
    cx_buf b = { 0 };
    if (!r->comm)
        return CX_OK;
    cx_run_identity(r->config, &b);
    cx_buf_printf(&b, "device: %s\nrun folder: %s/%s\n", r->config->run.device, r->config->run.dir, r->config->run.name);
    cx_status s = b.failed ? cx_fail(err, CX_E_MEMORY, "out of memory") : cx_comm_same(r->comm, "the configuration", b.data, err);
    cx_buf_free(&b);
    return s;
}

char *cx_ranks_device(const cx_run *r)
{
    const char *name = r->config->run.device;
    const bool next = r->comm && (!strcmp(name, "cuda") || !strcmp(name, "auto"));
    return next ? cx_sprintf("%s:%d", name, r->comm->local_rank) : cx_strdup(name);
}

cx_status cx_ranks_join(cx_run *r, cx_error *err)
{
    const bool must = !strcmp(r->config->run.comm, "nccl");
    cx_backend *b = r->backend;
    if (!r->comm)
        return CX_OK;
    TRY(cx_comm_same(r->comm, "the backend", b->name, err));
    if (!strcmp(r->config->run.comm, "mpi") || (!b->join && !must))
        return CX_OK;
    const cx_status s = b->join ? b->join(b, r->comm, err) : cx_fail(err, CX_E_UNSUPPORTED, "run.comm nccl: backend %s has none of it; want mpi", b->name);
    return s == CX_E_UNSUPPORTED && !must ? CX_OK : s;
}

static int64_t largest(const cx_graph *g)
{
    int64_t n = 1;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].kind != CX_ACT && g->values[v].kind != CX_INPUT && cx_elems(g->values[v].shape) > n)
            n = cx_elems(g->values[v].shape);
    return n;
}

static cx_status share_host(cx_run *r, float *host, int64_t n, cx_error *err)
{
    for (int64_t at = 0; at < n; at += PIECE)
        TRY(r->comm->broadcast(r->comm, host + at, (size_t)(n - at < PIECE ? n - at : PIECE) * sizeof *host, err));
    return CX_OK;
}

cx_status cx_ranks_share_values(cx_run *r, bool parameters, cx_error *err)
{
    const cx_graph *g = r->model.graph;
    cx_status s = CX_OK;
    if (!r->comm)
        return CX_OK;
    float *host = cx_alloc((size_t)largest(g), sizeof *host);
    if (!host)
        return cx_fail(err, CX_E_MEMORY, "out of memory to share weights");
    for (int v = 0; s == CX_OK && v < g->n_values; v++) {
        if (g->values[v].kind != CX_STATE && !(parameters && g->values[v].kind == CX_PARAM))
            continue;
        if ((s = cx_store_get(r->store, v, host, err)) == CX_OK && (s = share_host(r, host, cx_elems(g->values[v].shape), err)) == CX_OK)
            s = cx_store_set(r->store, v, host, err);
    }
    free(host);
    return s;
}

static cx_status share_moments(cx_run *r, cx_error *err)
{
    float *at[2];
    const int64_t n = cx_store_trainable(r->store);
    TRY(cx_plan_moments(r->train_plan, &at[0], &at[1], err));
    float *host = cx_alloc((size_t)n, sizeof *host);
    cx_status s = host ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory to share moments");
    for (int i = 0; s == CX_OK && i < 2 && at[i]; i++)
        if ((s = r->backend->download(r->backend, host, at[i], (size_t)n * sizeof *host, err)) == CX_OK && (s = share_host(r, host, n, err)) == CX_OK)
            s = r->backend->upload(r->backend, at[i], host, (size_t)n * sizeof *host, err);
    free(host);
    return s;
}

cx_status cx_ranks_share_start(cx_run *r, bool resumed, cx_error *err)
{
    char *own = r->state.history;
    if (!r->comm)
        return CX_OK;
    TRY(cx_ranks_share_values(r, true, err));
    if (!resumed)
        return CX_OK;
    const cx_status s = r->comm->broadcast(r->comm, &r->state, sizeof r->state, err);
    r->state.history = own;
    return s == CX_OK ? share_moments(r, err) : s;
}

cx_status cx_ranks_still_equal(cx_run *r, cx_error *err)
{
    char sha[65];
    if (!r->comm)
        return CX_OK;
    TRY(cx_ranks_share_values(r, false, err));
    TRY(cx_weights_sha256(r->store, sha, err));
    return cx_comm_same(r->comm, "SHA-256 of the weights, after an epoch,", sha, err);
}
