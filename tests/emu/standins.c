/* standins.c - the stand-in of cuDNN refuses what cuDNN refuses (misuse.h; test_cudnn_graphs asks the real one the same). */
#include "cuda/misuse.h"

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_misuse_is_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
