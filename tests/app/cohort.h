/* cohort.h - a synthetic cohort in a folder of its own, and an experiment on it: shared by the tests of verbs that train. */
#ifndef CX_TESTS_COHORT_H
#define CX_TESTS_COHORT_H
#include <unistd.h>
#include "cxnet/data.h"
#include "program.h"

static char dir[64];         /* holds manifest.csv with its films, and e.yaml */

static inline void write_text(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_cx_ok(cx_file_write(path, text, strlen(text), err));
}

static inline int make_cohort(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/cxnet-verbs-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    cx_synth s;
    cx_error err;
    if (cx_synth_make(&(cx_synth_opts){ .patients = 40, .side = 72, .seed = 3 }, &s, &err) != CX_OK || cx_synth_write(&s, dir, &err) != CX_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    cx_synth_free(&s);
    return 0;
}

static inline int remove_cohort(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *EXPERIMENT =
    "run:\n  dir: %s/runs\n  threads: 1\n  bootstrap: 20\n  explain_films: 0\n"
    "data:\n  manifest: %s/manifest.csv\n  classes: [%s]\n  side: 72\n  channels: 1\n"
    "  normalise: unit\n  val: 0.3\n  test: 0.3\n  cache: %s/cache\n  near_duplicates: false\n"
    "optim:\n  batch: 8\n  epochs: %d\nearly_stop:\n  patience: 0\n";

/* The two labels of the synthetic cohort, as the experiment wants them. */
static inline void class_names(char *out, size_t n)
{
    char path[200];
    cx_manifest m;
    snprintf(path, sizeof path, "%s/manifest.csv", dir);
    assert_cx_ok(cx_manifest_load(path, &m, err));
    const char *first = m.samples[0].labels, *second = NULL;
    for (int i = 0; i < m.n && !second; i++)
        if (strcmp(m.samples[i].labels, first))
            second = m.samples[i].labels;
    assert_non_null(second);
    snprintf(out, n, "%s, %s", first, second);
    cx_manifest_free(&m);
}

static inline void write_experiment(int epochs)
{
    char text[2000], classes[200];
    class_names(classes, sizeof classes);
    snprintf(text, sizeof text, EXPERIMENT, dir, dir, classes, dir, epochs);
    write_text("e.yaml", text);
}
#endif
