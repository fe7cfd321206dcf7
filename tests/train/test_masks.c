/* test_masks.c - segmentation: masks compared against their definition, and trainings on films whose lungs are known. */
#include <signal.h>
#include <unistd.h>
#include "support.h"
#include "cxnet/train.h"

/* ---- comparing masks ------------------------------------------------------------------------------------------------- */

static bool outline(const uint8_t *m, int w, int h, int x, int y)
{
    static const int dx[] = { 1, -1, 0, 0 }, dy[] = { 0, 0, 1, -1 };
    for (int k = 0; m[y * w + x] && k < 4; k++) {
        int i = x + dx[k], j = y + dy[k];
        if (i < 0 || j < 0 || i >= w || j >= h || !m[j * w + i])
            return true;
    }
    return false;
}

/* The definition: every pixel of one outline against every pixel of the other. */
static double distance_sum(const uint8_t *a, const uint8_t *b, int w, int h, int *count)
{
    double sum = 0;
    for (int p = 0; p < w * h; p++) {
        if (!outline(a, w, h, p % w, p / w))
            continue;
        double least = INFINITY;
        for (int q = 0; q < w * h; q++)
            if (outline(b, w, h, q % w, q / w))
                least = fmin(least, hypot(p % w - q % w, p / w - q / w));
        sum += least;
        ++*count;
    }
    return sum;
}

static void masks_by_their_definition(void **state)
{
    (void)state;
    enum { W = 23, H = 17, TRIES = 40 };
    uint8_t a[W * H], b[W * H];
    for (int t = 0; t < TRIES; t++) {
        cx_rng r = cx_rng_new(11, (uint64_t)t);
        cx_mask_score m;
        int both = 0, na = 0, nb = 0, count = 0;
        const int ax = (int)cx_rng_below(&r, W), ay = (int)cx_rng_below(&r, H), ar = 1 + (int)cx_rng_below(&r, 8), shift = (int)cx_rng_below(&r, 6);
        for (int p = 0; p < W * H; p++) {      /* discs, one of them with specks */
            a[p] = hypot(p % W - ax, p / W - ay) <= ar ? 255 : 0;
            b[p] = hypot(p % W - ax + shift, p / W - ay) <= ar || cx_rng_below(&r, 40) == 0;
            na += a[p] != 0;
            nb += b[p] != 0;
            both += a[p] && b[p];
        }
        assert_cx_ok(cx_mask_compare(a, b, W, H, &m, err));
        const double sum = distance_sum(a, b, W, H, &count) + distance_sum(b, a, W, H, &count);
        assert_int_equal(m.truth, na);
        assert_int_equal(m.found, nb);
        assert_true(fabs(m.dice - 2.0 * both / (na + nb)) < 1e-12);
        assert_true(fabs(m.iou - (double)both / (na + nb - both)) < 1e-12);
        assert_true(nb == 0 ? isnan(m.boundary) : fabs(m.boundary - sum / count) < 1e-9);
    }
}

static void masks_at_the_edges(void **state)
{
    (void)state;
    uint8_t none[12] = { 0 }, all[12], one[12] = { [5] = 1 };
    cx_mask_score m;
    memset(all, 1, sizeof all);
    assert_cx_ok(cx_mask_compare(none, none, 4, 3, &m, err));
    assert_true(m.dice == 1 && m.iou == 1 && isnan(m.boundary));
    assert_cx_ok(cx_mask_compare(all, none, 4, 3, &m, err));
    assert_true(m.dice == 0 && m.iou == 0 && isnan(m.boundary));
    assert_cx_ok(cx_mask_compare(all, all, 4, 3, &m, err));
    assert_true(m.dice == 1 && m.boundary == 0);
    assert_cx_ok(cx_mask_compare(one, one, 12, 1, &m, err));
    assert_true(m.dice == 1 && m.boundary == 0);
    assert_cx_fails(CX_E_SHAPE, "0 x 3", cx_mask_compare(one, one, 0, 3, &m, err));
}

/* The mean, and an interval that shrinks to it where all groups agree. */
static void means_over_films(void **state)
{
    (void)state;
    const double x[] = { 1, 2, 3, NAN, 6 }, same[] = { 0.5, 0.5, 0.5, 0.5, 0.5 };
    const int group[] = { 7, 7, 2, 2, 9 };
    cx_estimate e;
    assert_cx_ok(cx_metrics_mean(x, group, 5, 500, 1, &e, err));
    assert_true(fabs(e.value - 3) < 1e-12 && e.lo >= 1.5 && e.lo < 3 && e.hi > 3 && e.hi <= 6);
    assert_cx_ok(cx_metrics_mean(same, group, 5, 500, 1, &e, err));
    assert_true(e.value == 0.5 && e.lo == 0.5 && e.hi == 0.5);
    assert_cx_ok(cx_metrics_mean(x, group, 0, 500, 1, &e, err));
    assert_true(isnan(e.value) && isnan(e.lo));
}

/* ---- the loss ------------------------------------------------------------------------------------------------------------ */

enum { L_SIDE = 16, L_BATCH = 2, L_PX = L_BATCH * L_SIDE * L_SIDE };

/* Loss of a fixed batch and the gradient of every parameter, in one array owned by the caller. */
static double loss_and_gradient(cx_backend *b, cx_loss_kind kind, float **grad, int64_t *n)
{
    cx_model m;
    cx_store *s;
    cx_plan *p;
    int target, weights;
    float x[L_PX], t[L_PX], loss;
    assert_cx_ok(cx_model_new(&(cx_model_spec){ "unet", L_SIDE, 1, .outputs = 1, .base = 2, .depth = 2 }, &m, err));
    const int out = cx_model_loss(&m, kind, 0, &target, &weights);
    assert_cx_ok(cx_graph_check(m.graph, err));
    assert_cx_ok(cx_store_new(m.graph, b, 5, &s, err));
    assert_cx_ok(cx_plan_new(s, &(cx_plan_opts){ .batch = L_BATCH, .training = true, .backward = true, .param_grads = true, .output = out }, &p, err));
    for (int i = 0; i < L_PX; i++) {
        x[i] = (float)((i * 37) % 101) / 101;
        t[i] = (i * 53) % 97 < 40;
    }
    assert_cx_ok(cx_plan_set(p, m.input, x, err));
    assert_cx_ok(cx_plan_set(p, target, t, err));
    assert_cx_ok(cx_plan_forward(p, 1, 0, err));
    assert_cx_ok(cx_plan_backward(p, err));
    assert_cx_ok(cx_plan_get(p, out, &loss, err));
    *n = cx_store_trainable(s);
    *grad = malloc((size_t)*n * sizeof **grad);
    assert_cx_ok(b->download(b, *grad, cx_store_grads(s), (size_t)*n * sizeof **grad, err));
    cx_plan_free(p);
    cx_store_free(s);
    cx_model_free(&m);
    return (double)loss;
}

/* BCE + Dice is a loss like another: backward starts from it by itself, and loss and gradient are those of its two parts, added. */
static void the_sum_of_two_losses(void **state)
{
    (void)state;
    cx_backend *b;
    float *grad[3];
    double loss[3];
    int64_t n;
    assert_cx_ok(cx_backend_open("cpu", 2, &b, err));
    const cx_loss_kind kind[] = { CX_LOSS_BCE, CX_LOSS_DICE, CX_LOSS_BCE_DICE };
    for (int i = 0; i < 3; i++)
        loss[i] = loss_and_gradient(b, kind[i], &grad[i], &n);
    assert_true(fabs(loss[0] + loss[1] - loss[2]) < 1e-6);
    for (int64_t i = 0; i < n; i++)
        grad[0][i] += grad[1][i];
    assert_close("gradient", grad[2], grad[0], n, 1e-5, 1e-6);      /* float32 sums in another order */
    for (int i = 0; i < 3; i++)
        free(grad[i]);
    cx_backend_close(b);
}

/* ---- trainings --------------------------------------------------------------------------------------------------------- */

static char root[256];

static void write_grey(const char *name, int width, int height)
{
    char path[400];
    cx_buf png = { 0 };
    uint16_t px[64 * 64] = { 0 };
    for (int i = 0; i < width * height; i++)
        px[i] = (uint16_t)(i % width * 3);
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_cx_ok(cx_png_grey(px, width, height, 255, &png, err));
    assert_cx_ok(cx_file_write(path, png.data, png.len, err));
    cx_buf_free(&png);
}

/* Films with masks of their lungs; the last patients come from another source. */
static int setup(void **state)
{
    (void)state;
    cx_synth s;
    cx_csv csv;
    cx_buf b = { 0 };
    char path[400];
    snprintf(root, sizeof root, "%s/cxnet-masks-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(root));
    assert_cx_ok(cx_synth_make(&(cx_synth_opts){ .patients = 24, .side = 64, .seed = 3 }, &s, err));
    assert_cx_ok(cx_synth_write(&s, root, err));
    cx_synth_free(&s);
    snprintf(path, sizeof path, "%s/manifest.csv", root);
    assert_cx_ok(cx_csv_load(path, &csv, err));
    const int film = cx_csv_column(&csv, "path"), mask = cx_csv_column(&csv, "mask"), patient = cx_csv_column(&csv, "patient_id");
    const int labels = cx_csv_column(&csv, "labels");
    cx_buf_puts(&b, "image,mask,labels,patient_id,source,split\n");
    for (int i = 1; i < csv.rows; i++) {
        const int k = atoi(strrchr(cx_csv_at(&csv, i, patient), '-') + 1);
        cx_buf_printf(&b, "%s,%s,%s,%s,%s,%s\n", cx_csv_at(&csv, i, film), cx_csv_at(&csv, i, mask), cx_csv_at(&csv, i, labels), cx_csv_at(&csv, i, patient),
                      k % 8 == 7 ? "far" : "near", k % 8 == 5 ? "val" : k % 8 == 6 ? "test" : "train");
    }
    cx_buf_puts(&b, "films/none.png,,,lonely,near,train\n");          /* without a mask: takes no part */
    cx_buf_puts(&b, "films/absent.png,lungs/absent.png,,nobody,mars,none\n");
    cx_buf_puts(&b, "films/wide.png,wide-mask.png,,someone,venus,none\nfilms/tall.png,tall-mask.png,,one,pluto,none\n");
    write_grey("films/wide.png", 64, 48);
    write_grey("wide-mask.png", 48, 48);
    write_grey("films/tall.png", 40, 64);
    write_grey("tall-mask.png", 20, 32);
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_csv_free(&csv);
    cx_buf_free(&b);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command) != 0;
}

static cx_status load(cx_config *c, const char *name, const char *const *more, cx_error *err)
{
    char text[32][400];
    char *set[32];
    int n = 0;
    const char *base[] = { "data.task=segmentation", "data.near_duplicates=false", "data.external=[far]", "data.side=32", "data.channels=1",
        "data.normalise=unit", "model.arch=unet", "model.base=4", "model.depth=2", "model.norm=true", "optim.batch=4", "optim.epochs=4", "optim.lr=0.01",
        "augment.rotate_deg=5", "augment.shift=0.05", "run.bootstrap=50", "early_stop.metric=dice", "early_stop.patience=0" };
    for (int i = 0; i < CX_COUNT(base); i++)
        snprintf(text[n++], sizeof text[0], "%s", base[i]);
    snprintf(text[n++], sizeof text[0], "data.manifest=%s/manifest.csv", root);
    snprintf(text[n++], sizeof text[0], "data.cache=%s/cache", root);
    snprintf(text[n++], sizeof text[0], "run.dir=%s", root);
    snprintf(text[n++], sizeof text[0], "run.name=%s", name);
    for (int i = 0; more && more[i]; i++)
        snprintf(text[n++], sizeof text[0], "%s", more[i]);
    for (int i = 0; i < n; i++)
        set[i] = text[i];
    return cx_config_load(NULL, set, n, c, err);
}

typedef struct { double dice; int epochs; volatile sig_atomic_t stop; int stop_at; } watch;
static void on_epoch(void *self, int epoch, double train_loss, double val_loss, double val_score, double lr, double seconds)
{
    watch *w = self;
    (void)train_loss;
    (void)val_loss;
    (void)lr;
    (void)seconds;
    w->dice = val_score;
    w->epochs = epoch;
    w->stop = epoch == w->stop_at;
}

static cx_status train(const char *name, const char *const *more, watch *w, cx_error *err)
{
    cx_config c;
    TRY(load(&c, name, more, err));
    const cx_status s = cx_run_train(&c, &(cx_run_opts){ .quiet = true, .stop = &w->stop, .on_epoch = on_epoch, .self = w }, NULL, 0, err);
    cx_config_free(&c);
    return s;
}

static char *text_of(const char *name, const char *file)
{
    char path[400];
    cx_buf b = { 0 };
    snprintf(path, sizeof path, "%s/%s/%s", root, name, file);
    assert_cx_ok(cx_file_read(path, 1 << 24, &b, err));
    return b.data;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word))
        n++;
    return n;
}

/* Lungs are found, external films are reported apart and never trained on, a film without a mask takes no part; threads and an interruption
 * change nothing. */
static void a_network_finds_lungs(void **state)
{
    (void)state;
    watch w = { 0 }, v = { .stop_at = 2 };
    assert_cx_ok(train("whole", NULL, &w, err));
    assert_int_equal(w.epochs, 4);
    assert_true(w.dice > 0.7);
    char *rows = text_of("whole", "predictions.csv"), *metrics = text_of("whole", "metrics.json"), *log = text_of("whole", "log.txt");
    char *history = text_of("whole", "metrics.csv");
    assert_true(count(rows, ",external,") > 0);
    assert_int_equal(count(rows, ",far,"), count(rows, ",external,"));
    assert_int_equal(count(rows, ",train,"), 0);
    assert_non_null(strstr(metrics, "\"external\""));
    assert_non_null(strstr(metrics, "\"boundary_px\""));
    assert_non_null(strstr(log, "1 have no mask"));
    assert_non_null(strstr(history, "val_dice"));
    assert_cx_fails(CX_E_INTERRUPTED, "interrupted", train("parts", (const char *[]){ "run.threads=1", NULL }, &v, err));
    assert_cx_ok(train("parts", (const char *[]){ "run.threads=2", NULL }, &(watch){ 0 }, err));
    char *again = text_of("parts", "predictions.csv");
    assert_string_equal(rows, again);
    free(rows);
    free(metrics);
    free(log);
    free(history);
    free(again);
}

static void every_loss_trains(void **state)
{
    (void)state;
    watch w = { 0 };
    assert_cx_ok(train("dice", (const char *[]){ "loss.kind=dice", "model.norm=false", "optim.epochs=2", NULL }, &w, err));
    assert_true(isfinite(w.dice));
    assert_cx_ok(train("bce", (const char *[]){ "loss.kind=bce", "schedule.kind=plateau", "schedule.cooldown=1", NULL }, &w, err));
    assert_true(w.dice > 0.5);
}

/* With keep_aspect a wide film is laid between black bars, and what the network says of the bars is not part of its mask: as if the bars had been drawn on the
 * film and cut off the mask, but for the filter at their edges. */
static void keeps_proportions(cx_net *net, cx_segmenter *g, const cx_film *film)
{
    const int side = film->width, w = 2 * side, n = w * side;
    cx_film wide = *film, square = *film;
    uint8_t *found = malloc((size_t)n), *whole = malloc((size_t)(2 * n));
    cx_mask_score m;
    assert_int_equal(film->height, side);
    wide.width = square.width = square.height = w;
    wide.px = calloc((size_t)n, sizeof *wide.px);
    square.px = calloc((size_t)(2 * n), sizeof *square.px);
    for (int i = 0; i < n; i++)
        wide.px[i] = square.px[n / 2 + i] = film->px[i / w * side + i % side];
    cx_pipeline_free(net->pipeline);
    assert_cx_ok(cx_pipeline_new((char *[]){ "resize keep_aspect=true" }, 1, net->config.data.side, 1, &net->pipeline, err));
    assert_cx_ok(cx_pipeline_open(net->pipeline, NULL, err));
    assert_cx_ok(cx_segmenter_mask(g, &wide, found, err));
    assert_cx_ok(cx_segmenter_mask(g, &square, whole, err));
    assert_cx_ok(cx_mask_compare(whole + n / 2, found, w, side, &m, err));
    assert_true(m.truth > n / 50 && m.dice > 0.9);
    free(wide.px);
    free(square.px);
    free(found);
    free(whole);
}

/* Another experiment names the run in preprocess.lungs: its films are cropped to what the segmenter says, cleaned. */
static void crops_for_another(const char *run, cx_segmenter *g, const cx_film *film)
{
    char lungs[500];
    snprintf(lungs, sizeof lungs, "preprocess.lungs=%s", run);
    char *set[] = { "data.side=32", "preprocess.stages=[roi dilate=0 min_area=0, resize]", lungs };
    const int n = film->width * film->height;
    cx_config c;
    cx_pipeline *p;
    cx_normalise norm;
    cx_lung_finder *finder;
    cx_picture seen;
    cx_box box;
    float x[32 * 32 * 3];
    uint8_t *mask = malloc((size_t)n);
    assert_cx_ok(cx_config_load(NULL, set, CX_COUNT(set), &c, err));
    assert_cx_ok(cx_config_input(&c, &p, &norm, &finder, err));
    assert_non_null(finder);
    assert_cx_ok(cx_film_to_input(p, film, &norm, x, &seen, err));
    assert_cx_ok(cx_segmenter_mask(g, film, mask, err));
    assert_cx_ok(cx_mask_clean(mask, film->width, film->height, 2, CX_LUNG_LEAST, err));
    assert_true(cx_mask_box(mask, film->width, film->height, &box) > 0 && (box.width < film->width || box.height < film->height));
    assert_string_equal(seen.note, "");
    assert_true(seen.place.x == box.x && seen.place.y == box.y && fabs(seen.place.width - box.width) < 1e-9 && fabs(seen.place.height - box.height) < 1e-9);
    char *known = strdup(cx_pipeline_identity(p));
    assert_non_null(strstr(known, "\nlungs: "));
    cx_picture_free(&seen);
    cx_pipeline_free(p);
    cx_lung_finder_close(finder);
    assert_cx_ok(cx_config_input(&c, &p, &norm, &finder, err));
    assert_string_equal(cx_pipeline_identity(p), known);
    cx_pipeline_free(p);
    cx_lung_finder_close(finder);
    cx_config_free(&c);
    free(known);
    free(mask);
}

/* The finished network marks the lungs of a film at its own size. */
static void a_film_is_segmented(void **state)
{
    (void)state;
    char run[400], path[500];
    cx_net net;
    cx_segmenter *g;
    cx_film film, truth;
    cx_mask_score m;
    watch w = { 0 };
    assert_cx_ok(train("net", (const char *[]){ "optim.epochs=6", NULL }, &w, err));
    snprintf(run, sizeof run, "%s/net", root);
    assert_cx_ok(cx_net_open(run, NULL, 0, &net, err));
    assert_cx_ok(cx_segmenter_new(&net, &g, err));
    snprintf(path, sizeof path, "%s/films/0001.png", root);
    assert_cx_ok(cx_film_load(path, &film, err));
    snprintf(path, sizeof path, "%s/lungs/0001.png", root);
    assert_cx_ok(cx_film_load(path, &truth, err));
    const size_t n = (size_t)film.width * (size_t)film.height;
    uint8_t *found = malloc(n), *drawn = malloc(n);
    assert_cx_ok(cx_segmenter_mask(g, &film, found, err));
    for (size_t i = 0; i < n; i++)
        drawn[i] = truth.px[i] > 127;
    assert_cx_ok(cx_mask_compare(drawn, found, film.width, film.height, &m, err));
    assert_true(m.dice > 0.7);
    crops_for_another(run, g, &film);
    keeps_proportions(&net, g, &film);
    free(found);
    free(drawn);
    cx_film_free(&film);
    cx_film_free(&truth);
    cx_segmenter_free(g);
    cx_net_close(&net);
}

/* A run that wants lungs where its network finds none says of how many films, and of which; its folder says what its films were made with. */
static void a_run_names_films_without_lungs(void **state)
{
    (void)state;
    char lungs[500];
    snprintf(lungs, sizeof lungs, "preprocess.lungs=%s/net", root);
    const char *set[] = { "data.task=multilabel", "data.classes=[Opacity]", "model.arch=base_cnn", "data.side=66", "optim.epochs=1", "early_stop.metric=loss",
                          "preprocess.stages=[roi min_area=0.7, resize]", lungs, NULL };
    assert_cx_ok(train("roi", set, &(watch){ 0 }, err));
    char *log = text_of("roi", "log.txt"), *manifest = text_of("roi", "manifest.json"), *rows = text_of("net", "log.txt");
    const char *said = strstr(log, "had nothing to work with, ");
    int noted = 0, all = 0;
    assert_non_null(said);
    assert_int_equal(sscanf(said, "had nothing to work with, %d of %d:", &noted, &all), 2);
    assert_true(noted == all && all > 20);
    assert_int_equal(count(log, ".png: what was found covers "), noted);
    assert_int_equal(count(log, "lungs 70.0 to 80 %; the whole film is shown\n"), noted);
    assert_non_null(strstr(manifest, "roi margin=0 dilate=0.02 min_area=0.7\\nresize side=0"));
    assert_null(strstr(rows, "nothing to work with"));
    free(log);
    free(manifest);
    free(rows);
}

static void what_does_not_go_together(void **state)
{
    (void)state;
    cx_config c;
    watch w = { 0 };
    assert_cx_fails(CX_E_CONFIG, "unet", load(&c, "x", (const char *[]){ "model.arch=base_cnn", NULL }, err));
    assert_cx_fails(CX_E_CONFIG, "segmentation", load(&c, "x", (const char *[]){ "data.task=binary", NULL }, err));
    assert_cx_fails(CX_E_CONFIG, "AUROC", load(&c, "x", (const char *[]){ "early_stop.metric=auroc", NULL }, err));
    assert_cx_fails(CX_E_CONFIG, "smoothing", load(&c, "x", (const char *[]){ "loss.label_smoothing=0.1", NULL }, err));
    assert_cx_fails(CX_E_CONFIG, "moon", train("x", (const char *[]){ "data.external=[moon]", NULL }, &w, err));
    w.epochs = 0;
    assert_cx_fails(CX_E_DATA, "no film of the external side could be decoded", train("x", (const char *[]){ "data.external=[mars]", NULL }, &w, err));
    assert_cx_fails(CX_E_DATA, "wide-mask.png, 48 x 48 px, is no mask of films/wide.png, 64 x 48 px: their proportions differ; 1 of ",
                    train("x", (const char *[]){ "data.external=[venus, pluto]", NULL }, &w, err));
    assert_int_equal(w.epochs, 0);                   /* said before anything is trained */
    assert_cx_fails(CX_E_CONFIG, "side of the split is empty", train("x", (const char *[]){ "data.external=[near, far]", NULL }, &w, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_by_their_definition), cmocka_unit_test(masks_at_the_edges), cmocka_unit_test(means_over_films),
        cmocka_unit_test(the_sum_of_two_losses),
        cmocka_unit_test(a_network_finds_lungs), cmocka_unit_test(every_loss_trains), cmocka_unit_test(a_film_is_segmented),
        cmocka_unit_test(a_run_names_films_without_lungs),
        cmocka_unit_test(what_does_not_go_together),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
