/* dtype.h - what reading and writing of safetensors share. Private to src/weights. Depends on weights.h. */
#ifndef CXNET_WEIGHTS_DTYPE_H
#define CXNET_WEIGHTS_DTYPE_H
#include "cxnet/weights.h"

const char *cx_dtype_name(cx_dtype t);                            /* "F32" */
/* Bytes that shape and dtype want; false for a negative dimension or more than memory can hold. */
bool cx_st_product(const cx_st_tensor *t, size_t *bytes);

#endif
