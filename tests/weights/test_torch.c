/* test_torch.c - files of PyTorch give what PyTorch reads from them; whatever would run, lie about its size or leave its storage is refused. */
#include "pickles.h"
#include "cxnet/weights.h"
#include "weights/sink.h"

/* ---- reading -------------------------------------------------------------------------------------------------------- */

enum { ROOM = 1 << 20 };
static unsigned char *made;       /* what sinks fill: one for all, for it is large */

static int make_room(void **state)
{
    (void)state;
    made = cx_alloc(CX_SINK_HEADER + ROOM, 1);
    return made ? 0 : -1;
}

static int free_room(void **state)
{
    (void)state;
    free(made);
    return 0;
}

/* The parser in this process, on memory that ends where the file does. */
static cx_status parse(const void *p, size_t n, cx_st_file *out, cx_error *err)
{
    unsigned char *exact = cx_alloc_aligned(n ? n : 1, 1);
    size_t begin = 0, bytes = 0;
    if (n)
        memcpy(exact, p, n);
    *out = (cx_st_file){ 0 };
    cx_sink sink = cx_sink_on(made, CX_SINK_HEADER + ROOM);
    cx_status s = cx_is_torch(exact, n) ? cx_parse_torch(exact, n, &sink, err) : cx_fail(err, CX_E_DATA, "not a file of PyTorch");
    if (s == CX_OK)
        s = cx_sink_finish(&sink, &begin, &bytes, err);
    if (s == CX_OK)
        s = cx_st_parse("made", made + begin, bytes, out, err);
    cx_sink_free(&sink);
    free(exact);
    return s;
}

static void refused_here(const char *what, const cx_buf *b, const char *message)
{
    cx_st_file f;
    cx_error e = { 0 };
    const cx_status s = parse(b->data, b->len, &f, &e);
    if (s != CX_E_DATA || !strstr(e.text, message))
        fail_msg("%s: status %d, message \"%s\", want \"%s\"", what, (int)s, e.text, message);
}

/* Where there is no sandbox, cx_weights_read says so (test_read looks whether that is right), and the parsers are tested alone. */
static bool has_sandbox(void)
{
    cx_st_file f;
    cx_error e;
    return cx_weights_parse("none", "", 0, &f, &e) != CX_E_UNSUPPORTED;
}

/* By the parser here and by the one in the sandbox. */
static void refused(const char *what, const cx_buf *b, const char *message)
{
    cx_st_file f;
    cx_error e = { 0 };
    refused_here(what, b, message);
    const cx_status s = cx_weights_parse("bad.pt", b->data, b->len, &f, &e);
    if (s != CX_E_UNSUPPORTED && (s != CX_E_DATA || strncmp(e.text, "bad.pt: ", 8) != 0 || !strstr(e.text, message)))
        fail_msg("in the sandbox: %s: status %d, message \"%s\", want \"%s\"", what, (int)s, e.text, message);
}

/* ---- what PyTorch wrote ----------------------------------------------------------------------------------------------- */

static const char *const goldens[] = {
    "state.pt", "state_legacy.pth", "protocol4.pt", "protocol5_legacy.pth", "checkpoint.pth.tar", "checkpoint_legacy.pth.tar", "parameters.pt", "types.pt",
    "types_legacy.pth", "views.pt", "views_legacy.pth", "floats.pt", "big_endian.pt", "deflated.pt", "first.pth",
};

static cx_buf golden(const char *name)
{
    cx_buf b = { 0 };
    char *path = cx_sprintf("tests/golden/torch/%s", name);
    assert_cx_ok(cx_file_read(path, 1 << 20, &b, err));
    free(path);
    return b;
}

static void same_tensor(const cx_st_file *want, const char *file, const cx_st_tensor *t)
{
    char *name = cx_sprintf("%s|%s", file, t->name);
    const cx_st_tensor *w = cx_st_find(want, name);
    if (!w)
        fail_msg("%s is not expected", name);
    if (t->dtype != w->dtype || t->nd != w->nd || memcmp(t->d, w->d, sizeof t->d) != 0 || t->bytes != w->bytes)
        fail_msg("%s has another type or shape", name);
    if (t->bytes && memcmp(t->data, w->data, t->bytes) != 0)
        fail_msg("%s holds other numbers", name);
    free(name);
}

/* note: format, container and names in order, one a line. */
static void same_file(const cx_st_file *want, const char *file, const cx_st_file *f)
{
    cx_buf note = { 0 };
    const char *expected = cx_st_meta_get(want, file);
    assert_non_null(expected);
    cx_buf_printf(&note, "%s\n%s", cx_st_meta_get(f, "format"), cx_st_meta_get(f, "torch.container"));
    for (int i = 0; i < f->n; i++) {
        same_tensor(want, file, &f->tensors[i]);
        cx_buf_printf(&note, "\n%s", f->tensors[i].name);
    }
    assert_string_equal(note.data, expected);
    cx_buf_free(&note);
}

static void files_of_pytorch_are_read(void **state)
{
    (void)state;
    cx_st_file want, f;
    assert_cx_ok(cx_st_read("tests/golden/torch/expected.safetensors", &want, err));
    assert_int_equal(want.n_meta, CX_COUNT(goldens));
    for (int i = 0; i < CX_COUNT(goldens); i++) {
        cx_buf b = golden(goldens[i]);
        assert_cx_ok(parse(b.data, b.len, &f, err));
        same_file(&want, goldens[i], &f);
        cx_st_free(&f);
        cx_buf_free(&b);
    }
    cx_st_free(&want);
}

static void they_are_read_in_the_sandbox(void **state)
{
    (void)state;
    cx_st_file want, f;
    if (!has_sandbox()) {
        print_message("skipped: no sandbox here\n");
        skip();
    }
    assert_cx_ok(cx_st_read("tests/golden/torch/expected.safetensors", &want, err));
    for (int i = 0; i < CX_COUNT(goldens); i++) {
        char *path = cx_sprintf("tests/golden/torch/%s", goldens[i]);
        assert_cx_ok(cx_weights_read(path, &f, err));
        same_file(&want, goldens[i], &f);
        assert_non_null(cx_st_meta_get(&f, "source.sha256"));
        cx_st_free(&f);
        free(path);
    }
    cx_st_free(&want);
}

/* No beginning of a file passes for one. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    static const char *const cut[] = { "floats.pt", "deflated.pt", "state_legacy.pth", "protocol5_legacy.pth", "first.pth" };
    for (int i = 0; i < CX_COUNT(cut); i++) {
        const cx_buf b = golden(cut[i]);
        for (size_t n = 0; n < b.len; n += n < 64 || n + 64 > b.len ? 1 : 13) {
            const cx_buf head = { .data = b.data, .len = n };
            refused_here(cut[i], &head, "");
        }
        free(b.data);
    }
}

/* Damage in one or two places: read or refused, but no byte outside of the file is touched (the sanitizer looks). */
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    cx_rng rng = cx_rng_new(1, 0);
    int broken = 0;
    for (int i = 0; i < CX_COUNT(goldens); i++) {
        cx_buf b = golden(goldens[i]);
        for (int k = 0; k < 60; k++) {
            const uint32_t at = cx_rng_below(&rng, (uint32_t)b.len);
            const char was = b.data[at];
            cx_st_file f;
            b.data[at] = (char)cx_rng_u32(&rng);
            if (parse(b.data, b.len, &f, NULL) == CX_OK)
                cx_st_free(&f);
            else
                broken++;
            b.data[at] = was;
        }
        cx_buf_free(&b);
    }
    assert_true(broken > 0);
}

/* ---- files made here ---------------------------------------------------------------------------------------------------- */

static const float four[] = { 1, 2, 3, 4 };

/* archive/data.pkl and archive/data/0 of n bytes. */
static cx_buf zip_around(const char *text, const void *data, size_t n)
{
    cx_buf pickle = pickle_of(text);
    const zip_part parts[] = { PART("archive/data.pkl", pickle.data, pickle.len), PART("archive/data/0", data, n), NO_PART };
    cx_buf b = zip_of(parts);
    cx_buf_free(&pickle);
    return b;
}

static void refuse_in_zip(const char *text, const void *data, size_t n, const char *message)
{
    cx_buf b = zip_around(text, data, n);
    refused(text, &b, message);
    cx_buf_free(&b);
}

/* The chain of pickles; words of each, then the storages' bytes. */
typedef struct { const char *magic, *version, *system, *main, *keys, *behind; } chain;
#define MAGIC "x8a0a6cfc9c46f9206aa85019 ."
#define VERSION "1001 ."
#define SYSTEM "} 'little_endian' T s ."
#define KEYS "] '0' a ."
#define NUMBERS "x04000000000000000000803f000000400000404000008040"          /* 4, then 1 2 3 4 */
static const chain sound = { MAGIC, VERSION, SYSTEM, STATE(V2("( 'storage' c:torch.FloatStorage '0' 'cpu' 4 N t Q ", "0", "( 4 t", "( 1 t")), KEYS, NUMBERS };

static cx_buf chain_of(const chain *c)
{
    const char *const parts[] = { c->magic, c->version, c->system, c->main, c->keys };
    cx_buf b = { 0 };
    for (int i = 0; i < CX_COUNT(parts); i++) {
        cx_buf_put(&b, "\x80\x02", 2);
        pickle_add(&b, parts[i]);
    }
    pickle_add(&b, c->behind);
    return b;
}

/* What the tables below change is sound before: else they would prove nothing. */
static void the_unbroken_files_are_read(void **state)
{
    (void)state;
    static const char *const texts[] = {
        STATE(GOOD), "} 'model' } 'net' } 'state_dict' } 'w' " GOOD "s s s s .",
        "c:collections.OrderedDict ) R 'w' " GOOD "s } '_metadata' } s b .", "} 'epoch' 3 s 'state_dict' } 'w' " GOOD "s s .",
        "} 'w' c:torch._utils._rebuild_parameter ( " GOOD "T c:collections.OrderedDict ) R t R s .",
        "} 'w' c:torch.nn.parameter.Parameter ( " GOOD "T t R s .",
        STATE("c:torch._utils._rebuild_tensor ( " FOUR "0 ( 2 2 t ( 2 1 t t R "),
        STATE("c:torch._utils._rebuild_tensor_v3 ( " STORE("UntypedStorage", "0", "16") "0 ( 2 2 t ( 2 1 t F N c:torch.float32 t R "),
        STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 2 2 t ( 2 1 t F N } 'neg' F s t R "),
        STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 2 2 t ( 2 1 t F N N t R "),
        /* the optimiser's storages need not be there, and what holds itself is not walked */
        "} 'optimizer' } 0 " V2(STORE("FloatStorage", "7", "9"), "0", "( 9 t", "( 1 t") "s x7109 'self' x6809 s s 'net' } 'w' " GOOD "s s .",
    };
    cx_st_file f;
    for (int i = 0; i < CX_COUNT(texts); i++) {
        cx_buf b = zip_around(texts[i], four, sizeof four);
        assert_cx_ok(parse(b.data, b.len, &f, err));
        assert_int_equal(f.n, 1);
        assert_memory_equal(cx_st_find(&f, "w")->data, four, sizeof four);
        cx_st_free(&f);
        cx_buf_free(&b);
    }
    cx_buf b = chain_of(&sound);
    assert_cx_ok(parse(b.data, b.len, &f, err));
    assert_memory_equal(cx_st_find(&f, "w")->data, four, sizeof four);
    cx_st_free(&f);
    cx_buf_free(&b);
}

typedef struct { const char *text, *message; } bad;

static const bad bad_tensors[] = {
    /* storages */
    { STATE(V2("N ", "0", "( 4 t", "( 1 t")), "its storage is nothing" },
    { STATE(V2("'0' ", "0", "( 4 t", "( 1 t")), "its storage is a text" },
    { STATE(V2("( t Q ", "0", "( 4 t", "( 1 t")), "not described as PyTorch does" },
    { STATE(V2("'0' Q ", "0", "( 4 t", "( 1 t")), "not described as PyTorch does" },
    { STATE(V2("( 'module' c:torch.FloatStorage '0' 'cpu' 4 t Q ", "0", "( 4 t", "( 1 t")), "not described as PyTorch does" },
    { STATE(V2("( 'storage' c:torch.FloatStorage '0' 'cpu' 4 N N t Q ", "0", "( 4 t", "( 1 t")), "not described as PyTorch does" },
    { STATE(V2("( 'storage' 'FloatStorage' '0' 'cpu' 4 t Q ", "0", "( 4 t", "( 1 t")), "a storage is of a text" },
    { STATE(V2("( 'storage' c:torch.Size '0' 'cpu' 4 t Q ", "0", "( 4 t", "( 1 t")), "a storage is of torch.Size" },
    { STATE(V2("( 'storage' c:torch.float32 '0' 'cpu' 4 t Q ", "0", "( 4 t", "( 1 t")), "a storage is of torch.float32" },
    { STATE(V2("( 'storage' c:torch.storage.TypedStorage '0' 'cpu' 4 t Q ", "0", "( 4 t", "( 1 t")), "a storage is of torch.storage.TypedStorage" },
    { STATE(V2("( 'storage' c:torch.FloatStorage '0' 'cpu' 4 ( '1' 0 4 t t Q ", "0", "( 4 t", "( 1 t")), "a view of another one" },
    { STATE(V2(STORE("FloatStorage", "../../../etc/passwd", "4"), "0", "( 4 t", "( 1 t")), "key is no number" },
    { STATE(V2(STORE("FloatStorage", "/etc/passwd", "4"), "0", "( 4 t", "( 1 t")), "key is no number" },
    { STATE(V2(STORE("FloatStorage", "", "4"), "0", "( 4 t", "( 1 t")), "key is no number" },
    { STATE(V2(STORE("FloatStorage", "-1", "4"), "0", "( 4 t", "( 1 t")), "key is no number" },
    { STATE(V2(STORE("FloatStorage", "123456789012345678901", "4"), "0", "( 4 t", "( 1 t")), "key is no number" },
    { STATE(V2("( 'storage' c:torch.FloatStorage 0 'cpu' 4 t Q ", "0", "( 4 t", "( 1 t")), "key is no number" },
    { STATE(V2(STORE("FloatStorage", "1", "4"), "0", "( 4 t", "( 1 t")), "storage 1: is not in the file" },
    { STATE(V2(STORE("FloatStorage", "00", "4"), "0", "( 4 t", "( 1 t")), "storage 00: is not in the file" },
    { STATE(V2(STORE("FloatStorage", "0", "-4"), "0", "( 4 t", "( 1 t")), "no whole number >= 0" },
    { STATE(V2(STORE("FloatStorage", "0", "N"), "0", "( 4 t", "( 1 t")), "no whole number >= 0" },
    { STATE(V2(STORE("FloatStorage", "0", "T"), "0", "( 4 t", "( 1 t")), "no whole number >= 0" },
    { STATE(V2(STORE("FloatStorage", "0", "'4'"), "0", "( 4 t", "( 1 t")), "no whole number >= 0" },
    { STATE(V2(STORE("FloatStorage", "0", "x8a09000000000000000001"), "0", "( 4 t", "( 1 t")), "no whole number >= 0" },
    { STATE(V2(STORE("FloatStorage", "0", "9223372036854775807"), "0", "( 4 t", "( 1 t")), "too large to count" },
    { STATE(V2(STORE("FloatStorage", "0", "3"), "0", "( 3 t", "( 1 t")), "holds 16 bytes, its description wants 12" },
    { STATE(V2(STORE("FloatStorage", "0", "5"), "0", "( 4 t", "( 1 t")), "wants 20" },
    { STATE(V2(STORE("DoubleStorage", "0", "4"), "0", "( 4 t", "( 1 t")), "wants 32" },
    { STATE(V2(STORE("HalfStorage", "0", "4"), "0", "( 4 t", "( 1 t")), "wants 8" },
    { STATE(V2(STORE("FloatStorage", "0", "0"), "0", "( 0 t", "( 1 t")), "wants 0" },
    { STATE(V2(STORE("FloatStorage", "0", "1000000000000"), "0", "( 1000000000000 t", "( 1 t")), "wants 4000000000000" },
    { "} 'a' " GOOD "s 'b' " V2(STORE("LongStorage", "0", "2"), "0", "( 2 t", "( 1 t") "s .", "described in two ways" },
    { "} 'a' " GOOD "s 'b' " V2(STORE("FloatStorage", "0", "2"), "0", "( 2 t", "( 1 t") "s .", "described in two ways" },
    /* numbers that are not read */
    { STATE(V2(STORE("ComplexFloatStorage", "0", "2"), "0", "( 2 t", "( 1 t")), "holds complex64 numbers" },
    { STATE(V2(STORE("ComplexDoubleStorage", "0", "1"), "0", "( 1 t", "( 1 t")), "holds complex128 numbers" },
    { STATE(V2(STORE("QInt8Storage", "0", "16"), "0", "( 16 t", "( 1 t")), "holds quantised numbers" },
    { STATE(V2(STORE("UntypedStorage", "0", "16"), "0", "( 4 t", "( 1 t")), "holds untyped numbers" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " FOUR "0 ( 4 t ( 1 t F N c:torch.float32 t R "), "holds float32 numbers, which do not fit" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " STORE("UntypedStorage", "0", "16") "0 ( 16 t ( 1 t F N c:torch.float8_e4m3fn t R "), "holds float8" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " STORE("UntypedStorage", "0", "16") "0 ( 2 t ( 1 t F N c:torch.uint64 t R "), "holds uint64 numbers" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " STORE("UntypedStorage", "0", "16") "0 ( 4 t ( 1 t F N 'float32' t R "), "its type is a text" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " STORE("UntypedStorage", "0", "16") "0 ( 4 t ( 1 t F N c:torch.FloatStorage t R "), "want one like" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " STORE("UntypedStorage", "0", "16") "3 ( 2 t ( 1 t F N c:torch.float32 t R "), "wants 8 bytes, 4 are there" },
    { STATE("c:torch._utils._rebuild_qtensor ( t R "), "a quantised tensor" },
    { STATE("c:torch.qint8 "), "torch.qint8: a quantised tensor" },
    { STATE("c:torch._utils._rebuild_sparse_tensor ( t R "), "a sparse tensor" },
    { STATE("c:torch._utils._rebuild_sparse_csr_tensor ( t R "), "a sparse tensor" },
    { STATE("c:torch._utils._rebuild_meta_tensor_no_storage ( t R "), "without numbers (device meta)" },
    { STATE("c:torch._utils._rebuild_nested_tensor ( t R "), "a nested tensor" },
    { STATE("c:torch._utils._rebuild_wrapper_subclass ( t R "), "a class of its own" },
    { STATE("c:torch._tensor._rebuild_from_type_v2 ( t R "), "a class of its own" },
    { STATE("c:torch.storage._load_from_bytes ( '' t R "), "without torch.save" },
    { STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 4 t ( 1 t F N } 'neg' T s t R "), "pending negation or conjugation" },
    { STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 4 t ( 1 t F N } 'conj' 1 s t R "), "pending negation or conjugation" },
    { STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 4 t ( 1 t F N T t R "), "its metadata is a truth value" },
    /* arguments */
    { STATE("c:torch._utils._rebuild_tensor_v2 ( t R "), "from 0 arguments, want 6" },
    { STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 4 t ( 1 t F t R "), "from 5 arguments" },
    { STATE("c:torch._utils._rebuild_tensor_v2 ( " FOUR "0 ( 4 t ( 1 t F N N N t R "), "from 8 arguments" },
    { STATE("c:torch._utils._rebuild_tensor ( " FOUR "0 ( 4 t t R "), "from 3 arguments, want 4" },
    { STATE("c:torch._utils._rebuild_tensor_v3 ( " FOUR "0 ( 4 t ( 1 t F N t R "), "from 6 arguments, want 7" },
    { STATE("c:torch._utils._rebuild_parameter ( t R "), "a parameter without a tensor" },
    { STATE("c:torch._utils._rebuild_parameter ( N T N t R "), "a parameter without a tensor" },
    { STATE("c:torch._utils._rebuild_parameter ( c:torch._utils._rebuild_parameter ( " GOOD "T N t R T N t R "), "a parameter without a tensor" },
    { STATE("c:torch._utils._rebuild_parameter ( c:torch.Size ( ( 2 t t R T N t R "), "a parameter without a tensor" },
    /* shapes, strides, offsets */
    { STATE(V2(FOUR, "0", "4", "( 1 t")), "its size is a whole number, want a tuple" },
    { STATE(V2(FOUR, "0", "] 4 a", "( 1 t")), "its size is a list" },
    { STATE(V2(FOUR, "0", "( 4 t", "N")), "its stride is nothing" },
    { STATE(V2(FOUR, "0", "c:torch.Size ( ( 4 t 1 t R", "( 1 t")), "its size is an object" },
    { STATE(V2(FOUR, "0", "( '4' t", "( 1 t")), "its size[0] is a text" },
    { STATE(V2(FOUR, "0", "( 2 T t", "( 1 1 t")), "its size[1] is a truth value" },
    { STATE(V2(FOUR, "0", "( -4 t", "( 1 t")), "its size[0] is -4" },
    { STATE(V2(FOUR, "0", "( 2 -9223372036854775808 t", "( 1 1 t")), "its size[1] is -9223372036854775808" },
    { STATE(V2(FOUR, "3", "( 4 t", "( -1 t")), "its stride[0] is -1" },
    { STATE(V2(FOUR, "0", "( 2 2 t", "( 2 -1 t")), "its stride[1] is -1" },
    { STATE(V2(FOUR, "0", "( 2 2 t", "( 1 t")), "2 sizes and 1 strides" },
    { STATE(V2(FOUR, "0", "( t", "( 1 t")), "0 sizes and 1 strides" },
    { STATE(V2(FOUR, "0", "( 1 1 1 1 1 1 1 1 1 t", "( 1 1 1 1 1 1 1 1 1 t")), "9 dimensions; at most 8 are read" },
    { STATE(V2(FOUR, "-1", "( 4 t", "( 1 t")), "its offset is no whole number" },
    { STATE(V2(FOUR, "N", "( 4 t", "( 1 t")), "its offset is no whole number" },
    { STATE(V2(FOUR, "5", "( 0 t", "( 1 t")), "begins at number 5 of a storage of 4" },
    { STATE(V2(FOUR, "9223372036854775807", "( 1 t", "( 1 t")), "begins at number 9223372036854775807" },
    { STATE(V2(FOUR, "4611686018427387904", "( 1 t", "( 1 t")), "begins at number 4611686018427387904" },
    { STATE(V2(FOUR, "1", "( 4 t", "( 1 t")), "wants 16 bytes, 12 are there" },
    { STATE(V2(FOUR, "4", "( 1 t", "( 1 t")), "wants 4 bytes, 0 are there" },
    { STATE(V2(FOUR, "4", "( t", "( t")), "wants 4 bytes, 0 are there" },
    { STATE(V2(FOUR, "0", "( 5 t", "( 1 t")), "wants 20 bytes, 16 are there" },
    { STATE(V2(FOUR, "0", "( 2 t", "( 4 t")), "wants 20 bytes, 16 are there" },
    { STATE(V2(FOUR, "0", "( 2 2 t", "( 3 1 t")), "wants 20 bytes, 16 are there" },
    { STATE(V2(FOUR, "0", "( 2 t", "( 9223372036854775807 t")), "strides are too large" },
    { STATE(V2(FOUR, "0", "( 3 t", "( 4611686018427387904 t")), "strides are too large" },
    { STATE(V2(FOUR, "0", "( 3 3 t", "( 4611686018427387904 4611686018427387904 t")), "strides are too large" },
    { STATE(V2(FOUR, "0", "( 9223372036854775807 t", "( 0 t")), "too large to count" },
    { STATE(V2(FOUR, "0", "( 4294967296 4294967296 t", "( 0 0 t")), "too large to count" },
    { STATE(V2(FOUR, "0", "( 4294967296 4294967296 0 t", "( 0 0 0 t")), "too large to count" },
    { STATE(V2(FOUR, "0", "( 1000000000 t", "( 0 t")), "wants 4000000000 bytes" },         /* one number, shown a thousand million times */
    { STATE(V2(FOUR, "0", "( 100000 100000 t", "( 0 0 t")), "wants 40000000000 bytes" },
};

static const bad bad_states[] = {
    /* no state dictionary */
    { "N .", "holds nothing, want a state dictionary" },
    { "3 .", "holds a whole number" },
    { "] .", "holds a list" },
    { GOOD ".", "holds a single tensor" },
    { "c:torch.Size ( ( 4 t t R .", "holds an object" },
    { "( " GOOD "t .", "holds a tuple" },
    { "c:torch.FloatStorage .", "holds a class or function" },
    { FOUR ".", "holds a storage" },
    { "} .", "it holds nothing" },
    { "c:collections.OrderedDict ) R .", "it holds nothing" },
    { "} 'epoch' 3 s 'arch' 'densenet121' s .", "it holds 'epoch', 'arch'" },
    { "} 'weights' } 'w' " GOOD "s s .", "it holds 'weights'" },
    { "} 'state_dict' ] " GOOD "a s .", "it holds 'state_dict'" },
    { "} 'state_dict' 3 s 'model' N s .", "no tensors at its top" },
    { "} 'state_dict' } 'layers' } 'w' " GOOD "s s s .", "it holds 'state_dict'" },
    { "} 'model' } 'model' } 'model' } 'model' } 'w' " GOOD "s s s s s .", "no tensors at its top" },
    { "} x7100 'model' x6800 s .", "no tensors at its top" },
    /* too many */
    { "} 'state_dict' } 'w' " GOOD "s s 'model' } 'w' " GOOD "s s .", "under 'state_dict' and under 'model'" },
    { "} 'model' } 'w' " GOOD "s s 'net' } 'w' " GOOD "s s .", "under 'model' and under 'net'" },
    { "} 'state_dict' } 'w' " GOOD "s s 'state_dict' } 'v' " GOOD "s s .", "key 'state_dict' is there 2 times" },
    { "} 'w' " GOOD "s 'w' " GOOD "s .", "tensor 'w': is there twice" },
    /* what lies among the tensors */
    { "} 'w' " GOOD "s 'epoch' 3 s .", "'epoch' among the tensors is a whole number" },
    { "} 'w' " GOOD "s '_extra_state' N s .", "'_extra_state' among the tensors is nothing" },
    { "} 'w' " GOOD "s 'size' c:torch.Size ( ( 2 t t R s .", "'size' among the tensors is an object" },
    { "} 'w' " GOOD "s 'inner' } 'v' " GOOD "s s .", "'inner' among the tensors is a dictionary" },
    { "} 'w' " GOOD "s 3 " GOOD "s .", "a key of the state dictionary is a whole number" },
    { "} 'w' " GOOD "s N " GOOD "s .", "a key of the state dictionary is nothing" },
    { "} 'w' " GOOD "s ( 'a' 'b' t " GOOD "s .", "a key of the state dictionary is a tuple" },
    { "} 'w' " GOOD "s x430161 " GOOD "s .", "a key of the state dictionary is bytes" },
    { "} '' " GOOD "s .", "a tensor has no name" },
    { "} x5803000000610062 " GOOD "s .", "holds a zero byte" },
    { "} x5803000000611b62 " GOOD "s .", "control characters" },
    { "} '__metadata__' " GOOD "s .", "not one for tensors" },
    /* what is called beside them */
    { "} 'w' " GOOD "s 'x' c:os.system ( 'true' t R s .", "calls os.system" },
    { "} 'state_dict' } 'w' " GOOD "s s 'args' c:argparse.Namespace ) x81 s .", "class argparse.Namespace" },
    { "c:__main__.CheXNet ) x81 } '_modules' } s b .", "class __main__.CheXNet (a model saved whole?)" },
    { "} 'w' " GOOD "s 'x' c:torch.FloatStorage ( 4 t R s .", "may only be named" },
    { "} 'w' " GOOD "} 'x' 1 s b s .", "gives a state to what torch._utils._rebuild_tensor_v2 returns" },
};

static void refuse_all(const bad *b, int n)
{
    for (int i = 0; i < n; i++)
        refuse_in_zip(b[i].text, four, sizeof four, b[i].message);
}

static void broken_tensors_are_refused(void **state)
{
    (void)state;
    assert_true(CX_COUNT(bad_tensors) + CX_COUNT(bad_states) >= 120);
    refuse_all(bad_tensors, CX_COUNT(bad_tensors));
}

static void other_than_state_dictionaries_are_refused(void **state)
{
    (void)state;
    refuse_all(bad_states, CX_COUNT(bad_states));
}

static void numbers_that_no_network_has_are_refused(void **state)
{
    (void)state;
    static const float nan[] = { 1, NAN, 3, 4 }, infinite[] = { 1, 2, 3, -INFINITY }, negative[] = { 1, 2, -1e-9f, 4 };
    static const double large[] = { 1, 1e39 };
    static const uint8_t truth[] = { 0, 1, 2, 1 };
    static const uint16_t half[] = { 0x3c00, 0x7c00 };
    refuse_in_zip(STATE(GOOD), nan, sizeof nan, "tensor 'w': element (0, 1) is not a number");
    refuse_in_zip(STATE(GOOD), infinite, sizeof infinite, "tensor 'w': element (1, 1) is infinite");
    refuse_in_zip("} 'bn.running_var' " GOOD "s .", negative, sizeof negative, "element (1, 0) is a variance below 0");
    refuse_in_zip(STATE(V2(STORE("DoubleStorage", "0", "2"), "0", "( 2 t", "( 1 t")), large, sizeof large, "element (1) is infinite, or beyond float32");
    refuse_in_zip(STATE(V2(STORE("BoolStorage", "0", "4"), "0", "( 4 t", "( 1 t")), truth, sizeof truth, "element (2) is neither true nor false");
    refuse_in_zip(STATE(V2(STORE("HalfStorage", "0", "2"), "0", "( 2 t", "( 1 t")), half, sizeof half, "element (1) is infinite");
}

/* ---- archives ------------------------------------------------------------------------------------------------------------- */

static void broken_archives_are_refused(void **state)
{
    (void)state;
    cx_buf good = pickle_of(STATE(GOOD)), long_one = pickle_of(STATE(GOOD) " N");
    const zip_part pkl = PART("archive/data.pkl", good.data, good.len), zero = PART("archive/data/0", four, sizeof four), end = NO_PART;
    const struct { zip_part parts[5]; const char *message; } archives[] = {
        { { pkl, end }, "storage 0: is not in the file" },
        { { pkl, PART("other/data/0", four, sizeof four), end }, "storage 0: is not in the file" },
        { { pkl, PART("archive/data/00", four, sizeof four), end }, "storage 0: is not in the file" },
        { { pkl, PART("archive/data/0", four, 15), end }, "holds 15 bytes, its description wants 16" },
        { { pkl, PART("archive/data/0", four, 0), end }, "holds 0 bytes" },
        { { pkl, zero, zero, end }, "is there twice" },
        { { pkl, pkl, zero, end }, "is there twice" },
        { { pkl, PART("b/data.pkl", good.data, good.len), zero, end }, "two members end in '/data.pkl'" },
        { { PART("archive/data.pkl", good.data, 0), zero, end }, "ends without its end" },
        { { PART("archive/data.pkl", good.data, good.len - 1), zero, end }, "ends without its end" },
        { { PART("archive/data.pkl", long_one.data, long_one.len), zero, end }, "1 bytes lie behind the pickle" },
        { { PART("archive/about", "archive/data.pkl", 16), zero, end }, "no member ends in '/data.pkl'" },
        { { pkl, zero, PART("archive/constants.pkl", "", 0), end }, "a TorchScript program" },
        { { pkl, zero, PART("archive/byteorder", "middle", 6), end }, "says neither little nor big" },
        { { pkl, zero, PART("archive/byteorder", "", 0), end }, "says neither little nor big" },
        { { pkl, zero, PART("archive/byteorder", "little-and-a-good-deal-more", 27), end }, "more than the 16 that are read" },
        { { pkl, zero, PART("../../etc/cron.d/x", "", 0), end }, "'..'" },
        { { pkl, zero, PART("/etc/passwd", "", 0), end }, "absolute" },
        { { pkl, zero, PART("archive\\data", "", 0), end }, "'\\'" },
        { { PART("/data.pkl", good.data, good.len), zero, end }, "absolute" },
    };
    for (int i = 0; i < CX_COUNT(archives); i++) {
        cx_buf b = zip_of(archives[i].parts);
        refused(archives[i].message, &b, archives[i].message);
        cx_buf_free(&b);
    }
    cx_buf_free(&good);
    cx_buf_free(&long_one);
}

static void broken_chains_are_refused(void **state)
{
    (void)state;
    static const struct { chain c; const char *message; } chains[] = {
        { { .magic = "x8a0a6cfc9c46f9206aa85018 ." }, "not one of torch.save" },
        { { .magic = "1001 ." }, "not one of torch.save" },
        { { .magic = "x8a096cfc9c46f9206aa850 ." }, "not one of torch.save" },
        { { .magic = "} 'weights' ] s ." }, "not one of torch.save" },
        { { .magic = "c:os.system ( 'true' t R ." }, "pickle of the magic number: byte 2 of the pickle: calls os.system" },
        { { .version = "1002 ." }, "another version" },
        { { .version = "'1001' ." }, "another version" },
        { { .version = "c:builtins.eval ( '1001' t R ." }, "pickle of the version: byte 2 of the pickle: calls builtins.eval" },
        { { .system = "} 'little_endian' F s ." }, "a big-endian machine" },
        { { .system = "} ." }, "a big-endian machine, or it does not say" },
        { { .system = "] ." }, "a big-endian machine, or it does not say" },
        { { .system = "c:collections.OrderedDict ) R ." }, "class collections.OrderedDict" },
        { { .main = "c:os.system ( 'true' t R ." }, "calls os.system" },
        { { .main = "c:__main__.Net ) x81 ." }, "class __main__.Net" },
        { { .main = "( 'module' c:__main__.Net 'net.py' 'class Net' t Q ." }, "class __main__.Net" },
        { { .main = "N ." }, "storage '0': nothing in the file speaks of it" },
        { { .main = STATE(V2(STORE("FloatStorage", "1", "4"), "0", "( 4 t", "( 1 t")) }, "storage '0': nothing in the file speaks of it" },
        { { .main = STATE(V2(STORE("FloatStorage", "0", "8"), "0", "( 4 t", "( 1 t")) }, "holds 4 numbers, its description wants 8" },
        { { .main = STATE(V2(FOUR, "2", "( 4 t", "( 1 t")) }, "wants 16 bytes, 8 are there" },
        { { .keys = "] ." , .behind = "" }, "storage 0: is not in the file" },
        { { .keys = "] ." }, "24 bytes lie behind the last storage" },
        { { .keys = "} ." }, "the list of storages is a dictionary" },
        { { .keys = "( '0' t ." }, "the list of storages is a tuple" },
        { { .keys = "] 0 a ." }, "a storage's key is a whole number" },
        { { .keys = "] ( '0' '0' e ." }, "storage 0: is there twice" },
        { { .keys = "] '../../../etc/passwd-and-more' a ." }, "nothing in the file speaks of it" },
        { { .keys = "c:os.system ( 'true' t R ." }, "list of storages: byte 2 of the pickle: calls os.system" },
        { { .behind = "" }, "is not in the file, which is cut short" },
        { { .behind = "x0400000000000000" }, "wants 16 bytes, but 0 are left" },
        { { .behind = "x0500000000000000" }, "holds 5 numbers, its description wants 4" },
        { { .behind = "xffffffffffffffff" }, "holds 18446744073709551615 numbers" },
        { { .behind = "x04000000000000000000803f0000004000004040000080" }, "wants 16 bytes, but 15 are left" },
        { { .behind = NUMBERS "00" }, "1 bytes lie behind the last storage" },
    };
    for (int i = 0; i < CX_COUNT(chains); i++) {
        const chain c = chains[i].c, whole = {
            c.magic ? c.magic : sound.magic, c.version ? c.version : sound.version, c.system ? c.system : sound.system,
            c.main ? c.main : sound.main, c.keys ? c.keys : sound.keys, c.behind ? c.behind : sound.behind,
        };
        cx_buf b = chain_of(&whole);
        refused(chains[i].message, &b, chains[i].message);
        cx_buf_free(&b);
    }
}

static void other_files_are_refused(void **state)
{
    (void)state;
    char tar[1024] = "sys_info";
    memcpy(tar + 257, "ustar", 5);
    const cx_buf old = { .data = tar, .len = sizeof tar }, list = { .data = "\x80\x04]\x94.", .len = 5 };
    refused("tar", &old, "PyTorch before 0.1.10 wrote");
    refused("a plain pickle", &list, "not one of torch.save");
    assert_false(cx_is_torch((const unsigned char *)"PK\3\4", 4));
    assert_false(cx_is_torch((const unsigned char *)"\x89HDF\r\n\x1a\n", 8));
    assert_false(cx_is_torch((const unsigned char *)"\x80\x06N.", 4));
    assert_false(cx_is_torch((const unsigned char *)"", 0));
    cx_buf keras = zip_of((const zip_part[]){ PART("config.json", "{}", 2), NO_PART });
    assert_false(cx_is_torch((const unsigned char *)keras.data, keras.len));
    cx_buf_free(&keras);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_pytorch_are_read),
        cmocka_unit_test(they_are_read_in_the_sandbox),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(the_unbroken_files_are_read),
        cmocka_unit_test(broken_tensors_are_refused),
        cmocka_unit_test(other_than_state_dictionaries_are_refused),
        cmocka_unit_test(numbers_that_no_network_has_are_refused),
        cmocka_unit_test(broken_archives_are_refused),
        cmocka_unit_test(broken_chains_are_refused),
        cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, make_room, free_room);
}
