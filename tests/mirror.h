/* mirror.h - host memory copied to a backend's device and back around a call, so that one test serves processors and GPUs. The host cannot read a GPU's memory,
 * nor a GPU the host's: what was not mirrored is not there.
 *
 *     mirror m = { .b = b };  mirror_add(&m, x, bytes);  mirror_up(&m);  ... mirror_at(&m, x) ...  mirror_down(&m); */
#ifndef CX_TESTS_MIRROR_H
#define CX_TESTS_MIRROR_H
#include "cxnet/graph.h"
#include "support.h"

/* A copy begins `front` bytes into its allocation, so that both lie alike modulo MIRROR_ALIGN (what a kernel does may depend on it), and ends where the
 * allocation ends: what is touched behind it is found by compute-sanitizer, or by the emulated GPU. */
typedef struct { char *host, *device; size_t bytes, front; } mirror_block;
enum { MIRROR_BLOCKS = 48, MIRROR_ALIGN = 256, MIRROR_MARK = 0x5a };
typedef struct { cx_backend *b; mirror_block block[MIRROR_BLOCKS]; int n; } mirror;

/* The CPU computes where the numbers lie. No backend: a reference. Under AddressSanitizer the emulated GPU does so too: there each tensor is watched to the
 * byte, and a copy on pages of its own would not be. */
static inline bool is_host(const cx_backend *b)
{
#ifdef CX_SANITIZED
    const bool watched = b && strcmp(b->name, "emu") == 0;
#else
    const bool watched = false;
#endif
    return !b || watched || strcmp(b->name, "cpu") == 0;
}

/* Memory that overlaps other memory becomes one block with it: two slices of one buffer stay neighbours. */
static inline void mirror_add(mirror *m, void *host, size_t bytes)
{
    char *lo = host, *hi = lo + bytes;
    if (!host || bytes == 0)
        return;
    for (int i = 0; i < m->n; i++) {
        const mirror_block k = m->block[i];
        if (k.host >= hi || k.host + k.bytes <= lo)
            continue;
        lo = k.host < lo ? k.host : lo;
        hi = k.host + k.bytes > hi ? k.host + k.bytes : hi;
        m->block[i] = m->block[--m->n];
        i = -1;
    }
    assert_true(m->n < MIRROR_BLOCKS);
    m->block[m->n++] = (mirror_block){ .host = lo, .bytes = (size_t)(hi - lo), .front = (uintptr_t)lo % MIRROR_ALIGN };
}

static inline void mirror_up(mirror *m)
{
    char mark[MIRROR_ALIGN];
    memset(mark, MIRROR_MARK, sizeof mark);
    for (int i = 0; i < m->n; i++) {
        mirror_block *k = &m->block[i];
        void *p;
        assert_cx_ok(m->b->alloc(m->b, k->front + k->bytes, &p, err));
        k->device = (char *)p + k->front;
        assert_cx_ok(m->b->upload(m->b, p, mark, k->front, err));
        assert_cx_ok(m->b->upload(m->b, k->device, k->host, k->bytes, err));
    }
}

/* Where the device has it. */
static inline void *mirror_at(const mirror *m, const void *host)
{
    const char *p = host;
    for (int i = 0; i < m->n; i++)
        if (p >= m->block[i].host && p < m->block[i].host + m->block[i].bytes)
            return m->block[i].device + (p - m->block[i].host);
    return NULL;
}

static inline void mirror_down(mirror *m)
{
    for (int i = 0; i < m->n; i++) {
        const mirror_block *k = &m->block[i];
        char mark[MIRROR_ALIGN];
        assert_cx_ok(m->b->download(m->b, k->host, k->device, k->bytes, err));
        assert_cx_ok(m->b->download(m->b, mark, k->device - k->front, k->front, err));
        for (size_t j = 0; j < k->front; j++)
            if (mark[j] != MIRROR_MARK)
                fail_msg("something was written %zu bytes before a tensor", k->front - j);
        m->b->release(m->b, k->device - k->front);
    }
    m->n = 0;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

enum { MIRROR_TENSORS = 2 * CX_MAX_IN + 2 * CX_MAX_OUT + 5 };
static inline void mirror_tensors(cx_call *c, cx_tensor *t[MIRROR_TENSORS])
{
    cx_fold *f = &c->fold;
    cx_tensor *const vectors[] = { &f->pre, &f->post, &f->stats, &f->sums, &f->carry };
    int n = 0;
    for (int i = 0; i < CX_MAX_IN; i++) {
        t[n++] = &c->x[i];
        t[n++] = &c->dx[i];
    }
    for (int j = 0; j < CX_MAX_OUT; j++) {
        t[n++] = &c->y[j];
        t[n++] = &c->dy[j];
    }
    for (int i = 0; i < CX_COUNT(vectors); i++)
        t[n++] = vectors[i];
}

/* Runs the call on the backend's device, on copies of all its tensors, which end where the numbers end. */
static inline cx_status mirror_run(cx_backend *b, const cx_call *host, size_t packed_bytes, cx_run_fn run)
{
    cx_call c = *host;
    cx_tensor *t[MIRROR_TENSORS];
    mirror m = { .b = b };
    mirror_tensors(&c, t);
    for (int i = 0; i < MIRROR_TENSORS; i++)
        if (t[i]->p && cx_elems(t[i]->s) > 0)
            mirror_add(&m, t[i]->p, (size_t)((cx_pixels(t[i]->s) - 1) * t[i]->ld + t[i]->s.c) * cx_dtype_bytes(t[i]->type));
    mirror_add(&m, c.work, c.work_bytes);
    mirror_add(&m, c.packed, packed_bytes);
    mirror_up(&m);
    for (int i = 0; i < MIRROR_TENSORS; i++)
        t[i]->p = t[i]->p ? mirror_at(&m, t[i]->p) : NULL;
    c.work = mirror_at(&m, c.work);
    c.packed = mirror_at(&m, c.packed);
    c.self = b->self;
    const cx_status s = run(&c);
    mirror_down(&m);
    return s;
}
#endif
