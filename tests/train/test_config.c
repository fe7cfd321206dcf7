/* test_config.c - experiments: defaults equal the table, every key can be set to its bounds and not beyond, printing round-trips to the same bits. */
#include "support.h"
#include "cxnet/train.h"
#include <dirent.h>
#include <jansson.h>
#include <locale.h>
#include <unistd.h>

/* ---- defaults ---------------------------------------------------------------------------------------------------------- */

static void list_is(const char *name, const cx_list *got, const char *want)
{
    char joined[1024] = "";
    for (unsigned i = 0; i < got->n; i++)
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i ? "," : "", got->item[i]);
    if (strcmp(joined, want))
        fail_msg("%s is [%s], want [%s]", name, joined, want);
}

#define TEXT(key, def, doc) assert_string_equal(sec->key, def);
#define INT(key, def, lo, hi, doc) assert_int_equal(sec->key, def);
#define REAL(key, def, lo, hi, doc) { double want = def; assert_memory_equal(&sec->key, &want, sizeof want); }
#define BOOL(key, def, doc) assert_int_equal(sec->key, def);
#define CHOICE(key, def, choices, doc) assert_string_equal(sec->key, def);
#define LIST(key, def, doc) list_is(#key, &sec->key, def);
#define SECTION(name, doc) { const __typeof__(c->name) *sec = &c->name;
#define END(name) }
static void assert_defaults(const cx_config *c)
{
#include "cxnet/config.def"
}
#undef SECTION
#undef TEXT
#undef INT
#undef REAL
#undef BOOL
#undef CHOICE
#undef LIST
#undef END

static void defaults_equal_the_table(void **state)
{
    (void)state;
    cx_config c;
    assert_cx_ok(cx_config_load(NULL, NULL, 0, &c, err));
    assert_defaults(&c);
    cx_config_free(&c);
    cx_config_free(&c);                            /* a second time is harmless */
}

/* ---- files ----------------------------------------------------------------------------------------------------------------- */

static char path[64];                              /* of the file that with_text() writes */

static cx_status load_text(const char *text, size_t n, cx_config *c, cx_error *err)
{
    snprintf(path, sizeof path, "/tmp/cx_config_%d.yaml", (int)getpid());
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    cx_status s = cx_config_load(path, NULL, 0, c, err);
    unlink(path);
    return s;
}

static void same_as_defaults(const char *text)
{
    cx_config c;
    assert_cx_ok(load_text(text, strlen(text), &c, err));
    assert_memory_equal(c.run.name, "cx_config_", 10);   /* an unnamed run is called as its file */
    assert_null(strstr(c.run.name, ".yaml"));
    *c.run.name = 0;
    assert_defaults(&c);
    cx_config_free(&c);
}

static void files_that_say_nothing_are_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "\n", "# only words\n", "---\n", "---\n...\n", "optim:\n", "optim:\n  # lr: 3\nrun: {}\n", "{}", "~\n",
        "\xef\xbb\xbf",
        "\xef\xbb\xbfrun:\n  seed: 1\n", "run:\r\n  seed: 1\r\n", "%YAML 1.1\n---\nrun: {seed: 1}\n" };
    for (int i = 0; i < CX_COUNT(texts); i++)
        same_as_defaults(texts[i]);
}

static void values_are_read(void **state)
{
    (void)state;
    static const char text[] =
        "run:\n  name: 12 o'clock\n  seed: 2147483647\n  dir: \"a: b # \\\"c\\\" \\\\ \xc3\xbc\"\n"
        "data:\n  task: multilabel\n  classes: [Edema, 'Any lung=Edema+Mass', \"x\"]\n  label_sets:\n  - nih:Edema+Mass\n  - other:x\n  views: [PA]\n"
        "  min_age: +18\n  near_duplicates: FALSE\n"
        "model: {freeze: [features.*, '*.bias'], hidden: 10, norm_eps: 1.001e-5}\n"
        "optim:\n  lr: .5E-2\n  momentum: 0.\n";
    cx_config c;
    assert_cx_ok(load_text(text, sizeof text - 1, &c, err));
    assert_string_equal(c.run.name, "12 o'clock");
    assert_string_equal(c.run.dir, "a: b # \"c\" \\ \xc3\xbc");
    assert_int_equal(c.run.seed, 2147483647);
    list_is("classes", &c.data.classes, "Edema,Any lung=Edema+Mass,x");
    list_is("label_sets", &c.data.label_sets, "nih:Edema+Mass,other:x");
    list_is("freeze", &c.model.freeze, "features.*,*.bias");
    assert_true(c.data.min_age == 18 && c.optim.lr == .5e-2 && c.optim.momentum == 0 && c.model.norm_eps == 1.001e-5);
    assert_false(c.data.near_duplicates);
    cx_config_free(&c);
}

/* ---- every key can be set, and comes back from print ------------------------------------------------------------------------------ */

#define SECTION(name, doc) { const char *section = #name; const __typeof__(c->name) *sec = &c->name;
#define TEXT(key, def, doc) \
    { const char *text = strcmp(#key, "fuse") ? "some text 1.5" : "views,relu"; set_text(section, #key, text, c); \
      assert_string_equal(sec->key, text); again(c); }
#define INT(key, def, lo, hi, doc) \
    set_number(section, #key, hi, c); assert_true(sec->key == (hi)); again(c); \
    set_number(section, #key, lo, c); assert_true(sec->key == (lo)); again(c); \
    refuse_number(section, #key, (double)(hi) + 1); refuse_number(section, #key, (double)(lo) - 1); refuse_text(section, #key, "1.5"); \
    refuse_text(section, #key, "x");
#define REAL(key, def, lo, hi, doc) \
    set_number(section, #key, hi, c); assert_true(sec->key == (hi)); again(c); \
    set_number(section, #key, lo, c); assert_true(sec->key == (lo)); again(c); \
    refuse_number(section, #key, nextafter(hi, INFINITY)); refuse_number(section, #key, nextafter(lo, -INFINITY)); refuse_text(section, #key, ".nan");
#define BOOL(key, def, doc) \
    set_text(section, #key, (def) ? "false" : "true", c); assert_true(sec->key == !(def)); again(c); refuse_text(section, #key, "maybe");
#define CHOICE(key, def, choices, doc) \
    { const char *last = strrchr(choices, '|') + 1; set_text(section, #key, last, c); assert_string_equal(sec->key, last); again(c); } \
    refuse_text(section, #key, "neither");
#define LIST(key, def, doc) \
    if (strcmp(#key, "stages")) { \
        set_text(section, #key, "[a:b, 'c:d', \"e:f\"]", c); list_is(#key, &sec->key, "a:b,c:d,e:f"); again(c); \
    } else { \
        set_text(section, #key, "[beasf gamma=2, resize filter=cv_area]", c); list_is(#key, &sec->key, "beasf gamma=2,resize filter=cv_area"); again(c); \
    } \
    refuse_text(section, #key, "a");
#define END(name) }

/* Companions that keep a setting of its own legal: no key contradicts another. */
static int companions(const char *key, const char *value, char **set)
{
    int n = 0;
    set[n++] = "data.val=0.01";
    set[n++] = "data.test=0.01";
    set[n++] = "optim.lr=10";
    set[n++] = "optim.epochs=100000";
    if (!strcmp(key, "data.channels"))
        set[n++] = "data.normalise=unit";
    if (!strcmp(value, "multilabel") || !strcmp(key, "data.classes") || !strcmp(key, "data.label_sets"))
        set[n++] = "data.task=multilabel";
    if (!strcmp(value, "segmentation") || !strcmp(value, "unet") || !strcmp(value, "dice") || !strcmp(value, "bce_dice")) {
        set[n++] = "data.task=segmentation";
        set[n++] = "model.arch=unet";
    }
    return n;
}

static cx_status apply(const char *section, const char *key, const char *value, cx_config *c, cx_error *err)
{
    char name[80], text[160], *set[12];
    snprintf(name, sizeof name, "%s.%s", section, key);
    snprintf(text, sizeof text, "%s=%s", name, value);
    int n = companions(name, value, set);
    if (!strcmp(name, "optim.lr") || !strcmp(name, "optim.epochs"))
        n = 0;
    set[n++] = text;
    return cx_config_load(NULL, set, n, c, err);
}

static void set_text(const char *section, const char *key, const char *value, cx_config *c)
{
    cx_config_free(c);
    cx_error error = { 0 };
    if (apply(section, key, value, c, &error) != CX_OK)
        fail_msg("%s.%s=%s is refused: %s", section, key, value, error.text);
}

static void set_number(const char *section, const char *key, double value, cx_config *c)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    set_text(section, key, text, c);
}

static void refuse_text(const char *section, const char *key, const char *value)
{
    cx_config c;
    cx_error error = { 0 };
    char name[80];
    snprintf(name, sizeof name, "--set %s.%s=", section, key);
    cx_status s = apply(section, key, value, &c, &error);
    if (s != CX_E_CONFIG || strncmp(error.text, name, strlen(name)))
        fail_msg("%s.%s=%s: status %d, %s", section, key, value, (int)s, error.text);
}

static void refuse_number(const char *section, const char *key, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    refuse_text(section, key, text);
}

/* Print, read back, print: the same text; and the same bits (doubles are printed so that they read back exactly). */
static void again(const cx_config *c)
{
    cx_buf one = { 0 }, two = { 0 };
    cx_config back;
    cx_config_yaml(c, &one);
    cx_error error = { 0 };
    if (load_text(one.data, one.len, &back, &error) != CX_OK)
        fail_msg("what was printed is refused: %s\n%s", error.text, one.data);
    if (!*c->run.name)
        *back.run.name = 0;
    cx_config_yaml(&back, &two);
    assert_string_equal(one.data, two.data);
    assert_memory_equal(&c->optim.lr, &back.optim.lr, sizeof(double));
    assert_string_equal(c->run.dir, back.run.dir);
    cx_buf_free(&one);
    cx_buf_free(&two);
    cx_config_free(&back);
}

static void every_key_is_settable_to_its_bounds(void **state)
{
    (void)state;
    cx_config config = { 0 }, *c = &config;
#include "cxnet/config.def"
    cx_config_free(c);
}
#undef SECTION
#undef TEXT
#undef INT
#undef REAL
#undef BOOL
#undef CHOICE
#undef LIST
#undef END

static void awkward_values_round_trip(void **state)
{
    (void)state;
    static const double reals[] = { 0.1, 1.0 / 3, 5e-324 * 1e9, 2.2250738585072014e-308, 0.30000000000000004, 1e-16, 123456.789e-12 };
    static const char *const texts[] = { "true", "No", "null", "~", "1.5", "-", "- a", "a: b", "a #b", "#a", " lead", "trail ", "\"q\"", "'", "\\n", "[x]",
        "{y}", "*a", "&a", "!t",
        "%d", "@x", "`", "|", ">", "?", "\xc3\x9c" "bung \xe2\x80\x94 \xf0\x9f\xab\x81", "0x10", ".5", "+1", "1e5", "=", "<<", ".", "..x", "y", "a,b" };
    cx_config c;
    assert_cx_ok(cx_config_load(NULL, NULL, 0, &c, err));
    for (int i = 0; i < CX_COUNT(reals); i++) {
        c.augment.shift = reals[i];
        cx_buf text = { 0 };
        cx_config back;
        cx_config_yaml(&c, &text);
        assert_cx_ok(load_text(text.data, text.len, &back, err));
        assert_memory_equal(&back.augment.shift, &reals[i], sizeof(double));
        cx_buf_free(&text);
        cx_config_free(&back);
    }
    c.augment.shift = 0;
    for (int i = 0; i < CX_COUNT(texts); i++) {
        free(c.run.dir);
        c.run.dir = cx_strdup(texts[i]);
        if (!c.data.sources.n) {
            free(c.data.sources.item);
            c.data.sources.item = cx_alloc(1, sizeof(char *));
            c.data.sources.n = 1;
        }
        free(c.data.sources.item[0]);
        c.data.sources.item[0] = cx_strdup(texts[i]);
        again(&c);
    }
    cx_config_free(&c);
}

static void settings_follow_the_file_in_order(void **state)
{
    (void)state;
    char *set[] = { "optim.lr=0.5", "run.name=two words", "data.views=[PA, AP]", "optim.lr=0.25", "data.sources=", "run.device=", "optim.batch = 8" };
    cx_config c;
    assert_cx_ok(cx_config_load(NULL, set, 6, &c, err));
    assert_true(c.optim.lr == 0.25);
    assert_string_equal(c.run.name, "two words");
    assert_string_equal(c.run.device, "");
    list_is("views", &c.data.views, "PA,AP");
    list_is("sources", &c.data.sources, "");
    cx_config_free(&c);
    assert_cx_fails(CX_E_CONFIG, "optim.batch : unknown key", cx_config_load(NULL, set + 6, 1, &c, err));
}

/* ---- documentation ------------------------------------------------------------------------------------------------------------------ */

#define SECTION(name, doc) assert_non_null(strstr(text.data, #name ": " doc)); { json_t *keys = json_object_get(json_object_get(sections, #name), "properties");
#define ROW_(key, type_) row = json_object_get(keys, #key); assert_non_null(row); assert_string_equal(json_string_value(json_object_get(row, "type")), type_);
#define TEXT(key, def, doc) ROW_(key, "string") assert_string_equal(json_string_value(json_object_get(row, "default")), def);
#define INT(key, def, lo, hi, doc) ROW_(key, "integer") assert_true(json_integer_value(json_object_get(row, "maximum")) == (hi)); \
    assert_true(json_integer_value(json_object_get(row, "default")) == (def));
#define REAL(key, def, lo, hi, doc) ROW_(key, "number") assert_true(json_number_value(json_object_get(row, "minimum")) == (lo)); \
    assert_true(json_number_value(json_object_get(row, "default")) == (def)); assert_string_equal(json_string_value(json_object_get(row, "description")), doc);
#define BOOL(key, def, doc) ROW_(key, "boolean") assert_true(json_is_true(json_object_get(row, "default")) == (def));
#define CHOICE(key, def, choices, doc) row = json_object_get(keys, #key); assert_true(json_array_size(json_object_get(row, "enum")) >= 2); \
    assert_non_null(strstr(text.data, choices));
#define LIST(key, def, doc) ROW_(key, "array") assert_non_null(strstr(text.data, doc));
#define END(name) }
static void schema_documents_every_key(void **state)
{
    (void)state;
    cx_buf text = { 0 }, json = { 0 };
    cx_config_schema(&text, false);
    cx_config_schema(&json, true);
    assert_false(text.failed || json.failed);
    json_error_t e;
    json_t *root = json_loads(json.data, JSON_REJECT_DUPLICATES, &e), *sections = json_object_get(root, "properties"), *row;
    if (!root)
        fail_msg("line %d: %s", e.line, e.text);
#include "cxnet/config.def"
    json_decref(root);
    cx_buf_free(&text);
    cx_buf_free(&json);
}

static void every_experiment_loads(void **state)
{
    (void)state;
    DIR *d = opendir("experiments");
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".yaml"))
            continue;
        char file[400];
        snprintf(file, sizeof file, "experiments/%s", e->d_name);
        cx_config c;
        assert_cx_ok(cx_config_load(file, NULL, 0, &c, err));
        assert_memory_equal(c.run.name, e->d_name, (size_t)(dot - e->d_name));
        assert_int_equal(strlen(c.run.name), dot - e->d_name);
        again(&c);
        cx_config_free(&c);
        n++;
    }
    closedir(d);
    assert_true(n >= 2);
}

/* A program with a decimal comma reads and prints the same experiments. */
static void locale_does_not_matter(void **state)
{
    (void)state;
    static const char *const names[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "nl_NL.UTF-8" };
    int i = 0;
    while (i < CX_COUNT(names) && !setlocale(LC_NUMERIC, names[i]))
        i++;
    if (i == CX_COUNT(names)) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    cx_config c;
    char *set[] = { "augment.shift=0.125" };
    assert_cx_ok(cx_config_load(NULL, set, 1, &c, err));
    assert_true(c.augment.shift == 0.125);
    cx_buf text = { 0 };
    cx_config_yaml(&c, &text);
    assert_non_null(strstr(text.data, "shift: 0.125\n"));
    cx_buf_free(&text);
    cx_config_free(&c);
    setlocale(LC_NUMERIC, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_equal_the_table), cmocka_unit_test(files_that_say_nothing_are_defaults), cmocka_unit_test(values_are_read),
        cmocka_unit_test(every_key_is_settable_to_its_bounds), cmocka_unit_test(awkward_values_round_trip), cmocka_unit_test(settings_follow_the_file_in_order),
        cmocka_unit_test(schema_documents_every_key), cmocka_unit_test(every_experiment_loads),
        cmocka_unit_test(locale_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
