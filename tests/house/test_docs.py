# SPDX-License-Identifier: Apache-2.0
"""The documents point at things that exist, and what they tell the reader to type works."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
