/* test_safetensors.c - files of Python's safetensors are read, ours are written to the byte, and everything malformed is refused with its reason. */
#include "support.h"
#include "cxnet/weights.h"
#include <unistd.h>

/* A file in memory: eight bytes of length, the header, n bytes of data. length < 0: the header's own. */
static char *build(const char *header, long long length, size_t n, size_t *all)
{
    const size_t h = strlen(header);
    const unsigned long long told = length < 0 ? h : (unsigned long long)length;
    char *p = cx_alloc(8 + h + n, 1);
    for (int i = 0; i < 8; i++)
        p[i] = (char)(told >> (8 * i));
    memcpy(p + 8, header, h);
    for (size_t i = 0; i < n; i++)
        p[8 + h + i] = (char)(i + 1);
    *all = 8 + h + n;
    return p;
}

#define T(dtype, shape, from, to) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"
#define ONE(entry) "{\"a\":" entry "}"
#define TWO(a, b) "{\"a\":" a ",\"b\":" b "}"

typedef struct { const char *header; size_t bytes; const char *message; } bad;

/* What is wrong inside the header. */
static const bad bad_headers[] = {
    /* not the JSON that a header is */
    { "  ", 0, "begin with '{'" },
    { "[]", 0, "begin with '{'" },
    { "[{\"a\":1}]", 0, "begin with '{'" },
    { "\"a\"", 0, "begin with '{'" },
    { " {}", 0, "begin with '{'" },
    { "\xef\xbb\xbf{}", 0, "begin with '{'" },
    { "{a}", 0, "JSON" },
    { "{\"a\"", 0, "JSON" },
    { "{}}", 0, "JSON" },
    { "{} x", 0, "JSON" },
    { "{\"a\":" T("F32", "[1]", 0, 4) ",}", 4, "JSON" },
    { "{\"a\":" T("F32", "[1]", 0, 4), 4, "JSON" },
    { "{'a':1}", 0, "JSON" },
    { "{\"a\":NaN}", 0, "JSON" },
    { "{\"\xff\":" T("F32", "[1]", 0, 4) "}", 4, "JSON" },
    { "{\"a\xc3\":" T("F32", "[1]", 0, 4) "}", 4, "JSON" },
    { "{\"\xed\xa0\x80\":" T("F32", "[1]", 0, 4) "}", 4, "JSON" },
    { "{\"a\\u0000b\":" T("F32", "[1]", 0, 4) "}", 4, "JSON" },
    { "{\"a\\ud800\":" T("F32", "[1]", 0, 4) "}", 4, "JSON" },
    { "{\"a\":" T("F32", "[1]", 0, 4) ",\"a\":" T("F32", "[1]", 4, 8) "}", 8, "duplicate" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate" },
    { ONE("{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "duplicate" },
    { "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate" },
    /* entries */
    { ONE("[]"), 0, "want an object" },
    { ONE("null"), 0, "want an object" },
    { TWO(T("F32", "[1]", 0, 4), "1"), 4, "tensor 'b': want an object" },
    { ONE("{}"), 0, "dtype is missing" },
    { ONE("{\"dtype\":\"F32\",\"data_offsets\":[0,4]}"), 4, "shape is missing" },
    { ONE("{\"dtype\":\"F32\",\"shape\":[1]}"), 4, "data_offsets is missing" },
    { ONE("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"strides\":[1]}"), 4, "keys beside" },
    { ONE(T("F31", "[1]", 0, 4)), 4, "got F31" },
    { ONE(T("f32", "[1]", 0, 4)), 4, "got f32" },
    { ONE(T("", "[1]", 0, 4)), 4, "dtype" },
    { ONE("{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "got no text" },
    { ONE(T("F32", "1", 0, 4)), 4, "want a list" },
    { ONE(T("F32", "{}", 0, 4)), 4, "want a list" },
    { ONE(T("F32", "[-1]", 0, 4)), 4, "shape[0]" },
    { ONE(T("F32", "[1,-1]", 0, 4)), 4, "shape[1]" },
    { ONE(T("F32", "[1.0]", 0, 4)), 4, "shape[0]" },
    { ONE(T("F32", "[\"1\"]", 0, 4)), 4, "shape[0]" },
    { ONE(T("F32", "[[1]]", 0, 4)), 4, "shape[0]" },
    { ONE(T("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4)), 4, "9 dimensions" },
    { ONE(T("F32", "[99999999999999999999]", 0, 4)), 4, "JSON" },
    { ONE(T("F32", "[4611686018427387904]", 0, 4)), 4, "too large to count" },
    { ONE(T("F32", "[4294967296,4294967296]", 0, 4)), 4, "too large to count" },
    { ONE(T("F32", "[4294967296,4294967296,0]", 0, 0)), 0, "too large to count" },
    { ONE(T("U8", "[9223372036854775807,2]", 0, 4)), 4, "too large to count" },
    { ONE(T("F32", "[2]", 0, 4)), 4, "want 8" },
    { ONE(T("F32", "[1]", 0, 8)), 8, "hold 8 bytes" },
    { ONE(T("F64", "[1]", 0, 4)), 4, "want 8" },
    { ONE(T("F32", "[]", 0, 0)), 0, "want 4" },
    { ONE(T("F32", "[0]", 0, 4)), 4, "want 0" },
    { ONE(T("F32", "[1]", 4, 0)), 4, "before begin" },
    { ONE(T("F32", "[1]", -4, 0)), 4, "two whole numbers" },
    { ONE(T("F32", "[1]", 0.0, 4)), 4, "two whole numbers" },
    { ONE(T("F32", "[1]", 0, "4")), 4, "two whole numbers" },
    { ONE("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}"), 4, "two whole numbers" },
    { ONE("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}"), 4, "two whole numbers" },
    { ONE("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":4}"), 4, "two whole numbers" },
    { ONE(T("F32", "[1]", 0, 4)), 3, "beyond the data" },
    { ONE(T("F32", "[1]", 0, 4)), 0, "beyond the data" },
    { ONE(T("F32", "[1]", 9223372036854775800, 9223372036854775804)), 4, "beyond the data" },
    /* how tensors lie */
    { ONE(T("F32", "[1]", 0, 4)), 5, "1 bytes lie behind" },
    { "{}", 1, "1 bytes lie behind" },
    { ONE(T("F32", "[1]", 4, 8)), 8, "hole of 4 bytes" },
    { TWO(T("F32", "[1]", 0, 4), T("F32", "[1]", 8, 12)), 12, "hole of 4 bytes lies before tensor 'b'" },
    { TWO(T("F32", "[1]", 0, 4), T("F32", "[1]", 0, 4)), 4, "overlaps" },
    { TWO(T("F32", "[2]", 0, 8), T("F32", "[1]", 4, 8)), 8, "'b' overlaps the one before it by 4" },
    { TWO(T("F32", "[1]", 4, 8), T("F32", "[2]", 0, 8)), 8, "'a' overlaps" },
    { TWO(T("F32", "[2]", 0, 8), T("F32", "[0]", 4, 4)), 8, "overlaps" },
    /* metadata */
    { "{\"__metadata__\":[]}", 0, "want an object of texts" },
    { "{\"__metadata__\":\"x\"}", 0, "want an object of texts" },
    { "{\"__metadata__\":null}", 0, "want an object of texts" },
    { "{\"__metadata__\":{\"k\":1}}", 0, "'k': want a text" },
    { "{\"__metadata__\":{\"k\":{\"x\":\"y\"}}}", 0, "'k': want a text" },
    { "{\"__metadata__\":{\"k\":\"\xfe\"}}", 0, "JSON" },
};

/* What is wrong with the length of the header, or with the file around it: `keep` bytes of a sound file of 8 + 2. */
static const struct { long long length; size_t keep; const char *message; } bad_lengths[] = {
    { 2, 0, "holds 0 bytes" }, { 2, 1, "holds 1 bytes" }, { 2, 7, "holds 7 bytes" }, { 2, 8, "cut short" }, { 2, 9, "cut short" },
    { 0, 10, "too short" }, { 1, 10, "too short" }, { 3, 10, "cut short" }, { 64 << 20, 10, "cut short" }, { (64 << 20) + 1, 10, "64 MiB" },
    { 0x7fffffffffffffff, 10, "64 MiB" }, { 0x100000000, 10, "64 MiB" },
};

static void malformed_files_are_refused(void **state)
{
    (void)state;
    assert_true(CX_COUNT(bad_headers) + CX_COUNT(bad_lengths) >= 55);
    cx_st_file f;
    size_t n = 0;
    for (int i = 0; i < CX_COUNT(bad_headers); i++) {
        char *p = build(bad_headers[i].header, -1, bad_headers[i].bytes, &n);
        assert_cx_fails(CX_E_DATA, bad_headers[i].message, cx_st_parse("bad.safetensors", p, n, &f, err));
        assert_null(f.tensors);
        free(p);
    }
    for (int i = 0; i < CX_COUNT(bad_lengths); i++) {
        char *p = build("{}", bad_lengths[i].length, 0, &n);
        char *exact = cx_alloc_aligned(bad_lengths[i].keep, 1);
        memcpy(exact, p, bad_lengths[i].keep);
        assert_cx_fails(CX_E_DATA, bad_lengths[i].message, cx_st_parse("bad.safetensors", exact, bad_lengths[i].keep, &f, err));
        free(exact);
        free(p);
    }
}

static void the_name_stands_in_front(void **state)
{
    (void)state;
    cx_st_file f;
    assert_cx_fails(CX_E_DATA, "dir/bad.safetensors: holds 3 bytes", cx_st_parse("dir/bad.safetensors", "abc", 3, &f, err));
    assert_cx_fails(CX_E_DATA, "w.h5: is an HDF5 file, as of Keras, no safetensors file; make it one that says what it is by cxnet weights import",
                    cx_st_parse("w.h5", "\x89HDF\r\n\x1a\n0123", 12, &f, err));
    assert_cx_fails(CX_E_DATA, "w.pth: is a zip", cx_st_parse("w.pth", "PK\3\004 0123456789", 15, &f, err));
    assert_cx_fails(CX_E_NOINPUT, "no/such.safetensors: cannot be opened", cx_st_read("no/such.safetensors", &f, err));
    assert_cx_fails(CX_E_NOINPUT, "tests: is not a regular file", cx_st_read("tests", &f, err));
}

/* Every beginning of a sound file is refused, and no byte beyond it is read (the sanitizer looks). */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    cx_buf file = { 0 };
    cx_st_file f;
    assert_cx_ok(cx_file_read("tests/golden/python.safetensors", 1 << 20, &file, err));
    for (size_t n = 0; n < file.len; n++) {
        char *exact = cx_alloc_aligned(n, 1);
        memcpy(exact, file.data, n);
        cx_error e = { 0 };
        if (cx_st_parse("cut", exact, n, &f, &e) != CX_E_DATA)
            fail_msg("the first %zu bytes pass for a file", n);
        free(exact);
    }
    assert_cx_ok(cx_st_parse("whole", file.data, file.len, &f, err));
    cx_st_free(&f);
    cx_buf_free(&file);
}

static const cx_st_tensor *find(const cx_st_file *f, const char *name, cx_dtype dtype, int nd, const int64_t *d)
{
    const cx_st_tensor *t = cx_st_find(f, name);
    if (!t)
        fail_msg("no tensor '%s'", name);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->nd, nd);
    for (int i = 0; i < nd; i++)
        assert_int_equal(t->d[i], d[i]);
    return t;
}

static void files_of_python_are_read(void **state)
{
    (void)state;
    cx_st_file f;
    assert_cx_ok(cx_st_read("tests/golden/python.safetensors", &f, err));
    assert_int_equal(f.n, 10);
    const char *conv = find(&f, "features.conv0.weight", CX_F32, 4, (int64_t[]){ 2, 3, 3, 2 })->data;
    for (int i = 0; i < 36; i++) {
        float v;
        memcpy(&v, conv + 4 * i, sizeof v);
        assert_true(v == (float)i / 8);
    }
    double scalar;
    memcpy(&scalar, find(&f, "scalar", CX_F64, 0, NULL)->data, sizeof scalar);
    assert_true(scalar == 2.5);
    assert_int_equal(find(&f, "empty", CX_F32, 2, (int64_t[]){ 0, 4 })->bytes, 0);
    assert_memory_equal(find(&f, "half", CX_F16, 1, (int64_t[]){ 2 })->data, "\x00\x3e\x00\xc0", 4);
    assert_memory_equal(find(&f, "brain", CX_BF16, 2, (int64_t[]){ 2, 1 })->data, "\x80\x3f\x00\xbf", 4);
    assert_memory_equal(find(&f, "long", CX_I64, 1, (int64_t[]){ 3 })->data, ((int64_t[]){ 1, -2, 1LL << 40 }), 24);
    assert_memory_equal(find(&f, "int", CX_I32, 1, (int64_t[]){ 2 })->data, ((int32_t[]){ 7, -7 }), 8);
    assert_memory_equal(find(&f, "bytes", CX_U8, 1, (int64_t[]){ 3 })->data, "\x00\x80\xff", 3);
    assert_memory_equal(find(&f, "flags", CX_BOOL, 1, (int64_t[]){ 2 })->data, "\x01\x00", 2);
    assert_non_null(cx_st_find(&f, "n\xc3\xa4me \" \\ /"));
    assert_null(cx_st_find(&f, "absent"));
    assert_string_equal(cx_st_meta_get(&f, "quote"), "a \"b\"\n\\ \xc3\xbc");
    assert_string_equal(cx_st_meta_get(&f, "format"), "pt");
    assert_null(cx_st_meta_get(&f, "absent"));
    cx_st_free(&f);
}

/* The same file as anybody's: floats of any kind come as float32, the rest as it is. */
static void files_of_others_come_as_float32(void **state)
{
    (void)state;
    cx_st_file f;
    cx_error e = { 0 };
    const cx_status s = cx_weights_read("tests/golden/python.safetensors", &f, &e);
    if (s == CX_E_UNSUPPORTED) {
        print_message("skipped: %s\n", e.text);
        skip();
    }
    if (s != CX_OK)
        fail_msg("%s", e.text);
    assert_int_equal(f.n, 10);
    assert_memory_equal(find(&f, "half", CX_F32, 1, (int64_t[]){ 2 })->data, ((float[]){ 1.5f, -2 }), 8);
    assert_memory_equal(find(&f, "brain", CX_F32, 2, (int64_t[]){ 2, 1 })->data, ((float[]){ 1, -0.5f }), 8);
    assert_memory_equal(find(&f, "scalar", CX_F32, 0, NULL)->data, ((float[]){ 2.5f }), 4);
    assert_memory_equal(find(&f, "long", CX_I64, 1, (int64_t[]){ 3 })->data, ((int64_t[]){ 1, -2, 1LL << 40 }), 24);
    assert_memory_equal(find(&f, "int", CX_I32, 1, (int64_t[]){ 2 })->data, ((int32_t[]){ 7, -7 }), 8);
    assert_memory_equal(find(&f, "flags", CX_BOOL, 1, (int64_t[]){ 2 })->data, "\x01\x00", 2);
    assert_int_equal(find(&f, "empty", CX_F32, 2, (int64_t[]){ 0, 4 })->bytes, 0);
    assert_non_null(cx_st_find(&f, "n\xc3\xa4me \" \\ /"));
    assert_string_equal(cx_st_meta_get(&f, "format"), "safetensors");
    assert_string_equal(cx_st_meta_get(&f, "source.format"), "pt");
    assert_string_equal(cx_st_meta_get(&f, "quote"), "a \"b\"\n\\ \xc3\xbc");
    cx_st_free(&f);
}

static const float weight[] = { 1, 2, 3, -1, 0.5f, 0.25f }, seven = 7.5f;
static const uint8_t bytes[] = { 1, 2, 3 };
static const int64_t longs[] = { -5, 6 };
static const cx_st_tensor ours[] = {
    { "a.weight", CX_F32, 2, { 2, 3 }, weight, sizeof weight },
    { "b", CX_U8, 1, { 3 }, bytes, sizeof bytes },
    { "c", CX_I64, 1, { 2 }, longs, sizeof longs },
    { "nothing", CX_F32, 3, { 3, 0, 2 }, NULL, 0 },
    { "one", CX_F32, 0, { 0 }, &seven, sizeof seven },
};
static const cx_st_meta our_meta[] = { { "format", "cxnet" }, { "note", "line\nwith \"quotes\" and \xc3\xbc" } };

/* What the format allows and no network has. A file that speaks of itself in our words is not believed. */
static void numbers_of_others_are_looked_at(void **state)
{
    (void)state;
    const struct { cx_st_tensor tensor; const char *message; } numbers[] = {
        { { "w", CX_F32, 1, { 2 }, (const float[]){ 1, NAN }, 8 }, "tensor 'w': element (1) is not a number" },
        { { "w", CX_F32, 2, { 1, 2 }, (const float[]){ -INFINITY, 1 }, 8 }, "tensor 'w': element (0, 0) is infinite" },
        { { "w", CX_F64, 1, { 1 }, (const double[]){ 4e38 }, 8 }, "beyond float32" },
        { { "w", CX_F16, 1, { 1 }, "\x00\x7c", 2 }, "is infinite" },
        { { "w", CX_BF16, 1, { 1 }, "\xc0\x7f", 2 }, "is not a number" },
        { { "w", CX_BOOL, 1, { 1 }, "\x02", 1 }, "neither true nor false" },
        { { "bn.running_var", CX_F32, 1, { 1 }, (const float[]){ -1 }, 4 }, "a variance below 0" },
    };
    static const cx_st_meta claims[] = { { "source.sha256", "0" }, { "source.bytes", "1" } };
    char path[] = "/tmp/cxnet-test-XXXXXX";
    cx_st_file f;
    cx_error e = { 0 };
    close(mkstemp(path));
    assert_cx_ok(cx_st_write(path, ours, CX_COUNT(ours), claims, CX_COUNT(claims), err));
    const cx_status status = cx_weights_read(path, &f, &e);
    if (status == CX_E_UNSUPPORTED) {
        unlink(path);
        print_message("skipped: %s\n", e.text);
        skip();
    }
    assert_int_equal(status, CX_OK);
    assert_int_equal(strlen(cx_st_meta_get(&f, "source.sha256")), 64);
    assert_string_not_equal(cx_st_meta_get(&f, "source.bytes"), "1");
    cx_st_free(&f);
    for (int i = 0; i < CX_COUNT(numbers); i++) {
        assert_cx_ok(cx_st_write(path, &numbers[i].tensor, 1, NULL, 0, err));
        assert_cx_fails(CX_E_DATA, numbers[i].message, cx_weights_read(path, &f, err));
    }
    unlink(path);
}

/* tests/golden/ours.safetensors is checked by tools/oracle/weights.py with Python's safetensors. */
static void files_of_ours_are_the_golden_one(void **state)
{
    (void)state;
    char path[] = "/tmp/cxnet-test-XXXXXX";
    cx_buf got = { 0 }, want = { 0 };
    cx_st_file f;
    close(mkstemp(path));
    assert_cx_ok(cx_st_write(path, ours, CX_COUNT(ours), our_meta, CX_COUNT(our_meta), err));
    assert_cx_ok(cx_file_read(path, 1 << 20, &got, err));
    uint64_t header = 0;
    memcpy(&header, got.data, 8);
    assert_int_equal((8 + header) % 64, 0);
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_int_equal(f.n, CX_COUNT(ours));
    assert_int_equal((uintptr_t)f.map % 64, 0);
    for (int i = 0; i < CX_COUNT(ours); i++) {
        const cx_st_tensor *t = find(&f, ours[i].name, ours[i].dtype, ours[i].nd, ours[i].d);
        assert_int_equal(t->bytes, ours[i].bytes);
        if (t->bytes)
            assert_memory_equal(t->data, ours[i].data, t->bytes);
    }
    assert_string_equal(cx_st_meta_get(&f, "note"), our_meta[1].value);
    assert_cx_ok(cx_file_read("tests/golden/ours.safetensors", 1 << 20, &want, err));
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, want.len);
    cx_st_free(&f);
    cx_buf_free(&got);
    cx_buf_free(&want);
    unlink(path);
}

static void an_empty_file_is_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/cxnet-test-XXXXXX";
    cx_st_file f;
    close(mkstemp(path));
    assert_cx_ok(cx_st_write(path, NULL, 0, NULL, 0, err));
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_int_equal(f.n, 0);
    assert_int_equal(f.n_meta, 0);
    cx_st_free(&f);
    unlink(path);
}

static void wrong_tensors_are_not_written(void **state)
{
    (void)state;
    static const cx_st_meta twice[] = { { "k", "1" }, { "k", "2" } }, broken = { "k", "\xff" };
    char path[] = "/tmp/cxnet-test-XXXXXX";
    cx_st_tensor t[2] = { ours[0], ours[0] };
    close(mkstemp(path));
    unlink(path);
    assert_cx_fails(CX_E_USAGE, "'a.weight': this name is taken", cx_st_write(path, t, 2, NULL, 0, err));
    t[0].name = "__metadata__";
    assert_cx_fails(CX_E_USAGE, "this name is taken", cx_st_write(path, t, 1, NULL, 0, err));
    t[0].name = "\xc3(";
    assert_cx_fails(CX_E_USAGE, "not UTF-8", cx_st_write(path, t, 1, NULL, 0, err));
    t[0] = ours[0];
    t[0].bytes = 20;
    assert_cx_fails(CX_E_USAGE, "do not fit", cx_st_write(path, t, 1, NULL, 0, err));
    t[0] = ours[0];
    t[0].d[0] = -2;
    assert_cx_fails(CX_E_USAGE, "do not fit", cx_st_write(path, t, 1, NULL, 0, err));
    t[0] = ours[0];
    t[0].nd = 9;
    assert_cx_fails(CX_E_USAGE, "do not fit", cx_st_write(path, t, 1, NULL, 0, err));
    assert_cx_fails(CX_E_USAGE, "'k' is given twice", cx_st_write(path, ours, 1, twice, 2, err));
    assert_cx_fails(CX_E_USAGE, "'k' is not UTF-8", cx_st_write(path, ours, 1, &broken, 1, err));
    assert_false(cx_file_exists(path));
    assert_cx_fails(CX_E_CREATE, "no/such/folder", cx_st_write("no/such/folder/x.safetensors", ours, 1, NULL, 0, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_files_are_refused),
        cmocka_unit_test(the_name_stands_in_front),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(files_of_python_are_read),
        cmocka_unit_test(files_of_others_come_as_float32),
        cmocka_unit_test(numbers_of_others_are_looked_at),
        cmocka_unit_test(files_of_ours_are_the_golden_one),
        cmocka_unit_test(an_empty_file_is_a_file),
        cmocka_unit_test(wrong_tensors_are_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
