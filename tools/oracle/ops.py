"""PyTorch's answers (float64) to every case of tests/ops/cases.def: writes tests/golden/ops.safetensors. Run from the repository root."""
import re

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import philox

DY, PRIOR, DROP_STREAM, DROP_STEP = 100, 200, 7, 3
FILLS = {
    "SIGNED": lambda u, k: u * 4 - 2, "POSITIVE": lambda u, k: u + 0.5, "NEGATIVE": lambda u, k: u - 2,
    "WEIGHT": lambda u, k: u * 1.5 + 0.25, "UNIT": lambda u, k: u * 0.9 + 0.05, "FAR": lambda u, k: u * 8 + 100,
    "EXTREME": lambda u, k: u * 400 - 200, "HIGH": lambda u, k: u * 4 + 900, "TIED": lambda u, k: np.floor(u * 4) - 2, "BINARY": lambda u, k: (u >= 0.5) * 1.0,
    "BINARY_MASKED": lambda u, k: np.where(u < 0.3, -1.0, (u >= 0.65) * 1.0), "CLASS": lambda u, k: np.floor(u * k),
    "CLASS_MASKED": lambda u, k: np.where(u * 1.3 - 0.3 < 0, -1.0, np.floor((u * 1.3 - 0.3) * k)), "UNLABELLED": lambda u, k: u * 0 - 1,
}


def draw(name, stream, fill, shape, classes=0):
    u = philox.uniform(philox.fnv1a(name), stream, int(np.prod(shape)))
    return np.asarray(FILLS[fill](u, classes), np.float32).reshape(shape)


def number(text):
    if text in ("true", "false"):
        return text == "true"
    return float(np.float32(text.rstrip("f"))) if re.search(r"[.ef]", text) else int(text)


def parse(path):
    """(name, op, flags, attributes, inputs) of every CASE line; an absent input is None."""
    pattern = re.compile(r"CASE\((\w+),\s*(\w+),\s*([\w| ]+),\s*(NONE|ATTR\([^)]*\)),\s*(.*)\)$")
    for line in re.sub(r",\n +", ", ", open(path).read()).splitlines():
        if not line.startswith("CASE("):
            continue
        name, op, flags, attr, inputs = pattern.match(line.strip()).groups()
        attrs = {k: number(v) for k, v in re.findall(r"\.(\w+) = ([\w.+-]+)", attr)}
        found = re.findall(r"IN\((\w+),\s*(\d+),(\d+),(\d+),(\d+)\)|(ABSENT)", inputs)
        shapes = [None if f[5] else (f[0], tuple(int(d) for d in f[1:5])) for f in found]
        yield name, op, set(re.split(r"[ |]+", flags)), attrs, shapes


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def conv2d(x, a, flags):
    pads = [a.get(k, 0) for k in ("pad_left", "pad_right", "pad_top", "pad_bottom")]
    bias = x[2].reshape(-1) if len(x) > 2 and x[2] is not None else None
    return nhwc(F.conv2d(F.pad(nchw(x[0]), pads), nchw(x[1]), bias, stride=a["stride"]))


def conv_transpose2d(x, a, flags):
    bias = x[2].reshape(-1) if len(x) > 2 and x[2] is not None else None
    return nhwc(F.conv_transpose2d(nchw(x[0]), nchw(x[1]), bias, stride=a["stride"], padding=a.get("pad", 0)))


def linear(x, a, flags):
    bias = x[2].reshape(-1) if len(x) > 2 and x[2] is not None else None
    return F.linear(x[0][:, 0, 0], x[1][:, 0, 0], bias)[:, None, None]


def batch_norm(x, a, flags):
    gamma, beta, mean, var = (t.reshape(-1) for t in x[1:])
    if "TRAINING" not in flags or a.get("frozen"):
        x[0].extra = (mean, 1 / (var + a["eps"]).sqrt(), mean, var)
        return nhwc(F.batch_norm(nchw(x[0]), mean, var, gamma, beta, False, 0, a["eps"]))
    flat = x[0].detach().reshape(-1, x[0].shape[3])
    new_mean, new_var = mean.clone(), var.clone()
    y = nhwc(F.batch_norm(nchw(x[0]), new_mean, new_var, gamma, beta, True, a["momentum"], a["eps"]))
    biased = flat.var(0, unbiased=False)
    if not a.get("unbiased"):
        new_var = (1 - a["momentum"]) * var + a["momentum"] * biased
    x[0].extra = (flat.mean(0), 1 / (biased + a["eps"]).sqrt(), new_mean, new_var)
    return y


def pool(function, **keywords):
    return lambda x, a, flags: nhwc(function(nchw(x[0]), a["kernel"], a["stride"], a.get("pad", 0),
                                             **{k: a.get(v, False) for k, v in keywords.items()}))


def dropout(name):
    def run(x, a, flags):
        if "TRAINING" not in flags:
            return x[0] * 1
        u = philox.uniform(philox.fnv1a(name), DROP_STREAM, x[0].numel(), DROP_STEP << 32)
        keep = torch.tensor((np.float32(u) >= np.float32(a["rate"])).reshape(x[0].shape))
        return x[0] * keep / (1 - a["rate"])
    return run


def upsample(x, a, flags):
    return nhwc(F.interpolate(nchw(x[0]), (a["out_h"], a["out_w"]), mode="bilinear", align_corners=a.get("align_corners", False)))


def bce_loss(x, a, flags):
    z, raw, s = x[0], x[1].detach(), a["smoothing"]
    labelled = raw >= 0
    t = raw * (1 - s) + s / 2
    negative, positive = (x[2][0, 0, 0], x[2][0, 0, 1]) if len(x) > 2 and x[2] is not None else (torch.ones(z.shape[3]).double(),) * 2
    terms = F.binary_cross_entropy_with_logits(z, t, reduction="none", pos_weight=positive / negative) * negative
    return (torch.where(labelled, terms, terms * 0).sum() / max(int(labelled.sum()), 1)).reshape(1, 1, 1, 1)


def ce_loss(x, a, flags):
    z, t = x[0].reshape(-1, x[0].shape[3]), x[1].detach().reshape(-1).long()
    if not (t >= 0).any():
        return (z * 0).sum().reshape(1, 1, 1, 1)
    weight = x[2].reshape(-1).detach() if len(x) > 2 and x[2] is not None else None
    return F.cross_entropy(z, t, weight, ignore_index=-1, label_smoothing=a["smoothing"]).reshape(1, 1, 1, 1)


def dice_loss(x, a, flags):
    labelled = x[1].detach() >= 0
    if not labelled.any():
        return (x[0] * 0).sum().reshape(1, 1, 1, 1)
    p, t = x[0][labelled], x[1].detach()[labelled]
    return (-(2 * (p * t).sum() + a["smooth"]) / (p.sum() + t.sum() + a["smooth"])).reshape(1, 1, 1, 1)


OPS = {
    "CONV2D": conv2d, "CONV_TRANSPOSE2D": conv_transpose2d, "LINEAR": linear, "BATCH_NORM": batch_norm,
    "RELU": lambda x, a, f: F.relu(x[0]), "LEAKY_RELU": lambda x, a, f: F.leaky_relu(x[0], a["slope"]),
    "SIGMOID": lambda x, a, f: torch.sigmoid(x[0]), "SOFTMAX": lambda x, a, f: torch.softmax(x[0], 3),
    "MAX_POOL": pool(F.max_pool2d), "AVG_POOL": pool(F.avg_pool2d, count_include_pad="count_pad"),
    "GLOBAL_AVG_POOL": lambda x, a, f: x[0].mean((1, 2), keepdim=True), "CONCAT": lambda x, a, f: torch.cat(x, 3),
    "ADD": lambda x, a, f: x[0] + x[1], "FLATTEN": lambda x, a, f: x[0].reshape(x[0].shape[0], 1, 1, -1),
    "UPSAMPLE": upsample, "BCE_LOSS": bce_loss, "CE_LOSS": ce_loss, "DICE_LOSS": dice_loss,
}
LOSSES = {"BCE_LOSS", "CE_LOSS", "DICE_LOSS"}


def answer(name, op, flags, a, shapes):
    raw = [None if s is None else draw(name, i, s[0], s[1], shapes[0][1][3]) for i, s in enumerate(shapes)]
    x = [None if r is None else torch.tensor(r, dtype=torch.float64) for r in raw]
    wanted = [i for i in range(len(x)) if x[i] is not None and (i == 0 or not (op in LOSSES or (op == "BATCH_NORM" and i > 2)))]
    for i in wanted:
        x[i].requires_grad_(True)
    y = (dropout(name) if op == "DROPOUT" else OPS[op])(x, a, flags)
    if "RELU" in flags:
        y = F.relu(y)
    y.backward(torch.tensor(draw(name, DY, "SIGNED", tuple(y.shape)), dtype=torch.float64))
    out = {"y0": y}
    for i in wanted:
        out[f"dx{i}"] = x[i].grad + (torch.tensor(draw(name, PRIOR + i, "SIGNED", tuple(x[i].shape))) if "DX_ADD" in flags else 0)
    if op == "BATCH_NORM":
        out |= dict(zip(("y1", "y2", "x3", "x4"), x[0].extra))
    return {f"{name}/{k}": v.detach().numpy().astype(np.float32).reshape(-1).copy() for k, v in out.items()}


if __name__ == "__main__":
    golden = {}
    for case in parse("tests/ops/cases.def"):
        golden |= answer(*case)
    save_file(golden, "tests/golden/ops.safetensors")
    print(len(golden), "tensors,", sum(v.size for v in golden.values()), "numbers")
