/* test_sha256.c - SHA-256 against the examples of FIPS 180-4 and NIST's long message, whole and in pieces. */
#include "support.h"
#include <unistd.h>

static void hash(const void *data, size_t n, size_t piece, char out[65])
{
    cx_sha256 s;
    cx_sha256_init(&s);
    for (size_t i = 0; i < n; i += piece)
        cx_sha256_update(&s, (const char *)data + i, n - i < piece ? n - i : piece);
    cx_sha256_hex(&s, out);
}

static void known_answers(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
    };
    char out[65];
    for (int i = 0; i < CX_COUNT(row); i++) {
        hash(row[i][0], strlen(row[i][0]), 1000, out);
        assert_string_equal(out, row[i][1]);
    }
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    hash(million, 1000000, 1000000, out);
    assert_string_equal(out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    hash(million, 1000000, 997, out);
    assert_string_equal(out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

/* Every length around the block and padding borders, cut every way, has one hash. */
static void pieces_do_not_matter(void **state)
{
    (void)state;
    char data[200];
    for (int i = 0; i < 200; i++)
        data[i] = (char)(i * 7 + 1);
    for (size_t n = 0; n <= 200; n++) {
        char whole[65], cut[65];
        hash(data, n, 1000, whole);
        for (size_t piece = 1; piece <= 130; piece += piece < 4 ? 1 : 21) {
            hash(data, n, piece, cut);
            assert_string_equal(cut, whole);
        }
    }
}

static void files(void **state)
{
    (void)state;
    char path[] = "/tmp/cxnet-sha-XXXXXX", out[65], want[65];
    int fd = mkstemp(path);
    char data[40000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i % 251);
    assert_int_equal(write(fd, data, sizeof data), sizeof data);
    close(fd);
    assert_cx_ok(cx_sha256_file(path, out, err));
    hash(data, sizeof data, sizeof data, want);
    assert_string_equal(out, want);
    unlink(path);
    assert_cx_fails(CX_E_NOINPUT, "cannot be opened", cx_sha256_file(path, out, err));
    assert_cx_fails(CX_E_NOINPUT, "is not a regular file", cx_sha256_file("/tmp", out, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(known_answers), cmocka_unit_test(pieces_do_not_matter), cmocka_unit_test(files) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
