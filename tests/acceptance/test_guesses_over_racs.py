# SPDX-License-Identifier: Apache-2.0
"""Wrong keys and used counters at the domain of a card, over RACS, on a whole node.

Each wrong try counts, whatever is killed or cut off behind it; ten in a row shut the domain until
its owner opens it again. A recorded session opens nothing.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iose.client.racs import BlockingRacsClient
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import SecureChannelError, SecurityLevel
from iose.globalplatform.host import HostChannel
from iose.globalplatform.keys import KeySet
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.runtime.entropy import OsRng
from iose.transport.errors import RacsRefusedError
from iose.transport.racs_client import RacsEndpoint
from tests.support.node import ELEMENT_HOST, LoggedNode, configured_node, until

CRYPTO = PycaCrypto()
OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}
RACS = {"listen": ["127.0.0.1:0"], "rules": [OPERATOR]}
SELECT_DOMAIN = "00A4040008A000000151000000"
INITIALIZE = "8050000008" + "00" * 8
GUESS = "8482010010" + "5A" * 16
COUNTER = "80CA00C100"
REFUSALS = {"6300", "6982"}
BLOCKED = "6983"


class Card:
    """One powered card in a session of its own."""

    def __init__(self, client: BlockingRacsClient, seid: str) -> None:
        self._client = client
        self._seid = seid

    def send(self, command: str) -> str:
        return self._client.apdu(self._seid, bytes.fromhex(command)).hex().upper()

    def transmit(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self._client.apdu(self._seid, command.encode()))

    def select(self) -> "Card":
        assert self.send(SELECT_DOMAIN).endswith("9000")
        return self

    def guess(self) -> str:
        """Return the status word of an authentication without the keys, or of its beginning."""
        begun = self.select().send(INITIALIZE)
        return self.send(GUESS)[-4:] if begun.endswith("9000") else begun[-4:]

    @property
    def counter(self) -> int:
        return int(self.select().send(COUNTER)[4:-4], 16)


@contextmanager
def powered(node: LoggedNode, sen: str = "key1.com") -> Iterator[Card]:
    host, _, port = node.racs.rpartition(":")
    files = (node.pki / name for name in ("user.pem", "user.key", "ca.pem"))
    with BlockingRacsClient(RacsEndpoint(host, int(port), *files)) as client:
        client.power_on(node[sen].seid)
        yield Card(client, node[sen].seid)


def keys_of(node: LoggedNode) -> KeySet:
    told = node.ask("element.secrets", {"element": "key1.com", "again": True})["secrets"]
    parts = (bytes.fromhex(told[f"isd_{name}"]) for name in ("enc", "mac", "dek"))
    return KeySet(0, *parts)


def authenticate(card: Card, keys: KeySet) -> list[CommandApdu]:
    """Open a channel and return the commands that did."""
    channel = HostChannel(CRYPTO, OsRng(), keys, SecurityLevel.C_MAC)
    commands = [channel.initialize_update()]
    commands.append(channel.authenticate(card.select().transmit(commands[0])))
    channel.unwrap(card.transmit(commands[1]))
    return commands


def cut_the_power(node: LoggedNode) -> None:
    """Kill every process that runs elements, and wait until others serve in their place."""
    mark, killed = node.log_mark(), node.pids(ELEMENT_HOST)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(node.logged("process", mark, what="restarted")) == len(killed))


def test_wrong_keys_and_a_recorded_session_are_counted_until_the_domain_is_shut(tmp_path: Path):
    with configured_node(tmp_path, 2, racs=RACS) as node:
        keys = keys_of(node)
        with powered(node) as card:
            recorded = authenticate(card, keys)
            assert [card.guess() in REFUSALS for _ in range(4)] == [True] * 4
            assert card.counter == 5
            cut_the_power(node)
            with pytest.raises(RacsRefusedError):
                card.guess()
        with powered(node) as card:
            assert card.counter == 5
            assert [card.guess() in REFUSALS for _ in range(3)] == [True] * 3
    with configured_node(tmp_path, 2, racs=RACS) as node:
        with powered(node) as card:
            assert card.counter == 8
            assert card.transmit(recorded[0]).status == StatusWord.OK
            assert f"{int(card.transmit(recorded[1]).status):04X}" in REFUSALS
            assert [card.guess() in REFUSALS for _ in range(2)] == [True] * 2
            assert card.guess() == BLOCKED
            with pytest.raises(SecureChannelError):
                authenticate(card, keys)
        with powered(node, "key2.com") as other:
            assert other.guess() in REFUSALS, "a card's tries are its own"
        node.ask("element.unlock", {"element": "key1.com"})
        with powered(node) as card:
            assert authenticate(card, keys)
