/* library.h - shared libraries that the CUDA backend opens when it starts, and can do without. */
#ifndef CX_CUDA_LIBRARY_H
#define CX_CUDA_LIBRARY_H
#include "cxnet/status.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct { const char *name; void *address; } cx_symbol;

/* Opens the library that environment variable `variable` names or, without it, the first of `names` (NULL-terminated) that the dynamic linker finds, and looks
 * up `symbols`. "none" as the variable's value: CX_E_UNSUPPORTED, as when there is no such library, or when it lacks a symbol. It stays loaded. */
cx_status cx_library_open(const char *variable, const char *const names[], cx_symbol *symbols, int n, cx_error *err);

#ifdef __cplusplus
}
#endif

#endif
