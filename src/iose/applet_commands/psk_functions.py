# SPDX-License-Identifier: Apache-2.0
"""INS 85 on a stored PSK: what a TLS 1.3 endpoint asks for, and HMAC (tls-im.md §2, RFC 8446 §7.1).

Functions on ``ElementPsk`` values; who may call them, and with which sizes, each applet decides.
A DecodeError is answered 6C00.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

from iose.applet_commands.psk import PSK_SIZE, ElementPsk, derive_psk
from iose.crypto.base import CryptoProvider, HashAlgorithm
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

RETURN_SECRETS: Final = 0xFF  # P1 of SET_PSK
_EARLY_LABELS: Final = {0x00: b"tls13 c e traffic", 0x01: b"tls13 e exp master"}
_ONE_BLOCK: Final = b"\x01"  # RFC 5869 §2.3
_SHA256: Final = HashAlgorithm.SHA256


class PskFunction(IntEnum):
    """P2 of INS 85, where the function has to do with a PSK."""

    HMAC_SHA256 = 0x02
    SET_PSK = 0x0A
    EARLY_SECRET = 0x0B
    BINDER = 0x0C
    RESUMPTION_BINDER = 0x0D
    HANDSHAKE_SECRET = 0x0E


def new_psk(
    crypto: CryptoProvider, command: CommandApdu, *, reference: bool, any_size: bool = False
) -> ElementPsk:
    """Return the PSK that the data provisions, derived with the salt they name (P2=0A).

    Raises:
        DecodeError: The data are not a salt and a PSK of 32 bytes, or of any size if so asked.
    """
    salt, psk = read_pair(command.data)
    if len(psk) != PSK_SIZE and not any_size:
        raise DecodeError(f"expected a PSK of {PSK_SIZE} bytes, found {len(psk)}")
    return derive_psk(crypto, psk, salt=salt, reference=reference)


def early_secret(crypto: CryptoProvider, command: CommandApdu, psk: ElementPsk) -> bytes:
    """Return the client's early traffic secret, or the early exporter's (P2=0B).

    Raises:
        DecodeError: The data are not a size and a hash.
        StatusWordError: 6A86 for P1.
    """
    label = _EARLY_LABELS.get(command.p1)
    if label is None:
        raise StatusWordError(StatusWord.WRONG_P1P2)
    reader = ByteReader(command.data)
    size = reader.read_bytes(2)
    context = reader.read_opaque(1)
    reader.finish()
    info = size + bytes((len(label),)) + label + bytes((len(context),)) + context
    return crypto.hmac(_SHA256, psk.early, info + _ONE_BLOCK)


def binder(crypto: CryptoProvider, command: CommandApdu, psk: ElementPsk) -> bytes:
    """Return the binder of an external PSK (P2=0C).

    Raises:
        DecodeError: There are no data.
    """
    return crypto.hmac(_SHA256, psk.external_finished, _some(command.data))


def resumption_binder(crypto: CryptoProvider, command: CommandApdu, psk: ElementPsk) -> bytes:
    """Return the binder of a resumption PSK (P2=0D).

    Raises:
        DecodeError: There are no data.
    """
    return crypto.hmac(_SHA256, psk.resumption_finished, _some(command.data))


def handshake_secret(crypto: CryptoProvider, command: CommandApdu, psk: ElementPsk) -> bytes:
    """Return the handshake secret of an ECDHE secret (P2=0E).

    Raises:
        DecodeError: There are no data.
    """
    return crypto.hmac(_SHA256, psk.derived, _some(command.data))


def hmac_sha256(crypto: CryptoProvider, command: CommandApdu) -> bytes:
    """Return an HMAC under a key that the data bring along (P2=02).

    Raises:
        DecodeError: The data are not a key and a message.
    """
    return crypto.hmac(_SHA256, *read_pair(command.data))


PskOperation = Callable[[CryptoProvider, CommandApdu, ElementPsk], bytes]
ON_STORED_PSK: Final[Mapping[int, PskOperation]] = {
    PskFunction.EARLY_SECRET: early_secret,
    PskFunction.BINDER: binder,
    PskFunction.RESUMPTION_BINDER: resumption_binder,
    PskFunction.HANDSHAKE_SECRET: handshake_secret,
}


def read_pair(data: bytes) -> tuple[bytes, bytes]:
    """Return two byte strings, each behind its 1-byte length.

    Raises:
        DecodeError: They are not there, or something follows.
    """
    reader = ByteReader(data)
    pair = reader.read_opaque(1), reader.read_opaque(1)
    reader.finish()
    return pair


def _some(data: bytes) -> bytes:
    if not data:
        raise DecodeError("expected 1 to 255 bytes, found none")
    return data
