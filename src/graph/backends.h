/* backends.h - the backends that cx_backend_open can name. Each is one function; cx_backend_open is the only caller. */
#ifndef CXNET_BACKENDS_H
#define CXNET_BACKENDS_H
#include "cxnet/graph.h"

/* isa: "avx512_bf16", "avx512", "avx2", "portable" as an upper bound; NULL or "": the fastest of this machine. threads 0: all cores this process may use. */
cx_status cx_cpu_open(const char *isa, int threads, cx_backend **out, cx_error *err);

#endif
