# SPDX-License-Identifier: Apache-2.0
"""What the bridge reads of a ClientHello: the first host name, and whether the message is whole."""

import pytest

from iose.bridge.client_hello import handshake_size, read_server_name
from iose.wire.errors import DecodeError
from tests.support.client_hello import client_hello, extension, name_list


@pytest.mark.parametrize("name", [b"k", b"key1.com", b"a" * 15, b"a" * 16, b"KEY1.COM", b"a" * 255])
def test_finds_the_server_name(name):
    assert read_server_name(client_hello(name)) == name.decode()


def test_finds_no_name_where_there_is_none():
    assert read_server_name(client_hello()) is None


def test_finds_no_name_without_any_extension():
    hello = b"\x01\x00\x00\x29\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x04\x01\x00"
    assert read_server_name(hello) is None


def test_takes_the_first_of_two_names():
    assert read_server_name(client_hello(b"key1.com", b"key2.com")) == "key1.com"


def test_takes_the_first_of_two_name_extensions():
    both = extension(0, name_list(b"key1.com")) + extension(0, name_list(b"key2.com"))
    assert read_server_name(client_hello(extensions=both)) == "key1.com"


def test_skips_names_of_another_type():
    other = name_list(b"x", kind=9)[2:] + name_list(b"key1.com")[2:]
    body = len(other).to_bytes(2, "big") + other
    assert read_server_name(client_hello(extensions=extension(0, body))) == "key1.com"


def test_passes_over_grease_and_unknown_extensions():
    grease = extension(0x2A2A, b"") + extension(0xFAFA, b"\x00") + extension(0, name_list(b"k"))
    assert read_server_name(client_hello(extensions=grease)) == "k"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"k\xe9y", "k\\xe9y"),
        (b"\x1b[2Jkey1.com", "\\x1b[2Jkey1.com"),
        (b'key1.com\n{"event":"x"}', 'key1.com\\n{"event":"x"}'),
        (b"key1.com\x00", "key1.com\\x00"),
        (b"\x9b31m\x7f", "\\x9b31m\\x7f"),
    ],
)
def test_escapes_what_no_host_name_holds(name, shown):
    assert read_server_name(client_hello(name)) == shown


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00",
        name_list(b""),
        name_list(b"key1.com") + b"\x00",
        name_list(b"key1.com")[:-1],
        b"\x00\x0c" + name_list(b"key1.com")[2:],
    ],
)
def test_refuses_a_malformed_name_list(body):
    with pytest.raises(DecodeError):
        read_server_name(client_hello(extensions=extension(0, body)))


def test_refuses_bytes_after_the_extensions():
    with pytest.raises(DecodeError):
        read_server_name(client_hello(b"key1.com", trailing=b"\x00"))


def test_refuses_bytes_after_the_message():
    with pytest.raises(DecodeError):
        read_server_name(client_hello(b"key1.com") + b"\x00")


def test_refuses_every_truncation():
    hello = client_hello(b"key1.com")
    for size in range(len(hello)):
        with pytest.raises(DecodeError):
            read_server_name(hello[:size])


def test_refuses_an_odd_list_of_suites():
    hello = bytearray(client_hello(b"key1.com"))
    hello[40] = 3
    with pytest.raises(DecodeError):
        read_server_name(bytes(hello))


def test_knows_the_size_of_a_message_from_its_header():
    assert handshake_size(b"") is None
    assert handshake_size(b"\x01\x00\x00") is None
    assert handshake_size(b"\x01\x00\x01\x00") == 260


def test_refuses_another_handshake_message():
    with pytest.raises(DecodeError):
        handshake_size(b"\x02")
