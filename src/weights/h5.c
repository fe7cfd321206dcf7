/* h5.c - opens HDF5 files in memory, follows their links and reads their attributes. Depends on h5.h. */
#include "h5.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "zip.h"

enum { MOST_TEXTS = CX_SINK_TENSORS, MOST_PIECES = 1000, BLOCK = 512 };

bool cx_is_hdf5(const unsigned char *p, size_t n)
{
    static const unsigned char signature[8] = "\x89HDF\r\n\x1a\n";
    if (n >= sizeof signature && memcmp(p, signature, sizeof signature) == 0)
        return true;
    for (size_t at = BLOCK; at + sizeof signature <= n; at *= 2)   /* behind a user block; in a zip file it is a member that happens to lie there */
        if (memcmp(p + at, signature, sizeof signature) == 0)
            return !cx_zip_is(p, n);
    return false;
}

static herr_t first_reason(unsigned i, const H5E_error2_t *e, void *out)
{
    if (i == 0)
        snprintf(out, 128, "%s", e->desc ? e->desc : "");
    return 0;
}

cx_status cx_h5_fail(cx_error *err, const char *fmt, ...)
{
    char text[sizeof err->text], reason[128] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, reason);
    return cx_fail(err, CX_E_DATA, "%s%s%s%s", text, reason[0] ? " (libhdf5: " : "", reason, reason[0] ? ")" : "");
}

/* ---- the file, without a copy of it ------------------------------------------------------------------------------------ */

static void *image_malloc(size_t n, H5FD_file_image_op_t op, void *image)
{
    (void)n, (void)op;
    return image;
}

static void *image_copy(void *to, const void *from, size_t n, H5FD_file_image_op_t op, void *image)
{
    (void)op, (void)image;
    return to == from ? to : memcpy(to, from, n);
}

static herr_t image_free(void *p, H5FD_file_image_op_t op, void *image)
{
    (void)p, (void)op, (void)image;
    return 0;
}

static void *keep(void *image)
{
    return image;
}

static herr_t let_go(void *image)
{
    (void)image;
    return 0;
}

cx_status cx_h5_open(const unsigned char *p, size_t n, cx_h5 *out, cx_error *err)
{
    void *image = (void *)(uintptr_t)p;
    H5FD_file_image_callbacks_t callbacks = { image_malloc, image_copy, NULL, image_free, keep, let_go, image };
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    *out = (cx_h5){ p, n, H5I_INVALID_HID };
    if (access < 0 || H5Pset_fapl_core(access, 1 << 16, 0) < 0 || H5Pset_file_image_callbacks(access, &callbacks) < 0 ||
        H5Pset_file_image(access, image, n) < 0)
        return cx_h5_fail(err, "HDF5: cannot be given to libhdf5");
    /* Its name is a path from the root: libhdf5 would ask for the working folder, which is not the child's to know. */
    const hid_t file = H5Fopen("/image", H5F_ACC_RDONLY, access);
    H5Pclose(access);
    out->root = file < 0 ? file : H5Gopen2(file, "/", H5P_DEFAULT);
    return out->root < 0 ? cx_h5_fail(err, "HDF5: cannot be opened; the file is cut short or damaged") : CX_OK;
}

/* ---- links ------------------------------------------------------------------------------------------------------------- */

static const char *link_kind(H5L_type_t type)
{
    return type == H5L_TYPE_SOFT ? "a soft link" : type == H5L_TYPE_EXTERNAL ? "a link into another file" : "a link of a kind of its own";
}

/* One link. */
static cx_status enter(hid_t group, const char *where, const char *name, hid_t *out, cx_error *err)
{
    H5L_info_t link;
    if (H5Iget_type(group) != H5I_GROUP)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s' is no group, so '%s' cannot lie in it", where, name);
    if (H5Lget_info(group, name, &link, H5P_DEFAULT) < 0)
        return cx_h5_fail(err, "HDF5: '%s' has no '%s'", where, name);
    if (link.type != H5L_TYPE_HARD)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s/%s' is %s; Keras writes none, and it is not followed", where, name, link_kind(link.type));
    *out = H5Oopen(group, name, H5P_DEFAULT);
    return *out < 0 ? cx_h5_fail(err, "HDF5: '%s/%s' cannot be opened", where, name) : CX_OK;
}

cx_status cx_h5_step(hid_t group, const char *where, const char *path, hid_t *out, cx_error *err)
{
    hid_t at = group;
    cx_status s = CX_OK;
    if (!*path)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s' names something in it without a name", where);
    for (const char *part = path; s == CX_OK && *part; ) {
        char name[CX_SINK_NAME + 1];
        const size_t n = strcspn(part, "/");
        if (n == 0 || n > CX_SINK_NAME || (n == 1 && part[0] == '.'))
            s = cx_fail(err, CX_E_DATA, "HDF5: '%s' names '%.200s' in it, which is no path", where, path);
        else {
            hid_t next = H5I_INVALID_HID;
            memcpy(name, part, n);
            name[n] = 0;
            s = enter(at, where, name, &next, err);
            if (at != group)
                H5Oclose(at);
            at = next;
            part += n + (part[n] == '/');
            if (part[-1] == '/' && !*part && s == CX_OK)
                s = cx_fail(err, CX_E_DATA, "HDF5: '%s' names '%.200s' in it, which ends in '/'", where, path);
        }
    }
    *out = at;
    return s;
}

/* ---- attributes that are text ------------------------------------------------------------------------------------------- */

void cx_texts_free(cx_texts *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->text[i]);
    free(t->text);
    *t = (cx_texts){ 0 };
}

static cx_status count_texts(hid_t space, const char *where, const char *name, size_t *n, cx_error *err)
{
    hsize_t d[H5S_MAX_RANK];
    const H5S_class_t kind = H5Sget_simple_extent_type(space);
    const int nd = kind == H5S_SIMPLE ? H5Sget_simple_extent_dims(space, d, NULL) : 0;
    if (kind == H5S_NO_CLASS || nd < 0)
        return cx_h5_fail(err, "HDF5: '%s': attribute '%s' cannot be measured", where, name);
    if (nd > 1)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s': attribute '%s' has %d dimensions, want a list", where, name, nd);
    const hsize_t count = kind == H5S_NULL ? 0 : nd ? d[0] : 1;
    if (count > MOST_TEXTS)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s': attribute '%s' lists %llu texts, at most %d are read", where, name, (unsigned long long)count, MOST_TEXTS);
    *n = (size_t)count;
    return CX_OK;
}

/* Texts of variable length: libhdf5 allocates them, each anew even where they are one and the same, which the child's limit bounds. */
static bool read_variable(hid_t attribute, hid_t type, char **text, size_t n)
{
    const hid_t memory = H5Tcopy(H5T_C_S1);
    const bool ok = H5Tset_size(memory, H5T_VARIABLE) >= 0 && H5Tset_cset(memory, H5Tget_cset(type)) >= 0 && H5Aread(attribute, memory, text) >= 0;
    H5Tclose(memory);
    for (size_t i = 0; ok && i < n; i++)
        if (!text[i] && !(text[i] = cx_strdup("")))
            return false;
    return ok;
}

static bool read_fixed(const cx_h5 *f, hid_t attribute, hid_t type, char **text, size_t n)
{
    size_t bytes;
    const size_t each = H5Tget_size(type);
    if (each == 0 || __builtin_mul_overflow(each, n, &bytes) || bytes > f->n)          /* an attribute lies in the file as it is */
        return false;
    char *all = cx_alloc(bytes, 1);
    bool ok = all && H5Aread(attribute, type, all) >= 0;
    for (size_t i = 0; ok && i < n; i++) {
        size_t len = strnlen(all + i * each, each);
        while (H5Tget_strpad(type) == H5T_STR_SPACEPAD && len && all[i * each + len - 1] == ' ')
            len--;
        text[i] = cx_sprintf("%.*s", (int)len, all + i * each);
        ok = text[i] != NULL;
    }
    free(all);
    return ok;
}

static cx_status read_texts(const cx_h5 *f, hid_t attribute, hid_t type, hid_t space, const char *where, const char *name, cx_texts *out, cx_error *err)
{
    size_t n = 0;
    TRY(count_texts(space, where, name, &n, err));
    if (n == 0)
        return CX_OK;
    if (H5Tget_class(type) != H5T_STRING)
        return cx_fail(err, CX_E_DATA, "HDF5: '%s': attribute '%s' is not text", where, name);
    out->text = cx_alloc(n, sizeof *out->text);
    if (!out->text)
        return cx_fail(err, CX_E_MEMORY, "HDF5: no memory for %zu names", n);
    out->n = n;
    if (!(H5Tis_variable_str(type) > 0 ? read_variable(attribute, type, out->text, n) : read_fixed(f, attribute, type, out->text, n)))
        return cx_h5_fail(err, "HDF5: '%s': attribute '%s' cannot be read; the file is damaged", where, name);
    return CX_OK;
}

cx_status cx_h5_texts(const cx_h5 *f, hid_t object, const char *where, const char *name, cx_texts *out, cx_error *err)
{
    *out = (cx_texts){ 0 };
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return cx_h5_fail(err, "HDF5: '%s': attribute '%s' cannot be opened", where, name);
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const cx_status s = type < 0 || space < 0 ? cx_h5_fail(err, "HDF5: '%s': attribute '%s' is damaged", where, name)
                                              : read_texts(f, attribute, type, space, where, name, out, err);
    H5Tclose(type);
    H5Sclose(space);
    H5Aclose(attribute);
    if (s != CX_OK)
        cx_texts_free(out);
    return s;
}

bool cx_h5_has(hid_t object, const char *name)
{
    char first[64];
    snprintf(first, sizeof first, "%s0", name);
    return H5Aexists(object, name) > 0 || H5Aexists(object, first) > 0;
}

static bool append(cx_texts *to, cx_texts *more)
{
    size_t cap = to->n;
    if (to->n + more->n > MOST_TEXTS || !cx_grow(&to->text, &cap, to->n + more->n + 1, sizeof *to->text))
        return false;
    if (more->n)
        memcpy(to->text + to->n, more->text, more->n * sizeof *more->text);
    to->n += more->n;
    free(more->text);
    return true;
}

cx_status cx_h5_text_list(const cx_h5 *f, hid_t object, const char *where, const char *name, cx_texts *out, cx_error *err)
{
    *out = (cx_texts){ 0 };
    if (H5Aexists(object, name) > 0)
        return cx_h5_texts(f, object, where, name, out, err);
    for (int i = 0; i < MOST_PIECES; i++) {
        char piece[64];
        cx_texts more;
        snprintf(piece, sizeof piece, "%s%d", name, i);
        if (i && H5Aexists(object, piece) <= 0)
            return CX_OK;
        TRY(cx_h5_texts(f, object, where, i ? piece : H5Aexists(object, piece) > 0 ? piece : name, &more, err));
        if (!append(out, &more))
            return cx_fail(err, CX_E_DATA, "HDF5: '%s': '%s' lists more than %d names", where, name, MOST_TEXTS);
    }
    return cx_fail(err, CX_E_DATA, "HDF5: '%s': '%s' is split into more than %d pieces", where, name, MOST_PIECES);
}
