# SPDX-License-Identifier: Apache-2.0
"""Load files: the components of a Java Card package, as LOAD carries them.

Both ends use it (GPCS 2.3.1 §11.6.2.3; JCVM 3.0.5 §6). Any maker's package is read far enough to
name it and its applets; its code is never looked into, but for the mark of our own modules, which
``packages`` writes. Bytes come from outside: a fault is a DecodeError.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from iose.crypto.base import CryptoProvider, HashAlgorithm
from iose.iso7816.aid import Aid
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

TAG_LOAD_FILE_DATA: Final = 0xC4
MAGIC: Final = 0xDECAFFED
FLAG_EXTENDED: Final = 0x08  # components of more than 64 KiB, Java Card 3.1
MODULE_MARK: Final = b"iose-module\x00"
DIGEST_SIZE: Final = 32


class ComponentTag(IntEnum):
    """Components of a package (JCVM 3.0.5 §6.1)."""

    HEADER = 1
    DIRECTORY = 2
    APPLET = 3
    IMPORT = 4
    CONSTANT_POOL = 5
    CLASS = 6
    METHOD = 7
    STATIC_FIELD = 8
    REFERENCE_LOCATION = 9
    EXPORT = 10
    DESCRIPTOR = 11
    DEBUG = 12


LOAD_ORDER: Final[Mapping[ComponentTag, str]] = {
    ComponentTag.HEADER: "Header",
    ComponentTag.DIRECTORY: "Directory",
    ComponentTag.IMPORT: "Import",
    ComponentTag.APPLET: "Applet",
    ComponentTag.CLASS: "Class",
    ComponentTag.METHOD: "Method",
    ComponentTag.STATIC_FIELD: "StaticField",
    ComponentTag.EXPORT: "Export",
    ComponentTag.CONSTANT_POOL: "ConstantPool",
    ComponentTag.REFERENCE_LOCATION: "RefLocation",
    ComponentTag.DESCRIPTOR: "Descriptor",
}
"""Components in the order they are loaded in, and their names in a CAP file (JCVM 3.0.5 §6.2)."""

_MAY_STAY_BEHIND: Final = (ComponentTag.DESCRIPTOR, ComponentTag.DEBUG)
DIRECTORY_ENTRIES: Final = (11, 12)  # without, and with a place for Debug
STATIC_FIELD_SIZES: Final = 6  # three numbers about static fields


@dataclass(frozen=True, slots=True)
class Component:
    """One component: its tag, and what follows tag and size."""

    tag: int
    body: bytes

    def encode(self) -> bytes:
        """Return tag, size and body, as in the file of that name in a CAP file.

        Raises:
            LocalProtocolError: The body is longer than 65 535 bytes.
        """
        writer = ByteWriter()
        writer.write_uint8(self.tag)
        writer.write_opaque(self.body, 2)
        return writer.to_bytes()

    @classmethod
    def decode_all(cls, data: bytes) -> tuple["Component", ...]:
        """Return the components that load file data are made of.

        Raises:
            DecodeError: One is cut short, or appears twice.
        """
        reader = ByteReader(data)
        components: dict[int, Component] = {}
        while reader.remaining:
            offset = reader.offset
            tag = reader.read_uint8()
            if tag in components:
                raise DecodeError(f"component {tag} appears twice", offset=offset)
            components[tag] = cls(tag, reader.read_opaque(2))
        return tuple(components.values())


@dataclass(frozen=True, slots=True)
class ModuleMark:
    """What the Method component of one of our packages says.

    Attributes:
        module: Name of the module an element then makes instances of.
        digest: SHA-256 of the module's sources.
    """

    module: str
    digest: bytes

    def encode(self) -> bytes:
        """Return the mark as it stands at the end of the Method component.

        Raises:
            LocalProtocolError: The name is empty, not ASCII or too long, or the digest has not
                32 bytes.
        """
        if not (self.module and self.module.isascii()) or len(self.digest) != DIGEST_SIZE:
            raise LocalProtocolError("a mark has an ASCII name and a SHA-256 digest")
        writer = ByteWriter()
        writer.write_bytes(MODULE_MARK)
        writer.write_opaque(self.module.encode("ascii"), 1)
        writer.write_bytes(self.digest)
        return writer.to_bytes()

    @classmethod
    def decode(cls, data: bytes) -> "ModuleMark":
        """Return the mark that ``data`` is.

        Raises:
            DecodeError: It is none.
        """
        reader = ByteReader(data)
        if reader.read_bytes(len(MODULE_MARK)) != MODULE_MARK:
            raise DecodeError("this is not a module's mark")
        name = reader.read_opaque(1, low=1)
        if not name.isascii():
            raise DecodeError("a module's name is ASCII", offset=len(MODULE_MARK))
        digest = reader.read_bytes(DIGEST_SIZE)
        reader.finish()
        return cls(name.decode("ascii"), digest)


@dataclass(frozen=True, slots=True)
class LoadFile:
    """A package to load, or one that was loaded.

    Attributes:
        package_aid: From its Header component.
        applet_aids: Applets it can make, from its Applet component; none for a library.
        version: Major and minor version of the package.
        data: Its components in order: the load file data block.
    """

    package_aid: Aid
    applet_aids: tuple[Aid, ...]
    version: tuple[int, int]
    data: bytes

    @classmethod
    def decode(cls, data: bytes) -> "LoadFile":
        """Return the package whose components are ``data``.

        Raises:
            DecodeError: Header, Directory or Applet component is missing or malformed, or the
                sizes in the Directory are not those of the components. Descriptor and Debug may
                have stayed behind, as tools do not load them.
        """
        components = Component.decode_all(data)
        bodies = {one.tag: one.body for one in components}
        if [one.tag for one in components[:2]] != [ComponentTag.HEADER, ComponentTag.DIRECTORY]:
            raise DecodeError("a load file begins with Header and Directory components")
        package_aid, version = _read_header(bodies[ComponentTag.HEADER])
        directory = _read_directory(bodies[ComponentTag.DIRECTORY])
        _check_sizes(directory.sizes, bodies)
        applets = _read_applets(bodies.get(ComponentTag.APPLET, b"\x00"))
        if len(applets) != directory.applet_count:
            raise DecodeError("the Directory counts other applets than there are")
        return cls(package_aid, applets, version, data)

    @classmethod
    def of_components(cls, components: Iterable[Component]) -> "LoadFile":
        """Return the package of components in any order, Descriptor and Debug left out.

        Raises:
            DecodeError: They do not make a package.
        """
        found = {one.tag: one for one in components}
        kept = (tag for tag in LOAD_ORDER if tag in found and tag not in _MAY_STAY_BEHIND)
        return cls.decode(b"".join(found[tag].encode() for tag in kept))

    @property
    def stream(self) -> bytes:
        """What LOAD commands carry: the data in an object C4."""
        return Tlv(TAG_LOAD_FILE_DATA, self.data).encode()

    @property
    def components(self) -> tuple[Component, ...]:
        """The components in order."""
        return Component.decode_all(self.data)

    @property
    def mark(self) -> ModuleMark | None:
        """The mark of one of our own modules; None in any other package."""
        for one in self.components:
            start = one.body.rfind(MODULE_MARK) if one.tag == ComponentTag.METHOD else -1
            if start >= 0:
                try:
                    return ModuleMark.decode(one.body[start:])
                except DecodeError:
                    return None
        return None

    @property
    def is_ours(self) -> bool:
        """Whether it says to be a module of a software element: a claim, not a proof."""
        return self.mark is not None

    def hash(self, crypto: CryptoProvider) -> bytes:
        """Return the SHA-256 of the load file data block (GPCS 2.3.1 §C.2)."""
        return crypto.hash(HashAlgorithm.SHA256, self.data)


def _read_header(body: bytes) -> tuple[Aid, tuple[int, int]]:
    reader = ByteReader(body)
    if reader.read_uint(4) != MAGIC:
        raise DecodeError("the Header component has not its magic number")
    reader.read_uint16()  # version of the format
    if reader.read_uint8() & FLAG_EXTENDED:
        raise DecodeError("packages in the extended format are not supported")
    minor, major = reader.read_uint8(), reader.read_uint8()
    return Aid(reader.read_opaque(1)), (major, minor)


@dataclass(frozen=True, slots=True)
class _Directory:
    """What the Directory component says (JCVM 3.0.5 §6.5)."""

    sizes: dict[int, int]
    applet_count: int

    @classmethod
    def decode(cls, body: bytes, entries: int) -> "_Directory":
        reader = ByteReader(body)
        sizes = {tag: reader.read_uint16() for tag in range(1, entries + 1)}
        reader.read_bytes(STATIC_FIELD_SIZES)
        reader.read_uint8()  # packages imported
        applet_count = reader.read_uint8()
        for _ in range(reader.read_uint8()):  # components of a maker's own
            tag = reader.read_uint8()
            sizes[tag] = reader.read_uint16()
            reader.read_opaque(1)
        reader.finish()
        return cls(sizes, applet_count)


def _read_directory(body: bytes) -> _Directory:
    few, many = DIRECTORY_ENTRIES
    try:  # converters of both formats write the same format number
        return _Directory.decode(body, few)
    except DecodeError:
        return _Directory.decode(body, many)


def _check_sizes(sizes: Mapping[int, int], bodies: Mapping[int, bytes]) -> None:
    for tag, body in bodies.items():
        if sizes.get(tag) != len(body):
            raise DecodeError(f"component {tag} has not the size in the Directory")
    for tag, size in sizes.items():
        stays_behind = tag in _MAY_STAY_BEHIND or tag not in LOAD_ORDER
        if size and tag not in bodies and not stays_behind:
            raise DecodeError(f"component {tag} of the Directory is missing")


def _read_applets(body: bytes) -> tuple[Aid, ...]:
    reader = ByteReader(body)
    applets = []
    for _ in range(reader.read_uint8()):
        applets.append(Aid(reader.read_opaque(1)))
        reader.read_uint16()  # where its install method is
    reader.finish()
    return tuple(applets)
