/* help.c - the pages of `cxnet --help` and `cxnet help VERB`, from the table of verbs. Depends on args.h. */
#include "args.h"
#include <string.h>

enum { PAGE_COLUMNS = 100 };

/* Prints text from column `at`, wrapped before PAGE_COLUMNS, further lines indented by `indent`; ends the line. */
static void wrapped(FILE *f, const char *text, int at, int indent)
{
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (at > indent && at + 1 + (int)n > PAGE_COLUMNS) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        fprintf(f, "%.*s", (int)n, text);
        at += (int)n;
        text += n;
        if (*text == ' ' && text[1]) {
            fputc(' ', f);
            at++;
        }
        if (*text == '\n' && text[1]) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        if (*text)
            text++;
    }
    fputc('\n', f);
}

static void row(FILE *f, int width, const char *name, const char *args, const char *doc)
{
    int n = fprintf(f, "  %s%s%s", name, args[0] ? " " : "", args);
    if (n < 0)
        return;
    if (n > width)
        fprintf(f, "\n%*s", width, "");
    else
        fprintf(f, "%*s", width - n, "");
    wrapped(f, doc, width, width);
}

void cx_help_all(FILE *f)
{
    fprintf(f, "cxnet %s: trains, audits and explains chest X-ray networks. For research; not for clinical use.\n\nusage: cxnet VERB ...\n\n", CX_VERSION);
    for (int i = 0; cx_verbs[i]; i++)
        row(f, 30, cx_verbs[i]->name, cx_verbs[i]->args, cx_verbs[i]->doc);
    fputs("\n\"cxnet help VERB\" shows the flags of a verb. NO_COLOR is respected. Exit codes: 0 done, 64 usage, 65 bad data, 66 no input,\n"
          "69 unsupported, 70 internal error or a loss that is not finite, 71 memory, 73 and 74 output, 78 configuration, 85 interrupted and resumable.\n", f);
}

void cx_help_group(const char *word, FILE *f)
{
    size_t n = strlen(word);
    for (int i = 0; cx_verbs[i]; i++)
        if (!strncmp(cx_verbs[i]->name, word, n) && cx_verbs[i]->name[n] == ' ')
            row(f, 30, cx_verbs[i]->name, cx_verbs[i]->args, cx_verbs[i]->doc);
}

void cx_help_verb(const cx_verb *v, FILE *f)
{
    fprintf(f, "usage: cxnet %s%s%s%s\n\n", v->name, v->args[0] ? " " : "", v->args, v->n_flags ? " [FLAGS]" : "");
    wrapped(f, v->doc, 0, 0);
    if (v->more) {
        fputc('\n', f);
        wrapped(f, v->more, 0, 0);
    }
    if (v->n_flags)
        fputc('\n', f);
    for (int i = 0; i < v->n_flags; i++)
        row(f, 26, v->flags[i].flag, v->flags[i].value ? v->flags[i].value : "", v->flags[i].doc);
}
