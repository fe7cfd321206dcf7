#!/usr/bin/env python3
"""Takes away what orders the threads of a kernel, one statement at a time, and asks whether the tests of kernels notice on the emulated GPU.

    tools/mutate_kernels.py                          every mutant (by hand: some minutes)
    tools/mutate_kernels.py --sample 4 --seed 1      a few of them, chosen by the seed
    tools/mutate_kernels.py --only gemm.cuh          those of one file
    tools/mutate_kernels.py --list                   names them, builds nothing

A mutant of a file in kernels/ lacks one barrier (__syncthreads, __syncwarp), one statement that waits for or commits an asynchronous copy (a call whose name
has wait, commit, arrive, barrier or fence in it), or one lane of the mask of an exchange. It is compiled from a copy of kernels/ in a temporary folder by the
commands of an existing build (--build, made by Ninja), linked with that build's other objects, and handed to that build's test programs as the only
instruction set (CX_TEST_ISA=emu), held to the operators that its file serves (CX_TEST_OPS). These run each case in all three schedules.

A survivor must be in tools/mutants.txt, with a reason why no test could notice. Exits 1 when one is not, when a line there fits no mutant or one that was
caught, and in a whole run when fewer than 90 % were caught.
"""
import argparse
import concurrent.futures
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KNOWN = ROOT / "tools" / "mutants.txt"
LEAST_CAUGHT = 0.9
PLUGIN = "tests/plugins/libcxnet_emu.so"
# Of a file with launchers of operators; and of single files, which are asked first.
OPERATOR_TESTS = ["test_kernels", "test_folded_kernels", "test_bf16_kernels"]
OTHER_TESTS = {"optim.cu": ["test_optim", "test_launchers"], "cam.cu": ["test_launchers"], "roof.cu": ["test_launchers"], "conv_dot.cu": ["test_dot"],
               "stem.cu": ["test_stem"], "film.cu": ["test_films"], "equalize.cu": ["test_films"], "around.cu": ["test_library_conv"],
               "ranks.cu": ["test_ranks"]}
LINKED = {"test_launchers"}                     # has the kernels in itself, not in the plug-in

# function: what encloses it; nth: which of the like statements there, from 1 on. text becomes with at [begin, end) of the file.
Mutant = namedtuple("Mutant", "file line function nth text begin end replacement")

STATEMENT = re.compile(r"(?<=[;{})\n])\s*(\b(?:__syncthreads|__syncwarp|\w*(?:wait|commit|arrive|barrier|fence)\w*)\s*(?:<[^;{}]*?>)?\s*\([^;{}]*?\)\s*;)")
EXCHANGE = re.compile(r"\b__\w+_sync\s*\(\s*([^,()]+?)\s*,")


# ---- sources ---------------------------------------------------------------------------------------------------------

def blanked(text):
    """As long and with as many lines, without comments, literals, directives, and what only nvcc compiles."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    text = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)
    out, states = [], []
    for line in text.split("\n"):
        m = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b\s*(.*)", line)
        if m and m.group(1) in ("ifdef", "ifndef", "if"):
            names_nvcc = m.group(1) != "if" and m.group(2).strip() == "__CUDACC__"
            states.append("off" if names_nvcc and m.group(1) == "ifdef" else "on before off" if names_nvcc else "on")
        elif m and m.group(1) == "else":
            states[-1] = {"off": "on", "on before off": "off"}.get(states[-1], states[-1])
        elif m and m.group(1) == "endif":
            states.pop()
        hide = "off" in states or re.match(r"\s*#", line) or (out and out[-1][1])
        out.append((" " * len(line) if hide else line, bool(hide) and line.endswith("\\")))
    return "\n".join(line for line, _ in out)


def functions(code):
    """(name, begin, end) of each function or struct at top level."""
    depth, head = 0, 0
    name = begin = None
    for i, ch in enumerate(code):
        if ch == "{":
            if depth == 0:
                calls = [c for c in re.findall(r"(\w+)\s*\(", code[head:i]) if not c.startswith("__")]
                struct = re.search(r"\bstruct\s+(?:alignas\s*\(\w+\)\s*)?(\w+)\s*$", code[head:i])
                name, begin = struct.group(1) if struct else calls[0] if calls else None, i
            depth += 1
        elif ch == "}":
            depth -= 1
            if depth == 0:
                if name:
                    yield name, begin, i
                head = i + 1
        elif ch == ";" and depth == 0:
            head = i + 1


def mutants_of(path, rng):
    text = path.read_text()
    code = blanked(text)
    places = [(m.start(1), m.end(1), ";") for m in STATEMENT.finditer(code)]
    places += [(m.start(1), m.end(1), f"({m.group(1)} & ~(1u << {rng.randrange(32)}))") for m in EXCHANGE.finditer(code)]
    bodies, seen = list(functions(code)), {}
    for begin, end, replacement in sorted(places):
        function = next((name for name, first, last in bodies if first <= begin < last), "?")
        like = text[begin:end] if replacement == ";" else "mask " + text[begin:end]
        nth = seen[function, like] = seen.get((function, like), 0) + 1
        yield Mutant(path.name, text.count("\n", 0, begin) + 1, function, nth, like, begin, end, replacement)


class Sources:
    """Which .cu files a function of a file ends up in, and which tests concern them."""
    def __init__(self, folder):
        self.code = {p.name: blanked(p.read_text()) for p in sorted(folder.iterdir()) if p.suffix in (".cu", ".cuh", ".h")}
        self.includes = {p.name: re.findall(r'^\s*#\s*include\s+"([^"/]+)"', p.read_text(), re.M) for p in sorted(folder.iterdir())}
        ops = (ROOT / "include" / "cxnet" / "ops.def").read_text()
        self.ops = set(re.findall(r"^OP\(\s*\w+,\s*(\w+)", ops, re.M))

    def closure(self, name):
        seen, todo = set(), [name]
        while todo:
            n = todo.pop()
            if n in self.code and n not in seen:
                seen.add(n)
                todo += self.includes[n]
        return seen

    def affected(self, m):
        if m.file.endswith(".cu"):
            return [m.file]
        word = re.compile(rf"\b{m.function}\b")
        uses = {f: sum(len(word.findall(self.code[n])) for n in self.closure(f)) for f in self.code if f.endswith(".cu") and m.file in self.closure(f)}
        return [f for f, n in uses.items() if n > 1]

    def served(self, files):
        names = {n for f in files for n in re.findall(r"\bcx_cuda_(?:fwd|bwd)_(\w+)\s*\(\s*const\s+cx_call\s*\*\s*c\s*\)\s*\{", self.code[f])}
        return sorted(o for o in self.ops if any(n == o or n.startswith(o + "_") for n in names))     # conv2d_dot is a second conv2d

    def tests(self, m):
        """[(program, operators)], the likeliest to notice first."""
        files = self.affected(m)
        ops = self.served(files)
        tests = [(t, "") for f in files for t in OTHER_TESTS.get(f, [])] + [(t, ",".join(ops)) for t in OPERATOR_TESTS if ops]
        if not tests:
            sys.exit(f"mutate_kernels: no test is known for {m.file}, {m.function}: name it in OTHER_TESTS, or delete a function that nothing calls")
        return tests


def read_known():
    """{(file, function, nth, text): reason}"""
    known = {}
    for i, line in enumerate(KNOWN.read_text().split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            parts = [p.strip() for p in line.split("|", 4)]
            if len(parts) != 5 or not parts[2].isdigit() or not parts[4]:
                sys.exit(f"{KNOWN.name}:{i}: want file | function | number | statement | reason")
            known[parts[0], parts[1], int(parts[2]), parts[3]] = parts[4]
    return known


def key(m):
    return m.file, m.function, m.nth, m.text


# ---- building and running --------------------------------------------------------------------------------------------

class Build:
    def __init__(self, folder):
        self.folder = folder
        commands = json.loads((folder / "compile_commands.json").read_text())
        self.compile = {Path(c["file"]).name: c for c in commands if "/cx_emu.dir/" in c["command"] and c["file"].endswith(".cu")}
        self.links = {target: self.link_command(target) for target in [PLUGIN] + ["tests/" + t for t in LINKED]}

    def link_command(self, target):
        out = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", target], check=True, capture_output=True, text=True).stdout
        return out.strip().split("\n")[-1]

    def make(self, work, files, programs):
        """Compiles `files` of work/kernels; links into work the plug-in, and those of `programs` that have kernels in themselves. An error's text, or None."""
        targets = [PLUGIN] + ["tests/" + t for t in LINKED & programs]
        link = " && ".join(self.links[t].replace(f" -o {t} ", f" -o {work / Path(t).name} ") for t in targets)
        for f in files:
            c = self.compile[f]
            args = shlex.split(c["command"])
            old = args[args.index("-o") + 1]
            new = str(work / (f + ".o"))
            swap = {c["file"]: str(work / "kernels" / f), old: new, f"-I{ROOT}/kernels": f"-I{work}/kernels", "-g": "-g0"}
            r = subprocess.run([swap.get(a, a) for a in args] + ["-w"], cwd=c["directory"], capture_output=True, text=True)
            if r.returncode:
                return r.stderr
            link = link.replace(" " + old + " ", " " + new + " ")
        r = subprocess.run(link, shell=True, cwd=self.folder, capture_output=True, text=True)
        return r.stderr if r.returncode else None

    def test(self, plugins, test, ops, limit):
        """(passed, the line that says most)"""
        env = dict(os.environ, CXNET_PLUGINS=str(plugins), CX_TEST_ISA="emu", OMP_WAIT_POLICY="passive", OMP_NUM_THREADS="1")
        if ops:
            env["CX_TEST_OPS"] = ops
        try:
            program = plugins / test if test in LINKED and (plugins / test).exists() else self.folder / "tests" / test
            r = subprocess.run([str(program)], cwd=ROOT, env=env, capture_output=True, text=True, errors="replace", timeout=limit)
        except subprocess.TimeoutExpired:
            return False, f"still running after {limit:.0f} s"
        lines = [line for line in (r.stdout + r.stderr).split("\n") if line.strip()]
        telling = [line for begin in ("emu: ", "ERROR: ", "[  ERROR") for line in lines if line.startswith(begin)]
        return r.returncode == 0, (telling or lines or [f"exit code {r.returncode}"])[0].strip()


def judge(m, sources, build, limits):
    """(whether it was caught, by what)"""
    work = Path(tempfile.mkdtemp(prefix="cxnet-mutant-"))
    try:
        shutil.copytree(ROOT / "kernels", work / "kernels")
        path = work / "kernels" / m.file
        text = path.read_text()
        path.write_text(text[:m.begin] + m.replacement + text[m.end:])
        error = build.make(work, sources.affected(m), {test for test, _ in sources.tests(m)})
        if error:
            sys.exit(f"mutate_kernels: {m.file}:{m.line} without \"{m.text}\" does not compile:\n{error}")
        for test, ops in sources.tests(m):
            passed, line = build.test(work, test, ops, limits[test])
            if not passed:
                return True, f"{test}: {line}"
        return False, ""
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_unchanged(build, sources, chosen):
    """The tests pass with the kernels as they are. Returns how long a mutant may take in each of them."""
    limits, wanted = {}, {}
    for m in chosen:
        for test, ops in sources.tests(m):
            wanted.setdefault(test, set()).update(ops.split(",") if ops else [])
    for test, ops in wanted.items():
        begun = time.monotonic()
        passed, line = build.test(build.folder / "tests" / "plugins", test, ",".join(sorted(ops)), 600)
        if not passed:
            sys.exit(f"mutate_kernels: {test} fails with the kernels as they are: {line}")
        limits[test] = 30 + 10 * (time.monotonic() - begun)
    return limits


# ---- telling ---------------------------------------------------------------------------------------------------------

def report(m, caught, by, known):
    reason = known.get(key(m))
    state = "caught" if caught else "listed" if reason else "SURVIVED"
    print(f"{state:8}  kernels/{m.file}:{m.line}  {m.function} {m.nth}  {m.text}  {by if caught else reason or ''}", flush=True)
    if caught and reason:
        print(f"          {KNOWN.name} says that nothing could catch it: strike its line")
    return caught == (not reason)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release", help="a build with its tests (default: build/release)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0, help="this many mutants (default: all)")
    parser.add_argument("--only", default="", help="mutants of one file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true")
    a = parser.parse_args()
    rng = random.Random(a.seed)
    files = [p for p in sorted((ROOT / "kernels").iterdir()) if p.suffix in (".cu", ".cuh")]
    everything = [m for p in files for m in mutants_of(p, rng)]
    known = read_known()
    stale = [k for k in known if k not in {key(m) for m in everything}]
    for k in stale:
        print(f"{KNOWN.name}: no such statement: {' | '.join(map(str, k))}")
    chosen = [m for m in everything if a.only in ("", m.file)]
    whole = not a.sample or a.sample >= len(chosen)
    if not whole:
        chosen = sorted(rng.sample(chosen, a.sample))
    if a.list:
        for m in chosen:
            print(f"kernels/{m.file}:{m.line}  {m.function} {m.nth}  {m.text}  {known.get(key(m), '')}")
        return 1 if stale else 0
    if not (a.build / "build.ninja").is_file():
        print(f"skipped: {a.build} was not made by Ninja, whose commands this takes over")
        return 0
    build, sources = Build(a.build.resolve()), Sources(ROOT / "kernels")
    limits = check_unchanged(build, sources, chosen)
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        results = pool.map(lambda m: judge(m, sources, build, limits), chosen)
        told = [(caught, report(m, caught, by, known)) for m, (caught, by) in zip(chosen, results)]
    caught, fine = (list(of) for of in zip(*told))
    caught = sum(caught)
    print(f"mutate_kernels: {caught} of {len(chosen)} mutants caught, {len(chosen) - caught} not; seed {a.seed}")
    few = whole and caught < LEAST_CAUGHT * len(chosen)
    return 1 if stale or few or not all(fine) else 0


if __name__ == "__main__":
    sys.exit(main())
