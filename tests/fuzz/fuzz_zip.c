/* fuzz_zip.c - libFuzzer's entry to the reader of zip files: opens the input, takes every member, and holds what came out to what was promised.
 *
 *     B=$(ls src/base/{buf,csv,file,memory,philox,status}.c)
 *     clang -g -O1 -D_GNU_SOURCE -Iinclude -Isrc -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_zip.c src/weights/{zip,inflate}.c $B -lz -lm -o fuzz_zip
 *     mkdir corpus; ./fuzz_zip -max_total_time=60 -max_len=4096 corpus */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "weights/zip.h"

enum { MOST = 1 << 20 };

static void take(const cx_zip *z, const cx_zip_member *m)
{
    const unsigned char *data;
    void *owned;
    if (cx_zip_get(z, m, MOST, &data, &owned, NULL) != CX_OK)
        return;
    if (m->bytes > MOST || crc32_z(0, data, (size_t)m->bytes) != m->crc || (!owned && (data < z->p || data + m->bytes > z->p + z->n)))
        __builtin_trap();
    free(owned);
}

int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n);
int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n)
{
    cx_zip z;
    const bool may = cx_zip_is(p, n);
    if (cx_zip_open(p, n, &z, NULL) != CX_OK)
        return 0;
    if (!may)
        __builtin_trap();
    for (int i = 0; i < z.n_members; i++) {
        if (cx_zip_find(&z, z.members[i].name) != &z.members[i])
            __builtin_trap();                                      /* names are unique */
        take(&z, &z.members[i]);
    }
    cx_zip_close(&z);
    return 0;
}
