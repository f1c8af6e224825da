# SPDX-License-Identifier: Apache-2.0
"""One node for all tests that do no harm to it."""

import pytest

from tests.support.node import configured_node


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """A node of four elements; a test leaves it as it found it, but for keys and records."""
    with configured_node(tmp_path_factory.mktemp("node"), 4) as running:
        yield running
