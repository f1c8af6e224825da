# SPDX-License-Identifier: Apache-2.0
"""The thread that waits for readers and cards to come and go, and for the service itself.

It asks the service for the next change and is told at once; where the service is not there it
tries again. It never connects to a card. Readers whose name is not ASCII are told of and not
watched: pyscard cannot ask for them (seen with 2.3.1).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from iose.transport.pcsc.codes import NEW_READER, ReaderFlag, ScardCode
from iose.transport.pcsc.scard import ReaderLook, Scard, ScardError

WAIT_MS: Final = 1_000  # what comes between two calls is seen that much later
RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has found.

    Attributes:
        number: How often a look had been asked for when it began.
        readers: Readers by name; None while the service is not there, or pyscard fails.
        failure: What pyscard raised, "" when it is the service.
    """

    number: int
    readers: tuple[ReaderLook, ...] | None
    failure: str = ""


class ReaderMonitor:
    """Looks at all readers until ``stop``, and tells of each look in its own thread."""

    def __init__(self, scard: Scard, tell: Callable[[Look], None]) -> None:
        self._scard = scard
        self._tell = tell
        self._stopped = threading.Event()
        self._asked = 0

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="pcsc monitor", daemon=True).start()

    def ask(self) -> int:
        """Return the number of a look that begins later than now."""
        self._asked += 1
        return self._asked

    def stop(self) -> None:
        """Look no more; the thread ends when its call returns, in a second or so."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            context = None
            try:
                context = self._scard.establish_context()
                self._watch(context)
            except ScardError:
                self._tell(Look(self._asked, None))
            except Exception as error:  # noqa: BLE001 - of pyscard, for names it cannot read
                self._tell(Look(self._asked, None, type(error).__name__))
            finally:
                if context is not None:
                    self._scard.release_context(context)
            self._stopped.wait(RETRY_S)

    def _watch(self, context: int) -> None:
        known: dict[str, int] | None = None
        told = 0
        while not self._stopped.is_set():
            asked = self._asked
            listed = self._scard.list_readers(context)
            names = [name for name in listed if name.isascii()]
            strange = [name for name in listed if not name.isascii()]
            can_wait = known is not None and set(names) == set(known) and asked == told
            states = [(name, (known or {}).get(name, ReaderFlag.UNAWARE)) for name in names]
            try:
                looks = self._look(context, states, WAIT_MS if can_wait else 0)
            except ScardError as error:
                if error.code != ScardCode.UNKNOWN_READER:
                    raise
                self._stopped.wait(RETRY_S)  # one has gone since they were listed
                continue
            known, told = {look.name: look.state for look in looks}, asked
            looks += [ReaderLook(name, ReaderFlag.UNAVAILABLE) for name in strange]
            self._tell(Look(asked, tuple(sorted(looks, key=lambda look: look.name))))

    def _look(
        self, context: int, states: list[tuple[str, int]], timeout_ms: int
    ) -> list[ReaderLook]:
        if timeout_ms:
            states = [*states, (NEW_READER, ReaderFlag.UNAWARE)]
        elif not states:
            return []  # the call waits for something to be there
        looks = self._scard.wait_for_change(context, timeout_ms, states)
        return [look for look in looks if look.name != NEW_READER]
