# SPDX-License-Identifier: Apache-2.0
"""One node for all tests that do no harm to it."""

from pathlib import Path

import pytest

from tests.support.node import configured_node

HERE = Path(__file__).parent
PATIENCE_OF_A_TEST_S = 60
QUICK = {
    "first_record_s": 0.4,
    "queue_wait_s": 0.4,
    "handshake_s": 0.6,
    "idle_s": 0.6,
    "session_s": 2.5,
}


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """A node of four elements; a test leaves it as it found it, but for keys and records."""
    with configured_node(tmp_path_factory.mktemp("node"), 4) as running:
        yield running


@pytest.fixture(scope="session")
def quick_node(tmp_path_factory):
    """A node without patience."""
    with configured_node(tmp_path_factory.mktemp("quick"), 2, front=QUICK) as running:
        yield running


def pytest_collection_modifyitems(items):
    """Give tests that start whole nodes, on machines that are busy with others, more time."""
    for item in items:
        if item.path.parent == HERE and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(PATIENCE_OF_A_TEST_S))
