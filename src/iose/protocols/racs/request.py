# SPDX-License-Identifier: Apache-2.0
"""The server's side of RACS, without I/O: bytes in, commands out, one response block per request.

Each command is answered before the next one is taken, since an error throws away the rest of its
request (racs.md §3, §4). What commands mean is not known here; ``parameters`` reads their words.
"""

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.response import RacsResponse
from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.wire.errors import LocalProtocolError

__all__ = ["LINE_LIMIT", "RacsCommand", "RequestMachine", "encode_response"]

LINE_LIMIT: Final = 140_000  # racs.md §11: an extended APDU in hex, and what stands before it
TOKEN_LIMIT: Final = 32  # racs.md §11: APDU has 6
NAME_LIMIT: Final = 64  # racs.md §3
BLOCK_LIMIT: Final = 1_000_000  # our client takes 1 MiB
BLOCK_OVERHEAD: Final = 160  # BEGIN, name, END, and a status line's own fields
SHOWN: Final = 40  # characters of a stray word that an error repeats
NAME_REFUSED: Final = Verb.GET_VERSION  # racs.md §5.2: -302, though no GET-VERSION is meant
APPEND: Final = "APPEND"
COMMENT: Final = "//"

VERBS: Final = {
    "GET-VERSION": Verb.GET_VERSION,
    "SET-VERSION": Verb.SET_VERSION,
    "LIST": Verb.LIST,
    "RESET": Verb.RESET,
    "APDU": Verb.APDU,
    "SHUTDOWN": Verb.SHUTDOWN,
    "POWERON": Verb.POWERON,
    "ECHO": Verb.ECHO,
    "SEN": Verb.SEN,
    "GET-SEN": Verb.GET_SEN,
    "QUIT": Verb.QUIT,
    "XEND": Verb.QUIT,
}
# Parameters before which APPEND is a parameter itself; SEN has none of which we could be sure.
FIXED_PARAMETERS: Final = {
    Verb.SET_VERSION: 1,
    Verb.RESET: 1,
    Verb.APDU: 2,
    Verb.SHUTDOWN: 1,
    Verb.POWERON: 1,
    Verb.ECHO: 1,
    Verb.GET_SEN: 1,
}


@dataclass(frozen=True, slots=True)
class RacsCommand:
    """One command line.

    Attributes:
        line: Its number in the request, from 1.
        word: Its first word.
        verb: What that means; ``NONE`` when it means nothing.
        parameters: The other words, APPEND taken away.
        is_kept: Whether its status line stays in the response (APPEND).
        fault: Why the line cannot be read; "" when it can.
    """

    line: int
    word: str
    verb: Verb
    parameters: tuple[str, ...] = ()
    is_kept: bool = False
    fault: str = ""


class _State(Enum):
    IDLE = "BEGIN"
    IN_REQUEST = "a command or END"
    FLUSH = "END, after an error"
    CLOSED = "nothing"


class RequestMachine:
    """One session's stream of requests.

    Args:
        is_reference: Close and complain where the published server does (racs.md §5.2).
        block_limit: Largest response to one request, in bytes.
    """

    def __init__(self, *, is_reference: bool = False, block_limit: int = BLOCK_LIMIT) -> None:
        self._is_reference = is_reference
        self._block_limit = block_limit
        self._buffer = bytearray()
        self._searched = 0
        self._state = _State.IDLE
        self._name = ""
        self._line = 0
        self._pending: RacsCommand | None = None
        self._lines: list[StatusLine] = []
        self._size = 0
        self._is_last_kept = True
        self._is_quitting = False
        self._is_behind = False
        self._responses: deque[RacsResponse] = deque()

    @property
    def is_closed(self) -> bool:
        """Whether the session is over: nothing more will be read."""
        return self._state is _State.CLOSED

    @property
    def is_idle(self) -> bool:
        """Whether no request is open."""
        return self._state is _State.IDLE and not self._buffer

    @property
    def is_behind(self) -> bool:
        """Whether ``next_command`` stopped at its limit: there may be more."""
        return self._is_behind

    @property
    def buffered(self) -> int:
        """Bytes received and not yet looked at."""
        return len(self._buffer)

    @property
    def room(self) -> int:
        """How many bytes of text the answer to the pending command may have."""
        return self._block_limit - self._size - BLOCK_OVERHEAD

    def receive_data(self, data: bytes) -> None:
        """Take bytes of the client, any split."""
        if self._state is not _State.CLOSED:
            self._buffer += data

    def next_command(self, limit: int = 0) -> RacsCommand | None:
        """Return the next command, to be answered first; None when more bytes are needed.

        Args:
            limit: Look at so many lines that are no command at most; 0 for any number.

        Raises:
            LocalProtocolError: The last one has not been answered.
        """
        if self._pending is not None:
            raise LocalProtocolError(f"line {self._line} has not been answered")
        self._is_behind = False
        looked = 0
        while self._state is not _State.CLOSED and (raw := self._next_line()) is not None:
            command = self._take_line(raw)
            if command is not None:
                self._pending = command
                return command
            looked += 1
            if looked == limit:
                self._is_behind = True
                break
        return None

    def answer(self, status: StatusLine, *, closes: bool = False) -> None:
        """Answer the pending command; a minus sign ends its request.

        Args:
            status: Its status line.
            closes: End the session after it.

        Raises:
            LocalProtocolError: No command is pending.
        """
        command, self._pending = self._pending, None
        if command is None:
            raise LocalProtocolError("there is no command to answer")
        if status.sign == "-":
            self._fail(status, _State.CLOSED if closes else _State.FLUSH)
            return
        if not self._is_last_kept:
            self._size -= len(self._lines.pop().text) + BLOCK_OVERHEAD
        self._lines.append(status)
        self._size += len(status.text) + BLOCK_OVERHEAD
        self._is_last_kept = command.is_kept
        self._is_quitting |= command.verb is Verb.QUIT

    def responses(self) -> list[RacsResponse]:
        """Return the responses not yet taken."""
        taken = list(self._responses)
        self._responses.clear()
        return taken

    def data_to_send(self) -> bytes:
        """Return the same, as bytes for the client."""
        if not self._responses:
            return b""
        return b"".join(
            encode_response(response, is_reference=self._is_reference)
            for response in self.responses()
        )

    def _next_line(self) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(b"\n", self._searched)
        size = len(buffer) if end < 0 else end
        if size > LINE_LIMIT:
            self._line = 0 if self._state is _State.IDLE else self._line + 1
            self._break(EventClass.ILLEGAL, Verb.NONE, f"a line of over {LINE_LIMIT} bytes")
            return None
        if end < 0:
            self._searched = size
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        self._searched = 0
        return line[:-1] if line.endswith(b"\r") else line

    def _take_line(self, raw: bytes) -> RacsCommand | None:
        text = raw.decode("latin-1")
        words = text.split(" ")
        if "" in words:
            words = [word for word in words if word]
        if self._state is _State.FLUSH:
            if words and words[0] == "END":
                self._end_request()
        elif not words:
            if self._is_reference:
                self._close()
        elif self._state is _State.IDLE:
            self._take_outside(words, text)
        elif words[0] == "END":
            self._answer_request()
        else:
            return self._take_inside(words, text)
        return None

    def _take_outside(self, words: list[str], text: str) -> None:
        word = words[0]
        if word.startswith(COMMENT) and not self._is_reference:
            return
        self._line = 0
        self._name = ""
        if word != "BEGIN":
            shown = word[:SHOWN] if _is_readable(word) else "unreadable"
            self._break(EventClass.ILLEGAL, Verb.NONE, f"expected BEGIN, found {shown}")
            return
        name = words[1] if len(words) == 2 else ""  # noqa: PLR2004  # BEGIN and a name
        if not _is_readable(text):
            self._break(EventClass.ILLEGAL, NAME_REFUSED, "a name that is not visible ASCII")
            return
        self._name = name
        if len(name) > NAME_LIMIT:
            self._break(EventClass.ILLEGAL, NAME_REFUSED, f"a name of over {NAME_LIMIT}")
            return
        self._state = _State.IN_REQUEST

    def _take_inside(self, words: list[str], text: str) -> RacsCommand | None:
        self._line += 1
        word = words[0]
        if word == "BEGIN":
            self._break(EventClass.ILLEGAL, Verb.BEGIN, "BEGIN inside a request")
            return None
        verb = VERBS.get(word, Verb.NONE)
        command = RacsCommand(self._line, word, verb)
        if not _is_readable(text):
            return replace(command, word="", fault="not visible ASCII")
        if len(words) > TOKEN_LIMIT:
            return replace(command, fault=f"over {TOKEN_LIMIT} words")
        return self._keep(command, words)

    def _keep(self, command: RacsCommand, words: list[str]) -> RacsCommand:
        """Read APPEND: the last word, or any behind the fixed parameters (racs.md §15.18)."""
        is_kept = len(words) > 1 and words[-1] == APPEND
        if is_kept:
            words.pop()
        fixed = FIXED_PARAMETERS.get(command.verb)
        parameters = words[1:]
        if fixed is not None and not self._is_reference and APPEND in parameters[fixed:]:
            is_kept = True
            options = [word for word in parameters[fixed:] if word != APPEND]
            parameters = parameters[:fixed] + options
        return RacsCommand(command.line, command.word, command.verb, tuple(parameters), is_kept)

    def _answer_request(self) -> None:
        if not self._lines:
            status = StatusLine("+", EventClass.EXECUTION, Verb.BEGIN, 0, "empty request")
            self._lines.append(status)
        self._responses.append(RacsResponse(self._name, tuple(self._lines)))
        self._end_request()

    def _end_request(self) -> None:
        self._name = ""
        self._lines.clear()
        self._size = 0
        self._is_last_kept = True
        self._state = _State.IDLE
        if self._is_quitting:
            self._close()

    def _break(self, event_class: EventClass, verb: Verb, text: str) -> None:
        """Refuse what cannot be framed, and close: the rest cannot be trusted."""
        self._fail(StatusLine("-", event_class, verb, self._line, text), _State.CLOSED)

    def _fail(self, status: StatusLine, state: _State) -> None:
        self._lines.clear()
        self._size = 0
        self._is_last_kept = True
        self._responses.append(RacsResponse(self._name, (status,)))
        self._state = state
        if state is _State.CLOSED:
            self._close()

    def _close(self) -> None:
        self._state = _State.CLOSED
        self._buffer.clear()
        self._searched = 0


def encode_response(response: RacsResponse, *, is_reference: bool = False) -> bytes:
    """Return the block of a response.

    Args:
        response: What to send.
        is_reference: Put a blank after a BEGIN without name, as the published server does.

    Raises:
        RacsPeerError: The text is not printable ASCII, so a line could be forged with it.
    """
    begin = f"BEGIN {response.name}" if response.name else "BEGIN"
    first = response.lines[0]
    is_stray = first.event_class is EventClass.ILLEGAL and first.verb is Verb.NONE
    if is_reference and not response.name and not is_stray:
        begin += " "
    lines = (begin, *map(str, response.lines))
    if not all(map(_is_readable, lines)):
        raise RacsPeerError("a status line is not printable ASCII")
    return "\r\n".join((*lines, "END", "")).encode("ascii")


def _is_readable(text: str) -> bool:
    return text.isascii() and text.isprintable()
