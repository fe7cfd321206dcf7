/* base.h - what every room stands on: memory, text buffers, files, CSV, .npy, Philox, SHA-256, clocks. Depends on status.h only. */
#ifndef CXNET_BASE_H
#define CXNET_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "cxnet/status.h"
#ifdef __cplusplus
extern "C" {
#endif

#define CX_VERSION "0.1.0"
/* The git commit this library was built from, "-dirty" behind it when the tree had changes; "unknown" outside a checkout. */
const char *cx_build_commit(void);
#define CX_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* ---- memory ------------------------------------------------------------------------------------------------ */

/* n * size zeroed bytes, or NULL when out of memory or when the product overflows. Release with free(). n = 0 gives one byte. */
void *cx_alloc(size_t n, size_t size);
/* The same, aligned to 64 bytes and not zeroed. Release with free(). */
void *cx_alloc_aligned(size_t n, size_t size);
/* Grows *array (elements of `size` bytes, capacity *cap) to hold at least `need`; the contents stay. False when out of memory. */
bool cx_grow(void *array, size_t *cap, size_t need, size_t size);
char *cx_strdup(const char *s);                       /* NULL in, NULL out */
char *cx_sprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));   /* owned by the caller */

/* ---- a growing text or byte buffer; data is always NUL-terminated. Zero-initialise. A failed allocation sets `failed`. ------ */

typedef struct { char *data; size_t len, cap; bool failed; } cx_buf;
void cx_buf_put(cx_buf *b, const void *bytes, size_t n);
void cx_buf_puts(cx_buf *b, const char *s);
void cx_buf_printf(cx_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* in the C locale: a decimal point */
void cx_buf_base64(cx_buf *b, const void *bytes, size_t n);
void cx_buf_html(cx_buf *b, const char *s);           /* escapes & < > " ' */
void cx_buf_free(cx_buf *b);

/* Between these two calls the thread reads and writes numbers with a decimal point, whatever the program's locale. Costs nothing in glibc. */
typedef struct { void *locale, *before; } cx_point;
cx_point cx_point_begin(void);
void cx_point_end(cx_point p);

/* ---- files ------------------------------------------------------------------------------------------------- */

/* Reads a whole regular file of at most max_bytes into b (replacing its contents).
 * CX_E_NOINPUT: missing, a directory, unreadable; CX_E_DATA: larger than max_bytes. The error names the path. */
cx_status cx_file_read(const char *path, size_t max_bytes, cx_buf *b, cx_error *err);
/* Writes path through a temporary file in the same folder: write, fsync, read back and compare, rename, fsync of
 * the folder. Either the old or the new contents exist at any moment, also across a power cut. CX_E_CREATE or CX_E_IO; then nothing is left behind. */
cx_status cx_file_write(const char *path, const void *data, size_t n, cx_error *err);
/* Creates a folder and its parents; one that exists is fine. */
cx_status cx_mkdirs(const char *path, cx_error *err);
bool cx_file_exists(const char *path);
bool cx_is_dir(const char *path);
/* dir/name, or name alone when it is absolute or dir is empty. Owned by the caller; NULL when out of memory. */
char *cx_path_join(const char *dir, const char *name);
/* The folder part of a path, "." where there is none. Owned by the caller. */
char *cx_path_dir(const char *path);
const char *cx_path_base(const char *path);           /* points into path */
/* cxnet in the user's cache folder: $XDG_CACHE_HOME/cxnet, where that is an absolute path, or $HOME/.cache/cxnet. It need not exist. Owned by the caller; NULL
 * when neither names a folder, or out of memory. */
char *cx_cache_folder(void);

/* ---- CSV, RFC 4180: quoted fields, doubled quotes, CRLF or LF, an optional UTF-8 BOM, embedded newlines ------------- */

/* The length of the longest prefix of n bytes that is valid UTF-8 (n when all are): no overlong forms, no surrogates. */
size_t cx_utf8_valid(const void *bytes, size_t n);
typedef struct {
    char **cell;         /* [rows * columns], row 0 is the header; every string is NUL-terminated and valid UTF-8 */
    int rows, columns;   /* rows counts the header */
    int *line;           /* [rows] line of the file (from 1) where the row starts, for messages */
    char *text;          /* storage behind cell */
} cx_csv;
/* Parses text of n bytes; `name` stands in messages ("name:12: ..."). CX_E_DATA: a row with another number of fields than the
 * header, an open quote, text after a closing quote, a quote inside an unquoted field, a lone CR, a NUL byte, invalid UTF-8, an
 * empty file, a doubled or empty column name. Empty lines at the end of the file are no rows. out is zero after a failure. */
cx_status cx_csv_parse(const char *name, const char *text, size_t n, cx_csv *out, cx_error *err);
cx_status cx_csv_load(const char *path, cx_csv *out, cx_error *err);
int cx_csv_column(const cx_csv *csv, const char *name);                 /* -1 when absent */
static inline const char *cx_csv_at(const cx_csv *csv, int row, int column) { return csv->cell[(size_t)row * (size_t)csv->columns + (size_t)column]; }
void cx_csv_free(cx_csv *csv);
void cx_csv_put(cx_buf *b, const char *field, bool last);                /* quotes where needed, then ',' or '\n' */

/* ---- NumPy .npy ---------------------------------------------------------------------------------------------- */

/* Version 1.0, little-endian float32, C order. */
cx_status cx_npy_write(const char *path, const float *data, const int *dims, int nd, cx_error *err);
enum { CX_NPY_DIMS = 8 };
typedef struct { int nd; int64_t d[CX_NPY_DIMS], n; float *data; } cx_npy;         /* n numbers; free() data */
/* Versions 1.0 and 2.0, little-endian float32, float64 (rounded) or uint8, C order. CX_E_DATA: anything else, or a length that does not fit the shape;
 * CX_E_NOINPUT. *out is zero after a failure. */
cx_status cx_npy_read(const char *path, cx_npy *out, cx_error *err);

/* ---- randomness: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", sec. 3.3) ------------- */

/* Four words for (seed, stream, counter): key = seed (low word first), counter words = counter low, high, stream low, high. A pure function. */
void cx_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
/* A sequence of draws from one (seed, stream), starting at counter 0. Copyable; 4 draws per counter, words in order. */
typedef struct { uint64_t seed, stream, counter; uint32_t word[4]; int used; } cx_rng;
cx_rng cx_rng_new(uint64_t seed, uint64_t stream);
uint32_t cx_rng_u32(cx_rng *r);
double cx_rng_uniform(cx_rng *r);                     /* [0, 1), 24 bits: (u32 >> 8) / 2^24 */
uint32_t cx_rng_below(cx_rng *r, uint32_t n);         /* 0 .. n-1 without bias (rejection), n > 0 */
double cx_rng_normal(cx_rng *r);                      /* Box-Muller, one value per two draws */
void cx_rng_shuffle(cx_rng *r, int *a, int n);        /* Fisher-Yates, from the end */
uint64_t cx_hash(const char *s);                      /* FNV-1a 64 of a string: names to streams; not for security */

/* ---- SHA-256 (FIPS 180-4) ------------------------------------------------------------------------------------ */

typedef struct { uint32_t h[8]; uint64_t bytes; uint8_t block[64]; } cx_sha256;
void cx_sha256_init(cx_sha256 *s);
void cx_sha256_update(cx_sha256 *s, const void *data, size_t n);
void cx_sha256_hex(cx_sha256 *s, char out[65]);       /* finishes */
cx_status cx_sha256_file(const char *path, char out[65], cx_error *err);

/* ---- this process ------------------------------------------------------------------------------------------- */

double cx_now_s(void);                                /* monotonic seconds */
double cx_process_age_s(void);                        /* since the system started this process; 0 when it does not say */
size_t cx_peak_rss_bytes(void);                       /* largest resident set so far */
void cx_format_bytes(size_t bytes, char out[16]);     /* "1.55 GiB" */

/* One line on stderr, redrawn in place, and only when stderr is a terminal; silent otherwise. Zero-initialise. */
typedef struct { double last_s; bool drawn; } cx_progress;
void cx_progress_show(cx_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* at most 10 times a second */
void cx_progress_end(cx_progress *p);                 /* clears the line */
bool cx_use_colour(FILE *f);                          /* a terminal, and NO_COLOR is not set */

#ifdef __cplusplus
}
#endif
#endif
