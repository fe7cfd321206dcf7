/* weights.h - tensors in files: safetensors, read strictly and written durably. Depends on graph.h. */
#ifndef CXNET_WEIGHTS_H
#define CXNET_WEIGHTS_H
#include "cxnet/base.h"
#include "cxnet/graph.h"
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

#ifdef __cplusplus
}
#endif
#endif
