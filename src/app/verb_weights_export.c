/* verb_weights_export.c - `cxnet weights export`: a file of ours, or a run's best weights, for other programs. Depends on app.h. */
#include <stdlib.h>
#include <string.h>
#include "app.h"

static const char FORMATS[] = "safetensors|torchvision|keras|onnx";
enum { SAFETENSORS, TORCHVISION, KERAS, ONNX };

static cx_status export(const cx_weights_net *n, int format, const char *out, cx_error *err)
{
    switch (format) {
    case SAFETENSORS: return cx_weights_net_save(n, out, err);
    case TORCHVISION: return cx_weights_export_torch(n, out, err);
    case KERAS: return cx_weights_export_keras(n, out, err);
    default: return cx_weights_export_onnx(n, out, err);
    }
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    const char *out = cx_arg(a, "--out");
    char *best = cx_is_dir(a->positional[0]) ? cx_path_join(a->positional[0], "checkpoints/best.safetensors") : cx_strdup(a->positional[0]);
    cx_weights_net n = { 0 };
    cx_backend *b = NULL;
    int format = -1;
    cx_status s = best ? cx_arg_choice(a, "--format", FORMATS, -1, &format, err) : cx_fail(err, CX_E_MEMORY, "no memory for a path");
    if (s == CX_OK && (format < 0 || !out))
        s = cx_fail(err, CX_E_USAGE, "weights export wants --format %s and --out FILE", FORMATS);
    if (s == CX_OK)
        s = cx_backend_open("cpu", 1, &b, err);
    if (s == CX_OK)
        s = cx_weights_open(best, b, &n, err);
    if (s == CX_OK)
        s = export(&n, format, out, err);
    if (s == CX_OK)
        printf("%s: %s with %d outputs, as %s\n", out, n.card.spec.arch, n.card.spec.outputs, cx_arg(a, "--format"));
    cx_weights_net_close(&n);
    if (b)
        cx_backend_close(b);
    free(best);
    return s;
}

static const cx_flag flags[] = {
    { "--format", FORMATS, "safetensors: ours, OHWI; torchvision: safetensors with PyTorch's axes; keras: HDF5 for load_weights; onnx: opset 17" },
    { "--out", "FILE", "file to write" },
};
const cx_verb cx_verb_weights_export = {
    .name = "weights export", .args = "FILE|RUN", .doc = "write a network's weights for PyTorch, Keras or ONNX", .min_args = 1, .max_args = 1, .run = run,
    .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "FILE is what `cxnet weights import` wrote, RUN the folder of a training, whose best weights are taken. torchvision: the names and shapes of "
            "torchvision.models.densenet121().state_dict(). keras: layers in the order of Keras applications' model, for load_weights. onnx: input films "
            "(N, channels, side, side), normalised as its metadata say; output logits.\n"
};
