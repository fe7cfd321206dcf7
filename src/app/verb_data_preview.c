/* verb_data_preview.c - `cxnet data preview`: a contact sheet of a few films after every stage of their preprocessing. Depends on app.h. */
#include <stdlib.h>
#include <string.h>
#include "app.h"

enum { TILE_PX = 224, GAP_PX = 10, LINE_PX = CX_FONT_HEIGHT_PX + 3, LINES = 4, MARGIN_PX = 12, FILMS_MAX = 64 };
static const cx_rgb ground = { 24, 24, 24 }, ink = { 200, 200, 200 }, warning = { 230, 190, 90 };

typedef struct { cx_canvas canvas; const cx_manifest *m; const cx_pipeline *p; int columns; } sheet;

static int left_of(int column) { return MARGIN_PX + column * (TILE_PX + GAP_PX); }
static int top_of(int row) { return MARGIN_PX + LINES * LINE_PX + row * (TILE_PX + LINES * LINE_PX + GAP_PX); }

/* How many bytes of text make a line that fits a tile: whole words, or a part of one that is too long. */
static size_t line_bytes(const char *text)
{
    char line[128];
    size_t fits = 0, words = 0;
    for (size_t n = 1; n < sizeof line && text[n - 1]; n++) {
        snprintf(line, n + 1, "%s", text);
        if (cx_text_width_px(line, 1) > TILE_PX)
            return words ? words : fits;
        fits = n;
        if (!text[n] || text[n] == ' ')
            words = n;
    }
    return fits;
}

static void wrapped(cx_canvas *c, int x, int y, cx_rgb colour, const char *text)
{
    char line[128];
    for (int k = 0; k < LINES && *text; k++) {
        const size_t n = line_bytes(text);
        snprintf(line, n + 1, "%s", text);
        cx_canvas_text(c, x, y + k * LINE_PX, 1, colour, line);
        text += n + (text[n] == ' ');
    }
}

/* One plane of a picture into its tile, its sides in proportion. */
static cx_status draw_plane(sheet *s, const cx_picture *p, int plane, int row, int column, cx_error *err)
{
    const size_t n = (size_t)p->width * (size_t)p->height;
    cx_film f = { .width = p->width, .height = p->height, .max = 255, .px = cx_alloc(n, sizeof *f.px) };
    if (!f.px)
        return cx_fail(err, CX_E_MEMORY, "no memory to draw a film of %d x %d px", p->width, p->height);
    for (size_t i = 0; i < n; i++)
        f.px[i] = p->px[(size_t)plane * n + i];
    const int longer = f.width > f.height ? f.width : f.height, w = TILE_PX * f.width / longer, h = TILE_PX * f.height / longer;
    cx_status status = cx_canvas_film(&s->canvas, &f, left_of(column) + (TILE_PX - w) / 2, top_of(row) + (TILE_PX - h) / 2, w > 0 ? w : 1, h > 0 ? h : 1, err);
    free(f.px);
    return status;
}

/* The last words of a path that fit a tile. */
static const char *tail(const char *path)
{
    const char *p = path;
    while (*p && cx_text_width_px(p, 1) > TILE_PX)
        p++;
    return p;
}

/* A row: the film, then what each stage makes of it; planes have columns of their own. */
static cx_status draw_row(sheet *s, const char *name, const cx_film *film, const uint8_t *mask, int row, cx_error *err)
{
    int column = 0;
    char said[sizeof(((cx_picture *)0)->note)] = "", size[64];
    for (int k = 0; k <= cx_pipeline_stages(s->p); k++) {
        cx_picture at;
        TRY(cx_pipeline_apply(s->p, film, mask, k, &at, err));
        const int y = top_of(row) + TILE_PX + 3;
        snprintf(size, sizeof size, "%d x %d px", at.width, at.height);
        if (at.planes == 1)
            cx_canvas_text(&s->canvas, left_of(column), y, 1, ink, size);
        if (!k)
            cx_canvas_text(&s->canvas, left_of(column), y + LINE_PX, 1, ink, tail(name));
        else if (strcmp(at.note, said))
            wrapped(&s->canvas, left_of(column), y + LINE_PX, warning, at.note);
        memcpy(said, at.note, sizeof said);
        cx_status status = CX_OK;
        for (int plane = 0; plane < at.planes && status == CX_OK; plane++) {
            snprintf(size, sizeof size, "%d x %d px, channel %d", at.width, at.height, plane + 1);
            if (at.planes > 1)
                cx_canvas_text(&s->canvas, left_of(column), y, 1, ink, size);
            status = draw_plane(s, &at, plane, row, column++, err);
        }
        cx_picture_free(&at);
        TRY(status);
    }
    return CX_OK;
}

/* A film that cannot be shown says why in its row. */
static cx_status draw_film(sheet *s, int sample, int row, cx_error *err)
{
    char *path = cx_sample_path(s->m, sample);
    uint8_t *mask = NULL;
    cx_film film = { 0 };
    cx_error why = { 0 };
    if (!path)
        return cx_fail(err, CX_E_MEMORY, "no memory for a path");
    cx_status status = cx_film_load(path, &film, &why);
    if (status == CX_OK)
        status = cx_pipeline_masks(s->p, (const cx_film *const[]){ &film }, 1, &mask, &why);
    if (status == CX_OK)
        status = draw_row(s, s->m->samples[sample].path, &film, mask, row, &why);
    if (status != CX_OK)
        wrapped(&s->canvas, left_of(0), top_of(row) + TILE_PX / 2, warning, why.text);
    cx_film_free(&film);
    free(mask);
    free(path);
    if (status == CX_E_MEMORY)
        *err = why;
    return status == CX_E_MEMORY ? status : CX_OK;
}

static cx_status draw_sheet(sheet *s, int films, const char *path, cx_error *err)
{
    cx_buf png = { 0 };
    const int stages = cx_pipeline_stages(s->p), planes = cx_pipeline_planes(s->p);
    s->columns = stages + planes;
    TRY(cx_canvas_new(left_of(s->columns) - GAP_PX + MARGIN_PX, top_of(films) + MARGIN_PX, ground, &s->canvas, err));
    cx_canvas_text(&s->canvas, left_of(0), MARGIN_PX, 1, ink, "film");
    for (int k = 0; k < stages; k++)
        wrapped(&s->canvas, left_of(k + 1), MARGIN_PX, ink, cx_pipeline_stage(s->p, k));
    cx_status status = CX_OK;
    for (int i = 0; i < films && status == CX_OK; i++)
        status = draw_film(s, films > 1 ? (int)((int64_t)i * (s->m->n - 1) / (films - 1)) : 0, i, err);
    if (status == CX_OK)
        status = cx_png_rgb(&s->canvas, &png, err);
    if (status == CX_OK)
        status = cx_file_write(path, png.data, png.len, err);
    cx_buf_free(&png);
    cx_canvas_free(&s->canvas);
    return status;
}

static cx_status preview(const cx_args *a, const cx_config *c, cx_error *err)
{
    int films;
    cx_manifest m;
    cx_pipeline *p;
    cx_normalise norm;
    cx_lung_finder *lungs;
    const char *path = cx_arg(a, "--out");
    TRY(cx_arg_int(a, "--films", 6, 1, FILMS_MAX, &films, err));
    if (!*c->data.manifest)
        return cx_fail(err, CX_E_CONFIG, "data.manifest is not set: name the manifest CSV of the films, e.g. --set data.manifest=cohort/manifest.csv");
    TRY(cx_manifest_load(c->data.manifest, &m, err));
    cx_status s = cx_config_input(c, &p, &norm, &lungs, err);
    if (s == CX_OK) {
        films = films < m.n ? films : m.n;
        s = draw_sheet(&(sheet){ .m = &m, .p = p }, films, path ? path : "preview.png", err);
        cx_pipeline_free(p);
        cx_lung_finder_close(lungs);
    }
    if (s == CX_OK)
        printf("%s: %d films after each of %d stages\n", path ? path : "preview.png", films, (int)c->preprocess.stages.n);
    cx_manifest_free(&m);
    return s;
}

static cx_status run_preview(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    cx_config c;
    TRY(cx_app_config(a, a->positional[0], &c, err));
    cx_status s = preview(a, &c, err);
    cx_config_free(&c);
    return s;
}

static const cx_flag preview_flags[] = {
    { "--films", "N", "films, spread over the manifest; absent: 6" },
    { "--out", "FILE.png", "the picture to write; absent: preview.png" },
    CX_FLAG_SET,
};
const cx_verb cx_verb_data_preview = {
    .name = "data preview", .args = "FILE.yaml", .doc = "show a few films after every stage of preprocess.stages, as one picture", .min_args = 1, .max_args = 1,
    .run = run_preview, .flags = preview_flags, .n_flags = CX_COUNT(preview_flags),
    .more = "A row for each film, a column for each stage and for each plane of the network's input. A stage that had nothing to work with says so "
            "under its picture. Look at it before a night's run.\n"
};
