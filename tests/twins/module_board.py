# SPDX-License-Identifier: Apache-2.0
"""A board on a serial line that is an identity module by itself (tls-im.md §5).

``python -m tests.twins.module_board``. It has a PIN with three tries, and a PSK; faults are those
of ``serial_line``, and befall ``binder`` lines unless an order names another ``verb``.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.tls.key_schedule import Hkdf, derive_psk_secrets
from tests.twins.control import Faults, Order, obey
from tests.twins.elements import DEMO_PSK
from tests.twins.serial_line import SerialTwin

TRIES = 3
ERROR = b"ERROR\r\n"


class ModuleBoard:
    """What the lines mean: ``user``, ``binder``, ``derive`` and ``off`` (tls-im.md §5)."""

    def __init__(self, pin: str, psk: bytes) -> None:
        self._pin = pin
        self._tries = TRIES
        self._is_open = False
        self._hkdf = Hkdf(PycaCrypto(), HashAlgorithm.SHA256)
        self._secrets = derive_psk_secrets(self._hkdf, psk)

    def answer(self, line: str) -> bytes:
        """Return the answer to a line, its end included."""
        verb, _, word = line.partition(" ")
        keys = {
            "binder": self._secrets.binder_finished_key,
            "derive": self._secrets.derived_secret,
        }
        match verb:
            case "":
                return b"ERROR No Command!\r\n"
            case "user":
                return b"OK\r\n" if self._open(word) else ERROR
            case "off":
                self._is_open = False
                return b"OK\r\n"
            case "binder" | "derive" if self._is_open and len(word) == 64:
                computed = self._hkdf.hmac(keys[verb], bytes.fromhex(word))
                return computed.hex().upper().encode() + b"\r\n"
        return ERROR

    def _open(self, pin: str) -> bool:
        is_right = self._tries > 0 and pin == self._pin
        self._tries = TRIES if is_right else max(0, self._tries - 1)
        self._is_open = is_right
        return is_right


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pin", default="0000")
    parser.add_argument("--psk", default=DEMO_PSK.hex(), metavar="HEX")
    given = parser.parse_args()
    faults = Faults()
    with tempfile.TemporaryDirectory() as folder:
        device = Path(folder) / "ttyTWIN0"
        board = ModuleBoard(given.pin, bytes.fromhex(given.psk))
        serial = SerialTwin(board, device, faults)
        serial.plug_in()

        def on_order(order: Order) -> Order | None:
            order.setdefault("verb", "binder")
            return serial.on_order(order)

        await obey(faults, {"device": str(device)}, on_order)
        serial.unplug()


if __name__ == "__main__":
    asyncio.run(main())
