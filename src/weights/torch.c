/* torch.c - tensors of PyTorch's files: the zip that torch.save writes since 1.6 and the chain of pickles before it. Depends on read.h, zip.h, pickle.h.
 *
 * A file is a pickle whose tensors are calls of torch._utils._rebuild_tensor_v2 (a view: storage, offset, sizes, strides) and whose storages are named by
 * persistent ids. Only the state dictionary is read; what lies beside it (optimisers, epochs) is walked over by pickle.c and left.
 * Sources: torch/serialization.py (_save, _legacy_save, _legacy_load), torch/_utils.py. */
#include "read.h"
#include "torch.h"
#include "zip.h"
#include <stdlib.h>
#include <string.h>

/* ---- storages -------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *key; int key_n;                 /* digits */
    const cx_torch_number *type;
    uint64_t bytes;
    const unsigned char *data;                  /* NULL: not looked up yet */
    void *owned;
} storage;

typedef struct {
    cx_pickle pickle;
    storage *storages; size_t n_storages;       /* by key */
    const cx_zip *zip; char *root;              /* of a zip: members are called ROOT/data/KEY */
    size_t room;                                /* of a zip: what may still be unpacked */
    bool big_endian;
    cx_sink *sink;
    cx_error *err;
} reader;

enum { MAX_PICKLE = 32 << 20, KEY_DIGITS = 20, MAX_LEVELS = 3 };

#define REFUSE(...) return cx_fail(r->err, CX_E_DATA, __VA_ARGS__)

static const cx_pk_node *item(const reader *r, const cx_pk_node *of, uint32_t i)
{
    return cx_pk_item(&r->pickle, of, i);
}

static int what_of(const cx_pk_global *g)
{
    return g ? g->what & 0xff : CX_TORCH_OTHER;
}

/* ('storage', class, key, location, how many, [None]) */
static cx_status read_storage(reader *r, const cx_pk_node *persistent, storage *out)
{
    const cx_pk_node *id = item(r, persistent, 0);
    if (id->kind != CX_PK_TUPLE || id->n < 5 || id->n > 6 || !cx_pk_is_text(item(r, id, 0), "storage"))
        REFUSE("a storage is not described as PyTorch does");
    const cx_pk_node *type = item(r, id, 1), *key = item(r, id, 2), *count = item(r, id, 4);
    const cx_pk_global *g = type->kind == CX_PK_GLOBAL ? &cx_torch_known[type->i] : NULL;
    if (what_of(g) != CX_TORCH_STORAGE)
        REFUSE("a storage is of %s%s%s, want a class like torch.FloatStorage", g ? g->module : cx_pk_kind_name(type), g ? "." : "", g ? g->name : "");
    if (key->kind != CX_PK_TEXT || key->n == 0 || key->n > KEY_DIGITS || strspn(key->text, "0123456789") < key->n)
        REFUSE("a storage's key is no number");
    if (count->kind != CX_PK_INT || count->i < 0)
        REFUSE("storage %.*s: its length is no whole number >= 0", (int)key->n, key->text);
    if (id->n == 6 && item(r, id, 5)->kind != CX_PK_NONE)
        REFUSE("storage %.*s: is a view of another one, as PyTorch before 0.4 wrote; load it with PyTorch and save it again", (int)key->n, key->text);
    *out = (storage){ .key = key->text, .key_n = (int)key->n, .type = &cx_torch_numbers[g->what >> 8] };
    if (__builtin_mul_overflow((uint64_t)count->i, (uint64_t)out->type->bytes, &out->bytes))
        REFUSE("storage %.*s: too large to count", (int)key->n, key->text);
    return CX_OK;
}

static int by_key(const void *pa, const void *pb)
{
    const storage *a = pa, *b = pb;
    return a->key_n != b->key_n ? (a->key_n < b->key_n ? -1 : 1) : memcmp(a->key, b->key, (size_t)a->key_n);
}

/* All storages that the pickle names, each once. */
static cx_status collect_storages(reader *r)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < r->pickle.n; i++)
        n += r->pickle.nodes[i].kind == CX_PK_PERSISTENT;
    r->storages = cx_alloc(n, sizeof *r->storages);
    if (!r->storages)
        return cx_fail(r->err, CX_E_MEMORY, "no memory for %zu storages", n);
    for (size_t i = 0; i < r->pickle.n; i++)
        if (r->pickle.nodes[i].kind == CX_PK_PERSISTENT)
            TRY(read_storage(r, &r->pickle.nodes[i], &r->storages[r->n_storages++]));
    qsort(r->storages, n, sizeof *r->storages, by_key);
    for (size_t i = 0; i < n; i++) {
        const storage s = r->storages[i];
        if (kept == 0 || by_key(&r->storages[kept - 1], &s) != 0)
            r->storages[kept++] = s;
        else if (r->storages[kept - 1].type != s.type || r->storages[kept - 1].bytes != s.bytes)
            REFUSE("storage %.*s: is described in two ways", s.key_n, s.key);
    }
    r->n_storages = kept;
    return CX_OK;
}

static storage *find_storage(reader *r, const char *key, size_t key_n)
{
    const storage wanted = { .key = key, .key_n = (int)key_n };
    return bsearch(&wanted, r->storages, r->n_storages, sizeof *r->storages, by_key);
}

/* Bytes of a storage in a zip. Unpacked or checked once, however many tensors share it. */
static cx_status load_storage(reader *r, storage *s)
{
    const unsigned char *data = NULL;
    if (s->data)
        return CX_OK;
    char *name = cx_sprintf("%s/data/%.*s", r->root, s->key_n, s->key);
    if (!name)
        return cx_fail(r->err, CX_E_MEMORY, "no memory for a name");
    const cx_zip_member *m = cx_zip_find(r->zip, name);
    free(name);
    if (!m)
        REFUSE("storage %.*s: is not in the file", s->key_n, s->key);
    if (m->bytes != s->bytes)
        REFUSE("storage %.*s: holds %llu bytes, its description wants %llu", s->key_n, s->key, (unsigned long long)m->bytes, (unsigned long long)s->bytes);
    TRY(cx_zip_get(r->zip, m, m->deflated ? r->room : SIZE_MAX, &data, &s->owned, r->err));
    if (s->owned)
        r->room -= s->bytes;
    s->data = data;
    return CX_OK;
}

/* ---- one tensor -------------------------------------------------------------------------------------------------------------- */

static bool is_tensor(const reader *r, const cx_pk_node *node)
{
    const int what = what_of(cx_pk_callee(&r->pickle, node));
    return what >= CX_TORCH_V1 && what <= CX_TORCH_PARAMETER;
}

/* A tuple of whole numbers >= 0, or torch.Size of one. */
static cx_status read_numbers(reader *r, const cx_pk_node *node, const char *of, int64_t *d, int *n)
{
    if (what_of(cx_pk_callee(&r->pickle, node)) == CX_TORCH_SIZE && item(r, node, 1)->n == 1)
        node = item(r, item(r, node, 1), 0);
    if (node->kind != CX_PK_TUPLE)
        REFUSE("its %s is %s, want a tuple", of, cx_pk_kind_name(node));
    if (node->n > CX_ST_DIMS)
        REFUSE("has %u dimensions; at most %d are read", node->n, CX_ST_DIMS);
    *n = (int)node->n;
    for (uint32_t i = 0; i < node->n; i++) {
        const cx_pk_node *v = item(r, node, i);
        if (v->kind != CX_PK_INT)
            REFUSE("its %s[%u] is %s, want a whole number", of, i, cx_pk_kind_name(v));
        if (v->i < 0)
            REFUSE("its %s[%u] is %lld, want one >= 0", of, i, (long long)v->i);
        d[i] = v->i;
    }
    return CX_OK;
}

/* Views whose numbers are to be conjugated or negated when read. */
static cx_status check_metadata(reader *r, const cx_pk_node *node)
{
    if (node->kind == CX_PK_NONE)
        return CX_OK;
    if (node->kind != CX_PK_DICT)
        REFUSE("its metadata is %s", cx_pk_kind_name(node));
    for (uint32_t i = 1; i < node->n; i += 2)
        if (item(r, node, i)->kind != CX_PK_BOOL || item(r, node, i)->i)
            REFUSE("is a view with a pending negation or conjugation; save x.resolve_neg().resolve_conj()");
    return CX_OK;
}

/* The type of a tensor's numbers: its storage's, or what _rebuild_tensor_v3 says of untyped bytes. */
static cx_status tensor_type(reader *r, const cx_pk_node *args, bool says_type, const cx_torch_number *stored, const cx_torch_number **out)
{
    *out = stored;
    if (says_type) {
        const cx_pk_node *type = item(r, args, 6);
        if (type->kind != CX_PK_GLOBAL || what_of(&cx_torch_known[type->i]) != CX_TORCH_DTYPE)
            REFUSE("its type is %s, want one like torch.float32", cx_pk_kind_name(type));
        *out = &cx_torch_numbers[cx_torch_known[type->i].what >> 8];
    }
    if (says_type != (stored == &cx_torch_numbers[CX_TORCH_UNTYPED]))
        REFUSE("its storage holds %s numbers, which do not fit to how it is rebuilt", stored->name);
    if ((*out)->raw < 0)
        REFUSE("holds %s numbers, which are not read", (*out)->name);
    return CX_OK;
}

static cx_status read_tensor(reader *r, const cx_pk_node *call, cx_raw_tensor *t, int64_t *stride)
{
    static const struct { uint32_t least, most; } arguments[] = { [CX_TORCH_V1] = { 4, 4 }, [CX_TORCH_V2] = { 6, 7 }, [CX_TORCH_V3] = { 7, 8 } };
    const int what = what_of(cx_pk_callee(&r->pickle, call));
    const cx_pk_node *args = item(r, call, 1);
    int n_strides = 0;
    const cx_torch_number *type = NULL;
    storage wanted, *s;
    if (args->n < arguments[what].least || args->n > arguments[what].most)
        REFUSE("is rebuilt from %u arguments, want %u", args->n, arguments[what].least);
    if (item(r, args, 0)->kind != CX_PK_PERSISTENT)
        REFUSE("its storage is %s", cx_pk_kind_name(item(r, args, 0)));
    TRY(read_storage(r, item(r, args, 0), &wanted));
    TRY(tensor_type(r, args, what == CX_TORCH_V3, wanted.type, &type));
    if (args->n == arguments[what].most && what != CX_TORCH_V1)
        TRY(check_metadata(r, item(r, args, args->n - 1)));
    TRY(read_numbers(r, item(r, args, 2), "size", t->d, &t->nd));
    TRY(read_numbers(r, item(r, args, 3), "stride", stride, &n_strides));
    if (n_strides != t->nd)
        REFUSE("has %d sizes and %d strides", t->nd, n_strides);
    const cx_pk_node *offset = item(r, args, 1);
    const uint64_t bytes = (uint64_t)type->bytes;
    if (offset->kind != CX_PK_INT || offset->i < 0)
        REFUSE("its offset is no whole number >= 0");
    if ((uint64_t)offset->i > wanted.bytes / bytes)
        REFUSE("begins at number %lld of a storage of %llu", (long long)offset->i, (unsigned long long)(wanted.bytes / bytes));
    if (!(s = find_storage(r, wanted.key, (size_t)wanted.key_n)))
        return cx_fail(r->err, CX_E_INTERNAL, "storage %.*s was not collected", wanted.key_n, wanted.key);
    if (r->zip)
        TRY(load_storage(r, s));
    if (!s->data)
        REFUSE("storage %.*s: is not in the file", s->key_n, s->key);
    t->type = (cx_raw)type->raw;
    t->big_endian = r->big_endian;
    t->stride = stride;
    t->data = s->data + (uint64_t)offset->i * bytes;
    t->bytes = s->bytes - (uint64_t)offset->i * bytes;
    return CX_OK;
}

static cx_status add_tensor(reader *r, const char *name, const cx_pk_node *node)
{
    int64_t stride[CX_ST_DIMS] = { 0 };
    cx_raw_tensor t = { 0 };
    cx_status s = CX_OK;
    if (what_of(cx_pk_callee(&r->pickle, node)) == CX_TORCH_PARAMETER) {
        const cx_pk_node *args = item(r, node, 1);
        const int inner = args->n ? what_of(cx_pk_callee(&r->pickle, item(r, args, 0))) : CX_TORCH_OTHER;
        if (inner != CX_TORCH_V1 && inner != CX_TORCH_V2 && inner != CX_TORCH_V3)
            REFUSE("tensor '%s': is a parameter without a tensor", name);
        node = item(r, args, 0);
    }
    s = read_tensor(r, node, &t, stride);
    if (s != CX_OK)
        return cx_prefix(r->err, s, "tensor '%s'", name);
    return cx_sink_add(r->sink, name, &t, r->err);
}

/* ---- the state dictionary ------------------------------------------------------------------------------------------------------ */

static const char *const containers[] = { "state_dict", "model_state_dict", "model", "net" };

/* The value of a key; NULL when absent. *times: how often it is there. */
static const cx_pk_node *lookup(const reader *r, const cx_pk_node *dict, const char *key, int *times)
{
    const cx_pk_node *value = NULL;
    *times = 0;
    for (uint32_t i = 0; i + 1 < dict->n; i += 2)
        if (cx_pk_is_text(item(r, dict, i), key) && (*times)++ == 0)
            value = item(r, dict, i + 1);
    return value;
}

static bool has_tensors(const reader *r, const cx_pk_node *dict)
{
    for (uint32_t i = 1; i < dict->n; i += 2)
        if (is_tensor(r, item(r, dict, i)))
            return true;
    return false;
}

/* Is this a state dictionary, or does one lie in it at a known place, at most `levels` below? */
static bool leads_to_tensors(const reader *r, const cx_pk_node *node, int levels)
{
    int times;
    if (node->kind != CX_PK_DICT)
        return false;
    if (has_tensors(r, node))
        return true;
    for (int i = 0; levels > 0 && i < CX_COUNT(containers); i++) {
        const cx_pk_node *inner = lookup(r, node, containers[i], &times);
        if (inner && leads_to_tensors(r, inner, levels - 1))
            return true;
    }
    return false;
}

static cx_status refuse_root(reader *r, const cx_pk_node *node)
{
    cx_buf keys = { 0 };
    if (node->kind != CX_PK_DICT)
        REFUSE("holds %s, want a state dictionary; save model.state_dict()", is_tensor(r, node) ? "a single tensor" : cx_pk_kind_name(node));
    for (uint32_t i = 0; i < node->n && i < 12; i += 2) {
        const cx_pk_node *key = item(r, node, i);
        const int n = key->kind == CX_PK_TEXT ? (int)(key->n < 40 ? key->n : 40) : 0;
        cx_buf_printf(&keys, "%s'%.*s'", i ? ", " : "", n, n ? key->text : "");
    }
    const cx_status s = cx_fail(r->err, CX_E_DATA, "no tensors at its top, nor under 'state_dict', 'model_state_dict', 'model' or 'net'; it holds %s;"
        " save model.state_dict()", keys.data && keys.len ? keys.data : "nothing");
    cx_buf_free(&keys);
    return s;
}

/* Goes down to the state dictionary. path: "state_dict", "model/net", or "top". */
static cx_status find_state(reader *r, const cx_pk_node **state, cx_buf *path)
{
    const cx_pk_node *node = cx_pk_at(&r->pickle, r->pickle.root);
    for (int level = 0; level < MAX_LEVELS && node->kind == CX_PK_DICT; level++) {
        const cx_pk_node *next = NULL;
        const char *taken = NULL;
        for (int i = 0; i < CX_COUNT(containers); i++) {
            int times;
            const cx_pk_node *inner = lookup(r, node, containers[i], &times);
            if (!inner || !leads_to_tensors(r, inner, MAX_LEVELS - 1 - level))
                continue;
            if (times > 1)
                REFUSE("key '%s' is there %d times", containers[i], times);
            if (next && next != inner)
                REFUSE("holds tensors under '%s' and under '%s'; save the one that is wanted", taken, containers[i]);
            next = inner;
            taken = containers[i];
        }
        if (!next)
            break;
        cx_buf_printf(path, "%s%s", path->len ? "/" : "", taken);
        node = next;
    }
    if (node->kind != CX_PK_DICT || !has_tensors(r, node))
        return refuse_root(r, node);
    if (path->len == 0)
        cx_buf_puts(path, "top");
    *state = node;
    return path->failed ? cx_fail(r->err, CX_E_MEMORY, "no memory for a name") : CX_OK;
}

static cx_status add_state(reader *r, const cx_pk_node *state)
{
    char name[CX_SINK_NAME + 1];
    for (uint32_t i = 0; i + 1 < state->n; i += 2) {
        const cx_pk_node *key = item(r, state, i), *value = item(r, state, i + 1);
        if (key->kind != CX_PK_TEXT)
            REFUSE("a key of the state dictionary is %s, want a text", cx_pk_kind_name(key));
        if (key->n > CX_SINK_NAME || memchr(key->text, 0, key->n))
            REFUSE("a tensor's name of %u bytes is too long or holds a zero byte", key->n);
        memcpy(name, key->text, key->n);
        name[key->n] = 0;
        if (!is_tensor(r, value))
            REFUSE("'%s' among the tensors is %s; save model.state_dict() alone", name, cx_pk_kind_name(value));
        TRY(add_tensor(r, name, value));
    }
    return CX_OK;
}

static cx_status read_state(reader *r, const char *format)
{
    const cx_pk_node *state = NULL;
    cx_buf path = { 0 };
    cx_status s = find_state(r, &state, &path);
    if (s == CX_OK)
        s = cx_sink_meta_text(r->sink, "format", format, r->err);
    if (s == CX_OK)
        s = cx_sink_meta_text(r->sink, "torch.container", path.data, r->err);
    cx_buf_free(&path);
    return s == CX_OK ? add_state(r, state) : s;
}

static void close_reader(reader *r)
{
    for (size_t i = 0; i < r->n_storages; i++)
        free(r->storages[i].owned);
    free(r->storages);
    free(r->root);
    cx_pickle_free(&r->pickle);
}

/* ---- the zip ------------------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static cx_status find_root(reader *r)
{
    static const char pickle[] = "/data.pkl", code[] = "/constants.pkl";
    for (int i = 0; i < r->zip->n_members; i++) {
        const char *name = r->zip->members[i].name;
        if (ends_with(name, code))
            REFUSE("member '%s': a TorchScript program; load it with torch.jit.load and torch.save(model.state_dict(), ...)", name);
        if (!ends_with(name, pickle))
            continue;
        if (r->root)
            REFUSE("two members end in '%s'", pickle);
        r->root = cx_sprintf("%.*s", (int)(strlen(name) - strlen(pickle)), name);
        if (!r->root)
            return cx_fail(r->err, CX_E_MEMORY, "no memory for a name");
    }
    if (!r->root)
        REFUSE("no member ends in '%s'", pickle);
    return CX_OK;
}

/* Member ROOT/name, at most `most` bytes; *data is NULL when it is absent. */
static cx_status get_member(reader *r, const char *name, size_t most, const unsigned char **data, size_t *n, void **owned)
{
    char *full = cx_sprintf("%s/%s", r->root, name);
    if (!full)
        return cx_fail(r->err, CX_E_MEMORY, "no memory for a name");
    const cx_zip_member *m = cx_zip_find(r->zip, full);
    free(full);
    *data = NULL;
    *n = m ? (size_t)m->bytes : 0;
    return m ? cx_zip_get(r->zip, m, most, data, owned, r->err) : CX_OK;
}

static cx_status read_byteorder(reader *r)
{
    const unsigned char *data = NULL;
    void *owned = NULL;
    size_t n = 0;
    TRY(get_member(r, "byteorder", 16, &data, &n, &owned));
    const bool little = !data || (n == 6 && memcmp(data, "little", 6) == 0);
    r->big_endian = data && n == 3 && memcmp(data, "big", 3) == 0;
    free(owned);
    if (!little && !r->big_endian)
        REFUSE("member '%s/byteorder': says neither little nor big", r->root);
    return CX_OK;
}

static cx_status read_zip(reader *r)
{
    const unsigned char *data = NULL;
    void *owned = NULL;
    size_t n = 0;
    TRY(find_root(r));
    TRY(read_byteorder(r));
    TRY(get_member(r, "data.pkl", MAX_PICKLE, &data, &n, &owned));
    cx_status s = cx_pickle_read(data, n, cx_torch_known, &r->pickle, r->err);
    if (s != CX_OK)
        s = cx_prefix(r->err, s, "member '%s/data.pkl'", r->root);
    else if (r->pickle.bytes != n)
        s = cx_fail(r->err, CX_E_DATA, "member '%s/data.pkl': %zu bytes lie behind the pickle", r->root, n - r->pickle.bytes);
    if (s == CX_OK)
        s = collect_storages(r);
    if (s == CX_OK)
        s = read_state(r, "torch zip");
    free(owned);                                /* the pickle's texts lie there */
    return s;
}

static cx_status parse_zip(const unsigned char *p, size_t n, cx_sink *sink, cx_error *err)
{
    cx_zip zip;
    TRY(cx_zip_open(p, n, &zip, err));
    reader r = { .zip = &zip, .room = cx_sink_room(sink), .sink = sink, .err = err };
    const cx_status s = read_zip(&r);
    close_reader(&r);
    cx_zip_close(&zip);
    return s;
}

/* ---- the chain of pickles -------------------------------------------------------------------------------------------------------- */

static const cx_pk_global nothing_known[] = { { NULL, NULL, CX_PK_REFUSED, CX_TORCH_OTHER, NULL } };
static const unsigned char magic[] = { 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19 };

typedef enum { MAGIC, VERSION, SYSTEM } preface;
static const char *const preface_names[] = { [MAGIC] = "magic number", [VERSION] = "version", [SYSTEM] = "system" };

static bool is_sound(const cx_pickle *k, preface which)
{
    const cx_pk_node *node = cx_pk_at(k, k->root);
    if (which == MAGIC)
        return node->kind == CX_PK_BIG && node->n == sizeof magic && memcmp(node->text, magic, sizeof magic) == 0;
    if (which == VERSION)
        return node->kind == CX_PK_INT && node->i == 1001;
    for (uint32_t i = 0; node->kind == CX_PK_DICT && i + 1 < node->n; i += 2)
        if (cx_pk_is_text(cx_pk_item(k, node, i), "little_endian"))
            return cx_pk_item(k, node, i + 1)->kind == CX_PK_BOOL && cx_pk_item(k, node, i + 1)->i;
    return false;
}

static cx_status read_preface(reader *r, preface which, const unsigned char *p, size_t n, size_t *at)
{
    static const char *const wrong[] = {
        [MAGIC] = "a pickle, but not one of torch.save; only state dictionaries saved by it are read",
        [VERSION] = "another version of PyTorch's old format than 1001",
        [SYSTEM] = "written on a big-endian machine, or it does not say; load it there and save it as a zip",
    };
    cx_pickle k;
    const cx_status s = cx_pickle_read(p + *at, n - *at, nothing_known, &k, r->err);
    if (s != CX_OK)
        return cx_prefix(r->err, s, "pickle of the %s", preface_names[which]);
    const bool sound = is_sound(&k, which);
    *at += k.bytes;
    cx_pickle_free(&k);
    if (!sound)
        REFUSE("%s", wrong[which]);
    return CX_OK;
}

/* Behind the list of keys: for each key how many numbers, then these. */
static cx_status place_storage(reader *r, const cx_pk_node *key, const unsigned char *p, size_t n, size_t *at)
{
    uint64_t count = 0;
    if (key->kind != CX_PK_TEXT)
        REFUSE("a storage's key is %s", cx_pk_kind_name(key));
    const int key_n = (int)(key->n < KEY_DIGITS ? key->n : KEY_DIGITS);
    storage *s = key->n <= KEY_DIGITS ? find_storage(r, key->text, key->n) : NULL;
    if (!s)
        REFUSE("storage '%.*s': nothing in the file speaks of it", key_n, key->text);
    if (s->data)
        REFUSE("storage %.*s: is there twice", key_n, key->text);
    if (n - *at < 8)
        REFUSE("storage %.*s: is not in the file, which is cut short", key_n, key->text);
    for (int i = 7; i >= 0; i--)
        count = count << 8 | p[*at + (size_t)i];
    *at += 8;
    const uint64_t want = s->bytes / (uint64_t)s->type->bytes;
    if (count != want)
        REFUSE("storage %.*s: holds %llu numbers, its description wants %llu", key_n, key->text, (unsigned long long)count, (unsigned long long)want);
    if (s->bytes > n - *at)
        REFUSE("storage %.*s: wants %llu bytes, but %zu are left; the file is cut short", key_n, key->text, (unsigned long long)s->bytes, n - *at);
    s->data = p + *at;
    *at += s->bytes;
    return CX_OK;
}

static cx_status place_storages(reader *r, const unsigned char *p, size_t n, size_t at)
{
    cx_pickle keys;
    cx_status s = cx_pickle_read(p + at, n - at, nothing_known, &keys, r->err);
    if (s != CX_OK)
        return cx_prefix(r->err, s, "list of storages");
    at += keys.bytes;
    const cx_pk_node *list = cx_pk_at(&keys, keys.root);
    if (list->kind != CX_PK_LIST)
        s = cx_fail(r->err, CX_E_DATA, "the list of storages is %s", cx_pk_kind_name(list));
    for (uint32_t i = 0; s == CX_OK && i < list->n; i++)
        s = place_storage(r, cx_pk_item(&keys, list, i), p, n, &at);
    if (s == CX_OK && at != n)
        s = cx_fail(r->err, CX_E_DATA, "%zu bytes lie behind the last storage", n - at);
    cx_pickle_free(&keys);
    return s;
}

static cx_status read_chain(reader *r, const unsigned char *p, size_t n)
{
    size_t at = 0;
    TRY(read_preface(r, MAGIC, p, n, &at));
    TRY(read_preface(r, VERSION, p, n, &at));
    TRY(read_preface(r, SYSTEM, p, n, &at));
    const cx_status s = cx_pickle_read(p + at, n - at, cx_torch_known, &r->pickle, r->err);
    if (s != CX_OK)
        return cx_prefix(r->err, s, "pickle at byte %zu", at);
    TRY(collect_storages(r));
    TRY(place_storages(r, p, n, at + r->pickle.bytes));
    return read_state(r, "torch legacy");
}

static cx_status parse_chain(const unsigned char *p, size_t n, cx_sink *sink, cx_error *err)
{
    reader r = { .sink = sink, .err = err };
    const cx_status s = read_chain(&r, p, n);
    close_reader(&r);
    return s;
}

/* ---- which of them ----------------------------------------------------------------------------------------------------------------- */

static bool is_tar(const unsigned char *p, size_t n)
{
    enum { MARK = 257 };
    return n > MARK + 5 && memcmp(p + MARK, "ustar", 5) == 0;
}

static bool is_pickle(const unsigned char *p, size_t n)
{
    return n > 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5;
}

static bool is_zip(const unsigned char *p, size_t n)
{
    static const char pickle[] = "/data.pkl";
    return cx_zip_is(p, n) && memmem(p, n, pickle, sizeof pickle - 1);
}

bool cx_is_torch(const unsigned char *p, size_t n)
{
    return is_pickle(p, n) || is_zip(p, n) || is_tar(p, n);
}

cx_status cx_parse_torch(const unsigned char *p, size_t n, cx_sink *sink, cx_error *err)
{
    if (is_pickle(p, n))
        return parse_chain(p, n, sink, err);
    if (is_zip(p, n))
        return parse_zip(p, n, sink, err);
    return cx_fail(err, CX_E_DATA, "a tar file, as PyTorch before 0.1.10 wrote; load it with torch.load and torch.save the state dictionary again");
}
