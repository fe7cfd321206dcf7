/* export_torch.c - a network's weights with torchvision's names and axes. Depends on layers.h. */
#include <stdlib.h>
#include <string.h>
#include "layers.h"

static cx_status add(cx_store *s, int value, cx_st_tensor *t, cx_error *err)
{
    const cx_value *v = &cx_store_graph(s)->values[value];
    float *file;
    cx_layout l;
    TRY(cx_layout_out(s, value, CX_AXES_TORCH, &l, &file, err));
    *t = (cx_st_tensor){ .name = v->name, .dtype = CX_F32, .nd = l.nd, .data = file, .bytes = (size_t)cx_elems(v->shape) * sizeof *file };
    memcpy(t->d, l.d, sizeof l.d);
    return CX_OK;
}

cx_status cx_weights_export_torch(const cx_weights_net *net, const char *path, cx_error *err)
{
    const cx_graph *g = net->model.graph;
    cx_st_meta meta[CX_CARD_META];
    cx_st_tensor *rows = cx_alloc((size_t)g->n_values, sizeof *rows);
    int n = 0;
    if (!rows)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %d tensors", path, g->n_values);
    cx_status status = cx_weights_card_write(&net->card, meta, err);
    if (status == CX_OK) {
        for (int v = 0; status == CX_OK && v < g->n_values; v++)
            if (cx_weights_kept(g, v))
                status = add(net->store, v, &rows[n++], err);
        if (status == CX_OK)
            status = cx_st_write(path, rows, n, meta, CX_CARD_META, err);
        cx_weights_card_unwrite(meta);
    }
    while (n > 0)
        free((float *)rows[--n].data);
    free(rows);
    return status;
}
