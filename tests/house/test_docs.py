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
RUNNABLE = [path for path in DOCUMENTS if RUN.search(path.read_text())]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
USAGE = re.compile(r"^(python examples/.*)$", re.MULTILINE)
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


def run(program: list[str], environment: dict[str, str]) -> None:
    result = subprocess.run(
        program,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{program[-1]}\n{result.stdout}{result.stderr}"


@pytest.mark.timeout(120)  # each line of a page starts a program
@pytest.mark.parametrize("document", RUNNABLE, ids=lambda path: path.stem)
def test_what_a_document_tells_the_reader_to_type_works(
    document: Path, reader_environment: dict[str, str]
):
    for language, text in RUN.findall(document.read_text()):
        shell = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
        run([*shell, text], reader_environment)


def test_examples_run_as_their_first_lines_say(reader_environment: dict[str, str]):
    for example in EXAMPLES:
        (usage,) = USAGE.findall(example.read_text())
        for number, variable in ((1, "URI"), (2, "URI_2")):
            usage = usage.replace(
                f"keyS://key{number}.com@127.0.0.1:8888/", reader_environment[variable]
            )
        run(["bash", "-c", usage], reader_environment)


def test_examples_are_short():
    lines = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES}
    assert [name for name, count in lines.items() if count > EXAMPLE_LINES] == []
