#!/usr/bin/env python3
"""Runs PyTorch and cxnet alternately on the same network, and prints the ratio of their speeds with its spread.

    tools/bench/peers.py                         DenseNet-121, 224 px, batch 16: training and inference, 7 pairs
    tools/bench/peers.py --what train --pairs 3 --save

The peer is PyTorch eager, channels_last, float32, with torchvision's model: training is forward, binary cross-entropy on one logit, backward, Adam;
inference is eval mode under inference_mode. It lives in a virtual environment outside the repository, made when absent (torch and torchvision from PyPI:
about 5.5 GB, two minutes). Each side runs in a process of its own with the same number of threads, first one, then the other, for each pair; who begins
alternates. A pair's ratio is robust against a machine whose speed drifts, which the speeds themselves are not. --save appends a table to
tools/bench/results/.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PEER = r'''
import json, resource, statistics, sys, time
import torch, torchvision
what, model, side, batch, threads, steps = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
torch.set_num_threads(threads)
torch.manual_seed(0)
net = getattr(torchvision.models, model)(weights=None, num_classes=1).to(memory_format=torch.channels_last)
x = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
t = torch.randint(0, 2, (batch, 1)).float()
train = what == "train"
net.train(train)
adam = torch.optim.Adam(net.parameters(), lr=1e-4) if train else None

def step():
    if not train:
        with torch.inference_mode():
            return net(x)
    adam.zero_grad(set_to_none=True)
    torch.nn.functional.binary_cross_entropy_with_logits(net(x), t).backward()
    adam.step()

times = []
for i in range(-2, steps):
    t0 = time.perf_counter()
    step()
    if i >= 0:
        times.append(time.perf_counter() - t0)
print(json.dumps({"films_per_s": batch / statistics.median(times), "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                  "version": "torch %s torchvision %s" % (torch.__version__, torchvision.__version__)}))
'''


def fail(message):
    sys.exit("peers.py: " + message)


def peer_python(venv):
    """The interpreter of the peers' environment, which is made when it is absent."""
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"making {venv} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    if subprocess.run([str(python), "-c", "import torch, torchvision"], capture_output=True).returncode != 0:
        print("installing torch and torchvision from PyPI", file=sys.stderr)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "torch", "torchvision"], check=True)
    return python


def child(command, threads):
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        fail(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)


def run_peer(python, what, o):
    return child([str(python), "-c", PEER, what, o.model, str(o.side), str(o.batch), str(o.threads), str(o.steps)], o.threads)


def run_cxnet(what, o):
    size = ["--side", str(o.side), "--batch", str(o.batch), "--threads", str(o.threads), "--steps", str(o.steps)]
    r = child([o.cxnet, "bench", what, "--model", o.model, *size, "--json"], o.threads)
    return {"films_per_s": r["films_per_s"]["median"], "peak_rss_bytes": r["peak_rss_bytes"], "version": "cxnet %s %s" % (r["version"], r["commit"]),
            "device": r["device"]}


def spread(values, form):
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


def measure(python, what, o):
    pairs = []
    for i in range(o.pairs):
        if i % 2 == 0:
            peer, mine = run_peer(python, what, o), run_cxnet(what, o)
        else:
            mine = run_cxnet(what, o)
            peer = run_peer(python, what, o)
        pairs.append((peer, mine))
        print(f"{what}, pair {i + 1} of {o.pairs}: PyTorch {peer['films_per_s']:.2f}, cxnet {mine['films_per_s']:.2f} films/s, "
              f"ratio {mine['films_per_s'] / peer['films_per_s']:.2f}", file=sys.stderr)
    return pairs


def show(what, pairs, o):
    speed = [[side["films_per_s"] for side in column] for column in zip(*pairs)]
    memory = [[side["peak_rss_bytes"] / 1e6 for side in column] for column in zip(*pairs)]
    print(f"\n{what}: {o.model}, {o.side} px, batch {o.batch}, float32, {o.threads} threads; {o.pairs} pairs of {o.steps} steps; median (min to max)")
    print(f"  {'':8}  {'films/s':28}  peak memory, MB")
    for name, k in (("PyTorch", 0), ("cxnet", 1)):
        print(f"  {name:8}  {spread(speed[k], lambda v: f'{v:.2f}'):28}  {spread(memory[k], lambda v: f'{v:.0f}')}")
    ratio = [spread([b / a for a, b in zip(*columns)], lambda v: f"{v:.3f}") for columns in (speed, memory)]
    print(f"  {'ratio':8}  {ratio[0]:28}  {ratio[1]}")


def machine_name():
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} CPUs"


def save(results, o):
    folder = ROOT / "tools" / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"peers_{o.model}_{o.side}px_b{o.batch}.tsv"
    new = not path.exists()
    columns = ["date", "machine", "cxnet", "peer", "what", "model", "side", "batch", "threads", "steps", "pair", "peer_films_per_s", "cxnet_films_per_s",
               "ratio", "peer_peak_mb", "cxnet_peak_mb"]
    today = datetime.date.today().isoformat()
    with path.open("a", encoding="utf-8") as f:
        if new:
            f.write("\t".join(columns) + "\n")
        for what, pairs in results.items():
            for i, (peer, mine) in enumerate(pairs):
                speed = peer["films_per_s"], mine["films_per_s"]
                row = [today, machine_name(), mine["version"], peer["version"], what, o.model, o.side, o.batch, o.threads, o.steps, i + 1, f"{speed[0]:.3f}",
                       f"{speed[1]:.3f}", f"{speed[1] / speed[0]:.4f}", f"{peer['peak_rss_bytes'] / 1e6:.0f}", f"{mine['peak_rss_bytes'] / 1e6:.0f}"]
                f.write("\t".join(map(str, row)) + "\n")
    print(f"\nappended to {path.relative_to(ROOT)}")


def main():
    cores = len(os.sched_getaffinity(0))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--what", default="train,infer", help="train, infer or both (default: train,infer)")
    p.add_argument("--model", default="densenet121", choices=["densenet121", "densenet169", "densenet201"])
    p.add_argument("--side", type=int, default=224)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--threads", type=int, default=cores, help=f"for both sides (default: all, {cores} here)")
    p.add_argument("--steps", type=int, default=5, help="measured steps of each run, after 2 that are not (default: 5)")
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--venv", type=Path, default=Path("~/.cache/cxnet/peers-venv"), help="environment of the peer (default: %(default)s)")
    p.add_argument("--cxnet", default=str(ROOT / "build" / "release" / "cxnet"), help="the program (default: build/release/cxnet)")
    p.add_argument("--save", action="store_true", help="append every pair to tools/bench/results/")
    o = p.parse_args()
    kinds = o.what.split(",")
    if any(k not in ("train", "infer") for k in kinds):
        fail(f"--what: want train, infer or train,infer, got {o.what!r}")
    if o.pairs < 1 or o.steps < 1:
        fail("--pairs and --steps: want at least 1")
    if not Path(o.cxnet).exists():
        fail(f"{o.cxnet} is not there; build it (cmake --preset release && cmake --build --preset release) or name it with --cxnet")
    python = peer_python(o.venv.expanduser())
    results = {what: measure(python, what, o) for what in kinds}
    first_peer, first_mine = next(iter(results.values()))[0]
    print(f"{machine_name()}; {first_mine['device']}; {first_mine['version']}; {first_peer['version']}")
    for what, pairs in results.items():
        show(what, pairs, o)
    if o.save:
        save(results, o)


if __name__ == "__main__":
    main()
