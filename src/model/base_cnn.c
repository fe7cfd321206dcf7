/* base_cnn.c - the study's first network: five strided convolutions, two dense layers of 10, under 500,000 parameters at 320x320x3. */
#include <stdio.h>
#include "arch.h"

enum { CONVS = 5, FILTERS = 32, DENSES = 2, UNITS = 10 };

void build_base_cnn(const cx_model_spec *spec, cx_model *m)
{
    cx_graph *g = m->graph;
    char name[CX_NAME_MAX], relu[CX_NAME_MAX];
    int x = m->input;
    for (int i = 1; i <= CONVS; i++) {
        snprintf(name, sizeof name, "conv%d", i);
        snprintf(relu, sizeof relu, "relu%d", i);
        x = cx_conv2d(g, name, x, (cx_conv_spec){ .out = FILTERS, .kernel = i == 1 ? 5 : 3, .stride = 2, .bias = true, .init = CX_INIT_GLOROT_UNIFORM });
        x = cx_relu(g, relu, x);
    }
    m->features = x;
    x = cx_flatten(g, "flatten", x);
    for (int i = 1; i <= DENSES; i++) {
        snprintf(name, sizeof name, "dense%d", i);
        snprintf(relu, sizeof relu, "dense%d.relu", i);
        x = cx_relu(g, relu, cx_linear(g, name, x, UNITS, CX_INIT_GLOROT_UNIFORM));
    }
    m->logits = head_output(spec, g, x, CX_INIT_GLOROT_UNIFORM);
}
