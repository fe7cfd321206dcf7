// library.cpp - what the emulated GPU finds instead of shared libraries (src/cuda/library.h): the stand-ins of tests/emu.
#include "cuda/library.h"
#include <stdlib.h>
#include <string.h>
#include "cuda/cublaslt_api.h"
#include "cuda/cudnn_api.h"

static const struct { const char *name; void *address; } standins[] = {
#define CALL(name) { #name, reinterpret_cast<void *>(&name) },
    CX_CUDNN_CALLS(CALL)
    CX_CUBLASLT_CALLS(CALL)
#undef CALL
};

extern "C" cx_status cx_library_open(const char *variable, const char *const names[], cx_symbol *symbols, int n, cx_error *err)
{
    const char *chosen = getenv(variable);
    if (chosen && *chosen)
        return cx_fail(err, CX_E_UNSUPPORTED, strcmp(chosen, "none") == 0 ? "%s=%s" : "%s: %s: the emulated GPU has stand-ins only", variable, chosen);
    for (int i = 0; i < n; i++) {
        symbols[i].address = nullptr;
        for (const auto &s : standins)
            if (strcmp(s.name, symbols[i].name) == 0)
                symbols[i].address = s.address;
        if (!symbols[i].address)
            return cx_fail(err, CX_E_UNSUPPORTED, "the stand-in of %s lacks %s", names[0], symbols[i].name);
    }
    return CX_OK;
}
