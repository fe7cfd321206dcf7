/* threads_comm.h - ranks that are threads of one process, for tests of what is done with a comm; processes by MPI are in train/test_ranks.c. */
#ifndef CX_TESTS_THREADS_COMM_H
#define CX_TESTS_THREADS_COMM_H
#include <pthread.h>
#include "cxnet/comm.h"
#include "support.h"

enum { MAX_RANKS = 4 };
typedef struct { pthread_barrier_t barrier; const void *at[MAX_RANKS]; cx_comm comm[MAX_RANKS]; } thread_ranks;

static cx_status thread_gather(cx_comm *c, const void *mine, void *all, size_t bytes, cx_error *e)
{
    thread_ranks *t = c->self;
    (void)e;
    t->at[c->rank] = mine;
    pthread_barrier_wait(&t->barrier);
    for (int r = 0; r < c->ranks; r++)
        memcpy((char *)all + (size_t)r * bytes, t->at[r], bytes);
    pthread_barrier_wait(&t->barrier);
    return CX_OK;
}

static cx_status thread_broadcast(cx_comm *c, void *p, size_t bytes, cx_error *e)
{
    thread_ranks *t = c->self;
    (void)e;
    t->at[c->rank] = p;
    pthread_barrier_wait(&t->barrier);
    if (c->rank > 0)
        memcpy(p, t->at[0], bytes);
    pthread_barrier_wait(&t->barrier);
    return CX_OK;
}

static cx_status thread_sum(cx_comm *c, cx_backend *b, float *x, int64_t n, cx_error *e)
{
    const size_t bytes = (size_t)n * sizeof *x;
    float *mine = malloc(bytes + 1), *all = malloc(bytes * (size_t)c->ranks + 1);
    cx_status s = b->download(b, mine, x, bytes, e);
    if (s == CX_OK)
        s = thread_gather(c, mine, all, bytes, e);
    for (int64_t i = 0; i < n; i++) {
        mine[i] = all[i];
        for (int r = 1; r < c->ranks; r++)
            mine[i] += all[r * n + i];
    }
    if (s == CX_OK)
        s = b->upload(b, x, mine, bytes, e);
    free(mine);
    free(all);
    return s;
}

/* Runs `work` as that many ranks; arg[r] is what rank r gets beside its comm. */
typedef struct { void (*work)(cx_comm *c, void *arg); cx_comm *comm; void *arg; } thread_job;
static void *thread_main(void *job)
{
    thread_job *j = job;
    j->work(j->comm, j->arg);
    return NULL;
}

static void run_ranks(int ranks, void (*work)(cx_comm *c, void *arg), void *const *arg)
{
    thread_ranks t;
    thread_job job[MAX_RANKS];
    pthread_t thread[MAX_RANKS];
    assert_int_equal(pthread_barrier_init(&t.barrier, NULL, (unsigned)ranks), 0);
    for (int r = 0; r < ranks; r++) {
        t.comm[r] = (cx_comm){ .name = "threads", .rank = r, .ranks = ranks, .self = &t, .sum = thread_sum, .gather = thread_gather,
            .broadcast = thread_broadcast };
        job[r] = (thread_job){ work, &t.comm[r], arg[r] };
        assert_int_equal(pthread_create(&thread[r], NULL, thread_main, &job[r]), 0);
    }
    for (int r = 0; r < ranks; r++)
        pthread_join(thread[r], NULL);
    pthread_barrier_destroy(&t.barrier);
}
#endif
