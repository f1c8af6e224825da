# SPDX-License-Identifier: Apache-2.0
"""Load files: our own modules as packages, other makers' packages, and what is none."""

import struct

import pytest

from iose.globalplatform.load_file import (
    LOAD_ORDER,
    MODULE_MARK,
    Component,
    ComponentTag,
    LoadFile,
    ModuleMark,
)
from iose.globalplatform.packages import build_package
from iose.iso7816.aid import Aid
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.channel_pair import CRYPTO

PACKAGE = Aid.from_hex("0102030405")
APPLET = Aid.from_hex("010203040500")
DIGEST = bytes(range(32))
ARGUMENTS = {
    "package_aid": PACKAGE,
    "applet_aids": [APPLET],
    "module": "tls_se",
    "version": (1, 3),
    "digest": DIGEST,
}
OURS = build_package(**ARGUMENTS)


def bodies(load_file: LoadFile) -> dict[int, bytes]:
    return {one.tag: one.body for one in load_file.components}


def joined(parts: dict[int, bytes]) -> bytes:
    return b"".join(Component(tag, body).encode() for tag, body in parts.items())


def foreign(*, debug: bool = True, custom: bool = False, applets: bool = True) -> dict[int, bytes]:
    """Return a package as converters make them: all components, and a place for Debug."""
    parts = bodies(OURS) | {
        ComponentTag.HEADER: bytes.fromhex(
            "DECAFFED0202040001 07A0000000620101 0361".replace(" ", "")
        ),
        ComponentTag.EXPORT: b"\x00",
        ComponentTag.DESCRIPTOR: bytes(40),
    }
    parts[ComponentTag.METHOD] = bytes(9)
    if debug:
        parts[ComponentTag.DEBUG] = bytes(70)
    if not applets:
        del parts[ComponentTag.APPLET]
    count = 12 if debug else 11
    tail = bytes(6) + bytes((2, 1 if applets else 0, 1 if custom else 0))
    if custom:
        tail += bytes.fromhex("80000505A000000001")
        parts[0x80] = bytes(5)
    parts[ComponentTag.DIRECTORY] = b"x" * (2 * count + len(tail))
    sizes = [len(parts.get(tag, b"")) for tag in range(1, count + 1)]
    parts[ComponentTag.DIRECTORY] = struct.pack(f">{count}H", *sizes) + tail
    order = [*LOAD_ORDER, ComponentTag.DEBUG, 0x80]
    return {tag: parts[tag] for tag in order if tag in parts}


# --- our own ---------------------------------------------------------------------------------


def test_our_package_names_itself_its_applet_and_its_module():
    assert (OURS.package_aid, OURS.applet_aids, OURS.version) == (PACKAGE, (APPLET,), (1, 3))
    assert OURS.mark == ModuleMark("tls_se", DIGEST)
    assert OURS.is_ours


def test_our_package_survives_loading():
    assert LoadFile.decode(OURS.data) == OURS
    assert Tlv.decode(OURS.stream) == Tlv(0xC4, OURS.data)
    assert LoadFile.of_components(reversed(OURS.components)) == OURS


def test_our_package_has_the_components_of_a_cap_in_the_order_of_loading():
    tags = [one.tag for one in OURS.components]
    assert tags == [tag for tag in LOAD_ORDER if tag in tags]
    missing = set(LOAD_ORDER) - set(tags)
    assert missing == {ComponentTag.EXPORT, ComponentTag.DESCRIPTOR}


def test_the_directory_says_the_sizes_of_all_components():
    parts = bodies(OURS)
    directory = parts[ComponentTag.DIRECTORY]
    sizes = struct.unpack(">11H", directory[:22])
    assert sizes == tuple(len(parts.get(tag, b"")) for tag in range(1, 12))
    assert directory[22:] == bytes(6) + bytes((2, 1, 0))


def test_the_header_is_that_of_a_cap_of_format_2_1():
    assert bodies(OURS)[ComponentTag.HEADER].hex().upper() == "DECAFFED0102040301050102030405"


def test_the_methods_pointed_at_are_there():
    parts = bodies(OURS)
    methods = parts[ComponentTag.METHOD]
    (install,) = struct.unpack(">H", parts[ComponentTag.APPLET][-2:])
    (process,) = struct.unpack(">H", parts[ComponentTag.CLASS][-2:])
    for offset, arguments in ((install, 3), (process, 2)):
        assert methods[offset : offset + 3] == bytes((0, arguments << 4, 0x7A))
    assert methods.endswith(MODULE_MARK + b"\x06tls_se" + DIGEST)


@pytest.mark.parametrize(
    "change",
    [
        {"package_aid": APPLET},
        {"applet_aids": [PACKAGE]},
        {"module": "tls_im"},
        {"version": (1, 4)},
        {"digest": bytes(32)},
    ],
)
def test_the_hash_follows_everything(change):
    other = build_package(**ARGUMENTS | change)
    assert len(OURS.hash(CRYPTO)) == 32
    assert other.hash(CRYPTO) != OURS.hash(CRYPTO)
    assert build_package(**ARGUMENTS).hash(CRYPTO) == OURS.hash(CRYPTO)


@pytest.mark.parametrize(
    "change", [{"module": ""}, {"module": "é"}, {"digest": bytes(31)}, {"module": "m" * 256}]
)
def test_a_mark_has_a_name_and_a_digest(change):
    with pytest.raises(LocalProtocolError):
        build_package(**ARGUMENTS | change)


@pytest.mark.parametrize("wrong", ["short", "long", "name", "empty"])
def test_a_mark_that_is_not_quite_one_makes_a_foreign_package(wrong):
    parts = bodies(OURS)
    body = parts[ComponentTag.METHOD]
    changed = {
        "short": body[:-1] + b"",
        "long": body + b"\x00",
        "name": body.replace(b"tls_se", b"tls_s\xe9"),
        "empty": body[: body.index(MODULE_MARK)] + MODULE_MARK + b"\x00" + DIGEST,
    }[wrong]
    parts[ComponentTag.METHOD] = changed
    directory = bytearray(parts[ComponentTag.DIRECTORY])
    directory[12:14] = len(changed).to_bytes(2, "big")
    parts[ComponentTag.DIRECTORY] = bytes(directory)
    found = LoadFile.decode(joined(parts))
    assert found.package_aid == PACKAGE
    assert (found.mark, found.is_ours) == (None, False)


def test_other_bytes_are_no_mark():
    with pytest.raises(DecodeError, match="not a module's mark"):
        ModuleMark.decode(bytes(60))


# --- other makers' ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"debug": False}, {"custom": True}, {"applets": False}])
def test_a_foreign_package_is_named(options):
    parts = foreign(**options)
    found = LoadFile.decode(joined(parts))
    assert found.package_aid == Aid.from_hex("A0000000620101")
    assert found.version == (1, 0)
    assert found.applet_aids == ((APPLET,) if options.get("applets", True) else ())
    assert not found.is_ours


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("gone", [{11}, {11, 12}, {11, 12, 0x80}])
def test_a_foreign_package_is_named_without_what_tools_do_not_load(debug, gone):
    parts = foreign(debug=debug, custom=True)
    kept = {tag: body for tag, body in parts.items() if tag not in gone}
    assert LoadFile.decode(joined(kept)).applet_aids == (APPLET,)


def test_components_of_a_cap_are_put_into_the_order_of_loading():
    parts = foreign(custom=True)
    components = [Component(tag, body) for tag, body in sorted(parts.items())]
    found = LoadFile.of_components(components)
    tags = [one.tag for one in found.components]
    assert tags == [tag for tag in LOAD_ORDER if tag != ComponentTag.DESCRIPTOR]


@pytest.mark.parametrize("make", [lambda: OURS.data, lambda: joined(foreign(custom=True))])
def test_a_load_file_cut_anywhere_inside_a_component_is_refused(make):
    data = make()
    for size in range(len(data)):
        try:
            found = LoadFile.decode(data[:size])
        except DecodeError:
            continue
        # only whole components that may stay behind are gone
        whole = {one.tag for one in Component.decode_all(data)}
        assert whole - {one.tag for one in found.components} <= {11, 12, 0x80}


@pytest.mark.parametrize("tag", sorted(set(bodies(OURS)) - {1}))
def test_a_component_of_another_size_than_listed_is_refused(tag):
    parts = bodies(OURS)
    parts[tag] += b"\x00"
    with pytest.raises(DecodeError):
        LoadFile.decode(joined(parts))


@pytest.mark.parametrize("tag", sorted(bodies(OURS)))
def test_a_component_that_is_listed_is_there(tag):
    parts = bodies(OURS)
    del parts[tag]
    with pytest.raises(DecodeError):
        LoadFile.decode(joined(parts))


def changed(tag: int, old: str, new: str) -> bytes:
    parts = bodies(OURS)
    before = parts[tag]
    parts[tag] = before.replace(bytes.fromhex(old), bytes.fromhex(new), 1)
    assert parts[tag] != before
    return joined(parts)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(1, "DECAFFED", "DECAFFEE"), "magic number"),
        (changed(1, "010204", "01020C"), "extended format"),
        (changed(1, "0501020304", "0401020304"), "5 to 16"),
        (changed(3, "0106", "0206"), "expected 1 more"),
        (changed(3, "0106", "0006"), "bytes too many"),
        (changed(3, "06010203040500", "04010203040500"), "5 to 16"),
        (changed(2, "020100", "020200"), "counts other applets"),
        (changed(2, "020100", "020101"), "more bytes, found"),
        (OURS.data + Component(3, b"").encode(), "appears twice"),
        (OURS.data + Component(13, b"").encode(), "component 13 has not the size"),
        (OURS.data + Component(0, b"").encode(), "component 0 has not the size"),
        (OURS.data + b"\x0b", "expected 2 more"),
        (b"", "begins with Header and Directory"),
    ],
)
def test_what_is_not_quite_a_package_is_refused(data, reason):
    with pytest.raises(DecodeError, match=reason):
        LoadFile.decode(data)


def test_a_component_is_at_most_64_kib():
    with pytest.raises(LocalProtocolError):
        Component(7, bytes(65_536)).encode()
