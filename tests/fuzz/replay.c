/* replay.c - drives a fuzz target without libFuzzer: once with each file named, or of each folder named; so that targets compile and run wherever tests do. */
#include <dirent.h>
#include <stdio.h>
#include "cxnet/base.h"

int LLVMFuzzerTestOneInput(const unsigned char *p, size_t n);

static int replay(const char *path)
{
    cx_buf b = { 0 };
    cx_error err = { 0 };
    if (cx_file_read(path, 64 << 20, &b, &err) != CX_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    LLVMFuzzerTestOneInput((const unsigned char *)b.data, b.len);
    cx_buf_free(&b);
    return 0;
}

static int replay_folder(const char *folder, int *n)
{
    DIR *d = opendir(folder);
    int failed = d ? 0 : 1;
    for (const struct dirent *e; d && (e = readdir(d));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (cx_is_dir(path))
            continue;
        failed |= replay(path);
        ++*n;
    }
    if (d)
        closedir(d);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0, n = 0;
    for (int i = 1; i < argc; i++)
        if (cx_is_dir(argv[i]))
            failed |= replay_folder(argv[i], &n);
        else {
            failed |= replay(argv[i]);
            n++;
        }
    printf("%d inputs\n", n);
    return failed || n == 0;
}
