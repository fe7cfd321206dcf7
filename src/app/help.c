/* help.c - the pages of `cxnet --help` and `cxnet help VERB`, from the table of verbs. Depends on args.h. */
#include "args.h"
#include <string.h>

enum { PAGE_COLUMNS = 100 };

/* Prints text from column `indent` on, wrapped before PAGE_COLUMNS; ends the line. */
static void wrapped(FILE *f, const char *text, int indent)
{
    int at = indent;
    for (bool first = true; *text; first = false) {
        size_t n = strcspn(text, " \n");
        bool new_line = !first && (text[-1] == '\n' || at + 1 + (int)n > PAGE_COLUMNS);
        if (new_line)
            fprintf(f, "\n%*s", indent, "");
        else if (!first)
            fputc(' ', f);
        fprintf(f, "%.*s", (int)n, text);
        at = (new_line ? indent : at + !first) + (int)n;
        text += n;
        if (*text)
            text++;
    }
    fputc('\n', f);
}

/* A name with its argument, and from column `width` on what it does; a name too long for that has a line of its own. */
static void row(FILE *f, int width, const char *name, const char *args, const char *doc)
{
    int n = fprintf(f, "  %s%s%s", name, args[0] ? " " : "", args);
    if (n < 0)
        return;
    if (n + 2 > width)
        fprintf(f, "\n%*s", width, "");
    else
        fprintf(f, "%*s", width - n, "");
    wrapped(f, doc, width);
}

void cx_help_all(FILE *f)
{
    fprintf(f, "cxnet %s: trains, audits and explains chest X-ray networks. For research; not for clinical use.\n\nusage: cxnet VERB ...\n\n", CX_VERSION);
    for (int i = 0; cx_verbs[i]; i++)
        row(f, 30, cx_verbs[i]->name, cx_verbs[i]->args, cx_verbs[i]->doc);
    fputc('\n', f);
    wrapped(f, "\"cxnet help VERB\" shows the flags of a verb. NO_COLOR is respected. Exit codes: 0 done, 64 usage, 65 bad data, 66 no input, 69 unsupported, "
               "70 internal error or a loss that is not finite, 71 memory, 73 and 74 output, 75 another rank failed or vanished, 78 configuration, "
               "85 interrupted and resumable.", 0);
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
    wrapped(f, v->doc, 0);
    if (v->more) {
        fputc('\n', f);
        wrapped(f, v->more, 0);
    }
    if (v->n_flags)
        fputc('\n', f);
    for (int i = 0; i < v->n_flags; i++)
        row(f, 26, v->flags[i].flag, v->flags[i].value ? v->flags[i].value : "", v->flags[i].doc);
}
