"""Preprocessing stages by OpenCV, PIL, scikit-image and SciPy, for tests/data/test_pipeline.c and tests/image/test_mask.c: small procedural films,
never real ones.

    python tools/oracle/preprocess.py                             writes tests/golden/preprocess.{csv,npy}, tests/golden/image/mask.{csv,npy}, reference.png
    python tools/oracle/preprocess.py STAGES SIDE IN W H OUT      W x H bytes of file IN through STAGES ("clahe clip=2; resize") into OUT, planes one behind
                                                                  the other: films that are only compared, never kept

Needs numpy, scipy, pillow, opencv-python-headless, scikit-image.
"""
import csv
import sys

import cv2
import equalize
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.exposure import match_histograms
from skimage.filters import rank
from skimage.morphology import disk

OUT = "tests/golden/preprocess"
MASKS = "tests/golden/image/mask"
REFERENCE = "tests/golden/image/reference.png"
# stages, film, width, height, side
CASES = [
    *[(f"resize filter={f}", kind, w, h, side) for f in ("pil_bilinear", "cv_area", "cv_linear", "cv_cubic")
      for kind, w, h, side in (("chest", 64, 48, 16), ("noise", 31, 23, 40), ("halves", 50, 40, 17), ("noise", 20, 60, 33), ("smooth", 1, 1, 5),
                               ("noise", 24, 24, 24), ("noise", 32, 32, 16), ("chest", 45, 7, 1))],
    *[(f"resize filter={f} keep_aspect=true", kind, w, h, side) for f in ("pil_bilinear", "cv_area")
      for kind, w, h, side in (("chest", 64, 48, 16), ("noise", 9, 31, 20), ("chest", 200, 1, 16))],
    ("equalize_local radius=3; resize", "noise", 24, 24, 24),
    ("equalize_local radius=30; resize", "chest", 40, 40, 40),
    ("equalize_local radius=1; resize", "halves", 9, 9, 9),
    ("equalize_local radius=7; resize", "chest", 32, 32, 32),
    ("match_histogram reference=" + REFERENCE + "; resize", "chest", 48, 48, 48),
    ("match_histogram reference=" + REFERENCE + "; resize", "noise", 20, 20, 20),
    ("match_histogram reference=" + REFERENCE + "; resize", "constant", 16, 16, 16),
    ("clahe; resize", "chest", 40, 40, 40),
    ("beasf gamma=1.5; resize", "chest", 40, 40, 40),
    ("beasf gamma=0.4; resize", "noise", 24, 24, 24),
    ("resize side=60 filter=cv_area; match_histogram reference=" + REFERENCE + "; resize filter=cv_cubic", "chest", 120, 120, 32),
    ("resize; channels gamma=1.5 clip=2 tiles=4", "chest", 32, 32, 32),
    ("clahe clip=3 tiles=5; resize; channels planes=plain", "noise", 33, 33, 33),
]


def nearest(v):
    return np.clip(np.floor(np.asarray(v, float) + 0.5), 0, 255).astype(np.uint8)


def beasf(px, gamma):
    """The published formula in float64, both parts about their median, each stretched to its own range."""
    m, out = int(px.mean()), np.arange(256.0)
    for lo, hi in ((0, m), (m, 255)):
        if lo == hi:
            continue
        count = np.bincount(px.ravel(), minlength=256)[lo:hi + 1]
        half = lo + int(np.argmax(np.cumsum(count) > count.sum() / 2))
        t = np.arange(lo, hi + 1.0)
        s = 1 / (1 + np.exp(-gamma * 5 * (t - half) / (hi - lo)))
        out[lo:hi + 1] = lo + (hi - lo) * (s - s[0]) / (s[-1] - s[0])
    return nearest(out)[px]


def resize(px, side, how, keep_aspect):
    h, w = px.shape
    size = (max(1, round(side * w / max(w, h))), max(1, round(side * h / max(w, h)))) if keep_aspect else (side, side)
    if how == "pil_bilinear":
        small = np.asarray(Image.fromarray(px).resize(size, Image.BILINEAR))
    else:
        small = cv2.resize(px, size, interpolation={"cv_area": cv2.INTER_AREA, "cv_linear": cv2.INTER_LINEAR, "cv_cubic": cv2.INTER_CUBIC}[how])
    out = np.zeros((side, side), np.uint8)
    y, x = (side - size[1]) // 2, (side - size[0]) // 2
    out[y:y + size[1], x:x + size[0]] = small.reshape(size[1], size[0])
    return out


def clahe(px, p):
    tiles = int(p.get("tiles", 8))
    return equalize.clahe(px, float(p.get("clip", 2)), tiles, tiles)


def run(stages, side, px):
    """-> [planes, side, side]"""
    done = []
    for text in stages.split(";"):
        name, *pairs = text.split()
        p = dict(pair.split("=", 1) for pair in pairs)
        if name == "resize":
            px = resize(px, int(p.get("side", 0)) or side, p.get("filter", "pil_bilinear"), p.get("keep_aspect") == "true")
        elif name == "equalize_local":
            px = rank.equalize(px, disk(int(p.get("radius", 30))))
        elif name == "match_histogram":
            reference = np.asarray(Image.open(p["reference"]).convert("L"))
            px = nearest(match_histograms(px, run("; ".join(done), side, reference)[0] if done else reference))
        elif name == "clahe":
            px = clahe(px, p)
        elif name == "beasf":
            px = beasf(px, float(p.get("gamma", 1.5)))
        elif name == "channels":
            make = {"plain": lambda: px, "clahe": lambda: clahe(px, p), "beasf": lambda: beasf(px, float(p.get("gamma", 1.5)))}
            return np.stack([make[plane]() for plane in p.get("planes", "beasf+clahe+plain").split("+")])
        done.append(text)
    return px[None]


def cleaned(mask, keep, least):
    label, n = ndimage.label(mask, np.ones((3, 3)))
    count = np.bincount(label.ravel())[1:]
    order = np.argsort(-count, kind="stable")[:keep]
    order = [k for k in order if count[k] >= least * count[order[0]]] if n else []
    return ndimage.binary_fill_holes(np.isin(label, np.array(order, int) + 1))


def masks():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:40, 0:52]
    two = (np.hypot((x - 14) / 8, (y - 20) / 14) < 1) | (np.hypot((x - 37) / 8, (y - 20) / 12) < 1)
    holes = two & ~(np.hypot(x - 14, y - 20) < 3) & ~((x == 37) & (y > 14) & (y < 20))
    specks = holes | (rng.random(two.shape) < 0.03)
    diagonal = np.eye(17, 23, dtype=bool)
    return [two, holes, specks, rng.random((31, 29)) < 0.5, rng.random((31, 29)) < 0.2, diagonal, np.zeros((6, 5), bool), np.ones((5, 6), bool),
            holes[5:30, 9:45], np.ones((1, 1), bool), rng.random((1, 40)) < 0.5, two & (x < 26) | (np.hypot(x - 40, y - 3) < 2)]


def golden():
    Image.fromarray(equalize.film("smooth", 40, 30)).save(REFERENCE)
    rows, parts, at = [], [], 0
    for stages, kind, w, h, side in CASES:
        px = equalize.film(kind, w, h)
        out = run(stages, side, px)
        rows.append([stages, w, h, side, len(out), at])
        parts += [px.ravel(), out.ravel()]
        at += px.size + out.size
    save(OUT, ["stages", "width", "height", "side", "planes", "at"], rows, parts)
    rows, parts, at = [], [], 0
    for k, mask in enumerate(masks()):
        clean = cleaned(mask, 2, 0.05)
        radius = k % 4
        wide = cv2.dilate(clean.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=radius) if radius else clean.astype(np.uint8)
        rows.append([mask.shape[1], mask.shape[0], radius, at])
        parts += [mask.astype(np.uint8).ravel() * 255, clean.astype(np.uint8).ravel(), wide.ravel()]
        at += 3 * mask.size
    save(MASKS, ["width", "height", "radius", "at"], rows, parts)


def save(name, columns, rows, parts):
    with open(name + ".csv", "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([columns] + rows)
    np.save(name + ".npy", np.concatenate(parts))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    if len(sys.argv) == 7:
        stages, side, path, w, h, out = sys.argv[1:]
        run(stages, int(side), np.fromfile(path, np.uint8).reshape(int(h), int(w))).tofile(out)
    else:
        golden()
