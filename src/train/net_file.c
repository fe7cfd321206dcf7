/* net_file.c - a network from a weight file that says what it is: all that is known of it is its card. Depends on run.h. */
#include <string.h>
#include "run.h"

static cx_status build(const cx_weights_card *card, const cx_st_file *f, const char *device, int threads, cx_net *n, cx_error *err)
{
    TRY(cx_config_of_card(card, &n->config, err));
    TRY(cx_net_names(n, err));
    TRY(cx_net_thresholds(NULL, n, err));
    TRY(cx_model_new(&card->spec, &n->model, err));
    TRY(cx_backend_open(device ? device : n->config.run.device, threads, &n->backend, err));
    TRY(cx_store_new(n->model.graph, n->backend, 0, &n->store, err));
    TRY(cx_config_input(&n->config, &n->pipeline, &n->norm, &n->lungs, err));
    return cx_weights_load(n->store, f, err);
}

cx_status cx_net_open_file(const char *path, const char *device, int threads, cx_net *n, cx_error *err)
{
    cx_st_file f;
    cx_weights_card card;
    TRY(cx_st_read(path, &f, err));
    cx_status s = cx_weights_card_read(&f, &card, err);
    if (s == CX_OK) {
        s = build(&card, &f, device, threads, n, err);
        cx_weights_card_free(&card);
    }
    cx_st_free(&f);
    return cx_prefix(err, s, "%s", path);
}
