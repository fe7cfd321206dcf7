/* patch.cuh - dot.cuh for 3x3 windows that keep the size of the map: every pixel is brought, and taken through its prologue, once for all taps.
 *
 * There the neighbour of pixel p at tap (ty, tx) is pixel p + ty W + tx - const: those of neighbouring pixels lie in one run, over the ends of rows and images.
 * ldmatrix reads it from shifted lines, or reads zeros for a neighbour outside of the map.
 *
 * Pixels x outputs: 256 threads make 128 x 32 in steps of 16 channels, all taps at once. At 56 px a step brings 17 KiB for 1,179,648 FLOPs, 68 a byte of L2.
 * Gradient of weights: 64 channels of all taps x 32 outputs in steps of 32 pixels. A step brings 6 KiB for 1,179,648 FLOPs, 192 a byte. */
#ifndef CX_PATCH_CUH
#define CX_PATCH_CUH
#include "dot.cuh"

enum { PATCH_SIDE = 3, PATCH_TAPS = PATCH_SIDE * PATCH_SIDE, PATCH_COLUMNS = 32, PATCH_LINES = 320 };

/* From the first to the last tap of a pixel. */
static inline __host__ __device__ int reach_of(const k_window &w) { return (PATCH_SIDE - 1) * ((int)w.large.w + 1); }

static inline bool is_patch(const k_window &w)
{
    const bool same = w.small.h == w.large.h && w.small.w == w.large.w && w.stride == 1;
    return same && w.kh == PATCH_SIDE && w.kw == PATCH_SIDE && w.large.w < PATCH_LINES && DOT_ROWS + reach_of(w) <= PATCH_LINES;
}

/* A bit for each tap of a place that lies inside of the map; y, x: where tap 0 is. UP: taps go back from there. */
template <bool UP> static __device__ __forceinline__ unsigned taps_inside(const k_window &w, int y, int x)
{
    unsigned bits = 0;
    UNROLL for (int tap = 0; tap < PATCH_TAPS; tap++) {
        const int at_y = UP ? y - tap / PATCH_SIDE : y + tap / PATCH_SIDE, at_x = UP ? x - tap % PATCH_SIDE : x + tap % PATCH_SIDE;
        bits |= (at_y >= 0 && at_y < w.large.h && at_x >= 0 && at_x < w.large.w ? 1u : 0u) << tap;
    }
    return bits;
}

/* ---- pixels x outputs ------------------------------------------------------------------------------------------------- */

enum { PATCH_OCTETS = 2, PATCH_TURNS = 3 };
enum { PATCH_WEIGHTS = PATCH_LINES * PATCH_OCTETS, PATCH_STAGE = PATCH_WEIGHTS + PATCH_TAPS * PATCH_COLUMNS * PATCH_OCTETS };

/* Of every 128th line a thread brings the same one of two octets: lines of pixels, and lines of weights, which run over taps and columns. */
template <bool UP> struct k_bring_patch {
    const k_operand &src;
    const octet *const weight;
    const int64_t first, all;       /* the pixel of line 0; how many pixels there are */
    const int lines, columns, line, o;

    __device__ __forceinline__ k_bring_patch(const k_window &w, const k_tile &t, const k_operand &s, const octet *weights)
        : src(s), weight(weights + (int64_t)t.column * PATCH_TAPS * s.octets),
          first((int64_t)t.tile * DOT_ROWS - (UP ? PATCH_SIDE - 1 - w.top : w.top) * w.large.w - (UP ? PATCH_SIDE - 1 - w.left : w.left)), all(pixels(w.large)),
          lines(DOT_ROWS + reach_of(w)), columns((int)(UP ? w.large.c : w.small.c) - t.column), line((int)threadIdx.x / PATCH_OCTETS),
          o((int)threadIdx.x % PATCH_OCTETS)
    {
    }
    __device__ __forceinline__ bool there(int turn) const { return first + line + turn * DOT_ROWS >= 0 && first + line + turn * DOT_ROWS < all; }
    __device__ __forceinline__ void bring(octet *stage, int step) const
    {
        const int at = step * PATCH_OCTETS + o;
        UNROLL for (int i = 0; i < PATCH_TURNS; i++) {
            const int l = line + i * DOT_ROWS, tap = l / PATCH_COLUMNS, column = l % PATCH_COLUMNS;
            if (l < lines)
                bring_octet<UP>(&stage[spot<PATCH_OCTETS>(l, o)], src, there(i) ? first + l : -1, at);
            if (tap < PATCH_TAPS) {
                const bool in = column < columns && at < src.octets;
                cp_async16(&stage[PATCH_WEIGHTS + spot<PATCH_OCTETS>(l, o)], weight + (in ? (column * PATCH_TAPS + tap) * src.octets + at : 0),
                           in ? (int)sizeof(octet) : 0);
            }
        }
    }
    __device__ __forceinline__ void finish(octet *stage, int step) const
    {
        const int at = step * PATCH_OCTETS + o;
        if (!UP && src.prologue && at < src.octets) {
            octet *of[PATCH_TURNS];
            UNROLL for (int i = 0; i < PATCH_TURNS; i++)
                of[i] = line + i * DOT_ROWS < lines && there(i) ? &stage[spot<PATCH_OCTETS>(line + i * DOT_ROWS, o)] : nullptr;
            finish_octets<PATCH_TURNS>(src, at, of);
        }
    }
};

/* acc += a step. Warp w has 16 rows from w * 16 on, and all columns. inside: taps_inside of this lane's row. */
template <bool UP>
static __device__ __forceinline__ void multiply_patch(const k_window &w, const octet *stage, const octet *zero, unsigned inside, float acc[PATCH_COLUMNS / 8][4])
{
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 + lane % 16;
    const octet *b = stage + PATCH_WEIGHTS + spot<PATCH_OCTETS>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    UNROLL for (int tap = 0; tap < PATCH_TAPS; tap++, b += PATCH_COLUMNS * PATCH_OCTETS) {
        const int away = UP ? PATCH_TAPS - 1 - tap : tap, line = row + away / PATCH_SIDE * (int)w.large.w + away % PATCH_SIDE;
        uint32_t p[4], q[4];
        ldmatrix_x4(p, inside >> tap & 1 ? &stage[spot<PATCH_OCTETS>(line, lane / 16)] : zero);
        UNROLL for (int j = 0; j < PATCH_COLUMNS / 16; j++) {
            ldmatrix_x4(q, b + j * 16 * PATCH_OCTETS);
            mma_bf16(acc[2 * j], p, q);
            mma_bf16(acc[2 * j + 1], p, q + 2);
        }
    }
}

/* As convolve_octets. */
template <bool UP, class Sink>
static __device__ __forceinline__ void convolve_patch(const k_window &w, const k_blocks &g, const octet *weight, const k_operand &src, const Sink &sink)
{
    constexpr int APART = PATCH_COLUMNS + 8;
    static_assert(sizeof(float) * DOT_ROWS * APART <= sizeof(octet) * 2 * PATCH_STAGE, "the result lies where the steps lay");
    static_assert(PATCH_TURNS * DOT_ROWS >= PATCH_LINES && PATCH_TURNS * DOT_ROWS >= PATCH_TAPS * PATCH_COLUMNS, "every line has its thread");
    SHARED(octet, stages, 2 * PATCH_STAGE);
    SHARED(octet, zero, 1);
    SHARED(k_row, rows, DOT_ROWS);
    const k_tile t = find_tile<UP, DOT_ROWS, PATCH_COLUMNS>(w, g, rows);
    const k_bring_patch<UP> reader(w, t, src, weight);
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16, steps = (src.octets + PATCH_OCTETS - 1) / PATCH_OCTETS;
    const unsigned inside = taps_inside<UP>(w, rows[row + lane % 16].y, rows[row + lane % 16].x);
    float acc[PATCH_COLUMNS / 8][4] = {};
    if (threadIdx.x == 0)
        *zero = octet{ { 0, 0, 0, 0 } };
    reader.bring(stages, 0);
    cp_async_commit();
    for (int s = 0; s < steps; s++) {
        octet *const stage = stages + s % 2 * PATCH_STAGE;
        cp_async_wait<0>();
        reader.finish(stage, s);
        __syncthreads();
        if (s + 1 < steps)
            reader.bring(stages + (s + 1) % 2 * PATCH_STAGE, s + 1);
        cp_async_commit();
        multiply_patch<UP>(w, stage, zero, inside, acc);
    }
    __syncthreads();
    float *result = (float *)(void *)stages;
    UNROLL for (int i = 0; i < 2; i++)
        UNROLL for (int j = 0; j < PATCH_COLUMNS / 8; j++)
            *(pair *)(void *)&result[(row + lane / 4 + i * 8) * APART + j * 8 + lane % 4 * 2] = pair{ { acc[j][i * 2], acc[j][i * 2 + 1] } };
    __syncthreads();
    keep<DOT_ROWS, PATCH_COLUMNS, APART>(sink, result, rows, t.tile, t.column);
}

/* ---- gradient of weights ---------------------------------------------------------------------------------------------- */

/* RING lines of x, of which one step reads 32 + reach while the 32 of the next arrive: a line stays until no tap of any pixel wants it. */
enum { RING = 256, RING_OCTETS = 8, RING_CHANNELS = RING_OCTETS * OCTET, RING_DY = PATCH_COLUMNS / OCTET, RING_TAKES = 264 };

/* Rounds of 32 lines, of which a thread brings one octet each, always of the same channels; dy of 32 pixels, and which taps of each lie inside. */
struct k_bring_ring {
    const k_window &w;
    const k_operand &small, &large;
    const int64_t first;            /* the pixel of line 0, */
    const int low, high;            /* lines between these lie in x; */
    const int length;               /* of the chunk */
    k_pixel at;                      /* of threads below 32: a pixel of the next step */
    const int line, o, column;

    __device__ __forceinline__ k_bring_ring(const k_window &w_, const k_operand &s, const k_operand &l, int64_t first_, int64_t end, int row, int column_)
        : w(w_), small(s), large(l), first(first_ - w_.top * w_.large.w - w_.left), low((int)max((int64_t)0, -first)),
          high((int)min(pixels(w_.large) - first, (int64_t)1 << 30)), length((int)(end - first_)), at(w_.small, first_ + threadIdx.x % DOT_STEP),
          line((int)threadIdx.x / RING_OCTETS), o(row / OCTET + (int)threadIdx.x % RING_OCTETS), column(column_ / OCTET + (int)threadIdx.x % RING_DY)
    {
    }
    /* Its octet of this round, and the pixel there; -1 outside. */
    __device__ __forceinline__ octet *place(octet *ring, int round) const
    {
        return &ring[spot<RING_OCTETS>((unsigned)(round * DOT_STEP + line) % RING, threadIdx.x % RING_OCTETS)];
    }
    __device__ __forceinline__ int64_t pixel(int round) const
    {
        const int l = round * DOT_STEP + line;
        return l >= low && l < high ? first + l : -1;
    }
    __device__ __forceinline__ void bring(octet *ring, int round) const { bring_octet<false>(place(ring, round), large, pixel(round), o); }
    __device__ __forceinline__ void finish(octet *ring, int round) const
    {
        octet *const of[1] = { place(ring, round) };
        if (large.prologue && o < large.octets && pixel(round) >= 0)
            finish_octets<1>(large, o, of);
    }
    __device__ __forceinline__ void bring_dy(octet *dy, unsigned *inside, int step)
    {
        if (threadIdx.x < DOT_STEP * RING_DY) {
            const int p = step * DOT_STEP + (int)threadIdx.x / RING_DY;
            bring_octet<true>(&dy[spot<RING_DY>((int)threadIdx.x / RING_DY, (int)threadIdx.x % RING_DY)], small,
                              p < length ? first + w.top * w.large.w + w.left + p : -1, column);
        }
        if (threadIdx.x < DOT_STEP) {
            inside[threadIdx.x] = step * DOT_STEP + (int)threadIdx.x < length ? taps_inside<false>(w, at.y - w.top, at.x - w.left) : 0;
            at.advance(w.small, DOT_STEP);
        }
    }
};

/* acc += a step. Warp w has 16 channels from w % 4 * 16 on, of all taps, and one half of the outputs. */
static __device__ __forceinline__ void multiply_ring(const k_window &w, const octet *ring, const octet *dy, const octet *zero, const unsigned *inside, int step,
                                                     float acc[PATCH_TAPS][2][4])
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    ROLLED for (int k = 0; k < DOT_STEP; k += 16) {
        const int pixel = k + lane / 16 * 8 + lane % 8;
        const unsigned bits = inside[pixel];
        uint32_t p[4], q[4];
        ldmatrix_x4_trans(q, &dy[spot<RING_DY>(k + lane % 16, warp / 4 * 2 + lane / 16)]);
        UNROLL for (int tap = 0; tap < PATCH_TAPS; tap++) {
            const unsigned at = (unsigned)(step * DOT_STEP + pixel + tap / PATCH_SIDE * (int)w.large.w + tap % PATCH_SIDE) % RING;
            ldmatrix_x4_trans(p, bits >> tap & 1 ? &ring[spot<RING_OCTETS>(at, warp % 4 * 2 + lane / 8 % 2)] : zero);
            mma_bf16(acc[tap][0], p, q);
            mma_bf16(acc[tap][1], p, q + 2);
        }
    }
}

/* As correlate_octets. */
static __device__ __forceinline__ void correlate_patch(const k_window &w, const k_chunks &g, const k_operand &small, const k_operand &large, float *part)
{
    SHARED(octet, ring, RING * RING_OCTETS);
    SHARED(octet, dy, 2 * DOT_STEP * RING_DY);
    SHARED(octet, zero, 1);
    SHARED(unsigned, inside, 2 * DOT_STEP);
    const int row = blockIdx.x / g.columns % g.rows * RING_CHANNELS, column = blockIdx.x % g.columns * PATCH_COLUMNS;
    const int64_t chunk = blockIdx.x / g.columns / g.rows, first = chunk * g.length, end = min(first + g.length, pixels(w.small));
    const int steps = (int)((end - first + DOT_STEP - 1) / DOT_STEP), lead = (reach_of(w) + DOT_STEP - 1) / DOT_STEP;      /* rounds ahead of the steps */
    k_bring_ring reader(w, small, large, first, end, row, column);
    float acc[PATCH_TAPS][2][4] = {};
    if (threadIdx.x == 0)
        *zero = octet{ { 0, 0, 0, 0 } };
    for (int round = 0; round <= lead; round++)
        reader.bring(ring, round);
    reader.bring_dy(dy, inside, 0);
    cp_async_commit();
    for (int s = 0; s < steps; s++) {
        const int now = s % 2 * DOT_STEP, next = DOT_STEP - now;
        cp_async_wait<0>();
        for (int round = s ? s + lead : 0; round <= s + lead; round++)
            reader.finish(ring, round);
        __syncthreads();
        if (s + 1 < steps) {
            reader.bring(ring, s + 1 + lead);
            reader.bring_dy(dy + next * RING_DY, inside + next, s + 1);
        }
        cp_async_commit();
        multiply_ring(w, ring, dy + now * RING_DY, zero, inside + now, s, acc);
    }
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, output = column + warp / 4 * 16 + lane % 4 * 2;
    UNROLL for (int i = 0; i < 8; i++) {
        const int channel = row + warp % 4 * 16 + i / 4 * 8 + lane / 4, k = output + i / 2 % 2 * 8 + i % 2;
        if (channel >= large.channels || k >= small.channels)
            continue;
        float *to = part + (chunk * small.channels + k) * PATCH_TAPS * large.channels + channel;
        UNROLL for (int tap = 0; tap < PATCH_TAPS; tap++, to += large.channels)
            *to = acc[tap][i / 2 % 2][i / 4 * 2 + i % 2];
    }
}

#endif
