/* arch.h - what an architecture is to this room: a builder with limits. Private to src/model. */
#ifndef CX_MODEL_ARCH_H
#define CX_MODEL_ARCH_H
#include <stdarg.h>
#include <stdio.h>
#include "cxnet/model.h"

/* Adds the network behind m->input to m->graph and sets features, logits and what else it has; failures stay in the graph. */
typedef void (*arch_build)(const cx_model_spec *spec, cx_model *m);

void build_base_cnn(const cx_model_spec *spec, cx_model *m);
void build_densenet121(const cx_model_spec *spec, cx_model *m);
void build_densenet169(const cx_model_spec *spec, cx_model *m);
void build_densenet201(const cx_model_spec *spec, cx_model *m);
void build_unet(const cx_model_spec *spec, cx_model *m);

/* CX_E_CONFIG where base, depth and side do not fit together. */
cx_status check_unet(const cx_model_spec *spec, cx_error *err);

/* A node's name, formatted; valid until the end of the caller's full expression. */
typedef struct { char text[CX_NAME_MAX]; } node_name;

__attribute__((format(printf, 1, 2))) static inline node_name name(const char *fmt, ...)
{
    node_name n;
    va_list args;
    va_start(args, fmt);
    vsnprintf(n.text, sizeof n.text, fmt, args);
    va_end(args);
    return n;
}

/* (N,1,1,F) -> dropout, where the spec wants it -> linear layer 'classifier'. */
int head_output(const cx_model_spec *spec, cx_graph *g, int x, cx_init init);
#endif
