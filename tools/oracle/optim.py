"""Five updates of every optimiser by torch.optim in float64, for tests/cpu/test_optim.c. Writes tests/golden/optim.safetensors."""
import numpy as np
import torch
from safetensors.numpy import save_file

N, UPDATES = 517, 5
# name, class, arguments, factor that the gradient is scaled by first (clipping)
CASES = [
    ("sgd", torch.optim.SGD, dict(lr=0.1), 1.0),
    ("sgd_momentum", torch.optim.SGD, dict(lr=0.05, momentum=0.9), 1.0),
    ("sgd_decay", torch.optim.SGD, dict(lr=0.05, momentum=0.8, weight_decay=0.01), 0.25),
    ("adam", torch.optim.Adam, dict(lr=0.01), 1.0),
    ("adam_decay", torch.optim.Adam, dict(lr=0.003, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1), 0.5),
    ("adamw", torch.optim.AdamW, dict(lr=0.01, betas=(0.9, 0.95), weight_decay=0.2), 2.0),
]

if __name__ == "__main__":
    rng = np.random.default_rng(3)
    start = rng.normal(size=N).astype(np.float32)
    grads = rng.normal(size=(UPDATES, N)).astype(np.float32)
    grads[:, :7] = 0
    grads[1:, 7:20] *= 1e-6
    golden = {"start": start, "grads": grads}
    for name, optimiser, arguments, scale in CASES:
        p = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        o = optimiser([p], **arguments)
        for g in grads:
            p.grad = torch.tensor(g, dtype=torch.float64) * scale
            o.step()
        golden[f"{name}/p"] = p.detach().numpy()
        for key, short in (("momentum_buffer", "m"), ("exp_avg", "m"), ("exp_avg_sq", "v")):
            if o.state[p].get(key) is not None:
                golden[f"{name}/{short}"] = o.state[p][key].numpy()
    save_file({k: np.ascontiguousarray(v, dtype=np.float32).reshape(-1) for k, v in golden.items()}, "tests/golden/optim.safetensors")
