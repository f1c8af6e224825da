# SPDX-License-Identifier: Apache-2.0
"""Commands on the four general key pairs: clear, generate, set, read, sign; and the seal.

The seal is ours: ``n`` with the index of a slot that holds nothing says, before a key is made,
that neither its private key nor its seed will ever leave the element; ``N`` reads it. Only
``c`` or ``C``, which erases key and seed, takes it off.
"""

from dataclasses import replace
from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.key_pairs import KeySlot
from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.commands import (
    ERROR,
    OK,
    Command,
    hex_reply,
    padded_scalar,
)
from iose.applets.tls_se.settings import CommandSet, Settings
from iose.applets.tls_se.state import KEY_SLOTS, ElementState
from iose.crypto.base import Curve

_DEFAULT_CURVE: Final = Curve.SECP256K1


class PairCommands:
    """``c C g G p r P X R s n N``."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._context = context
        self._state = state

    @staticmethod
    def table(settings: Settings) -> dict[str, Command]:
        """Return the commands of a set, by their letter."""
        table = {
            "c": Command(PairCommands._clear_k1),
            "g": Command(PairCommands._generate_k1),
            "p": Command(PairCommands._public),
            "r": Command(PairCommands._private),
            "P": Command(PairCommands._set_public),
            "X": Command(PairCommands._set_private),
            "R": Command(PairCommands._set_private),
            "s": Command(PairCommands._sign),
        }
        if settings.has_extensions:
            table["C"] = Command(PairCommands._clear_r1)
            table["G"] = Command(PairCommands._generate_r1)
        if settings.commands is CommandSet.IOSE:
            table["n"] = Command(PairCommands._seal)
            table["N"] = Command(PairCommands._show_seal)
        return table

    def _clear_k1(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return self._clear(index, Curve.SECP256K1)

    def _clear_r1(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return self._clear(index, Curve.SECP256R1)

    def _clear(self, index: int, curve: Curve) -> Reply:
        if index >= KEY_SLOTS:
            return ERROR
        self._state.set_key_slot(index, KeySlot(curve))
        self._state.set_tree(index, None)
        return OK

    def _generate_k1(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return self._generate(index, Curve.SECP256K1)

    def _generate_r1(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        return self._generate(index, Curve.SECP256R1)

    def _generate(self, index: int, curve: Curve) -> Reply:
        slot = self._slot(index)
        if slot is None or not slot.is_empty:
            return ERROR
        crypto = self._context.crypto
        private = crypto.generate_private_key(curve, self._context.rng)
        public = crypto.public_key(curve, private)
        self._state.set_key_slot(index, KeySlot(curve, public, private, slot.is_sealed))
        return OK

    def _public(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        if slot is None or slot.public is None:
            return ERROR
        return hex_reply(slot.public)

    def _private(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        if slot is None or slot.private is None or slot.is_sealed:
            return ERROR
        return hex_reply(slot.private)

    def _set_public(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        if slot is None or slot.public is not None:
            return ERROR
        curve = slot.curve or _DEFAULT_CURVE
        self._context.crypto.check_public_key(curve, payload)
        self._state.set_key_slot(index, replace(slot, curve=curve, public=payload))
        return OK

    def _set_private(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        private = padded_scalar(payload)
        if slot is None or slot.private is not None or private is None:
            return ERROR
        curve = slot.curve or _DEFAULT_CURVE
        public = self._context.crypto.public_key(curve, private)
        self._state.set_key_slot(index, KeySlot(curve, public, private, slot.is_sealed))
        return OK

    def _sign(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        digest = padded_scalar(payload)
        if slot is None or slot.private is None or digest is None:
            return ERROR
        curve = slot.curve or _DEFAULT_CURVE
        return hex_reply(self._context.crypto.ecdsa_sign(curve, slot.private, digest))

    def _seal(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        if slot is None or not slot.is_empty or self._state.tree(index) is not None:
            return ERROR
        self._state.set_key_slot(index, replace(slot, is_sealed=True))
        return OK

    def _show_seal(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        slot = self._slot(index)
        return ERROR if slot is None else hex_reply(bytes((slot.is_sealed,)))

    def _slot(self, index: int) -> KeySlot | None:
        return self._state.key_slot(index) if index < KEY_SLOTS else None
