"""Makes tests/golden/image: small procedural pictures of every kind that cx_film_decode reads, with the grey values that PIL gives
(16-bit files: the same formulas in 16 bits, since PIL reduces them to 8), and resized planes from PIL and PyTorch.

    python tools/oracle/image.py        # needs numpy, pillow, torch
"""
import csv
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

OUT = Path("tests/golden/image")
W, H = 37, 29
Y, X = np.mgrid[0:H, 0:W]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path, samples, bits, colour, interlace=False, palette=None, trns=None):
    """samples [h, w, channels]; written with filter 0, Adam7 when interlaced. PIL writes neither Adam7 nor 2- or 16-bit colour."""
    h, w, c = samples.shape
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, int(interlace)))
    if palette is not None:
        out += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if trns is not None:
        out += chunk(b"tRNS", trns)
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x0, y0, dx, dy in adam7 if interlace else [(0, 0, 1, 1)]:
        part = samples[y0::dy, x0::dx]
        if part.size == 0:
            continue
        for row in part.reshape(part.shape[0], -1):
            if bits == 16:
                line = row.astype(">u2").tobytes()
            elif bits == 8:
                line = row.astype(np.uint8).tobytes()
            else:
                line = np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).ravel()).tobytes()
            raw += b"\0" + line
    out += chunk(b"tEXt", b"Comment\0procedural") + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    path.write_bytes(out)


def plane(top, kind=0):
    """A smooth picture with an edge, 0..top."""
    v = 0.5 + 0.3 * np.sin(X / (5.0 + kind)) + 0.2 * np.cos(Y / (4.0 + kind)) * np.where(X > 20 + kind, 1, -1)
    return np.clip(np.rint(v * top), 0, top).astype(np.int64)


def luma(rgb):
    return (19595 * rgb[..., 0] + 38470 * rgb[..., 1] + 7471 * rgb[..., 2] + 32768) >> 16


def over_black(rgba, top):
    return (rgba[..., :3] * rgba[..., 3:] + top // 2) // top


def expected(path, rgba16):
    """Grey [h, w] and the share of coloured pixels."""
    if rgba16 is not None:
        rgb, top = over_black(rgba16.astype(np.int64), 65535), 65535
        grey = luma(rgb)
    else:
        im = Image.open(path)
        rgba = im.convert("RGBA")
        black = Image.new("RGBA", im.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, rgba)
        rgb, top = np.asarray(flat.convert("RGB")).astype(np.int64), 255
        grey = np.asarray(flat.convert("L")).astype(np.int64)
        assert (grey == luma(rgb)).all()
        if im.mode in ("L", "RGB", "CMYK") and "transparency" not in im.info:
            assert (grey == np.asarray(im.convert("L"))).all()
    spread = rgb.max(-1) - rgb.min(-1)
    return grey, float((spread > 8 * (top // 255)).mean())


def pictures():
    """Yields (file, facts, 16-bit RGBA or None)."""
    g8, g16 = plane(255), plane(65535)
    rgb8 = np.stack([plane(255), plane(255, 1), plane(255, 2)], -1)
    rgb16 = np.stack([plane(65535), plane(65535, 1), plane(65535, 2)], -1)
    rgb8, a8, a16 = rgb8 // 5 * 5 + 2, plane(255, 3) // 5 * 5, plane(65535, 3)
    opaque = np.full((H, W), 65535)
    facts = dict(type="PNG", channels=1, bits=8, alpha=0, interlaced=0, palette=0, cmyk=0, progressive=0)

    def name(n, **kw):
        return OUT / n, {**facts, **kw}

    for bits in (1, 2, 4, 8):
        for il in (0, 1):
            p, f = name(f"grey{bits}{'_adam7' if il else ''}.png", bits=bits, interlaced=il)
            png(p, plane(2 ** bits - 1)[..., None], bits, 0, il)
            yield p, f, None
    for il in (0, 1):
        suffix = "_adam7" if il else ""
        p, f = name(f"grey16{suffix}.png", bits=16, interlaced=il)
        png(p, g16[..., None], 16, 0, il)
        yield p, f, np.stack([g16, g16, g16, opaque], -1)
        p, f = name(f"rgb8{suffix}.png", channels=3, interlaced=il)
        png(p, rgb8, 8, 2, il)
        yield p, f, None
        p, f = name(f"rgba8{suffix}.png", channels=4, alpha=1, interlaced=il)
        png(p, np.concatenate([rgb8, a8[..., None]], -1), 8, 6, il)
        yield p, f, None
        p, f = name(f"palette{suffix}.png", bits=4, palette=1, alpha=1, interlaced=il)
        colours = np.array([[i * 17, (i * 40) % 256, 255 - i * 10] for i in range(16)])
        png(p, plane(15)[..., None], 4, 3, il, colours, bytes([0, 80, 160, 255]))
        yield p, f, None
    p, f = name("rgb16.png", channels=3, bits=16)
    png(p, (rgb16 // 4096) * 4096, 16, 2)
    yield p, f, np.concatenate([(rgb16 // 4096) * 4096, opaque[..., None]], -1)
    p, f = name("rgba16.png", channels=4, bits=16, alpha=1)
    small = (np.concatenate([rgb16, a16[..., None]], -1) // 4096) * 4096 + 77
    png(p, small, 16, 6)
    yield p, f, small
    p, f = name("la8.png", channels=2, alpha=1)
    png(p, np.stack([g8, a8], -1), 8, 4)
    yield p, f, None
    p, f = name("la16.png", channels=2, bits=16, alpha=1)
    png(p, np.stack([g16, a16], -1) // 256 * 256 + 5, 16, 4)
    g, a = g16 // 256 * 256 + 5, a16 // 256 * 256 + 5
    yield p, f, np.stack([g, g, g, a], -1)
    p, f = name("grey8_key.png", alpha=1)
    png(p, g8[..., None], 8, 0, trns=struct.pack(">H", int(g8[10, 10])))
    yield p, f, None
    p, f = name("rgb8_key.png", channels=3, alpha=1)
    png(p, rgb8, 8, 2, trns=struct.pack(">HHH", *(int(v) for v in rgb8[10, 10])))
    yield p, f, None

    grey, colour = Image.fromarray(g8.astype(np.uint8)), Image.fromarray(rgb8.astype(np.uint8))
    for n, im, kw, fk in [
        ("grey.jpg", grey, dict(quality=85), dict(channels=1)),
        ("grey_progressive.jpg", grey, dict(quality=85, progressive=True), dict(channels=1, progressive=1)),
        ("rgb444.jpg", colour, dict(quality=85, subsampling=0), dict(channels=3)),
        ("rgb422.jpg", colour, dict(quality=85, subsampling=1), dict(channels=3)),
        ("rgb420.jpg", colour, dict(quality=85, subsampling=2), dict(channels=3)),
        ("rgb420_progressive.jpg", colour, dict(quality=85, subsampling=2, progressive=True), dict(channels=3, progressive=1)),
        ("restart.jpg", colour, dict(quality=85, restart_marker_blocks=2), dict(channels=3)),
        ("cmyk.jpg", colour.convert("CMYK"), dict(quality=90), dict(channels=4, cmyk=1)),
    ]:
        p, f = name(n, type="JPEG", **fk)
        im.save(p, **kw)
        yield p, f, None
    rgba = Image.fromarray(np.concatenate([rgb8, a8[..., None]], -1).astype(np.uint8), "RGBA")
    for n, im, kw, fk in [
        ("lossy.webp", colour, dict(quality=80), dict(channels=3)),
        ("lossless.webp", colour, dict(lossless=True), dict(channels=3)),
        ("lossy_alpha.webp", rgba, dict(quality=80), dict(channels=4, alpha=1)),
        ("lossless_alpha.webp", rgba, dict(lossless=True, exact=True), dict(channels=4, alpha=1)),
    ]:
        p, f = name(n, type="WebP", **fk)
        im.save(p, **kw)
        yield p, f, None


def make_pictures():
    rows, values, at = [], [], 0
    for path, facts, rgba16 in pictures():
        assert path.stat().st_size < 4096, path
        grey, share = expected(path, rgba16)
        if rgba16 is not None and facts["channels"] != 1:
            black = Image.new("RGBA", (W, H), (0, 0, 0, 255))
            eight = np.asarray(Image.alpha_composite(black, Image.open(path).convert("RGBA")).convert("L"))
            assert np.abs(grey / 257 - eight).max() < 2.5, path
        rows.append({"file": path.name, "max": 65535 if facts["bits"] == 16 else 255, **facts, "colour": f"{share:.9g}", "offset": at})
        values.append(grey.astype("<u2").ravel())
        at += grey.size
    np.save(OUT / "expected.npy", np.concatenate(values))
    with open(OUT / "expected.csv", "w", newline="") as f:
        w = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        w.writeheader()
        w.writerows(rows)
    frames = [Image.fromarray(np.roll(plane(255), 3 * i, 1).astype(np.uint8)).convert("RGB") for i in range(3)]
    frames[0].save(OUT / "animated.webp", save_all=True, append_images=frames[1:], duration=100, quality=50)


def make_resized():
    rng = np.random.default_rng(1)
    rows, values, at = [], [], 0

    def put(a):
        nonlocal at
        values.append(np.ascontiguousarray(a, "<f4").ravel())
        at += a.size
        return at - a.size

    sizes = [(45, 37, 16, 12), (45, 37, 60, 50), (45, 37, 45, 20), (7, 90, 30, 8), (64, 64, 32, 32), (1, 1, 5, 4), (33, 21, 1, 1), (101, 3, 7, 9)]
    for sw, sh, dw, dh in sizes:
        src = (rng.random((sh, sw)) * 255).astype(np.float32)
        at_src = put(src)
        area = np.asarray(Image.fromarray(src, "F").resize((dw, dh), Image.BILINEAR, reducing_gap=None))
        bilinear = torch.nn.functional.interpolate(torch.from_numpy(src)[None, None], (dh, dw), mode="bilinear", align_corners=False)[0, 0].numpy()
        rows.append([sw, sh, dw, dh, at_src, put(area), put(bilinear)])
    np.save(OUT / "resize.npy", np.concatenate(values))
    with open(OUT / "resize.csv", "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["sw", "sh", "dw", "dh", "src", "area", "bilinear"])
        w.writerows(rows)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    make_pictures()
    make_resized()
