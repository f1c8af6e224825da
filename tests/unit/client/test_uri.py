# SPDX-License-Identifier: Apache-2.0
"""Element URIs: the grammar, what is refused, and that a key is never printed."""

import pytest

from iose.client.errors import ElementUriError
from iose.client.uri import ElementAddress, ElementUri, decode_psk
from iose.wire.errors import DecodeError

PSK = bytes(range(1, 33))


def test_reads_every_part():
    uri = ElementUri.decode(f"keyS://key1.com:{PSK.hex()}@hsm.example:8888/;id=guest?p00&s0012")
    assert uri.scheme == "keyS"
    assert uri.sen == "key1.com"
    assert uri.psk == PSK
    assert (uri.host, uri.port) == ("hsm.example", 8888)
    assert uri.identity == "guest"
    assert uri.commands == (b"p00", b"s0012")


@pytest.mark.parametrize("tail", ["", "/", "/?", "?"])
def test_without_query_opens_a_session_on_port_443(tail):
    uri = ElementUri.decode("keyS://key1.com@host" + tail)
    assert (uri.port, uri.commands, uri.psk, uri.identity) == (443, (), None, None)


@pytest.mark.parametrize("scheme", ["keyS", "keys", "KEYS", "KeyS"])
def test_scheme_is_compared_without_case(scheme):
    assert ElementUri.decode(f"{scheme}://a@b").scheme == "keyS"


@pytest.mark.parametrize(
    ("query", "commands"),
    [
        ("?p00", (b"p00",)),
        ("?query=p00", (b"p00",)),
        ("?query=p00&query=g00", (b"p00", b"g00")),
        ("??00", (b"?00",)),
        ("?%3F00", (b"?00",)),
        ("?query=?00", (b"?00",)),
        ("?Z00a%26b%20c%25", (b"Z00a&b c%",)),
        ("?Z00%FF%00", (b"Z00\xff\x00",)),
        ("?query%3Dx", (b"query=x",)),
        ("?Z00a+b", (b"Z00a+b",)),
        ("?Z00a/b", (b"Z00a/b",)),
    ],
)
def test_reads_commands(query, commands):
    uri = ElementUri.decode("keyS://a@b/" + query)
    assert uri.commands == commands
    assert ElementUri.decode(str(uri)) == uri


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        ("[::1]", "::1", 443),
        ("[::1]:8888", "::1", 8888),
        ("[fe80::1%25eth0]:1", "fe80::1%eth0", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("my_host.example", "my_host.example", 443),
        ("rooted.example.:1", "rooted.example.", 1),
        ("a" * 63 + ".b", "a" * 63 + ".b", 443),
    ],
)
def test_reads_hosts_and_ports(place, host, port):
    uri = ElementUri.decode(f"keyS://a@{place}/")
    assert (uri.host, uri.port) == (host, port)
    assert ElementUri.decode(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key1.com", "://"),
        ("key://a@b", "ends in S"),
        ("S://a@b", "ends in S"),
        ("k3yS://a@b", "ends in S"),
        ("keyS://b", "no @"),
        ("keyS://a@c@b", "two @"),
        ("keyS://@b", "1 to 15 bytes"),
        ("keyS://0123456789abcdef@b", "found 16"),
        ("keyS://a%20b@c", "printable ASCII"),
        ("keyS://%C3%A9@c", "printable ASCII"),
        ("keyS://%FF@c", "UTF-8"),
        ("keyS://a%4@b", "%"),
        ("keyS://a@", "host name"),
        ("keyS://a@b..c", "host name"),
        ("keyS://a@.b", "host name"),
        ("keyS://a@" + "a" * 64, "host name"),
        ("keyS://a@" + "a." * 127, "host name"),
        ("keyS://a@b c", "blanks"),
        ("keyS://a@b\n", "blanks"),
        ("keyS://a@é", "ASCII"),
        ("keyS://a@b:0", "1 to 65535"),
        ("keyS://a@b:65536", "1 to 65535"),
        ("keyS://a@b:x", "1 to 65535"),
        ("keyS://a@b:-1", "1 to 65535"),
        ("keyS://a@::1", "several :"),
        ("keyS://a@[::1", "[IPv6 address]"),
        ("keyS://a@[::1]8888", "[IPv6 address]"),
        ("keyS://a@[host]", "IPv6"),
        ("keyS://a@[::g]", "IPv6"),
        ("keyS://a@[::1%25a%2Fb]", "IPv6"),
        ("keyS://a@b/path", "path"),
        ("keyS://a@b/;id=", "identity"),
        ("keyS://a@b/;id=%00", "identity"),
        ("keyS://a@b/;id=" + "x" * 129, "identity"),
        ("keyS://a@b/?p00#x", "%23"),
        ("keyS://a@b/?p00&&g00", "empty command"),
        ("keyS://a@b/?query=", "empty command"),
        ("keyS://a@b/?p00%0Ag00", "line end"),
        ("keyS://a@b/?p00%0D", "line end"),
        ("keyS://a@b/?p%zz", "%"),
        ("keyS://a:@b", "64 hexadecimal"),
        ("keyS://a:12@b", "64 hexadecimal digits, found 2"),
        ("keyS://a:" + "x" * 64 + "@b", "64 hexadecimal digits, found others"),
        ("keyS://a:***@b", "redacted"),
        ("keyS://a@b/?" + "x" * 20_000, "16384"),
    ],
)
def test_refuses_with_what_was_expected_and_a_next_step(text, expected):
    with pytest.raises(ElementUriError) as caught:
        ElementUri.decode(text)
    assert expected in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint
    assert isinstance(caught.value, DecodeError)


@pytest.mark.parametrize("form", ["{}0", "{}@x", "{}g"])
def test_an_error_never_repeats_the_key(form):
    secret = "a5" * 32
    with pytest.raises(ElementUriError) as caught:
        ElementUri.decode("keyS://a:" + form.format(secret) + "@b")
    assert secret not in f"{caught.value!r} {caught.value.hint}"


def test_printing_redacts_the_key_and_reveal_shows_it():
    uri = ElementUri.decode(f"keyS://a:{PSK.hex().upper()}@b/?p00")
    for shown in (str(uri), repr(uri), f"{uri}", repr([uri])):
        assert PSK.hex() not in shown.lower()
        assert "***" in shown
    assert uri.reveal() == f"keyS://a:{PSK.hex()}@b/?p00"
    assert ElementUri.decode(uri.reveal()) == uri


@pytest.mark.parametrize("command", ["X00", "R00", "t00", "?aa", "?A0", "?A2"])
def test_a_key_in_a_command_is_redacted_too(command):
    uri = ElementUri.decode(f"keyS://a@b/?{command}{PSK.hex()}&p00")
    assert str(uri) == f"keyS://a@b/?{command}***&p00"
    assert PSK.hex() not in repr(uri)
    assert ElementUri.decode(uri.reveal()) == uri


def test_addresses_of_different_spellings_are_equal():
    one = ElementUri.decode("keyS://Key1.COM@Host.Example")
    other = ElementUri.decode("KEYS://key1.com@host.example:443/?p00")
    assert one.address == other.address == ElementAddress("key1.com", "host.example", 443)
    assert one.sen == "Key1.COM"


def test_a_psk_is_64_digits_of_either_case_with_blanks_around():
    assert decode_psk(f" {PSK.hex().upper()}\n") == PSK
