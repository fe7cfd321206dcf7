/* schedule.c - learning rates over time, plateaus and early stopping: pure functions of the configuration and the state. Depends on run.h. */
#include <math.h>
#include <string.h>
#include "run.h"

double cx_schedule_lr(const cx_config *c, const cx_state *s, int epoch, int step, int steps)
{
    double at = epoch + (double)step / steps, warm = c->schedule.warmup_epochs, lr = c->optim.lr;
    const char *kind = c->schedule.kind;
    if (at < warm)
        return lr * (at + 1.0 / steps) / (warm + 1.0 / steps);
    if (!strcmp(kind, "step"))
        return lr * pow(c->schedule.factor, epoch / c->schedule.step_epochs);
    if (!strcmp(kind, "cosine")) {          /* Loshchilov & Hutter 2017, eq. 5, one period, after the warm-up */
        double share = (at - warm) / fmax(c->optim.epochs - warm, 1.0 / steps);
        return c->schedule.min_lr + (lr - c->schedule.min_lr) * 0.5 * (1 + cos(acos(-1.0) * fmin(share, 1)));
    }
    if (!strcmp(kind, "plateau"))
        return fmax(lr * s->lr_scale, fmin(c->schedule.min_lr, lr));
    return lr;
}

void cx_schedule_epoch(const cx_config *c, cx_state *s, double val_loss)
{
    if (strcmp(c->schedule.kind, "plateau"))
        return;
    if (val_loss < s->plateau_best - c->schedule.min_delta) {
        s->plateau_best = val_loss;
        s->plateau_since = s->plateau_since < 0 ? s->plateau_since + 1 : 0;
    } else if (++s->plateau_since > c->schedule.patience) {
        s->lr_scale *= c->schedule.factor;
        s->plateau_since = -c->schedule.cooldown;
    }
}

bool cx_early_stop_epoch(const cx_config *c, cx_state *s, double val_loss, double val_score)
{
    bool by_loss = !strcmp(c->early_stop.metric, "loss");
    double now = by_loss ? val_loss : -val_score;           /* less is better; an undefined AUROC is never better */
    bool first = s->best_epoch < 0, better = first || now < s->best - c->early_stop.min_delta;
    if (better) {
        s->best = isnan(now) ? INFINITY : now;
        s->best_epoch = s->epoch;
        s->since_best = 0;
    } else {
        s->since_best++;
    }
    bool patient = c->early_stop.patience == 0 || s->since_best < c->early_stop.patience;
    s->trained = !patient || s->epoch + 1 >= c->optim.epochs;
    return better;
}
