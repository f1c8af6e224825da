# SPDX-License-Identifier: Apache-2.0
"""Decode of encode is the identity, and hostile bytes raise declared errors alone."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.tls import extensions as ext
from iose.tls import key_extensions as keys
from iose.tls import messages as msg
from iose.tls.constants import KeyUpdateRequest
from iose.wire.errors import DecodeError, RemoteProtocolError

UINT16 = st.integers(0, 0xFFFF)
NUMBERS = st.lists(UINT16, min_size=1, max_size=20).map(tuple)
EXTENSIONS = st.dictionaries(UINT16, st.binary(max_size=40), max_size=8)
SHARES = st.builds(keys.KeyShareEntry, UINT16, st.binary(min_size=1, max_size=80))
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
PAIRS = st.lists(
    st.tuples(
        st.builds(
            keys.PskIdentity, st.binary(min_size=1, max_size=40), st.integers(0, 0xFFFF_FFFF)
        ),
        st.binary(min_size=32, max_size=64),
    ),
    min_size=1,
    max_size=4,
)

MESSAGES = {
    msg.ClientHello: st.builds(
        msg.ClientHello,
        st.binary(min_size=32, max_size=32),
        st.binary(max_size=32),
        NUMBERS,
        EXTENSIONS,
        st.binary(min_size=1, max_size=5),
        UINT16,
    ),
    msg.ServerHello: st.builds(
        msg.ServerHello,
        st.binary(min_size=32, max_size=32),
        st.binary(max_size=32),
        UINT16,
        EXTENSIONS,
        st.integers(0, 255),
        UINT16,
    ),
    msg.EncryptedExtensions: st.builds(msg.EncryptedExtensions, EXTENSIONS),
    msg.KeyUpdate: st.builds(msg.KeyUpdate, st.sampled_from(KeyUpdateRequest)),
    msg.NewSessionTicket: st.builds(
        msg.NewSessionTicket,
        st.integers(0, 0xFFFF_FFFF),
        st.integers(0, 0xFFFF_FFFF),
        st.binary(max_size=20),
        st.binary(min_size=1, max_size=80),
        EXTENSIONS,
    ),
}
BODIES = {
    ext.ServerName: st.builds(ext.ServerName, NAMES),
    ext.MaxFragmentLength: st.builds(ext.MaxFragmentLength, st.integers(1, 4)),
    ext.RecordSizeLimit: st.builds(ext.RecordSizeLimit, st.integers(64, 0xFFFF)),
    keys.SupportedGroups: st.builds(keys.SupportedGroups, NUMBERS),
    ext.ProtocolNames: st.builds(
        ext.ProtocolNames,
        st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5).map(tuple),
    ),
    ext.ClientVersions: st.builds(ext.ClientVersions, NUMBERS),
    ext.SelectedNumber: st.builds(ext.SelectedNumber, UINT16),
    ext.Cookie: st.builds(ext.Cookie, st.binary(min_size=1, max_size=80)),
    keys.PskModes: st.builds(
        keys.PskModes, st.lists(st.integers(0, 255), min_size=1, max_size=9).map(tuple)
    ),
    keys.KeyShareEntry: SHARES,
    keys.ClientShares: st.builds(keys.ClientShares, st.lists(SHARES, max_size=4).map(tuple)),
    keys.OfferedPsks: PAIRS.map(
        lambda pairs: keys.OfferedPsks(
            tuple(identity for identity, _ in pairs), tuple(binder for _, binder in pairs)
        )
    ),
}
DECODERS: list[Callable[[bytes], object]] = [
    *(kind.decode for kind in MESSAGES),
    *(kind.decode for kind in BODIES),
    lambda data: msg.Finished.decode(data, 32),
]


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_messages_survive_the_wire(kind: type, data: st.DataObject) -> None:
    value = data.draw(MESSAGES[kind])
    encoded = value.encode()
    decoded = kind.decode(encoded[4:])
    assert decoded == value
    assert decoded.encode() == encoded
    if hasattr(value, "extensions"):
        assert [*decoded.extensions] == [*value.extensions]


@given(st.binary(min_size=32, max_size=48))
def test_finished_survives_the_wire(verify_data: bytes) -> None:
    encoded = msg.Finished(verify_data).encode()
    assert msg.Finished.decode(encoded[4:], len(verify_data)).verify_data == verify_data


@pytest.mark.parametrize("kind", BODIES)
@given(data=st.data())
def test_extensions_survive_the_wire(kind: type, data: st.DataObject) -> None:
    value = data.draw(BODIES[kind])
    assert kind.decode(value.encode()) == value


@pytest.mark.parametrize("kind", BODIES)
@given(data=st.data())
def test_a_cut_or_longer_extension_is_refused(kind: type, data: st.DataObject) -> None:
    encoded = data.draw(BODIES[kind]).encode()
    for wrong in (encoded[:-1], encoded + b"\x00"):
        with pytest.raises((DecodeError, RemoteProtocolError)):
            kind.decode(wrong)


@pytest.mark.parametrize("index", range(len(DECODERS)))
@given(data=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(index: int, data: bytes) -> None:
    with suppress(DecodeError, RemoteProtocolError):
        DECODERS[index](data)


@given(st.lists(st.binary(max_size=50), max_size=30))
def test_handshake_buffers_take_any_pieces(pieces: list[bytes]) -> None:
    whole, split = msg.HandshakeBuffer(), msg.HandshakeBuffer()
    whole.append(b"".join(pieces))
    messages: list[object] = []
    try:
        for piece in pieces:
            split.append(piece)
            while (message := split.next_message()) is not None:
                messages.append(message)
    except RemoteProtocolError:
        return
    for message in messages:
        assert whole.next_message() == message
    assert whole.next_message() is None
