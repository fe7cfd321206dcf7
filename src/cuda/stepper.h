/* stepper.h - training steps on a GPU: what cx_backend.stepper is here. */
#ifndef CX_CUDA_STEPPER_H
#define CX_CUDA_STEPPER_H
#include "cxnet/stepper.h"

cx_status cx_cuda_stepper_new(cx_backend *b, cx_store *store, const cx_stepper_opts *o, cx_stepper **out, cx_error *err);

#endif
