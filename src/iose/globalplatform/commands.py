# SPDX-License-Identifier: Apache-2.0
"""Card-management commands but INSTALL: LOAD, DELETE, SET STATUS, STORE DATA, GET STATUS.

Both ends use the codecs (GPCS 2.3.1 §11): ``to_command`` on the host, ``from_command`` on the card,
where input is hostile and the only error is DecodeError; an offset of 2 or 3 points at P1 or P2.
INSTALL is in ``install``, PUT KEY in ``put_key``, what cards answer in ``data_objects``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from iose.globalplatform.channel import CLASS, EXTERNAL_AUTHENTICATE, INITIALIZE_UPDATE
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError, LocalProtocolError

__all__ = [
    "CLASS",
    "Delete",
    "DeleteKey",
    "GetStatus",
    "Ins",
    "LoadBlock",
    "SetStatus",
    "StatusScope",
    "StoreData",
    "get_data",
    "load_blocks",
    "read_delete",
    "refuse_parameters",
    "store_blocks",
]

LAST_BLOCK: Final = 0x80  # P1 of LOAD and STORE DATA
AND_RELATED: Final = 0x80  # P2 of DELETE
BLOCK_LIMIT: Final = 0x100  # block numbers are one byte
CRITERION_LIMIT: Final = 16
STATE_LIMIT: Final = 0xFF
TAG_AID: Final = 0x4F
TAG_TAG_LIST: Final = 0x5C
TAG_KEY_ID: Final = 0xD0
TAG_KEY_VERSION: Final = 0xD2
P1_OFFSET: Final = 2
P2_OFFSET: Final = 3


class Ins(IntEnum):
    """Instructions of card management (GPCS 2.3.1 §11.1.3)."""

    INITIALIZE_UPDATE = INITIALIZE_UPDATE
    MANAGE_CHANNEL = 0x70
    EXTERNAL_AUTHENTICATE = EXTERNAL_AUTHENTICATE
    SELECT = 0xA4
    GET_DATA = 0xCA
    PUT_KEY = 0xD8
    STORE_DATA = 0xE2
    DELETE = 0xE4
    INSTALL = 0xE6
    LOAD = 0xE8
    SET_STATUS = 0xF0
    GET_STATUS = 0xF2


class StatusScope(IntEnum):
    """What GET STATUS and SET STATUS are about: their P1 (GPCS 2.3.1 §11.4.2.1, §11.10.2.1)."""

    ISSUER_DOMAIN = 0x80
    APPLICATIONS = 0x40
    LOAD_FILES = 0x20
    LOAD_FILES_AND_MODULES = 0x10
    DOMAIN_AND_APPLICATIONS = 0x60  # SET STATUS only


@dataclass(frozen=True, slots=True)
class LoadBlock:
    """One block of a load file (GPCS 2.3.1 §11.6).

    Attributes:
        number: 0 to 255, in order.
        data: At least one byte.
        is_last: Whether the load file is complete with it.
    """

    number: int
    data: bytes
    is_last: bool

    def to_command(self) -> CommandApdu:
        """Return the command."""
        p1 = LAST_BLOCK if self.is_last else 0
        return _command(Ins.LOAD, p1, self.number, self.data)

    @classmethod
    def from_command(cls, command: CommandApdu) -> "LoadBlock":
        """Return the block of a LOAD.

        Raises:
            DecodeError: P1 is neither 00 nor 80, or there are no data.
        """
        if command.p1 & ~LAST_BLOCK:
            raise DecodeError(f"P1 {command.p1:02X} of LOAD", offset=P1_OFFSET)
        if not command.data:
            raise DecodeError("a load block without data")
        return cls(command.p2, command.data, bool(command.p1))


def load_blocks(data: bytes, block_size: int) -> Iterator[LoadBlock]:
    """Yield the blocks that load file data are sent in.

    Raises:
        LocalProtocolError: They would be more than 256, or none.
    """
    for number, chunk, is_last in _blocks(data, block_size):
        yield LoadBlock(number, chunk, is_last)


@dataclass(frozen=True, slots=True)
class StoreData:
    """One block for an application or a security domain (GPCS 2.3.1 §11.11).

    Attributes:
        number: 0 to 255, in order.
        data: The block; keys and PINs as a rule, and so in no representation.
        is_last: Whether the data are complete with it.
        options: The other bits of P1: encryption and structure of the data, 0 when not said.
    """

    number: int
    data: bytes = field(repr=False)
    is_last: bool
    options: int = 0

    def to_command(self) -> CommandApdu:
        """Return the command."""
        p1 = self.options | (LAST_BLOCK if self.is_last else 0)
        return _command(Ins.STORE_DATA, p1, self.number, self.data)

    @classmethod
    def from_command(cls, command: CommandApdu) -> "StoreData":
        """Return the block of a STORE DATA; every P1 means something."""
        is_last = bool(command.p1 & LAST_BLOCK)
        return cls(command.p2, command.data, is_last, command.p1 & ~LAST_BLOCK)


def store_blocks(data: bytes, block_size: int) -> Iterator[StoreData]:
    """Yield the blocks that data are stored in.

    Raises:
        LocalProtocolError: They would be more than 256, or none.
    """
    for number, chunk, is_last in _blocks(data, block_size):
        yield StoreData(number, chunk, is_last)


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a load file or an instance (GPCS 2.3.1 §11.2.2.3.1).

    Attributes:
        aid: What goes.
        and_related: Whether the instances of a load file go with it.
    """

    aid: Aid
    and_related: bool = False

    def to_command(self) -> CommandApdu:
        """Return the command."""
        p2 = AND_RELATED if self.and_related else 0
        return _command(Ins.DELETE, 0, p2, Tlv(TAG_AID, self.aid.value).encode())


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Removes keys (GPCS 2.3.1 §11.2.2.3.2); at least one of the two is given.

    Attributes:
        version: Key version number; None for every one.
        key_id: Key identifier; None for every one.
    """

    version: int | None = None
    key_id: int | None = None

    def to_command(self) -> CommandApdu:
        """Return the command.

        Raises:
            LocalProtocolError: Neither a version nor an identifier is given.
        """
        if self.version is None and self.key_id is None:
            raise LocalProtocolError("which key to delete is not said")
        data = b"" if self.key_id is None else Tlv(TAG_KEY_ID, bytes((self.key_id,))).encode()
        if self.version is not None:
            data += Tlv(TAG_KEY_VERSION, bytes((self.version,))).encode()
        return _command(Ins.DELETE, 0, 0, data)


def read_delete(command: CommandApdu) -> Delete | DeleteKey:
    """Return what a DELETE asks for (GPCS 2.3.1 §11.2).

    Raises:
        DecodeError: P1 or P2 is not one of the standard's, or the data name not one object.
    """
    refuse_parameters(command, p1=0)
    if command.p2 & ~AND_RELATED:
        raise DecodeError(f"P2 {command.p2:02X} of DELETE", offset=P2_OFFSET)
    objects = Tlv.decode_all(command.data)
    values = {one.tag: one.value for one in objects}
    if len(values) == len(objects):
        if values.keys() == {TAG_AID}:
            return Delete(Aid(values[TAG_AID]), bool(command.p2))
        is_one_byte = all(len(value) == 1 for value in values.values())
        if values and values.keys() <= {TAG_KEY_ID, TAG_KEY_VERSION} and is_one_byte:
            version, key_id = values.get(TAG_KEY_VERSION), values.get(TAG_KEY_ID)
            return DeleteKey(version[0] if version else None, key_id[0] if key_id else None)
    raise DecodeError("DELETE names one object, or a key")


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Changes a life cycle state (GPCS 2.3.1 §11.10).

    Attributes:
        scope: ISSUER_DOMAIN for the card, APPLICATIONS for one of them, or a domain and its own.
        state: The state wanted.
        aid: Of the application; None for the card.
    """

    scope: StatusScope
    state: int
    aid: Aid | None = None

    def to_command(self) -> CommandApdu:
        """Return the command."""
        return _command(Ins.SET_STATUS, self.scope, self.state, self.aid.value if self.aid else b"")

    @classmethod
    def from_command(cls, command: CommandApdu) -> "SetStatus":
        """Return what a SET STATUS asks for; of the card, an AID that is given is not looked at.

        Raises:
            DecodeError: P1 is not one of 80, 40 and 60, or there is no AID where it must be.
        """
        match command.p1:
            case StatusScope.ISSUER_DOMAIN:
                return cls(StatusScope.ISSUER_DOMAIN, command.p2)
            case StatusScope.APPLICATIONS | StatusScope.DOMAIN_AND_APPLICATIONS:
                return cls(StatusScope(command.p1), command.p2, Aid(command.data))
            case _:
                raise DecodeError(f"P1 {command.p1:02X} of SET STATUS", offset=P1_OFFSET)


class _StatusFormat(IntEnum):
    """Bits of P2 of GET STATUS (GPCS 2.3.1 §11.4.2.2)."""

    NEXT = 0x01
    DATA_OBJECTS = 0x02


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Asks what is on the card (GPCS 2.3.1 §11.4).

    Attributes:
        scope: What kind of thing.
        criterion: First bytes of the AIDs wanted; empty for all.
        is_next: Whether it goes on where the last answer, of status 6310, ended.
        has_objects: Whether the answer is E3 data objects; else the older plain form.
        tags: Tag list of the objects wanted (5C), or empty for all.
    """

    scope: StatusScope
    criterion: bytes = b""
    is_next: bool = False
    has_objects: bool = True
    tags: bytes = b""

    def to_command(self) -> CommandApdu:
        """Return the command."""
        p2 = (_StatusFormat.NEXT if self.is_next else 0) | (
            _StatusFormat.DATA_OBJECTS if self.has_objects else 0
        )
        data = Tlv(TAG_AID, self.criterion).encode()
        if self.tags:
            data += Tlv(TAG_TAG_LIST, self.tags).encode()
        return _command(Ins.GET_STATUS, self.scope, p2, data)

    @classmethod
    def from_command(cls, command: CommandApdu) -> "GetStatus":
        """Return what a GET STATUS asks for.

        Raises:
            DecodeError: P1 or P2 is not one of the standard's, or the data are not a criterion
                of at most 16 bytes and perhaps a tag list.
        """
        p1, p2 = command.p1, command.p2
        if p1 not in set(StatusScope) - {StatusScope.DOMAIN_AND_APPLICATIONS}:
            raise DecodeError(f"P1 {p1:02X} of GET STATUS", offset=P1_OFFSET)
        if p2 & ~(_StatusFormat.NEXT | _StatusFormat.DATA_OBJECTS):
            raise DecodeError(f"P2 {p2:02X} of GET STATUS", offset=P2_OFFSET)
        objects = Tlv.decode_all(command.data)
        if [one.tag for one in objects] not in ([TAG_AID], [TAG_AID, TAG_TAG_LIST]):
            raise DecodeError("GET STATUS has a criterion, then perhaps a tag list")
        if len(objects[0].value) > CRITERION_LIMIT:
            raise DecodeError(f"a criterion of {len(objects[0].value)} bytes")
        return cls(
            StatusScope(p1),
            objects[0].value,
            bool(p2 & _StatusFormat.NEXT),
            bool(p2 & _StatusFormat.DATA_OBJECTS),
            objects[1].value if objects[1:] else b"",
        )


def get_data(tag: int) -> CommandApdu:
    """Return GET DATA for a tag of one or two bytes (GPCS 2.3.1 §11.3)."""
    return CommandApdu(CLASS, Ins.GET_DATA, tag >> 8, tag & 0xFF, b"", SHORT_LE_LIMIT)


def refuse_parameters(
    command: CommandApdu, *, p1: int | None = None, p2: int | None = None
) -> None:
    """Check P1 and P2 where they can have one value only.

    Raises:
        DecodeError: One has another; ``offset`` points at it.
    """
    if p1 is not None and command.p1 != p1:
        raise DecodeError(f"expected P1 {p1:02X}, found {command.p1:02X}", offset=P1_OFFSET)
    if p2 is not None and command.p2 != p2:
        raise DecodeError(f"expected P2 {p2:02X}, found {command.p2:02X}", offset=P2_OFFSET)


def _command(ins: Ins, p1: int, p2: int, data: bytes) -> CommandApdu:
    return CommandApdu(CLASS, ins, p1, p2, data, SHORT_LE_LIMIT)


def _blocks(data: bytes, block_size: int) -> Iterator[tuple[int, bytes, bool]]:
    count = -(-len(data) // block_size)
    if not 1 <= count <= BLOCK_LIMIT:
        raise LocalProtocolError(
            f"{len(data)} bytes make {count} blocks of {block_size}, allowed are 1 to 256"
        )
    for number in range(count):
        start = number * block_size
        yield number, data[start : start + block_size], number == count - 1
