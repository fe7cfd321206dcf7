/* race.c - proof that the tsan preset sees: with "race" all threads add to one float, otherwise only OpenMP's barriers keep them apart. Depends on nothing. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    enum { THREADS = 4 };
    int first[THREADS] = { 0 }, second[THREADS] = { 0 }, shared = 0;
    const int race = argc == 2 && !strcmp(argv[1], "race");
#pragma omp parallel num_threads(THREADS)
    {
        first[omp_get_thread_num()] = 1;
        if (race)
            shared++;
#pragma omp barrier
#pragma omp for
        for (int i = 0; i < THREADS; i++)
            second[i] = first[THREADS - 1 - i];
    }
    for (int i = 0; i < THREADS; i++)
        shared += second[i];
    printf("%d\n", shared);
    return 0;
}
