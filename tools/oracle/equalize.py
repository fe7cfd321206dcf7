"""CLAHE by OpenCV, for tests/image/test_equalize.c: small procedural films, never real ones, at sizes that tiles divide and sizes that they do not.

    python tools/oracle/equalize.py                          writes tests/golden/image/clahe.csv and clahe.npy; needs numpy, opencv-python-headless
    python tools/oracle/equalize.py IN W H CLIP TX TY OUT    equalises W x H bytes of file IN into OUT: films that are only compared, never kept
"""
import csv
import sys

import cv2
import numpy as np

OUT = "tests/golden/image/clahe"
# film, width, height, clip limit, tiles across, tiles down
CASES = [
    ("smooth", 1, 1, 2.0, 1, 1),
    ("smooth", 7, 5, 2.0, 1, 1),
    ("noise", 7, 5, 2.0, 7, 5),
    ("noise", 7, 5, 40.0, 3, 2),
    ("smooth", 64, 64, 2.0, 8, 8),
    ("noise", 64, 64, 2.0, 8, 8),
    ("chest", 64, 64, 0.01, 8, 8),
    ("chest", 61, 47, 2.0, 8, 8),
    ("chest", 61, 47, 300.0, 4, 3),
    ("chest", 64, 50, 2.0, 8, 8),
    ("chest", 8, 9, 3.0, 8, 8),
    ("noise", 9, 8, 1.5, 5, 8),
    ("chest", 40, 1, 2.0, 4, 1),
    ("chest", 1, 13, 2.0, 1, 4),
    ("constant", 20, 20, 2.0, 4, 4),
    ("constant", 21, 20, 2.0, 8, 8),
    ("halves", 48, 36, 2.0, 3, 5),
    ("halves", 33, 33, 1.0, 2, 2),
    ("chest", 96, 80, 4.0, 2, 3),
]


def film(kind, w, h):
    y, x = np.mgrid[0:h, 0:w].astype(float)
    if kind == "noise":
        return np.random.default_rng(w * 1000 + h).integers(0, 256, (h, w)).astype(np.uint8)
    if kind == "constant":
        return np.full((h, w), 90, np.uint8)
    if kind == "halves":
        return np.where(x < w / 2, 0, 255).astype(np.uint8)
    v = 40 + 150 * x / w + 50 * y / h
    if kind == "chest":
        lungs = np.hypot((x / w - 0.3) / 0.16, (y / h - 0.5) / 0.34) < 1
        lungs |= np.hypot((x / w - 0.7) / 0.16, (y / h - 0.5) / 0.34) < 1
        v = np.where(lungs, 60 + 12 * np.sin(y / 2.5), 165 + 20 * np.cos(3 * x / w)) + np.random.default_rng(7).normal(0, 5, (h, w))
    return np.clip(v, 0, 255).astype(np.uint8)


def clahe(px, clip, tx, ty):
    return cv2.createCLAHE(clipLimit=clip, tileGridSize=(tx, ty)).apply(px)


def golden():
    rows, parts, at = [], [], 0
    for kind, w, h, clip, tx, ty in CASES:
        px = film(kind, w, h)
        rows.append([w, h, clip, tx, ty, at])
        parts += [px.ravel(), clahe(px, clip, tx, ty).ravel()]
        at += 2 * w * h
    with open(OUT + ".csv", "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([["width", "height", "clip", "tiles_x", "tiles_y", "at"]] + rows)
    np.save(OUT + ".npy", np.concatenate(parts))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    if len(sys.argv) == 8:
        path, w, h, clip, tx, ty, out = sys.argv[1:]
        clahe(np.fromfile(path, np.uint8).reshape(int(h), int(w)), float(clip), int(tx), int(ty)).tofile(out)
    else:
        golden()
