# SPDX-License-Identifier: Apache-2.0
"""CAP files: the zip archives that applets of Java Cards are handed around in (JCVM 3.0.5 §4.1.2).

Here is the archive alone; what is in its components is the business of ``iose.globalplatform``.
"""

import zlib
from io import BytesIO
from struct import error as StructError  # noqa: N812  # an error by its name
from typing import Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from iose.globalplatform.load_file import LOAD_ORDER, Component, LoadFile
from iose.wire.errors import DecodeError

CAP_SIZE_LIMIT: Final = 4 * 1024 * 1024  # a card has less memory than that
ENTRY_LIMIT: Final = 1024  # some hold the classes, too
COMPONENT_LIMIT: Final = 3 + 65_535  # tag, 2-byte size, body
FOLDER: Final = "javacard"
SUFFIX: Final = ".cap"
MANIFEST: Final = "META-INF/MANIFEST.MF"
MANIFEST_TEXT: Final = "Manifest-Version: 1.0\r\nCreated-By: iose\r\n\r\n"
FIRST_DAY: Final = (1980, 1, 1, 0, 0, 0)  # zip's first: the same content is the same file
PLAIN_FILE: Final = 0o100644 << 16
UNIX: Final = 3
ENCRYPTED: Final = 0x01
NAMES: Final = frozenset(LOAD_ORDER.values())
# what zipfile lets out when an archive is none, or damaged
_BROKEN: Final = (
    BadZipFile, zlib.error, StructError, EOFError, NotImplementedError, ValueError, IndexError,
    OverflowError, OSError,
)  # fmt: skip


def read_cap(data: bytes) -> LoadFile:
    """Return the load file of a CAP file, its components in loading order (JCVM 3.0.5 §6.2).

    Raises:
        DecodeError: Not a CAP file, one of several packages, or too large for any card.
    """
    if len(data) > CAP_SIZE_LIMIT:
        raise DecodeError(f"a CAP file has at most {CAP_SIZE_LIMIT} bytes, found {len(data)}")
    try:
        with ZipFile(BytesIO(data)) as archive:
            files = _component_files(archive)
    except _BROKEN as error:
        raise DecodeError("not a CAP file: the archive cannot be read") from error
    components: list[Component] = []
    for name, content in files.items():
        found = Component.decode_all(content)
        if [LOAD_ORDER.get(one.tag) for one in found] != [name]:  # type: ignore[call-overload]  # an open number may be none of the keys
            raise DecodeError(f"the file {name}{SUFFIX} does not hold this component")
        components += found
    return LoadFile.of_components(components)


def write_cap(load_file: LoadFile, package_path: str) -> bytes:
    """Return the CAP file of a load file; the same content gives the same bytes.

    Args:
        load_file: The package.
        package_path: Its Java name, with slashes for dots.
    """
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        _write(archive, MANIFEST, MANIFEST_TEXT.encode())
        for component in load_file.components:
            name = LOAD_ORDER[component.tag]  # type: ignore[index]  # a number equals its tag
            path = f"{package_path}/{FOLDER}/{name}{SUFFIX}"
            _write(archive, path, component.encode())
    return buffer.getvalue()


def _component_files(archive: ZipFile) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > ENTRY_LIMIT:
        raise DecodeError(f"a CAP file has at most {ENTRY_LIMIT} entries, found {len(entries)}")
    files: dict[str, bytes] = {}
    folders = set()
    for entry in entries:
        folder, _, file = entry.filename.rpartition("/")
        name = file.removesuffix(SUFFIX)
        is_component = file.endswith(SUFFIX) and name in NAMES
        if not is_component or folder.rpartition("/")[2] != FOLDER:
            continue
        folders.add(folder)
        if len(folders) > 1 or name in files:
            raise DecodeError("a CAP file of several packages")
        files[name] = _read(archive, entry)
    if not files:
        raise DecodeError("not a CAP file: it holds no component")
    return files


def _read(archive: ZipFile, entry: ZipInfo) -> bytes:
    if entry.flag_bits & ENCRYPTED or entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        raise DecodeError("a CAP file is neither encrypted nor packed in an unusual way")
    with archive.open(entry) as file:
        content = file.read(COMPONENT_LIMIT + 1)
    if len(content) > COMPONENT_LIMIT:
        raise DecodeError(f"a component has at most {COMPONENT_LIMIT} bytes")
    return content


def _write(archive: ZipFile, name: str, content: bytes) -> None:
    entry = ZipInfo(name, FIRST_DAY)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = PLAIN_FILE
    entry.create_system = UNIX
    archive.writestr(entry, content)
