/* tensor_emu.h - the instructions of kernels/tensor.cuh on the emulated GPU. Included by cuda_emu.h. Names, operands and what each lane holds are described
 * there, after the PTX ISA; bodies are in tensor_emu.cpp.
 *
 * Caught besides: a matrix instruction that a lane does not reach, or reaches at another line, or in a block whose last warp is not whole; addresses that are
 * no multiple of 16, or lie outside of every shared array; a thread that returns while its copies are on their way. Where a copy will arrive, memory is NaN
 * from the call on, and the copy itself waits for cp_async_wait, so that who reads too soon, or fills what others still read, computes NaN. */
#ifndef CX_TENSOR_EMU_H
#define CX_TENSOR_EMU_H

namespace emu {
struct Copy {
    void *to;
    const void *from;
    size_t bytes;
};
struct Copies {
    std::vector<Copy> open;                 /* in no group yet */
    std::vector<std::vector<Copy>> groups;  /* oldest first */
};

float bf16_to_float(uint16_t half);
uint16_t float_to_bf16(float v);
void mma(int line, float *d, const uint32_t *a, const uint32_t *b);
void ldmatrix(int line, uint32_t *d, const void *row, bool trans);
void cp_async(int line, void *to, const void *from, int bytes);
void commit();
void wait_copies(size_t newest);
void end_copies();                          /* the thread has returned */
}

static inline uint32_t pack_bf16(float low, float high) { return emu::float_to_bf16(low) | (uint32_t)emu::float_to_bf16(high) << 16; }
#define mma_bf16(d, a, b) emu::mma(__LINE__, d, a, b)
#define ldmatrix_x4(d, row) emu::ldmatrix(__LINE__, d, row, false)
#define ldmatrix_x4_trans(d, row) emu::ldmatrix(__LINE__, d, row, true)
#define cp_async16(to, from, bytes) emu::cp_async(__LINE__, to, from, bytes)
#define cp_async_commit() emu::commit()
template <int N> static inline void cp_async_wait() { emu::wait_copies(N); }
#endif
