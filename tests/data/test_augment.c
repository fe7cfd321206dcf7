/* test_augment.c - augmentation against closed forms, and its purity. */
#include "support.h"
#include "cxnet/data.h"

enum { S = 33 };
static const cx_normalise grey255 = { .channels = 1, .std = { 1.0f / 255 } };      /* (g/255 - 0) * 255: out is the grey itself */

static void picture(uint8_t *film)
{
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x++)
            film[y * S + x] = (uint8_t)(20 + 3 * x + 2 * y + (x > 10 && y < 15 ? 60 : 0));
}

static void nothing_drawn_is_identity(void **state)
{
    (void)state;
    uint8_t film[S * S];
    float a[S * S * 3], b[S * S * 3];
    cx_augment none = { 0 };
    picture(film);
    cx_augment_film(film, S, NULL, 1, 2, 3, &CX_NORM_IMAGENET, a);
    cx_augment_film(film, S, &none, 1, 2, 3, &CX_NORM_IMAGENET, b);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < S * S; i++)
        for (int c = 0; c < 3; c++) {
            double want = (film[i] / 255.0 - (double)CX_NORM_IMAGENET.mean[c]) / (double)CX_NORM_IMAGENET.std[c];
            assert_true(fabs((double)a[3 * i + c] - want) < 1e-6);
        }
    cx_augment_film(film, S, NULL, 1, 2, 3, &CX_NORM_UNIT, a);
    assert_true(fabsf(a[3 * 40 + 2] - film[40] / 255.0f) < 1e-7f);
}

/* The draws that the documentation promises: word k of Philox(seed, "augment" + epoch, 2 id), scaled to -1..1. */
static double word(uint64_t seed, int epoch, uint64_t id, int k)
{
    uint32_t w[8];
    cx_philox(seed, cx_hash("augment") + (uint64_t)epoch, 2 * id, w);
    cx_philox(seed, cx_hash("augment") + (uint64_t)epoch, 2 * id + 1, w + 4);
    return 2 * (w[k] >> 8) * 0x1p-24 - 1;
}

/* Bilinear value of a film at (x, y), black outside. */
static double at(const uint8_t *film, double x, double y)
{
    double sum = 0;
    for (int j = 0; j < S; j++)
        for (int i = 0; i < S; i++)
            sum += fmax(0, 1 - fabs(x - i)) * fmax(0, 1 - fabs(y - j)) * film[j * S + i];
    return sum;
}

/* Every output pixel of every kind of warp, by the definition: the input point that lands there. */
static void warps_are_as_defined(void **state)
{
    (void)state;
    static const cx_augment kinds[] = {
        { .rotate_deg = 30 }, { .shift = 0.2 }, { .zoom = 0.4 }, { .rotate_deg = 180 }, { .rotate_deg = 15, .shift = 0.5, .zoom = 0.9 }, { .flip = true },
        { .rotate_deg = 10, .flip = true, .zoom = 0.1 }, { .rotate_deg = 1e-9 },
    };
    uint8_t film[S * S];
    float out[S * S];
    picture(film);
    for (int k = 0; k < CX_COUNT(kinds); k++)
        for (uint64_t id = 0; id < 4; id++) {
            const cx_augment *a = &kinds[k];
            double t = a->rotate_deg * word(7, 5, id, 0) * acos(-1) / 180, z = 1 + a->zoom * word(7, 5, id, 3), c = (S - 1) / 2.0;
            double dx = a->shift * S * word(7, 5, id, 1), dy = a->shift * S * word(7, 5, id, 2);
            cx_augment_film(film, S, a, 7, 5, id, &grey255, out);
            for (int y = 0; y < S; y++)
                for (int x = 0; x < S; x++) {
                    /* counter-clockwise on a screen whose y points down: input = R(t) (output - c - shift) / z + c with R = [cos -sin; sin cos] */
                    double u = (x - c - dx) / z, v = (y - c - dy) / z, sx = cos(t) * u - sin(t) * v + c, sy = sin(t) * u + cos(t) * v + c;
                    double want = at(film, a->flip && word(7, 5, id, 6) < 0 ? S - 1 - sx : sx, sy);
                    if (fabs((double)out[y * S + x] - want) > 0.02)
                        fail_msg("kind %d, film %d: (%d, %d) is %g, want %g", k, (int)id, x, y, (double)out[y * S + x], want);
                }
        }
}

/* A draw that is known to be large, scaled so that the angle is exactly a quarter turn. */
static void quarter_turn(void **state)
{
    (void)state;
    uint8_t film[S * S];
    float out[S * S];
    uint64_t id = 0;
    picture(film);
    while (word(1, 0, id, 0) < 0.5)
        id++;
    cx_augment a = { .rotate_deg = 90 / word(1, 0, id, 0) };
    cx_augment_film(film, S, &a, 1, 0, id, &grey255, out);
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x++)                              /* counter-clockwise: the right column becomes the top row */
            assert_true(fabsf(out[y * S + x] - film[x * S + S - 1 - y]) < 0.01f);
}

static void flip_mirrors_half_of_them(void **state)
{
    (void)state;
    uint8_t film[S * S];
    float out[S * S];
    cx_augment a = { .flip = true };
    int flipped = 0;
    picture(film);
    for (uint64_t id = 0; id < 400; id++) {
        cx_augment_film(film, S, &a, 3, 1, id, &grey255, out);
        bool mirrored = fabsf(out[0] - film[S - 1]) < 1e-3f && fabsf(out[S * 4 + 9] - film[S * 4 + S - 10]) < 1e-3f;
        assert_true(mirrored || (fabsf(out[0] - film[0]) < 1e-3f && fabsf(out[S * 4 + 9] - film[S * 4 + 9]) < 1e-3f));
        flipped += mirrored;
    }
    assert_in_range(flipped, 160, 240);                           /* 4 standard deviations of Binomial(400, 1/2) */
}

static void brightness_and_contrast(void **state)
{
    (void)state;
    uint8_t film[S * S];
    float out[S * S];
    double mean = 0;
    picture(film);
    for (int i = 0; i < S * S; i++)
        mean += film[i] / (double)(S * S);
    for (uint64_t id = 0; id < 20; id++) {
        cx_augment a = { .brightness = 0.3, .contrast = 0.8 };
        cx_augment_film(film, S, &a, 9, 2, id, &grey255, out);
        for (int i = 0; i < S * S; i++) {
            double want = (film[i] - mean) * (1 + 0.8 * word(9, 2, id, 5)) + mean + 255 * 0.3 * word(9, 2, id, 4);
            assert_true(fabs((double)out[i] - fmin(fmax(want, 0), 255)) < 1e-3);
        }
    }
}

static void pure_whatever_the_order(void **state)
{
    (void)state;
    uint8_t film[S * S];
    float first[6][S * S], again[S * S];
    cx_augment a = { 20, 0.1, 0.2, 0.1, 0.3, true };
    picture(film);
    for (int i = 0; i < 6; i++)
        cx_augment_film(film, S, &a, 4, i / 3, (uint64_t)(i % 3), &grey255, first[i]);
    for (int i = 5; i >= 0; i--) {
        cx_augment_film(film, S, &a, 4, i / 3, (uint64_t)(i % 3), &grey255, again);
        assert_memory_equal(again, first[i], sizeof again);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(first[i], first[j], sizeof again);
    }
    cx_augment_film(film, S, &a, 5, 0, 0, &grey255, again);
    assert_memory_not_equal(again, first[0], sizeof again);
}

/* Drawing and applying are augmentation in two halves: for films of a batch in any order, and without a look at the film where its mean is not wanted. */
static void draws_can_wait(void **state)
{
    (void)state;
    enum { N = 5 };
    uint8_t films[N * S * S];
    float want[N][S * S * 3], got[N * S * S * 3];
    cx_film_draw draw[N];
    cx_augment a = { 25, 0.1, 0.2, 0.1, 0.3, true };
    picture(films);
    for (int i = S * S; i < N * S * S; i++)
        films[i] = (uint8_t)(films[i - S * S] * 7 + 13);
    for (int i = 0; i < N; i++) {
        const int film = (3 * i + 1) % N;
        cx_augment_film(films + film * S * S, S, &a, 4, 9, (uint64_t)i, &CX_NORM_IMAGENET, want[i]);
        draw[i] = cx_draw_film(films + film * S * S, S, 1, &a, 4, 9, (uint64_t)i);
        assert_true(draw[i].film == 0 && draw[i].warp);
        draw[i].film = film;
    }
    cx_apply_draws(films, S, draw, N, &CX_NORM_IMAGENET, got);
    assert_memory_equal(got, want, sizeof got);
    a.brightness = a.contrast = 0;
    cx_film_draw blind = cx_draw_film(NULL, S, 1, &a, 4, 9, 0), none = cx_draw_film(NULL, S, 1, NULL, 4, 9, 0);
    assert_true(blind.ax == draw[0].ax && blind.bx == draw[0].bx && blind.cx == draw[0].cx && blind.gain == 1 && blind.lift == 0);
    assert_true(!none.warp && none.gain == 1 && none.lift == 0);
}

/* Planes get one draw: channel c is what its own mean and deviation make of plane c alone, warped and lit alike. Contrast turns about the mean of all. */
static void planes_become_channels(void **state)
{
    (void)state;
    uint8_t film[3 * S * S];
    float all[S * S * 3], one[S * S];
    cx_normalise three = CX_NORM_IMAGENET;
    const cx_augment a = { 25, 0.1, 0.2, 0.1, 0.3, true };
    double mean = 0;
    three.planes = 3;
    picture(film);
    for (int i = 0; i < 3 * S * S; i++) {
        film[i] = (uint8_t)(i < S * S ? film[i] : film[i - S * S] * 5 + 31);
        mean += film[i] / (3.0 * S * S);
    }
    cx_augment_film(film, S, &a, 4, 9, 2, &three, all);
    cx_film_draw d = cx_draw_film(film, S, 3, &a, 4, 9, 2), plain = cx_draw_film(film, S, 1, &a, 4, 9, 2);
    assert_true(d.gain == plain.gain && d.ax == plain.ax && d.cy == plain.cy && d.lift != plain.lift);
    cx_film_draw still = cx_draw_film(film, S, 3, &(cx_augment){ .contrast = 0.3 }, 4, 9, 2);
    assert_true(fabs((double)still.gain * mean + (double)still.lift - mean) < 1e-4);
    for (int c = 0; c < 3; c++) {
        const cx_normalise alone = { .channels = 1, .mean = { three.mean[c] }, .std = { three.std[c] } };
        cx_apply_draws(film + c * S * S, S, &d, 1, &alone, one);
        for (int i = 0; i < S * S; i++)
            assert_memory_equal(&all[3 * i + c], &one[i], sizeof *one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_drawn_is_identity), cmocka_unit_test(warps_are_as_defined), cmocka_unit_test(quarter_turn),
        cmocka_unit_test(flip_mirrors_half_of_them), cmocka_unit_test(brightness_and_contrast), cmocka_unit_test(pure_whatever_the_order),
        cmocka_unit_test(draws_can_wait), cmocka_unit_test(planes_become_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
