# SPDX-License-Identifier: Apache-2.0
"""Whatever a host or a client sends, the applet answers or refuses; splitting changes nothing."""

from dataclasses import fields

from hypothesis import example, given, settings
from hypothesis import strategies as st

from iose.applets.tls_se import CommandSet, Flag, Limits, Personalisation, Settings, Wire
from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.bip32 import derive_private_key, is_path
from iose.iso7816.status import StatusWordError
from iose.wire.errors import DecodeError
from tests.support.element import CRYPTO, Element, demo, reference
from tests.support.shared import own_json

SETTINGS = st.builds(
    Settings, st.sampled_from(Wire), st.sampled_from(Limits), st.sampled_from(CommandSet)
)
INS = [0x20, 0x24, *range(0x80, 0x90), 0xB0, 0xC0, 0xD0, 0xD8, 0xDA, 0xE2, 0xA4]
HEADERS = st.tuples(
    st.just(0) | st.integers(0, 255),
    st.sampled_from(INS),
    st.sampled_from([0, 1, 2, 3, 6, 7, 0x21, 0x80, 0xFF]) | st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 0x0A, 0x0B, 0x0E, 0xFE, 0xFF]) | st.integers(0, 255),
)
BODIES = st.one_of(
    st.just(b""),
    st.builds(lambda le: bytes((le,)), st.integers(0, 255)),
    st.builds(lambda data: bytes((len(data),)) + data, st.binary(min_size=1, max_size=255)),
    st.builds(
        lambda data: b"\x00" + len(data).to_bytes(2, "big") + data,
        st.binary(min_size=1, max_size=600),
    ),
)
COMMANDS = st.builds(lambda header, body: bytes(header) + body, HEADERS, BODIES)
HEX = st.text("0123456789abcdefABCDEF", max_size=140).map(str.encode)
LINES = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda letter, index, payload, end: letter.encode() + index.encode() + payload + end,
        st.sampled_from("?cCgGprPXRstTvbkhHAaZInN"),
        st.sampled_from(
            ["00", "01", "1f", "0A", "0C", "0E", "0F", "AA", "A5", "05", "D0", "FF", "C1"]
        ),
        HEX | st.binary(max_size=100),
        st.sampled_from([b"\n", b"\r\n", b""]),
    ),
)
SESSIONS = own_json("tlsse_sessions.json")["apdu_transcripts"]


@given(st.lists(COMMANDS, max_size=25), SETTINGS, st.booleans())
def test_any_command_gets_an_answer(commands, settings_, is_final):
    element = Element(demo(settings_, is_final=is_final))
    element.verify_admin()
    for command in commands:
        assert len(element.raw(command)) >= 2
    assert element.faults == []
    element.reset_session()


@given(st.lists(st.tuples(LINES, st.booleans()), max_size=25), SETTINGS)
@settings(max_examples=150)
def test_any_line_gets_a_reply(lines, settings_):
    element = Element(demo(settings_))
    applet = next(iter(element.card._channels._instances.values())).applet
    for line, is_guest in lines:
        session = ApplicationSession(is_guest, bytes(32), lambda _label: bytes(32))
        reply = applet._keystore.handle(line, session)
        assert isinstance(reply, Reply)
        assert reply.ends_session != reply.data.endswith(b"\r\n")


def joined(steps: list[dict]) -> list[tuple[bytes, str]]:
    """Return the records of a session, fragments joined, each with its drained answer."""
    records, record, answer = [], b"", ""
    for step in steps:
        command = bytes.fromhex(step["command"])
        if command[1] == 0xD8 and len(command) > 5 and not command[2] & ~1:
            record += command[5:]
        if command[1] in (0xD8, 0xC0):
            answer += step["response"][:-4]
            if step["response"][-4:-2] != "9F" and command[3] & 2 | (command[1] == 0xC0):
                records.append((record, answer))
                record, answer = b"", ""
    return [item for item in records if item[0]]


RECORDS = joined(SESSIONS["C"])


@given(st.data())
@settings(max_examples=60)
def test_records_split_in_any_way_get_the_same_answers(data):
    element = Element(reference())
    for step in SESSIONS["C"][:6]:
        assert element.apdu(step["command"]) == step["response"]
    hello, expected = RECORDS[0]
    rest = list(hello)
    position = 0
    while position < len(rest):
        size = data.draw(st.integers(1, 255))
        piece = hello[position : position + size]
        is_last = position + size >= len(hello)
        p2 = (position == 0) | is_last << 1
        header = bytes((0, 0xD8, is_last, p2, len(piece)))
        answer = element.raw(header + piece)
        position += size
        assert is_last or answer == b"\x90\x00"
    drained = answer[:-2]
    while answer[-2] == 0x9F:
        answer = element.raw(b"\x00\xc0\x00\x00" + answer[-1:])
        drained += answer[:-2]
    assert drained.hex().upper() == expected


@given(st.integers(0, 276), st.integers(0, 7))
@settings(max_examples=60)
@example(0, 0)
def test_a_client_hello_with_one_bit_flipped_ends_in_the_one_error(position: int, bit: int):
    element = Element(reference())
    for step in SESSIONS["C"][:6]:
        element.apdu(step["command"])
    hello = bytearray(RECORDS[0][0])
    position %= len(hello)
    hello[position] ^= 1 << bit
    element.apdu("00D80001F0" + hello[:240].hex())
    rest = hello[240:]
    answer = element.apdu(f"00D80102{len(rest):02X}{rest.hex()}")
    # The record's version is ignored (RFC 8446 §5.1); a wrong length is found before TLS.
    if position in (1, 2):
        assert answer.endswith("9F1C")
        return
    assert answer == ("6D02" if position in (3, 4) else "6D16")
    assert element.apdu("00D8010318" + "17030300" + "13" + "00" * 19) == "6D16"
    assert element.faults == []


@given(
    st.builds(
        Personalisation,
        name=st.binary(max_size=15),
        settings=SETTINGS,
        psk=st.none() | st.binary(min_size=32, max_size=32),
        identity=st.binary(min_size=1, max_size=64),
        user_pin=st.none() | st.binary(min_size=1, max_size=8),
        admin_pin=st.none() | st.binary(min_size=8, max_size=8),
        guest_psk=st.none() | st.binary(min_size=32, max_size=32),
        guest_identity=st.binary(min_size=1, max_size=64),
        flags=st.sampled_from([Flag(0), Flag.GUEST_ENABLED, Flag.CHECK_SERVER_NAME]),
        version_text=st.binary(max_size=64),
        shows_handshake_secret=st.booleans(),
        uses_demo_secrets=st.booleans(),
        is_final=st.booleans(),
    )
)
def test_personalisations_decode_as_encoded(given_: Personalisation):
    decoded = Personalisation.decode(given_.encode())
    for item in fields(Personalisation):
        assert getattr(decoded, item.name) == getattr(given_, item.name)


@given(st.binary(max_size=120))
def test_a_personalisation_is_decoded_or_refused(data: bytes):
    try:
        decoded = Personalisation.decode(data)
    except DecodeError:
        return
    status = None
    try:
        assert Element(decoded).faults == []
    except StatusWordError as refusal:
        status = refusal.status
    assert status in (None, 0x6A80)


@given(st.binary(max_size=130), st.binary(min_size=64, max_size=64))
def test_paths_are_hardened_levels(path: bytes, root: bytes):
    levels = [path[i : i + 4] for i in range(0, len(path), 4)]
    valid = bool(levels) and len(levels) <= 30 and all(len(x) == 4 and x[0] >> 7 for x in levels)
    assert is_path(path) == valid
    if valid:
        assert len(derive_private_key(CRYPTO, root, path) or bytes(32)) == 32
