/* slices.h - tensors of noise whose pixels lie apart: shared by the tests of convolutions. */
#ifndef CX_TESTS_CPU_SLICES_H
#define CX_TESTS_CPU_SLICES_H
#include "cxnet/op.h"
#include "support.h"

static uint32_t lcg = 1;
static inline float noise(void)
{
    lcg = lcg * 1664525u + 1013904223u;
    return (float)(lcg >> 8) / (float)(1 << 23) - 1.0f;
}

/* A tensor whose buffer ends exactly with its last element, so that the sanitizer sees any read beyond; between the slices lies a mark. */
static const float MARK = 12345.0f;
static inline size_t floats_of(const cx_tensor *t) { return cx_elems(t->s) ? (size_t)((cx_pixels(t->s) - 1) * t->ld + t->s.c) : 0; }

static inline cx_tensor tensor(cx_shape s, int64_t extra, bool fill)
{
    cx_tensor t = { .s = s, .ld = s.c + extra };
    size_t n = floats_of(&t);
    t.p = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        t.p[i] = (int64_t)(i % (size_t)t.ld) >= s.c ? MARK : fill ? noise() : 7.0f;
    return t;
}

static inline void assert_marks(const char *what, const cx_tensor *t)
{
    for (size_t i = 0; i < floats_of(t); i++)
        if ((int64_t)(i % (size_t)t->ld) >= t->s.c && t->p[i] != MARK)
            fail_msg("%s: wrote outside its channel slice at float %zu", what, i);
}

static inline cx_tensor copy_of(const cx_tensor *t)
{
    cx_tensor c = *t;
    if (t->p) {
        c.p = malloc(floats_of(t) * sizeof(float));
        memcpy(c.p, t->p, floats_of(t) * sizeof(float));
    }
    return c;
}
#endif
