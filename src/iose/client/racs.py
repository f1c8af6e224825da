# SPDX-License-Identifier: Apache-2.0
"""A client of RACS servers: inventory, power, APDUs, names, scripts (racs.md §6).

``RacsClient`` is for asyncio; ``BlockingRacsClient`` is the same for programs without a loop. One
client is one session: what it powers on stays its own until it shuts it down or closes.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from iose.client.racs_script import read_script
from iose.protocols.racs.response import RacsRequest, RacsResponse, apdu_line, command_line
from iose.protocols.racs.status import EventClass, StatusLine
from iose.transport.errors import NoCardError, RacsRefusedError
from iose.transport.racs_client import RacsEndpoint, decode_apdu_text, succeeded
from iose.transport.racs_link import RacsLink

__all__ = ["BlockingRacsClient", "ElementName", "RacsClient", "RacsEndpoint"]

T = TypeVar("T")

FAREWELLS: Final = ("QUIT", "XEND")  # after these the server closes
DEFAULT_AID: Final = "default"
_AID_MARK: Final = "AID="


@dataclass(frozen=True, slots=True)
class ElementName:
    """What the service plane knows of an element.

    Attributes:
        sen: Its TLS server name.
        aid: Applet it selects, in hex; "" for the card's default.
    """

    sen: str
    aid: str = ""


class RacsClient:
    """One session with a RACS server, for asyncio.

    Every method that sends raises TransportError when there is no answer, RacsRefusedError when
    the server refuses, and RacsPeerError when it does not speak RACS.
    """

    def __init__(self, endpoint: RacsEndpoint) -> None:
        self.endpoint = endpoint
        self._link = RacsLink(endpoint)

    async def open(self) -> None:
        """Open the session when there is none.

        Raises:
            TransportError: The server is not there, is another, or refuses us.
        """
        await self._link.open()

    @property
    def is_open(self) -> bool:
        """Whether the session goes on, as far as is known; a request would open another."""
        return self._link.is_open

    async def close(self) -> None:
        """End the session; elements it holds lose their power."""
        await self._link.close()

    async def request(self, request: RacsRequest) -> RacsResponse:
        """Return the response to a request, failures included; the session is opened if need be."""
        await self.open()
        response = await self._link.request(request)
        is_farewell = any(line.split()[0] in FAREWELLS for line in request.lines)
        if response.failure is not None or is_farewell:
            await self._link.settle()
        return response

    async def version(self) -> str:
        """Return the version of the protocol that the server speaks."""
        return (await self._ask("GET-VERSION")).text.strip()

    async def list(self) -> tuple[str, ...]:
        """Return the SEIDs this user may see, aliases included."""
        return tuple((await self._ask("LIST")).text.split())

    async def power_on(self, seid: str) -> None:
        """Hold an element for this session and power it on."""
        await self._ask("POWERON", seid)

    async def reset(self, seid: str, *, is_warm: bool = False) -> None:
        """Reset an element this session holds: by a cut of its power, or warm."""
        await self._ask("RESET", seid, *(("WARM",) if is_warm else ()))

    async def shutdown(self, seid: str) -> None:
        """Power an element off and let it go; another's, where the server allows that."""
        await self._ask("SHUTDOWN", seid)

    async def apdu(
        self,
        seid: str,
        command: bytes,
        *,
        more: int | None = None,
        fetch: bytes | None = None,
        expected: int | None = None,
    ) -> bytes:
        """Return the raw answer to a raw command, status word last (racs.md §7).

        Args:
            seid: An element this session holds.
            command: The command.
            more: SW1 after which the server fetches the rest, 61 or 9F.
            fetch: Header of that fetching; None for 00C00000.
            expected: Status word, 0 to FFFF, other than which is a refusal.

        Raises:
            DecodeError: The answer is not hex, or has no status word.
        """
        line = apdu_line(seid, command, more=more, fetch=fetch, expected=expected)
        return decode_apdu_text(await self._send(line))

    async def get_sen(self, seid: str) -> ElementName | None:
        """Return the name of an element on the service plane, None when it has none.

        Raises:
            RacsRefusedError: There is no such element.
        """
        try:
            return _decode_name((await self._ask("GET-SEN", seid)).text)
        except RacsRefusedError as error:
            if error.status.event_class == EventClass.SYSTEM:
                return None
            raise

    async def sen(self, seid: str, sen: str | None = None, aid: str = "") -> ElementName | None:
        """Give an element a name and an applet, or take back what was given; return what holds.

        Args:
            seid: An element that is free, or held by this session.
            sen: The name, up to 15 characters, ``null`` for none; None goes back to its ATR.
            aid: Applet to select, in hex; "" for the card's default.
        """
        given = () if sen is None else (sen, aid) if aid else (sen,)
        await self._ask("SEN", seid, *given)
        return await self.get_sen(seid)  # texts of SEN differ from server to server

    async def names(self) -> AsyncIterator[tuple[str, ElementName | None]]:
        """Yield every SEID with its name, as they come in."""
        for seid in await self.list():
            try:
                yield seid, await self.get_sen(seid)
            except RacsRefusedError:  # gone meanwhile, or its name is not for this user
                yield seid, None

    async def seid_of(self, name: str) -> str:
        """Return the SEID of an element that is called by its SEID or its name.

        Raises:
            NoCardError: The server shows this user no such element.
        """
        seids = await self.list()
        if name in seids:
            return name
        async for seid, known in self.names():
            if known is not None and known.sen.lower() == name.lower():
                return seid
        raise NoCardError(
            self.endpoint.address,
            f"no element {name!r} among the {len(seids)} you may see",
            hint="iose racs list shows them; ask the operator for a rule if one is missing",
        )

    async def run_script(self, lines: Iterable[str]) -> AsyncIterator[RacsResponse]:
        """Yield the response to each BEGIN … END block of a script, failures included.

        Raises:
            DecodeError: A line is wrong; the blocks before it have been run.
        """
        for request in read_script(lines):
            yield await self.request(request)

    async def _ask(self, *words: str) -> StatusLine:
        return await self._send(command_line(*words))

    async def _send(self, line: str) -> StatusLine:
        await self.open()
        response = await self._link.request(RacsRequest((line,)))
        if response.failure is not None and self.endpoint.is_legacy:
            await self._link.settle()  # a command it does not know ends its session
        return succeeded(self.endpoint.address, response)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class BlockingRacsClient:
    """One session with a RACS server, for programs without an event loop.

    Methods are those of ``RacsClient`` and raise the same; not for use inside a running loop.
    """

    def __init__(self, endpoint: RacsEndpoint) -> None:
        self._client = RacsClient(endpoint)
        self._runner = asyncio.Runner()

    @property
    def is_open(self) -> bool:
        """Whether the session goes on, as far as is known; a request would open another."""
        return self._client.is_open

    def open(self) -> None:
        """Open the session when there is none."""
        self._run(self._client.open())

    def close(self) -> None:
        """End the session; this client is of no more use."""
        self._run(self._client.close())
        self._runner.close()

    def request(self, request: RacsRequest) -> RacsResponse:
        """Return the response to a request, failures included."""
        return self._run(self._client.request(request))

    def version(self) -> str:
        """Return the version of the protocol that the server speaks."""
        return self._run(self._client.version())

    def list(self) -> tuple[str, ...]:
        """Return the SEIDs this user may see, aliases included."""
        return self._run(self._client.list())

    def power_on(self, seid: str) -> None:
        """Hold an element for this session and power it on."""
        self._run(self._client.power_on(seid))

    def reset(self, seid: str, *, is_warm: bool = False) -> None:
        """Reset an element this session holds: by a cut of its power, or warm."""
        self._run(self._client.reset(seid, is_warm=is_warm))

    def shutdown(self, seid: str) -> None:
        """Power an element off and let it go; another's, where the server allows that."""
        self._run(self._client.shutdown(seid))

    def apdu(
        self,
        seid: str,
        command: bytes,
        *,
        more: int | None = None,
        fetch: bytes | None = None,
        expected: int | None = None,
    ) -> bytes:
        """Return the raw answer to a raw command, status word last (racs.md §7)."""
        return self._run(
            self._client.apdu(seid, command, more=more, fetch=fetch, expected=expected)
        )

    def get_sen(self, seid: str) -> ElementName | None:
        """Return the name of an element on the service plane, None when it has none."""
        return self._run(self._client.get_sen(seid))

    def sen(self, seid: str, sen: str | None = None, aid: str = "") -> ElementName | None:
        """Give an element a name and an applet, or take back what was given; return what holds."""
        return self._run(self._client.sen(seid, sen, aid))

    def names(self) -> Iterator[tuple[str, ElementName | None]]:
        """Yield every SEID with its name, as they come in."""
        return self._iterate(self._client.names())

    def seid_of(self, name: str) -> str:
        """Return the SEID of an element that is called by its SEID or its name."""
        return self._run(self._client.seid_of(name))

    def run_script(self, lines: Iterable[str]) -> Iterator[RacsResponse]:
        """Yield the response to each BEGIN … END block of a script, failures included."""
        return self._iterate(self._client.run_script(lines))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> tuple[T, ...]:
            async for item in items:
                return (item,)
            return ()

        while item := self._run(following()):
            yield item[0]

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _decode_name(text: str) -> ElementName:
    sen, _, rest = text.expandtabs(1).strip().partition(" ")  # a tab would forge a column
    aid = rest.partition(_AID_MARK)[2].strip(" ]")
    return ElementName(sen, "" if aid == DEFAULT_AID else aid)
