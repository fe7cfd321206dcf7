/* audit_sheet.c - a contact sheet of duplicate pairs, so that a person can judge them. Depends on image (canvas), base. */
#include <stdlib.h>
#include <string.h>
#include "audit.h"

enum { FILM_PX = 200, GAP_PX = 12, TEXT_PX = 2 * (CX_FONT_HEIGHT_PX + 4) + 4, ACROSS = 3, MAX_SHEET_PAIRS = 600 };

static int by_nearness(const void *a, const void *b)
{
    const cx_pair *x = a, *y = b;
    if (x->exact != y->exact)
        return y->exact - x->exact;
    if (x->likeness != y->likeness)
        return x->likeness < y->likeness ? 1 : -1;
    return x->a != y->a ? (x->a > y->a) - (x->a < y->a) : (x->b > y->b) - (x->b < y->b);
}

/* The end of a path that fits the width of a film. */
static const char *tail(const char *path)
{
    size_t n = strlen(path);
    while (n && cx_text_width_px(path + strlen(path) - n, 1) > FILM_PX - 4)
        n--;
    return path + strlen(path) - n;
}

static cx_status draw_film(cx_canvas *c, const cx_manifest *m, int i, int x, int y, cx_error *err)
{
    static const cx_rgb ink = { 200, 200, 200 };
    char *path = cx_sample_path(m, i);
    cx_film f = { 0 };
    if (!path)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for a path", m->path);
    cx_status s = cx_film_load(path, &f, err);
    free(path);
    TRY(s);
    int w = f.width >= f.height ? FILM_PX : FILM_PX * f.width / f.height, h = f.width >= f.height ? FILM_PX * f.height / f.width : FILM_PX;
    s = cx_canvas_film(c, &f, x + (FILM_PX - w) / 2, y + (FILM_PX - h) / 2, w > 0 ? w : 1, h > 0 ? h : 1, err);
    cx_film_free(&f);
    cx_canvas_text(c, x + 2, y + FILM_PX + 4, 1, ink, tail(m->samples[i].path));
    return s;
}

static cx_status draw_pair(cx_canvas *c, const cx_manifest *m, const cx_pair *p, int at, cx_error *err)
{
    static const cx_rgb exact = { 130, 200, 130 }, near = { 230, 190, 90 };
    int x = GAP_PX + at % ACROSS * (2 * FILM_PX + 2 * GAP_PX), y = GAP_PX + at / ACROSS * (FILM_PX + TEXT_PX + GAP_PX);
    char text[96];
    TRY(draw_film(c, m, p->a, x, y, err));
    TRY(draw_film(c, m, p->b, x + FILM_PX + 2, y, err));
    if (p->exact)
        snprintf(text, sizeof text, "exact copy");
    else
        snprintf(text, sizeof text, "near: likeness %.2f, dhash %d, phash %d", (double)p->likeness, p->dhash_bits, p->phash_bits);
    cx_canvas_text(c, x + 2, y + FILM_PX + 4 + CX_FONT_HEIGHT_PX + 4, 1, p->exact ? exact : near, text);
    return CX_OK;
}

static cx_status draw_sheet(const cx_manifest *m, const cx_pair *pairs, int n, const char *png_path, cx_error *err)
{
    cx_canvas c = { 0 };
    cx_buf png = { 0 };
    int lines = n > 0 ? (n + ACROSS - 1) / ACROSS : 1;
    TRY(cx_canvas_new(GAP_PX + ACROSS * (2 * FILM_PX + 2 * GAP_PX), GAP_PX + lines * (FILM_PX + TEXT_PX + GAP_PX), (cx_rgb){ 24, 24, 24 }, &c, err));
    cx_status s = CX_OK;
    if (n == 0)
        cx_canvas_text(&c, GAP_PX, GAP_PX, 2, (cx_rgb){ 200, 200, 200 }, "No duplicates.");
    for (int k = 0; k < n && s == CX_OK; k++)
        s = draw_pair(&c, m, &pairs[k], k, err);
    if (s == CX_OK)
        s = cx_png_rgb(&c, &png, err);
    if (s == CX_OK)
        s = cx_file_write(png_path, png.data, png.len, err);
    cx_buf_free(&png);
    cx_canvas_free(&c);
    return s;
}

cx_status cx_audit_sheet(const cx_manifest *m, const cx_audit *a, int max_pairs, const char *png_path, cx_error *err)
{
    cx_pair *order = cx_alloc((size_t)a->n_pairs, sizeof *order);
    if (!order)
        return cx_fail(err, CX_E_MEMORY, "%s: no memory for %d pairs", m->path, a->n_pairs);
    if (a->n_pairs)
        memcpy(order, a->pairs, (size_t)a->n_pairs * sizeof *order);
    qsort(order, (size_t)a->n_pairs, sizeof *order, by_nearness);
    int most = max_pairs < MAX_SHEET_PAIRS ? max_pairs : MAX_SHEET_PAIRS;
    cx_status s = draw_sheet(m, order, a->n_pairs < most ? a->n_pairs : most, png_path, err);
    free(order);
    return s;
}
