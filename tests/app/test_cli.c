/* test_cli.c - the command line: usage errors with their suggestions and exit codes, help and completion from one table. */
#include "app/program.h"
#include <unistd.h>

static void usage_errors_are_64_with_a_way_out(void **state)
{
    (void)state;
    static const struct { const char *args, *message; } row[] = {
        { "", "cxnet: no verb was given" },
        { "hlep", "cxnet: unknown verb \"hlep\"; did you mean \"help\"?" },
        { "versoin", "did you mean \"version\"?" },
        { "qqqqqqqq", "cxnet: unknown verb \"qqqqqqqq\"; \"cxnet --help\" lists them" },
        { "''", "unknown verb \"\"" },
        { "--wat", "unknown verb \"--wat\"" },
        { "help hlep", "did you mean \"help\"?" },
        { "help help help", "help: one word too many" },
        { "completion", "completion wants bash: cxnet completion bash" },
        { "completion bash zsh", "completion: one word too many: \"zsh\"; usage: cxnet completion bash" },
        { "completion fish", "none for \"fish\"" },
        { "version --jsn", "version: unknown flag \"--jsn\"; \"cxnet help version\" lists its flags" },
        { "version --hlep", "unknown flag \"--hlep\"; did you mean \"--help\"?" },
        { "version -x", "unknown flag \"-x\"" },
        { "version -- --help", "version: one word too many: \"--help\"" },
        { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "unknown verb \"aaa" },
    };
    for (int i = 0; i < CX_COUNT(row); i++) {
        assert_runs(64, "", row[i].message, "%s", row[i].args);
        assert_string_equal(run_program("%s", row[i].args)->out, "");
    }
}

static void help_is_on_stdout_and_free_of_errors(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        { "--help", "usage: cxnet VERB" }, { "-h", "usage: cxnet VERB" }, { "help", "usage: cxnet VERB" },
        { "help version", "usage: cxnet version" },
        { "version --help", "usage: cxnet version" }, { "completion -h", "usage: cxnet completion bash" },
        { "completion zsh more --help", "usage: cxnet completion bash" },
        { "--version", "cxnet " CX_VERSION "\n" }, { "version", "cxnet " CX_VERSION "\n" },
    };
    for (int i = 0; i < CX_COUNT(row); i++) {
        assert_runs(0, row[i][1], "", "%s", row[i][0]);
        assert_string_equal(run_program("%s", row[i][0])->err, "");
    }
}

/* Every verb that the completion knows is in the help and has a page of its own, none wider than 100 columns. */
static void every_verb_has_a_page(void **state)
{
    (void)state;
    static char all[1 << 20], help[1 << 20];
    char *save = NULL;
    strcpy(all, run_program("completion bash")->out);
    strcpy(help, run_program("--help")->out);
    int pages = 0;
    for (char *line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char verb[64], listed[70];
        if (sscanf(line, "        \"%63[a-z ]\")", verb) != 1)
            continue;
        snprintf(listed, sizeof listed, "\n  %s ", verb);
        if (!strstr(help, listed))
            fail_msg("--help does not list \"%s\"", verb);
        const ran *r = run_program("help %s", verb);
        if (r->code != 0)
            fail_msg("help %s: %s", verb, r->err);
        assert_null(strstr(r->out, " \n"));
        int column = 0;
        for (const char *p = r->out; *p; p++) {
            column = *p == '\n' ? 0 : column + 1;
            assert_true(column <= 100);
        }
        pages++;
    }
    assert_true(pages >= 10);
}

/* What bash offers after words, with the cursor at the end of the last one. */
static void assert_completes(const char *words, int cword, const char *want)
{
    char command[4000], got[4000];
    snprintf(command, sizeof command,
             "bash -c 'source <(\"$0\" completion bash); COMP_WORDS=(%s); COMP_CWORD=%d; _cxnet; "
             "printf \"%%s \" \"${COMPREPLY[@]}\"' '%s' 2>&1", words, cword, CX_TEST_PROGRAM);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    got[fread(got, 1, sizeof got - 1, p)] = 0;
    pclose(p);
    if (!strstr(got, want))
        fail_msg("completion of \"%s\": \"%s\" lacks \"%s\"", words, got, want);
}

static void bash_completes_from_the_table(void **state)
{
    (void)state;
    assert_completes("cxnet vers", 1, "version ");
    assert_completes("cxnet --v", 1, "--version ");
    assert_completes("cxnet version --", 2, "--help ");
    assert_completes("cxnet co", 1, "config completion ");
    assert_completes("cxnet config sh", 2, "show ");
    assert_completes("cxnet data split --o", 3, "--out ");
    assert_completes("cxnet train e.yaml --resume \"\"", 4, "auto must never ");
    assert_completes("cxnet explain runs/x --in LICEN", 4, "LICENSE ");
    assert_completes("cxnet train LICEN", 2, "LICENSE ");
}

static void unwritable_output_is_74(void **state)
{
    (void)state;
    char command[1000];
    snprintf(command, sizeof command, "'%s' --help >/dev/full 2>/dev/null", CX_TEST_PROGRAM);
    int s = system(command);
    assert_true(WIFEXITED(s));
    assert_int_equal(WEXITSTATUS(s), 74);
}

/* stderr is a pipe here: no colour and no progress codes. */
static void pipes_get_no_escape_codes(void **state)
{
    (void)state;
    assert_null(strchr(run_program("hlep")->err, 27));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_errors_are_64_with_a_way_out),
        cmocka_unit_test(help_is_on_stdout_and_free_of_errors), cmocka_unit_test(every_verb_has_a_page),
        cmocka_unit_test(bash_completes_from_the_table), cmocka_unit_test(unwritable_output_is_74), cmocka_unit_test(pipes_get_no_escape_codes)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
