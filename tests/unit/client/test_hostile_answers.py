# SPDX-License-Identifier: Apache-2.0
"""Whatever an element or a network says, only the declared errors come out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.client import commands
from iose.client.access import SystemRng, resolve_access
from iose.client.errors import AnswerError, HandshakeError, KeystoreError, SessionError
from iose.client.session import ElementSession
from iose.client.signature import decode_signature, encode_signature
from iose.wire.errors import DecodeError

COMMANDS = [
    commands.version(),
    commands.echo(b"x"),
    commands.echo_bytes(b"x"),
    commands.application_public_key(),
    commands.certificate(),
    commands.prove(b"x"),
    commands.generate_key(0),
    commands.is_key_sealed(0),
    commands.seed(0),
    commands.sign(0, b"x", low_s=True),
    commands.read_record(0),
    commands.raw("p00"),
]
URI = f"keyS://key1.com:{bytes(32).hex()}@host"


@given(
    st.sampled_from(COMMANDS),
    st.binary(max_size=200) | st.text("0123456789ABCDEF", max_size=200).map(str.encode),
)
def test_any_answer_is_a_value_or_a_declared_error(command, answer):
    with contextlib.suppress(AnswerError, KeystoreError):
        command.read_answer(answer)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_strict_signature_or_a_declared_error(data):
    try:
        numbers = decode_signature(data)
    except DecodeError:
        return
    assert encode_signature(*numbers) == data


@given(st.binary(max_size=120), st.integers(1, 120))
def test_any_bytes_instead_of_a_handshake_are_refused_whole_or_in_pieces(data, piece):
    access = resolve_access(URI)
    session = ElementSession(access.client_config(SystemRng().random_bytes(32)))
    for start in range(0, len(data), piece):
        session.receive_data(data[start : start + piece])
    session.receive_data(b"")
    with pytest.raises(HandshakeError):
        session.is_open()
    with pytest.raises(SessionError):
        session.check_idle()
    session.data_to_send()
    session.close()
