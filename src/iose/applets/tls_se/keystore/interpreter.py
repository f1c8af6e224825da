# SPDX-License-Identifier: Apache-2.0
"""The syntax of the keystore: from one line to the command it names, and its reply.

A line is one command character, two hex digits (the index), a payload and LF or CR LF. The
commands themselves are in ``system``, ``pairs``, ``seeds`` and ``records``.
"""

from binascii import Error as HexError
from binascii import unhexlify
from functools import cache
from typing import Final

from iose.applet_api import AppletContext
from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.commands import ABORT, ERROR, Command, Payload
from iose.applets.tls_se.keystore.pairs import PairCommands
from iose.applets.tls_se.keystore.records import RecordCommands
from iose.applets.tls_se.keystore.seeds import SeedCommands
from iose.applets.tls_se.keystore.system import SystemCommands
from iose.applets.tls_se.settings import Settings
from iose.applets.tls_se.state import ElementState
from iose.crypto.errors import CryptoError
from iose.iso7816.status import StatusWordError

_Group = type[PairCommands] | type[SeedCommands] | type[RecordCommands]
_SHORTEST_LINE: Final = 4
_HEADER: Final = 3
_SYSTEM: Final = ord("?")
_BINARY_MODE: Final = 0x80


class Keystore:
    """The application of one element; it holds no state of its own."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._state = state
        self._system = SystemCommands(context, state)
        self._groups = {
            PairCommands: PairCommands(context, state),
            SeedCommands: SeedCommands(context, state),
            RecordCommands: RecordCommands(state),
        }
        settings = state.profile.settings
        self._system_table = _system_table(settings)
        self._table = _table(settings)

    def handle(self, line: bytes, session: ApplicationSession) -> Reply:
        """Return the reply to one line; what it wrote is stored before it is returned."""
        try:
            reply = self._run(line, session)
            self._state.store.commit()
        except (CryptoError, StatusWordError):
            return ERROR
        return reply

    def _run(self, line: bytes, session: ApplicationSession) -> Reply:
        if len(line) < _SHORTEST_LINE:
            return ERROR
        if not line.endswith(b"\n"):
            return ABORT
        text = line[_HEADER : -2 if line.endswith(b"\r\n") else -1]
        try:
            index = unhexlify(line[1:_HEADER])[0]
            if line[0] == _SYSTEM:
                return self._run_system(index, text, session)
            entry = self._table.get(line[0])
            if entry is None:
                return ERROR
            group, command = entry
            return _run_command(self._groups[group], command, index, text, session)
        except HexError:
            return ERROR

    def _run_system(self, index: int, text: bytes, session: ApplicationSession) -> Reply:
        command = self._system_table.get(index)
        if command is None or (command.payload is Payload.HEX and len(text) % 2):
            return ABORT
        return _run_command(self._system, command, index, text, session)


@cache
def _system_table(settings: Settings) -> dict[int, Command]:
    return SystemCommands.table(settings)


@cache
def _table(settings: Settings) -> dict[int, tuple[_Group, Command]]:
    return {
        ord(letter): (group, command)
        for group in (PairCommands, SeedCommands, RecordCommands)
        for letter, command in group.table(settings).items()
    }


def _run_command(
    group: object, command: Command, index: int, text: bytes, session: ApplicationSession
) -> Reply:
    if session.is_guest and not command.is_guest:
        return ERROR
    return command.run(group, index, _decode_payload(command, index, text), session)


def _decode_payload(command: Command, index: int, text: bytes) -> bytes:
    match command.payload:
        case Payload.HEX:
            return unhexlify(text)
        case Payload.TEXT:
            return text
        case Payload.MODAL:
            return text if index & _BINARY_MODE else unhexlify(text)
