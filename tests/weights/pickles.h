/* pickles.h - pickles from readable text, and files of PyTorch around them, for tests that need broken ones. */
#ifndef CX_TESTS_PICKLES_H
#define CX_TESTS_PICKLES_H
#include "support.h"

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

/* ---- zip files, stored only ------------------------------------------------------------------------------------------ */

typedef struct { const char *name; const void *data; size_t n; } zip_part;

static inline uint32_t zip_crc(const void *data, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= ((const unsigned char *)data)[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static inline void put_le(cx_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        cx_buf_put(b, (const char[]){ (char)(i < 8 ? v >> (8 * i) : 0) }, 1);
}

/* version, flags, method, time, date, CRC, both sizes, lengths of name and extra field: what local and central headers share */
static inline void put_zip_common(cx_buf *b, const zip_part *part)
{
    put_le(b, 20, 2);
    put_le(b, 0, 8);
    put_le(b, zip_crc(part->data, part->n), 4);
    put_le(b, part->n, 4);
    put_le(b, part->n, 4);
    put_le(b, strlen(part->name), 2);
    put_le(b, 0, 2);
}

/* Parts end with one that has no name. */
static inline cx_buf zip_of(const zip_part *parts)
{
    cx_buf b = { 0 }, directory = { 0 };
    int n = 0;
    for (; parts[n].name; n++) {
        cx_buf_puts(&directory, "PK\1\2");
        put_le(&directory, 20, 2);
        put_zip_common(&directory, &parts[n]);
        put_le(&directory, 0, 10);
        put_le(&directory, b.len, 4);
        cx_buf_puts(&directory, parts[n].name);
        cx_buf_puts(&b, "PK\3\4");
        put_zip_common(&b, &parts[n]);
        cx_buf_puts(&b, parts[n].name);
        cx_buf_put(&b, parts[n].data, parts[n].n);
    }
    const size_t at = b.len;
    cx_buf_put(&b, directory.data, directory.len);
    cx_buf_puts(&b, "PK\5\6");
    put_le(&b, 0, 4);
    put_le(&b, (uint64_t)n, 2);
    put_le(&b, (uint64_t)n, 2);
    put_le(&b, directory.len, 4);
    put_le(&b, at, 4);
    put_le(&b, 0, 2);
    cx_buf_free(&directory);
    return b;
}

#endif
