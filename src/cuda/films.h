/* films.h - what the CUDA backend does to 8-bit films: the four functions of cx_backend that bear these names. Depends on graph.h. */
#ifndef CX_CUDA_FILMS_H
#define CX_CUDA_FILMS_H
#include "cxnet/graph.h"

cx_status cx_cuda_run_films(cx_backend *b, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, const cx_tensor *out, cx_error *err);
cx_status cx_cuda_run_resize(cx_backend *b, const uint8_t *px, int width, int height, int side, uint8_t *out, cx_error *err);
cx_status cx_cuda_run_clahe(cx_backend *b, const cx_clahe *c, const uint8_t *px, int n, uint8_t *out, cx_error *err);
cx_status cx_cuda_run_beasf(cx_backend *b, const cx_beasf *f, const uint8_t *px, int n, int n_px, uint8_t *out, cx_error *err);
#endif
