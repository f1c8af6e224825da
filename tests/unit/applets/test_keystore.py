# SPDX-License-Identifier: Apache-2.0
"""Keystore commands, line by line; the transcript of the published applet first."""

import re

import pytest

from iose.applets.tls_se import CommandSet, Flag, Limits, Settings, Wire
from iose.applets.tls_se.application import ApplicationSession, EchoApplication
from iose.applets.tls_se.keystore.system import SystemCommands
from iose.crypto.base import Curve, HashAlgorithm
from tests.support.element import CRYPTO, Element, demo, reference
from tests.support.shared import VECTORS

ABORT = "<closed err=1>"
SECRET = bytes(range(32))
OWNER = ApplicationSession(handshake_secret=SECRET)
GUEST = ApplicationSession(is_guest=True, handshake_secret=SECRET)
COMPATIBLE_2_18 = Settings(Wire.COMPATIBLE, Limits.WIDE, CommandSet.V2_18)
POINT = re.compile("04[0-9A-F]{128}")
SCALAR = re.compile("[0-9A-F]{64}")
BIP32_3 = (
    "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4ac"
    "ba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be"
)
KS305 = (
    "f0acfacf9279b18275f6923a1f2d2c2be622e39e7bda9ed6d8a783f200b4a011"
    "793df8cde50014b5d8716971221dc7c63e6ff4e22128efa314b4c32fc07e76ae"
)


class Lines:
    """The keystore of one element, fed with lines."""

    def __init__(self, personalisation=None):
        self.element = Element(personalisation or demo())
        self.element.apdu("00A4040006010203040500")
        (instance,) = self.element.card._channels._instances.values()
        self.keystore = instance.applet._keystore

    def bytes(self, line: bytes, session: ApplicationSession = OWNER) -> bytes | None:
        reply = self.keystore.handle(line, session)
        assert reply.ends_session == (not reply.data)
        if reply.ends_session:
            return None
        assert reply.data.endswith(b"\r\n")
        return reply.data[:-2]

    def __call__(self, line: str, session: ApplicationSession = OWNER) -> str:
        reply = self.bytes(line.encode() + b"\r\n", session)
        return ABORT if reply is None else reply.decode()


def transcript() -> list[tuple[str, str]]:
    lines = (VECTORS / "keystore13_commands.tsv").read_text().splitlines()
    return [tuple(line.split("\t")) for line in lines]


def random_form(line: str, answer: str) -> re.Pattern[str] | None:
    if line == "?0A":
        return POINT
    return {"p030402E2": POINT, "r034443A5": SCALAR, "v0340BF52": SCALAR}.get(line + answer[:6])


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_answers_as_the_transcript_of_keystore_1_3(ending: bytes):
    lines = Lines(reference())
    for line, answer in transcript():
        reply = lines.bytes(line.encode() + ending)
        found = ABORT if reply is None else reply.decode()
        form = random_form(line, answer)
        assert found == answer if form is None else form.fullmatch(found), line


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", b"ERROR"),
        (b"\n", b"ERROR"),
        (b"?00", b"ERROR"),
        (b"?00x", None),
        (b"?00\n", b"Ethertrust keystore 1.3"),
        (b"?00\r", None),
        (b"?zz\n", b"ERROR"),
        (b"?000\n", None),
        (b"?42\n", None),
        (b"?42zz\n", None),
        (b"?FFzz\n", b"ERROR"),
        (b"?AAzz\n", b"ERROR"),
        (b"?FF\n", b"ERROR"),
        (b"?FF" + b"aB" * 128 + b"\n", b"AB" * 128),
        (b"?FF" + b"aB" * 129 + b"\n", b"ERROR"),
        (b"?0E00\n", None),
        (b"?0C\n", SECRET.hex().upper().encode()),
        (b"?0C" + b"00" * 33 + b"\n", SECRET.hex().upper().encode()),
        (b"?0D\n", SECRET.hex().upper().encode()),
        (b"?AA00\n", None),
        (b"?A5\n", None),
        (b"n00\n", b"ERROR"),
        (b"p+1\n", b"ERROR"),
        (b"p 1\n", b"ERROR"),
        (b"\x0000\n", b"ERROR"),
        (b"\xff00\n", b"ERROR"),
        (b"I0aignored\n", b"OK"),
        (b"Z0a\xff\x00\r\n", b"OK"),
        (b"c00aa\n", b"OK"),
        (b"b00\n", b"ERROR"),
        (b"v00\n", b"ERROR"),
        (b"T00" + b"00" * 65 + b"\n", b"ERROR"),
    ],
)
def test_keeps_the_syntax_of_1_3(line: bytes, answer: bytes | None):
    assert Lines(reference()).bytes(line) == answer


def test_records_are_raw_and_keep_every_byte():
    lines = Lines()
    assert lines.bytes(b"Z1f\x00 \xff\r\n") == b"OK"
    assert lines.bytes(b"I1f\n") == b"\x00 \xff"
    assert lines("Z1f") == "OK"
    assert lines("I1f") == "OK"
    assert lines("Z00" + "x" * 65) == "ERROR"


def test_records_of_2_18_are_hex():
    lines = Lines(demo(COMPATIBLE_2_18))
    assert lines("Z00zz") == "ERROR"
    assert lines("Z00" + "ab" * 33) == "ERROR"
    assert lines("Z00" + "ab" * 32) == "OK"
    assert lines("I00") == "AB" * 32
    assert lines("I01") == "OK"
    assert lines("I20") == "ERROR"


@pytest.mark.parametrize(
    ("seed", "path", "private", "public"),
    [
        (
            "031234",
            "80000001",
            "95DC50F1D52AC952B866B8AD9845F9E3EBB9DD8EDF49F8E7CC342469A8DA77C8",
            "0455CB37165F08D5E85D49DA700C083B8D9D7CB33EA7BEF0FE3455F632FE50DE74"
            "3E4664A488C3D825F872135BF2F139C655B9E212394717D0A9F27E9DEA32146E",
        ),
        (
            "03000102030405060708090a0b0c0d0e0f",
            "80000000",
            "EDB2E14F9EE77D26DD93B4ECEDE8D16ED408CE149B6CD80B0715A2D911A0AFEA",
            "045A784662A4A20A65BF6AAB9AE98A6C068A81C52E4B032C0FB5400C706CFCCC56"
            "7F717885BE239DAADCE76B568958305183AD616FF74ED4DC219A74C26D35F839",
        ),
        (
            "03" + BIP32_3,
            "80000000",
            "491F7A2EEBC7B57028E0D3FAA0ACDA02E75C33B03C48FB288C41E2EA44E1DAEF",
            None,
        ),
        (
            "033ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678",
            "80000000",
            "00D948E9261E41362A688B916F297121BA6BFB2274A3575AC0E456551DFD7F7E",
            None,
        ),
        (
            "033ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678",
            "8000000080000001",
            "3A2086EDD7D9DF86C3487A5905A1712A9AA664BCE8CC268141E07549EAA8661D",
            None,
        ),
        (
            "03" + KS305,
            "80000000800000018000000280000003",
            "E4886AA0DCDAD6629EA14A84FBA0DA09352426E12E752B085F3372E7D0A28125",
            "0482E66E0390200BF7264F7A3C02ED24767BAEEDA9D9205C171577AAF155D3CB32"
            "C28EA997BD8905F8F7446269C88A849EDB5CB83D3B17009560FCAFA8199C466E",
        ),
    ],
)
@pytest.mark.parametrize("letter", ["b", "k"])
def test_derives_hardened_keys(letter, seed, path, private, public):
    lines = Lines()
    assert lines("c03") == "OK"
    assert lines(f"t{seed}") == "OK"
    assert lines(f"{letter}03{path}") == "OK"
    assert lines("r03") == private
    assert public is None or lines("p03") == public
    assert lines("v03") == seed[2:].upper()


@pytest.mark.parametrize("path", ["", "00000001", "8000000000000001", "800000", "80000000" * 31])
def test_refuses_a_path_that_is_not_hardened_levels(path: str):
    lines = Lines()
    assert lines("t00") == "OK"
    assert lines("g00") == "OK"
    public = lines("p00")
    assert lines(f"b00{path}") == "ERROR"
    assert lines("p00") == public


def test_a_failed_seed_leaves_the_tree_cleared():
    lines = Lines(demo(COMPATIBLE_2_18))
    assert lines("t0000") == "OK"
    assert lines("t00" + "00" * 33) == "ERROR"
    assert lines("v00") == "ERROR"


@pytest.mark.parametrize(("letter", "curve"), [("", Curve.SECP256K1), ("P", Curve.SECP256R1)])
def test_signs_what_it_is_given(letter: str, curve: Curve):
    lines = Lines()
    clear, generate = ("C", "G") if letter else ("c", "g")
    assert lines(f"{clear}01") == "OK"
    assert lines(f"{generate}01") == "OK"
    public = bytes.fromhex(lines("p01"))
    signature = bytes.fromhex(lines("s01abcd"))
    CRYPTO.ecdsa_verify(curve, public, bytes(30) + b"\xab\xcd", signature)
    assert lines("s01" + "00" * 33) == "ERROR"


def test_a_public_key_alone_cannot_sign():
    lines = Lines()
    point = CRYPTO.public_key(Curve.SECP256K1, SECRET).hex()
    assert lines("c00") == "OK"
    assert lines("P00" + point[:-1] + ("0" if point[-1] != "0" else "1")) == "ERROR"
    assert lines("P00" + point) == "OK"
    assert lines("P00" + point) == "ERROR"
    assert lines("p00") == point.upper()
    assert lines("s0000") == "ERROR"
    assert lines("g00") == "ERROR"


def test_sets_private_keys_on_the_curve_the_slot_was_cleared_for():
    lines = Lines()
    for clear, curve in (("c", Curve.SECP256K1), ("C", Curve.SECP256R1)):
        assert lines(f"{clear}02") == "OK"
        assert lines("R02" + "00" * 32) == "ERROR"
        assert lines("R02" + "ff" * 32) == "ERROR"
        assert lines("R02" + SECRET.hex()) == "OK"
        assert lines("X02" + SECRET.hex()) == "ERROR"
        assert lines("p02") == CRYPTO.public_key(curve, SECRET).hex().upper()


class TestSeal:
    """The flag of our own: keys that never leave."""

    @pytest.mark.parametrize(
        "make", ["g00", "G00", "X00" + SECRET.hex(), "t00", "t001234"], ids=lambda make: make[:3]
    )
    def test_a_sealed_slot_gives_no_secret_away(self, make: str):
        lines = Lines()
        assert lines("c00") == "OK"
        assert lines("N00") == "00"
        assert lines("n00") == "OK"
        assert lines("N00") == "01"
        assert lines(make) == "OK"
        if make[0] == "t":
            assert lines("b0080000000") == "OK"
        assert lines("r00") == "ERROR"
        assert lines("v00") == "ERROR"
        assert POINT.fullmatch(lines("p00"))
        assert lines("s00ab").startswith("30")
        lines.element.verify_admin()
        assert lines.element.apdu("0084070000") == "6985"

    @pytest.mark.parametrize("clear", ["c00", "C00"])
    def test_clearing_takes_the_seal_off_with_the_key(self, clear: str):
        lines = Lines()
        for line in ("n00", "g00", "t00", clear):
            assert lines(line) == "OK"
        assert lines("N00") == "00"
        assert lines("p00") == lines("v00") == "ERROR"
        assert lines("g00") == "OK"
        assert SCALAR.fullmatch(lines("r00"))

    @pytest.mark.parametrize("make", ["g00", "t00", "X0001"])
    def test_what_was_made_without_the_seal_cannot_get_it(self, make: str):
        lines = Lines()
        assert lines(make) == "OK"
        assert lines("n00") == "ERROR"
        assert lines("N00") == "00"

    def test_clearing_the_pair_over_apdus_leaves_seal_and_seed(self):
        lines = Lines()
        for line in ("n00", "g00", "t00"):
            assert lines(line) == "OK"
        lines.element.verify_admin()
        assert lines.element.apdu("0081000000") == "9000"
        assert lines("N00") == "01"
        assert lines("v00") == "ERROR"

    def test_the_published_sets_do_not_know_it(self):
        assert Lines(demo(COMPATIBLE_2_18))("n00") == "ERROR"
        assert Lines(reference())("N00") == "ERROR"


def test_hmac_under_a_seed():
    lines = Lines()
    seed = bytes(range(20))
    assert lines("t01" + seed.hex()) == "OK"
    mac = CRYPTO.hmac(HashAlgorithm.SHA256, seed, b"\xab\xcd")
    assert lines("h01abcd") == mac.hex().upper()
    assert lines.bytes(b"h81\xab\xcd\r\n") == mac
    blocks = [bytes((i,)) * 32 for i in range(3)]
    macs = b"".join(CRYPTO.hmac(HashAlgorithm.SHA256, seed, block) for block in blocks)
    assert lines("h41" + b"".join(blocks).hex()) == macs.hex().upper()
    assert lines.bytes(b"hC1" + b"".join(blocks) + b"\r\n") == macs
    assert lines("h41" + "00" * 33) == lines("h41") == "ERROR"
    assert lines("H01abcd") == CRYPTO.hmac(HashAlgorithm.SHA512, seed, b"\xab\xcd").hex().upper()
    assert lines("h00abcd") == lines("h21abcd") == lines("h04ab") == lines("h01abc") == "ERROR"


def test_aes_under_a_seed():
    # NIST SP 800-38A F.1.1
    lines = Lines()
    assert lines("t002b7e151628aed2a6abf7158809cf4f3c") == "OK"
    plain = "6BC1BEE22E409F96E93D7E117393172A"
    cipher = "3AD77BB40D7A3660A89ECAF32466EF97"
    assert lines("A00" + plain) == cipher
    assert lines("a00" + cipher) == plain
    assert lines.bytes(b"A80" + bytes.fromhex(plain) + b"\r\n") == bytes.fromhex(cipher)
    assert lines("A40" + plain * 2) == cipher * 2
    assert lines("A00" + plain[2:]) == lines("A00") == lines("A01" + plain) == "ERROR"
    assert lines("t01" + "00" * 15) == "OK"
    assert lines("A01" + plain) == lines("a01" + plain) == "ERROR"


def test_proves_knowledge_of_the_handshake_secret():
    lines = Lines()
    public = bytes.fromhex(lines("?0A"))
    signature = bytes.fromhex(lines("?0Cabcd"))
    digest = CRYPTO.hash(HashAlgorithm.SHA256, SECRET + bytes(30) + b"\xab\xcd")
    CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signature)
    assert lines("?0Cabcd", ApplicationSession()) == "ERROR"


def test_the_certificate_is_written_once():
    lines = Lines()
    certificate = "AB" * 64
    assert lines("?0B") == "00" * 64
    assert lines("?0E" + certificate) == "OK"
    assert lines("?0B") == certificate
    assert lines("?0E" + "CD" * 64) == "ERROR"
    assert lines("?0B") == certificate


def test_our_own_set_hides_the_handshake_secret_unless_asked():
    assert Lines()("?0D") == Lines()("?0C") == "ERROR"
    shown = Lines(demo(shows_handshake_secret=True))
    assert shown("?0D") == SECRET.hex().upper()
    assert shown("?0D", GUEST) == "ERROR"
    assert Lines(demo(COMPATIBLE_2_18))("?0D") == ABORT


@pytest.mark.parametrize(
    ("commands", "version"),
    [
        (CommandSet.IOSE, "iose keystore/1"),
        (CommandSet.V1_3, "iose keystore 1.3"),
        (CommandSet.V2_18, "iose keystore 2.18"),
    ],
)
def test_says_which_set_it_is(commands: CommandSet, version: str):
    assert Lines(demo(Settings(commands=commands)))("?00") == version


@pytest.mark.parametrize("commands", list(CommandSet))
@pytest.mark.parametrize("wire", list(Wire))
def test_only_who_states_itself_has_the_version_of_those_who_do(wire: Wire, commands: CommandSet):
    settings = Settings(wire, commands=commands)
    says_so = Lines(demo(settings))("?00").startswith("iose keystore/")
    assert says_so == (0x0F in SystemCommands.table(settings))


OLD, NEW = bytes(range(1, 33)).hex(), "C0" * 32


class TestPskChange:
    """?AA, and how often it may be tried."""

    def test_takes_the_old_psk(self):
        lines = Lines()
        assert lines(f"?AA{OLD}{NEW}") == NEW
        assert lines(f"?AA{OLD}{NEW}") == ABORT
        assert lines(f"?AA{NEW}{OLD}") == OLD.upper()

    @pytest.mark.parametrize("payload", ["", OLD, OLD + NEW[2:], OLD + NEW + "00", OLD + NEW + "0"])
    def test_a_wrong_length_ends_the_session(self, payload: str):
        assert Lines()(f"?AA{payload}") == ABORT

    def test_compares_in_constant_time(self, monkeypatch: pytest.MonkeyPatch):
        lines = Lines()
        monkeypatch.setattr(type(CRYPTO), "constant_time_equal", lambda *_: True)
        assert lines(f"?AA{NEW}{NEW}") == NEW

    def test_ten_wrong_in_a_row_lock_it_until_the_administrator_comes(self):
        lines = Lines()
        for _ in range(10):
            assert lines(f"?AA{NEW}{NEW}") == ABORT
        assert lines(f"?AA{OLD}{NEW}") == ABORT
        lines.element.verify_user()
        assert lines(f"?AA{OLD}{NEW}") == ABORT
        lines.element.verify_admin()
        assert lines(f"?AA{OLD}{NEW}") == NEW

    def test_a_right_one_gives_all_tries_back(self):
        lines = Lines()
        for _ in range(3):
            for _ in range(9):
                assert lines(f"?AA{NEW}{NEW}") == ABORT
            assert lines(f"?AA{OLD}{OLD}") == OLD.upper()

    def test_the_compatible_element_never_locks_it(self):
        lines = Lines(reference())
        for _ in range(11):
            assert lines(f"?AA{NEW}{NEW}") == ABORT
        assert lines(f"?AA{OLD}{NEW}") == NEW


NO_GUEST_RIGHTS = (
    ["?0D", "?0E" + "00" * 64, f"?AA{OLD}{NEW}", "?05me", "?06you", "?A501", "?A0" + NEW, "?A1"]
    + ["?A2" + NEW, "?D0" + NEW, "?D1" + NEW, "Z00text", "n00", "N00"]
    + [letter + "00" for letter in "cCgGprPXRstTvbk"]
)


class TestGuest:
    """The second identity of 2.18."""

    @pytest.mark.parametrize("line", NO_GUEST_RIGHTS)
    def test_may_not(self, line: str):
        lines = Lines()
        before = dict(lines.element.store.contents)
        assert lines(line, GUEST) == "ERROR"
        assert lines.element.store.contents == before

    @pytest.mark.parametrize(
        "line", ["?00", "?0A", "?0B", "?0C00", "?FF00", "?01x", "h00ab", "H00ab"]
    )
    def test_may(self, line: str):
        lines = Lines()
        assert lines("t001234") == "OK"
        assert lines(line, GUEST) not in ("ERROR", ABORT)

    @pytest.mark.parametrize("line", ["?0C", "?0D"])
    def test_may_not_see_the_handshake_secret_even_where_the_owner_does(self, line: str):
        lines = Lines(demo(shows_handshake_secret=True))
        guest = ApplicationSession(is_guest=True, handshake_secret=SECRET)
        assert lines(line, ApplicationSession(handshake_secret=SECRET)) == SECRET.hex().upper()
        assert lines(line, guest) == "ERROR"

    def test_may_disconnect(self):
        assert Lines()("?02", GUEST) == ABORT

    def test_may_set_and_read_its_psk_in_a_compatible_element_only(self):
        lines = Lines(demo(COMPATIBLE_2_18))
        assert lines("?A0" + NEW, GUEST) == "OK"
        assert lines("?A1", GUEST) == NEW

    def test_the_owner_of_a_hardened_element_sets_it_but_never_reads_it(self):
        lines = Lines()
        assert lines("?A0" + NEW) == "OK"
        assert lines("?A0" + NEW[2:]) == "ERROR"
        assert lines("?A1") == "ERROR"


def test_sets_identities_and_flags():
    lines = Lines()
    assert lines("?05owner") == lines("?06somebody") == lines("?A581") == "OK"
    assert lines("?05") == lines("?06" + "x" * 65) == "ERROR"
    assert lines("?05somebody") == lines("?06owner") == "ERROR"
    assert lines("?A582") == lines("?A5") == lines("?A50101") == "ERROR"
    state = lines.keystore._state
    assert (state.identity, state.guest_identity) == (b"owner", b"somebody")
    assert state.flags == Flag.GUEST_ENABLED | Flag.CHECK_SERVER_NAME


def test_serves_as_identity_module():
    # the vectors of the identity module, its demo PSK
    lines = Lines()
    assert lines("?D0" + NEW) == lines("?D1" + NEW) == "ERROR"
    assert lines("?A2" + OLD) == "OK"
    data = "C0C27BBFDBAF30C5888732734BCE1B47E3F14FAA4BE578A25BD81BBDE2D2B1FA"
    assert lines("?D0" + data) == "811ABCE77E614232741AE2F59E0497E8801D31D7388577FAED73EF63BD1B6791"
    data = "97C3CF6C99EA9840D2E35F0AE684C97A2B4B68D5F8196C0C1D0C85E2F8BF43AB"
    assert lines("?D1" + data) == "98F057EE0CC6C17E27983B9C2019111AE1E440517863C803030877139C047BDE"
    assert lines("?D0" + data[2:]) == lines("?D2" + data) == lines("?A200") == "ERROR"


def test_a_full_medium_is_a_clean_refusal():
    lines = Lines()
    assert lines("g00") == "OK"
    public = lines("p00")
    lines.element.store.full = True
    for line in ("c00", "g01", "t00", "Z00text", "?0E" + "00" * 64, f"?AA{OLD}{NEW}"):
        assert lines(line) == "ERROR"
    assert lines("p00") == public
    assert lines("I00") == "OK"
    lines.element.store.full = False
    assert lines(f"?AA{OLD}{NEW}") == NEW


def test_keys_survive_the_power():
    lines = Lines()
    assert lines("g02") == lines("t03") == lines("Z05kept") == "OK"
    answers = [lines(line) for line in ("p02", "r02", "v03", "I05", "?0A")]
    again = Lines.__new__(Lines)
    again.element = Element(contents=lines.element.store.contents)
    again.element.apdu("00A4040006010203040500")
    (instance,) = again.element.card._channels._instances.values()
    again.keystore = instance.applet._keystore
    assert [again(line) for line in ("p02", "r02", "v03", "I05", "?0A")] == answers


def test_the_echo_application_ends_on_two_lines():
    echo = EchoApplication()
    assert echo.handle(b"hello\n", OWNER).data == b"hello\n"
    assert echo.handle(b"GET /\r\n", OWNER) == echo.handle(b"GET /\r\n", GUEST)
    assert echo.handle(b"GET /\r\n", OWNER).data == b"I hear you fa shizzle!"
    assert echo.handle(b"quit\r\n", OWNER).ends_session
    assert not echo.handle(b"quit\n", OWNER).ends_session
