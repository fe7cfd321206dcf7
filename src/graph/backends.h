/* backends.h - the backends that cx_backend_open can name. Each is one function; cx_backend_open is the only caller. */
#ifndef CXNET_BACKENDS_H
#define CXNET_BACKENDS_H
#include "cxnet/graph.h"

/* isa: "avx512_bf16", "avx512", "avx2", "portable" as an upper bound; NULL or "": the fastest of this machine. threads 0: all cores this process may use. */
cx_status cx_cpu_open(const char *isa, int threads, cx_backend **out, cx_error *err);

/* Members of a cx_backend whose memory is the host's: release (of what free() takes), upload and download, zero. In host.c. */
void cx_host_release(cx_backend *b, void *p);
cx_status cx_host_copy(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err);
cx_status cx_host_zero(cx_backend *b, void *p, size_t bytes, cx_error *err);

/* A backend in a shared object of its own, libcxnet_NAME.so, which exports this as cx_plugin_open. The program starts without it, and runs where what it
 * needs is not installed. CX_E_UNSUPPORTED: no such device here, and err says why. */
typedef cx_status (*cx_plugin_open_fn)(const char *name, int device, int threads, cx_backend **out, cx_error *err);
/* Opens device `device` of plug-in `name` ("cuda", "emu"). Looked for in the folder that $CXNET_PLUGINS names or, without it, beside the program or library
 * that this code is in, then where the dynamic linker looks. It stays loaded. CX_E_UNSUPPORTED when it is not there. */
cx_status cx_plugin_load(const char *name, int device, int threads, cx_backend **out, cx_error *err);
/* The address of a symbol of libcxnet_NAME.so, looked for and kept as above. */
cx_status cx_plugin_symbol(const char *name, const char *symbol, void **out, cx_error *err);

/* Exported as cx_plugin_warm by plug-ins that keep compiled plans between runs: see cx_backend_warm. */
typedef cx_status (*cx_plugin_warm_fn)(const char *name, const char *device_json, cx_warm_fn plan, void *context, cx_warmed *out, cx_error *err);
cx_status cx_plugin_warm_by(const char *name, const char *device_json, cx_warm_fn plan, void *context, cx_warmed *out, cx_error *err);

#endif
