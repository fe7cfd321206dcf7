#!/usr/bin/env python3
"""Runs cxnet and its peers alternately on the same networks, and prints the ratio of their speeds with its spread.

    tools/bench/peers.py                                      DenseNet-121, 224 px, batch 16: training and inference against eager_cl, 7 pairs
    tools/bench/peers.py --what infer --batch 1 --peer openvino,onnxruntime --precision float32,bf16
    tools/bench/peers.py --what train --model unet --side 256 --batch 4 --pairs 3
    tools/bench/peers.py --suite --save                       the whole table of work (SUITE below), every pair appended to tools/bench/results/peers.tsv
    tools/bench/peers.py --suite train,infer1 --save          a piece of it: each piece appends
    tools/bench/peers.py --show                               medians and spreads of what was saved

Peers: eager (PyTorch, NCHW), eager_cl (channels_last), eager_best (the faster of the two), compile (torch.compile, channels_last), openvino and onnxruntime
(inference only; OpenVINO with the faster of its hints where a batch holds more than one film). Their networks and settings are in peer.py; they live in a
virtual environment outside the repository (--venv), made when absent (from PyPI: about 6 GB, some minutes). bf16 is autocast for PyTorch, a precision hint
for OpenVINO, --precision bf16 for cxnet; ONNX Runtime has none. Work that one side cannot do is left out, with a word.

Each side runs in a process of its own with the same number of threads and nothing else in its environment that speaks about threads; first one, then the
other, for each pair; who begins alternates. "start" is the time from the start of the process to the end of its first training step.
A ratio above 1 says that cxnet is faster. Before and after each pair, and by cxnet around its run, the peak of the machine is measured: where it fell below
85 % of the best that was seen (or of --peak), a core or the clock was gone; the pair counts as disturbed and is taken again, at most as often as there are
pairs. Medians are those of steady pairs, or of all when none was steady. Disturbed pairs are saved too, and say so.
"""
import argparse
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "tools" / "bench" / "peer.py"
RESULTS = ROOT / "tools" / "bench" / "results" / "peers.tsv"
PEERS = ["eager", "eager_cl", "eager_best", "compile", "openvino", "onnxruntime"]
TORCH = PEERS[:4]
MODELS = ["densenet121", "densenet169", "densenet201", "unet"]
PACKAGES = ["torch", "torchvision", "openvino", "onnxruntime", "onnx", "onnxscript"]
STEADY = 0.85
COLUMNS = ["date", "machine", "cxnet", "version", "peer", "what", "model", "precision", "isa", "side", "batch", "threads", "steps", "pair", "peer_films_per_s",
           "cxnet_films_per_s", "ratio", "peer_peak_mb", "cxnet_peak_mb", "peer_start_s", "cxnet_start_s", "fp32_gflops", "steady"]

Work = namedtuple("Work", "what model side batch precision isa peers")
Pair = namedtuple("Pair", "peer mine gflops")

SUITE = {
    "train": Work("train", "densenet121", 224, 16, "float32", "best", ("eager_best", "compile")),
    "train_bf16": Work("train", "densenet121", 224, 16, "bf16", "best", ("eager_best", "compile")),
    "train320": Work("train", "densenet121", 320, 16, "float32", "best", ("eager_best",)),
    "infer1": Work("infer", "densenet121", 224, 1, "float32", "best", ("openvino", "onnxruntime", "eager_best", "compile")),
    "infer16": Work("infer", "densenet121", 224, 16, "float32", "best", ("openvino", "onnxruntime", "eager_best")),
    "infer1_bf16": Work("infer", "densenet121", 224, 1, "bf16", "best", ("openvino", "eager_best")),
    "unet": Work("train", "unet", 256, 4, "float32", "best", ("eager_best",)),
    "unet_bf16": Work("train", "unet", 256, 4, "bf16", "best", ("eager_best",)),
    "start": Work("start", "densenet121", 224, 16, "float32", "best", ("eager_best",)),
    "avx2": Work("train", "densenet121", 224, 16, "float32", "avx2", ("eager_best",)),
}


class Failed(Exception):
    """One side ended without a result."""


def fail(message):
    sys.exit("peers.py: " + message)


def note(message):
    print(message, file=sys.stderr)


def title(w):
    isa = "" if w.isa == "best" else f", {w.isa}"
    return f"{w.what} {w.model}, {w.side} px, batch {w.batch}, {w.precision}{isa}"


# ---- children ------------------------------------------------------------------------------------------------------


def child(command, extra):
    """Runs one side and returns what it prints. Settings of threads that this shell has would speak for one side only; they are dropped."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "ATEN_"))}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=dict(env, **extra))
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def peer_python(venv, names):
    """The interpreter of the peers' environment, which is made when it is absent, with the packages that these peers need."""
    python = venv / "bin" / "python"
    if not python.exists():
        note(f"making {venv} (once)")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    wanted = PACKAGES[:2] if all(n in TORCH for n in names) else PACKAGES
    if subprocess.run([str(python), "-c", "import " + ", ".join(wanted)], capture_output=True).returncode != 0:
        note(f"installing {' '.join(wanted)} from PyPI")
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
    return python


class Sides:
    """How the two sides are called, and what has been found out about the peers and the machine so far."""

    def __init__(self, o, python):
        self.o, self.python, self.cache = o, python, o.venv.expanduser() / "cxnet-peers"
        self.best_gflops = o.peak
        self.cache.mkdir(parents=True, exist_ok=True)
        self.help = subprocess.run([o.cxnet, "help", "bench"], capture_output=True, text=True).stdout

    def obstacle(self, w, peer):
        """Why one side cannot do this work; None when both can."""
        if w.model not in self.help:
            return f"this cxnet has no {w.model}"
        if w.precision == "bf16" and "--precision" not in self.help:
            return "this cxnet has no --precision"
        if peer in self.o.exclude:
            return "excluded"
        if peer not in TORCH and w.what != "infer":
            return f"{peer} does not train"
        if peer == "onnxruntime" and w.precision == "bf16":
            return "onnxruntime has no bf16 on CPUs"
        if peer not in TORCH and w.isa != "best":
            return f"{peer} is not held to {w.isa} here"
        return None

    def steps(self, w):
        return self.o.steps or (3 if w.what != "infer" else 50 if w.batch == 1 else 5)

    def file(self, w):
        """The network as ONNX, exported once by a process of its own. Weights are random, so the name says all there is to know."""
        path = self.cache / f"{w.model}_{w.side}px_b{w.batch}.onnx"
        if not path.exists():
            note(f"exporting {path.name}")
            child([self.python, "-W", "ignore", PEER, "export", w.model, w.side, w.batch, path], {})
        return path

    def peer(self, w, peer, hint, steps=None):
        extra = {"OMP_NUM_THREADS": str(self.o.threads), "CUDA_VISIBLE_DEVICES": "", "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "inductor")}
        if w.isa == "avx2":
            extra |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        onnx = [] if peer in TORCH else [self.file(w), hint]
        size = [w.side, w.batch, self.o.threads, steps or self.steps(w)]
        return child([self.python, "-W", "ignore", PEER, peer, w.what, w.model, w.precision, *size, *onnx], extra)

    def choose(self, w, peer):
        """(peer, hint) to measure under this name. Where it leaves a choice, each is tried twice, in turn, and the one with the fastest run is taken."""
        if peer == "compile":
            note(f"{title(w)}: torch.compile fills its cache")
            self.peer(w, peer, "-", steps=1)
        if peer == "eager_best":
            choices = [("eager", "-"), ("eager_cl", "-")]
        elif peer == "openvino" and w.batch > 1:
            choices = [(peer, "latency"), (peer, "throughput")]
        else:
            return peer, "latency"
        best = {}
        for c in choices * 2:
            best[c] = min(cost(w, self.peer(w, *c, steps=2)), best.get(c, math.inf))
        note(f"{title(w)}: " + ", ".join(f"{' '.join(c)} {b:.4f} s" for c, b in best.items()))
        return min(best, key=best.get)

    def cxnet(self, w):
        what, steps = ("train", 1) if w.what == "start" else (w.what, self.steps(w))
        size = ["--side", w.side, "--batch", w.batch, "--threads", self.o.threads, "--steps", steps, "--channels", 1 if w.model == "unet" else 3]
        more = (["--precision", "bf16"] if w.precision == "bf16" else []) + (["--device", "cpu:avx2"] if w.isa == "avx2" else [])
        r = child([self.o.cxnet, "bench", what, "--model", w.model, *size, *more, "--json"], {})
        return dict(r, films_per_s=r["films_per_s"]["median"], version=f"cxnet {r['version']} {r['commit']}")

    def peak(self):
        gflops = child([self.o.cxnet, "bench", "roof", "--threads", self.o.threads, "--json"], {})["roof"]["fp32_gflops"]
        if not self.o.peak:
            self.best_gflops = max(self.best_gflops, gflops)
        return gflops


# ---- measuring -----------------------------------------------------------------------------------------------------


def cost(w, run):
    """Seconds for a film, or for the start: what the ratio compares."""
    return run["start_s"] if w.what == "start" else 1 / run["films_per_s"]


def ratio(w, p):
    return cost(w, p.peer) / cost(w, p.mine)


def is_steady(p, sides):
    return p.gflops >= STEADY * sides.best_gflops


def measure(w, peer, sides):
    """Pairs against one peer, as rows of the table."""
    began = time.monotonic()
    peer, hint = sides.choose(w, peer)
    pairs, before = [], sides.peak()
    while len(pairs) < 2 * sides.o.pairs and sum(is_steady(p, sides) for p in pairs) < sides.o.pairs:
        if len(pairs) % 2 == 0:
            other, mine = sides.peer(w, peer, hint), sides.cxnet(w)
        else:
            mine = sides.cxnet(w)
            other = sides.peer(w, peer, hint)
        after = sides.peak()
        between = [mine["roof"][when]["fp32_gflops"] for when in ("before", "after")] if w.isa == "best" else []
        p = Pair(other, mine, min(before, after, *between))
        before = after
        pairs.append(p)
        speed = [f"{r['start_s']:.2f} s" if w.what == "start" else f"{r['films_per_s']:.2f}" for r in (other, mine)]
        note(f"{title(w)}, pair {len(pairs)}: {peer} {speed[0]}, cxnet {speed[1]}, ratio {ratio(w, p):.2f}; float32 peak {p.gflops:.0f} GFLOP/s"
             + ("" if is_steady(p, sides) else ", disturbed"))
    note(f"{title(w)}, {peer}: {len(pairs)} pairs in {time.monotonic() - began:.0f} s")
    return [row(w, peer, i + 1, p, sides) for i, p in enumerate(pairs)]


def row(w, peer, number, p, sides):
    speed = ["", ""] if w.what == "start" else [f"{r['films_per_s']:.3f}" for r in (p.peer, p.mine)]
    memory = [f"{r['peak_rss_bytes'] / 1e6:.0f}" for r in (p.peer, p.mine)]
    start = [f"{r['start_s']:.2f}" for r in (p.peer, p.mine)]
    values = [datetime.date.today().isoformat(), machine_name(), p.mine["version"], p.peer["version"], peer, w.what, w.model, w.precision, w.isa, w.side,
              w.batch, sides.o.threads, sides.steps(w), number, *speed, f"{ratio(w, p):.4f}", *memory, *start, f"{p.gflops:.0f}", int(is_steady(p, sides))]
    return dict(zip(COLUMNS, map(str, values)))


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


# ---- the table and what it says ------------------------------------------------------------------------------------


def save(rows, path):
    new = not path.exists()
    with path.open("a", encoding="utf-8") as f:
        if new:
            f.write("\t".join(COLUMNS) + "\n")
        for r in rows:
            f.write("\t".join(r[c] for c in COLUMNS) + "\n")


def load(path):
    if not path.exists():
        fail(f"{path} is not there; --save makes it")
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[0].split("\t") != COLUMNS:
        fail(f"{path}:1: want the columns {', '.join(COLUMNS)}")
    return [dict(zip(COLUMNS, line.split("\t"))) for line in lines[1:]]


def spread(values, form):
    return f"{form % statistics.median(values)} ({form % min(values)} to {form % max(values)})"


def groups(rows, columns):
    out = {}
    for r in rows:
        out.setdefault(tuple(r[c] for c in columns), []).append(r)
    return out.items()


def show_line(rows):
    """One line for one peer and work. Rows that do not say whether they were steady count."""
    r, used = rows[0], [s for s in rows if s["steady"] != "0"] or rows
    w = Work(*(r[c] for c in ("what", "model", "side", "batch", "precision", "isa")), ())
    kind = "start_s" if w.what == "start" else "films_per_s"
    speed = [spread([float(s[f"{side}_{kind}"]) for s in used], "%.2f") for side in ("peer", "cxnet")]
    memory = [statistics.median(float(s[f"{side}_peak_mb"]) for s in used) for side in ("peer", "cxnet")]
    ratios = spread([float(s["ratio"]) for s in used], "%.3f")
    disturbed = sum(s["steady"] == "0" for s in rows)
    print(f"{title(w):52} {r['peer']:12} {speed[0]:24} {speed[1]:24} {ratios:24} {memory[0]:5.0f}/{memory[1]:<5.0f}  "
          f"{len(used)}" + (f", {disturbed} disturbed" if disturbed else "") + (" and counted" if disturbed == len(rows) else ""))


def show(rows):
    """A table for each machine and build of cxnet."""
    for (machine, mine), all_of_it in groups(rows, ("machine", "cxnet")):
        print(f"{machine}; {mine}; {', '.join(sorted({r['version'] for r in all_of_it}))}")
        print(f"{'work':52} {'peer':12} {'peer':24} {'cxnet':24} {'ratio':24} {'MB':>11}  pairs")
        for _, some in groups(all_of_it, ("what", "model", "side", "batch", "precision", "isa", "threads", "peer", "version")):
            show_line(some)
    print("films/s (start: seconds), median (min to max); ratio above 1: cxnet is faster; MB: peak memory, peer/cxnet")


# ---- the command line ----------------------------------------------------------------------------------------------


def words(allowed):
    def parse(text):
        out = text.split(",")
        for w in out:
            if w not in allowed:
                raise argparse.ArgumentTypeError(f"want {', '.join(allowed)}, got {w!r}")
        return out
    return parse


def numbers(text):
    out = [int(w) for w in text.split(",")]
    if any(n < 1 for n in out):
        raise argparse.ArgumentTypeError("want numbers of at least 1")
    return out


def arguments():
    cores = len(os.sched_getaffinity(0))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--suite", type=words(list(SUITE)), nargs="?", const=list(SUITE), metavar="NAMES",
                   help=f"the whole table of work, each with the peers that matter, or some of {', '.join(SUITE)}; --what to --avx2 are ignored")
    p.add_argument("--what", type=words(["train", "infer", "start"]), default=["train", "infer"], help="default: train,infer")
    p.add_argument("--peer", type=words(PEERS), default=["eager_cl"], help=f"of {', '.join(PEERS)} (default: eager_cl)")
    p.add_argument("--model", type=words(MODELS), default=["densenet121"], help=f"of {', '.join(MODELS)} (default: densenet121)")
    p.add_argument("--side", type=numbers, default=[224], help="default: 224")
    p.add_argument("--batch", type=numbers, default=[16], help="default: 16")
    p.add_argument("--precision", type=words(["float32", "bf16"]), default=["float32"], help="default: float32")
    p.add_argument("--avx2", action="store_true", help="hold both sides to AVX2")
    p.add_argument("--exclude", type=words(PEERS), default=[], help="peers to leave out, e.g. compile, which takes minutes")
    p.add_argument("--threads", type=int, default=cores, help=f"for both sides (default: all, {cores} here)")
    p.add_argument("--steps", type=int, default=0, help="measured steps of each run, after 2 that are not (default: 3; inference 5, of one film 50)")
    p.add_argument("--pairs", type=int, default=7, help="steady pairs wanted (default: 7)")
    p.add_argument("--peak", type=float, default=0.0, help="GFLOP/s in float32 that this machine has when quiet; without it a series that never saw the "
                   "whole machine calls itself steady")
    p.add_argument("--venv", type=Path, default=Path("~/.cache/cxnet/peers-venv"), help="environment of the peers (default: %(default)s)")
    p.add_argument("--cxnet", default=str(ROOT / "build" / "release" / "cxnet"), help="the program (default: build/release/cxnet)")
    p.add_argument("--save", type=Path, nargs="?", const=RESULTS, metavar="FILE", help="append every pair to FILE (default: tools/bench/results/peers.tsv)")
    p.add_argument("--show", type=Path, nargs="?", const=RESULTS, metavar="FILE", help="measure nothing; sum up what --save wrote")
    o = p.parse_args()
    if o.pairs < 1 or o.steps < 0 or o.threads < 1:
        fail("--pairs, --steps and --threads: want at least 1")
    if not o.show and not Path(o.cxnet).exists():
        fail(f"{o.cxnet} is not there; build it (cmake --preset release && cmake --build --preset release) or name it with --cxnet")
    return o


def asked_for(o):
    if o.suite:
        return [SUITE[name] for name in o.suite]
    isa = "avx2" if o.avx2 else "best"
    return [Work(what, model, side, batch, precision, isa, tuple(o.peer))
            for model in o.model for side in o.side for batch in o.batch for precision in o.precision for what in o.what]


def main():
    o = arguments()
    if o.show:
        return show(load(o.show))
    work = asked_for(o)
    sides = Sides(o, peer_python(o.venv.expanduser(), {p for w in work for p in w.peers if p not in o.exclude}))
    rows, failed = [], 0
    for w, peer in [(w, peer) for w in work for peer in w.peers]:
        why = sides.obstacle(w, peer)
        try:
            some = [] if why else measure(w, peer, sides)
        except Failed as e:
            some, why, failed = [], str(e), failed + 1
        if why:
            note(f"left out: {title(w)}, {peer}: {why}")
        if o.save:
            save(some, o.save)
        rows += some
    if not rows:
        fail("nothing was measured")
    show(rows)
    if failed:
        fail(f"{failed} of these comparisons failed")


if __name__ == "__main__":
    main()
