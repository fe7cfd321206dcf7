/* node.h - a call that carries nothing but a node's attributes: where shape inference of the graph and of a plan begin. */
#ifndef CX_GRAPH_NODE_H
#define CX_GRAPH_NODE_H
#include "cxnet/graph.h"

/* attr points into the node, so it is valid while the graph does not grow. The caller fills x[i].s. */
static inline cx_call cx_node_call(const cx_node *node)
{
    cx_call c = { .attr = node->attr.bytes, .n_in = node->n_in, .n_out = node->n_out };
    return c;
}

#endif
