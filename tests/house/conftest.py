# SPDX-License-Identifier: Apache-2.0
"""A running node, for documents and examples that call one."""

import os
import sys
from pathlib import Path

import pytest

from iose.runtime.bench.programs import running_node


@pytest.fixture(scope="session")
def reader_environment(tmp_path_factory: pytest.TempPathFactory):
    """The shell of somebody who follows the documents: a node runs, and its URI is at hand."""
    home = tmp_path_factory.mktemp("home")
    with running_node(home / "node", 2) as node:
        element, other = node.elements
        front = "{}:{}".format(*node.address)
        yield {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "IOSE_DATA": str(home / "node"),
            "URI": f"keyS://{element.name}:{element.key.hex()}@{front}/",
            "URI_2": f"keyS://{other.name}:{other.key.hex()}@{front}/",
            "FRONT": front,
            "RACS": "{}:{}".format(*node.racs) if node.racs else "",
            "SEN": element.name,
            "KEY": element.key.hex(),
        }
