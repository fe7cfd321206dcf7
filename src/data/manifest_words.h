/* manifest_words.h - private to the data room: numbering of distinct words, for tables and groups. Depends on base. */
#ifndef CX_DATA_MANIFEST_WORDS_H
#define CX_DATA_MANIFEST_WORDS_H
#include "cxnet/data.h"

typedef struct { const char *text; int length; } cx_word;         /* not terminated: may point into a label list */

/* Numbers n words by their alphabetical rank among the distinct ones: id [n] is the caller's, distinct [n] (may be NULL) receives them in order.
 * Returns how many are distinct, or -1 when out of memory. */
int cx_words_number(const cx_word *words, int n, int *id, cx_word *distinct);
cx_word cx_word_of(const char *text);
/* The next label of a '|' list: a cursor that starts at the list and ends as NULL. False at the end. */
bool cx_label_next(const char **cursor, cx_word *out);
#endif
