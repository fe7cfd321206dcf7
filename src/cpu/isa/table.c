/* table.c - the table of one instruction set: every operator that has kernels, best first. Depends on kernels.h, impls.h. */
#include "cpu/kernels.h"

#define ROW(ID, name) [CX_OP_##ID] = { CX_FN(name##_impls), &CX_FN(name##_n) }

const cx_cpu_kernels CX_FN(cpu_kernels) = {
    .ops = {
        ROW(CONV2D, conv2d),
        ROW(LINEAR, linear),
        ROW(CONV_TRANSPOSE2D, conv_transpose2d),
        ROW(BATCH_NORM, batch_norm),
        ROW(RELU, relu),
        ROW(LEAKY_RELU, leaky_relu),
        ROW(SIGMOID, sigmoid),
        ROW(SOFTMAX, softmax),
        ROW(MAX_POOL, max_pool),
        ROW(AVG_POOL, avg_pool),
        ROW(GLOBAL_AVG_POOL, global_avg_pool),
        ROW(CONCAT, concat),
        ROW(ADD, add),
        ROW(FLATTEN, flatten),
        ROW(DROPOUT, dropout),
        ROW(UPSAMPLE, upsample_bilinear),
        ROW(DICE_LOSS, dice_loss),
    },
    .statistics = &CX_FN(statistics_impl),
    .convert = &CX_FN(convert_impl),
    .update = CX_FN(update),
    .sum_squares = CX_FN(sum_squares),
    .limits = &CX_FN(limits),
};
