/* checkpoint.c - a run's state as a safetensors file, and back: with "last" a run goes on bit for bit. Depends on run.h. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

void cx_run_identity(const cx_config *c, cx_buf *out)
{
    cx_config plain = *c;
    char none[1] = "";
    plain.run.name = plain.run.dir = plain.run.device = plain.run.comm = plain.run.films = plain.data.cache = plain.preprocess.lungs = plain.plan.memory = none;
    plain.run.threads = plain.run.workers = plain.run.comm_timeout_s = plain.run.checkpoint_steps = plain.run.bootstrap = plain.run.explain_films = 0;
    cx_config_yaml(&plain, out);
}

void cx_run_data_sha256(const cx_run *r, char out[65])
{
    const cx_cohort *h = &r->cohort;
    cx_sha256 sha;
    cx_sha256_init(&sha);
    for (int i = 0; i < h->n; i++) {
        const char *path = h->manifest.samples[h->sample[i]].path;
        uint64_t facts[] = { (uint64_t)h->split[i], cx_cache_ok(r->cache, i), cx_cache_sum(r->cache, i) };
        cx_sha256_update(&sha, path, strlen(path) + 1);
        cx_sha256_update(&sha, facts, sizeof facts);
        if (r->masks)
            cx_sha256_update(&sha, &(uint64_t){ cx_cache_sum(r->masks, i) }, sizeof(uint64_t));
        cx_sha256_update(&sha, h->target + (size_t)i * (size_t)h->n_targets, (size_t)h->n_targets * sizeof(float));
    }
    cx_sha256_hex(&sha, out);
}

/* The state as text. %a keeps every bit of a double. */
static char *state_text(const cx_state *s)
{
    return cx_sprintf("epoch %d step %d updates %" PRId64 " loss_sum %a best %a best_epoch %d since_best %d "
                      "plateau_best %a plateau_since %d lr_scale %a trained %d",
                      s->epoch, s->step, s->updates, s->loss_sum, s->best, s->best_epoch, s->since_best, s->plateau_best, s->plateau_since,
                          s->lr_scale, s->trained);
}

static bool state_parse(const char *text, cx_state *s)
{
    int trained, n = sscanf(text, "epoch %d step %d updates %" SCNd64 " loss_sum %la best %la best_epoch %d since_best %d "
                            "plateau_best %la plateau_since %d lr_scale %la trained %d",
                            &s->epoch, &s->step, &s->updates, &s->loss_sum, &s->best, &s->best_epoch, &s->since_best, &s->plateau_best,
                                &s->plateau_since, &s->lr_scale, &trained);
    s->trained = n == 11 && trained;
    return n == 11 && s->epoch >= 0 && s->step >= 0 && s->updates >= 0;
}

/* Host copies of the flat moments, as many as the optimiser has; rows: "optim.m" and, for Adam, "optim.v". */
static cx_status moments_out(cx_run *r, cx_st_tensor row[2], int *rows, float *host[2], cx_error *err)
{
    float *from[2];
    int64_t n = cx_store_trainable(r->store);
    TRY(cx_plan_moments(r->train_plan, &from[0], &from[1], err));
    for (int i = 0; i < 2 && from[i]; i++) {
        host[i] = cx_alloc((size_t)n, sizeof **host);
        if (!host[i])
            return cx_fail(err, CX_E_MEMORY, "out of memory for a checkpoint");
        TRY(r->backend->download(r->backend, host[i], from[i], (size_t)n * sizeof(float), err));
        row[i] = (cx_st_tensor){ .name = i ? "optim.v" : "optim.m", .dtype = CX_F32, .nd = 1, .d = { n }, .data = host[i],
            .bytes = (size_t)n * sizeof(float) };
        *rows = i + 1;
    }
    return CX_OK;
}

cx_status cx_checkpoint_save(cx_run *r, const char *name, bool moments, cx_error *err)
{
    if (cx_comm_rank(r->comm) > 0)
        return CX_OK;
    cx_st_tensor row[2];
    int rows = 0;
    float *host[2] = { NULL, NULL };
    cx_buf config = { 0 };
    cx_weights_card card;
    TRY(cx_card_of(r->config, &card, err));
    char *file = cx_sprintf("%s/checkpoints/%s.safetensors", r->dir, name), *state = state_text(&r->state);
    cx_run_identity(r->config, &config);
    cx_status s = file && state && !config.failed ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory for a checkpoint");
    if (s == CX_OK && moments)
        s = moments_out(r, row, &rows, host, err);
    if (s == CX_OK) {
        cx_st_meta meta[CX_CARD_META + 6] = { { "format", "cxnet checkpoint 1" }, { "version", CX_VERSION }, { "config", config.data },
            { "data", r->data_sha }, { "state", state }, { "history", r->state.history } };
        s = cx_weights_card_write(&card, meta + 6, err);
        if (s == CX_OK)
            s = cx_weights_save(r->store, file, row, rows, meta, CX_COUNT(meta), err);
        cx_weights_card_unwrite(meta + 6);
    }
    cx_weights_card_free(&card);
    free(host[0]);
    free(host[1]);
    free(file);
    free(state);
    cx_buf_free(&config);
    return s;
}

/* The first line in which two resolved configurations differ, with the section it stands in. */
static cx_status compare(const cx_run *r, const char *file, const char *old, cx_error *err)
{
    cx_buf now = { 0 };
    cx_status s = CX_OK;
    char section[64] = "";
    cx_run_identity(r->config, &now);
    for (const char *a = old, *b = now.data; s == CX_OK && (*a || *b);) {
        int na = (int)strcspn(a, "\n"), nb = (int)strcspn(b, "\n");
        if (na != nb || memcmp(a, b, (size_t)na))
            s = cx_fail(err, CX_E_CONFIG, "%s was made with another configuration: %s \"%.*s\" there, \"%.*s\" now; "
                        "restore the setting, choose another run.name, or start over with --resume never",
                        file, section, na, a, nb, b);
        if (na > 0 && *a != ' ')
            snprintf(section, sizeof section, "%.*s", na < 60 ? na : 60, a);
        a += na + (a[na] == '\n');
        b += nb + (b[nb] == '\n');
    }
    cx_buf_free(&now);
    return s;
}

static cx_status moments_in(cx_run *r, const cx_st_file *f, const char *file, cx_error *err)
{
    float *to[2];
    int64_t n = cx_store_trainable(r->store);
    TRY(cx_plan_moments(r->train_plan, &to[0], &to[1], err));
    for (int i = 0; i < 2 && to[i]; i++) {
        const cx_st_tensor *t = cx_st_find(f, i ? "optim.v" : "optim.m");
        if (!t || t->dtype != CX_F32 || t->nd != 1 || t->d[0] != n)
            return cx_fail(err, CX_E_DATA, "%s: optim.%c is missing or has another size than this network (%" PRId64 " floats)", file, i ? 'v' : 'm', n);
        TRY(r->backend->upload(r->backend, to[i], t->data, t->bytes, err));
    }
    return CX_OK;
}

static cx_status restore(cx_run *r, const cx_st_file *f, const char *file, cx_error *err)
{
    const char *format = cx_st_meta_get(f, "format"), *config = cx_st_meta_get(f, "config");
    const char *state = cx_st_meta_get(f, "state"), *history = cx_st_meta_get(f, "history"), *data = cx_st_meta_get(f, "data");
    cx_state s = { 0 };
    if (!format || strcmp(format, "cxnet checkpoint 1") || !config || !state || !history || !data)
        return cx_fail(err, CX_E_DATA, "%s: not a checkpoint of a training run (no \"cxnet checkpoint 1\" in its metadata)", file);
    TRY(compare(r, file, config, err));
    if (strcmp(data, r->data_sha))           /* a film that was tested would be trained on, or the reverse */
        return cx_fail(err, CX_E_CONFIG, "%s was made with other films, labels or another split than %s gives now; "
                       "restore them, choose another run.name, or start over with --resume never", file, r->cohort.manifest.path);
    if (!state_parse(state, &s))
        return cx_fail(err, CX_E_DATA, "%s: the training state in its metadata cannot be read: \"%.100s\"", file, state);
    cx_status loaded = cx_weights_load(r->store, f, err);
    if (loaded != CX_OK)
        return cx_prefix(err, loaded, "%s", file);
    TRY(moments_in(r, f, file, err));
    s.history = cx_strdup(history);
    if (!s.history)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    free(r->state.history);
    r->state = s;
    return CX_OK;
}

cx_status cx_checkpoint_load(cx_run *r, cx_error *err)
{
    cx_st_file f;
    char *file = cx_run_path(r, "checkpoints/last.safetensors");
    if (!file)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    cx_status s = cx_st_read(file, &f, err);
    if (s == CX_OK) {
        s = restore(r, &f, file, err);
        cx_st_free(&f);
    }
    free(file);
    return s;
}
