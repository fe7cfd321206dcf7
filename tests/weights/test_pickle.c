/* test_pickle.c - the machine of pickles makes the tree that Python would, and refuses with its reason all that would run, grow without end or break. */
#include "pickles.h"
#include "weights/pickle.h"

static const cx_pk_global known[] = {
    { "good", "call", CX_PK_CALLED, 1, NULL }, { "good", "name", CX_PK_NAMED, 2, NULL }, { "good", "stated", CX_PK_STATED, 3, NULL },
    { "collections", "OrderedDict", CX_PK_MAPPING, 4, NULL }, { "bad", "quantised", CX_PK_REFUSED, 0, "is not read" }, { NULL, NULL, CX_PK_REFUSED, 0, NULL },
};

/* From memory that ends with the pickle: the sanitizer sees who reads further. */
static cx_status read_exact(const cx_buf *b, cx_pickle *out, char **bytes, cx_error *err)
{
    *bytes = cx_alloc_aligned(b->len ? b->len : 1, 1);
    if (b->len)
        memcpy(*bytes, b->data, b->len);
    return cx_pickle_read(*bytes, b->len, known, out, err);
}

static void refused(const char *what, const cx_buf *b, const char *message)
{
    cx_pickle p;
    cx_error e = { 0 };
    char *bytes;
    const cx_status s = read_exact(b, &p, &bytes, &e);
    if (s != CX_E_DATA || !strstr(e.text, message))
        fail_msg("%s: status %d, message \"%s\", want \"%s\"", what, (int)s, e.text, message);
    assert_null(p.nodes);
    free(bytes);
}

static const struct { const char *text, *message; } bad[] = {
    /* who is called */
    { "c:os.system ( 'true' t R .", "calls os.system" },
    { "c:posix.system ( 'true' t R .", "calls posix.system" },
    { "c:nt.system ( 'true' t R .", "calls nt.system" },
    { "c:builtins.eval ( '1' t R .", "calls builtins.eval" },
    { "c:builtins.exec ( '1' t R .", "calls builtins.exec" },
    { "c:__builtin__.eval ( '1' t R .", "calls __builtin__.eval" },
    { "c:builtins.getattr ( N 'x' t R .", "calls builtins.getattr" },
    { "c:builtins.__import__ ( 'os' t R .", "calls builtins.__import__" },
    { "c:builtins.open ( '/etc/passwd' t R .", "calls builtins.open" },
    { "c:builtins.compile ( '1' t R .", "calls builtins.compile" },
    { "c:importlib.import_module ( 'os' t R .", "calls importlib.import_module" },
    { "c:operator.attrgetter ( 'system' t R .", "calls operator.attrgetter" },
    { "c:functools.partial ( t R .", "calls functools.partial" },
    { "c:subprocess.Popen ( 'true' t R .", "class subprocess.Popen" },
    { "c:subprocess.check_output ( 'true' t R .", "calls subprocess.check_output" },
    { "c:types.CodeType ( t R .", "class types.CodeType" },
    { "c:types.FunctionType ( t R .", "class types.FunctionType" },
    { "c:marshal.loads ( '' t R .", "calls marshal.loads" },
    { "c:pickle.loads ( '' t R .", "calls pickle.loads" },
    { "c:_pickle.Unpickler ( '' t R .", "class _pickle.Unpickler" },
    { "c:torch.load ( '/tmp/x' t R .", "calls torch.load" },
    { "c:torch.hub.load ( 'a/b' 'c' t R .", "calls torch.hub.load" },
    { "c:socket.socket ( t R .", "calls socket.socket" },
    { "c:shutil.rmtree ( '/' t R .", "calls shutil.rmtree" },
    { "c:webbrowser.open ( 'http://a' t R .", "calls webbrowser.open" },
    { "c:copyreg._reconstructor ( t R .", "calls copyreg._reconstructor" },
    { "c:__main__.Net ) x81 .", "class __main__.Net (a model saved whole?)" },
    { "c:torchvision.models.densenet.DenseNet ) x81 } b .", "torch.save(model.state_dict(), ...)" },
    { "c:torch.nn.modules.container.Sequential ) x81 .", "class torch.nn.modules.container.Sequential" },
    { "c:bad.quantised ( t R .", "bad.quantised: is not read" },
    { "c:good.Call .", "class good.Call" },
    { "c:good.call.__globals__ .", "calls good.call.__globals__" },
    { "c:a. .", "calls a." },
    { "c:.a .", "calls .a" },
    { "x630a0a .", "calls .:" },
    { "x63676f6f640a63616c6c000a .", "calls good.call" },                      /* a zero byte behind a good name */
    { "x636f73200a73797374656d0a .", "calls os .system" },
    { "x631b5b324a0a780a .", "calls " },                                       /* an escape sequence for the terminal */
    { "x63fffe0a780a .", "calls " },
    { "'os' 'system' x93 ( 'true' t R .", "calls os.system" },
    { "'good' 'call.__class__' x93 .", "calls good.call.__class__" },
    { "'good' 3 x93 .", "names a global by a text and a whole number" },
    { "N 'call' x93 .", "names a global by nothing and a text" },
    /* what is called, and with what */
    { "'os.system' ( 'true' t R .", "calls a text" },
    { "3 ) R .", "calls a whole number" },
    { "N ) R .", "calls nothing" },
    { "] ) R .", "calls a list" },
    { "c:good.call ) R ) R .", "calls an object" },
    { "c:collections.OrderedDict ) R ) R .", "calls a dictionary" },
    { "c:good.call ] R .", "calls good.call with a list" },
    { "c:good.call N R .", "calls good.call with nothing" },
    { "c:good.name ) R .", "good.name, which may only be named" },
    { "c:good.name ) x81 .", "good.name, which may only be named" },
    { "c:collections.OrderedDict ( 3 t R .", "the first a whole number" },
    { "c:collections.OrderedDict ( ] ] t R .", "of 2 arguments" },
    { "c:collections.OrderedDict ( ] 3 a t R .", "what are no pairs" },
    { "c:collections.OrderedDict ( ] ( 1 2 3 t a t R .", "what are no pairs" },
    /* states: the trick of __setstate__ and of attributes */
    { "} } b .", "gives a state to a dictionary" },
    { "c:good.stated ) R } '__setstate__' c:os.system s b .", "calls os.system" },
    { "c:good.call ) R } '__setstate__' c:os.system s b .", "calls os.system" },
    { "c:good.call ) R } b .", "gives a state to what good.call returns" },
    { "c:good.call } b .", "gives a state to a class or function" },
    { "] } b .", "gives a state to a list" },
    { "3 } b .", "gives a state to a whole number" },
    { "( 'storage' t Q } b .", "gives a state to a storage" },
    /* instructions that have no business here */
    { "( x696f730a73797374656d0a .", "INST, which makes an object" },
    { "( c:good.call o .", "OBJ, which makes an object" },
    { "c:good.call ) } x92 .", "NEWOBJ_EX" },
    { "x8201 .", "EXT1" },
    { "x830100 .", "EXT2" },
    { "x8401000000 .", "EXT4" },
    { "x50300a .", "PERSID of protocol 0" },
    { "x46312e300a .", "FLOAT of protocol 0" },
    { "x532761270a .", "STRING of protocol 0" },
    { "x56610a .", "UNICODE of protocol 0" },
    { "N x70300a .", "PUT of protocol 0" },
    { "x67300a .", "GET of protocol 0" },
    { "x97 .", "data outside of the file" },
    { "N x98 .", "data outside of the file" },
    { "x00 .", "0x00 is no instruction" },
    { "xff .", "0xff is no instruction" },
    { "x99 .", "0x99 is no instruction" },
    { "N x8002 .", "its protocol in the midst" },
    /* the stack */
    { ".", "0 values and 0 marks" },
    { "N N .", "2 values" },
    { "( N .", "1 marks" },
    { "( .", "0 values and 1 marks" },
    { "x30 .", "takes 1 values from a stack that has 0" },
    { "x31 .", "a mark that was never set" },
    { "x32 .", "takes 1 values" },
    { "R .", "takes 2 values" },
    { "N R .", "takes 2 values from a stack that has 1" },
    { "x81 .", "takes 2 values" },
    { "b .", "takes 2 values" },
    { "Q .", "takes 1 values" },
    { "x93 .", "takes 2 values" },
    { "x85 .", "takes 1 values" },
    { "N x86 .", "takes 2 values" },
    { "N N x87 .", "takes 3 values" },
    { "t .", "a mark that was never set" },
    { "l .", "a mark that was never set" },
    { "d .", "a mark that was never set" },
    { "u .", "a mark that was never set" },
    { "e .", "a mark that was never set" },
    { "x90 .", "a mark that was never set" },
    { "x91 .", "a mark that was never set" },
    { "a .", "takes 2 values" },
    { "N a .", "takes 2 values" },
    { "s .", "takes 3 values" },
    { "N ( R .", "takes 2 values from a stack that has 0" },                   /* what lies below a mark is out of reach */
    { "N ( x30 t .", "takes 1 values" },
    { "] ( N a t .", "takes 2 values" },
    { "( N e .", "adds to nothing" },
    { "] ( ( N e t .", "adds to nothing" },
    { "x7100 .", "takes 1 values" },
    { "x94 .", "takes 1 values" },
    /* lists and dictionaries */
    { "3 4 a .", "adds items to a whole number" },
    { "( t 4 a .", "adds items to a tuple" },
    { "} 4 a .", "adds items to a dictionary" },
    { "c:good.call ) R 4 a .", "adds items to an object" },
    { "3 ( 4 e .", "adds items to a whole number" },
    { "] 'k' 4 s .", "adds items to a list" },
    { "c:good.call ) R 'k' 4 s .", "adds items to an object" },
    { "'text' ( 'k' 4 u .", "adds items to a text" },
    { "} ( 'k' u .", "a key without a value" },
    { "} ( 1 2 3 u .", "a key without a value" },
    { "( 1 d .", "a key without a value" },
    /* the memo */
    { "x6800 .", "recalls value 0, which was never remembered" },
    { "N x7100 x6801 .", "recalls value 1" },
    { "N x7100 x680f .", "recalls value 15" },
    { "x6affffffff .", "recalls value 4294967295" },
    { "N x72ffffffff .", "as number 4294967295" },
    { "N x7200002000 .", "as number 2097152" },
    /* lengths */
    { "x58ffffffff .", "wants 4294967295 bytes" },
    { "x5805000000 .", "wants 5 bytes, but 1 are left" },
    { "x8dffffffffffffffff .", "wants 18446744073709551615 bytes" },
    { "x8d0000000000000080 .", "wants 9223372036854775808 bytes" },
    { "x8effffffffffffff7f .", "wants 9223372036854775807 bytes" },
    { "x96ffffffffffffffff .", "wants 18446744073709551615 bytes" },
    { "x54ffffffff .", "wants 4294967295 bytes" },
    { "x42ffffff7f .", "wants 2147483647 bytes" },
    { "x8c05 .", "wants 5 bytes" },
    { "x8aff .", "a whole number of 255 bytes" },
    { "x8bffffff7f .", "a whole number of 2147483647 bytes" },
    { "x8bffffffff .", "a whole number of 4294967295 bytes" },
    { "x8a05 .", "wants 5 bytes" },
    { "x95ffffffffffffffff .", "a frame of 18446744073709551615 bytes" },
    { "x950200000000000000 .", "a frame of 2 bytes, but 1 are left" },
    { "x4a01 .", "wants 4 bytes" },
    { "x47ff .", "wants 8 bytes" },
    { "x636f73", "a line has no end" },
    { "x636f730a73797374656d", "a line has no end" },
    { "x49410a .", "a whole number that is none" },
    { "x490a .", "a whole number that is none" },
    { "x492d0a .", "a whole number that is none" },
    { "x49312d310a .", "a whole number that is none" },
    { "x4c39393939393939393939393939393939393939394c0a .", "a whole number that is none, or too large" },
    { "x4c393939393939393939393939393939393939394c0a .", "a whole number that is none, or too large" },
    { "N", "ends without its end" },
    { "", "ends without its end" },
};

static void what_runs_or_breaks_is_refused(void **state)
{
    (void)state;
    assert_true(CX_COUNT(bad) >= 120);
    for (int i = 0; i < CX_COUNT(bad); i++) {
        cx_buf b = pickle_of(bad[i].text);
        refused(bad[i].text, &b, bad[i].message);
        cx_buf_free(&b);
    }
    const cx_buf none = { 0 }, sixth = { .data = "\x80\x06N.", .len = 4 }, no_version = { .data = "\x80", .len = 1 };
    refused("no bytes", &none, "ends without its end");
    refused("protocol 6", &sixth, "pickle protocol 6");
    refused("no version", &no_version, "wants 1 bytes");
}

static void refuse_repeated(const char *before, const char *again, int times, const char *after, const char *message)
{
    cx_buf b = pickle_of(before);
    pickle_repeat(&b, again, times);
    pickle_add(&b, after);
    refused(again, &b, message);
    cx_buf_free(&b);
}

static void bombs_are_refused(void **state)
{
    (void)state;
    refuse_repeated("", "(", CX_PK_MARKS + 1, ".", "more than 256 marks");
    refuse_repeated("N", "x85", CX_PK_DEPTH, ".", "more than 100 deep");
    refuse_repeated("N", "x32 x86", CX_PK_DEPTH, ".", "more than 100 deep");           /* 2^100 values, were they copied */
    refuse_repeated("]", "x7100 x6800 a", CX_PK_DEPTH, ".", "more than 100 deep");     /* a list in itself */
    refuse_repeated("] x7100 x30", "] x6800 a x7100 x30", CX_PK_DEPTH, "N .", "more than 100 deep");
    refuse_repeated("", "N", CX_PK_NODES + 1, ".", "more than 2097152 values");
    refuse_repeated("N", "x32", CX_PK_ITEMS, ".", "more than 8388608 values on the stack");
    refuse_repeated("", ")", CX_PK_NODES + 1, ".", "more than 2097152 values");
    /* half a million pairs that are one pair, given to ordered dictionaries again and again */
    cx_buf b = pickle_of("( 1 2 t x7100 x30 ] ( ");
    pickle_repeat(&b, "x6800", 1 << 19);
    pickle_add(&b, "e x7101 x30");
    pickle_repeat(&b, "c:collections.OrderedDict x6801 x85 R", 16);
    pickle_add(&b, ".");
    refused("ordered dictionaries", &b, "more than 8388608 values");
    cx_buf_free(&b);
}

/* Every beginning of a sound pickle is refused. */
static void truncated_pickles_are_refused(void **state)
{
    (void)state;
    cx_buf b = pickle_of("c:collections.OrderedDict ) R x7100 ( 'k' c:good.call ( 3 x47c000000000000000 x8c0161 x950200000000000000 N t R"
                         " 'l' ] u } 'm' x6800 s b .");
    for (size_t n = 0; n < b.len; n++) {
        const cx_buf cut = { .data = b.data, .len = n };
        refused("cut", &cut, "");
    }
    cx_pickle p;
    assert_cx_ok(cx_pickle_read(b.data, b.len, known, &p, err));
    cx_pickle_free(&p);
    cx_buf_free(&b);
}

/* ---- what is sound -------------------------------------------------------------------------------------------------- */

typedef struct { cx_pickle p; char *bytes; } tree;

static tree tree_of(const char *text)
{
    tree t;
    cx_buf b = pickle_of(text);
    assert_cx_ok(read_exact(&b, &t.p, &t.bytes, err));
    assert_int_equal(t.p.bytes, b.len);
    cx_buf_free(&b);
    return t;
}

static const cx_pk_node *root(const tree *t)
{
    return cx_pk_at(&t->p, t->p.root);
}

static void free_tree(tree *t)
{
    cx_pickle_free(&t->p);
    free(t->bytes);
}

static void whole_numbers_are_those_of_python(void **state)
{
    (void)state;
    static const struct { const char *text; int64_t want; } ints[] = {
        { "x4b00 .", 0 }, { "x4bff .", 255 }, { "x4dffff .", 65535 }, { "x4affffffff .", -1 }, { "x4a00000080 .", INT32_MIN }, { "x8a00 .", 0 },
        { "x8a01ff .", -1 },
        { "x8a0180 .", -128 }, { "x8a028000 .", 128 }, { "x8b03000000010080 .", -8388607 }, { "x8a08ffffffffffffff7f .", INT64_MAX },
        { "x8a080000000000000080 .", INT64_MIN }, { "x492d35320a .", -52 },
        { "x4c39394c0a .", 99 }, { "x49300a .", 0 }, { "x49310a .", 1 }, { "x4c34320a .", 42 },
    };
    for (int i = 0; i < CX_COUNT(ints); i++) {
        tree t = tree_of(ints[i].text);
        assert_int_equal(root(&t)->kind, CX_PK_INT);
        if (root(&t)->i != ints[i].want)
            fail_msg("%s: %lld", ints[i].text, (long long)root(&t)->i);
        free_tree(&t);
    }
}

static void atoms_are_those_of_python(void **state)
{
    (void)state;
    tree t = tree_of("( N T F x4930310a x4930300a x47bff8000000000000 x8a09000000000000000001 x550161 x8c02c3a4 x5501ff x430162 x960100000000000000ff t .");
    static const cx_pk_kind kinds[] = { CX_PK_NONE, CX_PK_BOOL, CX_PK_BOOL, CX_PK_BOOL, CX_PK_BOOL, CX_PK_FLOAT, CX_PK_BIG, CX_PK_TEXT, CX_PK_TEXT, CX_PK_BYTES,
        CX_PK_BYTES, CX_PK_BYTES };
    assert_int_equal(root(&t)->n, CX_COUNT(kinds));
    for (int i = 0; i < CX_COUNT(kinds); i++)
        assert_int_equal(cx_pk_item(&t.p, root(&t), (uint32_t)i)->kind, kinds[i]);
    assert_int_equal(cx_pk_item(&t.p, root(&t), 1)->i, 1);
    assert_int_equal(cx_pk_item(&t.p, root(&t), 2)->i, 0);
    assert_int_equal(cx_pk_item(&t.p, root(&t), 3)->i, 1);
    assert_int_equal(cx_pk_item(&t.p, root(&t), 4)->i, 0);
    assert_true(cx_pk_item(&t.p, root(&t), 5)->f == -1.5);
    assert_int_equal(cx_pk_item(&t.p, root(&t), 6)->n, 9);
    assert_true(cx_pk_is_text(cx_pk_item(&t.p, root(&t), 8), "\xc3\xa4"));
    free_tree(&t);
}

static void containers_hold_what_was_put(void **state)
{
    (void)state;
    tree t = tree_of("( } x7100 ( 'a' 1 'b' ] ( 5 6 7 e u x6800 'c' ( 1 2 t s ( 8 l ( 'k' 9 d ( 1 x91 x8f ( 2 x90 N x30 ( N N x31 'x' x32 t .");
    const cx_pk_node *all = root(&t);
    assert_int_equal(all->n, 8);
    const cx_pk_node *dict = cx_pk_item(&t.p, all, 0);
    assert_ptr_equal(dict, cx_pk_item(&t.p, all, 1));
    assert_int_equal(dict->n, 6);
    assert_true(cx_pk_is_text(cx_pk_item(&t.p, dict, 0), "a"));
    assert_false(cx_pk_is_text(cx_pk_item(&t.p, dict, 0), "ab"));
    assert_int_equal(cx_pk_item(&t.p, cx_pk_item(&t.p, dict, 3), 2)->i, 7);
    assert_int_equal(cx_pk_item(&t.p, dict, 5)->kind, CX_PK_TUPLE);
    assert_int_equal(cx_pk_item(&t.p, cx_pk_item(&t.p, all, 2), 0)->i, 8);
    assert_int_equal(cx_pk_item(&t.p, all, 3)->kind, CX_PK_DICT);
    assert_int_equal(cx_pk_item(&t.p, all, 4)->kind, CX_PK_TUPLE);
    assert_int_equal(cx_pk_item(&t.p, cx_pk_item(&t.p, all, 5), 0)->i, 2);
    assert_ptr_equal(cx_pk_item(&t.p, all, 6), cx_pk_item(&t.p, all, 7));
    free_tree(&t);
}

static void calls_stay_descriptions(void **state)
{
    (void)state;
    tree t = tree_of("( 'good' 'call' x93 ( 3 t R c:good.stated ) x81 } b"
                     " c:collections.OrderedDict ( ] ] ( 'a' 1 e a ( 'b' 2 t a t R } b ( 'storage' t Q c:good.name t .");
    const cx_pk_node *all = root(&t);
    assert_int_equal(cx_pk_callee(&t.p, cx_pk_item(&t.p, all, 0))->what, 1);
    assert_int_equal(cx_pk_item(&t.p, cx_pk_item(&t.p, cx_pk_item(&t.p, all, 0), 1), 0)->i, 3);
    assert_int_equal(cx_pk_callee(&t.p, cx_pk_item(&t.p, all, 1))->what, 3);
    const cx_pk_node *dict = cx_pk_item(&t.p, all, 2);
    assert_int_equal(dict->kind, CX_PK_DICT);
    assert_int_equal(dict->n, 4);
    assert_true(cx_pk_is_text(cx_pk_item(&t.p, dict, 2), "b"));
    assert_int_equal(cx_pk_item(&t.p, dict, 3)->i, 2);
    assert_int_equal(cx_pk_item(&t.p, all, 3)->kind, CX_PK_PERSISTENT);
    assert_int_equal(cx_pk_item(&t.p, all, 4)->kind, CX_PK_GLOBAL);
    assert_null(cx_pk_callee(&t.p, dict));
    free_tree(&t);
}

/* Shared values cost what one costs: a tuple of two of a tuple of two, 90 times. */
static void shared_values_are_not_copied(void **state)
{
    (void)state;
    cx_buf b = pickle_of("N");
    pickle_repeat(&b, "x32 x86", 90);
    pickle_add(&b, ".");
    cx_pickle p;
    assert_cx_ok(cx_pickle_read(b.data, b.len, known, &p, err));
    assert_int_equal(p.n, 91);
    cx_pickle_free(&p);
    cx_buf_free(&b);
}

/* MEMOIZE numbers like Python's: by how many are remembered. */
static void memos_of_protocol_4(void **state)
{
    (void)state;
    tree t = tree_of("x950400000000000000 ( 'a' x94 'b' x94 x6801 x6800 x6a01000000 'c' x94 x6802 t .");
    const char *want[] = { "a", "b", "b", "a", "b", "c", "c" };
    assert_int_equal(root(&t)->n, CX_COUNT(want));
    for (int i = 0; i < CX_COUNT(want); i++)
        assert_true(cx_pk_is_text(cx_pk_item(&t.p, root(&t), (uint32_t)i), want[i]));
    free_tree(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_or_breaks_is_refused),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(truncated_pickles_are_refused),
        cmocka_unit_test(whole_numbers_are_those_of_python),
        cmocka_unit_test(atoms_are_those_of_python),
        cmocka_unit_test(containers_hold_what_was_put),
        cmocka_unit_test(calls_stay_descriptions),
        cmocka_unit_test(shared_values_are_not_copied),
        cmocka_unit_test(memos_of_protocol_4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
