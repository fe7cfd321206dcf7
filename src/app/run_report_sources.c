/* run_report_sources.c - the part of a run's page that says how far its classes can be told from the source of a film. Depends on run_page.h. */
#include <stdlib.h>
#include "run_page.h"

/* Columns: class, one for each source, Cramer's V. */
static cx_status table(page *p, const json_t *classes, const json_t *sources, cx_error *err)
{
    const size_t columns = json_object_size(sources) + 2, rows = json_object_size(classes) + 1;
    char (*text)[32] = cx_alloc(rows * columns, sizeof *text);
    const char **cells = cx_alloc(rows * columns, sizeof *cells), *name, *source;
    const json_t *class, *any;
    size_t at = 0;
    const bool room = text && cells;
    if (room) {
        cells[at++] = "films of the class / all films of the source";
        json_object_foreach((json_t *)sources, source, any)
            cells[at++] = source;
        cells[at++] = "Cramer's V";
        json_object_foreach((json_t *)classes, name, class) {
            cells[at++] = name;
            json_object_foreach((json_t *)sources, source, any) {
                const json_t *n = json_object_get(json_object_get(class, "films"), source);
                snprintf(text[at], sizeof *text, "%lld / %lld", (long long)json_integer_value(json_array_get(n, 0)),
                         (long long)json_integer_value(json_array_get(n, 1)));
                cells[at] = text[at];
                at++;
            }
            snprintf(text[at], sizeof *text, "%.2f", json_number_value(json_object_get(class, "cramers_v")));
            cells[at] = text[at];
            at++;
        }
        cx_report_table(&p->page, "Classes by source", cells, (int)rows, (int)columns);
    }
    free(text);
    free(cells);
    return room ? CX_OK : cx_fail(err, CX_E_MEMORY, "out of memory");
}

cx_status page_sources(page *p, cx_error *err)
{
    const json_t *j = json_object_get(p->metrics, "sources"), *classes = json_object_get(j, "classes"), *class, *most = NULL;
    const char *name;
    if (!json_is_true(json_object_get(j, "confounded")))
        return CX_OK;
    json_object_foreach((json_t *)classes, name, class)
        if (json_object_size(json_object_get(class, "films")) > json_object_size(most))
            most = json_object_get(class, "films");
    cx_report_heading(&p->page, "Class and source coincide");
    cx_report_text(&p->page, "The source of a film gives its class away here: Cramer's V, from 0 for no relation to 1 for the same thing, reaches %.2f (said "
                   "from %.1f on). A network can learn sources - their resolution, cropping, burned-in text - instead of disease, and figures from the "
                   "same sources cannot tell the two apart. Look at the heat maps, and test within one source or on sources that never trained.",
                   json_number_value(json_object_get(j, "largest_cramers_v")), json_number_value(json_object_get(j, "bound")));
    return table(p, classes, most, err);
}
