"""Makes tests/golden/gradcam.npy: Grad-CAM maps and logits of a small CNN and a small DenseNet in PyTorch (float64), with weights and inputs that
tests/explain/test_gradcam.c draws from the same Philox streams. The layout of the file is the order of its tests' reads.

    python tools/oracle/gradcam.py      # needs numpy, torch
"""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from philox import fnv1a, uniform

SEED = 17


def draw(name, *shape):
    return uniform(SEED, fnv1a(name), int(np.prod(shape))).reshape(shape)


def tensor(a):
    """float32 first, as cxnet holds it."""
    return torch.from_numpy(np.ascontiguousarray(a.astype(np.float32))).double()


def weight(name, out, k, inp):
    """Drawn OHWI, returned OIHW."""
    w = (2 * draw(name + ".weight", out, k, k, inp) - 1) * np.sqrt(6.0 / (k * k * inp))
    return tensor(w).permute(0, 3, 1, 2)


def bias(name, n):
    return tensor((draw(name + ".bias", n) - 0.5) * 0.2)


def conv(x, name, out, k=3, stride=1, with_bias=False):
    return F.conv2d(x, weight(name, out, k, x.shape[1]), bias(name, out) if with_bias else None, stride=stride, padding=k // 2)


def linear(x, name, out):
    return F.linear(x, weight(name, out, 1, x.shape[1])[:, :, 0, 0], bias(name, out))


def norm(x, name):
    c = x.shape[1]
    gamma, var = tensor(draw(name + ".weight", c) + 0.5), tensor(draw(name + ".running_var", c) + 0.5)
    mean = tensor((draw(name + ".running_mean", c) - 0.5) * 0.4)
    return F.batch_norm(x, mean, var, gamma, bias(name, c), eps=1e-5)


def cnn(x, keep):
    x = F.max_pool2d(F.relu(conv(x, "conv1", 8, with_bias=True)), 2)
    x = keep["relu2"] = F.relu(conv(x, "conv2", 16, with_bias=True))
    x = F.relu(linear(x.permute(0, 2, 3, 1).flatten(1), "dense", 10))
    return linear(x, "output", 3)


def densenet(x, keep):
    x = F.relu(norm(conv(x, "conv0", 16, stride=2), "norm0"))
    for block in (1, 2):
        for layer in (1, 2, 3):
            p = f"block{block}.layer{layer}"
            y = conv(F.relu(norm(x, p + ".norm1")), p + ".conv1", 32, k=1)
            y = keep[p + ".conv2"] = conv(F.relu(norm(y, p + ".norm2")), p + ".conv2", 8)
            x = keep[f"block{block}.concat{layer}"] = torch.cat([x, y], 1)
        if block == 1:
            x = F.avg_pool2d(conv(F.relu(norm(x, "transition.norm")), "transition.conv", 20, k=1), 2)
    x = keep["relu5"] = F.relu(norm(x, "norm5"))
    return linear(x.mean((2, 3)), "classifier", 1)


def gradcam(net, x, layer, cls, sign):
    """x NHWC. One film at a time: maps of a batch must not depend on its other films."""
    maps, logits = [], []
    for i in range(len(x)):
        keep = {}
        z = net(x[i:i + 1].permute(0, 3, 1, 2).requires_grad_(), keep)
        a = keep[layer]
        g, = torch.autograd.grad(sign[i] * z[0, cls[i]], a)
        maps.append(F.relu((g.mean((2, 3), keepdim=True) * a).sum(1))[0].detach())
        logits.append(z[0].detach())
    return torch.stack(maps), torch.stack(logits)


def main():
    out = []
    x = tensor(2 * draw("cnn.x", 3, 24, 20, 3) - 1)
    maps, logits = gradcam(cnn, x, "relu2", [0, 1, 2], [1, 1, 1])
    out += [logits, maps]
    x = tensor(2 * draw("densenet.x", 3, 32, 32, 3) - 1)
    for layer in ("relu5", "block1.concat2", "block1.layer2.conv2", "block2.concat1"):
        maps, logits = gradcam(densenet, x, layer, [0, 0, 0], [1, -1, 1])
        assert (maps.amax((1, 2)) > 0).any()
        out += [logits, maps]
    np.save(Path("tests/golden/gradcam.npy"), torch.cat([t.flatten() for t in out]).numpy().astype("<f4"))


if __name__ == "__main__":
    main()
