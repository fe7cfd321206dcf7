#!/usr/bin/env python3
"""Reads what nvcc made of the kernels, in every architecture of the library, and holds it to what the kernels claim; exits 1 when anything is wrong.

    tools/check_sass.py [LIBRARY]        default: build/release/libcxnet_cuda.so
    tools/check_sass.py --table          prints registers, shared memory and wide accesses of each kernel as well

Checked: no local memory (spills, arrays that are no registers) but where LOCAL says why; registers times the threads of the launch bounds within a
multiprocessor's 65,536; at most 48 KiB of static shared memory; the instructions of WANTED. Needs cuobjdump and nvdisasm: those that $CUOBJDUMP names, or in
PATH, or beside nvcc; they are parts of the CUDA toolkit, and on PyPI nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm. Skips, saying so, where they or the
library are absent.
"""
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REGISTERS, SHARED = 65536, 48 << 10
SYSTEM_SHARED = {"sm_90a": 1 << 10}     # of each block, counted with its own

# Kernels that may use local memory: name -> (bytes at most, why).
LOCAL = {}

# Every instance of a kernel must have the instruction; a row whose name no kernel has is an error.
Row = namedtuple("Row", "kernel instruction why")
LOAD_16, STORE_16, SHARED_16 = r"LDG\.E\.(?:\w+\.)*128", r"STG\.E\.(?:\w+\.)*128", r"LDS\.(?:\w+\.)*128"
QUAD, UPDATE, SLAB = "four floats of a quad at once", "parameters, gradients and moments are the bytes of an update", "multiply() takes 16 bytes at once"
WANTED = [Row(k, LOAD_16, QUAD) for k in (
    "map_quads", "add_bwd", "drop_quads", "square_chunks", "sum_distances", "norm_apply", "sum_gradients", "put_gradients", "add_carry", "max_fwd", "avg_fwd",
    "cells_bwd", "tiles_bwd", "global_fwd", "global_bwd", "upsample_fwd", "upsample_bwd", "cam_pixels")]
WANTED += [Row(k, STORE_16, QUAD) for k in ("map_quads", "add_bwd", "drop_quads", "norm_apply", "put_gradients", "add_carry", "upsample_bwd")]
WANTED += [Row(k, i, UPDATE) for k in ("sgd", "adam") for i in (LOAD_16, STORE_16)]
WANTED += [Row(k, SHARED_16, SLAB) for k in ("conv2d_fwd", "conv2d_bwd_x", "conv2d_bwd_weight", "conv_transpose2d_fwd", "conv_transpose2d_bwd_x",
                                                   "conv_transpose2d_bwd_weight")]
WANTED += [Row("conv2d_stem", i, "weights, and a quad of the map, at once") for i in (LOAD_16, SHARED_16, STORE_16)]
WANTED += [Row(k, i, "tensor cores, fed 16 bytes at once") for k in ("conv2d_dot_fwd", "conv2d_dot_fwd_patch", "conv2d_dot_bwd_x", "conv2d_dot_bwd_x_patch",
                                                                  "conv2d_dot_bwd_weight", "conv2d_dot_bwd_weight_patch")
           for i in (r"\bHMMA\.16816\.F32\.BF16", r"LDGSTS\.E\.(?:\w+\.)*128", r"\bLDSM\b", LOAD_16)]

WANTED += [Row(k, i, "tensor cores, fed 16 bytes at once") for k in ("conv_transpose2d_dot_fwd", "conv_transpose2d_dot_bwd_x",
                                                                  "conv_transpose2d_dot_bwd_weight")
           for i in (r"\bHMMA\.16816\.F32\.BF16", r"LDGSTS\.E\.(?:\w+\.)*128", r"\bLDSM\b")]

WANTED += [Row("roof_dot", r"\bHMMA\.16816\.F32\.BF16", "the roof of what kernels multiply by")]

Kernel = namedtuple("Kernel", "arch symbol registers stack shared local")


def find_tool():
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    for path in (os.environ.get("CUOBJDUMP"), shutil.which("cuobjdump"), str(Path(nvcc).with_name("cuobjdump"))):
        if path and os.access(path, os.X_OK):
            return path
    return None


def dump(tool, what, library):
    env = dict(os.environ, PATH=f"{Path(tool).resolve().parent}{os.pathsep}{os.environ.get('PATH', '')}")
    r = subprocess.run([tool, what, str(library)], capture_output=True, text=True, env=env)
    if r.returncode:
        sys.exit(f"check_sass: {tool} {what} failed: {r.stderr.strip()}")
    return r.stdout


def name_of(symbol):
    """The last name of a mangled symbol's qualified name; the symbol itself when it is not mangled."""
    m = re.match(r"_ZN?L?(?=\d)", symbol)
    nested, at, name = m and "N" in m.group(0), m.end() if m else 0, symbol
    while m and (length := re.match(r"L?(\d+)", symbol[at:])):
        at += length.end() + int(length.group(1))
        name = symbol[at - int(length.group(1)):at]
        m = nested
    return name


def read_kernels(text):
    arch, symbol = "?", "?"
    for line in text.split("\n"):
        if m := re.match(r"arch = (\w+)", line):
            arch = m.group(1)
        elif m := re.match(r"\s*Function (\S+):", line):
            symbol = m.group(1)
        elif m := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            yield Kernel(arch, symbol, *map(int, m.groups()))


def read_bounds(text):
    """{symbol: most threads of a block}"""
    bounds = {}
    for m in re.finditer(r"\.entry\s+(\w+)\s*(?:\([^)]*\))?([^{]*)\{", text):
        if n := re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", m.group(2)):
            bounds[m.group(1)] = int(n.group(1)) * int(n.group(2) or 1) * int(n.group(3) or 1)
    return bounds


def read_code(text):
    """{(arch, symbol): its instructions}"""
    code, arch = {}, "?"
    lines = []
    for line in text.split("\n"):
        if m := re.match(r"\s*(?:code for|arch =) (sm_\w+)", line):
            arch = m.group(1)
        elif m := re.match(r"\s*Function : (\S+)", line):
            lines = code.setdefault((arch, m.group(1)), [])
        elif m := re.match(r"\s*/\*[0-9a-f]+\*/\s+([^;]*);", line):
            lines.append(m.group(1))
    return {k: "\n".join(v) for k, v in code.items()}


def check_limits(k, bounds):
    name = name_of(k.symbol)
    most, why = LOCAL.get(name, (0, ""))
    if max(k.stack, k.local) > most:
        yield f"{max(k.stack, k.local)} bytes of local memory, at most {most} are allowed" + (f" ({why})" if why else "")
    if k.symbol not in bounds:
        yield "no launch bounds: say __launch_bounds__"
    else:
        # A warp takes registers in units of 8 a thread.
        warps, each = (bounds[k.symbol] + 31) // 32, (k.registers + 7) // 8 * 8
        if warps * 32 * each > REGISTERS:
            yield f"{k.registers} registers for {bounds[k.symbol]} threads: {warps * 32 * each} of {REGISTERS}"
    static = k.shared - SYSTEM_SHARED.get(k.arch, 0) if k.shared else 0
    if static > SHARED:
        yield f"{static} bytes of static shared memory, at most {SHARED}"


def check_wanted(row, kernels, code):
    mine = [k for k in kernels if name_of(k.symbol) == row.kernel]
    if not mine:
        yield f"{row.kernel}: no kernel has this name, but {row.instruction} is wanted in it"
    for arch in sorted({k.arch for k in mine}):
        lacking = [k.symbol for k in mine if k.arch == arch and not re.search(row.instruction, code.get((arch, k.symbol), ""))]
        if lacking:
            yield f"{row.kernel} ({arch}): {len(lacking)} without {row.instruction} ({row.why}): {lacking[0]}"


def print_table(kernels, bounds, code):
    print("arch\tkernel\tthreads\tregisters\tlocal\tshared\tloads of 16\tstores of 16\tLDGSTS of 16\tHMMA\tsymbol")
    for k in kernels:
        text = code.get((k.arch, k.symbol), "")
        counts = [len(re.findall(p, text)) for p in (LOAD_16, STORE_16, r"LDGSTS\.E\.(?:\w+\.)*128", r"\bHMMA\.")]
        print(k.arch, name_of(k.symbol), bounds.get(k.symbol, "?"), k.registers, max(k.stack, k.local), k.shared, *counts, k.symbol, sep="\t")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--table"]
    library = Path(arguments[0]) if arguments else ROOT / "build" / "release" / "libcxnet_cuda.so"
    tool = find_tool()
    if not library.is_file() or not tool:
        print(f"skipped: {'no cuobjdump (name it in CUOBJDUMP)' if not tool else f'{library} is not here'}: registers and instructions of the kernels unseen")
        return 0
    kernels, bounds = list(read_kernels(dump(tool, "-res-usage", library))), read_bounds(dump(tool, "-ptx", library))
    code = read_code(dump(tool, "-sass", library))
    problems = [f"{name_of(k.symbol)} ({k.arch}): {p}: {k.symbol}" for k in kernels for p in check_limits(k, bounds)]
    problems += [p for row in WANTED for p in check_wanted(row, kernels, code)]
    problems += [f"{name}: no kernel has this name, but LOCAL allows it memory" for name in LOCAL if name not in {name_of(k.symbol) for k in kernels}]
    if not kernels or not code:
        problems.append(f"{library}: no kernel in it")
    if "--table" in sys.argv:
        print_table(kernels, bounds, code)
    for p in problems:
        print(p)
    print(f"check_sass: {len(kernels)} kernels for {', '.join(sorted({k.arch for k in kernels}))}, {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
