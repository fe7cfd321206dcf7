/* backend.c - the one place where a name becomes a backend: a table of functions. */
#include <string.h>
#include "backends.h"

cx_status cx_backend_open(const char *name, int threads, cx_backend **out, cx_error *err)
{
    *out = NULL;
    if (threads < 0)
        return cx_fail(err, CX_E_USAGE, "backend '%s': want threads >= 0 (0 = all cores), got %d", name ? name : "", threads);
    if (name && strcmp(name, "cpu") == 0)
        return cx_cpu_open(NULL, threads, out, err);
    if (name && strncmp(name, "cpu:", 4) == 0)
        return cx_cpu_open(name + 4, threads, out, err);
    return cx_fail(err, CX_E_UNSUPPORTED, "no backend is called '%s': want cpu, cpu:avx512_bf16, cpu:avx512, cpu:avx2 or cpu:portable", name ? name : "");
}

void cx_backend_close(cx_backend *b)
{
    if (b)
        b->close(b);
}
