# SPDX-License-Identifier: Apache-2.0
"""A RACS server in the test's own process, its audit log and names in memory, and a raw client."""

import asyncio
import ssl
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from iose.iso7816.apdu import CommandApdu
from iose.servers.holders import ElementHolders
from iose.servers.racs.audit import AuditError, AuditEvent, AuditOutcome
from iose.servers.racs.config import RacsConfig
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.policy import AccessPolicy, Rule
from iose.servers.racs.server import RacsServer
from iose.servers.racs.users import Identity
from iose.transport.software import SoftwareReader
from tests.support.certificates import issue, make_authority
from tests.support.element import Element, demo, reference
from tests.support.scripted_connection import ATR, ScriptedReader

PATIENCE_S = 10.0  # a test that waits longer has failed
SELECT = "00A4040006010203040500"
EVERYTHING = ("*", "VERIFY", "SEN", "preempt", "logical_channels", "manage_channel")


@dataclass(frozen=True)
class Entry:
    """One entry of the audit log, and how it ended."""

    event: AuditEvent
    outcomes: list[AuditOutcome]

    @property
    def outcome(self) -> AuditOutcome:
        (outcome,) = self.outcomes
        return outcome


class MemoryAudit:
    """An audit log in memory; ``is_full`` makes it fail."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_full = False

    async def intend(self, event: AuditEvent) -> int:
        if self.is_full:
            raise AuditError("the disk is full")
        self.entries.append(Entry(event, []))
        return len(self.entries) - 1

    async def conclude(self, number: int, event: AuditEvent, outcome: AuditOutcome) -> None:
        entry = self.entries[number]
        assert entry.event is event
        assert not entry.outcomes, "an entry ends once"
        if self.is_full:
            raise AuditError("the disk is full")
        entry.outcomes.append(outcome)

    def verbs(self) -> list[str]:
        """Return the verbs, in order."""
        return [entry.event.verb for entry in self.entries]

    def of(self, verb: str) -> list[Entry]:
        """Return the entries of one verb."""
        return [entry for entry in self.entries if entry.event.verb == verb]


class MemoryNames:
    """Names in memory."""

    def __init__(self, names: dict[str, tuple[str, str]]) -> None:
        self.own = dict(names)
        self.names = dict(names)
        self.fault: Exception | None = None

    async def name(self, seid: str) -> tuple[str, str] | None:
        return self.names.get(seid)

    async def set_name(self, seid: str, sen: str | None, aid: str) -> None:
        if self.fault is not None:
            raise self.fault
        if sen is None:
            self.names.pop(seid, None)
            if seid in self.own:
                self.names[seid] = self.own[seid]
        else:
            self.names[seid] = (sen, aid)


class CannedElement:
    """Answers from a table, ``9000`` where it holds nothing; counts and remembers."""

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers = {key.upper(): value for key, value in (answers or {}).items()}
        self.commands: list[str] = []
        self.power: list[str] = []
        self.faults: list[Exception] = []

    def power_on(self) -> bytes:
        self.power.append("on")
        if self.faults:
            raise self.faults.pop(0)
        return ATR

    def reset(self) -> bytes:
        self.power.append("reset")
        if self.faults:
            raise self.faults.pop(0)
        return ATR

    def power_off(self) -> None:
        self.power.append("off")

    def process(self, command: bytes) -> bytes:
        digits = command.hex().upper()
        self.commands.append(digits)
        if self.faults:
            raise self.faults.pop(0)
        return bytes.fromhex(self.answers.get(digits, "9000"))


class SerialCard:
    """Two answers per command name it; another command in between fails the test."""

    def __init__(self) -> None:
        self.count = 0

    def process(self, command: bytes) -> bytes:
        CommandApdu.decode(command)
        self.count += 1
        return command + b"\x90\x00"


def canned(seid: str, answers: dict[str, str] | None = None, **given: Any) -> RacsElement:
    """Return an element over a ``CannedElement``."""
    return RacsElement(seid, ScriptedReader(CannedElement(answers), name=seid), **given)


def software(seid: str, *, is_reference: bool = True, **given: Any) -> RacsElement:
    """Return an element over a software card with demonstration keys."""
    card = Element(reference() if is_reference else demo(), seed=seid.encode()).card
    card.power_off()
    return RacsElement(seid, SoftwareReader(seid, card), **given)


@cache
def authority() -> tuple[Any, TemporaryDirectory[str]]:
    """Return the authority of all tests and a folder for what it issues."""
    return make_authority(), TemporaryDirectory()


@cache
def folder_of(name: str, *, is_server: bool = False, is_rsa: bool = False) -> Path:
    """Return a folder with ``user.pem``, ``user.key``, ``ca.pem`` of a user, or of the server."""
    issuer, root = authority()
    folder = Path(root.name) / f"{name}-{is_server}-{is_rsa}"
    return issue(issuer, folder, name, is_server=is_server, is_rsa=is_rsa)


@cache
def server_context(*, is_rsa: bool = False, legacy: bool = False) -> ssl.SSLContext:
    """Return what ``runtime`` hands in."""
    folder = folder_of("node", is_server=True, is_rsa=is_rsa)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM" + (":AES128-GCM-SHA256" if legacy else ""))
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


@cache
def client_context(name: str) -> ssl.SSLContext:
    """Return a client's TLS with the certificate of a user."""
    folder = folder_of(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "user.pem", folder / "user.key")
    return context


def expiring(monkeypatch: Any, listener: Any, left_s: float) -> None:
    """Have the certificates that a listener's module sees expire so many seconds after TLS."""
    identify = listener.identify

    def identify_late(connection: ssl.SSLObject) -> Identity:
        return replace(identify(connection), valid_until=time.time() + left_s)

    monkeypatch.setattr(listener, "identify", identify_late)


class RawClient:
    """A client that writes bytes and reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def block(self) -> str:
        """Return one response, lines joined with ``|``, without CRLF."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while not lines or lines[-1] != "END":
                line = await self.reader.readuntil(b"\r\n")
                lines.append(line[:-2].decode())
        return "|".join(lines)

    async def ask(self, *lines: str, name: str = "t") -> str:
        """Run commands as one request and return the status lines, joined with ``|``."""
        self.send("\r\n".join((f"BEGIN {name}", *lines, "END", "")).encode())
        block = await self.block()
        assert block.startswith(f"BEGIN {name}|")
        return block.removeprefix(f"BEGIN {name}|").removesuffix("|END")

    async def code(self, *lines: str) -> str:
        """Return sign, class and command of the last status line."""
        return (await self.ask(*lines)).rpartition("|")[2].partition(" ")[0]

    async def data(self, *lines: str) -> str:
        """Return the text of the last status line, which is a success."""
        last = (await self.ask(*lines)).rpartition("|")[2]
        assert last.startswith("+"), last
        return last.partition(" ")[2].partition(" ")[2]

    async def rest(self) -> bytes:
        """Return everything up to the end of the stream, which must come."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        """Vanish without a goodbye."""
        self.writer.transport.abort()


class RacsRig(AbstractAsyncContextManager["RacsRig"]):
    """A running server; user ``admin`` may do everything unless rules are given."""

    def __init__(
        self,
        *elements: RacsElement,
        rules: Iterable[Rule] | None = None,
        holders: ElementHolders | None = None,
        names: dict[str, tuple[str, str]] | None = None,
        **config: Any,
    ) -> None:
        self.elements = list(elements) or [canned("key1")]
        self.rules = [Rule("admin", ("*",), EVERYTHING, ("*",))] if rules is None else list(rules)
        self.audit = MemoryAudit()
        self.names = MemoryNames(names or {"key1": ("key1.com", "")})
        self.holders = holders or ElementHolders()
        is_legacy = config.pop("is_legacy", False)
        config.setdefault("listen", (("127.0.0.1", 0),))
        config.setdefault("drain_s", 0.5)
        self.server = RacsServer(
            RacsConfig(**config),
            server_context(is_rsa=is_legacy, legacy=is_legacy),
            self.elements,
            AccessPolicy(self.rules),
            self.holders,
            self.audit,
            self.names,
        )
        self._clients: list[RawClient] = []

    @property
    def card(self) -> Any:
        """The first element's card."""
        return self.elements[0].reader.element

    async def __aenter__(self) -> "RacsRig":
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.abort()
        await self.server.stop()

    async def connect(self, user: str = "admin") -> RawClient:
        """Return a new client of a user."""
        host, port = self.server.addresses[0]
        reader, writer = await asyncio.open_connection(
            host, port, ssl=client_context(user), server_hostname="localhost", limit=1 << 21
        )
        client = RawClient(reader, writer)
        self._clients.append(client)
        return client

    async def until(self, condition: Any) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # any condition, without an event of its own
                await asyncio.sleep(0.001)
