# SPDX-License-Identifier: Apache-2.0
"""What an element is and takes, found out once, before anybody uses it (tls-se.md §5, §7).

It is asked for nothing but RESET TLS and SELECT, and given the beginning of a record whose end
never comes: that fills a buffer in RAM until the element says it is full. No PIN is tried, nothing
is computed, nothing stored. An inventory calls it, with a powered element that nobody holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from iose.bridge.stream import (
    CIPHERTEXT_LIMIT,
    INS_SEND,
    P2_FIRST,
    PLAINTEXT_LIMIT,
    RECORD_HEADER_SIZE,
    RESET_TLS,
)
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.atr import Atr
from iose.iso7816.batch import DEFAULT_CHUNK_SIZE, DEFAULT_MAX_RECORD
from iose.iso7816.instructions import INS_SELECT, P1_BY_AID
from iose.iso7816.status import StatusWord
from iose.tls.constants import ContentType
from iose.transport.base import ApduLimits, BatchStep, Connection
from iose.transport.errors import RacsRefusedError, TransportError
from iose.wire.errors import DecodeError

TLS_SE_AID: Final = Aid(b"\x01\x02\x03\x04\x05\x00")  # tls-se.md §4
LARGEST_RECORD: Final = RECORD_HEADER_SIZE + CIPHERTEXT_LIMIT
BUFFER_SIZES: Final = (DEFAULT_MAX_RECORD, 1024, 2048, 4096, 8192, LARGEST_RECORD)  # met exactly
ENOUGH_TO_TELL: Final = DEFAULT_MAX_RECORD + DEFAULT_CHUNK_SIZE  # wider than what is published
EXTENDED_CHUNK_SIZE: Final = 1024  # a usual ClientHello in one; chips of 2 KB of RAM hold it
_RECORD_START: Final = bytes((ContentType.HANDSHAKE, 3, 1)) + PLAINTEXT_LIMIT.to_bytes(2, "big")
_RECORD: Final = _RECORD_START + bytes(LARGEST_RECORD - len(_RECORD_START))


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found out about one element.

    Attributes:
        aid: What has to be selected before TLS; None when the applet is selected by a reset.
        limits: What the element takes at a time.
        speaks_tls_se: Whether it has a TLS-SE applet; without, it has no place on the service
            plane.
    """

    aid: bytes | None
    limits: ApduLimits
    speaks_tls_se: bool


async def discover(connection: Connection, *, known: ApduLimits | None = None) -> Discovery:
    """Return what a powered element is and takes (iose-server.md §6.4).

    A card that behaves strangely is taken for what is published: 240 and 512 bytes. Found limits
    are never larger than what the element has taken; a buffer of an unusual size is found one
    chunk too small. The element is left with its TLS reset; the caller powers it off.

    Args:
        connection: The element, just powered or reset.
        known: Its limits where they are configured: they are not looked for then.

    Raises:
        TransportError: No answer while the applet was looked for.
    """
    limits = ApduLimits() if known is None else known
    found, aid = await _find_applet(connection)
    if not found:
        return Discovery(None, limits, speaks_tls_se=False)
    if known is None:
        limits = await _find_limits(connection)
    return Discovery(aid, limits, speaks_tls_se=True)


async def _find_applet(connection: Connection) -> tuple[bool, bytes | None]:
    if await _accepts(connection, RESET_TLS):
        return True, None
    select = CommandApdu(0, INS_SELECT, P1_BY_AID, 0, TLS_SE_AID.value)
    return await _accepts(connection, select, RESET_TLS), TLS_SE_AID.value


async def _find_limits(connection: Connection) -> ApduLimits:
    try:
        chunk_size, taken = await _fill(connection)
        await connection.transmit_batch((BatchStep(RESET_TLS),))
    except TransportError:  # strange: it spoke a moment ago
        return ApduLimits()
    return ApduLimits(chunk_size, taken) if taken > DEFAULT_MAX_RECORD else ApduLimits()


async def _fill(connection: Connection) -> tuple[int, int]:
    """Return the size of chunks that serves best, and how much of a record was taken in them."""
    if _takes_extended(connection.atr):
        taken = await _feed(connection, DEFAULT_CHUNK_SIZE, ENOUGH_TO_TELL)
        if taken <= DEFAULT_MAX_RECORD:
            return DEFAULT_CHUNK_SIZE, taken
        taken = await _feed(connection, EXTENDED_CHUNK_SIZE, LARGEST_RECORD)
        if taken > DEFAULT_MAX_RECORD:
            return EXTENDED_CHUNK_SIZE, taken
    return DEFAULT_CHUNK_SIZE, await _feed(connection, DEFAULT_CHUNK_SIZE, LARGEST_RECORD)


async def _feed(connection: Connection, chunk_size: int, size: int) -> int:
    """Return how much of a record without an end the element takes, of ``size`` bytes."""
    stops = list(_stops(chunk_size, size))
    commands = (
        CommandApdu(0, INS_SEND, 0, 0 if start else P2_FIRST, _RECORD[start:stop])
        for start, stop in zip([0, *stops], stops, strict=False)
    )
    steps = [BatchStep(command, wants_data=False) for command in commands]
    responses = await connection.transmit_batch(steps)
    taken = 0
    for stop, response in zip(stops, responses, strict=False):
        if response.status != StatusWord.OK or response.data:
            break
        taken = stop
    return taken


def _stops(chunk_size: int, size: int) -> Iterator[int]:
    """Yield where each chunk ends, the buffer sizes in use among them."""
    stop = 0
    for buffer_size in BUFFER_SIZES:
        while stop < min(buffer_size, size):
            stop = min(stop + chunk_size, buffer_size, size)
            yield stop


async def _accepts(connection: Connection, *commands: CommandApdu) -> bool:
    try:
        responses = await connection.transmit_batch([BatchStep(command) for command in commands])
    except RacsRefusedError:  # another node's firewall wants a SELECT first; the session goes on
        return False
    return len(responses) == len(commands) and responses[-1].status == StatusWord.OK


def _takes_extended(atr: bytes) -> bool:
    try:
        return Atr.decode(atr).has_extended_length
    except DecodeError:
        return False
