/* safetensors.c - reads safetensors files strictly: whatever is not exactly as the format says is refused with its reason. Depends on weights.h, jansson. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cxnet/weights.h"
#include "dtype.h"

enum { LENGTH_BYTES = 8, MAX_HEADER = 64 << 20 };
static const char METADATA[] = "__metadata__";

static const char *const dtypes[] = {
    [CX_F32] = "F32", [CX_F64] = "F64", [CX_F16] = "F16", [CX_BF16] = "BF16", [CX_I64] = "I64", [CX_I32] = "I32", [CX_U8] = "U8", [CX_BOOL] = "BOOL",
};

const char *cx_dtype_name(cx_dtype t)
{
    return dtypes[t];
}

bool cx_st_product(const cx_st_tensor *t, size_t *bytes)
{
    *bytes = cx_dtype_bytes(t->dtype);
    for (int i = 0; i < t->nd; i++)
        if (t->d[i] < 0 || __builtin_mul_overflow(*bytes, (size_t)t->d[i], bytes))
            return false;
    return *bytes <= PTRDIFF_MAX;
}

/* ---- one entry of the header ----------------------------------------------------------------------------------------- */

static cx_status read_dtype(const char *file, const char *name, const json_t *j, cx_dtype *out, cx_error *err)
{
    const char *text = json_string_value(j);
    for (int i = 0; text && i < CX_COUNT(dtypes); i++)
        if (strcmp(dtypes[i], text) == 0) {
            *out = (cx_dtype)i;
            return CX_OK;
        }
    return cx_fail(err, CX_E_DATA, "%s: tensor '%s': dtype: want F32, F64, F16, BF16, I64, I32, U8 or BOOL, got %s", file, name, text ? text : "no text");
}

static cx_status read_shape(const char *file, const char *name, const json_t *j, cx_st_tensor *t, cx_error *err)
{
    if (!json_is_array(j))
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': shape: want a list of whole numbers", file, name);
    if (json_array_size(j) > CX_ST_DIMS)
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': shape: has %zu dimensions, at most %d are read here", file, name, json_array_size(j), CX_ST_DIMS);
    t->nd = (int)json_array_size(j);
    for (int i = 0; i < t->nd; i++) {
        const json_t *d = json_array_get(j, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return cx_fail(err, CX_E_DATA, "%s: tensor '%s': shape[%d]: want a whole number >= 0", file, name, i);
        t->d[i] = json_integer_value(d);
    }
    return CX_OK;
}

static cx_status read_offsets(const char *file, const char *name, const json_t *j, const char *data, size_t n, cx_st_tensor *t, cx_error *err)
{
    const json_t *from = json_array_get(j, 0), *to = json_array_get(j, 1);
    size_t want = 0;
    if (json_array_size(j) != 2 || !json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0)
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': data_offsets: want two whole numbers >= 0", file, name);
    const long long a = json_integer_value(from), b = json_integer_value(to);
    if (b < a)
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': data_offsets: end %lld lies before begin %lld", file, name, b, a);
    if ((unsigned long long)b > n)
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': data_offsets: end %lld lies beyond the data of %zu bytes; the file is cut short or damaged",
            file, name, b, n);
    if (!cx_st_product(t, &want))
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': shape: its size in bytes is too large to count", file, name);
    if ((unsigned long long)(b - a) != want)
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': data_offsets: hold %lld bytes, shape and dtype want %zu", file, name, b - a, want);
    t->data = data + a;
    t->bytes = want;
    return CX_OK;
}

static cx_status read_tensor(const char *file, const char *name, const json_t *j, const char *data, size_t n, cx_st_tensor *t, cx_error *err)
{
    static const char *const keys[] = { "dtype", "shape", "data_offsets" };
    if (!json_is_object(j))
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': want an object with dtype, shape and data_offsets", file, name);
    for (int i = 0; i < CX_COUNT(keys); i++)
        if (!json_object_get(j, keys[i]))
            return cx_fail(err, CX_E_DATA, "%s: tensor '%s': %s is missing", file, name, keys[i]);
    if (json_object_size(j) != CX_COUNT(keys))
        return cx_fail(err, CX_E_DATA, "%s: tensor '%s': has keys beside dtype, shape and data_offsets", file, name);
    t->name = name;
    TRY(read_dtype(file, name, json_object_get(j, "dtype"), &t->dtype, err));
    TRY(read_shape(file, name, json_object_get(j, "shape"), t, err));
    return read_offsets(file, name, json_object_get(j, "data_offsets"), data, n, t, err);
}

static cx_status read_metadata(const char *file, json_t *j, cx_st_file *out, cx_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(j))
        return cx_fail(err, CX_E_DATA, "%s: %s: want an object of texts", file, METADATA);
    out->meta = cx_alloc(json_object_size(j), sizeof *out->meta);
    if (!out->meta)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for its metadata", file);
    json_object_foreach(j, key, value) {
        if (!json_is_string(value))
            return cx_fail(err, CX_E_DATA, "%s: %s: '%s': want a text", file, METADATA, key);
        out->meta[out->n_meta++] = (cx_st_meta){ key, json_string_value(value) };
    }
    return CX_OK;
}

/* ---- the whole file ---------------------------------------------------------------------------------------------------- */

static int by_place(const void *pa, const void *pb)
{
    const cx_st_tensor *a = pa, *b = pb;
    const char *x = a->data, *y = b->data;
    if (x != y)
        return x < y ? -1 : 1;
    return a->bytes != b->bytes ? (a->bytes < b->bytes ? -1 : 1) : strcmp(a->name, b->name);
}

/* Tensors lie side by side from the first byte of the data to the last. Sorts them by place. */
static cx_status check_cover(const char *file, cx_st_file *f, const char *data, size_t n, cx_error *err)
{
    size_t at = 0;
    if (f->n > 1)
        qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, by_place);
    for (int i = 0; i < f->n; i++) {
        const size_t begin = (size_t)((const char *)f->tensors[i].data - data);
        if (begin > at)
            return cx_fail(err, CX_E_DATA, "%s: a hole of %zu bytes lies before tensor '%s'", file, begin - at, f->tensors[i].name);
        if (begin < at)
            return cx_fail(err, CX_E_DATA, "%s: tensor '%s' overlaps the one before it by %zu bytes", file, f->tensors[i].name, at - begin);
        at += f->tensors[i].bytes;
    }
    if (at != n)
        return cx_fail(err, CX_E_DATA, "%s: %zu bytes lie behind the last tensor", file, n - at);
    return CX_OK;
}

static cx_status read_header(const char *file, const char *header, size_t header_n, const char *data, size_t n, cx_st_file *f, cx_error *err)
{
    json_error_t e;
    const char *key;
    json_t *value;
    if (header[0] != '{')
        return cx_fail(err, CX_E_DATA, "%s: the header does not begin with '{'; is this a safetensors file?", file);
    json_t *root = json_loadb(header, header_n, JSON_REJECT_DUPLICATES, &e);
    f->json = root;
    if (!root)
        return cx_fail(err, CX_E_DATA, "%s: the header is not sound JSON: %s at byte %d", file, e.text, e.position);
    f->tensors = cx_alloc(json_object_size(root), sizeof *f->tensors);
    if (!f->tensors)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu tensors", file, json_object_size(root));
    json_object_foreach(root, key, value) {
        if (strcmp(key, METADATA) == 0)
            TRY(read_metadata(file, value, f, err));
        else
            TRY(read_tensor(file, key, value, data, n, &f->tensors[f->n++], err));
    }
    return check_cover(file, f, data, n, err);
}

/* What the first eight bytes of a file of `bytes` say about its header. */
static cx_status header_length(const char *file, const unsigned char *p, size_t bytes, size_t *out, cx_error *err)
{
    uint64_t n = 0;
    if (bytes < LENGTH_BYTES)
        return cx_fail(err, CX_E_DATA, "%s: holds %zu bytes, a safetensors file at least %d", file, bytes, LENGTH_BYTES + 2);
    if (memcmp(p, "\x89HDF", 4) == 0 || memcmp(p, "PK\3\4", 4) == 0)
        return cx_fail(err, CX_E_DATA, "%s: is %s, no safetensors file; make it one that says what it is by cxnet weights import", file,
                       *p == 'P' ? "a zip, as of Keras or PyTorch" : "an HDF5 file, as of Keras");
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | p[i];
    if (n < 2)
        return cx_fail(err, CX_E_DATA, "%s: its header is %llu bytes long, too short for '{}'", file, (unsigned long long)n);
    if (n > MAX_HEADER)
        return cx_fail(err, CX_E_DATA, "%s: says that its header is %llu bytes long, more than the 64 MiB that are read; is this a safetensors file?",
            file, (unsigned long long)n);
    if (n > bytes - LENGTH_BYTES)
        return cx_fail(err, CX_E_DATA, "%s: says that its header is %llu bytes long, but only %zu follow; the file is cut short", file,
            (unsigned long long)n, bytes - LENGTH_BYTES);
    *out = (size_t)n;
    return CX_OK;
}

void cx_st_free(cx_st_file *f)
{
    free(f->tensors);
    free(f->meta);
    free(f->map);
    json_decref(f->json);
    *f = (cx_st_file){ 0 };
}

/* Where bytes come from: memory, or an open file. */
typedef struct { const char *memory; int fd; } source;

static cx_status fetch(const char *file, source s, size_t at, void *to, size_t n, cx_error *err)
{
    if (s.memory) {
        if (n)
            memcpy(to, s.memory + at, n);
        return CX_OK;
    }
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(s.fd, (char *)to + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cx_fail(err, CX_E_NOINPUT, "%s: cannot be read: %s", file, strerror(errno));
        if (got == 0)
            return cx_fail(err, CX_E_DATA, "%s: became shorter while it was read; try again when it is complete", file);
        done += (size_t)got;
    }
    return CX_OK;
}

/* Data lie at a multiple of 64 bytes in memory, wherever the header ends in the file. */
static cx_status load(const char *file, source s, size_t bytes, cx_st_file *f, char **header, cx_error *err)
{
    unsigned char length[LENGTH_BYTES] = { 0 };
    size_t header_n = 0;
    TRY(fetch(file, s, 0, length, bytes < LENGTH_BYTES ? bytes : LENGTH_BYTES, err));
    TRY(header_length(file, length, bytes, &header_n, err));
    f->map_bytes = bytes - LENGTH_BYTES - header_n;
    *header = cx_alloc(header_n, 1);
    f->map = cx_alloc_aligned(f->map_bytes, 1);
    if (!*header || !f->map)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu bytes", file, bytes);
    TRY(fetch(file, s, LENGTH_BYTES, *header, header_n, err));
    TRY(fetch(file, s, LENGTH_BYTES + header_n, f->map, f->map_bytes, err));
    return read_header(file, *header, header_n, f->map, f->map_bytes, f, err);
}

static cx_status open_source(const char *file, source s, size_t bytes, cx_st_file *out, cx_error *err)
{
    char *header = NULL;
    *out = (cx_st_file){ 0 };
    const cx_status status = load(file, s, bytes, out, &header, err);
    free(header);
    if (status != CX_OK)
        cx_st_free(out);
    return status;
}

cx_status cx_st_parse(const char *name, const void *data, size_t n, cx_st_file *out, cx_error *err)
{
    return open_source(name, (source){ n ? data : "", -1 }, n, out, err);
}

cx_status cx_st_read(const char *path, cx_st_file *out, cx_error *err)
{
    *out = (cx_st_file){ 0 };
    /* O_NONBLOCK: a named pipe must not hang us before we can see that it is no regular file. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0)
        return cx_fail(err, CX_E_NOINPUT, "%s: cannot be opened: %s; check the path and its permissions", path, strerror(errno));
    cx_status s = CX_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        s = cx_fail(err, CX_E_NOINPUT, "%s: is not a regular file", path);
    else
        s = open_source(path, (source){ NULL, fd }, (size_t)st.st_size, out, err);
    close(fd);
    return s;
}

const cx_st_tensor *cx_st_find(const cx_st_file *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

const char *cx_st_meta_get(const cx_st_file *f, const char *key)
{
    for (int i = 0; i < f->n_meta; i++)
        if (strcmp(f->meta[i].key, key) == 0)
            return f->meta[i].value;
    return NULL;
}
