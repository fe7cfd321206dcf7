/* test_zip.c - zip files: sound ones are read, and whatever contradicts itself is refused with its reason. */
#include "make_zip.h"
#include "weights/inflate.h"
#include "weights/zip.h"

static const char text[] = "the quick brown fox jumps over the lazy dog, the quick brown fox jumps over the lazy dog";
enum { TEXT = sizeof text - 1 };
#define PARTS(...) (const zip_part[]){ __VA_ARGS__ }, (int)(sizeof((const zip_part[]){ __VA_ARGS__ }) / sizeof(zip_part))
#define STORED { .name = "a/b.txt", .data = text, .n = TEXT }
#define PACKED { .name = "c.txt", .data = text, .n = TEXT, .deflate = true }

static void assert_member(const cx_zip *z, const char *name)
{
    const unsigned char *data;
    void *owned;
    const cx_zip_member *m = cx_zip_find(z, name);
    assert_non_null(m);
    assert_cx_ok(cx_zip_get(z, m, TEXT, &data, &owned, err));
    assert_int_equal(m->bytes, TEXT);
    assert_memory_equal(data, text, TEXT);
    assert_int_equal(owned != NULL, m->deflated);
    free(owned);
    assert_cx_fails(CX_E_DATA, "more than the 10 that are read", cx_zip_get(z, m, 10, &data, &owned, err));
}

static void members_are_read(void **state)
{
    (void)state;
    cx_buf b = zip_make(PARTS(STORED, PACKED, { .name = "empty/", .data = "" }), (zip_end){ 0 });
    cx_zip z;
    assert_true(cx_zip_is((const unsigned char *)b.data, b.len));
    assert_cx_ok(cx_zip_open((const unsigned char *)b.data, b.len, &z, err));
    assert_int_equal(z.n_members, 3);
    assert_member(&z, "a/b.txt");
    assert_member(&z, "c.txt");
    assert_null(cx_zip_find(&z, "d.txt"));
    cx_zip_close(&z);
    cx_buf_free(&b);
}

/* By Python's zipfile (tools/oracle/zips.py): stored; deflated; zip64 fields, with a comment. */
static void pythons_archives_are_read(void **state)
{
    (void)state;
    static const char *const files[] = { "stored", "deflated", "zip64" };
    for (int i = 0; i < CX_COUNT(files); i++) {
        char path[64];
        cx_buf b = { 0 };
        cx_zip z;
        const unsigned char *data;
        void *owned;
        snprintf(path, sizeof path, "tests/golden/zip/%s.zip", files[i]);
        assert_cx_ok(cx_file_read(path, 1 << 20, &b, err));
        assert_cx_ok(cx_zip_open((const unsigned char *)b.data, b.len, &z, err));
        assert_int_equal(z.n_members, 3);
        const cx_zip_member *m = cx_zip_find(&z, "gr\xc3\xb6\xc3\x9f" "e.bin");
        assert_non_null(m);
        assert_int_equal(m->bytes, 256);
        assert_cx_ok(cx_zip_get(&z, m, 256, &data, &owned, err));
        for (int k = 0; k < 256; k++)
            assert_int_equal(data[k], k);
        free(owned);
        assert_cx_ok(cx_zip_get(&z, cx_zip_find(&z, "empty"), 0, &data, &owned, err));
        free(owned);
        assert_int_equal(cx_zip_find(&z, "a/b.txt")->bytes, 44 * 8);
        cx_zip_close(&z);
        cx_buf_free(&b);
    }
}

/* One stored member with every number in its zip64 field, a zip64 end, and a comment, byte by byte after APPNOTE 4.3 and 4.5.3. */
static void zip64_is_read(void **state)
{
    (void)state;
    cx_buf b = { 0 };
    cx_zip z;
    const unsigned char *data;
    void *owned;
    const uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)"hello", 5), all = 0xffffffff;
    for (int directory = 0; directory < 2; directory++) {
        zip_32(&b, directory ? 0x02014b50 : 0x04034b50);
        if (directory)
            zip_16(&b, 45);
        zip_16(&b, 45), zip_16(&b, 0), zip_16(&b, 0), zip_32(&b, 0), zip_32(&b, crc), zip_32(&b, all), zip_32(&b, all);
        zip_16(&b, 1), zip_16(&b, directory ? 28 : 20);
        if (directory)
            zip_16(&b, 0), zip_16(&b, 0), zip_16(&b, 0), zip_32(&b, 0), zip_32(&b, all);
        cx_buf_puts(&b, "x");
        zip_16(&b, 1), zip_16(&b, directory ? 24 : 16), zip_32(&b, 5), zip_32(&b, 0), zip_32(&b, 5), zip_32(&b, 0);
        if (directory)
            zip_32(&b, 0), zip_32(&b, 0);
        else
            cx_buf_puts(&b, "hello");
    }
    const uint32_t at = 30 + 1 + 20 + 5, end = (uint32_t)b.len;
    zip_32(&b, 0x06064b50), zip_32(&b, 44), zip_32(&b, 0), zip_16(&b, 45), zip_16(&b, 45), zip_32(&b, 0), zip_32(&b, 0);
    zip_32(&b, 1), zip_32(&b, 0), zip_32(&b, 1), zip_32(&b, 0), zip_32(&b, end - at), zip_32(&b, 0), zip_32(&b, at), zip_32(&b, 0);
    zip_32(&b, 0x07064b50), zip_32(&b, 0), zip_32(&b, end), zip_32(&b, 0), zip_32(&b, 1);
    zip_32(&b, 0x06054b50), zip_16(&b, 0), zip_16(&b, 0), zip_16(&b, 0xffff), zip_16(&b, 0xffff), zip_32(&b, all), zip_32(&b, all), zip_16(&b, 4);
    cx_buf_puts(&b, "note");
    assert_cx_ok(cx_zip_open((const unsigned char *)b.data, b.len, &z, err));
    assert_cx_ok(cx_zip_get(&z, &z.members[0], 5, &data, &owned, err));
    assert_memory_equal(data, "hello", 5);
    cx_zip_close(&z);
    for (size_t i = 0; i < b.len; i++) {                           /* a wrong byte is noticed, or lies in a version, time, attribute or comment */
        cx_error e = { 0 };
        b.data[i] ^= 0x40;
        if (cx_zip_open((const unsigned char *)b.data, b.len, &z, &e) == CX_OK) {
            if (z.n_members == 1 && cx_zip_get(&z, &z.members[0], 5, &data, &owned, &e) == CX_OK)
                assert_memory_equal(data, "hello", 5);
            cx_zip_close(&z);
        }
        b.data[i] ^= 0x40;
    }
    cx_buf_free(&b);
}

static void assert_refused(const char *why, const zip_part *parts, int n, zip_end end)
{
    cx_zip z;
    cx_error e = { 0 };
    const unsigned char *data;
    void *owned;
    cx_buf b = zip_make(parts, n, end);
    cx_status s = cx_zip_open((const unsigned char *)b.data, b.len, &z, &e);
    for (int i = 0; s == CX_OK && i < z.n_members; i++) {
        s = cx_zip_get(&z, &z.members[i], 1 << 20, &data, &owned, &e);
        if (s == CX_OK)
            free(owned);
    }
    if (s == CX_OK)
        cx_zip_close(&z);
    if (s != CX_E_DATA || !strstr(e.text, why))
        fail_msg("status %d, \"%s\" lacks \"%s\"", (int)s, e.text, why);
    cx_buf_free(&b);
    cx_zip_close(&z);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    const zip_end none = { 0 };
    assert_refused("is encrypted", PARTS({ .name = "x", .data = text, .n = TEXT, .flags = 1 }), none);
    assert_refused("is encrypted", PARTS({ .name = "x", .data = text, .n = TEXT, .flags = 1 << 6 }), none);
    assert_refused("packed by method 12", PARTS({ .name = "x", .data = text, .n = TEXT, .method = 12 }), none);
    assert_refused("packed by method 93", PARTS({ .name = "x", .data = text, .n = TEXT, .method = 93 }), none);
    assert_refused("is there twice", PARTS(STORED, STORED), none);
    cx_buf inner = zip_make(PARTS({ .name = "y", .data = text, .n = TEXT }), none);
    assert_refused("lie on one another", PARTS({ .name = "x", .data = inner.data, .n = inner.len }, { .name = "y", .data = text, .n = TEXT, .at = 31 }), none);
    cx_buf_free(&inner);
    assert_refused("CRC-32", PARTS({ .name = "x", .data = text, .n = TEXT, .crc = 7 }), none);
    assert_refused("CRC-32", PARTS({ .name = "x", .data = text, .n = TEXT, .deflate = true, .crc = 7 }), none);
    assert_refused("disagree", PARTS({ .name = "x", .data = text, .n = TEXT, .local_crc = 7 }), none);
    assert_refused("disagree", PARTS({ .name = "x", .data = text, .n = TEXT, .local_name = "y" }), none);
    assert_refused("which they cannot", PARTS({ .name = "x", .data = text, .n = TEXT, .bytes = 5 }), none);
    assert_refused("which they cannot", PARTS({ .name = "x", .data = text, .n = TEXT, .deflate = true, .bytes = 4000000000u }), none);
    assert_refused("unpacks to more", PARTS({ .name = "x", .data = text, .n = TEXT, .deflate = true, .bytes = 5 }), none);
    assert_refused("unpacks to less", PARTS({ .name = "x", .data = text, .n = TEXT, .deflate = true, .bytes = 200 }), none);
    assert_refused("ends before", PARTS({ .name = "x", .data = text, .n = TEXT, .deflate = true, .packed = 20 }), none);
    assert_refused("reach beyond", PARTS({ .name = "x", .data = text, .n = TEXT, .packed = 4000, .bytes = 4000 }), none);
    assert_refused("no local header", PARTS({ .name = "x", .data = text, .n = TEXT, .at = 3 }), none);
    assert_refused("no local header", PARTS({ .name = "x", .data = text, .n = TEXT, .at = 4000000000u }), none);
    assert_refused("is damaged", PARTS({ .name = "x", .data = "\xff\xff\xff\xff\xff\xff", .n = 6, .method = 8 }), none);
    static const char *const names[] = { "", "/etc/passwd", "../x", "a/../x", "a/..", "..", "a\\b", "a\nb", "a\x7f", "\xff", "\xc3" };
    for (int i = 0; i < CX_COUNT(names); i++)
        assert_refused("has a name that", PARTS({ .name = names[i], .data = text, .n = TEXT }), none);
    assert_refused("volumes", PARTS(STORED), (zip_end){ .disk = 1 });
    assert_refused("no end record", PARTS(STORED), (zip_end){ .comment = 3 });
    assert_refused("does not reach", PARTS(STORED), (zip_end){ .directory_at = 7 });
    assert_refused("does not reach", PARTS(STORED), (zip_end){ .directory_at = 0xfffffff0 });
    assert_refused("does not reach", PARTS(STORED), (zip_end){ .directory_bytes = 7 });
    assert_refused("says it has 2000 members", PARTS(STORED), (zip_end){ .entries = 2000 });
    assert_refused("bytes lie behind", PARTS(STORED, PACKED), (zip_end){ .entries = 1 });
}

static void truncations_are_refused(void **state)
{
    (void)state;
    cx_buf b = zip_make(PARTS(STORED, PACKED), (zip_end){ 0 });
    for (size_t n = 0; n < b.len; n++) {
        unsigned char *exact = malloc(n + !n);
        cx_zip z;
        memcpy(exact, b.data, n);
        assert_cx_fails(CX_E_DATA, "zip: has no end record", cx_zip_open(exact, n, &z, err));
        assert_false(cx_zip_is(exact, n));
        free(exact);
    }
    cx_buf_free(&b);
}

static void inflating_is_exact(void **state)
{
    (void)state;
    unsigned char packed[256], out[256];
    uLongf n = sizeof packed;
    assert_int_equal(compress2(packed, &n, (const Bytef *)text, TEXT, 9), Z_OK);
    assert_null(cx_inflate(CX_DEFLATE_ZLIB, packed, n, out, TEXT));
    assert_memory_equal(out, text, TEXT);
    assert_string_equal(cx_inflate(CX_DEFLATE_ZLIB, packed, n, out, TEXT + 1), "unpacks to less than promised");
    assert_string_equal(cx_inflate(CX_DEFLATE_ZLIB, packed, n, out, TEXT - 1), "unpacks to more than promised");
    assert_string_equal(cx_inflate(CX_DEFLATE_ZLIB, packed, n + 1, out, TEXT), "has bytes behind its deflated data");
    assert_string_equal(cx_inflate(CX_DEFLATE_ZLIB, packed, n - 5, out, TEXT), "ends before its deflated data do");
    assert_non_null(cx_inflate(CX_DEFLATE_ZLIB, packed, n - 1, out, TEXT));          /* its checksum */
    assert_non_null(cx_inflate(CX_DEFLATE_RAW, packed, n, out, TEXT));
    assert_string_equal(cx_inflate(CX_DEFLATE_ZLIB, packed, 1, out, 4096), "promises more than its bytes can hold");
    for (uLongf i = 0; i < n; i++) {
        packed[i] ^= 1;
        if (!cx_inflate(CX_DEFLATE_ZLIB, packed, n, out, TEXT))
            assert_memory_equal(out, text, TEXT);
        packed[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_read), cmocka_unit_test(pythons_archives_are_read), cmocka_unit_test(zip64_is_read),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(truncations_are_refused), cmocka_unit_test(inflating_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
