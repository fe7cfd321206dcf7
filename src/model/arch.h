/* arch.h - what an architecture is to this room: a builder with limits. Private to src/model. */
#ifndef CX_MODEL_ARCH_H
#define CX_MODEL_ARCH_H
#include "cxnet/model.h"

/* Adds the network behind m->input to m->graph and sets features and logits; failures stay in the graph. */
typedef void (*arch_build)(const cx_model_spec *spec, cx_model *m);

void build_base_cnn(const cx_model_spec *spec, cx_model *m);
void build_densenet121(const cx_model_spec *spec, cx_model *m);
void build_densenet169(const cx_model_spec *spec, cx_model *m);
void build_densenet201(const cx_model_spec *spec, cx_model *m);

/* (N,1,1,F) -> dropout, where the spec wants it -> linear layer 'classifier'. */
int head_output(const cx_model_spec *spec, cx_graph *g, int x, cx_init init);
#endif
