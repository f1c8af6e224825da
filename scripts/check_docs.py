# SPDX-License-Identifier: Apache-2.0
"""Fail when a document points at a file, a heading or a path of the repository that is not there.

Run by ``make docs``, and by ``tests/house``. Checked: the links of every Markdown file, the paths
written in backticks in them, and the documents named in the source.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKDOWN = ("*.md", "docs/**/*.md", "examples/**/*.md", "tests/**/*.md")
SOURCES = ("src/**/*.py", "examples/**/*.py", "scripts/*")

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
_PATH = re.compile(r"`((?:src|tests|docs|scripts|examples)/[^`\s]*)`")
_DOCUMENT = re.compile(r"\bdocs/[\w./-]+\.md\b")


def anchors(text: str) -> set[str]:
    """Return the anchors GitHub makes from the headings of a document."""
    headings = (re.sub(r"[`*]", "", title) for title in _HEADING.findall(_FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


def broken_link(document: Path, target: str) -> bool:
    """Tell whether a link of a document leads nowhere; addresses of the Web are not followed."""
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = target.partition("#")
    path = (document.parent / name).resolve() if name else document
    if not path.exists():
        return True
    return bool(anchor) and path.suffix == ".md" and anchor not in anchors(path.read_text())


def is_missing(name: str) -> bool:
    """Tell whether a path of the repository, possibly with wildcards, matches nothing."""
    path, _, _ = name.partition("::")
    return not any(ROOT.glob(path.rstrip("/")))


def problems_of_markdown(document: Path) -> Iterator[str]:
    """Return what is wrong in one document."""
    text = _FENCE.sub("", document.read_text())
    for target in _LINK.findall(text):
        if broken_link(document, target):
            yield f"link to {target}"
    for name in _PATH.findall(text):
        if is_missing(name):
            yield f"path {name}"


def problems() -> Iterator[str]:
    """Return one line for each reference that leads nowhere."""
    for pattern in MARKDOWN:
        for document in sorted(ROOT.glob(pattern)):
            for problem in problems_of_markdown(document):
                yield f"{document.relative_to(ROOT)}: dangling {problem}"
    for pattern in SOURCES:
        for source in sorted(ROOT.glob(pattern)):
            for name in _DOCUMENT.findall(source.read_text() if source.is_file() else ""):
                if is_missing(name):
                    yield f"{source.relative_to(ROOT)}: dangling path {name}"


def main() -> int:
    """Print the dangling references; the exit status is 1 when there is one."""
    found = list(problems())
    print("\n".join(found) if found else "No dangling reference in the documents.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
