# SPDX-License-Identifier: Apache-2.0
"""The TLS-IM applet over APDUs: what it computes, and what it refuses (tls-im.md §2, §8, §9)."""

from dataclasses import replace

import pytest

from iose.applet_api import DataReceiver, ModuleProvider
from iose.applet_commands.psk import derive_psk
from iose.applets.tls_im import (
    TLS_IM_AID,
    ModulePersonalisation,
    Setting,
    TlsIdentityApplet,
    read_module_secrets,
)
from iose.applets.tls_im.state import ModuleProfile
from iose.applets.tls_se import TLS_SE_AID
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWordError
from iose.wire.errors import DecodeError
from tests.support.identity_module import ADMIN_PIN, DEMO_PSK, USER_PIN, Module, demo_module
from tests.support.shared import own_json

CRYPTO = PycaCrypto()
SESSIONS = own_json("tlsse_sessions.json")
PROVISION = "0085000A23010020" + SESSIONS["psk"]
RETURN_SECRETS = "0085FF0A23010020" + SESSIONS["psk"]
BINDER, BINDER_ANSWER = SESSIONS["tls_im"][0]
DERIVE, DERIVE_ANSWER = SESSIONS["tls_im"][1]
HMAC = "008500021E14" + "0B" * 20 + "084869205468657265"
HMAC_ANSWER = "B0344C61D8DB38535CA8AFCEAF0BF12B881DC200C9833DA726E9376C2E32CFF7"
HARDENED = Setting.HARDENED
COMPATIBLE = Setting.COMPATIBLE
HANDSHAKES = f"{TLS_IM_AID}/object/handshakes"
GENERATOR = (
    "046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296"
    "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5"
)
# a self test of the published client (tls-im.md §4.1, §8): a server's static pair
PRIVATE = "44339F299B09AD743B9F69D33654057CA50419D64FCC8235FB3C5D862569D69C"
CLIENT_POINT = (
    "0438A07080AA6350A2C28429E8211A840A2CED575606FB1CE0B36B23E25377C578"
    "BEEA2FE747D422E7DA3524D8ED5E022D1BEA9FB32F202BFF91B82D6C91F61664"
)
SHARED_X = "C17ACEA9DEFFB7E537312678464E7538640B893A4CFBF7807D9DFA96D9180838"


def module(setting: Setting = HARDENED, **given: object) -> Module:
    return Module(demo_module(setting, **given))


def verified(setting: Setting = HARDENED, **given: object) -> Module:
    made = module(setting, **given)
    made.verify_user()
    return made


def administered(setting: Setting = HARDENED, **given: object) -> Module:
    made = module(setting, **given)
    made.verify_admin()
    return made


# --- what it computes


def test_compatible_module_answers_every_recorded_function():
    made = verified(COMPATIBLE)
    for command, answer in SESSIONS["tls_im"]:
        assert made.apdu(command) == answer + "9000"


@pytest.mark.parametrize("setting", list(Setting))
def test_a_module_computes_binder_handshake_secret_early_secrets_and_hmac(setting):
    made = verified(setting)
    assert made.apdu(BINDER) == BINDER_ANSWER + "9000"
    assert made.apdu(DERIVE) == DERIVE_ANSWER + "9000"
    for command, answer in SESSIONS["tls_im"][2:4]:
        assert made.apdu(command) == answer + "9000"
    assert made.apdu(HMAC) == HMAC_ANSWER + "9000"


def test_a_module_computes_the_self_test_of_the_published_client():
    made = verified()
    hash_ = "E479370AF6F743A3C2ABBCBA4B67BD016CD0207D2ADFCC5260EBCBAF0175EDB9"
    binder = "6B1BF24F43B60DE0597561289D840AA15E83ADA24E7E6C04AB3B10BFAE4D4591"
    answer = "206D85B01FCEA8EA0C44FEE20475FB012F9C0AF0C1B29A54CA04B753AEF62F18"
    assert made.apdu("0085000C20" + hash_) == binder + "9000"
    assert made.apdu("0085000E20" + SHARED_X) == answer + "9000"


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        (COMPATIBLE, "D7F7F3609372EB636A3045C929E3A3BA4CFAEFCCACC8BA7C8D2943384D27A4BD"),
        (HARDENED, None),
    ],
)
def test_the_resumption_binder_of_one_byte_is_the_published_one_or_refused(setting, answer):
    expected = "6C00" if answer is None else answer + "9000"
    assert verified(setting).apdu("0085000D0100") == expected


def test_a_hardened_module_derives_the_resumption_binder_as_the_standard_says():
    right = derive_psk(CRYPTO, DEMO_PSK).resumption_finished
    assert right.hex().upper().startswith("C8CA78E8837F26B7")
    expected = CRYPTO.hmac(HashAlgorithm.SHA256, right, bytes(32)).hex().upper()
    assert verified().apdu("0085000D20" + "00" * 32) == expected + "9000"


def test_provisioning_returns_the_six_secrets_of_the_published_module():
    answer = verified(COMPATIBLE).apdu(RETURN_SECRETS)
    secrets = SESSIONS["secrets"]["psk_derived"]
    names = ("ES", "DSK", "eBSK", "rBSK_as_computed_by_reference_v1", "feBSK")
    last = secrets["frBSK_as_computed_by_reference_v1"]
    assert answer == "".join(secrets[name] for name in names) + last + "9000"


def test_an_administrator_provisions_a_module_that_had_no_psk():
    made = Module(ModulePersonalisation(user_pin=b"0000", admin_pin=b"00000000"))
    made.verify_admin()
    assert made.apdus(BINDER, DERIVE) == ["6985", "6985"]
    assert made.apdu(PROVISION) == "9000"
    assert made.apdu(BINDER) == BINDER_ANSWER + "9000"


@pytest.mark.parametrize("size", [1, 16, 31, 33, 64])
def test_only_a_compatible_module_takes_a_psk_of_another_size(size):
    psk = bytes(range(size))
    command = f"0085000A{size + 3:02X}0100{size:02X}" + psk.hex()
    assert administered().apdu(command) == "6C00"
    made = verified(COMPATIBLE)
    assert made.apdu(command) == "9000"
    key = derive_psk(CRYPTO, psk).external_finished
    expected = CRYPTO.hmac(HashAlgorithm.SHA256, key, bytes(32)).hex().upper()
    assert made.apdu("0085000C20" + "00" * 32) == expected + "9000"


def test_a_psk_is_derived_with_the_salt_that_comes_along():
    made = administered()
    assert made.apdu("0085000A24020102" + "20" + DEMO_PSK.hex()) == "9000"
    key = derive_psk(CRYPTO, DEMO_PSK, salt=b"\x01\x02").derived
    expected = CRYPTO.hmac(HashAlgorithm.SHA256, key, bytes(32)).hex().upper()
    assert made.apdu("0085000E20" + "00" * 32) == expected + "9000"


def test_the_psk_itself_is_nowhere_in_the_store():
    made = administered()
    assert made.apdu(PROVISION) == "9000"
    assert all(DEMO_PSK not in value for value in made.store.contents.values())


# --- who may do what


@pytest.mark.parametrize("setting", list(Setting))
@pytest.mark.parametrize(
    "command",
    [BINDER, DERIVE, HMAC, PROVISION, "008500FF00", "00800000", "0084060000", "0082000000"],
)
def test_nothing_is_computed_without_a_pin(setting, command):
    assert module(setting).apdu(command) == "6380"


@pytest.mark.parametrize("command", ["008A00000141", "008B000010"])
def test_a_hardened_module_asks_for_a_pin_before_its_newer_commands(command):
    assert module().apdu(command) == "6380"


@pytest.mark.parametrize("command", ["0081000000", "0082000000", "0089000000", "0088060001FF"])
@pytest.mark.parametrize("setting", list(Setting))
def test_keys_are_managed_by_the_administrator_alone(setting, command):
    assert verified(setting).apdu(command) == "6380"


def test_only_a_compatible_module_lets_the_user_provision():
    assert verified(COMPATIBLE).apdu(PROVISION) == "9000"
    assert verified().apdu(PROVISION) == "6380"


def test_a_hardened_module_shows_the_secrets_only_before_it_is_personalised():
    assert administered().apdu(RETURN_SECRETS) == "6985"
    assert len(administered(is_final=False).apdu(RETURN_SECRETS)) == 2 * 192 + 4


def test_a_refused_provisioning_changes_nothing():
    made = administered()
    other = "0085FF0A23010020" + "FF" * 32
    assert made.apdu(other) == "6985"
    assert made.apdu(BINDER) == BINDER_ANSWER + "9000"


@pytest.mark.parametrize("p2", ["0C", "0D", "0E"])
@pytest.mark.parametrize("size", [1, 31, 33, 255])
def test_a_hardened_module_takes_32_bytes_and_a_compatible_one_any(p2, size):
    command = f"008500{p2}{size:02X}" + "00" * size
    assert verified().apdu(command) == "6C00"
    assert len(verified(COMPATIBLE).apdu(command)) == 2 * 32 + 4


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("008500FF0100", "6A86"),
        ("0085001001AA", "6A86"),
        ("0085020B03002000", "6A86"),
        ("0085000C", "6C00"),
        ("0085000B0100", "6C00"),
        ("0085000B04002000AA", "6C00"),
        ("0085000203010001", "6C00"),
        ("0085000A22010020" + "01" * 31, "6C00"),
        ("0086000000", "6D00"),
        ("00D8000000", "6D00"),
    ],
)
@pytest.mark.parametrize("setting", list(Setting))
def test_wrong_commands_are_refused(setting, command, status):
    assert administered(setting).apdu(command) == status


def test_a_hardened_module_refuses_foreign_classes():
    assert module().apdu("8087000000") == "6E00"
    assert module(COMPATIBLE).apdu("8087000000") == "010021109000"


def test_status_tells_the_version_and_sixteen_pairs():
    assert module(COMPATIBLE).apdu("0087000004") == "010021109000"
    assert module().apdu("0087000004") == "020021109000"


# --- PINs


def test_pins_count_their_tries_and_the_administrator_gives_the_users_back():
    made = module()
    wrong = "002000000431313131"
    assert made.apdus(wrong, wrong, wrong, USER_PIN) == ["6302", "6301", "6300", "6300"]
    assert made.apdu("00200001083131313131313131") == "6309"
    assert made.apdus(ADMIN_PIN, USER_PIN) == ["9000", "9000"]


def test_a_pin_is_changed_by_who_knows_the_old_one():
    made = module()
    old, new = "30303030FFFFFFFF", "31313131FFFFFFFF"
    assert made.apdu("0024000010" + new + new) == "6302"
    assert made.apdu("0024000010" + old + new) == "9000"
    assert made.apdus(USER_PIN, "002000000431313131") == ["6302", "9000"]


def test_only_a_compatible_module_puts_the_published_user_pin_back():
    restore = "002000FF083030303030303030"
    assert module(COMPATIBLE).apdu(restore) == "9000"
    assert module().apdu(restore) == "6985"


@pytest.mark.parametrize(
    ("command", "status"),
    [("002000020430303030", "6B00"), ("0020000104303030", "6700"), ("0024000204", "6B00")],
)
def test_pin_commands_of_another_form_are_refused(command, status):
    assert module().apdu(command) == status


def test_pins_are_forgotten_with_the_selection():
    made = verified()
    assert made.apdu(f"00A4040006{TLS_IM_AID}") == "9000"
    assert made.apdu(BINDER) == "6380"


# --- key pairs


@pytest.mark.parametrize("setting", list(Setting))
@pytest.mark.parametrize("index", [0, 15])
def test_a_generated_pair_signs(setting, index):
    made = administered(setting)
    slot = f"{index:02X}"
    assert made.apdu(f"008200{slot}00") == "6D10"
    assert made.apdus(f"008901{slot}00", f"008200{slot}00") == ["9000", "9000"]
    assert made.apdu(f"008200{slot}00") == "6401"
    public = made.apdu(f"008406{slot}00")
    assert public.startswith("004104")
    assert public.endswith("9000")
    answer = bytes.fromhex(made.apdu(f"008021{slot}03616263"))
    digest = CRYPTO.hash(HashAlgorithm.SHA256, b"abc")
    CRYPTO.ecdsa_verify(Curve.SECP256R1, bytes.fromhex(public[4:-4]), digest, answer[2:-2])
    assert int.from_bytes(answer[:2], "big") == len(answer) - 4


def test_there_are_sixteen_pairs_and_no_more():
    made = administered()
    for command in ("0089001000", "0082001000", "0081001000", "0084061000", "0080001000"):
        assert made.apdu(command) == "6985"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("0089020000", "6A86"),
        ("0089FF0000", "6A86"),
        ("0080000020" + "00" * 32, "6402"),
        ("0084060000", "6401"),
        ("0084000000", "6D30"),
        ("0084080000", "6A86"),
        ("008808000100", "6A86"),
        ("00880600410400", "6700"),
        ("008807000101", "6D40"),
    ],
)
def test_commands_on_an_empty_pair_are_refused(command, status):
    assert administered().apdu(command) == status


def test_the_wrong_hash_or_form_of_a_signature_is_refused():
    made = administered()
    made.apdus("0089000000", "0082000000")
    assert made.apdu("008000001F" + "00" * 31) == "6D20"
    assert made.apdu("0080010020" + "00" * 32) == "6A86"


def test_a_pair_of_another_curve_is_refused():
    made = administered()
    order_k1 = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141"
    assert made.apdu("0088050020" + order_k1) == "6D40"
    assert made.apdu("0084000000") == "6D30"
    assert made.apdu("0088030041" + GENERATOR) == "9000"
    assert made.apdu("0084030000") == "0041" + GENERATOR + "9000"


def test_a_private_key_leaves_only_a_compatible_module():
    for setting, answer in ((HARDENED, "6985"), (COMPATIBLE, f"0020{PRIVATE}9000")):
        made = administered(setting)
        assert made.apdus("0089000000", "0088070020" + PRIVATE) == ["9000", "9000"]
        assert made.apdu("0084070000") == answer
        made.apdu(f"00A4040006{TLS_IM_AID}")
        made.verify_user()
        assert made.apdu("0084070000") == "6380"


def test_a_cleared_pair_is_gone():
    made = administered()
    made.apdus("0089000000", "0082000000")
    assert made.apdus("0081000000", "0084060000") == ["9000", "6401"]


def test_ecdh_with_a_stored_pair_gives_the_published_secret():
    made = administered()
    assert made.apdus("0089000000", "0088070020" + PRIVATE) == ["9000", "9000"]
    assert made.apdu("008A010041" + CLIENT_POINT) == SHARED_X + "9000"
    assert made.apdu("008A010041" + GENERATOR) == "6D50"
    assert made.apdu("008A010041" + CLIENT_POINT[:-2] + "65") == "6D50"


def test_the_ephemeral_pair_serves_the_user_for_one_exchange():
    made = verified()
    assert made.apdu("008A81FF41" + CLIENT_POINT) == "6402"
    assert made.apdu("008201FF00") == "9000"
    public = made.apdu("008406FF00")
    assert public.startswith("0041")
    assert public.endswith("9000")
    private = bytes.fromhex(PRIVATE)
    ours = CRYPTO.public_key(Curve.SECP256R1, private).hex()
    secret = CRYPTO.ecdh(Curve.SECP256R1, private, bytes.fromhex(public[4:-4]))
    assert made.apdu("008A81FF41" + ours) == secret.hex().upper() + "9000"
    assert made.apdus("008201FF00", "008100FF00", "008406FF00") == ["9000", "9000", "6401"]


def test_the_ephemeral_pair_keeps_its_private_key_and_ends_with_the_selection():
    made = administered()
    assert made.apdu("008201FF00") == "9000"
    assert made.apdu("008407FF00") == "6985"
    assert made.apdu("008000FF20" + "00" * 32) == "6985"
    made.apdu(f"00A4040006{TLS_IM_AID}")
    made.verify_user()
    assert made.apdu("008406FF00") == "6401"


def test_a_new_ephemeral_pair_takes_the_place_of_the_last():
    made = verified()
    made.apdu("008201FF00")
    first = made.apdu("008406FF00")
    assert made.apdu("008201FF00") == "9000"
    assert made.apdu("008406FF00") != first


def test_the_published_module_has_no_ephemeral_pair_no_ecdh_and_no_random():
    made = administered(COMPATIBLE)
    commands = ("008A000041" + CLIENT_POINT, "008B000010", "008201FF00", "008406FF00", "008100FF00")
    assert made.apdus(*commands) == ["6D00", "6D00", "6985", "6985", "6985"]


def test_random_bytes_are_counted_by_le_or_by_the_bytes_that_come():
    made = verified()
    first, second = made.apdu("008B000010"), made.apdu("008B000010" + "00" * 16)
    assert len(first) == len(second) == 2 * 16 + 4
    assert first != second
    assert made.apdu("008B0000") == "6700"


# --- personalisation


def test_a_module_without_a_word_has_random_pins_and_awaits_its_owner():
    made = Module(parameters=b"")
    assert made.apdus(USER_PIN, ADMIN_PIN) == ["6302", "6309"]
    secrets = read_module_secrets(made.store.contents)
    assert secrets is not None
    assert made.apdu("0020000108" + secrets.admin_pin.hex()) == "9000"
    assert made.apdu(BINDER) == "6985"


def test_no_module_has_no_secrets():
    assert read_module_secrets({}) is None


@pytest.mark.parametrize(
    "parameters", ["FF0000", "01000102", "020001AA", "0600020102", "05000101", "08000102", "01"]
)
def test_a_malformed_personalisation_is_refused_and_leaves_no_module(parameters):
    with pytest.raises(StatusWordError, match="6A80"):
        Module(parameters=bytes.fromhex(parameters))


def test_a_personalisation_survives_its_encoding():
    given = ModulePersonalisation(
        COMPATIBLE,
        psk=DEMO_PSK,
        user_pin=b"1234",
        admin_pin=b"12345678",
        handshake_limit=5,
        clients=(TLS_SE_AID,),
        uses_demo_secrets=True,
        is_final=False,
    )
    assert ModulePersonalisation.decode(given.encode()) == given
    assert ModulePersonalisation.decode(b"") == ModulePersonalisation()
    profile = ModuleProfile(
        COMPATIBLE, is_personalised=False, handshake_limit=7, clients=(TLS_SE_AID, Aid(b"other"))
    )
    assert ModuleProfile.decode(profile.encode()) == profile
    with pytest.raises(DecodeError):
        ModuleProfile.decode(profile.encode()[:-1])


def applet(personalisation: ModulePersonalisation) -> TlsIdentityApplet:
    return Module(personalisation).applet


def test_a_security_domain_personalises_in_blocks_and_once():
    made = applet(ModulePersonalisation(is_final=False))
    assert isinstance(made, DataReceiver)
    data = replace(demo_module(), clients=(TLS_SE_AID,), psk=DEMO_PSK).encode()
    made.receive_data(data[:7], is_last=False)
    assert made.shared_module(TLS_SE_AID) is None
    made.receive_data(data[7:], is_last=True)
    shared = made.shared_module(TLS_SE_AID)
    assert shared is not None
    assert shared.binder(bytes.fromhex(BINDER[10:])).hex().upper() == BINDER_ANSWER
    with pytest.raises(StatusWordError, match="6985"):
        made.receive_data(data, is_last=True)


def test_refused_blocks_are_forgotten():
    made = applet(ModulePersonalisation(is_final=False))
    made.receive_data(b"\xff", is_last=False)
    with pytest.raises(StatusWordError, match="6A80"):
        made.receive_data(b"\x00\x00", is_last=True)
    with pytest.raises(StatusWordError, match="6A84"):
        made.receive_data(bytes(1025), is_last=False)
    made.receive_data(demo_module().encode(), is_last=True)


# --- for the same card, and for how long


def test_another_instance_uses_the_module_only_if_it_is_named():
    made = applet(demo_module(clients=(TLS_SE_AID,)))
    assert isinstance(made, ModuleProvider)
    assert made.shared_module(Aid(b"stranger")) is None
    shared = made.shared_module(TLS_SE_AID)
    assert shared is not None
    assert shared.handshake_secret(bytes.fromhex(DERIVE[10:])).hex().upper() == DERIVE_ANSWER
    for operation in (shared.binder, shared.handshake_secret):
        with pytest.raises(StatusWordError, match="6C00"):
            operation(bytes(31))


def test_another_instance_gets_nothing_from_a_module_without_a_psk():
    shared = applet(ModulePersonalisation(clients=(TLS_SE_AID,))).shared_module(TLS_SE_AID)
    assert shared is not None
    with pytest.raises(StatusWordError, match="6985"):
        shared.binder(bytes(32))


def test_a_limited_module_stops_until_the_administrator_comes():
    made = verified(handshake_limit=2)
    answers = [DERIVE_ANSWER + "9000"] * 2 + ["6985"]
    assert made.apdus(DERIVE, DERIVE, DERIVE) == answers
    assert made.apdu(BINDER) == BINDER_ANSWER + "9000"
    made = Module(contents=made.store.contents)
    made.verify_user()
    assert made.apdu(DERIVE) == "6985"
    made.verify_admin()
    assert made.apdus(DERIVE, DERIVE, DERIVE) == answers


def test_the_limit_counts_what_the_same_card_asks_for():
    shared = applet(demo_module(handshake_limit=1, clients=(TLS_SE_AID,))).shared_module(TLS_SE_AID)
    assert shared is not None
    shared.handshake_secret(bytes(32))
    with pytest.raises(StatusWordError, match="6985"):
        shared.handshake_secret(bytes(32))


class WatchingCrypto:
    """Primitives that note what is in a store when an HMAC is made."""

    def __init__(self, made: Module) -> None:
        self.made = made
        self.seen: list[bytes | None] = []

    def hmac(self, *given: object) -> bytes:
        self.seen.append(self.made.store.contents.get(HANDSHAKES))
        return CRYPTO.hmac(*given)


def test_a_handshake_is_counted_before_its_secret_is_made():
    made = verified(handshake_limit=9)
    writes = made.store.writes
    watching = made.applet._context.crypto = WatchingCrypto(made)
    made.apdu(DERIVE)
    assert watching.seen == [b"\x00\x00\x00\x01"]
    assert made.store.writes == writes + 1


def test_a_new_limit_begins_with_all_its_handshakes():
    made = verified(handshake_limit=1, is_final=False)
    assert made.apdus(DERIVE, DERIVE) == [DERIVE_ANSWER + "9000", "6985"]
    again = ModulePersonalisation(handshake_limit=2)
    made.applet.receive_data(again.encode(), is_last=True)
    assert made.apdus(DERIVE, DERIVE, DERIVE) == [DERIVE_ANSWER + "9000"] * 2 + ["6985"]
