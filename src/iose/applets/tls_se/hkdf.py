# SPDX-License-Identifier: Apache-2.0
"""INS 85: HMAC, key derivation on the server's PSK, and AES-CCM (tls-se.md §4.1).

The functions on the server's PSK would let a host end TLS itself: once an element is personalised
and hardened they are refused. The others use keys the host brings along.
"""

from collections.abc import Callable
from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.curves import SCALAR_SIZE, SECP256K1_ORDER
from iose.applet_commands.psk import ElementPsk
from iose.applet_commands.psk_functions import (
    ON_STORED_PSK,
    RETURN_SECRETS,
    PskFunction,
    hmac_sha256,
    new_psk,
    read_pair,
)
from iose.applets.tls_se.state import ElementState
from iose.crypto.base import AeadAlgorithm, HashAlgorithm
from iose.crypto.errors import InvalidTagError
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

_CCM_KEY_SIZE: Final = 16
_CCM_NONCE_SIZE: Final = 12
_CCM_DATA_SIZE: Final = 5
_CCM_TAG_SIZE: Final = 16
_OPERAND_SIZE: Final = SCALAR_SIZE + 1


class HkdfCommands:
    """The functions of INS 85, by their P2."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._context = context
        self._state = state

    @staticmethod
    def is_handshake_secret(command: CommandApdu) -> bool:
        """Whether the command makes a handshake secret."""
        return command.p2 == PskFunction.HANDSHAKE_SECRET

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command; its PIN is checked already.

        Raises:
            StatusWordError: 6A86 unknown function, 6C00 wrong length, 6985 refused by the
                hardened rules, 6D14 AES-CCM failed.
        """
        functions: dict[int, Callable[[CommandApdu], bytes]] = {
            0x00: self._hmac_sha512,
            0x01: self._add,
            PskFunction.HMAC_SHA256: self._hmac_sha256,
            0x05: self._encrypt,
            0x06: self._decrypt,
            0x10: _refuse,
            0x16: self._hash_loop,
        }
        try:
            if command.p2 == PskFunction.SET_PSK:
                self._open_psk()
                return ResponseApdu(self._set_psk(command))
            if (operation := ON_STORED_PSK.get(command.p2)) is not None:
                return ResponseApdu(operation(self._context.crypto, command, self._open_psk()))
            if command.p2 in functions:
                return ResponseApdu(functions[command.p2](command))
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_LE) from None
        raise StatusWordError(StatusWord.WRONG_P1P2)

    def _open_psk(self) -> ElementPsk:
        psk = self._state.psk()
        if psk is None or self._state.profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return psk

    def _set_psk(self, command: CommandApdu) -> bytes:
        reference = self._state.profile.settings.is_reference
        derived = new_psk(self._context.crypto, command, reference=reference)
        self._state.set_psk(derived)
        return derived.six_secrets if command.p1 == RETURN_SECRETS else b""

    def _hmac_sha256(self, command: CommandApdu) -> bytes:
        return hmac_sha256(self._context.crypto, command)

    def _hmac_sha512(self, command: CommandApdu) -> bytes:
        key, message = read_pair(command.data)
        return self._context.crypto.hmac(HashAlgorithm.SHA512, key, message)

    def _add(self, command: CommandApdu) -> bytes:
        reader = ByteReader(command.data)
        total = reader.read_uint(_OPERAND_SIZE) + reader.read_uint(_OPERAND_SIZE)
        reader.finish()
        return (total % SECP256K1_ORDER).to_bytes(_OPERAND_SIZE, "big")

    def _hash_loop(self, command: CommandApdu) -> bytes:
        digest = command.data
        for _ in range(max(command.p1, 1)):
            digest = self._context.crypto.hash(HashAlgorithm.SHA256, digest)
        return digest

    def _encrypt(self, command: CommandApdu) -> bytes:
        reader = ByteReader(command.data)
        key, nonce, associated = _read_ccm(reader)
        aead = self._context.crypto.aead(AeadAlgorithm.AES_128_CCM, key)
        return aead.encrypt(nonce, reader.read_rest(), associated)

    def _decrypt(self, command: CommandApdu) -> bytes:
        reader = ByteReader(command.data)
        key, nonce, associated = _read_ccm(reader)
        tag = reader.read_bytes(_CCM_TAG_SIZE)
        aead = self._context.crypto.aead(AeadAlgorithm.AES_128_CCM, key)
        try:
            return aead.decrypt(nonce, reader.read_rest() + tag, associated)
        except InvalidTagError:
            raise StatusWordError(StatusWord.CCM_DECRYPT_FAILURE) from None


def _read_ccm(reader: ByteReader) -> tuple[bytes, bytes, bytes]:
    return (
        reader.read_bytes(_CCM_KEY_SIZE),
        reader.read_bytes(_CCM_NONCE_SIZE),
        reader.read_bytes(_CCM_DATA_SIZE),
    )


def _refuse(_command: CommandApdu) -> bytes:
    raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
