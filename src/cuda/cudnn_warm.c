/* cudnn_warm.c - cuDNN's plans for a GPU that is not here, made ahead of time: a backend that plans as the real one would, on memory of the host, and runs
 * nothing. Depends on cuda.h, cudnn_conv.h. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cuda.h"
#include "cudnn_conv.h"
#include "cxnet/base.h"
#include "graph/backends.h"
#include "workspace.h"

typedef struct {
    cx_cuda_handle handle;          /* first: as in the real one */
    cx_backend base;
    cx_cuda_impls impls;
} planner;

char *cx_cuda_cache_folder(void)
{
    const char *own = getenv("CXNET_CACHE");
    return !own ? cx_cache_folder() : *own ? cx_strdup(own) : NULL;
}

/* ---- a backend that only plans ---------------------------------------------------------------------------------------- */

static cx_status mem_alloc(cx_backend *b, size_t bytes, void **p, cx_error *err)
{
    (void)b;
    *p = cx_alloc_aligned(bytes, 1);
    if (!*p)
        return cx_fail(err, CX_E_MEMORY, "no memory for %zu bytes", bytes);
    memset(*p, 0, bytes);
    return CX_OK;
}

static const cx_impl *list_impls(cx_backend *b, cx_op_id op, int *n)
{
    planner *p = b->self;
    *n = p->impls.n[op];
    return p->impls.impl[op];
}

/* ---- names ------------------------------------------------------------------------------------------------------------ */

/* As the backend on such a GPU names it. CX_E_DATA: not the properties of a device. */
static cx_status device_of(const char *json, char out[160], cx_error *err)
{
    json_error_t e;
    json_t *all = json_loads(json, 0, &e);
    const char *name = json_string_value(json_object_get(all, "deviceName"));
    const json_int_t version = json_integer_value(json_object_get(all, "deviceVer")), count = json_integer_value(json_object_get(all, "multiProcessorCount"));
    if (name && version > 0)
        snprintf(out, 160, "sm_%d-%.100s-%d", (int)(version / 10), name, (int)count);
    cx_status s = name && version > 0 ? CX_OK
                : all ? cx_fail(err, CX_E_DATA, "no properties of a GPU: want deviceName, deviceVer and what else cuDNN asks for")
                      : cx_fail(err, CX_E_DATA, "line %d: %s", e.line, e.text);
    json_decref(all);
    return s;
}

/* ---- from the outside ------------------------------------------------------------------------------------------------- */

/* See cx_plugin_warm_fn. */
__attribute__((visibility("default"))) cx_status cx_plugin_warm(const char *name, const char *device_json, cx_warm_fn plan, void *context, cx_warmed *out,
                                                                cx_error *err)
{
    char device[160];
    TRY(device_of(device_json, device, err));
    char *folder = cx_cuda_cache_folder();
    if (!folder)
        return cx_fail(err, CX_E_USAGE, "nowhere to keep plans: CXNET_CACHE is empty, or neither it nor XDG_CACHE_HOME nor HOME names a folder");
    planner *p = cx_alloc(1, sizeof *p);
    cx_status s = p ? cx_cudnn_open(device_json, folder, device, &p->handle.cudnn, out->note, err) : cx_fail(err, CX_E_MEMORY, "out of memory");
    free(folder);
    if (s == CX_OK) {
        cx_cuda_list_impls(&p->handle, &p->impls);
        p->base = (cx_backend){ .name = name, .threads = 1, .self = p, .alloc = mem_alloc, .release = cx_host_release, .upload = cx_host_copy,
            .download = cx_host_copy, .zero = cx_host_zero, .impls = list_impls, .statistics = { .name = "statistics cuda",
            .workspace = cx_cuda_workspace_statistics, .fwd = cx_cuda_fwd_statistics, .bwd = cx_cuda_bwd_statistics, .bf16 = true },
            .convert = { .name = "convert cuda", .fwd = cx_cuda_fwd_convert, .bf16 = true } };
        snprintf(p->base.description, sizeof p->base.description, "a plan for %.140s", device);
        s = plan(&p->base, context, err);
        out->plans = cx_cudnn_count(p->handle.cudnn, &out->made);
        snprintf(out->path, sizeof out->path, "%s", cx_cudnn_path(p->handle.cudnn));
        cx_status kept = cx_cudnn_close(p->handle.cudnn, s == CX_OK ? err : NULL);
        s = s == CX_OK ? kept : s;
    }
    free(p);
    return s;
}
