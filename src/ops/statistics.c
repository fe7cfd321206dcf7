/* statistics.c - reference of the two steps that a plan adds by itself: the statistics of a value, and a carry applied to a gradient. */
#include "ref.h"

/* Two passes, so that a large mean does not swallow the variance. */
void cx_ref_statistics(const cx_tensor *t, const cx_tensor *stats)
{
    int64_t m = cx_pixels(t->s);
    for (int64_t k = 0; k < t->s.c; k++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < m; i++)
            mean += (double)row_at(t, i)[k];
        mean /= (double)m;
        for (int64_t i = 0; i < m; i++) {
            double d = (double)row_at(t, i)[k] - mean;
            var += d * d;
        }
        cx_row(stats, 0)[k] = (float)mean;
        cx_row(stats, 1)[k] = (float)(var / (double)m);
    }
}

cx_status cx_ref_fwd_statistics(const cx_call *c)
{
    cx_ref_statistics(&c->x[0], &c->fold.stats);
    return CX_OK;
}

cx_status cx_ref_bwd_statistics(const cx_call *c)
{
    const float *slope = cx_row(&c->fold.carry, 0), *level = cx_row(&c->fold.carry, 1);
    for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
        for (int64_t k = 0; k < c->x[0].s.c; k++)
            put(&row_at(&c->dx[0], i)[k], true, (double)slope[k] * (double)row_at(&c->x[0], i)[k] + (double)level[k]);
    return CX_OK;
}
