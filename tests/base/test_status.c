/* test_status.c - what callers and shells see of a failure: texts, prefixes, exit codes. */
#include "support.h"

static void fail_fills_the_error(void **state)
{
    (void)state;
    cx_error e = { 0 };
    assert_int_equal(cx_fail(&e, CX_E_DATA, "a.csv:%d: %s", 12, "bad"), CX_E_DATA);
    assert_int_equal(e.status, CX_E_DATA);
    assert_string_equal(e.text, "a.csv:12: bad");
    assert_non_null(strstr(e.file, "test_status.c"));
    assert_true(e.line > 0);
    assert_int_equal(cx_fail(NULL, CX_E_IO, "nobody listens"), CX_E_IO);
}

static void text_stays_one_bounded_line(void **state)
{
    (void)state;
    cx_error e;
    char longest[2000];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    cx_fail(&e, CX_E_DATA, "%s", longest);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    cx_fail(&e, CX_E_DATA, "two\nlines\x1b[31m, \xC3\xA9");
    assert_string_equal(e.text, "two?lines?[31m, \xC3\xA9");
}

/* Cut inside a character of two, three and four bytes, a message stays valid UTF-8; whole ones stay. */
static void no_character_is_cut(void **state)
{
    (void)state;
    static const char *const characters[] = { "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\xAB\x81" };
    char text[600];
    for (int c = 0; c < 3; c++)
        for (int shift = 0; shift < 4; shift++) {
            cx_error e = { 0 }, p = { 0 };
            size_t n = 0;
            memset(text, 'x', (size_t)shift);
            for (n = (size_t)shift; n < 580; n += strlen(characters[c]))
                memcpy(text + n, characters[c], strlen(characters[c]));
            text[n] = 0;
            cx_fail(&e, CX_E_DATA, "%s", text);
            assert_int_equal(cx_utf8_valid(e.text, strlen(e.text)), strlen(e.text));
            assert_true(strlen(e.text) + strlen(characters[c]) >= sizeof e.text);
            cx_fail(&p, CX_E_DATA, "%s", text);
            cx_prefix(&p, CX_E_DATA, "ab");
            assert_int_equal(cx_utf8_valid(p.text, strlen(p.text)), strlen(p.text));
        }
}

static void prefix_goes_in_front_and_cuts_the_end(void **state)
{
    (void)state;
    cx_error e;
    cx_fail(&e, CX_E_SHAPE, "3 is not 4");
    assert_int_equal(cx_prefix(&e, CX_E_SHAPE, "node %s", "conv0"), CX_E_SHAPE);
    assert_string_equal(e.text, "node conv0: 3 is not 4");
    assert_int_equal(cx_prefix(&e, CX_OK, "unused"), CX_OK);
    assert_string_equal(e.text, "node conv0: 3 is not 4");
    assert_int_equal(cx_prefix(NULL, CX_E_IO, "unused"), CX_E_IO);
    char longest[600];
    memset(longest, 'y', sizeof longest);
    longest[sizeof longest - 1] = 0;
    cx_prefix(&e, CX_E_SHAPE, "%.500s", longest);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_string_equal(e.text + 500, ": node conv");
}

/* The error's own text is a legitimate argument. */
static void text_may_quote_itself(void **state)
{
    (void)state;
    cx_error e;
    cx_fail(&e, CX_E_DATA, "inner");
    cx_fail(&e, CX_E_CONFIG, "outer (%s)", e.text);
    assert_string_equal(e.text, "outer (inner)");
}

static void exit_codes_follow_sysexits(void **state)
{
    (void)state;
    static const struct { cx_status s; int code; } row[] = {
        { CX_OK, 0 }, { CX_E_USAGE, 64 }, { CX_E_DATA, 65 }, { CX_E_NOINPUT, 66 }, { CX_E_UNSUPPORTED, 69 }, { CX_E_INTERNAL, 70 }, { CX_E_NAN, 70 },
        { CX_E_SHAPE, 70 }, { CX_E_MEMORY, 71 }, { CX_E_CREATE, 73 }, { CX_E_IO, 74 }, { CX_E_CONFIG, 78 }, { CX_E_INTERRUPTED, 85 }, { (cx_status)999, 70 }
    };
    for (int i = 0; i < CX_COUNT(row); i++)
        assert_int_equal(cx_exit_code(row[i].s), row[i].code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_fills_the_error), cmocka_unit_test(text_stays_one_bounded_line), cmocka_unit_test(no_character_is_cut),
        cmocka_unit_test(prefix_goes_in_front_and_cuts_the_end),
        cmocka_unit_test(text_may_quote_itself), cmocka_unit_test(exit_codes_follow_sysexits)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
