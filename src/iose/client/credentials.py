# SPDX-License-Identifier: Apache-2.0
"""The keys of the elements someone uses, in one file of mode 0600.

The file is replaced as a whole, under a lock, so that it is found either before or after a
change. While a PSK is being changed the old and the new one are both kept: when the element's
last word is lost, nobody else knows which of them holds. What one program wrote down, another
replaces only if it knows of it.
"""

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from iose.client.errors import CredentialsError, ElementUriError
from iose.client.module import HopModule, Module, ModuleSession, RacsModule, decode_module
from iose.client.module_place import ReaderModule
from iose.client.uri import DEFAULT_IDENTITY, ElementAddress, ElementUri, decode_psk
from iose.client.user_files import FOLDER_MODE, create_file, sync_folder, user_folder

PATH_VARIABLE: Final = "IOSE_CREDENTIALS"
FORMAT_VERSION: Final = 1
MODULES_VERSION: Final = 2  # of a file that names a module: an older iose must not drop it
READERS_VERSION: Final = 3  # of a file that names a module behind a reader
MAX_FILE_SIZE: Final = 16 * 1024 * 1024  # some 60 000 elements; a larger file is not ours
LOCK_TIMEOUT_S: Final = 10.0  # who holds it writes one small file
_LOCK_POLL_S: Final = 0.01
_VERSIONS: Final = (FORMAT_VERSION, MODULES_VERSION, READERS_VERSION)


@dataclass(frozen=True, slots=True)
class Credential:
    """The key of one identity at one element.

    Attributes:
        address: The element.
        identity: The PSK identity it knows us by.
        psk: The key; never printed. None when a module has it.
        pending_psk: The key a change may have put in its place, until one of the two is confirmed.
        module: Who has the key when we have not; only what is a ``Module`` is kept.
    """

    address: ElementAddress
    psk: bytes | None = field(default=None, repr=False)
    identity: str = DEFAULT_IDENTITY
    pending_psk: bytes | None = field(default=None, repr=False)
    module: Module | ModuleSession | None = None

    def __post_init__(self) -> None:
        """Check the values, as those of a URI are checked.

        Raises:
            ElementUriError: A value is not one that a URI could hold, or there is not one of key
                and module.
        """
        if (self.psk is None) is (self.module is None):
            raise ElementUriError("expected a key or a module")
        for psk in self.candidates:
            ElementUri(
                scheme="keyS",
                sen=self.address.sen,
                host=self.address.host,
                port=self.address.port,
                psk=psk,
                identity=self.identity or "",
            )

    @property
    def candidates(self) -> tuple[bytes | None, ...]:
        """The keys to try, the likelier first: a change whose answer was lost most often held.

        None is a key that a module has.
        """
        return (self.psk,) if self.pending_psk is None else (self.pending_psk, self.psk)

    def begin_change(self, new: bytes) -> "Credential":
        """Return the same with a second key, which the element may soon know it by."""
        return replace(self, pending_psk=new)

    def confirm(self, psk: bytes) -> "Credential":
        """Return the same with the one key that the element has just accepted."""
        return replace(self, psk=psk, pending_psk=None)


class CredentialsStore:
    """The credentials in one file; nothing is read before it is asked for, nothing is cached."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """The file; by default this user's, looked for when it is needed.

        Raises:
            CredentialsError: This user has no home.
        """
        return default_path() if self._path is None else self._path

    def credentials(self) -> list[Credential]:
        """Return all credentials, sorted by element.

        Raises:
            CredentialsError: The file is open to others, cannot be read, or is not ours.
        """
        return sorted(self._read(), key=lambda kept: (str(kept.address), kept.identity))

    def find(self, address: ElementAddress, identity: str | None = None) -> Credential | None:
        """Return the credential of an element, or None.

        Args:
            address: The element.
            identity: Whose credential; None takes the only one, or the usual identity's.

        Raises:
            CredentialsError: The file cannot be used, or several identities match.
        """
        found = [kept for kept in self._read() if kept.address == address]
        if identity is None and len(found) > 1:
            usual = [kept for kept in found if kept.identity == DEFAULT_IDENTITY]
            if not usual:
                raise CredentialsError(
                    f"several identities are kept for {address}",
                    hint="say which one: --identity, or /;id=<identity> in the URI",
                )
            return usual[0]
        return next((kept for kept in found if identity in (None, kept.identity)), None)

    def save(self, credential: Credential) -> None:
        """Keep a credential, in place of the one of the same element and identity.

        Raises:
            CredentialsError: The file cannot be used, or the module is of no kind that is kept;
                it is unchanged.
        """
        self._update(lambda kept: [*_others(kept, credential), credential])

    def replace(self, before: Credential | None, after: Credential) -> bool:
        """Keep a credential if the file holds what the caller believes; return whether it did.

        Args:
            before: What it should hold for this element and identity; None when nothing.
            after: What takes its place.

        Raises:
            CredentialsError: The file cannot be used; it is unchanged.
        """
        is_known = False

        def change(kept: list[Credential]) -> list[Credential]:
            nonlocal is_known
            current = next((one for one in kept if _is_same_entry(one, after)), None)
            is_known = current == before
            return [*_others(kept, after), after] if is_known else kept

        self._update(change)
        return is_known

    def forget_pin(self, module: RacsModule | ReaderModule) -> None:
        """Forget the PIN of a module for every element whose PSK it has: all share its tries.

        Raises:
            CredentialsError: The file cannot be used; it is unchanged.
        """

        def without_pin(one: Credential) -> Credential:
            kept = one.module
            if isinstance(kept, RacsModule) and isinstance(module, RacsModule):
                is_same = replace(kept, pki=module.pki) == module
            else:
                is_same = kept == module
            if is_same and isinstance(kept, RacsModule | ReaderModule):
                return replace(one, module=replace(kept, pin=None))
            return one

        self._update(lambda kept: [without_pin(one) for one in kept])

    def remove(self, address: ElementAddress, identity: str | None = None) -> int:
        """Forget the credentials of an element, or of one identity; return how many there were.

        Raises:
            CredentialsError: The file cannot be used; it is unchanged.
        """
        before = after = 0

        def drop(kept: list[Credential]) -> list[Credential]:
            nonlocal before, after
            left = [
                one
                for one in kept
                if one.address != address or identity not in (None, one.identity)
            ]
            before, after = len(kept), len(left)
            return left

        self._update(drop)
        return before - after

    def _update(self, change: Callable[[list[Credential]], list[Credential]]) -> None:
        path = Path(os.path.realpath(self.path))  # a link stays a link
        try:
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            with _locked(path):
                kept = self._read()
                if (changed := change(kept)) != kept:
                    _replace(path, _encode(changed))
        except OSError as fault:
            raise _unusable(path, fault) from None

    def _read(self) -> list[Credential]:
        try:
            with self.path.open("rb") as file:
                _check_private(self.path, os.fstat(file.fileno()))
                return _decode(self.path, file.read(MAX_FILE_SIZE + 1))
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise _unusable(self.path, fault) from None


def default_path() -> Path:
    """Return the file of this user: IOSE_CREDENTIALS, or its place by the XDG rules.

    Raises:
        CredentialsError: This user has no home, and the environment names no place.
    """
    if chosen := os.environ.get(PATH_VARIABLE):
        return Path(chosen)
    base = user_folder("XDG_CONFIG_HOME", ".config")
    if base is None:
        raise CredentialsError(
            "this user has no home folder to keep credentials in",
            hint=f"name a file for them in {PATH_VARIABLE}",
        )
    return base / "iose" / "credentials"


def _unusable(path: Path, fault: OSError) -> CredentialsError:
    return CredentialsError(
        f"{path}: {fault.strerror}", hint=f"another file can be named in {PATH_VARIABLE}"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # beside the file, since the file itself is replaced
    descriptor = create_file(f"{path}.lock", os.O_RDWR)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not _is_taken(descriptor):
            if time.monotonic() > deadline:
                raise CredentialsError(
                    f"{path}: another program has kept it locked for {LOCK_TIMEOUT_S:g} s",
                    hint="find out which one, and end it",
                )
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # of a program that was killed; we hold the lock
    try:
        with open(create_file(draft, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise CredentialsError(
            f"{path}: expected mode 0600, found {mode:04o}: others may have read the keys in it",
            hint=f"chmod 600 {path}, and change the keys if others could read them",
        )
    if status.st_uid != os.geteuid():
        raise CredentialsError(f"{path}: belongs to another user")


def _is_same_entry(one: Credential, other: Credential) -> bool:
    return (one.address, one.identity) == (other.address, other.identity)


def _others(kept: list[Credential], credential: Credential) -> Iterator[Credential]:
    return (one for one in kept if not _is_same_entry(one, credential))


def _encode(credentials: list[Credential]) -> bytes:
    versions = (_version_of(one) for one in credentials)
    document = {
        "version": max(versions, default=FORMAT_VERSION),
        "credentials": [_encode_entry(one) for one in credentials],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _version_of(one: Credential) -> int:
    if isinstance(one.module, ReaderModule):
        return READERS_VERSION
    return FORMAT_VERSION if one.module is None else MODULES_VERSION


def _encode_entry(one: Credential) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "sen": one.address.sen,
        "host": one.address.host,
        "port": one.address.port,
        "identity": one.identity,
        "psk": None if one.psk is None else one.psk.hex(),
        "pending_psk": None if one.pending_psk is None else one.pending_psk.hex(),
    }
    match one.module:
        case RacsModule() as module:
            pin = None if module.pin is None else module.pin.hex()
            entry["module"] = {"uri": str(module), "pki": str(module.pki), "pin": pin}
        case ReaderModule() as module:
            pin = None if module.pin is None else module.pin.hex()
            entry["module"] = {"uri": str(module), "pin": pin}
        case HopModule() as module:
            entry["module"] = {"uri": module.uri.reveal(), "confirmed": module.is_confirmed}
        case None:
            pass
        case _:
            raise CredentialsError("only a module behind RACS or a reader, or a hop, can be kept")
    return entry


def _decode(path: Path, content: bytes) -> list[Credential]:
    kept = version = None
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, ElementUriError):
        document = json.loads(content)  # a file cut at the size limit is no document
        if (version := document["version"]) in _VERSIONS:
            kept = [_decode_entry(entry) for entry in document["credentials"]]
    if kept is not None:
        return kept
    if version in (None, *_VERSIONS):  # what went wrong is not repeated: it quotes keys
        raise CredentialsError(
            f"{path}: not a credentials file", hint="move it away and set the credentials again"
        )
    raise CredentialsError(
        f"{path}: expected version {READERS_VERSION} or older, found another",
        hint="it was written by a newer iose: upgrade this one",
    )


def _decode_entry(entry: dict[str, Any]) -> Credential:
    psk, pending, module = (entry.get(name) for name in ("psk", "pending_psk", "module"))
    return Credential(
        address=ElementAddress(entry["sen"], entry["host"], entry["port"]),
        psk=None if psk is None else decode_psk(psk),
        identity=entry["identity"],
        pending_psk=None if pending is None else decode_psk(pending),
        module=None if module is None else _decode_module(module),
    )


def _decode_module(entry: dict[str, Any]) -> Module:
    pin = entry.get("pin")
    return decode_module(
        entry["uri"],
        pki=Path(entry.get("pki", "")),
        pin=None if pin is None else bytes.fromhex(pin),
        is_confirmed=entry.get("confirmed", False) is True,
    )
