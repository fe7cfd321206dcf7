/* test_config_broken.c - 200 broken experiments and settings are refused with status, line and key; damaged experiments never do worse than that. */
#include "support.h"
#include "cxnet/train.h"
#include <unistd.h>

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

/* ---- broken files ---------------------------------------------------------------------------------------------------------------- */

typedef struct { const char *text, *says; } broken;
#define MULTI "data:\n  task: multilabel\n  classes: [a, b]\n"
static const broken files[] = {
    /* names */
    { "optm:\n  lr: 1\n", ":1: \"optm\": unknown section; did you mean optim?" },
    { "lr: 1\n", ":1: \"lr\": unknown section; the key optim.lr exists" },
    { "something else: 1\n", ":1: \"something else\": unknown section; want one of run, data, preprocess, augment, model, plan, loss, optim, schedule, "
      "early_stop" },
    { "plan:\n  fuse: views,veiws\n", ":2: plan.fuse: \"veiws\" is no pass; want all, none, or some of views" },
    { "optim.lr: 1\n", ":1: \"optim.lr\": unknown section" },
    { "run:\n  sede: 1\n", ":2: run.sede: unknown key; did you mean seed?" },
    { "run:\n  Seed: 1\n", ":2: run.Seed: unknown key; did you mean seed?" },
    { "# c\n\nrun:\n  seed: 1\n  batch: 2\n", ":5: run.batch: unknown key; optim.batch exists" },
    { "run:\n  \"\": 2\n", ":2: run.: unknown key" },
    { "run:\n  'se\\0ed': 2\n", ":2: run.se\\0ed: unknown key" },
    { "optim:\n  learning rate: 2\n", ":2: optim.learning rate: unknown key; `cxnet config schema` lists them all" },
    { "run:\n  <<: {seed: 1}\n", ":2: run.<<: unknown key" },
    /* structure */
    { "hello\n", ":1: want sections with keys" },
    { "- run\n- data\n", ":1: want sections with keys" },
    { "[run]\n", "got a list" },
    { "42\n", "got text" },
    { "run: 3\n", ":1: run: want keys and values, indented below it, got text" },
    { "run: [seed]\n", ":1: run: want keys and values, indented below it, got a list" },
    { "run:\n- seed: 1\n", "run: want keys and values, indented below it, got a list" },
    { "run:\n  seed:\n    value: 1\n", ":3: run.seed: want a whole number from 0 to 2147483647, got a mapping" },
    { "data:\n  classes: {a: b}\n", ":2: data.classes: want a list such as [a, b], got a mapping" },
    { "run:\n  ? [seed]\n  : 1\n", ":2: run: want the name of a key, got a list" },
    { "? {run: 1}\n: 1\n", ":1: want the name of a section, got a mapping" },
    { "run:\n  seed: 1\n  seed: 2\n", ":3: run.seed: said twice, first on line 2" },
    { "run:\n  seed: 1\ndata:\n  side: 64\nrun:\n  name: a\n", ":5: run: said twice, first on line 1" },
    { "run:\n  seed: 1\n---\nrun:\n  seed: 2\n", ":3: a second document" },
    { "--- {}\n--- {}\n", ":2: a second document" },
    /* YAML */
    { "run: {seed: 1\n", "not valid YAML" },
    { "run:\n  seed: [1\n", "not valid YAML" },
    { "run:\n  name: \"open\n", "not valid YAML" },
    { "run:\n  name: 'open\n", "not valid YAML" },
    { "run:\n seed: 1\n  name: a\n", "not valid YAML" },
    { "run:\n  seed: 1\n name: a\n", "not valid YAML" },
    { "run:\n  seed: 1: 2\n", ":2: not valid YAML" },
    { "run:\n\tseed: 1\n", ":2: a tab in the indentation" },
    { "run:\n  seed: 1\n  \tname: a\n", ":3: a tab in the indentation" },
    { "run:\n  name: @home\n", ":2: not valid YAML" },
    { "run:\n  name: `a`\n", ":2: not valid YAML" },
    { "run:\n  name: \"\\q\"\n", "not valid YAML" },
    { "run:\n  name: %a\n", "not valid YAML" },
    { "%YAML 3.0\n---\nrun: {}\n", "not valid YAML" },
    { "%FOO\n%YAML 1.1\n%YAML 1.1\n---\n{}\n", "not valid YAML" },
    { "run: }\n", "not valid YAML" },
    { "run:\n  seed: &a 1\n", ":2: an anchor (&a)" },
    { "run: &r\n  seed: 1\n", ":1: an anchor (&r)" },
    { "data:\n  views: &v [PA]\n", ":2: an anchor (&v)" },
    { "run:\n  seed: *a\n", ":2: an alias (*a)" },
    { "data: *all\n", ":1: an alias (*all)" },
    { "run:\n  seed: !!int 1\n", ":2: a tag (tag:yaml.org,2002:int)" },
    { "run: !!map\n  seed: 1\n", ":1: a tag" },
    { "data:\n  views: !!set [PA]\n", ":2: a tag" },
    { "run:\n  seed: !foo 1\n", ":2: a tag (!foo)" },
    { "run:\n  seed: !bar!foo 1\n", "not valid YAML" },
    { "run:\n  name: \xff\xfe\n", ":2: not UTF-8 text" },
    { "run:\n  name: \xc3(\n", ":2: not UTF-8 text" },
    { "run:\n  name: a\n  dir: \xed\xa0\x80\n", ":3: not UTF-8 text" },
    { "run:\n  name: a\x01\n", ":2: not UTF-8 text: control characters" },
    { "\xff\xfer\0u\0n\0", ":1: UTF-16 text" },
    { "\xfe\xff", ":1: UTF-16 text" },
    /* whole numbers */
    { "run:\n  seed: one\n", ":2: run.seed: want a whole number from 0 to 2147483647, got one" },
    { "run:\n  seed: 1.5\n", "got 1.5" },
    { "run:\n  seed: 1.0\n", "got 1.0" },
    { "run:\n  seed: 1e3\n", "got 1e3" },
    { "run:\n  seed: 010\n", "got 010" },
    { "run:\n  seed: 0x10\n", "got 0x10" },
    { "run:\n  seed: 1_000\n", "got 1_000" },
    { "run:\n  seed: -1\n", "got -1" },
    { "run:\n  seed: 2147483648\n", "got 2147483648" },
    { "run:\n  seed: 4294967297\n", "got 4294967297" },
    { "run:\n  seed: 99999999999999999999999999\n", "got 99999999999999999999999999" },
    { "run:\n  seed: -99999999999999999999999999\n", "got -99999999999999999999999999" },
    { "run:\n  seed: \"1\"\n", ":2: run.seed: want a whole number from 0 to 2147483647, got \"1\"; remove the quotes" },
    { "run:\n  seed: |\n    1\n", "control character" },
    { "run:\n  seed: true\n", "got true" },
    { "run:\n  seed:\n", ":2: run.seed: want a whole number from 0 to 2147483647, got nothing" },
    { "run:\n  seed: ~\n", "got nothing" },
    { "run:\n  seed: [1]\n", ":2: run.seed: want a whole number from 0 to 2147483647, got a list" },
    { "run:\n  seed: []\n", "got a list" },
    { "run:\n  seed: 1 2\n", "got 1 2" },
    { "run:\n  seed: -\n", "not valid YAML" },
    { "run:\n  seed: +\n", "got +" },
    { "optim:\n  batch: 0\n", ":2: optim.batch: want a whole number from 1 to 4096, got 0" },
    /* numbers */
    { "optim:\n  lr: fast\n", ":2: optim.lr: want a number from 1.0e-09 to 10, got fast" },
    { "optim:\n  lr: 3e2\n", ":2: optim.lr: want a number from 1.0e-09 to 10, got 3e2" },
    { "optim:\n  lr: 0\n", "got 0" },
    { "optim:\n  lr: -0.1\n", "got -0.1" },
    { "optim:\n  lr: .nan\n", "got .nan" },
    { "optim:\n  lr: nan\n", "got nan" },
    { "optim:\n  lr: .inf\n", "got .inf" },
    { "optim:\n  lr: infinity\n", "got infinity" },
    { "optim:\n  lr: 1e999\n", "got 1e999" },
    { "optim:\n  weight_decay: 1e-999\n", "got 1e-999" },
    { "optim:\n  lr: 0x1p-3\n", "got 0x1p-3" },
    { "optim:\n  lr: 1,5\n", "got 1,5" },
    { "optim:\n  lr: 1e\n", "got 1e" },
    { "optim:\n  lr: .\n", "got ." },
    { "optim:\n  lr: 1.5.2\n", "got 1.5.2" },
    { "optim:\n  lr: 1d-3\n", "got 1d-3" },
    { "optim:\n  lr: '0.1'\n", "got \"0.1\"; remove the quotes" },
    { "optim:\n  lr: [0.1, 0.01]\n", "got a list" },
    { "optim:\n  lr: 10.000000000000002\n", "got 10.000000000000002" },
    /* switches and choices */
    { "augment:\n  flip: yes\n", ":2: augment.flip: want true or false, got yes" },
    { "augment:\n  flip: 1\n", "got 1" },
    { "augment:\n  flip: tRue\n", "got tRue" },
    { "augment:\n  flip: 'true'\n", "remove the quotes" },
    { "optim:\n  kind: Adam\n", ":2: optim.kind: want one of sgd, adam, adamw, got Adam" },
    { "optim:\n  kind: rmsprop\n", "want one of sgd, adam, adamw, got rmsprop" },
    { "optim:\n  kind: ad\n", "got ad" },
    { "optim:\n  kind: sgd|adam\n", "got sgd|adam" },
    { "optim:\n  kind: ''\n", "got \"\"" },
    { "model:\n  arch: resnet50\n", "want one of base_cnn, densenet121, densenet169, densenet201, unet, got resnet50" },
    { "early_stop:\n  metric: [loss]\n", "want one of loss, auroc, dice, got a list" },
    /* text */
    { "run:\n  name:\n", ":2: run.name: want text, got nothing; write \"\" for no text" },
    { "run:\n  name: null\n", "got nothing" },
    { "run:\n  name: [a]\n", ":2: run.name: want text, got a list" },
    { "run:\n  name: \"a\\0b\"\n", ":2: run.name: want printable characters" },
    { "run:\n  name: \"a\\nb\"\n", ":2: run.name: want printable characters" },
    { "run:\n  name: |\n    a\n    b\n", ":2: run.name: want printable characters" },
    { "run:\n  name: \"a\\x1b[31m\"\n", "want printable characters" },
    { "run:\n  name: \"\\u2028\"\n", "want printable characters" },
    { "run:\n  name: a/b\n", ":2: run.name: want the name of a folder" },
    { "run:\n  name: ..\n", ":2: run.name: want the name of a folder" },
    { "run:\n  dir: \"\"\n", ":2: run.dir: want a folder" },
    /* lists */
    { "data:\n  views: PA\n", ":2: data.views: want a list such as [a, b], got PA" },
    { "data:\n  views:\n", ":2: data.views: want a list such as [a, b], got nothing; write [] for an empty list" },
    { "data:\n  views: [PA, ]\n  sources: [a, [b]]\n", ":3: data.sources: item 2: want text, got a list" },
    { "data:\n  views: [PA, {a: b}]\n", "item 2: want text, got a mapping" },
    { "data:\n  views: [PA, ~]\n", "item 2: want text, got nothing" },
    { "data:\n  views:\n  - PA\n  -\n", ":4: data.views: item 2: want text, got nothing" },
    { "data:\n  views: [PA, '']\n", "item 2: want text, got an empty one" },
    { "data:\n  views: [PA, AP, PA]\n", ":2: data.views: item 3: \"PA\" stands there already, as item 1" },
    { "data:\n  views: [PA, \"A\\0P\"]\n", "want printable characters" },
    { "data:\n  views: [PA: 3]\n", "item 1: want text, got a mapping" },
    { "model:\n  freeze: [features .*]\n", ":2: model.freeze: item 1: want a pattern" },
    /* keys that must agree */
    { "data:\n  val: 0.5\n  test: 0.5\n", ":3: data.test: want data.val + data.test < 1, so that films remain to train on, got 0.5 + 0.5" },
    { "data:\n  val: 0.85\n", ":2: data.val: want data.val + data.test < 1" },
    { "data:\n  classes: [a]\n", ":2: data.classes: task binary: want exactly 2 data.classes, [negative, positive], got 1" },
    { "data:\n  classes: [a, b, c]\n", ":2: data.classes: task binary: want exactly 2" },
    { "data:\n  classes: [a, b, c]\n  task: binary\n", ":3: data.task: task binary: want exactly 2" },
    { "data:\n  task: multiclass\n", ":2: data.task: task multiclass: want 3 or more data.classes, got 2" },
    { "data:\n  task: multilabel\n  classes: []\n", ":3: data.classes: task multilabel: want 1 or more" },
    { "data:\n  classes: [a, =b]\n", ":2: data.classes: item 2: want Label or name=LabelA+LabelB, got \"=b\": an empty name" },
    { "data:\n  classes: [a, b=]\n", "got \"b=\": an empty label" },
    { "data:\n  classes: [a, b=c+]\n", "an empty label" },
    { "data:\n  classes: [a, b=c++d]\n", "an empty label" },
    { "data:\n  classes: [a, b=c+c]\n", "a label stands there twice" },
    { "data:\n  classes: [a, b+c]\n", "want a name" },
    { "data:\n  classes: [a, b = c]\n", "spaces around" },
    { "data:\n  classes: [a, b|c]\n", "cannot be part" },
    { "data:\n  classes: [a=x, a=y]\n", ":2: data.classes: item 2: the name of \"a=y\" is that of item 1" },
    { "data:\n  classes: [a=x+y, b=z+y]\n", ":2: data.classes: item 2: label y belongs to item 1 too" },
    { "data:\n  label_sets: ['nih:a']\n", ":2: data.label_sets: data.label_sets mask unknown labels of task multilabel; task binary has none" },
    { MULTI "  label_sets: [nih]\n", ":4: data.label_sets: item 1: want source:LabelA+LabelB, got \"nih\": no ':' after the source" },
    { MULTI "  label_sets: [':a']\n", "an empty name" },
    { MULTI "  label_sets: ['nih:']\n", "an empty label" },
    { MULTI "  label_sets: ['nih:a', 'nih:b']\n", "is that of item 1" },
    { "optim:\n  lr: 0.001\nschedule:\n  min_lr: 0.01\n", ":4: schedule.min_lr: want schedule.min_lr <= optim.lr, got 0.01 > 0.001" },
    { "schedule:\n  min_lr: 0.01\noptim:\n  lr: 0.001\n", ":4: optim.lr: want schedule.min_lr <= optim.lr" },
    { "schedule:\n  warmup_epochs: 20\n", ":2: schedule.warmup_epochs: want schedule.warmup_epochs < optim.epochs, got 20 >= 20" },
    { "optim:\n  epochs: 2\nschedule:\n  warmup_epochs: 2.5\n", ":4: schedule.warmup_epochs" },
    { "data:\n  channels: 2\n", ":2: data.channels: want 1 or 3, got 2" },
    { "data:\n  channels: 1\n", ":2: data.channels: normalise imagenet has a mean for each of 3 channels" },
    { "preprocess:\n  stages: [clahe tiles=0, resize]\n", ":2: preprocess.stages: item 1, \"clahe tiles=0\": tiles: want a whole number from 1 to 64, got 0" },
    { "data:\n  side: 64\npreprocess:\n  stages:\n  - resize side=100\n", "preprocess.stages: item 1, \"resize side=100" },
    { "preprocess:\n  stages: []\n", ":2: preprocess.stages: want a resize" },
    { "data:\n  task: segmentation\nmodel:\n  arch: unet\npreprocess:\n  stages: [roi, resize]\n", ":6: preprocess.stages: roi and mask_out want a network" },
};

static void broken_files_are_refused(void **state)
{
    (void)state;
    int bad = 0;
    for (int i = 0; i < CX_COUNT(files); i++) {
        cx_config c;
        cx_error error = { 0 };
        size_t n = strlen(files[i].text) + (memcmp(files[i].text, "\xff\xfer", 3) ? 0 : 6);       /* the UTF-16 text holds NUL bytes */
        cx_status s = load_text(files[i].text, n, &c, &error);
        static const cx_config empty;
        if (s != CX_E_CONFIG || !strstr(error.text, files[i].says) || strncmp(error.text, path, strlen(path)) || memcmp(&c, &empty, sizeof c)) {
            print_error("file %d: status %d, \"%s\" lacks \"%s\"\n%s\n", i, (int)s, error.text, files[i].says, files[i].text);
            bad++;
        }
        if (s == CX_OK)
            cx_config_free(&c);
    }
    assert_int_equal(bad, 0);
    assert_true(CX_COUNT(files) >= 60);
}

static void files_that_are_no_text(void **state)
{
    (void)state;
    cx_config c;
    assert_cx_fails(CX_E_CONFIG, ":2: a NUL byte", load_text("run:\n  na\0me: a\n", 16, &c, err));
    assert_cx_fails(CX_E_NOINPUT, "/nowhere/at/all.yaml", cx_config_load("/nowhere/at/all.yaml", NULL, 0, &c, err));
    assert_cx_fails(CX_E_NOINPUT, "tests", cx_config_load("tests", NULL, 0, &c, err));
    assert_cx_fails(CX_E_NOINPUT, "", cx_config_load("", NULL, 0, &c, err));
    assert_int_equal(cx_exit_code(CX_E_NOINPUT), 66);
    assert_int_equal(cx_exit_code(CX_E_CONFIG), 78);
    size_t n = (1 << 20) + 1;
    char *big = malloc(n);
    memset(big, '#', n);
    assert_cx_fails(CX_E_CONFIG, path, load_text(big, n, &c, err));
    assert_cx_ok(load_text(big, n - 1, &c, err));
    cx_config_free(&c);
    memset(big, '[', n);
    memcpy(big, "run: ", 5);
    assert_cx_fails(CX_E_CONFIG, "run: want keys and values", load_text(big, n - 1, &c, err));
    free(big);
}

static const broken sets[] = {
    { "", "want section.key=value" },
    { "optim.lr", "--set optim.lr: want section.key=value" },
    { "lr=0.1", "want section.key=value" },
    { "=1", "want section.key=value" },
    { "run=a.b", "want section.key=value" },
    { ".=1", "unknown section" },
    { "optm.lr=1", "--set optm.lr=1: \"optm\": unknown section; did you mean optim?" },
    { "optim.lrr=1", "--set optim.lrr=1: optim.lrr: unknown key; did you mean lr?" },
    { "optim.=1", "unknown key" },
    { "optim.lr=", "--set optim.lr=: want a number from 1.0e-09 to 10, got nothing" },
    { "optim.lr=3e2", "--set optim.lr=3e2: want a number from 1.0e-09 to 10, got 3e2" },
    { "optim.lr= ", "got nothing" },
    { "optim.lr=fast", "got fast" },
    { "optim.lr=\"1\"", "remove the quotes" },
    { "optim.lr=[1]", "got a list" },
    { "optim.lr={a: 1}", "got a mapping" },
    { "optim.lr=1: 2", "got a mapping" },
    { "optim.lr=1\noptim.batch: 3", "not valid YAML" },
    { "run.name=a\n--- b", "want one value" },
    { "run.name=[", "not valid YAML" },
    { "run.name='a", "not valid YAML" },
    { "run.name=*a", "an alias" },
    { "run.name=&a b", "an anchor" },
    { "run.name=!!str b", "a tag" },
    { "run.name=\xff", "not UTF-8" },
    { "run.name=a\tb\n c\x02", "not UTF-8 text: control characters" },
    { "run.name=\"a\\nb\"", "want printable characters" },
    { "run.name=~", "got nothing" },
    { "run.name=a/b", "--set run.name=a/b: want the name of a folder" },
    { "optim.kind=lion", "--set optim.kind=lion: want one of sgd, adam, adamw, got lion" },
    { "augment.flip=on", "want true or false, got on" },
    { "data.views=PA", "want a list such as [a, b], got PA" },
    { "data.views=[PA, PA]", "stands there already" },
    { "data.views=[PA, [AP]]", "item 2: want text, got a list" },
    { "data.task=multiclass", "--set data.task=multiclass: task multiclass: want 3 or more" },
    { "data.val=0.9", "--set data.val=0.9: want data.val + data.test < 1" },
    { "data.channels=1", "--set data.channels=1: normalise imagenet" },
    { "schedule.min_lr=1", "--set schedule.min_lr=1: want schedule.min_lr <= optim.lr" },
    { "optim.epochs=99999999999999999999", "got 99999999999999999999" },
};

static void broken_settings_are_refused(void **state)
{
    (void)state;
    int bad = 0;
    for (int i = 0; i < CX_COUNT(sets); i++) {
        cx_config c;
        cx_error error = { 0 };
        char *set = (char *)(uintptr_t)sets[i].text;
        cx_status s = cx_config_load(NULL, &set, 1, &c, &error);
        if (s != CX_E_CONFIG || !strstr(error.text, sets[i].says) || strncmp(error.text, "--set ", 6) || strchr(error.text, '\n')) {
            print_error("--set %s: status %d, \"%s\" lacks \"%s\"\n", sets[i].text, (int)s, error.text, sets[i].says);
            bad++;
        }
        if (s == CX_OK)
            cx_config_free(&c);
    }
    assert_int_equal(bad, 0);
}

/* The key to mend is the one that was set last. */
static void blame_falls_on_the_last_change(void **state)
{
    (void)state;
    char *set[] = { "data.test=0.3" };
    cx_config c;
    cx_error error = { 0 };
    FILE *f = fopen("/tmp/cx_blame.yaml", "w");
    fputs("data:\n  val: 0.8\n", f);
    fclose(f);
    assert_int_equal(cx_config_load("/tmp/cx_blame.yaml", set, 1, &c, &error), CX_E_CONFIG);
    unlink("/tmp/cx_blame.yaml");
    assert_non_null(strstr(error.text, "--set data.test=0.3: want data.val + data.test < 1"));
}

/* An experiment with a few bytes changed, doubled, dropped or cut off: read, or refused with a message that names the file; what is read prints and reads
 * again. */
static void damaged_files_are_refused_or_read(void **state)
{
    (void)state;
    static const char spice[] = "\n\t :-[]{}#&*!|>'\"%@`,?\\0e.~\xff\xc3\xa9\xe2";
    cx_buf good = { 0 };
    assert_cx_ok(cx_file_read("experiments/binary_densenet121.yaml", 1 << 20, &good, err));
    const char *body = strstr(good.data, "data:\n");
    size_t length = strlen(body);
    char *text = malloc(2 * length);
    int read = 0, rounds = 3000;
    for (int i = 0; i < rounds; i++) {
        cx_rng r = cx_rng_new(5, (uint64_t)i);
        size_t n = length;
        memcpy(text, body, n);
        for (uint32_t k = cx_rng_below(&r, 3) + 1; k > 0; k--) {
            size_t at = cx_rng_below(&r, (uint32_t)n), span = cx_rng_below(&r, 12);
            span = at + span > n ? n - at : span;
            switch (cx_rng_below(&r, 8)) {
            case 0: memmove(text + at, text + at + span, n - at - span); n -= span; break;
            case 1: if (n + span < 2 * length) { memmove(text + at + span, text + at, n - at); n += span; } break;
            case 2: n = at + 1; break;
            default: text[at] = spice[cx_rng_below(&r, sizeof spice)]; break;
            }
        }
        cx_config c, again;
        cx_error error = { 0 };
        cx_status s = load_text(text, n, &c, &error);
        if (s == CX_OK) {
            cx_buf printed = { 0 };
            cx_config_yaml(&c, &printed);
            assert_cx_ok(load_text(printed.data, printed.len, &again, err));
            cx_config_free(&again);
            cx_config_free(&c);
            cx_buf_free(&printed);
            read++;
        } else if (s != CX_E_CONFIG || strncmp(error.text, path, strlen(path)) || strchr(error.text, '\n')) {
            fail_msg("round %d: status %d, \"%s\"\n%.*s", i, (int)s, error.text, (int)n, text);
        }
    }
    assert_in_range(read, rounds / 100, rounds * 3 / 4);       /* both ends are reached */
    free(text);
    cx_buf_free(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files_are_refused), cmocka_unit_test(files_that_are_no_text), cmocka_unit_test(broken_settings_are_refused),
        cmocka_unit_test(blame_falls_on_the_last_change), cmocka_unit_test(damaged_files_are_refused_or_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
