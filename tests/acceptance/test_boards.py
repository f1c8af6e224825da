# SPDX-License-Identifier: Apache-2.0
"""A whole node with a serial board and a RACS Lite board: TLS clients reach both, and both fail.

The boards are programs of their own; the node is ``iose node run``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.wire import CHIP, WireClient, chip_version
from tests.support.node import LoggedNode, NodeElement, configured_node, until
from tests.support.twin import Twin, twin
from tests.twins.elements import DEMO_PSK

pytest.importorskip("serial", reason="pyserial is an extra")

pytestmark = pytest.mark.timeout(90)

BOARD_KEY = bytes(range(100, 132))
APDU_S = 1.0
SERIAL = NodeElement("serial-ttyTWIN0", "serial.com", DEMO_PSK, "Client_identity")
RACSL = NodeElement("racsl-racsl.com", "racsl.com", DEMO_PSK, "Client_identity")
BOTH = {SERIAL.seid: "ready", RACSL.seid: "ready"}


@pytest.fixture(scope="module")
def boards() -> Iterator[dict[NodeElement, Twin]]:
    lite = ("racsl_board", "--name", RACSL.sen, "--board-psk", BOARD_KEY.hex())
    with twin("serial_line", "--name", SERIAL.sen) as serial, twin(*lite) as racsl:
        yield {SERIAL: serial, RACSL: racsl}


@pytest.fixture(scope="module")
def node(
    boards: dict[NodeElement, Twin], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoggedNode]:
    folder = tmp_path_factory.mktemp("boards")
    key = folder / "board.psk"
    key.write_text(BOARD_KEY.hex())
    key.chmod(0o600)
    serial = {"type": "serial", "device": boards[SERIAL].device, "sen": SERIAL.sen}
    racsl = {
        "type": "racsl",
        "address": "{}:{}".format(*boards[RACSL].address),
        "sen": RACSL.sen,
        "psk_file": str(key),
    }
    readers = [{**table, "apdu_s": APDU_S} for table in (serial, racsl)]
    with configured_node(Path(folder), 0, node={"readers": readers}) as running:
        until(lambda: states(running) == BOTH, "both boards")
        yield running


def states(node: LoggedNode) -> dict[str, str]:
    return {one["seid"]: one["state"] for one in node.ask("reader.list")["readers"]}


@pytest.mark.parametrize("element", [SERIAL, RACSL], ids=["serial", "racsl"])
def test_a_client_reaches_the_element_by_its_name(node, element):
    assert chip_version(node, element) == b"iose keystore 1.3"
    assert chip_version(node, element) == b"iose keystore 1.3"


@pytest.mark.parametrize("kind", ["silence", "garbage", "partial"])
@pytest.mark.parametrize("element", [SERIAL, RACSL], ids=["serial", "racsl"])
def test_a_fault_ends_one_session_and_the_next_one_works(node, boards, element, kind):
    mark = node.log_mark()
    boards[element].fault(kind)
    with WireClient(node, element, **CHIP) as client:
        assert not client.handshake()
    node.wait_logged("element.failed", mark)
    node.wait_logged("session.ended", mark, seid=element.seid, reason="element_failed")
    boards[element].fault(None)
    until(lambda: states(node) == BOTH, "the board to be in order")
    assert chip_version(node, element) == b"iose keystore 1.3"


@pytest.mark.parametrize("element", [SERIAL, RACSL], ids=["serial", "racsl"])
def test_a_board_that_is_gone_is_absent_until_it_is_back(node, boards, element):
    other = RACSL if element is SERIAL else SERIAL
    boards[element].fault("gone")
    until(lambda: states(node)[element.seid] == "absent", "the board to be gone")
    assert chip_version(node, other) == b"iose keystore 1.3"
    boards[element].fault(None)
    until(lambda: states(node) == BOTH, "the board to be back")
    assert chip_version(node, element) == b"iose keystore 1.3"
