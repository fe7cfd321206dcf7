/* tensor.cuh - the instructions of tensor cores and of the copies that feed them, as PTX for nvcc; tests/emu/tensor_emu.h has them for the host compiler. All
 * from sm_80 on. The matrix instructions are a whole warp's: all 32 lanes, at one place of the program (PTX ISA 9.0, "Warp-level matrix instructions"). */
#ifndef CX_TENSOR_CUH
#define CX_TENSOR_CUH
#include "compat.cuh"

/* Two numbers to a word of bfloat16, rounded to nearest even, the first in the low half.
 *     uint32_t pack_bf16(float low, float high)
 *
 * d += a b: 16 x 8 += (16 x 16) (16 x 8), operands bfloat16, sums float32. With g = lane / 4 and t = 2 * (lane % 4), a word holds two neighbours along k, and
 * a lane holds ("Matrix Fragments for mma.m16n8k16 with floating point type")
 *     a[0]: row g, k t and t + 1     a[1]: row g + 8     a[2]: row g, k t + 8 and t + 9     a[3]: row g + 8 of those
 *     b[0]: column g, k t and t + 1  b[1]: k t + 8 and t + 9
 *     d[0], d[1]: row g, columns t and t + 1             d[2], d[3]: row g + 8
 *     void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
 *
 * Four matrices of 8 x 8 16-bit numbers from shared memory; lane l gives the address of row l % 8 of matrix l / 8, a multiple of 16 bytes. d[m] of a lane
 * becomes numbers t and t + 1 of row g of matrix m; _trans: number g of rows t and t + 1 ("Warp-level matrix load instruction: ldmatrix").
 *     void ldmatrix_x4(uint32_t d[4], const void *row)
 *     void ldmatrix_x4_trans(uint32_t d[4], const void *row)
 *
 * 16 bytes of shared memory <- `bytes` <= 16 bytes of global memory, then zeros; both at multiples of 16. It happens some time between the call and the wait
 * that covers its group, and then this thread sees it; others do behind a barrier. cp_async_wait<N>: until at most the N newest groups are on their way.
 *     void cp_async16(void *shared, const void *global, int bytes)
 *     void cp_async_commit(void)      what was copied since the last one is a group
 *     void cp_async_wait<N>(void) */
#ifdef __CUDACC__

static __device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

static __device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

static __device__ __forceinline__ void ldmatrix_x4(uint32_t d[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(shared_address(row)) : "memory");
}

static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t d[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(shared_address(row)) : "memory");
}

static __device__ __forceinline__ void cp_async16(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void cp_async_commit(void) { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int N> static __device__ __forceinline__ void cp_async_wait(void) { asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory"); }

#endif
#endif
