/* pickles.h - pickles from readable text, and files of PyTorch around them, for tests that need broken ones. */
#ifndef CX_TESTS_PICKLES_H
#define CX_TESTS_PICKLES_H
#include "make_zip.h"

/* ---- pickles --------------------------------------------------------------------------------------------------------- */

/* Words, apart by blanks:  'text'  12  -3  c:module.name (GLOBAL)  T F (true, false)  xHEX (bytes as they are)  any other letter: that instruction.
 *     } 'epoch' 3 s .                            is {"epoch": 3}
 *     c:os.system ( 'ls' t R .                   calls os.system('ls') */
static inline void pickle_word(cx_buf *b, const char *w, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    if (w[0] == '\'') {
        const uint32_t length = (uint32_t)n - 2;
        cx_buf_put(b, "X", 1);
        cx_buf_put(b, &length, 4);
        cx_buf_put(b, w + 1, n - 2);
    } else if (n > 2 && w[0] == 'c' && w[1] == ':') {
        size_t dot = n - 1;
        while (w[dot] != '.')
            dot--;
        cx_buf_put(b, "c", 1);
        cx_buf_put(b, w + 2, dot - 2);
        cx_buf_put(b, "\n", 1);
        cx_buf_put(b, w + dot + 1, n - dot - 1);
        cx_buf_put(b, "\n", 1);
    } else if (w[0] == 'x') {
        for (size_t i = 1; i + 1 < n; i += 2)
            cx_buf_put(b, (const char[]){ (char)((strchr(digits, w[i]) - digits) << 4 | (strchr(digits, w[i + 1]) - digits)) }, 1);
    } else if ((w[0] >= '0' && w[0] <= '9') || (w[0] == '-' && n > 1)) {
        const int64_t v = strtoll(w, NULL, 10);
        cx_buf_put(b, "\x8a\x08", 2);
        cx_buf_put(b, &v, 8);
    } else if (n == 1) {
        cx_buf_put(b, w[0] == 'T' ? "\x88" : w[0] == 'F' ? "\x89" : w, 1);
    } else
        fail_msg("no word of a pickle: %.*s", (int)n, w);
}

static inline void pickle_add(cx_buf *b, const char *text)
{
    while (*text) {
        const char *stop = *text == '\'' ? strchr(text + 1, '\'') + 1 : text + strcspn(text, " ");
        if (stop > text)
            pickle_word(b, text, (size_t)(stop - text));
        text = stop + (*stop == ' ');
    }
}

/* A whole one, protocol 2. */
static inline cx_buf pickle_of(const char *text)
{
    cx_buf b = { 0 };
    cx_buf_put(&b, "\x80\x02", 2);
    pickle_add(&b, text);
    return b;
}

static inline void pickle_repeat(cx_buf *b, const char *text, int times)
{
    cx_buf one = { 0 };
    pickle_add(&one, text);
    for (int i = 0; i < times; i++)
        cx_buf_put(b, one.data, one.len);
    cx_buf_free(&one);
}

/* Words of PyTorch's own. */
#define STORE(class, key, count) "( 'storage' c:torch." class " '" key "' 'cpu' " count " t Q "
#define V2(store, offset, size, stride) "c:torch._utils._rebuild_tensor_v2 ( " store offset " " size " " stride " F c:collections.OrderedDict ) R t R "
#define FOUR STORE("FloatStorage", "0", "4")
#define GOOD V2(FOUR, "0", "( 2 2 t", "( 2 1 t")
#define STATE(tensor) "} 'w' " tensor "s ."

/* Members as they should be; parts end with NO_PART. */
#define PART(member, bytes, length) { .name = member, .data = bytes, .n = length }
#define NO_PART { .name = NULL }
static inline cx_buf zip_of(const zip_part *parts)
{
    int n = 0;
    while (parts[n].name)
        n++;
    return zip_make(parts, n, (zip_end){ 0 });
}

#endif
