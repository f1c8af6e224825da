# SPDX-License-Identifier: Apache-2.0
"""The connection to a node is cut in a change of a card: before a command, or before its answer.

What holds then is the old or the new, never something between; the same command again, over a
connection that lasts, finishes the change. Every single command of every change is cut in
``tests/unit/cli/test_card_cuts.py``; here the wire, the server and its locks take part.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import iose
from iose.cli.main import run
from iose.client.racs import BlockingRacsClient
from iose.transport.racs_client import RacsEndpoint
from tests.acceptance.relay import Relay
from tests.support.node import LoggedNode, configured_node, until

OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*", "VERIFY"], "aids": ["*"]}
APPLICATION_DATA = 23
MODULE = "010203040800"
SELECT_MODULE = f"00A4040006{MODULE}"
VERIFY_USER_PIN = "00200000"
LOST, DONE = 1, 0
BEFORE, AFTER = "before", "after"
FAREWELL_RECORDS = 1  # close_notify
LOAD, STORE_DATA, MAKE_SELECTABLE, PUT_KEY = "E8", "E2", "E6", "D8"


class Cut:
    """Counts records towards a node, and lets nothing through in either direction after one.

    Attributes:
        after: Records that go through; None never cuts.
        is_sent: Whether one more goes through, whose answer is lost.
        records: How many have gone through.
    """

    def __init__(self, after: int | None = None, *, is_sent: bool = False) -> None:
        self.after = after
        self.is_sent = is_sent
        self.records = 0
        self.is_cut = False

    def towards_node(self, _number: int, record: bytes) -> bytes:
        if record[0] != APPLICATION_DATA:
            return record
        if self.records == self.after:
            self.is_cut = True
            if not self.is_sent:
                raise ConnectionError
        self.records += 1
        return record

    def towards_client(self, _number: int, record: bytes) -> bytes:
        if self.is_cut:
            raise ConnectionError
        return record


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    racs = {"listen": ["127.0.0.1:0"], "rules": [OPERATOR]}
    with configured_node(tmp_path_factory.mktemp("cuts"), 3, racs=racs) as running:
        yield running


class Operator:
    """Somebody who manages one card, through a wire that may be cut."""

    def __init__(self, node: LoggedNode, sen: str, folder: Path) -> None:
        self.node = node
        self.sen = sen
        self.keys = folder / "keys.json"
        secrets = node.ask("element.secrets", {"element": sen, "again": True})["secrets"]
        self.keys.touch(mode=0o600)
        self.keys.write_text(json.dumps(secrets))

    def card(self, verb: str, *arguments: str, cut: Cut | None = None) -> int:
        """Run one command and return its exit status, when the card is free again."""
        host, _, port = self.node.racs.rpartition(":")
        used = cut or Cut()
        spoils = (used.towards_node, used.towards_client)
        with Relay((host, int(port)), *spoils) as relay:
            target = f"racs://{relay.front}/{self.node[self.sen].seid}"
            given = ("--pki", str(self.node.pki), "--keys", str(self.keys), "--yes")
            status = run(["card", verb, target, *arguments, *given])
        until(lambda: self.node.element_status(self.sen)["holder"] is None)
        return status

    def commands(self) -> list[str]:
        """Return the instructions the card had, and verbs of other lines, as the log tells."""
        told = self.node.folder / "audit"
        lines = [
            one for file in sorted(told.glob("*.jsonl")) for one in file.read_bytes().splitlines()
        ]
        intents = [one for one in map(json.loads, lines) if one["kind"] == "intent"]
        mine = [one for one in intents if one["seid"] == self.node[self.sen].seid]
        return [one["header"][2:4] or one["verb"] for one in mine]

    def before(self, instruction: str, *arguments: str) -> int:
        """Do it once, and return how many records go before the last of an instruction."""
        whole, mark = Cut(), len(self.commands())
        assert self.card(*arguments, cut=whole) == DONE
        following = self.commands()[mark:][::-1].index(instruction) + 1
        return whole.records - following - FAREWELL_RECORDS

    def is_cut(self, after: int, is_sent: bool, instruction: str, *arguments: str) -> None:  # noqa: FBT001
        """Do it, to be cut there."""
        mark = len(self.commands())
        assert self.card(*arguments, cut=Cut(after, is_sent=is_sent)) == LOST
        assert (self.commands()[mark:][-1] == instruction) is is_sent

    def answers(self, *commands: str) -> list[str]:
        """Return the status words of APDUs in a session of their own."""
        host, _, port = self.node.racs.rpartition(":")
        files = (self.node.pki / name for name in ("user.pem", "user.key", "ca.pem"))
        seid = self.node[self.sen].seid
        with BlockingRacsClient(RacsEndpoint(host, int(port), *files)) as client:
            client.power_on(seid)
            return [client.apdu(seid, bytes.fromhex(one))[-2:].hex() for one in commands]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOSE_CARD_STATE", str(tmp_path / "failed"))


@pytest.mark.parametrize(
    ("instruction", "cut"),
    [(LOAD, BEFORE), (LOAD, AFTER), (STORE_DATA, BEFORE), (STORE_DATA, AFTER),
     (MAKE_SELECTABLE, AFTER)],
)  # fmt: skip
def test_an_installation_that_is_cut_is_finished_by_the_same_command(
    node: LoggedNode, tmp_path: Path, instruction: str, cut: str
):
    operator, is_sent = Operator(node, "key1.com", tmp_path), cut == AFTER
    files = [str(tmp_path / name) for name in ("whole.json", "cut.json")]
    install = ("install", "tls-im", "--secrets-out")
    after = operator.before(instruction, *install, files[0])
    assert operator.card("delete", "tls-im", "--related") == DONE
    operator.is_cut(after, is_sent, instruction, *install, files[1])
    is_there = operator.answers(SELECT_MODULE)[0] == "9000"
    assert is_there is (is_sent and instruction == MAKE_SELECTABLE)
    assert operator.card(*install, files[1]) == DONE
    pin = json.loads(Path(files[1]).read_text())["user_pin"].encode()
    verify = f"{VERIFY_USER_PIN}{len(pin):02X}{pin.hex()}"
    assert operator.answers(SELECT_MODULE, verify) == ["9000"] * 2
    assert operator.card("delete", "tls-im", "--related") == DONE


def test_keys_changed_while_the_connection_is_cut_are_found_by_the_same_command(
    node: LoggedNode, tmp_path: Path
):
    operator = Operator(node, "key2.com", tmp_path)
    after = operator.before(PUT_KEY, "put-key", "--out", str(tmp_path / "0.json"))
    operator.keys = tmp_path / "0.json"
    for number, is_sent in ((1, False), (2, True)):
        new = tmp_path / f"{number}.json"
        operator.is_cut(after, is_sent, PUT_KEY, "put-key", "--out", str(new))
        assert operator.card("put-key", "--out", str(new)) == DONE
        operator.keys = new


def test_a_psk_change_that_is_cut_leaves_its_owner_with_the_psk_that_holds(
    node: LoggedNode, tmp_path: Path
):
    store = iose.CredentialsStore(tmp_path / "credentials")
    cut = Cut()
    with Relay(node.address, cut.towards_node, cut.towards_client) as relay:
        address = f"keyS://key3.com@{relay.front}/"

        def change(psk: bytes | None = None) -> int:
            """Change the PSK over the relay and return how many records a client sent."""
            cut.records, cut.is_cut = 0, False
            with iose.connect(address, psk=psk, credentials=store, timeout_s=10) as element:
                element.change_psk()
            return cut.records

        psk = node["key3.com"].psk
        records = change(psk)
        for after in range(records):
            for cut.is_sent in (False, True):
                cut.after = after
                with suppress(iose.IoseError):
                    change()
                until(lambda: cut.is_cut)  # the last record is a farewell nobody waits for
                cut.after, cut.is_cut = None, False
                with iose.connect(address, credentials=store, timeout_s=10) as element:
                    assert element.version()
        kept = store.find(iose.ElementUri.decode(address).address)
        assert kept.psk != psk
        with pytest.raises(iose.AuthenticationError):
            iose.connect(node.uri("key3.com"), timeout_s=10)
