#!/usr/bin/env python3
"""Refuses what the module picture of src/README.md forbids.

    check_architecture.py PROJECT_ROOT

1. A module includes headers of itself and of the modules it links (src/<module>/CMakeLists.txt, MODULES), directly or
   through others; private headers (src/<module>/) only of itself, and no public header includes a private one.
2. No module is linked, through others, to itself.
3. Above linalg, MPI and BLACS appear only as a Communicator. A program hands over its world, so `MPI_Comm` may stand.
4. MPI_COMM_WORLD appears in src/apps, tests and bench only, and as the argument of the one MPI_Abort.
5. MPI_Abort occurs once.

Prints one line `file:line: sentence` per violation. Exit code: 0, or 1 if there is one.
"""
import pathlib
import re
import sys

SOURCE_SUFFIXES = {".hpp", ".cpp"}
MODULES_WITH_MPI = {"mpi", "dist", "linalg"}
KEYWORDS = {"SOURCES", "MODULES", "LIBRARIES", "PRIVATE_LIBRARIES"}

COMMENT = r"//[^\n]*|/\*.*?\*/"
TEXT = r'R"\((?:.*?)\)"|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)+\''
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
MPI_NAME = re.compile(r"\b(?:P?MPI_\w+|C?blacs_\w+)")
ABORT = re.compile(r"\bMPI_Abort\s*\(\s*(MPI_COMM_WORLD)?")


def blank(match):
    """As many characters and lines, all empty."""
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text):
    return re.sub(rf"({COMMENT})|{TEXT}", lambda m: blank(m) if m.group(1) else m.group(), text, flags=re.DOTALL)


def without_comments_and_texts(text):
    return re.sub(rf"{COMMENT}|{TEXT}", blank, text, flags=re.DOTALL)


def words_after(call, keyword):
    """The words of a CMake call between a keyword and the next one."""
    words = call.split()
    if keyword not in words:
        return []
    rest = words[words.index(keyword) + 1:]
    end = next((i for i, word in enumerate(rest) if word in KEYWORDS), len(rest))
    return rest[:end]


def declared_links(root):
    """module -> modules that its CMakeLists.txt names. The programs of src/apps count as the module `apps`."""
    links = {}
    for file in sorted((root / "src").glob("*/CMakeLists.txt")):
        module = file.parent.name
        text = re.sub(r"#[^\n]*", "", file.read_text())
        calls = re.findall(r"\bslr_add_(?:module|program)\s*\(([^)]*)\)", text)
        links[module] = {name for call in calls for name in words_after(call, "MODULES")}
    return links


def closure(links, module):
    """Every module that `module` reaches, itself only if there is a circle."""
    reached, waiting = set(), list(links.get(module, ()))
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += links.get(name, ())
    return reached


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in SOURCE_SUFFIXES) if folder.is_dir() else []


def line_of(text, position):
    return text.count("\n", 0, position) + 1


class Checker:
    def __init__(self, root):
        self.root = root
        self.links = declared_links(root)
        self.violations = []

    def refuse(self, file, line, sentence):
        self.violations.append(f"{file.relative_to(self.root)}:{line}: {sentence}")

    def check_graph(self):
        for module in self.links:
            here = self.root / "src" / module / "CMakeLists.txt"
            if module in closure(self.links, module):
                self.refuse(here, 1, f"module {module} is linked to itself through others")
            for other in sorted(self.links[module] - self.links.keys()):
                self.refuse(here, 1, f"module {module} links {other}, which is no module")

    def check_includes(self, file, module, is_public, text):
        allowed = closure(self.links, module) | {module}
        for match in INCLUDE.finditer(without_comments(text)):
            bracket, header = match.groups()
            line = line_of(text, match.start())
            if header.startswith("slr/"):
                other = header.split("/")[1]
                if other not in allowed:
                    self.refuse(file, line, f"module {module} may not include {header}: it does not link {other}")
                elif not (self.root / "include" / header).is_file():
                    self.refuse(file, line, f"there is no header {header}")
            elif bracket == '"':
                if is_public:
                    self.refuse(file, line, f"a public header includes the private one {header}")
                elif ".." in header or not (self.root / "src" / module / header).is_file():
                    self.refuse(file, line, f"{header} is no private header of module {module}")
            elif header == "mpi.h" and module not in MODULES_WITH_MPI:
                self.refuse(file, line, f"module {module} may not include mpi.h: it gets a Communicator")

    def check_names(self, file, module, text):
        if module in MODULES_WITH_MPI:
            return
        for match in MPI_NAME.finditer(text):
            name = match.group()
            is_world_of_program = name == "MPI_COMM_WORLD" and module == "apps"
            if name not in ("MPI_Comm", "MPI_COMM_WORLD") and not is_world_of_program:
                self.refuse(file, line_of(text, match.start()),
                            f"module {module} may not use {name}: above linalg there is only the Communicator")

    def check_world(self, file, module, text, aborts):
        permitted = set()
        for match in ABORT.finditer(text):
            aborts.append((file, line_of(text, match.start())))
            permitted.add(match.start(1))
        for match in re.finditer(r"\bMPI_COMM_WORLD\b", text):
            if module != "apps" and match.start() not in permitted:
                self.refuse(file, line_of(text, match.start()), "MPI_COMM_WORLD belongs to src/apps, tests and bench")

    def check_all(self):
        self.check_graph()
        aborts = []
        for module in self.links:
            for folder in (self.root / "include" / "slr" / module, self.root / "src" / module):
                is_public = "include" in folder.relative_to(self.root).parts
                for file in sources(folder):
                    text = file.read_text()
                    self.check_includes(file, module, is_public, text)
                    code = without_comments_and_texts(text)
                    self.check_names(file, module, code)
                    self.check_world(file, module, code, aborts)
        for file, line in aborts[1:]:
            self.refuse(file, line, "MPI_Abort occurs a second time: use slr::abort_job")
        for file in sources(self.root / "include"):
            if file.relative_to(self.root / "include").parts[1] not in self.links:
                self.refuse(file, 1, "this header belongs to no module of src")
        return self.violations


def main(arguments):
    if len(arguments) != 1 or not (pathlib.Path(arguments[0]) / "src").is_dir():
        print("usage: check_architecture.py PROJECT_ROOT", file=sys.stderr)
        return 64
    violations = Checker(pathlib.Path(arguments[0]).resolve()).check_all()
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
