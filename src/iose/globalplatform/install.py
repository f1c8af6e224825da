# SPDX-License-Identifier: Apache-2.0
"""INSTALL in its forms: for load, install, make selectable, personalization, registry update.

Both ends use the codecs (GPCS 2.3.1 §11.5); ``decode_install`` is the card's door. Chaining of
INSTALL commands, extradition and delegated management are not spoken.
"""

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from iose.globalplatform.commands import CLASS, Ins, refuse_parameters
from iose.globalplatform.life_cycle import NO_PRIVILEGES, Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader

TAG_APPLICATION_PARAMETERS: Final = 0xC9
TAG_SYSTEM_PARAMETERS: Final = 0xEF
LONG_LENGTH: Final = 0x80
ONE_BYTE_FOLLOWS: Final = 0x81
TWO_BYTES_FOLLOW: Final = 0x82
ONE_BYTE_LIMIT: Final = 0xFF
LENGTH_LIMIT: Final = 0xFFFF
HASH_SIZES: Final = (0, 20, 32, 48, 64)  # none, SHA-1, SHA-2


class InstallPurpose(IntFlag):
    """P1 of INSTALL (GPCS 2.3.1 §11.5.2.1)."""

    LOAD = 0x02
    INSTALL = 0x04
    MAKE_SELECTABLE = 0x08
    INSTALL_AND_MAKE_SELECTABLE = 0x0C
    EXTRADITION = 0x10
    PERSONALIZATION = 0x20
    REGISTRY_UPDATE = 0x40


@dataclass(frozen=True, slots=True)
class InstallForLoad:
    """Announces a load file (GPCS 2.3.1 §11.5.2.3.1).

    Attributes:
        load_file: AID the load file will have.
        security_domain: The one it will belong to; None for the one that takes the command.
        data_hash: Hash of the load file data, or empty.
        parameters: Load parameters, data objects; empty in most cases.
        token: Of delegated management; empty.
    """

    load_file: Aid
    security_domain: Aid | None = None
    data_hash: bytes = b""
    parameters: bytes = b""
    token: bytes = b""

    def to_command(self) -> CommandApdu:
        """Return the command.

        Raises:
            LocalProtocolError: A field is too long.
        """
        data = _aid_field(self.load_file) + _aid_field(self.security_domain)
        data += _field(self.data_hash) + _field(self.parameters) + _field(self.token)
        return _command(InstallPurpose.LOAD, data)

    @classmethod
    def decode(cls, data: bytes) -> "InstallForLoad":
        """Return what the data of INSTALL say.

        Raises:
            DecodeError: A field is malformed, or something follows the token.
        """
        reader = ByteReader(data)
        load_file, domain = _read_aid(reader), _read_optional_aid(reader)
        data_hash, parameters, token = (_read_field(reader) for _ in range(3))
        reader.finish()
        if len(data_hash) not in HASH_SIZES:
            raise DecodeError(f"a hash of {len(data_hash)} bytes")
        Tlv.decode_all(parameters)
        return cls(load_file, domain, data_hash, parameters, token)


@dataclass(frozen=True, slots=True)
class InstallForInstall:
    """Makes an instance of a module (GPCS 2.3.1 §11.5.2.3.2).

    Attributes:
        load_file: AID of the load file.
        module: AID of the module in it.
        instance: AID the instance will have.
        privileges: What it may do.
        parameters: For the application, the value of C9; may hold secrets, in no representation.
        system_parameters: For the card, the value of EF: memory quotas and the like.
        is_selectable: Whether it also becomes selectable.
        token: Of delegated management; empty.
    """

    load_file: Aid
    module: Aid
    instance: Aid
    privileges: Privilege = NO_PRIVILEGES
    parameters: bytes = field(default=b"", repr=False)
    system_parameters: bytes = b""
    is_selectable: bool = True
    token: bytes = b""

    def to_command(self) -> CommandApdu:
        """Return the command.

        Raises:
            LocalProtocolError: A field is too long.
        """
        parameters = Tlv(TAG_APPLICATION_PARAMETERS, self.parameters).encode()
        if self.system_parameters:
            parameters += Tlv(TAG_SYSTEM_PARAMETERS, self.system_parameters).encode()
        data = _aid_field(self.load_file) + _aid_field(self.module) + _aid_field(self.instance)
        data += _privileges(self.privileges) + _field(parameters) + _field(self.token)
        purpose = InstallPurpose.INSTALL
        if self.is_selectable:
            purpose |= InstallPurpose.MAKE_SELECTABLE
        return _command(purpose, data)

    @classmethod
    def decode(cls, data: bytes, *, is_selectable: bool = True) -> "InstallForInstall":
        """Return what the data of INSTALL say.

        Raises:
            DecodeError: A field is malformed, or something follows the token, or the parameters
                are other than C9 and EF, each at most once.
        """
        reader = ByteReader(data)
        load_file, module, instance = (_read_aid(reader) for _ in range(3))
        privileges = Privilege.decode(reader.read_opaque(1))
        offset = reader.offset
        objects = Tlv.decode_all(_read_field(reader))
        token = _read_field(reader)
        reader.finish()
        values = {one.tag: one.value for one in objects}
        known = {TAG_APPLICATION_PARAMETERS, TAG_SYSTEM_PARAMETERS}
        if len(values) != len(objects) or not values.keys() <= known:
            raise DecodeError("install parameters are C9 and EF, once", offset=offset)
        return cls(
            load_file,
            module,
            instance,
            privileges,
            values.get(TAG_APPLICATION_PARAMETERS, b""),
            values.get(TAG_SYSTEM_PARAMETERS, b""),
            is_selectable,
            token,
        )


@dataclass(frozen=True, slots=True)
class MakeSelectable:
    """Makes an installed instance selectable (GPCS 2.3.1 §11.5.2.3.3).

    Attributes:
        instance: AID of the instance.
        privileges: What it may do: the default-selected one is named here.
    """

    instance: Aid
    privileges: Privilege = NO_PRIVILEGES

    def to_command(self) -> CommandApdu:
        """Return the command."""
        data = _EMPTY * 2 + _aid_field(self.instance) + _privileges(self.privileges) + _EMPTY * 2
        return _command(InstallPurpose.MAKE_SELECTABLE, data)

    @classmethod
    def decode(cls, data: bytes) -> "MakeSelectable":
        """Return what the data of INSTALL say.

        Raises:
            DecodeError: A field is malformed, or one that must be empty is not.
        """
        reader = ByteReader(data)
        _read_empty(reader, 2)
        instance = _read_aid(reader)
        privileges = Privilege.decode(reader.read_opaque(1))
        _read_empty(reader, 2)
        reader.finish()
        return cls(instance, privileges)


@dataclass(frozen=True, slots=True)
class InstallForPersonalization:
    """Says for whom the STORE DATA that follow are (GPCS 2.3.1 §11.5.2.3.6)."""

    instance: Aid

    def to_command(self) -> CommandApdu:
        """Return the command."""
        data = _EMPTY * 2 + _aid_field(self.instance) + _EMPTY * 3
        return _command(InstallPurpose.PERSONALIZATION, data)

    @classmethod
    def decode(cls, data: bytes) -> "InstallForPersonalization":
        """Return what the data of INSTALL say.

        Raises:
            DecodeError: A field is malformed, or one that must be empty is not.
        """
        reader = ByteReader(data)
        _read_empty(reader, 2)
        instance = _read_aid(reader)
        _read_empty(reader, 3)
        reader.finish()
        return cls(instance)


@dataclass(frozen=True, slots=True)
class RegistryUpdate:
    """Changes what the registry says of an instance (GPCS 2.3.1 §11.5.2.3.5).

    Attributes:
        instance: AID of the instance; None for the security domain itself.
        privileges: The new ones; None leaves them.
        security_domain: Where it moves; None leaves it.
        parameters: Registry parameters, data objects.
    """

    instance: Aid | None
    privileges: Privilege | None = None
    security_domain: Aid | None = None
    parameters: bytes = b""

    def to_command(self) -> CommandApdu:
        """Return the command.

        Raises:
            LocalProtocolError: The parameters are too long.
        """
        privileges = _EMPTY if self.privileges is None else _privileges(self.privileges)
        data = _aid_field(self.security_domain) + _EMPTY + _aid_field(self.instance)
        data += privileges + _field(self.parameters) + _EMPTY
        return _command(InstallPurpose.REGISTRY_UPDATE, data)

    @classmethod
    def decode(cls, data: bytes) -> "RegistryUpdate":
        """Return what the data of INSTALL say.

        Raises:
            DecodeError: A field is malformed, or one that must be empty is not.
        """
        reader = ByteReader(data)
        domain = _read_optional_aid(reader)
        _read_empty(reader, 1)
        instance = _read_optional_aid(reader)
        value = reader.read_opaque(1)
        privileges = Privilege.decode(value) if value else None
        parameters = _read_field(reader)
        _read_empty(reader, 1)
        reader.finish()
        Tlv.decode_all(parameters)
        return cls(instance, privileges, domain, parameters)


Install = (
    InstallForLoad | InstallForInstall | MakeSelectable | InstallForPersonalization | RegistryUpdate
)


def decode_install(command: CommandApdu) -> Install:
    """Return what an INSTALL asks for (GPCS 2.3.1 §11.5).

    Raises:
        DecodeError: P1 or P2 is not one of ours (``offset`` 2 or 3), or the data are malformed.
    """
    refuse_parameters(command, p2=0)
    match command.p1:
        case InstallPurpose.LOAD:
            return InstallForLoad.decode(command.data)
        case InstallPurpose.INSTALL:
            return InstallForInstall.decode(command.data, is_selectable=False)
        case InstallPurpose.INSTALL_AND_MAKE_SELECTABLE:
            return InstallForInstall.decode(command.data)
        case InstallPurpose.MAKE_SELECTABLE:
            return MakeSelectable.decode(command.data)
        case InstallPurpose.PERSONALIZATION:
            return InstallForPersonalization.decode(command.data)
        case InstallPurpose.REGISTRY_UPDATE:
            return RegistryUpdate.decode(command.data)
        case _:
            raise DecodeError(f"INSTALL for {command.p1:02X} is not supported", offset=2)


_EMPTY: Final = b"\x00"


def _command(purpose: InstallPurpose, data: bytes) -> CommandApdu:
    return CommandApdu(CLASS, Ins.INSTALL, purpose, 0, data, SHORT_LE_LIMIT)


def _privileges(privileges: Privilege) -> bytes:
    """Return the one-byte form where it says all: cards before GPCS 2.2 take no other."""
    encoded = privileges.encode()
    return _field(encoded[:1] if not any(encoded[1:]) else encoded)


def _read_empty(reader: ByteReader, count: int) -> None:
    for _ in range(count):
        offset = reader.offset
        if reader.read_uint8():
            raise DecodeError("a field that must be empty is not", offset=offset)


def _field(value: bytes) -> bytes:
    """Return a length and the value (GPCS 2.3.1 §11.1.5).

    Raises:
        LocalProtocolError: The value is longer than 65 535 bytes.
    """
    size = len(value)
    if size < LONG_LENGTH:
        return bytes((size,)) + value
    if size <= ONE_BYTE_LIMIT:
        return bytes((ONE_BYTE_FOLLOWS, size)) + value
    if size > LENGTH_LIMIT:
        raise LocalProtocolError(f"{size} bytes do not fit one field")
    return bytes((TWO_BYTES_FOLLOW,)) + size.to_bytes(2, "big") + value


def _read_field(reader: ByteReader) -> bytes:
    """Return the value of a field with its length in front (GPCS 2.3.1 §11.1.5).

    Raises:
        DecodeError: The length is not in its shortest form, or longer than what follows.
    """
    offset = reader.offset
    length = reader.read_uint8()
    low = 0
    if length == ONE_BYTE_FOLLOWS:
        length, low = reader.read_uint8(), LONG_LENGTH
    elif length == TWO_BYTES_FOLLOW:
        length, low = reader.read_uint16(), ONE_BYTE_LIMIT + 1
    elif length >= LONG_LENGTH:
        raise DecodeError(f"{length:02X} begins no length field", offset=offset)
    if length < low:
        raise DecodeError("a length that is not in its shortest form", offset=offset)
    return reader.read_bytes(length)


def _aid_field(aid: Aid | None) -> bytes:
    """Return an AID with its length in front, or a zero."""
    return _field(aid.value if aid else b"")


def _read_aid(reader: ByteReader) -> Aid:
    """Return an AID with its length in front.

    Raises:
        DecodeError: It is not 5 to 16 bytes, or cut short.
    """
    return Aid(reader.read_opaque(1))


def _read_optional_aid(reader: ByteReader) -> Aid | None:
    """Return an AID with its length in front; None for an empty one.

    Raises:
        DecodeError: It is neither empty nor 5 to 16 bytes, or cut short.
    """
    value = reader.read_opaque(1)
    return Aid(value) if value else None
