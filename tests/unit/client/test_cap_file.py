# SPDX-License-Identifier: Apache-2.0
"""CAP files: ours are whole archives that others read, others' are read in loading order."""

import io
import subprocess
import zipfile
from pathlib import Path

import pytest

from iose.client import cap_file
from iose.client.cap_file import read_cap, write_cap
from iose.globalplatform.load_file import LOAD_ORDER, Component, ComponentTag
from iose.runtime.packages import shipped_packages
from iose.wire.errors import DecodeError
from tests.support.peers import require_peer

OURS = shipped_packages()["tls-se"].load_file
FOLDER = "iose/tls_se/javacard"


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


def files(folder: str = FOLDER) -> dict[str, bytes]:
    return {f"{folder}/{LOAD_ORDER[one.tag]}.cap": one.encode() for one in OURS.components}


def test_what_is_written_is_read_again():
    assert read_cap(write_cap(OURS, "iose/tls_se")) == OURS


def test_the_same_package_gives_the_same_file():
    assert write_cap(OURS, "iose/tls_se") == write_cap(OURS, "iose/tls_se")


def test_unzip_finds_the_archive_whole(tmp_path: Path):
    unzip = require_peer("unzip")
    file = tmp_path / "tls-se.cap"
    file.write_bytes(write_cap(OURS, "iose/tls_se"))
    result = subprocess.run([unzip, "-t", file], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "No errors detected" in result.stdout


def test_an_exported_file_has_the_structure_other_loaders_ask_for():
    """Every component in its file, tag and size in front, sizes as the Directory says."""
    with zipfile.ZipFile(io.BytesIO(write_cap(OURS, "iose/tls_se"))) as opened:
        names = opened.namelist()
        content = {name.rpartition("/")[2]: opened.read(name) for name in names}
    assert names[0] == "META-INF/MANIFEST.MF"
    assert content["MANIFEST.MF"].startswith(b"Manifest-Version: 1.0\r\n")
    assert all(name.startswith(f"{FOLDER}/") for name in names[1:])
    required = {"Header", "Directory", "Import", "Applet", "Class", "Method", "StaticField",
                "ConstantPool", "RefLocation"}  # fmt: skip
    assert {name.removesuffix(".cap") for name in content if name != "MANIFEST.MF"} == required
    for tag, name in LOAD_ORDER.items():
        if f"{name}.cap" in content:
            part = content[f"{name}.cap"]
            assert (part[0], int.from_bytes(part[1:3], "big")) == (tag, len(part) - 3)
    header, directory = content["Header.cap"], content["Directory.cap"]
    assert header[3:7] == bytes.fromhex("DECAFFED")
    for tag in range(1, 12):
        size = int.from_bytes(directory[1 + 2 * tag : 3 + 2 * tag], "big")
        name = f"{LOAD_ORDER[ComponentTag(tag)]}.cap"
        assert size == (len(content[name]) - 3 if name in content else 0)


def test_components_are_put_in_loading_order_whatever_the_archive_says():
    shuffled = dict(reversed(files("com/example/javacard").items()))
    assert read_cap(archive(shuffled)) == OURS


def test_what_is_not_loaded_may_be_in_the_archive():
    more = {
        "META-INF/MANIFEST.MF": b"x",
        f"{FOLDER}/Debug.cap": b"\x0c\x00\x00",
        "APPLET-INF/classes/x.class": b"",
        "elsewhere/Header.cap": b"not in a javacard folder",
    }
    assert read_cap(archive(files() | more)) == OURS
    assert read_cap(archive(files(), zipfile.ZIP_STORED)) == OURS


@pytest.mark.parametrize(
    "change",
    [
        {f"{FOLDER}/Header.cap": b""},
        {f"{FOLDER}/Header.cap": b"\x02\x00\x00"},
        {f"{FOLDER}/Method.cap": b"\x07\x00\x05abc"},
        {f"{FOLDER}/Method.cap": Component(7, b"abc").encode() + Component(12, b"").encode()},
        {f"{FOLDER}/Method.cap": Component(7, b"other").encode()},
        {"another/javacard/Header.cap": Component(1, b"").encode()},
    ],
)
def test_an_archive_that_is_no_package_is_refused(change: dict[str, bytes]):
    with pytest.raises(DecodeError):
        read_cap(archive(files() | change))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_component_that_is_there_twice_is_refused():
    buffer = io.BytesIO(write_cap(OURS, "iose/tls_se"))
    with zipfile.ZipFile(buffer, "a") as opened:
        opened.writestr(f"{FOLDER}/Header.cap", files()[f"{FOLDER}/Header.cap"])
    with pytest.raises(DecodeError, match="several"):
        read_cap(buffer.getvalue())


def test_a_missing_component_is_refused():
    for name in files():
        left = {other: content for other, content in files().items() if other != name}
        with pytest.raises(DecodeError):
            read_cap(archive(left))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), bytes(100)])
def test_a_file_that_is_no_archive_is_refused(content: bytes):
    with pytest.raises(DecodeError, match="not a CAP file"):
        read_cap(content)


def test_a_damaged_archive_is_refused():
    whole = bytearray(write_cap(OURS, "iose/tls_se"))
    place = whole.find(b"Method.cap") + 12
    whole[place] ^= 0xFF
    with pytest.raises(DecodeError):
        read_cap(bytes(whole))


def test_an_archive_cut_anywhere_is_refused():
    whole = write_cap(OURS, "iose/tls_se")
    for size in range(0, len(whole), 7):
        with pytest.raises(DecodeError):
            read_cap(whole[:size])


def test_an_archive_that_would_fill_the_memory_is_refused(monkeypatch):
    bomb = files() | {f"{FOLDER}/Method.cap": bytes(10_000_000)}
    with pytest.raises(DecodeError, match="at most 65538"):
        read_cap(archive(bomb))
    many = {f"x{number}": b"" for number in range(cap_file.ENTRY_LIMIT + 1)}
    with pytest.raises(DecodeError, match="entries"):
        read_cap(archive(files() | many))
    monkeypatch.setattr(cap_file, "CAP_SIZE_LIMIT", 100)
    with pytest.raises(DecodeError, match="at most 100"):
        read_cap(write_cap(OURS, "iose/tls_se"))


def test_unusual_packing_and_encryption_are_refused():
    with pytest.raises(DecodeError, match="unusual"):
        read_cap(archive(files(), zipfile.ZIP_BZIP2))
    whole = bytearray(write_cap(OURS, "iose/tls_se"))
    for place in range(len(whole) - 4):
        if whole[place : place + 4] == b"PK\x01\x02":
            whole[place + 8] |= 1
    with pytest.raises(DecodeError, match="encrypted"):
        read_cap(bytes(whole))
