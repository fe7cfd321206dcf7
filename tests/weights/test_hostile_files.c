/* test_hostile_files.c - whole files that lie: layouts of Keras that contradict themselves, groups without end, archives, damage; each is refused. */
#include "make_h5.h"
#include "weights/sandboxed.h"
#include "make_zip.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include "weights/refused.h"

typedef struct { const char *what; void (*make)(hid_t file); const char *why; } bad;
#define BAD(make, why) { #make, make, why }

static void assert_all_refused(const bad *list, int n)
{
    for (int i = 0; i < n; i++)
        for (int latest = 0; latest < 2; latest++) {
            const hid_t file = h5_new(latest);
            list[i].make(file);
            const h5_image image = h5_bytes(file);
            assert_refused(list[i].what, image.p, image.n, list[i].why);
            free(image.p);
        }
}

/* ---- the old layout -------------------------------------------------------------------------------------------------------- */

/* Groups layer/layer with vector "kernel:0", listed as given. */
static void layer_of(hid_t file, const char *group, const char *listed)
{
    const hid_t outer = h5_group(file, group);
    h5_list(outer, "weight_names", listed);
    h5_vector(outer, "w", 4);
}

static void nothing(hid_t file) { (void)file; }
static void no_layers(hid_t file) { h5_list(file, "layer_names", "a"); H5Adelete(file, "layer_names"); h5_group(file, "a"); }
static void unlisted_group(hid_t file) { h5_list(file, "layer_names", "a"); }
static void layer_twice(hid_t file) { h5_list(file, "layer_names", "a", "b", "a"); layer_of(file, "a", "w"); }
static void layer_without_name(hid_t file) { h5_list(file, "layer_names", ""); }
static void layer_is_dot(hid_t file) { h5_list(file, "layer_names", "."); }
static void layer_with_empty_part(hid_t file) { h5_list(file, "layer_names", "a//b"); h5_group(file, "a/b"); }
static void layer_absolute(hid_t file) { h5_list(file, "layer_names", "/a"); layer_of(file, "a", "w"); }
static void layer_with_slash(hid_t file) { h5_list(file, "layer_names", "a/"); layer_of(file, "a", "w"); }
static void layer_not_text(hid_t file) { h5_list(file, "layer_names", "a\xff"); layer_of(file, "a\xff", "w"); }
static void layer_with_control(hid_t file) { h5_list(file, "layer_names", "a\x1b[2J"); layer_of(file, "a\x1b[2J", "w"); }
static void layer_is_dataset(hid_t file) { h5_list(file, "layer_names", "w"); h5_vector(file, "w", 4); }
static void layer_linked_out(hid_t file) { h5_list(file, "layer_names", "a"); H5Lcreate_external("/etc/x.h5", "/", file, "a", H5P_DEFAULT, H5P_DEFAULT); }
static void softly(hid_t file, const char *to, const char *name) { assert_true(H5Lcreate_soft(to, file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0); }
static void layer_linked_softly(hid_t file) { h5_list(file, "layer_names", "b"); layer_of(file, "a", "w"); softly(file, "/a", "b"); }
static void no_weight_names(hid_t file) { h5_list(file, "layer_names", "a"); h5_group(file, "a"); }
static void weight_twice(hid_t file) { h5_list(file, "layer_names", "a"); h5_list(h5_group(file, "a"), "weight_names", "w", "w"); h5_vector(file, "a/w", 4); }
static void weight_absent(hid_t file) { h5_list(file, "layer_names", "a"); layer_of(file, "a", "v"); }
static void weight_up(hid_t file) { h5_list(file, "layer_names", "a"); layer_of(file, "a", "../a/w"); }
static void weight_below_weight(hid_t file) { h5_list(file, "layer_names", "a"); layer_of(file, "a", "w/w"); }
static void weight_without_name(hid_t file) { h5_list(file, "layer_names", "a"); layer_of(file, "a", ""); }

static void no_weights_at_all(hid_t file)
{
    const hsize_t none = 0;
    h5_list(file, "layer_names", "a");
    H5Acreate2(h5_group(file, "a"), "weight_names", H5T_NATIVE_DOUBLE, H5Screate_simple(1, &none, NULL), H5P_DEFAULT, H5P_DEFAULT);
}

static void same_name_after_cutting(hid_t file)
{
    h5_list(file, "layer_names", "a");
    const hid_t g = h5_group(file, "a");
    h5_list(g, "weight_names", "w:0", "w:1");
    h5_vector(g, "w:0", 4);
    h5_vector(g, "w:1", 4);
}

static void attribute_of(hid_t file, hid_t type, int nd, const hsize_t *d, const void *data)
{
    const hid_t space = nd ? H5Screate_simple(nd, d, NULL) : H5Screate(H5S_SCALAR), a = H5Acreate2(file, "layer_names", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(a >= 0);
    if (data)
        H5Awrite(a, type, data);
    layer_of(file, "a", "w");
}

static void names_are_numbers(hid_t file) { attribute_of(file, H5T_NATIVE_INT, 1, (const hsize_t[]){ 2 }, (int[]){ 1, 2 }); }
static void names_in_a_square(hid_t file) { attribute_of(file, h5_text_type(), 2, (const hsize_t[]){ 1, 1 }, (const char *[]){ "a" }); }
static void names_are_references(hid_t file) { attribute_of(file, H5T_STD_REF_OBJ, 1, (const hsize_t[]){ 1 }, NULL); }
static void names_without_number(hid_t file) { attribute_of(file, H5T_C_S1, 1, (const hsize_t[]){ 50000 }, NULL); }
static void names_never_written(hid_t file) { attribute_of(file, h5_text_type(), 1, (const hsize_t[]){ 3 }, NULL); }

static void pieces_with_a_gap(hid_t file)
{
    h5_list(file, "layer_names0", "a");
    h5_list(file, "layer_names2", "b");
    layer_of(file, "a", "v");
}

static void backend_is_a_list(hid_t file) { h5_list(file, "layer_names", "a"); layer_of(file, "a", "w"); h5_list(file, "backend", "x", "y"); }

static void version_is_a_number(hid_t file)
{
    h5_list(file, "layer_names", "a");
    layer_of(file, "a", "w");
    H5Acreate2(file, "keras_version", H5T_NATIVE_INT, H5Screate(H5S_SCALAR), H5P_DEFAULT, H5P_DEFAULT);
}

static void config_is_not_text(hid_t file)
{
    const hid_t g = h5_group(file, "model_weights");
    h5_text(file, "model_config", "\xc3\x28");
    h5_list(g, "layer_names", "a");
    layer_of(g, "a", "w");
}

static void model_is_a_dataset(hid_t file) { h5_vector(file, "model_weights", 4); }
static void model_is_linked_out(hid_t file) { H5Lcreate_external("/etc/x.h5", "/", file, "model_weights", H5P_DEFAULT, H5P_DEFAULT); }
static void top_level_lies(hid_t file) { h5_list(file, "layer_names", "a"); layer_of(file, "a", "w"); layer_of(file, "top_level_model_weights", "v"); }

static void old_layouts_that_lie(void **state)
{
    (void)state;
    static const bad list[] = {
        BAD(nothing, "no weights that Keras wrote"), BAD(no_layers, "no weights that Keras wrote"), BAD(unlisted_group, "has no 'a'"),
        BAD(layer_twice, "has 'a' twice"), BAD(layer_without_name, "without a name"), BAD(layer_is_dot, "is no path"),
        BAD(layer_with_empty_part, "is no path"), BAD(layer_absolute, "is no path"), BAD(layer_with_slash, "ends in '/'"), BAD(layer_not_text, "not UTF-8"),
        BAD(layer_with_control, "control characters"), BAD(layer_is_dataset, "'weight_names' cannot be opened"),
        BAD(layer_linked_out, "a link into another file"), BAD(layer_linked_softly, "a soft link"), BAD(no_weight_names, "'weight_names' cannot be opened"),
        BAD(weight_twice, "is there twice"), BAD(weight_absent, "'a' has no 'v'"), BAD(weight_up, "'a' has no '..'"),
        BAD(weight_below_weight, "is no group"), BAD(weight_without_name, "without a name"), BAD(no_weights_at_all, "holds no tensor"),
        BAD(same_name_after_cutting, "is there twice"), BAD(names_are_numbers, "is not text"), BAD(names_in_a_square, "has 2 dimensions"),
        BAD(names_are_references, "is not text"), BAD(names_without_number, "HDF5: "), BAD(names_never_written, "has '' twice"),
        BAD(pieces_with_a_gap, "'a' has no 'v'"), BAD(backend_is_a_list, "want one text"), BAD(version_is_a_number, "is not text"),
        BAD(config_is_not_text, "not UTF-8"), BAD(model_is_a_dataset, "HDF5: "), BAD(model_is_linked_out, "a link into another file"),
        BAD(top_level_lies, "has no 'v'"),
    };
    assert_all_refused(list, CX_COUNT(list));
}

/* ---- bombs ------------------------------------------------------------------------------------------------------------------- */

/* n layers of 64 MB of zeros, one and the same 64 KB of deflated chunk each. */
static h5_image bomb(int n)
{
    const hsize_t length = 16 << 20, zero = 0;
    const hid_t file = h5_new(false);
    const char *names[8] = { "a", "b", "c", "d", "e", "f", "g", "h" };
    unsigned char *zeros = calloc(length, 4);
    uLongf packed = compressBound(length * 4);
    unsigned char *deflated = malloc(packed);
    assert_int_equal(compress2(deflated, &packed, zeros, length * 4, 9), Z_OK);
    h5_texts(file, "layer_names", names, (hsize_t)n);
    for (int i = 0; i < n; i++) {
        const hid_t group = h5_group(file, names[i]), creation = h5_chunked(1, &length);
        H5Pset_deflate(creation, 9);
        h5_list(group, "weight_names", "w");
        const hid_t set = h5_dataset(group, "w", H5T_IEEE_F32LE, 1, &length, NULL, creation, NULL);
        assert_true(H5Dwrite_chunk(set, H5P_DEFAULT, 0, &zero, packed, deflated) >= 0);
    }
    free(zeros);
    free(deflated);
    return h5_bytes(file);
}

/* A file of 0.5 MB is given 128 MB for what it holds, not 512. */
static void bombs_do_not_go_off(void **state)
{
    (void)state;
    const h5_image many = bomb(8);
    assert_true(many.n < 1 << 20);
    assert_refused("bomb", many.p, many.n, "a file of this size is given");
    free(many.p);
}

/* ---- Keras 3 ----------------------------------------------------------------------------------------------------------------- */

static void sound_3(hid_t file)
{
    h5_vector(h5_group(file, "layers/dense/vars"), "0", 4);
}

static void hard(hid_t file, const char *from, const char *to) { assert_true(H5Lcreate_hard(file, from, file, to, H5P_DEFAULT, H5P_DEFAULT) >= 0); }
static void in_a_circle(hid_t file) { sound_3(file); hard(file, "layers", "layers/dense/again"); }
static void root_in_itself(hid_t file) { sound_3(file); hard(file, "/", "layers/root"); }
static void group_in_itself(hid_t file) { sound_3(file); hard(file, "layers/dense", "layers/dense/dense"); }
static void shared_dataset(hid_t file) { sound_3(file); h5_group(file, "layers/dense_1/vars"); hard(file, "layers/dense/vars/0", "layers/dense_1/vars/0"); }
static void optimiser_in_a_circle(hid_t file) { sound_3(file); h5_group(file, "optimizer/vars"); hard(file, "optimizer", "optimizer/vars/0"); }
static void soft_3(hid_t file) { sound_3(file); softly(file, "/layers/dense", "layers/dense_1"); }
static void external_3(hid_t file) { sound_3(file); H5Lcreate_external("/etc/x", "/", file, "layers/dense_1", H5P_DEFAULT, H5P_DEFAULT); }
static void external_vars(hid_t file) { H5Lcreate_external("/etc/x", "/", h5_group(file, "layers/dense"), "vars", H5P_DEFAULT, H5P_DEFAULT); }
static void soft_var(hid_t file) { sound_3(file); softly(file, "0", "layers/dense/vars/1"); }
static void vars_is_a_dataset(hid_t file) { h5_vector(h5_group(file, "layers/dense"), "vars", 4); }
static void layers_is_a_dataset(hid_t file) { h5_vector(file, "layers", 4); }
static void dataset_among_layers(hid_t file) { sound_3(file); h5_vector(file, "layers/x", 4); }
static void group_among_vars(hid_t file) { sound_3(file); h5_group(file, "layers/dense/vars/1"); }
static void named(hid_t file, const char *name) { sound_3(file); h5_text(H5Gopen2(file, "layers/dense/vars", H5P_DEFAULT), "name", name); }
static void named_nothing(hid_t file) { named(file, ""); }
static void named_by_a_list(hid_t file) { sound_3(file); h5_list(H5Gopen2(file, "layers/dense/vars", H5P_DEFAULT), "name", "x", "y"); }
static void named_with_control(hid_t file) { named(file, "x\ny"); }
static void named_not_text(hid_t file) { named(file, "\xed\xa0\x80"); }

static void named_twice(hid_t file)
{
    const hid_t vars = h5_group(file, "layers/dense_1/vars");
    named(file, "x");
    h5_vector(vars, "0", 4);
    h5_text(vars, "name", "x");
}

static void only_an_optimiser(hid_t file) { h5_group(file, "layers/x/vars"); h5_vector(h5_group(file, "optimizer/vars"), "0", 4); }

static void named_at_length(hid_t file)
{
    char name[6000];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    named(file, name);
}

static void deep(hid_t file)
{
    char path[5000 * 2 + 1];
    for (int i = 0; i < 5000; i++)
        memcpy(path + 2L * i, "g/", 2);
    path[sizeof path - 2] = 0;
    sound_3(file);
    h5_group(H5Gopen2(file, "layers", H5P_DEFAULT), path);
}

static void variance_3(hid_t file)
{
    const hid_t g = h5_group(file, "layers/batch_normalization_7/vars");
    for (int i = 0; i < 4; i++)
        h5_vector(g, (const char[]){ (char)('0' + i), 0 }, 2);
}

static void new_layouts_that_lie(void **state)
{
    (void)state;
    static const bad list[] = {
        BAD(in_a_circle, "met before"), BAD(root_in_itself, "met before"), BAD(group_in_itself, "met before"), BAD(shared_dataset, "met before"),
        BAD(optimiser_in_a_circle, "met before"), BAD(soft_3, "is a soft link or"), BAD(external_3, "into another file"),
        BAD(external_vars, "into another file"), BAD(soft_var, "is a soft link or"), BAD(vars_is_a_dataset, "HDF5: "),
        BAD(layers_is_a_dataset, "is no group"), BAD(dataset_among_layers, "is no group"), BAD(group_among_vars, "is no dataset"),
        BAD(named_twice, "'x/kernel': is there twice"), BAD(named_nothing, "want one text"), BAD(named_by_a_list, "want one text"),
        BAD(named_with_control, "control characters"), BAD(named_not_text, "not UTF-8"), BAD(only_an_optimiser, "holds no tensor"),
        BAD(named_at_length, "a name of 6006 bytes"), BAD(deep, "more than 32 deep"),
        BAD(variance_3, "'batch_normalization_7/moving_variance': element (1) is a variance"),
    };
    assert_all_refused(list, CX_COUNT(list));
}

/* What is no weight is counted: optimiser, metrics, the state of a random generator. Behind a user block of 512 bytes. */
static void others_are_counted(void **state)
{
    (void)state;
    const hid_t file = h5_new_behind(512, false);
    cx_st_file f;
    sound_3(file);
    h5_vector(h5_group(file, "optimizer/vars"), "0", 4);
    h5_vector(h5_group(file, "metrics/mean/vars"), "0", 4);
    h5_vector(h5_group(file, "layers/dropout/seed_generator/vars"), "0", 4);
    const h5_image h = h5_bytes(file);
    assert_cx_ok(cx_weights_parse("good.weights.h5", h.p, h.n, &f, err));
    assert_int_equal(f.n, 1);
    assert_string_equal(f.tensors[0].name, "dense/kernel");
    assert_memory_equal(f.tensors[0].data, h5_numbers, 16);
    assert_string_equal(cx_st_meta_get(&f, "keras.other_tensors"), "3");
    cx_st_free(&f);
    free(h.p);
}

/* ---- .keras ------------------------------------------------------------------------------------------------------------------ */

static const char CONFIG[] =
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":[{\"class_name\":\"Dense\",\"config\":{\"name\":\"head\"}}]}}";
#define JSON(name_, text) { .name = name_, .data = text, .n = strlen(text) }
#define VERSION JSON("metadata.json", "{\"keras_version\":\"3.0.0\"}")
#define PARTS(...) (const zip_part[]){ __VA_ARGS__ }, (int)(sizeof((const zip_part[]){ __VA_ARGS__ }) / sizeof(zip_part))

static void archive_refused(const char *why, const zip_part *parts, int n)
{
    cx_buf b = zip_make(parts, n, (zip_end){ 0 });
    assert_refused(why, b.data, b.len, why);
    cx_buf_free(&b);
}

static void archives_that_lie(void **state)
{
    (void)state;
    const hid_t file = h5_new(false);
    sound_3(file);
    const h5_image h = h5_bytes(file);
    char *zeros = calloc(1, 300 << 20);
    const zip_part weights = { .name = "model.weights.h5", .data = h.p, .n = h.n };
    archive_refused("a .keras archive without 'model.weights.h5'; is it sharded?", PARTS(JSON("config.json", CONFIG), VERSION));
    archive_refused("a .keras archive without 'metadata.json'", PARTS(JSON("config.json", CONFIG), weights));
    archive_refused("member 'config.json': line 1", PARTS(JSON("config.json", "{\"a\":"), VERSION, weights));
    archive_refused("duplicate", PARTS(JSON("config.json", "{\"a\":1,\"a\":2}"), VERSION, weights));
    archive_refused("member 'metadata.json': line 1", PARTS(JSON("config.json", CONFIG), JSON("metadata.json", "3.0"), weights));
    archive_refused("layer 0 has no name", PARTS(JSON("config.json", "{\"config\":{\"layers\":[{\"class_name\":\"Dense\"}]}}"), VERSION, weights));
    archive_refused("layer 0 has no name", PARTS(JSON("config.json", "{\"config\":{\"layers\":[[]]}}"), VERSION, weights));
    archive_refused("HDF5: cannot be opened", PARTS(JSON("config.json", CONFIG), VERSION, JSON("model.weights.h5", "not HDF5 at all")));
    archive_refused("HDF5: cannot be opened", PARTS(JSON("config.json", CONFIG), VERSION, { .name = "model.weights.h5", .data = h.p, .n = h.n - 1 }));
    archive_refused("CRC-32", PARTS(JSON("config.json", CONFIG), VERSION, { .name = "model.weights.h5", .data = h.p, .n = h.n, .crc = 1 }));
    archive_refused("more than the 16777216 that are read", PARTS({ .name = "config.json", .data = zeros, .n = 20 << 20, .deflate = true }, VERSION, weights));
    archive_refused("bytes, more than the", PARTS(JSON("config.json", CONFIG), VERSION,
        { .name = "model.weights.h5", .data = zeros, .n = 300 << 20, .deflate = true }));
    cx_buf b = zip_make(PARTS(JSON("config.json", CONFIG), VERSION, { .name = "model.weights.h5", .data = h.p, .n = h.n, .deflate = true }), (zip_end){ 0 });
    cx_st_file f;
    assert_cx_ok(cx_weights_parse("good.keras", b.data, b.len, &f, err));
    assert_string_equal(f.tensors[0].name, "head/kernel");
    cx_st_free(&f);
    cx_buf_free(&b);
    free(zeros);
    free(h.p);
}

/* ---- what is no weight file -------------------------------------------------------------------------------------------------- */

static void other_files(void **state)
{
    (void)state;
    assert_refused("empty", "", 0, "is empty");
    assert_refused("one byte", "x", 1, "is no weight file");
    assert_refused("page", "<!DOCTYPE html><html>", 21, "is a web page");
    assert_refused("pointer", "version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull");
    assert_refused("shards", "{\"weight_map\":{}}", 17, "list of a model's shards");
    assert_refused("JSON", "{\"class_name\":\"Functional\"}", 27, "is JSON");
    assert_refused("a list", "[1]", 3, "is JSON");
    assert_refused("png", "\x89PNG\r\n\x1a\n        ", 16, "begins with 89 50 4e 47");
    assert_refused("signature", "\x89HDF\r\n\x1a\n", 8, "HDF5: cannot be opened");
    assert_refused("safetensors", "\x02\0\0\0\0\0\0\0{}", 10, "holds no tensor");
    assert_refused("cut safetensors", "\x0f\0\0\0\0\0\0\0{}", 10, "cut short");
}

/* ---- damage ------------------------------------------------------------------------------------------------------------------ */

#ifdef CX_SANITIZED
enum { EVERY = 8 };             /* a child costs more there */
#else
enum { EVERY = 1 };
#endif

/* Where the numbers lie: a bit flipped there is another number, or none, and no reader could tell. */
static size_t place_of_numbers(const h5_image *h)
{
    for (size_t i = 0; i + 16 <= h->n; i++)
        if (memcmp(h->p + i, h5_numbers, 16) == 0)
            return i;
    fail_msg("the numbers are not in the file");
    return 0;
}

static h5_image sound(bool latest)
{
    const hid_t file = h5_new(latest), at = h5_layer(file);
    h5_vector(at, "kernel:0", 4);
    H5Gclose(at);
    return h5_bytes(file);
}

/* 120 beginnings of a file, in both forms. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    for (int latest = 0; latest < 2; latest++) {
        const h5_image h = sound(latest);
        for (size_t k = 0; k < 60; k += EVERY) {
            const size_t n = k < 20 ? h.n - 1 - k : h.n * (k - 19) / 42;
            unsigned char *exact = malloc(n);
            memcpy(exact, h.p, n);
            assert_refused("cut", exact, n, "");
            free(exact);
        }
        free(h.p);
    }
}

/* The new form has a checksum over every block: one flipped bit is noticed, or lay in space that nothing uses. */
static void flipped_bits_are_noticed(void **state)
{
    (void)state;
    const h5_image h = sound(true);
    const size_t numbers = place_of_numbers(&h);
    int noticed = 0;
    for (size_t i = 0, met = 0; i < h.n; i++) {
        cx_st_file f;
        cx_error e = { 0 };
        if ((i >= numbers && i < numbers + 16) || (h.p[i] == 0 && i % 64) || met++ % (2 * EVERY))       /* most zeros are empty space */
            continue;
        h.p[i] ^= (unsigned char)(1 << i % 8);
        if (cx_weights_parse("flipped.h5", h.p, h.n, &f, &e) != CX_OK) {
            assert_true(e.status == CX_E_DATA || e.status == CX_E_MEMORY);
            noticed++;
        } else {
            if (f.n != 1 || strcmp(f.tensors[0].name, "a/kernel") != 0 || f.tensors[0].bytes != 16 || memcmp(f.tensors[0].data, h5_numbers, 16) != 0)
                fail_msg("byte %zu: other tensors came out", i);
            cx_st_free(&f);
        }
        h.p[i] ^= (unsigned char)(1 << i % 8);
    }
    print_message("%d flipped bits noticed\n", noticed);
    assert_true(noticed > (EVERY == 1 ? 150 : 10));
    refused += noticed;
    free(h.p);
}

/* The old form has none: what comes out is sound, or refused; nothing crashes the parent, and no child is left. */
static void flipped_bits_do_no_harm(void **state)
{
    (void)state;
    const h5_image h = sound(false);
    for (size_t i = 0, met = 0; i < h.n; i++) {
        cx_st_file f;
        cx_error e = { 0 };
        if ((h.p[i] == 0 && i % 64) || met++ % (4 * EVERY))
            continue;
        h.p[i] ^= (unsigned char)(1 << i % 8);
        const cx_status s = cx_weights_parse("flipped.h5", h.p, h.n, &f, &e);
        if (s == CX_OK)
            cx_st_free(&f);
        else if (s != CX_E_DATA && s != CX_E_MEMORY)
            fail_msg("byte %zu: status %d, %s", i, (int)s, e.text);
        h.p[i] ^= (unsigned char)(1 << i % 8);
    }
    int status;
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1);
    free(h.p);
}

static void enough_was_refused(void **state)
{
    (void)state;
    struct rusage children;
    getrusage(RUSAGE_CHILDREN, &children);
    print_message("%d files refused; at most %ld MB in a parser\n", refused, children.ru_maxrss >> 10);
#ifndef CX_SANITIZED
    assert_true(children.ru_maxrss < 1 << 20);                     /* KB; with the pages that it has from its parent */
#endif
    assert_true(refused >= (EVERY == 1 ? 400 : 150));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_layouts_that_lie), cmocka_unit_test(bombs_do_not_go_off),
        cmocka_unit_test(new_layouts_that_lie), cmocka_unit_test(others_are_counted), cmocka_unit_test(archives_that_lie), cmocka_unit_test(other_files),
        cmocka_unit_test(truncated_files_are_refused), cmocka_unit_test(flipped_bits_are_noticed), cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(enough_was_refused),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
