/* sink.h - the sink that parsers fill, seen from its owner: makes a safetensors file in given memory. Private to src/weights. Depends on read.h. */
#ifndef CXNET_WEIGHTS_SINK_H
#define CXNET_WEIGHTS_SINK_H
#include "read.h"

/* The header, whose length is known last, ends where the data begin. */
enum { CX_SINK_HEADER = 48 << 20 };
typedef struct {
    cx_dtype dtype; int nd; int64_t d[CX_ST_DIMS];
    char *name;
    size_t bytes;
} cx_sink_entry;
struct cx_sink {
    unsigned char *out; size_t cap;      /* CX_SINK_HEADER bytes, then room for data */
    size_t used;                         /* of data */
    cx_sink_entry *entries; size_t n, entries_cap;
    uint32_t *slots; size_t n_slots;     /* entries by name: index + 1, 0 is free */
    cx_buf meta;                         /* JSON: "key":"value","key":"value" */
    cx_buf keys;                         /* '\n' before and behind each */
};

/* out: cap bytes (more than CX_SINK_HEADER), shared with whoever reads the file. */
cx_sink cx_sink_on(void *out, size_t cap);
/* The file is out[*begin .. *begin + *bytes]. */
cx_status cx_sink_finish(cx_sink *s, size_t *begin, size_t *bytes, cx_error *err);
void cx_sink_free(cx_sink *s);

#endif
