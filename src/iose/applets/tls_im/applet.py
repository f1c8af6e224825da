# SPDX-License-Identifier: Apache-2.0
"""The TLS-IM applet: from an APDU to the part that carries it out, its PIN checked.

The commands of the published module 1.0, and those of newer ones (tls-im.md §2).
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from iose.applet_api import AppletContext, IdentityModule
from iose.applet_commands.key_pairs import is_private_parameter
from iose.applet_commands.pins import ElementPins
from iose.applet_commands.psk_functions import PskFunction
from iose.applets.tls_im.keys import ModuleKeys
from iose.applets.tls_im.personalisation import ModulePersonalisation, personalise
from iose.applets.tls_im.psk import PskCommands, SharedModule
from iose.applets.tls_im.state import ModuleState, Setting
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError

VERSIONS: Final = {Setting.HARDENED: b"\x02\x00", Setting.COMPATIBLE: b"\x01\x00"}
ABILITIES: Final = b"\x21\x10"  # SHA-256, ECDSA, sixteen pairs
HIGHEST_CLA: Final = 0x03  # four channels, no secure messaging (ISO/IEC 7816-4 §5.4.1)
PARAMETERS_LIMIT: Final = 1024  # every field of a personalisation at its longest fits


class Ins(IntEnum):
    """Instructions of the applet; the last two came with newer modules."""

    VERIFY = 0x20
    CHANGE_PIN = 0x24
    SIGN = 0x80
    CLEAR_KEY = 0x81
    GENERATE_KEY = 0x82
    GET_KEY_PARAMETER = 0x84
    PSK = 0x85
    GET_STATUS = 0x87
    SET_KEY_PARAMETER = 0x88
    INIT_CURVE = 0x89
    ECDH = 0x8A
    RANDOM = 0x8B


NEWER: Final = frozenset({Ins.ECDH, Ins.RANDOM})
_Instruction = tuple[Callable[[CommandApdu], ResponseApdu], Callable[[CommandApdu], None] | None]
"""What carries an instruction out, and the PIN check before it."""


class TlsIdentityApplet:
    """One identity module (``Applet``, ``DataReceiver``, ``ModuleProvider``)."""

    def __init__(self, context: AppletContext) -> None:
        self._context = context
        self._state = ModuleState(context.store)
        self._pins = ElementPins(
            context,
            lambda: self._state.profile.is_locked,
            self._state.renew_handshakes,
        )
        self._keys = ModuleKeys(context, self._state)
        self._secrets = PskCommands(context, self._state)
        self._blocks = b""
        self._instructions = self._table()

    def _table(self) -> dict[int, _Instruction]:
        keys = self._keys
        user, admin, owner = self._require_user, self._require_admin, self._require_owner
        return {
            Ins.VERIFY: (self._pins.verify, None),
            Ins.CHANGE_PIN: (self._pins.change, None),
            Ins.GET_STATUS: (self._status, None),
            Ins.PSK: (self._secrets.process, self._require_for_psk),
            Ins.SIGN: (keys.sign, user),
            Ins.CLEAR_KEY: (keys.clear, owner),
            Ins.GENERATE_KEY: (keys.generate, owner),
            Ins.GET_KEY_PARAMETER: (keys.parameter, self._require_for_parameter),
            Ins.SET_KEY_PARAMETER: (keys.set_parameter, admin),
            Ins.INIT_CURVE: (keys.init_curve, admin),
            Ins.ECDH: (keys.ecdh, user),
            Ins.RANDOM: (self._random, user),
        }

    def install(self, parameters: bytes) -> None:
        """Write the first state: the parameters are an encoded ``ModulePersonalisation``.

        Without any, the module is hardened, its PINs are random, and it awaits personalisation.

        Raises:
            StatusWordError: 6A80, the parameters are refused.
        """
        self._personalise(parameters or ModulePersonalisation(is_final=False).encode())

    def select(self) -> ResponseApdu:
        """Return the answer to SELECT; the ephemeral pair is gone."""
        self.deselect()
        return ResponseApdu()

    def deselect(self) -> None:
        """Forget the ephemeral pair."""
        self._keys.clear_ephemeral()

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command.

        Raises:
            StatusWordError: The command is refused, with the status words of tls-im.md §2.
        """
        is_hardened = self._state.profile.is_hardened
        if command.cla > HIGHEST_CLA and is_hardened:
            raise StatusWordError(StatusWord.CLA_NOT_SUPPORTED)
        instruction = self._instructions.get(command.ins)
        if instruction is None or (command.ins in NEWER and not is_hardened):
            raise StatusWordError(StatusWord.INS_NOT_SUPPORTED)
        run, require = instruction
        if require is not None:
            require(command)
        return run(command)

    def receive_data(self, block: bytes, *, is_last: bool) -> None:
        """Take one block of an encoded ``ModulePersonalisation`` (GPCS 2.3.1 §11.11).

        Raises:
            StatusWordError: 6985 personalised already, 6A84 too long, 6A80 refused.
        """
        if self._state.profile.is_personalised:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        data, self._blocks = self._blocks + block, b""
        if len(data) > PARAMETERS_LIMIT:
            raise StatusWordError(StatusWord.NOT_ENOUGH_MEMORY)
        if is_last:
            self._personalise(data)
        else:
            self._blocks = data

    def shared_module(self, client: Aid) -> IdentityModule | None:
        """Return the module for another instance of the card, if it was personalised for it."""
        profile = self._state.profile
        return SharedModule(self._context, self._state) if client in profile.clients else None

    def _personalise(self, parameters: bytes) -> None:
        try:
            given = ModulePersonalisation.decode(parameters)
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_DATA) from None
        personalise(self._context, self._state, self._pins, given)

    def _status(self, _command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(VERSIONS[self._state.profile.setting] + ABILITIES)

    def _random(self, command: CommandApdu) -> ResponseApdu:
        # the count stands in Lc, with as many bytes that mean nothing, or in Le
        count = len(command.data) or command.le
        if count is None:
            raise StatusWordError(StatusWord.WRONG_LENGTH)
        return ResponseApdu(self._context.rng.random_bytes(min(count, SHORT_LE_LIMIT)))

    def _require_user(self, _command: CommandApdu) -> None:
        self._pins.require_any()

    def _require_admin(self, _command: CommandApdu) -> None:
        self._pins.require_admin()

    def _require_owner(self, command: CommandApdu) -> None:
        if self._keys.is_ephemeral(command):
            self._pins.require_any()
        else:
            self._pins.require_admin()

    def _require_for_parameter(self, command: CommandApdu) -> None:
        if is_private_parameter(command):
            self._pins.require_admin()
        else:
            self._pins.require_any()

    def _require_for_psk(self, command: CommandApdu) -> None:
        if command.p2 == PskFunction.SET_PSK and self._state.profile.is_hardened:
            self._pins.require_admin()
        else:
            self._pins.require_any()
