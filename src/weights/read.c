/* read.c - anybody's weight file: told apart by content, parsed in the sandbox, and taken from there as safetensors. Depends on read.h, sandbox.h, sink.h. */
#include "read.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "sandbox.h"
#include "sink.h"

/* The first that says yes parses. safetensors come last: they have no signature. */
static const cx_parser parsers[] = {
    { cx_is_hdf5, cx_parse_hdf5 },
    { cx_is_torch, cx_parse_torch },
    { cx_is_keras_zip, cx_parse_keras_zip },
    { cx_is_safetensors, cx_parse_safetensors },
};

/* What a file of n bytes is given. Real files of 30 to 150 MB need about their own size for data (twice for float16) and once more for unpacking. Whatever a
 * file of up to 100 MB tries, file, data and the parser's memory stay below 1 GB together. */
enum { DATA_SPARE = 128 << 20, MEMORY_SPARE = 192 << 20, SECONDS = 9, CPU_SECONDS = 4, BYTES_A_SECOND = 16 << 20 };
static const size_t MOST_BYTES = (size_t)4 << 30;

#ifdef CX_SANITIZED
enum { PATIENCE = 6 };
#else
enum { PATIENCE = 1 };
#endif

static size_t with_half(size_t n)
{
    return n * 2 + n / 2;
}

/* ---- safetensors -------------------------------------------------------------------------------------------------------- */

bool cx_is_safetensors(const unsigned char *p, size_t n)
{
    uint64_t header = 0;
    for (int i = 7; i >= 0 && n > 8; i--)
        header = header << 8 | p[i];
    return n > 8 && p[8] == '{' && header >= 2 && header < (uint64_t)1 << 32;
}

static const cx_raw raw_of[] = {
    [CX_F32] = CX_RAW_F32, [CX_F64] = CX_RAW_F64, [CX_F16] = CX_RAW_F16, [CX_BF16] = CX_RAW_BF16, [CX_I64] = CX_RAW_I64, [CX_I32] = CX_RAW_I32,
    [CX_U8] = CX_RAW_U8, [CX_BOOL] = CX_RAW_BOOL,
};

/* The file's own "format" (a writer's "pt") becomes "source.format"; what else it says under names that we give is left out. */
static cx_status copy_meta(const cx_st_meta *m, cx_sink *s, cx_error *err)
{
    if (strcmp(m->key, "format") == 0)
        return cx_sink_meta_text(s, "source.format", m->value, err);
    return strncmp(m->key, "source.", 7) == 0 ? CX_OK : cx_sink_meta_text(s, m->key, m->value, err);
}

cx_status cx_parse_safetensors(const unsigned char *p, size_t n, cx_sink *s, cx_error *err)
{
    cx_st_file f;
    cx_status status = cx_st_parse("safetensors", p, n, &f, err);
    if (status != CX_OK)
        return status;
    status = cx_sink_meta_text(s, "format", "safetensors", err);
    for (int i = 0; status == CX_OK && i < f.n_meta; i++)
        status = copy_meta(&f.meta[i], s, err);
    for (int i = 0; status == CX_OK && i < f.n; i++) {
        const cx_st_tensor *t = &f.tensors[i];
        cx_raw_tensor raw = { .type = raw_of[t->dtype], .nd = t->nd, .data = t->data, .bytes = t->bytes };
        memcpy(raw.d, t->d, sizeof raw.d);
        status = cx_sink_add(s, t->name, &raw, err);
    }
    cx_st_free(&f);
    return status;
}

/* ---- what is none of these ----------------------------------------------------------------------------------------------- */

static bool begins(const unsigned char *p, size_t n, const char *with)
{
    return n >= strlen(with) && memcmp(p, with, strlen(with)) == 0;
}

static cx_status unknown(const unsigned char *p, size_t n, cx_error *err)
{
    static const char read[] = "want safetensors, Keras HDF5 (.h5, .weights.h5, .keras) or PyTorch (.pt, .pth)";
    if (n == 0)
        return cx_fail(err, CX_E_DATA, "is empty; fetch the file again");
    if (begins(p, n, "version https://git-lfs"))
        return cx_fail(err, CX_E_DATA, "is the pointer that git keeps in place of a large file, not the file; fetch it with `git lfs pull`");
    if (begins(p, n, "<") || begins(p, n, "\n<"))
        return cx_fail(err, CX_E_DATA, "is a web page, not weights; the download answered with a page: fetch the file itself");
    if (begins(p, n, "{") || begins(p, n, "[")) {
        json_error_t e;
        json_t *j = json_loadb((const char *)p, n, 0, &e);
        const bool shards = json_object_get(j, "weight_map") != NULL;
        json_decref(j);
        return shards ? cx_fail(err, CX_E_DATA, "is the list of a model's shards, which are read one by one only; load the model where it was made "
                                                "and save its weights as one file (Keras: model.save_weights(\"all.weights.h5\"))")
                      : cx_fail(err, CX_E_DATA, "is JSON, a description and no weights; %s", read);
    }
    return cx_fail(err, CX_E_DATA, "is no weight file that is read here: it begins with %02x %02x %02x %02x; %s", p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0,
        n > 3 ? p[3] : 0, read);
}

/* ---- both sides of the sandbox ------------------------------------------------------------------------------------------- */

typedef struct { size_t begin, bytes; } place;
typedef struct {
    const unsigned char *p; size_t n;
    const char *sha256;
    void *out; size_t cap;            /* shared */
    place *found;                     /* shared */
} job;

static cx_status fill(const job *j, cx_sink *s, cx_error *err)
{
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%zu", j->n);
    TRY(cx_sink_meta_text(s, "source.sha256", j->sha256, err));
    TRY(cx_sink_meta_text(s, "source.bytes", bytes, err));
    for (int i = 0; i < CX_COUNT(parsers); i++)
        if (parsers[i].is(j->p, j->n))
            return parsers[i].parse(j->p, j->n, s, err);
    return unknown(j->p, j->n, err);
}

/* In the child. */
static cx_status parse(void *self, cx_error *err)
{
    const job *j = self;
    cx_sink s = cx_sink_on(j->out, j->cap);
    TRY(fill(j, &s, err));
    if (s.n == 0)
        return cx_fail(err, CX_E_DATA, "holds no tensor");
    return cx_sink_finish(&s, &j->found->begin, &j->found->bytes, err);
}

/* In the parent: nothing that the child wrote is believed before cx_st_parse has seen it, and the identity of the source is what was counted here. */
static cx_status take(const char *name, const job *j, cx_st_file *out, cx_error *err)
{
    const place at = *j->found;
    if (at.begin > j->cap || at.bytes > j->cap - at.begin)
        return cx_fail(err, CX_E_DATA, "%s: its parser gave no sound answer", name);
    TRY(cx_st_parse(name, (const char *)j->out + at.begin, at.bytes, out, err));
    const char *sha256 = cx_st_meta_get(out, "source.sha256");
    if (sha256 && strcmp(sha256, j->sha256) == 0 && cx_st_meta_get(out, "format"))
        return CX_OK;
    cx_st_free(out);
    return cx_fail(err, CX_E_DATA, "%s: its parser gave no sound answer", name);
}

static cx_status run(const char *name, job *j, cx_st_file *out, cx_error *err)
{
    const unsigned more = (unsigned)(j->n / BYTES_A_SECOND);
    const cx_sandbox_limits limits = { MEMORY_SPARE + with_half(j->n), PATIENCE * (SECONDS + more), PATIENCE * (CPU_SECONDS + more) };
    if (!j->out || !j->found)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for what it holds", name);
    json_object_seed(0);              /* jansson would open a file for its seed, which it may not in the child */
    const cx_status s = cx_sandbox_run(parse, j, &limits, err);
    return s == CX_OK ? take(name, j, out, err) : cx_prefix(err, s, "%s", name);
}

cx_status cx_weights_parse(const char *name, const void *p, size_t n, cx_st_file *out, cx_error *err)
{
    char sha256[65];
    cx_sha256 hash;
    *out = (cx_st_file){ 0 };
    if (n > MOST_BYTES)
        return cx_fail(err, CX_E_DATA, "%s: is %zu bytes large, more than the %zu that are read here", name, n, MOST_BYTES);
    cx_sha256_init(&hash);
    cx_sha256_update(&hash, p, n);
    cx_sha256_hex(&hash, sha256);
    job j = { .p = p, .n = n, .sha256 = sha256, .cap = CX_SINK_HEADER + DATA_SPARE + with_half(n) };
    j.out = cx_sandbox_share(j.cap);
    j.found = cx_sandbox_share(sizeof *j.found);
    const cx_status s = run(name, &j, out, err);
    cx_sandbox_unshare(j.out, j.cap);
    cx_sandbox_unshare(j.found, sizeof *j.found);
    return s;
}

cx_status cx_weights_read(const char *path, cx_st_file *out, cx_error *err)
{
    cx_buf b = { 0 };
    *out = (cx_st_file){ 0 };
    cx_status s = cx_file_read(path, MOST_BYTES, &b, err);
    if (s == CX_OK)
        s = cx_weights_parse(path, b.data, b.len, out, err);
    cx_buf_free(&b);
    return s;
}
