/* zip.h - the members of a zip file in memory, read strictly. Private to src/weights. Depends on base.h.
 *
 * Stored and deflated members, zip64 or not, one volume, any comment at the end. Refused, with the reason: encryption, other methods, volumes, names doubled,
 * not UTF-8, absolute, with "..", backslashes or control characters; members that overlap one another or the directory; a local header that says otherwise
 * than the directory; contents of another length or CRC-32 than promised, longer or shorter. */
#ifndef CXNET_WEIGHTS_ZIP_H
#define CXNET_WEIGHTS_ZIP_H
#include "cxnet/base.h"

enum { CX_ZIP_MEMBERS = 100000 };
typedef struct {
    char *name;                     /* UTF-8 */
    uint64_t bytes, packed;         /* unpacked; in the file */
    uint64_t at;                    /* where its packed bytes begin in the file */
    uint32_t crc;
    bool deflated;
} cx_zip_member;
typedef struct { const unsigned char *p; size_t n; cx_zip_member *members; int n_members; } cx_zip;   /* members in the directory's order */

/* Does it end like a zip file? */
bool cx_zip_is(const unsigned char *p, size_t n);
/* The members. p must outlive the zip. CX_E_DATA, CX_E_MEMORY. */
cx_status cx_zip_open(const unsigned char *p, size_t n, cx_zip *out, cx_error *err);
void cx_zip_close(cx_zip *z);
const cx_zip_member *cx_zip_find(const cx_zip *z, const char *name);      /* NULL when absent */
/* Contents of a member, its length and CRC-32 checked. Of a stored one *data points into p, else to *owned, which the caller frees (NULL when stored).
 * CX_E_DATA: more than `most` bytes, before anything is allocated; not what was promised. */
cx_status cx_zip_get(const cx_zip *z, const cx_zip_member *m, size_t most, const unsigned char **data, void **owned, cx_error *err);

#endif
