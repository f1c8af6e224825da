# SPDX-License-Identifier: Apache-2.0
"""A connection through the machine's own PC/SC service, for tests with the virtual reader.

The thinnest caller of libpcsclite there can be, by ctypes: what is tested is the way through the
service and the driver, as other programs use it.
"""

import ctypes
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.transport.base import BatchStep
from iose.transport.stack import run_batch
from tests.support.peers import all_peers_expected

SCOPE_SYSTEM = 2
SHARE_EXCLUSIVE = 1
ANY_PROTOCOL = 3  # T=0 or T=1
UNPOWER = 2
ANSWER_SIZE = 65_538
READER = "Virtual PCD 00 00"
LIBRARY = "libpcsclite.so.1"
# of the service of this process of tests (tests/conftest.py)
PCSC_SOCKET = Path(os.environ.get("PCSCLITE_CSOCK_NAME", "/run/pcscd/pcscd.comm"))


def require_pyscard() -> None:
    """Skip the test where pyscard is not installed; fail it where all peers are expected."""
    if find_spec("smartcard") is None:
        reason = "pyscard is not installed (make setup-pcsc)"
        if all_peers_expected():
            pytest.fail(reason)
        pytest.skip(reason)


class _Protocol(ctypes.Structure):
    _fields_ = (("protocol", ctypes.c_ulong), ("size", ctypes.c_ulong))


class PcscConnection:
    """A card in a virtual reader, held alone and powered until ``close``."""

    def __init__(self, reader: str = READER) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            pytest.fail(f"{LIBRARY} is not installed, and yet the service runs")
        context, card, protocol = ctypes.c_long(), ctypes.c_long(), ctypes.c_ulong()
        self._check(
            self._library.SCardEstablishContext(
                ctypes.c_ulong(SCOPE_SYSTEM), None, None, ctypes.byref(context)
            )
        )
        self._check(
            self._library.SCardConnect(
                context,
                reader.encode(),
                ctypes.c_ulong(SHARE_EXCLUSIVE),
                ctypes.c_ulong(ANY_PROTOCOL),
                ctypes.byref(card),
                ctypes.byref(protocol),
            )
        )
        self._context, self._card, self._protocol = context, card, protocol

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        return run_batch(self._transmit, steps)

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self._transmit(command.encode()))

    async def close(self) -> None:
        self._check(self._library.SCardDisconnect(self._card, ctypes.c_ulong(UNPOWER)))
        self._check(self._library.SCardReleaseContext(self._context))

    def _transmit(self, command: bytes) -> bytes:
        answer = ctypes.create_string_buffer(ANSWER_SIZE)
        size = ctypes.c_ulong(ANSWER_SIZE)
        header = _Protocol(self._protocol.value, ctypes.sizeof(_Protocol))
        self._check(
            self._library.SCardTransmit(
                self._card,
                ctypes.byref(header),
                command,
                ctypes.c_ulong(len(command)),
                None,
                answer,
                ctypes.byref(size),
            )
        )
        return answer.raw[: size.value]

    @staticmethod
    def _check(result: int) -> None:
        assert result == 0, f"PC/SC error {result & 0xFFFFFFFF:08X}"
