/* page.c - the frame of a report, its text, tables and pictures: one HTML file that needs nothing else. Depends on base.h. */
#include "cxnet/report.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Series colours are those of Okabe & Ito (2008), told apart by readers with any colour vision; in dark mode the dark blue and green are lightened. */
static const char STYLE[] =
    ":root{color-scheme:light dark;--paper:#fcfcfa;--ink:#1d2125;--soft:#5d666f;--line:#dcdfe2;--card:#fff;"
    "--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#b58900;--c5:#56b4e9;--c6:#7a5195;--c7:#555}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e4e7ea;--soft:#9aa4ad;--line:#343a40;--card:#1b1f23;"
    "--c0:#56a8e0;--c1:#f0803c;--c2:#2fc79a;--c3:#e097c2;--c4:#e0b93f;--c5:#8fd0f5;--c6:#b48bd0;--c7:#aaa}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif}\n"
    "main{max-width:900px;margin:0 auto;padding:40px 20px 28px}\n"
    "h1{font-size:1.9rem;line-height:1.2;font-weight:650;letter-spacing:-.01em;margin:0}\n"
    "h2{font-size:1.22rem;font-weight:620;margin:2.4em 0 .6em;padding-top:.9em;border-top:1px solid var(--line)}\n"
    "p{margin:.7em 0;max-width:70ch}.sub{color:var(--soft);font-size:1.05rem;margin:.45em 0 0}\n"
    "figure{margin:1.2em 0}caption{white-space:nowrap}figcaption,caption{font-weight:600;font-size:.95rem;text-align:left;padding:0 0 .45em}\n"
    "svg{display:block;width:100%;height:auto}svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}\n"
    "svg .name{fill:var(--ink)}svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".whisker{stroke:var(--ink);stroke-width:1.5}.track{fill:var(--line);opacity:.45}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.2em 1.3em;margin:.2em 0 0;padding:0;font-size:.88rem;color:var(--soft);list-style:none}\n"
    ".legend i{display:inline-block;width:18px;height:3px;border-radius:2px;vertical-align:middle;margin-right:7px}\n"
    ".scroll{overflow-x:auto;margin:1.2em 0}table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.38em .85em;text-align:left;border-bottom:1px solid var(--line);vertical-align:baseline}"
    "thead th{border-bottom:1.5px solid var(--soft)}\n"
    "th{font-weight:600}td.n,th.n{text-align:right}\n"
    ".confusion td{text-align:center;border:2px solid var(--paper);padding:.55em 1.1em;min-width:5.5em}"
    ".confusion td b{display:block;font-size:1.05rem}\n"
    ".confusion td span{font-size:.82rem;opacity:.85}.confusion td.hot{color:#fff}"
    ".confusion th{border:0}.confusion th[scope=col]{text-align:center}.confusion .way{color:var(--soft);font-weight:400}\n"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:14px;margin:1.2em 0}\n"
    ".gallery figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:6px;overflow:hidden}\n"
    ".gallery img{display:block;width:100%;height:auto;background:#000}"
    ".gallery figcaption{font-weight:400;font-size:.84rem;color:var(--soft);padding:.5em .75em .6em;overflow-wrap:anywhere}\n"
    "footer{margin-top:3em;padding-top:.9em;border-top:1px solid var(--line);color:var(--soft);font-size:.84rem}\n"
    "@media print{main{max-width:none;padding:0}figure,table{break-inside:avoid}}\n";

void cx_report_begin(cx_report *r, const char *title, const char *subtitle)
{
    cx_buf *b = &r->html;
    *b = (cx_buf){ 0 };
    cx_buf_puts(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    cx_buf_html(b, title);
    cx_buf_puts(b, "</title>\n<style>\n");
    cx_buf_puts(b, STYLE);
    cx_buf_puts(b, "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>");
    cx_buf_html(b, title);
    cx_buf_puts(b, "</h1>\n");
    if (subtitle && subtitle[0]) {
        cx_buf_puts(b, "<p class=\"sub\">");
        cx_buf_html(b, subtitle);
        cx_buf_puts(b, "</p>\n");
    }
    cx_buf_puts(b, "</header>\n");
}

static void element(cx_buf *b, const char *open, const char *text, const char *close)
{
    cx_buf_puts(b, open);
    cx_buf_html(b, text);
    cx_buf_puts(b, close);
}

void cx_report_heading(cx_report *r, const char *text)
{
    element(&r->html, "<h2>", text, "</h2>\n");
}

void cx_report_text(cx_report *r, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        r->html.failed = true;
        return;
    }
    element(&r->html, "<p>", text, "</p>\n");
    free(text);
}

/* "12", "-0.3 %", "0.91 (0.88 to 0.94)", "n/a", "": what reads best when flush right. */
static bool looks_numeric(const char *s)
{
    if (!s[0] || !strcmp(s, "n/a") || !strcmp(s, "-"))
        return true;
    s += *s == '-' || *s == '+';
    return *s >= '0' && *s <= '9';
}

static bool numeric_column(const char *const *cells, int rows, int columns, int c)
{
    for (int i = 1; i < rows; i++)
        if (!looks_numeric(cells[i * columns + c]))
            return false;
    return rows > 1;
}

void cx_report_table(cx_report *r, const char *caption, const char *const *cells, int rows, int columns)
{
    cx_buf *b = &r->html;
    cx_buf_puts(b, "<div class=\"scroll\"><table>\n");
    if (caption && caption[0])
        element(b, "<caption>", caption, "</caption>\n");
    bool titled = false;
    for (int c = 0; rows > 0 && c < columns; c++)
        titled = titled || cells[c][0];
    for (int i = titled ? 0 : 1; i < rows; i++) {
        cx_buf_puts(b, i == 0 ? "<thead><tr>" : i == 1 ? "<tbody>\n<tr>" : "<tr>");
        for (int c = 0; c < columns; c++) {
            bool right = numeric_column(cells, rows, columns, c);
            const char *open = i == 0 ? (right ? "<th scope=\"col\" class=\"n\">" : "<th scope=\"col\">") : right ? "<td class=\"n\">" : "<td>";
            element(b, open, cells[i * columns + c], i == 0 ? "</th>" : "</td>");
        }
        cx_buf_puts(b, i == 0 ? "</tr></thead>\n" : "</tr>\n");
    }
    cx_buf_puts(b, rows > 1 ? "</tbody>\n</table></div>\n" : "</table></div>\n");
}

static void confusion_row(cx_buf *b, const int64_t *row, const char *name, int k)
{
    int64_t sum = 0;
    for (int c = 0; c < k; c++)
        sum += row[c];
    element(b, "<tr><th scope=\"row\">", name, "</th>");
    for (int c = 0; c < k; c++) {
        double share = sum ? (double)row[c] / (double)sum : 0;
        /* Opacity, not lightness, so that one blue serves light and dark paper. */
        const char *hot = share > 0.45 ? " class=\"hot\"" : "";
        cx_buf_printf(b, "<td%s style=\"background:rgba(0,94,162,%.3f)\"><b>%" PRId64 "</b>", hot, 0.05 + 0.9 * share, row[c]);
        if (sum)
            cx_buf_printf(b, "<span>%.1f %%</span></td>", 100 * share);
        else
            cx_buf_puts(b, "<span>n/a</span></td>");
    }
    cx_buf_puts(b, "</tr>\n");
}

void cx_report_confusion(cx_report *r, const char *title, const int64_t *m, const char *const *names, int k)
{
    cx_buf *b = &r->html;
    cx_buf_puts(b, "<div class=\"scroll\"><table class=\"confusion\">\n");
    element(b, "<caption>", title, "</caption>\n");
    cx_buf_printf(b, "<thead><tr><th></th><th class=\"way\" colspan=\"%d\">predicted (share of the truth)</th></tr>\n<tr><th class=\"way\">truth</th>", k);
    for (int c = 0; c < k; c++)
        element(b, "<th scope=\"col\">", names[c], "</th>");
    cx_buf_puts(b, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < k; i++)
        confusion_row(b, m + (size_t)i * (size_t)k, names[i], k);
    cx_buf_puts(b, "</tbody>\n</table></div>\n");
}

void cx_report_gallery_begin(cx_report *r)
{
    cx_buf_puts(&r->html, "<div class=\"gallery\">\n");
}

void cx_report_picture(cx_report *r, const void *png, size_t n, const char *caption)
{
    cx_buf *b = &r->html;
    cx_buf_puts(b, "<figure><img src=\"data:image/png;base64,");
    cx_buf_base64(b, png, n);
    element(b, "\" alt=\"", caption, "\">");
    element(b, "<figcaption>", caption, "</figcaption></figure>\n");
}

void cx_report_gallery_end(cx_report *r)
{
    cx_buf_puts(&r->html, "</div>\n");
}

cx_status cx_report_write(cx_report *r, const char *path, cx_error *err)
{
    cx_buf_puts(&r->html, "<footer>Made by cxnet " CX_VERSION ". For research; not for clinical use.</footer>\n</main>\n</body>\n</html>\n");
    cx_status s = r->html.failed ? cx_fail(err, CX_E_MEMORY, "%s: no memory for the page", path) : cx_file_write(path, r->html.data, r->html.len, err);
    cx_buf_free(&r->html);
    return s;
}
