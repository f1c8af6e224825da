# SPDX-License-Identifier: Apache-2.0
"""The client's side of RACS, without I/O: requests as bytes, bytes as responses (racs.md §3, §5).

A request is one bytes object, so that it can travel in one TLS record: the published server breaks
a line that is cut in two. Responses are read tolerantly: the sign counts, then the class; number
and text are for people.
"""

import re
from collections import deque
from dataclasses import dataclass
from typing import Final

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.wire.errors import LocalProtocolError

__all__ = ["RacsRequest", "RacsResponse", "ResponseParser", "apdu_line", "command_line"]

LINE_END: Final = "\r\n"
NAME_LIMIT: Final = 63  # racs.md §3: 64 overruns the published server
LINE_LIMIT: Final = 140_000  # racs.md §11: 64 KiB in hex, and what stands before it
RESPONSE_LIMIT: Final = 1 << 20  # every line of a long script with APPEND
LINE_NUMBER_DIGITS: Final = 9

# racs.md §16: what overwrites the memory of the published server
CAREFUL_TOKENS: Final = 10
CAREFUL_APDU_SIZE: Final = 512
CAREFUL_ECHO_SIZE: Final = 1000
CAREFUL_REQUEST_SIZE: Final = 16_384  # one TLS record, RFC 8446 §5.1

_STATUS: Final = re.compile(
    rf"([+-])([0-9])([0-9]{{2}}) +([0-9]{{1,{LINE_NUMBER_DIGITS}}})(?: (.*))?"
)
_PRINTABLE: Final = re.compile(rb"[\t -~]*")
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class RacsRequest:
    """One block of command lines (racs.md §3).

    Attributes:
        lines: Command lines without BEGIN, END and line ends.
        name: Request name, up to 63 characters without blanks; the response repeats it.
    """

    lines: tuple[str, ...]
    name: str = ""

    def __post_init__(self) -> None:
        """Check what the line grammar can carry.

        Raises:
            LocalProtocolError: A line is empty, is BEGIN or END, or is not printable ASCII; or the
                name is no token, or too long.
        """
        if len(self.name) > NAME_LIMIT or (self.name and not _TOKEN.fullmatch(self.name)):
            raise LocalProtocolError(f"a request name is up to {NAME_LIMIT} characters, no blanks")
        for number, line in enumerate(self.lines, 1):
            if not (line.isascii() and line.isprintable()):
                raise LocalProtocolError(f"line {number} is not printable ASCII")
            words = line.split()
            if not words:  # the published server closes at once
                raise LocalProtocolError(f"line {number} is empty")
            if words[0] in {"BEGIN", "END"}:
                raise LocalProtocolError(f"line {number} is {words[0]}, which frames a request")

    def encode(self, *, is_careful: bool = False) -> bytes:
        """Return the whole request, to be sent in one piece (racs.md §11).

        Args:
            is_careful: Refuse what overruns the published server (racs.md §16).

        Raises:
            LocalProtocolError: A line, or the request, is larger than that server takes.
        """
        begin = f"BEGIN {self.name}" if self.name else "BEGIN"
        data = LINE_END.join((begin, *self.lines, "END", "")).encode("ascii")
        if is_careful:
            for number, line in enumerate(self.lines, 1):
                _check_careful(number, line)
            if len(data) > CAREFUL_REQUEST_SIZE:
                raise LocalProtocolError(
                    f"the request has {len(data)} bytes, over {CAREFUL_REQUEST_SIZE}"
                )
        return data


def apdu_line(
    seid: str,
    command: bytes,
    *,
    more: int | None = None,
    fetch: bytes | None = None,
    expected: int | None = None,
) -> str:
    """Return an APDU command line (racs.md §7).

    Args:
        seid: The element.
        command: The raw command.
        more: SW1 after which the server fetches the rest by itself, 61 or 9F.
        fetch: Header of that fetching, 4 bytes; None leaves the server its 00C00000.
        expected: Status word without which the request stops, 0 to FFFF.

    Raises:
        LocalProtocolError: The SEID is no word, or the command is empty.
    """
    words = [command.hex().upper()]
    if expected is not None:
        words.append(f"CONTINUE={expected:04X}")
    if more is not None:
        words.append(f"MORE={more:02X}")
    if fetch is not None:
        words.append(f"FETCH={fetch.hex().upper()}")
    return command_line("APDU", seid, *words)


def command_line(*words: str) -> str:
    """Return a command line of several words.

    Raises:
        LocalProtocolError: A word is empty, or holds a blank or anything but printable ASCII.
    """
    for word in words:
        if not _TOKEN.fullmatch(word):
            raise LocalProtocolError(f"{word!r} is no word of a command line")
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class RacsResponse:
    """One block of status lines (racs.md §3).

    Attributes:
        name: What stood after BEGIN.
        lines: The status lines, at least one.
        has_end: Whether END came; the published server forgets it once (racs.md §16, 4).
    """

    name: str
    lines: tuple[StatusLine, ...]
    has_end: bool = True

    @property
    def last(self) -> StatusLine:
        """The status of the last command executed."""
        return self.lines[-1]

    @property
    def failure(self) -> StatusLine | None:
        """The first line with a minus sign, if any."""
        return next((line for line in self.lines if line.sign == "-"), None)


class ResponseParser:
    """Cuts a stream into responses; bounded in every direction.

    After a ``-`` line without END, the caller waits a moment (``is_unfinished_failure``) and then
    calls ``end_failure``: the published server may have forgotten END.
    """

    def __init__(self, *, response_limit: int = RESPONSE_LIMIT) -> None:
        self._response_limit = response_limit
        self._buffer = bytearray()
        self._searched = 0
        self._name: str | None = None  # None outside a response
        self._lines: list[StatusLine] = []
        self._size = 0
        self._may_end_late = False
        self._responses: deque[RacsResponse] = deque()
        self._fault: RacsPeerError | None = None

    @property
    def is_unfinished_failure(self) -> bool:
        """Whether a failure has been told and END has not come."""
        return bool(self._lines) and self._lines[-1].sign == "-" and not self._buffer

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come after the last response taken, but an END that is late."""
        is_between = self._name is None and not self._responses
        return is_between and (self._may_end_late or not self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the server, any split.

        Raises:
            RacsPeerError: They are not RACS, or too many; every later call raises the same.
        """
        if self._fault is not None:
            raise self._fault
        try:
            self._take(data)
        except RacsPeerError as fault:
            self._fault = fault
            self._buffer.clear()
            raise

    def next_response(self) -> RacsResponse | None:
        """Return the oldest response not yet seen, or None."""
        return self._responses.popleft() if self._responses else None

    def end_failure(self) -> None:
        """Take the response as complete although END has not come; an END still to come is lost."""
        if self.is_unfinished_failure:
            self._end(has_end=False)
            self._may_end_late = True

    def _take(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            self._check_size(len(line))
            self._take_line(line.removesuffix(b"\r"))
        self._searched = len(self._buffer)
        self._check_size(len(self._buffer))

    def _check_size(self, size: int) -> None:
        if size > LINE_LIMIT:
            raise RacsPeerError(f"a line is longer than {LINE_LIMIT} bytes")

    def _take_line(self, raw: bytes) -> None:
        if not _PRINTABLE.fullmatch(raw):
            raise RacsPeerError("a line is not printable ASCII")
        line = raw.decode("ascii")
        word = line.partition(" ")[0]
        if word == "BEGIN":
            self._begin(line)
        elif self._name is None:
            if word != "END" or not self._may_end_late:
                raise RacsPeerError("expected BEGIN, found another line")
            self._may_end_late = False
        elif word == "END":
            self._end(has_end=True)
        else:
            self._size += len(raw)
            if self._size > self._response_limit:
                raise RacsPeerError(f"a response is longer than {self._response_limit} bytes")
            self._lines.append(_decode_status(line))

    def _begin(self, line: str) -> None:
        if self._name is not None:
            if not self._lines or self._lines[-1].sign != "-":
                raise RacsPeerError("expected END before the next BEGIN")
            self._end(has_end=False)
        self._may_end_late = False
        self._name = line.removeprefix("BEGIN").strip()

    def _end(self, *, has_end: bool) -> None:
        if not self._lines:
            raise RacsPeerError("a response without a status line")
        self._responses.append(RacsResponse(self._name or "", tuple(self._lines), has_end))
        self._name = None
        self._lines.clear()
        self._size = 0


def _decode_status(line: str) -> StatusLine:
    found = _STATUS.fullmatch(line)
    if found is None:
        raise RacsPeerError("expected a status line")
    sign, event_class, verb, number, text = found.groups()
    return StatusLine(sign, EventClass(int(event_class)), Verb(int(verb)), int(number), text or "")


def _check_careful(number: int, line: str) -> None:
    words = line.split()
    if len(words) > CAREFUL_TOKENS:
        raise LocalProtocolError(f"line {number} has over {CAREFUL_TOKENS} words")
    if words[0] == "APDU" and any(len(word) > 2 * CAREFUL_APDU_SIZE for word in words[1:]):
        raise LocalProtocolError(f"line {number}: an APDU of over {CAREFUL_APDU_SIZE} bytes")
    if words[0] != "APDU" and len(line) > CAREFUL_ECHO_SIZE:
        raise LocalProtocolError(f"line {number} has over {CAREFUL_ECHO_SIZE} characters")
