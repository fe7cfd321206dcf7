/* sink.c - takes tensors as other people's files hold them, looks at every number, and lays them out as a safetensors file. Depends on sink.h. */
#include "sink.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "dtype.h"

enum { LENGTH_BYTES = 8, ALIGN = 64 };

static const struct { uint8_t bytes; uint8_t out; } raws[] = {
    [CX_RAW_F32] = { 4, CX_F32 }, [CX_RAW_F64] = { 8, CX_F32 }, [CX_RAW_F16] = { 2, CX_F32 }, [CX_RAW_BF16] = { 2, CX_F32 },
    [CX_RAW_I64] = { 8, CX_I64 }, [CX_RAW_I32] = { 4, CX_I32 }, [CX_RAW_I16] = { 2, CX_I32 }, [CX_RAW_I8] = { 1, CX_I32 },
    [CX_RAW_U32] = { 4, CX_I64 }, [CX_RAW_U16] = { 2, CX_I32 }, [CX_RAW_U8] = { 1, CX_U8 }, [CX_RAW_BOOL] = { 1, CX_BOOL },
};

size_t cx_raw_bytes(cx_raw t)
{
    return raws[t].bytes;
}

cx_sink cx_sink_on(void *out, size_t cap)
{
    return (cx_sink){ .out = out, .cap = cap };
}

void cx_sink_free(cx_sink *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->entries[i].name);
    free(s->entries);
    free(s->slots);
    cx_buf_free(&s->meta);
    cx_buf_free(&s->keys);
    *s = (cx_sink){ 0 };
}

size_t cx_sink_room(const cx_sink *s)
{
    return s->cap - CX_SINK_HEADER - s->used;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------------- */

static uint64_t load(const unsigned char *p, int n, bool big)
{
    uint64_t u = 0;
    for (int i = 0; i < n; i++)
        u = u << 8 | p[big ? i : n - 1 - i];
    return u;
}

/* Exact: every half is a float. */
static float from_half(uint16_t h)
{
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const float x = exponent == 31 ? (mantissa ? NAN : INFINITY) : exponent ? ldexpf((float)(mantissa | 1024), exponent - 25) : ldexpf((float)mantissa, -24);
    return h & 0x8000 ? -x : x;
}

static float to_float(cx_raw type, uint64_t u)
{
    double d;
    float f;
    const uint32_t low = (uint32_t)u;
    switch (type) {
    case CX_RAW_F64: memcpy(&d, &u, sizeof d); return (float)d;
    case CX_RAW_F16: return from_half((uint16_t)u);
    case CX_RAW_BF16: return cx_from_bf16((uint16_t)u);
    default: memcpy(&f, &low, sizeof f); return f;
    }
}

/* Widens a whole number; false when it is no value of its type. */
static bool to_whole(cx_raw type, uint64_t u, int64_t *out)
{
    switch (type) {
    case CX_RAW_I32: *out = (int32_t)u; return true;
    case CX_RAW_I16: *out = (int16_t)u; return true;
    case CX_RAW_I8: *out = (int8_t)u; return true;
    case CX_RAW_BOOL: *out = (int64_t)u; return u <= 1;
    default: *out = (int64_t)u; return true;
    }
}

/* One number; NULL or what is wrong with it. */
static const char *convert(const cx_raw_tensor *t, const unsigned char *from, cx_dtype to, bool variance, unsigned char *out)
{
    const uint64_t u = load(from, raws[t->type].bytes, t->big_endian);
    if (to == CX_F32) {
        const float x = to_float(t->type, u);
        memcpy(out, &x, sizeof x);
        if (!isfinite(x))
            return isnan(x) ? "is not a number" : "is infinite, or beyond float32";
        return variance && x < 0 ? "is a variance below 0" : NULL;
    }
    int64_t whole;
    const bool sound = to_whole(t->type, u, &whole);
    memcpy(out, &whole, cx_dtype_bytes(to));       /* little-endian: the low bytes */
    return sound ? NULL : "is neither true nor false";
}

static cx_status bad_number(const char *name, const cx_raw_tensor *t, int64_t i, const char *what, cx_error *err)
{
    char at[CX_ST_DIMS * 21 + 1] = "";
    int64_t index[CX_ST_DIMS];
    for (int k = t->nd - 1; k >= 0; k--) {
        index[k] = i % t->d[k];
        i /= t->d[k];
    }
    for (int k = 0, n = 0; k < t->nd; k++)
        n += snprintf(at + n, sizeof at - (size_t)n, "%s%lld", k ? ", " : "", (long long)index[k]);
    return cx_fail(err, CX_E_DATA, "tensor '%.200s': element (%s) %s", name, at, what);
}

/* count > 0 numbers, row by row of the last dimension. */
static cx_status copy(const char *name, const cx_raw_tensor *t, const int64_t *stride, int64_t count, cx_dtype to, bool variance, unsigned char *out,
                      cx_error *err)
{
    const size_t in_bytes = raws[t->type].bytes, out_bytes = cx_dtype_bytes(to);
    const int64_t row = t->nd ? t->d[t->nd - 1] : 1, step = t->nd ? stride[t->nd - 1] : 0;
    int64_t index[CX_ST_DIMS] = { 0 }, at = 0;
    for (int64_t i = 0; i < count; i += row) {
        const unsigned char *from = (const unsigned char *)t->data + (size_t)at * in_bytes;
        for (int64_t j = 0; j < row; j++) {
            const char *wrong = convert(t, from + (size_t)(j * step) * in_bytes, to, variance, out);
            if (wrong)
                return bad_number(name, t, i + j, wrong, err);
            out += out_bytes;
        }
        for (int k = t->nd - 2; k >= 0; k--) {
            at += stride[k];
            if (++index[k] < t->d[k])
                break;
            at -= index[k] * stride[k];
            index[k] = 0;
        }
    }
    return CX_OK;
}

/* ---- names and shapes -------------------------------------------------------------------------------------------------- */

static bool printable(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127)
            return false;
    return cx_utf8_valid(name, n) == n;
}

static bool ends(const char *s, size_t n, const char *end)
{
    const size_t m = strlen(end);
    return n >= m && memcmp(s + n - m, end, m) == 0;
}

static cx_status check_name(const char *name, size_t n, cx_error *err)
{
    if (n == 0)
        return cx_fail(err, CX_E_DATA, "a tensor has no name");
    if (n > CX_SINK_NAME)
        return cx_fail(err, CX_E_DATA, "tensor '%.200s...': a name of %zu bytes, at most %d are read", name, n, CX_SINK_NAME);
    if (!printable(name, n))
        return cx_fail(err, CX_E_DATA, "tensor '%.200s': its name is not UTF-8, or holds control characters", name);
    if (strcmp(name, "__metadata__") == 0)
        return cx_fail(err, CX_E_DATA, "tensor '%s': this name is not one for tensors", name);
    return CX_OK;
}

/* Numbers in the shape, and strides where none are given; whether all of them lie within t->bytes. */
static cx_status check_shape(const char *name, const cx_raw_tensor *t, int64_t stride[CX_ST_DIMS], int64_t *count, cx_error *err)
{
    size_t reach = 0, n = 1;
    bool empty = false;
    if (t->nd < 0 || t->nd > CX_ST_DIMS)
        return cx_fail(err, CX_E_DATA, "tensor '%.200s': has %d dimensions, at most %d are read", name, t->nd, CX_ST_DIMS);
    for (int k = t->nd - 1; k >= 0; k--) {
        stride[k] = t->stride ? t->stride[k] : (int64_t)n;
        if (t->d[k] < 0 || stride[k] < 0 || __builtin_mul_overflow(n, (size_t)t->d[k], &n) || n > PTRDIFF_MAX / 8)
            return cx_fail(err, CX_E_DATA, "tensor '%.200s': its shape is negative, or too large to count", name);
        empty = empty || t->d[k] == 0;
    }
    for (int k = 0; k < t->nd && !empty; k++) {
        size_t span;
        if (__builtin_mul_overflow((size_t)stride[k], (size_t)t->d[k] - 1, &span) || __builtin_add_overflow(reach, span, &reach) || reach > PTRDIFF_MAX / 16)
            return cx_fail(err, CX_E_DATA, "tensor '%.200s': its strides are too large to count", name);
    }
    const size_t want = empty ? 0 : (reach + 1) * raws[t->type].bytes;
    if (want > t->bytes || (!t->stride && want != t->bytes))
        return cx_fail(err, CX_E_DATA, "tensor '%.200s': its shape wants %zu bytes, %zu are there", name, want, t->bytes);
    *count = empty ? 0 : (int64_t)n;
    return CX_OK;
}

static size_t slot_of(const cx_sink *s, const char *name)
{
    size_t i = (size_t)cx_hash(name) & (s->n_slots - 1);
    while (s->slots[i] && strcmp(s->entries[s->slots[i] - 1].name, name) != 0)
        i = (i + 1) & (s->n_slots - 1);
    return i;
}

static cx_status room_for_entry(cx_sink *s, cx_error *err)
{
    if (s->n >= CX_SINK_TENSORS)
        return cx_fail(err, CX_E_DATA, "more than %d tensors", CX_SINK_TENSORS);
    if (2 * (s->n + 1) > s->n_slots) {
        const size_t n = s->n_slots ? 2 * s->n_slots : 1024;
        uint32_t *slots = cx_alloc(n, sizeof *slots);
        if (!slots)
            return cx_fail(err, CX_E_MEMORY, "no memory for the names of %zu tensors", s->n);
        free(s->slots);
        s->slots = slots;
        s->n_slots = n;
        for (size_t i = 0; i < s->n; i++)
            s->slots[slot_of(s, s->entries[i].name)] = (uint32_t)i + 1;
    }
    return cx_grow(&s->entries, &s->entries_cap, s->n + 1, sizeof *s->entries) ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for %zu tensors", s->n);
}

cx_status cx_sink_add(cx_sink *s, const char *name, const cx_raw_tensor *t, cx_error *err)
{
    const size_t n = strlen(name);
    const cx_dtype to = (cx_dtype)raws[t->type].out;
    int64_t stride[CX_ST_DIMS] = { 0 }, count = 0;
    TRY(check_name(name, n, err));
    TRY(check_shape(name, t, stride, &count, err));
    TRY(room_for_entry(s, err));
    const size_t slot = slot_of(s, name);
    if (s->slots[slot])
        return cx_fail(err, CX_E_DATA, "tensor '%.200s': is there twice", name);
    cx_sink_entry e = { .dtype = to, .nd = t->nd, .bytes = (size_t)count * cx_dtype_bytes(to) };
    if (e.bytes > cx_sink_room(s))
        return cx_fail(err, CX_E_DATA, "tensor '%.200s': wants %zu bytes, but a file of this size is given no more than %zu in all", name, e.bytes,
            s->cap - CX_SINK_HEADER);
    if (count)
        TRY(copy(name, t, stride, count, to, ends(name, n, "moving_variance") || ends(name, n, "running_var"), s->out + CX_SINK_HEADER + s->used, err));
    memcpy(e.d, t->d, sizeof e.d);
    e.name = cx_strdup(name);
    if (!e.name)
        return cx_fail(err, CX_E_MEMORY, "no memory for the name of a tensor");
    s->entries[s->n++] = e;
    s->slots[slot] = (uint32_t)s->n;
    s->used += e.bytes;
    return CX_OK;
}

/* ---- metadata and the header ------------------------------------------------------------------------------------------- */

static void put_text(cx_buf *b, const char *s, size_t n)
{
    cx_buf_put(b, "\"", 1);
    for (size_t i = 0, from = 0; i <= n; i++)
        if (i == n || s[i] == '"' || s[i] == '\\' || (unsigned char)s[i] < ' ') {
            cx_buf_put(b, s + from, i - from);
            if (i < n && (unsigned char)s[i] < ' ')
                cx_buf_printf(b, "\\u%04x", (unsigned)(unsigned char)s[i]);
            else if (i < n)
                cx_buf_put(b, (const char[]){ '\\', s[i] }, 2);
            from = i + 1;
        }
    cx_buf_put(b, "\"", 1);
}

cx_status cx_sink_meta(cx_sink *s, const char *key, const char *value, size_t n, cx_error *err)
{
    const size_t key_n = strlen(key);
    if (key_n == 0 || key_n > CX_SINK_NAME || !printable(key, key_n))
        return cx_fail(err, CX_E_DATA, "metadata '%.200s': its key is empty, too long, not UTF-8, or holds control characters", key);
    if (n > CX_SINK_META)
        return cx_fail(err, CX_E_DATA, "metadata '%.200s': %zu bytes, at most %d are read", key, n, CX_SINK_META);
    if (memchr(value, 0, n) || cx_utf8_valid(value, n) != n)
        return cx_fail(err, CX_E_DATA, "metadata '%.200s': is not UTF-8 text", key);
    char *line = cx_sprintf("\n%s\n", key);
    if (!line)
        return cx_fail(err, CX_E_MEMORY, "no memory for metadata '%.200s'", key);
    const bool known = s->keys.data && strstr(s->keys.data, line);
    cx_buf_puts(&s->keys, line);
    free(line);
    if (known)
        return cx_fail(err, CX_E_DATA, "metadata '%.200s': is there twice", key);
    cx_buf_puts(&s->meta, s->meta.len ? "," : "");
    put_text(&s->meta, key, key_n);
    cx_buf_puts(&s->meta, ":");
    put_text(&s->meta, value, n);
    return s->meta.failed || s->keys.failed ? cx_fail(err, CX_E_MEMORY, "no memory for metadata '%.200s'", key) : CX_OK;
}

cx_status cx_sink_meta_text(cx_sink *s, const char *key, const char *value, cx_error *err)
{
    return cx_sink_meta(s, key, value, strlen(value), err);
}

static void put_entry(cx_buf *b, const cx_sink_entry *e, size_t at)
{
    cx_buf_puts(b, ",");
    put_text(b, e->name, strlen(e->name));
    cx_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", cx_dtype_name(e->dtype));
    for (int k = 0; k < e->nd; k++)
        cx_buf_printf(b, "%s%lld", k ? "," : "", (long long)e->d[k]);
    cx_buf_printf(b, "],\"data_offsets\":[%zu,%zu]}", at, at + e->bytes);
}

cx_status cx_sink_finish(cx_sink *s, size_t *begin, size_t *bytes, cx_error *err)
{
    cx_buf b = { 0 };
    size_t at = 0;
    cx_buf_puts(&b, "{\"__metadata__\":{");
    cx_buf_put(&b, s->meta.data ? s->meta.data : "", s->meta.len);
    cx_buf_puts(&b, "}");
    for (size_t i = 0; i < s->n; i++) {
        put_entry(&b, &s->entries[i], at);
        at += s->entries[i].bytes;
    }
    cx_buf_puts(&b, "}");
    while ((b.len + LENGTH_BYTES) % ALIGN && !b.failed)
        cx_buf_puts(&b, " ");
    cx_status status = b.failed ? cx_fail(err, CX_E_MEMORY, "no memory for the names of %zu tensors", s->n) : CX_OK;
    if (status == CX_OK && b.len + LENGTH_BYTES > CX_SINK_HEADER)
        status = cx_fail(err, CX_E_DATA, "its names and texts take %zu bytes, more than the %d that are read", b.len, CX_SINK_HEADER);
    if (status == CX_OK) {
        *begin = CX_SINK_HEADER - LENGTH_BYTES - b.len;
        *bytes = LENGTH_BYTES + b.len + s->used;
        for (int i = 0; i < LENGTH_BYTES; i++)
            s->out[*begin + (size_t)i] = (unsigned char)(b.len >> (8 * i));
        memcpy(s->out + *begin + LENGTH_BYTES, b.data, b.len);
    }
    cx_buf_free(&b);
    return status;
}
