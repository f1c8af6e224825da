# SPDX-License-Identifier: Apache-2.0
"""Our client at a node that is short of patience: idle sessions closed, busy elements refused."""

import pytest

import iose
from iose.client.credentials import CredentialsStore
from iose.client.errors import ElementBusyError, SessionClosedError
from tests.support.node import configured_node

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    front = {"idle_s": 1.0, "queue_wait_s": 0.2}
    with configured_node(tmp_path_factory.mktemp("node"), 1, front=front) as running:
        yield running


@pytest.fixture
def connect(node, tmp_path):
    credentials = CredentialsStore(tmp_path / "credentials")
    return lambda: iose.connect(node.uri("key1.com"), credentials=credentials)


def test_an_idle_session_is_closed_and_no_command_is_lost(node, connect):
    mark = node.log_mark()
    with connect() as element:
        assert element.version()
        node.wait_logged("session.ended", mark, reason="idle_timeout")
        with pytest.raises(SessionClosedError) as caught:
            element.version()
        assert not caught.value.command_sent
        element.open()
        assert element.version()


def test_a_busy_element_is_told_and_answers_later(node, connect):
    with connect() as first:
        assert first.version()
        with pytest.raises(ElementBusyError, match="busy"):
            connect()
    with connect() as second:
        assert second.version()
