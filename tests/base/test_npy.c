/* test_npy.c - NumPy's files: what is written to the byte, what is read, and what is refused. */
#include "support.h"
#include <unistd.h>

static char path[] = "/tmp/cxnet_npy_XXXXXX";

static int setup(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void bytes(void **state)
{
    (void)state;
    static const float v[6] = { 1, -2, 0.5f, 3e38f, 0, 7 };
    cx_buf b = { 0 };
    assert_cx_ok(cx_npy_write(path, v, (const int[]) { 2, 3 }, 2, err));
    assert_cx_ok(cx_file_read(path, 4096, &b, err));
    assert_int_equal(b.len, 128 + 24);
    assert_memory_equal(b.data, "\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 65);
    assert_int_equal(b.data[127], '\n');
    assert_memory_equal(b.data + 128, v, sizeof v);               /* this machine is little-endian, as the file */
    assert_cx_ok(cx_npy_write(path, v, (const int[]) { 6 }, 1, err));
    assert_cx_ok(cx_file_read(path, 4096, &b, err));
    assert_non_null(strstr(b.data + 10, "'shape': (6,), }"));
    cx_buf_free(&b);
    assert_cx_fails(CX_E_CREATE, "/nowhere/map.npy", cx_npy_write("/nowhere/map.npy", v, (const int[]) { 6 }, 1, err));
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const float v[6] = { 1, -2, 0.5f, 3e38f, 0, 7 };
    cx_npy a;
    assert_cx_ok(cx_npy_write(path, v, (const int[]) { 1, 2, 3 }, 3, err));
    assert_cx_ok(cx_npy_read(path, &a, err));
    assert_int_equal(a.nd, 3);
    assert_int_equal(a.d[0], 1);
    assert_int_equal(a.d[2], 3);
    assert_int_equal(a.n, 6);
    assert_memory_equal(a.data, v, sizeof v);
    free(a.data);
}

/* A file of version 1 with a header of our own and n bytes of data. */
static void write_file(const char *header, const void *data, size_t n)
{
    cx_buf b = { 0 };
    const size_t h = strlen(header);
    cx_buf_put(&b, "\x93NUMPY\1\0", 8);
    cx_buf_put(&b, (const unsigned char[]){ (unsigned char)h, (unsigned char)(h >> 8) }, 2);
    cx_buf_put(&b, header, h);
    cx_buf_put(&b, data, n);
    assert_cx_ok(cx_file_write(path, b.data, b.len, err));
    cx_buf_free(&b);
}

static void other_numbers_are_converted(void **state)
{
    (void)state;
    static const double wide[2] = { 0.1, -3e10 };
    static const unsigned char small[3] = { 0, 128, 255 };
    cx_npy a;
    write_file("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", wide, sizeof wide);
    assert_cx_ok(cx_npy_read(path, &a, err));
    assert_true(a.data[0] == 0.1f && a.data[1] == -3e10f);
    free(a.data);
    write_file("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1), }\n", small, sizeof small);
    assert_cx_ok(cx_npy_read(path, &a, err));
    assert_true(a.nd == 2 && a.data[0] == 0 && a.data[1] == 128 && a.data[2] == 255);
    free(a.data);
    write_file("{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", &(float){ 5 }, 4);
    assert_cx_ok(cx_npy_read(path, &a, err));
    assert_true(a.nd == 0 && a.n == 1 && a.data[0] == 5);
    free(a.data);
}

static void malformed_files_are_refused(void **state)
{
    (void)state;
    static const float v[2] = { 1, 2 };
    static const struct { const char *header, *says; } files[] = {
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", "little-endian" },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", "C order" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", "little-endian" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "8 bytes of data for 3 numbers" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "at most 8 dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }", "at most 8 dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }", "at most 8 dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,", "at most 8 dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': 2, }", "at most 8 dimensions" }, { "", "little-endian" },
    };
    cx_npy a;
    for (int i = 0; i < CX_COUNT(files); i++) {
        write_file(files[i].header, v, sizeof v);
        assert_cx_fails(CX_E_DATA, files[i].says, cx_npy_read(path, &a, err));
        assert_null(a.data);
    }
    assert_cx_ok(cx_file_write(path, "\x93NUMPY\1\0\xff\xff{'d", 13, err));
    assert_cx_fails(CX_E_DATA, "reaches beyond", cx_npy_read(path, &a, err));
    assert_cx_ok(cx_file_write(path, "\x93NUMPY\2\0\xff\xff\xff\xff", 12, err));
    assert_cx_fails(CX_E_DATA, "reaches beyond", cx_npy_read(path, &a, err));
    assert_cx_ok(cx_file_write(path, "PK", 2, err));
    assert_cx_fails(CX_E_DATA, "not a .npy", cx_npy_read(path, &a, err));
    assert_cx_fails(CX_E_NOINPUT, "/nowhere/x.npy", cx_npy_read("/nowhere/x.npy", &a, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(other_numbers_are_converted),
        cmocka_unit_test(malformed_files_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
