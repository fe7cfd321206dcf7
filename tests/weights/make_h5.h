/* make_h5.h - HDF5 files in memory, sound ones and others, for the tests of reading. */
#ifndef CX_TESTS_MAKE_H5_H
#define CX_TESTS_MAKE_H5_H
#define H5_USE_110_API
#include <hdf5.h>
#include <unistd.h>
#include "support.h"

static char h5_path[64];

typedef struct { unsigned char *p; size_t n; } h5_image;

/* An empty file. latest: every block of the file's structure carries a checksum. (On disk for a moment: the image of an open file has its marks of one.) */
static inline hid_t h5_new_behind(hsize_t user_block, bool latest)
{
    const hid_t create = H5Pcreate(H5P_FILE_CREATE);
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    snprintf(h5_path, sizeof h5_path, "/tmp/cxnet_h5_%d.h5", (int)getpid());
    H5Pset_userblock(create, user_block);
    if (latest)
        H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    const hid_t file = H5Fcreate(h5_path, H5F_ACC_TRUNC, create, access);
    H5Pclose(create);
    H5Pclose(access);
    assert_true(file >= 0);
    return file;
}

static inline hid_t h5_new(bool latest)
{
    return h5_new_behind(0, latest);
}

/* Its bytes; closes it. free(p). */
static inline h5_image h5_bytes(hid_t file)
{
    cx_buf b = { 0 };
    while (H5Fget_obj_count(file, H5F_OBJ_ALL) > 1) {              /* what a test left open would keep the file so */
        hid_t open;
        assert_int_equal(H5Fget_obj_ids(file, H5F_OBJ_ALL & ~H5F_OBJ_FILE, 1, &open), 1);
        H5Idec_ref(open);
    }
    assert_true(H5Fclose(file) >= 0);
    assert_cx_ok(cx_file_read(h5_path, 1 << 30, &b, err));
    unlink(h5_path);
    h5_image out = { malloc(b.len), b.len };                       /* of exactly its size, so that a sanitizer sees what is read beyond */
    memcpy(out.p, b.data, b.len);
    cx_buf_free(&b);
    return out;
}

static inline hid_t h5_text_type(void)
{
    const hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, H5T_VARIABLE);
    H5Tset_cset(t, H5T_CSET_UTF8);
    return t;
}

/* An attribute of n texts; n = 0: a single one. */
static inline void h5_texts(hid_t object, const char *name, const char *const *texts, hsize_t n)
{
    const hid_t type = h5_text_type(), space = n ? H5Screate_simple(1, &n, NULL) : H5Screate(H5S_SCALAR);
    const hid_t a = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(a, type, texts) >= 0);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
}

#define h5_list(object, name, ...) h5_texts(object, name, (const char *const[]){ __VA_ARGS__ }, sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *))
#define h5_text(object, name, text) h5_texts(object, name, (const char *const[]){ text }, 0)

static inline hid_t h5_group(hid_t at, const char *path)
{
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    const hid_t g = H5Gcreate2(at, path, links, H5P_DEFAULT, H5P_DEFAULT);
    H5Pclose(links);
    assert_true(g >= 0);
    return g;
}

/* A dataset of nd dimensions (0: one number); data NULL: never written. creation: taken and closed; 0 for none. The dataset stays open. */
static inline hid_t h5_dataset(hid_t at, const char *name, hid_t type, int nd, const hsize_t *d, const hsize_t *most, hid_t creation, const void *data)
{
    const hid_t space = nd ? H5Screate_simple(nd, d, most) : H5Screate(H5S_SCALAR);
    const hid_t set = H5Dcreate2(at, name, type, space, H5P_DEFAULT, creation ? creation : H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0);
    if (data)
        assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Sclose(space);
    if (creation)
        H5Pclose(creation);
    return set;
}

static const float h5_numbers[64] = { 1, -2, 3, 0.5f, 0.25f, -8, 9, 10, 11, 12, 13, 14 };

static inline void h5_vector(hid_t at, const char *name, hsize_t n)
{
    H5Dclose(h5_dataset(at, name, H5T_IEEE_F32LE, 1, &n, NULL, 0, h5_numbers));
}

/* What Keras writes for one layer "a" with one weight, without the dataset; returns the group that it belongs in, as "kernel:0". */
static inline hid_t h5_layer(hid_t file)
{
    h5_list(file, "layer_names", "a");
    h5_text(file, "backend", "tensorflow");
    h5_text(file, "keras_version", "2.15.0");
    const hid_t inner = h5_group(file, "a/a"), outer = H5Gopen2(file, "a", H5P_DEFAULT);
    h5_list(outer, "weight_names", "a/kernel:0");
    H5Gclose(outer);
    return inner;
}

static inline hid_t h5_creation(void)
{
    return H5Pcreate(H5P_DATASET_CREATE);
}

static inline hid_t h5_chunked(int nd, const hsize_t *chunk)
{
    const hid_t c = h5_creation();
    assert_true(H5Pset_chunk(c, nd, chunk) >= 0);
    return c;
}
#endif
