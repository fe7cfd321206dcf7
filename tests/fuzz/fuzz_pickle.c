/* fuzz_pickle.c - libFuzzer's entry to the reader of PyTorch's files: the input as a file, and as what follows the first three pickles of the old format, where
 * no checksum stands in the way of the machine, the state dictionary and the storages.
 *
 *     B=$(ls src/base/{buf,csv,file,memory,philox,status}.c)
 *     W=$(ls src/weights/{pickle,torch,torch_known,sink,zip,inflate,safetensors}.c)
 *     clang -g -O1 -D_GNU_SOURCE -Iinclude -Isrc -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_pickle.c $B $W -ljansson -lz -lm -o fuzz_pickle
 *     mkdir corpus; ./fuzz_pickle -max_total_time=60 -max_len=8192 corpus tests/golden/torch */
#include <stdlib.h>
#include <string.h>
#include "weights/sink.h"

enum { ROOM = 1 << 20 };

static void parse(const unsigned char *p, size_t n, unsigned char *room)
{
    size_t begin, bytes;
    cx_error err;
    cx_sink sink = cx_sink_on(room, CX_SINK_HEADER + ROOM);
    if (cx_is_torch(p, n) && cx_parse_torch(p, n, &sink, &err) == CX_OK && cx_sink_finish(&sink, &begin, &bytes, &err) == CX_OK) {
        cx_st_file f;
        if (cx_st_parse("made", room + begin, bytes, &f, &err) != CX_OK)
            __builtin_trap();            /* what the sink makes is always sound */
        cx_st_free(&f);
    }
    cx_sink_free(&sink);
}

int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n);
int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n)
{
    static const char before[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    static unsigned char *room;
    unsigned char *chain = malloc(sizeof before - 1 + n);
    if (!room)
        room = malloc(CX_SINK_HEADER + ROOM);
    parse(p, n, room);
    memcpy(chain, before, sizeof before - 1);
    if (n)
        memcpy(chain + sizeof before - 1, p, n);
    parse(chain, sizeof before - 1 + n, room);
    free(chain);
    return 0;
}
