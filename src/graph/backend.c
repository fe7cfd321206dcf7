/* backend.c - the one place where a name becomes a backend: a table of functions. */
#include <stdlib.h>
#include <string.h>
#include "backends.h"

/* "NAME" or "NAME:N" with this NAME: its number, 0 where none is given. False: another name, or no number. */
static bool is_device(const char *text, const char *name, int *device)
{
    const size_t n = strlen(name);
    *device = 0;
    if (strncmp(text, name, n) != 0 || (text[n] != '\0' && text[n] != ':'))
        return false;
    if (text[n] == '\0')
        return true;
    char *end;
    const long v = strtol(text + n + 1, &end, 10);
    *device = (int)v;
    return end > text + n + 1 && *end == '\0' && v >= 0 && v < 1024;
}

/* This GPU; where there is none, the CPU, and a note that says why. */
static cx_status open_best(int device, int threads, cx_backend **out, cx_error *err)
{
    cx_error why = { 0 };
    if (cx_plugin_load("cuda", device, threads, out, &why) == CX_OK)
        return CX_OK;
    cx_status s = cx_cpu_open(NULL, threads, out, err);
    if (s == CX_OK)
        snprintf((*out)->note, sizeof (*out)->note, "device auto: the CPU, since %s", why.text);
    return s;
}

cx_status cx_backend_open(const char *name, int threads, cx_backend **out, cx_error *err)
{
    int device;
    *out = NULL;
    if (threads < 0)
        return cx_fail(err, CX_E_USAGE, "backend '%s': want threads >= 0 (0 = all cores), got %d", name ? name : "", threads);
    if (name && is_device(name, "auto", &device))
        return open_best(device, threads, out, err);
    if (name && strcmp(name, "cpu") == 0)
        return cx_cpu_open(NULL, threads, out, err);
    if (name && strncmp(name, "cpu:", 4) == 0)
        return cx_cpu_open(name + 4, threads, out, err);
    if (name && is_device(name, "cuda", &device))
        return cx_plugin_load("cuda", device, threads, out, err);
    if (name && is_device(name, "emu", &device))
        return cx_plugin_load("emu", device, threads, out, err);
    return cx_fail(err, CX_E_UNSUPPORTED, "no backend is called '%s': want auto, cpu, cpu:avx512_bf16, cpu:avx512, cpu:avx2, cpu:portable, cuda or cuda:N",
                   name ? name : "");
}

cx_status cx_backend_warm(const char *name, const char *device_json, cx_warm_fn plan, void *context, cx_warmed *out, cx_error *err)
{
    *out = (cx_warmed){ .plans = 0 };
    return cx_plugin_warm_by(name, device_json, plan, context, out, err);
}

void cx_backend_close(cx_backend *b)
{
    if (b)
        b->close(b);
}
