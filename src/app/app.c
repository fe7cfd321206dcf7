/* app.c - the experiment of a command line, printing JSON, the signal that stops a run. Depends on app.h. */
#include "app.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

cx_status cx_app_config(const cx_args *a, const char *path, cx_config *c, cx_error *err)
{
    static const char *const flag[] = { "--name", "--threads", "--device" }, *const key[] = { "run.name", "run.threads", "run.device" };
    char **set = cx_alloc((size_t)a->n_flags + CX_COUNT(flag), sizeof *set);
    cx_status s = set ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for the settings");
    int given = set ? cx_arg_all(a, "--set", set, a->n_flags) : 0, n = given;
    for (int i = 0; s == CX_OK && i < CX_COUNT(flag); i++)
        if (cx_arg(a, flag[i]) && !(set[n++] = cx_sprintf("%s=%s", key[i], cx_arg(a, flag[i]))))
            s = cx_fail(err, CX_E_MEMORY, "no memory for the settings");
    if (s == CX_OK)
        s = cx_config_load(path, set, n, c, err);
    while (n > given)
        free(set[--n]);
    free(set);
    return s;
}

cx_status cx_app_print_json(json_t *j, cx_error *err)
{
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(j);
    if (!text)
        return cx_fail(err, CX_E_MEMORY, "no memory for the JSON document");
    puts(text);
    free(text);
    return CX_OK;
}

json_t *cx_app_json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

cx_status cx_app_json_path(const char *path, cx_error *err)
{
    cx_buf shown = { 0 };
    const size_t n = strlen(path);
    if (cx_utf8_valid(path, n) == n)
        return CX_OK;
    for (size_t at = 0; at < n; at++) {
        const size_t sound = cx_utf8_valid(path + at, n - at);
        cx_buf_put(&shown, path + at, sound);
        if ((at += sound) < n)
            cx_buf_printf(&shown, "\\x%02X", (unsigned char)path[at]);
    }
    const cx_status s = shown.failed ? cx_fail(err, CX_E_MEMORY, "no memory for a message")
        : cx_fail(err, CX_E_DATA, "%.300s: this name is no valid UTF-8 and has no place in JSON; rename it, or leave out --json", shown.data);
    cx_buf_free(&shown);
    return s;
}

cx_status cx_app_print(cx_buf *b, cx_error *err)
{
    cx_status s = b->failed ? cx_fail(err, CX_E_MEMORY, "no memory for the text") : CX_OK;
    if (s == CX_OK && b->len)
        fwrite(b->data, 1, b->len, stdout);
    cx_buf_free(b);
    return s;
}

/* mutable: a signal handler can reach nothing else */
static volatile sig_atomic_t stop;

static void on_signal(int signal_number)
{
    stop = signal_number;
}

const volatile sig_atomic_t *cx_app_stop_on_signals(void)
{
    /* SA_RESETHAND: whoever presses ^C twice means it. */
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND | SA_RESTART) };
    sigemptyset(&act.sa_mask);
    static const int signals[] = { SIGINT, SIGTERM, SIGUSR1 };
    for (int i = 0; i < CX_COUNT(signals); i++)
        sigaction(signals[i], &act, NULL);
    return &stop;
}

void cx_app_on_device(void *self, const char *description, const char *note)
{
    (void)self;
    if (*note)
        fprintf(stderr, "%s\n", note);
    else
        fprintf(stderr, "device: %s\n", description);
}

void cx_app_note_device(const cx_backend *b)
{
    if (b->note[0])
        fprintf(stderr, "%s\n", b->note);
}
