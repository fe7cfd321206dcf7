/* test_hirescam.c - HiResCAM by two closed forms: it adds up to the logit of a network without biases, and equals Grad-CAM before global average pooling.
 * Both on the CPU and, where the networks are not too large for it, on the emulated GPU. */
#include "backend.h"
#include "cxnet/explain.h"

enum { FILMS = 3 };
typedef struct { cx_model m; cx_backend *b; cx_store *store; float *x; } network;

/* Fresh weights of the seed: all biases are zero. */
static void open_network(network *n, const char *device, const char *arch, int side)
{
    cx_model_spec spec = { .side = side, .channels = 1, .outputs = 1, .norm_eps = 1e-5 };
    snprintf(spec.arch, sizeof spec.arch, "%s", arch);
    assert_cx_ok(cx_model_new(&spec, &n->m, err));
    assert_cx_ok(cx_graph_check(n->m.graph, err));
    assert_cx_ok(cx_backend_open(device, 2, &n->b, err));
    assert_cx_ok(cx_store_new(n->m.graph, n->b, 5, &n->store, err));
    n->x = cx_alloc(FILMS * (size_t)(side * side), sizeof *n->x);
    cx_rng r = cx_rng_new(9, 9);
    for (int i = 0; i < FILMS * side * side; i++)
        n->x[i] = (float)(2 * cx_rng_uniform(&r) - 1);
}

static void close_network(network *n)
{
    free(n->x);
    cx_store_free(n->store);
    cx_backend_close(n->b);
    cx_model_free(&n->m);
}

/* A network of convolutions, ReLUs and dense layers without biases is homogeneous: logit = sum of gradient * activation at any layer. The map keeps what
 * speaks for the class, the map of the negative class what speaks against it, so their sums differ by the logit. */
static void adds_up_to_the_logit(const char *device)
{
    static const char *const layer[] = { "relu1", "relu2", "relu3", "relu4", "relu5" };
    network n;
    open_network(&n, device, "base_cnn", 112);
    for (int k = 0; k < CX_COUNT(layer); k++) {
        cx_explainer *e;
        assert_cx_ok(cx_explainer_new(&n.m, n.store, cx_graph_find(n.m.graph, layer[k]), FILMS, &e, err));
        int cls[FILMS] = { 0 }, cells = cx_explainer_width(e) * cx_explainer_height(e);
        float minus[FILMS] = { -1, -1, -1 }, logit[FILMS];
        float *with = cx_alloc(FILMS * (size_t)cells, sizeof *with), *against = cx_alloc(FILMS * (size_t)cells, sizeof *against);
        cx_explainer_kind(e, CX_HIRESCAM);
        assert_cx_ok(cx_gradcam(e, n.x, FILMS, cls, NULL, with, logit, err));
        assert_cx_ok(cx_gradcam(e, n.x, FILMS, cls, minus, against, logit, err));
        for (int i = 0; i < FILMS; i++) {
            double sum = 0, size = 0;
            for (int p = 0; p < cells; p++) {
                double a = (double)with[i * cells + p], b = (double)against[i * cells + p];
                assert_true(a >= 0 && b >= 0 && (a == 0 || b == 0));
                sum += a - b;
                size += a + b;
            }
            assert_true(size > 0 && fabs((double)logit[i]) > 1e-6);
            assert_true(fabs(sum - (double)logit[i]) < 1e-5 * size);
        }
        free(with);
        free(against);
        cx_explainer_free(e);
    }
    close_network(&n);
}

static void equals_gradcam_before_pooling(const char *device)
{
    network n;
    open_network(&n, device, "densenet121", 64);
    cx_explainer *e;
    assert_cx_ok(cx_explainer_new(&n.m, n.store, -1, FILMS, &e, err));
    int cls[FILMS] = { 0 }, cells = cx_explainer_width(e) * cx_explainer_height(e);
    float *mean = cx_alloc(FILMS * (size_t)cells, sizeof *mean), *place = cx_alloc(FILMS * (size_t)cells, sizeof *place);
    assert_cx_ok(cx_gradcam(e, n.x, FILMS, cls, NULL, mean, NULL, err));
    cx_explainer_kind(e, CX_HIRESCAM);
    assert_cx_ok(cx_gradcam(e, n.x, FILMS, cls, NULL, place, NULL, err));
    float peak = 0;
    for (int p = 0; p < FILMS * cells; p++)
        peak = mean[p] > peak ? mean[p] : peak;
    assert_true(peak > 0);
    assert_close("HiResCAM", place, mean, FILMS * cells, 1e-5, 1e-6);
    free(mean);
    free(place);
    cx_explainer_free(e);
    close_network(&n);
}

static void on_each_device(void (*test)(const char *))
{
    static const char *const devices[] = { "cpu", "emu", "cuda" };
    for (int i = 0; i < CX_COUNT(devices); i++)
        if (has_device(devices[i]))
            test(devices[i]);
}

static void test_adds_up_to_the_logit(void **state)
{
    (void)state;
    on_each_device(adds_up_to_the_logit);
}

static void test_equals_gradcam_before_pooling(void **state)
{
    (void)state;
    on_each_device(equals_gradcam_before_pooling);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_adds_up_to_the_logit), cmocka_unit_test(test_equals_gradcam_before_pooling) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
