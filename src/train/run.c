/* run.c - one training from configuration to tested network: opens its rooms, walks its epochs, leaves its folder. Depends on run.h. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "run.h"

char *cx_run_path(const cx_run *r, const char *name) { return cx_path_join(r->dir, name); }

void cx_run_log(cx_run *r, const char *fmt, ...)
{
    va_list ap;
    if (!r->log)
        return;
    va_start(ap, fmt);
    vfprintf(r->log, fmt, ap);
    va_end(ap);
    fputc('\n', r->log);
    fflush(r->log);
}

static bool stopped(const cx_run *r) { return r->opts->stop && *r->opts->stop; }

/* ---- opening --------------------------------------------------------------------------------------------------- */

/* An earlier run that is not to be continued keeps its files under another name: nothing is lost by starting over. */
static cx_status move_aside(const char *dir, cx_error *err)
{
    for (int i = 1; i < 10000; i++) {
        char *to = cx_sprintf("%s.old-%d", dir, i);
        bool taken = !to || cx_file_exists(to) || cx_is_dir(to);
        int rc = taken ? 0 : rename(dir, to), e = errno;
        free(to);
        if (!taken)
            return rc ? cx_fail(err, CX_E_CREATE, "%s: cannot be moved aside (%s)", dir, strerror(e)) : CX_OK;
    }
    return cx_fail(err, CX_E_CREATE, "%s: too many earlier runs beside it; remove some", dir);
}

static bool is_hierarchy(const cx_config *c) { return !strcmp(c->data.task, "hierarchical"); }

/* Makes the folder and opens its log, locked until this run or its process ends: two runs that write the same checkpoints would end as a mixture. */
static cx_status open_log(cx_run *r, cx_error *err)
{
    char *log = cx_run_path(r, "log.txt"), *sub = cx_run_path(r, is_hierarchy(r->config) ? "" : "checkpoints");
    cx_status s = log && sub ? cx_mkdirs(sub, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && !(r->log = fopen(log, "ae")))
        s = cx_fail(err, CX_E_CREATE, "%s: %s", log, strerror(errno));
    if (s == CX_OK && flock(fileno(r->log), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        s = cx_fail(err, CX_E_CREATE, "%s: another run is at work in this folder; let it end, or choose another run.name", r->dir);
        fclose(r->log);
        r->log = NULL;
    }
    free(log);
    free(sub);
    return s;
}

/* Makes the run's folder and says whether there is a checkpoint to continue from; of a hierarchy, its first network's. */
static cx_status make_dir(cx_run *r, bool *resume, cx_error *err)
{
    const bool two = is_hierarchy(r->config);
    char *one = cx_run_path(r, "checkpoints/last.safetensors"), *staged = cx_run_path(r, "stage1/checkpoints/last.safetensors");
    const char *last = two ? staged : one, *other = two ? one : staged;
    cx_status s = one && staged ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK && r->opts->resume == CX_RESUME_MUST && !cx_file_exists(last))
        s = cx_fail(err, CX_E_NOINPUT, "%s: no checkpoint to resume from; run without --resume must to start", last);
    if (s == CX_OK && r->opts->resume != CX_RESUME_NEVER && cx_file_exists(other))
        s = cx_fail(err, CX_E_CONFIG, "%s: the folder has %s; choose another run.name, or start over with --resume never", r->dir,
                    two ? "a run of one network, and this is a hierarchy" : "a hierarchy, and this is a run of one network");
    if (s == CX_OK)
        s = open_log(r, err);
    bool there = s == CX_OK && (cx_file_exists(last) || cx_file_exists(other));
    *resume = there && r->opts->resume != CX_RESUME_NEVER;
    if (s == CX_OK && there && !*resume && (s = move_aside(r->dir, err)) == CX_OK) {
        fclose(r->log);
        r->log = NULL;
        s = open_log(r, err);
    }
    if (s == CX_OK && !*resume && ftruncate(fileno(r->log), 0) != 0)
        s = cx_fail(err, CX_E_IO, "%s/log.txt: %s", r->dir, strerror(errno));
    free(one);
    free(staged);
    return s;
}

/* Folder, lock and log are rank 0's; the others learn what it has found. */
cx_status cx_run_open_dir(cx_run *r, bool *resume, cx_error *err)
{
    const cx_config *c = r->config;
    *resume = false;
    r->dir = cx_path_join(c->run.dir, *c->run.name ? c->run.name : "run");
    if (!r->dir)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    if (cx_comm_rank(r->comm) == 0)
        TRY(make_dir(r, resume, err));
    return r->comm ? r->comm->broadcast(r->comm, resume, sizeof *resume, err) : CX_OK;
}

/* Rank 0 decodes what is not decoded yet, then the others read. */
static cx_status open_cache(cx_run *r, cx_buf *bad, cx_buf *notes, cx_error *err)
{
    const cx_config *c = r->config;
    const cx_cohort *h = &r->cohort;
    if (cx_comm_rank(r->comm) > 0) {
        const double patience = r->comm->patience_s;
        r->comm->patience_s = INFINITY;                 /* rank 0 may decode for hours; that it is gone would show */
        const cx_status decoded = cx_comm_barrier(r->comm, err);
        r->comm->patience_s = patience;
        TRY(cx_prefix(err, decoded, "rank 0 decodes the films"));
    }
    char *dir = *c->data.cache ? cx_strdup(c->data.cache) : cx_cache_folder();
    cx_status s = dir ? cx_cache_open(&h->manifest, h->sample, h->n, r->pipeline, dir, c->data.max_bad, bad, notes, &r->cache, err)
                      : cx_fail(err, CX_E_CONFIG, "data.cache: name a folder; neither XDG_CACHE_HOME nor HOME names one where decoded films could lie");
    if (s == CX_OK)
        s = cx_run_open_masks(r, dir, bad, err);
    free(dir);
    return s == CX_OK && cx_comm_rank(r->comm) == 0 ? cx_comm_barrier(r->comm, err) : s;
}

static int lines_of(const cx_buf *b)
{
    int n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->data[i] == '\n';
    return n;
}

/* Each side has a film that could be decoded: a training must not end at a test side where there is nothing to look at. */
static cx_status check_sides(const cx_run *r, cx_error *err)
{
    const int last = r->config->data.external.n ? CX_EXTERNAL : CX_TEST;
    for (int side = CX_TRAIN; side <= last; side++) {
        int *index, n;
        TRY(cx_run_side(r, (cx_split)side, &index, &n, err));
        free(index);
    }
    return CX_OK;
}

static cx_status open_data(cx_run *r, cx_error *err)
{
    const cx_config *c = r->config;
    cx_cohort *h = &r->cohort;
    cx_buf bad = { 0 }, notes = { 0 };
    cx_lung_finder *finder;
    TRY(r->stage ? cx_stage_cohort(r->stage, h, err) : cx_cohort_load(c, r->opts->stop, h, err));
    TRY(cx_config_input(c, &r->pipeline, &r->norm, &finder, err));
    cx_status s = open_cache(r, &bad, &notes, err);
    cx_lung_finder_close(finder);
    cx_run_log(r, "films: %d take part, %d %s, %d filtered out, %d outside the split", h->n, h->left_out_label,
        h->task == TASK_SEGMENTATION ? "have no mask" : "carry other labels", h->left_out_filter, h->left_out_split);
    if (bad.len)
        cx_run_log(r, "films that could not be decoded:\n%s", bad.data);
    if (notes.len)
        cx_run_log(r, "films on which a preprocessing stage had nothing to work with, %d of %d:\n%s", lines_of(&notes), h->n, notes.data);
    cx_buf_free(&bad);
    cx_buf_free(&notes);
    if (s == CX_OK)
        s = check_sides(r, err);
    if (s == CX_OK) {
        cx_run_data_sha256(r, r->data_sha);
        s = cx_comm_same(r->comm, "SHA-256 of films, labels and split", r->data_sha, err);
    }
    return s;
}

static cx_status initial_weights(cx_run *r, cx_error *err)
{
    cx_st_file f;
    if (!*r->config->model.weights)
        return CX_OK;
    TRY(cx_st_read(r->config->model.weights, &f, err));
    cx_status s = cx_card_agrees(r->config, &f, err);
    if (s == CX_OK)
        s = cx_weights_load(r->store, &f, err);
    const bool ours = cx_weights_has_card(&f);
    cx_st_free(&f);
    return cx_prefix(err, s, "model.weights %s%s", r->config->model.weights,
                     ours ? "" : " (does not say what it is for; `cxnet weights import` makes a file that does)");
}

static cx_status open_backend(cx_run *r, cx_error *err)
{
    char *device = cx_ranks_device(r);
    cx_status s = device ? cx_backend_open(device, r->config->run.threads, &r->backend, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    free(device);
    return s == CX_OK ? cx_ranks_join(r, err) : s;
}

/* Needs no film: what is wrong with a network is said before a folder is made and hours go into decoding. */
static cx_status open_network(cx_run *r, cx_error *err)
{
    const cx_config *c = r->config;
    TRY(cx_config_network(c, &r->model, &r->loss, &r->target, &r->weight, err));
    TRY(open_backend(r, err));
    TRY(cx_run_films_possible(r, err));
    if (r->opts->on_device)
        r->opts->on_device(r->opts->self, r->backend->description, r->backend->note);
    TRY(cx_store_new(r->model.graph, r->backend, (uint64_t)c->run.seed, &r->store, err));
    if (cx_store_trainable(r->store) == 0)
        return cx_fail(err, CX_E_CONFIG, "model.freeze: its patterns freeze every parameter of %s, so there is nothing to train; leave some out",
            c->model.arch);
    return initial_weights(r, err);
}

static cx_status open_plans(cx_run *r, cx_error *err)
{
    float *m, *v;
    if (r->cohort.loss_weight)
        TRY(cx_store_set(r->store, r->weight, r->cohort.loss_weight, err));
    cx_plan_opts train = cx_config_plan(r->config), eval = train;
    train.batch = eval.batch = r->part;
    train.comm = r->comm;
    train.sync_norm = r->config->model.sync_norm;
    train.training = train.backward = train.param_grads = true;
    train.output = r->loss;
    eval.output = r->model.logits;
    TRY(cx_plan_new(r->store, &train, &r->train_plan, err));
    TRY(cx_plan_new(r->store, &eval, &r->eval_plan, err));
    if (!(r->films = cx_alloc((size_t)AHEAD * (size_t)r->part, sizeof *r->films)))
        return cx_fail(err, CX_E_MEMORY, "out of memory for the numbers of %d films", AHEAD * r->part);
    TRY(cx_plan_moments(r->train_plan, &m, &v, err));    /* what is free then is what films may take */
    TRY(cx_run_films_open(r, err));
    TRY(cx_feed_new(r->eval_plan, r->model.input, cx_run_source(r), &r->eval_feed, err));
    return cx_stepper_new(r->store, &(cx_stepper_opts){ .plan = r->train_plan, .input = r->model.input, .target = r->target, .loss = r->loss,
                          .films = cx_run_source(r), .clip = r->config->optim.clip_norm, .comm = r->comm, .ahead = AHEAD }, &r->stepper, err);
}

/* Films per step, and of these per rank. index [n]: those to train on; the caller's, after a failure too. */
static cx_status count_steps(cx_run *r, int **index, int *n, cx_error *err)
{
    const int wanted = r->config->optim.batch, ranks = cx_comm_ranks(r->comm);
    *index = NULL;
    TRY(cx_run_side(r, CX_TRAIN, index, n, err));
    r->batch = wanted < *n ? wanted : *n;
    r->steps = *n / r->batch;
    r->part = r->batch / ranks;
    if (r->part * ranks == r->batch)
        return CX_OK;
    return cx_fail(err, CX_E_CONFIG, "optim.batch: %d ranks cannot share %d films%s equally; want a multiple of %d", ranks, r->batch,
                   r->batch < wanted ? ", which are all there are to train on," : "", ranks);
}

static cx_status open_loader(cx_run *r, const int *index, int n, cx_error *err)
{
    const cx_config *c = r->config;
    const cx_augment a = { c->augment.rotate_deg, c->augment.shift, c->augment.zoom, c->augment.brightness, c->augment.contrast, c->augment.flip };
    return cx_loader_new(&(cx_loader_opts){ .cache = r->cache, .index = index, .n = n, .targets = r->cohort.target, .n_targets = r->cohort.n_targets,
                         .masks = r->masks, .batch = r->batch, .part = cx_comm_rank(r->comm), .parts = cx_comm_ranks(r->comm), .shuffle = true,
                         .augment = &a, .norm = r->norm, .give = r->give, .seed = (uint64_t)c->run.seed, .workers = c->run.workers }, &r->train_loader, err);
}

static cx_status open_training(cx_run *r, cx_error *err)
{
    int *index, n;
    cx_status s = count_steps(r, &index, &n, err);
    if (s == CX_OK)
        s = open_plans(r, err);
    if (s == CX_OK)
        s = open_loader(r, index, n, err);
    free(index);
    return s;
}

cx_status cx_run_write_config(cx_run *r, cx_error *err)
{
    cx_buf b = { 0 };
    if (cx_comm_rank(r->comm) > 0)
        return CX_OK;
    char *path = cx_run_path(r, "config.resolved.yaml");
    cx_config_yaml(r->config, &b);
    cx_status s = path && !b.failed ? cx_file_write(path, b.data, b.len, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    cx_buf_free(&b);
    free(path);
    return s;
}

static cx_status open_run(cx_run *r, cx_error *err)
{
    bool resume;
    r->state = (cx_state){ .best_epoch = -1, .plateau_best = INFINITY, .lr_scale = 1,
                           .history = cx_sprintf("epoch,lr,train_loss,val_loss,val_%s,seconds\n",
                               cx_task_of(r->config) == TASK_SEGMENTATION ? "dice" : "auroc") };
    if (!r->state.history)
        return cx_fail(err, CX_E_MEMORY, "out of memory");
    TRY(cx_ranks_configured(r, err));
    TRY(open_network(r, err));
    if (r->stage)
        TRY(cx_stage_begin(r->stage, err));
    TRY(cx_run_open_dir(r, &resume, err));
    TRY(open_data(r, err));
    TRY(open_training(r, err));
    if (resume && cx_comm_rank(r->comm) == 0)
        TRY(cx_checkpoint_load(r, err));
    TRY(cx_ranks_share_start(r, resume, err));
    TRY(cx_run_write_config(r, err));
    cx_run_log(r, "%s at epoch %d, step %d, on %s", resume ? "resumed" : "started", r->state.epoch + 1, r->state.step, r->backend->description);
    if (r->comm)
        cx_run_log(r, "%d ranks, joined by %s", r->comm->ranks, r->comm->name);
    return resume ? CX_OK : cx_run_manifest_write(r, "started", err);
}

void cx_run_close(cx_run *r)
{
    cx_stepper_free(r->stepper);
    cx_feed_free(r->eval_feed);
    cx_run_films_close(r);
    cx_loader_free(r->train_loader);
    free(r->films);
    cx_plan_free(r->train_plan);
    cx_plan_free(r->eval_plan);
    cx_store_free(r->store);
    if (r->backend)
        cx_backend_close(r->backend);
    cx_model_free(&r->model);
    cx_cache_close(r->cache);
    cx_cache_close(r->masks);
    cx_pipeline_free(r->pipeline);
    cx_cohort_free(&r->cohort);
    free(r->state.history);
    free(r->dir);
    if (r->log)
        fclose(r->log);
}

/* ---- training -------------------------------------------------------------------------------------------------- */

/* The films of update t on all ranks [batch]; owned by the caller. */
static cx_status films_of(cx_run *r, int64_t t, int **films, cx_error *err)
{
    const int *mine = r->films + t % AHEAD * r->part;
    const size_t bytes = (size_t)r->part * sizeof *mine;
    if (!(*films = cx_alloc((size_t)r->batch, sizeof **films)))
        return cx_fail(err, CX_E_MEMORY, "out of memory for the numbers of %d films", r->batch);
    if (r->comm)
        return r->comm->gather(r->comm, mine, *films, bytes, err);
    memcpy(*films, mine, bytes);
    return CX_OK;
}

/* The error of a loss or gradient that is not finite names the films it came from. */
static cx_status not_finite(cx_run *r, const cx_step_result *at, cx_error *err)
{
    cx_buf names = { 0 };
    int *film;
    const int n = films_of(r, at->t, &film, NULL) == CX_OK ? r->batch : 0;      /* 0: another rank is gone, and the log lacks the names */
    const bool loss = !isfinite(at->loss);
    const char *what = loss ? "the loss" : "the norm of the gradient";
    const double value = loss ? (double)at->loss : at->norm;
    const int step = r->state.step - (int)(r->state.updates - at->t);
    for (int i = 0; i < n; i++)
        cx_buf_printf(&names, "%s%s", i ? ", " : "", r->cohort.manifest.samples[r->cohort.sample[film[i]]].path);
    cx_run_log(r, "%s is %g at epoch %d, step %d; films: %s", what, value, r->state.epoch + 1, step, names.data ? names.data : "");
    const cx_status s = cx_fail(err, CX_E_NAN, "%s is %g at epoch %d, step %d, learning rate %g; "
                          "lower optim.lr or set optim.clip_norm; all films of the batch are in %s/log.txt: %.200s", what, value, r->state.epoch + 1, step,
                          cx_schedule_lr(r->config, &r->state, r->state.epoch, step - 1, r->steps), r->dir, names.data ? names.data : "");
    cx_buf_free(&names);
    free(film);
    return s;
}

/* Takes in the results that are there; wait: of all steps. A GPU that is AHEAD steps behind is waited for. */
static cx_status collect(cx_run *r, bool wait, cx_error *err)
{
    while (r->pending > 0) {
        cx_step_result result;
        bool got;
        TRY(cx_stepper_next(r->stepper, wait || r->pending == AHEAD, &result, &got, err));
        if (!got)
            return CX_OK;
        if (!isfinite(result.norm))
            return not_finite(r, &result, err);
        r->state.loss_sum += (double)result.loss;
        r->pending--;
    }
    return CX_OK;
}

static cx_status step(cx_run *r, const cx_batch *b, cx_error *err)
{
    const cx_config *c = r->config;
    const cx_update u = { .lr = cx_schedule_lr(c, &r->state, r->state.epoch, r->state.step, r->steps), .momentum = c->optim.momentum,
        .beta1 = c->optim.beta1, .beta2 = c->optim.beta2, .eps = c->optim.eps, .weight_decay = c->optim.weight_decay, .t = r->state.updates + 1,
        .kind = !strcmp(c->optim.kind, "sgd") ? CX_SGD : !strcmp(c->optim.kind, "adam") ? CX_ADAM : CX_ADAMW };
    const cx_step_batch batch = cx_run_batch(b);
    TRY(cx_stepper_step(r->stepper, &batch, (uint64_t)c->run.seed, &u, err));
    memcpy(r->films + u.t % AHEAD * r->part, b->film, (size_t)r->part * sizeof *r->films);
    r->pending++;
    r->state.updates++;
    r->state.step++;
    return CX_OK;
}

/* The steps of one epoch, from state.step on. */
static cx_status train_epoch(cx_run *r, cx_progress *bar, cx_error *err)
{
    int every = r->config->run.checkpoint_steps;
    double start = cx_now_s();
    int first = r->state.step;
    if (first >= r->steps)          /* interrupted during validation: only that is left of the epoch */
        return CX_OK;
    TRY(cx_loader_start(r->train_loader, r->state.epoch, first, err));
    while (r->state.step < r->steps) {
        cx_batch b;
        TRY(cx_loader_next(r->train_loader, &b, err));
        TRY(step(r, &b, err));
        if (!r->opts->quiet)
            cx_progress_show(bar, "epoch %d/%d  step %d/%d  loss %.4f  %.1f films/s", r->state.epoch + 1, r->config->optim.epochs, r->state.step, r->steps,
                             r->state.loss_sum / fmax(r->state.step - r->pending, 1), (r->state.step - first) * r->batch / (cx_now_s() - start));
        if (r->opts->on_step)
            r->opts->on_step(r->opts->self, r->state.epoch + 1, r->state.step);
        bool stop = stopped(r);
        TRY(cx_comm_any(r->comm, &stop, err));
        bool save = stop || (every > 0 && r->state.step % every == 0 && r->state.step < r->steps);
        TRY(collect(r, save || r->state.step == r->steps, err));
        if (save)
            TRY(cx_checkpoint_save(r, "last", true, err));
        if (stop)
            TRY(cx_comm_barrier(r->comm, err));          /* a launcher may end all ranks when the first has ended */
        if (stop)
            return cx_fail(err, CX_E_INTERRUPTED, "interrupted at epoch %d, step %d of %d; a checkpoint is written", r->state.epoch + 1,
                r->state.step, r->steps);
    }
    return CX_OK;
}

/* Appends a row to the history and rewrites metrics.csv from it: a resumed run has no doubled or missing rows. */
static cx_status record(cx_run *r, double lr, double train_loss, const cx_eval *val, double seconds, cx_error *err)
{
    if (cx_comm_rank(r->comm) > 0)
        return CX_OK;
    char *path = cx_run_path(r, "metrics.csv");
    char *history = cx_sprintf("%s%d,%.9g,%.9g,%.9g,%.9g,%.2f\n", r->state.history, r->state.epoch + 1, lr, train_loss, val->loss, val->score, seconds);
    cx_status s = path && history ? cx_file_write(path, history, strlen(history), err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    free(path);
    if (s != CX_OK) {
        free(history);
        return s;
    }
    free(r->state.history);
    r->state.history = history;
    cx_run_log(r, "epoch %d: lr %.3g, train loss %.4f, val loss %.4f, val %s %.4f, %.1f s", r->state.epoch + 1, lr, train_loss, val->loss,
        r->masks ? "Dice" : "AUROC", val->score, seconds);
    return CX_OK;
}

/* Validation, then the decisions that hang on it, then both checkpoints. */
static cx_status end_epoch(cx_run *r, double start, cx_error *err)
{
    const cx_config *c = r->config;
    cx_state *st = &r->state;
    cx_eval val;
    TRY(cx_ranks_still_equal(r, err));
    cx_status s = cx_evaluate(r, CX_VAL, &val, err);
    if (s == CX_E_INTERRUPTED) {
        TRY(cx_checkpoint_save(r, "last", true, err));
        TRY(cx_comm_barrier(r->comm, err));
        return cx_fail(err, CX_E_INTERRUPTED, "interrupted during validation of epoch %d; a checkpoint is written", st->epoch + 1);
    }
    if (s != CX_OK)
        return s;
    double lr = cx_schedule_lr(c, st, st->epoch, r->steps - 1, r->steps), train_loss = st->loss_sum / r->steps, seconds = cx_now_s() - start;
    s = record(r, lr, train_loss, &val, seconds, err);
    if (s == CX_OK && r->opts->on_epoch)
        r->opts->on_epoch(r->opts->self, st->epoch + 1, train_loss, val.loss, val.score, lr, seconds);
    bool best = cx_early_stop_epoch(c, st, val.loss, val.score);
    cx_schedule_epoch(c, st, val.loss);
    cx_eval_free(&val);
    st->epoch++;
    st->step = 0;
    st->loss_sum = 0;
    if (s == CX_OK && best)
        s = cx_checkpoint_save(r, "best", false, err);
    return s == CX_OK ? cx_checkpoint_save(r, "last", true, err) : s;
}

/* Another rank is gone. What has been trained is whole up to the last step that all have finished; rank 0 saves it. */
static cx_status save_what_is_whole(cx_run *r, cx_error *err)
{
    cx_error own = { 0 };
    if (cx_comm_rank(r->comm) > 0)
        return CX_E_PEER;
    cx_status s = collect(r, true, &own);
    if (s == CX_OK || s == CX_E_PEER) {                 /* those still pending were not made */
        r->state.step -= r->pending;
        r->state.updates -= r->pending;
        r->pending = 0;
        s = cx_checkpoint_save(r, "last", true, &own);
    }
    if (s != CX_OK)
        return cx_fail(err, CX_E_PEER, "%s; no new checkpoint (%s)", err->text, own.text);
    return cx_fail(err, CX_E_PEER, "%s; a checkpoint of epoch %d, step %d of %d is written", err->text, r->state.epoch + 1, r->state.step, r->steps);
}

static cx_status train(cx_run *r, cx_error *err)
{
    cx_progress bar = { 0 };
    cx_status s = CX_OK;
    while (s == CX_OK && !r->state.trained) {
        double start = cx_now_s();
        s = train_epoch(r, &bar, err);
        cx_progress_end(&bar);
        if (s == CX_OK)
            s = end_epoch(r, start, err);
    }
    return s == CX_E_PEER ? save_what_is_whole(r, err) : s;
}

static cx_status load_best(cx_run *r, cx_error *err)
{
    cx_st_file f;
    char *best = cx_run_path(r, "checkpoints/best.safetensors");
    cx_status s = best ? cx_st_read(best, &f, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    if (s == CX_OK) {
        s = cx_prefix(err, cx_weights_load(r->store, &f, err), "%s", best);
        cx_st_free(&f);
    }
    free(best);
    return s;
}

/* Best weights, validation for the threshold, then the test side and external films, once. */
static cx_status finish(cx_run *r, cx_error *err)
{
    cx_eval val, test = { 0 }, external = { 0 };
    if (cx_comm_rank(r->comm) == 0)
        TRY(load_best(r, err));
    TRY(cx_ranks_share_values(r, true, err));
    TRY(cx_evaluate(r, CX_VAL, &val, err));
    cx_status s = cx_evaluate(r, CX_TEST, &test, err);
    if (s == CX_OK && r->config->data.external.n)
        s = cx_evaluate(r, CX_EXTERNAL, &external, err);
    if (s == CX_OK)
        s = cx_results_write(r, &val, &test, &external, NULL, err);
    cx_eval_free(&val);
    cx_eval_free(&test);
    cx_eval_free(&external);
    if (s == CX_OK)
        s = cx_run_manifest_write(r, "finished", err);
    return s == CX_OK && r->stage ? cx_stage_answer(r->stage, r, err) : s;
}

cx_status cx_run_network(const cx_config *c, const cx_run_opts *o, cx_stage *stage, char *dir, size_t dir_len, cx_error *err)
{
    cx_run r = { .config = c, .opts = o, .comm = o->comm, .stage = stage };
    cx_status s = open_run(&r, err);
    if (dir && dir_len)
        snprintf(dir, dir_len, "%s", r.dir ? r.dir : "");
    if (s == CX_OK)
        s = train(&r, err);
    if (s == CX_OK)
        s = finish(&r, err);
    cx_run_log(&r, s == CX_OK ? "finished" : "stopped: %s", err->text);
    cx_run_close(&r);
    return s;
}

cx_status cx_run_train(const cx_config *c, const cx_run_opts *o, char *dir, size_t dir_len, cx_error *err)
{
    cx_error own = { 0 };
    if (!err)
        err = &own;
    cx_point point = cx_point_begin();
    const cx_status s = is_hierarchy(c) ? cx_hierarchy_train(c, o, dir, dir_len, err) : cx_run_network(c, o, NULL, dir, dir_len, err);
    cx_point_end(point);
    return s;
}
