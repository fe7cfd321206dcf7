/* npy.c - arrays as NumPy keeps them in files. Depends on base.h. */
#include <stdlib.h>
#include <string.h>
#include "cxnet/base.h"

/* numpy/lib/format.py, version 1.0: magic, header length, a Python dictionary padded with spaces to a multiple of 64, the data. */
cx_status cx_npy_write(const char *path, const float *data, const int *dims, int nd, cx_error *err)
{
    cx_buf head = { 0 }, file = { 0 };
    size_t n = 1;
    cx_buf_puts(&head, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < nd; i++) {
        n *= (size_t)dims[i];
        cx_buf_printf(&head, i + 1 < nd ? "%d, " : nd == 1 ? "%d," : "%d", dims[i]);
    }
    cx_buf_puts(&head, "), }");
    while ((10 + head.len + 1) % 64)
        cx_buf_puts(&head, " ");
    cx_buf_puts(&head, "\n");
    const uint8_t start[10] = { 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)(head.len & 255), (uint8_t)(head.len >> 8) };
    cx_buf_put(&file, start, sizeof start);
    cx_buf_put(&file, head.data, head.len);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &data[i], 4);
        const uint8_t little[4] = { (uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16), (uint8_t)(bits >> 24) };
        cx_buf_put(&file, little, 4);
    }
    cx_status s = head.failed || file.failed ? cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu values", path, n)
                                             : cx_file_write(path, file.data, file.len, err);
    cx_buf_free(&head);
    cx_buf_free(&file);
    return s;
}

/* The shape in "(2, 3)", "(6,)" or "()". */
static bool read_shape(const char *text, cx_npy *a)
{
    a->n = 1;
    text += strspn(text, " ");
    if (*text++ != '(')
        return false;
    while (*text && *text != ')') {
        char *end;
        const long long d = strtoll(text, &end, 10);
        if (end == text || d < 0 || a->nd == CX_NPY_DIMS || __builtin_mul_overflow(a->n, d, &a->n))
            return false;
        a->d[a->nd++] = d;
        text = end + strspn(end, ", ");
    }
    return *text == ')';
}

static void convert(const char *from, char kind, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++) {
        double wide;
        if (kind == '8')
            memcpy(&wide, from + 8 * i, 8);
        if (kind == '4')
            memcpy(&to[i], from + 4 * i, 4);
        else
            to[i] = kind == '8' ? (float)wide : (float)(uint8_t)from[i];
    }
}

static cx_status parse(const char *path, const cx_buf *b, cx_npy *out, cx_error *err)
{
    const uint8_t *p = (const uint8_t *)b->data;
    const bool wide = b->len > 12 && p[6] == 2;
    const size_t start = wide ? 12 : 10;
    if (b->len < 12 || memcmp(p, "\x93NUMPY", 6) != 0 || p[6] < 1 || p[6] > 2)
        return cx_fail(err, CX_E_DATA, "%s: not a .npy file of version 1 or 2", path);
    const size_t length = p[8] | (size_t)p[9] << 8 | (wide ? (size_t)p[10] << 16 | (size_t)p[11] << 24 : 0);
    if (length > b->len - start)
        return cx_fail(err, CX_E_DATA, "%s: its header of %zu bytes reaches beyond the file", path, length);
    char *head = cx_sprintf("%.*s", (int)length, b->data + start);
    if (!head)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for its header", path);
    const char *type = strstr(head, "'descr': '"), *order = strstr(head, "'fortran_order': False"), *shape = strstr(head, "'shape':");
    type = type ? type + 10 : "";
    const char kind = strncmp(type, "<f4'", 4) == 0 ? '4' : strncmp(type, "<f8'", 4) == 0 ? '8' : strncmp(type, "|u1'", 4) == 0 ? '1' : 0;
    const bool read = kind && order && shape && read_shape(shape + 8, out);
    free(head);
    if (!read)
        return cx_fail(err, CX_E_DATA, "%s: want little-endian float32, float64 or uint8 in C order with at most %d dimensions", path, CX_NPY_DIMS);
    const size_t width = (size_t)(kind - '0'), left = b->len - start - length;
    if (left % width != 0 || left / width != (uint64_t)out->n)
        return cx_fail(err, CX_E_DATA, "%s: %zu bytes of data for %lld numbers of %zu bytes", path, left, (long long)out->n, width);
    out->data = cx_alloc((size_t)out->n, sizeof *out->data);
    if (!out->data)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %lld numbers", path, (long long)out->n);
    convert(b->data + start + length, kind, out->n, out->data);
    return CX_OK;
}

cx_status cx_npy_read(const char *path, cx_npy *out, cx_error *err)
{
    enum { MAX_BYTES = 1 << 30 };
    cx_buf b = { 0 };
    *out = (cx_npy){ 0 };
    TRY(cx_file_read(path, MAX_BYTES, &b, err));
    const cx_status s = parse(path, &b, out, err);
    cx_buf_free(&b);
    if (s != CX_OK)
        *out = (cx_npy){ 0 };
    return s;
}
