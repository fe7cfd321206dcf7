/* test_files.c - files in and out: atomic replacement under failure, folders, path arithmetic. */
#include "support.h"
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/cxnet-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static char *in_dir(const char *name)
{
    return cx_path_join(dir, name);
}

static int count_entries(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d)); )
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void assert_contents(const char *path, const char *want)
{
    cx_buf b = { 0 };
    assert_cx_ok(cx_file_read(path, 1 << 20, &b, err));
    assert_string_equal(b.data, want);
    cx_buf_free(&b);
}

static void writes_and_replaces(void **state)
{
    (void)state;
    char *path = in_dir("a.txt");
    int before = count_entries();
    assert_cx_ok(cx_file_write(path, "one", 3, err));
    assert_contents(path, "one");
    assert_cx_ok(cx_file_write(path, "a longer one", 12, err));
    assert_contents(path, "a longer one");
    assert_cx_ok(cx_file_write(path, NULL, 0, err));
    assert_contents(path, "");
    assert_int_equal(count_entries(), before + 1);
    free(path);
}

static void set_file_limit(rlim_t bytes)
{
    struct rlimit l;
    getrlimit(RLIMIT_FSIZE, &l);
    l.rlim_cur = bytes == RLIM_INFINITY ? l.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

/* A disk that takes 1,000 of 5,000 bytes: the old file stays, the temporary goes. */
static void failed_write_keeps_the_old_file(void **state)
{
    (void)state;
    char *path = in_dir("full.txt"), text[5000];
    memset(text, 'n', sizeof text);
    assert_cx_ok(cx_file_write(path, "old", 3, err));
    int before = count_entries();
    signal(SIGXFSZ, SIG_IGN);
    set_file_limit(1000);
    cx_error e = { 0 };
    cx_status s = cx_file_write(path, text, sizeof text, &e);
    set_file_limit(RLIM_INFINITY);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(s, CX_E_IO);
    assert_non_null(strstr(e.text, "full.txt: cannot be written: File too large; the former contents are kept"));
    assert_contents(path, "old");
    assert_int_equal(count_entries(), before);
    free(path);
}

static void failed_creation_leaves_nothing(void **state)
{
    (void)state;
    char *missing = in_dir("no/such/folder.txt"), *folder = in_dir("folder"), *under_file = in_dir("plain/x.txt"), *plain = in_dir("plain");
    assert_cx_fails(CX_E_CREATE, "no/such/folder.txt: cannot be created: No such file", cx_file_write(missing, "x", 1, err));
    assert_cx_ok(cx_mkdirs(folder, err));
    assert_cx_ok(cx_file_write(plain, "x", 1, err));
    int before = count_entries();
    assert_cx_fails(CX_E_CREATE, "folder: is a folder", cx_file_write(folder, "x", 1, err));
    char pipe[300];
    snprintf(pipe, sizeof pipe, "%s/pipe", dir);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_cx_fails(CX_E_CREATE, "is no regular file", cx_file_write(pipe, "x", 1, err));       /* as /dev/null is */
    assert_int_equal(unlink(pipe), 0);
    assert_cx_fails(CX_E_CREATE, "Not a directory", cx_file_write(under_file, "x", 1, err));
    assert_int_equal(count_entries(), before);
    free(missing);
    free(folder);
    free(under_file);
    free(plain);
}

static void new_files_obey_the_umask(void **state)
{
    (void)state;
    char *path = in_dir("mode.txt");
    mode_t old = umask(027);
    assert_cx_ok(cx_file_write(path, "x", 1, err));
    umask(old);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    free(path);
}

static void reading_is_bounded(void **state)
{
    (void)state;
    char *path = in_dir("ten.txt"), *fifo = in_dir("fifo");
    cx_buf b = { 0 };
    assert_cx_ok(cx_file_write(path, "0123456789", 10, err));
    assert_cx_ok(cx_file_read(path, 10, &b, err));
    assert_int_equal(b.len, 10);
    assert_cx_fails(CX_E_DATA, "is 10 bytes large, more than the 9", cx_file_read(path, 9, &b, err));
    assert_cx_ok(cx_file_write(path, "ab", 2, err));
    assert_cx_ok(cx_file_read(path, 10, &b, err));       /* replaces, does not append */
    assert_string_equal(b.data, "ab");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_cx_fails(CX_E_NOINPUT, "is not a regular file", cx_file_read(fifo, 10, &b, err));
    assert_cx_fails(CX_E_NOINPUT, "is a folder", cx_file_read(dir, 10, &b, err));
    assert_cx_fails(CX_E_NOINPUT, "cannot be opened", cx_file_read("", 10, &b, err));
    cx_buf_free(&b);
    free(path);
    free(fifo);
}

static void folders_are_made_with_parents(void **state)
{
    (void)state;
    char *deep = in_dir("x/y//z/"), *file = in_dir("afile"), *below = in_dir("afile/sub");
    assert_cx_ok(cx_mkdirs(deep, err));
    assert_true(cx_is_dir(deep));
    assert_cx_ok(cx_mkdirs(deep, err));
    assert_cx_ok(cx_mkdirs("/", err));
    assert_cx_ok(cx_mkdirs(".", err));
    assert_cx_ok(cx_file_write(file, "x", 1, err));
    assert_true(cx_file_exists(file));
    assert_false(cx_is_dir(file));
    assert_cx_fails(CX_E_CREATE, "afile: the folder cannot be created: File exists", cx_mkdirs(file, err));
    assert_cx_fails(CX_E_CREATE, "afile: the folder cannot be created", cx_mkdirs(below, err));
    free(deep);
    free(file);
    free(below);
}

static void paths_add_up(void **state)
{
    (void)state;
    static const char *const join[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "a", "/b", "/b" }, { "/", "b", "/b" }, { "a/b", "../c", "a/b/../c" }, { "a", "", "a/" }
    };
    static const char *const part[][3] = {      /* path, folder, base */
        { "a/b.png", "a", "b.png" }, { "b.png", ".", "b.png" }, { "/b", "/", "b" }, { "/", "/", "" }, { "a/b/c", "a/b", "c" }, { "a//b", "a", "b" },
        { "a/b/", "a", "" }, { "a/", ".", "" }, { "", ".", "" }, { "//x", "/", "x" }, { "../x", "..", "x" }
    };
    for (int i = 0; i < CX_COUNT(join); i++) {
        char *p = cx_path_join(join[i][0], join[i][1]);
        assert_string_equal(p, join[i][2]);
        free(p);
    }
    for (int i = 0; i < CX_COUNT(part); i++) {
        char *p = cx_path_dir(part[i][0]);
        assert_string_equal(p, part[i][1]);
        free(p);
        assert_string_equal(cx_path_base(part[i][0]), part[i][2]);
    }
    char *p = cx_path_join(NULL, "b");
    assert_string_equal(p, "b");
    free(p);
}

/* As the XDG Base Directory Specification has it: a relative path there counts for nothing. */
static void cache_of_the_user(void **state)
{
    (void)state;
    static const struct { const char *xdg, *home, *want; } row[] = {
        { "/x", "/h", "/x/cxnet" }, { "x", "/h", "/h/.cache/cxnet" }, { "", "/h", "/h/.cache/cxnet" }, { NULL, "/h", "/h/.cache/cxnet" },
        { "/x", NULL, "/x/cxnet" }, { NULL, "", NULL }, { NULL, NULL, NULL },
    };
    const char *const name[] = { "XDG_CACHE_HOME", "HOME" };
    char *before[] = { cx_strdup(getenv(name[0])), cx_strdup(getenv(name[1])) };
    for (int i = 0; i < CX_COUNT(row) + 1; i++) {
        const char *const value[] = { i < CX_COUNT(row) ? row[i].xdg : before[0], i < CX_COUNT(row) ? row[i].home : before[1] };
        for (int k = 0; k < 2; k++)
            value[k] ? setenv(name[k], value[k], 1) : unsetenv(name[k]);
        char *folder = i < CX_COUNT(row) ? cx_cache_folder() : NULL;
        if (i < CX_COUNT(row) && (!folder != !row[i].want || (folder && strcmp(folder, row[i].want) != 0)))
            fail_msg("row %d: want %s, got %s", i, row[i].want ? row[i].want : "none", folder ? folder : "none");
        free(folder);
    }
    free(before[0]);
    free(before[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_replaces), cmocka_unit_test(failed_write_keeps_the_old_file), cmocka_unit_test(failed_creation_leaves_nothing),
        cmocka_unit_test(new_files_obey_the_umask), cmocka_unit_test(reading_is_bounded), cmocka_unit_test(folders_are_made_with_parents),
        cmocka_unit_test(paths_add_up), cmocka_unit_test(cache_of_the_user)
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
