/* film_list.h - the films that --in names: one, a folder of them, or those of a manifest; and the names of what is made of them. Depends on base.h. */
#ifndef CX_APP_FILM_LIST_H
#define CX_APP_FILM_LIST_H
#include "cxnet/base.h"

/* Owned; free with cx_film_list_free. manifest: in was one, and film i is its sample i. Of a run's own films also what the run knows of them, else NULL. */
typedef struct {
    char **path; int n; size_t cap;
    bool manifest;
    char **label; int *group;  /* [n] "COVID-19", the label that the film has of the run's classes; and patient or duplicate cluster */
} cx_film_list;
/* in: a film, a folder (every file in it, whatever its name says, sorted by name; what is no picture shows later), or a path that ends in .csv, a manifest.
 * max: only the first so many; 0: all. CX_E_NOINPUT: nothing there. */
cx_status cx_film_list_of(const char *in, int max, cx_film_list *out, cx_error *err);
/* The films that a finished run had on a side ("test"), as its predictions.csv lists them; they lie relative to the folder of the run's manifest. CX_E_NOINPUT:
 * no such file, nothing on that side; CX_E_DATA: it has not the columns. */
cx_status cx_film_list_of_side(const char *run, const char *manifest, const char *side, int max, cx_film_list *out, cx_error *err);
/* To be called before work on the films starts, where their names are to be printed as JSON. CX_E_DATA: names the first that is no valid UTF-8 and says
 * how to mend. */
cx_status cx_film_list_for_json(const cx_film_list *l, cx_error *err);
void cx_film_list_free(cx_film_list *l);
/* "0003-film" from the third film's path. The number keeps films of one name in two folders apart. Owned; NULL when out of memory. */
char *cx_film_stem(int number, const char *path);
#endif
