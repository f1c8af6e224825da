# SPDX-License-Identifier: Apache-2.0
"""Failures of cryptographic operations; messages never hold key material."""

from iose.wire.errors import IoseError


class CryptoError(IoseError):
    """An operation was refused: a bad key, point or parameter."""


class InvalidTagError(CryptoError):
    """An authenticated decryption failed; no plaintext is released."""


class InvalidSignatureError(CryptoError):
    """A signature does not verify."""
