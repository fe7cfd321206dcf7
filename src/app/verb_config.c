/* verb_config.c - `cxnet config show|schema|check`: an experiment as it will be run, every key with its meaning, and whether a file is sound. */
#include "app.h"

static cx_status run_show(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_config c;
    cx_buf b = { 0 };
    TRY(cx_app_config(a, a->n_positional ? a->positional[0] : NULL, &c, err));
    cx_config_yaml(&c, &b);
    cx_config_free(&c);
    return cx_app_print(&b, err);
}

static cx_status run_schema(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_buf b = { 0 };
    cx_config_schema(&b, cx_arg(a, "--json") != NULL);
    return cx_app_print(&b, err);
}

static cx_status run_check(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_config c;
    TRY(cx_app_config(a, a->positional[0], &c, err));
    /* The network is part of what can be wrong: a side too small for the architecture, a pattern that freezes nothing. */
    cx_model m;
    int loss, target, weights;
    cx_status s = cx_config_network(&c, &m, &loss, &target, &weights, err);
    if (s == CX_OK)
        printf("%s: sound; run \"%s\" trains %s on %s\n", a->positional[0], c.run.name, c.model.arch,
               *c.data.manifest ? c.data.manifest : "a manifest that is yet to be named (data.manifest)");
    else
        cx_prefix(err, s, "%s", a->positional[0]);
    cx_model_free(&m);
    cx_config_free(&c);
    return s;
}

static const cx_flag set_flags[] = { CX_FLAG_SET };
static const cx_flag json_flags[] = { CX_FLAG_JSON };

const cx_verb cx_verb_config_show = {
    .name = "config show", .args = "[FILE.yaml]", .doc = "print an experiment with every key resolved", .max_args = 1, .run = run_show,
    .flags = set_flags, .n_flags = CX_COUNT(set_flags),
    .more = "Without a file: the defaults. What is printed is a complete experiment that reads back to the same bits."
};
const cx_verb cx_verb_config_schema = {
    .name = "config schema", .args = "", .doc = "print every key of an experiment: type, default, range, meaning", .run = run_schema,
    .flags = json_flags, .n_flags = CX_COUNT(json_flags), .more = "With --json: a JSON Schema, which editors use to complete and check YAML."
};
const cx_verb cx_verb_config_check = {
    .name = "config check", .args = "FILE.yaml", .doc = "check an experiment without running it", .min_args = 1, .max_args = 1, .run = run_check,
    .flags = set_flags, .n_flags = CX_COUNT(set_flags)
};
