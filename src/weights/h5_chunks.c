/* h5_chunks.c - chunked HDF5 datasets: chunks come raw from libhdf5, and their filters are undone here. Depends on h5.h, zlib.
 *
 * libhdf5 (1.10, 1.14) takes a deflated chunk that ends early for a whole one and hands out whatever its memory held. Here each stage must give exactly the
 * bytes that the stage before it was given when the file was written, checksums are checked, and a chunk that is absent is no zeros. Filters other than
 * deflate, shuffle and fletcher32 would be loaded as plug-ins: code that the file chooses. */
#include <stdlib.h>
#include <string.h>
#include "h5.h"
#include "inflate.h"

enum { MOST_FILTERS = 8, CHECKSUM = 4, MOST_CHUNKS = 1 << 20, SPARE = 1 << 20 };

typedef struct {
    const char *where;
    int nd;
    size_t element;                       /* bytes of a number */
    hsize_t d[CX_ST_DIMS], chunk[CX_ST_DIMS];
    size_t bytes;                         /* of a chunk */
    H5Z_filter_t filters[MOST_FILTERS]; int n_filters;
} layout;

/* ---- what the dataset says ---------------------------------------------------------------------------------------------- */

static cx_status read_filters(hid_t creation, layout *l, cx_error *err)
{
    int deflates = 0;
    l->n_filters = H5Pget_nfilters(creation);
    if (l->n_filters < 0 || l->n_filters > MOST_FILTERS)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': has %d filters, at most %d are undone", l->where, l->n_filters, MOST_FILTERS);
    for (int i = 0; i < l->n_filters; i++) {
        unsigned flags = 0, values[4] = { 0 }, config = 0;
        size_t n = CX_COUNT(values);
        char name[64] = "";
        const H5Z_filter_t id = H5Pget_filter2(creation, (unsigned)i, &flags, &n, values, sizeof name, name, &config);
        if (id != H5Z_FILTER_DEFLATE && id != H5Z_FILTER_SHUFFLE && id != H5Z_FILTER_FLETCHER32)
            return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': is packed by filter %d (%.60s), which is not undone here; "
                "want gzip, shuffle or fletcher32: pack it anew", l->where, (int)id, name);
        l->filters[i] = id;
        deflates += id == H5Z_FILTER_DEFLATE;
        if (deflates > (id != H5Z_FILTER_SHUFFLE))
            return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': its filters stand in an order that nobody writes", l->where);
        if (id == H5Z_FILTER_SHUFFLE && (n < 1 || values[0] != l->element))
            return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': was shuffled as numbers of %u bytes, but has numbers of %zu", l->where, values[0], l->element);
    }
    return CX_OK;
}

/* A chunk is no larger than the dataset, but for a little that h5py gives to ones that may grow: else 0.4 MB of file unpack to any size. */
static cx_status read_layout(hid_t creation, const cx_raw_tensor *t, layout *l, cx_error *err)
{
    size_t chunks = 1;
    l->nd = t->nd;
    l->bytes = l->element = cx_raw_bytes(t->type);
    if (t->nd < 1 || H5Pget_chunk(creation, CX_ST_DIMS, l->chunk) != t->nd)
        return cx_h5_fail(err, "HDF5: dataset '%s': its chunks have another number of dimensions", l->where);
    for (int k = 0; k < t->nd; k++) {
        l->d[k] = (hsize_t)t->d[k];
        if (l->chunk[k] == 0 || __builtin_mul_overflow(l->bytes, (size_t)l->chunk[k], &l->bytes))
            return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': dimension %d of its chunks is 0, or too large", l->where, k);
        if (__builtin_mul_overflow(chunks, (size_t)((l->d[k] - 1) / l->chunk[k] + 1), &chunks))
            chunks = SIZE_MAX;
    }
    if (l->bytes > t->bytes && l->bytes - t->bytes > SPARE)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': has %zu bytes, but one chunk of it %zu", l->where, t->bytes, l->bytes);
    if (chunks > MOST_CHUNKS)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': is cut into %zu chunks, at most %d are read", l->where, chunks, MOST_CHUNKS);
    return read_filters(creation, l, err);
}

/* ---- filters undone ---------------------------------------------------------------------------------------------------- */

/* HDF5's Fletcher-32 (H5checksum.c): sums modulo 65,535 of big-endian words; an odd last byte is a word's upper half. */
static uint32_t fletcher32(const unsigned char *p, size_t n, bool swapped)
{
    uint64_t a = 0, b = 0;
    for (size_t i = 0; i < n; i += 2) {
        const unsigned high = p[i], low = i + 1 < n ? p[i + 1] : 0;
        a += swapped && i + 1 < n ? low << 8 | high : high << 8 | low;
        a = (a & 0xffff) + (a >> 16);
        b += a;
        b = (b & 0xffff) + (b >> 16);
    }
    return (uint32_t)(b << 16 | a);
}

/* Both zero and 65,535 stand for zero, and writers older than 1.6.3 on little-endian machines swapped each word. */
static bool checksum_fits(const unsigned char *p, size_t n)
{
    const uint32_t stored = (uint32_t)p[n] | (uint32_t)p[n + 1] << 8 | (uint32_t)p[n + 2] << 16 | (uint32_t)p[n + 3] << 24;
    for (int swapped = 0; swapped < 2; swapped++) {
        const uint32_t sum = fletcher32(p, n, swapped);
        if ((sum >> 16) % 65535 == (stored >> 16) % 65535 && (sum & 0xffff) % 65535 == (stored & 0xffff) % 65535)
            return true;
    }
    return false;
}

static void unshuffle(const unsigned char *p, size_t n, size_t element, unsigned char *out)
{
    const size_t count = n / element;
    for (size_t b = 0; b < element; b++)
        for (size_t i = 0; i < count; i++)
            out[i * element + b] = p[b * count + i];
    memcpy(out + count * element, p + count * element, n - count * element);
}

/* The raw chunk of n bytes becomes l->bytes at *out. a and b have room for them and for checksums that were added before deflating. mask: the filters that
 * were left out, as deflate is for what does not shrink. NULL, or what is wrong. */
static const char *unpack(const layout *l, const unsigned char *raw, size_t n, unsigned mask, unsigned char *a, unsigned char *b, const unsigned char **out)
{
    const unsigned char *from = raw;
    for (int i = l->n_filters - 1; i >= 0; i--) {
        unsigned char *to = from == a ? b : a;
        size_t before = l->bytes;
        for (int k = 0; k < i; k++)
            before += l->filters[k]== H5Z_FILTER_FLETCHER32 && !(mask >> k & 1) ? CHECKSUM : 0;
        if (mask >> i & 1)
            continue;
        if (l->filters[i]== H5Z_FILTER_FLETCHER32) {
            if (n < CHECKSUM || !checksum_fits(from, n - CHECKSUM))
                return "has a false checksum";
            n -= CHECKSUM;
            continue;
        }
        if (l->filters[i]== H5Z_FILTER_DEFLATE) {
            const char *wrong = cx_inflate(CX_DEFLATE_ZLIB, from, n, to, before);
            if (wrong)
                return wrong;
            n = before;
        } else if (n == before)
            unshuffle(from, n, l->element, to);
        else
            return "has another length than its shape wants";
        from = to;
    }
    *out = from;
    return n == l->bytes ? NULL : "has another length than its shape wants";
}

/* ---- chunks ------------------------------------------------------------------------------------------------------------ */

/* The part of a chunk that lies inside the dataset, row by row of the last dimension. */
static void place(const layout *l, const hsize_t *at, const unsigned char *chunk, unsigned char *out)
{
    const int last = l->nd - 1;
    const hsize_t row = l->chunk[last] < l->d[last] - at[last] ? l->chunk[last] : l->d[last] - at[last];
    hsize_t rows = 1, index[CX_ST_DIMS] = { 0 };
    for (int k = 0; k < last; k++)
        rows *= l->chunk[k];
    for (hsize_t r = 0; r < rows; r++) {
        hsize_t to = 0;
        bool inside = true;
        for (int k = 0; k < last; k++) {
            inside = inside && at[k] + index[k] < l->d[k];
            to = to * l->d[k] + at[k] + index[k];
        }
        if (inside)
            memcpy(out + (to * l->d[last] + at[last]) * l->element, chunk + r * l->chunk[last] * l->element, row * l->element);
        for (int k = last - 1; k >= 0 && ++index[k] == l->chunk[k]; k--)
            index[k] = 0;
    }
}

static cx_status read_chunk(const cx_h5 *f, hid_t dataset, const layout *l, const hsize_t *at, unsigned char *scratch, unsigned char *out, cx_error *err)
{
    hsize_t stored = 0;
    uint32_t mask = 0;
    const size_t room = l->bytes + MOST_FILTERS * CHECKSUM;
    const unsigned char *chunk = NULL;
    if (H5Dget_chunk_storage_size(dataset, at, &stored) < 0)
        return cx_h5_fail(err, "HDF5: dataset '%s': a chunk is not there: it was never written, or the file is damaged", l->where);
    if (stored == 0)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': a chunk is not there: it was never written, and would read as zeros", l->where);
    if (stored > f->n)
        return cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': a chunk of %llu bytes does not lie in the file", l->where, (unsigned long long)stored);
    unsigned char *raw = cx_alloc((size_t)stored, 1);
    if (!raw)
        return cx_fail(err, CX_E_MEMORY, "HDF5: dataset '%s': no memory for a chunk", l->where);
    cx_status s = CX_OK;
    if (H5Dread_chunk(dataset, H5P_DEFAULT, at, &mask, raw) < 0)
        s = cx_h5_fail(err, "HDF5: dataset '%s': a chunk cannot be read", l->where);
    else {
        const char *wrong = unpack(l, raw, (size_t)stored, mask, scratch, scratch + room, &chunk);
        if (wrong)
            s = cx_fail(err, CX_E_DATA, "HDF5: dataset '%s': a chunk %s", l->where, wrong);
        else
            place(l, at, chunk, out);
    }
    free(raw);
    return s;
}

cx_status cx_h5_chunks(const cx_h5 *f, hid_t dataset, hid_t creation, const char *where, const cx_raw_tensor *t, unsigned char *out, cx_error *err)
{
    layout l = { .where = where };
    hsize_t at[CX_ST_DIMS] = { 0 };
    TRY(read_layout(creation, t, &l, err));
    unsigned char *scratch = cx_alloc_aligned(2 * (l.bytes + MOST_FILTERS * CHECKSUM), 1);
    cx_status s = scratch ? CX_OK : cx_fail(err, CX_E_MEMORY, "HDF5: dataset '%s': no memory for a chunk", where);
    for (bool more = true; s == CX_OK && more; ) {
        s = read_chunk(f, dataset, &l, at, scratch, out, err);
        int k = l.nd - 1;
        while (k >= 0 && (at[k] += l.chunk[k]) >= l.d[k])
            at[k--] = 0;
        more = k >= 0;
    }
    free(scratch);
    return s;
}
