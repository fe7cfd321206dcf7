#!/usr/bin/env python3
"""Holds the sources to the rules of the house; prints file:line: what is wrong and exits 1 when anything is.

    check_style.py [ROOT]        checks the tree (default: the folder above this one)
    check_style.py --self-test   proves that each rule finds what it is for

Rules: include arrows between rooms; files of at most 600 lines, functions of at most 60, lines of at most 160 columns (tables of .def: 260);
no tabs, no blanks at line ends; no calls that print, exit or overrun buffers in the library; no mutable globals;
a first line that says what a file is for; no unfinished work, no paths of one machine.
A function may be longer where the line before it says why: /* long: reason */.
A variable may be mutable where its line or the one before says why: /* mutable: reason */.
A file may be longer where one of its first five lines says why: /* long file: reason */.
"""
import os
import re
import sys

FILE_LINES, FUNCTION_LINES, COLUMNS = 600, 60, 160

# What a room may include besides itself; what those include comes with them. The picture is in HACKING.md.
ARROWS = {
    "base": [], "image": ["base"], "data": ["image"], "ops": ["base"], "graph": ["ops"], "cpu": ["graph"], "cuda": ["graph"], "mpi": ["graph"],
    "model": ["graph"], "weights": ["model"], "train": ["data", "model", "weights"], "explain": ["model", "image"], "report": ["base"],
}
ARROWS["app"] = list(ARROWS)
# Public headers that are not named like their room.
PUBLIC = {"status.h": "base", "film.h": "base", "op.h": "ops", "ops.def": "ops", "stepper.h": "graph", "comm.h": "graph", "config.def": "train"}

PRINTING = "exit _exit abort printf puts putchar vprintf perror system assert err errx".split()
UNSAFE = "strcpy strcat sprintf vsprintf gets atoi atol atof strtok rand srand random alloca tmpnam mktemp".split()
# Spelled in pieces, so that this file may be checked too.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|st" r"ub|place" r"holder|not imple" r"mented)\b")
MACHINE = re.compile(r"(?<![\w.])(/wo" r"rk/|/tmp/w" r"t\b|/opt/pe" r"ers|/ro" r"ot/|/ho" r"me/\w)")
TEXT = (".c", ".h", ".def", ".cu", ".py", ".sh", ".cmake", ".txt", ".md", ".yaml", ".yml", ".in")
SKIP = {"build", "runs", "demo", "__pycache__", ".git", "golden", "shared", ".ci"}


def rooms_below(room):
    seen, todo = set(), [room]
    while todo:
        r = todo.pop()
        if r not in seen:
            seen.add(r)
            todo += ARROWS.get(r, [])
    return seen


def without_comments(text):
    """Same length and lines, with comments and the insides of literals blanked."""
    def blank(m):
        s = m.group(0)
        keep = s[0] if s[0] in "\"'" else ""
        inner = s[1:-1] if keep else s
        return keep + re.sub(r"[^\n]", " ", inner) + keep
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def room_of(path):
    parts = path.split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[:2] == ["include", "cxnet"]:
        name = parts[2]
        return PUBLIC.get(name, name.split(".")[0])
    return None


def check_includes(path, text, found):
    room = room_of(path)
    if room not in ARROWS:
        return
    may = rooms_below(room)
    for i, line in enumerate(text.split("\n"), 1):
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not m:
            continue
        name = m.group(1)
        if name.startswith("cxnet/"):
            other = PUBLIC.get(name[6:], name[6:].split(".")[0])
            if other not in may:
                found(i, f"{room} may not include \"{name}\": the arrows allow {', '.join(sorted(may))}")
        elif "/" in name and name.split("/")[0] in set(ARROWS) - may:
            found(i, f"{room} may not include \"{name}\": the arrows allow {', '.join(sorted(may))}")


def without_directives(code):
    """Blanks preprocessor lines, and what is for C++ only."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    code = re.sub(r"^#ifdef __cplusplus\n.*?^#endif", blank, code, flags=re.M | re.S)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, code, flags=re.M)


def top_level(code):
    """(first line, head, line of the opening brace or 0, last line) of everything that stands outside of functions."""
    depth, head, begun, brace, line = 0, "", 1, 0, 1
    for ch in code:
        line += ch == "\n"
        if ch == "{":
            depth += 1
            if depth == 1:
                brace, head = brace or line, head + "{"
        elif ch == "}":
            depth -= 1
            if depth == 0 and is_function(head):
                yield begun, head, brace, line
                head, brace = "", 0
        elif depth == 0 and ch == ";":
            yield begun, head, brace, line
            head, brace = "", 0
        elif depth == 0:
            if not head.strip():
                head, begun = "", line
            head += ch


def is_function(head):
    return re.search(r"\)\s*\{", head) is not None and "=" not in head


def check_functions(text, code, found):
    lines = text.split("\n")
    for begun, head, brace, end in top_level(code):
        n = end - brace - 1
        if is_function(head) and n > FUNCTION_LINES and not any("/* long:" in s for s in lines[max(0, begun - 3):brace + 1]):
            found(begun, f"a function of {n} lines; at most {FUNCTION_LINES}, or say why: /* long: reason */")


def check_globals(text, code, found):
    lines = text.split("\n")

    def excused(i):
        return any("/* mutable:" in s for s in lines[max(0, i - 2):i])
    for begun, head, _, _ in top_level(code):
        if not is_function(head) and is_mutable(head) and not excused(begun):
            found(begun, "a mutable global; make it const, or pass it along")
    for i, s in enumerate(code.split("\n"), 1):
        m = re.match(r"\s+(static\s[^;={(]*)[;={]", s)
        if m and is_mutable(m.group(1)) and not excused(i):
            found(i, "a mutable static variable; make it const, or pass it along")


def is_mutable(statement):
    s = " ".join(statement.split("=")[0].split())
    if not s or "(" in s or re.match(r"(typedef|extern|enum|union|struct \w+ ?$|struct \w+ ?\{|_Static_assert)", s):
        return False
    if not re.match(r"[A-Za-z_][\w ]*[\w* ]+", s) or " " not in s and "*" not in s:
        return False
    return not re.search(r"\bconst\b", s[s.rfind("*") + 1:] if "*" in s else s)


def check_calls(path, code, found):
    banned = UNSAFE + ([] if path.startswith("src/app/") else PRINTING)
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(banned) + r")\s*\(|\bfprintf\s*\(\s*(stdout)\b")
    for i, line in enumerate(code.split("\n"), 1):
        m = pattern.search(line)
        if m and (m.group(1) or not path.startswith("src/app/")):
            found(i, f"{m.group(1) or 'fprintf(stdout)'} has no place here: return cx_fail, or write into a cx_buf")


def check_c(path, text, found):
    code = without_comments(text)
    plain = without_directives(code)
    name = os.path.basename(path)
    if not text.startswith(f"/* {name} - "):
        found(1, f"the first line says what the file is for: /* {name} - one sentence. */")
    if name.endswith(".h") and not re.search(r"^#ifndef CX\w*_H$", text, re.M):
        found(1, "a header has a guard: #ifndef CX_..._H")
    n = text.count("\n")
    if n > FILE_LINES and "/* long file:" not in "\n".join(text.split("\n")[:5]):
        found(FILE_LINES, f"{n} lines; at most {FILE_LINES}, or say why: /* long file: reason */")
    check_includes(path, text, found)
    check_functions(text, plain, found)
    if path.startswith("src/"):
        check_globals(text, plain, found)
    if path.startswith(("src/", "include/")):
        check_calls(path, code, found)


def check_text(path, text, found):
    columns = 10000 if path.endswith((".md", ".yaml", ".yml")) else 260 if path.endswith(".def") else COLUMNS
    for i, line in enumerate(text.split("\n"), 1):
        if "\t" in line:
            found(i, "a tab; use four spaces")
        if line != line.rstrip():
            found(i, "blanks at the end of the line")
        if len(line) > columns:
            found(i, f"{len(line)} columns; at most {columns}")
        m = UNFINISHED.search(line)
        if m:
            found(i, f"\"{m.group(0)}\": finish it, or file an issue")
        m = MACHINE.search(line)
        if m:
            found(i, f"\"{m.group(0)}\" is a path of one machine")
    if text and not text.endswith("\n"):
        found(text.count("\n") + 1, "the last line has no line end")


def check(path, text):
    problems = []

    def found(line, what):
        problems.append(f"{path}:{line}: {what}")
    check_text(path, text, found)
    if path.endswith((".c", ".h", ".def")):
        check_c(path, text, found)
    return problems


def tree(root):
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(d for d in folders if d not in SKIP and not os.path.islink(os.path.join(folder, d)))
        for f in sorted(files):
            if f.endswith(TEXT):
                yield os.path.relpath(os.path.join(folder, f), root)


def self_test():
    head = "/* x.c - an example. */\n"
    long_body = "    a();\n" * 61
    bad = [
        ("src/base/x.c", head + '#include "cxnet/image.h"\n', "base may not include"),
        ("src/graph/x.c", head + '#include "cxnet/train.h"\n', "graph may not include"),
        ("src/report/x.c", head + '#include "cxnet/image.h"\n', "report may not include"),
        ("include/cxnet/x.h", "/* x.h - y. */\n#ifndef CX_H\n#endif\n\n" + "\tint;\n", "a tab"),
        ("include/cxnet/op.h", "/* op.h - y. */\n#ifndef CX_H\n" + '#include "cxnet/graph.h"\n#endif\n', "ops may not include"),
        ("src/image/x.c", head + '#include "data/x.h"\n', "image may not include"),
        ("src/base/x.c", head + "int f(void)\n{\n" + long_body + "}\n", "a function of 61 lines"),
        ("src/base/x.c", head + "static int f(int a,\n             int b) {\n" + long_body + "}\n", "a function of 61 lines"),
        ("src/base/x.c", head + "\n" * 600, "601 lines"),
        ("src/base/x.c", head + "int " + "x" * 160 + ";\n", "165 columns"),
        ("src/base/x.c", head + "static int counter;\n", "a mutable global"),
        ("src/base/x.c", head + "static const char *names[] = { \"a\" };\n", "a mutable global"),
        ("src/base/x.c", head + "struct a b = { 1 };\n", "a mutable global"),
        ("src/base/x.c", head + "_Thread_local int t = 3;\n", "a mutable global"),
        ("src/base/x.c", head + "int f(void)\n{\n    static int calls = 0;\n    return calls++;\n}\n", "a mutable static"),
        ("src/base/x.c", head + "int f(void)\n{\n    return 0;\n}\nint after;\n", ":6: a mutable global"),
        ("src/base/x.c", head + "void f(void)\n{\n    printf(\"x\");\n}\n", "printf has no place"),
        ("src/base/x.c", head + "void f(void)\n{\n    fprintf(stdout, \"x\");\n}\n", "fprintf(stdout) has no place"),
        ("src/base/x.c", head + "void f(void)\n{\n    exit(1);\n}\n", "exit has no place"),
        ("src/base/x.c", head + "void f(int a)\n{\n    assert(a);\n}\n", "assert has no place"),
        ("src/app/x.c", head + "void f(char *a)\n{\n    strcpy(a, \"\");\n}\n", "strcpy has no place"),
        ("src/app/x.c", head + "int f(char *a)\n{\n    return atoi(a);\n}\n", "atoi has no place"),
        ("src/base/x.c", "#include <stdio.h>\n", "the first line says"),
        ("src/base/x.c", "/* y.c - another file. */\n", "the first line says"),
        ("src/base/x.h", "/* x.h - y. */\nint f(void);\n", "a header has a guard"),
        ("src/base/x.c", head + "int f(void);  \n", "blanks at the end"),
        ("src/base/x.c", head + "/* TO" + "DO later */\n", "finish it"),
        ("README.md", "This part is not imple" + "mented.\n", "finish it"),
        ("tools/x.sh", "cd /wo" + "rk/main\n", "a path of one machine"),
        ("src/base/x.c", head + "int f(void);", "no line end"),
    ]
    good = [
        ("src/train/x.c", head + '#include "cxnet/graph.h"\n#include "cxnet/base.h"\n#include "x.h"\n'),
        ("src/app/x.c", head + '#include "cxnet/explain.h"\nvoid f(void)\n{\n    printf("x");\n    exit(1);\n}\n'),
        ("src/base/x.c", head + "/* long: a table of cases */\nint f(void)\n{\n" + long_body + "}\n"),
        ("src/base/x.c", head + "int f(void)\n{\n" + "    a();\n" * 60 + "}\n"),
        ("src/base/x.c", head + "static const int table[] = { 1, 2 };\nstatic const char *const names[] = { \"int x;\" };\n"),
        ("src/base/x.c", head + "typedef struct { int a; } b;\nenum { A, B };\nstruct c;\nextern const int d;\nint f(int);\n"),
        ("src/base/x.c", head + "#define ROW(a) \\\n    static int a;\nvoid f(void)\n{\n    /* printf(1) */ g(\"exit(1)\", snprintf(0, 0, \"\"));\n}\n"),
        ("src/base/x.c", head + "/* mutable: set by a signal */\nstatic int stop;\n"),
        ("src/base/x.c", head + "struct s {\n    int (*exit)(int);\n};\nint f(struct s *p)\n{\n    return p->exit(1);\n}\n"),
        ("tests/base/test_x.c", "/* test_x.c - y. */\nstatic int n;\nint main(void)\n{\n    char t[] = \"/tmp/x-XXXXXX\";\n    return n + t[0];\n}\n"),
    ]
    failures = 0
    for path, text, want in bad:
        got = check(path, text)
        if not any(want in g for g in got):
            failures += 1
            print(f"missed: want \"{want}\" in {got or 'nothing'} for:\n{text[:200]}")
    for path, text in good:
        for g in check(path, text):
            failures += 1
            print(f"false alarm: {g}\n{text[:200]}")
    print(f"check_style: {len(bad)} bad and {len(good)} good examples, {failures} wrong")
    return failures


def main():
    if "--self-test" in sys.argv[1:]:
        return 1 if self_test() else 0
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    problems, n = [], 0
    for path in tree(root):
        with open(os.path.join(root, path), encoding="utf-8") as f:
            problems += check(path, f.read())
        n += 1
    for p in problems:
        print(p)
    print(f"check_style: {n} files, {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
