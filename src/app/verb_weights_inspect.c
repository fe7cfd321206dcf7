/* verb_weights_inspect.c - `cxnet weights inspect`: what lies in a weight file, whoever wrote it. Depends on app.h, weights.h. */
#include "app.h"
#include <inttypes.h>
#include <string.h>
#include "cxnet/weights.h"

enum { LONG_TEXT = 100 };

typedef struct { int64_t n; double min, max, mean; } summary;      /* n = 0: no number, the others 0 */

static double number(const cx_st_tensor *t, int64_t i)
{
    int64_t whole;
    int32_t half;
    float x;
    switch (t->dtype) {
    case CX_I64: memcpy(&whole, (const char *)t->data + 8 * i, sizeof whole); return (double)whole;
    case CX_I32: memcpy(&half, (const char *)t->data + 4 * i, sizeof half); return half;
    case CX_F32: memcpy(&x, (const char *)t->data + 4 * i, sizeof x); return (double)x;
    default: return ((const unsigned char *)t->data)[i];           /* U8, BOOL: cx_weights_read gives no others */
    }
}

static summary summarise(const cx_st_tensor *t)
{
    summary s = { .n = (int64_t)(t->bytes / cx_dtype_bytes(t->dtype)) };
    for (int64_t i = 0; i < s.n; i++) {
        const double x = number(t, i);
        s.min = i && s.min < x ? s.min : x;
        s.max = i && s.max > x ? s.max : x;
        s.mean += x;
    }
    s.mean /= s.n ? (double)s.n : 1;
    return s;
}

static const char *dtype_name(cx_dtype t)
{
    return t == CX_F32 ? "F32" : t == CX_I64 ? "I64" : t == CX_I32 ? "I32" : t == CX_BOOL ? "BOOL" : "U8";
}

static void put_shape(cx_buf *b, const cx_st_tensor *t)
{
    for (int k = 0; k < t->nd; k++)
        cx_buf_printf(b, "%s%" PRId64, k ? "x" : "", t->d[k]);
    if (t->nd == 0)
        cx_buf_puts(b, "one number");
}

/* A line of the file's own words; configurations run to megabytes. */
static void put_meta(cx_buf *b, const cx_st_meta *m)
{
    const size_t n = strlen(m->value);
    if (n <= LONG_TEXT && !strpbrk(m->value, "\n\r\t"))
        cx_buf_printf(b, "%-20s %s\n", m->key, m->value);
    else
        cx_buf_printf(b, "%-20s (%zu bytes; --json prints them)\n", m->key, n);
}

static cx_status print_text(const cx_st_file *f, cx_error *err)
{
    cx_buf b = { 0 };
    int64_t numbers = 0;
    char bytes[16];
    size_t all = 0;
    for (int i = 0; i < f->n_meta; i++)
        put_meta(&b, &f->meta[i]);
    cx_buf_printf(&b, "\n%-48s %-5s %-18s %12s %12s %12s\n", "tensor", "type", "shape", "min", "max", "mean");
    for (int i = 0; i < f->n; i++) {
        const cx_st_tensor *t = &f->tensors[i];
        const summary s = summarise(t);
        cx_buf shape = { 0 };
        put_shape(&shape, t);
        cx_buf_printf(&b, "%-48s %-5s %-18s %12.5g %12.5g %12.5g\n", t->name, dtype_name(t->dtype), shape.data ? shape.data : "", s.min, s.max, s.mean);
        b.failed |= shape.failed;
        cx_buf_free(&shape);
        numbers += s.n;
        all += t->bytes;
    }
    cx_format_bytes(all, bytes);
    cx_buf_printf(&b, "\n%d tensors, %" PRId64 " numbers, %s\n", f->n, numbers, bytes);
    return cx_app_print(&b, err);
}

static json_t *tensor_json(const cx_st_tensor *t)
{
    const summary s = summarise(t);
    json_t *shape = json_array();
    for (int k = 0; k < t->nd; k++)
        json_array_append_new(shape, json_integer(t->d[k]));
    return json_pack("{s:s, s:s, s:o, s:I, s:f, s:f, s:f}", "name", t->name, "dtype", dtype_name(t->dtype), "shape", shape, "numbers", (json_int_t)s.n,
                     "min", s.min, "max", s.max, "mean", s.mean);
}

static json_t *file_json(const char *path, const cx_st_file *f)
{
    json_t *meta = json_object(), *tensors = json_array();
    json_int_t numbers = 0, bytes = 0;
    for (int i = 0; i < f->n_meta; i++)
        json_object_set_new(meta, f->meta[i].key, json_string(f->meta[i].value));
    for (int i = 0; i < f->n; i++) {
        json_array_append_new(tensors, tensor_json(&f->tensors[i]));
        numbers += (json_int_t)(f->tensors[i].bytes / cx_dtype_bytes(f->tensors[i].dtype));
        bytes += (json_int_t)f->tensors[i].bytes;
    }
    return json_pack("{s:s, s:o, s:o, s:I, s:I}", "file", path, "meta", meta, "tensors", tensors, "numbers", numbers, "bytes", bytes);
}

static cx_status run_inspect(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_st_file f;
    TRY(cx_weights_read(a->positional[0], &f, err));
    const cx_status s = cx_arg(a, "--json") ? cx_app_print_json(file_json(a->positional[0], &f), err) : print_text(&f, err);
    cx_st_free(&f);
    return s;
}

static const cx_flag inspect_flags[] = { CX_FLAG_JSON };
const cx_verb cx_verb_weights_inspect = {
    .name = "weights inspect", .args = "FILE", .doc = "list what a weight file holds: Keras, PyTorch or safetensors", .min_args = 1, .max_args = 1,
    .run = run_inspect, .flags = inspect_flags, .n_flags = CX_COUNT(inspect_flags),
    .more = "The content decides what the file is, never its name. It is parsed by a process that can open and start nothing; nothing in the file is executed. "
            "Floats of any width are shown as float32; what belongs to an optimiser is counted, not listed. "
            "A file with a number that is not finite, a negative variance or anything that is not what it seems is refused, and why is said."
};
