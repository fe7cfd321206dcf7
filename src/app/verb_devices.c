/* verb_devices.c - `cxnet devices`: what --device and run.device can name on this machine. Depends on app.h. */
#include "app.h"
#include <string.h>

enum { MAX_GPUS = 64 };

static void print_device(const char *name, const char *what)
{
    printf("%-18s %s\n", name, what);
}

/* The instruction sets that this processor has, best first; the first without a name of its own is what "cpu" takes. */
static cx_status list_cpu(cx_error *err)
{
    static const char *const sets[] = { "cpu", "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable" };
    for (int i = 0; i < CX_COUNT(sets); i++) {
        cx_backend *b;
        TRY(cx_backend_open(sets[i], 0, &b, err));
        if (i == 0 || strstr(b->description, sets[i] + 4))
            print_device(sets[i], b->description);
        cx_backend_close(b);
    }
    return CX_OK;
}

static void list_gpus(void)
{
    for (int i = 0; i < MAX_GPUS; i++) {
        char name[32];
        cx_backend *b;
        cx_error why = { 0 };
        snprintf(name, sizeof name, "cuda:%d", i);
        if (cx_backend_open(name, 0, &b, &why) != CX_OK) {
            if (i == 0)
                print_device("cuda", why.text);
            return;
        }
        print_device(name, b->description);
        cx_backend_close(b);
    }
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v, (void)a;
    TRY(list_cpu(err));
    list_gpus();
    return CX_OK;
}

const cx_verb cx_verb_devices = { .name = "devices", .args = "", .doc = "list what --device and run.device can name on this machine", .run = run };
