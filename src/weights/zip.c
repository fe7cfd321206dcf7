/* zip.c - reads zip files in memory, strictly; the layout is that of PKWARE's APPNOTE.TXT 6.3.10, whose sections are named below. Depends on zip.h, zlib. */
#include "zip.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "inflate.h"

enum {
    LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR64 = 0x07064b50,
    LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR64_BYTES = 20,
    ENCRYPTED = 1 << 0, SIZES_FOLLOW = 1 << 3, PATCHED = 1 << 5, STRONGLY_ENCRYPTED = 1 << 6, MASKED = 1 << 13,
    STORED = 0, DEFLATED = 8, ZIP64_FIELD = 1, NAME_BYTES = 4096
};
static const uint32_t ELSEWHERE = 0xffffffff;      /* the number stands in a zip64 field */

static uint16_t u16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const unsigned char *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const unsigned char *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* ---- the end of the file (4.3.14 to 4.3.16) ---------------------------------------------------------------------------- */

/* Where the end record lies: the last place from which its comment reaches the end of the file exactly; n when there is none. */
static size_t find_end(const unsigned char *p, size_t n)
{
    for (size_t comment = 0; comment <= UINT16_MAX && comment + END_BYTES <= n; comment++) {
        const unsigned char *e = p + n - END_BYTES - comment;
        if (u32(e) == END && u16(e + 20) == comment)
            return n - END_BYTES - comment;
    }
    return n;
}

bool cx_zip_is(const unsigned char *p, size_t n)
{
    return n >= END_BYTES && find_end(p, n) != n;
}

typedef struct { uint64_t entries, bytes, at; size_t end; } directory;      /* end: where it must end */

static cx_status read_end64(const unsigned char *p, size_t end, directory *d, cx_error *err)
{
    const unsigned char *locator = p + end - LOCATOR64_BYTES;
    const uint64_t at = u64(locator + 8);
    if (u32(locator + 4) != 0 || u32(locator + 16) > 1)
        return cx_fail(err, CX_E_DATA, "zip: is one of several volumes; put them together first");
    if (end < LOCATOR64_BYTES + END64_BYTES || at > end - LOCATOR64_BYTES - END64_BYTES || u32(p + at) != END64)
        return cx_fail(err, CX_E_DATA, "zip: its zip64 end record is not where it should be");
    if (u64(p + at + 4) != end - LOCATOR64_BYTES - at - 12)
        return cx_fail(err, CX_E_DATA, "zip: its zip64 end record has a false length");
    if (u32(p + at + 16) != 0 || u32(p + at + 20) != 0 || u64(p + at + 24) != u64(p + at + 32))
        return cx_fail(err, CX_E_DATA, "zip: is one of several volumes; put them together first");
    *d = (directory){ u64(p + at + 32), u64(p + at + 40), u64(p + at + 48), (size_t)at };
    return CX_OK;
}

static cx_status read_end(const unsigned char *p, size_t n, directory *d, cx_error *err)
{
    const size_t end = n >= END_BYTES ? find_end(p, n) : n;
    if (end == n)
        return cx_fail(err, CX_E_DATA, "zip: has no end record; the file is cut short");
    const unsigned char *e = p + end;
    if (end >= LOCATOR64_BYTES && u32(e - LOCATOR64_BYTES) == LOCATOR64)
        TRY(read_end64(p, end, d, err));
    else if (u16(e + 4) != 0 || u16(e + 6) != 0 || u16(e + 8) != u16(e + 10))
        return cx_fail(err, CX_E_DATA, "zip: is one of several volumes; put them together first");
    else
        *d = (directory){ u16(e + 10), u32(e + 12), u32(e + 16), end };
    if (d->at > d->end || d->bytes != d->end - d->at)
        return cx_fail(err, CX_E_DATA, "zip: its directory does not reach from where it says to the end record; the file is cut short or damaged");
    if (d->entries > CX_ZIP_MEMBERS || d->entries * CENTRAL_BYTES > d->bytes)
        return cx_fail(err, CX_E_DATA, "zip: says it has %llu members in a directory of %llu bytes; at most %d are read", (unsigned long long)d->entries,
            (unsigned long long)d->bytes, CX_ZIP_MEMBERS);
    return CX_OK;
}

/* ---- members (4.3.7, 4.3.12, 4.5.3) ------------------------------------------------------------------------------------ */

static bool sound_name(const char *name, size_t n)
{
    if (n == 0 || n > NAME_BYTES || name[0] == '/' || cx_utf8_valid(name, n) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127 || name[i] == '\\')
            return false;
    for (size_t at = 0; at <= n; ) {                               /* the name has no end of its own */
        const char *slash = memchr(name + at, '/', n - at);
        const size_t len = (slash ? (size_t)(slash - name) : n) - at;
        if (len == 2 && name[at] == '.' && name[at + 1] == '.')
            return false;
        at += len + 1;
    }
    return true;
}

/* Puts the zip64 field's numbers in the place of those that say ELSEWHERE. */
static cx_status read_zip64(const unsigned char *extra, size_t n, cx_zip_member *m, cx_error *err)
{
    uint64_t *const want[] = { &m->bytes, &m->packed, &m->at };
    while (n >= 4) {
        const unsigned char *field = extra + 4;
        size_t left = u16(extra + 2);
        if (left > n - 4)
            break;
        extra += 4 + left;
        n -= 4 + left;
        if (u16(field - 4) != ZIP64_FIELD)
            continue;
        for (int i = 0; i < CX_COUNT(want); i++)
            if (*want[i] == ELSEWHERE) {
                if (left < 8)
                    return cx_fail(err, CX_E_DATA, "zip: member '%.200s': its zip64 field is too short", m->name);
                *want[i] = u64(field);
                field += 8;
                left -= 8;
            }
        return CX_OK;
    }
    return CX_OK;
}

/* The local header says the same as the directory; m->at moves from it to the data. */
static cx_status check_local(const cx_zip *z, const directory *d, const unsigned char *c, cx_zip_member *m, cx_error *err)
{
    const size_t name_n = u16(c + 28);
    if (m->at > d->at || d->at - m->at < LOCAL_BYTES || u32(z->p + m->at) != LOCAL)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': no local header lies where the directory says", m->name);
    const unsigned char *l = z->p + m->at;
    const size_t room = (size_t)(d->at - m->at) - LOCAL_BYTES, before = (size_t)u16(l + 26) + u16(l + 28);
    if (before > room || m->packed > room - before)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': its %llu bytes reach beyond the members; the file is cut short or damaged", m->name,
            (unsigned long long)m->packed);
    bool same = u16(l + 26) == name_n && memcmp(l + LOCAL_BYTES, m->name, name_n) == 0 && u16(l + 6) == u16(c + 8) && u16(l + 8) == u16(c + 10);
    if (!(u16(l + 6) & SIZES_FOLLOW))
        same = same && u32(l + 14) == m->crc && (u32(l + 18) == m->packed || u32(l + 18) == ELSEWHERE) && (u32(l + 22) == m->bytes || u32(l + 22) == ELSEWHERE);
    if (!same)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': its local header and the directory disagree", m->name);
    m->at += LOCAL_BYTES + before;
    return CX_OK;
}

/* Reads the entry of the directory at c, of which `left` bytes remain; *took is its length. */
static cx_status read_member(cx_zip *z, const directory *d, const unsigned char *c, size_t left, size_t *took, cx_error *err)
{
    if (left < CENTRAL_BYTES || u32(c) != CENTRAL)
        return cx_fail(err, CX_E_DATA, "zip: entry %d of its directory is damaged", z->n_members);
    const size_t name_n = u16(c + 28), extra_n = u16(c + 30);
    *took = CENTRAL_BYTES + name_n + extra_n + u16(c + 32);
    if (*took > left)
        return cx_fail(err, CX_E_DATA, "zip: entry %d of its directory is longer than the directory", z->n_members);
    if (!sound_name((const char *)c + CENTRAL_BYTES, name_n) || memchr(c + CENTRAL_BYTES, 0, name_n))
        return cx_fail(err, CX_E_DATA, "zip: entry %d of its directory has a name that is empty, too long, not UTF-8, absolute, or holds '..', '\\' or "
            "control characters", z->n_members);
    cx_zip_member *m = &z->members[z->n_members++];
    *m = (cx_zip_member){ .bytes = u32(c + 24), .packed = u32(c + 20), .at = u32(c + 42), .crc = u32(c + 16), .deflated = u16(c + 10) == DEFLATED };
    m->name = cx_sprintf("%.*s", (int)name_n, (const char *)c + CENTRAL_BYTES);
    if (!m->name)
        return cx_fail(err, CX_E_MEMORY, "zip: no memory for a name");
    if (u16(c + 8) & (ENCRYPTED | PATCHED | STRONGLY_ENCRYPTED | MASKED))
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': is encrypted or a patch; unpack it yourself first", m->name);
    if (u16(c + 10) != STORED && u16(c + 10) != DEFLATED)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': is packed by method %d, only stored and deflated ones are read; pack it anew", m->name,
            u16(c + 10));
    if (u16(c + 34) != 0)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': lies on another volume", m->name);
    TRY(read_zip64(c + CENTRAL_BYTES + name_n, extra_n, m, err));
    if (m->deflated ? !cx_inflate_possible((size_t)m->packed, (size_t)m->bytes) : m->packed != m->bytes)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': says that its %llu bytes unpack to %llu, which they cannot", m->name,
            (unsigned long long)m->packed, (unsigned long long)m->bytes);
    return check_local(z, d, c, m, err);
}

static int by_place(const void *pa, const void *pb)
{
    const cx_zip_member *const *a = pa, *const *b = pb;
    return (*a)->at < (*b)->at ? -1 : (*a)->at > (*b)->at;
}

static int by_name(const void *pa, const void *pb)
{
    const cx_zip_member *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

/* Nobody lies on another: else a file of 10 MB is a directory of petabytes (Fifield 2019, "A better zip bomb"). */
static cx_status check_apart(const cx_zip *z, cx_error *err)
{
    const cx_zip_member **order = cx_alloc((size_t)z->n_members, sizeof(void *));
    if (!order)
        return cx_fail(err, CX_E_MEMORY, "zip: no memory for %d members", z->n_members);
    for (int i = 0; i < z->n_members; i++)
        order[i] = &z->members[i];
    cx_status s = CX_OK;
    qsort(order, (size_t)z->n_members, sizeof *order, by_name);
    for (int i = 1; s == CX_OK && i < z->n_members; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            s = cx_fail(err, CX_E_DATA, "zip: member '%.200s': is there twice", order[i]->name);
    qsort(order, (size_t)z->n_members, sizeof *order, by_place);
    for (int i = 1; s == CX_OK && i < z->n_members; i++)
        if (order[i - 1]->at + order[i - 1]->packed + LOCAL_BYTES + strlen(order[i]->name) > order[i]->at)
            s = cx_fail(err, CX_E_DATA, "zip: members '%.200s' and '%.200s' lie on one another", order[i - 1]->name, order[i]->name);
    free(order);
    return s;
}

static cx_status read_members(cx_zip *z, cx_error *err)
{
    directory d = { 0 };
    TRY(read_end(z->p, z->n, &d, err));
    z->members = cx_alloc((size_t)d.entries, sizeof *z->members);
    if (!z->members)
        return cx_fail(err, CX_E_MEMORY, "zip: no memory for %llu members", (unsigned long long)d.entries);
    size_t at = (size_t)d.at;
    for (uint64_t i = 0; i < d.entries; i++) {
        size_t took = 0;
        TRY(read_member(z, &d, z->p + at, d.end - at, &took, err));
        at += took;
    }
    if (at != d.end)
        return cx_fail(err, CX_E_DATA, "zip: %zu bytes lie behind the last entry of its directory", d.end - at);
    return check_apart(z, err);
}

cx_status cx_zip_open(const unsigned char *p, size_t n, cx_zip *out, cx_error *err)
{
    *out = (cx_zip){ .p = p, .n = n };
    const cx_status s = read_members(out, err);
    if (s != CX_OK)
        cx_zip_close(out);
    return s;
}

void cx_zip_close(cx_zip *z)
{
    for (int i = 0; i < z->n_members; i++)
        free(z->members[i].name);
    free(z->members);
    *z = (cx_zip){ 0 };
}

const cx_zip_member *cx_zip_find(const cx_zip *z, const char *name)
{
    for (int i = 0; i < z->n_members; i++)
        if (strcmp(z->members[i].name, name) == 0)
            return &z->members[i];
    return NULL;
}

cx_status cx_zip_get(const cx_zip *z, const cx_zip_member *m, size_t most, const unsigned char **data, void **owned, cx_error *err)
{
    const size_t n = (size_t)m->bytes;
    *owned = NULL;
    *data = z->p + m->at;
    if (n > most)
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': has %zu bytes, more than the %zu that are read", m->name, n, most);
    if (m->deflated) {
        *owned = cx_alloc_aligned(n, 1);
        if (!*owned)
            return cx_fail(err, CX_E_MEMORY, "zip: member '%.200s': no memory for %zu bytes", m->name, n);
        const char *wrong = cx_inflate(CX_DEFLATE_RAW, *data, (size_t)m->packed, *owned, n);
        *data = *owned;
        if (wrong) {
            free(*owned);
            *owned = NULL;
            return cx_fail(err, CX_E_DATA, "zip: member '%.200s': %s", m->name, wrong);
        }
    }
    if (crc32_z(0, *data, n) != m->crc) {
        free(*owned);
        *owned = NULL;
        return cx_fail(err, CX_E_DATA, "zip: member '%.200s': its CRC-32 is not the one promised; the file is damaged", m->name);
    }
    return CX_OK;
}
