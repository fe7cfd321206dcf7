/* test_manifest.c - manifests: what is read from a good one, and that each kind of bad row is refused with its line. */
#include <unistd.h>
#include "support.h"
#include "cxnet/data.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/cxnet_manifest_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static char *manifest_path(void) { return cx_path_join(folder, "manifest.csv"); }

static int remove_folder(void **state)
{
    (void)state;
    char *path = manifest_path();
    unlink(path);
    free(path);
    return rmdir(folder);
}

static void write_manifest(const char *text)
{
    char *path = manifest_path();
    assert_cx_ok(cx_file_write(path, text, strlen(text), err));
    free(path);
}

static void test_reads_all_columns(void **state)
{
    (void)state;
    write_manifest("\xEF\xBB\xBFsplit,path,labels,patient_id,sex,age,view,source,note,group\r\n"
                   "train,a.png,COVID-19|Pneumonia,p1,f,058Y,PA,one,\"a, \"\"b\"\"\",g1\r\n"
                   ",\"sub/b,c.png\",No Finding,,m,,AP,two,,\r\n"
                   "none,/abs/d.png,,,,6M,,,,\r\n");
    char *path = manifest_path();
    cx_manifest m;
    assert_cx_ok(cx_manifest_load(path, &m, err));
    assert_int_equal(m.n, 3);
    assert_string_equal(m.samples[0].path, "a.png");
    assert_string_equal(m.samples[0].labels, "COVID-19|Pneumonia");
    assert_string_equal(m.samples[0].patient_id, "p1");
    assert_string_equal(m.samples[0].sex, "f");
    assert_string_equal(m.samples[0].view, "PA");
    assert_string_equal(m.samples[0].source, "one");
    assert_string_equal(m.samples[0].group, "g1");
    assert_int_equal(m.samples[0].split, CX_TRAIN);
    assert_int_equal(m.samples[1].split, CX_NO_SPLIT);
    assert_int_equal(m.samples[2].split, CX_NO_SPLIT);
    assert_true(m.samples[0].age == 58 && isnan(m.samples[1].age) && m.samples[2].age == 0.5);
    assert_int_equal(m.samples[2].line, 4);
    assert_string_equal(cx_csv_at(&m.csv, 1, cx_csv_column(&m.csv, "note")), "a, \"b\"");

    char *full = cx_sample_path(&m, 1), want[128];
    snprintf(want, sizeof want, "%s/sub/b,c.png", folder);
    assert_string_equal(full, want);
    free(full);
    full = cx_sample_path(&m, 2);
    assert_string_equal(full, "/abs/d.png");
    free(full);

    char sha[65];
    assert_cx_ok(cx_sha256_file(path, sha, err));
    assert_string_equal(m.sha256, sha);
    cx_manifest_free(&m);
    free(path);
}

static void test_only_path_is_required(void **state)
{
    (void)state;
    write_manifest("path\nx.png\n");
    char *path = manifest_path();
    cx_manifest m;
    assert_cx_ok(cx_manifest_load(path, &m, err));
    assert_int_equal(m.n, 1);
    assert_string_equal(m.samples[0].labels, "");
    assert_string_equal(m.samples[0].patient_id, "");
    assert_true(isnan(m.samples[0].age));
    cx_manifest_free(&m);
    free(path);
}

static void test_ages(void **state)
{
    (void)state;
    static const struct { const char *text; double years; } row[] = {
        { "0", 0 }, { "42", 42 }, { "42.5", 42.5 }, { "007Y", 7 }, { "7y", 7 }, { "018M", 1.5 }, { "026W", 26 * 7 / 365.25 },
        { "010D", 10 / 365.25 }, { "130", 130 }, { "5.", 5 } };
    char *path = manifest_path();
    for (int i = 0; i < CX_COUNT(row); i++) {
        char text[64];
        snprintf(text, sizeof text, "path,age\na.png,%s\n", row[i].text);
        write_manifest(text);
        cx_manifest m;
        assert_cx_ok(cx_manifest_load(path, &m, err));
        if (fabs(m.samples[0].age - row[i].years) > 1e-12)
            fail_msg("age %s: got %.17g", row[i].text, m.samples[0].age);
        cx_manifest_free(&m);
    }
    free(path);
}

static void test_malformed(void **state)
{
    (void)state;
    static const struct { const char *text, *message; } bad[] = {
        { "labels,patient_id\nA,p\n", "manifest.csv:1: no column `path`" },
        { "Path\na.png\n", "manifest.csv:1: no column `path`" },
        { "film,mask\na.png,b.png\n", "no column `path`" },
        { "image,mask\na.png,b.png\na.png,c.png\n", "manifest.csv:3: path 'a.png' is listed in line 2 already" },
        { "path,labels\n", "manifest.csv:1: a header but no film" },
        { "path\n\"\"\n", "manifest.csv:2: path is empty" },
        { "path,labels\na.png,A\n,B\n", "manifest.csv:3: path is empty" },
        { "path,labels\na.png,A\nfilms/,B\n", "manifest.csv:3: path 'films/' is a folder" },
        { "path,labels\na.png,A\n/,B\n", "manifest.csv:3: path '/' is a folder" },
        { "path,labels\n\"a\n.png\",A\n", "manifest.csv:2: path holds a control character" },
        { "path,labels\na\t.png,A\n", "manifest.csv:2: path holds a control character" },
        { "path\na.png\nb.png\na.png\n", "manifest.csv:4: path 'a.png' is listed in line 2 already" },
        { "path\na.png\n./a.png\n", "manifest.csv:3: path './a.png' is listed in line 2 already" },
        { "path\nx/a.png\nx//a.png\n", "manifest.csv:3: path 'x//a.png' is listed" },
        { "path\nx/a.png\nx/././a.png\n", "manifest.csv:3: path 'x/././a.png' is listed" },
        { "path\n/x/a.png\n//x/a.png\n", "manifest.csv:3: path '//x/a.png' is listed" },
        { "path,age\na.png,old\n", "manifest.csv:2: age 'old' is no age" },
        { "path,age\na.png,4x\n", "age '4x' is no age" },
        { "path,age\na.png,-1\n", "age '-1' is no age" },
        { "path,age\na.png,nan\n", "age 'nan' is no age" },
        { "path,age\na.png,inf\n", "age 'inf' is no age" },
        { "path,age\na.png,1e1\n", "age '1e1' is no age" },
        { "path,age\na.png,0x10\n", "age '0x10' is no age" },
        { "path,age\na.png,58YY\n", "age '58YY' is no age" },
        { "path,age\na.png,58 \n", "age '58 ' is no age" },
        { "path,age\na.png, 58\n", "age ' 58' is no age" },
        { "path,age\na.png,.5\n", "age '.5' is no age" },
        { "path,age\na.png,5.5.5\n", "age '5.5.5' is no age" },
        { "path,age\na.png,Y\n", "age 'Y' is no age" },
        { "path,age\na.png,131\n", "age '131' is no age" },
        { "path,age\na.png,411Y\n", "age '411Y' is no age" },
        { "path,age\na.png,1561M\n", "age '1561M' is no age" },
        { "path,age\na.png,99999999999999999999\n", "is no age" },
        { "path,age\na.png,50\nb.png,\nc.png,?\n", "manifest.csv:4: age '?' is no age" },
        { "path,split\na.png,Train\n", "manifest.csv:2: split 'Train' is unknown" },
        { "path,split\na.png,validation\n", "split 'validation' is unknown" },
        { "path,split\na.png,train \n", "split 'train ' is unknown" },
        { "path,split\na.png,0\n", "split '0' is unknown" },
        { "path,labels\na.png,A||B\n", "manifest.csv:2: labels 'A||B' has an empty label" },
        { "path,labels\na.png,|A\n", "labels '|A' has an empty label" },
        { "path,labels\na.png,A|\n", "labels 'A|' has an empty label" },
        { "path,labels\na.png,|\n", "has an empty label" },
        { "path,labels\na.png,A| B\n", "labels 'A| B' has a blank" },
        { "path,labels\na.png,A \n", "labels 'A ' has a blank" },
        { "path,labels\na.png,A|B|A\n", "labels 'A|B|A' names a label twice" },
        { "path,labels\na.png\n", "manifest.csv:2" },
        { "path,labels\na.png,\"A\n", "manifest.csv:2" },
        { "", "manifest.csv" },
        { "path,path\na,b\n", "manifest.csv:1" },
    };
    char *path = manifest_path();
    for (int i = 0; i < CX_COUNT(bad); i++) {
        write_manifest(bad[i].text);
        cx_manifest m;
        assert_cx_fails(CX_E_DATA, bad[i].message, cx_manifest_load(path, &m, err));
        assert_true(m.n == 0 && !m.samples && !m.path);
    }
    free(path);
}

static void test_missing_file(void **state)
{
    (void)state;
    cx_manifest m;
    assert_cx_fails(CX_E_NOINPUT, "nowhere.csv", cx_manifest_load("/tmp/cxnet_nowhere/nowhere.csv", &m, err));
    assert_cx_fails(CX_E_NOINPUT, folder, cx_manifest_load(folder, &m, err));
}

static void test_labels(void **state)
{
    (void)state;
    assert_true(cx_has_label("A|BB|C", "A") && cx_has_label("A|BB|C", "BB") && cx_has_label("A|BB|C", "C"));
    assert_false(cx_has_label("A|BB|C", "B") || cx_has_label("A|BB|C", "A|BB") || cx_has_label("", "A") || cx_has_label("AA", "A") || cx_has_label("A", ""));
}

static void test_shared_cohort(void **state)
{
    (void)state;
    SHARED_OR_SKIP("data/cxr/manifest.csv");
    cx_manifest m;
    assert_cx_ok(cx_manifest_load("../shared/data/cxr/manifest.csv", &m, err));
    assert_int_equal(m.n, 4108);
    int covid = 0, nih = 0;
    for (int i = 0; i < m.n; i++) {
        covid += cx_has_label(m.samples[i].labels, "COVID-19");
        nih += strcmp(m.samples[i].source, "nih") == 0;
    }
    assert_int_equal(covid, 1527);
    assert_int_equal(nih, 781);
    cx_manifest_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all_columns), cmocka_unit_test(test_only_path_is_required), cmocka_unit_test(test_ages),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_missing_file), cmocka_unit_test(test_labels),
        cmocka_unit_test(test_shared_cohort),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
