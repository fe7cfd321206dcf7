/* verb_predict.c - `cxnet predict`: what a trained network says of films, as bars, JSON or CSV. Depends on app.h, film_list.h. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "app.h"
#include "film_list.h"

enum { BAR_CELLS = 30 };
enum { BARS_AUTO, BARS_UTF8, BARS_ASCII };
typedef struct {
    cx_net net;
    cx_classifier *classifier;
    float *x;                   /* [side, side, channels] */
    double *p;                  /* [classes] */
    bool multilabel, binary, utf8;
    json_t *films;              /* NULL without --json */
    cx_buf csv;
    char *first;                /* what was wrong with the first film that was skipped */
    int bad;
} job;

/* ---- decisions ------------------------------------------------------------------------------------------------------- */

static bool has_threshold(const job *j, int k) { return j->multilabel || (j->binary && k == 1); }

static bool said(const job *j, int k) { return j->multilabel ? j->p[k] >= j->net.thresholds[k] : k == cx_net_answer(&j->net, j->p); }

/* The answer, or, of multilabel, all findings from their thresholds on, joined by `between`. */
static void put_answer(const job *j, const char *between, cx_buf *b)
{
    bool any = false;
    for (int k = 0; k < j->net.n_classes; k++)
        if (said(j, k)) {
            cx_buf_printf(b, "%s%s", any ? between : "", j->net.classes[k]);
            any = true;
        }
}

/* ---- in a terminal ----------------------------------------------------------------------------------------------------- */

/* Does the locale's name say that the terminal shows UTF-8? The first of these that is set decides (POSIX, XBD 8.2). */
static bool locale_is_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    for (int i = 0; i < CX_COUNT(names); i++) {
        const char *value = getenv(names[i]), *dot = value && *value ? strchr(value, '.') : NULL;
        if (value && *value)
            return dot && (!strncasecmp(dot + 1, "UTF-8", 5) || !strncasecmp(dot + 1, "UTF8", 4));
    }
    return false;
}

/* p of BAR_CELLS cells; in UTF-8 to an eighth of a cell: U+2588 is a full block, U+2589 to U+258F seven eighths to one. */
static void put_bar(const job *j, double p, cx_buf *b)
{
    const int eighths = (int)(p * BAR_CELLS * 8 + 0.5), full = j->utf8 ? eighths / 8 : (eighths + 4) / 8, rest = j->utf8 ? eighths % 8 : 0;
    for (int i = 0; i < full; i++)
        cx_buf_puts(b, j->utf8 ? "\xe2\x96\x88" : "#");
    if (rest)
        cx_buf_put(b, (const char[]){ '\xe2', '\x96', (char)(0x90 - rest) }, 3);
    for (int i = full + (rest > 0); i < BAR_CELLS; i++)
        cx_buf_puts(b, j->utf8 ? " " : ".");
}

static void put_film(const job *j, const char *path, cx_buf *b)
{
    int wide = 0;
    for (int k = 0; k < j->net.n_classes; k++)
        wide = (int)strlen(j->net.classes[k]) > wide ? (int)strlen(j->net.classes[k]) : wide;
    cx_buf_printf(b, "%s\n", path);
    for (int k = 0; k < j->net.n_classes; k++) {
        cx_buf_printf(b, "  %-*s %5.3f |", wide, j->net.classes[k], j->p[k]);
        put_bar(j, j->p[k], b);
        cx_buf_puts(b, "|");
        if (has_threshold(j, k))
            cx_buf_printf(b, " %s %.3f", j->p[k] >= j->net.thresholds[k] ? "at least" : "below", j->net.thresholds[k]);
        cx_buf_puts(b, said(j, k) && !j->multilabel ? "  <- answer\n" : "\n");
    }
    if (!j->multilabel)
        return;
    cx_buf_puts(b, "  found: ");
    const size_t before = b->len;
    put_answer(j, ", ", b);
    cx_buf_puts(b, b->len > before ? "\n" : "nothing\n");
}

/* ---- for programs ------------------------------------------------------------------------------------------------------ */

static json_t *film_json(const job *j, const char *path)
{
    json_t *p = json_object(), *answer = json_array();
    for (int k = 0; k < j->net.n_classes; k++) {
        json_object_set_new(p, j->net.classes[k], json_real(j->p[k]));
        if (said(j, k))
            json_array_append_new(answer, json_string(j->net.classes[k]));
    }
    return json_pack("{s:s, s:o, s:o}", "path", path, "probability", p, "answer", answer);
}

static json_t *whole_json(const job *j, const char *network)
{
    json_t *classes = json_array(), *thresholds = json_object();
    for (int k = 0; k < j->net.n_classes; k++) {
        json_array_append_new(classes, json_string(j->net.classes[k]));
        if (has_threshold(j, k))
            json_object_set_new(thresholds, j->net.classes[k], json_real(j->net.thresholds[k]));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:O}", "network", network, "task", j->net.config.data.task, "classes", classes, "thresholds", thresholds, "films",
                     j->films);
}

static void put_csv_header(job *j)
{
    cx_buf_puts(&j->csv, "path,");
    for (int k = 0; k < j->net.n_classes; k++) {
        char *column = cx_sprintf("p_%s", j->net.classes[k]);
        cx_csv_put(&j->csv, column ? column : "", false);
        j->csv.failed |= !column;
        free(column);
    }
    cx_buf_puts(&j->csv, "answer\n");
}

static void put_csv_row(job *j, const char *path)
{
    cx_buf answer = { 0 };
    put_answer(j, "|", &answer);
    cx_csv_put(&j->csv, path, false);
    for (int k = 0; k < j->net.n_classes; k++)
        cx_buf_printf(&j->csv, "%.9g,", j->p[k]);
    cx_csv_put(&j->csv, answer.data ? answer.data : "", true);
    j->csv.failed |= answer.failed;
    cx_buf_free(&answer);
}

/* ---- films --------------------------------------------------------------------------------------------------------------- */

static cx_status skip(job *j, const char *path, const cx_error *why, cx_error *err)
{
    fprintf(stderr, "skipped: %s\n", why->text);
    if (!j->bad++ && !(j->first = cx_strdup(why->text)))
        return cx_fail(err, CX_E_MEMORY, "no memory for a message");
    if (j->films && json_array_append_new(j->films, json_pack("{s:s, s:s}", "path", path, "error", why->text)))
        return cx_fail(err, CX_E_MEMORY, "no memory for the JSON document");
    return CX_OK;
}

static cx_status look_at(job *j, const char *path, cx_error *err)
{
    cx_film film = { 0 };
    cx_error why = { 0 };
    cx_status s = cx_film_load(path, &film, &why);
    if (s == CX_OK)
        s = cx_film_to_input(j->net.pipeline, &film, &j->net.norm, j->x, NULL, &why);
    cx_film_free(&film);
    if (s == CX_E_MEMORY)
        return cx_fail(err, s, "%s", why.text);
    if (s != CX_OK)
        return skip(j, path, &why, err);
    TRY(cx_prefix(err, cx_classifier_run(j->classifier, j->x, 1, j->p, err), "%s", path));
    put_csv_row(j, path);
    if (j->films)
        return json_array_append_new(j->films, film_json(j, path)) ? cx_fail(err, CX_E_MEMORY, "no memory for the JSON document") : CX_OK;
    cx_buf text = { 0 };
    put_film(j, path, &text);
    return cx_app_print(&text, err);
}

/* ---- the verb ------------------------------------------------------------------------------------------------------------- */

static cx_status open_job(job *j, const cx_args *a, cx_error *err)
{
    int threads, bars;
    TRY(cx_arg_int(a, "--threads", 0, 0, 1024, &threads, err));
    TRY(cx_arg_choice(a, "--bars", "auto|utf8|ascii", BARS_AUTO, &bars, err));
    j->utf8 = bars == BARS_UTF8 || (bars == BARS_AUTO && isatty(STDOUT_FILENO) && locale_is_utf8());
    TRY(cx_net_open(a->positional[0], cx_arg(a, "--device"), threads, &j->net, err));
    cx_app_note_device(cx_net_part(&j->net, 0)->backend);
    j->multilabel = !strcmp(j->net.config.data.task, "multilabel");
    j->binary = !strcmp(j->net.config.data.task, "binary");
    TRY(cx_prefix(err, cx_classifier_new(&j->net, 1, &j->classifier, err), "%s", a->positional[0]));
    const size_t side = (size_t)j->net.config.data.side;
    j->x = cx_alloc(side * side, (size_t)j->net.norm.channels * sizeof *j->x);
    j->p = cx_alloc((size_t)j->net.n_classes, sizeof *j->p);
    if (cx_arg(a, "--json"))
        j->films = json_array();
    put_csv_header(j);
    return j->x && j->p && (j->films || !cx_arg(a, "--json")) ? CX_OK : cx_fail(err, CX_E_MEMORY, "no memory for a film");
}

static cx_status predict(job *j, const cx_args *a, cx_film_list *films, cx_error *err)
{
    const char *in = cx_arg(a, "--in"), *csv = cx_arg(a, "--csv"), *network = a->positional[0];
    int max;
    if (!in)
        return cx_fail(err, CX_E_USAGE, "predict wants --in FILM|DIR|MANIFEST: cxnet predict %s --in film.png", network);
    TRY(cx_arg_int(a, "--max", 0, 1, 1000000, &max, err));
    TRY(open_job(j, a, err));
    TRY(cx_film_list_of(in, max, films, err));
    if (j->films) {
        TRY(cx_app_json_path(network, err));
        TRY(cx_film_list_for_json(films, err));
    }
    for (int i = 0; i < films->n; i++)
        TRY(look_at(j, films->path[i], err));
    if (csv)
        TRY(j->csv.failed ? cx_fail(err, CX_E_MEMORY, "no memory for %s", csv) : cx_file_write(csv, j->csv.data, j->csv.len, err));
    if (j->films)
        TRY(cx_app_print_json(whole_json(j, network), err));
    return j->bad < films->n ? CX_OK : cx_fail(err, CX_E_DATA, "none of %d films could be read; the first: %s", films->n, j->first);
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    job j = { 0 };
    cx_film_list films = { 0 };
    const cx_status s = predict(&j, a, &films, err);
    cx_film_list_free(&films);
    cx_classifier_free(j.classifier);
    cx_net_close(&j.net);
    cx_buf_free(&j.csv);
    json_decref(j.films);
    free(j.x);
    free(j.p);
    free(j.first);
    return s;
}

static const cx_flag flags[] = {
    { "--in", "FILM|DIR|MANIFEST", "a film, a folder of films, or a manifest.csv" },
    { "--csv", "FILE", "write path, probability of each class and answer as CSV too" },
    { "--max", "N", "only the first N films" },
    { "--bars", "auto|utf8|ascii", "how bars are drawn; auto, and without it: blocks in a terminal whose locale is UTF-8, else ASCII" },
    CX_FLAG_DEVICE("the run's own"),
    CX_FLAG_THREADS,
    CX_FLAG_JSON,
};
const cx_verb cx_verb_predict = {
    .name = "predict", .args = "RUN|WEIGHTS", .doc = "show what a trained network says of films", .flags = flags, .n_flags = CX_COUNT(flags), .min_args = 1,
    .max_args = 1, .run = run,
    .more = "Films are read, resized and normalised as in training. Binary: the second class is the answer from its threshold on, which validation chose. "
            "Multilabel: a threshold for each finding. Multiclass and hierarchical: the largest probability; of a hierarchy, the joint one. "
            "Not for clinical use: a probability is only as good as the films that the network learned from."
};
