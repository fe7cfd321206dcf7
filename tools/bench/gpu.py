#!/usr/bin/env python3
"""Measures cxnet on an NVIDIA GPU, alone and beside PyTorch, and appends each figure as a row of a table. tools/gpu_check.sh calls it part by part.

    tools/bench/gpu.py roof       multiply-adds and bandwidth of the GPU, measured by cxnet
    tools/bench/gpu.py steps      each kind of step of DenseNet-121's training and inference against the roof
    tools/bench/gpu.py speed      cxnet: films/s of the works below
    tools/bench/gpu.py eager      PyTorch: eager, channels_last, AMP in bfloat16, of the same works
    tools/bench/gpu.py compile    torch.compile, channels_last, AMP in bfloat16; a compilation takes most of a minute, so the works that matter come first
    tools/bench/gpu.py --self-test

Works: training and inference of DenseNet-121 in bfloat16, batch 16, 32, 256 at 224 and 320 px; one film at 224 px; the lung U-Net at 256 px, batch 16. All
works of a peer run in one process, since its start takes seconds. Both sides copy the films of a training step from the host.

Columns: date, card, driver, commit, what (train, infer, roof, or the step and its implementation), model, precision, side, batch, unit, cxnet (the figure),
against (eager, compile, roof, or nothing), peer (its figure), ratio (above 1: cxnet is faster; of a step: the share of the roof that it reaches), memory_mb
(what cxnet holds on the GPU; of a step: what it moves), peer_memory_mb. Empty: not measured.
"""
import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "tools" / "bench" / "peer.py"
RESULTS = ROOT / "tools" / "bench" / "results" / "gpu.tsv"
VENV = Path("~/.cache/cxnet/peers-venv/bin/python").expanduser()
COLUMNS = ["date", "card", "driver", "commit", "what", "model", "precision", "side", "batch", "unit", "cxnet", "against", "peer", "ratio", "memory_mb",
           "peer_memory_mb"]
PARTS = ["roof", "steps", "speed", "eager", "compile"]

Work = namedtuple("Work", "what model precision side batch")
WORKS = ([Work(what, "densenet121", "bf16", side, batch) for side in (224, 320) for batch in (256, 32, 16) for what in ("train", "infer")] +
         [Work("infer", "densenet121", "bf16", 224, 1)] + [Work(what, "unet", "bf16", 256, 16) for what in ("train", "infer")])
COMPILED = [Work("train", "densenet121", "bf16", 224, 256), Work("infer", "densenet121", "bf16", 224, 256), Work("train", "densenet121", "bf16", 224, 16),
            Work("infer", "densenet121", "bf16", 224, 1)]


def note(message):
    print(message, file=sys.stderr, flush=True)


def title(w):
    return f"{w.what} {w.model}, {w.side} px, batch {w.batch}, {w.precision}"


def steps(w):
    return 10 if w.batch >= 256 else 40


# ---- rows ------------------------------------------------------------------------------------------------------------


class Table:
    def __init__(self, path, card):
        self.path = path
        self.card, self.driver = ([c.strip() for c in card.split(",")] + ["", ""])[:2]

    def add(self, **figures):
        """Appends one row and shows it."""
        row = dict.fromkeys(COLUMNS, "") | {"date": datetime.date.today().isoformat(), "card": self.card, "driver": self.driver} | figures
        row = {k: f"{v:.5g}" if isinstance(v, float) else str(v) for k, v in row.items()}
        unknown = set(row) - set(COLUMNS)
        assert not unknown, unknown
        new = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as f:
            if new:
                f.write("\t".join(COLUMNS) + "\n")
            f.write("\t".join(row[c] for c in COLUMNS) + "\n")
        print("  ".join(row[c] for c in COLUMNS[4:] if row[c] != ""), flush=True)


def bench(cxnet, what, w=None, count=0):
    """What `cxnet bench` prints; raises RuntimeError with its message."""
    words = [cxnet, "bench", what, "--device", "cuda", "--json"]
    if w:
        words += ["--model", w.model, "--side", w.side, "--batch", w.batch, "--precision", w.precision, "--channels", 1 if w.model == "unet" else 3,
                  "--steps", count or steps(w)]
    if what == "step" and w.what == "infer":
        words.append("--eval")
    done = subprocess.run([str(x) for x in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def add_roof(table, r):
    for key, unit in (("fp32_gflops", "GFLOP/s"), ("bf16_gflops", "GFLOP/s"), ("read_gbs", "GB/s"), ("copy_gbs", "GB/s")):
        table.add(commit=r["commit"], what=f"roof {key}", unit=unit, cxnet=float(r["roof"][key]), memory_mb=float(r["memory_bytes"]) / 1e6)


def add_steps(table, w, r):
    """A row a kind of step, the slowest first: what it reaches, in the unit that bounds it, against the roof."""
    for k in r["kinds"]:
        flop = k["bound"] == "flop"
        reached, share = (k["gflop_per_s"] if flop else k["gb_per_s"]), k["percent_of_roof"] / 100
        table.add(commit=r["commit"], what=f"{w.what}: {k['phase']} {k['op']}, {k['impl']}", model=w.model, precision=w.precision, side=w.side, batch=w.batch,
                  unit="GFLOP/s" if flop else "GB/s", cxnet=float(reached), memory_mb=(k["bytes_read"] + k["bytes_written"]) / 1e6,
                  **({"against": "roof", "peer": float(reached / share), "ratio": float(share)} if share > 0 else {}))


def mine(r):
    return {"commit": r["commit"], "films_per_s": r["films_per_s"]["median"], "mb": sum(r["arena_bytes"].values()) / 1e6}


def add_speed(table, w, own, against="", peer=None):
    more = {"against": against, "peer": float(peer["films_per_s"]), "ratio": own["films_per_s"] / peer["films_per_s"],
            "peer_memory_mb": peer["peak_bytes"] / 1e6} if peer else {}
    table.add(commit=own["commit"], what=w.what, model=w.model, precision=w.precision, side=w.side, batch=w.batch, unit="films/s",
              cxnet=float(own["films_per_s"]), memory_mb=float(own["mb"]), **more)


# ---- parts -------------------------------------------------------------------------------------------------------------


def part_roof(o, table):
    add_roof(table, bench(o.cxnet, "roof"))
    return 0


def part_steps(o, table):
    for w in (Work("train", "densenet121", "bf16", 224, 256), Work("infer", "densenet121", "bf16", 224, 256)):
        add_steps(table, w, bench(o.cxnet, "step", w, 5))
    return 0


def part_speed(o, table):
    failed = 0
    for w in WORKS:
        try:
            add_speed(table, w, mine(bench(o.cxnet, w.what, w)))
        except RuntimeError as e:
            failed += 1
            note(f"failed: {title(w)}: {e}")
    return failed


def peer_python(o):
    for python in [o.python] if o.python else [VENV, sys.executable]:
        if subprocess.run([str(python), "-c", "import torch, torchvision; assert torch.cuda.is_available()"], capture_output=True).returncode == 0:
            return python
    return None


class LeftOut(Exception):
    """The peer cannot do this work."""


def ask(peer, w):
    """One work of the peer, which then waits: the GPU is cxnet's alone while that is measured."""
    try:
        peer.stdin.write(f"{' '.join(map(str, w))} {steps(w)}\n")
        peer.stdin.flush()
    except BrokenPipeError:
        raise LeftOut("it ended") from None
    line = peer.stdout.readline()
    r = json.loads(line) if line else {"error": "it ended"}
    if "error" in r:
        raise LeftOut(r["error"])
    return r


def beside(o, table, peer, words, env, works):
    """Asks the process `words` for each work and measures cxnet after it. Returns how many works cxnet failed."""
    failed, began = 0, time.monotonic()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as p:
        for w in works:
            if time.monotonic() - began > o.seconds:
                note(f"left out: {title(w)}, {peer}: no time")
                continue
            try:
                add_speed(table, w, mine(bench(o.cxnet, w.what, w)), peer, ask(p, w))
            except LeftOut as e:
                note(f"left out: {title(w)}, {peer}: {e}")
            except RuntimeError as e:
                failed += 1
                note(f"failed: {title(w)}: {e}")
        with contextlib.suppress(BrokenPipeError):      # it has ended already
            p.stdin.close()
    return failed


def part_peer(o, table, peer, works):
    """Works of a peer, in one process, each beside cxnet. Its failures are its own; those of cxnet count."""
    python = peer_python(o)
    if not python:
        note(f"left out: {peer}: no Python here has PyTorch with CUDA and torchvision ({o.python or VENV}, ...); name one with --python")
        return 0
    words = [str(python), "-W", "ignore", str(PEER), "many", "eager_cl" if peer == "eager" else peer, "cuda"]
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(VENV.parents[1] / "inductor"))}
    return beside(o, table, peer, words, env, works)


# ---- without a GPU -------------------------------------------------------------------------------------------------------


def self_test():
    """Rows from what the program prints; the table reads back as it was written."""
    with tempfile.TemporaryDirectory() as folder:
        t = Table(Path(folder) / "gpu.tsv", "NVIDIA Test, 1.2")
        add_roof(t, {"commit": "c", "memory_bytes": 5e6, "roof": {"fp32_gflops": 1e4, "bf16_gflops": 0, "read_gbs": 1e3, "copy_gbs": 2e3}})
        kind = {"phase": "forward", "op": "conv2d", "impl": "x", "bytes_read": 3e6, "bytes_written": 1e6, "gflop_per_s": 50.0, "gb_per_s": 500.0}
        add_steps(t, WORKS[0], {"commit": "c", "kinds": [kind | {"bound": "byte", "percent_of_roof": 25}, kind | {"bound": "-", "percent_of_roof": 0}]})
        own = mine({"commit": "c", "films_per_s": {"median": 300.0}, "arena_bytes": {"param": 1e6, "act": 2e6}})
        add_speed(t, WORKS[0], own)
        add_speed(t, WORKS[0], own, "eager", {"films_per_s": 100.0, "peak_bytes": 9e6})
        lines = [line.split("\t") for line in t.path.read_text(encoding="utf-8").splitlines()]
        rows = [dict(zip(COLUMNS, line)) for line in lines[1:]]
        assert lines[0] == COLUMNS and all(len(line) == len(COLUMNS) for line in lines) and len(rows) == 8
        assert rows[0]["card"] == "NVIDIA Test" and rows[0]["driver"] == "1.2" and rows[0]["cxnet"] == "10000"
        assert rows[4]["unit"] == "GB/s" and float(rows[4]["peer"]) == 2000 and rows[4]["ratio"] == "0.25" and rows[4]["memory_mb"] == "4"
        assert rows[5]["against"] == rows[5]["peer"] == rows[5]["ratio"] == ""
        assert rows[6]["cxnet"] == "300" and rows[6]["peer"] == "" and rows[6]["memory_mb"] == "3"
        assert rows[7]["against"] == "eager" and rows[7]["ratio"] == "3" and rows[7]["peer_memory_mb"] == "9"
        mocked = Path(folder) / "cxnet"
        mocked.write_text("#!/bin/sh\necho '" + json.dumps({"commit": "c", "films_per_s": {"median": 30}, "arena_bytes": {"act": 1}}) + "'\n")
        mocked.chmod(0o755)
        answers = ['{"films_per_s": 10, "peak_bytes": 1}', '{"error": "out of memory"}']             # and then it ends
        words = [sys.executable, "-c", f"import sys\nfor answer, line in zip({answers}, sys.stdin): print(answer, flush=True)"]
        o = argparse.Namespace(cxnet=str(mocked), seconds=60)
        assert beside(o, t, "eager", words, None, WORKS[:4]) == 0
        o.cxnet = "/bin/false"
        assert beside(o, t, "eager", words, None, WORKS[:2]) == 2
        last = [dict(zip(COLUMNS, line.split("\t"))) for line in t.path.read_text(encoding="utf-8").splitlines()[1:]]
        assert len(last) == 9 and last[8]["ratio"] == "3" and last[8]["what"] == WORKS[0].what
    assert len(set(WORKS)) == len(WORKS) and set(COMPILED) <= set(WORKS)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", nargs="?", choices=PARTS)
    p.add_argument("--self-test", action="store_true", help="check the tables of this script; needs no GPU")
    p.add_argument("--cxnet", default=str(ROOT / "build" / "release" / "cxnet"), help="the program (default: build/release/cxnet)")
    p.add_argument("--card", default="", help="name and version of the driver, as nvidia-smi prints them: \"NAME, VERSION\"")
    p.add_argument("--seconds", type=int, default=600, help="peers: no work begins later than this (default: 600)")
    p.add_argument("--save", type=Path, default=RESULTS, metavar="FILE", help="where rows are appended (default: tools/bench/results/gpu.tsv)")
    p.add_argument("--python", help="a Python that has PyTorch with CUDA (default: that of peers.py's environment, or this one)")
    o = p.parse_args()
    if o.self_test:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            return self_test()
    if not o.part:
        p.error("want one of " + ", ".join(PARTS))
    table, began = Table(o.save, o.card), time.monotonic()
    one = {"roof": part_roof, "steps": part_steps, "speed": part_speed}
    try:
        failed = one[o.part](o, table) if o.part in one else part_peer(o, table, o.part, WORKS if o.part == "eager" else COMPILED)
    except RuntimeError as e:
        sys.exit(f"gpu.py: {e}")
    note(f"{o.part}: {time.monotonic() - began:.0f} s")
    if failed:
        sys.exit(f"gpu.py: {failed} failed")


if __name__ == "__main__":
    main()
