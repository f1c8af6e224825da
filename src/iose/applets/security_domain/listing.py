# SPDX-License-Identifier: Apache-2.0
"""GET STATUS: what is on the card, in answers of bounded size (GPCS 2.3.1 §11.4)."""

from collections import deque
from typing import Final

from iose.applet_api import CardManagement
from iose.globalplatform.commands import GetStatus
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.iso7816.tlv import TAG_FOLLOWS, Tlv
from iose.wire.reader import ByteReader

ENTRY: Final = 0xE3


class Listing:
    """The entries that one GET STATUS asked for and that were not sent yet."""

    def __init__(self, request: GetStatus, entries: list[bytes]) -> None:
        self._request = request
        self._entries = deque(entries)

    @classmethod
    def for_command(
        cls, command: CommandApdu, management: CardManagement, running: "Listing | None"
    ) -> "Listing":
        """Return the listing that a command begins, or goes on with.

        Raises:
            StatusWordError: 6A88 nothing is found, 6A86 the older plain form is asked for, 6985
                nothing is left to go on with.
            DecodeError: The command is malformed.
        """
        request = GetStatus.from_command(command)
        if not request.has_objects:
            raise StatusWordError(StatusWord.WRONG_P1P2, "the plain form is not spoken")
        if request.is_next:
            if running is None or not running.is_about(request):
                raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
            return running
        entries = [
            _chosen(entry.encode(), request.tags)
            for entry in management.contents(request.scope)
            if entry.aid.value.startswith(request.criterion)
        ]
        if not entries:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND)
        return cls(request, entries)

    def is_about(self, request: GetStatus) -> bool:
        """Return whether a command asks for more of this."""
        mine = self._request
        return (mine.scope, mine.criterion) == (request.scope, request.criterion)

    @property
    def is_done(self) -> bool:
        """Whether everything was sent."""
        return not self._entries

    def take(self, limit: int) -> bytes:
        """Return as many entries as fit ``limit`` bytes; one at least."""
        data = self._entries.popleft()
        while self._entries and len(data) + len(self._entries[0]) <= limit:
            data += self._entries.popleft()
        return data


def _chosen(entry: bytes, tags: bytes) -> bytes:
    """Return an entry with the objects of a tag list alone; of no list, with all."""
    if not tags:
        return entry
    objects = (one.encode() for one in Tlv.decode(entry).children())
    wanted = tuple(_tags(tags))
    return Tlv(ENTRY, b"".join(one for one in objects if one.startswith(wanted))).encode()


def _tags(tags: bytes) -> list[bytes]:
    """Return the tags that a list is made of (ISO/IEC 7816-4 §8.5.1).

    Raises:
        DecodeError: It ends within one.
    """
    reader = ByteReader(tags)
    found = []
    while reader.remaining:
        tag = reader.read_bytes(1)
        if tag[0] & TAG_FOLLOWS == TAG_FOLLOWS:
            tag += reader.read_bytes(1)
        found.append(tag)
    return found
