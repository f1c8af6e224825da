# SPDX-License-Identifier: Apache-2.0
"""What a module computes with its PSK: INS 85, and the same two operations for its own card.

A hardened module takes inputs of 32 bytes only, as TLS 1.3 has them, and gives the derived
secrets themselves to nobody once it is personalised (tls-im.md §9).
"""

from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.psk import SECRET_SIZE, ElementPsk
from iose.applet_commands.psk_functions import (
    ON_STORED_PSK,
    RETURN_SECRETS,
    PskFunction,
    hmac_sha256,
    new_psk,
)
from iose.applets.tls_im.state import ModuleState
from iose.crypto.base import HashAlgorithm
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError

_OF_ONE_SECRET: Final = (
    PskFunction.BINDER,
    PskFunction.RESUMPTION_BINDER,
    PskFunction.HANDSHAKE_SECRET,
)


class PskCommands:
    """The functions of INS 85, by their P2; PINs are checked already."""

    def __init__(self, context: AppletContext, state: ModuleState) -> None:
        self._context = context
        self._state = state

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command.

        Raises:
            StatusWordError: 6A86 unknown function, 6C00 wrong length, 6985 no PSK, or refused by
                the hardened rules.
        """
        try:
            return ResponseApdu(self._run(command))
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_LE) from None

    def _run(self, command: CommandApdu) -> bytes:
        if command.p2 == PskFunction.SET_PSK:
            return self._set_psk(command)
        if command.p2 == PskFunction.HMAC_SHA256:
            return hmac_sha256(self._context.crypto, command)
        operation = ON_STORED_PSK.get(command.p2)
        if operation is None:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        if command.p2 in _OF_ONE_SECRET and self._state.profile.is_hardened:
            _check_size(command.data)
        psk = stored_psk(self._state)
        if command.p2 == PskFunction.HANDSHAKE_SECRET:
            count_handshake(self._state)
        return operation(self._context.crypto, command, psk)

    def _set_psk(self, command: CommandApdu) -> bytes:
        profile = self._state.profile
        if command.p1 == RETURN_SECRETS and profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        is_published = not profile.is_hardened
        crypto = self._context.crypto
        psk = new_psk(crypto, command, reference=is_published, any_size=is_published)
        self._state.set_psk(psk)
        return psk.six_secrets if command.p1 == RETURN_SECRETS else b""


class SharedModule:
    """The module as another instance of the same card sees it (``IdentityModule``)."""

    def __init__(self, context: AppletContext, state: ModuleState) -> None:
        self._context = context
        self._state = state

    def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            StatusWordError: 6985 no PSK, 6C00 not 32 bytes.
        """
        return self._hmac(stored_psk(self._state).external_finished, transcript_hash)

    def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            StatusWordError: 6985 no PSK or no handshake left, 6C00 not 32 bytes.
        """
        psk = stored_psk(self._state)
        count_handshake(self._state)
        return self._hmac(psk.derived, shared_secret)

    def _hmac(self, key: bytes, data: bytes) -> bytes:
        try:
            _check_size(data)
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_LE) from None
        return self._context.crypto.hmac(HashAlgorithm.SHA256, key, data)


def stored_psk(state: ModuleState) -> ElementPsk:
    """Return what is derived from the PSK.

    Raises:
        StatusWordError: 6985, none was provisioned.
    """
    psk = state.psk()
    if psk is None:
        raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
    return psk


def count_handshake(state: ModuleState) -> None:
    """Count a handshake against the limit.

    Raises:
        StatusWordError: 6985, none is left until the administrator is verified.
    """
    if not state.count_handshake():
        raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)


def _check_size(data: bytes) -> None:
    if len(data) != SECRET_SIZE:
        raise DecodeError(f"expected {SECRET_SIZE} bytes, found {len(data)}")
