/* file.c - whole files in, whole files out (atomically), folders and paths. Depends on memory.c and buf.c. */
#include "cxnet/base.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static cx_status read_all(int fd, const char *path, size_t max_bytes, cx_buf *b, cx_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return cx_fail(err, CX_E_NOINPUT, "%s: cannot be examined: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return cx_fail(err, CX_E_NOINPUT, "%s: is a folder; name a file", path);
    if (!S_ISREG(st.st_mode))
        return cx_fail(err, CX_E_NOINPUT, "%s: is not a regular file", path);
    if (st.st_size < 0 || (uintmax_t)st.st_size > max_bytes)
        return cx_fail(err, CX_E_DATA, "%s: is %jd bytes large, more than the %zu that are read here", path, (intmax_t)st.st_size, max_bytes);
    b->len = 0;
    b->failed = false;
    /* One byte more than the size, so that a file that grows meanwhile is noticed instead of cut. */
    size_t want = (size_t)st.st_size + 1;
    if (!cx_grow(&b->data, &b->cap, want + 1, 1))
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %zu bytes", path, want);
    while (b->len < want) {
        ssize_t n = read(fd, b->data + b->len, want - b->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cx_fail(err, CX_E_NOINPUT, "%s: cannot be read: %s", path, strerror(errno));
        if (n == 0)
            break;
        b->len += (size_t)n;
    }
    b->data[b->len] = 0;
    if (b->len == want)
        return cx_fail(err, CX_E_DATA, "%s: grew while it was read; try again when it is complete", path);
    return CX_OK;
}

cx_status cx_file_read(const char *path, size_t max_bytes, cx_buf *b, cx_error *err)
{
    /* O_NONBLOCK: a named pipe must not hang us before we can see that it is no regular file. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cx_fail(err, CX_E_NOINPUT, "%s: cannot be opened: %s; check the path and its permissions", path, strerror(errno));
    cx_status s = read_all(fd, path, max_bytes, b, err);
    close(fd);
    return s;
}

static cx_status write_all(int fd, const char *path, const void *data, size_t n, cx_error *err)
{
    const char *p = data;
    while (n) {
        ssize_t w = write(fd, p, n < (1u << 30) ? n : (1u << 30));
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return cx_fail(err, CX_E_IO, "%s: cannot be written: %s; the former contents are kept", path, strerror(errno));
        p += w;
        n -= (size_t)w;
    }
    if (fsync(fd) != 0)
        return cx_fail(err, CX_E_IO, "%s: cannot be brought to disk: %s; the former contents are kept", path, strerror(errno));
    return CX_OK;
}

/* A rename is durable only once its folder is on disk. File systems that cannot sync a folder say EINVAL. */
static cx_status sync_folder(const char *path, cx_error *err)
{
    char *dir = cx_path_dir(path);
    if (!dir)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for its folder's name", path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0)
        return CX_OK;            /* writable but not readable: nothing more can be done */
    int failed = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    close(fd);
    return failed ? cx_fail(err, CX_E_IO, "%s: its folder cannot be brought to disk: %s", path, strerror(failed)) : CX_OK;
}

/* Opens a new file beside path. The name has the process in it, and a number in case threads write one path at once. */
static int open_beside(const char *path, char **name)
{
    for (int i = 0; i < 1000; i++) {
        if (!(*name = cx_sprintf("%s.tmp-%ld-%d", path, (long)getpid(), i))) {
            errno = ENOMEM;
            return -1;
        }
        int fd = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
        free(*name);
        *name = NULL;
    }
    return -1;
}

/* What lies on the disk is what was to be written; asked before the former contents are given up. */
static cx_status read_back(const char *name, const char *path, const void *data, size_t n, cx_error *err)
{
    char block[1 << 16];
    size_t at = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cx_fail(err, CX_E_IO, "%s: cannot be read back: %s; the former contents are kept", path, strerror(errno));
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);      /* from the disk, not from memory, where the system agrees */
    for (;;) {
        ssize_t got = read(fd, block, sizeof block);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || (size_t)got > n - at || memcmp(block, (const char *)data + at, (size_t)got) != 0) {
            at = got == 0 ? at : SIZE_MAX;
            break;
        }
        at += (size_t)got;
    }
    close(fd);
    return at == n ? CX_OK : cx_fail(err, CX_E_IO, "%s: what was read back differs from what was written; the former contents are kept, check the disk", path);
}

cx_status cx_file_write(const char *path, const void *data, size_t n, cx_error *err)
{
    if (cx_is_dir(path))
        return cx_fail(err, CX_E_CREATE, "%s: is a folder; name a file to write", path);
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))      /* a device or pipe would be replaced by a file */
        return cx_fail(err, CX_E_CREATE, "%s: is no regular file; name a file to write", path);
    char *name = NULL;
    int fd = open_beside(path, &name);
    if (fd < 0) {
        cx_status s = cx_fail(err, CX_E_CREATE, "%s: cannot be created: %s; check that its folder exists and can be written", path, strerror(errno));
        free(name);
        return s;
    }
    cx_status s = write_all(fd, path, data, n, err);
    if (close(fd) != 0 && s == CX_OK)
        s = cx_fail(err, CX_E_IO, "%s: cannot be closed: %s; the former contents are kept", path, strerror(errno));
    if (s == CX_OK)
        s = read_back(name, path, data, n, err);
    if (s == CX_OK && rename(name, path) != 0)
        s = cx_fail(err, CX_E_CREATE, "%s: cannot be put in place: %s; the former contents are kept", path, strerror(errno));
    if (s != CX_OK)
        unlink(name);
    free(name);
    return s == CX_OK ? sync_folder(path, err) : s;
}

cx_status cx_mkdirs(const char *path, cx_error *err)
{
    char *p = cx_strdup(path);
    if (!p)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for a path", path);
    cx_status s = CX_OK;
    for (char *q = p + 1; p[0]; q++) {
        char here = *q;
        if (here && here != '/')
            continue;
        *q = 0;
        int failed = mkdir(p, 0777) != 0 ? errno : 0;
        if (failed && !cx_is_dir(p)) {
            s = cx_fail(err, CX_E_CREATE, "%s: the folder cannot be created: %s", p, strerror(failed));
            break;
        }
        *q = here;
        if (!here)
            break;
    }
    free(p);
    return s;
}

bool cx_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool cx_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *cx_path_join(const char *dir, const char *name)
{
    if (name[0] == '/' || !dir || !dir[0])
        return cx_strdup(name);
    return cx_sprintf(dir[strlen(dir) - 1] == '/' ? "%s%s" : "%s/%s", dir, name);
}

char *cx_path_dir(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')      /* "a/b/" lies in "a" */
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n ? cx_sprintf("%.*s", (int)n, path) : cx_strdup(".");
}

const char *cx_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *cx_cache_folder(void)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        return cx_path_join(xdg, "cxnet");
    return home && *home ? cx_path_join(home, ".cache/cxnet") : NULL;
}
