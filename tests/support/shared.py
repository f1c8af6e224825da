# SPDX-License-Identifier: Apache-2.0
"""Where vectors are: our own and the standards' in tests/vectors, the others beside the repository.

Vectors taken from other projects' test suites are not copied here; they are read from the folder
that IOSE_SHARED names, or else from ``shared`` beside the repository.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
VECTORS = REPOSITORY / "tests" / "vectors"


def shared_vectors() -> Path:
    """Return the folder of vectors beside the repository; skip the test where there is none."""
    root = Path(os.environ.get("IOSE_SHARED") or REPOSITORY.parent / "shared")
    folder = root / "vectors"
    if not folder.is_dir():
        pytest.skip(f"no shared vectors: set IOSE_SHARED, {folder} is not there")
    return folder


def shared_json(name: str) -> Any:
    """Return one JSON document of the shared vectors; skip the test where it is absent."""
    path = shared_vectors() / name
    if not path.is_file():
        pytest.skip(f"no shared vectors {name}")
    return json.loads(path.read_text())


def own_json(name: str) -> Any:
    """Return one JSON document of tests/vectors, which is always there."""
    return json.loads((VECTORS / name).read_text())
