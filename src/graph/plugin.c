/* plugin.c - shared objects of their own, backends and what joins ranks, opened when they are asked for. Depends on base.h. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "backends.h"
#include "cxnet/base.h"

/* "FOLDER/libcxnet_NAME.so", where FOLDER is $CXNET_PLUGINS or the folder of the object that this function is in. NULL: out of memory. */
static char *path_of(const char *name)
{
    const char *folder = getenv("CXNET_PLUGINS");
    Dl_info here;
    if (folder && *folder)
        return cx_sprintf("%s/libcxnet_%s.so", folder, name);
    if (!dladdr((const void *)(uintptr_t)&cx_plugin_load, &here) || !here.dli_fname)
        return cx_sprintf("libcxnet_%s.so", name);
    const char *slash = strrchr(here.dli_fname, '/');
    return slash ? cx_sprintf("%.*s/libcxnet_%s.so", (int)(slash - here.dli_fname), here.dli_fname, name) : cx_sprintf("./libcxnet_%s.so", name);
}

cx_status cx_plugin_symbol(const char *name, const char *symbol, void **out, cx_error *err)
{
    char *path = path_of(name), *plain = cx_sprintf("libcxnet_%s.so", name);
    *out = NULL;
    cx_status s = path && plain ? CX_OK : cx_fail(err, CX_E_MEMORY, "%s: out of memory", name);
    void *object = s == CX_OK && cx_file_exists(path) ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (s == CX_OK && !object && !cx_file_exists(path))
        object = dlopen(plain, RTLD_NOW | RTLD_LOCAL);
    if (s == CX_OK && !object)
        s = cx_file_exists(path) ? cx_fail(err, CX_E_UNSUPPORTED, "%s: %s", name, dlerror())
                                 : cx_fail(err, CX_E_UNSUPPORTED, "%s: this build has no such plug-in (no file %s)", name, path);
    if (object && !(*out = dlsym(object, symbol)))
        s = cx_fail(err, CX_E_UNSUPPORTED, "%s: %s has no %s; it was built without what that needs", name, path, symbol);
    free(path);
    free(plain);
    return s;
}

/* memcpy: C has no cast from an object's address to a function's. */
cx_status cx_plugin_load(const char *name, int device, int threads, cx_backend **out, cx_error *err)
{
    void *symbol;
    cx_plugin_open_fn open;
    TRY(cx_plugin_symbol(name, "cx_plugin_open", &symbol, err));
    memcpy(&open, &symbol, sizeof open);
    return open(name, device, threads, out, err);
}

cx_status cx_plugin_warm_by(const char *name, const char *device_json, cx_warm_fn plan, void *context, cx_warmed *out, cx_error *err)
{
    void *symbol;
    cx_plugin_warm_fn warm;
    TRY(cx_plugin_symbol(name, "cx_plugin_warm", &symbol, err));
    memcpy(&warm, &symbol, sizeof warm);
    return warm(name, device_json, plan, context, out, err);
}
