/* quads.cuh - elementwise work, four neighbouring channels a thread: 16 bytes (8 in bf16) at once where all tensors are so aligned, one by one elsewhere; and
 * the kernel out = f(a, b) that most elementwise operators are. Kernels that sum nothing may take any order: theirs is one thread a quad, no loop. */
#ifndef CX_QUADS_CUH
#define CX_QUADS_CUH
#include "common.cuh"

/* Tensors of one shape, cut: `rows` of c channels, each row per_row quads, of which the last may be part of one. wide: every quad of every tensor lies at a
 * multiple of its own size. */
typedef struct { int64_t rows, per_row, c; bool wide; } k_quads;

/* Every quad of it lies at a multiple of its own size; so it is where there is no tensor. */
static inline bool is_wide(const cx_tensor &t)
{
    return !t.p || ((uintptr_t)t.p % (4 * cx_dtype_bytes(t.type)) == 0 && (cx_pixels(t.s) == 1 || t.ld % 4 == 0));
}

/* Where no tensor is a slice, all become one long row. Those with p == NULL are absent. The last one is there. */
static inline k_quads cut(cx_tensor *const t[], int n)
{
    bool dense = true;
    for (int i = 0; i < n; i++)
        dense = dense && (!t[i]->p || t[i]->ld == t[i]->s.c);
    for (int i = 0; i < n && dense; i++) {
        t[i]->s = cx_shape{ 1, 1, 1, cx_elems(t[i]->s) };
        t[i]->ld = t[i]->s.c;
    }
    const cx_shape s = t[n - 1]->s;
    k_quads q = { cx_pixels(s), (s.c + 3) / 4, s.c, true };
    for (int i = 0; i < n; i++)
        q.wide = q.wide && is_wide(*t[i]);
    return q;
}
static inline unsigned quad_blocks(const k_quads &q) { return (unsigned)((q.rows * q.per_row + THREADS - 1) / THREADS); }

/* Channels k .. k + n - 1 of a row, n <= 4. */
typedef struct { int64_t row, k; int n; bool wide; } k_place;

static __device__ __forceinline__ k_place in_row(k_place p, int64_t row)
{
    p.row = row;
    return p;
}

/* The quad of this thread; false where it has none. */
static __device__ __forceinline__ bool find_quad(const k_quads &q, k_place *p)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= q.rows * q.per_row)
        return false;
    p->row = q.rows > 1 ? i / q.per_row : 0;
    p->k = 4 * (i - p->row * q.per_row);
    p->n = (int)min(q.c - p->k, (int64_t)4);
    p->wide = q.wide && p->n == 4;
    return true;
}

/* A quad as it came from memory: nothing waits for it before it is unpacked, so several may be on their way at once. */
typedef struct { k_float4 f; k_half4 h; } k_fetched;
static __device__ __forceinline__ k_fetched fetch_quad(const cx_tensor &t, const k_place &p)
{
    const int64_t at = p.row * t.ld + p.k;
    k_fetched q = {};
    if (!p.wide)
        for (int j = 0; j < 4; j++)
            q.f.v[j] = j < p.n ? load(t, p.row, p.k + j) : 0;
    else if (t.type == CX_BF16)
        q.h = *(const k_half4 *)(const void *)((const uint16_t *)(const void *)t.p + at);
    else
        q.f = *(const k_float4 *)(const void *)(t.p + at);
    return q;
}
/* Zeros stand for channels beyond the row. */
static __device__ __forceinline__ void unpack_quad(const cx_tensor &t, const k_place &p, const k_fetched &q, float v[4])
{
    for (int j = 0; j < 4; j++)
        v[j] = p.wide && t.type == CX_BF16 ? from_bf16(q.h.v[j]) : q.f.v[j];
}
static __device__ __forceinline__ void load_quad(const cx_tensor &t, const k_place &p, float v[4]) { unpack_quad(t, p, fetch_quad(t, p), v); }

/* By an intrinsic, which nvcc leaves whole: a plain store of four it takes apart where it sees the other path beside it. */
static __device__ __forceinline__ void store_quad(const cx_tensor &t, const k_place &p, const float v[4])
{
    const int64_t at = p.row * t.ld + p.k;
    if (!p.wide) {
        for (int j = 0; j < 4; j++)
            if (j < p.n)
                store(t, p.row, p.k + j, v[j]);
    } else if (t.type == CX_BF16) {
        __stwb((ushort4 *)(void *)((uint16_t *)(void *)t.p + at), make_ushort4(to_bf16(v[0]), to_bf16(v[1]), to_bf16(v[2]), to_bf16(v[3])));
    } else {
        __stwb((float4 *)(void *)(t.p + at), make_float4(v[0], v[1], v[2], v[3]));
    }
}

/* t = v, or t += v: added in the type of v, rounded once. */
template <class T> static __device__ __forceinline__ void put_quad(const cx_tensor &t, const k_place &p, bool add, const T v[4])
{
    float sum[4] = { 0, 0, 0, 0 };
    if (add)
        load_quad(t, p, sum);
    for (int j = 0; j < 4; j++)
        sum[j] = (float)(add ? (T)sum[j] + v[j] : v[j]);
    store_quad(t, p, sum);
}

/* ---- out = f(a, b), or out += f(a, b) ------------------------------------------------------------------------------- */

template <class F> __global__ void __launch_bounds__(THREADS) map_quads(F f, k_quads q, cx_tensor a, cx_tensor b, cx_tensor out, bool add)
{
    k_place p;
    float u[4], v[4] = { 0, 0, 0, 0 };
    if (!find_quad(q, &p))
        return;
    load_quad(a, p, u);
    if (b.p)
        load_quad(b, p, v);
    for (int j = 0; j < 4; j++)
        u[j] = f(u[j], v[j]);
    put_quad(out, p, add, u);
}

/* b may be absent. f reads two floats and gives one, on the device. */
template <class F> static inline cx_status map_into(const cx_call *c, F f, cx_tensor a, cx_tensor b, cx_tensor out, bool add)
{
    cx_tensor *const all[] = { &a, &b, &out };
    const k_quads q = cut(all, 3);
    LAUNCH(map_quads<F>, quad_blocks(q), THREADS, stream_of(c), f, q, a, b, out, add);
    return launched();
}

struct copy_quad { __device__ float operator()(float a, float) const { return a; } };

static inline cx_status copy_into(const cx_call *c, const cx_tensor &from, const cx_tensor &to, bool add)
{
    return map_into(c, copy_quad{}, from, cx_tensor{}, to, add);
}
#endif
