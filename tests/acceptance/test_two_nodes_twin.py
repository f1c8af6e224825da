# SPDX-License-Identifier: Apache-2.0
"""Elements of a published server that fails in every way, as readers of ours."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.racs_bank import RacsBank
from iose.transport.racs_link import RacsEndpoint
from tests.acceptance.wire import CHIP, WireClient
from tests.support.certificates import issue, make_authority
from tests.support.node import NodeElement, configured_node, until
from tests.support.twin import Twin, twin
from tests.twins.elements import DEMO_PSK

pytestmark = pytest.mark.timeout(90)

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
PATIENCE_S = 20.0
APDU_S = 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = make_authority()
    path = tmp_path_factory.mktemp("pki")
    issue(authority, path, "server", is_server=True, is_rsa=True)
    return issue(authority, path, "admin")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Twin]:
    with twin("racs_node", "--pki", str(folder), "--elements", "key1.com,key2.com") as running:
        yield running


def bank(folder: Path, server: Twin) -> RacsBank:
    files = (folder / "user.pem", folder / "user.key", folder / "ca.pem")
    endpoint = RacsEndpoint(*server.address, *files, is_legacy=True)
    return RacsBank("rack", endpoint=endpoint, apdu_s=APDU_S, poll_s=0.1)


async def until_state(rack: RacsBank, state: SlotState) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while rack.slots[0].state is not state:  # noqa: ASYNC110  # without an event here
            await asyncio.sleep(0.01)


async def until_free(server: Twin) -> None:
    """Wait until nobody holds an element of the server's."""
    async with asyncio.timeout(PATIENCE_S):
        while any(server.order()["held"].values()):  # noqa: ASYNC110  # in another program
            await asyncio.sleep(0.01)


async def selected(rack: RacsBank, index: int = 0) -> None:
    """Run a short session with one element."""
    reader = rack.slots[index].reader
    assert reader is not None
    connection = await reader.connect()
    assert (await connection.transmit(SELECT)).status == 0x9000
    await connection.close()


@pytest.mark.parametrize(
    ("kind", "more", "error", "words"),
    [
        ("silence", {}, TransportTimeoutError, "no response within 1 s"),
        ("partial", {}, TransportTimeoutError, "no response within 1 s"),
        ("garbage", {}, TransportError, "not printable"),
        ("slow", {}, None, ""),
        ("slow", {"delay_s": 0.1}, TransportTimeoutError, "no response within 1 s"),
    ],
    ids=["silence", "partial", "garbage", "slow", "too slow"],
)
def test_a_fault_of_an_apdu_ends_in_its_error_and_the_element_works_afterwards(
    folder: Path,
    server: Twin,
    kind: str,
    more: dict[str, float],
    error: type[Exception] | None,
    words: str,
):
    async def main() -> None:
        rack = bank(folder, server)
        await rack.start(lambda: None)
        reader, other = rack.slots[0].reader, rack.slots[1].reader
        assert reader is not None
        assert other is not None
        connection, beside = await reader.connect(), await other.connect()
        server.fault(kind, 1, verb="APDU", **more)
        if error is None:
            assert (await connection.transmit(SELECT)).status == 0x9000
        else:
            with pytest.raises(error, match=words):
                await connection.transmit(SELECT)
        assert (await beside.transmit(SELECT)).status == 0x9000
        await connection.close()
        await beside.close()
        await until_free(server)  # it has seen that we are gone
        await until_state(rack, SlotState.READY)
        await selected(rack)
        await rack.stop()
        await until_free(server)
        assert server.order()["crashes"] == []

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@pytest.mark.parametrize("kind", ["silence", "partial", "garbage"])
def test_a_fault_at_power_on_lets_the_next_session_begin(folder: Path, server: Twin, kind: str):
    async def main() -> None:
        rack = bank(folder, server)
        await rack.start(lambda: None)
        server.fault(kind, 1, verb="POWERON")
        with pytest.raises(TransportError):
            await selected(rack)
        await until_free(server)
        await until_state(rack, SlotState.READY)
        await selected(rack)
        await rack.stop()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@pytest.mark.parametrize("kind", ["silence", "partial", "garbage"])
def test_a_fault_of_the_list_is_told_and_passes(folder: Path, server: Twin, kind: str):
    async def main() -> None:
        server.fault(kind, verb="LIST")
        rack = bank(folder, server)
        await rack.start(lambda: None)
        assert rack.slots[0].state is SlotState.FAULT
        assert rack.slots[0].fault
        server.fault(None)
        await until_state(rack, SlotState.READY)
        await selected(rack, 1)
        await rack.stop()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_server_that_goes_in_a_session_is_absent_and_serves_again_when_back(
    folder: Path, server: Twin
):
    async def main() -> None:
        rack = bank(folder, server)
        await rack.start(lambda: None)
        reader = rack.slots[0].reader
        assert reader is not None
        connection = await reader.connect()
        server.fault("gone")
        with pytest.raises(CardRemovedError):
            await connection.transmit(SELECT)
        await connection.close()
        with pytest.raises((NoReaderError, NoCardError, CardRemovedError)):
            await reader.connect()
        await until_state(rack, SlotState.ABSENT)
        server.fault(None)
        await until_state(rack, SlotState.READY)
        await selected(rack)
        await rack.stop()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_node_serves_the_published_servers_elements_through_faults(
    folder: Path, server: Twin, tmp_path: Path
):
    table = {
        "type": "racs",
        "address": "{}:{}".format(*server.address),
        "pki": str(folder),
        "legacy": True,
        "apdu_s": APDU_S,
        "poll_s": 0.1,
    }
    element = NodeElement("se-1", "key1.com", DEMO_PSK, "Client_identity")
    with configured_node(tmp_path, 0, node={"readers": [table]}) as node:

        def is_served() -> bool:
            told = node.ask("status")["elements"]
            return any(one["seid"] == "se-1" and one["is_served"] for one in told)

        def told() -> list[Any]:
            listed: list[Any] = node.ask("reader.list")["readers"]
            return listed

        until(lambda: [one["max_record"] for one in told()] == [512, 512], "what they take")
        assert [one["health"]["failures"] for one in told()] == [0, 0]  # for all it was asked
        for kind in (None, "silence", "garbage", "partial", "slow"):
            until(is_served, f"the element before {kind}")
            with WireClient(node, element, **CHIP) as client:
                assert client.handshake()
                assert client.call(b"?00")
                server.fault(kind, 1, verb="APDU")
                answer = client.call(b"?00")
                assert bool(answer) is (kind in (None, "slow"))
        until(is_served, "the element in the end")
        with WireClient(node, element, **CHIP) as client:
            assert client.handshake()
            assert client.call(b"?00")
