/* app.h - what several verbs share: the experiment of a command line, printing JSON, the signal that stops a run. Depends on verb.h. */
#ifndef CX_APP_APP_H
#define CX_APP_APP_H
#include <jansson.h>
#include <signal.h>
#include "cxnet/train.h"
#include "verb.h"

/* The experiment in `path` (NULL: defaults), then every --set in order, then --name, --threads and --device as run.name, run.threads and run.device, where the
 * verb has them. Free with cx_config_free. */
cx_status cx_app_config(const cx_args *a, const char *path, cx_config *c, cx_error *err);
/* Prints a document, indented, on stdout. Takes the reference of j; NULL is CX_E_MEMORY. */
cx_status cx_app_print_json(json_t *j, cx_error *err);
/* v, or null where it is not finite: JSON has no such numbers. */
json_t *cx_app_json_number(double v);
/* Where a JSON document is to hold this path. CX_E_DATA: it is no valid UTF-8, which JSON cannot hold: names it (as \xHH what is no UTF-8) and says how
 * to mend. */
cx_status cx_app_json_path(const char *path, cx_error *err);
/* Prints what b holds on stdout and frees it. */
cx_status cx_app_print(cx_buf *b, cx_error *err);
/* Handles SIGINT, SIGTERM and SIGUSR1 from now on: the first sets the flag that is returned, a second one ends the program as usual. */
const volatile sig_atomic_t *cx_app_stop_on_signals(void);
/* Says on standard error why "auto" did not take a GPU, where that is so. */
void cx_app_note_device(const cx_backend *b);
/* The same as a cx_run_opts.on_device; where there is nothing to explain, the device. */
void cx_app_on_device(void *self, const char *description, const char *note);
#endif
