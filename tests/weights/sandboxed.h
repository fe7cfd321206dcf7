/* sandboxed.h - whether this system lets a parser be shut in: where it does not, tests of reading say so and end. */
#ifndef CX_TESTS_SANDBOXED_H
#define CX_TESTS_SANDBOXED_H
#include "support.h"
#include "weights/sandbox.h"

static cx_status sandboxed_work(void *self, cx_error *err)
{
    (void)self, (void)err;
    return CX_OK;
}

static inline bool sandboxed(void)
{
    const cx_sandbox_limits limits = { (size_t)64 << 20, 60, 60 };
    cx_error e = { 0 };
    if (cx_sandbox_run(sandboxed_work, NULL, &limits, &e) != CX_E_UNSUPPORTED)
        return true;
    printf("skipped: %s\n", e.text);
    return false;
}
#endif
