# SPDX-License-Identifier: Apache-2.0
"""Records of a byte stream (RFC 8446 §5): cutting them out, protecting and opening them.

A RecordLayer is one direction; what it does to a record is up to its ``Protection``, so that other
versions bring their own. It knows no message and sends nothing.
"""

from typing import Final, Protocol

from iose.crypto.base import Aead
from iose.tls.constants import (
    HEADER_SIZE,
    MAX_CIPHERTEXT_SIZE,
    MAX_INNER_SIZE,
    MAX_PLAINTEXT_SIZE,
    TLS_1_2,
    AlertDescription,
    ContentType,
)
from iose.tls.errors import TlsPeerError

KEY_USAGE_LIMIT: Final = 1 << 24
"""Records per key, never passed: under the 2^24.5 of AES-GCM (RFC 8446 §5.5)."""
KEY_USAGE_SOFT_LIMIT: Final = 1 << 23
"""Records after which we change our own key: the 2^23 of AES-CCM (RFC 9147 §B.2)."""
KEY_USAGE_REQUEST_LIMIT: Final = 3 << 22
"""Records after which we ask a peer to change its key: half way from there to the end."""

_KNOWN_TYPES = frozenset(ContentType)


class Protection(Protocol):
    """What one epoch does to a record; sequence numbers are the layer's business."""

    def protect(self, sequence: int, content_type: int, content: bytes, padding: int) -> bytes:
        """Return a whole record."""

    def unprotect(self, sequence: int, header: bytes, body: bytes) -> tuple[int, bytes, int]:
        """Return content type, content, and the size the limits are applied to.

        Raises:
            InvalidTagError: The record was changed.
            TlsPeerError: It has no content type.
        """


class NullProtection:
    """Records before any key (RFC 8446 §5.1)."""

    __slots__ = ("_version",)

    def __init__(self, version: int = TLS_1_2) -> None:
        self._version = version

    def protect(self, sequence: int, content_type: int, content: bytes, padding: int) -> bytes:
        """Return the content with a header; there is no padding in the clear."""
        del sequence, padding
        return encode_header(content_type, len(content), self._version) + content

    def unprotect(self, sequence: int, header: bytes, body: bytes) -> tuple[int, bytes, int]:
        """Return the body as it is."""
        del sequence
        return header[0], body, len(body) + 1


class Tls13Protection:
    """AEAD records with the content type inside (RFC 8446 §5.2 to §5.4)."""

    __slots__ = ("_aead", "_iv", "_tag_size")

    def __init__(self, aead: Aead, iv: bytes, tag_size: int) -> None:
        self._aead = aead
        self._iv = int.from_bytes(iv, "big")
        self._tag_size = tag_size

    def protect(self, sequence: int, content_type: int, content: bytes, padding: int) -> bytes:
        """Return content, type and ``padding`` zeros, encrypted, with a header."""
        inner = b"%b%c%b" % (content, content_type, bytes(padding))
        header = encode_header(ContentType.APPLICATION_DATA, len(inner) + self._tag_size)
        nonce = (self._iv ^ sequence).to_bytes(12, "big")
        return header + self._aead.encrypt(nonce, inner, header)

    def unprotect(self, sequence: int, header: bytes, body: bytes) -> tuple[int, bytes, int]:
        """Return type and content, padding removed (RFC 8446 §5.4).

        Raises:
            InvalidTagError: The record was changed, or its keys are others.
            TlsPeerError: There is nothing but zeros inside.
        """
        nonce = (self._iv ^ sequence).to_bytes(12, "big")
        inner = self._aead.decrypt(nonce, body, header)
        content = inner.rstrip(b"\x00")
        if not content:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "a record without content type")
        return content[-1], content[:-1], len(inner)


class RecordLayer:
    """Record protection, one direction.

    Attributes:
        sequence: Number of the next record under the present key (RFC 8446 §5.3).
        content_limit: Largest content of a record, in bytes.
        inner_limit: Largest content with type and padding, in bytes (RFC 8449 §4).
        padding_unit: Inner plaintexts are padded to a multiple of this; 0 for none.
    """

    __slots__ = ("_protection", "content_limit", "inner_limit", "padding_unit", "sequence")

    def __init__(self, *, padding_unit: int = 0, version: int = TLS_1_2) -> None:
        self._protection: Protection = NullProtection(version)
        self.sequence = 0
        self.content_limit = MAX_PLAINTEXT_SIZE
        self.inner_limit = MAX_INNER_SIZE
        self.padding_unit = padding_unit

    @property
    def is_protected(self) -> bool:
        """Whether a key is in use."""
        return not isinstance(self._protection, NullProtection)

    def change_protection(self, protection: Protection) -> None:
        """Begin a new epoch with sequence number 0."""
        self._protection = protection
        self.sequence = 0

    def protect(self, content_type: int, content: bytes) -> bytes:
        """Return one record; the content is within ``content_limit``."""
        padding = 0
        if self.padding_unit:
            inner_size = len(content) + 1
            padded = -(-inner_size // self.padding_unit) * self.padding_unit
            padding = max(min(padded, self.inner_limit) - inner_size, 0)
        record = self._protection.protect(self.sequence, content_type, content, padding)
        self.sequence += 1
        return record

    def unprotect(self, header: bytes, body: bytes) -> tuple[int, bytes]:
        """Return content type and content of one record; after a raise the number is unused.

        Raises:
            InvalidTagError: The record fails authentication.
            TlsPeerError: It is too long, has no type, or its key has been used too often.
        """
        if self.sequence >= KEY_USAGE_LIMIT:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "the key was used too often")
        content_type, content, size = self._protection.unprotect(self.sequence, header, body)
        if len(content) > self.content_limit or size > self.inner_limit:
            raise TlsPeerError(
                AlertDescription.RECORD_OVERFLOW, f"a record with {size} bytes of plaintext"
            )
        self.sequence += 1
        return content_type, content


class RecordBuffer:
    """Cuts a byte stream into records (RFC 8446 §5.1)."""

    __slots__ = ("_data", "_position")

    def __init__(self) -> None:
        self._data = b""
        self._position = 0

    @property
    def size(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._position

    def append(self, data: bytes) -> None:
        """Add bytes from the network."""
        # bytes are copied here once, never per record: many small ones must not cost their square
        self._data = self._data[self._position :] + data
        self._position = 0

    def clear(self) -> None:
        """Forget what was not taken."""
        self._data = b""
        self._position = 0

    def next_record(self, size_limit: int = MAX_CIPHERTEXT_SIZE) -> tuple[bytes, bytes] | None:
        """Return header and body of the next whole record, or None.

        The version in the header is ignored (RFC 8446 §5.1).

        Raises:
            TlsPeerError: Unknown content type, or a body over ``size_limit``: said as soon as
                the header is there.
        """
        data = self._data
        start = self._position
        if start < len(data) and data[start] not in _KNOWN_TYPES:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, f"record type {data[start]}")
        body = start + HEADER_SIZE
        if len(data) < body:
            return None
        size = data[body - 2] << 8 | data[body - 1]
        if size > size_limit:
            raise TlsPeerError(AlertDescription.RECORD_OVERFLOW, f"a record of {size} bytes")
        stop = body + size
        if len(data) < stop:
            return None
        self._position = stop
        return data[start:body], data[body:stop]


def encode_header(content_type: int, size: int, version: int = TLS_1_2) -> bytes:
    """Return a record header (RFC 8446 §5.1)."""
    return bytes((content_type, version >> 8, version & 0xFF, size >> 8, size & 0xFF))
