"""PyTorch's answers for the networks of the study: writes tests/golden/model_*.safetensors and model_names.csv. Run from the repository root.

Weights, inputs and seeds of gradients come from Philox by name, so that only answers are stored: logits, loss, and of every gradient (and running
statistic after a training step) its largest magnitude, its norm and a strided sample."""
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file

import philox

SAMPLES = 12


def value(seed, name, shape):
    """Parameter or statistic `name`, by the rule of tests/model/test_goldens.c; shape is OHWI.

    Norm biases of +-(2..3), and the choice of seeds, keep activations away from the kinks of ReLU and max-pooling (main prints the margins). Nearer to
    them the rounding of float32 flips a few of millions, and PyTorch's own float32 gradients differ from its float64 by up to 1e-2.
    """
    u = philox.uniform(seed, philox.fnv1a(name), int(np.prod(shape)))
    if name.endswith("running_mean"):
        v = u * 0.2 - 0.1
    elif name.endswith("running_var"):
        v = u + 0.5
    elif name == "loss.weight":
        v = u * 1.5 + 0.25
    elif "norm" in name and name.endswith("bias"):
        v = np.where(u < 0.5, -1, 1) * (u + 2)
    elif name.endswith("bias"):
        v = u * 0.2 - 0.1
    elif "norm" in name:
        v = u * 0.5 + 0.75
    else:
        v = (u * 2 - 1) * np.sqrt(6 / np.prod(shape[1:]))
    return v.astype(np.float32).reshape(shape)


def signed(seed, name, shape):
    return (philox.uniform(seed, philox.fnv1a(name), int(np.prod(shape))) * 4 - 2).astype(np.float32).reshape(shape)


def ohwi(t):
    """A PyTorch tensor in our layout and rank."""
    if t.dim() == 4:
        return t.permute(0, 2, 3, 1)
    return t[:, None, None, :] if t.dim() == 2 else t[None, None, None, :]


def fill(net, seed, dtype):
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                ours = torch.tensor(value(seed, name, tuple(ohwi(t).shape)))
                t.copy_(ours.permute(0, 3, 1, 2) if t.dim() == 4 else ours.reshape(t.shape))
    return net.to(dtype)


class BaseCnn(torch.nn.Module):
    def __init__(self, side, channels, outputs):
        super().__init__()
        for i in range(1, 6):
            kernel = 5 if i == 1 else 3
            self.add_module(f"conv{i}", torch.nn.Conv2d(channels if i == 1 else 32, 32, kernel, 2))
            side = (side - kernel) // 2 + 1
        self.dense1 = torch.nn.Linear(side * side * 32, 10)
        self.dense2 = torch.nn.Linear(10, 10)
        self.classifier = torch.nn.Linear(10, outputs)

    def forward(self, x):
        for i in range(1, 6):
            x = F.relu(self.get_submodule(f"conv{i}")(x))
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.classifier(F.relu(self.dense2(F.relu(self.dense1(x)))))


class Head(torch.nn.Module):
    """A torchvision DenseNet with our options: an 'fc' layer, no last ReLU, another epsilon."""
    def __init__(self, arch, outputs, hidden=0, final_relu=True, eps=1e-5):
        super().__init__()
        net = getattr(torchvision.models, arch)(num_classes=outputs)
        self.features, self.classifier, self.final_relu = net.features, net.classifier, final_relu
        if hidden:
            self.fc = torch.nn.Linear(net.classifier.in_features, hidden)
            self.classifier = torch.nn.Linear(hidden, outputs)
        self.relu = torch.nn.ReLU()
        for m in self.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.eps = eps

    def forward(self, x):
        x = self.features(x)
        x = (self.relu(x) if self.final_relu else x).mean((2, 3))
        return self.classifier(self.relu(self.fc(x)) if hasattr(self, "fc") else x)


class DoubleConv(torch.nn.Module):
    def __init__(self, channels, out, norm):
        super().__init__()
        for i in (1, 2):
            self.add_module(f"conv{i}", torch.nn.Conv2d(channels if i == 1 else out, out, 3, padding=1, bias=not norm))
            self.add_module(f"norm{i}", torch.nn.BatchNorm2d(out) if norm else torch.nn.Identity())
        self.relu = torch.nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))))


class Unet(torch.nn.Module):
    """The Kaggle lung U-Net; logits are (N,H,W,outputs), as ours."""
    def __init__(self, channels, outputs, base, depth, norm):
        super().__init__()
        self.depth, self.pool = depth, torch.nn.MaxPool2d(2)
        for i in range(1, depth + 1):
            width = base << (i - 1)
            self.add_module(f"enc{i}", DoubleConv(channels if i == 1 else width // 2, width, norm))
            self.add_module(f"up{i}", torch.nn.ConvTranspose2d(2 * width, width, 2, 2))
            self.add_module(f"dec{i}", DoubleConv(2 * width, width, norm))
        self.bottom = DoubleConv(width, 2 * width, norm)
        self.head = torch.nn.Conv2d(base, outputs, 1)

    def forward(self, x):
        skip = []
        for i in range(1, self.depth + 1):
            skip.append(self.get_submodule(f"enc{i}")(x))
            x = self.pool(skip[-1])
        x = self.bottom(x)
        for i in range(self.depth, 0, -1):
            x = torch.cat([self.get_submodule(f"up{i}")(x), skip.pop()], 1)
            x = self.get_submodule(f"dec{i}")(x)
        return self.head(x).permute(0, 2, 3, 1)


def watch_kinks(net):
    """A list that gathers, layer by layer, the distance of the nearest activation to a kink: 0 for a ReLU, the runner-up for max-pooling."""
    margins = []

    def relu(module, inputs):
        margins.append(inputs[0].detach().abs().min().item())

    def pool(module, inputs):
        x = inputs[0].detach()
        top = F.unfold(x.reshape(-1, 1, *x.shape[2:]), module.kernel_size, padding=module.padding, stride=module.stride).topk(2, 1)[0]
        margins.append((top[:, 0] - top[:, 1])[top[:, 0] > 0].min().item())

    for m in net.modules():
        if isinstance(m, (torch.nn.ReLU, torch.nn.MaxPool2d)):
            m.register_forward_pre_hook(relu if isinstance(m, torch.nn.ReLU) else pool)
    return margins


def halves(z, seed):
    """Targets of the shape of z: a fifth unlabelled, the rest 0 or 1."""
    u = philox.uniform(seed, philox.fnv1a("target"), z.numel()).reshape(z.shape)
    return torch.tensor(np.where(u < 0.2, -1.0, (u >= 0.6) * 1.0)).to(z.dtype)


def bce(z, seed):
    t = halves(z, seed)
    w = torch.tensor(value(seed, "loss.weight", (1, 1, 2, z.shape[1]))[0, 0]).to(z.dtype)
    terms = w[0] * F.binary_cross_entropy_with_logits(z, t * 0.9 + 0.05, reduction="none", pos_weight=w[1] / w[0])
    return terms[t >= 0].sum() / (t >= 0).sum()


def ce(z, seed):
    u = philox.uniform(seed, philox.fnv1a("target"), z.shape[0])
    w = torch.tensor(value(seed, "loss.weight", (1, 1, 1, z.shape[1])).reshape(-1)).to(z.dtype)
    return F.cross_entropy(z, torch.tensor(np.floor(u * z.shape[1])).long(), w, label_smoothing=0.1)


def dice(z, seed):
    t, p = halves(z, seed), torch.sigmoid(z)
    seen = t >= 0
    return -(2 * (t * p)[seen].sum() + 1) / (t[seen].sum() + p[seen].sum() + 1)


def seeded(z, seed):
    """The logits' gradient is drawn: what a plan that starts at the logits is given."""
    return (z * torch.tensor(signed(seed, "seed", tuple(z.shape))).to(z.dtype)).sum()


def summary(t):
    flat = ohwi(t).reshape(-1)
    stride = 1 + flat.numel() // SAMPLES
    return torch.cat([flat.abs().max()[None], flat.norm()[None], flat[::stride]]).detach().numpy().astype(np.float32)


def run(make, seed, side, channels, batch, loss, training, dtype=torch.float64):
    net = fill(make(), seed, dtype)
    net.train(training)
    margins = watch_kinks(net)
    x = torch.tensor(signed(seed, "input", (batch, side, side, channels))).to(dtype).requires_grad_(True)
    z = net(x.permute(0, 3, 1, 2))
    out = {"logits": z.detach().numpy().astype(np.float32).reshape(-1)}
    if loss:
        total = loss(z, seed)
        total.backward()
        out["loss"] = np.array([total.item()], np.float32)
        out["grad/input"] = summary(x.grad.permute(0, 3, 1, 2))
        out |= {f"grad/{name}": summary(p.grad) for name, p in net.named_parameters()}
    if loss and margins:
        print("nearest to a kink:", min(margins))
    if training:
        out |= {f"state/{name}": summary(b) for name, b in net.named_buffers() if "running" in name}
    return out


RUNS = {
    "base_cnn": (lambda: BaseCnn(97, 3, 3), 2054, 97, 3, 3, ce, True),
    "densenet121_train": (lambda: Head("densenet121", 14), 2024, 64, 3, 3, bce, True),
    "densenet121_eval": (lambda: Head("densenet121", 1, 10, False, 1.001e-5), 2054, 64, 3, 2, seeded, False),
    "densenet169": (lambda: Head("densenet169", 5), 2054, 48, 3, 2, None, False),
    "densenet201": (lambda: Head("densenet201", 2), 2054, 48, 3, 2, None, False),
    "unet": (lambda: Unet(1, 1, 2, 4, False), 2101, 32, 1, 2, dice, True),
    "unet_norm": (lambda: Unet(3, 2, 3, 2, True), 2082, 12, 3, 3, dice, True),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for run_name, arguments in RUNS.items():
        exact, single = run(*arguments), run(*arguments, dtype=torch.float32)
        worst = max((np.abs(exact[k] - single[k]).max() / np.abs(exact[k]).max(), k) for k in exact)
        save_file(exact, f"tests/golden/model_{run_name}.safetensors")
        print(run_name, len(exact), "tensors; PyTorch's own float32 differs by at most", worst, exact["logits"][:3])
    with open("tests/golden/model_names.csv", "w") as f:
        f.write("arch,name,o,h,w,i\n")
        for arch in ("densenet121", "densenet169", "densenet201"):
            for name, t in getattr(torchvision.models, arch)(num_classes=1000).state_dict().items():
                if not name.endswith("num_batches_tracked"):
                    f.write(",".join(map(str, (arch, name, *ohwi(t).shape))) + "\n")
