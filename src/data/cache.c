/* cache.c - every film decoded once, as the preprocessing makes it, in one mapped file. Depends on pixels.h, OpenMP.
 *
 * The file: header | px [n, planes, side, side] | sum [n] | size [n, 2] | ok [n] | text of the bad films | notes on others. It is written under a
 * temporary name, header last, and renamed when complete. Nothing in it is trusted before its size, the checksum of header and tables, and the checksum of
 * every film have been verified; otherwise it is made anew. */
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pixels.h"

enum { CACHE_VERSION = 3 };       /* of this layout and of what decoding and preprocessing make: raise it when the pixels change */
enum { CHUNK = 16 };              /* films that are decoded before their lungs are looked for */

typedef struct {
    char magic[8];
    uint32_t version, side;
    uint64_t n, text_bytes, note_bytes;
    char key[64];
    uint64_t sum;                 /* of this header with sum = 0, then the tables */
    uint32_t planes;
    uint8_t pad[140];
} header;
_Static_assert(sizeof(header) == 256, "films start at a multiple of 64 bytes");

struct cx_cache {
    int n, side, planes;
    uint8_t *px, *ok;
    uint64_t *sum;                /* of each film */
    uint32_t (*size)[2];          /* width and height of each film as it was decoded, px; 0 where it was not */
    uint8_t *map; size_t map_bytes;      /* NULL: px, ok, sum, size are allocated */
};

/* 64-bit words in two lanes; for damage, not for malice. */
static uint64_t checksum(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t a = h ^ 0x9E3779B97F4A7C15u, b = n;
    for (; n >= 16; n -= 16, p += 16) {
        uint64_t w[2];
        memcpy(w, p, 16);
        a = (a ^ w[0]) * 0xD6E8FEB86659FD93u;
        b = (b ^ w[1]) * 0xA0761D6478BD642Fu;
        a ^= a >> 32;
        b ^= b >> 32;
    }
    for (; n; n--)
        a = (a ^ *p++) * 0x100000001B3u;
    a = (a ^ (b << 31 | b >> 33)) * 0xD6E8FEB86659FD93u;
    return a ^ a >> 32;
}

static size_t film_bytes(const cx_cache *c)
{
    return (size_t)c->planes * (size_t)c->side * (size_t)c->side;
}

/* Offsets of the tables, for a cache whose px begins at byte `px`. */
static size_t sum_at(const cx_cache *c)
{
    return sizeof(header) + ((size_t)c->n * film_bytes(c) + 63) / 64 * 64;
}

static size_t text_at(const cx_cache *c)
{
    return sum_at(c) + (size_t)c->n * (sizeof *c->sum + sizeof *c->size + 1);
}

static uint64_t head_sum(const header *head, const void *tables, size_t n)
{
    header h = *head;
    h.sum = 0;
    return checksum(checksum(0, &h, sizeof h), tables, n);
}

static void place(cx_cache *c, uint8_t *map, size_t map_bytes)
{
    c->map = map;
    c->map_bytes = map_bytes;
    c->px = map + sizeof(header);
    c->sum = (uint64_t *)(void *)(map + sum_at(c));
    c->size = (uint32_t (*)[2])(void *)(c->sum + c->n);
    c->ok = (uint8_t *)(c->size + c->n);
}

/* SHA-256 of all that the pixels depend on, as hexadecimal. A film that cannot be examined counts as such: it is bad now, and another key later. */
static cx_status key_of(const cx_manifest *m, const int *index, int n, const cx_pipeline *p, char key[65], cx_error *err)
{
    cx_sha256 sha;
    const char *made = cx_pipeline_identity(p);
    cx_sha256_init(&sha);
    int64_t head[] = { CACHE_VERSION, n };
    cx_sha256_update(&sha, head, sizeof head);
    cx_sha256_update(&sha, made, strlen(made) + 1);
    for (int i = 0; i < n; i++) {
        if (index[i] < 0 || index[i] >= m->n)
            return cx_fail(err, CX_E_USAGE, "cache: sample %d of a manifest of %d", index[i], m->n);
        char *path = cx_sample_path(m, index[i]);
        if (!path)
            return cx_fail(err, CX_E_MEMORY, "cache: no memory for a path");
        struct stat st = { 0 };
        bool there = stat(path, &st) == 0;
        int64_t facts[] = { there, (int64_t)st.st_size, (int64_t)st.st_mtim.tv_sec, (int64_t)st.st_mtim.tv_nsec };
        cx_sha256_update(&sha, path, strlen(path) + 1);
        cx_sha256_update(&sha, facts, sizeof facts);
        free(path);
    }
    cx_sha256_hex(&sha, key);
    return CX_OK;
}

/* ---- decoding ------------------------------------------------------------------------------------------------------------------- */

/* The texts that come with the films. */
typedef struct { cx_buf bad, note; } texts;

typedef struct {
    const cx_manifest *m;
    const int *index;
    const cx_pipeline *p;
    cx_cache *c;
    char **reason, **note;    /* [n] why a film is bad, what was left undone; NULL where there is nothing to say */
    cx_error fatal;           /* memory, or the lungs: ends the pass */
    cx_progress progress;
    int done;
} decoding;

static bool is_over(const decoding *d) { return d->fatal.status != CX_OK || (d->m->stop && *d->m->stop); }

static void end_with(decoding *d, const cx_error *e)
{
    #pragma omp critical(cx_cache_fatal)
    d->fatal = *e;
}

static cx_status load(const decoding *d, int i, cx_film *film, cx_error *err)
{
    char *path = cx_sample_path(d->m, d->index[i]);
    const cx_status s = path ? cx_film_load(path, film, err) : cx_fail(err, CX_E_MEMORY, "cache: no memory for a path");
    free(path);
    return s;
}

static cx_status preprocess(decoding *d, int i, const cx_film *film, const uint8_t *mask, cx_error *err)
{
    cx_picture at;
    const char *path = d->m->samples[d->index[i]].path;
    d->c->size[i][0] = (uint32_t)film->width;
    d->c->size[i][1] = (uint32_t)film->height;
    TRY(cx_prefix(err, cx_pipeline_apply(d->p, film, mask, cx_pipeline_stages(d->p), &at, err), "%s", path));
    memcpy(d->c->px + (size_t)i * film_bytes(d->c), at.px, film_bytes(d->c));
    if (*at.note && !(d->note[i] = cx_sprintf("%s: %s", path, at.note)))
        cx_fail(err, CX_E_MEMORY, "cache: no memory for a note");
    cx_picture_free(&at);
    return err->status;
}

/* Film i is done, with status s: its picture or its reason is kept. */
static void settle(decoding *d, int i, cx_status s, cx_error *e)
{
    int now;
    d->c->ok[i] = s == CX_OK;
    d->c->sum[i] = checksum(0, d->c->px + (size_t)i * film_bytes(d->c), film_bytes(d->c));
    if (s != CX_OK && !(d->reason[i] = cx_strdup(e->text)))
        s = cx_fail(e, CX_E_MEMORY, "cache: no memory for a message");
    if (s == CX_E_MEMORY)
        end_with(d, e);
    #pragma omp atomic capture
    now = ++d->done;
    if (omp_get_thread_num() == 0)
        cx_progress_show(&d->progress, "decoding films: %d of %d", now, d->c->n);
}

static void decode_each(decoding *d)
{
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < d->c->n; i++) {
        cx_error e = { 0 };
        cx_film film = { 0 };
        if (d->m->stop && *d->m->stop)
            continue;
        cx_status s = load(d, i, &film, &e);
        if (s == CX_OK)
            s = preprocess(d, i, &film, NULL, &e);
        cx_film_free(&film);
        settle(d, i, s, &e);
    }
}

/* Films from .. to: all are decoded, then their lungs are looked for at once, by whoever may use all cores for it, then all are preprocessed. */
static void decode_with_lungs(decoding *d, int from, int to)
{
    cx_film film[CHUNK] = { { 0 } };
    cx_error why[CHUNK] = { { 0 } }, e = { 0 };
    const cx_film *whole[CHUNK];
    uint8_t *mask[CHUNK];
    int at[CHUNK], n = 0;
    #pragma omp parallel for schedule(dynamic)
    for (int i = from; i < to; i++)
        load(d, i, &film[i - from], &why[i - from]);
    for (int i = from; i < to; i++)
        if (why[i - from].status == CX_OK) {
            whole[n] = &film[i - from];
            at[n++] = i;
        } else {
            settle(d, i, why[i - from].status, &why[i - from]);
        }
    if (cx_pipeline_masks(d->p, whole, n, mask, &e) != CX_OK) {
        end_with(d, &e);
        n = 0;
    }
    #pragma omp parallel for schedule(dynamic)
    for (int k = 0; k < n; k++) {
        cx_error *error = &why[at[k] - from];
        settle(d, at[k], preprocess(d, at[k], whole[k], mask[k], error), error);
        free(mask[k]);
    }
    for (int i = from; i < to; i++)
        cx_film_free(&film[i - from]);
}

static void gather(char **line, int n, cx_buf *text)
{
    for (int i = 0; line && i < n; i++) {
        if (line[i])
            cx_buf_printf(text, "%s\n", line[i]);
        free(line[i]);
    }
    free(line);
}

/* Fills px, ok, sum, size; the reason of each bad film and the notes go to text, in order. Running out of memory, lungs that fail and m->stop end it. */
static cx_status decode_all(const cx_manifest *m, const int *index, const cx_pipeline *p, cx_cache *c, texts *text, cx_error *err)
{
    decoding d = { .m = m, .index = index, .p = p, .c = c };
    d.reason = cx_alloc((size_t)c->n, sizeof *d.reason);
    d.note = cx_alloc((size_t)c->n, sizeof *d.note);
    const bool ready = d.reason && d.note;
    if (ready && cx_pipeline_wants_lungs(p))
        for (int from = 0; from < c->n && !is_over(&d); from += CHUNK)
            decode_with_lungs(&d, from, from + CHUNK < c->n ? from + CHUNK : c->n);
    else if (ready)
        decode_each(&d);
    cx_progress_end(&d.progress);
    gather(d.reason, c->n, &text->bad);
    gather(d.note, c->n, &text->note);
    if (!ready)
        return cx_fail(err, CX_E_MEMORY, "cache: no memory for %d films", c->n);
    if (d.fatal.status == CX_OK && m->stop && *m->stop)
        return cx_fail(err, CX_E_INTERRUPTED, "%s: interrupted while its films were decoded", m->path);
    if (d.fatal.status != CX_OK && err)
        *err = d.fatal;
    return d.fatal.status;
}

/* ---- the file --------------------------------------------------------------------------------------------------------------------- */

/* Is the mapped file whole and ours? Every byte that will be used is under a checksum. */
static bool verify(const cx_cache *c, const char *key)
{
    const header *h = (const header *)(const void *)c->map;
    if (memcmp(h->magic, "CXCACHE", 8) != 0 || h->version != CACHE_VERSION || h->side != (uint32_t)c->side || h->planes != (uint32_t)c->planes ||
        h->n != (uint64_t)c->n || memcmp(h->key, key, 64) != 0 || h->note_bytes > c->map_bytes - text_at(c) ||
        h->text_bytes + h->note_bytes != c->map_bytes - text_at(c) || h->sum != head_sum(h, c->map + sum_at(c), c->map_bytes - sum_at(c)))
        return false;
    int damaged = 0;
    #pragma omp parallel for schedule(static) reduction(+ : damaged)
    for (int i = 0; i < c->n; i++)
        damaged += c->sum[i] != checksum(0, c->px + (size_t)i * film_bytes(c), film_bytes(c));
    return damaged == 0;
}

/* Maps an existing file; false when it is not there or not to be trusted. */
static bool map_existing(const char *path, const char *key, cx_cache *c, texts *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return false;
    void *map = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size >= text_at(c) ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)
                                                                                              : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return false;
    place(c, map, (size_t)st.st_size);
    if (verify(c, key)) {
        const size_t note = ((const header *)(const void *)c->map)->note_bytes, bad = c->map_bytes - text_at(c) - note;
        cx_buf_put(&text->bad, c->map + text_at(c), bad);
        cx_buf_put(&text->note, c->map + text_at(c) + bad, note);
        return true;
    }
    munmap(map, c->map_bytes);
    c->map = NULL;
    return false;
}

static cx_status write_all(int fd, const void *data, size_t n, size_t at, const char *path, cx_error *err)
{
    const uint8_t *p = data;
    while (n) {
        ssize_t k = pwrite(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return cx_fail(err, CX_E_IO, "%s: cannot be written: %s; free space or choose another folder (data.cache)", path, strerror(errno));
        p += k;
        at += (size_t)k;
        n -= (size_t)k;
    }
    return CX_OK;
}

/* Decodes into the open temporary file. Its blocks are reserved first: a full disk is an error here, not a bus error later. */
static cx_status fill_file(int fd, const char *path, const cx_manifest *m, const int *index, const cx_pipeline *p, const char *key, cx_cache *c, texts *text,
                           cx_error *err)
{
    int full = posix_fallocate(fd, 0, (off_t)text_at(c));
    if (full == EOPNOTSUPP || full == EINVAL)
        full = ftruncate(fd, (off_t)text_at(c)) == 0 ? 0 : errno;
    if (full)
        return cx_fail(err, CX_E_IO, "%s: no room for %zu MiB of decoded films: %s; free space or choose another folder (data.cache)", path, text_at(c) >> 20,
                       strerror(full));
    void *map = mmap(NULL, text_at(c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return cx_fail(err, CX_E_MEMORY, "%s: cannot be mapped: %s", path, strerror(errno));
    place(c, map, text_at(c));
    TRY(decode_all(m, index, p, c, text, err));
    if (text->bad.failed || text->note.failed)
        return cx_fail(err, CX_E_MEMORY, "cache: no memory for the messages of bad films");
    header h = { .magic = "CXCACHE", .version = CACHE_VERSION, .side = (uint32_t)c->side, .n = (uint64_t)c->n, .text_bytes = text->bad.len,
                 .note_bytes = text->note.len, .planes = (uint32_t)c->planes };
    memcpy(h.key, key, 64);
    cx_buf tables = { 0 };
    cx_buf_put(&tables, c->map + sum_at(c), text_at(c) - sum_at(c));
    const size_t texts_at = tables.len;
    cx_buf_put(&tables, text->bad.data, text->bad.len);
    cx_buf_put(&tables, text->note.data, text->note.len);
    cx_status s = tables.failed ? cx_fail(err, CX_E_MEMORY, "cache: no memory for its tables") : CX_OK;
    h.sum = s == CX_OK ? head_sum(&h, tables.data, tables.len) : 0;
    if (s == CX_OK)
        s = write_all(fd, tables.data + texts_at, tables.len - texts_at, text_at(c), path, err);
    cx_buf_free(&tables);
    if (s == CX_OK)
        s = write_all(fd, &h, sizeof h, 0, path, err);
    if (s == CX_OK && fsync(fd) != 0)
        s = cx_fail(err, CX_E_IO, "%s: cannot be written: %s; free space or choose another folder (data.cache)", path, strerror(errno));
    return s;
}

static cx_status build_file(const char *path, const cx_manifest *m, const int *index, const cx_pipeline *p, const char *key, cx_cache *c, texts *text,
                            cx_error *err)
{
    char *temporary = cx_sprintf("%s.XXXXXX", path);
    if (!temporary)
        return cx_fail(err, CX_E_MEMORY, "cache: no memory for a path");
    int fd = mkostemp(temporary, O_CLOEXEC);
    cx_status s = fd < 0 ? cx_fail(err, CX_E_CREATE, "%s: cannot be created: %s; choose another folder (data.cache)", temporary, strerror(errno))
                         : fill_file(fd, temporary, m, index, p, key, c, text, err);
    if (s == CX_OK && rename(temporary, path) != 0)
        s = cx_fail(err, CX_E_CREATE, "%s: cannot be created: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
        if (s != CX_OK)
            unlink(temporary);
    }
    free(temporary);
    if (c->map)
        mprotect(c->map, c->map_bytes, PROT_READ);
    return s;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------ */

static cx_cache *new_cache(int n, int side, int planes, bool in_memory)
{
    cx_cache *c = cx_alloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->n = n;
    c->side = side;
    c->planes = planes;
    if (in_memory) {
        c->px = cx_alloc_aligned((size_t)n + 1, film_bytes(c));
        c->ok = cx_alloc((size_t)n, 1);
        c->sum = cx_alloc((size_t)n, sizeof *c->sum);
        c->size = cx_alloc((size_t)n, sizeof *c->size);
        if (!c->px || !c->ok || !c->sum || !c->size) {
            cx_cache_close(c);
            return NULL;
        }
        memset(c->px, 0, (size_t)n * film_bytes(c));
    }
    return c;
}

static cx_status open_in(const char *dir, const cx_manifest *m, const int *index, const cx_pipeline *p, cx_cache *c, texts *text, cx_error *err)
{
    char key[65];
    if (!dir)
        return decode_all(m, index, p, c, text, err);
    TRY(key_of(m, index, c->n, p, key, err));
    char *name = cx_sprintf("%s.films", key), *path = name ? cx_path_join(dir, name) : NULL;
    cx_status s = path ? CX_OK : cx_fail(err, CX_E_MEMORY, "cache: no memory for a path");
    if (s == CX_OK && !map_existing(path, key, c, text)) {
        s = cx_mkdirs(dir, err);
        s = s == CX_OK ? build_file(path, m, index, p, key, c, text, err) : cx_prefix(err, s, "the cache of decoded films needs another folder (data.cache)");
    }
    free(name);
    free(path);
    return s;
}

cx_status cx_cache_open(const cx_manifest *m, const int *index, int n, const cx_pipeline *p, const char *dir, int max_bad, cx_buf *bad, cx_buf *notes,
                        cx_cache **out, cx_error *err)
{
    texts text = { { 0 }, { 0 } };
    const int side = cx_pipeline_side(p);
    *out = NULL;
    if (n < 0 || !cx_pipeline_identity(p))
        return cx_fail(err, CX_E_USAGE, "cache: %d films of a pipeline that is%s open", n, cx_pipeline_identity(p) ? "" : " not");
    cx_cache *c = new_cache(n, side, cx_pipeline_planes(p), !dir);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "cache: no memory for %d films of %d px a side; name a folder for it (data.cache)", n, side);
    cx_status s = open_in(dir, m, index, p, c, &text, err);
    int failed = 0;
    for (int i = 0; s == CX_OK && i < n; i++)
        failed += !c->ok[i];
    if (bad && text.bad.len)
        cx_buf_put(bad, text.bad.data, text.bad.len);
    if (notes && text.note.len)
        cx_buf_put(notes, text.note.data, text.note.len);
    if (s == CX_OK && failed > max_bad)
        s = cx_fail(err, CX_E_DATA, "%d of %d films cannot be decoded, more than data.max_bad = %d; mend or leave them out, or raise it. The first: %.*s",
                    failed, n, max_bad, (int)strcspn(text.bad.data, "\n"), text.bad.data);
    cx_buf_free(&text.bad);
    cx_buf_free(&text.note);
    if (s != CX_OK)
        cx_cache_close(c);
    else
        *out = c;
    return s;
}

cx_status cx_cache_from_memory(const uint8_t *px, int n, int side, int planes, cx_cache **out, cx_error *err)
{
    *out = NULL;
    if (n < 0 || side < 1 || side > CX_CACHE_SIDE_MAX || planes < 1 || planes > 3)
        return cx_fail(err, CX_E_USAGE, "cache: %d films of %d px a side in %d planes; wanted 1 to %d px, 1 to 3 planes", n, side, planes, CX_CACHE_SIDE_MAX);
    cx_cache *c = new_cache(n, side, planes, true);
    if (!c)
        return cx_fail(err, CX_E_MEMORY, "cache: no memory for %d films of %d px a side", n, side);
    memcpy(c->px, px, (size_t)n * film_bytes(c));
    memset(c->ok, 1, (size_t)n);
    for (int i = 0; i < n; i++) {
        c->sum[i] = checksum(0, c->px + (size_t)i * film_bytes(c), film_bytes(c));
        c->size[i][0] = c->size[i][1] = (uint32_t)side;
    }
    *out = c;
    return CX_OK;
}

void cx_cache_close(cx_cache *c)
{
    if (!c)
        return;
    if (c->map) {
        munmap(c->map, c->map_bytes);
    } else {
        free(c->px);
        free(c->ok);
        free(c->sum);
        free(c->size);
    }
    free(c);
}

int cx_cache_count(const cx_cache *c)
{
    return c->n;
}

int cx_cache_side(const cx_cache *c)
{
    return c->side;
}

int cx_cache_planes(const cx_cache *c)
{
    return c->planes;
}

const uint8_t *cx_cache_film(const cx_cache *c, int i)
{
    return c->px + (size_t)i * film_bytes(c);
}

bool cx_cache_ok(const cx_cache *c, int i)
{
    return c->ok[i];
}

void cx_cache_film_size(const cx_cache *c, int i, int *width, int *height)
{
    *width = (int)c->size[i][0];
    *height = (int)c->size[i][1];
}

uint64_t cx_cache_sum(const cx_cache *c, int i)
{
    return c->sum[i];
}
