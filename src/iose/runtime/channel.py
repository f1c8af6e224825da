# SPDX-License-Identifier: Apache-2.0
"""Requests, answers and events between our own processes: one JSON document per line.

Supervisor and hosts, supervisor and node, command line and supervisor all speak it. A request is
``{"id", "op", "arguments"}``, its answer ``{"id", "result"}`` or ``{"id", "error"}``; an event is
``{"event", "arguments"}`` and has no answer. Nothing that passes here is ever logged.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Final, TypeVar

from iose.runtime.errors import ConfigurationError, ControlError
from iose.wire.errors import IoseError

LINE_LIMIT: Final = 32 * 1024 * 1024  # a host is told of all its elements in one line
Arguments = Mapping[str, object]
Result = Mapping[str, object]
T = TypeVar("T")
_KINDS: Final[Mapping[type, str]] = {str: "a string", int: "a number", list: "a list"}
Handler = Callable[[str, Arguments], Awaitable[Result]]
EventSink = Callable[[str, Arguments], None]


async def refuse_requests(op: str, _arguments: Arguments) -> Result:
    """Refuse every request: the handler of an end that only asks.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(f"unknown operation {op!r}")


def ignore_events(_event: str, _arguments: Arguments) -> None:
    """Do nothing: the sink of an end that expects no events."""


class JsonChannel:
    """One end of a control channel, able to ask, to answer, and to tell.

    What was asked for is carried out to its end, whether or not the asker waits for the answer.

    Attributes:
        closed: Set when the channel has ended.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        handler: Handler = refuse_requests,
        sink: EventSink = ignore_events,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._sink = sink
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.closed = asyncio.Event()

    async def request(
        self, op: str, arguments: Arguments | None = None, *, timeout_s: float | None = None
    ) -> Result:
        """Return the answer to one request.

        Raises:
            ConfigurationError: The other end refused; its message and hint are kept.
            ControlError: The other end is gone, failed, or did not answer in time.
        """
        if self._closed:
            raise ControlError("the control channel is closed")
        number = next(self._numbers)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send({"id": number, "op": op, "arguments": arguments or {}})
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise ControlError(f"no answer to {op!r} within {timeout_s} s") from None
        finally:
            self._waiting.pop(number, None)

    def tell(self, event: str, arguments: Arguments) -> None:
        """Send an event; it is lost when the other end is gone."""
        if not self._closed:
            self._send({"event": event, "arguments": arguments})

    async def serve(self) -> None:
        """Read until the other end is gone; answer its requests, each in its own task."""
        try:
            while line := await self._reader.readline():
                self._receive(read_object(json.loads(line)))
        except (OSError, ValueError, RecursionError, ControlError):
            pass  # torn, line over the limit, not JSON or too deep
        finally:
            self._finish()

    def close(self) -> None:
        """Hang up; both ends' pending requests fail."""
        self._closed = True
        self._writer.close()

    def _finish(self) -> None:
        self.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ControlError("the other end of the control channel is gone"))
        self.closed.set()

    def _receive(self, message: Result) -> None:
        if "event" in message:
            self._sink(read_text(message, "event"), read_object(message.get("arguments")))
        elif "op" in message:
            answering = self._answer(
                read_int(message, "id"),
                read_text(message, "op"),
                read_object(message.get("arguments")),
            )
            task = asyncio.create_task(answering)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            answer = self._waiting.get(read_int(message, "id"))
            if answer is not None and not answer.done():
                _settle(answer, message)

    async def _answer(self, number: int, op: str, arguments: Arguments) -> None:
        try:
            answer: dict[str, object] = {"result": await self._handler(op, arguments)}
        except IoseError as error:
            refused = isinstance(error, ConfigurationError)
            answer = {"error": {"message": str(error), "hint": error.hint, "refused": refused}}
        except Exception as error:  # noqa: BLE001  # the top of a server task; no content leaks
            answer = {"error": {"message": f"{op!r} failed: {type(error).__name__}"}}
        self._send({"id": number, **answer})

    def _send(self, message: Result) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _settle(answer: asyncio.Future[Result], message: Result) -> None:
    if "error" not in message:
        answer.set_result(read_object(message.get("result")))
        return
    error = read_object(message["error"])
    kind = ConfigurationError if error.get("refused") else ControlError
    hint = error.get("hint")
    text = read_text(error, "message")
    answer.set_exception(kind(text, hint=hint if isinstance(hint, str) else None))


def read_object(value: object) -> Result:
    """Return a JSON object; nothing stands for the empty one.

    Raises:
        ControlError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ControlError("expected a JSON object on a control channel")
    return value


def read_text(message: Result, name: str) -> str:
    """Return a string of a JSON object.

    Raises:
        ControlError: It is missing, or something else.
    """
    return _read(message, name, str)


def read_int(message: Result, name: str) -> int:
    """Return a number of a JSON object.

    Raises:
        ControlError: It is missing, or something else.
    """
    return _read(message, name, int)


def read_list(message: Result, name: str) -> list[object]:
    """Return a list of a JSON object.

    Raises:
        ControlError: It is missing, or something else.
    """
    return _read(message, name, list)


def _read(message: Result, name: str, kind: type[T]) -> T:
    value = message.get(name)
    if type(value) is not kind:  # a bool is no number
        raise ControlError(f"expected {_KINDS[kind]} as {name!r} on a control channel")
    return value
