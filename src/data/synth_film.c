/* synth_film.c - draws one procedural chest film: tissue along each ray adds up to a density, a film curve makes it grey. Depends on base (Philox).
 *
 * The body lives in a frame of its own: a = distance from the midline and y = height, both in shares of the film, y down; side +1 is the picture's right, the
 * patient's left. A pose (rotation, zoom, shift) maps pixels into that frame. Density 0 is air, about 0.3 aerated lung, 0.6 soft tissue, 0.9 spine. */
#include <math.h>
#include <string.h>
#include "synth.h"

enum { MAX_RIBS = 14, LATTICE = 24, MAX_BLOBS = 9, OUTLINE = 128 };

typedef struct { float dx, y, rx, ry, sin, cos; } ellipse;

/* A person: the same for all films of a patient. */
typedef struct {
    float width, apex, angle, chest, dome[2];         /* body scale; lung top, costophrenic angle, outer half-width, diaphragm domes */
    float shoulder, torso;                            /* slope of the shoulders, half-width of the trunk */
    float rib_y, rib_step, rib_width, rib_drop, rib_shift[2][MAX_RIBS];
    float clavicle_y, clavicle_rise;
    ellipse ventricle, atrium, knob, bubble;
    float hilum_y, breast, fat, bone;
    bool has_bubble;
    float outline[OUTLINE + 1];
} anatomy;

/* One exposure of that person. */
typedef struct {
    float sin, cos, zoom, shift_x, shift_y;           /* pixel to body frame */
    float exposure, gain, noise, vignette, tilt, border[4];
    float breath;                                     /* deeper or shallower inspiration, moves the diaphragm */
    float lattice[LATTICE * LATTICE];                 /* value noise */
} shot;

typedef struct { float dx, y, rx, ry, sin, cos, amount; } blob;

static float uniform(cx_rng *r, float lo, float hi) { return lo + (hi - lo) * (float)cx_rng_uniform(r); }

static float clamp01(float v) { return v < 0 ? 0 : v > 1 ? 1 : v; }

/* 0 below e0, 1 above e1 (or the reverse when e1 < e0), smooth between. */
static float ramp(float v, float e0, float e1)
{
    float t = clamp01((v - e0) / (e1 - e0));
    return t * t * (3 - 2 * t);
}

static ellipse oval(float dx, float y, float rx, float ry, float degrees)
{
    float t = degrees * 0.01745329f;
    return (ellipse){ dx, y, rx, ry, sinf(t), cosf(t) };
}

/* Squared radius in units of the ellipse: < 1 inside. */
static float oval_r2(const ellipse *e, float dx, float y)
{
    float u = dx - e->dx, v = y - e->y;
    float a = (u * e->cos + v * e->sin) / e->rx, b = (v * e->cos - u * e->sin) / e->ry;
    return a * a + b * b;
}

static void make_anatomy(cx_rng *r, anatomy *p)
{
    p->width = uniform(r, 0.93f, 1.06f);
    p->apex = uniform(r, 0.075f, 0.11f);
    p->angle = uniform(r, 0.81f, 0.87f);
    p->chest = uniform(r, 0.36f, 0.40f);
    p->dome[0] = uniform(r, 0.70f, 0.755f);
    p->dome[1] = p->dome[0] + uniform(r, 0.0f, 0.035f);
    p->shoulder = uniform(r, 0.65f, 1.05f);
    p->torso = uniform(r, 0.465f, 0.51f);
    p->rib_y = uniform(r, 0.055f, 0.085f);
    p->rib_step = uniform(r, 0.072f, 0.081f);
    p->rib_width = uniform(r, 0.0125f, 0.016f);
    p->rib_drop = uniform(r, 0.07f, 0.13f);
    for (int s = 0; s < 2; s++)
        for (int k = 0; k < MAX_RIBS; k++)
            p->rib_shift[s][k] = uniform(r, -0.005f, 0.005f);
    p->clavicle_y = uniform(r, 0.185f, 0.225f);
    p->clavicle_rise = uniform(r, 0.05f, 0.10f);
    float heart = uniform(r, 0.90f, 1.10f), low = uniform(r, -0.02f, 0.02f);
    p->ventricle = oval(0.062f, 0.640f + low, 0.190f * heart, 0.122f * heart, uniform(r, 32, 46));
    p->atrium = oval(-0.008f, 0.620f + low, 0.098f * heart, 0.165f * heart, uniform(r, -8, 4));
    p->knob = oval(0.036f, uniform(r, 0.29f, 0.33f), uniform(r, 0.044f, 0.062f), 0.062f, 0);
    p->bubble = oval(uniform(r, 0.14f, 0.2f), p->dome[1] + uniform(r, 0.06f, 0.075f), uniform(r, 0.05f, 0.085f), uniform(r, 0.025f, 0.04f), uniform(r, -12, 5));
    p->has_bubble = cx_rng_uniform(r) < 0.6;
    for (int k = 0; k <= OUTLINE; k++) {
        float rest = 1 - (float)k / OUTLINE;
        p->outline[k] = 0.10f + (p->chest - 0.10f) * powf(1 - rest * rest * rest, 0.60f);
    }
    p->hilum_y = uniform(r, 0.42f, 0.47f);
    p->breast = cx_rng_uniform(r) < 0.45 ? uniform(r, 0.03f, 0.075f) : 0;
    p->fat = uniform(r, 0.0f, 0.05f);
    p->bone = uniform(r, 0.8f, 1.25f);
}

static void make_shot(cx_rng *r, const cx_synth_case *c, shot *s)
{
    float t = uniform(r, -4.0f, 4.0f) * 0.01745329f;
    s->sin = sinf(t);
    s->cos = cosf(t);
    s->zoom = uniform(r, 0.87f, 1.0f) * (c->source ? 0.96f : 1.0f);
    s->shift_x = uniform(r, -0.035f, 0.035f);
    s->shift_y = uniform(r, -0.03f, 0.03f);
    s->exposure = uniform(r, -0.035f, 0.035f) - (c->dark ? 0.10f : 0.0f);
    s->gain = uniform(r, 4.2f, 5.0f) * (c->source ? 1.14f : 1.0f);
    s->noise = uniform(r, 0.008f, 0.014f) * (c->source ? 1.5f : 1.0f);
    s->vignette = uniform(r, 0.05f, 0.16f);
    s->tilt = uniform(r, -0.05f, 0.05f);
    s->breath = uniform(r, -0.02f, 0.015f);
    for (int i = 0; i < 4; i++)
        s->border[i] = c->source && cx_rng_uniform(r) < 0.4 ? uniform(r, 0.005f, 0.035f) : 0;
    for (int i = 0; i < LATTICE * LATTICE; i++)
        s->lattice[i] = uniform(r, -1, 1);
}

/* Smooth value noise, about `cells` bumps across the film, in -1..1. */
static float lattice_at(const shot *s, float x, float y, float cells)
{
    float u = x * cells + 64, v = y * cells + 64;
    int iu = (int)u, iv = (int)v;
    float fu = u - (float)iu, fv = v - (float)iv;
    fu = fu * fu * (3 - 2 * fu);
    fv = fv * fv * (3 - 2 * fv);
    int u0 = iu % LATTICE, u1 = (iu + 1) % LATTICE, v0 = iv % LATTICE * LATTICE, v1 = (iv + 1) % LATTICE * LATTICE;
    float top = s->lattice[v0 + u0] + fu * (s->lattice[v0 + u1] - s->lattice[v0 + u0]);
    float low = s->lattice[v1 + u0] + fu * (s->lattice[v1 + u1] - s->lattice[v1 + u0]);
    return top + fv * (low - top);
}

/* ---- the lungs' outline ------------------------------------------------------------------------------------------------- */

static float lung_t(const anatomy *p, float y) { return clamp01((y - p->apex) / (p->angle - p->apex)); }

/* The outer wall: rounded at the apex, almost upright below. From a table, since every ray asks for it. */
static float lung_outer(const anatomy *p, float t)
{
    float at = t * OUTLINE;
    int k = (int)at;
    return k >= OUTLINE ? p->outline[OUTLINE] : p->outline[k] + (at - (float)k) * (p->outline[k + 1] - p->outline[k]);
}

static float lung_inner(float t) { return 0.10f - 0.042f * sqrtf(clamp01(t * 5)); }

/* Height of the diaphragm: a dome on either side, the right one higher, that falls to a sharp costophrenic angle outside. */
static float diaphragm(const anatomy *p, const shot *s, float dx)
{
    float left = ramp(dx, -0.08f, 0.08f), dome = p->dome[0] + left * (p->dome[1] - p->dome[0]), u = fabsf(dx) - 0.19f;
    if (u <= 0)
        return dome + s->breath + 0.9f * u * u;
    float v = u / (p->chest - 0.19f);
    return dome + s->breath + (p->angle - dome) * v * v * (0.62f + 0.38f * v);
}

/* Membership in a lung 0..1, without the heart's cut. */
static float lung_at(const anatomy *p, const shot *s, float dx, float y, float edge)
{
    float a = fabsf(dx);
    float t = (y - p->apex) / (p->angle - p->apex);
    if (t <= 0 || t > 1.08f)
        return 0;
    t = clamp01(t);
    float in = ramp(lung_outer(p, t) - a, -edge, edge) * ramp(a - lung_inner(t), -1.6f * edge, 1.6f * edge);
    return in > 0 ? in * ramp(diaphragm(p, s, dx) - y, -edge, edge) : 0;
}

/* Heart, aortic knob and the great vessels between them: borders blur where the wall moves and slants. */
static float heart_at(const anatomy *p, float dx, float y)
{
    float v = ramp(oval_r2(&p->ventricle, dx, y), 1.22f, 0.84f), w = ramp(oval_r2(&p->atrium, dx, y), 1.30f, 0.80f);
    float k = ramp(oval_r2(&p->knob, dx, y), 1.45f, 0.65f);
    float reach = 0.068f + 0.012f * ramp(y, 0.30f, 0.20f) + 0.030f * ramp(y, 0.40f, 0.52f);
    float stem = ramp(fabsf(dx - 0.006f), reach + 0.016f, reach - 0.014f) * ramp(y, 0.10f, 0.26f);
    float most = v > w ? v : w;
    most = k > most ? k : most;
    return stem > most ? stem : most;
}

/* ---- bones ------------------------------------------------------------------------------------------------------------------ */

/* Cross-section of a rib at distance v from its axis: a tube whose lower edge is brighter. */
static float tube(float v, float width)
{
    float q = v / width;
    if (q < -1.25f || q > 1.25f)
        return 0;
    float body = ramp(fabsf(q), 1.25f, 0.7f);
    return body * (0.72f + 0.28f * q);
}

/* The nearest of a family of ribs whose axis passes through `axis` + k * step. */
static float rib_family(const anatomy *p, int side, float axis_y, float width, int first, int last)
{
    float k = axis_y / p->rib_step;
    int n = (int)floorf(k + 0.5f);
    if (n < first || n > last)
        return 0;
    return tube(axis_y - (float)n * p->rib_step - p->rib_shift[side > 0][n], width);
}

static float ribs_at(const anatomy *p, float a, float y, int side)
{
    float t = lung_t(p, y), wall = lung_outer(p, t) + 0.018f;
    if (a < 0.045f || a > wall)
        return 0;
    float u = a / wall, u2 = u * u, u4 = u2 * u2;
    float end = 1 - ramp(u, 0.94f, 1.0f);
    /* posterior: out of the spine, slightly up, then down and steeply down along the wall; fading outwards */
    float drop = p->rib_drop * (0.25f + 0.75f * t);
    float back_y = y - p->rib_y + 0.028f * ramp(u, 0.05f, 0.35f) - drop * u2 - 0.09f * u4 * u4;
    float back = rib_family(p, side, back_y, p->rib_width, 1, 11) * (1.0f - 0.45f * u) * end * ramp(a, 0.045f, 0.075f);
    /* anterior: from the wall down and inwards, ending in cartilage */
    float front_y = y - p->rib_y - drop - 0.10f - 0.26f * (1 - u) * (1.25f - 0.25f * (1 - u));
    float front = rib_family(p, side, front_y, p->rib_width * 1.15f, 0, 6) * ramp(u, 0.40f, 0.82f) * end;
    return back + 0.75f * front;
}

static float clavicle_at(const anatomy *p, float a, float y)
{
    float u = (a - 0.045f) / 0.36f;
    if (u < 0 || u > 1.2f)
        return 0;
    float axis = p->clavicle_y - p->clavicle_rise * u - 0.022f * sinf(u * 5.5f);
    return tube(y - axis, 0.015f + 0.006f * ramp(u, 0.2f, 0.0f)) * ramp(u, 0.0f, 0.05f) * ramp(u, 1.2f, 0.8f);
}

static float scapula_at(float a, float y)
{
    float edge = 0.345f + 0.55f * (y - 0.16f) * (y > 0.36f ? 0.3f : 0.25f);
    return ramp(a, edge - 0.012f, edge + 0.012f) * ramp(y, 0.10f, 0.18f) * ramp(y, 0.50f, 0.40f);
}

/* Vertebral bodies with darker discs; the trachea is a dark column in front of them down to the carina. */
static float spine_at(float dx, float y)
{
    float body = ramp(fabsf(dx), 0.052f, 0.036f);
    if (body <= 0)
        return 0;
    float disc = 0.5f + 0.5f * cosf(y * 6.2831853f / 0.062f);
    float trachea = ramp(fabsf(dx + 0.004f), 0.024f, 0.014f) * ramp(y, 0.36f, 0.29f);
    return body * (0.050f + 0.03f * disc * disc + 0.05f * ramp(y, 0.75f, 0.95f)) - 0.12f * trachea;
}

/* ---- what lies over the ray ---------------------------------------------------------------------------------------------------- */

static float body_at(const anatomy *p, float a, float y)
{
    float over = a > 0.105f ? a - 0.105f : 0;
    float top = 0.045f + p->shoulder * over * sqrtf(over) - 0.16f * ramp(a, 0.19f, 0.09f);
    float in = ramp(y - top, -0.010f, 0.026f);
    float side = p->torso + 0.30f * ramp(y, 0.38f, 0.22f) + 0.012f * sinf(y * 9);
    return in * ramp(side - a, -0.006f, 0.022f);
}

static float density_at(const anatomy *p, const shot *s, float dx, float y, float vessels, float opacity, float *lung)
{
    int side = dx > 0 ? 1 : -1;
    float a = fabsf(dx);
    *lung = 0;
    float body = body_at(p, a, y);
    if (body <= 0)
        return -0.16f;
    float r = a / 0.53f, heart = heart_at(p, dx, y);
    float thick = 0.40f + p->fat + 0.20f * sqrtf(r < 1 ? 1 - r * r : 0);
    float air = lung_at(p, s, dx, y, 0.0065f) * (1 - heart);
    *lung = air;
    float t = lung_t(p, y);
    float below = ramp(y - diaphragm(p, s, dx), -0.006f, 0.008f);
    float depth = 0.255f + 0.075f * ramp(t, 0.02f, 0.35f) - 0.03f * ramp(t, 0.6f, 1.0f);
    float d = thick + 0.115f * heart * (1 - 0.7f * below) + 0.14f * below * ramp(a, p->torso, p->chest - 0.08f) - depth * air;
    d += spine_at(dx, y) * (1 - 0.25f * heart) + 0.07f * ramp(a, 0.16f, 0.02f) * (1 - air);
    float lit = 0.40f + 0.60f * air, deep = 1 - 0.75f * below;
    d += p->bone * (0.120f * ribs_at(p, a, y, side) * lit * deep + 0.120f * clavicle_at(p, a, y) + 0.032f * scapula_at(a, y));
    if (p->has_bubble)
        d -= 0.12f * ramp(oval_r2(&p->bubble, dx, y), 1.5f, 0.4f) * below;
    if (p->breast > 0) {
        float u = (a - 0.25f) / 0.155f, v = (y - 0.66f) / 0.15f, q = u * u + v * v;
        d += p->breast * ramp(q, 1.06f, 0.82f) * ramp(v, -1.0f, 0.9f) * (1 - below);
    }
    d += air * (vessels + opacity) + 0.012f * lattice_at(s, dx + 0.5f, y, 9) + 0.010f * air * lattice_at(s, dx, y, 21);
    return body * d + (1 - body) * -0.16f;
}

/* ---- vessels and opacities, painted in film space before the rays are summed ---------------------------------------------------- */

typedef struct { const shot *s; int side_px; } frame;   /* where body points fall on the film */

/* Body frame to pixel: the inverse of the pose. */
static void to_pixel(const frame *f, const anatomy *p, float dx, float y, float *px, float *py)
{
    float u = dx * p->width / f->s->zoom, v = (y - 0.5f) / f->s->zoom;
    *px = (u * f->s->cos - v * f->s->sin + 0.5f + f->s->shift_x) * (float)f->side_px - 0.5f;
    *py = (u * f->s->sin + v * f->s->cos + 0.5f + f->s->shift_y) * (float)f->side_px - 0.5f;
}

/* Keeps the larger of what is there and a soft dot, so that the joints of a polyline do not shine. */
static void dot(float *map, int n, float cx, float cy, float radius, float amount)
{
    int reach = (int)(radius * 2) + 1;
    for (int y = (int)cy - reach; y <= (int)cy + reach + 1; y++)
        for (int x = (int)cx - reach; x <= (int)cx + reach + 1; x++) {
            if (x < 0 || y < 0 || x >= n || y >= n)
                continue;
            float ux = ((float)x - cx) / radius, uy = ((float)y - cy) / radius, q = 1 - 0.25f * (ux * ux + uy * uy);
            float v = q > 0 ? amount * q * q * q : 0;
            if (v > map[y * n + x])
                map[y * n + x] = v;
        }
}

/* One vessel from (dx, y) in direction `angle`, thinning; it forks twice at most. */
static void vessel(cx_rng *r, const frame *f, const anatomy *p, float *map, float dx, float y, float angle, float width, int forks)
{
    float bend = uniform(r, -1.2f, 1.2f), length = uniform(r, 0.10f, 0.19f) * (forks == 2 ? 1.0f : 0.75f), step = 0.007f;
    for (float at = 0; at < length; at += step) {
        float px, py, left = 1 - 0.55f * at / length;
        to_pixel(f, p, dx, y, &px, &py);
        float radius = width * left * (float)f->side_px;
        dot(map, f->side_px, px, py, radius > 0.75f ? radius : 0.75f, 0.085f * left * (0.25f + width / 0.009f));
        dx += step * cosf(angle);
        y += step * sinf(angle);
        angle += bend * step * 4;
        if (forks > 0 && at > 0.45f * length && cx_rng_uniform(r) < 0.10) {
            vessel(r, f, p, map, dx, y, angle + uniform(r, 0.35f, 0.8f) * (bend > 0 ? -1.0f : 1.0f), width * left * 0.75f, forks - 1);
            forks--;
        }
    }
}

static void paint_vessels(cx_rng *r, const frame *f, const anatomy *p, float *map)
{
    for (int side = -1; side <= 1; side += 2) {
        float hx = (float)side * 0.088f, hy = p->hilum_y - (side > 0 ? 0.015f : 0);
        float px, py;
        for (int i = 0; i < 4; i++) {
            to_pixel(f, p, hx + uniform(r, -0.02f, 0.02f), hy + uniform(r, -0.05f, 0.05f), &px, &py);
            dot(map, f->side_px, px, py, uniform(r, 0.016f, 0.028f) * (float)f->side_px, uniform(r, 0.06f, 0.10f));
        }
        for (int i = 0; i < 10; i++) {
            float angle = -1.35f + 2.9f * ((float)i + uniform(r, 0.1f, 0.9f)) / 10;
            vessel(r, f, p, map, hx, hy + 0.05f * sinf(angle), side > 0 ? angle : 3.14159265f - angle, uniform(r, 0.0045f, 0.0085f), 2);
        }
    }
}

/* Ground-glass blobs: peripheral, mostly basal, on both sides as a rule. */
static int make_blobs(cx_rng *r, const anatomy *p, const shot *s, blob *b)
{
    int n = 3 + (int)cx_rng_below(r, 4), only = cx_rng_uniform(r) < 0.2 ? (cx_rng_uniform(r) < 0.5 ? -1 : 1) : 0;
    float load = uniform(r, 0.75f, 1.3f);
    for (int i = 0; i < n; i++) {
        int side = only ? only : i % 2 ? 1 : -1;
        float t = 0.36f + 0.58f * sqrtf(uniform(r, 0.05f, 1)), y = p->apex + t * (p->angle - p->apex);
        float outer = lung_outer(p, clamp01(t)), a = outer * uniform(r, 0.62f, 0.96f), floor_y = diaphragm(p, s, (float)side * a);
        y = y > floor_y - 0.03f ? floor_y - 0.03f : y;
        float angle = uniform(r, 0, 3.14159f), size = uniform(r, 0.042f, 0.085f);
        b[i] = (blob){ (float)side * a, y, size, size * uniform(r, 0.6f, 1.0f), sinf(angle), cosf(angle), load * uniform(r, 0.6f, 1.2f) };
    }
    return n;
}

static float opacity_at(const blob *b, int n, const shot *s, float dx, float y)
{
    float sum = 0;
    for (int i = 0; i < n; i++) {
        float u = dx - b[i].dx, v = y - b[i].y;
        float p = (u * b[i].cos + v * b[i].sin) / b[i].rx, q = (v * b[i].cos - u * b[i].sin) / b[i].ry, e = 1 - (p * p + q * q) / 6;
        if (e > 0)
            sum += b[i].amount * e * e * e;
    }
    if (sum <= 0)
        return 0;
    float patchy = 1 + 0.45f * lattice_at(s, dx + 0.3f, y, 16) + 0.25f * lattice_at(s, y, dx + 0.6f, 37);
    return 0.10f * (sum * patchy) / (1 + 0.55f * sum);
}

/* ---- the film ------------------------------------------------------------------------------------------------------------------- */

static void expose(const anatomy *p, const shot *s, const blob *b, int blobs, int n, const float *vessels, float *grey, uint8_t *lung)
{
    float cells = 1.0f / (float)n;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++) {
            float x = ((float)i + 0.5f) * cells, y = ((float)j + 0.5f) * cells;
            float u = x - 0.5f - s->shift_x, v = y - 0.5f - s->shift_y;
            float dx = (u * s->cos + v * s->sin) * s->zoom / p->width, by = (v * s->cos - u * s->sin) * s->zoom + 0.5f, air;
            float d = density_at(p, s, dx, by, vessels[j * n + i], blobs ? opacity_at(b, blobs, s, dx, by) : 0, &air);
            float fall = ((x - 0.5f) * (x - 0.5f) + (y - 0.5f) * (y - 0.5f)) * 2;
            d += s->exposure + s->tilt * (x - 0.5f);
            float g = 1 / (1 + expf(-s->gain * (d - 0.52f)));
            g *= 1 - s->vignette * fall;
            bool masked = x < s->border[0] || 1 - x < s->border[1] || y < s->border[2] || 1 - y < s->border[3];
            grey[j * n + i] = masked ? 0.012f : g;
            lung[j * n + i] = air > 0.5f && !masked ? 255 : 0;
        }
}

/* The second clinic's detector is a little less sharp. */
static void soften(float *g, float *row, int n)
{
    for (int pass = 0; pass < 2; pass++)
        for (int line = 0; line < n; line++) {
            int base = pass ? line : line * n, step = pass ? n : 1;
            for (int i = 0; i < n; i++) {
                int lo = i ? i - 1 : 0, hi = i < n - 1 ? i + 1 : n - 1;
                row[i] = 0.18f * (g[base + lo * step] + g[base + hi * step]) + 0.64f * g[base + i * step];
            }
            for (int i = 0; i < n; i++)
                g[base + i * step] = row[i];
        }
}

static void add_noise(cx_rng *r, const shot *s, float *g, int n)
{
    for (int i = 0; i < n * n; i++) {
        uint32_t w = cx_rng_u32(r);                        /* four bytes summed: near enough to a normal, sd 147.8 */
        float z = ((float)((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24)) - 510.0f) / 147.8f;
        g[i] += s->noise * z * (1.25f - 0.7f * g[i]);      /* fewer photons where tissue is dense, but the film curve flattens there */
    }
}

enum { GLYPH_R, GLYPH_L, GLYPH_BOX };

/* Ink of a glyph at u, v in 0..1, v down. */
static bool ink(int glyph, float u, float v)
{
    const float w = 0.17f;
    bool stem = fabsf(u - w) < w;
    if (glyph == GLYPH_L)
        return stem || v > 1 - 1.4f * w;
    if (glyph == GLYPH_BOX)
        return u < w || u > 1 - w || v < w || v > 1 - w || (fabsf(u - 0.5f) < w && fabsf(v - 0.5f) < 0.24f);
    float bx = (u - 0.42f) / 0.52f, by = (v - 0.28f) / 0.28f, q = bx * bx + by * by;
    bool bowl = u > 0.4f ? q < 1 && q > 0.42f : v < 0.56f && (v < 1.25f * w || v > 0.56f - 1.25f * w);
    bool leg = v > 0.5f && fabsf(u - 0.36f - 1.1f * (v - 0.5f)) < 1.25f * w;
    return stem || bowl || leg;
}

/* A lead letter or a label in an upper corner, as it is burned in at the console. Its mask is the rectangle it stands in. */
static void burn_marker(cx_rng *r, float *g, uint8_t *mask, int n)
{
    bool left = cx_rng_uniform(r) < 0.5, box = cx_rng_uniform(r) < 0.3;
    int glyph = box ? GLYPH_BOX : left ? GLYPH_R : GLYPH_L;
    float h = uniform(r, 0.14f, 0.17f) * (float)n, w = h * 0.72f, white = uniform(r, 0.92f, 1.0f);
    float y0 = uniform(r, 0.03f, 0.08f) * (float)n, in = uniform(r, 0.03f, 0.09f) * (float)n, x0 = left ? in : (float)n - in - w;
    int ix = (int)x0, iy = (int)y0, iw = (int)(w + 0.5f), ih = (int)(h + 0.5f);
    for (int y = 0; y < ih; y++)
        for (int x = 0; x < iw; x++) {
            int at = (iy + y) * n + ix + x, hits = 0;
            for (int k = 0; k < 9; k++)
                hits += ink(glyph, ((float)x + ((float)(k % 3) + 0.5f) / 3) / (float)iw, ((float)y + ((float)(k / 3) + 0.5f) / 3) / (float)ih);
            mask[at] = 255;
            g[at] += (white - g[at]) * (float)hits / 9;
        }
}

void cx_synth_draw(const cx_synth_case *c, int side, float *scratch, uint8_t *film, uint8_t *lung, uint8_t *marker)
{
    size_t px = (size_t)side * (size_t)side;
    float *grey = scratch, *vessels = scratch + px, *row = scratch + 2 * px;
    cx_rng person = cx_rng_new(c->seed, cx_hash("synth person") + (uint64_t)c->patient), take = cx_rng_new(c->seed, cx_hash("synth film") + (uint64_t)c->film);
    cx_rng tree = cx_rng_new(c->seed, cx_hash("synth vessels") + (uint64_t)c->patient);
    cx_rng sick = cx_rng_new(c->seed, cx_hash("synth opacities") + (uint64_t)c->film);
    cx_rng grain = cx_rng_new(c->seed, cx_hash("synth noise") + (uint64_t)c->film), glyph = cx_rng_new(c->seed, cx_hash("synth marker") + (uint64_t)c->film);
    anatomy p;
    shot s;
    blob b[MAX_BLOBS];
    make_anatomy(&person, &p);
    make_shot(&take, c, &s);
    memset(vessels, 0, px * sizeof *vessels);
    memset(marker, 0, px);
    paint_vessels(&tree, &(frame){ &s, side }, &p, vessels);
    int blobs = c->opacities ? make_blobs(&sick, &p, &s, b) : 0;
    expose(&p, &s, b, blobs, side, vessels, grey, lung);
    if (c->source)
        soften(grey, row, side);
    add_noise(&grain, &s, grey, side);
    if (c->marker)
        burn_marker(&glyph, grey, marker, side);
    for (size_t i = 0; i < px; i++)
        film[i] = (uint8_t)(clamp01(grey[i]) * 255 + 0.5f);
}
