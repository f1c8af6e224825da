# SPDX-License-Identifier: Apache-2.0
"""The TLS-SE applet: from an APDU to the part that carries it out, its PIN checked (tls-se.md §4).

The parts share one ``ElementState``; what follows from the settings is decided where it matters,
with one property of ``Profile`` or ``Settings``.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.curves import POINT_SIZE
from iose.applet_commands.key_pairs import is_private_parameter
from iose.applet_commands.pins import ElementPins
from iose.applet_commands.psk import SECRET_SIZE
from iose.applets.tls_se.hkdf import HkdfCommands
from iose.applets.tls_se.keys import KeyCommands
from iose.applets.tls_se.keystore import Keystore
from iose.applets.tls_se.personalisation import (
    NAME_LIMIT,
    Personalisation,
    personalise,
    set_name,
)
from iose.applets.tls_se.session import TlsSession
from iose.applets.tls_se.settings import CommandSet
from iose.applets.tls_se.state import RECORD_COUNT, RECORD_SIZE, ElementState
from iose.crypto.errors import CryptoError
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError

VERSIONS: Final = {
    CommandSet.IOSE: b"\x03\x00",
    CommandSet.V1_3: b"\x01\x06",
    CommandSet.V2_18: b"\x02\x12",
}
ABILITIES: Final = b"\xf7\x06"  # six pairs; AES, SHA-512, ECDSA, ECDH, SHA-256, RNG
HIGHEST_CLA: Final = 0x03  # four channels, no secure messaging (ISO/IEC 7816-4 §5.4.1)
MEMORY_SIZE: Final = RECORD_COUNT * RECORD_SIZE
PARAMETERS_LIMIT: Final = 1024  # every field of a personalisation at its longest fits
_LAST_BLOCK: Final = 0x80  # P1 of STORE DATA (GPCS 2.3.1 §11.11)


class Ins(IntEnum):
    """Instructions of the applet."""

    VERIFY = 0x20
    CHANGE_PIN = 0x24
    SIGN = 0x80
    CLEAR_KEY = 0x81
    GENERATE_KEY = 0x82
    GET_KEY_PARAMETER = 0x84
    HKDF = 0x85
    GET_STATUS = 0x87
    SET_KEY_PARAMETER = 0x88
    INIT_CURVE = 0x89
    ECDH = 0x8A
    RANDOM = 0x8B
    READ_CERTIFICATE = 0x8E
    WRITE_CERTIFICATE = 0x8F
    READ = 0xB0
    RECEIVE = 0xC0
    WRITE = 0xD0
    SEND = 0xD8
    TEST = 0xDA
    STORE_DATA = 0xE2


class TestData(IntEnum):
    """P2 of TEST."""

    __test__ = False  # pytest collects classes by this name

    SHARED_SECRET = 0x01
    KEY_SHARE = 0x02
    RANDOM = 0x03
    NAME = 0x0A
    KEYSTORE = 0xFF


_Instruction = tuple[Callable[[CommandApdu], ResponseApdu], Callable[[], None] | None]
"""What carries an instruction out, and the PIN check before it."""


class TlsServerApplet:
    """One element: a TLS server and its keystore (``Applet``)."""

    def __init__(self, context: AppletContext) -> None:
        self._context = context
        self._state = ElementState(context.store)
        self._pins = ElementPins(
            context,
            lambda: self._state.profile.is_locked,
            lambda: self._state.set_psk_failures(0),
        )
        self._keys = KeyCommands(context, self._state)
        self._hkdf = HkdfCommands(context, self._state)
        self._store_data_blocks = b""
        self._build_application()

    def _build_application(self) -> None:
        self._keystore = Keystore(self._context, self._state)
        self._session = TlsSession(self._context, self._state, self._keystore)
        self._instructions = self._table()

    def _table(self) -> dict[int, _Instruction]:
        user, admin = self._pins.require_any, self._pins.require_admin
        keys = self._keys
        return {
            Ins.SEND: (self._session.send, None),
            Ins.RECEIVE: (self._session.receive, None),
            Ins.VERIFY: (self._pins.verify, None),
            Ins.CHANGE_PIN: (self._pins.change, self._require_unlocked),
            Ins.GET_STATUS: (self._status, user),
            Ins.READ: (self._read, user),
            Ins.WRITE: (self._write, admin),
            Ins.TEST: (self._test, admin),
            Ins.STORE_DATA: (self._store_data, admin),
            Ins.HKDF: (self._hkdf_function, user),
            Ins.RANDOM: (self._random, user),
            Ins.SIGN: (keys.sign, user),
            Ins.CLEAR_KEY: (keys.clear, admin),
            Ins.GENERATE_KEY: (keys.generate, admin),
            Ins.GET_KEY_PARAMETER: (self._key_parameter, user),
            Ins.SET_KEY_PARAMETER: (keys.set_parameter, admin),
            Ins.INIT_CURVE: (keys.init_curve, admin),
            Ins.ECDH: (keys.ecdh, user),
            Ins.READ_CERTIFICATE: (keys.certificate, user),
            Ins.WRITE_CERTIFICATE: (keys.set_certificate, admin),
        }

    def install(self, parameters: bytes) -> None:
        """Write the first state: the parameters are an encoded ``Personalisation``.

        Without any, the element is hardened, its secrets are random, and it is personalised.

        Raises:
            StatusWordError: 6A80, the parameters are refused.
        """
        self._personalise(parameters)

    def select(self) -> ResponseApdu:
        """Return the answer to SELECT; session and ephemeral key are gone."""
        self.deselect()
        return ResponseApdu()

    def deselect(self) -> None:
        """Forget session and ephemeral key."""
        self._store_data_blocks = b""
        self._session.reset()
        self._keys.clear_ephemeral()

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command.

        Raises:
            StatusWordError: The command is refused, with the status words of tls-se.md §7.
        """
        if command.cla > HIGHEST_CLA and self._state.profile.settings.is_hardened:
            raise StatusWordError(StatusWord.CLA_NOT_SUPPORTED)
        instruction = self._instructions.get(command.ins)
        if instruction is None:
            raise StatusWordError(StatusWord.INS_NOT_SUPPORTED)
        run, require = instruction
        if require is not None:
            require()
        return run(command)

    def _personalise(self, parameters: bytes) -> None:
        try:
            given = Personalisation.decode(parameters)
            personalise(self._context, self._state, self._pins, given)
        except (DecodeError, CryptoError):
            raise StatusWordError(StatusWord.WRONG_DATA) from None
        self._build_application()

    def _store_data(self, command: CommandApdu) -> ResponseApdu:
        """Personalise again while that is not over (GPCS 2.3.1 §11.11).

        The blocks hold one encoded ``Personalisation``; secrets it leaves out stay as they are.

        Raises:
            StatusWordError: 6985 personalised already, 6A84 too long, 6A80 refused.
        """
        self.receive_data(command.data, is_last=bool(command.p1 & _LAST_BLOCK))
        return ResponseApdu()

    def receive_data(self, block: bytes, *, is_last: bool) -> None:
        """Take one block of STORE DATA that the security domain hands on, without the PIN.

        Raises:
            StatusWordError: 6985 personalised already, 6A84 too long, 6A80 refused.
        """
        blocks, self._store_data_blocks = self._store_data_blocks, b""
        if self._state.profile.is_personalised:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        data = blocks + block
        if len(data) > PARAMETERS_LIMIT:
            raise StatusWordError(StatusWord.NOT_ENOUGH_MEMORY)
        if is_last:
            self._personalise(data)
        else:
            self._store_data_blocks = data

    def _status(self, _command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(VERSIONS[self._state.profile.settings.commands] + ABILITIES)

    def _random(self, command: CommandApdu) -> ResponseApdu:
        if command.le is None:
            raise StatusWordError(StatusWord.WRONG_LENGTH)
        return ResponseApdu(self._context.rng.random_bytes(min(command.le, SHORT_LE_LIMIT)))

    def _read(self, command: CommandApdu) -> ResponseApdu:
        offset = command.p1 << 8 | command.p2
        stop = offset + (command.le or SHORT_LE_LIMIT)
        if stop > MEMORY_SIZE:
            raise StatusWordError(StatusWord.READ_RANGE)
        first = offset // RECORD_SIZE
        memory = b"".join(
            self._state.record_memory(index) for index in range(first, -(-stop // RECORD_SIZE))
        )
        start = offset - first * RECORD_SIZE
        return ResponseApdu(memory[start : start + stop - offset])

    def _write(self, command: CommandApdu) -> ResponseApdu:
        offset = command.p1 << 8 | command.p2
        data = command.data
        if not data:
            raise StatusWordError(StatusWord.WRONG_LENGTH)
        if offset + len(data) > MEMORY_SIZE:
            raise StatusWordError(StatusWord.BUFFER_OVERFLOW)
        while data:
            index, start = divmod(offset, RECORD_SIZE)
            piece = data[: RECORD_SIZE - start]
            memory = self._state.record_memory(index)
            changed = memory[:start] + piece + memory[start + len(piece) :]
            self._state.set_record_memory(index, changed)
            offset += len(piece)
            data = data[len(piece) :]
        return ResponseApdu()

    def _require_unlocked(self) -> None:
        if self._state.profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)

    def _key_parameter(self, command: CommandApdu) -> ResponseApdu:
        if is_private_parameter(command):
            self._pins.require_admin()
        return self._keys.parameter(command)

    def _hkdf_function(self, command: CommandApdu) -> ResponseApdu:
        response = self._hkdf.process(command)
        if self._hkdf.is_handshake_secret(command):
            self._session.handshake_secret = response.data  # what the reference's slot does
        return response

    def _test(self, command: CommandApdu) -> ResponseApdu:
        self._require_unlocked()
        values = self._session.test_values
        match command.p2:
            case TestData.SHARED_SECRET:
                values.shared_secret = _sized(command.data, SECRET_SIZE)
            case TestData.KEY_SHARE:
                values.key_share = _sized(command.data, POINT_SIZE)
            case TestData.RANDOM:
                values.random = _sized(command.data, SECRET_SIZE)
            case TestData.NAME:
                if not 1 <= len(command.data) <= NAME_LIMIT:
                    raise StatusWordError(StatusWord.WRONG_LENGTH)
                set_name(self._context, self._state, command.data)
            case TestData.KEYSTORE:
                return self._keystore_line(command.data)
            case _:
                raise StatusWordError(StatusWord.WRONG_P1P2)
        return ResponseApdu()

    def _keystore_line(self, line: bytes) -> ResponseApdu:
        reply = self._keystore.handle(line, self._session.caller())
        if reply.ends_session:
            raise StatusWordError(StatusWord.TLS_ERROR)
        return ResponseApdu(reply.data)


def _sized(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise StatusWordError(StatusWord.WRONG_LENGTH)
    return data
