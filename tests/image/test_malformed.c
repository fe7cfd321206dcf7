/* test_malformed.c - broken pictures: a generated table where each must be refused with its name, and random mutations that must never crash. */
#include "golden.h"

typedef struct { char name[64]; uint8_t *data; size_t n; const char *reason; } broken;     /* reason: NULL, or words of the message */
typedef struct { broken *item; int n; size_t cap; } table;

/* Takes a copy, so that the sanitizer sees a read behind the end. */
static uint8_t *add(table *t, const char *reason, const void *data, size_t n, const char *fmt, ...)
{
    va_list ap;
    assert_true(cx_grow(&t->item, &t->cap, (size_t)t->n + 1, sizeof *t->item));
    broken *b = &t->item[t->n++];
    va_start(ap, fmt);
    vsnprintf(b->name, sizeof b->name, fmt, ap);
    va_end(ap);
    b->data = malloc(n ? n : 1);
    b->n = n;
    b->reason = reason;
    memcpy(b->data, data, n);
    return b->data;
}

static cx_buf load(const char *name)
{
    cx_buf b = { 0 };
    char *path = cx_path_join(GOLDEN, name);
    assert_cx_ok(cx_file_read(path, 1 << 20, &b, err));
    free(path);
    return b;
}

static void truncations(table *t)
{
    static const char *const files[] = { "grey8.png", "rgba8_adam7.png", "palette.png", "grey.jpg", "rgb420_progressive.jpg", "cmyk.jpg", "restart.jpg",
        "lossy.webp", "lossless.webp", "lossy_alpha.webp" };
    for (int f = 0; f < CX_COUNT(files); f++) {
        cx_buf b = load(files[f]);
        size_t cuts[] = { 1, 4, 12, 24, 40, b.len / 4, b.len / 2, b.len * 3 / 4, b.len - 5, b.len - 1 };
        for (int c = 0; c < CX_COUNT(cuts); c++)
            add(t, NULL, b.data, cuts[c], "%s cut to %zu bytes", files[f], cuts[c]);
        cx_buf_free(&b);
    }
}

/* Every byte of a PNG is under a signature or a checksum. */
static void png_flips(table *t)
{
    cx_buf b = load("grey8.png");
    for (size_t i = 0; i < b.len; i += i < 60 ? 1 : 97)
        add(t, NULL, b.data, b.len, "grey8.png byte %zu flipped", i)[i] ^= 0x10;
    cx_buf_free(&b);
}

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Headers that are well-formed, with a good checksum, and ask for nonsense. */
static void png_headers(table *t)
{
    static const struct { uint32_t w, h; uint8_t bits, colour, interlace; const char *reason; } cases[] = {
        { 0, 29, 8, 0, 0, NULL }, { 37, 0, 8, 0, 0, NULL }, { 16385, 1, 8, 0, 0, "too large" }, { 1, 16385, 8, 0, 0, "too large" },
        { 0x7fffffff, 0x7fffffff, 16, 6, 1, "too large" }, { 16384, 16384, 8, 0, 0, "declared" }, { 16384, 16384, 16, 6, 1, "declared" },
        { 37, 30, 8, 0, 0, NULL }, { 38, 29, 8, 0, 0, NULL }, { 37, 28, 8, 0, 0, NULL }, { 37, 29, 3, 0, 0, NULL }, { 37, 29, 16, 3, 0, NULL },
        { 37, 29, 8, 1, 0, NULL }, { 37, 29, 8, 3, 0, NULL }, { 37, 29, 8, 0, 2, NULL }, { 37, 29, 8, 6, 0, NULL }, { 0xffffffff, 29, 8, 0, 0, NULL },
    };
    cx_buf b = load("grey8.png");
    for (int i = 0; i < CX_COUNT(cases); i++) {
        uint8_t *p = add(t, cases[i].reason, b.data, b.len, "PNG header %d: %u x %u, %d bit, colour %d", i, cases[i].w, cases[i].h, cases[i].bits,
                         cases[i].colour);
        put32(p + 16, cases[i].w);
        put32(p + 20, cases[i].h);
        p[24] = cases[i].bits;
        p[25] = cases[i].colour;
        p[28] = cases[i].interlace;
        put32(p + 29, crc_of(p + 12, 17));
    }
    cx_buf_free(&b);
}

/* Finds the frame header (SOF0 or SOF2) of a JPEG: [marker, length, bits, height, width, channels]. */
static uint8_t *frame(uint8_t *p, size_t n)
{
    for (size_t i = 2; i + 9 < n && p[i] == 0xff; i += 2 + (size_t)p[i + 2] * 256 + p[i + 3])
        if (p[i + 1] == 0xc0 || p[i + 1] == 0xc2)
            return p + i;
    fail_msg("no frame header");
    return NULL;
}

static void jpeg_headers(table *t)
{
    static const struct { int offset; uint8_t value[2]; int n; const char *what, *reason; } cases[] = {
        { 5, { 0, 0 }, 2, "height 0", NULL }, { 7, { 0, 0 }, 2, "width 0", NULL }, { 5, { 0x80, 0 }, 2, "height 32768", "too large" },
        { 7, { 0x80, 0 }, 2, "width 32768", "too large" }, { 5, { 0x20, 0 }, 2, "height 8192", NULL }, { 4, { 12 }, 1, "12 bit", "precision 12" },
        { 9, { 0 }, 1, "0 channels", NULL }, { 9, { 2 }, 1, "2 channels", NULL }, { 9, { 4 }, 1, "4 channels", NULL }, { 1, { 0xc3 }, 1, "lossless", NULL },
        { 1, { 0xc5 }, 1, "hierarchical", NULL }, { 2, { 0, 3 }, 2, "a short header", NULL }, { 11, { 0x55 }, 1, "sampling 5x5", NULL },
        { 11, { 0 }, 1, "sampling 0x0", NULL }, { 12, { 9 }, 1, "a quantisation table that is not there", NULL },
    };
    static const char *const files[] = { "grey.jpg", "rgb420_progressive.jpg" };
    for (int f = 0; f < CX_COUNT(files); f++) {
        cx_buf b = load(files[f]);
        for (int i = 0; i < CX_COUNT(cases); i++) {
            uint8_t *p = add(t, cases[i].reason, b.data, b.len, "%s with %s", files[f], cases[i].what);
            memcpy(frame(p, b.len) + cases[i].offset, cases[i].value, (size_t)cases[i].n);
        }
        uint8_t *p = add(t, "declared", b.data, b.len, "%s of 16384 x 16384", files[f]);
        memcpy(frame(p, b.len) + 5, "\x40\0\x40\0", 4);
        add(t, NULL, b.data, b.len, "%s without its end", files[f])[b.len - 1] = 0;
        cx_buf_free(&b);
    }
}

/* A progressive file whose last scan is repeated a thousand times. */
static void jpeg_scans(table *t)
{
    cx_buf b = load("grey_progressive.jpg");
    uint8_t *p = (uint8_t *)b.data;
    size_t last = 0;
    for (size_t i = 2; i + 1 < b.len; i++)
        if (p[i] == 0xff && p[i + 1] == 0xda)
            last = i;
    cx_buf many = { 0 };
    cx_buf_put(&many, p, b.len - 2);
    for (int i = 0; i < 1000; i++)
        cx_buf_put(&many, p + last, b.len - 2 - last);
    cx_buf_put(&many, "\xff\xd9", 2);
    add(t, NULL, many.data, many.len, "a JPEG of 1000 scans");
    cx_buf_free(&many);
    cx_buf_free(&b);
}

static void webp_headers(table *t)
{
    static const struct { const char *file; size_t at; uint8_t value; const char *what; } cases[] = {
        { "lossy.webp", 8, 'X', "another form" }, { "lossy.webp", 12, 'X', "an unknown chunk" }, { "lossy.webp", 17, 0x7f, "a chunk beyond the end" },
        { "lossy.webp", 23, 0, "a bad start code" }, { "lossy.webp", 26, 0, "width 0" }, { "lossy.webp", 28, 0, "height 0" },
        { "lossy.webp", 20, 0x0f, "an unknown profile" }, { "lossless.webp", 20, 0, "a bad signature" }, { "lossless.webp", 24, 0xff, "a future version" },
        { "lossless.webp", 4, 0, "a size that is too small" }, { "lossy_alpha.webp", 26, 0xff, "a canvas unlike its picture" },
        { "lossless.webp", 22, 0xff, "another size" },
    };
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cx_buf b = load(cases[i].file);
        add(t, NULL, b.data, b.len, "%s with %s", cases[i].file, cases[i].what)[cases[i].at] = cases[i].value;
        cx_buf_free(&b);
    }
    cx_buf b = load("animated.webp");
    add(t, "animated", b.data, b.len, "animated.webp");
    cx_buf_free(&b);
    b = load("lossless.webp");
    uint8_t *p = add(t, "declared", b.data, b.len, "a WebP of 16383 x 16383");
    p[21] = 0xfe;
    p[22] = 0xbf;
    p[23] = 0xff;
    p[24] |= 0x0f;
    cx_buf_free(&b);
}

static void other_types(table *t)
{
    static const struct { const char *magic; size_t n; const char *like; } cases[] = {
        { "", 0, "empty" }, { "path,labels\na.png,COVID-19\n", 27, "text" }, { "GIF89a\1\0\1\0\0\0\0", 13, "GIF" }, { "GIF87a", 6, "GIF" },
        { "BM\0\0\0\0", 6, "BMP" },
        { "II*\0\10\0\0\0", 8, "TIFF" }, { "MM\0*\0\0\0\10", 8, "TIFF" }, { "\0\0\0\14jP  \r\n\x87\n", 12, "JPEG 2000" }, { "%PDF-1.7\n", 9, "PDF" },
        { "PK\3\4\24\0", 6, "ZIP" }, { "\x1f\x8b\10\0", 4, "gzip" }, { "<!DOCTYPE html>", 15, "HTML" }, { "\0\0\0\x1c" "ftypheic", 12, "HEIC" },
        { "\x89PNG\n\x1a\n", 7, "text-mode" }, { "RIFF\4\0\0\0WAVE", 12, "RIFF" }, { "\0\0\0\0", 4, "no PNG, JPEG or WebP" },
        { "\xff\xd8", 2, "no PNG, JPEG or WebP" },
    };
    for (int i = 0; i < CX_COUNT(cases); i++)
        add(t, cases[i].like, cases[i].magic, cases[i].n, "foreign %d (%s)", i, cases[i].like);
    uint8_t dicom[160] = { 0 };
    memcpy(dicom + 128, "DICM", 4);
    add(t, "DICOM", dicom, sizeof dicom, "foreign DICOM");
}

static void each_is_refused_with_its_name(void **state)
{
    (void)state;
    table t = { 0 };
    truncations(&t);
    png_flips(&t);
    png_headers(&t);
    jpeg_headers(&t);
    jpeg_scans(&t);
    webp_headers(&t);
    other_types(&t);
    assert_true(t.n >= 90);
    for (int i = 0; i < t.n; i++) {
        broken *b = &t.item[i];
        cx_film f = { .width = 1 };
        cx_error err = { 0 };
        cx_status s = cx_film_decode(b->name, b->data, b->n, &f, &err);
        if (s != CX_E_DATA)
            fail_msg("%s: status %d, want %d (%s)", b->name, (int)s, (int)CX_E_DATA, err.text);
        if (strncmp(err.text, b->name, strlen(b->name)) != 0 || (b->reason && !strstr(err.text, b->reason)))
            fail_msg("%s: message \"%s\" lacks the name or \"%s\"", b->name, err.text, b->reason ? b->reason : "");
        assert_null(f.px);
        assert_int_equal(f.width, 0);
        free(b->data);
    }
    print_message("%d broken pictures refused\n", t.n);
    free(t.item);
}

/* Mutates a golden: a few bytes changed, a stretch removed or doubled, or two files spliced. */
static size_t mutate(cx_rng *r, const cx_buf *from, const cx_buf *other, uint8_t *out)
{
    size_t n = from->len, at = cx_rng_below(r, (uint32_t)n), len = 1 + cx_rng_below(r, 16);
    memcpy(out, from->data, n);
    switch (cx_rng_below(r, 4)) {
    case 0:
        len = len < n - at ? len : n - at;
        memmove(out + at, out + at + len, n - at - len);
        return n - len;
    case 1:
        memmove(out + at + len, out + at, n - at);
        return n + len;
    case 2: {
        size_t cut = cx_rng_below(r, (uint32_t)other->len);
        memcpy(out + at, other->data + cut, other->len - cut);
        return at + other->len - cut;
    }
    default:
        for (size_t k = 0; k < 1 + len / 4; k++)
            out[cx_rng_below(r, cx_rng_below(r, 2) ? 64 : (uint32_t)n)] ^= (uint8_t)(1u << cx_rng_below(r, 8));
        return n;
    }
}

static void mutations_never_crash(void **state)
{
    (void)state;
    cx_csv csv;
    assert_cx_ok(cx_csv_load(GOLDEN "expected.csv", &csv, err));
    int n = csv.rows - 1, good = 0, refused = 0;
    cx_buf *file = cx_alloc((size_t)n, sizeof *file);
    for (int i = 0; i < n; i++)
        file[i] = load(csv_text(&csv, i + 1, "file"));
    cx_rng rng = cx_rng_new(1, cx_hash("mutations"));
    for (int i = 0; i < 4000; i++) {
        const cx_buf *a = &file[cx_rng_below(&rng, (uint32_t)n)], *b = &file[cx_rng_below(&rng, (uint32_t)n)];
        uint8_t big[2 * 4096 + 64];
        size_t len = mutate(&rng, a, b, big);
        uint8_t *exact = malloc(len ? len : 1);
        cx_film f;
        cx_error err = { 0 };
        memcpy(exact, big, len);
        cx_status s = cx_film_decode("mutant", exact, len, &f, &err);
        if (s != CX_OK && s != CX_E_DATA)
            fail_msg("mutation %d: status %d (%s)", i, (int)s, err.text);
        good += s == CX_OK;
        refused += s == CX_E_DATA;
        cx_film_free(&f);
        free(exact);
    }
    print_message("%d mutants decoded, %d refused\n", good, refused);
    assert_true(refused > 2000 && good > 0);
    for (int i = 0; i < n; i++)
        cx_buf_free(&file[i]);
    free(file);
    cx_csv_free(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_is_refused_with_its_name), cmocka_unit_test(mutations_never_crash) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
