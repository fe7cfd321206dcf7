/* roof.h - what the cpu backend can do at most on this machine. Depends on kernels.h. */
#ifndef CX_CPU_ROOF_H
#define CX_CPU_ROOF_H
#include "kernels.h"

/* Fills *out (see cx_roof) with the loops of one instruction set on the threads of b. */
cx_status cx_cpu_roof(cx_backend *b, const cx_cpu_limits *l, cx_roof *out, cx_error *err);
#endif
