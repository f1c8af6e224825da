# SPDX-License-Identifier: Apache-2.0
"""RACS: forms are lines and back, any cut is the same, no detour reaches a forbidden applet."""

from hypothesis import given
from hypothesis import strategies as st

from iose.iso7816.apdu import CommandApdu
from iose.protocols.racs.form import (
    RacsUri,
    decode_form,
    decode_racs_uri,
    encode_form,
    encode_racs_uri,
)
from iose.servers.racs.firewall import Firewall, channel_of
from iose.servers.racs.policy import AccessPolicy, Rule
from iose.wire.errors import DecodeError
from tests.fuzz.racs_server import serve
from tests.support.racs_server import canned

TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
LINES = st.lists(st.lists(TOKENS, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=6)
WORDS = st.sampled_from(
    ["BEGIN", "END", "LIST", "ECHO x", "APPEND", "QUIT", "FOO", "", "// c", "\x00"]
)

ALLOWED, OTHER, ISD = "010203040500", "01020304050001", "A000000151000000"
APPLETS = (ALLOWED, OTHER, "0102030405", "A00000006203", ISD)


@given(LINES)
def test_a_form_gives_its_lines_back(lines):
    assert decode_form(encode_form(lines)) == tuple(lines)


@given(LINES, st.sampled_from(["gose.example", "127.0.0.1", "::1"]), st.integers(1, 65_535))
def test_a_uri_gives_its_request_back(lines, host, port):
    inner = [line for line in lines if line.split(" ")[0] not in {"BEGIN", "END"}]
    uri = RacsUri(host, port, lines=("BEGIN", *inner, "END"))
    assert decode_racs_uri(encode_racs_uri(uri)) == uri


@given(st.lists(WORDS, max_size=20), st.sampled_from(["\r\n", "\n"]))
def test_any_order_of_lines_is_answered_the_same_however_it_is_cut(words, end):
    serve(end.join((*words, "")).encode("latin-1"))


class CardModel:
    """A card with several applets: selects by the first match of a prefix, on any channel.

    It looks at no bits of chaining or secure messaging: the laxest there may be.
    """

    def __init__(self):
        self.selected = {0: ALLOWED}
        self.reached = []

    def process(self, command):
        channel = channel_of(command[0])
        if command[1] == 0xA4:
            return self.select(command, channel)
        self.reached.append(self.selected.get(channel, "?"))
        return 0x9000

    def select(self, command, channel):
        try:
            data = CommandApdu.decode(command).data
        except DecodeError:
            data = command[5:]
        if command[2] != 4:
            self.selected[channel] = OTHER
            return 0x9000
        wanted = data.hex().upper() or ISD
        matches = [aid for aid in APPLETS if aid.startswith(wanted)]
        if not matches:
            return 0x6A82
        self.selected[channel] = matches[1 if command[3] & 2 and len(matches) > 1 else 0]
        return 0x9000


BYTES = st.integers(0, 255)
SELECTS = st.builds(
    lambda cla, p1, p2, aid, cut, tail: (
        bytes((cla, 0xA4, p1, p2, len(bytes.fromhex(aid)[:cut]))) + bytes.fromhex(aid)[:cut] + tail
    ),
    st.sampled_from([0x00, 0x01, 0x04, 0x0C, 0x10, 0x40, 0x80, 0x84, 0xA0, 0xFF]),
    st.sampled_from([4, 0, 8]),
    st.sampled_from([0, 2, 4, 0x0C, 0x10]),
    st.sampled_from(APPLETS),
    st.integers(0, 16),
    st.sampled_from([b"", b"\x00", b"\x00\x00"]),
)
OTHERS = st.builds(
    lambda cla, ins, rest: bytes((cla, ins)) + rest,
    BYTES,
    st.sampled_from([0x70, 0x20, 0xB0, 0xC0, 0x82, 0xD8]),
    st.binary(min_size=2, max_size=5),
)


@given(st.lists(SELECTS | OTHERS | st.binary(min_size=4, max_size=12), max_size=12))
def test_no_order_of_commands_reaches_an_applet_that_is_not_allowed(commands):
    rules = [Rule("u", ("*",), ("APDU",), (ALLOWED, "default"))]
    grant = AccessPolicy(rules).check(frozenset({"u"}), canned("key1"))
    firewall, card = Firewall(), CardModel()
    for command in commands:
        if firewall.judge(command, grant) is None:
            firewall.note(command, card.process(command))
    assert set(card.reached) <= {ALLOWED}
