/* manifest_words.c - numbers distinct words by sorting them, and walks label lists. Depends on base. */
#include <stdlib.h>
#include <string.h>
#include "manifest_words.h"

typedef struct { cx_word word; int at; } placed;

static int compare(const cx_word *a, const cx_word *b)
{
    int n = a->length < b->length ? a->length : b->length;
    int c = n ? memcmp(a->text, b->text, (size_t)n) : 0;
    return c ? c : a->length - b->length;
}

static int by_word(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    int c = compare(&x->word, &y->word);
    return c ? c : x->at - y->at;
}

int cx_words_number(const cx_word *words, int n, int *id, cx_word *distinct)
{
    placed *p = cx_alloc((size_t)n, sizeof *p);
    if (!p)
        return -1;
    for (int i = 0; i < n; i++)
        p[i] = (placed){ words[i], i };
    qsort(p, (size_t)n, sizeof *p, by_word);
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (i == 0 || compare(&p[i].word, &p[i - 1].word) != 0) {
            if (distinct)
                distinct[count] = p[i].word;
            count++;
        }
        id[p[i].at] = count - 1;
    }
    free(p);
    return count;
}

cx_word cx_word_of(const char *text) { return (cx_word){ text, (int)strlen(text) }; }

bool cx_label_next(const char **cursor, cx_word *out)
{
    const char *from = *cursor;
    if (!from || !*from)
        return false;
    size_t n = strcspn(from, "|");
    *out = (cx_word){ from, (int)n };
    *cursor = from[n] ? from + n + 1 : NULL;
    return true;
}
