/* h5.h - HDF5 files in memory, read through libhdf5 and believed in nothing. Private to src/weights. Depends on read.h, libhdf5.
 *
 * libhdf5 finds its way through the file's groups, headers and indices; lengths, filters and places of the numbers are judged here, and the numbers themselves
 * are taken from the bytes of the file. For the parser's child alone: what is opened and allocated here may stay so until the child ends. */
#ifndef CXNET_WEIGHTS_H5_H
#define CXNET_WEIGHTS_H5_H
#define H5_USE_110_API          /* the same calls with 1.10, 1.12 and 1.14 */
#include <hdf5.h>
#include "read.h"

typedef struct { const unsigned char *p; size_t n; hid_t root; } cx_h5;      /* root: its group */
/* CX_E_DATA: no HDF5 file, or one that libhdf5 does not open. p must outlive it. */
cx_status cx_h5_open(const unsigned char *p, size_t n, cx_h5 *out, cx_error *err);

/* CX_E_DATA with the text and, in brackets, the innermost reason that libhdf5 gave for its last failure. */
cx_status cx_h5_fail(cx_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Opens what lies at path ("conv1/conv/kernel:0") below a group, link by link: soft and external links are refused. `where`: the group's path, for messages. */
cx_status cx_h5_step(hid_t group, const char *where, const char *path, hid_t *out, cx_error *err);

/* An attribute of texts: fixed or variable length, a single one or a list; n = 0 where it is empty, of whatever type. */
typedef struct { char **text; size_t n; } cx_texts;
/* CX_E_DATA: absent, not text, of two dimensions. Free with cx_texts_free. */
cx_status cx_h5_texts(const cx_h5 *f, hid_t object, const char *where, const char *name, cx_texts *out, cx_error *err);
/* A list that may be split into name0, name1, ..., as h5py wants above 64 KB. */
cx_status cx_h5_text_list(const cx_h5 *f, hid_t object, const char *where, const char *name, cx_texts *out, cx_error *err);
bool cx_h5_has(hid_t object, const char *name);                    /* such an attribute, or the first piece of one */
void cx_texts_free(cx_texts *t);

/* Hands a dataset to the sink. `where` is its path, for messages. Refused: whatever is not dense numbers that lie in this file, whole: see h5_dataset.c. */
cx_status cx_h5_tensor(const cx_h5 *f, hid_t dataset, const char *where, const char *name, cx_sink *s, cx_error *err);

/* ---- between h5_dataset.c and h5_chunks.c ---- */

/* The numbers of a chunked dataset, put together in `out` (t->bytes of them). */
cx_status cx_h5_chunks(const cx_h5 *f, hid_t dataset, hid_t creation, const char *where, const cx_raw_tensor *t, unsigned char *out, cx_error *err);

/* ---- what Keras makes of it ---- */

/* Keras 3's layout; config: the model's JSON, or NULL when the file is all there is. Sets no "format". */
typedef struct json_t json_t;
cx_status cx_keras3_walk(const cx_h5 *f, const json_t *config, cx_sink *s, cx_error *err);

#endif
