/* torch.h - what a pickle of PyTorch may name. Private to src/weights. Depends on pickle.h. */
#ifndef CXNET_WEIGHTS_TORCH_H
#define CXNET_WEIGHTS_TORCH_H
#include "pickle.h"

/* What a global is to the reader: cx_pk_global.what & 0xff. */
enum { CX_TORCH_OTHER, CX_TORCH_V1, CX_TORCH_V2, CX_TORCH_V3, CX_TORCH_PARAMETER, CX_TORCH_SIZE, CX_TORCH_STORAGE, CX_TORCH_DTYPE };
/* Of which numbers a storage class or a dtype is: cx_pk_global.what >> 8, a row of cx_torch_numbers. */
enum { CX_TORCH_UNTYPED = 0 };
typedef struct { const char *name; int bytes, raw; } cx_torch_number;         /* raw: cx_raw, or -1 for what is not read */
extern const cx_torch_number cx_torch_numbers[];
extern const cx_pk_global cx_torch_known[];

#endif
