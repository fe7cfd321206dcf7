/* args.h - from argv to a verb and its arguments, and the words that help prints. Depends on verb.h. */
#ifndef CX_APP_ARGS_H
#define CX_APP_ARGS_H
#include <stdio.h>
#include "verb.h"

/* The verb that argv begins with, and how many words name it. CX_E_USAGE: none; the message has the nearest one. */
cx_status cx_verb_find(int argc, char *const *argv, const cx_verb **v, int *words, cx_error *err);
/* Parses what follows the verb's name. *help: --help or -h is there (then nothing else is checked). Free with cx_args_free. */
cx_status cx_args_parse(const cx_verb *v, int argc, char *const *argv, cx_args *a, bool *help, cx_error *err);
void cx_args_free(cx_args *a);

/* The candidate with the smallest edit distance to word, NULL when none is near. `next` yields candidate i, NULL at the end. */
const char *cx_nearest(const char *word, const char *(*next)(const void *ctx, int i), const void *ctx);

void cx_help_all(FILE *f);
void cx_help_verb(const cx_verb *v, FILE *f);
/* Lists the verbs that begin with a first word ("data"). */
void cx_help_group(const char *word, FILE *f);
bool cx_is_group(const char *word);          /* the first word of a verb of two words */
#endif
