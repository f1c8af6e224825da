# SPDX-License-Identifier: Apache-2.0
"""The APDU table of tls-se.md §4: who may do what, what it answers, and how it refuses."""

import pytest

from iose.applet_commands.curves import KeyParameter, domain_parameter
from iose.applets.tls_se import CommandSet, Personalisation, Settings, Wire, read_secrets
from iose.applets.tls_se.endpoint import TestValues
from iose.crypto.base import Curve, HashAlgorithm
from tests.support.element import CRYPTO, DEMO_PSK, Element, demo, reference

USER, ADMIN = "user", "admin"
SHA256 = HashAlgorithm.SHA256
G = domain_parameter(Curve.SECP256R1, KeyParameter.GENERATOR).hex().upper()


def element(pin: str | None = ADMIN, personalisation: Personalisation | None = None) -> Element:
    made = Element(personalisation or reference())
    if pin == USER:
        made.verify_user()
    elif pin == ADMIN:
        made.verify_admin()
    return made


class TestPins:
    """§2."""

    def test_counts_wrong_pins_down_to_the_block(self):
        card = element(None)
        assert [card.apdu("002000000431313131") for _ in range(4)] == [
            "6302",
            "6301",
            "6300",
            "6300",
        ]
        assert card.apdu("002000000430303030") == "6300"

    def test_the_administrator_unblocks_the_user(self):
        card = element(None)
        for _ in range(3):
            card.apdu("002000000431313131")
        assert card.apdu("00200001083131313131313131") == "6309"
        card.verify_admin()
        card.verify_user()

    def test_restores_the_user_pin(self):
        card = element(None)
        assert card.apdu("0024000010" + "30303030FFFFFFFF" + "3132333435363738") == "9000"
        assert card.apdu("002000000430303030") == "6302"
        assert card.apdu("002000FF083030303030303030") == "9000"
        card.verify_user()

    def test_a_hardened_element_restores_no_published_pin(self):
        card = element(None, demo())
        assert card.apdu("002000FF083030303030303030") == "6985"

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("0020000000", "6700"),
            ("002000000900000000000000FFFF", "6700"),
            ("0020000009303030303030303030", "6700"),
            ("00200001043030303030", "6700"),
            ("0020000104" + "30" * 4, "6700"),
            ("0020000204" + "30" * 4, "6B00"),
            ("0024000210" + "30" * 16, "6B00"),
            ("0024000008" + "30" * 8, "6700"),
            ("0024000010" + "31" * 16, "6302"),
            ("0024000110" + "31" * 16, "6309"),
        ],
    )
    def test_refuses(self, command: str, answer: str):
        assert element(None).apdu(command) == answer

    def test_changes_the_administrators_pin(self):
        card = element(None)
        assert card.apdu("0024000110" + "30" * 8 + "31" * 8) == "9000"
        assert card.apdu("0020000108" + "30" * 8) == "6309"
        assert card.apdu("0020000108" + "31" * 8) == "9000"

    def test_selection_and_reset_forget_who_was_verified(self):
        card = element(USER)
        assert card.apdu("0087000004") == "0106F7069000"
        assert card.apdu("00A4040006010203040500") == "9000"
        assert card.apdu("0087000004") == "6380"
        card.verify_user()
        card.card.reset()
        assert card.apdu("0087000004") == "6380"


FOR_USERS = [
    "0087000004",
    "00B0000010",
    "008500020401AA01BB",
    "008000FE20" + "11" * 32,
    "00840600",
    "008A00FF41" + G,
    "008B000010",
    "008E000040",
]
FOR_ADMINISTRATORS = [
    "00D000000101",
    "00DA000120" + "00" * 32,
    "00DA000A03414243",
    "00DA00FF053F30300D0A",
    "0081000000",
    "0082000000",
    "0084070000",
    "00880600410400",
    "0089000000",
    "008F000040" + "00" * 64,
    "00E2800000",
]


@pytest.mark.parametrize("command", FOR_USERS)
def test_a_pin_is_needed(command: str):
    assert element(None).apdu(command)[:4] in ("6380", "6700")
    assert element(USER).apdu(command)[-4:] != "6380"
    assert element(ADMIN).apdu(command)[-4:] != "6380"


@pytest.mark.parametrize("command", FOR_ADMINISTRATORS)
def test_the_administrators_pin_is_needed(command: str):
    assert element(USER).apdu(command)[:4] in ("6380", "6700")
    assert element(ADMIN).apdu(command)[-4:] != "6380"


def test_unknown_instructions_are_refused():
    assert element().apdu("0010000000") == "6D00"


def test_a_hardened_element_refuses_other_classes():
    assert Element().apdu("80D8000000") == "6E00"
    assert Element(reference()).apdu("80D8000000") == "9000"


class TestMemory:
    """READ and WRITE, over the records of the keystore."""

    def test_reads_what_was_written_across_records(self):
        card = element()
        data = bytes(range(200)).hex().upper()
        assert card.apdu("00D0003EC8" + data) == "9000"
        assert card.apdu("00B0003EC8") == data + "9000"
        assert card.apdu("00B0003C03") == "0000009000"
        assert card.apdu("00B0070000") == "00" * 256 + "9000"

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("00B007FF02", "6D01"),
            ("00B0080001", "6D01"),
            ("00D007FF020102", "6D02"),
            ("00D0FFFF0101", "6D02"),
            ("00D0000000", "6700"),
        ],
    )
    def test_stays_within_its_2048_bytes(self, command: str, answer: str):
        assert element().apdu(command) == answer

    def test_the_last_byte_is_there(self):
        card = element()
        assert card.apdu("00D007FF01AB") == "9000"
        assert card.apdu("00B007FF01") == "AB9000"

    def test_an_emptied_record_leaves_nothing_in_it(self):
        card = element()
        assert keystore(card, "Z00secret") == keystore(card, "Z00") == "OK"
        assert card.apdu("00B0000040") == "00" * 64 + "9000"

    def test_keystore_records_lie_in_it(self):
        card = element()
        assert keystore(card, "Z01text") == "OK"
        assert card.apdu("00B0004004") == b"text".hex().upper() + "9000"
        assert card.apdu("00D000400154") == "9000"
        assert keystore(card, "I01") == "Text"


def keystore(card: Element, line: str) -> str:
    data = line.encode() + b"\n"
    answer = bytes.fromhex(card.apdu(f"00DA00FF{len(data):02X}{data.hex()}"))
    assert answer[-2:] == b"\x90\x00"
    return answer[:-4].decode()


class TestTestCommand:
    """INS DA."""

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("00DA000420" + "00" * 32, "6A86"),
            ("00DA00011F" + "00" * 31, "6700"),
            ("00DA000240" + "00" * 64, "6700"),
            ("00DA000321" + "00" * 33, "6700"),
            ("00DA000A00", "6700"),
            ("00DA000A10" + "41" * 16, "6700"),
            ("00DA000A0F" + "41" * 15, "9000"),
            ("00DA00FF063F300D0A0A0A", "4552524F520D0A9000"),
            ("00DA00FF043F30320A", "6D16"),
            ("00DA00FF033F3030", "4552524F520D0A9000"),
        ],
    )
    def test_answers(self, command: str, answer: str):
        assert element().apdu(command) == answer

    def test_names_the_element_in_its_next_atr(self):
        card = element()
        assert card.atr[-9:-1] == b"key1.com" or card.atr.endswith(b"key1.com")
        assert card.apdu("00DA000A03414243") == "9000"
        assert b"ABC" in card.card.reset()
        assert b"key1.com" not in card.card.reset()

    def test_the_keystore_needs_a_handshake_secret_to_prove(self):
        card = element()
        assert keystore(card, "?0C01") == "ERROR"
        secret = bytes.fromhex(card.apdu("0085000E20" + "11" * 32)[:64])
        public = bytes.fromhex(keystore(card, "?0A"))
        signature = bytes.fromhex(keystore(card, "?0C01"))
        digest = CRYPTO.hash(SHA256, secret + bytes(31) + b"\x01")
        CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signature)
        assert card.apdu("00D8000000") == "9000"
        assert keystore(card, "?0C01") == "ERROR"


class TestKeys:
    """INS 80 to 8F."""

    @pytest.mark.parametrize(
        ("p1", "curve"), [("00", Curve.SECP256R1), ("01", Curve.SECP256R1), ("FF", Curve.SECP256K1)]
    )
    def test_generates_signs_and_reads(self, p1: str, curve: Curve):
        card = element()
        assert card.apdu("0082000200") == "6D10"
        assert card.apdu("0084000200") == "6D30"
        assert card.apdu(f"0089{p1}0200") == "9000"
        assert card.apdu("0082000200") == "9000"
        assert card.apdu("0082000200") == "6401"
        public = bytes.fromhex(card.apdu("0084060200"))
        assert public[:2] == b"\x00\x41"
        for command, digest in (
            ("0080000220" + "11" * 32, b"\x11" * 32),
            ("0080210203414243", CRYPTO.hash(SHA256, b"ABC")),
        ):
            answer = bytes.fromhex(card.apdu(command))
            assert int.from_bytes(answer[:2], "big") == len(answer) - 4
            CRYPTO.ecdsa_verify(curve, public[2:-2], digest, answer[2:-2])
        private = bytes.fromhex(card.apdu("0084070200"))
        assert CRYPTO.public_key(curve, private[2:-2]) == public[2:-2]
        for parameter in range(6):
            value = domain_parameter(curve, KeyParameter(parameter))
            assert card.apdu(f"0084{parameter:02X}0200") == (
                f"{len(value):04X}{value.hex().upper()}9000"
            )

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("0080000420" + "11" * 32, "6985"),
            ("0080000020" + "11" * 32, "6402"),
            ("0080010020" + "11" * 32, "6402"),
            ("008001FE20" + "11" * 32, "6A86"),
            ("008000FE1F" + "11" * 31, "6D20"),
            ("0081000400", "6985"),
            ("008100FE00", "6985"),
            ("008200FF00", "6985"),
            ("0084060000", "6401"),
            ("0084070000", "6402"),
            ("0084080000", "6A86"),
            ("0084060400", "6985"),
            ("008407FE00", "6985"),
            ("0088060041" + G, "6D40"),
            ("0088080001" + "00", "6A86"),
            ("0088000401" + "00", "6985"),
            ("0089000400", "6985"),
            ("008A000041" + G, "6402"),
            ("008A000441" + G, "6985"),
            ("008A00FE41" + G, "6985"),
            ("008A00FF41" + G, "6D50"),
            ("008A00FF41" + "04" + "11" * 64, "6D50"),
            ("008A00FF01" + "04", "6D50"),
            ("008B00000000", "6700"),
            ("008F00003F" + "00" * 63, "6700"),
            ("008FFF0000", "6402"),
            ("008FFF0400", "6985"),
        ],
    )
    def test_refuses(self, command: str, answer: str):
        card = element()
        before = dict(card.store.contents)
        assert card.apdu(command) == answer
        assert card.store.contents == before

    def test_sets_both_halves_once_on_a_known_curve(self):
        card = element()
        private = bytes(31) + b"\x07"
        public = CRYPTO.public_key(Curve.SECP256K1, private).hex().upper()
        order = domain_parameter(Curve.SECP256K1, KeyParameter.ORDER).hex()
        assert card.apdu("0088070120" + private.hex()) == "6D40"
        assert card.apdu("0088050120" + order[:-2] + "00") == "6D40"
        assert card.apdu("0088050120" + order) == "9000"
        assert card.apdu("0088040102" + "0001") == "9000"
        assert card.apdu("0088060141" + public[:-2] + "00") == "6D40"
        assert card.apdu("0088060141" + public) == "9000"
        assert card.apdu("0088060141" + public) == "6401"
        assert card.apdu("0088070120" + "FF" * 32) == "6D40"
        assert card.apdu("0088070121" + "00" * 33) == "6D40"
        assert card.apdu("0088070101" + "07") == "9000"
        assert card.apdu("0088070101" + "07") == "6402"
        assert card.apdu("0082000100") == "6401"
        assert card.apdu("0089000100") == "6985"
        assert card.apdu("0081000100") == card.apdu("0088060141" + public) == "9000"
        assert card.apdu("0089000100") == "6985"
        assert card.apdu("0089FF0100") == "9000"
        assert keystore(card, "p01") == public
        assert card.apdu("0081000100") == "9000"
        assert keystore(card, "p01") == "ERROR"
        assert card.apdu("0088070101" + "07") == "9000"
        assert card.apdu("0082000100") == "6402"

    def test_makes_an_ephemeral_pair_for_every_exchange(self):
        card = element(USER)
        peer = bytes(31) + b"\x05"
        point = CRYPTO.public_key(Curve.SECP256R1, peer).hex()
        assert card.apdu("008406FF00") == "6401"
        shares = set()
        for _ in range(2):
            secret = bytes.fromhex(card.apdu("008A00FF41" + point))[:-2]
            public = bytes.fromhex(card.apdu("008406FF00"))[2:-2]
            assert CRYPTO.ecdh(Curve.SECP256R1, peer, public) == secret
            shares.add(public)
        assert len(shares) == 2
        card.apdu("00A4040006010203040500")
        card.verify_user()
        assert card.apdu("008406FF00") == "6401"

    def test_exchanges_with_a_stored_pair(self):
        card = element()
        assert card.apdu("0089FF0000") == card.apdu("0082000000") == "9000"
        peer = bytes(31) + b"\x05"
        point = CRYPTO.public_key(Curve.SECP256K1, peer).hex()
        public = bytes.fromhex(card.apdu("0084060000"))[2:-2]
        secret = CRYPTO.ecdh(Curve.SECP256K1, peer, public).hex().upper()
        assert card.apdu("008A000041" + point) == secret + "9000"

    def test_has_its_application_key_certified_once(self):
        card = element()
        assert card.apdu("008E000040") == "00" * 64 + "9000"
        assert keystore(card, "c01") == keystore(card, "g01") == "OK"
        assert card.apdu("008FFF0100") == "9000"
        raw = bytes.fromhex(card.apdu("008E000040"))[:-2]
        assert card.apdu("008FFF0100") == card.apdu("008F000040" + "11" * 64) == "6984"
        signature = der(raw[:32]) + der(raw[32:])
        digest = CRYPTO.hash(SHA256, bytes.fromhex(card.apdu("008406FE00"))[3:-2])
        signer = bytes.fromhex(keystore(card, "p01"))
        CRYPTO.ecdsa_verify(
            Curve.SECP256K1, signer, digest, bytes((0x30, len(signature))) + signature
        )

    def test_gives_random_bytes(self):
        card = element(USER)
        assert len(card.apdu("008B000020")) == 68
        assert card.apdu("008B000020") != card.apdu("008B000020")
        assert len(card.apdu("008B000000")) == 516


def der(value: bytes) -> bytes:
    number = int.from_bytes(value, "big")
    body = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes((2, len(body))) + body


class TestHkdf:
    """INS 85."""

    def test_hmac(self):
        # RFC 4231 §4.2
        key = "0B" * 20
        answer = "B0344C61D8DB38535CA8AFCEAF0BF12B881DC200C9833DA726E9376C2E32CFF79000"
        assert element().apdu(f"008500021E14{key}084869205468657265") == answer
        mac = CRYPTO.hmac(HashAlgorithm.SHA512, b"\x0b" * 20, b"Hi There").hex().upper()
        assert element().apdu(f"008500001E14{key}084869205468657265") == mac + "9000"

    def test_ccm_with_the_tag_last_out_and_first_in(self):
        head = "0102030405060708091011121314151" + "6" + "B1B2B3B4B5B6B7B8B9BABBBC" + "A1A2A3A4A5"
        cipher, tag = "55EF87", "3FAC1CC4E1042F01CA0B48B72BC88D7E"
        assert element().apdu(f"0085000524{head}D1D2D3") == f"{cipher}{tag}9000"
        assert element().apdu(f"0085000634{head}{tag}{cipher}") == "D1D2D39000"
        assert element().apdu(f"0085000634{head}{tag}{cipher[:-1]}8") == "6D14"
        assert element().apdu(f"0085000620{head[:-2]}") == "6C00"

    def test_adds_modulo_the_order(self):
        order = domain_parameter(Curve.SECP256K1, KeyParameter.ORDER)
        one_less = (int.from_bytes(order, "big") - 1).to_bytes(33, "big").hex()
        assert element().apdu(f"0085000142{one_less}{3:066x}") == f"{2:066X}9000"

    def test_loops_over_a_hash(self):
        twice = CRYPTO.hash(SHA256, CRYPTO.hash(SHA256, b"A")).hex().upper()
        assert element().apdu("008502160141") == twice + "9000"

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("0085000301" + "00", "6A86"),
            ("0085001001" + "00", "6985"),
            ("0085000201" + "05", "6C00"),
            ("0085000202" + "0101", "6C00"),
            ("00850002050101010101", "6C00"),
            ("0085000A22" + "01001F" + "00" * 31, "6C00"),
            ("0085000A24" + "010020" + "00" * 33, "6C00"),
            ("0085000C00", "6C00"),
            ("0085000D00", "6C00"),
            ("0085000E00", "6C00"),
            ("0085000B020020", "6C00"),
            ("0085000B04002000FF", "6C00"),
            ("0085020B03002000", "6A86"),
            ("0085000141" + "00" * 65, "6C00"),
        ],
    )
    def test_refuses(self, command: str, answer: str):
        card = element()
        before = dict(card.store.contents)
        assert card.apdu(command) == answer
        assert card.store.contents == before

    def test_sets_the_psk_and_uses_it(self):
        card = element(USER)
        assert card.apdu("0085000A23010020" + "AB" * 32) == "9000"
        secrets = read_secrets(card.store.contents)
        assert secrets is not None
        assert secrets.psk == b"\xab" * 32


LOCKED = [
    "0085000A23010020" + "00" * 32,
    "0085FF0A23010020" + "00" * 32,
    "0085000B03002000",
    "0085000C20" + "00" * 32,
    "0085000D20" + "00" * 32,
    "0085000E20" + "00" * 32,
    "00DA000120" + "00" * 32,
    "00DA000A03414243",
    "00DA00FF053F30300D0A",
    "0024000010" + "30303030FFFFFFFF" + "31" * 8,
    "0024000110" + "30" * 8 + "31" * 8,
    "00D8010305" + "1603030000",
    "00D8020305" + "1603030000",
    "00D8030305" + "1603030000",
    "00D8FF0305" + "1603030000",
    "00D8010105" + "1603030000",
    "0088070001" + "07",
    "008000FE20" + "00" * 32,
    "008021FE20" + "00" * 32,
    "0080000520" + "00" * 32,
    "00E2800000",
]


class TestPersonalised:
    """What a hardened element refuses once it is personalised, whatever PIN was given."""

    @pytest.mark.parametrize("command", LOCKED)
    def test_refuses(self, command: str):
        card = element(ADMIN, demo())
        before = dict(card.store.contents)
        assert card.apdu("0089FF0000") == "9000"
        before = dict(card.store.contents)
        assert card.apdu(command) == "6985"
        assert card.store.contents == before

    @pytest.mark.parametrize("command", LOCKED[:-1])
    def test_does_not_refuse_before_that(self, command: str):
        card = element(ADMIN, demo(is_final=False))
        assert card.apdu("0089FF0000") == "9000"
        assert card.apdu(command) != "6985"

    def test_a_compatible_element_does_not_refuse(self):
        settings = Settings(Wire.COMPATIBLE, commands=CommandSet.IOSE)
        for command in LOCKED[:-1]:
            card = element(ADMIN, demo(settings))
            assert card.apdu("0089FF0000") == "9000"
            assert card.apdu(command) != "6985"

    def test_keys_brought_along_still_work(self):
        card = element(ADMIN, demo())
        assert card.apdu("008500020401AA01BB").endswith("9000")


class TestStoreData:
    """Personalisation by STORE DATA."""

    def test_the_last_block_personalises(self):
        card = element(ADMIN, demo(is_final=False))
        attestation = card.apdu("008406FE00")
        parameters = Personalisation(name=b"other", psk=b"\x22" * 32).encode()
        first, last = parameters[:20], parameters[20:]
        assert card.apdu(f"00E20000{len(first):02X}{first.hex()}") == "9000"
        assert card.apdu(f"00E28001{len(last):02X}{last.hex()}") == "9000"
        secrets = read_secrets(card.store.contents)
        assert secrets is not None
        assert (secrets.name, secrets.psk) == (b"other", b"\x22" * 32)
        assert secrets.admin_pin == b"00000000"
        assert b"other" in card.card.reset()
        card.verify_admin()
        assert card.apdu("008406FE00") == attestation
        assert card.apdu("00E2800000") == "6985"

    @pytest.mark.parametrize(
        "blocks",
        [
            ["00E280000163"],
            ["00E2000002FF00", "00E2800000"],
            ["00E28000" + "08" + "040005" + b"guest".hex()],  # the owner's identity
            ["00E28000" + "12" + "08000F" + b"Client_identity".hex()],  # the guest's
            ["00E28000" + "04" + "09000102"],  # a flag nobody knows
            ["00E28000" + "03" + "0E0000"],  # neither yes nor no
            ["00E28000" + "04" + "0E000102"],
            ["00E28000" + "05" + "0E00020101"],
        ],
    )
    def test_refuses_what_is_none(self, blocks: list[str]):
        card = element(ADMIN, demo(is_final=False))
        before = dict(card.store.contents)
        assert [card.apdu(block) for block in blocks][-1] == "6A80"
        assert card.store.contents == before

    def test_keeps_the_secrets_it_leaves_out(self):
        card = element(ADMIN, demo(is_final=False, guest_psk=b"\x11" * 32))
        before = read_secrets(card.store.contents)
        attestation = card.apdu("008406FE00")
        assert card.apdu("00E2800000") == "9000"
        assert read_secrets(card.store.contents) == before
        assert card.apdu("008406FE00") == attestation

    def test_locks_at_once(self):
        card = element(ADMIN, demo(Settings(Wire.COMPATIBLE), is_final=False))
        assert keystore(card, "c00") == "OK"
        assert card.apdu("00E2800000") == "9000"
        assert card.apdu("00DA00FF043F30300A") == card.apdu("00D8FF030101") == "6985"
        assert card.apdu("80D8000000") == "6E00"

    def test_the_constants_of_test_mode_end_with_it(self):
        card = element(ADMIN, demo(Settings(Wire.COMPATIBLE), is_final=False))
        assert card.apdu("00DA000320" + "11" * 32) == "9000"
        parameters = Personalisation(settings=Settings(Wire.COMPATIBLE)).encode()
        assert card.apdu(f"00E28000{len(parameters):02X}{parameters.hex()}") == "9000"
        assert card.card._channels.selected(0).applet._session.test_values == TestValues()

    def test_is_bounded(self):
        card = element(ADMIN, demo(is_final=False))
        answers = [card.apdu("00E20000FF" + "00" * 255) for _ in range(5)]
        assert answers == ["9000"] * 4 + ["6A84"]


def test_without_parameters_everything_is_random_and_locked():
    secrets = []
    for seed in (b"one", b"two"):
        card = Element(Personalisation(), seed=seed)
        found = read_secrets(card.store.contents)
        assert found is not None
        secrets.append(found)
        assert found.psk != DEMO_PSK
        assert card.apdu("002000000430303030") == "6302"
        assert card.apdu("0020000108" + "30" * 8) == "6309"
        assert card.apdu("0020000008" + found.user_pin.hex()) == "9000"
        assert card.apdu("0020000108" + found.admin_pin.hex()) == "9000"
        assert card.apdu("00DA000A03414243") == "6985"
    one, two = secrets
    assert not {one.psk, one.user_pin, one.admin_pin} & {two.psk, two.user_pin, two.admin_pin}
    assert one.guest_psk != two.guest_psk
