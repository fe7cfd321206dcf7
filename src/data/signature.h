/* signature.h - private to the audit: perceptual signatures of films and the search for pairs. Depends on data.h. */
#ifndef CX_DATA_SIGNATURE_H
#define CX_DATA_SIGNATURE_H
#include "cxnet/data.h"

enum { CX_DETAIL_SIDE = 48 };
/* Fine structure of the trimmed film at 48 x 48, one sd = 40, clipped at 2.5 sd. */
typedef struct { int8_t px[CX_DETAIL_SIDE * CX_DETAIL_SIDE]; } cx_detail;

/* Signs a film. Thread-safe. CX_E_MEMORY. */
cx_status cx_signature_make(const cx_film *f, cx_signature *out, cx_detail *detail, cx_error *err);
/* Largest Pearson correlation of two detail maps slid by up to 2 px (4 % of the film) in x and y. Symmetric. */
double cx_detail_likeness(const cx_detail *a, const cx_detail *b);

/* Appends to a->pairs every exact copy (to the first of its kind) and every near-duplicate among films that decoded, sorted by (a, b). CX_E_MEMORY. */
cx_status cx_pairs_find(cx_audit *a, const cx_detail *detail, cx_error *err);
/* True when all of dhash_bits, phash_bits and likeness say near-duplicate. */
bool cx_pair_is_near(int dhash_bits, int phash_bits, double likeness);
#endif
