/* store.h - inside of a store, for the plans that share it. */
#ifndef CX_GRAPH_STORE_H
#define CX_GRAPH_STORE_H
#include "cxnet/graph.h"

struct cx_store {
    const cx_graph *g;
    cx_backend *b;
    int n_values;                    /* of the graph when the store was made */
    int64_t *offset;                 /* [n_values] floats from the start of PARAM (and of GRAD, for trainable ones); -1 = not here */
    int64_t trainable, total;        /* floats */
    float *param, *grad, *m, *v;
    void *act, *work;
    size_t act_bytes, work_bytes;
    uint64_t version;                /* grows with every change of a parameter or of state */
    int plans, forward;              /* plans made so far; number of the plan whose forward pass ACT holds, 0 = of none */
};

/* Grows ACT and WORK to at least these sizes. Contents are lost when an arena grows; a failure leaves the old size in place where that is possible. */
cx_status cx_store_reserve(cx_store *s, size_t act_bytes, size_t work_bytes, cx_error *err);
/* From here to the end of PARAM lie all running statistics, and frozen parameters if need be; total where there are none. */
int64_t cx_store_state_at(const cx_store *s);

#endif
