# SPDX-License-Identifier: Apache-2.0
"""A strict twin of the published RACS server, faults included (racs.md §5.2 column 2, §11, §16).

Texts and codes are those it was measured to send. What would overwrite its memory ends the
session at once and is remembered in ``crashes``, so that a test can say it never happened.
"""

import asyncio
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Send = Callable[[bytes], None]
Meddle = Callable[[bytes, bytes, Send], Awaitable[None]]

VERSION = "0.3"
TOKEN_LIMIT = 10
APDU_LIMIT = 512
TEXT_LIMIT = 1000
NAME_LIMIT = 64
RESPONSE_LIMIT = 4096
FETCH_MARGIN = 259
RECORD = 17_000
PATIENCE_S = 5.0
SELECT = bytes.fromhex("00A40400")


@dataclass
class TwinElement:
    """One element: its SEIDs, its name, and what it answers to a raw command."""

    seids: tuple[str, ...]
    process: Callable[[bytes], bytes]
    sen: str = ""
    aid: str = ""
    is_broken: bool = False
    holder: object | None = None
    is_selected: bool = False
    log: list[str] = field(default_factory=list)

    def power(self, state: str, holder: object | None) -> None:
        """Change the power; the firewall forgets what was selected."""
        self.log.append(state)
        self.holder = holder
        self.is_selected = False


class Closed(Exception):  # noqa: N818  # not an error: how a session ends
    """The session ends after what has been written."""


class Refused(Exception):  # noqa: N818
    """A command fails: code, text, whether END is forgotten, whether the session ends."""

    def __init__(self, code: str, text: str, *, ends: bool = True, closes: bool = False) -> None:
        super().__init__(text)
        self.code, self.text, self.ends, self.closes = code, text, ends, closes


@dataclass
class Twin:
    """The server's state: elements, users (None for all), and what happened.

    Attributes:
        elements: What it hosts.
        users: SEIDs by common name; ``None`` stands for all. A name that is missing sees nothing.
        is_sound_with_split_lines: Whether a line in two records survives; by luck it may.
        lists_nothing: Whether LIST is empty, as it is for users declared ``all`` (racs.md §10).
    """

    elements: list[TwinElement]
    users: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    is_sound_with_split_lines: bool = False
    lists_nothing: bool = False
    crashes: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def visible(self, user: str) -> list[str]:
        """Return the SEIDs a user sees, first names first."""
        every = [seid for one in self.elements for seid in one.seids[:1]]
        every += [seid for one in self.elements for seid in one.seids[1:]]
        allowed = self.users.get(user, ())
        return every if allowed is None else [seid for seid in every if seid in allowed]

    def find(self, user: str, seid: str) -> TwinElement | None:
        """Return an element the user may use."""
        if seid not in self.visible(user):
            return None
        return next(one for one in self.elements if seid in one.seids)


class TwinSession:
    """One connection: records in, bytes out."""

    def __init__(self, twin: Twin, user: str) -> None:
        self.twin = twin
        self.user = user
        self._tail = b""
        self._state = "IDLE"
        self._name = ""
        self._count = 0
        self._kept: list[str] = []
        self._was_kept = True
        self._quits = False

    def receive_record(self, data: bytes) -> Iterable[bytes]:
        """Yield what is answered to one TLS record.

        Raises:
            Closed: The session ends.
        """
        self.twin.requests.append(data)
        if self._tail and not self.twin.is_sound_with_split_lines:
            data = b"\x00" + data  # the zero that ends the buffer lands in the line
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            yield from self._take(line.removesuffix(b"\r").decode("latin-1"))

    def end(self) -> None:
        """Power off what this session held."""
        for element in self.twin.elements:
            if element.holder is self:
                element.power("off", None)

    def _take(self, line: str) -> Iterable[bytes]:
        if not line:
            raise Closed
        words = line.split(" ")
        words = [word for word in words if word]
        self._check_memory(line, words)
        if self._state == "FLUSH":
            if words[0] == "END":
                self._state = "IDLE"
        elif self._state == "IDLE":
            yield from self._begin(words, line)
        elif words[0] == "BEGIN":
            yield self._block(["-301 001 Duplicate BEGIN"])
            raise Closed
        elif words[0] == "END":
            yield self._block(self._kept or ["+001 000 empty request"])
            self._state = "IDLE"
            if self._quits:
                raise Closed
        else:
            yield from self._command(words)

    def _check_memory(self, line: str, words: list[str]) -> None:
        verb = words[0]
        apdu = words[2] if verb == "APDU" and len(words) > 2 else ""
        is_named = verb == "BEGIN" and len(words) == 2 and len(words[1]) == NAME_LIMIT
        if (
            len(words) > TOKEN_LIMIT
            or len(apdu) > 2 * APDU_LIMIT
            or (verb != "APDU" and len(line) > TEXT_LIMIT)
            or is_named
        ):
            self.twin.crashes.append(line)
            raise Closed

    def _begin(self, words: list[str], line: str) -> Iterable[bytes]:
        if words[0] != "BEGIN":
            said = line.split(" ", maxsplit=1)[0]
            text = f"-300 000 Invalid command line ({said}), waiting for BEGIN"
            yield f"BEGIN\r\n{text}\r\nEND\r\n".encode()
            raise Closed
        self._name = words[1] if len(words) == 2 else ""
        self.twin.names.append(self._name)
        if len(self._name) > NAME_LIMIT:
            yield self._block(["-302 000 Script name > 64"])
            raise Closed
        self._state, self._count, self._kept, self._was_kept = "IN_REQUEST", 0, [], True

    def _block(self, lines: list[str], *, ends: bool = True) -> bytes:
        body = "".join(f"{line}\r\n" for line in lines)
        return f"BEGIN {self._name}\r\n{body}{'END' if ends else ''}".encode() + (
            b"\r\n" if ends else b""
        )

    def _command(self, words: list[str]) -> Iterable[bytes]:
        self._count += 1
        is_kept = words[-1] == "APPEND"
        try:
            code, text = self._execute(words)
        except Refused as refusal:
            status = f"-{refusal.code} {self._count:03d} {refusal.text}"
            yield self._block([status], ends=refusal.ends)
            self._state = "FLUSH"
            if refusal.closes:
                raise Closed from None
            return
        status = f"+{code} {self._count:03d} {text}"
        if not self._was_kept:
            self._kept.pop()
        self._kept.append(status)
        self._was_kept = is_kept

    def _execute(self, words: list[str]) -> tuple[str, str]:
        verb, *rest = words
        if rest and rest[-1] == "APPEND" and verb != "SEN":
            rest = rest[:-1]
        method = getattr(self, "_do_" + verb.lower().replace("-", "_"), None)
        if method is None or verb != verb.upper():
            raise Refused("900", f"{verb} unknown command...", closes=True)
        return method(rest)

    # -- commands

    def _do_get_version(self, _: list[str]) -> tuple[str, str]:
        return "002", VERSION

    def _do_set_version(self, rest: list[str]) -> tuple[str, str]:
        if not rest:
            raise Refused("502", "SET-VERSION error, version is missing")
        if rest[0] != VERSION:
            raise Refused("402", f"SET-VERSION error, {rest[0]} is not supported")
        return "002", f"Version {VERSION} is running"

    def _do_list(self, _: list[str]) -> tuple[str, str]:
        seids = () if self.twin.lists_nothing else self.twin.visible(self.user)
        return "004", "".join(f"{seid} " for seid in seids)

    def _do_echo(self, rest: list[str]) -> tuple[str, str]:
        if not rest:
            raise Refused("509", "ECHO error, parameter is missing")
        return "009", rest[0]

    def _do_quit(self, _: list[str]) -> tuple[str, str]:
        self._quits = True
        return "012", "QUIT"

    _do_xend = _do_quit

    def _element(self, rest: list[str], yz: str, missing: str, invalid: str) -> TwinElement:
        if not rest:
            raise Refused("5" + yz, missing)
        element = self.twin.find(self.user, rest[0])
        if element is None:
            raise Refused(("5" if yz == "11" else "4") + yz, invalid.format(rest[0]))
        return element

    def _do_poweron(self, rest: list[str]) -> tuple[str, str]:
        element = self._element(
            rest, "08", "POWERON error, SEID is missing", "POWERON invalid SEID ({})"
        )
        seid = rest[0]
        if element.holder is self:
            return "008", f"warning SEID {seid} was already powered, POWERON has been ignored"
        if element.holder is not None:
            raise Refused("708", f"POWERON error, SEID {seid} In Use, SHUTDOWN is required ")
        if element.is_broken:
            raise Refused("908", f"POWERON error, SEID {seid}")
        element.power("on", self)
        return "008", f"SEID {seid} has been powered on"

    def _do_reset(self, rest: list[str]) -> tuple[str, str]:
        element = self._element(
            rest, "05", "RESET error, SEID is missing", "RESET invalid SEID ({})"
        )
        seid = rest[0]
        if element.holder is not self:
            raise Refused("705", f"RESET error, SEID {seid} already In Use, SHUTDOWN is required ")
        is_warm = rest[1:2] == ["WARM"]
        element.log.append("warm" if is_warm else "reset")
        return "005", f"SEID {seid} has been resetted{' (warm)' if is_warm else ''}"

    def _do_shutdown(self, rest: list[str]) -> tuple[str, str]:
        element = self._element(
            rest, "07", "SHUTDOWN error, SEID is missing", "SHUTDOWN invalid SEID {}"
        )
        element.power("off", None)  # whoever holds it
        return "007", f"SEID {rest[0]} has been powered off"

    def _do_get_sen(self, rest: list[str]) -> tuple[str, str]:
        element = self._element(rest, "11", "GET-SEN, SEID is missing", "GET-SEN invalid SEID {}")
        if not element.sen:
            raise Refused("911", f"GET-SEN error, SEID {rest[0]} has no name", ends=False)
        return "011", f"{element.sen} [AID= {element.aid or 'default'}]"

    def _do_sen(self, rest: list[str]) -> tuple[str, str]:
        element = self._element(rest, "10", "SEN error, SEID is missing", "SEN invalid SEID {}")
        if len(rest) > 1:
            element.sen, element.aid = rest[1], rest[2] if len(rest) > 2 else ""
        return "010", f"SEN= {element.sen} AID= {element.aid or 'default'}"

    def _do_apdu(self, rest: list[str]) -> tuple[str, str]:
        if len(rest) < 2:
            raise Refused("506", "APDU error, too few parameters")
        seid, text, *options = rest
        digits = re.sub("[^0-9A-Fa-f]", "", text)
        command = bytes.fromhex(digits[: len(digits) & ~1])
        if not command:
            raise Refused("506", "APDU: invalid apdu format")
        element = self._element(rest, "06", "", "APDU invalid SEID ({})")
        command = bytes((command[0] & 0xFC,)) + command[1:]
        if command[:4] == SELECT:
            element.is_selected = True
        elif not element.is_selected:
            raise Refused("706", f"APDU error, SEID {seid}, no AID has been selected")
        if element.holder is not self:
            raise Refused("706", f"APDU error, SEID {seid} already In Use, SHUTDOWN required ")
        values = dict(option.split("=", 1) for option in options if "=" in option)
        answer = self._exchange(element, command, values)
        if len(wanted := values.get("CONTINUE", "")) == 4 and answer[-2:].hex() != wanted.lower():
            raise Refused("006", "APDU wrong status")
        return "006", answer.hex().upper()

    def _exchange(self, element: TwinElement, command: bytes, values: dict[str, str]) -> bytes:
        answer = self._process(element, command)
        while len(command) == 5 and answer[-2:-1] == b"\x6c" and answer[-1]:
            command = command[:4] + answer[-1:]
            answer = self._process(element, command)
        more, fetch = values.get("MORE", ""), values.get("FETCH", "00C00000")
        while more and answer[-2] == int(more, 16):
            if RESPONSE_LIMIT - len(answer) < FETCH_MARGIN:
                raise Refused("706", "APDU error, the response is too large", closes=True)
            rest = self._process(element, bytes.fromhex(fetch) + answer[-1:])
            answer = answer[:-2] + rest
        return answer

    def _process(self, element: TwinElement, command: bytes) -> bytes:
        if element.is_broken:
            raise Refused("806", "APDU error")
        element.log.append(command.hex().upper())
        return element.process(command)


class RacsTwin:
    """The twin behind TLS 1.2 with static RSA, for as long as ``async with`` lasts.

    Args:
        twin: The server's state.
        folder: ``server.pem`` with an RSA key in ``server.key``, and ``ca.pem`` for clients.
        is_modern: Take every version and suite, for tests of clients that ask for them.
        meddle: Sends an answer in the server's place, or something else, given the request and a
            way to send.
    """

    def __init__(
        self,
        twin: Twin,
        folder: Path,
        *,
        is_modern: bool = False,
        meddle: Meddle | None = None,
        port: int = 0,
    ) -> None:
        self.twin = twin
        self._meddle = meddle
        self._given_port = port
        self.sessions = 0
        self.server_names: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if not is_modern:
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AES128-GCM-SHA256")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        context.load_verify_locations(folder / "ca.pem")
        context.sni_callback = lambda _, name, __: self.server_names.append(name)
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """End every session."""
        for writer in self._writers:
            writer.transport.abort()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # any condition, without an event of its own
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> "RacsTwin":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._given_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        records = _Records(self._context, reader, writer)
        session: TwinSession | None = None
        try:
            session = TwinSession(self.twin, await records.handshake())
            self.sessions += 1
            while record := await records.receive():
                for answer in session.receive_record(record):
                    if self._meddle is None:
                        records.send(answer)
                    else:
                        await self._meddle(record, answer, records.send)
        except (Closed, OSError):
            pass
        finally:
            self._writers.discard(writer)
            if session is not None:
                session.end()
            writer.close()


@contextmanager
def serving(twin: Twin, folder: Path, *, is_modern: bool = True) -> Iterator[RacsTwin]:
    """Give the twin while it serves from a thread of its own, for programs that block."""
    server = RacsTwin(twin, folder, is_modern=is_modern)
    is_up = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(done.set))
        async with server:
            is_up.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert is_up.wait(PATIENCE_S)
        yield server
    finally:
        for end in stop:
            end()
        thread.join()


class _Records:
    """TLS by records: what asyncio's own TLS would join stays apart."""

    def __init__(
        self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._reader = reader
        self._writer = writer

    async def handshake(self) -> str:
        """Return the client's common name."""
        await self._when_ready(self._tls.do_handshake)
        subject = dict(pair[0] for pair in (self._tls.getpeercert() or {})["subject"])
        return str(subject["commonName"])

    async def receive(self) -> bytes | None:
        """Return the next record, nothing at the end."""
        return await self._when_ready(lambda: self._tls.read(RECORD))

    def send(self, data: bytes) -> None:
        """Send one record.

        Raises:
            Closed: Nobody is there any more.
        """
        if self._writer.is_closing():
            raise Closed
        self._tls.write(data)
        self._writer.write(self._outgoing.read())

    async def _when_ready(self, work: Callable[[], bytes | None]) -> bytes | None:
        while True:
            try:
                return work()
            except ssl.SSLWantReadError:
                self._flush()
                data = await self._reader.read(65_536)
                if not data:
                    raise Closed from None
                self._incoming.write(data)
            finally:
                self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._writer.is_closing():
            self._writer.write(data)
