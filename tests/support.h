/* support.h - what tests share: cmocka with its includes, comparison against an oracle, skipping where real data are absent. */
#ifndef CX_TESTS_SUPPORT_H
#define CX_TESTS_SUPPORT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/base.h"

/* The call succeeds, or the test fails with its message. */
#define assert_cx_ok(call) do { cx_error assert_err_ = { 0 }; cx_error *err = &assert_err_; \
    if ((call) != CX_OK) fail_msg("%s: %s (%s:%d)", #call, err->text, err->file ? err->file : "?", err->line); } while (0)

/* The call fails with this status, and the message contains the text. */
#define assert_cx_fails(want, contains, call) do { cx_error assert_err_ = { 0 }; cx_error *err = &assert_err_; \
    cx_status assert_s_ = (call); \
    if (assert_s_ != (want)) fail_msg("%s: status %d, want %d (%s)", #call, (int)assert_s_, (int)(want), err->text); \
    if (!strstr(err->text, (contains))) fail_msg("%s: message \"%s\" lacks \"%s\"", #call, err->text, (contains)); } while (0)

/* |got - want| <= atol * max|want| + rtol * |want| for all n; reports the worst entry. NaN never passes. */
static inline void assert_close(const char *what, const float *got, const float *want, int64_t n, double rtol, double atol)
{
    double largest = 0, over = 0;
    int64_t worst = -1;
    for (int64_t i = 0; i < n; i++)
        if (fabs((double)want[i]) > largest)
            largest = fabs((double)want[i]);
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]) - (atol * largest + rtol * fabs((double)want[i]));
        if (!(d <= over)) {
            over = isnan(d) ? INFINITY : d;
            worst = i;
        }
    }
    if (worst >= 0)
        fail_msg("%s[%lld] = %.9g, want %.9g (rtol %g, atol %g of %g)", what, (long long)worst, (double)got[worst], (double)want[worst], rtol, atol, largest);
}

/* ../shared/<name> beside the checkout, or the test skips, saying so. */
#define SHARED_OR_SKIP(name) do { if (!cx_file_exists("../shared/" name)) { \
    print_message("skipped: ../shared/" name " is not here\n"); skip(); } } while (0)
#endif
