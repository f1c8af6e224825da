# SPDX-License-Identifier: Apache-2.0
"""Two hundred RACS sessions at once on a hundred elements of a whole node (racs.md §8).

Each opens secure channels: a command of somebody else in between, an answer lost or given twice
would break the chain of their MACs. Some vanish with what they hold.
"""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import SecurityLevel
from iose.globalplatform.commands import GetStatus, StatusScope
from iose.globalplatform.host import HostChannel
from iose.globalplatform.keys import KeySet
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.runtime.entropy import OsRng
from tests.support.node import POLL_S, LoggedNode, configured_node, until
from tests.support.racs_server import RawClient

ELEMENTS, SESSIONS, ROUNDS = 100, 200, 2
VANISHING = 4  # every so manieth session does not say goodbye
CRYPTO = PycaCrypto()
OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}
SELECT_DOMAIN = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("A000000151000000"))
COUNTER = CommandApdu.decode(bytes.fromhex("80CA00C100"))
LISTED = GetStatus(StatusScope.APPLICATIONS).to_command()

pytestmark = pytest.mark.timeout(90)


class Plane:
    """A node, the keys of its cards, and what was done to each."""

    def __init__(self, node: LoggedNode) -> None:
        self.node = node
        self.keys = {
            element.seid: keys_of(node, element.seid) for element in node.elements.values()
        }
        self.opened: Counter[str] = Counter()
        self.busy = 0
        self._context = ssl.create_default_context(cafile=node.pki / "ca.pem")
        self._context.load_cert_chain(node.pki / "user.pem", node.pki / "user.key")
        host, _, port = node.racs.rpartition(":")
        self._address = (host, int(port))

    async def connect(self) -> RawClient:
        streams = await asyncio.open_connection(
            *self._address, ssl=self._context, server_hostname="localhost"
        )
        return RawClient(*streams)

    @property
    def holders(self) -> list[str]:
        told = self.node.ask("status")["elements"]
        return [one["seid"] for one in told if one["holder"] is not None]


def keys_of(node: LoggedNode, seid: str) -> KeySet:
    told = node.ask("element.secrets", {"element": seid, "again": True})["secrets"]
    return KeySet(0, *(bytes.fromhex(told[f"isd_{name}"]) for name in ("enc", "mac", "dek")))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    racs = {"listen": ["127.0.0.1:0"], "rules": [OPERATOR]}
    with configured_node(tmp_path_factory.mktemp("many"), ELEMENTS, racs=racs) as node:
        yield Plane(node)


async def transmit(client: RawClient, seid: str, command: CommandApdu) -> ResponseApdu:
    text = await client.data(f"APDU {seid} {command.encode().hex()}")
    return ResponseApdu.decode(bytes.fromhex(text))


async def manage(plane: Plane, client: RawClient, seid: str) -> HostChannel:
    """Open a channel to a card and use it."""
    channel = HostChannel(
        CRYPTO, OsRng(), plane.keys[seid], SecurityLevel.C_MAC | SecurityLevel.R_MAC
    )
    assert (await transmit(client, seid, SELECT_DOMAIN)).status == 0x9000
    begun = await transmit(client, seid, channel.initialize_update())
    plane.opened[seid] += 1
    channel.unwrap(await transmit(client, seid, channel.authenticate(begun)))
    for _ in range(2):
        answer = channel.unwrap(await transmit(client, seid, channel.wrap(LISTED)))
        assert answer.status == 0x9000
    return channel


async def work(plane: Plane, number: int) -> None:
    """One administrator: takes cards, manages them, gives them back, or vanishes with one."""
    choice = random.Random(number)  # noqa: S311  # which elements a test uses
    client = await plane.connect()
    for turn in range(ROUNDS):
        seid = choice.choice(sorted(plane.keys))
        while (code := await client.code(f"POWERON {seid}")) != "+008":
            assert code == "-708"
            plane.busy += 1
            await asyncio.sleep(POLL_S)
            seid = choice.choice(sorted(plane.keys))
        channel = await manage(plane, client, seid)
        if turn == ROUNDS - 1 and number % VANISHING == 0:
            command = channel.wrap(LISTED).encode().hex()
            client.send(f"BEGIN\r\nAPDU {seid} {command}\r\nEND\r\n".encode())
            await client.writer.drain()
            client.abort()
            return
        assert await client.code(f"SHUTDOWN {seid}") == "+007"
    client.writer.close()
    with suppress(ConnectionError):
        await client.writer.wait_closed()


async def counters(plane: Plane) -> dict[str, int]:
    """Return how many channels each card counted, taking all of them in one session."""
    client = await plane.connect()
    found = {}
    for seid in plane.keys:
        assert await client.code(f"POWERON {seid}") == "+008"
        await transmit(client, seid, SELECT_DOMAIN)
        found[seid] = int.from_bytes((await transmit(client, seid, COUNTER)).data[2:])
    client.abort()
    return found


def test_many_administrators_do_not_meet_and_leave_nothing_held(plane: Plane):
    async def storm() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(SESSIONS):
                group.create_task(work(plane, number))

    asyncio.run(storm())
    until(lambda: not plane.holders, "all elements to be free")
    assert plane.busy, "two never wanted the same element: nothing was tried"
    assert plane.opened.total() == SESSIONS * ROUNDS
    assert asyncio.run(counters(plane)) == {seid: plane.opened[seid] for seid in plane.keys}
    until(lambda: not plane.holders, "all elements to be free again")
