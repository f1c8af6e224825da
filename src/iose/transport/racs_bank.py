# SPDX-License-Identifier: Apache-2.0
"""The elements of another node, as slots (iose-server.md §8.2, racs.md §6, §10).

One RACS session watches what the node lists; its end is noticed at once. Sessions of elements are
others, from a pool: they wait for slow elements, this one never does.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.response import RacsRequest, RacsResponse, command_line
from iose.protocols.racs.status import EventClass
from iose.transport.bank import Slot, SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.racs_client import RacsReader, succeeded
from iose.transport.racs_link import RacsEndpoint, RacsLink
from iose.transport.racs_pool import RacsPool
from iose.wire.errors import IoseError, LocalProtocolError

REQUEST_NAME: Final = "IOSE"
LOOK_S: Final = 10.0  # LIST and GET-SEN touch no element
RETRY_S: Final = 0.25  # doubled up to the time between looks
NAMES_S: Final = 60.0  # names change seldom, and nobody tells
NAMES_AT_ONCE: Final = 16  # GET-SEN in one request
LISTED_LIMIT: Final = 1024  # elements of one server; each costs a request, a reader and a look
NO_SERVICE: Final = "null"  # racs.md §6: no service plane
_WILD: Final = frozenset("*?[")
_EMPTY_FAULT: Final = "the node lists no element that is asked for"
_EMPTY_HINT: Final = (
    "on that node, a rule must let our certificate's user see its elements; a published server"
    " may list none: name its elements one by one"
)
_UNLISTED_FAULT: Final = "the node does not have this element, or does not show it to us"
_UNLISTED_HINT: Final = "iose racs list, with the same certificate, shows what it has for us"
_CLOSED_FAULT: Final = "the server ends each session before it answers"
_CLOSED_HINT: Final = (
    "our certificate may be revoked there, or too many sessions be open: its log says which"
)
_SILENT_HINT: Final = "it is served again as soon as it answers; the other node's log may say more"
_SPEECH_HINT: Final = "is this the RACS port of a node?"


class RacsBank:
    """Elements of one RACS server.

    Args:
        name: What the operator calls the bank.
        endpoint: The server, and who we are to it.
        elements: Globs over its SEIDs. One that is no glob is taken although the server does not
            list it, if the server knows it: the published one may list nothing.
        apdu_s: Longest wait for the answer to one APDU.
        poll_s: Time between looks.

    Raises:
        LocalProtocolError: One of the elements is no word of a RACS line.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: RacsEndpoint,
        elements: Sequence[str] = ("*",),
        apdu_s: float,
        poll_s: float,
    ) -> None:
        self.name = name
        self._elements = tuple(command_line(one) for one in elements)
        self._endpoint = replace(endpoint, answer_s=apdu_s)
        self._poll_s = poll_s
        self._pool = RacsPool(self._endpoint)
        self._link = RacsLink(replace(endpoint, answer_s=min(apdu_s, LOOK_S)))
        self._changed: Callable[[], None] = _nobody
        self._readers: dict[str, RacsReader] = {}
        self._unlisted: tuple[str, ...] = ()
        self._fault: Slot | None = None
        self._is_doubtful = False
        self._silent: dict[str, tuple[TransportError, asyncio.Task[None]]] = {}
        self._named_at: float | None = None
        self._slots: tuple[Slot, ...] = ()
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What the server has for us, in its order; one slot says why there is nothing."""
        return self._slots

    async def start(self, changed: Callable[[], None]) -> None:
        """Look, and keep looking; returns when the first look is done or has failed.

        Args:
            changed: Called in the loop after ``slots`` has become another.
        """
        self._changed = changed
        is_up = await self._look()
        self._task = asyncio.create_task(self._watch(is_up=is_up))

    async def refresh(self) -> None:
        """Look again now, at names as well."""
        self._named_at = None
        self._wake.set()
        await self._look()

    async def stop(self) -> None:
        """Look no more, and end every session that holds no element; never raises."""
        tasks = [task for _, task in self._silent.values()]
        self._silent.clear()
        if self._task is not None:
            tasks.append(self._task)
            self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.close()
        await self._link.close()

    # --- looking --------------------------------------------------------------------------------

    async def _watch(self, *, is_up: bool) -> None:
        loop = asyncio.get_running_loop()
        retry_s = RETRY_S
        while True:
            looked = loop.time()
            await self._pause(self._poll_s if is_up else retry_s)
            await asyncio.sleep(looked + RETRY_S - loop.time())  # a server may end each session
            self._wake.clear()
            is_up = await self._look()
            retry_s = RETRY_S if is_up else min(2 * retry_s, max(self._poll_s, RETRY_S))

    async def _pause(self, delay: float) -> None:
        """Wait for the time of the next look, the end of the session, or somebody who cannot."""
        asked = asyncio.create_task(self._wake.wait())
        waits: set[asyncio.Task[object]] = {asked}
        if self._link.is_open:
            waits.add(asyncio.create_task(self._link.settle(delay)))
        try:
            await asyncio.wait(waits, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _look(self) -> bool:
        """Bring the slots up to date, and say whether the server could be asked.

        One that is there and gives no good answer is asked again before its elements are gone.
        """
        async with self._looking:
            try:
                listed = await self._list()
                unlisted = await self._check_unlisted(listed)
                await self._name([*listed, *unlisted])
            except (TransportError, RacsPeerError, LocalProtocolError) as error:
                self._link.abort()
                if self._is_doubtful or not self._readers or _is_absence(error):
                    self._fail(error)
                self._is_doubtful = True  # sessions go on: they may know nothing of it
                return False
            self._is_doubtful = False
            self._fault = None
            self._publish()
            return True

    async def _list(self) -> list[str]:
        """Return the listed SEIDs that are asked for.

        Raises:
            NoReaderError: The server ends the session without an answer.
            TransportError: The server is not there, or refuses us.
            RacsPeerError: It does not speak RACS.
        """
        text = ""
        for is_last in (not self._link.is_open, True):
            try:
                await self._link.open()
                text = succeeded(self._endpoint.address, await self._ask("LIST")).text
                break
            except CardRemovedError as error:  # the session had ended
                if is_last:
                    raise NoReaderError(
                        self._endpoint.address, _CLOSED_FAULT, hint=_CLOSED_HINT
                    ) from error
        asked_for = (
            seid
            for seid in dict.fromkeys(text.split())
            if any(fnmatchcase(seid, one) for one in self._elements)
        )
        return list(islice(asked_for, LISTED_LIMIT))

    async def _check_unlisted(self, listed: Iterable[str]) -> list[str]:
        """Return the SEIDs that are asked for by name and known to the server, but not listed.

        Raises:
            TransportError: The server is gone.
            RacsPeerError: It does not speak RACS.
        """
        plain = [one for one in self._elements if not _WILD.intersection(one)]
        wanted = [one for one in dict.fromkeys(plain) if one not in listed]
        found = [seid for seid in wanted if await self._is_known(seid)]
        self._unlisted = tuple(seid for seid in wanted if seid not in found)
        return found

    async def _is_known(self, seid: str) -> bool:
        failure = (await self._ask(f"GET-SEN {seid}")).failure
        refusals = (EventClass.BAD_PARAMETER, EventClass.SYNTAX)  # the latter by published servers
        return failure is None or failure.event_class not in refusals

    async def _name(self, seids: Sequence[str]) -> None:
        """Make readers of SEIDs; names are asked for when they are new, or have not been lately."""
        now = asyncio.get_running_loop().time()
        is_stale = self._named_at is None or now - self._named_at > NAMES_S
        asked = [seid for seid in seids if is_stale or seid not in self._readers]
        sens = {seid: reader.sen for seid, reader in self._readers.items()}
        for start in range(0, len(asked), NAMES_AT_ONCE):
            sens.update(await self._names(asked[start : start + NAMES_AT_ONCE]))
        if is_stale:
            self._named_at = now
        readers = {}
        for seid in seids:
            reader = self._readers.get(seid)
            if reader is None or reader.sen != sens[seid]:
                reader = self._reader(seid, sens[seid])
            readers[seid] = reader
        self._readers = readers
        for seid in self._silent.keys() - readers.keys():
            self._silent.pop(seid)[1].cancel()

    async def _names(self, seids: Sequence[str]) -> dict[str, str]:
        """Return the names of a few elements, "" where there is none."""
        lines = [f"GET-SEN {seid} APPEND" for seid in seids]
        response = await self._ask(*lines)
        if response.failure is None and len(response.lines) == len(seids):
            texts = [line.text for line in response.lines]
            return {seid: _sen(text) for seid, text in zip(seids, texts, strict=True)}
        names = {}
        for seid in seids:  # one without a name hides those of all the others
            response = await self._ask(f"GET-SEN {seid}")
            names[seid] = "" if response.failure is not None else _sen(response.last.text)
        return names

    async def _ask(self, *lines: str) -> RacsResponse:
        return await self._link.request(RacsRequest(lines, REQUEST_NAME))

    # --- what comes of it -----------------------------------------------------------------------

    def _reader(self, seid: str, sen: str) -> RacsReader:
        return RacsReader(self._endpoint, seid, sen=sen, pool=self._pool, failed=self._failed)

    def _failed(self, reader: RacsReader, error: TransportError) -> None:
        """Look again, since a session failed; an element that was silent waits for its next word.

        Nothing may be published from here: the session that failed is still in use.
        """
        self._wake.set()
        is_silent = isinstance(error, TransportTimeoutError)
        if is_silent and self._task is not None and reader.seid not in self._silent:
            recovery = asyncio.create_task(self._recover(reader))
            self._silent[reader.seid] = (error, recovery)

    async def _recover(self, reader: RacsReader) -> None:
        """Serve an element again when it can be powered on."""
        delay = RETRY_S
        self._publish()
        while True:
            await asyncio.sleep(delay)
            delay = min(2 * delay, max(self._poll_s, RETRY_S))
            with suppress(TransportError):
                connection = await reader.connect()
                await connection.close()
                break
        del self._silent[reader.seid]
        self._publish()

    def _fail(self, error: IoseError) -> None:
        self._pool.forget()
        for _, recovery in self._silent.values():
            recovery.cancel()
        self._silent.clear()
        address = self._endpoint.address
        text, hint = str(error).removeprefix(f"{address}: "), error.hint or ""
        state = SlotState.ABSENT if _is_absence(error) else SlotState.FAULT
        if isinstance(error, RacsPeerError):
            text, hint = f"it does not speak RACS: {text}", _SPEECH_HINT
        self._fault = Slot(address, "", state, fault=text, hint=hint)
        self._readers = {}
        self._publish()

    def _publish(self) -> None:
        if self._fault is not None:
            slots: list[Slot] = [self._fault]
        else:
            slots = [self._slot(reader) for reader in self._readers.values()]
            slots += [self._missing(seid) for seid in self._unlisted]
        if not slots:
            absent = SlotState.ABSENT
            slots = [Slot(self._endpoint.address, "", absent, fault=_EMPTY_FAULT, hint=_EMPTY_HINT)]
        if tuple(slots) != self._slots:
            self._slots = tuple(slots)
            self._changed()

    def _slot(self, reader: RacsReader) -> Slot:
        keys = (reader.sen,) if reader.sen else ()
        slot = Slot(reader.name, reader.seid, SlotState.READY, reader, keys, sen=reader.sen)
        if reader.seid not in self._silent:
            return slot
        error, _ = self._silent[reader.seid]
        fault = str(error).removeprefix(f"{error.reader}: ")
        return replace(slot, state=SlotState.FAULT, reader=None, fault=fault, hint=_SILENT_HINT)

    def _missing(self, seid: str) -> Slot:
        name = f"{self._endpoint.address}/{seid}"
        return Slot(name, seid, SlotState.ABSENT, fault=_UNLISTED_FAULT, hint=_UNLISTED_HINT)


def _nobody() -> None:
    return


def _sen(text: str) -> str:
    """Return the name in the text of a GET-SEN; "" for an element without a service plane."""
    name = text.strip().partition(" ")[0]
    return "" if name == NO_SERVICE else name


def _is_absence(error: IoseError) -> bool:
    """Say whether nobody is there, as against somebody who is wrong, or refuses us."""
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError)
