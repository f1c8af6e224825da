# SPDX-License-Identifier: Apache-2.0
"""What a SEND made and its host fetches with RECV, in pieces announced by 9Fxx (tls-se.md §5)."""

from collections import deque
from typing import Final

from iose.applets.tls_se.settings import Settings
from iose.iso7816.apdu import SHORT_LE_LIMIT, ResponseApdu
from iose.iso7816.status import StatusWord

_BYTES_WAIT: Final = 0x9F00


class Output:
    """Messages to be fetched one after the other, each in pieces; the last brings the status."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._offset = 0
        self._final = StatusWord.OK

    def clear(self) -> None:
        """Drop what waits."""
        self._messages.clear()
        self._offset = 0

    def is_waiting(self) -> bool:
        """Whether the host has something to fetch."""
        return bool(self._messages)

    def announced(self, settings: Settings) -> int:
        """Return the size of the next piece, as announced."""
        return min(len(self._messages[0]) - self._offset, settings.announced_piece)

    def start(
        self, messages: list[bytes], final: StatusWord, settings: Settings, le: int | None
    ) -> ResponseApdu:
        """Return the answer to the SEND that made ``messages``.

        A chip announces what is longer than a piece; otherwise the first piece comes at once, as
        long as Le wishes.
        """
        self.clear()
        self._messages.extend(messages)
        self._final = final
        if not messages:
            return ResponseApdu(b"", final)
        limit = settings.direct_piece
        if settings.has_chip_limits and len(messages[0]) > limit:
            return ResponseApdu(b"", self._status(settings))
        return self._piece(max(limit, le or 0), settings)

    def fetch(self, le: int | None, settings: Settings) -> ResponseApdu:
        """Return the answer to RECV; a wrong Le is answered 6Cxx, and nothing is lost."""
        if not self._messages:
            return ResponseApdu()
        announced = self.announced(settings)
        wanted = le or 0
        if wanted != announced and (settings.has_chip_limits or wanted < announced):
            return self.refuse(settings)
        return self._piece(wanted, settings)

    def refuse(self, settings: Settings) -> ResponseApdu:
        """Return 6Cxx: there is something to fetch, with another Le."""
        return ResponseApdu(b"", StatusWord(StatusWord.WRONG_LE | self.announced(settings)))

    def _piece(self, limit: int, settings: Settings) -> ResponseApdu:
        message = self._messages[0]
        stop = self._offset + limit
        piece = message[self._offset : stop]
        if stop < len(message):
            self._offset = stop
        else:
            self._messages.popleft()
            self._offset = 0
        return ResponseApdu(piece, self._status(settings))

    def _status(self, settings: Settings) -> StatusWord:
        if not self._messages:
            return self._final
        return StatusWord(_BYTES_WAIT | self.announced(settings) % SHORT_LE_LIMIT)
