/* refused.h - a hostile file is refused, says why, and is counted. */
#ifndef CX_TESTS_REFUSED_H
#define CX_TESTS_REFUSED_H
#include "support.h"
#include "weights/read.h"

static int refused;             /* how many files were */

static inline void assert_refused(const char *what, const void *p, size_t n, const char *why)
{
    cx_st_file f;
    cx_error e = { 0 };
    const cx_status s = cx_weights_parse("hostile", p, n, &f, &e);
    if (s != CX_E_DATA && s != CX_E_MEMORY)
        fail_msg("%s: status %d (%s), want it refused", what, (int)s, e.text);
    if (strncmp(e.text, "hostile: ", 9) != 0 || !strstr(e.text, why))
        fail_msg("%s: \"%s\" lacks \"%s\"", what, e.text, why);
    refused++;
}
#endif
