# SPDX-License-Identifier: Apache-2.0
"""Commands on the 32 records of text: write and read; 2.18 writes them in hex."""

from typing import Final

from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.commands import (
    ERROR,
    OK,
    Command,
    Payload,
    hex_reply,
    text_reply,
)
from iose.applets.tls_se.settings import CommandSet, Settings
from iose.applets.tls_se.state import RECORD_COUNT, RECORD_SIZE, ElementState

RECORD_SIZE_2_18: Final = 32


class RecordCommands:
    """``Z I``."""

    def __init__(self, state: ElementState) -> None:
        self._state = state

    @staticmethod
    def table(settings: Settings) -> dict[str, Command]:
        """Return the commands of a set, by their letter."""
        if settings.commands is CommandSet.V2_18:
            return {
                "Z": Command(RecordCommands._write_hex),
                "I": Command(RecordCommands._read_hex, Payload.TEXT, is_guest=True),
            }
        return {
            "Z": Command(RecordCommands._write_text, Payload.TEXT),
            "I": Command(RecordCommands._read_text, Payload.TEXT, is_guest=True),
        }

    def _write_text(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return self._write(index, payload, RECORD_SIZE)

    def _write_hex(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return self._write(index, payload, RECORD_SIZE_2_18)

    def _write(self, index: int, payload: bytes, limit: int) -> Reply:
        if index >= RECORD_COUNT or len(payload) > limit:
            return ERROR
        self._state.set_record(index, payload)
        return OK

    def _read_text(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        if index >= RECORD_COUNT:
            return ERROR
        text = self._state.record(index)
        return text_reply(text) if text else OK

    def _read_hex(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        if index >= RECORD_COUNT:
            return ERROR
        text = self._state.record(index)
        return hex_reply(text) if text else OK
