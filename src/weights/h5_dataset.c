/* h5_dataset.c - one HDF5 dataset: its type, shape, place and filters are judged, then its numbers taken from the bytes of the file. Depends on h5.h. */
#include <stdlib.h>
#include <string.h>
#include "h5.h"

/* ---- type -------------------------------------------------------------------------------------------------------------- */

/* The formats of IEEE 754, and bfloat16: sign, exponent, mantissa from the top. */
static const struct { size_t bytes, exponent_bits, mantissa_bits, bias; cx_raw raw; } floats[] = {
    { 2, 5, 10, 15, CX_RAW_F16 }, { 2, 8, 7, 127, CX_RAW_BF16 }, { 4, 8, 23, 127, CX_RAW_F32 }, { 8, 11, 52, 1023, CX_RAW_F64 },
};
static const struct { size_t bytes; H5T_sign_t sign; cx_raw raw; } wholes[] = {
    { 1, H5T_SGN_2, CX_RAW_I8 }, { 2, H5T_SGN_2, CX_RAW_I16 }, { 4, H5T_SGN_2, CX_RAW_I32 }, { 8, H5T_SGN_2, CX_RAW_I64 },
    { 1, H5T_SGN_NONE, CX_RAW_U8 }, { 2, H5T_SGN_NONE, CX_RAW_U16 }, { 4, H5T_SGN_NONE, CX_RAW_U32 },
};
static const char *const class_names[] = {
    [H5T_TIME] = "times", [H5T_STRING] = "texts", [H5T_BITFIELD] = "bit fields", [H5T_OPAQUE] = "opaque bytes", [H5T_COMPOUND] = "records",
    [H5T_REFERENCE] = "references", [H5T_ENUM] = "an enumeration", [H5T_VLEN] = "lists of any length", [H5T_ARRAY] = "arrays",
};

static bool float_kind(hid_t type, cx_raw *out)
{
    size_t sign, exponent, exponent_bits, mantissa, mantissa_bits;
    if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0 || H5Tget_norm(type) != H5T_NORM_IMPLIED)
        return false;
    for (int i = 0; i < CX_COUNT(floats); i++)
        if (H5Tget_size(type) == floats[i].bytes && exponent_bits == floats[i].exponent_bits && mantissa_bits == floats[i].mantissa_bits &&
            H5Tget_ebias(type) == floats[i].bias && mantissa == 0 && exponent == mantissa_bits && sign == exponent + exponent_bits) {
            *out = floats[i].raw;
            return true;
        }
    return false;
}

static bool whole_kind(hid_t type, cx_raw *out)
{
    for (int i = 0; i < CX_COUNT(wholes); i++)
        if (H5Tget_size(type) == wholes[i].bytes && H5Tget_sign(type) == wholes[i].sign) {
            *out = wholes[i].raw;
            return true;
        }
    return false;
}

/* Keras 3 writes bfloat16 as two opaque bytes, little-endian, and says so in an attribute. */
static bool is_opaque_bf16(const cx_h5 *f, hid_t dataset, hid_t type)
{
    cx_texts t = { 0 };
    cx_error ignored = { 0 };
    const bool is = H5Tget_size(type) == 2 && H5Aexists(dataset, "dtype") > 0 && cx_h5_texts(f, dataset, "", "dtype", &t, &ignored) == CX_OK && t.n == 1 &&
                    strcmp(t.text[0], "bfloat16") == 0;
    cx_texts_free(&t);
    return is;
}

static cx_status read_type(const cx_h5 *f, hid_t dataset, hid_t type, const char *where, cx_raw_tensor *t, cx_error *err)
{
    const H5T_class_t kind = H5Tget_class(type);
    if (kind == H5T_OPAQUE && is_opaque_bf16(f, dataset, type)) {
        t->type = CX_RAW_BF16;
        return CX_OK;
    }
    if (kind != H5T_FLOAT && kind != H5T_INTEGER)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': holds %s, want numbers", where, kind > 0 && kind < CX_COUNT(class_names) && class_names[kind]
            ? class_names[kind] : "something unknown");
    const H5T_order_t order = H5Tget_order(type);
    const bool plain = (order == H5T_ORDER_LE || order == H5T_ORDER_BE) && H5Tget_offset(type) == 0 && H5Tget_precision(type) == 8 * H5Tget_size(type);
    if (!plain || !(kind == H5T_FLOAT ? float_kind(type, &t->type) : whole_kind(type, &t->type)))
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': its numbers have a form of %zu bytes that is not read; want float16, bfloat16, float32, "
            "float64, or whole numbers of up to 64 bits with a sign, 32 without", where, H5Tget_size(type));
    t->big_endian = order == H5T_ORDER_BE;
    return CX_OK;
}

/* ---- shape ------------------------------------------------------------------------------------------------------------- */

/* t->nd, d and bytes. H5Sget_simple_extent_npoints wraps, so the product is made here. */
static cx_status read_shape(hid_t space, const char *where, cx_raw_tensor *t, cx_error *err)
{
    hsize_t d[H5S_MAX_RANK];
    const H5S_class_t kind = H5Sget_simple_extent_type(space);
    if (kind != H5S_SIMPLE && kind != H5S_SCALAR)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': has no shape, so it holds nothing", where);
    t->nd = kind == H5S_SCALAR ? 0 : H5Sget_simple_extent_dims(space, d, NULL);
    if (t->nd < 0)
        return cx_h5_fail(err, "HDF5: dataset '%s': its shape cannot be read", where);
    if (t->nd > CX_ST_DIMS)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': has %d dimensions, at most %d are read", where, t->nd, CX_ST_DIMS);
    t->bytes = cx_raw_bytes(t->type);
    for (int k = 0; k < t->nd; k++) {
        if (d[k] == 0)
            return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': dimension %d is 0, so it holds nothing", where, k);
        if (d[k] > PTRDIFF_MAX || __builtin_mul_overflow(t->bytes, (size_t)d[k], &t->bytes) || t->bytes > PTRDIFF_MAX)
            return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': its shape is too large to count", where);
        t->d[k] = (int64_t)d[k];
    }
    return CX_OK;
}

/* ---- place ------------------------------------------------------------------------------------------------------------- */

static cx_status never_written(const char *where, cx_error *err)
{
    return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': was never written, and would read as zeros; the program that saved it was stopped too early", where);
}

static cx_status take_contiguous(const cx_h5 *f, hid_t dataset, const char *where, cx_raw_tensor *t, cx_error *err)
{
    const haddr_t at = H5Dget_offset(dataset);
    if (at == HADDR_UNDEF)
        return never_written(where, err);
    if (H5Dget_storage_size(dataset) != t->bytes || at > f->n || t->bytes > f->n - at)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': wants %zu bytes, of which not all lie in the file", where, t->bytes);
    t->data = f->p + at;
    return CX_OK;
}

/* Compact data lie in the dataset's header; read as they are, without conversion. */
static cx_status take_compact(hid_t dataset, hid_t type, const char *where, const cx_raw_tensor *t, unsigned char *out, cx_error *err)
{
    if (H5Dget_storage_size(dataset) != t->bytes)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': wants %zu bytes, its header holds another number", where, t->bytes);
    return H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0 ? cx_h5_fail(err, "HDF5: dataset '%s': cannot be read", where) : CX_OK;
}

static cx_status take(const cx_h5 *f, hid_t dataset, hid_t type, hid_t creation, const char *where, cx_raw_tensor *t, void **owned, cx_sink *s, cx_error *err)
{
    const H5D_layout_t layout = H5Pget_layout(creation);
    if (H5Pget_external_count(creation) != 0)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': its numbers lie in another file, which is not opened", where);
    if (layout == H5D_VIRTUAL)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': is put together from other datasets (virtual), which are not followed", where);
    if (layout == H5D_CONTIGUOUS)
        return take_contiguous(f, dataset, where, t, err);
    if (layout != H5D_COMPACT && layout != H5D_CHUNKED)
        return cx_h5_fail(err, "HDF5: dataset '%s': has an unknown layout", where);
    if (t->bytes / cx_raw_bytes(t->type) > cx_sink_room(s))                /* a number takes a byte or more in the sink */
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': wants %zu bytes, far more than a file of this size is given", where, t->bytes);
    t->data = *owned = cx_alloc_aligned(t->bytes, 1);
    if (!*owned)
        return cx_fail(err, CX_E_MEMORY, "HDF5: dataset '%s': no memory for %zu bytes", where, t->bytes);
    return layout == H5D_COMPACT ? take_compact(dataset, type, where, t, *owned, err) : cx_h5_chunks(f, dataset, creation, where, t, *owned, err);
}

cx_status cx_h5_tensor(const cx_h5 *f, hid_t dataset, const char *where, const char *name, cx_sink *s, cx_error *err)
{
    cx_raw_tensor t = { 0 };
    void *owned = NULL;
    if (H5Iget_type(dataset) != H5I_DATASET)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s' is no dataset", where);
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset), creation = H5Dget_create_plist(dataset);
    cx_status status = type < 0 || space < 0 || creation < 0 ? cx_h5_fail(err, "HDF5: dataset '%s': its header is damaged", where) : CX_OK;
    if (status == CX_OK)
        status = read_type(f, dataset, type, where, &t, err);
    if (status == CX_OK)
        status = read_shape(space, where, &t, err);
    if (status == CX_OK)
        status = take(f, dataset, type, creation, where, &t, &owned, s, err);
    if (status == CX_OK)
        status = cx_sink_add(s, name, &t, err);
    free(owned);
    H5Pclose(creation);
    H5Sclose(space);
    H5Tclose(type);
    return status;
}
