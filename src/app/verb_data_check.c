/* verb_data_check.c - `cxnet data check`: decodes every film of a manifest and shows what the cohort holds and hides. Depends on app.h. */
#include "app.h"
#include "cxnet/data.h"

static cx_status check(const cx_args *a, const cx_manifest *m, const cx_audit *audit, cx_error *err)
{
    cx_buf json = { 0 };
    int pairs;
    TRY(cx_arg_int(a, "--pairs", 60, 1, 100000, &pairs, err));
    if (cx_arg(a, "--sheet"))
        TRY(cx_audit_sheet(m, audit, pairs, cx_arg(a, "--sheet"), err));
    if (!cx_arg(a, "--json")) {
        cx_audit_print(m, audit, stdout);
        return CX_OK;
    }
    cx_status s = cx_audit_json(m, audit, &json, err);
    if (s == CX_OK)
        return cx_app_print(&json, err);
    cx_buf_free(&json);
    return s;
}

static cx_status run_check(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_manifest m;
    cx_audit audit;
    TRY(cx_manifest_load(a->positional[0], &m, err));
    cx_status s = cx_audit_run(&m, &audit, err);
    if (s == CX_OK) {
        s = check(a, &m, &audit, err);
        cx_audit_free(&audit);
    }
    cx_manifest_free(&m);
    return s;
}

static const cx_flag check_flags[] = {
    { "--sheet", "FILE.png", "write the duplicate pairs side by side as one picture" },
    { "--pairs", "N", "pairs on the sheet at most, the nearest first; absent: 60" },
    CX_FLAG_JSON,
};
const cx_verb cx_verb_data_check = {
    .name = "data check", .args = "MANIFEST.csv", .doc = "decode every film and say what is bad, doubled, or confounded", .min_args = 1, .max_args = 1,
    .run = run_check, .flags = check_flags, .n_flags = CX_COUNT(check_flags),
    .more = "Bad, tiny, coloured and oddly shaped films, wrong extensions, exact and near-duplicates, films by class, source, view and age. "
            "A bad film is named and counted; it does not make the check fail."
};
