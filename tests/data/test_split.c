/* test_split.c - splits: group-disjoint, the same for any order and any company of films, shares within the stated tolerance, leaks named. */
#include "support.h"
#include "cxnet/data.h"

enum { MAX_FILMS = 6000 };

/* A cohort in memory: names are kept in text so that samples may point there. */
typedef struct { cx_manifest m; cx_sample s[MAX_FILMS]; char text[MAX_FILMS][3][24]; } cohort;

static cohort *new_cohort(void)
{
    cohort *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->m.samples = c->s;
    c->m.path = (char *)"cohort.csv";
    c->m.dir = (char *)".";
    return c;
}

/* Patient < 0: unknown. */
static void add(cohort *c, int film, int patient, const char *labels, const char *source)
{
    int i = c->m.n++;
    assert_true(i < MAX_FILMS);
    snprintf(c->text[i][0], 24, "films/%06d.png", film);
    snprintf(c->text[i][1], 24, patient < 0 ? "" : "p-%d", patient);
    c->s[i] = (cx_sample){ .path = c->text[i][0], .labels = labels, .patient_id = c->text[i][1], .sex = "", .view = "", .source = source, .group = "",
        .line = i + 2,
                           .split = CX_NO_SPLIT, .age = NAN };
}

static const char *const LABELS[] = { "No Finding", "COVID-19", "Edema|Pneumonia" };
static const char *const SOURCES[] = { "one", "two" };

/* Patients first..first + n - 1 with 1 to 3 films each, in 6 strata. */
static void add_patients(cohort *c, int first, int n)
{
    for (int p = first; p < first + n; p++)
        for (int k = 0; k <= p % 3; k++)
            add(c, p * 3 + k, p, LABELS[p % 3], SOURCES[p / 3 % 2]);
}

static void split_of(const cohort *c, const cx_audit *audit, uint64_t seed, cx_split *split, int *group)
{
    assert_cx_ok(cx_split_make(&c->m, audit, &(cx_split_opts){ seed, 0.15, 0.20 }, split, group, err));
}

static void test_groups_are_disjoint(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    static int group[MAX_FILMS], cluster[MAX_FILMS];
    cohort *c = new_cohort();
    add_patients(c, 0, 500);
    for (int i = 0; i < 100; i++)
        add(c, 100000 + i, -1, "COVID-19", "one");
    cx_audit audit = { .n = c->m.n, .cluster = cluster };
    for (int i = 0; i < c->m.n; i++)
        cluster[i] = i;
    cluster[c->m.n - 1] = 3;                             /* a film without patient copies one of a patient's, */
    cluster[c->m.n - 2] = 3;
    cluster[40] = 20;                                    /* and two patients share a film */
    split_of(c, &audit, 1, split, group);
    for (int i = 0; i < c->m.n; i++) {
        assert_true(group[i] <= i && group[group[i]] == group[i]);
        assert_true(split[i] == CX_TRAIN || split[i] == CX_VAL || split[i] == CX_TEST);
        for (int j = 0; j < i; j++) {
            bool tied = (*c->s[i].patient_id && strcmp(c->s[i].patient_id, c->s[j].patient_id) == 0) || cluster[i] == cluster[j];
            if (tied)
                assert_true(group[i] == group[j] && split[i] == split[j]);
        }
    }
    assert_int_equal(group[c->m.n - 1], group[3]);
    assert_int_equal(group[40], group[20]);
    assert_int_equal(group[c->m.n - 3], c->m.n - 3);     /* unknown patients are not one patient */
    cx_buf text = { 0 };
    assert_int_equal(cx_split_leaks(&c->m, &audit, split, &text), 0);
    assert_int_equal(text.len, 0);
    free(c);
}

static void test_group_column_ties(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    static int group[MAX_FILMS];
    cohort *c = new_cohort();
    for (int i = 0; i < 60; i++) {
        add(c, i, -1, "A", "s");
        c->s[i].group = i % 2 ? (i % 4 == 1 ? "g1" : "g2") : "";
    }
    split_of(c, NULL, 1, split, group);
    for (int i = 0; i < 60; i++)
        assert_int_equal(group[i], i % 2 ? (i % 4 == 1 ? 1 : 3) : i);
    free(c);
}

/* The heart of the contract: old groups keep their side whatever is added, and in whatever order the films are listed. */
static void test_adding_moves_nobody(void **state)
{
    (void)state;
    static cx_split before[MAX_FILMS], after[MAX_FILMS];
    static int group[MAX_FILMS];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cohort *old = new_cohort(), *grown = new_cohort();
        add_patients(old, 0, 600);
        split_of(old, NULL, seed, before, group);
        for (int i = 0; i < 300; i++)                    /* new films of unknown patients, a new source, new patients, all listed before the old ones */
            add(grown, 500000 + i, -1, "COVID-19", "three");
        add_patients(grown, 1000, 400);
        int shift = grown->m.n;
        for (int i = old->m.n - 1; i >= 0; i--) {
            int film = atoi(old->s[i].path + 6);
            add(grown, film, film / 3, old->s[i].labels, old->s[i].source);
        }
        add(grown, 700000, 7, "Edema", "two");           /* another film of an old patient */
        split_of(grown, NULL, seed, after, group);
        for (int i = 0; i < old->m.n; i++)
            if (before[i] != after[shift + old->m.n - 1 - i])
                fail_msg("seed %d: film %s moved", (int)seed, old->s[i].path);
        assert_int_equal(after[grown->m.n - 1], before[13]);
        free(old);
        free(grown);
    }
}

static void test_seed_matters(void **state)
{
    (void)state;
    static cx_split a[MAX_FILMS], b[MAX_FILMS];
    static int group[MAX_FILMS];
    cohort *c = new_cohort();
    add_patients(c, 0, 600);
    split_of(c, NULL, 1, a, group);
    split_of(c, NULL, 2, b, group);
    int same = 0, n = c->m.n;
    for (int i = 0; i < n; i++)
        same += a[i] == b[i];
    assert_true(same > 0.35 * n && same < 0.65 * n);     /* .65^2 + .15^2 + .2^2 = 0.485 of the films agree by chance */
    free(c);
}

static void test_shares_within_tolerance(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    static int group[MAX_FILMS];
    static const double want[3] = { 0.65, 0.15, 0.20 };
    int beyond = 0, strata = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        cohort *c = new_cohort();
        add_patients(c, 0, 60 + 40 * (int)seed);
        split_of(c, NULL, seed, split, group);
        for (int stratum = 0; stratum < 6; stratum++) {
            double n = 0, count[3] = { 0 };
            for (int i = 0; i < c->m.n; i++)
                if (group[i] == i && atoi(c->s[i].path + 6) / 3 % 6 == stratum) {
                    n++;
                    count[split[i]]++;
                }
            for (int side = 0; side < 3; side++, strata++)
                beyond += fabs(count[side] / n - want[side]) > 4 * sqrt(want[side] * (1 - want[side]) / n) + 1 / n;
            assert_true(count[0] > 0 && count[1] > 0 && count[2] > 0);
        }
        free(c);
    }
    assert_true(strata == 720 && beyond == 0);
}

/* From 10 groups on, no side of a stratum is empty, for any seed; tiny cohorts of 3 groups have one group per side. */
static void test_no_empty_side(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    static int group[MAX_FILMS];
    for (uint64_t seed = 0; seed < 200; seed++)
        for (int n = 3; n <= 24; n += 7) {
            cohort *c = new_cohort();
            for (int i = 0; i < n; i++)
                add(c, i, i, "A|B", "s");
            for (int i = 0; n >= 10 && i < n; i++)
                add(c, 100 + i, 100 + i, i % 2 ? "C|D" : "D|C", "s");    /* one stratum: the order of labels means nothing */
            split_of(c, NULL, seed, split, group);
            for (int from = 0; from < c->m.n; from += n) {
                int count[3] = { 0 };
                for (int i = from; i < from + n; i++)
                    count[split[i]]++;
                assert_true(count[0] > 0 && count[1] > 0 && count[2] > 0);
            }
            free(c);
        }
}

static void test_zero_shares_stay_empty(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    static int group[MAX_FILMS];
    cohort *c = new_cohort();
    add_patients(c, 0, 100);
    assert_cx_ok(cx_split_make(&c->m, NULL, &(cx_split_opts){ 1, 0, 0 }, split, group, err));
    for (int i = 0; i < c->m.n; i++)
        assert_int_equal(split[i], CX_TRAIN);
    static const cx_split_opts bad[] = { { 1, -0.1, 0.2 }, { 1, 0.5, 0.5 }, { 1, NAN, 0.2 }, { 1, 0.1, NAN }, { 1, 0.1, -1 }, { 1, 2, 0 } };
    for (int i = 0; i < CX_COUNT(bad); i++)
        assert_cx_fails(CX_E_CONFIG, "val + test < 1", cx_split_make(&c->m, NULL, &bad[i], split, group, err));
    free(c);
}

static void test_leaks_are_named(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    cohort *c = new_cohort();
    add(c, 0, 1, "A", "s");
    add(c, 1, 1, "A", "s");
    add(c, 2, 2, "A", "s");
    add(c, 3, -1, "A", "s");
    add(c, 4, -1, "A", "s");
    for (int i = 0; i < 5; i++)
        split[i] = CX_TRAIN;
    cx_buf text = { 0 };
    split[4] = CX_TEST;                                  /* two unknown patients are not a leak, */
    assert_int_equal(cx_split_leaks(&c->m, NULL, split, &text), 0);
    int cluster[5] = { 0, 1, 2, 3, 2 };
    cx_audit audit = { .n = 5, .cluster = cluster };
    assert_int_equal(cx_split_leaks(&c->m, &audit, split, &text), 1);       /* copies on two sides are, */
    assert_non_null(strstr(text.data, "films/000002.png (train, line 4) and films/000004.png (test, line 6)"));
    split[1] = CX_VAL;                                   /* and so is a patient */
    assert_int_equal(cx_split_leaks(&c->m, &audit, split, &text), 2);
    assert_non_null(strstr(text.data, "patient p-1: films/000000.png (train, line 2) and films/000001.png (val, line 3)"));
    split[1] = CX_NO_SPLIT;
    assert_int_equal(cx_split_leaks(&c->m, NULL, split, &text), 0);
    cx_buf_free(&text);
    free(c);
}

static void test_many_leaks_are_counted(void **state)
{
    (void)state;
    static cx_split split[MAX_FILMS];
    cohort *c = new_cohort();
    for (int i = 0; i < 40; i++) {
        add(c, i, i / 2, "A", "s");
        split[i] = i % 2 ? CX_TEST : CX_TRAIN;
    }
    cx_buf text = { 0 };
    assert_int_equal(cx_split_leaks(&c->m, NULL, split, &text), 20);
    assert_non_null(strstr(text.data, "and 15 more"));
    cx_buf_free(&text);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_are_disjoint), cmocka_unit_test(test_group_column_ties), cmocka_unit_test(test_adding_moves_nobody),
        cmocka_unit_test(test_seed_matters), cmocka_unit_test(test_shares_within_tolerance), cmocka_unit_test(test_no_empty_side),
        cmocka_unit_test(test_zero_shares_stay_empty), cmocka_unit_test(test_leaks_are_named), cmocka_unit_test(test_many_leaks_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
