/* verb_completion.c - `cxnet completion bash`: the shell's completion, from the same table as the help. Depends on verb.h. */
#include "verb.h"
#include <ctype.h>
#include <string.h>

/* First words of all verbs, each once. */
static void first_words(void)
{
    const char *last = "";
    for (int i = 0; cx_verbs[i]; i++) {
        const char *name = cx_verbs[i]->name;
        size_t n = strcspn(name, " ");
        if (strncmp(last, name, n) || (last[n] && last[n] != ' '))
            printf("%.*s ", (int)n, name);
        last = name;
    }
}

static void second_words(void)
{
    for (int i = 0; cx_verbs[i]; i++) {
        const char *name = cx_verbs[i]->name, *space = strchr(name, ' ');
        if (space)
            printf("        %.*s) second=\"$second %s\" ;;&\n", (int)(space - name), name, space + 1);
    }
}

static void flags(const cx_verb *v)
{
    printf("        \"%s\")\n            flags=\"--help", v->name);
    for (int i = 0; i < v->n_flags; i++)
        printf(" %s", v->flags[i].flag);
    puts("\"");
    for (int i = 0; i < v->n_flags; i++) {
        const char *value = v->flags[i].value;
        if (!value || !strchr(value, '|') || !islower((unsigned char)value[0]))      /* FILE|DIR: kinds of things, not words to choose from */
            continue;
        printf("            [ \"$prev\" = %s ] && choices=\"", v->flags[i].flag);
        for (const char *c = value; *c; c++)
            putchar(*c == '|' ? ' ' : *c);
        puts("\"");
    }
    puts("            ;;");
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    if (strcmp(a->positional[0], "bash"))
        return cx_fail(err, CX_E_USAGE, "completion: there is one for bash, none for \"%s\"", a->positional[0]);
    puts("# bash completion of cxnet: source <(cxnet completion bash)\n"
         "_cxnet() {\n"
         "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\" verb=\"${COMP_WORDS[1]}\" second=\"\" flags=\"\" choices=\"\"\n"
         "    COMPREPLY=()\n"
         "    if [ \"$COMP_CWORD\" -eq 1 ]; then");
    fputs("        COMPREPLY=($(compgen -W \"", stdout);
    first_words();
    puts("--help --version\" -- \"$cur\"))\n        return\n    fi\n    case \"$verb\" in");
    second_words();
    puts("    esac\n"
         "    if [ -n \"$second\" ]; then\n"
         "        if [ \"$COMP_CWORD\" -eq 2 ]; then COMPREPLY=($(compgen -W \"$second --help\" -- \"$cur\")); return; fi\n"
         "        verb=\"$verb ${COMP_WORDS[2]}\"\n"
         "    fi\n"
         "    case \"$verb\" in");
    for (int i = 0; cx_verbs[i]; i++)
        flags(cx_verbs[i]);
    puts("    esac\n"
         "    if [ -n \"$choices\" ]; then COMPREPLY=($(compgen -W \"$choices\" -- \"$cur\"))\n"
         "    elif [ \"${cur:0:1}\" = - ]; then COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
         "    else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n"
         "}\n"
         "complete -o filenames -F _cxnet cxnet");
    return CX_OK;
}

const cx_verb cx_verb_completion = {
    .name = "completion", .args = "bash", .doc = "print the shell completion: source <(cxnet completion bash)", .min_args = 1, .max_args = 1, .run = run
};
