# SPDX-License-Identifier: Apache-2.0
"""The authority of a data folder: what it makes, renews and revokes, and what a cut leaves."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from iose.crypto import x509
from iose.crypto.x509 import KeyKind, Usage
from iose.runtime import pki as pki_module
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from iose.runtime.own_authority import has_trust
from iose.runtime.pki import Pki, wall_clock
from iose.runtime.racs_settings import RacsSettings
from tests.support.certificates import request
from tests.support.peers import require_peer

HOSTS = ("localhost", "127.0.0.1", "::1")
DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = wall_clock()

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pki(tmp_path: Path, clock: Clock) -> Pki:
    made = Pki(tmp_path, now=clock)
    assert made.ensure(HOSTS)
    return made


def facts(pki: Pki, name: str) -> x509.CertificateFacts:
    return x509.decode_certificate((pki.path / name).read_bytes())


def crl(pki: Pki) -> x509.RevocationFacts:
    files = ((pki.path / name).read_bytes() for name in ("crl.pem", "ca.pem"))
    return x509.decode_revocations(next(files), [next(files)])


def states(pki: Pki) -> list[tuple[str, str]]:
    return sorted((one.facts.name, one.state) for one in pki.certificates())


def test_a_first_start_makes_an_authority_a_node_and_an_operator(pki: Pki):
    assert facts(pki, "node.pem").hosts == HOSTS
    assert facts(pki, "node.pem").usage is Usage.NODE
    assert facts(pki, "user.pem").usage is Usage.USER
    assert facts(pki, "user.pem").name == "operator"
    assert facts(pki, "ca.pem").usage is Usage.AUTHORITY
    assert states(pki) == [("iose node", "valid"), ("operator", "valid")]
    for path in pki.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_second_start_changes_nothing(pki: Pki):
    before = {path: path.read_bytes() for path in pki.path.rglob("*.*")}
    assert not pki.ensure(HOSTS)
    assert {path: path.read_bytes() for path in pki.path.rglob("*.*")} == before


def test_openssl_accepts_each_certificate_for_its_own_purpose_alone(pki: Pki):
    openssl = require_peer("openssl")
    for name, good, bad in (
        ("node.pem", "sslserver", "sslclient"),
        ("user.pem", "sslclient", "sslserver"),
    ):
        for purpose, is_good in ((good, True), (bad, False)):
            command = [openssl, "verify", "-x509_strict", "-crl_check", "-purpose", purpose]
            command += ["-CRLfile", "crl.pem", "-CAfile", "ca.pem", name]
            status = subprocess.run(command, cwd=pki.path, check=False, capture_output=True)
            assert (status.returncode == 0) is is_good, (name, purpose)


def test_keys_fit_their_certificates(pki: Pki):
    pki.ensure(HOSTS, needs_rsa=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in ("node", "node-rsa", "user"):
        context.load_cert_chain(pki.path / f"{name}.pem", pki.path / f"{name}.key")


def test_a_new_address_is_added_to_the_names_of_the_node(pki: Pki):
    assert pki.ensure(("192.0.2.1",))
    assert facts(pki, "node.pem").hosts == (HOSTS[0], *HOSTS[1:], "192.0.2.1")


def test_what_ends_soon_is_renewed_and_nothing_before(pki: Pki, clock: Clock):
    clock.now += 200 * DAY
    node, user = facts(pki, "node.pem"), facts(pki, "user.pem")
    pki.ensure(HOSTS)
    assert facts(pki, "node.pem") == node
    clock.now += 60 * DAY
    assert pki.ensure(HOSTS)
    assert facts(pki, "node.pem").not_after > node.not_after
    assert facts(pki, "user.pem").not_after > user.not_after
    assert facts(pki, "user.pem").name == "operator"


def test_who_is_revoked_is_not_renewed(pki: Pki, clock: Clock):
    pki.revoke("operator")
    clock.now += 300 * DAY
    assert pki.ensure(HOSTS)
    assert "operator" not in {name for name, state in states(pki) if state == "valid"}


def test_a_revocation_list_is_renewed_at_half_its_life(pki: Pki, clock: Clock):
    clock.now += 14 * DAY
    assert not pki.ensure(HOSTS)
    clock.now += 2 * DAY
    assert pki.ensure(HOSTS)
    assert crl(pki).number == 2
    assert crl(pki).next_update > clock.now + 29 * DAY


def test_a_user_is_certified_renewed_and_revoked(pki: Pki):
    new = pki.certify_user("alice", 30 * DAY)
    assert new.facts.usage is Usage.USER
    assert x509.public_of_key(new.key) == x509.public_of_certificate(new.certificate)
    with pytest.raises(ConfigurationError, match="has a valid certificate"):
        pki.certify_user("alice", 30 * DAY)
    renewed = pki.renew("alice", 60 * DAY)
    assert renewed.key == b""
    assert x509.public_of_certificate(renewed.certificate) == x509.public_of_key(new.key)
    assert {one.serial for one in pki.revoke("alice")} == {
        new.facts.serial,
        renewed.facts.serial,
    }
    assert set(crl(pki).revoked) == {new.facts.serial, renewed.facts.serial}
    assert ("alice", "revoked") in states(pki)
    with pytest.raises(ConfigurationError, match="no certificate in use"):
        pki.revoke("alice")
    again = pki.certify_user("alice", DAY)
    assert [one.serial for one in pki.revoke(f"{again.facts.serial:X}")] == [again.facts.serial]
    assert len(crl(pki).revoked) == 3


def test_revocations_outlive_a_renewal_of_the_list(pki: Pki, clock: Clock):
    serial = pki.certify_user("bob", 300 * DAY).facts.serial
    pki.revoke("bob")
    clock.now += 40 * DAY
    assert pki.ensure(HOSTS)
    assert set(crl(pki).revoked) == {serial}


def test_a_user_who_brings_a_request_keeps_the_key(pki: Pki):
    key = x509.generate_key(KeyKind.P256, OsRng())
    pem = request(key, "mallory")
    new = pki.certify_user("carol", DAY, request=pem)
    assert (new.key, new.facts.name) == (b"", "carol")
    assert x509.public_of_certificate(new.certificate) == x509.public_of_key(key)
    lines = pem.splitlines()
    lines[2] = lines[2][::-1]
    with pytest.raises(ConfigurationError):
        pki.certify_user("dave", DAY, request=b"\n".join(lines))


@pytest.mark.parametrize("name", ["", "a" * 65, "*", "sha256:00", "psk:board", " a", "a\nb", "a*"])
def test_a_name_that_means_something_else_is_refused(pki: Pki, name: str):
    with pytest.raises(ConfigurationError, match="cannot be"):
        pki.certify_user(name, DAY)
    pki.certify_user("a" * 64, DAY)


def test_no_authority_is_made_while_the_clock_is_not_set(tmp_path: Path):
    unset = Pki(tmp_path, now=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigurationError, match="clock"):
        unset.ensure(HOSTS)
    assert not unset.exists()


def test_a_lost_revocation_list_is_not_taken_for_an_empty_one(pki: Pki):
    (pki.path / "crl.pem").unlink()
    for attempt in (lambda: pki.ensure(HOSTS), pki.certificates, lambda: pki.revoke("operator")):
        with pytest.raises(ConfigurationError, match=r"crl\.pem"):
            attempt()


def test_a_list_of_another_authority_is_refused(pki: Pki, tmp_path: Path):
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other")
    other.ensure(HOSTS)
    (pki.path / "crl.pem").write_bytes((other.path / "crl.pem").read_bytes())
    for act in (lambda: pki.ensure(HOSTS), lambda: pki.revoke("operator")):
        with pytest.raises(ConfigurationError, match=r"crl\.pem: no authority"):
            act()


def test_the_key_of_the_authority_may_be_taken_away(pki: Pki, clock: Clock):
    (pki.path / "ca.key").unlink()
    clock.now += 300 * DAY
    assert not pki.ensure(HOSTS)
    with pytest.raises(ConfigurationError, match=r"ca\.key"):
        pki.certify_user("alice", DAY)


def test_a_node_certificate_that_is_gone_is_made_again_with_its_key(pki: Pki):
    public = x509.public_of_key((pki.path / "node.key").read_bytes())
    (pki.path / "node.pem").unlink()
    assert pki.ensure(HOSTS)
    assert x509.public_of_certificate((pki.path / "node.pem").read_bytes()) == public


def test_a_revoked_node_gets_another_key_and_its_names_again(pki: Pki):
    pki.ensure((*HOSTS, "gose.example"), needs_rsa=True)
    before = {name: (pki.path / name).read_bytes() for name in ("node.key", "node-rsa.key")}
    pki.revoke("iose node")
    assert all((pki.path / name).read_bytes() != key for name, key in before.items())
    assert set(facts(pki, "node.pem").hosts) == {*HOSTS, "gose.example"}
    revoked = crl(pki).revoked
    assert not {facts(pki, name).serial for name in ("node.pem", "node-rsa.pem")} & set(revoked)
    assert pki.ensure(HOSTS) is False


def test_a_copy_that_is_damaged_is_named_and_can_be_moved_away(pki: Pki):
    damaged = pki.issued / "dead.pem"
    damaged.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"dead\.pem"):
        pki.revoke("operator")
    damaged.unlink()
    assert pki.revoke("operator")


def test_of_two_revocations_at_once_none_is_lost(pki: Pki, monkeypatch):
    for name in ("alice", "bob"):
        pki.certify_user(name, DAY)
    write = pki_module.write_private
    other = Thread(target=pki.revoke, args=("bob",))

    def meet(path: Path, content: bytes) -> None:
        if not other.ident:
            other.start()
            other.join(0.2)  # it waits for us, and would be done by then if it did not
        write(path, content)

    monkeypatch.setattr(pki_module, "write_private", meet)
    pki.revoke("alice")
    other.join()
    assert [one for one in states(pki) if one[1] == "revoked"] == [
        ("alice", "revoked"),
        ("bob", "revoked"),
    ]


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


@pytest.mark.parametrize("step", range(1, 11))
def test_a_cut_first_start_leaves_no_half_made_authority(tmp_path, monkeypatch, step: int):
    written = []
    write = pki_module.write_private

    def cut(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == step:
            path.write_bytes(content[: len(content) // 2])
            raise PowerCut
        write(path, content)

    pki = Pki(tmp_path)
    monkeypatch.setattr(pki_module, "write_private", cut)
    if step <= 9:
        with pytest.raises(PowerCut):
            pki.ensure(HOSTS)
        assert not pki.exists()
    monkeypatch.undo()
    pki.ensure(HOSTS)
    assert states(pki) == [("iose node", "valid"), ("operator", "valid")]
    assert not (tmp_path / ".pki.new").exists()


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_cut_revocation_leaves_the_old_list_or_the_new_one(pki: Pki, monkeypatch, part: float):
    before = crl(pki)

    def cut(path: Path, content: bytes) -> None:
        path.with_name(f".{path.name}.new").write_bytes(content[: int(len(content) * part)])
        raise PowerCut

    monkeypatch.setattr(pki_module, "write_private", cut)
    with pytest.raises(PowerCut):
        pki.revoke("operator")
    monkeypatch.undo()
    assert crl(pki) == before
    pki.revoke("operator")
    assert len(crl(pki).revoked) == 1


def test_a_full_disk_stops_no_node_whose_certificates_are_there(pki: Pki, monkeypatch):
    folder, racs = DataFolder(pki.path.parent), RacsSettings()
    assert has_trust(folder, racs)
    assert not has_trust(folder, RacsSettings(legacy_rsa_kx=True))
    monkeypatch.setattr(pki_module, "write_private", _full_disk)
    with pytest.raises(ConfigurationError, match="No space"):
        pki.ensure(("more.example",))
    assert facts(pki, "node.pem").hosts == HOSTS
    assert has_trust(folder, racs)


def _full_disk(path: Path, _content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))
