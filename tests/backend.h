/* backend.h - opens a backend by name, or says that this build does not have it: shared by the tests of kernels and plans. */
#ifndef CX_TESTS_BACKEND_H
#define CX_TESTS_BACKEND_H
#include "cxnet/graph.h"
#include "support.h"

/* NULL for "emu", the emulated GPU, where it was not built (under ThreadSanitizer), and for "cuda" where no GPU is, which is said once. */
static inline cx_backend *open_named(const char *name, int threads)
{
    static bool no_gpu;
    const bool cuda = strcmp(name, "cuda") == 0;
    cx_backend *b = NULL;
    cx_error e = { 0 };
    if (cuda && no_gpu)
        return NULL;
    const cx_status s = cx_backend_open(name, threads, &b, &e);
    if (s != CX_OK && !(s == CX_E_UNSUPPORTED && (cuda || strcmp(name, "emu") == 0)))
        fail_msg("%s: %s", name, e.text);
    if (s != CX_OK && cuda) {
        print_message("skipped: %s\n", e.text);
        no_gpu = true;
    }
    return b;
}

static inline bool has_device(const char *name)
{
    cx_backend *b = open_named(name, 1);
    if (b)
        cx_backend_close(b);
    return b != NULL;
}
#endif
