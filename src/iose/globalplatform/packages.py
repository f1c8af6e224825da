# SPDX-License-Identifier: Apache-2.0
"""Our own modules as packages that card-management tools can load.

Their shape is that of a Java Card package (JCVM 3.0.5 §6), their code an applet that does nothing:
a software element knows the module by the mark in the Method component. On any other card
installing it fails, since its install method registers no applet. The caller hands in digests.
"""

from collections.abc import Iterable
from typing import Final

from iose.globalplatform.load_file import (
    DIRECTORY_ENTRIES,
    MAGIC,
    STATIC_FIELD_SIZES,
    Component,
    ComponentTag,
    LoadFile,
    ModuleMark,
)
from iose.iso7816.aid import Aid
from iose.wire.writer import ByteWriter

FORMAT_MINOR: Final = 1  # format 2.1: the one that every tool reads
FORMAT_MAJOR: Final = 2
FLAG_APPLET: Final = 0x04
# packages imported: javacard.framework 1.2 (Java Card 2.2.1) and java.lang 1.0
FRAMEWORK: Final = (bytes.fromhex("A0000000620101"), 1, 2)
LANGUAGE: Final = (bytes.fromhex("A0000000620001"), 1, 0)
RETURN: Final = 0x7A  # bytecode, JCVM 3.0.5 §7.5
METHOD_HEADER_SIZE: Final = 2
INSTALL_ARGUMENTS: Final = 3  # array, offset, length
PROCESS_ARGUMENTS: Final = 2  # this, the APDU
INSTALL_OFFSET: Final = 1  # behind the count of exception handlers
PROCESS_OFFSET: Final = INSTALL_OFFSET + METHOD_HEADER_SIZE + 1
APPLET_CLASS: Final = 0x8003  # class 3 of the first package imported
NO_REFERENCE: Final = 0xFF
PROCESS_TOKEN: Final = 7  # virtual method of Applet


def build_package(
    *,
    package_aid: Aid,
    applet_aids: Iterable[Aid],
    module: str,
    version: tuple[int, int],
    digest: bytes,
) -> LoadFile:
    """Return the package of one of our modules.

    Args:
        package_aid: AID of the package.
        applet_aids: AIDs that instances can be made by.
        module: Name of the module.
        version: Major and minor version.
        digest: SHA-256 of the module's sources.

    Raises:
        LocalProtocolError: The module's name or the digest does not fit a mark.
    """
    applets = tuple(applet_aids)
    components = [
        Component(ComponentTag.HEADER, _header(package_aid, version)),
        Component(ComponentTag.IMPORT, _import()),
        Component(ComponentTag.APPLET, _applets(applets)),
        Component(ComponentTag.CLASS, _class()),
        Component(ComponentTag.METHOD, _methods(ModuleMark(module, digest))),
        Component(ComponentTag.STATIC_FIELD, bytes(10)),  # no image, references, arrays, values
        Component(ComponentTag.CONSTANT_POOL, bytes(2)),  # no constants
        Component(ComponentTag.REFERENCE_LOCATION, bytes(4)),  # no references to link
    ]
    components.append(_directory(components, len(applets)))
    return LoadFile.of_components(components)


def _header(package_aid: Aid, version: tuple[int, int]) -> bytes:
    major, minor = version
    writer = ByteWriter()
    writer.write_uint(MAGIC, 4)
    for value in (FORMAT_MINOR, FORMAT_MAJOR, FLAG_APPLET, minor, major):
        writer.write_uint8(value)
    writer.write_opaque(package_aid.value, 1)
    return writer.to_bytes()


def _directory(components: Iterable[Component], applet_count: int) -> Component:
    sizes = {one.tag: len(one.body) for one in components}
    entries = min(DIRECTORY_ENTRIES)
    tail = bytes(STATIC_FIELD_SIZES) + bytes((len(_IMPORTS), applet_count, 0))
    sizes[ComponentTag.DIRECTORY] = 2 * entries + len(tail)
    writer = ByteWriter()
    for tag in range(1, entries + 1):
        writer.write_uint16(sizes.get(tag, 0))
    writer.write_bytes(tail)
    return Component(ComponentTag.DIRECTORY, writer.to_bytes())


_IMPORTS: Final = (FRAMEWORK, LANGUAGE)


def _import() -> bytes:
    writer = ByteWriter()
    writer.write_uint8(len(_IMPORTS))
    for aid, major, minor in _IMPORTS:
        writer.write_uint8(minor)
        writer.write_uint8(major)
        writer.write_opaque(aid, 1)
    return writer.to_bytes()


def _applets(applets: tuple[Aid, ...]) -> bytes:
    writer = ByteWriter()
    writer.write_uint8(len(applets))
    for aid in applets:
        writer.write_opaque(aid.value, 1)
        writer.write_uint16(INSTALL_OFFSET)
    return writer.to_bytes()


def _class() -> bytes:
    """Return one subclass of Applet that has its own ``process`` (JCVM 3.0.5 §6.9)."""
    writer = ByteWriter()
    writer.write_uint8(0)  # a class, without interfaces
    writer.write_uint16(APPLET_CLASS)
    writer.write_uint8(0)  # size of an instance
    writer.write_uint8(NO_REFERENCE)
    writer.write_uint8(0)  # references
    writer.write_uint8(PROCESS_TOKEN)  # first public method of the table
    writer.write_uint8(1)  # public methods
    writer.write_uint16(0)  # package methods: none
    writer.write_uint16(PROCESS_OFFSET)
    return writer.to_bytes()


def _methods(mark: ModuleMark) -> bytes:
    """Return two methods that return at once, and the mark (JCVM 3.0.5 §6.10)."""
    writer = ByteWriter()
    writer.write_uint8(0)  # exception handlers
    for arguments in (INSTALL_ARGUMENTS, PROCESS_ARGUMENTS):
        writer.write_uint8(0)  # no flags, no stack
        writer.write_uint8(arguments << 4)  # and no locals
        writer.write_uint8(RETURN)
    writer.write_bytes(mark.encode())
    return writer.to_bytes()
