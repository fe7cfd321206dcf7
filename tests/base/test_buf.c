/* test_buf.c - memory helpers and the growing buffer, with base64 (RFC 4648) and HTML escaping. */
#include "support.h"
#include <locale.h>

static void alloc_is_zeroed_and_checks_overflow(void **state)
{
    (void)state;
    unsigned char *p = cx_alloc(1000, 3);
    assert_non_null(p);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(p[i], 0);
    free(p);
    volatile size_t half = SIZE_MAX / 2 + 1;
    assert_null(cx_alloc(half, 2));
    assert_null(cx_alloc_aligned(half, 2));
    assert_null(cx_alloc_aligned(half, 1));
    assert_non_null(p = cx_alloc(0, 8));
    free(p);
    for (size_t n = 0; n < 200; n += 7) {
        assert_non_null(p = cx_alloc_aligned(n, 4));
        assert_int_equal((uintptr_t)p % 64, 0);
        free(p);
    }
}

static void grow_keeps_contents_and_refuses_overflow(void **state)
{
    (void)state;
    int *a = NULL;
    size_t cap = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(cx_grow(&a, &cap, (size_t)i + 1, sizeof *a));
        a[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(a[i], i);
    size_t before = cap;
    assert_false(cx_grow(&a, &cap, SIZE_MAX - 1, sizeof *a));
    assert_false(cx_grow(&a, &cap, SIZE_MAX / 2 + 2, 1));
    assert_int_equal(cap, before);
    assert_int_equal(a[999], 999);
    free(a);
}

static void strings_are_owned(void **state)
{
    (void)state;
    assert_null(cx_strdup(NULL));
    char *s = cx_sprintf("%s-%03d", "film", 7);
    assert_string_equal(s, "film-007");
    char *t = cx_strdup(s);
    assert_string_equal(t, s);
    assert_ptr_not_equal(t, s);
    free(s);
    free(t);
}

static void buffer_grows_and_ends_with_nul(void **state)
{
    (void)state;
    cx_buf b = { 0 };
    cx_buf_put(&b, "", 0);
    assert_non_null(b.data);
    assert_string_equal(b.data, "");
    size_t want = 0;
    for (int i = 0; i < 500; i++) {
        cx_buf_printf(&b, "%d,", i);
        want += i < 10 ? 2 : i < 100 ? 3 : 4;
        assert_int_equal(b.len, want);
        assert_int_equal(b.data[b.len], 0);
    }
    cx_buf_put(&b, "a\0b", 3);
    assert_int_equal(b.len, want + 3);
    assert_memory_equal(b.data + want, "a\0b", 4);
    assert_false(b.failed);
    cx_buf_free(&b);
    assert_null(b.data);
}

static void failed_buffer_ignores_what_follows(void **state)
{
    (void)state;
    cx_buf b = { 0 };
    cx_buf_puts(&b, "kept");
    volatile size_t far = SIZE_MAX - 2;
    cx_buf_put(&b, "never read", far);
    assert_true(b.failed);
    cx_buf_puts(&b, "lost");
    cx_buf_printf(&b, "%d", 1);
    assert_string_equal(b.data, "kept");
    cx_buf_free(&b);
    assert_false(b.failed);
}

/* A host program with a decimal comma still gets numbers that programs read. */
static void numbers_have_a_point_in_any_locale(void **state)
{
    (void)state;
    static const char *const comma[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "es_ES.UTF-8", "it_IT.UTF-8", "sv_SE.UTF-8" };
    const char *name = NULL;
    for (int i = 0; i < CX_COUNT(comma) && !name; i++)
        name = setlocale(LC_NUMERIC, comma[i]);
    char text[32];
    snprintf(text, sizeof text, "%.2f", 0.5);
    if (!name || strcmp(text, "0,50")) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    cx_buf b = { 0 };
    cx_buf_printf(&b, "%.2f", 0.5);
    assert_string_equal(b.data, "0.50");
    snprintf(text, sizeof text, "%.2f", 0.5);
    assert_string_equal(text, "0,50");                   /* the caller's locale is untouched */
    setlocale(LC_NUMERIC, "C");
    cx_buf_free(&b);
}

static void base64_as_rfc4648(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }
    };
    for (int i = 0; i < CX_COUNT(row); i++) {
        cx_buf b = { 0 };
        cx_buf_base64(&b, row[i][0], strlen(row[i][0]));
        assert_string_equal(b.data, row[i][1]);
        assert_int_equal(b.len, strlen(row[i][1]));
        cx_buf_free(&b);
    }
    cx_buf b = { 0 };
    cx_buf_puts(&b, "data:");
    cx_buf_base64(&b, "\xff\xef\xbe\x00\x10\x83", 6);
    assert_string_equal(b.data, "data:/+++ABCD");
    cx_buf_free(&b);
}

static void html_escapes_all_five(void **state)
{
    (void)state;
    cx_buf b = { 0 };
    cx_buf_html(&b, "<a href=\"x\" title='y'>R&D</a> \xC3\xA9");
    assert_string_equal(b.data, "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;R&amp;D&lt;/a&gt; \xC3\xA9");
    cx_buf_free(&b);
}

static void bytes_read_well(void **state)
{
    (void)state;
    static const struct { size_t n; const char *text; } row[] = {
        { 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.00 KiB" }, { 1536, "1.50 KiB" }, { 1048575, "1.00 MiB" }, { 1664299827, "1.55 GiB" },
        { SIZE_MAX, "16.00 EiB" }
    };
    for (int i = 0; i < CX_COUNT(row); i++) {
        char text[16];
        cx_format_bytes(row[i].n, text);
        assert_string_equal(text, row[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc_is_zeroed_and_checks_overflow),
        cmocka_unit_test(grow_keeps_contents_and_refuses_overflow), cmocka_unit_test(strings_are_owned),
        cmocka_unit_test(buffer_grows_and_ends_with_nul), cmocka_unit_test(failed_buffer_ignores_what_follows),
        cmocka_unit_test(numbers_have_a_point_in_any_locale),
        cmocka_unit_test(base64_as_rfc4648),
        cmocka_unit_test(html_escapes_all_five), cmocka_unit_test(bytes_read_well)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
