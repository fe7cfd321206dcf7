/* host.c - what backends do whose memory is the host's: the CPU, and plans for a GPU that is not here. Depends on backends.h. */
#include <stdlib.h>
#include <string.h>
#include "backends.h"

void cx_host_release(cx_backend *b, void *p)
{
    (void)b;
    free(p);
}

cx_status cx_host_copy(cx_backend *b, void *dst, const void *src, size_t bytes, cx_error *err)
{
    (void)b, (void)err;
    if (bytes)
        memcpy(dst, src, bytes);
    return CX_OK;
}

cx_status cx_host_zero(cx_backend *b, void *p, size_t bytes, cx_error *err)
{
    (void)b, (void)err;
    if (bytes)
        memset(p, 0, bytes);
    return CX_OK;
}
