/* inflate.h - unpacks deflated bytes to exactly as many as were promised. Private to src/weights. Depends on base.h. */
#ifndef CXNET_WEIGHTS_INFLATE_H
#define CXNET_WEIGHTS_INFLATE_H
#include "cxnet/base.h"

typedef enum { CX_DEFLATE_RAW, CX_DEFLATE_ZLIB } cx_deflate;      /* zip; RFC 1950, HDF5 */
/* NULL, or what is wrong: damaged, shorter or longer than out_n bytes, bytes left over behind the stream. What lies in out is then unspecified. */
const char *cx_inflate(cx_deflate kind, const void *p, size_t n, void *out, size_t out_n);
/* Whether n deflated bytes can be out_n: no stream grows more than 1,032 times (zlib's "Maximum Compression Factor"). Ask before allocating. */
bool cx_inflate_possible(size_t n, size_t out_n);

#endif
