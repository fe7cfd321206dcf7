/* csv.c - RFC 4180 tables, read strictly: what does not fit is an error with its line, never a guess. Depends on buf.c and file.c. */
#include "cxnet/base.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

size_t cx_utf8_valid(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    size_t i = 0;
    while (i < n) {
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        int more = p[i] >= 0xC2 && p[i] <= 0xDF ? 1 : (p[i] & 0xF0) == 0xE0 ? 2 : p[i] >= 0xF0 && p[i] <= 0xF4 ? 3 : 0;
        if (!more || n - i <= (size_t)more)
            return i;
        for (int k = 1; k <= more; k++)
            if ((p[i + (size_t)k] & 0xC0) != 0x80)
                return i;
        /* Overlong forms, surrogates, and beyond U+10FFFF show in the second byte (Unicode 15, table 3-7). */
        if ((p[i] == 0xE0 && p[i + 1] < 0xA0) || (p[i] == 0xED && p[i + 1] > 0x9F) ||
            (p[i] == 0xF0 && p[i + 1] < 0x90) || (p[i] == 0xF4 && p[i + 1] > 0x8F))
            return i;
        i += (size_t)more + 1;
    }
    return n;
}

typedef struct {
    const char *name, *p, *end;      /* input not read yet */
    char *w;                         /* where the next unescaped byte goes; never overtakes the input */
    int line;
    char **cell; size_t n_cells, cells_cap;
    int *row_line; size_t n_rows, rows_cap;
    size_t columns, in_row;          /* fields of the header, of this row */
    cx_error *err;
} reader;

static cx_status no_memory(const reader *r)
{
    return cx_fail(r->err, CX_E_MEMORY, "%s:%d: no memory for the table", r->name, r->line);
}

/* Text up to a comma or the end of the line. */
static cx_status plain_field(reader *r)
{
    for (; r->p < r->end && *r->p != ',' && *r->p != '\n'; r->p++) {
        if (*r->p == '\r') {
            if (r->p + 1 < r->end && r->p[1] == '\n')
                break;
            return cx_fail(r->err, CX_E_DATA, "%s:%d: a carriage return without a line feed; save the file with LF or CRLF line ends", r->name, r->line);
        }
        if (*r->p == '"')
            return cx_fail(r->err, CX_E_DATA, "%s:%d: a quote inside an unquoted field; put the field in quotes and double the quote", r->name, r->line);
        *r->w++ = *r->p;
    }
    return CX_OK;
}

static cx_status quoted_field(reader *r)
{
    int opened = r->line;
    for (r->p++; r->p < r->end; r->p++) {
        if (*r->p == '\n')
            r->line++;
        if (*r->p == '"') {
            if (r->p + 1 >= r->end || r->p[1] != '"')
                break;
            r->p++;
        }
        *r->w++ = *r->p;
    }
    if (r->p >= r->end)
        return cx_fail(r->err, CX_E_DATA, "%s:%d: a quoted field is never closed; add the missing quote", r->name, opened);
    r->p++;
    bool ends = r->p >= r->end || *r->p == ',' || *r->p == '\n' || (*r->p == '\r' && r->p + 1 < r->end && r->p[1] == '\n');
    if (!ends)
        return cx_fail(r->err, CX_E_DATA, "%s:%d: text after a closing quote; double the quotes that belong to the field", r->name, r->line);
    return CX_OK;
}

static cx_status end_row(reader *r, int row_line)
{
    if (r->n_rows == 0)
        r->columns = r->in_row;
    if (r->in_row != r->columns)
        return cx_fail(r->err, CX_E_DATA, "%s:%d: %zu field%s where the header has %zu", r->name, row_line, r->in_row, r->in_row == 1 ? "" : "s", r->columns);
    if (r->n_rows == INT_MAX || !cx_grow(&r->row_line, &r->rows_cap, r->n_rows + 1, sizeof(int)))
        return no_memory(r);
    r->row_line[r->n_rows++] = row_line;
    r->in_row = 0;
    return CX_OK;
}

/* Only line ends are left: many editors leave empty lines at the end of a file. */
static bool only_blank(const reader *r)
{
    const char *p = r->p;
    while (p < r->end && (*p == '\n' || *p == '\r'))
        p++;
    return p == r->end;
}

static cx_status read_rows(reader *r)
{
    int row_line = r->line;
    while (r->p < r->end || r->in_row) {
        char *field = r->w;
        TRY(r->p < r->end && *r->p == '"' ? quoted_field(r) : plain_field(r));
        char stop = r->p < r->end ? *r->p : 0;
        bool more = stop == ',';
        if (stop)
            r->p += stop == '\r' ? 2 : 1;
        *r->w++ = 0;
        if (!cx_grow(&r->cell, &r->cells_cap, r->n_cells + 1, sizeof(char *)))
            return no_memory(r);
        r->cell[r->n_cells++] = field;
        r->in_row++;
        if (more)
            continue;
        TRY(end_row(r, row_line));
        row_line = ++r->line;
        if (only_blank(r))
            break;
    }
    return CX_OK;
}

static cx_status check_header(const reader *r)
{
    for (size_t i = 0; i < r->columns; i++) {
        if (!r->cell[i][0])
            return cx_fail(r->err, CX_E_DATA, "%s:%d: column %zu has no name", r->name, r->row_line[0], i + 1);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(r->cell[i], r->cell[k]))
                return cx_fail(r->err, CX_E_DATA, "%s:%d: two columns are named \"%s\"; rename one", r->name, r->row_line[0], r->cell[i]);
    }
    return CX_OK;
}

static cx_status check_bytes(const char *name, const char *text, size_t n, cx_error *err)
{
    const char *nul = memchr(text, 0, n);
    size_t bad = cx_utf8_valid(text, n);
    size_t at = nul && (size_t)(nul - text) < bad ? (size_t)(nul - text) : bad;
    if (at == n)
        return CX_OK;
    int line = 1;
    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    if (!text[at])
        return cx_fail(err, CX_E_DATA, "%s:%d: a NUL byte; this is no CSV text (UTF-16 must be saved as UTF-8)", name, line);
    return cx_fail(err, CX_E_DATA, "%s:%d: byte 0x%02X is not UTF-8; save the file as UTF-8", name, line, (unsigned)(unsigned char)text[at]);
}

cx_status cx_csv_parse(const char *name, const char *text, size_t n, cx_csv *out, cx_error *err)
{
    *out = (cx_csv){ 0 };
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        text += 3;
        n -= 3;
    }
    if (n == 0)
        return cx_fail(err, CX_E_DATA, "%s: is empty; a table starts with a line of column names", name);
    TRY(check_bytes(name, text, n, err));
    /* Unescaping never grows a field, and the NUL takes the place of the separator: n + 1 bytes hold all cells. */
    char *store = cx_alloc(n + 1, 1);
    if (!store)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu bytes", name, n);
    reader r = { .name = name, .p = text, .end = text + n, .w = store, .line = 1, .err = err };
    cx_status s = read_rows(&r);
    if (s == CX_OK)
        s = check_header(&r);
    *out = (cx_csv){ .cell = r.cell, .line = r.row_line, .text = store, .rows = (int)r.n_rows, .columns = (int)r.columns };
    if (s != CX_OK)
        cx_csv_free(out);
    return s;
}

cx_status cx_csv_load(const char *path, cx_csv *out, cx_error *err)
{
    cx_buf b = { 0 };
    *out = (cx_csv){ 0 };
    cx_status s = cx_file_read(path, (size_t)1 << 30, &b, err);
    if (s == CX_OK)
        s = cx_csv_parse(path, b.data, b.len, out, err);
    cx_buf_free(&b);
    return s;
}

int cx_csv_column(const cx_csv *csv, const char *name)
{
    for (int c = 0; c < csv->columns && csv->rows > 0; c++)
        if (!strcmp(cx_csv_at(csv, 0, c), name))
            return c;
    return -1;
}

void cx_csv_free(cx_csv *csv)
{
    free(csv->cell);
    free(csv->line);
    free(csv->text);
    *csv = (cx_csv){ 0 };
}

void cx_csv_put(cx_buf *b, const char *field, bool last)
{
    if (!field[strcspn(field, ",\"\r\n")])
        cx_buf_puts(b, field);
    else {
        cx_buf_puts(b, "\"");
        for (const char *p = field; *p; ) {
            size_t n = strcspn(p, "\"");
            cx_buf_put(b, p, n);
            p += n;
            if (*p) {
                cx_buf_puts(b, "\"\"");
                p++;
            }
        }
        cx_buf_puts(b, "\"");
    }
    cx_buf_puts(b, last ? "\n" : ",");
}
