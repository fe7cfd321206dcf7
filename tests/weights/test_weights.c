/* test_weights.c - parameters and state of a graph to a file and back: equal, all or nothing, and named by what they hold. */
#include "support.h"
#include "cxnet/weights.h"
#include <unistd.h>

/* A convolution, a norm and a head; `outputs` makes two graphs differ in one shape. */
static cx_graph *small_graph(int outputs)
{
    cx_graph *g = cx_graph_new();
    int x = cx_input(g, "film", (cx_shape){ 1, 5, 5, 2 });
    x = cx_conv2d(g, "conv", x, (cx_conv_spec){ 3, 3, 1, 1, false, CX_INIT_HE_NORMAL });
    x = cx_relu(g, "relu", cx_batch_norm(g, "norm", x, (cx_norm_attr){ 1e-5f, 0.1f, false, true }));
    x = cx_linear(g, "head", cx_global_avg_pool(g, "pool", x), outputs, CX_INIT_GLOROT_UNIFORM);
    assert_true(x >= 0);
    assert_cx_ok(cx_graph_check(g, err));
    return g;
}

typedef struct { cx_graph *g; cx_backend *b; cx_store *s; } net;

static net open_net(int outputs, uint64_t seed)
{
    net n = { .g = small_graph(outputs) };
    assert_cx_ok(cx_backend_open("cpu", 1, &n.b, err));
    assert_cx_ok(cx_store_new(n.g, n.b, seed, &n.s, err));
    return n;
}

static void close_net(net *n)
{
    cx_store_free(n->s);
    cx_backend_close(n->b);
    cx_graph_free(n->g);
}

static void sha(const net *n, char out[65])
{
    assert_cx_ok(cx_weights_sha256(n->s, out, err));
    assert_int_equal(strlen(out), 64);
}

static void saved_weights_come_back(void **state)
{
    (void)state;
    char path[] = "/tmp/cxnet-test-XXXXXX", one[65], two[65], back[65];
    static const float extra_data[] = { 1, 2, 3 };
    const cx_st_tensor extra = { "optim.m", CX_F32, 1, { 3 }, extra_data, sizeof extra_data };
    const cx_st_meta meta = { "epoch", "7" };
    net a = open_net(2, 1), b = open_net(2, 2);
    cx_st_file f;
    close(mkstemp(path));
    sha(&a, one);
    sha(&b, two);
    assert_string_not_equal(one, two);
    assert_cx_ok(cx_weights_save(a.s, path, &extra, 1, &meta, 1, err));
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_int_equal(f.n, 8);      /* conv weight, gamma, beta, mean, var, head weight, bias, and the extra one */
    assert_string_equal(cx_st_meta_get(&f, "epoch"), "7");
    assert_memory_equal(cx_st_find(&f, "optim.m")->data, extra_data, sizeof extra_data);
    const cx_st_tensor *conv = cx_st_find(&f, "conv.weight");
    assert_non_null(conv);
    assert_int_equal(conv->nd, 4);
    assert_memory_equal(conv->d, ((int64_t[]){ 3, 3, 3, 2 }), 32);
    assert_cx_ok(cx_weights_load(b.s, &f, err));
    sha(&b, back);
    assert_string_equal(one, back);
    cx_st_free(&f);
    unlink(path);
    close_net(&a);
    close_net(&b);
}

/* The identity covers every value: changing one number of any of them changes it. */
static void every_number_counts(void **state)
{
    (void)state;
    char before[65], after[65];
    net n = open_net(2, 1);
    sha(&n, before);
    for (int i = 0; i < n.g->n_values; i++) {
        const cx_value *v = &n.g->values[i];
        if (v->kind != CX_PARAM && v->kind != CX_STATE)
            continue;
        float *host = cx_alloc((size_t)cx_elems(v->shape), sizeof *host), old;
        assert_cx_ok(cx_store_get(n.s, i, host, err));
        float *last = &host[cx_elems(v->shape) - 1];
        old = *last;
        *last = old + 1;
        assert_cx_ok(cx_store_set(n.s, i, host, err));
        sha(&n, after);
        assert_string_not_equal(before, after);
        *last = old;
        assert_cx_ok(cx_store_set(n.s, i, host, err));
        free(host);
    }
    sha(&n, after);
    assert_string_equal(before, after);
    close_net(&n);
}

/* A file that does not fit changes nothing, whatever fits before the misfit. */
static void misfits_change_nothing(void **state)
{
    (void)state;
    char path[] = "/tmp/cxnet-test-XXXXXX", before[65], after[65];
    net a = open_net(3, 1), b = open_net(2, 2);
    cx_st_file f;
    close(mkstemp(path));
    sha(&b, before);
    assert_cx_ok(cx_weights_save(a.s, path, NULL, 0, NULL, 0, err));
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_cx_fails(CX_E_DATA, "'head.weight': want F32 [2, 1, 1, 3], got F32 [3, 1, 1, 3]", cx_weights_load(b.s, &f, err));
    for (int i = 0; i < f.n; i++) {
        cx_st_tensor kept = f.tensors[i];
        f.tensors[i].name = "other";
        assert_cx_fails(CX_E_DATA, "is missing", cx_weights_load(a.s, &f, err));
        f.tensors[i] = kept;
        f.tensors[i].dtype = CX_I32;
        assert_cx_fails(CX_E_DATA, "got another type", cx_weights_load(a.s, &f, err));
        f.tensors[i] = kept;
    }
    sha(&b, after);
    assert_string_equal(before, after);
    assert_cx_ok(cx_weights_load(a.s, &f, err));
    cx_st_free(&f);
    unlink(path);
    close_net(&a);
    close_net(&b);
}

/* A loss with its class weights on top of a network changes neither its file nor its identity, so files go from one to the other. */
static void a_loss_is_no_part_of_a_network(void **state)
{
    (void)state;
    char path[] = "/tmp/cxnet-test-XXXXXX", bare[65], with[65];
    net a = open_net(2, 1);
    cx_graph *g = small_graph(2);
    int logits = cx_graph_find(g, "head"), target = cx_input(g, "target", (cx_shape){ 1, 1, 1, 2 });
    int weight = cx_param(g, "loss.weight", CX_STATE, (cx_shape){ 1, 1, 2, 2 }, CX_INIT_ONE);
    assert_true(cx_bce_loss(g, "loss", logits, target, weight, 0) >= 0);
    net b = { .g = g };
    cx_st_file f;
    assert_cx_ok(cx_backend_open("cpu", 1, &b.b, err));
    assert_cx_ok(cx_store_new(g, b.b, 2, &b.s, err));
    close(mkstemp(path));
    assert_cx_ok(cx_weights_save(a.s, path, NULL, 0, NULL, 0, err));
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_cx_ok(cx_weights_load(b.s, &f, err));
    sha(&a, bare);
    sha(&b, with);
    assert_string_equal(bare, with);
    cx_st_free(&f);
    assert_cx_ok(cx_weights_save(b.s, path, NULL, 0, NULL, 0, err));
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_int_equal(f.n, 7);
    assert_null(cx_st_find(&f, "loss.weight"));
    cx_st_free(&f);
    unlink(path);
    close_net(&a);
    close_net(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_weights_come_back),
        cmocka_unit_test(every_number_counts),
        cmocka_unit_test(misfits_change_nothing),
        cmocka_unit_test(a_loss_is_no_part_of_a_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
