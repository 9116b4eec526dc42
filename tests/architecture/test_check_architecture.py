#!/usr/bin/env python3
"""check_architecture.py refuses what it should, in small projects made up for it."""
import pathlib
import tempfile
import unittest

from check_architecture import Checker

CMAKE = {
    "base": "slr_add_module(base SOURCES a.cpp)",
    "mpi": "slr_add_module(mpi SOURCES a.cpp MODULES base LIBRARIES MPI::MPI_C)",
    "run": "slr_add_module(run SOURCES a.cpp\n               MODULES mpi # comment (\n               LIBRARIES json)",
    "apps": "function(slr_add_program name)\nendfunction()\nslr_add_program(slr_x MODULES run)",
}


class Project(unittest.TestCase):
    def violations(self, files, cmake=None):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()
            lists = {f"src/{m}/CMakeLists.txt": text for m, text in {**CMAKE, **(cmake or {})}.items()}
            headers = {"include/slr/base/b.hpp": "", "include/slr/mpi/m.hpp": "", "include/slr/run/r.hpp": ""}
            for name, text in {**lists, **headers, **files}.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return Checker(root).check_all()

    def assert_refused(self, files, where, cmake=None):
        violations = self.violations(files, cmake)
        self.assertEqual(len(violations), 1, violations)
        self.assertTrue(violations[0].startswith(where + ": "), violations)

    def test_a_clean_project_passes(self):
        self.assertEqual(self.violations({
            "src/run/a.cpp": '#include "slr/run/r.hpp"\n#include "own.hpp"\n#include "slr/base/b.hpp" // through mpi\n'
                             '#include <vector>\n/* MPI_Send */ auto t = "MPI_Send";\n',
            "src/run/own.hpp": "struct S { MPI_Comm world; };\n",
            "src/mpi/a.cpp": "#include <mpi.h>\nvoid f() { MPI_Abort(MPI_COMM_WORLD, 1); }\n",
            "src/apps/slr_x.cpp": '#include "slr/run/r.hpp"\nint main() { g(MPI_COMM_WORLD); }\n'}), [])

    def test_an_include_against_the_arrow(self):
        self.assert_refused({"src/base/a.cpp": '\n#include "slr/mpi/m.hpp"\n'}, "src/base/a.cpp:2")
        self.assert_refused({"include/slr/mpi/n.hpp": '#include "slr/run/r.hpp"\n'}, "include/slr/mpi/n.hpp:1")

    def test_a_private_header_of_another_module(self):
        self.assert_refused({"src/run/a.cpp": '#include "../mpi/own.hpp"\n', "src/mpi/own.hpp": ""}, "src/run/a.cpp:1")
        self.assert_refused({"include/slr/run/r.hpp": '#include "own.hpp"\n', "src/run/own.hpp": ""},
                            "include/slr/run/r.hpp:1")

    def test_a_circle_of_links(self):
        violations = self.violations({}, {"base": "slr_add_module(base MODULES mpi)"})
        self.assertTrue(any("base is linked to itself" in v for v in violations), violations)

    def test_a_link_to_no_module(self):
        self.assert_refused({}, "src/run/CMakeLists.txt:1", {"run": "slr_add_module(run MODULES mpi moon)"})

    def test_mpi_above_linalg(self):
        self.assert_refused({"src/run/a.cpp": "void f() {\n  MPI_Barrier(c);\n}\n"}, "src/run/a.cpp:2")
        self.assert_refused({"src/run/a.cpp": "void f() { Cblacs_exit(0); }\n"}, "src/run/a.cpp:1")
        self.assert_refused({"src/run/a.cpp": "#include <mpi.h>\n"}, "src/run/a.cpp:1")

    def test_the_world_outside_of_the_programs(self):
        self.assert_refused({"src/run/a.cpp": "auto w = MPI_COMM_WORLD;\n"}, "src/run/a.cpp:1")
        self.assert_refused({"src/mpi/a.cpp": "auto w = MPI_COMM_WORLD;\n"}, "src/mpi/a.cpp:1")

    def test_a_second_abort(self):
        text = "void f() { MPI_Abort(MPI_COMM_WORLD, 1); }\n"
        self.assert_refused({"src/mpi/a.cpp": text, "src/mpi/b.cpp": text}, "src/mpi/b.cpp:1")

    def test_headers_without_a_module(self):
        self.assert_refused({"include/slr/moon/m.hpp": ""}, "include/slr/moon/m.hpp:1")


if __name__ == "__main__":
    unittest.main()
