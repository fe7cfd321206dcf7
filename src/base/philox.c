/* philox.c - randomness by index: Philox4x32-10 (Salmon et al. 2011) and the draws built on it. Depends on nothing. */
#include "cxnet/base.h"
#include <math.h>

void cx_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;       /* golden ratio */
        k1 += 0xBB67AE85u;       /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

cx_rng cx_rng_new(uint64_t seed, uint64_t stream)
{
    return (cx_rng){ .seed = seed, .stream = stream, .used = 4 };
}

uint32_t cx_rng_u32(cx_rng *r)
{
    if (r->used == 4) {
        cx_philox(r->seed, r->stream, r->counter++, r->word);
        r->used = 0;
    }
    return r->word[r->used++];
}

double cx_rng_uniform(cx_rng *r)
{
    return (double)(cx_rng_u32(r) >> 8) * 0x1p-24;
}

uint32_t cx_rng_below(cx_rng *r, uint32_t n)
{
    /* 2^32 mod n: the draws below it would make the first values likelier. */
    uint32_t skip = (0u - n) % n, u;
    do
        u = cx_rng_u32(r);
    while (u < skip);
    return u % n;
}

double cx_rng_normal(cx_rng *r)
{
    double u = 1 - cx_rng_uniform(r), v = cx_rng_uniform(r);      /* u in (0, 1]: its logarithm is finite */
    return sqrt(-2 * log(u)) * cos(6.283185307179586476925 * v);
}

void cx_rng_shuffle(cx_rng *r, int *a, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int k = (int)cx_rng_below(r, (uint32_t)i + 1), t = a[i];
        a[i] = a[k];
        a[k] = t;
    }
}

uint64_t cx_hash(const char *s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001B3u;
    return h;
}
