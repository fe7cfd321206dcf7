/* cublaslt_api.h - the calls of cuBLASLt that this backend makes, found at run time (library.h). */
#ifndef CX_CUBLASLT_API_H
#define CX_CUBLASLT_API_H
#include <cublasLt.h>

#define CX_CUBLASLT_CALLS(CALL) \
    CALL(cublasLtCreate) CALL(cublasLtDestroy) CALL(cublasLtMatmulDescCreate) CALL(cublasLtMatmulDescDestroy) CALL(cublasLtMatmulDescSetAttribute) \
    CALL(cublasLtMatrixLayoutCreate) CALL(cublasLtMatrixLayoutDestroy) CALL(cublasLtMatmulPreferenceCreate) CALL(cublasLtMatmulPreferenceDestroy) \
    CALL(cublasLtMatmulPreferenceSetAttribute) CALL(cublasLtMatmulAlgoGetHeuristic) CALL(cublasLtMatmul)

#ifndef __cplusplus      /* where a member must not be named like what it is made of */
typedef struct {
#define CALL(name) __typeof__(&name) name;
    CX_CUBLASLT_CALLS(CALL)
#undef CALL
} cx_cublaslt_api;
#endif

#endif
