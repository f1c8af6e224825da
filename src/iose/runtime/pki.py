# SPDX-License-Identifier: Apache-2.0
"""The private authority of a data folder: its files, and what is done with them (docs/pki.md).

Everything is made under a lock of its own, since the command line and a running node both work
here; each file is replaced whole. X.509 itself is ``crypto.x509``'s.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from iose.crypto import x509
from iose.crypto.base import Rng
from iose.crypto.errors import CryptoError
from iose.crypto.x509 import Authority, CertificateFacts, KeyKind, Subject, Usage
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder, write_private

OPERATOR: Final = "operator"
AUTHORITY_NAME: Final = "iose authority"
AUTHORITY_MARK_SIZE: Final = 4  # authorities of two folders are told apart by their names
NODE_NAME: Final = "iose node"
AUTHORITY_LIFE: Final = timedelta(days=3650)
NODE_LIFE: Final = timedelta(days=365)
USER_LIFE: Final = timedelta(days=365)
RENEWAL_PART: Final = 3  # renewed by itself when a third of its life is left
LIST_LIFE: Final = timedelta(days=30)  # of a revocation list; a new one is made at half of it
EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)  # a clock before that has not been set
KEEP_HINT: Final = (
    "put the file back from a copy; or move the whole folder away to begin anew, "
    "with new certificates for everyone"
)


def wall_clock() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate this authority has made.

    Attributes:
        facts: What it says.
        pem: The certificate.
        state: ``valid``, ``expired``, ``revoked``, or ``early`` before its time.
    """

    facts: CertificateFacts
    pem: bytes
    state: str


@dataclass(frozen=True, slots=True)
class NewUser:
    """What a user gets.

    Attributes:
        facts: What the certificate says.
        certificate: In PEM.
        key: The private key in PEM; empty when the user keeps it.
        authority: The authority's certificate in PEM.
    """

    facts: CertificateFacts
    certificate: bytes
    key: bytes
    authority: bytes


class Pki:
    """The authority of one data folder.

    Args:
        data: The data folder; it must exist.
        rng: Where keys and serial numbers come from.
        now: The time of day.
    """

    def __init__(
        self, data: Path, rng: Rng | None = None, now: Callable[[], datetime] = wall_clock
    ) -> None:
        self.path = data / "pki"
        self._data = data
        self._rng = rng or OsRng()
        self._now = now

    @property
    def issued(self) -> Path:
        """Folder of every certificate made here."""
        return self.path / "issued"

    @property
    def authority(self) -> bytes:
        """The authority's own certificate in PEM.

        Raises:
            ConfigurationError: There is none.
        """
        return self._read("ca.pem")

    def exists(self) -> bool:
        """Return whether there is an authority."""
        return self.path.exists()

    def ensure(self, hosts: Iterable[str], *, needs_rsa: bool = False) -> bool:
        """Make what is missing, renew what ends soon, and say whether anything changed.

        Args:
            hosts: Names and addresses the node's certificate must hold; older ones stay in it.
            needs_rsa: Whether the node needs an RSA certificate, too.

        Raises:
            ConfigurationError: A file is damaged or cannot be written, or the clock is not set.
        """
        with self._locked():
            if not self.path.exists():
                self._found(tuple(dict.fromkeys(hosts)), needs_rsa=needs_rsa)
                return True
            return self._refresh(tuple(dict.fromkeys(hosts)), needs_rsa=needs_rsa)

    def certify_user(
        self, name: str, life: timedelta, *, request: bytes | None = None, is_again: bool = False
    ) -> NewUser:
        """Make a user's certificate.

        Args:
            name: Common name: who the user is in the node's rules.
            life: How long it is valid.
            request: The user's certificate request, in PEM; without one a key is made.
            is_again: Whether another valid certificate of that name is no obstacle.

        Raises:
            ConfigurationError: The name is taken or unfit, or there is no authority or no key.
        """
        with self._locked(), _explained():
            if not is_again and self._named(name):
                raise ConfigurationError(
                    f"the user {name!r} has a valid certificate already",
                    hint=f"'iose pki renew {name}', 'iose pki revoke {name}', or '--again' for "
                    "one more with the same rights",
                )
            key = b"" if request else x509.generate_key(KeyKind.P256, self._rng)
            public = x509.public_of_request(request) if request else x509.public_of_key(key)
            pem = self._certify(self.issued, name, Usage.USER, life, public)
            return NewUser(x509.decode_certificate(pem), pem, key, self._read("ca.pem"))

    def renew(self, selector: str, life: timedelta | None = None) -> NewUser:
        """Make a new certificate for the key of a valid one; that one stays valid to its end.

        Raises:
            ConfigurationError: No valid certificate is meant.
        """
        with self._locked(), _explained():
            found = self._choose(selector)
            latest = max(found, key=lambda one: one.facts.not_after)
            if latest.facts.usage is Usage.NODE:
                pem = self._renew_node(life or NODE_LIFE)
            else:
                facts, public = latest.facts, x509.public_of_certificate(latest.pem)
                pem = self._certify(self.issued, facts.name, Usage.USER, life or USER_LIFE, public)
                if self._is_current("user.pem", latest.pem):
                    write_private(self.path / "user.pem", pem)
            return NewUser(x509.decode_certificate(pem), pem, b"", self._read("ca.pem"))

    def revoke(self, selector: str) -> list[CertificateFacts]:
        """Revoke the valid certificates of a name, or the one with a serial number.

        The node gets another key and certificate in the place of a revoked one.

        Raises:
            ConfigurationError: None is meant, or the authority's key is not here.
        """
        with self._locked(), _explained():
            found = self._choose(selector)
            now = self._now()
            self._write_list({one.facts.serial: now for one in found})
            self._refresh((), needs_rsa=(self.path / "node-rsa.pem").exists())
            return [one.facts for one in found]

    def certificates(self) -> list[IssuedCertificate]:
        """Return all certificates made here, the oldest first.

        Raises:
            ConfigurationError: There is no authority, or a file is damaged.
        """
        with _explained():
            revoked, now = self._revocations().revoked, self._now()
            found = []
            for path in self.issued.glob("*.pem"):
                pem = path.read_bytes()
                try:
                    facts = x509.decode_certificate(pem)
                except CryptoError as error:
                    raise ConfigurationError(
                        f"{path}: {error}", hint="move it away; it cannot be revoked without it"
                    ) from error
                found.append(IssuedCertificate(facts, pem, _state(facts, now, revoked)))
            return sorted(found, key=lambda one: (one.facts.not_before, one.facts.serial))

    # --- a new authority ----------------------------------------------------------------------

    def _found(self, hosts: tuple[str, ...], *, needs_rsa: bool) -> None:
        """Make everything beside its place, and put it there at once."""
        now = self._checked_now()
        draft = Pki(self._data, self._rng, self._now)
        draft.path = self._data / ".pki.new"
        if draft.path.exists():  # of a start that was cut
            shutil.rmtree(draft.path)
        draft.path.mkdir(PRIVATE_FOLDER)
        draft.issued.mkdir(PRIVATE_FOLDER)
        key = x509.generate_key(KeyKind.P256, self._rng)
        name = f"{AUTHORITY_NAME} {self._rng.random_bytes(AUTHORITY_MARK_SIZE).hex()}"
        subject = Subject(name, Usage.AUTHORITY, now + AUTHORITY_LIFE)
        write_private(draft.path / "ca.key", key)
        write_private(draft.path / "ca.pem", x509.self_sign(key, subject, self._rng, now))
        write_private(
            draft.path / "crl.pem", draft._authority().revoke({}, 1, now, now + LIST_LIFE)
        )
        draft._make_node("node", KeyKind.P256, hosts)
        if needs_rsa:
            draft._make_node("node-rsa", KeyKind.RSA, hosts)
        user_key = x509.generate_key(KeyKind.P256, self._rng)
        write_private(draft.path / "user.key", user_key)
        public = x509.public_of_key(user_key)
        pem = draft._certify(draft.issued, OPERATOR, Usage.USER, USER_LIFE, public)
        write_private(draft.path / "user.pem", pem)
        draft.path.rename(self.path)
        sync_folder(self._data)

    # --- an authority that exists ---------------------------------------------------------------

    def _refresh(self, hosts: tuple[str, ...], *, needs_rsa: bool) -> bool:
        with _explained():
            has_key = (self.path / "ca.key").exists()
            changed = False
            for name, kind in (("node", KeyKind.P256), ("node-rsa", KeyKind.RSA)):
                is_wanted = kind is KeyKind.P256 or needs_rsa
                if is_wanted and has_key and not self._has_good_node(name, hosts):
                    self._make_node(name, kind, hosts)
                    changed = True
            if not has_key:
                self._revocations()
                return changed
            changed |= self._renew_operator()
            facts = self._revocations()
            if self._now() >= facts.last_update + LIST_LIFE / 2:
                self._write_list({})
                changed = True
            return changed

    def _has_good_node(self, name: str, hosts: tuple[str, ...]) -> bool:
        pem, key = self.path / f"{name}.pem", self.path / f"{name}.key"
        if not (pem.exists() and key.exists()):
            return False
        try:
            certificate = pem.read_bytes()
            facts = x509.decode_certificate(certificate)
            is_pair = x509.public_of_certificate(certificate) == x509.public_of_key(
                key.read_bytes()
            )
        except CryptoError:
            return False
        is_good = is_pair and not self._is_revoked(facts)
        return is_good and set(hosts) <= set(facts.hosts) and not self._ends_soon(facts)

    def _renew_node(self, life: timedelta) -> bytes:
        if (self.path / "node-rsa.pem").exists():
            self._make_node("node-rsa", KeyKind.RSA, (), life)
        self._make_node("node", KeyKind.P256, (), life)
        return self._read("node.pem")

    def _make_node(
        self, name: str, kind: KeyKind, hosts: tuple[str, ...], life: timedelta = NODE_LIFE
    ) -> None:
        """Give the node a new certificate; its key first, and an old key is used again.

        Not that of a revoked certificate: whoever stole it is what the revocation is for.
        """
        pem, key = self.path / f"{name}.pem", self.path / f"{name}.key"
        is_spent = False
        if pem.exists():
            older = x509.decode_certificate(pem.read_bytes())
            hosts = tuple(dict.fromkeys((*older.hosts, *hosts)))
            is_spent = self._is_revoked(older)
        if is_spent or not key.exists():
            write_private(key, x509.generate_key(kind, self._rng))
        public = x509.public_of_key(key.read_bytes())
        certificate = self._certify(self.issued, NODE_NAME, Usage.NODE, life, public, hosts)
        write_private(pem, certificate)

    def _renew_operator(self) -> bool:
        path = self.path / "user.pem"
        if not path.exists():  # taken away on purpose
            return False
        pem = path.read_bytes()
        facts = x509.decode_certificate(pem)
        if not self._ends_soon(facts) or self._is_revoked(facts):
            return False
        public = x509.public_of_certificate(pem)
        renewed = self._certify(self.issued, facts.name, Usage.USER, USER_LIFE, public)
        write_private(path, renewed)
        return True

    def _certify(
        self,
        folder: Path,
        name: str,
        usage: Usage,
        life: timedelta,
        public: x509.CertificateKey,
        hosts: tuple[str, ...] = (),
    ) -> bytes:
        """Make a certificate and keep a copy: whatever is out there can be revoked."""
        now = self._checked_now()
        subject = Subject(name, usage, now + life, hosts)
        pem = self._authority().certify(public, subject, self._rng, now)
        serial = x509.decode_certificate(pem).serial
        write_private(folder / f"{serial:x}.pem", pem)
        return pem

    def _write_list(self, more: dict[int, datetime]) -> None:
        facts, now = self._revocations(), self._checked_now()
        revoked = {**more, **facts.revoked}
        crl = self._authority().revoke(revoked, facts.number + 1, now, now + LIST_LIFE)
        write_private(self.path / "crl.pem", crl)

    def _revocations(self) -> x509.RevocationFacts:
        try:
            return x509.decode_revocations(self._read("crl.pem"), [self._read("ca.pem")])
        except CryptoError as error:
            raise ConfigurationError(f"{self.path / 'crl.pem'}: {error}", hint=KEEP_HINT) from error

    def _authority(self) -> Authority:
        return Authority(self._read("ca.pem"), self._read("ca.key"))

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            if not self.path.exists():
                raise ConfigurationError(
                    f"there is no authority in {self._data}", hint="make one with 'iose pki init'"
                ) from None
            raise ConfigurationError(f"{self.path / name} is not there", hint=KEEP_HINT) from None

    def _named(self, name: str) -> list[IssuedCertificate]:
        return [
            one
            for one in self.certificates()
            if one.facts.name == name and one.state in {"valid", "early"}
        ]

    def _choose(self, selector: str) -> list[IssuedCertificate]:
        found = self._named(selector)
        if not found:
            found = [
                one
                for one in self.certificates()
                if f"{one.facts.serial:x}" == selector.lower().lstrip("0")
                and one.state != "revoked"
            ]
        if not found:
            raise ConfigurationError(
                f"no certificate in use has the name or serial number {selector!r}",
                hint="'iose pki list' shows them",
            )
        return found

    def _is_current(self, name: str, pem: bytes) -> bool:
        path = self.path / name
        return path.exists() and path.read_bytes() == pem

    def _is_revoked(self, facts: CertificateFacts) -> bool:
        return facts.serial in self._revocations().revoked

    def _ends_soon(self, facts: CertificateFacts) -> bool:
        life = facts.not_after - facts.not_before
        return self._now() >= facts.not_after - life / RENEWAL_PART

    def _checked_now(self) -> datetime:
        now = self._now()
        if now < EARLIEST:
            raise ConfigurationError(
                f"this machine's clock says {now:%Y-%m-%d}: no certificate can be made",
                hint="set the clock",
            )
        return now.replace(microsecond=0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _explained():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._data / "pki.lock", flags, PRIVATE_FILE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


def _state(facts: CertificateFacts, now: datetime, revoked: Iterable[int]) -> str:
    if facts.serial in revoked:
        return "revoked"
    if now < facts.not_before:
        return "early"
    return "valid" if now <= facts.not_after else "expired"


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except CryptoError as error:
        raise ConfigurationError(str(error), hint=error.hint or KEEP_HINT) from error
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or 'the folder of certificates'}: {error.strerror}",
            hint="see what is wrong with the data folder",
        ) from error
