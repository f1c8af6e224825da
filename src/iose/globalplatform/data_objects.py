# SPDX-License-Identifier: Apache-2.0
"""What a card says of itself: GET STATUS entries, key information, card data, capabilities.

Both ends use the codecs (GPCS 2.3.1 §11.3, §11.4, §H). Cards of all makers are read: objects we do
not know are passed over, malformed ones are a DecodeError.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.keys import KeySet, KeyType
from iose.globalplatform.life_cycle import NO_PRIVILEGES, Privilege
from iose.globalplatform.put_key import FIRST_KEY_ID, KeyTypeCode
from iose.iso7816.aid import Aid
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader


class Tag(IntEnum):
    """Data objects of GET DATA and GET STATUS (GPCS 2.3.1 §11.3.3, §11.4.3)."""

    OBJECT_IDENTIFIER = 0x06
    AID = 0x4F
    ISSUER_IDENTIFICATION = 0x42
    CARD_IMAGE = 0x45
    VERSION = 0x60
    IDENTIFICATION_SCHEME = 0x63
    SECURE_CHANNEL = 0x64
    CARD_DATA = 0x66
    CARD_CAPABILITY = 0x67
    RECOGNITION_DATA = 0x73
    MODULE = 0x84
    KEY_COUNTER = 0xC1
    LOAD_FILE = 0xC4
    PRIVILEGES = 0xC5
    DOMAIN = 0xCC
    LOAD_FILE_VERSION = 0xCE
    KEY_INFORMATION = 0xE0
    KEY_COMPONENT = 0xC0
    REGISTRY_ENTRY = 0xE3
    LIFE_CYCLE = 0x9F70
    PRODUCTION_DATA = 0x9F7F


class SelectTag(IntEnum):
    """Data objects in the answer to SELECT (GPCS 2.3.1 §11.9.3.1)."""

    CONTROL_INFORMATION = 0x6F
    MANAGEMENT_DATA = 0x73  # only security domains have it
    NAME = 0x84
    PROPRIETARY_DATA = 0xA5
    LONGEST_COMMAND_DATA = 0x9F65


@dataclass(frozen=True, slots=True)
class StatusEntry:
    """One thing on the card, as GET STATUS shows it (GPCS 2.3.1 §11.4.3.1).

    Attributes:
        aid: Of the application, security domain or load file.
        state: Life cycle state byte.
        privileges: Of an application; none for a load file.
        load_file: Of an application: where it came from.
        modules: Of a load file: AIDs of the applets it can make.
        version: Of a load file, 2 bytes; empty when not said.
        domain: AID of the security domain it belongs to.
    """

    aid: Aid
    state: int
    privileges: Privilege | None = None
    load_file: Aid | None = None
    modules: tuple[Aid, ...] = ()
    version: bytes = b""
    domain: Aid | None = None

    def encode(self) -> bytes:
        """Return the E3 object."""
        objects = [Tlv(Tag.AID, self.aid.value), Tlv(Tag.LIFE_CYCLE, bytes((self.state,)))]
        if self.privileges is not None:
            objects.append(Tlv(Tag.PRIVILEGES, self.privileges.encode()))
        if self.load_file:
            objects.append(Tlv(Tag.LOAD_FILE, self.load_file.value))
        if self.version:
            objects.append(Tlv(Tag.LOAD_FILE_VERSION, self.version))
        objects += [Tlv(Tag.MODULE, module.value) for module in self.modules]
        if self.domain:
            objects.append(Tlv(Tag.DOMAIN, self.domain.value))
        return _constructed(Tag.REGISTRY_ENTRY, objects)

    @classmethod
    def decode(cls, data: bytes) -> "StatusEntry":
        """Return the entry in one E3 object.

        Raises:
            DecodeError: It is malformed, or has no AID or no state.
        """
        outer = Tlv.decode(data)
        if outer.tag != Tag.REGISTRY_ENTRY:
            raise DecodeError(f"expected an entry of the registry, found tag {outer.tag:X}")
        objects = outer.children()
        state = _one(objects, Tag.LIFE_CYCLE)
        if len(state) not in _STATE_SIZES:
            raise DecodeError(f"a life cycle state of {len(state)} bytes")
        privileges = _one(objects, Tag.PRIVILEGES, b"")
        load_file = _one(objects, Tag.LOAD_FILE, b"")
        domain = _one(objects, Tag.DOMAIN, b"")
        return cls(
            Aid(_one(objects, Tag.AID)),
            state[0],
            Privilege.decode(privileges) if privileges else None,
            Aid(load_file) if load_file else None,
            tuple(Aid(one.value) for one in objects if one.tag == Tag.MODULE),
            _one(objects, Tag.LOAD_FILE_VERSION, b""),
            Aid(domain) if domain else None,
        )

    @classmethod
    def decode_all(cls, data: bytes) -> tuple["StatusEntry", ...]:
        """Return the entries of one answer to GET STATUS, possibly none.

        Raises:
            DecodeError: One of them is malformed.
        """
        return tuple(cls.decode(one.encode()) for one in Tlv.decode_all(data))


_STATE_SIZES: Final = (1, 2)  # some cards add a byte of the contactless state


@dataclass(frozen=True, slots=True)
class KeyInformation:
    """One key of a security domain, without its value (GPCS 2.3.1 §11.3.3.1).

    Attributes:
        key_id: Identifier, 1 to 3 for a channel's.
        version: Key version number.
        components: Type and size in bytes of each component.
    """

    key_id: int
    version: int
    components: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        """Return the C0 object."""
        value = bytes((self.key_id, self.version))
        value += b"".join(bytes(component) for component in self.components)
        return Tlv(Tag.KEY_COMPONENT, value).encode()

    @classmethod
    def of_set(cls, keys: KeySet) -> tuple["KeyInformation", ...]:
        """Return what is said of the three keys of a set."""
        code = KeyTypeCode.AES if keys.key_type is KeyType.AES else KeyTypeCode.DES
        ids = enumerate((keys.enc, keys.mac, keys.dek), start=FIRST_KEY_ID)
        return tuple(cls(key_id, keys.version, ((code, len(key)),)) for key_id, key in ids)


def encode_key_template(keys: Iterable[KeyInformation]) -> bytes:
    """Return the answer to GET DATA 00E0 (GPCS 2.3.1 §11.3.3.1)."""
    return Tlv(Tag.KEY_INFORMATION, b"".join(key.encode() for key in keys)).encode()


def decode_key_template(data: bytes) -> tuple[KeyInformation, ...]:
    """Return the keys in an answer to GET DATA 00E0 (GPCS 2.3.1 §11.3.3.1).

    Raises:
        DecodeError: It is malformed.
    """
    template = Tlv.decode(data)
    if template.tag != Tag.KEY_INFORMATION:
        raise DecodeError(f"expected key information, found tag {template.tag:X}")
    return tuple(
        _decode_key(one.value) for one in template.children() if one.tag == Tag.KEY_COMPONENT
    )


_EXTENDED_TYPE: Final = 0xFF


def _decode_key(value: bytes) -> KeyInformation:
    reader = ByteReader(value)
    key_id, version = reader.read_uint8(), reader.read_uint8()
    components = []
    while reader.remaining:
        code = reader.read_uint8()
        if code != _EXTENDED_TYPE:
            components.append((code, reader.read_uint8()))
            continue
        components.append((reader.read_uint8(), reader.read_uint16()))
        if reader.remaining and value[reader.offset] != _EXTENDED_TYPE:
            reader.read_opaque(1)  # usage
            reader.read_opaque(1)  # access
            reader.finish()
    return KeyInformation(key_id, version, tuple(components))


# 1.2.840.114283, GlobalPlatform's arc, and its branches (GPCS 2.3.1 §H.1)
_ARC: Final = bytes.fromhex("2A864886FC6B")
_RECOGNITION: Final = _ARC + b"\x01"
_CARD_VERSION: Final = _ARC + b"\x02"
_SCHEME: Final = _ARC + b"\x03"
_SECURE_CHANNEL: Final = _ARC + b"\x04"
_GPCS_VERSION: Final = (2, 3, 1)
_PROTOCOL_SIZE: Final = 2


@dataclass(frozen=True, slots=True)
class CardData:
    """Card recognition data (GPCS 2.3.1 §H.2).

    Attributes:
        protocols: Secure channel protocols of the security domain.
        version: Of GPCS that the card follows.
    """

    protocols: tuple[ScpVariant, ...]
    version: tuple[int, ...] = _GPCS_VERSION

    def encode(self) -> bytes:
        """Return the answer to GET DATA 0066."""
        objects = [
            _identifier(_RECOGNITION),
            Tlv(Tag.VERSION, _identifier(_CARD_VERSION + bytes(self.version)).encode()),
            Tlv(Tag.IDENTIFICATION_SCHEME, _identifier(_SCHEME).encode()),
        ]
        for one in self.protocols:
            identifier = _identifier(_SECURE_CHANNEL + bytes((one.protocol, one.i)))
            objects.append(Tlv(Tag.SECURE_CHANNEL, identifier.encode()))
        recognition = _constructed(Tag.RECOGNITION_DATA, objects)
        return Tlv(Tag.CARD_DATA, recognition).encode()

    @classmethod
    def decode(cls, data: bytes) -> "CardData":
        """Return the recognition data in an answer to GET DATA 0066.

        Raises:
            DecodeError: It is malformed, or not GlobalPlatform's.
        """
        outer = Tlv.decode(data)
        if outer.tag != Tag.CARD_DATA:
            raise DecodeError(f"expected card data, found tag {outer.tag:X}")
        inner = Tlv.decode_all(_one(outer.children(), Tag.RECOGNITION_DATA))
        if _one(inner, Tag.OBJECT_IDENTIFIER) != _RECOGNITION:
            raise DecodeError("the recognition data are not GlobalPlatform's")
        version: tuple[int, ...] = ()
        protocols = []
        for one in inner:
            if one.tag == Tag.VERSION:
                version = tuple(_branch(one, _CARD_VERSION))
            elif one.tag == Tag.SECURE_CHANNEL:
                numbers = _branch(one, _SECURE_CHANNEL)
                if len(numbers) == _PROTOCOL_SIZE:  # a larger i takes two bytes: nothing of ours
                    protocols.append(ScpVariant(*numbers))
        return cls(tuple(protocols), version)


class _CapabilityTag(IntEnum):
    """Objects of card capability information (GPCS 2.3.1 §H.4)."""

    PROTOCOL = 0xA0
    PROTOCOL_NUMBER = 0x80
    PROTOCOL_OPTIONS = 0x81
    PROTOCOL_KEY_SIZES = 0x82
    DOMAIN_PRIVILEGES = 0x81
    APPLICATION_PRIVILEGES = 0x82
    LOAD_FILE_HASHES = 0x83


class LoadFileHash(IntEnum):
    """Hashes of load file data, as capability information numbers them (GPCS 2.3.1 §H.4)."""

    SHA1 = 0x01
    SHA256 = 0x02
    SHA384 = 0x03
    SHA512 = 0x04


AES_SIZES: Final = 0x07  # 128, 192 and 256 bits


@dataclass(frozen=True, slots=True)
class CardCapability:
    """Card capability information (GPCS 2.3.1 §H.4).

    Attributes:
        protocols: Secure channel protocols.
        domain_privileges: What a security domain may be given.
        application_privileges: What an application may be given.
        hashes: Numbers of the hashes of load file data.
    """

    protocols: tuple[ScpVariant, ...]
    domain_privileges: Privilege = NO_PRIVILEGES
    application_privileges: Privilege = NO_PRIVILEGES
    hashes: tuple[int, ...] = (LoadFileHash.SHA256,)

    def encode(self) -> bytes:
        """Return the answer to GET DATA 0067."""
        objects = []
        for number in dict.fromkeys(one.protocol for one in self.protocols):
            options = bytes(one.i for one in self.protocols if one.protocol == number)
            parts = [
                Tlv(_CapabilityTag.PROTOCOL_NUMBER, bytes((number,))),
                Tlv(_CapabilityTag.PROTOCOL_OPTIONS, options),
            ]
            if ScpVariant(number, 0).key_type is KeyType.AES:
                parts.append(Tlv(_CapabilityTag.PROTOCOL_KEY_SIZES, bytes((AES_SIZES,))))
            objects.append(Tlv(_CapabilityTag.PROTOCOL, b"".join(one.encode() for one in parts)))
        objects += [
            Tlv(_CapabilityTag.DOMAIN_PRIVILEGES, self.domain_privileges.encode()),
            Tlv(_CapabilityTag.APPLICATION_PRIVILEGES, self.application_privileges.encode()),
            Tlv(_CapabilityTag.LOAD_FILE_HASHES, bytes(self.hashes)),
        ]
        return _constructed(Tag.CARD_CAPABILITY, objects)

    @classmethod
    def decode(cls, data: bytes) -> "CardCapability":
        """Return the capabilities in an answer to GET DATA 0067.

        Raises:
            DecodeError: It is malformed.
        """
        outer = Tlv.decode(data)
        if outer.tag != Tag.CARD_CAPABILITY:
            raise DecodeError(f"expected card capabilities, found tag {outer.tag:X}")
        objects = outer.children()
        protocols: list[ScpVariant] = []
        for one in objects:
            if one.tag != _CapabilityTag.PROTOCOL:
                continue
            parts = one.children()
            number = _one(parts, _CapabilityTag.PROTOCOL_NUMBER)
            options = _one(parts, _CapabilityTag.PROTOCOL_OPTIONS, b"\x00")
            if len(number) != 1:
                raise DecodeError(f"a protocol number of {len(number)} bytes")
            protocols += [ScpVariant(number[0], i) for i in options]
        domain = _one(objects, _CapabilityTag.DOMAIN_PRIVILEGES, bytes(3))
        application = _one(objects, _CapabilityTag.APPLICATION_PRIVILEGES, bytes(3))
        hashes = _one(objects, _CapabilityTag.LOAD_FILE_HASHES, b"")
        return cls(
            tuple(protocols),
            Privilege.decode(domain),
            Privilege.decode(application),
            tuple(hashes),
        )


def _constructed(tag: int, objects: Iterable[Tlv]) -> bytes:
    return Tlv(tag, b"".join(one.encode() for one in objects)).encode()


def _identifier(value: bytes) -> Tlv:
    return Tlv(Tag.OBJECT_IDENTIFIER, value)


def _one(objects: Iterable[Tlv], tag: int, default: bytes | None = None) -> bytes:
    values = [one.value for one in objects if one.tag == tag]
    if not values and default is not None:
        return default
    if len(values) != 1:
        raise DecodeError(f"expected one object {tag:02X}, found {len(values)}")
    return values[0]


def _branch(outer: Tlv, branch: bytes) -> bytes:
    value = _one(outer.children(), Tag.OBJECT_IDENTIFIER)
    if not value.startswith(branch):
        raise DecodeError("an object identifier of another branch")
    return value[len(branch) :]
