/* test_csv.c - RFC 4180: what must be read, byte by byte, and what must be refused, with its line. */
#include "support.h"

#define TEXT(s) s, sizeof(s) - 1

/* Cells joined by '|', rows by '/', so that a whole table is one string. */
static void assert_cells(const char *text, size_t n, const char *want)
{
    cx_csv csv;
    assert_cx_ok(cx_csv_parse("t.csv", text, n, &csv, err));
    cx_buf b = { 0 };
    for (int r = 0; r < csv.rows; r++)
        for (int c = 0; c < csv.columns; c++) {
            cx_buf_puts(&b, cx_csv_at(&csv, r, c));
            cx_buf_puts(&b, c + 1 < csv.columns ? "|" : "/");
        }
    assert_string_equal(b.data, want);
    cx_buf_free(&b);
    cx_csv_free(&csv);
    assert_null(csv.cell);
}

static void reads_what_the_rfc_allows(void **state)
{
    (void)state;
    static const struct { const char *text; size_t n; const char *want; } row[] = {
        { TEXT("a,b\n1,2\n"), "a|b/1|2/" },
        { TEXT("a,b\n1,2"), "a|b/1|2/" },                                  /* no line end at the end */
        { TEXT("a,b\r\n1,2\r\n"), "a|b/1|2/" },
        { TEXT("a,b\r\n1,2\n3,4\r\n"), "a|b/1|2/3|4/" },                     /* mixed line ends */
        { TEXT("\xEF\xBB\xBF" "a,b\n1,2\n"), "a|b/1|2/" },
        { TEXT("\xEF\xBB\xBF\"a\",b\n1,2\n"), "a|b/1|2/" },
        { TEXT("a,b\n\"x,y\",\"say \"\"hi\"\"\"\n"), "a|b/x,y|say \"hi\"/" },
        { TEXT("a,b\n\"two\nlines\",\"cr\r\nlf\"\n"), "a|b/two\nlines|cr\r\nlf/" },
        { TEXT("a,b\n,\n"), "a|b/|/" },
        { TEXT("a,b\n\"\",\n"), "a|b/|/" },
        { TEXT("a,b\n\"\"\"\"\"\",x\n"), "a|b/\"\"|x/" },
        { TEXT("a,b\n1,"), "a|b/1|/" },                                     /* an empty last field, no line end */
        { TEXT("a\n1\n\n"), "a/1/" },
        { TEXT("a\n\n1\n"), "a//1/" },                                      /* one column: an empty line is an empty field */
        { TEXT("a,b\n1,2\n\r\n\n\n"), "a|b/1|2/" },
        { TEXT("a,b\n"), "a|b/" },
        { TEXT("a"), "a/" },
        { TEXT("a,b\n 1 ,\t2\n"), "a|b/ 1 |\t2/" },                          /* blanks belong to the field */
        { TEXT("a,b\n\xC3\xA9,\xF0\x9F\xA9\xBB\n"), "a|b/\xC3\xA9|\xF0\x9F\xA9\xBB/" },
        { TEXT("a,b\n\xEF\xBF\xBF,\xF4\x8F\xBF\xBF\n"), "a|b/\xEF\xBF\xBF|\xF4\x8F\xBF\xBF/" },
        { TEXT("a,b\n\xED\x9F\xBF,\xE0\xA0\x80\n"), "a|b/\xED\x9F\xBF|\xE0\xA0\x80/" },
    };
    for (int i = 0; i < CX_COUNT(row); i++)
        assert_cells(row[i].text, row[i].n, row[i].want);
}

/* long: a table of cases */
static void refuses_what_is_malformed(void **state)
{
    (void)state;
    static const struct { const char *text; size_t n; const char *message; } row[] = {
        { TEXT(""), "t.csv: is empty" },
        { TEXT("\xEF\xBB\xBF"), "t.csv: is empty" },
        { TEXT("\n"), "t.csv:1: column 1 has no name" },
        { TEXT("\r\n"), "t.csv:1: column 1 has no name" },
        { TEXT("\n\n\n"), "t.csv:1: column 1 has no name" },
        { TEXT(","), "t.csv:1: column 1 has no name" },
        { TEXT("a,,c\n1,2,3\n"), "t.csv:1: column 2 has no name" },
        { TEXT("a,b,\n1,2,3\n"), "t.csv:1: column 3 has no name" },
        { TEXT("a,\"\"\n1,2\n"), "t.csv:1: column 2 has no name" },
        { TEXT("a,b,a\n1,2,3\n"), "t.csv:1: two columns are named \"a\"" },
        { TEXT("a,\"a\"\n1,2\n"), "t.csv:1: two columns are named \"a\"" },
        { TEXT("a,b\n1\n"), "t.csv:2: 1 field where the header has 2" },
        { TEXT("a,b\n1,2,3\n"), "t.csv:2: 3 fields where the header has 2" },
        { TEXT("a,b\n1,2\n3\n4,5\n"), "t.csv:3: 1 field where" },
        { TEXT("a,b\n1,2\n\n3,4\n"), "t.csv:3: 1 field where" },                /* an empty line in the middle */
        { TEXT("a,b\n1,2\n3,4,\n"), "t.csv:3: 3 fields where" },
        { TEXT("a\n1,\n"), "t.csv:2: 2 fields where the header has 1" },
        { TEXT("a,b\n\"x\ny\",2\n3\n"), "t.csv:4: 1 field where" },             /* lines inside quotes count */
        { TEXT("a,b\n\"x\r\ny\",2\r\n3\r\n"), "t.csv:4: 1 field where" },
        { TEXT("a,b\n\"x\ny\"\n"), "t.csv:2: 1 field where" },                  /* the line where the row starts */
        { TEXT("a,b\n1,\"open\n2,3\n"), "t.csv:2: a quoted field is never closed" },
        { TEXT("a,b\n1,2\n\"open"), "t.csv:3: a quoted field is never closed" },
        { TEXT("\""), "t.csv:1: a quoted field is never closed" },
        { TEXT("a,b\n1,\"x\"\""), "t.csv:2: a quoted field is never closed" },
        { TEXT("\"a,b\n1,2\n3,4\n"), "t.csv:1: a quoted field is never closed" },
        { TEXT("a,b\n\"1\"x,2\n"), "t.csv:2: text after a closing quote" },
        { TEXT("a,b\n\"1\" ,2\n"), "t.csv:2: text after a closing quote" },
        { TEXT("a,b\n1,\"2\"\r3,4\n"), "t.csv:2: text after a closing quote" },
        { TEXT("a,b\n\"1\"\"2\"3,2\n"), "t.csv:2: text after a closing quote" },
        { TEXT("a,b\n1,2\"\n"), "t.csv:2: a quote inside an unquoted field" },
        { TEXT("a,b\n5\" film,2\n"), "t.csv:2: a quote inside an unquoted field" },
        { TEXT("a,b\n \"1\",2\n"), "t.csv:2: a quote inside an unquoted field" },
        { TEXT("a,b\r1,2\r"), "t.csv:1: a carriage return without a line feed" },
        { TEXT("a,b\n1,2\r"), "t.csv:2: a carriage return without a line feed" },
        { TEXT("a,b\n1\r,2\n"), "t.csv:2: a carriage return without a line feed" },
        { TEXT("a,b\n1,\0\n"), "t.csv:2: a NUL byte" },
        { TEXT("\0"), "t.csv:1: a NUL byte" },
        { TEXT("a\0,\0b\0"), "t.csv:1: a NUL byte" },                            /* UTF-16 without a mark */
        { TEXT("\xFF\xFE" "a\0,\0"), "t.csv:1: byte 0xFF is not UTF-8" },          /* UTF-16 with one */
        { TEXT("a,b\n1,\xE9\n"), "t.csv:2: byte 0xE9 is not UTF-8" },             /* Latin-1 */
        { TEXT("a,b\n1,\x80\n"), "t.csv:2: byte 0x80 is not UTF-8" },
        { TEXT("a,b\n\n\n1,\xC3"), "t.csv:4: byte 0xC3 is not UTF-8" },            /* cut in a character */
        { TEXT("a,b\n1,\xC0\xAF\n"), "t.csv:2: byte 0xC0 is not UTF-8" },          /* overlong '/' */
        { TEXT("a,b\n1,\xE0\x80\xAF\n"), "t.csv:2: byte 0xE0 is not UTF-8" },
        { TEXT("a,b\n1,\xF0\x80\x80\xAF\n"), "t.csv:2: byte 0xF0 is not UTF-8" },
        { TEXT("a,b\n1,\xED\xA0\x80\n"), "t.csv:2: byte 0xED is not UTF-8" },      /* a surrogate */
        { TEXT("a,b\n1,\xF4\x90\x80\x80\n"), "t.csv:2: byte 0xF4 is not UTF-8" },  /* beyond U+10FFFF */
        { TEXT("a,b\n1,\xF5\x80\x80\x80\n"), "t.csv:2: byte 0xF5 is not UTF-8" },
        { TEXT("a,b\n1,\xC3\x28\n"), "t.csv:2: byte 0xC3 is not UTF-8" },
        { TEXT("a,b\n1,\xE2\x82\n"), "t.csv:2: byte 0xE2 is not UTF-8" },
        { TEXT("a,b\n1,\xEF\xBB\xBF\0\n"), "t.csv:2: a NUL byte" },
    };
    assert_true(CX_COUNT(row) >= 40);
    for (int i = 0; i < CX_COUNT(row); i++) {
        cx_csv csv;
        memset(&csv, 0xAA, sizeof csv);
        /* An exact-size copy, so that ASan sees a read past the end. */
        char *copy = malloc(row[i].n ? row[i].n : 1);
        memcpy(copy, row[i].text, row[i].n);
        assert_cx_fails(CX_E_DATA, row[i].message, cx_csv_parse("t.csv", copy, row[i].n, &csv, err));
        assert_null(csv.cell);
        assert_int_equal(csv.rows, 0);
        free(copy);
    }
}

static void rows_know_their_lines(void **state)
{
    (void)state;
    static const char text[] = "a,b\r\n\"x\r\n\r\ny\",2\r\n3,4\r\n";
    cx_csv csv;
    assert_cx_ok(cx_csv_parse("t.csv", text, sizeof text - 1, &csv, err));
    assert_int_equal(csv.rows, 3);
    assert_int_equal(csv.line[0], 1);
    assert_int_equal(csv.line[1], 2);
    assert_int_equal(csv.line[2], 5);
    assert_int_equal(cx_csv_column(&csv, "b"), 1);
    assert_int_equal(cx_csv_column(&csv, "B"), -1);
    cx_csv_free(&csv);
    assert_int_equal(cx_csv_column(&csv, "b"), -1);
}

/* What is written is read back, for cells drawn from the bytes that need care. */
static void written_tables_read_back(void **state)
{
    (void)state;
    static const char *const piece[] = { ",", "\"", "\n", "\r\n", " ", "x", "\xC3\xA9", "", "\"\"", "'" };
    cx_rng r = cx_rng_new(7, 1);
    for (int round = 0; round < 300; round++) {
        char cell[3][4][64] = { { { 0 } } };
        cx_buf b = { 0 };
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 4; k++) {
                if (i == 0)
                    snprintf(cell[i][k], 64, "c%d", k);
                for (uint32_t n = cx_rng_below(&r, 6); n-- > 0; )
                    strcat(cell[i][k], piece[cx_rng_below(&r, CX_COUNT(piece))]);
                cx_csv_put(&b, cell[i][k], k == 3);
            }
        cx_csv csv;
        assert_cx_ok(cx_csv_parse("t.csv", b.data, b.len, &csv, err));
        assert_int_equal(csv.rows, 3);
        assert_int_equal(csv.columns, 4);
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 4; k++)
                assert_string_equal(cx_csv_at(&csv, i, k), cell[i][k]);
        cx_csv_free(&csv);
        cx_buf_free(&b);
    }
}

/* Any prefix of a table, and any table with one byte changed, is read or refused; never a crash, and a refusal names the file. */
static void damaged_tables_never_crash(void **state)
{
    (void)state;
    static const char text[] = "path,labels\r\n\"a \"\"b\"\".png\",x|y\n\xC3\xA9.png,\"two\nlines\"\n";
    enum { N = sizeof text - 1 };
    cx_rng r = cx_rng_new(11, 2);
    int refused = 0;
    for (int round = 0; round < 4000; round++) {
        char bytes[N];
        memcpy(bytes, text, N);
        size_t n = round < N ? (size_t)round : N;
        if (round >= N)
            bytes[cx_rng_below(&r, N)] = (char)cx_rng_below(&r, 256);
        cx_csv csv;
        cx_error e = { 0 };
        cx_status s = cx_csv_parse("t.csv", bytes, n, &csv, &e);
        if (s != CX_OK) {
            refused++;
            assert_int_equal(s, CX_E_DATA);
            assert_memory_equal(e.text, "t.csv:", 6);
        }
        cx_csv_free(&csv);
    }
    assert_true(refused > 1000);
}

static void loading_names_the_path(void **state)
{
    (void)state;
    cx_csv csv;
    assert_cx_fails(CX_E_NOINPUT, "no/such.csv: cannot be opened: No such file", cx_csv_load("no/such.csv", &csv, err));
    assert_cx_fails(CX_E_NOINPUT, "is a folder", cx_csv_load("/", &csv, err));
    assert_cx_fails(CX_E_NOINPUT, "is not a regular file", cx_csv_load("/dev/null", &csv, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_the_rfc_allows), cmocka_unit_test(refuses_what_is_malformed), cmocka_unit_test(rows_know_their_lines),
        cmocka_unit_test(written_tables_read_back), cmocka_unit_test(damaged_tables_never_crash), cmocka_unit_test(loading_names_the_path)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
