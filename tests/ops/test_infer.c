/* test_infer.c - wrong calls of operators: each is refused with its status and a message that says what was wanted and what was found. */
#include "cxnet/op.h"
#include "support.h"

typedef struct { cx_op_id op; const void *attr; cx_shape in[CX_MAX_IN]; int flags; cx_status status; const char *text; } wrong_call;
enum { TRAINING = 1, RELU = 2 };

#define A(kind, ...) &(const cx_##kind##_attr){ __VA_ARGS__ }
#define V(c) { 1, 1, 1, c }
static const wrong_call wrong[] = {
    { CX_OP_CONV2D, A(conv, .stride = 1), { { 1, 8, 8, 32 }, { 8, 3, 3, 64 } }, 0, CX_E_SHAPE, "conv2d: weight has 64 input channels, x has 32" },
    { CX_OP_CONV2D, A(conv, .stride = 0), { { 1, 8, 8, 3 }, { 8, 3, 3, 3 } }, 0, CX_E_CONFIG, "stride must be at least 1, is 0" },
    { CX_OP_CONV2D, A(conv, .stride = 1, .pad_left = -1), { { 1, 8, 8, 3 }, { 8, 3, 3, 3 } }, 0,
      CX_E_CONFIG, "padding must not be negative, is top 0, bottom 0, left -1" },
    { CX_OP_CONV2D, A(conv, .stride = 1, .pad_top = 1), { { 1, 5, 9, 3 }, { 8, 7, 7, 3 } }, 0, CX_E_SHAPE, "kernel 7x7 is larger than the padded input 6x9" },
    { CX_OP_CONV2D, A(conv, .stride = 1), { { 1, 8, 8, 3 }, { 8, 3, 3, 3 }, V(7) }, 0, CX_E_SHAPE, "conv2d: bias must be (1,1,1,8), is (1,1,1,7)" },
    { CX_OP_CONV2D, A(conv, .stride = 1), { { 1, 8, 8, 3 } }, 0, CX_E_USAGE, "conv2d: takes 2 to 3 inputs, got 1" },
    { CX_OP_CONV2D, NULL, { { 1, 8, 8, 3 }, { 8, 3, 3, 3 } }, 0, CX_E_USAGE, "conv2d: its attributes are missing" },
    { CX_OP_CONV2D, A(conv, .stride = 1), { { 1, 0, 8, 3 }, { 8, 3, 3, 3 } }, 0, CX_E_SHAPE, "conv2d: input 0 is (1,0,8,3)" },
    { CX_OP_CONV2D, A(conv, .stride = 1), { { INT64_MAX, 2, 8, 3 }, { 8, 3, 3, 3 } }, 0, CX_E_SHAPE, "all elements addressable" },
    { CX_OP_CONV2D, A(conv, .stride = 1), { { 1, 8, 8, 3 }, { -8, 3, 3, 3 } }, 0, CX_E_SHAPE, "input 1 is (-8,3,3,3)" },
    { CX_OP_LINEAR, NULL, { { 2, 4, 4, 8 }, { 3, 1, 1, 8 } }, 0, CX_E_SHAPE, "linear: x must be (N,1,1,F), is (2,4,4,8); flatten or pool it first" },
    { CX_OP_LINEAR, NULL, { { 2, 1, 1, 8 }, { 3, 1, 2, 4 } }, 0, CX_E_SHAPE, "linear: weight must be (O,1,1,I), is (3,1,2,4)" },
    { CX_OP_LINEAR, NULL, { { 2, 1, 1, 8 }, { 3, 1, 1, 9 } }, 0, CX_E_SHAPE, "linear: weight has 9 input features, x has 8" },
    { CX_OP_LINEAR, NULL, { { 2, 1, 1, 8 }, { 3, 1, 1, 8 }, { 3, 1, 1, 1 } }, 0, CX_E_SHAPE, "linear: bias must be (1,1,1,3), is (3,1,1,1)" },
    { CX_OP_BATCH_NORM, A(norm, .eps = 0), { { 2, 2, 2, 3 }, V(3), V(3), V(3), V(3) }, 0, CX_E_CONFIG, "batch_norm: eps must be above 0, is 0" },
    { CX_OP_BATCH_NORM, A(norm, .eps = 1, .momentum = 1.5f), { { 2, 2, 2, 3 }, V(3), V(3), V(3), V(3) }, 0, CX_E_CONFIG, "momentum must be 0 to 1" },
    { CX_OP_BATCH_NORM, A(norm, .eps = NAN), { { 2, 2, 2, 3 }, V(3), V(3), V(3), V(3) }, 0, CX_E_CONFIG, "eps must be above 0, is nan" },
    { CX_OP_BATCH_NORM, A(norm, .eps = 1), { { 2, 2, 2, 3 }, V(3), V(3), V(4), V(3) }, 0,
      CX_E_SHAPE, "batch_norm: running mean must be (1,1,1,3), is (1,1,1,4)" },
    { CX_OP_BATCH_NORM, A(norm, .eps = 1), { { 2, 2, 2, 3 }, V(2), V(3), V(3), V(3) }, 0, CX_E_SHAPE, "batch_norm: gamma must be (1,1,1,3)" },
    { CX_OP_BATCH_NORM, A(norm, .eps = 1), { { 1, 1, 1, 3 }, V(3), V(3), V(3), V(3) }, TRAINING,
      CX_E_SHAPE, "more than one value per channel, x is (1,1,1,3)" },
    { CX_OP_BATCH_NORM, A(norm, .eps = 1), { { 2, 2, 2, 3 }, V(3), V(3) }, 0, CX_E_USAGE, "batch_norm: takes 5 to 5 inputs, got 3" },
    { CX_OP_RELU, NULL, { { 2, 2, 2, 3 } }, RELU, CX_E_USAGE, "relu: cannot fold a ReLU" },
    { CX_OP_LEAKY_RELU, A(leaky, .slope = INFINITY), { { 2, 2, 2, 3 } }, 0, CX_E_CONFIG, "leaky_relu: slope must be a finite number" },
    { CX_OP_SIGMOID, NULL, { { 2, 2, 2, 3 }, { 2, 2, 2, 3 } }, 0, CX_E_USAGE, "sigmoid: takes 1 to 1 inputs, got 2" },
    { CX_OP_SOFTMAX, NULL, { { 0 } }, 0, CX_E_USAGE, "softmax: takes 1 to 1 inputs, got 0" },
    { CX_OP_MAX_POOL, A(pool, .kernel = 0, .stride = 1), { { 1, 4, 4, 2 } }, 0, CX_E_CONFIG, "max_pool: kernel and stride must be at least 1, are 0 and 1" },
    { CX_OP_MAX_POOL, A(pool, .kernel = 2, .stride = 0), { { 1, 4, 4, 2 } }, 0, CX_E_CONFIG, "are 2 and 0" },
    { CX_OP_MAX_POOL, A(pool, .kernel = 3, .stride = 2, .pad = 2), { { 1, 4, 4, 2 } }, 0,
      CX_E_CONFIG, "max_pool: padding must be 0 to half the kernel (1), is 2" },
    { CX_OP_AVG_POOL, A(pool, .kernel = 5, .stride = 1), { { 1, 4, 6, 2 } }, 0, CX_E_SHAPE, "avg_pool: window 5x5 is larger than the padded input 4x6" },
    { CX_OP_AVG_POOL, A(pool, .kernel = 2, .stride = 2, .pad = -1), { { 1, 4, 6, 2 } }, 0,
      CX_E_CONFIG, "avg_pool: padding must be 0 to half the kernel (1), is -1" },
    { CX_OP_GLOBAL_AVG_POOL, NULL, { { 1, 4, 0, 2 } }, 0, CX_E_SHAPE, "global_avg_pool: input 0 is (1,4,0,2)" },
    { CX_OP_CONCAT, NULL, { { 1, 4, 4, 2 }, { 1, 4, 5, 2 } }, 0,
      CX_E_SHAPE, "concat: inputs may differ in channels only, input 0 is (1,4,4,2), input 1 is (1,4,5,2)" },
    { CX_OP_CONCAT, NULL, { { 1, 4, 4, 2 } }, 0, CX_E_USAGE, "concat: takes 2 to 8 inputs, got 1" },
    { CX_OP_ADD, NULL, { { 1, 4, 4, 2 }, { 1, 4, 4, 3 } }, 0, CX_E_SHAPE, "add: both inputs must have the same shape, are (1,4,4,2) and (1,4,4,3)" },
    { CX_OP_FLATTEN, NULL, { { 1, 4, 4, -2 } }, 0, CX_E_SHAPE, "input 0" },
    { CX_OP_DROPOUT, A(dropout, .rate = 1), { { 1, 1, 1, 2 } }, 0, CX_E_CONFIG, "dropout: rate must be 0 or more and below 1, is 1" },
    { CX_OP_DROPOUT, A(dropout, .rate = -0.5f), { { 1, 1, 1, 2 } }, 0, CX_E_CONFIG, "below 1, is -0.5" },
    { CX_OP_UPSAMPLE, A(upsample, .out_h = 4, .out_w = 0), { { 1, 4, 4, 2 } }, 0,
      CX_E_CONFIG, "upsample_bilinear: output size must be at least 1x1, is 4x0" },
    { CX_OP_CONV_TRANSPOSE2D, A(convt, .stride = 2), { { 1, 4, 4, 2 }, { 3, 2, 2, 8 } }, 0,
      CX_E_SHAPE, "weight has 3 input channels (its first dimension), x has 2" },
    { CX_OP_CONV_TRANSPOSE2D, A(convt, .stride = -1), { { 1, 4, 4, 2 }, { 2, 2, 2, 8 } }, 0,
      CX_E_CONFIG, "conv_transpose2d: stride must be at least 1, is -1" },
    { CX_OP_CONV_TRANSPOSE2D, A(convt, .stride = 1, .pad = 3), { { 1, 4, 4, 2 }, { 2, 2, 2, 8 } }, 0, CX_E_SHAPE, "padding 3 leaves an output of -1x-1" },
    { CX_OP_CONV_TRANSPOSE2D, A(convt, .stride = 1, .pad = -1), { { 1, 4, 4, 2 }, { 2, 2, 2, 8 } }, 0, CX_E_CONFIG, "padding must not be negative, is -1" },
    { CX_OP_CONV_TRANSPOSE2D, A(convt, .stride = 1), { { 1, 4, 4, 2 }, { 2, 2, 2, 8 }, V(2) }, 0, CX_E_SHAPE, "bias must be (1,1,1,8)" },
    { CX_OP_BCE_LOSS, A(bce, .smoothing = 1), { { 2, 1, 1, 3 }, { 2, 1, 1, 3 } }, 0, CX_E_CONFIG, "bce_loss: smoothing must be 0 or more and below 1, is 1" },
    { CX_OP_BCE_LOSS, A(bce, 0), { { 2, 1, 1, 3 }, { 2, 1, 1, 1 } }, 0,
      CX_E_SHAPE, "bce_loss: target must have the shape of the prediction (2,1,1,3), is (2,1,1,1)" },
    { CX_OP_BCE_LOSS, A(bce, 0), { { 2, 1, 1, 3 }, { 2, 1, 1, 3 }, V(3) }, 0,
      CX_E_SHAPE, "bce_loss: weights must be (1,1,2,3), negatives then positives, are (1,1,1,3)" },
    { CX_OP_CE_LOSS, A(ce, 0), { { 2, 1, 1, 3 }, { 2, 1, 1, 3 } }, 0,
      CX_E_SHAPE, "ce_loss: target must hold one class index per row, (2,1,1,1), is (2,1,1,3)" },
    { CX_OP_CE_LOSS, A(ce, 0), { { 2, 1, 1, 1 }, { 2, 1, 1, 1 } }, 0, CX_E_SHAPE, "ce_loss: needs at least 2 classes" },
    { CX_OP_CE_LOSS, A(ce, 0), { { 2, 1, 1, 3 }, { 2, 1, 1, 1 }, V(2) }, 0, CX_E_SHAPE, "ce_loss: weights must be (1,1,1,3), is (1,1,1,2)" },
    { CX_OP_CE_LOSS, A(ce, -0.5f), { { 2, 1, 1, 3 }, { 2, 1, 1, 1 } }, 0, CX_E_CONFIG, "ce_loss: smoothing must be 0 or more" },
    { CX_OP_DICE_LOSS, A(dice, -1), { { 2, 4, 4, 1 }, { 2, 4, 4, 1 } }, 0, CX_E_CONFIG, "dice_loss: smooth must be 0 or more, is -1" },
    { CX_OP_DICE_LOSS, A(dice, 1), { { 2, 4, 4, 1 }, { 2, 4, 5, 1 } }, 0,
      CX_E_SHAPE, "dice_loss: target must have the shape of the prediction (2,4,4,1), is (2,4,5,1)" },
};

static cx_call call_of(const wrong_call *w)
{
    cx_call c = { .attr = w->attr, .training = w->flags & TRAINING, .relu = w->flags & RELU };
    for (; c.n_in < CX_MAX_IN && w->in[c.n_in].n != 0; c.n_in++)
        c.x[c.n_in] = (cx_tensor){ .s = w->in[c.n_in], .ld = w->in[c.n_in].c };
    return c;
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    bool seen[CX_OP_COUNT] = { 0 };
    for (int i = 0; i < CX_COUNT(wrong); i++) {
        cx_call c = call_of(&wrong[i]);
        assert_cx_fails(wrong[i].status, wrong[i].text, cx_ops[wrong[i].op].infer(&c, err));
        assert_int_equal(cx_ops[wrong[i].op].infer(&c, NULL), wrong[i].status);
        seen[wrong[i].op] = true;
    }
    for (int op = 0; op < CX_OP_COUNT; op++)
        if (!seen[op])
            fail_msg("no wrong call of %s is tested", cx_ops[op].name);
}

static void required_inputs_may_not_be_absent(void **state)
{
    (void)state;
    const cx_conv_attr attr = { .stride = 1 };
    cx_call c = { .attr = &attr, .n_in = 2, .x = { { { 1, 4, 4, 3 }, 3, NULL } } };
    assert_cx_fails(CX_E_SHAPE, "conv2d: input 1 is absent, only inputs from 2 on are optional", cx_ops[CX_OP_CONV2D].infer(&c, err));
    c = (cx_call){ .n_in = 3, .x = { { { 1, 4, 4, 3 }, 3, NULL }, { { 1, 4, 4, 3 }, 3, NULL } } };
    assert_cx_fails(CX_E_SHAPE, "concat: input 2 is absent", cx_ops[CX_OP_CONCAT].infer(&c, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(wrong_calls_are_refused), cmocka_unit_test(required_inputs_may_not_be_absent) };
    return cmocka_run_group_tests_name("infer", tests, NULL, NULL);
}
