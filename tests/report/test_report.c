/* test_report.c - report pages: well-formed whatever the texts and numbers are, escaped, and drawn where the numbers say. */
#include "support.h"
#include "cxnet/report.h"
#include <ctype.h>
#include <unistd.h>

#define EVIL "<script>alert(\"x\")</script> & 'q'"

/* Every tag that opens closes, in order; attributes are quoted; no bare '<' or '&' in text. A parser of what the page may contain, not of HTML. */
static void assert_well_formed(const char *html)
{
    static const char *const empty[] = { "meta", "img", "br" };
    char stack[64][16];
    int depth = 0;
    const char *p = html;
    assert_memory_equal(p, "<!DOCTYPE html>", 15);
    for (p += 15; *p; ) {
        if (*p == '&') {
            const char *end = strchr(p, ';');
            if (!end || end - p > 6)
                fail_msg("a bare & at \"%.40s\"", p);
            p = end;
        }
        if (*p != '<') {
            p++;
            continue;
        }
        bool closes = p[1] == '/';
        const char *name = p + 1 + closes;
        size_t n = 0;
        while (isalnum((unsigned char)name[n]))
            n++;
        if (n == 0 || n > 15)
            fail_msg("a bare < at \"%.40s\"", p);
        const char *q = name + n;
        for (bool quoted = false; *q && (quoted || *q != '>'); q++) {
            if (*q == '"')
                quoted = !quoted;
            if (*q == '<')
                fail_msg("a < inside a tag at \"%.60s\"", p);
        }
        if (*q != '>')
            fail_msg("a tag that never ends: \"%.40s\"", p);
        bool alone = q[-1] == '/';
        for (int i = 0; i < CX_COUNT(empty); i++)
            alone = alone || (strlen(empty[i]) == n && !strncmp(empty[i], name, n));
        if (closes) {
            if (depth == 0 || strlen(stack[depth - 1]) != n || strncmp(stack[depth - 1], name, n))
                fail_msg("</%.*s> closes <%s>", (int)n, name, depth ? stack[depth - 1] : "nothing");
            depth--;
        } else if (!alone) {
            assert_true(depth < 64);
            snprintf(stack[depth++], 16, "%.*s", (int)n, name);
        }
        p = q + 1;
        if (!closes && n == 5 && !strncmp(name, "style", 5))
            p = strstr(p, "</style>");
    }
    assert_int_equal(depth, 0);
}

/* Writes the page, reads it back into b, and checks its form. */
static void finish(cx_report *r, cx_buf *b)
{
    char path[] = "/tmp/cxnet-report-XXXXXX";
    close(mkstemp(path));
    assert_cx_ok(cx_report_write(r, path, err));
    assert_null(r->html.data);
    assert_cx_ok(cx_file_read(path, 1 << 24, b, err));
    unlink(path);
    assert_well_formed(b->data);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void texts_are_escaped_everywhere(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const char *cells[] = { EVIL, EVIL, EVIL, EVIL };
    const double x[] = { 1, 2 }, y[] = { 3, 4 };
    const cx_series s = { EVIL, x, y, 2 };
    const cx_bar bar = { EVIL, 1, 0.5, 1.5 };
    const int64_t m[] = { 1, 2, 3, 4 };
    const char *names[] = { EVIL, EVIL };
    cx_report_begin(&r, EVIL, EVIL);
    cx_report_heading(&r, EVIL);
    cx_report_text(&r, "%s %d %%", EVIL, 5);
    cx_report_table(&r, EVIL, cells, 2, 2);
    cx_report_lines(&r, EVIL, EVIL, EVIL, &s, 1, NAN, NAN);
    cx_report_bars(&r, EVIL, &bar, 1, NAN);
    cx_report_confusion(&r, EVIL, m, names, 2);
    cx_report_gallery_begin(&r);
    cx_report_picture(&r, "\x89PNG", 4, EVIL);
    cx_report_gallery_end(&r);
    finish(&r, &b);
    assert_null(strstr(b.data, "<script"));
    assert_non_null(strstr(b.data, "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;q&#39; 5 %</p>"));
    assert_int_equal(count(b.data, "&lt;script&gt;"), 25);
    assert_non_null(strstr(b.data, "src=\"data:image/png;base64,iVBORw==\" alt=\"&lt;"));
    cx_buf_free(&b);
}

/* A page stands alone: it names no other file and no host. */
static void page_needs_nothing_else(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const double x[] = { 0, 1 }, y[] = { 0, 1 };
    const cx_series s = { "a", x, y, 2 };
    cx_report_begin(&r, "t", NULL);
    cx_report_lines(&r, "t", "x", "y", &s, 1, 0, 1);
    finish(&r, &b);
    assert_null(strstr(b.data, "http"));
    assert_null(strstr(b.data, "<script"));
    assert_null(strstr(b.data, "<link"));
    assert_null(strstr(b.data, "url("));
    assert_null(strstr(b.data, "@import"));
    assert_non_null(strstr(b.data, "prefers-color-scheme:dark"));
    cx_buf_free(&b);
}

/* y 0..1 over the plot's 244 px, x 0..4 over 684 px: the path in full. */
static void points_lie_where_the_numbers_say(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const double x[] = { 0, 1, 4 }, y[] = { 0, 0.5, 1 };
    const cx_series s = { "a", x, y, 3 };
    cx_report_begin(&r, "t", NULL);
    cx_report_lines(&r, "t", "x", "y", &s, 1, 0, 1);
    finish(&r, &b);
    assert_non_null(strstr(b.data, "d=\"M0.00 244.00L171.00 122.00L684.00 0.00\""));
    for (int i = 0; i <= 5; i++) {
        char tick[32];
        snprintf(tick, sizeof tick, ">%.1f</text>", 0.2 * i);
        assert_non_null(strstr(b.data, tick));
    }
    for (int i = 0; i <= 4; i++) {
        char tick[32];
        snprintf(tick, sizeof tick, ">%d</text>", i);
        assert_int_equal(count(b.data, tick), 1);
    }
    cx_buf_free(&b);
}

static void nan_breaks_the_line(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    double x[60], y[60];
    for (int i = 0; i < 60; i++) {
        x[i] = i;
        y[i] = i % 7;
    }
    y[20] = NAN;
    y[30] = INFINITY;
    y[32] = -INFINITY;                                   /* 31 stands alone */
    const cx_series s = { "a", x, y, 60 };
    cx_report_begin(&r, "t", NULL);
    cx_report_lines(&r, "t", "x", "y", &s, 1, NAN, NAN);
    finish(&r, &b);
    const char *d = strstr(b.data, " d=\"M");
    assert_non_null(d);
    size_t n = strcspn(d + 4, "\"");
    int moves = 0, lines = 0;
    for (size_t i = 0; i < n; i++) {
        moves += d[4 + i] == 'M';
        lines += d[4 + i] == 'L';
    }
    assert_int_equal(moves, 4);
    assert_int_equal(lines, 60 - 3 - 4);
    assert_int_equal(count(b.data, "<circle"), 1);
    assert_null(strstr(b.data, "nan"));
    assert_null(strstr(b.data, "inf"));
    cx_buf_free(&b);
}

static void nothing_to_draw_says_so(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const double x[] = { 1, NAN }, y[] = { NAN, 2 };
    const cx_series s[] = { { "no points", NULL, NULL, 0 }, { "none finite", x, y, 2 } };
    const int64_t m[] = { 0 };
    const char *name = "only", *cell = "head";
    cx_report_begin(&r, "t", "");
    cx_report_lines(&r, "t", "x", "y", s, 2, NAN, NAN);
    cx_report_lines(&r, "t", "x", "y", NULL, 0, 0, 1);
    cx_report_bars(&r, "t", NULL, 0, NAN);
    cx_report_confusion(&r, "t", m, &name, 1);
    cx_report_table(&r, NULL, &cell, 1, 1);
    cx_report_table(&r, NULL, NULL, 0, 0);
    finish(&r, &b);
    assert_int_equal(count(b.data, ">no data</text>"), 3);
    assert_non_null(strstr(b.data, "<span>n/a</span>"));
    assert_null(strstr(b.data, "nan"));
    cx_buf_free(&b);
}

/* Ranges that break naive scales: one point, equal values, huge, tiny, reversed limits. */
static void hard_ranges_give_finite_numbers(void **state)
{
    (void)state;
    static const double row[][4] = {       /* x0, y0, x1, y1 */
        { 1, 1, 1, 1 }, { 0, 0, 0, 0 }, { 1, 5, 2, 5 }, { 1e300, 1e300, -1e300, -1e300 }, { 1e-300, 1e-300, 2e-300, 3e-300 }, { 1e15, 1, 1e15 + 1, 2 },
        { -3, -7, -2, -7 }
    };
    for (int i = 0; i < CX_COUNT(row); i++)
        for (int limits = 0; limits < 3; limits++) {
            cx_report r;
            cx_buf b = { 0 };
            const double x[] = { row[i][0], row[i][2] }, y[] = { row[i][1], row[i][3] };
            const cx_series s = { "a", x, y, 2 };
            const cx_bar bar[] = { { "a", y[0], y[1], NAN }, { "b", NAN, 0, 1 }, { "c", y[1], y[0], y[1] } };
            cx_report_begin(&r, "t", "");
            cx_report_lines(&r, "t", "x", "y", &s, 1, limits == 2 ? 1 : NAN, limits == 1 ? NAN : limits == 2 ? 0 : 10);
            cx_report_bars(&r, "t", bar, 3, limits ? NAN : 1);
            finish(&r, &b);
            const char *svg = strstr(b.data, "<svg");
            if (strstr(svg, "nan") || strstr(svg, "inf"))
                fail_msg("row %d, limits %d: a number is not finite", i, limits);
            assert_true(b.len < 60000);
            assert_true(count(svg, "</text>") < 60);
            cx_buf_free(&b);
        }
}

static void bars_and_whiskers_have_their_lengths(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const cx_bar bar[] = { { "auroc", 0.5, 0.25, 0.75 }, { "f1", 2, NAN, NAN }, { "none", NAN, NAN, NAN } };
    cx_report_begin(&r, "t", "");
    cx_report_bars(&r, "t", bar, 3, 1);
    finish(&r, &b);
    assert_non_null(strstr(b.data, "x=\"190\" y=\"7.00\" width=\"200.00\""));        /* half of 400 px */
    assert_non_null(strstr(b.data, "d=\"M290.00 15.00H490.00M"));
    assert_non_null(strstr(b.data, "width=\"400.00\""));                           /* clamped to the scale */
    assert_int_equal(count(b.data, "class=\"whisker\""), 1);
    assert_non_null(strstr(b.data, ">0.5 (0.25 to 0.75)</text>"));
    assert_non_null(strstr(b.data, ">n/a</text>"));
    cx_buf_free(&b);
    const cx_bar wide[] = { { "a network of a long name, its films", 1, NAN, NAN } };       /* 35 characters: bars begin at 7 * 35 + 20 px */
    cx_report_begin(&r, "t", "");
    cx_report_bars(&r, "t", wide, 1, 1);
    finish(&r, &b);
    assert_non_null(strstr(b.data, "x=\"265\" y=\"7.00\" width=\"325.00\""));
    cx_buf_free(&b);
}

static void confusion_shows_counts_and_shares(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const int64_t m[] = { 3, 1, 0, 0 };
    const char *names[] = { "No Finding", "CP" };
    cx_report_begin(&r, "t", "");
    cx_report_confusion(&r, "t", m, names, 2);
    finish(&r, &b);
    assert_non_null(strstr(b.data, "class=\"hot\" style=\"background:rgba(0,94,162,0.725)\"><b>3</b><span>75.0 %</span>"));
    assert_non_null(strstr(b.data, "<b>1</b><span>25.0 %</span>"));
    assert_int_equal(count(b.data, "<b>0</b><span>n/a</span>"), 2);
    cx_buf_free(&b);
}

static void numbers_stand_right_words_left(void **state)
{
    (void)state;
    cx_report r;
    cx_buf b = { 0 };
    const char *cells[] = { "name", "films", "share", "a", "12", "n/a", "b", "-3", "0.5 %" };
    cx_report_begin(&r, "t", "");
    cx_report_table(&r, "c", cells, 3, 3);
    const char *untitled[] = { "", "", "commit", "abc" };
    cx_report_table(&r, "c", untitled, 2, 2);
    finish(&r, &b);
    assert_int_equal(count(b.data, "<thead>"), 1);
    assert_non_null(strstr(b.data, "<tr><td>commit</td><td>abc</td></tr>"));
    assert_non_null(strstr(b.data, "<th scope=\"col\">name</th><th scope=\"col\" class=\"n\">films</th><th scope=\"col\" class=\"n\">share</th>"));
    assert_non_null(strstr(b.data, "<td>a</td><td class=\"n\">12</td><td class=\"n\">n/a</td>"));
    cx_buf_free(&b);
}

static void failure_to_write_frees_the_page(void **state)
{
    (void)state;
    cx_report r;
    cx_report_begin(&r, "t", "");
    assert_cx_fails(CX_E_CREATE, "cannot be created", cx_report_write(&r, "/no/such/folder/report.html", err));
    assert_null(r.html.data);
    cx_report_begin(&r, "t", "");
    r.html.failed = true;
    assert_cx_fails(CX_E_MEMORY, "no memory", cx_report_write(&r, "/tmp/never-written.html", err));
    assert_false(cx_file_exists("/tmp/never-written.html"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_escaped_everywhere), cmocka_unit_test(page_needs_nothing_else), cmocka_unit_test(points_lie_where_the_numbers_say),
        cmocka_unit_test(nan_breaks_the_line), cmocka_unit_test(nothing_to_draw_says_so), cmocka_unit_test(hard_ranges_give_finite_numbers),
        cmocka_unit_test(bars_and_whiskers_have_their_lengths), cmocka_unit_test(confusion_shows_counts_and_shares),
        cmocka_unit_test(numbers_stand_right_words_left),
        cmocka_unit_test(failure_to_write_frees_the_page)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
