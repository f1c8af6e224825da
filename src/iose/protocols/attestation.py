# SPDX-License-Identifier: Apache-2.0
"""The statement of an element on itself (``?0F``): its bytes, what is signed, and its pieces.

The element's application encodes it, whoever verifies it decodes it, and neither knows the other.
Nothing here reads a clock or holds a key. The layout is documented in docs/attestation.md.
"""

from dataclasses import dataclass, fields
from typing import Final

from iose.crypto.base import CryptoProvider, Curve, HashAlgorithm
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

STATEMENT_VERSION: Final = 1
# RFC 5705 §4: labels that begin so need no registration
EXPORTER_LABEL: Final = b"EXPERIMENTAL iose attestation 1"
EXPORTER_SIZE: Final = 32
CHALLENGE_SIZE: Final = 32
HASH_SIZE: Final = 32
PUBLIC_KEY_SIZE: Final = 65
NAME_LIMIT: Final = 255
# ?0C signs 64 bytes, a certificate 64 others: what begins so is longer, hence never one of them
SIGNING_DOMAIN: Final = b"iose attestation statement, signed by the application key\0"
PIECE_SIZE: Final = 240  # in hex with its number: below the 490 characters of a record of a chip
MAX_PIECES: Final = 8
_NO: Final = b"\x00"
_YES: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Statement:
    """What an element says of itself in one session; field n of the class has tag n.

    Attributes:
        sen: Its TLS server name.
        seid: Its name on the administration plane, as given when it was personalised; or empty.
        module: Name of the applet's module, from the card.
        version: Version of the applet's package, from the card.
        package_hash: SHA-256 of the load file of that package, from the card; 32 bytes.
        life_cycle: State of the applet instance, from the card (GPCS 2.3.1 §11.1.1).
        is_copy: Whether another element may hold the same keys, from the card.
        exporter: Of the TLS session it was asked in: ``EXPORTER_LABEL``, no context; 32 bytes.
        challenge: From whom it is made for, 32 bytes.
        public_key: The application's, which signs; 65 bytes.
    """

    sen: bytes
    seid: bytes
    module: bytes
    version: bytes
    package_hash: bytes
    life_cycle: int
    is_copy: bool
    exporter: bytes
    challenge: bytes
    public_key: bytes

    def encode(self) -> bytes:
        """Return the version, then a tag, a 2-byte length and the value of each field, in order.

        Raises:
            LocalProtocolError: A value has more than 65 535 bytes, or a number more than one.
        """
        writer = ByteWriter()
        writer.write_uint8(STATEMENT_VERSION)
        for tag, item in enumerate(fields(self), 1):
            value = getattr(self, item.name)
            writer.write_uint8(tag)
            with writer.vector(2):
                if isinstance(value, int):  # also a bool
                    writer.write_uint8(value)
                else:
                    writer.write_bytes(value)
        return writer.to_bytes()

    @classmethod
    def decode(cls, data: bytes) -> "Statement":
        """Return the statement that ``encode`` made; there is one encoding of each.

        Raises:
            DecodeError: Another version, a field missing, unknown or out of order, a wrong size.
        """
        reader = ByteReader(data)
        if (version := reader.read_uint8()) != STATEMENT_VERSION:
            raise DecodeError(f"expected a statement of version 1, found {version}")
        values = [_read_field(reader, tag, *_SIZES[tag - 1]) for tag in range(1, len(_SIZES) + 1)]
        reader.finish()
        sen, seid, module, release, package_hash, life_cycle, copy, *rest = values
        if copy not in (_NO, _YES):
            raise DecodeError("expected 0 or 1 for the copy mark")
        exporter, challenge, public_key = rest
        return cls(
            *(sen, seid, module, release, package_hash, life_cycle[0], copy == _YES),
            *(exporter, challenge, public_key),
        )


# smallest and largest size of each field
_SIZES: Final = (
    (0, NAME_LIMIT),
    (0, NAME_LIMIT),
    (0, NAME_LIMIT),
    (0, NAME_LIMIT),
    (HASH_SIZE, HASH_SIZE),
    (1, 1),
    (1, 1),
    (EXPORTER_SIZE, EXPORTER_SIZE),
    (CHALLENGE_SIZE, CHALLENGE_SIZE),
    (PUBLIC_KEY_SIZE, PUBLIC_KEY_SIZE),
)


def _read_field(reader: ByteReader, tag: int, low: int, high: int) -> bytes:
    found = reader.read_uint8()
    if found != tag:
        raise DecodeError(f"expected field {tag} of a statement, found {found}")
    return reader.read_opaque(2, low=low, high=high)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement as it was signed, and the signature.

    Attributes:
        content: The encoded ``Statement``.
        signature: ECDSA on secp256k1 over ``statement_digest``, DER.
    """

    content: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Return both, the content behind a 2-byte length, the signature behind a 1-byte length.

        Raises:
            LocalProtocolError: One of them is too long.
        """
        writer = ByteWriter()
        writer.write_opaque(self.content, 2)
        writer.write_opaque(self.signature, 1)
        return writer.to_bytes()

    @classmethod
    def decode(cls, data: bytes) -> "SignedStatement":
        """Return what ``encode`` made; the content is not looked at.

        Raises:
            DecodeError: It ends early or late.
        """
        reader = ByteReader(data)
        signed = cls(reader.read_opaque(2), reader.read_opaque(1))
        reader.finish()
        return signed

    def statement(self) -> Statement:
        """Return the statement; who relies on it has verified the signature.

        Raises:
            DecodeError: The content is none.
        """
        return Statement.decode(self.content)


def signed_message(content: bytes) -> bytes:
    """Return the bytes that are hashed and signed for an encoded statement."""
    return SIGNING_DOMAIN + content


def statement_digest(crypto: CryptoProvider, content: bytes) -> bytes:
    """Return what ECDSA signs for an encoded statement."""
    return crypto.hash(HashAlgorithm.SHA256, signed_message(content))


def sign_statement(crypto: CryptoProvider, private: bytes, statement: Statement) -> SignedStatement:
    """Return a statement signed by the application key.

    Raises:
        CryptoError: The key is not a scalar of secp256k1.
        LocalProtocolError: A value of the statement is too long.
    """
    content = statement.encode()
    digest = statement_digest(crypto, content)
    return SignedStatement(content, crypto.ecdsa_sign(Curve.SECP256K1, private, digest))


def split_pieces(data: bytes) -> list[bytes]:
    """Return the pieces that ``?0F`` gives one after the other; the first begins with their count.

    The last may be short, no other is.
    """
    pieces = [data[start : start + PIECE_SIZE] for start in range(0, len(data), PIECE_SIZE)]
    return [bytes((len(pieces),)) + pieces[0], *pieces[1:]]


def read_first_piece(piece: bytes) -> tuple[int, bytes]:
    """Return how many pieces there are, and the content of the first.

    Raises:
        DecodeError: There are none, or more than any statement has.
    """
    reader = ByteReader(piece)
    count = reader.read_uint8()
    if not 1 <= count <= MAX_PIECES:
        raise DecodeError(f"expected 1 to {MAX_PIECES} pieces, found {count}")
    return count, reader.read_rest()
