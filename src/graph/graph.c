/* graph.c - building a graph: values, nodes, shape inference at batch 1, the sticky error, freezing. Depends on the operator table. */
#include <stdlib.h>
#include <string.h>
#include "cxnet/base.h"
#include "node.h"

cx_graph *cx_graph_new(void)
{
    return cx_alloc(1, sizeof(cx_graph));
}

void cx_graph_free(cx_graph *g)
{
    if (!g)
        return;
    free(g->values);
    free(g->nodes);
    free(g);
}

cx_status cx_graph_check(const cx_graph *g, cx_error *err)
{
    if (!g)
        return cx_fail(err, CX_E_MEMORY, "no memory for a graph");
    if (g->err.status != CX_OK && err)
        *err = g->err;
    return g->err.status;
}

int cx_graph_find(const cx_graph *g, const char *name)
{
    for (int i = 0; g && name && i < g->n_values; i++)
        if (strcmp(g->values[i].name, name) == 0)
            return i;
    return -1;
}

static bool broken(const cx_graph *g)
{
    return !g || g->err.status != CX_OK;
}

/* Each extent at least 1, and the bytes of the float32 tensor fit in int64_t. */
static bool countable(cx_shape s)
{
    int64_t n = 4;
    const int64_t extent[] = { s.n, s.h, s.w, s.c };
    for (int i = 0; i < 4; i++)
        if (extent[i] < 1 || __builtin_mul_overflow(n, extent[i], &n))
            return false;
    return true;
}

static int add_value(cx_graph *g, const char *name, cx_value_kind kind, cx_shape s)
{
    cx_error *err = &g->err;
    if (!name || !*name)
        return (void)cx_fail(err, CX_E_USAGE, "a node or value without a name: every one needs its own"), -1;
    if (strlen(name) >= CX_NAME_MAX)
        return (void)cx_fail(err, CX_E_USAGE, "%.40s...: a name may have at most %d characters", name, CX_NAME_MAX - 1), -1;
    if (cx_graph_find(g, name) >= 0)
        return (void)cx_fail(err, CX_E_USAGE, "%s: a value of this name exists already; names are unique in a graph", name), -1;
    if (!countable(s))
        return (void)cx_fail(err, CX_E_SHAPE, "%s: shape (%lld,%lld,%lld,%lld): want every extent >= 1 and less than 2^63 bytes in all", name,
                             (long long)s.n, (long long)s.h, (long long)s.w, (long long)s.c), -1;
    if (!cx_grow(&g->values, &g->values_cap, (size_t)g->n_values + 1, sizeof *g->values))
        return (void)cx_fail(err, CX_E_MEMORY, "%s: no memory for another value", name), -1;
    cx_value *v = &g->values[g->n_values];
    *v = (cx_value){ .kind = kind, .shape = s, .node = -1, .out = -1 };
    memcpy(v->name, name, strlen(name) + 1);
    return g->n_values++;
}

int cx_input(cx_graph *g, const char *name, cx_shape shape)
{
    if (broken(g))
        return -1;
    if (shape.n != 1)
        return (void)cx_fail(&g->err, CX_E_SHAPE, "%s: an input is given at batch 1, got %lld; the plan sets the batch", name ? name : "",
                             (long long)shape.n), -1;
    return add_value(g, name, CX_INPUT, shape);
}

int cx_param(cx_graph *g, const char *name, cx_value_kind kind, cx_shape shape, cx_init init)
{
    if (broken(g))
        return -1;
    if (kind != CX_PARAM && kind != CX_STATE)
        return (void)cx_fail(&g->err, CX_E_USAGE, "%s: cx_param makes CX_PARAM or CX_STATE, got kind %d", name ? name : "", (int)kind), -1;
    if ((unsigned)init > CX_INIT_TORCH_LINEAR)
        return (void)cx_fail(&g->err, CX_E_USAGE, "%s: unknown initialisation %d", name ? name : "", (int)init), -1;
    int v = add_value(g, name, kind, shape);
    if (v >= 0)
        g->values[v].init = init;
    return v;
}

/* Checks operator, attributes and input indices; *node is ready for shape inference. */
static cx_status fill_node(cx_graph *g, const char *name, cx_op_id op, const void *attr, const int *in, int n_in, cx_node *node)
{
    cx_error *err = &g->err;
    if ((unsigned)op >= CX_OP_COUNT)
        return cx_fail(err, CX_E_USAGE, "operator %d does not exist; the table has %d", (int)op, (int)CX_OP_COUNT);
    const cx_op *o = &cx_ops[op];
    if (n_in < o->in_min || n_in > o->in_max)
        return cx_fail(err, CX_E_USAGE, "%s takes %d to %d inputs, got %d", o->name, o->in_min, o->in_max, n_in);
    if (!attr && o->attr_size > sizeof(cx_no_attr))
        return cx_fail(err, CX_E_USAGE, "%s needs its attributes, got NULL", o->name);
    *node = (cx_node){ .op = op, .n_in = n_in, .n_out = o->n_out };
    if (strlen(name) >= CX_NAME_MAX)
        return cx_fail(err, CX_E_USAGE, "a name may have at most %d characters", CX_NAME_MAX - 1);
    memcpy(node->name, name, strlen(name) + 1);
    if (attr)
        memcpy(node->attr.bytes, attr, o->attr_size);
    for (int i = 0; i < n_in; i++) {
        bool absent = in[i] == -1 && i >= o->in_min;
        if (!absent && (in[i] < 0 || in[i] >= g->n_values))
            return cx_fail(err, CX_E_USAGE, "%s: input %d is value %d, but the graph has values 0 to %d", o->name, i, in[i], g->n_values - 1);
        node->in[i] = in[i];
    }
    return CX_OK;
}

int cx_apply(cx_graph *g, const char *name, cx_op_id op, const void *attr, const int *in, int n_in)
{
    cx_node node;
    if (broken(g))
        return -1;
    name = name ? name : "";
    cx_status s = fill_node(g, name, op, attr, in, n_in, &node);
    if (s != CX_OK)
        return (void)cx_prefix(&g->err, s, "%.*s", CX_NAME_MAX, name), -1;
    cx_call c = cx_node_call(&node);
    for (int i = 0; i < n_in; i++)
        if (in[i] >= 0)
            c.x[i].s = g->values[in[i]].shape;
    s = cx_ops[op].infer(&c, &g->err);
    if (s != CX_OK) {
        g->err.status = s;
        return (void)cx_prefix(&g->err, s, "%s", name), -1;
    }
    if (!cx_grow(&g->nodes, &g->nodes_cap, (size_t)g->n_nodes + 1, sizeof *g->nodes))
        return (void)cx_fail(&g->err, CX_E_MEMORY, "%s: no memory for another node", name), -1;
    for (int j = 0; j < node.n_out; j++) {
        char saved[CX_NAME_MAX + 8];
        snprintf(saved, sizeof saved, "%s:%d", name, j);
        node.out[j] = add_value(g, j == 0 ? name : saved, CX_ACT, c.y[j].s);
        if (node.out[j] < 0)
            return -1;
        g->values[node.out[j]].node = g->n_nodes;
        g->values[node.out[j]].out = j;
    }
    g->nodes[g->n_nodes++] = node;
    return node.out[0];
}

/* Glob match: * any run of characters, ? one character. Backtracks to the last star only, which is enough. */
static bool matches(const char *pattern, const char *s)
{
    const char *star = NULL, *retry = NULL;
    while (*s) {
        if (*pattern == '*') {
            star = pattern++;
            retry = s;
        } else if (*pattern == '?' || *pattern == *s) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star + 1;
            s = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == 0;
}

int cx_graph_freeze(cx_graph *g, const char *pattern)
{
    int n = 0;
    for (int i = 0; g && i < g->n_values; i++) {
        if (g->values[i].kind != CX_PARAM || !matches(pattern, g->values[i].name))
            continue;
        g->values[i].frozen = true;
        n++;
    }
    for (int i = 0; g && i < g->n_nodes; i++) {
        cx_node *node = &g->nodes[i];
        if (node->op != CX_OP_BATCH_NORM || !g->values[node->in[1]].frozen || !g->values[node->in[2]].frozen)
            continue;
        cx_norm_attr attr;
        memcpy(&attr, node->attr.bytes, sizeof attr);
        attr.frozen = true;
        memcpy(node->attr.bytes, &attr, sizeof attr);
    }
    return n;
}
