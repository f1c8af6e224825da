# SPDX-License-Identifier: Apache-2.0
"""``iose attest`` and ``iose element certify``: words, JSON, files, exit status; no key printed."""

import json
import stat

import pytest

from iose.applet_api import AppletFacts
from iose.applets.tls_se import Settings, Wire
from iose.card.context import InstanceContext
from iose.cli.main import run
from iose.client.attestation.authority import DEMO_AUTHORITY_PRIVATE
from iose.client.attestation.result import DEMO_AUTHORITY
from iose.client.credentials import Credential, CredentialsStore
from iose.client.uri import ElementUri
from iose.crypto import ec_keys
from iose.crypto.base import Curve
from tests.support.element import CRYPTO, DEMO_PSK, Element, demo
from tests.support.element_link import HonestHost, listening_hosts

FACTS = AppletFacts("tls_se", "1.2", bytes(range(32)), 0x07, is_copy=False)
PRIVATE = b"\x11" * 32
PUBLIC = CRYPTO.public_key(Curve.SECP256K1, PRIVATE)
OTHER = CRYPTO.public_key(Curve.SECP256K1, b"\x12" * 32).hex()


class Terminal:
    """Types commands about one element.

    Attributes:
        element: What is behind the URI; a test may put another there.
    """

    def __init__(self, folder, capfd) -> None:
        self.folder = folder
        self.element = Element()
        self.port = 0
        self._capfd = capfd

    @property
    def uri(self) -> str:
        return f"keyS://key1.com@127.0.0.1:{self.port}/"

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = run(arguments)
        printed = self._capfd.readouterr()
        assert DEMO_PSK.hex() not in printed.out + printed.err
        assert PRIVATE.hex() not in printed.out + printed.err
        return status, printed.out, printed.err

    def json(self, *arguments: str, status: int = 0) -> dict:
        ended, out, err = self(*arguments, "--json")
        assert ended == status, err
        return json.loads(out)

    def certify(self, *options: str) -> None:
        arguments = ("element", "certify", self.uri, "--ca-key", self.key_file())
        assert self(*arguments, *options)[0] == 0

    def key_file(self, content: str = PRIVATE.hex()) -> str:
        path = self.folder / "ca"
        path.write_text(content)
        path.chmod(0o600)
        return str(path)


@pytest.fixture
def terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "credentials"))
    monkeypatch.delenv("IOSE_PSK", raising=False)
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: FACTS)
    typed = Terminal(tmp_path, capfd)
    with listening_hosts(lambda: HonestHost(typed.element)) as typed.port:
        CredentialsStore().save(Credential(ElementUri.decode(typed.uri).address, DEMO_PSK))
        yield typed


# --- certify --------------------------------------------------------------------------------


def test_a_provider_makes_a_key_certifies_and_a_user_attests(terminal):
    folder = terminal.folder
    status, out, err = terminal("element", "certify", "--new-ca", str(folder / "our-ca"))
    assert (status, err) == (0, "")
    assert stat.S_IMODE((folder / "our-ca").stat().st_mode) == 0o600
    private = ec_keys.decode_private_key((folder / "our-ca").read_bytes(), Curve.SECP256K1)
    public = CRYPTO.public_key(Curve.SECP256K1, private).hex()
    assert out.splitlines()[-1] == public
    status, out, err = terminal(
        "element", "certify", terminal.uri, "--ca-key", str(folder / "our-ca")
    )
    assert (status, err) == (0, "")
    assert "certified key1.com@127.0.0.1" in out
    for authority in (str(folder / "our-ca.pub"), public, public.upper()):
        status, out, err = terminal("attest", terminal.uri, "--ca", authority)
        assert (status, err) == (0, "")
        assert "verified:" in out
        assert "not verified:" in out


def test_a_key_is_made_and_used_at_once(terminal):
    document = terminal.json(
        "element", "certify", terminal.uri, "--new-ca", str(terminal.folder / "made")
    )
    assert document["certified"]
    assert document["public_file"] == str(terminal.folder / "made.pub")
    assert terminal.json("attest", terminal.uri, "--ca", document["authority"])["error"] is None


@pytest.mark.parametrize("name", ["made", "made.pub"])
def test_a_key_is_never_written_over(terminal, name):
    (terminal.folder / name).write_text("precious")
    status, _, err = terminal("element", "certify", "--new-ca", str(terminal.folder / "made"))
    assert status == 1
    assert "already" in err
    assert (terminal.folder / name).read_text() == "precious"


def test_an_element_is_certified_once(terminal):
    terminal.certify()
    status, out, err = terminal("element", "certify", terminal.uri, "--ca-key", terminal.key_file())
    assert (status, out) == (1, "")
    assert err.startswith("error: the element has a certificate already")


def test_the_published_key_comes_with_a_loud_warning(terminal):
    status, _, err = terminal("element", "certify", terminal.uri, "--ca-key", "demo")
    assert status == 0
    assert "PRIVATE KEY IS PUBLISHED" in err
    for authority in ("demo", DEMO_AUTHORITY.hex()):
        status, out, err = terminal("attest", terminal.uri, "--ca", authority)
        assert status == 0
        assert "PRIVATE KEY IS PUBLISHED" in err
        assert "the private key of this authority is published" in out
    # also when it comes from a file
    terminal.element = Element()
    file = terminal.key_file(DEMO_AUTHORITY_PRIVATE.hex())
    assert "PUBLISHED" in terminal("element", "certify", terminal.uri, "--ca-key", file)[2]


def test_an_element_whose_host_can_sign_is_certified_only_when_told_so_and_with_a_warning(terminal):
    terminal.element = Element(demo(Settings(Wire.COMPATIBLE)))
    arguments = ("element", "certify", terminal.uri, "--ca-key", terminal.key_file())
    status, out, err = terminal(*arguments)
    assert (status, out) == (1, "")
    assert "nothing was signed" in err
    assert "--without-statement" in err
    assert "is not certified" in terminal("attest", terminal.uri, "--ca", PUBLIC.hex())[2]
    status, _, err = terminal(*arguments, "--without-statement")
    assert status == 0
    assert err.startswith("warning: this element does not state what it is")


def test_a_private_key_on_the_command_line_is_not_repeated(terminal):
    for given in (
        ("element", "certify", terminal.uri, "--ca-key", PRIVATE.hex()),
        ("attest", terminal.uri, "--ca", PRIVATE.hex()),
    ):
        assert terminal(*given)[0] == 1  # and Terminal looks for it in what was printed


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 32, "11" * 31, "-----BEGIN X-----\n"])
def test_a_file_without_a_private_key_is_refused(terminal, content):
    status, _, err = terminal(
        "element", "certify", terminal.uri, "--ca-key", terminal.key_file(content)
    )
    assert status == 1
    assert "--new-ca" in err


def test_a_private_key_that_others_can_read_is_refused(terminal):
    file = terminal.key_file()
    (terminal.folder / "ca").chmod(0o640)
    status, _, err = terminal("element", "certify", terminal.uri, "--ca-key", file)
    assert status == 1
    assert "0600" in err


@pytest.mark.parametrize(
    "arguments", [[], ["URI"], ["--ca-key", "x"], ["--ca-key", "x", "--new-ca", "y"]]
)
def test_certify_needs_a_key_and_something_to_do(terminal, arguments):
    given = [terminal.uri if one == "URI" else one for one in arguments]
    assert terminal("element", "certify", *given)[0] == 2


# --- attest ---------------------------------------------------------------------------------


def test_the_document_tells_what_was_shown(terminal):
    terminal.certify()
    document = terminal.json("attest", terminal.uri, "--ca", PUBLIC.hex())
    assert document["error"] is None
    assert document["sen"] == document["statement"]["sen"] == "key1.com"
    assert document["authority"] == PUBLIC.hex()
    assert document["taken_over"] is False
    assert document["statement"]["package_hash"] == FACTS.package_hash.hex()
    assert document["statement"]["copy"] is False
    assert len(document["verified"]) == 3
    assert document["not_verified"]


def test_a_mismatch_is_exit_status_1(terminal):
    document = terminal.json("attest", terminal.uri, "--ca", PUBLIC.hex(), status=1)
    assert document["error"]["type"] == "AttestationError"
    assert document["verified"] == []
    terminal.certify()
    for arguments in (["--ca", OTHER], ["--ca", PUBLIC.hex(), "--expect-hash", "AB" * 32]):
        status, out, err = terminal("attest", terminal.uri, *arguments)
        assert (status, out) == (1, "")
        assert err.startswith("error: ")
        assert "next: " in err


def test_the_expected_hash_is_verified(terminal):
    terminal.certify()
    expected = ("--expect-hash", FACTS.package_hash.hex())
    status, out, _ = terminal("attest", terminal.uri, "--ca", PUBLIC.hex(), *expected)
    assert status == 0
    assert "package you expect" in out


def test_take_over_keeps_the_new_key(terminal):
    terminal.certify()
    status, out, _ = terminal("attest", terminal.uri, "--ca", PUBLIC.hex(), "--take-over")
    assert status == 0
    assert "taken over" in out
    (kept,) = CredentialsStore().credentials()
    assert kept.psk != DEMO_PSK
    assert kept.pending_psk is None
    assert kept.psk.hex() not in out
    document = terminal.json("attest", terminal.uri, "--ca", PUBLIC.hex(), "--take-over")
    assert document["taken_over"]


def test_evidence_that_cannot_be_written_does_not_hide_that_the_element_was_taken_over(
    terminal, monkeypatch
):
    def full(_attestation):
        raise OSError(28, "No space left on device")

    terminal.certify()
    monkeypatch.setattr("iose.cli.attest._evidence", full)
    file = terminal.folder / "evidence.json"
    taking = ("attest", terminal.uri, "--ca", PUBLIC.hex(), "--take-over", "--out", str(file))
    status, out, err = terminal(*taking)
    assert status == 1
    assert "taken over" in out
    assert str(file) not in out
    assert f"{file}: no space left on device" in err
    assert not file.exists()


def test_a_copy_is_shown_loudly(terminal, monkeypatch):
    copy = AppletFacts("tls_se", "1.2", bytes(range(32)), 0x07, is_copy=True)
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: copy)
    terminal.certify()
    status, out, err = terminal("attest", terminal.uri, "--ca", PUBLIC.hex())
    assert status == 0
    assert "copy               YES" in out
    assert err.startswith("warning: the element is marked as a copy")
    taking = ("attest", terminal.uri, "--ca", PUBLIC.hex(), "--take-over")
    assert terminal(*taking)[0] == 1
    assert terminal(*taking, "--accept-copy")[0] == 0


def test_a_compatible_element_is_attested_and_said_to_be_little(terminal):
    terminal.element = Element(demo(Settings(Wire.COMPATIBLE)))
    terminal.certify("--without-statement")
    status, out, _ = terminal("attest", terminal.uri, "--ca", PUBLIC.hex())
    assert status == 0
    assert "makes no statement" in out
    required = ("attest", terminal.uri, "--ca", PUBLIC.hex(), "--require-statement")
    assert terminal(*required)[0] == 1


# --- evidence -------------------------------------------------------------------------------


@pytest.fixture
def evidence(terminal):
    """The file of an attestation, and the document in it."""
    terminal.certify()
    file = terminal.folder / "evidence.json"
    status, out, _ = terminal("attest", terminal.uri, "--ca", PUBLIC.hex(), "--out", str(file))
    assert status == 0
    assert str(file) in out
    return file


def test_anybody_verifies_evidence_offline(terminal, evidence):
    terminal.element = Element()  # whatever is there now
    status, out, err = terminal("attest", "--verify", str(evidence), "--ca", PUBLIC.hex())
    assert (status, err) == (0, "")
    assert "verified:" in out
    assert "the saver's word:" in out
    document = terminal.json("attest", "--verify", str(evidence), "--ca", PUBLIC.hex())
    assert document["error"] is None
    assert document["saved_at"].endswith("+00:00")
    expected = ("--expect-hash", FACTS.package_hash.hex(), "--require-statement")
    assert terminal("attest", "--verify", str(evidence), "--ca", PUBLIC.hex(), *expected)[0] == 0


def test_evidence_holds_no_secret(evidence):
    assert DEMO_PSK.hex() not in evidence.read_text()
    assert "handshake_secret" not in evidence.read_text()


@pytest.mark.parametrize(
    "name", ["public_key", "certificate", "challenge", "proof", "proof_digest", "sen", "statement"]
)
def test_changed_evidence_does_not_verify(terminal, evidence, name):
    document = json.loads(evidence.read_text())
    value = document[name]
    if name == "statement":
        value["content"] = value["content"][:-2] + "00"
    elif name == "sen":
        document[name] = "key2.com"
    else:
        document[name] = ("00" if value[:2] != "00" else "01") + value[2:]
    evidence.write_text(json.dumps(document))
    status, out, err = terminal("attest", "--verify", str(evidence), "--ca", PUBLIC.hex())
    assert (status, out) == (1, "")
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authority", OTHER),
        ("sen", "\ud800"),
        ("sen", "\u212aey1.com"),  # a kelvin sign, which is k in lower case
        ("statement.copy", True),
        ("statement.sen", "key2.com"),
        ("statement.seid", "se-1"),
        ("statement.package_hash", "AB" * 32),
    ],
)
def test_nothing_that_people_read_in_evidence_may_be_changed(terminal, evidence, name, value):
    document = json.loads(evidence.read_text())
    place, _, inner = name.rpartition(".")
    (document[place] if place else document)[inner] = value
    evidence.write_text(json.dumps(document))
    status, out, err = terminal("attest", "--verify", str(evidence), "--ca", PUBLIC.hex())
    assert (status, out) == (1, "")
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    "options", [["--ca", OTHER], ["--ca", PUBLIC.hex(), "--expect-hash", "AB" * 32]]
)
def test_evidence_of_something_else_does_not_verify(terminal, evidence, options):
    assert terminal("attest", "--verify", str(evidence), *options)[0] == 1


def test_evidence_without_statement_shows_less(terminal):
    terminal.element = Element(demo(Settings(Wire.COMPATIBLE)))
    terminal.certify("--without-statement")
    file = str(terminal.folder / "evidence.json")
    assert terminal("attest", terminal.uri, "--ca", PUBLIC.hex(), "--out", file)[0] == 0
    verify = ("attest", "--verify", file, "--ca", PUBLIC.hex())
    assert terminal(*verify)[0] == 0
    assert terminal(*verify, "--require-statement")[0] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"format": "iose attestation", "format_version": 2}',
        b'{"format": "iose attestation", "format_version": 1}',
        b"[" * 70_000,
    ],
)
def test_what_is_no_evidence_is_refused(terminal, content):
    file = terminal.folder / "evidence.json"
    file.write_bytes(content)
    status, _, err = terminal("attest", "--verify", str(file), "--ca", PUBLIC.hex())
    assert status == 1
    assert err.startswith("error: ")
    assert terminal.json("attest", "--verify", str(file), "--ca", PUBLIC.hex(), status=1)["error"]


def test_evidence_is_never_written_over(terminal, evidence):
    before = evidence.read_text()
    status, _, err = terminal(
        "attest", terminal.uri, "--ca", PUBLIC.hex(), "--take-over", "--out", str(evidence)
    )
    assert status == 1
    assert "exists" in err
    assert evidence.read_text() == before
    assert CredentialsStore().credentials()[0].psk == DEMO_PSK, "nothing was taken over"


def test_nothing_is_asked_when_the_evidence_has_no_place(terminal):
    terminal.certify()
    taking = ("attest", terminal.uri, "--ca", PUBLIC.hex(), "--take-over", "--out")
    status, _, err = terminal(*taking, str(terminal.folder / "nowhere" / "file"))
    assert status == 1
    assert "no such file or directory" in err
    assert CredentialsStore().credentials()[0].psk == DEMO_PSK


def test_a_failed_attestation_leaves_no_file(terminal):
    file = terminal.folder / "evidence.json"
    assert terminal("attest", terminal.uri, "--ca", PUBLIC.hex(), "--out", str(file))[0] == 1
    assert not file.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ca", PUBLIC.hex()],
        ["URI"],
        ["URI", "--ca", PUBLIC.hex(), "--verify", "x"],
        ["--verify", "x", "--ca", PUBLIC.hex(), "--take-over"],
        ["--verify", "x", "--ca", PUBLIC.hex(), "--out", "y"],
        ["URI", "--ca", PUBLIC.hex(), "--expect-hash", "12"],
        ["http://x", "--ca", PUBLIC.hex()],
    ],
)
def test_wrong_usage_is_status_2(terminal, arguments):
    given = [terminal.uri if one == "URI" else one for one in arguments]
    assert terminal("attest", *given)[0] == 2


@pytest.mark.parametrize("source", ["", "nowhere", "04" + "00" * 64, "04" + "11" * 63, "a\0b"])
def test_an_authority_that_is_no_key_is_refused(terminal, source):
    status, _, err = terminal("attest", terminal.uri, "--ca", source)
    assert status == 1
    assert "130 hex digits" in err


@pytest.mark.parametrize("content", [b"", b"04" * 65, b"-----BEGIN PUBLIC KEY-----\n", b"\xff"])
def test_a_file_without_a_public_key_is_refused(terminal, content):
    file = terminal.folder / "ca.pub"
    file.write_bytes(content)
    status, _, err = terminal("attest", terminal.uri, "--ca", str(file))
    assert status == 1
    assert "130 hex digits" in err
