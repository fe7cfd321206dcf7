/* verbs.c - the table of verbs, in the order in which help lists them. */
#include "verb.h"

#define VERBS \
    VERB(demo) \
    VERB(train) \
    VERB(predict) \
    VERB(explain) \
    VERB(segment) \
    VERB(plan) \
    VERB(data_check) \
    VERB(data_preview) \
    VERB(data_split) \
    VERB(weights_inspect) \
    VERB(weights_import) \
    VERB(weights_export) \
    VERB(weights_verify) \
    VERB(config_show) \
    VERB(config_check) \
    VERB(config_schema) \
    VERB(bench) \
    VERB(devices) \
    VERB(cuda_warm) \
    VERB(help) \
    VERB(version) \
    VERB(completion)

#define VERB(name) extern const cx_verb cx_verb_##name;
VERBS
#undef VERB

#define VERB(name) &cx_verb_##name,
const cx_verb *const cx_verbs[] = { VERBS NULL };
