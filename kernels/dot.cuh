/* dot.cuh - gemm.cuh on tensor cores: operands bfloat16, sums float32. 256 threads make 128 x 64 of the result, or 128 x 32, in steps of 32 along K. A step
 * brings 12 KiB for 524,288 FLOPs, 43 a byte of L2 (x 32: 10 KiB, 26 a byte).
 *
 * Operands lie in memory in octets, eight channels or 16 bytes. Their copies run two steps ahead of the multiplication; one step ahead of it, behind the wait
 * that covers them and before the barrier that shows them to others, each thread takes what it copied itself through the prologue. So x is read raw, every
 * number passes its norm and ReLU once, and pixels that lie outside are zeros which no prologue touches.
 *
 * READY: the operand was made ready, as gradients are, so it is wide and has no prologue. conv_transpose2d folds no norm: what goes up has none either. */
#ifndef CX_DOT_CUH
#define CX_DOT_CUH
#include "gemm.cuh"
#include "tensor.cuh"

enum { OCTET = 8, DOT_ROWS = 128, DOT_STEP = 32, DOT_OCTETS = DOT_STEP / OCTET, DOT_STAGES = 3, WARP_ROWS = 32 };

struct alignas(16) octet { uint32_t v[4]; };    /* the first number in the low half of v[0] */

/* What a product reads: pixels or outputs, ld numbers apart, each of `channels`; a last octet may be part of one. wide: all begin at multiples of 16 bytes.
 * prologue: of each octet, eight scales and eight shifts; NULL = as they are. */
typedef struct { const uint16_t *p; int64_t ld; int channels, octets; bool wide, relu; const k_float4 *prologue; } k_operand;
enum { PROLOGUE_QUADS = 2 * OCTET / 4 };

/* ---- shared memory ---------------------------------------------------------------------------------------------------- */

/* A step's octets: of DOT_ROWS rows, then of COLUMNS columns. */
template <int COLUMNS> struct k_stage { static constexpr int A = DOT_ROWS * DOT_OCTETS, ALL = A + COLUMNS * DOT_OCTETS; };

/* Where octet o of a line lies, N to a line, so that eight lines' same octet, which ldmatrix reads at once, fills all 32 banks. */
template <int N> static __device__ __forceinline__ unsigned spot(unsigned line, unsigned o) { return line * N + (o ^ (N < 8 ? line * N / 8 % N : line % 8)); }

/* ---- multiplying ------------------------------------------------------------------------------------------------------ */

/* acc += a step. Warp w has 32 rows from w / 2 * 32 on, and the left or right half of the columns. ALONG: a line of shared memory is a row or a column, and K
 * runs along it; otherwise a line is one k, and rows or columns run along it. */
template <bool ALONG, int COLUMNS> static __device__ __forceinline__ void multiply_octets(const octet *a, const octet *b, float acc[2][COLUMNS / 16][4])
{
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP / 2 * WARP_ROWS, column = threadIdx.x / WARP % 2 * (COLUMNS / 2);
    UNROLL for (int k = 0; k < DOT_STEP; k += 16) {
        uint32_t p[2][4], q[4];
        UNROLL for (int i = 0; i < 2; i++)
            if (ALONG)
                ldmatrix_x4(p[i], &a[spot<DOT_OCTETS>(row + i * 16 + lane % 16, k / OCTET + lane / 16)]);
            else
                ldmatrix_x4_trans(p[i], &a[spot<DOT_ROWS / OCTET>(k + lane / 16 * 8 + lane % 8, row / OCTET + i * 2 + lane / 8 % 2)]);
        UNROLL for (int j = 0; j < COLUMNS / 32; j++) {
            if (ALONG)
                ldmatrix_x4(q, &b[spot<DOT_OCTETS>(column + j * 16 + lane / 16 * 8 + lane % 8, k / OCTET + lane / 8 % 2)]);
            else
                ldmatrix_x4_trans(q, &b[spot<COLUMNS / OCTET>(k + lane % 16, column / OCTET + j * 2 + lane / 16)]);
            UNROLL for (int i = 0; i < 2; i++) {
                mma_bf16(acc[i][2 * j], p[i], q);
                mma_bf16(acc[i][2 * j + 1], p[i], q + 2);
            }
        }
    }
}

/* acc += all steps. A reader's bring() starts the copies of its next step, if there is one; finish() takes the step brought before the last through the
 * prologue. Behind the last barrier nobody reads `stage` any more. */
template <bool ALONG, int COLUMNS, class Reader>
static __device__ __forceinline__ void multiply_steps(Reader &r, int64_t steps, octet *stage, float acc[2][COLUMNS / 16][4])
{
    constexpr int A = k_stage<COLUMNS>::A, ALL = k_stage<COLUMNS>::ALL;
    octet *now = stage, *next = stage + ALL, *ahead = stage + 2 * ALL;
    static_assert(DOT_STAGES == 3, "now, next and ahead");
    r.bring(now, now + A, steps > 0);
    cp_async_commit();
    r.bring(next, next + A, steps > 1);
    cp_async_commit();
    cp_async_wait<1>();
    r.finish(now);
    for (int64_t s = 0; s < steps; s++) {
        __syncthreads();
        r.bring(ahead, ahead + A, s + 2 < steps);
        cp_async_commit();
        multiply_octets<ALONG, COLUMNS>(now, now + A, acc);
        cp_async_wait<1>();
        r.finish(next);
        octet *const free = now;
        now = next;
        next = ahead;
        ahead = free;
    }
    __syncthreads();
}

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

/* Starts the copy of octet o of a pixel; zeros where there is no such pixel (-1) or channel. */
template <bool READY> static __device__ __forceinline__ void bring_octet(octet *to, const k_operand &s, int64_t pixel, int o)
{
    const int channels = pixel < 0 ? 0 : max(0, min(s.channels - o * OCTET, (int)OCTET));
    const uint16_t *from = channels > 0 ? s.p + pixel * s.ld + o * OCTET : s.p;
    if (READY || s.wide) {
        cp_async16(to, from, channels * (int)sizeof *from);
    } else {
        octet v;
        UNROLL for (int i = 0; i < 4; i++)
            v.v[i] = (2 * i < channels ? from[2 * i] : 0u) | (2 * i + 1 < channels ? (uint32_t)from[2 * i + 1] << 16 : 0u);
        *to = v;
    }
}

/* Octet o of N lines through the prologue, where they are. NULL: not that one. */
template <int N> static __device__ __forceinline__ void finish_octets(const k_operand &s, int o, octet *const at[N])
{
    UNROLL for (int half = 0; half < 2; half++) {
        const k_float4 *const f = s.prologue + (int64_t)o * PROLOGUE_QUADS + half, scale = f[0], shift = f[2];
        UNROLL for (int i = 0; i < N; i++) {
            if (!at[i])
                continue;
            uint32_t *const x = &at[i]->v[2 * half];
            UNROLL for (int j = 0; j < 2; j++) {
                float low = fmaf(from_bf16((uint16_t)(x[j] & 0xffff)), scale.v[2 * j], shift.v[2 * j]);
                float high = fmaf(from_bf16((uint16_t)(x[j] >> 16)), scale.v[2 * j + 1], shift.v[2 * j + 1]);
                low = s.relu && low < 0 ? 0 : low;
                high = s.relu && high < 0 ? 0 : high;
                x[j] = pack_bf16(low, high);
            }
        }
    }
}

/* The rows of a tile at their taps, and weights, (lines, taps, octets), line by line of the result's channels: a thread brings one octet of two rows, and one of
 * a column. */
template <bool UP, bool READY, int COLUMNS> struct k_bring_taps {
    const k_operand &src;
    const k_axis y, x;
    const k_row *rows;
    const int line, o, kw;
    const bool in;                  /* there is such a column; */
    const octet *const weight;      /* its weights */
    k_cursor at;                    /* in octets */
    int64_t pixel[2];
    int last, before;               /* which octet it brought, times four, plus a bit for each row that was there */

    __device__ __forceinline__ k_bring_taps(const k_window &w, const k_tile &t, const k_operand &s, const octet *weights, const k_row *r)
        : src(s), y(t.y), x(t.x), rows(r), line((int)threadIdx.x / DOT_OCTETS), o((int)threadIdx.x % DOT_OCTETS), kw(w.kw),
          in(line < COLUMNS && t.column + line < (UP ? w.large.c : w.small.c)),
          weight(weights + (in ? (int64_t)(t.column + line) * w.kh * w.kw * s.octets : 0)), at{ o, 0, 0 }, last(0), before(0)
    {
        at.advance(0, src.octets, x.taps);
        locate();
    }
    __device__ __forceinline__ void locate(void)
    {
        UNROLL for (int i = 0; i < 2; i++) {
            const k_row *r = rows + line + i * (DOT_ROWS / 2);
            const int sy = r->y + at.ty * y.dir, sx = r->x + at.tx * x.dir;
            const bool there = at.ty < y.taps && sy >= 0 && sy < y.extent && sx >= 0 && sx < x.extent;
            pixel[i] = there ? r->image + (int64_t)sy * x.extent + sx : -1;
        }
    }
    __device__ __forceinline__ void bring(octet *a, octet *b, bool more)
    {
        before = last;
        last = 0;
        if (!more)
            return;
        last = at.channel * 4 + (pixel[0] >= 0) + 2 * (pixel[1] >= 0);
        UNROLL for (int i = 0; i < 2; i++)
            bring_octet<READY>(&a[spot<DOT_OCTETS>(line + i * (DOT_ROWS / 2), o)], src, pixel[i], at.channel);
        if (line < COLUMNS) {
            const int tap = (y.tap + at.ty * y.tap_step) * kw + x.tap + at.tx * x.tap_step;
            const bool there = in && at.ty < y.taps;
            cp_async16(&b[spot<DOT_OCTETS>(line, o)], weight + (there ? tap * src.octets + at.channel : 0), there ? (int)sizeof(octet) : 0);
        }
        if (at.advance(DOT_OCTETS, src.octets, x.taps))
            locate();
    }
    __device__ __forceinline__ void finish(octet *a)
    {
        if (UP || READY || !src.prologue || !(before & 3))
            return;
        octet *const of[2] = { before & 1 ? &a[spot<DOT_OCTETS>(line, o)] : nullptr, before & 2 ? &a[spot<DOT_OCTETS>(line + DOT_ROWS / 2, o)] : nullptr };
        finish_octets<2>(src, before >> 2, of);
    }
};

/* Pixels of the small side, each beside its tap on the large side: a thread brings one octet of taps and channels of two pixels, and one of outputs. The large
 * side is READY, or else the small one is. */
template <bool READY, int COLUMNS> struct k_bring_pairs {
    static constexpr int A_OCTETS = DOT_ROWS / OCTET, B_OCTETS = COLUMNS / OCTET, APART = THREADS / A_OCTETS;
    const k_window &w;
    const k_operand &small, &large;
    const int64_t end;
    int64_t pixel;                  /* the first of this thread's two, and */
    k_pixel at[2];                   /* where they are */
    int64_t dy_pixel;
    int ty, tx, channel, column;    /* NOWHERE without such a tap; the octet of the large side, and of the small one */
    int last, before;               /* a bit for each pixel that was there */

    __device__ __forceinline__ k_bring_pairs(const k_window &w_, const k_operand &s, const k_operand &l, int64_t first, int64_t end_, int row, int column_)
        : w(w_), small(s), large(l), end(end_), pixel(first + threadIdx.x / A_OCTETS), at{ k_pixel(w_.small, pixel), k_pixel(w_.small, pixel + APART) },
          dy_pixel(first + threadIdx.x / B_OCTETS), last(0), before(0)
    {
        const int place = row / OCTET + threadIdx.x % A_OCTETS, tap = place / large.octets;
        channel = place % large.octets;
        ty = tap < w.kh * w.kw ? tap / w.kw - w.top : NOWHERE;
        tx = tap % w.kw - w.left;
        column = column_ / OCTET + threadIdx.x % B_OCTETS;
    }
    __device__ __forceinline__ void bring(octet *a, octet *b, bool more)
    {
        before = last;
        last = 0;
        if (!more)
            return;
        UNROLL for (int i = 0; i < 2; i++) {
            const int sy = at[i].y * w.stride + ty, sx = at[i].x * w.stride + tx;
            const bool there = pixel + i * APART < end && sy >= 0 && sy < w.large.h && sx >= 0 && sx < w.large.w;
            last |= (there ? 1 : 0) << i;
            bring_octet<READY>(&a[spot<A_OCTETS>(threadIdx.x / A_OCTETS + i * APART, threadIdx.x % A_OCTETS)], large,
                        there ? (at[i].n * w.large.h + sy) * w.large.w + sx : -1, channel);
            at[i].advance(w.small, DOT_STEP);
        }
        if (threadIdx.x < DOT_STEP * B_OCTETS)
            bring_octet<!READY>(&b[spot<B_OCTETS>(threadIdx.x / B_OCTETS, threadIdx.x % B_OCTETS)], small, dy_pixel < end ? dy_pixel : -1, column);
        pixel += DOT_STEP;
        dy_pixel += DOT_STEP;
    }
    __device__ __forceinline__ void finish(octet *a)
    {
        if (READY || !large.prologue || !before)
            return;
        octet *const first = &a[spot<A_OCTETS>(threadIdx.x / A_OCTETS, threadIdx.x % A_OCTETS)];
        octet *const of[2] = { before & 1 ? first : nullptr, before & 2 ? first + APART * A_OCTETS : nullptr };
        finish_octets<2>(large, channel, of);
    }
};

/* ---- both products -------------------------------------------------------------------------------------------------- */

struct alignas(8) pair { float v[2]; };

/* Pixels x outputs, as convolve. weight: (lines, KH, KW, octets of src), a line for each channel of the result. */
template <bool UP, bool READY, int COLUMNS, class Sink>
static __device__ __forceinline__ void convolve_octets(const k_window &w, const k_blocks &g, const octet *weight, const k_operand &src, const Sink &sink)
{
    constexpr int APART = COLUMNS + 8;          /* of rows of the result: eight rows of pairs then fill all banks */
    constexpr size_t STAGES = sizeof(octet) * DOT_STAGES * k_stage<COLUMNS>::ALL;
    static_assert(sizeof(float) * DOT_ROWS * APART <= STAGES, "the result lies where the steps lay");
    SHARED(octet, stage, STAGES / sizeof(octet));
    SHARED(k_row, rows, DOT_ROWS);
    const k_tile t = find_tile<UP, DOT_ROWS, COLUMNS>(w, g, rows);
    k_bring_taps<UP, READY, COLUMNS> reader(w, t, src, weight, rows);
    float acc[2][COLUMNS / 16][4] = {};
    multiply_steps<true, COLUMNS>(reader, t.empty ? 0 : ((int64_t)t.y.taps * t.x.taps * src.octets + DOT_OCTETS - 1) / DOT_OCTETS, stage, acc);
    float *result = (float *)(void *)stage;
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP / 2 * WARP_ROWS + lane / 4, column = threadIdx.x / WARP % 2 * (COLUMNS / 2) + lane % 4 * 2;
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int j = 0; j < COLUMNS / 16; j++)
            *(pair *)(void *)&result[(row + i * 8) * APART + column + j * 8] = pair{ { acc[i / 2][j][i % 2 * 2], acc[i / 2][j][i % 2 * 2 + 1] } };
    __syncthreads();
    keep<DOT_ROWS, COLUMNS, APART>(sink, result, rows, t.tile, t.column);
}

/* Taps and channels of the large side x channels of the small side: one chunk's part of the gradient of weights, which is written as they lie. Rows count
 * octets of each tap. READY: of the large side. */
template <bool READY, int COLUMNS>
static __device__ __forceinline__ void correlate_octets(const k_window &w, const k_chunks &g, const k_operand &small, const k_operand &large, float *part)
{
    SHARED(octet, stage, DOT_STAGES * k_stage<COLUMNS>::ALL);
    const int row = blockIdx.x / g.columns % g.rows * DOT_ROWS, column = blockIdx.x % g.columns * COLUMNS;
    const int64_t chunk = blockIdx.x / g.columns / g.rows, first = chunk * g.length, end = min(first + g.length, pixels(w.small));
    k_bring_pairs<READY, COLUMNS> reader(w, small, large, first, end, row, column);
    float acc[2][COLUMNS / 16][4] = {};
    multiply_steps<false, COLUMNS>(reader, (end - first + DOT_STEP - 1) / DOT_STEP, stage, acc);
    const int lane = threadIdx.x % WARP, warp_row = row + threadIdx.x / WARP / 2 * WARP_ROWS;
    const int output = column + threadIdx.x / WARP % 2 * (COLUMNS / 2) + lane % 4 * 2;
    const int64_t width = (int64_t)w.kh * w.kw * large.channels;
    UNROLL for (int i = 0; i < 4; i++) {
        const int place = warp_row / OCTET + i, tap = place / large.octets, channel = place % large.octets * OCTET + lane / 4;
        float *to = part + chunk * small.channels * width + (int64_t)tap * large.channels + channel;
        UNROLL for (int j = 0; j < COLUMNS / 8; j++) {
            const int k = output + j / 2 * 8 + j % 2;
            if (tap < w.kh * w.kw && channel < large.channels && k < small.channels)
                to[k * width] = acc[i / 2][j / 2][i % 2 * 2 + j % 2];
        }
    }
}

#endif
