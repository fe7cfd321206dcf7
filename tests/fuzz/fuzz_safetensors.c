/* fuzz_safetensors.c - libFuzzer's entry to the reader of safetensors files: what is accepted lies side by side, and goes through the sink unharmed.
 *
 *     B=$(ls src/base/{buf,csv,file,memory,philox,status}.c)
 *     W=$(ls src/weights/{safetensors,sink}.c)
 *     clang -g -O1 -D_GNU_SOURCE -Iinclude -Isrc -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_safetensors.c $B $W -ljansson -lm -o fuzz_safetensors
 *     mkdir corpus; ./fuzz_safetensors -max_total_time=60 -max_len=4096 corpus tests/golden */
#include <stdlib.h>
#include <string.h>
#include "weights/sink.h"

enum { ROOM = 1 << 20 };

/* Floats as they are, other types as bytes: every tensor that was accepted may be read from its first byte to its last. */
static void sum_up(const cx_st_file *f)
{
    const char *at = f->map;
    unsigned sum = 0;
    for (int i = 0; i < f->n; i++) {
        if (f->tensors[i].data != at)
            __builtin_trap();
        for (size_t k = 0; k < f->tensors[i].bytes; k++)
            sum += (unsigned char)*at++;
        if (cx_st_find(f, f->tensors[i].name) != &f->tensors[i])
            __builtin_trap();
    }
    if (at != (const char *)f->map + f->map_bytes || sum == 1u << 31)
        __builtin_trap();
}

static void through_the_sink(const cx_st_file *f)
{
    size_t begin, bytes;
    void *room = malloc(CX_SINK_HEADER + ROOM);
    cx_sink s = cx_sink_on(room, CX_SINK_HEADER + ROOM);
    for (int i = 0; i < f->n; i++) {
        const cx_st_tensor *t = &f->tensors[i];
        cx_raw_tensor raw = { .type = t->dtype == CX_F32 ? CX_RAW_F32 : CX_RAW_U8, .nd = 1, .data = t->data, .bytes = t->bytes };
        raw.d[0] = (int64_t)(t->dtype == CX_F32 ? t->bytes / 4 : t->bytes);
        cx_sink_add(&s, t->name, &raw, NULL);
    }
    if (cx_sink_finish(&s, &begin, &bytes, NULL) == CX_OK) {
        cx_st_file again;
        if (cx_st_parse("made", (char *)room + begin, bytes, &again, NULL) != CX_OK)
            __builtin_trap();
        cx_st_free(&again);
    }
    cx_sink_free(&s);
    free(room);
}

int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n);
int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n)
{
    cx_st_file f;
    if (cx_st_parse("input", p, n, &f, NULL) != CX_OK)
        return 0;
    sum_up(&f);
    through_the_sink(&f);
    cx_st_free(&f);
    return 0;
}
