/* read.h - between a parser of other people's weight files and the rest: where it puts what it found. Private to src/weights. Depends on weights.h.
 *
 * A parser is one function cx_status parse(p, n, sink, err): it reads the n bytes at p and nothing else, and hands every tensor to the sink in the file's own
 * order. It runs in the child of sandbox.h: one thread, no file, no network, no new process, bounded memory and time. So a parser
 *   may call malloc, zlib, libhdf5 and jansson, and may leak: the child ends when it returns;
 *   may not open, print, read the clock for a purpose, use OpenMP (the threads of the parent are not here) or hold anything over from an earlier file;
 *   says what is wrong with cx_fail(err, CX_E_DATA, ...) without the file's name, which the parent puts in front: "dataset '/a/b': ...".
 * The parent takes nothing from the child but a safetensors file, which cx_st_parse checks. */
#ifndef CXNET_WEIGHTS_READ_H
#define CXNET_WEIGHTS_READ_H
#include "cxnet/weights.h"

/* Numbers as other people's files hold them. Out of the sink come F32 for every float (F64 rounded to nearest, F16 and BF16 exactly), I32 for I16, U16 and I8,
 * I64 for U32; I64, I32, U8 and BOOL as they are (BOOL: any byte but 0 and 1 is refused). */
typedef enum {
    CX_RAW_F32, CX_RAW_F64, CX_RAW_F16, CX_RAW_BF16, CX_RAW_I64, CX_RAW_I32, CX_RAW_I16, CX_RAW_I8, CX_RAW_U32, CX_RAW_U16, CX_RAW_U8, CX_RAW_BOOL
} cx_raw;
size_t cx_raw_bytes(cx_raw t);

typedef struct {
    cx_raw type;
    bool big_endian;
    int nd;                     /* 0 .. CX_ST_DIMS; 0: one number */
    int64_t d[CX_ST_DIMS];      /* >= 0 */
    const int64_t *stride;      /* [nd] in elements, >= 0: element (i, j, ..) is data[i * stride[0] + j * stride[1] + ..]; NULL: dense, row-major */
    const void *data;           /* any alignment */
    size_t bytes;               /* how many may be read at data; a shape that reaches beyond is refused. Dense: must fit exactly */
} cx_raw_tensor;

typedef struct cx_sink cx_sink;

/* Copies one tensor, dense and row-major. CX_E_DATA, naming the tensor: a name that is empty, longer than CX_SINK_NAME bytes, not UTF-8, holds control
 * characters, is "__metadata__" or was given before; a shape that is negative, too large to count, or wants more than the file may grow to; numbers that are
 * not finite, or beyond float32; a variance (name ends in moving_variance, running_var) below 0. */
enum { CX_SINK_NAME = 4096, CX_SINK_TENSORS = 100000, CX_SINK_META = 16 << 20 };
cx_status cx_sink_add(cx_sink *s, const char *name, const cx_raw_tensor *t, cx_error *err);
/* Metadata: n bytes of UTF-8 text without NUL, at most CX_SINK_META of them. A key given before is CX_E_DATA. Every parser sets "format" once. */
cx_status cx_sink_meta(cx_sink *s, const char *key, const char *value, size_t n, cx_error *err);
cx_status cx_sink_meta_text(cx_sink *s, const char *key, const char *value, cx_error *err);
/* How many bytes of data the sink still takes: a parser that must unpack first asks before it allocates. */
size_t cx_sink_room(const cx_sink *s);

/* ---- the parsers ------------------------------------------------------------------------------------------------------- */

typedef cx_status cx_parse(const unsigned char *p, size_t n, cx_sink *s, cx_error *err);
typedef bool cx_sniff(const unsigned char *p, size_t n);      /* by content; cheap, and no promise that the rest is sound */
typedef struct { cx_sniff *is; cx_parse *parse; } cx_parser;  /* a row of the table in read.c: the first that says yes parses */

bool cx_is_safetensors(const unsigned char *p, size_t n);
bool cx_is_hdf5(const unsigned char *p, size_t n);
bool cx_is_keras_zip(const unsigned char *p, size_t n);
bool cx_is_torch(const unsigned char *p, size_t n);
cx_status cx_parse_safetensors(const unsigned char *p, size_t n, cx_sink *s, cx_error *err);
cx_status cx_parse_hdf5(const unsigned char *p, size_t n, cx_sink *s, cx_error *err);
cx_status cx_parse_keras_zip(const unsigned char *p, size_t n, cx_sink *s, cx_error *err);
cx_status cx_parse_torch(const unsigned char *p, size_t n, cx_sink *s, cx_error *err);

/* cx_weights_read of n bytes in memory; `name` stands in messages. Any thread. */
cx_status cx_weights_parse(const char *name, const void *p, size_t n, cx_st_file *out, cx_error *err);

#endif
