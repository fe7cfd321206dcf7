/* status.h - how every function of cxnet reports failure.
 *
 * A fallible function returns cx_status and takes a `cx_error *err` as its last argument (NULL = caller does not care).
 * On failure err says what went wrong, where, and how to mend it; only src/app prints it and decides to exit. */
#ifndef CXNET_STATUS_H
#define CXNET_STATUS_H
#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CX_OK = 0,
    CX_E_USAGE,        /* a wrong call or command line                      exit 64 */
    CX_E_DATA,         /* a file or value is malformed                      exit 65 */
    CX_E_NOINPUT,      /* a file cannot be opened or read                   exit 66 */
    CX_E_INTERNAL,     /* a broken promise inside cxnet                     exit 70 */
    CX_E_NAN,          /* a loss or gradient is not finite                  exit 70 */
    CX_E_MEMORY,       /* an allocation failed                              exit 71 */
    CX_E_CREATE,       /* an output cannot be created                       exit 73 */
    CX_E_IO,           /* an output cannot be written                       exit 74 */
    CX_E_CONFIG,       /* an experiment or option is out of its range       exit 78 */
    CX_E_SHAPE,        /* operands do not fit each other                    exit 70 */
    CX_E_UNSUPPORTED,  /* nothing here implements what was asked            exit 69 */
    CX_E_INTERRUPTED,  /* stopped by a signal, can be resumed               exit 85 */
    CX_E_PEER          /* another rank has failed or vanished               exit 75 */
} cx_status;

/* text is one line without a newline: "films/a.png: truncated after 812 of 4,096 rows; fetch the file again". */
typedef struct {
    cx_status status;
    const char *file;  /* source position of the failure, for bug reports */
    int line;
    char text[512];
} cx_error;

/* Fills *err if err is not NULL and yields s, so that a failing check is one line: return cx_fail(err, CX_E_DATA, ...). */
cx_status cx_fail_at(cx_error *err, cx_status s, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
#define cx_fail(err, s, ...) cx_fail_at(err, s, __FILE__, __LINE__, __VA_ARGS__)

/* Puts "prefix: " in front of err->text (a file name, a node name) and yields err's status s unchanged. */
cx_status cx_prefix(cx_error *err, cx_status s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The exit code of sysexits.h (and 85) that belongs to a status; 0 for CX_OK. */
int cx_exit_code(cx_status s);

/* The one macro that hides control flow: runs a call and hands its failure to our caller. */
#define TRY(call) do { cx_status try_s_ = (call); if (try_s_ != CX_OK) return try_s_; } while (0)

#ifdef __cplusplus
}
#endif
#endif
