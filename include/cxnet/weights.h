/* weights.h - tensors in files: safetensors, read strictly and written durably; everybody else's weight files, read in a child process that can do nothing
 * else; what becomes of them in a network of ours, and the way back. Depends on graph.h, model.h. */
#ifndef CXNET_WEIGHTS_H
#define CXNET_WEIGHTS_H
#include "cxnet/base.h"
#include "cxnet/model.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { CX_ST_DIMS = 8 };
typedef struct { const char *name; cx_dtype dtype; int nd; int64_t d[CX_ST_DIMS]; const void *data; size_t bytes; } cx_st_tensor;
typedef struct { const char *key, *value; } cx_st_meta;

/* A file in memory. Names and data point into it. */
typedef struct { cx_st_tensor *tensors; int n; cx_st_meta *meta; int n_meta; void *map; size_t map_bytes; void *json; } cx_st_file;
/* Strict: header at most 64 MiB and inside the file, JSON without doubled keys, known dtypes, 0 <= dims, bytes = product * size, tensors cover the
 * data part exactly: sorted, no holes, no overlaps, nothing behind; names unique and valid UTF-8; metadata strings only. CX_E_DATA with path and
 * reason; CX_E_NOINPUT. */
cx_status cx_st_read(const char *path, cx_st_file *out, cx_error *err);
cx_status cx_st_parse(const char *name, const void *data, size_t n, cx_st_file *out, cx_error *err);   /* copies */
void cx_st_free(cx_st_file *f);
const cx_st_tensor *cx_st_find(const cx_st_file *f, const char *name);     /* NULL when absent */
const char *cx_st_meta_get(const cx_st_file *f, const char *key);          /* NULL when absent */
/* Temporary file, fsync, read back and compared, rename, fsync of the folder. Header padded with spaces to a multiple of 64 bytes, so that data are
 * aligned. Tensors in the order given. */
cx_status cx_st_write(const char *path, const cx_st_tensor *tensors, int n, const cx_st_meta *meta, int n_meta, cx_error *err);

/* A network's weights are every CX_PARAM and CX_STATE of the store's graph but the states that only losses read ("loss.weight"): with and without a loss,
 * a network has the same weights. Saved by name (OHWI, as in memory), plus `extra` tensors and metadata. */
cx_status cx_weights_save(cx_store *s, const char *path, const cx_st_tensor *extra, int n_extra, const cx_st_meta *meta, int n_meta, cx_error *err);
/* Sets them from an open file. A missing tensor, or one of another shape or type, is CX_E_DATA and nothing is changed; tensors of f that the graph
 * does not have are ignored. */
cx_status cx_weights_load(cx_store *s, const cx_st_file *f, cx_error *err);
/* SHA-256 over name, shape and bytes of the weights in graph order: their identity. */
cx_status cx_weights_sha256(cx_store *s, char out[65], cx_error *err);

/* ---- anybody's weight file --------------------------------------------------------------------------------------------- */

/* Any of these, told apart by content, never by name: safetensors; Keras HDF5 (legacy, weights only or full model; Keras 3 `.weights.h5`); `.keras`; PyTorch
 * zip and legacy pickles. What comes back is a safetensors file in memory, whatever it was:
 *   tensors   in the file's own order, names as cx_weights_read documents for each format; floats of any kind as F32 (F64 rounded, F16 and BF16 exactly),
 *             integers and booleans as they are; dense, row-major, little-endian, the file's own axis order
 *   names     Keras: layer/weight, without the layer's own name in front of the weight and without ":0": "conv1/conv/kernel", in a nested model
 *             "densenet121/conv1/conv/kernel". In a .weights.h5 layers are called by their names where Keras wrote them, else by its groups
 *             ("conv2d_2/kernel"), and variables of unknown classes "layer/vars/0". An optimiser's are left out: "keras.other_tensors" counts them
 *   meta      "format" ("keras legacy weights", ...), "source.sha256" (of the file), "source.bytes"; where the file says so "keras.model_config" (JSON text),
 *             "keras.backend", "keras.version", "keras.layers" (JSON list of layer names in order), "torch.container"; a safetensors file's own metadata
 *
 * The parser runs in a child: it has the file's bytes and a buffer to write to, and may open nothing, speak to nobody and start nothing (seccomp), under
 * limits of memory and time. The parent trusts nothing but cx_st_parse of that buffer. Refused with the reason and where it lies: whatever would make a
 * network out of anything but the numbers that were saved (external links and storage, virtual datasets, references, filters but deflate, shuffle and
 * fletcher32, chunks that inflate short, data never written, cycles, absurd shapes), non-finite values, negative variances, pickles that call anything but the
 * rebuilding of tensors. CX_E_DATA; CX_E_NOINPUT; CX_E_MEMORY, CX_E_UNSUPPORTED (no such sandbox here). */
cx_status cx_weights_read(const char *path, cx_st_file *out, cx_error *err);

/* ---- into a network of ours -------------------------------------------------------------------------------------------- */

typedef enum { CX_HEAD_KEEP, CX_HEAD_DROP } cx_head;    /* the last layers (classifier, fc, head): taken; left as initialised */
typedef enum {                 /* how the axes of a source's tensors stand; ours are OHWI (transposed convolutions IHWO), vectors (1,1,1,C) */
    CX_AXES_OURS,
    CX_AXES_KERAS,             /* (kh, kw, in, out); transposed convolution (kh, kw, out, in); dense (in, out); vectors (C) */
    CX_AXES_TORCH              /* (out, in, kh, kw); transposed convolution (in, out, kh, kw); linear (out, in), behind a flattened map in CHW order; (C) */
} cx_axes;
typedef enum {
    CX_PAIR_USED, CX_PAIR_MISFIT,        /* source and value; these have different shapes */
    CX_PAIR_MISSING, CX_PAIR_HEAD,       /* value only: the file has none; left as initialised */
    CX_PAIR_UNUSED, CX_PAIR_LEFT_OUT,    /* source only: nothing here wants it; a head dropped, or a known by-product (counters, optimisers, thresholds) */
    CX_PAIR_STATES
} cx_pair_state;
const char *cx_pair_state_name(cx_pair_state s);          /* "used", "as initialised" */
typedef struct { int source, value; cx_pair_state state; } cx_pairing;   /* tensor of the file, value of the graph; -1: no partner */

typedef struct {
    cx_pairing *row; int n;    /* one for each kept value, in the graph's order, then one for each tensor without a partner, in the file's */
    cx_axes axes;              /* of all tensors of the file */
    const char *how;           /* static text: which rule found the partners */
    bool by_order;
    int twins;                 /* by_order: neighbours of one shape that nothing but their place in the file tells apart (their numbers do not ascend) */
    int count[CX_PAIR_STATES];
} cx_mapping;
/* Finds for each kept value of the graph its tensor: by name where the file's names are known (ours; torchvision's, with timm's and torchxrayvision's, older
 * torchvision's, any of the prefixes that wrappers add; Keras applications' DenseNet), otherwise by order and shape, kind of layer by kind, as Keras loads by
 * topology. Reads no numbers. Whatever it finds is CX_OK; cx_weights_map_check judges. CX_E_MEMORY; CX_E_DATA: absurdly many tensors. */
cx_status cx_weights_map(const cx_st_file *f, const cx_graph *g, cx_head head, cx_mapping *out, cx_error *err);
void cx_weights_map_free(cx_mapping *m);
/* CX_E_DATA: a missing or unused tensor, or a shape that does not fit: names the first, counts all, says what to do about it. */
cx_status cx_weights_map_check(const cx_st_file *f, const cx_graph *g, const cx_mapping *m, cx_error *err);
/* The mapping table: a line for each row, a summary, a warning where there are twins. */
void cx_weights_map_print(const cx_st_file *f, const cx_graph *g, const cx_mapping *m, FILE *out);
/* Sets the values that have partners, in our axis order; the others stay. swap_rgb: the network was made for BGR; its first convolution is turned to take RGB
 * (3 channels only). CX_E_DATA: there is a misfit; then nothing is changed. */
cx_status cx_weights_take(cx_store *s, const cx_st_file *f, const cx_mapping *m, bool swap_rgb, cx_error *err);

/* What network a file holds: its card, where it has one; else layer names, kinds and shapes and "keras.model_config". Fills the fields of *spec that are 0
 * (arch: empty) and checks the architecture against one that is there already. final_relu_known (may be NULL): whether the file says anything about
 * spec->no_final_relu, which is only set where it does. CX_E_DATA: no network of ours, or one that the file alone does not fix: says which fields to give. */
cx_status cx_weights_guess(const cx_st_file *f, cx_model_spec *spec, bool *final_relu_known, cx_error *err);

/* ---- what a file of ours says about itself, so that a network is never fed the wrong pixels ---------------------------------- */

typedef struct {
    cx_model_spec spec;
    char normalise[32];        /* a value of data.normalise; "": not known */
    char **stages; int n_stages;         /* those of preprocess.stages; 0: not known */
    char task[16];             /* a value of data.task: what the logits mean; "": not known */
    char **classes; int n_classes;       /* names of the logits (binary: negative, positive); 0: not known */
    char source[512];          /* "keras legacy weights, sha256 ..., NAME"; "": trained here */
} cx_weights_card;
/* Metadata "cxnet.model" (the spec, JSON), "cxnet.input" (JSON: normalise; order, always "rgb" of 3 channels; stages), "cxnet.task",
 * "cxnet.classes" (JSON list), "cxnet.source". */
enum { CX_CARD_META = 5 };
cx_status cx_weights_card_write(const cx_weights_card *c, cx_st_meta meta[CX_CARD_META], cx_error *err);    /* free with cx_weights_card_unwrite */
void cx_weights_card_unwrite(cx_st_meta meta[CX_CARD_META]);
bool cx_weights_has_card(const cx_st_file *f);
cx_status cx_weights_card_read(const cx_st_file *f, cx_weights_card *c, cx_error *err);    /* CX_E_DATA: no card, or a broken one. Free with: */
void cx_weights_card_free(cx_weights_card *c);

/* A file of ours as the network that it says it is, with its weights on a backend. b must outlive it. CX_E_DATA: no card, or tensors that do not fit it.
 * Errors name the path. Close with cx_weights_net_close. */
typedef struct { cx_weights_card card; cx_model model; cx_store *store; } cx_weights_net;
cx_status cx_weights_open(const char *path, cx_backend *b, cx_weights_net *out, cx_error *err);
cx_status cx_weights_net_save(const cx_weights_net *n, const char *path, cx_error *err);       /* such a file */
void cx_weights_net_close(cx_weights_net *n);

/* ---- out again ------------------------------------------------------------------------------------------------------------ */

/* safetensors with torchvision's names and axes, and the card: what torchvision.models.densenet121().load_state_dict takes. */
cx_status cx_weights_export_torch(const cx_weights_net *n, const char *path, cx_error *err);
/* ONNX, opset 17, one file: input "films" (N, channels, side, side), normalised as metadata "preprocessing" says in words and cxnet.input for programs; output
 * "logits" (N, outputs), of unet also "probability", both (N, outputs, side, side). CX_E_UNSUPPORTED: an operator that has no form there. */
cx_status cx_weights_export_onnx(const cx_weights_net *n, const char *path, cx_error *err);
/* Keras HDF5, legacy weights only: what load_weights of a Keras model of this structure takes by topology. Layers of a DenseNet have the names of Keras
 * applications, others automatic ones (conv2d, conv2d_1, ...). */
cx_status cx_weights_export_keras(const cx_weights_net *n, const char *path, cx_error *err);

#ifdef __cplusplus
}
#endif
#endif
