/* process.c - this process: clock, memory, and what its terminal shows. Depends on nothing. */
#include "cxnet/base.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double cx_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Field 22 of /proc/self/stat, in ticks since the machine started (proc(5)); the program's name, field 2, may hold blanks and brackets. A program that
 * replaces itself keeps its age. */
double cx_process_age_s(void)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    unsigned long long ticks = 0;
    const char *end = strrchr(text, ')');
    struct timespec t;
    if (!end || sscanf(end + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &ticks) != 1 ||
        clock_gettime(CLOCK_BOOTTIME, &t) != 0)
        return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

size_t cx_peak_rss_bytes(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (size_t)u.ru_maxrss * 1024 : 0;      /* Linux counts KiB */
}

void cx_format_bytes(size_t bytes, char out[16])
{
    static const char *const unit[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    if (bytes < 1024) {
        snprintf(out, 16, "%zu B", bytes);
        return;
    }
    double v = (double)bytes / 1024;
    int u = 0;
    for (; v >= 1023.995 && u + 1 < CX_COUNT(unit); u++)       /* 1023.995 would print as 1024.00 */
        v /= 1024;
    snprintf(out, 16, "%.2f %s", v, unit[u]);
}

void cx_progress_show(cx_progress *p, const char *fmt, ...)
{
    double now = cx_now_s();
    if ((p->drawn && now - p->last_s < 0.1) || !isatty(STDERR_FILENO))
        return;
    va_list ap;
    va_start(ap, fmt);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, ap);
    fflush(stderr);
    va_end(ap);
    p->last_s = now;
    p->drawn = true;
}

void cx_progress_end(cx_progress *p)
{
    if (p->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    *p = (cx_progress){ 0 };
}

bool cx_use_colour(FILE *f)
{
    const char *no = getenv("NO_COLOR");       /* https://no-color.org: set and not empty */
    return !(no && no[0]) && isatty(fileno(f));
}
