# SPDX-License-Identifier: Apache-2.0
"""The documents point at things that exist, and what they tell the reader to type works.

A block of a document that follows ``<!-- run -->`` is run, from the top of the repository; the
variables of ``reader_environment`` stand for what a reader copies from the output of ``make run``.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
RUN = re.compile(r"^<!-- run -->\n```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(match[1], match[2], id=f"{path.relative_to(ROOT)}-{number}")
    for path in sorted(DOCUMENTS)
    for number, match in enumerate(RUN.finditer(path.read_text()), 1)
]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
EXAMPLE_LINES = 60


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_have_no_dangling_reference():
    assert list(load_script("check_docs").problems()) == []


def test_a_dangling_link_is_noticed(tmp_path: Path):
    document = tmp_path / "page.md"
    document.write_text(
        "# A heading\n[a](#a-heading) [b](#another) [c](gone.md) `src/iose/gone.py`"
    )
    found = list(load_script("check_docs").problems_of_markdown(document))
    assert found == ["link to #another", "link to gone.md", "path src/iose/gone.py"]


def test_the_drawing_of_the_states_is_current():
    script = load_script("draw_states")
    page = script.PAGE.read_text()
    assert script.drawn(page) == page


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_what_documents_tell_the_reader_to_type_works(
    language: str, text: str, reader_environment: dict[str, str]
):
    program = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    result = subprocess.run(
        [*program, text],
        cwd=ROOT,
        env=reader_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_examples_are_short():
    assert [
        path.name for path in EXAMPLES if len(path.read_text().splitlines()) > EXAMPLE_LINES
    ] == []
