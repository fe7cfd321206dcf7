/* sandbox.h - runs a function in a child process that can compute and nothing else. Private to src/weights. Depends on base.h. */
#ifndef CXNET_WEIGHTS_SANDBOX_H
#define CXNET_WEIGHTS_SANDBOX_H
#include "cxnet/base.h"

typedef struct {
    size_t memory_bytes;       /* of address space, beyond what this process has mapped already */
    unsigned seconds;          /* on the clock; > 0 */
    unsigned cpu_seconds;      /* of processor time; > 0 */
} cx_sandbox_limits;

/* Zeroed memory that a child of cx_sandbox_run writes and the parent reads; takes no room before it is written. NULL when out of memory. */
void *cx_sandbox_share(size_t bytes);
void cx_sandbox_unshare(void *p, size_t bytes);

/* Calls work(self) in a child made by fork(), and waits for it. The child has no open file, may map memory and end, finds no file when it opens one, and is
 * killed for any other wish: to connect, start, signal. Of what it writes, the parent sees memory of cx_sandbox_share alone, and trusts none of it. Leaks do
 * not matter to it: it ends here.
 *
 * The child has one thread whatever the parent had, so it must not wait for others (OpenMP). malloc may be called there although other threads of the parent
 * may have held its locks: glibc puts them right in fork(). Anything else that has locks (stdio's streams) may not.
 *
 * work's own failure comes back with its text made printable. Otherwise CX_E_DATA: killed, by a signal, a limit or for a forbidden call; CX_E_MEMORY: no child
 * could be made; CX_E_UNSUPPORTED: not Linux on x86-64, or the system refuses the filter (a container that allows no seccomp). There is no way round it. Built
 * with a sanitizer, the filter answers EPERM instead of killing and lets through what the sanitizer calls, and memory has no limit: it maps terabytes;
 * what it finds in the child is CX_E_INTERNAL. */
typedef cx_status cx_sandbox_work(void *self, cx_error *err);
cx_status cx_sandbox_run(cx_sandbox_work *work, void *self, const cx_sandbox_limits *limits, cx_error *err);

#endif
