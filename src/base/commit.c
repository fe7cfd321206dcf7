/* commit.c - which source this library was built from. Depends on the header that cmake/commit.cmake writes at each build. */
#include "cxnet/base.h"
#include "cx_commit.h"

const char *cx_build_commit(void) { return CX_COMMIT; }
