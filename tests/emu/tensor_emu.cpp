// tensor_emu.cpp - matrix instructions and asynchronous copies of the emulated GPU (tensor_emu.h).
#include "cuda_emu.h"

namespace emu {
float bf16_to_float(uint16_t half)
{
    const uint32_t u = (uint32_t)half << 16;
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

uint16_t float_to_bf16(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return (uint16_t)(v != v ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// ---- matrices: all lanes of a warp ----------------------------------------------------------------------------------

// Each lane leaves where its operands are; the first that goes on does the work of all.
template <class T> static void together(int line, T *mine, void (*work)(T *const lane[]))
{
    const unsigned first = B->now->id / WARP_SIZE * WARP_SIZE;
    B->now->line = line;
    if (first + WARP_SIZE > B->slot.size())
        fail("a matrix instruction wants a warp of 32 threads", *B->now);
    memcpy(&B->slot[B->now->id], &mine, sizeof mine);
    wait(AT_WARP, line, 0xffffffffu);
    if (mine->done)
        return;
    T *lane[WARP_SIZE];
    memcpy(lane, &B->slot[first], sizeof lane);
    work(lane);
    for (T *l : lane)
        l->done = true;
}

struct Mma {
    float *d;
    const uint32_t *a, *b;
    bool done;
};

// Products are exact in double; 16 of them and the old value are rounded once. A GPU rounds more often; how is not documented.
static void mma_work(Mma *const lane[])
{
    double a[16][16], b[16][8], d[16][8];
    for (int l = 0; l < WARP_SIZE; l++) {
        const int g = l / 4, t = l % 4 * 2;
        for (int i = 0; i < 8; i++)
            a[g + i / 2 % 2 * 8][t + i % 2 + i / 4 * 8] = (double)bf16_to_float((uint16_t)(lane[l]->a[i / 2] >> i % 2 * 16));
        for (int i = 0; i < 4; i++) {
            b[t + i % 2 + i / 2 * 8][g] = (double)bf16_to_float((uint16_t)(lane[l]->b[i / 2] >> i % 2 * 16));
            d[g + i / 2 * 8][t + i % 2] = (double)lane[l]->d[i];
        }
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                d[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < WARP_SIZE; l++)
        for (int i = 0; i < 4; i++)
            lane[l]->d[i] = (float)d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
}

void mma(int line, float *d, const uint32_t *a, const uint32_t *b)
{
    Mma mine = { d, a, b, false };
    together(line, &mine, mma_work);
}

static void want_octet(const char *what, const void *p)
{
    if ((uintptr_t)p % 16)
        fail(what, *B->now);
}

static void want_shared(const void *p)
{
    want_octet("an address in shared memory is not a multiple of 16", p);
    if (!is_shared(p, 16))
        fail("16 bytes that do not lie in a shared array", *B->now);
}

struct Rows {
    uint32_t *d;
    const char *row;
    bool trans, done;
};

static void ldmatrix_work(Rows *const lane[])
{
    for (int m = 0; m < 4; m++) {
        uint16_t v[8][8];
        for (int r = 0; r < 8; r++)
            memcpy(v[r], lane[m * 8 + r]->row, sizeof v[r]);
        for (int l = 0; l < WARP_SIZE; l++) {
            const int g = l / 4, t = l % 4 * 2;
            lane[l]->d[m] = lane[l]->trans ? v[t][g] | (uint32_t)v[t + 1][g] << 16 : v[g][t] | (uint32_t)v[g][t + 1] << 16;
        }
    }
}

void ldmatrix(int line, uint32_t *d, const void *row, bool trans)
{
    B->now->line = line;
    want_shared(row);
    Rows mine = { d, (const char *)row, trans, false };
    together(line, &mine, ldmatrix_work);
}

// ---- copies: each thread its own ------------------------------------------------------------------------------------

void cp_async(int line, void *to, const void *from, int bytes)
{
    B->now->line = line;
    want_shared(to);
    want_octet("a copy from global memory that is not a multiple of 16", from);
    if (bytes < 0 || bytes > 16)
        fail("a copy of more than 16 bytes, or of less than none", *B->now);
    memset(to, 0xff, 16);
    B->copies[B->now->id].open.push_back({ to, from, (size_t)bytes });
}

void commit()
{
    Copies &c = B->copies[B->now->id];
    c.groups.emplace_back();
    c.groups.back().swap(c.open);
}

void wait_copies(size_t newest)
{
    std::vector<std::vector<Copy>> &groups = B->copies[B->now->id].groups;
    while (groups.size() > newest) {
        for (const Copy &c : groups.front()) {
            memset(c.to, 0, 16);
            memcpy(c.to, c.from, c.bytes);
        }
        groups.erase(groups.begin());
    }
}

void end_copies()
{
    Copies &c = B->copies[B->now->id];
    bool left = !c.open.empty();
    for (const std::vector<Copy> &g : c.groups)
        left |= !g.empty();
    if (left)
        fail("returned while its copies were on their way", *B->now);
    c.groups.clear();
}
}
