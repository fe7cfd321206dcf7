/* test_plan_memory.c - how much memory plans take, that buffers alive at the same time never overlap, and that a training step allocates nothing. */
#include "graph/plan.h"
#include "runs.h"

/* ---- counting allocations of this process --------------------------------------------------------------------------
 * Not counted: memalign, by which libgomp (and nothing else here) makes a team of another size when a kernel asks for fewer threads. The hooks of
 * the sanitizers cannot tell it apart, so there the steps of the CPU backend are not counted. */

static volatile int allocations;

#ifdef CX_SANITIZED
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t), void (*free_hook)(const volatile void *));
static void on_malloc(const volatile void *p, size_t n) { (void)p, (void)n; allocations++; }
static void on_free(const volatile void *p) { (void)p; }
static const bool tells_libgomp_apart = false;
static void count_allocations(void) { __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free); }
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n) { allocations++; return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { allocations++; return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { allocations++; return __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n) { allocations++; return __libc_memalign(align, n); }
int posix_memalign(void **p, size_t align, size_t n) { allocations++; return (*p = __libc_memalign(align, n)) ? 0 : 12; }
static const bool tells_libgomp_apart = true;
static void count_allocations(void) { }
#endif

static void train_without_allocating(cx_backend *b, net_fn make)
{
    net n = checked(make);
    cx_store *s;
    cx_plan *p;
    float loss, *m, *v;
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    assert_cx_ok(cx_store_moments(s, &m, &v, err));
    spread_params(s, &n);
    cx_plan_opts o = training_opts(&n);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    set_inputs(p, &n);
    cx_error err = { 0 };
    cx_status status = CX_OK;
    int before = 0;
    for (int step = 0; step < 4 && status == CX_OK; step++) {
        if (step == 1)                                   /* the first step may start threads */
            before = allocations;
        status = cx_plan_forward(p, 1, (uint64_t)step, &err);
        if (status == CX_OK)
            status = cx_plan_backward(p, &err);
        if (status == CX_OK)
            status = cx_plan_get(p, n.loss, &loss, &err);
        if (status == CX_OK && b->update)
            status = b->update(b, &(cx_update){ .kind = CX_ADAM, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1, .t = step + 1 },
                               cx_store_trainable(s), cx_store_params(s), cx_store_grads(s), m, v, &err);
    }
    int after = allocations;
    assert_int_equal(status, CX_OK);
    assert_int_equal(after - before, 0);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    count_allocations();
    int start = allocations;
    free(cx_alloc(1, 100));
    assert_true(allocations > start);                    /* the counter counts */
    ref_backend r;
    cx_backend *cpu;
    ref_open(&r);
    for (int k = 0; k < CX_COUNT(every_net); k++)
        train_without_allocating(&r.base, every_net[k]);
    assert_cx_ok(cx_backend_open("cpu", 2, &cpu, err));
    for (int k = 0; k < CX_COUNT(every_net) && tells_libgomp_apart; k++)
        train_without_allocating(cpu, every_net[k]);
    cx_backend_close(cpu);
}

/* ---- placement ------------------------------------------------------------------------------------------------------ */

static void check_placement(const cx_plan *p)
{
    for (int i = 0; i < p->n_buffers; i++) {
        const cx_buffer *a = &p->buffers[i];
        size_t a_end = a->offset + (size_t)a->floats * sizeof(float);
        assert_int_equal(a->offset % 64, 0);
        assert_true(a_end <= (a->prepared ? p->prepared_bytes : p->act_bytes) && (a->prepared || (a->start >= 0 && a->end >= a->start)));
        for (int k = 0; k < i; k++) {
            const cx_buffer *b = &p->buffers[k];
            if (a->prepared != b->prepared)
                continue;
            bool together = a->prepared || (a->start <= b->end && b->start <= a->end);
            bool apart = a_end <= b->offset || b->offset + (size_t)b->floats * sizeof(float) <= a->offset;
            assert_true(!together || apart);
        }
    }
}

static size_t act_of(cx_store *s, cx_plan_opts o, int *steps)
{
    cx_plan *p;
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    check_placement(p);
    cx_plan_stats t = cx_plan_get_stats(p);
    if (steps)
        *steps = t.n_steps;
    cx_plan_free(p);
    return t.act_bytes;
}

/* Whatever passes are off. Nor do rebuilding a value or sharing memory ever cost memory. */
static void test_buffers_never_overlap(void **state)
{
    (void)state;
    for (int k = 0; k < CX_COUNT(every_net); k++) {
        net n = checked(every_net[k]);
        ref_backend b;
        cx_store *s;
        ref_open(&b);
        assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
        for (int i = 0; i <= CX_PASS_ALL; i += 5) {
            cx_plan_opts o = training_opts(&n);
            switches(&o, i);
            const size_t act = act_of(s, o, NULL);
            o.lean = true;
            assert_true(act_of(s, o, NULL) <= act || (i & CX_PASS_LIVENESS));
            o.lean = false;
            o.skip |= CX_PASS_RECOMPUTE;
            const size_t stored = act_of(s, o, NULL);
            assert_true(act <= stored || (i & CX_PASS_LIVENESS));
            o.skip |= CX_PASS_LIVENESS;
            assert_true(stored <= act_of(s, o, NULL));
        }
        cx_store_free(s);
        cx_graph_free(n.g);
    }
}

/* DenseNet-121 at 224 px, batch 16. Stored from forward to backward: block buffers (93 MB) and bottleneck outputs (276 MB), the stem's map (51 MB). */
static void test_densenet121_memory(void **state)
{
    (void)state;
    net n = dense_net(224, 3, 64, 32, (const int[]){ 6, 12, 24, 16 }, 4, 1);
    assert_cx_ok(cx_graph_check(n.g, err));
    ref_backend b;
    cx_store *s;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    assert_int_equal(s->trainable, 6954881 + 15);        /* torchvision: 7978856 - 1025000 of its 1000 classes + 1025 of one, and the gap after one bias */
    cx_plan_opts train = { .batch = 16, .training = true, .backward = true, .output = n.loss, .param_grads = true };
    cx_plan_opts eval = { .batch = 16, .output = n.logits }, cam = { .batch = 16, .backward = true, .output = n.logits, .keep = &n.feature, .n_keep = 1 };
    cx_plan_opts stored = train, copied = train, lean = train;
    stored.skip = CX_PASS_RECOMPUTE | CX_PASS_PROLOGUE;
    copied.skip = CX_PASS_VIEWS;
    lean.lean = true;
    const struct { const char *what; cx_plan_opts o; double below_mb; } want[] = {
        { "train", train, 1100 }, { "eval", eval, 250 }, { "Grad-CAM", cam, 300 }, { "train, norms stored", stored, 1e9 },
        { "train, concat copied", copied, 1e9 }, { "train, lean", lean, 300 },
    };
    size_t act[6];
    for (int i = 0; i < CX_COUNT(want); i++) {
        int steps;
        act[i] = act_of(s, want[i].o, &steps);
        print_message("DenseNet-121, 224 px, batch 16, %s: ACT %.1f MB, %d steps\n", want[i].what, (double)act[i] / 1e6, steps);
        assert_true((double)act[i] / 1e6 < want[i].below_mb);
    }
    assert_true(act[3] > act[0] + 400000000);
    assert_true(act[4] > act[0] + 100000000);
    cx_store_free(s);
    cx_graph_free(n.g);
}

typedef struct { int redone, folded, vectors, in_front, stats, carries, clears; } step_counts;

static step_counts count_steps(cx_store *s, const net *n, unsigned skip)
{
    cx_plan *p;
    step_counts c = { 0 };
    cx_plan_opts o = training_opts(n);
    o.skip = skip;
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    for (int i = 0; i < p->n_steps; i++) {
        cx_step_info info = cx_plan_step(p, i);
        bool forward = !strcmp(info.phase, "forward");
        assert_true(strcmp(info.op, "concat") && strcmp(info.op, "relu"));
        c.redone += !strcmp(info.phase, "redo");
        c.folded += forward && info.folded_relu;
        c.vectors += forward && !strcmp(info.folds, "vectors");
        c.in_front += forward && strstr(info.folds, "pre+relu") != NULL;
        c.stats += !strcmp(info.phase, "stats");
        c.carries += !strcmp(info.phase, "carry");
        c.clears += !strcmp(info.op, "zero");
    }
    int roots[2];
    roots[0] = cx_plan_view(p, cx_graph_find(n->g, "block0.layer0.conv2"), false).root;
    roots[1] = cx_plan_view(p, cx_graph_find(n->g, "pool0"), false).root;
    assert_string_equal(n->g->values[roots[0]].name, "block0.layer2.cat");
    assert_int_equal(roots[0], roots[1]);
    cx_plan_free(p);
    return c;
}

/* A chain of concats has no step and one buffer; a ReLU after a norm has no step, nor has the norm but for its vectors. */
static void test_steps_of_a_dense_block(void **state)
{
    (void)state;
    net n = checked(small_dense_net);
    ref_backend b;
    cx_store *s;
    int norms = 0;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    for (int k = 0; k < n.g->n_nodes; k++)
        norms += n.g->nodes[k].op == CX_OP_BATCH_NORM;
    step_counts c = count_steps(s, &n, CX_PASS_PROLOGUE | CX_PASS_POOL_FIRST);
    assert_int_equal(c.folded, norms);
    assert_int_equal(c.redone, norms - 1);               /* all but the last: the global average pool does not read its input in backward */
    assert_int_equal(c.vectors + c.in_front + c.stats + c.carries + c.clears, 0);
    c = count_steps(s, &n, 0);
    assert_int_equal(c.vectors, norms);
    assert_int_equal(c.in_front, norms);
    assert_int_equal(c.redone + c.clears, 0);
    assert_int_equal(c.stats, 1);                        /* of the stem's max pool, which delivers none */
    assert_int_equal(c.carries, 1);                      /* and cannot apply a carry */
    c = count_steps(s, &n, CX_PASS_AFFINE | CX_PASS_STATISTICS);
    assert_int_equal(c.carries, norms);
    assert_true(c.stats > norms / 2);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* The printed table has a row a step and a total; the profile has a time for each step that ran. */
static void test_print(void **state)
{
    (void)state;
    net n = checked(base_net);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    cx_plan_opts o = training_opts(&n);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    cx_plan_profile(p, true);
    run_forward(s, p, &n);
    assert_cx_ok(cx_plan_backward(p, err));
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    cx_plan_print(p, f);
    fclose(f);
    int lines = 0, conv1 = -1;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, cx_plan_get_stats(p).n_steps + 2);
    assert_non_null(strstr(text, "conv2d+relu"));
    assert_non_null(strstr(text, "ACT"));
    for (int i = 0; i < p->n_steps; i++) {
        assert_true(cx_plan_step(p, i).seconds > 0);
        if (!strcmp(cx_plan_step(p, i).node, "conv1") && conv1 < 0)
            conv1 = i;
    }
    cx_step_info info = cx_plan_step(p, conv1);          /* 3 films of 13x13x2, 6 kernels of 5x5x2 + bias, out 5x5x6 */
    assert_int_equal(info.bytes_read, 4 * (3 * 13 * 13 * 2 + 6 * 25 * 2 + 6));
    assert_int_equal(info.bytes_written, 4 * 3 * 5 * 5 * 6);
    free(text);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_allocate_nothing), cmocka_unit_test(test_buffers_never_overlap), cmocka_unit_test(test_densenet121_memory),
        cmocka_unit_test(test_steps_of_a_dense_block), cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
