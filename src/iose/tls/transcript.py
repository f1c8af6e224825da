# SPDX-License-Identifier: Apache-2.0
"""The running hash of all handshake messages (RFC 8446 §4.4.1)."""

from iose.crypto.base import CryptoProvider, HashAlgorithm
from iose.tls.constants import HandshakeType


class Transcript:
    """Hash of the handshake messages so far, both directions, in order."""

    __slots__ = ("_algorithm", "_crypto", "_hasher")

    def __init__(self, crypto: CryptoProvider, algorithm: HashAlgorithm) -> None:
        self._crypto = crypto
        self._algorithm = algorithm
        self._hasher = crypto.new_hash(algorithm)

    def update(self, message: bytes) -> None:
        """Add one whole message, its header included, or a part of one."""
        self._hasher.update(message)

    def digest(self) -> bytes:
        """Return the hash of what was added so far."""
        return self._hasher.digest()

    def replace_with_message_hash(self) -> None:
        """Put a synthetic message_hash in place of the first ClientHello (RFC 8446 §4.4.1)."""
        digest = self.digest()
        self._hasher = self._crypto.new_hash(self._algorithm)
        self._hasher.update(bytes((HandshakeType.MESSAGE_HASH, 0, 0, len(digest))) + digest)
