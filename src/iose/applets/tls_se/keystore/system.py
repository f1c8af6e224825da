# SPDX-License-Identifier: Apache-2.0
"""Commands that begin with ``?``: version, echo, attestation, identities and their PSKs."""

from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.psk import PSK_SIZE, SECRET_SIZE, derive_psk
from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.commands import (
    ABORT,
    ERROR,
    OK,
    Command,
    Payload,
    hex_reply,
    padded_scalar,
    text_reply,
)
from iose.applets.tls_se.keystore.statement import StatementCommand
from iose.applets.tls_se.settings import CommandSet, Settings
from iose.applets.tls_se.state import CERTIFICATE_SIZE, ElementState, Flag, Name
from iose.crypto.base import Curve, HashAlgorithm

VERSIONS: Final = {
    CommandSet.IOSE: b"iose keystore/1",
    CommandSet.V1_3: b"iose keystore 1.3",
    CommandSet.V2_18: b"iose keystore 2.18",
}
# not of VERSIONS' form: clients expect ?0F of whoever answers "iose keystore/"
VERSION_WITHOUT_STATEMENT: Final = b"iose keystore compatible"
PSK_FAILURE_LIMIT: Final = 10  # wrong old PSKs in a row, before the administrator must step in
HEX_ECHO_LIMIT: Final = 128
IDENTITY_LIMIT: Final = 64  # ours: a ClientHello with one must still fit the buffer of a chip
NO_CERTIFICATE: Final = bytes(CERTIFICATE_SIZE)


class SystemCommands:
    """Every ``?xx``."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._context = context
        self._state = state
        self._statement = StatementCommand(context, state)

    @staticmethod
    def table(settings: Settings) -> dict[int, Command]:
        """Return the commands of a set, by their index."""
        table = {
            0x00: Command(SystemCommands._version, is_guest=True),
            0x01: Command(SystemCommands._echo, Payload.TEXT, is_guest=True),
            0x02: Command(SystemCommands._disconnect, Payload.TEXT, is_guest=True),
            0x0A: Command(SystemCommands._public_key, is_guest=True),
            0x0B: Command(SystemCommands._certificate, is_guest=True),
            0x0C: Command(SystemCommands._prove, is_guest=True),
            0x0E: Command(SystemCommands._set_certificate),
            0xAA: Command(SystemCommands._change_psk),
            0xFF: Command(SystemCommands._hex_echo, is_guest=True),
        }
        if settings.commands is not CommandSet.V2_18:
            table[0x0D] = Command(SystemCommands._handshake_secret)
        if settings.is_hardened and settings.commands is CommandSet.IOSE:
            table[0x0F] = Command(SystemCommands._state_itself, is_guest=True)
        if settings.has_extensions:
            table |= SystemCommands._extensions(settings)
        return table

    @staticmethod
    def _extensions(settings: Settings) -> dict[int, Command]:
        guest = not settings.is_hardened
        table = {
            0x05: Command(SystemCommands._set_identity, Payload.TEXT),
            0x06: Command(SystemCommands._set_guest_identity, Payload.TEXT),
            0xA0: Command(SystemCommands._set_guest_psk, is_guest=guest),
            0xA2: Command(SystemCommands._set_module_psk),
            0xA5: Command(SystemCommands._set_flags),
            0xD0: Command(SystemCommands._module_binder),
            0xD1: Command(SystemCommands._module_derive),
            0xD2: Command(SystemCommands._refuse),  # needs a button to push
        }
        show = SystemCommands._refuse if settings.is_hardened else SystemCommands._guest_psk
        table[0xA1] = Command(show, is_guest=guest)
        return table

    def _version(self, _index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        profile = self._state.profile
        settings = profile.settings
        own = VERSIONS[settings.commands]
        if settings.commands is CommandSet.IOSE and not settings.is_hardened:
            own = VERSION_WITHOUT_STATEMENT
        return text_reply(profile.version_text or own)

    def _echo(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return text_reply(payload) if payload else ABORT

    def _disconnect(self, _index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return ABORT

    def _refuse(self, _index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return ERROR

    def _hex_echo(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return hex_reply(payload) if 1 <= len(payload) <= HEX_ECHO_LIMIT else ERROR

    def _public_key(self, _index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        public = self._state.attestation_key.public
        return ERROR if public is None else hex_reply(public)

    def _certificate(self, _index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return hex_reply(self._state.certificate or NO_CERTIFICATE)

    def _set_certificate(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        if len(payload) != CERTIFICATE_SIZE:
            return ABORT
        if self._state.certificate is not None:
            return ERROR
        self._state.set_certificate(payload)
        return OK

    def _prove(self, index: int, payload: bytes, session: ApplicationSession) -> Reply:
        challenge = padded_scalar(payload)
        if challenge is None:
            return self._handshake_secret(index, payload, session)
        private = self._state.attestation_key.private
        if private is None or session.handshake_secret is None:
            return ERROR
        crypto = self._context.crypto
        digest = crypto.hash(HashAlgorithm.SHA256, session.handshake_secret + challenge)
        return hex_reply(crypto.ecdsa_sign(Curve.SECP256K1, private, digest))

    def _state_itself(self, _index: int, payload: bytes, session: ApplicationSession) -> Reply:
        return self._statement.answer(payload, session)

    def _handshake_secret(self, _index: int, _payload: bytes, session: ApplicationSession) -> Reply:
        profile = self._state.profile
        shown = profile.shows_handshake_secret or profile.settings.commands is CommandSet.V1_3
        if session.handshake_secret is None or session.is_guest or not shown:
            return ERROR
        return hex_reply(session.handshake_secret)

    def _change_psk(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        if len(payload) != 2 * PSK_SIZE:
            return ABORT
        if self._state.module is not None:
            return ERROR  # the PSK is in a module, where its own administrator changes it
        old, new = payload[:PSK_SIZE], payload[PSK_SIZE:]
        if not self._may_try_psk():
            return ABORT
        current = self._state.psk()
        if current is None or not self._context.crypto.constant_time_equal(current.psk, old):
            return ABORT
        self._state.set_psk_failures(0)
        self._set_psk(new, Name.PSK)
        return hex_reply(new)

    def _may_try_psk(self) -> bool:
        if not self._state.profile.settings.is_hardened:
            return True
        failures = self._state.psk_failures
        if failures >= PSK_FAILURE_LIMIT:
            return False
        self._state.set_psk_failures(failures + 1)
        self._state.store.commit()  # before the comparison, so that cutting the power saves no try
        return True

    def _set_psk(self, psk: bytes, name: str) -> None:
        reference = self._state.profile.settings.is_reference
        derived = derive_psk(self._context.crypto, psk, reference=reference)
        self._state.set_psk(derived, name)

    def _set_identity(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return self._put_identity(Name.IDENTITY, payload, self._state.guest_identity)

    def _set_guest_identity(
        self, _index: int, payload: bytes, _session: ApplicationSession
    ) -> Reply:
        return self._put_identity(Name.GUEST_IDENTITY, payload, self._state.identity)

    def _put_identity(self, name: str, identity: bytes, other: bytes) -> Reply:
        if not 1 <= len(identity) <= IDENTITY_LIMIT or identity == other:
            return ERROR
        self._state.store.put(name, identity)
        return OK

    def _set_guest_psk(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        if len(payload) != PSK_SIZE:
            return ERROR
        self._set_psk(payload, Name.GUEST_PSK)
        return OK

    def _guest_psk(self, _index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        psk = self._state.psk(Name.GUEST_PSK)
        return ERROR if psk is None else hex_reply(psk.psk)

    def _set_module_psk(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        if len(payload) != PSK_SIZE:
            return ERROR
        self._set_psk(payload, Name.MODULE_PSK)
        return OK

    def _module_binder(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        psk = self._state.psk(Name.MODULE_PSK)
        return ERROR if psk is None else self._mac(psk.external_finished, payload)

    def _module_derive(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        psk = self._state.psk(Name.MODULE_PSK)
        return ERROR if psk is None else self._mac(psk.derived, payload)

    def _mac(self, key: bytes, data: bytes) -> Reply:
        if len(data) != SECRET_SIZE:
            return ERROR
        return hex_reply(self._context.crypto.hmac(HashAlgorithm.SHA256, key, data))

    def _set_flags(self, _index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        if len(payload) != 1 or payload[0] & ~(Flag.GUEST_ENABLED | Flag.CHECK_SERVER_NAME):
            return ERROR
        self._state.store.put(Name.FLAGS, payload)
        return OK
