# SPDX-License-Identifier: Apache-2.0
"""What the tools do not check about the source: errors drawn, packages bare, licence, sizes."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import iose
from iose.wire import errors
from iose.wire.errors import IoseError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = sorted((ROOT / "src").rglob("*.py"))
PYTHON = [
    *SOURCE,
    *(path for name in ("tests", "examples", "scripts") for path in (ROOT / name).rglob("*.py")),
]
LICENSED = [path for path in PYTHON if path.stat().st_size] + [
    path
    for path in (ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "scripts").iterdir())
    if path.is_file()
]
TOP = ROOT / "src" / "iose" / "__init__.py"
SPDX = "SPDX-License-Identifier: Apache-2.0"
LINES_PER_FILE = 500
LINES_PER_FUNCTION = 60


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def import_everything() -> None:
    for module in pkgutil.walk_packages(iose.__path__, "iose."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def error_edges(parent: type[IoseError] = IoseError) -> set[tuple[str, str]]:
    edges = set()
    for child in parent.__subclasses__():
        if child.__module__.startswith("iose."):
            edges |= {(parent.__name__, child.__name__)} | error_edges(child)
    return edges


def drawn_edges(drawing: str) -> set[tuple[str, str]]:
    edges, ancestors = set(), {}
    for line in drawing.splitlines():
        match = re.fullmatch(r"((?:│  |   )*)(?:├─ |└─ )(\w+).*", line)
        if match is None:
            ancestors = {0: "IoseError"}
            continue
        depth = len(match[1]) // 3
        edges.add((ancestors[depth], match[2]))
        ancestors[depth + 1] = match[2]
    return edges


def test_the_error_tree_drawn_is_the_error_tree_raised():
    import_everything()
    assert drawn_edges(errors.__doc__ or "") == error_edges()


def logic_of_package(path: Path) -> list[str]:
    body = ast.parse(path.read_text()).body
    if not ast.get_docstring(ast.Module(body, [])):
        return [f"{relative(path)}: no docstring"]
    imports = [node for node in body[1:] if isinstance(node, ast.Import | ast.ImportFrom)]
    exports = [
        node
        for node in body[1:]
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    logic = [
        f"{relative(path)}: {node.lineno}" for node in body[1:] if node not in imports + exports
    ]
    return logic + [f"{relative(path)}: no __all__"] * (bool(imports) and not exports)


def test_packages_hold_a_docstring_and_reexports_only():
    # The top package imports what it names when it is first used; the next test tries each name.
    packages = [path for path in SOURCE if path.name == "__init__.py" and path != TOP]
    assert [problem for path in packages for problem in logic_of_package(path)] == []


def test_every_name_in_all_exists():
    import_everything()
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "iose"]
    for module in modules:
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_every_file_names_its_licence():
    heads = {path: path.read_text().splitlines()[:3] for path in LICENSED}
    assert [relative(path) for path, head in heads.items() if SPDX not in "".join(head)] == []


def test_files_and_functions_stay_short():
    long = []
    for path in SOURCE:
        text = path.read_text()
        if len(text.splitlines()) > LINES_PER_FILE:
            long.append(relative(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LINES_PER_FUNCTION:
                    long.append(f"{relative(path)}: {node.name}")
    assert long == []


def test_nothing_names_a_folder_of_somebodys_machine():
    forbidden = re.compile(
        "|".join(("/" + "work/", "/" + "root/", r"\.\." + "/shared", "/" + "home/"))
    )
    texts = [*PYTHON, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile"]
    found = [relative(path) for path in texts if forbidden.search(path.read_text())]
    assert not found


def test_no_lock_file_names_a_registry():
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        assert not re.search(r"https?:|index-url|find-links|@ ", text)
        assert text.count("==") <= text.count("--hash=sha256:")


def test_imports_keep_the_contract():
    program = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
