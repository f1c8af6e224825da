# SPDX-License-Identifier: Apache-2.0
"""TLS sessions with an element: handshakes, manners of both wires, limits, and every way to end."""

from contextlib import suppress

import pytest

from iose.applets.tls_se import CommandSet, Flag, Limits, Settings, Wire
from iose.crypto.base import Curve, HashAlgorithm
from iose.iso7816.apdu import CommandApdu
from iose.tls import AlertReceived, ClientConfig, PreSharedKey
from iose.tls.client import hello as client_hello
from iose.tls.constants import (
    AlertDescription,
    CipherSuite,
    ContentType,
    ExtensionType,
    NamedGroup,
)
from iose.tls.events import HandshakeComplete, PeerClosed
from tests.support.element import (
    CRYPTO,
    DEMO_PSK,
    REFERENCE,
    Client,
    Element,
    demo,
    reference,
    reference_client,
)
from tests.support.engine_pair import IDENTITY, PSK
from tests.support.shared import VECTORS

CHIP = Settings(limits=Limits.CHIP)
ALL_SETTINGS = [
    Settings(wire, limits, commands)
    for wire in Wire
    for limits in Limits
    for commands in CommandSet
]
CCS = b"\x14\x03\x03\x00\x01\x01"
FAILURE = "6D16"


def opened(personalisation=None, **settings: object) -> Client:
    """Return a client on an open session."""
    client = reference_client(Element(personalisation or demo()), **settings).connect()
    assert client.status == 0x9001
    return client


def refused(element: Element, psk: PreSharedKey | None = None, **settings: object) -> Client:
    """Return a client whose handshake an element refuses."""
    client = reference_client(element, *([psk] if psk else []), **settings)
    try:
        client.connect()
    except AlertReceived as alert:
        client.events.append(alert)  # for its tests to look at
    assert not client.engine.is_open
    return client


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda s: f"{s.wire}-{s.limits}")
def test_a_session_opens_answers_and_ends(settings: Settings):
    client = opened(demo(settings))
    assert client.command("?01hello") == "hello"
    assert client.command("c00") == client.command("g00") == "OK"
    public = bytes.fromhex(client.command("p00"))
    signature = bytes.fromhex(client.command("s00" + "11" * 32))
    CRYPTO.ecdsa_verify(Curve.SECP256K1, public, b"\x11" * 32, signature)
    assert client.status == 0x9000
    assert client.command("?02") == ""
    if settings.is_hardened:
        assert client.status == 0x9002
        assert PeerClosed(AlertDescription.CLOSE_NOTIFY) in client.events
    else:
        assert (str(client.status), client.received) == (FAILURE, b"")
    assert client.element.faults == []


VARIANTS = {
    "wrong psk": {},
    "wrong identity": {},
    "default groups (x25519 share)": {"groups": (NamedGroup.X25519, NamedGroup.SECP256R1)},
    "groups P-256:X25519 (P-256 share only)": {"groups": (NamedGroup.SECP256R1, NamedGroup.X25519)},
    "GCM only": {"suites": (CipherSuite.TLS_AES_128_GCM_SHA256,)},
    "GCM then CCM": {
        "suites": (CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_128_CCM_SHA256)
    },
    "no middlebox compat": {"middlebox_compatibility": False},
    "long SNI 200": {"server_name": ".".join(["a" * 49] * 4)},
}


def recorded_statuses(name: str) -> list[str]:
    """Return the status words of one ClientHello of many kinds, and what followed it."""
    blocks = (VECTORS / "handshake_variants.txt").read_text().split("== ")
    (block,) = [text for text in blocks if text.startswith(name + "\n")]
    return [line.split()[-1] for line in block.splitlines() if "->" in line]


def after_hello(statuses: list[str]) -> list[str]:
    """Return the statuses from that of the last fragment of the ClientHello on."""
    first = next(i for i, status in enumerate(statuses) if status != "9000")
    return statuses[first:]


class TestCosts:
    """Commands per handshake: on a chip they are the cost."""

    @pytest.mark.parametrize(
        ("settings", "chunk", "le", "middlebox", "count"),
        [
            (REFERENCE, 240, None, True, 7),
            (REFERENCE, 240, None, False, 5),
            (Settings(), 240, None, True, 6),
            (Settings(), 255, 256, True, 6),
            (Settings(), 65_535, 65_536, True, 4),
            (CHIP, 240, None, True, 7),
        ],
    )
    def test_handshake(self, settings, chunk, le, middlebox, count):
        client = reference_client(
            Element(demo(settings)), server_name="key1.com", middlebox_compatibility=middlebox
        )
        client.chunk, client.le = chunk, le
        client.connect()
        assert client.status == 0x9001
        assert client.element.apdus == count

    @pytest.mark.parametrize("settings", [REFERENCE, Settings(), CHIP])
    def test_a_command_costs_one(self, settings: Settings):
        client = opened(demo(settings))
        before = client.element.apdus
        client.command("?00")
        assert client.element.apdus == before + 1


class TestReference:
    """The compatible wire with chip limits, as observed on the published applet."""

    def test_gives_its_flight_in_three(self):
        element = Element(reference())
        client = reference_client(element)
        client.engine.start()
        (hello,) = client.engine.records_to_send()
        first = element.transmit(CommandApdu(0, 0xD8, 0, 1, hello[:240]))
        assert (first.data, first.status) == (b"", 0x9000)
        second = element.transmit(CommandApdu(0, 0xD8, 0, 2, hello[240:]))
        assert (len(second.data), second.status) == (166, 0x9F1C)
        assert element.apdu("00C000001B") == element.apdu("00C0000000") == "6C1C"
        assert element.apdu("00D8000306140303000101") == "6C1C"
        third = element.transmit(CommandApdu(0, 0xC0, 0, 0, b"", 0x1C))
        assert (len(third.data), third.status) == (28, 0x9F3A)
        last = element.transmit(CommandApdu(0, 0xC0, 0, 0, b"", 0x3A))
        assert (len(last.data), last.status) == (58, 0x9000)
        assert element.apdu("00C000003A") == "9000"

    @pytest.mark.parametrize("name", VARIANTS)
    def test_answers_hellos_of_many_kinds_as_recorded(self, name: str):
        element = Element(reference())
        psk = {
            "wrong psk": PreSharedKey(IDENTITY, bytes(32)),
            "wrong identity": PreSharedKey(b"somebody", DEMO_PSK),
        }.get(name, PSK)
        client = reference_client(element, psk, **VARIANTS[name])
        client.connect()
        if client.engine.is_open:
            assert client.command("?00") == "Ethertrust keystore 1.3"
            client.command("?02")
        assert after_hello(element.statuses[1:]) == after_hello(recorded_statuses(name))
        assert client.received == b""
        assert reference_client(element).connect().status == 0x9001

    @pytest.mark.parametrize(
        ("settings", "status"), [(REFERENCE, 0x9001), (Settings(), 0x9002)], ids=str
    )
    def test_takes_a_hello_without_psk_modes_unless_hardened(
        self, monkeypatch: pytest.MonkeyPatch, settings: Settings, status: int
    ):
        offered = client_hello._fixed_extensions

        def without_modes(config: ClientConfig) -> dict[int, bytes]:
            kept = offered(config)
            del kept[ExtensionType.PSK_KEY_EXCHANGE_MODES]
            return kept

        monkeypatch.setattr(client_hello, "_fixed_extensions", without_modes)
        client = reference_client(Element(demo(settings)))
        with suppress(AlertReceived):
            client.connect()
        assert client.status == status

    def test_refuses_a_hello_without_psk_as_recorded(self):
        element = Element(reference())
        client = reference_client(element)
        client.engine.start()
        (hello,) = client.engine.records_to_send()
        response = element.send(hello.replace(b"\x00\x29\x00\x3a", b"\x00\xfa\x00\x3a"))
        assert (response.data, str(response.status)) == (b"", FAILURE)
        assert after_hello(recorded_statuses("no psk")) == [FAILURE]

    def test_the_hello_of_another_host_gets_answers_of_the_recorded_size(self):
        recorded = (VECTORS / "author_server_java.txt").read_text()
        element = Element(reference())
        pending = ""
        compared = 0
        for text in recorded.splitlines():
            kind, _, value = text.partition(": ")
            if kind == "TxSE":
                pending = value
            elif kind == "RxSE" and pending.startswith(("00D8", "00C0")):
                answer = element.apdu(pending)
                assert (len(answer), answer[-4:]) == (len(value), value[-4:])
                compared += 1
                if pending == "00C000003A":
                    break  # what follows needs the client's ephemeral key
            elif kind == "RxSE" and pending:
                assert element.apdu(pending) == value
        assert compared == 5

    def test_490_bytes_fit_and_491_do_not(self):
        client = opened(reference())
        text = "x" * (490 - 5)
        assert client.command("?01" + text) == text
        client.command("?01x" + text)
        assert (str(client.status), client.received) == ("6D02", b"")

    def test_an_empty_record_is_an_error_line(self):
        client = opened(reference())
        record = client.engine._session.writer.protect(ContentType.APPLICATION_DATA, b"")
        assert client.send(record) == 0x9000
        assert client.events[-1].data == b"ERROR\r\n"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda client: client.engine.send_key_update(request_peer=False),
            lambda client: client.engine.close(),
            lambda client: client.engine._session.records.append(CCS),
        ],
        ids=["KeyUpdate", "close_notify", "second CCS"],
    )
    def test_ends_at_what_it_does_not_know(self, spoil):
        client = opened(reference())
        spoil(client)
        client.flush()
        assert (str(client.status), client.received) == (FAILURE, b"")
        assert client.send(b"\x17\x03\x03\x00\x13" + bytes(19)).sw1 == 0x6D

    def test_ends_at_padding(self):
        client = opened(reference(), record_padding=16)
        assert client.command("?00") == ""
        assert str(client.status) == FAILURE

    def test_a_wrong_old_psk_ends_the_session(self):
        client = opened(reference())
        client.command("?AA" + "00" * 64)
        assert (str(client.status), client.received) == (FAILURE, b"")


class TestHooks:
    """P1 of SEND, in a compatible element."""

    def send(self, client: Client, p1: int, data: bytes) -> str:
        response = client.element.transmit(CommandApdu(0, 0xD8, p1, 3, data))
        self.data = response.data
        return str(response.status)

    def test_decrypts_and_encrypts_for_the_host(self):
        client = opened(reference())
        client.engine.send_data(b"hello\n")
        (record,) = client.engine.records_to_send()
        assert self.send(client, 1, record) == "9000"
        assert self.data == b"hello\n\x17"
        assert self.send(client, 2, b"world\n\x17") == "9000"
        client.engine.receive_data(self.data)
        assert client.engine.next_event().data == b"world\n"

    def test_hands_over_the_clients_close_notify_and_makes_its_own(self):
        client = opened(reference())
        client.engine.close()
        (record,) = client.engine.records_to_send()
        assert self.send(client, 1, record) == "9000"
        assert self.data == b"\x01\x00\x15"
        assert self.send(client, 2, self.data) == "9000"
        assert len(self.data) == 24
        assert self.send(client, 2, b"\x01\x00\x15") == "6D02"

    def test_closes_first_when_the_host_says_so(self):
        client = opened(reference())
        assert self.send(client, 2, b"\x01\x00\x15") == "9000"
        client.engine.receive_data(self.data)
        assert client.engine.is_closed

    def test_encrypts_nothing_else(self):
        client = opened(reference())
        assert self.send(client, 2, b"\x14\x00\x00\x00\x16") == FAILURE
        assert self.send(client, 2, b"world\x17") == "6D02"

    def test_decrypts_no_forgery(self):
        client = opened(reference())
        assert self.send(client, 1, b"\x17\x03\x03\x00\x13" + bytes(19)) == FAILURE

    def test_decrypts_only_what_carries_data(self):
        client = opened(reference())
        client.engine.send_key_update(request_peer=False)
        (record,) = client.engine.records_to_send()
        assert self.send(client, 1, record) == FAILURE

    def test_the_self_test_greets_and_closes(self):
        client = opened(reference())
        client.engine.send_data(b"GET /\r\n")
        (record,) = client.engine.records_to_send()
        assert self.send(client, 3, record) == "9002"
        client.engine.receive_data(self.data)
        assert client.engine.next_event().data == b"I hear you fa shizzle!"

    def test_another_mode_answers_and_closes(self):
        client = opened(reference())
        client.engine.send_data(b"?00\n")
        (record,) = client.engine.records_to_send()
        assert self.send(client, 7, record) == "9002"
        assert self.send(client, 0, record) == FAILURE

    def test_returns_what_it_got(self):
        element = Element(reference())
        data = bytes(range(200))
        assert element.apdu(f"00D8FF03C8{data.hex()}") == data.hex().upper() + "9000"
        assert element.apdu(f"00D80001C8{data.hex()}") == "9000"
        assert element.apdu(f"00D8FF02C8{data.hex()}") == "9FF0"
        assert element.apdu("00C00000F0")[-4:] == "9FA0"
        assert element.apdu("00C00000A0") == data[40:].hex().upper() + "9000"


class TestHardened:
    """The default element."""

    @pytest.mark.parametrize("group", list(NamedGroup))
    @pytest.mark.parametrize(
        "suite", [s for s in CipherSuite if s is not CipherSuite.TLS_AES_256_GCM_SHA384]
    )
    def test_serves_every_group_and_suite(self, group: NamedGroup, suite: CipherSuite):
        client = opened(demo(), groups=(group,), suites=(suite,))
        assert client.command("?00") == "iose keystore/1"

    def test_asks_for_a_share_it_can_use(self):
        element = Element(demo())
        client = Client(element, groups=(NamedGroup.X25519_MLKEM768,)).connect()
        assert client.status == 0x9001

    def test_a_hybrid_hello_is_too_long_for_a_chip(self):
        client = reference_client(Element(demo(CHIP)), groups=(NamedGroup.X25519_MLKEM768,))
        client.element.reset_session()
        client.engine.start()
        (hello,) = client.engine.records_to_send()
        pieces = [hello[i : i + 240] for i in range(0, len(hello), 240)]
        answers = [
            str(client.element.transmit(CommandApdu(0, 0xD8, 0, not i, piece)).status)
            for i, piece in enumerate(pieces)
        ]
        assert answers[:3] == ["9000", "9000", "6D02"]
        assert reference_client(client.element).connect().status == 0x9001

    def test_wrong_identity_and_wrong_key_look_alike(self):
        element = Element(demo())
        answers = set()
        for psk in (PreSharedKey(IDENTITY, bytes(32)), PreSharedKey(b"somebody", DEMO_PSK)):
            client = refused(element, psk)
            answers.add((client.received, client.status))
        ((received, status),) = answers
        assert received == b"\x15\x03\x03\x00\x02\x02\x33"
        assert status == 0x9002

    @pytest.mark.parametrize(
        ("settings", "alert"),
        [
            ({"suites": (CipherSuite.TLS_AES_256_GCM_SHA384,)}, None),
            ({"psk": PreSharedKey(IDENTITY, bytes(32))}, AlertDescription.DECRYPT_ERROR),
        ],
    )
    def test_says_why_in_an_alert(self, settings: dict, alert: AlertDescription | None):
        if alert is None:
            key = PreSharedKey(IDENTITY, DEMO_PSK, HashAlgorithm.SHA384)
            settings = {"psk": key, **settings}
            alert = AlertDescription.HANDSHAKE_FAILURE
        client = refused(Element(demo()), **settings)
        assert client.received[-1] == alert
        assert client.status == 0x9002

    def test_answers_close_notify_in_kind(self):
        client = opened()
        client.engine.close()
        (record,) = client.engine.records_to_send()
        response = client.element.send(record)
        assert response.status == 0x9002
        assert len(response.data) == 24
        assert client.element.send(record).status == 0x9002

    def test_follows_key_updates(self):
        client = opened()
        for request_peer in (False, True):
            client.engine.send_key_update(request_peer=request_peer)
            assert client.flush().status == 0x9000
            assert bool(client.received) == request_peer
            assert client.command("?01still here") == "still here"

    def test_reads_padded_records(self):
        client = opened(record_padding=256)
        assert client.command("?01hello") == "hello"

    def test_keeps_to_small_records_when_asked(self):
        client = opened(demo(), record_size_limit=64)
        long = "x" * 40
        assert client.command("?FF" + "ab" * 25) == "AB" * 25
        assert client.command("?01" + long) == long
        assert len(client.received) <= 64 + 5 + 16

    def test_a_chip_asks_for_small_records_itself(self):
        client = opened(demo(CHIP), record_size_limit=16_385)
        assert client.engine._session.writer.inner_limit == 491

    def test_long_lines_pass_with_wide_limits(self):
        client = opened()
        text = "x" * 16_000
        assert client.command("?01" + text) == text
        client.chunk, client.le = 65_535, 65_536
        before = client.element.apdus
        assert client.command("?01" + text) == text
        assert client.element.apdus == before + 1

    def test_announces_what_is_left(self):
        client = opened()
        client.engine.send_data(b"?01" + b"x" * 700 + b"\n")
        (record,) = client.engine.records_to_send()
        element = client.element
        for start in range(0, len(record), 255):
            piece = record[start : start + 255]
            last = start + 255 >= len(record)
            first = element.transmit(CommandApdu(0, 0xD8, 0, (not start) | last << 1, piece))
        assert (len(first.data), str(first.status)) == (256, "9FFF")
        assert element.apdu("00C0000010") == "6CFF"
        second = element.transmit(CommandApdu(0, 0xC0, 0, 0, b"", 0xFF))
        assert (len(second.data), str(second.status)) == (255, "9FD5")
        third = element.transmit(CommandApdu(0, 0xC0, 0, 0, b"", 256))
        assert (len(third.data), str(third.status)) == (213, "9000")
        client.engine.receive_data(first.data + second.data + third.data)
        assert client.engine.next_event().data == b"x" * 700 + b"\r\n"
        assert client.command("?01still here") == "still here"

    def test_a_full_medium_is_refused_and_the_session_goes_on(self):
        client = opened()
        client.element.store.full = True
        assert client.command("g00") == "ERROR"
        assert client.command("?AA" + DEMO_PSK.hex() + "00" * 32) == "ERROR"
        client.element.store.full = False
        assert client.command("g00") == "OK"


@pytest.mark.parametrize("settings", [REFERENCE, Settings()], ids=["compatible", "hardened"])
class TestFailures:
    """Every failure leaves a closed session, and the next one works."""

    def failed(self, client: Client, settings: Settings) -> None:
        if settings.is_hardened:
            assert client.status == 0x9002
            assert client.received
        else:
            assert (str(client.status), client.received) == (FAILURE, b"")
        assert reference_client(client.element).connect().command("?01again") == "again"
        assert client.element.faults == []

    def send(self, client: Client, record: bytes) -> None:
        response = client.element.send(record)
        client.status, client.received = response.status, response.data

    def test_a_flipped_bit_anywhere_in_a_record(self, settings: Settings):
        client = opened(demo(settings))
        client.engine.send_data(b"?01hello\n")
        (record,) = client.engine.records_to_send()
        for position in [0, 1, 2, *range(5, len(record))]:
            spoilt = bytearray(record)
            spoilt[position] ^= 0x40
            victim = opened(demo(settings))
            self.send(victim, bytes(spoilt))
            self.failed(victim, settings)

    def test_a_flipped_bit_in_the_finished(self, settings: Settings):
        element = Element(demo(settings))
        client = reference_client(element)
        element.reset_session()
        client.engine.start()
        client.send(client.engine.records_to_send()[0])
        finished = bytearray(client.engine.records_to_send()[-1])
        finished[-1] ^= 1
        self.send(client, bytes(finished))
        self.failed(client, settings)

    def test_a_replayed_record(self, settings: Settings):
        client = opened(demo(settings))
        client.engine.send_data(b"?01hello\n")
        (record,) = client.engine.records_to_send()
        self.send(client, record)
        assert client.status == 0x9000
        self.send(client, record)
        self.failed(client, settings)

    def test_application_data_instead_of_a_hello(self, settings: Settings):
        client = reference_client(Element(demo(settings)))
        self.send(client, b"\x17\x03\x03\x00\x13" + bytes(19))
        self.failed(client, settings)

    def test_an_alert_of_the_client(self, settings: Settings):
        client = reference_client(Element(demo(settings)))
        client.element.reset_session()
        client.engine.start()
        client.send(client.engine.records_to_send()[0])
        self.send(client, b"\x15\x03\x03\x00\x02\x02\x33")
        assert client.received == b""
        assert str(client.status) == ("9002" if settings.is_hardened else FAILURE)

    @pytest.mark.parametrize("record", ["", "16", "1603030001", "16030300020101010101"])
    def test_a_record_not_of_its_length_changes_nothing(self, settings: Settings, record: str):
        client = opened(demo(settings))
        data = bytes.fromhex(record)
        assert str(client.element.transmit(CommandApdu(0, 0xD8, 0, 3, data)).status) == "6D02"
        assert client.command("?01still here") == "still here"

    def test_a_reset_forgets_the_fragments_before_it(self, settings: Settings):
        client = opened(demo(settings))
        assert client.element.apdu("00D8000103170303") == "9000"
        client.element.reset_session()
        assert client.element.apdu("00D80002020000") == "6D02"

    def test_a_first_fragment_forgets_what_came_before(self, settings: Settings):
        client = opened(demo(settings))
        assert client.element.apdu("00D8000103170303") == "9000"
        assert client.command("?01still here") == "still here"

    @pytest.mark.parametrize(
        "end", ["00D8000000", "00A4040006010203040500"], ids=["RESET", "SELECT"]
    )
    def test_reset_and_selection_end_it(self, settings: Settings, end: str):
        client = opened(demo(settings))
        assert client.element.apdu(end) == "9000"
        client.engine.send_data(b"?00\n")
        self.send(client, client.engine.records_to_send()[0])
        self.failed(client, settings)

    def test_fragments_of_one_byte_are_as_good(self, settings: Settings):
        element = Element(demo(settings))
        client = reference_client(element)
        client.chunk = 1
        assert client.connect().command("?01hello") == "hello"


def test_the_psk_changes_at_once_and_the_session_goes_on():
    new = PreSharedKey(IDENTITY, b"\xc0" * 32)
    client = opened()
    assert client.command("?AA" + DEMO_PSK.hex() + "C0" * 32) == "C0" * 32
    assert client.command("?01still here") == "still here"
    assert refused(client.element).status == 0x9002
    assert reference_client(client.element, new).connect().status == 0x9001
    again = Element(contents=client.element.store.contents)
    assert reference_client(again, new).connect().status == 0x9001


def test_a_psk_set_with_a_salt_of_its_own_is_no_psk_of_tls():
    element = Element(reference())
    element.verify_user()
    assert element.apdu("0085000A23010120" + DEMO_PSK.hex()) == "9000"
    assert str(refused(element).status) == FAILURE
    assert element.apdu("0085000A23010020" + DEMO_PSK.hex()) == "9000"
    assert reference_client(element).connect().status == 0x9001


def test_the_guest_has_an_identity_and_fewer_rights():
    guest = PreSharedKey(b"visitor", b"\x11" * 32)
    client = opened()
    assert client.command("?06visitor") == client.command("?A0" + "11" * 32) == "OK"
    assert refused(client.element, guest).status == 0x9002
    client = reference_client(client.element).connect()
    assert client.command("?A501") == client.command("g00") == "OK"
    visitor = reference_client(client.element, guest).connect()
    assert visitor.command("?00") == "iose keystore/1"
    assert visitor.command("p00") == visitor.command("s0000") == "ERROR"
    assert visitor.command("?0C00").startswith("30")
    owner = reference_client(client.element).connect()
    assert owner.command("p00").startswith("04")


def guest_session(**given: object) -> Client:
    """Return a client that has begun a handshake as a guest of a compatible element."""
    settings = Settings(Wire.COMPATIBLE)
    element = Element(demo(settings, guest_psk=b"\x11" * 32, flags=Flag.GUEST_ENABLED, **given))
    client = reference_client(element, PreSharedKey(b"guest", b"\x11" * 32))
    element.reset_session()
    client.engine.start()
    (hello,) = client.engine.records_to_send()
    assert client.send(hello) == 0x9000
    element.verify_admin()
    return client


def keystore_apdu(element: Element, line: bytes) -> str:
    return element.apdu(f"00DA00FF{len(line):02X}{line.hex()}")


def test_a_reset_forgets_a_half_fetched_answer():
    client = reference_client(Element(demo(CHIP)))
    client.engine.start()
    (hello,) = client.engine.records_to_send()
    client.element.transmit(CommandApdu(0, 0xD8, 0, 1, hello[:240]))
    assert client.element.apdu(f"00D80002{len(hello) - 240:02X}{hello[240:].hex()}") == "9FF0"
    assert client.element.apdu("00C00000F0").endswith("9F12")
    assert reference_client(client.element).connect().status == 0x9001


@pytest.mark.parametrize("line", [b"?A500\n", b"?06other\n"])
def test_a_guest_stays_one_whatever_changes_during_its_handshake(line: bytes):
    client = guest_session()
    assert keystore_apdu(client.element, line) == b"OK\r\n".hex().upper() + "9000"
    assert client.flush().status == 0x9001
    assert client.command("?01hello") == "hello"
    assert client.command("c00") == "ERROR"


def test_the_rights_of_a_guest_end_with_its_session():
    client = guest_session()
    client.flush()
    assert keystore_apdu(client.element, b"c00\n").startswith(b"ERROR".hex().upper())
    client.element.apdu("00D8000000")
    assert keystore_apdu(client.element, b"c00\n").startswith(b"OK".hex().upper())


@pytest.mark.parametrize("end", ["00D8000000", "00D80003051703030000"])
def test_nothing_is_proved_with_the_secret_of_a_session_that_is_over(end: str):
    client = opened(reference())
    client.element.verify_admin()
    assert keystore_apdu(client.element, b"?0C00\n").startswith(b"30".hex())
    client.element.apdu(end)
    for line in (b"?0C00\n", b"?0D\n"):
        assert keystore_apdu(client.element, line).startswith(b"ERROR".hex().upper())


def test_identities_are_what_they_were_set_to():
    client = opened()
    assert client.command("?05owner") == "OK"
    assert client.command("?01still here") == "still here"
    assert refused(client.element).status == 0x9002
    owner = PreSharedKey(b"owner", DEMO_PSK)
    assert reference_client(client.element, owner).connect().status == 0x9001


@pytest.mark.parametrize("settings", [Settings(), Settings(Wire.COMPATIBLE, Limits.CHIP)])
def test_answers_to_its_own_name_alone_when_told(settings: Settings):
    element = Element(demo(settings, flags=Flag.CHECK_SERVER_NAME))
    assert reference_client(element, server_name="KEY1.com").connect().status == 0x9001
    client = refused(element, server_name="key2.com")
    if settings.is_hardened:
        assert client.received[-1] == AlertDescription.UNRECOGNIZED_NAME
    else:
        assert str(client.status) == FAILURE


@pytest.mark.parametrize("settings", [REFERENCE, Settings()])
def test_proves_its_key_over_the_secret_both_ends_have(settings: Settings):
    client = opened(demo(settings))
    public = bytes.fromhex(client.command("?0A"))
    signature = bytes.fromhex(client.command("?0C" + "AB" * 32))
    secret = client.engine.handshake_secret
    digest = CRYPTO.hash(HashAlgorithm.SHA256, secret + b"\xab" * 32)
    CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signature)
    if settings is REFERENCE:
        assert client.command("?0D") == secret.hex().upper()


def test_tells_the_client_what_was_agreed():
    client = reference_client(Element(demo())).connect()
    (complete,) = [item for item in client.events if isinstance(item, HandshakeComplete)]
    assert complete.cipher_suite is CipherSuite.TLS_AES_128_CCM_SHA256
    assert complete.group is NamedGroup.SECP256R1
