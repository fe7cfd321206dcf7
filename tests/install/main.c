/* main.c - a program of a stranger: links the installed library and asks it something. */
#include <cxnet/base.h>

int main(void)
{
    uint32_t draw[4];
    cx_philox(0, 0, 0, draw);
    printf("cxnet %s draws %08x\n", CX_VERSION, (unsigned)draw[0]);
    return draw[0] == 0x6627e8d5 ? 0 : 1;
}
