/* library.c - see library.h. */
#include "library.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

cx_status cx_library_open(const char *variable, const char *const names[], cx_symbol *symbols, int n, cx_error *err)
{
    const char *chosen = getenv(variable);
    const char *const only[] = { chosen, NULL };
    if (chosen && strcmp(chosen, "none") == 0)
        return cx_fail(err, CX_E_UNSUPPORTED, "%s=none", variable);
    void *object = NULL;
    for (const char *const *name = chosen && *chosen ? only : names; !object && *name; name++)
        object = dlopen(*name, RTLD_NOW | RTLD_LOCAL);
    if (!object) {
        const char *why = dlerror();
        return cx_fail(err, CX_E_UNSUPPORTED, "%s", why ? why : names[0]);
    }
    for (int i = 0; i < n; i++)
        if (!(symbols[i].address = dlsym(object, symbols[i].name))) {
            dlclose(object);
            return cx_fail(err, CX_E_UNSUPPORTED, "%s lacks %s", chosen && *chosen ? chosen : names[0], symbols[i].name);
        }
    return CX_OK;
}
