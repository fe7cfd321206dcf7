/* golden.h - reading the small oracle files of tests/golden/image. */
#ifndef CX_TESTS_IMAGE_GOLDEN_H
#define CX_TESTS_IMAGE_GOLDEN_H
#include "support.h"
#include "cxnet/image.h"

#define GOLDEN "tests/golden/image/"

/* The values of a .npy v1 file; release with cx_buf_free. The header's length is at byte 8. */
static inline const void *npy_load(const char *path, cx_buf *file)
{
    assert_cx_ok(cx_file_read(path, 1 << 20, file, err));
    const uint8_t *b = (const uint8_t *)file->data;
    assert_true(file->len > 10 && memcmp(b, "\x93NUMPY", 6) == 0);
    size_t header = 10 + b[8] + 256u * b[9];
    assert_int_equal(header % 64, 0);
    return file->data + header;
}

static inline int csv_int(const cx_csv *csv, int row, const char *column)
{
    int c = cx_csv_column(csv, column);
    assert_true(c >= 0);
    return atoi(cx_csv_at(csv, row, c));
}

static inline const char *csv_text(const cx_csv *csv, int row, const char *column)
{
    int c = cx_csv_column(csv, column);
    assert_true(c >= 0);
    return cx_csv_at(csv, row, c);
}

/* What a program of tools/oracle is to read. */
static inline void put_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}
#endif
