# SPDX-License-Identifier: Apache-2.0
"""The second attestation: a signed statement on this element, for one session (``?0F``).

What the card says of the applet, the applet cannot change; the rest is its own. The pieces of
the last statement are kept until the next one; they hold no secret.
"""

from typing import Final

from iose.applet_api import AppletContext
from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.commands import ERROR, hex_reply
from iose.applets.tls_se.state import ElementState, Name
from iose.protocols.attestation import (
    CHALLENGE_SIZE,
    EXPORTER_LABEL,
    Statement,
    sign_statement,
    split_pieces,
)

_INDEX_SIZE: Final = 1


class StatementCommand:
    """``?0F``: 32 bytes are a challenge and begin a statement, 1 byte asks for a piece of it."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._context = context
        self._state = state
        self._exporter = b""
        self._pieces: list[bytes] = []

    def answer(self, payload: bytes, session: ApplicationSession) -> Reply:
        """Return a piece, in hex; ERROR outside of a TLS session, or while not personalised."""
        if session.export is None or not self._state.profile.is_locked:
            return ERROR
        exporter = session.export(EXPORTER_LABEL)
        if len(payload) == CHALLENGE_SIZE:
            return self._begin(payload, exporter)
        is_ours = self._context.crypto.constant_time_equal(self._exporter, exporter)
        if len(payload) != _INDEX_SIZE or not is_ours or payload[0] >= len(self._pieces):
            return ERROR
        return hex_reply(self._pieces[payload[0]])

    def _begin(self, challenge: bytes, exporter: bytes) -> Reply:
        key = self._state.attestation_key
        if key.private is None or key.public is None:
            return ERROR
        facts = self._context.facts()
        statement = Statement(
            sen=self._state.text(Name.ELEMENT_NAME),
            seid=self._state.text(Name.SEID),
            module=facts.module.encode(),
            version=facts.version.encode(),
            package_hash=facts.package_hash,
            life_cycle=facts.life_cycle,
            is_copy=facts.is_copy,
            exporter=exporter,
            challenge=challenge,
            public_key=key.public,
        )
        signed = sign_statement(self._context.crypto, key.private, statement)
        self._exporter, self._pieces = exporter, split_pieces(signed.encode())
        return hex_reply(self._pieces[0])
