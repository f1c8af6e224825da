# SPDX-License-Identifier: Apache-2.0
"""Where the keys of an authority come from: hex digits, files in PEM or hex, or the published demo.

An authority is the provider that certifies elements; its key is on secp256k1. A new private key
goes to a file that only its owner can read.
"""

import os
import re
import stat
from pathlib import Path
from typing import Final

from iose.client.access import SystemRng
from iose.client.attestation.result import DEMO_AUTHORITY
from iose.client.errors import CredentialsError
from iose.crypto.base import Curve
from iose.crypto.ec_keys import (
    decode_private_key,
    decode_public_key,
    encode_private_key,
    encode_public_key,
)
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto
from iose.wire.errors import DecodeError

DEMO_WORD: Final = "demo"
# published with the demonstrations of the keystore: whoever certifies with it vouches for nothing
DEMO_AUTHORITY_PRIVATE: Final = bytes.fromhex(
    "5CDEE66CAEDE933ADD0CA894393480A076431FCA3EE6AC9A8E1129CE5F794120"
)
MAX_KEY_FILE_SIZE: Final = 65_536
PRIVATE_FILE_MODE: Final = 0o600
PUBLIC_SUFFIX: Final = ".pub"
_CURVE: Final = Curve.SECP256K1
_PEM_MARK: Final = b"-----BEGIN "
_PUBLIC_DIGITS: Final = re.compile(r"04[0-9A-Fa-f]{128}")
_LIKE_A_KEY: Final = re.compile(r"[0-9A-Fa-f]{32,}")
_PRIVATE_DIGITS: Final = re.compile(r"[0-9A-Fa-f]{64}")
_PUBLIC_HINT: Final = (
    "give 130 hex digits that begin with 04, a file that holds them, or a public key in PEM"
)
_PRIVATE_HINT: Final = "make one with iose element certify --new-ca FILE"


def load_authority(source: str) -> bytes:
    """Return an authority's public key, 65 bytes, from hex digits, a file, or the word demo.

    Raises:
        CredentialsError: There is no such file, or no public key on secp256k1 in it.
    """
    if source == DEMO_WORD:
        return DEMO_AUTHORITY
    if _PUBLIC_DIGITS.fullmatch(source):
        return _checked_point(bytes.fromhex(source), "the authority's key")
    content = _content(source, _PUBLIC_HINT)
    if _PEM_MARK in content:
        try:
            return decode_public_key(content, _CURVE)
        except DecodeError as fault:
            raise CredentialsError(f"{source}: {fault}", hint=_PUBLIC_HINT) from None
    digits = content.decode("latin-1").strip()
    if not _PUBLIC_DIGITS.fullmatch(digits):
        raise CredentialsError(f"{source}: expected a public key", hint=_PUBLIC_HINT)
    return _checked_point(bytes.fromhex(digits), source)


def load_authority_key(source: str) -> bytes:
    """Return an authority's private key, 32 bytes, from a file, or the word demo.

    Raises:
        CredentialsError: The file is not there, is open to others, or holds no private key on
            secp256k1.
    """
    if source == DEMO_WORD:
        return DEMO_AUTHORITY_PRIVATE
    content = _content(source, _PRIVATE_HINT, is_private=True)
    try:
        return _decode_scalar(content)
    except (DecodeError, CryptoError) as fault:
        raise CredentialsError(f"{source}: {fault}", hint=_PRIVATE_HINT) from None


def create_authority(path: Path) -> tuple[bytes, Path]:
    """Draw an authority's key; return its public half and the file that holds that half.

    The private half goes to a new file of mode 0600, the public half beside it; neither is ever
    written over.

    Raises:
        CredentialsError: A file is there already, or cannot be written.
    """
    crypto = PycaCrypto()
    private = crypto.generate_private_key(_CURVE, SystemRng())
    public = crypto.public_key(_CURVE, private)
    beside = path.with_name(path.name + PUBLIC_SUFFIX)
    if beside.exists():
        raise CredentialsError(f"{beside}: there is such a file already", hint="name another")
    _write_new(path, encode_private_key(_CURVE, private), PRIVATE_FILE_MODE)
    _write_new(beside, encode_public_key(_CURVE, public), 0o644)
    return public, beside


def _decode_scalar(content: bytes) -> bytes:
    if _PEM_MARK in content:
        return decode_private_key(content, _CURVE)
    digits = content.decode("latin-1").strip()
    if not _PRIVATE_DIGITS.fullmatch(digits):
        raise DecodeError("expected a private key in PEM, or 64 hex digits")
    private = bytes.fromhex(digits)
    PycaCrypto().public_key(_CURVE, private)  # refuses what is no scalar
    return private


def _write_new(path: Path, content: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(content)
    except FileExistsError:
        raise CredentialsError(
            f"{path}: there is such a file already", hint="name another"
        ) from None
    except OSError as fault:
        raise CredentialsError(f"{path}: {fault.strerror}") from None


def _content(source: str, hint: str, *, is_private: bool = False) -> bytes:
    if _LIKE_A_KEY.fullmatch(source):  # perhaps a private one: it is not repeated
        raise CredentialsError(
            f"expected a file, or a public key on secp256k1; found {len(source)} digits", hint=hint
        )
    path = Path(source)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if is_private and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise CredentialsError(
                    f"{path}: expected mode 0600, found {stat.S_IMODE(mode):04o}: others may "
                    "have read the key in it",
                    hint=f"chmod 600 {path}, if nobody else could read it",
                )
            return file.read(MAX_KEY_FILE_SIZE)
    except OSError as fault:
        raise CredentialsError(f"{path}: {fault.strerror}", hint=hint) from None
    except ValueError:  # a name that no file can have
        raise CredentialsError("found neither a key nor the name of a file", hint=hint) from None


def _checked_point(public: bytes, source: str) -> bytes:
    try:
        PycaCrypto().check_public_key(_CURVE, public)
    except CryptoError as fault:
        raise CredentialsError(f"{source}: {fault}", hint=_PUBLIC_HINT) from None
    return public
