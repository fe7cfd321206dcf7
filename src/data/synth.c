/* synth.c - a synthetic cohort: who is ill, who carries which shortcut, and the files on disk. The drawing is in synth_film.c. Depends on image (PNG), base. */
#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "cxnet/data.h"
#include "synth.h"

enum { MIN_SIDE = 32, MAX_SIDE = 2048, MAX_PATIENTS = 100000 };

static const char *const CLINIC[2] = { "clinic-a", "clinic-b" };

static cx_status check_options(const cx_synth_opts *o, cx_error *err)
{
    if (o->patients < 2 || o->patients > MAX_PATIENTS)
        return cx_fail(err, CX_E_CONFIG, "synthetic cohort: patients: want 2 to %d, got %d", MAX_PATIENTS, o->patients);
    if (o->side < MIN_SIDE || o->side > MAX_SIDE)
        return cx_fail(err, CX_E_CONFIG, "synthetic cohort: side: want %d to %d px, got %d", MIN_SIDE, MAX_SIDE, o->side);
    if (!(o->marker_bias >= 0 && o->marker_bias <= 1))
        return cx_fail(err, CX_E_CONFIG, "synthetic cohort: marker_bias: want 0 to 1, got %g", o->marker_bias);
    if (!(o->exposure_bias >= 0 && o->exposure_bias <= 1))
        return cx_fail(err, CX_E_CONFIG, "synthetic cohort: exposure_bias: want 0 to 1, got %g", o->exposure_bias);
    return CX_OK;
}

/* True with probability 1/2 + bias/2 where `with`, 1/2 - bias/2 otherwise: bias 0 is a fair coin, 1 the class itself. */
static bool biased_coin(cx_rng *r, double bias, bool with)
{
    return cx_rng_uniform(r) < (with ? 0.5 + 0.5 * bias : 0.5 - 0.5 * bias);
}

/* Half of the patients are ill, half of them per clinic as far as numbers allow. Each film's coins are its own, so that
 * another bias changes the shortcuts and nothing else. */
static cx_status plan_cohort(const cx_synth_opts *o, cx_synth_case **cases, int *n, cx_error *err)
{
    int *order = cx_alloc((size_t)o->patients, sizeof *order);
    cx_synth_case *c = cx_alloc((size_t)o->patients * 3, sizeof *c);
    if (!order || !c) {
        free(order);
        free(c);
        return cx_fail(err, CX_E_MEMORY, "synthetic cohort: no memory for %d patients", o->patients);
    }
    for (int p = 0; p < o->patients; p++)
        order[p] = p;
    cx_rng mix = cx_rng_new(o->seed, cx_hash("synth order"));
    cx_rng_shuffle(&mix, order, o->patients);
    int films = 0;
    for (int p = 0; p < o->patients; p++) {
        int rank = order[p];
        cx_rng count = cx_rng_new(o->seed, cx_hash("synth patient") + (uint64_t)p);
        int takes = 1 + (int)cx_rng_below(&count, 3);
        for (int k = 0; k < takes; k++, films++) {
            cx_rng coin = cx_rng_new(o->seed, cx_hash("synth coin") + (uint64_t)films);
            c[films] = (cx_synth_case){ .seed = o->seed, .patient = p, .film = films, .source = rank / 2 % 2, .opacities = rank % 2 };
            c[films].marker = biased_coin(&coin, o->marker_bias, c[films].opacities);
            c[films].dark = biased_coin(&coin, o->exposure_bias, c[films].opacities);
        }
    }
    free(order);
    *cases = c;
    *n = films;
    return CX_OK;
}

static cx_status allocate(cx_synth *s, int n, int side, cx_error *err)
{
    size_t px = (size_t)side * (size_t)side;
    *s = (cx_synth){ .n = n, .side = side };
    s->film = cx_alloc((size_t)n, px);
    s->lung = cx_alloc((size_t)n, px);
    s->marker = cx_alloc((size_t)n, px);
    s->label = cx_alloc((size_t)n, sizeof(int));
    s->patient = cx_alloc((size_t)n, sizeof(int));
    s->source = cx_alloc((size_t)n, sizeof(int));
    if (s->film && s->lung && s->marker && s->label && s->patient && s->source)
        return CX_OK;
    cx_synth_free(s);
    return cx_fail(err, CX_E_MEMORY, "synthetic cohort: no memory for %d films of %d px", n, side);
}

cx_status cx_synth_make(const cx_synth_opts *o, cx_synth *out, cx_error *err)
{
    *out = (cx_synth){ 0 };
    cx_synth_case *cases = NULL;
    int n = 0;
    TRY(check_options(o, err));
    TRY(plan_cohort(o, &cases, &n, err));
    size_t px = (size_t)o->side * (size_t)o->side;
    cx_status status = allocate(out, n, o->side, err);
    float *scratch = status == CX_OK ? cx_alloc((size_t)omp_get_max_threads() * px, 4 * sizeof *scratch) : NULL;
    if (status == CX_OK && !scratch)
        status = cx_fail(err, CX_E_MEMORY, "synthetic cohort: no memory to draw %d px films", o->side);
    if (status == CX_OK) {
#pragma omp parallel for schedule(dynamic, 4)
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)i * px;
            cx_synth_draw(&cases[i], o->side, scratch + (size_t)omp_get_thread_num() * 4 * px, out->film + at, out->lung + at, out->marker + at);
            out->label[i] = cases[i].opacities;
            out->patient[i] = cases[i].patient;
            out->source[i] = cases[i].source;
        }
    } else {
        cx_synth_free(out);
    }
    free(scratch);
    free(cases);
    return status;
}

void cx_synth_free(cx_synth *s)
{
    free(s->film);
    free(s->lung);
    free(s->marker);
    free(s->label);
    free(s->patient);
    free(s->source);
    *s = (cx_synth){ 0 };
}

/* ---- files --------------------------------------------------------------------------------------------------------------- */

/* Written plainly: a flush to the disk per picture would cost more than drawing it. The manifest comes last and safely, so that a cohort with one is whole. */
static cx_status write_file(const char *path, const cx_buf *b, cx_error *err)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return cx_fail(err, CX_E_CREATE, "%s: cannot be created: %s", path, strerror(errno));
    size_t n = fwrite(b->data, 1, b->len, f);
    if (fclose(f) != 0 || n != b->len)
        return cx_fail(err, CX_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    return CX_OK;
}

static cx_status write_picture(const char *dir, const char *name, const uint8_t *px, int side, cx_error *err)
{
    size_t n = (size_t)side * (size_t)side;
    uint16_t *wide = cx_alloc(n, sizeof *wide);
    char *path = cx_path_join(dir, name);
    cx_buf png = { 0 };
    for (size_t i = 0; i < n && wide; i++)
        wide[i] = px[i];
    cx_status s = wide && path ? cx_png_grey(wide, side, side, 255, &png, err) : cx_fail(err, CX_E_MEMORY, "%s: no memory", name);
    if (s == CX_OK)
        s = write_file(path, &png, err);
    cx_buf_free(&png);
    free(path);
    free(wide);
    return s;
}

typedef struct { char film[32], lung[32], marker[32]; } names;

static names names_of(int i)
{
    names n;
    snprintf(n.film, sizeof n.film, "films/%04d.png", i);
    snprintf(n.lung, sizeof n.lung, "lungs/%04d.png", i);
    snprintf(n.marker, sizeof n.marker, "markers/%04d.png", i);
    return n;
}

static cx_status write_film(const cx_synth *s, int i, const char *dir, cx_error *err)
{
    size_t at = (size_t)i * (size_t)s->side * (size_t)s->side;
    names n = names_of(i);
    TRY(write_picture(dir, n.film, s->film + at, s->side, err));
    TRY(write_picture(dir, n.lung, s->lung + at, s->side, err));
    return write_picture(dir, n.marker, s->marker + at, s->side, err);
}

static cx_status write_films(const cx_synth *s, const char *dir, cx_error *err)
{
    cx_status worst = CX_OK;
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < s->n; i++) {
        cx_error mine = { 0 };
        cx_status status = write_film(s, i, dir, &mine);
        if (status == CX_OK)
            continue;
#pragma omp critical
        if (worst == CX_OK) {
            worst = status;
            if (err)
                *err = mine;
        }
    }
    return worst;
}

static cx_status write_manifest(const cx_synth *s, const char *dir, cx_error *err)
{
    cx_buf csv = { 0 };
    cx_buf_puts(&csv, "path,labels,patient_id,view,source,mask,marker\n");
    for (int i = 0; i < s->n; i++) {
        names n = names_of(i);
        cx_buf_printf(&csv, "%s,%s,synthetic-%04d,PA,%s,%s,%s\n", n.film, s->label[i] ? "Opacity" : "No Finding", s->patient[i],
                      CLINIC[s->source[i]], n.lung, n.marker);
    }
    char *path = cx_path_join(dir, "manifest.csv");
    cx_status status = path && !csv.failed ? cx_file_write(path, csv.data, csv.len, err) : cx_fail(err, CX_E_MEMORY, "%s: no memory for the manifest", dir);
    free(path);
    cx_buf_free(&csv);
    return status;
}

static cx_status make_folders(const char *dir, cx_error *err)
{
    static const char *const name[] = { "films", "lungs", "markers" };
    for (int i = 0; i < CX_COUNT(name); i++) {
        char *path = cx_path_join(dir, name[i]);
        cx_status s = path ? cx_mkdirs(path, err) : cx_fail(err, CX_E_MEMORY, "%s: no memory", dir);
        free(path);
        TRY(s);
    }
    return CX_OK;
}

cx_status cx_synth_write(const cx_synth *s, const char *dir, cx_error *err)
{
    TRY(make_folders(dir, err));
    TRY(write_films(s, dir, err));
    return write_manifest(s, dir, err);
}
