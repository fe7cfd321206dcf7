/* test_hostile_h5.c - HDF5 files that would make a network out of anything but saved numbers: each is refused, and the message says why. */
#include "make_h5.h"
#include "weights/sandboxed.h"
#include <zlib.h>
#include "weights/refused.h"

/* ---- one dataset, wrong in one thing --------------------------------------------------------------------------------------- */

static const hsize_t four[] = { 4 };
static const char KERNEL[] = "kernel:0";
#define VECTOR(name, type, data) static void name(hid_t at) { H5Dclose(h5_dataset(at, KERNEL, type, 1, four, NULL, 0, data)); }
static const float nan_at[] = { 1, 2, NAN, 4 }, inf_at[] = { 1, 2, 3, INFINITY }, minus_at[] = { -INFINITY, 2, 3, 4 };
static const double large_at[] = { 1, 1e300, 3, 4 }, nan64_at[] = { 1, 2, 3, NAN };
static const uint16_t half_inf[] = { 0x3c00, 0x7c00, 0, 0 }, half_nan[] = { 0x3c00, 0, 0, 0xfe00 };
VECTOR(not_a_number, H5T_NATIVE_FLOAT, nan_at)
VECTOR(infinite, H5T_NATIVE_FLOAT, inf_at)
VECTOR(minus_infinite, H5T_NATIVE_FLOAT, minus_at)
VECTOR(beyond_float, H5T_NATIVE_DOUBLE, large_at)
VECTOR(double_nan, H5T_NATIVE_DOUBLE, nan64_at)
VECTOR(unsigned_64, H5T_STD_U64LE, "01234567012345670123456701234567")
VECTOR(bits, H5T_STD_B32LE, "0123456789abcdef")
VECTOR(unix_time, H5T_UNIX_D32LE, NULL)
VECTOR(never, H5T_IEEE_F32LE, NULL)

static void typed(hid_t at, hid_t type, const void *data)
{
    H5Dclose(h5_dataset(at, KERNEL, type, 1, four, NULL, 0, data));
    H5Tclose(type);
}

static hid_t half_type(void)
{
    const hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(t, 15, 10, 5, 0, 10);
    H5Tset_size(t, 2);
    H5Tset_ebias(t, 15);
    return t;
}

static void half_infinite(hid_t at) { typed(at, half_type(), half_inf); }
static void half_not_a_number(hid_t at) { typed(at, half_type(), half_nan); }

static void odd_bias(hid_t at)
{
    const hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_ebias(t, 126);
    typed(at, t, h5_numbers);
}

static void odd_mantissa(hid_t at)
{
    const hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(t, 31, 20, 11, 0, 20);
    typed(at, t, h5_numbers);
}

static void odd_precision(hid_t at)
{
    const hid_t t = H5Tcopy(H5T_STD_I32LE);
    H5Tset_precision(t, 12);
    typed(at, t, h5_numbers);
}

static void vax(hid_t at) { typed(at, H5Tcopy(H5T_VAX_F32), h5_numbers); }

static void fixed_texts(hid_t at)
{
    const hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, 4);
    typed(at, t, "0.500.510.520.53");
}

static void variable_texts(hid_t at) { typed(at, h5_text_type(), (const char *[]){ "0.5", "0.5", "0.5", "0.5" }); }

static void opaque_alone(hid_t at) { typed(at, H5Tcreate(H5T_OPAQUE, 2), h5_numbers); }

static void opaque_of_four(hid_t at)
{
    const hid_t t = H5Tcreate(H5T_OPAQUE, 4), set = h5_dataset(at, KERNEL, t, 1, four, NULL, 0, h5_numbers);
    h5_text(set, "dtype", "bfloat16");
    H5Dclose(set);
}

static void opaque_other(hid_t at)
{
    const hid_t t = H5Tcreate(H5T_OPAQUE, 2), set = h5_dataset(at, KERNEL, t, 1, four, NULL, 0, h5_numbers);
    h5_text(set, "dtype", "float8_e4m3");
    H5Dclose(set);
}

static void opaque_infinite(hid_t at)
{
    static const uint16_t numbers[] = { 0x3f80, 0x7f80, 0, 0 };
    const hid_t t = H5Tcreate(H5T_OPAQUE, 2), set = h5_dataset(at, KERNEL, t, 1, four, NULL, 0, numbers);
    h5_text(set, "dtype", "bfloat16");
    H5Dclose(set);
}

static void records(hid_t at)
{
    const hid_t t = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(t, "re", 0, H5T_IEEE_F32LE);
    H5Tinsert(t, "im", 4, H5T_IEEE_F32LE);
    typed(at, t, h5_numbers);
}

static void enumeration(hid_t at)
{
    const hid_t t = H5Tenum_create(H5T_STD_I8LE);
    H5Tenum_insert(t, "FALSE", (signed char[]){ 0 });
    H5Tenum_insert(t, "TRUE", (signed char[]){ 1 });
    typed(at, t, (signed char[]){ 0, 1, 1, 0 });
}

static void lists(hid_t at)
{
    float x = 1;
    const hvl_t list = { 1, &x };
    typed(at, H5Tvlen_create(H5T_IEEE_F32LE), (hvl_t[]){ list, list, list, list });
}

static void arrays(hid_t at) { typed(at, H5Tarray_create2(H5T_IEEE_F32LE, 1, four), h5_numbers); }

static void references(hid_t at)
{
    hobj_ref_t r[4];
    for (int i = 0; i < 4; i++)
        H5Rcreate(&r[i], at, ".", H5R_OBJECT, -1);
    H5Dclose(h5_dataset(at, KERNEL, H5T_STD_REF_OBJ, 1, four, NULL, 0, r));
}

static void region_references(hid_t at) { H5Dclose(h5_dataset(at, KERNEL, H5T_STD_REF_DSETREG, 1, four, NULL, 0, NULL)); }

/* shapes */
#define SHAPE(name, nd, most, chunk, ...) static void name(hid_t at) \
    { const hsize_t d[] = { __VA_ARGS__ }; H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, nd, d, most, chunk, NULL)); }
static const hsize_t ones[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
SHAPE(zero_dimension, 2, NULL, 0, 3, 0)
SHAPE(nine_dimensions, 9, NULL, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1)
SHAPE(wraps_to_zero, 4, NULL, h5_chunked(4, ones), 2147483648, 2147483648, 4, 2)
SHAPE(wraps_to_little, 3, NULL, h5_chunked(3, ones), 4294967296, 4294967296, 3)
SHAPE(huge, 2, NULL, h5_chunked(2, ones), 1 << 20, 1 << 20)
SHAPE(rather_large, 1, NULL, h5_chunked(1, ones), 200 << 20)
SHAPE(many_chunks, 1, NULL, h5_chunked(1, ones), 2 << 20)
SHAPE(huge_unwritten, 1, NULL, 0, 1 << 30)

static void no_space(hid_t at)
{
    const hid_t space = H5Screate(H5S_NULL), set = H5Dcreate2(at, KERNEL, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dclose(set);
    H5Sclose(space);
}

/* places */
static void external_storage(hid_t at)
{
    const hid_t c = h5_creation();
    H5Pset_external(c, "/etc/passwd", 0, 16);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, NULL));
}

static void external_pieces(hid_t at)
{
    const hid_t c = h5_creation();
    H5Pset_external(c, "/proc/self/mem", 0, 8);
    H5Pset_external(c, "weights.raw", 8, H5F_UNLIMITED);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, NULL));
}

static void virtual_from(hid_t at, const char *file)
{
    const hid_t c = h5_creation(), space = H5Screate_simple(1, four, NULL);
    H5Pset_virtual(c, space, file, "/a/x", space);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, NULL));
    H5Sclose(space);
}

static void virtual_elsewhere(hid_t at) { virtual_from(at, "/etc/other.h5"); }
static void virtual_itself(hid_t at) { virtual_from(at, "."); }
static void external_link(hid_t at) { H5Lcreate_external("/etc/other.h5", "/x", at, KERNEL, H5P_DEFAULT, H5P_DEFAULT); }
static void soft_link(hid_t at) { h5_vector(at, "x", 4); H5Lcreate_soft("x", at, KERNEL, H5P_DEFAULT, H5P_DEFAULT); }
static void dangling(hid_t at) { H5Lcreate_soft("/no/such", at, KERNEL, H5P_DEFAULT, H5P_DEFAULT); }
static void is_group(hid_t at) { H5Gclose(h5_group(at, KERNEL)); }
static void is_type(hid_t at) { H5Tcommit2(at, KERNEL, H5Tcopy(H5T_IEEE_F32LE), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT); }
static void is_absent(hid_t at) { h5_vector(at, "kernel", 4); }

/* ---- chunks ---------------------------------------------------------------------------------------------------------------- */

enum { DEFLATE = 1, SHUFFLE = 2, FLETCHER = 4 };

static hid_t packed(int filters)
{
    const hid_t c = h5_chunked(1, four);
    if (filters & SHUFFLE)
        H5Pset_shuffle(c);
    if (filters & DEFLATE)
        H5Pset_deflate(c, 6);
    if (filters & FLETCHER)
        H5Pset_fletcher32(c);
    return c;
}

/* 4 numbers in one chunk whose bytes in the file are these. */
static void raw_chunk(hid_t at, int filters, uint32_t mask, const void *bytes, size_t n)
{
    const hid_t set = h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, packed(filters), NULL);
    assert_true(H5Dwrite_chunk(set, H5P_DEFAULT, mask, (const hsize_t[]){ 0 }, n, bytes) >= 0);
    H5Dclose(set);
}

/* `n` bytes deflated, of which `keep` go into the file, then `more` zeros. */
static void deflated_chunk(hid_t at, size_t n, size_t keep, size_t more)
{
    unsigned char plain[4096] = { 1, 2, 3 }, deflated[8192] = { 0 };
    uLongf len = sizeof deflated;
    assert_int_equal(compress2(deflated, &len, plain, n, 6), Z_OK);
    raw_chunk(at, DEFLATE, 0, deflated, (keep < len ? keep : len) + more);
}

static void inflates_short(hid_t at) { deflated_chunk(at, 15, 9999, 0); }
static void inflates_to_nothing(hid_t at) { deflated_chunk(at, 0, 9999, 0); }
static void inflates_by_one_too_many(hid_t at) { deflated_chunk(at, 17, 9999, 0); }
static void inflates_long(hid_t at) { deflated_chunk(at, 4096, 9999, 0); }
static void deflate_cut(hid_t at) { deflated_chunk(at, 16, 7, 0); }
static void deflate_without_checksum(hid_t at) { deflated_chunk(at, 16, 9, 0); }
static void deflate_and_more(hid_t at) { deflated_chunk(at, 16, 9999, 3); }
static void deflate_garbage(hid_t at) { raw_chunk(at, DEFLATE, 0, "what is this, then?", 19); }
static void deflate_of_a_byte(hid_t at) { raw_chunk(at, DEFLATE, 0, "x", 1); }
static void masked_short(hid_t at) { raw_chunk(at, DEFLATE, 1, "0123456789abcde", 15); }
static void masked_long(hid_t at) { raw_chunk(at, DEFLATE, 1, "0123456789abcdefgh", 18); }
static void shuffled_short(hid_t at) { raw_chunk(at, SHUFFLE, 0, "0123456789abc", 13); }
static void false_checksum(hid_t at) { raw_chunk(at, FLETCHER, 0, "0123456789abcdef!!!!", 20); }
static void no_room_for_checksum(hid_t at) { raw_chunk(at, FLETCHER, 0, "01", 2); }
static void checksum_missing(hid_t at) { raw_chunk(at, FLETCHER, 0, "0123456789abcdef", 16); }

static void chunks_never_written(hid_t at) { H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, packed(0), NULL)); }

static void one_chunk_missing(hid_t at)
{
    const hsize_t eight = 8, zero = 0;
    const hid_t set = h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, &eight, NULL, packed(0), NULL);
    assert_true(H5Dwrite_chunk(set, H5P_DEFAULT, 0, &zero, 16, h5_numbers) >= 0);
    H5Dclose(set);
}

/* 432 MB in one chunk of which the dataset shows four numbers: 0.4 MB of deflated zeros. */
static void one_enormous_chunk(hid_t at)
{
    const hsize_t any = H5S_UNLIMITED, chunk = 108 << 20, zero = 0;
    const hid_t c = h5_chunked(1, &chunk);
    unsigned char *deflated = calloc(1, 440000);
    H5Pset_deflate(c, 6);
    const hid_t set = h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, &any, c, NULL);
    assert_true(H5Dwrite_chunk(set, H5P_DEFAULT, 0, &zero, 440000, deflated) >= 0);
    free(deflated);
    H5Dclose(set);
}

static void filtered(hid_t at, H5Z_filter_t id, size_t n, const unsigned *values)
{
    const hid_t c = packed(0);
    assert_true(H5Pset_filter(c, id, H5Z_FLAG_OPTIONAL, n, values) >= 0);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, NULL));
}

static void plug_in(hid_t at) { filtered(at, 32001, 0, NULL); }
static void private_filter(hid_t at) { filtered(at, 300, 2, (const unsigned[]){ 1, 2 }); }
static void n_bit(hid_t at) { const hid_t c = packed(0); H5Pset_nbit(c); H5Dclose(h5_dataset(at, KERNEL, H5T_STD_I32LE, 1, four, NULL, c, h5_numbers)); }

static void scale_offset(hid_t at)
{
    const hid_t c = packed(0);
    H5Pset_scaleoffset(c, H5Z_SO_INT, 0);
    H5Dclose(h5_dataset(at, KERNEL, H5T_STD_I32LE, 1, four, NULL, c, h5_numbers));
}

static void deflated_twice(hid_t at)
{
    const hid_t c = packed(DEFLATE);
    H5Pset_deflate(c, 9);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, h5_numbers));
}

static void shuffled_after_deflate(hid_t at)
{
    const hid_t c = packed(DEFLATE);
    H5Pset_shuffle(c);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, h5_numbers));
}

typedef struct { const char *what; void (*make)(hid_t at); const char *why; } bad;
#define BAD(make, why) { #make, make, why }
static const bad bad_datasets[] = {
    BAD(not_a_number, "'a/kernel': element (2) is not a number"), BAD(infinite, "(3) is infinite"), BAD(minus_infinite, "(0) is infinite"),
    BAD(beyond_float, "(1) is infinite, or beyond float32"), BAD(double_nan, "(3) is not a number"), BAD(half_infinite, "(1) is infinite"),
    BAD(half_not_a_number, "(3) is not a number"), BAD(opaque_infinite, "(1) is infinite"), BAD(unsigned_64, "a form of 8 bytes"),
    BAD(bits, "holds bit fields"), BAD(unix_time, "holds times"), BAD(never, "'a/a/kernel:0': was never written"), BAD(odd_bias, "a form of 4 bytes"),
    BAD(odd_mantissa, "a form of 4 bytes"), BAD(odd_precision, "a form of 4 bytes"), BAD(vax, "a form of 4 bytes"), BAD(fixed_texts, "holds texts"),
    BAD(variable_texts, "holds texts"), BAD(opaque_alone, "holds opaque bytes"), BAD(opaque_of_four, "holds opaque bytes"),
    BAD(opaque_other, "holds opaque bytes"), BAD(records, "holds records"), BAD(enumeration, "holds an enumeration"), BAD(lists, "holds lists"),
    BAD(arrays, "holds arrays"), BAD(references, "holds references"), BAD(region_references, "holds references"), BAD(zero_dimension, "dimension 1 is 0"),
    BAD(nine_dimensions, "9 dimensions"), BAD(wraps_to_zero, "too large to count"), BAD(wraps_to_little, "too large to count"), BAD(huge, "far more than"),
    BAD(rather_large, "far more than"), BAD(many_chunks, "at most 1048576 are read"), BAD(huge_unwritten, "was never written"),
    BAD(no_space, "has no shape"), BAD(external_storage, "lie in another file"), BAD(external_pieces, "lie in another file"),
    BAD(virtual_elsewhere, "(virtual)"), BAD(virtual_itself, "(virtual)"), BAD(external_link, "'a/kernel:0' is a link into another file"),
    BAD(soft_link, "is a soft link"), BAD(dangling, "is a soft link"), BAD(is_group, "is no dataset"), BAD(is_type, "is no dataset"),
    BAD(is_absent, "has no 'kernel:0'"), BAD(inflates_short, "unpacks to less"), BAD(inflates_to_nothing, "unpacks to less"),
    BAD(inflates_by_one_too_many, "unpacks to more"), BAD(inflates_long, "unpacks to more"), BAD(deflate_cut, "ends before"),
    BAD(deflate_without_checksum, "a chunk "), BAD(deflate_and_more, "behind its deflated data"), BAD(deflate_garbage, "is damaged"),
    BAD(deflate_of_a_byte, "a chunk "), BAD(masked_short, "another length"), BAD(masked_long, "another length"), BAD(shuffled_short, "another length"),
    BAD(false_checksum, "false checksum"), BAD(no_room_for_checksum, "false checksum"), BAD(checksum_missing, "false checksum"),
    BAD(chunks_never_written, "was never written"), BAD(one_chunk_missing, "was never written"), BAD(one_enormous_chunk, "but one chunk of it 452984832"),
    BAD(plug_in, "filter 32001"), BAD(private_filter, "filter 300"), BAD(n_bit, "filter 5"), BAD(scale_offset, "filter 6"),
    BAD(deflated_twice, "an order that nobody writes"), BAD(shuffled_after_deflate, "an order that nobody writes"),
};

static void bad_datasets_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(bad_datasets); i++)
        for (int latest = 0; latest < 2; latest++) {               /* the old and the new form of every block */
            const hid_t file = h5_new(latest), at = h5_layer(file);
            bad_datasets[i].make(at);
            H5Gclose(at);
            const h5_image image = h5_bytes(file);
            assert_refused(bad_datasets[i].what, image.p, image.n, bad_datasets[i].why);
            free(image.p);
        }
}

/* ---- what must still be read: the same doors, used rightly ---------------------------------------------------------------- */

static void good_half(hid_t at) { typed(at, half_type(), (const uint16_t[]){ 0x3c00, 0xc000, 0x4200, 0x3800 }); }
static void good_double(hid_t at) { typed(at, H5Tcopy(H5T_IEEE_F64BE), h5_numbers); }
static void good_masked(hid_t at) { raw_chunk(at, DEFLATE, 1, h5_numbers, 16); }
static void good_packed(hid_t at) { H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, packed(7), h5_numbers)); }

static void good_bf16(hid_t at)
{
    static const uint16_t numbers[] = { 0x3f80, 0xc000, 0x4040, 0x3f00 };
    const hid_t t = H5Tcreate(H5T_OPAQUE, 2), set = h5_dataset(at, KERNEL, t, 1, four, NULL, 0, numbers);
    h5_text(set, "dtype", "bfloat16");
    H5Dclose(set);
}

static void good_grown(hid_t at)
{
    const hsize_t any = H5S_UNLIMITED, chunk = 1024;
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, &any, h5_chunked(1, &chunk), h5_numbers));
}

static void good_checksum_first(hid_t at)
{
    const hid_t c = packed(FLETCHER);
    H5Pset_deflate(c, 9);
    H5Dclose(h5_dataset(at, KERNEL, H5T_IEEE_F32LE, 1, four, NULL, c, h5_numbers));
}

static void sound_ones_are_read(void **state)
{
    (void)state;
    static void (*const good[])(hid_t) = { good_half, good_bf16, good_masked, good_packed, good_grown, good_checksum_first, good_double };
    for (int k = 0; k < 4 * CX_COUNT(good); k++) {                 /* in both forms, alone and behind a user block */
        const int i = k / 4;
        const hid_t file = h5_new_behind(k & 2 ? 1024 : 0, k & 1), at = h5_layer(file);
        cx_st_file f;
        good[i](at);
        H5Gclose(at);
        const h5_image image = h5_bytes(file);
        assert_cx_ok(cx_weights_parse("good.h5", image.p, image.n, &f, err));
        assert_string_equal(f.tensors[0].name, "a/kernel");
        if (good[i] != good_double)
            assert_memory_equal(f.tensors[0].data, h5_numbers, 16);
        cx_st_free(&f);
        free(image.p);
    }
}

static void variances_are_not_negative(void **state)
{
    (void)state;
    const hid_t file = h5_new(false), bn = h5_group(file, "bn/bn");
    h5_list(file, "layer_names", "bn");
    const hid_t outer = H5Gopen2(file, "bn", H5P_DEFAULT);
    h5_list(outer, "weight_names", "bn/moving_mean:0", "bn/moving_variance:0");
    h5_vector(bn, "moving_mean:0", 2);
    h5_vector(bn, "moving_variance:0", 2);
    H5Gclose(bn);
    H5Gclose(outer);
    const h5_image image = h5_bytes(file);
    assert_refused("negative variance", image.p, image.n, "'bn/moving_variance': element (1) is a variance below 0");
    free(image.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_datasets_are_refused), cmocka_unit_test(sound_ones_are_read), cmocka_unit_test(variances_are_not_negative),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
