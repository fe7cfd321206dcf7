/* backend.h - opens a backend by name, or says that this build does not have it: shared by the tests of kernels and plans. */
#ifndef CX_TESTS_BACKEND_H
#define CX_TESTS_BACKEND_H
#include "cxnet/graph.h"
#include "support.h"

/* NULL only for "emu", the emulated GPU, where it was not built: under ThreadSanitizer. */
static inline cx_backend *open_named(const char *name, int threads)
{
    cx_backend *b = NULL;
    cx_error e = { 0 };
    const cx_status s = cx_backend_open(name, threads, &b, &e);
    if (s != CX_OK && !(s == CX_E_UNSUPPORTED && strcmp(name, "emu") == 0))
        fail_msg("%s: %s", name, e.text);
    return b;
}
#endif
