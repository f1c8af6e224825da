# SPDX-License-Identifier: Apache-2.0
"""Every keystore command as a value: the line to send, and how to read its answer.

Both kinds of element, blocking and asyncio, offer each function here as a method of the same
name. Key indices are 0 to 3, record indices 0 to 31; on the wire both are two hex digits.
"""

from collections.abc import Sequence
from typing import Final

from iose.client.codec import (
    CERTIFICATE_SIZE,
    OK,
    PUBLIC_KEY_SIZE,
    Command,
    check_size,
    encode_path,
    encode_text,
    hex_line,
    indexed_head,
    read_certificate,
    read_flag,
    read_hex,
    read_ok,
    read_point,
    read_same,
    read_secret_echo,
    read_signature,
    read_sized,
    read_text,
    text_line,
)
from iose.client.signature import DIGEST_SIZE
from iose.client.uri import PSK_SIZE
from iose.crypto.base import Curve, HashAlgorithm
from iose.wire.errors import LocalProtocolError

MAX_HMAC_INDEX: Final = 0x0F  # the first digit is a mode, and 0 is text
PRIVATE_KEY_SIZE: Final = 32
MAX_SEED_SIZE: Final = 64
MAX_ECHO_SIZE: Final = 128
MAX_RECORD_SIZE: Final = 64
AES_BLOCK_SIZE: Final = 16


def raw(line: bytes | str) -> Command[bytes]:
    """Send a line as it is and return its answer without the line end.

    Raises:
        LocalProtocolError: The line is empty or holds a line end.
    """
    content = encode_text(line) if isinstance(line, str) else line
    if not content or b"\n" in content or b"\r" in content:
        raise LocalProtocolError("expected one line, neither empty nor with a line end")
    return Command(content, bytes)


def version() -> Command[str]:
    """Return the name and version of the element's application."""
    return Command(b"?00", read_text)


def echo(text: bytes) -> Command[bytes]:
    """Return the text sent, 1 byte or more.

    Raises:
        LocalProtocolError: The text is empty or holds a line end.
    """
    return Command(text_line(b"?01", text, low=1), read_same(text), is_text=True)


def echo_bytes(data: bytes) -> Command[bytes]:
    """Return the bytes sent, 1 to 128.

    Raises:
        LocalProtocolError: There are too many or too few.
    """
    return Command(hex_line(b"?FF", data, low=1, high=MAX_ECHO_SIZE), read_same(data, in_hex=True))


def application_public_key() -> Command[bytes]:
    """Return the attestation key of the application: 65 bytes, a point of secp256k1."""
    return Command(b"?0A", read_point)


def certificate() -> Command[bytes | None]:
    """Return the certificate of the application, r and s in 64 bytes; None when there is none."""
    return Command(b"?0B", read_certificate)


def set_certificate(certificate: bytes) -> Command[None]:
    """Store the certificate of the application, 64 bytes, once and for all.

    Raises:
        LocalProtocolError: It has another size.
    """
    return Command(
        hex_line(b"?0E", certificate, low=CERTIFICATE_SIZE, high=CERTIFICATE_SIZE), read_ok
    )


def prove(challenge: bytes) -> Command[bytes]:
    """Return a DER signature by the application key over session secret and challenge.

    The challenge is 1 to 32 bytes; ``attestation.verify_proof`` checks the signature.

    Raises:
        LocalProtocolError: The challenge has another size.
    """
    return Command(hex_line(b"?0C", challenge, low=1, high=DIGEST_SIZE), read_signature())


def session_secret() -> Command[bytes]:
    """Return the handshake secret of this session as the element knows it, 32 bytes."""
    return Command(b"?0D", read_sized(DIGEST_SIZE))


def replace_psk(old: bytes, new: bytes) -> Command[bytes]:
    """Have the element take another PSK; ``Element.change_psk`` does it without losing either.

    Raises:
        LocalProtocolError: A PSK is not 32 bytes.
    """
    check_size(old, PSK_SIZE, PSK_SIZE)
    return Command(
        hex_line(b"?AA", old + new, low=2 * PSK_SIZE, high=2 * PSK_SIZE), read_secret_echo(new)
    )


def clear_key(index: int, *, curve: Curve = Curve.SECP256K1) -> Command[None]:
    """Destroy a key and its seed, and choose the curve of the next one.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"c" if curve is Curve.SECP256K1 else b"C", index), read_ok)


def generate_key(index: int, *, curve: Curve = Curve.SECP256K1) -> Command[None]:
    """Generate a key pair in an empty slot; its private half stays in the element.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"g" if curve is Curve.SECP256K1 else b"G", index), read_ok)


def seal_key(index: int) -> Command[None]:
    """Seal an empty slot before its key is made: neither key nor seed will leave the element.

    Clearing the key takes the seal off. Elements of other makers refuse: the command is ours.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"n", index), read_ok)


def is_key_sealed(index: int) -> Command[bool]:
    """Return whether a slot was sealed before its key was made.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"N", index), read_flag)


def public_key(index: int) -> Command[bytes]:
    """Return a public key: an uncompressed point, 65 bytes.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"p", index), read_point)


def set_public_key(index: int, public: bytes) -> Command[None]:
    """Set the public key of an empty slot.

    Raises:
        LocalProtocolError: The index or the size, 65 bytes, is wrong.
    """
    head = indexed_head(b"P", index)
    return Command(hex_line(head, public, low=PUBLIC_KEY_SIZE, high=PUBLIC_KEY_SIZE), read_ok)


def private_key(index: int) -> Command[bytes]:
    """Return a private key, 32 bytes; refused when the key may not leave the element.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"r", index), read_sized(PRIVATE_KEY_SIZE))


def set_private_key(index: int, private: bytes) -> Command[None]:
    """Set the private key of an empty slot, 1 to 32 bytes; the public key follows from it.

    Raises:
        LocalProtocolError: The index or the size is wrong.
    """
    return Command(
        hex_line(indexed_head(b"X", index), private, low=1, high=PRIVATE_KEY_SIZE), read_ok
    )


def sign(
    index: int, digest: bytes, *, low_s: bool = False, curve: Curve = Curve.SECP256K1
) -> Command[bytes]:
    """Return a DER signature over a digest of 1 to 32 bytes, which is not hashed again.

    Args:
        index: The key.
        digest: Padded on the left with zeros to 32 bytes by the element.
        low_s: Bring S to its lower form; elements give either.
        curve: The curve of the key; only ``low_s`` needs it.

    Raises:
        LocalProtocolError: The index or the size is wrong.
    """
    line = hex_line(indexed_head(b"s", index), digest, low=1, high=DIGEST_SIZE)
    return Command(line, read_signature(lowered_on=curve if low_s else None))


def generate_seed(index: int) -> Command[None]:
    """Generate a random seed of 32 bytes.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"t", index), read_ok)


def set_seed(index: int, seed: bytes) -> Command[None]:
    """Set the seed of a key, 1 to 64 bytes: a BIP 32 seed, or a key for HMAC and AES.

    Raises:
        LocalProtocolError: The index or the size is wrong.
    """
    return Command(hex_line(indexed_head(b"t", index), seed, low=1, high=MAX_SEED_SIZE), read_ok)


def seed(index: int) -> Command[bytes]:
    """Return a seed; refused when there is none or it may not leave the element.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"v", index), read_hex)


def derive(index: int, path: str | Sequence[int]) -> Command[None]:
    """Replace a key by the one derived from its seed along a path (BIP 32).

    Args:
        index: The key, whose seed is set.
        path: As in ``m/44'/0'``, or numbers; hardened levels only, 1 to 30 of them.

    Raises:
        LocalProtocolError: The index or the path is wrong.
    """
    return Command(hex_line(indexed_head(b"b", index), encode_path(path)), read_ok)


def write_record(index: int, text: bytes) -> Command[None]:
    """Write a record of up to 64 raw bytes without a line end.

    Raises:
        LocalProtocolError: The index or the text is wrong.
    """
    return Command(text_line(indexed_head(b"Z", index), text, high=MAX_RECORD_SIZE), read_ok)


def read_record(index: int) -> Command[bytes]:
    """Return a record; an empty one looks like the text ``OK`` and is returned as empty.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"I", index), lambda answer: b"" if answer == OK else answer)


def hmac(
    index: int, message: bytes, *, algorithm: HashAlgorithm = HashAlgorithm.SHA256
) -> Command[bytes]:
    """Return an HMAC with a seed as its key (RFC 2104); SHA-256 or SHA-512.

    Raises:
        LocalProtocolError: The index is out of range, or it is another hash.
    """
    letters = {HashAlgorithm.SHA256: b"h", HashAlgorithm.SHA512: b"H"}
    if algorithm not in letters:
        raise LocalProtocolError("expected SHA-256 or SHA-512")
    head = indexed_head(letters[algorithm], index, high=MAX_HMAC_INDEX)
    return Command(hex_line(head, message), read_sized(algorithm.digest_size))


def aes_encrypt(index: int, blocks: bytes) -> Command[bytes]:
    """Return whole blocks encrypted one by one, AES-128 with a seed as its key.

    Raises:
        LocalProtocolError: The index is out of range, or the blocks are not whole.
    """
    return _aes(b"A", index, blocks)


def aes_decrypt(index: int, blocks: bytes) -> Command[bytes]:
    """Return whole blocks decrypted one by one, AES-128 with a seed as its key.

    Raises:
        LocalProtocolError: The index is out of range, or the blocks are not whole.
    """
    return _aes(b"a", index, blocks)


def set_identity(identity: str) -> Command[None]:
    """Set the main PSK identity of the next sessions.

    Raises:
        LocalProtocolError: It is empty or holds a line end.
    """
    return Command(text_line(b"?05", encode_text(identity), low=1), read_ok)


def set_guest_identity(identity: str) -> Command[None]:
    """Set the PSK identity that may use keys but not change them.

    Raises:
        LocalProtocolError: It is empty or holds a line end.
    """
    return Command(text_line(b"?06", encode_text(identity), low=1), read_ok)


def set_guest_psk(psk: bytes) -> Command[None]:
    """Set the PSK of the guest identity, 32 bytes.

    Raises:
        LocalProtocolError: It has another size.
    """
    return Command(hex_line(b"?A0", psk, low=PSK_SIZE, high=PSK_SIZE), read_ok)


def guest_psk() -> Command[bytes]:
    """Return the PSK of the guest identity, 32 bytes."""
    return Command(b"?A1", read_sized(PSK_SIZE))


def set_flags(flags: int) -> Command[None]:
    """Set the element's flags: 01 lets guests in, 80 checks the name clients ask for.

    Raises:
        LocalProtocolError: They do not fit one byte.
    """
    return Command(indexed_head(b"?A5", flags), read_ok)


def set_module_psk(psk: bytes) -> Command[None]:
    """Set the PSK that the element keeps for sessions of other clients, 32 bytes.

    Raises:
        LocalProtocolError: It has another size.
    """
    return Command(hex_line(b"?A2", psk, low=PSK_SIZE, high=PSK_SIZE), read_ok)


def module_binder(transcript_hash: bytes) -> Command[bytes]:
    """Return a binder made with the identity-module PSK, over a hash of 32 bytes.

    Raises:
        LocalProtocolError: The hash has another size.
    """
    return _module(b"?D0", transcript_hash)


def module_handshake_secret(shared_secret: bytes, *, confirmed: bool = False) -> Command[bytes]:
    """Return the handshake secret of the identity-module PSK and a shared secret of 32 bytes.

    Args:
        shared_secret: Of the key exchange.
        confirmed: Wait until someone pushes the element's button.

    Raises:
        LocalProtocolError: The shared secret has another size.
    """
    return _module(b"?D2" if confirmed else b"?D1", shared_secret)


def _aes(letter: bytes, index: int, blocks: bytes) -> Command[bytes]:
    if not blocks or len(blocks) % AES_BLOCK_SIZE:
        raise LocalProtocolError(f"expected blocks of {AES_BLOCK_SIZE} bytes, found {len(blocks)}")
    head = indexed_head(letter, index, high=MAX_HMAC_INDEX)
    return Command(hex_line(head, blocks), read_sized(len(blocks)))


def _module(head: bytes, value: bytes) -> Command[bytes]:
    return Command(
        hex_line(head, value, low=DIGEST_SIZE, high=DIGEST_SIZE), read_sized(DIGEST_SIZE)
    )
