/* protobuf.h - just enough of protocol buffers to write a message: varints, floats and length-delimited fields. Private to src/weights. Depends on base.h. */
#ifndef CXNET_WEIGHTS_PROTOBUF_H
#define CXNET_WEIGHTS_PROTOBUF_H
#include <stdlib.h>
#include <string.h>
#include "cxnet/base.h"

enum { PB_VARINT = 0, PB_BYTES = 2, PB_FIXED32 = 5 };       /* wire types (protobuf.dev, "Encoding") */

static inline void pb_raw(cx_buf *b, uint64_t v)
{
    unsigned char byte[10];
    size_t n = 0;
    do {
        byte[n++] = (unsigned char)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
    cx_buf_put(b, byte, n);
}

static inline void pb_tag(cx_buf *b, int field, int type) { pb_raw(b, (uint64_t)field << 3 | (uint64_t)type); }

static inline void pb_int(cx_buf *b, int field, int64_t v)
{
    pb_tag(b, field, PB_VARINT);
    pb_raw(b, (uint64_t)v);
}

static inline void pb_float(cx_buf *b, int field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    pb_tag(b, field, PB_FIXED32);
    cx_buf_put(b, (const unsigned char[]){ (unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16), (unsigned char)(bits >> 24) }, 4);
}

static inline void pb_bytes(cx_buf *b, int field, const void *p, size_t n)
{
    pb_tag(b, field, PB_BYTES);
    pb_raw(b, n);
    cx_buf_put(b, p, n);
}

static inline void pb_text(cx_buf *b, int field, const char *text) { pb_bytes(b, field, text, strlen(text)); }

/* A message inside a message; takes and frees `inner`. */
static inline void pb_message(cx_buf *b, int field, cx_buf *inner)
{
    b->failed |= inner->failed;
    pb_bytes(b, field, inner->data ? inner->data : "", inner->len);
    cx_buf_free(inner);
    *inner = (cx_buf){ 0 };
}

#endif
