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

typedef enum { CX_HEAD_KEEP, CX_HEAD_DROP, CX_HEAD_REPLACE } cx_head;     /* the last layers: taken; left as initialised */
typedef enum {                 /* how a source tensor's axes become ours */
    CX_AS_IS,                  /* vectors; what is ours already */
    CX_FROM_HWIO,              /* Keras convolution (kh, kw, in, out) -> OHWI; its dense (in, out) -> (out, in) */
    CX_FROM_HWOI,              /* Keras transposed convolution (kh, kw, out, in) */
    CX_FROM_OIHW,              /* PyTorch convolution (out, in, kh, kw) */
    CX_FROM_IOHW               /* PyTorch transposed convolution (in, out, kh, kw) */
} cx_axes;
typedef struct { int source, value; cx_axes axes; } cx_pairing;           /* tensor of the file -> value of the graph; -1: no partner */

typedef struct {
    cx_head head;
    bool loose;                /* leave out what has no partner, instead of failing */
} cx_map_opts;
/* Finds for each kept value of the graph its tensor: by name where the file's names are known (ours; torchvision's, timm's, torchxrayvision's; Keras
 * applications'), otherwise by order and shape, kind by kind, as Keras loads by topology. rows: one for each value and one for each unused tensor, in the
 * graph's order, then the file's; free() them. how: static text that says which rule was taken. CX_E_DATA: a missing or unused tensor, or a shape that does not
 * fit, each named (unless loose), with what to do about it. */
cx_status cx_weights_map(const cx_st_file *f, const cx_graph *g, const cx_map_opts *o, cx_pairing **rows, int *n, const char **how, cx_error *err);
void cx_weights_map_print(const cx_st_file *f, const cx_graph *g, const cx_pairing *rows, int n, FILE *out);      /* the mapping table */
/* Sets the values that have partners, in our axis order. */
cx_status cx_weights_take(cx_store *s, const cx_st_file *f, const cx_pairing *rows, int n, cx_error *err);

/* What a weight file of ours says about itself, so that a network is never fed the wrong pixels: metadata "cxnet.model" (the spec, JSON), "cxnet.input" (JSON:
 * normalise, channel order, preprocessing), "cxnet.classes" (JSON list), "cxnet.source" (format, SHA-256 and file name of what it was imported from). */
typedef struct {
    cx_model_spec spec;
    char normalise[32];        /* a value of data.normalise */
    char order[8];             /* "rgb" or "bgr": of 3 channels */
    char **classes; int n_classes;
    char source[512];          /* "keras legacy weights, sha256 ..., NAME"; "": trained here */
} cx_weights_card;
cx_status cx_weights_card_write(const cx_weights_card *c, cx_buf *json_of_each[4], cx_error *err);   /* to be laid out by who builds it */
cx_status cx_weights_card_read(const cx_st_file *f, cx_weights_card *c, cx_error *err);    /* CX_E_DATA: the file says nothing of itself */
void cx_weights_card_free(cx_weights_card *c);

#ifdef __cplusplus
}
#endif
#endif
