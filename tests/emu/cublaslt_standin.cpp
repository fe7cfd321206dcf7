// cublaslt_standin.cpp - cuBLASLt on the emulated GPU (cublasLt.h): descriptions that must fit each other, and products by plain loops.
//
// An algorithm remembers what it was chosen for: whoever runs it with other shapes, less aligned addresses or less scratch is refused. Where sums by atomics are
// not excluded, it is one of those, and ends the program when it runs. It uses all the scratch that it asked for.
#include "cublasLt.h"
#include "cuda_emu.h"
#include "cxnet/op.h"

struct cublasLtContext { int unused; };
struct cublasLtMatmulDescOpaque_t { cublasOperation_t a, b; };
struct cublasLtMatrixLayoutOpaque_t { cudaDataType type; uint64_t rows, columns; int64_t ld; };
struct cublasLtMatmulPreferenceOpaque_t { uint64_t scratch; uint32_t reduction, alignment[4]; };

namespace {
enum { SCRATCH = 1 << 14 };
// In the words of a cublasLtMatmulAlgo_t.
struct Algorithm { uint64_t atomics, shape, scratch, alignment[4], unused; };
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm is 64 bytes");

// Columns first, as cuBLASLt has it: (m, n) = a (m, k) b (k, n).
struct Job { cublasLtMatrixLayoutOpaque_t a, b, c; bool a_t, b_t; const char *from_a, *from_b; char *to; float beta; };

uint64_t shape_of(const Job &j)
{
    uint64_t h = (uint64_t)j.a_t * 2 + j.b_t;
    for (const cublasLtMatrixLayoutOpaque_t *l : { &j.a, &j.b, &j.c })
        for (uint64_t v : { (uint64_t)l->type, l->rows, l->columns, (uint64_t)l->ld })
            h = (h ^ v) * 0x100000001b3u + 0x9e3779b97f4a7c15u;
    return h;
}

cublasStatus_t check(const Job &j)
{
    for (const cublasLtMatrixLayoutOpaque_t *l : { &j.a, &j.b, &j.c })
        if (!l->rows || !l->columns || l->ld < (int64_t)l->rows)
            return CUBLAS_STATUS_INVALID_VALUE;
    const uint64_t m = j.a_t ? j.a.columns : j.a.rows, k = j.a_t ? j.a.rows : j.a.columns, kb = j.b_t ? j.b.columns : j.b.rows;
    if (m != j.c.rows || k != kb || (j.b_t ? j.b.rows : j.b.columns) != j.c.columns)
        return CUBLAS_STATUS_INVALID_VALUE;
    return j.a.type != j.b.type || (j.c.type != CUDA_R_32F && j.c.type != j.a.type) ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

double load(const char *p, cudaDataType type, int64_t at)
{
    return (double)(type == CUDA_R_16BF ? cx_from_bf16(((const uint16_t *)(const void *)p)[at]) : ((const float *)(const void *)p)[at]);
}

// One thread a block: a column.
__global__ void standin_product(Job j)
{
    const int64_t n = blockIdx.x, depth = (int64_t)(j.a_t ? j.a.rows : j.a.columns);
    for (int64_t m = 0; m < (int64_t)j.c.rows; m++) {
        double sum = 0;
        for (int64_t k = 0; k < depth; k++)
            sum += load(j.from_a, j.a.type, j.a_t ? m * j.a.ld + k : k * j.a.ld + m) * load(j.from_b, j.b.type, j.b_t ? k * j.b.ld + n : n * j.b.ld + k);
        const int64_t at = n * j.c.ld + m;
        if (j.beta != 0)
            sum += (double)j.beta * load(j.to, j.c.type, at);
        if (j.c.type == CUDA_R_16BF)
            ((uint16_t *)(void *)j.to)[at] = cx_to_bf16((float)sum);
        else
            ((float *)(void *)j.to)[at] = (float)sum;
    }
}

__global__ void standin_product_scratch(char *p, int64_t bytes) { memset(p, 0xff, (size_t)bytes); }
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale)
{
    *d = new cublasLtMatmulDescOpaque_t{ CUBLAS_OP_N, CUBLAS_OP_N };
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes)
{
    cublasOperation_t op;
    if (!d || !value || bytes != sizeof op)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&op, value, sizeof op);
    (name == CUBLASLT_MATMUL_DESC_TRANSA ? d->a : d->b) = op;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    *l = new cublasLtMatrixLayoutOpaque_t{ type, rows, columns, ld };
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new cublasLtMatmulPreferenceOpaque_t{ 0, CUBLASLT_REDUCTION_SCHEME_MASK, { 256, 256, 256, 256 } };
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, const void *value, size_t bytes)
{
    if (!p || !value || bytes != (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof p->scratch : sizeof p->reduction))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        memcpy(&p->scratch, value, bytes);
    else
        memcpy(name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK ? &p->reduction : &p->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
               bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t to, cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    *count = 0;
    if (!handle || !d || !a || !b || !c || !to || !p || wanted < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    const Job j = { *a, *b, *to, d->a == CUBLAS_OP_T, d->b == CUBLAS_OP_T, nullptr, nullptr, nullptr, 0 };
    const cublasStatus_t e = check(j);
    if (e != CUBLAS_STATUS_SUCCESS || p->scratch < SCRATCH)
        return e != CUBLAS_STATUS_SUCCESS ? e : CUBLAS_STATUS_NOT_SUPPORTED;
    Algorithm algorithm = { p->reduction & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE), shape_of(j), SCRATCH, {}, 0 };
    for (int i = 0; i < 4; i++)
        algorithm.alignment[i] = p->alignment[i];
    results[0] = cublasLtMatmulHeuristicResult_t{ {}, SCRATCH, CUBLAS_STATUS_SUCCESS, 1, {} };
    memcpy(&results[0].algo, &algorithm, sizeof algorithm);
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t d, const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *to,
                              cublasLtMatrixLayout_t to_layout, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    if (!handle || !d || !a || !b || !to || c != to || c_layout != to_layout || !algo || *(const float *)alpha != 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    const Job j = { *a_layout, *b_layout, *to_layout, d->a == CUBLAS_OP_T, d->b == CUBLAS_OP_T, (const char *)a, (const char *)b, (char *)to,
                    *(const float *)beta };
    Algorithm algorithm;
    memcpy(&algorithm, algo, sizeof algorithm);
    if (algorithm.atomics) {
        fprintf(stderr, "emu: cublasLt: an algorithm that sums by atomics or in bf16 was not to be taken\n");
        exit(3);
    }
    const void *const at[] = { a, b, c, to };
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)at[i] % algorithm.alignment[i])
            return CUBLAS_STATUS_INVALID_VALUE;
    if (algorithm.shape != shape_of(j) || workspace_bytes < algorithm.scratch || !workspace)
        return CUBLAS_STATUS_INVALID_VALUE;
    LAUNCH(standin_product_scratch, 1, 1, stream, (char *)workspace, (int64_t)algorithm.scratch);
    LAUNCH(standin_product, (unsigned)j.c.columns, 1, stream, j);
    return CUBLAS_STATUS_SUCCESS;
}
}
