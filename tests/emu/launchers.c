/* launchers.c - launchers beside the operators, on the emulated GPU: an update that reads its numbers from device memory against one that is given them, the
 * clipping of a step that no host looks at against the host's, class activation maps against plain loops, films drawn anew at each replay. */
#include "cuda_runtime_api.h"
#include "cxnet/data.h"
#include "kernels.h"
#include "support.h"

static const cx_update updates[] = {
    { .kind = CX_SGD, .lr = 0.1, .weight_decay = 0.01, .grad_scale = 0.5 },
    { .kind = CX_SGD, .lr = 0.05, .momentum = 0.9, .grad_scale = 1 },
    { .kind = CX_ADAM, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .grad_scale = 2, .t = 3 },
    { .kind = CX_ADAMW, .lr = 0.01, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.2, .grad_scale = 1, .t = 7 },
};
enum { N = 4099, CLIP_SCRATCH = 8 };        /* several blocks, of which the last is ragged */

typedef struct { float p[N], m[N], v[N]; } state;
static float grad[N];

static state *fresh(void)
{
    state *s = cx_alloc(1, sizeof *s);
    cx_rng rng = cx_rng_new(3, 1);
    for (int i = 0; i < N; i++) {
        s->p[i] = (float)cx_rng_normal(&rng);
        s->m[i] = (float)cx_rng_normal(&rng);
        s->v[i] = (float)cx_rng_uniform(&rng);
        grad[i] = (float)cx_rng_normal(&rng);
    }
    return s;
}

static float *momentum_of(const cx_update *u, state *s) { return u->kind == CX_SGD && u->momentum == 0 ? NULL : s->m; }

/* Bit for bit, in each schedule; with a step, its scale stands in for the update's own. */
static void numbers_from_memory(void **unused)
{
    (void)unused;
    for (int i = 0; i < CX_COUNT(updates); i++)
        for (int order = 0; order < 3; order++)
            for (int with_step = 0; with_step < 2; with_step++) {
                cx_update u = updates[i];
                const cx_cuda_step step = { .scale = 0.375f };
                const cx_scalars s = cx_update_prepare(&u);
                state *a = fresh(), *b = fresh();
                u.grad_scale = with_step ? 0.375 : u.grad_scale;
                emu_schedule(order);
                assert_int_equal(cx_cuda_update(NULL, &u, N, a->p, grad, a->m, a->v), CX_OK);
                assert_int_equal(cx_cuda_update_from(NULL, u.kind, &s, with_step ? &step : NULL, N, b->p, grad, momentum_of(&u, b), b->v), CX_OK);
                assert_memory_equal(a, b, sizeof *a);
                free(a);
                free(b);
            }
}

/* What src/graph/stepper.c makes of a sum of squares. */
static float scale_on_host(double squares, double clip)
{
    const double norm = sqrt(squares);
    const cx_update u = { .kind = CX_SGD, .grad_scale = clip > 0 && norm > clip ? clip / norm : 1 };
    return cx_update_prepare(&u).scale;
}

static void clips_like_the_host(void **unused)
{
    (void)unused;
    static const double clips[] = { 0, 0.1, 1, 5, 70, 1e9 };
    state *s = fresh();
    double scratch[CLIP_SCRATCH], squares;
    assert_true(cx_cuda_sum_doubles(N) <= CLIP_SCRATCH);
    assert_int_equal(cx_cuda_sum_squares(NULL, N, grad, scratch, &squares), CX_OK);
    cx_cuda_step step = { .norm = 0 };
    for (int i = 0; i < CX_COUNT(clips); i++) {
        const float loss = 0.7f + (float)i;
        assert_int_equal(cx_cuda_clip(NULL, &squares, clips[i], &loss, &step), CX_OK);
        assert_true(step.norm == sqrt(squares) && step.loss == loss);
        assert_true(step.scale == scale_on_host(squares, clips[i]));
        assert_int_equal(step.fault, CX_CUDA_SOUND);
    }
    assert_true(scale_on_host(squares, 5) < 1 && scale_on_host(squares, 70) == 1);      /* both sides of the rule were met */
    assert_int_equal(cx_cuda_clip(NULL, &squares, 1, NULL, &step), CX_OK);
    assert_true(step.loss == 0 && step.fault == CX_CUDA_SOUND);
    free(s);
}

static void unchanged_after(double squares, float loss, cx_cuda_fault want)
{
    const double sound = 4;
    const float fine = 0.5f;
    cx_cuda_step step = { .norm = 0 }, at_fault;
    state *a = fresh(), *b = fresh();
    assert_int_equal(cx_cuda_clip(NULL, &squares, 1, &loss, &step), CX_OK);
    assert_int_equal(step.fault, want);
    assert_memory_equal(&step.loss, &loss, sizeof loss);
    assert_true(isnan(squares) ? isnan(step.norm) : step.norm == sqrt(squares));
    at_fault = step;
    for (int i = 0; i < CX_COUNT(updates); i++) {
        const cx_scalars s = cx_update_prepare(&updates[i]);
        assert_int_equal(cx_cuda_update_from(NULL, updates[i].kind, &s, &step, N, b->p, grad, b->m, b->v), CX_OK);
        assert_memory_equal(a, b, sizeof *a);
        assert_int_equal(cx_cuda_clip(NULL, &sound, 1, &fine, &step), CX_OK);           /* a sound step later does not wash it away */
        assert_memory_equal(&step, &at_fault, sizeof step);
    }
    free(a);
    free(b);
}

static void a_fault_stays(void **unused)
{
    (void)unused;
    unchanged_after(4, NAN, CX_CUDA_LOSS);
    unchanged_after(4, INFINITY, CX_CUDA_LOSS);
    unchanged_after(NAN, NAN, CX_CUDA_LOSS);
    unchanged_after(INFINITY, 1, CX_CUDA_NORM);
    unchanged_after(NAN, 1, CX_CUDA_NORM);
}

/* ---- class activation maps ---------------------------------------------------------------------------------------- */

enum { BESIDE = 3 };                        /* channels of a slice's neighbour */

/* Noise in a slice (beside > 0) or dense. */
static cx_tensor noise(cx_shape s, int beside, cx_dtype type, uint64_t stream)
{
    const int64_t ld = s.c + beside, n = cx_pixels(s) * ld;
    cx_rng rng = cx_rng_new(11, stream);
    cx_tensor t = { .s = s, .ld = ld, .p = cx_alloc_aligned((size_t)n, sizeof(float)), .type = type };
    for (int64_t i = 0; i < n; i++) {
        const float v = i % ld < s.c ? (float)cx_rng_normal(&rng) : NAN;
        if (type == CX_BF16)
            cx_half(&t)[i] = cx_to_bf16(v);
        else
            t.p[i] = v;
    }
    return t;
}
static double at(const cx_tensor *t, int64_t pixel, int64_t k)
{
    return (double)(t->type == CX_BF16 ? cx_from_bf16(cx_half(t)[pixel * t->ld + k]) : t->p[pixel * t->ld + k]);
}

static double map_at(const cx_tensor *act, const cx_tensor *grad, bool by_place, int64_t pixel)
{
    const int64_t area = act->s.h * act->s.w, film = pixel / area;
    double sum = 0;
    for (int64_t k = 0; k < act->s.c; k++) {
        double weight = 0;
        for (int64_t i = 0; i < area && !by_place; i++)
            weight += at(grad, film * area + i, k) / (double)area;
        sum += (by_place ? at(grad, pixel, k) : weight) * at(act, pixel, k);
    }
    return sum > 0 ? sum : 0;
}

/* Channels below and above what a block, and a warp, has at once; ragged quads; more pixels than lines. */
static void maps_equal_plain_loops(void **unused)
{
    (void)unused;
    static const cx_shape shapes[] = { { 2, 5, 3, 5 }, { 1, 1, 2, 64 }, { 3, 7, 7, 131 }, { 2, 9, 5, 256 } };
    for (int i = 0; i < CX_COUNT(shapes) * 12; i++) {
        const cx_shape s = shapes[i / 12];
        const bool by_place = i % 2, sliced = i / 2 % 2;
        const cx_tensor act = noise(s, sliced ? BESIDE : 0, i / 2 % 3 == 0 ? CX_BF16 : CX_F32, 1), grad = noise(s, sliced ? BESIDE : 0, CX_F32, 2);
        float *map = cx_alloc((size_t)cx_pixels(s), sizeof *map), *want = cx_alloc((size_t)cx_pixels(s), sizeof *want);
        double *scratch = cx_alloc((size_t)cx_cuda_cam_doubles(s), sizeof *scratch);
        emu_schedule(i % 3);
        memset(scratch, 0xff, (size_t)cx_cuda_cam_doubles(s) * sizeof *scratch);
        assert_int_equal(cx_cuda_cam(NULL, by_place, act, grad, scratch, map), CX_OK);
        for (int64_t p = 0; p < cx_pixels(s); p++)
            want[p] = (float)map_at(&act, &grad, by_place, p);
        assert_close(by_place ? "map by place" : "map by mean", map, want, cx_pixels(s), 1e-6, 1e-7);
        free(act.p), free(grad.p), free(map), free(want), free(scratch);
    }
}

/* A captured step makes its input anew from the draws that lie in memory when it is replayed. */
static void films_of_each_replay(void **unused)
{
    (void)unused;
    enum { FILMS = 3, BATCH = 2, SIDE = 13 };
    static const cx_augment a = { .rotate_deg = 20, .shift = 0.1, .contrast = 0.3 };
    uint8_t films[FILMS * SIDE * SIDE];
    cx_film_draw draw[BATCH];
    float want[BATCH * SIDE * SIDE * 3], *got = cx_alloc_aligned(1, sizeof want);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t step;
    const cx_tensor y = { .s = { BATCH, SIDE, SIDE, 3 }, .ld = 3, .p = got };
    for (int i = 0; i < FILMS * SIDE * SIDE; i++)
        films[i] = (uint8_t)(i * 2654435761u >> 24);
    memset(draw, 0xff, sizeof draw);        /* nothing is drawn yet: whoever looked now would read beyond the films */
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cx_cuda_films(stream, films, draw, &CX_NORM_IMAGENET, &y), CX_OK);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&step, graph, 0), cudaSuccess);
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < BATCH; i++) {
            draw[i] = cx_draw_film(films + (t + i) % FILMS * SIDE * SIDE, SIDE, 1, &a, 1, t, (uint64_t)i);
            draw[i].film = (t + i) % FILMS;
        }
        emu_schedule(t % 3);
        assert_int_equal(cudaGraphLaunch(step, stream), cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
        cx_apply_draws(films, SIDE, draw, BATCH, &CX_NORM_IMAGENET, want);
        assert_memory_equal(got, want, sizeof want);
    }
    assert_int_equal(cudaGraphExecDestroy(step), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    free(got);
}

/* ---- the roof ------------------------------------------------------------------------------------------------------- */

/* A loop that left something out would put the roof too high. Numbers are small and whole, so that sums are exact. */
static void the_roof_does_its_work(void **unused)
{
    (void)unused;
    enum { FLOATS = 4 * 3001 };
    float *x = cx_alloc_aligned(2 * FLOATS, sizeof *x), *out = cx_alloc(CX_CUDA_ROOF_THREADS, sizeof *out);
    double sum = 0, want = 0;
    for (int i = 0; i < FLOATS; i++)
        want += (double)(x[i] = (float)(i % 17));
    assert_int_equal(cx_cuda_roof_read(NULL, FLOATS, x, out), CX_OK);
    for (int i = 0; i < CX_CUDA_ROOF_THREADS; i++)
        sum += (double)out[i];
    assert_true(sum == want);
    assert_int_equal(cx_cuda_roof_copy(NULL, FLOATS, x, x + FLOATS), CX_OK);
    assert_memory_equal(x + FLOATS, x, FLOATS * sizeof *x);
    assert_int_equal(cx_cuda_roof_fma(NULL, 8, 0.25f, out), CX_OK);
    for (int i = 0; i < CX_CUDA_ROOF_THREADS; i += 1001)
        assert_true(fabs((double)out[i] - 8 / 0.75) < 1e-5);
    assert_int_equal(cx_cuda_roof_dot(NULL, 2, 0.25f, out), CX_OK);
    for (int i = 0; i < CX_CUDA_ROOF_THREADS; i++)
        assert_true(out[i] == 512 * 0.25f * 2);
    free(x), free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_from_memory),
        cmocka_unit_test(clips_like_the_host),
        cmocka_unit_test(a_fault_stays),
        cmocka_unit_test(maps_equal_plain_loops),
        cmocka_unit_test(films_of_each_replay),
        cmocka_unit_test(the_roof_does_its_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
