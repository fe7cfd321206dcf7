/* passes.c - the names under which an experiment chooses passes. */
#include <string.h>
#include "cxnet/base.h"
#include "cxnet/graph.h"

static const char *const names[] = { "views", "relu", "pool_first", "eval_fold", "prologue", "statistics", "affine", "recompute", "liveness",
                                     "pool_last" };
_Static_assert((1u << sizeof names / sizeof names[0]) - 1 == CX_PASS_ALL, "a name for every bit of cx_pass_bits, in its order");

cx_status cx_passes_parse(const char *list, unsigned *skip, cx_error *err)
{
    *skip = CX_PASS_ALL;
    if (!strcmp(list, "none"))
        return CX_OK;
    if (!strcmp(list, "all")) {
        *skip = 0;
        return CX_OK;
    }
    for (const char *w = list;; w++) {
        const size_t n = strcspn(w, ",");
        int k = 0;
        while (k < CX_COUNT(names) && (strlen(names[k]) != n || memcmp(names[k], w, n)))
            k++;
        if (k == CX_COUNT(names))
            return cx_fail(err, CX_E_CONFIG, "\"%.*s\" is no pass; want all, none, or some of views, relu, pool_first, eval_fold, prologue, statistics, "
                           "affine, recompute, liveness, pool_last, separated by commas", n < 60 ? (int)n : 60, w);
        *skip &= ~(1u << k);
        w += n;
        if (!*w)
            return CX_OK;
    }
}
